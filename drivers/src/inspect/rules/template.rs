//! Replacement fields: `{inventory[cpu][count]}`, `{node.driver_info[address]}`, `{item[name]}`; `{{` is a brace.

use serde_json::Value;

use super::super::subject::Subject;
use crate::interface::Json;

/// Keys whose values rules do not see unless they may.
const SECRET: [&str; 3] = ["password", "auth_token", "bmc_password"];

/// What they see instead.
const MASK: &str = "***";

/// What replacement fields may name.
pub(super) struct Scope<'a> {
    node: &'a Json,
    inventory: &'a Json,
    plugin_data: &'a Json,
    item: Option<&'a Value>,
    masked: bool,
    /// A field that does not exist is null, instead of leaving the text as it is.
    pub(super) absent_is_null: bool,
}

impl<'a> Scope<'a> {
    pub(super) fn new(subject: &'a Subject, masked: bool, item: Option<&'a Value>) -> Scope<'a> {
        Scope {
            node: &subject.node,
            inventory: &subject.inventory,
            plugin_data: &subject.plugin_data,
            item,
            masked,
            absent_is_null: false,
        }
    }

    /// The value that a field names.
    fn find(&self, field: &str) -> Option<Value> {
        let (name, mut rest) = field.split_at(field.find(['.', '[']).unwrap_or(field.len()));
        let (map, masked) = match name.trim() {
            "node" => (Some(self.node), false),
            "inventory" => (Some(self.inventory), self.masked),
            "plugin_data" => (Some(self.plugin_data), self.masked),
            // it was masked when it was filled in
            "item" => (None, false),
            _ => return None,
        };
        let mut value = match map {
            None => self.item?,
            // the whole of it: nothing follows the name
            Some(map) if rest.is_empty() => {
                let mut all = Value::Object(map.clone());
                if masked {
                    hide(&mut all);
                }
                return Some(all);
            }
            Some(map) => {
                let (key, after) = next_key(rest)?;
                if masked && SECRET.contains(&key) {
                    return Some(Value::String(MASK.into()));
                }
                rest = after;
                map.get(key)?
            }
        };
        while !rest.is_empty() {
            let (key, after) = next_key(rest)?;
            rest = after;
            value = match value {
                Value::Object(map) => map.get(key)?,
                Value::Array(list) => list.get(key.parse::<usize>().ok()?)?,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
            };
            if masked && SECRET.contains(&key) {
                return Some(Value::String(MASK.into()));
            }
        }
        let mut value = value.clone();
        if masked {
            hide(&mut value);
        }
        Some(value)
    }
}

/// The first of `[key]` and `.key`, and what follows.
fn next_key(rest: &str) -> Option<(&str, &str)> {
    match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']'),
        None => {
            let inner = rest.strip_prefix('.')?;
            Some(inner.split_at(inner.find(['.', '[']).unwrap_or(inner.len())))
        }
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if SECRET.contains(&key.as_str()) {
                    *value = Value::String(MASK.into());
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(hide),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A value as text, as Ironic's rules know it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Fills in the arguments named in `names`; all of them where there is an item to fill in.
pub(super) fn fill_args(args: &Json, scope: &Scope<'_>, names: &[&str], typed: bool) -> Json {
    args.iter()
        .map(|(name, value)| {
            let wanted = scope.item.is_some() || names.contains(&name.as_str());
            (name.clone(), if wanted { fill(value, scope, typed) } else { value.clone() })
        })
        .collect()
}

/// Fills in all texts of a value. What was filled in is not looked at again: it comes from the machine.
pub(super) fn fill(value: &Value, scope: &Scope<'_>, typed: bool) -> Value {
    match value {
        Value::String(text) => fill_text(text, scope, typed),
        Value::Array(list) => Value::Array(list.iter().map(|one| fill(one, scope, typed)).collect()),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (shown(&fill_text(key, scope, false)), fill(value, scope, typed)))
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn fill_text(text: &str, scope: &Scope<'_>, typed: bool) -> Value {
    match parts(text) {
        Ok(parts) => match parts.as_slice() {
            [Part::Field(field)] => match scope.find(field) {
                // a list or an object is of no use as a text
                Some(value @ (Value::Array(_) | Value::Object(_))) => value,
                Some(value) if typed => value,
                Some(value) => Value::String(shown(&value)),
                None => left(text, scope),
            },
            parts => {
                let mut out = String::new();
                for part in parts {
                    match part {
                        Part::Text(text) => out.push_str(text),
                        Part::Field(field) => match scope.find(field) {
                            Some(value) => out.push_str(&shown(&value)),
                            None => return left(text, scope),
                        },
                    }
                }
                Value::String(out)
            }
        },
        Err(()) => Value::String(text.to_owned()),
    }
}

fn left(text: &str, scope: &Scope<'_>) -> Value {
    if scope.absent_is_null { Value::Null } else { Value::String(text.to_owned()) }
}

enum Part {
    Text(String),
    Field(String),
}

/// Cuts a text at its braces. Errors: braces that do not match, or formats, which are not supported.
fn parts(text: &str) -> Result<Vec<Part>, ()> {
    let mut all = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let (brace, after) = (&rest[at..=at], &rest[at + 1..]);
        if let Some(after) = after.strip_prefix(brace) {
            plain.push_str(brace);
            rest = after;
            continue;
        }
        if brace == "}" {
            return Err(());
        }
        let (field, after) = after.split_once('}').ok_or(())?;
        if field.contains(['{', ':', '!']) {
            return Err(());
        }
        if !plain.is_empty() {
            all.push(Part::Text(std::mem::take(&mut plain)));
        }
        all.push(Part::Field(field.to_owned()));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        all.push(Part::Text(plain));
    }
    Ok(all)
}
