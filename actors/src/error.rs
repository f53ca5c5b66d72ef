//! Why a node's actor refuses: a variant per reaction of the caller. HTTP statuses are `web/error`'s business.

use ferric_drivers::DriverError;
use ferric_drivers::network::VifError;
use ferric_machine::Refusal;
use ferric_schema::StoreError;
use uuid::Uuid;

/// Why a request to a node, a port or a driver was refused.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No such object.
    #[error("{what} {id} could not be found.")]
    NotFound {
        /// "Node", "Port", "Driver", …
        what: &'static str,
        /// As the client named it.
        id: String,
    },
    /// The node has no such trait (404).
    #[error("Node {node} doesn't have a trait '{name}'")]
    NoTrait {
        /// The node.
        node: Uuid,
        /// The trait.
        name: String,
    },
    /// The state machine or its policy says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something else works on the node, longer than a request may wait (409 NodeLocked).
    #[error(
        "Node {node} is locked by host {host}, please retry after the current operation is completed.{doing}"
    )]
    Locked {
        /// The node.
        node: Uuid,
        /// Who holds it.
        host: String,
        /// A sentence about what is being done with it, after a blank; may be empty.
        doing: String,
    },
    /// The value of a field cannot be used (400).
    #[error("{0}")]
    Invalid(String),
    /// The field may not be changed in the node's present state (409).
    #[error("{0}")]
    Conflict(String),
    /// Policy forbids it whatever the state (403).
    #[error("{0}")]
    Forbidden(String),
    /// No hardware type of that name is enabled (NoValidHost; 400 on nodes, 404 on drivers).
    #[error(
        "No valid host was found. Reason: No conductor service registered which supports driver {driver} for conductor group \"{group}\". Ensure the driver is valid and enabled."
    )]
    NoValidHost {
        /// The hardware type.
        driver: String,
        /// The conductor group.
        group: String,
    },
    /// A driver says no, synchronously.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// An allocation cannot be made as it was asked for (AllocationFailed; 500 in Ironic).
    #[error("{0}")]
    AllocationFailed(String),
    /// Queues are full (503); try again.
    #[error("Ferric has more to do than it can take right now; try again in a few seconds")]
    Busy,
    /// Deploy or clean limit reached and nothing may queue (503 ConcurrentActionLimit).
    #[error("{0}")]
    Limit(String),
    /// The database refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node's actor died while it had the message; it is being rebuilt from the database (503).
    #[error("the actor of node {0} stopped while it worked on this request; it is being rebuilt, try again")]
    Rebuilding(Uuid),
}

impl From<VifError> for NodeError {
    fn from(error: VifError) -> NodeError {
        let text = error.to_string();
        match error {
            VifError::AlreadyAttached { .. } => NodeError::Conflict(text),
            VifError::NoFreePorts { .. } | VifError::NotAttached { .. } => NodeError::Invalid(text),
        }
    }
}
