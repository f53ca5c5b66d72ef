//! What ramdisks of the Kilo era say, well and badly.

use ferric_machine::State;
use serde_json::{Value, json};

use crate::DriverError;
use crate::deploy::iscsi::calls::{BOOTLOADER, DEPLOY, KEY, Peer, judge};
use crate::interface::{NodeView, RAMDISK_CALLED};
use crate::testing::json as object;

fn node() -> NodeView {
    let mut node = crate::testing::node();
    node.state = State::DeployWait;
    node.driver_internal_info.insert(KEY.into(), json!("k".repeat(32)));
    node
}

fn call(node: &NodeView, method: &str, args: Value) -> Result<crate::interface::Json, DriverError> {
    judge(node, method, &object(args), Peer { address: None, decides: true })
}

#[test]
fn a_ramdisk_is_where_it_calls_from() {
    let from = |peer: &str, says: &str, decides| {
        let args = object(with(good(), "address", json!(says)));
        judge(&node(), DEPLOY, &args, Peer { address: Some(peer.parse().unwrap()), decides })
    };
    let there = |peer, says, decides| match from(peer, says, decides) {
        Ok(kept) => kept[RAMDISK_CALLED]["address"] == json!(says.replace("::ffff:", "")),
        Err(_) => false,
    };
    assert!(there("192.0.2.7", "192.0.2.7", true));
    assert!(there("::ffff:192.0.2.7", "192.0.2.7", true), "the API listens on [::]");
    assert!(there("192.0.2.7", "::ffff:192.0.2.7", true));
    assert!(there("2001:db8::7", "2001:db8::7", true));
    let error = from("192.0.2.7", "192.0.2.8", true).unwrap_err().to_string();
    for part in ["192.0.2.7", "192.0.2.8", "[iscsi] ramdisk_address_from_call"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(there("192.0.2.7", "192.0.2.8", false), "the operator says so");
    assert!(there("127.0.0.1", "192.0.2.8", true), "a proxy on this host");
    assert!(there("::1", "127.0.0.9", true), "a simulated machine");
    for says in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::7"] {
        assert!(from("192.0.2.7", says, false).is_err(), "{says}");
        assert!(from("192.0.2.7", says, true).is_err(), "{says}");
    }
    assert!(from("192.0.2.7", "fe80::7%eth0", false).is_err(), "a scope is ours to choose");
}

fn good() -> Value {
    json!({"address": "192.0.2.7", "key": "k".repeat(32), "iqn": "iqn-7", "error": ""})
}

fn with(mut args: Value, key: &str, value: Value) -> Value {
    args[key] = value;
    args
}

fn called(node: &mut NodeView, args: Value) {
    let kept = call(node, DEPLOY, args).unwrap();
    node.driver_internal_info.extend(kept);
}

#[test]
fn pass_deploy_info_tells_where_the_disk_is() {
    let node = node();
    let kept = call(&node, DEPLOY, good()).unwrap();
    let expected = json!({"address": "192.0.2.7", "port": 3260, "iqn": "iqn-7", "lun": 1});
    assert_eq!(kept[RAMDISK_CALLED], expected, "and never the key");
    let own = with(with(good(), "port", json!("3261")), "lun", json!("2"));
    let kept = call(&node, DEPLOY, own).unwrap();
    assert_eq!((&kept[RAMDISK_CALLED]["port"], &kept[RAMDISK_CALLED]["lun"]), (&json!(3261), &json!(2)));
}

#[test]
fn wrong_keys_and_missing_parameters_are_refused_as_ironic_words_them() {
    let refused = |args: Value| call(&node(), DEPLOY, args).unwrap_err();
    for key in [json!("x".repeat(32)), json!(""), json!("k"), json!(null), json!(7)] {
        let error = refused(with(good(), "key", key));
        assert!(matches!(error, DriverError::InvalidParameter { .. }), "{error}");
        assert_eq!(error.to_string(), "Deploy key does not match");
    }
    let mut nobody = node();
    nobody.driver_internal_info.clear();
    assert!(call(&nobody, DEPLOY, with(good(), "key", json!(""))).is_err(), "no deployment, no key");
    let error = refused(json!({"key": "k".repeat(32)}));
    assert!(matches!(error, DriverError::MissingParameter { .. }), "{error}");
    assert_eq!(error.to_string(), "Parameters ['address', 'iqn'] were not passed to ironic for deploy.");
    for (key, value) in [
        ("address", json!("conductor.example")),
        ("address", json!("0.0.0.0")),
        ("port", json!(0)),
        ("port", json!(65536)),
        ("port", json!("many")),
        ("lun", json!(-1)),
        ("iqn", json!("a b")),
        ("iqn", json!("x".repeat(224))),
    ] {
        let error = refused(with(good(), key, value.clone()));
        assert!(error.to_string().contains(key), "{key} {value}: {error}");
    }
}

#[test]
fn a_call_that_comes_twice_or_late_changes_nothing() {
    let mut node = node();
    called(&mut node, good());
    assert_eq!(call(&node, DEPLOY, good()).unwrap(), object(json!({})), "its answer got lost");
    let other = with(good(), "address", json!("192.0.2.8"));
    assert!(call(&node, DEPLOY, other.clone()).unwrap_err().to_string().contains("before"));
    node.state = State::Deploying;
    assert_eq!(call(&node, DEPLOY, good()).unwrap(), object(json!({})));
    for state in [State::Deploying, State::Active, State::Available, State::CleanWait] {
        node.state = state;
        node.driver_internal_info.remove(RAMDISK_CALLED);
        let error = call(&node, DEPLOY, other.clone()).unwrap_err().to_string();
        assert!(error.contains(&format!("state \"{state}\"")), "{error}");
    }
}

#[test]
fn an_error_of_the_ramdisk_is_kept_without_what_could_harm() {
    let error = format!("no disk\n\u{1b}[2J{}", "x".repeat(5000));
    let kept = call(&node(), DEPLOY, json!({"key": "k".repeat(32), "address": "", "error": error})).unwrap();
    let text = kept[RAMDISK_CALLED]["error"].as_str().unwrap();
    assert!(text.starts_with("no disk  [2Jxxx") && text.len() == 1000, "{text}");
}

#[test]
fn an_error_that_quotes_the_kernel_line_is_kept_without_the_key() {
    let key = "k".repeat(32);
    let error = format!("bad argument: deployment_key={key} ip=dhcp");
    let kept = call(&node(), DEPLOY, json!({"key": key, "address": "", "error": error})).unwrap();
    assert_eq!(kept[RAMDISK_CALLED]["error"], "bad argument: deployment_key=****** ip=dhcp");
}

#[test]
fn pass_bootloader_install_info_comes_after_the_deployment() {
    let told = |status: &str, error: &str| json!({"address": "192.0.2.7", "key": "k".repeat(32), "status": status, "error": error});
    let mut node = node();
    assert!(call(&node, BOOTLOADER, told("SUCCEEDED", "")).is_err(), "nothing was exported");
    called(&mut node, good());
    let kept = call(&node, BOOTLOADER, told("SUCCEEDED", "")).unwrap();
    assert_eq!(kept[RAMDISK_CALLED]["bootloader"], "");
    assert_eq!(kept[RAMDISK_CALLED]["iqn"], "iqn-7");
    let kept = call(&node, BOOTLOADER, told("FAILED", "no grub")).unwrap();
    assert_eq!(kept[RAMDISK_CALLED]["bootloader"], "no grub");
    assert!(call(&node, BOOTLOADER, told("PERHAPS", "")).is_err());
    let error = call(&node, BOOTLOADER, with(told("FAILED", ""), "key", json!("wrong"))).unwrap_err();
    assert_eq!(error.to_string(), "Deploy key does not match");
    node.state = State::Deploying;
    assert!(call(&node, BOOTLOADER, told("SUCCEEDED", "")).is_err(), "nobody waits for it");
}
