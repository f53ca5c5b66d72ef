//! VIFs of nodes, and what Neutron tells (api.md §3.5, §9).

use serde_json::{Value, json};

use crate::client::Server;

#[tokio::test]
async fn a_flat_network_remembers_vifs_in_ports() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n", "network_interface": "flat"})).await;
    let mut ports = Vec::new();
    for (address, boots) in [("52:54:00:00:00:01", false), ("52:54:00:00:00:02", true)] {
        let body = json!({"node_uuid": node, "address": address, "pxe_enabled": boots});
        let port = client.post("/v1/ports", body).await.is(201);
        ports.push(port["uuid"].as_str().expect("a uuid").to_owned());
    }
    let vifs = "/v1/nodes/n/vifs";
    assert_eq!(client.get(vifs).await.is(200), json!({"vifs": []}));
    let vif = "11111111-1111-4111-8111-111111111111";
    client.post(vifs, json!({"id": vif, "more": 1})).await.is(204);
    let internal = |port: Value| port["internal_info"].clone();
    let boots = internal(client.get(&format!("/v1/ports/{}", ports[1])).await.is(200));
    assert_eq!(boots, json!({"tenant_vif_port_id": vif}), "the port that the node boots from comes first");
    let twice = client.post(vifs, json!({"id": vif})).await.fails(409);
    let text =
        format!("Unable to attach VIF because VIF {vif} is already attached to Ironic Port {}", ports[1]);
    assert_eq!(twice, text);
    let taken = client.post(vifs, json!({"id": "b", "port_uuid": ports[1]})).await.fails(400);
    assert_eq!(taken, "Unable to attach VIF b, not enough free physical ports.");
    client.post(vifs, json!({"id": "b", "port_uuid": ports[0]})).await.is(204);
    assert_eq!(client.get(vifs).await.is(200), json!({"vifs": [{"id": "b"}, {"id": vif}]}));
    client.post(vifs, json!({"id": "c"})).await.fails(400);
    client.delete(&format!("{vifs}/{vif}")).await.is(204);
    let gone = client.delete(&format!("{vifs}/{vif}")).await.fails(400);
    assert_eq!(
        gone,
        format!("Unable to detach VIF {vif} from node {node} because it is not attached to it.")
    );
    assert_eq!(client.get(vifs).await.is(200), json!({"vifs": [{"id": "b"}]}));
    let lines = client.get("/v1/nodes/n/history").await.is(200);
    assert_eq!(lines["history"].as_array().map(Vec::len), Some(4), "what failed is remembered: {lines}");
}

#[tokio::test]
async fn a_noop_network_takes_every_vif_and_has_none() {
    let server = Server::start();
    let client = server.at(115);
    client.enrol(json!({"name": "n", "network_interface": "noop"})).await;
    let vifs = "/v1/nodes/n/vifs";
    for _ in 0..2 {
        client.post(vifs, json!({"id": "x"})).await.is(204);
    }
    assert_eq!(client.get(vifs).await.is(200), json!({"vifs": []}));
    client.delete(&format!("{vifs}/y")).await.is(204);
    for (body, told) in [
        (json!({}), "Schema error for vif: 'id' is a required property"),
        (json!([]), "Schema error for vif: [] is not of type 'object'"),
        (json!({"id": 5}), "Schema error for vif: 5 is not of type 'string'"),
        (json!({"id": "!!"}), "Expected UUID or name for id: !!"),
    ] {
        assert_eq!(client.post(vifs, body).await.fails(400), told);
    }
    let both = json!({"id": "x", "port_uuid": "y", "portgroup_uuid": "z"});
    assert_eq!(
        client.post(vifs, both.clone()).await.fails(400),
        "Cannot specify both port_uuid and portgroup_uuid"
    );
    server.at(66).post(vifs, both).await.is(204);
    client.delete(&format!("{vifs}/!!")).await.fails(400);
    client.delete(vifs).await.fails(400);
    client.put(vifs, json!({})).await.fails(405);
    client.get(&format!("{vifs}/x")).await.fails(405);
    client.get("/v1/nodes/none/vifs").await.fails(404);
    let old = server.at(27);
    old.get(vifs).await.fails(404);
    old.post(vifs, json!({"id": "x"})).await.fails(404);
    old.delete(&format!("{vifs}/x")).await.fails(404);
}

#[tokio::test]
async fn what_neutron_tells_is_checked_and_taken() {
    let server = Server::start();
    let client = server.at(54);
    let event = json!({
        "event": "network.bind_port", "port_id": "11111111-1111-4111-8111-111111111111",
        "mac_address": "52:54:00:12:34:56", "status": "ACTIVE", "device_id": null,
    });
    let body = json!({"events": [event]});
    client.post("/v1/events", body.clone()).await.is(204);
    let told =
        client.post("/v1/events", json!({"events": [{"event": "network.bind_port"}]})).await.fails(400);
    assert_eq!(told, "Schema error: 'port_id' is a required property");
    client.post("/v1/events", json!({})).await.fails(400);
    client.get("/v1/events").await.fails(405);
    server.at(53).post("/v1/events", body).await.fails(404);
}
