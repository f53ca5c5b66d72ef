//! What a swarm tells while it runs.

use std::time::Duration;

/// How everything stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Since the beginning.
    pub elapsed: Duration,
    /// The phase under way.
    pub phase: &'static str,
    /// Which it is, from 1, and of how many.
    pub place: (usize, usize),
    /// Nodes that take part in it.
    pub nodes: usize,
    /// Nodes that reached its goal.
    pub reached: usize,
    /// Nodes that failed in it.
    pub failed: usize,
    /// Since it began.
    pub in_phase: Duration,
    /// Answers per second over the last moments: writes, reads, polls.
    pub per_second: [f64; 3],
    /// Median and 99th percentile of writes and reads over the last moments, in seconds.
    pub latency: Option<(f64, f64)>,
    /// Requests tried again so far (409 and 503).
    pub turned_away: u64,
    /// Nodes by state, those without nodes left out.
    pub states: Vec<(String, u32)>,
    /// Name, cores busy and resident bytes of each watched process.
    pub processes: Vec<(String, f64, u64)>,
}

/// Where it is told. Called from a thread of its own, a few times per second.
pub trait Show: Send + Sync {
    /// Something has happened, such as the end of a phase.
    fn event(&self, text: &str);
    /// How everything stands.
    fn status(&self, status: &Status);
}
