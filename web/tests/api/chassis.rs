//! Chassis, and the nodes that stand in them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Server;

const UUID: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";
const NOBODY: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c124";

fn keys(body: &Value) -> String {
    let mut keys: Vec<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}

#[tokio::test]
async fn a_chassis_is_made_shown_changed_and_removed() {
    let server = Server::start();
    let client = server.at(115);
    let answer =
        client.post("/v1/chassis", json!({"uuid": UUID, "description": "d", "extra": {"a": 1}})).await;
    let location = answer.header("location").expect("a location").to_owned();
    let made = answer.is(201);
    assert_eq!(location, format!("{}/v1/chassis/{UUID}", server.base));
    assert_eq!(keys(&made), "created_at description extra links nodes updated_at uuid");
    assert_eq!(made["nodes"][0][1]["href"], json!(format!("{}/chassis/{UUID}/nodes", server.base)));
    assert_eq!(made["updated_at"], json!(null));
    let text = client.post("/v1/chassis", json!({"uuid": UUID})).await.fails(409);
    assert_eq!(text, format!("A chassis with UUID {UUID} already exists."));
    client.send(Method::POST, "/v1/chassis", None).await.is(201);

    let path = format!("/v1/chassis/{UUID}");
    let patch =
        json!([{"op": "add", "path": "/extra/b", "value": 2}, {"op": "remove", "path": "/description"}]);
    let changed = client.patch(&path, patch).await.is(200);
    assert_eq!((&changed["extra"], &changed["description"]), (&json!({"a": 1, "b": 2}), &json!(null)));
    assert_eq!(server.at(1).get(&path).await.is(200), changed);
    assert_eq!(keys(&client.get(&format!("{path}?fields=extra")).await.is(200)), "extra links");

    for (path, expected) in [
        ("/v1/chassis", "description links uuid"),
        ("/v1/chassis?detail=true", "created_at description extra links nodes updated_at uuid"),
        ("/v1/chassis/detail", "created_at description extra links nodes updated_at uuid"),
        ("/v1/chassis?fields=uuid", "links uuid"),
    ] {
        let list = client.get(path).await.is(200);
        assert_eq!(list["chassis"].as_array().map(Vec::len), Some(2), "{path}");
        assert_eq!(keys(&list["chassis"][0]), expected, "{path}");
    }
    let page = client.get("/v1/chassis?limit=1").await.is(200);
    let next = format!(
        "{}/v1/chassis?sort_key=id&sort_dir=asc&fields=uuid,description&limit=1&marker={UUID}",
        server.base
    );
    assert_eq!(page["next"], json!(next));
    client.delete(&path).await.is(204);
    client.delete(&path).await.fails(404);
}

#[tokio::test]
async fn what_is_wrong_with_a_chassis_is_said() {
    let server = Server::start();
    let client = server.at(115);
    client.post("/v1/chassis", json!({"uuid": UUID})).await.is(201);
    let path = format!("/v1/chassis/{UUID}");
    for body in [json!({"uuid": "x"}), json!({"description": 5}), json!({"foo": 1}), json!({"nodes": []})] {
        client.post("/v1/chassis", body).await.fails(400);
    }
    for (op, at) in
        [("replace", "/uuid"), ("add", "/foo"), ("remove", "/extra/x"), ("test", "/extra"), ("add", "/nodes")]
    {
        client.patch(&path, json!([{"op": op, "path": at, "value": NOBODY}])).await.fails(400);
    }
    for query in [
        "sort_key=extra",
        "sort_key=x",
        "limit=0",
        "marker=x",
        "fields=foo",
        "detail=true&fields=uuid",
        "x=1",
    ] {
        client.get(&format!("/v1/chassis?{query}")).await.fails(400);
    }
    client.get(&format!("/v1/chassis?marker={NOBODY}")).await.fails(404);
    server.at(42).get("/v1/chassis?detail=true").await.fails(400);
    server.at(7).get(&format!("{path}?fields=uuid")).await.fails(406);
    client.get("/v1/chassis/x").await.fails(400);
    client.get(&format!("/v1/chassis/{NOBODY}")).await.fails(404);
    client.delete("/v1/chassis").await.fails(400);
    client.put(&path, json!({})).await.fails(405);
}

#[tokio::test]
async fn a_chassis_stays_while_nodes_stand_in_it() {
    let server = Server::start();
    let client = server.at(115);
    client.post("/v1/chassis", json!({"uuid": UUID})).await.is(201);
    let node = client.enrol(json!({"name": "in", "chassis_uuid": UUID})).await;
    client.enrol(json!({"name": "out"})).await;
    let text =
        client.post("/v1/nodes", json!({"driver": "fake-hardware", "chassis_uuid": NOBODY})).await.fails(400);
    assert_eq!(text, format!("Chassis {NOBODY} could not be found."));

    for path in [
        format!("/v1/chassis/{UUID}/nodes"),
        format!("/v1/chassis/{UUID}/nodes/detail"),
        format!("/v1/nodes?chassis_uuid={UUID}"),
    ] {
        let list = client.get(&path).await.is(200);
        let names: Vec<&str> = list["nodes"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|node| node["name"].as_str())
            .collect();
        assert_eq!(names, ["in"], "{path}");
    }
    let page = client.get(&format!("/v1/chassis/{UUID}/nodes?limit=1")).await.is(200);
    let next =
        page["next"].as_str().expect("a next page").strip_prefix(&server.base).expect("here").to_owned();
    assert_eq!(client.get(&next).await.is(200)["nodes"], json!([]), "the next page is of the same chassis");
    for path in [format!("/v1/chassis/{NOBODY}/nodes"), format!("/v1/nodes?chassis_uuid={NOBODY}")] {
        client.get(&path).await.fails(404);
    }
    client.get("/v1/chassis/x/nodes").await.fails(400);
    client.get("/v1/nodes?chassis_uuid=x").await.fails(400);

    let text = client.delete(&format!("/v1/chassis/{UUID}")).await.fails(400);
    assert!(text.contains("contains nodes"), "{text}");
    let node = format!("/v1/nodes/{node}");
    let to = |id: &str| json!([{"op": "replace", "path": "/chassis_uuid", "value": id}]);
    client.patch(&node, to(NOBODY)).await.fails(400);
    server.at(24).patch(&node, json!([{"op": "remove", "path": "/chassis_uuid"}])).await.fails(406);
    assert_eq!(client.patch(&node, to(UUID)).await.is(200)["chassis_uuid"], json!(UUID));
    client.patch(&node, json!([{"op": "remove", "path": "/chassis_uuid"}])).await.is(200);
    client.delete(&format!("/v1/chassis/{UUID}")).await.is(204);
}

#[tokio::test]
async fn two_who_change_different_things_lose_nothing() {
    let server = Server::start();
    let client = server.at(115);
    client.post("/v1/chassis", json!({"uuid": UUID})).await.is(201);
    let path = format!("/v1/chassis/{UUID}");
    let all = futures_util::future::join_all((0..20).map(|at| {
        let patch = json!([{"op": "add", "path": format!("/extra/k{at}"), "value": at}]);
        let (client, path) = (&client, &path);
        async move { client.patch(path, patch).await.is(200) }
    }));
    all.await;
    let extra = client.get(&path).await.is(200)["extra"].clone();
    assert_eq!(extra.as_object().map(serde_json::Map::len), Some(20), "{extra}");
}
