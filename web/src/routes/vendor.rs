//! Vendor passthru of nodes and of hardware types (api.md §3.5, §5).

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::VendorMethod;
use ferric_actors::message::{CallVendor, GetVendorMethods, VendorAnswer};
use serde_json::{Map, Value};

use crate::auth::CALLS_OF_RAMDISKS;
use crate::body::Body;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::nearest::did_you_mean;
use crate::policy::{Rule, Target};
use crate::routes::asked::missing;
use crate::routes::at;
use crate::routes::found::{find, find_for};
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/vendor_passthru/methods").get(methods))
        .service(at("/nodes/{ident}/vendor_passthru").any(call_by_query))
        .service(at("/nodes/{ident}/vendor_passthru/{method}").any(call))
        .service(at("/drivers/{name}/vendor_passthru/methods").get(driver_methods))
        .service(at("/drivers/{name}/vendor_passthru").any(call_driver_by_query))
        .service(at("/drivers/{name}/vendor_passthru/{method}").any(call_driver));
}

fn listed(methods: &[&'static VendorMethod]) -> HttpResponse {
    let shown: Map<String, Value> =
        methods.iter().map(|method| (method.name.to_owned(), Value::Object(method.shown()))).collect();
    HttpResponse::Ok().json(shown)
}

fn answered(answer: VendorAnswer) -> HttpResponse {
    match answer {
        VendorAnswer::Accepted => HttpResponse::Accepted().finish(),
        VendorAnswer::Value(value) => HttpResponse::Ok().json(value),
        VendorAnswer::File(value) => {
            let bytes = match value {
                Value::String(text) => text.into_bytes(),
                Value::Null => Vec::new(),
                value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    value.to_string().into_bytes()
                }
            };
            HttpResponse::Ok().content_type("application/octet-stream").body(bytes)
        }
    }
}

/// The method that the query names, and the body.
fn asked_by_query(request: &HttpRequest, context: &Context) -> Result<String> {
    let args = context.args(request)?;
    match args.text("method") {
        None => Err(missing("method")),
        Some("") => Err(ApiError::bad_request("Method not specified")),
        Some(method) => Ok(method.to_owned()),
    }
}

fn call_of(request: &HttpRequest, method: String, body: Body) -> Result<CallVendor> {
    Ok(CallVendor { method, http: request.method().as_str().to_ascii_uppercase(), args: body.object()? })
}

async fn methods(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let node = find_for(&state, &context, &ident, Rule::NodeVendorPassthru).await?;
    Ok(listed(&state.directory.ask(node.uuid, GetVendorMethods).await?))
}

async fn call(
    request: HttpRequest,
    path: Path<(String, String)>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let (ident, method) = path.into_inner();
    let node = if CALLS_OF_RAMDISKS.contains(&method.as_str()) {
        // whoever calls shows the node's deploy key
        find(&state, &context, &ident).await?
    } else {
        find_for(&state, &context, &ident, Rule::NodeVendorPassthru).await?
    };
    let answer = state.directory.ask(node.uuid, call_of(&request, method, body)?).await?;
    Ok(answered(answer))
}

async fn call_by_query(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let method = asked_by_query(&request, &context)?;
    let node = find_for(&state, &context, &ident, Rule::NodeVendorPassthru).await?;
    let answer = state.directory.ask(node.uuid, call_of(&request, method, body)?).await?;
    Ok(answered(answer))
}

/// 404 for a hardware type that is not enabled, in the words of Ironic's conductor calls.
pub(super) fn unknown_driver(name: &str, state: &WebState) -> ApiError {
    let mut known: Vec<String> = state.directory.drivers().into_iter().map(|driver| driver.name).collect();
    known.sort();
    let meant = did_you_mean(name, known.iter().map(String::as_str));
    ApiError::not_found(format!("The driver '{name}' is unknown. Enabled are: {}.{meant}", known.join(", ")))
}

async fn driver_methods(
    request: HttpRequest,
    name: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    context.authorize(Rule::DriverVendorPassthru, Target::NONE)?;
    let methods = state.directory.driver_vendor_methods(&name).map_err(|_| unknown_driver(&name, &state))?;
    Ok(listed(&methods))
}

async fn called(
    name: &str,
    call: impl FnOnce() -> Result<CallVendor>,
    context: &Context,
    state: &WebState,
) -> Result<HttpResponse> {
    context.authorize(Rule::DriverVendorPassthru, Target::NONE)?;
    if state.directory.driver(name).is_none() {
        return Err(unknown_driver(name, state));
    }
    Ok(answered(state.directory.call_driver_vendor(name, call()?).await?))
}

async fn call_driver(
    request: HttpRequest,
    path: Path<(String, String)>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let (name, method) = path.into_inner();
    called(&name, || call_of(&request, method, body), &context, &state).await
}

async fn call_driver_by_query(
    request: HttpRequest,
    name: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let method = asked_by_query(&request, &context)?;
    called(&name, || call_of(&request, method, body), &context, &state).await
}
