//! Deploy templates, runbooks, inspection rules.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Server};

const UUID: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";

fn patch(op: &str, path: &str, value: Value) -> Value {
    match op {
        "remove" => json!([{"op": op, "path": path}]),
        _ => json!([{"op": op, "path": path, "value": value}]),
    }
}

/// Addresses and moments differ from run to run.
fn settled(server: &Server, body: &Value) -> Value {
    let mut body: Value =
        serde_json::from_str(&body.to_string().replace(&server.base, "http://ferric")).expect("JSON");
    settle(&mut body);
    body
}

fn settle(body: &mut Value) {
    match body {
        Value::Object(map) => {
            for (key, value) in map {
                if ["created_at", "updated_at"].contains(&key.as_str()) && value.is_string() {
                    *value = json!("[moment]");
                } else {
                    settle(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

fn deploy_step(name: &str) -> Value {
    json!({"interface": "bios", "step": name, "args": {"password": "hunter2", "k": 1}, "priority": "10"})
}

fn book_step(name: &str) -> Value {
    json!({"interface": "deploy", "step": name, "order": 1})
}

fn rule() -> Value {
    json!({
        "uuid": UUID, "description": "d", "priority": 7,
        "conditions": [{"op": "!eq", "args": {"values": ["{item}", 1]}, "loop": [1, 2]}],
        "actions": [{"op": "set-attribute", "args": {"path": "/extra/a", "value": "b"}}],
    })
}

fn names(list: &Value, collection: &str, key: &str) -> Vec<String> {
    let items = list[collection].as_array().expect("a list");
    items.iter().map(|item| item[key].as_str().unwrap_or("-").to_owned()).collect()
}

async fn refused(client: &Client, path: &str, good: &Value, cases: &[(Value, &str)]) {
    for (change, word) in cases {
        let mut body = good.clone();
        for (key, value) in change.as_object().expect("an object") {
            if value == "absent" {
                body.as_object_mut().expect("an object").remove(key);
            } else {
                body[key] = value.clone();
            }
        }
        let told = client.post(path, body).await.fails(400);
        assert!(told.contains(word), "{change}: {told}");
    }
}

#[tokio::test]
async fn whole_bodies_are_as_they_were() {
    let server = Server::start();
    let client = server.at(115);
    let template = json!({"uuid": UUID, "name": "CUSTOM_A", "steps": [deploy_step("a")], "extra": {"x": 1}});
    let answer = client.post("/v1/deploy_templates", template).await;
    let location = answer.header("location").expect("a location").to_owned();
    assert_eq!(location, format!("{}/v1/deploy_templates/{UUID}", server.base));
    insta::assert_json_snapshot!("template", settled(&server, &answer.is(201)));
    let book = json!({"uuid": UUID, "name": "my-book", "steps": [book_step("a")], "description": "d"});
    insta::assert_json_snapshot!(
        "runbook",
        settled(&server, &client.post("/v1/runbooks", book).await.is(201))
    );
    let made = client.post("/v1/inspection_rules", rule()).await.is(201);
    insta::assert_json_snapshot!("rule", settled(&server, &made));
    for (noun, path) in
        [("template", "deploy_templates"), ("runbook", "runbooks"), ("rule", "inspection_rules")]
    {
        let short = client.get(&format!("/v1/{path}?limit=1")).await.is(200);
        insta::assert_json_snapshot!(format!("{noun}_list"), settled(&server, &short));
        let long = client.get(&format!("/v1/{path}?limit=1&detail=true")).await.is(200);
        insta::assert_json_snapshot!(format!("{noun}_list_detail"), settled(&server, &long));
    }
    let old = server.at(92).get("/v1/runbooks/my-book").await.is(200);
    insta::assert_json_snapshot!("runbook_1_92", settled(&server, &old));
}

#[tokio::test]
async fn a_template_is_made_found_changed_and_removed() {
    let server = Server::start();
    let client = server.at(115);
    let made = json!({"name": "CUSTOM_A", "steps": [deploy_step("a")], "description": "forgotten"});
    let made = client.post("/v1/deploy_templates", made).await.is(201);
    let uuid = made["uuid"].as_str().expect("a uuid").to_owned();
    client
        .post("/v1/deploy_templates", json!({"name": "HW_CPU_X86_VMX", "steps": [deploy_step("a")]}))
        .await
        .is(201);
    let by_name = server.at(90).get("/v1/deploy_templates/CUSTOM_A.json").await.is(200);
    assert_eq!(by_name["uuid"], uuid);
    let short = client.get("/v1/deploy_templates/CUSTOM_A?fields=name").await.is(200);
    assert_eq!((short.as_object().map(serde_json::Map::len), &short["name"]), (Some(2), &json!("CUSTOM_A")));

    let path = format!("/v1/deploy_templates/{uuid}");
    let change = async |op: &str, at: &str, value: Value| client.patch(&path, patch(op, at, value)).await;
    let done = change("replace", "/name", json!("CUSTOM_B")).await.is(200);
    assert!(done["updated_at"].is_string() && done["name"] == "CUSTOM_B", "{done}");
    assert_eq!(change("replace", "/steps/0/priority", json!(5)).await.is(200)["steps"][0]["priority"], 5);
    let steps = change("add", "/steps/-", deploy_step("z")).await.is(200)["steps"].clone();
    assert_eq!((steps[1]["step"].as_str(), &steps[1]["args"]["password"]), (Some("z"), &json!("******")));
    // what was shown in stars and comes back in stars is kept
    change("replace", "/steps", steps).await.is(200);
    let kept = server.store();
    let kept =
        kept.read(|c| ferric_schema::templates::find(c, "CUSTOM_B")).await.expect("a read").expect("it");
    assert_eq!(kept.steps.parse()[1]["args"]["password"], "hunter2");
    assert_eq!(
        change("remove", "/steps/0", json!(null)).await.is(200)["steps"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(change("add", "/extra/a", json!(1)).await.is(200)["extra"], json!({"a": 1}));
    assert_eq!(change("remove", "/extra", json!(null)).await.is(200)["extra"], json!({}));
    client.patch(&path, json!([])).await.is(200);
    for (op, at, value, status) in [
        ("replace", "/name", json!("HW_CPU_X86_VMX"), 409),
        ("replace", "/name", json!("small"), 400),
        ("remove", "/name", json!(null), 400),
        ("remove", "/steps", json!(null), 400),
        ("remove", "/steps/0", json!(null), 400),
        ("remove", "/steps/0/args", json!(null), 400),
        ("add", "/steps/-", deploy_step("z"), 400),
        ("add", "/foo", json!(1), 400),
        ("add", "/description", json!("x"), 400),
        ("replace", "/uuid", json!(UUID), 400),
    ] {
        change(op, at, value).await.fails(status);
    }
    client.delete(&path).await.is(204);
    for answer in [client.get(&path).await, client.delete(&path).await, client.patch(&path, json!([])).await]
    {
        let told = answer.fails(404);
        assert!(told.starts_with(&format!("Deploy template {uuid} could not be found.")), "{told}");
    }
}

#[tokio::test]
async fn what_is_no_template_is_refused() {
    let server = Server::start();
    let client = server.at(115);
    let good = json!({"name": "CUSTOM_A", "steps": [deploy_step("a")]});
    refused(
        &client,
        "/v1/deploy_templates",
        &good,
        &[
            (json!({"name": "absent"}), "'name' is a required property"),
            (json!({"steps": "absent"}), "'steps' is a required property"),
            (json!({"name": null}), "'name'"),
            (json!({"name": "small"}), "no trait"),
            (json!({"steps": []}), "[] should be non-empty"),
            (json!({"steps": [deploy_step("a"), deploy_step("a")]}), "Duplicate"),
            (json!({"foo": 1}), "'foo' was unexpected"),
            (json!({"uuid": "x"}), "UUID"),
            (json!({"extra": []}), "object"),
            (json!({"description": 1}), "description"),
        ],
    )
    .await;
    client.post("/v1/deploy_templates", good.clone()).await.is(201);
    assert!(client.post("/v1/deploy_templates", good).await.fails(409).contains("CUSTOM_A"));
    for (query, status) in [
        ("fields=nope", 400),
        ("fields=name&detail=true", 400),
        ("sort_key=steps", 400),
        ("sort_key=nope", 400),
        ("limit=0", 400),
        ("foo=1", 400),
        ("marker=CUSTOM_A", 404),
        ("marker=1be26c0b-03f2-4d2e-ae87-c02d7f33c123", 404),
    ] {
        client.get(&format!("/v1/deploy_templates?{query}")).await.fails(status);
    }
    client.get("/v1/deploy_templates/detail").await.fails(404);
    client.delete("/v1/deploy_templates").await.fails(400);
    client.put("/v1/deploy_templates/CUSTOM_A", json!({})).await.fails(405);
}

#[tokio::test]
async fn collections_page_and_sort() {
    let server = Server::start();
    let client = server.at(115);
    for name in ["CUSTOM_C", "CUSTOM_A", "CUSTOM_B"] {
        client.post("/v1/deploy_templates", json!({"name": name, "steps": [deploy_step("a")]})).await.is(201);
    }
    let mut path = "/v1/deploy_templates?limit=2&sort_key=name&sort_dir=desc".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = client.get(&path).await.is(200);
        seen.extend(names(&page, "deploy_templates", "name"));
        let Some(next) = page["next"].as_str() else { break };
        assert!(next.contains("sort_key=name&sort_dir=desc&fields=uuid,name&limit=2&marker="), "{next}");
        path = next.strip_prefix(&server.base).expect("our own address").to_owned();
    }
    assert_eq!(seen, ["CUSTOM_C", "CUSTOM_B", "CUSTOM_A"]);
}

#[tokio::test]
async fn what_is_newer_than_the_version_is_not_there() {
    let server = Server::start();
    for (since, path) in [(55, "deploy_templates"), (92, "runbooks"), (96, "inspection_rules")] {
        let old = server.at(since - 1);
        for (method, path, status) in [
            (Method::GET, format!("/v1/{path}"), 404),
            (Method::GET, format!("/v1/{path}/{UUID}"), 404),
            (Method::POST, format!("/v1/{path}"), 405),
            (Method::PATCH, format!("/v1/{path}/{UUID}"), 405),
            (Method::DELETE, format!("/v1/{path}/{UUID}"), 405),
        ] {
            old.send(method, &path, None).await.fails(status);
        }
        server.at(since).get(&format!("/v1/{path}")).await.is(200);
    }
    // runbooks grew later
    let (new, old) = (server.at(112), server.at(111));
    let book = |name: &str| json!({"name": name, "steps": [book_step("a")]});
    old.post("/v1/runbooks", book("my-book")).await.fails(400);
    old.post("/v1/runbooks", json!({"name": "CUSTOM_A", "description": "d", "steps": [book_step("a")]}))
        .await
        .fails(400);
    new.post("/v1/runbooks", book("my-book")).await.is(201);
    old.patch("/v1/runbooks/my-book", patch("add", "/description", json!("d"))).await.fails(400);
    assert_eq!(
        old.patch("/v1/runbooks/my-book", patch("add", "/extra/a", json!(1))).await.is(200)["extra"]["a"],
        1
    );
    old.get("/v1/runbooks?fields=traits").await.fails(400);
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        old.send(method, "/v1/runbooks/my-book/traits", None).await.fails(404);
    }
    server.at(91).send(Method::PUT, "/v1/runbooks/my-book/traits/CUSTOM_A", None).await.fails(404);
}

#[tokio::test]
async fn a_public_runbook_has_no_owner() {
    let server = Server::start();
    let client = server.at(115);
    let book = |name: &str, more: Value| {
        let mut body = json!({"name": name, "steps": [book_step("a")]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    client.post("/v1/runbooks", book("a", json!({"public": true, "owner": "p"}))).await.fails(400);
    // who speaks for no project can give no owner until the runbook is there
    client.post("/v1/runbooks", book("a", json!({"owner": "p"}))).await.fails(400);
    client.post("/v1/runbooks", book("a", json!({"disable_ramdisk": null}))).await.is(201);
    client.patch("/v1/runbooks/a", patch("add", "/owner", json!("p"))).await.is(200);
    client.post("/v1/runbooks", book("b", json!({"public": true}))).await.is(201);
    let all = client.get("/v1/runbooks?sort_key=owner&fields=name").await.is(200);
    assert_eq!(names(&all, "runbooks", "name"), ["a", "b"]);
    assert_eq!(names(&client.get("/v1/runbooks?project=true").await.is(200), "runbooks", "name"), ["b"]);
    let change =
        async |name: &str, changes: Value| client.patch(&format!("/v1/runbooks/{name}"), changes).await;
    change("b", patch("add", "/owner", json!("q"))).await.fails(400);
    let both = json!([{"op": "replace", "path": "/public", "value": false}, {"op": "add", "path": "/owner", "value": "q"}]);
    assert_eq!(change("b", both).await.is(200)["owner"], "q");
    let done = change("b", patch("replace", "/public", json!(true))).await.is(200);
    assert_eq!((&done["public"], &done["owner"]), (&json!(true), &json!(null)));
    assert_eq!(change("b", patch("remove", "/public", json!(null))).await.is(200)["public"], false);
    change("b", patch("add", "/disable_ramdisk", json!("yes"))).await.fails(400);
    change("b", patch("add", "/traits", json!([]))).await.fails(400);
    refused(
        &client,
        "/v1/runbooks",
        &book("c", json!({})),
        &[
            (json!({"traits": []}), "'traits' was unexpected"),
            (json!({"steps": [{"step": "hold", "order": 1}]}), "'interface' is a required property"),
            (json!({"steps": [{"interface": "deploy", "step": "a", "priority": 1}]}), "'priority'"),
            (json!({"steps": [{"interface": "deploy", "step": "a"}]}), "'order' is a required property"),
            (json!({"steps": [book_step("a"), book_step("a")]}), "Duplicate"),
            (json!({"name": "a b"}), "'a b' does not match"),
            (json!({"public": "yes"}), "'public'"),
            (json!({"owner": 1}), "'owner'"),
        ],
    )
    .await;
}

#[tokio::test]
async fn runbooks_have_traits() {
    let server = Server::start();
    let client = server.at(115);
    client.post("/v1/runbooks", json!({"name": "b", "steps": [book_step("a")]})).await.is(201);
    let at = |tail: &str| format!("/v1/runbooks/b/traits{tail}");
    client.put(&at(""), json!({"traits": ["CUSTOM_B", "CUSTOM_A", "CUSTOM_B"]})).await.is(204);
    for _ in 0..2 {
        let answer = client.send(Method::PUT, &at("/CUSTOM_C"), None).await;
        let location = answer.header("location").expect("a location").to_owned();
        assert_eq!(location, format!("{}{}", server.base, at("/CUSTOM_C")));
        answer.is(204);
    }
    assert_eq!(client.get(&at("")).await.is(200), json!({"traits": ["CUSTOM_A", "CUSTOM_B", "CUSTOM_C"]}));
    assert_eq!(client.get("/v1/runbooks/b").await.is(200)["traits"][2], "CUSTOM_C");
    let listed = client.get("/v1/runbooks?fields=traits").await.is(200);
    assert_eq!(listed["runbooks"][0]["traits"][0], "CUSTOM_A");
    client.delete(&at("/CUSTOM_C")).await.is(204);
    client.delete(&at("/CUSTOM_C")).await.is(204);
    for (path, body) in [
        ("/bad", None),
        ("/CUSTOM_D", Some(json!({"a": 1}))),
        ("", None),
        ("", Some(json!({"traits": ["bad"]}))),
        ("", Some(json!({"traits": null}))),
        ("", Some(json!({"x": []}))),
    ] {
        client.send(Method::PUT, &at(path), body).await.fails(400);
    }
    client.get(&at("/CUSTOM_A")).await.fails(405);
    client.get("/v1/runbooks/none/traits").await.fails(404);
    client.delete(&at("")).await.is(204);
    assert_eq!(client.get(&at("")).await.is(200), json!({"traits": []}));
    client.delete("/v1/runbooks/b").await.is(204);
}

#[tokio::test]
async fn a_rule_is_made_changed_and_removed() {
    let server = Server::start();
    let client = server.at(115);
    client.post("/v1/inspection_rules", rule()).await.is(201);
    client.post("/v1/inspection_rules", rule()).await.fails(409);
    let least = client.post("/v1/inspection_rules", json!({"actions": rule()["actions"]})).await.is(201);
    assert_eq!(
        (&least["conditions"], &least["priority"], &least["phase"]),
        (&json!([]), &json!(0), &json!("main"))
    );
    let path = format!("/v1/inspection_rules/{UUID}");
    let change = async |op: &str, at: &str, value: Value| client.patch(&path, patch(op, at, value)).await;
    assert_eq!(change("replace", "/priority", json!(9)).await.is(200)["priority"], 9);
    let done = change("replace", "/conditions/0/args/values/1", json!(2)).await.is(200);
    assert_eq!(done["conditions"][0]["args"]["values"][1], 2);
    assert_eq!(change("remove", "/conditions", json!(null)).await.is(200)["conditions"], json!([]));
    assert_eq!(change("remove", "/priority", json!(null)).await.is(200)["priority"], 0);
    assert_eq!(change("remove", "/description", json!(null)).await.is(200)["description"], json!(null));
    for (op, at, value) in [
        ("remove", "/actions", json!(null)),
        ("replace", "/actions/0/op", json!("nope")),
        ("replace", "/priority", json!(10_000)),
        ("replace", "/phase", json!("early")),
        ("add", "/uuid", json!(UUID)),
        ("add", "/scope", json!("x")),
    ] {
        change(op, at, value).await.fails(400);
    }
    refused(
        &client,
        "/v1/inspection_rules",
        &json!({"actions": rule()["actions"]}),
        &[
            (json!({"actions": []}), "[] should be non-empty"),
            (json!({"actions": "absent"}), "'actions' is a required property"),
            (json!({"actions": [{"op": "fail", "args": {}}]}), "msg"),
            (json!({"conditions": [{"op": "nope", "args": {}}]}), "conditions[0]"),
            (json!({"priority": -1}), "minimum of 0"),
            (json!({"priority": "5"}), "'5' is not of type 'integer'"),
            (json!({"phase": "early"}), "Invalid phase"),
            (json!({"scope": "x"}), "'scope' was unexpected"),
            (json!({"description": "x".repeat(256)}), "description"),
        ],
    )
    .await;
    let first = client.get("/v1/inspection_rules?sort_key=priority&fields=uuid&phase=main").await.is(200);
    assert_eq!(names(&first, "inspection_rules", "uuid").len(), 2);
    assert_eq!(client.get("/v1/inspection_rules?phase=x").await.is(200)["inspection_rules"], json!([]));
    client.get("/v1/inspection_rules/a-name").await.fails(400);
    client.delete(&path).await.is(204);
    client.get(&path).await.fails(404);
    client.delete("/v1/inspection_rules").await.is(204);
    assert_eq!(client.get("/v1/inspection_rules").await.is(200)["inspection_rules"], json!([]));
}

#[tokio::test]
async fn a_sensitive_rule_never_shows_what_it_does() {
    let server = Server::start();
    let client = server.at(115);
    let mut body = rule();
    body["sensitive"] = json!(true);
    let path = format!("/v1/inspection_rules/{UUID}");
    let hidden = |shown: &Value| {
        assert_eq!((&shown["conditions"], &shown["actions"]), (&json!(null), &json!(null)), "{shown}");
        assert!(!shown.to_string().contains("set-attribute"), "{shown}");
    };
    hidden(&client.post("/v1/inspection_rules", body).await.is(201));
    hidden(&client.get(&path).await.is(200));
    hidden(&client.get(&format!("{path}?fields=conditions,actions")).await.is(200));
    hidden(&client.get("/v1/inspection_rules?detail=true").await.is(200)["inspection_rules"][0]);
    hidden(&client.patch(&path, patch("replace", "/priority", json!(1))).await.is(200));
    for unset in [patch("replace", "/sensitive", json!(false)), patch("remove", "/sensitive", json!(null))] {
        assert!(client.patch(&path, unset).await.fails(400).contains("sensitive"));
    }
    hidden(&client.get(&path).await.is(200));
}
