//! What a step found, written into the change that ends it.

use ferric_drivers::interface::{BiosSetting, FirmwareComponent, Found, Json, NodeChange};
use ferric_machine::Timestamp;
use ferric_schema::bios::{Attribute, NewSetting};
use ferric_schema::firmware::NewComponent;
use ferric_schema::inventory::NewInventory;
use ferric_schema::{Also, JsonList, JsonText, Node, Port};
use uuid::Uuid;

use super::Change;
use crate::view;

/// Writes everything but the next steps, which are the operation's.
///
/// `before` is the row that the step worked from: a field that somebody else changed meanwhile is merged by its keys.
pub(super) fn apply(
    change: &mut Change,
    found: Found,
    before: Option<&Node>,
    ports: &[Port],
    now: Timestamp,
) {
    let node = &mut change.node;
    let base = before.cloned().unwrap_or_else(|| node.clone());
    if !found.keep.is_empty() {
        view::edit(&mut node.driver_internal_info, |info| {
            for (key, value) in found.keep {
                if value.is_null() {
                    info.remove(&key);
                } else {
                    info.insert(key, value);
                }
            }
        });
    }
    for one in found.node {
        match one {
            NodeChange::Properties(map) => merge(&mut node.properties, &base.properties, map),
            NodeChange::Extra(map) => merge(&mut node.extra, &base.extra, map),
            NodeChange::DriverInfo(map) => merge(&mut node.driver_info, &base.driver_info, map),
            NodeChange::InstanceInfo(map) => merge(&mut node.instance_info, &base.instance_info, map),
            NodeChange::RaidConfig(map) => node.raid_config = JsonText::from(map),
            NodeChange::ResourceClass(class) => node.resource_class = class,
            NodeChange::Description(text) => node.description = text,
            NodeChange::Name(name) => node.name = name,
            NodeChange::Traits(all) => change.also.push(Also::Traits(node.uuid, all)),
            NodeChange::Power(seen) => node.power_state = Some(seen),
        }
    }
    let uuid = node.uuid;
    for new in found.ports {
        let mut port = match ports.iter().find(|port| port.address == new.address) {
            Some(known) => known.clone(),
            None => Port::new(Uuid::new_v4(), uuid, new.address, now),
        };
        let known = port.id != 0;
        port.pxe_enabled = new.pxe_enabled;
        if !new.extra.is_empty() {
            port.extra = JsonText::from(new.extra);
        }
        if !new.local_link_connection.is_empty() {
            port.local_link_connection = JsonText::from(new.local_link_connection);
        }
        if new.physical_network.is_some() {
            port.physical_network = new.physical_network;
        }
        let same = ports.contains(&port);
        match (known, same) {
            (true, true) => {}
            (true, false) => change.also.push(Also::ChangePort(port)),
            (false, _) => change.also.push(Also::Port(port)),
        }
    }
    for one in found.ports_changed {
        let Some(known) = ports.iter().find(|port| port.uuid == one.uuid) else { continue };
        // the same port may have been changed above
        let earlier = change
            .also
            .iter()
            .position(|also| matches!(also, Also::ChangePort(port) if port.uuid == one.uuid));
        let mut port = match earlier.map(|at| change.also.remove(at)) {
            Some(Also::ChangePort(port)) => port,
            Some(_) | None => known.clone(),
        };
        port.pxe_enabled = one.pxe_enabled.unwrap_or(port.pxe_enabled);
        if let Some(extra) = one.extra {
            port.extra = JsonText::from(extra);
        }
        if let Some(link) = one.local_link_connection {
            port.local_link_connection = JsonText::from(link);
        }
        if let Some(network) = one.physical_network {
            port.physical_network = network;
        }
        if port != *known {
            change.also.push(Also::ChangePort(port));
        }
    }
    change.also.extend(found.ports_gone.into_iter().map(Also::PortGone));
    if let Some(settings) = found.bios {
        change.also.push(Also::Bios(settings.into_iter().map(setting).collect()));
    }
    if let Some(components) = found.firmware {
        change.also.push(Also::Firmware(components.into_iter().map(component).collect()));
    }
    if let Some((inventory, plugin)) = found.inventory {
        change.also.push(Also::Inventory(NewInventory {
            node: uuid,
            inventory_data: JsonText::from(inventory),
            plugin_data: JsonText::from(plugin),
        }));
    }
}

fn setting(seen: BiosSetting) -> NewSetting {
    let values = seen.allowable_values.map(|values| {
        JsonList::from(values.into_iter().map(serde_json::Value::String).collect::<Vec<_>>().as_slice())
    });
    NewSetting {
        name: seen.name,
        value: seen.value,
        attribute: Attribute {
            attribute_type: seen.attribute_type,
            allowable_values: values,
            lower_bound: seen.lower_bound,
            max_length: seen.max_length,
            min_length: seen.min_length,
            read_only: seen.read_only,
            reset_required: seen.reset_required,
            unique: seen.unique,
            upper_bound: seen.upper_bound,
        },
    }
}

fn component(seen: FirmwareComponent) -> NewComponent {
    NewComponent {
        component: seen.component,
        current_version: seen.current_version,
        last_version_flashed: seen.last_version_flashed,
        vendor: seen.vendor,
        model: seen.model,
        serial_number: seen.serial_number,
    }
}

/// Brings what a step made of `base` into what the column is by now: its changes key by key, not its whole.
fn merge(column: &mut JsonText, base: &JsonText, made: Json) {
    if *column == *base {
        *column = JsonText::from(made);
        return;
    }
    let base = base.parse();
    view::edit(column, |now| {
        for key in base.keys().filter(|key| !made.contains_key(*key)) {
            now.remove(key);
        }
        for (key, value) in made {
            if base.get(&key) != Some(&value) {
                now.insert(key, value);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: &serde_json::Value) -> JsonText {
        JsonText::from(value.as_object().cloned().unwrap_or_default())
    }

    #[test]
    fn what_an_operator_changed_meanwhile_is_kept() {
        let base = text(&json!({"gone": 1, "same": 1, "old": 1}));
        let mut column = text(&json!({"gone": 1, "same": 2, "old": 1, "theirs": 1}));
        let made = json!({"same": 1, "old": 2, "new": 1});
        merge(&mut column, &base, made.as_object().cloned().unwrap_or_default());
        assert_eq!(column.parse(), text(&json!({"same": 2, "old": 2, "theirs": 1, "new": 1})).parse());
    }
}
