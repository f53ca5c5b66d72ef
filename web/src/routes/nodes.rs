//! `/v1/nodes`: create, list, show, change, delete (api.md §3.1 to §3.4).

use actix_web::http::header;
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::NodeError;
use ferric_actors::message::{DeleteNode, Update};
use ferric_machine::{Fault, State};
use ferric_schema::{Conn, Node, NodeQuery, NodeSort, SortDir, StoreError, chassis, nodes};
use serde_json::Value;
use uuid::Uuid;

use crate::body::Body;
use crate::context::Context;
use crate::document::Document;
use crate::error::{ApiError, Result};
use crate::gates::{Field, Kind, NODE_FILTERS, NodeField, STARTS_IN_ENROLL, UNSET_CHASSIS};
use crate::nearest::did_you_mean;
use crate::patch::Patch;
use crate::policy::{Rule, Target};
use crate::query::{self, Args, Paging};
use crate::routes::at::under;
use crate::routes::edit::{self, Rules};
use crate::routes::found::{check_keys, find_for, marker, seen};
use crate::routes::node::Besides;
use crate::routes::read;
use crate::rows;
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    for prefix in ["/v1", ""] {
        cfg.service(under(prefix, "/nodes").get(list).post(create))
            .service(under(prefix, "/nodes/detail").get(list_detail))
            .service(under(prefix, "/nodes/validate").get(super::management::validate_by_query))
            .service(under(prefix, "/nodes/{ident}").get(super::node::show).patch(change).delete(delete));
    }
}

async fn list(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    list_with(&state, &context, &args, None, false).await
}

async fn list_detail(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    list_with(&state, &context, &args, None, true).await
}

/// The nodes in a chassis that there is.
pub(super) async fn list_in(
    state: &WebState,
    context: &Context,
    args: &Args,
    chassis: Uuid,
    detail: bool,
) -> Result<HttpResponse> {
    list_with(state, context, args, Some(chassis), detail).await
}

async fn list_with(
    state: &WebState,
    context: &Context,
    args: &Args,
    chassis: Option<Uuid>,
    detail: bool,
) -> Result<HttpResponse> {
    let fields = query::list_fields::<NodeField>(args, context.version, detail)?;
    let paging = Paging::parse(args, state.settings.max_limit)?;
    let project = context.list_project(Rule::NodeListAll, Rule::NodeList, args.text("project"))?;
    let mut wanted = filters(args)?;
    wanted.parent_node = match args.text("parent_node") {
        None => None,
        // a parent that is not there has no children
        Some(ident) => Some(match query::parse_uuid(ident) {
            Some(id) => id,
            None => seen(state, context, ident).await?.map_or(Uuid::nil(), |node| node.uuid),
        }),
    };
    wanted.project = project;
    if let Some(id) = wanted.chassis_uuid
        && read(state, move |conn| chassis::get(conn, id)).await?.is_none()
    {
        return Err(ApiError::not_found(format!("Chassis {id} could not be found.")));
    }
    wanted.chassis_uuid = chassis.or(wanted.chassis_uuid);
    if let Some(field) = NodeField::named(&paging.sort_key)
        && !context.version.has(field.spec().since)
    {
        let what = format!("the sort key '{}'", paging.sort_key);
        return Err(ApiError::too_new(&what, field.spec().since, context.version));
    }
    // Ironic keeps the chassis by its number, which cannot be asked for
    let sortable = NodeSort::from_name(&paging.sort_key).filter(|key| *key != NodeSort::ChassisUuid);
    wanted.sort_key = sortable.ok_or_else(|| {
        ApiError::bad_request(format!(
            "The sort_key value {} is an invalid field for sorting{}",
            sort_key_shown(&paging.sort_key),
            query::sort_hint::<NodeField>(&paging.sort_key)
        ))
    })?;
    wanted.sort_dir = if paging.descending { SortDir::Desc } else { SortDir::Asc };
    wanted.limit = Some(i64::from(paging.limit));
    wanted.marker = paging.marker.as_deref().map(marker).transpose()?;

    // the ring of one conductor: either all nodes are its own, or none
    let nowhere = args.text("conductor").is_some_and(|name| name != state.directory.host());
    let directory = state.directory.clone();
    let asker = context.clone();
    let usual = args.text("fields").is_none();
    // put together where it is read: a page of a thousand nodes takes milliseconds, which others would wait here
    let page = read(state, move |conn| {
        let conductor_of = Box::new(move |driver: &str, group: &str| directory.conductor_of(driver, group));
        let wanted = (!nowhere).then_some(&wanted);
        rows::page(conn, wanted, &fields, usual, &asker, conductor_of)
    })
    .await?;
    let full = page.count == paging.limit as usize;
    let last = page.last.filter(|_| full);
    let columns = (!detail).then_some(LIST_COLUMNS);
    let within = chassis.map(|id| format!("chassis/{id}/")).unwrap_or_default();
    let path = format!("{within}nodes{}", if detail { "/detail" } else { "" });
    let next = last.map(|last| paging.next(context, &path, args, NODE_FILTERS, columns, &last));
    let text = page.text.end(next.as_deref());
    Ok(HttpResponse::Ok().content_type(header::ContentType::json()).body(text))
}

/// What the address of a next page asks for where the client asked for nothing.
const LIST_COLUMNS: &str = "instance_uuid,maintenance,power_state,provision_state,uuid,name";

/// Keys of columns that cannot be compared stand bare in Ironic's text, unknown ones in quotes.
fn sort_key_shown(key: &str) -> String {
    match NodeField::named(key).map(|field| (field, field.spec().kind)) {
        Some((NodeField::Traits, _) | (_, Kind::Object)) => key.to_owned(),
        _ => format!("\"{key}\""),
    }
}

fn filters(args: &Args) -> Result<NodeQuery> {
    let text = |name: &str| args.text(name).map(str::to_owned);
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
        description_contains: text("description_contains"),
        shard: args.list("shard"),
        sharded: args.bool("sharded")?,
        include_children: args.bool("include_children")?.unwrap_or(false),
        instance_name: text("instance_name"),
        chassis_uuid: args.uuid("chassis_uuid")?,
        ..NodeQuery::default()
    })
}

fn provision_state(text: &str) -> Result<Vec<State>> {
    let state: State = text
        .parse()
        .map_err(|_| ApiError::bad_request(format!("Provision state \"{text}\" is not valid")))?;
    Ok(vec![state])
}

fn fault(text: &str) -> Result<Fault> {
    text.parse().map_err(|_| {
        let all: Vec<&str> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
        let all: Vec<String> = all.iter().map(|fault| format!("'{fault}'")).collect();
        ApiError::bad_request(format!(
            "Unrecognized fault \"{text}\" is specified, allowed faults are ({})",
            all.join(", ")
        ))
    })
}

/// What clients are told whose node has what another has already.
fn taken(state: &WebState, error: NodeError, node: Uuid) -> ApiError {
    if let NodeError::NoValidHost { driver, .. } = &error {
        let mut known: Vec<String> = state.directory.drivers().into_iter().map(|one| one.name).collect();
        known.sort_unstable();
        if known.contains(driver) {
            return ApiError::bad_request(format!(
                "{error} The driver is there; no conductor serves that group."
            ));
        }
        let meant = did_you_mean(driver, known.iter().map(String::as_str));
        return ApiError::bad_request(format!("{error} Enabled are: {}.{meant}", known.join(", ")));
    }
    let NodeError::Store(StoreError::Duplicate { what, value }) = &error else { return error.into() };
    let text = match *what {
        "name" => format!("A node with name {value} already exists."),
        "uuid" => format!("A node with UUID {value} already exists."),
        "instance_uuid" => format!(
            "Instance {value} is already associated with a node, it cannot be associated with this other node {node}"
        ),
        _ => return error.into(),
    };
    ApiError::conflict(text)
}

/// The parent that a client names: a UUID, or a name.
async fn name_parent(state: &WebState, context: &Context, parent: &mut Value) -> Result<()> {
    let Some(ident) = parent.as_str() else { return Ok(()) };
    let found = seen(state, context, ident).await?.ok_or_else(|| {
        let shown: String = ident.chars().take(64).collect();
        ApiError::bad_request(format!(
            "Unable to apply the requested parent_node '{shown}'. Requested value was invalid."
        ))
    })?;
    *parent = Value::String(found.uuid.to_string());
    Ok(())
}

async fn answer(
    state: &WebState,
    context: &Context,
    node: Node,
    fields: &[NodeField],
    mut response: actix_web::HttpResponseBuilder,
) -> Result<HttpResponse> {
    let shown = fields.to_vec();
    let reading = move |conn: &mut Conn| Besides::read(conn, &node, &shown).map(|besides| (node, besides));
    let (node, besides) = read(state, reading).await?;
    let conductor =
        fields.contains(&NodeField::Conductor).then(|| state.directory.conductor_for(&node)).flatten();
    Ok(response.json(besides.view(&node, fields, context, conductor.as_deref())))
}

async fn create(
    request: HttpRequest,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let own = state.settings.own_nodes && context.may(Rule::NodeCreateSelfOwnedNode, Target::NONE);
    if !own {
        context.authorize(Rule::NodeCreate, Target::NONE)?;
    }
    let mut body = body.object_of("node")?;
    check_keys::<NodeField>(&body, &context)?;
    if body.get("driver").is_none_or(Value::is_null) {
        return Err(ApiError::bad_request(match body.get("driver") {
            None => {
                "Schema error for node: 'driver' is a required property. It is the hardware type, such as ipmi."
            }
            Some(_) => {
                "Schema error for node: None is not of type 'string'. 'driver' takes the name of a hardware type."
            }
        }));
    }
    let version = context.version;
    if let Some(parent) = body.get_mut("parent_node") {
        name_parent(&state, &context, parent).await?;
    }
    let mut node = Node::new(Uuid::new_v4(), "", state.directory.now());
    if !version.has(STARTS_IN_ENROLL) {
        node.provision_state = State::Available;
    }
    for field in NodeField::ALL {
        if let Some(value) = body.remove(field.spec().name) {
            node.write(*field, value, version).map_err(ApiError::bad_request)?;
        }
    }
    if own {
        adopt(&mut node, &context)?;
    }
    edit::settle_new(&mut node).map_err(ApiError::from)?;
    check_relations(&state, &context, &node, node.owner.as_deref()).await?;

    let id = node.uuid;
    let node = state.directory.create(node).await.map_err(|error| taken(&state, error, id))?;
    let location = format!("{}/v1/nodes/{}", context.base, node.uuid);
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, location));
    answer(&state, &context, node, &query::all_fields(version), response).await
}

/// The node of a caller that does not speak for the system is the caller's project's. Without authentication there is no
/// project, and no owner can be given (as in Ironic; PATCH takes one).
fn adopt(node: &mut Node, context: &Context) -> Result<()> {
    if context.caller.is_system() {
        return Ok(());
    }
    let project = context.caller.project();
    if node.owner.as_deref().is_some_and(|owner| Some(owner) != project) {
        return Err(ApiError::bad_request(
            "Cannot create a node as a project scoped admin with an owner other than your own project. Leave the owner \
             away and set it afterwards, or ask with a token of the system.",
        ));
    }
    node.owner = project.map(str::to_owned);
    Ok(())
}

/// What a change of a field takes.
fn change_policy(field: NodeField) -> Rule {
    use NodeField as F;
    match field {
        F::InstanceInfo | F::InstanceName => Rule::NodeUpdateInstanceInfo,
        F::Extra => Rule::NodeUpdateExtra,
        F::DriverInfo => Rule::NodeUpdateDriverInfo,
        F::Properties => Rule::NodeUpdateProperties,
        F::ChassisUuid => Rule::NodeUpdateChassisUuid,
        F::InstanceUuid => Rule::NodeUpdateInstanceUuid,
        F::Lessee => Rule::NodeUpdateLessee,
        F::Owner => Rule::NodeUpdateOwner,
        F::NetworkData => Rule::NodeUpdateNetworkData,
        F::ConductorGroup => Rule::NodeUpdateConductorGroup,
        F::Name => Rule::NodeUpdateName,
        F::Retired | F::RetiredReason => Rule::NodeUpdateRetired,
        F::Shard => Rule::NodeUpdateShard,
        F::ParentNode => Rule::NodeUpdateParentNode,
        F::DisablePowerOff => Rule::NodeUpdateDisablePowerOff,
        F::Driver
        | F::BiosInterface
        | F::BootInterface
        | F::ConsoleInterface
        | F::DeployInterface
        | F::FirmwareInterface
        | F::InspectInterface
        | F::ManagementInterface
        | F::NetworkInterface
        | F::PowerInterface
        | F::RaidInterface
        | F::RescueInterface
        | F::StorageInterface
        | F::VendorInterface => Rule::NodeUpdateDriverInterfaces,
        F::AllocationUuid
        | F::AutomatedClean
        | F::BootMode
        | F::CleanStep
        | F::Conductor
        | F::ConsoleEnabled
        | F::CreatedAt
        | F::DeployStep
        | F::Description
        | F::DriverInternalInfo
        | F::Fault
        | F::Health
        | F::InspectionFinishedAt
        | F::InspectionStartedAt
        | F::LastError
        | F::Maintenance
        | F::MaintenanceReason
        | F::PowerState
        | F::Protected
        | F::ProtectedReason
        | F::ProvisionState
        | F::ProvisionUpdatedAt
        | F::RaidConfig
        | F::Reservation
        | F::ResourceClass
        | F::SecureBoot
        | F::ServiceStep
        | F::TargetPowerState
        | F::TargetProvisionState
        | F::TargetRaidConfig
        | F::Traits
        | F::UpdatedAt
        | F::Uuid
        | F::Links
        | F::Ports
        | F::States
        | F::Portgroups
        | F::Volume => Rule::NodeUpdate,
    }
}

/// What a patch takes: a policy for each field, and another for switching cleaning off.
fn change_policies(patch: &Patch<NodeField>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for field in patch.roots() {
        let off = field == NodeField::AutomatedClean && patch.sets(field, &Value::Bool(false));
        let rule = if off { Rule::NodeDisableCleaning } else { change_policy(field) };
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    if rules.is_empty() {
        rules.push(Rule::NodeUpdate);
    }
    rules
}

/// What a node refers to must exist.
async fn check_relations(
    state: &WebState,
    context: &Context,
    node: &Node,
    owner: Option<&str>,
) -> Result<()> {
    if let Some(chassis) = node.chassis_uuid
        && read(state, move |conn| chassis::get(conn, chassis)).await?.is_none()
    {
        return Err(ApiError::bad_request(format!("Chassis {chassis} could not be found.")));
    }
    if let Some(parent) = node.parent_node {
        let found = read(state, move |conn| nodes::get(conn, parent)).await?;
        // whether there is one that may not be seen, or that is another's, is not told
        let fits = parent != node.uuid
            && found.is_some_and(|parent| {
                context.may(Rule::NodeGet, Target::node(&parent)) && parent.owner.as_deref() == owner
            });
        if !fits {
            return Err(ApiError::bad_request(format!(
                "Unable to apply the requested parent_node '{parent}'. Requested value was invalid."
            )));
        }
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
    let args = context.args(&request)?;
    let reset_interfaces = args.bool("reset_interfaces")?;
    let mut patch = Patch::<NodeField>::parse(body.0, context.version)?;
    let roots = patch.roots();
    if reset_interfaces.is_some() && !roots.contains(&NodeField::Driver) {
        return Err(ApiError::bad_request(
            "The reset_interfaces parameter can only be used when changing the node's driver.",
        ));
    }
    let rules = change_policies(&patch);
    let node = find_for(&state, &context, &ident, rules[0]).await?;
    rules[1..].iter().try_for_each(|rule| context.authorize(*rule, Target::node(&node)))?;
    if roots.contains(&NodeField::Owner)
        && node.provision_state == State::Active
        && !context.may(Rule::NodeUpdateOwnerProvisioned, Target::node(&node))
    {
        return Err(ApiError::conflict(format!(
            "Cannot update owner of node \"{}\" while it is in state \"active\".",
            node.uuid
        )));
    }
    if patch.replaces_by_null(NodeField::Name) {
        return Err(ApiError::bad_request(format!(
            "Node {}: Cannot change name to invalid name 'None'. Remove '/name' to take it away.",
            node.uuid
        )));
    }
    if patch
        .values_mut(NodeField::NetworkData)
        .any(|value| value.as_object().is_some_and(|map| map.is_empty()))
    {
        return Err(ApiError::bad_request(
            "Invalid network_data: 'links' is a required property. Remove '/network_data' to take it away.",
        ));
    }
    for parent in patch.values_mut(NodeField::ParentNode) {
        name_parent(&state, &context, parent).await?;
    }
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
        check_relations(&state, &context, &wanted, node.owner.as_deref()).await?;
    }
    let rules = Rules { version: context.version, directory: state.directory.clone() };
    let apply = Box::new(move |node: &mut Node| edit::patch_node(node, &patch, &rules));
    let update = Update { apply, reset_interfaces: reset_interfaces.unwrap_or(false) };
    let id = node.uuid;
    let node = state.directory.ask(id, update).await.map_err(|error| taken(&state, error, id))?;
    answer(&state, &context, node, &fields, HttpResponse::Ok()).await
}

async fn delete(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let node = find_for(&state, &context, &ident, Rule::NodeGet).await?;
    let target = Target::node(&node);
    if !(state.settings.own_nodes && context.may(Rule::NodeDeleteSelfOwnedNode, target)) {
        context.authorize(Rule::NodeDelete, target)?;
    }
    state.directory.ask(node.uuid, DeleteNode).await?;
    Ok(HttpResponse::NoContent().finish())
}
