//! A real `ferric serve` in a process of its own that is killed and started again on the same data and port.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A process that does not answer within this time does not come up.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// A request that no process answered is tried again for so long: longer than any restart.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

pub(crate) struct Server {
    pub(crate) folder: tempfile::TempDir,
    port: u16,
    http: reqwest::Client,
    process: Mutex<Option<Child>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    /// Takes a folder and a port; nothing runs yet.
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["kernel", "ramdisk"] {
            std::fs::write(folder.path().join(name), b"a simulated machine reads no boot files\n")
                .expect("a file");
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build();
        Self { folder, port, http: http.expect("an HTTP client"), process: Mutex::default() }
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().expect("no code panics while it holds the process")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The end of what the processes wrote.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// `SIGKILL`, by the process's own id, and its burial.
    pub(crate) fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it, without waiting for it.
    pub(crate) fn start(&self) {
        let log =
            File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferric"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FERRIC_") {
                command.env_remove(name);
            }
        }
        let path = |name| self.folder.path().join(name).display().to_string();
        command.args(["serve", "--data-dir"]).arg(self.data());
        for option in [
            format!("api.port={}", self.port),
            format!("conductor.deploy_kernel={}", path("kernel")),
            format!("conductor.deploy_ramdisk={}", path("ramdisk")),
            "conductor.automated_clean=true".to_owned(),
            "agent.require_tls=false".to_owned(),
        ] {
            command.args(["--set", &option]);
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("ferric starts");
        *self.process() = Some(process);
    }

    /// Waits until it answers. Errors: it ended by itself, or says nothing for too long.
    pub(crate) async fn up(&self) -> Result<(), String> {
        let deadline = Instant::now() + UP_WITHIN;
        while self.http.get(format!("{}/v1", self.url())).send().await.is_err() {
            if Instant::now() > deadline {
                return Err("ferric serve does not come up".to_owned());
            }
            let ended = self.process().as_mut().and_then(|process| process.try_wait().expect("a child"));
            if let Some(status) = ended {
                return Err(format!("ferric serve ended: {status}"));
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        Ok(())
    }

    /// A request, tried again for as long as no process answers it. Answers status and body.
    pub(crate) async fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let mut request = self
                .http
                .request(method.clone(), format!("{}{path}", self.url()))
                .header("X-OpenStack-Ironic-API-Version", "1.90");
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = async {
                let answer = request.send().await?;
                let status = answer.status().as_u16();
                Ok::<_, reqwest::Error>((status, answer.bytes().await?))
            };
            match answer.await {
                Ok((503, _)) => {}
                Ok((status, bytes)) => {
                    return Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)));
                }
                Err(error) if Instant::now() > deadline => return Err(format!("{method} {path}: {error}")),
                Err(_) => {}
            }
            if Instant::now() > deadline {
                return Err(format!("{method} {path}: 503 for {} s", ANSWER_WITHIN.as_secs()));
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }
}
