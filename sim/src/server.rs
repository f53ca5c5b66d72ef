//! One listener for all simulated agents, a path prefix per machine; it also serves images made in memory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use ferric_agent_wire::{AgentStatusBody, CommandList, CommandRequest, error_type};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::net::TcpListener;

use crate::agent::{Refusal, path_key, refusal};
use crate::images::Images;
use crate::world::Machine;

/// The largest command; a config drive travels in it.
const LARGEST_BODY: usize = 96 << 20;

/// Why the connection is dropped instead of answered: nothing runs there that could answer.
#[derive(Debug, thiserror::Error)]
#[error("no agent runs on this machine")]
pub(crate) struct NobodyHome;

pub(crate) struct Routes {
    /// Machines by MAC without colons.
    machines: HashMap<String, Arc<Machine>>,
    images: Arc<Images>,
}

impl Routes {
    pub(crate) fn new(machines: &[Arc<Machine>], images: Arc<Images>) -> Self {
        let machines = machines.iter().map(|machine| (path_key(&machine.mac), machine.clone())).collect();
        Self { machines, images }
    }
}

/// Answers until it is aborted. `listener` is bound already, so that its address is known.
pub(crate) async fn serve(listener: TcpListener, routes: Arc<Routes>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // out of file descriptors, most likely: others may close theirs meanwhile
                tracing::warn!(%error, "cannot accept a connection to a simulated agent");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let routes = routes.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(routes.clone(), request));
            // an error here is a peer that went away, or NobodyHome
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Answers one request. `Err`: nobody is there to answer.
pub(crate) async fn answer<B>(
    routes: Arc<Routes>,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, NobodyHome>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = request.uri().path().trim_matches('/').to_owned();
    let (first, rest) = path.split_once('/').unwrap_or((path.as_str(), ""));
    if first == "images" {
        return Ok(image_answer(routes.images.content(rest), &request));
    }
    let Some(machine) = routes.machines.get(first) else {
        return Ok(refused(&refusal(404, error_type::NOT_FOUND, "no machine has this path")));
    };
    let agent = machine.agent().ok_or(NobodyHome)?;
    let query = |name: &str| {
        let text = request.uri().query()?;
        text.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, v)| v))
    };
    let wait = query("wait").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let token = query("agent_token").map(str::to_owned);
    let parts: Vec<&str> = rest.split('/').collect();
    let answered = match (request.method().as_str(), parts.as_slice()) {
        ("GET", ["" | "v1"]) => Ok(json(200, &serde_json::json!({"name": "ferric-sim agent", "links": []}))),
        ("GET", ["v1", "status"]) => {
            let status =
                AgentStatusBody { version: env!("CARGO_PKG_VERSION").to_owned(), ..Default::default() };
            Ok(json(200, &status))
        }
        ("GET", ["v1", "commands"]) => agent
            .check_token(token.as_deref())
            .map(|()| json(200, &CommandList { commands: agent.commands() })),
        ("GET", ["v1", "commands", id]) => match agent.check_token(token.as_deref()) {
            Ok(()) => agent.answer(id, wait).await.map(|command| json(200, &command)),
            Err(refusal) => Err(refusal),
        },
        ("POST", ["v1", "commands"]) => match agent.check_token(token.as_deref()) {
            Ok(()) => match read(request).await {
                Ok(command) => agent.start(machine, command, wait).await.map(|command| json(200, &command)),
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        },
        (_, _) => Err(refusal(404, error_type::NOT_FOUND, format!("nothing under /{rest}"))),
    };
    if agent.is_gone() {
        return Err(NobodyHome);
    }
    Ok(answered.unwrap_or_else(|refusal| refused(&refusal)))
}

async fn read<B>(request: Request<B>) -> Result<CommandRequest, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let wrong = |details: String| refusal(400, error_type::INVALID_CONTENT, details);
    let body = Limited::new(request.into_body(), LARGEST_BODY).collect().await;
    let body = body.map_err(|error| wrong(error.to_string()))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))
}

fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    json(refusal.code, refusal.as_ref())
}

fn json(status: u16, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let bytes = serde_json::to_vec(body).expect("the wire types have string keys only");
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes.into()))
        .expect("status and header are valid")
}

/// An image, or what is left of it from the byte that a range asks for.
fn image_answer<B>(image: Option<Bytes>, request: &Request<B>) -> Response<Full<Bytes>> {
    let range = request.headers().get(header::RANGE).and_then(|range| range.to_str().ok());
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let whole = image.as_ref().map_or(0, Bytes::len);
    let mut answer = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes");
    let (status, body) = match (image, from) {
        (None, _) => (StatusCode::NOT_FOUND, Bytes::new()),
        (Some(image), None) => (StatusCode::OK, image),
        (Some(_), Some(from)) if from >= whole => {
            answer = answer.header(header::CONTENT_RANGE, format!("bytes */{whole}"));
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new())
        }
        (Some(image), Some(from)) => {
            let last = whole.saturating_sub(1);
            answer = answer.header(header::CONTENT_RANGE, format!("bytes {from}-{last}/{whole}"));
            (StatusCode::PARTIAL_CONTENT, image.slice(from..))
        }
    };
    let length = body.len();
    let body = if *request.method() == Method::HEAD { Bytes::new() } else { body };
    answer
        .status(status)
        .header(header::CONTENT_LENGTH, length)
        .body(Full::new(body))
        .expect("status and headers are valid")
}

/// Binds the listener on the loopback interface.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
