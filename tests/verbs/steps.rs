//! Steps that somebody asks for: of a cleaning and of a deployment, held, kept in runbooks and templates.

use ferric_sim::MachineFaults;
use serde_json::json;

use crate::rig::Stage;

const METADATA: &str = r#"[{"interface": "deploy", "step": "erase_devices_metadata"}]"#;

#[tokio::test(flavor = "multi_thread")]
async fn steps_clean_a_machine_from_the_command_line_a_file_and_a_runbook() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    let erasures = || {
        let disk = stage.machine(0).view().disk;
        (disk.metadata_erased, disk.erased)
    };
    let node = stage.verb(&["clean", "--clean-steps", METADATA], &name, "manageable").await;
    assert_eq!((&node["last_error"], &node["clean_step"], erasures()), (&json!(null), &json!({}), (1, 0)));
    let both = r#"[{"interface": "deploy", "step": "erase_devices"}, {"interface": "deploy", "step": "erase_devices_metadata"}]"#;
    let file = stage.file("steps.json", both);
    stage.verb(&["clean", "--clean-steps", &file], &name, "manageable").await;
    assert_eq!(erasures(), (2, 1));

    let steps = r#"[{"interface": "deploy", "step": "erase_devices_metadata", "args": {}, "order": 1}]"#;
    stage.baremetal(&["runbook", "create", "--name", "CUSTOM_WIPE", "--steps", steps]).await;
    // a runbook is for nodes with the trait of its name
    stage.refused(&["node", "clean", "--runbook", "CUSTOM_WIPE", &name], 400, "trait").await;
    stage.baremetal(&["node", "add", "trait", &name, "CUSTOM_WIPE"]).await;
    stage.verb(&["clean", "--runbook", "CUSTOM_WIPE"], &name, "manageable").await;
    assert_eq!(erasures(), (3, 1));
    let absent = stage.openstack(&["baremetal", "node", "clean", "--runbook", "CUSTOM_NONE", &name]).await;
    assert!(absent.code != 0 && absent.err.contains("CUSTOM_NONE"), "{}", absent.err);
    let unknown = r#"[{"interface": "deploy", "step": "polish"}]"#;
    stage.baremetal(&["node", "clean", "--clean-steps", unknown, &name]).await;
    let node = stage.reaches(&name, "clean failed").await;
    let error = node["last_error"].as_str().expect("an error");
    assert!(error.contains("polish"), "{error}");
    // nothing was begun, so nothing is in doubt: the node needs no repair
    assert_eq!(
        (&node["maintenance"], &node["target_provision_state"]),
        (&json!(false), &json!("manageable"))
    );
    stage.verb(&["manage"], &name, "manageable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_step_waits_for_unhold() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    let held = r#"[{"interface": "deploy", "step": "erase_devices_metadata"}, {"interface": "power", "step": "hold"},
        {"interface": "deploy", "step": "erase_devices"}]"#;
    stage.verb(&["clean", "--clean-steps", held], &name, "clean hold").await;
    let disk = stage.machine(0).view().disk;
    assert_eq!((disk.metadata_erased, disk.erased), (1, 0));
    stage.verb(&["unhold"], &name, "manageable").await;
    assert_eq!(stage.machine(0).view().disk.erased, 1);
    // reserved steps
    let reserved = r#"[{"interface": "power", "step": "reboot"}, {"interface": "power", "step": "wait", "args": {"seconds": 1}},
        {"interface": "deploy", "step": "erase_devices_metadata"}]"#;
    stage.verb(&["clean", "--clean-steps", reserved], &name, "manageable").await;
    assert_eq!(stage.machine(0).view().disk.metadata_erased, 2);

    stage.provide(&name).await;
    let held = r#"[{"interface": "power", "step": "hold", "priority": 60, "args": {}}]"#;
    stage.verb(&["deploy", "--deploy-steps", held], &name, "deploy hold").await;
    stage.verb(&["unhold"], &name, "active").await;
    assert!(stage.machine(0).view().disk.written.is_some());
    let held = r#"[{"interface": "power", "step": "hold"}, {"interface": "deploy", "step": "burnin_cpu"}]"#;
    stage.verb(&["service", "--service-steps", held], &name, "service hold").await;
    stage.verb(&["unhold"], &name, "active").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deploy_steps_and_the_template_of_a_trait_join_the_deployment() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    stage.provide(&name).await;
    let erased = stage.machine(0).view().disk.metadata_erased;
    // before the image is written (80)
    let wipe = r#"[{"interface": "deploy", "step": "erase_devices_metadata", "priority": 95, "args": {}}]"#;
    stage.verb(&["deploy", "--deploy-steps", wipe], &name, "active").await;
    let disk = stage.machine(0).view().disk;
    assert!(disk.metadata_erased == erased + 1 && disk.written.is_some(), "{disk:?}");

    stage.verb(&["undeploy"], &name, "available").await;
    stage.baremetal(&["deploy", "template", "create", "CUSTOM_WIPED", "--steps", wipe]).await;
    stage.baremetal(&["node", "add", "trait", &name, "CUSTOM_WIPED"]).await;
    stage.want_image(&name).await;
    let erased = stage.machine(0).view().disk.metadata_erased;
    stage.baremetal(&["node", "set", &name, "--instance-info", r#"traits=["CUSTOM_OTHER"]"#]).await;
    stage.refused(&["node", "deploy", &name], 400, "CUSTOM_OTHER").await;
    stage.baremetal(&["node", "set", &name, "--instance-info", r#"traits=["CUSTOM_WIPED"]"#]).await;
    stage.verb(&["deploy"], &name, "active").await;
    let disk = stage.machine(0).view().disk;
    assert!(disk.metadata_erased == erased + 1 && disk.written.is_some(), "{disk:?}");
}
