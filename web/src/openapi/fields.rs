//! The schemas of what has a table of fields.

use serde_json::{Map, Value, json};

use super::{noun_name, values, words};
use crate::gates::{self, Field, Kind, Spec};
use crate::operations::Noun;
use crate::version::Version;

fn all<F: Field>() -> Vec<&'static Spec> {
    F::ALL.iter().map(|field| field.spec()).collect()
}

/// The fields of a noun, with the key of its lists and the keys that POST needs.
struct Table {
    fields: Vec<&'static Spec>,
    collection: &'static str,
    required: &'static [&'static str],
    /// Keys of POST that are no fields, with the version that brought them.
    besides: &'static [(&'static str, u16)],
}

fn table(noun: Noun) -> Table {
    let table = |fields, collection, required| Table { fields, collection, required, besides: &[] };
    match noun {
        Noun::Node => table(all::<gates::NodeField>(), "nodes", &["driver"]),
        Noun::Port => Table {
            besides: &[("node_ident", gates::PORT_NODE_IDENT)],
            ..table(all::<gates::PortField>(), "ports", &["address"])
        },
        Noun::Template => Table {
            besides: &[("description", 1)],
            ..table(all::<gates::TemplateField>(), "deploy_templates", &["name", "steps"])
        },
        Noun::Runbook => table(all::<gates::RunbookField>(), "runbooks", &["name", "steps"]),
        Noun::Rule => table(all::<gates::RuleField>(), "inspection_rules", &["actions"]),
        Noun::Chassis => table(all::<gates::ChassisField>(), "chassis", &[]),
        Noun::Portgroup => table(all::<gates::PortgroupField>(), "portgroups", &["node_uuid"]),
        Noun::Connector => {
            table(all::<gates::ConnectorField>(), "connectors", &["node_uuid", "type", "connector_id"])
        }
        Noun::Target => table(
            all::<gates::TargetField>(),
            "targets",
            &["node_uuid", "volume_type", "volume_id", "boot_index"],
        ),
        Noun::Allocation => table(all::<gates::AllocationField>(), "allocations", &[]),
    }
}

/// A schema with what is to be said of a field.
pub(super) fn described(mut schema: Value, name: &str, since: u16) -> Value {
    let mut text = words::of_field(name).to_owned();
    if since > 1 {
        schema["x-microversion"] = json!(format!("1.{since}"));
        text = format!("{text} Since 1.{since}.").trim().to_owned();
    }
    if !text.is_empty() {
        schema["description"] = json!(text);
    }
    schema
}

/// What an answer shows of one. Every field may be missing: `fields` selects.
pub(super) fn item(noun: Noun, version: Version) -> Value {
    shown(&table(noun).fields, version)
}

/// What an answer shows of the fields of a table.
pub(super) fn shown(fields: &[&Spec], version: Version) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .filter(|spec| version.has(spec.since))
        .map(|spec| {
            let mut schema = described(answered(spec), spec.name, spec.since);
            if !spec.write.at_create() && !spec.write.by_patch() {
                schema["readOnly"] = json!(true);
            }
            (spec.name.to_owned(), schema)
        })
        .collect();
    json!({"type": "object", "properties": properties, "required": ["links"], "additionalProperties": false})
}

/// What POST takes.
pub(super) fn new(noun: Noun, version: Version) -> Value {
    let table = table(noun);
    let mut properties: Map<String, Value> = table
        .fields
        .iter()
        .filter(|spec| version.has(spec.since) && spec.write.at_create())
        .map(|spec| (spec.name.to_owned(), described(taken(noun, spec), spec.name, spec.since)))
        .collect();
    for (name, since) in table.besides.iter().filter(|(_, since)| version.has(*since)) {
        properties.insert((*name).to_owned(), described(json!({"type": "string"}), name, *since));
    }
    json!({
        "type": "object", "properties": properties, "required": table.required, "additionalProperties": false,
    })
}

/// A page.
pub(super) fn list(noun: Noun) -> Value {
    let collection = table(noun).collection;
    json!({
        "type": "object",
        "properties": {
            collection: {"type": "array", "items": {"$ref": format!("#/components/schemas/{}", noun_name(noun))}},
            "next": {"type": "string", "description": "The address of the next page; absent on the last one."},
        },
        "required": [collection],
        "additionalProperties": false,
    })
}

/// The values of a field in answers.
fn answered(spec: &Spec) -> Value {
    // answers of some fields are richer than what may be written to them
    if let Some(schema) = values::derived(spec.name, spec.kind == Kind::Derived) {
        return schema;
    }
    match spec.kind {
        Kind::Text(_) | Kind::Word(_) | Kind::Name => json!({"type": ["string", "null"]}),
        Kind::Uuid if spec.name == "uuid" => values::uuid(),
        Kind::Uuid => values::or_null(values::uuid()),
        Kind::RequiredUuid => values::uuid(),
        Kind::RequiredText(_) | Kind::Group | Kind::Trait | Kind::RunbookName => json!({"type": "string"}),
        Kind::Object => json!({"type": "object"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::MaybeBool => json!({"type": ["boolean", "null"]}),
        // a port group may have none
        Kind::Mac | Kind::MaybeMac => json!({"type": ["string", "null"]}),
        Kind::Integer => json!({"type": "integer"}),
        Kind::List => json!({"type": ["array", "null"], "items": {"type": "object"}}),
        Kind::Count(most) => json!({"type": "integer", "minimum": 0, "maximum": most}),
        Kind::Derived => json!({}),
    }
}

/// The values that a client may write.
fn taken(noun: Noun, spec: &Spec) -> Value {
    match spec.kind {
        Kind::Text(most) => json!({"type": ["string", "null"], "maxLength": most}),
        Kind::Word(most) => json!({"type": ["string", "null"], "minLength": 1, "maxLength": most}),
        Kind::RequiredText(most) => json!({"type": "string", "minLength": 1, "maxLength": most}),
        Kind::Name => {
            json!({"type": ["string", "null"], "minLength": 1, "maxLength": 255, "pattern": "^[A-Za-z0-9._~-]+$"})
        }
        Kind::Uuid => values::or_null(values::uuid()),
        Kind::RequiredUuid => values::uuid(),
        Kind::Object => json!({"type": ["object", "null"]}),
        Kind::Bool | Kind::MaybeBool => json!({"type": ["boolean", "null"]}),
        Kind::Group => json!({"type": ["string", "null"], "maxLength": 255, "pattern": "^[A-Za-z0-9_.-]*$"}),
        Kind::Mac => json!({"type": "string", "pattern": "^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$"}),
        Kind::MaybeMac => {
            json!({"type": ["string", "null"], "pattern": "^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$"})
        }
        Kind::Integer => json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX}),
        Kind::Trait => values::trait_name(),
        Kind::RunbookName => {
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[A-Za-z0-9._~-]+$"})
        }
        Kind::List => values::list_of(noun, spec.name),
        Kind::Count(most) => json!({"type": ["integer", "null"], "minimum": 0, "maximum": most}),
        Kind::Derived => json!({}),
    }
}

/// The fields whose values nothing in the document describes.
#[cfg(test)]
pub(super) fn undescribed() -> Vec<(Noun, &'static str)> {
    let nouns = [
        Noun::Node,
        Noun::Port,
        Noun::Chassis,
        Noun::Portgroup,
        Noun::Connector,
        Noun::Target,
        Noun::Allocation,
        Noun::Template,
        Noun::Runbook,
        Noun::Rule,
    ];
    let fields =
        nouns.into_iter().flat_map(|noun| table(noun).fields.into_iter().map(move |spec| (noun, spec)));
    fields.filter(|(_, spec)| answered(spec) == json!({})).map(|(noun, spec)| (noun, spec.name)).collect()
}
