//! `/v1/shards`: how many nodes each shard has (api.md §5).

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig};
use ferric_schema::nodes;
use serde_json::json;

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::{Rule, Target};
use crate::routes::{at, read};
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/shards").get(list)).service(at("/shards/{name}").get(one));
}

async fn one() -> Result<HttpResponse> {
    Err(ApiError::not_found(
        "The resource could not be found. GET /v1/shards counts the nodes of each shard.",
    ))
}

/// The largest first; the nodes of no shard stand under the name that Python gives to nothing.
async fn list(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    context.args(&request)?;
    context.authorize(Rule::ShardsGet, Target::NONE)?;
    let mut shards = read(&state, nodes::count_by_shard).await?;
    shards.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
    let row = |(name, count): (Option<String>, i64)| json!({"name": name.unwrap_or_else(|| "None".to_owned()), "count": count});
    Ok(HttpResponse::Ok().json(json!({"shards": shards.into_iter().map(row).collect::<Vec<_>>()})))
}
