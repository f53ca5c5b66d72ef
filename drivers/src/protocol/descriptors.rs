//! How many files this process may have open, of which every connection and every file that is sent is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A place of a boot server: its socket and its file.
pub(crate) const OF_A_PLACE: usize = 2;
/// Of all descriptors, the part that the places of one boot server may take.
const SHARE: usize = 4;
/// Fewer places are no server.
const FEWEST: usize = 16;

/// Raises this process's limit of open files to what it is allowed: systemd starts services with 1,024 of 524,288.
/// The limit from then on, `None` when the kernel does not tell.
pub fn raise_limit() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Some(hard);
    }
    Some(soft)
}

/// How many places a boot server has: `most`, or fewer where that would leave the API without descriptors.
pub(crate) fn places(most: usize) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    within(limit, most)
}

fn within(limit: u64, most: usize) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    (limit / SHARE / OF_A_PLACE).clamp(FEWEST, most.max(FEWEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_servers_leave_descriptors_to_the_api() {
        for limit in [256, 1024, 4096, 20_000, 1 << 20] {
            let taken = OF_A_PLACE * (within(limit, 4096) + within(limit, 2048));
            assert!(taken as u64 <= limit / 2, "{taken} of {limit}");
        }
        assert_eq!(within(u64::MAX, 4096), 4096);
        assert_eq!(within(8, 4096), FEWEST);
    }

    #[test]
    fn what_is_allowed_is_taken() {
        let limit = raise_limit().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((soft, limit), (hard, hard));
    }
}
