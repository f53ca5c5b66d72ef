//! From the stored row to what drivers, ramdisks and clients may see of it.

use ferric_drivers::BindError;
use ferric_drivers::interface::{AgentHandle, Chosen, Json, Kind, NodeView, PortView, RAMDISK_CALLED};
use ferric_schema::{JsonText, Node, Port};
use serde_json::Value;

use crate::error::NodeError;

/// Keys of driver_internal_info that Ferric itself uses.
pub(crate) mod keys {
    /// The agent's token.
    pub(crate) const TOKEN: &str = "agent_secret_token";
    /// The token was given to what boots next before it booted: it outlives a power-off (deploy.md §B.4).
    pub(crate) const PREGENERATED: &str = "agent_secret_token_pregenerated";
    /// Where the agent listens.
    pub(crate) const URL: &str = "agent_url";
    /// Its version.
    pub(crate) const VERSION: &str = "agent_version";
    /// Its certificate.
    pub(crate) const VERIFY_CA: &str = "agent_verify_ca";
    /// What an agent leaves there, or a ramdisk that has none.
    pub(crate) const OF_AGENT: &[&str] =
        &[TOKEN, PREGENERATED, URL, VERSION, VERIFY_CA, super::RAMDISK_CALLED];
    /// The lists of steps that an agent offered begin so.
    pub(crate) const CACHED: &str = "agent_cached_";
    /// What a list of steps leaves there while it is worked on.
    pub(crate) const OF_PLAN: &[&str] = &[
        "deploy_steps",
        "clean_steps",
        "service_steps",
        "cleaning_disable_ramdisk",
        "service_disable_ramdisk",
        "hardware_manager_version",
    ];
    /// How an instance boots that boots over the network; laid out again after a restart.
    pub(crate) const INSTANCE_BOOT: &str = "instance_boot";
    /// In instance_info: the hash of the rescue password.
    pub(crate) const RESCUE_PASSWORD: &str = "hashed_rescue_password";
    /// What an installer that is no agent says of itself (deploy.md §E, `anaconda`).
    pub(crate) const AGENT_STATUS: &str = "agent_status";
    /// Goes with it.
    pub(crate) const AGENT_STATUS_MESSAGE: &str = "agent_status_message";
    /// The power change that was asked for: `{target, within}`.
    pub(crate) const POWER_WISH: &str = "power_wish";
    /// What is being done for a client who does not wait for it, in words.
    pub(crate) const ORDER: &str = "hardware_order";
    /// What a deployment leaves there, besides the agent's.
    pub(crate) const OF_DEPLOY: &[&str] = &[
        "image_info",
        "is_whole_disk_image",
        "deploy_boot_mode",
        "root_uuid_or_disk_id",
        "instance",
        INSTANCE_BOOT,
        AGENT_STATUS,
        AGENT_STATUS_MESSAGE,
    ];
}

/// The snapshot that drivers work with.
pub(crate) fn node_view(node: &Node, ports: &[Port]) -> NodeView {
    NodeView {
        uuid: node.uuid,
        name: node.name.clone(),
        driver: node.driver.clone(),
        driver_info: node.driver_info.parse(),
        driver_internal_info: node.driver_internal_info.parse(),
        properties: node.properties.parse(),
        instance_info: node.instance_info.parse(),
        target_raid_config: node.target_raid_config.parse(),
        ports: ports
            .iter()
            .map(|port| PortView {
                uuid: port.uuid,
                address: port.address.clone(),
                pxe_enabled: port.pxe_enabled,
            })
            .collect(),
        state: node.provision_state,
        power: node.power_state,
    }
}

/// The agent of the last heartbeat.
pub(crate) fn agent(node: &Node) -> Option<AgentHandle> {
    let info = node.driver_internal_info.parse();
    let text = |key| info.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(AgentHandle { url: text(keys::URL)?, token: text(keys::TOKEN)?, verify_ca: text(keys::VERIFY_CA) })
}

/// Whether a ramdisk without an agent has called (deploy.md §A.1).
pub(crate) fn ramdisk_called(node: &Node) -> bool {
    node.driver_internal_info.parse().contains_key(RAMDISK_CALLED)
}

/// Forgets the agent's address and token, and what it said it can do.
pub(crate) fn wipe_agent(node: &mut Node) {
    edit(&mut node.driver_internal_info, |info| {
        info.retain(|key, _| !keys::OF_AGENT.contains(&key.as_str()) && !key.starts_with(keys::CACHED));
    });
}

/// Forgets the plan of work that is over.
pub(crate) fn wipe_plan(node: &mut Node) {
    edit(&mut node.driver_internal_info, |info| info.retain(|key, _| !keys::OF_PLAN.contains(&key.as_str())));
}

/// Forgets the instance (states.md §4, "finally").
pub(crate) fn wipe_instance(node: &mut Node) {
    node.instance_info = JsonText::default();
    node.instance_uuid = None;
    node.instance_name = None;
    edit(&mut node.driver_internal_info, |info| {
        for key in keys::OF_DEPLOY {
            info.remove(*key);
        }
    });
}

/// Changes a JSON column.
pub(crate) fn edit(column: &mut JsonText, change: impl FnOnce(&mut Json)) {
    let mut map = column.parse();
    change(&mut map);
    *column = JsonText::from(map);
}

/// Merges what a driver wants to be remembered into a JSON column; null deletes.
pub(crate) fn remember(column: &mut JsonText, what: Value) {
    let Value::Object(what) = what else { return };
    if what.is_empty() {
        return;
    }
    edit(column, |info| {
        for (key, value) in what {
            match value {
                Value::Null => drop(info.remove(&key)),
                value @ (Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_)
                | Value::Object(_)) => drop(info.insert(key, value)),
            }
        }
    });
}

/// Stars for what a ramdisk or a client must not read: values with a secret's name, at any depth, and URLs that carry
/// a user or a signature.
pub(crate) fn masked(mut map: Json) -> Json {
    map.iter_mut().for_each(|(key, value)| mask(key, value));
    map
}

fn mask(key: &str, value: &mut Value) {
    const NAMES: [&str; 5] = ["password", "secret", "token", "configdrive", "kg_key"];
    let name = key.to_lowercase();
    let hidden = NAMES.iter().any(|part| name.contains(part));
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::String(text) if !hidden => {
            let signed = text.split_once("://").is_some_and(|(_, rest)| rest.contains(['@', '?']));
            if signed {
                *value = Value::String("******".into());
            }
        }
        Value::Object(map) if !hidden => map.iter_mut().for_each(|(key, value)| mask(key, value)),
        Value::Array(all) if !hidden => all.iter_mut().for_each(|value| mask("", value)),
        Value::Number(_) if !hidden => {}
        Value::Number(_) | Value::String(_) | Value::Object(_) | Value::Array(_) => {
            *value = Value::String("******".into());
        }
    }
}

/// A text as it may be stored and shown: no control characters (PostgreSQL takes no NUL), of bearable length.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 4000;
    let mut out: String =
        text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).take(LONGEST).collect();
    if out.len() < text.len() && out.chars().count() == LONGEST {
        out.push('…');
    }
    out
}

/// One of the node's thirteen interface fields.
pub(crate) fn interface_field(node: &mut Node, kind: Kind) -> &mut Option<String> {
    match kind {
        Kind::Bios => &mut node.bios_interface,
        Kind::Boot => &mut node.boot_interface,
        Kind::Console => &mut node.console_interface,
        Kind::Deploy => &mut node.deploy_interface,
        Kind::Firmware => &mut node.firmware_interface,
        Kind::Inspect => &mut node.inspect_interface,
        Kind::Management => &mut node.management_interface,
        Kind::Network => &mut node.network_interface,
        Kind::Power => &mut node.power_interface,
        Kind::Raid => &mut node.raid_interface,
        Kind::Rescue => &mut node.rescue_interface,
        Kind::Storage => &mut node.storage_interface,
        Kind::Vendor => &mut node.vendor_interface,
    }
}

/// As [`interface_field`], to be read.
fn interface_of(node: &Node, kind: Kind) -> Option<&String> {
    match kind {
        Kind::Bios => node.bios_interface.as_ref(),
        Kind::Boot => node.boot_interface.as_ref(),
        Kind::Console => node.console_interface.as_ref(),
        Kind::Deploy => node.deploy_interface.as_ref(),
        Kind::Firmware => node.firmware_interface.as_ref(),
        Kind::Inspect => node.inspect_interface.as_ref(),
        Kind::Management => node.management_interface.as_ref(),
        Kind::Network => node.network_interface.as_ref(),
        Kind::Power => node.power_interface.as_ref(),
        Kind::Raid => node.raid_interface.as_ref(),
        Kind::Rescue => node.rescue_interface.as_ref(),
        Kind::Storage => node.storage_interface.as_ref(),
        Kind::Vendor => node.vendor_interface.as_ref(),
    }
}

/// The interfaces that the row names.
pub(crate) fn chosen(node: &Node) -> Chosen {
    Kind::ALL
        .into_iter()
        .filter_map(|kind| interface_of(node, kind).map(|name| (kind, name.clone())))
        .collect()
}

/// Writes the names into the row; kinds that have none are unset.
pub(crate) fn set_chosen(node: &mut Node, names: &Chosen) {
    for kind in Kind::ALL {
        *interface_field(node, kind) = names.get(&kind).cloned();
    }
}

/// Why a node cannot have these interfaces.
pub(crate) fn unusable(node: &Node, error: BindError) -> NodeError {
    match error {
        BindError::UnknownType(..) => {
            NodeError::NoValidHost { driver: node.driver.clone(), group: node.conductor_group.clone() }
        }
        BindError::MustBeNone { .. } => NodeError::Invalid(format!(
            "For node {} {error} A classic driver has its interfaces fixed: leave them unset, or choose a hardware type",
            node.uuid
        )),
        BindError::NotEnabled { .. } | BindError::Incompatible { .. } | BindError::NoneEnabled { .. } => {
            NodeError::Invalid(error.to_string())
        }
    }
}
