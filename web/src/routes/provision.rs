//! `PUT /v1/nodes/{ident}/states/provision`: every check that Ironic's API makes, in its order (api.md §3.6,
//! states.md §2 "Extra checks"); the node's actor decides the rest.

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{By, Provision, Wanted};
use ferric_actors::{Asked, Secret};
use ferric_machine::{Refusal, Verb};
use ferric_schema::{Node, nodes, runbooks, templates};
use serde_json::{Map, Value};

use crate::body::Body;
use crate::check::shown;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::{
    CONFIGDRIVE, CONFIGDRIVE_OBJECT, CONFIGDRIVE_VENDOR_DATA, DISABLE_RAMDISK, RAW_DELETE, RUNBOOK,
};
use crate::nearest::did_you_mean;
use crate::overload::Class;
use crate::policy::{Rule, Target};
use crate::query::strict_bool;
use crate::rescue;
use crate::routes::asked::Asked as Arguments;
use crate::routes::found::find_for;
use crate::routes::states::accepted;
use crate::routes::{read, steps};
use crate::server::WebState;
use crate::version::Version;

/// The body may hold a config drive: 64 MiB.
pub(super) async fn provision(
    request: HttpRequest,
    ident: Path<String>,
    body: Body<65536>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let version = context.version;
    let mut body = Arguments::read(&request, body, &context)?.all();
    // what ends work gets through whatever else is asked for; what begins some is a change among others
    let ends_work = matches!(body.get("target").and_then(Value::as_str), Some("abort" | "deleted"));
    let _place = match ends_work {
        true => None,
        false => Some(state.overload.place(Class::Write, request.peer_addr().map(|addr| addr.ip())).await?),
    };
    if let Some(drive @ (Value::Bool(_) | Value::Number(_) | Value::Array(_))) = body.get("configdrive") {
        return Err(no_configdrive(drive));
    }
    let node = find_for(&state, &context, &ident, Rule::NodeSetProvisionState).await?;
    for (key, rule) in [
        ("clean_steps", Rule::NodeSetProvisionStateCleanSteps),
        ("service_steps", Rule::NodeSetProvisionStateServiceSteps),
    ] {
        if body.contains_key(key) && !body.contains_key("runbook") {
            context.authorize(rule, Target::node(&node))?;
        }
    }

    let verb = verb(&body, version, &node)?;
    body.retain(|_, value| !value.is_null());

    if node.maintenance && matches!(verb, Verb::Active | Verb::Deploy | Verb::Rebuild) {
        let refusal = Refusal::InMaintenance { verb };
        return Err(ApiError::bad_request(refusal.for_node(&node.uuid.to_string())));
    }
    if verb.row_in(node.provision_state).is_none() {
        return Err(not_now(&state, &node, verb));
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
    let mut disable_ramdisk = check_disable_ramdisk(&body, verb, version)?;
    let mut steps = steps::of_body(&body, verb, version, &state.settings)?;
    let password = check_rescue_password(&mut body, verb)?;

    if let Some(name) = body.get("runbook").and_then(Value::as_str) {
        let runbook = runbook(&state, &context, &node, verb, name).await?;
        steps = runbook.steps;
        disable_ramdisk |= runbook.disable_ramdisk;
    }
    if matches!(verb, Verb::Active | Verb::Deploy | Verb::Rebuild) {
        let mut all = of_templates(&state, &node).await?;
        all.append(&mut steps);
        steps = all;
    }
    let rescue_password = match password {
        Some(password) => Some(rescue::hash(password, state.settings.rescue_password_hash).await?),
        None => None,
    };
    let configdrive = match body.remove("configdrive") {
        Some(Value::Object(parts)) => {
            let packed = state.directory.pack_configdrive(&node, parts).await;
            Some(Value::String(packed.map_err(|error| ApiError::of_node(error, node.uuid))?))
        }
        other => other,
    };
    let by = By {
        user: context.caller.user().map(str::to_owned),
        project: context.caller.project().map(str::to_owned),
    };
    let wanted = Wanted { steps, disable_ramdisk, rescue_password, by };
    let asked = state.directory.ask(node.uuid, Provision { verb, configdrive, wanted }).await;
    asked.map_err(|error| ApiError::of_node(error, node.uuid))?;
    Ok(accepted(&context, &ident))
}

/// What a runbook adds to a request.
struct Script {
    steps: Vec<Asked>,
    disable_ramdisk: bool,
}

/// The runbook of that name or id, if the node may run it: it has a trait of the runbook's name, or one of the runbook's
/// own traits (1.112); and if the caller may use it.
async fn runbook(
    state: &WebState,
    context: &Context,
    node: &Node,
    verb: Verb,
    ident: &str,
) -> Result<Script> {
    let (name, id) = (ident.to_owned(), node.uuid);
    let found = read(state, move |c| {
        let Some(runbook) = runbooks::find(c, &name)? else { return Ok(None) };
        let traits = runbooks::traits(c, runbook.uuid)?;
        Ok(Some((runbook, traits, nodes::traits(c, id)?)))
    });
    let Some((runbook, mut fits, has)) = found.await? else {
        return Err(ApiError::not_found(format!("Runbook {ident} could not be found.")));
    };
    context.authorize(Rule::RunbookUse, Target { owner: runbook.owner.as_deref(), lessee: None })?;
    if !matches!(verb, Verb::Clean | Verb::Service) {
        return Err(ApiError::bad_request(
            "\"runbooks\" is only valid when setting target provision state to any of ['clean', 'service']",
        ));
    }
    fits.push(runbook.name.clone());
    if !has.iter().any(|one| fits.contains(one)) {
        return Err(ApiError::bad_request(format!(
            "The runbook {} is not for node {}: the node has none of the traits {}. Add one of them to the node, or \
             choose another runbook.",
            runbook.name,
            node.uuid,
            fits.join(", ")
        )));
    }
    let steps = steps::of_store(&runbook.steps.parse())?;
    steps::allowed(&steps, &format!("the runbook {}", runbook.name), verb, &state.settings)?;
    Ok(Script { steps, disable_ramdisk: runbook.disable_ramdisk })
}

/// The steps of the deploy templates that the instance asks for: those with the name of a trait in
/// `instance_info.traits`, all of which the node has to have (states.md §2).
async fn of_templates(state: &WebState, node: &Node) -> Result<Vec<Asked>> {
    let wanted = node.instance_info.get("traits").unwrap_or(Value::Null);
    if wanted.is_null() {
        return Ok(Vec::new());
    }
    let Ok(wanted) = serde_json::from_value::<Vec<String>>(wanted) else {
        return Err(ApiError::bad_request("instance_info/traits must be a list of strings."));
    };
    let id = node.uuid;
    let (found, missing) = read(state, move |c| {
        let has = nodes::traits(c, id)?;
        let missing: Vec<String> = wanted.iter().filter(|one| !has.contains(one)).cloned().collect();
        Ok((templates::templates_for_traits(c, &wanted)?, missing))
    })
    .await?;
    if !missing.is_empty() {
        return Err(ApiError::bad_request(format!(
            "Cannot deploy node {id}: instance_info/traits names traits that the node does not have: {}. Add them to the \
             node, or choose another node.",
            missing.join(", ")
        )));
    }
    let mut steps = Vec::new();
    for template in found {
        let own = steps::of_store(&template.steps.parse())?;
        steps::allowed(&own, &format!("deploy template {}", template.name), Verb::Active, &state.settings)?;
        steps.extend(own);
    }
    Ok(steps)
}

/// The argument `target`; `None` for null.
pub(super) fn target(body: &Map<String, Value>) -> Result<Option<&str>> {
    match body.get("target") {
        None => Err(ApiError::bad_request("Missing mandatory parameter: target")),
        Some(Value::Null) => Ok(None),
        Some(Value::String(word)) => Ok(Some(word)),
        Some(other) => Err(ApiError::bad_request(format!("Expected string for target: {}", shown(other)))),
    }
}

/// What a state has no row for, in Ironic's words.
pub(super) fn impossible(action: &str, node: &Node, state: &str, remedy: &str) -> ApiError {
    let action: String = action.chars().take(64).collect();
    ApiError::bad_request(format!(
        "The requested action \"{action}\" can not be performed on node \"{}\" while it is in state \"{state}\". {remedy}",
        node.uuid
    ))
}

fn verb(body: &Map<String, Value>, version: Version, node: &Node) -> Result<Verb> {
    let all: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
    let strange = |word: &str| {
        if word == "delete" && Verb::Deleted.row_in(node.provision_state).is_some() {
            let text = "The requested action \"delete\" could not be understood. It is called deleted.";
            return ApiError::bad_request(text);
        }
        let meant = did_you_mean(word, all.iter().copied());
        let remedy = format!("There is no such action; use one of {}.{meant}", all.join(", "));
        impossible(word, node, node.provision_state.as_str(), &remedy)
    };
    let Some(word) = target(body)? else { return Err(strange("None")) };
    if word == "delete" && !version.has(RAW_DELETE) {
        return Err(ApiError::too_new("'delete'", RAW_DELETE, version));
    }
    let verb: Verb = word.parse().map_err(|_| strange(word))?;
    match verb.gate_before() {
        Some(since) if !version.has(since) => Err(ApiError::too_new(&format!("'{verb}'"), since, version)),
        Some(_) | None => Ok(verb),
    }
}

/// A verb that the state has no row for: locked if someone works on the node, impossible otherwise.
fn not_now(state: &WebState, node: &Node, verb: Verb) -> ApiError {
    match &node.reservation {
        Some(_) => state.directory.locked(node).into(),
        None => {
            let refusal =
                Refusal::NotAllowed { event: verb.event(), verb: Some(verb), state: node.provision_state };
            ApiError::of_refusal(refusal, node.uuid)
        }
    }
}

fn check_configdrive(body: &Map<String, Value>, verb: Verb, version: Version) -> Result<()> {
    let Some(drive) = body.get("configdrive") else { return Ok(()) };
    let Some((_, since)) = CONFIGDRIVE.iter().find(|(allowed, _)| *allowed == verb) else {
        return Err(ApiError::bad_request(
            "Adding a config drive is only supported when setting provision state to active, rebuild",
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
            "Providing a JSON object for configdrive is only supported starting with API version 1.{CONFIGDRIVE_OBJECT}. \
             Below, give the text of a gzipped and base64-encoded image, or its URL."
        ))),
        Value::Object(parts) => check_parts(parts, version),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            Err(no_configdrive(drive))
        }
    }
}

fn no_configdrive(given: &Value) -> ApiError {
    ApiError::bad_request(format!(
        "Expected types <class 'NoneType'>, <class 'dict'>, <class 'str'> for configdrive: {}",
        shown(given)
    ))
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
    let some = |key: &str| body.get(key).and_then(Value::as_array).is_some_and(|steps| !steps.is_empty());
    if some("clean_steps") || some("service_steps") {
        let steps = if verb == Verb::Clean { "clean_steps" } else { "service_steps" };
        return Err(ApiError::bad_request(format!(
            "Please provide either \"{steps}\" or a runbook, but not both."
        )));
    }
    match runbook.as_str() {
        Some(_) => Ok(()),
        None => Err(ApiError::bad_request("Expected the UUID or name of a runbook in 'runbook'.")),
    }
}

fn check_disable_ramdisk(body: &Map<String, Value>, verb: Verb, version: Version) -> Result<bool> {
    let Some(value) = body.get("disable_ramdisk") else { return Ok(false) };
    let flag = match value {
        Value::Bool(flag) => *flag,
        Value::String(text) => strict_bool("disable_ramdisk", text)?,
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return Err(ApiError::bad_request(format!(
                "Invalid disable_ramdisk: Unrecognized value '{}', true and false are taken",
                shown(value)
            )));
        }
    };
    if !flag {
        return Ok(false);
    }
    match DISABLE_RAMDISK.iter().find(|(allowed, _)| *allowed == verb) {
        None => {
            Err(ApiError::bad_request("disable_ramdisk is supported only with manual cleaning or servicing"))
        }
        Some((_, since)) if !version.has(*since) => Err(ApiError::not_acceptable(format!(
            "disable_ramdisk is not acceptable in this API version: {verb} takes it since 1.{since}."
        ))),
        Some(_) => Ok(true),
    }
}

/// Takes the password out of the body; nobody else sees it.
fn check_rescue_password(body: &mut Map<String, Value>, verb: Verb) -> Result<Option<Secret<String>>> {
    match (body.remove("rescue_password"), verb == Verb::Rescue) {
        (None, false) => Ok(None),
        (Some(Value::String(password)), true) if !password.trim().is_empty() => {
            Ok(Some(Secret::new(password)))
        }
        (None | Some(Value::String(_)), true) => Err(ApiError::bad_request(
            "A non-empty \"rescue_password\" is required when setting target provision state to rescue",
        )),
        // it is not repeated, whatever it is
        (Some(_), true) => Err(ApiError::bad_request("Expected string for rescue_password")),
        (Some(_), false) => Err(ApiError::bad_request(
            "\"rescue_password\" is only valid when setting target provision state to rescue",
        )),
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
            let node = Node::new(uuid::Uuid::nil(), "fake-hardware", ferric_machine::Timestamp(0));
            verb(&map(json!({"target": word})), Version(minor), &node).map_err(|e| e.to_string())
        };
        assert_eq!(ask("active", 1), Ok(Verb::Active));
        assert_eq!(ask("manage", 4), Ok(Verb::Manage));
        assert!(ask("manage", 3).is_err_and(|e| e.contains("1.4")));
        assert_eq!(ask("undeploy", 72), Ok(Verb::Undeploy), "never gated");
        assert!(ask("deploy", 72).is_err_and(|e| e.contains("1.73")));
        assert!(ask("delete", 72).is_err_and(|e| e.contains("1.73")));
        assert!(ask("delete", 73).is_err_and(|e| e.contains("no such action")));
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
    fn a_rescue_password_goes_with_rescue_and_stays_hidden() {
        let ask = |body: Value, verb| check_rescue_password(&mut map(body), verb);
        let taken = ask(json!({"rescue_password": "calvin"}), Verb::Rescue).expect("taken");
        assert_eq!(taken.as_ref().map(|secret| secret.expose().as_str()), Some("calvin"));
        assert!(!format!("{taken:?}").contains("calvin"));
        for (body, verb) in [
            (json!({}), Verb::Rescue),
            (json!({"rescue_password": " "}), Verb::Rescue),
            (json!({"rescue_password": 7}), Verb::Rescue),
            (json!({"rescue_password": "calvin"}), Verb::Unrescue),
        ] {
            assert!(ask(body, verb).is_err_and(|error| !error.to_string().contains("calvin")));
        }
        assert!(ask(json!({}), Verb::Manage).is_ok_and(|none| none.is_none()));
    }

    #[test]
    fn doing_without_a_ramdisk_goes_with_cleaning_and_service() {
        let ask = |value: Value, verb, minor| {
            check_disable_ramdisk(&map(json!({"disable_ramdisk": value})), verb, Version(minor))
                .map_err(|error| error.to_string())
        };
        assert_eq!(ask(json!(true), Verb::Clean, 70), Ok(true));
        assert_eq!(ask(json!("false"), Verb::Clean, 1), Ok(false));
        assert!(ask(json!(true), Verb::Clean, 69).is_err_and(|told| told.contains("1.70")));
        assert!(ask(json!(true), Verb::Service, 107).is_err_and(|told| told.contains("1.108")));
        assert!(
            ask(json!(true), Verb::Active, 115).is_err_and(|told| told.contains("cleaning or servicing"))
        );
        assert!(ask(json!(3), Verb::Clean, 115).is_err());
    }
}
