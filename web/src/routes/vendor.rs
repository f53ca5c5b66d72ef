//! Vendor passthru of nodes and of hardware types (api.md §3.5, §5).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{CallVendor, GetVendorMethods, VendorAnswer};
use ferric_actors::{DriverError, NodeError, VendorMethod, WRONG_DEPLOY_KEY};
use serde_json::{Map, Value};

use crate::auth::CALLS_OF_RAMDISKS;
use crate::body::Body;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::nearest::did_you_mean;
use crate::policy::{Rule, Target};
use crate::routes::asked::missing;
use crate::routes::at;
use crate::routes::found::{find_for, find_maybe, missing as not_there};
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
    let http = request.method().as_str().to_ascii_uppercase();
    let peer = request.peer_addr().map(|addr| addr.ip());
    Ok(CallVendor { peer, ..CallVendor::new(method, http, body.object()?) })
}

/// Calls a method of a node.
async fn call_node(
    request: &HttpRequest,
    ident: &str,
    method: String,
    body: Body,
    context: &Context,
    state: &WebState,
) -> Result<HttpResponse> {
    if CALLS_OF_RAMDISKS.contains(&method.as_str()) {
        return call_of_ramdisk(request, ident, method, body, context, state).await;
    }
    let node = find_for(state, context, ident, Rule::NodeVendorPassthru).await?;
    let answer = state.directory.ask(node.uuid, call_of(request, method, body)?).await?;
    Ok(answered(answer))
}

/// Whoever calls shows the node's deploy key. Where callers are asked who they are, one who was not learns nothing else:
/// that there is no such node, and that it has no such method, sound as a wrong key does.
async fn call_of_ramdisk(
    request: &HttpRequest,
    ident: &str,
    method: String,
    body: Body,
    context: &Context,
    state: &WebState,
) -> Result<HttpResponse> {
    let anonymous = !state.settings.auth.is_open();
    let call = CallVendor { anonymous, ..call_of(request, method, body)? };
    let wrong = || DriverError::InvalidParameter { reason: WRONG_DEPLOY_KEY.to_owned() };
    let peer = call.peer;
    let warn = |node: &str| {
        if let Some(before) = WRONG_KEYS.another() {
            tracing::warn!(node, ?peer, before, "a ramdisk's call with a wrong deploy key");
        }
    };
    let node = match find_maybe(state, context, ident).await? {
        Some(node) => node.uuid,
        None if anonymous => {
            warn(ident);
            return Err(NodeError::Driver(wrong()).into());
        }
        None => return Err(not_there(context, ident)),
    };
    match state.directory.ask(node, call).await {
        Ok(answer) => Ok(answered(answer)),
        Err(NodeError::NotFound { .. }) if anonymous => {
            warn(ident);
            Err(NodeError::Driver(wrong()).into())
        }
        Err(error) => {
            if error.to_string() == WRONG_DEPLOY_KEY {
                warn(ident);
            }
            Err(error.into())
        }
    }
}

/// Warnings that anybody can cause are written once in a while, with how many there were in between.
struct Seldom(Mutex<(Option<Instant>, u64)>);

static WRONG_KEYS: Seldom = Seldom(Mutex::new((None, 0)));

impl Seldom {
    const PAUSE: Duration = Duration::from_secs(10);

    /// How many went unmentioned before this one, if this one is to be mentioned.
    fn another(&self) -> Option<u64> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0.is_some_and(|last| last.elapsed() < Self::PAUSE) {
            seen.1 += 1;
            return None;
        }
        seen.0 = Some(Instant::now());
        Some(std::mem::take(&mut seen.1))
    }
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
    call_node(&request, &ident, method, body, &context, &state).await
}

async fn call_by_query(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let method = asked_by_query(&request, &context)?;
    call_node(&request, &ident, method, body, &context, &state).await
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
