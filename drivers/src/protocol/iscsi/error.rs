//! What an order to a remote disk can end in: a variant per reaction.

use std::time::Duration;

use super::login::{LoginError, words};
use super::scsi::Sense;
use super::settings::IscsiTarget;
use crate::error::DriverError;

/// A failure, without saying of which target; [`IscsiError::of`] adds that. The text goes into `last_error`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IscsiError {
    /// Nobody listens, or the way there is broken.
    #[error(
        "no connection to {portal} ({reason}): see that the ramdisk is up, exports its disk, and is reachable"
    )]
    Connect {
        /// `address:port`.
        portal: String,
        /// The system's words.
        reason: String,
    },
    /// The connection broke, and could not be made anew in time.
    #[error("the connection was lost ({0}): see that the ramdisk and the network are up")]
    Lost(String),
    /// Commands were not answered in time.
    #[error("{command} was not answered within {:.0} s: see that the ramdisk and its disk are well", .after.as_secs_f32())]
    Silent {
        /// What was not answered.
        command: String,
        /// How long it was waited.
        after: Duration,
    },
    /// The target was busy for too long.
    #[error("the target is busy ({0}): end what else uses the disk, or wait and try again")]
    Busy(String),
    /// The target cannot serve a session now.
    #[error("login refused for now ({status:#06x}): {}: {}", words(*status).0, words(*status).1)]
    Unavailable {
        /// Class and detail.
        status: u16,
    },
    /// The target does not want this session.
    #[error("login refused ({status:#06x}): {}: {}", words(*status).0, words(*status).1)]
    Refused {
        /// Class and detail.
        status: u16,
    },
    /// One side could not prove who it is.
    #[error("login refused: {0}")]
    Credentials(String),
    /// From portal to portal without end.
    #[error("redirected {0} times: set the target's portals right")]
    Redirected(usize),
    /// The target breaks the protocol.
    #[error("the target breaks the protocol: {0}: use another target software, or report it")]
    Protocol(String),
    /// No disk under that number.
    #[error("LUN {lun} is no disk; the target has {}: correct the LUN, or export the disk under it", list(.there))]
    NoUnit {
        /// What was asked for.
        lun: u16,
        /// What is there.
        there: Vec<u16>,
    },
    /// After a reconnection there was another disk.
    #[error("behind the same name there is another disk now ({0}): deploy again")]
    OtherDisk(String),
    /// The medium fails.
    #[error("the disk fails{}: {reason}: replace the disk, or name another in properties.root_device", at(.lba))]
    Medium {
        /// The first block that failed, if the target says so.
        lba: Option<u64>,
        /// The sense data in words.
        reason: String,
    },
    /// A thin disk has no space behind it.
    #[error("the target has no space left for the disk: enlarge what is behind it")]
    Full,
    /// Beyond the end.
    #[error(
        "{length} bytes at {offset} are beyond the end of the disk of {capacity} bytes: use a larger disk"
    )]
    OutOfRange {
        /// From here, in bytes.
        offset: u64,
        /// So many bytes.
        length: u64,
        /// The size of the disk, in bytes.
        capacity: u64,
    },
    /// It may not be written.
    #[error("the disk is write-protected: export it writable")]
    ReadOnly,
    /// Somebody else has it.
    #[error("the disk is reserved by another initiator: end its session or clear the reservation")]
    Reserved,
    /// The unit does not know a command or a field of it.
    #[error("{command} is not possible: {sense}")]
    Illegal {
        /// Which.
        command: &'static str,
        /// Why.
        sense: Sense,
    },
    /// Any other refusal of a command.
    #[error("{command} failed: {reason}: look into the target's log")]
    Failed {
        /// Which.
        command: &'static str,
        /// Why.
        reason: String,
    },
    /// The session was made anew, or the disk was reset, before all writes were flushed.
    #[error(
        "the target lost the session before all was flushed: what was written since the last flush is to be written again"
    )]
    Forgotten,
    /// What was to be written could not be had.
    #[error("{0}")]
    Source(String),
    /// The session was closed by us.
    #[error("the session is closed")]
    Closed,
}

fn list(units: &[u16]) -> String {
    let names: Vec<String> = units.iter().map(|unit| format!("LUN {unit}")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn at(lba: &Option<u64>) -> String {
    lba.map_or_else(String::new, |lba| format!(" at block {lba}"))
}

impl IscsiError {
    /// True when the same call may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Lost(_)
            | Self::Silent { .. }
            | Self::Busy(_)
            | Self::Unavailable { .. }
            | Self::Forgotten => true,
            Self::Refused { .. }
            | Self::Credentials(_)
            | Self::Redirected(_)
            | Self::Protocol(_)
            | Self::NoUnit { .. }
            | Self::OtherDisk(_)
            | Self::Medium { .. }
            | Self::Full
            | Self::OutOfRange { .. }
            | Self::ReadOnly
            | Self::Reserved
            | Self::Illegal { .. }
            | Self::Failed { .. }
            | Self::Source(_)
            | Self::Closed => false,
        }
    }

    /// The same as a driver's error, with the target's name. What is transient here is not transient there: the
    /// session has been patient already, and a step that waited on would wait for a ramdisk that calls once only.
    #[must_use]
    pub fn of(self, target: &IscsiTarget) -> DriverError {
        let what = target.to_string();
        match self {
            Self::Credentials(remedy) => DriverError::RejectedCredentials { what, remedy },
            Self::Source(reason) => DriverError::Io { path: what, reason },
            Self::Connect { .. }
            | Self::Lost(_)
            | Self::Silent { .. }
            | Self::Busy(_)
            | Self::Unavailable { .. }
            | Self::Forgotten
            | Self::Refused { .. }
            | Self::Redirected(_)
            | Self::Protocol(_)
            | Self::NoUnit { .. }
            | Self::OtherDisk(_)
            | Self::Medium { .. }
            | Self::Full
            | Self::OutOfRange { .. }
            | Self::ReadOnly
            | Self::Reserved
            | Self::Illegal { .. }
            | Self::Failed { .. }
            | Self::Closed => {
                DriverError::Refused { what, command: "the session".to_owned(), reason: self.to_string() }
            }
        }
    }
}

impl From<LoginError> for IscsiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused(status @ 0x0300..=0x03FF) => Self::Unavailable { status },
            LoginError::Refused(status @ 0x0201) => {
                Self::Credentials(format!("{}: {}", words(status).0, words(status).1))
            }
            LoginError::Refused(status) => Self::Refused { status },
            LoginError::Credentials(text) => Self::Credentials(text.to_owned()),
            LoginError::Protocol(text) => Self::Protocol(text.to_owned()),
            LoginError::Key(bad) => Self::Protocol(bad.to_string()),
            LoginError::Text(bad) => Self::Protocol(bad.to_string()),
        }
    }
}
