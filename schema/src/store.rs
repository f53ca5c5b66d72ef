//! The store: where reads and writes are handed in.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    changes::{Changes, Look},
    conn::{Backend, Conn},
    error::StoreError,
    migrate,
    pool::{self, Pool, Target},
    writer::{Whose, Writer, WriterStats},
};

/// What an acknowledged write survives, on SQLite. PostgreSQL's own configuration decides there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A power failure (`synchronous=FULL`).
    #[default]
    Full,
    /// A crash of the process; a power failure may lose the last moments, never the consistency
    /// (`synchronous=NORMAL`).
    Normal,
}

/// How to open a store. `Debug` hides the URL, which may hold a password.
#[derive(Clone)]
pub struct StoreOptions {
    /// `sqlite:///path`, a bare path, or `postgres://user:password@host/db`.
    pub url: String,
    /// Bring the tables up to date on opening; otherwise tables that do not fit are an error.
    pub migrate: bool,
    /// Connections at once, the SQLite writer's not counted.
    pub pool_size: u32,
    /// How long a statement waits for another process's lock (SQLite), and a caller for a connection.
    pub busy_timeout: Duration,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// Writes that may wait before further ones are refused as [`StoreError::Busy`] (SQLite).
    pub write_queue: usize,
    /// From this size in bytes on, the write-ahead log is made to begin anew (SQLite).
    pub most_wal: u64,
}

impl StoreOptions {
    /// The defaults: migrate, 8 connections, 5 s, full durability, 4096 waiting writes, a log of 64 MiB.
    pub fn new(url: impl Into<String>) -> StoreOptions {
        StoreOptions {
            url: url.into(),
            migrate: true,
            pool_size: 8,
            busy_timeout: Duration::from_secs(5),
            durability: Durability::Full,
            write_queue: 4096,
            most_wal: 64 << 20,
        }
    }

    /// The database that the URL names.
    ///
    /// # Errors
    /// `Options` for an unknown scheme, an empty path, or SQLite in memory.
    pub(crate) fn target(&self) -> Result<Target, StoreError> {
        let url = self.url.trim();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Target::Postgres(url.to_owned()));
        }
        let path = url.strip_prefix("sqlite://").unwrap_or(url);
        if path.is_empty() || path.contains(":memory:") {
            return Err(StoreError::Options(
                "SQLite needs a file path, such as sqlite:///var/lib/ferric/ferric.db".into(),
            ));
        }
        if path.contains("://") {
            return Err(StoreError::Options(
                "the URL must start with sqlite:// or postgres://, or be a path".into(),
            ));
        }
        Ok(Target::Sqlite(PathBuf::from(path)))
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("migrate", &self.migrate)
            .field("pool_size", &self.pool_size)
            .field("busy_timeout", &self.busy_timeout)
            .field("durability", &self.durability)
            .field("write_queue", &self.write_queue)
            .field("most_wal", &self.most_wal)
            .finish_non_exhaustive()
    }
}

/// The database. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    pool: Pool,
    /// Whoever waits for one of the pool's connections waits here, without a thread.
    permits: Arc<Semaphore>,
    /// The rest of the connections, for [`Store::write_first`] alone (PostgreSQL). Both are as many as the pool has.
    reserve: Arc<Semaphore>,
    /// SQLite's group-commit writer.
    writer: Option<Arc<Writer>>,
    /// Without one: moves with each transaction.
    committed: watch::Sender<u64>,
}

impl Store {
    /// Opens the database, and makes or checks its tables.
    ///
    /// # Errors
    /// `Options`, `Unreachable`, `Migration`, `Full`, or `Other` with the cause.
    pub fn open(opts: &StoreOptions) -> Result<Store, StoreError> {
        let target = opts.target()?;
        let mut first = pool::connect(&target, opts, pool::Role::Writer)?;
        if opts.migrate {
            migrate::run(&mut first)?;
        } else {
            migrate::check(&mut first)?;
        }
        let (backend, writer) = match &first {
            Conn::Sqlite(_) => {
                (Backend::Sqlite, Some(Arc::new(Writer::new(first, target.clone(), opts.clone())?)))
            }
            Conn::Pg(_) => (Backend::Postgres, None),
        };
        let all = opts.pool_size.max(1) as usize;
        let reserve = match backend {
            Backend::Sqlite => 0,
            // a single one is everybody's
            Backend::Postgres => (all / 4).max(1).min(all - 1),
        };
        let permits = Arc::new(Semaphore::new(all - reserve));
        let reserve = Arc::new(Semaphore::new(reserve));
        Ok(Store {
            inner: Arc::new(Inner {
                backend,
                pool: pool::build(target, opts),
                permits,
                reserve,
                writer,
                committed: watch::Sender::new(0),
            }),
        })
    }

    /// Which database this is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.inner.backend
    }

    /// What the group-commit writer has done so far; `None` on PostgreSQL, which has none.
    #[must_use]
    pub fn writer_stats(&self) -> Option<WriterStats> {
        self.inner.writer.as_ref().map(|w| w.stats())
    }

    /// The counters of what changed, per node: what tells whether an answer that was kept is still true. `None` on
    /// PostgreSQL, where other processes write.
    #[must_use]
    pub fn changes(&self) -> Option<&Arc<Changes>> {
        self.inner.writer.as_ref().map(|w| w.changes())
    }

    /// To be called before a kept answer is used: whether it was looked lately ([`LOOK_EVERY`](crate::changes::LOOK_EVERY))
    /// if another process wrote into the SQLite file. If not, this has a thread look without waiting for it, and the
    /// counters may be behind the file until it has: the answer must be read. False without counters.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn look(&self) -> bool {
        let Some(writer) = &self.inner.writer else { return false };
        match writer.changes().due() {
            Look::Fresh => true,
            Look::UnderWay => false,
            Look::Due => {
                let writer = Arc::clone(writer);
                tokio::task::spawn_blocking(move || writer.look());
                false
            }
        }
    }

    /// Runs queries on a pooled connection, off the async threads. On SQLite the connection refuses to write.
    ///
    /// # Errors
    /// What `f` returns; `Busy` or `Unreachable` when there is no connection; `Panicked`.
    pub async fn read<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        self.pooled(self.anyones().await?, move |store| f(&mut *pool::get(&store.inner.pool)?)).await
    }

    /// Runs `f` in a transaction and answers after the commit: what is answered `Ok` is durable.
    ///
    /// SQLite: together with whatever else is waiting, in one immediate transaction, each job in its own savepoint.
    /// PostgreSQL: in its own transaction. If `f` fails or panics, its own changes are rolled back and nobody
    /// else's. Dropping the future does not withdraw the write.
    ///
    /// # Errors
    /// What `f` returns; `Busy` when too much waits; `Full`; `Unreachable`; `Panicked`.
    pub async fn write<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        match &self.inner.writer {
            Some(writer) => writer.write(Whose::Anyones, f).await,
            None => self.pooled(self.anyones().await?, move |store| store.write_pooled(f)).await,
        }
    }

    /// [`Store::write`] for work that is under way (the step of a deployment, a change of power, an abort) or that must not
    /// be refused (what a ramdisk says): it finds room in the queue when others are refused as `Busy`, and on PostgreSQL
    /// a connection (a quarter of them, if there are two) when reads and other writes have all that they may have.
    ///
    /// # Errors
    /// As `write`.
    pub async fn write_first<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        match &self.inner.writer {
            Some(writer) => writer.write(Whose::Works, f).await,
            None => self.pooled(self.works().await?, move |store| store.write_pooled(f)).await,
        }
    }

    /// Moves after this process has committed something: whoever wants to see changes at once waits for it. What it does
    /// not tell of: other processes' commits.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<u64> {
        match &self.inner.writer {
            Some(writer) => writer.committed(),
            None => self.inner.committed.subscribe(),
        }
    }

    /// [`Store::read`] on the calling thread, for start-up and the command line.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_blocking<T>(
        &self,
        f: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        f(&mut *pool::get(&self.inner.pool)?)
    }

    /// [`Store::write`] that blocks the calling thread, for start-up and the command line; never on an async thread.
    ///
    /// # Errors
    /// As `write`.
    pub fn write_blocking<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        match &self.inner.writer {
            Some(writer) => writer.write_blocking(f),
            None => self.write_pooled(f),
        }
    }

    fn write_pooled<T>(&self, f: impl FnOnce(&mut Conn) -> Result<T, StoreError>) -> Result<T, StoreError> {
        use diesel::Connection as _;
        let mut conn = pool::get(&self.inner.pool)?;
        let done = Conn::transaction(&mut conn, f);
        self.inner.committed.send_modify(|commits| *commits += 1);
        done
    }

    /// A place for one that has no reserve.
    async fn anyones(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        Arc::clone(&self.inner.permits).acquire_owned().await.map_err(|_| StoreError::Closed)
    }

    /// The first place that is free, in the reserve or beside it.
    async fn works(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        tokio::select! {
            biased;
            place = self.anyones() => place,
            place = Arc::clone(&self.inner.reserve).acquire_owned() => place.map_err(|_| StoreError::Closed),
        }
    }

    async fn pooled<T, F>(&self, permit: OwnedSemaphorePermit, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    {
        let store = self.clone();
        let job = tokio::task::spawn_blocking(move || {
            let _held = permit;
            f(&store)
        });
        match job.await {
            Ok(result) => result,
            Err(e) if e.is_panic() => Err(StoreError::Panicked),
            Err(_) => Err(StoreError::Closed),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("backend", &self.inner.backend).finish_non_exhaustive()
    }
}
