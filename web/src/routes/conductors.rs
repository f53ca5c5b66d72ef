//! `/v1/conductors` (api.md §5).

use std::time::Duration;

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_machine::Timestamp;
use ferric_schema::conductors::{self, Conductor};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::{ConductorField, Field};
use crate::policy::{Rule, Target};
use crate::query::{self, Paging};
use crate::routes::{at, read};
use crate::server::WebState;
use crate::views::{Collection, Iso, Links};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/conductors").get(list)).service(at("/conductors/{hostname}").get(show));
}

struct View<'a> {
    row: &'a Conductor,
    alive: bool,
    fields: &'a [ConductorField],
    context: &'a Context,
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.fields.len()))?;
        for field in self.fields {
            let key = field.spec().name;
            match field {
                ConductorField::Alive => map.serialize_entry(key, &self.alive)?,
                ConductorField::ConductorGroup => map.serialize_entry(key, &self.row.conductor_group)?,
                ConductorField::CreatedAt => map.serialize_entry(key, &Iso(self.row.created_at))?,
                ConductorField::Drivers => map.serialize_entry(key, &self.row.drivers)?,
                ConductorField::Hostname => map.serialize_entry(key, &self.row.hostname)?,
                ConductorField::UpdatedAt => map.serialize_entry(key, &Iso(self.row.updated_at))?,
                ConductorField::Links => {
                    let path = format!("conductors/{}", self.row.hostname);
                    map.serialize_entry(key, &Links { base: &self.context.base, path: &path, tail: "" })?;
                }
            }
        }
        map.end()
    }
}

fn alive(row: &Conductor, now: Timestamp, timeout: Duration) -> bool {
    row.online && now.since(row.updated_at) <= timeout
}

async fn list(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    context.authorize(Rule::ConductorGet, Target::NONE)?;
    let fields = query::list_fields::<ConductorField>(&args, context.version, false)?;
    let paging = Paging::parse(&args, state.settings.max_limit)?;
    let mut rows = read(&state, conductors::list).await?;
    sort(&mut rows, &paging)?;
    let start = match &paging.marker {
        None => 0,
        Some(marker) => {
            let at = rows.iter().position(|row| row.hostname == *marker);
            at.ok_or_else(|| ApiError::not_found(format!("Conductor {marker} could not be found.")))? + 1
        }
    };
    let limit = paging.limit as usize;
    let rows: Vec<Conductor> = rows.into_iter().skip(start).take(limit).collect();
    let last = rows.last().filter(|_| rows.len() == limit).map(|row| row.hostname.clone());
    let columns = (args.text("detail").is_none()).then_some("hostname,conductor_group,alive");
    let next = last.map(|last| paging.next(&context, "conductors", &args, &[], columns, &last));
    let (now, timeout) = (state.directory.now(), state.settings.conductor_timeout);
    let view = |row| View { row, alive: alive(row, now, timeout), fields: &fields, context: &context };
    let items: Vec<View<'_>> = rows.iter().map(view).collect();
    Ok(HttpResponse::Ok().json(Collection { name: "conductors", items: &items, next }))
}

/// There are few conductors: they are sorted here.
fn sort(rows: &mut [Conductor], paging: &Paging) -> Result<()> {
    match paging.sort_key.as_str() {
        "id" => rows.sort_by_key(|row| row.id),
        "hostname" => rows.sort_by(|a, b| a.hostname.cmp(&b.hostname)),
        "conductor_group" => rows.sort_by(|a, b| a.conductor_group.cmp(&b.conductor_group)),
        "created_at" => rows.sort_by_key(|row| row.created_at),
        "updated_at" => rows.sort_by_key(|row| row.updated_at),
        other => {
            return Err(ApiError::bad_request(format!(
                "The sort_key value \"{other}\" is an invalid field for sorting{}",
                query::sort_hint::<ConductorField>(other)
            )));
        }
    }
    if paging.descending {
        rows.reverse();
    }
    Ok(())
}

async fn show(
    request: HttpRequest,
    hostname: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    context.authorize(Rule::ConductorGet, Target::NONE)?;
    let fields = query::item_fields::<ConductorField>(&args, context.version)?;
    let name = hostname.into_inner();
    let wanted = name.clone();
    let row = read(&state, move |conn| conductors::get(conn, &wanted)).await?;
    let row = row.ok_or_else(|| ApiError::missing("Conductor", &name, "conductors"))?;
    let alive = alive(&row, state.directory.now(), state.settings.conductor_timeout);
    Ok(HttpResponse::Ok().json(View { row: &row, alive, fields: &fields, context: &context }))
}
