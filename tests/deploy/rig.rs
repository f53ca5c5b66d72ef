//! A real `ferric serve` as its own process, and machines whose disks are files: the agent that runs on them is the
//! real one, the network and the firmware are not there.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferric_agent::agent;
use ferric_agent::options::Options;
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::task::JoinHandle;

pub(crate) const GIB: u64 = 1 << 30;
const WITHIN: Duration = Duration::from_secs(60);

/// A `ferric serve` and the folder it lives in.
pub(crate) struct Ferric {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    http: reqwest::Client,
}

impl Drop for Ferric {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Ferric {
    pub(crate) async fn start() -> Ferric {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
        let http = reqwest::Client::new();
        let mut ferric = Ferric { process: serve(folder.path(), port), folder, port, http };
        ferric.up().await;
        ferric
    }

    /// As `kill -9`, or a power failure.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub(crate) async fn start_again(&mut self) {
        self.process = serve(self.folder.path(), self.port);
        self.up().await;
    }

    async fn up(&mut self) {
        let deadline = Instant::now() + WITHIN;
        while self.http.get(self.url("/v1")).send().await.is_err() {
            assert!(Instant::now() < deadline, "ferric serve does not come up:\n{}", self.log());
            assert!(self.process.try_wait().expect("a child").is_none(), "ferric ended:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request =
            self.http.request(method, self.url(path)).header("X-OpenStack-Ironic-API-Version", "1.115");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn must(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    pub(crate) async fn node(&self, name: &str) -> Value {
        self.must(reqwest::Method::GET, &format!("/v1/nodes/{name}"), None).await
    }

    /// What the node is doing, once that `holds`.
    pub(crate) async fn doing(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + WITHIN;
        loop {
            let doing =
                self.must(reqwest::Method::GET, &format!("/v1/ferric/nodes/{name}/doing"), None).await;
            if holds(&doing) {
                return doing;
            }
            assert!(Instant::now() < deadline, "{doing}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn verb(&self, name: &str, target: &str) {
        let path = format!("/v1/nodes/{name}/states/provision");
        self.must(reqwest::Method::PUT, &path, Some(json!({"target": target}))).await;
    }

    /// Enrols a machine and brings it to `available`, with what is to be deployed.
    pub(crate) async fn available(&self, machine: &Machine, instance_info: Value, properties: Value) {
        let node = json!({
            "name": machine.name, "driver": "fake-hardware", "deploy_interface": "direct",
            "instance_info": instance_info, "properties": properties,
        });
        let node = self.must(reqwest::Method::POST, "/v1/nodes", Some(node)).await;
        let port = json!({"node_uuid": node["uuid"], "address": machine.mac});
        self.must(reqwest::Method::POST, "/v1/ports", Some(port)).await;
        self.verb(&machine.name, "manage").await;
        self.reaches(&machine.name, "manageable").await;
        self.verb(&machine.name, "provide").await;
        self.reaches(&machine.name, "available").await;
    }

    /// Waits until the node is in `state`; another resting state is a failure.
    pub(crate) async fn reaches(&self, name: &str, state: &str) -> Value {
        let deadline = Instant::now() + WITHIN;
        loop {
            let node = self.node(name).await;
            let now = node["provision_state"].as_str().unwrap_or_default().to_owned();
            if now == state {
                return node;
            }
            let error = &node["last_error"];
            assert!(now != "deploy failed" && Instant::now() < deadline, "{now}: {error}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn serve(folder: &Path, port: u16) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferric"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FERRIC_") {
            command.env_remove(name);
        }
    }
    command
        .args(["serve", "--data-dir"])
        .arg(folder.join("data"))
        .args(["--set", &format!("api.port={port}"), "--set", "deploy.default_boot_mode=bios"])
        // the agent of these tests works on a file and only deploys
        .args(["--set", "conductor.automated_clean=false"])
        // there is no BMC that would see the agent's power off
        .args(["--set", "agent.post_deploy_get_power_state_retries=0"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("ferric starts")
}

/// A machine that is a folder.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) mac: String,
    folder: tempfile::TempDir,
    running: Option<JoinHandle<()>>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.dies();
    }
}

impl Machine {
    /// With one disk `sda` of `bytes`.
    pub(crate) fn new(name: &str, mac: &str, bytes: u64) -> Machine {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        };
        write("sys/class/net/eth0/address", &format!("{mac}\n"));
        write("sys/block/sda/size", &format!("{}\n", bytes / 512));
        write("sys/block/sda/queue/logical_block_size", "512\n");
        write("sys/block/sda/queue/rotational", "1\n");
        write("sys/block/sda/device/model", "Test Disk\n");
        write("dev/sda", "");
        File::options()
            .write(true)
            .open(folder.path().join("dev/sda"))
            .and_then(|disk| disk.set_len(bytes))
            .expect("disk");
        Machine { name: name.into(), mac: mac.into(), folder, running: None }
    }

    /// The ramdisk comes up.
    pub(crate) fn boots(&mut self, ferric: &Ferric) {
        let mut options = Options::new(ferric.url(""));
        options.listen = "127.0.0.1:0".parse().expect("an address");
        options.sys = self.folder.path().join("sys");
        options.dev = self.folder.path().join("dev");
        options.state = self.folder.path().to_owned();
        options.limits.back_off = Duration::from_millis(20);
        options.limits.heartbeat = Some(Duration::from_millis(200));
        self.running = Some(tokio::spawn(async move {
            if let Err(error) = agent::run(options).await {
                eprintln!("the agent gave up: {error}");
            }
        }));
    }

    pub(crate) fn dies(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }

    /// Whether the disk holds `image` in `range`. The agent writes the first MiB last.
    pub(crate) fn disk_holds(&self, image: &[u8], range: std::ops::Range<usize>) -> bool {
        let disk = File::open(self.disk()).expect("a disk");
        let mut found = vec![0; range.len()];
        disk.read_exact_at(&mut found, range.start as u64).expect("readable");
        found == image[range]
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("dev/sda")
    }
}

/// Bytes that do not compress and look like no image format; the same for the same seed.
pub(crate) fn image(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// instance_info for a raw image.
pub(crate) fn wanted(url: &str, bytes: &[u8]) -> Value {
    json!({
        "image_source": url, "image_disk_format": "raw",
        "image_os_hash_algo": "sha256", "image_os_hash_value": sha256(bytes),
    })
}
