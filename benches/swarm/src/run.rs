//! A whole run: versions, phases one after the other, the thread that keeps time, the report.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::client::{CallError, Client};
use crate::fleet::{Fleet, FleetError};
use crate::image::Served;
use crate::options::{Options, Phase};
use crate::phases;
use crate::processes::{self, Sample};
use crate::record::{Coarse, Recorder, Tick};
use crate::report::{PhaseReport, Report};
use crate::show::{Show, Status};
use crate::states::States;
use crate::watch::{Looks, pages};

/// A moment of the series.
const TICK: Duration = Duration::from_millis(250);
/// Moments that the figures of the screen are taken over.
const RECENT: usize = 8;

/// Why nothing could be done at all.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// The nodes.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The API.
    #[error(transparent)]
    Api(#[from] CallError),
    /// The image.
    #[error("the image cannot be served on loopback")]
    Image(#[source] std::io::Error),
    /// The thread that keeps time.
    #[error("no thread can be started")]
    Thread(#[source] std::io::Error),
    /// No phases.
    #[error("no phase is to be done; name some with --phases")]
    Nothing,
}

/// All that the phases share.
pub(crate) struct Swarm {
    pub(crate) options: Options,
    pub(crate) client: Client,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) states: Arc<States>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) image: Option<Served>,
}

/// Where the run is, for the thread that shows it.
#[derive(Clone, Copy)]
struct Now {
    phase: &'static str,
    place: (usize, usize),
    nodes: usize,
    began: Instant,
}

/// Does what the options say until it is done or `stop` resolves.
///
/// # Errors
/// When nothing could be begun: no nodes, or no API that can be spoken to. What goes wrong with a node stands in the
/// report.
pub async fn run(
    options: Options,
    show: Arc<dyn Show>,
    stop: impl Future<Output = ()>,
) -> Result<Report, SwarmError> {
    if options.phases.is_empty() {
        return Err(SwarmError::Nothing);
    }
    let recorder = Arc::new(Recorder::new());
    let fleet = Arc::new(Fleet::new(&options)?);
    let mut client = Client::new(&options, recorder.clone())?;
    let about = client.negotiate().await?;
    let wants_image =
        options.phases.contains(&Phase::Deploy) && fleet.nodes.iter().any(|node| node.wants_image);
    let image = match wants_image {
        true => Some(Served::start(&options.image, options.seed).await.map_err(SwarmError::Image)?),
        false => None,
    };
    let states = Arc::new(States::default());
    let swarm = Arc::new(Swarm { options, client, recorder, states, fleet, image });
    show.event(&format!(
        "{} nodes at {}: {}, microversion {} of {}",
        swarm.fleet.nodes.len(),
        swarm.options.endpoint,
        about.name,
        about.spoken,
        about.newest
    ));
    let began = std::time::SystemTime::now();
    let now = Arc::new(Mutex::new(Now { phase: "", place: (0, 0), nodes: 0, began: Instant::now() }));
    let (end, ended) = mpsc::channel();
    let keeper = {
        let (swarm, show, now) = (swarm.clone(), show.clone(), now.clone());
        let keeper = std::thread::Builder::new().name("swarm-clock".to_owned());
        keeper.spawn(move || keep_time(&swarm, show.as_ref(), &now, &ended)).map_err(SwarmError::Thread)?
    };
    let mut done = Vec::new();
    let interrupted = {
        tokio::pin!(stop);
        every_phase(&swarm, show.as_ref(), &now, &mut done, stop.as_mut()).await
    };
    drop(end);
    // it ends within a moment; nothing else is under way here
    let _ = tokio::task::spawn_blocking(move || keeper.join()).await;
    Ok(Report::new(&swarm, &about, began, done, interrupted))
}

/// Answers whether it was interrupted.
async fn every_phase(
    swarm: &Arc<Swarm>,
    show: &dyn Show,
    now: &Mutex<Now>,
    done: &mut Vec<PhaseReport>,
    mut stop: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> bool {
    if swarm.options.phases.first() != Some(&Phase::Enrol) {
        // nodes of an earlier run are taken up where they are
        let found = tokio::select! {
            found = adopt(swarm) => found,
            () = &mut stop => return true,
        };
        match found {
            Ok(count) => show.event(&format!("{count} of these nodes are there already")),
            Err(error) => show.event(&format!("the list of nodes cannot be read: {error}")),
        }
    }
    let all = swarm.options.phases.len();
    for (index, phase) in swarm.options.phases.clone().into_iter().enumerate() {
        let nodes = swarm.fleet.participants(phase);
        let began = Instant::now();
        *now.lock().expect("no code panics while it holds the place") =
            Now { phase: phase.name(), place: (index + 1, all), nodes: nodes.len(), began };
        let looks = Arc::new(Mutex::new(Looks::default()));
        swarm.fleet.inner().tally = crate::fleet::Tally::default();
        let before = processes::all(&swarm.options.watched);
        let outcome = tokio::select! {
            outcome = phases::work(swarm, phase, &nodes, &looks) => outcome,
            () = &mut stop => phases::Outcome::Interrupted,
        };
        let interrupted = outcome == phases::Outcome::Interrupted;
        let looks = *looks.lock().expect("no code panics while it holds the looks");
        let report = PhaseReport::new(swarm, phase, nodes.len(), began, outcome, looks, &before);
        show.event(&report.line());
        done.push(report);
        if interrupted {
            return true;
        }
    }
    false
}

/// Finds nodes of the fleet that exist, by their names.
async fn adopt(swarm: &Swarm) -> Result<usize, CallError> {
    let names: std::collections::HashMap<&str, usize> =
        swarm.fleet.nodes.iter().enumerate().map(|(index, node)| (node.name.as_str(), index)).collect();
    let found = AtomicUsize::new(0);
    pages(swarm, |rows, _| {
        for row in rows {
            let Some(&index) = row.name.as_deref().and_then(|name| names.get(name)) else { continue };
            swarm.fleet.exists(index, row.uuid, row.state(), &swarm.states);
            found.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await?;
    Ok(found.into_inner())
}

/// Closes a moment every quarter of a second and shows how everything stands, until the other end is dropped.
fn keep_time(swarm: &Swarm, show: &dyn Show, now: &Mutex<Now>, ended: &mpsc::Receiver<()>) {
    let mut recent: Vec<Tick> = Vec::new();
    let mut next = Instant::now() + TICK;
    loop {
        let waited = ended.recv_timeout(next.saturating_duration_since(Instant::now()));
        if waited != Err(mpsc::RecvTimeoutError::Timeout) {
            // a moment that is cut short would make rates of its last few answers that nobody has seen
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        next += TICK;
        let mut samples = processes::all(&swarm.options.watched);
        samples.push(processes::this());
        recent.push(swarm.recorder.tick(&swarm.states, samples));
        if recent.len() > RECENT {
            recent.remove(0);
        }
        if waited != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
        let now = *now.lock().expect("no code panics while it holds the place");
        show.status(&status(swarm, now, &recent));
    }
}

fn status(swarm: &Swarm, now: Now, recent: &[Tick]) -> Status {
    let tally = swarm.fleet.inner().tally;
    let last = recent.last().cloned().unwrap_or_default();
    let span = match recent {
        [first, .., last] => last.at.saturating_sub(first.at).as_secs_f64(),
        [_] | [] => TICK.as_secs_f64(),
    };
    let counted = if recent.len() > 1 { &recent[1..] } else { recent };
    let mut latency = Coarse::default();
    let mut answers = [0_u32; 3];
    for tick in counted {
        latency.add(&tick.latency);
        for (sum, count) in answers.iter_mut().zip(tick.answers) {
            *sum += count;
        }
    }
    let names = swarm.states.names();
    let states = names.into_iter().zip(&last.states).filter(|(_, count)| **count > 0);
    let watched = swarm.options.watched.iter().map(|one| one.name.as_str()).chain(["swarm"]);
    let first: &[Option<Sample>] = recent.first().map_or(&[], |tick| &tick.processes);
    let processes = watched.zip(first.iter().zip(&last.processes)).filter_map(|(name, (first, last))| {
        let (first, last) = ((*first)?, (*last)?);
        let cores = last.cpu.saturating_sub(first.cpu).as_secs_f64() / span.max(1e-3);
        Some((name.to_owned(), cores, last.rss))
    });
    Status {
        elapsed: swarm.recorder.began().elapsed(),
        phase: now.phase,
        place: now.place,
        nodes: now.nodes,
        reached: tally.reached,
        failed: tally.failed,
        in_phase: now.began.elapsed(),
        per_second: answers.map(|count| f64::from(count) / span.max(1e-3)),
        latency: latency.quantile(0.5).zip(latency.quantile(0.99)),
        turned_away: swarm.recorder.totals().1,
        states: states.map(|(name, count)| (name, *count)).collect(),
        processes: processes.collect(),
    }
}
