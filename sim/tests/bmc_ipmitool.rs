//! The simulated BMC, judged by `ipmitool`.

#![allow(clippy::unwrap_used)] // a test may

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ferric_drivers::protocol::ipmi::CipherSuite;
use ferric_sim::bmc::{Bmc, BmcConfig, Chassis, SimpleChassis};
use tokio::process::Command;

struct Rig {
    bmc: Bmc,
    chassis: Arc<SimpleChassis>,
}

impl Rig {
    fn new(config: BmcConfig) -> Self {
        let chassis = Arc::new(SimpleChassis::default());
        let behind: Arc<dyn Chassis> = chassis.clone();
        let bmc = Bmc::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), config, behind).unwrap();
        Self { bmc, chassis }
    }

    /// Runs `ipmitool`; gives whether it succeeded and all that it printed.
    async fn tool(&self, suite: u8, password: &str, words: &str) -> (bool, String) {
        let port = self.bmc.address().port().to_string();
        let output = Command::new("ipmitool")
            .args(["-I", "lanplus", "-C", &suite.to_string(), "-H", "127.0.0.1", "-p", &port])
            .args(["-U", "admin", "-P", password, "-N", "1", "-R", "2"])
            .args(words.split(' '))
            .output()
            .await
            .expect("ipmitool is installed (Debian package ipmitool)");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text.into_owned())
    }

    async fn must(&self, suite: u8, words: &str) -> String {
        let (done, text) = self.tool(suite, "password", words).await;
        assert!(done, "suite {suite}, {words}: {text}");
        text
    }
}

async fn the_whole_round(suite: u8) {
    let rig = Rig::new(BmcConfig::default());
    assert!(rig.must(suite, "mc info").await.contains("IPMI Version"));
    assert!(rig.must(suite, "power status").await.contains("is off"));
    rig.must(suite, "power on").await;
    assert!(rig.must(suite, "power status").await.contains("is on"));
    rig.must(suite, "power cycle").await;
    rig.must(suite, "power reset").await;
    rig.must(suite, "power soft").await;
    assert!(rig.must(suite, "power status").await.contains("is off"));
    rig.must(suite, "power on").await;
    rig.must(suite, "power off").await;
    assert!(!rig.chassis.power());

    rig.must(suite, "chassis bootdev pxe options=persistent,efiboot").await;
    let flags = rig.must(suite, "chassis bootparam get 5").await;
    for part in ["Boot Flag Valid", "all future boots", "EFI", "Force PXE"] {
        assert!(flags.contains(part), "no '{part}' in: {flags}");
    }
    rig.must(suite, "chassis bootdev disk").await;
    let flags = rig.must(suite, "chassis bootparam get 5").await;
    assert!(flags.contains("only next boot") && flags.contains("Hard-Drive"), "{flags}");
    assert_eq!(rig.bmc.stats().sessions, 0, "ipmitool closed what it opened");
    assert_eq!(rig.bmc.stats().suite, CipherSuite::from_id(suite));
}

#[tokio::test]
async fn ipmitool_does_everything_with_suite_3() {
    the_whole_round(3).await;
}

#[tokio::test]
async fn ipmitool_does_everything_with_suite_17() {
    the_whole_round(17).await;
}

#[tokio::test]
async fn ipmitool_is_refused_with_a_wrong_password_or_suite() {
    let rig = Rig::new(BmcConfig { suites: vec![CipherSuite::Seventeen], ..BmcConfig::default() });
    let (done, text) = rig.tool(17, "wrong", "power status").await;
    assert!(!done && text.contains("Unable to establish"), "{text}");
    let (done, text) = rig.tool(3, "password", "power status").await;
    assert!(!done, "{text}");
    assert_eq!(rig.bmc.stats().opened, 0);
}
