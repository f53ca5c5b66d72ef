//! The two cipher suites and their primitives (IPMI 2.0 §13.28 to §13.32, §22.15.2).

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// Length of an AES block and of the initialisation vector, bytes.
pub const BLOCK: usize = 16;

/// A named combination of authentication, integrity and confidentiality. All others are either weaker than
/// what any operator should run (0, 1, 2, 6 to 13) or not met in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CipherSuite {
    /// RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
    /// RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
}

impl CipherSuite {
    /// Both, the stronger one first.
    pub const ALL: [CipherSuite; 2] = [CipherSuite::Seventeen, CipherSuite::Three];

    /// The suite of this number, `None` for one that is not implemented.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            3 => Some(CipherSuite::Three),
            17 => Some(CipherSuite::Seventeen),
            _ => None,
        }
    }

    /// Its number, as `ipmitool -C` takes it.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            CipherSuite::Three => 3,
            CipherSuite::Seventeen => 17,
        }
    }

    /// Algorithm numbers on the wire: authentication, integrity, confidentiality.
    #[must_use]
    pub const fn algorithms(self) -> [u8; 3] {
        match self {
            CipherSuite::Three => [1, 1, 1],
            CipherSuite::Seventeen => [3, 4, 1],
        }
    }

    /// The suite that these algorithm numbers make up.
    #[must_use]
    pub fn from_algorithms(algorithms: [u8; 3]) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.algorithms() == algorithms)
    }

    /// Length of a whole HMAC, as RAKP 2 and 3 carry it, bytes.
    #[must_use]
    pub const fn hash_len(self) -> usize {
        match self {
            CipherSuite::Three => 20,
            CipherSuite::Seventeen => 32,
        }
    }

    /// Length of the cut HMAC behind every packet and in RAKP 4, bytes.
    #[must_use]
    pub const fn check_len(self) -> usize {
        match self {
            CipherSuite::Three => 12,
            CipherSuite::Seventeen => 16,
        }
    }
}

/// An HMAC, 20 or 32 bytes long.
#[derive(Clone, Copy)]
pub struct Code {
    bytes: [u8; 32],
    len: usize,
}

impl std::ops::Deref for Code {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn feed<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> M {
    let mut mac = <M as Mac>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// The HMAC of the joined `parts` with the suite's hash.
#[must_use]
pub fn hmac(suite: CipherSuite, key: &[u8], parts: &[&[u8]]) -> Code {
    let mut bytes = [0; 32];
    let len = suite.hash_len();
    match suite {
        CipherSuite::Three => {
            bytes[..len].copy_from_slice(&feed::<Hmac<Sha1>>(key, parts).finalize().into_bytes());
        }
        CipherSuite::Seventeen => {
            bytes[..len].copy_from_slice(&feed::<Hmac<Sha256>>(key, parts).finalize().into_bytes());
        }
    }
    Code { bytes, len }
}

/// Whether `code`, which must be `len` bytes, is the beginning of the HMAC of `parts`. In constant time.
#[must_use]
pub fn hmac_matches(suite: CipherSuite, key: &[u8], parts: &[&[u8]], code: &[u8], len: usize) -> bool {
    code.len() == len
        && len > 0
        && match suite {
            CipherSuite::Three => feed::<Hmac<Sha1>>(key, parts).verify_truncated_left(code).is_ok(),
            CipherSuite::Seventeen => feed::<Hmac<Sha256>>(key, parts).verify_truncated_left(code).is_ok(),
        }
}

/// Appends `iv` and the AES-CBC-128 encryption of `plain` with IPMI's padding (1, 2, 3, …, count) to `out`.
pub fn encrypt_onto(out: &mut Vec<u8>, key: &[u8; BLOCK], iv: [u8; BLOCK], plain: &[u8]) {
    out.extend_from_slice(&iv);
    let start = out.len();
    out.extend_from_slice(plain);
    let pad = (BLOCK - (plain.len() + 1) % BLOCK) % BLOCK;
    out.extend((1..=pad).map(|count| u8::try_from(count).expect("padding is below the block size")));
    out.push(u8::try_from(pad).expect("padding is below the block size"));
    let whole = out.len() - start;
    cbc::Encryptor::<aes::Aes128>::new(key.into(), &iv.into())
        .encrypt_padded_mut::<NoPadding>(&mut out[start..], whole)
        .expect("the buffer is a multiple of the block size");
}

/// The plain text of `sealed` (initialisation vector, then blocks); `None` when lengths or padding are wrong.
#[must_use]
pub fn decrypt(key: &[u8; BLOCK], sealed: &[u8]) -> Option<Vec<u8>> {
    let (iv, blocks) = sealed.split_first_chunk::<BLOCK>()?;
    if blocks.is_empty() || !blocks.len().is_multiple_of(BLOCK) {
        return None;
    }
    let mut plain = blocks.to_vec();
    cbc::Decryptor::<aes::Aes128>::new(key.into(), iv.into())
        .decrypt_padded_mut::<NoPadding>(&mut plain)
        .ok()?;
    let pad = usize::from(*plain.last()?);
    let keep = plain.len().checked_sub(pad + 1)?;
    let right = plain[keep..plain.len() - 1].iter().zip(1u8..).all(|(byte, count)| *byte == count);
    (pad < BLOCK && right).then(|| {
        plain.truncate(keep);
        plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encrypted_decrypts_at_every_length() {
        let key = [7; BLOCK];
        for len in 0..100u8 {
            let plain: Vec<u8> = (0..len).collect();
            let mut sealed = Vec::new();
            encrypt_onto(&mut sealed, &key, [9; BLOCK], &plain);
            assert_eq!(sealed.len() % BLOCK, 0);
            assert_eq!(decrypt(&key, &sealed).as_deref(), Some(&plain[..]));
        }
    }

    #[test]
    fn a_code_of_another_length_never_matches() {
        for suite in CipherSuite::ALL {
            let code = hmac(suite, b"key", &[b"text"]);
            assert!(hmac_matches(suite, b"key", &[b"te", b"xt"], &code, suite.hash_len()));
            assert!(!hmac_matches(suite, b"key", &[b"text"], &code[..4], suite.hash_len()));
            assert!(!hmac_matches(suite, b"key", &[b"text"], &[], 0));
        }
    }
}
