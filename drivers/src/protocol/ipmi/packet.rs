//! Datagrams as they are on the wire: RMCP, ASF presence ping, IPMI 1.5 sessionless and RMCP+ headers
//! (IPMI 2.0 §13.6, §13.8; ASF 2.0 §3.2), and the IPMB frame inside (§7.3, §13.8).
//!
//! Nothing here keeps state or does I/O, and no input makes it panic.

use ipmi_rs_core::connection::Message;

/// Address of the BMC on the (virtual) IPMB.
pub const BMC_ADDRESS: u8 = 0x20;
/// Address of remote console software.
pub const CONSOLE_ADDRESS: u8 = 0x81;
/// The longest datagram that is looked at, bytes.
pub const MAX_DATAGRAM: usize = 1024;

const RMCP_VERSION: u8 = 6;
const NO_ACK: u8 = 0xFF;
const CLASS_ASF: u8 = 6;
const CLASS_IPMI: u8 = 7;
const AUTH_NONE: u8 = 0;
const AUTH_RMCP_PLUS: u8 = 6;
const ASF_ENTERPRISE: [u8; 4] = [0, 0, 0x11, 0xBE];
const ASF_PING: u8 = 0x80;
const ASF_PONG: u8 = 0x40;
const NEXT_HEADER: u8 = 7;
/// Bytes of the RMCP header.
const RMCP_LEN: usize = 4;
/// Bytes of RMCP and RMCP+ header together.
const PLUS_LEN: usize = 16;

/// What an RMCP+ packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadType {
    /// An IPMB frame.
    Ipmi,
    /// Characters of a serial line, see [`super::sol`].
    Sol,
    /// RMCP+ Open Session Request.
    OpenSessionRequest,
    /// RMCP+ Open Session Response.
    OpenSessionResponse,
    /// RAKP message 1.
    Rakp1,
    /// RAKP message 2.
    Rakp2,
    /// RAKP message 3.
    Rakp3,
    /// RAKP message 4.
    Rakp4,
}

impl PayloadType {
    const fn number(self) -> u8 {
        match self {
            PayloadType::Ipmi => 0,
            PayloadType::Sol => 1,
            PayloadType::OpenSessionRequest => 0x10,
            PayloadType::OpenSessionResponse => 0x11,
            PayloadType::Rakp1 => 0x12,
            PayloadType::Rakp2 => 0x13,
            PayloadType::Rakp3 => 0x14,
            PayloadType::Rakp4 => 0x15,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => PayloadType::Ipmi,
            1 => PayloadType::Sol,
            0x10 => PayloadType::OpenSessionRequest,
            0x11 => PayloadType::OpenSessionResponse,
            0x12 => PayloadType::Rakp1,
            0x13 => PayloadType::Rakp2,
            0x14 => PayloadType::Rakp3,
            0x15 => PayloadType::Rakp4,
            _ => return None,
        })
    }
}

/// Why bytes are not a datagram that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its own header says.
    #[error("too short")]
    Short,
    /// Not RMCP 1.0, or an unknown class.
    #[error("not RMCP")]
    NotRmcp,
    /// An authentication or payload type that we never use.
    #[error("unknown authentication or payload type")]
    Kind,
    /// A checksum or trailer that is wrong.
    #[error("checksum or trailer wrong")]
    Check,
}

/// A datagram, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// ASF presence ping with its tag.
    Ping(u8),
    /// ASF presence pong with its tag.
    Pong(u8),
    /// An IPMB frame outside of any session, in IPMI 1.5 format.
    Sessionless(&'a [u8]),
    /// RMCP+, outside of a session or inside one.
    Plus(Plus<'a>),
}

/// An RMCP+ packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plus<'a> {
    /// What it carries.
    pub payload_type: PayloadType,
    /// The payload is encrypted.
    pub encrypted: bool,
    /// The packet ends with a check code.
    pub authenticated: bool,
    /// The receiver's session id; 0 outside of a session.
    pub session_id: u32,
    /// The sender's session sequence number; 0 outside of a session.
    pub sequence: u32,
    /// The payload, encrypted or not.
    pub payload: &'a [u8],
    /// What the check code is computed over; empty when not authenticated.
    pub signed: &'a [u8],
    /// The check code; empty when not authenticated.
    pub check: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|four| u32::from_le_bytes(*four))
}

impl<'a> Datagram<'a> {
    /// Takes a datagram apart. Lengths are checked here; check codes where the keys are.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let ([version, _, _, class], rest) = bytes.split_first_chunk::<RMCP_LEN>().ok_or(Malformed::Short)?;
        match (*version, *class) {
            (RMCP_VERSION, CLASS_ASF) => Self::decode_asf(rest),
            (RMCP_VERSION, CLASS_IPMI) => match *rest.first().ok_or(Malformed::Short)? {
                AUTH_NONE => Self::decode_sessionless(rest),
                AUTH_RMCP_PLUS => Self::decode_plus(rest),
                _ => Err(Malformed::Kind),
            },
            _ => Err(Malformed::NotRmcp),
        }
    }

    fn decode_asf(rest: &[u8]) -> Result<Self, Malformed> {
        let head = rest.first_chunk::<8>().ok_or(Malformed::Short)?;
        match (head[..4] == ASF_ENTERPRISE, head[4]) {
            (true, ASF_PING) => Ok(Datagram::Ping(head[5])),
            (true, ASF_PONG) => Ok(Datagram::Pong(head[5])),
            _ => Err(Malformed::Kind),
        }
    }

    fn decode_sessionless(rest: &'a [u8]) -> Result<Self, Malformed> {
        let outside =
            u32_at(rest, 1).ok_or(Malformed::Short)? == 0 && u32_at(rest, 5).ok_or(Malformed::Short)? == 0;
        if !outside {
            return Err(Malformed::Kind);
        }
        let len = usize::from(*rest.get(9).ok_or(Malformed::Short)?);
        rest.get(10..10 + len).map(Datagram::Sessionless).ok_or(Malformed::Short)
    }

    fn decode_plus(rest: &'a [u8]) -> Result<Self, Malformed> {
        let kind = *rest.get(1).ok_or(Malformed::Short)?;
        let payload_type = PayloadType::from_number(kind & 0x3F).ok_or(Malformed::Kind)?;
        let (encrypted, authenticated) = (kind & 0x80 != 0, kind & 0x40 != 0);
        let session_id = u32_at(rest, 2).ok_or(Malformed::Short)?;
        let sequence = u32_at(rest, 6).ok_or(Malformed::Short)?;
        let len = rest.get(10..12).ok_or(Malformed::Short)?;
        let end = 12 + usize::from(u16::from_le_bytes([len[0], len[1]]));
        let payload = rest.get(12..end).ok_or(Malformed::Short)?;
        let (mut signed, mut check): (&[u8], &[u8]) = (&[], &[]);
        if authenticated {
            // the signed part is filled up to a multiple of four, pad length and next header included
            let signed_len = (end + 2).next_multiple_of(4);
            (signed, check) = rest.split_at_checked(signed_len).ok_or(Malformed::Short)?;
            let pad = signed_len - end - 2;
            if usize::from(signed[signed_len - 2]) != pad || signed[signed_len - 1] != NEXT_HEADER {
                return Err(Malformed::Check);
            }
        }
        Ok(Datagram::Plus(Plus {
            payload_type,
            encrypted,
            authenticated,
            session_id,
            sequence,
            payload,
            signed,
            check,
        }))
    }
}

/// An ASF presence ping.
#[must_use]
pub fn ping(tag: u8) -> Vec<u8> {
    let [a, b, c, d] = ASF_ENTERPRISE;
    vec![RMCP_VERSION, 0, NO_ACK, CLASS_ASF, a, b, c, d, ASF_PING, tag, 0, 0]
}

/// The answer to a presence ping: IPMI is supported, ASF 1.0.
#[must_use]
pub fn pong(tag: u8) -> Vec<u8> {
    let [a, b, c, d] = ASF_ENTERPRISE;
    let mut out = vec![RMCP_VERSION, 0, NO_ACK, CLASS_ASF, a, b, c, d, ASF_PONG, tag, 0, 16];
    out.extend([a, b, c, d, 0, 0, 0, 0, 0x81, 0, 0, 0, 0, 0, 0, 0]);
    out
}

/// An IPMB frame outside of any session. `None` when it is longer than the format can say.
#[must_use]
pub fn sessionless(frame: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![RMCP_VERSION, 0, NO_ACK, CLASS_IPMI, AUTH_NONE, 0, 0, 0, 0, 0, 0, 0, 0];
    out.push(u8::try_from(frame.len()).ok()?);
    out.extend_from_slice(frame);
    Some(out)
}

fn plus_header(out: &mut Vec<u8>, kind: u8, session_id: u32, sequence: u32, payload_len: usize) {
    let len = u16::try_from(payload_len).expect("payloads are far below 64 KiB");
    out.extend([RMCP_VERSION, 0, NO_ACK, CLASS_IPMI, AUTH_RMCP_PLUS, kind]);
    out.extend(session_id.to_le_bytes());
    out.extend(sequence.to_le_bytes());
    out.extend(len.to_le_bytes());
}

/// An RMCP+ packet outside of any session: the messages that open one.
#[must_use]
pub fn plain(payload_type: PayloadType, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PLUS_LEN + payload.len());
    plus_header(&mut out, payload_type.number(), 0, 0, payload.len());
    out.extend_from_slice(payload);
    out
}

/// An encrypted and authenticated packet of a session. `encrypt` appends the encrypted payload, `sign` gives
/// the check code over the bytes it is handed.
pub fn protected(
    payload_type: PayloadType,
    session_id: u32,
    sequence: u32,
    encrypt: impl FnOnce(&mut Vec<u8>),
    sign: impl FnOnce(&[u8], &mut Vec<u8>),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    plus_header(&mut out, payload_type.number() | 0xC0, session_id, sequence, 0);
    encrypt(&mut out);
    let len = u16::try_from(out.len() - PLUS_LEN).expect("payloads are far below 64 KiB");
    out[PLUS_LEN - 2..PLUS_LEN].copy_from_slice(&len.to_le_bytes());
    let signed = out.len() - RMCP_LEN;
    let pad = (signed + 2).next_multiple_of(4) - signed - 2;
    out.extend(std::iter::repeat_n(0xFF, pad));
    out.push(u8::try_from(pad).expect("padding is below four"));
    out.push(NEXT_HEADER);
    let mut check = Vec::with_capacity(16);
    sign(&out[RMCP_LEN..], &mut check);
    out.extend(check);
    out
}

/// An IPMB frame: a request, or a response (whose data begins with the completion code).
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Who it is for.
    pub to: u8,
    /// Who sent it.
    pub from: u8,
    /// The requester's sequence number, 0 to 63.
    pub sequence: u8,
    /// Network function, command and data.
    pub message: Message,
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

impl Frame {
    /// A console's request to the BMC.
    #[must_use]
    pub fn request(sequence: u8, message: Message) -> Self {
        Self { to: BMC_ADDRESS, from: CONSOLE_ADDRESS, sequence: sequence & 0x3F, message }
    }

    /// The response to this request: completion code and data.
    #[must_use]
    pub fn response(&self, completion: u8, data: &[u8]) -> Self {
        let mut all = Vec::with_capacity(1 + data.len());
        all.push(completion);
        all.extend_from_slice(data);
        let message = Message::new_response(self.message.netfn(), self.message.cmd(), all);
        Self { to: self.from, from: self.to, sequence: self.sequence, message }
    }

    /// Whether this frame answers `request`.
    #[must_use]
    pub fn answers(&self, request: &Frame) -> bool {
        self.sequence == request.sequence
            && self.from == request.to
            && self.message.cmd() == request.message.cmd()
            && self.message.netfn_raw() == request.message.netfn_raw() + 1
    }

    /// The bytes of the frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(7 + self.message.data().len());
        out.extend([self.to, self.message.netfn_raw() << 2]);
        out.push(checksum(&out));
        out.extend([self.from, self.sequence << 2, self.message.cmd()]);
        out.extend_from_slice(self.message.data());
        out.push(checksum(&out[3..]));
        out
    }

    /// Reads a frame and checks both checksums.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let &[to, netfn, head_sum, from, sequence, cmd, ref rest @ ..] = bytes else {
            return Err(Malformed::Short);
        };
        let (_, data) = rest.split_last().ok_or(Malformed::Short)?;
        if checksum(&[to, netfn]) != head_sum || checksum(&bytes[3..]) != 0 {
            return Err(Malformed::Check);
        }
        let message = Message::new_raw(netfn >> 2, cmd, data.to_vec());
        Ok(Self { to, from, sequence: sequence >> 2, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipmi_rs_core::connection::NetFn;

    #[test]
    fn a_frame_survives_the_wire_and_a_flipped_bit_does_not() {
        let request = Frame::request(5, Message::new_request(NetFn::Chassis, 1, vec![]));
        let bytes = request.encode();
        assert_eq!(bytes, [0x20, 0x00, 0xE0, 0x81, 0x14, 0x01, 0x6A]);
        assert_eq!(Frame::decode(&bytes), Ok(request.clone()));
        assert!(request.response(0, &[1, 2]).answers(&request));
        for at in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[at / 8] ^= 1 << (at % 8);
            assert!(Frame::decode(&bent).is_err(), "bit {at}");
        }
    }

    #[test]
    fn ping_and_pong_are_recognised() {
        assert_eq!(Datagram::decode(&ping(9)), Ok(Datagram::Ping(9)));
        assert_eq!(Datagram::decode(&pong(9)), Ok(Datagram::Pong(9)));
    }
}
