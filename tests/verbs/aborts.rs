//! Going back while something waits: for a ramdisk that does not come, or for a step that does not end.

use ferric_sim::{MachineFaults, Phase};
use serde_json::json;

use crate::rig::Stage;

const METADATA: &str = r#"[{"interface": "deploy", "step": "erase_devices_metadata"}]"#;
const SERVICE: &str = r#"[{"interface": "deploy", "step": "burnin_cpu"}]"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_cleaning_ends_at_once_in_a_step_that_may_be_aborted() {
    let stage = Stage::set(vec![MachineFaults { step_hangs: 1, ..MachineFaults::default() }]).await;
    let name = stage.enrol(0).await;
    stage.baremetal(&["node", "clean", "--clean-steps", METADATA, &name]).await;
    let running = |node: &serde_json::Value| {
        node["provision_state"] == "clean wait" && node["clean_step"]["step"] == "erase_devices_metadata"
    };
    stage.until(&name, "in its step", running).await;
    let node = stage.verb(&["abort"], &name, "clean failed").await;
    let error = node["last_error"].as_str().expect("an error");
    assert!(error.contains("aborted") && error.contains("erase_devices_metadata"), "{error}");
    assert_eq!(
        (&node["maintenance"], &node["target_provision_state"]),
        (&json!(false), &json!("manageable"))
    );
    assert_eq!(node["clean_step"], json!({}));
    stage.verb(&["manage"], &name, "manageable").await;
    stage.verb(&["clean", "--clean-steps", METADATA], &name, "manageable").await;
    assert_eq!(stage.machine(0).view().disk.violations, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_waits_for_a_ramdisk_can_be_aborted_or_taken_back() {
    // each machine has so many ramdisks that never come up
    let stage = Stage::set(vec![MachineFaults { ramdisk_hangs: 3, ..MachineFaults::default() }]).await;
    let name = stage.enrol(0).await;

    stage.verb(&["inspect"], &name, "inspect wait").await;
    let node = stage.verb(&["abort"], &name, "inspect failed").await;
    assert_eq!(node["last_error"], "Inspection was aborted by request.");
    stage.verb(&["manage"], &name, "manageable").await;

    stage.baremetal(&["node", "clean", "--clean-steps", METADATA, &name]).await;
    stage.reaches(&name, "clean wait").await;
    let node = stage.verb(&["abort"], &name, "clean failed").await;
    assert!(node["last_error"].as_str().expect("an error").contains("aborted"), "{}", node["last_error"]);
    assert_eq!(node["maintenance"], false);
    stage.verb(&["manage"], &name, "manageable").await;

    // nothing to boot: it is available at once
    stage.baremetal(&["node", "set", "--no-automated-clean", &name]).await;
    stage.provide(&name).await;
    stage.verb(&["deploy"], &name, "wait call-back").await;
    let old =
        stage.openstack(&["--os-baremetal-api-version", "1.109", "baremetal", "node", "abort", &name]).await;
    assert!(old.code != 0 && old.err.contains("not supported"), "{}", old.err);
    assert_eq!(stage.node(&name).await["provision_state"], "wait call-back");
    let node = stage.verb(&["abort"], &name, "deploy failed").await;
    assert_eq!(node["target_provision_state"], "active");
    assert!(node["last_error"].as_str().expect("an error").contains("aborted"), "{}", node["last_error"]);
    stage.verb(&["undeploy"], &name, "available").await;
    assert!(!stage.machine(0).is_on());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_waits_or_is_held_can_be_taken_back() {
    let stage = Stage::set(vec![MachineFaults { ramdisk_hangs: 1, ..MachineFaults::default() }]).await;
    let name = stage.enrol(0).await;
    stage.baremetal(&["node", "set", "--no-automated-clean", &name]).await;
    stage.provide(&name).await;
    stage.verb(&["deploy"], &name, "wait call-back").await;
    // the one ramdisk that hangs is this one: a machine taken back sooner would keep it for the next boot
    stage.until(&name, "hanging", |_| matches!(stage.machine(0).view().phase, Phase::Stuck(_))).await;
    stage.verb(&["undeploy"], &name, "available").await;
    stage.want_image(&name).await;
    let held = r#"[{"interface": "power", "step": "hold", "priority": 60, "args": {}}]"#;
    stage.verb(&["deploy", "--deploy-steps", held], &name, "deploy hold").await;
    stage.verb(&["abort"], &name, "deploy failed").await;
    // and again from there
    stage.want_image(&name).await;
    stage.verb(&["deploy"], &name, "active").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rescue_and_service_that_wait_can_be_aborted_and_the_instance_comes_back() {
    let stage = Stage::set(vec![MachineFaults { step_hangs: 0, ..MachineFaults::default() }; 2]).await;
    let name = stage.enrol(0).await;
    stage.baremetal(&["node", "set", "--no-automated-clean", &name]).await;
    stage.provide(&name).await;
    stage.verb(&["deploy"], &name, "active").await;
    let held = r#"[{"interface": "power", "step": "hold"}, {"interface": "deploy", "step": "burnin_cpu"}]"#;
    stage.verb(&["service", "--service-steps", held], &name, "service hold").await;
    let node = stage.verb(&["abort"], &name, "active").await;
    assert_eq!(node["maintenance"], false);
    stage.until(&name, "running", |_| stage.machine(0).view().phase == Phase::Instance).await;
    // after a service that was aborted, another goes through
    stage.verb(&["service", "--service-steps", SERVICE], &name, "active").await;

    // no ramdisk comes: the machine boots what is not there
    let machine = stage.machine(0);
    stage.baremetal(&["node", "rescue", "--rescue-password", "secret", &name]).await;
    stage.reaches(&name, "rescue wait").await;
    machine.power_off();
    let node = stage.verb(&["abort"], &name, "rescue failed").await;
    assert!(node["instance_info"].get("rescue_password").is_none(), "{node}");
    stage.verb(&["unrescue"], &name, "active").await;
    stage.until(&name, "running", |_| stage.machine(0).view().phase == Phase::Instance).await;
}
