//! The simulated agent against a conductor that the test plays: the protocol as deploy.md §B.2 tells it.
#![allow(clippy::unwrap_used)] // tests say what broke by panicking

mod boot;
mod iscsi;
mod stage;
mod steps;
mod weather;

use bytes::Bytes;
use ferric_machine::BootDevice;
use ferric_sim::{Fleet, FleetOptions, MachineFaults, Phase};
use serde_json::{Value, json};
use stage::{TOKEN, ZEROS_SHA256, booted, options, post, until, write_image};

#[tokio::test]
async fn an_agent_is_looked_up_by_its_mac_and_tries_again_after_a_404() {
    let (_fleet, machine, conductor, url) = booted(MachineFaults::default()).await;
    let lookups = conductor.told.lock().unwrap().lookups.clone();
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
    until(&machine, |view| view.phase == Phase::Instance).await;
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
    until(&machine, |view| !view.power_on).await;
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
