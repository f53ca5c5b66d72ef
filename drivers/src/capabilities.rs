//! Capabilities whose values are known, checked in Ironic's words (deploy.md §B.10).

use serde_json::Value;

use crate::error::DriverError;
use crate::interface::{Json, NodeView, Result};
use crate::python;

const KNOWN: &[(&str, &[&str])] = &[
    ("boot_mode", &["bios", "uefi"]),
    ("secure_boot", &["true", "false"]),
    ("disk_label", &["msdos", "gpt"]),
];

fn refused(name: &str, field: &str, value: &str, valid: &[&str]) -> DriverError {
    let valid = valid.join(", ");
    let reason = format!(
        "The parameter '{name}' from {field} has an invalid value: '{value}'. Acceptable values are: {valid}."
    );
    DriverError::InvalidParameter { reason }
}

/// Checks those of `properties` and those of `instance_info`.
pub(crate) fn validate(node: &NodeView) -> Result<()> {
    let all = node.properties.get("capabilities").and_then(Value::as_str).unwrap_or_default();
    let wanted: Json = match node.instance_info.get("capabilities") {
        Some(Value::Object(map)) => map.clone(),
        Some(Value::String(json)) => serde_json::from_str(json).unwrap_or_default(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => Json::new(),
    };
    for (name, valid) in KNOWN {
        let own = all.split(',').find_map(|pair| pair.split_once(':').filter(|(key, _)| key == name));
        if let Some((_, value)) = own.filter(|(_, value)| !value.is_empty() && !valid.contains(value)) {
            return Err(refused(name, "properties/capabilities", value, valid));
        }
        let value = wanted.get(*name).filter(|value| !value.is_null()).map(python::str).unwrap_or_default();
        if !value.is_empty() && !valid.contains(&value.as_str()) {
            return Err(refused(name, "instance_info['capabilities']", &value, valid));
        }
    }
    Ok(())
}

/// The proxies that the agent is to fetch images through.
pub(crate) fn validate_proxies(node: &NodeView) -> Result<()> {
    let mut wrong = Json::new();
    for key in ["image_http_proxy", "image_https_proxy"] {
        if let Some(proxy) = node.driver_str(key) {
            let scheme = proxy.split_once("://").map_or("", |(scheme, _)| scheme);
            if !matches!(scheme.to_ascii_lowercase().as_str(), "" | "http" | "https") {
                wrong.insert(key.into(), proxy.into());
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let wrong = python::repr(&Value::Object(wrong));
    let reason = format!(
        "Proxy URL should either have HTTP(S) scheme or no scheme at all, the following URLs are invalid: {wrong}."
    );
    Err(DriverError::InvalidParameter { reason })
}
