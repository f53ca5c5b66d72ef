//! `/v1/ports` and `/v1/nodes/{uuid}/ports` (api.md §4).

use actix_web::http::header;
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{CreatePort, DeletePort, UpdatePort};
use ferric_schema::ports::{PortQuery, PortSort};
use ferric_schema::{Node, Port, SortDir, nodes, ports};
use serde_json::Value;
use uuid::Uuid;

use crate::body::Body;
use crate::check::mac;
use crate::context::Context;
use crate::document::Document;
use crate::error::{ApiError, Result};
use crate::gates::{
    Field, ITEM_ARGS, LOCAL_LINK_KEYS, NO_ARGS, NODE_PORTS_ARGS, PORT_FILTERS, PORT_NAME_IN_PATH,
    PORT_NODE_IDENT, PORTS_ARGS, PortField,
};
use crate::patch::{Op, Patch};
use crate::query::{self, Args, Paging};
use crate::routes::nodes::{check_keys, find as find_node, marker, now};
use crate::routes::{at, edit, read, without_json_suffix};
use crate::server::WebState;
use crate::views::{Collection, PortView};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/ports").get(list).post(create))
        .service(at("/ports/detail").get(list_detail))
        .service(at("/ports/{ident}").get(show).patch(change).delete(delete))
        .service(at("/nodes/{ident}/ports").get(list_of_node))
        .service(at("/nodes/{ident}/ports/detail").get(list_of_node_detail));
}

/// The port that a client calls `ident`: a UUID, or a name since 1.88.
async fn find(state: &WebState, context: &Context, ident: &str) -> Result<Port> {
    let by_name = context.version.has(PORT_NAME_IN_PATH);
    let candidates: Vec<String> = [Some(ident), without_json_suffix(ident, context)]
        .into_iter()
        .flatten()
        .filter(|ident| query::parse_uuid(ident).is_some() || (by_name && !ident.contains('\0')))
        .map(str::to_owned)
        .collect();
    let found = read(state, move |conn| {
        for ident in candidates {
            if let Some(port) = ports::find(conn, &ident)? {
                return Ok(Some(port));
            }
        }
        Ok(None)
    })
    .await?;
    found.ok_or_else(|| ApiError::not_found(format!("Port {ident} could not be found.")))
}

async fn list(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = Args::parse(request.query_string(), PORTS_ARGS, context.version)?;
    filtered(&state, &context, &args, false).await
}

async fn list_detail(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let without_fields = &PORTS_ARGS[..PORTS_ARGS.len() - 2];
    let args = Args::parse(request.query_string(), without_fields, context.version)?;
    filtered(&state, &context, &args, true).await
}

async fn filtered(state: &WebState, context: &Context, args: &Args, detail: bool) -> Result<HttpResponse> {
    let by_node = args.text("node").or(args.text("node_uuid"));
    if args.text("portgroup").is_some() && (by_node.is_some() || args.text("address").is_some()) {
        return Err(ApiError::forbidden(
            "'portgroup' can not be combined with 'node' or 'address': leave one away.",
        ));
    }
    if let Some(portgroup) = args.text("portgroup") {
        return Err(ApiError::not_found(format!("Portgroup {portgroup} could not be found.")));
    }
    args.uuid("node_uuid")?;
    let node = match by_node {
        Some(ident) => Some(find_node(state, context, ident).await?.uuid),
        None => None,
    };
    let address = args.text("address").map(|text| {
        mac(text).ok_or_else(|| {
            ApiError::bad_request(format!("Expected a MAC address in 'address' but received {text}."))
        })
    });
    let address = address.transpose()?;
    let wanted = PortQuery {
        // with a node the address is not looked at
        addresses: address.filter(|_| node.is_none()).map(|address| vec![address]),
        node,
        shard: args.list("shard"),
        conductor_groups: args.list("conductor_groups"),
        description_contains: args.text("description_contains").map(str::to_owned),
        ..PortQuery::default()
    };
    let path = if detail { "ports/detail" } else { "ports" };
    page(state, context, args, wanted, detail, path).await
}

async fn list_of_node(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = Args::parse(request.query_string(), NODE_PORTS_ARGS, context.version)?;
    of_node(&state, &context, &args, &ident, false).await
}

async fn list_of_node_detail(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let without_fields = &NODE_PORTS_ARGS[..NODE_PORTS_ARGS.len() - 2];
    let args = Args::parse(request.query_string(), without_fields, context.version)?;
    of_node(&state, &context, &args, &ident, true).await
}

/// Only the UUID of a node will do here (api.md §3.5).
async fn of_node(
    state: &WebState,
    context: &Context,
    args: &Args,
    ident: &str,
    detail: bool,
) -> Result<HttpResponse> {
    let missing = || ApiError::not_found(format!("Node {ident} could not be found."));
    let uuid = query::parse_uuid(ident).ok_or_else(missing)?;
    read(state, move |conn| nodes::get(conn, uuid)).await?.ok_or_else(missing)?;
    let wanted = PortQuery { node: Some(uuid), ..PortQuery::default() };
    let path = format!("nodes/{uuid}/ports{}", if detail { "/detail" } else { "" });
    page(state, context, args, wanted, detail, &path).await
}

async fn page(
    state: &WebState,
    context: &Context,
    args: &Args,
    mut wanted: PortQuery,
    detail: bool,
    path: &str,
) -> Result<HttpResponse> {
    let fields = query::list_fields::<PortField>(args, context.version, detail)?;
    let paging = Paging::parse(args, state.settings.max_limit)?;
    wanted.sort_key = PortSort::from_name(&paging.sort_key).ok_or_else(|| {
        ApiError::bad_request(format!(
            "The sort_key value \"{}\" is an invalid field for sorting",
            paging.sort_key
        ))
    })?;
    wanted.sort_dir = if paging.descending { SortDir::Desc } else { SortDir::Asc };
    wanted.limit = Some(i64::from(paging.limit));
    wanted.marker = paging.marker.as_deref().map(marker).transpose()?;
    let rows = read(state, move |conn| ports::list(conn, &wanted)).await?;
    let last = rows.last().filter(|_| rows.len() == paging.limit as usize).map(|port| port.uuid.to_string());
    let columns = (!detail).then_some("uuid,address");
    let next = last.map(|last| paging.next(context, path, args, &PORTS_ARGS[..PORT_FILTERS], columns, &last));
    let items: Vec<PortView<'_>> =
        rows.iter().map(|port| PortView { port, fields: &fields, context }).collect();
    Ok(HttpResponse::Ok().json(Collection { name: "ports", items: &items, next }))
}

async fn show(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = Args::parse(request.query_string(), ITEM_ARGS, context.version)?;
    let fields = query::item_fields::<PortField>(&args, context.version)?;
    let port = find(&state, &context, &ident).await?;
    Ok(HttpResponse::Ok().json(PortView { port: &port, fields: &fields, context: &context }))
}

async fn create(
    request: HttpRequest,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    Args::parse(request.query_string(), NO_ARGS, context.version)?;
    let version = context.version;
    let mut body = body.object()?;
    let ident = body.remove("node_ident").filter(|ident| !ident.is_null());
    if ident.is_some() && !version.has(PORT_NODE_IDENT) {
        return Err(ApiError::too_new("'node_ident'", PORT_NODE_IDENT, version));
    }
    check_keys::<PortField>(&body, &context)?;
    check_local_link(body.get("local_link_connection"), &context)?;
    if body.get("address").is_none_or(Value::is_null) {
        return Err(ApiError::bad_request("'address' is required: the MAC address of the port."));
    }
    let node = owner(&state, &context, ident.as_ref(), body.get("node_uuid")).await?;
    body.remove("node_uuid");

    let mut port = Port::new(Uuid::new_v4(), node.uuid, "", now());
    for field in PortField::ALL {
        if let Some(value) = body.remove(field.spec().name) {
            port.write(*field, value, version).map_err(ApiError::bad_request)?;
        }
    }
    edit::settle_port(&port).map_err(ApiError::from)?;
    let port = state.directory.ask(node.uuid, CreatePort(port)).await?;
    let fields = query::all_fields(version);
    let location = format!("{}/v1/ports/{}", context.base, port.uuid);
    let view = PortView { port: &port, fields: &fields, context: &context };
    Ok(HttpResponse::Created().insert_header((header::LOCATION, location)).json(view))
}

/// The node that a new port is on, from exactly one of `node_ident` and `node_uuid`.
async fn owner(
    state: &WebState,
    context: &Context,
    ident: Option<&Value>,
    uuid: Option<&Value>,
) -> Result<Node> {
    let uuid = uuid.filter(|uuid| !uuid.is_null());
    let given = match (ident, uuid) {
        (Some(ident), None) => ident,
        (None, Some(uuid)) => uuid,
        (None, None) | (Some(_), Some(_)) => {
            return Err(ApiError::bad_request(
                "Exactly one of 'node_uuid' and 'node_ident' must say which node the port is on.",
            ));
        }
    };
    let text = given.as_str().unwrap_or_default().to_owned();
    if uuid.is_some() && query::parse_uuid(&text).is_none() {
        return Err(ApiError::bad_request("Expected a UUID in 'node_uuid'."));
    }
    let missing = ApiError::bad_request(format!("Node {text} could not be found."));
    match find_node(state, context, &text).await {
        Ok(node) => Ok(node),
        Err(ApiError::Refused { status, .. }) if status == actix_web::http::StatusCode::NOT_FOUND => {
            Err(missing)
        }
        Err(other) => Err(other),
    }
}

/// Refuses keys of `local_link_connection` that are newer than the version.
fn check_local_link(link: Option<&Value>, context: &Context) -> Result<()> {
    let Some(link) = link.and_then(Value::as_object) else { return Ok(()) };
    match LOCAL_LINK_KEYS.iter().find(|(key, since)| link.contains_key(*key) && !context.version.has(*since))
    {
        Some((key, since)) => {
            Err(ApiError::too_new(&format!("'{key}' of 'local_link_connection'"), *since, context.version))
        }
        None => Ok(()),
    }
}

async fn change(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    Args::parse(request.query_string(), NO_ARGS, context.version)?;
    let version = context.version;
    let patch = Patch::<PortField>::parse(body.0, version)?;
    let mut port = find(&state, &context, &ident).await?;
    if !patch.0.is_empty() {
        let mut wanted = port.clone();
        edit::apply(&mut wanted, &patch, version).map_err(ApiError::from)?;
        if patch
            .0
            .iter()
            .any(|change| change.root == PortField::LocalLinkConnection && change.op != Op::Remove)
        {
            check_local_link(Some(&Value::Object(wanted.local_link_connection.parse())), &context)?;
        }
        if wanted.node_uuid != port.node_uuid {
            let to = wanted.node_uuid;
            if read(&state, move |conn| nodes::get(conn, to)).await?.is_none() {
                return Err(ApiError::bad_request(format!("Node {to} could not be found.")));
            }
        }
        let apply =
            Box::new(move |port: &mut Port, node: &Node| edit::patch_port(port, node, &patch, version));
        port = state.directory.update_port(port.node_uuid, UpdatePort { port: port.uuid, apply }).await?;
    }
    let fields = query::all_fields(version);
    Ok(HttpResponse::Ok().json(PortView { port: &port, fields: &fields, context: &context }))
}

async fn delete(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    Args::parse(request.query_string(), NO_ARGS, context.version)?;
    let Some(uuid) = query::parse_uuid(&ident) else {
        return Err(ApiError::bad_request(format!(
            "Expected a UUID but received {ident}: a port is deleted by its UUID."
        )));
    };
    let missing = || ApiError::not_found(format!("Port {uuid} could not be found."));
    let port = read(&state, move |conn| ports::get(conn, uuid)).await?.ok_or_else(missing)?;
    state.directory.ask(port.node_uuid, DeletePort(uuid)).await?;
    Ok(HttpResponse::NoContent().finish())
}
