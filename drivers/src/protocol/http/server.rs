//! Connections: threads that accept from one socket, read heads, and let the kernel send files (`sendfile`).

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::sendfile::sendfile;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::answer::{Answer, Part, answer, plain};
use super::head::{Parsed, parse};
use crate::DriverError;
use crate::metrics::{BootProtocol, METRICS};
use crate::protocol::jail::Jail;
use crate::protocol::threads::{self, Threads};

/// What one client gets before the next one's turn.
const CHUNK: u64 = 512 * 1024;
/// A file up to this goes out in one packet train with its head: a copy costs less than a second system call.
const SMALL: u64 = 16 * 1024;
/// A client must send its request line and headers within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS: usize = 4096;
/// What the kernel's queue holds: a rack that is switched on at once.
const BACKLOG: i32 = 4096;
/// A client that takes no data for so long is gone.
const STALLED: Duration = Duration::from_secs(60);
/// After `stop`, transfers under way get this long.
const GRACE: Duration = Duration::from_secs(5);
/// A refused client's body is read for so long and so far, or the refusal would be lost with the connection.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

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
    threads: Threads,
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
        self.threads.ended().await;
    }
}

/// Starts the server.
///
/// # Errors
/// `Io` when the folder, the port or a thread cannot be had.
#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
#[allow(clippy::unused_async)] // as the other boot servers are started
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
    let listener = bind(settings.listen).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let (stop, stopped) = watch::channel(false);
    let (jail, room) = (Arc::new(jail), Arc::new(Semaphore::new(CONNECTIONS)));
    let mut threads = Threads::default();
    for _ in 0..threads::count() {
        // all accept from the same queue: whoever has time takes the next
        let listener = listener.try_clone().map_err(refused)?;
        let (jail, room, stopped) = (jail.clone(), room.clone(), stopped.clone());
        threads.spawn("http-boot", || accept(listener, jail, room, stopped)).map_err(refused)?;
    }
    Ok(HttpHandle { address, stop, threads })
}

fn bind(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Connections inherit both: the first is for speed, the second frees the place of a machine that was switched
    // off during a transfer.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(STALLED))?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn accept(
    listener: std::net::TcpListener,
    jail: Arc<Jail>,
    room: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "HTTP boot: a thread cannot listen"),
    };
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
                        if let Err(error) = connection(stream, &jail, stopped).await {
                            tracing::debug!(%error, "HTTP boot: connection broke");
                        }
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

/// What the reading of a head came to.
enum Came {
    /// So many bytes at the begin of the buffer are a head, and this is its answer.
    Asked { len: usize, keep: bool, body: bool, answer: Answer },
    /// Refused with this status; the connection ends.
    Refused(u16),
    /// Nobody asks any more.
    Ended,
}

async fn connection(
    mut stream: TcpStream,
    jail: &Jail,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut received = Vec::with_capacity(2048);
    loop {
        let came = tokio::select! {
            came = tokio::time::timeout(HEADER_TIMEOUT, read_head(&mut stream, &mut received, jail)) => came,
            _ = stopped.changed() => return Ok(()),
        };
        match came {
            Ok(came) => match came? {
                Came::Asked { len, keep, body, answer } => {
                    received.drain(..len);
                    send(&mut stream, answer).await?;
                    if !keep || *stopped.borrow() {
                        // where nothing is left unread, the kernel delivers what was sent and needs no help
                        return if body || !received.is_empty() { linger(stream).await } else { Ok(()) };
                    }
                }
                Came::Refused(status) => {
                    send(&mut stream, plain(status, false, false)).await?;
                    return linger(stream).await;
                }
                Came::Ended => return Ok(()),
            },
            Err(_) if received.is_empty() => return Ok(()),
            Err(_) => {
                send(&mut stream, plain(408, false, false)).await?;
                return linger(stream).await;
            }
        }
    }
}

async fn read_head(stream: &mut TcpStream, received: &mut Vec<u8>, jail: &Jail) -> io::Result<Came> {
    loop {
        if !received.is_empty() {
            match parse(received) {
                Parsed::Whole(head, len) => {
                    let answer = answer(&head, jail);
                    tracing::debug!(asked = ?head.asked, path = head.path, status = answer.status, "HTTP boot");
                    return Ok(Came::Asked { len, keep: head.keep, body: head.body, answer });
                }
                Parsed::Partly => {}
                Parsed::Bad => return Ok(Came::Refused(400)),
                Parsed::Long => return Ok(Came::Refused(431)),
            }
        }
        // what is longer than a head was refused above: the buffer stays small
        received.reserve(2048);
        if stream.read_buf(received).await? == 0 {
            return Ok(Came::Ended);
        }
    }
}

async fn send(stream: &mut TcpStream, answer: Answer) -> io::Result<()> {
    let mut bytes = answer.head.into_bytes();
    let Some(part) = answer.part else { return stream.write_all(&bytes).await };
    METRICS.boot_file(BootProtocol::Http);
    let count = part.end - part.first;
    if count > SMALL {
        stream.write_all(&bytes).await?;
        return send_part(stream, part).await;
    }
    let head = bytes.len();
    bytes.resize(head + usize::try_from(count).expect("it is small"), 0);
    part.file.read_exact_at(&mut bytes[head..], part.first)?;
    stream.write_all(&bytes).await?;
    METRICS.boot_read(BootProtocol::Http, count);
    Ok(())
}

/// A file that became shorter meanwhile ends the connection: the length has been told.
async fn send_part(stream: &mut TcpStream, part: Part) -> io::Result<()> {
    let Part { file, mut first, end } = part;
    while first < end {
        let most = usize::try_from((end - first).min(CHUNK)).expect("a chunk fits");
        let sent = stream.async_io(Interest::WRITABLE, || {
            let mut offset = i64::try_from(first).map_err(io::Error::other)?;
            loop {
                match sendfile(&*stream, &file, Some(&mut offset), most) {
                    Err(Errno::EINTR) => {}
                    sent => return sent.map_err(io::Error::from),
                }
            }
        });
        let sent = match sent.await {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => sent as u64,
            // some file systems know no sendfile
            Err(error) if Errno::from_raw(error.raw_os_error().unwrap_or(0)) == Errno::EINVAL => {
                copy(stream, &file, first, most).await?;
                most as u64
            }
            Err(error) => return Err(error),
        };
        first += sent;
        METRICS.boot_read(BootProtocol::Http, sent);
        if sent == CHUNK {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

async fn copy(stream: &mut TcpStream, file: &File, first: u64, count: usize) -> io::Result<()> {
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, first)?;
    stream.write_all(&bytes).await
}

/// Closes so that the last answer arrives: bytes that nobody read would make the kernel reset the connection.
async fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let rest = async {
        let (mut sink, mut read) = ([0; 4096], 0);
        while read < LINGER_BYTES {
            match stream.read(&mut sink).await? {
                0 => break,
                len => read += len,
            }
        }
        Ok(())
    };
    tokio::time::timeout(LINGER, rest).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[test]
    fn a_connection_ends_when_its_machine_was_switched_off() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(STALLED));
        assert!(accepted.tcp_nodelay().unwrap());
    }
}
