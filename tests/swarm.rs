//! The load generator from outside: whole lives against a server and a fleet of its own, the report as it is written.
#![allow(clippy::unwrap_used)] // tests say what broke by panicking

use std::process::{Command, Stdio};

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
        .arg("--report")
        .arg(&report)
        .arg("--picture")
        .arg(&picture)
        .args(arguments)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
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

#[test]
fn an_interrupted_load_says_what_was_done_and_leaves_no_process_behind() {
    use std::io::{BufRead as _, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ferric"))
        .args(["swarm", "--nodes", "3", "--phases", "enrol,manage,provide,deploy"])
        // they never come up within the test's life
        .args(["--set", "sim.boot_delay_min=600", "--set", "sim.boot_delay_max=600", "--report"])
        .arg(&report)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("provide")), "it came to the deployments");
    let children: Vec<String> = std::fs::read_dir(format!("/proc/{}/task", child.id()))
        .unwrap()
        .flat_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")))
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(children.len(), 2, "a server and a fleet: {children:?}");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!((&report["interrupted"], &report["nodes_left"]), (&true.into(), &3.into()));
    assert_eq!(phase(&report, "deploy")["outcome"], "interrupted");
    for pid in children {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still there");
    }
}
