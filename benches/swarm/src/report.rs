//! The report: what is written as JSON. docs/swarm.md describes each field.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::About;
use crate::options::{Image, Options, Pace, Phase};
use crate::phases::{Outcome, is_watched};
use crate::processes::{self, Sample};
use crate::record::{Coarse, Latencies, OfKind, Tick};
use crate::run::Swarm;
use crate::watch::Looks;

/// The form of the report; it changes when a field changes its meaning or goes.
pub(crate) const SCHEMA: &str = "ferric-swarm/1";
/// Failures that are told one by one.
const TOLD: usize = 100;
/// Points of the series at most.
const POINTS: usize = 600;

/// All that a run has found out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `ferric-swarm/1`
    pub schema: &'static str,
    /// Whether every node reached every goal that the endpoint has.
    pub ok: bool,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// When it began, RFC 3339.
    pub began: String,
    /// How long it took.
    pub seconds: f64,
    /// Who was asked.
    pub endpoint: Endpoint,
    /// What was done.
    pub load: Load,
    /// What the swarm itself used, its image server included.
    pub client: Used,
    /// The phases, in their order.
    pub phases: Vec<PhaseReport>,
    /// Requests by kind.
    pub requests: BTreeMap<String, Requests>,
    /// Requests of all kinds.
    pub totals: Totals,
    /// Nodes that failed, whether told below or not.
    pub failed_nodes: usize,
    /// The first hundred of them.
    pub failures: Vec<NodeFailure>,
    /// Nodes that are still enrolled.
    pub nodes_left: usize,
    /// The watched processes over the whole run.
    pub processes: Vec<Used>,
    /// Everything over time.
    pub series: Series,
}

/// Who was asked.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint {
    /// Its URL.
    pub url: String,
    /// Its name for itself.
    pub name: String,
    /// Its newest microversion.
    pub newest_version: String,
    /// The one that was spoken.
    pub spoken_version: String,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Nodes wanted.
    pub nodes: usize,
    /// Drivers with their nodes.
    pub drivers: BTreeMap<String, usize>,
    /// Phases wanted.
    pub phases: Vec<&'static str>,
    /// Nodes per wave; 0 is all at once.
    pub wave: usize,
    /// `closed` or `open`.
    pub loop_kind: &'static str,
    /// Nodes begun per second in an open loop.
    pub rate: Option<f64>,
    /// Connections.
    pub concurrency: usize,
    /// The seed.
    pub seed: u64,
    /// Bytes of an image made by the swarm.
    pub image_bytes: Option<usize>,
    /// How states were followed: `poll`.
    pub follow: &'static str,
    /// Least seconds between two looks.
    pub poll_seconds: f64,
}

/// How a phase went.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub phase: &'static str,
    /// `done`, `skipped` or `interrupted`.
    pub outcome: &'static str,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// Nodes that took part.
    pub nodes: usize,
    /// Nodes that reached the goal.
    pub reached: usize,
    /// Nodes that failed.
    pub failed: usize,
    /// Seconds from the beginning of the run.
    pub began: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Nodes that reached the goal per second.
    pub per_second: f64,
    /// Seconds from asked to seen at the goal.
    pub transition_seconds: Option<Percentiles>,
    /// Times that the list of nodes was looked at.
    pub looks: u64,
    /// Mean seconds between two looks: `transition_seconds` are too long by up to this much.
    pub look_seconds: Option<f64>,
    /// What each watched process used in it.
    pub processes: Vec<Used>,
}

/// A distribution, in the unit that its name says.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// How many.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half are at or below.
    pub p50: f64,
    /// 90 % are at or below.
    pub p90: f64,
    /// 99 % are at or below.
    pub p99: f64,
    /// 99.9 % are at or below.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// Requests of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Requests {
    /// Answered with success: milliseconds from the planned moment to the end of the answer.
    pub latency_ms: Option<Percentiles>,
    /// The same from the moment it was sent; in an open loop only.
    pub service_ms: Option<Percentiles>,
    /// Answered 409 or 503 and tried again: milliseconds.
    pub turned_away_ms: Option<Percentiles>,
    /// Answers by status.
    pub codes: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub broken: u64,
    /// Bytes of the answers' bodies.
    pub bytes: u64,
}

/// Requests of all kinds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Totals {
    /// Answered with success.
    pub answered: u64,
    /// Tried again (409, 503).
    pub turned_away: u64,
    /// Refused for good, or without an answer.
    pub failed: u64,
    /// Answered with success per second of the whole run.
    pub per_second: f64,
}

/// A node that failed.
#[derive(Clone, Debug, Serialize)]
pub struct NodeFailure {
    /// Its name.
    pub node: String,
    /// The phase that it failed in.
    pub phase: &'static str,
    /// Why.
    pub reason: String,
}

/// What a process used.
#[derive(Clone, Debug, Serialize)]
pub struct Used {
    /// Its name.
    pub name: String,
    /// Seconds of processor time.
    pub cpu_seconds: f64,
    /// Cores busy on average.
    pub cores: f64,
    /// Resident bytes at the end.
    pub rss: u64,
    /// The most resident bytes that were seen.
    pub rss_peak: u64,
}

/// Everything over time; lists of the same length.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Series {
    /// The end of each moment, in seconds from the beginning.
    pub seconds: Vec<f64>,
    /// Answers per second that changed something.
    pub writes_per_second: Vec<f64>,
    /// Answers per second of phase list.
    pub reads_per_second: Vec<f64>,
    /// Answers per second of looking at the states.
    pub polls_per_second: Vec<f64>,
    /// Requests tried again per second.
    pub turned_away_per_second: Vec<f64>,
    /// Median of writes and reads, within 10 %; null where there was none.
    pub p50_ms: Vec<Option<f64>>,
    /// 99th percentile of writes and reads, within 10 %.
    pub p99_ms: Vec<Option<f64>>,
    /// Nodes by provision state; states that no node was seen in are left out.
    pub states: Vec<StateSeries>,
    /// Each watched process, and the swarm itself.
    pub processes: Vec<ProcessSeries>,
}

/// Nodes in one state.
#[derive(Clone, Debug, Serialize)]
pub struct StateSeries {
    /// The state.
    pub state: String,
    /// Nodes in it.
    pub nodes: Vec<u32>,
}

/// One process over time.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessSeries {
    /// Its name.
    pub name: String,
    /// Cores busy.
    pub cores: Vec<f64>,
    /// Resident bytes.
    pub rss: Vec<u64>,
}

impl Percentiles {
    fn of(latencies: &Latencies, scale: f64) -> Option<Self> {
        if latencies.count() == 0 {
            return None;
        }
        let of = |latency: Duration| (latency.as_secs_f64() * scale * 1e6).round() / 1e6;
        let at = |share| of(latencies.quantile(share));
        Some(Self {
            count: latencies.count(),
            mean: of(latencies.mean()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: of(latencies.max()),
        })
    }
}

impl PhaseReport {
    pub(crate) fn new(
        swarm: &Swarm,
        phase: Phase,
        nodes: usize,
        began: Instant,
        outcome: Outcome,
        looks: Looks,
        before: &[Option<Sample>],
    ) -> Self {
        let took = began.elapsed();
        let seconds = took.as_secs_f64();
        let tally = swarm.fleet.inner().tally;
        let (outcome, reason) = match outcome {
            Outcome::Done => ("done", None),
            Outcome::Skipped(reason) => ("skipped", Some(reason)),
            Outcome::Interrupted => ("interrupted", None),
        };
        let transition = swarm.recorder.transitions().get(&phase).and_then(|of| Percentiles::of(of, 1.0));
        let after = processes::all(&swarm.options.watched);
        let pairs = before.iter().zip(&after).zip(&swarm.options.watched);
        let begins = began.duration_since(swarm.recorder.began()).as_secs_f64();
        let ticks = swarm.recorder.ticks();
        let used = pairs.enumerate().filter_map(|(index, ((before, after), watched))| {
            let cpu = (*after)?.cpu.saturating_sub((*before)?.cpu).as_secs_f64();
            let within = ticks.iter().filter(|tick| tick.at.as_secs_f64() >= begins);
            let seen = within.filter_map(|tick| Some((*tick.processes.get(index)?)?.rss)).max();
            let rss = (*after)?.rss;
            let (name, rss_peak) = (watched.name.clone(), seen.unwrap_or(rss).max(rss));
            Some(Used { name, cpu_seconds: cpu, cores: cpu / seconds.max(1e-3), rss, rss_peak })
        });
        Self {
            phase: phase.name(),
            outcome,
            reason,
            nodes,
            reached: tally.reached,
            failed: tally.failed,
            began: begins,
            seconds,
            per_second: tally.reached as f64 / seconds.max(1e-6),
            transition_seconds: transition,
            looks: looks.count,
            look_seconds: (is_watched(phase) && looks.count > 0)
                .then(|| looks.span.as_secs_f64() / looks.count as f64),
            processes: used.collect(),
        }
    }

    /// The phase in a line.
    pub fn line(&self) -> String {
        if let Some(reason) = &self.reason {
            return format!("{:<9} skipped: {reason}", self.phase);
        }
        let mut line = format!(
            "{:<9} {} of {} in {:.1} s ({:.0}/s)",
            self.phase, self.reached, self.nodes, self.seconds, self.per_second
        );
        if let Some(of) = &self.transition_seconds {
            let text = format!("; p50 {}, p99 {}, max {}", seconds(of.p50), seconds(of.p99), seconds(of.max));
            line.push_str(&text);
        }
        if self.failed > 0 {
            line.push_str(&format!("; {} failed", self.failed));
        }
        if self.outcome == "interrupted" {
            line.push_str("; interrupted");
        }
        line
    }
}

/// Seconds for people.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        value if value < 1e-3 => format!("{:.0} µs", value * 1e6),
        value if value < 0.1 => format!("{:.1} ms", value * 1e3),
        value if value < 1.0 => format!("{:.0} ms", value * 1e3),
        value if value < 100.0 => format!("{value:.2} s"),
        value => format!("{value:.0} s"),
    }
}

impl Report {
    pub(crate) fn new(
        swarm: &Swarm,
        about: &About,
        began: SystemTime,
        phases: Vec<PhaseReport>,
        interrupted: bool,
    ) -> Self {
        let took = phases.last().map_or(0.0, |phase| phase.began + phase.seconds);
        let (answered, turned_away, failed) = swarm.recorder.totals();
        let inner = swarm.fleet.inner();
        let lost =
            inner.lives.iter().enumerate().filter_map(|(index, life)| Some((index, life.failed.as_ref()?)));
        let failures: Vec<NodeFailure> = lost
            .map(|(index, (phase, reason))| NodeFailure {
                node: swarm.fleet.nodes[index].name.clone(),
                phase: phase.name(),
                reason: reason.clone(),
            })
            .collect();
        let whole = phases.iter().all(|phase| {
            // a phase that nobody took part in has reached nothing
            phase.outcome == "skipped"
                || (phase.failed == 0 && phase.reached == phase.nodes && phase.nodes > 0)
        });
        let all_there = phases.iter().any(|phase| phase.outcome == "done")
            && phases
                .iter()
                .filter(|phase| phase.outcome == "done")
                .all(|phase| phase.nodes == swarm.fleet.nodes.len());
        let ticks = swarm.recorder.ticks();
        let names: Vec<String> =
            swarm.options.watched.iter().map(|one| one.name.clone()).chain(["swarm".to_owned()]).collect();
        let mut used: Vec<Used> =
            names.iter().enumerate().filter_map(|(index, name)| used(name, index, &ticks)).collect();
        let client = match used.last() {
            Some(last) if last.name == "swarm" => used.pop(),
            Some(_) | None => None,
        };
        let kinds = swarm.recorder.kinds();
        let open = swarm.options.pace != Pace::Closed;
        Self {
            schema: SCHEMA,
            ok: !interrupted && failures.is_empty() && whole && all_there,
            interrupted,
            began: OffsetDateTime::from(began).format(&Rfc3339).unwrap_or_default(),
            seconds: took,
            endpoint: Endpoint {
                url: swarm.options.endpoint.clone(),
                name: about.name.clone(),
                newest_version: about.newest.to_string(),
                spoken_version: about.spoken.to_string(),
            },
            load: Load::new(&swarm.options, swarm.fleet.nodes.iter().map(|node| &node.body)),
            client: client.unwrap_or(Used {
                name: "swarm".to_owned(),
                cpu_seconds: 0.0,
                cores: 0.0,
                rss: 0,
                rss_peak: 0,
            }),
            phases,
            requests: kinds.iter().map(|(kind, of)| (kind.name(), Requests::new(of, open))).collect(),
            totals: Totals { answered, turned_away, failed, per_second: answered as f64 / took.max(1e-6) },
            failed_nodes: failures.len(),
            failures: failures.into_iter().take(TOLD).collect(),
            nodes_left: inner.lives.iter().filter(|life| life.id.is_some()).count(),
            processes: used,
            series: Series::new(&ticks, &swarm.states.names(), &names),
        }
    }

    /// The report for people.
    pub fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{}: {} nodes at {} ({}, {}) in {:.1} s",
            if self.ok { "ok" } else { "NOT OK" },
            self.load.nodes,
            self.endpoint.url,
            self.endpoint.name,
            self.endpoint.spoken_version,
            self.seconds
        );
        for phase in &self.phases {
            let _ = writeln!(out, "  {}", phase.line());
        }
        let _ = writeln!(
            out,
            "  {:<22} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "requests", "count", "p50", "p90", "p99", "p99.9", "max"
        );
        for (name, of) in &self.requests {
            let Some(latency) = &of.latency_ms else { continue };
            let at = |value: f64| seconds(value / 1e3);
            let _ = write!(
                out,
                "  {name:<22} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
                latency.count,
                at(latency.p50),
                at(latency.p90),
                at(latency.p99),
                at(latency.p999),
                at(latency.max)
            );
            if let Some(away) = &of.turned_away_ms {
                let _ = write!(out, "  tried again {}", away.count);
            }
            out.push('\n');
        }
        for used in self.processes.iter().chain([&self.client]) {
            let _ = writeln!(
                out,
                "  {:<22} {:.1} s of processor time ({:.2} cores), {:.0} MiB at most",
                used.name,
                used.cpu_seconds,
                used.cores,
                used.rss_peak as f64 / f64::from(1 << 20)
            );
        }
        for failure in self.failures.iter().take(10) {
            let _ = writeln!(out, "  {} in {}: {}", failure.node, failure.phase, failure.reason);
        }
        if self.failed_nodes > 10 {
            let _ = writeln!(out, "  … and {} more", self.failed_nodes - 10);
        }
        out
    }
}

impl Load {
    fn new<'a>(options: &Options, bodies: impl Iterator<Item = &'a serde_json::Value>) -> Self {
        let mut drivers = BTreeMap::new();
        let mut nodes = 0;
        for body in bodies {
            nodes += 1;
            *drivers.entry(body["driver"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
        }
        let (loop_kind, rate) = match options.pace {
            Pace::Closed => ("closed", None),
            Pace::Open { per_second } => ("open", Some(per_second)),
        };
        Self {
            nodes,
            drivers,
            phases: options.phases.iter().map(|phase| phase.name()).collect(),
            wave: options.wave,
            loop_kind,
            rate,
            concurrency: options.concurrency,
            seed: options.seed,
            image_bytes: match &options.image {
                Image::Own { bytes } => Some(*bytes),
                Image::Url { .. } => None,
            },
            follow: "poll",
            poll_seconds: options.poll.as_secs_f64(),
        }
    }
}

impl Requests {
    fn new(of: &OfKind, open: bool) -> Self {
        Self {
            latency_ms: Percentiles::of(&of.latency, 1e3),
            service_ms: Percentiles::of(&of.service, 1e3).filter(|_| open),
            turned_away_ms: Percentiles::of(&of.turned_away, 1e3),
            codes: of.codes.clone(),
            broken: of.broken,
            bytes: of.bytes,
        }
    }
}

fn used(name: &str, index: usize, ticks: &[Tick]) -> Option<Used> {
    let seen: Vec<(f64, Sample)> = ticks
        .iter()
        .filter_map(|tick| Some((tick.at.as_secs_f64(), (*tick.processes.get(index)?)?)))
        .collect();
    let ((begin, first), (end, last)) = (*seen.first()?, *seen.last()?);
    let cpu_seconds = last.cpu.saturating_sub(first.cpu).as_secs_f64();
    Some(Used {
        name: name.to_owned(),
        cpu_seconds,
        cores: cpu_seconds / (end - begin).max(0.25),
        rss: last.rss,
        rss_peak: seen.iter().map(|(_, sample)| sample.rss).max().unwrap_or(0),
    })
}

impl Series {
    fn new(ticks: &[Tick], states: &[String], processes: &[String]) -> Self {
        let step = ticks.len().div_ceil(POINTS).max(1);
        let mut series = Self::default();
        series
            .states
            .extend(states.iter().map(|state| StateSeries { state: state.clone(), nodes: Vec::new() }));
        series.processes.extend(processes.iter().map(|name| ProcessSeries {
            name: name.clone(),
            cores: Vec::new(),
            rss: Vec::new(),
        }));
        let mut before: Option<&Tick> = None;
        for group in ticks.chunks(step) {
            let Some(last) = group.last() else { continue };
            let from = before.map_or(Duration::ZERO, |tick| tick.at);
            let span = last.at.saturating_sub(from).as_secs_f64().max(1e-3);
            let mut latency = Coarse::default();
            let (mut answers, mut away) = ([0.0; 3], 0.0);
            for tick in group {
                latency.add(&tick.latency);
                away += f64::from(tick.turned_away) / span;
                for (sum, count) in answers.iter_mut().zip(tick.answers) {
                    *sum += f64::from(count) / span;
                }
            }
            series.seconds.push(last.at.as_secs_f64());
            series.writes_per_second.push(answers[0]);
            series.reads_per_second.push(answers[1]);
            series.polls_per_second.push(answers[2]);
            series.turned_away_per_second.push(away);
            series.p50_ms.push(latency.quantile(0.5).map(|value| value * 1e3));
            series.p99_ms.push(latency.quantile(0.99).map(|value| value * 1e3));
            for (number, state) in series.states.iter_mut().enumerate() {
                state.nodes.push(last.states.get(number).copied().unwrap_or(0));
            }
            for (number, process) in series.processes.iter_mut().enumerate() {
                let now = last.processes.get(number).copied().flatten();
                let then = before.and_then(|tick| tick.processes.get(number).copied().flatten());
                let cpu =
                    now.zip(then).map_or(0.0, |(now, then)| now.cpu.saturating_sub(then.cpu).as_secs_f64());
                process.cores.push(cpu / span);
                process.rss.push(now.map_or(0, |now| now.rss));
            }
            before = Some(last);
        }
        series.states.retain(|state| state.nodes.iter().any(|&count| count > 0));
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_few_points_and_loses_no_answer() {
        let ticks: Vec<Tick> = (1..=5000_u32)
            .map(|number| Tick {
                at: Duration::from_millis(250) * number,
                answers: [2, 1, 0],
                states: vec![number % 7],
                ..Tick::default()
            })
            .collect();
        let series = Series::new(&ticks, &["enroll".to_owned()], &[]);
        assert!(series.seconds.len() <= POINTS, "{}", series.seconds.len());
        let mut from = 0.0;
        let mut writes = 0.0;
        for (at, rate) in series.seconds.iter().zip(&series.writes_per_second) {
            writes += rate * (at - from);
            from = *at;
        }
        assert!((writes - 10_000.0).abs() < 1e-3, "{writes}");
        assert_eq!(series.states[0].nodes.len(), series.seconds.len());
    }

    #[test]
    fn people_read_units_that_fit() {
        assert_eq!(seconds(0.000_5), "500 µs");
        assert_eq!(seconds(0.0123), "12.3 ms");
        assert_eq!(seconds(0.25), "250 ms");
        assert_eq!(seconds(12.345), "12.35 s");
    }
}
