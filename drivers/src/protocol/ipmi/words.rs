//! What Ironic refuses in the driver_info of IPMI, in its words. What we refuse beyond that is in [`super::settings`].

use std::net::IpAddr;

use serde_json::Value;

use crate::error::DriverError;
use crate::interface::{NodeView, Result};
use crate::python;

const LEVELS: &[&str] = &["ADMINISTRATOR", "CALLBACK", "OPERATOR", "USER"];

fn invalid(reason: String) -> DriverError {
    DriverError::InvalidParameter { reason }
}

fn given<'a>(node: &'a NodeView, key: &str) -> Option<&'a Value> {
    node.driver_info.get(key).filter(|value| !value.is_null())
}

/// What Python holds to be false counts as not given.
fn filled<'a>(node: &'a NodeView, key: &str) -> Option<&'a Value> {
    given(node, key).filter(|value| match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    })
}

fn port(key: &str, value: Option<&Value>) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    let shown = python::str(value);
    match shown.trim().parse::<u16>() {
        Ok(_) => Ok(()),
        Err(_) => Err(invalid(format!("{key} \"{shown}\" is not a valid port."))),
    }
}

fn version(node: &NodeView) -> String {
    node.driver_info.get("ipmi_protocol_version").map_or_else(|| "2.0".to_owned(), python::str)
}

fn bridging(node: &NodeView) -> Result<()> {
    let mut needed = vec!["ipmi_target_channel", "ipmi_target_address"];
    match node.driver_info.get("ipmi_bridging").map(python::str).as_deref() {
        None | Some("no") => return Ok(()),
        Some("single") => {}
        Some("dual") => needed.extend(["ipmi_transit_channel", "ipmi_transit_address"]),
        Some(other) => {
            return Err(invalid(format!(
                "Invalid value for ipmi_bridging: {other}, the valid value can be one of: {}",
                python::list(&["single", "dual", "no"])
            )));
        }
    }
    needed.retain(|key| given(node, key).is_none());
    if needed.is_empty() {
        return Ok(());
    }
    Err(DriverError::MissingParameter { reason: format!("{} not provided", python::list(&needed)) })
}

/// Checks everything but the form of the address.
pub(super) fn check(node: &NodeView) -> Result<()> {
    if filled(node, "ipmi_address").is_none() {
        let reason = "Missing the following IPMI credentials in node's driver_info: ['ipmi_address'].";
        return Err(DriverError::MissingParameter { reason: reason.into() });
    }
    let version = version(node);
    if !matches!(version.as_str(), "2.0" | "1.5") {
        return Err(invalid(format!(
            "Invalid IPMI protocol version value {version}, the valid value can be one of 2.0, 1.5"
        )));
    }
    port("ipmi_terminal_port", filled(node, "ipmi_terminal_port"))?;
    port("ipmi_port", given(node, "ipmi_port"))?;
    bridging(node)?;
    let level = node.driver_info.get("ipmi_priv_level").map_or_else(|| LEVELS[0].to_owned(), python::str);
    if !LEVELS.contains(&level.as_str()) {
        return Err(invalid(format!(
            "Invalid privilege level value:{level}, the valid value can be one of {}",
            LEVELS.join(", ")
        )));
    }
    let odd = |key: &Value| key.as_str().is_some_and(|text| text.chars().count() % 2 != 0);
    if filled(node, "ipmi_hex_kg_key").is_some_and(odd) {
        return Err(invalid("Number of ipmi_hex_kg_key characters is not even".into()));
    }
    if let Some(suite) = given(node, "ipmi_cipher_suite").map(python::str) {
        if suite.trim().parse::<i64>().is_err() {
            return Err(invalid(format!("Invalid cipher suite {suite}, expected a number")));
        }
        if version == "1.5" {
            return Err(invalid("Cipher suites cannot be used with IPMI 1.5".into()));
        }
    }
    Ok(())
}

/// Checks the form of the address.
pub(super) fn check_address(node: &NodeView) -> Result<()> {
    let Some(address) = given(node, "ipmi_address").map(python::str) else { return Ok(()) };
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = address.strip_suffix('.').unwrap_or(&address);
    // beyond Ironic: an IPv6 address may be in brackets
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&address);
    if bare.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label)) {
        return Ok(());
    }
    Err(invalid(format!(
        "Invalid IPMI address \"{address}\" for node {}. Must be a valid IP address or hostname.",
        node.uuid
    )))
}

/// Checks what a serial console needs besides. `ranged`: `[console] port_range` has ports for nodes that name none.
pub(crate) fn check_console(node: &NodeView, ranged: bool) -> Result<()> {
    let allocated = node.driver_internal_info.get("allocated_ipmi_terminal_port");
    if filled(node, "ipmi_terminal_port").is_none() && allocated.is_none() && !ranged {
        return Err(DriverError::MissingParameter {
            reason:
                "Either missing 'ipmi_terminal_port' parameter in node's driver_info or [console]port_range \
                     is not configured"
                    .into(),
        });
    }
    if version(node) != "2.0" {
        return Err(invalid(
            "Serial over lan only works with IPMI protocol version 2.0. Check the 'ipmi_protocol_version' \
             parameter in node's driver_info"
                .into(),
        ));
    }
    Ok(())
}
