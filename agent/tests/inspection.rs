//! What is posted before the lookup, and how a rescued machine is left.

mod rig;

use std::fs;
use std::time::Duration;

use ferric_agent_wire::{CommandStatus, InspectionData};
use hyper::StatusCode;
use rig::*;
use serde_json::{Value, json};

async fn inspected(collectors: &str, trouble: &[StatusCode]) -> Rig {
    let machine = Machine::new();
    machine.add_disk("vda", 4 * GIB);
    machine.add_disk("vdb", 8 * GIB);
    // a card of the machine has a device behind it
    fs::create_dir_all(machine.folder.path().join("sys/class/net/eth0/device")).expect("dirs");
    Rig::with(machine, |options, world| {
        let url = format!("{}/v1/continue_inspection", options.api_urls[0]);
        let line = format!("ipa-inspection-callback-url={url} ipa-inspection-collectors={collectors}");
        options.read_kernel_line(&line);
        options.boot_mac = Some(MAC.to_owned());
        options.proc = options.state.join("proc");
        options.limits.back_off = Duration::from_millis(1);
        *world.inspection_trouble.lock().expect("lock") = trouble.to_vec();
    })
    .await
}

fn posted(rig: &Rig) -> Vec<(String, Value)> {
    rig.world.inspections.lock().expect("lock").clone()
}

#[tokio::test]
async fn the_inventory_arrives_before_the_lookup_which_asks_for_the_node_it_named() {
    let rig = inspected("default,logs", &[]).await;
    rig.world.beats(1).await;
    let posts = posted(&rig);
    assert_eq!(posts.len(), 1);
    assert_eq!(posts[0].0, "", "no version header: 1.1");
    let data: InspectionData = serde_json::from_value(posts[0].1.clone()).expect("an inspection");
    let inventory = data.inventory.expect("inventory");
    assert_eq!(inventory.interfaces[0].mac_address, MAC);
    assert_eq!(inventory.disks.iter().map(|disk| disk.size).collect::<Vec<_>>(), [4 * GIB, 8 * GIB]);
    assert_eq!(data.root_disk.expect("a root disk").name, "/dev/vda");
    assert_eq!(data.boot_interface.as_deref(), Some(MAC));
    assert!(data.error.is_none() && data.logs.is_some_and(|logs| logs.len() > 100));
    let configuration = data.configuration.expect("configuration");
    assert_eq!(configuration.collectors, ["default", "logs"]);
    assert_eq!(configuration.managers[0].name, "FerricHardwareManager");
    let lookups = rig.world.lookups.lock().expect("lock").clone();
    assert!(lookups[0].ends_with(&format!("node_uuid={INSPECTED}")), "{lookups:?}");
}

#[tokio::test]
async fn an_api_in_trouble_is_asked_five_times_and_then_the_node_is_looked_up_anyway() {
    let trouble = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::CONFLICT, StatusCode::BAD_GATEWAY];
    let rig = inspected("default", &trouble).await;
    rig.world.beats(1).await;
    assert_eq!(posted(&rig).len(), 4);
    let rig = inspected("default", &[StatusCode::SERVICE_UNAVAILABLE; 9]).await;
    rig.world.beats(1).await;
    assert_eq!(posted(&rig).len(), 5);
    assert!(!rig.world.lookups.lock().expect("lock")[0].contains("node_uuid"));
    let rig = inspected("default", &[StatusCode::BAD_REQUEST]).await;
    rig.world.beats(1).await;
    assert_eq!(posted(&rig).len(), 1, "a refusal is not repeated");
}

#[tokio::test]
async fn a_collector_that_fails_is_told_and_an_unknown_one_is_left_out() {
    let rig = inspected("default,pci-devices,dance", &[]).await;
    rig.world.beats(1).await;
    let body = posted(&rig).remove(0).1;
    let error = body["error"].as_str().expect("this machine has no PCI bus");
    assert!(error.contains("pci-devices") && !error.contains("dance"), "{error}");
    assert!(body["inventory"]["cpu"].is_object() && body.get("logs").is_none());
    assert_eq!(body["configuration"]["collectors"], json!(["default", "pci-devices", "dance"]));
}

#[tokio::test]
async fn an_agent_started_again_does_not_inspect_again() {
    let rig = inspected("default", &[]).await;
    rig.world.beats(1).await;
    let mut options = rig.options.clone();
    options.limits.heartbeat = Some(Duration::from_millis(10));
    rig.running.abort();
    let seen = rig.world.beat_count();
    let again = tokio::spawn(ferric_agent::agent::run(options));
    rig.world.beats(seen + 1).await;
    again.abort();
    assert_eq!(posted(&rig).len(), 1);
    let lookups = rig.world.lookups.lock().expect("lock").clone();
    assert!(lookups.last().expect("two").ends_with(&format!("node_uuid={INSPECTED}")), "{lookups:?}");
}

#[tokio::test]
async fn a_ramdisk_without_an_api_inspects_and_waits_to_be_switched_off() {
    let machine = Machine::new();
    let rig = Rig::with(machine, |options, _| {
        let url = format!("{}/v1/continue_inspection", options.api_urls[0]);
        options.api_urls = vec![String::new()];
        options.inspection.callback = vec![url];
        options.proc = options.state.join("proc");
    })
    .await;
    let marker = rig.options.state.join("ferric-inspected");
    let uuid = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            if let Ok(uuid) = fs::read_to_string(&marker)
                && !uuid.is_empty()
            {
                return uuid;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(uuid.await.expect("in time"), INSPECTED);
    assert!(!rig.running.is_finished() && rig.world.lookups.lock().expect("lock").is_empty());
}

fn rescue(password: &str, hashed: bool) -> Value {
    json!({"rescue_password": password, "hashed": hashed})
}

#[tokio::test]
async fn a_rescued_machine_has_its_password_and_no_agent_any_more() {
    let mut rig = Rig::with(Machine::new(), |options, _| {
        let etc = options.state.join("etc");
        fs::create_dir(&etc).expect("dir");
        fs::write(etc.join("shadow"), "root:!:::::::\nrescue:!:::::::\n").expect("file");
        options.rescue_etc = Some(etc);
        options.limits.heartbeat = Some(Duration::from_millis(10));
    })
    .await;
    let client = rig.client().await;
    let (status, _) = client.post(TOKEN, "rescue.finalize_rescue", rescue("plain", true), true).await;
    assert_eq!(status, 200, "a command that failed is an answer");
    assert!(!rig.options.state.join("ferric-rescue").exists());
    let (status, body) = client.post("wrong", "rescue.finalize_rescue", rescue("plain", false), true).await;
    assert_eq!(status, 401, "{body}");

    let (status, command) = client.command("rescue.finalize_rescue", rescue("geheim", false), true).await;
    assert_eq!((status, command.command_status), (200, CommandStatus::Succeeded), "{command:?}");
    let ended = tokio::time::timeout(Duration::from_secs(30), &mut rig.running).await;
    ended.expect("in time").expect("no panic").expect("on purpose");
    let beats = rig.world.beat_count();
    let port = client.base.rsplit(':').next().expect("a port").parse().expect("a number");
    let refused = std::net::TcpStream::connect(("127.0.0.1", port));
    assert!(refused.is_err(), "the port is closed");
    let shadow = fs::read_to_string(rig.options.state.join("etc/shadow")).expect("file");
    assert!(shadow.contains("rescue:$6$") && shadow.contains("root:!:") && !shadow.contains("geheim"));
    assert!(rig.options.state.join("ferric-rescue").exists());
    assert!(!rig.options.state.join("ferric-agent.token").exists());
    assert_eq!(rig.world.beat_count(), beats, "no heartbeat after it");
}

#[tokio::test]
async fn outside_a_ramdisk_nobody_s_password_is_set() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let (_, command) = client.command("rescue.finalize_rescue", rescue("geheim", false), true).await;
    assert_eq!(command.command_status, CommandStatus::Failed);
    assert!(!rig.running.is_finished() && !rig.options.state.join("ferric-rescue").exists());
}
