//! What the switches say about the ports that the machine is plugged into: IEEE 802.1AB §8, §9.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use ferric_agent_wire::LldpTlv;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// EtherType of LLDP.
const ETHERTYPE: u16 = 0x88cc;

/// The group that switches send to, "nearest bridge".
const GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];

/// More than an Ethernet frame.
const FRAME: usize = 2048;

/// TLVs kept of one frame.
const MOST: usize = 256;

/// The TLVs of an LLDP data unit (what follows the EtherType), up to its end mark, which is kept, or to where it is cut off.
pub fn parse(mut bytes: &[u8]) -> Vec<LldpTlv> {
    let mut found = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        // seven bits of type, nine of length
        let kind = first >> 1;
        let length = usize::from(first & 1) << 8 | usize::from(*second);
        let Some(value) = rest.get(..length) else { break };
        found.push((kind, value.iter().map(|byte| format!("{byte:02x}")).collect()));
        if kind == 0 || found.len() == MOST {
            break;
        }
        bytes = &rest[length..];
    }
    found
}

/// The data unit of an Ethernet frame, with or without VLAN tags; None when it is not LLDP.
fn data_unit(frame: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    loop {
        match u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?) {
            ETHERTYPE => return frame.get(at + 2..),
            0x8100 | 0x88a8 => at += 4,
            _ => return None,
        }
    }
}

/// Listens on all cards at once until each has heard its switch, or `within` is over; a card that heard nothing has an
/// empty list. Blocks. Errors: no such socket on any of them (no rights, no such kernel).
pub fn listen(cards: &[String], within: Duration) -> io::Result<BTreeMap<String, Vec<LldpTlv>>> {
    let mut heard: BTreeMap<String, Vec<LldpTlv>> =
        cards.iter().map(|card| (card.clone(), Vec::new())).collect();
    let mut waiting = Vec::new();
    let mut trouble = None;
    for card in cards {
        match open(card) {
            Ok(socket) => waiting.push((card, socket)),
            Err(error) => {
                tracing::warn!(%error, card, "no LLDP");
                trouble = Some(error);
            }
        }
    }
    if let (true, Some(error)) = (waiting.is_empty(), trouble) {
        return Err(error);
    }
    let began = Instant::now();
    while !waiting.is_empty() {
        let left = within.saturating_sub(began.elapsed());
        // a busy network may have frames ready for ever
        if left.is_zero() {
            break;
        }
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let ready: Vec<bool> = {
            let mut polled: Vec<PollFd> =
                waiting.iter().map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
            match poll(&mut polled, left) {
                Ok(0) => break,
                Ok(_) => {
                    polled.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect()
                }
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        let mut ready = ready.into_iter();
        waiting.retain(|(card, socket)| {
            if ready.next() != Some(true) {
                return true;
            }
            let mut frame = [0; FRAME];
            match nix::unistd::read(socket, &mut frame) {
                Ok(length) => match data_unit(&frame[..length]).map(parse) {
                    Some(tlvs) if !tlvs.is_empty() => {
                        heard.insert((*card).clone(), tlvs);
                        false
                    }
                    Some(_) | None => true,
                },
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => true,
                Err(error) => {
                    tracing::warn!(%error, card, "listening for LLDP");
                    false
                }
            }
        });
    }
    Ok(heard)
}

/// A socket that receives the card's LLDP frames and nothing else.
#[allow(unsafe_code, reason = "nix has no packet sockets with a protocol of choice")]
fn open(card: &str) -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(card)?;
    let protocol = ETHERTYPE.to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is passed
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol)) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket() has just given it, and nobody else has it
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: all zeroes are a valid value of this C structure
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    let length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: `length` bytes of a sockaddr_ll that outlives the call
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut group = [0; 8];
    group[..6].copy_from_slice(&GROUP);
    let membership = libc::packet_mreq {
        mr_ifindex: index as i32,
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: 6,
        mr_address: group,
    };
    let length = size_of::<libc::packet_mreq>() as u32;
    // SAFETY: `length` bytes of a packet_mreq that outlives the call
    let joined = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const membership).cast(),
            length,
        )
    };
    if joined < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Vec<u8> {
        let mut frame = [&GROUP[..], &[2; 6], &[0x88, 0xcc]].concat();
        frame.extend([0x02, 7, 4, 0x11, 0x22, 0x33, 0xaa, 0xbb, 0xcc]); // chassis id, MAC
        frame.extend([0x04, 5, 5, b'e', b't', b'h', b'1']); // port id, name
        frame.extend([0x06, 2, 0, 120]); // time to live
        frame.extend([0xfe + 1, 0x04]); // organisationally specific, 260 bytes
        frame.extend([0x7f; 260]);
        frame.extend([0, 0, 0xff, 0xff]); // end, padding
        frame
    }

    #[test]
    fn a_frame_is_cut_into_its_tlvs_and_padding_is_left_alone() {
        let tlvs = parse(data_unit(&frame()).expect("lldp"));
        let kinds: Vec<u8> = tlvs.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [1, 2, 3, 127, 0]);
        assert_eq!((tlvs[0].1.as_str(), tlvs[1].1.as_str()), ("04112233aabbcc", "0565746831"));
        assert_eq!((tlvs[3].1.len(), tlvs[4].1.as_str()), (520, ""));
        let mut tagged = frame();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(parse(data_unit(&tagged).expect("lldp")), tlvs);
        assert!(data_unit(&[0; 60]).is_none() && data_unit(&[]).is_none());
    }

    #[test]
    fn a_cut_frame_gives_the_tlvs_before_the_cut_and_noise_does_no_harm() {
        let whole = frame();
        let all = parse(data_unit(&whole).expect("lldp"));
        for cut in 0..whole.len() {
            let some = data_unit(&whole[..cut]).map(parse).unwrap_or_default();
            assert_eq!(some.as_slice(), &all[..some.len()], "cut at {cut}");
        }
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for length in 0..4000_usize {
            let noise: Vec<u8> = (0..length % 1600)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 24) as u8
                })
                .collect();
            let tlvs = parse(&noise);
            let taken: usize = tlvs.iter().map(|(_, hex)| 2 + hex.len() / 2).sum();
            assert!(tlvs.len() <= MOST && taken <= noise.len(), "length {length}");
            data_unit(&noise);
        }
    }

    #[test]
    fn a_card_that_does_not_exist_is_an_error_and_no_hang() {
        assert!(listen(&["no-such-card".to_owned()], Duration::from_secs(60)).is_err());
        assert!(listen(&[], Duration::from_secs(60)).expect("nothing to do").is_empty());
    }
}
