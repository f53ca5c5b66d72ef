//! Bodies of what tells how machines are.

use serde_json::{Value, json};

use super::shapes::{body, boolean, closed, list, some_text, text};
use super::values::{one_of, or_null, uuid};
use crate::version::Version;

fn number() -> Value {
    json!({"type": ["number", "null"]})
}

fn health() -> Value {
    one_of(["ok", "warning", "critical", "unknown"])
}

/// A moment as the API writes it.
fn moment() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// How the looks at the fleet's power go.
pub(super) fn fleet(name: &str, version: Version) -> Option<Value> {
    let count = || json!({"type": "integer", "minimum": 0});
    let seconds = || json!({"type": "number", "minimum": 0});
    let percentiles = || {
        closed(
            version,
            &[
                ("count", 1, count()),
                ("p50", 1, seconds()),
                ("p90", 1, seconds()),
                ("p99", 1, seconds()),
                ("longest", 1, seconds()),
            ],
        )
    };
    let sweep = || {
        let one = closed(
            version,
            &[
                ("number", 1, count()),
                ("began_at", 1, moment()),
                ("ended_at", 1, or_null(moment())),
                ("seconds", 1, seconds()),
                ("nodes", 1, count()),
                ("answered", 1, count()),
                ("silent", 1, count()),
                ("left_out", 1, count()),
                ("round_trip", 1, percentiles()),
            ],
        );
        json!({"anyOf": [one, {"type": "null"}]})
    };
    Some(match name {
        "Sweep" => closed(version, &[("number", 1, count())]),
        "FleetHealth" => {
            let sync = closed(
                version,
                &[
                    ("interval_seconds", 1, seconds()),
                    ("nodes", 1, count()),
                    ("silent", 1, count()),
                    ("not_asked", 1, count()),
                    ("lag_seconds", 1, seconds()),
                    ("under_way", 1, count()),
                    ("round_trip", 1, percentiles()),
                    ("sweep", 1, sweep()),
                    ("last_sweep", 1, sweep()),
                ],
            );
            closed(version, &[("nodes", 1, count()), ("power_sync", 1, sync)])
        }
        _ => return None,
    })
}

pub(super) fn named(name: &str, version: Version) -> Option<Value> {
    Some(match name {
        "NodeSensors" => {
            let limits = closed(
                version,
                &[
                    ("lower_non_recoverable", 1, number()),
                    ("lower_critical", 1, number()),
                    ("lower_non_critical", 1, number()),
                    ("upper_non_critical", 1, number()),
                    ("upper_critical", 1, number()),
                    ("upper_non_recoverable", 1, number()),
                ],
            );
            let sensor = closed(
                version,
                &[
                    ("name", 1, text()),
                    ("number", 1, json!({"type": "integer", "minimum": 0, "maximum": 255})),
                    ("type", 1, text()),
                    ("value", 1, number()),
                    ("unit", 1, some_text()),
                    ("state", 1, one_of(["ok", "warning", "critical", "not_present", "unknown"])),
                    ("states", 1, list(text())),
                    ("thresholds", 1, json!({"anyOf": [limits, {"type": "null"}]})),
                ],
            );
            closed(
                version,
                &[
                    ("node_uuid", 1, uuid()),
                    ("read_at", 1, moment()),
                    ("age_seconds", 1, json!({"type": "number", "minimum": 0})),
                    ("health", 1, health()),
                    ("reasons", 1, list(text())),
                    ("sensors", 1, list(sensor)),
                ],
            )
        }
        "NodeEventLog" => {
            let entry = closed(
                version,
                &[
                    ("id", 1, json!({"type": "integer", "minimum": 0, "maximum": 65535})),
                    ("at", 1, or_null(moment())),
                    ("sensor", 1, some_text()),
                    ("sensor_type", 1, some_text()),
                    ("event", 1, text()),
                    ("asserted", 1, json!({"type": ["boolean", "null"]})),
                    ("severity", 1, health()),
                    ("raw", 1, text()),
                ],
            );
            closed(
                version,
                &[
                    ("node_uuid", 1, uuid()),
                    ("count", 1, json!({"type": "integer", "minimum": 0})),
                    ("overflow", 1, boolean()),
                    ("entries", 1, list(entry)),
                ],
            )
        }
        "NodeFru" => {
            let area = || {
                json!({
                    "type": ["object", "null"],
                    "properties": {"extra": list(text()), "checksum_ok": boolean(), "mfg_date": moment()},
                    "required": ["extra", "checksum_ok"],
                    "additionalProperties": text(),
                })
            };
            let fru = closed(
                version,
                &[
                    ("id", 1, json!({"type": "integer", "minimum": 0, "maximum": 255})),
                    ("name", 1, text()),
                    ("chassis", 1, area()),
                    ("board", 1, area()),
                    ("product", 1, area()),
                ],
            );
            closed(version, &[("node_uuid", 1, uuid()), ("fru", 1, list(fru))])
        }
        "Identify" => body(
            version,
            &["on"],
            &[
                ("on", 1, boolean()),
                ("seconds", 1, json!({"type": ["integer", "null"], "minimum": 1, "maximum": 255})),
            ],
        ),
        "Metrics" => text(),
        _ => return None,
    })
}
