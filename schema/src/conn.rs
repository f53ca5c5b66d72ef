//! The connection enum that makes one set of queries run on both databases. It stands alone because the derive
//! fills the module with generated types.
#![allow(missing_docs, unreachable_pub)] // the derive's own items; ours are documented

use diesel::{PgConnection, SqliteConnection};

/// A connection to either database; what every query takes.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    /// SQLite, compiled in.
    Sqlite(SqliteConnection),
    /// PostgreSQL, by the compiled-in libpq.
    Pg(PgConnection),
}

/// Which database a store is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One file; one process.
    Sqlite,
    /// A server; any number of processes.
    Postgres,
}

impl Backend {
    /// The name that people use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Backend::Sqlite => "sqlite",
            Backend::Postgres => "postgresql",
        }
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
