//! Deployments through a real `ferric serve` with the real agent, and what goes wrong with them. Every fault has to end
//! in a state that the operator can see and leave, with a `last_error` that says what happened and what to do.

mod images;
mod rig;

use std::time::{Duration, Instant};

use images::Images;
use rig::{Ferric, GIB, Machine, image, wanted};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_image_reaches_the_disk_and_the_node_becomes_active() {
    let (ferric, images) = (Ferric::start().await, Images::start().await);
    let bytes = image(1, 8 * MIB);
    let mut machine = Machine::new("good", "52:54:00:00:00:01", 4 * GIB);
    ferric.available(&machine, wanted(&images.put("disk.img", bytes.clone()), &bytes), json!({})).await;
    ferric.verb("good", "active").await;
    ferric.reaches("good", "wait call-back").await;
    machine.boots(&ferric);
    let node = ferric.reaches("good", "active").await;
    assert_eq!((&node["power_state"], &node["last_error"]), (&json!("power on"), &Value::Null));
    assert!(node["driver_internal_info"].get("agent_secret_token").is_none(), "the token outlives the agent");
    assert!(machine.disk_holds(&bytes, 0..bytes.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_while_the_image_is_written_loses_nothing_and_writes_nothing_twice() {
    let (mut ferric, images) = (Ferric::start().await, Images::start().await);
    let bytes = image(2, 24 * MIB);
    let mut machine = Machine::new("tough", "52:54:00:00:00:02", 4 * GIB);
    ferric.available(&machine, wanted(&images.put("disk.img", bytes.clone()), &bytes), json!({})).await;
    images.hold_at(12 * MIB);
    ferric.verb("tough", "active").await;
    ferric.reaches("tough", "wait call-back").await;
    machine.boots(&ferric);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !machine.disk_holds(&bytes, MIB..8 * MIB) {
        assert!(Instant::now() < deadline, "the write never came half way");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ferric.kill();
    ferric.start_again().await;
    let node = ferric.node("tough").await;
    // killed before or after the write's beginning was written down: either way it is still under way
    assert!(["deploying", "wait call-back"].iter().any(|state| node["provision_state"] == *state), "{node}");
    assert_eq!(node["last_error"], Value::Null);
    // what was under way is seen again, without waiting for the agent's next heartbeat
    let doing = ferric.doing("tough", |doing| doing["bytes_done"].as_u64() >= Some(8 * MIB as u64)).await;
    assert_eq!(doing["step"], "deploy.write_image");
    assert_eq!(doing["bytes_total"], json!(bytes.len()));
    // the image server loses its connection too, for good measure
    images.let_go();
    ferric.reaches("tough", "active").await;
    assert!(machine.disk_holds(&bytes, 0..bytes.len()));
    let starts = images.starts();
    assert_eq!(starts.iter().filter(|start| **start == 0).count(), 1, "began anew: {starts:?}");
    assert!(starts.len() >= 2 && starts[1..].iter().all(|start| *start >= 8 * MIB), "{starts:?}");
}

/// A deployment that has to fail, and what its `last_error` has to say.
async fn fails(name: &str, instance_info: Value, properties: Value, disk: u64, boots: bool) -> String {
    let ferric = Ferric::start().await;
    let mut machine = Machine::new(name, "52:54:00:00:00:09", disk);
    ferric.available(&machine, instance_info, properties).await;
    ferric.verb(name, "active").await;
    if boots {
        ferric.reaches(name, "wait call-back").await;
        machine.boots(&ferric);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let node = loop {
        let node = ferric.node(name).await;
        if node["provision_state"] == "deploy failed" {
            break node;
        }
        assert!(Instant::now() < deadline, "{} {}", node["provision_state"], node["last_error"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(node["target_provision_state"], "active");
    // the way out: the node can be had back
    machine.dies();
    ferric.verb(name, "deleted").await;
    ferric.reaches(name, "available").await;
    node["last_error"].as_str().expect("an error").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_found_out_before_the_machine_is_touched() {
    let images = Images::start().await;
    let url = format!("http://{}/absent.img", images.at);
    let error = fails("absent", wanted(&url, b"x"), json!({}), 4 * GIB, false).await;
    assert!(
        error.contains("absent.img") && error.contains("404") && error.contains("image_source"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_server_that_is_away_is_named() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port");
    let error =
        fails("away", wanted(&format!("http://{gone}/disk.img"), b"x"), json!({}), 4 * GIB, false).await;
    assert!(error.contains(&gone.to_string()) && error.contains("cannot be reached"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_checksum_fails_the_deployment_with_both_values() {
    let images = Images::start().await;
    let (bytes, other) = (image(3, MIB), image(4, MIB));
    let info = wanted(&images.put("disk.img", bytes.clone()), &other);
    let error = fails("checksum", info, json!({}), 4 * GIB, true).await;
    assert!(error.contains(&rig::sha256(&bytes)) && error.contains(&rig::sha256(&other)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_larger_than_the_disk_fails_with_both_sizes() {
    let images = Images::start().await;
    let bytes = image(5, 2 * MIB);
    let info = wanted(&images.put("disk.img", bytes.clone()), &bytes);
    let hints = json!({"root_device": {"name": "/dev/sda"}});
    let error = fails("large", info, hints, MIB as u64, true).await;
    assert!(error.contains("2097152") && error.contains("1048576"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_that_fit_no_disk_fail_with_what_there_is() {
    let images = Images::start().await;
    let bytes = image(6, MIB);
    let info = wanted(&images.put("disk.img", bytes.clone()), &bytes);
    let error = fails("hints", info, json!({"root_device": {"model": "Other"}}), 4 * GIB, true).await;
    assert!(error.contains("Other") && error.contains("sda") && error.contains("Test Disk"), "{error}");
}
