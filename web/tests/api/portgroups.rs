//! Port groups, and the ports in them.

use serde_json::{Value, json};

use crate::client::{Client, Server};

const UUID: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";
const NOBODY: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c124";
const MAC: &str = "52:54:00:aa:bb:0";

fn set(path: &str, value: Value) -> Value {
    json!([{"op": "replace", "path": path, "value": value}])
}

fn take(path: &str) -> Value {
    json!([{"op": "remove", "path": path}])
}

async fn group(client: &Client, node: &str, more: Value) -> String {
    let mut body = json!({"node_uuid": node});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let made = client.post("/v1/portgroups", body).await.is(201);
    format!("/v1/portgroups/{}", made["uuid"].as_str().expect("a uuid"))
}

#[tokio::test]
async fn a_port_group_is_made_shown_changed_and_removed() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    let body = json!({"uuid": UUID, "node_uuid": node, "name": "g", "address": "52:54:00:AA:BB:01",
                      "properties": {"miimon": 100}, "standalone_ports_supported": "no"});
    let answer = client.post("/v1/portgroups", body).await;
    assert_eq!(answer.header("location"), Some(format!("{}/v1/portgroups/{UUID}", server.base).as_str()));
    let made = answer.is(201);
    assert_eq!(made.as_object().map(serde_json::Map::len), Some(16));
    for (key, value) in [
        ("address", json!("52:54:00:aa:bb:01")),
        ("mode", json!("active-backup")),
        ("standalone_ports_supported", json!(false)),
        ("dynamic_portgroup", json!(false)),
        ("internal_info", json!({})),
        ("physical_network", json!(null)),
        ("updated_at", json!(null)),
    ] {
        assert_eq!(made[key], value, "{key}");
    }
    assert_eq!(made["ports"][0]["href"], json!(format!("{}/v1/portgroups/{UUID}/ports", server.base)));
    for (minor, fields) in [(23, 11), (26, 13), (102, 14), (103, 15), (111, 16)] {
        let shown = server.at(minor).get("/v1/portgroups/g").await.is(200);
        assert_eq!(shown.as_object().map(serde_json::Map::len), Some(fields), "1.{minor}: {shown}");
    }

    let patch = json!([{"op": "add", "path": "/extra/a", "value": 1}, {"op": "remove", "path": "/name"},
                       {"op": "remove", "path": "/node_uuid"}, {"op": "replace", "path": "/mode", "value": null}]);
    let changed = client.patch("/v1/portgroups/g", patch).await.is(200);
    assert_eq!(
        (&changed["extra"], &changed["name"], &changed["mode"], &changed["node_uuid"]),
        (&json!({"a": 1}), &json!(null), &json!(null), &json!(node))
    );
    assert!(changed["updated_at"].is_string());
    let path = format!("/v1/portgroups/{UUID}");
    client.delete("/v1/portgroups/g").await.fails(404);
    client.delete(&path).await.is(204);
    client.get(&path).await.fails(404);

    let path = group(&client, &node, json!({})).await;
    client.delete(&format!("/v1/nodes/{node}")).await.is(204);
    client.get(&path).await.fails(404);
}

#[tokio::test]
async fn what_cannot_be_a_port_group_is_refused() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    group(&client, &node, json!({"uuid": UUID, "name": "g", "address": format!("{MAC}1")})).await;
    let body = |more: Value| {
        let mut body = json!({"node_uuid": node});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    for (minor, body, status, part) in [
        (115, json!({}), 400, "'node_uuid' is a required property"),
        (115, body(json!({"node_uuid": NOBODY})), 400, "could not be found"),
        (115, body(json!({"node_uuid": "n"})), 400, "Expected UUID for node_uuid: n"),
        (115, body(json!({"uuid": UUID})), 409, "A portgroup with UUID "),
        (115, body(json!({"name": "g"})), 409, "A portgroup with name g already exists."),
        (115, body(json!({"address": format!("{MAC}1")})), 409, "A portgroup with MAC address "),
        (115, body(json!({"address": "x"})), 400, "MAC"),
        (115, body(json!({"name": "bad name"})), 400, "invalid name 'bad name'"),
        (115, body(json!({"mode": 5})), 400, "mode"),
        (115, body(json!({"dynamic_portgroup": true})), 400, "'dynamic_portgroup' was unexpected"),
        (115, body(json!({"category": "c".repeat(81)})), 400, "category"),
        (25, body(json!({"mode": "802.3ad"})), 406, "1.26"),
        (25, body(json!({"properties": {"a": 1}})), 406, "1.26"),
        (22, body(json!({})), 404, "not supported for this version"),
    ] {
        let text = server.at(minor).post("/v1/portgroups", body.clone()).await.fails(status);
        assert!(text.contains(part), "{body}: {text}");
    }
    server.at(25).post("/v1/portgroups", body(json!({"mode": null, "properties": {}}))).await.is(201);
    let hidden = server.at(101).post("/v1/portgroups", body(json!({"physical_network": "p"}))).await.is(201);
    assert_eq!(hidden["physical_network"], json!(null), "{hidden}");
    let path = format!("/v1/portgroups/{UUID}");
    for (minor, patch, status) in [
        (115, take("/mode"), 400),
        (115, set("/uuid", json!(NOBODY)), 400),
        (115, set("/internal_info", json!({})), 400),
        (115, set("/name", json!("bad name")), 400),
        (115, set("/node_uuid", json!(NOBODY)), 400),
        (115, set("/node_uuid", json!("nobody")), 400),
        (115, set("/address", json!("x")), 400),
        (115, json!([{"op": "add", "path": "/foo", "value": 1}]), 400),
        (25, set("/mode", json!("x")), 406),
        (25, take("/properties"), 406),
        (22, json!([]), 404),
    ] {
        server.at(minor).patch(&path, patch.clone()).await.fails(status);
    }
    client.patch(&path, set("/node_uuid", json!("n"))).await.is(200);
    server.at(101).patch(&path, set("/physical_network", json!("p"))).await.is(200);
    client.delete("/v1/portgroups").await.fails(400);
    client.put(&path, json!({})).await.fails(405);
}

#[tokio::test]
async fn port_groups_are_listed_by_their_filters() {
    let server = Server::start();
    let client = server.at(115);
    let a = client.enrol(json!({"name": "a", "shard": "s"})).await;
    let b = client.enrol(json!({"name": "b"})).await;
    for (node, name, mac) in [(&a, "g1", "1"), (&a, "g2", "2"), (&b, "g3", "3")] {
        group(&client, node, json!({"name": name, "address": format!("{MAC}{mac}")})).await;
    }
    for (path, expected) in [
        ("/v1/portgroups".to_owned(), "g1 g2 g3"),
        ("/v1/portgroups?node=a".to_owned(), "g1 g2"),
        (format!("/v1/portgroups?node={b}"), "g3"),
        (format!("/v1/portgroups?address={MAC}2"), "g2"),
        ("/v1/portgroups?shard=s".to_owned(), "g1 g2"),
        ("/v1/portgroups?conductor_groups=x".to_owned(), ""),
        ("/v1/portgroups/detail?sort_key=name&sort_dir=desc".to_owned(), "g3 g2 g1"),
        ("/v1/portgroups?detail=true".to_owned(), "g1 g2 g3"),
        (format!("/v1/nodes/{a}/portgroups"), "g1 g2"),
        (format!("/v1/nodes/{a}/portgroups/detail"), "g1 g2"),
    ] {
        let list = client.get(&path).await.is(200);
        let names: Vec<&str> = list["portgroups"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|g| g["name"].as_str())
            .collect();
        assert_eq!(names.join(" "), expected, "{path}");
    }
    let page = client.get("/v1/portgroups?node=a&limit=1").await.is(200);
    let next = page["next"].as_str().expect("a next page");
    assert!(
        next.contains(
            "/v1/portgroups?sort_key=id&sort_dir=asc&fields=uuid,address,name&node=a&limit=1&marker="
        ),
        "{next}"
    );
    for (minor, path, status) in [
        (115, "/v1/portgroups?node=a&shard=s".to_owned(), 400),
        (115, "/v1/portgroups?node=nobody".to_owned(), 404),
        (115, "/v1/portgroups?address=x".to_owned(), 400),
        (115, "/v1/portgroups?node_uuid=x".to_owned(), 400),
        (115, "/v1/portgroups?sort_key=properties".to_owned(), 400),
        (115, format!("/v1/portgroups?marker={NOBODY}"), 404),
        (115, "/v1/portgroups?fields=foo".to_owned(), 400),
        (115, "/v1/portgroups?fields=uuid&detail=true".to_owned(), 400),
        (105, "/v1/portgroups?shard=s".to_owned(), 406),
        (110, "/v1/portgroups?fields=dynamic_portgroup".to_owned(), 406),
        (110, "/v1/portgroups?sort_key=dynamic_portgroup".to_owned(), 406),
        (25, "/v1/portgroups?fields=mode".to_owned(), 406),
        (25, "/v1/portgroups?sort_key=mode".to_owned(), 406),
        (42, "/v1/portgroups?detail=true".to_owned(), 400),
        (22, "/v1/portgroups".to_owned(), 404),
        (23, format!("/v1/nodes/{a}/portgroups"), 404),
        (115, "/v1/nodes/a/portgroups".to_owned(), 404),
    ] {
        server.at(minor).get(&path).await.fails(status);
    }
    server.at(101).get("/v1/portgroups?fields=physical_network").await.is(200);
    server.at(90).get("/v1/portgroups/g1.json").await.is(200);
    client.get("/v1/portgroups/g1.json").await.fails(404);
}

#[tokio::test]
async fn ports_fit_their_group() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n", "network_interface": "noop"})).await;
    let other = client.enrol(json!({"name": "o"})).await;
    let path = group(&client, &node, json!({"uuid": UUID, "name": "g"})).await;
    let port = |node: &str, at: u8, more: Value| {
        let mut body = json!({"node_uuid": node, "address": format!("{MAC}{at}"), "portgroup_uuid": UUID});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        client.send(reqwest::Method::POST, "/v1/ports", Some(body))
    };
    let text = port(&other, 1, json!({})).await.fails(400);
    assert_eq!(text, "Port can not be added to a portgroup belonging to a different node.");
    port(&node, 1, json!({"portgroup_uuid": NOBODY})).await.fails(400);
    server
        .at(23)
        .post("/v1/ports", json!({"node_uuid": node, "address": format!("{MAC}1"), "portgroup_uuid": UUID}))
        .await
        .fails(406);

    let first = port(&node, 1, json!({"physical_network": "p1"})).await.is(201);
    assert_eq!(client.get(&path).await.is(200)["physical_network"], json!("p1"), "the first port decides");
    let text = port(&node, 2, json!({"physical_network": "p2"})).await.fails(409);
    assert!(text.contains("Port with physical network p2 cannot become a member"), "{text}");
    let text = port(&node, 2, json!({})).await.fails(409);
    assert!(text.contains("Port with physical network None"), "{text}");
    port(&node, 2, json!({"physical_network": "p1"})).await.is(201);

    let first = format!("/v1/ports/{}", first["uuid"].as_str().expect("a uuid"));
    client.patch(&first, set("/physical_network", json!("p2"))).await.fails(400);
    server.at(101).patch(&first, set("/physical_network", json!("p2"))).await.fails(409);
    client.patch(&path, set("/physical_network", json!("p3"))).await.is(200);
    assert_eq!(client.get(&first).await.is(200)["physical_network"], json!("p3"), "ports follow their group");

    client.patch(&path, set("/standalone_ports_supported", json!(false))).await.is(200);
    let text = port(&node, 3, json!({"physical_network": "p3", "pxe_enabled": true})).await.fails(409);
    assert!(text.contains("doesn't support standalone ports"), "{text}");
    let third = port(&node, 3, json!({"physical_network": "p3"})).await.is(201);

    for (query, count) in [
        (format!("/v1/portgroups/{UUID}/ports"), 3),
        (format!("/v1/portgroups/{UUID}/ports/detail"), 3),
        ("/v1/ports?portgroup=g".to_owned(), 3),
        (format!("/v1/ports?portgroup={UUID}&address={MAC}9"), 3),
    ] {
        let list = client.get(&query).await.is(200);
        assert_eq!(list["ports"].as_array().map(Vec::len), Some(count), "{query}");
    }
    client.get("/v1/portgroups/g/ports").await.fails(404);
    client.get(&format!("/v1/portgroups/{NOBODY}/ports")).await.fails(404);
    server.at(23).get(&format!("/v1/portgroups/{UUID}/ports")).await.fails(404);
    client.get("/v1/ports?portgroup=nobody").await.fails(404);
    client.get("/v1/ports?portgroup=g&node=n").await.fails(403);
    client.get(&format!("/v1/portgroups/{UUID}/ports?node=n")).await.fails(403);
    let all = client.get(&format!("/v1/nodes/{node}/ports?address={MAC}9")).await.is(200);
    assert_eq!(all["ports"].as_array().map(Vec::len), Some(3), "the node is enough");
    server.at(23).get("/v1/ports?portgroup=g").await.fails(406);

    let text = client.delete(&path).await.fails(400);
    assert!(text.contains("contains ports"), "{text}");
    let text = client.patch(&path, set("/node_uuid", json!(other))).await.fails(400);
    assert!(text.contains("there are ports associated"), "{text}");
    let third = format!("/v1/ports/{}", third["uuid"].as_str().expect("a uuid"));
    client.patch(&third, set("/portgroup_uuid", json!("x"))).await.fails(400);
    server.at(23).patch(&third, take("/portgroup_uuid")).await.fails(406);
    assert_eq!(client.patch(&third, take("/portgroup_uuid")).await.is(200)["portgroup_uuid"], json!(null));
    for port in client.get("/v1/ports?portgroup=g").await.is(200)["ports"].as_array().expect("a list") {
        client.delete(&format!("/v1/ports/{}", port["uuid"].as_str().expect("a uuid"))).await.is(204);
    }
    assert_eq!(client.patch(&path, set("/node_uuid", json!(other))).await.is(200)["node_uuid"], json!(other));
    client.delete(&path).await.is(204);
}

#[tokio::test]
async fn two_who_change_different_things_lose_nothing() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    let path = group(&client, &node, json!({})).await;
    let all = futures_util::future::join_all((0..20).map(|at| {
        let patch = json!([{"op": "add", "path": format!("/properties/k{at}"), "value": at}]);
        let (client, path) = (&client, &path);
        async move { client.patch(path, patch).await.is(200) }
    }));
    all.await;
    let kept = client.get(&path).await.is(200)["properties"].clone();
    assert_eq!(kept.as_object().map(serde_json::Map::len), Some(20), "{kept}");
}
