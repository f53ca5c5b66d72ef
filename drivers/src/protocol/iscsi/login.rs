//! The login without I/O: security, then operational negotiation, RFC 7143 §6.3.

use std::collections::VecDeque;

use bytes::Bytes;

use super::chap::{self, Challenge, Chap};
use super::limits::{BadKey, Limits, Negotiation, Offer};
use super::pdu::{Header, LoginRequest, LoginResponse, Pdu, Stage};
use super::text::{self, Collector, Pair, TextError};

/// The longest data segment while logging in, in bytes.
const SEGMENT: usize = 8192;
/// A login takes four to six exchanges.
const MAX_EXCHANGES: u32 = 40;
const FIRST_CMD_SN: u32 = 1;
const CHAP_WANTED: &str =
    "the target asks for CHAP, no secret is known: export the disk without CHAP, or give a user and a secret";

/// Who logs in where, and how.
#[derive(Clone, Debug)]
pub struct LoginConfig {
    /// The initiator's name.
    pub initiator: String,
    /// The target's name; none for a discovery session.
    pub target: Option<String>,
    /// The session's own number: the same one again ends the session that had it.
    pub isid: [u8; 6],
    /// Proof, if any.
    pub chap: Option<Chap>,
    /// What we challenge the target with, if it has to prove itself: random, never used twice.
    pub challenge: [u8; chap::CHALLENGE],
    /// What is proposed.
    pub offer: Offer,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Send this, wait for the answer.
    Send(Pdu),
    /// Logged in.
    Done(Established),
    /// Log in there instead.
    Moved(Moved),
}

/// A login that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// What was agreed upon.
    pub limits: Limits,
    /// The number of the first command.
    pub cmd_sn: u32,
    /// The highest command number that the target takes.
    pub max_cmd_sn: u32,
    /// The number of the target's next status.
    pub exp_stat_sn: u32,
}

/// A redirection (0x0101, 0x0102).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// 0x0102.
    pub permanent: bool,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The target says no, with class and detail.
    #[error("login refused ({:#06x}): {}", .0, words(*.0).0)]
    Refused(u16),
    /// The proof of either side is missing or wrong.
    #[error("{0}")]
    Credentials(&'static str),
    /// The target breaks the protocol.
    #[error("{0}")]
    Protocol(&'static str),
    /// A key has an impossible value.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// No text.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// What a login status means, and what to do: RFC 7143 §11.13.5.
pub(super) fn words(status: u16) -> (&'static str, &'static str) {
    match status {
        0x0201 => (
            "the target does not accept the CHAP user or secret",
            "give the user and secret that the target was set up with",
        ),
        0x0202 => (
            "this initiator may not use the target",
            "allow the initiator's name in the target's access list",
        ),
        0x0203 => ("there is no such target", "compare the IQN with the targets that the portal lists"),
        0x0204 => ("the target was removed and comes not back", "look for its new place"),
        0x0205 => ("the target speaks another version of iSCSI", "use a target of RFC 7143 or RFC 3720"),
        0x0206 => ("the session has too many connections", "end the sessions of the same initiator"),
        0x0207 => ("a parameter is missing", "the target wants a key that Ferric does not send: report it"),
        0x0208 => ("the target cannot include the connection", "end the sessions of the same initiator"),
        0x0209 => ("the target does not support this kind of session", "use a target with normal sessions"),
        0x020A => ("there is no such session", "try again"),
        0x020B => ("the login request is invalid to the target", "compare the target's log, and report it"),
        0x0200 => ("the target sees an error of the initiator", "compare the target's log"),
        0x0300 => ("the target has an error of its own", "look into the target's log"),
        0x0301 => ("the target's service is not available", "wait, or start it"),
        0x0302 => ("the target is out of resources", "end other sessions, or wait"),
        _ => ("a status that RFC 7143 does not know", "look into the target's log"),
    }
}

#[derive(Debug, PartialEq)]
enum Phase {
    /// AuthMethod is offered.
    Method,
    /// CHAP_A is offered.
    Algorithm,
    /// Name and response are said.
    Proof,
    /// Nothing is to be proved.
    Open,
    /// The limits.
    Operational,
}

/// One login.
#[derive(Debug)]
pub struct Login {
    config: LoginConfig,
    negotiation: Negotiation,
    phase: Phase,
    asked: Option<Stage>,
    exp_stat_sn: u32,
    collector: Collector,
    /// Pieces of a text of ours that did not fit into one PDU.
    pieces: VecDeque<Bytes>,
    answers: Vec<Pair>,
    exchanges: u32,
}

impl Login {
    /// A login that has not begun.
    pub fn new(config: LoginConfig) -> Self {
        let negotiation = Negotiation::new(config.offer, config.target.is_none());
        Self {
            negotiation,
            config,
            phase: Phase::Method,
            asked: None,
            exp_stat_sn: 0,
            collector: Collector::default(),
            pieces: VecDeque::new(),
            answers: Vec::new(),
            exchanges: 0,
        }
    }

    /// What is sent first.
    pub fn start(&mut self) -> Pdu {
        let method = match &self.config.chap {
            // who offers None alone is left without a word by LIO, if it wants CHAP: this way it says so
            None => "None,CHAP",
            Some(Chap { mutual: None, .. }) => "CHAP,None",
            Some(Chap { mutual: Some(_), .. }) => "CHAP",
        };
        let mut pairs = vec![pair("InitiatorName", &self.config.initiator)];
        match &self.config.target {
            Some(target) => pairs.extend([pair("SessionType", "Normal"), pair("TargetName", target)]),
            None => pairs.push(pair("SessionType", "Discovery")),
        }
        pairs.push(pair("AuthMethod", method));
        self.say(pairs, self.config.chap.is_none().then_some(Stage::Operational))
    }

    /// Takes the target's answer.
    /// Errors: see [`LoginError`]; after one the connection is of no use.
    pub fn receive(&mut self, pdu: &Pdu) -> Result<Step, LoginError> {
        let Header::LoginResponse(response) = &pdu.header else {
            return Err(LoginError::Protocol("another PDU than a login response"));
        };
        self.exp_stat_sn = response.window.stat_sn.wrapping_add(1);
        if response.status_class != 0 {
            return self.refused(response, &pdu.data);
        }
        self.exchanges += 1;
        if self.exchanges > MAX_EXCHANGES {
            return Err(LoginError::Protocol("a login without end"));
        }
        if response.stage != self.stage() {
            return Err(LoginError::Protocol("the stage that the target is in is another"));
        }
        if response.next.is_some() && (response.next != self.asked || response.more) {
            return Err(LoginError::Protocol("the target changes to a stage that was not asked for"));
        }
        let Some(pairs) = self.collector.add(&pdu.data, response.more)? else {
            return Ok(Step::Send(self.request(Bytes::new(), false, None)));
        };
        if let Some(piece) = self.pieces.pop_front() {
            return Ok(Step::Send(self.piece(piece)));
        }
        if self.phase == Phase::Operational {
            return self.operational(&pairs, response);
        }
        self.security(&pairs, response)
    }

    fn refused(&self, response: &LoginResponse, data: &[u8]) -> Result<Step, LoginError> {
        let status = u16::from(response.status_class) << 8 | u16::from(response.status_detail);
        match status {
            0x0101 | 0x0102 => {
                let pairs = text::parse(data)?;
                let address = value(&pairs, "TargetAddress").and_then(portal);
                let (host, port) =
                    address.ok_or(LoginError::Protocol("redirected without a usable address"))?;
                Ok(Step::Moved(Moved { host, port, permanent: status == 0x0102 }))
            }
            0x0201 if self.config.chap.is_none() => Err(LoginError::Credentials(CHAP_WANTED)),
            _ => Err(LoginError::Refused(status)),
        }
    }

    fn security(&mut self, pairs: &[Pair], response: &LoginResponse) -> Result<Step, LoginError> {
        for (key, said) in pairs {
            if key == "AuthMethod" || key.starts_with("CHAP_") {
                continue;
            }
            if let Some(answer) = self.negotiation.hear(key, said)? {
                self.answers.push((key.clone(), answer));
            }
        }
        let mutual = self.config.chap.as_ref().is_some_and(|chap| chap.mutual.is_some());
        match self.phase {
            Phase::Method => match value(pairs, "AuthMethod") {
                Some("CHAP") if self.config.chap.is_some() => {
                    self.phase = Phase::Algorithm;
                    Ok(Step::Send(self.say(vec![pair("CHAP_A", chap::MD5)], None)))
                }
                Some("None") | None if !mutual => {
                    self.phase = Phase::Open;
                    self.leave_security(response)
                }
                Some("None") | None => Err(LoginError::Credentials(
                    "the target does not prove itself: mutual CHAP is required here",
                )),
                Some(_) if self.config.chap.is_none() => Err(LoginError::Credentials(CHAP_WANTED)),
                Some(_) => Err(LoginError::Credentials(
                    "the target does not accept CHAP: set it up with the user and secret, or leave them out",
                )),
            },
            Phase::Algorithm => self.prove(pairs),
            Phase::Proof => {
                if mutual {
                    self.check_proof(pairs)?;
                }
                self.phase = Phase::Open;
                self.leave_security(response)
            }
            Phase::Open | Phase::Operational => self.leave_security(response),
        }
    }

    fn leave_security(&mut self, response: &LoginResponse) -> Result<Step, LoginError> {
        if response.next.is_none() {
            return Ok(Step::Send(self.say(Vec::new(), Some(Stage::Operational))));
        }
        self.phase = Phase::Operational;
        let offers = self.negotiation.offers();
        Ok(Step::Send(self.say(offers, Some(Stage::FullFeature))))
    }

    fn prove(&mut self, pairs: &[Pair]) -> Result<Step, LoginError> {
        let chap = self.config.chap.as_ref().ok_or(LoginError::Protocol("CHAP out of turn"))?;
        if value(pairs, "CHAP_A") != Some(chap::MD5) {
            return Err(LoginError::Credentials(
                "the target does not accept CHAP with MD5: allow it (CHAP_A=5) at the target",
            ));
        }
        let challenge = Challenge::read(value(pairs, "CHAP_I"), value(pairs, "CHAP_C"))
            .ok_or(LoginError::Protocol("no usable CHAP challenge"))?;
        let proof = chap::response(challenge.identifier, &chap.secret, &challenge.bytes);
        let mut said = vec![pair("CHAP_N", &chap.user), pair("CHAP_R", &text::hex(&proof))];
        if let Some(mutual) = &chap.mutual {
            if mutual.secret == chap.secret || challenge.bytes == self.config.challenge {
                return Err(LoginError::Credentials("both directions of CHAP need secrets of their own"));
            }
            said.extend([pair("CHAP_I", "1"), pair("CHAP_C", &text::hex(&self.config.challenge))]);
        }
        self.phase = Phase::Proof;
        Ok(Step::Send(self.say(said, Some(Stage::Operational))))
    }

    fn check_proof(&self, pairs: &[Pair]) -> Result<(), LoginError> {
        let mutual = self.config.chap.as_ref().and_then(|chap| chap.mutual.as_ref());
        let mutual = mutual.ok_or(LoginError::Protocol("CHAP out of turn"))?;
        let (Some(name), Some(proof)) = (value(pairs, "CHAP_N"), value(pairs, "CHAP_R")) else {
            return Err(LoginError::Credentials(
                "the target does not prove itself: set it up with the outgoing user and secret",
            ));
        };
        let expected = chap::response(1, &mutual.secret, &self.config.challenge);
        let right = text::binary(proof).is_some_and(|proof| chap::equal(&proof, &expected));
        if !right || mutual.user.as_ref().is_some_and(|user| user != name) {
            return Err(LoginError::Credentials(
                "the target's own proof is wrong: it is not the one it should be, or has another outgoing secret",
            ));
        }
        Ok(())
    }

    fn operational(&mut self, pairs: &[Pair], response: &LoginResponse) -> Result<Step, LoginError> {
        for (key, said) in pairs {
            if let Some(answer) = self.negotiation.hear(key, said)? {
                self.answers.push((key.clone(), answer));
            }
        }
        if response.next.is_some() {
            return Ok(Step::Done(Established {
                limits: self.negotiation.limits(),
                cmd_sn: FIRST_CMD_SN,
                max_cmd_sn: response.window.max_cmd_sn,
                exp_stat_sn: self.exp_stat_sn,
            }));
        }
        Ok(Step::Send(self.say(Vec::new(), Some(Stage::FullFeature))))
    }

    fn stage(&self) -> Stage {
        if self.phase == Phase::Operational { Stage::Operational } else { Stage::Security }
    }

    /// A request with `pairs` and what the target is still owed an answer to.
    fn say(&mut self, mut pairs: Vec<Pair>, next: Option<Stage>) -> Pdu {
        pairs.append(&mut self.answers);
        self.asked = next;
        let whole = text::encode(&pairs);
        let mut pieces =
            (0..whole.len()).step_by(SEGMENT).map(|at| whole.slice(at..whole.len().min(at + SEGMENT)));
        let first = pieces.next().unwrap_or_default();
        self.pieces = pieces.collect();
        self.piece(first)
    }

    fn piece(&self, piece: Bytes) -> Pdu {
        let more = !self.pieces.is_empty();
        self.request(piece, more, if more { None } else { self.asked })
    }

    fn request(&self, data: Bytes, more: bool, next: Option<Stage>) -> Pdu {
        let header = LoginRequest {
            more,
            stage: self.stage(),
            next,
            version_max: 0,
            version_min: 0,
            isid: self.config.isid,
            tsih: 0,
            itt: 0,
            cid: 0,
            cmd_sn: FIRST_CMD_SN,
            exp_stat_sn: self.exp_stat_sn,
        };
        Pdu::with(header, data)
    }
}

fn pair(key: &str, value: &str) -> Pair {
    (key.to_owned(), value.to_owned())
}

fn value<'a>(pairs: &'a [Pair], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(said, _)| said == key).map(|(_, value)| value.as_str())
}

/// Host and port of `TargetAddress`: `host[:port][,group]`, where an IPv6 address stands in brackets.
pub(super) fn portal(address: &str) -> Option<(String, u16)> {
    let address = address.split(',').next()?;
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
        }
        None => match address.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = port.map_or(Some(3260), |port| port.parse().ok().filter(|port| *port != 0))?;
    let plain = !host.is_empty()
        && host.len() < 256
        && host.chars().all(|c| c.is_ascii_alphanumeric() || ".:-_%".contains(c));
    plain.then(|| (host.to_owned(), port))
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
