//! The sockets: one thread hears requests, all of them serve transfers.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::packet::{ErrorCode, Packet, Request, error, parse};
use super::sessions::{Place, Sessions};
use super::socket;
use super::transfer::{Step, Transfer};
use crate::DriverError;
use crate::metrics::{BootProtocol, METRICS};
use crate::protocol::jail::Jail;
use crate::protocol::threads::{self, Threads};

/// Read from the disk at once.
const AHEAD: usize = 32 * 1024;
/// Requests that wait for a thread; clients ask again when there are more.
const QUEUE: usize = 1024;
/// The longest packet that is read; no client sends longer ones (RFC 2347 §2).
const LONGEST: usize = 1500;

/// Settings of the TFTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TftpSettings {
    /// Address and port. Answers come from the address that the client asked. Port 0 picks one.
    pub listen: SocketAddr,
    /// The folder that is served, `[pxe] tftp_root`.
    pub root: PathBuf,
}

impl Default for TftpSettings {
    fn default() -> TftpSettings {
        TftpSettings { listen: SocketAddr::from(([0, 0, 0, 0], 69)), root: PathBuf::from("/tftpboot") }
    }
}

/// A running server. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct TftpHandle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Threads,
}

impl TftpHandle {
    /// What it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops; transfers under way break off.
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
pub async fn start(settings: &TftpSettings) -> Result<TftpHandle, DriverError> {
    let jail = Jail::new(&settings.root).map_err(|error| DriverError::Io {
        path: settings.root.display().to_string(),
        reason: error.to_string(),
    })?;
    let refused = |error: io::Error| DriverError::Io {
        path: format!("UDP {} (TFTP)", settings.listen),
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another TFTP server runs here: stop it, or set [tftp] listen".to_owned()
            }
            io::ErrorKind::PermissionDenied => format!("{error}: give the process CAP_NET_BIND_SERVICE"),
            _ => error.to_string(),
        },
    };
    let socket = socket::listen(settings.listen).map_err(refused)?;
    let address = socket.local_addr().map_err(refused)?;
    let (stop, stopped) = watch::channel(false);
    let (mut threads, mut queues, jail) = (Threads::default(), Vec::new(), Arc::new(jail));
    for _ in 0..threads::count() {
        let (queue, requests) = mpsc::channel(QUEUE);
        queues.push(queue);
        let (jail, stopped) = (jail.clone(), stopped.clone());
        threads.spawn("tftp", || serve(requests, jail, stopped)).map_err(refused)?;
    }
    threads.spawn("tftp-listen", move || listen(socket, queues, stopped)).map_err(refused)?;
    Ok(TftpHandle { address, stop, threads })
}

/// A request on its way to a thread.
struct Asked {
    client: SocketAddr,
    local: IpAddr,
    packet: Box<[u8]>,
    place: Place,
}

/// Hears requests and hands them out in turn.
async fn listen(
    socket: std::net::UdpSocket,
    queues: Vec<mpsc::Sender<Asked>>,
    mut stopped: watch::Receiver<bool>,
) {
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "the TFTP server cannot listen"),
    };
    let listening = socket.local_addr().map_or(IpAddr::from([0, 0, 0, 0]), |address| address.ip());
    let (sessions, mut buffer) = (Arc::new(Sessions::default()), [0; LONGEST]);
    for queue in queues.iter().cycle() {
        let (len, client, to) = tokio::select! {
            _ = stopped.changed() => return,
            received = socket::receive(&socket, &mut buffer) => match received {
                Ok(received) => received,
                Err(error) => {
                    tracing::warn!(%error, "TFTP: cannot receive");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let packet = &buffer[..len];
        // answers that miss their transfer's own socket come here as well, and have nothing to say
        if !matches!(parse(packet), Some(Packet::Read(_) | Packet::Write)) {
            continue;
        }
        let Some(place) = sessions.begin(client, packet) else { continue };
        let local = to.filter(|to| !to.is_unspecified()).unwrap_or(listening);
        // a full queue drops the request and frees its place: the client asks again
        if queue.try_send(Asked { client, local, packet: packet.into(), place }).is_err() {
            tracing::debug!(%client, "TFTP: too many requests at once");
        }
    }
}

async fn serve(mut requests: mpsc::Receiver<Asked>, jail: Arc<Jail>, mut stopped: watch::Receiver<bool>) {
    let mut transfers = JoinSet::new();
    loop {
        while transfers.try_join_next().is_some() {}
        let asked = tokio::select! {
            _ = stopped.changed() => return,
            asked = requests.recv() => match asked {
                Some(asked) => asked,
                None => return,
            },
        };
        let jail = jail.clone();
        transfers.spawn(async move {
            let client = asked.client;
            if let Err(error) = one(asked, &jail).await {
                // ECONNREFUSED: the client has closed its port, which is how many break off
                tracing::debug!(%client, %error, "TFTP: transfer broke off");
            }
        });
    }
}

/// A whole transfer, or a refusal.
async fn one(asked: Asked, jail: &Jail) -> io::Result<()> {
    let Asked { client, local, packet, place } = asked;
    let socket = socket::transfer(local, client)?;
    let refuse = async |code, text: &str| socket.send(&error(code, text)).await.map(|_| ());
    let request = match parse(&packet) {
        Some(Packet::Read(request)) if request.octet => request,
        Some(Packet::Read(_)) => {
            return refuse(ErrorCode::Undefined, "only mode octet (binary) is served").await;
        }
        Some(Packet::Write) => {
            tracing::warn!(%client, "TFTP write refused");
            return refuse(ErrorCode::Access, "this server is read-only").await;
        }
        Some(Packet::Ack(_) | Packet::Error { .. }) | None => {
            return refuse(ErrorCode::Illegal, "no request").await;
        }
    };
    match jail.open(request.file) {
        Ok((file, about)) => {
            METRICS.boot_file(BootProtocol::Tftp);
            tracing::debug!(%client, file = request.file, "TFTP read");
            let mut sending = Sending::new(file, about.len(), &request, socket);
            let ended = sending.run(place).await;
            METRICS.boot_read(BootProtocol::Tftp, sending.read);
            ended
        }
        Err(error) => {
            tracing::debug!(%client, file = request.file, %error, "TFTP read refused");
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
                    refuse(ErrorCode::NotFound, "no such file").await
                }
                _ => refuse(ErrorCode::Access, "it may not be read").await,
            }
        }
    }
}

/// A file on its way to a client.
struct Sending {
    transfer: Transfer,
    oack: Vec<u8>,
    file: File,
    socket: UdpSocket,
    /// Part of the file, from `ahead_at` on.
    ahead: Vec<u8>,
    ahead_at: u64,
    packets: Vec<u8>,
    /// Of each packet but the last.
    packet_size: usize,
    together: bool,
    read: u64,
}

impl Sending {
    fn new(file: File, size: u64, request: &Request<'_>, socket: UdpSocket) -> Sending {
        let (agreed, oack) = request.agree(size);
        Sending {
            transfer: Transfer::new(size, agreed, oack.is_some()),
            oack: oack.unwrap_or_default(),
            file,
            socket,
            ahead: Vec::new(),
            ahead_at: 0,
            packets: Vec::new(),
            packet_size: usize::from(agreed.blksize) + 4,
            together: true,
            read: 0,
        }
    }

    async fn run(&mut self, mut place: Place) -> io::Result<()> {
        let mut step = self.transfer.begin();
        // one timer, which is looked after when it rings: packets come and go much faster
        let timer = tokio::time::sleep(self.transfer.patience());
        let mut timer = std::pin::pin!(timer);
        let mut buffer = [0; LONGEST];
        loop {
            match step {
                Step::Options => drop(self.socket.send(&self.oack).await?),
                Step::Blocks(blocks) => self.send(blocks.start, blocks.end).await?,
                Step::Wait => {}
                Step::Done => return Ok(()),
                Step::GiveUp => return Err(io::ErrorKind::TimedOut.into()),
            }
            let mut due = Instant::now() + self.transfer.patience();
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            step = loop {
                tokio::select! {
                    biased;
                    received = self.socket.recv(&mut buffer) => match parse(&buffer[..received?]) {
                        Some(Packet::Ack(number)) => {
                            place.answered();
                            match self.transfer.ack(number) {
                                // it lives, but only progress puts off the repetition
                                Step::Wait => {}
                                step => break step,
                            }
                        }
                        Some(Packet::Error { code }) => {
                            tracing::debug!(code, "TFTP: the client wants no more");
                            return Ok(());
                        }
                        Some(Packet::Read(_) | Packet::Write) | None => {}
                    },
                    _ = &mut place.replaced => return Ok(()),
                    () = &mut timer => {
                        if Instant::now() >= due {
                            let step = self.transfer.silence();
                            due = Instant::now() + self.transfer.patience();
                            timer.as_mut().reset(due);
                            break step;
                        }
                        timer.as_mut().reset(due);
                    }
                }
            };
        }
    }

    async fn send(&mut self, first: u64, end: u64) -> io::Result<()> {
        let mut block = first;
        while block < end {
            let until = end.min(block + socket::TOGETHER as u64);
            self.packets.clear();
            for number in block..until {
                let (offset, len) = self.transfer.place(number);
                self.packets.extend_from_slice(&[0, 3]);
                // counted modulo 65,536, as all servers and clients do for large files
                self.packets.extend_from_slice(&(number as u16).to_be_bytes());
                self.block(offset, len)?;
            }
            socket::send(&self.socket, &self.packets, self.packet_size, &mut self.together).await?;
            block = until;
        }
        Ok(())
    }

    /// Puts a block behind its header, from what was read ahead.
    fn block(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let within = |at: u64, have: usize| offset >= at && offset + len as u64 <= at + have as u64;
        if !within(self.ahead_at, self.ahead.len()) {
            self.ahead.resize(AHEAD, 0);
            let mut filled = 0;
            while filled < AHEAD {
                match self.file.read_at(&mut self.ahead[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(bytes) => filled += bytes,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.ahead.truncate(filled);
            self.ahead_at = offset;
            self.read += filled as u64;
        }
        let start = usize::try_from(offset - self.ahead_at).map_err(io::Error::other)?;
        // a file that became shorter meanwhile: its length has been told
        let bytes = self.ahead.get(start..start + len).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.packets.extend_from_slice(bytes);
        Ok(())
    }
}
