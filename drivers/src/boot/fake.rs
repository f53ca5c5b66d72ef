//! Booting machines that do not exist.

use async_trait::async_trait;
use ferric_machine::{BootDevice, BootMode};

use crate::interface::{BootInterface, InstanceBoot, NodeView, Property, RamdiskParams, Result};

/// Lays nothing out.
pub struct FakeBoot;

#[async_trait]
impl BootInterface for FakeBoot {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }

    fn ramdisk_device(&self) -> BootDevice {
        BootDevice::Pxe
    }

    async fn prepare_ramdisk(&self, _node: &NodeView, _params: &RamdiskParams) -> Result<()> {
        Ok(())
    }

    async fn clean_up_ramdisk(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }

    async fn prepare_instance(&self, _node: &NodeView, _boot: &InstanceBoot, _mode: BootMode) -> Result<()> {
        Ok(())
    }
}
