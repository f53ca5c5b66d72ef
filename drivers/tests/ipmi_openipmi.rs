//! Our client against OpenIPMI's `ipmi_sim`, which knows suite 3 alone.

#![allow(clippy::unwrap_used)] // a test may

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ferric_drivers::DriverError;
use ferric_drivers::interface::{ManagementInterface, NodeView, PowerInterface, SensorState};
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
const LIMIT: Duration = Duration::from_secs(90);

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

/// A temperature with limits, a power supply's states, an event about it, and an inventory.
const HEALTH: &str = "\
sensor_add 0x20 0 7 1 1
sensor_set_event_support 0x20 0 7 enable scanning none 000000000000000 000000000000000 000000000000000 000000000000000
sensor_set_threshold 0x20 0 7 readable 111000 95 90 80 0 0 0
sensor_set_value 0x20 0 7 85 0
sensor_add 0x20 0 8 8 0x6f
sensor_set_event_support 0x20 0 8 enable scanning none 000000000000000 000000000000000 000000000000000 000000000000000
sensor_set_bit 0x20 0 8 0 1 0
main_sdr_add 0x20 0x00 0x00 0x51 0x01 0x33 0x20 0x00 0x07 0x03 0x01 0x7f 0x54 0x01 0x01 0xff 0x0f 0xff 0x7f 0x38 0x00 0x00 0x01 0x00 0x00 0x01 0x00 0x00 0x00 0x00 0x00 0x00 0x28 0x00 0x00 0xff 0x00 0x5f 0x5a 0x50 0x00 0x00 0x00 0x02 0x02 0x00 0x00 0x00 0xc8 0x43 0x50 0x55 0x20 0x54 0x65 0x6d 0x70
main_sdr_add 0x20 0x00 0x00 0x51 0x02 0x24 0x20 0x00 0x08 0x0a 0x01 0x67 0x40 0x08 0x6f 0x0f 0x00 0x0f 0x00 0x0f 0x00 0xc0 0x00 0x00 0x01 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0xc9 0x50 0x53 0x20 0x53 0x74 0x61 0x74 0x75 0x73
sel_enable 0x20 100 0x0a
sel_add 0x20 0x02 0x00 0x5d 0x55 0x69 0x20 0x00 0x04 0x08 0x08 0x6f 0x01 0xff 0xff
mc_add_fru_data 0x20 0 88 data 0x01 0x00 0x00 0x01 0x06 0x00 0x00 0xf8 0x01 0x05 0x19 0x20 0x1a 0x20 0xc8 0x4f 0x70 0x65 0x6e 0x49 0x50 0x4d 0x49 0xc5 0x42 0x6f 0x61 0x72 0x64 0xc4 0x53 0x45 0x52 0x31 0xc5 0x50 0x41 0x52 0x54 0x31 0xc0 0xc1 0x00 0x00 0x00 0x00 0x00 0xc4 0x01 0x05 0x19 0xc8 0x4f 0x70 0x65 0x6e 0x49 0x50 0x4d 0x49 0xc9 0x53 0x69 0x6d 0x75 0x6c 0x61 0x74 0x6f 0x72 0xc3 0x50 0x2d 0x31 0xc3 0x31 0x2e 0x30 0xc4 0x53 0x4e 0x2d 0x31 0xc0 0xc0 0xc1 0x00 0x08
";

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
        let (made, enabled) = emulation.split_once("mc_enable").unwrap();
        std::fs::write(path.join("bmc.emu"), format!("{made}{HEALTH}mc_enable{enabled}")).unwrap();
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
    for _ in 0..80 {
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
        let error = power.power_state(&node).await.unwrap_err();
        assert!(matches!(error, DriverError::RejectedCredentials { .. }), "{error}");
    }
    assert_eq!(power.power_state(&rig.node("password", "admin")).await, Ok(PowerState::Off), "no harm done");
}

#[tokio::test]
async fn eighty_sessions_opened_and_closed_leave_room_and_one_serves_many_commands() {
    let rig = Rig::new().await;
    // ipmi_sim holds some sixty sessions: with leaks, the rest would be refused
    for _ in 0..80 {
        let client = IpmiClient::new(settings(), Handle::current());
        client.run(&rig.target(), GetChassisStatus).await.unwrap();
        client.shutdown().await;
    }
    for _ in 0..80 {
        rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    }
}

#[tokio::test]
async fn sensors_events_and_inventory_are_read_as_ipmitool_prints_them() {
    let rig = Rig::new().await;
    let tool = async |words: &str| {
        let output = Command::new("ipmitool")
            .args([
                "-I",
                "lanplus",
                "-C",
                "3",
                "-H",
                &rig.address.to_string(),
                "-U",
                "admin",
                "-P",
                "password",
            ])
            .args(words.split(' '))
            .output()
            .await
            .expect("ipmitool is installed (Debian package ipmitool)");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let node = rig.node("password", "admin");
    let management = IpmitoolManagement::new(Arc::clone(&rig.client), settings());
    let read = management.sensors(&node).await.unwrap();
    let printed = tool("sensor").await;
    let [temperature, supply] = &read.sensors[..] else { panic!("{read:?}\n{printed}") };
    assert_eq!((temperature.name.as_str(), temperature.value), ("CPU Temp", Some(85.0)), "{printed}");
    let cells: Vec<&str> = printed.lines().next().unwrap().split('|').map(str::trim).collect();
    assert_eq!(cells[..4], ["CPU Temp", "85.000", "degrees C", "nc"], "{printed}");
    assert_eq!(temperature.state, SensorState::Warning);
    let limits = temperature.thresholds.unwrap();
    assert_eq!((limits.upper_non_critical, limits.upper_critical), (Some(80.0), Some(90.0)));
    assert_eq!(limits.lower_critical, None);
    assert_eq!(
        (supply.state, supply.states.as_slice()),
        (SensorState::Ok, &["Presence detected".to_owned()][..])
    );

    let log = management.event_log(&node, 10).await.unwrap();
    let printed = tool("sel elist").await;
    let event = log.entries.last().expect("there is one");
    assert_eq!(event.sensor.as_deref(), Some("PS Status"), "{printed}");
    assert_eq!(event.event, "Power Supply Failure detected", "{printed}");
    assert!(printed.contains("Failure detected"), "{printed}");
    assert_eq!(usize::from(log.count), printed.lines().count());
    management.clear_event_log(&node).await.unwrap();
    assert!(management.event_log(&node, 10).await.unwrap().entries.is_empty());

    let all = management.fru(&node).await.unwrap();
    let printed = tool("fru print").await;
    let product = all[0].product.as_ref().unwrap();
    for text in [
        &product.fields["product_name"],
        &product.fields["serial_number"],
        &all[0].board.as_ref().unwrap().fields["part_number"],
    ] {
        assert!(printed.contains(text.as_str()), "no {text} in {printed}");
    }
    rig.client.shutdown().await;
}
