//! What can go wrong inside a command, and what the conductor is told.

use std::io;

use ferric_agent_wire::{CommandError, CommandStatus, error_type};
use thiserror::Error;

/// A failed command. Each variant names its remedy's place: image server, image, disk, machine or caller.
#[derive(Debug, Error)]
pub enum Failure {
    /// Parameters missing or of the wrong shape.
    #[error("invalid parameters: {0}")]
    Parameters(String),
    /// The step or argument is known but not served by this agent.
    #[error("{0}")]
    Unsupported(String),
    /// The image server said no, or nothing for too long.
    #[error("image download from {url} failed: {reason}")]
    Download {
        /// Without user, password and query.
        url: String,
        /// What the server or the network said.
        reason: String,
    },
    /// The file on the server is not the one that the download began with.
    #[error("the image at {url} changed while it was being downloaded: {reason}")]
    Changed {
        /// Without user, password and query.
        url: String,
        /// What differs.
        reason: String,
    },
    /// All was received, but its hash differs; the disk has been made unbootable.
    #[error(
        "{algorithm} of the image is {actual}, expected {expected}; the disk's first and last MiB were wiped"
    )]
    Checksum {
        /// sha256, sha512 or md5.
        algorithm: String,
        /// Declared, hex.
        expected: String,
        /// Computed over the downloaded bytes, hex.
        actual: String,
    },
    /// The image does not fit.
    #[error("the image needs {at_least}{image} bytes, but disk {disk} has {size} bytes", at_least = if *.exact { "" } else { "at least " })]
    TooLarge {
        /// Bytes the image needs on disk.
        image: u64,
        /// Whether `image` is the whole size or only what was seen so far.
        exact: bool,
        /// The disk's path.
        disk: String,
        /// The disk's bytes.
        size: u64,
    },
    /// The image is not of a kind that may be written.
    #[error("image refused: {0}")]
    Format(String),
    /// No disk fits.
    #[error("{0}")]
    NoDisk(String),
    /// The config drive could not be read or placed.
    #[error("config drive: {0}")]
    ConfigDrive(String),
    /// The partition table or boot loader is not as it must be.
    #[error("{0}")]
    Boot(String),
    /// Disks that could not be erased, each with its reason.
    #[error("{0}")]
    Erase(String),
    /// Software RAID could not be built or taken apart.
    #[error("{0}")]
    Raid(String),
    /// The disk could not be exported by iSCSI, or not be taken back.
    #[error("{0}")]
    Iscsi(String),
    /// A step failed for a reason of its own.
    #[error("{0}")]
    Step(String),
    /// The step list changed since the conductor read it.
    #[error("the agent's step list is version {ours}, the conductor knows another one")]
    VersionMismatch {
        /// Our hardware manager's version.
        ours: String,
    },
    /// Reading or writing the disk failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed; part of the text because the conductor sees nothing else.
        source: io::Error,
    },
}

impl Failure {
    /// For `map_err` on I/O results.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::Io { what, source },
        }
    }

    /// As an I/O error, to travel through `Write` implementations; [`Failure::io`] takes it out again.
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// The error's class on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Parameters(_) => error_type::INVALID_PARAMETERS,
            Self::Unsupported(_) | Self::Boot(_) | Self::Step(_) | Self::VersionMismatch { .. } => {
                error_type::STEP
            }
            Self::Erase(_) => error_type::ERASE,
            Self::Raid(_) => error_type::SOFTWARE_RAID,
            Self::Iscsi(_) => error_type::ISCSI,
            Self::Download { .. } | Self::Changed { .. } => error_type::DOWNLOAD,
            Self::Checksum { .. } => error_type::CHECKSUM,
            Self::TooLarge { .. } | Self::Io { .. } => error_type::WRITE,
            Self::Format(_) => error_type::FORMAT,
            Self::NoDisk(_) => error_type::NO_DISK,
            Self::ConfigDrive(_) => error_type::CONFIG_DRIVE,
        }
    }

    /// How the command stands after it: everything fails but a step list that has to be read again.
    pub fn status(&self) -> CommandStatus {
        if matches!(self, Self::VersionMismatch { .. }) {
            CommandStatus::CleanVersionMismatch
        } else {
            CommandStatus::Failed
        }
    }

    /// The error as a command carries it.
    pub fn to_command_error(&self) -> CommandError {
        let (code, message) = match self {
            Self::Parameters(_) => (400, "Invalid command parameters"),
            Self::Unsupported(_) => (404, "Not supported by this agent"),
            Self::Download { .. } | Self::Changed { .. } => (500, "Error downloading image"),
            Self::Checksum { .. } => (500, "Error verifying image checksum"),
            Self::TooLarge { .. } | Self::Io { .. } => (500, "Error writing image to device"),
            Self::Format(_) => (500, "Invalid image"),
            Self::NoDisk(_) => (404, "No suitable device found"),
            Self::ConfigDrive(_) => (500, "Error writing configdrive to device"),
            Self::Boot(_) => (500, "Error preparing the disk for boot"),
            Self::Erase(_) => (500, "Error erasing block device"),
            Self::Raid(_) => (500, "Error configuring software RAID"),
            Self::Iscsi(_) => (500, "Error starting iSCSI target"),
            Self::Step(_) => (500, "Step failed"),
            Self::VersionMismatch { .. } => (409, "Step list version mismatch"),
        };
        CommandError {
            kind: self.kind().to_owned(),
            code,
            message: message.to_owned(),
            details: self.to_string(),
        }
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
