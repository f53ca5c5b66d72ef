//! `/v1/ferric/…`: what Ferric tells beyond Ironic's API. Not gated by microversions.

use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::Doing;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::context::Context;
use crate::error::Result;
use crate::gates::NO_ARGS;
use crate::query::Args;
use crate::routes::nodes::find;
use crate::server::WebState;
use crate::views::Iso;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/v1/ferric/doing").route(web::get().to(fleet)))
        .service(web::resource("/v1/ferric/nodes/{ident}/doing").route(web::get().to(node)));
}

/// What a node is doing: the step, its number, how far it is, what it waits for.
#[derive(Serialize)]
struct View {
    node_uuid: Uuid,
    step: String,
    number: usize,
    of: usize,
    since: Iso,
    doing: String,
    bytes_done: Option<u64>,
    bytes_total: Option<u64>,
    waiting_for: Option<String>,
}

fn view(node_uuid: Uuid, doing: Doing) -> View {
    let Doing { step, number, of, since, progress, waiting_for } = doing;
    View {
        node_uuid,
        step,
        number,
        of,
        since: Iso(since),
        doing: progress.doing,
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        waiting_for,
    }
}

/// `GET /v1/ferric/doing`: every node that is at work now; those at rest are left out.
async fn fleet(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    Args::parse(request.query_string(), NO_ARGS, context.version)?;
    let all: Vec<View> = state.directory.all_doing().into_iter().map(|(id, doing)| view(id, doing)).collect();
    Ok(HttpResponse::Ok().json(json!({"doing": all})))
}

/// `GET /v1/ferric/nodes/{ident}/doing`: one of them, or null.
async fn node(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    Args::parse(request.query_string(), NO_ARGS, context.version)?;
    let found = find(&state, &context, &ident).await?;
    Ok(HttpResponse::Ok().json(state.directory.doing(found.uuid).map(|doing| view(found.uuid, doing))))
}
