//! Boot devices where nothing can be told to the machine (`noop`) or nobody is there to be told (`fake`).

use async_trait::async_trait;
use ferric_machine::{BootDevice, BootMode};

use crate::error::DriverError;
use crate::interface::{ManagementInterface, NodeView, Property, Result};

/// The machine's own boot order has to lead to the network first.
pub struct NoopManagement;

#[async_trait]
impl ManagementInterface for NoopManagement {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }

    fn supported_boot_devices(&self) -> &'static [BootDevice] {
        &[]
    }

    async fn boot_device(&self, _node: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)> {
        Ok((None, None))
    }

    async fn set_boot_device(
        &self,
        _node: &NodeView,
        _device: BootDevice,
        _persistent: bool,
        _mode: BootMode,
    ) -> Result<()> {
        Err(DriverError::Unsupported { interface: "noop".into(), what: "set_boot_device".into() })
    }
}

/// Accepts the devices that Ironic's fake driver accepts.
pub struct FakeManagement;

#[async_trait]
impl ManagementInterface for FakeManagement {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }

    fn supported_boot_devices(&self) -> &'static [BootDevice] {
        &[BootDevice::Pxe]
    }

    async fn boot_device(&self, _node: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)> {
        Ok((Some(BootDevice::Pxe), Some(false)))
    }

    async fn set_boot_device(
        &self,
        _node: &NodeView,
        _device: BootDevice,
        _persistent: bool,
        _mode: BootMode,
    ) -> Result<()> {
        Ok(())
    }
}
