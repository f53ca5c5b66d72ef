//! The simulated agent against a conductor that the test plays: the protocol as deploy.md §B.2 tells it.
#![allow(clippy::unwrap_used)] // tests say what broke by panicking

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ferric_machine::BootDevice;
use ferric_sim::{Faults, Fleet, FleetOptions, Machine, MachineFaults, Phase};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const NODE: &str = "8f2e6b9c-0c5d-4b7e-9a55-2f3c1d0e4a11";
const TOKEN: &str = "token-of-the-test";

struct Conductor {
    url: String,
    heartbeats: mpsc::UnboundedReceiver<Value>,
    lookups: Arc<Mutex<Vec<String>>>,
}

impl Conductor {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (beats, heartbeats) = mpsc::unbounded_channel();
        let lookups = Arc::new(Mutex::new(Vec::new()));
        let seen = lookups.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (beats, seen) = (beats.clone(), seen.clone());
                let service =
                    hyper::service::service_fn(move |request| api(beats.clone(), seen.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
                );
            }
        });
        Self { url, heartbeats, lookups }
    }

    async fn heartbeat(&mut self) -> Value {
        tokio::time::timeout(Duration::from_secs(10), self.heartbeats.recv())
            .await
            .expect("a heartbeat within 10 s")
            .unwrap()
    }
}

async fn api(
    beats: mpsc::UnboundedSender<Value>,
    lookups: Arc<Mutex<Vec<String>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let version =
        request.headers().get("X-OpenStack-Ironic-API-Version").map(|v| v.to_str().unwrap().to_owned());
    let (status, body) = if path == "/v1/lookup" {
        assert_eq!(version.as_deref(), Some("1.62"));
        let mut lookups = lookups.lock().unwrap();
        lookups.push(request.uri().query().unwrap_or_default().to_owned());
        if lookups.len() == 1 {
            (404, json!({})) // an agent tries again
        } else {
            (200, json!({"node": {"uuid": NODE}, "config": {"heartbeat_timeout": 300, "agent_token": TOKEN}}))
        }
    } else {
        assert_eq!(path, format!("/v1/heartbeat/{NODE}"));
        assert_eq!(version.as_deref(), Some("1.68"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let _ = beats.send(serde_json::from_slice(&body).unwrap());
        (202, Value::Null)
    };
    Ok(Response::builder().status(status).body(Full::new(body.to_string().into())).unwrap())
}

fn options(faults: MachineFaults) -> FleetOptions {
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

async fn booted(faults: MachineFaults) -> (Fleet, Arc<Machine>, Conductor, String) {
    let mut conductor = Conductor::start().await;
    let fleet = Fleet::start(options(faults)).await.unwrap();
    fleet.set_api_url(&conductor.url);
    let machine = fleet.machines()[0].clone();
    machine.set_boot_device(BootDevice::Pxe, false);
    machine.power_on();
    let beat = conductor.heartbeat().await;
    assert_eq!(beat["agent_token"], TOKEN);
    let url = beat["callback_url"].as_str().unwrap().to_owned();
    (fleet, machine, conductor, url)
}

async fn post(url: &str, wait: bool, name: &str, params: Value) -> (u16, Value) {
    let answer = reqwest::Client::new()
        .post(format!("{url}/v1/commands/?wait={wait}&agent_token={TOKEN}"))
        .json(&json!({"name": name, "params": params}))
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn write_image(url: &str, checksum: &str) -> Value {
    json!({"step": {"interface": "deploy", "step": "write_image", "priority": 80, "args": {
        "image_info": {"id": "demo", "urls": [url], "checksum": checksum}, "configdrive": "aGk="}},
        "node": {}, "ports": [], "deploy_version": null})
}

const ZEROS_SHA256: &str = "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7"; // of 4096 zero bytes

#[tokio::test]
async fn an_agent_is_looked_up_by_its_mac_and_tries_again_after_a_404() {
    let (_fleet, machine, conductor, url) = booted(MachineFaults::default()).await;
    let lookups = conductor.lookups.lock().unwrap().clone();
    assert_eq!(lookups, [format!("addresses={}", machine.mac), format!("addresses={}", machine.mac)]);
    assert!(url.ends_with(&machine.mac.replace(':', "")));
    assert_eq!(machine.view().phase, Phase::Ramdisk);
}

#[tokio::test]
async fn an_image_is_written_the_step_echoed_and_a_heartbeat_sent_at_once() {
    let (fleet, machine, mut conductor, url) = booted(MachineFaults::default()).await;
    let image = fleet.publish_image("demo.img", Bytes::from(vec![0; 4096]));
    let (status, steps) = post(&url, true, "deploy.get_deploy_steps", json!({"node": {}, "ports": []})).await;
    assert_eq!(status, 200);
    assert_eq!(steps["command_status"], "SUCCEEDED");
    let params = write_image(&image, ZEROS_SHA256);
    let (status, command) = post(&url, false, "deploy.execute_deploy_step", params.clone()).await;
    assert_eq!((status, &command["command_name"]), (200, &json!("execute_deploy_step")));
    conductor.heartbeat().await;
    let list: Value =
        reqwest::get(format!("{url}/v1/commands/?agent_token={TOKEN}")).await.unwrap().json().await.unwrap();
    let last = list["commands"].as_array().unwrap().last().unwrap();
    assert_eq!(last["command_status"], "SUCCEEDED", "{last}");
    assert_eq!(last["command_result"]["deploy_step"], params["step"]);
    let written = machine.view().disk.written.expect("the disk holds the image");
    assert_eq!((written.bytes, written.sha256.as_str(), written.configdrive), (4096, ZEROS_SHA256, true));
    machine.power_off();
    machine.power_on(); // pxe was for one boot
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while machine.view().phase != Phase::Instance {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", machine.view());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_wrong_checksum_a_missing_image_and_a_small_disk_each_fail_with_their_own_error() {
    let (fleet, machine, _conductor, url) = booted(MachineFaults::default()).await;
    let image = fleet.publish_image("demo.img", Bytes::from(vec![1; 4096]));
    let huge = fleet.publish_image("huge.img", Bytes::from(vec![1; 2 << 20]));
    for (image, kind) in [
        (image.as_str(), "ImageChecksumError"),
        (&format!("{image}-not"), "ImageDownloadError"),
        (&huge, "ImageWriteError"),
    ] {
        let (_, command) =
            post(&url, true, "deploy.execute_deploy_step", write_image(image, ZEROS_SHA256)).await;
        assert_eq!(
            (&command["command_status"], &command["command_error"]["type"]),
            (&json!("FAILED"), &json!(kind))
        );
    }
    assert_eq!(machine.view().disk.written, None);
}

#[tokio::test]
async fn a_wrong_token_is_401_an_unknown_command_404_and_a_second_write_409() {
    let (fleet, _machine, _conductor, url) = booted(MachineFaults::default()).await;
    let stranger = reqwest::get(format!("{url}/v1/commands/?agent_token=guess")).await.unwrap();
    assert_eq!(stranger.status(), 401);
    assert_eq!(post(&url, true, "standby.dance", json!({})).await.0, 404);
    assert_eq!(post(&url, true, "deploy.execute_deploy_step", json!({"step": {"step": "no"}})).await.0, 404);
    // a server that accepts and says nothing keeps the first write busy
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let image = format!("http://{}/image", mute.local_addr().unwrap());
    let first = post(&url, false, "deploy.execute_deploy_step", write_image(&image, ZEROS_SHA256)).await;
    assert_eq!((first.0, &first.1["command_status"]), (200, &json!("RUNNING")));
    let (status, body) =
        post(&url, false, "deploy.execute_deploy_step", write_image(&image, ZEROS_SHA256)).await;
    assert_eq!((status, &body["type"]), (409, &json!("AgentIsBusy")));
    assert_eq!(post(&url, true, "standby.sync", json!({})).await.0, 200, "a sync command may run beside it");
    drop(fleet);
}

#[tokio::test]
async fn an_agent_that_dies_mid_write_is_gone_and_the_next_boot_goes_well() {
    let faults = MachineFaults { dies_mid_write: 1, ..MachineFaults::default() };
    let (fleet, machine, mut conductor, url) = booted(faults).await;
    let image = fleet.publish_image("demo.img", Bytes::from(vec![0; 4096]));
    let command = reqwest::Client::new()
        .post(format!("{url}/v1/commands/?wait=true&agent_token={TOKEN}"))
        .json(&json!({"name": "deploy.execute_deploy_step", "params": write_image(&image, ZEROS_SHA256)}));
    assert!(command.send().await.is_err(), "a dead agent does not answer");
    assert_eq!(machine.view().phase, Phase::Stuck("its agent died"));
    machine.set_boot_device(BootDevice::Pxe, false);
    machine.power_cycle();
    conductor.heartbeat().await;
    let (_, command) =
        post(&url, true, "deploy.execute_deploy_step", write_image(&image, ZEROS_SHA256)).await;
    assert_eq!(command["command_status"], "SUCCEEDED");
}

#[tokio::test]
async fn power_off_through_the_agent_switches_the_machine_off() {
    let (_fleet, machine, _conductor, url) = booted(MachineFaults::default()).await;
    let (_, command) = post(&url, true, "standby.power_off", json!({})).await;
    assert_eq!(command["command_status"], "SUCCEEDED");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while machine.is_on() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert!(
        reqwest::get(format!("{url}/v1/commands/")).await.is_err(),
        "nobody answers on a machine that is off"
    );
}

#[tokio::test]
async fn the_enrolment_names_every_machine_with_its_bmc_and_port() {
    let fleet = Fleet::start(FleetOptions { nodes: 3, bmc_port: 0, ..options(MachineFaults::default()) })
        .await
        .unwrap();
    let all = fleet.enrolment();
    let nodes = all["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    for (node, machine) in nodes.iter().zip(fleet.machines()) {
        assert_eq!(node["driver_info"]["ipmi_port"], machine.bmc_address().port());
        assert_eq!(node["ports"][0]["address"], machine.mac);
    }
    fleet.stop().await;
}
