//! Bridging: commands to controllers behind a BMC, such as the blades of a chassis (IPMI 2.0 §6.13, §22.6, §22.7).
//!
//! A command is wrapped into Send Message to the BMC, which passes it on over one of its channels; with dual
//! bridging the next controller passes it on once more. How the answer comes back differs: inside the answer to Send
//! Message, as a message of its own, or, where the BMC keeps no track of what it passed on, into a queue that has to
//! be asked.

use ipmi_rs_core::connection::{Message, NetFn};

use super::packet::{BMC_ADDRESS, Frame};

/// Number of Get Message.
pub const GET_MESSAGE: u8 = 0x33;
/// Number of Send Message.
pub const SEND_MESSAGE: u8 = 0x34;
/// The BMC is to remember whom the answer is for.
pub const TRACK: u8 = 0x40;
/// Get Message: the queue is empty.
pub const QUEUE_EMPTY: u8 = 0x80;

/// Address of the queue for system software on a BMC: its logical unit.
const QUEUE_LUN: u8 = 2;
const APP_RESPONSE: u8 = 0x07;

/// A controller on a channel of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The channel, 0 to 15.
    pub channel: u8,
    /// The controller's address on it.
    pub address: u8,
}

/// The way to a controller behind a BMC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bridge {
    /// The address that we have on those channels (`ipmi_local_address`).
    pub local: u8,
    /// With dual bridging, the controller in between.
    pub transit: Option<Hop>,
    /// The controller meant.
    pub target: Hop,
}

impl Bridge {
    /// The local address where none is given, as `ipmitool` has it: the BMC's.
    pub const LOCAL: u8 = BMC_ADDRESS;

    /// Send Message for the BMC. `sequence` must be that of the frame that carries it.
    #[must_use]
    pub fn wrap(&self, sequence: u8, message: Message, tracked: bool) -> Message {
        let frame = |to: u8, message| Frame { to, from: self.local, sequence, message };
        let mut inner = frame(self.target.address, message).encode();
        if let Some(transit) = self.transit {
            let middle = send(self.target.channel | TRACK, inner);
            inner = frame(transit.address, middle).encode();
        }
        let channel = self.transit.unwrap_or(self.target).channel;
        if tracked {
            return send(channel | TRACK, inner);
        }
        // the answer goes to the address in the frame: the BMC's queue
        inner[4] |= QUEUE_LUN;
        let last = inner.len() - 1;
        inner[last] = inner[last].wrapping_sub(QUEUE_LUN);
        send(channel, inner)
    }
}

fn send(channel: u8, inner: Vec<u8>) -> Message {
    let mut data = Vec::with_capacity(1 + inner.len());
    data.push(channel);
    data.extend(inner);
    Message::new_request(NetFn::App, SEND_MESSAGE, data)
}

/// What an answer in the session means for a command that was passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It has nothing to do with it.
    Other,
    /// It was passed on; the answer comes later.
    PassedOn,
    /// A controller on the way could not pass it on.
    Refused(u8),
    /// The answer: completion code and data.
    Answer(u8, Vec<u8>),
}

/// A command on its way, told by its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    sequence: u8,
    net_fn: u8,
    command: u8,
}

impl Pending {
    /// Of the inner message, as it was wrapped.
    #[must_use]
    pub fn new(sequence: u8, message: &Message) -> Self {
        Self { sequence: sequence & 0x3F, net_fn: message.netfn_raw() + 1, command: message.cmd() }
    }

    /// Looks at a frame of the session.
    #[must_use]
    pub fn hear(&self, frame: &Frame) -> Heard {
        let number = (frame.message.netfn_raw(), frame.message.cmd());
        let Some((code, data)) = frame.message.data().split_first() else { return Heard::Other };
        if frame.sequence != self.sequence {
            return Heard::Other;
        }
        if number == (self.net_fn, self.command) {
            return Heard::Answer(*code, data.to_vec());
        }
        if number != (APP_RESPONSE, SEND_MESSAGE) {
            return Heard::Other;
        }
        match (*code, data) {
            (0, []) => Heard::PassedOn,
            // frames lie inside each other at most twice, and each is shorter than the one around it
            (0, inner) => Frame::decode(inner).map_or(Heard::PassedOn, |inner| self.hear(&inner)),
            (code, _) => Heard::Refused(code),
        }
    }

    /// Looks at the data of a successful Get Message: the channel, then a frame without the address it is to.
    #[must_use]
    pub fn fetched(&self, data: &[u8]) -> Heard {
        let Some((_, rest)) = data.split_first() else { return Heard::Other };
        let mut frame = Vec::with_capacity(1 + rest.len());
        frame.push(BMC_ADDRESS);
        frame.extend_from_slice(rest);
        Frame::decode(&frame).map_or(Heard::Other, |frame| self.hear(&frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINGLE: Bridge = Bridge { local: 0x20, transit: None, target: Hop { channel: 7, address: 0x72 } };

    fn status() -> Message {
        Message::new_request(NetFn::Chassis, 1, vec![])
    }

    #[test]
    fn one_hop_and_two_are_wrapped_as_ipmitool_wraps_them() {
        let inner = Frame { to: 0x72, from: 0x20, sequence: 5, message: status() }.encode();
        let one = SINGLE.wrap(5, status(), true);
        assert_eq!((one.cmd(), one.data()[0]), (SEND_MESSAGE, 0x47));
        assert_eq!(&one.data()[1..], inner);
        let dual = Bridge { transit: Some(Hop { channel: 0, address: 0x82 }), ..SINGLE };
        let two = dual.wrap(5, status(), true);
        assert_eq!(two.data()[0], 0x40);
        let middle = Frame::decode(&two.data()[1..]).unwrap();
        assert_eq!((middle.to, middle.from, middle.sequence, &middle.message), (0x82, 0x20, 5, &one));
        let untracked = SINGLE.wrap(5, status(), false);
        assert_eq!((untracked.data()[0], untracked.data()[5]), (7, 5 << 2 | 2));
        assert!(Frame::decode(&untracked.data()[1..]).is_ok(), "the checksum follows");
    }

    #[test]
    fn answers_are_known_in_every_form_and_others_are_not() {
        let pending = Pending::new(5, &status());
        let outer = Frame::request(5, SINGLE.wrap(5, status(), true));
        let answer = Frame { to: 0x72, from: 0x20, sequence: 5, message: status() }.response(0, &[1, 0, 0]);
        let wanted = Heard::Answer(0, vec![1, 0, 0]);
        assert_eq!(pending.hear(&outer.response(0, &[])), Heard::PassedOn);
        assert_eq!(pending.hear(&answer), wanted, "of its own");
        assert_eq!(pending.hear(&outer.response(0, &answer.encode())), wanted, "inside");
        let twice = outer.response(0, &outer.response(0, &answer.encode()).encode());
        assert_eq!(pending.hear(&twice), wanted, "inside twice");
        assert_eq!(pending.fetched(&[&[7][..], &answer.encode()[1..]].concat()), wanted, "from the queue");
        assert_eq!(pending.hear(&outer.response(0x83, &[])), Heard::Refused(0x83));
        assert_eq!(pending.hear(&Frame { sequence: 6, ..answer }), Heard::Other);
        assert_eq!(pending.fetched(&[]), Heard::Other);
    }
}
