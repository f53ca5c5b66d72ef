//! `/v1/nodes/{ident}/children` (api.md §3.5): the nodes whose `parent_node` this one is.

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_schema::{NodeQuery, nodes};
use serde_json::json;

use crate::context::Context;
use crate::error::Result;
use crate::policy::Rule;
use crate::routes::found::find_for;
use crate::routes::{at, read};
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/children").get(list));
}

/// All of them at once: a chassis or a DPU host has a handful. The link is a single one here.
async fn list(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let parent = find_for(&state, &context, &ident, Rule::NodeGet).await?.uuid;
    let project = context.list_project(Rule::NodeListAll, Rule::NodeList, None)?;
    let wanted = NodeQuery { parent_node: Some(parent), project, ..NodeQuery::default() };
    let rows = read(&state, move |conn| nodes::list(conn, &wanted)).await?;
    let children: Vec<String> = rows.iter().map(|node| node.uuid.to_string()).collect();
    let href = format!("{}/v1/nodes?parent_node={parent}", context.base);
    Ok(HttpResponse::Ok().json(json!({"children": children, "links": {"href": href, "rel": "children"}})))
}
