//! The shapes of what hardware tells and is told, of networks, volumes and shards.

use serde_json::{Value, json};

use super::shapes::{arguments, body, boolean, closed, list, object, some_text, text};
use super::values::{links, one_of, or_null, uuid};
use crate::gates;
use crate::version::Version;

/// The shape with that name.
pub(super) fn named(name: &str, version: Version) -> Option<Value> {
    told(name, version).or_else(|| wanted(name, version)).or_else(|| networks(name, version))
}

fn moment() -> Value {
    or_null(json!({"type": "string", "format": "date-time"}))
}

/// What a node's hardware is like.
fn told(name: &str, version: Version) -> Option<Value> {
    Some(match name {
        "Console" => closed(
            version,
            &[
                ("console_enabled", 1, boolean()),
                (
                    "console_info",
                    1,
                    json!({"type": ["object", "null"], "properties": {"type": text(), "url": text()}}),
                ),
            ],
        ),
        "Indicators" => {
            let one = closed(
                version,
                &[
                    ("name", 1, text()),
                    ("component", 1, text()),
                    ("readonly", 1, boolean()),
                    ("states", 1, list(text())),
                    ("links", 1, links()),
                ],
            );
            closed(version, &[("indicators", 1, list(one))])
        }
        "Indicator" => {
            let lights = one_of(ferric_actors::IndicatorState::ALL.iter().map(|light| light.as_str()));
            body(version, &["state"], &[("state", 1, lights)])
        }
        "BiosSettings" => closed(version, &[("bios", 1, list(bios_setting(version)))]),
        "OneBiosSetting" => json!({
            "type": "object", "additionalProperties": bios_setting(version), "minProperties": 1, "maxProperties": 1,
        }),
        "Firmware" => {
            let value = |name: &str| if name.ends_with("_at") { moment() } else { some_text() };
            let keys: Vec<_> =
                gates::FIRMWARE_FIELDS.iter().map(|(name, since)| (*name, *since, value(name))).collect();
            let mut one = closed(version, &keys);
            // `fields` selects
            one["required"] = json!(["created_at", "updated_at"]);
            closed(version, &[("firmware", 1, list(one))])
        }
        "Vmedia" => {
            json!({"type": "object", "properties": {"vmedia": {"type": ["array", "null"], "items": object()}},
                           "required": ["vmedia"], "additionalProperties": false})
        }
        "VendorMethods" => {
            let one = closed(
                version,
                &[
                    ("http_methods", 1, list(text())),
                    ("async", 1, boolean()),
                    ("description", 1, text()),
                    ("attach", 1, boolean()),
                    ("require_exclusive_lock", 1, boolean()),
                ],
            );
            let mut one = one;
            // methods of hardware types take no lock
            one["required"] = json!(["http_methods", "async", "description", "attach"]);
            json!({"type": "object", "additionalProperties": one})
        }
        _ => return None,
    })
}

fn bios_setting(version: Version) -> Value {
    let registry = gates::BIOS_ARGS.iter().map(|arg| arg.since).max().unwrap_or(1);
    let value = |name: &str| match name {
        "created_at" | "updated_at" => moment(),
        "links" => links(),
        "read_only" | "reset_required" | "unique" => json!({"type": ["boolean", "null"]}),
        "lower_bound" | "upper_bound" | "min_length" | "max_length" => json!({"type": ["integer", "null"]}),
        "allowable_values" => json!({"type": ["array", "null"], "items": text()}),
        _ => some_text(),
    };
    let always = |name: &str| matches!(name, "name" | "value" | "created_at" | "updated_at" | "links");
    let keys: Vec<_> = gates::BIOS_FIELDS
        .iter()
        .map(|name| (*name, if always(name) { 1 } else { registry }, value(name)))
        .collect();
    let mut schema = closed(version, &keys);
    // `fields` and `detail` select
    schema["required"] = json!(["created_at", "updated_at", "links"]);
    schema
}

/// What a node's hardware is to be like.
fn wanted(name: &str, version: Version) -> Option<Value> {
    Some(match name {
        "NewConsole" => arguments(version, gates::CONSOLE_ARGS, &["enabled"], &[("enabled", boolean())]),
        "NewBootMode" => {
            arguments(version, gates::TARGET_ARGS, &["target"], &[("target", one_of(["bios", "uefi"]))])
        }
        "NewSecureBoot" => arguments(version, gates::TARGET_ARGS, &["target"], &[("target", boolean())]),
        "Empty" => json!({"type": ["object", "null"], "maxProperties": 0}),
        "RaidConfig" => json!({
            "type": "object",
            "properties": {"logical_disks": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "raid_level": {"type": "string"},
                    "size_gb": {"anyOf": [{"type": "integer", "minimum": 0}, one_of(["MAX"])]},
                    "is_root_volume": boolean(),
                },
                "required": ["raid_level", "size_gb"],
            }}},
        }),
        "NewVmedia" => body(
            version,
            &["device_type", "image_url"],
            &[
                ("device_type", 1, one_of(["cdrom", "disk", "floppy"])),
                ("image_url", 1, json!({"type": "string", "format": "uri"})),
                ("image_download_source", 1, one_of(["local", "http", "swift"])),
            ],
        ),
        _ => return None,
    })
}

fn networks(name: &str, version: Version) -> Option<Value> {
    let optional = || or_null(json!({"type": "string"}));
    Some(match name {
        "Vifs" => closed(version, &[("vifs", 1, list(closed(version, &[("id", 1, text())])))]),
        "NewVif" => json!({
            "type": "object",
            "properties": {
                "id": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[A-Za-z0-9._~-]+$"},
                "port_uuid": uuid(), "portgroup_uuid": uuid(),
            },
            "required": ["id"],
        }),
        "Shards" => {
            let one = closed(
                version,
                &[("name", 1, text()), ("count", 1, json!({"type": "integer", "minimum": 0}))],
            );
            closed(version, &[("shards", 1, list(one))])
        }
        "NetworkEvents" => {
            let event = body(
                version,
                &["event", "port_id", "mac_address", "status"],
                &[
                    ("event", 1, one_of(["network.bind_port", "network.unbind_port", "network.delete_port"])),
                    ("port_id", 1, uuid()),
                    ("mac_address", 1, super::values::mac()),
                    ("status", 1, text()),
                    ("device_id", 1, or_null(uuid())),
                    ("binding:host_id", 1, or_null(uuid())),
                    ("binding:vnic_type", 1, optional()),
                ],
            );
            body(
                version,
                &["events"],
                &[("events", 1, json!({"type": "array", "minItems": 1, "items": event}))],
            )
        }
        "Volume" => {
            closed(version, &[("connectors", 1, links()), ("targets", 1, links()), ("links", 1, links())])
        }
        _ => return None,
    })
}
