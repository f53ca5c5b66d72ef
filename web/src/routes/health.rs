//! `/v1/ferric/nodes/{ident}/…`: the machine's sensors, event log, inventory and identify light.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{ClearEventLog, GetEventLog, GetFru, GetSensors, SetIdentify};
use ferric_actors::{DriverError, Fru, FruArea, Identify, LogEntry, NodeError};
use serde::Serialize;
use serde_json::{Value, json};

use crate::body::Body;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::Rule;
use crate::query::Args;
use crate::routes::asked::Asked;
use crate::routes::at::exactly;
use crate::routes::found::find_for;
use crate::server::WebState;
use crate::views::Iso;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(exactly("/v1/ferric/nodes/{ident}/sensors").get(sensors))
        .service(exactly("/v1/ferric/nodes/{ident}/sel").get(event_log).delete(clear_event_log))
        .service(exactly("/v1/ferric/nodes/{ident}/fru").get(fru))
        .service(exactly("/v1/ferric/nodes/{ident}/identify").put(identify));
}

/// A reading that is this old will do, unless the client says otherwise: who watches a page reads it again and again.
const FRESH: u32 = 10;
/// The oldest that may be asked for.
const OLDEST: u32 = 3600;
/// Entries of an event log, unless the client says otherwise.
const ENTRIES: u32 = 100;
/// The most that may be asked for.
const MOST_ENTRIES: u32 = 4096;

/// A whole number of the query.
fn number(args: &Args, name: &str, usual: u32, least: u32, most: u32) -> Result<u32> {
    let Some(text) = args.text(name) else { return Ok(usual) };
    let found = text.parse::<u32>().ok().filter(|number| (least..=most).contains(number));
    found.ok_or_else(|| {
        ApiError::bad_request(format!("Expected a whole number from {least} to {most} in '{name}'."))
    })
}

/// A BMC that does not answer is no fault of Ferric's: 504. Ironic's own paths have 500 for it.
fn told(error: NodeError) -> ApiError {
    if let NodeError::Driver(silent @ DriverError::Unreachable { .. }) = &error {
        return ApiError::refused(StatusCode::GATEWAY_TIMEOUT, silent.to_string());
    }
    error.into()
}

/// `GET …/sensors`: read now, or at most `max_age` seconds ago.
async fn sensors(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let max_age = number(&args, "max_age", FRESH, 0, OLDEST)?;
    let id = find_for(&state, &context.ungated(), &ident, Rule::NodeGetStates).await?.uuid;
    let max_age = Duration::from_secs(u64::from(max_age));
    let read = state.directory.ask(id, GetSensors { max_age }).await.map_err(told)?;
    let age = state.directory.now().since(read.read_at);
    Ok(HttpResponse::Ok().json(json!({
        "node_uuid": id,
        "read_at": Iso(read.read_at),
        "age_seconds": age.as_secs_f64(),
        "health": read.health,
        "reasons": read.reasons,
        "sensors": read.sensors,
    })))
}

#[derive(Serialize)]
struct EntryView {
    #[serde(flatten)]
    entry: LogEntry,
    at: Option<Iso>,
}

/// `GET …/sel`: the newest entries, the newest first.
async fn event_log(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let most = number(&args, "limit", ENTRIES, 1, MOST_ENTRIES)?;
    let id = find_for(&state, &context.ungated(), &ident, Rule::NodeGetStates).await?.uuid;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let log = state.directory.ask(id, GetEventLog { most }).await.map_err(told)?;
    let entries: Vec<EntryView> =
        log.entries.into_iter().map(|entry| EntryView { at: entry.at.map(Iso), entry }).collect();
    Ok(HttpResponse::Ok()
        .json(json!({"node_uuid": id, "count": log.count, "overflow": log.overflow, "entries": entries})))
}

/// `DELETE …/sel`: clears it.
async fn clear_event_log(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let id = find_for(&state, &context.ungated(), &ident, Rule::NodeInjectNmi).await?.uuid;
    state.directory.ask(id, ClearEventLog).await.map_err(told)?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Serialize)]
struct AreaView {
    #[serde(flatten)]
    area: FruArea,
    #[serde(skip_serializing_if = "Option::is_none")]
    mfg_date: Option<Iso>,
}

fn area(area: FruArea) -> AreaView {
    AreaView { mfg_date: area.made_at.map(Iso), area }
}

fn fru_view(fru: Fru) -> Value {
    let Fru { id, name, chassis, board, product } = fru;
    json!({
        "id": id, "name": name, "chassis": chassis.map(area), "board": board.map(area), "product": product.map(area),
    })
}

/// `GET …/fru`: the inventories of the machine and its parts.
async fn fru(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let id = find_for(&state, &context.ungated(), &ident, Rule::NodeGetStates).await?.uuid;
    let all = state.directory.ask(id, GetFru).await.map_err(told)?;
    let all: Vec<Value> = all.into_iter().map(fru_view).collect();
    Ok(HttpResponse::Ok().json(json!({"node_uuid": id, "fru": all})))
}

/// `PUT …/identify`: `{"on": true, "seconds": 15}`; without `seconds` until it is told otherwise.
async fn identify(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let asked = Asked::read(&request, body, &context)?;
    let on = asked.flag("on")?.ok_or_else(|| ApiError::bad_request("Expected true or false in 'on'."))?;
    let seconds = match asked.all().get("seconds") {
        None | Some(Value::Null) => None,
        Some(given) => {
            let number = match given {
                Value::String(text) => text.parse::<u64>().ok(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    given.as_u64()
                }
            };
            let number = number.and_then(|number| u8::try_from(number).ok()).filter(|number| *number > 0);
            let refused = || {
                ApiError::bad_request(
                    "Expected a whole number from 1 to 255 in 'seconds'; leave it away for a light that stays on.",
                )
            };
            Some(number.ok_or_else(refused)?)
        }
    };
    let light = match (on, seconds) {
        (false, _) => Identify::Off,
        (true, Some(seconds)) => Identify::For(seconds),
        (true, None) => Identify::On,
    };
    let id = find_for(&state, &context.ungated(), &ident, Rule::NodeSetIndicatorState).await?.uuid;
    state.directory.ask(id, SetIdentify(light)).await.map_err(told)?;
    Ok(HttpResponse::NoContent().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_bmc_is_a_gateway_timeout() {
        let silent = DriverError::Unreachable {
            what: "BMC".into(),
            after: Duration::from_secs(60),
            remedy: "look".into(),
        };
        let ApiError::Refused { status, text, .. } = told(NodeError::Driver(silent)) else {
            panic!("refused")
        };
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
        assert!(text.contains("BMC"), "{text}");
    }
}
