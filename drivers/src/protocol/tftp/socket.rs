//! What tokio's UDP sockets do not offer: which of our addresses a datagram was sent to, and many datagrams in
//! one system call.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A rack that is switched on at once must not overflow the listening socket.
const RECEIVE_BUFFER: usize = 4 << 20;
/// What one call may send together: the kernel's own limits are 64 segments and 65,507 bytes.
pub(super) const TOGETHER: usize = 32;

/// The socket that requests come to.
#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
pub(super) fn listen(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // the kernel caps it at net.core.rmem_max and does not complain
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A datagram: its length, its sender, and the address of ours that it was sent to.
pub(super) async fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
    socket.async_io(Interest::READABLE, || receive_now(socket, buffer)).await
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let mut local = None;
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                // a broadcast cannot be answered from
                local = Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr))));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                local = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
            }
            _ => {}
        }
    }
    let from = message.address.as_ref().and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
        v4.or_else(|| from.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
    });
    Ok((message.bytes, from.ok_or(io::ErrorKind::InvalidData)?, local))
}

/// The socket of one transfer: it hears this client and nobody else.
pub(super) fn transfer(local: IpAddr, client: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(client), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let local = match (local, client) {
        // a link's own address means nothing without the link
        (IpAddr::V6(ip), SocketAddr::V6(of)) => SocketAddr::V6(SocketAddrV6::new(ip, 0, 0, of.scope_id())),
        (ip, _) => SocketAddr::new(ip, 0),
    };
    socket.bind(&local.into())?;
    socket.connect(&client.into())?;
    UdpSocket::from_std(socket.into())
}

/// Sends `packets`, each of `size` bytes, only the last one shorter. `together` says whether one call may carry
/// several (UDP_SEGMENT); it becomes false where the kernel or the path has no room for that.
#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
pub(super) async fn send(
    socket: &UdpSocket,
    packets: &[u8],
    size: usize,
    together: &mut bool,
) -> io::Result<()> {
    if packets.len() > size && *together {
        let sent = socket.async_io(Interest::WRITABLE, || {
            let segment = u16::try_from(size).map_err(io::Error::other)?;
            let control = [ControlMessage::UdpGsoSegments(&segment)];
            let parts = [IoSlice::new(packets)];
            sendmsg::<()>(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), None)
                .map_err(io::Error::from)
        });
        match sent.await {
            Ok(_) => return Ok(()),
            Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE | Errno::ENOPROTOOPT | Errno::EOPNOTSUPP => {
                    *together = false;
                }
                _ => return Err(error),
            },
        }
    }
    for packet in packets.chunks(size) {
        socket.send(packet).await?;
    }
    Ok(())
}
