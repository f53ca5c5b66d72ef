//! `/v1/nodes/{ident}/vmedia` (api.md §3.5): virtual drives.

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{AttachVmedia, DetachVmedia, GetVmedia};
use ferric_actors::{VmediaAsk, python};
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::Rule;
use crate::routes::at;
use crate::routes::found::find_for;
use crate::server::WebState;

/// The drives that there may be.
const DEVICES: [&str; 3] = ["disk", "cdrom", "floppy"];
/// From where a BMC may be told to fetch an image.
const SCHEMES: [&str; 5] = ["http", "https", "nfs", "cifs", "smb"];
/// How an image gets to the BMC.
const SOURCES: [&str; 3] = ["http", "local", "swift"];

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/vmedia").get(show).post(attach).delete(detach))
        .service(at("/nodes/{ident}/vmedia/{device_types}").delete(detach_named));
}

async fn show(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let node = find_for(&state, &context, &ident, Rule::NodeVmediaGet).await?;
    let drives = state.directory.ask(node.uuid, GetVmedia).await?;
    Ok(HttpResponse::Ok().json(json!({"vmedia": drives})))
}

fn invalid(what: std::fmt::Arguments<'_>) -> ApiError {
    ApiError::bad_request(format!("Schema error for vmedia: {what}"))
}

/// A text of the body, as JSON schema would have it.
fn text<'a>(body: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>> {
    match body.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(invalid(format_args!("{} is not of type 'string'", python::repr(other)))),
    }
}

fn one_of<'a>(word: &'a str, words: &[&str]) -> Result<&'a str> {
    if words.contains(&word) {
        return Ok(word);
    }
    Err(invalid(format_args!("'{word}' is not one of ['{}']", words.join("', '"))))
}

fn parse(body: Option<Value>) -> Result<VmediaAsk> {
    let body = match body {
        None => Map::new(),
        Some(Value::Object(body)) => body,
        Some(other) => return Err(invalid(format_args!("{} is not of type 'object'", python::repr(&other)))),
    };
    let required = |key: &str| invalid(format_args!("'{key}' is a required property"));
    let device = text(&body, "device_type")?.ok_or_else(|| required("device_type"))?;
    let device_type = one_of(device, &DEVICES)?.to_owned();
    let image_url = text(&body, "image_url")?.ok_or_else(|| required("image_url"))?.to_owned();
    if let Some(source) = text(&body, "image_download_source")? {
        one_of(source, &SOURCES)?;
    }
    let known = ["device_type", "image_url", "image_download_source"];
    if let Some(strange) = body.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(invalid(format_args!(
            "Additional properties are not allowed ('{strange}' was unexpected)"
        )));
    }
    // what is no scheme at all may be a secret, and is not shown
    let is_scheme = |text: &&str| text.chars().all(|one| one.is_ascii_alphanumeric() || "+-.".contains(one));
    let scheme = image_url.split_once(':').map(|(scheme, _)| scheme).filter(is_scheme).unwrap_or_default();
    if !SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err(ApiError::bad_request(format!("Unsupported or missing URL scheme: {scheme}")));
    }
    Ok(VmediaAsk { device_type, image_url })
}

async fn attach(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let ask = parse(body.0)?;
    let node = find_for(&state, &context, &ident, Rule::NodeVmediaAttach).await?;
    state.directory.ask(node.uuid, AttachVmedia(ask)).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn detach(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    detach_from(&ident, args.list("device_types"), &context, &state).await
}

async fn detach_named(
    request: HttpRequest,
    path: Path<(String, String)>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let (ident, types) = path.into_inner();
    let types = types.split(',').map(|one| one.trim().to_owned()).collect();
    detach_from(&ident, Some(types), &context, &state).await
}

async fn detach_from(
    ident: &str,
    types: Option<Vec<String>>,
    context: &Context,
    state: &WebState,
) -> Result<HttpResponse> {
    let types = types.filter(|types| !types.is_empty());
    let strange: Vec<&str> =
        types.iter().flatten().map(String::as_str).filter(|device| !DEVICES.contains(device)).collect();
    if !strange.is_empty() {
        return Err(ApiError::bad_request(format!(
            "Invalid device type(s) {} (valid are {})",
            strange.join(", "),
            DEVICES.join(", ")
        )));
    }
    let node = find_for(state, context, ident, Rule::NodeVmediaDetach).await?;
    state.directory.ask(node.uuid, DetachVmedia(types)).await?;
    Ok(HttpResponse::NoContent().finish())
}
