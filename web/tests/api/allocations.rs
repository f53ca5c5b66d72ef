//! Allocations and shards on the wire (api.md §5, §6).

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Server};

/// An available node of class `bm`, of known power state.
async fn free(client: &Client, name: &str) -> String {
    let node = client.enrol(json!({"name": name, "resource_class": "bm"})).await;
    client.provision(&node, "manage", "manageable").await;
    client.provision(&node, "provide", "available").await;
    client.put(&format!("/v1/nodes/{node}/states/power"), json!({"target": "power off"})).await.is(202);
    client.until(&node, "power_state", &json!("power off")).await;
    client.until(&node, "reservation", &Value::Null).await;
    node
}

/// Waits until the allocation is no longer `allocating`.
async fn settled(client: &Client, ident: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let row = client.get(&format!("/v1/allocations/{ident}")).await.is(200);
        if row["state"] != "allocating" {
            return row;
        }
        assert!(Instant::now() < deadline, "{row}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_allocation_is_answered_first_and_done_afterwards() {
    let server = Server::start();
    let client = server.at(115);
    let node = free(&client, "n").await;
    let body = json!({"resource_class": "bm", "name": "a", "extra": {"k": 1}, "candidate_nodes": ["n", "n"]});
    let answer = client.post("/v1/allocations", body).await;
    let location = answer.header("location").expect("a location").to_owned();
    let made = answer.is(201);
    let uuid = made["uuid"].as_str().expect("a uuid").to_owned();
    assert_eq!(location, format!("{}/v1/allocations/{uuid}", server.base));
    assert_eq!(made["state"], "allocating");
    assert_eq!(made["candidate_nodes"], json!([node]), "names become ids, once each");
    let row = settled(&client, "a").await;
    assert_eq!((&row["state"], &row["node_uuid"]), (&json!("active"), &json!(node)));
    let mut keys: Vec<&str> = row.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "candidate_nodes",
            "created_at",
            "extra",
            "last_error",
            "links",
            "name",
            "node_uuid",
            "owner",
            "resource_class",
            "state",
            "traits",
            "updated_at",
            "uuid"
        ]
    );
    let shown = client.get("/v1/nodes/n").await.is(200);
    assert_eq!((&shown["instance_uuid"], &shown["allocation_uuid"]), (&json!(uuid), &json!(uuid)));
    assert_eq!(shown["instance_info"], json!({"traits": []}));
    let list = client.get("/v1/nodes?fields=allocation_uuid").await.is(200);
    assert_eq!(list["nodes"][0]["allocation_uuid"], json!(uuid));
    assert!(server.at(51).get("/v1/nodes/n").await.is(200).get("allocation_uuid").is_none());

    assert_eq!(client.get("/v1/nodes/n/allocation").await.is(200), row);
    let short = client.get("/v1/nodes/n/allocation?fields=name").await.is(200);
    assert_eq!(short["name"], "a");
    assert!(short.get("uuid").is_none());
    let taken =
        json!([{"op": "add", "path": "/instance_uuid", "value": "11111111-1111-4111-8111-111111111111"}]);
    assert!(client.patch("/v1/nodes/n", taken).await.fails(409).contains("is associated with instance"));
    client.delete("/v1/nodes/n").await.fails(409);
    client.delete("/v1/nodes/n/allocation").await.is(204);
    assert_eq!(client.get("/v1/nodes/n").await.is(200)["instance_uuid"], Value::Null);
    assert_eq!(client.get("/v1/nodes/n/allocation").await.fails(404), "Allocation for node n was not found");
    client.delete("/v1/nodes/n/allocation").await.fails(404);
    assert!(client.get("/v1/allocations/a").await.fails(404).starts_with("Allocation a could not be found."));
    // a node that is nobody's is a bad filter of the one, and not there for the other
    client.get("/v1/nodes/none/allocation").await.fails(400);
    client.delete("/v1/nodes/none/allocation").await.fails(404);
    for method in [Method::POST, Method::PATCH, Method::PUT] {
        client.send(method, "/v1/nodes/n/allocation", Some(json!([]))).await.fails(405);
    }
}

#[tokio::test]
async fn an_allocation_holds_an_active_node_until_it_is_undeployed() {
    let server = Server::start();
    let client = server.at(115);
    let node = free(&client, "n").await;
    client.post("/v1/allocations", json!({"resource_class": "bm", "name": "a"})).await.is(201);
    settled(&client, "a").await;
    client.provision(&node, "active", "active").await;
    assert!(client.delete("/v1/allocations/a").await.fails(409).contains("because the node is active"));
    client.delete("/v1/nodes/n/allocation").await.fails(409);
    let gone = json!([{"op": "remove", "path": "/instance_uuid"}]);
    assert!(
        client.patch("/v1/nodes/n", gone).await.fails(409).contains("can not have instance_uuid removed")
    );
    client.provision(&node, "deleted", "available").await;
    client.get("/v1/allocations/a").await.fails(404);

    client.provision(&node, "active", "active").await;
    let made = client.post("/v1/allocations", json!({"node": "n", "name": "after"})).await.is(201);
    assert_eq!((&made["state"], &made["node_uuid"]), (&json!("active"), &json!(node)));
    assert_eq!(made["resource_class"], "bm");
    let again = client.post("/v1/allocations", json!({"node": "n", "name": "twice"})).await;
    again.fails(409);
    client.put("/v1/nodes/n/maintenance", json!({})).await.is(202);
    client.delete("/v1/allocations/after").await.is(204);
    assert_eq!(client.get("/v1/nodes/n").await.is(200)["instance_uuid"], Value::Null);
}

#[tokio::test]
async fn bodies_of_allocations_are_checked() {
    let server = Server::start();
    let client = server.at(60);
    client.enrol(json!({"name": "n", "resource_class": "bm"})).await;
    for (body, part) in [
        (json!({}), "The resource_class field is mandatory when not backfilling"),
        (
            json!({"resource_class": "bm", "foo": 1}),
            "Additional properties are not allowed ('foo' was unexpected)",
        ),
        (json!({"resource_class": "bm", "name": "!!"}), "Cannot create allocation with invalid name '!!'"),
        (json!({"resource_class": "bm", "traits": ["bad"]}), "bad"),
        (json!({"resource_class": "bm", "traits": "bad"}), "traits"),
        (json!({"resource_class": 5}), "resource_class"),
        (json!({"resource_class": "x".repeat(81)}), "resource_class"),
        (json!({"resource_class": "bm", "extra": []}), "extra"),
        (json!({"resource_class": "bm", "uuid": "xx"}), "uuid"),
        (json!({"resource_class": "bm", "state": "active"}), "'state' was unexpected"),
        (json!({"resource_class": "bm", "candidate_nodes": ["n", "nope"]}), "Nodes cannot be found: nope"),
        (json!({"node": "nope"}), "Node nope could not be found."),
    ] {
        let told = client.post("/v1/allocations", body.clone()).await.fails(400);
        assert!(told.contains(part), "{body}: {told}");
    }
    let early = client.post("/v1/allocations", json!({"node": "n", "name": "early"})).await.fails(500);
    assert!(
        early.contains("Node must be in the \"active\" state, but the current state is \"enroll\"."),
        "{early}"
    );
    assert_eq!(client.get("/v1/allocations/early").await.is(200)["last_error"], json!(early));
    let uuid = "11111111-1111-4111-8111-111111111111";
    client.post("/v1/allocations", json!({"resource_class": "bm", "name": "a", "uuid": uuid})).await.is(201);
    let name = client.post("/v1/allocations", json!({"resource_class": "bm", "name": "a"})).await.fails(409);
    assert_eq!(name, "An allocation with name a already exists.");
    let twin = client.post("/v1/allocations", json!({"resource_class": "bm", "uuid": uuid})).await.fails(409);
    assert_eq!(twin, format!("An allocation with UUID {uuid} already exists."));
    let failed = settled(&client, "a").await;
    let reason =
        format!("Failed to process allocation {uuid}: no available nodes match the resource class bm.");
    assert_eq!((&failed["state"], &failed["last_error"]), (&json!("error"), &json!(reason)));
    client.delete(&format!("/v1/allocations/{uuid}")).await.is(204);
    client.delete(&format!("/v1/allocations/{uuid}")).await.fails(404);
}

#[tokio::test]
async fn allocations_are_listed_filtered_paged_and_patched() {
    let server = Server::start();
    let client = server.at(115);
    for (name, class, owner) in [("a", "x", "p"), ("b", "y", "q"), ("c", "x", "q")] {
        let body = json!({"name": name, "resource_class": class, "owner": owner});
        client.post("/v1/allocations", body).await.is(201);
        settled(&client, name).await;
    }
    let names = |body: Value| -> Vec<String> {
        let rows = body["allocations"].as_array().expect("a list").clone();
        rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
    };
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        ("?resource_class=x", vec!["a", "c"]),
        ("?owner=q", vec!["b", "c"]),
        ("?state=error&owner=p", vec!["a"]),
        ("?state=nonsense", vec![]),
        ("?sort_key=resource_class&sort_dir=desc", vec!["b", "c", "a"]),
        ("?limit=1&marker=", vec![]),
    ] {
        if query.ends_with("marker=") {
            client.get(&format!("/v1/allocations{query}")).await.fails(400);
            continue;
        }
        assert_eq!(names(client.get(&format!("/v1/allocations{query}")).await.is(200)), expected, "{query}");
    }
    let page = client.get("/v1/allocations?limit=2&fields=name&owner=q&resource_class=x").await.is(200);
    assert_eq!(names(page), ["c"]);
    let page = client.get("/v1/allocations?limit=1&fields=name&owner=q").await.is(200);
    let next = page["next"].as_str().expect("more").strip_prefix(&server.base).expect("ours").to_owned();
    assert_eq!(names(client.get(&next).await.is(200)), ["c"]);
    for bad in [
        "sort_key=traits",
        "sort_key=foo",
        "sort_key=node_uuid",
        "marker=foo",
        "limit=-1",
        "detail=true",
        "node=nope",
        "fields=foo",
    ] {
        client.get(&format!("/v1/allocations?{bad}")).await.fails(400);
    }
    client.get("/v1/allocations?marker=21111111-1111-4111-8111-111111111111").await.fails(404);

    let set = |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
    assert_eq!(client.patch("/v1/allocations/a", json!([])).await.is(200)["name"], "a");
    assert_eq!(client.patch("/v1/allocations/a", set("/name", json!("z"))).await.is(200)["name"], "z");
    let extra = json!([{"op": "add", "path": "/extra/k", "value": "v"}]);
    assert_eq!(client.patch("/v1/allocations/z", extra).await.is(200)["extra"], json!({"k": "v"}));
    let nameless =
        client.patch("/v1/allocations/z", json!([{"op": "remove", "path": "/name"}])).await.is(200);
    assert_eq!(nameless["name"], Value::Null);
    client.patch("/v1/allocations/b", set("/name", json!("c"))).await.fails(409);
    let invalid = client.patch("/v1/allocations/b", set("/name", json!("b!"))).await.fails(400);
    assert_eq!(invalid, "Cannot update allocation with invalid name 'b!'");
    for path in ["/state", "/owner", "/resource_class", "/uuid", "/foo"] {
        let told = client.patch("/v1/allocations/b", set(path, json!("x"))).await.fails(400);
        assert_eq!(told, format!("Cannot patch {path}. Only the following can be updated: name, extra"));
    }
    client.patch("/v1/allocations/nope", json!([])).await.fails(404);
    client.patch("/v1/allocations/b", json!({})).await.fails(400);
    let bad = client.get("/v1/allocations/!!").await.fails(400);
    assert_eq!(bad, "Expected a logical name or UUID but received !!.");
}

#[tokio::test]
async fn allocations_have_their_versions() {
    let server = Server::start();
    let client = server.at(60);
    client.post("/v1/allocations", json!({"resource_class": "bm", "name": "a", "owner": "p"})).await.is(201);
    settled(&client, "a").await;
    let old = server.at(51);
    old.get("/v1/allocations").await.fails(404);
    old.get("/v1/allocations/a").await.fails(404);
    old.post("/v1/allocations", json!({})).await.fails(405);
    old.delete("/v1/allocations/a").await.fails(405);
    old.patch("/v1/allocations/a", json!([])).await.fails(405);
    old.get("/v1/nodes/n/allocation").await.fails(404);
    old.delete("/v1/nodes/n/allocation").await.fails(404);
    server.at(56).patch("/v1/allocations/a", json!([])).await.fails(405);
    server.at(57).patch("/v1/allocations/a", json!([])).await.is(200);
    let node =
        server.at(57).post("/v1/allocations", json!({"resource_class": "bm", "node": "n"})).await.fails(400);
    assert!(node.contains("Additional properties are not allowed ('node' was unexpected)"), "{node}");
    let before = server.at(59);
    before.post("/v1/allocations", json!({"resource_class": "bm", "owner": "p"})).await.fails(406);
    before.get("/v1/allocations?owner=p").await.fails(406);
    before.get("/v1/allocations/a?fields=owner").await.fails(400);
    assert!(before.get("/v1/allocations/a").await.is(200).get("owner").is_none());
    assert_eq!(client.get("/v1/allocations/a").await.is(200)["owner"], "p");
}

#[tokio::test]
async fn shards_are_counted() {
    let server = Server::start();
    let client = server.at(82);
    assert_eq!(client.get("/v1/shards").await.is(200), json!({"shards": []}));
    for shard in [json!("s2"), json!("s2"), json!("s1"), Value::Null] {
        client.enrol(json!({"shard": shard})).await;
    }
    let expected =
        json!([{"name": "s2", "count": 2}, {"name": "None", "count": 1}, {"name": "s1", "count": 1}]);
    assert_eq!(client.get("/v1/shards").await.is(200)["shards"], expected);
    client.get("/v1/shards/s1").await.fails(404);
    client.post("/v1/shards", json!({})).await.fails(405);
    server.at(81).get("/v1/shards").await.fails(404);
}
