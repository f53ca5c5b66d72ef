//! The step journal: one row per step of an operation, written before the step starts and after it ends, so that a
//! restarted process takes each node up where it was.

use std::time::Duration;

use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool},
};
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    cached::{delete, update},
    conn::Conn,
    error::{StoreError, parent_or},
    tables::steps::dsl,
    types::{JsonText, TextCol},
};

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Begun; after a crash: perhaps finished.
    Running,
    /// Finished.
    Done,
    /// Finished badly.
    Failed,
    /// Given up on purpose.
    Aborted,
}

impl StepState {
    /// Its word in the table and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StepState::Pending => "pending",
            StepState::Running => "running",
            StepState::Done => "done",
            StepState::Failed => "failed",
            StepState::Aborted => "aborted",
        }
    }
}

impl std::str::FromStr for StepState {
    type Err = ferric_machine::UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(match word {
            "pending" => StepState::Pending,
            "running" => StepState::Running,
            "done" => StepState::Done,
            "failed" => StepState::Failed,
            "aborted" => StepState::Aborted,
            _ => return Err(ferric_machine::UnknownWord { what: "step state", word: word.to_owned() }),
        })
    }
}

impl Serialize for StepState {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// A step that is going to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStep {
    /// The node.
    pub node_uuid: Uuid,
    /// The operation that it is part of.
    pub op: Uuid,
    /// The kind of operation: `deploy`, `clean`, …
    pub kind: String,
    /// Its place in the operation, from 0; unique there.
    pub idx: i32,
    /// The interface that has it: `deploy`, `power`, …
    pub interface: String,
    /// Its name.
    pub step: String,
    /// Its priority.
    pub priority: i32,
    /// Whether an abort may interrupt it.
    pub abortable: bool,
    /// Its arguments; may hold secrets.
    pub args: JsonText,
    /// How it is taken up after a crash; the caller's word.
    pub resume: String,
    /// Who declared it: `interface`, `agent` or `conductor`.
    pub source: String,
    /// What its declarer says of its arguments, by their names.
    pub argsinfo: JsonText,
    /// Whether it needs the ramdisk to run.
    pub requires_ramdisk: bool,
}

/// A step in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Queryable)]
pub struct StepRow {
    /// The row's number.
    pub id: i64,
    /// The node.
    pub node_uuid: Uuid,
    /// The operation that it is part of.
    pub op: Uuid,
    /// The kind of operation.
    pub kind: String,
    /// Its place in the operation.
    pub idx: i32,
    /// The interface that has it.
    pub interface: String,
    /// Its name.
    pub step: String,
    /// Its priority.
    pub priority: i32,
    /// Whether an abort may interrupt it.
    pub abortable: bool,
    /// Its arguments.
    pub args: JsonText,
    /// How it is taken up after a crash.
    pub resume: String,
    /// Where it is.
    pub state: StepState,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How far it came, in words of its own.
    pub checkpoint: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// Who declared it: `interface`, `agent` or `conductor`.
    pub source: String,
    /// What its declarer says of its arguments, by their names.
    pub argsinfo: JsonText,
    /// Whether it needs the ramdisk to run.
    pub requires_ramdisk: bool,
}

/// Names a step: by its row, or by its place, which is known before the row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKey {
    /// The row's number.
    Id(i64),
    /// The place in an operation.
    At {
        /// The operation.
        op: Uuid,
        /// The place.
        idx: i32,
    },
}

impl From<i64> for StepKey {
    fn from(id: i64) -> Self {
        StepKey::Id(id)
    }
}

/// Writes down the steps of an operation as pending; returns their rows in the order given.
///
/// # Errors
/// `NotFound` for the node; `Other` when a place is taken.
pub fn plan(c: &mut Conn, new: &[NewStep]) -> Result<Vec<StepRow>, StoreError> {
    write(c, new)?;
    new.iter().map(|step| get(c, StepKey::At { op: step.op, idx: step.idx })).collect()
}

/// As [`plan`], without reading the rows again.
///
/// # Errors
/// As [`plan`].
pub(crate) fn write(c: &mut Conn, new: &[NewStep]) -> Result<(), StoreError> {
    for step in new {
        diesel::insert_into(dsl::steps)
            .values((
                dsl::node_uuid.eq(TextCol::from(step.node_uuid)),
                dsl::op.eq(TextCol::from(step.op)),
                dsl::kind.eq(&step.kind),
                dsl::idx.eq(step.idx),
                dsl::interface.eq(&step.interface),
                dsl::step.eq(&step.step),
                dsl::priority.eq(step.priority),
                dsl::abortable.eq(step.abortable),
                dsl::args.eq(&step.args),
                dsl::resume.eq(&step.resume),
                dsl::state.eq(TextCol::from(StepState::Pending)),
                dsl::source.eq(&step.source),
                dsl::argsinfo.eq(&step.argsinfo),
                dsl::requires_ramdisk.eq(step.requires_ramdisk),
            ))
            .execute(c)
            .map_err(|e| parent_or(e, step.node_uuid, StoreError::from))?;
    }
    Ok(())
}

/// One step.
///
/// # Errors
/// `NotFound`.
pub fn get(c: &mut Conn, key: impl Into<StepKey>) -> Result<StepRow, StoreError> {
    let key = key.into();
    let row = match key {
        StepKey::Id(id) => dsl::steps.filter(dsl::id.eq(id)).get_result(c).optional()?,
        StepKey::At { op, idx } => dsl::steps
            .filter(dsl::op.eq(TextCol::from(op)))
            .filter(dsl::idx.eq(idx))
            .get_result(c)
            .optional()?,
    };
    row.ok_or_else(|| missing(key))
}

fn missing(key: StepKey) -> StoreError {
    match key {
        StepKey::Id(id) => StoreError::not_found("step", id),
        StepKey::At { op, idx } => StoreError::not_found("step", format_args!("{idx} of {op}")),
    }
}

/// Writes some columns of one step.
macro_rules! set {
    ($c:expr, $key:expr, $values:expr) => {{
        let (key, values) = ($key.into(), $values);
        let written = match key {
            StepKey::Id(id) => update("steps", values, dsl::id.eq(id), "").execute($c)?,
            StepKey::At { op, idx } => {
                let row = dsl::op.eq(TextCol::from(op)).and(dsl::idx.eq(idx));
                update("steps", values, row, "").execute($c)?
            }
        };
        if written == 0 { Err(missing(key)) } else { Ok(()) }
    }};
}

/// Says that a step begins; also again, after a crash. The checkpoint stays.
///
/// # Errors
/// `NotFound`.
pub fn start(c: &mut Conn, key: impl Into<StepKey>, at: Timestamp) -> Result<(), StoreError> {
    set!(
        c,
        key,
        (
            dsl::state.eq(TextCol::from(StepState::Running)),
            dsl::started_at.eq(Some(at.0)),
            dsl::ended_at.eq(None::<i64>),
            dsl::error.eq(None::<String>),
        )
    )
}

/// Says how far a step came.
///
/// # Errors
/// `NotFound`.
pub fn checkpoint(c: &mut Conn, key: impl Into<StepKey>, text: &str) -> Result<(), StoreError> {
    set!(c, key, dsl::checkpoint.eq(Some(text)))
}

/// Takes a step's arguments away.
///
/// # Errors
/// `NotFound`.
pub fn forget_args(c: &mut Conn, key: impl Into<StepKey>) -> Result<(), StoreError> {
    set!(c, key, dsl::args.eq(JsonText::default()))
}

/// Says that a step ended, and how.
///
/// # Errors
/// `NotFound`.
pub fn end(
    c: &mut Conn,
    key: impl Into<StepKey>,
    state: StepState,
    at: Timestamp,
    error: Option<&str>,
) -> Result<(), StoreError> {
    set!(c, key, (dsl::state.eq(TextCol::from(state)), dsl::ended_at.eq(Some(at.0)), dsl::error.eq(error)))
}

/// All steps of the node's unfinished operation (the last one, if there are several), done ones too, in their order;
/// empty when nothing is open.
///
/// # Errors
/// The database's.
pub fn open_of_node(c: &mut Conn, node: Uuid) -> Result<Vec<StepRow>, StoreError> {
    let op: Option<Uuid> = dsl::steps
        .filter(dsl::node_uuid.eq(TextCol::from(node)))
        .filter(open())
        .order_by(dsl::id.desc())
        .select(dsl::op)
        .first(c)
        .optional()?;
    match op {
        Some(op) => of_operation(c, op),
        None => Ok(Vec::new()),
    }
}

/// All steps of an operation, in their order.
///
/// # Errors
/// The database's.
pub fn of_operation(c: &mut Conn, op: Uuid) -> Result<Vec<StepRow>, StoreError> {
    Ok(dsl::steps.filter(dsl::op.eq(TextCol::from(op))).order_by(dsl::idx).load(c)?)
}

/// The steps of the node's last `operations` operations: the latest operation first, its steps in their order.
///
/// # Errors
/// The database's.
pub fn latest_of_node(c: &mut Conn, node: Uuid, operations: i64) -> Result<Vec<StepRow>, StoreError> {
    let latest: Vec<(Uuid, Option<i64>)> = dsl::steps
        .filter(dsl::node_uuid.eq(TextCol::from(node)))
        .group_by(dsl::op)
        .order_by(diesel::dsl::max(dsl::id).desc())
        .select((dsl::op, diesel::dsl::max(dsl::id)))
        .limit(operations)
        .load(c)?;
    let mut rows = Vec::new();
    for (op, _) in latest {
        rows.extend(of_operation(c, op)?);
    }
    Ok(rows)
}

/// The nodes that have an unfinished operation; for start-up.
///
/// # Errors
/// The database's.
pub fn open_nodes(c: &mut Conn) -> Result<Vec<Uuid>, StoreError> {
    Ok(dsl::steps.filter(open()).select(dsl::node_uuid).distinct().load(c)?)
}

/// Ends whatever is still open of an operation as `state`; returns how many steps that were.
///
/// # Errors
/// The database's.
pub fn close_operation(c: &mut Conn, op: Uuid, state: StepState, at: Timestamp) -> Result<usize, StoreError> {
    let ended = (dsl::state.eq(TextCol::from(state)), dsl::ended_at.eq(Some(at.0)));
    let open = " AND state IN ('pending', 'running')";
    Ok(update("steps", ended, dsl::op.eq(TextCol::from(op)), open).execute(c)?)
}

/// Takes the pending steps of an operation from place `from` on out of the plan; returns how many.
///
/// # Errors
/// The database's.
pub fn drop_pending(c: &mut Conn, op: Uuid, from: i32) -> Result<usize, StoreError> {
    // the word is written out: SQLite plans anew for each value that it may compare with a partial index
    let later = dsl::op.eq(TextCol::from(op)).and(dsl::idx.ge(from));
    Ok(delete("steps", later, " AND state = 'pending'").execute(c)?)
}

/// What a step took whenever it was done before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// The kind of operation.
    pub kind: String,
    /// The interface that has it.
    pub interface: String,
    /// Its name.
    pub step: String,
    /// How long it took on average.
    pub mean: Duration,
    /// How many times that was.
    pub count: i64,
}

/// What each step took over all nodes, from the finished ones that are still in the journal; for an estimate.
///
/// # Errors
/// The database's.
pub fn durations(c: &mut Conn) -> Result<Vec<StepTime>, StoreError> {
    let mean = diesel::dsl::sql::<BigInt>("CAST(AVG(ended_at - started_at) AS BIGINT)");
    // in the words of the partial index
    let rows: Vec<(String, String, String, i64, i64)> = dsl::steps
        .filter(diesel::dsl::sql::<Bool>("steps.state = 'done'"))
        .filter(dsl::started_at.is_not_null())
        .filter(dsl::ended_at.is_not_null())
        .group_by((dsl::kind, dsl::interface, dsl::step))
        .order_by((dsl::kind, dsl::interface, dsl::step))
        .select((dsl::kind, dsl::interface, dsl::step, mean, diesel::dsl::count_star()))
        .load(c)?;
    let time = |(kind, interface, step, mean, count): (String, String, String, i64, i64)| {
        // a clock that was set back makes no negative time
        let mean = Duration::from_micros(u64::try_from(mean).unwrap_or(0));
        StepTime { kind, interface, step, mean, count }
    };
    Ok(rows.into_iter().map(time).collect())
}

/// The highest number that a step has.
///
/// # Errors
/// The database's.
pub(crate) fn last_id(c: &mut Conn) -> Result<Option<i64>, StoreError> {
    Ok(dsl::steps.select(diesel::dsl::max(dsl::id)).first(c)?)
}

/// Forgets the steps of operations that ended before `before`; returns how many.
///
/// # Errors
/// The database's.
pub fn purge(c: &mut Conn, before: Timestamp) -> Result<usize, StoreError> {
    let closed = diesel::dsl::not(open());
    Ok(diesel::delete(dsl::steps.filter(closed).filter(dsl::ended_at.lt(Some(before.0)))).execute(c)?)
}

/// Still to be done or finished, in the words of the partial index, which bound parameters would keep from use.
fn open() -> diesel::expression::SqlLiteral<Bool> {
    diesel::dsl::sql("steps.state IN ('pending', 'running')")
}
