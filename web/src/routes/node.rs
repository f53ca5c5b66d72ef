//! `GET /v1/nodes/{ident}` and `GET /v1/nodes/{ident}/{field}` (api.md §3.2): one node, from one query, and from none
//! where the answer was [kept](crate::answers).

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use ferric_schema::{Conn, Node, StoreError, allocations, nodes};
use uuid::Uuid;

use crate::answers::Asked;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::NodeField;
use crate::policy::Target;
use crate::query;
use crate::routes::found::{self, Stamped};
use crate::server::WebState;
use crate::views::NodeView;

pub(super) async fn show(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let asked = Asked::new(&context, &ident, request.query_string());
    if let Some(asked) = &asked
        && let Some(body) = state.answers.find(state.directory.store(), &context, asked)
    {
        return Ok(json(body));
    }
    let args = context.args(&request)?;
    let fields = query::item_fields::<NodeField>(&args, context.version).map_err(one_field)?;
    answer(&state, &context, &ident, fields, asked).await
}

/// `GET /nodes/{ident}/{field}`, which shows that field.
pub(super) async fn show_fields(
    state: &WebState,
    context: &Context,
    ident: &str,
    list: &str,
) -> Result<HttpResponse> {
    let fields = query::chosen::<NodeField>(list, context.version).map_err(one_field)?;
    answer(state, context, ident, fields, None).await
}

/// An unknown field of one node is told in other words than one of a list.
pub(super) fn one_field(error: ApiError) -> ApiError {
    let text = error.to_string();
    let field = text.strip_prefix("Field(s) \"").and_then(|rest| rest.split(['"', ',']).next());
    match field {
        Some(field) => ApiError::bad_request(format!("Field {field} is not a valid field. {text}.")),
        None => error,
    }
}

/// What an answer about a node shows that is not in its row.
#[derive(Default)]
pub(super) struct Besides {
    traits: Vec<String>,
    allocation: Option<Uuid>,
}

impl Besides {
    /// Of it what `fields` show.
    pub(super) fn read(
        conn: &mut Conn,
        node: &Node,
        fields: &[NodeField],
    ) -> std::result::Result<Besides, StoreError> {
        let mut found = Besides::default();
        if fields.contains(&NodeField::Traits) {
            found.traits = nodes::traits(conn, node.uuid)?;
        }
        if fields.contains(&NodeField::AllocationUuid) {
            found.allocation = allocations::of_nodes(conn, &[node.uuid])?.remove(&node.uuid);
        }
        Ok(found)
    }

    /// What `fields` show of the node.
    pub(super) fn view<'a>(
        &'a self,
        node: &'a Node,
        fields: &'a [NodeField],
        context: &'a Context,
        conductor: Option<&'a str>,
    ) -> NodeView<'a> {
        NodeView { node, fields, context, traits: &self.traits, conductor, allocation: self.allocation }
    }
}

/// The node as the caller may see it, kept for the next one if `asked` says as what.
async fn answer(
    state: &WebState,
    context: &Context,
    ident: &str,
    fields: Vec<NodeField>,
    asked: Option<Asked>,
) -> Result<HttpResponse> {
    let shown = fields.clone();
    let read = move |conn: &mut Conn, node: &Node| Besides::read(conn, node, &shown);
    let found = found::stamped(state, context, ident, read).await?;
    let Some(Stamped { node, besides, stamp }) = found else {
        return Err(found::missing(context, ident));
    };
    let Some(sight) = context.sight(Target::node(&node)) else {
        return Err(found::missing(context, ident));
    };
    let conductor =
        fields.contains(&NodeField::Conductor).then(|| state.directory.conductor_for(&node)).flatten();
    let view = besides.view(&node, &fields, context, conductor.as_deref());
    let body = serde_json::to_vec(&view).map_err(|error| {
        tracing::error!(%error, node = %node.uuid, "a node cannot be written as JSON");
        ApiError::internal("The node cannot be shown: what is stored of it is no JSON.")
    })?;
    let body = Bytes::from(body);
    if let (Some(asked), Some(stamp)) = (asked, stamp) {
        state.answers.keep(asked, &node, stamp, sight, body.clone());
    }
    Ok(json(body))
}

fn json(body: Bytes) -> HttpResponse {
    // as `HttpResponseBuilder::json` says it
    let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    HttpResponse::Ok().insert_header(json).body(body)
}

#[cfg(test)]
mod tests;
