//! `/v1/allocations` and `/v1/nodes/{ident}/allocation` (api.md §6). What is asked for is written down and answered;
//! the actors look for the node afterwards.

use std::collections::{HashMap, HashSet};

use actix_web::http::header;
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_schema::allocations::{self, Allocation, AllocationQuery, AllocationSort};
use ferric_schema::{JsonList, JsonText, Node, SortDir};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::body::Body;
use crate::check::{check, is_logical_name, not_a_trait, not_of_type, shown, trait_name};
use crate::context::Context;
use crate::document::Document;
use crate::error::{ApiError, Result};
use crate::gates::{ALLOCATION_BACKFILL, ALLOCATION_FILTERS, AllocationField, Field};
use crate::patch::Patch;
use crate::policy::{Rule, Target};
use crate::query::{self, Args, Paging};
use crate::routes::found::{check_keys, find_for, find_maybe, missing as missing_node, seen};
use crate::routes::{at, edit, read, without_json_suffix};
use crate::server::WebState;
use crate::version::Version;
use crate::views::{Collection, Iso, Links};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/allocations").get(list).post(create).patch(unnamed).delete(unnamed))
        .service(at("/allocations/{ident}").get(show).patch(change).delete(delete))
        .service(at("/nodes/{ident}/allocation").get(show_of_node).delete(delete_of_node));
}

/// How often a change is tried again that the allocator, or another client, came before.
const TRIES: usize = 5;

/// A name is what a path can hold unencoded.
fn is_name(text: &str) -> bool {
    is_logical_name(text) && text.len() <= 255
}

/// What a schema says to what is neither of two things.
fn neither(value: &Value, why: &str) -> String {
    let value = shown(value);
    format!(
        "Schema error for allocation: {value} is not valid under any of the given schemas. Possible root cause: \
         {value} is not {why}"
    )
}

/// What may be a list, or null.
fn list_of(field: AllocationField, value: &Value) -> std::result::Result<&[Value], String> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            let remedy = format!("'{}' takes a list.", field.spec().name);
            Err(not_of_type("allocation", value, "'array', 'null'", &remedy))
        }
    }
}

/// A fault of a body, under the name that Ironic has for those of allocations, which is none.
fn unnamed_schema(error: ApiError) -> ApiError {
    match error {
        ApiError::Refused { status, text, retry_after } => {
            let told = ["Schema error for allocation:", "Schema error for body:", "Schema error for patch:"];
            let text = match told.iter().find_map(|start| text.strip_prefix(start)) {
                Some(rest) => format!("Schema error:{rest}"),
                None => text,
            };
            ApiError::Refused { status, text, retry_after }
        }
        other @ (ApiError::NotRouted { .. } | ApiError::OverLimit { .. }) => other,
    }
}

impl Document for Allocation {
    type Field = AllocationField;

    fn read(&self, field: AllocationField) -> Value {
        use AllocationField as F;
        match field {
            F::CandidateNodes => Value::Array(self.candidate_nodes.parse()),
            F::Extra => Value::Object(self.extra.parse()),
            F::Name => json!(self.name),
            F::Owner => json!(self.owner),
            F::ResourceClass => json!(self.resource_class),
            F::Traits => Value::Array(self.traits.parse()),
            F::Uuid => json!(self.uuid),
            F::CreatedAt | F::LastError | F::NodeUuid | F::State | F::UpdatedAt | F::Links => Value::Null,
        }
    }

    fn write(
        &mut self,
        field: AllocationField,
        value: Value,
        version: Version,
    ) -> std::result::Result<(), String> {
        use AllocationField as F;
        match field {
            F::CandidateNodes => {
                for item in list_of(field, &value)? {
                    match item.as_str() {
                        None => return Err(neither(item, "of type 'string'")),
                        Some(name) if !is_name(name) => return Err(neither(item, "a 'uuid'")),
                        Some(_) => {}
                    }
                }
                self.candidate_nodes = JsonList::from(list_of(field, &value)?);
                return Ok(());
            }
            F::Traits => {
                for item in list_of(field, &value)? {
                    let Some(name) = item.as_str() else {
                        let remedy = "A trait is a string.";
                        return Err(not_of_type("allocation", item, "'string'", remedy));
                    };
                    trait_name(name).map_err(|why| not_a_trait("allocation", name, &why))?;
                }
                self.traits = JsonList::from(list_of(field, &value)?);
                return Ok(());
            }
            // whether it can be one is said of the whole
            F::Name if value.is_string() => {
                self.name = value.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
                return Ok(());
            }
            F::CreatedAt | F::Extra | F::LastError | F::Links | F::Name | F::NodeUuid | F::Owner => {}
            F::ResourceClass | F::State | F::UpdatedAt | F::Uuid => {}
        }
        let value = check(field, value, version)?;
        let text = value.as_str().map(str::to_owned);
        match field {
            F::Extra => self.extra = value.as_object().map(JsonText::from).unwrap_or_default(),
            F::Name => self.name = text.filter(|name| !name.is_empty()),
            F::Owner => self.owner = text,
            F::ResourceClass => self.resource_class = text.filter(|class| !class.is_empty()),
            F::Uuid => self.uuid = text.and_then(|id| Uuid::try_parse(&id).ok()).unwrap_or(self.uuid),
            F::CandidateNodes | F::Traits => {}
            F::CreatedAt | F::LastError | F::NodeUuid | F::State | F::UpdatedAt | F::Links => {}
        }
        Ok(())
    }
}

struct View<'a> {
    row: &'a Allocation,
    fields: &'a [AllocationField],
    context: &'a Context,
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        use AllocationField as F;
        let row = self.row;
        let mut m = s.serialize_map(Some(self.fields.len()))?;
        for field in self.fields {
            m.serialize_key(field.spec().name)?;
            match field {
                F::CandidateNodes => m.serialize_value(&row.candidate_nodes)?,
                F::CreatedAt => m.serialize_value(&Iso(row.created_at))?,
                F::Extra => m.serialize_value(&row.extra)?,
                F::LastError => m.serialize_value(&row.last_error)?,
                F::Name => m.serialize_value(&row.name)?,
                F::NodeUuid => m.serialize_value(&row.node_uuid)?,
                F::Owner => m.serialize_value(&row.owner)?,
                F::ResourceClass => m.serialize_value(&row.resource_class)?,
                F::State => m.serialize_value(&row.state)?,
                F::Traits => m.serialize_value(&row.traits)?,
                F::UpdatedAt => m.serialize_value(&row.updated_at.map(Iso))?,
                F::Uuid => m.serialize_value(&row.uuid)?,
                F::Links => {
                    let path = format!("allocations/{}", row.uuid);
                    m.serialize_value(&Links { base: &self.context.base, path: &path, tail: "" })?;
                }
            }
        }
        m.end()
    }
}

fn target(row: &Allocation) -> Target<'_> {
    Target { owner: row.owner.as_deref(), lessee: None }
}

fn missing(ident: &str) -> ApiError {
    ApiError::missing("Allocation", ident, "allocations")
}

/// The allocation that a client calls `ident`, for what `rule` stands for: 404 if the caller may not see it, 403 if it
/// may see it and not do that.
async fn find(state: &WebState, context: &Context, ident: &str, rule: Rule) -> Result<Allocation> {
    if !is_name(ident) {
        return Err(ApiError::bad_request(format!("Expected a logical name or UUID but received {ident}.")));
    }
    let candidates: Vec<String> =
        [Some(ident), without_json_suffix(ident, context)].into_iter().flatten().map(str::to_owned).collect();
    let found = read(state, move |conn| {
        for ident in candidates {
            if let Some(found) = allocations::find(conn, &ident)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    });
    let row = found.await?.ok_or_else(|| missing(ident))?;
    if !context.may(Rule::AllocationGet, target(&row)) {
        return Err(missing(ident));
    }
    context.authorize(rule, target(&row))?;
    Ok(row)
}

/// The same words as where a path names a node that is not there, and 400.
fn no_node(context: &Context, ident: &str) -> ApiError {
    if !is_name(ident) {
        return unnamed_schema(ApiError::bad_request(neither(&Value::from(ident), "a 'uuid'")));
    }
    ApiError::bad_request(missing_node(context, ident).to_string())
}

/// A node that a body or a query names: it is 400 if there is none.
async fn named_node(state: &WebState, context: &Context, ident: &str) -> Result<Node> {
    if !is_name(ident) {
        return Err(no_node(context, ident));
    }
    seen(state, context, ident).await?.ok_or_else(|| no_node(context, ident))
}

async fn list(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let owner = context.list_project(Rule::AllocationListAll, Rule::AllocationList, args.text("owner"))?;
    known_fields(&args, context.version)?;
    let fields = query::list_fields::<AllocationField>(&args, context.version, false)?;
    if let Some(dir) = args.text("sort_dir").filter(|dir| !["asc", "desc"].contains(dir)) {
        return Err(ApiError::bad_request(format!("Schema error: '{dir}' is not one of ['asc', 'desc']")));
    }
    let paging = Paging::parse(&args, state.settings.max_limit)?;
    let unsortable = |quote: &str| {
        let key = &paging.sort_key;
        ApiError::bad_request(format!(
            "The sort_key value {quote}{key}{quote} is an invalid field for sorting"
        ))
    };
    let sort_key = match AllocationSort::from_name(&paging.sort_key) {
        Some(key) => key,
        None if ["extra", "candidate_nodes", "traits"].contains(&paging.sort_key.as_str()) => {
            return Err(unsortable(""));
        }
        None => return Err(unsortable("\"")),
    };
    let marker = match paging.marker.as_deref() {
        None => None,
        Some(text) => Some(
            query::parse_uuid(text)
                .ok_or_else(|| ApiError::bad_request(format!("Schema error: '{text}' is not a 'uuid'")))?,
        ),
    };
    let node = match args.text("node") {
        Some(ident) => Some(named_node(&state, &context, ident).await?.uuid),
        None => None,
    };
    let text = |name: &str| args.text(name).map(str::to_owned);
    let wanted = AllocationQuery {
        node,
        resource_class: text("resource_class"),
        state: text("state"),
        owner,
        sort_key,
        sort_dir: if paging.descending { SortDir::Desc } else { SortDir::Asc },
        limit: Some(i64::from(paging.limit)),
        marker,
    };
    let rows = read(&state, move |conn| {
        if let Some(id) = wanted.marker
            && allocations::get(conn, id)?.is_none()
        {
            return Ok(Err(missing(&id.to_string())));
        }
        allocations::list(conn, &wanted).map(Ok)
    })
    .await??;
    let last = rows.last().filter(|_| rows.len() == paging.limit as usize).map(|row| row.uuid.to_string());
    let filters = ALLOCATION_FILTERS;
    let next = last.map(|last| paging.next(&context, "allocations", &args, filters, None, &last));
    let items: Vec<View<'_>> =
        rows.iter().map(|row| View { row, fields: &fields, context: &context }).collect();
    Ok(HttpResponse::Ok().json(Collection { name: "allocations", items: &items, next }))
}

async fn show(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let fields = item_fields(&request, &context)?;
    let row = find(&state, &context, &ident, Rule::AllocationGet).await?;
    Ok(HttpResponse::Ok().json(View { row: &row, fields: &fields, context: &context }))
}

fn item_fields(request: &HttpRequest, context: &Context) -> Result<Vec<AllocationField>> {
    let args = context.args(request)?;
    known_fields(&args, context.version)?;
    query::item_fields(&args, context.version)
}

/// Refuses fields that there are not, or not yet: for a schema the two are the same.
fn known_fields(args: &Args, version: Version) -> Result<()> {
    let mut known: Vec<&AllocationField> =
        AllocationField::ALL.iter().filter(|field| version.has(field.spec().since)).collect();
    // by name, and what came later at the end
    known.sort_by_key(|field| (field.spec().since, field.spec().name));
    let named: Vec<String> = known.iter().map(|field| format!("'{}'", field.spec().name)).collect();
    let asked = args.list("fields").unwrap_or_default();
    match asked.iter().find(|name| !known.iter().any(|field| field.spec().name == name.to_ascii_lowercase()))
    {
        None => Ok(()),
        Some(name) => {
            Err(ApiError::bad_request(format!("Schema error: '{name}' is not one of [{}]", named.join(", "))))
        }
    }
}

async fn create(
    request: HttpRequest,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let version = context.version;
    let mut body = body.object().map_err(unnamed_schema)?;
    // below the version that knows it, `node` is a key like any other that is none
    let node = if version.has(ALLOCATION_BACKFILL) { body.remove("node") } else { None };
    check_keys::<AllocationField>(&body, &context).map_err(unnamed_schema)?;
    let owner = AllocationField::Owner.spec();
    // null, too, is more than an older client may say of it
    if body.contains_key(owner.name) && !version.has(owner.since) {
        return Err(ApiError::too_new(&format!("attribute '{}'", owner.name), owner.since, version));
    }
    let mut row = Allocation::new(Uuid::new_v4(), state.directory.now());
    let with_uuid = body.get("uuid").is_some_and(|id| !id.is_null());
    for field in AllocationField::ALL.iter().filter(|field| field.spec().write.at_create()) {
        if let Some(value) = body.remove(field.spec().name) {
            let written = row.write(*field, value, version);
            written.map_err(|why| unnamed_schema(ApiError::bad_request(why)))?;
        }
    }
    owned(&mut row, &context)?;
    if let Some(name) = row.name.as_deref().filter(|name| !is_name(name)) {
        return Err(ApiError::bad_request(format!("Cannot create allocation with invalid name '{name}'")));
    }
    let node = match node {
        None | Some(Value::Null) => None,
        Some(Value::String(ident)) if ident.is_empty() => None,
        Some(Value::String(ident)) => Some(named_node(&state, &context, &ident).await?),
        Some(other) => {
            let text = format!("Schema error: {} is not of type 'string', 'null'", shown(&other));
            return Err(ApiError::bad_request(text));
        }
    };
    if row.resource_class.is_none() {
        match &node {
            Some(node) => row.resource_class.clone_from(&node.resource_class),
            None => {
                return Err(ApiError::bad_request(
                    "The resource_class field is mandatory when not backfilling",
                ));
            }
        }
    }
    resolve(&mut row, &context, &state).await?;
    if let Some(instance) = node.as_ref().and_then(|node| node.instance_uuid).filter(|_| !with_uuid) {
        row.uuid = instance;
    }
    let row = state.directory.create_allocation(row, node.map(|node| node.uuid)).await?;
    let fields = query::all_fields(version);
    let location = format!("{}/v1/allocations/{}", context.base, row.uuid);
    let view = View { row: &row, fields: &fields, context: &context };
    Ok(HttpResponse::Created().insert_header((header::LOCATION, location)).json(view))
}

/// Whose it is: the caller's own project's, unless it speaks for the system or may give it to others.
fn owned(row: &mut Allocation, context: &Context) -> Result<()> {
    context.authorize(Rule::AllocationCreate, target(row))?;
    if context.caller.is_system() {
        return Ok(());
    }
    let project = context.caller.project().map(str::to_owned);
    match &row.owner {
        None => row.owner = project,
        Some(owner)
            if project.as_ref() != Some(owner)
                && !context.may(Rule::AllocationCreateRestricted, target(row)) =>
        {
            return Err(ApiError::forbidden(format!(
                "Cannot create allocation with an owner Project ID value {owner} not matching the requester Project \
                 ID {}. Policy baremetal:allocation:create_restricted is required for this capability.",
                project.as_deref().unwrap_or("None")
            )));
        }
        Some(_) => {}
    }
    Ok(())
}

/// Turns the candidates' names into UUIDs; their order stays, and each stands there once.
async fn resolve(row: &mut Allocation, context: &Context, state: &WebState) -> Result<()> {
    let mut seen = HashSet::new();
    let mut names: Vec<String> =
        row.candidate_nodes.parse().iter().filter_map(Value::as_str).map(str::to_owned).collect();
    names.retain(|name| seen.insert(name.clone()));
    if names.is_empty() {
        return Ok(());
    }
    let everyones = context.may(Rule::AllocationCreateRestricted, target(row));
    let project = context.caller.project().map(str::to_owned);
    let asked = names.clone();
    let found = read(state, move |conn| allocations::nodes_meant(conn, &asked)).await?;
    let mut known: HashMap<String, Uuid> = HashMap::new();
    for (uuid, name, owner, lessee) in found {
        let theirs = project.is_some() && (owner == project || lessee == project);
        if everyones || theirs {
            known.extend(name.map(|name| (name, uuid)));
            known.insert(uuid.to_string(), uuid);
        }
    }
    let of = |name: &String| {
        let plain = query::parse_uuid(name).map_or_else(|| name.clone(), |id| id.to_string());
        known.get(&plain).copied()
    };
    let lost: Vec<&str> = names.iter().filter(|name| of(name).is_none()).map(String::as_str).collect();
    if !lost.is_empty() {
        return Err(ApiError::bad_request(format!("Nodes cannot be found: {}", lost.join(", "))));
    }
    let mut seen = HashSet::new();
    let uuids: Vec<Value> =
        names.iter().filter_map(of).filter(|id| seen.insert(*id)).map(|id| json!(id)).collect();
    row.candidate_nodes = JsonList::from(uuids.as_slice());
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
    let mut row = find(&state, &context, &ident, Rule::AllocationUpdate).await?;
    only_patchable(body.0.as_ref())?;
    let patch = Patch::<AllocationField>::parse(body.0, version).map_err(unnamed_schema)?;
    let mut tries = 0;
    let row = loop {
        tries += 1;
        let mut next = row.clone();
        edit::apply(&mut next, &patch, version).map_err(ApiError::from)?;
        if let Some(name) = next.name.as_deref().filter(|name| !is_name(name)) {
            return Err(ApiError::bad_request(format!(
                "Cannot update allocation with invalid name '{name}'"
            )));
        }
        if next == row {
            break row;
        }
        match state.directory.update_allocation(next).await {
            // the allocator found it a node meanwhile
            Err(ferric_actors::NodeError::Store(ferric_schema::StoreError::Stale { .. }))
                if tries < TRIES =>
            {
                let id = row.uuid;
                row = read(&state, move |conn| allocations::get(conn, id))
                    .await?
                    .ok_or_else(|| missing(&ident))?;
            }
            done => break done?,
        }
    };
    let fields = query::all_fields(version);
    Ok(HttpResponse::Ok().json(View { row: &row, fields: &fields, context: &context }))
}

/// Refuses what may not be patched in Ironic's words.
fn only_patchable(patch: Option<&Value>) -> Result<()> {
    let changes = patch.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for path in changes.iter().filter_map(|change| change.get("path").and_then(Value::as_str)) {
        let root = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let known = AllocationField::named(root);
        if path.starts_with('/') && !known.is_some_and(|field| field.spec().write.by_patch()) {
            return Err(ApiError::bad_request(format!(
                "Cannot patch /{root}. Only the following can be updated: name, extra"
            )));
        }
    }
    for change in changes.iter().filter(|change| change.get("path").is_some_and(|path| path == "/name")) {
        if let Some(value) = change.get("value").filter(|value| !value.is_null() && !value.is_string()) {
            return Err(ApiError::bad_request(format!(
                "Cannot update allocation with invalid name '{}'",
                shown(value)
            )));
        }
    }
    Ok(())
}

async fn delete(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let row = find(&state, &context, &ident, Rule::AllocationDelete).await?;
    state.directory.destroy_allocation(row.uuid).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn unnamed() -> Result<HttpResponse> {
    Err(ApiError::bad_request("Which allocation is meant must stand in the path."))
}

/// The allocation of a node, for what `rule` stands for.
async fn of_node(
    state: &WebState,
    context: &Context,
    node: &Node,
    ident: &str,
    rule: Rule,
) -> Result<Allocation> {
    let id = node.uuid;
    let found = read(state, move |conn| allocations::of_node(conn, id)).await?;
    let none = || ApiError::not_found(format!("Allocation for node {ident} was not found"));
    let row = found.ok_or_else(none)?;
    context.authorize(rule, target(&row))?;
    Ok(row)
}

async fn show_of_node(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let fields = item_fields(&request, &context)?;
    // one that may not be seen is 404, one that is not there 400, as in Ironic
    let node = match find_maybe(&state, &context, &ident).await? {
        Some(node) if !context.may(Rule::NodeGet, Target::node(&node)) => {
            return Err(ApiError::not_found("Resource could not be found."));
        }
        Some(node) => node,
        None => return Err(no_node(&context, &ident)),
    };
    let row = of_node(&state, &context, &node, &ident, Rule::AllocationGet).await?;
    Ok(HttpResponse::Ok().json(View { row: &row, fields: &fields, context: &context }))
}

async fn delete_of_node(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let node = find_for(&state, &context, &ident, Rule::NodeGet).await?;
    let row = of_node(&state, &context, &node, &ident, Rule::AllocationDelete).await?;
    state.directory.destroy_allocation(row.uuid).await?;
    Ok(HttpResponse::NoContent().finish())
}
