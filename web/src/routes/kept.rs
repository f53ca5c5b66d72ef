//! What operators keep in collections of their own (deploy templates, runbooks, inspection rules): list, create, show,
//! change, delete, once for all of them. These things belong to no node, so they are read and written without an actor.

use actix_web::http::header;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use ferric_machine::Timestamp;
use ferric_schema::{Conn, JsonList, SortDir, StoreError};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::body::Body;
use crate::check;
use crate::context::Context;
use crate::document::Document;
use crate::error::{ApiError, Result};
use crate::gates::{Arg, Field};
use crate::patch::Patch;
use crate::policy::{self, Target};
use crate::query::{self, Args, Paging};
use crate::routes::found::{check_keys, marker};
use crate::routes::{edit, read, without_json_suffix};
use crate::server::WebState;
use crate::views::{Collection, Links};

/// How often a change is tried again that another process (PostgreSQL) came before.
const TRIES: usize = 5;

/// Which page, and of what.
pub(super) struct Page {
    /// What it is sorted by; [`Kept::sortable`] has said yes.
    pub(super) sort_key: String,
    /// Which way.
    pub(super) sort_dir: SortDir,
    /// Rows at most.
    pub(super) limit: i64,
    /// Start after this one.
    pub(super) marker: Option<Uuid>,
    /// What [`Kept::filter`] made of the query string.
    pub(super) filter: Option<String>,
}

/// Who may do what with things of a kind.
pub(super) struct Policies {
    /// Read one, and list.
    pub(super) get: policy::Rule,
    /// Make one.
    pub(super) create: policy::Rule,
    /// Change one.
    pub(super) update: policy::Rule,
    /// Remove one.
    pub(super) delete: policy::Rule,
}

/// A kind of thing that operators keep.
pub(super) trait Kept: Document + PartialEq + Send + 'static {
    /// Its collection: the path below `/v1/`, and the key of a list.
    const PATH: &'static str;
    /// The filters of the list, which the address of the next page repeats.
    const FILTERS: &'static [Arg];
    /// The columns that the address of the next page names.
    const COLUMNS: &'static str;
    /// Whether it goes by a name too.
    const NAMED: bool;
    /// Who may do what with it.
    const POLICIES: Policies;
    /// What the texts of a new one's faults call it, after "Schema error".
    fn schema() -> String {
        format!(" for {}", check::noun::<Self::Field>())
    }
    /// What clients are told whose new one has what another has already.
    fn taken(what: &str, value: &str) -> Option<String> {
        let noun = Self::Field::WHAT.to_lowercase();
        match what {
            "name" => Some(format!("A {noun} with name {value} already exists.")),
            "uuid" => Some(format!("A {noun} with UUID {value} already exists.")),
            _ => None,
        }
    }

    /// Whose it is.
    fn target(&self) -> Target<'_> {
        Target::NONE
    }
    /// Whether that is somebody's: then it is looked for before it is asked who may, which needs its owner.
    const OWNED: bool = false;
    /// Refuses who may not read it.
    fn may_read(&self, context: &Context) -> Result<()> {
        context.authorize(Self::POLICIES.get, self.target())
    }
    /// Refuses who may not list, and limits a list to what the caller may see. The value is [`Page::filter`].
    fn listing(args: &Args, context: &Context) -> Result<Option<String>> {
        context.authorize(Self::POLICIES.get, Target::NONE)?;
        Self::filter(args)
    }
    /// What a change of these fields takes.
    fn change_policies(_: &Patch<Self::Field>) -> Vec<policy::Rule> {
        vec![Self::POLICIES.update]
    }
    /// Makes a new one the caller's, where things of this kind belong to somebody.
    fn adopt(&mut self, _: &Context) -> std::result::Result<(), String> {
        Ok(())
    }

    /// A new one, with nothing in it.
    fn empty(now: Timestamp) -> Self;
    /// Its public id.
    fn uuid(&self) -> Uuid;
    /// Whether lists can be sorted by that key.
    fn sortable(key: &str) -> bool;
    /// The one filter of its list, from the query string.
    fn filter(args: &Args) -> Result<Option<String>>;
    /// Keys of POST's body that are no fields, taken out or refused.
    fn strip(body: &mut Map<String, Value>) -> std::result::Result<(), String>;
    /// The rules that tie its fields together. `before`: as it was before the patch.
    fn settle(&mut self, before: Option<(&Self, &Patch<Self::Field>)>) -> std::result::Result<(), String>;
    /// What stands behind the thing's own path, for a field that links there.
    fn below(_: Self::Field) -> Option<&'static str> {
        None
    }
    /// The value of one field other than links.
    fn show<M: SerializeMap>(&self, field: Self::Field, map: &mut M) -> std::result::Result<(), M::Error>;

    /// One page.
    fn page(conn: &mut Conn, page: &Page) -> std::result::Result<Vec<Self>, StoreError>;
    /// By uuid or, if it has one, by name.
    fn find(conn: &mut Conn, ident: &str) -> std::result::Result<Option<Self>, StoreError>;
    /// Stores a new one.
    fn insert(&self, conn: &mut Conn) -> std::result::Result<Self, StoreError>;
    /// Writes it back.
    fn update(&self, conn: &mut Conn, now: Timestamp) -> std::result::Result<Self, StoreError>;
    /// Why it has to stay, if it has to.
    fn may_go(&self, _: &mut Conn) -> std::result::Result<Option<String>, StoreError> {
        Ok(None)
    }
    /// Removes it.
    fn delete(conn: &mut Conn, uuid: Uuid) -> std::result::Result<(), StoreError>;
}

/// What a template and a runbook cannot do without.
pub(super) fn required(noun: &str, name: &str, steps: &JsonList) -> std::result::Result<(), String> {
    let missing = if steps.parse().is_empty() {
        "steps"
    } else if name.is_empty() {
        "name"
    } else {
        return Ok(());
    };
    Err(format!("Schema error for {noun}: '{missing}' is a required property"))
}

struct View<'a, K: Kept> {
    row: &'a K,
    fields: &'a [K::Field],
    context: &'a Context,
}

impl<K: Kept> Serialize for View<'_, K> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.fields.len()))?;
        for field in self.fields {
            map.serialize_key(field.spec().name)?;
            if *field == K::Field::LINKS {
                let path = format!("{}/{}", K::PATH, self.row.uuid());
                map.serialize_value(&Links { base: &self.context.base, path: &path, tail: "" })?;
            } else if let Some(tail) = K::below(*field) {
                let path = format!("{}/{}", K::PATH, self.row.uuid());
                map.serialize_value(&[Links { base: &self.context.base, path: &path, tail }])?;
            } else {
                self.row.show(*field, &mut map)?;
            }
        }
        map.end()
    }
}

/// A fault of a new thing, under the name that Ironic has for such things.
fn of_new<K: Kept>(text: String) -> ApiError {
    let own = format!("Schema error for {}:", check::noun::<K::Field>());
    ApiError::bad_request(text.replacen(&own, &format!("Schema error{}:", K::schema()), 1))
}

/// A new name that is another's.
fn taken<K: Kept>(error: StoreError) -> ApiError {
    let told = match &error {
        StoreError::Duplicate { what, value } => K::taken(what, value),
        StoreError::NotFound { .. }
        | StoreError::Stale { .. }
        | StoreError::Busy
        | StoreError::Closed
        | StoreError::Unreachable(_)
        | StoreError::Full
        | StoreError::Migration(_)
        | StoreError::Options(_)
        | StoreError::Panicked
        | StoreError::Other(_) => None,
    };
    told.map_or_else(|| error.into(), ApiError::conflict)
}

/// The same of a refusal.
fn renamed<K: Kept>(error: ApiError) -> ApiError {
    match error {
        ApiError::Refused { status: actix_web::http::StatusCode::BAD_REQUEST, text, .. } => of_new::<K>(text),
        other @ (ApiError::Refused { .. } | ApiError::NotRouted { .. } | ApiError::OverLimit { .. }) => other,
    }
}

fn missing<K: Kept>(ident: &str) -> ApiError {
    ApiError::missing(K::Field::WHAT, ident, K::PATH)
}

/// What a client may mean by `ident`.
pub(super) fn candidates<K: Kept>(ident: &str, context: &Context) -> Result<Vec<String>> {
    if !K::NAMED && query::parse_uuid(ident).is_none() {
        return Err(ApiError::bad_request(format!("Schema error: '{ident}' is not a 'uuid'")));
    }
    let all = [Some(ident), without_json_suffix(ident, context)].into_iter().flatten();
    Ok(all.filter(|ident| !ident.contains('\0')).map(str::to_owned).collect())
}

/// The first of the candidates that there is.
pub(super) fn first<K: Kept>(
    conn: &mut Conn,
    candidates: &[String],
) -> std::result::Result<Option<K>, StoreError> {
    for ident in candidates {
        if let Some(found) = K::find(conn, ident)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Who may not do it with any of them is not told which there are.
fn ask_first<K: Kept>(context: &Context, rule: policy::Rule) -> Result<()> {
    if K::OWNED { Ok(()) } else { context.authorize(rule, Target::NONE) }
}

/// The one that a client calls `ident`.
pub(super) async fn find<K: Kept>(state: &WebState, context: &Context, ident: &str) -> Result<K> {
    let candidates = candidates::<K>(ident, context)?;
    let found = read(state, move |conn| first(conn, &candidates)).await?;
    found.ok_or_else(|| missing::<K>(ident))
}

pub(super) async fn list<K: Kept>(
    request: HttpRequest,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    page_of::<K>(&state, &context, &args, false).await
}

/// The same with all fields, at a path of its own.
pub(super) async fn list_detail<K: Kept>(
    request: HttpRequest,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    page_of::<K>(&state, &context, &args, true).await
}

async fn page_of<K: Kept>(
    state: &WebState,
    context: &Context,
    args: &Args,
    detail: bool,
) -> Result<HttpResponse> {
    let filter = K::listing(args, context)?;
    let fields =
        query::list_fields::<K::Field>(args, context.version, detail).map_err(ApiError::unknown_not_new)?;
    let paging = Paging::parse(args, state.settings.max_limit)?;
    if !K::sortable(&paging.sort_key) {
        return Err(query::unsortable::<K::Field>(&paging.sort_key));
    }
    let page = Page {
        sort_key: paging.sort_key.clone(),
        sort_dir: if paging.descending { SortDir::Desc } else { SortDir::Asc },
        limit: i64::from(paging.limit),
        marker: match paging.marker.as_deref() {
            Some(text) if K::NAMED && query::parse_uuid(text).is_none() => return Err(missing::<K>(text)),
            other => other.map(marker).transpose()?,
        },
        filter,
    };
    let rows = read(state, move |conn| K::page(conn, &page)).await?;
    let last = rows.last().filter(|_| rows.len() == paging.limit as usize).map(|row| row.uuid().to_string());
    let path = if detail { format!("{}/detail", K::PATH) } else { K::PATH.to_owned() };
    let columns = (!detail).then_some(K::COLUMNS);
    let next = last.map(|last| paging.next(context, &path, args, K::FILTERS, columns, &last));
    let items: Vec<View<'_, K>> = rows.iter().map(|row| View { row, fields: &fields, context }).collect();
    Ok(HttpResponse::Ok().json(Collection { name: K::PATH, items: &items, next }))
}

/// One, with these fields; who may read it has been asked.
pub(super) async fn show_these<K: Kept>(
    state: &WebState,
    context: &Context,
    ident: &str,
    fields: &[K::Field],
) -> Result<HttpResponse> {
    let row: K = find(state, context, ident).await?;
    Ok(HttpResponse::Ok().json(View { row: &row, fields, context }))
}

pub(super) async fn show<K: Kept>(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let fields = query::item_fields::<K::Field>(&args, context.version).map_err(ApiError::unknown_not_new)?;
    ask_first::<K>(&context, K::POLICIES.get)?;
    let row: K = find(&state, &context, &ident).await?;
    row.may_read(&context)?;
    Ok(HttpResponse::Ok().json(View { row: &row, fields: &fields, context: &context }))
}

pub(super) async fn create<K: Kept>(
    request: HttpRequest,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    context.authorize(K::POLICIES.create, Target::NONE)?;
    let version = context.version;
    let mut body = body.object_of(&check::noun::<K::Field>()).map_err(renamed::<K>)?;
    K::strip(&mut body).map_err(of_new::<K>)?;
    check_keys::<K::Field>(&body, &context).map_err(ApiError::unknown_not_new).map_err(renamed::<K>)?;
    let mut row = K::empty(state.directory.now());
    for field in K::Field::ALL.iter().filter(|field| field.spec().write.at_create()) {
        if let Some(value) = body.remove(field.spec().name) {
            row.write(*field, value, version).map_err(of_new::<K>)?;
        }
    }
    row.settle(None).and_then(|()| row.adopt(&context)).map_err(of_new::<K>)?;
    let row = state.directory.store().write(move |conn| row.insert(conn)).await.map_err(taken::<K>)?;
    let fields = query::all_fields(version);
    let location = format!("{}/v1/{}/{}", context.base, K::PATH, row.uuid());
    let view = View { row: &row, fields: &fields, context: &context };
    Ok(HttpResponse::Created().insert_header((header::LOCATION, location)).json(view))
}

pub(super) async fn change<K: Kept>(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let version = context.version;
    let patch = Patch::<K::Field>::parse(body.0, version).map_err(ApiError::unknown_not_new)?;
    K::change_policies(&patch).into_iter().try_for_each(|rule| ask_first::<K>(&context, rule))?;
    let candidates = candidates::<K>(&ident, &context)?;
    let mut tries = 0;
    let row = loop {
        tries += 1;
        let (patch, candidates, context) = (patch.clone(), candidates.clone(), context.clone());
        let now = state.directory.now();
        // read, changed and written in one transaction: two who change different steps lose nothing
        let write = state.directory.store().write(move |conn| {
            let Some(row) = first::<K>(conn, &candidates)? else { return Ok(Ok(None)) };
            let rules = K::change_policies(&patch);
            if let Err(refusal) = rules.into_iter().try_for_each(|rule| context.authorize(rule, row.target()))
            {
                return Ok(Err(refusal));
            }
            let mut next = row.clone();
            let changed = edit::apply(&mut next, &patch, version).map_err(ApiError::from).and_then(|()| {
                let told = |text: String| ApiError::bad_request(edit::of_patch::<K::Field>(&text));
                next.settle(Some((&row, &patch))).map_err(told)
            });
            match changed {
                Err(refusal) => Ok(Err(refusal)),
                Ok(()) if next == row => Ok(Ok(Some(row))),
                Ok(()) => next.update(conn, now).map(|row| Ok(Some(row))),
            }
        });
        match write.await {
            Err(StoreError::Stale { .. }) if tries < TRIES => {}
            done => break done.map_err(taken::<K>)??.ok_or_else(|| missing::<K>(&ident))?,
        }
    };
    let fields = query::all_fields(version);
    Ok(HttpResponse::Ok().json(View { row: &row, fields: &fields, context: &context }))
}

pub(super) async fn delete<K: Kept>(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    ask_first::<K>(&context, K::POLICIES.delete)?;
    let candidates = candidates::<K>(&ident, &context)?;
    let gone = state.directory.store().write(move |conn| {
        let Some(row) = first::<K>(conn, &candidates)? else { return Ok(None) };
        if let Err(refusal) = context.authorize(K::POLICIES.delete, row.target()) {
            return Ok(Some(Err(refusal)));
        }
        match row.may_go(conn)? {
            Some(why) => Ok(Some(Err(ApiError::bad_request(why)))),
            None => K::delete(conn, row.uuid()).map(|()| Some(Ok(()))),
        }
    });
    gone.await?.ok_or_else(|| missing::<K>(&ident))??;
    Ok(HttpResponse::NoContent().finish())
}

/// PATCH, DELETE of a whole collection: it must be said which one.
pub(super) async fn unnamed<K: Kept>() -> Result<HttpResponse> {
    let noun = K::Field::WHAT.to_lowercase();
    let last = noun.rsplit(' ').next().unwrap_or(&noun);
    Err(ApiError::bad_request(format!(
        "Missing mandatory parameter: {last}_{}. Which {noun} is meant must stand in the path.",
        if K::NAMED { "ident" } else { "uuid" }
    )))
}
