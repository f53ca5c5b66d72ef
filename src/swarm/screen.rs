//! What the load shows: a block that is drawn anew on a terminal, sparse lines otherwise.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use console::Term;
use ferric_swarm::{Show, Status};

/// Lines without a terminal come at most this often.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Length of a bar.
const BAR: usize = 40;

/// Where the load shows itself: stderr, so that stdout has the report alone.
pub(super) struct Screen {
    term: Term,
    live: bool,
    state: Mutex<State>,
}

struct State {
    /// Lines of the block that stands.
    drawn: usize,
    last_line: Instant,
    open: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let term = Term::stderr();
        let live = term.is_term();
        Self { term, live, state: Mutex::new(State { drawn: 0, last_line: Instant::now(), open: true }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the screen")
    }

    /// Takes the block away; nothing is drawn any more.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.open = false;
        put(&take_away(&mut state));
    }
}

/// Goes back to the first line of the block and clears from there.
fn take_away(state: &mut State) -> String {
    match std::mem::take(&mut state.drawn) {
        0 => String::new(),
        lines => format!("\x1b[{lines}A\r\x1b[J"),
    }
}

fn put(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // a terminal that went away ends the process by its signal
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

impl Show for Screen {
    fn event(&self, text: &str) {
        let mut state = self.state();
        let before = take_away(&mut state);
        put(&format!("{before}{text}\n"));
    }

    fn status(&self, status: &Status) {
        let mut state = self.state();
        if !state.open || status.phase.is_empty() {
            return;
        }
        if !self.live {
            if state.last_line.elapsed() >= LINE_EVERY {
                state.last_line = Instant::now();
                put(&format!("{:>7.1} s  {}\n", status.elapsed.as_secs_f64(), line(status)));
            }
            return;
        }
        let width = usize::from(self.term.size().1).max(40);
        let lines = block(status);
        let mut out = take_away(&mut state);
        for line in &lines {
            let _ = writeln!(out, "{}", line.chars().take(width - 1).collect::<String>());
        }
        state.drawn = lines.len();
        put(&out);
    }
}

/// Everything in a line.
fn line(status: &Status) -> String {
    let states: Vec<String> = status.states.iter().map(|(state, count)| format!("{state} {count}")).collect();
    format!("{}  {}", head(status), states.join("  "))
}

fn head(status: &Status) -> String {
    let settled = status.reached + status.failed;
    let rate = settled as f64 / status.in_phase.as_secs_f64().max(1e-3);
    let mut out = format!(
        "{}/{} {}: {settled} of {} ({rate:.0}/s)",
        status.place.0, status.place.1, status.phase, status.nodes
    );
    if status.failed > 0 {
        let _ = write!(out, ", {} failed", status.failed);
    }
    out
}

fn block(status: &Status) -> Vec<String> {
    let settled = status.reached + status.failed;
    let mut lines = vec![format!(
        "{:>7.1} s  [{}] {}",
        status.elapsed.as_secs_f64(),
        bar(settled as f64 / status.nodes.max(1) as f64),
        head(status)
    )];
    let [writes, reads, polls] = status.per_second;
    let mut second = format!("           answers/s: {writes:.0} writes, {reads:.0} reads, {polls:.0} polls");
    if let Some((p50, p99)) = status.latency {
        let _ = write!(second, "   p50 {:.1} ms, p99 {:.1} ms", p50 * 1e3, p99 * 1e3);
    }
    if status.turned_away > 0 {
        let _ = write!(second, "   tried again {}", status.turned_away);
    }
    lines.push(second);
    let used = status.processes.iter().map(|(name, cores, rss)| {
        format!("{name} {cores:.2} cores {:.0} MiB", *rss as f64 / f64::from(1 << 20))
    });
    lines.push(format!("           {}", used.collect::<Vec<_>>().join("   ")));
    let all: u32 = status.states.iter().map(|(_, count)| count).sum();
    for (state, count) in &status.states {
        let share = f64::from(*count) / f64::from(all.max(1));
        lines.push(format!("{state:>16}  [{}] {count}", bar(share)));
    }
    lines
}

fn bar(share: f64) -> String {
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    format!("{}{}", "#".repeat(full), ".".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_says_where_the_load_is() {
        let status = Status {
            phase: "deploy",
            place: (5, 10),
            nodes: 200,
            reached: 99,
            failed: 1,
            in_phase: Duration::from_secs(10),
            states: vec![("available".to_owned(), 100), ("active".to_owned(), 100)],
            ..Status::default()
        };
        let lines = block(&status);
        assert!(lines[0].contains("5/10 deploy: 100 of 200 (10/s), 1 failed"), "{lines:?}");
        assert!(lines[0].contains(&format!("[{}{}]", "#".repeat(BAR / 2), ".".repeat(BAR / 2))), "{lines:?}");
        assert_eq!(lines.len(), 5);
        assert!(line(&status).ends_with("available 100  active 100"));
    }
}
