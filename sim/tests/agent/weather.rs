//! What happens to machines from outside, and images that are counted instead of fetched.

use bytes::Bytes;
use ferric_sim::{Faults, FleetOptions, MachineFaults, Phase, Transfer};
use serde_json::Value;

use crate::stage::{ZEROS_SHA256, booted_with, options, post, until, write_image};

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

#[tokio::test]
async fn a_rack_without_power_is_off_and_comes_back_as_it_was() {
    let text = r#"{"happens": [{"fault": "rack_power", "at": "2 s", "for": "500 ms"}]}"#;
    let (fleet, machine, _conductor, _url) = booted_with(happening(text)).await;
    assert_eq!(machine.view().phase, Phase::Ramdisk);
    until(&machine, |view| !view.power_on).await;
    machine.power_on();
    assert!(!machine.is_on(), "nothing starts without power");
    until(&machine, |view| view.power_on && view.boots == 2).await;
    let told = fleet.chronicle();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].begins && !told[1].begins);
}
