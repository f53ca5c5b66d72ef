//! Processor time and memory of processes, from /proc.

use std::time::Duration;

use crate::options::Watched;

/// Clock ticks per second in /proc: 100 on every Linux of today.
const TICKS: u64 = 100;

/// A process and its children at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Processor time used so far, user and system.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes.
    pub(crate) rss: u64,
}

/// Looks at a process and its descendants; `None` when it is gone.
pub(crate) fn sample(pid: u32) -> Option<Sample> {
    let mut sum = own(pid)?;
    let mut left = children(pid);
    while let Some(child) = left.pop() {
        if let Some(of) = own(child) {
            sum.cpu += of.cpu;
            sum.rss += of.rss;
            left.extend(children(child));
        }
    }
    Some(sum)
}

/// Looks at each of these.
pub(crate) fn all(watched: &[Watched]) -> Vec<Option<Sample>> {
    watched.iter().map(|one| sample(one.pid)).collect()
}

/// Looks at this process alone.
pub(crate) fn this() -> Option<Sample> {
    own(std::process::id())
}

fn own(pid: u32) -> Option<Sample> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name stands in brackets and may hold anything; user and system time are fields 14 and 15
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    let rss = kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024;
    Some(Sample { cpu: Duration::from_millis(ticks * (1000 / TICKS)), rss })
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_a_gone_one_is_none() {
        assert!(sample(std::process::id()).unwrap().rss > 0);
        assert!(this().unwrap().rss > 0);
        assert!(sample(u32::MAX / 2).is_none());
    }
}
