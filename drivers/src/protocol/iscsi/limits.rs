//! What both sides agree upon: RFC 7143 §13. Every key has a function that makes one value out of two, so that a
//! target that answers differently from what was proposed is no error, only a limit.

use super::pdu::{Digests, MAX_DATA};
use super::text::{self, Pair};

/// What is said about a CRC32C.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestChoice {
    /// Not used.
    Never,
    /// Used if the target insists.
    #[default]
    IfAsked,
    /// Used if the target can.
    Prefer,
    /// No session without.
    Require,
}

impl DigestChoice {
    const fn offer(self) -> &'static str {
        match self {
            Self::Never => "None",
            Self::IfAsked => "None,CRC32C",
            Self::Prefer => "CRC32C,None",
            Self::Require => "CRC32C",
        }
    }

    /// What is used, if the other side says `value` (its choice, or its list by preference).
    fn agree(self, value: &str) -> Option<bool> {
        let takes = |choice: &str| match choice.trim() {
            "CRC32C" => self != Self::Never,
            "None" => self != Self::Require,
            _ => false,
        };
        value.split(',').find(|choice| takes(choice)).map(|choice| choice.trim() == "CRC32C")
    }
}

/// What this side proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Of headers.
    pub header_digest: DigestChoice,
    /// Of data.
    pub data_digest: DigestChoice,
    /// The longest data segment that we take, in bytes.
    pub max_recv_data: u32,
    /// The longest sequence of data PDUs, in bytes.
    pub max_burst: u32,
    /// How much may be sent with a command before the target asks for it, in bytes.
    pub first_burst: u32,
    /// Whether every byte has to wait for an R2T (except immediate data).
    pub initial_r2t: bool,
    /// Whether data may ride in the command.
    pub immediate_data: bool,
    /// How many R2T per command may be open.
    pub max_outstanding_r2t: u16,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            header_digest: DigestChoice::IfAsked,
            data_digest: DigestChoice::IfAsked,
            max_recv_data: 256 * 1024,
            max_burst: 1024 * 1024,
            first_burst: 256 * 1024,
            initial_r2t: false,
            immediate_data: true,
            max_outstanding_r2t: 8,
        }
    }
}

/// What was agreed upon; before any word the defaults of the RFC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The checksums of the full feature phase.
    pub digests: Digests,
    /// The longest data segment that the target takes, in bytes.
    pub max_send_data: u32,
    /// The longest data segment that we take, in bytes.
    pub max_recv_data: u32,
    /// The longest sequence of data PDUs, in bytes.
    pub max_burst: u32,
    /// How much may be sent unasked, in bytes; never above `max_burst`.
    pub first_burst: u32,
    /// Whether unsolicited Data-Out is forbidden.
    pub initial_r2t: bool,
    /// Whether data may ride in the command.
    pub immediate_data: bool,
    /// How many R2T per command may be open.
    pub max_outstanding_r2t: u16,
    /// Whether the PDUs of a sequence come in the order of their offsets.
    pub data_pdu_in_order: bool,
    /// Whether the sequences of a command come in the order of their offsets.
    pub data_sequence_in_order: bool,
    /// Seconds to wait before a connection is made anew.
    pub time_to_wait: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            digests: Digests::default(),
            max_send_data: 8192,
            max_recv_data: 8192,
            max_burst: 256 * 1024,
            first_burst: 64 * 1024,
            initial_r2t: true,
            immediate_data: true,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            time_to_wait: 2,
        }
    }
}

/// The target said something that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}={value}: {reason}")]
pub struct BadKey {
    /// The key.
    pub key: String,
    /// Its value, cut where it is long.
    pub value: String,
    /// Why not.
    pub reason: &'static str,
}

/// The operational negotiation of one login.
#[derive(Debug)]
pub struct Negotiation {
    offer: Offer,
    discovery: bool,
    limits: Limits,
    heard: Vec<String>,
}

impl Negotiation {
    /// Nothing said yet. A discovery session leaves out what is about disks.
    pub fn new(offer: Offer, discovery: bool) -> Self {
        let limits = Limits { max_recv_data: offer.max_recv_data, ..Limits::default() };
        Self { offer, discovery, limits, heard: Vec::new() }
    }

    /// What was agreed upon so far.
    pub fn limits(&self) -> Limits {
        let mut limits = self.limits;
        limits.first_burst = limits.first_burst.min(limits.max_burst);
        limits
    }

    /// What we say first.
    pub fn offers(&self) -> Vec<Pair> {
        let offer = &self.offer;
        let mut pairs = vec![
            ("HeaderDigest", offer.header_digest.offer().to_owned()),
            ("DataDigest", offer.data_digest.offer().to_owned()),
            ("MaxRecvDataSegmentLength", offer.max_recv_data.to_string()),
        ];
        if !self.discovery {
            pairs.extend([
                ("InitialR2T", yes(offer.initial_r2t)),
                ("ImmediateData", yes(offer.immediate_data)),
                ("MaxBurstLength", offer.max_burst.to_string()),
                ("FirstBurstLength", offer.first_burst.to_string()),
                ("MaxOutstandingR2T", offer.max_outstanding_r2t.to_string()),
                ("MaxConnections", "1".to_owned()),
                ("DataPDUInOrder", "Yes".to_owned()),
                ("DataSequenceInOrder", "Yes".to_owned()),
            ]);
        }
        pairs.extend([
            ("DefaultTime2Wait", "2".to_owned()),
            ("DefaultTime2Retain", "0".to_owned()),
            ("ErrorRecoveryLevel", "0".to_owned()),
        ]);
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Takes a key of the target: its answer to ours, its declaration, or its proposal. What has to be answered is
    /// returned.
    /// Errors: a key said twice, or a value that is not possible.
    pub fn hear(&mut self, key: &str, value: &str) -> Result<Option<String>, BadKey> {
        let bad = |reason| BadKey { key: shorten(key), value: shorten(value), reason };
        if self.heard.iter().any(|heard| heard == key) {
            return Err(bad("said twice"));
        }
        self.heard.push(key.to_owned());
        if self.heard.len() > 200 {
            return Err(bad("too many keys"));
        }
        let ours = self.offers().iter().any(|(offered, _)| offered == key);
        // the default stays where the target does not take part
        if ours && matches!(value, "Irrelevant" | "NotUnderstood" | "Reject") {
            return match (key, self.offer.header_digest, self.offer.data_digest) {
                ("HeaderDigest", DigestChoice::Require, _) | ("DataDigest", _, DigestChoice::Require) => {
                    Err(bad("the digest that is required here is refused"))
                }
                _ => Ok(None),
            };
        }
        let said = self.apply(key, value).map_err(bad)?;
        Ok(if ours { None } else { said })
    }

    /// Applies `value`; the result in words, unless the key is only declared.
    fn apply(&mut self, key: &str, value: &str) -> Result<Option<String>, &'static str> {
        let (offer, limits) = (&self.offer, &mut self.limits);
        let result = match key {
            "HeaderDigest" => {
                limits.digests.header =
                    offer.header_digest.agree(value).ok_or("no such digest was offered")?;
                digest(limits.digests.header)
            }
            "DataDigest" => {
                limits.digests.data = offer.data_digest.agree(value).ok_or("no such digest was offered")?;
                digest(limits.digests.data)
            }
            "MaxRecvDataSegmentLength" => {
                limits.max_send_data = in_range(value, 512, MAX_DATA as u64)?;
                return Ok(None);
            }
            "InitialR2T" => {
                limits.initial_r2t = boolean(value)? || offer.initial_r2t;
                yes(limits.initial_r2t)
            }
            "ImmediateData" => {
                limits.immediate_data = boolean(value)? && offer.immediate_data;
                yes(limits.immediate_data)
            }
            "MaxBurstLength" => {
                limits.max_burst = in_range::<u32>(value, 512, MAX_DATA as u64)?.min(offer.max_burst);
                limits.max_burst.to_string()
            }
            "FirstBurstLength" => {
                limits.first_burst = in_range::<u32>(value, 512, MAX_DATA as u64)?.min(offer.first_burst);
                limits.first_burst.to_string()
            }
            "MaxOutstandingR2T" => {
                limits.max_outstanding_r2t = in_range::<u16>(value, 1, 65535)?.min(offer.max_outstanding_r2t);
                limits.max_outstanding_r2t.to_string()
            }
            // Yes from either side is Yes; a target that insists on No is served in its own order
            "DataPDUInOrder" => {
                limits.data_pdu_in_order = boolean(value)?;
                "Yes".to_owned()
            }
            "DataSequenceInOrder" => {
                limits.data_sequence_in_order = boolean(value)?;
                "Yes".to_owned()
            }
            "DefaultTime2Wait" => {
                limits.time_to_wait = in_range::<u16>(value, 0, 3600)?.max(2);
                limits.time_to_wait.to_string()
            }
            "DefaultTime2Retain" => {
                in_range::<u16>(value, 0, 3600)?;
                "0".to_owned()
            }
            "ErrorRecoveryLevel" => {
                in_range::<u16>(value, 0, 2)?;
                "0".to_owned()
            }
            "MaxConnections" => {
                in_range::<u16>(value, 1, 65535)?;
                "1".to_owned()
            }
            // markers are gone since RFC 7143, and nobody missed them
            "IFMarker" | "OFMarker" => "No".to_owned(),
            "IFMarkInt" | "OFMarkInt" => "Irrelevant".to_owned(),
            "TargetName"
            | "TargetAlias"
            | "TargetAddress"
            | "TargetPortalGroupTag"
            | "InitiatorName"
            | "InitiatorAlias"
            | "SessionType" => return Ok(None),
            _ if matches!(value, "NotUnderstood" | "Reject" | "Irrelevant") => return Ok(None),
            _ => "NotUnderstood".to_owned(),
        };
        Ok(Some(result))
    }
}

fn yes(value: bool) -> String {
    if value { "Yes" } else { "No" }.to_owned()
}

fn digest(used: bool) -> String {
    if used { "CRC32C" } else { "None" }.to_owned()
}

fn boolean(value: &str) -> Result<bool, &'static str> {
    match value {
        "Yes" => Ok(true),
        "No" => Ok(false),
        _ => Err("neither Yes nor No"),
    }
}

fn in_range<N: TryFrom<u64>>(value: &str, from: u64, to: u64) -> Result<N, &'static str> {
    let number = text::number(value).ok_or("no number")?;
    if number < from || number > to {
        return Err("out of range");
    }
    N::try_from(number).map_err(|_| "out of range")
}

/// Foreign text, short enough for a message.
pub(super) fn shorten(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heard(offer: Offer, pairs: &[(&str, &str)]) -> Result<(Limits, Vec<Pair>), BadKey> {
        let mut negotiation = Negotiation::new(offer, false);
        let mut answers = Vec::new();
        for (key, value) in pairs {
            if let Some(answer) = negotiation.hear(key, value)? {
                answers.push(((*key).to_owned(), answer));
            }
        }
        Ok((negotiation.limits(), answers))
    }

    #[test]
    fn the_targets_limits_are_kept_where_they_are_lower() {
        let (limits, answers) = heard(
            Offer::default(),
            &[
                ("InitialR2T", "Yes"),
                ("ImmediateData", "No"),
                ("MaxBurstLength", "16384"),
                ("FirstBurstLength", "65536"),
                ("MaxOutstandingR2T", "1"),
                ("MaxRecvDataSegmentLength", "4096"),
                ("HeaderDigest", "CRC32C"),
                ("DataDigest", "None"),
            ],
        )
        .unwrap();
        assert!(limits.initial_r2t && !limits.immediate_data);
        assert_eq!((limits.max_burst, limits.first_burst, limits.max_send_data), (16384, 16384, 4096));
        assert_eq!(limits.digests, Digests { header: true, data: false });
        assert_eq!(answers, [], "answers to what we proposed are not answered");
    }

    #[test]
    fn a_target_that_raises_what_was_proposed_is_held_to_it() {
        let offer = Offer { max_burst: 65536, immediate_data: false, initial_r2t: true, ..Offer::default() };
        let pairs = [("MaxBurstLength", "1048576"), ("ImmediateData", "Yes"), ("InitialR2T", "No")];
        let (limits, _) = heard(offer, &pairs).unwrap();
        assert_eq!(limits.max_burst, 65536);
        assert!(limits.initial_r2t && !limits.immediate_data);
    }

    #[test]
    fn proposals_of_the_target_are_answered() {
        let mut negotiation = Negotiation::new(Offer::default(), true);
        assert_eq!(negotiation.hear("MaxBurstLength", "8192"), Ok(Some("8192".to_owned())));
        assert_eq!(negotiation.hear("InitialR2T", "No"), Ok(Some("No".to_owned())));
        assert_eq!(negotiation.hear("OFMarker", "Yes"), Ok(Some("No".to_owned())));
        assert_eq!(negotiation.hear("X-com.example.fast", "5"), Ok(Some("NotUnderstood".to_owned())));
        assert_eq!(negotiation.hear("TargetAlias", "disk"), Ok(None));
        assert_eq!(negotiation.hear("MaxRecvDataSegmentLength", "0x1000"), Ok(None));
        assert_eq!(negotiation.limits().max_send_data, 4096);
    }

    #[test]
    fn keys_that_the_target_does_not_know_keep_their_defaults() {
        let pairs =
            [("MaxBurstLength", "Irrelevant"), ("InitialR2T", "NotUnderstood"), ("DataDigest", "Reject")];
        let (limits, _) = heard(Offer::default(), &pairs).unwrap();
        assert_eq!(limits, Limits { max_recv_data: Offer::default().max_recv_data, ..Limits::default() });
    }

    #[test]
    fn impossible_values_end_the_login() {
        for (key, value) in [
            ("MaxRecvDataSegmentLength", "0"),
            ("MaxRecvDataSegmentLength", "16777216"),
            ("MaxBurstLength", "many"),
            ("InitialR2T", "Maybe"),
            ("MaxOutstandingR2T", "0"),
            ("HeaderDigest", "MD5"),
        ] {
            let found = heard(Offer::default(), &[(key, value)]);
            assert_eq!(found.map_err(|bad| (bad.key, bad.value)), Err((key.to_owned(), value.to_owned())));
        }
        let never = Offer { header_digest: DigestChoice::Never, ..Offer::default() };
        assert!(heard(never, &[("HeaderDigest", "CRC32C")]).is_err());
        let require = Offer { data_digest: DigestChoice::Require, ..Offer::default() };
        assert!(heard(require, &[("DataDigest", "None")]).is_err());
        assert!(heard(require, &[("DataDigest", "Reject")]).is_err());
        assert!(heard(Offer::default(), &[("InitialR2T", "Yes"), ("InitialR2T", "Yes")]).is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_is_heard_breaks_the_limits(
            pairs in prop::collection::vec((
                prop_oneof![
                    prop::sample::select(Negotiation::new(Offer::default(), false).offers())
                        .prop_map(|(key, _)| key),
                    "[A-Za-z]{1,12}",
                ],
                prop_oneof![any::<u32>().prop_map(|number| number.to_string()), "Yes|No|CRC32C|None|\\PC{0,9}"],
            ), 0..30),
        ) {
            let offer = Offer::default();
            let mut negotiation = Negotiation::new(offer, false);
            for (key, value) in &pairs {
                let _ = negotiation.hear(key, value);
            }
            let limits = negotiation.limits();
            prop_assert!((512..=MAX_DATA).contains(&(limits.max_send_data as usize)));
            prop_assert!(limits.max_burst <= offer.max_burst && limits.first_burst <= limits.max_burst);
            prop_assert!(limits.max_outstanding_r2t >= 1);
            prop_assert!(limits.max_outstanding_r2t <= offer.max_outstanding_r2t);
            prop_assert_eq!(limits.max_recv_data, offer.max_recv_data);
        }
    }
}
