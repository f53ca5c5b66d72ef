//! `/v1/nodes`: create, list, show, change, delete (api.md §3.1 to §3.4).

use std::collections::HashMap;

use actix_web::http::header;
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{DeleteNode, Update};
use ferric_machine::{Fault, State};
use ferric_schema::{Node, NodeQuery, NodeSort, SortDir, nodes};
use serde_json::Value;
use uuid::Uuid;

use crate::body::Body;
use crate::context::Context;
use crate::document::Document;
use crate::error::{ApiError, Result};
use crate::gates::{
    Field, ITEM_ARGS, NODE_FILTERS, NODE_NAME_IN_PATH, NODES_ARGS, NodeField, PATCH_NODE_ARGS,
    STARTS_IN_ENROLL, UNSET_CHASSIS,
};
use crate::patch::Patch;
use crate::policy::{Rule, Target};
use crate::query::{self, Args, Paging};
use crate::routes::edit::{self, Rules};
use crate::routes::{at, read, without_json_suffix};
use crate::server::WebState;
use crate::views::{Collection, NodeView};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes").get(list).post(create))
        .service(at("/nodes/detail").get(list_detail))
        .service(at("/nodes/validate").get(super::management::validate_by_query))
        .service(at("/nodes/{ident}").get(show).patch(change).delete(delete));
}

/// The node that a client calls `ident`: a UUID, or a name since 1.5.
pub(super) async fn find(state: &WebState, context: &Context, ident: &str) -> Result<Node> {
    let missing = || ApiError::not_found(format!("Node {ident} could not be found."));
    let by_name = context.version.has(NODE_NAME_IN_PATH);
    let candidates: Vec<String> = [Some(ident), without_json_suffix(ident, context)]
        .into_iter()
        .flatten()
        .filter(|ident| query::parse_uuid(ident).is_some() || (by_name && !ident.contains('\0')))
        .map(str::to_owned)
        .collect();
    let found = read(state, move |conn| {
        for ident in candidates {
            if let Some(node) = nodes::find(conn, &ident)? {
                return Ok(Some(node));
            }
        }
        Ok(None)
    })
    .await?;
    found.ok_or_else(missing)
}

/// [`find`], for a caller who wants to do what `rule` stands for: 404 if the caller may not see the node, 403 if it may
/// see it and not do that.
pub(super) async fn find_for(state: &WebState, context: &Context, ident: &str, rule: Rule) -> Result<Node> {
    let node = find(state, context, ident).await?;
    if !context.may(Rule::NodeGet, Target::node(&node)) {
        return Err(ApiError::not_found(format!("Node {ident} could not be found.")));
    }
    context.authorize(rule, Target::node(&node))?;
    Ok(node)
}

/// Nodes with what is not in their rows.
struct Loaded {
    nodes: Vec<Node>,
    traits: HashMap<Uuid, Vec<String>>,
}

impl Loaded {
    fn views<'a>(
        &'a self,
        state: &'a WebState,
        context: &'a Context,
        fields: &'a [NodeField],
    ) -> Vec<View<'a>> {
        let conductor = |node: &Node| {
            fields.contains(&NodeField::Conductor).then(|| state.directory.conductor_for(node)).flatten()
        };
        let traits = |node: &Node| self.traits.get(&node.uuid).map_or(&[][..], Vec::as_slice);
        let view =
            |node: &'a Node| View { node, traits: traits(node), conductor: conductor(node), context, fields };
        self.nodes.iter().map(view).collect()
    }
}

/// [`NodeView`] with the conductor's name owned.
struct View<'a> {
    node: &'a Node,
    traits: &'a [String],
    conductor: Option<String>,
    context: &'a Context,
    fields: &'a [NodeField],
}

impl serde::Serialize for View<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let View { node, traits, conductor, context, fields } = self;
        NodeView { node, fields, context, traits, conductor: conductor.as_deref() }.serialize(s)
    }
}

async fn list(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = Args::parse(request.query_string(), NODES_ARGS, context.version)?;
    list_with(&state, &context, &args, false).await
}

async fn list_detail(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let without_fields = &NODES_ARGS[..NODES_ARGS.len() - 2];
    let args = Args::parse(request.query_string(), without_fields, context.version)?;
    list_with(&state, &context, &args, true).await
}

async fn list_with(state: &WebState, context: &Context, args: &Args, detail: bool) -> Result<HttpResponse> {
    let fields = query::list_fields::<NodeField>(args, context.version, detail)?;
    let paging = Paging::parse(args, state.settings.max_limit)?;
    let mut wanted = filters(state, context, args).await?;
    wanted.sort_key = NodeSort::from_name(&paging.sort_key).ok_or_else(|| {
        ApiError::bad_request(format!(
            "The sort_key value \"{}\" is an invalid field for sorting",
            paging.sort_key
        ))
    })?;
    wanted.sort_dir = if paging.descending { SortDir::Desc } else { SortDir::Asc };
    wanted.limit = Some(i64::from(paging.limit));
    wanted.marker = paging.marker.as_deref().map(marker).transpose()?;

    // the ring of one conductor: either all nodes are its own, or none
    let nowhere = args.text("conductor").is_some_and(|name| name != state.directory.host());
    let with_traits = fields.contains(&NodeField::Traits);
    let loaded = read(state, move |conn| {
        let nodes = if nowhere { Vec::new() } else { nodes::list(conn, &wanted)? };
        let ids: Vec<Uuid> = nodes.iter().map(|node| node.uuid).collect();
        let traits = if with_traits { nodes::traits_of(conn, &ids)? } else { HashMap::new() };
        Ok(Loaded { nodes, traits })
    })
    .await?;
    let full = loaded.nodes.len() == paging.limit as usize;
    let last = loaded.nodes.last().filter(|_| full).map(|node| node.uuid.to_string());
    let path = if detail { "nodes/detail" } else { "nodes" };
    let next = last.map(|last| paging.next(context, path, args, &NODES_ARGS[..NODE_FILTERS], None, &last));
    let items = loaded.views(state, context, &fields);
    Ok(HttpResponse::Ok().json(Collection { name: "nodes", items: &items, next }))
}

/// A marker, which is a UUID.
pub(super) fn marker(text: &str) -> Result<Uuid> {
    query::parse_uuid(text)
        .ok_or_else(|| ApiError::not_found(format!("The marker {text} could not be found.")))
}

async fn filters(state: &WebState, context: &Context, args: &Args) -> Result<NodeQuery> {
    let text = |name: &str| args.text(name).map(str::to_owned);
    let parent_node = match args.text("parent_node") {
        Some(ident) => Some(find(state, context, ident).await?.uuid),
        None => None,
    };
    Ok(NodeQuery {
        instance_uuid: args.uuid("instance_uuid")?,
        associated: args.bool("associated")?,
        maintenance: args.bool("maintenance")?,
        retired: args.bool("retired")?,
        provision_state: args.text("provision_state").map(provision_state).transpose()?,
        driver: text("driver"),
        resource_class: text("resource_class"),
        fault: args.text("fault").map(fault).transpose()?,
        conductor_group: text("conductor_group").map(|group| group.to_ascii_lowercase()),
        owner: text("owner"),
        lessee: text("lessee"),
        project: text("project"),
        description_contains: text("description_contains"),
        shard: args.list("shard"),
        sharded: args.bool("sharded")?,
        include_children: args.bool("include_children")?.unwrap_or(false),
        parent_node,
        instance_name: text("instance_name"),
        chassis_uuid: args.uuid("chassis_uuid")?,
        ..NodeQuery::default()
    })
}

fn provision_state(text: &str) -> Result<Vec<State>> {
    let state: State = text.parse().map_err(|_| {
        ApiError::bad_request(format!("Provision state \"{text}\" is not valid: no node can be in it."))
    })?;
    Ok(vec![state])
}

fn fault(text: &str) -> Result<Fault> {
    text.parse().map_err(|_| {
        let all: Vec<&str> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
        ApiError::bad_request(format!("Unrecognized fault \"{text}\"; use one of {}.", all.join(", ")))
    })
}

async fn show(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = Args::parse(request.query_string(), ITEM_ARGS, context.version)?;
    let fields = query::item_fields::<NodeField>(&args, context.version)?;
    let node = find(&state, &context, &ident).await?;
    answer(&state, &context, node, &fields, HttpResponse::Ok()).await
}

/// `GET /nodes/{ident}/{field}`, which shows that field.
pub(super) async fn show_fields(
    state: &WebState,
    context: &Context,
    ident: &str,
    list: &str,
) -> Result<HttpResponse> {
    let fields = query::chosen::<NodeField>(list, context.version)?;
    let node = find(state, context, ident).await?;
    answer(state, context, node, &fields, HttpResponse::Ok()).await
}

async fn answer(
    state: &WebState,
    context: &Context,
    node: Node,
    fields: &[NodeField],
    mut response: actix_web::HttpResponseBuilder,
) -> Result<HttpResponse> {
    let mut loaded = Loaded { traits: HashMap::new(), nodes: Vec::with_capacity(1) };
    if fields.contains(&NodeField::Traits) {
        let id = node.uuid;
        loaded.traits.insert(id, read(state, move |conn| nodes::traits(conn, id)).await?);
    }
    loaded.nodes.push(node);
    Ok(response.json(&loaded.views(state, context, fields)[0]))
}

async fn create(
    request: HttpRequest,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    Args::parse(request.query_string(), crate::gates::NO_ARGS, context.version)?;
    let mut body = body.object()?;
    check_keys::<NodeField>(&body, &context)?;
    if body.get("driver").is_none_or(Value::is_null) {
        return Err(ApiError::bad_request(
            "'driver' is required: the hardware type of the node, such as ipmi or redfish.",
        ));
    }
    let version = context.version;
    let mut node = Node::new(Uuid::new_v4(), "", now());
    if !version.has(STARTS_IN_ENROLL) {
        node.provision_state = State::Available;
    }
    for field in NodeField::ALL {
        if let Some(value) = body.remove(field.spec().name) {
            node.write(*field, value, version).map_err(ApiError::bad_request)?;
        }
    }
    edit::settle_new(&mut node).map_err(ApiError::from)?;
    check_relations(&state, &node).await?;

    let node = state.directory.create(node).await?;
    let location = format!("{}/v1/nodes/{}", context.base, node.uuid);
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, location));
    answer(&state, &context, node, &query::all_fields(version), response).await
}

/// Refuses keys that POST does not take (400), or that are newer than the version (406, unless null).
pub(super) fn check_keys<F: Field>(body: &serde_json::Map<String, Value>, context: &Context) -> Result<()> {
    let known = |key: &str| F::named(key).filter(|field| field.spec().write.at_create());
    let strange: Vec<String> =
        body.keys().filter(|key| known(key).is_none()).map(|key| format!("'{key}'")).collect();
    if !strange.is_empty() {
        let verb = if strange.len() == 1 { "was" } else { "were" };
        return Err(ApiError::bad_request(format!(
            "Additional properties are not allowed ({} {verb} unexpected)",
            strange.join(", ")
        )));
    }
    for (key, value) in body {
        if let Some(field) = known(key)
            && !value.is_null()
            && !context.version.has(field.spec().since)
        {
            return Err(ApiError::too_new(
                &format!("attribute '{key}'"),
                field.spec().since,
                context.version,
            ));
        }
    }
    Ok(())
}

/// What a node refers to must exist.
async fn check_relations(state: &WebState, node: &Node) -> Result<()> {
    if let Some(chassis) = node.chassis_uuid {
        return Err(ApiError::bad_request(format!("Chassis {chassis} could not be found.")));
    }
    if let Some(parent) = node.parent_node {
        let known = read(state, move |conn| nodes::get(conn, parent)).await?.is_some();
        if !known || parent == node.uuid {
            return Err(ApiError::bad_request(format!("The parent node {parent} could not be found.")));
        }
    }
    Ok(())
}

/// The wall clock.
pub(super) fn now() -> ferric_machine::Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    ferric_machine::Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

async fn change(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = Args::parse(request.query_string(), PATCH_NODE_ARGS, context.version)?;
    let reset_interfaces = args.bool("reset_interfaces")?;
    let patch = Patch::<NodeField>::parse(body.0, context.version)?;
    let roots = patch.roots();
    if reset_interfaces.is_some() && !roots.contains(&NodeField::Driver) {
        return Err(ApiError::bad_request(
            "'reset_interfaces' may only be given together with a change of '/driver'.",
        ));
    }
    let node = find(&state, &context, &ident).await?;
    if patch.clears(NodeField::ChassisUuid)
        && node.chassis_uuid.is_some()
        && !context.version.has(UNSET_CHASSIS)
    {
        return Err(ApiError::too_new("unsetting 'chassis_uuid'", UNSET_CHASSIS, context.version));
    }
    let fields = query::all_fields(context.version);
    if patch.0.is_empty() {
        return answer(&state, &context, node, &fields, HttpResponse::Ok()).await;
    }
    if roots.contains(&NodeField::ParentNode) || roots.contains(&NodeField::ChassisUuid) {
        let mut wanted = node.clone();
        edit::apply(&mut wanted, &patch, context.version).map_err(ApiError::from)?;
        check_relations(&state, &wanted).await?;
    }
    let rules = Rules { version: context.version, directory: state.directory.clone() };
    let apply = Box::new(move |node: &mut Node| edit::patch_node(node, &patch, &rules));
    let update = Update { apply, reset_interfaces: reset_interfaces.unwrap_or(false) };
    let node = state.directory.ask(node.uuid, update).await?;
    answer(&state, &context, node, &fields, HttpResponse::Ok()).await
}

async fn delete(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    Args::parse(request.query_string(), crate::gates::NO_ARGS, context.version)?;
    let node = find(&state, &context, &ident).await?;
    state.directory.ask(node.uuid, DeleteNode).await?;
    Ok(HttpResponse::NoContent().finish())
}
