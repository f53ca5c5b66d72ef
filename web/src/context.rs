//! What every request carries: its negotiated version, its id, the address it was sent to; and the headers of every
//! response.

use std::cell::RefCell;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Instant;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Uri;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, ResponseError, web};
use ferric_actors::metrics::METRICS;
use uuid::Uuid;

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

/// A version in the words of the two headers that tell it.
struct Told {
    /// `1.N`.
    bare: HeaderValue,
    /// `baremetal 1.N`.
    named: HeaderValue,
}

/// By minor version.
static TOLD: LazyLock<Vec<Told>> = LazyLock::new(|| {
    let value = |text: String| HeaderValue::try_from(text).expect("digits and letters");
    let told = |version: Version| Told {
        bare: value(version.to_string()),
        named: value(format!("baremetal {version}")),
    };
    (0..=Version::MAX.0).map(|minor| told(Version(minor))).collect()
});

fn told(version: Version) -> &'static Told {
    &TOLD[usize::from(version.0.min(Version::MAX.0))]
}

fn put(headers: &mut HeaderMap, name: &'static str, value: HeaderValue) {
    headers.insert(HeaderName::from_static(name), value);
}

/// The id under which a request is found in the log.
struct Id(HeaderValue);

impl Id {
    /// One that no other request has. Randomness is fetched for many at a time: the ids are no secrets.
    fn new() -> Id {
        const AT_ONCE: usize = 128;
        thread_local! {
            static LEFT: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
        }
        let taken = LEFT.with_borrow_mut(|left| {
            if left.is_empty() {
                let mut fresh = [[0; 16]; AT_ONCE];
                if getrandom::fill(fresh.as_flattened_mut()).is_ok() {
                    left.extend(fresh);
                }
            }
            left.pop()
        });
        let id = taken.map_or_else(Uuid::new_v4, |bytes| uuid::Builder::from_random_bytes(bytes).into_uuid());
        let mut text = *b"req-00000000-0000-0000-0000-000000000000";
        id.hyphenated().encode_lower(&mut text[4..]);
        Id(HeaderValue::from_bytes(&text).expect("hexadecimal digits"))
    }

    fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    fn put(self, headers: &mut HeaderMap) {
        put(headers, "openstack-request-id", self.0.clone());
        put(headers, "x-openstack-request-id", self.0);
    }
}

/// Takes slashes from the end of the path, and those that follow another.
fn tidy(request: &mut ServiceRequest) {
    let path = request.uri().path();
    if !(path.contains("//") || path.len() > 1 && path.ends_with('/')) {
        return;
    }
    let mut tidied = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        tidied.push('/');
        tidied.push_str(part);
    }
    if tidied.is_empty() {
        tidied.push('/');
    }
    if let Some(query) = request.uri().query() {
        tidied.push('?');
        tidied.push_str(query);
    }
    let mut parts = request.uri().clone().into_parts();
    let Ok(path_and_query) = tidied.parse() else { return };
    parts.path_and_query = Some(path_and_query);
    let Ok(uri) = Uri::from_parts(parts) else { return };
    request.match_info_mut().get_mut().update(&uri);
    request.head_mut().uri = uri;
}

/// A line of the log for what changed something or was refused, under the id that the client was given. What only
/// reads, and what ramdisks do all the time, is told to who wants to know everything.
fn tell<B>(response: &ServiceResponse<B>, id: &str, user: Option<&str>, peer: Option<IpAddr>) {
    let (method, path) = (response.request().method(), response.request().path());
    let status = response.status();
    let quiet = method.is_safe() && !status.is_server_error();
    if quiet && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
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
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let state = request.app_data::<web::Data<WebState>>().cloned();
    let state = state.ok_or_else(|| ApiError::internal("the API was started without its state"))?;
    let max = state.settings.max_version();
    tidy(&mut request);
    let id = Id::new();
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
            id.put(response.headers_mut());
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
    tell(&response, id.as_str(), who.as_deref(), peer);
    let route = response.request().extensions().get::<Context>().and_then(|context| context.operation);
    let route = route.map_or("", |row| row.path);
    METRICS.answered(method, route, response.status().as_u16(), begun.elapsed());
    let headers = response.headers_mut();
    put(headers, version::MIN_HEADER, told(Version::MIN).bare.clone());
    put(headers, version::MAX_HEADER, told(max).bare.clone());
    if let Some(version) = shown {
        put(headers, version::IRONIC_HEADER, told(version).bare.clone());
        put(headers, version::OPENSTACK_HEADER, told(version).named.clone());
    }
    id.put(headers);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use actix_web::middleware::{NormalizePath, from_fn};
    use actix_web::test::{TestRequest, call_and_read_body, init_service};
    use actix_web::{App, HttpRequest};

    use super::*;

    async fn own<B: MessageBody>(
        mut request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<B>, actix_web::Error> {
        tidy(&mut request);
        next.call(request).await
    }

    /// What a handler and its router see.
    async fn shown(request: HttpRequest) -> String {
        format!("{} {:?}", request.uri(), request.match_info().get("name"))
    }

    #[actix_web::test]
    async fn paths_are_tidied_as_by_the_crates_own_middleware() {
        let app = || App::new().route("/a/{name}", web::to(shown)).default_service(web::to(shown));
        let theirs = init_service(app().wrap(NormalizePath::trim())).await;
        let ours = init_service(app().wrap(from_fn(own))).await;
        for uri in [
            "/",
            "//",
            "///",
            "/a",
            "/a/",
            "/a//",
            "//a",
            "/a/b",
            "/a//b/",
            "/a/b//?x=/y//",
            "/?x=1",
            "//?x=%2F",
            "/a/b%2F/",
            "/a/%20b//",
            "/a/./b/",
            "/a/b?",
            "/a/b/?",
            "/v1/nodes/",
            "/a/ü/",
        ] {
            let Ok(uri) = uri.parse::<Uri>() else { continue };
            let request = || TestRequest::with_uri(&uri.to_string()).to_request();
            let expected = call_and_read_body(&theirs, request()).await;
            assert_eq!(call_and_read_body(&ours, request()).await, expected, "{uri}");
        }
    }

    #[test]
    fn ids_are_of_their_form_and_none_is_given_twice() {
        let ids: HashSet<String> = (0..1000).map(|_| Id::new().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let uuid = Uuid::try_parse(id.strip_prefix("req-").expect("the prefix")).expect("a UUID");
            assert_eq!(uuid.get_version_num(), 4);
        }
    }
}
