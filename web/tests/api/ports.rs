use serde_json::{Value, json};

use crate::client::Server;

const MAC: &str = "52:54:00:aa:bb:01";

#[tokio::test]
async fn a_port_is_made_shown_changed_and_removed() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    let answer = client
        .post("/v1/ports", json!({"node_uuid": node, "address": "52-54-00-AA-BB-01", "name": "eth0"}))
        .await;
    let location = answer.header("location").expect("a location").to_owned();
    let port = answer.is(201);
    let uuid = port["uuid"].as_str().expect("a uuid").to_owned();
    assert_eq!(location, format!("{}/v1/ports/{uuid}", server.base));
    assert_eq!(
        (&port["address"], &port["node_uuid"], &port["pxe_enabled"]),
        (&json!(MAC), &json!(node), &json!(true))
    );
    assert_eq!(port.as_object().map(serde_json::Map::len), Some(18));
    let old = server.at(1).get(&format!("/v1/ports/{uuid}")).await.is(200);
    let mut keys: Vec<&str> = old.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["address", "created_at", "extra", "links", "node_uuid", "updated_at", "uuid"]);

    let patch = json!([{"op": "replace", "path": "/pxe_enabled", "value": false}, {"op": "remove", "path": "/node_uuid"}]);
    let port = client.patch("/v1/ports/eth0", patch).await.is(200);
    assert_eq!((&port["pxe_enabled"], &port["node_uuid"]), (&json!(false), &json!(node)));
    client.delete("/v1/ports/eth0").await.fails(400);
    client.delete(&format!("/v1/ports/{uuid}")).await.is(204);
    client.get(&format!("/v1/ports/{uuid}")).await.fails(404);
}

#[tokio::test]
async fn ports_are_listed_by_their_filters() {
    let server = Server::start();
    let client = server.at(115);
    let (a, b) =
        (client.enrol(json!({"name": "a"})).await, client.enrol(json!({"name": "b", "shard": "s"})).await);
    for (node, last) in [(&a, "01"), (&a, "02"), (&b, "03")] {
        client
            .post("/v1/ports", json!({"node_uuid": node, "address": format!("52:54:00:aa:bb:{last}")}))
            .await
            .is(201);
    }
    for (path, expected) in [
        ("/v1/ports".to_owned(), "01 02 03"),
        ("/v1/ports?node=a".to_owned(), "01 02"),
        (format!("/v1/ports?node_uuid={b}"), "03"),
        ("/v1/ports?address=52:54:00:AA:BB:02".to_owned(), "02"),
        ("/v1/ports?node=a&address=52:54:00:aa:bb:03".to_owned(), "01 02"),
        ("/v1/ports?shard=s".to_owned(), "03"),
        (format!("/v1/nodes/{a}/ports"), "01 02"),
        ("/v1/ports/detail?sort_key=address&sort_dir=desc".to_owned(), "03 02 01"),
    ] {
        let list = client.get(&path).await.is(200);
        let ends: Vec<&str> = list["ports"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|port| port["address"].as_str().and_then(|mac| mac.rsplit(':').next()))
            .collect();
        assert_eq!(ends.join(" "), expected, "{path}");
    }
    let page = client.get("/v1/ports?limit=2").await.is(200);
    assert!(
        page["next"].as_str().is_some_and(|next| next.contains("&fields=uuid,address&limit=2&marker=")),
        "{page}"
    );
    client.get("/v1/nodes/a/ports").await.fails(404);
    client.get("/v1/ports?address=x").await.fails(400);
    client.get("/v1/ports?conductor_groups=x&node=a").await.fails(400);
    client.get("/v1/ports?shard=s&node=a").await.fails(403);
    server.at(87).get("/v1/ports?sort_key=name").await.fails(406);
    client.get("/v1/ports?portgroup=x&node=a").await.fails(403);
}

#[tokio::test]
async fn what_cannot_be_a_port_is_refused() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    client.post("/v1/ports", json!({"node_ident": "n", "address": MAC})).await.is(201);
    let body = |more: Value| {
        let mut body = json!({"node_uuid": node, "address": "52:54:00:aa:bb:02"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    for (minor, body, status) in [
        (115, json!({"address": MAC}), 400),
        (115, json!({"node_uuid": node}), 400),
        (115, body(json!({"node_ident": "n"})), 400),
        (115, body(json!({"address": "x"})), 400),
        (115, body(json!({"address": MAC})), 409),
        (115, body(json!({"node_uuid": "1be26c0b-03f2-4d2e-ae87-c02d7f33c123"})), 400),
        (115, body(json!({"internal_info": {}})), 400),
        (115, body(json!({"local_link_connection": {"port_id": "1"}})), 400),
        (115, body(json!({"local_link_connection": {"port_id": "1", "switch_id": "nonsense"}})), 400),
        (115, body(json!({"portgroup_uuid": node})), 400),
        (63, body(json!({"local_link_connection": {"network_type": "managed"}})), 406),
        (18, body(json!({"pxe_enabled": true})), 406),
        (115, body(json!({"physical_network": ""})), 400),
        (
            115,
            body(json!({"is_smartnic": true, "local_link_connection": {"network_type": "unmanaged"}})),
            400,
        ),
        (
            105,
            body(json!({"local_link_connection": {
            "port_id": "1", "vtep-logical-switch": "l", "vtep-physical-switch": "p"}})),
            406,
        ),
        (104, body(json!({"local_link_connection": {"port_id": "1", "vtep-logical-switch": "l"}})), 400),
        (93, json!({"node_ident": "n", "address": "52:54:00:aa:bb:02"}), 406),
    ] {
        server.at(minor).post("/v1/ports", body.clone()).await.fails(status);
    }
    let fits = json!({"local_link_connection": {"port_id": "1", "switch_id": "00:11:22:33:44:55", "switch_info": "rack"}});
    client.post("/v1/ports", body(fits)).await.is(201);
}
