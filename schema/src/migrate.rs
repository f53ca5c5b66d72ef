//! The tables' versions. The scripts in `migrations/` are compiled in.

use diesel::{RunQueryDsl as _, backend::Backend};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::{
    conn::Conn,
    error::StoreError,
    pool::{self, Role},
    store::StoreOptions,
};

const SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/postgres");

/// One process at a time may change the tables; the number only has to be the same in each.
const PG_LOCK: i64 = 0x6665_7272_6963;

/// Brings the tables up to date, each step in its own transaction; returns the steps that ran.
///
/// # Errors
/// `Migration`, with the script's name and what the database said.
pub fn run(conn: &mut Conn) -> Result<Vec<String>, StoreError> {
    match conn {
        Conn::Sqlite(c) => up(c, SQLITE),
        Conn::Pg(c) => {
            diesel::sql_query(format!("SELECT pg_advisory_lock({PG_LOCK})")).execute(c)?;
            let done = up(c, POSTGRES);
            diesel::sql_query(format!("SELECT pg_advisory_unlock({PG_LOCK})")).execute(c)?;
            done
        }
    }
}

/// Refuses tables that are older or newer than this program.
///
/// # Errors
/// `Migration`, with the remedy.
pub fn check(conn: &mut Conn) -> Result<(), StoreError> {
    let late = pending(conn)?;
    if late.is_empty() {
        return Ok(());
    }
    Err(StoreError::Migration(format!("{} not applied; run `ferric db migrate`", late.join(", "))))
}

/// The steps that have not been applied yet, oldest first.
///
/// # Errors
/// `Migration` when the tables are newer than this program; `Other`.
pub fn pending(conn: &mut Conn) -> Result<Vec<String>, StoreError> {
    match conn {
        Conn::Sqlite(c) => waiting(c, SQLITE),
        Conn::Pg(c) => waiting(c, POSTGRES),
    }
}

/// Takes every step back, newest first, **with all data**. For tests and for an operator who means it.
///
/// # Errors
/// `Migration`.
pub fn revert_all(conn: &mut Conn) -> Result<(), StoreError> {
    match conn {
        Conn::Sqlite(c) => down(c, SQLITE),
        Conn::Pg(c) => down(c, POSTGRES),
    }
}

/// A connection for the functions of this module, outside any store and its pool.
///
/// # Errors
/// `Options`, `Unreachable`, `Full`.
pub fn connect(opts: &StoreOptions) -> Result<Conn, StoreError> {
    pool::connect(&opts.target()?, opts, Role::Writer)
}

fn failed(e: impl std::fmt::Display) -> StoreError {
    StoreError::Migration(e.to_string())
}

fn up<C: MigrationHarness<DB>, DB: Backend>(
    c: &mut C,
    all: EmbeddedMigrations,
) -> Result<Vec<String>, StoreError>
where
    EmbeddedMigrations: diesel::migration::MigrationSource<DB>,
{
    newer(c, &all)?;
    Ok(c.run_pending_migrations(all).map_err(failed)?.iter().map(ToString::to_string).collect())
}

fn waiting<C: MigrationHarness<DB>, DB: Backend>(
    c: &mut C,
    all: EmbeddedMigrations,
) -> Result<Vec<String>, StoreError>
where
    EmbeddedMigrations: diesel::migration::MigrationSource<DB>,
{
    newer(c, &all)?;
    Ok(c.pending_migrations(all).map_err(failed)?.iter().map(|m| m.name().to_string()).collect())
}

/// Tables of a later version may hold what this one would destroy.
fn newer<C: MigrationHarness<DB>, DB: Backend>(c: &mut C, all: &EmbeddedMigrations) -> Result<(), StoreError>
where
    EmbeddedMigrations: diesel::migration::MigrationSource<DB>,
{
    use diesel::migration::MigrationSource;
    let known = MigrationSource::<DB>::migrations(all).map_err(failed)?;
    for applied in c.applied_migrations().map_err(failed)? {
        if !known.iter().any(|m| m.name().version() == applied) {
            return Err(StoreError::Migration(format!(
                "they were made by a newer version (migration {applied}); use that version of ferric"
            )));
        }
    }
    Ok(())
}

fn down<C: MigrationHarness<DB>, DB: Backend>(c: &mut C, all: EmbeddedMigrations) -> Result<(), StoreError>
where
    EmbeddedMigrations: diesel::migration::MigrationSource<DB>,
{
    c.revert_all_migrations(all).map_err(failed)?;
    Ok(())
}
