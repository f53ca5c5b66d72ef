//! `/v1/drivers` (api.md §5).

use std::fmt::Write as _;

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::DriverInfo;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::{DRIVER_FIELDS, DRIVER_INTERFACES, DRIVER_PROPERTIES_LINK, DRIVER_TYPE};
use crate::nearest::{did_you_mean, ended};
use crate::policy::{Rule, Target};
use crate::routes::asked::missing;
use crate::routes::at;
use crate::routes::vendor::unknown_driver;
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/drivers").get(list))
        .service(at("/drivers/properties").get(properties_by_query))
        .service(at("/drivers/{name}").get(show))
        .service(at("/drivers/{name}/properties").get(properties_by_path))
        .service(at("/drivers/{name}/raid/logical_disk_properties").get(logical_disk_properties));
}

/// A hardware type on the wire. There are a handful of them, so a tree of values will do.
fn view(driver: &DriverInfo, detail: bool, context: &Context) -> Map<String, Value> {
    let v = context.version;
    let links = |tail: &str| {
        json!([
            {"href": format!("{}/v1/drivers/{}{tail}", context.base, driver.name), "rel": "self"},
            {"href": format!("{}/drivers/{}{tail}", context.base, driver.name), "rel": "bookmark"},
        ])
    };
    let mut map = Map::new();
    map.insert("name".into(), json!(driver.name));
    map.insert("hosts".into(), json!(driver.hosts));
    map.insert("links".into(), links(""));
    if v.has(DRIVER_PROPERTIES_LINK) {
        map.insert("properties".into(), links("/properties"));
    }
    if !v.has(DRIVER_TYPE) {
        return map;
    }
    map.insert("type".into(), json!(if driver.classic { "classic" } else { "dynamic" }));
    if !detail {
        return map;
    }
    let shown = |kind: &str| {
        DRIVER_INTERFACES.iter().find(|(name, _)| *name == kind).is_none_or(|(_, since)| v.has(*since))
    };
    let mut key = String::new();
    let mut put = |name: std::fmt::Arguments<'_>, value: Value| {
        key.clear();
        let _ = key.write_fmt(name);
        map.insert(key.clone(), value);
    };
    // nothing of a classic driver can be chosen: null, as Ironic said it
    let told = |value: Value| if driver.classic { Value::Null } else { value };
    for (kind, default) in driver.defaults.iter().filter(|(kind, _)| shown(kind.as_str())) {
        put(format_args!("default_{}_interface", kind.as_str()), told(json!(default)));
    }
    for (kind, enabled) in driver.enabled.iter().filter(|(kind, _)| shown(kind.as_str())) {
        put(format_args!("enabled_{}_interfaces", kind.as_str()), told(json!(enabled)));
    }
    map
}

/// Leaves the chosen keys, and the links.
fn choose(mut map: Map<String, Value>, fields: Option<&str>) -> Result<Map<String, Value>> {
    let Some(fields) = fields else { return Ok(map) };
    let names = fields.split(',').map(|name| name.trim().to_ascii_lowercase());
    let wanted: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    let strange: Vec<&str> =
        wanted.iter().map(String::as_str).filter(|name| !map.contains_key(*name)).collect();
    if !strange.is_empty() {
        let hint = ended(did_you_mean(strange[0], map.keys().map(String::as_str)));
        return Err(ApiError::bad_request(format!(
            "Field(s) \"{}\" are not valid{hint}",
            strange.join(", ")
        )));
    }
    map.retain(|key, _| key == "links" || wanted.contains(key));
    Ok(map)
}

/// Refuses what no hardware type has, before any is looked at.
fn known_fields(fields: Option<&str>) -> Result<()> {
    let mut names = fields.into_iter().flat_map(|fields| fields.split(',')).map(str::trim);
    let strange =
        names.find(|name| !name.is_empty() && !DRIVER_FIELDS.contains(&name.to_ascii_lowercase().as_str()));
    match strange {
        None => Ok(()),
        Some(name) => Err(ApiError::bad_request(format!(
            "Schema error: '{name}' is not one of ['{}']",
            DRIVER_FIELDS.join("', '")
        ))),
    }
}

/// `GET /drivers/{name}/…` of a path that nobody has: Ironic takes its words for fields.
pub(super) fn show_fields(
    state: &WebState,
    context: &Context,
    name: &str,
    fields: &str,
) -> Result<HttpResponse> {
    if fields == "raid" {
        return Err(ApiError::no_method_but(""));
    }
    context.authorize(Rule::DriverGet, Target::NONE)?;
    let driver = find(state, name)?;
    Ok(HttpResponse::Ok().json(choose(view(&driver, true, context), Some(fields))?))
}

fn find(state: &WebState, name: &str) -> Result<DriverInfo> {
    state.directory.driver(name).ok_or_else(|| {
        let mut known: Vec<String> =
            state.directory.drivers().into_iter().map(|driver| driver.name).collect();
        known.sort();
        ApiError::not_found(format!(
            "Could not find the following driver(s) or hardware type(s): {name}. Enabled are: {}.",
            known.join(", ")
        ))
    })
}

async fn list(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let detail = args.bool("detail")?.unwrap_or(false);
    let fields = args.text("fields");
    known_fields(fields)?;
    if detail && fields.is_some() {
        return Err(ApiError::bad_request("Can not specify ?detail=True and fields in the same request."));
    }
    context.authorize(Rule::DriverGet, Target::NONE)?;
    let mut drivers = state.directory.drivers();
    match args.text("type") {
        None => {}
        Some("dynamic") => drivers.retain(|driver| !driver.classic),
        Some("classic") => drivers.retain(|driver| driver.classic),
        Some(_) => {
            return Err(ApiError::bad_request(
                "\"type\" filter must be one of \"classic\" or \"dynamic\", if specified.",
            ));
        }
    }
    let views: Result<Vec<_>> =
        drivers.iter().map(|driver| choose(view(driver, detail, &context), fields)).collect();
    Ok(HttpResponse::Ok().json(json!({"drivers": views?})))
}

async fn show(
    request: HttpRequest,
    name: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    known_fields(args.text("fields"))?;
    context.authorize(Rule::DriverGet, Target::NONE)?;
    let driver = find(&state, &name)?;
    Ok(HttpResponse::Ok().json(choose(view(&driver, true, &context), args.text("fields"))?))
}

fn properties(state: &WebState, context: &Context, name: &str) -> Result<HttpResponse> {
    context.authorize(Rule::DriverGetProperties, Target::NONE)?;
    let driver = state.directory.driver(name).ok_or_else(|| unknown_driver(name, state))?;
    let map: Map<String, Value> =
        driver.properties.into_iter().map(|(key, text)| (key, Value::String(text))).collect();
    Ok(HttpResponse::Ok().json(map))
}

async fn properties_by_path(
    request: HttpRequest,
    name: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    properties(&state, &context, &name)
}

async fn properties_by_query(
    request: HttpRequest,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let name = args.text("driver_name").ok_or_else(|| missing("driver_name"))?;
    properties(&state, &context, name)
}

async fn logical_disk_properties(
    request: HttpRequest,
    name: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    context.authorize(Rule::DriverGetRaidLogicalDiskProperties, Target::NONE)?;
    let known = state.directory.raid_properties(&name).map_err(|_| unknown_driver(&name, &state))?;
    let map: Map<String, Value> =
        known.iter().map(|(key, text)| ((*key).to_owned(), Value::String((*text).to_owned()))).collect();
    Ok(HttpResponse::Ok().json(map))
}
