//! A day of a fleet on virtual time: everything that can happen happens, a conductor of the test's own copes, and the
//! same seed gives the same day.
#![allow(clippy::unwrap_used)] // tests say what broke by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ferric_drivers::protocol::ipmi::packet::{Datagram, PayloadType, plain};
use ferric_drivers::protocol::ipmi::rakp::{OpenRequest, OpenResponse};
use ferric_machine::BootDevice;
use ferric_sim::bmc::Air;
use ferric_sim::{Call, Faults, Fleet, FleetOptions, Kind, Network, Phase, Replied, Reply, sha256_hex};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

const MACHINES: usize = 300;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const TOKEN: &str = "token";

/// All that the documentation shows but the storm, which needs sockets.
const FAULTS: &str = r#"{
    "slower": 0.05, "rack_size": 20, "download_errors": 0.02, "dies_mid_write": 0.02,
    "happens": [
        {"fault": "rack_power", "rate_per_hour": 0.5, "for": "10 min"},
        {"fault": "rack_power", "at": "3 h", "for": "1 min", "racks": [2, 3], "policy": "always_on"},
        {"fault": "silent_bmc", "rate_per_hour": 12, "for": "2 min"},
        {"fault": "slow_bmc", "median": "400 ms", "p99": "4 s", "at": "1 h", "for": "6 h", "share": 0.1},
        {"fault": "wrong_power_state", "at": "5 h", "for": "1 h", "count": 10},
        {"fault": "packets", "lost": 0.02, "duplicated": {"from_bmc": 0.02}, "reordered": 0.05},
        {"fault": "agent_dies", "rate_per_hour": 30},
        {"fault": "disk_error", "rate_per_hour": 6, "for": "10 min", "count": 3},
        {"fault": "checksum_error", "at": "7 h", "for": "20 min", "share": 0.5}
    ]
}"#;

#[derive(Debug, PartialEq)]
enum Line {
    Beat(String),
    Done(usize, String),
    Pong(usize),
}

/// The conductor's end of the world: it notes what comes and when.
struct Conductor {
    began: Instant,
    /// Machines by MAC.
    by_mac: OnceLock<BTreeMap<String, usize>>,
    beats: mpsc::UnboundedSender<(usize, String)>,
    trace: Mutex<Vec<(Duration, Line)>>,
}

impl Conductor {
    fn note(&self, line: Line) {
        self.trace.lock().unwrap().push((self.began.elapsed(), line));
    }
}

impl Network for Conductor {
    fn call(&self, call: Call) -> Replied<'_> {
        let told = |status, body: Value| Ok(Reply { status, body: Bytes::from(body.to_string()) });
        let (_, path) = call.url.split_once("api.sim").unwrap();
        let answer = if let Some((_, mac)) = path.split_once("addresses=") {
            let index = self.by_mac.get().unwrap()[mac];
            told(
                200,
                json!({"node": {"uuid": index.to_string()},
                "config": {"heartbeat_timeout": 300, "agent_token": TOKEN}}),
            )
        } else {
            let id = path.strip_prefix("/v1/heartbeat/").unwrap().to_owned();
            let url = call.body.unwrap()["callback_url"].as_str().unwrap().to_owned();
            let _ = self.beats.send((id.parse().unwrap(), url));
            self.note(Line::Beat(id));
            told(202, json!({}))
        };
        Box::pin(std::future::ready(answer))
    }
}

/// Whether the command that `write` started last went well, once it has ended; `None` when the agent is gone.
async fn deploy(fleet: &Fleet, url: &str, image: &str, sha256: &str) -> Option<String> {
    let ask = async |method: &str, path: &str, body: Value| {
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("{url}{path}"))
            .body(Bytes::from(body.to_string()))
            .unwrap();
        let (_, body) = fleet.ask_agent(request).await?;
        serde_json::from_slice::<Value>(&body).ok()
    };
    let step = json!({"name": "deploy.execute_deploy_step", "params": {
        "step": {"interface": "deploy", "step": "write_image", "priority": 80, "args": {
            "image_info": {"id": "day", "urls": [image], "checksum": sha256}}},
        "node": {}, "ports": [], "deploy_version": null}});
    let path = format!("/v1/commands/?wait=false&agent_token={TOKEN}");
    let id = ask("POST", &path, step).await?["id"].as_str()?.to_owned();
    let path = format!("/v1/commands/{id}?wait=true&agent_token={TOKEN}");
    let ended = ask("GET", &path, Value::Null).await?;
    let error = ended["command_error"]["type"].as_str();
    Some(error.map_or_else(|| ended["command_status"].to_string(), str::to_owned))
}

/// A life of so long: what was seen, what happened, what the machines did at the end.
async fn live(
    seed: u64,
    long: Duration,
) -> (Vec<(Duration, Line)>, Vec<ferric_sim::Happened>, Vec<(Phase, u64, u64)>) {
    let (beats, mut beaten) = mpsc::unbounded_channel();
    let conductor = Arc::new(Conductor {
        began: Instant::now(),
        by_mac: OnceLock::new(),
        beats,
        trace: Mutex::default(),
    });
    let faults: Faults = serde_json::from_str(FAULTS).unwrap();
    let options = FleetOptions { nodes: MACHINES, seed, faults, ..FleetOptions::default() };
    let first = options.bmc_address;
    let air: Air = {
        let conductor = conductor.clone();
        Arc::new(move |from: SocketAddr, _, datagram: &[u8]| {
            // what opens a session holds the BMC's random numbers: that it came is what counts
            let Ok(Datagram::Plus(plus)) = Datagram::decode(datagram) else { return };
            let known = (0..MACHINES)
                .find(|index| from.ip() == ferric_sim::bmc::BmcFleet::address(first, *index))
                .unwrap();
            assert!(OpenResponse::decode(plus.payload).is_ok_and(|opened| opened.outcome.is_ok()));
            conductor.note(Line::Pong(known));
        })
    };
    let fleet = Arc::new(Fleet::in_process(options, conductor.clone(), &air));
    fleet.set_api_url("http://api.sim");
    let macs = fleet.machines().iter().enumerate().map(|(index, machine)| (machine.mac.clone(), index));
    conductor.by_mac.set(macs.collect()).unwrap();
    let content = Bytes::from(vec![7; 8 << 20]);
    let sha256 = sha256_hex(&content);
    let image = fleet.publish_image("day.img", content);

    // each machine is deployed when its ramdisk calls, runs for an hour, and is deployed again
    let deployer = {
        let (fleet, conductor) = (fleet.clone(), conductor.clone());
        tokio::spawn(async move {
            let busy = Arc::new(Mutex::new(BTreeSet::new()));
            while let Some((index, url)) = beaten.recv().await {
                if !busy.lock().unwrap().insert(index) {
                    continue;
                }
                let (fleet, conductor, busy) = (fleet.clone(), conductor.clone(), busy.clone());
                let (image, sha256) = (image.clone(), sha256.clone());
                tokio::spawn(async move {
                    let ended = deploy(&fleet, &url, &image, &sha256).await;
                    let machine = &fleet.machines()[index];
                    match ended.as_deref() {
                        // from its disk
                        Some(ended) if ended.contains("SUCCEEDED") => machine.power_cycle(),
                        Some(_) => machine.power_off(),
                        None => {}
                    }
                    conductor.note(Line::Done(index, ended.unwrap_or_else(|| "gone".to_owned())));
                    busy.lock().unwrap().remove(&index);
                });
            }
        })
    };
    let console = SocketAddr::from(([127, 0, 0, 1], 999));
    let mut round = 0_u32;
    while conductor.began.elapsed() < long {
        for (index, machine) in fleet.machines().iter().enumerate() {
            let open = OpenRequest { tag: 0, console_id: round + 1, algorithms: [3, 4, 1] };
            fleet.datagram(index, console, &plain(PayloadType::OpenSessionRequest, &open.encode()));
            // each of them once an hour, and those that are off
            if round % 6 == index as u32 % 6 || !machine.is_on() {
                machine.set_boot_device(BootDevice::Pxe, false);
                machine.power_cycle();
            }
        }
        round += 1;
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    deployer.abort();
    let ends = fleet
        .machines()
        .iter()
        .map(|machine| {
            let view = machine.view();
            (view.phase, view.boots, view.disk.writes)
        })
        .collect();
    let trace = std::mem::take(&mut *conductor.trace.lock().unwrap());
    (trace, fleet.chronicle(), ends)
}

#[tokio::test(start_paused = true)]
async fn a_day_of_faults_passes_in_seconds_and_the_seed_decides_all_of_it() {
    let (trace, chronicle, ends) = live(11, DAY).await;
    let begun = |kind| chronicle.iter().filter(|one| one.kind == kind && one.begins).count();
    for kind in [
        Kind::RackPower,
        Kind::SilentBmc,
        Kind::SlowBmc,
        Kind::WrongPowerState,
        Kind::Packets,
        Kind::AgentDies,
        Kind::DiskError,
        Kind::ChecksumError,
    ] {
        assert!(begun(kind) > 0, "{} never happened", kind.name());
    }
    assert!((200..400).contains(&begun(Kind::SilentBmc)), "{} times at 12 an hour", begun(Kind::SilentBmc));
    let ended = |how: &str| {
        trace.iter().filter(|(_, line)| matches!(line, Line::Done(_, text) if text.contains(how))).count()
    };
    assert!(ended("SUCCEEDED") > MACHINES, "{} deployments", ended("SUCCEEDED"));
    assert!(ended("gone") > 0 && ended("ImageChecksumError") > 0 && ended("ImageWriteError") > 0);
    let asked = 144 * MACHINES;
    let pongs = trace.iter().filter(|(_, line)| matches!(line, Line::Pong(_))).count();
    assert!(pongs > asked * 8 / 10 && pongs < asked, "{pongs} of {asked} answered");

    let (again, same, alike) = live(11, DAY).await;
    if let Some(at) = (0..trace.len().max(again.len())).find(|at| trace.get(*at) != again.get(*at)) {
        panic!("the days part at {at}: {:?} and {:?}", trace.get(at), again.get(at));
    }
    assert_eq!(chronicle, same);
    assert_eq!(ends, alike);
    // which shows within an hour
    let of_first_hour = |trace: &[(Duration, Line)]| trace.partition_point(|(at, _)| *at < HOUR);
    let (other, ..) = live(12, HOUR).await;
    let hour = of_first_hour(&trace);
    assert!(hour > MACHINES);
    assert_ne!(trace[..hour], other[..of_first_hour(&other)], "another seed gives another day");
}
