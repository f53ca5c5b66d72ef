//! The sockets: one thread hears requests, all of them serve transfers.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::uio::preadv;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::packet::{ErrorCode, Packet, Request, WINDOW, error, parse};
use super::sessions::{Place, Sessions};
use super::socket;
use super::transfer::{Step, Transfer};
use crate::DriverError;
use crate::metrics::{BootProtocol, BootRefusal, METRICS};
use crate::protocol::jail::Jail;
use crate::protocol::threads::{self, Threads};

/// Read from the disk at once.
const AHEAD: usize = 16 * 1024;
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
    for _ in 0..threads::half() {
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
        let Some(place) = sessions.begin(client, packet, std::time::Instant::now()) else { continue };
        let local = to.filter(|to| !to.is_unspecified()).unwrap_or(listening);
        // a full queue drops the request and frees its place: the client asks again
        if queue.try_send(Asked { client, local, packet: packet.into(), place }).is_err() {
            METRICS.boot_refused(BootProtocol::Tftp, BootRefusal::Queue);
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
            sending.run(place).await
        }
        Err(error) => {
            tracing::debug!(%client, file = request.file, %error, "TFTP read refused");
            use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
            match [NotFound, NotADirectory, InvalidFilename].contains(&error.kind()) {
                true => refuse(ErrorCode::NotFound, "no such file").await,
                false => refuse(ErrorCode::Access, "it may not be read").await,
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
    /// Packets of the blocks `laid`, one behind the other.
    packets: Vec<u8>,
    laid: Range<u64>,
    /// Of each packet but the last.
    packet_size: usize,
    /// The kernel takes many packets at once.
    together: bool,
    /// One packet is on the way at a time, and one answer.
    lockstep: bool,
}

impl Sending {
    fn new(file: File, size: u64, request: &Request<'_>, socket: UdpSocket) -> Sending {
        let (agreed, oack) = request.agree(size);
        Sending {
            transfer: Transfer::new(size, agreed, oack.is_some()),
            oack: oack.unwrap_or_default(),
            file,
            socket,
            packets: Vec::new(),
            laid: 0..0,
            packet_size: usize::from(agreed.blksize) + 4,
            together: true,
            lockstep: agreed.window == 1,
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
                Step::Blocks(blocks) => self.send(blocks).await?,
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
                                step @ (Step::Options | Step::Blocks(_) | Step::Done | Step::GiveUp) => {
                                    if self.lockstep {
                                        self.heard_all();
                                    }
                                    break step;
                                }
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

    /// Takes it that the answer just read was the only one there, which saves one system call in three: tokio
    /// asks a socket again before it waits. What did come meanwhile is read with the next answer, or when
    /// the silence is over.
    fn heard_all(&self) {
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = self.socket.try_io(Interest::READABLE, nothing);
    }

    async fn send(&mut self, blocks: Range<u64>) -> io::Result<()> {
        let laid = self.laid.start <= blocks.start && blocks.end <= self.laid.end;
        let read = if laid { Ok(()) } else { self.lay_out(&blocks) };
        if let Err(unread) = read {
            tracing::warn!(error = %unread, "TFTP: a file that is being sent cannot be read on, or became shorter");
            let text = "the file changed or cannot be read; ask again";
            self.socket.send(&error(ErrorCode::Undefined, text)).await?;
            return Err(unread);
        }
        let place = |block: u64| {
            let packets = usize::try_from(block - self.laid.start).expect("so many are laid out");
            (packets * self.packet_size).min(self.packets.len())
        };
        let due = &self.packets[place(blocks.start)..place(blocks.end)];
        for group in due.chunks(self.packet_size * socket::TOGETHER) {
            socket::send(&self.socket, group, self.packet_size, &mut self.together).await?;
        }
        Ok(())
    }

    /// Reads the blocks that are due, and some that will be, each behind the room for its header.
    fn lay_out(&mut self, due: &Range<u64>) -> io::Result<()> {
        let ahead = due.start + (AHEAD / self.packet_size).clamp(1, WINDOW.into()) as u64;
        let until = due.end.max(ahead.min(self.transfer.blocks() + 1));
        self.laid = 0..0;
        self.packets.resize(self.packet_size * usize::try_from(until - due.start).expect("a window fits"), 0);
        let (mut parts, mut wanted) = (Vec::with_capacity(usize::from(WINDOW)), 0);
        for (block, packet) in (due.start..until).zip(self.packets.chunks_exact_mut(self.packet_size)) {
            let (_, len) = self.transfer.place(block);
            let (header, data) = packet.split_at_mut(4);
            // counted modulo 65,536, as all servers and clients do for large files
            header.copy_from_slice(&[0, 3, (block >> 8) as u8, block as u8]);
            parts.push(IoSliceMut::new(&mut data[..len]));
            wanted += len;
        }
        let (offset, _) = self.transfer.place(due.start);
        let from = i64::try_from(offset).map_err(io::Error::other)?;
        let mut read = if wanted == 0 { 0 } else { preadv(&self.file, &mut parts, from)? };
        if read < wanted {
            // interrupted, or the file became shorter, which is an error: its length has been told
            let mut offset = offset;
            for part in &mut parts {
                self.file.read_exact_at(part, offset)?;
                offset += part.len() as u64;
            }
            read = wanted;
        }
        let last = self.packet_size - 4 - parts.last().map_or(0, |part| part.len());
        self.packets.truncate(self.packets.len() - last);
        METRICS.boot_read(BootProtocol::Tftp, read as u64);
        self.laid = due.start..until;
        Ok(())
    }
}
