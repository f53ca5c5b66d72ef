//! Password hashes as `/etc/shadow` holds them: SHA-crypt, version 0.6 (the specification is in the public domain).

use std::io;

use ferric_agent_wire::Secret;
use sha2::{Digest, Sha512};

/// The alphabet of crypt(3), in its order.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Rounds when none are named.
const ROUNDS: usize = 5000;

/// Whether the text can stand in `/etc/shadow` as a SHA-256 or SHA-512 hash: `$5$salt$hash`, `$6$rounds=n$salt$hash`.
pub fn is_hash(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("$5$").or_else(|| text.strip_prefix("$6$")) else { return false };
    let wanted = if text.starts_with("$5$") { 43 } else { 86 };
    let parts: Vec<&str> = rest.split('$').collect();
    let salted = match parts.as_slice() {
        [salt, hash] => Some((*salt, *hash)),
        [rounds, salt, hash] if rounds.strip_prefix("rounds=").is_some_and(|n| n.parse::<u32>().is_ok()) => {
            Some((*salt, *hash))
        }
        _ => None,
    };
    // a salt may hold more than the alphabet, but nothing that would end the field or the line
    let plain = |salt: &str| salt.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    salted.is_some_and(|(salt, hash)| {
        salt.len() <= 16
            && plain(salt)
            && hash.len() == wanted
            && hash.bytes().all(|byte| ALPHABET.contains(&byte))
    })
}

/// The SHA-512 hash of a password under a salt of chance. Errors: no random numbers.
pub fn hash(password: &Secret) -> io::Result<Secret> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
    let salt = salt.map(|byte| ALPHABET[usize::from(byte % 64)]);
    Ok(Secret::new(sha512(password.reveal().as_bytes(), &salt)))
}

fn sha512(password: &[u8], salt: &[u8]) -> String {
    let digest = |parts: &[&[u8]]| {
        let mut hasher = Sha512::new();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize()
    };
    let alternate = digest(&[password, salt, password]);
    let mut hasher = Sha512::new();
    hasher.update(password);
    hasher.update(salt);
    hasher.update(stretched(&alternate, password.len()));
    let mut length = password.len();
    while length > 0 {
        if length & 1 == 1 {
            hasher.update(alternate)
        } else {
            hasher.update(password)
        }
        length >>= 1;
    }
    let mut result = hasher.finalize();
    let passwords = stretched(&digest(&[&password.repeat(password.len())]), password.len());
    let salts = stretched(&digest(&[&salt.repeat(16 + usize::from(result[0]))]), salt.len());
    for round in 0..ROUNDS {
        let mut hasher = Sha512::new();
        if round % 2 == 1 {
            hasher.update(&passwords)
        } else {
            hasher.update(result)
        }
        if round % 3 != 0 {
            hasher.update(&salts);
        }
        if round % 7 != 0 {
            hasher.update(&passwords);
        }
        if round % 2 == 1 {
            hasher.update(result)
        } else {
            hasher.update(&passwords)
        }
        result = hasher.finalize();
    }
    format!("$6${}${}", String::from_utf8_lossy(salt), encoded(&result))
}

/// A digest repeated and cut to a length.
fn stretched(digest: &[u8], length: usize) -> Vec<u8> {
    digest.iter().copied().cycle().take(length).collect()
}

/// The 64 bytes in the order and the base 64 of crypt(3).
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut put = |mut number: u32, characters: usize| {
        for _ in 0..characters {
            text.push(char::from(ALPHABET[(number & 63) as usize]));
            number >>= 6;
        }
    };
    let (mut a, mut b, mut c) = (0, 21, 42);
    for _ in 0..21 {
        put(u32::from(bytes[a]) << 16 | u32::from(bytes[b]) << 8 | u32::from(bytes[c]), 4);
        (a, b, c) = (b + 1, c + 1, a + 1);
    }
    put(u32::from(bytes[63]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_specification() {
        assert_eq!(
            sha512(b"Hello world!", b"saltstring"),
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
        );
        let made = hash(&Secret::new("geheim")).expect("random");
        assert!(is_hash(made.reveal()) && made != hash(&Secret::new("geheim")).expect("random"));
        let long = "x".repeat(300);
        let openssl = std::process::Command::new("openssl")
            .args(["passwd", "-6", "-salt", "abcdefgh"])
            .arg(&long)
            .output()
            .expect("openssl runs");
        let theirs = String::from_utf8_lossy(&openssl.stdout).trim().to_owned();
        // openssl cuts passwords at 256 bytes
        assert_eq!(theirs, sha512(&long.as_bytes()[..256], b"abcdefgh"));
    }

    #[test]
    fn only_what_cannot_break_the_file_counts_as_a_hash() {
        let good = "$5$saltsaltsaltsalt$".to_owned() + &"a".repeat(43);
        assert!(is_hash(&good));
        assert!(is_hash(&("$6$rounds=10000$salt$".to_owned() + &"B".repeat(86))));
        for bad in [
            "plain",
            "",
            "!",
            "*",
            "$1$salt$0123456789012345678901",
            "$6$salt$short",
            &(good.clone() + "\nroot::0:0"),
            &(good.clone() + ":0"),
            &good.replace("salts", "sal:s"),
            &good.replacen("$5$", "$5$rounds=x$", 1),
        ] {
            assert!(!is_hash(bad), "{bad}");
        }
    }
}
