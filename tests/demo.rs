//! The demo from outside: one wave of 24 machines over real IPMI and the real agent protocol.
#![allow(clippy::unwrap_used)] // tests say what broke by panicking

use std::process::Command;

fn demo(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ferric"))
        .args(["demo", "--once", "--seed", "1", "--listen", "127.0.0.1:0", "--set", "sim.bmc_port=0"])
        .args(["--set", "sim.boot_delay_min=0.1", "--set", "sim.boot_delay_max=0.4"])
        .args(["--set", "sim.disk_bytes_per_second=0"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn one_wave_of_24_machines_becomes_active() {
    let (code, out, err) = demo(&["--nodes", "24"]);
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(out.contains("24 of 24 machines active"), "{out}");
}

#[test]
fn machines_that_are_cleaned_first_become_active_too() {
    let (code, out, err) = demo(&["--nodes", "8", "--set", "conductor.automated_clean=true"]);
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(out.contains("8 of 8 machines active") && out.contains("cleaned"), "{out}");
}

#[test]
fn a_machine_that_cannot_be_cleaned_fails_the_demo_with_its_last_error() {
    let folder = tempfile::tempdir().unwrap();
    let faults = folder.path().join("faults.toml");
    std::fs::write(&faults, "[machines.sim-0002]\nclean_step_error = 1\n").unwrap();
    let clean = ["--nodes", "3", "--set", "conductor.automated_clean=true"];
    let (code, out, err) = demo(&[&clean[..], &["--faults", faults.to_str().unwrap()]].concat());
    assert_eq!(code, 1, "{out}\n{err}");
    assert!(out.contains("2 of 3 machines active"), "{out}");
    assert!(err.contains("sim-0002 is clean failed") && err.contains("simulated failure"), "{err}");
}

#[test]
fn a_machine_that_cannot_be_deployed_fails_the_demo_with_its_last_error() {
    let folder = tempfile::tempdir().unwrap();
    let faults = folder.path().join("faults.json");
    std::fs::write(&faults, r#"{"machines": {"sim-0002": {"download_errors": 9}}}"#).unwrap();
    let (code, out, err) = demo(&["--nodes", "3", "--faults", faults.to_str().unwrap()]);
    assert_eq!(code, 1, "{out}\n{err}");
    assert!(out.contains("2 of 3 machines active"), "{out}");
    assert!(err.contains("sim-0002 is deploy failed") && err.contains("connection lost"), "{err}");
}

#[test]
fn a_silent_bmc_fails_its_own_machine_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let faults = folder.path().join("faults.json");
    std::fs::write(&faults, r#"{"machines": {"sim-0001": {"silent_bmc": true}}}"#).unwrap();
    let quick = ["--set", "ipmi.command_retry_timeout=2"];
    let (code, out, err) =
        demo(&[&["--nodes", "3", "--faults", faults.to_str().unwrap()], &quick[..]].concat());
    assert_eq!(code, 1, "{out}\n{err}");
    assert!(out.contains("2 of 3 machines active"), "{out}");
    assert!(err.contains("sim-0001 is enroll") && err.contains("did not answer"), "{err}");
}
