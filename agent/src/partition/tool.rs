//! Running the ramdisk's tools, with a limit.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

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

/// Runs a command to its end; its output, both streams. What it has started and left behind ends with it. Errors: `Boot` when it fails (with the end of what it said) or
/// takes longer than `limit`.
pub(crate) fn run(mut command: Command, name: &str, limit: Duration) -> Result<String, Failure> {
    let failed = |reason: String| Failure::Boot(format!("{name}: {reason}"));
    let (mut reader, writer) = std::io::pipe().map_err(Failure::io(name))?;
    let second = writer.try_clone().map_err(Failure::io(name))?;
    command.stdin(Stdio::null()).stdout(writer).stderr(second).env("LC_ALL", "C").process_group(0);
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
    // as long as it is not waited for, its number is that of its group and of nothing else
    let group = Pid::from_raw(child.id().cast_signed());
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let in_time = loop {
        match waitid(Id::Pid(group), look) {
            Ok(WaitStatus::StillAlive) if began.elapsed() > limit => break Ok(false),
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::EINTR) => std::thread::sleep(LOOK_EVERY),
            Ok(_) => break Ok(true),
            Err(error) => break Err(error),
        }
    };
    // the group may have ended in this moment
    let _ = killpg(group, Signal::SIGKILL);
    let status = child.wait().map_err(Failure::io(name))?;
    if !in_time.map_err(|error| Failure::io(name)(error.into()))? {
        return Err(failed(format!("not done after {} s", limit.as_secs())));
    }
    // something that left its group may live on and keep the pipe open
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
        let daemon = "echo started; sleep 600 & echo $!";
        let text = run(shell(daemon), "t", MINUTE).expect("ends");
        let child: u32 = text.strip_prefix("started\n").expect("both lines").parse().expect("a process id");
        let began = Instant::now();
        // gone, or waiting for whoever collects orphans here
        while std::fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        {
            assert!(began.elapsed() < MINUTE, "what a tool leaves behind ends with it");
            std::thread::yield_now();
        }
        assert!(find("no-such-tool").is_none());
    }

    const MINUTE: Duration = Duration::from_secs(60);
}
