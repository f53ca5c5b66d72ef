//! What belongs to a node and is changed through it (port groups, volume connectors and targets): list, create, show,
//! change, delete, once for all of them.

use actix_web::http::header;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::NodeError;
use ferric_actors::belongings::{Belonging, Change, Create, Remove};
use ferric_schema::{Conn, Node, SortDir, StoreError, nodes};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::body::Body;
use crate::check::{self, is_logical_name};
use crate::context::Context;
use crate::document::Document;
use crate::error::{ApiError, Result};
use crate::gates::{Arg, Field};
use crate::patch::Patch;
use crate::policy::{Rule, Target};
use crate::query::{self, Args, Paging};
use crate::routes::found::{check_ident, check_keys, find as find_any_node, seen};
use crate::routes::{edit, read, without_json_suffix};
use crate::server::WebState;
use crate::version::Version;
use crate::views::{Collection, Links};

/// Who may do what with a kind of thing.
pub(super) struct Rules {
    pub(super) list_all: Rule,
    pub(super) list: Rule,
    pub(super) get: Rule,
    pub(super) create: Rule,
    pub(super) update: Rule,
    pub(super) delete: Rule,
}

/// Which page, and of what.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) node: Option<Uuid>,
    pub(super) address: Option<String>,
    pub(super) shard: Option<Vec<String>>,
    pub(super) conductor_groups: Option<Vec<String>>,
    pub(super) project: Option<String>,
    pub(super) sort_key: String,
    pub(super) sort_dir: SortDir,
    pub(super) limit: Option<i64>,
    pub(super) marker: Option<Uuid>,
}

/// A kind of thing that belongs to a node.
pub(super) trait OfNode: Belonging + Document {
    /// Its collection: the path below `/v1/`.
    const PATH: &'static str;
    /// The key of a list.
    const LIST: &'static str;
    /// The filters of the list, which the address of the next page repeats.
    const FILTERS: &'static [Arg];
    /// The columns that the address of the next page names.
    const COLUMNS: &'static str;
    /// Whether it goes by a name too.
    const NAMED: bool;
    /// What Ironic calls the part of the path that says which one.
    const IDENT: &'static str;
    /// What a client is told that asks for fields and for all of them.
    const FIELDS_OR_DETAIL: &'static str;
    /// Who may do what.
    const RULES: Rules;
    /// Fields that a patch may set to null and not take away.
    const KEPT: &'static [&'static str] = &[];

    /// A new one of that node, with nothing in it.
    fn empty(node: Uuid, state: &WebState) -> Self;
    /// Whether lists can be sorted by that key.
    fn sortable(key: &str) -> bool;
    /// The value of one field other than `links`.
    fn show<M: SerializeMap>(
        &self,
        field: Self::Field,
        context: &Context,
        map: &mut M,
    ) -> std::result::Result<(), M::Error>;
    /// One page.
    fn page(conn: &mut Conn, wanted: &Wanted) -> std::result::Result<Vec<Self>, StoreError>;
    /// By uuid or, if it has one, by name.
    fn find(conn: &mut Conn, ident: &str) -> std::result::Result<Option<Self>, StoreError>;
    /// What a client is told whose new one is on a node that is not there.
    fn no_node(given: &str) -> String;

    /// The version that `fields` and `sort_key` are read at, after gates of its own.
    fn reading(_names: &str, version: Version) -> Result<Version> {
        Ok(version)
    }

    /// The version that a body is read at, after gates of its own. `set`: the root fields that it names, and whether it
    /// says anything about them.
    fn writing(_set: &[(&str, bool)], version: Version) -> Result<Version> {
        Ok(version)
    }

    /// Whether a patch may name the node by its name.
    fn node_by_name() -> bool {
        false
    }
}

pub(super) struct View<'a, T: OfNode> {
    pub(super) row: &'a T,
    pub(super) fields: &'a [T::Field],
    pub(super) context: &'a Context,
}

impl<T: OfNode> Serialize for View<'_, T> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.fields.len()))?;
        for field in self.fields {
            map.serialize_key(field.spec().name)?;
            if *field == T::Field::LINKS {
                let path = format!("{}/{}", T::PATH, self.row.uuid());
                map.serialize_value(&Links { base: &self.context.base, path: &path, tail: "" })?;
            } else {
                self.row.show(*field, self.context, &mut map)?;
            }
        }
        map.end()
    }
}

fn missing<T: OfNode>(ident: &str) -> ApiError {
    ApiError::missing(T::WHAT, ident, T::PATH)
}

/// The one that a client calls `ident` and may do with what `rule` stands for, and the node that it belongs to.
async fn find<T: OfNode>(state: &WebState, context: &Context, ident: &str, rule: Rule) -> Result<(T, Node)> {
    if !T::NAMED && query::parse_uuid(ident).is_none() {
        return Err(ApiError::bad_request(format!("Expected UUID for {}: {ident}", T::IDENT)));
    }
    if T::NAMED && !is_logical_name(ident) {
        return Err(ApiError::no_ident(T::IDENT, ident));
    }
    let all = [Some(ident), without_json_suffix(ident, context)].into_iter().flatten();
    let all: Vec<String> = all.filter(|ident| !ident.contains('\0')).map(str::to_owned).collect();
    let found = read(state, move |conn| {
        for ident in all {
            if let Some(row) = T::find(conn, &ident)? {
                return Ok(nodes::get(conn, row.node())?.map(|node| (row, node)));
            }
        }
        Ok(None)
    });
    let (row, node) = found.await?.ok_or_else(|| missing::<T>(ident))?;
    if !context.may(T::RULES.get, Target::node(&node)) {
        return Err(missing::<T>(ident));
    }
    context.authorize(rule, Target::node(&node))?;
    Ok((row, node))
}

/// `GET` of the collection, and of `…/detail`.
pub(super) async fn list<T: OfNode>(
    request: HttpRequest,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    filtered::<T>(&state, &context, &args, false).await
}

pub(super) async fn list_detail<T: OfNode>(
    request: HttpRequest,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    filtered::<T>(&state, &context, &args, true).await
}

async fn filtered<T: OfNode>(
    state: &WebState,
    context: &Context,
    args: &Args,
    detail: bool,
) -> Result<HttpResponse> {
    let given = ["node", "address", "shard", "conductor_groups"];
    if given.iter().filter(|name| args.text(name).is_some_and(|text| !text.is_empty())).count() > 1 {
        return Err(ApiError::bad_request(
            "Filtering by node, address, or shard simultaneously is not supported.",
        ));
    }
    let address = args.text("address").map(|text| {
        crate::check::mac(text)
            .ok_or_else(|| ApiError::bad_request(format!("Schema error: '{text}' is not a 'mac-address'")))
    });
    let node = match args.text("node") {
        // one that may not be seen has nothing that may: the list is of the caller's project
        Some(ident) => Some(find_any_node(state, context, ident).await?.uuid),
        None => None,
    };
    let wanted = Wanted {
        node,
        address: address.transpose()?,
        shard: args.list("shard"),
        conductor_groups: args.list("conductor_groups"),
        ..Wanted::default()
    };
    let path = if detail { format!("{}/detail", T::PATH) } else { T::PATH.to_owned() };
    page::<T>(state, context, args, wanted, detail, &path).await
}

/// `GET /nodes/{uuid}/…`: only the UUID of a node will do here (api.md §3.5).
pub(super) async fn list_of_node<T: OfNode>(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    of_node::<T>(&state, &context, &args, &ident, false).await
}

pub(super) async fn list_of_node_detail<T: OfNode>(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    of_node::<T>(&state, &context, &args, &ident, true).await
}

async fn of_node<T: OfNode>(
    state: &WebState,
    context: &Context,
    args: &Args,
    ident: &str,
    detail: bool,
) -> Result<HttpResponse> {
    let missing = || ApiError::missing("Node", ident, "nodes");
    let uuid = query::parse_uuid(ident).ok_or_else(missing)?;
    let node = read(state, move |conn| nodes::get(conn, uuid)).await?.ok_or_else(missing)?;
    if !context.may(Rule::NodeGet, Target::node(&node)) {
        return Err(missing());
    }
    let wanted = Wanted { node: Some(uuid), ..Wanted::default() };
    let path = format!("nodes/{uuid}/{}{}", T::PATH, if detail { "/detail" } else { "" });
    page::<T>(state, context, args, wanted, detail, &path).await
}

/// A marker of a list.
fn marker<T: OfNode>(text: &str) -> Result<Uuid> {
    let refusal = || match T::NAMED {
        true => format!("Schema error: '{text}' is not a 'uuid'"),
        false => format!("Expected UUID for marker: {text}"),
    };
    query::parse_uuid(text).ok_or_else(|| ApiError::bad_request(refusal()))
}

async fn page<T: OfNode>(
    state: &WebState,
    context: &Context,
    args: &Args,
    mut wanted: Wanted,
    detail: bool,
    path: &str,
) -> Result<HttpResponse> {
    wanted.project = context.list_project(T::RULES.list_all, T::RULES.list, None)?;
    let fields = match args.text("fields") {
        Some(_) if args.bool("detail")?.unwrap_or(false) => {
            return Err(ApiError::bad_request(T::FIELDS_OR_DETAIL));
        }
        Some(names) => selected::<T>(names, context)?,
        None => query::list_fields::<T::Field>(args, context.version, detail)?,
    };
    if let Some(other) = args.text("sort_dir").filter(|dir| !["asc", "desc"].contains(dir)) {
        return Err(ApiError::bad_request(format!("Schema error: '{other}' is not one of ['asc', 'desc']")));
    }
    let paging = Paging::parse(args, state.settings.max_limit)?;
    T::reading(&paging.sort_key, context.version)?;
    if !T::sortable(&paging.sort_key) {
        return Err(query::unsortable::<T::Field>(&paging.sort_key));
    }
    wanted.sort_key.clone_from(&paging.sort_key);
    wanted.sort_dir = if paging.descending { SortDir::Desc } else { SortDir::Asc };
    wanted.limit = Some(i64::from(paging.limit));
    wanted.marker = paging.marker.as_deref().map(marker::<T>).transpose()?;
    let rows = read(state, move |conn| T::page(conn, &wanted)).await?;
    let last = rows.last().filter(|_| rows.len() == paging.limit as usize).map(|row| row.uuid().to_string());
    let columns = (!detail).then_some(T::COLUMNS);
    let next = last.map(|last| paging.next(context, path, args, T::FILTERS, columns, &last));
    let items: Vec<View<'_, T>> = rows.iter().map(|row| View { row, fields: &fields, context }).collect();
    Ok(HttpResponse::Ok().json(Collection { name: T::LIST, items: &items, next }))
}

/// The fields that a client asks for by name.
fn selected<T: OfNode>(names: &str, context: &Context) -> Result<Vec<T::Field>> {
    let names = query::enumerated::<T::Field>(names)?;
    let at = T::reading(&names, context.version)?;
    query::chosen(&names, at)
}

/// `GET /…/{ident}/{field}`, which shows that field.
pub(super) async fn show_fields<T: OfNode>(
    state: &WebState,
    context: &Context,
    ident: &str,
    list: &str,
) -> Result<HttpResponse> {
    let at = T::reading(list, context.version)?;
    let fields = query::chosen(list, at)?;
    let (row, _) = find::<T>(state, context, ident, T::RULES.get).await?;
    Ok(HttpResponse::Ok().json(View { row: &row, fields: &fields, context }))
}

pub(super) async fn show<T: OfNode>(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let fields = match args.text("fields") {
        Some(names) => selected::<T>(names, &context)?,
        None => query::all_fields(context.version),
    };
    let (row, _) = find::<T>(&state, &context, &ident, T::RULES.get).await?;
    Ok(HttpResponse::Ok().json(View { row: &row, fields: &fields, context: &context }))
}

pub(super) async fn create<T: OfNode>(
    request: HttpRequest,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let mut body = body.object_of(&check::noun::<T::Field>())?;
    let set: Vec<(&str, bool)> = body.iter().map(|(key, value)| (key.as_str(), says(value))).collect();
    let at = T::writing(&set, context.version)?;
    check_keys::<T::Field>(&body, &Context { version: at, ..context.clone() })?;
    // by the alphabet, as Ironic finds them
    let lacks = T::Field::ALL
        .iter()
        .map(|field| field.spec())
        .find(|spec| !check::nullable(spec.kind) && spec.write.at_create() && !body.contains_key(spec.name));
    if let Some(spec) = lacks {
        let noun = check::noun::<T::Field>();
        return Err(ApiError::bad_request(format!(
            "Schema error for {noun}: '{}' is a required property",
            spec.name
        )));
    }
    let node = owner::<T>(&state, &context, &mut body).await?;
    let mut row = T::empty(node.uuid, &state);
    for field in T::Field::ALL.iter().filter(|field| field.spec().write.at_create()) {
        if let Some(value) = body.remove(field.spec().name) {
            row.write(*field, value, at).map_err(ApiError::bad_request)?;
        }
    }
    let row = state.directory.ask(node.uuid, Create(row)).await?;
    let fields = query::all_fields(context.version);
    let location = format!("{}/v1/{}/{}", context.base, T::PATH, row.uuid());
    let view = View { row: &row, fields: &fields, context: &context };
    Ok(HttpResponse::Created().insert_header((header::LOCATION, location)).json(view))
}

/// Whether a value is more than the absence of one.
fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The node of a new one, whose `node_uuid` is taken out of the body.
async fn owner<T: OfNode>(
    state: &WebState,
    context: &Context,
    body: &mut Map<String, Value>,
) -> Result<Node> {
    let given = body.remove("node_uuid").unwrap_or_default();
    let text = given.as_str().unwrap_or_default();
    let Some(uuid) = query::parse_uuid(text) else {
        return Err(ApiError::bad_request(format!("Expected UUID for node_uuid: {text}")));
    };
    let found = read(state, move |conn| nodes::get(conn, uuid)).await?;
    let target = found.as_ref().map_or(Target::NONE, Target::node);
    context.authorize(T::RULES.create, target)?;
    found.ok_or_else(|| ApiError::bad_request(T::no_node(text)))
}

/// Puts the UUID of the node into a patch that names it, and refuses one that is not there, or that a caller who may do
/// what `rule` stands for with things of `from` may not bring one to.
pub(super) async fn resolve_node(
    state: &WebState,
    context: &Context,
    patch: &mut Option<Value>,
    by_name: bool,
    (from, rule): (Uuid, Rule),
) -> Result<()> {
    let Some(Value::Array(changes)) = patch else { return Ok(()) };
    for change in changes {
        let Some(change) = change.as_object_mut() else { continue };
        if change.get("path").and_then(Value::as_str) != Some("/node_uuid") {
            continue;
        }
        let Some(Value::String(ident)) = change.get_mut("value") else { continue };
        if !by_name && query::parse_uuid(ident).is_none() {
            return Err(ApiError::bad_request(format!(
                "Expected a UUID for node_uuid, but received {ident}."
            )));
        }
        check_ident(ident)?;
        let Some(node) = seen(state, context, ident).await? else {
            return Err(ApiError::bad_request(format!(
                "Unable to apply the requested node_uuid '{ident}'. Requested value was invalid."
            )));
        };
        if node.uuid != from {
            may_come_to(context, &node, rule)?;
        }
        *ident = node.uuid.to_string();
    }
    Ok(())
}

/// Whether what belongs to another node may become this one's.
fn may_come_to(context: &Context, node: &Node, rule: Rule) -> Result<()> {
    context.authorize(rule, Target::node(node))?;
    match &node.reservation {
        None => Ok(()),
        Some(host) => {
            let locked = NodeError::Locked { node: node.uuid, host: host.clone(), doing: String::new() };
            Err(locked.into())
        }
    }
}

/// The root fields that a patch names.
fn roots(patch: &Option<Value>) -> Vec<(&str, bool)> {
    let changes = patch.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    changes
        .iter()
        .filter_map(|change| change.get("path").and_then(Value::as_str))
        .filter_map(|path| path.strip_prefix('/').and_then(|rest| rest.split('/').next()))
        .map(|root| (root, true))
        .collect()
}

/// Whether a patch takes the whole field away.
fn removes(patch: &Option<Value>, name: &str) -> bool {
    let changes = patch.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    changes.iter().any(|change| {
        change.get("op").and_then(Value::as_str) == Some("remove")
            && change.get("path").and_then(Value::as_str).and_then(|path| path.strip_prefix('/'))
                == Some(name)
    })
}

pub(super) async fn change<T: OfNode>(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let mut body = body.0;
    let (mut row, node) = find::<T>(&state, &context, &ident, T::RULES.update).await?;
    let at = T::writing(&roots(&body), context.version)?;
    resolve_node(&state, &context, &mut body, T::node_by_name(), (node.uuid, T::RULES.update)).await?;
    if let Some(name) = T::KEPT.iter().find(|name| removes(&body, name)) {
        return Err(ApiError::bad_request(format!(
            "'{name}' is a mandatory attribute and can not be removed"
        )));
    }
    let patch = Patch::<T::Field>::parse(body, at)?;
    // an empty one is asked for too: the state of the node may forbid it
    let apply = Box::new(move |row: &mut T, _: &Node| edit::apply(row, &patch, at));
    row = state.directory.ask(node.uuid, Change { uuid: row.uuid(), apply }).await?;
    let fields = query::all_fields(context.version);
    Ok(HttpResponse::Ok().json(View { row: &row, fields: &fields, context: &context }))
}

pub(super) async fn delete<T: OfNode>(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let (row, node) = find::<T>(&state, &context, &ident, T::RULES.delete).await?;
    state.directory.ask(node.uuid, Remove::<T>::new(row.uuid())).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// POST to one that there is: only the collection takes new ones.
pub(super) async fn named<T: OfNode>(ident: Path<String>) -> Result<HttpResponse> {
    Err(ApiError::bad_request(format!(
        "Schema error for {}: '{ident}' is not of type 'object'. A new one is sent to the collection, /v1/{}.",
        check::noun::<T::Field>(),
        T::PATH
    )))
}

/// PATCH, DELETE of a whole collection: it must be said which one.
pub(super) async fn unnamed<T: OfNode>() -> Result<HttpResponse> {
    Err(ApiError::bad_request(format!(
        "Missing mandatory parameter: {}. Which {} is meant must stand in the path.",
        T::IDENT,
        T::WHAT.to_lowercase()
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ferric_machine::Timestamp;

    use super::*;
    use crate::policy::{Caller, Identity, Policy};

    #[test]
    fn what_belongs_to_a_node_is_not_brought_to_one_where_it_could_not_be_changed() {
        let policy = Arc::new(Policy::load(None, None).expect("the policies"));
        let may = |role: &str, node: &Node, rule: Rule| {
            let identity = Identity {
                project_id: Some("mine".to_owned()),
                is_admin_project: true,
                roles: ["admin", "manager", "member", "reader"]
                    .into_iter()
                    .skip_while(|one| *one != role)
                    .map(str::to_owned)
                    .collect(),
                ..Identity::default()
            };
            let caller = Caller::Token { identity: Arc::new(identity), policy: policy.clone() };
            let context = Context { version: Version::MAX, base: String::new(), caller, operation: None };
            may_come_to(&context, node, rule).map_err(|error| error.to_string())
        };
        let node = |owner: &str, lessee: &str| {
            let mut node = Node::new(Uuid::new_v4(), "fake-hardware", Timestamp(0));
            node.owner = Some(owner.to_owned());
            node.lessee = Some(lessee.to_owned());
            node
        };
        for rule in [Rule::PortUpdate, Rule::PortgroupUpdate] {
            assert_eq!(may("manager", &node("mine", "another"), rule), Ok(()));
            for (role, owner) in [("manager", "another"), ("member", "mine"), ("member", "another")] {
                let told = may(role, &node(owner, "mine"), rule).expect_err("not theirs");
                assert!(told.starts_with("Access was denied"), "{role} {owner}: {told}");
            }
            let mut held = node("mine", "another");
            held.reservation = Some("elsewhere".to_owned());
            let told = may("manager", &held, rule).expect_err("held");
            assert!(told.contains("is locked by host elsewhere"), "{told}");
        }
    }
}
