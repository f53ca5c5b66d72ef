//! The BMC itself, without I/O: datagram in, datagram out.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferric_drivers::Secret;
use ferric_drivers::protocol::ipmi::CipherSuite;
use ferric_drivers::protocol::ipmi::command::storage::CLEAR_SEL;
use ferric_drivers::protocol::ipmi::command::{
    BootFlags, CHASSIS_CONTROL, CHASSIS_IDENTIFY, CLOSE_SESSION, ChassisControl, GET_BOOT_OPTIONS,
    GET_CHASSIS_STATUS, SET_BOOT_OPTIONS, SET_PRIVILEGE,
};
use ferric_drivers::protocol::ipmi::packet::{Datagram, Frame, PayloadType, Plus, plain, pong, sessionless};
use ferric_drivers::protocol::ipmi::rakp::{
    BmcProof, Exchange, OpenRequest, OpenResponse, Proof, Rakp1, Rakp2, status,
};
use ferric_drivers::protocol::ipmi::session::Session;
use ferric_drivers::protocol::ipmi::{bridge, v15};

use super::bridging::{self, Passed};
use super::health::Health;
use super::personality::Mood;
use super::sol::{Outgoing, Sol, ToyMachine};
use super::v15::Challenge;
use super::{Chassis, Personality};

/// Attempts to open a session that are remembered; the oldest gives way.
pub(super) const MAX_PENDING: usize = 16;
/// A session unused for so long is dropped (IPMI 2.0 §6.12.15).
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) const APP: u8 = 0x06;
const CHASSIS: u8 = 0x00;
const STORAGE: u8 = 0x0A;
pub(super) const USER: u8 = 2;
const OPERATOR: u8 = 3;

/// A BMC's accounts and limits.
#[derive(Clone, Debug)]
pub struct BmcConfig {
    /// Its one user.
    pub user: String,
    /// That user's password, at most 20 bytes.
    pub password: Secret<String>,
    /// The highest level of that user: 2 user, 3 operator, 4 administrator.
    pub max_level: u8,
    /// The BMC key Kg, `None` where the password serves.
    pub kg: Option<Secret<Vec<u8>>>,
    /// The suites it takes; others are refused.
    pub suites: Vec<CipherSuite>,
    /// Sessions it holds at the same time.
    pub max_sessions: usize,
    /// Its GUID.
    pub guid: [u8; 16],
    /// What make it is.
    pub personality: Personality,
}

impl Default for BmcConfig {
    fn default() -> Self {
        Self {
            user: "admin".to_owned(),
            password: Secret::new("password".to_owned()),
            max_level: 4,
            kg: None,
            suites: CipherSuite::ALL.to_vec(),
            max_sessions: 4,
            guid: *b"ferric-sim-bmc\0\0",
            personality: Personality::default(),
        }
    }
}

/// What a BMC has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BmcStats {
    /// Sessions open now.
    pub sessions: usize,
    /// Sessions opened so far.
    pub opened: u64,
    /// Sessions refused because all slots were taken.
    pub full: u64,
    /// Attempts refused because of their suite.
    pub suite_refused: u64,
    /// Commands carried out in sessions; repeated requests count once.
    pub commands: u64,
    /// Commands that a fragile BMC lost because they came too fast.
    pub upset: u64,
    /// The suite of the session opened last, `None` when that was one of IPMI 1.5.
    pub suite: Option<CipherSuite>,
}

/// An attempt to open a session.
struct Pending {
    suite: CipherSuite,
    console_id: u32,
    bmc_id: u32,
    exchange: Option<Exchange>,
}

/// An open session of either version.
pub(super) enum Open {
    Plus(Session),
    Old(v15::Session),
}

impl Open {
    fn seal(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        match self {
            Open::Plus(session) => Some(session.seal(frame, random()?)),
            Open::Old(session) => session.seal(frame),
        }
    }
}

pub(super) struct Live {
    pub(super) session: Open,
    pub(super) level: u8,
    pub(super) max_level: u8,
    pub(super) used: Instant,
    /// The last request and its answer: a repetition is answered again and not carried out again.
    pub(super) last: Option<(Frame, Frame)>,
    /// What opened it, for a console that did not hear it.
    pub(super) opening: Vec<u8>,
}

pub(super) struct BmcCore {
    pub(super) config: BmcConfig,
    chassis: Arc<dyn Chassis>,
    pub(super) health: Health,
    pub(super) sol: Sol,
    /// Who sent the datagram that is being answered.
    pub(super) from: SocketAddr,
    /// Where it is.
    pub(super) at: SocketAddr,
    /// It says the contrary of how the power is.
    pub(super) wrong_power: bool,
    pending: VecDeque<Pending>,
    pub(super) challenges: VecDeque<Challenge>,
    pub(super) sessions: HashMap<u32, Live>,
    pub(super) stats: BmcStats,
    mood: Mood,
    /// Messages that wait to be fetched.
    queue: VecDeque<Vec<u8>>,
    /// The last answer, for one that repeats itself.
    previous: Option<Vec<u8>>,
}

/// What a datagram is answered with: at most one answer, and a message that follows it.
pub(super) type Answers = Option<(Vec<u8>, Option<Vec<u8>>)>;

pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

impl BmcCore {
    pub(super) fn new(config: BmcConfig, chassis: Arc<dyn Chassis>) -> Self {
        Self {
            health: Health::new(&config.guid),
            sol: {
                let mut sol = Sol::new(Arc::new(ToyMachine(chassis.clone())));
                if config.personality.stale_sol {
                    sol.occupy();
                }
                sol
            },
            from: SocketAddr::from(([0, 0, 0, 0], 0)),
            at: SocketAddr::from(([0, 0, 0, 0], 0)),
            wrong_power: false,
            config,
            chassis,
            pending: VecDeque::new(),
            challenges: VecDeque::new(),
            sessions: HashMap::new(),
            stats: BmcStats::default(),
            mood: Mood::default(),
            queue: VecDeque::new(),
            previous: None,
        }
    }

    pub(super) fn stats(&self) -> BmcStats {
        BmcStats { sessions: self.sessions.len(), upset: self.mood.upset, ..self.stats }
    }

    pub(super) fn forget_sessions(&mut self) {
        self.sessions.clear();
        self.pending.clear();
        self.challenges.clear();
        self.sol.forget();
    }

    /// Datagrams of the serial line that nobody asked for.
    pub(super) fn unasked(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut all = Vec::new();
        for Outgoing { session, peer, payload } in self.sol.outgoing(now) {
            let Some(Live { session: Open::Plus(session), .. }) = self.sessions.get_mut(&session) else {
                continue;
            };
            let Some(iv) = random() else { continue };
            all.push((peer, session.seal_as(PayloadType::Sol, &payload, iv)));
        }
        all
    }

    fn serial(&mut self, now: Instant, packet: &Plus<'_>) -> Option<Vec<u8>> {
        let live = self.sessions.get_mut(&packet.session_id)?;
        let Open::Plus(session) = &mut live.session else { return None };
        let payload = session.open_as(PayloadType::Sol, packet).ok()?;
        live.used = now;
        let reply = self.sol.receive(now, packet.session_id, self.from, &payload)?;
        Some(session.seal_as(PayloadType::Sol, &reply, random()?))
    }

    /// The answers to a datagram: none, one, or more.
    pub(super) fn receive(&mut self, now: Instant, datagram: &[u8], wrong_password: bool) -> Vec<Vec<u8>> {
        let (first, follows) = self.answers(now, datagram, wrong_password).unzip();
        let mut all: Vec<_> = first.into_iter().chain(follows.flatten()).collect();
        if self.config.personality.repeats_itself && !all.is_empty() {
            let last = all.last().cloned();
            all.extend(std::mem::replace(&mut self.previous, last));
        }
        all
    }

    fn answers(&mut self, now: Instant, datagram: &[u8], wrong_password: bool) -> Answers {
        let one = |answer: Option<Vec<u8>>| answer.map(|answer| (answer, None));
        let Ok(decoded) = Datagram::decode(datagram) else {
            return self.old(now, &v15::Packet::decode(datagram).ok()?, wrong_password);
        };
        match decoded {
            Datagram::Ping(tag) => Some((pong(tag), None)),
            Datagram::Pong(_) => None,
            Datagram::Sessionless(frame) => {
                let request = Frame::decode(frame).ok()?;
                one(sessionless(&self.outside(&request)?.encode()))
            }
            Datagram::Plus(_) if !self.config.personality.plus => None,
            Datagram::Plus(plus) => match plus.payload_type {
                PayloadType::Ipmi => self.inside_plus(now, &plus),
                PayloadType::OpenSessionRequest => one(self.open(now, plus.payload)),
                PayloadType::Rakp1 => one(self.rakp1(plus.payload, wrong_password)),
                PayloadType::Rakp3 => one(self.rakp3(now, plus.payload, wrong_password)),
                PayloadType::Sol => one(self.serial(now, &plus)),
                PayloadType::OpenSessionResponse | PayloadType::Rakp2 | PayloadType::Rakp4 => None,
            },
        }
    }

    pub(super) fn password(&self, wrong: bool) -> Vec<u8> {
        let mut password = self.config.password.expose().clone().into_bytes();
        if wrong {
            password.push(b'?');
        }
        password
    }

    /// Commands that need no session.
    fn outside(&mut self, request: &Frame) -> Option<Frame> {
        let data = request.message.data();
        match (request.message.netfn_raw(), request.message.cmd()) {
            (APP, v15::GET_CAPABILITIES) => {
                let capabilities = self.config.personality.capabilities(self.config.kg.is_some());
                Some(request.response(0, &capabilities))
            }
            (APP, v15::GET_CHALLENGE) => self.challenge(request),
            (APP, 0x37) => Some(request.response(0, &self.config.guid)),
            (APP, 0x54) => {
                let mut records = vec![1];
                // sixteen bytes for each list index; ours all fit into the first
                if data.get(2).is_some_and(|index| index & 0x3F == 0) {
                    for suite in &self.config.suites {
                        let [authentication, integrity, confidentiality] = suite.algorithms();
                        records.extend([
                            0xC0,
                            suite.id(),
                            authentication,
                            0x40 | integrity,
                            0x80 | confidentiality,
                        ]);
                    }
                }
                Some(request.response(0, &records))
            }
            _ => None,
        }
    }

    fn open(&mut self, now: Instant, payload: &[u8]) -> Option<Vec<u8>> {
        let OpenRequest { tag, console_id, algorithms } = OpenRequest::decode(payload).ok()?;
        let answer = |outcome| {
            let response = OpenResponse { tag, console_id, outcome };
            Some(plain(PayloadType::OpenSessionResponse, &response.encode()))
        };
        if let Some(known) = self.pending.iter().find(|one| one.console_id == console_id)
            && known.suite.algorithms() == algorithms
        {
            return answer(Ok((known.bmc_id, algorithms)));
        }
        let offered =
            CipherSuite::from_algorithms(algorithms).filter(|suite| self.config.suites.contains(suite));
        let Some(suite) = offered else {
            self.stats.suite_refused += 1;
            return answer(Err(status::NO_MATCHING_SUITE));
        };
        self.sessions.retain(|_, live| now.duration_since(live.used) < SESSION_TIMEOUT);
        if self.sessions.len() >= self.config.max_sessions {
            self.stats.full += 1;
            return answer(Err(status::NO_RESOURCES));
        }
        let bmc_id = u32::from_le_bytes(random()?).max(1);
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending { suite, console_id, bmc_id, exchange: None });
        let chosen = self.config.personality.other_suite.map_or(algorithms, CipherSuite::algorithms);
        answer(Ok((bmc_id, chosen)))
    }

    fn rakp1(&mut self, payload: &[u8], wrong_password: bool) -> Option<Vec<u8>> {
        let message = Rakp1::decode(payload).ok()?;
        let password = self.password(wrong_password);
        let refuse = |console_id, code| {
            let response = Rakp2 { tag: message.tag, console_id, outcome: Err(code) };
            Some(plain(PayloadType::Rakp2, &response.encode()))
        };
        let Some(at) = self.pending.iter().position(|one| one.bmc_id == message.bmc_id) else {
            return refuse(0, status::INVALID_SESSION);
        };
        let console_id = self.pending[at].console_id;
        if message.user != self.config.user.as_bytes() {
            self.pending.remove(at);
            return refuse(console_id, status::UNAUTHORIZED_NAME);
        }
        if message.role & 0x0F > self.config.max_level {
            self.pending.remove(at);
            return refuse(console_id, status::UNAUTHORIZED_ROLE);
        }
        let one = &mut self.pending[at];
        let same =
            |known: &&Exchange| known.console_random == message.console_random && known.role == message.role;
        let exchange = match one.exchange.as_ref().filter(same) {
            Some(known) => known.clone(),
            None => Exchange {
                suite: one.suite,
                console_id,
                bmc_id: one.bmc_id,
                console_random: message.console_random,
                bmc_random: random()?,
                guid: self.config.guid,
                role: message.role,
                user: message.user.clone(),
            },
        };
        let code = exchange.rakp2_code(&password).to_vec();
        let outcome = Ok(BmcProof { random: exchange.bmc_random, guid: exchange.guid, code });
        one.exchange = Some(exchange);
        Some(plain(PayloadType::Rakp2, &Rakp2 { tag: message.tag, console_id, outcome }.encode()))
    }

    fn rakp3(&mut self, now: Instant, payload: &[u8], wrong_password: bool) -> Option<Vec<u8>> {
        let proof = Proof::decode(payload).ok()?;
        if let Some(live) = self.sessions.get(&proof.receiver_id) {
            return Some(live.opening.clone());
        }
        let answer = |status, receiver_id, code| {
            plain(PayloadType::Rakp4, &Proof { tag: proof.tag, status, receiver_id, code }.encode())
        };
        let Some(at) = self.pending.iter().position(|one| one.bmc_id == proof.receiver_id) else {
            return Some(answer(status::INVALID_SESSION, 0, Vec::new()));
        };
        let pending = self.pending.remove(at)?;
        if proof.status != status::OK {
            return None;
        }
        let password = self.password(wrong_password);
        let exchange = pending.exchange?;
        if !exchange.rakp3_matches(&password, &proof.code) {
            return Some(answer(status::INVALID_CHECK, pending.console_id, Vec::new()));
        }
        if self.sessions.len() >= self.config.max_sessions {
            self.stats.full += 1;
            return Some(answer(status::NO_RESOURCES, pending.console_id, Vec::new()));
        }
        let keys = exchange.keys(self.config.kg.as_ref().map_or(&password[..], |kg| kg.expose()));
        let rakp4 = answer(status::OK, pending.console_id, exchange.rakp4_code(&keys));
        let max_level = match exchange.role & 0x0F {
            0 => self.config.max_level,
            level => level.min(self.config.max_level),
        };
        let session = Open::Plus(Session::new(keys, pending.bmc_id, pending.console_id));
        let live = Live { session, level: USER, max_level, used: now, last: None, opening: rakp4.clone() };
        self.sessions.insert(pending.bmc_id, live);
        self.stats.opened += 1;
        self.stats.suite = Some(pending.suite);
        Some(rakp4)
    }

    fn inside_plus(&mut self, now: Instant, packet: &Plus<'_>) -> Answers {
        let live = self.sessions.get_mut(&packet.session_id)?;
        let Open::Plus(session) = &mut live.session else { return None };
        let request = Frame::decode(&session.open(packet).ok()?).ok()?;
        self.inside(now, packet.session_id, &request)
    }

    /// Answers a command of a session.
    pub(super) fn inside(&mut self, now: Instant, id: u32, request: &Frame) -> Answers {
        if !self.mood.hears(&self.config.personality, now) {
            return None;
        }
        let live = self.sessions.get_mut(&id)?;
        live.used = now;
        let repeated =
            live.last.as_ref().filter(|(known, _)| known == request).map(|(_, answer)| answer.clone());
        let (answer, follows) = match repeated {
            Some(answer) => (answer, None),
            None => {
                self.stats.commands += 1;
                let (answer, follows) = self.carry_out(now, id, request);
                if let Some(live) = self.sessions.get_mut(&id) {
                    live.last = Some((request.clone(), follows.clone().unwrap_or_else(|| answer.clone())));
                }
                (answer, follows)
            }
        };
        let session = &mut self.sessions.get_mut(&id)?.session;
        let sealed = session.seal(&answer.encode())?;
        let second = follows.and_then(|frame| session.seal(&frame.encode()));
        if let Some(id) = closed_by(request, &answer) {
            self.sessions.remove(&id);
            self.sol.session_ended(id);
        }
        Some((sealed, second))
    }

    fn carry_out(&mut self, now: Instant, id: u32, request: &Frame) -> (Frame, Option<Frame>) {
        if let Some(code) = self.config.personality.busy.pop_front() {
            return (request.response(code, &[]), None);
        }
        let Personality { behind, bridging: manner, .. } = &self.config.personality;
        match (request.message.netfn_raw(), request.message.cmd()) {
            (APP, bridge::SEND_MESSAGE) if !behind.is_empty() => {
                let Passed { code, data, follows } =
                    bridging::send(behind, *manner, &mut self.queue, request);
                (request.response(code, &data), follows)
            }
            (APP, bridge::GET_MESSAGE) if !behind.is_empty() => {
                let (code, data) = bridging::fetch(&mut self.queue);
                (request.response(code, &data), None)
            }
            _ => (self.execute(now, id, request), None),
        }
    }

    fn execute(&mut self, now: Instant, session_id: u32, request: &Frame) -> Frame {
        const INVALID_COMMAND: u8 = 0xC1;
        const TOO_SHORT: u8 = 0xC7;
        const INVALID_DATA: u8 = 0xCC;
        const NO_PRIVILEGE: u8 = 0xD4;
        let data = request.message.data();
        let level = self.sessions.get(&session_id).map_or(0, |live| live.level);
        self.health.look(self.chassis.power());
        let about = (request.message.netfn_raw(), request.message.cmd());
        let lives =
            |id| self.sessions.get(&id).is_some_and(|live| now.duration_since(live.used) < SESSION_TIMEOUT);
        if let Some(answer) = self.sol.command(about, data, (session_id, level, self.from), lives) {
            return match answer {
                Ok(data) => request.response(0, &data),
                Err(code) => request.response(code, &[]),
            };
        }
        let done = |data: &[u8]| request.response(0, data);
        let failed = |code| request.response(code, &[]);
        match (request.message.netfn_raw(), request.message.cmd()) {
            (APP, 0x01) => done(&self.config.personality.device_id()),
            (APP, SET_PRIVILEGE) => self.set_privilege(session_id, request),
            (APP, CLOSE_SESSION) => match data.first_chunk::<4>().map(|id| u32::from_le_bytes(*id)) {
                None => failed(TOO_SHORT),
                Some(id) if self.sessions.contains_key(&id) => done(&[]),
                Some(_) => failed(0x87),
            },
            (APP, 0x37 | 0x38 | 0x54) => self.outside(request).unwrap_or_else(|| failed(INVALID_COMMAND)),
            (CHASSIS, GET_CHASSIS_STATUS) => {
                let power = self.mood.power(&self.config.personality, now, self.chassis.power());
                done(&[u8::from(power != self.wrong_power), 0, self.health.misc(), 0])
            }
            (CHASSIS, CHASSIS_CONTROL | CHASSIS_IDENTIFY | SET_BOOT_OPTIONS) if level < OPERATOR => {
                failed(NO_PRIVILEGE)
            }
            (CHASSIS, CHASSIS_CONTROL) => {
                match data.first().map(|byte| ChassisControl::from_number(byte & 0x0F)) {
                    None => failed(TOO_SHORT),
                    Some(None) => failed(INVALID_DATA),
                    Some(Some(control)) => {
                        let code = self.control(now, control);
                        if code == 0 {
                            self.health.control(control);
                            self.health.look(self.chassis.power());
                        }
                        failed(code)
                    }
                }
            }
            (CHASSIS, CHASSIS_IDENTIFY) => {
                self.health.identify(data);
                done(&[])
            }
            (CHASSIS, SET_BOOT_OPTIONS) => match data {
                [5, a, b, c, d, e] => {
                    self.chassis.set_boot_flags(BootFlags::decode([*a, *b, *c, *d, *e]));
                    self.mood.set_flags(now);
                    done(&[])
                }
                [3, ..] if self.config.personality.no_parameter_3 => failed(0x80),
                [3, keep, ..] => {
                    self.mood.keep_flags(*keep);
                    done(&[])
                }
                [0..=4, ..] => done(&[]),
                [] => failed(TOO_SHORT),
                [..] => failed(0x80),
            },
            (CHASSIS, GET_BOOT_OPTIONS) => match data.first().map(|parameter| parameter & 0x7F) {
                Some(5) => {
                    self.expire_flags(now);
                    let [a, b, c, d, e] = self.chassis.boot_flags().encode();
                    done(&[1, 5, a, b, c, d, e])
                }
                Some(parameter @ 0..=3) => done(&[1, parameter, 0]),
                Some(4) => done(&[1, 4, 0, 0]),
                Some(_) => failed(0x80),
                None => failed(TOO_SHORT),
            },
            (STORAGE, CLEAR_SEL) if level < OPERATOR => failed(NO_PRIVILEGE),
            (net_fn, command) => match self.health.answer(net_fn, command, data) {
                Some(Ok(data)) => done(&data),
                Some(Err(code)) => failed(code),
                None => failed(INVALID_COMMAND),
            },
        }
    }

    fn set_privilege(&mut self, session_id: u32, request: &Frame) -> Frame {
        let Some(live) = self.sessions.get_mut(&session_id) else { return request.response(0xD5, &[]) };
        match request.message.data().first().map(|level| level & 0x0F) {
            None => request.response(0xC7, &[]),
            Some(0) => request.response(0, &[live.level]),
            Some(wanted) if wanted > live.max_level => request.response(0x81, &[]),
            Some(wanted) => {
                live.level = wanted;
                request.response(0, &[wanted])
            }
        }
    }

    fn expire_flags(&self, now: Instant) {
        if !self.mood.has_flags(&self.config.personality, now) {
            self.chassis.set_boot_flags(BootFlags::default());
        }
    }

    /// Carries out Chassis Control; gives the completion code.
    fn control(&mut self, now: Instant, control: ChassisControl) -> u8 {
        const NOT_NOW: u8 = 0xD5;
        let before = self.chassis.power();
        match control {
            ChassisControl::Cycle | ChassisControl::Reset | ChassisControl::Soft | ChassisControl::Diag
                if !before =>
            {
                return NOT_NOW;
            }
            ChassisControl::Off if !before && self.config.personality.already_off != 0 => {
                return self.config.personality.already_off;
            }
            ChassisControl::Off
            | ChassisControl::On
            | ChassisControl::Cycle
            | ChassisControl::Reset
            | ChassisControl::Diag
            | ChassisControl::Soft => {}
        }
        self.expire_flags(now);
        self.mood.changes(now, control, before);
        self.chassis.control(control);
        let starts = match control {
            ChassisControl::On | ChassisControl::Cycle | ChassisControl::Reset => true,
            ChassisControl::Off | ChassisControl::Soft | ChassisControl::Diag => false,
        };
        if starts && self.config.personality.flags_for_one_start {
            self.chassis.set_boot_flags(BootFlags::default());
        }
        0
    }
}

/// The session that a request closed.
fn closed_by(request: &Frame, answer: &Frame) -> Option<u32> {
    let closes = (request.message.netfn_raw(), request.message.cmd()) == (APP, CLOSE_SESSION);
    let done = answer.message.data().first() == Some(&0);
    let id = request.message.data().first_chunk::<4>()?;
    (closes && done).then(|| u32::from_le_bytes(*id))
}
