//! `/v1/nodes/{ident}/validate` and `/management/boot_device` (api.md §3.1, §3.5).

use std::collections::BTreeMap;

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{GetBootDevice, SetBootDevice, SupportedBootDevices, Validate};
use serde::Serialize;
use serde_json::json;

use crate::body::Body;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::Rule;
use crate::routes::asked::Asked;
use crate::routes::at;
use crate::routes::found::find_for;
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/validate").get(validate_by_path))
        .service(at("/nodes/{ident}/management/boot_device").get(boot_device).put(set_boot_device))
        .service(at("/nodes/{ident}/management/boot_device/supported").get(supported));
}

#[derive(Serialize)]
struct Verdict {
    result: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

async fn validate(ident: &str, context: &Context, state: &WebState) -> Result<HttpResponse> {
    let node = find_for(state, context, ident, Rule::NodeValidate).await?;
    let verdicts = state.directory.ask(node.uuid, Validate).await?;
    // Ironic does not validate the vendor interface here
    let shown = verdicts.into_iter().filter(|(kind, _)| kind.as_str() != "vendor");
    let body: BTreeMap<&str, Verdict> = shown
        .map(|(kind, verdict)| (kind.as_str(), Verdict { result: verdict.result, reason: verdict.reason }))
        .collect();
    Ok(HttpResponse::Ok().json(body))
}

async fn validate_by_path(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    validate(&ident, &context, &state).await
}

/// `GET /nodes/validate?node=` or `?node_uuid=`.
pub(super) async fn validate_by_query(
    request: HttpRequest,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    match (args.text("node"), args.uuid("node_uuid")?) {
        (Some(ident), _) => validate(ident, &context, &state).await,
        (None, Some(uuid)) => validate(&uuid.to_string(), &context, &state).await,
        (None, None) => Err(ApiError::bad_request(
            "Expected a logical name or UUID but received None. Say in 'node' which node to validate.",
        )),
    }
}

async fn boot_device(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let node = find_for(&state, &context, &ident, Rule::NodeGetBootDevice).await?;
    let (device, persistent) = state.directory.ask(node.uuid, GetBootDevice).await?;
    Ok(HttpResponse::Ok().json(json!({"boot_device": device, "persistent": persistent})))
}

async fn supported(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let node = find_for(&state, &context, &ident, Rule::NodeGetBootDevice).await?;
    let devices = state.directory.ask(node.uuid, SupportedBootDevices).await?;
    Ok(HttpResponse::Ok().json(json!({"supported_boot_devices": devices})))
}

async fn set_boot_device(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let asked = Asked::read(&request, body, &context)?;
    let device = asked.text("boot_device")?.unwrap_or_else(|| "None".to_owned());
    let persistent = asked.flag_if_given("persistent")?.unwrap_or(false);
    let node = find_for(&state, &context, &ident, Rule::NodeSetBootDevice).await?;
    state.directory.ask(node.uuid, SetBootDevice { device, persistent }).await?;
    Ok(HttpResponse::NoContent().finish())
}
