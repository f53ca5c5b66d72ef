//! The types of the ironic-python-agent protocol, once for the agent, the conductor's client and the simulated fleet.
//!
//! Readers are tolerant: unknown keys are ignored, missing or null keys take a default. Writers are exact: what is
//! serialised here is what an unmodified peer of that protocol expects. Secrets do not print.
//! Sources: `ironic/deploy.md` §B.2–B.5, `ironic/api.md` §9, `ironic/clients.md` §4.

mod command;
mod image;
mod inventory;
mod iscsi;
mod lookup;
mod steps;

pub use command::{
    Command, CommandError, CommandList, CommandRequest, CommandStatus, ErrorBody, Progress, WritePhase,
    WriteProgress, error_type,
};
pub use image::ImageInfo;
pub use inventory::{
    InspectionAnswer, InspectionConfiguration, InspectionData, Inventory, InventoryBoot, InventoryCpu,
    InventoryDisk, InventoryFirmware, InventoryInterface, InventoryMemory, InventorySystem, LldpTlv,
    ManagerVersion, NO_BMC_ADDRESS, NO_BMC_V6ADDRESS, PciDevice,
};
pub use iscsi::{ISCSI_LUN, ISCSI_PORT, StartIscsiTargetParams, StartIscsiTargetResult};
pub use lookup::{AgentStatus, AgentStatusBody, Heartbeat, LookupConfig, LookupNode, LookupResponse, Secret};
pub use steps::{
    CleanStepResult, CleanSteps, DeployStepResult, DeploySteps, FinalizeRescueParams,
    InstallBootloaderParams, PartitionUuids, PrepareImageParams, ServiceStepResult, ServiceSteps, Step,
    StepParams, StepResult, SystemLogs, WriteImageArgs,
};

use serde::{Deserialize, Deserializer};

/// The port on which an agent serves its commands.
pub const AGENT_PORT: u16 = 9999;

/// The highest microversion an agent uses for `GET /v1/lookup`: (major, minor).
pub const LOOKUP_VERSION: (u16, u16) = (1, 62);

/// The highest microversion an agent uses for `POST /v1/heartbeat/…`: (major, minor).
pub const HEARTBEAT_VERSION: (u16, u16) = (1, 68);

/// The names of the commands as they stand in [`CommandRequest::name`].
pub mod names {
    /// List the in-band deploy steps; sync.
    pub const GET_DEPLOY_STEPS: &str = "deploy.get_deploy_steps";
    /// Run one deploy step; async.
    pub const EXECUTE_DEPLOY_STEP: &str = "deploy.execute_deploy_step";
    /// List the in-band clean steps; sync.
    pub const GET_CLEAN_STEPS: &str = "clean.get_clean_steps";
    /// Run one clean step; async.
    pub const EXECUTE_CLEAN_STEP: &str = "clean.execute_clean_step";
    /// List the in-band service steps; sync.
    pub const GET_SERVICE_STEPS: &str = "service.get_service_steps";
    /// Run one service step; async.
    pub const EXECUTE_SERVICE_STEP: &str = "service.execute_service_step";
    /// Leave the network and do nothing more; sync.
    pub const LOCKDOWN: &str = "system.lockdown";
    /// Write an image, the way it was done before deploy steps; async.
    pub const PREPARE_IMAGE: &str = "standby.prepare_image";
    /// The UUIDs of what was written; sync.
    pub const GET_PARTITION_UUIDS: &str = "standby.get_partition_uuids";
    /// Make the written disk bootable; async.
    pub const INSTALL_BOOTLOADER: &str = "image.install_bootloader";
    /// Flush everything to the disks; sync.
    pub const SYNC: &str = "standby.sync";
    /// Flush and switch the machine off; async.
    pub const POWER_OFF: &str = "standby.power_off";
    /// Set the rescue user's password and leave; sync.
    pub const FINALIZE_RESCUE: &str = "rescue.finalize_rescue";
    /// Kernel log and agent log as a tar.gz; sync.
    pub const COLLECT_SYSTEM_LOGS: &str = "log.collect_system_logs";
    /// Export the root disk as an iSCSI target, as agents until Wallaby did; sync.
    pub const START_ISCSI_TARGET: &str = "iscsi.start_iscsi_target";
}

/// Reads `null` as the type's default, so that a missing key and a null one mean the same.
pub(crate) fn null_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}
