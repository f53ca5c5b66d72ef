//! `PUT /v1/nodes/{ident}/states/provision`: every check that Ironic's API makes, in its order (api.md §3.6,
//! states.md §2 "Extra checks"); the node's actor decides the rest.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use ferric_actors::message::Provision;
use ferric_machine::{Refusal, Verb, row};
use ferric_schema::Node;
use serde_json::{Map, Value};

use crate::body::Body;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::{
    CONFIGDRIVE, CONFIGDRIVE_OBJECT, CONFIGDRIVE_VENDOR_DATA, DEPLOY_STEPS, DISABLE_RAMDISK, PROVISION_ARGS,
    RAW_DELETE, RUNBOOK, SERVICE_STEPS,
};
use crate::query::strict_bool;
use crate::routes::nodes::find;
use crate::routes::states::accepted;
use crate::server::WebState;
use crate::version::Version;

/// Interfaces that have steps.
const STEP_INTERFACES: &[&str] = &["vendor", "power", "management", "firmware", "deploy", "bios", "raid"];
/// Steps that the conductor itself runs; they need no interface.
const OWN_STEPS: &[&str] = &["hold", "wait", "power_on", "power_off", "reboot"];
/// `[api] disallow_clean_steps` and kin, by default.
const DISALLOWED_STEPS: &[(&str, &str)] = &[("vendor", "send_raw")];

/// The body may hold a config drive: 64 MiB.
pub(super) async fn provision(
    ident: Path<String>,
    body: Body<65536>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let version = context.version;
    let mut body = body.arguments(PROVISION_ARGS, version)?;
    body.retain(|_, value| !value.is_null());
    let verb = verb(&body, version)?;
    let node = find(&state, &context, &ident).await?;

    if node.maintenance && matches!(verb, Verb::Active | Verb::Deploy | Verb::Rebuild) {
        let refusal = Refusal::InMaintenance { verb };
        return Err(ApiError::bad_request(refusal.for_node(&node.uuid.to_string())));
    }
    if row(node.provision_state, verb.event()).is_none() {
        return Err(not_now(&node, verb));
    }
    if let Some(since) = verb.gate_after(node.provision_state)
        && !version.has(since)
    {
        return Err(ApiError::too_new(
            &format!("'{verb}' in state \"{}\"", node.provision_state),
            since,
            version,
        ));
    }
    check_configdrive(&body, verb, version)?;
    check_runbook(&body, verb, version)?;
    check_disable_ramdisk(&body, verb, version)?;
    check_steps(&body, verb, version)?;
    check_rescue_password(&body, verb)?;

    if body.contains_key("deploy_steps") {
        return Err(ApiError::not_built("'deploy_steps'"));
    }
    let configdrive = body.remove("configdrive");
    let asked = state.directory.ask(node.uuid, Provision { verb, configdrive }).await;
    asked.map_err(|error| ApiError::of_node(error, node.uuid))?;
    Ok(accepted(&context, &node))
}

fn verb(body: &Map<String, Value>, version: Version) -> Result<Verb> {
    let Some(word) = body.get("target").and_then(Value::as_str) else {
        return Err(ApiError::bad_request("'target' is required: manage, provide, active, deleted, …"));
    };
    if word == "delete" && !version.has(RAW_DELETE) {
        return Err(ApiError::too_new("'delete'", RAW_DELETE, version));
    }
    let verb: Verb = word.parse().map_err(|_| {
        let all: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
        ApiError::bad_request(format!(
            "The requested state \"{word}\" could not be understood; use one of {}.",
            all.join(", ")
        ))
    })?;
    match verb.gate_before() {
        Some(since) if !version.has(since) => Err(ApiError::too_new(&format!("'{verb}'"), since, version)),
        Some(_) | None => Ok(verb),
    }
}

/// A verb that the state has no row for: locked if someone works on the node, impossible otherwise.
fn not_now(node: &Node, verb: Verb) -> ApiError {
    match &node.reservation {
        Some(host) => ApiError::conflict(format!(
            "Node {} is locked by host {host}, please retry after the current operation is completed.",
            node.uuid
        )),
        None => {
            let refusal =
                Refusal::NotAllowed { event: verb.event(), verb: Some(verb), state: node.provision_state };
            ApiError::bad_request(refusal.for_node(&node.uuid.to_string()))
        }
    }
}

fn check_configdrive(body: &Map<String, Value>, verb: Verb, version: Version) -> Result<()> {
    let Some(drive) = body.get("configdrive") else { return Ok(()) };
    let Some((_, since)) = CONFIGDRIVE.iter().find(|(allowed, _)| *allowed == verb) else {
        return Err(ApiError::bad_request(
            "Adding a config drive is only supported with the targets active and rebuild.",
        ));
    };
    if !version.has(*since) {
        return Err(ApiError::bad_request(format!(
            "A config drive with '{verb}' needs API version 1.{since} or newer."
        )));
    }
    match drive {
        Value::String(text) if !text.is_empty() => Ok(()),
        Value::Object(_) if !version.has(CONFIGDRIVE_OBJECT) => Err(ApiError::bad_request(format!(
            "A config drive given as an object needs API version 1.{CONFIGDRIVE_OBJECT} or newer; below, give the text \
             of a gzipped and base64-encoded image, or its URL."
        ))),
        Value::Object(parts) => check_parts(parts, version),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            Err(ApiError::bad_request("Expected a string or an object in 'configdrive'."))
        }
    }
}

fn check_parts(parts: &Map<String, Value>, version: Version) -> Result<()> {
    for (key, value) in parts {
        let object = value.is_object() || value.is_null();
        let fits = match key.as_str() {
            "meta_data" | "network_data" => object,
            "vendor_data" if version.has(CONFIGDRIVE_VENDOR_DATA) => object,
            "user_data" => object || value.is_string(),
            _ => {
                return Err(ApiError::bad_request(format!(
                    "A config drive has no part '{key}': meta_data, network_data, user_data and (since \
                     1.{CONFIGDRIVE_VENDOR_DATA}) vendor_data are."
                )));
            }
        };
        if !fits {
            return Err(ApiError::bad_request(format!(
                "The part '{key}' of the config drive must be an object."
            )));
        }
    }
    Ok(())
}

fn check_runbook(body: &Map<String, Value>, verb: Verb, version: Version) -> Result<()> {
    let Some(runbook) = body.get("runbook") else { return Ok(()) };
    if !version.has(RUNBOOK) {
        return Err(ApiError::too_new("'runbook'", RUNBOOK, version));
    }
    if !matches!(verb, Verb::Clean | Verb::Service) {
        return Err(ApiError::bad_request("'runbook' goes with the targets clean and service only."));
    }
    if body.contains_key("clean_steps") || body.contains_key("service_steps") {
        return Err(ApiError::bad_request("'runbook' and steps exclude each other: give one of them."));
    }
    match runbook.as_str() {
        Some(_) => Ok(()),
        None => Err(ApiError::bad_request("Expected the UUID or name of a runbook in 'runbook'.")),
    }
}

fn check_disable_ramdisk(body: &Map<String, Value>, verb: Verb, version: Version) -> Result<()> {
    let Some(value) = body.get("disable_ramdisk") else { return Ok(()) };
    let flag = match value {
        Value::Bool(flag) => *flag,
        Value::String(text) => strict_bool("disable_ramdisk", text)?,
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return Err(ApiError::bad_request("Expected true or false in 'disable_ramdisk'."));
        }
    };
    if !flag {
        return Ok(());
    }
    match DISABLE_RAMDISK.iter().find(|(allowed, _)| *allowed == verb) {
        None => Err(ApiError::bad_request("'disable_ramdisk' goes with the targets clean and service only.")),
        Some((_, since)) if !version.has(*since) => {
            Err(ApiError::too_new("'disable_ramdisk'", *since, version))
        }
        Some(_) => Ok(()),
    }
}

fn check_steps(body: &Map<String, Value>, verb: Verb, version: Version) -> Result<()> {
    for (key, verbs, since, needs_priority) in [
        ("clean_steps", &[Verb::Clean][..], 1, false),
        ("deploy_steps", &[Verb::Active, Verb::Deploy, Verb::Rebuild][..], DEPLOY_STEPS, true),
        ("service_steps", &[Verb::Service][..], SERVICE_STEPS, false),
    ] {
        let needed = !needs_priority && verbs.contains(&verb) && !body.contains_key("runbook");
        let steps = match body.get(key) {
            None if needed => {
                return Err(ApiError::bad_request(format!("'{key}' is required with the target {verb}.")));
            }
            None => continue,
            Some(steps) => steps,
        };
        if !verbs.contains(&verb) {
            return Err(ApiError::bad_request(format!("'{key}' does not go with the target {verb}.")));
        }
        if !version.has(since) {
            return Err(ApiError::too_new(&format!("'{key}'"), since, version));
        }
        let Some(steps) = steps.as_array() else {
            return Err(ApiError::bad_request(format!("Expected a list of steps in '{key}'.")));
        };
        for step in steps {
            check_step(step, key, needs_priority)?;
        }
    }
    Ok(())
}

fn check_step(step: &Value, key: &str, deploys: bool) -> Result<()> {
    let wrong = |why: &str| Err(ApiError::bad_request(format!("A step of '{key}' {why}.")));
    let Some(step) = step.as_object() else { return wrong("is not an object") };
    let known: &[&str] = if deploys {
        &["interface", "step", "args", "priority"]
    } else {
        &["interface", "step", "args", "order", "execute_on_child_nodes", "limit_child_node_execution"]
    };
    if let Some(strange) = step.keys().find(|name| !known.contains(&name.as_str())) {
        return wrong(&format!("has the unknown key '{strange}'"));
    }
    let Some(name) = step.get("step").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return wrong("lacks its name in 'step'");
    };
    let interface = step.get("interface").and_then(Value::as_str);
    match interface {
        Some(interface) if !STEP_INTERFACES.contains(&interface) => {
            return wrong(&format!("names no interface: {interface}"));
        }
        Some(interface) if DISALLOWED_STEPS.contains(&(interface, name)) => {
            return wrong(&format!("is not allowed: {interface}.{name}"));
        }
        None if deploys || !OWN_STEPS.contains(&name) => {
            return wrong(&format!("lacks its 'interface': {name}"));
        }
        Some(_) | None => {}
    }
    if step.get("args").is_some_and(|args| !args.is_object()) || deploys && !step.contains_key("args") {
        return wrong("needs an object in 'args'");
    }
    if deploys && step.get("priority").and_then(Value::as_u64).is_none() {
        return wrong("needs a whole number, 0 or more, in 'priority'");
    }
    Ok(())
}

fn check_rescue_password(body: &Map<String, Value>, verb: Verb) -> Result<()> {
    match (body.get("rescue_password"), verb == Verb::Rescue) {
        (None, false) => Ok(()),
        (Some(password), true) if password.as_str().is_some_and(|text| !text.trim().is_empty()) => Ok(()),
        (None | Some(_), true) => {
            Err(ApiError::bad_request("A non-empty 'rescue_password' is required with the target rescue."))
        }
        (Some(_), false) => Err(ApiError::bad_request("'rescue_password' goes with the target rescue only.")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn verbs_are_gated_and_known() {
        let ask = |word: &str, minor| {
            verb(&map(json!({"target": word})), Version(minor)).map_err(|e| e.to_string())
        };
        assert_eq!(ask("active", 1), Ok(Verb::Active));
        assert_eq!(ask("manage", 4), Ok(Verb::Manage));
        assert!(ask("manage", 3).is_err_and(|e| e.contains("1.4")));
        assert_eq!(ask("undeploy", 72), Ok(Verb::Undeploy), "never gated");
        assert!(ask("deploy", 72).is_err_and(|e| e.contains("1.73")));
        assert!(ask("delete", 72).is_err_and(|e| e.contains("1.73")));
        assert!(ask("delete", 73).is_err_and(|e| e.contains("understood")));
        assert_eq!(ask("service", 4), Ok(Verb::Service), "gated after the state");
    }

    #[test]
    fn config_drives_go_with_their_verbs_and_versions() {
        let check = |drive: Value, verb, minor| {
            check_configdrive(&map(json!({"configdrive": drive})), verb, Version(minor)).is_ok()
        };
        assert!(check(json!("abc"), Verb::Active, 1));
        assert!(!check(json!("abc"), Verb::Deploy, 115));
        assert!(check(json!("abc"), Verb::Rebuild, 35) && !check(json!("abc"), Verb::Rebuild, 34));
        assert!(check(json!({"meta_data": {}}), Verb::Active, 56) && !check(json!({}), Verb::Active, 55));
        assert!(
            check(json!({"vendor_data": {}}), Verb::Active, 59)
                && !check(json!({"vendor_data": {}}), Verb::Active, 58)
        );
        assert!(
            check(json!({"user_data": "text"}), Verb::Active, 115) && !check(json!(7), Verb::Active, 115)
        );
    }

    #[test]
    fn steps_have_their_form() {
        let check = |body: Value, verb, minor| {
            check_steps(&map(body), verb, Version(minor)).map_err(|e| e.to_string())
        };
        let clean = |step: Value| check(json!({"clean_steps": [step]}), Verb::Clean, 115).is_ok();
        assert!(clean(json!({"interface": "deploy", "step": "erase_devices"})));
        assert!(clean(json!({"step": "reboot"})));
        assert!(
            !clean(json!({"step": "erase_devices"})) && !clean(json!({"interface": "boot", "step": "x"}))
        );
        assert!(!clean(json!({"interface": "vendor", "step": "send_raw"})));
        assert!(
            check(json!({}), Verb::Clean, 115).is_err()
                && check(json!({"runbook": "r"}), Verb::Clean, 115).is_ok()
        );
        assert!(check(json!({"clean_steps": []}), Verb::Active, 115).is_err());
        let deploy =
            json!({"deploy_steps": [{"interface": "deploy", "step": "x", "args": {}, "priority": 3}]});
        assert!(check(deploy.clone(), Verb::Active, 69).is_ok());
        assert!(check(deploy, Verb::Active, 68).is_err_and(|e| e.contains("1.69")));
    }
}
