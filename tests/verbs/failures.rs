//! What fails says so, and the way out works.

use ferric_sim::MachineFaults;
use serde_json::json;

use crate::rig::Stage;

const METADATA: &str = r#"[{"interface": "deploy", "step": "erase_devices_metadata"}]"#;
const SERVICE: &str = r#"[{"interface": "deploy", "step": "burnin_cpu"}]"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_step_that_fails_puts_the_node_into_maintenance_until_somebody_looked() {
    let stage = Stage::set(vec![MachineFaults { clean_step_error: 2, ..MachineFaults::default() }]).await;
    let name = stage.enrol(0).await;
    let node = stage.verb(&["clean", "--clean-steps", METADATA], &name, "clean failed").await;
    let error = node["last_error"].as_str().expect("an error");
    assert!(error.contains("a simulated failure") && error.contains("erase_devices_metadata"), "{error}");
    assert_eq!((&node["maintenance"], &node["fault"]), (&json!(true), &json!("clean failure")));
    assert_eq!((&node["target_provision_state"], &node["clean_step"]), (&json!("manageable"), &json!({})));
    assert!(node["maintenance_reason"].as_str().is_some_and(|why| why.contains("erase_devices_metadata")));
    let history = stage.baremetal(&["node", "history", "list", &name, "-f", "json", "--long"]).await;
    assert!(history.contains("a simulated failure"), "{history}");

    // `manage` leaves maintenance alone, and nothing is cleaned in maintenance
    stage.verb(&["manage"], &name, "manageable").await;
    stage.refused(&["node", "clean", "--clean-steps", METADATA, &name], 400, "maintenance").await;
    stage.baremetal(&["node", "maintenance", "unset", &name]).await;
    let node = stage.node(&name).await;
    assert_eq!(
        (&node["maintenance"], &node["fault"], &node["maintenance_reason"]),
        (&json!(false), &json!(null), &json!(null))
    );

    let node = stage.verb(&["provide"], &name, "clean failed").await;
    assert_eq!(node["target_provision_state"], "available");
    stage.baremetal(&["node", "maintenance", "unset", &name]).await;
    stage.verb(&["manage"], &name, "manageable").await;
    stage.provide(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_that_fails_can_be_tried_again() {
    let stage = Stage::set(vec![MachineFaults { inspection_error: 1, ..MachineFaults::default() }]).await;
    let name = stage.enrol(0).await;
    let node = stage.verb(&["inspect"], &name, "inspect failed").await;
    assert_eq!(
        (&node["target_provision_state"], &node["maintenance"]),
        (&json!("manageable"), &json!(false))
    );
    assert!(node["last_error"].as_str().is_some_and(|error| error.len() > 20), "{}", node["last_error"]);
    let node = stage.verb(&["inspect"], &name, "manageable").await;
    assert_eq!(node["last_error"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_step_that_fails_can_be_aborted_once_somebody_looked() {
    let stage = Stage::set(vec![MachineFaults { service_step_error: 2, ..MachineFaults::default() }]).await;
    let name = stage.enrol(0).await;
    stage.provide(&name).await;
    stage.verb(&["deploy"], &name, "active").await;
    let node = stage.verb(&["service", "--service-steps", SERVICE], &name, "service failed").await;
    assert_eq!((&node["maintenance"], &node["fault"]), (&json!(true), &json!("service failure")));
    assert!(
        node["last_error"].as_str().is_some_and(|error| error.contains("burnin_cpu")),
        "{}",
        node["last_error"]
    );
    let (status, body) = stage
        .ask("1.115", "PUT", &format!("/v1/nodes/{name}/states/provision"), Some(json!({"target": "abort"})))
        .await;
    assert!(status == 400 || status == 409, "abort in maintenance: {status} {body}");
    stage.baremetal(&["node", "maintenance", "unset", &name]).await;
    stage.verb(&["abort"], &name, "active").await;
    stage.verb(&["service", "--service-steps", SERVICE], &name, "service failed").await;
    stage.baremetal(&["node", "maintenance", "unset", &name]).await;
    stage.verb(&["service", "--service-steps", SERVICE], &name, "active").await;
    assert!(stage.machine(0).view().disk.written.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_fails_can_be_tried_again_or_taken_back() {
    let stage = Stage::set(vec![MachineFaults { download_errors: 2, ..MachineFaults::default() }]).await;
    let name = stage.enrol(0).await;
    stage.provide(&name).await;
    let node = stage.verb(&["deploy"], &name, "deploy failed").await;
    assert_eq!((&node["target_provision_state"], &node["maintenance"]), (&json!("active"), &json!(false)));
    let node = stage.verb(&["rebuild"], &name, "deploy failed").await;
    assert!(node["last_error"].is_string());
    stage.verb(&["deploy"], &name, "active").await;
    stage.verb(&["undeploy"], &name, "available").await;
}
