//! A DHCP storm: many machines boot at once and ask one server again and again, as boot ROMs do (RFC 2131, PXE 2.1).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::faults::Chance;
use crate::world::Machine;

const CLIENT_PORT: u16 = 68;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
/// The least that a server has to take as a packet (RFC 2131 §2).
const SHORTEST: usize = 300;

/// Whether a storm may be sent there: it stays on this machine, or in a network namespace that is not the system's.
pub(crate) fn may_ask(server: SocketAddrV4) -> bool {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
    server.ip().is_loopback()
        || namespace("self").zip(namespace("1")).is_some_and(|(own, systems)| own != systems)
}

/// Where a machine is with its address.
#[derive(Clone, Copy)]
enum Stage {
    Silent,
    Asks,
    /// It was offered this address by this server.
    Offered(Ipv4Addr, Ipv4Addr),
    Content,
}

/// The machines ask `server`, each every `every` or so, until it gave them an address or the time is over.
pub(crate) async fn blow(
    machines: Vec<Arc<Machine>>,
    server: SocketAddrV4,
    every: Duration,
    until: Instant,
    mut chance: Chance,
) {
    let socket = match bind(server) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, %server, "a DHCP storm finds no socket");
            return;
        }
    };
    let macs: Vec<[u8; 6]> = machines.iter().map(|machine| mac(&machine.mac)).collect();
    let Told { asked, again, unsent, answered } =
        ask(&socket, &macs, server, every, until, &mut chance).await;
    tracing::info!(%server, machines = macs.len(), asked, again, unsent, answered, "a DHCP storm is over");
}

/// What became of a storm.
#[derive(Debug, Default)]
struct Told {
    /// DHCPDISCOVERs sent. The server sees fewer where its buffer was full, or before it listened.
    asked: u64,
    /// Those of them that were not a machine's first: it had no address by then.
    again: u64,
    /// Packets that the system did not take.
    unsent: u64,
    /// Answers heard.
    answered: u64,
}

async fn ask(
    socket: &UdpSocket,
    macs: &[[u8; 6]],
    server: SocketAddrV4,
    every: Duration,
    until: Instant,
    chance: &mut Chance,
) -> Told {
    let mut told = Told::default();
    let mut stages = vec![Stage::Silent; macs.len()];
    // all at once, as after a power failure: within one interval
    let mut due: BinaryHeap<Reverse<(Instant, usize)>> = (0..macs.len())
        .map(|index| Reverse((Instant::now() + chance.between(Duration::ZERO, every), index)))
        .collect();
    let mut buffer = vec![0; 1500];
    while let Some(Reverse((at, index))) = due.peek().copied() {
        if at >= until {
            break;
        }
        tokio::select! {
            biased;
            heard = socket.recv_from(&mut buffer) => {
                let Ok((len, _)) = heard else { continue };
                let Some(answer) = Answer::read(&buffer[..len]) else { continue };
                let at = answer.xid as usize;
                if macs.get(at) != Some(&answer.mac) {
                    continue;
                }
                told.answered += 1;
                match answer.kind {
                    // whoever asked twice is offered twice, and may have its address by then
                    OFFER if !answer.yours.is_unspecified() && !matches!(stages[at], Stage::Content) => {
                        stages[at] = Stage::Offered(answer.yours, answer.server);
                        let sent = socket.send_to(&packet(at, macs[at], stages[at]), server).await;
                        told.unsent += u64::from(sent.is_err());
                    }
                    ACK => stages[at] = Stage::Content,
                    _ => {}
                }
            }
            () = tokio::time::sleep_until(at) => {
                due.pop();
                if matches!(stages[index], Stage::Content) {
                    continue;
                }
                // the server's full buffer loses it, as a network would
                match socket.send_to(&packet(index, macs[index], Stage::Asks), server).await {
                    Ok(_) if matches!(stages[index], Stage::Silent) => {
                        told.asked += 1;
                        stages[index] = Stage::Asks;
                    }
                    Ok(_) => {
                        told.asked += 1;
                        told.again += 1;
                    }
                    Err(_) => told.unsent += 1,
                }
                due.push(Reverse((at + every.mul_f64(0.75 + 0.5 * chance.unit()), index)));
            }
        }
    }
    told
}

/// A socket that hears answers where that is allowed: port 68 is root's.
fn bind(server: SocketAddrV4) -> std::io::Result<UdpSocket> {
    let with = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_broadcast(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    };
    let any = if server.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    with(SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLIENT_PORT))).or_else(|_| with(SocketAddr::from((any, 0))))
}

fn mac(text: &str) -> [u8; 6] {
    let mut bytes = [0; 6];
    for (byte, part) in bytes.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).unwrap_or(0);
    }
    bytes
}

/// What machine `index` sends.
fn packet(index: usize, mac: [u8; 6], stage: Stage) -> Vec<u8> {
    let mut out = vec![1, 1, 6, 0];
    out.extend(u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes());
    // answers are to be broadcast: there is no address yet
    out.extend([0, 0, 0x80, 0]);
    out.resize(28, 0);
    out.extend(mac);
    out.resize(236, 0);
    out.extend(COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        out.extend([code, u8::try_from(value.len()).unwrap_or(0)]);
        out.extend(value);
    };
    match stage {
        Stage::Silent | Stage::Asks | Stage::Content => option(53, &[DISCOVER]),
        Stage::Offered(address, server) => {
            option(53, &[REQUEST]);
            option(50, &address.octets());
            option(54, &server.octets());
        }
    }
    option(55, &[1, 3, 6, 43, 54, 60, 66, 67, 97]);
    option(57, &1472_u16.to_be_bytes());
    option(60, b"PXEClient:Arch:00007:UNDI:003016");
    option(93, &[0, 7]);
    option(94, &[1, 3, 16]);
    let mut guid = [0; 17];
    guid[11..].copy_from_slice(&mac);
    option(97, &guid);
    out.push(255);
    if out.len() < SHORTEST {
        out.resize(SHORTEST, 0);
    }
    out
}

/// What a server answers, as far as it matters here.
struct Answer {
    xid: u32,
    mac: [u8; 6],
    kind: u8,
    yours: Ipv4Addr,
    server: Ipv4Addr,
}

impl Answer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (head, mut options) = bytes.split_at_checked(240)?;
        if head[0] != 2 || head[236..240] != COOKIE {
            return None;
        }
        let four = |at: usize| head[at..].first_chunk::<4>().copied();
        let (mut kind, mut server) = (0, Ipv4Addr::UNSPECIFIED);
        while let [code, rest @ ..] = options {
            match code {
                0 => options = rest,
                255 => break,
                code => {
                    let (len, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(*len))?;
                    match (code, value) {
                        (53, [value]) => kind = *value,
                        (54, [a, b, c, d]) => server = Ipv4Addr::new(*a, *b, *c, *d),
                        (_, _) => {}
                    }
                    options = rest;
                }
            }
        }
        Some(Self {
            xid: u32::from_be_bytes(four(4)?),
            mac: *head[28..].first_chunk::<6>()?,
            kind,
            yours: Ipv4Addr::from(four(16)?),
            server,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_understood_and_what_is_cut_off_is_not() {
        let mac = mac("02:00:00:00:00:07");
        let mut offer = packet(7, mac, Stage::Asks);
        offer[0] = 2;
        offer[16..20].copy_from_slice(&[127, 0, 0, 9]);
        offer[242] = OFFER;
        let read = Answer::read(&offer).expect("an offer");
        assert_eq!((read.xid, read.mac, read.kind), (7, mac, OFFER));
        assert_eq!(read.yours, Ipv4Addr::new(127, 0, 0, 9));
        for len in 0..offer.len() {
            let _ = Answer::read(&offer[..len]);
        }
        assert!(Answer::read(&offer[..239]).is_none());
    }

    #[tokio::test]
    async fn what_a_storm_asked_is_what_was_sent_and_who_hears_nothing_asks_again() {
        const MACHINES: u8 = 20;
        const DEAF_TO: u8 = 3;
        let patience = Duration::from_secs(90);
        let own = || UdpSocket::bind((Ipv4Addr::new(127, 96, 68, 1), 0));
        let (socket, server) = (own().await.expect("a socket"), own().await.expect("a socket"));
        let SocketAddr::V4(address) = server.local_addr().expect("an address") else { panic!("IPv4") };
        let (saw, mut seen) = tokio::sync::watch::channel(0_u64);
        let serve = async move {
            let mut heard = std::collections::BTreeSet::new();
            let mut packet = vec![0; 1500];
            loop {
                let (len, from) = server.recv_from(&mut packet).await.expect("a packet");
                let (index, kind) = (packet[7], packet[242]);
                saw.send_modify(|count| *count += u64::from(kind == DISCOVER));
                if heard.insert(index) && index < DEAF_TO {
                    continue;
                }
                packet[0] = 2;
                packet[16..20].copy_from_slice(&[127, 0, 1, index]);
                packet[242] = if kind == DISCOVER { OFFER } else { ACK };
                server.send_to(&packet[..len], from).await.expect("it is sent");
            }
        };
        let serving = tokio::spawn(serve);
        let macs: Vec<[u8; 6]> = (0..MACHINES).map(|index| [2, 0, 0, 0, 0, index]).collect();
        let (every, until) = (Duration::from_millis(50), Instant::now() + patience);
        let told = ask(&socket, &macs, address, every, until, &mut Chance::new(1, 1)).await;
        assert!(Instant::now() < until, "it is over when all have an address: {told:?}");
        assert!(told.again >= u64::from(DEAF_TO), "{told:?}");
        assert_eq!((told.asked, told.unsent), (u64::from(MACHINES) + told.again, 0), "{told:?}");
        let all = seen.wait_for(|count| *count >= told.asked);
        let all = tokio::time::timeout(patience, all).await.expect("each comes").map(|count| *count);
        assert_eq!(all.ok(), Some(told.asked));
        serving.abort();
    }

    #[test]
    fn a_storm_stays_at_home() {
        assert!(may_ask(SocketAddrV4::new(Ipv4Addr::new(127, 3, 2, 1), 67)));
        let own = std::fs::read_link("/proc/self/ns/net").ok();
        if own.is_some() && own == std::fs::read_link("/proc/1/ns/net").ok() {
            assert!(!may_ask(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 67)));
        }
    }
}
