//! `/v1/nodes/{ident}/states`, power, and `/maintenance` (api.md §3.5).

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{Data, Path, ServiceConfig};
use ferric_actors::message::{ChangePower, SetMaintenance};
use ferric_machine::{PowerState, PowerTarget};
use ferric_schema::JsonText;
use serde::Serialize;
use serde_json::Value;

use crate::body::Body;
use crate::check::shown;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::{STATES_BOOT_MODE, STATES_RAID};
use crate::policy::Rule;
use crate::query::encode;
use crate::routes::asked::Asked;
use crate::routes::found::find_for;
use crate::routes::{at, provision};
use crate::server::WebState;
use crate::views::{Iso, state_name};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/states").get(show))
        .service(at("/nodes/{ident}/states/power").put(power))
        .service(at("/nodes/{ident}/states/provision").put(provision::provision))
        .service(at("/nodes/{ident}/maintenance").put(maintain).delete(end_maintenance));
}

#[derive(Serialize)]
struct States<'a> {
    console_enabled: bool,
    last_error: &'a Option<String>,
    power_state: Option<PowerState>,
    provision_state: Option<&'static str>,
    provision_updated_at: Option<Iso>,
    target_power_state: Option<PowerState>,
    target_provision_state: Option<&'static str>,
    #[serde(flatten)]
    raid: Option<Raid<'a>>,
    #[serde(flatten)]
    boot: Option<Boot>,
}

#[derive(Serialize)]
struct Raid<'a> {
    raid_config: &'a JsonText,
    target_raid_config: &'a JsonText,
}

#[derive(Serialize)]
struct Boot {
    boot_mode: Option<ferric_machine::BootMode>,
    secure_boot: Option<bool>,
}

async fn show(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let node = find_for(&state, &context, &ident, Rule::NodeGetStates).await?;
    let v = context.version;
    Ok(HttpResponse::Ok().json(States {
        console_enabled: node.console_enabled,
        last_error: &node.last_error,
        power_state: node.power_state,
        provision_state: state_name(Some(node.provision_state), v),
        provision_updated_at: node.provision_updated_at.map(Iso),
        target_power_state: node.target_power_state,
        target_provision_state: state_name(node.target_provision_state, v),
        raid: v
            .has(STATES_RAID)
            .then_some(Raid { raid_config: &node.raid_config, target_raid_config: &node.target_raid_config }),
        boot: v
            .has(STATES_BOOT_MODE)
            .then_some(Boot { boot_mode: node.boot_mode, secure_boot: node.secure_boot }),
    }))
}

/// 202 with the place to watch, which repeats the name that the client used.
pub(super) fn accepted(context: &Context, ident: &str) -> HttpResponse {
    let location = format!("{}/v1/nodes/{}/states", context.base, encode(ident));
    HttpResponse::Accepted().insert_header((header::LOCATION, location)).finish()
}

async fn power(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let body = Asked::read(&request, body, &context)?.all();
    let word = provision::target(&body)?.unwrap_or("None");
    let timeout = body.get("timeout").filter(|timeout| !timeout.is_null()).map(seconds).transpose()?;
    let node = find_for(&state, &context, &ident, Rule::NodeSetPowerState).await?;
    let target: PowerTarget = word.parse().map_err(|_| {
        let all: Vec<&str> = PowerTarget::ALL.iter().map(|target| target.as_str()).collect();
        let now = node.power_state.map_or("None", |state| state.as_str());
        provision::impossible(
            word,
            &node,
            now,
            &format!("There is no such action; use one of {}.", all.join(", ")),
        )
    })?;
    if !context.version.has(target.minor()) {
        return Err(ApiError::too_new(&format!("power target '{target}'"), target.minor(), context.version));
    }
    let asked = state.directory.ask(node.uuid, ChangePower { target, timeout }).await;
    asked.map_err(|error| ApiError::of_node(error, node.uuid))?;
    Ok(accepted(&context, &ident))
}

/// The longest that a client may let a change of power take: a day.
const LONGEST_POWER_CHANGE: u64 = 86_400;

fn seconds(value: &Value) -> Result<Duration> {
    let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    let Some(number) = number else {
        let given = value.as_str().map_or_else(|| shown(value), |text| text.chars().take(64).collect());
        return Err(ApiError::bad_request(format!("Expected an integer for timeout: {given}")));
    };
    let seconds = u64::try_from(number).ok().filter(|seconds| (1..=LONGEST_POWER_CHANGE).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        ApiError::bad_request(format!(
            "timeout has to be positive integer; at most {LONGEST_POWER_CHANGE}, which is a day"
        ))
    })
}

async fn maintain(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let reason = match Asked::read(&request, body, &context)?.all().get("reason") {
        None | Some(Value::Null) => None,
        Some(Value::String(reason)) => Some(reason.clone()),
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
            return Err(ApiError::bad_request(format!("Expected string for reason: {}", shown(other))));
        }
    };
    set_maintenance(&ident, &context, &state, SetMaintenance { on: true, reason }).await
}

async fn end_maintenance(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    set_maintenance(&ident, &context, &state, SetMaintenance { on: false, reason: None }).await
}

async fn set_maintenance(
    ident: &str,
    context: &Context,
    state: &WebState,
    message: SetMaintenance,
) -> Result<HttpResponse> {
    let rule = if message.on { Rule::NodeSetMaintenance } else { Rule::NodeClearMaintenance };
    let node = find_for(state, context, ident, rule).await?;
    state.directory.ask(node.uuid, message).await?;
    Ok(HttpResponse::Accepted().finish())
}
