use serde_json::{Value, json};

use crate::client::Server;

#[tokio::test]
async fn changes_are_made_and_shown_masked() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n", "extra": {"a": 1}})).await;
    let path = format!("/v1/nodes/{node}");
    let body = client
        .patch(
            &path,
            json!([
                {"op": "replace", "path": "/name", "value": "m"},
                {"op": "add", "path": "/driver_info/ipmi_password", "value": "hunter2"},
                {"op": "add", "path": "/properties/capabilities", "value": "boot_mode:uefi"},
                {"op": "remove", "path": "/extra/a"},
                {"op": "add", "path": "/automated_clean", "value": false},
                {"op": "add", "path": "/instance_name", "value": "vm"},
            ]),
        )
        .await
        .is(200);
    assert_eq!(body["name"], "m");
    assert_eq!(body["driver_info"], json!({"ipmi_password": "******"}));
    assert_eq!(body["properties"], json!({"capabilities": "boot_mode:uefi"}));
    assert_eq!((&body["extra"], &body["automated_clean"]), (&json!({}), &json!(false)));
    assert_eq!((&body["instance_info"], &body["instance_name"]), (&json!({}), &json!("vm")));
    assert!(body["updated_at"].is_string());
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(69));
    client.patch(&path, json!([])).await.is(200);
    let body = client.patch("/v1/nodes/m", json!([{"op": "remove", "path": "/name"}])).await.is(200);
    assert_eq!(body["name"], json!(null));
}

#[tokio::test]
async fn what_may_not_be_changed_is_refused() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    client.enrol(json!({"name": "taken"})).await;
    let path = format!("/v1/nodes/{node}");
    let set = |field: &str, value: serde_json::Value| json!([{"op": "add", "path": format!("/{field}"), "value": value}]);
    for (minor, patch, status) in [
        (115, json!({}), 400),
        (115, json!([{"op": "remove", "path": "/driver"}]), 400),
        (115, set("uuid", json!("x")), 400),
        (115, set("nothing", json!(1)), 400),
        (115, set("power_state", json!("power on")), 400),
        (115, set("extra/a.b", json!(1)), 400),
        (115, set("name", json!("taken")), 409),
        (115, set("driver", json!("ipmi")), 400),
        (115, set("power_interface", json!("ipmitool")), 400),
        (115, set("conductor_group", json!("elsewhere")), 400),
        (115, set("protected", json!(true)), 409),
        (115, set("protected_reason", json!("why")), 400),
        (115, set("retired_reason", json!("why")), 400),
        (115, set("chassis_uuid", json!("1be26c0b-03f2-4d2e-ae87-c02d7f33c123")), 400),
        (115, set("parent_node", json!(node)), 400),
        (115, set("maintenance", json!("perhaps")), 400),
        (115, set("resource_class", json!("x".repeat(81))), 400),
        (4, set("name", json!("m")), 406),
        (60, set("retired", json!(true)), 406),
    ] {
        let told = server.at(minor).patch(&path, patch.clone()).await.fails(status);
        assert!(!told.is_empty(), "{patch}");
    }
    client.patch(&format!("{path}?reset_interfaces=true"), set("name", json!("m"))).await.fails(400);
    server.at(44).patch(&format!("{path}?reset_interfaces=true"), set("driver", json!("x"))).await.fails(406);
    client.patch("/v1/nodes/nothing", set("name", json!("m"))).await.fails(404);
}

#[tokio::test]
async fn one_instance_at_a_time_holds_a_node() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({})).await;
    let path = format!("/v1/nodes/{node}");
    let reserve = |id: &str| json!([{"op": "add", "path": "/instance_uuid", "value": id}]);
    client.patch(&path, reserve("5be26c0b-03f2-4d2e-ae87-c02d7f33c123")).await.is(200);
    client.patch(&path, reserve("5be26c0b-03f2-4d2e-ae87-c02d7f33c123")).await.is(200);
    let told = client.patch(&path, reserve("6be26c0b-03f2-4d2e-ae87-c02d7f33c123")).await.fails(409);
    assert!(told.contains("is associated with instance 5be26c0b"), "{told}");
    client.patch(&path, json!([{"op": "replace", "path": "/instance_uuid", "value": null}])).await.is(200);
    client.patch(&path, reserve("6be26c0b-03f2-4d2e-ae87-c02d7f33c123")).await.is(200);
}

#[tokio::test]
async fn leaving_maintenance_takes_its_reason_along() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    client.put("/v1/nodes/n/maintenance", json!({"reason": "fan"})).await.is(202);
    let body = client.get("/v1/nodes/n").await.is(200);
    assert_eq!((&body["maintenance"], &body["maintenance_reason"]), (&json!(true), &json!("fan")));
    let path = format!("/v1/nodes/{node}");
    let body = client
        .patch(&path, json!([{"op": "replace", "path": "/maintenance", "value": "false"}]))
        .await
        .is(200);
    assert_eq!((&body["maintenance"], &body["maintenance_reason"]), (&json!(false), &json!(null)));
    client.put("/v1/nodes/n/maintenance", json!(null)).await.is(202);
    client.delete("/v1/nodes/n/maintenance").await.is(202);
    client.put("/v1/nodes/n/maintenance", json!({"why": "fan"})).await.fails(400);
}

#[tokio::test]
async fn changes_that_add_up_do_not_nest_a_field_beyond_what_a_body_may() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    let path = format!("/v1/nodes/{node}");
    let deep = (0..20).fold(json!({}), |inner, _| json!({"k": inner}));
    let down = "/k".repeat(20);
    let patch = json!([
        {"op": "add", "path": "/driver_info/a", "value": deep.clone()},
        {"op": "add", "path": format!("/driver_info/a{down}/b"), "value": deep},
    ]);
    client.patch(&path, patch).await.is(400);
    // nothing of it was written, and the node works on
    let body = client.get(&path).await.is(200);
    assert_eq!(body["driver_info"], json!({}));
    client.get(&format!("{path}/validate")).await.is(200);
}

#[tokio::test]
async fn a_removal_ignores_a_value_that_comes_with_it() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n", "resource_class": "gold"})).await;
    let patch = json!([{"op": "remove", "path": "/resource_class", "value": "silver"}]);
    let body = client.patch(&format!("/v1/nodes/{node}"), patch).await.is(200);
    assert_eq!(body["resource_class"], json!(null));
}

#[tokio::test]
async fn a_nul_character_is_refused_wherever_it_comes() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    let path = format!("/v1/nodes/{node}");
    client.put(&format!("{path}/maintenance"), json!({"reason": "a\u{0}"})).await.is(400);
    client.get("/v1/conductors/%00").await.is(400);
    client.get("/v1/nodes?owner=%00").await.is(400);
}

#[tokio::test]
async fn no_refusal_of_a_patch_tells_a_secret() {
    const SECRET: &str = "calvin-s3cret";
    let server = Server::start();
    let client = server.at(115);
    let hidden = json!({"a_password": SECRET, "deep": {"token": SECRET}, "list": [{"secret": SECRET}]});
    let node = client.enrol(json!({"driver_info": hidden, "instance_info": hidden})).await;
    let made = async |path: &str, body: Value| {
        let made = client.post(path, body).await.is(201);
        format!("{path}/{}", made["uuid"].as_str().expect("a uuid"))
    };
    let step = |number: &str| json!([{"interface": "deploy", "step": "a", "args": hidden, number: 1}]);
    let volume = json!({"node_uuid": node, "volume_type": "iscsi", "volume_id": "v", "boot_index": 0,
        "properties": hidden});
    let rule = json!({"sensitive": true, "conditions": [{"op": "is-none", "args": {"value": SECRET}}],
        "actions": [{"op": "fail", "args": {"msg": SECRET}}]});
    let things = [
        (format!("/v1/nodes/{node}"), vec!["driver_info", "instance_info"]),
        (made("/v1/runbooks", json!({"name": "CUSTOM_A", "steps": step("order")})).await, vec!["steps"]),
        (
            made("/v1/deploy_templates", json!({"name": "CUSTOM_A", "steps": step("priority")})).await,
            vec!["steps"],
        ),
        (made("/v1/volume/targets", volume).await, vec!["properties"]),
        (made("/v1/inspection_rules", rule).await, vec!["conditions", "actions"]),
    ];
    let below = [
        "nope/x",
        "nope",
        "deep/nope/x",
        "deep/nope",
        "deep/token/x",
        "list/9/x",
        "list/0/secret/x",
        "list/0/nope/y",
        "list/9",
        "0/nope/x",
        "0/nope",
        "0/args/nope/x",
        "0/args/deep/nope/x",
        "0/args",
        "0/args/a_password/x",
        "0/op",
        "0/args/value/x",
        "0/args/msg/x/y",
        "9/x",
        "9",
        "-",
    ];
    let mut refused = 0;
    for (thing, fields) in &things {
        for (field, below) in fields.iter().flat_map(|field| below.map(|below| (field, below))) {
            for (op, value) in [("add", json!(1)), ("replace", json!([])), ("remove", json!(null))] {
                let path = format!("/{field}/{below}");
                let mut change = json!({"op": op, "path": path});
                if op != "remove" {
                    change["value"] = value;
                }
                let answer = client.patch(thing, json!([change])).await;
                refused += usize::from(answer.status == 400);
                assert!(!answer.body.to_string().contains(SECRET), "{thing} {change}: {}", answer.body);
            }
        }
    }
    assert!(refused > 200, "{refused}");
}
