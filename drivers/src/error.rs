//! What can go wrong with hardware, a ramdisk or an image: a variant per reaction of the caller.

use std::time::Duration;

/// A failure of a driver. The text says what happened and, where one exists, what to do about it; it goes
/// into `last_error` and must never contain a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// A key of driver_info, properties or instance_info is absent.
    #[error("{section} lacks '{key}': {remedy}")]
    Missing {
        /// The node field that should hold it, e.g. `driver_info`.
        section: &'static str,
        /// The key, e.g. `ipmi_address`.
        key: String,
        /// What to do.
        remedy: String,
    },
    /// A key is there, its value cannot be used.
    #[error("{section}/{key} is not usable: {reason}")]
    Invalid {
        /// The node field that holds it.
        section: &'static str,
        /// The key.
        key: String,
        /// Why, and what would be usable.
        reason: String,
    },
    /// Nothing answers: BMC, agent or image server.
    #[error("{what} did not answer within {:.1} s: {remedy}", .after.as_secs_f32())]
    Unreachable {
        /// Who, with address.
        what: String,
        /// How long we waited.
        after: Duration,
        /// What to do.
        remedy: String,
    },
    /// It answers and refuses the user name or password.
    #[error("{what} rejected the user name or password: {remedy}")]
    RejectedCredentials {
        /// Who, with address.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// It answers and refuses the command.
    #[error("{what} refused {command}: {reason}")]
    Refused {
        /// Who, with address.
        what: String,
        /// The command in words.
        command: String,
        /// Its reason (completion code, HTTP status with text).
        reason: String,
    },
    /// The hardware type or the interface cannot do this at all (UnsupportedDriverExtension on the wire).
    #[error("Driver {interface} does not support {what} (disabled or not implemented).")]
    Unsupported {
        /// The hardware type, where it is known; the interface's name otherwise.
        interface: String,
        /// The operation, e.g. `get_boot_mode`.
        what: String,
    },
    /// Something is absent that the operator has to give (MissingParameterValue on the wire).
    #[error("{reason}")]
    MissingParameter {
        /// Whole sentence, as Ironic words it.
        reason: String,
    },
    /// Something is there that cannot be used (InvalidParameterValue on the wire).
    #[error("{reason}")]
    InvalidParameter {
        /// Whole sentence, as Ironic words it.
        reason: String,
    },
    /// Ironic can do this, this release of Ferric cannot yet.
    #[error("{what} is not part of this release of Ferric: {remedy}")]
    NotInRelease {
        /// What was to be done.
        what: String,
        /// What to do instead.
        remedy: String,
    },
    /// The image cannot be had or is not what it should be.
    #[error("image {image}: {reason}")]
    Image {
        /// URL without credentials.
        image: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The agent reports that a command failed.
    #[error("agent command {command} failed: {reason}")]
    AgentCommand {
        /// Command name.
        command: String,
        /// The agent's message.
        reason: String,
    },
    /// The agent is working on another command (HTTP 409); wait for its next heartbeat.
    #[error("the agent is busy with another command: try again when it has ended")]
    AgentBusy,
    /// What an inspection found cannot be used, or a rule refuses the machine.
    #[error("{reason}")]
    Inspection {
        /// Whole sentence, as Ironic words it.
        reason: String,
    },
    /// The file system of this host refuses.
    #[error("{path}: {reason}")]
    Io {
        /// Path or socket.
        path: String,
        /// The system's message, and what to do.
        reason: String,
    },
}

impl DriverError {
    /// True when the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            DriverError::Unreachable { .. } | DriverError::AgentBusy => true,
            DriverError::Missing { .. }
            | DriverError::Invalid { .. }
            | DriverError::RejectedCredentials { .. }
            | DriverError::Refused { .. }
            | DriverError::Unsupported { .. }
            | DriverError::MissingParameter { .. }
            | DriverError::InvalidParameter { .. }
            | DriverError::NotInRelease { .. }
            | DriverError::Image { .. }
            | DriverError::AgentCommand { .. }
            | DriverError::Inspection { .. }
            | DriverError::Io { .. } => false,
        }
    }
}
