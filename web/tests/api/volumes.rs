//! Volume connectors and targets.

use serde_json::{Value, json};

use crate::client::Server;

const UUID: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";
const NOBODY: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c124";

fn set(path: &str, value: Value) -> Value {
    json!([{"op": "replace", "path": path, "value": value}])
}

async fn powered(client: &crate::client::Client, node: &str, state: &str) {
    client.put(&format!("/v1/nodes/{node}/states/power"), json!({"target": state})).await.is(202);
    client.until(node, "power_state", &json!(state)).await;
}

#[tokio::test]
async fn a_connector_is_made_shown_changed_and_removed() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    let body =
        json!({"uuid": UUID, "node_uuid": node, "type": "iqn", "connector_id": "iqn.1", "extra": {"a": 1}});
    let answer = client.post("/v1/volume/connectors", body).await;
    let path = format!("/v1/volume/connectors/{UUID}");
    assert_eq!(answer.header("location"), Some(format!("{}{path}", server.base).as_str()));
    let made = answer.is(201);
    assert_eq!(made.as_object().map(serde_json::Map::len), Some(8));
    assert_eq!(made["links"][1]["href"], json!(format!("{}/volume/connectors/{UUID}", server.base)));
    assert_eq!(client.get(&path).await.is(200), made);
    for (more, status, part) in [
        (json!({}), 409, "A volume connector with type iqn and connector ID iqn.1 already exists."),
        (json!({"uuid": UUID, "type": "ip"}), 409, "A volume connector with UUID "),
        (json!({"node_uuid": NOBODY, "type": "ip"}), 400, "Invalid input for field/attribute node_uuid."),
        (json!({"node_uuid": "n", "type": "ip"}), 400, "Expected UUID for node_uuid: n"),
        (json!({"type": 5}), 400, "type"),
        (json!({"type": null}), 400, "type"),
        (json!({"foo": 1}), 400, "'foo' was unexpected"),
    ] {
        let mut body = json!({"node_uuid": node, "type": "iqn", "connector_id": "iqn.1"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let text = client.post("/v1/volume/connectors", body).await.fails(status);
        assert!(text.contains(part), "{more}: {text}");
    }
    let text =
        client.post("/v1/volume/connectors", json!({"node_uuid": node, "type": "ip"})).await.fails(400);
    assert!(text.contains("'connector_id' is a required property"), "{text}");

    let text = client.patch(&path, set("/connector_id", json!("x"))).await.fails(400);
    assert!(text.contains("\"volume connector update\" can not be performed"), "{text}");
    powered(&client, &node, "power off").await;
    let patch = json!([{"op": "replace", "path": "/connector_id", "value": "x"}, {"op": "add", "path": "/extra/b", "value": 2}]);
    let changed = client.patch(&path, patch).await.is(200);
    assert_eq!((&changed["connector_id"], &changed["extra"]), (&json!("x"), &json!({"a": 1, "b": 2})));
    for (op, at) in [
        ("remove", "/type"),
        ("replace", "/uuid"),
        ("add", "/foo"),
        ("remove", "/extra/z"),
        ("replace", "/node_uuid"),
    ] {
        client.patch(&path, json!([{"op": op, "path": at, "value": NOBODY}])).await.fails(400);
    }
    client.patch(&path, json!([{"op": "remove", "path": "/node_uuid"}])).await.is(200);
    client.delete(&path).await.is(204);
    client.delete(&path).await.fails(404);
}

#[tokio::test]
async fn a_target_is_held_while_its_machine_runs() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    let body = |index: Value| json!({"node_uuid": node, "volume_type": "iscsi", "volume_id": "v", "boot_index": index});
    let mut first = body(json!(0));
    first["uuid"] = json!(UUID);
    first["properties"] = json!({"auth_password": "hunter2", "target_lun": 1});
    let made = client.post("/v1/volume/targets", first).await.is(201);
    assert_eq!(made["properties"], json!({"auth_password": "******", "target_lun": 1}));
    let text = client.post("/v1/volume/targets", body(json!(0))).await.fails(409);
    assert_eq!(text, "A volume target with boot index '0' for the same node already exists.");
    for index in [json!("1"), json!(1.5), json!(true), json!(null)] {
        client.post("/v1/volume/targets", body(index)).await.fails(400);
    }
    assert_eq!(client.post("/v1/volume/targets", body(json!(2.0))).await.is(201)["boot_index"], json!(2));
    client.post("/v1/volume/targets", body(json!(-1))).await.is(201);

    let path = format!("/v1/volume/targets/{UUID}");
    powered(&client, &node, "power off").await;
    client.patch(&path, set("/boot_index", json!(2))).await.fails(409);
    client.patch(&path, set("/boot_index", json!("x"))).await.fails(400);
    // what was shown as stars and is written back stays what it is
    let shown = client.get(&path).await.is(200)["properties"].clone();
    let changed = client
        .patch(
            &path,
            json!([{"op": "replace", "path": "/properties", "value": shown},
                                             {"op": "add", "path": "/properties/x", "value": 1}]),
        )
        .await
        .is(200);
    assert_eq!(changed["properties"], json!({"auth_password": "******", "target_lun": 1, "x": 1}));

    client.provision(&node, "manage", "manageable").await;
    client.provision(&node, "provide", "available").await;
    powered(&client, &node, "power on").await;
    let text = client.delete(&path).await.fails(400);
    assert!(text.contains("\"volume target deletion\" can not be performed"), "{text}");
    powered(&client, &node, "power off").await;
    client.delete(&path).await.is(204);
    client.provision(&node, "manage", "manageable").await;
    client.delete(&format!("/v1/nodes/{node}")).await.is(204);
    assert_eq!(
        client.get("/v1/volume/targets").await.is(200)["targets"],
        json!([]),
        "they go with their node"
    );
}

#[tokio::test]
async fn volumes_are_listed() {
    let server = Server::start();
    let client = server.at(115);
    let (a, b) = (client.enrol(json!({"name": "a"})).await, client.enrol(json!({"name": "b"})).await);
    for (node, id) in [(&a, "1"), (&a, "2"), (&b, "3")] {
        client
            .post("/v1/volume/connectors", json!({"node_uuid": node, "type": "ip", "connector_id": id}))
            .await
            .is(201);
        let body = json!({"node_uuid": node, "volume_type": "iscsi", "volume_id": id, "boot_index": id.parse::<i64>().expect("a number")});
        client.post("/v1/volume/targets", body).await.is(201);
    }
    for (kind, list, key) in
        [("connectors", "connectors", "connector_id"), ("targets", "targets", "volume_id")]
    {
        for (query, expected) in [
            (format!("/v1/volume/{kind}"), "1 2 3"),
            (format!("/v1/volume/{kind}?detail=true"), "1 2 3"),
            (format!("/v1/volume/{kind}?node={b}"), "3"),
            (format!("/v1/volume/{kind}?node=a"), "1 2"),
            (format!("/v1/volume/{kind}?sort_key={key}&sort_dir=desc"), "3 2 1"),
            (format!("/v1/nodes/{a}/volume/{kind}"), "1 2"),
        ] {
            let found = client.get(&query).await.is(200);
            let ids: Vec<&str> =
                found[list].as_array().expect("a list").iter().filter_map(|one| one[key].as_str()).collect();
            assert_eq!(ids.join(" "), expected, "{query}");
        }
        let next = client.get(&format!("/v1/volume/{kind}?limit=1")).await.is(200)["next"].clone();
        assert!(next.as_str().is_some_and(|next| next.contains("&fields=uuid,node_uuid,")), "{next}");
        for (minor, query, status) in [
            (115, format!("/v1/volume/{kind}?node=nobody"), 404),
            (115, format!("/v1/volume/{kind}?marker={NOBODY}"), 404),
            (115, format!("/v1/volume/{kind}?marker=x"), 400),
            (115, format!("/v1/volume/{kind}?sort_key=extra"), 400),
            (115, format!("/v1/volume/{kind}?sort_key=node_uuid"), 400),
            (115, format!("/v1/volume/{kind}?detail=true&fields=uuid"), 400),
            (115, format!("/v1/volume/{kind}?fields=foo"), 400),
            (115, format!("/v1/volume/{kind}/x"), 400),
            (115, format!("/v1/volume/{kind}/{NOBODY}"), 404),
            (115, format!("/v1/nodes/a/volume/{kind}"), 404),
            (31, format!("/v1/volume/{kind}"), 404),
        ] {
            server.at(minor).get(&query).await.fails(status);
        }
        server.at(32).get(&format!("/v1/volume/{kind}?detail=true")).await.is(200);
    }
    let all = client.get("/v1/volume").await.is(200);
    assert_eq!(all["connectors"][0]["href"], json!(format!("{}/v1/volume/connectors", server.base)));
    assert_eq!(all["links"][1]["href"], json!(format!("{}/volume/", server.base)));
    let one = client.get(&format!("/v1/nodes/{a}/volume")).await.is(200);
    assert_eq!(one["targets"][0]["href"], json!(format!("{}/v1/nodes/{a}/volume/targets", server.base)));
    let text = server.at(31).get("/v1/volume").await.fails(404);
    assert!(text.contains("not supported for this version"), "{text}");
}
