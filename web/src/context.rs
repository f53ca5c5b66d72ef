//! What every request carries: its negotiated version, its id, the address it was sent to; and the headers of every
//! response.

use std::future::{Ready, ready};
use std::net::IpAddr;
use std::time::Instant;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, ResponseError, web};
use ferric_actors::metrics::METRICS;

use crate::error::ApiError;
use crate::gates::{Arg, NO_ARGS};
use crate::operations::{Method, Operation};
use crate::policy::Caller;
use crate::query::Args;
use crate::server::WebState;
use crate::version::{self, Version};

/// What a handler knows of its request.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The negotiated version.
    pub(crate) version: Version,
    /// `http://host:port`, as the client addressed us or as configured; without a slash at the end.
    pub(crate) base: String,
    /// Whose request it is.
    pub(crate) caller: Caller,
    /// Its row in the table of operations; none for a path that has no row.
    pub(crate) operation: Option<&'static Operation>,
}

impl Context {
    /// For what microversions say nothing about (`/v1/ferric`): a browser cannot even send one with a stream.
    pub(crate) fn ungated(mut self) -> Context {
        self.version = Version::MAX;
        self
    }

    /// The arguments of the query, all of which the operation's row has and the version knows.
    pub(crate) fn args(&self, request: &HttpRequest) -> Result<Args, ApiError> {
        self.args_at(request, self.version)
    }

    /// As [`Context::args`], of another version.
    pub(crate) fn args_at(&self, request: &HttpRequest, version: Version) -> Result<Args, ApiError> {
        Args::parse(request.query_string(), self.allowed(), version)
    }

    /// What the operation takes: in its query and, where its body is made of arguments, there too.
    pub(crate) fn allowed(&self) -> &'static [Arg] {
        self.operation.map_or(NO_ARGS, |row| row.query)
    }
}

impl FromRequest for Context {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let found = request.extensions().get::<Context>().cloned();
        ready(found.ok_or_else(|| ApiError::internal("the request was not negotiated")))
    }
}

fn base(request: &ServiceRequest, state: &WebState) -> String {
    if let Some(endpoint) = &state.settings.public_endpoint {
        return endpoint.trim_end_matches('/').to_owned();
    }
    if state.settings.enable_proxy_headers {
        let connection = request.connection_info();
        return format!("{}://{}", connection.scheme(), connection.host());
    }
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    let scheme = if request.app_config().secure() { "https" } else { "http" };
    format!("{scheme}://{}", host.unwrap_or_else(|| request.app_config().host()))
}

fn put(headers: &mut HeaderMap, name: &'static str, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// A line of the log for what changed something or was refused, under the id that the client was given. What only
/// reads, and what ramdisks do all the time, is told to who wants to know everything.
fn tell<B>(response: &ServiceResponse<B>, id: &str, user: Option<&str>, peer: Option<IpAddr>) {
    let (method, path) = (response.request().method(), response.request().path());
    let status = response.status();
    let error = response.response().error().map(ToString::to_string).unwrap_or_default();
    let often = method.is_safe() || path.contains("/heartbeat/");
    let peer = peer.map(|peer| peer.to_string());
    let code = status.as_u16();
    if status.is_server_error() {
        tracing::warn!(request = id, user, peer, %method, path, status = code, error, "a request failed");
    } else if status.is_client_error() && !often {
        tracing::info!(request = id, user, peer, %method, path, status = code, error, "a request was refused");
    } else if often {
        tracing::debug!(request = id, user, peer, %method, path, status = code, error, "a request");
    } else {
        tracing::info!(request = id, user, peer, %method, path, status = code, "a request was accepted");
    }
}

/// The method under a name that does not grow with what clients send.
fn method_of(request: &ServiceRequest) -> &'static str {
    let known = Method::ANY.names().iter().chain(&["HEAD", "OPTIONS"]);
    known.copied().find(|name| *name == request.method().as_str()).unwrap_or("other")
}

/// Negotiates, gives the request its id, and puts the headers on the response.
pub(crate) async fn layer<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let state = request.app_data::<web::Data<WebState>>().cloned();
    let state = state.ok_or_else(|| ApiError::internal("the API was started without its state"))?;
    let max = state.settings.max_version();
    let id = format!("req-{}", uuid::Uuid::new_v4());
    let (method, begun) = (method_of(&request), Instant::now());
    let peer = request.peer_addr().map(|addr| addr.ip());
    let caller = match state
        .settings
        .auth
        .admit(request.path(), request.query_string(), request.headers(), peer)
        .await
    {
        Ok(caller) => caller,
        Err(denial) => {
            let mut response = request.into_response(denial.response()).map_into_right_body();
            METRICS.answered(method, "", response.status().as_u16(), begun.elapsed());
            put(response.headers_mut(), "openstack-request-id", id.clone());
            put(response.headers_mut(), "x-openstack-request-id", id);
            return Ok(response);
        }
    };

    let who = caller.user().map(str::to_owned);
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let at_root = matches!(request.path(), "/healthz" | "/readyz" | "/metrics");
    let negotiated = match version::negotiate(header, max) {
        // these have no versions
        Err(_) if at_root => Ok(Version::MIN),
        other => other,
    };
    let nul = request.uri().path_and_query().is_some_and(|asked| asked.as_str().contains("%00"));
    let (mut response, shown) = match negotiated {
        Ok(version) if nul => {
            let response = ApiError::bad_request("The address has a NUL character (%00).").error_response();
            (request.into_response(response).map_into_right_body(), Some(version))
        }
        Ok(version) => {
            let base = base(&request, &state);
            request.extensions_mut().insert(Context { version, base, caller, operation: None });
            let response = next.call(request).await?;
            let hidden = response.response().error().and_then(|error| error.as_error::<ApiError>());
            let shown = (!hidden.is_some_and(ApiError::hides_version)).then_some(version);
            (response.map_into_left_body(), shown)
        }
        Err(out_of_range) => {
            let text = out_of_range.to_string();
            let refusal = match request.path() {
                "/" => ApiError::not_acceptable(text),
                _ => ApiError::no_version(text),
            };
            let response = refusal.error_response();
            (request.into_response(response).map_into_right_body(), None)
        }
    };
    tell(&response, &id, who.as_deref(), peer);
    let route = response.request().extensions().get::<Context>().and_then(|context| context.operation);
    let route = route.map_or("", |row| row.path);
    METRICS.answered(method, route, response.status().as_u16(), begun.elapsed());
    let headers = response.headers_mut();
    put(headers, version::MIN_HEADER, Version::MIN.to_string());
    put(headers, version::MAX_HEADER, max.to_string());
    if let Some(version) = shown {
        put(headers, version::IRONIC_HEADER, version.to_string());
        put(headers, version::OPENSTACK_HEADER, format!("baremetal {version}"));
    }
    put(headers, "openstack-request-id", id.clone());
    put(headers, "x-openstack-request-id", id);
    Ok(response)
}
