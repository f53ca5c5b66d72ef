//! `/v1/nodes/{ident}/vifs`: network ports of somebody else's, plugged into a node's ports (api.md §3.5).

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{AttachVif, DetachVif, VifAsk};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::body::Body;
use crate::check::{is_logical_name, shown};
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::VIF_PORT;
use crate::policy::Rule;
use crate::query::parse_uuid;
use crate::routes::found::find_for;
use crate::routes::{at, read};
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/vifs").get(list).post(attach).delete(unnamed))
        .service(at("/nodes/{ident}/vifs/{vif}").delete(detach));
}

async fn list(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let node = find_for(&state, &context, &ident, Rule::NodeVifList).await?;
    let vifs = read(&state, move |conn| ferric_actors::vifs_of(conn, &node)).await?;
    let vifs: Vec<Value> = vifs.into_iter().map(|id| json!({"id": id})).collect();
    Ok(HttpResponse::Ok().json(json!({"vifs": vifs})))
}

async fn attach(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let ask = asked(body.0, &context)?;
    let node = find_for(&state, &context, &ident, Rule::NodeVifAttach).await?;
    state.directory.ask(node.uuid, AttachVif(ask)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What a body asks for. Keys that mean nothing are nova's and Neutron's own; they are taken and forgotten.
fn asked(body: Option<Value>, context: &Context) -> Result<VifAsk> {
    let refuse = |why: String| Err(ApiError::bad_request(why));
    let body = match body.unwrap_or(Value::Null) {
        Value::Null => serde_json::Map::new(),
        Value::Object(map) => map,
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            return refuse(format!("Schema error for vif: {} is not of type 'object'", shown(&other)));
        }
    };
    let id = match body.get("id") {
        None => return refuse("Schema error for vif: 'id' is a required property".to_owned()),
        Some(Value::String(id)) => id.clone(),
        Some(other) => {
            return refuse(format!("Schema error for vif: {} is not of type 'string'", shown(other)));
        }
    };
    if !is_name(&id) {
        return refuse(format!("Expected UUID or name for id: {id}"));
    }
    let mut ask = VifAsk { id, ..VifAsk::default() };
    if context.version.has(VIF_PORT) {
        if body.contains_key("port_uuid") && body.contains_key("portgroup_uuid") {
            return refuse("Cannot specify both port_uuid and portgroup_uuid".to_owned());
        }
        // what is no id is nobody's: the node then has no such port
        let id = |key: &str| body.get(key).map(|v| v.as_str().and_then(parse_uuid).unwrap_or(Uuid::nil()));
        (ask.port, ask.portgroup) = (id("port_uuid"), id("portgroup_uuid"));
    }
    Ok(ask)
}

/// A UUID or a name: what a path can hold unencoded.
fn is_name(text: &str) -> bool {
    is_logical_name(text) && text.len() <= 255
}

async fn unnamed() -> Result<HttpResponse> {
    Err(ApiError::bad_request("Missing mandatory parameter: vif_id"))
}

async fn detach(
    request: HttpRequest,
    path: Path<(String, String)>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let (ident, vif) = path.into_inner();
    if !is_name(&vif) {
        return Err(ApiError::bad_request(format!("Expected UUID or name for vif_id: {vif}")));
    }
    let node = find_for(&state, &context, &ident, Rule::NodeVifDetach).await?;
    state.directory.ask(node.uuid, DetachVif(vif)).await?;
    Ok(HttpResponse::NoContent().finish())
}
