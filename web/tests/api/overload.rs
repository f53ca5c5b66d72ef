//! More than the API can do: what is refused, what gets through, and that nothing is lost.

use std::time::{Duration, Instant};

use ferric_web::Limits;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Answer, Client, Server};

/// A change whose body does not come whole until the test wants: it has its place meanwhile.
struct Slow {
    stream: TcpStream,
    rest: String,
}

impl Slow {
    async fn patch(server: &Server, node: &str, extra: &Value) -> Slow {
        let body = json!([{"op": "add", "path": "/extra", "value": extra}]).to_string();
        let (begin, rest) = body.split_at(5);
        let addr = server.base.strip_prefix("http://").expect("a plain server");
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        let head = format!(
            "PATCH /v1/nodes/{node} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n\
             X-OpenStack-Ironic-API-Version: 1.115\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{begin}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        Slow { stream, rest: rest.to_owned() }
    }

    /// The rest of the body; gives the status line.
    async fn finish(mut self) -> String {
        self.stream.write_all(self.rest.as_bytes()).await.expect("sent");
        self.answer().await
    }

    async fn answer(&mut self) -> String {
        let mut text = String::new();
        let read = self.stream.read_to_string(&mut text);
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .expect("an answer in time")
            .expect("an answer");
        text
    }
}

/// A number of `/metrics`.
async fn metric(client: &Client, line: &str) -> f64 {
    let text = client.raw(Method::GET, "/metrics").send().await.expect("an answer");
    assert_eq!(text.status().as_u16(), 200, "metrics are always told");
    let text = text.text().await.expect("text");
    let value = text.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {line} in\n{text}"))
}

async fn until(client: &Client, line: &str, value: f64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while (metric(client, line).await - value).abs() > 0.1 {
        assert!(Instant::now() < deadline, "{line} never is {value}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const WRITING: &str = "ferric_api_working{class=\"write\"}";

fn crowded() -> Server {
    Server::with(|settings| {
        settings.limits =
            Limits { writes: 4, waiting: 2, max_wait: Duration::from_millis(50), ..Limits::default() };
    })
}

fn is_overloaded(answer: Answer) {
    let after: u32 = answer.header("retry-after").expect("when to come again").parse().expect("seconds");
    assert!((1..=30).contains(&after), "{after}");
    assert!(answer.header("openstack-request-id").is_some());
    assert_eq!(answer.header("x-openstack-ironic-api-maximum-version"), Some("1.115"));
    let text = answer.fails(503);
    assert!(text.contains("overloaded") && text.contains("max_concurrent_writes"), "{text}");
}

#[tokio::test]
async fn above_its_capacity_it_refuses_changes_and_goes_on_with_what_matters() {
    let server = crowded();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "one"})).await;
    client.provision(&node, "manage", "manageable").await;
    let deploying = client.enrol(json!({"name": "two"})).await;

    // three places of four for one client; the fourth is for others
    let mut slow = Vec::new();
    for number in 0..3 {
        slow.push(Slow::patch(&server, "one", &json!({"number": number})).await);
    }
    until(&client, WRITING, 3.0).await;
    is_overloaded(client.patch("/v1/nodes/one", json!([])).await);
    is_overloaded(client.post("/v1/nodes", json!({"driver": "fake-hardware"})).await);
    is_overloaded(client.put("/v1/nodes/two/states/provision", json!({"target": "manage"})).await);
    is_overloaded(client.delete("/v1/nodes/one").await);

    client.get("/v1/nodes/one").await.is(200);
    client.get("/v1/nodes").await.is(200);
    client.get("/healthz").await.is(200);
    client.get("/v1").await.is(200);
    client.get(&format!("/v1/lookup?node_uuid={node}")).await.fails(404);
    let beat = json!({"callback_url": "https://192.0.2.1:9999", "agent_token": "x", "agent_version": "1"});
    let beat = client.post(&format!("/v1/heartbeat/{node}"), beat).await;
    assert_ne!(beat.status.as_u16(), 503, "{}", beat.body);
    client.put("/v1/nodes/one/states/power", json!({"target": "power on"})).await.is(202);
    client.until(&node, "power_state", &json!("power on")).await;
    // there is nothing to abort, and it says so: it was looked at
    client.put("/v1/nodes/two/states/provision", json!({"target": "abort"})).await.fails(400);
    assert!(metric(&client, "ferric_api_refused_total{class=\"write\",reason=\"wait\"}").await >= 4.0);
    assert!(metric(&client, "ferric_api_refused_total{class=\"priority\",reason=\"full\"}").await < 0.5);

    // what had its place is done, and what was refused can be asked again
    for one in slow {
        let answer = one.finish().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    until(&client, WRITING, 0.0).await;
    let found = client.get("/v1/nodes/one").await.is(200);
    assert!(found["extra"]["number"].is_number(), "{found}");
    client.provision(&deploying, "manage", "manageable").await;
}

#[tokio::test]
async fn who_waits_gets_the_place_that_becomes_free() {
    let server = Server::with(|settings| {
        settings.limits =
            Limits { writes: 1, waiting: 2, max_wait: Duration::from_secs(60), ..Limits::default() };
    });
    let client = server.at(115);
    client.enrol(json!({"name": "one"})).await;
    let first = Slow::patch(&server, "one", &json!({"number": 1})).await;
    until(&client, WRITING, 1.0).await;
    let (mut second, mut third) = (
        Slow::patch(&server, "one", &json!({"number": 2})).await,
        Slow::patch(&server, "one", &json!({"number": 3})).await,
    );
    until(&client, "ferric_api_waiting{class=\"write\"}", 2.0).await;
    // no more may wait: that is said at once
    let full = client.patch("/v1/nodes/one", json!([])).await;
    assert!(full.header("retry-after").is_some());
    assert!(full.fails(503).contains("as many wait already as may"));
    for one in [&mut second, &mut third] {
        let rest = one.rest.clone();
        one.stream.write_all(rest.as_bytes()).await.expect("sent");
    }
    assert!(first.finish().await.starts_with("HTTP/1.1 200"));
    assert!(second.answer().await.starts_with("HTTP/1.1 200"));
    assert!(third.answer().await.starts_with("HTTP/1.1 200"));
    until(&client, "ferric_api_waiting{class=\"write\"}", 0.0).await;
}

#[tokio::test]
async fn who_hangs_up_leaves_its_place() {
    let server = crowded();
    let client = server.at(115);
    client.enrol(json!({"name": "one"})).await;
    let mut slow = Vec::new();
    for number in 0..3 {
        slow.push(Slow::patch(&server, "one", &json!({"number": number})).await);
    }
    until(&client, WRITING, 3.0).await;
    drop(slow);
    until(&client, WRITING, 0.0).await;
    let patch = json!([{"op": "add", "path": "/extra", "value": {"number": 9}}]);
    assert_eq!(client.patch("/v1/nodes/one", patch).await.is(200)["extra"]["number"], json!(9));
}

#[tokio::test]
async fn of_a_crowd_everybody_is_answered() {
    let server = Server::with(|settings| {
        settings.limits =
            Limits { lists: 1, waiting: 3, max_wait: Duration::from_millis(5), ..Limits::default() };
    });
    let client = server.at(115);
    for _ in 0..20 {
        client.enrol(json!({})).await;
    }
    let answers = (0..200).map(|_| client.get("/v1/nodes/detail"));
    let mut done = 0;
    for answer in futures_util::future::join_all(answers).await {
        match answer.status.as_u16() {
            200 => {
                assert_eq!(answer.body["nodes"].as_array().map(Vec::len), Some(20));
                done += 1;
            }
            503 => assert!(answer.header("retry-after").is_some()),
            other => panic!("{other}: {}", answer.body),
        }
    }
    assert!(done > 0);
    until(&client, "ferric_api_working{class=\"list\"}", 0.0).await;
    until(&client, "ferric_api_waiting{class=\"list\"}", 0.0).await;
    client.get("/v1/nodes/detail").await.is(200);
}
