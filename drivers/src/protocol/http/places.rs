//! Room for connections: how many there are, how many of one client, and who goes when somebody else waits.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::metrics::{BootProtocol, BootSession};
use crate::protocol::clients::{Bounds, Shares};

/// Who has waited this long for a request to come, whole, may have to go: firmware asks within milliseconds.
const IDLE: Duration = Duration::from_secs(1);

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    room: Arc<Semaphore>,
    /// Somebody waits for a place. The one that has been idle longest hears it first.
    wanted: Notify,
    shares: Mutex<Shares>,
    bounds: Bounds,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    ip: IpAddr,
    _permit: OwnedSemaphorePermit,
    _counted: BootSession,
}

impl Places {
    pub(super) fn new(bounds: Bounds) -> Places {
        Places {
            room: Arc::new(Semaphore::new(bounds.all)),
            wanted: Notify::new(),
            shares: Mutex::default(),
            bounds,
        }
    }

    /// Waits until there is a place, and makes one of those go that only hold theirs.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        loop {
            match self.room.clone().try_acquire_owned() {
                Ok(permit) => return permit,
                Err(_) => self.wanted.notify_one(),
            }
            if let Ok(permit) = tokio::time::timeout(IDLE, self.room.clone().acquire_owned()).await {
                return permit.expect("the semaphore is never closed");
            }
        }
    }

    /// The place of a connection from `ip`; `None` when it has as many as one may have.
    pub(super) fn take(self: &Arc<Places>, permit: OwnedSemaphorePermit, ip: IpAddr) -> Option<Place> {
        let mut shares = self.lock();
        if shares.full(ip, self.bounds).is_some() {
            return None;
        }
        shares.add(ip);
        let counted = BootSession::new(BootProtocol::Http);
        Some(Place { places: self.clone(), ip, _permit: permit, _counted: counted })
    }

    // the table is valid after every single operation
    fn lock(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits, while no request comes, until somebody else needs the place.
    pub(super) async fn yielded(&self) {
        tokio::time::sleep(IDLE).await;
        loop {
            self.places.wanted.notified().await;
            // somebody may have gone meanwhile
            if self.places.room.available_permits() == 0 {
                return;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(self.ip);
    }
}

/// Bytes in a second that a client has to take, on the average of about a minute.
const LEAST_RATE: u64 = 16 * 1024;
/// What it has for the first of them.
const GRANT: Duration = Duration::from_secs(60);
/// What a client that was fast may save up. The kernel tells of what was taken only when a third of its buffer of up to
/// 4 MiB is free again, which at the least rate is 85 s.
const MOST_SAVED: Duration = Duration::from_secs(120);

/// How long an answer may take, which grows with what was taken of it.
#[derive(Debug)]
pub(super) struct Pace {
    due: Instant,
}

impl Pace {
    /// An answer begins.
    pub(super) fn new(now: Instant) -> Pace {
        Pace { due: now + GRANT }
    }

    /// So many bytes were taken.
    pub(super) fn sent(&mut self, bytes: u64, now: Instant) {
        let earned = Duration::from_micros(bytes.saturating_mul(1_000_000) / LEAST_RATE);
        self.due = (self.due + earned).min(now + MOST_SAVED);
    }

    /// When more must have been taken.
    pub(super) fn due(&self) -> Instant {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_the_least_rate_keeps_its_place_and_who_trickles_loses_it_soon() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        // 64 MiB, told in pieces of a third of a large buffer
        let (mut pace, piece) = (Pace::new(start), 4 * 1024 * 1024 / 3);
        pace.sent(4 * 1024 * 1024, start);
        for number in 1..48 {
            let at = after(number * piece / LEAST_RATE);
            assert!(at < pace.due(), "piece {number}");
            pace.sent(piece, at);
        }
        // a gigabyte at once saves up no hours, and a kilobyte in twenty seconds earns none
        let mut pace = Pace::new(start);
        pace.sent(1 << 30, start);
        assert_eq!(pace.due(), after(120));
        let mut seconds = 0;
        while after(seconds) < pace.due() {
            seconds += 20;
            pace.sent(1024, after(seconds));
        }
        assert!(seconds <= 140, "{seconds} s");
    }
}
