//! Why a node does not do what was asked.

use crate::{Event, State, Verb};

/// Why a node does not do what was asked: one variant per reaction. The status on the wire is the API's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The state has no row for it.
    #[error("the requested action \"{}\" can not be performed while the node is in state \"{state}\"", action(*event, *verb))]
    NotAllowed {
        /// What was to happen.
        event: Event,
        /// The client's word for it; `None` where no client asked.
        verb: Option<Verb>,
        /// Where the node is.
        state: State,
    },
    /// Not while in maintenance. Remedy: `DELETE …/maintenance`.
    #[error("\"{verb}\" is not allowed while the node is in maintenance; clear its maintenance first")]
    InMaintenance {
        /// What was asked.
        verb: Verb,
    },
    /// Leaving `service failed` by abort, while in maintenance: the hardware is in doubt.
    #[error(
        "a failed service can not be aborted while the node is in maintenance; clear its maintenance first"
    )]
    AbortInMaintenance,
    /// The instance is protected. Remedy: `PATCH protected=false`.
    #[error("the node is protected against \"{verb}\"; clear its protected flag first")]
    Protected {
        /// What was asked.
        verb: Verb,
    },
    /// A retired node does not become available. Remedy: `PATCH retired=false`.
    #[error("the node is retired and can not be made available; clear its retired flag first")]
    Retired,
    /// The node's inspect interface cannot stop an inspection.
    #[error("the inspect interface of the node can not abort an inspection")]
    InspectionNotAbortable,
}

impl Refusal {
    /// The text for a client, naming the node as the client did.
    #[must_use]
    pub fn for_node(&self, node: &str) -> String {
        match self {
            Refusal::NotAllowed { event, verb, state } => format!(
                "The requested action \"{}\" can not be performed on node \"{node}\" while it is in state \"{state}\".",
                action(*event, *verb)
            ),
            Refusal::InMaintenance { .. } => format!(
                "The provisioning operation can't be performed on node {node} because it's in maintenance mode. Clear its \
                 maintenance first."
            ),
            Refusal::Protected { .. } => format!(
                "Node {node} is protected and cannot be undeployed, rebuilt or deleted. Clear its protected flag first."
            ),
            Refusal::Retired => format!(
                "The providing operation can't be performed on node {node} because it is retired. Clear its retired flag \
                 first."
            ),
            Refusal::AbortInMaintenance | Refusal::InspectionNotAbortable => format!("Node {node}: {self}."),
        }
    }
}

/// Clients recognise the word they sent: `active`, not `deploy`.
fn action(event: Event, verb: Option<Verb>) -> &'static str {
    verb.map_or(event.as_str(), Verb::as_str)
}
