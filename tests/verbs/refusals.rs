//! A verb that makes no sense where the node is: 400 in Ironic's words, and the node stays as it was.

use ferric_sim::MachineFaults;
use serde_json::{Value, json};

use crate::rig::Stage;

/// Every verb as the client says it, with the word that Ironic uses for it.
fn verbs() -> Vec<(&'static str, Vec<&'static str>)> {
    let steps = r#"[{"interface": "deploy", "step": "erase_devices_metadata"}]"#;
    vec![
        ("manage", vec!["manage"]),
        ("provide", vec!["provide"]),
        ("inspect", vec!["inspect"]),
        ("clean", vec!["clean", "--clean-steps", steps]),
        ("active", vec!["deploy"]),
        ("rebuild", vec!["rebuild"]),
        ("deleted", vec!["undeploy"]),
        ("adopt", vec!["adopt"]),
        ("rescue", vec!["rescue", "--rescue-password", "secret"]),
        ("unrescue", vec!["unrescue"]),
        ("abort", vec!["abort"]),
        ("unhold", vec!["unhold"]),
        ("service", vec!["service", "--service-steps", steps]),
    ]
}

/// Tries every verb but the legal ones.
async fn all_refused_but(stage: &Stage, name: &str, state: &str, legal: &[&str]) {
    let before = still(stage.reaches(name, state).await);
    for (verb, words) in verbs() {
        if !legal.contains(&verb) {
            let words: Vec<&str> = [&["node"], words.as_slice(), &[name]].concat();
            stage.refused(&words, 400, "can not be performed on node").await;
        }
    }
    assert_eq!(still(stage.node(name).await), before, "a verb in {state} left something behind");
}

/// A node without what changes by itself.
fn still(mut node: Value) -> Value {
    for key in ["driver_internal_info", "updated_at"] {
        node[key] = json!(null);
    }
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn before_its_first_deployment_a_verb_that_makes_no_sense_changes_nothing() {
    let stage = Stage::set(vec![MachineFaults { ramdisk_hangs: 1, ..MachineFaults::default() }]).await;
    let (status, body) =
        stage.ask("1.115", "POST", "/v1/nodes", Some(json!({"name": "new", "driver": "ipmi"}))).await;
    assert_eq!(status, 201, "{body}");
    all_refused_but(&stage, "new", "enroll", &["manage"]).await;
    let name = stage.enrol(0).await;
    all_refused_but(&stage, &name, "manageable", &["provide", "inspect", "clean", "adopt"]).await;
    // in the middle of something
    stage.verb(&["provide"], &name, "clean wait").await;
    all_refused_but(&stage, &name, "clean wait", &["abort"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_use_a_verb_that_makes_no_sense_changes_nothing() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    stage.provide(&name).await;
    all_refused_but(&stage, &name, "available", &["manage", "active"]).await;
    stage.verb(&["deploy"], &name, "active").await;
    all_refused_but(&stage, &name, "active", &["rebuild", "deleted", "rescue", "service"]).await;
    stage.verb(&["rescue", "--rescue-password", "secret"], &name, "rescue").await;
    all_refused_but(&stage, &name, "rescue", &["rescue", "unrescue", "deleted"]).await;
}
