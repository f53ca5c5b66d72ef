//! Connections: threads that accept from one socket, read heads, and let the kernel send files (`sendfile`).

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::sendfile::sendfile;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answer::{Answer, Part, answer, plain};
use super::head::{Parsed, parse};
use super::places::{Pace, Place, Places};
use crate::DriverError;
use crate::metrics::{BootProtocol, BootRefusal, METRICS};
use crate::protocol::clients::Bounds;
use crate::protocol::descriptors;
use crate::protocol::jail::Jail;
use crate::protocol::threads::{self, Threads};

/// What one client gets before the next one's turn.
const CHUNK: u64 = 512 * 1024;
/// A file up to this goes out in one packet train with its head: a copy costs less than a second system call.
const SMALL: u64 = 16 * 1024;
/// A client must send its request line and headers within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at the same time, where there are descriptors for them; more wait in the kernel's queue, and those that ask
/// for nothing go.
const CONNECTIONS: usize = 4096;
/// Descriptors that these take.
pub const DESCRIPTORS: usize = CONNECTIONS * descriptors::OF_A_PLACE;
/// Of which one address has at most this many.
const OF_ONE: usize = 256;
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
    let all = descriptors::places(CONNECTIONS);
    start_within(settings, Bounds { all, of_one: OF_ONE.min(all.div_ceil(4)) })
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
fn start_within(settings: &HttpSettings, bounds: Bounds) -> Result<HttpHandle, DriverError> {
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
    let (jail, places) = (Arc::new(jail), Arc::new(Places::new(bounds)));
    let mut threads = Threads::default();
    for _ in 0..threads::count() {
        // all accept from the same queue: whoever has time takes the next
        let listener = listener.try_clone().map_err(refused)?;
        let (jail, places, stopped) = (jail.clone(), places.clone(), stopped.clone());
        threads.spawn("http-boot", || accept(listener, jail, places, stopped)).map_err(refused)?;
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
    places: Arc<Places>,
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
            let permit = places.permit().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            _ = stopped.changed() => break,
            (permit, accepted) = next => match accepted {
                Ok((stream, from)) => {
                    let Some(place) = places.take(permit, from.ip()) else {
                        turn_away(&stream, from.ip());
                        continue;
                    };
                    let (jail, stopped) = (jail.clone(), stopped.clone());
                    connections.spawn(async move {
                        if let Err(error) = connection(stream, &place, &jail, stopped).await {
                            tracing::debug!(%error, "HTTP boot: connection broke");
                        }
                        drop(place);
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

/// Too many connections of one client. What it asked is not read: a reset may overtake the answer, which says the same.
fn turn_away(stream: &TcpStream, ip: IpAddr) {
    METRICS.boot_refused(BootProtocol::Http, BootRefusal::Client);
    tracing::debug!(%ip, "HTTP boot: too many connections of one client");
    // a client that does not take these few bytes from an empty connection is told by its end
    let _ = SockRef::from(stream).send(plain(503, false, false).head.as_bytes());
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
    place: &Place,
    jail: &Jail,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut received = Vec::with_capacity(2048);
    loop {
        let came = tokio::select! {
            biased;
            came = tokio::time::timeout(HEADER_TIMEOUT, read_head(&mut stream, &mut received, jail)) => came,
            _ = stopped.changed() => return Ok(()),
            () = place.yielded() => {
                METRICS.boot_refused(BootProtocol::Http, BootRefusal::Idle);
                return Ok(());
            }
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
    let (mut bytes, mut pace) = (answer.head.into_bytes(), Pace::new(Instant::now()));
    let Some(part) = answer.part else { return write(stream, &bytes, &pace).await };
    METRICS.boot_file(BootProtocol::Http);
    let count = part.end - part.first;
    if count > SMALL {
        write(stream, &bytes, &pace).await?;
        return send_part(stream, part, &mut pace).await;
    }
    let head = bytes.len();
    bytes.resize(head + usize::try_from(count).expect("it is small"), 0);
    part.file.read_exact_at(&mut bytes[head..], part.first)?;
    write(stream, &bytes, &pace).await?;
    METRICS.boot_read(BootProtocol::Http, count);
    Ok(())
}

async fn write(stream: &mut TcpStream, bytes: &[u8], pace: &Pace) -> io::Result<()> {
    match tokio::time::timeout_at(pace.due(), stream.write_all(bytes)).await {
        Ok(written) => written,
        Err(_) => Err(too_slow(stream)),
    }
}

/// Ends a connection whose client takes too little, with what it has not taken: the kernel would keep that for it.
fn too_slow(stream: &TcpStream) -> io::Error {
    METRICS.boot_refused(BootProtocol::Http, BootRefusal::Slow);
    // where it is refused, the connection ends more slowly
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    io::Error::new(io::ErrorKind::TimedOut, "the client takes less than 16 KiB/s")
}

/// A file that became shorter meanwhile ends the connection: the length has been told.
async fn send_part(stream: &mut TcpStream, part: Part, pace: &mut Pace) -> io::Result<()> {
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
        let Ok(sent) = tokio::time::timeout_at(pace.due(), sent).await else { return Err(too_slow(stream)) };
        let sent = match sent {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => sent as u64,
            // some file systems know no sendfile
            Err(error) if Errno::from_raw(error.raw_os_error().unwrap_or(0)) == Errno::EINVAL => {
                copy(stream, &file, first, most, pace).await?;
                most as u64
            }
            Err(error) => return Err(error),
        };
        first += sent;
        pace.sent(sent, Instant::now());
        METRICS.boot_read(BootProtocol::Http, sent);
        if sent == CHUNK {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

async fn copy(stream: &mut TcpStream, file: &File, first: u64, count: usize, pace: &Pace) -> io::Result<()> {
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, first)?;
    write(stream, &bytes, pace).await
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
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream as Std;

    #[test]
    fn a_connection_ends_when_its_machine_was_switched_off() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = Std::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(STALLED));
        assert!(accepted.tcp_nodelay().unwrap());
    }

    fn small(bounds: Bounds) -> (tempfile::TempDir, HttpHandle) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("script"), "#!ipxe\n").unwrap();
        let settings = HttpSettings { listen: "127.108.9.1:0".parse().unwrap(), root: dir.path().to_owned() };
        let server = start_within(&settings, bounds).unwrap();
        (dir, server)
    }

    /// A connection from an address of its own.
    fn from(host: u8, server: &HttpHandle) -> Std {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 108, 10, host], 0)).into()).unwrap();
        socket.connect(&server.address().into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
        socket.into()
    }

    /// The status of an answer, 0 when the connection ended without one.
    fn ask(stream: &mut Std) -> u16 {
        let mut answer = [0; 512];
        match stream.write_all(b"GET /script HTTP/1.1\r\n\r\n").and_then(|()| stream.read(&mut answer)) {
            Ok(len) => String::from_utf8_lossy(&answer[..len])
                .split(' ')
                .nth(1)
                .map_or(0, |code| code.parse().unwrap()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the server is silent"),
            Err(_) => 0,
        }
    }

    #[tokio::test]
    async fn one_client_cannot_take_all_connections() {
        let (_dir, server) = small(Bounds { all: 16, of_one: 2 });
        let (mut first, mut second) = (from(1, &server), from(1, &server));
        // both have their places, as they are answered
        assert_eq!((ask(&mut first), ask(&mut second)), (200, 200));
        assert!([503, 0].contains(&ask(&mut from(1, &server))), "a third connection is served");
        assert_eq!(ask(&mut from(2, &server)), 200);
        assert_eq!(ask(&mut first), 200);
        drop(first);
        // its end is seen at some time
        let deadline = Instant::now() + Duration::from_secs(90);
        while ask(&mut from(1, &server)) != 200 {
            assert!(Instant::now() < deadline, "the place is not free again");
        }
        server.stop().await;
    }

    #[tokio::test]
    async fn connections_that_ask_for_nothing_make_room_for_those_that_do() {
        let (_dir, server) = small(Bounds { all: 8, of_one: 4 });
        let mut idle: Vec<Std> = (0..40).map(|number| from(number, &server)).collect();
        for stream in &mut idle {
            stream.write_all(b"G").unwrap();
        }
        // behind them all in the kernel's queue; without room made it would wait for half a minute, several times
        assert_eq!(ask(&mut from(100, &server)), 200);
        let refused = crate::metrics::BootRefused { protocol: "http", reason: "idle" };
        assert!(METRICS.boot_refused.get_or_create(&refused).get() > 20);
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, vec![7; 64 << 20]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Std::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let part = Part { file: File::open(&path).unwrap(), first: 0, end: 64 << 20 };
        let answer = Answer { status: 200, head: "HTTP/1.1 200 OK\r\n\r\n".to_owned(), part: Some(part) };
        let error = send(&mut stream, answer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(stream);
        // and what the kernel had for it is gone
        let mut buffer = vec![0; 1 << 20];
        let end = loop {
            match client.read(&mut buffer) {
                Ok(0) => break None,
                Ok(_) => {}
                Err(error) => break Some(error.kind()),
            }
        };
        assert_eq!(end, Some(io::ErrorKind::ConnectionReset));
    }
}
