//! The serial console of a node through the whole of Ferric: switched on by the API, seen over TCP and over a WebSocket,
//! there again after `kill -9`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ferric_drivers::Secret;
use ferric_drivers::protocol::ipmi::command::ChassisControl;
use ferric_sim::bmc::{Bmc, BmcConfig, Chassis, SimpleChassis};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// A loopback address of this process: nobody else takes its ports while Ferric is down.
fn own_address() -> Ipv4Addr {
    let [.., a, b] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 91, a, b.max(1))
}

const API: u16 = 6385;

struct Ferric(Child);

impl Drop for Ferric {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path) -> Ferric {
    let address = own_address();
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a log");
    let child = Command::new(env!("CARGO_BIN_EXE_ferric"))
        .arg("serve")
        .args(["--data-dir".into(), folder.join("data")])
        .args(["--set", &format!("api.host_ip={address}")])
        .args(["--set", &format!("console.socat_address={address}")])
        .args(["--set", "console.port_range=20000:20100"])
        .args(["--set", "hardware.enabled_console_interfaces=ipmitool-socat,no-console"])
        .args(["--set", "conductor.automated_clean=false"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("ferric starts");
    Ferric(child)
}

/// One HTTP request; gives the status and the body.
async fn ask(method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("http://{}:{API}{path}", own_address());
    let mut request =
        http.request(method.parse().expect("a method"), url).header("X-OpenStack-Ironic-API-Version", "1.80");
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let text = answer.text().await.ok()?;
    Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn up() {
    until("Ferric does not answer", async || {
        ask("GET", "/readyz", None).await.is_some_and(|(status, _)| status == 200)
    })
    .await;
}

async fn read_until(stream: &mut TcpStream, what: &str) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if text.contains(what) {
            return text;
        }
        match timeout(PATIENCE, stream.read(&mut buffer)).await {
            Ok(Ok(len)) if len > 0 => all.extend_from_slice(&buffer[..len]),
            other => panic!("'{what}' did not come ({other:?}): {text}"),
        }
    }
}

/// A WebSocket client, no more of one than is needed (RFC 6455).
struct WebSocket {
    stream: TcpStream,
    read: Vec<u8>,
}

impl WebSocket {
    /// The handshake; gives the status line of the answer where it is not 101.
    async fn open(path: &str, more: &str) -> Result<Self, String> {
        let at = SocketAddr::new(IpAddr::V4(own_address()), API);
        let mut stream = TcpStream::connect(at).await.expect("the API listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut read = Vec::new();
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let mut buffer = [0; 4096];
            let len =
                timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an answer").expect("an answer");
            assert!(len > 0, "the connection ended in the handshake");
            read.extend_from_slice(&buffer[..len]);
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        read.drain(..end);
        match head.starts_with("HTTP/1.1 101") {
            true => Ok(Self { stream, read }),
            false => Err(head.lines().next().unwrap_or_default().to_owned()),
        }
    }

    async fn send(&mut self, opcode: u8, data: &[u8]) {
        let len = u8::try_from(data.len()).expect("short messages");
        assert!(len < 126);
        let mut frame = vec![0x80 | opcode, 0x80 | len, 0, 0, 0, 0];
        frame.extend_from_slice(data);
        self.stream.write_all(&frame).await.expect("sent");
    }

    async fn types(&mut self, text: &str) {
        self.send(2, text.as_bytes()).await;
    }

    async fn says(&mut self, what: Value) {
        self.send(1, what.to_string().as_bytes()).await;
    }

    async fn need(&mut self, count: usize) {
        while self.read.len() < count {
            let mut buffer = [0; 4096];
            let len = self.stream.read(&mut buffer).await.expect("a frame");
            assert!(len > 0, "the connection ended");
            self.read.extend_from_slice(&buffer[..len]);
        }
    }

    /// The next message: opcode and data.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        self.need(2).await;
        let (opcode, mut len, mut head) = (self.read[0] & 0x0F, usize::from(self.read[1]), 2);
        if len == 126 {
            self.need(4).await;
            (len, head) = (usize::from(u16::from_be_bytes([self.read[2], self.read[3]])), 4);
        } else if len == 127 {
            self.need(10).await;
            let bytes = self.read[2..10].try_into().expect("eight bytes");
            (len, head) = (usize::try_from(u64::from_be_bytes(bytes)).expect("a size"), 10);
        }
        self.need(head + len).await;
        let data = self.read[head..head + len].to_vec();
        self.read.drain(..head + len);
        (opcode, data)
    }

    /// Reads until `what` came, in bytes or in text; gives all that came.
    async fn until(&mut self, what: &str) -> String {
        let mut all = String::new();
        while !all.contains(what) {
            let next = timeout(PATIENCE, self.next()).await;
            let (opcode, data) = next.unwrap_or_else(|_| panic!("'{what}' did not come: {all}"));
            match opcode {
                1 | 2 => all.push_str(&String::from_utf8_lossy(&data)),
                9 => self.send(10, &data).await,
                8 => all.push_str("[close]"),
                _ => {}
            }
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_switched_on_seen_by_tcp_and_websocket_and_there_again_after_kill_9() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let chassis = Arc::new(SimpleChassis::default());
    let behind: Arc<dyn Chassis> = chassis.clone();
    let config = BmcConfig { password: Secret::new("password".to_owned()), ..BmcConfig::default() };
    let bmc = Bmc::start(SocketAddr::from((own_address(), 0)), config, behind).expect("a BMC");
    let ferric = start(folder.path());
    up().await;
    let info = json!({
        "ipmi_address": own_address().to_string(), "ipmi_port": bmc.address().port(),
        "ipmi_username": "admin", "ipmi_password": "password",
    });
    let body = json!({"driver": "ipmi", "name": "rack1", "driver_info": info});
    let (status, node) = ask("POST", "/v1/nodes", Some(body)).await.expect("an answer");
    assert_eq!(status, 201, "{node}");
    let socket = "/v1/ferric/nodes/rack1/console";

    // off: refused, with what to do
    let (status, refusal) = ask("GET", socket, None).await.expect("an answer");
    assert_eq!(status, 400, "{refusal}");
    assert!(WebSocket::open(socket, "").await.is_err_and(|line| line.contains("400")));
    let console = "/v1/nodes/rack1/states/console";
    assert_eq!(
        ask("GET", console, None).await,
        Some((200, json!({"console_enabled": false, "console_info": null})))
    );
    assert_eq!(ask("PUT", console, Some(json!({"enabled": true}))).await.expect("an answer").0, 202);
    let enabled = json!({
        "console_enabled": true,
        "console_info": {"type": "socat", "url": format!("tcp://{}:20000", own_address())},
    });
    until("the console is not enabled", async || {
        ask("GET", console, None).await == Some((200, enabled.clone()))
    })
    .await;

    let mut tcp = TcpStream::connect((own_address(), 20_000)).await.expect("the port listens");
    read_until(&mut tcp, "you type").await;
    chassis.control(ChassisControl::On);
    let seen = read_until(&mut tcp, "simulated login: ").await;
    assert!(seen.contains("Simulated BIOS") && seen.contains("Linux version"), "{seen}");

    // a page of another site is not let in; a watcher sees what was shown before
    assert!(
        WebSocket::open(socket, "Origin: http://evil.example\r\n")
            .await
            .is_err_and(|line| line.contains("403"))
    );
    let mut watcher = WebSocket::open(socket, "").await.expect("let in");
    let seen = watcher.until("simulated login: ").await;
    assert!(seen.starts_with("{\"type\":\"hello\",\"watchers\":1,\"writer\":false}"), "{seen}");
    assert!(seen.contains("Simulated BIOS"), "{seen}");
    watcher.types("x").await;
    watcher.until("someone else is typing").await;

    // taking over; whoever typed before watches
    let mut writer = WebSocket::open(&format!("{socket}?write=true"), "").await.expect("let in");
    writer.says(json!({"type": "take"})).await;
    writer.until("\"writer\":true").await;
    read_until(&mut tcp, "someone else types").await;
    writer.types("root\r").await;
    writer.until("Welcome, root").await;
    watcher.until("Welcome, root").await;
    read_until(&mut tcp, "Welcome, root").await;
    writer.says(json!({"type": "break"})).await;
    watcher.until("SysRq").await;
    writer.says(json!({"type": "release"})).await;
    read_until(&mut tcp, "you type").await;

    // the BMC restarts
    bmc.forget_sessions();
    tcp.write_all(b"\r").await.expect("sent");
    watcher.until("BMC silent; next try in").await;
    watcher.until("connected to BMC").await;

    // the process dies, and is there again: same port, without anybody asking
    drop(ferric);
    let ferric = start(folder.path());
    up().await;
    let again = async || TcpStream::connect((own_address(), 20_000)).await.ok();
    let mut tcp = None;
    until("the console is not opened again", async || {
        tcp = again().await;
        tcp.is_some()
    })
    .await;
    let mut tcp = tcp.expect("connected");
    read_until(&mut tcp, "connected to BMC").await;
    tcp.write_all(b"\r").await.expect("sent");
    read_until(&mut tcp, "simulated login: ").await;
    let (_, shown) = ask("GET", "/v1/nodes/rack1", None).await.expect("an answer");
    assert_eq!((&shown["console_enabled"], &shown["last_error"]), (&json!(true), &Value::Null), "{shown}");

    // and off: clients are let go, the port is free, the BMC was told
    assert_eq!(ask("PUT", console, Some(json!({"enabled": false}))).await.expect("an answer").0, 202);
    read_until(&mut tcp, "the console is switched off").await;
    until("the console is still enabled", async || {
        ask("GET", console, None).await
            == Some((200, json!({"console_enabled": false, "console_info": null})))
    })
    .await;
    assert!(!bmc.sol_active());
    tokio::net::TcpListener::bind((own_address(), 20_000)).await.expect("the port is free");

    // what keeps it from opening stands in the node
    bmc.enable_sol(true);
    let _busy: Vec<_> = {
        let mut all = Vec::new();
        for port in 20_000..20_100 {
            all.push(tokio::net::TcpListener::bind((own_address(), port)).await.expect("free"));
        }
        all
    };
    assert_eq!(ask("PUT", console, Some(json!({"enabled": true}))).await.expect("an answer").0, 202);
    until("last_error says nothing", async || {
        let (_, node) = ask("GET", "/v1/nodes/rack1", None).await.expect("an answer");
        node["last_error"].as_str().is_some_and(|text| {
            text.starts_with("Error enabling the console on node")
                && text.contains("no port of [console] port_range is free")
        })
    })
    .await;
    drop(ferric);
}
