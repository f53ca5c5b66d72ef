//! What driver_info may say about a BMC, and how mistakes in it are named.

#![allow(clippy::unwrap_used)] // a test may

use std::sync::Arc;

use ferric_drivers::DriverError;
use ferric_drivers::interface::{ManagementInterface, NodeView, PowerInterface};
use ferric_drivers::management::IpmitoolManagement;
use ferric_drivers::power::IpmitoolPower;
use ferric_drivers::protocol::ipmi::bridge::{Bridge, Hop};
use ferric_drivers::protocol::ipmi::{CipherSuite, IpmiClient, IpmiSettings, Privilege, Target, Version};
use ferric_machine::State;
use serde_json::{Value, json};

fn node(driver_info: &Value) -> NodeView {
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
        state: State::Enroll,
        power: None,
    }
}

#[tokio::test]
async fn every_mistake_is_named_by_its_key() {
    let settings = IpmiSettings::default();
    let client = Arc::new(IpmiClient::new(settings.clone(), tokio::runtime::Handle::current()));
    let power = IpmitoolPower::new(Arc::clone(&client), settings.clone());
    let management = IpmitoolManagement::new(client, settings);
    let lacking = node(&json!({"ipmi_username": "admin"}));
    let error = power.validate(&lacking).unwrap_err();
    assert!(matches!(error, DriverError::MissingParameter { .. }), "{error}");
    let words = "Missing the following IPMI credentials in node's driver_info: ['ipmi_address'].";
    assert_eq!(error.to_string(), words);
    assert_eq!(power.bmc(&lacking), None);
    // what Ironic refuses, in its words; what only we refuse, by its key
    let port = |text: &str| format!("ipmi_port \"{text}\" is not a valid port.");
    let ours = |key: &str| format!("driver_info/{key} is not usable");
    let address =
        |text: &str| format!("Invalid IPMI address \"{text}\" for node {}.", uuid::Uuid::from_u128(1));
    for (key, value, words) in [
        ("ipmi_address", json!("10.0.0.1 10.0.0.2"), address("10.0.0.1 10.0.0.2")),
        ("ipmi_address", json!("a_b"), address("a_b")),
        ("ipmi_address", json!({"v4": "10.0.0.1"}), address("{'v4': '10.0.0.1'}")),
        ("ipmi_port", json!("many"), port("many")),
        ("ipmi_port", json!(0), ours("ipmi_port")),
        ("ipmi_port", json!(65_536), port("65536")),
        ("ipmi_terminal_port", json!("x"), "ipmi_terminal_port \"x\" is not a valid port.".into()),
        (
            "ipmi_priv_level",
            json!("operator"),
            "Invalid privilege level value:operator, the valid value can".into(),
        ),
        ("ipmi_cipher_suite", json!(0), ours("ipmi_cipher_suite")),
        ("ipmi_cipher_suite", json!("best"), "Invalid cipher suite best, expected a number".into()),
        ("ipmi_username", json!("a-name-of-17-byte"), ours("ipmi_username")),
        ("ipmi_password", json!("a-password-of-21-byte"), ours("ipmi_password")),
        ("ipmi_hex_kg_key", json!("abc"), "Number of ipmi_hex_kg_key characters is not even".into()),
        ("ipmi_hex_kg_key", json!("+1+2"), ours("ipmi_hex_kg_key")),
        ("ipmi_hex_kg_key", json!("zz"), ours("ipmi_hex_kg_key")),
        ("ipmi_hex_kg_key", json!("ab".repeat(21)), ours("ipmi_hex_kg_key")),
        (
            "ipmi_protocol_version",
            json!("3"),
            "Invalid IPMI protocol version value 3, the valid value can be one of 2.0, 1.5".into(),
        ),
        (
            "ipmi_bridging",
            json!("single"),
            "['ipmi_target_channel', 'ipmi_target_address'] not provided".into(),
        ),
        (
            "ipmi_bridging",
            json!("x"),
            "Invalid value for ipmi_bridging: x, the valid value can be one of: ['single', 'dual', 'no']"
                .into(),
        ),
        ("ipmi_force_boot_device", json!("perhaps"), ours("ipmi_force_boot_device")),
        ("ipmi_quirk_command_interval", json!("-1"), ours("ipmi_quirk_command_interval")),
        ("ipmi_quirk_uefi_disk", json!("0x03"), ours("ipmi_quirk_uefi_disk")),
        ("ipmi_quirk_retryable", json!("0xc0, busy"), ours("ipmi_quirk_retryable")),
        ("ipmi_quirk_uefi_disc", json!("0x24"), ours("ipmi_quirk_uefi_disc")),
        ("ipmi_disable_boot_timeout", json!("perhaps"), ours("ipmi_disable_boot_timeout")),
    ] {
        let mut info = json!({"ipmi_address": "10.0.0.1", "ipmi_password": "hush-hush"});
        info[key] = value;
        let mut errors = vec![power.validate(&node(&info))];
        if key != "ipmi_address" {
            errors.push(management.validate(&node(&info)));
        }
        for error in errors {
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with(&words), "{key}: {error}");
            assert!(!error.contains("hush-hush"), "{error}");
        }
    }
}

#[test]
fn defaults_are_ironics_and_nothing_prints_the_password() {
    let settings = IpmiSettings::default();
    let info =
        json!({"ipmi_address": "bmc7.example.org", "ipmi_username": "admin", "ipmi_password": "hush-hush"});
    let target = Target::from_node(&node(&info), &settings).unwrap();
    assert_eq!((target.port, target.login.privilege), (623, Privilege::Administrator));
    assert_eq!(target.suites, [CipherSuite::Seventeen, CipherSuite::Three]);
    assert_eq!(target.key(), "ipmi:bmc7.example.org:623");
    assert!(!format!("{target:?}").contains("hush"), "{target:?}");
    assert!(!format!("{target:?}").contains("104, 117"), "not as bytes either");

    let info = json!({
        "ipmi_address": "10.0.0.1", "ipmi_port": "6230", "ipmi_priv_level": "OPERATOR", "ipmi_cipher_suite": 3,
        "ipmi_protocol_version": "2.0", "ipmi_bridging": "no", "ipmi_hex_kg_key": "00ff",
    });
    let target = Target::from_node(&node(&info), &settings).unwrap();
    assert_eq!((target.port, target.login.privilege), (6230, Privilege::Operator));
    assert_eq!(target.suites, [CipherSuite::Three]);
    assert_eq!(target.login.kg.unwrap().expose(), &[0, 0xFF]);
}

#[test]
fn versions_bridges_and_levels_are_read_as_ironic_hands_them_to_ipmitool() {
    let settings = IpmiSettings::default();
    let read = |more: serde_json::Value| {
        let mut info = json!({"ipmi_address": "10.0.0.1"});
        info.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Target::from_node(&node(&info), &settings).map_err(|error| error.to_string())
    };
    assert_eq!(read(json!({"ipmi_protocol_version": 1.5})).unwrap().version, Version::OneAndAHalf);
    assert_eq!(read(json!({})).unwrap().version, Version::Two);
    assert_eq!(read(json!({"ipmi_priv_level": "CALLBACK"})).unwrap().login.privilege, Privilege::Callback);
    let long =
        read(json!({"ipmi_protocol_version": "1.5", "ipmi_password": "seventeen-letters"})).unwrap_err();
    assert!(long.contains("ipmi_password"), "{long}");
    let suite = read(json!({"ipmi_protocol_version": "1.5", "ipmi_cipher_suite": 3})).unwrap_err();
    assert_eq!(suite, "Cipher suites cannot be used with IPMI 1.5");

    let single = json!({"ipmi_bridging": "single", "ipmi_target_channel": 7, "ipmi_target_address": "0x72"});
    let target = Hop { channel: 7, address: 0x72 };
    let bridge = read(single).unwrap().bridge;
    assert_eq!(bridge, Some(Bridge { local: 0x20, transit: None, target }));
    let dual = json!({
        "ipmi_bridging": "dual", "ipmi_target_channel": "7", "ipmi_target_address": 114,
        "ipmi_transit_channel": "0", "ipmi_transit_address": "0x82", "ipmi_local_address": "0x24",
    });
    let bridge = read(dual.clone()).unwrap().bridge;
    let transit = Some(Hop { channel: 0, address: 0x82 });
    assert_eq!(bridge, Some(Bridge { local: 0x24, transit, target }));
    for (key, wrong) in
        [("ipmi_target_channel", "16"), ("ipmi_transit_address", "256"), ("ipmi_local_address", "x")]
    {
        let mut info = dual.clone();
        info[key] = json!(wrong);
        let error = read(info).unwrap_err();
        assert!(error.contains(key) && error.contains(wrong), "{error}");
    }
    let missing = read(json!({"ipmi_bridging": "dual", "ipmi_target_channel": 7})).unwrap_err();
    let words = "['ipmi_target_address', 'ipmi_transit_channel', 'ipmi_transit_address'] not provided";
    assert_eq!(missing, words);
    assert_eq!(read(json!({"ipmi_target_channel": "oops"})).unwrap().bridge, None, "not asked for");
}
