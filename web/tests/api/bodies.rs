use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Server;

const UUID: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";

fn keys(body: &Value) -> BTreeSet<String> {
    body.as_object().expect("an object").keys().cloned().collect()
}

#[tokio::test]
async fn a_node_is_shown_in_full_to_the_first_version() {
    let server = Server::start();
    let base = &server.base;
    let client = server.at(1);
    client
        .enrol(json!({
            "uuid": UUID, "driver_info": {"ipmi_password": "hunter2", "a": 1}, "properties": {"cpus": "8"},
            "extra": {"b": [1.5, null]}, "instance_info": {"image_source": "http://h/i?temp_url_sig=s"},
        }))
        .await;
    let node = client.get(&format!("/v1/nodes/{UUID}")).await.is(200);
    let created = node["created_at"].as_str().expect("a moment");
    assert!(created.ends_with("+00:00") && created.contains('T'), "{created}");
    let link = |tail: &str| {
        json!([{"href": format!("{base}/v1/nodes/{UUID}{tail}"), "rel": "self"},
               {"href": format!("{base}/nodes/{UUID}{tail}"), "rel": "bookmark"}])
    };
    assert_eq!(
        node,
        json!({
            "uuid": UUID, "created_at": created, "updated_at": null, "driver": "fake-hardware",
            "driver_info": {"ipmi_password": "******", "a": 1}, "properties": {"cpus": "8"},
            "extra": {"b": [1.5, null]}, "instance_info": {"image_source": "******"}, "instance_uuid": null,
            "chassis_uuid": null, "provision_state": null, "target_provision_state": null,
            "provision_updated_at": null, "power_state": null, "target_power_state": null, "last_error": null,
            "reservation": null, "maintenance": false, "maintenance_reason": null, "console_enabled": false,
            "links": link(""), "ports": link("/ports"),
        })
    );
}

#[tokio::test]
async fn each_version_shows_the_fields_it_knows() {
    let server = Server::start();
    server.at(115).enrol(json!({"uuid": UUID, "name": "n"})).await;
    let mut seen = keys(&server.at(1).get(&format!("/v1/nodes/{UUID}")).await.is(200));
    for (minor, count, added) in [
        (9, 27, "driver_internal_info name inspection_finished_at inspection_started_at clean_step"),
        (
            31,
            41,
            "raid_config target_raid_config states network_interface resource_class portgroups boot_interface \
             console_interface deploy_interface inspect_interface management_interface power_interface raid_interface \
             vendor_interface",
        ),
        (
            61,
            58,
            "volume storage_interface traits rescue_interface bios_interface fault deploy_step conductor_group \
             automated_clean protected protected_reason conductor owner description allocation_uuid retired \
             retired_reason",
        ),
        (
            115,
            69,
            "lessee network_data boot_mode secure_boot shard parent_node firmware_interface service_step \
             disable_power_off instance_name health",
        ),
    ] {
        let now = keys(&server.at(minor).get(&format!("/v1/nodes/{UUID}")).await.is(200));
        let new: BTreeSet<String> = now.difference(&seen).cloned().collect();
        let expected: BTreeSet<String> = added.split_whitespace().map(str::to_owned).collect();
        assert_eq!(new, expected, "1.{minor}");
        assert!(seen.is_subset(&now));
        assert_eq!(now.len(), count, "1.{minor}");
        seen = now;
    }
}

#[tokio::test]
async fn lists_are_short_and_details_are_whole() {
    let server = Server::start();
    server.at(115).enrol(json!({"uuid": UUID, "name": "n"})).await;
    let listed = |minor: u16, path: &'static str| {
        let client = server.at(minor);
        async move { keys(&client.get(path).await.is(200)["nodes"][0]) }
    };
    let short: BTreeSet<String> = "uuid name instance_uuid maintenance power_state provision_state links"
        .split(' ')
        .map(str::to_owned)
        .collect();
    assert_eq!(listed(115, "/v1/nodes").await, short);
    assert_eq!(listed(1, "/v1/nodes").await.len(), 6, "without a name");
    assert_eq!(listed(115, "/v1/nodes/detail").await.len(), 69);
    assert_eq!(listed(43, "/v1/nodes?detail=True").await, listed(43, "/v1/nodes/detail").await);
    let chosen = listed(8, "/v1/nodes?fields=uuid,DRIVER").await;
    assert_eq!(chosen, ["driver", "links", "uuid"].map(str::to_owned).into());
    let client = server.at(42);
    client.get("/v1/nodes?detail=True").await.fails(400);
    server.at(7).get("/v1/nodes?fields=uuid").await.fails(406);
    server.at(115).get("/v1/nodes?fields=uuid&detail=true").await.fails(400);
    server.at(115).get("/v1/nodes?fields=nothing").await.fails(400);
    server.at(36).get("/v1/nodes?fields=uuid,traits").await.fails(406);
    let one = server.at(115).get(&format!("/v1/nodes/{UUID}?fields=name")).await.is(200);
    assert_eq!((keys(&one).len(), &one["name"]), (2, &json!("n")));
}

#[tokio::test]
async fn the_conductor_and_the_interfaces_are_resolved() {
    let server = Server::start();
    let client = server.at(115);
    client.enrol(json!({"uuid": UUID})).await;
    let node = client.get(&format!("/v1/nodes/{UUID}")).await.is(200);
    assert_eq!(node["conductor"], "test-host");
    assert_eq!((&node["power_interface"], &node["deploy_interface"]), (&json!("fake"), &json!("fake")));
    assert_eq!((&node["provision_state"], &node["traits"]), (&json!("enroll"), &json!([])));
}

/// The server's address and the moments differ from run to run.
fn settled(server: &Server, body: &Value) -> Value {
    let text = body.to_string().replace(&server.base, "http://ferric");
    let mut body: Value = serde_json::from_str(&text).expect("JSON");
    for key in ["created_at", "updated_at"] {
        if body[key].is_string() {
            body[key] = json!("[moment]");
        }
    }
    body
}

/// Whole bodies, kept as files beside this one: a change of the wire shows in review.
#[tokio::test]
async fn whole_bodies_are_as_they_were() {
    const PORT: &str = "2be26c0b-03f2-4d2e-ae87-c02d7f33c123";
    let server = Server::start();
    let client = server.at(115);
    client.enrol(json!({"uuid": UUID, "name": "n", "driver_info": {"ipmi_password": "hunter2"}})).await;
    let port = json!({"uuid": PORT, "node_uuid": UUID, "address": "52:54:00:aa:bb:01"});
    client.post("/v1/ports", port).await.is(201);
    for minor in [1, 9, 31, 61, 115] {
        let client = server.at(minor);
        for (noun, path) in [
            ("node", format!("/v1/nodes/{UUID}")),
            ("states", format!("/v1/nodes/{UUID}/states")),
            ("port", format!("/v1/ports/{PORT}")),
            ("root", "/v1".to_owned()),
        ] {
            let body = client.get(&path).await.is(200);
            insta::assert_json_snapshot!(format!("{noun}_1_{minor}"), settled(&server, &body));
        }
    }
}

#[tokio::test]
async fn sockets_that_stall_keep_no_large_body_out() {
    use std::io::Write;

    let server = Server::start();
    let host = server.base.trim_start_matches("http://").to_owned();
    let stalled: Vec<_> = (0..12)
        .map(|at| {
            let mut socket = std::net::TcpStream::connect(&host).expect("a connection");
            let path = if at % 2 == 0 { "/v1/continue_inspection" } else { "/v1/nodes" };
            let size = if at % 2 == 0 { 16 << 20 } else { 1 << 20 };
            write!(socket, "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n{{")
                .expect("it is sent");
            socket
        })
        .collect();
    let large = json!({"inventory": {}, "plugin_data": "x".repeat(8 << 20)});
    let client = server.at(115);
    let asked = async {
        // there is no such machine, which is found out from the whole body
        for _ in 0..2 {
            let answer = client.post("/v1/continue_inspection", large.clone()).await;
            assert!([400, 404].contains(&answer.status.as_u16()), "{}", answer.body);
        }
        client.enrol(json!({"extra": {"x": "y".repeat(900 << 10)}})).await;
    };
    tokio::time::timeout(std::time::Duration::from_secs(15), asked).await.expect("answers in time");
    drop(stalled);
}
