//! `/v1/nodes/{ident}/bios` (api.md §3.5): the BIOS settings as they were last read.

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_schema::bios::{self, Setting};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::{BIOS_ARGS, BIOS_FIELDS, BIOS_REGISTRY};
use crate::policy::Rule;
use crate::query::Args;
use crate::routes::found::find_for;
use crate::routes::{at, read};
use crate::server::WebState;
use crate::version::Version;
use crate::views::Iso;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/bios").get(list)).service(at("/nodes/{ident}/bios/{setting}").get(show));
}

/// What a list shows unless asked otherwise.
const LISTED: &[&str] = &["name", "value"];

fn known_field(name: &str) -> bool {
    BIOS_FIELDS.contains(&name) || BIOS_REGISTRY.contains(&name)
}

/// A setting on the wire: times and links, and what is asked for.
fn view(setting: &Setting, ident: &str, fields: &[&str], base: &str) -> Value {
    let tail = format!("nodes/{ident}/bios/{}", setting.name);
    let mut map = Map::new();
    map.insert("created_at".into(), json!(Iso(setting.created_at)));
    map.insert("updated_at".into(), json!(setting.updated_at.map(Iso)));
    map.insert(
        "links".into(),
        json!([
            {"href": format!("{base}/v1/{tail}"), "rel": "self"},
            {"href": format!("{base}/{tail}"), "rel": "bookmark"},
        ]),
    );
    let known = &setting.attribute;
    for field in fields {
        let value = match *field {
            "name" => json!(setting.name),
            "value" => json!(setting.value),
            "attribute_type" => json!(known.attribute_type),
            // an absent list is an empty one, as in Ironic
            "allowable_values" => known.allowable_values.as_ref().map_or_else(|| json!([]), |all| json!(all)),
            "lower_bound" => json!(known.lower_bound),
            "max_length" => json!(known.max_length),
            "min_length" => json!(known.min_length),
            "read_only" => json!(known.read_only),
            "reset_required" => json!(known.reset_required),
            "unique" => json!(known.unique),
            "upper_bound" => json!(known.upper_bound),
            // created_at, updated_at, links: they are there already; node_uuid: the links tell it
            _ => continue,
        };
        map.insert((*field).to_owned(), value);
    }
    Value::Object(map)
}

/// The arguments that a list takes since a version. Ironic refuses them in a schema's words, those that it knows from
/// nowhere in its own.
fn arguments(request: &HttpRequest, since: u16, context: &Context) -> Result<Args> {
    let args = context.args_at(request, Version::MAX)?;
    let early =
        BIOS_ARGS.iter().find(|arg| args.text(arg.name).is_some()).filter(|_| !context.version.has(since));
    match early {
        None => Ok(args),
        Some(arg) => Err(ApiError::bad_request(format!(
            "Schema error: Additional properties are not allowed ('{}' was unexpected)",
            arg.name
        ))),
    }
}

async fn list(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = arguments(&request, BIOS_ARGS[0].since, &context)?;
    let detail = args.bool("detail")?.unwrap_or(false);
    let chosen = args.list("fields");
    if let Some(strange) = chosen.iter().flatten().find(|name| !known_field(name)) {
        return Err(ApiError::bad_request(format!(
            "Schema error: '{strange}' is not one of ['{}']",
            BIOS_FIELDS.join("', '")
        )));
    }
    if detail && chosen.is_some() {
        return Err(ApiError::bad_request("Can not specify ?detail=True and fields in the same request."));
    }
    let node = find_for(&state, &context, &ident, Rule::NodeBiosGet).await?.uuid;
    let all = read(&state, move |conn| bios::of_node(conn, node)).await?;
    let fields: Vec<&str> = match &chosen {
        Some(names) => names.iter().map(String::as_str).collect(),
        None if detail => BIOS_REGISTRY.to_vec(),
        None => LISTED.to_vec(),
    };
    let shown: Vec<Value> = all.iter().map(|one| view(one, &ident, &fields, &context.base)).collect();
    Ok(HttpResponse::Ok().json(json!({"bios": shown})))
}

async fn show(
    request: HttpRequest,
    path: Path<(String, String)>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    arguments(&request, u16::MAX, &context)?;
    let (ident, name) = path.into_inner();
    let node = find_for(&state, &context, &ident, Rule::NodeBiosGet).await?.uuid;
    let wanted = name.clone();
    let found = read(&state, move |conn| bios::get(conn, node, &wanted)).await?;
    let setting = found
        .ok_or_else(|| ApiError::not_found(format!("Node {node} doesn't have a BIOS setting '{name}'")))?;
    let registry = BIOS_ARGS.iter().all(|arg| context.version.has(arg.since));
    let fields = if registry { BIOS_REGISTRY } else { LISTED };
    let mut map = Map::new();
    map.insert(name, view(&setting, &node.to_string(), fields, &context.base));
    Ok(HttpResponse::Ok().json(map))
}
