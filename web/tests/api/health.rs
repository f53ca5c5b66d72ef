//! How machines are, on the API and in `/metrics`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Server};

async fn watched(client: &Client) -> String {
    let id = client.enrol(json!({"management_interface": "noop"})).await;
    format!("/v1/ferric/nodes/{id}")
}

#[actix_web::test]
async fn sensors_are_read_and_a_young_reading_is_told_again() {
    let server = Server::start();
    let client = server.at(115);
    let path = watched(&client).await;
    let first = client.get(&format!("{path}/sensors")).await.is(200);
    assert_eq!(first["health"], "critical");
    assert_eq!(first["reasons"], json!(["FAN1 is critical: 450 rpm, at or below 600"]));
    let fan = &first["sensors"][0];
    assert_eq!((&fan["type"], &fan["value"], &fan["unit"]), (&json!("Fan"), &json!(450.0), &json!("rpm")));
    assert_eq!(fan["thresholds"]["lower_critical"], 600.0);
    let again = client.get(&format!("{path}/sensors?max_age=3600")).await.is(200);
    assert_eq!(again["read_at"], first["read_at"]);
    let fresh = client.get(&format!("{path}/sensors?max_age=0")).await.is(200);
    assert_ne!(fresh["read_at"], first["read_at"]);
    for wrong in ["max_age=-1", "max_age=x", "max_age=3601", "limit=1"] {
        client.get(&format!("{path}/sensors?{wrong}")).await.fails(400);
    }
    client.get("/v1/ferric/nodes/nobody/sensors").await.fails(404);
}

#[actix_web::test]
async fn the_event_log_is_read_the_newest_first_and_cleared() {
    let server = Server::start();
    let client = server.at(115);
    let path = watched(&client).await;
    let log = client.get(&format!("{path}/sel?limit=2")).await.is(200);
    assert_eq!(
        (&log["count"], &log["entries"][0]["id"], &log["entries"][1]["id"]),
        (&json!(3), &json!(3), &json!(2))
    );
    assert_eq!(log["entries"][0]["at"], "2026-01-01T00:00:00+00:00");
    assert_eq!(log["entries"].as_array().map(Vec::len), Some(2));
    client.get(&format!("{path}/sel?limit=0")).await.fails(400);
    assert_eq!(client.delete(&format!("{path}/sel")).await.is(204), Value::Null);
}

#[actix_web::test]
async fn the_inventory_is_read_and_the_light_is_switched() {
    let server = Server::start();
    let client = server.at(115);
    let path = watched(&client).await;
    let fru = client.get(&format!("{path}/fru")).await.is(200);
    let board = &fru["fru"][0]["board"];
    assert_eq!(
        (&board["manufacturer"], &board["mfg_date"]),
        (&json!("Ferric"), &json!("2000-01-01T00:00:00+00:00"))
    );
    let light = format!("{path}/identify");
    client.put(&light, json!({"on": true, "seconds": 15})).await.is(204);
    client.put(&light, json!({"on": false})).await.is(204);
    client.send(Method::PUT, &format!("{light}?on=true&seconds=20"), None).await.is(204);
    for wrong in [
        json!({}),
        json!({"on": null}),
        json!({"on": true, "seconds": 0}),
        json!({"on": true, "seconds": 256}),
        json!({"on": true, "seconds": "x"}),
        json!({"on": true, "colour": "blue"}),
    ] {
        client.put(&light, wrong).await.fails(400);
    }
    let told = client.put(&light, json!({"on": true})).await.fails(500);
    assert!(told.contains("it has none that stays on"), "{told}");
}

#[actix_web::test]
async fn hardware_that_tells_nothing_is_said_to() {
    let server = Server::start();
    let client = server.at(115);
    let id = client.enrol(json!({})).await;
    for (method, part) in
        [(Method::GET, "sensors"), (Method::GET, "sel"), (Method::DELETE, "sel"), (Method::GET, "fru")]
    {
        let told = client.send(method, &format!("/v1/ferric/nodes/{id}/{part}"), None).await.fails(400);
        assert!(told.starts_with("Driver fake-hardware does not support "), "{told}");
    }
}

#[actix_web::test]
async fn prometheus_is_told_of_requests_nodes_database_and_process_and_no_secrets() {
    let server = Server::start();
    let client = server.at(115);
    let id = client.enrol(json!({"driver_info": {"ipmi_password": "s3cret"}})).await;
    client.get(&format!("/v1/nodes/{id}")).await.is(200);
    client.get("/v1/nodes/nobody").await.fails(404);
    let answer = server.unversioned().raw(Method::GET, "/metrics").send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text().await.expect("text");
    for line in [
        "ferric_nodes{provision_state=\"enroll\",power_state=\"unknown\",maintenance=\"false\",fault=\"none\"} 1.0",
        "ferric_database_up 1.0",
        "ferric_queue_length{kind=\"deploy\"} 0.0",
    ] {
        assert!(text.lines().any(|one| one == line), "no '{line}' in\n{text}");
    }
    for part in [
        "ferric_http_requests_total{method=\"GET\",route=\"/nodes/{ident}\",status=\"200\"}",
        "ferric_http_requests_total{method=\"GET\",route=\"/nodes/{ident}\",status=\"404\"}",
        "ferric_http_request_duration_seconds_bucket{le=\"",
        "ferric_database_commits_total ",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
    ] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
    assert!(!text.contains("s3cret") && !text.contains(&id) && text.ends_with("# EOF\n"));
}

#[actix_web::test]
async fn a_look_at_the_power_of_the_fleet_can_be_asked_for_and_is_told() {
    let server = Server::start();
    let client = server.at(1);
    server.at(115).enrol(json!({})).await;
    let before = client.get("/v1/ferric/health").await.is(200);
    assert_eq!((&before["nodes"], &before["power_sync"]["last_sweep"]), (&json!(1), &json!(null)));
    let begun = client.send(Method::POST, "/v1/ferric/power_sync", None).await.is(202);
    assert_eq!(begun, json!({"number": 1}));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let last = loop {
        let told = client.get("/v1/ferric/health").await.is(200);
        let last = &told["power_sync"]["last_sweep"];
        if !last.is_null() {
            break last.clone();
        }
        assert!(std::time::Instant::now() < deadline, "it does not end: {told}");
    };
    // a machine that is not there has no BMC to ask
    let counts = ["nodes", "answered", "silent", "left_out"].map(|key| last[key].as_u64());
    assert_eq!(counts, [Some(1), Some(0), Some(0), Some(1)]);
    assert!(last["began_at"].is_string() && last["ended_at"].is_string() && last["round_trip"]["count"] == 0);
    let text = server.unversioned().raw(Method::GET, "/metrics").send().await.expect("an answer");
    let text = text.text().await.expect("text");
    for line in [
        "ferric_power_sweeps_total 1.0",
        "ferric_power_sweep_nodes{outcome=\"left_out\"} 1.0",
        "ferric_power_sync_silent_nodes 0.0",
        "ferric_power_sync_not_asked_nodes 0.0",
        "ferric_power_sync_lag_seconds 0.0",
    ] {
        assert!(text.lines().any(|one| one == line), "no '{line}' in\n{text}");
    }
}

#[actix_web::test]
async fn metrics_can_be_switched_off() {
    let server = Server::with(|settings| settings.metrics = false);
    server.at(115).get("/metrics").await.fails(404);
}
