//! IPMI 1.5 sessions (IPMI 2.0 §13.6, §13.9 to §13.14, §22.13 to §22.17): no encryption, an authentication code of
//! sixteen bytes at most, and the only kind of session that BMCs from before 2004 know. Only spoken where a node
//! asks for it by `ipmi_protocol_version`.
//!
//! Codec and session for both sides, and the console's way to one, all without I/O.

use hmac::digest::Digest;
use ipmi_rs_core::connection::{Message, NetFn};
use md5::Md5;

use super::command::CloseSession;
use super::handshake::{HandshakeError, Login};
use super::packet::{Datagram, Frame, Malformed, sessionless};
use super::session::Dropped;

/// Number of Get Channel Authentication Capabilities.
pub const GET_CAPABILITIES: u8 = 0x38;
/// Number of Get Session Challenge.
pub const GET_CHALLENGE: u8 = 0x39;
/// Number of Activate Session.
pub const ACTIVATE_SESSION: u8 = 0x3A;
/// Longest password, bytes.
pub const MAX_PASSWORD: usize = 16;

const RMCP: [u8; 4] = [6, 0, 0xFF, 7];
/// How far a packet may come late (§6.12.12).
const BEHIND: u32 = 8;

/// How packets of a session prove who sent them. MD2 is left out: every BMC that has it has MD5 too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Not at all.
    None,
    /// By an MD5 over password, session id, message and sequence number.
    Md5,
    /// By the password itself, readable to everybody on the way.
    Password,
}

impl Authentication {
    /// The better ones first.
    pub const ALL: [Authentication; 3] =
        [Authentication::Md5, Authentication::Password, Authentication::None];

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Authentication::None => 0,
            Authentication::Md5 => 2,
            Authentication::Password => 4,
        }
    }

    /// The one of this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Authentication::None),
            2 => Some(Authentication::Md5),
            4 => Some(Authentication::Password),
            _ => None,
        }
    }

    /// Its bit in the answer to Get Channel Authentication Capabilities.
    #[must_use]
    pub const fn bit(self) -> u8 {
        1 << self.number()
    }
}

/// A packet, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// How it is authenticated.
    pub authentication: Authentication,
    /// The sender's sequence number.
    pub sequence: u32,
    /// The session, by the one id that both sides use.
    pub session_id: u32,
    /// The authentication code, zeros where there is none.
    pub code: [u8; 16],
    /// The IPMB frame.
    pub frame: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a datagram apart.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        if head[0] != RMCP[0] || head[3] != RMCP[3] {
            return Err(Malformed::NotRmcp);
        }
        let (&[kind, a, b, c, d, w, x, y, z], mut rest) =
            rest.split_first_chunk::<9>().ok_or(Malformed::Short)?;
        let authentication = Authentication::from_number(kind).ok_or(Malformed::Kind)?;
        let mut code = [0; 16];
        if authentication != Authentication::None {
            (code, rest) =
                rest.split_first_chunk().map(|(code, rest)| (*code, rest)).ok_or(Malformed::Short)?;
        }
        let (len, rest) = rest.split_first().ok_or(Malformed::Short)?;
        Ok(Self {
            authentication,
            sequence: u32::from_le_bytes([a, b, c, d]),
            session_id: u32::from_le_bytes([w, x, y, z]),
            code,
            frame: rest.get(..usize::from(*len)).ok_or(Malformed::Short)?,
        })
    }

    /// Whether its code is made with this password.
    #[must_use]
    pub fn is_of(&self, password: &[u8]) -> bool {
        let right = code(self.authentication, password, self.session_id, self.sequence, self.frame);
        // in constant time
        right.iter().zip(&self.code).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
    }
}

fn code(kind: Authentication, password: &[u8], session_id: u32, sequence: u32, frame: &[u8]) -> [u8; 16] {
    let mut key = [0; 16];
    let len = password.len().min(MAX_PASSWORD);
    key[..len].copy_from_slice(&password[..len]);
    match kind {
        Authentication::None => [0; 16],
        Authentication::Password => key,
        Authentication::Md5 => {
            let mut hash = Md5::new();
            for part in [&key[..], &session_id.to_le_bytes(), frame, &sequence.to_le_bytes(), &key] {
                hash.update(part);
            }
            hash.finalize().into()
        }
    }
}

/// A packet. `None` when the frame is longer than the format can say.
#[must_use]
pub fn encode(
    kind: Authentication,
    password: &[u8],
    session_id: u32,
    sequence: u32,
    frame: &[u8],
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(30 + frame.len());
    out.extend(RMCP);
    out.push(kind.number());
    out.extend(sequence.to_le_bytes());
    out.extend(session_id.to_le_bytes());
    if kind != Authentication::None {
        out.extend(code(kind, password, session_id, sequence, frame));
    }
    out.push(u8::try_from(frame.len()).ok()?);
    out.extend_from_slice(frame);
    Some(out)
}

/// One side of an open session.
pub struct Session {
    kind: Authentication,
    password: crate::Secret<Vec<u8>>,
    id: u32,
    /// The number of the next packet sent.
    next: u32,
    /// The highest number received, and which of those before it.
    highest: u32,
    seen: u32,
}

impl Session {
    /// A session just opened: `send` is the first number sent, `receive` the first one expected.
    #[must_use]
    pub fn new(
        kind: Authentication,
        password: crate::Secret<Vec<u8>>,
        id: u32,
        send: u32,
        receive: u32,
    ) -> Self {
        Self { kind, password, id, next: send.max(1), highest: receive.wrapping_sub(1), seen: u32::MAX }
    }

    /// The id by which both sides know it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Wraps an IPMB frame into a packet with the next sequence number. `None` when the frame is too long.
    #[must_use]
    pub fn seal(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let sequence = self.next;
        self.next = self.next.checked_add(1).unwrap_or(1);
        encode(self.kind, self.password.expose(), self.id, sequence, frame)
    }

    /// Checks a packet and gives the IPMB frame inside.
    pub fn open<'a>(&mut self, packet: &Packet<'a>) -> Result<&'a [u8], Dropped> {
        if packet.session_id != self.id {
            return Err(Dropped::Stranger);
        }
        if packet.authentication != self.kind {
            return Err(Dropped::Unprotected);
        }
        if !packet.is_of(self.password.expose()) {
            return Err(Dropped::Forged);
        }
        if !self.accept(packet.sequence) {
            return Err(Dropped::Replayed);
        }
        Ok(packet.frame)
    }

    /// Whether this number is new and near the others; remembers it if so.
    fn accept(&mut self, sequence: u32) -> bool {
        if sequence == 0 {
            return false;
        }
        let ahead = sequence.wrapping_sub(self.highest);
        if ahead != 0 && ahead <= u32::MAX / 2 {
            // bit n: `highest - n` was seen
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = sequence;
            return true;
        }
        let behind = self.highest.wrapping_sub(sequence);
        if behind > BEHIND || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

/// What a datagram led to.
pub enum Progress {
    /// Not for us, a repetition, or damaged: go on waiting.
    Ignored,
    /// Send this next, and again until an answer comes.
    Send(Vec<u8>),
    /// The session is open.
    Open(Box<Session>),
}

enum Stage {
    Asking,
    Challenging { kind: Authentication, unsigned: bool },
    Activating { kind: Authentication, unsigned: bool, temporary: u32 },
}

/// An attempt to open a session.
pub struct Handshake<'a> {
    login: &'a Login,
    /// Where the BMC's numbers are to begin.
    begin: u32,
    request: Frame,
    stage: Stage,
}

fn app(command: u8, data: Vec<u8>) -> Message {
    Message::new_request(NetFn::App, command, data)
}

impl<'a> Handshake<'a> {
    /// Begins an attempt; gives it and the first datagram. `begin` should be random.
    #[must_use]
    pub fn start(login: &'a Login, begin: u32) -> (Self, Vec<u8>) {
        // 0x0E is the channel that this comes by
        let request = Frame::request(1, app(GET_CAPABILITIES, vec![0x0E, login.privilege.number()]));
        let first = sessionless(&request.encode()).expect("a short frame");
        (Self { login, begin: begin.max(1), request, stage: Stage::Asking }, first)
    }

    /// Whether the BMC was told the user's name.
    #[must_use]
    pub fn named(&self) -> bool {
        match self.stage {
            Stage::Asking => false,
            Stage::Challenging { .. } | Stage::Activating { .. } => true,
        }
    }

    /// Whether what is sent now bears the password readable.
    #[must_use]
    pub fn shows_password(&self) -> bool {
        match self.stage {
            Stage::Asking | Stage::Challenging { .. } => false,
            Stage::Activating { kind, .. } => kind == Authentication::Password,
        }
    }

    /// A datagram that makes the BMC give up what it may hold for this attempt.
    #[must_use]
    pub fn abandon(&self) -> Option<Vec<u8>> {
        let Stage::Activating { kind, temporary, .. } = self.stage else { return None };
        let frame = Frame::request(4, CloseSession(temporary).into());
        encode(kind, self.login.password.expose(), temporary, 1, &frame.encode())
    }

    /// Looks at a datagram from the BMC's address.
    pub fn receive(&mut self, datagram: &[u8]) -> Result<Progress, HandshakeError> {
        let frame = match Datagram::decode(datagram) {
            Ok(Datagram::Sessionless(frame)) => frame,
            Ok(Datagram::Ping(_) | Datagram::Pong(_) | Datagram::Plus(_)) => return Ok(Progress::Ignored),
            Err(_) => match self.signed(datagram) {
                Some(frame) => frame,
                None => return Ok(Progress::Ignored),
            },
        };
        let Ok(frame) = Frame::decode(frame) else { return Ok(Progress::Ignored) };
        if !frame.answers(&self.request) {
            return Ok(Progress::Ignored);
        }
        let Some((code, data)) = frame.message.data().split_first() else { return Ok(Progress::Ignored) };
        match self.stage {
            Stage::Asking => self.asked(*code, data),
            Stage::Challenging { kind, unsigned } => self.challenged(*code, data, kind, unsigned),
            Stage::Activating { kind, unsigned, .. } => self.activated(*code, data, kind, unsigned),
        }
    }

    /// The frame of the signed answer to Activate Session.
    fn signed<'b>(&self, datagram: &'b [u8]) -> Option<&'b [u8]> {
        let Stage::Activating { kind, .. } = self.stage else { return None };
        let packet = Packet::decode(datagram).ok()?;
        (packet.authentication == kind && packet.is_of(self.login.password.expose())).then_some(packet.frame)
    }

    fn asked(&mut self, code: u8, data: &[u8]) -> Result<Progress, HandshakeError> {
        if code != 0 {
            return Err(HandshakeError::Refused("it does not tell how it authenticates"));
        }
        let &[_, offered, status, ..] = data else { return Ok(Progress::Ignored) };
        let has_password = !self.login.password.expose().is_empty();
        let fits = |kind: &Authentication| {
            offered & kind.bit() != 0 && (*kind == Authentication::None) != has_password
        };
        let Some(kind) = Authentication::ALL.into_iter().find(fits) else {
            return Err(HandshakeError::Refused(if has_password {
                "over IPMI 1.5 it offers neither MD5 nor passwords: use ipmi_protocol_version 2.0"
            } else {
                "over IPMI 1.5 it wants a password: give ipmi_password"
            }));
        };
        // bit 4: only the messages that open the session are authenticated
        self.stage = Stage::Challenging { kind, unsigned: status & 0x10 != 0 };
        let mut ask = vec![kind.number()];
        ask.extend(&self.login.user);
        ask.resize(1 + 16, 0);
        self.request = Frame::request(2, app(GET_CHALLENGE, ask));
        Ok(Progress::Send(sessionless(&self.request.encode()).expect("a short frame")))
    }

    fn challenged(
        &mut self,
        code: u8,
        data: &[u8],
        kind: Authentication,
        unsigned: bool,
    ) -> Result<Progress, HandshakeError> {
        match code {
            0 => {}
            0x81 => return Err(HandshakeError::Credentials("no such user")),
            0x82 => return Err(HandshakeError::Credentials("it takes no null user: give ipmi_username")),
            _ => return Err(HandshakeError::Refused("it gives no challenge")),
        }
        let (Some((id, challenge)), true) = (data.split_first_chunk::<4>(), data.len() >= 20) else {
            return Ok(Progress::Ignored);
        };
        let temporary = u32::from_le_bytes(*id);
        self.stage = Stage::Activating { kind, unsigned, temporary };
        let mut ask = vec![kind.number(), self.login.privilege.number()];
        ask.extend(&challenge[..16]);
        ask.extend(self.begin.to_le_bytes());
        self.request = Frame::request(3, app(ACTIVATE_SESSION, ask));
        let password = self.login.password.expose();
        let packet = encode(kind, password, temporary, 0, &self.request.encode());
        Ok(Progress::Send(packet.expect("a short frame")))
    }

    fn activated(
        &mut self,
        code: u8,
        data: &[u8],
        kind: Authentication,
        unsigned: bool,
    ) -> Result<Progress, HandshakeError> {
        match code {
            0 => {}
            0x81..=0x83 => return Err(HandshakeError::Full("no free session")),
            0x85 => return Err(HandshakeError::Forgotten("invalid session id")),
            0x86 => return Err(HandshakeError::Credentials("privilege level not allowed for this user")),
            0x84 => return Err(HandshakeError::Refused("it does not take the sequence number")),
            // some say "invalid data" to a wrong authentication code
            _ => return Err(HandshakeError::Credentials("it does not activate the session")),
        }
        let &[rest, a, b, c, d, w, x, y, z, ..] = data else { return Ok(Progress::Ignored) };
        let rest = Authentication::from_number(rest & 0x0F);
        let agreed = rest.filter(|rest| *rest == kind || (*rest == Authentication::None && unsigned));
        let Some(rest) = agreed else {
            return Err(HandshakeError::Refused("it answered with another authentication than asked for"));
        };
        let (id, send) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([w, x, y, z]));
        let session = Session::new(rest, self.login.password.clone(), id, send, self.begin);
        Ok(Progress::Open(Box::new(session)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    const PASSWORD: &[u8] = b"password";

    fn session(kind: Authentication) -> Session {
        Session::new(kind, Secret::new(PASSWORD.to_vec()), 7, 1, 1)
    }

    #[test]
    fn a_packet_is_believed_once_and_no_flipped_bit_is() {
        for kind in Authentication::ALL {
            let (mut console, mut bmc) = (session(kind), session(kind));
            let frame = Frame::request(1, app(1, vec![])).encode();
            let packet = console.seal(&frame).unwrap();
            let open = |bmc: &mut Session, bytes: &[u8]| {
                let packet = Packet::decode(bytes).ok()?;
                bmc.open(&packet).ok().map(<[u8]>::to_vec)
            };
            if kind == Authentication::Md5 {
                for bit in 32..packet.len() * 8 {
                    let mut bent = packet.clone();
                    bent[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(open(&mut bmc, &bent), None, "bit {bit}");
                }
            }
            assert_eq!(open(&mut bmc, &packet), Some(frame), "{kind:?}");
            assert_eq!(open(&mut bmc, &packet), None, "a replay");
        }
    }

    #[test]
    fn numbers_are_accepted_once_and_only_when_little_late() {
        let mut session = session(Authentication::None);
        for number in [1, 2, 5, 4, 3, 20, 12] {
            assert!(session.accept(number), "{number}");
            assert!(!session.accept(number), "{number} again");
        }
        assert!(!session.accept(11) && !session.accept(0));
    }

    #[test]
    fn a_weaker_authentication_than_agreed_is_refused() {
        let (mut console, mut bmc) = (session(Authentication::None), session(Authentication::Md5));
        let frame = Frame::request(1, app(1, vec![])).encode();
        let packet = console.seal(&frame).unwrap();
        assert_eq!(bmc.open(&Packet::decode(&packet).unwrap()), Err(Dropped::Unprotected));
    }
}
