//! What a driver actor works with, and how it is kept from taking others down with it.

use std::future::Future;
use std::sync::Arc;

use actix::MailboxError;
use ferric_drivers::interface::NodeView;
use ferric_drivers::{Bound, DriverError};

/// The node as it was when the work was given out, and the interfaces it is bound to.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) view: Arc<NodeView>,
    pub(crate) bound: Arc<Bound>,
}

/// Runs driver code in a task of its own: a panic in it becomes an error of this one call.
pub(crate) async fn isolated<T: Send + 'static>(
    what: &'static str,
    work: impl Future<Output = Result<T, DriverError>> + Send + 'static,
) -> Result<T, DriverError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(stopped(what, &error.to_string())))
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
    result.unwrap_or_else(|error| Err(stopped(what, &error.to_string())))
}
