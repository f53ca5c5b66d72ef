//! The identifiers of one deployment: random, and the same again when its write is taken up after a restart.

use sha2::{Digest, Sha256};

use crate::error::DriverError;
use crate::interface::Result;

/// See the module. Kept in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Seed(String);

impl Seed {
    /// A new one.
    pub(super) fn random() -> Result<Seed> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| DriverError::Io { path: "random numbers".into(), reason: error.to_string() })?;
        Ok(Seed(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The n-th random UUID, as it is stored on disks.
    pub(super) fn guid(&self, n: u32) -> [u8; 16] {
        let mut raw: [u8; 16] = self.bytes(n)[..16].try_into().expect("a digest has 32 bytes");
        raw[7] = raw[7] & 0x0f | 0x40;
        raw[8] = raw[8] & 0x3f | 0x80;
        raw
    }

    /// The n-th random UUID in the order of bytes that file systems use.
    pub(super) fn uuid(&self, n: u32) -> uuid::Uuid {
        let raw = self.bytes(n + 0x1000)[..16].try_into().expect("a digest has 32 bytes");
        uuid::Builder::from_random_bytes(raw).into_uuid()
    }

    /// The n-th random number.
    pub(super) fn number(&self, n: u32) -> u32 {
        u32::from_le_bytes(self.bytes(n + 0x2000)[..4].try_into().expect("a digest has 32 bytes"))
    }

    fn bytes(&self, n: u32) -> [u8; 32] {
        Sha256::digest(format!("{}:{n}", self.0).as_bytes()).into()
    }
}
