//! `/v1/nodes/{ident}/history` (api.md §3.5): what happened to a node, and what went wrong.

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_schema::SortDir;
use ferric_schema::history::{self, History, HistoryQuery, HistorySort};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::{HISTORY_PROJECT, HISTORY_STATES};
use crate::policy::Rule;
use crate::query::{Paging, encode, parse_uuid};
use crate::routes::found::find_for;
use crate::routes::{at, read};
use crate::server::WebState;
use crate::views::{Collection, Iso};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/history").get(list))
        .service(at("/nodes/{ident}/history/{line}").get(show));
}

/// A text that is longer is cut in a list, as Ironic does.
const LONGEST: usize = 255;

/// What is left of a longer one, before its dots.
const CUT: usize = 251;

struct View<'a> {
    line: &'a History,
    detail: bool,
    context: &'a Context,
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let (line, version) = (self.line, self.context.version);
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("uuid", &line.uuid)?;
        map.serialize_entry("created_at", &Iso(line.created_at))?;
        map.serialize_entry("severity", &line.severity)?;
        if self.detail {
            map.serialize_entry("event_type", &line.event_type)?;
            map.serialize_entry("event", &line.event)?;
            map.serialize_entry("conductor", &line.conductor)?;
            map.serialize_entry("user", &line.user)?;
            if version.has(HISTORY_PROJECT) {
                map.serialize_entry("project", &line.project)?;
            }
            if version.has(HISTORY_STATES) {
                map.serialize_entry("state", &line.state)?;
                map.serialize_entry("target_provision_state", &line.target_provision_state)?;
                map.serialize_entry("duration_seconds", &line.duration.map(|micros| micros / 1_000_000))?;
            }
        } else if line.event.chars().count() > LONGEST {
            let cut: String = line.event.chars().take(CUT).collect();
            map.serialize_entry("event", &format!("{cut}..."))?;
        } else {
            map.serialize_entry("event", &line.event)?;
        }
        let href = format!("{}/v1/nodes/{}/history/{}", self.context.base, line.node_uuid, line.uuid);
        map.serialize_entry("links", &[json!({"href": href, "rel": "self"})])?;
        map.end()
    }
}

async fn list(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let detail = args.bool("detail")?.unwrap_or(false);
    let mut paging = Paging::parse(&args, state.settings.max_limit)?;
    if args.text("sort_key").is_none() {
        paging.sort_key = HistorySort::CreatedAt.as_str().to_owned();
    }
    let sort_key = HistorySort::from_name(&paging.sort_key).ok_or_else(|| {
        ApiError::bad_request(format!(
            "The sort_key value \"{}\" is an invalid field for sorting",
            paging.sort_key
        ))
    })?;
    let wanted = HistoryQuery {
        sort_key,
        sort_dir: if paging.descending { SortDir::Desc } else { SortDir::Asc },
        limit: Some(i64::from(paging.limit)),
        marker: args.uuid("marker")?,
    };
    let node = find_for(&state, &context, &ident, Rule::NodeHistoryGet).await?.uuid;
    let rows = read(&state, move |conn| history::of_node(conn, node, &wanted)).await?;
    let last = rows.last().filter(|_| rows.len() == paging.limit as usize).map(|line| line.uuid.to_string());
    let path = format!("nodes/{}/history", encode(&ident));
    let next = last.map(|last| paging.next(&context, &path, &args, &[], None, &last));
    let items: Vec<View<'_>> = rows.iter().map(|line| View { line, detail, context: &context }).collect();
    Ok(HttpResponse::Ok().json(Collection { name: "history", items: &items, next }))
}

async fn show(
    request: HttpRequest,
    path: Path<(String, String)>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let (ident, wanted) = path.into_inner();
    let node = find_for(&state, &context, &ident, Rule::NodeHistoryGet).await?.uuid;
    let line = match parse_uuid(&wanted) {
        Some(id) => read(&state, move |conn| history::get(conn, node, id)).await?,
        None => None,
    };
    let missing = || ApiError::not_found(format!("Node history record {wanted} could not be found."));
    let line = line.ok_or_else(missing)?;
    Ok(HttpResponse::Ok().json(View { line: &line, detail: true, context: &context }))
}
