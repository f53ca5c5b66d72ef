//! Rescue passwords: what a client sends in plain text is hashed here, before it goes anywhere (states.md §2 "rescue").

use ferric_actors::Secret;
use sha_crypt::{Sha256Params, Sha512Params, sha256_crypt_b64, sha512_crypt_b64};

use crate::error::{ApiError, Result};

/// `[conductor] rescue_password_hash_algorithm`: how the rescue ramdisk's `/etc/shadow` is to read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PasswordHash {
    /// SHA-256 crypt, `$5$`.
    #[default]
    Sha256,
    /// SHA-512 crypt, `$6$`.
    Sha512,
}

/// The longest password in bytes: what crypt(3) takes. The work rises with the square of it.
const LONGEST: usize = 512;

/// The characters of a salt, six bits each.
const SALT: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Hashes a password with a fresh salt, off the threads that serve requests. The error does not repeat it.
pub(crate) async fn hash(password: Secret<String>, algorithm: PasswordHash) -> Result<Secret<String>> {
    let text = password.expose();
    if text.trim().is_empty() {
        return Err(ApiError::bad_request(
            "A non-empty 'rescue_password' is required with the target rescue.",
        ));
    }
    if text.len() > LONGEST {
        return Err(ApiError::bad_request(format!(
            "'rescue_password' is longer than {LONGEST} bytes, which no login takes."
        )));
    }
    let hashed = tokio::task::spawn_blocking(move || salted(password.expose(), algorithm)).await;
    hashed.map_err(|_| ApiError::internal("hashing the rescue password did not end"))?
}

fn salted(password: &str, algorithm: PasswordHash) -> Result<Secret<String>> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::internal("the system gives no random numbers"))?;
    let salt: String = bytes.iter().map(|byte| char::from(SALT[usize::from(byte & 63)])).collect();
    Ok(Secret::new(crypt(password, &salt, algorithm)))
}

/// `$5$salt$hash` or `$6$salt$hash`, with the default 5000 rounds, which are not written.
fn crypt(password: &str, salt: &str, algorithm: PasswordHash) -> String {
    const DONE: &str = "the default rounds are allowed";
    let (mark, hash) = match algorithm {
        PasswordHash::Sha256 => {
            let params = Sha256Params::default();
            (
                5,
                sha256_crypt_b64(password.as_bytes(), salt.as_bytes(), &params)
                    .map_err(|_| DONE)
                    .expect(DONE),
            )
        }
        PasswordHash::Sha512 => {
            let params = Sha512Params::default();
            (
                6,
                sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &params)
                    .map_err(|_| DONE)
                    .expect(DONE),
            )
        }
    };
    format!("${mark}${salt}${hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured with crypt(3) of glibc and with `openssl passwd`.
    #[test]
    fn hashes_are_those_of_crypt() {
        let long = "grüße und mehr als fünfundsechzig Zeichen, damit beide Blöcke drankommen";
        assert_eq!(
            crypt(long, "0123456789abcdef", PasswordHash::Sha512),
            "$6$0123456789abcdef$qSh9DjnIwpcRxZFEO11d5oymw8PoIBDMQdUSJRYVeewOaSMJTv42At3hjtKAa/cWcHcPjLr.8Dz1TppiKRIRO0"
        );
        assert_eq!(
            crypt("Hello world!", "saltstring", PasswordHash::Sha256),
            "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"
        );
        assert_eq!(
            crypt("Hello world!", "saltstring", PasswordHash::Sha512),
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
        );
    }

    #[tokio::test]
    async fn every_hash_has_its_own_salt_and_nothing_prints() {
        let ask = |text: &str| hash(Secret::new(text.to_owned()), PasswordHash::Sha256);
        let (one, two) = (ask("calvin").await.expect("a hash"), ask("calvin").await.expect("a hash"));
        assert!(one.expose().starts_with("$5$") && one.expose() != two.expose());
        assert!(!format!("{one:?}").contains('$'));
        assert!(ask(" \n").await.is_err_and(|error| error.to_string().contains("non-empty")));
        let long = "p".repeat(LONGEST + 1);
        assert!(ask(&long).await.is_err_and(|error| !error.to_string().contains("ppp")));
    }
}
