//! What has changed, counted per node, so that an answer about a node can be kept for as long as it is true.
//!
//! Only SQLite has this, where one process writes through one connection: triggers there, which live as long as the
//! connection does and which no caller can forget, tell of each row that an answer about a node shows. A counter is
//! odd from the first touch of a row until the transaction has ended, committed or not, and even otherwise; it never
//! goes back. So whoever takes a [`Stamp`] *before* reading may keep what was read for as long as the stamp
//! [holds](Changes::holds): what was read before a commit and kept after it does not hold, and nothing kept holds
//! while a commit is under way. The counters move before the writer answers: writers read their own writes.
//!
//! The counters are many fewer than there could be nodes. Two nodes that share one cost each other an answer that was
//! still true, never the other way round, and nothing grows with the fleet or with nodes that come and go.
//!
//! What another process writes into the file (the `sqlite3` shell) is noticed at the next write, and by
//! [`Store::look`](crate::Store::look), which says from [`LOOK_EVERY`] after the last look on that kept answers may not be
//! used until there was another: then everything counts as changed.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
};
use std::time::{Duration, Instant};

use diesel::{RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _, sql_types};
use uuid::Uuid;

use crate::{conn::Conn, error::StoreError};

/// How long a write of another process into the SQLite file may stay unnoticed while it is being asked for.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is known of other processes' writes into the SQLite file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// There was a look within [`LOOK_EVERY`].
    Fresh,
    /// The one who hears it looks.
    Due,
    /// Somebody is looking.
    UnderWay,
}

/// A power of two. 10,000 nodes share few of them: one write in seven costs a neighbour its answer. Half a megabyte,
/// of which the system gives what is touched.
const SLOTS: usize = 1 << 16;

/// The state of what an answer about one node shows, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    all: u64,
    one: u64,
}

/// The counters. See the module.
pub struct Changes {
    slots: Box<[AtomicU64]>,
    /// Moves when anything may have changed.
    all: AtomicU64,
    /// The slots that are odd; the writer's.
    open: Mutex<Vec<usize>>,
    /// SQLite's number that moves when another connection commits; 0 is not known.
    version: AtomicI64,
    begun: Instant,
    /// When a look at the file was last begun, in milliseconds after `begun`, doubled; odd until it has ended.
    looked: AtomicU64,
}

/// Alike for each of a node's rows; ids may be chosen by clients, so all bits take part.
fn slot(node: Uuid) -> usize {
    let (high, low) = node.as_u64_pair();
    let mixed = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 48).unwrap_or(0) & (SLOTS - 1)
}

impl Changes {
    pub(crate) fn new() -> Changes {
        Changes {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            all: AtomicU64::new(0),
            open: Mutex::default(),
            version: AtomicI64::new(0),
            begun: Instant::now(),
            looked: AtomicU64::new(0),
        }
    }

    /// To be taken before what is to be kept is read; `None` while a write to the node is under way.
    #[must_use]
    pub fn stamp(&self, node: Uuid) -> Option<Stamp> {
        let stamp = Stamp { all: self.all.load(SeqCst), one: self.slots[slot(node)].load(SeqCst) };
        (stamp.one & 1 == 0).then_some(stamp)
    }

    /// Whether nothing of the node has changed since the stamp was taken, nor is being changed.
    #[must_use]
    pub fn holds(&self, node: Uuid, stamp: Stamp) -> bool {
        self.stamp(node) == Some(stamp)
    }

    /// A row of the node's was touched, in a transaction that has not ended.
    fn touch(&self, node: Uuid) {
        let slot = slot(node);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // one writer: nobody else makes it odd meanwhile
        if self.slots[slot].load(SeqCst) & 1 == 0 {
            self.slots[slot].fetch_add(1, SeqCst);
            open.push(slot);
        }
    }

    /// Anything may have changed.
    fn touch_all(&self) {
        self.all.fetch_add(1, SeqCst);
    }

    /// The transaction has ended, either way.
    pub(crate) fn settle(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in open.drain(..) {
            self.slots[slot].fetch_add(1, SeqCst);
        }
    }

    /// Whether it is time to [`Changes::notice`] again. [`Look::Due`] is said once: who hears it sees to it that
    /// [`Changes::looked`] is said.
    pub(crate) fn due(&self) -> Look {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked = self.looked.load(SeqCst);
        let every = u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(u64::MAX);
        if looked & 1 == 1 {
            return Look::UnderWay;
        }
        if now.saturating_sub(looked >> 1) < every {
            return Look::Fresh;
        }
        match self.looked.compare_exchange(looked, (now << 1) | 1, SeqCst, SeqCst) {
            Ok(_) => Look::Due,
            Err(_) => Look::UnderWay,
        }
    }

    /// The look that was due has ended.
    pub(crate) fn looked(&self) {
        self.looked.fetch_and(!1, SeqCst);
    }

    /// Looks, on the writer's connection, whether another connection wrote since the last look.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn notice(&self, c: &mut Conn) -> Result<(), StoreError> {
        let Conn::Sqlite(c) = c else { return Ok(()) };
        let found: DataVersion = diesel::sql_query("PRAGMA data_version").get_result(c)?;
        if self.version.swap(found.data_version, SeqCst) != found.data_version {
            self.touch_all();
        }
        Ok(())
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

#[derive(diesel::QueryableByName)]
struct DataVersion {
    #[diesel(sql_type = sql_types::BigInt)]
    data_version: i64,
}

#[diesel::declare_sql_function]
extern "SQL" {
    /// Of our own: tells the counters that a node's row was touched.
    fn ferric_touched(node: sql_types::Nullable<sql_types::Text>) -> sql_types::Bool;
}

/// Rows that an answer about a node shows, with the column that names the node. What is not here must not be in such
/// an answer: web's test of its kept answers writes to each.
const SHOWN: [(&str, &str); 3] =
    [("nodes", "uuid"), ("node_traits", "node_uuid"), ("allocations", "node_uuid")];

/// Sets the triggers on the writer's connection. They are temporary: no other connection has them, nor the file.
///
/// # Errors
/// The database's.
pub(crate) fn watch(conn: &mut Conn, changes: &Arc<Changes>) -> Result<(), StoreError> {
    let Conn::Sqlite(c) = conn else { return Ok(()) };
    register(c, Arc::clone(changes))?;
    // rows that a REPLACE pushes out would go without a word otherwise
    c.batch_execute("PRAGMA recursive_triggers = ON")?;
    for (table, column) in SHOWN {
        for (verb, told) in [
            ("INSERT", format!("ferric_touched(NEW.{column})")),
            ("UPDATE", format!("ferric_touched(OLD.{column}), ferric_touched(NEW.{column})")),
            // with a trigger a table is also emptied row by row
            ("DELETE", format!("ferric_touched(OLD.{column})")),
        ] {
            c.batch_execute(&format!(
                "CREATE TEMP TRIGGER ferric_{table}_{verb} AFTER {verb} ON main.{table} BEGIN SELECT {told}; END"
            ))?;
        }
    }
    // the connection is new, and so is its number
    changes.version.store(0, SeqCst);
    changes.notice(conn)
}

fn register(c: &mut SqliteConnection, changes: Arc<Changes>) -> Result<(), StoreError> {
    ferric_touched_utils::register_nondeterministic_impl(c, move |node: Option<String>| {
        match node.as_deref().map(Uuid::try_parse) {
            Some(Ok(node)) => changes.touch(node),
            Some(Err(_)) => changes.touch_all(),
            // an allocation without a node
            None => {}
        }
        true
    })?;
    Ok(())
}
