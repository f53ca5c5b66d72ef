//! `rescue.finalize_rescue`: the user `rescue` gets a password, and the agent leaves the machine to its tenant.
//!
//! The ramdisk brings that user locked, and starts no login anywhere before [`MARKER`] is there: see `ramdisk/init`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ferric_agent_wire::{FinalizeRescueParams, Secret};

use crate::crypt;
use crate::error::Failure;

/// The user that tenants log in as.
pub const USER: &str = "rescue";

/// The file in the agent's state folder that tells `init` to let people log in once the agent has ended.
pub const MARKER: &str = "ferric-rescue";

/// The fields of a line in `shadow` behind the hash.
const AGEING: &str = ":1:0:99999:7:::";

/// Sets the password in `etc/shadow` and puts the marker into `state`. Blocks. Errors: `Parameters` for a password that
/// is empty or no hash although it is said to be one; `Io`.
pub fn finalize(etc: &Path, state: &Path, params: &FinalizeRescueParams) -> Result<(), Failure> {
    let given = &params.rescue_password;
    if given.reveal().is_empty() {
        return Err(Failure::Parameters("rescue_password is missing".to_owned()));
    }
    let hash = match params.hashed {
        true if crypt::is_hash(given.reveal()) => given.clone(),
        true => {
            return Err(Failure::Parameters(
                "rescue_password is no SHA-256 or SHA-512 hash of crypt(3) although hashed is true"
                    .to_owned(),
            ));
        }
        false => crypt::hash(given).map_err(Failure::io("hashing the password"))?,
    };
    set_hash(&etc.join("shadow"), &hash).map_err(Failure::io("setting the rescue password"))?;
    File::create(state.join(MARKER)).map_err(Failure::io("letting the rescue user in"))?;
    Ok(())
}

/// Replaces the user's line, all at once: a crash leaves the old file or the new one.
fn set_hash(shadow: &Path, hash: &Secret) -> io::Result<()> {
    let old = fs::read_to_string(shadow)?;
    let theirs = format!("{USER}:");
    let mut lines: Vec<&str> = old.lines().filter(|line| !line.starts_with(&theirs)).collect();
    // changed on day 1, never too old: busybox' login knows no user whose numbers are left empty
    let line = format!("{USER}:{}{AGEING}", hash.reveal());
    lines.push(&line);
    let new = shadow.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all((lines.join("\n") + "\n").as_bytes())?;
    fs::rename(new, shadow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finalized(shadow: &str, password: &str, hashed: bool) -> (Result<(), Failure>, String, bool) {
        let folder = tempfile::tempdir().expect("temp dir");
        let (etc, state) = (folder.path().join("etc"), folder.path());
        fs::create_dir(&etc).expect("dir");
        fs::write(etc.join("shadow"), shadow).expect("file");
        let params = FinalizeRescueParams { rescue_password: Secret::new(password), hashed };
        let outcome = finalize(&etc, state, &params);
        let shadow = fs::read_to_string(etc.join("shadow")).expect("file");
        (outcome, shadow, state.join(MARKER).exists())
    }

    const LOCKED: &str = "root:!:1::::::\nrescue:!:1::::::\n";

    #[test]
    fn a_hash_is_taken_as_it_is_and_nobody_else_is_let_in() {
        let hash = "$6$saltstring$".to_owned() + &"x".repeat(86);
        let (outcome, shadow, marked) = finalized(LOCKED, &hash, true);
        outcome.expect("set");
        assert_eq!(shadow, format!("root:!:1::::::\nrescue:{hash}:1:0:99999:7:::\n"));
        assert!(marked);
    }

    #[test]
    fn a_plain_password_is_hashed_here_and_stands_nowhere() {
        let (outcome, shadow, marked) = finalized(LOCKED, "geheim", false);
        outcome.expect("set");
        let line = shadow.lines().last().expect("two lines");
        let hash = line.strip_prefix("rescue:").and_then(|rest| rest.strip_suffix(AGEING)).expect("line");
        assert!(crypt::is_hash(hash) && !shadow.contains("geheim") && marked);
    }

    #[test]
    fn what_is_no_password_leaves_everybody_locked_out() {
        for (password, hashed) in [("", false), ("", true), ("geheim", true), ("$6$a$b\nroot::::", true)] {
            let (outcome, shadow, marked) = finalized(LOCKED, password, hashed);
            let error = outcome.expect_err("refused").to_string();
            assert!(shadow == LOCKED && !marked && !error.contains("geheim"), "{error}");
        }
    }
}
