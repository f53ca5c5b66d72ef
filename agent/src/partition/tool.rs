//! Running the ramdisk's tools, with a limit.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Failure;

/// Folders looked into besides `PATH`.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Bytes of a tool's output that are kept, the last ones.
const KEPT: usize = 4096;

/// Between two looks at a running tool.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long after a tool's end its output is waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A program and the arguments that come before all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    path: PathBuf,
    first: Option<&'static str>,
}

impl From<Program> for Command {
    fn from(program: Program) -> Self {
        let mut command = Self::new(program.path);
        command.args(program.first);
        command
    }
}

/// The tool in `PATH` or in the usual folders.
pub(crate) fn find(name: &str) -> Option<Program> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file())?;
    Some(Program { path: found, first: None })
}

/// As [`find`], else busybox's applet of that name.
pub(crate) fn find_applet(name: &'static str) -> Option<Program> {
    find(name).or_else(|| find("busybox").map(|busybox| Program { first: Some(name), ..busybox }))
}

/// Runs a command to its end; its output, both streams. Errors: `Boot` when it fails (with the end of what it said) or
/// takes longer than `limit`.
pub(crate) fn run(mut command: Command, name: &str, limit: Duration) -> Result<String, Failure> {
    let failed = |reason: String| Failure::Boot(format!("{name}: {reason}"));
    let (mut reader, writer) = std::io::pipe().map_err(Failure::io(name))?;
    let second = writer.try_clone().map_err(Failure::io(name))?;
    command.stdin(Stdio::null()).stdout(writer).stderr(second).env("LC_ALL", "C");
    let mut child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
    // the writing ends in it would keep the pipe open
    drop(command);
    let output = Arc::new(Mutex::new(Vec::new()));
    let kept = output.clone();
    let reading = std::thread::spawn(move || {
        let mut block = [0; KEPT];
        // what was read until the pipe broke is all there is
        while let Ok(read @ 1..) = reader.read(&mut block) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&block[..read]);
            let useless = kept.len().saturating_sub(KEPT);
            kept.drain(..useless);
        }
    });
    let began = Instant::now();
    let status = loop {
        match child.try_wait().map_err(Failure::io(name))? {
            Some(status) => break status,
            None if began.elapsed() > limit => {
                // it may have ended in this moment
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("not done after {} s", limit.as_secs())));
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
    };
    // something that it started may live on and keep the pipe open
    let ended = Instant::now();
    while !reading.is_finished() && ended.elapsed() < LAST_WORDS {
        std::thread::sleep(LOOK_EVERY);
    }
    let text =
        String::from_utf8_lossy(&output.lock().unwrap_or_else(PoisonError::into_inner)).trim().to_owned();
    tracing::info!(tool = name, %status, output = %text, "ran");
    if status.success() { Ok(text) } else { Err(failed(format!("{status}: {text}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_or_endless_tool_is_told_with_what_it_said() {
        let shell = |script: &str| {
            let mut command = Command::from(find("sh").expect("a shell"));
            command.args(["-c", script]);
            command
        };
        assert_eq!(run(shell("echo a; echo b >&2"), "t", MINUTE).expect("runs"), "a\nb");
        let text = run(shell("echo no room >&2; exit 3"), "t", MINUTE).expect_err("fails").to_string();
        assert!(text.contains("no room") && text.contains('3'), "{text}");
        let text = run(shell("exec sleep 600"), "t", Duration::ZERO).expect_err("endless").to_string();
        assert!(text.contains("not done"), "{text}");
        let daemon = "echo started; sleep 30 & echo $!";
        let text = run(shell(daemon), "t", MINUTE).expect("ends though its child does not");
        let child: u32 = text.strip_prefix("started\n").expect("both lines").parse().expect("a process id");
        // it is ours: the shell has just started it
        run(shell(&format!("kill {child}")), "kill", MINUTE).expect("ended");
        assert!(find("no-such-tool").is_none());
    }

    const MINUTE: Duration = Duration::from_secs(60);
}
