//! One UDP socket for all BMCs of a port: it hears what comes for any address of 127.0.0.0/8 and knows from the packet
//! information whose it is, so that a BMC costs neither a file nor a task.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdSocket};
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ferric_drivers::protocol::ipmi::packet::MAX_DATAGRAM;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use super::{State, Way, hear};

/// Datagrams taken from the kernel at once.
const BATCH: usize = 32;
/// What the kernel may keep for us while we work, bytes: a sweep of a whole fleet comes within milliseconds.
const RECEIVE_BUFFER: usize = 8 << 20;

type Lines = RwLock<HashMap<Ipv4Addr, Arc<Mutex<State>>>>;

/// The socket and who is behind it.
pub(super) struct Hub {
    socket: Arc<UdpSocket>,
    lines: Arc<Lines>,
    port: u16,
    task: AbortHandle,
}

impl Hub {
    /// Listens on `port` of every loopback address. Must be called within a tokio runtime. Errors: somebody has the
    /// port on one of them.
    pub(super) fn start(port: u16) -> std::io::Result<Self> {
        let socket = Arc::new(UdpSocket::from_std(bind(port)?)?);
        let port = socket.local_addr()?.port();
        let lines = Arc::new(Lines::default());
        let task = tokio::spawn(serve(socket.clone(), lines.clone())).abort_handle();
        Ok(Self { socket, lines, port, task })
    }

    /// The port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Room for so many more.
    pub(super) fn reserve(&self, count: usize) {
        self.lines.write().unwrap_or_else(PoisonError::into_inner).reserve(count);
    }

    /// From now on what comes for `address` is this BMC's.
    pub(super) fn add(&self, address: Ipv4Addr, state: Arc<Mutex<State>>) {
        self.lines.write().unwrap_or_else(PoisonError::into_inner).insert(address, state);
    }

    /// From now on nobody answers there.
    pub(super) fn remove(&self, address: Ipv4Addr) {
        self.lines.write().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }

    /// How the BMC at `address` sends.
    pub(super) fn way(&self, address: Ipv4Addr) -> Way {
        Way::Shared(self.socket.clone(), address)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bind(port: u16) -> std::io::Result<StdSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // on loopback alone; where the system does not let us, whatever comes for other addresses is dropped below
    let _ = socket.bind_device(Some(b"lo"));
    socket.set_nonblocking(true)?;
    // root may have more than the system's limit
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    let _ = socket.set_send_buffer_size(RECEIVE_BUFFER / 4);
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket.into())
}

async fn serve(socket: Arc<UdpSocket>, lines: Arc<Lines>) {
    let mut buffers = vec![[0; MAX_DATAGRAM]; BATCH];
    loop {
        if let Err(error) = socket.readable().await {
            tracing::warn!(%error, "the simulated BMCs lost their socket");
            return;
        }
        answer_batch(&socket, &lines, &mut buffers);
        tokio::task::yield_now().await;
    }
}

/// Answers what waits at the socket.
fn answer_batch(socket: &Arc<UdpSocket>, lines: &Lines, buffers: &mut [[u8; MAX_DATAGRAM]]) {
    let mut heard: [Option<(usize, SocketAddrV4, Ipv4Addr)>; BATCH] = [None; BATCH];
    let took = socket.try_io(Interest::READABLE, || Ok(receive(socket, buffers, &mut heard)?));
    // an error is that nothing waits, or what ICMP said of an earlier answer
    let Ok(()) = took else { return };
    for ((len, from, to), buffer) in heard.iter().flatten().zip(buffers.iter()) {
        let state = lines.read().unwrap_or_else(PoisonError::into_inner).get(to).cloned();
        if let Some(state) = state {
            hear(&Way::Shared(socket.clone(), *to), &state, SocketAddr::V4(*from), &buffer[..*len]);
        }
    }
}

fn receive(
    socket: &UdpSocket,
    buffers: &mut [[u8; MAX_DATAGRAM]],
    heard: &mut [Option<(usize, SocketAddrV4, Ipv4Addr)>],
) -> nix::Result<()> {
    let mut headers =
        MultiHeaders::<SockaddrIn>::preallocate(buffers.len(), Some(nix::cmsg_space!(libc::in_pktinfo)));
    let mut slices: Vec<[IoSliceMut<'_>; 1]> =
        buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
    let taken = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
    for (message, slot) in taken.zip(heard) {
        let to = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|one| {
                let ControlMessageOwned::Ipv4PacketInfo(info) = one else { return None };
                Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)))
            })
        });
        *slot = message.address.zip(to).map(|(from, to)| (message.bytes, SocketAddrV4::from(from), to));
    }
    Ok(())
}

/// Sends from one of the addresses. A full buffer loses the datagram, as a network would.
pub(super) fn send(socket: &UdpSocket, from: Ipv4Addr, to: SocketAddr, datagram: &[u8]) {
    let SocketAddr::V4(to) = to else { return };
    let source = libc::in_addr { s_addr: u32::from(from).to_be() };
    let info =
        libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: libc::in_addr { s_addr: 0 } };
    let _ = socket.try_io(Interest::WRITABLE, || {
        Ok(sendmsg(
            socket.as_raw_fd(),
            &[IoSlice::new(datagram)],
            &[ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn::from(to)),
        )?)
    });
}
