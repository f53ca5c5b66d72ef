//! In-band steps: cleaning, service, partition images, and what goes wrong with them.

use std::sync::Arc;

use bytes::Bytes;
use ferric_machine::BootDevice;
use ferric_sim::{Fleet, FleetOptions, Machine, MachineFaults, Phase, WritePhase};
use serde_json::{Value, json};

use crate::stage::{Conductor, TOKEN, ZEROS_SHA256, booted, booted_with, options, post, until, write_image};

fn clean(step: &str, version: Value) -> Value {
    json!({"step": {"interface": "deploy", "step": step, "priority": 10}, "node": {}, "ports": [],
        "clean_version": version})
}

async fn clean_steps(url: &str) -> Value {
    let (_, command) = post(url, true, "clean.get_clean_steps", json!({"node": {}, "ports": []})).await;
    command["command_result"].clone()
}

async fn deployed(fleet: &Fleet, url: &str) {
    let image = fleet.publish_image("demo.img", Bytes::from(vec![0; 4096]));
    let (_, command) = post(url, true, "deploy.execute_deploy_step", write_image(&image, ZEROS_SHA256)).await;
    assert_eq!(command["command_status"], "SUCCEEDED", "{command}");
}

#[tokio::test]
async fn erased_metadata_is_seen_on_the_disk_and_a_full_erase_leaves_nothing() {
    let (fleet, machine, _conductor, url) = booted(MachineFaults::default()).await;
    deployed(&fleet, &url).await;
    assert!(machine.view().disk.partition_table && machine.view().disk.is_bootable());
    let listed = clean_steps(&url).await;
    let steps = listed["clean_steps"]["SimulatedHardwareManager"].as_array().unwrap();
    let priority = |name| &steps.iter().find(|step| step["step"] == name).unwrap()["priority"];
    assert_eq!((priority("erase_devices_metadata"), priority("erase_devices")), (&json!(99), &json!(10)));
    let version = listed["hardware_manager_version"].clone();
    let asked = clean("erase_devices_metadata", version.clone());
    let (_, command) = post(&url, true, "clean.execute_clean_step", asked.clone()).await;
    assert_eq!(command["command_result"]["clean_step"], asked["step"], "the step is echoed: {command}");
    let disk = machine.view().disk;
    assert_eq!((disk.metadata_erased, disk.partition_table, disk.content), (1, false, true));
    assert_eq!(disk.written, None);
    post(&url, true, "clean.execute_clean_step", clean("erase_devices", version)).await;
    let disk = machine.view().disk;
    assert_eq!((disk.erased, disk.content, disk.violations), (1, false, 0));
}

#[tokio::test]
async fn a_slow_erase_tells_how_far_it_is_and_keeps_others_away() {
    // a disk that takes four seconds for an erasure
    let slow = FleetOptions { disk_bytes_per_second: Some(512 << 10), ..options(MachineFaults::default()) };
    let (_fleet, machine, _conductor, url) = booted_with(slow).await;
    let (_, command) =
        post(&url, false, "clean.execute_clean_step", clean("erase_devices", Value::Null)).await;
    assert_eq!(command["command_status"], "RUNNING");
    until(&machine, |view| view.write.is_some_and(|write| write.bytes_done > 0)).await;
    let write = machine.view().write.unwrap();
    assert_eq!((write.phase, write.bytes_total), (WritePhase::Erasing, Some(1 << 20)));
    let list: Value =
        reqwest::get(format!("{url}/v1/commands/?agent_token={TOKEN}")).await.unwrap().json().await.unwrap();
    assert_eq!(list["commands"][0]["command_result"]["progress"]["phase"], "erasing", "{list}");
    let second = clean("erase_devices_metadata", Value::Null);
    assert_eq!(post(&url, false, "clean.execute_clean_step", second).await.0, 409);
    let disk = machine.view().disk;
    assert_eq!((disk.refused_writers, disk.violations), (1, 0));
    // a machine without power writes no more
    machine.power_off();
    assert_eq!(machine.view().disk.erased, 0);
}

#[tokio::test]
async fn a_changed_version_is_a_mismatch_until_the_steps_are_read_again() {
    let faults = MachineFaults { version_mismatch: 1, ..MachineFaults::default() };
    let (_fleet, _machine, _conductor, url) = booted(faults).await;
    let old = clean_steps(&url).await["hardware_manager_version"].clone();
    let (_, command) = post(&url, true, "clean.execute_clean_step", clean("erase_devices", old)).await;
    assert_eq!(command["command_status"], "CLEAN_VERSION_MISMATCH", "{command}");
    let new = clean_steps(&url).await["hardware_manager_version"].clone();
    let (_, command) = post(&url, true, "clean.execute_clean_step", clean("erase_devices", new)).await;
    assert_eq!(command["command_status"], "SUCCEEDED", "{command}");
}

/// Reboots into the ramdisk and starts a clean step there.
async fn boot_and_clean(machine: &Arc<Machine>, conductor: &mut Conductor, url: &str) -> (u16, Value) {
    machine.set_boot_device(BootDevice::Pxe, false);
    machine.power_cycle();
    conductor.heartbeat().await;
    let step = clean("erase_devices_metadata", Value::Null);
    post(url, false, "clean.execute_clean_step", step).await
}

#[tokio::test]
async fn steps_fail_hang_and_kill_their_agent_on_demand_and_then_go_well() {
    let faults = MachineFaults {
        clean_step_error: 1,
        service_step_error: 1,
        agent_dies_in_step: 1,
        step_hangs: 1,
        ..MachineFaults::default()
    };
    let (_fleet, machine, mut conductor, url) = booted(faults).await;
    let step = || clean("erase_devices_metadata", Value::Null);
    let client = reqwest::Client::new();
    let body = json!({"name": "clean.execute_clean_step", "params": step()});
    let answer =
        client.post(format!("{url}/v1/commands/?wait=true&agent_token={TOKEN}")).json(&body).send().await;
    assert!(answer.is_err(), "a dead agent does not answer");
    assert_eq!(machine.view().phase, Phase::Stuck("its agent died"));
    let (_, hanging) = boot_and_clean(&machine, &mut conductor, &url).await;
    assert_eq!(hanging["command_status"], "RUNNING");
    boot_and_clean(&machine, &mut conductor, &url).await;
    conductor.heartbeat().await; // the failed step's; a hanging one sends none
    let list: Value =
        reqwest::get(format!("{url}/v1/commands/?agent_token={TOKEN}")).await.unwrap().json().await.unwrap();
    assert_eq!(list["commands"][0]["command_status"], "FAILED", "{list}");
    let (_, service) =
        post(&url, true, "service.execute_service_step", json!({"step": {"step": "burnin_cpu"}})).await;
    assert_eq!(service["command_status"], "FAILED", "{service}");
    let (_, service) =
        post(&url, true, "service.execute_service_step", json!({"step": {"step": "burnin_cpu"}})).await;
    assert_eq!(service["command_result"]["service_step"]["step"], "burnin_cpu", "{service}");
    let (_, command) = post(&url, true, "clean.execute_clean_step", step()).await;
    assert_eq!(command["command_status"], "SUCCEEDED", "{command}");
    assert_eq!(machine.view().disk.metadata_erased, 1);
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let faults = MachineFaults { download_breaks: 1, ..MachineFaults::default() };
    let (fleet, machine, _conductor, url) = booted(faults).await;
    let content = vec![7; 1 << 20];
    let params = write_image(
        &fleet.publish_image("large.img", Bytes::from(content.clone())),
        &ferric_sim::sha256_hex(&content),
    );
    let (_, command) = post(&url, true, "deploy.execute_deploy_step", params).await;
    assert_eq!(command["command_status"], "SUCCEEDED", "{command}");
    let disk = machine.view().disk;
    let offsets: Vec<u64> = disk.starts.iter().map(|start| start.offset).collect();
    assert!(offsets.len() == 2 && offsets[0] == 0 && offsets[1] >= 1 << 19, "{offsets:?}");
    assert_eq!((disk.writes_from_zero(), disk.writes), (1, 1));
}

#[tokio::test]
async fn a_partition_image_boots_once_it_has_a_boot_loader() {
    let (fleet, machine, _conductor, url) = booted(MachineFaults::default()).await;
    let image = fleet.publish_image("root.img", Bytes::from(vec![0; 4096]));
    let params = |preserve| {
        let mut params = write_image(&image, ZEROS_SHA256);
        let info = &mut params["step"]["args"]["image_info"];
        info["image_type"] = json!("partition");
        info["deploy_boot_mode"] = json!("uefi");
        info["ephemeral_mb"] = json!(1);
        info["preserve_ephemeral"] = json!(preserve);
        params
    };
    post(&url, true, "deploy.execute_deploy_step", params(false)).await;
    let uuids = post(&url, true, "standby.get_partition_uuids", json!({})).await.1["command_result"].clone();
    let made = machine.view().disk.written.unwrap().partitions.unwrap();
    assert_eq!(uuids["root uuid"], made.root);
    assert_eq!(uuids["efi system partition uuid"], json!(made.efi_system));
    assert!(!machine.view().disk.is_bootable());
    let params_of = json!({"root_uuid": made.root, "target_boot_mode": "uefi"});
    let (_, command) = post(&url, true, "image.install_bootloader", params_of).await;
    assert_eq!(command["command_status"], "SUCCEEDED");
    assert!(machine.view().disk.is_bootable());
    post(&url, true, "deploy.execute_deploy_step", params(true)).await;
    let kept = machine.view().disk.written.unwrap().partitions.unwrap();
    assert_eq!(kept.ephemeral, made.ephemeral, "a preserved partition keeps its content");
    post(&url, true, "deploy.execute_deploy_step", params(false)).await;
    let new = machine.view().disk.written.unwrap().partitions.unwrap();
    assert_ne!(new.ephemeral, made.ephemeral);
}

#[tokio::test]
async fn logs_are_a_gzipped_archive() {
    let (_fleet, _machine, _conductor, url) = booted(MachineFaults::default()).await;
    let (_, command) = post(&url, true, "log.collect_system_logs", json!({})).await;
    let logs = command["command_result"]["system_logs"].as_str().unwrap();
    assert!(logs.starts_with("H4sI"), "{logs}");
}
