//! The places of a class, and the queue for them.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Clients are told apart by their addresses, in so many heaps.
const SHARES: usize = 64;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// As many wait as may.
    Full,
    /// As many of this client's wait as may.
    Share,
    /// It waited as long as it may.
    Wait,
    /// The server comes late to everything.
    Lag,
    /// Too much that was answered is not taken.
    Answers,
}

impl Why {
    pub(crate) const ALL: [Why; 5] = [Why::Full, Why::Share, Why::Wait, Why::Lag, Why::Answers];

    /// The value of the label in `/metrics`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Why::Full => "full",
            Why::Share => "share",
            Why::Wait => "wait",
            Why::Lag => "lag",
            Why::Answers => "answers",
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Why::Full => "as many wait already as may",
            Why::Share => "this client has as many under way as one client may",
            Why::Wait => "no place became free in time",
            Why::Lag => "it comes late to everything",
            Why::Answers => "too many answers are not taken by their clients",
        })
    }
}

/// Which semaphore a place is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// For everybody.
    Common,
    /// For clients that have few places.
    Spare,
}

#[derive(Debug)]
pub(crate) struct Gate {
    common: Semaphore,
    spare: Semaphore,
    places: u64,
    most_waiting: u64,
    /// Requests of each heap of clients, at work and waiting.
    shares: [AtomicU64; SHARES],
    waiting: AtomicU64,
    /// Since when somebody waits, in microseconds of the owner's clock; 0 when nobody does.
    crowded: AtomicU64,
    admitted: AtomicU64,
    left: AtomicU64,
    refused: [AtomicU64; Why::ALL.len()],
    /// The second, and how many were refused in it.
    lately: [AtomicU64; 2],
    waited_micros: AtomicU64,
}

/// The heap of a client.
pub(crate) fn share_of(peer: Option<IpAddr>) -> usize {
    let bits = match peer {
        Some(IpAddr::V4(ip)) => u64::from(u32::from(ip)),
        // a host has a whole /64
        Some(IpAddr::V6(ip)) => u64::try_from(u128::from(ip) >> 64).unwrap_or(0),
        None => 0,
    };
    let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(mixed).unwrap_or(0) % SHARES
}

impl Gate {
    pub(crate) fn new(places: u32, most_waiting: u32) -> Gate {
        let places = places.max(1);
        // a quarter is for clients that have few: one that asks for all there is leaves a way to the others
        let spare = places / 4;
        Gate {
            common: Semaphore::new((places - spare) as usize),
            spare: Semaphore::new(spare as usize),
            places: u64::from(places),
            most_waiting: u64::from(most_waiting),
            shares: std::array::from_fn(|_| AtomicU64::new(0)),
            waiting: AtomicU64::new(0),
            crowded: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            left: AtomicU64::new(0),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
            lately: std::array::from_fn(|_| AtomicU64::new(0)),
            waited_micros: AtomicU64::new(0),
        }
    }

    /// A place now; `None` when there is none and [`Gate::wait`] is to be called, for which this has counted already.
    pub(crate) fn try_enter(&self, share: usize) -> Result<Option<Room>, Why> {
        let mine = self.shares[share].fetch_add(1, Relaxed);
        if let Ok(permit) = self.common.try_acquire() {
            permit.forget();
            self.admitted.fetch_add(1, Relaxed);
            return Ok(Some(Room::Common));
        }
        if mine < (self.places / 4).max(1)
            && let Ok(permit) = self.spare.try_acquire()
        {
            permit.forget();
            self.admitted.fetch_add(1, Relaxed);
            return Ok(Some(Room::Spare));
        }
        if self.waiting.load(Relaxed) >= self.most_waiting {
            return Err(self.give_up(share, Why::Full));
        }
        if mine >= self.places + self.most_waiting.div_ceil(2) {
            return Err(self.give_up(share, Why::Share));
        }
        Ok(None)
    }

    /// What [`Gate::try_enter`] has counted goes, and a refusal is counted.
    pub(crate) fn give_up(&self, share: usize, why: Why) -> Why {
        self.shares[share].fetch_sub(1, Relaxed);
        self.refused(why);
        why
    }

    /// Waits for a place, in the order of arrival.
    pub(crate) async fn wait(
        &self,
        share: usize,
        most: Duration,
        now: impl Fn() -> u64,
    ) -> Result<Room, Why> {
        let mut queued = Queued { gate: self, share, done: false };
        let begun = now().max(1);
        if self.waiting.fetch_add(1, Relaxed) == 0 {
            self.crowded.store(begun, Relaxed);
        }
        let crowded = self.crowded.load(Relaxed);
        let most_micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        // a queue that never becomes empty is not shorter for being waited in
        let standing = crowded != 0 && begun.saturating_sub(crowded) > most_micros;
        let patience = if standing { most / 10 } else { most };
        let permit = tokio::time::timeout(patience, self.common.acquire()).await;
        match permit {
            Ok(permit) => {
                permit.expect("the semaphore is never closed").forget();
                queued.done = true;
                self.admitted.fetch_add(1, Relaxed);
                self.waited_micros.fetch_add(now().saturating_sub(begun), Relaxed);
                Ok(Room::Common)
            }
            Err(_) => {
                self.refused(Why::Wait);
                Err(Why::Wait)
            }
        }
    }

    pub(crate) fn leave(&self, share: usize, room: Room) {
        self.shares[share].fetch_sub(1, Relaxed);
        self.left.fetch_add(1, Relaxed);
        match room {
            Room::Common => self.common.add_permits(1),
            Room::Spare => self.spare.add_permits(1),
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, why: Why) {
        self.refused[why as usize].fetch_add(1, Relaxed);
        self.lately[1].fetch_add(1, Relaxed);
    }

    /// How many were refused since this second began, or the last one that was asked for.
    pub(crate) fn refused_lately(&self, second: u64) -> u64 {
        if self.lately[0].swap(second, Relaxed) != second {
            return self.lately[1].swap(0, Relaxed);
        }
        self.lately[1].load(Relaxed)
    }

    pub(crate) fn places(&self) -> u64 {
        self.places
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    pub(crate) fn admitted(&self) -> u64 {
        self.admitted.load(Relaxed)
    }

    pub(crate) fn working(&self) -> u64 {
        // the two are not read at one moment
        let left = self.left.load(Relaxed);
        self.admitted.load(Relaxed).saturating_sub(left)
    }

    pub(crate) fn all_refused(&self) -> [(Why, u64); Why::ALL.len()] {
        Why::ALL.map(|why| (why, self.refused[why as usize].load(Relaxed)))
    }

    pub(crate) fn waited(&self) -> Duration {
        Duration::from_micros(self.waited_micros.load(Relaxed))
    }
}

/// Someone who waits; a client that hangs up goes out of the queue with it.
struct Queued<'a> {
    gate: &'a Gate,
    share: usize,
    done: bool,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if self.gate.waiting.fetch_sub(1, Relaxed) == 1 {
            self.gate.crowded.store(0, Relaxed);
        }
        if !self.done {
            self.gate.shares[self.share].fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(last: u8) -> usize {
        share_of(Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))))
    }

    /// Another client of another heap.
    fn other(than: usize) -> usize {
        (1..=250).map(client).find(|share| *share != than).expect("there are more heaps")
    }

    #[test]
    fn who_asks_for_everything_leaves_a_way_for_others() {
        let gate = Gate::new(8, 4);
        let (hog, guest) = (client(1), other(client(1)));
        let rooms: Vec<_> = (0..7).map(|_| gate.try_enter(hog)).collect();
        assert_eq!(rooms.iter().filter(|room| matches!(room, Ok(Some(_)))).count(), 6, "{rooms:?}");
        assert_eq!(gate.try_enter(guest), Ok(Some(Room::Spare)));
        assert_eq!(gate.working(), 7);
        gate.leave(guest, Room::Spare);
        assert_eq!(gate.working(), 6);
    }

    #[test]
    fn alone_a_client_has_nearly_all() {
        let gate = Gate::new(256, 0);
        let places = (0..256).take_while(|_| matches!(gate.try_enter(client(1)), Ok(Some(_)))).count();
        assert_eq!(places, 192);
        assert_eq!(gate.try_enter(client(1)), Err(Why::Full));
        assert_eq!(gate.all_refused()[Why::Full as usize], (Why::Full, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_waits_and_a_standing_queue_is_refused_early() {
        let begun = tokio::time::Instant::now();
        let now = || u64::try_from(begun.elapsed().as_micros()).expect("short") + 1;
        let gate = Gate::new(1, 100);
        assert_eq!(gate.try_enter(0), Ok(Some(Room::Common)));
        // nobody leaves: the first waits in full
        assert_eq!(gate.try_enter(0), Ok(None));
        let most = Duration::from_secs(2);
        let first = tokio::time::Instant::now();
        let long = gate.wait(0, most, now);
        tokio::pin!(long);
        // there is always somebody in the queue from here on
        let held = async {
            let _ = long.as_mut().await;
            first.elapsed()
        };
        let second = async {
            tokio::time::sleep(Duration::from_millis(1900)).await;
            assert_eq!(gate.try_enter(0), Ok(None));
            let _ = gate.wait(0, most, now).await;
        };
        let third = async {
            tokio::time::sleep(Duration::from_millis(2100)).await;
            assert_eq!(gate.try_enter(0), Ok(None));
            let asked = tokio::time::Instant::now();
            assert_eq!(gate.wait(0, most, now).await, Err(Why::Wait));
            asked.elapsed()
        };
        let (waited, (), early) = tokio::join!(held, second, third);
        assert!(waited >= most && waited < most + Duration::from_millis(50), "{waited:?}");
        assert!(early < Duration::from_millis(250), "{early:?}");
        assert_eq!(gate.waiting(), 0);
        gate.leave(0, Room::Common);
        assert_eq!(gate.try_enter(0), Ok(Some(Room::Common)), "nothing is lost of the places");
    }

    #[tokio::test]
    async fn who_hangs_up_goes_out_of_the_queue() {
        let gate = Gate::new(1, 10);
        assert_eq!(gate.try_enter(0), Ok(Some(Room::Common)));
        assert_eq!(gate.try_enter(0), Ok(None));
        {
            let waits = gate.wait(0, Duration::from_secs(60), || 5);
            tokio::pin!(waits);
            assert!(futures_util::poll!(waits.as_mut()).is_pending());
            assert_eq!(gate.waiting(), 1);
        }
        assert_eq!((gate.waiting(), gate.shares[0].load(Relaxed)), (0, 1));
        gate.leave(0, Room::Common);
        assert_eq!(gate.try_enter(0), Ok(Some(Room::Common)));
    }
}
