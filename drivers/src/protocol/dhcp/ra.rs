//! Router advertisements that advertise nothing.
//!
//! iPXE configures IPv6 beside IPv4 and, on a network where no router answers, waits for it before it looks at
//! what DHCP said. An advertisement with lifetime 0 and no prefix (RFC 4861 §4.2) tells it, and every other
//! host, that there is no IPv6 router here: nobody takes an address or a route from it.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ROUTER_SOLICITATION: u8 = 133;
/// Type, code, checksum (the kernel fills it); hop limit, flags, lifetime, reachable and retransmit time: all 0,
/// which is "no router" and "unspecified".
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Advertisements come also without being asked for: the multicast solicitation of a port that has just come
/// up may be lost.
const EVERY: Duration = Duration::from_secs(4);

/// The socket for `run`, bound to the interface. A raw socket in the clothes of a UDP one: receiving and sending
/// are the same calls, and tokio has no type for raw sockets.
pub(super) fn open(interface: &str) -> io::Result<(UdpSocket, u32)> {
    let index = nix::net::if_::if_nametoindex(interface).map_err(io::Error::from)?;
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    // receivers drop neighbour discovery that has passed a router
    socket.set_multicast_hops_v6(255)?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_loop_v6(false)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    socket.set_nonblocking(true)?;
    Ok((UdpSocket::from_std(socket.into())?, index))
}

/// Answers solicitations until told to stop.
pub(super) async fn run((socket, index): (UdpSocket, u32), mut stopped: watch::Receiver<bool>) {
    let everybody = SocketAddr::V6(SocketAddrV6::new(ALL_NODES, 0, 0, index));
    let mut timer = tokio::time::interval(EVERY);
    let mut packet = [0; 256];
    loop {
        let due = tokio::select! {
            _ = stopped.changed() => return,
            _ = timer.tick() => true,
            // the kernel hands over the message without its IPv6 header
            received = socket.recv_from(&mut packet) => match received {
                Ok((len, _)) => packet[..len].first() == Some(&ROUTER_SOLICITATION),
                Err(error) => {
                    tracing::warn!(%error, "router advertisements end");
                    return;
                }
            },
        };
        if due && let Err(error) = socket.send_to(&ADVERTISEMENT, everybody).await {
            tracing::debug!(%error, "router advertisement not sent");
        }
    }
}
