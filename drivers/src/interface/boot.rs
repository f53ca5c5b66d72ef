//! Booting: ramdisks, and instances that do not boot from their disk.

use async_trait::async_trait;
use ferric_machine::{BootDevice, BootMode};

use super::{DriverError, NodeView, Property, Result};

/// Which ramdisk work a machine is booted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RamdiskPurpose {
    /// Deploying.
    Deploy,
    /// Cleaning.
    Clean,
    /// Inspecting: the kernel line tells the agent where to send what it found.
    Inspect,
    /// Rescuing: `rescue_kernel` and `rescue_ramdisk`.
    Rescue,
    /// Servicing.
    Service,
}

impl RamdiskPurpose {
    /// Whether `rescue_kernel` and `rescue_ramdisk` are booted instead of `deploy_kernel` and `deploy_ramdisk`.
    #[must_use]
    pub const fn is_rescue(self) -> bool {
        matches!(self, RamdiskPurpose::Rescue)
    }
}

/// What the ramdisk is started with.
#[derive(Clone, Debug)]
pub struct RamdiskParams {
    /// For which work.
    pub purpose: RamdiskPurpose,
    /// Firmware interface of this boot.
    pub boot_mode: BootMode,
    /// Base URL of the API as the ramdisk reaches it (`ipa-api-url`), without `/v1`.
    pub api_url: String,
    /// Further kernel arguments, in order (`key=value` or a bare word).
    pub kernel_args: Vec<String>,
}

/// Makes a machine boot a ramdisk, or its own disk again.
#[async_trait]
pub trait BootInterface: Send + Sync {
    /// The driver_info keys it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks driver_info, ports and files without touching the machine.
    fn validate(&self, node: &NodeView) -> Result<()>;
    /// The same for a ramdisk of this purpose: the rescue ramdisk has kernel and image of its own.
    fn validate_ramdisk(&self, node: &NodeView, _purpose: RamdiskPurpose) -> Result<()> {
        self.validate(node)
    }
    /// The boot device that leads to what `prepare_ramdisk` laid out.
    fn ramdisk_device(&self) -> BootDevice;
    /// Lays out everything that the machine will fetch. Idempotent: running it again gives the same files.
    async fn prepare_ramdisk(&self, node: &NodeView, params: &RamdiskParams) -> Result<()>;
    /// Takes away what `prepare_ramdisk` or `prepare_instance` laid out. Idempotent.
    async fn clean_up_ramdisk(&self, node: &NodeView) -> Result<()>;
    /// Lays out what an instance that boots over the network will fetch. Idempotent.
    async fn prepare_instance(&self, _node: &NodeView, boot: &InstanceBoot, _mode: BootMode) -> Result<()> {
        Err(DriverError::Unsupported {
            interface: "boot".into(),
            what: format!("booting an instance as {boot:?}"),
        })
    }
}

/// How an instance boots that does not boot from its disk by itself (deploy interfaces `ramdisk`, `anaconda`, and
/// `iscsi` with `boot_option` netboot). Kept in
/// driver_internal_info as `instance_boot`, so that it can be laid out again after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InstanceBoot {
    /// Path or URL of the kernel.
    pub kernel: String,
    /// Path or URL of the initial ramdisk.
    pub ramdisk: String,
    /// Kernel arguments, in order.
    pub kernel_args: Vec<String>,
    /// Instead of a kernel: the disk with this identifier in its MBR (`0x…`), as its firmware would boot it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}
