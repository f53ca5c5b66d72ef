//! Serial over LAN (IPMI 2.0 §15, §24, §26): the commands that switch it, its packets, and one side of the stop-and-wait
//! protocol between console and BMC, without I/O. No input makes anything here panic; memory is bounded by
//! [`MAX_QUEUED`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ipmi_rs_core::connection::{IpmiCommand, Message, NotEnoughData};

use super::packet::Malformed;

/// Network function of the commands that activate payloads.
pub const NETFN_APP: u8 = 0x06;
/// Network function of the SOL configuration.
pub const NETFN_TRANSPORT: u8 = 0x0C;
/// Number of Activate Payload.
pub const ACTIVATE_PAYLOAD: u8 = 0x48;
/// Number of Deactivate Payload.
pub const DEACTIVATE_PAYLOAD: u8 = 0x49;
/// Number of Get Payload Activation Status.
pub const GET_PAYLOAD_STATUS: u8 = 0x4A;
/// Number of Get Payload Instance Info.
pub const GET_INSTANCE_INFO: u8 = 0x4B;
/// Number of Set SOL Configuration Parameters.
pub const SET_SOL_CONFIG: u8 = 0x21;
/// Number of Get SOL Configuration Parameters.
pub const GET_SOL_CONFIG: u8 = 0x22;
/// The payload type of SOL.
pub const SOL_PAYLOAD: u8 = 1;
/// SOL configuration parameter: whether it is enabled.
pub const PARAM_ENABLE: u8 = 1;
/// SOL configuration parameter: how often and when packets are sent again.
pub const PARAM_RETRY: u8 = 4;
/// "The channel that this request came in on."
pub const THIS_CHANNEL: u8 = 0x0E;

/// Completion codes of Activate Payload (IPMI 2.0 table 24-2).
pub mod refusal {
    /// Another session has it. Of Deactivate Payload: it is not active.
    pub const ALREADY_ACTIVE: u8 = 0x80;
    /// SOL is disabled.
    pub const DISABLED: u8 = 0x81;
    /// As many instances as there can be are active.
    pub const LIMIT: u8 = 0x82;
    /// Not with encryption.
    pub const NOT_ENCRYPTED: u8 = 0x83;
    /// Not without encryption.
    pub const ENCRYPTED_ONLY: u8 = 0x84;
}

/// Characters that wait to be sent at the most; [`Line::write`] takes no more.
pub const MAX_QUEUED: usize = 4096;
/// Characters of one packet at the most: the count in its header has eight bits.
const MAX_CHUNK: usize = 200;
/// Bytes of a packet's header.
const HEADER: usize = 4;
/// Answers that accept nothing and refuse nothing before the characters count as taken: some BMCs leave the count out.
const EMPTY_ACKS: u8 = 3;

const NACK: u8 = 0x40;

/// Operation bits of packets to the BMC (table 15-2).
pub mod operation {
    /// Send a break.
    pub const BREAK: u8 = 0x10;
    /// Hold the line (CTS).
    pub const CTS_PAUSE: u8 = 0x08;
    /// Drop DCD and DSR.
    pub const DROP_DCD: u8 = 0x04;
    /// Throw away what the BMC holds for the console.
    pub const FLUSH_INBOUND: u8 = 0x02;
    /// Throw away what the BMC holds for the machine.
    pub const FLUSH_OUTBOUND: u8 = 0x01;
}

/// Status bits of packets from the BMC (table 15-2).
pub mod condition {
    /// No characters can be taken at present.
    pub const UNAVAILABLE: u8 = 0x20;
    /// SOL is being deactivated.
    pub const DEACTIVATED: u8 = 0x10;
    /// Characters of the machine were lost.
    pub const OVERRUN: u8 = 0x08;
    /// The machine sent a break.
    pub const BREAK: u8 = 0x04;
}

/// A SOL packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolPacket {
    /// 1 to 15, or 0 for one that only acknowledges and is not acknowledged itself.
    pub sequence: u8,
    /// The packet that is acknowledged, 0 for none.
    pub ack: u8,
    /// How many of its characters were taken.
    pub accepted: u8,
    /// It was not, or not wholly, taken.
    pub nack: bool,
    /// [`operation`] or [`condition`] bits.
    pub flags: u8,
    /// The characters.
    pub data: Vec<u8>,
}

impl SolPacket {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let status = self.flags & !NACK | if self.nack { NACK } else { 0 };
        let mut out = vec![self.sequence & 0x0F, self.ack & 0x0F, self.accepted, status];
        out.extend_from_slice(&self.data);
        out
    }

    /// Reads the payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let ([sequence, ack, accepted, status], data) =
            bytes.split_first_chunk::<HEADER>().ok_or(Malformed::Short)?;
        Ok(Self {
            sequence: sequence & 0x0F,
            ack: ack & 0x0F,
            accepted: *accepted,
            nack: status & NACK != 0,
            flags: status & !NACK,
            data: data.to_vec(),
        })
    }
}

/// Activate Payload: SOL, instance 1, encrypted and authenticated, with the shared serial port's alerts put off.
pub struct ActivateSol;

impl From<ActivateSol> for Message {
    fn from(_: ActivateSol) -> Self {
        Message::new_raw(NETFN_APP, ACTIVATE_PAYLOAD, vec![SOL_PAYLOAD, 1, 0xC4, 0, 0, 0])
    }
}

/// What the BMC says of the payload that it activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activated {
    /// Bytes of a SOL payload to the BMC at the most, its header included.
    pub inbound: u16,
    /// The same from the BMC.
    pub outbound: u16,
    /// UDP port that it is to be used at.
    pub port: u16,
}

impl Activated {
    /// The data of the BMC's answer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        for word in [self.inbound, self.outbound, self.port, 0xFFFF] {
            out.extend(word.to_le_bytes());
        }
        out
    }

    /// How many characters one packet to the BMC may have. Firmware that swaps the bytes of the size is known.
    #[must_use]
    pub fn chunk(&self) -> usize {
        let plausible = |size: u16| (HEADER + 1..=512).contains(&usize::from(size));
        let size = [self.inbound, self.inbound.swap_bytes()].into_iter().find(|size| plausible(*size));
        size.map_or(1, |size| (usize::from(size) - HEADER).min(MAX_CHUNK))
    }
}

impl IpmiCommand for ActivateSol {
    type Output = Activated;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<Activated, NotEnoughData> {
        let word = |at: usize| {
            let two = data.get(at..).and_then(|rest| rest.first_chunk::<2>());
            two.map(|two| u16::from_le_bytes(*two)).ok_or(NotEnoughData)
        };
        Ok(Activated { inbound: word(4)?, outbound: word(6)?, port: word(8)? })
    }
}

/// Deactivate Payload: SOL, instance 1, whoever has it.
pub struct DeactivateSol;

impl From<DeactivateSol> for Message {
    fn from(_: DeactivateSol) -> Self {
        Message::new_raw(NETFN_APP, DEACTIVATE_PAYLOAD, vec![SOL_PAYLOAD, 1, 0, 0, 0, 0])
    }
}

impl IpmiCommand for DeactivateSol {
    type Output = ();
    type Error = NotEnoughData;
    fn parse_success_response(_: &[u8]) -> Result<(), NotEnoughData> {
        Ok(())
    }
}

/// Get Payload Activation Status, of SOL.
pub struct GetSolStatus;

impl From<GetSolStatus> for Message {
    fn from(_: GetSolStatus) -> Self {
        Message::new_raw(NETFN_APP, GET_PAYLOAD_STATUS, vec![SOL_PAYLOAD])
    }
}

/// Which instances of SOL are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SolStatus {
    /// How many there can be.
    pub capacity: u8,
    /// Bit n: instance n + 1 is active.
    pub active: u16,
}

impl IpmiCommand for GetSolStatus {
    type Output = SolStatus;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<SolStatus, NotEnoughData> {
        let [capacity, low, high, ..] = *data else { return Err(NotEnoughData) };
        Ok(SolStatus { capacity: capacity & 0x0F, active: u16::from_le_bytes([low, high]) })
    }
}

/// Get SOL Configuration Parameters: one parameter of the channel that is asked at.
pub struct GetSolConfig(pub u8);

impl From<GetSolConfig> for Message {
    fn from(command: GetSolConfig) -> Self {
        Message::new_raw(NETFN_TRANSPORT, GET_SOL_CONFIG, vec![THIS_CHANNEL, command.0, 0, 0])
    }
}

impl IpmiCommand for GetSolConfig {
    /// The parameter's bytes.
    type Output = Vec<u8>;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<Vec<u8>, NotEnoughData> {
        data.get(1..).map(<[u8]>::to_vec).filter(|data| !data.is_empty()).ok_or(NotEnoughData)
    }
}

/// Set SOL Configuration Parameters: that it is enabled.
pub struct EnableSol;

impl From<EnableSol> for Message {
    fn from(_: EnableSol) -> Self {
        Message::new_raw(NETFN_TRANSPORT, SET_SOL_CONFIG, vec![THIS_CHANNEL, PARAM_ENABLE, 1])
    }
}

impl IpmiCommand for EnableSol {
    type Output = ();
    type Error = NotEnoughData;
    fn parse_success_response(_: &[u8]) -> Result<(), NotEnoughData> {
        Ok(())
    }
}

/// How often a packet is sent again, and after how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Transmissions after the first.
    pub count: u8,
    /// Wait before each.
    pub interval: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { count: 7, interval: Duration::from_millis(250) }
    }
}

impl Retries {
    /// What parameter [`PARAM_RETRY`] says, kept within what serves a network: BMCs come with intervals of 0 or few
    /// milliseconds, and with no retry at all.
    #[must_use]
    pub fn of_parameter(data: &[u8]) -> Self {
        let [count, interval, ..] = *data else { return Self::default() };
        let interval = Duration::from_millis(u64::from(interval) * 10);
        Self {
            count: (count & 0x07).max(5),
            interval: interval.clamp(Duration::from_millis(100), Duration::from_secs(1)),
        }
    }
}

/// What a packet from the other side brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// New characters.
    pub data: Vec<u8>,
    /// Send this at once.
    pub reply: Option<Vec<u8>>,
    /// [`operation`] or [`condition`] bits.
    pub flags: u8,
}

struct Sent {
    packet: SolPacket,
    tries: u8,
    due: Instant,
}

/// One side of an active SOL payload: one packet is under way at a time (§15.11). The same for console and BMC.
pub struct Line {
    chunk: usize,
    retries: Retries,
    queue: VecDeque<u8>,
    /// Bits for the next packet that is acknowledged.
    flags: u8,
    sent: Option<Sent>,
    last_sent: u8,
    /// Sequence number and length of the packet received last.
    last_heard: Option<(u8, usize)>,
    empty_acks: u8,
    paused: Option<Instant>,
    lost: bool,
}

impl Line {
    /// A payload just activated that takes `chunk` characters at a time.
    #[must_use]
    pub fn new(chunk: usize, retries: Retries) -> Self {
        Self {
            chunk: chunk.clamp(1, MAX_CHUNK),
            retries,
            queue: VecDeque::new(),
            flags: 0,
            sent: None,
            last_sent: 0,
            last_heard: None,
            empty_acks: 0,
            paused: None,
            lost: false,
        }
    }

    /// Queues characters; gives how many there was room for.
    pub fn write(&mut self, data: &[u8]) -> usize {
        let room = MAX_QUEUED.saturating_sub(self.queue.len()).min(data.len());
        self.queue.extend(&data[..room]);
        room
    }

    /// Queues [`operation`] (or, as a BMC, [`condition`]) bits: they go out before the characters that wait.
    pub fn signal(&mut self, flags: u8) {
        self.flags |= flags & !NACK;
    }

    /// Characters that wait or are under way.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len() + self.sent.as_ref().map_or(0, |sent| sent.packet.data.len())
    }

    /// Whether a packet was sent as often as may be and never answered.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// When [`Line::poll`] wants to be called, whatever else happens; `None` while nothing is under way.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match &self.sent {
            Some(sent) => Some(sent.due),
            None if self.queue.is_empty() => None,
            None => self.paused,
        }
    }

    /// The next payload to send, if it is time for one: what waits, or once more what was not answered.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        if let Some(sent) = &mut self.sent {
            if now < sent.due {
                return None;
            }
            if sent.tries >= self.retries.count {
                self.lost = true;
                self.give_back(0);
                return None;
            }
            sent.tries += 1;
            sent.due = now + self.retries.interval;
            return Some(sent.packet.encode());
        }
        if self.paused.is_some_and(|until| now < until) && self.flags == 0 {
            return None;
        }
        self.paused = None;
        if self.lost || (self.queue.is_empty() && self.flags == 0) {
            return None;
        }
        let count = self.chunk.min(self.queue.len());
        let data: Vec<u8> = self.queue.drain(..count).collect();
        self.last_sent = self.last_sent % 15 + 1;
        let flags = std::mem::take(&mut self.flags);
        let packet = SolPacket { sequence: self.last_sent, ack: 0, accepted: 0, nack: false, flags, data };
        let bytes = packet.encode();
        self.sent = Some(Sent { packet, tries: 0, due: now + self.retries.interval });
        Some(bytes)
    }

    /// Puts what was not taken back to the front of what waits.
    fn give_back(&mut self, taken: usize) {
        let Some(sent) = self.sent.take() else { return };
        for byte in sent.packet.data.iter().skip(taken).rev() {
            self.queue.push_front(*byte);
        }
    }

    fn acknowledged(&mut self, now: Instant, packet: &SolPacket) {
        let Some(sent) = &self.sent else { return };
        if packet.ack == 0 || packet.ack != sent.packet.sequence {
            return;
        }
        let (whole, taken) = (sent.packet.data.len(), usize::from(packet.accepted));
        if packet.nack && packet.flags & condition::UNAVAILABLE != 0 {
            // it will say when it can; or it is asked again
            self.paused = Some(now + self.retries.interval);
        }
        if taken >= whole {
            self.empty_acks = 0;
            self.sent = None;
        } else if taken > 0 || packet.nack {
            self.empty_acks = 0;
            self.give_back(taken);
        } else if self.empty_acks + 1 >= EMPTY_ACKS {
            self.sent = None;
        } else {
            self.empty_acks += 1;
            self.give_back(0);
        }
    }

    /// Takes a payload from the other side. A repetition is acknowledged again and gives no character twice.
    pub fn receive(&mut self, now: Instant, payload: &[u8]) -> Result<Heard, Malformed> {
        let packet = SolPacket::decode(payload)?;
        self.acknowledged(now, &packet);
        if packet.sequence == 0 {
            if !packet.nack {
                self.paused = None;
            }
            // characters without a number cannot be acknowledged: none may be there
            return Ok(Heard { flags: packet.flags, ..Heard::default() });
        }
        let len = packet.data.len();
        let (known, flags) = match self.last_heard {
            // what is sent again may have grown meanwhile (§15.11)
            Some((sequence, before)) if sequence == packet.sequence => (before.min(len), 0),
            Some(_) | None => (0, packet.flags),
        };
        self.last_heard = Some((packet.sequence, len));
        let reply = SolPacket {
            sequence: 0,
            ack: packet.sequence,
            accepted: u8::try_from(len).unwrap_or(u8::MAX),
            nack: false,
            flags: 0,
            data: Vec::new(),
        };
        Ok(Heard { data: packet.data[known..].to_vec(), reply: Some(reply.encode()), flags })
    }
}

#[cfg(test)]
mod tests;
