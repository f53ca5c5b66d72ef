//! The usual life of a machine.

use ferric_sim::{MachineFaults, Phase};
use serde_json::{Value, json};

use crate::rig::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn inspection_finds_the_machine_and_its_inventory_can_be_saved() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    let node = stage.verb(&["inspect"], &name, "manageable").await;
    assert!(node["inspection_finished_at"].is_string() && node["last_error"].is_null(), "{node}");
    assert_eq!(node["properties"]["cpu_arch"], "x86_64");
    let path = stage.folder.path().join("inventory.json");
    stage.baremetal(&["node", "inventory", "save", &name, "--file", &path.display().to_string()]).await;
    let saved: Value =
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("the client writes JSON");
    let interfaces = saved["inventory"]["interfaces"].as_array().expect("interfaces");
    assert!(interfaces.iter().any(|one| one["mac_address"] == json!(stage.machine(0).mac)), "{saved}");
    assert!(saved["inventory"]["memory"]["physical_mb"].is_number(), "{saved}");
    let history = stage.baremetal(&["node", "history", "list", &name, "-f", "json"]).await;
    assert!(serde_json::from_str::<Value>(&history).expect("JSON").is_array());
    // as the power was before: inspection switches it off
    stage.until(&name, "off", |node| node["power_state"] == "power off").await;
    assert_eq!(stage.machine(0).view().phase, Phase::Off);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_deployed_rebuilt_serviced_rescued_and_taken_back_clean() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    stage.provide(&name).await;
    let erased = stage.machine(0).view().disk;
    assert!(erased.metadata_erased == 1 && erased.erased == 1, "provide cleans: {erased:?}");

    let drive = json!({"meta_data": {"hostname": "verbs"}, "user_data": "#cloud-config\n"}).to_string();
    let node = stage.verb(&["deploy", "--config-drive", &drive], &name, "active").await;
    assert_eq!((&node["power_state"], &node["last_error"]), (&json!("power on"), &Value::Null));
    let disk = stage.machine(0).view().disk;
    let written = disk.written.expect("an image");
    assert!(written.sha256 == stage.sha256 && written.configdrive, "{written:?}");

    stage.verb(&["rebuild"], &name, "active").await;
    let disk = stage.machine(0).view().disk;
    assert_eq!((disk.writes, disk.erased), (2, 1), "rebuild writes again and does not clean");

    let service = r#"[{"interface": "deploy", "step": "burnin_cpu"}, {"interface": "deploy", "step": "burnin_memory"}]"#;
    let node = stage.verb(&["service", "--service-steps", service], &name, "active").await;
    assert_eq!(node["power_state"], "power on");
    stage.until(&name, "on", |_| stage.machine(0).view().phase == Phase::Instance).await;

    stage.verb(&["rescue", "--rescue-password", "verbs-secret"], &name, "rescue").await;
    stage.until(&name, "in rescue", |_| stage.machine(0).view().phase == Phase::Rescue).await;
    let password = stage.machine(0).view().rescue_password.expect("a password");
    assert!(password.reveal().starts_with("$5$"), "the ramdisk gets a hash");
    let node = stage.node(&name).await;
    assert!(!node.to_string().contains("verbs-secret"), "the password is told: {node}");
    // rescue again, with another password
    stage.verb(&["rescue", "--rescue-password", "another-secret"], &name, "rescue").await;
    stage.verb(&["unrescue"], &name, "active").await;
    stage.until(&name, "running again", |_| stage.machine(0).view().phase == Phase::Instance).await;

    let node = stage.verb(&["undeploy"], &name, "available").await;
    assert_eq!((&node["instance_info"], &node["instance_uuid"]), (&json!({}), &Value::Null));
    let disk = stage.machine(0).view().disk;
    assert!(disk.written.is_none() && disk.erased == 2 && disk.violations == 0, "{disk:?}");
    assert!(disk.refused_writers == 0, "{disk:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_in_rescue_can_be_taken_back() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    stage.provide(&name).await;
    let folder = stage.file("drive/openstack/latest/meta_data.json", r#"{"hostname": "verbs"}"#);
    let drive = folder.trim_end_matches("/openstack/latest/meta_data.json");
    stage.verb(&["deploy", "--config-drive", drive], &name, "active").await;
    assert!(stage.machine(0).view().disk.written.expect("an image").configdrive);
    stage.verb(&["rescue", "--rescue-password", "secret"], &name, "rescue").await;
    stage.verb(&["undeploy"], &name, "available").await;
    assert!(stage.machine(0).view().disk.written.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn power_is_switched_softly_hard_and_again() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    stage.provide(&name).await;
    stage.verb(&["deploy"], &name, "active").await;
    let boots = stage.machine(0).view().boots;
    let is = |state: &'static str| {
        move |node: &Value| node["power_state"] == state && node["target_power_state"].is_null()
    };
    stage.baremetal(&["node", "reboot", &name]).await;
    stage
        .until(&name, "booted again", |node| is("power on")(node) && stage.machine(0).view().boots > boots)
        .await;
    stage.until(&name, "running", |_| stage.machine(0).view().phase == Phase::Instance).await;
    stage.baremetal(&["node", "reboot", "--soft", "--power-timeout", "20", &name]).await;
    stage
        .until(&name, "booted softly", |node| {
            is("power on")(node) && stage.machine(0).view().boots > boots + 1
        })
        .await;
    stage.until(&name, "running", |_| stage.machine(0).view().phase == Phase::Instance).await;
    stage.baremetal(&["node", "power", "off", "--soft", &name]).await;
    stage.until(&name, "off", is("power off")).await;
    assert!(!stage.machine(0).is_on());
    stage.baremetal(&["node", "power", "on", &name]).await;
    stage.until(&name, "on", is("power on")).await;
    stage.baremetal(&["node", "power", "off", &name]).await;
    stage.until(&name, "off", is("power off")).await;
    stage.baremetal(&["node", "set", "--disable-power-off", &name]).await;
    stage.baremetal(&["node", "power", "on", &name]).await;
    stage.until(&name, "on", is("power on")).await;
    // the client asks a 409 five times more
    let (status, body) = stage
        .ask("1.115", "PUT", &format!("/v1/nodes/{name}/states/power"), Some(json!({"target": "power off"})))
        .await;
    assert_eq!(status, 409, "{body}");
    assert!(stage.machine(0).is_on());
}
