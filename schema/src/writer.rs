//! SQLite's group-commit writer.
//!
//! SQLite has one writer and an fsync per commit. Jobs queue; one *leader* at a time takes what is pending, runs it in
//! one immediate transaction (each job in its own savepoint), commits, answers, and goes on until the queue is empty.
//! The leader is a blocking task of whoever came first, not a thread of ours: nothing idles, and a paused tokio clock
//! (simulation) stands still while it works.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use diesel::{
    SqliteConnection,
    connection::{AnsiTransactionManager, SimpleConnection as _, TransactionManager as _},
};
use tokio::sync::{oneshot, watch};

use crate::{
    changes::{self, Changes},
    conn::Conn,
    error::StoreError,
    pool::{self, Role, Target},
    store::StoreOptions,
};

/// Jobs in one transaction at most, which bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 256;

/// Batches between two looks at the size of the write-ahead log.
const LOOK_AT_WAL: u64 = 64;

/// How long writers wait for readers then; if in vain, they go on and try again after as many batches.
const WAIT_FOR_READERS: Duration = Duration::from_millis(250);

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Somebody who can be told to come again.
    Anyones,
    /// Work that is under way: it has as much of the queue again for itself, and takes nothing from the others.
    Works,
}

/// What the writer has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Transactions committed.
    pub commits: u64,
    /// Jobs whose changes these transactions held.
    pub jobs: u64,
    /// Jobs that failed or panicked and were rolled back alone.
    pub failed: u64,
    /// Transactions that were lost as a whole, because the commit failed or SQLite gave the transaction up.
    pub lost: u64,
    /// Jobs waiting now.
    pub waiting: u64,
    /// Time spent on transactions, committed or lost.
    pub busy: Duration,
}

pub(crate) struct Writer {
    target: Target,
    opts: StoreOptions,
    changes: Arc<Changes>,
    /// Moves with each transaction.
    committed: watch::Sender<u64>,
    queue: Mutex<Queue>,
    /// The leader's; `None` after a failure that left the connection in doubt.
    conn: Mutex<Option<Conn>>,
    commits: AtomicU64,
    jobs: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    busy_micros: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Box<dyn Job>>,
    /// How many of them are works.
    works: usize,
    /// Whether someone is at work, or about to be.
    led: bool,
}

impl Queue {
    /// How many of one kind wait.
    fn count(&self, whose: Whose) -> usize {
        match whose {
            Whose::Anyones => self.waiting.len() - self.works,
            Whose::Works => self.works,
        }
    }

    fn push(&mut self, job: Box<dyn Job>) {
        self.works += usize::from(job.whose() == Whose::Works);
        self.waiting.push_back(job);
    }

    /// The first of them, `most` at most.
    fn take(&mut self, most: usize) -> VecDeque<Box<dyn Job>> {
        let most = self.waiting.len().min(most);
        let jobs: VecDeque<_> = self.waiting.drain(..most).collect();
        self.works -= works_of(&jobs);
        jobs
    }

    /// They were taken too early: they are the first again.
    fn put_back(&mut self, jobs: VecDeque<Box<dyn Job>>) {
        self.works += works_of(&jobs);
        for job in jobs.into_iter().rev() {
            self.waiting.push_front(job);
        }
    }
}

fn works_of(jobs: &VecDeque<Box<dyn Job>>) -> usize {
    jobs.iter().filter(|job| job.whose() == Whose::Works).count()
}

/// One caller's closure and the way back to it.
trait Job: Send {
    /// Whose it is.
    fn whose(&self) -> Whose;
    /// Runs the closure and keeps its result.
    fn run(&mut self, conn: &mut Conn) -> Result<(), StoreError>;
    /// Sends the kept result, or `lost` in its place.
    fn answer(self: Box<Self>, lost: Option<StoreError>);
}

struct Closure<T, F> {
    whose: Whose,
    f: Option<F>,
    kept: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Closure<T, F>
where
    T: Send,
    F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send,
{
    fn whose(&self) -> Whose {
        self.whose
    }

    fn run(&mut self, conn: &mut Conn) -> Result<(), StoreError> {
        let f = self.f.take().ok_or(StoreError::Closed)?;
        self.kept = Some(f(conn)?);
        Ok(())
    }

    fn answer(self: Box<Self>, lost: Option<StoreError>) {
        let result = match (lost, self.kept) {
            (Some(e), _) => Err(e),
            (None, Some(value)) => Ok(value),
            (None, None) => Err(StoreError::Closed),
        };
        // the caller may have stopped waiting; the write stands all the same
        let _ = self.reply.send(result);
    }
}

/// Nothing panics while it holds one of the locks, except the drop of a caller's value; the data stays whole.
fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// # Errors
    /// The database's, while it is told to count changes.
    pub(crate) fn new(mut conn: Conn, target: Target, opts: StoreOptions) -> Result<Writer, StoreError> {
        let changes = Arc::new(Changes::new());
        changes::watch(&mut conn, &changes)?;
        Ok(Writer {
            target,
            opts,
            changes,
            committed: watch::Sender::new(0),
            queue: Mutex::default(),
            conn: Mutex::new(Some(conn)),
            commits: AtomicU64::new(0),
            jobs: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            busy_micros: AtomicU64::new(0),
        })
    }

    /// Moves after each transaction that was committed.
    pub(crate) fn committed(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Looks whether another process wrote into the file. Not while the leader is at work: it looks itself.
    pub(crate) fn look(&self) {
        let _looked = Looked(&self.changes);
        let Ok(mut held) = self.conn.try_lock() else { return };
        if let Some(conn) = held.as_mut()
            && let Err(e) = self.changes.notice(conn)
        {
            tracing::debug!(error = %e, "whether another process writes into the database could not be found out");
        }
    }

    pub(crate) fn stats(&self) -> WriterStats {
        WriterStats {
            commits: self.commits.load(Relaxed),
            jobs: self.jobs.load(Relaxed),
            failed: self.failed.load(Relaxed),
            lost: self.lost.load(Relaxed),
            waiting: lock(&self.queue).waiting.len() as u64,
            busy: Duration::from_micros(self.busy_micros.load(Relaxed)),
        }
    }

    pub(crate) async fn write<T, F>(self: &Arc<Self>, whose: Whose, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, lead) = self.push(whose, f)?;
        if let Some(lead) = lead {
            tokio::task::spawn_blocking(move || lead.work());
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    pub(crate) fn write_blocking<T, F>(self: &Arc<Self>, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, lead) = self.push(Whose::Works, f)?;
        if let Some(lead) = lead {
            lead.work();
        }
        answer.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Queues a job; the caller must lead if it is told to.
    #[allow(clippy::type_complexity)] // the pair is taken apart at once by its two callers
    fn push<T, F>(
        self: &Arc<Self>,
        whose: Whose,
        f: F,
    ) -> Result<(oneshot::Receiver<Result<T, StoreError>>, Option<Lead>), StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let mut queue = lock(&self.queue);
        if queue.count(whose) >= self.opts.write_queue.max(1) {
            return Err(StoreError::Busy);
        }
        queue.push(Box::new(Closure { whose, f: Some(f), kept: None, reply }));
        let lead = !std::mem::replace(&mut queue.led, true);
        drop(queue);
        Ok((answer, lead.then(|| Lead { writer: Arc::clone(self), done: false })))
    }

    /// Runs one batch; gives back the jobs that have not been run because the transaction broke under an earlier one.
    fn batch(&self, mut jobs: VecDeque<Box<dyn Job>>) -> VecDeque<Box<dyn Job>> {
        let mut held = lock(&self.conn);
        if held.is_none() {
            let opened = pool::connect(&self.target, &self.opts, Role::Writer).and_then(|mut conn| {
                changes::watch(&mut conn, &self.changes)?;
                Ok(conn)
            });
            match opened {
                Ok(conn) => *held = Some(conn),
                Err(e) => return self.fail(jobs, &e),
            }
        }
        let conn = held.as_mut().expect("opened just above");
        let _settled = Settled(&self.changes);
        if let Err(e) = begin(conn).and_then(|()| self.changes.notice(conn)) {
            *held = None;
            return self.fail(jobs, &e);
        }
        let mut done: Vec<Box<dyn Job>> = Vec::with_capacity(jobs.len());
        let mut broken = None;
        while let Some(mut job) = jobs.pop_front() {
            match in_savepoint(conn, job.as_mut()) {
                Ran::Done => done.push(job),
                Ran::Failed(e) => {
                    self.failed.fetch_add(1, Relaxed);
                    job.answer(Some(e));
                }
                Ran::Broke(e) => {
                    self.failed.fetch_add(1, Relaxed);
                    job.answer(Some(e.clone()));
                    broken = Some(e);
                    break;
                }
            }
        }
        let end = match broken {
            Some(e) => Err(e),
            None => Conn::commit_transaction(conn).map_err(StoreError::from),
        };
        match end {
            Ok(()) => {
                self.changes.settle();
                drop(held);
                self.commits.fetch_add(1, Relaxed);
                self.committed.send_modify(|commits| *commits += 1);
                self.jobs.fetch_add(done.len() as u64, Relaxed);
                for job in done {
                    job.answer(None);
                }
            }
            Err(e) => {
                // closing the connection rolls back whatever is still open
                *held = None;
                self.changes.settle();
                drop(held);
                self.lost.fetch_add(1, Relaxed);
                tracing::warn!(error = %e, jobs = done.len(), "a database transaction was lost");
                let e = of_the_neighbours(e);
                for job in done {
                    job.answer(Some(e.clone()));
                }
            }
        }
        jobs
    }

    /// Has the write-ahead log begin anew when it has grown too large. SQLite does so by itself once no reader needs it,
    /// and readers that always overlap put that off for ever.
    fn look_at_wal(&self) {
        let Target::Sqlite(path) = &self.target else { return };
        let mut wal = path.clone().into_os_string();
        wal.push("-wal");
        if std::fs::metadata(&wal).map_or(0, |file| file.len()) <= self.opts.most_wal {
            return;
        }
        let mut held = lock(&self.conn);
        let Some(conn) = held.as_mut() else { return };
        let (wait, usual) = (WAIT_FOR_READERS.as_millis(), self.opts.busy_timeout.as_millis());
        let done = conn.batch_execute(&format!(
            "PRAGMA busy_timeout = {wait}; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA busy_timeout = {usual}"
        ));
        if let Err(error) = done {
            // whatever is wrong is met again by the next write; this connection may have the short time-out still
            *held = None;
            tracing::debug!(%error, "the write-ahead log could not be begun anew");
        }
    }

    fn fail(&self, jobs: VecDeque<Box<dyn Job>>, e: &StoreError) -> VecDeque<Box<dyn Job>> {
        self.lost.fetch_add(1, Relaxed);
        for job in jobs {
            job.answer(Some(e.clone()));
        }
        VecDeque::new()
    }
}

/// Ends a look that was due, however it went.
struct Looked<'a>(&'a Changes);

impl Drop for Looked<'_> {
    fn drop(&mut self) {
        self.0.looked();
    }
}

/// Lets the counters rest even where a job's value panics while it is dropped.
struct Settled<'a>(&'a Changes);

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        self.0.settle();
    }
}

/// What the jobs hear whose transaction another job took down with it: not that one's own trouble with its own row.
fn of_the_neighbours(error: StoreError) -> StoreError {
    match error {
        StoreError::Stale { .. } | StoreError::NotFound { .. } | StoreError::Duplicate { .. } => {
            StoreError::Busy
        }
        StoreError::Busy
        | StoreError::Full
        | StoreError::Unreachable(_)
        | StoreError::Migration(_)
        | StoreError::Options(_)
        | StoreError::Panicked
        | StoreError::Closed
        | StoreError::Other(_) => error,
    }
}

/// The duty to run what is queued. Dropped without having done it (a runtime that shuts down never starts its
/// blocking tasks), it tells those who wait.
struct Lead {
    writer: Arc<Writer>,
    done: bool,
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.done {
            let left = {
                let mut queue = lock(&self.writer.queue);
                queue.led = false;
                queue.take(usize::MAX)
            };
            self.writer.fail(left, &StoreError::Closed);
        }
    }
}

impl Lead {
    fn work(mut self) {
        loop {
            let jobs = {
                let mut queue = lock(&self.writer.queue);
                if queue.waiting.is_empty() {
                    queue.led = false;
                    self.done = true;
                    return;
                }
                queue.take(MAX_BATCH)
            };
            let begun = Instant::now();
            let rest = self.writer.batch(jobs);
            let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.writer.busy_micros.fetch_add(took, Relaxed);
            if self.writer.commits.load(Relaxed).is_multiple_of(LOOK_AT_WAL) {
                self.writer.look_at_wal();
            }
            lock(&self.writer.queue).put_back(rest);
        }
    }
}

enum Ran {
    Done,
    /// Rolled back; the others are untouched.
    Failed(StoreError),
    /// The whole transaction is gone or in doubt.
    Broke(StoreError),
}

fn begin(conn: &mut Conn) -> Result<(), StoreError> {
    match conn {
        Conn::Sqlite(c) => {
            Ok(AnsiTransactionManager::begin_transaction_sql::<SqliteConnection>(c, "BEGIN IMMEDIATE")?)
        }
        Conn::Pg(_) => Err(StoreError::other("the group-commit writer is SQLite's")),
    }
}

fn in_savepoint(conn: &mut Conn, job: &mut dyn Job) -> Ran {
    if let Err(e) = Conn::begin_transaction(conn) {
        return Ran::Broke(e.into());
    }
    let failure = match catch_unwind(AssertUnwindSafe(|| job.run(conn))) {
        Ok(Ok(())) => {
            return match Conn::commit_transaction(conn) {
                Ok(()) if pool::depth(conn) == Some(1) => Ran::Done,
                Ok(()) => Ran::Broke(StoreError::other("a job left a transaction open")),
                Err(e) => Ran::Broke(e.into()),
            };
        }
        Ok(Err(e)) => e,
        Err(_) => StoreError::Panicked,
    };
    // a panic may have left savepoints of the job's own open. After a full disk SQLite may have given up the whole
    // transaction: then the savepoint is unknown, and the rollback says so
    while pool::depth(conn).is_none_or(|d| d > 1) {
        if Conn::rollback_transaction(conn).is_err() {
            return Ran::Broke(failure);
        }
    }
    if pool::depth(conn) == Some(1) { Ran::Failed(failure) } else { Ran::Broke(failure) }
}
