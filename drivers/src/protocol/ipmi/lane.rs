//! The way to one BMC: its session, and one exchange at a time.

use std::net::SocketAddr;
use std::time::Duration;

use ipmi_rs_core::app::auth::{GetChannelAuthenticationCapabilities, PrivilegeLevel};
use ipmi_rs_core::connection::{Channel, IpmiCommand, Message};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::command::{CloseSession, SetSessionPrivilege};
use super::crypto::CipherSuite;
use super::error::{IpmiError, names};
use super::handshake::{Handshake, HandshakeError, Login, Progress};
use super::mux::Mux;
use super::packet::{Datagram, Frame, sessionless};
use super::quirks::{Change, Identity, Quirks};
use super::session::Session;
use super::settings::{IpmiSettings, Target};

/// Transmissions in a session that may have been forgotten, before a new one is opened.
const TRIES_IN_OLD_SESSION: u32 = 2;
/// Attempts to open a session with one suite when the BMC loses track of them.
const ATTEMPTS: u32 = 3;
/// Transmissions of Close Session.
const TRIES_TO_CLOSE: u32 = 3;
/// Given-up sessions that are remembered.
const MAX_LEFTOVER: usize = 4;
/// Longest wait for an answer to the greeting.
const GREETING: Duration = Duration::from_millis(400);

fn capabilities() -> Message {
    GetChannelAuthenticationCapabilities::new(Channel::Current, PrivilegeLevel::Administrator).into()
}

fn random<const N: usize>() -> Result<[u8; N], IpmiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| IpmiError::Socket(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

/// An open session and whose it is.
struct Live {
    session: Box<Session>,
    login: Login,
}

/// What every step of an exchange needs.
pub(super) struct Way<'a> {
    pub(super) mux: &'a Mux,
    pub(super) settings: &'a IpmiSettings,
    pub(super) target: &'a Target,
}

pub(super) struct Lane {
    peer: SocketAddr,
    inbox: mpsc::Receiver<Box<[u8]>>,
    live: Option<Live>,
    /// The suite that worked last.
    suite: Option<CipherSuite>,
    used: Option<Instant>,
    sequence: u8,
    /// Sessions that the BMC may still hold although we gave them up.
    leftover: Vec<u32>,
    /// Who answers here, once asked; `None` within when it does not tell.
    identity: Option<Option<Identity>>,
    /// The identity is of an earlier session: another firmware may answer now.
    stale: bool,
}

impl Lane {
    pub(super) fn new(peer: SocketAddr, mux: &Mux) -> Self {
        Self {
            peer,
            inbox: mux.register(peer),
            live: None,
            suite: None,
            used: None,
            sequence: 0,
            leftover: Vec::new(),
            identity: None,
            stale: false,
        }
    }

    /// Whether it was asked who it is in this session.
    pub(super) fn knows(&self, _target: &Target) -> bool {
        self.identity.is_some() && !self.stale
    }

    /// It said who it is.
    pub(super) fn met(&mut self, _target: &Target, identity: Option<Identity>) {
        self.identity = Some(identity);
        self.stale = false;
    }

    /// How to treat it, as far as it is known.
    pub(super) fn quirks(&self, target: &Target) -> Quirks {
        Quirks::find(self.identity.flatten().as_ref(), target.vendor.as_deref(), &target.quirks)
    }

    /// Sends a command and gives the data of its answer, without the completion code.
    pub(super) async fn run(
        &mut self,
        way: &Way<'_>,
        message: Message,
        deadline: Instant,
    ) -> Result<Vec<u8>, IpmiError> {
        let mut pause = way.settings.retransmit_first;
        loop {
            let quirks = self.quirks(way.target);
            if let Some(used) = self.used {
                sleep_until((used + interval(way, &quirks)).min(deadline)).await;
            }
            let answer = self.run_once(way, message.clone(), deadline).await;
            self.used = Some(Instant::now());
            match answer? {
                (0, data) => return Ok(data),
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

    async fn run_once(
        &mut self,
        way: &Way<'_>,
        message: Message,
        deadline: Instant,
    ) -> Result<(u8, Vec<u8>), IpmiError> {
        let same =
            |live: &Live| live.login == way.target.login && way.target.suites.contains(&live.session.suite());
        if self.live.as_ref().is_some_and(|live| !same(live)) {
            self.close(way.mux, way.settings).await;
        }
        if self.live.is_some() {
            match self.exchange(way.mux, way.settings, message.clone(), deadline, TRIES_IN_OLD_SESSION).await
            {
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
        self.exchange(way.mux, way.settings, message, deadline, u32::MAX).await
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

    /// Whether there is a session that nobody used for so long.
    pub(super) fn is_idle(&self, limit: Duration) -> bool {
        self.live.is_some() && self.used.is_none_or(|used| used.elapsed() >= limit)
    }

    /// The next datagram of this BMC, `None` at `until`.
    async fn receive(&mut self, until: Instant) -> Option<Box<[u8]>> {
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

    async fn send(&self, mux: &Mux, datagram: &[u8]) -> Result<(), IpmiError> {
        mux.send(self.peer, datagram).await.map_err(|error| IpmiError::Socket(error.to_string()))
    }

    async fn send_and_forget(&mut self, mux: &Mux, message: Message) -> Result<(), IpmiError> {
        let frame = self.next_frame(message).encode();
        let Some(live) = &mut self.live else { return Ok(()) };
        let datagram = live.session.seal(&frame, random()?);
        self.send(mux, &datagram).await
    }

    fn next_frame(&mut self, message: Message) -> Frame {
        self.sequence = (self.sequence + 1) & 0x3F;
        Frame::request(self.sequence, message)
    }

    /// One request and its answer in the open session: completion code and data. Transmits at most `tries`
    /// times, each with the same request number and a new packet number.
    async fn exchange(
        &mut self,
        mux: &Mux,
        settings: &IpmiSettings,
        message: Message,
        deadline: Instant,
        tries: u32,
    ) -> Result<(u8, Vec<u8>), IpmiError> {
        let begun = Instant::now();
        let request = self.next_frame(message);
        let bytes = request.encode();
        let mut wait = settings.retransmit_first;
        for _ in 0..tries {
            let Some(live) = &mut self.live else { break };
            let datagram = live.session.seal(&bytes, random()?);
            self.send(mux, &datagram).await?;
            let until = (Instant::now() + wait).min(deadline);
            while let Some(datagram) = self.receive(until).await {
                let Some(live) = &mut self.live else { break };
                if let Some(answer) = read_answer(&mut live.session, &datagram, &request) {
                    return Ok(answer);
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            wait = (wait * 2).min(settings.retransmit_max);
        }
        Err(IpmiError::Silent(begun.elapsed()))
    }

    /// Asks for the authentication capabilities and waits a little for any answer. IPMI does not demand it;
    /// pyghmi, and so VirtualBMC, ties a session to the sender's port and only by this learns that a new one begins.
    async fn greet(&mut self, way: &Way<'_>, deadline: Instant) -> Result<(), IpmiError> {
        while self.inbox.try_recv().is_ok() {}
        let Some(hello) = sessionless(&Frame::request(0, capabilities()).encode()) else { return Ok(()) };
        self.send(way.mux, &hello).await?;
        let until = (Instant::now() + GREETING.min(way.settings.retransmit_first)).min(deadline);
        while let Some(heard) = self.receive(until).await {
            if let Ok(Datagram::Sessionless(_)) = Datagram::decode(&heard) {
                break;
            }
        }
        Ok(())
    }

    /// Opens a session with the first suite that the BMC takes, and raises it to the wanted level.
    async fn open(&mut self, way: &Way<'_>, deadline: Instant) -> Result<(), IpmiError> {
        let begun = Instant::now();
        self.greet(way, deadline).await?;
        let mut suites = way.target.suites.clone();
        // the one that worked first; `sort` is stable, so the others keep their order
        suites.sort_by_key(|suite| self.suite != Some(*suite));
        let (mut refusals, mut heard) = (Vec::new(), false);
        for (index, suite) in suites.iter().enumerate() {
            let left = u32::try_from(suites.len() - index).unwrap_or(1);
            let share = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
            match self.open_with(way, *suite, share).await {
                Ok(session) => {
                    self.live = Some(Live { session, login: way.target.login.clone() });
                    self.suite = Some(*suite);
                    self.stale = true;
                    return self.raise(way, deadline).await;
                }
                // some BMCs ignore what they do not know instead of refusing it
                Err(Failure::Silent { named }) => heard |= named,
                Err(Failure::Handshake(HandshakeError::Suite { suite, reason })) => {
                    refusals.push(format!("suite {}: {reason}", suite.id()));
                }
                Err(Failure::Handshake(HandshakeError::Credentials(reason))) => {
                    return Err(IpmiError::Credentials(reason.to_owned()));
                }
                Err(Failure::Handshake(
                    HandshakeError::Forgotten(reason) | HandshakeError::Refused(reason),
                )) => {
                    return Err(IpmiError::NoSession(reason.to_owned()));
                }
                Err(Failure::Handshake(HandshakeError::Full(reason))) => {
                    return Err(IpmiError::NoFreeSession(reason.to_owned()));
                }
                Err(Failure::Here(error)) => return Err(error),
            }
        }
        if heard {
            return Err(IpmiError::SilentToUser(begun.elapsed()));
        }
        if refusals.is_empty() {
            return Err(IpmiError::Silent(begun.elapsed()));
        }
        Err(IpmiError::NoSuite(refusals.join(", ")))
    }

    async fn open_with(
        &mut self,
        way: &Way<'_>,
        suite: CipherSuite,
        deadline: Instant,
    ) -> Result<Box<Session>, Failure> {
        for _ in 1..ATTEMPTS {
            match self.attempt(way, suite, deadline).await {
                Err(Failure::Handshake(HandshakeError::Forgotten(_))) => {}
                other => return other,
            }
        }
        self.attempt(way, suite, deadline).await
    }

    async fn attempt(
        &mut self,
        way: &Way<'_>,
        suite: CipherSuite,
        deadline: Instant,
    ) -> Result<Box<Session>, Failure> {
        while self.inbox.try_recv().is_ok() {}
        let id = u32::from_le_bytes(random().map_err(Failure::Here)?).max(1);
        let login = &way.target.login;
        let (mut handshake, first) = Handshake::start(login, suite, id, random().map_err(Failure::Here)?);
        let outcome = self.shake(way, &mut handshake, first, deadline).await;
        if outcome.is_err()
            && let Some(datagram) = handshake.abandon(random().map_err(Failure::Here)?)
        {
            self.send(way.mux, &datagram).await.map_err(Failure::Here)?;
        }
        outcome
    }

    async fn shake(
        &mut self,
        way: &Way<'_>,
        handshake: &mut Handshake<'_>,
        first: Vec<u8>,
        deadline: Instant,
    ) -> Result<Box<Session>, Failure> {
        let mut datagram = first;
        let mut wait = way.settings.retransmit_first;
        let (mut fresh, mut repeated) = (true, false);
        loop {
            repeated |= !std::mem::take(&mut fresh);
            self.send(way.mux, &datagram).await.map_err(Failure::Here)?;
            let until = (Instant::now() + wait).min(deadline);
            wait = (wait * 2).min(way.settings.retransmit_max);
            while let Some(heard) = self.receive(until).await {
                match handshake.receive(&heard) {
                    // a slow BMC that heard RAKP 1 twice may have drawn a new number for the second, which our proof
                    // does not fit: once more from the start, before anybody is told of a wrong password
                    Err(HandshakeError::Credentials(reason)) if repeated && handshake.proved() => {
                        return Err(Failure::Handshake(HandshakeError::Forgotten(reason)));
                    }
                    Err(error) => return Err(Failure::Handshake(error)),
                    Ok(Progress::Ignored) => {}
                    Ok(Progress::Open(session)) => return Ok(session),
                    Ok(Progress::Send(next)) => {
                        datagram = next;
                        fresh = true;
                        wait = way.settings.retransmit_first;
                        break;
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(Failure::Silent { named: handshake.named() });
            }
        }
    }

    /// Raises the new session to the wanted level; gives it back to the BMC where that fails.
    async fn raise(&mut self, way: &Way<'_>, deadline: Instant) -> Result<(), IpmiError> {
        let level = way.target.login.privilege;
        let message: Message = SetSessionPrivilege(level).into();
        let failure = match self.exchange(way.mux, way.settings, message, deadline, u32::MAX).await {
            Ok((0, data))
                if SetSessionPrivilege::parse_success_response(&data)
                    .is_ok_and(|now| now >= level.number()) =>
            {
                return Ok(());
            }
            Ok((0 | 0x80 | 0x81, _)) => {
                IpmiError::Credentials("the user may not work at the level of ipmi_priv_level".to_owned())
            }
            Ok((code, _)) => IpmiError::Completion(code),
            Err(error) => error,
        };
        if let Some(live) = &self.live {
            let message = CloseSession(live.session.remote_id()).into();
            self.send_and_forget(way.mux, message).await?;
        }
        self.live = None;
        Err(failure)
    }
}

/// The pause between two commands: the node's, else the longer one of the table's and the configuration's.
fn interval(way: &Way<'_>, quirks: &Quirks) -> Duration {
    let own = way.target.quirks.iter().any(|change| matches!(change, Change::CommandInterval(_)));
    if own { quirks.command_interval } else { quirks.command_interval.max(way.settings.min_command_interval) }
}

/// Whether a completion code is worth another attempt.
fn passes(code: u8, way: &Way<'_>, quirks: &Quirks) -> bool {
    quirks.retryable.contains(&code)
        || way.settings.additional_retryable.iter().any(|words| names(words, code))
}

/// Why there is no session.
enum Failure {
    Silent { named: bool },
    Handshake(HandshakeError),
    Here(IpmiError),
}

fn read_answer(session: &mut Session, datagram: &[u8], request: &Frame) -> Option<(u8, Vec<u8>)> {
    let Ok(Datagram::Plus(packet)) = Datagram::decode(datagram) else { return None };
    let frame = session.open(&packet).ok().and_then(|plain| Frame::decode(&plain).ok())?;
    if !frame.answers(request) {
        return None;
    }
    let (code, data) = frame.message.data().split_first()?;
    Some((*code, data.to_vec()))
}
