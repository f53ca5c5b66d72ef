use serde_json::{Value, json};

use crate::client::Server;

#[tokio::test]
async fn a_new_node_has_its_address_and_its_version_starts_it() {
    let server = Server::start();
    let answer =
        server.at(115).post("/v1/nodes", json!({"driver": "fake-hardware", "name": "ns~host"})).await;
    let location = answer.header("location").expect("a location").to_owned();
    let node = answer.is(201);
    assert_eq!(location, format!("{}/v1/nodes/{}", server.base, node["uuid"].as_str().expect("a uuid")));
    assert_eq!(node["provision_state"], "enroll");
    let old = server.at(10).post("/v1/nodes", json!({"driver": "fake-hardware"})).await.is(201);
    assert_eq!(old["provision_state"], "available");
    for path in ["/v1/nodes/ns~host", "/nodes/ns~host/", "/v1/nodes/ns%7Ehost"] {
        assert_eq!(server.at(115).get(path).await.is(200)["name"], "ns~host", "{path}");
    }
    server.at(4).get("/v1/nodes/ns~host").await.fails(404);
    assert_eq!(server.at(90).get("/v1/nodes/ns~host.json").await.is(200)["name"], "ns~host");
    server.at(91).get("/v1/nodes/ns~host.json").await.fails(404);
}

#[tokio::test]
async fn what_cannot_be_enrolled_is_refused_with_a_reason() {
    let server = Server::start();
    let client = server.at(115);
    let uuid = client.enrol(json!({"name": "taken"})).await;
    for (minor, body, status, text) in [
        (115, json!({}), 400, "driver"),
        (115, json!({"driver": null}), 400, "driver"),
        (115, json!({"driver": "no-such"}), 400, "no-such"),
        (115, json!({"driver": "fake-hardware", "power_state": "power on"}), 400, "Additional properties"),
        (115, json!({"driver": "fake-hardware", "protected": true}), 400, "'protected' was unexpected"),
        (115, json!({"driver": "fake-hardware", "name": "taken"}), 409, "taken"),
        (115, json!({"driver": "fake-hardware", "uuid": uuid}), 409, "already exists"),
        (115, json!({"driver": "fake-hardware", "name": "detail"}), 400, "reserved"),
        (115, json!({"driver": "fake-hardware", "extra": 7}), 400, "extra"),
        (115, json!({"driver": "fake-hardware", "chassis_uuid": uuid}), 400, "Chassis"),
        (115, json!({"driver": "fake-hardware", "parent_node": "nobody"}), 400, "parent_node 'nobody'"),
        (
            115,
            json!({"driver": "fake-hardware", "parent_node": "1be26c0b-03f2-4d2e-ae87-c02d7f33c123"}),
            400,
            "parent",
        ),
        (115, json!({"driver": "fake-hardware", "power_interface": "ipmitool"}), 400, "ipmitool"),
        (115, json!({"driver": "fake-hardware", "conductor_group": "elsewhere"}), 400, "elsewhere"),
        (115, json!({"driver": "fake-hardware", "network_data": {"links": []}}), 400, "networks"),
        (4, json!({"driver": "fake-hardware", "name": "n"}), 406, "1.5"),
        (94, json!({"driver": "fake-hardware", "disable_power_off": false}), 406, "1.95"),
        (20, json!({"driver": "fake-hardware", "resource_class": "x"}), 406, "1.21"),
    ] {
        let told = server.at(minor).post("/v1/nodes", body.clone()).await.fails(status);
        assert!(told.contains(text), "{body} at 1.{minor}: {told}");
    }
    // a gated field that is null is no field
    server.at(20).post("/v1/nodes", json!({"driver": "fake-hardware", "resource_class": null})).await.is(201);
}

#[tokio::test]
async fn filters_find_what_they_should() {
    let server = Server::start();
    let client = server.at(115);
    client
        .enrol(json!({"name": "a", "resource_class": "big", "owner": "o", "description": "In rack 7"}))
        .await;
    let b = client.enrol(json!({"name": "b", "maintenance": true, "lessee": "o", "shard": "s1"})).await;
    client
        .enrol(
            json!({"name": "c", "instance_uuid": "5be26c0b-03f2-4d2e-ae87-c02d7f33c123", "parent_node": b}),
        )
        .await;
    client.enrol(json!({"name": "d", "instance_uuid": "6be26c0b-03f2-4d2e-ae87-c02d7f33c123", "instance_name": "vm"})).await;
    for (query, expected) in [
        ("", "a b d"),
        ("include_children=true", "a b c d"),
        ("parent_node=b", "c"),
        ("associated=true", "d"),
        ("associated=no&maintenance=false", "a"),
        ("maintenance=1", "b"),
        ("resource_class=big", "a"),
        ("owner=o", "a"),
        ("lessee=o", "b"),
        ("project=o", "a b"),
        ("description_contains=RACK", "a"),
        ("shard=s1,s2", "b"),
        ("sharded=false", "a d"),
        ("instance_uuid=6be26c0b-03f2-4d2e-ae87-c02d7f33c123", "d"),
        ("instance_name=vm", "d"),
        ("provision_state=enroll&driver=fake-hardware&conductor_group=", "a b d"),
        ("provision_state=active", ""),
        ("driver=ipmi", ""),
        ("fault=power%20failure", ""),
        ("conductor=test-host", "a b d"),
        ("conductor=elsewhere", ""),
        ("retired=true", ""),
        ("sort_key=name&sort_dir=desc", "d b a"),
    ] {
        let list = client.get(&format!("/v1/nodes?{query}")).await.is(200);
        let names: Vec<&str> =
            list["nodes"].as_array().expect("a list").iter().filter_map(|n| n["name"].as_str()).collect();
        assert_eq!(names.join(" "), expected, "{query}");
        assert!(list.get("next").is_none(), "{query}");
    }
    for (minor, query, status) in [
        (115, "provision_state=sleeping", 400),
        (115, "fault=bad%20mood", 400),
        (115, "maintenance=perhaps", 400),
        (115, "instance_uuid=x", 400),
        (115, "sort_key=driver_info", 400),
        (115, "sort_key=nothing", 400),
        (115, "sort_dir=up", 400),
        (115, "limit=0", 400),
        (115, "marker=1be26c0b-03f2-4d2e-ae87-c02d7f33c123", 404),
        (8, "provision_state=enroll", 406),
        (41, "fault=power%20failure", 406),
        (81, "shard=s1", 406),
        (103, "instance_name=vm", 406),
    ] {
        server.at(minor).get(&format!("/v1/nodes?{query}")).await.fails(status);
    }
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let server = Server::with(|settings| settings.max_limit = 2);
    let client = server.at(115);
    for name in ["n1", "n2", "n3", "n4", "n5"] {
        client.enrol(json!({"name": name})).await;
    }
    let mut path = "/v1/nodes?sort_key=name&sort_dir=desc&fields=name&driver=fake-hardware".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = client.get(&path).await.is(200);
        let names = page["nodes"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|n| n["name"].as_str().expect("a name").to_owned());
        seen.extend(names);
        let Some(next) = page["next"].as_str() else { break };
        assert!(next.contains("limit=2&marker=") && next.contains("driver=fake-hardware"), "{next}");
        path = next.strip_prefix(&server.base).expect("the same server").to_owned();
    }
    assert_eq!(seen, ["n5", "n4", "n3", "n2", "n1"]);
}

#[tokio::test]
async fn a_node_goes_when_its_state_lets_it() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "gone"})).await;
    let answer = client.delete("/v1/nodes/gone").await;
    assert!(answer.header("content-type").is_none());
    assert_eq!(answer.is(204), Value::Null);
    client.get(&format!("/v1/nodes/{node}")).await.fails(404);
    client.delete(&format!("/v1/nodes/{node}")).await.fails(404);
    let busy = client.enrol(json!({"instance_uuid": "6be26c0b-03f2-4d2e-ae87-c02d7f33c123"})).await;
    client.delete(&format!("/v1/nodes/{busy}")).await.fails(409);
}
