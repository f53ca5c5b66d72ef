//! What every actor of this process shares.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::Addr;
use dashmap::DashMap;
use ferric_drivers::Registry;
use ferric_machine::Timestamp;
use ferric_schema::{Commit, Committed, Store, StoreError};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::doing::Doing;
use crate::governor::Governor;
use crate::ports::PortBook;
use crate::settings::Settings;
use crate::supervisor::Supervisor;

/// Shared by reference among all actors.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) governor: Governor,
    pub(crate) supervisor: Addr<Supervisor>,
    /// Deployments that may work at once; fair, so that nobody waits for ever.
    pub(crate) deploys: Arc<Semaphore>,
    /// What nodes are doing at this moment; not stored.
    pub(crate) doing: DashMap<Uuid, Doing>,
    /// Whose ports are whose.
    pub(crate) ports: PortBook,
}

impl World {
    /// The wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// Commits once; what the database says is the answer.
    pub(crate) async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        self.store.write(move |conn| ferric_schema::commit(conn, commit)).await
    }

    /// Commits what has already happened: goes on trying while the database is full, busy or away. What no waiting
    /// mends (a stale generation, a vanished row, a value that the database does not take) ends it.
    pub(crate) async fn commit_until_done(&self, commit: Commit) -> Result<Committed, StoreError> {
        let mut wait = Duration::from_millis(100);
        loop {
            match self.commit(commit.clone()).await {
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
