//! The shapes of what hardware tells and is told: sub-resources of nodes, volumes, shards.

use ferric_actors::IndicatorState;
use ferric_machine::BootMode;
use serde_json::{Value, json};

use super::shapes::{body, boolean, closed, list, object, some_text, text};
use super::values::{links, one_of};
use crate::version::Version;

/// The shape with that name.
pub(super) fn named(name: &str, version: Version) -> Option<Value> {
    let light = || one_of(IndicatorState::ALL.iter().map(|state| state.as_str()));
    Some(match name {
        "RaidConfig" => raid(version),
        "Console" => closed(
            version,
            &[
                ("console_enabled", 1, boolean()),
                (
                    "console_info",
                    1,
                    json!({"type": ["object", "null"], "description": "type and url; null while it is off"}),
                ),
            ],
        ),
        "NewConsole" => body(version, &["enabled"], &[("enabled", 1, boolean())]),
        "NewBootMode" => {
            let modes = one_of(BootMode::ALL.iter().map(|mode| mode.as_str()));
            body(version, &["target"], &[("target", 1, modes)])
        }
        "NewSecureBoot" => body(version, &["target"], &[("target", 1, boolean())]),
        "Empty" => body(version, &[], &[]),
        "Indicator" => closed(version, &[("state", 1, light())]),
        "Indicators" => {
            let one = closed(
                version,
                &[
                    ("name", 1, text()),
                    ("component", 1, text()),
                    ("readonly", 1, boolean()),
                    ("states", 1, list(light())),
                    ("links", 1, links()),
                ],
            );
            closed(version, &[("indicators", 1, list(one))])
        }
        "BiosSettings" => closed(version, &[("bios", 1, list(setting(version)))]),
        "OneBiosSetting" => json!({"type": "object", "additionalProperties": setting(version)}),
        "Firmware" => {
            let component = body(
                version,
                &[],
                &[
                    ("component", 86, text()),
                    ("initial_version", 86, text()),
                    ("current_version", 86, some_text()),
                    ("last_version_flashed", 86, some_text()),
                    ("vendor", 114, some_text()),
                    ("model", 114, some_text()),
                    ("serial_number", 114, some_text()),
                    ("created_at", 86, some_text()),
                    ("updated_at", 86, some_text()),
                ],
            );
            closed(version, &[("firmware", 86, list(component))])
        }
        "Vmedia" => closed(version, &[("vmedia", 93, list(object()))]),
        "NewVmedia" => body(
            version,
            &["device_type", "image_url"],
            &[
                ("device_type", 89, one_of(["cdrom", "disk", "floppy"])),
                ("image_url", 89, json!({"type": "string", "pattern": "^(https?|nfs|cifs|smb):"})),
                ("image_download_source", 89, one_of(["http", "local", "swift"])),
            ],
        ),
        "VendorMethods" => {
            let method = json!({
                "type": "object",
                "properties": {
                    "http_methods": list(text()), "async": boolean(), "description": text(), "attach": boolean(),
                    "require_exclusive_lock": boolean(),
                },
                "required": ["http_methods", "async", "description", "attach"],
                "additionalProperties": false,
            });
            json!({"type": "object", "additionalProperties": method})
        }
        _ => return None,
    })
}

/// A BIOS setting; which of its keys are there is chosen by the request.
fn setting(version: Version) -> Value {
    let number = || json!({"type": ["integer", "null"]});
    let flag = || json!({"type": ["boolean", "null"]});
    body(
        version,
        &[],
        &[
            ("name", 1, text()),
            ("value", 1, some_text()),
            ("links", 1, links()),
            ("created_at", 1, some_text()),
            ("updated_at", 1, some_text()),
            ("attribute_type", 74, some_text()),
            ("allowable_values", 74, list(json!({}))),
            ("lower_bound", 74, number()),
            ("max_length", 74, number()),
            ("min_length", 74, number()),
            ("read_only", 74, flag()),
            ("reset_required", 74, flag()),
            ("unique", 74, flag()),
            ("upper_bound", 74, number()),
        ],
    )
}

/// A RAID configuration that is wanted; an empty one is none.
fn raid(version: Version) -> Value {
    let disk = body(
        version,
        &["raid_level", "size_gb"],
        &[
            ("raid_level", 12, one_of(["JBOD", "0", "1", "2", "5", "6", "1+0", "5+0", "6+0"])),
            ("size_gb", 12, json!({"anyOf": [{"type": "integer", "minimum": 0}, one_of(["MAX"])]})),
            ("volume_name", 12, text()),
            ("is_root_volume", 12, boolean()),
            ("share_physical_disks", 12, boolean()),
            ("disk_type", 12, one_of(["hdd", "ssd"])),
            ("interface_type", 12, one_of(["sata", "scsi", "sas"])),
            ("number_of_physical_disks", 12, json!({"type": "integer", "minimum": 1})),
            ("controller", 12, text()),
            ("physical_disks", 12, json!({"type": "array"})),
        ],
    );
    let disks = json!({"type": "array", "items": disk, "minItems": 1});
    body(version, &[], &[("logical_disks", 12, disks)])
}
