//! The boot interface `ipxe`: ramdisks by HTTP and iPXE.

use std::sync::Arc;

use async_trait::async_trait;
use ferric_machine::{BootDevice, BootMode};

use super::netboot::Netboot;
use super::{BootVia, PortIndex, PxeSettings};
use crate::interface::{
    BootInterface, InstanceBoot, NodeView, Property, RamdiskParams, RamdiskPurpose, Result,
};

/// Boots ramdisks by HTTP and iPXE.
#[derive(Debug)]
pub struct IpxeBoot(Netboot);

impl IpxeBoot {
    /// With what the operator set and the index that DHCP reads.
    #[must_use]
    pub fn new(settings: Arc<PxeSettings>, ports: Arc<PortIndex>) -> IpxeBoot {
        IpxeBoot(Netboot::new(settings, ports, BootVia::Ipxe))
    }
}

#[async_trait]
impl BootInterface for IpxeBoot {
    fn properties(&self) -> &'static [Property] {
        crate::properties::PXE
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        self.0.validate(node, RamdiskPurpose::Deploy)
    }

    fn validate_ramdisk(&self, node: &NodeView, purpose: RamdiskPurpose) -> Result<()> {
        self.0.validate(node, purpose)
    }

    fn ramdisk_device(&self) -> BootDevice {
        BootDevice::Pxe
    }

    async fn prepare_ramdisk(&self, node: &NodeView, params: &RamdiskParams) -> Result<()> {
        self.0.prepare(node, params).await
    }

    async fn clean_up_ramdisk(&self, node: &NodeView) -> Result<()> {
        self.0.clean_up(node).await
    }

    async fn prepare_instance(&self, node: &NodeView, boot: &InstanceBoot, mode: BootMode) -> Result<()> {
        self.0.prepare_instance(node, boot, mode).await
    }
}
