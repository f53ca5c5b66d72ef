//! `iscsi.start_iscsi_target`, which agents of the releases from Ocata to Wallaby had: deploy.md §A.1 and §B.3.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::null_default;

/// iSCSI's own port.
pub const ISCSI_PORT: u16 = 3260;

/// The LUN under which the disk is exported, by agents and by ramdisks without one.
pub const ISCSI_LUN: u64 = 1;

/// The parameters of `iscsi.start_iscsi_target`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartIscsiTargetParams {
    /// The target's name; None lets the agent make one.
    pub iqn: Option<String>,
    /// TCP port of the portal, 1 to 65535; None is [`ISCSI_PORT`]. Read from a number or a numeric text.
    #[serde(deserialize_with = "port")]
    pub portal_port: Option<u16>,
    /// Partition tables and signatures are wiped before the disk is exported.
    #[serde(deserialize_with = "null_default")]
    pub wipe_disk_metadata: bool,
}

/// The result of `iscsi.start_iscsi_target`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartIscsiTargetResult {
    /// The target's name.
    #[serde(deserialize_with = "null_default")]
    pub iscsi_target_iqn: String,
}

fn port<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    let number = match Value::deserialize(from)? {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let port = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    port.map(Some).ok_or_else(|| serde::de::Error::custom("portal_port is no TCP port"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_port_comes_as_a_number_a_text_or_not_at_all() {
        let read = |value: Value| serde_json::from_value::<StartIscsiTargetParams>(value);
        for (given, expected) in [(json!(3261), Some(3261)), (json!("3261"), Some(3261)), (json!(null), None)]
        {
            let params = read(json!({"iqn": "iqn.x", "portal_port": given, "wipe_disk_metadata": null}));
            let expected = StartIscsiTargetParams {
                iqn: Some("iqn.x".into()),
                portal_port: expected,
                wipe_disk_metadata: false,
            };
            assert_eq!(params.expect("reads"), expected);
        }
        assert_eq!(read(json!({})).expect("reads"), StartIscsiTargetParams::default());
        for wrong in [json!(0), json!(65536), json!(-1), json!("http"), json!(true)] {
            assert!(read(json!({ "portal_port": wrong })).is_err(), "{wrong}");
        }
    }
}
