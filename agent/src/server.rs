//! The agent's own HTTP API on port 9999: deploy.md §B.3.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferric_agent_wire::{AgentStatusBody, CommandList, CommandRequest, ErrorBody, error_type};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::VERSION;
use crate::agent::Agent;
use crate::extension::{self, Rejected};

/// Largest body of a command: a config drive of 64 MiB, gzipped badly, in base64.
const BODY_BYTES: usize = 96 << 20;

const HANDSHAKE: Duration = Duration::from_secs(10);

/// Until a request's headers are there, on a new connection and between two requests.
const HEADERS: Duration = Duration::from_secs(30);

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The certificate could not be made.
    #[error("the certificate cannot be signed")]
    Sign(#[from] rcgen::Error),
    /// The TLS library does not take it.
    #[error("the certificate cannot be used")]
    Use(#[from] rustls::Error),
}

/// A key and a certificate for one address, made for this boot.
pub struct Identity {
    /// The certificate, as the heartbeat carries it.
    pub pem: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// Makes one. Errors: [`IdentityError`].
    pub fn new(ip: IpAddr) -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![ip.to_string()])?;
        params.distinguished_name.push(DnType::CommonName, ip.to_string());
        let certificate = params.self_signed(&key)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)?;
        Ok(Self { pem: certificate.pem(), config: Arc::new(config) })
    }
}

/// Serves until dropped. A bad connection concerns nobody but itself.
pub async fn serve(listener: TcpListener, identity: Option<Identity>, agent: Arc<Agent>) {
    let acceptor = identity.map(|identity| TlsAcceptor::from(identity.config));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, agent) = (acceptor.clone(), agent.clone());
        tokio::spawn(async move {
            match acceptor {
                None => converse(stream, agent).await,
                Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => converse(stream, agent).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
                    Err(_) => tracing::debug!("TLS handshake timed out"),
                },
            }
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, agent: Arc<Agent>) {
    let service = service_fn(move |request| {
        let agent = agent.clone();
        async move { Ok::<_, Infallible>(answer(&agent, request).await) }
    });
    let served = connections(HEADERS).serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection");
    }
}

/// Closes connections on which nothing is asked, lest they pile up.
fn connections(headers: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(headers);
    builder
}

type Answer = Response<Full<Bytes>>;

async fn answer(agent: &Arc<Agent>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let wait = parameter(&query, "wait").is_some_and(|wait| wait.eq_ignore_ascii_case("true") || wait == "1");
    let method = request.method().clone();
    match (&method, path.as_str()) {
        (&Method::GET, "") => {
            json_answer(StatusCode::OK, &json!({"links": [link("/v1/")], "name": "Ferric agent"}))
        }
        (&Method::GET, "/v1") => {
            let links = json!({"links": [link("/v1/")], "commands": [link("/v1/commands/")], "status": [link("/v1/status")]});
            json_answer(StatusCode::OK, &links)
        }
        (&Method::GET, "/v1/status") => {
            let body = AgentStatusBody { started_at: agent.started_at.into(), version: VERSION.to_owned() };
            json_answer(StatusCode::OK, &body)
        }
        (&Method::GET | &Method::POST, "/v1/commands") => {
            if let Err(refused) = check_token(agent, &query) {
                return *refused;
            }
            if method == Method::GET {
                return json_answer(StatusCode::OK, &CommandList { commands: agent.commands.list() });
            }
            match Limited::new(request.into_body(), BODY_BYTES).collect().await {
                Ok(body) => command(agent, &body.to_bytes(), wait).await,
                Err(_) => {
                    error(StatusCode::BAD_REQUEST, error_type::INVALID_CONTENT, "the body cannot be read")
                }
            }
        }
        (&Method::GET, path) if path.starts_with("/v1/commands/") => {
            if let Err(refused) = check_token(agent, &query) {
                return *refused;
            }
            let id = path.rsplit('/').next().unwrap_or_default();
            match agent.commands.get(id) {
                Some(entry) if wait => json_answer(StatusCode::OK, &entry.finished().await),
                Some(entry) => json_answer(StatusCode::OK, &entry.snapshot()),
                None => error(
                    StatusCode::NOT_FOUND,
                    error_type::NOT_FOUND,
                    &format!("no command has the id {id}"),
                ),
            }
        }
        _ => error(StatusCode::NOT_FOUND, error_type::NOT_FOUND, &format!("nothing at {method} {path}")),
    }
}

async fn command(agent: &Arc<Agent>, body: &[u8], wait: bool) -> Answer {
    let Ok(request) = serde_json::from_slice::<CommandRequest>(body) else {
        return error(StatusCode::BAD_REQUEST, error_type::INVALID_CONTENT, "the body is not a command");
    };
    let name = request.name;
    match extension::dispatch(agent, &name, request.params).await {
        Ok(entry) if wait => json_answer(StatusCode::OK, &entry.finished().await),
        Ok(entry) => json_answer(StatusCode::OK, &entry.snapshot()),
        Err(Rejected::Unknown) => error(
            StatusCode::NOT_FOUND,
            error_type::INVALID_COMMAND,
            &format!("this agent has no command {name}"),
        ),
        Err(Rejected::Busy(other)) => {
            let text = format!("agent is busy: command {} is running", other.name);
            error(StatusCode::CONFLICT, error_type::BUSY, &text)
        }
        Err(Rejected::Invalid(failure)) => {
            error(StatusCode::BAD_REQUEST, failure.kind(), &failure.to_string())
        }
    }
}

/// Everything that acts or tells needs the token, once there is one.
fn check_token(agent: &Agent, query: &str) -> Result<(), Box<Answer>> {
    let refused = |text| Err(Box::new(error(StatusCode::UNAUTHORIZED, error_type::BAD_TOKEN, text)));
    let Some(session) = agent.session() else { return refused("this machine's node is not known yet") };
    let Some(token) = session.token else {
        return if session.config.agent_token_required { refused("there is no token yet") } else { Ok(()) };
    };
    let shown = parameter(query, "agent_token").unwrap_or_default();
    if token.same_as(&shown) {
        return Ok(());
    }
    refused(if shown.is_empty() { "the agent token is missing" } else { "the agent token is wrong" })
}

/// A query parameter, percent-decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let url = reqwest::Url::parse(&format!("http://agent/?{query}")).ok()?;
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn link(path: &str) -> serde_json::Value {
    json!({"href": path, "rel": "self"})
}

fn error(status: StatusCode, kind: &str, text: &str) -> Answer {
    let body = ErrorBody {
        kind: kind.to_owned(),
        code: status.as_u16(),
        message: text.to_owned(),
        details: text.to_owned(),
    };
    json_answer(status, &body)
}

fn json_answer(status: StatusCode, body: &impl serde::Serialize) -> Answer {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut answer = Response::new(Full::new(Bytes::from(bytes)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_connection_on_which_nothing_is_asked_is_closed() {
        for begin in ["", "GET / HTTP/1.1\r\nHost:", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let (mut ours, theirs) = tokio::io::duplex(4096);
            let service = service_fn(|_| async { Ok::<_, Infallible>(Answer::default()) });
            let served =
                connections(Duration::from_millis(50)).serve_connection(TokioIo::new(theirs), service);
            let asked = async {
                ours.write_all(begin.as_bytes()).await.expect("written");
                let mut seen = Vec::new();
                ours.read_to_end(&mut seen).await.expect("closed");
                String::from_utf8(seen).expect("text")
            };
            let both = async { tokio::join!(served, asked) };
            let (_, seen) =
                tokio::time::timeout(Duration::from_secs(20), both).await.expect("closed in time");
            assert_eq!(seen.starts_with("HTTP/1.1 200"), begin.ends_with("\r\n\r\n"), "{begin:?}: {seen}");
        }
    }
}
