//! Controllers behind a BMC, on its channels, and how it passes commands on.

use std::collections::VecDeque;
use std::sync::Arc;

use ferric_drivers::protocol::ipmi::bridge::{QUEUE_EMPTY, SEND_MESSAGE, TRACK};
use ferric_drivers::protocol::ipmi::command::{CHASSIS_CONTROL, ChassisControl, GET_CHASSIS_STATUS};
use ferric_drivers::protocol::ipmi::packet::{BMC_ADDRESS, Frame};

use super::{Chassis, SimpleChassis};

const APP: u8 = 0x06;
const CHASSIS: u8 = 0x00;
/// Messages that wait to be fetched; the oldest gives way.
const MAX_QUEUE: usize = 16;
/// Nobody acknowledged on the bus.
const NOBODY: u8 = 0x83;

/// How the answer of a controller behind a BMC comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Send Message is acknowledged, and the answer follows as a message of its own.
    Separate,
    /// In the answer to Send Message.
    Inside,
    /// Into a queue that has to be asked; tracking is refused.
    Queue,
}

/// A controller on a channel: a machine, and more controllers behind it.
#[derive(Clone)]
pub struct Behind {
    /// The channel of the controller before it.
    pub channel: u8,
    /// Its address there.
    pub address: u8,
    /// Its machine.
    pub chassis: Arc<dyn Chassis>,
    /// The data of its Get Device ID.
    pub device_id: Vec<u8>,
    /// What is behind it in turn.
    pub behind: Vec<Behind>,
}

impl std::fmt::Debug for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#04x} on channel {}", self.address, self.channel)
    }
}

impl Behind {
    /// A controller with a machine that does as it is told.
    #[must_use]
    pub fn new(channel: u8, address: u8, chassis: Arc<dyn Chassis>) -> Self {
        let device_id = vec![address, 1, 1, 0, 0x02, 0, 0x57, 0x01, 0, 0x48, 0, 0, 0, 0, 0];
        Self { channel, address, chassis, device_id, behind: Vec::new() }
    }

    /// Two blades: one at 0x72 on channel 7, one behind the carrier at 0x82 on channel 0, there 0x74 on channel 7.
    #[must_use]
    pub fn blades() -> Vec<Self> {
        let machine = || -> Arc<dyn Chassis> { Arc::new(SimpleChassis::default()) };
        let mut carrier = Self::new(0, 0x82, machine());
        carrier.behind.push(Self::new(7, 0x74, machine()));
        vec![Self::new(7, 0x72, machine()), carrier]
    }

    /// Its answer to a frame from its bus.
    fn answer(&self, request: &Frame) -> Frame {
        let data = request.message.data();
        let done = |data: &[u8]| request.response(0, data);
        match (request.message.netfn_raw(), request.message.cmd()) {
            (APP, 0x01) => done(&self.device_id),
            (CHASSIS, GET_CHASSIS_STATUS) => done(&[u8::from(self.chassis.power()), 0, 0, 0]),
            (CHASSIS, CHASSIS_CONTROL) => {
                match data.first().and_then(|byte| ChassisControl::from_number(byte & 0x0F)) {
                    Some(control) => {
                        self.chassis.control(control);
                        done(&[])
                    }
                    None => request.response(0xCC, &[]),
                }
            }
            (APP, SEND_MESSAGE) => match pass_on(&self.behind, data) {
                // it has no session to send a second message into: what it hears goes inside
                Ok(answer) => request.response(0, &answer.encode()),
                Err(code) => request.response(code, &[]),
            },
            _ => request.response(0xC1, &[]),
        }
    }
}

/// The answer of the controller that the data of Send Message is for.
fn pass_on(behind: &[Behind], data: &[u8]) -> Result<Frame, u8> {
    let (head, inner) = data.split_first().ok_or(0xC7u8)?;
    let request = Frame::decode(inner).map_err(|_| 0xCCu8)?;
    let there = |one: &&Behind| one.channel == head & 0x0F && one.address == request.to;
    behind.iter().find(there).map(|one| one.answer(&request)).ok_or(NOBODY)
}

/// What a BMC did with Send Message.
pub(super) struct Passed {
    /// Its own answer: completion code and data.
    pub(super) code: u8,
    pub(super) data: Vec<u8>,
    /// A message of its own that follows.
    pub(super) follows: Option<Frame>,
}

/// Carries out Send Message from a console.
pub(super) fn send(
    behind: &[Behind],
    manner: Manner,
    queue: &mut VecDeque<Vec<u8>>,
    console: &Frame,
) -> Passed {
    let data = console.message.data();
    let plain = |code| Passed { code, data: Vec::new(), follows: None };
    let tracked = data.first().is_some_and(|head| head & TRACK != 0);
    if tracked == (manner == Manner::Queue) {
        return plain(0xCC);
    }
    let answer = match pass_on(behind, data) {
        Ok(answer) => answer,
        Err(code) => return plain(code),
    };
    match manner {
        Manner::Inside => Passed { code: 0, data: answer.encode(), follows: None },
        Manner::Separate => {
            let follows = Frame { to: console.from, sequence: console.sequence, ..answer };
            Passed { code: 0, data: Vec::new(), follows: Some(follows) }
        }
        Manner::Queue => {
            if queue.len() == MAX_QUEUE {
                queue.pop_front();
            }
            let whole = Frame { to: BMC_ADDRESS, ..answer }.encode();
            let channel = data.first().map_or(0, |head| head & 0x0F);
            queue.push_back([&[channel], &whole[1..]].concat());
            plain(0)
        }
    }
}

/// Carries out Get Message: completion code and data.
pub(super) fn fetch(queue: &mut VecDeque<Vec<u8>>) -> (u8, Vec<u8>) {
    queue.pop_front().map_or((QUEUE_EMPTY, Vec::new()), |message| (0, message))
}
