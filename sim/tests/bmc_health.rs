//! Sensors, event log, inventory and identify light of the simulated BMC: `ipmitool` judges the BMC, and what our
//! driver reads is held beside what `ipmitool` prints.

#![allow(clippy::unwrap_used)] // a test may

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferric_drivers::interface::{
    Health, Identify, ManagementInterface, NodeView, PowerInterface, SensorState,
};
use ferric_drivers::management::IpmitoolManagement;
use ferric_drivers::power::IpmitoolPower;
use ferric_drivers::protocol::ipmi::command::{ChassisControl, GetChassisStatus, IdentifyState, RawCommand};
use ferric_drivers::protocol::ipmi::{IpmiClient, IpmiSettings, Target};
use ferric_machine::{BootDevice, BootMode, PowerTarget, State};
use ferric_sim::bmc::{Bmc, BmcConfig, Chassis, SimpleChassis, Storage};
use serde_json::json;
use tokio::process::Command;
use tokio::runtime::Handle;

/// Numbers of sensors of the simulated server.
const CPU1_TEMP: u8 = 0x01;
const FAN2: u8 = 0x11;
const PS1_STATUS: u8 = 0x40;

struct Rig {
    bmc: Bmc,
    chassis: Arc<SimpleChassis>,
    client: Arc<IpmiClient>,
    management: IpmitoolManagement,
}

fn settings() -> IpmiSettings {
    IpmiSettings { command_timeout: Duration::from_secs(20), ..IpmiSettings::default() }
}

impl Rig {
    fn new(power: bool) -> Self {
        let chassis = Arc::new(SimpleChassis::default());
        if power {
            chassis.control(ChassisControl::On);
        }
        let behind: Arc<dyn Chassis> = chassis.clone();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bmc = Bmc::start(at, BmcConfig::default(), behind).unwrap();
        let client = Arc::new(IpmiClient::new(settings(), Handle::current()));
        let management = IpmitoolManagement::new(client.clone(), settings());
        Self { bmc, chassis, client, management }
    }

    fn node(&self) -> NodeView {
        let driver_info = json!({
            "ipmi_address": "127.0.0.1", "ipmi_port": self.bmc.address().port(), "ipmi_username": "admin",
            "ipmi_password": "password",
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
        Target::from_node(&self.node(), &settings()).unwrap()
    }

    /// What `ipmitool` prints.
    async fn tool(&self, words: &str) -> String {
        let port = self.bmc.address().port().to_string();
        let output = Command::new("ipmitool")
            .args([
                "-I",
                "lanplus",
                "-C",
                "3",
                "-H",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "admin",
                "-P",
                "password",
            ])
            .args(["-N", "1", "-R", "2"])
            .args(words.split(' '))
            .output()
            .await
            .expect("ipmitool is installed (Debian package ipmitool)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{words}: {text} {errors}");
        text
    }
}

/// `name | value | unit | state | six limits` of `ipmitool sensor`.
fn table(text: &str) -> BTreeMap<String, Vec<String>> {
    let row = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    text.lines().map(row).map(|cells| (cells[0].clone(), cells)).collect()
}

#[tokio::test]
async fn ipmitool_lists_the_sensors_and_reads_what_we_read() {
    let rig = Rig::new(true);
    // readings that stay as they are
    for (sensor, raw) in [(CPU1_TEMP, 91), (FAN2, 7), (0x22, 195), (0x30, 33)] {
        rig.bmc.force_sensor(sensor, Some(raw));
    }
    let list = rig.tool("sdr list").await;
    assert!(list.lines().count() >= 20, "{list}");
    for part in
        ["CPU1 Temp        | 91 degrees C      | cr", "FAN2             | 525 RPM", "PS1 Status       | 0x01"]
    {
        assert!(list.contains(part), "no '{part}' in:\n{list}");
    }
    let printed = table(&rig.tool("sensor").await);
    let read = rig.management.sensors(&rig.node()).await.unwrap();
    for name in ["CPU1 Temp", "FAN2", "3.3VCC", "PS1 Power"] {
        let cells = &printed[name];
        let sensor = read.sensors.iter().find(|sensor| sensor.name == name).unwrap();
        let number = |text: &str| text.parse::<f64>().ok();
        let near = |ours: Option<f64>, theirs: &str| match (ours, number(theirs)) {
            (Some(ours), Some(theirs)) => (ours - theirs).abs() < 0.001,
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        assert!(near(sensor.value, &cells[1]), "{sensor:?} {cells:?}");
        let limits = sensor.thresholds.unwrap();
        let all = [
            limits.lower_non_recoverable,
            limits.lower_critical,
            limits.lower_non_critical,
            limits.upper_non_critical,
            limits.upper_critical,
            limits.upper_non_recoverable,
        ];
        for (ours, theirs) in all.into_iter().zip(&cells[4..10]) {
            assert!(near(ours, theirs), "{name}: {ours:?} {theirs}");
        }
        let state = match cells[3].as_str() {
            "ok" => SensorState::Ok,
            "nc" => SensorState::Warning,
            "cr" | "nr" => SensorState::Critical,
            other => panic!("{other}"),
        };
        assert_eq!(sensor.state, state, "{name}");
    }
    // every sensor of theirs is one of ours; they do not tell apart those that share a record
    for name in printed.keys() {
        assert!(read.sensors.iter().any(|sensor| sensor.name.starts_with(name)), "{name}");
    }
    assert_eq!(read.health, Health::Critical);
    assert!(
        read.reasons[0].starts_with("CPU1 Temp is critical: 91 °C, at or above 90"),
        "{:?}",
        read.reasons
    );
}

#[tokio::test]
async fn without_power_what_needs_it_is_not_present() {
    let rig = Rig::new(false);
    let read = rig.management.sensors(&rig.node()).await.unwrap();
    let state = |name: &str| read.sensors.iter().find(|sensor| sensor.name == name).unwrap().state;
    assert_eq!((state("CPU1 Temp"), state("Inlet Temp")), (SensorState::NotPresent, SensorState::Ok));
    assert_eq!(read.health, Health::Ok, "{:?}", read.reasons);
    assert!(table(&rig.tool("sensor").await)["CPU1 Temp"].iter().any(|cell| cell == "na"));
}

#[tokio::test]
async fn records_are_read_in_parts_and_anew_after_a_lost_reservation_and_then_remembered() {
    let rig = Rig::new(true);
    let whole = rig.management.sensors(&rig.node()).await.unwrap();
    let begun = rig.bmc.stats().commands;
    let names = |all: &ferric_drivers::interface::Sensors| {
        all.sensors.iter().map(|sensor| sensor.name.clone()).collect::<Vec<_>>()
    };
    let again = rig.management.sensors(&rig.node()).await.unwrap();
    let readings = u64::try_from(again.sensors.len()).unwrap();
    assert_eq!(rig.bmc.stats().commands - begun, readings + 1, "one question and the readings");
    for storage in [
        Storage { most_bytes: 9, ..Storage::default() },
        Storage { loses_reservation_after: 7, ..Storage::default() },
        Storage { most_bytes: 16, loses_reservation_after: 0, device_records: true },
    ] {
        rig.bmc.set_storage(storage);
        let management = IpmitoolManagement::new(rig.client.clone(), settings());
        match management.sensors(&rig.node()).await {
            Ok(read) => assert_eq!(names(&read), names(&whole), "{storage:?}"),
            // reservations that never live long are given up at some time
            Err(error) => assert!(storage.loses_reservation_after != 0, "{storage:?}: {error}"),
        }
        let fru = management.fru(&rig.node()).await;
        assert!(fru.is_ok() || storage.loses_reservation_after != 0, "{storage:?}: {fru:?}");
    }
}

#[tokio::test]
async fn the_event_log_has_an_event_per_change_of_power_and_is_read_as_ipmitool_reads_it() {
    let rig = Rig::new(false);
    for words in ["power on", "chassis power diag", "power reset", "power off"] {
        rig.tool(words).await;
    }
    let printed = rig.tool("sel elist").await;
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 5, "{printed}");
    assert!(lines[1].contains("Power Unit") && lines[1].contains("Deasserted"), "{printed}");
    assert!(lines[2].contains("NMI") && lines[3].contains("Initiated by hard reset"), "{printed}");
    assert!(lines[4].contains("Power off/down") && lines[4].contains("Asserted"), "{printed}");
    assert_eq!(rig.chassis.history().len(), 4);

    let log = rig.management.event_log(&rig.node(), 100).await.unwrap();
    assert_eq!((log.count, log.overflow), (5, false));
    let told: Vec<_> =
        log.entries.iter().map(|one| (one.id, one.event.as_str(), one.asserted.unwrap())).collect();
    let wanted = [
        (5, "Power Off / Power Down", true),
        (4, "Initiated by hard reset", true),
        (3, "Front Panel NMI / Diagnostic Interrupt", true),
        (2, "Power Off / Power Down", false),
        (1, "Log area reset/cleared", true),
    ];
    let ids = |all: &[(u16, &str, bool)]| all.iter().map(|(id, _, on)| (*id, *on)).collect::<Vec<_>>();
    assert_eq!(ids(&told), ids(&wanted), "{told:?}");
    assert_eq!(log.entries[0].sensor.as_deref(), Some("Power Unit"));
    assert_eq!(told[0].1, wanted[0].1);
    for (entry, line) in log.entries.iter().rev().zip(&lines) {
        assert!(line.trim().starts_with(&format!("{:x}", entry.id)), "{entry:?} {line}");
        assert!(entry.at.is_some());
    }
    let two = rig.management.event_log(&rig.node(), 2).await.unwrap();
    assert_eq!(two.entries, log.entries[..2]);
    // a BMC that gives little at a time
    rig.bmc.set_storage(Storage { most_bytes: 8, ..Storage::default() });
    assert_eq!(rig.management.event_log(&rig.node(), 3).await.unwrap().entries, log.entries[..3]);

    rig.management.clear_event_log(&rig.node()).await.unwrap();
    assert_eq!(rig.management.event_log(&rig.node(), 100).await.unwrap().count, 1);
    rig.bmc.set_storage(Storage::default());
    assert_eq!(rig.tool("sel list").await.lines().count(), 1);
    rig.tool("sel clear").await;
}

#[tokio::test]
async fn the_inventory_is_read_as_ipmitool_prints_it() {
    let rig = Rig::new(true);
    let printed = rig.tool("fru print").await;
    let all = rig.management.fru(&rig.node()).await.unwrap();
    assert_eq!(
        all.iter().map(|fru| (fru.id, fru.name.as_str())).collect::<Vec<_>>(),
        [(0, "Mainboard"), (1, "PS1")]
    );
    let (chassis, board) = (all[0].chassis.as_ref().unwrap(), all[0].board.as_ref().unwrap());
    let product = all[0].product.as_ref().unwrap();
    assert!(chassis.checksum_ok && board.checksum_ok && product.checksum_ok);
    assert_eq!(chassis.fields["part_number"], "CSE-1U-4X35");
    for (label, value) in [
        ("Chassis Type", &chassis.fields["type"]),
        ("Chassis Part Number", &chassis.fields["part_number"]),
        ("Chassis Serial", &chassis.fields["serial_number"]),
        ("Board Mfg", &board.fields["manufacturer"]),
        ("Board Product", &board.fields["product_name"]),
        ("Board Serial", &board.fields["serial_number"]),
        ("Board Part Number", &board.fields["part_number"]),
        ("Board Extra", &board.extra[0]),
        ("Product Manufacturer", &product.fields["manufacturer"]),
        ("Product Name", &product.fields["product_name"]),
        ("Product Part Number", &product.fields["part_number"]),
        ("Product Version", &product.fields["version"]),
        ("Product Serial", &product.fields["serial_number"]),
        ("Product Name", &all[1].product.as_ref().unwrap().fields["product_name"]),
    ] {
        let mut lines = printed.lines().filter_map(|line| line.split_once(':'));
        let found = lines.any(|(name, text)| name.trim() == label && text.trim() == value);
        assert!(found, "no '{label}: {value}' in\n{printed}");
    }
    // 2024-02-29T12:00:00Z
    assert_eq!(board.made_at, Some(ferric_machine::Timestamp(1_709_208_000_000_000)));
    assert!(printed.contains("Thu Feb 29 12:00:00 2024"), "{printed}");
}

#[tokio::test]
async fn the_identify_light_goes_on_and_off() {
    let rig = Rig::new(true);
    let light = async || rig.client.run(&rig.target(), GetChassisStatus).await.unwrap().identify;
    for (wish, state) in [
        (Identify::On, IdentifyState::On),
        (Identify::Off, IdentifyState::Off),
        (Identify::For(240), IdentifyState::ForAWhile),
    ] {
        rig.management.identify(&rig.node(), wish).await.unwrap();
        assert_eq!(light().await, Some(state));
    }
    rig.tool("chassis identify 0").await;
    assert_eq!(light().await, Some(IdentifyState::Off));
    rig.tool("chassis identify force").await;
    assert_eq!(light().await, Some(IdentifyState::On));
    assert!(rig.tool("chassis status").await.contains("Power Overload"));
}

#[tokio::test]
async fn a_failed_power_supply_is_critical_and_an_opened_chassis_a_warning() {
    let rig = Rig::new(true);
    rig.bmc.force_sensor(PS1_STATUS, Some(0b11));
    let read = rig.management.sensors(&rig.node()).await.unwrap();
    assert_eq!(read.health, Health::Critical);
    assert_eq!(read.reasons, ["PS1 Status is critical: Presence detected, Power Supply Failure detected"]);
    rig.bmc.force_sensor(PS1_STATUS, None);
    rig.bmc.force_sensor(0x42, Some(1));
    let read = rig.management.sensors(&rig.node()).await.unwrap();
    assert_eq!(read.reasons, ["Chassis Intru is warning: General Chassis Intrusion"]);
}

#[tokio::test]
async fn the_watchdog_is_left_alone() {
    let rig = Rig::new(false);
    let node = rig.node();
    let power = IpmitoolPower::new(rig.client.clone(), settings());
    for target in PowerTarget::ALL {
        power.set_power(&node, *target, Duration::from_secs(20)).await.unwrap();
    }
    rig.chassis.control(ChassisControl::On);
    rig.management.set_boot_device(&node, BootDevice::Pxe, true, BootMode::Uefi).await.unwrap();
    rig.management.boot_device(&node).await.unwrap();
    rig.management.sensors(&node).await.unwrap();
    rig.management.event_log(&node, 10).await.unwrap();
    rig.management.clear_event_log(&node).await.unwrap();
    rig.management.fru(&node).await.unwrap();
    rig.management.identify(&node, Identify::For(1)).await.unwrap();
    rig.management.inject_nmi(&node).await.unwrap();
    // reset, set and get watchdog timer are 22h, 24h and 25h of the application's
    let sent = rig.bmc.unknown_commands();
    assert!(
        !sent.iter().any(|(net_fn, command)| *net_fn == 6 && (0x22..=0x25).contains(command)),
        "{sent:?}"
    );
    // which would be seen: this one is unknown to it as they are
    let asked = RawCommand { net_fn: 6, command: 0x25, data: Vec::new() };
    assert!(rig.client.run(&rig.target(), asked).await.is_err());
    assert!(rig.bmc.unknown_commands().contains(&(6, 0x25)));
    rig.client.shutdown().await;
}
