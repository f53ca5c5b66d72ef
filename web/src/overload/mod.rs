//! What the API does when more is asked of it than it can do: it refuses some of it at once, in the API's own shape and
//! with a time to come again, and goes on with the rest; and it never refuses what ends work, or what work waits for.
//!
//! Every request belongs to a [`Class`], by its row in the table of operations. A class has so many *places*; who finds
//! none waits in a fair queue. How long is decided by what the queue shows (as CoDel does for packets): while it is a
//! burst that passes, [`Limits::max_wait`]; once the queue has not been empty for that long, a tenth of it, for then
//! waiting helps nobody. What hinders without a queue of ours (a loop of the server that comes late to everything) is
//! measured and refused by, too. `docs/decisions/0033-overload.md` says what else is bounded, and where.
//!
//! The fast way (there is a place) is a few atomic operations.

mod class;
mod gate;
mod lag;
mod layer;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) use self::class::Class;
pub(crate) use self::gate::Why;
use self::gate::{Gate, Queued, Room};
pub(crate) use self::layer::Guard;
use crate::error::ApiError;

/// `[api]`: how much is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Reads of single things at once (`max_concurrent_reads`).
    pub reads: u32,
    /// Lists at once (`max_concurrent_lists`).
    pub lists: u32,
    /// Changes at once (`max_concurrent_writes`).
    pub writes: u32,
    /// Requests at once that wait for a BMC (`max_concurrent_bmc_requests`).
    pub bmc: u32,
    /// Requests of one class that may wait for a place (`max_waiting_requests`).
    pub waiting: u32,
    /// How long one of them waits at most (`max_request_wait`).
    pub max_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            reads: 256,
            lists: 16,
            writes: 256,
            bmc: 256,
            waiting: 4096,
            max_wait: Duration::from_secs(2),
        }
    }
}

/// Requests of the classes that are never refused are bounded all the same: no fleet sends so many at once.
const MOST_PRIORITY: u32 = 16_384;

/// A text of the metrics is made for all who ask within a second; one is made while another is sent.
const METRICS: u32 = 2;

/// So many requests ask one BMC at a time at the most, for it does one thing after the other: all others of its class are
/// for other BMCs. It is less where the class has few places.
const MOST_OF_A_BMC: u32 = 4;

/// Answers beyond this many bytes that their clients have not taken yet leave no room for further lists; metrics, of
/// which the same is true, are counted apart.
const MOST_ANSWERS: u64 = 256 << 20;

/// Answers up to this size are not counted.
const SMALL_ANSWER: u64 = 64 << 10;

/// The state of it, shared by all workers.
pub(crate) struct Overload {
    gates: [Gate; Class::ALL.len()],
    limits: Limits,
    begun: Instant,
    /// Requests that ask the BMC of a node, at work and waiting, by the node as it was named.
    asked: Mutex<HashMap<String, u32>>,
    /// Bytes of large answers that are not sent yet.
    answers: AtomicU64,
    /// The same of metrics.
    told: AtomicU64,
    /// The longest lag of a worker's loop since it was told last, in microseconds.
    lag: AtomicU64,
    /// What the jitter of the times to come again is made from.
    seed: AtomicU64,
    /// The second of the last line in the log, and refusals since.
    logged: AtomicU64,
    unlogged: AtomicU64,
}

/// A place of a class; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<Overload>,
    class: Class,
    share: usize,
    room: Room,
    _bmc: Option<OfBmc>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.gate(self.class).leave(self.share, self.room);
    }
}

/// One of the few who may ask a BMC at a time, until this is dropped.
#[derive(Debug)]
struct OfBmc {
    of: Arc<Overload>,
    node: String,
}

impl Drop for OfBmc {
    fn drop(&mut self) {
        let mut asked = self.of.asked.lock().expect("nothing panics while it holds this lock");
        if let Some(count) = asked.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                asked.remove(&self.node);
            }
        }
    }
}

/// The gate of a class, of whoever keeps all of them.
struct AtGate {
    of: Arc<Overload>,
    class: Class,
}

impl Deref for AtGate {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        self.of.gate(self.class)
    }
}

/// Someone who waits for a place, and stands in the queue until this is dropped.
pub(crate) struct Stand {
    of: Arc<Overload>,
    class: Class,
    share: usize,
    queued: Queued<AtGate>,
    bmc: Option<OfBmc>,
}

impl Stand {
    /// A place, or why there is none.
    pub(crate) async fn wait(self) -> Result<Place, Why> {
        let Stand { of, class, share, queued, bmc } = self;
        let room = queued.wait(of.limits.max_wait, || of.micros()).await?;
        Ok(Place { of, class, share, room, _bmc: bmc })
    }
}

/// The bytes of a large answer; they count until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    of: Arc<Overload>,
    class: Class,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.unsent(self.class).fetch_sub(self.bytes, Relaxed);
    }
}

/// Whether there is a place at once.
pub(crate) enum Entry {
    /// There is.
    In(Place),
    /// There may be soon: [`Stand::wait`].
    Wait(Stand),
    /// There is none, nor will there be soon.
    Refused(Why),
}

impl std::fmt::Debug for Overload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overload").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Overload {
    pub(crate) fn new(limits: Limits) -> Arc<Overload> {
        let gates = Class::ALL.map(|class| match class {
            Class::Priority => Gate::new(MOST_PRIORITY, 0),
            Class::Read => Gate::new(limits.reads, limits.waiting),
            Class::List => Gate::new(limits.lists, limits.waiting),
            Class::Write => Gate::new(limits.writes, limits.waiting),
            Class::Bmc => Gate::new(limits.bmc, limits.waiting),
            Class::Metrics => Gate::new(METRICS, limits.waiting),
        });
        Arc::new(Overload {
            gates,
            limits,
            begun: Instant::now(),
            asked: Mutex::default(),
            answers: AtomicU64::new(0),
            told: AtomicU64::new(0),
            lag: AtomicU64::new(0),
            seed: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            unlogged: AtomicU64::new(0),
        })
    }

    fn gate(&self, class: Class) -> &Gate {
        &self.gates[class as usize]
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Where the bytes of answers of a class are counted.
    fn unsent(&self, class: Class) -> &AtomicU64 {
        match class {
            Class::Metrics => &self.told,
            Class::Priority | Class::Read | Class::List | Class::Write | Class::Bmc => &self.answers,
        }
    }

    /// Whether one more may ask the BMC of `node`.
    fn ask_bmc(self: &Arc<Self>, node: String) -> Result<OfBmc, Why> {
        let most = (self.limits.bmc / 4).clamp(1, MOST_OF_A_BMC);
        let mut asked = self.asked.lock().expect("nothing panics while it holds this lock");
        match asked.get_mut(&node) {
            Some(count) if *count >= most => return Err(Why::Node),
            Some(count) => *count += 1,
            None => drop(asked.insert(node.clone(), 1)),
        }
        Ok(OfBmc { of: Arc::clone(self), node })
    }

    /// A place, if there is one now. `node` is whose BMC is asked.
    pub(crate) fn enter(self: &Arc<Self>, class: Class, peer: Option<IpAddr>, node: Option<String>) -> Entry {
        let gate = self.gate(class);
        let share = gate::share_of(peer);
        let hindered = match class {
            Class::Priority => None,
            Class::List | Class::Metrics if self.unsent(class).load(Relaxed) > MOST_ANSWERS => {
                Some(Why::Answers)
            }
            Class::Metrics => None,
            Class::Read | Class::List | Class::Write | Class::Bmc => lag::late().then_some(Why::Lag),
        };
        if let Some(why) = hindered {
            gate.refused(why);
            return Entry::Refused(why);
        }
        let bmc = match node.map(|node| self.ask_bmc(node)).transpose() {
            Ok(bmc) => bmc,
            Err(why) => {
                gate.refused(why);
                return Entry::Refused(why);
            }
        };
        if let Some(room) = gate.try_enter(share) {
            return Entry::In(Place { of: Arc::clone(self), class, share, room, _bmc: bmc });
        }
        if self.limits.max_wait.is_zero() {
            return Entry::Refused(gate.give_up(share, Why::Wait));
        }
        match Gate::queue(AtGate { of: Arc::clone(self), class }, share, self.micros()) {
            Ok(queued) => Entry::Wait(Stand { of: Arc::clone(self), class, share, queued, bmc }),
            Err(why) => Entry::Refused(why),
        }
    }

    /// [`Overload::enter`] and [`Stand::wait`] together, for a handler that learns only from the body what is asked.
    pub(crate) async fn place(
        self: &Arc<Self>,
        class: Class,
        peer: Option<IpAddr>,
    ) -> Result<Place, ApiError> {
        let place = match self.enter(class, peer, None) {
            Entry::In(place) => Ok(place),
            Entry::Wait(stand) => stand.wait().await,
            Entry::Refused(why) => Err(why),
        };
        place.map_err(|why| self.refusal(class, why))
    }

    /// What a client is told that was refused.
    pub(crate) fn refusal(&self, class: Class, why: Why) -> ApiError {
        let (what, limit) = match class {
            Class::Priority => ("heartbeats, look-ups and changes of power", None),
            Class::Read => ("reads", Some("max_concurrent_reads")),
            Class::List => ("lists", Some("max_concurrent_lists")),
            Class::Write => ("changes", Some("max_concurrent_writes")),
            Class::Bmc => ("questions to BMCs", Some("max_concurrent_bmc_requests")),
            Class::Metrics => ("metrics", None),
        };
        let mut text = format!(
            "The service is overloaded: more {what} are asked for than it can do ({why}). Nothing was done; try again later."
        );
        if let (Some(option), Why::Full | Why::Share | Why::Wait) = (limit, why) {
            text.push_str(&format!(" [api] {option} says how many are done at once."));
        }
        let after = match why {
            // it is that BMC's pace, and no crowd's
            Why::Node => 5 + u32::try_from(self.chance() % 11).unwrap_or(0),
            Why::Full | Why::Share | Why::Wait | Why::Lag | Why::Answers => self.retry_after(class),
        };
        self.log(class, why);
        ApiError::overloaded(text, after)
    }

    /// When to come again, in seconds: spread out, the further the more wait or were refused lately, so that those who
    /// were refused together do not come back together.
    fn retry_after(&self, class: Class) -> u32 {
        let gate = self.gate(class);
        let crowd = gate.waiting().saturating_add(gate.refused_lately(self.begun.elapsed().as_secs()));
        let spread = (2 + crowd / gate.places().max(1)).min(28);
        1 + u32::try_from(self.chance() % (spread + 1)).unwrap_or(0)
    }

    /// Something that differs each time (splitmix64); nobody needs to be unable to foretell it.
    fn chance(&self) -> u64 {
        let mut x = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed) ^ self.micros();
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// One line a second, not one for each of thousands.
    fn log(&self, class: Class, why: Why) {
        self.unlogged.fetch_add(1, Relaxed);
        let second = self.begun.elapsed().as_secs() + 1;
        if self.logged.fetch_max(second, Relaxed) < second {
            let requests = self.unlogged.swap(0, Relaxed);
            tracing::warn!(requests, class = class.as_str(), %why, "more is asked of the API than it can do: requests are refused");
        }
    }

    /// Notes an answer of that size; `None` when it is too small to count.
    pub(crate) fn hold(self: &Arc<Self>, class: Class, bytes: u64) -> Option<Held> {
        (bytes > SMALL_ANSWER).then(|| {
            self.unsent(class).fetch_add(bytes, Relaxed);
            Held { of: Arc::clone(self), class, bytes }
        })
    }

    /// For `/metrics`: the longest lag is that since this was called before.
    pub(crate) fn counts(&self) -> Counts {
        let classes = Class::ALL.map(|class| {
            let gate = self.gate(class);
            ClassCounts {
                class,
                admitted: gate.admitted(),
                refused: gate.all_refused(),
                waiting: gate.waiting(),
                working: gate.working(),
                waited: gate.waited(),
            }
        });
        Counts {
            classes,
            answers: self.answers.load(Relaxed) + self.told.load(Relaxed),
            lag: Duration::from_micros(self.lag.swap(0, Relaxed)),
        }
    }
}

/// What happened so far.
pub(crate) struct Counts {
    /// By class.
    pub(crate) classes: [ClassCounts; Class::ALL.len()],
    /// Bytes of large answers that are not sent yet.
    pub(crate) answers: u64,
    /// How late a worker's loop came at the most.
    pub(crate) lag: Duration,
}

/// The same of one class.
pub(crate) struct ClassCounts {
    pub(crate) class: Class,
    pub(crate) admitted: u64,
    pub(crate) refused: [(Why, u64); Why::ALL.len()],
    pub(crate) waiting: u64,
    pub(crate) working: u64,
    /// Time that those spent who waited and got a place, all together.
    pub(crate) waited: Duration,
}
