//! The fleet's BMCs over Redfish: each machine's on its own address, all behind one listener on the loopback interface.
//!
//! What there is, is what Ironic's `redfish` interfaces use for power, boot device, inspection and virtual media
//! (DSP0266 1.15; checked with sushy and with a real Ironic): service root, sessions, one system, one chassis, one
//! manager. Virtual media are remembered, and no machine boots from them.

mod change;
mod tree;

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::fleet::{BMC_PASSWORD, BMC_USER};
use crate::world::Machine;

/// The largest body that a BMC reads.
const LARGEST_BODY: usize = 64 << 10;
/// Sessions that a BMC holds; the oldest goes when one more is asked for.
const MOST_SESSIONS: usize = 16;

/// Why a connection is dropped: its BMC is silent, or there is none at that address.
#[derive(Debug, thiserror::Error)]
#[error("no BMC answers here")]
struct NoAnswer;

/// What a BMC remembers beside the machine's own state.
#[derive(Default)]
struct Memory {
    /// Number and token of those who are logged in, oldest first.
    sessions: VecDeque<(u64, String)>,
    sessions_made: u64,
    /// Whether the identify light is lit.
    light: bool,
    /// The image in the virtual drive.
    medium: Option<Medium>,
}

/// An image in the virtual drive.
#[derive(Clone)]
struct Medium {
    image: String,
    write_protected: bool,
}

/// One BMC.
struct Bmc {
    machine: Arc<Machine>,
    memory: Mutex<Memory>,
}

impl Bmc {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        // nothing panics while it holds it, and what it holds stays whole
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All BMCs, by address.
pub(crate) struct Service(HashMap<Ipv4Addr, Bmc>);

impl Service {
    /// The machines' BMCs; each must know its IPMI address, whose IP is the Redfish one too.
    pub(crate) fn new(machines: &[Arc<Machine>]) -> Service {
        let bmc = |machine: &Arc<Machine>| match machine.bmc_address() {
            SocketAddr::V4(at) => {
                Some((*at.ip(), Bmc { machine: machine.clone(), memory: Mutex::default() }))
            }
            SocketAddr::V6(_) => None,
        };
        Service(machines.iter().filter_map(bmc).collect())
    }
}

/// Listens on `port` of every loopback address; 0 takes a free one. The loopback interface alone can reach it.
pub(crate) fn bind(port: u16) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind_device(Some(b"lo"))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Answers until it is aborted.
pub(crate) async fn serve(listener: TcpListener, service: Arc<Service>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to a simulated Redfish service");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(SocketAddr::V4(here)) = stream.local_addr() else { continue };
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        tokio::spawn(async move {
            let answering = hyper::service::service_fn(move |request| {
                answer(service.clone(), here.ip().to_owned(), request)
            });
            // an error here is a peer that went away, or NoAnswer
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), answering)
                .await;
        });
    }
}

/// What a request leads to.
enum Answer {
    /// A resource; its ETag is made of it.
    Resource(Value),
    /// Something new: where it is, further headers, and what it is.
    Created { location: String, token: Option<String>, body: Value },
    /// Done.
    Done,
    /// No: status and why.
    No(StatusCode, String),
}

fn no(status: StatusCode, why: impl Into<String>) -> Answer {
    Answer::No(status, why.into())
}

/// A wrong value of a property, as 400.
fn wrong(property: &str, value: &Value, remedy: &str) -> Answer {
    no(
        StatusCode::BAD_REQUEST,
        format!("The value {value} of the property {property} is not allowed; {remedy}"),
    )
}

async fn answer(
    service: Arc<Service>,
    here: Ipv4Addr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, NoAnswer> {
    let bmc = service.0.get(&here).ok_or(NoAnswer)?;
    if bmc.machine.bmc_is_silent() {
        // it listens, as hung BMCs do, and never says a word
        std::future::pending::<()>().await;
    }
    let (parts, body) = request.into_parts();
    let path = format!("/{}", parts.uri.path().trim_matches('/'));
    let open = matches!(path.as_str(), "/redfish" | "/redfish/v1")
        || (parts.method == Method::POST && path == tree::SESSIONS);
    if !open && !admits(bmc, &parts.headers) {
        let refusal = no(StatusCode::UNAUTHORIZED, "There is no valid session or password with the request");
        return Ok(respond(refusal, false));
    }
    let is_head = parts.method == Method::HEAD;
    if parts.method == Method::GET || is_head {
        return Ok(respond(tree::read(bmc, &path), is_head));
    }
    let body = match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(error) => return Ok(respond(no(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()), false)),
    };
    let body: Value = match body.is_empty() {
        true => json!({}),
        false => match serde_json::from_slice(&body) {
            Ok(value) => value,
            Err(error) => {
                return Ok(respond(
                    no(StatusCode::BAD_REQUEST, format!("The body is not JSON: {error}")),
                    false,
                ));
            }
        },
    };
    if let Some(stale) = stale(bmc, &path, &parts.headers) {
        return Ok(respond(stale, false));
    }
    let answer = match parts.method {
        Method::POST => change::post(bmc, &path, &body),
        Method::PATCH => change::patch(bmc, &path, &body),
        Method::DELETE => change::delete(bmc, &path),
        _ => no(StatusCode::METHOD_NOT_ALLOWED, "Use GET, HEAD, POST, PATCH or DELETE"),
    };
    Ok(respond(answer, false))
}

/// Whether the request proves who it is of: a session's token, or name and password.
fn admits(bmc: &Bmc, headers: &hyper::HeaderMap) -> bool {
    if let Some(token) = headers.get("X-Auth-Token") {
        return bmc.memory().sessions.iter().any(|(_, known)| known.as_bytes() == token.as_bytes());
    }
    let basic =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    let decoded = basic.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text.trim()).ok());
    decoded.is_some_and(|pair| pair == format!("{BMC_USER}:{BMC_PASSWORD}").as_bytes())
}

/// The refusal of a change to a resource that is no longer what the client saw.
fn stale(bmc: &Bmc, path: &str, headers: &hyper::HeaderMap) -> Option<Answer> {
    let seen = headers.get(header::IF_MATCH)?.to_str().ok()?;
    let Answer::Resource(now) = tree::read(bmc, path) else { return None };
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    (seen.trim() != "*" && bare(seen) != bare(&etag(&now)))
        .then(|| no(StatusCode::PRECONDITION_FAILED, "The resource has changed since; read it again"))
}

/// FNV-1a of the resource: the same as long as it reads the same.
fn etag(resource: &Value) -> String {
    let hash = resource.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

fn respond(answer: Answer, without_body: bool) -> Response<Full<Bytes>> {
    let mut response =
        Response::builder().header("OData-Version", "4.0").header(header::CACHE_CONTROL, "no-cache");
    let body = match answer {
        Answer::Resource(resource) => {
            response = response.header(header::ETAG, etag(&resource));
            Some(resource)
        }
        Answer::Created { location, token, body } => {
            response = response.status(StatusCode::CREATED).header(header::LOCATION, location);
            if let Some(token) = token {
                response = response.header("X-Auth-Token", token);
            }
            Some(body)
        }
        Answer::Done => {
            response = response.status(StatusCode::NO_CONTENT);
            None
        }
        Answer::No(status, why) => {
            response = response.status(status);
            if status == StatusCode::UNAUTHORIZED {
                response = response.header(header::WWW_AUTHENTICATE, "Basic realm=\"simulated BMC\"");
            }
            Some(json!({"error": {
                "code": "Base.1.15.GeneralError",
                "message": why,
                "@Message.ExtendedInfo": [{
                    "@odata.type": "#Message.v1_1_2.Message", "MessageId": "Base.1.15.GeneralError",
                    "Message": why, "Severity": "Critical", "Resolution": "None",
                }],
            }}))
        }
    };
    let bytes = match (&body, without_body) {
        (Some(body), false) => Bytes::from(body.to_string()),
        (_, _) => Bytes::new(),
    };
    if body.is_some() {
        response = response.header(header::CONTENT_TYPE, "application/json");
    }
    response.body(Full::new(bytes)).expect("status and headers are valid")
}
