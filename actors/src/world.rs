//! What every actor of this process shares.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::Addr;
use dashmap::DashMap;
use ferric_drivers::Registry;
use ferric_drivers::flow::Flow;
use ferric_drivers::interface::Sensors;
use ferric_machine::Timestamp;
use ferric_schema::{Commit, Committed, Store, StoreError};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::allocations::AllocatorSlot;
use crate::directory::{Directory, WeakDirectory};
use crate::doing::Doing;
use crate::governor::Governor;
use crate::looks::Looks;
use crate::message::Told;
use crate::places::Places;
use crate::ports::PortBook;
use crate::settings::Settings;
use crate::supervisor::Supervisor;
use crate::usual::Usual;

/// Shared by reference among all actors.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) governor: Governor,
    /// The looks at the power of the fleet.
    pub(crate) looks: Arc<Looks>,
    pub(crate) supervisor: Addr<Supervisor>,
    /// What operations consist of.
    pub(crate) flow: Flow,
    /// Deployments that may work at once.
    pub(crate) deploys: Places,
    /// Cleanings that may work at once.
    pub(crate) cleans: Places,
    /// How long steps usually take.
    pub(crate) usual: Usual,
    /// How far things are, for whoever listens now.
    pub(crate) told: broadcast::Sender<Arc<Told>>,
    /// Power changes that ended, for those that wait for a related node's.
    pub(crate) power_done: broadcast::Sender<(Uuid, Result<(), String>)>,
    /// The way to other nodes; set once all actors can be reached.
    pub(crate) directory: OnceLock<WeakDirectory>,
    /// What nodes are doing at this moment; not stored.
    pub(crate) doing: DashMap<Uuid, Doing>,
    /// What the sensors of nodes said last; not stored.
    pub(crate) readings: DashMap<Uuid, Arc<Sensors>>,
    /// Nodes whose sensors may be looked at at once without anybody asking.
    pub(crate) sensor_places: tokio::sync::Semaphore,
    /// Who looks for nodes for allocations; set once the nodes are there.
    pub(crate) allocator: OnceLock<AllocatorSlot>,
    /// Whose ports are whose.
    pub(crate) ports: PortBook,
}

impl World {
    /// The wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// What is being done with a node, as a sentence after a blank; empty when nothing is.
    pub(crate) fn sentence_of(&self, node: Uuid) -> String {
        self.doing.get(&node).map(|doing| doing.sentence(self.now())).unwrap_or_default()
    }

    /// The way to other nodes; `None` while the process starts or stops.
    pub(crate) fn directory(&self) -> Option<Directory> {
        self.directory.get().and_then(WeakDirectory::upgrade)
    }

    /// Keeps what the sensors of a node said, unless it was deleted meanwhile.
    pub(crate) fn keep_readings(&self, node: Uuid, sensors: Arc<Sensors>) {
        self.readings.insert(node, sensors);
        // a node that goes takes its actor out of the directory first and its readings then: one of the two sees the other
        if self.directory().is_some_and(|directory| directory.address(node).is_none()) {
            self.readings.remove(&node);
        }
    }

    /// Commits once; what the database says is the answer. `first`: it is not to be refused because too much waits.
    pub(crate) async fn commit(&self, commit: Commit, first: bool) -> Result<Committed, StoreError> {
        // steps, the verbs and power; of the others a client can be told to come again when too much waits
        let works = first || !commit.journal.is_empty() || commit.node.target_power_state.is_some();
        self.commit_shared(&Arc::new(commit), works).await
    }

    async fn commit_shared(&self, commit: &Arc<Commit>, works: bool) -> Result<Committed, StoreError> {
        let written = commit.clone();
        let write = move |conn: &mut _| ferric_schema::commit(conn, &written);
        // who follows the events is woken by the commit itself
        if works { self.store.write_first(write).await } else { self.store.write(write).await }
    }

    /// Tells how far a step is; that is not stored.
    pub(crate) fn tell_progress(&self, node: Uuid, doing: &Doing) {
        if self.told.receiver_count() == 0 {
            return;
        }
        let mut text = doing.step.clone();
        if doing.progress.doing != doing.step {
            text = format!("{text}: {}", doing.progress.doing);
        }
        if let Some(what) = &doing.waiting_for {
            text = format!("{text}; waits for {what}");
        }
        let data = serde_json::to_value(doing).ok().and_then(|value| value.as_object().cloned());
        let _ = self.told.send(Arc::new(Told {
            node: Some(node),
            at: self.now(),
            kind: "progress".into(),
            severity: "INFO".into(),
            text,
            data: data.unwrap_or_default(),
        }));
    }

    /// Commits what has already happened: goes on trying while the database is full, busy or away. What no waiting
    /// mends (a stale generation, a vanished row, a value that the database does not take) ends it.
    pub(crate) async fn commit_until_done(&self, commit: Commit) -> Result<Committed, StoreError> {
        let mut wait = Duration::from_millis(100);
        let commit = Arc::new(commit);
        loop {
            match self.commit_shared(&commit, true).await {
                Err(
                    error @ (StoreError::Busy
                    | StoreError::Full
                    | StoreError::Unreachable(_)
                    | StoreError::Closed
                    | StoreError::Panicked),
                ) => {
                    tracing::error!(node = %commit.node.uuid, %error, "cannot write; trying again in {wait:?}");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
                Err(error) => return Err(error),
                Ok(committed) => return Ok(committed),
            }
        }
    }
}
