//! What a conductor says to an agent, and the answers: deploy.md §B.3.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::null_default;

/// The body of `POST /v1/commands/`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandRequest {
    /// `extension.command`, see [`crate::names`].
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// The command's arguments by name.
    #[serde(deserialize_with = "null_default")]
    pub params: Map<String, Value>,
}

/// How a command stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CommandStatus {
    /// Still at work.
    #[default]
    Running,
    /// Done; see the result.
    Succeeded,
    /// Failed; see the error.
    Failed,
    /// The step list has changed since the conductor read it; it reads it again.
    CleanVersionMismatch,
}

impl CommandStatus {
    /// True once nothing more will happen.
    pub fn is_finished(self) -> bool {
        match self {
            Self::Running => false,
            Self::Succeeded | Self::Failed | Self::CleanVersionMismatch => true,
        }
    }
}

/// One command, running or finished.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Command {
    /// UUID as text, made by the agent.
    #[serde(deserialize_with = "null_default")]
    pub id: String,
    /// The name *without* the extension prefix (`execute_deploy_step`).
    #[serde(deserialize_with = "null_default")]
    pub command_name: String,
    /// How it stands.
    pub command_status: CommandStatus,
    /// Set when it failed.
    pub command_error: Option<CommandError>,
    /// Set when it succeeded; while a write is running our agent reports a [`Progress`] here.
    pub command_result: Option<Value>,
}

impl Command {
    /// The progress in a running command's result, if its agent reports any.
    pub fn progress(&self) -> Option<WriteProgress> {
        let result = self.command_result.as_ref()?;
        Some(Progress::deserialize(result).ok()?.progress)
    }
}

/// The answer of `GET /v1/commands/`, in start order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandList {
    /// Every command of this boot.
    #[serde(deserialize_with = "null_default")]
    pub commands: Vec<Command>,
}

/// Why a command failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandError {
    /// The error's class name ([`error_type`]).
    #[serde(rename = "type", deserialize_with = "null_default")]
    pub kind: String,
    /// An HTTP-like code.
    #[serde(deserialize_with = "null_default")]
    pub code: u16,
    /// The short text of the class.
    #[serde(deserialize_with = "null_default")]
    pub message: String,
    /// What exactly went wrong.
    #[serde(deserialize_with = "null_default")]
    pub details: String,
}

/// The body of an agent's HTTP error (400, 401, 404, 409, 500). Old agents say `faultcode` and `faultstring`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// The error's class name ([`error_type`]).
    #[serde(rename = "type", alias = "faultcode", deserialize_with = "null_default")]
    pub kind: String,
    /// The HTTP status.
    #[serde(deserialize_with = "null_default")]
    pub code: u16,
    /// The short text.
    #[serde(alias = "faultstring", deserialize_with = "null_default")]
    pub message: String,
    /// What exactly went wrong.
    #[serde(deserialize_with = "null_default")]
    pub details: String,
}

/// Names for [`CommandError::kind`] and [`ErrorBody::kind`].
pub mod error_type {
    /// 409: another async command is running.
    pub const BUSY: &str = "AgentIsBusy";
    /// 400: parameters missing or wrong.
    pub const INVALID_PARAMETERS: &str = "InvalidCommandParamsError";
    /// 400: the body is not a command.
    pub const INVALID_CONTENT: &str = "InvalidContentError";
    /// 404: no such command or extension.
    pub const INVALID_COMMAND: &str = "InvalidCommandError";
    /// 404: nothing under this path or id.
    pub const NOT_FOUND: &str = "RequestedObjectNotFoundError";
    /// 401: the token is not ours.
    pub const BAD_TOKEN: &str = "InvalidTokenError";
    /// 500: the image could not be fetched.
    pub const DOWNLOAD: &str = "ImageDownloadError";
    /// 500: the hash of the image differs.
    pub const CHECKSUM: &str = "ImageChecksumError";
    /// 500: the image could not be written.
    pub const WRITE: &str = "ImageWriteError";
    /// 500: the image is not of a kind we write.
    pub const FORMAT: &str = "InvalidImage";
    /// 404: no disk fits the hints.
    pub const NO_DISK: &str = "DeviceNotFound";
    /// 500: the config drive could not be written.
    pub const CONFIG_DRIVE: &str = "ConfigDriveWriteError";
    /// 500: a disk could not be erased.
    pub const ERASE: &str = "BlockDeviceEraseError";
    /// 500: software RAID could not be built or taken apart.
    pub const SOFTWARE_RAID: &str = "SoftwareRAIDError";
    /// 500: the disk could not be exported, or not be taken back.
    pub const ISCSI: &str = "ISCSIError";
    /// 500: a step failed for another reason.
    pub const STEP: &str = "DeploymentError";
    /// 500: anything else went wrong inside the agent.
    pub const EXECUTION: &str = "CommandExecutionError";
}

/// The result of a running write: `{"progress": {…}}`. Our addition; a conductor may ignore it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How far the write is.
    pub progress: WriteProgress,
}

/// How far a write is. Bytes are those of the image *file*, as downloaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WriteProgress {
    /// What is being done.
    pub phase: WritePhase,
    /// Bytes of the image file received and dealt with.
    pub bytes_done: u64,
    /// Size of the image file, when the server told it.
    pub bytes_total: Option<u64>,
}

/// The stages of a write, in order, and what an erasing is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WritePhase {
    /// Looking at disk and image.
    #[default]
    Preparing,
    /// Erasing; bytes are those of all disks together, every pass counted.
    Erasing,
    /// Downloading, hashing and writing at once.
    Writing,
    /// Everything received; hash compared, flushing.
    Verifying,
    /// Writing the config drive and the partition table's end.
    Finishing,
    /// Nothing left to do.
    Done,
}
