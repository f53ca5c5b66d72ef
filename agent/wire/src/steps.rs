//! Parameters and results of the single commands: deploy.md §B.2, §B.3, §B.12.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ImageInfo, Secret, null_default};

/// One step: what a step list holds and what `execute_*_step` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// `deploy`, `raid`, `bios`, …
    #[serde(deserialize_with = "null_default")]
    pub interface: String,
    /// Its name, `write_image`.
    #[serde(deserialize_with = "null_default")]
    pub step: String,
    /// Higher comes first; 0 runs only when asked for.
    #[serde(deserialize_with = "null_default")]
    pub priority: i64,
    /// The arguments, in what a conductor asks for.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Map::is_empty")]
    pub args: Map<String, Value>,
    /// The arguments described, in what an agent offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argsinfo: Option<Map<String, Value>>,
    /// Whether a cleaning may be aborted during it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abortable: Option<bool>,
    /// Whether the machine must reboot after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reboot_requested: Option<bool>,
    /// Whether it needs a running ramdisk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires_ramdisk: Option<bool>,
}

/// Parameters of `deploy.execute_deploy_step` and, with their own version keys, of `clean.execute_clean_step` and
/// `service.execute_service_step`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepParams {
    /// The step as the conductor knows it; echoed unchanged in the result, hence untyped (read it as [`Step`]).
    pub step: Value,
    /// The node, secrets masked.
    #[serde(deserialize_with = "null_default")]
    pub node: Map<String, Value>,
    /// Its ports.
    #[serde(deserialize_with = "null_default")]
    pub ports: Vec<Value>,
    /// The `hardware_manager_version` that came with the step list; null when it was never read.
    pub deploy_version: Value,
    /// The same, as `clean.execute_clean_step` calls it.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub clean_version: Value,
    /// The same, as `service.execute_service_step` calls it.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub service_version: Value,
}

/// Result of `deploy.execute_deploy_step`. `deploy_step` is the step as it was asked for, key by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeployStepResult {
    /// What the step returned.
    pub deploy_result: Value,
    /// The echo.
    pub deploy_step: Value,
}

/// Another name for [`DeployStepResult`].
pub type StepResult = DeployStepResult;

/// Result of `clean.execute_clean_step`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CleanStepResult {
    /// What the step returned.
    pub clean_result: Value,
    /// The echo.
    pub clean_step: Value,
}

/// Result of `service.execute_service_step`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceStepResult {
    /// What the step returned.
    pub service_result: Value,
    /// The echo.
    pub service_step: Value,
}

/// Result of `deploy.get_deploy_steps`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploySteps {
    /// Steps by hardware manager.
    #[serde(deserialize_with = "null_default")]
    pub deploy_steps: BTreeMap<String, Vec<Step>>,
    /// Version by hardware manager.
    #[serde(deserialize_with = "null_default")]
    pub hardware_manager_version: BTreeMap<String, String>,
}

/// Result of `clean.get_clean_steps`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CleanSteps {
    /// Steps by hardware manager.
    #[serde(deserialize_with = "null_default")]
    pub clean_steps: BTreeMap<String, Vec<Step>>,
    /// Version by hardware manager.
    #[serde(deserialize_with = "null_default")]
    pub hardware_manager_version: BTreeMap<String, String>,
}

/// Result of `service.get_service_steps`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSteps {
    /// Steps by hardware manager.
    #[serde(deserialize_with = "null_default")]
    pub service_steps: BTreeMap<String, Vec<Step>>,
    /// Version by hardware manager.
    #[serde(deserialize_with = "null_default")]
    pub hardware_manager_version: BTreeMap<String, String>,
}

/// The `args` of the step `write_image`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WriteImageArgs {
    /// Which image.
    #[serde(deserialize_with = "null_default")]
    pub image_info: ImageInfo,
    /// base64 of a gzipped file system, or an http(s) URL of such a thing. It may hold passwords: it does not print.
    pub configdrive: Option<Secret>,
}

/// Parameters of `standby.prepare_image`: the same as [`WriteImageArgs`].
pub type PrepareImageParams = WriteImageArgs;

/// Result of `standby.get_partition_uuids`. All absent for whole-disk images except, perhaps, the ESP's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionUuids {
    /// The root file system's.
    #[serde(rename = "root uuid", skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The EFI system partition's.
    #[serde(rename = "efi system partition uuid", skip_serializing_if = "Option::is_none")]
    pub efi_system_partition: Option<String>,
    /// The PReP partition's.
    #[serde(rename = "PReP Boot partition uuid", skip_serializing_if = "Option::is_none")]
    pub prep_boot_partition: Option<String>,
}

/// Parameters of `image.install_bootloader`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstallBootloaderParams {
    /// The root file system's UUID, or a whole disk's identifier.
    pub root_uuid: Option<String>,
    /// The ESP's UUID.
    pub efi_system_part_uuid: Option<String>,
    /// The PReP partition's UUID.
    pub prep_boot_part_uuid: Option<String>,
    /// `uefi` or `bios`.
    pub target_boot_mode: Option<String>,
}

/// Result of `log.collect_system_logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemLogs {
    /// base64 of a tar.gz.
    #[serde(deserialize_with = "null_default")]
    pub system_logs: String,
}

/// Parameters of `rescue.finalize_rescue`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FinalizeRescueParams {
    /// The password of the user `rescue`, plain or as crypt(3) stores it.
    #[serde(deserialize_with = "null_default")]
    pub rescue_password: Secret,
    /// True when it is a hash already.
    #[serde(deserialize_with = "null_default")]
    pub hashed: bool,
}
