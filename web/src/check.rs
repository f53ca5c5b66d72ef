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
    let kind = field.spec().kind;
    let wrong = |value: &Value, expected: &str, remedy: &str| {
        Err(not_of_type(&noun::<F>(), value, expected, &format!("'{name}' takes {remedy}.")))
    };
    let text = |value: &Value, max: usize| text::<F>(name, value, max, !nullable(kind));
    match kind {
        Kind::Object => match value {
            Value::Null => Ok(Value::Object(serde_json::Map::new())),
            Value::Object(_) => Ok(value),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                wrong(&value, "'object', 'null'", "a JSON object")
            }
        },
        Kind::Bool | Kind::MaybeBool => match value {
            Value::Null | Value::Bool(_) => Ok(value),
            Value::String(text) => {
                crate::query::strict_bool(name, &text).map(Value::Bool).map_err(|error| error.to_string())
            }
            Value::Number(_) | Value::Object(_) | Value::Array(_) => {
                wrong(&value, "'string', 'boolean', 'null'", "true or false")
            }
        },
        Kind::Text(_) | Kind::Word(_) | Kind::Name | Kind::Uuid | Kind::Group | Kind::MaybeMac
            if value.is_null() =>
        {
            Ok(value)
        }
        Kind::Text(max) | Kind::RequiredText(max) => text(&value, max).map(|()| value),
        Kind::Word(_) if value == "" => {
            Err(format!("Schema error for {}: '' should be non-empty", noun::<F>()))
        }
        Kind::Word(max) => text(&value, max).map(|()| value),
        Kind::Name => text(&value, 255).and_then(|()| {
            let given = value.as_str().unwrap_or_default();
            logical_name(&F::WHAT.to_lowercase(), given, version).map(|()| value.clone())
        }),
        Kind::Uuid | Kind::RequiredUuid => match (&value, value.as_str().and_then(parse_uuid)) {
            (_, Some(uuid)) => Ok(Value::String(uuid.to_string())),
            (Value::String(given), None) => Err(format!("Expected UUID for {name}: {}", start_of(given))),
            (_, None) => text(&value, 36).map(|()| value.clone()),
        },
        // which groups there are is the directory's business
        Kind::Group => {
            text(&value, 255).map(|()| Value::String(value.as_str().unwrap_or_default().to_ascii_lowercase()))
        }
        Kind::Mac | Kind::MaybeMac => match (&value, value.as_str().and_then(mac)) {
            (_, Some(mac)) => Ok(Value::String(mac)),
            (Value::String(given), None) => Err(format!(
                "Expected valid MAC address for {name}: {}. One is such as 52:54:00:12:34:56.",
                start_of(given)
            )),
            (_, None) => text(&value, 255).map(|()| value.clone()),
        },
        Kind::Trait => text(&value, 255).and_then(|()| {
            let given = value.as_str().unwrap_or_default();
            trait_name(given).map_err(|why| not_a_trait(&noun::<F>(), given, &why)).map(|()| value.clone())
        }),
        Kind::RunbookName => text(&value, 255).and_then(|()| {
            let given = value.as_str().unwrap_or_default();
            runbook_name(given, version).map(|()| value.clone())
        }),
        Kind::List => match value {
            Value::Null => Ok(Value::Array(Vec::new())),
            Value::Array(_) => Ok(value),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                wrong(&value, "'array'", "a list")
            }
        },
        Kind::Count(most) => match (&value, value.as_i64()) {
            (Value::Null, _) => Ok(Value::from(0)),
            (_, Some(count)) if (0..=i64::from(most)).contains(&count) => Ok(value),
            _ => wrong(&value, "'integer'", &format!("a whole number from 0 to {most}")),
        },
        Kind::Integer => match value.as_i64().or_else(|| whole(&value)) {
            Some(number) => Ok(Value::from(number)),
            None => wrong(&value, "'integer'", "a whole number of 64 bits"),
        },
        Kind::Derived => Err(format!("'{name}' is not for clients to set.")),
    }
}

/// `2.0` is a whole number too.
fn whole(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < EXACT)?;
    #[allow(clippy::cast_possible_truncation)] // it is whole, and small enough to be exact
    Some(number as i64)
}

/// The resource as Ironic's texts name it: `deploy_template`.
pub(crate) fn noun<F: Field>() -> String {
    let what = F::WHAT.strip_prefix("Volume ").unwrap_or(F::WHAT);
    what.to_lowercase().replace(' ', "_")
}

/// Whether null is a value of that kind.
pub(crate) fn nullable(kind: Kind) -> bool {
    match kind {
        Kind::RequiredText(_)
        | Kind::RequiredUuid
        | Kind::Mac
        | Kind::Integer
        | Kind::Trait
        | Kind::RunbookName => false,
        Kind::Text(_)
        | Kind::Word(_)
        | Kind::Name
        | Kind::Uuid
        | Kind::Object
        | Kind::Bool
        | Kind::MaybeBool
        | Kind::Group
        | Kind::MaybeMac
        | Kind::List
        | Kind::Count(_)
        | Kind::Derived => true,
    }
}

/// The beginning of what a client sent, for a text that goes back to it.
fn start_of(given: &str) -> String {
    given.chars().take(300).collect()
}

/// A value as it stands in Ironic's texts, which is Python's way: `None`, `'text'`, `{'a': 1}`. The beginning of it.
pub(crate) fn shown(value: &Value) -> String {
    fn put(value: &Value, out: &mut String) {
        if out.len() > 300 {
            return;
        }
        match value {
            Value::Null => out.push_str("None"),
            Value::Bool(true) => out.push_str("True"),
            Value::Bool(false) => out.push_str("False"),
            Value::Number(number) => out.push_str(&number.to_string()),
            Value::String(text) => {
                out.push('\'');
                out.push_str(&start_of(text));
                out.push('\'');
            }
            Value::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    put(item, out);
                }
                out.push(']');
            }
            Value::Object(map) => {
                out.push('{');
                for (at, (key, item)) in map.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    out.push_str(&format!("'{}': ", start_of(key)));
                    put(item, out);
                }
                out.push('}');
            }
        }
    }
    let mut out = String::new();
    put(value, &mut out);
    out
}

/// What Ironic says to a value of a wrong type, and what to do.
pub(crate) fn not_of_type(what: &str, value: &Value, types: &str, remedy: &str) -> String {
    format!("Schema error for {what}: {} is not of type {types}. {remedy}", shown(value))
}

/// What Ironic says to something that is no trait, and why it is none.
pub(crate) fn not_a_trait(what: &str, given: &str, why: &str) -> String {
    format!(
        "Schema error for {what}: '{given}' is not valid under any of the given schemas. Possible root cause: '{given}' \
         does not match '^CUSTOM_[A-Z0-9_]+$'. {why}",
        given = start_of(given)
    )
}

fn text<F: Field>(name: &str, value: &Value, max: usize, required: bool) -> Result<(), String> {
    let what = noun::<F>();
    match value.as_str() {
        None => {
            let types = if required { "'string'" } else { "'string', 'null'" };
            Err(not_of_type(&what, value, types, &format!("'{name}' takes a string.")))
        }
        // PostgreSQL cannot store it
        Some(text) if text.contains('\0') => Err(format!("'{name}' has a NUL character in it.")),
        Some(text) if text.chars().count() > max => Err(format!(
            "Schema error for {what}: {} is too long. '{name}' takes at most {max} characters.",
            shown(value)
        )),
        Some(_) => Ok(()),
    }
}

/// Whether it can be a name at all: what a path can hold unencoded.
pub(crate) fn is_logical_name(name: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    !name.is_empty() && name.bytes().all(unreserved)
}

fn logical_name(what: &str, name: &str, version: Version) -> Result<(), String> {
    let host_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let fits =
        if version.has(RELAXED_NAMES) { is_logical_name(name) } else { name.split('.').all(host_label) };
    if parse_uuid(name).is_some() {
        return Err(format!(
            "Cannot create {what} with invalid name '{name}'. A name may not be a UUID: choose another."
        ));
    }
    if RESERVED.contains(&name) {
        return Err(format!(
            "The word \"{name}\" is reserved and can not be used as a {what} name. Reserved words are: {}.",
            RESERVED.join(", ")
        ));
    }
    if fits {
        return Ok(());
    }
    let allowed = if version.has(RELAXED_NAMES) {
        "A-Z, a-z, 0-9, -, ., _ and ~"
    } else {
        "the characters of a host name"
    };
    let name = start_of(name);
    Err(format!("Cannot create {what} with invalid name '{name}'. Only {allowed} may occur in it."))
}

/// The standard traits: the names that os-traits 3.9.0 has, sorted.
static STANDARD_TRAITS: std::sync::LazyLock<Vec<&str>> =
    std::sync::LazyLock::new(|| include_str!("standard_traits.txt").lines().collect());

/// Whether `name` is a trait: a standard one, or `CUSTOM_` and more.
pub(crate) fn trait_name(name: &str) -> Result<(), String> {
    let fits = |rest: &str| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    let custom = name.len() <= 255 && name.strip_prefix("CUSTOM_").is_some_and(fits);
    if custom || STANDARD_TRAITS.binary_search(&name).is_ok() {
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
        return trait_name(name).map_err(|why| {
            not_a_trait("runbook", name, &format!("{why} Since 1.{RELAXED_RUNBOOKS} other names are too."))
        });
    }
    if is_logical_name(name) && parse_uuid(name).is_none() {
        return Ok(());
    }
    Err(format!(
        "Schema error for runbook: '{}' does not match '^[A-Za-z0-9\\\\-._~]+$'. It may not be a UUID either.",
        start_of(name)
    ))
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
        match map.get(key) {
            None => {
                return Err(format!(
                    "Invalid network_data: '{key}' is a required property. It takes the lists 'links', 'networks' and \
                     'services'."
                ));
            }
            Some(Value::Array(_)) => {}
            Some(other) => {
                return Err(format!("Invalid network_data: {} is not of type 'array'", shown(other)));
            }
        }
    }
    match map.keys().find(|key| !["links", "networks", "services"].contains(&key.as_str())) {
        Some(key) => Err(format!(
            "Invalid network_data: Additional properties are not allowed ('{key}' was unexpected)"
        )),
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
        for bad in [
            "",
            "CUSTOM_",
            "custom_a",
            "CUSTOM_a",
            "CUSTOM-A",
            "A_B",
            "HW",
            "HW_CPU_OF_TOMORROW",
            long.as_str(),
        ] {
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
