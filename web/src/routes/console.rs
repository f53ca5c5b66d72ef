//! `/v1/nodes/{ident}/states/console` (api.md §3.5).

use actix_web::http::header;
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{GetConsole, SetConsole};
use serde_json::json;

use crate::body::Body;
use crate::context::Context;
use crate::error::Result;
use crate::policy::Rule;
use crate::routes::asked::Asked;
use crate::routes::at;
use crate::routes::found::find_for;
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/states/console").get(show).put(switch));
}

async fn show(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let node = find_for(&state, &context, &ident, Rule::NodeGetConsole).await?;
    let info = state.directory.ask(node.uuid, GetConsole).await?;
    Ok(HttpResponse::Ok().json(json!({"console_enabled": info.is_some(), "console_info": info})))
}

async fn switch(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let asked = Asked::read(&request, body, &context)?;
    let on = asked.flag("enabled")?.unwrap_or(false);
    let node = find_for(&state, &context, &ident, Rule::NodeSetConsoleState).await?;
    state.directory.ask(node.uuid, SetConsole(on)).await?;
    let location = format!("{}/v1/nodes/{ident}/states/console", context.base);
    Ok(HttpResponse::Accepted().insert_header((header::LOCATION, location)).finish())
}
