//! Short lines for whoever watches the console, and the agent's own log.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Mutex, OnceLock};

const KEPT_BYTES: usize = 256 << 10;

static LOG: OnceLock<Mutex<VecDeque<u8>>> = OnceLock::new();

/// Prints `FERRIC-AGENT <seconds since boot> <text>` on the console and keeps it in the log.
pub fn say(text: impl Display) {
    let line = format!("FERRIC-AGENT {} {text}\n", uptime());
    remember(line.as_bytes());
    // a console that cannot be written to must not stop a deployment
    let _ = io::stdout().lock().write_all(line.as_bytes());
}

/// Seconds since the machine started, as the kernel counts them (`12.34`), or `?`.
pub fn uptime() -> String {
    std::fs::read_to_string("/proc/uptime")
        .ok()
        .and_then(|text| text.split_whitespace().next().map(str::to_owned))
        .unwrap_or_else(|| "?".to_owned())
}

/// The last 256 KiB of the agent's log.
pub fn kept_log() -> Vec<u8> {
    let log = log().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    log.iter().copied().collect()
}

/// A writer for `tracing-subscriber` that keeps what it is given (and prints it when asked to).
pub struct Log {
    /// Whether lines also go to standard error.
    pub print: bool,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        remember(bytes);
        if self.print {
            let _ = io::stderr().lock().write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Mutex<VecDeque<u8>> {
    LOG.get_or_init(|| Mutex::new(VecDeque::new()))
}

fn remember(bytes: &[u8]) {
    let mut log = log().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    log.extend(bytes);
    let excess = log.len().saturating_sub(KEPT_BYTES);
    log.drain(..excess);
}
