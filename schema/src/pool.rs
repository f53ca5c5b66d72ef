//! Opening connections, and the pool of them.

use std::path::PathBuf;

use diesel::{
    Connection as _, ConnectionError, PgConnection, SqliteConnection,
    connection::{SimpleConnection as _, TransactionManager as _, TransactionManagerStatus},
    r2d2::{self, ManageConnection, PooledConnection},
};

use crate::{
    conn::Conn,
    error::StoreError,
    store::{Durability, StoreOptions},
};

/// The database to open.
#[derive(Clone)]
pub(crate) enum Target {
    Sqlite(PathBuf),
    Postgres(String),
}

/// What a connection is for. PostgreSQL makes no difference.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Reader,
    Writer,
}

pub(crate) type Pool = r2d2::Pool<Manager>;

/// Opens pooled connections. Not diesel's own manager: that one would try each database in turn on one URL, and
/// so answer a PostgreSQL that is down by making a SQLite file of that name.
pub(crate) struct Manager {
    target: Target,
    opts: StoreOptions,
}

impl ManageConnection for Manager {
    type Connection = Conn;
    type Error = StoreError;

    fn connect(&self) -> Result<Conn, StoreError> {
        connect(&self.target, &self.opts, Role::Reader)
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), StoreError> {
        match conn {
            Conn::Sqlite(_) => Ok(()),
            Conn::Pg(c) => Ok(c.batch_execute("SELECT 1")?),
        }
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        std::thread::panicking() || depth(conn) != Some(0)
    }
}

/// How many transactions and savepoints are open; `None` when diesel has lost count.
pub(crate) fn depth(conn: &mut Conn) -> Option<u32> {
    match Conn::transaction_manager_status_mut(conn) {
        TransactionManagerStatus::Valid(status) => {
            Some(status.transaction_depth().map_or(0, std::num::NonZeroU32::get))
        }
        TransactionManagerStatus::InError => None,
    }
}

pub(crate) fn build(target: Target, opts: &StoreOptions) -> Pool {
    r2d2::Pool::builder()
        .max_size(opts.pool_size.max(1))
        // one: a connection that broke (its job panicked) is replaced at once, and whoever waits is woken; with none
        // r2d2 wakes nobody, and the waiters time out
        .min_idle(Some(1))
        .connection_timeout(opts.busy_timeout)
        .error_handler(Box::new(Quiet))
        .build_unchecked(Manager { target, opts: opts.clone() })
}

/// A connection that cannot be made is told to whoever waits for it, once; not also logged on each try.
#[derive(Debug)]
struct Quiet;

impl r2d2::HandleError<StoreError> for Quiet {
    fn handle_error(&self, error: StoreError) {
        tracing::debug!(%error, "a database connection could not be made");
    }
}

/// A connection from the pool, waiting at most `busy_timeout` for it.
pub(crate) fn get(pool: &Pool) -> Result<Pooled, StoreError> {
    pool.get().map_err(|e| {
        // r2d2 appends the last failure to connect to its own words; without one, all are merely in use
        if pool.state().connections == 0 { StoreError::unreachable(e) } else { StoreError::Busy }
    })
}

pub(crate) type Pooled = PooledConnection<Manager>;

#[allow(clippy::wildcard_enum_match_arm)] // io::ErrorKind is not ours, and long
pub(crate) fn connect(target: &Target, opts: &StoreOptions, role: Role) -> Result<Conn, StoreError> {
    match target {
        Target::Sqlite(path) => {
            if role == Role::Writer {
                private_file(path).map_err(|e| match e.kind() {
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full,
                    _ => StoreError::unreachable(format!("{}: {e}", path.display())),
                })?;
            }
            let text = path.to_str().ok_or_else(|| StoreError::Options("the path must be UTF-8".into()))?;
            let mut conn = SqliteConnection::establish(text).map_err(unreachable)?;
            // the timeout first: switching to WAL takes a lock
            conn.batch_execute(&format!("PRAGMA busy_timeout = {}", opts.busy_timeout.as_millis()))?;
            conn.batch_execute("PRAGMA journal_mode = WAL")?;
            conn.batch_execute(match opts.durability {
                Durability::Full => "PRAGMA synchronous = FULL",
                Durability::Normal => "PRAGMA synchronous = NORMAL",
            })?;
            conn.batch_execute(
                "PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8000",
            )?;
            match role {
                Role::Reader => conn.batch_execute("PRAGMA query_only = ON")?,
                // a log that was large once does not stay so
                Role::Writer => {
                    conn.batch_execute(&format!("PRAGMA journal_size_limit = {}", opts.most_wal))?
                }
            }
            Ok(Conn::Sqlite(conn))
        }
        Target::Postgres(url) => Ok(Conn::Pg(PgConnection::establish(url).map_err(unreachable)?)),
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // diesel's enum grows
fn unreachable(e: ConnectionError) -> StoreError {
    match e {
        ConnectionError::CouldntSetupConfiguration(e) => e.into(),
        e => StoreError::unreachable(e),
    }
}

/// Makes the file readable by its owner only before SQLite would make it readable by all: it holds BMC passwords.
/// SQLite gives its WAL the same mode.
fn private_file(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}
