//! Clients of Ironic, as they are on PyPI, against `ferric serve` with fake hardware (clients.md): openstacksdk's own
//! functional tests, every `openstack baremetal` subcommand, and what nova, Metal3, metalsmith and gophercloud ask.
//!
//! The scripts run against any endpoint; what they expect was verified against a real Ironic 39.0.0:
//! `$(tests/clients/install.sh)/bin/python tests/clients/commands.py URL --peer`.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that does not listen within this time does not come up.
const UP_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A `ferric serve` of its own, in a folder of its own, configured as the real Ironic of the differential test is.
struct Ferric {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Ferric {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Ferric {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
        let log = File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferric"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FERRIC_") {
                command.env_remove(name);
            }
        }
        command.arg("serve").arg("--config").arg(tests().join("differential/ferric.toml"));
        command
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--set", &format!("api.port={port}")]);
        let streams = (log.try_clone().expect("a log"), log);
        let started = command.stdin(Stdio::null()).stdout(streams.0).stderr(streams.1).spawn();
        let mut ferric = Self { process: started.expect("ferric starts"), folder, port };
        let deadline = Instant::now() + UP_WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "ferric serve does not come up:\n{}", ferric.log());
            assert!(ferric.process.try_wait().expect("a child").is_none(), "ferric ended:\n{}", ferric.log());
            std::thread::sleep(LOOK);
        }
        ferric
    }

    /// The end of what it wrote.
    fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The Python of the clients' environment, which `install.sh` makes where it is missing.
fn python() -> PathBuf {
    let installed = Command::new(tests().join("clients/install.sh")).output().expect("bash is there");
    let failed = String::from_utf8_lossy(&installed.stderr);
    assert!(installed.status.success(), "tests/clients/install.sh: {failed}");
    let venv = String::from_utf8(installed.stdout).expect("a path");
    Path::new(venv.trim()).join("bin/python")
}

/// Runs a script against a Ferric of its own; it says itself what did not hold.
fn holds(script: &str, words: &[&str]) {
    let python = python();
    let ferric = Ferric::start();
    let status = Command::new(python)
        .arg(tests().join("clients").join(script))
        .arg(format!("http://127.0.0.1:{}", ferric.port))
        .args(words)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .status()
        .expect("python starts");
    assert!(status.success(), "{script}: {status}; what did not hold is above\n{}", ferric.log());
}

#[test]
fn the_sdks_functional_tests_that_pass_against_ironic_pass_against_ferric() {
    holds("sdk.py", &[]);
}

#[test]
fn every_subcommand_of_the_client_does_what_it_does_with_ironic() {
    holds("commands.py", &[]);
}

#[test]
fn nova_metal3_metalsmith_and_gophercloud_get_what_they_rely_on() {
    holds("contracts.py", &[]);
}

/// A fleet of its own, whose BMCs speak Redfish.
struct Simulated(Child);

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sushy_gets_from_a_simulated_bmc_what_ironics_redfish_interfaces_ask_for() {
    let python = python();
    let folder = tempfile::tempdir().expect("a folder");
    let enrolment = folder.path().join("fleet.json");
    let started = Command::new(env!("CARGO_BIN_EXE_ferric"))
        .args(["sim", "--nodes", "2", "--set", "sim.bmc_protocol=redfish", "--set", "sim.redfish_port=0"])
        .args(["--set", "sim.bmc_port=0", "--set", "sim.bmc_address=127.201.0.1"])
        // nobody asks an API here; the default may be somebody's
        .args(["--api-url", "http://127.0.0.1:9", "--enroll-file"])
        .arg(&enrolment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let mut fleet = Simulated(started.expect("ferric starts"));
    let deadline = Instant::now() + UP_WITHIN;
    while !fs::read(&enrolment).is_ok_and(|text| serde_json::from_slice::<serde_json::Value>(&text).is_ok()) {
        assert!(Instant::now() < deadline, "ferric sim does not come up");
        assert!(fleet.0.try_wait().expect("a child").is_none(), "ferric sim ended");
        std::thread::sleep(LOOK);
    }
    let script = tests().join("clients/redfish.py");
    let status =
        Command::new(python).arg(script).arg(&enrolment).env("PYTHONDONTWRITEBYTECODE", "1").status();
    assert!(status.expect("python starts").success(), "what did not hold is above");
}
