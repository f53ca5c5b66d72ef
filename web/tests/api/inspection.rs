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
    ancient.post(&format!("{PATH}?node_uuid={id}"), found("52:54:00:aa:bb:01")).await.fails(400);
    server.at(84).post(&format!("{PATH}?node_uuid={id}"), found("52:54:00:aa:bb:01")).await.fails(404);
    server.at(84).post(&format!("{PATH}?node_uuid=x"), found("52:54:00:aa:bb:01")).await.fails(400);
}
