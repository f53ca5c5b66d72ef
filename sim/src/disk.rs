//! A disk that remembers what was written to it instead of keeping it.

use ferric_agent_wire::error_type;
use sha2::Digest as _;

/// What a disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where it came from.
    pub url: String,
    /// Bytes of the image file.
    pub bytes: u64,
    /// sha256 of the image file, hex.
    pub sha256: String,
    /// Whether a config drive went along.
    pub configdrive: bool,
}

/// The disk of a simulated machine.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its size in bytes.
    pub size: u64,
    /// What a complete write left; `None` when it is empty or a write broke off.
    pub written: Option<Written>,
    /// Complete writes in its life.
    pub writes: u64,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { size, written: None, writes: 0 }
    }
}

/// Hashes an image while it comes in: always sha256, and what the image declares when that is something else.
pub(crate) struct Digests {
    sha256: sha2::Sha256,
    sha512: Option<sha2::Sha512>,
    md5: Option<md5::Md5>,
    declared: Option<(String, String)>,
}

impl Digests {
    pub(crate) fn new(declared: Option<(String, String)>) -> Self {
        let is = |name: &str| declared.as_ref().is_some_and(|(algorithm, _)| algorithm == name);
        Self {
            sha256: sha2::Sha256::new(),
            sha512: is("sha512").then(sha2::Sha512::new),
            md5: is("md5").then(md5::Md5::new),
            declared,
        }
    }

    pub(crate) fn update(&mut self, chunk: &[u8]) {
        self.sha256.update(chunk);
        if let Some(hash) = &mut self.sha512 {
            hash.update(chunk);
        }
        if let Some(hash) = &mut self.md5 {
            hash.update(chunk);
        }
    }

    /// The sha256; or the kind of error and its words when the declared hash is another.
    pub(crate) fn finish(self) -> Result<String, (&'static str, String)> {
        let sha256 = hex(&self.sha256.finalize());
        let Some((algorithm, expected)) = self.declared else { return Ok(sha256) };
        let actual = match (algorithm.as_str(), self.sha512, self.md5) {
            ("sha256", _, _) => sha256.clone(),
            (_, Some(hash), _) => hex(&hash.finalize()),
            (_, _, Some(hash)) => hex(&hash.finalize()),
            (other, None, None) => {
                return Err((error_type::CHECKSUM, format!("checksum algorithm {other} is not known here")));
            }
        };
        if actual.eq_ignore_ascii_case(&expected) {
            Ok(sha256)
        } else {
            Err((
                error_type::CHECKSUM,
                format!("{algorithm} of the image is {actual}, declared was {expected}"),
            ))
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sha256 of `content`, hex, as an image's checksum is written.
pub fn sha256_hex(content: &[u8]) -> String {
    hex(&sha2::Sha256::digest(content))
}
