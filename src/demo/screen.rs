//! What the demo shows: one screen on a terminal, lines otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use console::Term;
use ferric_sim::Phase;

use super::waves::Row;

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
        let (height, width) = (usize::from(height).max(10), usize::from(width).max(40));
        let mut lines = vec![
            self.head.clone(),
            format!("{:>7.1} s  {}", self.began.elapsed().as_secs_f32(), counts(rows)),
            String::new(),
        ];
        let columns = (width / 84).clamp(1, 3);
        let room = height.saturating_sub(lines.len() + EVENTS + 3);
        let shown = rows.len().min(room * columns);
        let per_column = shown.div_ceil(columns).max(1);
        for line in 0..per_column.min(shown) {
            let mut text = String::new();
            for column in 0..columns {
                if let Some(row) = rows[..shown].get(column * per_column + line) {
                    let _ = write!(text, "{:<84}", fit(&machine_line(row), 82));
                }
            }
            lines.push(text);
        }
        if shown < rows.len() {
            lines.push(format!("… and {} more", rows.len() - shown));
        }
        lines.push(String::new());
        lines.extend(self.events.iter().cloned());
        lines.push("Ctrl-C ends it".to_owned());
        let mut out = "\x1b[H".to_owned();
        for line in &lines {
            let _ = write!(out, "{}\x1b[K\r\n", fit(line.trim_end(), width));
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
    let running = rows.iter().filter_map(|row| row.view.write);
    running.fold((0, 0), |(done, total), write| {
        (done + write.bytes_done, total + write.bytes_total.unwrap_or(write.bytes_done))
    })
}

fn machine_line(row: &Row<'_>) -> String {
    let machine = row.machine;
    let phase = match row.view.phase {
        Phase::Off => "off",
        Phase::Booting => "booting",
        Phase::Ramdisk => "ramdisk",
        Phase::Instance => "instance",
        Phase::Stuck(why) => why,
    };
    let mut line = format!("{:<9} {:<15} {:<9}", machine.name, machine.node.state(), phase);
    if let Some(error) = &machine.failed {
        let _ = write!(line, " ! {error}");
        return line;
    }
    if let Some(write) = row.view.write {
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
    } else if let Some(step) = machine.node.step() {
        let _ = write!(line, " {step}");
    }
    line
}
