use serde_json::{Value, json};

use crate::client::Server;

const PATH: &str = "/v1/continue_inspection";

fn found(mac: &str) -> Value {
    json!({
        "inventory": {
            "interfaces": [{"name": "eth0", "mac_address": mac}], "cpu": {"architecture": "x86_64", "count": 8},
            "bmc_address": "10.0.0.7",
        },
        "root_disk": {"name": "/dev/sda"},
    })
}

#[tokio::test]
async fn a_ramdisk_that_nobody_awaits_is_not_found() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    client.post("/v1/ports", json!({"node_uuid": node, "address": "52:54:00:aa:bb:01"})).await.is(201);
    let body = found("52:54:00:aa:bb:01");
    let told = client.post(PATH, body.clone()).await.fails(404);
    assert!(told.contains("52:54:00:aa:bb:01") && told.contains("10.0.0.7"), "{told}");
    client.post(&format!("{PATH}?node_uuid={node}"), body.clone()).await.fails(404);
    server.unversioned().post(PATH, body.clone()).await.fails(404);
    client.get(PATH).await.fails(405);
    assert_eq!(client.get("/v1/nodes/n").await.is(200)["provision_state"], "enroll");
}

#[tokio::test]
async fn the_callback_has_its_versions_and_its_form() {
    let server = Server::start();
    let ancient = server.at(1);
    // the body comes first, whatever the version
    for minor in [1, 50, 84, 115] {
        let client = server.at(minor);
        client.post(PATH, json!({})).await.fails(400);
        client.post(PATH, json!({"inventory": {"interfaces": [{}]}})).await.fails(400);
    }
    let told = server.at(83).post(PATH, found("52:54:00:aa:bb:01")).await.fails(404);
    assert!(told.contains("1.84"), "{told}");
    let id = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";
    ancient.post(&format!("{PATH}?node_uuid={id}"), found("52:54:00:aa:bb:01")).await.fails(404);
    server.at(84).post(&format!("{PATH}?node_uuid={id}"), found("52:54:00:aa:bb:01")).await.fails(404);
    server.at(84).post(&format!("{PATH}?node_uuid=x"), found("52:54:00:aa:bb:01")).await.fails(400);
}

#[tokio::test]
async fn what_a_ramdisk_found_ends_the_inspection_of_its_node() {
    const MAC: &str = "52:54:00:aa:bb:01";
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n", "inspect_interface": "agent"})).await;
    client.post("/v1/ports", json!({"node_uuid": node, "address": MAC})).await.is(201);
    client.provision("n", "manage", "manageable").await;
    let path = format!("/v1/nodes/{node}/states/provision");
    client.put(&path, json!({"target": "inspect"})).await.is(202);
    client.until("n", "provision_state", &json!("inspect wait")).await;
    assert_eq!(server.at(38).get("/v1/nodes/n").await.is(200)["provision_state"], "inspecting");

    server.unversioned().post(PATH, found("52:54:00:aa:bb:99")).await.fails(404);
    let answer = server.unversioned().post(PATH, found(MAC)).await.is(202);
    assert_eq!(answer, json!({"uuid": node}));
    let shown = client.until("n", "provision_state", &json!("manageable")).await;
    assert_eq!(shown["properties"]["cpu_arch"], "x86_64", "{shown}");
    assert!(shown["inspection_finished_at"].is_string() && shown["last_error"].is_null(), "{shown}");
    let stored = client.get("/v1/nodes/n/inventory").await.is(200);
    assert_eq!(stored["inventory"]["cpu"]["count"], 8);
    assert_eq!(stored["plugin_data"]["root_disk"]["name"], "/dev/sda");
    server.unversioned().post(PATH, found(MAC)).await.fails(404);

    // a rule of the API runs over the next one; the node is found by its BMC
    let rule = json!({"actions": [{"op": "set-attribute", "args": {"path": "/extra/rack", "value": "r7"}}]});
    client.post("/v1/inspection_rules", rule).await.is(201);
    let bmc = json!([{"op": "add", "path": "/driver_info/ipmi_address", "value": "10.0.0.7"}]);
    client.patch("/v1/nodes/n", bmc).await.is(200);
    client.put(&path, json!({"target": "inspect"})).await.is(202);
    client.until("n", "provision_state", &json!("inspect wait")).await;
    let answer = server.at(84).post(PATH, found("52:54:00:aa:bb:99")).await.is(202);
    assert_eq!(
        (&answer["node"]["uuid"], &answer["config"]["heartbeat_timeout"]),
        (&json!(node), &json!(300))
    );
    let shown = client.until("n", "provision_state", &json!("manageable")).await;
    assert_eq!((&shown["extra"]["rack"], &shown["last_error"]), (&json!("r7"), &Value::Null));

    client.put(&path, json!({"target": "inspect"})).await.is(202);
    client.until("n", "provision_state", &json!("inspect wait")).await;
    server.at(40).put(&path, json!({"target": "abort"})).await.fails(406);
    client.provision("n", "abort", "inspect failed").await;
}
