//! `http_basic`: names and bcrypt hashes in a file like Apache's htpasswd.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::lru::{Key, Lru};
use super::reload::Reloading;
use crate::error::Denial;
use crate::policy::Caller;

/// Credentials that were found right and are remembered.
const REMEMBERED: usize = 256;

/// How long a caller waits for its turn to have a password checked. Who hung up waits no longer than that either.
const PATIENCE: Duration = Duration::from_secs(5);

/// Callers whose passwords are being checked or wait for it.
const WAITING: usize = 128;

/// How many of them may be at one address: the others have their turns soon, whatever it sends.
const WAITING_OF_ONE: usize = 16;

/// Why a password file cannot be used. Its hashes are never in the text.
#[derive(Debug, thiserror::Error)]
pub enum PasswordFileError {
    /// It is missing, or may not be read.
    #[error(
        "cannot read the password file {path}: {source}; make it with `htpasswd -nbB NAME PASSWORD > {path}`, or name \
         another in [auth] http_basic_auth_user_file"
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is nobody in it.
    #[error(
        "the password file {path} is empty: nobody could call the API; add a user with `htpasswd -nbB NAME PASSWORD >> \
         {path}`"
    )]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// A line of another form.
    #[error(
        "line {line} of the password file {path} {why}; lines look like NAME:$2y$…, as `htpasswd -nbB NAME PASSWORD` \
         makes them"
    )]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
}

/// Names with their hashes.
struct Users {
    hashes: HashMap<String, String>,
    /// The hash that takes the longest to check: who is unknown takes as long.
    costliest: String,
}

impl Users {
    fn read(path: &Path) -> Result<Users, PasswordFileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PasswordFileError::Unreadable { path: path.to_owned(), source })?;
        let mut hashes = HashMap::new();
        let mut costliest: Option<(u32, String)> = None;
        for (place, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why| PasswordFileError::Line { path: path.to_owned(), line: place + 1, why };
            let (name, hash) = line.split_once(':').ok_or_else(|| wrong("has no colon"))?;
            if !["$2a$", "$2b$", "$2y$"].iter().any(|version| hash.starts_with(version)) {
                return Err(wrong("has a password that is not hashed with bcrypt"));
            }
            let cost = cost(hash).ok_or_else(|| wrong("has a bcrypt hash that is damaged"))?;
            if costliest.as_ref().is_none_or(|(most, _)| cost > *most) {
                costliest = Some((cost, hash.to_owned()));
            }
            // the first line of a name is the one that counts
            hashes.entry(name.to_owned()).or_insert_with(|| hash.to_owned());
        }
        match costliest {
            Some((_, costliest)) => Ok(Users { hashes, costliest }),
            None => Err(PasswordFileError::Empty { path: path.to_owned() }),
        }
    }
}

/// The cost of a well-formed hash: `$2b$12$` and 53 characters of bcrypt's alphabet.
fn cost(hash: &str) -> Option<u32> {
    let rest = hash.get(4..)?;
    let (cost, rest) = rest.split_once('$')?;
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    (rest.len() == 53 && rest.bytes().all(known) && cost.len() == 2)
        .then(|| cost.parse().ok())?
        .filter(|cost| (4..=31).contains(cost))
}

/// The password file, and whose credentials were right.
pub(super) struct Basic {
    users: Arc<Reloading<Users>>,
    /// Digests of name, hash and password that belong together, with a salt of this process.
    right: Mutex<Lru<()>>,
    salt: [u8; 32],
    turns: Turns,
}

/// bcrypt takes a core for a moment: not all of them at once, and not all for one address.
struct Turns {
    cores: Semaphore,
    waiting: Mutex<HashMap<Option<IpAddr>, usize>>,
}

/// A caller's place among those who wait, and later its turn; both end with this.
struct Turn<'a> {
    turns: &'a Turns,
    whose: Option<IpAddr>,
    core: Option<SemaphorePermit<'a>>,
}

impl Turns {
    fn new(cores: usize) -> Turns {
        Turns { cores: Semaphore::new(cores), waiting: Mutex::default() }
    }

    /// A turn for a caller at that address. Busy: too many wait, there or in all, or it took too long.
    async fn take(&self, peer: Option<IpAddr>) -> Result<Turn<'_>, Denial> {
        let whose = peer.map(network);
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let of_it = waiting.get(&whose).copied().unwrap_or(0);
            if of_it >= WAITING_OF_ONE || waiting.values().sum::<usize>() >= WAITING {
                return Err(Denial::Busy);
            }
            waiting.insert(whose, of_it + 1);
        }
        let mut turn = Turn { turns: self, whose, core: None };
        let core = tokio::time::timeout(PATIENCE, self.cores.acquire()).await;
        turn.core = Some(core.map_err(|_| Denial::Busy)?.map_err(|_| Denial::Busy)?);
        Ok(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.core.take());
        let mut waiting = self.turns.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let left = waiting.get(&self.whose).map_or(0, |of_it| of_it.saturating_sub(1));
        if left == 0 {
            waiting.remove(&self.whose);
        } else {
            waiting.insert(self.whose, left);
        }
    }
}

/// What counts as one address: of IPv6 a network of 64 bits, which is what one host can choose from.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

impl Basic {
    pub(super) fn start(path: &Path) -> Result<Basic, PasswordFileError> {
        let file = path.to_owned();
        let users = Reloading::start("the password file", vec![path.to_owned()], move || Users::read(&file))?;
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).expect("the system has random numbers, TLS and tokens need them too");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Basic { users, right: Mutex::new(Lru::new(REMEMBERED)), salt, turns: Turns::new(cores) })
    }

    pub(super) async fn admit(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Caller, Denial> {
        let header = headers.get(header::AUTHORIZATION).ok_or(Denial::NoCredentials)?;
        let (name, password) = parse(header.to_str().map_err(|_| Denial::Malformed(PARSE.to_owned()))?)?;
        if self.is_right(&name, password, peer).await? {
            Ok(Caller::User(name.into()))
        } else {
            tracing::info!(user = %name.escape_debug(), "a password was refused");
            Err(Denial::WrongPassword)
        }
    }

    async fn is_right(&self, name: &str, password: Vec<u8>, peer: Option<IpAddr>) -> Result<bool, Denial> {
        let users = self.users.get();
        let known = users.hashes.get(name);
        let hash = known.unwrap_or(&users.costliest).clone();
        let key = self.key(name, &hash, &password);
        let known = known.is_some();
        let remembered =
            || known && self.right.lock().unwrap_or_else(PoisonError::into_inner).get(&key).is_some();
        if remembered() {
            return Ok(true);
        }
        let _turn = self.turns.take(peer).await?;
        // a client that sends many at once is checked once
        if remembered() {
            return Ok(true);
        }
        let verified = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
        let right = verified.await.map_err(|_| Denial::Busy)? && known;
        if right {
            self.right.lock().unwrap_or_else(PoisonError::into_inner).put(key, ());
        }
        Ok(right)
    }

    /// What stands for credentials in memory. A changed hash makes another.
    fn key(&self, name: &str, hash: &str, password: &[u8]) -> Key {
        let mut digest = Sha256::new();
        digest.update(self.salt);
        for part in [name.as_bytes(), hash.as_bytes(), password] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

const PARSE: &str = "Could not parse Authorization header";
const DECODE: &str = "Could not decode authorization token";

/// Name and password of an `Authorization` header.
fn parse(header: &str) -> Result<(String, Vec<u8>), Denial> {
    let malformed = |text: &str| Denial::Malformed(text.to_owned());
    let (scheme, token) = header.trim().split_once(char::is_whitespace).ok_or_else(|| malformed(PARSE))?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Denial::Malformed(format!("Unsupported authorization type \"{scheme}\"")));
    }
    let pair = STANDARD.decode(token.trim()).map_err(|_| malformed(DECODE))?;
    let colon = pair.iter().position(|b| *b == b':').ok_or_else(|| malformed(DECODE))?;
    let name = std::str::from_utf8(&pair[..colon]).map_err(|_| malformed(DECODE))?;
    Ok((name.to_owned(), pair[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `secret`, at the least cost.
    const HASH: &str = "$2b$04$3O58woh.F9L8PQ.af3T41OZewbzifcd23KJpsGz4.fnkQnEoymWP6";

    fn users(text: &str) -> Result<Users, PasswordFileError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("it is written");
        Users::read(file.path())
    }

    #[test]
    fn a_file_is_read_as_apache_writes_it_and_each_fault_says_what_to_do() {
        let read = users(&format!("# comment\n\n  one:{HASH}  \none:$2y$05{}\ntwo:{HASH}\n", &HASH[6..]))
            .expect("users");
        assert_eq!(read.hashes.len(), 2);
        assert_eq!(read.hashes["one"], HASH, "the first line counts");
        for (text, said) in [
            ("", "is empty"),
            ("# nobody\n", "is empty"),
            ("one\n", "line 1"),
            ("\none:{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=\n", "line 2"),
            ("one:$2x$04$3O58woh.F9L8PQ.af3T41OZewbzifcd23KJpsGz4.fnkQnEoymWP6", "not hashed with bcrypt"),
            ("one:$2b$04$short", "damaged"),
            ("one:$2b$99$3O58woh.F9L8PQ.af3T41OZewbzifcd23KJpsGz4.fnkQnEoymWP6", "damaged"),
        ] {
            let error = users(text).err().unwrap_or_else(|| panic!("{text:?} was taken")).to_string();
            assert!(error.contains(said) && error.contains("htpasswd"), "{text:?}: {error}");
            assert!(!error.contains("fEqN") && !error.contains("3O58woh."), "no hash in {error}");
        }
        let missing = Users::read(Path::new("/nonexistent/htpasswd")).err().expect("no file").to_string();
        assert!(missing.contains("http_basic_auth_user_file"), "{missing}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_does_not_keep_the_others_from_having_their_passwords_checked() {
        let turns = Turns::new(1);
        let [bad, good] =
            ["2001:db8::1", "192.0.2.7"].map(|text| text.parse::<IpAddr>().expect("an address"));
        let neighbour = "2001:db8::ffff:1".parse().ok();
        let first = turns.take(Some(bad)).await.expect("nobody is there");
        let mut queue: Vec<_> = (1..WAITING_OF_ONE).map(|_| Box::pin(turns.take(Some(bad)))).collect();
        for waiting in &mut queue {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        assert!(matches!(turns.take(Some(bad)).await, Err(Denial::Busy)), "its queue is short");
        assert!(matches!(turns.take(neighbour).await, Err(Denial::Busy)), "and that of its whole network");
        let mut other = Box::pin(turns.take(Some(good)));
        assert!(futures_util::poll!(&mut other).is_pending(), "another one waits");
        // those who are gone leave no place behind
        drop((first, queue));
        drop(other.await.expect("its turn"));
        assert!(turns.waiting.lock().expect("not poisoned").is_empty());
        let _held = turns.take(Some(bad)).await.expect("a turn");
        assert!(matches!(turns.take(Some(good)).await, Err(Denial::Busy)), "nobody waits for ever");
    }

    #[test]
    fn headers_are_taken_apart_as_in_ironic() {
        let given = |header: &str| parse(header).map_err(|denial| denial.to_string());
        assert_eq!(given("Basic YTpiOmM="), Ok(("a".into(), b"b:c".to_vec())));
        assert_eq!(given("  bAsIc   YTpiOmM= "), Ok(("a".into(), b"b:c".to_vec())));
        assert_eq!(given("Basic Og=="), Ok((String::new(), Vec::new())));
        for (header, said) in [
            ("Basic", PARSE),
            ("", PARSE),
            ("Bearer abc", "Unsupported authorization type \"Bearer\""),
            ("Basic ***", DECODE),
            ("Basic YWJj", DECODE),
            ("Basic /zph", DECODE),
        ] {
            assert_eq!(given(header), Err(said.to_owned()), "{header}");
        }
    }
}
