//! The way to one BMC: its session, and one exchange at a time. How a session comes to be is in [`super::opening`].

use std::net::SocketAddr;
use std::time::Duration;

use ipmi_rs_core::connection::{Message, NetFn};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::bridge::{Bridge, GET_MESSAGE, Heard, Pending, QUEUE_EMPTY};
use super::command::{
    BootFlags, BootOption, CHASSIS_CONTROL, ChassisControl, CloseSession, GET_CHASSIS_STATUS,
    SET_BOOT_OPTIONS,
};
use super::crypto::CipherSuite;
use super::error::{IpmiError, names};
use super::handshake::Login;
use super::mux::Mux;
use super::opening::{Open, hello};
use super::packet::{Datagram, Frame};
use super::quirks::{Change, Identity, Quirks};
use super::settings::{IpmiSettings, Target};
use crate::metrics::{METRICS, OpenSession};

/// Transmissions in a session that may have been forgotten, before a new one is opened.
const TRIES_IN_OLD_SESSION: u32 = 2;
/// The command that every BMC answers and that does nothing.
const GET_DEVICE_ID: u8 = 0x01;
/// Transmissions of Close Session.
const TRIES_TO_CLOSE: u32 = 3;
/// Given-up sessions that are remembered.
const MAX_LEFTOVER: usize = 4;
/// Controllers behind one BMC that are remembered.
const MAX_BEHIND: usize = 64;
/// A BMC that answers outside of a session has so long for an answer inside, before the session counts as lost.
const GRACE: Duration = Duration::from_millis(100);
/// Completion codes by which a BMC says that it does not keep track of what it passes on.
const UNTRACKED: [u8; 2] = [0xCC, 0xC9];

pub(super) fn random<const N: usize>() -> Result<[u8; N], IpmiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| IpmiError::Socket(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

/// An open session and whose it is.
pub(super) struct Live {
    pub(super) session: Open,
    pub(super) login: Login,
    /// Counts it for as long as it is open.
    pub(super) _counted: OpenSession,
}

/// What every step of an exchange needs.
pub(super) struct Way<'a> {
    pub(super) mux: &'a Mux,
    pub(super) settings: &'a IpmiSettings,
    pub(super) target: &'a Target,
}

/// What is known of a controller: the BMC, or one behind it.
struct Known {
    bridge: Option<Bridge>,
    /// `None` when it does not tell.
    identity: Option<Identity>,
    /// It was asked in this session; in an earlier one, other firmware may have answered.
    fresh: bool,
    /// Until then it is not believed about the power.
    unsettled: Option<Instant>,
    /// The boot flags set last that are to outlive a start.
    lasting: Option<BootFlags>,
    /// Others were set since, for the next start alone.
    once: bool,
}

pub(super) struct Lane {
    peer: SocketAddr,
    inbox: mpsc::Receiver<Box<[u8]>>,
    pub(super) live: Option<Live>,
    /// The suite that worked last.
    pub(super) suite: Option<CipherSuite>,
    used: Option<Instant>,
    /// When the last command was asked for: what keeps the session open is none.
    asked: Option<Instant>,
    /// Least time from one command to the next.
    spacing: Duration,
    sequence: u8,
    /// Sessions that the BMC may still hold although we gave them up.
    leftover: Vec<u32>,
    /// The BMC and the controllers behind it, as far as they were asked.
    known: Vec<Known>,
    /// It keeps no track of what it passes on.
    untracked: bool,
    /// It was warned of that the password is readable on the way.
    pub(super) readable: bool,
}

impl Lane {
    pub(super) fn new(peer: SocketAddr, mux: &Mux) -> Self {
        Self {
            peer,
            inbox: mux.register(peer),
            live: None,
            suite: None,
            used: None,
            asked: None,
            spacing: Duration::ZERO,
            sequence: 0,
            leftover: Vec::new(),
            known: Vec::new(),
            untracked: false,
            readable: false,
        }
    }

    fn entry(&self, target: &Target) -> Option<&Known> {
        self.known.iter().find(|known| known.bridge == target.bridge)
    }

    fn entry_mut(&mut self, target: &Target) -> &mut Known {
        if let Some(at) = self.known.iter().position(|known| known.bridge == target.bridge) {
            return &mut self.known[at];
        }
        if self.known.len() == MAX_BEHIND {
            self.known.remove(0);
        }
        let new = Known {
            bridge: target.bridge,
            identity: None,
            fresh: false,
            unsettled: None,
            lasting: None,
            once: false,
        };
        self.known.push(new);
        self.known.last_mut().expect("just pushed")
    }

    /// Whether the controller was asked who it is in this session.
    pub(super) fn knows(&self, target: &Target) -> bool {
        self.entry(target).is_some_and(|known| known.fresh)
    }

    /// It said who it is.
    pub(super) fn met(&mut self, target: &Target, identity: Option<Identity>) {
        let known = self.entry_mut(target);
        (known.identity, known.fresh) = (identity, true);
    }

    /// A new session: what answers may have changed.
    pub(super) fn renewed(&mut self) {
        self.known.iter_mut().for_each(|known| known.fresh = false);
    }

    /// How to treat it, as far as it is known.
    pub(super) fn quirks(&self, target: &Target) -> Quirks {
        let identity = self.entry(target).and_then(|known| known.identity);
        Quirks::find(identity.as_ref(), target.vendor.as_deref(), &target.quirks)
    }

    /// When this question may be asked: what a BMC says about power shortly after a change is not believed.
    pub(super) fn not_before(&self, target: &Target, message: &Message) -> Option<Instant> {
        let asks =
            (message.netfn_raw(), message.cmd()) == (NetFn::Chassis.request_value(), GET_CHASSIS_STATUS);
        let until = self.entry(target).filter(|_| asks).and_then(|known| known.unsettled);
        until.filter(|until| *until > Instant::now())
    }

    /// Sends a command and gives the data of its answer, without the completion code.
    pub(super) async fn run(
        &mut self,
        way: &Way<'_>,
        message: Message,
        deadline: Instant,
    ) -> Result<Vec<u8>, IpmiError> {
        self.asked = Some(Instant::now());
        if let Some(flags) = self.forced(way.target, &message) {
            // for every start anew; what it says of it decides nothing
            self.spacing = interval(way, &self.quirks(way.target));
            let option = BootOption::Flags(flags).into();
            self.run_once(way, option, deadline).await?;
        }
        let mut pause = way.settings.retransmit_first;
        loop {
            let quirks = self.quirks(way.target);
            self.spacing = interval(way, &quirks);
            match self.run_once(way, message.clone(), deadline).await? {
                (0, data) => {
                    if let Some(control) = control(&message) {
                        let settle = quirks.settle(control);
                        let until = (!settle.is_zero()).then(|| Instant::now() + settle);
                        self.entry_mut(way.target).unsettled = until;
                    }
                    self.remember(way.target, &message);
                    return Ok(data);
                }
                (code, _) => {
                    let again = Instant::now() + pause;
                    if !passes(code, way, &quirks) || again >= deadline {
                        return Err(IpmiError::Completion(code));
                    }
                    tracing::debug!(peer = %self.peer, code, "again, after a pause");
                    sleep_until(again).await;
                    pause = (pause * 2).min(way.settings.retransmit_max);
                }
            }
        }
    }

    /// The boot flags that have to go before a command that starts the machine, for a BMC that forgets them.
    fn forced(&self, target: &Target, message: &Message) -> Option<BootFlags> {
        let known = self.entry(target).filter(|known| starts(message) && !known.once)?;
        known.lasting.filter(|_| self.quirks(target).force_boot_device)
    }

    /// Keeps in mind which boot flags are to hold.
    fn remember(&mut self, target: &Target, message: &Message) {
        const FLAGS: u8 = 5;
        if starts(message) {
            self.entry_mut(target).once = false;
        }
        let number = (message.netfn_raw(), message.cmd());
        if let ((0, SET_BOOT_OPTIONS), &[FLAGS, a, b, c, d, e]) = (number, message.data()) {
            let flags = BootFlags::decode([a, b, c, d, e]);
            let known = self.entry_mut(target);
            known.once = flags.valid && !flags.persistent;
            if !known.once {
                known.lasting = Some(flags).filter(|flags| flags.valid);
            }
        }
    }

    async fn run_once(
        &mut self,
        way: &Way<'_>,
        message: Message,
        deadline: Instant,
    ) -> Result<(u8, Vec<u8>), IpmiError> {
        let same = |live: &Live| live.login == way.target.login && live.session.suits(way.target);
        if self.live.as_ref().is_some_and(|live| !same(live)) {
            self.close(way.mux, way.settings).await;
        }
        if self.live.is_some() {
            let old = if only_once(&message) {
                // what was carried out and not answered would be carried out again in a new session
                let alive = Message::new_request(NetFn::App, GET_DEVICE_ID, Vec::new());
                match self.exchange(way.mux, way.settings, alive, deadline, TRIES_IN_OLD_SESSION).await {
                    Ok(_) => return self.ask(way, message, deadline, u32::MAX).await,
                    Err(error) => Err(error),
                }
            } else {
                self.ask(way, message.clone(), deadline, TRIES_IN_OLD_SESSION).await
            };
            match old {
                // it may have been silent for another reason: its slot must not stay taken
                Err(IpmiError::Silent(_)) => {
                    self.leftover.extend(self.live.take().map(|live| live.session.remote_id()));
                }
                other => return other,
            }
        }
        while let Err(error) = self.open(way, deadline).await {
            // BMCs drop sessions that nobody uses, those of a process that was killed included
            let again = Instant::now() + way.settings.retransmit_max;
            if !matches!(error, IpmiError::NoFreeSession(_)) || again >= deadline {
                return Err(error);
            }
            tracing::debug!(peer = %self.peer, %error, "waiting for a session");
            sleep_until(again).await;
        }
        self.close_leftovers(way.mux, way.settings, deadline).await;
        self.ask(way, message, deadline, u32::MAX).await
    }

    /// Closes what the BMC may still hold of earlier sessions. Any answer will do: it is closed, or unknown.
    async fn close_leftovers(&mut self, mux: &Mux, settings: &IpmiSettings, deadline: Instant) {
        while let Some(id) = self.leftover.pop() {
            let closed =
                self.exchange(mux, settings, CloseSession(id).into(), deadline, TRIES_TO_CLOSE).await;
            if closed.is_err() {
                // the next session tries again; beyond a few, the BMC's own time-out has to do
                self.leftover.truncate(MAX_LEFTOVER - 1);
                self.leftover.push(id);
                return;
            }
        }
    }

    /// Closes the session, if there is one. Waits for the answer for as long as a few transmissions take.
    pub(super) async fn close(&mut self, mux: &Mux, settings: &IpmiSettings) {
        if let Some(id) = self.live.as_ref().map(|live| live.session.remote_id()) {
            let deadline = Instant::now() + settings.retransmit_max * 2;
            self.close_leftovers(mux, settings, deadline).await;
            let message = CloseSession(id).into();
            if let Err(error) = self.exchange(mux, settings, message, deadline, TRIES_TO_CLOSE).await {
                tracing::debug!(peer = %self.peer, %error, "session not closed");
            }
        }
        self.live = None;
    }

    /// Whether the next command is expected soon enough for the session to be kept open until then.
    pub(super) fn is_expected(&self, settings: &IpmiSettings) -> bool {
        let soon = self.asked.is_some_and(|asked| asked.elapsed() < settings.session_kept);
        soon && self.spacing.is_zero()
    }

    /// Keeps the session open by a question that does nothing; one that the BMC does not answer is given up.
    pub(super) async fn keep(&mut self, mux: &Mux, settings: &IpmiSettings) {
        let alive = Message::new_request(NetFn::App, GET_DEVICE_ID, Vec::new());
        let deadline = Instant::now() + settings.retransmit_max;
        if self.exchange(mux, settings, alive, deadline, TRIES_IN_OLD_SESSION).await.is_err() {
            self.leftover.extend(self.live.take().map(|live| live.session.remote_id()));
            self.leftover.truncate(MAX_LEFTOVER);
        }
    }

    /// Whether there is a session that nobody used for so long.
    pub(super) fn is_idle(&self, limit: Duration) -> bool {
        self.live.is_some() && self.used.is_none_or(|used| used.elapsed() >= limit)
    }

    /// Drops what came and was not looked at.
    pub(super) fn forget_received(&mut self) {
        while self.inbox.try_recv().is_ok() {}
    }

    /// The next datagram of this BMC, `None` at `until`.
    pub(super) async fn receive(&mut self, until: Instant) -> Option<Box<[u8]>> {
        match timeout_at(until, self.inbox.recv()).await {
            Ok(Some(datagram)) => Some(datagram),
            // the route is gone: as good as silence, but never a busy loop
            Ok(None) => {
                sleep_until(until).await;
                None
            }
            Err(_) => None,
        }
    }

    pub(super) async fn send(&self, mux: &Mux, datagram: &[u8]) -> Result<(), IpmiError> {
        mux.send(self.peer, datagram).await.map_err(|error| IpmiError::Socket(error.to_string()))
    }

    pub(super) async fn send_and_forget(&mut self, mux: &Mux, message: Message) -> Result<(), IpmiError> {
        let sequence = self.next_sequence();
        let Some(live) = &mut self.live else { return Ok(()) };
        let datagram = live.session.seal(&Frame::request(sequence, message).encode())?;
        self.send(mux, &datagram).await
    }

    fn next_sequence(&mut self) -> u8 {
        self.sequence = (self.sequence + 1) & 0x3F;
        self.sequence
    }

    /// Asks the BMC, or the controller behind it.
    async fn ask(
        &mut self,
        way: &Way<'_>,
        message: Message,
        deadline: Instant,
        tries: u32,
    ) -> Result<(u8, Vec<u8>), IpmiError> {
        let Some(bridge) = way.target.bridge else {
            return self.exchange(way.mux, way.settings, message, deadline, tries).await;
        };
        loop {
            let sequence = self.next_sequence();
            let pending = Pending::new(sequence, &message);
            let outer = bridge.wrap(sequence, message.clone(), !self.untracked);
            let wanted = Wanted::Behind { pending, queued: self.untracked };
            let heard =
                self.transact(way.mux, way.settings, sequence, outer, wanted, deadline, tries).await?;
            match heard {
                Heard::Answer(code, data) => return Ok((code, data)),
                Heard::PassedOn | Heard::Other => return self.fetch(way, pending, deadline).await,
                Heard::Refused(code) if !self.untracked && UNTRACKED.contains(&code) => self.untracked = true,
                Heard::Refused(code) if passes(code, way, &self.quirks(way.target)) => {
                    return Ok((code, Vec::new()));
                }
                Heard::Refused(code) => return Err(IpmiError::Bridge(code)),
            }
        }
    }

    /// Asks the BMC's queue until the answer is there.
    async fn fetch(
        &mut self,
        way: &Way<'_>,
        pending: Pending,
        deadline: Instant,
    ) -> Result<(u8, Vec<u8>), IpmiError> {
        let begun = Instant::now();
        let mut pause = GRACE / 5;
        loop {
            let message = Message::new_request(NetFn::App, GET_MESSAGE, Vec::new());
            match self.exchange(way.mux, way.settings, message, deadline, u32::MAX).await? {
                (0, data) => {
                    if let Heard::Answer(code, data) = pending.fetched(&data) {
                        return Ok((code, data));
                    }
                }
                (QUEUE_EMPTY, _) => {
                    let again = Instant::now() + pause;
                    if again >= deadline {
                        return Err(IpmiError::Silent(begun.elapsed()));
                    }
                    sleep_until(again).await;
                    pause = (pause * 2).min(way.settings.retransmit_first);
                }
                (code, _) => return Err(IpmiError::Bridge(code)),
            }
        }
    }

    /// One request to the BMC itself and its answer in the open session: completion code and data. Transmits at
    /// most `tries` times, each with the same request number and a new packet number.
    pub(super) async fn exchange(
        &mut self,
        mux: &Mux,
        settings: &IpmiSettings,
        message: Message,
        deadline: Instant,
        tries: u32,
    ) -> Result<(u8, Vec<u8>), IpmiError> {
        let sequence = self.next_sequence();
        let request = Frame::request(sequence, message.clone());
        let wanted = Wanted::Own(request);
        match self.transact(mux, settings, sequence, message, wanted, deadline, tries).await? {
            Heard::Answer(code, data) => Ok((code, data)),
            Heard::Other | Heard::PassedOn | Heard::Refused(_) => Err(IpmiError::Short),
        }
    }

    #[allow(clippy::too_many_arguments)] // two callers, and each of these is one of its own
    async fn transact(
        &mut self,
        mux: &Mux,
        settings: &IpmiSettings,
        sequence: u8,
        message: Message,
        wanted: Wanted,
        deadline: Instant,
        tries: u32,
    ) -> Result<Heard, IpmiError> {
        if let Some(used) = self.used {
            sleep_until((used + self.spacing).min(deadline)).await;
        }
        let heard = self.transmit(mux, settings, sequence, message, wanted, deadline, tries).await;
        self.used = Some(Instant::now());
        heard
    }

    #[allow(clippy::too_many_arguments)] // of one caller
    async fn transmit(
        &mut self,
        mux: &Mux,
        settings: &IpmiSettings,
        sequence: u8,
        message: Message,
        wanted: Wanted,
        deadline: Instant,
        tries: u32,
    ) -> Result<Heard, IpmiError> {
        let begun = Instant::now();
        // a change of the power may take its time; whoever else is silent is asked whether it is there
        let probing = tries == TRIES_IN_OLD_SESSION && control(&message).is_none();
        let bytes = Frame::request(sequence, message).encode();
        let mut wait = settings.retransmit_first;
        for attempt in 0..tries {
            let Some(live) = &mut self.live else { break };
            let datagram = live.session.seal(&bytes)?;
            self.send(mux, &datagram).await?;
            if attempt > 0 {
                METRICS.ipmi_retransmissions.inc();
            }
            if probing
                && attempt > 0
                && let Some(hello) = hello()
            {
                self.send(mux, &hello).await?;
            }
            let mut until = (Instant::now() + wait).min(deadline);
            while let Some(datagram) = self.receive(until).await {
                let Some(live) = &mut self.live else { break };
                if let Some(frame) = live.session.read(&datagram) {
                    match wanted.hear(&frame) {
                        Heard::Other => {}
                        heard @ (Heard::PassedOn | Heard::Refused(_) | Heard::Answer(..)) => {
                            return Ok(heard);
                        }
                    }
                } else if probing && attempt > 0 && is_sessionless(&datagram) {
                    // it is there, and says nothing in this session: it was restarted
                    until = until.min(Instant::now() + GRACE);
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            wait = (wait * 2).min(settings.retransmit_max);
        }
        Err(IpmiError::Silent(begun.elapsed()))
    }
}

fn is_sessionless(datagram: &[u8]) -> bool {
    matches!(Datagram::decode(datagram), Ok(Datagram::Sessionless(_)))
}

/// Whose answer is waited for.
enum Wanted {
    /// The BMC's own.
    Own(Frame),
    /// That of a controller behind it; with `queued` only whether it was passed on.
    Behind { pending: Pending, queued: bool },
}

impl Wanted {
    /// [`Heard::Other`] for everything that is not to be looked at.
    fn hear(&self, frame: &Frame) -> Heard {
        match self {
            Wanted::Own(request) if !frame.answers(request) => Heard::Other,
            Wanted::Own(_) => match frame.message.data().split_first() {
                Some((code, data)) => Heard::Answer(*code, data.to_vec()),
                None => Heard::Other,
            },
            Wanted::Behind { pending, queued } => match pending.hear(frame) {
                Heard::PassedOn if !queued => Heard::Other,
                heard @ (Heard::Other | Heard::PassedOn | Heard::Refused(_) | Heard::Answer(..)) => heard,
            },
        }
    }
}

/// What a message does to the power of the machine.
fn control(message: &Message) -> Option<ChassisControl> {
    let is = (message.netfn_raw(), message.cmd()) == (NetFn::Chassis.request_value(), CHASSIS_CONTROL);
    message.data().first().filter(|_| is).and_then(|number| ChassisControl::from_number(number & 0x0F))
}

/// Whether carrying out a message twice is something else than once. A BMC knows repetitions within a session by their
/// request number; in another session they are new requests.
fn only_once(message: &Message) -> bool {
    match control(message) {
        Some(ChassisControl::Cycle | ChassisControl::Reset | ChassisControl::Diag | ChassisControl::Soft) => {
            true
        }
        Some(ChassisControl::On | ChassisControl::Off) | None => false,
    }
}

/// Whether a message makes the machine boot.
fn starts(message: &Message) -> bool {
    match control(message) {
        Some(ChassisControl::On | ChassisControl::Cycle | ChassisControl::Reset) => true,
        Some(ChassisControl::Off | ChassisControl::Soft | ChassisControl::Diag) | None => false,
    }
}

/// The pause between two commands: the node's, else the longer one of the table's and the configuration's.
fn interval(way: &Way<'_>, quirks: &Quirks) -> Duration {
    let own = way.target.quirks.iter().any(|change| matches!(change, Change::CommandInterval(_)));
    if own { quirks.command_interval } else { quirks.command_interval.max(way.settings.min_command_interval) }
}

/// Whether a completion code is worth another attempt.
pub(super) fn passes(code: u8, way: &Way<'_>, quirks: &Quirks) -> bool {
    quirks.retryable.contains(&code)
        || way.settings.additional_retryable.iter().any(|words| names(words, code))
}
