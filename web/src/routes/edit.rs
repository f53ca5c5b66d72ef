//! The rules of changing a node or a port (api.md §3.4, §4), run under the node's lock.

use ferric_actors::{Directory, NodeError};
use ferric_machine::State;
use ferric_schema::{Node, Port};
use serde_json::{Value, json};

use crate::document::Document;
use crate::gates::{Field, INSPECTING_LOCKED, Kind, NodeField, PortField};
use crate::mask;
use crate::patch::Patch;
use crate::version::Version;

/// What the rules need besides the node.
pub(super) struct Rules {
    /// The client's version.
    pub(super) version: Version,
    /// Which hardware types are served.
    pub(super) directory: Directory,
}

/// Makes the changes, and nothing else.
pub(super) fn apply<D: Document>(
    row: &mut D,
    patch: &Patch<D::Field>,
    version: Version,
) -> Result<(), NodeError> {
    let mut document = row.patchable();
    let before = document.clone();
    patch.apply(&mut document).map_err(NodeError::Invalid)?;
    for field in patch.roots() {
        let mut value = document.remove(field.spec().name).unwrap_or(Value::Null);
        if let Some(old) = before.get(field.spec().name) {
            mask::keep_hidden(old, &mut value);
        }
        if value.is_null() && field.spec().kind == Kind::RequiredUuid {
            continue;
        }
        row.write(field, value, version).map_err(NodeError::Invalid)?;
    }
    Ok(())
}

/// States in which interfaces and the resource class may be changed.
fn is_at_rest(state: State) -> bool {
    matches!(
        state,
        State::Enroll | State::Inspecting | State::InspectWait | State::Manageable | State::Available
    )
}

/// PATCH of a node.
pub(super) fn patch_node(node: &mut Node, patch: &Patch<NodeField>, rules: &Rules) -> Result<(), NodeError> {
    use NodeField as F;
    let state = node.provision_state;
    let conflict = |text: String| Err(NodeError::Conflict(text));
    let frees = node.maintenance && patch.clears(F::InstanceUuid);
    let locked = state == State::Inspecting && rules.version.has(INSPECTING_LOCKED);
    if locked || (node.target_provision_state.is_some() && !state.update_allowed() && !frees) {
        return conflict(format!(
            "Node {} can not be updated while a state transition is in progress (state \"{state}\"); wait for its end.",
            node.uuid
        ));
    }
    let before = node.clone();
    apply(node, patch, rules.version)?;
    let changed = |field: NodeField| before.read(field) != node.read(field);

    let interface = |field: &&NodeField| field.spec().name.ends_with("_interface");
    if !is_at_rest(state) && !before.maintenance {
        let roots = patch.roots();
        if let Some(field) = roots.iter().filter(interface).find(|field| changed(**field)) {
            return conflict(format!(
                "'{}' can not be changed in state \"{state}\": only in enroll, manageable, available, inspecting, \
                 inspect wait, or in maintenance.",
                field.spec().name
            ));
        }
    }
    if changed(F::ResourceClass) && before.resource_class.is_some() && !is_at_rest(state) {
        return conflict(format!(
            "The resource class of node {} can not be changed in state \"{state}\": only before it is deployed.",
            node.uuid
        ));
    }
    if changed(F::Driver) && before.console_enabled {
        return conflict(
            "The driver can not be changed while the console is enabled; disable it first.".to_owned(),
        );
    }
    if (changed(F::Driver) || changed(F::ConductorGroup)) && rules.directory.conductor_for(node).is_none() {
        return Err(NodeError::NoValidHost {
            driver: node.driver.clone(),
            group: node.conductor_group.clone(),
        });
    }
    if let (Some(old), Some(_)) = (before.instance_uuid, node.instance_uuid)
        && changed(F::InstanceUuid)
    {
        return conflict(format!("Node {} is associated with instance {old}.", node.uuid));
    }
    if changed(F::Protected) && node.protected && !matches!(state, State::Active | State::Rescue) {
        return conflict(format!(
            "Node {} can be protected in active or rescue only, not in \"{state}\".",
            node.uuid
        ));
    }
    if changed(F::Retired) && node.retired && state == State::Available {
        return conflict(format!(
            "Node {} is available and can not be retired: make it manageable first.",
            node.uuid
        ));
    }
    let (named, informed) = (changed(F::InstanceName), changed(F::InstanceInfo));
    settle(node, Some(&before))?;
    mirror_instance_name(node, named, informed);
    Ok(())
}

/// The rules that tie fields of a new node together.
pub(super) fn settle_new(node: &mut Node) -> Result<(), NodeError> {
    if node.retired && node.provision_state == State::Available {
        return Err(NodeError::Conflict("A node that starts as available can not be retired.".to_owned()));
    }
    settle(node, None)?;
    let (named, informed) = (node.instance_name.is_some(), !node.instance_info.is_empty());
    mirror_instance_name(node, named, informed);
    Ok(())
}

/// Reasons go with what they explain.
fn settle(node: &mut Node, before: Option<&Node>) -> Result<(), NodeError> {
    let dropped = |was: Option<bool>, is: bool| was == Some(true) && !is;
    if dropped(before.map(|b| b.protected), node.protected) {
        node.protected_reason = None;
    }
    if dropped(before.map(|b| b.retired), node.retired) {
        node.retired_reason = None;
    }
    if dropped(before.map(|b| b.maintenance), node.maintenance) {
        node.maintenance_reason = None;
        node.fault = None;
    }
    if node.protected_reason.is_some() && !node.protected {
        return Err(NodeError::Invalid("'protected_reason' needs 'protected' to be true.".to_owned()));
    }
    if node.retired_reason.is_some() && !node.retired {
        return Err(NodeError::Invalid("'retired_reason' needs 'retired' to be true.".to_owned()));
    }
    Ok(())
}

/// `instance_name` and `instance_info.display_name` are the same thing.
fn mirror_instance_name(node: &mut Node, named: bool, informed: bool) {
    if named {
        let mut info = node.instance_info.parse();
        match &node.instance_name {
            Some(name) => info.insert("display_name".to_owned(), json!(name)),
            None => info.remove("display_name"),
        };
        node.instance_info = info.into();
    } else if informed {
        let shown = node.instance_info.get("display_name").and_then(|name| name.as_str().map(str::to_owned));
        if let Some(name) =
            shown.filter(|name| !name.is_empty() && name.chars().count() <= 255 && !name.contains('\0'))
        {
            node.instance_name = Some(name);
        }
    }
}

/// Fields of a port that say where it is plugged in.
const CONNECTIVITY: &[PortField] = &[
    PortField::LocalLinkConnection,
    PortField::PxeEnabled,
    PortField::PortgroupUuid,
    PortField::PhysicalNetwork,
    PortField::IsSmartnic,
];

/// PATCH of a port.
pub(super) fn patch_port(
    port: &mut Port,
    node: &Node,
    patch: &Patch<PortField>,
    version: Version,
) -> Result<(), NodeError> {
    let before = port.clone();
    apply(port, patch, version)?;
    let changed = |field: PortField| before.read(field) != port.read(field);
    let state = node.provision_state;
    let in_use = state == State::Active || node.instance_uuid.is_some();
    if changed(PortField::Address) && in_use && !node.maintenance {
        return Err(NodeError::Conflict(format!(
            "The address of port {} can not be changed while node {} has an instance, unless it is in maintenance.",
            port.uuid, node.uuid
        )));
    }
    let pluggable =
        matches!(state, State::Enroll | State::Inspecting | State::InspectWait | State::Manageable);
    if !pluggable
        && !node.maintenance
        && let Some(field) = CONNECTIVITY.iter().find(|field| changed(**field))
    {
        return Err(NodeError::Conflict(format!(
            "'{}' of port {} can not be changed while node {} is in state \"{state}\": only in enroll, manageable, \
             inspecting, inspect wait, or in maintenance.",
            field.spec().name,
            port.uuid,
            node.uuid
        )));
    }
    settle_port(port)
}

/// The rules that tie fields of a port together.
pub(super) fn settle_port(port: &Port) -> Result<(), NodeError> {
    if let Some(portgroup) = port.portgroup_uuid {
        return Err(NodeError::Invalid(format!(
            "Portgroup {portgroup} could not be found: port groups are not part of this release of Ferric."
        )));
    }
    local_link(&port.local_link_connection.parse())
}

/// The forms of local_link_connection (api.md §4).
fn local_link(link: &serde_json::Map<String, Value>) -> Result<(), NodeError> {
    if link.is_empty() {
        return Ok(());
    }
    let has = |key: &str| link.contains_key(key);
    let only = |keys: &[&str]| link.keys().all(|key| keys.contains(&key.as_str()));
    let network_type = link.get("network_type");
    let kind_fits = network_type.is_none_or(|kind| kind == "managed" || kind == "unmanaged");
    let switch =
        has("switch_id") && has("port_id") && only(&["switch_id", "port_id", "switch_info", "network_type"]);
    let smartnic = has("port_id") && has("hostname") && only(&["port_id", "hostname", "network_type"]);
    let bare = has("network_type") && only(&["network_type"]);
    if !(switch || smartnic || bare) || !kind_fits {
        return Err(NodeError::Invalid(
            "'local_link_connection' needs switch_id and port_id (and may have switch_info), or port_id and hostname; \
             network_type is managed or unmanaged."
                .to_owned(),
        ));
    }
    let Some(id) = link.get("switch_id") else { return Ok(()) };
    let text = id.as_str().unwrap_or_default();
    let datapath = text.len() == 18 && text.starts_with("0x") || text.len() == 16;
    let hex = text.trim_start_matches("0x").bytes().all(|b| b.is_ascii_hexdigit());
    if crate::check::mac(text).is_some() || (datapath && hex) {
        return Ok(());
    }
    Err(NodeError::Invalid("'switch_id' must be a MAC address or an OpenFlow datapath id.".to_owned()))
}
