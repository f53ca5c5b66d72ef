//! Machines that are adopted, retired, protected or in maintenance, and callers that are no command line.

use ferric_sim::{MachineFaults, Phase};
use serde_json::{Value, json};

use crate::rig::Stage;

const METADATA: &str = r#"[{"interface": "deploy", "step": "erase_devices_metadata"}]"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_already_runs_is_adopted_untouched() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    stage.want_image(&name).await;
    let node = stage.verb(&["adopt"], &name, "active").await;
    assert_eq!(node["last_error"], json!(null));
    let view = stage.machine(0).view();
    assert_eq!((view.boots, view.disk.starts.len()), (0, 0), "adoption touches neither power nor disk");
    // what is adopted can be taken back, which cleans it
    stage.verb(&["undeploy"], &name, "available").await;
    assert_eq!(stage.machine(0).view().disk.erased, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_machine_ends_manageable() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    stage.provide(&name).await;
    stage.verb(&["deploy"], &name, "active").await;
    stage.baremetal(&["node", "set", "--retired", "--retired-reason", "old", &name]).await;
    let node = stage.verb(&["undeploy"], &name, "manageable").await;
    assert_eq!((&node["retired"], &node["retired_reason"]), (&json!(true), &json!("old")));
    assert_eq!(stage.machine(0).view().disk.erased, 2);
    stage.refused(&["node", "provide", &name], 400, "retired").await;
    assert_eq!(stage.node(&name).await["provision_state"], "manageable");
    stage.baremetal(&["node", "unset", "--retired", &name]).await;
    stage.verb(&["provide"], &name, "available").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protection_and_maintenance_keep_a_machine_as_it_is() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    stage.baremetal(&["node", "maintenance", "set", "--reason", "verbs", &name]).await;
    stage.refused(&["node", "clean", "--clean-steps", METADATA, &name], 400, "maintenance").await;
    stage.baremetal(&["node", "maintenance", "unset", &name]).await;
    stage.provide(&name).await;
    stage.baremetal(&["node", "maintenance", "set", &name]).await;
    stage.refused(&["node", "deploy", &name], 400, "maintenance").await;
    stage.baremetal(&["node", "maintenance", "unset", &name]).await;
    stage.verb(&["deploy"], &name, "active").await;
    stage.baremetal(&["node", "set", "--protected", "--protected-reason", "payroll", &name]).await;
    for words in [&["undeploy"][..], &["rebuild"], &["delete"]] {
        stage.refused(&[&["node"], words, &[name.as_str()]].concat(), 403, "protected").await;
    }
    assert_eq!(stage.node(&name).await["provision_state"], "active");
    stage.baremetal(&["node", "unset", "--protected", &name]).await;
    stage.baremetal(&["node", "maintenance", "set", &name]).await;
    let service = r#"[{"interface": "deploy", "step": "burnin_cpu"}]"#;
    for words in [
        &["rescue", "--rescue-password", "secret"][..],
        &["rebuild"],
        &["service", "--service-steps", service],
    ] {
        stage.refused(&[&["node"], words, &[name.as_str()]].concat(), 400, "maintenance").await;
    }
    // taking back is allowed, and what needs the ramdisk goes on when maintenance ends
    stage.verb(&["undeploy"], &name, "clean wait").await;
    let doing = stage.get(&format!("/v1/ferric/nodes/{name}/doing")).await;
    assert_eq!(doing["waiting_for"], "the end of maintenance", "{doing}");
    stage.baremetal(&["node", "maintenance", "unset", &name]).await;
    stage.reaches(&name, "available").await;
}

/// The order of requests of nova's ironic driver (clients.md §2), for what the machine gets by it; each request and its
/// answer is in tests/clients.
#[tokio::test(flavor = "multi_thread")]
async fn nova_spawns_and_destroys_an_instance() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let name = stage.enrol(0).await;
    stage.baremetal(&["node", "provide", &name]).await;
    stage.reaches(&name, "available").await;
    let instance = "2b3a6f7e-5a1c-4c3e-9a55-0d4c8d7f1f01";
    let version = "1.46";
    let path = format!("/v1/nodes/{name}");
    let reserve = json!([{"op": "add", "path": "/instance_uuid", "value": instance}]);
    let (status, body) = stage.ask(version, "PATCH", &path, Some(reserve)).await;
    assert_eq!(status, 200, "{body}");
    let mut patch = vec![
        json!({"op": "add", "path": "/instance_info/root_gb", "value": "20"}),
        json!({"op": "add", "path": "/instance_info/display_name", "value": "vm"}),
        json!({"op": "add", "path": "/instance_info/capabilities", "value": r#"{"boot_option": "local"}"#}),
        json!({"op": "add", "path": "/instance_info/fixed_ips", "value": "[]"}),
    ];
    for (key, value) in stage.image().as_object().expect("an object") {
        patch.push(json!({"op": "add", "path": format!("/instance_info/{key}"), "value": value}));
    }
    let (status, body) = stage.ask(version, "PATCH", &path, Some(Value::Array(patch))).await;
    assert_eq!(status, 200, "{body}");
    let (status, valid) = stage.ask(version, "GET", &format!("{path}/validate"), None).await;
    assert_eq!(status, 200, "{valid}");
    for interface in ["deploy", "power"] {
        assert_eq!(valid[interface]["result"], true, "{valid}");
    }
    assert_ne!(valid["storage"]["result"], json!(false), "{valid}");
    let go = json!({"target": "active", "configdrive": "H4sIAAAAAAAC/2NgGAWjYBSMVAAALq+17wAEAAA="});
    let (status, body) = stage.ask(version, "PUT", &format!("{path}/states/provision"), Some(go)).await;
    assert_eq!(status, 202, "{body}");
    stage.reaches(&name, "active").await;
    assert!(stage.machine(0).view().disk.written.expect("an image").configdrive);
    let (status, found) =
        stage.ask(version, "GET", &format!("/v1/nodes?instance_uuid={instance}"), None).await;
    assert!(status == 200 && found["nodes"].as_array().is_some_and(|all| all.len() == 1), "{found}");
    let go = json!({"target": "deleted"});
    let (status, body) = stage.ask(version, "PUT", &format!("{path}/states/provision"), Some(go)).await;
    assert_eq!(status, 202, "{body}");
    stage.reaches(&name, "available").await;
    let tidy = json!([{"op": "add", "path": "/instance_info", "value": {}}]);
    let (status, body) = stage.ask(version, "PATCH", &path, Some(tidy)).await;
    assert_eq!((status, &body["instance_uuid"]), (200, &Value::Null), "{body}");
}

/// The order of requests of Metal3's baremetal-operator (clients.md §3), for what the machine gets by it; each request
/// and its answer is in tests/clients.
#[tokio::test(flavor = "multi_thread")]
async fn metal3_registers_inspects_provisions_and_deprovisions_a_host() {
    let stage = Stage::set(vec![MachineFaults::default()]).await;
    let machine = stage.machine(0).clone();
    let version = "1.110";
    let (status, drivers) = stage.ask(version, "GET", "/v1/drivers", None).await;
    assert!(status == 200 && drivers["drivers"].as_array().is_some_and(|all| !all.is_empty()), "{drivers}");
    let mut body = ferric_sim::node_body(&machine);
    body["name"] = json!("metal3~host-0");
    for (key, value) in [
        ("inspect_interface", json!("agent")),
        ("deploy_interface", json!("direct")),
        ("disable_power_off", json!(false)),
        ("automated_clean", json!(true)),
        ("properties", json!({"capabilities": "boot_mode:uefi", "cpu_arch": "x86_64"})),
    ] {
        body[key] = value;
    }
    body.as_object_mut().expect("an object").remove("resource_class");
    let (status, node) = stage.ask(version, "POST", "/v1/nodes", Some(body)).await;
    assert_eq!(status, 201, "{node}");
    let port = json!({"node_uuid": node["uuid"], "address": machine.mac, "pxe_enabled": true});
    let (status, port) = stage.ask(version, "POST", "/v1/ports", Some(port)).await;
    assert_eq!(status, 201, "{port}");
    let name = "metal3~host-0";
    let path = format!("/v1/nodes/{name}");
    let put = async |body: Value| {
        let (status, answer) =
            stage.ask(version, "PUT", &format!("{path}/states/provision"), Some(body)).await;
        assert_eq!(status, 202, "{answer}");
    };
    put(json!({"target": "manage"})).await;
    stage.reaches(name, "manageable").await;
    let (status, _) = stage.ask(version, "GET", &format!("{path}/inventory"), None).await;
    assert_eq!(status, 404, "not inspected yet");
    put(json!({"target": "inspect"})).await;
    stage.reaches(name, "manageable").await;
    let (status, inventory) = stage.ask(version, "GET", &format!("{path}/inventory"), None).await;
    assert!(status == 200 && inventory["inventory"]["memory"]["physical_mb"].is_number(), "{inventory}");
    put(json!({"target": "provide"})).await;
    stage.reaches(name, "available").await;
    let patch: Vec<Value> = stage
        .image()
        .as_object()
        .expect("an object")
        .iter()
        .map(|(key, value)| json!({"op": "add", "path": format!("/instance_info/{key}"), "value": value}))
        .collect();
    let (status, body) = stage.ask(version, "PATCH", &path, Some(Value::Array(patch))).await;
    assert_eq!(status, 200, "{body}");
    let drive = json!({"meta_data": {"uuid": "x"}, "network_data": {}, "user_data": "#!/bin/sh\n"});
    put(json!({"target": "active", "configdrive": drive})).await;
    let node = stage.reaches(name, "active").await;
    assert_eq!(node["driver_info"]["ipmi_password"], "******");
    stage.until(name, "running", |_| machine.view().phase == Phase::Instance).await;
    let (status, body) = stage
        .ask(
            version,
            "PUT",
            &format!("{path}/states/power"),
            Some(json!({"target": "soft power off", "timeout": 20})),
        )
        .await;
    assert_eq!(status, 202, "{body}");
    stage.until(name, "off", |node| node["power_state"] == "power off").await;
    put(json!({"target": "deleted"})).await;
    stage.reaches(name, "available").await;
    put(json!({"target": "manage"})).await;
    stage.reaches(name, "manageable").await;
    let (status, body) = stage.ask(version, "DELETE", &path, None).await;
    assert_eq!(status, 204, "{body}");
    let (status, _) = stage.ask(version, "GET", &path, None).await;
    assert_eq!(status, 404);
}
