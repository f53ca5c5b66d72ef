//! Our client against OpenIPMI's `ipmi_sim`, which knows suite 3 alone.

#![allow(clippy::unwrap_used)] // a test may

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ferric_drivers::DriverError;
use ferric_drivers::interface::{ManagementInterface, NodeView, PowerInterface};
use ferric_drivers::management::IpmitoolManagement;
use ferric_drivers::power::IpmitoolPower;
use ferric_drivers::protocol::ipmi::command::{ChassisControl, GetChassisStatus};
use ferric_drivers::protocol::ipmi::{IpmiClient, IpmiSettings, Target};
use ferric_machine::{BootDevice, BootMode, PowerState, PowerTarget, State};
use ipmi_rs_core::app::GetDeviceId;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

static STARTED: AtomicU32 = AtomicU32::new(0);
const LIMIT: Duration = Duration::from_secs(20);

/// Keeps the chassis' state in a file, as ipmi_sim calls it: `chassis.sh MC get power` or `… set power 1`.
const CHASSIS: &str = r#"#!/bin/sh
file="$(dirname "$0")/power"
shift
while [ $# -gt 0 ]; do
    verb=$1; what=$2; shift 2
    case "$verb $what" in
    "get power") echo "power:$(cat "$file" 2>/dev/null || echo 0)" ;;
    "set power") echo "$1" > "$file"; shift ;;
    "set reset") shift ;;
    "set shutdown") echo 0 > "$file"; shift ;;
    "get boot") echo "boot:$(cat "$file.boot" 2>/dev/null || echo none)" ;;
    "set boot") echo "$1" > "$file.boot"; shift ;;
    "check "*) ;;
    esac
done
"#;

struct Rig {
    _process: Child,
    _folder: TempDir,
    address: Ipv4Addr,
    client: Arc<IpmiClient>,
}

fn settings() -> IpmiSettings {
    IpmiSettings {
        poll_interval: Duration::from_millis(50),
        command_timeout: LIMIT,
        ..IpmiSettings::default()
    }
}

impl Rig {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        // an address of its own, so that no other socket can have taken the port
        let number = std::process::id() * 4 + STARTED.fetch_add(1, Ordering::Relaxed) % 4;
        let [_, b, c, d] = number.to_be_bytes();
        let address = Ipv4Addr::new(127, 64 | (b & 0x3F), c, d.clamp(1, 254));
        let script = path.join("chassis.sh");
        std::fs::write(&script, CHASSIS).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let lan = format!(
            "name \"ferric\"\nset_working_mc 0x20\n  startlan 1\n    addr {address} 623\n    priv_limit admin\n    \
             allowed_auths_admin none md2 md5 straight\n    guid a123456789abcdefa123456789abcdef\n  endlan\n  \
             chassis_control \"{} 0x20\"\n  user 1 true \"\" \"\" user 10 none md2 md5 straight\n  \
             user 2 true \"admin\" \"password\" admin 10 none md2 md5 straight\n",
            script.display()
        );
        let emulation = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                         mc_enable 0x20\n";
        std::fs::write(path.join("lan.conf"), lan).unwrap();
        std::fs::write(path.join("bmc.emu"), emulation).unwrap();
        std::fs::create_dir(path.join("state")).unwrap();
        let process = Command::new("ipmi_sim")
            .arg("-n")
            .arg("-c")
            .arg(path.join("lan.conf"))
            .arg("-f")
            .arg(path.join("bmc.emu"))
            .arg("-s")
            .arg(path.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("ipmi_sim is installed (Debian package openipmi)");
        let client = Arc::new(IpmiClient::new(settings(), Handle::current()));
        let rig = Self { _process: process, _folder: folder, address, client };
        rig.client.run(&rig.target(), GetDeviceId).await.expect("ipmi_sim answers once it has started");
        rig
    }

    fn node(&self, password: &str, user: &str) -> NodeView {
        let driver_info = json!({
            "ipmi_address": self.address.to_string(), "ipmi_username": user, "ipmi_password": password,
        });
        NodeView {
            uuid: uuid::Uuid::from_u128(1),
            name: None,
            driver: "ipmi".to_owned(),
            driver_info: driver_info.as_object().unwrap().clone(),
            driver_internal_info: Default::default(),
            properties: Default::default(),
            instance_info: Default::default(),
            target_raid_config: Default::default(),
            ports: Vec::new(),
            state: State::Manageable,
            power: None,
        }
    }

    fn target(&self) -> Target {
        Target::from_node(&self.node("password", "admin"), &settings()).unwrap()
    }

    /// A node that is spoken to by IPMI 1.5.
    fn old(&self, password: &str, user: &str) -> NodeView {
        let mut node = self.node(password, user);
        node.driver_info.insert("ipmi_protocol_version".to_owned(), json!("1.5"));
        node
    }
}

#[tokio::test]
async fn ipmi_1_5_does_all_that_2_0_does() {
    let rig = Rig::new().await;
    let node = rig.old("password", "admin");
    let power = IpmitoolPower::new(Arc::clone(&rig.client), settings());
    for target in PowerTarget::ALL {
        assert_eq!(power.set_power(&node, *target, LIMIT).await, Ok(target.end()), "{target}");
    }
    let management = IpmitoolManagement::new(Arc::clone(&rig.client), settings());
    management.set_boot_device(&node, BootDevice::Pxe, true, BootMode::Uefi).await.unwrap();
    assert_eq!(management.boot_device(&node).await.unwrap().0, Some(BootDevice::Pxe));
    // back and forth: a session of the other version is another session
    assert_eq!(power.power_state(&rig.node("password", "admin")).await, power.power_state(&node).await);
    for wrong in [rig.old("wrong", "admin"), rig.old("password", "nobody")] {
        let short = IpmiSettings { command_timeout: Duration::from_secs(3), ..settings() };
        let power = IpmitoolPower::new(Arc::clone(&rig.client), short);
        let error = power.power_state(&wrong).await.unwrap_err();
        println!("{error}");
        assert!(
            matches!(error, DriverError::RejectedCredentials { .. } | DriverError::Unreachable { .. }),
            "{error}"
        );
    }
    let target = Target::from_node(&node, &settings()).unwrap();
    for _ in 0..100 {
        let client = IpmiClient::new(settings(), Handle::current());
        client.run(&target, GetChassisStatus).await.unwrap();
        client.shutdown().await;
    }
}

#[tokio::test]
async fn power_goes_through_every_state() {
    let rig = Rig::new().await;
    let node = rig.node("password", "admin");
    let power = IpmitoolPower::new(Arc::clone(&rig.client), settings());
    assert_eq!(power.power_state(&node).await, Ok(PowerState::Off));
    for target in PowerTarget::ALL {
        assert_eq!(power.set_power(&node, *target, LIMIT).await, Ok(target.end()), "{target}");
        assert_eq!(power.power_state(&node).await, Ok(target.end()), "{target}");
    }
    rig.client.run(&rig.target(), ChassisControl::On).await.unwrap();
    rig.client.run(&rig.target(), ChassisControl::Cycle).await.unwrap();
    rig.client.shutdown().await;
}

#[tokio::test]
async fn boot_devices_are_taken() {
    let rig = Rig::new().await;
    let node = rig.node("password", "admin");
    let management = IpmitoolManagement::new(Arc::clone(&rig.client), settings());
    for device in [BootDevice::Disk, BootDevice::Pxe] {
        management.set_boot_device(&node, device, true, BootMode::Uefi).await.unwrap();
        // ipmi_sim keeps the device and loses the flags
        let (read, _) = management.boot_device(&node).await.unwrap();
        assert_eq!(read, Some(device));
    }
    rig.client.shutdown().await;
}

#[tokio::test]
async fn wrong_credentials_are_told_apart_from_silence() {
    let rig = Rig::new().await;
    let power = IpmitoolPower::new(Arc::clone(&rig.client), settings());
    for node in [rig.node("wrong", "admin"), rig.node("password", "nobody")] {
        let begun = Instant::now();
        let error = power.power_state(&node).await.unwrap_err();
        assert!(matches!(error, DriverError::RejectedCredentials { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    assert_eq!(power.power_state(&rig.node("password", "admin")).await, Ok(PowerState::Off), "no harm done");
}

#[tokio::test]
async fn two_hundred_sessions_opened_and_closed_leave_room_and_one_serves_many_commands() {
    let rig = Rig::new().await;
    // ipmi_sim holds some sixty sessions: with leaks, the rest would be refused
    for _ in 0..200 {
        let client = IpmiClient::new(settings(), Handle::current());
        client.run(&rig.target(), GetChassisStatus).await.unwrap();
        client.shutdown().await;
    }
    let begun = Instant::now();
    for _ in 0..200 {
        rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    }
    println!("200 commands in one session: {:?}", begun.elapsed());
}
