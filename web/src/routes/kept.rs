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
use crate::context::Context;
use crate::document::Document;
use crate::error::{ApiError, Result};
use crate::gates::{Arg, Field, ITEM_ARGS, NO_ARGS};
use crate::patch::Patch;
use crate::query::{self, Args, Paging};
use crate::routes::nodes::{check_keys, marker, now};
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

/// A kind of thing that operators keep.
pub(super) trait Kept: Document + PartialEq + Send + 'static {
    /// Its collection: the path below `/v1/`, and the key of a list.
    const PATH: &'static str;
    /// What the list takes; the filters come first.
    const ARGS: &'static [Arg];
    /// How many of `ARGS` are filters.
    const FILTERS: usize;
    /// The columns that the address of the next page names.
    const COLUMNS: &'static str;
    /// Whether it goes by a name too.
    const NAMED: bool;

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
    /// The value of one field other than `links`.
    fn show<M: SerializeMap>(&self, field: Self::Field, map: &mut M) -> std::result::Result<(), M::Error>;

    /// One page.
    fn page(conn: &mut Conn, page: &Page) -> std::result::Result<Vec<Self>, StoreError>;
    /// By uuid or, if it has one, by name.
    fn find(conn: &mut Conn, ident: &str) -> std::result::Result<Option<Self>, StoreError>;
    /// Stores a new one.
    fn insert(&self, conn: &mut Conn) -> std::result::Result<Self, StoreError>;
    /// Writes it back.
    fn update(&self, conn: &mut Conn, now: Timestamp) -> std::result::Result<Self, StoreError>;
    /// Removes it.
    fn delete(conn: &mut Conn, uuid: Uuid) -> std::result::Result<(), StoreError>;
}

/// What a template and a runbook cannot do without.
pub(super) fn required(name: &str, steps: &JsonList) -> std::result::Result<(), String> {
    let missing = if name.is_empty() {
        "name"
    } else if steps.parse().is_empty() {
        "steps"
    } else {
        return Ok(());
    };
    Err(format!("'{missing}' is a required property"))
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
            } else {
                self.row.show(*field, &mut map)?;
            }
        }
        map.end()
    }
}

fn missing<K: Kept>(ident: &str) -> ApiError {
    ApiError::not_found(format!("{} {ident} could not be found.", K::Field::WHAT))
}

/// What a client may mean by `ident`.
pub(super) fn candidates<K: Kept>(ident: &str, context: &Context) -> Result<Vec<String>> {
    if !K::NAMED && query::parse_uuid(ident).is_none() {
        return Err(ApiError::bad_request(format!("Expected a UUID but received {ident}.")));
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
    let args = Args::parse(request.query_string(), K::ARGS, context.version)?;
    let fields =
        query::list_fields::<K::Field>(&args, context.version, false).map_err(ApiError::unknown_not_new)?;
    let paging = Paging::parse(&args, state.settings.max_limit)?;
    if !K::sortable(&paging.sort_key) {
        return Err(ApiError::bad_request(format!(
            "The sort_key value \"{}\" is an invalid field for sorting",
            paging.sort_key
        )));
    }
    let page = Page {
        sort_key: paging.sort_key.clone(),
        sort_dir: if paging.descending { SortDir::Desc } else { SortDir::Asc },
        limit: i64::from(paging.limit),
        marker: paging.marker.as_deref().map(marker).transpose()?,
        filter: K::filter(&args)?,
    };
    let rows = read(&state, move |conn| K::page(conn, &page)).await?;
    let last = rows.last().filter(|_| rows.len() == paging.limit as usize).map(|row| row.uuid().to_string());
    let next = last
        .map(|last| paging.next(&context, K::PATH, &args, &K::ARGS[..K::FILTERS], Some(K::COLUMNS), &last));
    let items: Vec<View<'_, K>> =
        rows.iter().map(|row| View { row, fields: &fields, context: &context }).collect();
    Ok(HttpResponse::Ok().json(Collection { name: K::PATH, items: &items, next }))
}

pub(super) async fn show<K: Kept>(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = Args::parse(request.query_string(), ITEM_ARGS, context.version)?;
    let fields = query::item_fields::<K::Field>(&args, context.version).map_err(ApiError::unknown_not_new)?;
    let row: K = find(&state, &context, &ident).await?;
    Ok(HttpResponse::Ok().json(View { row: &row, fields: &fields, context: &context }))
}

pub(super) async fn create<K: Kept>(
    request: HttpRequest,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    Args::parse(request.query_string(), NO_ARGS, context.version)?;
    let version = context.version;
    let mut body = body.object()?;
    K::strip(&mut body).map_err(ApiError::bad_request)?;
    check_keys::<K::Field>(&body, &context).map_err(ApiError::unknown_not_new)?;
    let mut row = K::empty(now());
    for field in K::Field::ALL.iter().filter(|field| field.spec().write.at_create()) {
        if let Some(value) = body.remove(field.spec().name) {
            row.write(*field, value, version).map_err(ApiError::bad_request)?;
        }
    }
    row.settle(None).map_err(ApiError::bad_request)?;
    let row = state.directory.store().write(move |conn| row.insert(conn)).await?;
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
    Args::parse(request.query_string(), NO_ARGS, context.version)?;
    let version = context.version;
    let patch = Patch::<K::Field>::parse(body.0, version).map_err(ApiError::unknown_not_new)?;
    let candidates = candidates::<K>(&ident, &context)?;
    let mut tries = 0;
    let row = loop {
        tries += 1;
        let (patch, candidates) = (patch.clone(), candidates.clone());
        // read, changed and written in one transaction: two who change different steps lose nothing
        let write = state.directory.store().write(move |conn| {
            let Some(row) = first::<K>(conn, &candidates)? else { return Ok(Ok(None)) };
            let mut next = row.clone();
            let changed = edit::apply(&mut next, &patch, version)
                .map_err(ApiError::from)
                .and_then(|()| next.settle(Some((&row, &patch))).map_err(ApiError::bad_request));
            match changed {
                Err(refusal) => Ok(Err(refusal)),
                Ok(()) if next == row => Ok(Ok(Some(row))),
                Ok(()) => next.update(conn, now()).map(|row| Ok(Some(row))),
            }
        });
        match write.await {
            Err(StoreError::Stale { .. }) if tries < TRIES => {}
            done => break done??.ok_or_else(|| missing::<K>(&ident))?,
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
    Args::parse(request.query_string(), NO_ARGS, context.version)?;
    let candidates = candidates::<K>(&ident, &context)?;
    let gone = state.directory.store().write(move |conn| match first::<K>(conn, &candidates)? {
        Some(row) => K::delete(conn, row.uuid()).map(|()| true),
        None => Ok(false),
    });
    if gone.await? { Ok(HttpResponse::NoContent().finish()) } else { Err(missing::<K>(&ident)) }
}

/// PATCH, DELETE of a whole collection: it must be said which one.
pub(super) async fn unnamed<K: Kept>() -> Result<HttpResponse> {
    Err(ApiError::bad_request(format!(
        "Which {} is meant must stand in the path.",
        K::Field::WHAT.to_lowercase()
    )))
}
