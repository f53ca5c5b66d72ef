//! Actions.

use serde_json::{Value, json};

use super::super::subject::{PortDraft, Subject};
use super::template::shown;
use super::{Rule, Signature};
use crate::interface::Json;

pub(super) const NAMES: [&str; 15] = [
    "fail",
    "log",
    "set-attribute",
    "extend-attribute",
    "del-attribute",
    "set-capability",
    "unset-capability",
    "add-trait",
    "remove-trait",
    "set-plugin-data",
    "extend-plugin-data",
    "unset-plugin-data",
    "set-port-attribute",
    "extend-port-attribute",
    "del-port-attribute",
];

const LEVELS: [&str; 5] = ["debug", "info", "warning", "error", "critical"];

pub(super) fn signature(op: &str) -> Option<Signature> {
    let of = |required, optional| Signature { required, optional };
    Some(match op {
        "fail" => of(&["msg"], &[]),
        "log" => of(&["msg"], &["level"]),
        "set-attribute" | "set-plugin-data" => of(&["path", "value"], &[]),
        "extend-attribute" | "extend-plugin-data" => of(&["path", "value"], &["unique"]),
        "del-attribute" | "unset-plugin-data" => of(&["path"], &[]),
        "set-capability" => of(&["name", "value"], &[]),
        "unset-capability" | "add-trait" | "remove-trait" => of(&["name"], &[]),
        "set-port-attribute" => of(&["port_id", "path", "value"], &[]),
        "extend-port-attribute" => of(&["port_id", "path", "value"], &["unique"]),
        "del-port-attribute" => of(&["port_id", "path"], &[]),
        "api-call" => of(&["url"], &["headers", "proxies", "timeout", "retries", "backoff_factor"]),
        _ => return None,
    })
}

/// The arguments in which replacement fields are filled in.
pub(super) fn filled(op: &str) -> &'static [&'static str] {
    match op {
        "fail" | "log" => &["msg"],
        _ => &["value"],
    }
}

/// What can be told before there is a node.
pub(super) fn check_args(op: &str, args: &Json) -> Result<(), String> {
    let texts: &[&str] = match op {
        "api-call" => {
            return Err(
                "requests to other services are not made during an inspection; poll the node's events \
                        or its history instead"
                    .into(),
            );
        }
        "set-port-attribute" | "extend-port-attribute" | "del-port-attribute" => &["port_id", "path"],
        _ => &["path", "name", "level"],
    };
    for key in texts {
        match args.get(*key) {
            None | Some(Value::String(_)) => {}
            Some(_) => return Err(format!("'{key}' has to be a text")),
        }
    }
    match args.get("level").and_then(Value::as_str) {
        Some(level) if !LEVELS.contains(&level.to_lowercase().as_str()) => {
            Err(format!("Invalid log level: {level}. Choose from {}", LEVELS.join(", ")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Carries an action out. The error is a whole sentence.
pub(super) fn run(op: &str, args: &Json, rule: &Rule, subject: &mut Subject) -> Result<(), String> {
    let text = |key: &str| args.get(key).map(shown).unwrap_or_default();
    let value = || args.get("value").cloned().unwrap_or(Value::Null);
    let unique = args.get("unique").and_then(Value::as_bool).unwrap_or(false);
    let (path, name) = (text("path"), text("name"));
    let done = match op {
        "fail" => return Err(format!("Failed to inspect hardware. Reason: {}", text("msg"))),
        "log" => {
            log(rule, subject, &text("level"), &text("msg"));
            Ok(())
        }
        "set-attribute" => attribute(subject, &path, |at| at.set(value())),
        "extend-attribute" => attribute(subject, &path, |at| at.extend(value(), unique)),
        "del-attribute" => attribute(subject, &path, |at| at.remove()),
        "set-capability" => {
            subject.set_capabilities(&[(name.clone(), Some(shown(&value())))]);
            Ok(())
        }
        "unset-capability" => {
            subject.set_capabilities(&[(name.clone(), None)]);
            Ok(())
        }
        "add-trait" => traits(subject, |all| {
            if !all.contains(&json!(name)) {
                all.push(json!(name));
            }
        }),
        "remove-trait" => traits(subject, |all| all.retain(|one| *one != json!(name))),
        "set-plugin-data" => plugin_data(subject, &path, |at| at.set(value())),
        "extend-plugin-data" => plugin_data(subject, &path, |at| at.extend(value(), unique)),
        // what is not there need not be taken away
        "unset-plugin-data" => {
            if plugin_data(subject, &path, |at| at.remove()).is_err() {
                tracing::warn!(node = %subject.uuid, rule = rule.uuid, "plugin data to unset is not there");
            }
            Ok(())
        }
        "set-port-attribute" => port(subject, &text("port_id"), &path, |at| at.set(value())),
        "extend-port-attribute" => port(subject, &text("port_id"), &path, |at| at.extend(value(), unique)),
        "del-port-attribute" => port(subject, &text("port_id"), &path, |at| at.remove()),
        other => Err(format!("Unsupported action '{other}'.")),
    };
    let at = if path.is_empty() { name } else { path };
    done.map_err(|error| {
        format!("Inspection rule action execution failed. Reason: rule {}: {op} {at}: {error}", rule.uuid)
    })
}

fn log(rule: &Rule, subject: &Subject, level: &str, msg: &str) {
    let msg = if rule.sensitive { "(not shown: the rule is sensitive)" } else { msg };
    let (node, rule) = (subject.uuid, rule.uuid.as_str());
    match level.to_lowercase().as_str() {
        "debug" => tracing::debug!(%node, rule, "{msg}"),
        "warning" => tracing::warn!(%node, rule, "{msg}"),
        "error" | "critical" => tracing::error!(%node, rule, "{msg}"),
        _ => tracing::info!(%node, rule, "{msg}"),
    }
}

/// A place in a document: the value that holds it, and the way from there.
struct At<'a> {
    root: &'a mut Value,
    way: &'a [&'a str],
}

impl At<'_> {
    fn set(self, value: Value) -> Result<(), String> {
        let place = place(self.root, self.way)?;
        *place = value;
        Ok(())
    }

    fn extend(self, value: Value, unique: bool) -> Result<(), String> {
        let place = place(self.root, self.way)?;
        if place.is_null() {
            *place = json!([]);
        }
        let list = place.as_array_mut().ok_or("it is there and no list")?;
        if !unique || !list.contains(&value) {
            list.push(value);
        }
        Ok(())
    }

    fn remove(self) -> Result<(), String> {
        let Some((last, way)) = self.way.split_last() else {
            *self.root = Value::Null;
            return Ok(());
        };
        let mut at = self.root;
        for key in way {
            at = at.get_mut(*key).ok_or("it is not there")?;
        }
        let map = at.as_object_mut().ok_or("it is not there")?;
        map.remove(*last).map(|_| ()).ok_or_else(|| "it is not there".into())
    }
}

fn place<'a>(root: &'a mut Value, way: &[&str]) -> Result<&'a mut Value, String> {
    let mut at = root;
    for key in way {
        if at.is_null() {
            *at = json!({});
        }
        let map = at.as_object_mut().ok_or_else(|| format!("what is above '{key}' is no object"))?;
        at = map.entry(*key).or_insert(Value::Null);
    }
    Ok(at)
}

/// A path with slashes or dots.
fn steps(path: &str) -> Vec<&str> {
    let parts: Vec<&str> = if path.contains('/') {
        path.trim_matches('/').split('/').collect()
    } else {
        path.split('.').collect()
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

fn attribute(
    subject: &mut Subject,
    path: &str,
    change: impl FnOnce(At<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let all = steps(path);
    let (field, way) = all.split_first().ok_or("the path is empty")?;
    let root = subject.field_to_change(field)?;
    change(At { root, way })
}

fn plugin_data(
    subject: &mut Subject,
    path: &str,
    change: impl FnOnce(At<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let way: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
    if way.is_empty() {
        return Err("the path is empty".into());
    }
    let mut root = Value::Object(std::mem::take(&mut subject.plugin_data));
    let done = change(At { root: &mut root, way: &way });
    if let Value::Object(map) = root {
        subject.plugin_data = map;
    }
    done
}

fn traits(subject: &mut Subject, change: impl FnOnce(&mut Vec<Value>)) -> Result<(), String> {
    let value = subject.field_to_change("traits")?;
    if value.is_null() {
        *value = json!([]);
    }
    change(value.as_array_mut().ok_or("the node's traits are no list")?);
    Ok(())
}

fn port(
    subject: &mut Subject,
    id: &str,
    path: &str,
    change: impl FnOnce(At<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let port = subject.port(id).ok_or_else(|| format!("Port {id} could not be found."))?;
    let all = steps(path);
    let (field, way) = all.split_first().ok_or("the path is empty")?;
    let mut root = match *field {
        "pxe_enabled" => json!(port.pxe_enabled),
        "physical_network" => json!(port.physical_network),
        "extra" => Value::Object(port.extra.clone()),
        "local_link_connection" => Value::Object(port.local_link_connection.clone()),
        other => {
            return Err(format!(
                "the port's {other} cannot be changed by a rule; pxe_enabled, physical_network, extra and \
                 local_link_connection can"
            ));
        }
    };
    change(At { root: &mut root, way })?;
    put_back(port, field, root)
}

fn put_back(port: &mut PortDraft, field: &str, value: Value) -> Result<(), String> {
    let whole = |value: Value| match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Json::new()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err("it has to be an object")
        }
    };
    match field {
        "pxe_enabled" => {
            port.pxe_enabled = match shown(&value).to_lowercase().as_str() {
                "true" | "yes" | "1" => true,
                "false" | "no" | "0" => false,
                other => return Err(format!("'{other}' is neither true nor false")),
            };
        }
        "physical_network" => port.physical_network = (!value.is_null()).then(|| shown(&value)),
        "extra" => port.extra = whole(value)?,
        _ => port.local_link_connection = whole(value)?,
    }
    Ok(())
}
