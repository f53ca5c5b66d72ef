//! The rules of changing a node or a port (api.md §3.4, §4), run under the node's lock.

use ferric_actors::{Directory, NodeError};
use ferric_machine::State;
use ferric_schema::Node;
use serde_json::Value;

use crate::document::Document;
use crate::gates::{Field, INSPECTING_LOCKED, Kind, NodeField};
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
        if value.is_null() && !crate::check::nullable(field.spec().kind) && !patch.replaces_by_null(field) {
            let name = field.spec().name;
            return Err(NodeError::Invalid(format!(
                "Schema error for patch: '{name}' is a required property"
            )));
        }
        row.write(field, value, version).map_err(|text| NodeError::Invalid(of_patch::<D::Field>(&text)))?;
    }
    Ok(())
}

/// What is wrong with a value, where it came by a patch.
pub(super) fn of_patch<F: Field>(text: &str) -> String {
    text.replacen(&format!("Schema error for {}:", crate::check::noun::<F>()), "Schema error for patch:", 1)
}

/// PATCH of a node.
pub(super) fn patch_node(node: &mut Node, patch: &Patch<NodeField>, rules: &Rules) -> Result<(), NodeError> {
    use NodeField as F;
    let state = node.provision_state;
    let conflict = |text: String| Err(NodeError::Conflict(text));
    let frees = node.maintenance && patch.clears(F::InstanceUuid);
    let locked = state == State::Inspecting && rules.version.has(INSPECTING_LOCKED);
    if node.target_provision_state.is_some() && !state.update_allowed() && !frees {
        return conflict(format!(
            "Node {} can not be updated while a state transition is in progress. It is in state \"{state}\": wait for its \
             end.",
            node.uuid
        ));
    }
    if locked {
        return conflict(format!(
            "Cannot update node \"{}\" while it is in state \"{state}\". Wait for the end of the inspection.",
            node.uuid
        ));
    }
    let before = node.clone();
    apply(node, patch, rules.version).map_err(|error| renaming(error, &before))?;
    let changed = |field: NodeField| before.read(field) != node.read(field);

    let interface = |field: &&NodeField| field.spec().name.ends_with("_interface");
    if !state.is_unused() && !before.maintenance {
        let roots = patch.roots();
        if let Some(field) = roots.iter().filter(interface).find(|field| changed(**field)) {
            return conflict(format!(
                "Node {} can not have {} updated unless it is in one of allowed (enroll, inspecting, inspect wait, \
                 manageable, available) states or in maintenance mode. Current state is '{state}'.",
                node.uuid,
                field.spec().name
            ));
        }
    }
    if changed(F::ResourceClass) && before.resource_class.is_some() && !state.is_unused() {
        return conflict(format!(
            "Node {} can not have resource_class updated unless it is in one of allowed (enroll, inspecting, inspect wait, \
             manageable, available) states. Current state is '{state}'.",
            node.uuid
        ));
    }
    if changed(F::Driver) && before.console_enabled {
        return conflict(format!(
            "Node {} can not update the driver while the console is enabled. Please stop the console first.",
            node.uuid
        ));
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
            "Node {} can only be made protected in provision states 'active' or 'rescue', the current state is '{state}'",
            node.uuid
        ));
    }
    if changed(F::Retired) && node.retired && state == State::Available {
        return conflict(format!(
            "Node {} can not have 'retired' set in provision state 'available', the current state is 'available'. Make it \
             manageable first.",
            node.uuid
        ));
    }
    let informed = changed(F::InstanceInfo);
    settle(node, Some(&before))?;
    if informed {
        name_instance(node);
    }
    Ok(())
}

/// A name that cannot be one is told otherwise when the node had one already.
fn renaming(error: NodeError, node: &Node) -> NodeError {
    const NEW: &str = "Cannot create node with invalid name";
    let NodeError::Invalid(text) = &error else { return error };
    if !text.starts_with(NEW) {
        return error;
    }
    let told = format!("Node {}: Cannot change name to invalid name", node.uuid);
    NodeError::Invalid(text.replacen(NEW, &told, 1))
}

/// The rules that tie fields of a new node together.
pub(super) fn settle_new(node: &mut Node) -> Result<(), NodeError> {
    if node.retired && node.provision_state == State::Available {
        return Err(NodeError::Conflict("A node that starts as available can not be retired.".to_owned()));
    }
    settle(node, None)
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
        let text = "The protected_reason field can only be set when protected is True";
        return Err(NodeError::Invalid(text.to_owned()));
    }
    // a new node may say why it was retired before it is
    if before.is_some() && node.retired_reason.is_some() && !node.retired {
        let text = "The retired_reason field can only be set when retired is True";
        return Err(NodeError::Invalid(text.to_owned()));
    }
    Ok(())
}

/// A changed `instance_info` names an instance that has no name yet by its `display_name`; the name itself changes
/// nothing there.
fn name_instance(node: &mut Node) {
    if node.instance_name.is_some() {
        return;
    }
    let shown = node.instance_info.get("display_name").and_then(|name| name.as_str().map(str::to_owned));
    node.instance_name =
        shown.filter(|name| !name.is_empty() && name.chars().count() <= 255 && !name.contains('\0'));
}
