//! What happens to machines from outside, and images that are counted instead of fetched.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferric_machine::BootDevice;
use ferric_sim::bmc::Air;
use ferric_sim::{
    Call, Faults, Fleet, FleetOptions, MachineFaults, Network, Phase, Replied, Reply, Transfer,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::stage::{NODE, TOKEN, ZEROS_SHA256, booted_with, options, post, write_image};

/// The end of a write of 4096 zero bytes that declares `checksum`, on a machine of a fleet with these options.
async fn write(options: FleetOptions, checksum: &str) -> (Value, Option<String>) {
    let (fleet, machine, _conductor, url) = booted_with(options).await;
    let image = fleet.publish_image("zeros.img", Bytes::from(vec![0; 4096]));
    let (_, ended) = post(&url, true, "deploy.execute_deploy_step", write_image(&image, checksum)).await;
    let error = ended["command_error"]["type"].clone();
    (error, machine.view().disk.written.map(|written| written.sha256))
}

fn happening(text: &str) -> FleetOptions {
    let faults: Faults = serde_json::from_str(text).unwrap();
    FleetOptions { faults, ..options(MachineFaults::default()) }
}

#[tokio::test]
async fn a_counted_image_has_its_length_and_hash_and_a_wrong_checksum_is_told() {
    let counted = || FleetOptions { images: Transfer::Counted, ..options(MachineFaults::default()) };
    assert_eq!(write(counted(), ZEROS_SHA256).await, (Value::Null, Some(ZEROS_SHA256.to_owned())));
    let wrong = ZEROS_SHA256.replace('a', "b");
    assert_eq!(write(counted(), &wrong).await, (Value::from("ImageChecksumError"), None));
    // md5 of 4096 zero bytes
    let md5 = "620f0b67a91f7f74151bc5be745b7110";
    assert_eq!(write(counted(), md5).await, (Value::Null, Some(ZEROS_SHA256.to_owned())));
}

#[tokio::test]
async fn an_image_that_is_damaged_on_its_way_fails_by_its_checksum_fetched_or_counted() {
    for images in [Transfer::Bytes, Transfer::Counted] {
        let damaged = happening(r#"{"happens": [{"fault": "checksum_error"}]}"#);
        let ended = write(FleetOptions { images, ..damaged }, ZEROS_SHA256).await;
        assert_eq!(ended, (Value::from("ImageChecksumError"), None), "{images:?}");
    }
}

#[tokio::test]
async fn a_disk_that_fails_takes_no_image() {
    let failing = happening(r#"{"happens": [{"fault": "disk_error"}]}"#);
    assert_eq!(write(failing, ZEROS_SHA256).await, (Value::from("ImageWriteError"), None));
}

/// A conductor that knows every machine.
struct Answers;

impl Network for Answers {
    fn call(&self, call: Call) -> Replied<'_> {
        let node =
            json!({"node": {"uuid": NODE}, "config": {"heartbeat_timeout": 300, "agent_token": TOKEN}});
        let (status, body) =
            if call.url.contains("/v1/lookup?") { (200, node.to_string()) } else { (202, String::new()) };
        Box::pin(std::future::ready(Ok(Reply { status, body: body.into() })))
    }
}

#[tokio::test(start_paused = true)]
async fn a_rack_without_power_is_off_and_comes_back_as_it_was() {
    let (begins, lasts, moment) =
        (Duration::from_secs(3600), Duration::from_secs(600), Duration::from_secs(1));
    let text = r#"{"happens": [{"fault": "rack_power", "at": "1 h", "for": "10 min"}]}"#;
    let began = Instant::now();
    let silence: Air = Arc::new(|_, _, _: &[u8]| {});
    let fleet = Fleet::in_process(happening(text), Arc::new(Answers), &silence);
    fleet.set_api_url("http://api.sim");
    let machine = fleet.machines()[0].clone();
    machine.set_boot_device(BootDevice::Pxe, false);
    machine.power_on();
    sleep_until(began + begins - moment).await;
    let view = machine.view();
    assert_eq!((view.phase, view.power_on, view.boots), (Phase::Ramdisk, true, 1));
    sleep_until(began + begins + moment).await;
    assert!(!machine.is_on());
    machine.power_on();
    assert!(!machine.is_on(), "nothing starts without power");
    sleep_until(began + begins + lasts - moment).await;
    assert_eq!((machine.is_on(), machine.view().boots), (false, 1));
    sleep_until(began + begins + lasts + moment).await;
    let view = machine.view();
    assert_eq!((view.power_on, view.boots), (true, 2));
    let told: Vec<_> = fleet.chronicle().iter().map(|one| (one.at, one.begins)).collect();
    assert_eq!(told, [(begins, true), (begins + lasts, false)]);
}
