//! The stage of these tests: a conductor that the test plays, one machine, and the words between them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ferric_machine::BootDevice;
use ferric_sim::{Faults, Fleet, FleetOptions, Machine, MachineFaults, MachineView};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub(crate) const NODE: &str = "8f2e6b9c-0c5d-4b7e-9a55-2f3c1d0e4a11";
pub(crate) const TOKEN: &str = "token-of-the-test";
/// What has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the conductor was told, and what it lays out.
#[derive(Default)]
pub(crate) struct Told {
    /// Queries of lookups.
    pub(crate) lookups: Vec<String>,
    /// Bodies of inspections.
    pub(crate) inspected: Vec<Value>,
    /// The boot script of the only machine; 404 when there is none.
    pub(crate) script: Option<String>,
    /// Vendor methods that were called: path and body.
    pub(crate) calls: Vec<(String, Value)>,
    /// The next requests are answered 503.
    pub(crate) busy: u32,
}

pub(crate) struct Conductor {
    pub(crate) url: String,
    heartbeats: mpsc::UnboundedReceiver<Value>,
    pub(crate) told: Arc<Mutex<Told>>,
}

impl Conductor {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (beats, heartbeats) = mpsc::unbounded_channel();
        let told = Arc::new(Mutex::new(Told::default()));
        let all = told.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (beats, all) = (beats.clone(), all.clone());
                let service =
                    hyper::service::service_fn(move |request| api(beats.clone(), all.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
                );
            }
        });
        Self { url, heartbeats, told }
    }

    pub(crate) async fn heartbeat(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.heartbeats.recv())
            .await
            .expect("a heartbeat within a minute")
            .unwrap()
    }

    /// Heartbeats that nobody has looked at yet.
    pub(crate) fn waiting(&self) -> usize {
        self.heartbeats.len()
    }
}

async fn api(
    beats: mpsc::UnboundedSender<Value>,
    told: Arc<Mutex<Told>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let version =
        request.headers().get("X-OpenStack-Ironic-API-Version").map(|v| v.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let json_body = || serde_json::from_slice::<Value>(&body).unwrap();
    let mut told = told.lock().unwrap();
    let (status, answer) = if told.busy > 0 {
        told.busy -= 1;
        (503, String::new())
    } else if path.starts_with("/boot/") {
        match &told.script {
            Some(script) => (200, script.clone()),
            None => (404, String::new()),
        }
    } else if path.contains("/vendor_passthru/") {
        told.calls.push((path, json_body()));
        (202, String::new())
    } else if path == "/v1/continue_inspection" {
        assert_eq!(version, None, "inspection speaks without a version");
        told.inspected.push(json_body());
        (202, json!({"uuid": NODE, "links": []}).to_string())
    } else if path == "/v1/lookup" {
        assert_eq!(version.as_deref(), Some("1.62"));
        told.lookups.push(query);
        let node =
            json!({"node": {"uuid": NODE}, "config": {"heartbeat_timeout": 300, "agent_token": TOKEN}});
        // an agent tries again
        if told.lookups.len() == 1 { (404, "{}".to_owned()) } else { (200, node.to_string()) }
    } else {
        assert_eq!(path, format!("/v1/heartbeat/{NODE}"));
        assert_eq!(version.as_deref(), Some("1.68"));
        let _ = beats.send(json_body());
        (202, String::new())
    };
    Ok(Response::builder().status(status).body(Full::new(answer.into())).unwrap())
}

pub(crate) fn options(faults: MachineFaults) -> FleetOptions {
    FleetOptions {
        nodes: 1,
        bmc_port: 0,
        bmc_address: std::net::Ipv4Addr::new(127, 0, 0, 1),
        boot_delay: (Duration::from_millis(10), Duration::from_millis(30)),
        disk_bytes_per_second: None,
        disk_bytes: 1 << 20,
        faults: Faults { machines: [("sim-0001".to_owned(), faults)].into(), ..Faults::default() },
        ..FleetOptions::default()
    }
}

pub(crate) async fn booted(faults: MachineFaults) -> (Fleet, Arc<Machine>, Conductor, String) {
    booted_with(options(faults)).await
}

/// A fleet of one whose ramdisk runs, with its agent's URL.
pub(crate) async fn booted_with(options: FleetOptions) -> (Fleet, Arc<Machine>, Conductor, String) {
    let mut conductor = Conductor::start().await;
    let fleet = Fleet::start(options).await.unwrap();
    fleet.set_api_url(&conductor.url);
    let machine = fleet.machines()[0].clone();
    machine.set_boot_device(BootDevice::Pxe, false);
    machine.power_on();
    let beat = conductor.heartbeat().await;
    assert_eq!(beat["agent_token"], TOKEN);
    let url = beat["callback_url"].as_str().unwrap().to_owned();
    (fleet, machine, conductor, url)
}

pub(crate) async fn post(url: &str, wait: bool, name: &str, params: Value) -> (u16, Value) {
    let answer = reqwest::Client::new()
        .post(format!("{url}/v1/commands/?wait={wait}&agent_token={TOKEN}"))
        .json(&json!({"name": name, "params": params}))
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

pub(crate) fn write_image(url: &str, checksum: &str) -> Value {
    json!({"step": {"interface": "deploy", "step": "write_image", "priority": 80, "args": {
        "image_info": {"id": "demo", "urls": [url], "checksum": checksum}, "configdrive": "aGk="}},
        "node": {}, "ports": [], "deploy_version": null})
}

pub(crate) const ZEROS_SHA256: &str = "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7"; // of 4096 zero bytes

/// Waits until `holds` is true of the machine.
pub(crate) async fn until(machine: &Machine, holds: impl Fn(&MachineView) -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let view = machine.view();
        if holds(&view) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{view:?}");
        tokio::task::yield_now().await;
    }
}
