//! The login phase and discovery (RFC 7143 §6, §12, §13).

use std::io;

use md5::{Digest as _, Md5};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::settings::{Chap, Lie, Redirect, TargetOptions};
use super::target::Shared;
use super::wire::{Digests, Pdu, keys, op, put, wrong};

/// The longest text of one negotiation step.
const LONGEST_TEXT: usize = 64 << 10;
/// Requests in a login, before it counts as endless.
const LONGEST_LOGIN: usize = 64;
/// Segments before anything was agreed on.
pub(crate) const EARLY_SEGMENT: usize = 8192;

/// What was agreed on.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    pub(crate) discovery: bool,
    pub(crate) initiator: String,
    pub(crate) isid: [u8; 6],
    pub(crate) tsih: u16,
    pub(crate) digests: Digests,
    /// The longest segment that the initiator takes.
    pub(crate) peer_segment: usize,
    pub(crate) max_burst: usize,
    pub(crate) first_burst: usize,
    pub(crate) initial_r2t: bool,
    pub(crate) immediate_data: bool,
    pub(crate) max_r2t: u32,
    pub(crate) stat_sn: u32,
    pub(crate) exp_cmd_sn: u32,
}

impl Agreed {
    fn new() -> Self {
        // what holds when nobody says anything
        Self {
            discovery: false,
            initiator: String::new(),
            isid: [0; 6],
            tsih: 0,
            digests: Digests::default(),
            peer_segment: EARLY_SEGMENT,
            max_burst: 262_144,
            first_burst: 65_536,
            initial_r2t: true,
            immediate_data: true,
            max_r2t: 1,
            stat_sn: 1,
            exp_cmd_sn: 0,
        }
    }
}

/// Where the proof stands.
enum Proof {
    /// Not begun.
    Unasked,
    /// CHAP was agreed on.
    Method,
    /// The challenge is out.
    Challenged { id: u8, challenge: Vec<u8> },
    /// Done, or not needed.
    Done,
}

/// The response of CHAP.
fn chap_response(id: u8, secret: &str, challenge: &[u8]) -> Vec<u8> {
    let mut hash = Md5::new();
    hash.update([id]);
    hash.update(secret.as_bytes());
    hash.update(challenge);
    hash.finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    format!("0x{}", crate::disk::hex(bytes))
}

/// Bytes as CHAP writes them in hex; base64 is not what our initiators send.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let digits = if digits.len().is_multiple_of(2) { digits.to_owned() } else { format!("0{digits}") };
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

pub(crate) struct Login<'a> {
    shared: &'a Shared,
    agreed: Agreed,
    proof: Proof,
    /// Keys that we offered and that are not answered yet.
    offered: Vec<&'static str>,
    /// Keys that the initiator has offered.
    seen: Vec<String>,
    names_checked: bool,
    told_group: bool,
}

/// How a login request is answered.
enum Answer {
    Text(Vec<u8>),
    Refused(u16, Vec<u8>),
}

impl<'a> Login<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        let (offered, seen) = (Vec::new(), Vec::new());
        let (names_checked, told_group) = (false, false);
        Self {
            shared,
            agreed: Agreed::new(),
            proof: Proof::Unasked,
            offered,
            seen,
            names_checked,
            told_group,
        }
    }

    /// Logs the peer in; `None` when it was refused or went away.
    pub(crate) async fn run(
        mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<Option<Agreed>> {
        let mut text = Vec::new();
        for _ in 0..LONGEST_LOGIN {
            let Some(pdu) = Pdu::read(stream, Digests::default(), EARLY_SEGMENT).await? else {
                return Ok(None);
            };
            if pdu.opcode() != op::LOGIN || !pdu.is_immediate() {
                return Err(wrong("not a login request in the login phase"));
            }
            self.agreed.exp_cmd_sn = pdu.word(24);
            self.agreed.isid.copy_from_slice(&pdu.bhs[8..14]);
            text.extend_from_slice(&pdu.data);
            if text.len() > LONGEST_TEXT {
                return Err(wrong("an endless login text"));
            }
            let (transit, goes_on) = (pdu.is_final(), pdu.bhs[1] & 0x40 != 0);
            let (stage, next) = (pdu.bhs[1] >> 2 & 3, pdu.bhs[1] & 3);
            if goes_on {
                let answer = self.respond(&pdu, stage, None, Vec::new());
                send(stream, &answer).await?;
                continue;
            }
            let answer =
                if stage > 1 { Answer::Refused(0x0200, Vec::new()) } else { self.answer(&text, stage) };
            text.clear();
            match answer {
                Answer::Refused(status, data) => {
                    self.shared.count(|stats| stats.refused += 1);
                    let mut answer = self.respond(&pdu, stage, None, data);
                    answer.bhs[36..38].copy_from_slice(&status.to_be_bytes());
                    send(stream, &answer).await?;
                    return Ok(None);
                }
                Answer::Text(data) => {
                    let ready = stage == 1 && self.offered.is_empty() || stage == 0 && self.proved();
                    let go = (transit && ready && next > stage && next != 2).then_some(next);
                    if go == Some(3) && take(&mut self.shared.faults().silent_logins) {
                        let mut nothing = [0; 256];
                        while stream.read(&mut nothing).await? > 0 {}
                        return Ok(None);
                    }
                    if go == Some(3) {
                        self.agreed.tsih = self.shared.next_tsih();
                    }
                    let answer = self.respond(&pdu, stage, go, data);
                    send(stream, &answer).await?;
                    if go == Some(3) {
                        return Ok(Some(self.agreed));
                    }
                }
            }
        }
        Err(wrong("an endless login"))
    }

    fn proved(&self) -> bool {
        match self.proof {
            Proof::Done => true,
            Proof::Unasked => self.shared.options.chap.is_none(),
            Proof::Method | Proof::Challenged { .. } => false,
        }
    }

    fn respond(&mut self, request: &Pdu, stage: u8, go: Option<u8>, data: Vec<u8>) -> Pdu {
        let mut answer = Pdu::answer(op::LOGIN_ANSWER, request.tag());
        answer.bhs[1] = stage << 2 | go.map_or(0, |next| 0x80 | next);
        answer.bhs[8..14].copy_from_slice(&request.bhs[8..14]);
        answer.bhs[14..16].copy_from_slice(&self.agreed.tsih.to_be_bytes());
        answer.set(24, self.agreed.stat_sn);
        self.agreed.stat_sn = self.agreed.stat_sn.wrapping_add(1);
        answer.set(28, self.agreed.exp_cmd_sn);
        answer.set(32, self.agreed.exp_cmd_sn.wrapping_add(self.shared.options.limits.window - 1));
        answer.data = data;
        answer
    }

    fn answer(&mut self, text: &[u8], stage: u8) -> Answer {
        let given = keys(text);
        if !self.names_checked {
            self.names_checked = true;
            if let Some(refused) = self.check_names(&given) {
                return refused;
            }
        }
        let options = &self.shared.options;
        let mut out = Vec::new();
        if !self.told_group && !self.agreed.discovery {
            self.told_group = true;
            put(&mut out, "TargetPortalGroupTag", "1");
        }
        if stage == 1 && !self.proved() {
            return Answer::Refused(0x0201, Vec::new());
        }
        let find = |name: &str| given.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        for (key, value) in &given {
            match key.as_str() {
                "InitiatorName" | "InitiatorAlias" | "TargetName" | "SessionType" => {}
                "AuthMethod" => match &options.chap {
                    Some(_) if value.split(',').any(|one| one == "CHAP") => {
                        self.proof = Proof::Method;
                        put(&mut out, key, "CHAP");
                    }
                    None if value.split(',').any(|one| one == "None") => {
                        self.proof = Proof::Done;
                        put(&mut out, key, "None");
                    }
                    Some(_) | None => return Answer::Refused(0x0201, Vec::new()),
                },
                "CHAP_A" => match (&self.proof, value.split(',').any(|one| one == "5")) {
                    (Proof::Method, true) => {
                        let mut fresh = [0; 17];
                        // chance of the system: a target that can be foretold would prove nothing
                        let _ = getrandom::fill(&mut fresh);
                        let (id, challenge) = (fresh[16], fresh[..16].to_vec());
                        put(&mut out, "CHAP_A", "5");
                        put(&mut out, "CHAP_I", &id.to_string());
                        put(&mut out, "CHAP_C", &hex(&challenge));
                        self.proof = Proof::Challenged { id, challenge };
                    }
                    _ => return Answer::Refused(0x0201, Vec::new()),
                },
                "CHAP_R" => {
                    let chap = options.chap.as_ref();
                    let Some(proof) = chap.and_then(|chap| self.prove(chap, &find)) else {
                        return Answer::Refused(0x0201, Vec::new());
                    };
                    out.extend(proof);
                    self.proof = Proof::Done;
                }
                "CHAP_N" | "CHAP_I" | "CHAP_C" => {}
                _ => self.negotiate(key, value, &mut out),
            }
        }
        if stage == 1 {
            self.offer(&mut out);
        }
        Answer::Text(out)
    }

    fn check_names(&mut self, given: &[(String, String)]) -> Option<Answer> {
        let find = |name: &str| given.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let Some(initiator) = find("InitiatorName") else { return Some(Answer::Refused(0x0207, Vec::new())) };
        self.agreed.initiator = initiator.to_owned();
        self.agreed.discovery = find("SessionType") == Some("Discovery");
        let mut faults = self.shared.faults();
        if !self.agreed.discovery {
            match find("TargetName") {
                None => return Some(Answer::Refused(0x0207, Vec::new())),
                Some(name) if name != self.shared.options.iqn => {
                    return Some(Answer::Refused(0x0203, Vec::new()));
                }
                Some(_) => {}
            }
            if let Some(Redirect { to, permanent, times }) =
                faults.redirect.as_mut().filter(|one| one.times > 0)
            {
                *times -= 1;
                let mut data = Vec::new();
                put(&mut data, "TargetAddress", to);
                return Some(Answer::Refused(if *permanent { 0x0102 } else { 0x0101 }, data));
            }
        }
        let refusal = faults.login_refusals.pop_front().or(faults.always_refused);
        refusal.map(|status| Answer::Refused(status, Vec::new()))
    }

    /// Checks the initiator's proof and gives our own, if it wants one.
    fn prove<'k>(&self, chap: &Chap, find: &dyn Fn(&str) -> Option<&'k str>) -> Option<Vec<u8>> {
        let Proof::Challenged { id, challenge } = &self.proof else { return None };
        let expected = chap_response(*id, chap.secret.expose(), challenge);
        let given = unhex(find("CHAP_R")?)?;
        if find("CHAP_N")? != chap.user || given != expected {
            return None;
        }
        let mut out = Vec::new();
        if let (Some(id), Some(challenge)) = (find("CHAP_I"), find("CHAP_C")) {
            let (name, secret) = chap.own.as_ref()?;
            let mut proof = chap_response(id.parse().ok()?, secret.expose(), &unhex(challenge)?);
            let faults = self.shared.faults();
            if faults.wrong_proof {
                proof[0] ^= 1;
            }
            if faults.reflected_challenge {
                proof = expected;
            }
            put(&mut out, "CHAP_N", name);
            put(&mut out, "CHAP_R", &hex(&proof));
        }
        Some(out)
    }

    /// An operational key: an offer of the initiator, or its answer to one of ours.
    fn negotiate(&mut self, key: &str, value: &str, out: &mut Vec<u8>) {
        let limits = &self.shared.options.limits;
        let asked =
            self.offered.iter().position(|one| *one == key).map(|at| self.offered.swap_remove(at)).is_some();
        if self.seen.iter().any(|one| one == key) && !asked {
            self.shared.violation(format!("{key} negotiated twice"));
        }
        self.seen.push(key.to_owned());
        let number = value.parse::<u32>().ok();
        let yes = value == "Yes";
        let chosen = match key {
            "HeaderDigest" | "DataDigest" => {
                let header = key == "HeaderDigest";
                let ours = if header { &limits.header_digests } else { &limits.data_digests };
                let digest = value.split(',').find(|one| ours.contains(one)).unwrap_or("Reject").to_owned();
                let on = digest == "CRC32C";
                if header {
                    self.agreed.digests.header = on
                } else {
                    self.agreed.digests.data = on
                }
                digest
            }
            "MaxRecvDataSegmentLength" => {
                self.agreed.peer_segment = number.unwrap_or(8192).clamp(512, 0xFF_FFFF) as usize;
                limits.max_recv_data_segment_length.to_string()
            }
            "InitialR2T" => {
                self.agreed.initial_r2t = yes || limits.initial_r2t;
                yes_no(self.agreed.initial_r2t)
            }
            "ImmediateData" => {
                self.agreed.immediate_data = yes && limits.immediate_data;
                yes_no(self.agreed.immediate_data)
            }
            "MaxBurstLength" => {
                let least = number.unwrap_or(512).min(limits.max_burst_length);
                self.agreed.max_burst = least as usize;
                least.to_string()
            }
            "FirstBurstLength" => {
                let least = number.unwrap_or(512).min(limits.first_burst_length);
                self.agreed.first_burst = least as usize;
                least.to_string()
            }
            "MaxOutstandingR2T" => {
                self.agreed.max_r2t = number.unwrap_or(1).clamp(1, limits.max_outstanding_r2t.max(1));
                self.agreed.max_r2t.to_string()
            }
            "MaxConnections" => "1".to_owned(),
            "ErrorRecoveryLevel" => "0".to_owned(),
            "DefaultTime2Wait" => number.unwrap_or(2).max(2).to_string(),
            "DefaultTime2Retain" => "0".to_owned(),
            "DataPDUInOrder" | "DataSequenceInOrder" => "Yes".to_owned(),
            "OFMarker" | "IFMarker" => "No".to_owned(),
            "TaskReporting" => "RFC3720".to_owned(),
            "TargetAlias" | "TargetAddress" | "TargetPortalGroupTag" => "Reject".to_owned(),
            _ => "NotUnderstood".to_owned(),
        };
        if !asked {
            put(out, key, &chosen);
        }
    }

    /// Offers what is not as it would be if nobody said anything, and what the initiator has not named.
    fn offer(&mut self, out: &mut Vec<u8>) {
        let limits = &self.shared.options.limits;
        let mut wishes: Vec<(&'static str, String)> = Vec::new();
        if limits.max_recv_data_segment_length as usize != EARLY_SEGMENT {
            wishes.push(("MaxRecvDataSegmentLength", limits.max_recv_data_segment_length.to_string()));
        }
        if !self.agreed.discovery {
            if limits.max_burst_length < 262_144 {
                wishes.push(("MaxBurstLength", limits.max_burst_length.to_string()));
            }
            if limits.first_burst_length < 65_536 {
                wishes.push(("FirstBurstLength", limits.first_burst_length.to_string()));
            }
            if !limits.immediate_data {
                wishes.push(("ImmediateData", "No".to_owned()));
            }
        }
        for (key, value) in wishes {
            if !self.seen.iter().any(|one| one == key) {
                put(out, key, &value);
                self.seen.push(key.to_owned());
                // the only declaration among them: nobody answers it
                if key != "MaxRecvDataSegmentLength" {
                    self.offered.push(key);
                }
            }
        }
    }
}

fn yes_no(yes: bool) -> String {
    if yes { "Yes" } else { "No" }.to_owned()
}

/// True as often as `count` says.
pub(crate) fn take(count: &mut u32) -> bool {
    let happens = *count > 0;
    *count = count.saturating_sub(1);
    happens
}

/// True once, when the next lie is this one.
pub(crate) fn lie(shared: &Shared, lie: Lie) -> bool {
    let mut faults = shared.faults();
    let next = faults.lies.front() == Some(&lie);
    if next {
        faults.lies.pop_front();
    }
    next
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), pdu: &Pdu) -> io::Result<()> {
    let mut out = Vec::new();
    pdu.encode(Digests::default(), &mut out);
    stream.write_all(&out).await?;
    stream.flush().await
}

/// The answer to SendTargets.
pub(crate) fn targets(options: &TargetOptions, wanted: &str, portal: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for name in std::iter::once(&options.iqn).chain(&options.also_known) {
        if wanted == "All" || wanted.is_empty() || wanted == name {
            put(&mut out, "TargetName", name);
            put(&mut out, "TargetAddress", &format!("{portal},1"));
        }
    }
    out
}
