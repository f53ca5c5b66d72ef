//! What can go wrong with the database, by what the caller can do about it.

use std::{error::Error, sync::Arc};

use diesel::result::{DatabaseErrorKind, Error as Diesel};
use uuid::Uuid;

/// A failed read or write. Cloned to every job of a batch whose common commit failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The row was written by someone else since it was read: read again, decide again.
    #[error(
        "{what} {id} has changed since generation {seen} was read: look at it again, and repeat what is still wanted"
    )]
    Stale {
        /// What kind of row.
        what: &'static str,
        /// Its id.
        id: Uuid,
        /// The generation that the caller had read.
        seen: i64,
    },
    /// There is no such row.
    #[error("{what} could not be found")]
    NotFound {
        /// Which row, for people: `node 1be2…`.
        what: String,
    },
    /// The value is taken by another row.
    #[error("{what} '{value}' is already in use")]
    Duplicate {
        /// The field, under its API name, such as `instance_uuid`.
        what: &'static str,
        /// The value that is taken.
        value: String,
    },
    /// Too much is waiting, or another process holds the database: try again.
    #[error("the database is busy; try again")]
    Busy,
    /// There is no space left to write to.
    #[error(
        "the database's disk is full: nothing was stored; free space where the database lies, or move it, \
         and writing goes on by itself"
    )]
    Full,
    /// The database does not answer.
    #[error("the database is unreachable; check [database] connection and that its server runs")]
    Unreachable(#[source] Cause),
    /// The tables do not fit this program.
    #[error("the database's tables do not fit this version of ferric: {0}")]
    Migration(String),
    /// The options name no database that can be opened.
    #[error("no database can be opened by these options: {0}")]
    Options(String),
    /// The caller's closure panicked; its changes were rolled back.
    #[error("a database job panicked; its changes were rolled back, and the log says why")]
    Panicked,
    /// The process is shutting down.
    #[error("the database is closing, for this process stops: try again, when it or another one answers")]
    Closed,
    /// Anything else; the cause tells.
    #[error("the database failed; the log says why")]
    Other(#[source] Cause),
}

/// A shared cause, so that one failed commit can be told to all who waited for it.
pub type Cause = Arc<dyn Error + Send + Sync>;

impl StoreError {
    /// A failure without a reaction of its own.
    pub fn other(cause: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        StoreError::Other(Arc::from(cause.into()))
    }

    pub(crate) fn unreachable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        StoreError::Unreachable(Arc::from(cause.into()))
    }

    pub(crate) fn not_found(what: &str, id: impl std::fmt::Display) -> StoreError {
        StoreError::NotFound { what: format!("{what} {id}") }
    }
}

impl From<Diesel> for StoreError {
    #[allow(clippy::wildcard_enum_match_arm)] // diesel's enums grow; what is not listed has no reaction of its own
    fn from(e: Diesel) -> Self {
        match e {
            Diesel::NotFound => StoreError::NotFound { what: "row".into() },
            Diesel::RollbackErrorOnCommit { commit_error, .. } => StoreError::from(*commit_error),
            Diesel::DatabaseError(ref kind, ref info) => {
                let text = info.message();
                let says = |part: &str| text.contains(part);
                match kind {
                    DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => {
                        StoreError::unreachable(e)
                    }
                    DatabaseErrorKind::SerializationFailure => StoreError::Busy,
                    // SQLite's and PostgreSQL's fixed English texts: diesel passes no code on
                    _ if says("database or disk is full") || says("No space left on device") => {
                        StoreError::Full
                    }
                    _ if says("database is locked")
                        || says("database table is locked")
                        || says("deadlock detected") =>
                    {
                        StoreError::Busy
                    }
                    _ if says("server closed the connection")
                        || says("terminating connection")
                        || says("the database system is") =>
                    {
                        StoreError::unreachable(e)
                    }
                    _ => StoreError::other(e),
                }
            }
            e @ Diesel::BrokenTransactionManager => StoreError::unreachable(e),
            e => StoreError::other(e),
        }
    }
}

/// Reads a unique violation apart by the column it names; every other error as usual.
///
/// SQLite says `UNIQUE constraint failed: nodes.name`, PostgreSQL names the constraint `nodes_name_key`.
pub(crate) fn duplicate_or(e: Diesel, table: &str, taken: &[(&'static str, String)]) -> StoreError {
    if let Diesel::DatabaseError(DatabaseErrorKind::UniqueViolation, info) = &e {
        for (what, value) in taken {
            let sqlite = format!("{table}.{what}");
            let hit = match info.constraint_name() {
                Some(name) => name == format!("{table}_{what}_key"),
                // of columns that are unique together, the last one is named
                None => {
                    let columns = info.message().rsplit(": ").next().unwrap_or_default();
                    columns.rsplit(", ").next() == Some(sqlite.as_str())
                }
            };
            if hit {
                return StoreError::Duplicate { what, value: value.clone() };
            }
        }
    }
    e.into()
}

/// A missing parent row, told as what was not found.
#[allow(clippy::wildcard_enum_match_arm)] // diesel's enums grow; what is not listed has no reaction of its own
pub(crate) fn parent_or(e: Diesel, node: Uuid, next: impl FnOnce(Diesel) -> StoreError) -> StoreError {
    match e {
        Diesel::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => {
            StoreError::not_found("node", node)
        }
        e => next(e),
    }
}
