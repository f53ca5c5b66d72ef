//! The report as one picture: nodes by state, requests, latency, processes over time, and the phases' figures.

use std::fmt::Write as _;

use crate::chart::{Anchor, Entry, Panel, Scale, escape, number, round_up, text};
use crate::report::{Report, Series, seconds};

const WIDTH: f64 = 1280.0;
const LEFT: f64 = 70.0;
const PLOT: f64 = 1010.0;
/// Between two panels: an axis's words and a title.
const GAP: f64 = 58.0;

/// Colours of provision states; others are grey.
const STATES: &[(&str, &str)] = &[
    ("enroll", "#b0bec5"),
    ("verifying", "#78909c"),
    ("manageable", "#64b5f6"),
    ("inspecting", "#7e57c2"),
    ("inspect wait", "#b39ddb"),
    ("cleaning", "#00acc1"),
    ("clean wait", "#80deea"),
    ("available", "#aed581"),
    ("deploying", "#fb8c00"),
    ("wait call-back", "#ffd54f"),
    ("active", "#2e7d32"),
    ("deleting", "#8d6e63"),
    ("inspect failed", "#ec407a"),
    ("clean failed", "#d81b60"),
    ("deploy failed", "#e53935"),
    ("error", "#b71c1c"),
];
const PROCESSES: &[&str] = &["#1565c0", "#ef6c00", "#6a1b9a", "#00838f", "#558b2f"];

const STYLE: &str = "text{font-family:'DejaVu Sans','Segoe UI',Helvetica,Arial,sans-serif;fill:#263238}\
.title{font-size:22px;font-weight:bold}.sub{font-size:13px;fill:#546e7a}.head{font-size:14px;font-weight:bold}\
.small{font-size:12px}.cell{font-size:13px}.strong{font-size:13px;font-weight:bold}.phase{font-size:11px;fill:#546e7a}\
.bad{font-size:13px;fill:#c62828}.grid{stroke:#000;stroke-opacity:.1}.axis{stroke:#546e7a}\
.frame{fill:none;stroke:#546e7a}.curve{fill:none;stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}";

/// Draws a report as SVG.
pub fn draw(report: &Report) -> String {
    let mut body = String::new();
    let series = &report.series;
    let end = report.seconds.max(0.25);
    let mut top = 112.0;
    let mut place = |height: f64, scale: Scale| {
        let panel = Panel { left: LEFT, top, width: PLOT, height, seconds: end, scale };
        top += height + GAP;
        panel
    };

    let most = series_sum(series.states.iter().map(|state| &state.nodes)).into_iter().fold(1.0, f64::max);
    let panel = place(260.0, Scale::Linear(axis_end(most)));
    bands(&mut body, &panel, report, true);
    states(&mut body, &panel, series);

    let rates = [
        ("writes", "#1565c0", &series.writes_per_second),
        ("reads", "#43a047", &series.reads_per_second),
        ("polls of the states", "#b0bec5", &series.polls_per_second),
    ];
    let most = (0..series.seconds.len())
        .map(|index| rates.iter().map(|(_, _, values)| values[index]).sum::<f64>())
        .fold(1.0, f64::max);
    let panel = place(170.0, Scale::Linear(axis_end(most)));
    bands(&mut body, &panel, report, false);
    requests(&mut body, &panel, series, &rates);

    let known = series.p50_ms.iter().chain(&series.p99_ms).flatten();
    let (least, most) =
        known.fold((f64::MAX, 0.0_f64), |(low, high), &value| (low.min(value), high.max(value)));
    let (least, most) = if most > 0.0 { (least, most) } else { (0.1, 10.0) };
    let low = 10_f64.powf(least.log10().floor());
    let high = 10_f64.powf(most.log10().ceil()).max(low * 10.0);
    let panel = place(170.0, Scale::Log(low, high));
    bands(&mut body, &panel, report, false);
    latency(&mut body, &panel, series);

    if !series.processes.is_empty() {
        let cores = series.processes.iter().flat_map(|process| &process.cores).copied().fold(0.1, f64::max);
        let panel = place(120.0, Scale::Linear(axis_end(cores)));
        bands(&mut body, &panel, report, false);
        cores_of(&mut body, &panel, series);
        let most = series.processes.iter().flat_map(|process| &process.rss).copied().max().unwrap_or(0);
        let panel = place(120.0, Scale::Linear(axis_end(most as f64 / MIB)));
        bands(&mut body, &panel, report, false);
        memory_of(&mut body, &panel, series);
    }
    let height = table(&mut body, report, top - 6.0);

    let mut out = String::with_capacity(body.len() + 2048);
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0}" viewBox="0 0 {WIDTH} {height:.0}">"#
    );
    let _ = writeln!(out, "<title>{}</title>", escape(&title(report)));
    let _ = writeln!(out, "<style>{}</style>", STYLE.replace('>', "&gt;"));
    let _ = writeln!(out, r##"<rect width="{WIDTH}" height="{height:.0}" fill="#fff"/>"##);
    text(&mut out, (24.0, 36.0), Anchor::Start, "title", &title(report));
    for (line, words) in subtitles(report).iter().enumerate() {
        text(&mut out, (24.0, 57.0 + 18.0 * line as f64), Anchor::Start, "sub", words);
    }
    out.push_str(&body);
    out.push_str("</svg>\n");
    out
}

const MIB: f64 = 1_048_576.0;

/// A linear axis ends at a step above the highest value.
fn axis_end(most: f64) -> f64 {
    let step = round_up(most / 5.0);
    (most / step).ceil().max(1.0) * step
}

fn title(report: &Report) -> String {
    let how = match (report.ok, report.interrupted) {
        (true, _) => "every node reached every goal".to_owned(),
        (false, true) => "interrupted".to_owned(),
        (false, false) => format!("{} nodes failed", number(report.failed_nodes as f64)),
    };
    format!("ferric swarm: {} nodes in {}: {how}", number(report.load.nodes as f64), seconds(report.seconds))
}

fn subtitles(report: &Report) -> [String; 2] {
    let load = &report.load;
    let drivers: Vec<&str> = load.drivers.keys().map(String::as_str).collect();
    let pace = match load.rate {
        Some(rate) => format!("open loop, {} nodes/s, {} connections", number(rate), load.concurrency),
        None => format!("closed loop, {} connections", load.concurrency),
    };
    let wave = if load.wave == 0 { "all at once".to_owned() } else { format!("waves of {}", load.wave) };
    [
        format!(
            "{} ({}, microversion {}), {}, {pace}, {wave}; begun {}",
            report.endpoint.url,
            report.endpoint.name,
            report.endpoint.spoken_version,
            drivers.join(", "),
            report.began.split('.').next().unwrap_or_default()
        ),
        format!(
            "{} requests answered ({}/s), {} tried again (409, 503), {} failed; the load generator itself used {} s of processor time ({:.2} cores)",
            number(report.totals.answered as f64),
            number(report.totals.per_second.round()),
            number(report.totals.turned_away as f64),
            number(report.totals.failed as f64),
            number((report.client.cpu_seconds * 10.0).round() / 10.0),
            report.client.cores
        ),
    ]
}

/// Every second phase is shaded; their names stand above the first panel, their numbers where names have no room.
fn bands(out: &mut String, panel: &Panel, report: &Report, named: bool) {
    let shown = report.phases.iter().enumerate().filter(|(_, phase)| phase.outcome != "skipped");
    for (place, (index, phase)) in shown.enumerate() {
        let (from, to) = (panel.x(phase.began), panel.x(phase.began + phase.seconds));
        let (top, height, width) = (panel.top, panel.height, (to - from).max(0.5));
        if place % 2 == 1 {
            let _ = writeln!(
                out,
                r##"<rect x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" fill="#eceff1"/>"##
            );
        }
        let (name, short) = (format!("{} {}", index + 1, phase.phase), format!("{}", index + 1));
        let fits = |words: &str| words.len() as f64 * 6.6 < width;
        if let Some(words) = [name, short].iter().find(|words| named && fits(words)) {
            text(out, (from + width / 2.0, top + 12.0 + height + 18.0), Anchor::Middle, "phase", words);
        }
    }
}

fn series_sum<'a>(of: impl Iterator<Item = &'a Vec<u32>>) -> Vec<f64> {
    let mut sums: Vec<f64> = Vec::new();
    for values in of {
        sums.resize(sums.len().max(values.len()), 0.0);
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += f64::from(*value);
        }
    }
    sums
}

fn colour_of(state: &str) -> &'static str {
    STATES.iter().find(|(name, _)| *name == state).map_or("#9e9e9e", |(_, colour)| colour)
}

fn states(out: &mut String, panel: &Panel, series: &Series) {
    let mut low = vec![0.0; series.seconds.len()];
    let mut entries = Vec::new();
    for state in &series.states {
        let high: Vec<f64> =
            low.iter().zip(&state.nodes).map(|(low, count)| low + f64::from(*count)).collect();
        panel.area(out, &series.seconds, &low, &high, colour_of(&state.state));
        entries.push(Entry {
            words: state.state.clone(),
            colour: colour_of(&state.state).to_owned(),
            line: false,
        });
        low = high;
    }
    // as they lie in the picture
    entries.reverse();
    panel.axes(out, "Nodes by provision state", &number);
    panel.legend(out, &entries);
}

fn requests(out: &mut String, panel: &Panel, series: &Series, rates: &[(&str, &str, &Vec<f64>)]) {
    let mut low = vec![0.0; series.seconds.len()];
    let mut entries = Vec::new();
    for (words, colour, values) in rates {
        let high: Vec<f64> = low.iter().zip(values.iter()).map(|(low, value)| low + value).collect();
        panel.area(out, &series.seconds, &low, &high, colour);
        entries.push(Entry { words: (*words).to_owned(), colour: (*colour).to_owned(), line: false });
        low = high;
    }
    entries.reverse();
    let away: Vec<Option<f64>> = series.turned_away_per_second.iter().map(|&rate| Some(rate)).collect();
    if series.turned_away_per_second.iter().any(|&rate| rate > 0.0) {
        panel.line(out, &series.seconds, &away, "#c62828");
        entries.push(Entry { words: "tried again".to_owned(), colour: "#c62828".to_owned(), line: true });
    }
    panel.axes(out, "Answers per second", &number);
    panel.legend(out, &entries);
}

fn latency(out: &mut String, panel: &Panel, series: &Series) {
    panel.line(out, &series.seconds, &series.p99_ms, "#e53935");
    panel.line(out, &series.seconds, &series.p50_ms, "#1565c0");
    panel.axes(out, "Latency of writes and reads (logarithmic)", &|millis| seconds(millis / 1e3));
    panel.legend(
        out,
        &[
            Entry { words: "99th percentile".to_owned(), colour: "#e53935".to_owned(), line: true },
            Entry { words: "median".to_owned(), colour: "#1565c0".to_owned(), line: true },
        ],
    );
}

fn process_entries(series: &Series) -> Vec<Entry> {
    let colours = PROCESSES.iter().cycle();
    let all = series.processes.iter().zip(colours);
    all.map(|(process, colour)| Entry {
        words: process.name.clone(),
        colour: (*colour).to_owned(),
        line: true,
    })
    .collect()
}

fn cores_of(out: &mut String, panel: &Panel, series: &Series) {
    for (process, colour) in series.processes.iter().zip(PROCESSES.iter().cycle()) {
        let cores: Vec<Option<f64>> = process.cores.iter().map(|&cores| Some(cores)).collect();
        panel.line(out, &series.seconds, &cores, colour);
    }
    panel.axes(out, "Processor: cores busy", &number);
    panel.legend(out, &process_entries(series));
}

fn memory_of(out: &mut String, panel: &Panel, series: &Series) {
    for (process, colour) in series.processes.iter().zip(PROCESSES.iter().cycle()) {
        let memory: Vec<Option<f64>> =
            process.rss.iter().map(|&rss| (rss > 0).then_some(rss as f64 / MIB)).collect();
        panel.line(out, &series.seconds, &memory, colour);
    }
    panel.axes(out, "Memory: resident MiB", &number);
    panel.legend(out, &process_entries(series));
}

/// The figures of the phases; answers where the picture ends.
fn table(out: &mut String, report: &Report, top: f64) -> f64 {
    let columns: [(f64, &str); 10] = [
        (24.0, "phase"),
        (250.0, "nodes"),
        (340.0, "failed"),
        (440.0, "took"),
        (540.0, "nodes/s"),
        (650.0, "p50"),
        (750.0, "p90"),
        (850.0, "p99"),
        (950.0, "p99.9"),
        (1050.0, "max"),
    ];
    let place = |index: usize| if index == 0 { Anchor::Start } else { Anchor::End };
    text(out, (24.0, top), Anchor::Start, "head", "Phases, and how long nodes took from asked to the goal");
    let mut y = top + 24.0;
    for (index, (x, words)) in columns.iter().enumerate() {
        text(out, (*x, y), place(index), "strong", words);
    }
    for (number_of, phase) in report.phases.iter().enumerate() {
        y += 20.0;
        let name = format!("{} {}", number_of + 1, phase.phase);
        if let Some(reason) = &phase.reason {
            let reason: String = reason.chars().take(130).collect();
            text(out, (24.0, y), Anchor::Start, "cell", &format!("{name}: skipped: {reason}"));
            continue;
        }
        let mut cells = vec![
            name,
            number(phase.reached as f64),
            number(phase.failed as f64),
            seconds(phase.seconds),
            number((phase.per_second * 10.0).round() / 10.0),
        ];
        if let Some(of) = &phase.transition_seconds {
            cells.extend([of.p50, of.p90, of.p99, of.p999, of.max].map(seconds));
        }
        for (index, ((x, _), words)) in columns.iter().zip(&cells).enumerate() {
            let class = if index == 2 && phase.failed > 0 { "bad" } else { "cell" };
            text(out, (*x, y), place(index), class, words);
        }
    }
    if let Some(look) = report.phases.iter().filter_map(|phase| phase.look_seconds).reduce(f64::max) {
        y += 24.0;
        let words = format!(
            "States are followed by reading the list of nodes, at most {} apart on average: the times above are too long by up to that much.",
            seconds(look)
        );
        text(out, (24.0, y), Anchor::Start, "sub", &words);
    }
    for failure in report.failures.iter().take(5) {
        y += 20.0;
        let words: String =
            format!("{} in {}: {}", failure.node, failure.phase, failure.reason).chars().take(160).collect();
        text(out, (24.0, y), Anchor::Start, "bad", &words);
    }
    y + 24.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::{
        Endpoint, Load, NodeFailure, Percentiles, PhaseReport, ProcessSeries, StateSeries, Totals, Used,
    };

    fn phase(phase: &'static str, began: f64, reason: Option<&str>) -> PhaseReport {
        let of = Percentiles { count: 2, mean: 1.0, p50: 1.0, p90: 1.0, p99: 2.0, p999: 2.0, max: 2.0 };
        PhaseReport {
            phase,
            outcome: if reason.is_some() { "skipped" } else { "done" },
            reason: reason.map(str::to_owned),
            nodes: 2,
            reached: 1,
            failed: 1,
            began,
            seconds: 3.0,
            per_second: 0.3,
            transition_seconds: Some(of),
            looks: 3,
            look_seconds: Some(0.2),
            processes: Vec::new(),
        }
    }

    fn report(moments: usize) -> Report {
        let used = Used { name: "swarm".to_owned(), cpu_seconds: 1.0, cores: 0.1, rss: 1, rss_peak: 1 };
        let of = |value: f64| vec![value; moments];
        let mut p99 = vec![Some(20.0); moments];
        if let Some(first) = p99.first_mut() {
            *first = None;
        }
        Report {
            schema: "ferric-swarm/1",
            ok: false,
            interrupted: false,
            began: "2026-11-23T06:53:26.1Z".to_owned(),
            seconds: 6.0,
            endpoint: Endpoint {
                url: "http://x/?a=1&b=<2>".to_owned(),
                name: "\"Ironic\" & <others>\u{0}".to_owned(),
                newest_version: "1.115".to_owned(),
                spoken_version: "1.90".to_owned(),
            },
            load: Load {
                nodes: 2,
                drivers: BTreeMap::from([("fake-hardware".to_owned(), 2)]),
                phases: vec!["manage"],
                wave: 0,
                loop_kind: "closed",
                rate: None,
                concurrency: 1,
                seed: 1,
                image_bytes: None,
                follow: "poll",
                poll_seconds: 0.2,
            },
            client: used.clone(),
            phases: vec![
                phase("manage", 0.0, None),
                phase("inspect", 3.0, Some("400: <no> & never")),
                phase("provide", 3.0, None),
            ],
            requests: BTreeMap::new(),
            totals: Totals { answered: 5, turned_away: 1, failed: 1, per_second: 1.0 },
            failed_nodes: 1,
            failures: vec![NodeFailure {
                node: "a<b".to_owned(),
                phase: "manage",
                reason: "</svg>\n".to_owned(),
            }],
            nodes_left: 0,
            processes: Vec::new(),
            series: Series {
                seconds: (1..=moments).map(|at| at as f64).collect(),
                writes_per_second: of(3.0),
                reads_per_second: of(0.0),
                polls_per_second: of(1.0),
                turned_away_per_second: of(1.0),
                p50_ms: vec![Some(2.0); moments],
                p99_ms: p99,
                states: vec![StateSeries { state: "quantum <&>".to_owned(), nodes: vec![2; moments] }],
                processes: vec![ProcessSeries {
                    name: "swarm".to_owned(),
                    cores: of(0.1),
                    rss: vec![1 << 20; moments],
                }],
            },
        }
    }

    /// Follows the tags; panics where XML is broken. Answers how many elements there are.
    fn elements(text: &str) -> usize {
        let (mut open, mut count, mut rest) = (Vec::new(), 0, text);
        while let Some(at) = rest.find('<') {
            let (words, tail) = rest.split_at(at);
            assert!(!words.contains('>'), "a stray > in {words:?}");
            for entity in words.split('&').skip(1) {
                assert!(
                    ["amp;", "lt;", "gt;", "quot;"].iter().any(|known| entity.starts_with(known)),
                    "&{entity}"
                );
            }
            assert!(!words.chars().any(|letter| letter.is_control() && letter != '\n'), "{words:?}");
            let end = tail.find('>').expect("a tag ends");
            let tag = &tail[1..end];
            assert!(!tag.contains('<') && tag.matches('"').count() % 2 == 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "ends in order");
            } else {
                count += 1;
                if !tag.ends_with('/') {
                    open.push(tag.split_whitespace().next().expect("a tag has a name"));
                }
            }
            rest = &tail[end + 1..];
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
        count
    }

    #[test]
    fn the_picture_is_well_formed_whatever_the_words_and_however_short_the_run() {
        for moments in [0, 1, 2, 300] {
            let picture = draw(&report(moments));
            assert!(elements(&picture) > 50, "{picture}");
            assert!(!picture.contains("NaN") && !picture.contains("inf\""), "{picture}");
        }
    }

    #[test]
    fn figures_and_failures_stand_in_the_picture() {
        let picture = draw(&report(6));
        for words in
            ["1 nodes failed", "1 manage", "2 inspect: skipped", "a&lt;b in manage", "quantum &lt;&amp;&gt;"]
        {
            assert!(picture.contains(words), "{words}");
        }
    }
}
