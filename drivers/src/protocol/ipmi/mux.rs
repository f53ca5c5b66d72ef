//! One UDP socket per address family for the whole fleet; datagrams are handed on by sender address.

use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::AbortHandle;

use super::packet::MAX_DATAGRAM;

/// Datagrams of one BMC that may wait; more are dropped, as a socket would.
const INBOX: usize = 16;
/// Wanted receive buffer of the socket, bytes; the kernel may grant less.
const SOCKET_BUFFER: usize = 4 << 20;

type Routes = Arc<Mutex<HashMap<SocketAddr, mpsc::Sender<Box<[u8]>>>>>;

struct Family {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
}

impl Drop for Family {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The sockets, opened when first needed, and the way from an address to whoever waits for it.
pub(super) struct Mux {
    runtime: Handle,
    routes: Routes,
    v4: OnceCell<Family>,
    v6: OnceCell<Family>,
}

/// An address as datagrams from it will show it.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(mut v6) => {
            v6.set_flowinfo(0);
            SocketAddr::V6(v6)
        }
    }
}

impl Mux {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime, routes: Routes::default(), v4: OnceCell::new(), v6: OnceCell::new() }
    }

    /// Datagrams from `peer` go to the returned inbox from now on.
    pub(super) fn register(&self, peer: SocketAddr) -> mpsc::Receiver<Box<[u8]>> {
        let (sender, inbox) = mpsc::channel(INBOX);
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, sender);
        inbox
    }

    /// Sends a datagram. That the peer's host answered an earlier one with ICMP is no error: a BMC that restarts
    /// does so, and silence tells the rest.
    pub(super) async fn send(&self, peer: SocketAddr, datagram: &[u8]) -> Result<()> {
        let cell = if peer.is_ipv4() { &self.v4 } else { &self.v6 };
        let family = cell.get_or_try_init(|| async { self.open(peer.is_ipv4()) }).await?;
        let passing = |error: &Error| {
            matches!(
                error.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::WouldBlock
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
            )
        };
        match family.socket.send_to(datagram, peer).await {
            Err(error) if !passing(&error) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn open(&self, v4: bool) -> Result<Family> {
        let _context = self.runtime.enter();
        let domain = if v4 { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
        let any = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let raw = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        raw.set_nonblocking(true)?;
        // best effort, root beyond the system's limit: a smaller buffer costs retransmissions, not commands
        if setsockopt(&raw, RcvBufForce, &SOCKET_BUFFER).is_err() {
            let _ = raw.set_recv_buffer_size(SOCKET_BUFFER);
        }
        raw.bind(&SocketAddr::new(any, 0).into())?;
        let socket = Arc::new(UdpSocket::from_std(raw.into())?);
        let reader = self.runtime.spawn(read(Arc::clone(&socket), Arc::clone(&self.routes))).abort_handle();
        Ok(Family { socket, reader })
    }
}

/// Runs until its [`Family`] is dropped.
async fn read(socket: Arc<UdpSocket>, routes: Routes) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => {
                let routes = routes.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(inbox) = routes.get(&plain(from)) {
                    // a full inbox drops, as a full socket buffer would
                    let _ = inbox.try_send(buffer[..len].into());
                }
            }
            Err(error) => {
                tracing::debug!(%error, "IPMI socket");
                tokio::task::yield_now().await;
            }
        }
    }
}
