//! The boot interface `redfish-virtual-media`.

use std::sync::Arc;

use async_trait::async_trait;
use ferric_machine::BootDevice;

use super::{not_yet, validate};
use crate::boot::PxeSettings;
use crate::error::DriverError;
use crate::interface::{BootInterface, NodeView, Property, RamdiskParams, Result};
use crate::python;

/// The boot interface `redfish-virtual-media`.
pub struct VirtualMedia {
    pub(super) settings: Arc<PxeSettings>,
}

static VIRTUAL_MEDIA: &[Property] = &[
    ("deploy_kernel", "URL or Glance UUID of the deployment kernel. Required if deploy_iso is not set."),
    (
        "deploy_ramdisk",
        "URL or Glance UUID of the ramdisk that is mounted at boot time. Required if deploy_iso is not set.",
    ),
    (
        "deploy_iso",
        "URL or Glance UUID of the deployment ISO to use. Required if deploy_kernel/deploy_ramdisk are not set.",
    ),
];

#[async_trait]
impl BootInterface for VirtualMedia {
    fn properties(&self) -> &'static [Property] {
        VIRTUAL_MEDIA
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        let given = |key: &str| node.driver_str(key).is_some();
        if !given("deploy_iso") && !given("redfish_deploy_iso") {
            let mut missing = Vec::new();
            for (key, default) in [
                ("deploy_kernel", &self.settings.deploy_kernel),
                ("deploy_ramdisk", &self.settings.deploy_ramdisk),
            ] {
                if !given(key) && default.is_none() {
                    missing.push(key);
                }
            }
            if !missing.is_empty() {
                return Err(DriverError::MissingParameter {
                    reason: format!(
                        "Error validating Redfish virtual media. Some parameters were missing in node's \
                         driver_info. Missing are: {}",
                        python::list(&missing)
                    ),
                });
            }
        }
        validate(node)
    }

    fn ramdisk_device(&self) -> BootDevice {
        BootDevice::Cdrom
    }

    async fn prepare_ramdisk(&self, _node: &NodeView, _params: &RamdiskParams) -> Result<()> {
        not_yet()
    }

    /// Nothing was laid out: nothing to take away.
    async fn clean_up_ramdisk(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }
}
