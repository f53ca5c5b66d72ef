//! `/v1/nodes/{ident}/firmware` (api.md §3.5): the firmware components as they were last seen.

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_schema::firmware::{self, Component};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::FIRMWARE_FIELDS;
use crate::policy::Rule;
use crate::routes::found::find_for;
use crate::routes::{at, read};
use crate::server::WebState;
use crate::views::Iso;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/firmware").get(list));
}

/// A component on the wire: times, and what is asked for.
fn view(component: &Component, fields: &[&str]) -> Value {
    let mut map = Map::new();
    map.insert("created_at".into(), json!(Iso(component.created_at)));
    map.insert("updated_at".into(), json!(component.updated_at.map(Iso)));
    for field in fields {
        let value = match *field {
            "component" => json!(component.component),
            "initial_version" => json!(component.initial_version),
            "current_version" => json!(component.current_version),
            "last_version_flashed" => json!(component.last_version_flashed),
            "vendor" => json!(component.vendor),
            "model" => json!(component.model),
            "serial_number" => json!(component.serial_number),
            // created_at, updated_at: they are there already
            _ => continue,
        };
        map.insert((*field).to_owned(), value);
    }
    Value::Object(map)
}

async fn list(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let chosen = args.list("fields");
    for name in chosen.iter().flatten() {
        let Some((_, since)) = FIRMWARE_FIELDS.iter().find(|(known, _)| *known == name.as_str()) else {
            let all: Vec<&str> = FIRMWARE_FIELDS.iter().map(|(known, _)| *known).collect();
            return Err(ApiError::bad_request(format!(
                "Schema error: '{name}' is not one of ['{}']",
                all.join("', '")
            )));
        };
        if !context.version.has(*since) {
            return Err(ApiError::bad_request(format!(
                "Fields {name} are not allowed in this API version. They require at least API version 1.{since}."
            )));
        }
    }
    if args.bool("detail")?.unwrap_or(false) && chosen.is_some() {
        return Err(ApiError::bad_request("Can not specify ?detail=True and fields in the same request."));
    }
    let node = find_for(&state, &context, &ident, Rule::NodeFirmwareGet).await?.uuid;
    let all = read(&state, move |conn| firmware::of_node(conn, node)).await?;
    let fields: Vec<&str> = match &chosen {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => {
            let known = FIRMWARE_FIELDS.iter().filter(|(_, since)| context.version.has(*since));
            known.map(|(name, _)| *name).collect()
        }
    };
    let shown: Vec<Value> = all.iter().map(|one| view(one, &fields)).collect();
    Ok(HttpResponse::Ok().json(json!({"firmware": shown})))
}
