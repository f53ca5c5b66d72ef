//! The same requests to a real Ironic 39.0.0 and to Ferric: `tests/differential/run.py`. It needs Ironic, which
//! `tests/differential/install.sh` installs from PyPI, and leaves nothing behind.

use std::path::Path;
use std::process::Command;

#[test]
fn the_comparison_tells_what_differs() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/selftest.py");
    let status = Command::new("python3").arg(script).status().expect("python3 is installed");
    assert!(status.success(), "{status}");
}

#[test]
fn answers_are_those_of_ironic_but_for_listed_differences() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new("python3")
        .arg(root.join("tests/differential/run.py"))
        .args(["--ferric", env!("CARGO_BIN_EXE_ferric"), "--report"])
        .arg(root.join("target/differential.json"))
        .status()
        .expect("python3 is installed");
    assert!(
        status.success(),
        "{status}: what is wrong stands above, every difference in target/differential.json"
    );
}
