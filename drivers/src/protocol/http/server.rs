//! Connections, requests, and files streamed from the disk.

use std::convert::Infallible;
use std::fs::{File, Metadata};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, Empty, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::io::ReaderStream;

use super::range::{Wanted, wanted};
use crate::DriverError;
use crate::metrics::{BootProtocol, METRICS};
use crate::protocol::jail::Jail;

/// Read from the disk and sent at once.
const CHUNK: usize = 256 * 1024;
/// A client must send its request line and headers within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS: usize = 4096;
/// A client that takes no data for so long is gone.
const STALLED: Duration = Duration::from_secs(60);
/// After `stop`, transfers under way get this long.
const GRACE: Duration = Duration::from_secs(5);

/// Settings of the HTTP boot server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Address and port; port 0 picks one.
    pub listen: SocketAddr,
    /// The folder that is served, `[deploy] http_root`.
    pub root: PathBuf,
}

impl Default for HttpSettings {
    fn default() -> HttpSettings {
        HttpSettings { listen: SocketAddr::from(([0, 0, 0, 0], 8080)), root: PathBuf::from("/httpboot") }
    }
}

/// A running server. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct HttpHandle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl HttpHandle {
    /// What it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets transfers finish for five seconds, and ends.
    pub async fn stop(self) {
        // no receiver means that the server has ended already
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the HTTP boot server ended badly");
        }
    }
}

/// Starts the server.
///
/// # Errors
/// `Io` when the folder or the port cannot be had.
#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
pub async fn start(settings: &HttpSettings) -> Result<HttpHandle, DriverError> {
    let jail = Jail::new(&settings.root).map_err(|error| DriverError::Io {
        path: settings.root.display().to_string(),
        reason: error.to_string(),
    })?;
    let refused = |error: io::Error| DriverError::Io {
        path: format!("TCP {} (HTTP boot)", settings.listen),
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => {
                "the port is in use: stop the other server, or set [http] listen".to_owned()
            }
            _ => error.to_string(),
        },
    };
    let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(accept(listener, Arc::new(jail), stopped));
    Ok(HttpHandle { address, stop, task })
}

async fn accept(listener: TcpListener, jail: Arc<Jail>, mut stopped: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        tokio::select! {
            _ = stopped.changed() => break,
            (permit, accepted) = next => match accepted {
                Ok((stream, _)) => {
                    let (jail, stopped) = (jail.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection(stream, jail, stopped).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "HTTP boot: cannot accept");
                    // too many open files: waiting is all that helps
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // the rest is cut off when `connections` is dropped
    let _ = tokio::time::timeout(GRACE, all).await;
}

async fn connection(stream: TcpStream, jail: Arc<Jail>, mut stopped: watch::Receiver<bool>) {
    // the first is for speed; the second frees the place of a machine that was switched off during a transfer
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(STALLED));
    let service = service_fn(move |request| {
        let jail = jail.clone();
        async move { Ok::<_, Infallible>(respond(&request, jail).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP boot: connection broke");
    }
}

type Body = BoxBody<Bytes, io::Error>;

async fn respond(request: &Request<Incoming>, jail: Arc<Jail>) -> Response<Body> {
    let response = match *request.method() {
        Method::GET | Method::HEAD => file(request, jail).await,
        _ => {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED);
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            refusal
        }
    };
    tracing::debug!(method = %request.method(), path = request.uri().path(),
        status = response.status().as_u16(), "HTTP boot");
    response
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
async fn file(request: &Request<Incoming>, jail: Arc<Jail>) -> Response<Body> {
    let Some(name) = decode(request.uri().path()) else { return plain(StatusCode::BAD_REQUEST) };
    let opened = tokio::task::spawn_blocking(move || {
        let file = jail.open(&name)?;
        let about = file.metadata()?;
        Ok::<_, io::Error>((file, about))
    });
    match opened.await {
        Ok(Ok((file, about))) => {
            let head = request.method() == Method::HEAD;
            send(request.headers(), head, file, &about).await.unwrap_or_else(|error| {
                tracing::warn!(%error, path = request.uri().path(), "HTTP boot: cannot read");
                plain(StatusCode::INTERNAL_SERVER_ERROR)
            })
        }
        Ok(Err(error)) => plain(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
                StatusCode::NOT_FOUND
            }
            io::ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

async fn send(headers: &HeaderMap, head: bool, file: File, about: &Metadata) -> io::Result<Response<Body>> {
    let len = about.len();
    let etag = format!(
        "\"{:x}-{:x}-{len:x}\"",
        about.ino(),
        about.mtime().wrapping_mul(1_000_000_000).wrapping_add(about.mtime_nsec())
    );
    let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let modified_text = httpdate::fmt_http_date(modified);
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let mut response = plain(StatusCode::OK);
    let set = response.headers_mut();
    set.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    set.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    set.insert(header::ETAG, ascii(&etag));
    set.insert(header::LAST_MODIFIED, ascii(&modified_text));
    if unchanged(text(header::IF_NONE_MATCH), text(header::IF_MODIFIED_SINCE), &etag, modified) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    // a part of another version of the file would be worse than the whole of this one
    let same = text(header::IF_RANGE).is_none_or(|seen| seen == etag || seen == modified_text);
    let (first, count) = match wanted(text(header::RANGE).filter(|_| same), len) {
        Wanted::All => (0, len),
        Wanted::Part { first, last } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = ascii(&format!("bytes {first}-{last}/{len}"));
            response.headers_mut().insert(header::CONTENT_RANGE, range);
            (first, last - first + 1)
        }
        Wanted::Nothing => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let range = ascii(&format!("bytes */{len}"));
            response.headers_mut().insert(header::CONTENT_RANGE, range);
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            return Ok(response);
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(count));
    if !head {
        *response.body_mut() = stream(file, first, count).await?;
    }
    Ok(response)
}

async fn stream(file: File, first: u64, count: u64) -> io::Result<Body> {
    let mut file = tokio::fs::File::from_std(file);
    if first > 0 {
        file.seek(io::SeekFrom::Start(first)).await?;
    }
    let chunks = ReaderStream::with_capacity(file.take(count), CHUNK);
    METRICS.boot_file(BootProtocol::Http);
    let counted = chunks.inspect_ok(|chunk| METRICS.boot_read(BootProtocol::Http, chunk.len() as u64));
    Ok(BodyExt::boxed(StreamBody::new(counted.map_ok(Frame::data))))
}

/// `If-None-Match` decides when it is there, else `If-Modified-Since` (RFC 9110 §13.2.2).
fn unchanged(none_match: Option<&str>, since: Option<&str>, etag: &str, modified: SystemTime) -> bool {
    if let Some(seen) = none_match {
        return seen.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag);
    }
    let whole_seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map(|d| d.as_secs()).ok();
    let since = since.and_then(|text| httpdate::parse_http_date(text).ok());
    since.is_some_and(|since| whole_seconds(modified) <= whole_seconds(since))
}

/// The path with `%xx` resolved; `None` when that is no UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits, letters and punctuation make a header value")
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}
