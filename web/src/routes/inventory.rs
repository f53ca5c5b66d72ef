//! `/v1/nodes/{ident}/inventory` (api.md §3.5): what the last inspection found.

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_schema::{JsonText, inventory};
use serde::Serialize;

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::Rule;
use crate::routes::found::find_for;
use crate::routes::{at, read};
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/inventory").get(show));
}

#[derive(Serialize)]
struct View<'a> {
    inventory: &'a JsonText,
    plugin_data: &'a JsonText,
}

async fn show(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let id = find_for(&state, &context, &ident, Rule::NodeInventoryGet).await?.uuid;
    let found = read(&state, move |conn| inventory::get(conn, id)).await?;
    let missing = || {
        ApiError::not_found(format!(
            "Node inventory record for node {id} could not be found: inspect the node."
        ))
    };
    let found = found.ok_or_else(missing)?;
    let view = View { inventory: &found.inventory_data, plugin_data: &found.plugin_data };
    Ok(HttpResponse::Ok().json(view))
}
