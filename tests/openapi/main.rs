//! The OpenAPI document holds for what the server does: `run.py` sends what schemathesis makes of it.

use std::path::Path;
use std::process::Command;

#[test]
fn nothing_answers_otherwise_than_the_document_says() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/run.py");
    let status = Command::new("python3")
        .arg(script)
        .args(["--ferric", env!("CARGO_BIN_EXE_ferric")])
        .status()
        .expect("python3 is installed");
    assert!(status.success(), "{status}; what was found, and how to send it again, is above");
}
