//! More than the API can do: what is refused, what gets through, and that nothing is lost.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ferric_web::Limits;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::client::{Answer, Client, Server};
use crate::watched::DEAD;

/// How long anything may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a BMC never answers, asked by a client of its own; it hangs up when this is dropped.
async fn ask_dead(server: &Server, node: &str) -> TcpStream {
    let addr = server.base.strip_prefix("http://").expect("a plain server");
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let body = json!({"on": true, "seconds": DEAD}).to_string();
    let head = format!(
        "PUT /v1/ferric/nodes/{node}/identify HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
}

/// A change whose body does not come whole until the test wants: it has its place meanwhile.
struct Slow {
    stream: TcpStream,
    rest: String,
}

impl Slow {
    async fn patch(server: &Server, node: &str, extra: &Value) -> Slow {
        Slow::patch_from(1, server, node, extra).await
    }

    /// From 127.0.0.`client`.
    async fn patch_from(client: u8, server: &Server, node: &str, extra: &Value) -> Slow {
        let body = json!([{"op": "add", "path": "/extra", "value": extra}]).to_string();
        let (begin, rest) = body.split_at(5);
        let addr = server.base.strip_prefix("http://").expect("a plain server");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::new(127, 0, 0, client), 0).into()).expect("all of 127/8 is this machine's");
        let at: SocketAddr = addr.parse().expect("an address");
        let mut stream = socket.connect(at).await.expect("a connection");
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
        tokio::time::timeout(PATIENCE, read).await.expect("an answer in time").expect("an answer");
        text
    }
}

/// A number of `/metrics`, a second old at the most.
async fn metric(client: &Client, line: &str) -> f64 {
    let text = client.raw(Method::GET, "/metrics").send().await.expect("an answer");
    assert_eq!(text.status().as_u16(), 200, "metrics are always told");
    let text = text.text().await.expect("text");
    let value = text.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {line} in\n{text}"))
}

async fn until(client: &Client, line: &str, value: f64) {
    until_so(client, line, &format!("{value}"), |now| (now - value).abs() < 0.1).await;
}

async fn until_so(client: &Client, line: &str, what: &str, so: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = metric(client, line).await;
        if so(now) {
            return;
        }
        assert!(Instant::now() < deadline, "{line} is {now} and never {what}");
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
    let refused = "ferric_api_refused_total{class=\"write\",reason=\"wait\"}";
    until_so(&client, refused, "4 or more", |times| times >= 4.0).await;
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
            Limits { writes: 1, waiting: 2, max_wait: Duration::from_secs(600), ..Limits::default() };
    });
    let client = server.at(115);
    client.enrol(json!({"name": "one"})).await;
    let first = Slow::patch(&server, "one", &json!({"number": 1})).await;
    until(&client, WRITING, 1.0).await;
    let (mut second, mut third) = (
        Slow::patch(&server, "one", &json!({"number": 2})).await,
        Slow::patch_from(2, &server, "one", &json!({"number": 3})).await,
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
async fn half_of_the_queue_is_for_other_clients() {
    let server = Server::with(|settings| {
        settings.limits =
            Limits { writes: 1, waiting: 2, max_wait: Duration::from_secs(600), ..Limits::default() };
    });
    let client = server.at(115);
    client.enrol(json!({"name": "one"})).await;
    let first = Slow::patch(&server, "one", &json!({"number": 1})).await;
    until(&client, WRITING, 1.0).await;
    let second = Slow::patch(&server, "one", &json!({"number": 2})).await;
    until(&client, "ferric_api_waiting{class=\"write\"}", 1.0).await;
    let refused = client.patch("/v1/nodes/one", json!([])).await;
    assert!(refused.header("retry-after").is_some());
    assert!(refused.fails(503).contains("as one client may"));
    // another one finds the other half
    let third = Slow::patch_from(2, &server, "one", &json!({"number": 3})).await;
    until(&client, "ferric_api_waiting{class=\"write\"}", 2.0).await;
    for one in [first, second, third] {
        let answer = one.finish().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn one_dead_bmc_is_in_the_way_of_its_own_node_only() {
    let server = Server::with(|settings| settings.limits = Limits { bmc: 8, ..Limits::default() });
    let client = server.at(115);
    for name in ["dead", "good"] {
        client.enrol(json!({"name": name, "management_interface": "noop"})).await;
    }
    let working = "ferric_api_working{class=\"bmc\"}";
    let (first, second) = (ask_dead(&server, "dead").await, ask_dead(&server, "dead").await);
    until(&client, working, 2.0).await;
    for path in [
        "/v1/ferric/nodes/dead/sensors",
        "/v1/ferric/nodes/dead/fru",
        "/v1/nodes/dead/management/boot_device",
    ] {
        let refused = client.get(path).await;
        assert!(refused.header("retry-after").is_some());
        let text = refused.fails(503);
        assert!(text.contains("this node's BMC"), "{text}");
    }
    client.get("/v1/ferric/nodes/good/sel").await.is(200);
    // what asks no BMC waits for none
    client.get("/v1/nodes/dead/validate").await.is(200);
    client.get("/v1/nodes/dead/management/boot_device/supported").await.is(200);
    let refused = "ferric_api_refused_total{class=\"bmc\",reason=\"node\"}";
    until(&client, refused, 3.0).await;

    // who has left is not worked for, though the BMC still says nothing
    drop(first);
    until(&client, working, 1.0).await;
    client.get("/v1/ferric/nodes/dead/fru").await.is(200);
    drop(second);
    until(&client, working, 0.0).await;
}

#[tokio::test]
async fn scrapers_share_one_text() {
    let server = Server::start();
    let client = server.at(115);
    let scrape = || async {
        let answer = client.raw(Method::GET, "/metrics").send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
        answer.text().await.expect("text")
    };
    // each of its own would count those before it
    let texts: HashSet<String> =
        futures_util::future::join_all((0..30).map(|_| scrape())).await.into_iter().collect();
    assert!(texts.len() < 30);
    // and it does not stay as it was
    let admitted = "ferric_api_admitted_total{class=\"metrics\"}";
    until_so(&client, admitted, "30 or more", |times| times >= 30.0).await;
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
    // a thread that came late to so many is held for late until it was looked at again
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.get("/v1/nodes/detail").await;
        if answer.status.as_u16() != 503 {
            answer.is(200);
            break;
        }
        assert!(Instant::now() < deadline, "{}", answer.body);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
