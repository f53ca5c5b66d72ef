//! The load generator from outside: whole lives against a server and a fleet of its own, the report as it is written.
#![allow(clippy::unwrap_used)] // tests say what broke by panicking

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn swarm(arguments: &[&str]) -> (i32, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let (report, picture) = (folder.path().join("report.json"), folder.path().join("report.svg"));
    let output = Command::new(env!("CARGO_BIN_EXE_ferric"))
        .args([
            "swarm",
            "--poll",
            "0.1",
            "--set",
            "sim.boot_delay_min=0.1",
            "--set",
            "sim.boot_delay_max=0.3",
        ])
        .args(["--set", "sim.disk_bytes_per_second=0"])
        // what it keeps goes with the test
        .env("TMPDIR", folder.path())
        .arg("--report")
        .arg(&report)
        .arg("--picture")
        .arg(&picture)
        .args(arguments)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let kept = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir());
    match kept {
        None => assert!(output.status.success(), "what went wrong can be read about: {told}"),
        Some(kept) => {
            assert!(!output.status.success() && told.contains(kept.to_str().unwrap()), "{kept:?}: {told}");
            assert!(kept.join("serve.log").is_file() && kept.join("sim.log").is_file(), "{kept:?}");
        }
    }
    let text = std::fs::read_to_string(&report).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{told}"));
    assert!(std::fs::read_to_string(&picture).unwrap().trim_end().ends_with("</svg>"), "{told}");
    (output.status.code().unwrap_or(-1), report, told)
}

fn phase<'a>(report: &'a Value, name: &str) -> &'a Value {
    let phases = report["phases"].as_array().unwrap();
    phases.iter().find(|phase| phase["phase"] == name).unwrap_or_else(|| panic!("no {name} in {phases:#?}"))
}

#[test]
fn simulated_machines_live_their_whole_lives() {
    let (code, report, told) = swarm(&["--nodes", "6"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!((&report["schema"], &report["ok"]), (&"ferric-swarm/1".into(), &true.into()), "{told}");
    for name in
        ["enrol", "manage", "inspect", "provide", "deploy", "power", "patch", "list", "undeploy", "delete"]
    {
        let phase = phase(&report, name);
        assert_eq!(phase["outcome"], "done", "{phase:#} {told}");
        assert_eq!((&phase["reached"], &phase["failed"]), (&6.into(), &0.into()), "{phase:#} {told}");
    }
    assert_eq!(phase(&report, "deploy")["transition_seconds"]["count"], 6);
    for kind in
        ["create node", "create port", "provision deploy", "patch instance_info", "list detail", "poll"]
    {
        let latency = &report["requests"][kind]["latency_ms"];
        let (p50, max) = (latency["p50"].as_f64().unwrap(), latency["max"].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= max, "{kind}: {latency}");
    }
    assert_eq!(report["nodes_left"], 0);
    let names: Vec<_> = report["processes"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["serve", "sim"]);
    let series = &report["series"];
    let moments = series["seconds"].as_array().unwrap().len();
    for key in ["writes_per_second", "reads_per_second", "p99_ms"] {
        assert_eq!(series[key].as_array().unwrap().len(), moments, "{key}");
    }
    assert!(series["states"].as_array().unwrap().iter().any(|state| state["state"] == "active"), "{series}");
}

#[test]
fn a_machine_that_fails_is_named_and_the_exit_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let faults = folder.path().join("faults.json");
    std::fs::write(&faults, r#"{"machines": {"sim-0002": {"download_errors": 9}}}"#).unwrap();
    let phases = ["--phases", "enrol,manage,provide,deploy,undeploy,delete"];
    let (code, report, told) =
        swarm(&[&["--nodes", "3", "--faults", faults.to_str().unwrap()], &phases[..]].concat());
    assert_eq!(code, 1, "{told}");
    assert_eq!((&report["ok"], &report["failed_nodes"]), (&false.into(), &1.into()), "{told}");
    let failure = &report["failures"][0];
    assert_eq!((&failure["node"], &failure["phase"]), (&"sim-0002".into(), &"deploy".into()));
    assert!(failure["reason"].as_str().unwrap().contains("deploy failed"), "{failure}");
    assert!(told.contains("sim-0002 in deploy"), "{told}");
    // the others went on, and nothing is left behind
    let undeploy = phase(&report, "undeploy");
    assert_eq!((&undeploy["nodes"], &undeploy["reached"]), (&2.into(), &2.into()));
    assert_eq!(report["nodes_left"], 0, "{told}");
}

#[test]
fn what_a_driver_does_not_have_is_told_and_skipped_and_an_open_loop_keeps_its_rate() {
    let fake = ["--driver", "fake-hardware", "--nodes", "20", "--rate", "200"];
    let (code, report, told) = swarm(&[&fake[..], &["--field", "inspect_interface=no-inspect"]].concat());
    assert_eq!(code, 0, "{told}");
    let inspect = phase(&report, "inspect");
    assert_eq!(inspect["outcome"], "skipped", "{inspect}");
    assert!(told.contains("skipped: 400"), "{told}");
    assert_eq!(report["load"]["loop_kind"], "open");
    let of = &report["requests"]["patch extra"];
    let (latency, service) = (&of["latency_ms"]["p99"], &of["service_ms"]["p99"]);
    assert!(latency.as_f64().unwrap() >= service.as_f64().unwrap(), "{of}");
    // nineteen are planned after the first, 5 ms apart
    assert!(phase(&report, "enrol")["seconds"].as_f64().unwrap() >= 0.09, "{told}");
}

/// A load whose machines never come up within the test's life; killed with the test.
struct Waiting {
    child: Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStderr>>,
    /// Its server and its fleet.
    parts: Vec<String>,
}

impl Waiting {
    fn start(folder: &Path) -> Self {
        use std::io::{BufRead as _, BufReader};
        let mut child = Command::new(env!("CARGO_BIN_EXE_ferric"))
            .args(["swarm", "--nodes", "3", "--phases", "enrol,manage,provide,deploy", "--timeout", "60"])
            .args(["--set", "sim.boot_delay_min=600", "--set", "sim.boot_delay_max=600", "--report"])
            .arg(folder.join("report.json"))
            .env("TMPDIR", folder)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut waiting = Self { child, lines, parts: Vec::new() };
        let mut told = Vec::new();
        let came = waiting.lines.by_ref().any(|line| {
            told.push(line.unwrap());
            told.last().unwrap().starts_with("provide")
        });
        assert!(came, "it came to the deployments: {told:#?}");
        waiting.parts = std::fs::read_dir(format!("/proc/{}/task", waiting.child.id()))
            .unwrap()
            .flat_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")))
            .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert_eq!(waiting.parts.len(), 2, "a server and a fleet: {:?}", waiting.parts);
        waiting
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process runs; one that has ended and that nobody asked about yet does not.
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

#[test]
fn an_interrupted_load_says_what_was_done_and_leaves_no_process_behind() {
    // under nohup it is ignored by all, and that is right
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let nohup = u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1;
    for signal in ["-INT", "-HUP"].into_iter().filter(|signal| !nohup || *signal != "-HUP") {
        let folder = tempfile::tempdir().unwrap();
        let mut load = Waiting::start(folder.path());
        load.signal(signal);
        assert_eq!(load.child.wait().unwrap().code(), Some(1), "{signal}");
        let report = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["interrupted"], &report["nodes_left"]), (&true.into(), &3.into()), "{signal}");
        assert_eq!(phase(&report, "deploy")["outcome"], "interrupted");
        for pid in &load.parts {
            assert!(!runs(pid), "{pid} is still there after {signal}");
        }
    }
}

#[test]
fn a_killed_load_takes_its_server_and_its_fleet_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut load = Waiting::start(folder.path());
    load.signal("-KILL");
    load.child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(90);
    while load.parts.iter().any(|pid| runs(pid)) {
        assert!(Instant::now() < until, "{:?} are still there", load.parts);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_fleet_that_died_is_told_whatever_the_load_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut load = Waiting::start(folder.path());
    for pid in &load.parts {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        if line.split('\0').nth(1) == Some("sim") {
            assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
        }
    }
    load.signal("-INT");
    let told: Vec<String> = load.lines.by_ref().map(Result::unwrap).collect();
    assert_eq!(load.child.wait().unwrap().code(), Some(1));
    assert!(told.iter().any(|line| line.contains("ferric sim ended with signal: 9")), "{told:#?}");
}
