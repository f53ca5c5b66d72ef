//! What a driver actor works with, and how it is kept from taking others down with it.

use std::future::Future;
use std::sync::Arc;

use actix::MailboxError;
use ferric_drivers::interface::NodeView;
use ferric_drivers::{Bound, DriverError};
use tokio_util::sync::CancellationToken;

/// The node as it was when the work was given out, and the interfaces it is bound to.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) view: Arc<NodeView>,
    pub(crate) bound: Arc<Bound>,
    /// Cancelled when the node goes on to something else: whatever still runs for this work ends.
    pub(crate) cancel: CancellationToken,
    /// `disable_power_off`: the machine is restarted where others are switched off.
    pub(crate) keeps_power: bool,
    /// The node that has to be on for this one to be: its parent, unless it has a power supply of its own.
    pub(crate) powered_by: Option<uuid::Uuid>,
}

/// Runs driver code in a task of its own: a panic in it becomes an error of this one call, and it ends where it is
/// when its work is cancelled.
pub(crate) async fn isolated<T: Send + 'static>(
    what: &'static str,
    cancel: CancellationToken,
    work: impl Future<Output = Result<T, DriverError>> + Send + 'static,
) -> Result<T, DriverError> {
    let task = tokio::spawn(async move {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(given_up(what)),
            result = work => result,
        }
    });
    task.await.unwrap_or_else(|error| Err(stopped(what, &error.to_string())))
}

fn given_up(what: &str) -> DriverError {
    DriverError::Refused {
        what: "the node".into(),
        command: what.to_owned(),
        reason: "it has gone on to something else".into(),
    }
}

/// The error of a call whose actor or task is gone.
pub(crate) fn stopped(what: &str, why: &str) -> DriverError {
    DriverError::Refused {
        what: "Ferric itself".into(),
        command: what.to_owned(),
        reason: format!("{why}; this is a bug, its trace is in the log"),
    }
}

/// Unwraps an ask to a sibling actor.
pub(crate) fn answered<T>(
    what: &'static str,
    result: Result<Result<T, DriverError>, MailboxError>,
) -> Result<T, DriverError> {
    result.unwrap_or_else(|error| match error {
        MailboxError::Timeout => Err(DriverError::Unreachable {
            what: format!("{what}: the database, or the hardware behind it,"),
            after: std::time::Duration::ZERO,
            remedy: "look into Ferric's log for what it waits for".into(),
        }),
        MailboxError::Closed => Err(stopped(what, "its actor ended")),
    })
}
