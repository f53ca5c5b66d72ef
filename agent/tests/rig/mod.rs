//! A whole agent on folders and files, a conductor's API and an image server, all on loopback.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file takes in the rig whole and uses another part of it"
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferric_agent::agent::{self, AgentError};
use ferric_agent::options::Options;
use ferric_agent_wire::{Command, Heartbeat};
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const NODE: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";
/// The node that an inspection's answer names.
pub const INSPECTED: &str = "5d4f1b70-0b8e-4f1c-9d22-2b0a2c8b7e11";
pub const TOKEN: &str = "a-token-of-32-characters-or-more-0001";
pub const MAC: &str = "52:54:00:aa:bb:01";
pub const GIB: u64 = 1 << 30;
const DEADLINE: Duration = Duration::from_secs(60);

/// How an image is served.
#[derive(Clone, Default)]
pub struct Served {
    pub bytes: Arc<Vec<u8>>,
    /// Answer whole files to range requests.
    pub no_ranges: bool,
    /// Break the connection after so many bytes, per request in order; once used up, serve to the end.
    pub breaks: Vec<u64>,
    /// Answer 503 to so many requests after each break.
    pub down: usize,
    /// Wait for the gate to open before the last byte.
    pub gated: bool,
    /// Another ETag from the second request on.
    pub changes: bool,
    /// Neither ETag nor Last-Modified.
    pub no_tag: bool,
    /// Other bytes of the same length from the second request on.
    pub later: Option<Arc<Vec<u8>>>,
}

impl Served {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Arc::new(bytes), ..Self::default() }
    }
}

/// One answered request for an image.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub start: u64,
    pub end: Option<u64>,
    pub if_range: Option<String>,
    pub sent: Arc<AtomicU64>,
}

#[derive(Default)]
pub struct World {
    images: Mutex<HashMap<String, Served>>,
    tries: Mutex<HashMap<String, usize>>,
    pub asked: Mutex<Vec<Asked>>,
    pub lookups: Mutex<Vec<String>>,
    pub lookup_trouble: Mutex<Vec<StatusCode>>,
    pub beat_trouble: Mutex<Vec<StatusCode>>,
    pub inspections: Mutex<Vec<(String, Value)>>,
    pub inspection_trouble: Mutex<Vec<StatusCode>>,
    pub properties: Mutex<Value>,
    pub versions: Mutex<Vec<String>>,
    gate: watch::Sender<bool>,
    pub beats: watch::Sender<Vec<Heartbeat>>,
    masked: AtomicBool,
    /// Whether lookups are answered without a token.
    pub tokenless: AtomicBool,
}

impl World {
    pub fn serve_image(&self, name: &str, served: Served) {
        self.images.lock().expect("not poisoned").insert(format!("/images/{name}"), served);
    }

    pub fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    pub fn asked_for(&self, name: &str) -> Vec<Asked> {
        let path = format!("/images/{name}");
        self.asked.lock().expect("not poisoned").iter().filter(|a| a.path == path).cloned().collect()
    }

    pub async fn beats(&self, at_least: usize) -> Vec<Heartbeat> {
        let mut seen = self.beats.subscribe();
        let beats = tokio::time::timeout(DEADLINE, seen.wait_for(|beats| beats.len() >= at_least)).await;
        beats.expect("heartbeats in time").expect("world lives").clone()
    }

    pub fn beat_count(&self) -> usize {
        self.beats.borrow().len()
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

fn full(status: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut answer =
        Response::new(Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed());
    *answer.status_mut() = status;
    answer
}

pub async fn conductor() -> (Arc<World>, SocketAddr) {
    let world = Arc::new(World::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let shared = world.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accept");
            let world = shared.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let world = world.clone();
                    async move { Ok::<_, Infallible>(answer(&world, request).await) }
                });
                // broken connections are what these tests are about
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (world, address)
}

async fn answer(world: &Arc<World>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let version =
        request.headers().get("X-OpenStack-Ironic-API-Version").and_then(|v| v.to_str().ok()).unwrap_or("");
    let version = version.to_owned();
    if path.starts_with("/images/") {
        return image(world, &path, &request);
    }
    if path == "/" {
        let body = json!({"default_version": {"id": "v1", "min_version": "1.1", "version": "1.115"}});
        return full(StatusCode::OK, body.to_string());
    }
    world.versions.lock().expect("not poisoned").push(format!("{path} {version}"));
    if path == "/v1/continue_inspection" {
        let body = request.into_body().collect().await.expect("whole body").to_bytes();
        let body = serde_json::from_slice(&body).expect("json");
        world.inspections.lock().expect("not poisoned").push((version, body));
        let trouble = world.inspection_trouble.lock().expect("not poisoned").pop();
        let answer = json!({"uuid": INSPECTED}).to_string();
        return trouble.map_or_else(|| full(StatusCode::ACCEPTED, answer), |status| full(status, "{}"));
    }
    if path == "/v1/lookup" {
        world.lookups.lock().expect("not poisoned").push(request.uri().query().unwrap_or("").to_owned());
        if let Some(status) = world.lookup_trouble.lock().expect("not poisoned").pop() {
            return full(status, "{}");
        }
        let token = if world.masked.swap(true, Ordering::SeqCst) { "******" } else { TOKEN };
        let token = (!world.tokenless.load(Ordering::SeqCst)).then_some(token);
        let body = json!({
            "node": {"uuid": NODE, "properties": *world.properties.lock().expect("not poisoned"), "instance_info": {},
                     "driver_internal_info": {}, "links": []},
            "config": {"heartbeat_timeout": 300, "agent_token": token, "agent_token_required": true}
        });
        return full(StatusCode::OK, body.to_string());
    }
    if path == format!("/v1/heartbeat/{NODE}") {
        let body = request.into_body().collect().await.expect("whole body").to_bytes();
        let beat: Heartbeat = serde_json::from_slice(&body).expect("a heartbeat");
        if let Some(status) = world.beat_trouble.lock().expect("not poisoned").pop() {
            return full(status, "{}");
        }
        let right = beat.agent_token.as_ref().is_some_and(|token| token.same_as(TOKEN));
        world.beats.send_modify(|beats| beats.push(beat));
        return full(if right { StatusCode::ACCEPTED } else { StatusCode::BAD_REQUEST }, "");
    }
    full(StatusCode::NOT_FOUND, "{}")
}

fn image(world: &Arc<World>, path: &str, request: &Request<Incoming>) -> Response<Body> {
    let Some(served) = world.images.lock().expect("not poisoned").get(path).cloned() else {
        return full(StatusCode::NOT_FOUND, "none");
    };
    let attempt = {
        let mut tries = world.tries.lock().expect("not poisoned");
        let tried = tries.entry(path.to_owned()).or_default();
        *tried += 1;
        *tried - 1
    };
    let (round, within) = (attempt / (served.down + 1), attempt % (served.down + 1));
    if within > 0 && round < served.breaks.len() {
        return full(StatusCode::SERVICE_UNAVAILABLE, "down");
    }
    let range =
        request.headers().get("range").and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("bytes="));
    let range = range.filter(|_| !served.no_ranges).and_then(|range| {
        let (start, end) = range.split_once('-')?;
        Some((start.parse::<u64>().ok()?, end.parse::<u64>().ok()))
    });
    let size = served.bytes.len() as u64;
    let (start, last) =
        range.map_or((0, size - 1), |(start, end)| (start, end.unwrap_or(size - 1).min(size - 1)));
    let sent = Arc::new(AtomicU64::new(0));
    world.asked.lock().expect("not poisoned").push(Asked {
        path: path.to_owned(),
        start,
        end: range.and_then(|(_, end)| end),
        if_range: request.headers().get("if-range").and_then(|v| v.to_str().ok()).map(str::to_owned),
        sent: sent.clone(),
    });
    let break_at = served.breaks.get(round).copied().unwrap_or(u64::MAX);
    let gate = world.gate.subscribe();
    let bytes = served.later.clone().filter(|_| attempt > 0).unwrap_or_else(|| served.bytes.clone());
    let gated = served.gated;
    let chunks = stream::unfold((start, 0_u64), move |(at, given)| {
        let (bytes, sent, mut gate) = (bytes.clone(), sent.clone(), gate.clone());
        async move {
            if at > last {
                return None;
            }
            if given >= break_at {
                // hyper sends what it has buffered when the body has nothing more for the moment
                tokio::task::yield_now().await;
                let broken = std::io::Error::other("broken on purpose");
                return Some((Err(broken), (last + 1, given)));
            }
            let mut len = (64 << 10).min(last + 1 - at).min(break_at - given);
            if gated && at + len > last {
                if len > 1 {
                    len -= 1;
                } else {
                    gate.wait_for(|open| *open).await.expect("world lives");
                }
            }
            sent.fetch_add(len, Ordering::SeqCst);
            let chunk = Bytes::copy_from_slice(&bytes[at as usize..(at + len) as usize]);
            Some((Ok(Frame::data(chunk)), (at + len, given + len)))
        }
    });
    let tag = if served.changes && attempt > 0 { "\"two\"" } else { "\"one\"" };
    let mut answer = Response::builder().header("content-length", last + 1 - start);
    if !served.no_tag {
        answer = answer.header("etag", tag);
    }
    if !served.no_ranges {
        answer = answer.header("accept-ranges", "bytes");
    }
    if range.is_some() {
        answer = answer.status(206).header("content-range", format!("bytes {start}-{last}/{size}"));
    }
    answer.body(StreamBody::new(chunks).boxed()).expect("an answer")
}

/// A fake machine.
pub struct Machine {
    pub folder: TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("temp dir");
        let net = folder.path().join("sys/class/net/eth0");
        fs::create_dir_all(&net).expect("dirs");
        fs::write(net.join("address"), format!("{MAC}\n")).expect("file");
        fs::create_dir_all(folder.path().join("dev")).expect("dirs");
        Self { folder }
    }

    /// A sparse disk whose first 64 MiB and last 2 MiB hold old data.
    pub fn add_disk(&self, name: &str, size: u64) -> PathBuf {
        let block = self.folder.path().join("sys/block").join(name);
        fs::create_dir_all(block.join("queue")).expect("dirs");
        fs::create_dir_all(block.join("device")).expect("dirs");
        fs::write(block.join("size"), format!("{}\n", size / 512)).expect("file");
        fs::write(block.join("queue/logical_block_size"), "512\n").expect("file");
        fs::write(block.join("queue/rotational"), "0\n").expect("file");
        fs::write(block.join("serial"), format!("serial-{name}")).expect("file");
        let path = self.folder.path().join("dev").join(name);
        let file = File::create(&path).expect("disk");
        file.set_len(size).expect("sparse");
        let old = vec![0xaa; (64 << 20).min(size as usize)];
        file.write_all_at(&old, 0).expect("old data");
        let tail = (2 << 20).min(size);
        file.write_all_at(&old[..tail as usize], size - tail).expect("old data");
        path
    }
}

pub struct Rig {
    pub world: Arc<World>,
    pub base: String,
    pub machine: Machine,
    pub powered_off: Arc<AtomicBool>,
    pub running: JoinHandle<Result<(), AgentError>>,
    pub options: Options,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Rig {
    /// An agent with one 4 GiB disk `vda`.
    pub async fn start() -> Self {
        let machine = Machine::new();
        machine.add_disk("vda", 4 * GIB);
        Self::with(machine, |_, _| ()).await
    }

    pub async fn with(machine: Machine, change: impl FnOnce(&mut Options, &World)) -> Self {
        let (world, address) = conductor().await;
        let base = format!("http://{address}");
        let powered_off = Arc::new(AtomicBool::new(false));
        let mut options = Options::new(base.clone());
        options.listen = "127.0.0.1:0".parse().expect("address");
        options.sys = machine.folder.path().join("sys");
        options.dev = machine.folder.path().join("dev");
        options.state = machine.folder.path().to_owned();
        options.limits.back_off = Duration::from_millis(10);
        options.limits.first_contact = Duration::from_secs(5);
        options.limits.stalled = Duration::from_secs(20);
        let off = powered_off.clone();
        options.power_off = Arc::new(move || off.store(true, Ordering::SeqCst));
        change(&mut options, &world);
        let running = tokio::spawn(agent::run(options.clone()));
        Self { world, base, machine, powered_off, running, options }
    }

    pub fn disk(&self, name: &str) -> PathBuf {
        self.machine.folder.path().join("dev").join(name)
    }

    pub fn image_url(&self, name: &str) -> String {
        format!("{}/images/{name}", self.base)
    }

    /// A client of the agent that trusts nothing but the certificate in its heartbeat.
    pub async fn client(&self) -> AgentClient {
        let beat = self.world.beats(1).await[0].clone();
        let mut builder = reqwest::Client::builder();
        if let Some(pem) = &beat.agent_verify_ca {
            let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate");
            builder = builder.tls_certs_only([certificate]);
        }
        AgentClient { http: builder.build().expect("client"), base: beat.callback_url }
    }

    /// Runs the deploy step `write_image` to its end.
    pub async fn write(&self, image_info: Value, configdrive: Value) -> Command {
        let client = self.client().await;
        client.command("deploy.execute_deploy_step", write_step(image_info, configdrive), true).await.1
    }
}

pub fn write_step(image_info: Value, configdrive: Value) -> Value {
    json!({
        "step": {"interface": "deploy", "step": "write_image", "priority": 80,
                 "args": {"image_info": image_info, "configdrive": configdrive}},
        "node": {"uuid": NODE, "properties": {}, "instance_info": {}}, "ports": [], "deploy_version": null
    })
}

pub struct AgentClient {
    pub http: reqwest::Client,
    pub base: String,
}

impl AgentClient {
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("json"))
    }

    pub async fn post(&self, token: &str, name: &str, params: Value, wait: bool) -> (u16, Value) {
        let url = format!("{}/v1/commands/?wait={wait}&agent_token={token}", self.base);
        let body = json!({"name": name, "params": params});
        let answer = self.http.post(url).json(&body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("json"))
    }

    pub async fn command(&self, name: &str, params: Value, wait: bool) -> (u16, Command) {
        let (status, body) = self.post(TOKEN, name, params, wait).await;
        (status, serde_json::from_value(body).expect("a command"))
    }

    /// Polls until `test` holds for the command.
    pub async fn until(&self, id: &str, test: impl Fn(&Command) -> bool) -> Command {
        let began = Instant::now();
        loop {
            let (_, body) = self.get(&format!("/v1/commands/{id}?agent_token={TOKEN}")).await;
            let command: Command = serde_json::from_value(body).expect("a command");
            if test(&command) {
                return command;
            }
            assert!(began.elapsed() < DEADLINE, "still {command:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A raw image: a GPT with one partition, random and repetitive and empty stretches. Always the same bytes.
pub fn raw_image(mib: usize) -> Vec<u8> {
    let mut bytes = vec![0; mib << 20];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for (n, block) in bytes.chunks_mut(256 << 10).enumerate() {
        match n % 4 {
            0 | 1 => block.chunks_exact_mut(8).for_each(|word| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }),
            2 => block.fill(n as u8),
            _ => {}
        }
    }
    let folder = tempfile::tempdir().expect("temp dir");
    let path = folder.path().join("raw");
    fs::write(&path, &bytes).expect("written");
    run("sgdisk", &["-Z"], &path);
    run("sgdisk", &["-o", "-n", "1:2048:+2M", "-c", "1:root", "-U", "R"], &path);
    fs::read(&path).expect("read")
}

/// Runs a tool on a file; panics with its output unless it succeeds.
pub fn run(tool: &str, arguments: &[&str], path: &Path) -> String {
    let done = Process::new(tool).args(arguments).arg(path).output().expect("tool runs");
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    // sgdisk -Z says 2 or 3 on what was no table
    assert!(done.status.success() || arguments == ["-Z"], "{tool} {arguments:?}: {text}");
    text
}

/// The raw bytes turned into another kind of image by the usual tools.
pub fn converted(raw: &[u8], tool: &str, arguments: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("temp dir");
    let (from, to) = (folder.path().join("raw"), folder.path().join("out"));
    fs::write(&from, raw).expect("written");
    let mut process = Process::new(tool);
    process.args(arguments).arg(&from);
    if tool == "qemu-img" {
        process.arg(&to);
        let done = process.output().expect("tool runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        return fs::read(&to).expect("read");
    }
    let done = process.output().expect("tool runs");
    assert!(done.status.success());
    done.stdout
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn info(url: &str, file: &[u8], format: &str) -> Value {
    json!({"id": "image", "urls": [url], "disk_format": format, "container_format": "bare", "node_uuid": NODE,
           "os_hash_algo": "sha256", "os_hash_value": sha256(file), "image_type": "whole-disk-image"})
}

pub fn read_at(path: &Path, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open(path).expect("disk").read_exact_at(&mut bytes, at).expect("read");
    bytes
}

/// Compares a disk with an image, leaving out the first MiB's partition table (its size fields move to the real end).
pub fn assert_same(disk: &Path, raw: &[u8]) {
    let seen = read_at(disk, 0, raw.len());
    let table = 34 * 512;
    let differs = (table..raw.len() - 33 * 512).find(|&n| seen[n] != raw[n]);
    assert_eq!(differs, None, "first differing byte");
    assert_eq!(&seen[..440], &raw[..440], "boot code");
}
