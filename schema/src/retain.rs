//! What is thrown away so that the database does not grow for ever: piece by piece, for a writer that deletes a million
//! rows at once keeps everybody else waiting.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use ferric_machine::Timestamp;

use crate::{conn::Conn, error::StoreError, events};

/// What is kept. What either rule of a table gives up goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Events and steps that ended before go.
    pub since: Timestamp,
    /// Events at most.
    pub events: i64,
    /// Steps of ended operations at most, nearly: the last so many numbers.
    pub steps: i64,
}

/// Rows of each kind that one call removes at most.
pub const PIECE: i64 = 2_000;

/// Removes a piece of what is not kept; how many rows. There may be more as long as it is not 0. Steps of an operation
/// that is under way are never removed.
///
/// # Errors
/// The database's.
pub fn purge_piece(c: &mut Conn, kept: Kept) -> Result<usize, StoreError> {
    let last = events::last_seq(c)?;
    let cut = last.saturating_sub(kept.events.max(0));
    let mut gone = run(
        c,
        "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE seq <= $1 ORDER BY seq LIMIT $2)",
        cut,
    )?;
    gone += run(
        c,
        "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE at < $1 ORDER BY at LIMIT $2)",
        kept.since.0,
    )?;
    let ended = "state NOT IN ('pending', 'running') AND op NOT IN (SELECT op FROM steps WHERE state IN ('pending', 'running'))";
    let last = crate::journal::last_id(c)?.unwrap_or(0);
    let cut = last.saturating_sub(kept.steps.max(0));
    gone += run(
        c,
        &format!(
            "DELETE FROM steps WHERE id IN (SELECT id FROM steps WHERE id <= $1 AND {ended} ORDER BY id LIMIT $2)"
        ),
        cut,
    )?;
    gone += run(
        c,
        &format!(
            "DELETE FROM steps WHERE id IN (SELECT id FROM steps WHERE ended_at IS NOT NULL AND ended_at < $1 \
             AND {ended} LIMIT $2)"
        ),
        kept.since.0,
    )?;
    Ok(gone)
}

fn run(c: &mut Conn, text: &str, limit: i64) -> Result<usize, StoreError> {
    Ok(diesel::sql_query(text).bind::<BigInt, _>(limit).bind::<BigInt, _>(PIECE).execute(c)?)
}
