//! The looks at the power of the fleet: how many at once, how old the oldest reading is, who is silent, and sweeps: one
//! look at every node, asked for by an operator. Whatever is told of them is kept up to date by each look; nothing here
//! goes through the fleet to answer.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferric_drivers::spread::{Percentiles, Spread};
use ferric_machine::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

/// A look that has no answer after so long gives its place to others: a BMC that is dead keeps nobody waiting.
const PLACE_HELD: Duration = Duration::from_millis(500);

/// Looks fall on beats of this length: one waking of a thread serves all that fall on the same one.
const BEAT: Duration = Duration::from_millis(250);

/// What there is to tell of the looks at the fleet's power.
#[derive(Clone, Debug)]
pub struct PowerSync {
    /// `[conductor] sync_power_state_interval`; zero: nobody looks unless asked.
    pub interval: Duration,
    /// Nodes that are looked at.
    pub nodes: usize,
    /// Those whose BMC did not answer the last look.
    pub silent: usize,
    /// Those whose BMC the last look did not ask, because it was silent before and is spared for a while.
    pub not_asked: usize,
    /// Age of the oldest reading among the nodes whose BMCs answer; zero without such nodes.
    pub lag: Duration,
    /// Looks under way.
    pub under_way: usize,
    /// How long the BMCs took for the looks that began in the last full interval, from the node's turn to its answer.
    pub readings: Percentiles,
    /// The sweep under way.
    pub sweep: Option<Sweeping>,
    /// The last one that ended.
    pub last_sweep: Option<Sweeping>,
}

/// One look at every node.
#[derive(Clone, Debug)]
pub struct Sweeping {
    /// Sweeps are counted from the start of the process.
    pub number: u64,
    /// When it began.
    pub began: Timestamp,
    /// When the last node was through; `None` while it lasts.
    pub ended: Option<Timestamp>,
    /// How long it took, or has lasted.
    pub took: Duration,
    /// Nodes there were at its beginning.
    pub nodes: usize,
    /// Whose BMC answered.
    pub answered: usize,
    /// Whose BMC did not.
    pub silent: usize,
    /// Who was not asked: in maintenance, at work, without a BMC, gone meanwhile.
    pub left_out: usize,
    /// How long those that answered took.
    pub readings: Percentiles,
}

/// See the module.
pub(crate) struct Looks {
    places: Arc<Semaphore>,
    interval: Duration,
    begun: Instant,
    under_way: AtomicUsize,
    book: Mutex<Book>,
    sweeps: Mutex<Sweeps>,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Book {
    nodes: HashMap<Uuid, Entry>,
    /// Of those that answer, the oldest first.
    ages: BTreeSet<(Instant, Uuid)>,
    silent: usize,
    not_asked: usize,
}

struct Entry {
    /// When it answered last, or began to be looked at.
    read: Instant,
    last: Last,
}

/// What became of the last look at a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Its BMC answered, or there was none yet.
    Answered,
    /// It was asked, and did not answer.
    Silent,
    /// It was silent before, and was not asked.
    NotAsked,
}

#[derive(Default)]
struct Sweeps {
    count: u64,
    now: Option<std::sync::Weak<Sweep>>,
    last: Option<Sweeping>,
}

/// The present round of periodic looks and the one before.
struct Recent {
    since: Instant,
    present: Arc<Spread>,
    before: Arc<Spread>,
}

/// A sweep under way; it ends with the last who holds it.
pub(crate) struct Sweep {
    looks: std::sync::Weak<Looks>,
    number: u64,
    began: Timestamp,
    begin: Instant,
    nodes: usize,
    answered: AtomicUsize,
    silent: AtomicUsize,
    spread: Spread,
}

/// A look at one node. Dropped without a word, the node was left out.
pub(crate) struct Look {
    looks: Arc<Looks>,
    node: Uuid,
    sweep: Option<Arc<Sweep>>,
    place: Option<OwnedSemaphorePermit>,
    began: Option<Instant>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // every change leaves what is kept usable
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    fn take(&mut self, node: Uuid) -> Option<Entry> {
        let entry = self.nodes.remove(&node)?;
        match entry.last {
            Last::Answered => drop(self.ages.remove(&(entry.read, node))),
            Last::Silent => self.silent -= 1,
            Last::NotAsked => self.not_asked -= 1,
        }
        Some(entry)
    }

    fn put(&mut self, node: Uuid, entry: Entry) {
        match entry.last {
            Last::Answered => drop(self.ages.insert((entry.read, node))),
            Last::Silent => self.silent += 1,
            Last::NotAsked => self.not_asked += 1,
        }
        self.nodes.insert(node, entry);
    }

    /// A node that was left out meanwhile, such as one that is deleted, stays out.
    fn looked(&mut self, node: Uuid, last: Last) {
        let Some(entry) = self.take(node) else { return };
        let read = if last == Last::Answered { Instant::now() } else { entry.read };
        self.put(node, Entry { read, last });
    }
}

impl Looks {
    /// At most `most` BMCs are waited for at once; those that let wait long are not counted.
    pub(crate) fn new(most: usize, interval: Duration) -> Arc<Looks> {
        let most = most.max(1);
        Arc::new(Looks {
            places: Arc::new(Semaphore::new(most)),
            interval,
            begun: Instant::now(),
            under_way: AtomicUsize::new(0),
            book: Mutex::default(),
            sweeps: Mutex::default(),
            recent: Mutex::new(Recent {
                since: Instant::now(),
                present: Arc::default(),
                before: Arc::default(),
            }),
        })
    }

    /// The wait `after`, moved by half of a beat at the most, so that looks fall together. A look that comes each interval
    /// stays on its beat, and the beats of a fleet are as many as ever.
    pub(crate) fn on_the_beat(&self, after: Duration) -> Duration {
        let beat = BEAT.min(self.interval / 100).as_nanos();
        if beat == 0 {
            return after;
        }
        let gone = self.begun.elapsed();
        let beats = ((gone + after).as_nanos() + beat / 2) / beat;
        Duration::from_nanos(u64::try_from(beats * beat).unwrap_or(u64::MAX)).saturating_sub(gone)
    }

    /// From now on the node is looked at; the age of its reading counts from here if it has none.
    pub(crate) fn watch(&self, node: Uuid) {
        let mut book = held(&self.book);
        if !book.nodes.contains_key(&node) {
            book.put(node, Entry { read: Instant::now(), last: Last::Answered });
        }
    }

    /// The node is not looked at any more, or not for now.
    pub(crate) fn leave_out(&self, node: Uuid) {
        held(&self.book).take(node);
    }

    /// A periodic look at a node. What comes of it is told if the node is watched.
    pub(crate) fn look(self: &Arc<Self>, node: Uuid) -> Look {
        Look { looks: Arc::clone(self), node, sweep: None, place: None, began: None }
    }

    /// Begins a sweep over so many nodes; the number of the one under way, if there is one.
    pub(crate) fn begin(self: &Arc<Self>, nodes: usize, now: Timestamp) -> Result<Arc<Sweep>, u64> {
        let mut sweeps = held(&self.sweeps);
        if let Some(present) = sweeps.now.as_ref().and_then(std::sync::Weak::upgrade) {
            let number = present.number;
            // should it end at this very moment, its end takes this lock
            drop(sweeps);
            return Err(number);
        }
        sweeps.count += 1;
        let sweep = Arc::new(Sweep {
            looks: Arc::downgrade(self),
            number: sweeps.count,
            began: now,
            begin: Instant::now(),
            nodes,
            answered: AtomicUsize::new(0),
            silent: AtomicUsize::new(0),
            spread: Spread::default(),
        });
        sweeps.now = Some(Arc::downgrade(&sweep));
        Ok(sweep)
    }

    /// A look that is part of a sweep, as soon as there is a place for it.
    pub(crate) async fn look_for(self: &Arc<Self>, node: Uuid, sweep: &Arc<Sweep>) -> Look {
        let mut look = self.look(node);
        look.be_part_of(sweep);
        look.take_place().await;
        look
    }

    /// What there is to tell, for the price of a few look-ups.
    pub(crate) fn told(&self) -> PowerSync {
        let (nodes, silent, not_asked, oldest) = {
            let book = held(&self.book);
            (book.nodes.len(), book.silent, book.not_asked, book.ages.first().map(|(read, _)| *read))
        };
        let (sweep, last_sweep) = {
            let sweeps = held(&self.sweeps);
            (sweeps.now.as_ref().and_then(std::sync::Weak::upgrade), sweeps.last.clone())
        };
        PowerSync {
            interval: self.interval,
            nodes,
            silent,
            not_asked,
            lag: oldest.map_or(Duration::ZERO, |read| read.elapsed()),
            under_way: self.under_way.load(Ordering::Relaxed),
            readings: self.recent().percentiles(),
            // the last to hold a sweep ends it: not under the lock
            sweep: sweep.map(|sweep| sweep.told(None)),
            last_sweep,
        }
    }

    /// The readings of the last full round, or of the present one while there is none.
    fn recent(&self) -> Arc<Spread> {
        let mut recent = held(&self.recent);
        self.turn(&mut recent);
        let before = recent.before.percentiles().count > 0;
        Arc::clone(if before { &recent.before } else { &recent.present })
    }

    fn turn(&self, recent: &mut Recent) {
        let round = if self.interval.is_zero() { Duration::from_secs(60) } else { self.interval };
        let gone = recent.since.elapsed();
        if gone >= round {
            let present = std::mem::take(&mut recent.present);
            recent.before = if gone < round * 2 { present } else { Arc::default() };
            recent.since = Instant::now();
        }
    }

    fn answered(&self, node: Uuid, took: Duration) {
        held(&self.book).looked(node, Last::Answered);
        let present = {
            let mut recent = held(&self.recent);
            self.turn(&mut recent);
            Arc::clone(&recent.present)
        };
        present.record(took);
    }

    /// Places that are free, for tests.
    #[cfg(test)]
    fn free(&self) -> usize {
        self.places.available_permits()
    }
}

impl Sweep {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    fn told(&self, ended: Option<Timestamp>) -> Sweeping {
        let (answered, silent) = (self.answered.load(Ordering::SeqCst), self.silent.load(Ordering::SeqCst));
        let left_out = if ended.is_some() { self.nodes.saturating_sub(answered + silent) } else { 0 };
        Sweeping {
            number: self.number,
            began: self.began,
            ended,
            took: self.begin.elapsed(),
            nodes: self.nodes,
            answered,
            silent,
            left_out,
            readings: self.spread.percentiles(),
        }
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        let Some(looks) = self.looks.upgrade() else { return };
        let took = self.begin.elapsed();
        let micros = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        let told = self.told(Some(Timestamp(self.began.0.saturating_add(micros))));
        tracing::info!(
            sweep = told.number,
            nodes = told.nodes,
            answered = told.answered,
            silent = told.silent,
            left_out = told.left_out,
            "the power of the fleet was looked at in {took:.1?}"
        );
        held(&looks.sweeps).last = Some(told);
    }
}

impl Look {
    /// An operator asked for it.
    pub(crate) fn be_part_of(&mut self, sweep: &Arc<Sweep>) {
        self.sweep = Some(Arc::clone(sweep));
    }

    /// Whether an operator asked for it.
    pub(crate) fn is_of_a_sweep(&self) -> bool {
        self.sweep.is_some()
    }

    /// From now on it waits for what another look at the same node finds, and asks nobody itself.
    pub(crate) fn join(mut self) -> Joined {
        self.place = None;
        self.began = Some(Instant::now());
        Joined(self)
    }

    /// Waits until there is a place for one more, and takes it.
    pub(crate) async fn take_place(&mut self) {
        if self.place.is_none() {
            let place = Arc::clone(&self.looks.places).acquire_owned().await;
            self.place = Some(place.expect("the semaphore is never closed"));
        }
    }

    /// Waits for `answer` and measures it; the place goes to somebody else when it lets wait.
    pub(crate) async fn wait<T>(&mut self, answer: impl Future<Output = T>) -> T {
        self.began = Some(Instant::now());
        self.looks.under_way.fetch_add(1, Ordering::Relaxed);
        // however this ends: a look that is cancelled is under way no longer
        struct Under<'a>(&'a AtomicUsize);
        impl Drop for Under<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let looks = Arc::clone(&self.looks);
        let _under = Under(&looks.under_way);
        let mut answer = std::pin::pin!(answer);
        if let Ok(answer) = tokio::time::timeout(PLACE_HELD, &mut answer).await {
            return answer;
        }
        self.place = None;
        answer.await
    }

    /// The BMC said what the power is.
    pub(crate) fn answered(self) {
        let took = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        self.looks.answered(self.node, took);
        self.tell_sweep(true, took);
    }

    /// It did not.
    pub(crate) fn silent(self) {
        held(&self.looks.book).looked(self.node, Last::Silent);
        self.tell_sweep(false, Duration::ZERO);
    }

    /// It was silent before, and is not asked for now.
    pub(crate) fn not_asked(self) {
        held(&self.looks.book).looked(self.node, Last::NotAsked);
    }

    fn tell_sweep(&self, answered: bool, took: Duration) {
        match &self.sweep {
            Some(sweep) if answered => {
                sweep.spread.record(took);
                sweep.answered.fetch_add(1, Ordering::SeqCst);
            }
            Some(sweep) => drop(sweep.silent.fetch_add(1, Ordering::SeqCst)),
            None => {}
        }
    }

    /// The node is not to be looked at.
    pub(crate) fn left_out(self) {
        self.looks.leave_out(self.node);
    }
}

/// A look that joined the one under way at the same node. Dropped without a word, the node was left out.
pub(crate) struct Joined(Look);

impl Joined {
    /// The one under way has ended: whether the BMC answered it.
    pub(crate) fn ended(self, answered: bool) {
        self.0.tell_sweep(answered, self.0.began.map_or(Duration::ZERO, |began| began.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u128) -> Vec<Uuid> {
        (1..=count).map(Uuid::from_u128).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_lag_is_the_age_of_the_oldest_reading_of_who_answers() {
        let looks = Looks::new(4, Duration::from_secs(60));
        let second = Duration::from_secs(1);
        for node in ids(3) {
            looks.watch(node);
        }
        tokio::time::advance(second * 10).await;
        let nodes = ids(3);
        looks.look(nodes[0]).answered();
        assert_eq!(looks.told().lag, second * 10, "two were never read");
        looks.look(nodes[1]).silent();
        looks.look(nodes[2]).left_out();
        tokio::time::advance(second).await;
        let told = looks.told();
        assert_eq!((told.nodes, told.silent, told.lag), (2, 1, second));
        looks.look(nodes[1]).answered();
        assert_eq!(looks.told().silent, 0, "it answers again");
        looks.look(nodes[1]).silent();
        looks.look(nodes[1]).not_asked();
        let told = looks.told();
        assert_eq!((told.nodes, told.silent, told.not_asked), (2, 0, 1), "spared is not asked");
        looks.look(nodes[1]).answered();
        assert_eq!(looks.told().not_asked, 0);
        looks.leave_out(nodes[0]);
        looks.leave_out(nodes[1]);
        let told = looks.told();
        assert_eq!((told.nodes, told.silent, told.lag), (0, 0, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_left_during_a_look_stays_out() {
        let looks = Looks::new(4, Duration::from_secs(60));
        for node in ids(3) {
            looks.watch(node);
        }
        let nodes = ids(3);
        let under_way: Vec<Look> = nodes.iter().map(|node| looks.look(*node)).collect();
        for node in nodes {
            looks.leave_out(node);
        }
        for (look, end) in under_way.into_iter().zip([Look::answered, Look::silent, Look::not_asked]) {
            end(look);
        }
        let told = looks.told();
        assert_eq!((told.nodes, told.silent, told.not_asked, told.lag), (0, 0, 0, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_is_told_what_the_look_that_it_joined_found_and_waits_without_a_place() {
        let looks = Looks::new(1, Duration::ZERO);
        let sweep = looks.begin(3, Timestamp(0)).expect("none is under way");
        let mut joined = Vec::new();
        for node in ids(3) {
            joined.push(looks.look_for(node, &sweep).await.join());
        }
        drop(sweep);
        assert_eq!(looks.free(), 1);
        tokio::time::advance(Duration::from_millis(70)).await;
        for (joined, answered) in joined.into_iter().zip([Some(true), Some(false), None]) {
            match answered {
                Some(answered) => joined.ended(answered),
                None => drop(joined),
            }
        }
        let last = looks.told().last_sweep.expect("it has ended");
        assert_eq!((last.answered, last.silent, last.left_out), (1, 1, 1));
        assert!(last.readings.longest >= Duration::from_millis(69), "{:?}", last.readings);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_fall_on_beats_and_stay_on_theirs() {
        let interval = Duration::from_secs(60);
        let looks = Looks::new(4, interval);
        let mut beats = BTreeSet::new();
        for at in 0..1000_u32 {
            let first = looks.on_the_beat(interval * at / 1000);
            assert_eq!(first.as_millis() % 250, 0);
            beats.insert(first);
        }
        assert!((240..=241).contains(&beats.len()), "spread over the whole interval: {}", beats.len());
        // a little late each time, as timers are
        tokio::time::advance(looks.on_the_beat(Duration::from_millis(7_130))).await;
        for round in 1..100_u32 {
            tokio::time::advance(Duration::from_millis(3)).await;
            let after = looks.on_the_beat(interval);
            tokio::time::advance(after).await;
            assert_eq!(looks.begun.elapsed(), Duration::from_millis(7_250) + interval * round);
        }
        assert_eq!(Looks::new(4, Duration::ZERO).on_the_beat(interval), interval);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_bmc_keeps_its_place_for_a_moment_only() {
        let looks = Looks::new(2, Duration::from_secs(60));
        let sweep = looks.begin(12, Timestamp(0)).expect("none is under way");
        let begun = Instant::now();
        for (at, node) in ids(12).into_iter().enumerate() {
            let mut look = looks.look_for(node, &sweep).await;
            tokio::spawn(async move {
                // the first four are dead
                let wait = if at < 4 { Duration::from_secs(10) } else { Duration::from_millis(20) };
                look.wait(tokio::time::sleep(wait)).await;
                if at < 4 { look.silent() } else { look.answered() }
            });
        }
        // four dead ones in two places, then eight that answer
        assert!(begun.elapsed() < Duration::from_millis(1200), "{:?}", begun.elapsed());
        drop(sweep);
        tokio::time::sleep(Duration::from_secs(11)).await;
        let last = looks.told().last_sweep.expect("it has ended");
        assert_eq!((last.answered, last.silent, last.left_out), (8, 4, 0));
        assert!(last.readings.longest <= Duration::from_millis(21), "{:?}", last.readings);
        assert_eq!((looks.free(), looks.told().under_way), (2, 0), "every place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_ends_when_its_last_node_is_through_even_if_that_one_vanished() {
        let looks = Looks::new(8, Duration::ZERO);
        let sweep = looks.begin(3, Timestamp(5)).expect("none is under way");
        assert_eq!(looks.begin(3, Timestamp(6)).err(), Some(1), "one at a time");
        let nodes = ids(3);
        let first = looks.look_for(nodes[0], &sweep).await;
        let second = looks.look_for(nodes[1], &sweep).await;
        let third = looks.look_for(nodes[2], &sweep).await;
        drop(sweep);
        first.answered();
        // its actor died with the message in its mailbox
        drop(second);
        assert!(looks.told().last_sweep.is_none() && looks.told().sweep.is_some());
        third.left_out();
        let told = looks.told();
        let last = told.last_sweep.expect("it has ended");
        assert_eq!((last.number, last.answered, last.silent, last.left_out), (1, 1, 0, 2));
        assert!(told.sweep.is_none());
        assert_eq!(looks.begin(1, Timestamp(7)).map(|sweep| sweep.number()).ok(), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_cancelled_gives_everything_back() {
        let looks = Looks::new(1, Duration::ZERO);
        let mut look = looks.look(Uuid::from_u128(1));
        look.take_place().await;
        let task = tokio::spawn(async move { look.wait(std::future::pending::<()>()).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((looks.free(), looks.told().under_way), (0, 1));
        task.abort();
        assert!(task.await.is_err());
        assert_eq!((looks.free(), looks.told().under_way), (1, 0));
    }
}
