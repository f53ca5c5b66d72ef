//! `POST /v1/events`: what Neutron tells of its ports (api.md §9). Nothing waits for it: Ironic checks the events, logs
//! them and forgets them, and so does Ferric.

use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value};

use crate::body::Body;
use crate::check::shown;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::{Rule, Target};
use crate::query::parse_uuid;
use crate::routes::at;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/events").post(post));
}

/// What happens to a port.
const KINDS: [&str; 3] = ["network.bind_port", "network.unbind_port", "network.delete_port"];

/// What an event must say.
const REQUIRED: [&str; 4] = ["event", "port_id", "mac_address", "status"];

/// What it may say besides, or say null of.
const OPTIONAL: [&str; 3] = ["device_id", "binding:host_id", "binding:vnic_type"];

async fn post(request: HttpRequest, body: Body, context: Context) -> Result<HttpResponse> {
    context.args(&request)?;
    let events = checked(body.0.unwrap_or_else(|| Value::Object(Map::new())))
        .map_err(|why| ApiError::bad_request(format!("Schema error: {why}")))?;
    context.authorize(Rule::EventsPost, Target::NONE)?;
    for event in events {
        tracing::debug!(%event, "Neutron tells");
    }
    Ok(HttpResponse::NoContent().finish())
}

/// The events of a body, each of them well formed; the error is in the words of a JSON schema, and in its order: first
/// what is wrong with what is there, then what is not there, then what should not be.
fn checked(body: Value) -> std::result::Result<Vec<Value>, String> {
    let Value::Object(mut body) = body else {
        return Err(format!("{} is not of type 'object'", shown(&body)));
    };
    let events = match body.remove("events") {
        None => return Err("'events' is a required property".to_owned()),
        Some(Value::Array(events)) => events,
        Some(other) => return Err(format!("{} is not of type 'array'", shown(&other))),
    };
    if events.is_empty() {
        return Err("[] should be non-empty".to_owned());
    }
    events.iter().try_for_each(event)?;
    strange(body.keys())?;
    Ok(events)
}

fn strange<'a>(keys: impl Iterator<Item = &'a String>) -> std::result::Result<(), String> {
    let mut all: Vec<String> = keys.map(|key| format!("'{key}'")).collect();
    all.sort_unstable();
    let verb = if all.len() == 1 { "was" } else { "were" };
    match all.is_empty() {
        true => Ok(()),
        false => Err(format!("Additional properties are not allowed ({} {verb} unexpected)", all.join(", "))),
    }
}

fn event(event: &Value) -> std::result::Result<(), String> {
    let Some(map) = event.as_object() else {
        return Err(format!("{} is not of type 'object'", shown(event)));
    };
    for key in REQUIRED.iter().chain(&OPTIONAL) {
        let Some(value) = map.get(*key) else { continue };
        let optional = OPTIONAL.contains(key);
        if optional && value.is_null() {
            continue;
        }
        let Some(text) = value.as_str() else {
            let kinds = if optional { "'string', 'null'" } else { "'string'" };
            return Err(format!("{} is not of type {kinds}", shown(value)));
        };
        match *key {
            "event" if !KINDS.contains(&text) => {
                let all: Vec<String> = KINDS.iter().map(|kind| format!("'{kind}'")).collect();
                return Err(format!("'{text}' is not one of [{}]", all.join(", ")));
            }
            "port_id" | "device_id" | "binding:host_id" if !is_uuid(text) => {
                return Err(format!("'{text}' is not a 'uuid'"));
            }
            "mac_address" if !is_mac(text) => return Err(format!("'{text}' is not a 'mac-address'")),
            _ => {}
        }
    }
    if let Some(key) = REQUIRED.iter().find(|key| !map.contains_key(**key)) {
        return Err(format!("'{key}' is a required property"));
    }
    strange(map.keys().filter(|key| !REQUIRED.contains(&key.as_str()) && !OPTIONAL.contains(&key.as_str())))
}

/// A UUID as Python reads one: with braces or hyphens or without.
fn is_uuid(text: &str) -> bool {
    let digits: String = text.trim_matches(['{', '}']).chars().filter(|c| *c != '-').collect();
    digits.len() == 32 && parse_uuid(&digits).is_some()
}

/// Six pairs of hexadecimal digits with colons; unlike a port's own address, nothing else.
fn is_mac(text: &str) -> bool {
    text.contains(':') && crate::check::mac(text).is_some() && !text.contains('-') && text.len() == 17
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_checked_to_the_last_key() {
        let good = json!({
            "event": "network.bind_port", "port_id": "11111111-1111-4111-8111-111111111111",
            "mac_address": "52:54:00:12:34:56", "status": "ACTIVE", "device_id": null,
        });
        let with = |key: &str, value: Value| {
            let mut one = good.clone();
            one[key] = value;
            checked(json!({"events": [one]})).map(|all| all.len())
        };
        for kind in KINDS {
            assert_eq!(with("event", json!(kind)), Ok(1));
        }
        assert_eq!(with("binding:vnic_type", json!("baremetal")), Ok(1));
        for (key, value, part) in [
            ("event", json!("network.eat"), "is not one of"),
            ("port_id", json!("x"), "is not a 'uuid'"),
            ("port_id", json!(null), "is not of type 'string'"),
            ("mac_address", json!("52-54-00-12-34-56"), "is not a 'mac-address'"),
            ("device_id", json!(""), "is not a 'uuid'"),
            ("binding:host_id", json!(1), "'string', 'null'"),
            ("colour", json!("red"), "'colour' was unexpected"),
        ] {
            assert!(with(key, value).is_err_and(|why| why.contains(part)), "{key}");
        }
        for (body, part) in [
            (json!([]), "[] is not of type 'object'"),
            (json!({}), "'events' is a required property"),
            (json!({"events": []}), "[] should be non-empty"),
            (json!({"events": [{}]}), "'event' is a required property"),
        ] {
            assert!(checked(body).is_err_and(|why| why == part), "{part}");
        }
    }
}
