//! The target against an initiator that is none of ours: libiscsi's programs, so that target and initiator do not
//! merely share a misreading.

use std::process::Output;
use std::sync::Arc;

use ferric_drivers::Secret;
use ferric_sim::iscsi::{Chap, Limits, Store, Target, TargetOptions};
use tokio::process::Command;

use crate::IQN;

async fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).kill_on_drop(true).output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), output).await;
    let output = output.unwrap_or_else(|_| panic!("{program} {args:?} does not end"));
    output.unwrap_or_else(|error| panic!("{program} of Debian's libiscsi-bin: {error}"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn target(options: TargetOptions) -> Target {
    let store = Arc::new(Store::new(64 << 20));
    Target::start("127.0.0.1:0".parse().unwrap(), options, store).await.unwrap()
}

#[tokio::test]
async fn libiscsi_finds_the_target_its_disk_and_its_size() {
    let options = TargetOptions::new(IQN);
    let many: Vec<String> = (0..400).map(|n| format!("iqn.2026-01.example:another-{n:04}")).collect();
    let target = target(TargetOptions { also_known: many.clone(), ..options }).await;
    let portal = target.address();
    // longer than one PDU
    let listed = run("iscsi-ls", &[&format!("iscsi://{portal}")]).await;
    assert!(said(&listed).contains(IQN) && said(&listed).contains(&many[399]), "{}", said(&listed));
    let inquiry = run("iscsi-inq", &[&format!("iscsi://{portal}/{IQN}/1")]).await;
    assert!(said(&inquiry).contains("SIMULATED DISK"), "{}", said(&inquiry));
    for page in ["0x80", "0x83", "0xb0", "0xb2"] {
        let args = ["-e", "1", "-c", page, &format!("iscsi://{portal}/{IQN}/1")];
        let page = run("iscsi-inq", &args).await;
        assert!(page.status.success(), "{}", said(&page));
    }
    let capacity = run("iscsi-readcapacity16", &["-s", &format!("iscsi://{portal}/{IQN}/1")]).await;
    assert_eq!(said(&capacity).trim(), (64 << 20).to_string());
    target.until(|stats| stats.open == 0).await;
    assert_eq!(target.stats().violations, Vec::<String>::new());
}

#[tokio::test]
async fn libiscsi_is_let_in_by_chap_and_by_mutual_chap_with_the_right_secrets_only() {
    let own = Some(("it".to_owned(), Secret::new("and-its-own-secret".to_owned())));
    let chap = Chap { user: "me".to_owned(), secret: Secret::new("my-own-long-secret".to_owned()), own };
    let target = target(TargetOptions { chap: Some(chap), ..TargetOptions::new(IQN) }).await;
    let portal = target.address();
    let url = |login: &str| format!("iscsi://{login}{portal}/{IQN}/1");
    let mutual = "?target_user=it&target_password=and-its-own-secret";
    for (url, lets_in) in [
        (url("me%my-own-long-secret@"), true),
        (url("me%my-own-long-secret@") + mutual, true),
        (url("me%my-own-long-secret@") + &mutual.replace("own", "other"), false),
        (url("me%not-my-own-secret@"), false),
        (url("you%my-own-long-secret@"), false),
        (url(""), false),
    ] {
        let capacity = run("iscsi-readcapacity16", &["-s", &url]).await;
        assert_eq!(capacity.status.success(), lets_in, "{url}: {}", said(&capacity));
    }
    target.until(|stats| stats.open == 0).await;
    assert_eq!((target.stats().violations, target.stats().refused), (Vec::new(), 3));
}

/// What of libiscsi's conformance suite concerns a disk as ours.
const SUITE: &[&str] = &[
    "ALL.Inquiry",
    "ALL.Mandatory",
    "ALL.Read10",
    "ALL.Read16",
    "ALL.ReadCapacity10",
    "ALL.ReadCapacity16",
    "ALL.TestUnitReady",
    "ALL.Unmap",
    "ALL.Write10",
    "ALL.Write16",
    "ALL.WriteSame10.Simple",
    "ALL.WriteSame10.Unmap",
    "ALL.WriteSame10.WriteProtect",
    "ALL.WriteSame16.Simple",
    "ALL.WriteSame16.WriteProtect",
    "ALL.WriteSame16.BeyondEol",
    "ALL.WriteSame16.ZeroBlocks",
    "ALL.WriteSame16.UnmapUnaligned",
    "ALL.WriteSame16.UnmapUntilEnd",
    "ALL.WriteSame16.UnmapVPD",
    "ALL.WriteSame16.Check",
    "ALL.WriteSame16.InvalidDataOutSize",
    "ALL.iSCSIResiduals",
    "ALL.iSCSITMF",
];

#[tokio::test]
async fn libiscsis_conformance_suite_passes() {
    for initial_r2t in [false, true] {
        let limits = Limits { initial_r2t, max_outstanding_r2t: 4, ..Limits::default() };
        let target = target(TargetOptions { limits, ..TargetOptions::new(IQN) }).await;
        let url = format!("iscsi://{}/{IQN}/1", target.address());
        let mut broken = Vec::new();
        for family in SUITE {
            let output = said(&run("iscsi-test-cu", &["--dataloss", "-V", "-t", family, &url]).await);
            // total, ran, passed, failed, inactive
            let summary =
                output.lines().find_map(|line| line.trim().strip_prefix("tests")).unwrap_or_default();
            let numbers: Vec<&str> = summary.split_whitespace().collect();
            if !matches!(numbers.as_slice(), [total, ran, _, "0", _] if *total != "0" && total == ran) {
                broken.push(format!("{family}: {output}"));
            }
        }
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        target.until(|stats| stats.open == 0).await;
    }
}
