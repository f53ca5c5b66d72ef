//! `/v1/ports` and `/v1/nodes/{uuid}/ports` (api.md §4).

use actix_web::http::header;
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{CreatePort, DeletePort, UpdatePort};
use ferric_schema::ports::{PortQuery, PortSort};
use ferric_schema::{Node, Port, SortDir, nodes, portgroups, ports};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::body::Body;
use crate::check::{self, is_logical_name, mac};
use crate::context::Context;
use crate::document::Document;
use crate::error::{ApiError, Result};
use crate::gates::{
    Field, LOCAL_LINK_NETWORK_TYPE, PORT_FILTERS, PORT_NODE_IDENT, PORT_REMOVAL_GATED, PORT_SORT_GATED,
    PortField, VTEP_KEYS, VTEP_SINCE, VTEP_UNTIL,
};
use crate::patch::Patch;
use crate::policy::{Rule, Target};
use crate::query::{self, Args, Paging};
use crate::routes::found::{check_ident, check_keys, find as find_node, find_maybe, marker};
use crate::routes::of_node::resolve_node;
use crate::routes::{at, port_rules, read, without_json_suffix};
use crate::server::WebState;
use crate::views::{Collection, PortView};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/ports").get(list).post(create).patch(unnamed).delete(unnamed))
        .service(at("/ports/detail").get(list_detail))
        .service(at("/ports/{ident}").get(show).post(named).patch(change).delete(delete))
        .service(at("/nodes/{ident}/ports").get(list_of_node))
        .service(at("/nodes/{ident}/ports/detail").get(list_of_node_detail))
        .service(at("/portgroups/{uuid}/ports").get(list_of_portgroup))
        .service(at("/portgroups/{uuid}/ports/detail").get(list_of_portgroup_detail));
}

/// PATCH, DELETE of the whole collection: it must be said which one.
async fn unnamed() -> Result<HttpResponse> {
    Err(ApiError::bad_request(
        "Missing mandatory parameter: port_uuid. Which port is meant must stand in the path.",
    ))
}

/// POST to one that there is: only the collection takes new ones.
async fn named(ident: Path<String>) -> Result<HttpResponse> {
    Err(ApiError::bad_request(format!(
        "Schema error for port: '{ident}' is not of type 'object'. A new one is sent to the collection, /v1/ports."
    )))
}

/// `GET /ports/{ident}/{field}`, which shows that field.
pub(super) async fn show_fields(
    state: &WebState,
    context: &Context,
    ident: &str,
    list: &str,
) -> Result<HttpResponse> {
    let fields = query::chosen::<PortField>(list, context.version)?;
    let port = find_for(state, context, ident, Rule::PortGet).await?;
    Ok(HttpResponse::Ok().json(PortView { port: &port, fields: &fields, context }))
}

/// The port that a client calls `ident`: a UUID or a name, whatever the version.
async fn find(state: &WebState, context: &Context, ident: &str) -> Result<Port> {
    if !is_logical_name(ident) {
        return Err(ApiError::bad_request(format!("Expected UUID or name for port_ident: {ident}")));
    }
    let candidates: Vec<String> =
        [Some(ident), without_json_suffix(ident, context)].into_iter().flatten().map(str::to_owned).collect();
    let found = read(state, move |conn| {
        for ident in candidates {
            if let Some(port) = ports::find(conn, &ident)? {
                return Ok(Some(port));
            }
        }
        Ok(None)
    })
    .await?;
    found.ok_or_else(|| ApiError::missing("Port", ident, "ports"))
}

/// [`find`], for a caller who wants to do what `rule` stands for with the port.
async fn find_for(state: &WebState, context: &Context, ident: &str, rule: Rule) -> Result<Port> {
    let port = find(state, context, ident).await?;
    let missing = || ApiError::missing("Port", ident, "ports");
    may(state, context, &port, rule, missing).await?;
    Ok(port)
}

/// What may be done with a port is a matter of its node: 404 when it may not be seen, 403 when it may.
async fn may(
    state: &WebState,
    context: &Context,
    port: &Port,
    rule: Rule,
    missing: impl Fn() -> ApiError,
) -> Result<()> {
    let node = port.node_uuid;
    let node = read(state, move |conn| nodes::get(conn, node)).await?.ok_or_else(&missing)?;
    if !context.may(Rule::PortGet, Target::node(&node)) {
        return Err(missing());
    }
    context.authorize(rule, Target::node(&node))
}

async fn list(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    filtered(&state, &context, &args, Within::Nothing, false).await
}

async fn list_detail(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    filtered(&state, &context, &args, Within::Nothing, true).await
}

/// What a list of ports is below.
#[derive(Clone, Copy)]
enum Within {
    Nothing,
    Node(Uuid),
    Portgroup(Uuid),
}

impl Within {
    fn path(self, detail: bool) -> String {
        let tail = if detail { "ports/detail" } else { "ports" };
        match self {
            Within::Nothing => tail.to_owned(),
            Within::Node(uuid) => format!("nodes/{uuid}/{tail}"),
            Within::Portgroup(uuid) => format!("portgroups/{uuid}/{tail}"),
        }
    }
}

async fn filtered(
    state: &WebState,
    context: &Context,
    args: &Args,
    within: Within,
    detail: bool,
) -> Result<HttpResponse> {
    let by_node = args.text("node").or(args.text("node_uuid"));
    let given = |name: &str| args.text(name).is_some_and(|text| !text.is_empty());
    let of_node = by_node.is_some() || matches!(within, Within::Node(_));
    let of_group = given("portgroup") || matches!(within, Within::Portgroup(_));
    let exclusive = [of_node, of_group, given("shard")];
    if exclusive.iter().filter(|given| **given).count() > 1 {
        return Err(ApiError::forbidden(
            "Operation not permitted. Only one of 'node', 'portgroup' and 'shard' can be given.",
        ));
    }
    if given("conductor_groups") && (of_node || of_group || given("address")) {
        return Err(ApiError::bad_request(
            "Filtering by conductor_groups cannot be combined with node_ident, portgroup_ident, or node address \
             filters.",
        ));
    }
    args.uuid("node_uuid")?;
    let portgroup = match (within, args.text("portgroup").filter(|ident| !ident.is_empty())) {
        (Within::Portgroup(uuid), _) => Some(uuid),
        (Within::Nothing | Within::Node(_), Some(ident)) => Some(portgroup_named(state, ident).await?),
        (Within::Nothing | Within::Node(_), None) => None,
    };
    let node = match (within, by_node) {
        (Within::Node(uuid), _) => Some(uuid),
        (Within::Nothing | Within::Portgroup(_), Some(ident)) => {
            // one that may not be seen has no ports that may: the list is of the caller's project
            Some(find_node(state, context, ident).await?.uuid)
        }
        (Within::Nothing | Within::Portgroup(_), None) => None,
    };
    let address = args.text("address").map(|text| {
        mac(text)
            .ok_or_else(|| ApiError::bad_request(format!("Expected valid MAC address for address: {text}")))
    });
    let address = address.transpose()?;
    // with a node or a port group the address is not looked at, and with an address the shard is not
    let addresses = address.filter(|_| node.is_none() && portgroup.is_none()).map(|address| vec![address]);
    let wanted = PortQuery {
        shard: args.list("shard").filter(|_| addresses.is_none()),
        addresses,
        node,
        portgroup,
        conductor_groups: args.list("conductor_groups"),
        description_contains: args.text("description_contains").map(str::to_owned),
        ..PortQuery::default()
    };
    page(state, context, args, wanted, detail, &within.path(detail)).await
}

/// The port group that a filter names.
async fn portgroup_named(state: &WebState, ident: &str) -> Result<Uuid> {
    let name = ident.to_owned();
    let found = read(state, move |conn| portgroups::find(conn, &name)).await?;
    let found = found.map(|group| group.uuid);
    found.ok_or_else(|| ApiError::not_found(format!("Portgroup {ident} could not be found.")))
}

async fn list_of_portgroup(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    of_portgroup(&state, &context, &args, &ident, false).await
}

async fn list_of_portgroup_detail(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    of_portgroup(&state, &context, &args, &ident, true).await
}

/// Only the UUID of a port group will do here.
async fn of_portgroup(
    state: &WebState,
    context: &Context,
    args: &Args,
    ident: &str,
    detail: bool,
) -> Result<HttpResponse> {
    let missing = || ApiError::not_found(format!("Portgroup {ident} could not be found."));
    let uuid = query::parse_uuid(ident).ok_or_else(missing)?;
    let found = read(state, move |conn| match portgroups::get(conn, uuid)? {
        Some(group) => nodes::get(conn, group.node_uuid),
        None => Ok(None),
    });
    let node = found.await?.ok_or_else(missing)?;
    if !context.may(Rule::PortgroupGet, Target::node(&node)) {
        return Err(missing());
    }
    filtered(state, context, args, Within::Portgroup(uuid), detail).await
}

async fn list_of_node(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    of_node(&state, &context, &args, &ident, false).await
}

async fn list_of_node_detail(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
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
    let node = read(state, move |conn| nodes::get(conn, uuid)).await?.ok_or_else(missing)?;
    if !context.may(Rule::NodeGet, Target::node(&node)) {
        return Err(missing());
    }
    filtered(state, context, args, Within::Node(uuid), detail).await
}

async fn page(
    state: &WebState,
    context: &Context,
    args: &Args,
    mut wanted: PortQuery,
    detail: bool,
    path: &str,
) -> Result<HttpResponse> {
    wanted.project = context.list_project(Rule::PortListAll, Rule::PortList, None)?;
    let fields = query::list_fields::<PortField>(args, context.version, detail)?;
    let paging = Paging::parse(args, state.settings.max_limit)?;
    if let Some(field) = PortField::named(&paging.sort_key).map(Field::spec)
        && PORT_SORT_GATED.contains(&field.name)
        && !context.version.has(field.since)
    {
        return Err(ApiError::too_new(&format!("sort_key '{}'", field.name), field.since, context.version));
    }
    wanted.sort_key = PortSort::from_name(&paging.sort_key)
        .ok_or_else(|| query::unsortable::<PortField>(&paging.sort_key))?;
    wanted.sort_dir = if paging.descending { SortDir::Desc } else { SortDir::Asc };
    wanted.limit = Some(i64::from(paging.limit));
    wanted.marker = paging.marker.as_deref().map(marker).transpose()?;
    let rows = read(state, move |conn| ports::list(conn, &wanted)).await?;
    let last = rows.last().filter(|_| rows.len() == paging.limit as usize).map(|port| port.uuid.to_string());
    let columns = (!detail).then_some("uuid,address");
    let next = last.map(|last| paging.next(context, path, args, PORT_FILTERS, columns, &last));
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
    let args = context.args(&request)?;
    let fields = query::item_fields::<PortField>(&args, context.version)?;
    let port = find_for(&state, &context, &ident, Rule::PortGet).await?;
    Ok(HttpResponse::Ok().json(PortView { port: &port, fields: &fields, context: &context }))
}

async fn create(
    request: HttpRequest,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let version = context.version;
    let mut body = body.object_of("port")?;
    one_node(&body)?;
    let ident = body.remove("node_ident").filter(|ident| !ident.is_null());
    if ident.is_some() && !version.has(PORT_NODE_IDENT) {
        return Err(ApiError::too_new("'node_ident'", PORT_NODE_IDENT, version));
    }
    check_keys::<PortField>(&body, &context)?;
    check_local_link(body.get("local_link_connection"), &context)?;
    match body.get("address") {
        None => {
            return Err(ApiError::bad_request(
                "Schema error for port: 'address' is a required property. It is the MAC address of the port.",
            ));
        }
        Some(Value::Null) => {
            return Err(ApiError::bad_request(
                "Schema error for port: None is not of type 'string'. 'address' takes a MAC address.",
            ));
        }
        Some(_) => {}
    }
    let node = owner(&state, &context, ident.as_ref(), body.get("node_uuid")).await?;
    context.authorize(Rule::PortCreate, Target::node(&node))?;
    body.remove("node_uuid");
    let asked_to_boot = body.get("pxe_enabled").is_some_and(|value| match value {
        Value::String(text) => query::strict_bool("pxe_enabled", text).unwrap_or(false),
        Value::Bool(flag) => *flag,
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    });

    let linked = body.get("local_link_connection").is_some_and(|link| !link.is_null());
    let mut port = Port::new(Uuid::new_v4(), node.uuid, "", state.directory.now());
    for field in PortField::ALL {
        if let Some(value) = body.remove(field.spec().name) {
            port.write(*field, value, version).map_err(ApiError::bad_request)?;
        }
    }
    port_rules::settle_new(&mut port, linked).map_err(ApiError::from)?;
    let port = state.directory.ask(node.uuid, CreatePort { port, asked_to_boot }).await?;
    let fields = query::all_fields(version);
    let location = format!("{}/v1/ports/{}", context.base, port.uuid);
    let view = PortView { port: &port, fields: &fields, context: &context };
    Ok(HttpResponse::Created().insert_header((header::LOCATION, location)).json(view))
}

/// Exactly one of two keys says which node a new port is on.
fn one_node(body: &Map<String, Value>) -> Result<()> {
    let (ident, uuid) = (body.contains_key("node_ident"), body.contains_key("node_uuid"));
    if ident != uuid || !body.contains_key("address") {
        return Ok(());
    }
    let given = check::shown(&Value::Object(body.clone()));
    Err(ApiError::bad_request(if ident {
        format!(
            "Schema error for port: {given} is valid under each of {{'required': ['node_uuid']}}, {{'required': \
             ['node_ident']}}. Give one of the two."
        )
    } else {
        format!(
            "Schema error for port: {given} is not valid under any of the given schemas. Possible root cause: 'node_ident' \
             is a required property. It or 'node_uuid' says which node the port is on."
        )
    }))
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
                "Schema error for port: exactly one of 'node_uuid' and 'node_ident' must say which node the port is on.",
            ));
        }
    };
    let text = given.as_str().unwrap_or_default().to_owned();
    if uuid.is_some() && query::parse_uuid(&text).is_none() {
        return Err(ApiError::bad_request(format!("Expected UUID for node_uuid: {text}")));
    }
    check_ident(&text)?;
    if let Some(node) = find_maybe(state, context, &text).await? {
        return Ok(node);
    }
    // who could make no port anyway is not told that there is no such node
    context.authorize(Rule::PortCreate, Target::NONE)?;
    Err(ApiError::bad_request(format!("Node {text} could not be found.")))
}

/// Refuses keys of `local_link_connection` that the version does not have.
fn check_local_link(link: Option<&Value>, context: &Context) -> Result<()> {
    let Some(link) = link.and_then(Value::as_object) else { return Ok(()) };
    let version = context.version;
    if link.contains_key("network_type") && !version.has(LOCAL_LINK_NETWORK_TYPE) {
        let what = "'network_type' of 'local_link_connection'";
        return Err(ApiError::too_new(what, LOCAL_LINK_NETWORK_TYPE, version));
    }
    if link.contains_key(VTEP_KEYS[0]) && (!version.has(VTEP_SINCE) || version.has(VTEP_UNTIL)) {
        return Err(ApiError::not_acceptable(format!(
            "Request not acceptable: '{}' of 'local_link_connection' is known to API versions 1.{VTEP_SINCE} to 1.{}, \
             this request uses {version}.",
            VTEP_KEYS[0],
            VTEP_UNTIL - 1
        )));
    }
    Ok(())
}

async fn change(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let version = context.version;
    let mut body = body.0;
    let mut port = find_for(&state, &context, &ident, Rule::PortUpdate).await?;
    resolve_node(&state, &context, &mut body, true, (port.node_uuid, Rule::PortUpdate)).await?;
    if names(&body, "/local_link_connection/network_type") && !version.has(LOCAL_LINK_NETWORK_TYPE) {
        let what = "'network_type' of 'local_link_connection'";
        return Err(ApiError::too_new(what, LOCAL_LINK_NETWORK_TYPE, version));
    }
    let gated = removed_and_gated(&body);
    if let Some(field) = gated.iter().map(|field| field.spec()).find(|field| !version.has(field.since)) {
        return Err(ApiError::too_new(&format!("attribute '{}'", field.name), field.since, version));
    }
    if let Some(ident) = set_to(&body, "/portgroup_uuid").filter(|ident| query::parse_uuid(ident).is_none()) {
        return Err(ApiError::bad_request(format!("Portgroup {ident} could not be found.")));
    }
    let patch = Patch::<PortField>::parse(body, version)?;
    if !patch.0.is_empty() {
        let apply =
            Box::new(move |port: &mut Port, node: &Node| port_rules::patch_port(port, node, &patch, version));
        port = state.directory.update_port(port.node_uuid, UpdatePort { port: port.uuid, apply }).await?;
    }
    let fields = query::all_fields(version);
    Ok(HttpResponse::Ok().json(PortView { port: &port, fields: &fields, context: &context }))
}

/// Whether a patch has a change at that very path.
fn names(patch: &Option<Value>, path: &str) -> bool {
    let changes = patch.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    changes.iter().any(|change| change.get("path").and_then(Value::as_str) == Some(path))
}

/// The text that a patch sets at that very path.
fn set_to<'a>(patch: &'a Option<Value>, path: &str) -> Option<&'a str> {
    let changes = patch.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let at = |change: &&Value| change.get("path").and_then(Value::as_str) == Some(path);
    changes.iter().filter(at).find_map(|change| change.get("value").and_then(Value::as_str))
}

/// Fields that may not even be taken away by clients of older versions.
fn removed_and_gated(patch: &Option<Value>) -> Vec<PortField> {
    let changes = patch.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let whole = |change: &Value| {
        let path = change.get("path").and_then(Value::as_str)?;
        PORT_REMOVAL_GATED.iter().find(|field| path.strip_prefix('/') == Some(field.spec().name)).copied()
    };
    changes.iter().filter_map(whole).collect()
}

async fn delete(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let Some(uuid) = query::parse_uuid(&ident) else {
        return Err(ApiError::bad_request(format!(
            "Expected UUID for port_uuid: {ident}. A port is deleted by its UUID."
        )));
    };
    let missing = || ApiError::not_found(format!("Port {uuid} could not be found."));
    let port = read(&state, move |conn| ports::get(conn, uuid)).await?.ok_or_else(missing)?;
    may(&state, &context, &port, Rule::PortDelete, missing).await?;
    state.directory.ask(port.node_uuid, DeletePort(uuid)).await?;
    Ok(HttpResponse::NoContent().finish())
}
