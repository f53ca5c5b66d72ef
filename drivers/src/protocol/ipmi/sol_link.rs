//! A serial line over LAN with its own session and its own socket: opening it, keeping it, closing it. Commands to the
//! BMC go by [`super::IpmiClient`] meanwhile and are not held up by it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ipmi_rs_core::app::auth::{GetChannelAuthenticationCapabilities, PrivilegeLevel};
use ipmi_rs_core::connection::{Channel, IpmiCommand, Message, NetFn, NotEnoughData};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::command::{CloseSession, SetSessionPrivilege};
use super::error::IpmiError;
use super::handshake::{Handshake, HandshakeError, Progress};
use super::packet::{Datagram, Frame, MAX_DATAGRAM, PayloadType, sessionless};
use super::session::Session;
use super::settings::{IpmiSettings, Target};
use super::sol::{
    ActivateSol, DeactivateSol, EnableSol, GetSolConfig, Line, PARAM_ENABLE, PARAM_RETRY, Retries, condition,
    operation, refusal,
};
use crate::error::DriverError;

/// Silence after which the BMC is asked for a sign of life; sessions end after 60 s (IPMI 2.0 §6.12.15).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Signs of life that may fail to come, one after the other.
const MISSED: u32 = 3;
/// Wait for each.
const ANSWER: Duration = Duration::from_secs(2);
/// Longest good-bye.
const FAREWELL: Duration = Duration::from_secs(2);
/// Transmissions of a command for whose answer it is not worth to wait long.
const SOME_TRIES: u32 = 3;
/// Longest wait for an answer to the greeting.
const GREETING: Duration = Duration::from_millis(400);

/// Why there is no serial line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SolError {
    /// As any command.
    #[error(transparent)]
    Ipmi(#[from] IpmiError),
    /// The BMC does not activate it; its completion code.
    #[error("completion code {0:#04x}: {text}", text = refusal_text(*.0))]
    Refused(u8),
}

fn refusal_text(code: u8) -> &'static str {
    match code {
        refusal::ALREADY_ACTIVE => {
            "it is active in another session; end that one (ipmitool sol deactivate), or let Ferric end it: remove \
             ipmi_quirk_deactivate_stale_sol from driver_info"
        }
        refusal::DISABLED => {
            "it is disabled; enable serial over LAN on the BMC (ipmitool sol set enabled true) and for the user \
             (ipmitool sol payload enable)"
        }
        refusal::LIMIT => {
            "as many serial lines as it can have are active; end one of them, or restart the BMC"
        }
        refusal::NOT_ENCRYPTED | refusal::ENCRYPTED_ONLY => {
            "its settings for encryption do not fit; allow serial over LAN to be encrypted on the BMC"
        }
        0xC1 | 0xC2 => "it has no serial over LAN; use console_interface no-console",
        0xD4 => "the privilege level is too low (ipmi_priv_level)",
        _ => "see table 24-2 of the IPMI specification; a restart of the BMC often helps",
    }
}

impl SolError {
    /// The error of a driver: with the BMC's address and a remedy.
    #[must_use]
    pub fn of(self, target: &Target) -> DriverError {
        const WHAT: &str = "the serial console";
        match self {
            SolError::Ipmi(error) => error.of(target, WHAT),
            SolError::Refused(code) => DriverError::Refused {
                what: target.name(),
                command: WHAT.to_owned(),
                reason: format!("completion code {code:#04x}, {}", refusal_text(code)),
            },
        }
    }
}

/// What comes over an open line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SolEvent {
    /// Characters.
    Data(Vec<u8>),
    /// The machine sent a break.
    Break,
    /// The BMC lost characters of the machine.
    Overrun,
}

/// What goes into an open line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SolInput {
    /// Characters.
    Data(Bytes),
    /// A break.
    Break,
}

/// Why an open line ended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SolEnd {
    /// Nobody gives input any more: the console is closed.
    #[error("closed")]
    Closed,
    /// The BMC says that it ends it: power was lost, or somebody else took it.
    #[error("the BMC ended the serial console: the machine lost power, or somebody else took it")]
    Deactivated,
    /// Nothing is heard.
    #[error("BMC silent")]
    Silent,
    /// This host cannot send or receive.
    #[error("no socket: {0}")]
    Socket(String),
}

/// How a line was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Another session had it and was made to give it up.
    pub took_over: bool,
    /// It was disabled on the BMC and was enabled.
    pub enabled: bool,
}

/// An open line.
pub struct SolLink {
    wire: Wire,
    line: Line,
}

/// The session below it.
struct Wire {
    socket: UdpSocket,
    settings: IpmiSettings,
    session: Option<Box<Session>>,
    sequence: u8,
    /// SOL payloads that came while the answer to a command was waited for.
    early: Vec<Vec<u8>>,
}

fn random<const N: usize>() -> Result<[u8; N], IpmiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| IpmiError::Socket(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

async fn resolve(target: &Target) -> Result<SocketAddr, IpmiError> {
    if let Ok(address) = target.host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, target.port));
    }
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let first = found.map_err(|error| IpmiError::Resolve(error.to_string()))?.next();
    first.ok_or_else(|| IpmiError::Resolve("no address".to_owned()))
}

/// A command's answer: its completion code, then its data.
type Answer = (u8, Vec<u8>);

enum Heard {
    Answer(Answer),
    Sol(Vec<u8>),
    Alive,
    Nothing,
}

impl Wire {
    async fn new(target: &Target, settings: &IpmiSettings) -> Result<Self, IpmiError> {
        let peer = resolve(target).await?;
        let any: IpAddr =
            if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let failed = |error: std::io::Error| IpmiError::Socket(error.to_string());
        let socket = UdpSocket::bind((any, 0)).await.map_err(failed)?;
        // from here on the kernel drops what others send
        socket.connect(peer).await.map_err(failed)?;
        Ok(Self { socket, settings: settings.clone(), session: None, sequence: 0, early: Vec::new() })
    }

    async fn send(&self, datagram: &[u8]) -> Result<(), IpmiError> {
        match self.socket.send(datagram).await {
            Err(error) if !passing(&error) => Err(IpmiError::Socket(error.to_string())),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The next datagram, `None` at `until`.
    async fn receive(&self, until: Instant) -> Option<Vec<u8>> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            match timeout_at(until, self.socket.recv(&mut buffer)).await {
                Ok(Ok(len)) => {
                    buffer.truncate(len);
                    return Some(buffer);
                }
                // the other host's word that nobody listens: a BMC that restarts. Silence tells the rest.
                Ok(Err(_)) => tokio::task::yield_now().await,
                Err(_) => return None,
            }
        }
    }

    fn next_frame(&mut self, message: Message) -> Frame {
        self.sequence = (self.sequence + 1) & 0x3F;
        Frame::request(self.sequence, message)
    }

    async fn send_frame(&mut self, frame: &Frame) -> Result<(), IpmiError> {
        let Some(session) = &mut self.session else { return Err(IpmiError::Stopped) };
        let datagram = session.seal(&frame.encode(), random()?);
        self.send(&datagram).await
    }

    async fn send_sol(&mut self, payload: &[u8]) -> Result<(), IpmiError> {
        let Some(session) = &mut self.session else { return Err(IpmiError::Stopped) };
        let datagram = session.seal_as(PayloadType::Sol, payload, random()?);
        self.send(&datagram).await
    }

    /// What a datagram is, of this session.
    fn read(&mut self, datagram: &[u8], request: Option<&Frame>) -> Heard {
        let (Ok(Datagram::Plus(packet)), Some(session)) = (Datagram::decode(datagram), &mut self.session)
        else {
            return Heard::Nothing;
        };
        if packet.payload_type == PayloadType::Sol {
            return session.open_as(PayloadType::Sol, &packet).map_or(Heard::Nothing, Heard::Sol);
        }
        let Some(frame) = session.open(&packet).ok().and_then(|plain| Frame::decode(&plain).ok()) else {
            return Heard::Nothing;
        };
        if !request.is_some_and(|request| frame.answers(request)) {
            return Heard::Alive;
        }
        match frame.message.data().split_first() {
            Some((code, data)) => Heard::Answer((*code, data.to_vec())),
            None => Heard::Alive,
        }
    }

    /// One command: the completion code and the data.
    async fn exchange(
        &mut self,
        message: Message,
        deadline: Instant,
        tries: u32,
    ) -> Result<Answer, IpmiError> {
        let begun = Instant::now();
        let request = self.next_frame(message);
        let mut wait = self.settings.retransmit_first;
        for _ in 0..tries {
            self.send_frame(&request).await?;
            let until = (Instant::now() + wait).min(deadline);
            while let Some(datagram) = self.receive(until).await {
                match self.read(&datagram, Some(&request)) {
                    Heard::Answer(answer) => return Ok(answer),
                    Heard::Sol(payload) if self.early.len() < 64 => self.early.push(payload),
                    Heard::Sol(_) | Heard::Alive | Heard::Nothing => {}
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            wait = (wait * 2).min(self.settings.retransmit_max);
        }
        Err(IpmiError::Silent(begun.elapsed()))
    }

    async fn command<C>(&mut self, command: C, deadline: Instant) -> Result<C::Output, SolError>
    where
        C: IpmiCommand<Error = NotEnoughData>,
    {
        match self.exchange(command.into(), deadline, u32::MAX).await? {
            (0, data) => Ok(C::parse_success_response(&data).map_err(|NotEnoughData| IpmiError::Short)?),
            (code, _) => Err(SolError::Refused(code)),
        }
    }

    /// Some BMCs, pyghmi's for one, know by this alone that a new session begins.
    async fn greet(&self, deadline: Instant) -> Result<(), IpmiError> {
        let hello =
            GetChannelAuthenticationCapabilities::new(Channel::Current, PrivilegeLevel::Administrator);
        let Some(hello) = sessionless(&Frame::request(0, hello.into()).encode()) else { return Ok(()) };
        self.send(&hello).await?;
        let until = (Instant::now() + GREETING.min(self.settings.retransmit_first)).min(deadline);
        while let Some(heard) = self.receive(until).await {
            if let Ok(Datagram::Sessionless(_)) = Datagram::decode(&heard) {
                break;
            }
        }
        Ok(())
    }

    /// Opens a session with the first suite that the BMC takes, and raises it to the wanted level.
    async fn log_in(&mut self, target: &Target, deadline: Instant) -> Result<(), IpmiError> {
        let begun = Instant::now();
        self.greet(deadline).await?;
        let (mut refusals, mut again) = (Vec::new(), 2);
        let mut at = 0;
        while let Some(suite) = target.suites.get(at).copied() {
            let id = u32::from_le_bytes(random()?).max(1);
            let (mut handshake, first) = Handshake::start(&target.login, suite, id, random()?);
            let share = u32::try_from(target.suites.len() - at).unwrap_or(1);
            let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / share;
            match self.shake(&mut handshake, first, until).await? {
                Ok(session) => {
                    self.session = Some(session);
                    return self.raise(target, deadline).await;
                }
                Err(failure) => {
                    if let Some(datagram) = handshake.abandon(random()?) {
                        self.send(&datagram).await?;
                    }
                    match failure {
                        Some(HandshakeError::Suite { suite, reason }) => {
                            refusals.push(format!("suite {}: {reason}", suite.id()));
                            at += 1;
                        }
                        Some(HandshakeError::Forgotten(_)) if again > 0 => again -= 1,
                        Some(HandshakeError::Credentials(reason)) => {
                            return Err(IpmiError::Credentials(reason.to_owned()));
                        }
                        Some(HandshakeError::Full(reason)) => {
                            return Err(IpmiError::NoFreeSession(reason.to_owned()));
                        }
                        Some(HandshakeError::Forgotten(reason) | HandshakeError::Refused(reason)) => {
                            return Err(IpmiError::NoSession(reason.to_owned()));
                        }
                        // some BMCs ignore what they do not know instead of refusing it
                        None => at += 1,
                    }
                }
            }
        }
        match refusals.is_empty() {
            true => Err(IpmiError::Silent(begun.elapsed())),
            false => Err(IpmiError::NoSuite(refusals.join(", "))),
        }
    }

    /// One attempt to open a session; the inner error is `None` for silence.
    async fn shake(
        &self,
        handshake: &mut Handshake<'_>,
        first: Vec<u8>,
        deadline: Instant,
    ) -> Result<Result<Box<Session>, Option<HandshakeError>>, IpmiError> {
        let mut datagram = first;
        let mut wait = self.settings.retransmit_first;
        let (mut fresh, mut repeated) = (true, false);
        loop {
            repeated |= !std::mem::take(&mut fresh);
            self.send(&datagram).await?;
            let until = (Instant::now() + wait).min(deadline);
            wait = (wait * 2).min(self.settings.retransmit_max);
            while let Some(heard) = self.receive(until).await {
                match handshake.receive(&heard) {
                    // its second number may not fit the proof that we made for its first: once more from the start
                    Err(HandshakeError::Credentials(reason)) if repeated && handshake.proved() => {
                        return Ok(Err(Some(HandshakeError::Forgotten(reason))));
                    }
                    Err(error) => return Ok(Err(Some(error))),
                    Ok(Progress::Ignored) => {}
                    Ok(Progress::Open(session)) => return Ok(Ok(session)),
                    Ok(Progress::Send(next)) => {
                        datagram = next;
                        fresh = true;
                        wait = self.settings.retransmit_first;
                        break;
                    }
                }
            }
            if Instant::now() >= deadline {
                return Ok(Err(None));
            }
        }
    }

    async fn raise(&mut self, target: &Target, deadline: Instant) -> Result<(), IpmiError> {
        let level = target.login.privilege;
        match self.exchange(SetSessionPrivilege(level).into(), deadline, u32::MAX).await? {
            (0, data) if data.first().is_some_and(|now| now & 0x0F >= level.number()) => Ok(()),
            (0 | 0x80 | 0x81, _) => Err(IpmiError::Credentials(
                "the user may not work at the level of ipmi_priv_level".to_owned(),
            )),
            (code, _) => Err(IpmiError::Completion(code)),
        }
    }

    /// Enables it where it is disabled, activates it, ends another session's if `take_over`.
    async fn activate(&mut self, take_over: bool, deadline: Instant) -> Result<(Line, Opened), SolError> {
        let mut opened = Opened::default();
        // BMCs may refuse to tell; only Activate Payload counts
        if let Ok((0, data)) = self.exchange(GetSolConfig(PARAM_ENABLE).into(), deadline, SOME_TRIES).await
            && data.get(1).is_some_and(|enabled| enabled & 1 == 0)
        {
            self.command(EnableSol, deadline).await?;
            opened.enabled = true;
        }
        let retries = match self.exchange(GetSolConfig(PARAM_RETRY).into(), deadline, SOME_TRIES).await {
            Ok((0, data)) => Retries::of_parameter(data.get(1..).unwrap_or_default()),
            Ok(_) | Err(_) => Retries::default(),
        };
        let activated = match self.command(ActivateSol, deadline).await {
            Err(SolError::Refused(refusal::ALREADY_ACTIVE | refusal::LIMIT)) if take_over => {
                opened.took_over = true;
                match self.command(DeactivateSol, deadline).await {
                    // it ended meanwhile
                    Ok(()) | Err(SolError::Refused(refusal::ALREADY_ACTIVE)) => {}
                    Err(error) => return Err(error),
                }
                self.command(ActivateSol, deadline).await?
            }
            other => other?,
        };
        Ok((Line::new(activated.chunk(), retries), opened))
    }

    /// Gives up what is open, as far as the BMC listens.
    async fn leave(mut self, active: bool) {
        let Some(id) = self.session.as_ref().map(|session| session.remote_id()) else { return };
        let all = async {
            let deadline = Instant::now() + FAREWELL;
            if active {
                let _ = self.exchange(DeactivateSol.into(), deadline, SOME_TRIES).await;
            }
            let _ = self.exchange(CloseSession(id).into(), deadline, SOME_TRIES).await;
        };
        let _ = timeout(FAREWELL, all).await;
    }
}

fn passing(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::WouldBlock
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}

/// Get Device ID: anything answers it.
fn are_you_there() -> Message {
    Message::new_request(NetFn::App, 0x01, Vec::new())
}

impl SolLink {
    /// Logs in and activates the serial line, within `within`. `take_over`: a session that has it is made to give it
    /// up, as Ironic does. The line's UDP port is the session's; a BMC that names another one is not followed.
    ///
    /// # Errors
    /// As any command; the BMC refuses. Nothing is left open.
    pub async fn open(
        target: &Target,
        settings: &IpmiSettings,
        take_over: bool,
        within: Duration,
    ) -> Result<(SolLink, Opened), SolError> {
        let begun = Instant::now();
        let deadline = begun + within;
        let mut wire = timeout_at(deadline, Wire::new(target, settings))
            .await
            .map_err(|_| IpmiError::Silent(begun.elapsed()))??;
        let opened = match wire.log_in(target, deadline).await {
            Ok(()) => wire.activate(take_over, deadline).await,
            Err(error) => Err(error.into()),
        };
        match opened {
            Ok((line, opened)) => Ok((SolLink { wire, line }, opened)),
            Err(error) => {
                wire.leave(false).await;
                Err(error)
            }
        }
    }

    /// Carries characters both ways until the line ends. `input` gives what goes in, `None` to end it; it is asked only
    /// while there is room. It must not lose anything when it is dropped while it waits.
    pub async fn run<F>(&mut self, mut input: impl FnMut() -> F, mut out: impl FnMut(SolEvent)) -> SolEnd
    where
        F: Future<Output = Option<SolInput>>,
    {
        let mut heard = Instant::now();
        let mut asked: Option<(Instant, u32)> = None;
        let mut buffer = vec![0; MAX_DATAGRAM];
        for payload in std::mem::take(&mut self.wire.early) {
            if let Some(end) = self.sol(&payload, &mut out).await {
                return end;
            }
        }
        loop {
            while let Some(payload) = self.line.poll(Instant::now().into_std()) {
                if let Err(error) = self.wire.send_sol(&payload).await {
                    return SolEnd::Socket(error.to_string());
                }
            }
            if self.line.is_lost() {
                return SolEnd::Silent;
            }
            let alive = match asked {
                None => heard + KEEP_ALIVE,
                Some((at, _)) => at + ANSWER,
            };
            let wake = self.line.due().map_or(alive, |due| alive.min(Instant::from_std(due)));
            let room = self.line.queued() < 256;
            tokio::select! {
                received = self.wire.socket.recv(&mut buffer) => {
                    let Ok(len) = received else {
                        // the other host's word that nobody listens; never a busy loop
                        tokio::task::yield_now().await;
                        continue;
                    };
                    match self.wire.read(&buffer[..len], None) {
                        Heard::Nothing => continue,
                        Heard::Answer(_) | Heard::Alive => {}
                        Heard::Sol(payload) => if let Some(end) = self.sol(&payload, &mut out).await {
                            return end;
                        },
                    }
                    heard = Instant::now();
                    asked = None;
                }
                given = input(), if room => match given {
                    None => return SolEnd::Closed,
                    Some(SolInput::Data(data)) => { self.line.write(&data); }
                    Some(SolInput::Break) => self.line.signal(operation::BREAK),
                },
                () = sleep_until(wake) => {
                    if Instant::now() < alive {
                        continue;
                    }
                    let count = asked.map_or(0, |(_, count)| count);
                    if count >= MISSED {
                        return SolEnd::Silent;
                    }
                    asked = Some((Instant::now(), count + 1));
                    let frame = self.wire.next_frame(are_you_there());
                    if let Err(error) = self.wire.send_frame(&frame).await {
                        return SolEnd::Socket(error.to_string());
                    }
                }
            }
        }
    }

    async fn sol(&mut self, payload: &[u8], out: &mut impl FnMut(SolEvent)) -> Option<SolEnd> {
        let news = self.line.receive(Instant::now().into_std(), payload).ok()?;
        if let Some(reply) = news.reply
            && let Err(error) = self.wire.send_sol(&reply).await
        {
            return Some(SolEnd::Socket(error.to_string()));
        }
        if news.flags & condition::OVERRUN != 0 {
            out(SolEvent::Overrun);
        }
        if !news.data.is_empty() {
            out(SolEvent::Data(news.data));
        }
        if news.flags & condition::BREAK != 0 {
            out(SolEvent::Break);
        }
        (news.flags & condition::DEACTIVATED != 0).then_some(SolEnd::Deactivated)
    }

    /// Ends it on the BMC, as far as that listens; takes two seconds at the most.
    pub async fn close(self) {
        self.wire.leave(true).await;
    }
}
