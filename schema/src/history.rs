//! What happened to a node, for its operators (`GET /v1/nodes/{id}/history`). Unlike the event log it goes with the
//! node, and each node keeps its own last lines.

use diesel::{prelude::*, sql_types::BigInt};
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    conn::{Conn, MultiBackend},
    error::{StoreError, parent_or},
    page::{SortDir, by, by_id},
    tables::node_history::dsl,
    types::{BigCol, TextCol},
};

/// How bad it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Something failed.
    Error,
    /// Something was done.
    Info,
}

impl Severity {
    /// Its word in the table and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Info => "INFO",
        }
    }
}

impl std::str::FromStr for Severity {
    type Err = ferric_machine::UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(match word {
            "ERROR" => Severity::Error,
            "INFO" => Severity::Info,
            _ => return Err(ferric_machine::UnknownWord { what: "severity", word: word.to_owned() }),
        })
    }
}

impl Serialize for Severity {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// A line to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHistory {
    /// Its public id.
    pub uuid: Uuid,
    /// The node.
    pub node: Uuid,
    /// When.
    pub created_at: Timestamp,
    /// The conductor that did it.
    pub conductor: Option<String>,
    /// What it was about: `provision`, `power`, `cleaning`, …
    pub event_type: String,
    /// How bad.
    pub severity: Severity,
    /// What happened, for people.
    pub event: String,
    /// Who asked for it.
    pub user: Option<String>,
    /// The project of who asked.
    pub project: Option<String>,
    /// The provision state that the node was in.
    pub state: Option<String>,
    /// The provision state that it was heading for.
    pub target_provision_state: Option<String>,
    /// How long what ended took, in microseconds.
    pub duration: Option<i64>,
}

impl NewHistory {
    /// A line with what every line has.
    #[must_use]
    pub fn new(
        node: Uuid,
        conductor: &str,
        event_type: &str,
        severity: Severity,
        event: impl Into<String>,
        now: Timestamp,
    ) -> NewHistory {
        NewHistory {
            uuid: Uuid::new_v4(),
            node,
            created_at: now,
            conductor: Some(conductor.to_owned()),
            event_type: event_type.to_owned(),
            severity,
            event: event.into(),
            user: None,
            project: None,
            state: None,
            target_provision_state: None,
            duration: None,
        }
    }
}

/// A line of a node's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Queryable)]
pub struct History {
    /// The row's number.
    pub id: i64,
    /// Its public id.
    pub uuid: Uuid,
    /// The node.
    pub node_uuid: Uuid,
    /// When.
    pub created_at: Timestamp,
    /// The conductor that did it.
    pub conductor: Option<String>,
    /// What it was about.
    pub event_type: String,
    /// How bad.
    pub severity: Severity,
    /// What happened, for people.
    pub event: String,
    /// Who asked for it.
    pub user: Option<String>,
    /// The project of who asked.
    pub project: Option<String>,
    /// The provision state that the node was in.
    pub state: Option<String>,
    /// The provision state that it was heading for.
    pub target_provision_state: Option<String>,
    /// How long what ended took, in microseconds.
    pub duration: Option<i64>,
}

/// What a history can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistorySort {
    /// Order of creation.
    #[default]
    Id,
    /// By `uuid`.
    Uuid,
    /// By `created_at`.
    CreatedAt,
    /// By `severity`.
    Severity,
    /// By `event_type`.
    EventType,
    /// By `event`.
    Event,
    /// By `conductor`.
    Conductor,
    /// By `user`.
    User,
}

impl HistorySort {
    /// All keys.
    pub const ALL: [HistorySort; 8] = [
        HistorySort::Id,
        HistorySort::Uuid,
        HistorySort::CreatedAt,
        HistorySort::Severity,
        HistorySort::EventType,
        HistorySort::Event,
        HistorySort::Conductor,
        HistorySort::User,
    ];

    /// Its API name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            HistorySort::Id => "id",
            HistorySort::Uuid => "uuid",
            HistorySort::CreatedAt => "created_at",
            HistorySort::Severity => "severity",
            HistorySort::EventType => "event_type",
            HistorySort::Event => "event",
            HistorySort::Conductor => "conductor",
            HistorySort::User => "user",
        }
    }

    /// The key that bears this API name, if a history can be sorted by it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<HistorySort> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }
}

/// Which page of a node's history.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// What to sort by; equal ones by order of creation.
    pub sort_key: HistorySort,
    /// Which way.
    pub sort_dir: SortDir,
    /// How many at most; `None`: all.
    pub limit: Option<i64>,
    /// Start after this line.
    pub marker: Option<Uuid>,
}

type Boxed = diesel::helper_types::IntoBoxed<'static, dsl::node_history, MultiBackend>;
type Condition = Box<
    dyn BoxableExpression<
            dsl::node_history,
            MultiBackend,
            SqlType = diesel::sql_types::Nullable<diesel::sql_types::Bool>,
        >,
>;

/// Writes a line.
///
/// # Errors
/// `NotFound` for the node.
pub fn insert(c: &mut Conn, line: &NewHistory) -> Result<(), StoreError> {
    diesel::insert_into(dsl::node_history)
        .values((
            dsl::uuid.eq(TextCol::from(line.uuid)),
            dsl::node_uuid.eq(TextCol::from(line.node)),
            dsl::created_at.eq(BigCol::from(line.created_at)),
            dsl::conductor.eq(&line.conductor),
            dsl::event_type.eq(&line.event_type),
            dsl::severity.eq(TextCol::from(line.severity)),
            dsl::event.eq(&line.event),
            dsl::user_name.eq(&line.user),
            dsl::project.eq(&line.project),
            dsl::state.eq(&line.state),
            dsl::target_provision_state.eq(&line.target_provision_state),
            dsl::duration.eq(line.duration),
        ))
        .execute(c)
        .map_err(|e| parent_or(e, line.node, StoreError::from))?;
    Ok(())
}

/// One line of a node.
///
/// # Errors
/// The database's.
pub fn get(c: &mut Conn, node: Uuid, uuid: Uuid) -> Result<Option<History>, StoreError> {
    Ok(dsl::node_history
        .filter(dsl::uuid.eq(TextCol::from(uuid)))
        .filter(dsl::node_uuid.eq(TextCol::from(node)))
        .first(c)
        .optional()?)
}

/// One page of a node's history.
///
/// # Errors
/// `NotFound` when the node has no line of the marker's id.
pub fn of_node(c: &mut Conn, node: Uuid, q: &HistoryQuery) -> Result<Vec<History>, StoreError> {
    let query: Boxed = dsl::node_history.filter(dsl::node_uuid.eq(TextCol::from(node))).into_boxed();
    let marker = match q.marker {
        Some(id) => Some(get(c, node, id)?.ok_or_else(|| StoreError::not_found("history", id))?),
        None => None,
    };
    let (dir, marker) = (q.sort_dir, marker.as_ref());
    let mut query = match q.sort_key {
        HistorySort::Id => by_id!(query, dir, marker),
        HistorySort::Uuid => by!(query, dir, marker, dsl::uuid, |h: &History| Some(h.uuid.to_string())),
        HistorySort::CreatedAt => {
            by!(query, dir, marker, dsl::created_at, |h: &History| Some(h.created_at.0))
        }
        HistorySort::Severity => {
            by!(query, dir, marker, dsl::severity, |h: &History| Some(h.severity.as_str()))
        }
        HistorySort::EventType => {
            by!(query, dir, marker, dsl::event_type, |h: &History| Some(h.event_type.clone()))
        }
        HistorySort::Event => by!(query, dir, marker, dsl::event, |h: &History| Some(h.event.clone())),
        HistorySort::Conductor => by!(query, dir, marker, dsl::conductor, |h: &History| h.conductor.clone()),
        HistorySort::User => by!(query, dir, marker, dsl::user_name, |h: &History| h.user.clone()),
    };
    if let Some(limit) = q.limit {
        query = query.limit(limit);
    }
    Ok(query.load(c)?)
}

/// Forgets, of each node, all but the last `keep` lines, as far as they are older than `before`; returns how many.
///
/// # Errors
/// The database's.
pub fn purge(c: &mut Conn, keep: i64, before: Timestamp) -> Result<usize, StoreError> {
    // both databases know this spelling; diesel's builder has no window functions over a multi-connection
    let text = "DELETE FROM node_history WHERE created_at < $1 AND id IN (SELECT id FROM (SELECT id, ROW_NUMBER() \
                OVER (PARTITION BY node_uuid ORDER BY id DESC) AS place FROM node_history) AS placed \
                WHERE place > $2)";
    Ok(diesel::sql_query(text).bind::<BigInt, _>(before.0).bind::<BigInt, _>(keep).execute(c)?)
}
