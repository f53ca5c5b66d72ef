//! What hooks and rules work on: a copy of the node, its ports, and what the ramdisk sent. Nothing is stored before
//! all of them are through.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::DriverError;
use crate::interface::{Found, FoundPort, Json, NodeChange, NodeView, PortChange, Result};

/// Node fields that rules may change and that have a place in [`NodeChange`].
const OBJECTS: [&str; 5] = ["properties", "extra", "driver_info", "instance_info", "raid_config"];
const TEXTS: [&str; 3] = ["name", "description", "resource_class"];

/// See the module.
pub(super) struct Subject {
    /// The node's id, for log lines.
    pub(super) uuid: Uuid,
    /// The node as rules see it; a field that is absent is not known here.
    pub(super) node: Json,
    touched: BTreeSet<String>,
    /// Its ports, those to come included.
    pub(super) ports: Vec<PortDraft>,
    /// What the ramdisk sent of the hardware.
    pub(super) inventory: Json,
    /// What it sent beside, and what hooks add.
    pub(super) plugin_data: Json,
    /// The inventory of the inspection before, if there was one.
    pub(super) previous: Option<Json>,
}

/// A port as it will be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PortDraft {
    /// `None`: to be created.
    pub(super) uuid: Option<Uuid>,
    pub(super) address: String,
    pub(super) pxe_enabled: bool,
    pub(super) extra: Json,
    pub(super) local_link_connection: Json,
    pub(super) physical_network: Option<String>,
    /// To be taken away.
    pub(super) gone: bool,
}

fn object(args: &Json, key: &str) -> Option<Json> {
    args.get(key).and_then(Value::as_object).cloned()
}

impl Subject {
    /// From the node and the arguments of the step `process` (see [`super::AgentInspect`]).
    pub(super) fn new(view: &NodeView, args: &Json) -> Subject {
        let mut node = object(args, "node").unwrap_or_default();
        node.insert("uuid".into(), json!(view.uuid));
        node.insert("driver".into(), json!(view.driver));
        node.insert("provision_state".into(), json!(view.state));
        node.insert("name".into(), json!(view.name));
        for (key, value) in [
            ("properties", &view.properties),
            ("driver_info", &view.driver_info),
            ("driver_internal_info", &view.driver_internal_info),
            ("instance_info", &view.instance_info),
        ] {
            node.insert(key.into(), Value::Object(value.clone()));
        }
        let told = args.get("ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let ports = view.ports.iter().map(|port| {
            let id = json!(port.uuid);
            let known = told.iter().find(|one| one.get("uuid") == Some(&id)).and_then(Value::as_object);
            let part = |key| known.and_then(|known| object(known, key)).unwrap_or_default();
            PortDraft {
                uuid: Some(port.uuid),
                address: port.address.to_lowercase(),
                pxe_enabled: port.pxe_enabled,
                extra: part("extra"),
                local_link_connection: part("local_link_connection"),
                physical_network: known
                    .and_then(|known| known.get("physical_network")?.as_str().map(str::to_owned)),
                gone: false,
            }
        });
        Subject {
            uuid: view.uuid,
            ports: ports.collect(),
            node,
            touched: BTreeSet::new(),
            inventory: object(args, "inventory").unwrap_or_default(),
            plugin_data: object(args, "plugin_data").unwrap_or_default(),
            previous: object(args, "previous_inventory"),
        }
    }

    /// The node's `properties`.
    pub(super) fn properties(&self) -> &Json {
        self.node.get("properties").and_then(Value::as_object).expect("put there by Subject::new")
    }

    pub(super) fn set_property(&mut self, key: &str, value: Value) {
        self.touched.insert("properties".into());
        let all = self.node.get_mut("properties").and_then(Value::as_object_mut);
        all.expect("put there by Subject::new").insert(key.to_owned(), value);
    }

    /// Sets capabilities in `properties.capabilities`, or takes away those that are `None`.
    pub(super) fn set_capabilities(&mut self, changes: &[(String, Option<String>)]) {
        let old = self.properties().get("capabilities").and_then(Value::as_str).unwrap_or_default();
        let mut all: Vec<(String, String)> = old
            .split(',')
            .filter_map(|pair| pair.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        for (name, value) in changes {
            let at = all.iter().position(|(known, _)| known == name);
            match (at, value) {
                (Some(at), Some(value)) => all[at].1.clone_from(value),
                (None, Some(value)) => all.push((name.clone(), value.clone())),
                (Some(at), None) => {
                    all.remove(at);
                }
                (None, None) => {}
            }
        }
        let text: Vec<String> = all.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
        self.set_property("capabilities", Value::String(text.join(",")));
    }

    /// The field of the node that a rule is about to change. Errors: a field that cannot be changed by an inspection,
    /// or whose present value is not known here.
    pub(super) fn field_to_change(&mut self, field: &str) -> std::result::Result<&mut Value, String> {
        if !OBJECTS.contains(&field) && !TEXTS.contains(&field) && field != "traits" {
            return Err(format!(
                "the field '{field}' cannot be changed by a rule; {}, {} and traits can",
                OBJECTS.join(", "),
                TEXTS.join(", ")
            ));
        }
        let Some(value) = self.node.get_mut(field) else {
            return Err(format!("the node's {field} was not given to the inspection"));
        };
        self.touched.insert(field.to_owned());
        Ok(value)
    }

    /// The port of this id or address.
    pub(super) fn port(&mut self, id: &str) -> Option<&mut PortDraft> {
        let (uuid, address) = (id.parse::<Uuid>().ok(), id.to_lowercase());
        self.ports
            .iter_mut()
            .filter(|port| !port.gone)
            .find(|port| port.address == address || (uuid.is_some() && port.uuid == uuid))
    }

    /// The port of this card, to be created if need be.
    pub(super) fn port_with(&mut self, address: &str) -> &mut PortDraft {
        let at = self.ports.iter().position(|port| port.address == address).unwrap_or_else(|| {
            self.ports.push(PortDraft { address: address.to_owned(), ..PortDraft::default() });
            self.ports.len() - 1
        });
        &mut self.ports[at]
    }

    /// What is to be stored, compared with the node and the ports before. Errors: `Inspection` when a rule gave a
    /// field a value of the wrong shape.
    pub(super) fn into_found(self, before: &[PortDraft]) -> Result<Found> {
        let mut found = Found::default();
        for field in &self.touched {
            let value = self.node.get(field).cloned().unwrap_or(Value::Null);
            found.node.push(change(field, value)?);
        }
        for port in self.ports {
            match port.uuid {
                None if port.gone => {}
                None => found.ports.push(FoundPort {
                    address: port.address,
                    pxe_enabled: port.pxe_enabled,
                    extra: port.extra,
                    local_link_connection: port.local_link_connection,
                    physical_network: port.physical_network,
                }),
                Some(uuid) if port.gone => found.ports_gone.push(uuid),
                Some(uuid) => {
                    let old = before.iter().find(|old| old.uuid == Some(uuid)).cloned().unwrap_or_default();
                    let change = PortChange {
                        uuid,
                        pxe_enabled: (old.pxe_enabled != port.pxe_enabled).then_some(port.pxe_enabled),
                        extra: (old.extra != port.extra).then_some(port.extra),
                        local_link_connection: (old.local_link_connection != port.local_link_connection)
                            .then_some(port.local_link_connection),
                        physical_network: (old.physical_network != port.physical_network)
                            .then_some(port.physical_network),
                    };
                    if change != (PortChange { uuid, ..PortChange::default() }) {
                        found.ports_changed.push(change);
                    }
                }
            }
        }
        found.inventory = Some((self.inventory, self.plugin_data));
        Ok(found)
    }
}

fn change(field: &str, value: Value) -> Result<NodeChange> {
    let shape = |wanted: &str| DriverError::Inspection {
        reason: format!(
            "Failed to inspect hardware. Reason: a rule made the node's {field} something other than {wanted}"
        ),
    };
    let whole = |value: Value| match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Json::new()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Err(shape("an object")),
    };
    let text = |value: Value| match value {
        Value::String(text) => Ok(Some(text)),
        Value::Null => Ok(None),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err(shape("a text")),
    };
    Ok(match field {
        "properties" => NodeChange::Properties(whole(value)?),
        "extra" => NodeChange::Extra(whole(value)?),
        "driver_info" => NodeChange::DriverInfo(whole(value)?),
        "instance_info" => NodeChange::InstanceInfo(whole(value)?),
        "raid_config" => NodeChange::RaidConfig(whole(value)?),
        "name" => NodeChange::Name(text(value)?),
        "description" => NodeChange::Description(text(value)?),
        "resource_class" => NodeChange::ResourceClass(text(value)?),
        "traits" => {
            let all: Option<Vec<String>> = value
                .as_array()
                .and_then(|all| all.iter().map(|one| one.as_str().map(str::to_owned)).collect());
            NodeChange::Traits(all.ok_or_else(|| shape("a list of texts"))?)
        }
        other => unreachable!("field_to_change refuses {other}"),
    })
}
