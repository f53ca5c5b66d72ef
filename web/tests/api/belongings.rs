//! What belongs to a node beside its fields: traits, history, inventory, children.

use ferric_machine::Timestamp;
use ferric_schema::JsonText;
use ferric_schema::history::{self, NewHistory, Severity};
use ferric_schema::inventory::{self, NewInventory};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Server;

fn id(uuid: &str) -> Uuid {
    Uuid::try_parse(uuid).expect("a uuid")
}

#[tokio::test]
async fn traits_are_set_added_and_removed() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    let at = |tail: &str| format!("/v1/nodes/n/traits{tail}");
    assert_eq!(client.get(&at("")).await.is(200), json!({"traits": []}));
    client.put(&at(""), json!({"traits": ["CUSTOM_B", "CUSTOM_A", "CUSTOM_B"]})).await.is(204);
    for _ in 0..2 {
        let answer = client.send(Method::PUT, &at("/HW_CPU_X86_VMX"), None).await;
        let location = answer.header("location").expect("a location").to_owned();
        assert_eq!(location, format!("{}{}", server.base, at("/HW_CPU_X86_VMX")));
        answer.is(204);
    }
    let expected = json!(["CUSTOM_A", "CUSTOM_B", "HW_CPU_X86_VMX"]);
    assert_eq!(client.get(&at("")).await.is(200)["traits"], expected);
    assert_eq!(client.get("/v1/nodes/n").await.is(200)["traits"], expected);
    client.delete(&at("/CUSTOM_A")).await.is(204);
    let told = client.delete(&at("/CUSTOM_A")).await.fails(404);
    assert!(told.contains("CUSTOM_A") && told.contains(&node), "{told}");

    let many = |n: usize| -> Vec<String> { (0..n).map(|i| format!("CUSTOM_{i}")).collect() };
    assert!(client.put(&at(""), json!({"traits": many(51)})).await.fails(400).contains("50"));
    client.put(&at(""), json!({"traits": many(50)})).await.is(204);
    client.send(Method::PUT, &at("/CUSTOM_X"), None).await.fails(400);
    client.send(Method::PUT, &at("/CUSTOM_49"), None).await.is(204);
    for (path, body) in [
        ("/bad", None),
        ("/CUSTOM_D", Some(json!({"a": 1}))),
        ("", None),
        ("", Some(json!({"traits": ["bad"]}))),
        ("", Some(json!({"traits": [1]}))),
        ("", Some(json!({"traits": "CUSTOM_A"}))),
        ("", Some(json!({"traits": [], "x": 1}))),
    ] {
        client.send(Method::PUT, &at(path), body).await.fails(400);
    }
    client.get(&at("/CUSTOM_1")).await.fails(405);
    client.post(&at(""), json!({})).await.fails(405);
    client.get("/v1/nodes/none/traits").await.fails(404);
    client.delete(&at("")).await.is(204);
    assert_eq!(client.get(&at("")).await.is(200), json!({"traits": []}));

    let old = server.at(36);
    old.get(&at("")).await.fails(406);
    old.put(&at(""), json!({"traits": []})).await.fails(405);
    old.delete(&at("")).await.fails(404);
    old.send(Method::PUT, &at("/CUSTOM_1"), None).await.fails(405);
}

#[tokio::test]
async fn a_history_is_told_in_short_and_in_full() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    let uuid = id(&node);
    assert_eq!(client.get("/v1/nodes/n/history").await.is(200), json!({"history": []}));
    let moment = |i: i64| Timestamp(1_700_000_000_000_000 + i * 1_000_000);
    let store = server.store();
    let written = store.write(move |c| {
        for i in 0..3 {
            let severity = if i == 1 { Severity::Error } else { Severity::Info };
            let line = NewHistory {
                uuid: Uuid::from_u128(u128::try_from(i).expect("small") + 1),
                user: Some("admin".into()),
                state: Some("cleaning".into()),
                duration: Some(2_900_000),
                // the last one is the oldest
                ..NewHistory::new(
                    uuid,
                    "host",
                    "cleaning",
                    severity,
                    "e".repeat(254 + i as usize),
                    moment(9 - i),
                )
            };
            history::insert(c, &line)?;
        }
        Ok(())
    });
    written.await.expect("a write");

    let list = client.get("/v1/nodes/n/history").await.is(200);
    let lines = list["history"].as_array().expect("a list");
    let lengths: Vec<usize> = lines.iter().map(|line| line["event"].as_str().map_or(0, str::len)).collect();
    assert_eq!(lengths, [254, 255, 254], "the oldest first; what is longer than 255 is cut");
    assert!(lines[0]["event"].as_str().is_some_and(|text| text.ends_with("e...")));
    let first = Uuid::from_u128(3).to_string();
    assert_eq!(
        lines[0],
        json!({
            "uuid": first, "created_at": "2023-11-14T22:13:27+00:00", "severity": "INFO",
            "event": lines[0]["event"],
            "links": [{"href": format!("{}/v1/nodes/{node}/history/{first}", server.base), "rel": "self"}],
        })
    );
    let keys = |minor: u16, path: String| {
        let client = server.at(minor);
        async move {
            let one = client.get(&path).await.is(200);
            let mut keys: Vec<String> = one.as_object().expect("an object").keys().cloned().collect();
            keys.sort_unstable();
            keys.join(" ")
        }
    };
    let one = format!("/v1/nodes/n/history/{first}");
    let base = "conductor created_at event event_type links";
    assert_eq!(keys(78, one.clone()).await, format!("{base} severity user uuid"));
    assert_eq!(keys(113, one.clone()).await, format!("{base} project severity user uuid"));
    assert_eq!(
        keys(115, one.clone()).await,
        "conductor created_at duration_seconds event event_type links project severity state \
         target_provision_state user uuid"
    );
    let full = client.get(&one).await.is(200);
    assert_eq!((&full["duration_seconds"], full["event"].as_str().map(str::len)), (&json!(2), Some(256)));

    let page = client.get("/v1/nodes/n/history?limit=2&detail=true&sort_dir=desc").await.is(200);
    assert_eq!(page["history"][0]["user"], "admin");
    let next = page["next"].as_str().expect("another page");
    let rest = client.get(next.strip_prefix(&server.base).expect("our own address")).await.is(200);
    let (all, left) = (page["history"].as_array().map(Vec::len), rest["history"].as_array().map(Vec::len));
    assert_eq!((all, left), (Some(2), Some(1)), "{next}");
    let by_severity = client.get("/v1/nodes/n/history?sort_key=severity").await.is(200);
    assert_eq!(by_severity["history"][0]["severity"], "ERROR");
    for (tail, status) in [
        ("?sort_key=nope", 400),
        ("?fields=uuid", 400),
        ("?marker=x", 400),
        ("?marker=1be26c0b-03f2-4d2e-ae87-c02d7f33c123", 404),
        ("/x", 404),
        ("/1be26c0b-03f2-4d2e-ae87-c02d7f33c123", 404),
    ] {
        client.get(&format!("/v1/nodes/n/history{tail}")).await.fails(status);
    }
    client.delete("/v1/nodes/n/history").await.fails(405);
    server.at(77).get("/v1/nodes/n/history").await.fails(404);
    let other = client.enrol(json!({"name": "o"})).await;
    client.get(&format!("/v1/nodes/{other}/history/{first}")).await.fails(404);
}

#[tokio::test]
async fn an_inventory_is_there_after_an_inspection() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    assert!(client.get("/v1/nodes/n/inventory").await.fails(404).contains(&node));
    let object = |value: Value| JsonText::from(value.as_object().expect("an object"));
    let found = NewInventory {
        node: id(&node),
        inventory_data: object(json!({"cpu": {"count": 4}, "disks": []})),
        plugin_data: object(json!({"root_disk": null})),
    };
    server.store().write(move |c| inventory::put(c, &found, Timestamp(1))).await.expect("a write");
    assert_eq!(
        client.get("/v1/nodes/n/inventory").await.is(200),
        json!({"inventory": {"cpu": {"count": 4}, "disks": []}, "plugin_data": {"root_disk": null}})
    );
    client.post("/v1/nodes/n/inventory", json!({})).await.fails(405);
    client.get("/v1/nodes/none/inventory").await.fails(404);
    server.at(80).get("/v1/nodes/n/inventory").await.fails(404);
}

#[tokio::test]
async fn children_are_the_nodes_below() {
    let server = Server::start();
    let client = server.at(115);
    let parent = client.enrol(json!({"name": "p"})).await;
    let href = format!("{}/v1/nodes?parent_node={parent}", server.base);
    let links = json!({"href": href, "rel": "children"});
    assert_eq!(client.get("/v1/nodes/p/children").await.is(200), json!({"children": [], "links": links}));
    let child = client.enrol(json!({"name": "c", "parent_node": parent})).await;
    assert_eq!(
        client.get("/v1/nodes/p/children").await.is(200),
        json!({"children": [child], "links": links})
    );
    let listed = client.get(href.strip_prefix(&server.base).expect("our own address")).await.is(200);
    assert_eq!(listed["nodes"][0]["uuid"], child);
    client.get("/v1/nodes/none/children").await.fails(404);
    server.at(82).get("/v1/nodes/p/children").await.fails(404);
}
