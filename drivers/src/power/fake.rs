//! Power of machines that do not exist: `fake-hardware`, and `manual-management`, where a person is the switch.

use std::time::Duration;

use async_trait::async_trait;
use ferric_machine::{PowerState, PowerTarget};

use crate::interface::{NodeView, PowerInterface, Property, Result};

/// Says that every change succeeded at once; the stored state is the only state there is.
pub struct FakePower;

#[async_trait]
impl PowerInterface for FakePower {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }

    fn supported(&self) -> &'static [PowerTarget] {
        PowerTarget::ALL
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

    async fn set_power(
        &self,
        _node: &NodeView,
        target: PowerTarget,
        _within: Duration,
    ) -> Result<PowerState> {
        Ok(target.end())
    }
}
