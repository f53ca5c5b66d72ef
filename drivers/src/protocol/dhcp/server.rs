//! The sockets: one task that owns the leases, takes what has come, and answers known machines first.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ferric_machine::Timestamp;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::answer::{Reply, Silence, answer, answer_boot_server};
use super::queue::{Queue, Waiting};
use super::{DhcpMode, DhcpSettings, LeaseFile, Leases, Mac, PortIndex, Request, ra};
use crate::DriverError;
use crate::metrics::{BootProtocol, BootRefusal, METRICS};

/// Called for every request from an address that no node has.
pub type OnUnknown = Arc<dyn Fn(Mac) + Send + Sync>;

/// An address that nobody knows is logged once in this time.
const LOG_EVERY: Duration = Duration::from_secs(300);
/// So many addresses are remembered for that; a forged flood must not fill the memory.
const REMEMBERED: usize = 1024;
/// And when they are that many, those that are due are looked for so often.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Packets that are taken from a socket before some are answered.
const TAKEN: usize = 256;
/// Requests that are answered together.
const TOGETHER: usize = 64;
/// A rack that is switched on at once must not overflow the socket.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Counters since the start.
#[derive(Debug, Default)]
pub struct DhcpStats {
    /// Packets that were answered.
    pub answered: AtomicU64,
    /// Packets from addresses that no node has.
    pub unknown: AtomicU64,
    /// Packets that were no DHCP requests.
    pub malformed: AtomicU64,
    /// Requests for which no address was left.
    pub exhausted: AtomicU64,
    /// Requests that were passed over because too many came at once.
    pub dropped: AtomicU64,
}

/// A running server. Dropping it stops the server too, without waiting.
pub struct DhcpHandle {
    addresses: Vec<SocketAddr>,
    stats: Arc<DhcpStats>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl fmt::Debug for DhcpHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DhcpHandle").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl DhcpHandle {
    /// What it listens on; empty when DHCP is off.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<DhcpStats> {
        &self.stats
    }

    /// Stops after the packet in hand.
    pub async fn stop(self) {
        // nobody listens any more when all tasks have ended, which is what we want
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "the DHCP server ended badly");
            }
        }
    }
}

/// Starts the server that `settings` describe.
///
/// # Errors
/// `Invalid` for settings that cannot work, `Io` when the lease file or a port cannot be had.
pub async fn start(
    settings: DhcpSettings,
    ports: Arc<PortIndex>,
    on_unknown: Option<OnUnknown>,
) -> Result<DhcpHandle, DriverError> {
    let wrong = |key: &str, reason| DriverError::Invalid { section: "[dhcp]", key: key.to_owned(), reason };
    settings.check().map_err(|error| wrong(error.key, error.reason))?;
    let (stop, stopped) = watch::channel(false);
    let stats = Arc::new(DhcpStats::default());
    let mut handle = DhcpHandle { addresses: Vec::new(), stats: stats.clone(), stop, tasks: Vec::new() };
    if settings.mode == DhcpMode::Off {
        return Ok(handle);
    }
    let interface = match &settings.interface {
        Some(name) => name.clone(),
        None => interface_of(settings.address).map_err(|reason| wrong("address", reason))?,
    };
    let (leases, file) = match &settings.lease_file {
        Some(path) => {
            LeaseFile::open(path).await.map(|(leases, file)| (leases, Some(file))).map_err(|error| {
                DriverError::Io { path: path.display().to_string(), reason: error.to_string() }
            })?
        }
        None => (Leases::default(), None),
    };
    let main = bind(&interface, 67)?;
    handle.addresses.push(local(&main));
    let unknown = UnknownLog { seen: HashMap::new(), swept: None, on_unknown };
    let settings = Arc::new(settings);
    let mut server = Server { settings, ports, leases, file, stats, unknown };
    if server.settings.mode == DhcpMode::Proxy {
        let second = bind(&interface, 4011)?;
        handle.addresses.push(local(&second));
        handle.tasks.push(tokio::spawn(async move { server.run(&main, Some(&second), stopped).await }));
        return Ok(handle);
    }
    if server.settings.router_advertisements {
        match ra::open(&interface) {
            Ok(socket) => handle.tasks.push(tokio::spawn(ra::run(socket, stopped.clone()))),
            Err(error) => tracing::warn!(
                %interface, %error,
                "no IPv6 on the provisioning network; iPXE will wait some seconds for a router at each boot"
            ),
        }
    }
    handle.tasks.push(tokio::spawn(async move { server.run(&main, None, stopped).await }));
    Ok(handle)
}

struct Server {
    settings: Arc<DhcpSettings>,
    ports: Arc<PortIndex>,
    leases: Leases,
    file: Option<LeaseFile>,
    stats: Arc<DhcpStats>,
    unknown: UnknownLog,
}

impl Server {
    async fn run(
        &mut self,
        main: &UdpSocket,
        second: Option<&UdpSocket>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut queue = Queue::default();
        loop {
            if queue.is_empty() {
                let second_ready = async {
                    match second {
                        Some(socket) => socket.readable().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = stopped.changed() => return,
                    _ = main.readable() => {}
                    _ = second_ready => {}
                }
            } else if stopped.has_changed().unwrap_or(true) {
                return;
            } else {
                // other tasks have their turn between two batches of a storm
                tokio::task::yield_now().await;
            }
            let taken = self.take(main, false, &mut queue);
            let taken =
                taken.and_then(|()| second.map_or(Ok(()), |socket| self.take(socket, true, &mut queue)));
            if let Err(error) = taken {
                failed("receive", &error).await;
            }
            self.answer(main, second, &mut queue).await;
        }
    }

    /// Takes what has come: the kernel's own queue would keep the oldest and drop the newest.
    fn take(&mut self, socket: &UdpSocket, boot_server: bool, queue: &mut Queue) -> io::Result<()> {
        let mut packet = [0; 1500];
        for _ in 0..TAKEN {
            let (len, from) = match socket.try_recv_from(&mut packet) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let request = match Request::parse(&packet[..len]) {
                Ok(request) => request,
                Err(reason) => {
                    self.stats.malformed.fetch_add(1, Ordering::Relaxed);
                    METRICS.boot_refused(BootProtocol::Dhcp, BootRefusal::Malformed);
                    tracing::debug!(%reason, "not a DHCP request");
                    continue;
                }
            };
            let known = self.ports.get(request.mac).is_some();
            if !known && self.settings.known_only {
                self.silent(Silence::UnknownMac(request.mac));
            } else if queue.push(Waiting { request, boot_client: boot_server.then_some(from) }, known) {
                self.stats.dropped.fetch_add(1, Ordering::Relaxed);
                METRICS.boot_refused(BootProtocol::Dhcp, BootRefusal::Queue);
            }
        }
        Ok(())
    }

    /// Answers some of what waits. Their leases reach the disk by one write: a rack that is switched on at once
    /// does not wait for one after the other.
    async fn answer(&mut self, main: &UdpSocket, second: Option<&UdpSocket>, queue: &mut Queue) {
        let mut decided = Vec::new();
        while let Some(Waiting { request, boot_client }) = queue.pop() {
            let (socket, answer) = match (boot_client, second) {
                (None, _) => (main, answer(&request, &self.settings, &self.ports, &mut self.leases, now())),
                (Some(SocketAddr::V4(from)), Some(second)) => {
                    (second, answer_boot_server(&request, from, &self.settings, &self.ports))
                }
                (Some(_), _) => continue,
            };
            decided.push((socket, request, answer));
            if decided.len() == TOGETHER {
                break;
            }
        }
        self.save().await;
        for (socket, request, answer) in decided {
            match answer {
                Ok(reply) => self.send(socket, &request, &reply).await,
                Err(silence) => self.silent(silence),
            }
        }
    }

    /// Leases go to the disk before the answer goes out. When the disk refuses, clients get their address all
    /// the same: a fleet that cannot boot is worse than an address that a restart might give again.
    async fn save(&mut self) {
        let changes = self.leases.take_changes();
        let Some(file) = self.file.as_mut().filter(|_| !changes.is_empty()) else { return };
        if let Err(error) = file.save(&changes, &self.leases).await {
            tracing::error!(%error, "cannot write the lease file; after a restart an address may be given twice");
        }
    }

    async fn send(&self, socket: &UdpSocket, request: &Request, reply: &Reply) {
        let bytes = match reply.encode() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, mac = %request.mac, "cannot encode a DHCP answer");
                return;
            }
        };
        match socket.send_to(&bytes, reply.to).await {
            Ok(_) => {
                self.stats.answered.fetch_add(1, Ordering::Relaxed);
                let kind = reply.message.opts().msg_type();
                tracing::debug!(mac = %request.mac, asked = ?request.kind, answer = ?kind,
                    address = %reply.message.yiaddr(), arch = ?request.arch, ipxe = request.ipxe,
                    file = %String::from_utf8_lossy(reply.message.fname().unwrap_or_default()), "DHCP");
            }
            Err(error) => tracing::warn!(%error, mac = %request.mac, to = %reply.to, "DHCP answer not sent"),
        }
    }

    fn silent(&mut self, silence: Silence) {
        match silence {
            Silence::UnknownMac(mac) => {
                self.stats.unknown.fetch_add(1, Ordering::Relaxed);
                METRICS.boot_refused(BootProtocol::Dhcp, BootRefusal::Unknown);
                self.unknown.tell(mac, Instant::now());
            }
            Silence::PoolExhausted(mac) => {
                self.stats.exhausted.fetch_add(1, Ordering::Relaxed);
                METRICS.boot_refused(BootProtocol::Dhcp, BootRefusal::Exhausted);
                tracing::error!(%mac, "no address left: enlarge [dhcp] range_start..range_end");
            }
            Silence::OtherNetwork(relay) => {
                tracing::debug!(%relay, "request through a relay of a network without a pool");
            }
            Silence::OtherServer | Silence::NothingToBoot | Silence::NoneDue => {}
        }
    }
}

struct UnknownLog {
    seen: HashMap<Mac, Instant>,
    swept: Option<Instant>,
    on_unknown: Option<OnUnknown>,
}

impl UnknownLog {
    fn tell(&mut self, mac: Mac, now: Instant) {
        if let Some(call) = &self.on_unknown {
            call(mac);
        }
        if self.seen.get(&mac).is_some_and(|last| now.duration_since(*last) < LOG_EVERY) {
            return;
        }
        if self.seen.len() >= REMEMBERED {
            // not at each packet of a flood
            if self.swept.is_some_and(|last| now.duration_since(last) < SWEEP_EVERY) {
                return;
            }
            self.swept = Some(now);
            self.seen.retain(|_, last| now.duration_since(*last) < LOG_EVERY);
            if self.seen.len() >= REMEMBERED {
                return;
            }
        }
        self.seen.insert(mac, now);
        tracing::warn!(%mac, "DHCP request from an address that no node has: enrol it with \
            `openstack baremetal port create {mac} --node NODE`, or set [dhcp] known_only = false");
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

async fn failed(what: &str, error: &io::Error) {
    tracing::warn!(%error, "DHCP: cannot {what}");
    // an interface that went away fails at once, again and again
    tokio::time::sleep(Duration::from_millis(200)).await;
}

fn local(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap_or_else(|_| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)))
}

/// A socket on all addresses of one interface. Without SO_REUSEADDR, so that a second server on the same
/// interface is an error here and not a riddle at the machines.
#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
fn bind(interface: &str, port: u16) -> Result<UdpSocket, DriverError> {
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        // the kernel caps it at net.core.rmem_max and does not complain
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        UdpSocket::from_std(socket.into())
    };
    open().map_err(|error| DriverError::Io {
        path: format!("UDP port {port} on {interface}"),
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another DHCP server runs here: stop it, or set [dhcp] mode".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                format!("{error}: give the process CAP_NET_BIND_SERVICE and CAP_NET_RAW")
            }
            _ => error.to_string(),
        },
    })
}

/// The interface that has `address`.
fn interface_of(address: Ipv4Addr) -> Result<String, String> {
    let all = nix::ifaddrs::getifaddrs().map_err(|error| error.to_string())?;
    let has = |sockaddr: &nix::sys::socket::SockaddrStorage| {
        sockaddr.as_sockaddr_in().is_some_and(|inet| inet.ip() == address)
    };
    all.into_iter()
        .find(|interface| interface.address.as_ref().is_some_and(has))
        .map(|interface| interface.interface_name)
        .ok_or_else(|| format!("no network interface of this host has {address}"))
}
