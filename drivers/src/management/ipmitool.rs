//! Boot devices, sensors, event log, inventory and identify light by IPMI. It bears Ironic's name `ipmitool`; no such program runs.

use std::sync::Arc;

use async_trait::async_trait;
use ferric_machine::{BootDevice, BootMode};

use crate::interface::{EventLog, Fru, Identify, ManagementInterface, NodeView, Property, Result, Sensors};
use crate::properties;
use crate::protocol::ipmi::command::{BootOption, ChassisControl, ChassisIdentify, GetBootFlags};
use crate::protocol::ipmi::{IpmiClient, IpmiError, IpmiSettings, Surveyor, Target};

const DEVICES: &[BootDevice] =
    &[BootDevice::Pxe, BootDevice::Disk, BootDevice::Cdrom, BootDevice::Bios, BootDevice::Safe];

/// The management interface `ipmitool`.
pub struct IpmitoolManagement {
    client: Arc<IpmiClient>,
    settings: IpmiSettings,
    surveyor: Surveyor,
}

impl IpmitoolManagement {
    /// Uses `client` for every node.
    #[must_use]
    pub fn new(client: Arc<IpmiClient>, settings: IpmiSettings) -> Self {
        Self { surveyor: Surveyor::new(client.clone()), client, settings }
    }

    /// Parameters that not every BMC has: what it says of them decides nothing, that it says nothing does.
    async fn attempt(&self, target: &Target, option: BootOption) -> Result<()> {
        match self.client.run(target, option).await {
            Ok(()) => Ok(()),
            Err(IpmiError::Completion(code)) => {
                tracing::debug!(bmc = %target.name(), ?option, code, "boot option not taken");
                Ok(())
            }
            Err(error) => Err(error.of(target, "the boot device")),
        }
    }
}

#[async_trait]
impl ManagementInterface for IpmitoolManagement {
    fn properties(&self) -> &'static [Property] {
        properties::IPMI
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        Target::validate(node, &self.settings)
    }

    fn supported_boot_devices(&self) -> &'static [BootDevice] {
        DEVICES
    }

    async fn boot_device(&self, node: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)> {
        let target = Target::from_node(node, &self.settings)?;
        let flags = self.client.run(&target, GetBootFlags).await;
        let flags = flags.map_err(|error| error.of(&target, "the boot device"))?;
        let quirks =
            self.client.quirks(&target).await.map_err(|error| error.of(&target, "the boot device"))?;
        let device = quirks.boot_device(flags);
        Ok((device, device.map(|_| flags.persistent)))
    }

    async fn set_boot_device(
        &self,
        node: &NodeView,
        device: BootDevice,
        persistent: bool,
        mode: BootMode,
    ) -> Result<()> {
        let target = Target::from_node(node, &self.settings)?;
        let quirks =
            self.client.quirks(&target).await.map_err(|error| error.of(&target, "the boot device"))?;
        self.attempt(&target, BootOption::SetInProgress(true)).await?;
        if quirks.keep_boot_flags {
            self.attempt(&target, BootOption::KeepFlags(true)).await?;
        }
        self.attempt(&target, BootOption::Acknowledge).await?;
        let flags = BootOption::Flags(quirks.boot_flags(device, persistent, mode));
        let set = self.client.run(&target, flags).await;
        let ended = self.attempt(&target, BootOption::SetInProgress(false)).await;
        set.map_err(|error| error.of(&target, &format!("boot device {device}")))?;
        ended
    }

    async fn inject_nmi(&self, node: &NodeView) -> Result<()> {
        let target = Target::from_node(node, &self.settings)?;
        let sent = self.client.run(&target, ChassisControl::Diag).await;
        sent.map_err(|error| error.of(&target, ChassisControl::Diag.as_str()))
    }

    async fn sensors(&self, node: &NodeView) -> Result<Sensors> {
        let target = Target::from_node(node, &self.settings)?;
        self.surveyor.sensors(&target).await.map_err(|error| error.of(&target, "the reading of its sensors"))
    }

    async fn event_log(&self, node: &NodeView, most: usize) -> Result<EventLog> {
        let target = Target::from_node(node, &self.settings)?;
        self.surveyor.event_log(&target, most).await.map_err(|error| error.of(&target, "its event log"))
    }

    async fn clear_event_log(&self, node: &NodeView) -> Result<()> {
        let target = Target::from_node(node, &self.settings)?;
        let cleared = self.surveyor.clear_event_log(&target).await;
        cleared.map_err(|error| error.of(&target, "the clearing of its event log"))
    }

    async fn fru(&self, node: &NodeView) -> Result<Vec<Fru>> {
        let target = Target::from_node(node, &self.settings)?;
        self.surveyor.fru(&target).await.map_err(|error| error.of(&target, "its inventory"))
    }

    async fn identify(&self, node: &NodeView, light: Identify) -> Result<()> {
        let target = Target::from_node(node, &self.settings)?;
        let sent = self.client.run(&target, ChassisIdentify(light)).await;
        sent.map_err(|error| error.of(&target, "the identify light"))
    }
}
