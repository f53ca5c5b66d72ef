//! The messages that open an RMCP+ session, for both sides, and the codes and keys that they agree on
//! (IPMI 2.0 §13.17 to §13.24, §13.31, §13.32).

use super::crypto::{CipherSuite, Code, hmac, hmac_matches};
use super::packet::Malformed;

/// Longest user name, bytes.
pub const MAX_USER: usize = 16;

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(Malformed::Short)
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn byte(bytes: &[u8], at: usize) -> Result<u8, Malformed> {
    bytes.get(at).copied().ok_or(Malformed::Short)
}

fn push_algorithms(out: &mut Vec<u8>, algorithms: [u8; 3]) {
    for (kind, algorithm) in (0u8..).zip(algorithms) {
        out.extend([kind, 0, 0, 8, algorithm, 0, 0, 0]);
    }
}

fn read_algorithms(bytes: &[u8], at: usize) -> Result<[u8; 3], Malformed> {
    let mut found = [0; 3];
    for (index, slot) in found.iter_mut().enumerate() {
        let [kind, _, _, len, algorithm, ..]: [u8; 8] = array(bytes, at + index * 8)?;
        // length 0 is a wildcard that leaves the choice to the peer; we neither send nor accept it
        if usize::from(kind) != index || len != 8 {
            return Err(Malformed::Kind);
        }
        *slot = algorithm & 0x3F;
    }
    Ok(found)
}

/// RMCP+ status codes (IPMI 2.0 table 13-15) that we send or react to.
pub mod status {
    /// All is well.
    pub const OK: u8 = 0x00;
    /// No free session.
    pub const NO_RESOURCES: u8 = 0x01;
    /// The session id is unknown.
    pub const INVALID_SESSION: u8 = 0x02;
    /// The authentication algorithm is not supported.
    pub const INVALID_AUTHENTICATION: u8 = 0x04;
    /// The session is known, and no longer in use.
    pub const INACTIVE_SESSION: u8 = 0x08;
    /// The role or level is above what the user may have.
    pub const UNAUTHORIZED_ROLE: u8 = 0x0A;
    /// No such user.
    pub const UNAUTHORIZED_NAME: u8 = 0x0D;
    /// The code of RAKP 3 is wrong, i.e. the password.
    pub const INVALID_CHECK: u8 = 0x0F;
    /// No cipher suite matches.
    pub const NO_MATCHING_SUITE: u8 = 0x11;

    /// The status in words.
    #[must_use]
    pub const fn text(code: u8) -> &'static str {
        match code {
            0x00 => "no error",
            0x01 => "no free session",
            0x02 => "invalid session id",
            0x03 => "invalid payload type",
            0x04 => "authentication algorithm not supported",
            0x05 => "integrity algorithm not supported",
            0x06 => "no matching authentication payload",
            0x07 => "no matching integrity payload",
            0x08 => "inactive session id",
            0x09 => "invalid role",
            0x0A => "role or privilege level not allowed for this user",
            0x0B => "no free session at this level",
            0x0C => "invalid name length",
            0x0D => "no such user",
            0x0E => "unauthorized GUID",
            0x0F => "integrity check failed",
            0x10 => "confidentiality algorithm not supported",
            0x11 => "no matching cipher suite",
            0x12 => "illegal parameter",
            _ => "unknown status",
        }
    }
}

/// RMCP+ Open Session Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// Pairs the answer with it.
    pub tag: u8,
    /// The console's session id, not 0.
    pub console_id: u32,
    /// Authentication, integrity, confidentiality algorithm.
    pub algorithms: [u8; 3],
}

impl OpenRequest {
    /// The payload; asks for the highest level that the suite allows.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.tag, 0, 0, 0];
        out.extend(self.console_id.to_le_bytes());
        push_algorithms(&mut out, self.algorithms);
        out
    }

    /// Reads the payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(Self { tag: byte(bytes, 0)?, console_id: word(bytes, 4)?, algorithms: read_algorithms(bytes, 8)? })
    }
}

/// RMCP+ Open Session Response: ids and algorithms, or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenResponse {
    /// Of the request.
    pub tag: u8,
    /// The console's session id; 0 in refusals that leave it out.
    pub console_id: u32,
    /// The BMC's session id and the algorithms that it chose, or its reason against it.
    pub outcome: Result<(u32, [u8; 3]), u8>,
}

impl OpenResponse {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.outcome.err().unwrap_or(status::OK), 0, 0];
        out.extend(self.console_id.to_le_bytes());
        if let Ok((bmc_id, algorithms)) = self.outcome {
            out.extend(bmc_id.to_le_bytes());
            push_algorithms(&mut out, algorithms);
        }
        out
    }

    /// Reads the payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let tag = byte(bytes, 0)?;
        match byte(bytes, 1)? {
            status::OK => {
                let outcome = Ok((word(bytes, 8)?, read_algorithms(bytes, 12)?));
                Ok(Self { tag, console_id: word(bytes, 4)?, outcome })
            }
            refusal => Ok(Self { tag, console_id: word(bytes, 4).unwrap_or(0), outcome: Err(refusal) }),
        }
    }
}

/// RAKP message 1: the console's random number and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rakp1 {
    /// Pairs the answer with it.
    pub tag: u8,
    /// The BMC's session id.
    pub bmc_id: u32,
    /// The console's random number.
    pub console_random: [u8; 16],
    /// Wanted level in the low four bits; bit 4: look the user up by name alone.
    pub role: u8,
    /// User name.
    pub user: Vec<u8>,
}

impl Rakp1 {
    /// The payload. A user name beyond [`MAX_USER`] is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let user = &self.user[..self.user.len().min(MAX_USER)];
        let mut out = vec![self.tag, 0, 0, 0];
        out.extend(self.bmc_id.to_le_bytes());
        out.extend(self.console_random);
        out.extend([self.role, 0, 0, u8::try_from(user.len()).expect("at most sixteen")]);
        out.extend_from_slice(user);
        out
    }

    /// Reads the payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let len = usize::from(byte(bytes, 27)?);
        if len > MAX_USER {
            return Err(Malformed::Kind);
        }
        Ok(Self {
            tag: byte(bytes, 0)?,
            bmc_id: word(bytes, 4)?,
            console_random: array(bytes, 8)?,
            role: byte(bytes, 24)?,
            user: bytes.get(28..28 + len).ok_or(Malformed::Short)?.to_vec(),
        })
    }
}

/// What the BMC gives in RAKP 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BmcProof {
    /// Its random number.
    pub random: [u8; 16],
    /// Its GUID.
    pub guid: [u8; 16],
    /// Its code, see [`Exchange::rakp2_code`].
    pub code: Vec<u8>,
}

/// RAKP message 2: the BMC's random number, and the proof that it knows the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rakp2 {
    /// Of RAKP 1.
    pub tag: u8,
    /// The console's session id; 0 in refusals that leave it out.
    pub console_id: u32,
    /// The BMC's random number, its GUID and its code, or its reason against it.
    pub outcome: Result<BmcProof, u8>,
}

impl Rakp2 {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.outcome.as_ref().err().copied().unwrap_or(status::OK), 0, 0];
        out.extend(self.console_id.to_le_bytes());
        if let Ok(proof) = &self.outcome {
            out.extend(proof.random);
            out.extend(proof.guid);
            out.extend(&proof.code);
        }
        out
    }

    /// Reads the payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let tag = byte(bytes, 0)?;
        match byte(bytes, 1)? {
            status::OK => {
                let code = bytes.get(40..).ok_or(Malformed::Short)?.to_vec();
                let outcome = Ok(BmcProof { random: array(bytes, 8)?, guid: array(bytes, 24)?, code });
                Ok(Self { tag, console_id: word(bytes, 4)?, outcome })
            }
            refusal => Ok(Self { tag, console_id: word(bytes, 4).unwrap_or(0), outcome: Err(refusal) }),
        }
    }
}

/// RAKP messages 3 and 4 have one shape: a status, the receiver's session id, a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Pairs message 4 with message 3.
    pub tag: u8,
    /// Status; see [`status`].
    pub status: u8,
    /// The receiver's session id; 0 where a refusal leaves it out.
    pub receiver_id: u32,
    /// The code; empty in a refusal.
    pub code: Vec<u8>,
}

impl Proof {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.status, 0, 0];
        out.extend(self.receiver_id.to_le_bytes());
        out.extend_from_slice(&self.code);
        out
    }

    /// Reads the payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (tag, status) = (byte(bytes, 0)?, byte(bytes, 1)?);
        if status == status::OK {
            let code = bytes.get(8..).ok_or(Malformed::Short)?.to_vec();
            return Ok(Self { tag, status, receiver_id: word(bytes, 4)?, code });
        }
        Ok(Self { tag, status, receiver_id: word(bytes, 4).unwrap_or(0), code: Vec::new() })
    }
}

/// Everything that both sides have exchanged once RAKP 2 is there; the codes and keys follow from it.
#[derive(Clone)]
pub struct Exchange {
    /// The agreed suite.
    pub suite: CipherSuite,
    /// The console's session id.
    pub console_id: u32,
    /// The BMC's session id.
    pub bmc_id: u32,
    /// The console's random number.
    pub console_random: [u8; 16],
    /// The BMC's random number.
    pub bmc_random: [u8; 16],
    /// The BMC's GUID.
    pub guid: [u8; 16],
    /// The role byte of RAKP 1.
    pub role: u8,
    /// User name.
    pub user: Vec<u8>,
}

impl Exchange {
    fn name_len(&self) -> u8 {
        u8::try_from(self.user.len()).unwrap_or(u8::MAX)
    }

    fn over_rakp2<T>(&self, with: impl FnOnce(&[&[u8]]) -> T) -> T {
        with(&[
            &self.console_id.to_le_bytes(),
            &self.bmc_id.to_le_bytes(),
            &self.console_random,
            &self.bmc_random,
            &self.guid,
            &[self.role, self.name_len()],
            &self.user,
        ])
    }

    fn over_rakp3<T>(&self, with: impl FnOnce(&[&[u8]]) -> T) -> T {
        let id = self.console_id.to_le_bytes();
        with(&[&self.bmc_random, &id, &[self.role, self.name_len()], &self.user])
    }

    fn over_rakp4<T>(&self, with: impl FnOnce(&[&[u8]]) -> T) -> T {
        with(&[&self.console_random, &self.bmc_id.to_le_bytes(), &self.guid])
    }

    /// The BMC's code in RAKP 2.
    #[must_use]
    pub fn rakp2_code(&self, password: &[u8]) -> Code {
        self.over_rakp2(|parts| hmac(self.suite, password, parts))
    }

    /// Whether the BMC's code in RAKP 2 is made with this password.
    #[must_use]
    pub fn rakp2_matches(&self, password: &[u8], code: &[u8]) -> bool {
        self.over_rakp2(|parts| hmac_matches(self.suite, password, parts, code, self.suite.hash_len()))
    }

    /// The console's code in RAKP 3.
    #[must_use]
    pub fn rakp3_code(&self, password: &[u8]) -> Code {
        self.over_rakp3(|parts| hmac(self.suite, password, parts))
    }

    /// Whether the console's code in RAKP 3 is made with this password.
    #[must_use]
    pub fn rakp3_matches(&self, password: &[u8], code: &[u8]) -> bool {
        self.over_rakp3(|parts| hmac_matches(self.suite, password, parts, code, self.suite.hash_len()))
    }

    /// The keys of the session. `key` is Kg, or the password where the BMC has none.
    #[must_use]
    pub fn keys(&self, key: &[u8]) -> Keys {
        let about = [self.role, self.name_len()];
        let sik = hmac(self.suite, key, &[&self.console_random, &self.bmc_random, &about, &self.user]);
        let k2 = hmac(self.suite, &sik, &[&[2; 20]]);
        let mut encryption = [0; 16];
        encryption.copy_from_slice(&k2[..16]);
        Keys { suite: self.suite, session: sik, integrity: hmac(self.suite, &sik, &[&[1; 20]]), encryption }
    }

    /// The BMC's code in RAKP 4.
    #[must_use]
    pub fn rakp4_code(&self, keys: &Keys) -> Vec<u8> {
        self.over_rakp4(|parts| hmac(self.suite, &keys.session, parts))[..self.suite.check_len()].to_vec()
    }

    /// Whether the BMC's code in RAKP 4 is made with these keys.
    #[must_use]
    pub fn rakp4_matches(&self, keys: &Keys, code: &[u8]) -> bool {
        self.over_rakp4(|parts| hmac_matches(self.suite, &keys.session, parts, code, self.suite.check_len()))
    }
}

/// The keys of a session. They never print.
#[derive(Clone)]
pub struct Keys {
    pub(super) suite: CipherSuite,
    session: Code,
    pub(super) integrity: Code,
    pub(super) encryption: [u8; 16],
}
