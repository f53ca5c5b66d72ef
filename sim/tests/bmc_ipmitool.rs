//! The simulated BMC, judged by `ipmitool`.

#![allow(clippy::unwrap_used)] // a test may

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ferric_drivers::protocol::ipmi::CipherSuite;
use ferric_sim::bmc::{Behind, Bmc, BmcConfig, Chassis, Manner, Personality, SimpleChassis};
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
        self.with(&["-I", "lanplus", "-C", &suite.to_string()], password, words).await
    }

    async fn with(&self, how: &[&str], password: &str, words: &str) -> (bool, String) {
        let port = self.bmc.address().port().to_string();
        let output = Command::new("ipmitool")
            .args(how)
            .args(["-H", "127.0.0.1", "-p", &port])
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
async fn ipmitool_does_everything_with_ipmi_1_5() {
    for kind in ["MD5", "PASSWORD"] {
        let rig = Rig::new(BmcConfig::default());
        let must = async |words: &str| {
            let (done, text) = rig.with(&["-I", "lan", "-A", kind], "password", words).await;
            assert!(done, "{kind}, {words}: {text}");
            text
        };
        must("power on").await;
        assert!(must("power status").await.contains("is on"));
        must("power soft").await;
        assert!(!rig.chassis.power());
        must("chassis bootdev pxe options=persistent,efiboot").await;
        assert!(must("chassis bootparam get 5").await.contains("Force PXE"));
        let (done, text) = rig.with(&["-I", "lan", "-A", kind], "wrong", "power status").await;
        assert!(!done, "{text}");
        assert_eq!(rig.bmc.stats().sessions, 0, "ipmitool closed what it opened");
    }
}

#[tokio::test]
async fn ipmitool_reaches_the_controllers_behind_it() {
    for manner in [Manner::Separate, Manner::Inside] {
        for interface in [&["-I", "lanplus", "-C", "17"][..], &["-I", "lan"]] {
            let (single, dual) = (Arc::new(SimpleChassis::default()), Arc::new(SimpleChassis::default()));
            let mut carrier = Behind::new(0, 0x82, Arc::new(SimpleChassis::default()));
            carrier.behind.push(Behind::new(7, 0x74, dual.clone()));
            let behind = vec![Behind::new(7, 0x72, single.clone()), carrier];
            let personality = Personality { behind, bridging: manner, ..Personality::default() };
            let rig = Rig::new(BmcConfig { personality, ..BmcConfig::default() });
            let one = &["-b", "7", "-t", "0x72"][..];
            let two = &["-B", "0", "-T", "0x82", "-b", "7", "-t", "0x74"][..];
            for (way, chassis) in [(one, &single), (two, &dual)] {
                // ipmitool reads a message inside a message, and no third one inside that
                if manner == Manner::Inside && way.len() > one.len() {
                    continue;
                }
                for (words, on) in [("power on", true), ("power off", false)] {
                    let how = [interface, way].concat();
                    let (done, text) = rig.with(&how, "password", words).await;
                    assert!(
                        done && chassis.power() == on,
                        "{manner:?}, {interface:?}, {way:?}, {words}: {text}"
                    );
                }
            }
            assert!(rig.chassis.history().is_empty());
        }
    }
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
