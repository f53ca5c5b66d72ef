//! What a client sent, read without trust.
//!
//! Replies are encoded by dhcproto, requests are read here: its decoder computes `len - 1` and `len - 3` for
//! options 151 and 81 and slices the hardware address by an unchecked length, so three forged bytes would end
//! the server, and one option that it dislikes hides all options behind it.

use std::net::Ipv4Addr;

use super::Mac;

/// What a client wants (RFC 2131 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who has an address for me?
    Discover,
    /// I take this address, or keep it.
    Request,
    /// The address you gave is in use.
    Decline,
    /// I need the address no longer.
    Release,
    /// I have an address; tell me the rest.
    Inform,
}

/// Who asks: the first word of option 60.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// A PXE ROM, or iPXE.
    Pxe,
    /// UEFI HTTP boot.
    Http,
    /// An operating system, or nobody who boots.
    Other,
}

/// A client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it wants.
    pub kind: Kind,
    /// Its address.
    pub mac: Mac,
    /// Transaction number.
    pub xid: u32,
    /// Flags word; bit 15 asks for a broadcast answer.
    pub flags: u16,
    /// The address that it uses already.
    pub ciaddr: Ipv4Addr,
    /// The relay that passed it on.
    pub giaddr: Ipv4Addr,
    /// Option 50, requested address.
    pub requested: Option<Ipv4Addr>,
    /// Option 54, the server it chose.
    pub server_id: Option<Ipv4Addr>,
    /// Option 60.
    pub vendor: Vendor,
    /// Option 93, architecture (RFC 4578 §2.1 and IANA's registry).
    pub arch: Option<u16>,
    /// Option 175 is there, or option 77 says `iPXE`.
    pub ipxe: bool,
    /// Option 61, echoed (RFC 6842).
    pub client_id: Option<Vec<u8>>,
    /// Option 97, echoed.
    pub machine_id: Option<Vec<u8>>,
    /// Option 82, echoed to the relay.
    pub relay_info: Option<Vec<u8>>,
}

/// Why a packet is not a request for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than the fixed part.
    #[error("shorter than a DHCP header")]
    Short,
    /// Not from a client, or not Ethernet, or without the magic cookie.
    #[error("not a client's DHCP message on Ethernet")]
    NotEthernetRequest,
    /// Option 53 is absent or nothing that a client says.
    #[error("no message type that a client sends")]
    NoType,
}

/// Length of the fixed part with the cookie.
const HEADER: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];

impl Request {
    /// Reads a packet. Unknown and damaged options are passed over.
    ///
    /// # Errors
    /// [`Malformed`] when it is no request that a server answers.
    pub fn parse(packet: &[u8]) -> Result<Request, Malformed> {
        let (head, options) = packet.split_at_checked(HEADER).ok_or(Malformed::Short)?;
        let ethernet = head[0] == 1 && head[1] == 1 && head[2] == 6 && head[236..240] == COOKIE;
        if !ethernet {
            return Err(Malformed::NotEthernetRequest);
        }
        let options = Options::read(options, &head[108..236], &head[44..108]);
        let kind = match options.byte(53).ok_or(Malformed::NoType)? {
            1 => Kind::Discover,
            3 => Kind::Request,
            4 => Kind::Decline,
            7 => Kind::Release,
            8 => Kind::Inform,
            _ => return Err(Malformed::NoType),
        };
        let user_class = options.get(77).unwrap_or_default();
        let vendor = match options.get(60) {
            Some(text) if text.starts_with(b"PXEClient") => Vendor::Pxe,
            Some(text) if text.starts_with(b"HTTPClient") => Vendor::Http,
            Some(_) | None => Vendor::Other,
        };
        Ok(Request {
            kind,
            mac: Mac([head[28], head[29], head[30], head[31], head[32], head[33]]),
            xid: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            flags: u16::from_be_bytes([head[10], head[11]]),
            ciaddr: Ipv4Addr::new(head[12], head[13], head[14], head[15]),
            giaddr: Ipv4Addr::new(head[24], head[25], head[26], head[27]),
            requested: options.address(50),
            server_id: options.address(54),
            vendor,
            arch: options.get(93).filter(|value| value.len() >= 2).map(|v| u16::from_be_bytes([v[0], v[1]])),
            ipxe: options.get(175).is_some() || user_class.windows(4).any(|part| part == b"iPXE"),
            client_id: options.get(61).map(<[u8]>::to_vec),
            machine_id: options.get(97).map(<[u8]>::to_vec),
            relay_info: options.get(82).map(<[u8]>::to_vec),
        })
    }

    /// Whether the client asks for a broadcast answer.
    #[must_use]
    pub fn wants_broadcast(&self) -> bool {
        self.flags & 0x8000 != 0
    }
}

/// Code and value; the first occurrence decides, but long options are joined (RFC 3396).
struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    fn read(main: &[u8], file: &[u8], sname: &[u8]) -> Options {
        let mut all = Options(Vec::new());
        all.scan(main);
        // option 52: 1 = file holds options, 2 = sname, 3 = both
        let overload = all.byte(52).unwrap_or(0);
        if overload & 1 != 0 {
            all.scan(file);
        }
        if overload & 2 != 0 {
            all.scan(sname);
        }
        all
    }

    fn scan(&mut self, mut rest: &[u8]) {
        while let Some((&code, after)) = rest.split_first() {
            rest = after;
            match code {
                0 => {}
                255 => return,
                _ => {
                    let Some((&len, after)) = rest.split_first() else { return };
                    let Some((value, after)) = after.split_at_checked(usize::from(len)) else { return };
                    rest = after;
                    match self.0.iter_mut().find(|(known, _)| *known == code) {
                        Some((_, joined)) => joined.extend_from_slice(value),
                        None => self.0.push((code, value.to_vec())),
                    }
                }
            }
        }
    }

    fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_slice())
    }

    fn byte(&self, code: u8) -> Option<u8> {
        self.get(code)?.first().copied()
    }

    fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.get(code)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    }
}
