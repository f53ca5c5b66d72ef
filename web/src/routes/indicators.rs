//! `/v1/nodes/{ident}/management/indicators` and `/management/inject_nmi` (api.md §3.5).

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::IndicatorState;
use ferric_actors::message::{GetIndicator, GetIndicators, InjectNmi, SetIndicator};
use serde_json::{Value, json};

use crate::body::Body;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::Rule;
use crate::routes::asked::{Asked, missing};
use crate::routes::at;
use crate::routes::found::find_for;
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/management/inject_nmi").put(inject_nmi))
        .service(at("/nodes/{ident}/management/indicators").get(list).put(set_none))
        .service(at("/nodes/{ident}/management/indicators/{indicator}").get(show).put(set));
}

async fn inject_nmi(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    Asked::read(&request, body, &context)?;
    let node = find_for(&state, &context, &ident, Rule::NodeInjectNmi).await?;
    state.directory.ask(node.uuid, InjectNmi).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Query arguments are ignored, as in Ironic.
async fn list(ident: Path<String>, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let node = find_for(&state, &context, &ident, Rule::NodeGetIndicatorState).await?;
    let components = state.directory.ask(node.uuid, GetIndicators).await?;
    let mut all: Vec<Value> = Vec::new();
    for (component, lights) in &components {
        for (id, light) in lights {
            let name = format!("{id}@{component}");
            let tail = format!("nodes/{ident}/management/indicators/{name}");
            all.push(json!({
                "name": name,
                "component": component,
                "readonly": light.readonly,
                "states": light.states,
                "links": [
                    {"href": format!("{}/v1/{tail}", context.base), "rel": "self"},
                    {"href": format!("{}/{tail}", context.base), "rel": "bookmark"},
                ],
            }));
        }
    }
    Ok(HttpResponse::Ok().json(json!({"indicators": all})))
}

async fn set_none() -> Result<HttpResponse> {
    Err(missing("indicator"))
}

/// `id@component`.
fn split(name: &str) -> Result<(String, String)> {
    let (id, component) = name
        .split_once('@')
        .ok_or_else(|| ApiError::bad_request(format!("Malformed indicator name \"{name}\"")))?;
    Ok((id.to_owned(), component.to_owned()))
}

async fn show(
    request: HttpRequest,
    path: Path<(String, String)>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let (ident, name) = path.into_inner();
    let node = find_for(&state, &context, &ident, Rule::NodeGetIndicatorState).await?;
    let (indicator, component) = split(&name)?;
    let shown = state.directory.ask(node.uuid, GetIndicator { component, indicator }).await?;
    Ok(HttpResponse::Ok().json(json!({"state": shown})))
}

async fn set(
    request: HttpRequest,
    path: Path<(String, String)>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let asked = Asked::read(&request, body, &context)?;
    let word = asked.text("state")?;
    let (ident, name) = path.into_inner();
    let node = find_for(&state, &context, &ident, Rule::NodeSetIndicatorState).await?;
    let (indicator, component) = split(&name)?;
    let wanted: IndicatorState = word.as_deref().and_then(|word| word.parse().ok()).ok_or_else(|| {
        let all: Vec<&str> = IndicatorState::ALL.iter().map(|state| state.as_str()).collect();
        let told = word.as_deref().unwrap_or("None");
        ApiError::bad_request(format!(
            "Invalid indicator state {told} specified; it is one of {}.",
            all.join(", ")
        ))
    })?;
    state.directory.ask(node.uuid, SetIndicator { component, indicator, state: wanted }).await?;
    Ok(HttpResponse::NoContent().finish())
}
