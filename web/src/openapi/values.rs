//! Schemas of single values.

use ferric_machine::{Fault, PowerState, State};
use serde_json::{Value, json};

use crate::operations::Noun;

/// A UUID.
pub(super) fn uuid() -> Value {
    json!({"type": "string", "format": "uuid"})
}

/// The value, or null.
pub(super) fn or_null(mut schema: Value) -> Value {
    let kind = schema["type"].take();
    schema["type"] = json!([kind, "null"]);
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    schema
}

fn moment() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// One of these words.
pub(super) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> Value {
    json!({"type": "string", "enum": words.into_iter().collect::<Vec<_>>()})
}

/// A provision state.
pub(super) fn provision_state() -> Value {
    one_of(State::ALL.iter().map(|state| state.as_str()))
}

/// A power state.
pub(super) fn power_state() -> Value {
    one_of(PowerState::ALL.iter().map(|state| state.as_str()))
}

/// A MAC address.
pub(super) fn mac() -> Value {
    json!({"type": "string", "pattern": "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$"})
}

/// The name of a trait.
pub(super) fn trait_name() -> Value {
    json!({"type": "string", "maxLength": 255, "examples": ["CUSTOM_GOLD"]})
}

/// The links of a thing.
pub(super) fn links() -> Value {
    json!({"$ref": "#/components/schemas/Links"})
}

/// The values of a field that only the server writes; of some others, the ones that it answers. `all`: every field that
/// the server writes must be here.
pub(super) fn derived(name: &str, all: bool) -> Option<Value> {
    let schema = match name {
        "created_at"
        | "provision_updated_at"
        | "updated_at"
        | "inspection_started_at"
        | "inspection_finished_at" => or_null(moment()),
        "provision_state" | "target_provision_state" => or_null(provision_state()),
        "power_state" | "target_power_state" => or_null(power_state()),
        "links" | "ports" | "states" | "portgroups" | "volume" => links(),
        "traits" | "candidate_nodes" => json!({"type": "array", "items": {"type": "string"}}),
        "drivers" => json!({"type": "array", "items": {"type": "string"}}),
        "steps" => json!({"type": "array", "items": {"$ref": "#/components/schemas/KeptStep"}}),
        _ if !all => return None,
        "nodes" => json!({"type": "array", "items": links()}),
        "clean_step"
        | "deploy_step"
        | "service_step"
        | "driver_internal_info"
        | "raid_config"
        | "target_raid_config"
        | "internal_info" => json!({"type": "object"}),
        "allocation_uuid" | "node_uuid" => or_null(uuid()),
        "fault" => or_null(one_of(Fault::ALL.iter().map(|fault| fault.as_str()))),
        "health" => or_null(one_of(["OK", "Warning", "Critical"])),
        "conductor" | "last_error" | "maintenance_reason" | "reservation" => {
            json!({"type": ["string", "null"]})
        }
        "alive" | "dynamic_portgroup" => json!({"type": "boolean"}),
        "conductor_group" | "hostname" => json!({"type": "string"}),
        "state" => or_null(one_of(["allocating", "active", "error"])),
        _ => return None,
    };
    Some(schema)
}

/// The items of a list that POST takes.
pub(super) fn list_of(noun: Noun, name: &str) -> Value {
    let item = match (noun, name) {
        (Noun::Template, "steps") => "NewTemplateStep",
        (Noun::Runbook, "steps") => "NewRunbookStep",
        (Noun::Rule, "conditions") => "RuleCondition",
        (Noun::Rule, "actions") => "RuleAction",
        _ => return json!({"type": ["array", "null"], "items": {"type": "string"}}),
    };
    let least = usize::from(name != "conditions");
    json!({"type": "array", "minItems": least, "items": {"$ref": format!("#/components/schemas/{item}")}})
}

/// The values of a query argument.
pub(super) fn of_argument(name: &str) -> Value {
    match name {
        "limit" => json!({"type": "integer", "minimum": 1}),
        "operations" => json!({"type": "integer", "minimum": 1, "maximum": 50}),
        "max_age" => json!({"type": "integer", "minimum": 0, "maximum": 3600}),
        "on" => json!({"type": "boolean"}),
        "seconds" => json!({"type": "integer", "minimum": 1, "maximum": 255}),
        "after" => json!({"type": "integer", "minimum": 0}),
        "microversion" => {
            json!({"type": "string", "pattern": "^(latest|1\\.[1-9][0-9]?)$", "examples": ["latest", "1.31"]})
        }
        "sort_dir" => one_of(["asc", "desc"]),
        "type" => one_of(["classic", "dynamic"]),
        "associated" | "maintenance" | "retired" | "sharded" | "include_children" | "detail"
        | "reset_interfaces" | "persistent" | "project"
            if name != "project" =>
        {
            json!({"type": "boolean"})
        }
        "instance_uuid" | "chassis_uuid" | "node_uuid" => uuid(),
        "provision_state" => provision_state(),
        "fault" => one_of(Fault::ALL.iter().map(|fault| fault.as_str())),
        _ => json!({"type": "string"}),
    }
}
