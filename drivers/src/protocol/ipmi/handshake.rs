//! The console's side of opening a session, as a state machine without I/O.

use super::command::CloseSession;
use super::crypto::{BLOCK, CipherSuite};
use super::packet::{Datagram, Frame, PayloadType, plain};
use super::rakp::{Exchange, Keys, OpenRequest, OpenResponse, Proof, Rakp1, Rakp2, status};
use super::session::Session;
use super::settings::Privilege;
use crate::secret::Secret;

/// Who opens a session, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// User name, at most 16 bytes; empty for the null user.
    pub user: Vec<u8>,
    /// Password, at most 20 bytes.
    pub password: Secret<Vec<u8>>,
    /// The BMC key Kg; `None` where the BMC has none and the password takes its place.
    pub kg: Option<Secret<Vec<u8>>>,
    /// The level to work at.
    pub privilege: Privilege,
}

/// What a datagram led to.
pub enum Progress {
    /// Not for us, a repetition, or damaged: go on waiting.
    Ignored,
    /// Send this next, and again until an answer comes.
    Send(Vec<u8>),
    /// The session is open.
    Open(Box<Session>),
}

/// Why a session cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The BMC does not want this suite, or answered with another: try the next suite.
    #[error("cipher suite {} refused: {reason}", .suite.id())]
    Suite {
        /// The suite asked for.
        suite: CipherSuite,
        /// Status in words, or that it chose another.
        reason: &'static str,
    },
    /// User name, password, privilege level or Kg are not accepted.
    #[error("{0}")]
    Credentials(&'static str),
    /// The BMC lost track of this attempt: begin again.
    #[error("the BMC forgot the attempt: {0}")]
    Forgotten(&'static str),
    /// The BMC holds as many sessions as it can: wait until one is free.
    #[error("{0}")]
    Full(&'static str),
    /// The BMC refuses for another reason.
    #[error("{0}")]
    Refused(&'static str),
}

enum Stage {
    Opening,
    Rakp1 {
        bmc_id: u32,
    },
    /// The BMC's proof was wrong.
    Disproved {
        bmc_id: u32,
    },
    Rakp3 {
        exchange: Box<Exchange>,
        keys: Box<Keys>,
    },
}

/// An attempt to open a session.
pub struct Handshake<'a> {
    login: &'a Login,
    suite: CipherSuite,
    console_id: u32,
    console_random: [u8; 16],
    stage: Stage,
}

const TAG_OPEN: u8 = 0;
const TAG_RAKP1: u8 = 1;
const TAG_RAKP3: u8 = 2;

impl<'a> Handshake<'a> {
    /// Begins an attempt; gives it and the first datagram. `console_id` must not be 0 and must be new,
    /// `console_random` must be random.
    #[must_use]
    pub fn start(
        login: &'a Login,
        suite: CipherSuite,
        console_id: u32,
        console_random: [u8; 16],
    ) -> (Self, Vec<u8>) {
        let request = OpenRequest { tag: TAG_OPEN, console_id, algorithms: suite.algorithms() };
        let first = plain(PayloadType::OpenSessionRequest, &request.encode());
        (Self { login, suite, console_id, console_random, stage: Stage::Opening }, first)
    }

    /// Name lookup alone, so that equal levels of several users do not matter.
    fn role(&self) -> u8 {
        0x10 | self.login.privilege.number()
    }

    /// Looks at a datagram from the BMC's address.
    pub fn receive(&mut self, datagram: &[u8]) -> Result<Progress, HandshakeError> {
        let Ok(Datagram::Plus(plus)) = Datagram::decode(datagram) else { return Ok(Progress::Ignored) };
        if plus.session_id != 0 || plus.encrypted || plus.authenticated {
            return Ok(Progress::Ignored);
        }
        match (&self.stage, plus.payload_type) {
            (Stage::Opening, PayloadType::OpenSessionResponse) => self.opened(plus.payload),
            (Stage::Rakp1 { bmc_id }, PayloadType::Rakp2) => self.answered(plus.payload, *bmc_id),
            (Stage::Rakp3 { exchange, keys }, PayloadType::Rakp4) => {
                Self::proven(plus.payload, exchange, keys, self.login)
            }
            (Stage::Opening | Stage::Rakp1 { .. } | Stage::Disproved { .. } | Stage::Rakp3 { .. }, _) => {
                Ok(Progress::Ignored)
            }
        }
    }

    /// Whether the BMC has agreed to open a session and was told the user's name.
    #[must_use]
    pub fn named(&self) -> bool {
        match self.stage {
            Stage::Opening => false,
            Stage::Rakp1 { .. } | Stage::Disproved { .. } | Stage::Rakp3 { .. } => true,
        }
    }

    /// Whether the BMC has proved that it knows the password: what it refuses after that is our proof.
    #[must_use]
    pub fn proved(&self) -> bool {
        match self.stage {
            Stage::Opening | Stage::Rakp1 { .. } | Stage::Disproved { .. } => false,
            Stage::Rakp3 { .. } => true,
        }
    }

    /// A datagram that makes the BMC give up what it holds for this attempt, where there is something to give
    /// up. `iv` must be fresh and random.
    #[must_use]
    pub fn abandon(&self, iv: [u8; BLOCK]) -> Option<Vec<u8>> {
        match &self.stage {
            // out of order, RAKP 3 kills pyghmi's BMC; the attempt times out by itself
            Stage::Opening | Stage::Rakp1 { .. } => None,
            Stage::Disproved { bmc_id } => {
                let proof = Proof {
                    tag: TAG_RAKP3,
                    status: status::INVALID_CHECK,
                    receiver_id: *bmc_id,
                    code: Vec::new(),
                };
                Some(plain(PayloadType::Rakp3, &proof.encode()))
            }
            Stage::Rakp3 { exchange, keys } => {
                // RAKP 4 may have been lost, and the session be open
                let mut session = Session::new((**keys).clone(), exchange.console_id, exchange.bmc_id);
                let frame = Frame::request(0, CloseSession(exchange.bmc_id).into());
                Some(session.seal(&frame.encode(), iv))
            }
        }
    }

    fn refusal(&self, code: u8) -> HandshakeError {
        let reason = status::text(code);
        match code {
            0x03..=0x07 | 0x10 | 0x11 => HandshakeError::Suite { suite: self.suite, reason },
            0x02 | 0x08 => HandshakeError::Forgotten(reason),
            0x09 | 0x0A | 0x0C..=0x0F => HandshakeError::Credentials(reason),
            status::NO_RESOURCES | 0x0B => HandshakeError::Full(reason),
            _ => HandshakeError::Refused(reason),
        }
    }

    /// Whether a message is the answer to ours. Refusals may leave the session id out.
    fn is_ours(&self, tag: u8, want: u8, console_id: u32, refused: bool) -> bool {
        tag == want && (console_id == self.console_id || (refused && console_id == 0))
    }

    fn opened(&mut self, payload: &[u8]) -> Result<Progress, HandshakeError> {
        let Ok(answer) = OpenResponse::decode(payload) else { return Ok(Progress::Ignored) };
        if !self.is_ours(answer.tag, TAG_OPEN, answer.console_id, answer.outcome.is_err()) {
            return Ok(Progress::Ignored);
        }
        let (bmc_id, algorithms) = answer.outcome.map_err(|code| self.refusal(code))?;
        if algorithms != self.suite.algorithms() {
            // accepting what was not asked for would let anybody on the network choose the weakest
            let reason = "the BMC answered with another suite";
            return Err(HandshakeError::Suite { suite: self.suite, reason });
        }
        if bmc_id == 0 {
            return Ok(Progress::Ignored);
        }
        self.stage = Stage::Rakp1 { bmc_id };
        let message = Rakp1 {
            tag: TAG_RAKP1,
            bmc_id,
            console_random: self.console_random,
            role: self.role(),
            user: self.login.user.clone(),
        };
        Ok(Progress::Send(plain(PayloadType::Rakp1, &message.encode())))
    }

    fn answered(&mut self, payload: &[u8], bmc_id: u32) -> Result<Progress, HandshakeError> {
        let Ok(answer) = Rakp2::decode(payload) else { return Ok(Progress::Ignored) };
        if !self.is_ours(answer.tag, TAG_RAKP1, answer.console_id, answer.outcome.is_err()) {
            return Ok(Progress::Ignored);
        }
        let proof = answer.outcome.map_err(|code| self.refusal(code))?;
        let exchange = Exchange {
            suite: self.suite,
            console_id: self.console_id,
            bmc_id,
            console_random: self.console_random,
            bmc_random: proof.random,
            guid: proof.guid,
            role: self.role(),
            user: self.login.user.clone(),
        };
        let password = self.login.password.expose();
        if !exchange.rakp2_matches(password, &proof.code) {
            self.stage = Stage::Disproved { bmc_id };
            return Err(HandshakeError::Credentials("its proof does not match the password"));
        }
        let keys = exchange.keys(self.login.kg.as_ref().map_or(password, |kg| kg.expose()));
        let proof = Proof {
            tag: TAG_RAKP3,
            status: status::OK,
            receiver_id: bmc_id,
            code: exchange.rakp3_code(password).to_vec(),
        };
        self.stage = Stage::Rakp3 { exchange: Box::new(exchange), keys: Box::new(keys) };
        Ok(Progress::Send(plain(PayloadType::Rakp3, &proof.encode())))
    }

    fn proven(
        payload: &[u8],
        exchange: &Exchange,
        keys: &Keys,
        login: &Login,
    ) -> Result<Progress, HandshakeError> {
        let Ok(proof) = Proof::decode(payload) else { return Ok(Progress::Ignored) };
        let refused = proof.status != status::OK;
        let ours = proof.receiver_id == exchange.console_id || (refused && proof.receiver_id == 0);
        if proof.tag != TAG_RAKP3 || !ours {
            return Ok(Progress::Ignored);
        }
        if refused {
            let reason = status::text(proof.status);
            return Err(match proof.status {
                status::INVALID_SESSION | status::INACTIVE_SESSION => HandshakeError::Forgotten(reason),
                status::NO_RESOURCES | 0x0B => HandshakeError::Full(reason),
                _ => HandshakeError::Credentials(reason),
            });
        }
        if !exchange.rakp4_matches(keys, &proof.code) {
            return Err(HandshakeError::Credentials(match login.kg {
                Some(_) => "its session key does not match ipmi_hex_kg_key",
                None => {
                    "its session key does not match; a BMC key (Kg) may be set: give it as ipmi_hex_kg_key"
                }
            }));
        }
        let session = Session::new(keys.clone(), exchange.console_id, exchange.bmc_id);
        Ok(Progress::Open(Box::new(session)))
    }
}
