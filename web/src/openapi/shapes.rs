//! The shapes of bodies that no table of fields describes, by the names that the table of operations gives them.

use ferric_machine::{BootDevice, PowerTarget, Verb};
use serde_json::{Map, Value, json};

use super::fields::{described, shown};
use super::values::{self, links, one_of, or_null, uuid};
use crate::gates::{self, Arg, ConductorField, Field};
use crate::operations::Shape;
use crate::version::Version;

/// A key of an object: its name, the version that brought it, its values.
type Key<'a> = (&'a str, u16, Value);

fn properties(version: Version, keys: &[Key<'_>]) -> Map<String, Value> {
    let shown = keys.iter().filter(|(_, since, _)| version.has(*since));
    shown.map(|(name, since, schema)| ((*name).to_owned(), described(schema.clone(), name, *since))).collect()
}

/// An answer: every key that the version knows is there, and no other.
pub(super) fn closed(version: Version, keys: &[Key<'_>]) -> Value {
    let properties = properties(version, keys);
    let required: Vec<&String> = properties.keys().collect();
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

/// A body that a client sends: these keys, of which some are needed.
pub(super) fn body(version: Version, needed: &[&str], keys: &[Key<'_>]) -> Value {
    json!({
        "type": "object", "properties": properties(version, keys), "required": needed, "additionalProperties": false,
    })
}

/// A body whose keys are in a table of arguments; `values` are those that are not just text.
pub(super) fn arguments(version: Version, args: &[Arg], needed: &[&str], values: &[(&str, Value)]) -> Value {
    let value = |name: &str| values.iter().find(|(key, _)| *key == name).map(|(_, schema)| schema.clone());
    let keys: Vec<Key<'_>> = args
        .iter()
        .map(|arg| {
            (arg.name, arg.since, value(arg.name).unwrap_or_else(|| json!({"type": ["string", "null"]})))
        })
        .collect();
    body(version, needed, &keys)
}

pub(super) fn text() -> Value {
    json!({"type": "string"})
}

pub(super) fn some_text() -> Value {
    json!({"type": ["string", "null"]})
}

pub(super) fn boolean() -> Value {
    json!({"type": "boolean"})
}

fn moment() -> Value {
    json!({"type": "string", "format": "date-time"})
}

pub(super) fn object() -> Value {
    json!({"type": "object"})
}

pub(super) fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn number() -> Value {
    json!({"type": ["integer", "null"]})
}

fn refer(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Whether the body of a named shape must be there.
pub(super) fn needed(shape: Shape) -> bool {
    match shape {
        Shape::Named(name) => !matches!(name, "Maintenance" | "Empty"),
        Shape::Free => false,
        Shape::New(_) | Shape::Patch(_) => true,
        Shape::Nothing | Shape::Item(_) | Shape::List(_) => false,
    }
}

/// A JSON patch.
pub(super) fn patch() -> Value {
    json!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "op": one_of(["add", "replace", "remove"]),
                "path": {"type": "string", "pattern": "^(/[\\w-]+)+$", "examples": ["/extra/rack"]},
                "value": {"description": "Required for add and replace."},
            },
            "required": ["op", "path"],
            "additionalProperties": false,
        },
    })
}

/// Schemas that others refer to.
pub(super) fn shared(version: Version) -> Vec<(&'static str, Value)> {
    let fault = json!({
        "type": "object",
        "properties": {"faultcode": one_of(["Client", "Server"]), "faultstring": text(), "debuginfo": {"type": "null"}},
        "required": ["faultcode", "faultstring", "debuginfo"],
        "additionalProperties": false,
    });
    let routed = json!({
        "type": "object",
        "properties": {"code": {"type": "integer"}, "title": text(), "description": text()},
        "required": ["code", "title", "description"],
        "additionalProperties": false,
    });
    let error = json!({
        "type": "object",
        "properties": {"error_message": {
            "type": "string", "contentMediaType": "application/json",
            "contentSchema": {"anyOf": [refer("Fault"), routed]},
            "description": "JSON in a string, as Ironic has it.",
        }},
        "required": ["error_message"],
        "additionalProperties": false,
    });
    let auth = json!({
        "type": "object",
        "properties": {"error": {"type": "object", "properties": {"message": text(), "code": {"type": "integer"}}}},
        "required": ["error"],
    });
    let link = json!({
        "type": "object",
        "properties": {"href": text(), "rel": text(), "type": text()},
        "required": ["href", "rel"],
        "additionalProperties": false,
    });
    let step = |number: &str, needed: &[&str]| {
        let mut required = vec!["interface", "step", number];
        required.extend(needed);
        json!({
            "type": "object",
            "properties": {
                "interface": one_of(INTERFACES.iter().copied()), "step": {"type": "string", "minLength": 1},
                "args": object(), number: {"type": "integer", "minimum": 0, "maximum": i32::MAX},
            },
            "required": required,
            "additionalProperties": false,
        })
    };
    vec![
        ("Fault", fault),
        ("Error", error),
        ("AuthError", auth),
        ("Links", list(link)),
        ("NewTemplateStep", step("priority", &["args"])),
        ("NewRunbookStep", step("order", &[])),
        ("KeptStep", object()),
        ("RuleCondition", rule_part(false)),
        ("RuleAction", rule_part(true)),
        ("Step", asked_step(version, "order")),
        ("DeployStep", asked_step(version, "priority")),
    ]
}

/// Interfaces that have steps.
const INTERFACES: &[&str] = &["vendor", "power", "management", "firmware", "deploy", "bios", "raid"];

/// A condition or an action: each operator with its arguments, by name or in their order.
fn rule_part(of_actions: bool) -> Value {
    let part = |(name, needs, takes): (&str, &[&str], &[&str])| {
        let args: Map<String, Value> =
            needs.iter().chain(takes).map(|arg| ((*arg).to_owned(), json!({}))).collect();
        let mut properties = json!({
            "op": if of_actions { json!({"const": name}) } else { json!({"enum": [name, format!("!{name}")]}) },
            "args": {"anyOf": [
                {"type": "object", "properties": args, "required": needs, "additionalProperties": false},
                {"type": "array", "minItems": needs.len(), "maxItems": needs.len() + takes.len()},
            ]},
            "loop": {"type": ["array", "object"]},
        });
        if !of_actions {
            properties["multiple"] = one_of(["any", "all", "first", "last"]);
        }
        json!({"type": "object", "properties": properties, "required": ["op", "args"], "additionalProperties": false})
    };
    let all: Vec<Value> = crate::routes::rule_form::operators(of_actions).map(part).collect();
    json!({"oneOf": all})
}

fn asked_step(version: Version, number: &str) -> Value {
    let children = gates::CHILD_STEPS;
    body(
        version,
        &["step"],
        &[
            (
                "interface",
                1,
                json!({"type": "string", "description": "Not needed by hold, wait, power_on, power_off, reboot."}),
            ),
            ("step", 1, json!({"type": "string", "minLength": 1})),
            ("args", 1, object()),
            (number, 1, json!({"type": "integer", "minimum": 0})),
            ("execute_on_child_nodes", children, boolean()),
            ("limit_child_node_execution", children, list(text())),
        ],
    )
}

/// The shape with that name.
pub(super) fn named(name: &str, version: Version) -> Option<Value> {
    about(name, version)
        .or_else(|| node(name, version))
        .or_else(|| drivers(name, version))
        .or_else(|| ramdisk(name, version))
        .or_else(|| ours(name, version))
        .or_else(|| super::hardware::named(name, version))
        .or_else(|| super::health::named(name, version))
}

fn api_version() -> Value {
    json!({
        "type": "object",
        "properties": {"id": text(), "links": links(), "status": text(), "min_version": text(), "version": text()},
        "required": ["id", "links", "status", "min_version", "version"],
        "additionalProperties": false,
    })
}

fn about(name: &str, version: Version) -> Option<Value> {
    Some(match name {
        "Root" => closed(
            version,
            &[
                ("name", 1, text()),
                ("description", 1, text()),
                ("default_version", 1, api_version()),
                ("versions", 1, list(api_version())),
            ],
        ),
        "V1" => {
            let mut keys: Vec<Key<'_>> = vec![
                ("id", 1, text()),
                ("links", 1, links()),
                ("media_types", 1, object()),
                ("version", 1, api_version()),
            ];
            keys.extend(gates::RESOURCES.iter().map(|(name, since)| (*name, *since, links())));
            closed(version, &keys)
        }
        "Health" => closed(version, &[("status", 1, one_of(["ok", "ready"]))]),
        "OpenApi" => json!({"type": "object", "required": ["openapi", "info", "paths", "components"]}),
        "Page" => text(),
        _ => return None,
    })
}

fn node(name: &str, version: Version) -> Option<Value> {
    let line = |detail: bool| {
        let mut keys = vec![
            ("uuid", 1, uuid()),
            ("created_at", 1, moment()),
            ("severity", 1, some_text()),
            ("event", 1, some_text()),
            ("links", 1, links()),
        ];
        let more = [
            ("event_type", 1, some_text()),
            ("conductor", 1, some_text()),
            ("user", 1, some_text()),
            ("project", gates::HISTORY_PROJECT, some_text()),
            ("state", gates::HISTORY_STATES, some_text()),
            ("target_provision_state", gates::HISTORY_STATES, some_text()),
            ("duration_seconds", gates::HISTORY_STATES, json!({"type": ["integer", "null"]})),
        ];
        if detail {
            keys.extend(more);
            return closed(version, &keys);
        }
        // a list shows them when `detail` is asked for
        let mut schema = closed(version, &keys);
        for (key, value) in properties(version, &more) {
            schema["properties"][key] = value;
        }
        schema
    };
    let devices = || one_of(BootDevice::ALL.iter().map(|device| device.as_str()));
    Some(match name {
        "Validation" => json!({
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"result": {"type": ["boolean", "null"]}, "reason": text()},
                "required": ["result"],
                "additionalProperties": false,
            },
        }),
        "States" => closed(
            version,
            &[
                ("console_enabled", 1, boolean()),
                ("last_error", 1, some_text()),
                ("power_state", 1, or_null(values::power_state())),
                ("provision_state", 1, or_null(values::provision_state())),
                ("provision_updated_at", 1, or_null(moment())),
                ("target_power_state", 1, or_null(values::power_state())),
                ("target_provision_state", 1, or_null(values::provision_state())),
                ("raid_config", gates::STATES_RAID, object()),
                ("target_raid_config", gates::STATES_RAID, object()),
                ("boot_mode", gates::STATES_BOOT_MODE, some_text()),
                ("secure_boot", gates::STATES_BOOT_MODE, json!({"type": ["boolean", "null"]})),
            ],
        ),
        "PowerTarget" => arguments(
            version,
            gates::POWER_ARGS,
            &["target"],
            &[
                (
                    "target",
                    one_of(
                        PowerTarget::ALL
                            .iter()
                            .filter(|target| version.has(target.minor()))
                            .map(|t| t.as_str()),
                    ),
                ),
                ("timeout", json!({"type": ["integer", "null"], "minimum": 1, "maximum": 86_400})),
            ],
        ),
        "ProvisionTarget" => {
            let verbs =
                Verb::ALL.iter().filter(|verb| verb.gate_before().is_none_or(|since| version.has(since)));
            let steps = |name: &str| json!({"type": ["array", "null"], "items": refer(name)});
            let ramdisk = gates::DISABLE_RAMDISK.iter().map(|(_, since)| *since).min().unwrap_or(1);
            let late = [
                ("deploy_steps", gates::DEPLOY_STEPS),
                ("service_steps", gates::SERVICE_STEPS),
                ("runbook", gates::RUNBOOK),
                ("disable_ramdisk", ramdisk),
            ];
            let mut schema = arguments(
                version,
                gates::PROVISION_ARGS,
                &["target"],
                &[
                    ("target", one_of(verbs.map(|verb| verb.as_str()))),
                    ("configdrive", json!({"type": ["string", "object", "null"]})),
                    ("clean_steps", steps("Step")),
                    ("service_steps", steps("Step")),
                    ("deploy_steps", steps("DeployStep")),
                    ("disable_ramdisk", json!({"type": ["boolean", "null"]})),
                ],
            );
            // these are gated after the state was looked at, so the table of arguments does not do it
            for (key, since) in late {
                let value = schema["properties"][key].take();
                schema["properties"][key] = described(value, key, since);
                if !version.has(since)
                    && let Some(all) = schema["properties"].as_object_mut()
                {
                    all.remove(key);
                }
            }
            schema
        }
        "Maintenance" => arguments(version, gates::MAINTENANCE_ARGS, &[], &[]),
        "BootDevice" => closed(
            version,
            &[
                ("boot_device", 1, or_null(devices())),
                ("persistent", 1, json!({"type": ["boolean", "null"]})),
            ],
        ),
        "NewBootDevice" => arguments(
            version,
            gates::BOOT_DEVICE_ARGS,
            &["boot_device"],
            &[("boot_device", devices()), ("persistent", json!({"type": ["boolean", "null"]}))],
        ),
        "SupportedBootDevices" => closed(version, &[("supported_boot_devices", 1, list(devices()))]),
        "Traits" => closed(version, &[("traits", 1, list(values::trait_name()))]),
        "History" => {
            let mut schema = closed(version, &[("history", 1, list(line(false)))]);
            schema["properties"]["next"] = text();
            schema
        }
        "HistoryLine" => line(true),
        "Inventory" => closed(version, &[("inventory", 1, object()), ("plugin_data", 1, object())]),
        "Children" => closed(version, &[("children", 1, list(uuid())), ("links", 1, object())]),
        _ => return None,
    })
}

fn drivers(name: &str, version: Version) -> Option<Value> {
    let kinds = [
        "bios",
        "boot",
        "console",
        "deploy",
        "firmware",
        "inspect",
        "management",
        "network",
        "power",
        "raid",
        "rescue",
        "storage",
        "vendor",
    ];
    let since = |kind: &str| {
        let late = gates::DRIVER_INTERFACES.iter().find(|(name, _)| *name == kind);
        late.map_or(gates::DRIVER_TYPE, |(_, since)| *since)
    };
    let driver = || {
        let mut keys: Vec<Key<'_>> = vec![
            ("name", 1, text()),
            ("hosts", 1, list(text())),
            ("links", 1, links()),
            ("properties", gates::DRIVER_PROPERTIES_LINK, links()),
            ("type", gates::DRIVER_TYPE, one_of(["classic", "dynamic"])),
        ];
        let interfaces: Vec<(String, u16, Value)> = kinds
            .iter()
            .flat_map(|kind| {
                [
                    (format!("default_{kind}_interface"), since(kind), some_text()),
                    (format!("enabled_{kind}_interfaces"), since(kind), or_null(list(text()))),
                ]
            })
            .collect();
        keys.extend(interfaces.iter().map(|(name, since, schema)| (name.as_str(), *since, schema.clone())));
        let mut schema = closed(version, &keys);
        // `fields` selects
        schema["required"] = json!(["links"]);
        schema
    };
    let conductor = || {
        let specs: Vec<_> = ConductorField::ALL.iter().map(|field| field.spec()).collect();
        shown(&specs, version)
    };
    Some(match name {
        "Drivers" => closed(version, &[("drivers", 1, list(driver()))]),
        "Driver" => driver(),
        "Descriptions" => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        "Conductor" => conductor(),
        "Conductors" => {
            let mut schema = closed(version, &[("conductors", 1, list(conductor()))]);
            schema["properties"]["next"] = text();
            schema
        }
        _ => return None,
    })
}

fn ramdisk(name: &str, version: Version) -> Option<Value> {
    let lookup = || {
        let node = closed(
            version,
            &[
                ("uuid", 1, uuid()),
                ("properties", 1, object()),
                ("instance_info", 1, object()),
                ("driver_internal_info", 1, object()),
                ("links", 1, links()),
            ],
        );
        json!({
            "type": "object",
            "properties": {"node": node, "config": {"type": "object", "required": ["heartbeat_timeout"]}},
            "required": ["node", "config"],
            "additionalProperties": false,
        })
    };
    Some(match name {
        "Lookup" => lookup(),
        "Heartbeat" => arguments(
            version,
            gates::HEARTBEAT_ARGS,
            &["callback_url", "agent_token"],
            &[("agent_status", or_null(one_of(["start", "end", "error"])))],
        ),
        "Inspected" if version.0 == gates::CONTINUE_INSPECTION_OLD => closed(version, &[("uuid", 1, uuid())]),
        "Inspected" => lookup(),
        _ => return None,
    })
}

/// What is Ferric's own.
fn ours(name: &str, version: Version) -> Option<Value> {
    let state = || one_of(["pending", "running", "done", "failed", "aborted"]);
    let seconds = || json!({"type": ["number", "null"]});
    let doing = || {
        closed(
            version,
            &[
                ("node_uuid", 1, uuid()),
                ("operation", 1, text()),
                ("step", 1, text()),
                ("number", 1, json!({"type": "integer", "minimum": 0})),
                ("of", 1, json!({"type": "integer", "minimum": 0})),
                ("since", 1, moment()),
                ("usual_seconds", 1, seconds()),
                ("eta_seconds", 1, seconds()),
                ("gives_up_at", 1, or_null(moment())),
                ("doing", 1, text()),
                ("bytes_done", 1, number()),
                ("bytes_total", 1, number()),
                ("waiting_for", 1, some_text()),
            ],
        )
    };
    Some(match name {
        "FleetHealth" | "Sweep" => super::health::fleet(name, version)?,
        "Doing" => closed(version, &[("doing", 1, list(doing()))]),
        "NodeDoing" => json!({"anyOf": [doing(), {"type": "null"}]}),
        "Queue" => {
            let place = closed(
                version,
                &[("node_uuid", 1, uuid()), ("position", 1, json!({"type": "integer", "minimum": 1}))],
            );
            json!({"type": "object", "additionalProperties": list(place)})
        }
        "NodeSteps" => {
            let step = closed(
                version,
                &[
                    ("number", 1, json!({"type": "integer", "minimum": 1})),
                    ("interface", 1, text()),
                    ("step", 1, text()),
                    ("priority", 1, json!({"type": "integer"})),
                    ("abortable", 1, boolean()),
                    ("requires_ramdisk", 1, boolean()),
                    ("source", 1, text()),
                    ("args", 1, object()),
                    ("state", 1, state()),
                    ("started_at", 1, or_null(moment())),
                    ("ended_at", 1, or_null(moment())),
                    ("checkpoint", 1, some_text()),
                    ("error", 1, some_text()),
                ],
            );
            let operation = closed(
                version,
                &[
                    ("operation", 1, uuid()),
                    ("kind", 1, text()),
                    ("state", 1, state()),
                    ("started_at", 1, or_null(moment())),
                    ("ended_at", 1, or_null(moment())),
                    ("steps", 1, list(step)),
                ],
            );
            closed(version, &[("operations", 1, list(operation))])
        }
        "EventStream" => text(),
        _ => return None,
    })
}
