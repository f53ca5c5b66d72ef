//! Serial over LAN on the BMC's side: the commands, the payload's state, and what is at the other end of the line.

mod toy;
mod unix;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferric_drivers::protocol::ipmi::sol::{
    ACTIVATE_PAYLOAD, Activated, DEACTIVATE_PAYLOAD, GET_INSTANCE_INFO, GET_PAYLOAD_STATUS, GET_SOL_CONFIG,
    Line, NETFN_APP, NETFN_TRANSPORT, PARAM_ENABLE, PARAM_RETRY, Retries, SET_SOL_CONFIG, SOL_PAYLOAD,
    SolPacket, condition, operation, refusal,
};
use tokio::sync::{Notify, mpsc};

pub use self::toy::ToyMachine;
pub use self::unix::UnixSerial;

/// Characters that one packet may have, in either direction.
const CHUNK: u16 = 128;
/// How often a BMC with an active line looks for what has to be sent again.
pub(super) const TICK: Duration = Duration::from_millis(50);
const ADMINISTRATOR: u8 = 4;

/// What goes to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SerialIn {
    /// Characters.
    Bytes(Vec<u8>),
    /// A break.
    Break,
}

/// Where the machine's characters go.
pub struct SerialOut {
    sender: mpsc::Sender<Vec<u8>>,
    wake: Arc<Notify>,
}

impl SerialOut {
    /// Sends characters; waits while the line is slow. `false`: nobody is there any more.
    pub async fn send(&self, data: impl Into<Vec<u8>>) -> bool {
        let sent = self.sender.send(data.into()).await.is_ok();
        self.wake.notify_one();
        sent
    }

    /// Whether somebody is still there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// What is at the other end of a BMC's serial line.
pub trait Serial: Send + Sync {
    /// Somebody connects to it, by `out` and the returned sender, until either is dropped. Called within a tokio
    /// runtime; must not block.
    fn connect(&self, out: SerialOut) -> mpsc::Sender<SerialIn>;
}

struct Active {
    /// The session that has it.
    owner: u32,
    peer: SocketAddr,
    line: Line,
    from_machine: mpsc::Receiver<Vec<u8>>,
    to_machine: mpsc::Sender<SerialIn>,
    /// Read from the machine and not yet taken by the line.
    waiting: Vec<u8>,
}

/// A SOL payload that wants to be sealed and sent.
pub(super) struct Outgoing {
    pub(super) session: u32,
    pub(super) peer: SocketAddr,
    pub(super) payload: Vec<u8>,
}

/// The SOL of one BMC.
pub(super) struct Sol {
    serial: Arc<dyn Serial>,
    wake: Arc<Notify>,
    pub(super) enabled: bool,
    retry: [u8; 2],
    port: u16,
    active: Option<Active>,
    /// It is active, and nobody knows whose it is any more.
    phantom: bool,
    farewell: Vec<Outgoing>,
}

impl Sol {
    pub(super) fn new(serial: Arc<dyn Serial>) -> Self {
        Self {
            serial,
            wake: Arc::default(),
            enabled: true,
            retry: [7, 10],
            port: 623,
            active: None,
            phantom: false,
            farewell: Vec::new(),
        }
    }

    pub(super) fn set_serial(&mut self, serial: Arc<dyn Serial>) {
        self.serial = serial;
    }

    /// The UDP port that the BMC is at.
    pub(super) fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    /// Rings when there may be something to send.
    pub(super) fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    pub(super) fn is_active(&self) -> bool {
        self.phantom || self.active.is_some()
    }

    /// Whether there may be something to say that nobody asked for.
    pub(super) fn may_speak(&self) -> bool {
        self.active.is_some() || !self.farewell.is_empty()
    }

    /// The session that has the line.
    pub(super) fn owner(&self) -> Option<u32> {
        self.active.as_ref().map(|active| active.owner)
    }

    /// It is active, and whose it is nobody knows any more.
    pub(super) fn occupy(&mut self) {
        self.phantom = true;
    }

    /// A session is gone, and so is its line.
    pub(super) fn session_ended(&mut self, session: u32) {
        if self.owner() == Some(session) {
            self.active = None;
        }
    }

    /// A restart of the BMC.
    pub(super) fn forget(&mut self) {
        self.active = None;
        self.phantom = false;
        self.farewell.clear();
    }

    /// The machine lost power and the BMC ends the line, as some do.
    pub(super) fn drop_line(&mut self) {
        if let Some(active) = self.active.take() {
            self.say_goodbye(active.owner, active.peer);
        }
    }

    fn say_goodbye(&mut self, session: u32, peer: SocketAddr) {
        let packet = SolPacket {
            sequence: 0,
            ack: 0,
            accepted: 0,
            nack: false,
            flags: condition::DEACTIVATED,
            data: Vec::new(),
        };
        self.farewell.push(Outgoing { session, peer, payload: packet.encode() });
        self.wake.notify_one();
    }

    fn begin(&mut self, owner: u32, peer: SocketAddr) {
        let retries = Retries::of_parameter(&self.retry);
        let (sender, from_machine) = mpsc::channel(16);
        let out = SerialOut { sender, wake: self.wake.clone() };
        let to_machine = self.serial.connect(out);
        let open = to_machine.downgrade();
        self.active = Some(Active {
            owner,
            peer,
            line: Line::new(CHUNK.into(), retries),
            from_machine,
            to_machine,
            waiting: Vec::new(),
        });
        // rings for as long as this line is active, so that idle BMCs have no timer
        let wake = self.wake.clone();
        tokio::spawn(async move {
            while open.upgrade().is_some() {
                tokio::time::sleep(TICK).await;
                wake.notify_one();
            }
        });
    }

    /// Carries out a command at `level`; `None` when it is none of SOL's. The error is a completion code.
    pub(super) fn command(
        &mut self,
        (net_fn, command): (u8, u8),
        data: &[u8],
        (session, level, peer): (u32, u8, SocketAddr),
        lives: impl Fn(u32) -> bool,
    ) -> Option<Result<Vec<u8>, u8>> {
        match (net_fn, command) {
            (NETFN_APP, ACTIVATE_PAYLOAD) => Some(self.activate(data, session, peer, lives)),
            (NETFN_APP, DEACTIVATE_PAYLOAD) => Some(self.deactivate(data, session)),
            (NETFN_APP, GET_PAYLOAD_STATUS) => Some(match data {
                [SOL_PAYLOAD, ..] => Ok(vec![1, u8::from(self.is_active()), 0]),
                [_, ..] => Ok(vec![0, 0, 0]),
                [] => Err(0xC7),
            }),
            (NETFN_APP, GET_INSTANCE_INFO) => Some(match data {
                [SOL_PAYLOAD, 1, ..] => {
                    let mut info = self.owner().unwrap_or(0).to_le_bytes().to_vec();
                    info.extend([0; 8]);
                    Ok(info)
                }
                [_, _, ..] => Err(0xCC),
                [..] => Err(0xC7),
            }),
            (NETFN_TRANSPORT, GET_SOL_CONFIG) => Some(self.get(data)),
            (NETFN_TRANSPORT, SET_SOL_CONFIG) if level < ADMINISTRATOR => Some(Err(0xD4)),
            (NETFN_TRANSPORT, SET_SOL_CONFIG) => Some(self.set(data)),
            _ => None,
        }
    }

    fn activate(
        &mut self,
        data: &[u8],
        session: u32,
        peer: SocketAddr,
        lives: impl Fn(u32) -> bool,
    ) -> Result<Vec<u8>, u8> {
        match data {
            [SOL_PAYLOAD, 1, _, _, _, _, ..] => {}
            [SOL_PAYLOAD, _, _, _, _, _, ..] => return Err(refusal::LIMIT),
            [_, _, _, _, _, _, ..] => return Err(0xCC),
            [..] => return Err(0xC7),
        }
        if !self.enabled {
            return Err(refusal::DISABLED);
        }
        if self.phantom || self.active.as_ref().is_some_and(|active| lives(active.owner)) {
            return Err(refusal::ALREADY_ACTIVE);
        }
        self.begin(session, peer);
        Ok(Activated { inbound: CHUNK + 4, outbound: CHUNK + 4, port: self.port }.encode())
    }

    fn deactivate(&mut self, data: &[u8], session: u32) -> Result<Vec<u8>, u8> {
        match data {
            [SOL_PAYLOAD, 1, ..] => {}
            [_, _, ..] => return Err(0xCC),
            [..] => return Err(0xC7),
        }
        if std::mem::take(&mut self.phantom) {
            return Ok(Vec::new());
        }
        let Some(active) = self.active.take() else { return Err(refusal::ALREADY_ACTIVE) };
        if active.owner != session {
            self.say_goodbye(active.owner, active.peer);
        }
        Ok(Vec::new())
    }

    fn get(&self, data: &[u8]) -> Result<Vec<u8>, u8> {
        const REVISION: u8 = 0x11;
        let [channel, parameter, ..] = *data else { return Err(0xC7) };
        if channel & 0x80 != 0 {
            return Ok(vec![REVISION]);
        }
        let mut out = vec![REVISION];
        match parameter {
            0 => out.push(0),
            PARAM_ENABLE => out.push(u8::from(self.enabled)),
            2 => out.push(0x02),
            3 => out.extend([10, 96]),
            PARAM_RETRY => out.extend(self.retry),
            // 115.2 kbit/s
            5 | 6 => out.push(0x0A),
            7 => out.push(1),
            8 => out.extend(self.port.to_le_bytes()),
            _ => return Err(0x80),
        }
        Ok(out)
    }

    fn set(&mut self, data: &[u8]) -> Result<Vec<u8>, u8> {
        match *data {
            [_, PARAM_ENABLE, value, ..] => self.enabled = value & 1 != 0,
            [_, PARAM_RETRY, count, interval, ..] => self.retry = [count & 7, interval],
            [_, 0 | 2 | 3 | 5 | 6, _, ..] => {}
            [_, 7 | 8, _, ..] => return Err(0x82),
            [_, _, _, ..] => return Err(0x80),
            [..] => return Err(0xC7),
        }
        Ok(Vec::new())
    }

    /// A payload of a session; gives what is to be said to it at once.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        session: u32,
        peer: SocketAddr,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let Some(active) = self.active.as_mut().filter(|active| active.owner == session) else {
            self.say_goodbye(session, peer);
            return None;
        };
        active.peer = peer;
        let heard = active.line.receive(now, payload).ok()?;
        if heard.flags & operation::BREAK != 0 {
            let _ = active.to_machine.try_send(SerialIn::Break);
        }
        if !heard.data.is_empty() {
            // a machine that does not listen loses what is typed, as a UART does
            let _ = active.to_machine.try_send(SerialIn::Bytes(heard.data));
        }
        self.wake.notify_one();
        heard.reply
    }

    /// What is to be sent now.
    pub(super) fn outgoing(&mut self, now: Instant) -> Vec<Outgoing> {
        let mut all = std::mem::take(&mut self.farewell);
        let Some(active) = &mut self.active else { return all };
        loop {
            let taken = active.line.write(&active.waiting);
            active.waiting.drain(..taken);
            if !active.waiting.is_empty() {
                break;
            }
            match active.from_machine.try_recv() {
                Ok(data) => active.waiting = data,
                Err(_) => break,
            }
        }
        let session = active.owner;
        while let Some(payload) = active.line.poll(now) {
            all.push(Outgoing { session, peer: active.peer, payload });
        }
        if active.line.is_lost() {
            // nobody acknowledges: characters are lost, the payload stays until its session ends
            active.line = Line::new(CHUNK.into(), Retries::of_parameter(&self.retry));
        }
        all
    }
}
