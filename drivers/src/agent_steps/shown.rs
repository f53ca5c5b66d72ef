//! What an agent may see of a node, and what the operator permits it to do to disks.

use serde_json::{Value, json};

use crate::interface::{Json, NodeView};

/// `[deploy]` options that say how agents erase disks; they travel in the node's driver_internal_info.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseSettings {
    /// `shred_random_overwrite_iterations`.
    pub iterations: u32,
    /// `shred_final_overwrite_with_zeros`.
    pub zeroize: bool,
    /// `continue_if_disk_secure_erase_fails`.
    pub continue_if_secure_erase_fails: bool,
    /// `enable_ata_secure_erase`.
    pub ata: bool,
    /// `enable_nvme_secure_erase`.
    pub nvme: bool,
    /// `disk_erasure_concurrency`: disks erased at the same time.
    pub concurrency: u32,
    /// `erase_skip_read_only`.
    pub skip_read_only: bool,
}

impl Default for EraseSettings {
    fn default() -> Self {
        EraseSettings {
            iterations: 1,
            zeroize: true,
            continue_if_secure_erase_fails: false,
            ata: true,
            nvme: true,
            concurrency: 4,
            skip_read_only: false,
        }
    }
}

impl EraseSettings {
    fn shown(&self) -> Value {
        json!({
            "agent_erase_devices_iterations": self.iterations,
            "agent_erase_devices_zeroize": self.zeroize,
            "agent_continue_if_secure_erase_failed": self.continue_if_secure_erase_fails,
            "agent_enable_ata_secure_erase": self.ata,
            "agent_enable_nvme_secure_erase": self.nvme,
            "agent_erase_skip_read_only": self.skip_read_only,
            "disk_erasure_concurrency": self.concurrency,
        })
    }
}

/// The node's ports, as agents get them.
pub(crate) fn ports(node: &NodeView) -> Value {
    node.ports
        .iter()
        .map(|port| json!({"uuid": port.uuid, "address": port.address, "pxe_enabled": port.pxe_enabled}))
        .collect()
}

/// The node as an agent may see it: no credentials, no token, no password, no config drive. Of driver_info only
/// what is meant for agents (burn-in and the like).
pub(crate) fn node(node: &NodeView, erase: &EraseSettings) -> Json {
    let mut instance = node.instance_info.clone();
    for secret in ["configdrive", "rescue_password", "hashed_rescue_password"] {
        instance.remove(secret);
    }
    let for_agents =
        |(key, _): &(&String, &Value)| key.starts_with("agent_") && key.as_str() != "agent_verify_ca";
    let driver_info: Json =
        node.driver_info.iter().filter(for_agents).map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut shown = Json::new();
    shown.insert("uuid".into(), json!(node.uuid));
    shown.insert("name".into(), json!(node.name));
    shown.insert("driver".into(), json!(node.driver));
    shown.insert("properties".into(), Value::Object(node.properties.clone()));
    shown.insert("instance_info".into(), Value::Object(instance));
    shown.insert("driver_info".into(), Value::Object(driver_info));
    shown.insert("driver_internal_info".into(), erase.shown());
    shown.insert("target_raid_config".into(), Value::Object(node.target_raid_config.clone()));
    shown
}
