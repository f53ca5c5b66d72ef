//! The event log: append-only, numbered without a reader ever missing one, written in the transaction of the change
//! that it tells.

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    cached::{Every, update},
    conn::Conn,
    error::StoreError,
    tables::{event_counter, events::dsl},
    types::{JsonText, TextCol},
};

/// Something that happened, to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The node it happened to, if to one.
    pub node: Option<Uuid>,
    /// When.
    pub at: Timestamp,
    /// What kind of thing: a short word that programs match on.
    pub kind: String,
    /// How bad: `INFO`, `WARNING`, `ERROR`.
    pub severity: String,
    /// What happened, for people.
    pub text: String,
    /// The details, for programs.
    pub data: JsonText,
}

/// Something that happened, with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Queryable)]
pub struct Event {
    /// Its number: rises by one with each event, in the order in which they became visible.
    pub seq: i64,
    /// The node it happened to, if to one.
    pub node: Option<Uuid>,
    /// When.
    pub at: Timestamp,
    /// What kind of thing.
    pub kind: String,
    /// How bad.
    pub severity: String,
    /// What happened, for people.
    pub text: String,
    /// The details, for programs.
    pub data: JsonText,
}

/// What [`purge`] removes: an event goes when either rule says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Older than this.
    pub before: Option<Timestamp>,
    /// Not among the last so many.
    pub keep: Option<i64>,
}

/// Appends one event; returns its number.
///
/// On PostgreSQL the numbering serialises writers until their transactions end: append last.
///
/// # Errors
/// The database's.
pub fn append(c: &mut Conn, event: &NewEvent) -> Result<i64, StoreError> {
    Ok(append_all(c, std::slice::from_ref(event))?[0])
}

/// Appends several; returns their numbers in the same order.
///
/// # Errors
/// The database's.
pub fn append_all(c: &mut Conn, events: &[NewEvent]) -> Result<Vec<i64>, StoreError> {
    let n = i64::try_from(events.len()).expect("a list in memory has fewer than 2^63 items");
    if n == 0 {
        return Ok(Vec::new());
    }
    let counted = event_counter::last.eq(event_counter::last + n);
    update("event_counter", counted, Every, "").execute(c)?;
    let last: i64 = event_counter::table.select(event_counter::last).get_result(c)?;
    let numbers: Vec<i64> = (last - n + 1..=last).collect();
    for (event, seq) in events.iter().zip(&numbers) {
        diesel::insert_into(dsl::events)
            .values((
                dsl::seq.eq(seq),
                dsl::node_uuid.eq(TextCol::from(event.node)),
                dsl::at.eq(event.at.0),
                dsl::kind.eq(&event.kind),
                dsl::severity.eq(&event.severity),
                dsl::text.eq(&event.text),
                dsl::data.eq(&event.data),
            ))
            .execute(c)?;
    }
    Ok(numbers)
}

/// The events after number `seq` (0: from the first that is kept), oldest first.
///
/// # Errors
/// The database's.
pub fn after(c: &mut Conn, seq: i64, limit: i64) -> Result<Vec<Event>, StoreError> {
    Ok(dsl::events.filter(dsl::seq.gt(seq)).order_by(dsl::seq).limit(limit).load(c)?)
}

/// A node's events after number `seq`, oldest first.
///
/// # Errors
/// The database's.
pub fn of_node(c: &mut Conn, node: Uuid, seq: i64, limit: i64) -> Result<Vec<Event>, StoreError> {
    Ok(dsl::events
        .filter(dsl::node_uuid.eq(TextCol::from(node)))
        .filter(dsl::seq.gt(seq))
        .order_by(dsl::seq)
        .limit(limit)
        .load(c)?)
}

/// A node's last events before number `before` (`None`: the very last), newest first.
///
/// # Errors
/// The database's.
pub fn latest_of_node(
    c: &mut Conn,
    node: Uuid,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    Ok(dsl::events
        .filter(dsl::node_uuid.eq(TextCol::from(node)))
        .filter(dsl::seq.lt(before.unwrap_or(i64::MAX)))
        .order_by(dsl::seq.desc())
        .limit(limit)
        .load(c)?)
}

/// The last number given out; 0 when there was none.
///
/// # Errors
/// The database's.
pub fn last_seq(c: &mut Conn) -> Result<i64, StoreError> {
    Ok(event_counter::table.select(event_counter::last).get_result(c)?)
}

/// Forgets old events; returns how many. Numbers are never given out again.
///
/// # Errors
/// The database's.
pub fn purge(c: &mut Conn, rules: Retention) -> Result<usize, StoreError> {
    let mut gone = 0;
    if let Some(before) = rules.before {
        gone += diesel::delete(dsl::events.filter(dsl::at.lt(before.0))).execute(c)?;
    }
    if let Some(keep) = rules.keep {
        let last = last_seq(c)?;
        gone += diesel::delete(dsl::events.filter(dsl::seq.le(last.saturating_sub(keep)))).execute(c)?;
    }
    Ok(gone)
}
