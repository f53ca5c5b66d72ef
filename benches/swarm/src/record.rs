//! What was measured: latencies by kind of request and by transition, and all of it over time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::options::Phase;
use crate::processes::Sample;
use crate::states::States;

/// Kinds of request that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `POST /v1/nodes`
    CreateNode,
    /// `POST /v1/ports`
    CreatePort,
    /// `PUT …/states/provision` of this phase.
    Provision(Phase),
    /// `PUT …/states/power`
    Power,
    /// `PATCH /v1/nodes/…` that names the image.
    PatchInstance,
    /// `PATCH /v1/nodes/…` of phase patch.
    Patch,
    /// `GET /v1/nodes/…`
    Show,
    /// `GET /v1/nodes/detail?limit=1000`
    ListDetail,
    /// `GET /v1/nodes?fields=…&limit=1000`: how the swarm follows the states.
    Poll,
    /// `PUT …/maintenance` before a node that failed is removed.
    Maintenance,
    /// `DELETE /v1/nodes/…`
    Delete,
}

/// What kinds are drawn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// What changes something.
    Writes,
    /// What the phase `list` reads.
    Reads,
    /// How the swarm follows the states.
    Polls,
}

impl Kind {
    /// Its name in the report.
    pub(crate) fn name(self) -> String {
        match self {
            Kind::CreateNode => "create node".to_owned(),
            Kind::CreatePort => "create port".to_owned(),
            Kind::Provision(phase) => format!("provision {}", phase.name()),
            Kind::Power => "power".to_owned(),
            Kind::PatchInstance => "patch instance_info".to_owned(),
            Kind::Patch => "patch extra".to_owned(),
            Kind::Show => "get node".to_owned(),
            Kind::ListDetail => "list detail".to_owned(),
            Kind::Poll => "poll".to_owned(),
            Kind::Maintenance => "maintenance".to_owned(),
            Kind::Delete => "delete node".to_owned(),
        }
    }

    /// What it is drawn with.
    pub(crate) fn group(self) -> Group {
        match self {
            Kind::Show | Kind::ListDetail => Group::Reads,
            Kind::Poll => Group::Polls,
            Kind::CreateNode
            | Kind::CreatePort
            | Kind::Provision(_)
            | Kind::Power
            | Kind::PatchInstance
            | Kind::Patch
            | Kind::Maintenance
            | Kind::Delete => Group::Writes,
        }
    }
}

/// Latencies to three digits, from a microsecond up.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(3).expect("three digits are within what the histogram can do"))
    }
}

impl Latencies {
    /// Takes one in.
    pub(crate) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX / 2).clamp(1, u64::MAX / 2);
        // the histogram grows as it must; what it could not hold would be longer than any run
        let _ = self.0.record(micros);
    }

    /// How many were taken in.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this share (0 to 1) stays at or below.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }

    /// The mean.
    pub(crate) fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean().max(0.0) / 1e6)
    }

    /// The longest.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }
}

/// Latencies of a moment, coarse (a step is 19 %) and small, so that moments can be kept and put together.
#[derive(Clone, Debug)]
pub(crate) struct Coarse([u32; Coarse::STEPS]);

impl Default for Coarse {
    fn default() -> Self {
        Self([0; Self::STEPS])
    }
}

impl Coarse {
    const STEPS: usize = 104;
    /// The lowest step, in seconds.
    const LEAST: f64 = 10e-6;

    fn record(&mut self, latency: Duration) {
        let step = (latency.as_secs_f64() / Self::LEAST).max(1.0).log2() * 4.0;
        self.0[(step as usize).min(Self::STEPS - 1)] += 1;
    }

    /// Takes another moment in.
    pub(crate) fn add(&mut self, other: &Self) {
        for (to, from) in self.0.iter_mut().zip(&other.0) {
            *to += from;
        }
    }

    /// The latency in seconds that this share stays at or below; `None` when nothing was recorded.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let count: u64 = self.0.iter().map(|&n| u64::from(n)).sum();
        if count == 0 {
            return None;
        }
        let wanted = ((count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let step = self.0.iter().position(|&n| {
            seen += u64::from(n);
            seen >= wanted
        })?;
        Some(Self::LEAST * ((step as f64 + 0.5) / 4.0).exp2())
    }
}

/// What is known of one kind of request.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfKind {
    /// Answered with success: from the moment the request was planned to the last byte of the answer.
    pub(crate) latency: Latencies,
    /// The same from the moment it was sent; another than `latency` in an open loop only.
    pub(crate) service: Latencies,
    /// Answered 409 or 503 and tried again.
    pub(crate) turned_away: Latencies,
    /// Answers by status code.
    pub(crate) codes: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub(crate) broken: u64,
    /// Bytes of the answers' bodies.
    pub(crate) bytes: u64,
}

/// A moment of the run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tick {
    /// Its end, from the beginning of the run.
    pub(crate) at: Duration,
    /// Answers by group: writes, reads, polls.
    pub(crate) answers: [u32; 3],
    /// Answers 409 and 503 that were tried again.
    pub(crate) turned_away: u32,
    /// Requests that failed for good.
    pub(crate) failed: u32,
    /// Latencies of writes and reads.
    pub(crate) latency: Coarse,
    /// Nodes by state, in the order of `States`.
    pub(crate) states: Vec<u32>,
    /// One for each watched process, in their order; the swarm itself is the last.
    pub(crate) processes: Vec<Option<Sample>>,
}

/// How a request went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// When it was to be sent.
    pub(crate) planned: Instant,
    /// When it was sent.
    pub(crate) sent: Instant,
    /// When the answer was complete.
    pub(crate) done: Instant,
    /// The answer's status; `None` when there was none.
    pub(crate) status: Option<u16>,
    /// Whether it is tried again.
    pub(crate) again: bool,
    /// Bytes of the answer's body.
    pub(crate) bytes: usize,
}

#[derive(Default)]
struct Inner {
    kinds: BTreeMap<Kind, OfKind>,
    transitions: BTreeMap<Phase, Latencies>,
    open: Tick,
    ticks: Vec<Tick>,
}

/// Takes measurements in from everywhere.
pub(crate) struct Recorder {
    began: Instant,
    inner: Mutex<Inner>,
}

impl Recorder {
    /// Begins now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), inner: Mutex::default() }
    }

    /// When it began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds the measurements")
    }

    /// A request was answered, or is given up.
    pub(crate) fn request(&self, kind: Kind, answered: &Answered) {
        let latency = answered.done.saturating_duration_since(answered.planned);
        let mut inner = self.inner();
        let of = inner.kinds.entry(kind).or_default();
        of.bytes += answered.bytes as u64;
        match answered.status {
            Some(status) => *of.codes.entry(status).or_default() += 1,
            None => of.broken += 1,
        }
        let good = answered.status.is_some_and(|status| (200..300).contains(&status));
        if good {
            of.latency.record(latency);
            of.service.record(answered.done.saturating_duration_since(answered.sent));
        } else if answered.again {
            of.turned_away.record(latency);
        }
        let group = kind.group();
        let open = &mut inner.open;
        if good {
            open.answers[group as usize] += 1;
            if group != Group::Polls {
                open.latency.record(latency);
            }
        } else if answered.again {
            open.turned_away += 1;
        } else {
            open.failed += 1;
        }
    }

    /// A node reached the goal of a phase.
    pub(crate) fn transition(&self, phase: Phase, took: Duration) {
        self.inner().transitions.entry(phase).or_default().record(took);
    }

    /// Closes a moment; answers it.
    pub(crate) fn tick(&self, states: &States, processes: Vec<Option<Sample>>) -> Tick {
        let mut inner = self.inner();
        let mut tick = std::mem::take(&mut inner.open);
        tick.at = self.began.elapsed();
        tick.states = states.counts();
        tick.processes = processes;
        inner.ticks.push(tick.clone());
        tick
    }

    /// What is known by kind of request.
    pub(crate) fn kinds(&self) -> BTreeMap<Kind, OfKind> {
        self.inner().kinds.clone()
    }

    /// From asked to reached, by phase.
    pub(crate) fn transitions(&self) -> BTreeMap<Phase, Latencies> {
        self.inner().transitions.clone()
    }

    /// Every moment so far.
    pub(crate) fn ticks(&self) -> Vec<Tick> {
        self.inner().ticks.clone()
    }

    /// Requests answered with success, tried again, and broken or refused, of all kinds.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let inner = self.inner();
        let all = inner.kinds.values().fold((0, 0, 0), |(good, again, all), of| {
            let answers: u64 = of.codes.values().sum();
            (good + of.latency.count(), again + of.turned_away.count(), all + answers + of.broken)
        });
        (all.0, all.1, all.2 - all.0 - all.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_three_digits() {
        let mut latencies = Latencies::default();
        for millis in 1..=1000_u64 {
            latencies.record(Duration::from_millis(millis));
        }
        for (share, want) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0)] {
            let got = latencies.quantile(share).as_secs_f64() * 1e3;
            assert!((got - want).abs() <= want / 1000.0 + 0.001, "{share}: {got} instead of {want}");
        }
        assert_eq!(latencies.count(), 1000);
        assert!(latencies.max() >= Duration::from_millis(1000));
        latencies.record(Duration::from_secs(36_000));
        assert!(latencies.max() >= Duration::from_secs(35_990), "hours fit too");
    }

    #[test]
    fn coarse_latencies_stay_within_a_step_and_add_up() {
        let (mut low, mut high) = (Coarse::default(), Coarse::default());
        for _ in 0..99 {
            low.record(Duration::from_millis(1));
        }
        high.record(Duration::from_secs(1));
        low.add(&high);
        let p50 = low.quantile(0.5).unwrap();
        assert!((0.8e-3..1.25e-3).contains(&p50), "{p50}");
        let top = low.quantile(1.0).unwrap();
        assert!((0.8..1.25).contains(&top), "{top}");
        assert_eq!(Coarse::default().quantile(0.5), None);
    }

    #[test]
    fn what_a_stall_makes_wait_is_counted_from_the_planned_moment() {
        let recorder = Recorder::new();
        let start = recorder.began();
        let millis = Duration::from_millis;
        // planned every 10 ms; the first takes a second, the others wait for it and then take 1 ms each
        for index in 0..100_u64 {
            let planned = start + millis(10 * index);
            let sent = if index == 0 { planned } else { planned.max(start + millis(1000 + index)) };
            let done = if index == 0 { start + millis(1000) } else { sent + millis(1) };
            let answered = Answered { planned, sent, done, status: Some(200), again: false, bytes: 0 };
            recorder.request(Kind::Show, &answered);
        }
        let of = &recorder.kinds()[&Kind::Show];
        assert!(of.service.quantile(0.9) < millis(3), "from sent, the stall is one request's");
        assert!(of.latency.quantile(0.5) > millis(400), "from planned, it is everybody's");
    }

    #[test]
    fn answers_are_counted_once_each() {
        let recorder = Recorder::new();
        let now = Instant::now();
        let of = |status, again| Answered { planned: now, sent: now, done: now, status, again, bytes: 7 };
        recorder.request(Kind::Patch, &of(Some(200), false));
        recorder.request(Kind::Patch, &of(Some(409), true));
        recorder.request(Kind::Patch, &of(Some(400), false));
        recorder.request(Kind::Patch, &of(None, false));
        assert_eq!(recorder.totals(), (1, 1, 2));
        let tick = recorder.tick(&States::default(), Vec::new());
        assert_eq!((tick.answers, tick.turned_away, tick.failed), ([1, 0, 0], 1, 2));
        let kind = &recorder.kinds()[&Kind::Patch];
        assert_eq!((kind.broken, kind.bytes, kind.codes.len()), (1, 28, 3));
    }
}
