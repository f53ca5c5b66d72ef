//! A real `ferric serve`, a simulated fleet (BMCs on real UDP, agents on real HTTP), and OpenStack's client.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferric_sim::{
    BMC_PASSWORD, BMC_USER, BootSource, Faults, Fleet, FleetOptions, Machine, MachineFaults, sha256_hex,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What does not happen within this time does not happen.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
const IMAGE_BYTES: usize = 256 << 10;
/// The newest version that the client knows.
const NEWEST: &str = "1.115";

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Stage {
    _server: Process,
    _client: Process,
    pub(crate) fleet: Fleet,
    pub(crate) folder: tempfile::TempDir,
    port: u16,
    http: reqwest::Client,
    image: String,
    pub(crate) sha256: String,
}

/// What the client left behind.
pub(crate) struct Said {
    pub(crate) code: i64,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Stage {
    /// A fleet whose machines have these faults, in this order.
    pub(crate) async fn set(faults: Vec<MachineFaults>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["kernel", "ramdisk"] {
            let text = b"a simulated machine reads no boot files\n";
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let client = start_client(folder.path());
        let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
        let server = start_server(folder.path(), port);
        let nodes = faults.len();
        let names = (1..).map(|number| format!("sim-{number:04}"));
        let faults = Faults { machines: names.zip(faults).collect(), ..Faults::default() };
        let fleet = Fleet::start(FleetOptions {
            nodes,
            seed: u64::from(port),
            bmc_port: 0,
            boot_delay: (Duration::from_millis(100), Duration::from_millis(300)),
            disk_bytes_per_second: Some(8 << 20),
            faults,
            ..FleetOptions::default()
        })
        .await
        .expect("a fleet");
        let data = folder.path().join("data");
        fleet.set_boot_source(BootSource::Folders(vec![data.join("httpboot"), data.join("tftpboot")]));
        fleet.set_api_url(&format!("http://127.0.0.1:{port}"));
        let content: Vec<u8> = (0..IMAGE_BYTES).map(|at| (at * 31 % 251) as u8).collect();
        let sha256 = sha256_hex(&content);
        let image = fleet.publish_image("verbs.img", Bytes::from(content));
        let http = reqwest::Client::builder().no_proxy().timeout(WITHIN).build().expect("an HTTP client");
        let stage = Self { _server: server, _client: client, fleet, folder, port, http, image, sha256 };
        let deadline = Instant::now() + WITHIN;
        while stage.http.get(stage.url("/v1")).send().await.is_err() || !stage.socket().exists() {
            assert!(Instant::now() < deadline, "ferric or the client does not come up:\n{}", stage.log());
            tokio::time::sleep(LOOK).await;
        }
        stage
    }

    pub(crate) fn machine(&self, index: usize) -> &Arc<Machine> {
        &self.fleet.machines()[index]
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("client")
    }

    /// The end of what ferric wrote.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// A file in the test's folder; answers its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(&path, content).expect("a file");
        path.display().to_string()
    }

    /// `openstack WORDS…`, with whatever comes of it.
    pub(crate) async fn openstack(&self, words: &[&str]) -> Said {
        let mut socket = tokio::net::UnixStream::connect(self.socket()).await.expect("the client listens");
        let env =
            json!({"OS_AUTH_TYPE": "none", "OS_ENDPOINT": self.url(""), "NO_PROXY": "*", "no_proxy": "*"});
        let line = format!("{}\n", json!({"args": words, "env": env}));
        socket.write_all(line.as_bytes()).await.expect("the client reads");
        let mut answer = String::new();
        let read = tokio::time::timeout(WITHIN, socket.read_to_string(&mut answer));
        read.await.expect("the client ends in time").expect("the client answers");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let text = |name: &str| answer[name].as_str().expect("a text").to_owned();
        Said { code: answer["code"].as_i64().unwrap_or(1), out: text("out"), err: text("err") }
    }

    /// `openstack baremetal WORDS…`, which has to go well. Answers what it printed.
    pub(crate) async fn baremetal(&self, words: &[&str]) -> String {
        let said = self.openstack(&[&["baremetal"], words].concat()).await;
        assert_eq!(said.code, 0, "{words:?}: {}\n{}\n{}", said.out, said.err, self.log());
        said.out
    }

    /// `openstack baremetal WORDS…`, which has to be refused with this status and words of Ironic's error.
    pub(crate) async fn refused(&self, words: &[&str], status: u16, says: &str) {
        let said = self.openstack(&[&["baremetal"], words].concat()).await;
        assert!(said.code != 0, "{words:?} went well: {}\n{}", said.out, self.log());
        assert!(said.err.contains(&format!("HTTP {status}")), "{words:?}: {}", said.err);
        let found = said.err.to_lowercase().contains(&says.to_lowercase());
        assert!(found, "{words:?} does not say '{says}': {}", said.err);
    }

    /// A request beside the client: status and body.
    pub(crate) async fn ask(
        &self,
        version: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let mut request = self.http.request(method, self.url(path));
        request = request.header("X-OpenStack-Ironic-API-Version", version);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(NEWEST, "GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) async fn node(&self, name: &str) -> Value {
        self.get(&format!("/v1/nodes/{name}")).await
    }

    /// Waits until the node is as `holds` says; `what` is for the person who reads that it never was.
    pub(crate) async fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + WITHIN;
        loop {
            let node = self.node(name).await;
            if holds(&node) {
                return node;
            }
            if Instant::now() > deadline {
                let (state, error) = (&node["provision_state"], &node["last_error"]);
                let doing = self.get(&format!("/v1/ferric/nodes/{name}/doing")).await;
                panic!("{name} never was {what}: {state} {error} {doing}\n{}", self.log());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for a state with nothing left to do; a failed state that is not awaited ends the test.
    pub(crate) async fn reaches(&self, name: &str, state: &str) -> Value {
        let rests = !["clean wait", "wait call-back", "rescue wait", "service wait", "inspect wait"]
            .contains(&state)
            && !state.ends_with("hold");
        let node = self
            .until(name, state, |node| {
                let now = node["provision_state"].as_str().unwrap_or_default();
                let failed = now.ends_with("failed") || now == "error";
                let error = &node["last_error"];
                assert!(!failed || now == state, "{name}: {now} instead of {state}: {error}\n{}", self.log());
                now == state && (!rests || node["reservation"].is_null())
            })
            .await;
        let target = &node["target_provision_state"];
        let stable = ["enroll", "manageable", "available", "active", "rescue"].contains(&state);
        assert!(!stable || target.is_null(), "{name} rests in {state} and wants to be {target}");
        node
    }

    /// Creates the machine's node and port by the client and makes it manageable. Answers its name.
    pub(crate) async fn enrol(&self, index: usize) -> String {
        let machine = self.machine(index);
        let bmc = machine.bmc_address();
        let (address, port) = (format!("ipmi_address={}", bmc.ip()), format!("ipmi_port={}", bmc.port()));
        let (user, password) = (format!("ipmi_username={BMC_USER}"), format!("ipmi_password={BMC_PASSWORD}"));
        let uuid = self
            .baremetal(&[
                "node",
                "create",
                "--driver",
                "ipmi",
                "--name",
                &machine.name,
                "--driver-info",
                &address,
                "--driver-info",
                &port,
                "--driver-info",
                &user,
                "--driver-info",
                &password,
                "--property",
                "cpu_arch=x86_64",
                "--resource-class",
                "verbs",
                "--inspect-interface",
                "agent",
                "--rescue-interface",
                "agent",
                "--raid-interface",
                "agent",
                "-f",
                "value",
                "-c",
                "uuid",
            ])
            .await;
        self.baremetal(&["port", "create", &machine.mac, "--node", uuid.trim()]).await;
        self.baremetal(&["node", "manage", &machine.name]).await;
        self.reaches(&machine.name, "manageable").await;
        machine.name.clone()
    }

    /// Cleans it and makes it available, with the image set.
    pub(crate) async fn provide(&self, name: &str) {
        self.baremetal(&["node", "provide", name]).await;
        self.reaches(name, "available").await;
        self.want_image(name).await;
    }

    /// Says what is to be deployed, by the client.
    pub(crate) async fn want_image(&self, name: &str) {
        let (source, sum) =
            (format!("image_source={}", self.image), format!("image_os_hash_value={}", self.sha256));
        self.baremetal(&[
            "node",
            "set",
            name,
            "--instance-info",
            &source,
            "--instance-info",
            &sum,
            "--instance-info",
            "image_os_hash_algo=sha256",
            "--instance-info",
            "image_disk_format=raw",
        ])
        .await;
    }

    /// What is to be deployed, as instance_info.
    pub(crate) fn image(&self) -> Value {
        json!({
            "image_source": self.image, "image_os_hash_algo": "sha256", "image_os_hash_value": self.sha256,
            "image_disk_format": "raw",
        })
    }

    /// A verb by the client, and the state that it ends in.
    pub(crate) async fn verb(&self, words: &[&str], name: &str, state: &str) -> Value {
        self.baremetal(&[&["node"], words, &[name]].concat()).await;
        self.reaches(name, state).await
    }
}

fn start_server(folder: &Path, port: u16) -> Process {
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferric"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FERRIC_") {
            command.env_remove(name);
        }
    }
    command.args(["serve", "--data-dir"]).arg(folder.join("data"));
    for option in [
        format!("api.port={port}"),
        format!("conductor.deploy_kernel={}", folder.join("kernel").display()),
        format!("conductor.deploy_ramdisk={}", folder.join("ramdisk").display()),
        "conductor.automated_clean=true".to_owned(),
        "agent.require_tls=false".to_owned(),
        // what waits for the next heartbeat waits a second
        "api.ramdisk_heartbeat_timeout=2".to_owned(),
        "agent.post_deploy_get_power_state_retry_interval=0.2".to_owned(),
    ] {
        command.args(["--set", &option]);
    }
    let streams = (log.try_clone().expect("a log"), log);
    let started = command.stdin(Stdio::null()).stdout(streams.0).stderr(streams.1).spawn();
    Process(started.expect("ferric starts"))
}

/// The client of the environment that `tests/e2e/install.sh` makes.
fn start_client(folder: &Path) -> Process {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let installed = Command::new(tests.join("e2e/install.sh")).output().expect("bash is there");
    let failed = String::from_utf8_lossy(&installed.stderr);
    assert!(installed.status.success(), "tests/e2e/install.sh: {failed}");
    let venv = String::from_utf8(installed.stdout).expect("a path");
    let python = Path::new(venv.trim()).join("bin/python");
    let log = File::create(folder.join("client.log")).expect("a log");
    let mut command = Command::new(python);
    command.arg(tests.join("verbs/client.py")).arg(folder.join("client"));
    let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
    Process(started.expect("python starts"))
}
