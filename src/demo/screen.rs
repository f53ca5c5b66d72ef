//! What the demo shows: one screen on a terminal, lines otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use console::Term;
use ferric_sim::{Phase, WritePhase};

use super::waves::Row;

/// Columns of machines at the most.
const COLUMNS: usize = 3;
/// Events kept for the screen.
const EVENTS: usize = 8;
/// Lines without a terminal come at most this often.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Where the demo shows itself.
pub(super) struct Screen {
    term: Term,
    live: bool,
    began: Instant,
    head: String,
    events: VecDeque<String>,
    last_line: (Instant, String),
}

impl Screen {
    pub(super) fn new(url: &str, data: &Path, began: Instant) -> Self {
        let term = Term::stdout();
        let live = term.is_term();
        let head = format!("Ferric demo   API {url}   data {}", data.display());
        if live {
            // the alternate screen, without a cursor
            print!("\x1b[?1049h\x1b[?25l\x1b[2J");
        } else {
            println!("{head}");
        }
        let last_line = (began, String::new());
        Self { term, live, began, head, events: VecDeque::new(), last_line }
    }

    /// Tells what happened.
    pub(super) fn event(&mut self, text: &str) {
        let line = format!("{:>7.1} s  {text}", self.began.elapsed().as_secs_f32());
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(line);
    }

    /// Shows how everything stands.
    pub(super) fn draw(&mut self, rows: &[Row<'_>]) {
        if self.live { self.draw_screen(rows) } else { self.draw_line(rows) }
    }

    fn draw_line(&mut self, rows: &[Row<'_>]) {
        for event in self.events.drain(..).filter(|event| !event.contains(" -> ")) {
            println!("{event}");
        }
        let mut line = counts(rows);
        let (done, total) = written(rows);
        if total > 0 {
            let _ = write!(line, "   writing {:.1} of {:.1} MB", done as f64 / 1e6, total as f64 / 1e6);
        }
        if line != self.last_line.1 && self.last_line.0.elapsed() >= LINE_EVERY {
            println!("{:>7.1} s  {line}", self.began.elapsed().as_secs_f32());
            self.last_line = (Instant::now(), line);
        }
    }

    fn draw_screen(&self, rows: &[Row<'_>]) {
        let (height, width) = self.term.size();
        let (height, width) = (usize::from(height), usize::from(width).max(40));
        let head =
            [self.head.clone(), format!("{:>7.1} s  {}", self.began.elapsed().as_secs_f32(), counts(rows))];
        // more do not fit
        let machines: Vec<String> = rows.iter().take(height * COLUMNS).map(machine_line).collect();
        let events: Vec<&str> = self.events.iter().map(String::as_str).collect();
        let mut out = "\x1b[H".to_owned();
        for (index, line) in page(head, (&machines, rows.len()), &events, (height, width)).iter().enumerate()
        {
            // no line end after the last line: on the terminal's last row it would scroll the first one away
            let end = if index == 0 { "" } else { "\r\n" };
            let _ = write!(out, "{end}{}\x1b[K", fit(line.trim_end(), width));
        }
        out.push_str("\x1b[J");
        let mut stdout = std::io::stdout().lock();
        // a terminal that went away ends the process by its signal
        let _ = stdout.write_all(out.as_bytes());
        let _ = stdout.flush();
    }

    /// Gives the terminal back.
    pub(super) fn close(mut self) {
        self.leave();
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.live) {
            print!("\x1b[?1049l\x1b[?25h");
            let _ = std::io::stdout().flush();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What fits on `height` lines: the head, as many of `count` machines as there is room for, the latest events.
fn page(
    head: [String; 2],
    (machines, count): (&[String], usize),
    events: &[&str],
    (height, width): (usize, usize),
) -> Vec<String> {
    let mut lines: Vec<String> = head.into();
    lines.push(String::new());
    // below the machines: an empty line, the events, how to end
    let kept = EVENTS.min(height.saturating_sub(lines.len() + 3) / 2);
    let room = height.saturating_sub(lines.len() + kept + 2);
    let columns = (width / 84).clamp(1, COLUMNS);
    let all = count <= room * columns;
    let shown = if all { machines.len() } else { room.saturating_sub(1) * columns };
    let per_column = shown.div_ceil(columns).max(1);
    for line in 0..per_column.min(shown) {
        let mut text = String::new();
        for column in 0..columns {
            if let Some(machine) = machines[..shown].get(column * per_column + line) {
                let _ = write!(text, "{:<84}", fit(machine, 82));
            }
        }
        lines.push(text);
    }
    if !all {
        lines.push(format!("… and {} more", count - shown));
    }
    lines.push(String::new());
    lines.extend(events[events.len().saturating_sub(kept)..].iter().map(|&event| event.to_owned()));
    lines.push("Ctrl-C ends it".to_owned());
    lines
}

fn fit(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}

/// `active 10   deploying 2   wait call-back 12`.
fn counts(rows: &[Row<'_>]) -> String {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *states.entry(row.machine.node.state()).or_default() += 1;
    }
    states.iter().map(|(state, count)| format!("{state} {count}")).collect::<Vec<_>>().join("   ")
}

/// Bytes written and to be written by the writes that run.
fn written(rows: &[Row<'_>]) -> (u64, u64) {
    let running = rows.iter().filter_map(|row| row.write).filter(|write| write.phase != WritePhase::Erasing);
    running.fold((0, 0), |(done, total), write| {
        (done + write.bytes_done, total + write.bytes_total.unwrap_or(write.bytes_done))
    })
}

fn machine_line(row: &Row<'_>) -> String {
    let machine = row.machine;
    let phase = match row.phase {
        Phase::Off => "off",
        Phase::Booting => "booting",
        Phase::Ramdisk => "ramdisk",
        Phase::Instance => "instance",
        Phase::Rescue => "rescue",
        Phase::Stuck(why) => why,
    };
    let mut line = format!("{:<9} {:<15} {:<9}", machine.name, machine.node.state(), phase);
    if let Some(error) = &machine.failed {
        let _ = write!(line, " ! {error}");
        return line;
    }
    if let Some(write) = row.write {
        let total = write.bytes_total.unwrap_or(0);
        let share = if total > 0 { write.bytes_done as f64 / total as f64 } else { 0.0 };
        let full = (share * 16.0) as usize;
        let _ = write!(
            line,
            " [{}{}] {:>3.0} %  {:.1}/{:.1} MB",
            "#".repeat(full.min(16)),
            ".".repeat(16 - full.min(16)),
            share * 100.0,
            write.bytes_done as f64 / 1e6,
            total as f64 / 1e6
        );
        if write.phase == WritePhase::Erasing {
            line.push_str(" erased");
        }
    } else if let Some(step) = machine.node.step() {
        let _ = write!(line, " {step}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_never_outgrows_the_terminal() {
        for (height, width) in (6..60).flat_map(|height| [(height, 80), (height, 200)]) {
            for count in [0, 1, 9, 24, 60, 500] {
                let machines: Vec<String> = (0..count).map(|index| format!("sim-{index:04}")).collect();
                for events in [0, 3, EVENTS] {
                    let head = ["head".to_owned(), "counts".to_owned()];
                    let known = &machines[..count.min(height * COLUMNS)];
                    let lines = page(head, (known, count), &vec!["event"; events], (height, width));
                    assert!(lines.len() <= height, "{} lines on {height}, {count} machines", lines.len());
                    assert_eq!(lines[0], "head");
                    let told = lines.iter().find_map(|line| {
                        line.strip_prefix("… and ")?.strip_suffix(" more")?.parse::<usize>().ok()
                    });
                    let shown: usize = lines.iter().map(|line| line.matches("sim-").count()).sum();
                    assert_eq!(shown + told.unwrap_or(0), count, "every machine is shown or counted");
                }
            }
        }
    }
}
