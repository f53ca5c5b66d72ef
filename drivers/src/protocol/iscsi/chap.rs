//! CHAP with MD5, both ways: RFC 1994, RFC 7143 §12.1.3.

use md5::{Digest as _, Md5};

use super::text;
use crate::Secret;

/// How this side proves itself, and asks the target to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chap {
    /// The name (CHAP_N).
    pub user: String,
    /// The secret that belongs to it.
    pub secret: Secret<String>,
    /// What the target has to prove, if anything.
    pub mutual: Option<MutualChap>,
}

/// How the target proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutualChap {
    /// The name that it must give; any, if none.
    pub user: Option<String>,
    /// The secret that it must know; another than ours.
    pub secret: Secret<String>,
}

/// The algorithm's number (CHAP_A).
pub(super) const MD5: &str = "5";
/// A challenge of ours, in bytes.
pub(super) const CHALLENGE: usize = 16;
const MAX_CHALLENGE: usize = 1024;

/// The response to a challenge: MD5 over identifier, secret and challenge.
pub fn response(identifier: u8, secret: &Secret<String>, challenge: &[u8]) -> [u8; 16] {
    Md5::new()
        .chain_update([identifier])
        .chain_update(secret.expose())
        .chain_update(challenge)
        .finalize()
        .into()
}

/// The target's challenge as it came.
pub(super) struct Challenge {
    pub(super) identifier: u8,
    pub(super) bytes: Vec<u8>,
}

impl Challenge {
    pub(super) fn read(identifier: Option<&str>, challenge: Option<&str>) -> Option<Self> {
        let identifier = u8::try_from(text::number(identifier?)?).ok()?;
        let bytes = text::binary(challenge?).filter(|bytes| bytes.len() <= MAX_CHALLENGE)?;
        Some(Self { identifier, bytes })
    }
}

/// Compares without telling by its duration where the difference is.
pub(super) fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_is_that_of_other_implementations() {
        // echo -n | md5sum over 0x01 "secret" 0x00..0x0f
        let challenge: Vec<u8> = (0..16).collect();
        let found = response(1, &Secret::new("secret".into()), &challenge);
        assert_eq!(text::hex(&found), EXPECTED);
    }

    const EXPECTED: &str = "0x740e86463bda3a4d7017d6e0fba0699d";

    #[test]
    fn challenges_out_of_bounds_are_none() {
        assert!(Challenge::read(Some("256"), Some("0x01")).is_none());
        assert!(Challenge::read(Some("1"), Some("")).is_none());
        assert!(Challenge::read(Some("1"), Some(&format!("0x{}", "00".repeat(1025)))).is_none());
        assert!(Challenge::read(Some("0x10"), Some("0x01")).is_some_and(|found| found.identifier == 16));
        assert!(equal(b"ab", b"ab") && !equal(b"ab", b"ac") && !equal(b"ab", b"abc"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let mutual = Some(MutualChap { user: None, secret: Secret::new("otherword".into()) });
        let chap = Chap { user: "node".into(), secret: Secret::new("password".into()), mutual };
        let printed = format!("{chap:?}");
        assert!(printed.contains("node") && !printed.contains("word\""), "{printed}");
    }
}
