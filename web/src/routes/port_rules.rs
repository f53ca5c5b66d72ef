//! The rules of making and changing a port (api.md §4) that look at the port and its node alone, run under the node's
//! lock. How ports and port groups hang together is the node's actor's business.

use ferric_actors::NodeError;
use ferric_machine::State;
use ferric_schema::{Node, Port};
use serde_json::{Map, Value};

use crate::document::Document;
use crate::gates::{INSPECTING_LOCKED, PORT_PHYSICAL_NETWORK_OF_GROUP, PortField, VTEP_KEYS};
use crate::patch::Patch;
use crate::routes::edit;
use crate::version::Version;

/// Fields of a port that say where it is plugged in.
const CONNECTIVITY: &[PortField] = &[
    PortField::LocalLinkConnection,
    PortField::PxeEnabled,
    PortField::PortgroupUuid,
    PortField::PhysicalNetwork,
];

/// PATCH of a port.
pub(super) fn patch_port(
    port: &mut Port,
    node: &Node,
    patch: &Patch<PortField>,
    version: Version,
) -> Result<(), NodeError> {
    let before = port.clone();
    edit::apply(port, patch, version)?;
    settle_port(port)?;
    let changed = |field: PortField| before.read(field) != port.read(field);
    let state = node.provision_state;
    let conflict = |text: String| Err(NodeError::Conflict(text));
    if state == State::Inspecting && version.has(INSPECTING_LOCKED) {
        return conflict(format!(
            "Cannot update port \"{}\" on \"{}\" while it is in state \"inspecting\".",
            port.uuid, node.uuid
        ));
    }
    let renamed = patch.roots().contains(&PortField::PhysicalNetwork);
    if renamed && port.portgroup_uuid.is_some() && version.has(PORT_PHYSICAL_NETWORK_OF_GROUP) {
        return Err(NodeError::Invalid(
            "physical_network cannot be changed while the port belongs to a portgroup.".to_owned(),
        ));
    }
    let in_use = state == State::Active || node.instance_uuid.is_some();
    if changed(PortField::Address) && in_use && !node.maintenance {
        return conflict(format!(
            "Cannot update hardware address for port {} as node {} is active or has instance UUID assigned: put it \
             into maintenance first.",
            port.uuid, node.uuid
        ));
    }
    if !state.is_pluggable() && !node.maintenance && CONNECTIVITY.iter().any(|field| changed(*field)) {
        return conflict(format!(
            "Port {} can not have any connectivity attributes (pxe_enabled, local_link_connection, portgroup_id, \
             physical_network) updated unless node {} is in a enroll, inspecting, inspect wait, manageable state or in \
             maintenance mode. The current state is {state}.",
            port.uuid, node.uuid
        ));
    }
    Ok(())
}

/// The rules that tie fields of a new port together. `linked`: whether the client says anything of its link.
pub(super) fn settle_new(port: &mut Port, linked: bool) -> Result<(), NodeError> {
    settle_port(port)?;
    let link = port.local_link_connection.parse();
    if port.is_smartnic && linked && !(link.contains_key("port_id") && link.contains_key("hostname")) {
        return Err(NodeError::Invalid(
            "Smart NIC port must have port_id and hostname in local_link_connection".to_owned(),
        ));
    }
    Ok(())
}

fn settle_port(port: &mut Port) -> Result<(), NodeError> {
    if port.physical_network.as_deref() == Some("") {
        return Err(NodeError::Invalid(
            "A non-empty value is required when setting physical_network".to_owned(),
        ));
    }
    let mut link = port.local_link_connection.parse();
    local_link(&mut link)?;
    port.local_link_connection = link.into();
    Ok(())
}

/// The forms of local_link_connection: a switch's port, a smart NIC's, one that nobody manages, and the port of an OVN
/// VTEP, which came and went.
fn local_link(link: &mut Map<String, Value>) -> Result<(), NodeError> {
    const KEYS: &[&str] = &["port_id", "switch_id", "hostname", "switch_info", "network_type"];
    if link.is_empty() {
        return Ok(());
    }
    let has = |key: &str| link.contains_key(key);
    let wrong = |why: &str| {
        Err(NodeError::Invalid(format!(
            "Schema error for local_link_connection: {why}. It needs port_id and switch_id (and may have switch_info), or \
             port_id and hostname, or the network_type unmanaged; all values are strings."
        )))
    };
    let whole = |cause: &str| {
        let given = crate::check::shown(&Value::Object(link.clone()));
        wrong(&format!("{given} is not valid under any of the given schemas. Possible root cause: {cause}"))
    };
    let unknown = |key: &&String| !KEYS.contains(&key.as_str()) && !VTEP_KEYS.contains(&key.as_str());
    if let Some(key) = link.keys().find(unknown) {
        return whole(&format!("Additional properties are not allowed ('{key}' was unexpected)"));
    }
    if let Some(value) = link.values().find(|value| !value.is_string()) {
        return whole(&format!("{} is not of type 'string'", crate::check::shown(value)));
    }
    let network_type = link.get("network_type").and_then(Value::as_str);
    let vtep = VTEP_KEYS.iter().filter(|key| has(key)).count();
    let form = has("port_id") && (has("switch_id") || has("hostname") || vtep == VTEP_KEYS.len());
    match network_type {
        None | Some("managed" | "unmanaged") => {}
        Some(kind) => return whole(&format!("'{kind}' is not one of ['managed', 'unmanaged']")),
    }
    if vtep == 1 {
        return whole("the logical and the physical switch go together");
    }
    if !form && network_type != Some("unmanaged") {
        return match network_type {
            Some(kind) if link.len() == 1 => wrong(&format!("'{kind}' is not one of ['unmanaged']")),
            _ if has("port_id") => whole("'switch_id' is a required property"),
            _ => whole("'port_id' is a required property"),
        };
    }
    let Some(id) = link.get("switch_id").and_then(Value::as_str) else { return Ok(()) };
    let datapath = || is_datapath_id(id).then(|| id.to_ascii_lowercase());
    let Some(normal) = crate::check::mac(id).or_else(datapath) else {
        let text = format!("Expected a MAC address or OpenFlow datapath ID but received {id}.");
        return Err(NodeError::Invalid(text));
    };
    link.insert("switch_id".to_owned(), Value::String(normal));
    Ok(())
}

/// Sixteen hexadecimal digits.
fn is_datapath_id(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())
}
