//! `GET /metrics`: what Prometheus collects, as OpenMetrics text. Like `/healthz` it asks nobody who they are, and it
//! tells no secrets; `[metrics] enabled = false` takes it away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, Data, ServiceConfig};
use ferric_actors::metrics::{self, Snapshot};
use ferric_actors::{Directory, Health};
use ferric_schema::nodes;
use tokio::sync::Mutex;

use crate::error::{ApiError, Result};
use crate::overload::{ClassCounts, Counts};
use crate::routes::at::exactly;
use crate::routes::read;
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(exactly("/metrics").get(text));
}

/// Who asks so soon after another is told the same: to make it is work that grows with the fleet.
const SHARED: Duration = Duration::from_secs(1);

/// What was told last, and when it was made.
#[derive(Debug, Default)]
pub(crate) struct Told(Arc<Mutex<Option<(Instant, Bytes)>>>);

async fn text(state: Data<WebState>) -> Result<HttpResponse> {
    if !state.settings.metrics {
        return Err(ApiError::no_path());
    }
    // one at a time makes it, the others wait for that
    let mut told = Arc::clone(&state.told.0).lock_owned().await;
    let text = match &*told {
        Some((made, text)) if made.elapsed() < SHARED => text.clone(),
        Some(_) | None => {
            // in a task of its own: a client that hangs up does not have it made twice at once
            let made = tokio::spawn(async move {
                let text = written(&state).await?;
                *told = Some((Instant::now(), text.clone()));
                let again = Arc::clone(&state.told.0);
                // tens of megabytes are not kept for nobody
                drop(tokio::spawn(async move {
                    tokio::time::sleep(SHARED).await;
                    again.lock().await.take_if(|(made, _)| made.elapsed() >= SHARED);
                }));
                Ok::<_, ApiError>(text)
            });
            made.await.map_err(|_| ApiError::internal("the metrics could not be written"))??
        }
    };
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, metrics::CONTENT_TYPE)).body(text))
}

async fn written(state: &Data<WebState>) -> Result<Bytes> {
    let mut now = Snapshot::default();
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    now.gauges("ferric_build", "The release that runs.", [(version, 1.0)]);
    match read(state, nodes::count_alike).await {
        Ok(counts) => fleet(&mut now, counts),
        // what else there is to tell is wanted most when the database is away
        Err(_) => now.gauge("ferric_database_up", "Whether the database answers.", 0.0),
    }
    // a fleet has many sensors, and a worker has others to serve
    let state = Data::clone(state);
    let text = actix_web::web::block(move || {
        conductor(&mut now, &state.directory);
        power_sync(&mut now, &state.directory);
        admission(&mut now, &state.overload.counts());
        sensors(&mut now, &state.directory);
        process(&mut now);
        now.text()
    });
    let text = text.await.ok().and_then(std::result::Result::ok);
    let text = text.ok_or_else(|| ApiError::internal("the metrics could not be written"))?;
    Ok(Bytes::from(text))
}

fn fleet(now: &mut Snapshot, counts: Vec<nodes::NodeCount>) {
    now.gauge("ferric_database_up", "Whether the database answers.", 1.0);
    let row = |count: nodes::NodeCount| {
        let labels = vec![
            ("provision_state", count.provision_state.to_string()),
            (
                "power_state",
                count.power_state.map_or_else(|| "unknown".to_owned(), |state| state.to_string()),
            ),
            ("maintenance", count.maintenance.to_string()),
            ("fault", count.fault.map_or_else(|| "none".to_owned(), |fault| fault.to_string())),
        ];
        // no fleet has more nodes than a float has whole numbers
        (labels, u32::try_from(count.count).map_or(f64::MAX, f64::from))
    };
    now.gauges("ferric_nodes", "Nodes by state.", counts.into_iter().map(row));
}

#[allow(clippy::cast_precision_loss)] // of counters beyond 2^53
fn conductor(now: &mut Snapshot, directory: &Directory) {
    let queues = directory.queue();
    let lengths = queues.iter().map(|(kind, line)| (vec![("kind", (*kind).to_owned())], line.len() as f64));
    now.gauges("ferric_queue_length", "Nodes that wait for a place.", lengths);
    let Some(writer) = directory.store().writer_stats() else { return };
    now.counter("ferric_database_commits", "Transactions committed.", writer.commits as f64);
    now.counter("ferric_database_jobs", "Changes in these transactions.", writer.jobs as f64);
    now.counter("ferric_database_failed_jobs", "Changes that were rolled back alone.", writer.failed as f64);
    now.counter(
        "ferric_database_lost_commits",
        "Transactions that were lost as a whole.",
        writer.lost as f64,
    );
    now.gauge("ferric_database_waiting_jobs", "Changes that wait for their turn.", writer.waiting as f64);
    now.counter(
        "ferric_database_commit_seconds",
        "Time that the writer spent on transactions, committed or lost.",
        writer.busy.as_secs_f64(),
    );
}

/// What came to the API, and what of it was refused because there was too much.
#[allow(clippy::cast_precision_loss)] // of counters beyond 2^53
fn admission(now: &mut Snapshot, counts: &Counts) {
    let class = |one: &ClassCounts| vec![("class", one.class.as_str().to_owned())];
    let all = &counts.classes;
    now.counters(
        "ferric_api_admitted",
        "Requests that were given a place, by class.",
        all.iter().map(|one| (class(one), one.admitted as f64)),
    );
    now.counters(
        "ferric_api_refused",
        "Requests that were answered 503 because there was no place, by class and reason.",
        all.iter().flat_map(|one| {
            one.refused.iter().map(move |(why, times)| {
                (
                    vec![("class", one.class.as_str().to_owned()), ("reason", why.as_str().to_owned())],
                    *times as f64,
                )
            })
        }),
    );
    now.counters(
        "ferric_api_wait_seconds",
        "Time that requests waited for a place which they got, by class.",
        all.iter().map(|one| (class(one), one.waited.as_secs_f64())),
    );
    now.gauges(
        "ferric_api_waiting",
        "Requests that wait for a place, by class.",
        all.iter().map(|one| (class(one), one.waiting as f64)),
    );
    now.gauges(
        "ferric_api_working",
        "Requests that have a place, by class.",
        all.iter().map(|one| (class(one), one.working as f64)),
    );
    now.gauge(
        "ferric_api_unsent_bytes",
        "Bytes of large answers that their clients have not taken yet.",
        counts.answers as f64,
    );
    now.gauge(
        "ferric_api_lag_seconds",
        "How late a thread of the API came at the most to what was ready, since this was told before.",
        counts.lag.as_secs_f64(),
    );
}

/// How the looks at the power of the fleet go.
#[allow(clippy::cast_precision_loss)] // no fleet has 2^53 nodes
fn power_sync(now: &mut Snapshot, directory: &Directory) {
    let told = directory.power_sync();
    now.gauge("ferric_power_sync_nodes", "Nodes whose power is looked at.", told.nodes as f64);
    now.gauge(
        "ferric_power_sync_silent_nodes",
        "Those whose BMC did not answer the last look.",
        told.silent as f64,
    );
    now.gauge(
        "ferric_power_sync_not_asked_nodes",
        "Those whose BMC the last look did not ask, because it was silent before.",
        told.not_asked as f64,
    );
    now.gauge(
        "ferric_power_sync_lag_seconds",
        "Age of the oldest reading among the nodes whose BMCs answer.",
        told.lag.as_secs_f64(),
    );
    now.gauge("ferric_power_sync_under_way", "Looks under way.", told.under_way as f64);
    let quantiles = |told: ferric_actors::Percentiles| {
        [("0.5", told.p50), ("0.9", told.p90), ("0.99", told.p99), ("1", told.longest)]
            .map(|(quantile, took)| (vec![("quantile", quantile.to_owned())], took.as_secs_f64()))
    };
    now.gauges(
        "ferric_power_sync_round_trip_seconds",
        "How long BMCs took to tell the power, in the last full interval.",
        quantiles(told.readings),
    );
    let number = told.last_sweep.as_ref().map_or(0, |last| last.number);
    now.counter("ferric_power_sweeps", "Sweeps that ended.", number as f64);
    let Some(last) = told.last_sweep else { return };
    let at = |at: ferric_machine::Timestamp| at.0 as f64 / 1e6;
    now.gauge(
        "ferric_power_sweep_began_seconds",
        "When the last sweep began, since the epoch.",
        at(last.began),
    );
    if let Some(ended) = last.ended {
        now.gauge("ferric_power_sweep_ended_seconds", "When it ended.", at(ended));
    }
    now.gauge("ferric_power_sweep_duration_seconds", "How long it took.", last.took.as_secs_f64());
    let outcomes = [("answered", last.answered), ("silent", last.silent), ("left_out", last.left_out)];
    now.gauges(
        "ferric_power_sweep_nodes",
        "What became of the nodes in it.",
        outcomes.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count as f64)),
    );
    now.gauges(
        "ferric_power_sweep_round_trip_seconds",
        "How long the BMCs took in it that answered.",
        quantiles(last.readings),
    );
}

/// What the periodic look at the sensors found; nothing while it is off.
fn sensors(now: &mut Snapshot, directory: &Directory) {
    let wanted = &directory.settings().sensors;
    if wanted.interval.is_zero() {
        return;
    }
    let all = directory.readings();
    let node = |id: &uuid::Uuid| ("node", id.to_string());
    let health = all.iter().map(|(id, read)| {
        let value = match read.health {
            Health::Unknown => -1.0,
            Health::Ok => 0.0,
            Health::Warning => 1.0,
            Health::Critical => 2.0,
        };
        (vec![node(id)], value)
    });
    now.gauges("ferric_node_health", "0 ok, 1 warning, 2 critical, -1 unknown.", health);
    let at = directory.now();
    let ages = all.iter().map(|(id, read)| (vec![node(id)], at.since(read.read_at).as_secs_f64()));
    now.gauges("ferric_node_sensor_age_seconds", "How long ago the sensors were read.", ages);
    let values = all.iter().flat_map(|(id, read)| {
        let told = read.sensors.iter().filter(|sensor| wanted.wants(&sensor.kind));
        told.filter_map(move |sensor| {
            let labels = vec![
                node(id),
                ("sensor", sensor.name.clone()),
                ("number", sensor.number.to_string()),
                ("type", sensor.kind.clone()),
                ("unit", sensor.unit.clone().unwrap_or_default()),
            ];
            sensor.value.map(|value| (labels, value))
        })
    });
    now.gauges("ferric_sensor_value", "The reading of a sensor, in its unit.", values);
}

/// This process, under the names that every Prometheus client has.
fn process(now: &mut Snapshot) {
    let Some(process) = Process::read() else { return };
    now.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", process.resident);
    now.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", process.virtual_size);
    now.counter("process_cpu_seconds", "User and system CPU time spent in seconds.", process.cpu);
    now.gauge("process_start_time_seconds", "Start time since the epoch in seconds.", process.started);
    now.gauge("process_threads", "Threads.", process.threads);
    if let Some(files) = process.files {
        now.gauge("process_open_fds", "Open file descriptors.", files);
    }
}

struct Process {
    resident: f64,
    virtual_size: f64,
    cpu: f64,
    started: f64,
    threads: f64,
    files: Option<f64>,
}

impl Process {
    /// From `/proc`, whose files are no disk's; `None` where that is not mounted.
    fn read() -> Option<Process> {
        /// USER_HZ, which every architecture that Linux tells programs of has at 100.
        const TICKS: f64 = 100.0;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // the name of the program, in parentheses, may have anything in it
        let fields: Vec<f64> =
            stat.rsplit_once(')')?.1.split_whitespace().map(|word| word.parse().unwrap_or(0.0)).collect();
        // counted from the state, which is field 3 of proc(5)
        let field = |number: usize| fields.get(number - 3).copied();
        let memory = std::fs::read_to_string("/proc/self/status").ok()?;
        let resident = memory
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
        let booted = std::fs::read_to_string("/proc/stat").ok()?;
        let booted =
            booted.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok())?;
        let files = std::fs::read_dir("/proc/self/fd")
            .ok()
            .map(|all| u32::try_from(all.count()).map_or(0.0, f64::from));
        Some(Process {
            resident: resident? * 1024.0,
            virtual_size: field(23)?,
            cpu: (field(14)? + field(15)?) / TICKS,
            started: booted + field(22)? / TICKS,
            threads: field(20)?,
            files,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_a_time_of_its_own() {
        let process = Process::read().expect("/proc is mounted");
        assert!(process.resident > 1e6 && process.virtual_size > process.resident);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let age = since.as_secs_f64() - process.started;
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        assert!(process.threads >= 1.0 && process.files.is_some_and(|files| files > 2.0));
    }
}
