//! Power through the agent of a machine whose ramdisk never stops (`fast_track`), which is not part of this release.

use std::time::Duration;

use async_trait::async_trait;
use ferric_machine::{PowerState, PowerTarget};

use crate::error::DriverError;
use crate::interface::Property;
use crate::interface::{NodeView, PowerInterface, Result};

/// The name is there to be chosen; what it needs is not, and its validation says so in Ironic's words.
pub struct AgentPower;

#[async_trait]
impl PowerInterface for AgentPower {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _node: &NodeView) -> Result<()> {
        let reason = "Fast track mode must be enabled to use the agent power interface".to_owned();
        Err(DriverError::InvalidParameter { reason })
    }

    fn supported(&self) -> &'static [PowerTarget] {
        &[PowerTarget::Reboot, PowerTarget::SoftReboot]
    }

    fn is_imaginary(&self) -> bool {
        true
    }

    fn bmc(&self, _node: &NodeView) -> Option<String> {
        None
    }

    async fn power_state(&self, node: &NodeView) -> Result<PowerState> {
        Ok(node.power.unwrap_or(PowerState::Off))
    }

    async fn set_power(&self, _node: &NodeView, _to: PowerTarget, _within: Duration) -> Result<PowerState> {
        Err(DriverError::NotInRelease {
            what: "switching machines through their agents".into(),
            remedy: "use power_interface fake and switch the machine by hand, or a BMC".into(),
        })
    }
}
