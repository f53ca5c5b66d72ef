//! The hash over the bytes as downloaded.

use ferric_agent_wire::ImageInfo;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};

use crate::error::Failure;

/// What the image must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `sha256`, `sha512` or `md5`.
    pub algorithm: String,
    /// Lower-case hex.
    pub value: String,
}

impl Expected {
    /// From what the image declares itself. Errors: `Parameters` when it declares nothing usable.
    pub fn of(info: &ImageInfo, md5_allowed: bool) -> Result<Self, Failure> {
        let Some((algorithm, value)) = info.declared_hash() else {
            return Err(Failure::Parameters(
                "image_info declares no usable hash: give os_hash_algo and os_hash_value, or checksum"
                    .to_owned(),
            ));
        };
        Self::checked(algorithm, value, md5_allowed)
    }

    /// Checks algorithm and shape. Errors: `Parameters`.
    pub fn checked(algorithm: String, value: String, md5_allowed: bool) -> Result<Self, Failure> {
        let digits = match algorithm.as_str() {
            "md5" if !md5_allowed => {
                return Err(Failure::Parameters(
                    "md5 checksums are switched off; use sha256 or sha512".to_owned(),
                ));
            }
            "md5" => 32,
            "sha256" => 64,
            "sha512" => 128,
            other => {
                return Err(Failure::Parameters(format!(
                    "hash algorithm {other}: known are sha256, sha512, md5"
                )));
            }
        };
        if value.len() != digits || !value.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Failure::Parameters(format!(
                "{algorithm} hash must be {digits} hex digits, got {value:?}"
            )));
        }
        Ok(Self { algorithm, value: value.to_lowercase() })
    }

    /// Finds the hash in a checksum file: `hash  name`, `hash *name`, BSD `SHA256 (name) = hash`, or a lone hash.
    pub fn in_checksum_file(text: &str, image_name: &str, md5_allowed: bool) -> Result<Self, Failure> {
        let of_length = |value: &str| match value.len() {
            32 => Some("md5"),
            64 => Some("sha256"),
            128 => Some("sha512"),
            _ => None,
        };
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        let found = lines.iter().find_map(|line| {
            if let Some((left, value)) = line.split_once(") = ") {
                let (_, name) = left.split_once(" (")?;
                return (base_name(name) == image_name).then(|| value.trim().to_owned());
            }
            let mut words = line.split_whitespace();
            let value = words.next()?;
            match words.next() {
                Some(name) => {
                    (base_name(name.trim_start_matches('*')) == image_name).then(|| value.to_owned())
                }
                None => (lines.len() == 1).then(|| value.to_owned()),
            }
        });
        let value = found
            .ok_or_else(|| Failure::Parameters(format!("the checksum file does not name {image_name}")))?;
        let algorithm = of_length(&value)
            .ok_or_else(|| Failure::Parameters(format!("{value:?} in the checksum file is no known hash")))?;
        Self::checked(algorithm.to_owned(), value, md5_allowed)
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A hash under way.
pub enum Hasher {
    /// md5
    Md5(Md5),
    /// sha256
    Sha256(Sha256),
    /// sha512
    Sha512(Sha512),
}

impl Hasher {
    /// For an algorithm that [`Expected`] has accepted.
    pub fn new(expected: &Expected) -> Self {
        match expected.algorithm.as_str() {
            "md5" => Self::Md5(Md5::new()),
            "sha512" => Self::Sha512(Sha512::new()),
            _ => Self::Sha256(Sha256::new()),
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The hash, lower-case hex.
    pub fn hex(self) -> String {
        match self {
            Self::Md5(hash) => hex(&hash.finalize()),
            Self::Sha256(hash) => hex(&hash.finalize()),
            Self::Sha512(hash) => hex(&hash.finalize()),
        }
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_file_is_read_in_its_usual_shapes() {
        let hash = "ab".repeat(32);
        for text in [
            format!("{}  other.img\n{hash}  disk.img\n", "cd".repeat(32)),
            format!("# note\n{hash} *./x/disk.img"),
            format!("SHA256 (disk.img) = {hash}\n"),
            format!("{hash}\n"),
        ] {
            let found = Expected::in_checksum_file(&text, "disk.img", true).expect("found");
            assert_eq!((found.algorithm.as_str(), &found.value), ("sha256", &hash));
        }
        assert!(Expected::in_checksum_file(&format!("{hash}  other"), "disk.img", true).is_err());
    }

    #[test]
    fn a_hash_of_the_wrong_shape_is_refused() {
        assert!(Expected::checked("sha256".into(), "ab".into(), true).is_err());
        assert!(Expected::checked("crc".into(), "ab".into(), true).is_err());
        assert!(Expected::checked("md5".into(), "ab".repeat(16), false).is_err());
        assert!(Expected::of(&ImageInfo::default(), true).is_err());
    }
}
