//! How the console comes to a session: IPMI 2.0 with the first suite that the BMC takes, or IPMI 1.5.

use std::time::Duration;

use ipmi_rs_core::app::auth::{GetChannelAuthenticationCapabilities, PrivilegeLevel};
use ipmi_rs_core::connection::{Channel, IpmiCommand, Message};
use tokio::time::Instant;

use super::command::{CloseSession, SetSessionPrivilege};
use super::crypto::CipherSuite;
use super::error::IpmiError;
use super::handshake::{Handshake, HandshakeError, Progress};
use super::lane::{Lane, Live, Way, random};
use super::packet::{Datagram, Frame, Plus, sessionless};
use super::session::Session;
use super::settings::{Privilege, Target, Version};
use super::v15;
use crate::metrics::OpenSession;

/// Attempts to open a session with one suite when the BMC loses track of them.
const ATTEMPTS: u32 = 3;
/// Transmissions of a message of IPMI 1.5 that only a BMC answers that still knows the attempt and takes the password.
const TRIES_TO_ACTIVATE: u32 = 4;
/// Longest wait for an answer to the greeting.
const GREETING: Duration = Duration::from_millis(400);

/// The greeting, which every BMC answers without a session.
pub(super) fn hello() -> Option<Vec<u8>> {
    let ask = GetChannelAuthenticationCapabilities::new(Channel::Current, PrivilegeLevel::Administrator);
    sessionless(&Frame::request(0, ask.into()).encode())
}

/// An open session of either version.
pub(super) enum Open {
    Plus(Box<Session>),
    Old(Box<v15::Session>),
}

impl Open {
    /// The id by which the BMC knows it.
    pub(super) fn remote_id(&self) -> u32 {
        match self {
            Open::Plus(session) => session.remote_id(),
            Open::Old(session) => session.id(),
        }
    }

    /// Whether it is of a kind that the node wants.
    pub(super) fn suits(&self, target: &Target) -> bool {
        match (self, target.version) {
            (Open::Plus(session), Version::Two) => target.suites.contains(&session.suite()),
            (Open::Old(_), Version::OneAndAHalf) => true,
            (Open::Plus(_), Version::OneAndAHalf) | (Open::Old(_), Version::Two) => false,
        }
    }

    pub(super) fn seal(&mut self, frame: &[u8]) -> Result<Vec<u8>, IpmiError> {
        match self {
            Open::Plus(session) => Ok(session.seal(frame, random()?)),
            Open::Old(session) => session.seal(frame).ok_or(IpmiError::TooLong),
        }
    }

    /// The frame in a datagram of this session; `None` for anything else.
    pub(super) fn read(&mut self, datagram: &[u8]) -> Option<Frame> {
        match self {
            Open::Plus(session) => {
                let packet = plus(datagram)?;
                session.open(&packet).ok().and_then(|plain| Frame::decode(&plain).ok())
            }
            Open::Old(session) => {
                let packet = v15::Packet::decode(datagram).ok()?;
                session.open(&packet).ok().and_then(|frame| Frame::decode(frame).ok())
            }
        }
    }
}

fn plus(datagram: &[u8]) -> Option<Plus<'_>> {
    match Datagram::decode(datagram) {
        Ok(Datagram::Plus(packet)) => Some(packet),
        Ok(Datagram::Ping(_) | Datagram::Pong(_) | Datagram::Sessionless(_)) | Err(_) => None,
    }
}

/// An attempt of either version.
enum Shaking<'a> {
    Plus(Handshake<'a>),
    Old(v15::Handshake<'a>),
}

/// What a datagram led to.
enum Step {
    Ignored,
    Send(Vec<u8>),
    Open(Open),
}

impl Shaking<'_> {
    fn receive(&mut self, datagram: &[u8]) -> Result<Step, HandshakeError> {
        Ok(match self {
            Shaking::Plus(handshake) => match handshake.receive(datagram)? {
                Progress::Ignored => Step::Ignored,
                Progress::Send(next) => Step::Send(next),
                Progress::Open(session) => Step::Open(Open::Plus(session)),
            },
            Shaking::Old(handshake) => match handshake.receive(datagram)? {
                v15::Progress::Ignored => Step::Ignored,
                v15::Progress::Send(next) => Step::Send(next),
                v15::Progress::Open(session) => Step::Open(Open::Old(session)),
            },
        })
    }

    fn named(&self) -> bool {
        match self {
            Shaking::Plus(handshake) => handshake.named(),
            Shaking::Old(handshake) => handshake.named(),
        }
    }

    /// Whether silence may mean that the BMC dropped this attempt, and would answer another.
    fn may_be_forgotten(&self) -> bool {
        match self {
            Shaking::Plus(_) => false,
            Shaking::Old(handshake) => handshake.named(),
        }
    }

    /// Whether what is sent now bears the password readable.
    fn shows_password(&self) -> bool {
        match self {
            Shaking::Plus(_) => false,
            Shaking::Old(handshake) => handshake.shows_password(),
        }
    }

    fn proved(&self) -> bool {
        match self {
            Shaking::Plus(handshake) => handshake.proved(),
            Shaking::Old(_) => false,
        }
    }

    fn abandon(&self) -> Result<Option<Vec<u8>>, IpmiError> {
        Ok(match self {
            Shaking::Plus(handshake) => handshake.abandon(random()?),
            Shaking::Old(handshake) => handshake.abandon(),
        })
    }
}

/// Why there is no session.
enum Failure {
    Silent { named: bool },
    Handshake(HandshakeError),
    Here(IpmiError),
}

impl Lane {
    /// Asks for the authentication capabilities and waits a little for any answer. IPMI does not demand it;
    /// pyghmi, and so VirtualBMC, ties a session to the sender's port and only by this learns that a new one begins.
    /// True when it answers that it has no IPMI 2.0, which not every BMC is right about.
    async fn greet(&mut self, way: &Way<'_>, deadline: Instant) -> Result<bool, IpmiError> {
        self.forget_received();
        let Some(hello) = hello() else { return Ok(false) };
        self.send(way.mux, &hello).await?;
        let until = (Instant::now() + GREETING.min(way.settings.retransmit_first)).min(deadline);
        while let Some(heard) = self.receive(until).await {
            if let Ok(Datagram::Sessionless(frame)) = Datagram::decode(&heard) {
                let answer = Frame::decode(frame).ok();
                let offered = answer.and_then(|answer| answer.message.data().get(2).copied());
                return Ok(offered.is_some_and(|offered| offered & 0x80 == 0));
            }
        }
        Ok(false)
    }

    /// Opens a session of the node's version and raises it to the wanted level.
    pub(super) async fn open(&mut self, way: &Way<'_>, deadline: Instant) -> Result<(), IpmiError> {
        match way.target.version {
            Version::Two => {
                let old = self.greet(way, deadline).await?;
                match self.open_plus(way, deadline).await {
                    Err(IpmiError::Silent(after)) if old => Err(IpmiError::OnlyOld(after)),
                    other => other,
                }
            }
            Version::OneAndAHalf => {
                let begun = Instant::now();
                match self.open_with(way, None, deadline).await {
                    Ok(session) => self.opened(way, session, deadline).await,
                    Err(Failure::Silent { named: true }) => Err(IpmiError::SilentToUser(begun.elapsed())),
                    Err(Failure::Silent { named: false }) => Err(IpmiError::Silent(begun.elapsed())),
                    Err(Failure::Handshake(error)) => Err(error.into()),
                    Err(Failure::Here(error)) => Err(error),
                }
            }
        }
    }

    /// Opens a session with the first suite that the BMC takes.
    async fn open_plus(&mut self, way: &Way<'_>, deadline: Instant) -> Result<(), IpmiError> {
        let begun = Instant::now();
        let mut suites = way.target.suites.clone();
        // the one that worked first; `sort` is stable, so the others keep their order
        suites.sort_by_key(|suite| self.suite != Some(*suite));
        let (mut refusals, mut heard) = (Vec::new(), false);
        for (index, suite) in suites.iter().enumerate() {
            let left = u32::try_from(suites.len() - index).unwrap_or(1);
            let share = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
            match self.open_with(way, Some(*suite), share).await {
                Ok(session) => {
                    self.suite = Some(*suite);
                    return self.opened(way, session, deadline).await;
                }
                // some BMCs ignore what they do not know instead of refusing it
                Err(Failure::Silent { named }) => heard |= named,
                Err(Failure::Handshake(HandshakeError::Suite { suite, reason })) => {
                    refusals.push(format!("suite {}: {reason}", suite.id()));
                }
                Err(Failure::Handshake(error)) => return Err(error.into()),
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

    /// Without a suite: IPMI 1.5.
    async fn open_with(
        &mut self,
        way: &Way<'_>,
        suite: Option<CipherSuite>,
        deadline: Instant,
    ) -> Result<Open, Failure> {
        for _ in 1..ATTEMPTS {
            match self.attempt(way, suite, deadline).await {
                Err(Failure::Handshake(HandshakeError::Forgotten(_))) => {}
                // not yet: the next attempt may be heard
                Err(Failure::Silent { .. }) if Instant::now() < deadline => {}
                other => return other,
            }
        }
        self.attempt(way, suite, deadline).await
    }

    async fn attempt(
        &mut self,
        way: &Way<'_>,
        suite: Option<CipherSuite>,
        deadline: Instant,
    ) -> Result<Open, Failure> {
        self.forget_received();
        let id = u32::from_le_bytes(random().map_err(Failure::Here)?).max(1);
        let login = &way.target.login;
        let (mut shaking, first) = match suite {
            Some(suite) => {
                let number = random().map_err(Failure::Here)?;
                let (handshake, first) = Handshake::start(login, suite, id, number);
                (Shaking::Plus(handshake), first)
            }
            None => {
                let (handshake, first) = v15::Handshake::start(login, id);
                (Shaking::Old(handshake), first)
            }
        };
        let outcome = self.shake(way, &mut shaking, first, deadline).await;
        if outcome.is_err()
            && let Some(datagram) = shaking.abandon().map_err(Failure::Here)?
        {
            self.send(way.mux, &datagram).await.map_err(Failure::Here)?;
        }
        outcome
    }

    async fn shake(
        &mut self,
        way: &Way<'_>,
        shaking: &mut Shaking<'_>,
        first: Vec<u8>,
        deadline: Instant,
    ) -> Result<Open, Failure> {
        let mut datagram = first;
        let mut wait = way.settings.retransmit_first;
        let (mut fresh, mut repeated, mut sent) = (true, false, 0);
        loop {
            repeated |= !std::mem::take(&mut fresh);
            sent += 1;
            self.send(way.mux, &datagram).await.map_err(Failure::Here)?;
            let until = (Instant::now() + wait).min(deadline);
            wait = (wait * 2).min(way.settings.retransmit_max);
            while let Some(heard) = self.receive(until).await {
                match shaking.receive(&heard) {
                    // a slow BMC that heard RAKP 1 twice may have drawn a new number for the second, which our proof
                    // does not fit: once more from the start, before anybody is told of a wrong password
                    Err(HandshakeError::Credentials(reason)) if repeated && shaking.proved() => {
                        return Err(Failure::Handshake(HandshakeError::Forgotten(reason)));
                    }
                    Err(error) => return Err(Failure::Handshake(error)),
                    Ok(Step::Ignored) => {}
                    Ok(Step::Open(session)) => return Ok(session),
                    Ok(Step::Send(next)) => {
                        if shaking.shows_password() && !std::mem::replace(&mut self.readable, true) {
                            tracing::warn!(
                                bmc = %way.target.name(),
                                "this BMC takes the password only readable over IPMI 1.5: whoever is on the way can \
                                 read it; allow MD5 there, or use ipmi_protocol_version 2.0"
                            );
                        }
                        datagram = next;
                        (fresh, sent) = (true, 0);
                        wait = way.settings.retransmit_first;
                        break;
                    }
                }
            }
            let given_up = sent >= TRIES_TO_ACTIVATE && shaking.may_be_forgotten();
            if Instant::now() >= deadline || given_up {
                return Err(Failure::Silent { named: shaking.named() });
            }
        }
    }

    async fn opened(&mut self, way: &Way<'_>, session: Open, deadline: Instant) -> Result<(), IpmiError> {
        self.live = Some(Live { session, login: way.target.login.clone(), _counted: OpenSession::default() });
        self.renewed();
        self.raise(way, deadline).await
    }

    /// Raises the new session to the wanted level; gives it back to the BMC where that fails.
    async fn raise(&mut self, way: &Way<'_>, deadline: Instant) -> Result<(), IpmiError> {
        let level = way.target.login.privilege;
        if level == Privilege::Callback {
            // it is the level at which sessions begin, or below it; the command cannot ask for it
            return Ok(());
        }
        let failure = loop {
            let message: Message = SetSessionPrivilege(level).into();
            match self.exchange(way.mux, way.settings, message, deadline, u32::MAX).await {
                Ok((0, data))
                    if SetSessionPrivilege::parse_success_response(&data)
                        .is_ok_and(|now| now >= level.number()) =>
                {
                    return Ok(());
                }
                Ok((0 | 0x80 | 0x81, _)) => {
                    let reason = "the user may not work at the level of ipmi_priv_level";
                    break IpmiError::Credentials(reason.to_owned());
                }
                Ok((code, _)) => {
                    let quirks = self.quirks(way.target);
                    let again = Instant::now() + way.settings.retransmit_first;
                    if !super::lane::passes(code, way, &quirks) || again >= deadline {
                        break IpmiError::Completion(code);
                    }
                    tokio::time::sleep_until(again).await;
                }
                Err(error) => break error,
            }
        };
        if let Some(live) = &self.live {
            let message = CloseSession(live.session.remote_id()).into();
            self.send_and_forget(way.mux, message).await?;
        }
        self.live = None;
        Err(failure)
    }
}

impl From<HandshakeError> for IpmiError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Credentials(reason) => IpmiError::Credentials(reason.to_owned()),
            HandshakeError::Forgotten(reason) | HandshakeError::Refused(reason) => {
                IpmiError::NoSession(reason.to_owned())
            }
            HandshakeError::Full(reason) => IpmiError::NoFreeSession(reason.to_owned()),
            HandshakeError::Suite { suite, reason } => {
                IpmiError::NoSuite(format!("suite {}: {reason}", suite.id()))
            }
        }
    }
}
