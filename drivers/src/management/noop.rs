//! Boot devices where nothing can be told to the machine (`noop`) or nobody is there to be told (`fake`).

use async_trait::async_trait;
use ferric_machine::{BootDevice, BootMode};

use crate::error::DriverError;
use crate::interface::{
    Indicator, IndicatorState, Indicators, ManagementInterface, NodeView, Property, Result,
};

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
        &[BootDevice::Pxe, BootDevice::Disk]
    }

    fn refused_boot_device(&self, device: &str) -> DriverError {
        let reason = format!("Invalid boot device {device} specified, supported are pxe, disk.");
        DriverError::InvalidParameter { reason }
    }

    async fn boot_device(&self, _node: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)> {
        Ok((Some(BootDevice::Pxe), Some(true)))
    }

    async fn set_boot_device(
        &self,
        _node: &NodeView,
        device: BootDevice,
        _persistent: bool,
        _mode: BootMode,
    ) -> Result<()> {
        if self.supported_boot_devices().contains(&device) {
            Ok(())
        } else {
            Err(self.refused_boot_device(device.as_str()))
        }
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

    /// What a deployment asks for is taken, whatever it is: Ironic's fake deployments never ask. What a client asks
    /// for is checked against the supported devices before.
    async fn set_boot_device(
        &self,
        _node: &NodeView,
        _device: BootDevice,
        _persistent: bool,
        _mode: BootMode,
    ) -> Result<()> {
        Ok(())
    }

    async fn indicators(&self, _node: &NodeView, component: Option<&str>) -> Result<Indicators> {
        use IndicatorState::{Blinking, Off, On};
        let led = |readonly, states: &[IndicatorState]| Indicator { readonly, states: states.to_vec() };
        let all = [
            ("chassis", "led-0", led(true, &[Off, On])),
            ("system", "led", led(false, &[Blinking, Off, On])),
        ];
        let wanted = all.into_iter().filter(|(of, ..)| component.is_none_or(|wanted| wanted == *of));
        Ok(wanted.map(|(of, id, led)| (of.to_owned(), [(id.to_owned(), led)].into())).collect())
    }

    async fn indicator(&self, node: &NodeView, component: &str, indicator: &str) -> Result<IndicatorState> {
        let all = self.indicators(node, None).await?;
        let invalid = |what: &str, name: &str| {
            let reason = format!("Invalid {what} {name} specified.");
            DriverError::InvalidParameter { reason }
        };
        let of = all.get(component).ok_or_else(|| invalid("component", component))?;
        of.get(indicator).map(|_| IndicatorState::On).ok_or_else(|| invalid("indicator", indicator))
    }
}
