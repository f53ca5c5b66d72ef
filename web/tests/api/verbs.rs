use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Server};

const IMAGE: &str = "http://127.0.0.1/i.raw";

async fn manageable(client: &Client, more: Value) -> String {
    let node = client.enrol(more).await;
    client.provision(&node, "manage", "manageable").await;
    node
}

async fn active(client: &Client, more: Value) -> String {
    let node = manageable(client, more).await;
    client.provision(&node, "provide", "available").await;
    let image = json!([
        {"op": "add", "path": "/instance_info/image_source", "value": IMAGE},
        {"op": "add", "path": "/instance_info/image_checksum", "value": "d41d8cd98f00b204e9800998ecf8427e"},
    ]);
    client.patch(&format!("/v1/nodes/{node}"), image).await.is(200);
    client.provision(&node, "active", "active").await;
    node
}

fn path(node: &str) -> String {
    format!("/v1/nodes/{node}/states/provision")
}

/// The names of the steps of the node's latest operation, with their states.
async fn journal(client: &Client, node: &str) -> (String, Vec<(String, String)>) {
    let body = client.get(&format!("/v1/ferric/nodes/{node}/steps?operations=1")).await.is(200);
    let operation = &body["operations"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = operation["steps"].as_array().cloned().unwrap_or_default();
    (text(&operation["kind"]), steps.iter().map(|step| (text(&step["step"]), text(&step["state"]))).collect())
}

/// Waits until the node's latest operation is over.
async fn over(client: &Client, node: &str) -> (String, Vec<(String, String)>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = journal(client, node).await;
        if found.1.iter().all(|(_, state)| state == "done" || state == "failed" || state == "aborted") {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn steps_of_the_operator_run_in_their_order() {
    let server = Server::start();
    let client = server.at(115);
    let node = manageable(&client, json!({})).await;
    let steps = json!([
        {"interface": "raid", "step": "delete_configuration"},
        {"step": "power_on"},
        {"interface": "raid", "step": "create_configuration", "args": {"create_root_volume": true}},
    ]);
    client.put(&path(&node), json!({"target": "clean", "clean_steps": steps})).await.is(202);
    client.until(&node, "provision_state", &json!("manageable")).await;
    let (kind, ran) = over(&client, &node).await;
    assert_eq!(kind, "clean");
    let names: Vec<&str> = ran.iter().map(|(name, _)| name.as_str()).collect();
    let own: Vec<&&str> = names
        .iter()
        .filter(|name| ["delete_configuration", "power_on", "create_configuration"].contains(name))
        .collect();
    assert_eq!(own, [&"delete_configuration", &"power_on", &"create_configuration"], "{ran:?}");
    assert!(ran.iter().all(|(_, state)| state == "done"), "{ran:?}");

    let unknown = json!({"target": "clean", "clean_steps": [{"interface": "raid", "step": "conjure"}]});
    assert!(client.put(&path(&node), unknown).await.fails(400).contains("conjure"));
}

#[tokio::test]
async fn a_hold_waits_for_the_operator() {
    let server = Server::start();
    let client = server.at(115);
    let node = manageable(&client, json!({})).await;
    let steps = json!([{"step": "hold"}, {"interface": "raid", "step": "delete_configuration"}]);
    let body = json!({"target": "clean", "clean_steps": steps});
    client.put(&path(&node), body.clone()).await.is(202);
    client.until(&node, "provision_state", &json!("clean hold")).await;
    server.at(84).put(&path(&node), json!({"target": "unhold"})).await.fails(406);
    client.provision(&node, "unhold", "manageable").await;
    client.put(&path(&node), body).await.is(202);
    client.until(&node, "provision_state", &json!("clean hold")).await;
    client.provision(&node, "abort", "clean failed").await;
    let told = client.get(&format!("/v1/nodes/{node}")).await.is(200);
    assert!(
        told["last_error"].as_str().is_some_and(|text| text.contains("aborted")),
        "{}",
        told["last_error"]
    );
}

#[tokio::test]
async fn a_rescue_password_is_never_stored_in_plain_text() {
    let server = Server::start();
    let client = server.at(115);
    let node = active(&client, json!({})).await;
    for body in [json!({"target": "rescue"}), json!({"target": "rescue", "rescue_password": ""})] {
        assert!(client.put(&path(&node), body).await.fails(400).contains("\"rescue_password\" is required"));
    }
    let body = json!({"target": "rescue", "rescue_password": "calvin-und-hobbes"});
    client.put(&path(&node), body.clone()).await.is(202);
    let shown = client.until(&node, "provision_state", &json!("rescue")).await;
    assert!(!shown.to_string().contains("calvin"), "{shown}");
    // the row itself: not only what is shown of it
    for file in std::fs::read_dir(&server.folder).expect("readable") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
        let found = bytes.windows(6).any(|window| window == b"calvin");
        assert!(!found, "the plain password is in a file of the database");
    }
    client.put(&path(&node), json!({"target": "unrescue", "rescue_password": "x"})).await.fails(400);
    client.provision(&node, "unrescue", "active").await;
    server.at(37).put(&path(&node), body).await.fails(406);
}

#[tokio::test]
async fn the_other_verbs_walk_their_ways() {
    let server = Server::start();
    let client = server.at(115);
    let node = manageable(&client, json!({})).await;
    client.provision(&node, "inspect", "manageable").await;
    client.provision(&node, "adopt", "active").await;
    let steps = json!([{"step": "reboot"}]);
    let body = json!({"target": "service", "service_steps": steps, "disable_ramdisk": true});
    server.at(107).put(&path(&node), body.clone()).await.fails(406);
    server.at(86).put(&path(&node), json!({"target": "service", "service_steps": steps})).await.fails(406);
    client.put(&path(&node), body).await.is(202);
    client.until(&node, "provision_state", &json!("active")).await;
    let (kind, _) = over(&client, &node).await;
    assert_eq!(kind, "service");
    client.provision(&node, "undeploy", "available").await;
    client.provision(&node, "manage", "manageable").await;
    client.put(&path(&node), json!({"target": "abort"})).await.fails(400);
}

#[tokio::test]
async fn deploy_steps_and_templates_run_by_priority() {
    let server = Server::start();
    let client = server.at(115);
    let node = manageable(&client, json!({"name": "n"})).await;
    client.provision("n", "provide", "available").await;
    client.put("/v1/nodes/n/traits", json!({"traits": ["CUSTOM_RAIDED"]})).await.is(204);
    let raid = json!({
        "interface": "raid", "step": "apply_configuration", "priority": 150,
        "args": {"raid_config": {"logical_disks": []}},
    });
    client.post("/v1/deploy_templates", json!({"name": "CUSTOM_RAIDED", "steps": [raid]})).await.is(201);
    let image = json!([
        {"op": "add", "path": "/instance_info/image_source", "value": IMAGE},
        {"op": "add", "path": "/instance_info/image_checksum", "value": "d41d8cd98f00b204e9800998ecf8427e"},
        {"op": "add", "path": "/instance_info/traits", "value": ["CUSTOM_RAIDED"]},
    ]);
    client.patch("/v1/nodes/n", image).await.is(200);
    let wait = json!({"interface": "power", "step": "wait", "priority": 160, "args": {"seconds": 0}});
    let body = json!({"target": "active", "deploy_steps": [wait]});
    server.at(68).put(&path(&node), body.clone()).await.fails(406);
    client.put(&path(&node), body).await.is(202);
    client.until("n", "provision_state", &json!("active")).await;
    let body = client.get("/v1/ferric/nodes/n/steps?operations=1").await.is(200);
    let steps = body["operations"][0]["steps"].as_array().cloned().expect("steps");
    let names = steps.iter().filter_map(|step| step["step"].as_str());
    let names: Vec<&str> = names.filter(|name| ["wait", "apply_configuration"].contains(name)).collect();
    assert_eq!(names, ["wait", "apply_configuration"], "{steps:?}");
}

#[tokio::test]
async fn a_runbook_cleans_the_nodes_that_it_is_for() {
    let server = Server::start();
    let client = server.at(115);
    let node = manageable(&client, json!({"name": "n"})).await;
    let steps = json!([
        {"interface": "raid", "step": "create_configuration", "args": {}, "order": 2},
        {"interface": "raid", "step": "delete_configuration", "args": {}, "order": 1},
    ]);
    client.post("/v1/runbooks", json!({"name": "CUSTOM_RAID", "steps": steps})).await.is(201);
    let bare = json!({"name": "bare", "steps": steps, "disable_ramdisk": true});
    client.post("/v1/runbooks", bare).await.is(201);
    client.put("/v1/runbooks/bare/traits", json!({"traits": ["CUSTOM_RAID"]})).await.is(204);
    let body = json!({"target": "clean", "runbook": "CUSTOM_RAID"});
    assert!(client.put(&path(&node), body.clone()).await.fails(400).contains("CUSTOM_RAID"));
    client.put(&path(&node), json!({"target": "clean", "runbook": "nobody"})).await.fails(404);
    client.put("/v1/nodes/n/traits/CUSTOM_RAID", Value::Null).await.is(204);
    server.at(91).put(&path(&node), body.clone()).await.fails(406);
    let both = json!({"target": "clean", "runbook": "CUSTOM_RAID", "clean_steps": [{"step": "hold"}]});
    client.put(&path(&node), both).await.fails(400);
    client.put(&path(&node), body).await.is(202);
    client.until("n", "provision_state", &json!("manageable")).await;
    let (_, ran) = over(&client, "n").await;
    let own: Vec<&str> =
        ran.iter().map(|(name, _)| name.as_str()).filter(|name| name.ends_with("_configuration")).collect();
    assert_eq!(own, ["delete_configuration", "create_configuration"], "{ran:?}");
    let told = client.put(&path(&node), json!({"target": "clean", "runbook": "bare"})).await.fails(400);
    assert!(told.contains("ramdisk"), "the runbook of the node's trait does without a ramdisk: {told}");
}

#[tokio::test]
async fn the_journal_shows_what_was_done_without_secrets() {
    let server = Server::start();
    let client = server.at(1);
    let node = server.at(115).enrol(json!({})).await;
    let path = format!("/v1/ferric/nodes/{node}/steps");
    assert_eq!(client.get(&path).await.is(200), json!({"operations": []}));
    server.at(115).provision(&node, "manage", "manageable").await;
    over(&client, &node).await;
    let body = client.get(&path).await.is(200);
    let operation = &body["operations"][0];
    assert_eq!((&operation["kind"], &operation["state"]), (&json!("verify"), &json!("done")));
    assert!(operation["started_at"].is_string() && operation["ended_at"].is_string(), "{operation}");
    let secret = json!([{
        "interface": "raid", "step": "create_configuration", "args": {"create_root_volume": true, "bmc_password": "calvin"},
    }]);
    let asked = server
        .at(115)
        .put(
            &format!("/v1/nodes/{node}/states/provision"),
            json!({"target": "clean", "clean_steps": secret, "disable_ramdisk": true}),
        )
        .await;
    assert!(!asked.body.to_string().contains("calvin"));
    over(&client, &node).await;
    assert!(!client.get(&path).await.is(200).to_string().contains("calvin"));
    for bad in ["0", "51", "x"] {
        client.get(&format!("{path}?operations={bad}")).await.fails(400);
    }
    client.get("/v1/ferric/nodes/nobody/steps").await.fails(404);
    let queue = client.get("/v1/ferric/queue").await.is(200);
    assert_eq!((&queue["deploy"], &queue["clean"]), (&json!([]), &json!([])));
}
