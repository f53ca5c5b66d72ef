//! Panels with axes, in SVG.

use std::fmt::Write as _;

/// Words as they may stand in XML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML knows no other control characters
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

/// How text stands to its point.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// Puts text down.
pub(crate) fn text(out: &mut String, (x, y): (f64, f64), anchor: Anchor, class: &str, words: &str) {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    let _ = writeln!(
        out,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{}</text>"#,
        escape(words)
    );
}

/// A number for people: `12,345`, `1.5`, `0.02`.
pub(crate) fn number(value: f64) -> String {
    if value >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut out = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        return out;
    }
    let text = if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The next of 1, 2, 5, 10, … at or above `least`.
pub(crate) fn round_up(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= least * 0.999_999).unwrap_or(10.0 * power)
}

/// The vertical axis.
#[derive(Clone, Copy)]
pub(crate) enum Scale {
    /// From zero to this.
    Linear(f64),
    /// Between two powers of ten.
    Log(f64, f64),
}

/// Where one chart stands, and what its axes mean.
pub(crate) struct Panel {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// The end of the horizontal axis in seconds.
    pub(crate) seconds: f64,
    pub(crate) scale: Scale,
}

/// An entry of a legend: words, colour, and whether it is a line.
pub(crate) struct Entry {
    pub(crate) words: String,
    pub(crate) colour: String,
    pub(crate) line: bool,
}

impl Panel {
    pub(crate) fn x(&self, seconds: f64) -> f64 {
        self.left + self.width * (seconds / self.seconds.max(1e-9)).clamp(0.0, 1.0)
    }

    pub(crate) fn y(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear(top) => value / top.max(1e-12),
            Scale::Log(low, high) => (value.max(low) / low).log10() / (high / low).log10().max(1e-12),
        };
        self.top + self.height * (1.0 - share.clamp(0.0, 1.0))
    }

    pub(crate) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Title, frame, grid, and both axes' words. `unit` turns a value into words.
    pub(crate) fn axes(&self, out: &mut String, title: &str, unit: &dyn Fn(f64) -> String) {
        text(out, (self.left, self.top - 8.0), Anchor::Start, "head", title);
        for value in self.steps() {
            let y = self.y(value);
            let (x1, x2) = (self.left, self.left + self.width);
            let _ =
                writeln!(out, r#"<line x1="{x1:.1}" y1="{y:.1}" x2="{x2:.1}" y2="{y:.1}" class="grid"/>"#);
            text(out, (self.left - 6.0, y + 4.0), Anchor::End, "small", &unit(value));
        }
        let step = round_up(self.seconds / 12.0);
        let mut at = 0.0;
        while at <= self.seconds * 1.000_001 {
            let x = self.x(at);
            let (y1, y2) = (self.bottom(), self.bottom() + 4.0);
            let _ =
                writeln!(out, r#"<line x1="{x:.1}" y1="{y1:.1}" x2="{x:.1}" y2="{y2:.1}" class="axis"/>"#);
            text(out, (x, self.bottom() + 16.0), Anchor::Middle, "small", &format!("{} s", number(at)));
            at += step;
        }
        let Self { left, top, width, height, .. } = self;
        let _ = writeln!(
            out,
            r#"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" class="frame"/>"#
        );
    }

    fn steps(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear(top) => {
                let step = round_up(top / 5.0);
                let count = (top / step).round() as u32;
                (0..=count)
                    .map(|number| f64::from(number) * step)
                    .filter(|value| *value <= top * 1.001)
                    .collect()
            }
            Scale::Log(low, high) => {
                let (from, to) = (low.log10().round() as i32, high.log10().round() as i32);
                (from..=to).map(|power| 10_f64.powi(power)).collect()
            }
        }
    }

    /// The area between two curves over the same moments.
    pub(crate) fn area(&self, out: &mut String, seconds: &[f64], low: &[f64], high: &[f64], colour: &str) {
        if seconds.is_empty() {
            return;
        }
        let mut path = String::new();
        for (index, (at, value)) in seconds.iter().zip(high).enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", self.x(*at), self.y(*value));
        }
        for (at, value) in seconds.iter().zip(low).rev() {
            let _ = write!(path, "L{:.1} {:.1}", self.x(*at), self.y(*value));
        }
        let _ = writeln!(out, r#"<path d="{path}Z" fill="{colour}"/>"#);
    }

    /// A curve; where there is no value it is broken.
    pub(crate) fn line(&self, out: &mut String, seconds: &[f64], values: &[Option<f64>], colour: &str) {
        let mut path = String::new();
        let mut drawing = false;
        for (at, value) in seconds.iter().zip(values) {
            let Some(value) = value else {
                drawing = false;
                continue;
            };
            let (x, y) = (self.x(*at), self.y(*value));
            if drawing {
                let _ = write!(path, "L{x:.1} {y:.1}");
            } else {
                // a value that stands alone is seen as a dot
                let _ = write!(path, "M{x:.1} {y:.1}h0.1");
            }
            drawing = true;
        }
        if !path.is_empty() {
            let _ = writeln!(out, r#"<path d="{path}" stroke="{colour}" class="curve"/>"#);
        }
    }

    /// The legend, right of the panel; the first entry stands on top.
    pub(crate) fn legend(&self, out: &mut String, entries: &[Entry]) {
        let x = self.left + self.width + 14.0;
        for (index, Entry { words, colour, line }) in entries.iter().enumerate() {
            let y = self.top + 10.0 + 17.0 * index as f64;
            let (top, thick) = if *line { (y - 5.0, 3.0) } else { (y - 9.0, 11.0) };
            let _ = writeln!(
                out,
                r#"<rect x="{x:.1}" y="{top:.1}" width="14" height="{thick:.1}" fill="{colour}"/>"#
            );
            text(out, (x + 20.0, y), Anchor::Start, "small", words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        let all = [
            (0.0, "0"),
            (0.02, "0.02"),
            (1.5, "1.5"),
            (10.0, "10"),
            (200.0, "200"),
            (1_234_567.0, "1,234,567"),
        ];
        for (value, words) in all {
            assert_eq!(number(value), words);
        }
        assert_eq!(
            (round_up(0.0003), round_up(7.0), round_up(10.0), round_up(11.0)),
            (0.0005, 10.0, 10.0, 20.0)
        );
    }

    #[test]
    fn words_cannot_leave_their_place() {
        assert_eq!(escape("<a b=\"c\">&\u{1}"), "&lt;a b=&quot;c&quot;&gt;&amp; ");
    }
}
