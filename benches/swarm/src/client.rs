//! A lean client of Ironic's API: kept connections, every request measured, 409 and 503 tried again as Ironic's own
//! clients do.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::options::{Auth, Options};
use crate::record::{Answered, Kind, Recorder};

/// The newest microversion that is spoken; an older server is spoken to with its own newest.
const WANTED: Version = Version(1, 90);
/// The oldest that will do: `fields=` of lists.
const NEEDED: Version = Version(1, 8);
/// The longest an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The largest answer.
const LARGEST: usize = 256 << 20;
/// Connections besides those that carry the load: for following the states.
const SPARE: usize = 1;

static VERSION: HeaderName = HeaderName::from_static("x-openstack-ironic-api-version");
static NEWEST: HeaderName = HeaderName::from_static("x-openstack-ironic-api-maximum-version");
static OLDEST: HeaderName = HeaderName::from_static("x-openstack-ironic-api-minimum-version");
static TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The endpoint is no URL of an API.
    #[error("'{0}' is no endpoint; name one such as http://127.0.0.1:6385, without /v1")]
    Endpoint(String),
    /// The certificates cannot be used.
    #[error("the certificates cannot be used: {0}; name a PEM file with --cacert")]
    Certificates(String),
    /// No connection.
    #[error("cannot connect to {to}: {source}; is the API running there?")]
    Connect {
        /// Host and port.
        to: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to the API broke: {0}")]
    Broken(#[source] hyper::Error),
    /// Nothing came.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// The answer's body did not come whole, or is too large.
    #[error("the answer did not come whole: {0}")]
    Body(String),
    /// An answer that says no.
    #[error("{status}: {reason}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The words of the API.
        reason: String,
    },
    /// An answer that cannot be read.
    #[error("{what}: the answer cannot be read: {source}")]
    Unreadable {
        /// What was asked.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A server too old.
    #[error("the API speaks microversion {newest} at most, and {NEEDED} is needed")]
    TooOld {
        /// Its newest.
        newest: Version,
    },
}

impl CallError {
    /// Whether the API says that it, or the driver, has no such thing at all.
    pub(crate) fn is_unsupported(&self) -> bool {
        let CallError::Refused { status, reason } = self else { return false };
        let words = reason.to_lowercase();
        match status.as_u16() {
            501 | 405 | 406 => true,
            400 | 404 => ["not support", "unsupported", "not implemented", "disabled"]
                .iter()
                .any(|word| words.contains(word)),
            _ => false,
        }
    }
}

/// A microversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u16, u16);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    fn read(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// What the API says about itself.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// Its name, as `GET /` gives it.
    pub(crate) name: String,
    /// The newest microversion it has.
    pub(crate) newest: Version,
    /// The one that is spoken.
    pub(crate) spoken: Version,
}

type Connection = SendRequest<Full<Bytes>>;

struct Target {
    host: String,
    port: u16,
    base: String,
    header: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// The client.
pub(crate) struct Client {
    target: Target,
    headers: HeaderMap,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
    retries: u32,
    retry_interval: Duration,
    recorder: Arc<Recorder>,
}

struct Raw {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Client {
    /// A client for an endpoint; nothing is sent yet.
    pub(crate) fn new(options: &Options, recorder: Arc<Recorder>) -> Result<Self, CallError> {
        let target = Target::read(options)?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, target.header.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        match &options.auth {
            Auth::None => {}
            Auth::Token(value) => _ = headers.insert(TOKEN.clone(), value.clone()),
            Auth::Basic(value) => _ = headers.insert(AUTHORIZATION, value.clone()),
        }
        Ok(Self {
            target,
            headers,
            idle: Mutex::default(),
            permits: Semaphore::new(options.concurrency.max(1) + SPARE),
            retries: options.retries,
            retry_interval: options.retry_interval,
            recorder,
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().expect("no code panics while it holds the connections")
    }

    /// Asks the API for its versions, and speaks the newest of them that is known here from now on.
    pub(crate) async fn negotiate(&mut self) -> Result<About, CallError> {
        let root = self.exchange(&Method::GET, "/", Bytes::new()).await?;
        let name = serde_json::from_slice::<Value>(&root.body)
            .ok()
            .and_then(|root| Some(root.get("name")?.as_str()?.to_owned()));
        let raw = self.exchange(&Method::GET, "/v1", Bytes::new()).await?;
        if !raw.status.is_success() {
            return Err(refused(&raw));
        }
        let body: Value = serde_json::from_slice(&raw.body)
            .map_err(|source| CallError::Unreadable { what: "GET /v1", source })?;
        let version = |header: &HeaderName, key: &str| {
            let text = raw.headers.get(header).and_then(|value| value.to_str().ok());
            text.or_else(|| body.get("version")?.get(key)?.as_str()).and_then(Version::read)
        };
        let newest = version(&NEWEST, "version").unwrap_or(Version(1, 1));
        let oldest = version(&OLDEST, "min_version").unwrap_or(Version(1, 1));
        if newest < NEEDED {
            return Err(CallError::TooOld { newest });
        }
        let spoken = WANTED.min(newest).max(oldest);
        let value = HeaderValue::from_str(&spoken.to_string()).expect("digits and a dot are a header");
        self.headers.insert(VERSION.clone(), value);
        Ok(About { name: name.unwrap_or_else(|| "?".to_owned()), newest, spoken })
    }

    /// Sends a request until it is answered for good. Latency counts from `planned`, that of further tries from the
    /// moment each was due.
    pub(crate) async fn call(
        &self,
        kind: Kind,
        method: Method,
        path: &str,
        body: Option<&Value>,
        planned: Instant,
    ) -> Result<Bytes, CallError> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut planned = planned;
        let mut left = self.retries;
        loop {
            let permit = self.permits.acquire().await.expect("nobody closes the semaphore");
            let sent = Instant::now();
            let result = self.exchange(&method, path, body.clone()).await;
            drop(permit);
            let done = Instant::now();
            let status = result.as_ref().ok().map(|raw| raw.status);
            // a conflict of a creation is a name that is taken, which time does not mend
            let again = left > 0
                && status.is_some_and(|status| match status {
                    StatusCode::CONFLICT => method != Method::POST,
                    other => other == StatusCode::SERVICE_UNAVAILABLE,
                });
            let bytes = result.as_ref().map_or(0, |raw| raw.body.len());
            let status = status.map(|status| status.as_u16());
            self.recorder.request(kind, &Answered { planned, sent, done, status, again, bytes });
            let raw = result?;
            if raw.status.is_success() {
                return Ok(raw.body);
            }
            if !again {
                return Err(refused(&raw));
            }
            left -= 1;
            let asked = raw.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            planned =
                done + asked.map_or(self.retry_interval, Duration::from_secs).min(Duration::from_secs(60));
            tokio::time::sleep_until(planned.into()).await;
        }
    }

    async fn exchange(&self, method: &Method, path: &str, body: Bytes) -> Result<Raw, CallError> {
        match tokio::time::timeout(PATIENCE, self.exchange_without_limit(method, path, body)).await {
            Ok(result) => result,
            Err(_) => Err(CallError::Silent),
        }
    }

    async fn exchange_without_limit(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> Result<Raw, CallError> {
        let uri: Uri = format!("{}{path}", self.target.base)
            .parse()
            .map_err(|_| CallError::Endpoint(self.target.base.clone()))?;
        loop {
            let kept = self.idle().pop();
            let reused = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            if let Err(error) = connection.ready().await {
                if reused {
                    continue;
                }
                return Err(CallError::Broken(error));
            }
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = self.headers.clone();
            if !body.is_empty() {
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            match connection.try_send_request(request).await {
                Ok(answer) => {
                    let (parts, body) = answer.into_parts();
                    let body = Limited::new(body, LARGEST).collect().await;
                    let body = body.map_err(|error| CallError::Body(error.to_string()))?.to_bytes();
                    if !connection.is_closed() {
                        self.idle().push(connection);
                    }
                    return Ok(Raw { status: parts.status, headers: parts.headers, body });
                }
                Err(mut failed) => {
                    // the server closed a kept connection: nothing was sent, or what may be sent twice
                    let unsent = failed.take_message().is_some();
                    let error = failed.into_error();
                    if reused && (unsent || (error.is_incomplete_message() && method != Method::POST)) {
                        continue;
                    }
                    return Err(CallError::Broken(error));
                }
            }
        }
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let target = &self.target;
        let failed = |source| CallError::Connect { to: format!("{}:{}", target.host, target.port), source };
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        match &target.tls {
            None => start(TokioIo::new(stream)).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(failed)?;
                start(TokioIo::new(stream)).await
            }
        }
    }
}

async fn start<T>(io: T) -> Result<Connection, CallError>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(io).await.map_err(CallError::Broken)?;
    // its errors reach whoever waits for an answer
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

impl Target {
    fn read(options: &Options) -> Result<Self, CallError> {
        let unusable = || CallError::Endpoint(options.endpoint.clone());
        let uri: Uri = options.endpoint.trim_end_matches('/').parse().map_err(|_| unusable())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(unusable()),
        };
        let authority = uri.authority().ok_or_else(unusable)?;
        // a password in the URL would be seen in every list of processes
        if authority.as_str().contains('@') {
            return Err(CallError::Endpoint("http://…@…".to_owned()));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let header = HeaderValue::from_str(authority.as_str()).map_err(|_| unusable())?;
        let base = uri.path().trim_end_matches('/').to_owned();
        let tls = match secure {
            false => None,
            true => Some((
                TlsConnector::from(Arc::new(tls(options)?)),
                ServerName::try_from(host.clone()).map_err(|_| unusable())?,
            )),
        };
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { host, port, base, header, tls })
    }
}

fn tls(options: &Options) -> Result<ClientConfig, CallError> {
    let unusable = |error: &dyn std::fmt::Display| CallError::Certificates(error.to_string());
    // the process may have chosen its provider already; then that one serves
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = ClientConfig::builder();
    let Some(path) = &options.cacert else {
        return Ok(builder.with_platform_verifier().map_err(|error| unusable(&error))?.with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn refused(raw: &Raw) -> CallError {
    CallError::Refused { status: raw.status, reason: reason_of(&raw.body) }
}

/// The words of an Ironic error body: `error_message` is an object, or a string that holds one.
fn reason_of(body: &[u8]) -> String {
    let message =
        serde_json::from_slice::<Value>(body).ok().and_then(|body| body.get("error_message").cloned());
    let inner = match &message {
        Some(Value::String(text)) => serde_json::from_str::<Value>(text).ok(),
        other => other.clone(),
    };
    let words = inner.as_ref().and_then(|body| {
        ["faultstring", "description", "title"].iter().find_map(|key| body.get(key)?.as_str())
    });
    match words.or(message.as_ref().and_then(Value::as_str)) {
        Some(words) => words.chars().take(400).collect(),
        None => String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_an_error_are_found_in_every_shape() {
        let a = br#"{"error_message": "{\"faultcode\": \"Client\", \"faultstring\": \"no\", \"debuginfo\": null}"}"#;
        assert_eq!(reason_of(a), "no");
        assert_eq!(reason_of(br#"{"error_message": {"faultstring": "never"}}"#), "never");
        assert_eq!(reason_of(b"plain"), "plain");
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(Version::read("1.9").unwrap() < Version::read("1.115").unwrap());
        assert_eq!(Version::read("latest"), None);
    }

    #[test]
    fn endpoints_without_a_scheme_or_with_a_password_are_refused() {
        for endpoint in ["127.0.0.1:6385", "ftp://x", "http://me:hidden@x:1", ""] {
            let options = Options { endpoint: endpoint.to_owned(), ..Options::default() };
            let error = Target::read(&options).err().unwrap().to_string();
            assert!(error.contains("no endpoint") && !error.contains("hidden"), "{error}");
        }
        let options = Options { endpoint: "http://[::1]:6385/baremetal/".to_owned(), ..Options::default() };
        let target = Target::read(&options).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.base.as_str()), ("::1", 6385, "/baremetal"));
    }

    #[test]
    fn only_what_is_missing_altogether_counts_as_unsupported() {
        let of = |status, reason: &str| CallError::Refused {
            status: StatusCode::from_u16(status).unwrap(),
            reason: reason.to_owned(),
        };
        assert!(of(501, "").is_unsupported());
        let text = "Driver fake-hardware does not support inspect (disabled or not implemented).";
        assert!(of(400, text).is_unsupported());
        assert!(!of(400, "Node is in maintenance").is_unsupported());
        assert!(!of(409, "is not supported").is_unsupported());
        assert!(!CallError::Silent.is_unsupported());
    }
}
