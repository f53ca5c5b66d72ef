//! PDUs of iSCSI, both directions, without I/O: RFC 7143 §11.
//!
//! [`Pdu::decode`] and [`Decoder`] take bytes of an untrusted peer: whatever comes in, they answer with a PDU, with
//! "not enough yet" or with an error, and hold no more than one PDU of the length that was allowed.
//! Additional header segments are skipped (nothing that Ferric speaks needs one).

mod request;
mod response;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

pub use request::{
    DataOut, LoginRequest, LogoutRequest, NopOut, ScsiCommand, Snack, TaskRequest, TextRequest,
    logout_reason, task_function,
};
pub use response::{
    Async, DataIn, LoginResponse, LogoutResponse, NopIn, R2t, Reject, ScsiResponse, TaskResponse,
    TextResponse, async_event, logout_response, reject_reason, task_response,
};

/// The basic header segment: 48 bytes.
pub const BHS: usize = 48;
/// What a DataSegmentLength of 24 bits can say: the upper limit of every data segment, in bytes.
pub const MAX_DATA: usize = 0x00FF_FFFF;
/// The tag that means "none": of a NOP that wants no answer, of data that nobody asked for.
pub const NO_TAG: u32 = 0xFFFF_FFFF;

/// Why bytes are no PDU. After any of these but `DataDigest` and `Unknown` the stream has lost its rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// The data segment is longer than this side has declared to take.
    #[error("a data segment of {length} bytes where {limit} are allowed")]
    TooLong {
        /// What the header announces, in bytes.
        length: usize,
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// The header does not fit its CRC32C.
    #[error("wrong header digest")]
    HeaderDigest,
    /// The data does not fit its CRC32C; this many bytes of input were the PDU.
    #[error("wrong data digest")]
    DataDigest {
        /// The bytes of the whole PDU.
        used: usize,
    },
    /// No PDU has this opcode; this many bytes of input were it.
    #[error("unknown opcode {opcode:#04x}")]
    Unknown {
        /// Bits 0 to 5 of the first byte.
        opcode: u8,
        /// The bytes of the whole PDU.
        used: usize,
    },
    /// A field has a value that cannot be.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// Which CRC32C are on the wire; none while logging in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// After the header segments.
    pub header: bool,
    /// After the padded data segment.
    pub data: bool,
}

/// A logical unit's number as the wire has it: 8 bytes, SAM-5 §4.7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lun(pub u64);

impl Lun {
    /// `number` by peripheral addressing below 256, by flat addressing below 16 384.
    pub const fn new(number: u16) -> Self {
        let first = if number < 256 { number } else { 0x4000 | (number & 0x3FFF) };
        Self((first as u64) << 48)
    }

    /// The number, if this is a plain one (single level, peripheral or flat).
    pub const fn number(self) -> Option<u16> {
        let first = (self.0 >> 48) as u16;
        if self.0 << 16 != 0 {
            return None;
        }
        match first >> 14 {
            0 if first < 256 => Some(first),
            1 => Some(first & 0x3FFF),
            _ => None,
        }
    }
}

/// What a target says with each answer: its own sequence, and how many commands it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// StatSN: number of this answer (or of the next, where the PDU carries no status).
    pub stat_sn: u32,
    /// ExpCmdSN: the command number that the target waits for.
    pub exp_cmd_sn: u32,
    /// MaxCmdSN: the highest command number that it takes.
    pub max_cmd_sn: u32,
}

/// The three stages of a login, RFC 7143 §6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// SecurityNegotiation: who is who.
    Security = 0,
    /// LoginOperationalNegotiation: the limits.
    Operational = 1,
    /// FullFeaturePhase: commands.
    FullFeature = 3,
}

impl Stage {
    const fn of(bits: u8) -> Result<Self, PduError> {
        match bits & 3 {
            0 => Ok(Self::Security),
            1 => Ok(Self::Operational),
            3 => Ok(Self::FullFeature),
            _ => Err(PduError::Malformed("login stage 2")),
        }
    }
}

macro_rules! headers {
    ($($(#[$doc:meta])* $name:ident($type:ty) = $opcode:literal),* $(,)?) => {
        /// A header by its opcode.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Header { $($(#[$doc])* $name($type)),* }

        impl Header {
            /// The opcode, without the immediate bit.
            pub const fn opcode(&self) -> u8 {
                match self { $(Self::$name(_) => $opcode),* }
            }

            fn read(bytes: &[u8; BHS], used: usize) -> Result<Self, PduError> {
                match bytes[0] & 0x3F {
                    $($opcode => Ok(Self::$name(<$type>::read(bytes)?)),)*
                    opcode => Err(PduError::Unknown { opcode, used }),
                }
            }

            fn write(&self, bytes: &mut [u8; BHS]) {
                bytes[0] = self.opcode();
                match self { $(Self::$name(header) => header.write(bytes)),* }
            }
        }

        $(impl From<$type> for Header {
            fn from(header: $type) -> Self {
                Self::$name(header)
            }
        })*
    };
}

headers! {
    /// Initiator: are you there, or the answer to that.
    NopOut(NopOut) = 0x00,
    /// Initiator: a command to a disk.
    ScsiCommand(ScsiCommand) = 0x01,
    /// Initiator: abort and reset.
    TaskRequest(TaskRequest) = 0x02,
    /// Initiator: a step of the login.
    LoginRequest(LoginRequest) = 0x03,
    /// Initiator: keys and values after the login (SendTargets).
    TextRequest(TextRequest) = 0x04,
    /// Initiator: data of a write.
    DataOut(DataOut) = 0x05,
    /// Initiator: good-bye.
    LogoutRequest(LogoutRequest) = 0x06,
    /// Initiator: send that again.
    Snack(Snack) = 0x10,
    /// Target: are you there, or the answer to that.
    NopIn(NopIn) = 0x20,
    /// Target: how a command ended.
    ScsiResponse(ScsiResponse) = 0x21,
    /// Target: how a task request ended.
    TaskResponse(TaskResponse) = 0x22,
    /// Target: a step of the login.
    LoginResponse(LoginResponse) = 0x23,
    /// Target: keys and values after the login.
    TextResponse(TextResponse) = 0x24,
    /// Target: data of a read.
    DataIn(DataIn) = 0x25,
    /// Target: good-bye.
    LogoutResponse(LogoutResponse) = 0x26,
    /// Target: now send this part of a write.
    R2t(R2t) = 0x31,
    /// Target: something happened.
    Async(Async) = 0x32,
    /// Target: that was no PDU for me.
    Reject(Reject) = 0x3F,
}

/// One PDU: a header and its data segment (without padding).
#[derive(Clone, Debug, PartialEq)]
pub struct Pdu {
    /// What it is.
    pub header: Header,
    /// The data segment.
    pub data: Bytes,
}

impl Pdu {
    /// A PDU without data.
    pub fn bare(header: impl Into<Header>) -> Self {
        Self { header: header.into(), data: Bytes::new() }
    }

    /// A PDU with data.
    pub fn with(header: impl Into<Header>, data: impl Into<Bytes>) -> Self {
        Self { header: header.into(), data: data.into() }
    }

    /// The header on the wire, with its digest.
    /// Errors: `TooLong` when the data is more than [`MAX_DATA`].
    pub fn head(&self, digests: Digests) -> Result<Head, PduError> {
        let length = self.data.len();
        if length > MAX_DATA {
            return Err(PduError::TooLong { length, limit: MAX_DATA });
        }
        let mut bhs = [0; BHS];
        self.header.write(&mut bhs);
        let length = u32::try_from(length).expect("24 bits").to_be_bytes();
        bhs[5..8].copy_from_slice(&length[1..]);
        let mut head = Head { bytes: [0; BHS + 4], length: BHS };
        head.bytes[..BHS].copy_from_slice(&bhs);
        if digests.header {
            head.bytes[BHS..].copy_from_slice(&crc32c::crc32c(&bhs).to_le_bytes());
            head.length += 4;
        }
        Ok(head)
    }

    /// What follows the data on the wire: padding and the data's digest.
    pub fn tail(&self, digests: Digests) -> Tail {
        let padding = padding(self.data.len());
        let mut tail = Tail { bytes: [0; 7], length: padding };
        if digests.data && !self.data.is_empty() {
            let crc = crc32c::crc32c_append(crc32c::crc32c(&self.data), &tail.bytes[..padding]);
            tail.bytes[padding..padding + 4].copy_from_slice(&crc.to_le_bytes());
            tail.length += 4;
        }
        tail
    }

    /// Appends the whole PDU to `out`.
    /// Errors: `TooLong` when the data is more than [`MAX_DATA`].
    pub fn encode(&self, digests: Digests, out: &mut BytesMut) -> Result<(), PduError> {
        let head = self.head(digests)?;
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.data);
        out.extend_from_slice(&self.tail(digests));
        Ok(())
    }

    /// The PDU at the start of `input` and the bytes that it takes, or `None` if more are needed. `limit` is the
    /// longest data segment that is taken, in bytes.
    /// Errors: see [`PduError`]; a segment that is too long is told as soon as the header is there.
    pub fn decode(input: &[u8], digests: Digests, limit: usize) -> Result<Option<(Self, usize)>, PduError> {
        let Some(frame) = Frame::of(input, digests, limit)? else { return Ok(None) };
        if input.len() < frame.total {
            return Ok(None);
        }
        frame.check_data(input, digests)?;
        let header = Header::read(frame.bhs(input), frame.total)?;
        let data = Bytes::copy_from_slice(&input[frame.data_start..frame.data_start + frame.data_length]);
        Ok(Some((Self { header, data }, frame.total)))
    }
}

/// PDUs out of a stream: what was read goes to the end of [`Decoder::buffer`], PDUs come out of its start without
/// their data being copied.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What is not yet a PDU.
    pub buffer: BytesMut,
}

impl Decoder {
    /// The next PDU, or `None` if more bytes are needed; then the buffer has room for the rest of it.
    /// Errors: as [`Pdu::decode`]; a PDU with a wrong data digest or unknown opcode is skipped, so that the next
    /// call goes on behind it.
    pub fn next(&mut self, digests: Digests, limit: usize) -> Result<Option<Pdu>, PduError> {
        let Some(frame) = Frame::of(&self.buffer, digests, limit)? else {
            self.buffer.reserve(16 * 1024);
            return Ok(None);
        };
        if self.buffer.len() < frame.total {
            self.buffer.reserve(frame.total - self.buffer.len());
            return Ok(None);
        }
        let mut whole = self.buffer.split_to(frame.total);
        frame.check_data(&whole, digests)?;
        let header = Header::read(frame.bhs(&whole), frame.total)?;
        let data = if frame.data_length == 0 {
            Bytes::new()
        } else {
            let mut data = whole.split_off(frame.data_start);
            data.truncate(frame.data_length);
            data.freeze()
        };
        Ok(Some(Pdu { header, data }))
    }
}

/// Where the parts of a PDU lie.
#[derive(Clone, Copy)]
struct Frame {
    data_start: usize,
    data_length: usize,
    total: usize,
}

impl Frame {
    fn of(input: &[u8], digests: Digests, limit: usize) -> Result<Option<Self>, PduError> {
        let Some(bhs) = input.get(..BHS) else { return Ok(None) };
        let header_end = BHS + usize::from(bhs[4]) * 4;
        let mut data_start = header_end;
        if digests.header {
            data_start += 4;
            // lengths out of a damaged header are worth nothing: nothing is believed before the digest fits
            let Some(crc) = input.get(header_end..data_start) else { return Ok(None) };
            if crc32c::crc32c(&input[..header_end]).to_le_bytes() != crc {
                return Err(PduError::HeaderDigest);
            }
        }
        let data_length = usize::from(bhs[5]) << 16 | usize::from(bhs[6]) << 8 | usize::from(bhs[7]);
        if data_length > limit {
            return Err(PduError::TooLong { length: data_length, limit });
        }
        let mut total = data_start + data_length + padding(data_length);
        if digests.data && data_length > 0 {
            total += 4;
        }
        Ok(Some(Self { data_start, data_length, total }))
    }

    fn bhs(self, input: &[u8]) -> &[u8; BHS] {
        input.first_chunk().expect("a frame begins with its 48 bytes")
    }

    fn check_data(self, whole: &[u8], digests: Digests) -> Result<(), PduError> {
        if !digests.data || self.data_length == 0 {
            return Ok(());
        }
        let end = self.total - 4;
        if crc32c::crc32c(&whole[self.data_start..end]).to_le_bytes() == whole[end..self.total] {
            Ok(())
        } else {
            Err(PduError::DataDigest { used: self.total })
        }
    }
}

/// A header on the wire: 48 bytes, or 52 with its digest.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; BHS + 4],
    length: usize,
}

impl std::ops::Deref for Head {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What follows the data on the wire: up to 3 bytes of padding and 4 of digest.
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    bytes: [u8; 7],
    length: usize,
}

impl std::ops::Deref for Tail {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

const fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

// Fields of the header, big-endian as all of iSCSI.

fn u16_at(bytes: &[u8; BHS], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; BHS], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn lun_at(bytes: &[u8; BHS]) -> Lun {
    Lun(u64::from(u32_at(bytes, 8)) << 32 | u64::from(u32_at(bytes, 12)))
}

fn window_at(bytes: &[u8; BHS]) -> Window {
    Window { stat_sn: u32_at(bytes, 24), exp_cmd_sn: u32_at(bytes, 28), max_cmd_sn: u32_at(bytes, 32) }
}

fn put<const N: usize>(bytes: &mut [u8; BHS], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn put_u32(bytes: &mut [u8; BHS], at: usize, value: u32) {
    put(bytes, at, value.to_be_bytes());
}

fn put_lun(bytes: &mut [u8; BHS], lun: Lun) {
    put(bytes, 8, lun.0.to_be_bytes());
}

fn put_window(bytes: &mut [u8; BHS], window: Window) {
    put_u32(bytes, 24, window.stat_sn);
    put_u32(bytes, 28, window.exp_cmd_sn);
    put_u32(bytes, 32, window.max_cmd_sn);
}

const FINAL: u8 = 0x80;
const IMMEDIATE: u8 = 0x40;

const fn bit(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}
