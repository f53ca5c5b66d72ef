//! The places of a class, and the queue for them.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard};
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
    /// As many ask the BMC of this node as may.
    Node,
    /// It waited as long as it may.
    Wait,
    /// The server comes late to everything.
    Lag,
    /// Too much that was answered is not taken.
    Answers,
}

impl Why {
    pub(crate) const ALL: [Why; 6] = [Why::Full, Why::Share, Why::Node, Why::Wait, Why::Lag, Why::Answers];

    /// The value of the label in `/metrics`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Why::Full => "full",
            Why::Share => "share",
            Why::Node => "node",
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
            Why::Node => "this node's BMC is being asked as many as one may be",
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
    queue: Mutex<Queue>,
    admitted: AtomicU64,
    left: AtomicU64,
    refused: [AtomicU64; Why::ALL.len()],
    /// The second, and how many were refused in it.
    lately: [AtomicU64; 2],
    waited_micros: AtomicU64,
}

/// Those who wait. Nobody looks at it who finds a place.
#[derive(Debug, Default)]
struct Queue {
    waiting: u64,
    /// Since when somebody does, in microseconds of the owner's clock.
    since: u64,
}

/// The heap of a client.
pub(crate) fn share_of(peer: Option<IpAddr>) -> usize {
    // a socket for both families tells IPv4 clients by addresses of IPv6, all of one /64
    let bits = match peer.map(|peer| peer.to_canonical()) {
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
            queue: Mutex::default(),
            admitted: AtomicU64::new(0),
            left: AtomicU64::new(0),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
            lately: std::array::from_fn(|_| AtomicU64::new(0)),
            waited_micros: AtomicU64::new(0),
        }
    }

    /// A place now; `None` when there is none: this client counts all the same, until [`Gate::give_up`] or the end of
    /// [`Gate::queue`].
    pub(crate) fn try_enter(&self, share: usize) -> Option<Room> {
        let mine = self.shares[share].fetch_add(1, Relaxed);
        if let Ok(permit) = self.common.try_acquire() {
            permit.forget();
            self.admitted.fetch_add(1, Relaxed);
            return Some(Room::Common);
        }
        if mine < (self.places / 4).max(1)
            && let Ok(permit) = self.spare.try_acquire()
        {
            permit.forget();
            self.admitted.fetch_add(1, Relaxed);
            return Some(Room::Spare);
        }
        None
    }

    /// A stand in the queue, after [`Gate::try_enter`] found no place. `at` is the time of the owner's clock.
    pub(crate) fn queue<G: Deref<Target = Gate>>(gate: G, share: usize, at: u64) -> Result<Queued<G>, Why> {
        let mut queue = gate.queued();
        if queue.waiting >= gate.most_waiting {
            return Err(gate.give_up(share, Why::Full));
        }
        // what has no place of all that one client can have stands here: half of the queue is for others
        let most_of_one = (gate.places - gate.places / 4) + gate.most_waiting.div_ceil(2);
        if gate.shares[share].load(Relaxed) > most_of_one {
            return Err(gate.give_up(share, Why::Share));
        }
        if queue.waiting == 0 {
            queue.since = at;
        }
        queue.waiting += 1;
        let since = queue.since;
        drop(queue);
        Ok(Queued { gate, share, at, since, done: false })
    }

    fn queued(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds this lock")
    }

    /// What [`Gate::try_enter`] has counted goes, and a refusal is counted.
    pub(crate) fn give_up(&self, share: usize, why: Why) -> Why {
        self.shares[share].fetch_sub(1, Relaxed);
        self.refused(why);
        why
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
        self.queued().waiting
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
pub(crate) struct Queued<G: Deref<Target = Gate>> {
    gate: G,
    share: usize,
    /// When it came.
    at: u64,
    /// Since when the queue had not been empty then.
    since: u64,
    done: bool,
}

impl<G: Deref<Target = Gate>> Queued<G> {
    /// Waits for a place, in the order of arrival.
    pub(crate) async fn wait(mut self, most: Duration, now: impl Fn() -> u64) -> Result<Room, Why> {
        let most_micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        // a queue that never becomes empty is not shorter for being waited in
        let standing = self.at.saturating_sub(self.since) > most_micros;
        let patience = if standing { most / 10 } else { most };
        let gate = &*self.gate;
        let permit = tokio::time::timeout(patience, gate.common.acquire()).await;
        match permit {
            Ok(permit) => {
                permit.expect("the semaphore is never closed").forget();
                gate.admitted.fetch_add(1, Relaxed);
                gate.waited_micros.fetch_add(now().saturating_sub(self.at), Relaxed);
                self.done = true;
                Ok(Room::Common)
            }
            Err(_) => {
                gate.refused(Why::Wait);
                Err(Why::Wait)
            }
        }
    }
}

impl<G: Deref<Target = Gate>> Drop for Queued<G> {
    fn drop(&mut self) {
        self.gate.queued().waiting -= 1;
        if !self.done {
            self.gate.shares[self.share].fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

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
        assert_eq!(rooms.iter().flatten().count(), 6, "{rooms:?}");
        assert_eq!(gate.try_enter(guest), Some(Room::Spare));
        assert_eq!(gate.working(), 7);
        gate.leave(guest, Room::Spare);
        assert_eq!(gate.working(), 6);
    }

    #[test]
    fn alone_a_client_has_nearly_all() {
        let gate = Gate::new(256, 0);
        let places = (0..256).take_while(|_| gate.try_enter(client(1)).is_some()).count();
        assert_eq!(places, 192);
        assert_eq!(Gate::queue(&gate, client(1), 1).err(), Some(Why::Full));
        assert_eq!(gate.all_refused()[Why::Full as usize], (Why::Full, 1));
    }

    #[test]
    fn half_of_the_queue_is_for_other_clients() {
        for (places, most, half) in [(1, 1, 1), (1, 2, 1), (4, 2, 1), (4, 5, 3), (256, 4096, 2048)] {
            let gate = Gate::new(places, most);
            let (hog, guest) = (client(1), other(client(1)));
            let mut stands = Vec::new();
            let why = loop {
                if gate.try_enter(hog).is_some() {
                    continue;
                }
                match Gate::queue(&gate, hog, 1) {
                    Ok(stand) => stands.push(stand),
                    Err(why) => break why,
                }
            };
            assert_eq!((stands.len(), why), (half, if most == 1 { Why::Full } else { Why::Share }));
            while gate.try_enter(guest).is_some() {}
            assert_eq!(Gate::queue(&gate, guest, 1).is_ok(), most > 1, "{places} {most}");
            drop(stands);
            assert_eq!(gate.waiting(), 0);
        }
    }

    #[test]
    fn clients_of_both_families_on_one_socket_are_told_apart() {
        let mapped = |last: u8| share_of(Some(IpAddr::V6(Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped())));
        for last in 0..=255 {
            assert_eq!(mapped(last), client(last));
        }
        let host = |first: u16, last: u16| {
            share_of(Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, first, 0, 0, 0, last))))
        };
        assert_eq!(host(1, 1), host(1, 2), "a host has a whole /64");
        assert!((2..100).any(|first| host(first, 1) != host(1, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_waits_and_a_standing_queue_is_refused_early() {
        let begun = tokio::time::Instant::now();
        let now = || u64::try_from(begun.elapsed().as_micros()).expect("short") + 1;
        let gate = Gate::new(1, 100);
        assert_eq!(gate.try_enter(0), Some(Room::Common));
        let most = Duration::from_secs(2);
        let wait = || {
            assert_eq!(gate.try_enter(0), None);
            Gate::queue(&gate, 0, now()).expect("there is room to wait").wait(most, now)
        };
        // nobody leaves: the first waits in full
        let held = async {
            let asked = tokio::time::Instant::now();
            assert_eq!(wait().await, Err(Why::Wait));
            asked.elapsed()
        };
        // there is always somebody in the queue from here on
        let second = async {
            tokio::time::sleep(Duration::from_millis(1900)).await;
            assert_eq!(wait().await, Err(Why::Wait));
        };
        let third = async {
            tokio::time::sleep(Duration::from_millis(2100)).await;
            let asked = tokio::time::Instant::now();
            assert_eq!(wait().await, Err(Why::Wait));
            asked.elapsed()
        };
        let (waited, (), early) = tokio::join!(held, second, third);
        assert!(waited >= most && waited < most + Duration::from_millis(50), "{waited:?}");
        assert!(early < Duration::from_millis(250), "{early:?}");
        assert_eq!(gate.waiting(), 0);
        // once it was empty, a burst is one again
        let asked = tokio::time::Instant::now();
        assert_eq!(wait().await, Err(Why::Wait));
        assert!(asked.elapsed() >= most);
        gate.leave(0, Room::Common);
        assert_eq!(gate.try_enter(0), Some(Room::Common), "nothing is lost of the places");
    }

    #[tokio::test]
    async fn who_hangs_up_goes_out_of_the_queue() {
        let gate = Gate::new(1, 10);
        assert_eq!(gate.try_enter(0), Some(Room::Common));
        // before it was looked at for the first time, too
        for looked_at in [false, true] {
            assert_eq!(gate.try_enter(0), None);
            let stand = Gate::queue(&gate, 0, 5).expect("there is room to wait");
            let waits = stand.wait(Duration::from_secs(60), || 5);
            tokio::pin!(waits);
            if looked_at {
                assert!(futures_util::poll!(waits.as_mut()).is_pending());
            }
            assert_eq!(gate.waiting(), 1);
        }
        assert_eq!((gate.waiting(), gate.shares[0].load(Relaxed)), (0, 1));
        gate.leave(0, Room::Common);
        assert_eq!(gate.try_enter(0), Some(Room::Common));
    }
}
