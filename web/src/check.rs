//! Values that clients send, checked by the kind of their field (api.md §3.2, §3.3, §4).

use serde_json::Value;

use crate::gates::{Field, Kind, RELAXED_NAMES, RELAXED_RUNBOOKS};
use crate::query::parse_uuid;
use crate::version::Version;

/// Names that are words of the path.
const RESERVED: &[&str] = &["maintenance", "management", "states", "vendor_passthru", "detail", "validate"];

/// Checks `value` for `field` and brings it into its stored form (lower case where that is the form, `{}` for a null
/// object, real booleans). The error is a sentence for the client; it never repeats a secret.
pub(crate) fn check<F: Field>(field: F, value: Value, version: Version) -> Result<Value, String> {
    let name = field.spec().name;
    let wrong = |expected: &str| Err(format!("Expected {expected} in '{name}'."));
    match field.spec().kind {
        Kind::Object => match value {
            Value::Null => Ok(Value::Object(serde_json::Map::new())),
            Value::Object(_) => Ok(value),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => wrong("an object"),
        },
        Kind::Bool | Kind::MaybeBool => match value {
            Value::Null | Value::Bool(_) => Ok(value),
            Value::String(text) => {
                crate::query::strict_bool(name, &text).map(Value::Bool).map_err(|error| error.to_string())
            }
            Value::Number(_) | Value::Object(_) | Value::Array(_) => wrong("true or false"),
        },
        Kind::RequiredText(_) | Kind::RequiredUuid | Kind::Mac | Kind::Trait | Kind::RunbookName
            if value.is_null() =>
        {
            Err(format!("'{name}' is required and may not be null."))
        }
        Kind::Text(_) | Kind::Name | Kind::Uuid | Kind::Group if value.is_null() => Ok(value),
        Kind::Text(max) | Kind::RequiredText(max) => text(name, &value, max).map(|()| value),
        Kind::Name => text(name, &value, 255).and_then(|()| {
            let given = value.as_str().unwrap_or_default();
            logical_name(name, given, version).map(|()| value.clone())
        }),
        Kind::Uuid | Kind::RequiredUuid => match value.as_str().and_then(parse_uuid) {
            Some(uuid) => Ok(Value::String(uuid.to_string())),
            None => wrong("a UUID"),
        },
        Kind::Group => text(name, &value, 255).and_then(|()| {
            let group = value.as_str().unwrap_or_default();
            let fits = group.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
            if fits {
                Ok(Value::String(group.to_ascii_lowercase()))
            } else {
                wrong("only A-Z, a-z, 0-9, _, - and .")
            }
        }),
        Kind::Mac => match value.as_str().and_then(mac) {
            Some(mac) => Ok(Value::String(mac)),
            None => wrong("a MAC address such as 52:54:00:12:34:56"),
        },
        Kind::Trait => text(name, &value, 255).and_then(|()| {
            let given = value.as_str().unwrap_or_default();
            trait_name(given).map_err(|why| format!("'{name}': {why}")).map(|()| value.clone())
        }),
        Kind::RunbookName => text(name, &value, 255).and_then(|()| {
            let given = value.as_str().unwrap_or_default();
            runbook_name(given, version).map(|()| value.clone())
        }),
        Kind::List => match value {
            Value::Null => Ok(Value::Array(Vec::new())),
            Value::Array(_) => Ok(value),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => wrong("a list"),
        },
        Kind::Count(most) => match (&value, value.as_i64()) {
            (Value::Null, _) => Ok(Value::from(0)),
            (_, Some(count)) if (0..=i64::from(most)).contains(&count) => Ok(value),
            _ => wrong(&format!("a whole number from 0 to {most}")),
        },
        Kind::Derived => Err(format!("'{name}' is not for clients to set.")),
    }
}

fn text(name: &str, value: &Value, max: usize) -> Result<(), String> {
    match value.as_str() {
        None => Err(format!("Expected a string in '{name}'.")),
        // PostgreSQL cannot store it
        Some(text) if text.contains('\0') => Err(format!("'{name}' has a NUL character in it.")),
        Some(text) if text.chars().count() > max => Err(format!("'{name}' is longer than {max} characters.")),
        Some(_) => Ok(()),
    }
}

fn logical_name(field: &str, name: &str, version: Version) -> Result<(), String> {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let host_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let fits = if version.has(RELAXED_NAMES) {
        !name.is_empty() && name.bytes().all(unreserved)
    } else {
        name.split('.').all(host_label)
    };
    if parse_uuid(name).is_some() {
        return Err(format!("'{field}' may not be a UUID: give it in 'uuid', or choose another name."));
    }
    if RESERVED.contains(&name) {
        return Err(format!("'{name}' is a reserved word and may not be used as '{field}'."));
    }
    if fits {
        return Ok(());
    }
    let allowed = if version.has(RELAXED_NAMES) {
        "A-Z, a-z, 0-9, -, ., _ and ~"
    } else {
        "the characters of a host name"
    };
    Err(format!("'{name}' cannot be used as '{field}': only {allowed} may occur in it."))
}

/// The first words of the standard traits (os-traits). What follows them grows with each release of theirs.
const STANDARD_TRAITS: &[&str] = &["COMPUTE_", "HW_", "MISC_", "OWNER_", "STORAGE_"];

/// Whether `name` is a trait: a standard one, or `CUSTOM_` and more.
pub(crate) fn trait_name(name: &str) -> Result<(), String> {
    let rest = STANDARD_TRAITS.iter().chain(&["CUSTOM_"]).find_map(|word| name.strip_prefix(word));
    let fits = |rest: &str| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    if name.len() <= 255 && rest.is_some_and(fits) {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(format!(
        "'{shown}' is no trait: it must be a standard one, such as HW_CPU_X86_VMX, or CUSTOM_ and capital letters, \
         digits and underscores, at most 255 characters."
    ))
}

fn runbook_name(name: &str, version: Version) -> Result<(), String> {
    if !version.has(RELAXED_RUNBOOKS) {
        return trait_name(name)
            .map_err(|why| format!("'name': {why} Since 1.{RELAXED_RUNBOOKS} other names are taken too."));
    }
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    if !name.is_empty() && name.bytes().all(unreserved) && parse_uuid(name).is_none() {
        return Ok(());
    }
    Err("'name': only A-Z, a-z, 0-9, -, ., _ and ~ may occur in the name of a runbook, and it may not be a UUID."
        .to_owned())
}

/// A MAC address in lower case with colons.
pub(crate) fn mac(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase().replace('-', ":");
    let parts: Vec<&str> = lower.split(':').collect();
    let fits = parts.len() == 6
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
    fits.then_some(lower)
}

/// `network_data`: empty, or with the three lists of nova's form.
pub(crate) fn network_data(value: &Value) -> Result<(), String> {
    let Some(map) = value.as_object().filter(|map| !map.is_empty()) else { return Ok(()) };
    for key in ["links", "networks", "services"] {
        if !map.get(key).is_some_and(Value::is_array) {
            return Err(format!(
                "'network_data' needs the lists 'links', 'networks' and 'services'; '{key}' is not one."
            ));
        }
    }
    match map.keys().find(|key| !["links", "networks", "services"].contains(&key.as_str())) {
        Some(key) => Err(format!("'network_data' has the unknown key '{key}'.")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gates::{NodeField, PortField, RuleField, RunbookField};

    #[test]
    fn values_are_checked_and_brought_into_form() {
        let v = Version::MAX;
        assert_eq!(check(PortField::Address, json!("AA-BB-CC-00-11-22"), v), Ok(json!("aa:bb:cc:00:11:22")));
        assert_eq!(check(NodeField::ConductorGroup, json!("Rack.1"), v), Ok(json!("rack.1")));
        assert_eq!(check(NodeField::Extra, json!(null), v), Ok(json!({})));
        assert_eq!(check(NodeField::Maintenance, json!("True"), v), Ok(json!(true)));
        for (field, bad) in [
            (NodeField::Driver, json!(null)),
            (NodeField::Driver, json!(7)),
            (NodeField::Extra, json!([])),
            (NodeField::InstanceUuid, json!("x")),
            (NodeField::ConductorGroup, json!("a b")),
            (NodeField::ResourceClass, json!("x".repeat(81))),
            (NodeField::Maintenance, json!("perhaps")),
            (NodeField::PowerState, json!("power on")),
        ] {
            assert!(check(field, bad.clone(), v).is_err(), "{field:?} {bad}");
        }
    }

    #[test]
    fn traits_are_standard_or_custom() {
        for good in ["CUSTOM_A", "CUSTOM_A_1", "HW_CPU_X86_VMX", "COMPUTE_NODE"] {
            assert_eq!(trait_name(good), Ok(()), "{good}");
        }
        let long = format!("CUSTOM_{}", "A".repeat(249));
        for bad in ["", "CUSTOM_", "custom_a", "CUSTOM_a", "CUSTOM-A", "A_B", "HW", long.as_str()] {
            assert!(trait_name(bad).is_err(), "{bad}");
        }
        let named = |name: &str, minor: u16| check(RunbookField::Name, json!(name), Version(minor)).is_ok();
        assert!(named("my-book", 112) && !named("my-book", 111) && named("CUSTOM_A", 92));
        assert!(!named("", 112) && !named("a b", 112) && !named("1be26c0b-03f2-4d2e-ae87-c02d7f33c123", 112));
        let count = |value: Value| check(RuleField::Priority, value, Version::MAX);
        assert_eq!((count(json!(9999)), count(json!(null))), (Ok(json!(9999)), Ok(json!(0))));
        assert!(count(json!(-1)).is_err() && count(json!(10000)).is_err() && count(json!("5")).is_err());
    }

    #[test]
    fn names_follow_their_version() {
        let named = |name: &str, minor: u16| check(NodeField::Name, json!(name), Version(minor)).is_ok();
        assert!(named("ns~host_1", 10) && !named("ns~host_1", 9));
        assert!(named("host-1.example.org", 9));
        for bad in ["detail", "1be26c0b-03f2-4d2e-ae87-c02d7f33c123", "", "a b", "a/b"] {
            assert!(!named(bad, 115), "{bad}");
        }
    }
}
