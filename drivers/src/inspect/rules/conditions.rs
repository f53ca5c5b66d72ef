//! Conditions.

use std::cmp::Ordering;
use std::net::IpAddr;

use regex::Regex;
use serde_json::Value;

use super::Signature;
use super::template::shown;
use crate::interface::Json;

/// Ironic's eleven, and three that its documentation once had.
pub(super) const NAMES: [&str; 14] = [
    "eq", "ne", "lt", "gt", "le", "ge", "is-empty", "in-net", "matches", "contains", "one-of", "is-none",
    "is-true", "is-false",
];

pub(super) fn signature(op: &str) -> Option<Signature> {
    Some(match op {
        "eq" | "ne" | "lt" | "gt" | "le" | "ge" => {
            Signature { required: &["values"], optional: &["force_strings"] }
        }
        "is-empty" | "is-none" | "is-true" | "is-false" => Signature { required: &["value"], optional: &[] },
        "in-net" => Signature { required: &["address", "subnet"], optional: &[] },
        "matches" | "contains" => Signature { required: &["value", "regex"], optional: &[] },
        "one-of" => Signature { required: &["value"], optional: &["values"] },
        _ => return None,
    })
}

/// The arguments in which replacement fields are filled in.
pub(super) fn filled(op: &str) -> &'static [&'static str] {
    match op {
        "in-net" => &["address", "subnet"],
        _ => &["value", "values"],
    }
}

/// What can be told before there is anything to compare.
pub(super) fn check_args(op: &str, args: &Json) -> Result<(), String> {
    match (op, args.get("regex").and_then(Value::as_str)) {
        ("matches" | "contains", Some(text)) => pattern(op, text).map(|_| ()),
        ("matches" | "contains", None) => Err("'regex' has to be a text".into()),
        (_, _) => Ok(()),
    }
}

fn pattern(op: &str, text: &str) -> Result<Regex, String> {
    let whole = format!("^(?:{text})$");
    Regex::new(if op == "matches" { &whole } else { text })
        .map_err(|error| format!("invalid regular expression: {error}"))
}

pub(super) fn holds(op: &str, args: &Json) -> Result<bool, String> {
    let value = args.get("value").unwrap_or(&Value::Null);
    Ok(match op {
        "eq" => in_order(op, args, |a, b, strings| Ok(equal(a, b, strings)))?,
        "ne" => in_order(op, args, |a, b, strings| Ok(!equal(a, b, strings)))?,
        "lt" => in_order(op, args, |a, b, strings| Ok(compare(a, b, strings)?.is_lt()))?,
        "gt" => in_order(op, args, |a, b, strings| Ok(compare(a, b, strings)?.is_gt()))?,
        "le" => in_order(op, args, |a, b, strings| Ok(compare(a, b, strings)?.is_le()))?,
        "ge" => in_order(op, args, |a, b, strings| Ok(compare(a, b, strings)?.is_ge()))?,
        "is-empty" => matches!(shown(value).as_str(), "" | "None" | "[]" | "{}"),
        "is-none" => value.is_null(),
        "is-true" => match value {
            Value::Bool(value) => *value,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => matches!(text.to_lowercase().as_str(), "yes" | "true"),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        },
        "is-false" => match value {
            Value::Bool(value) => !value,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => matches!(text.to_lowercase().as_str(), "no" | "false"),
            Value::Null => true,
            Value::Array(_) | Value::Object(_) => false,
        },
        "one-of" => match args.get("values") {
            None => false,
            Some(Value::Array(list)) => list.iter().any(|one| equal(value, one, false)),
            Some(_) => return Err("'values' has to be a list".into()),
        },
        "in-net" => in_net(args)?,
        "matches" | "contains" => {
            let text = args.get("regex").and_then(Value::as_str).ok_or("'regex' has to be a text")?;
            pattern(op, text)?.is_match(&shown(value))
        }
        other => return Err(format!("Unsupported operator '{other}'.")),
    })
}

/// Whether each neighbour of the list holds.
fn in_order(
    op: &str,
    args: &Json,
    test: impl Fn(&Value, &Value, bool) -> Result<bool, String>,
) -> Result<bool, String> {
    let strings = args.get("force_strings").and_then(Value::as_bool).unwrap_or(false);
    let Some(Value::Array(list)) = args.get("values") else {
        return Err(format!("{op} needs a list for 'values'"));
    };
    for pair in list.windows(2) {
        if !test(&pair[0], &pair[1], strings)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn equal(a: &Value, b: &Value, strings: bool) -> bool {
    if a == b {
        return true;
    }
    let same_kind = a.is_string() == b.is_string();
    if strings || !same_kind {
        let (a_text, b_text) = (shown(a), shown(b));
        return a_text == b_text || (!strings && number(a).is_some() && number(a) == number(b));
    }
    // 1 and 1.0
    a.is_number() && number(a) == number(b)
}

fn compare(a: &Value, b: &Value, strings: bool) -> Result<Ordering, String> {
    if !strings && let (Some(a), Some(b)) = (number(a), number(b)) {
        return a.partial_cmp(&b).ok_or_else(|| "no order".into());
    }
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (a, b) if strings => Ok(shown(a).cmp(&shown(b))),
        (a, b) => Err(format!("{} and {} cannot be compared", shown(a), shown(b))),
    }
}

fn in_net(args: &Json) -> Result<bool, String> {
    let subnet = shown(args.get("subnet").unwrap_or(&Value::Null));
    let net: ipnet::IpNet = match subnet.parse::<IpAddr>() {
        Ok(one) => one.into(),
        Err(_) => subnet.parse().map_err(|_| format!("invalid value: '{subnet}' is no subnet"))?,
    };
    // a machine without such an address is in no subnet
    let address = shown(args.get("address").unwrap_or(&Value::Null)).parse::<IpAddr>();
    Ok(address.is_ok_and(|address| net.contains(&address)))
}
