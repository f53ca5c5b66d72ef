//! Power.

use std::time::Duration;

use async_trait::async_trait;
use ferric_machine::{PowerState, PowerTarget};

use super::{NodeView, Property, Result};

/// Switches a machine on and off.
#[async_trait]
pub trait PowerInterface: Send + Sync {
    /// The driver_info keys it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks driver_info without touching the network.
    fn validate(&self, node: &NodeView) -> Result<()>;
    /// The power targets it can reach.
    fn supported(&self) -> &'static [PowerTarget];
    /// Whether there is no machine to ask: the stored state is the only one there is.
    fn is_imaginary(&self) -> bool {
        false
    }
    /// What the governor serialises on, e.g. `ipmi:10.0.0.7:623`; `None` when there is no BMC.
    fn bmc(&self, node: &NodeView) -> Option<String>;
    /// Asks for the power state.
    async fn power_state(&self, node: &NodeView) -> Result<PowerState>;
    /// Asks for the power state and gives up after `within`, where the hardware can be hurried: a look that nobody waits for
    /// must not hold a dead BMC's line for as long as a command may take.
    async fn glance(&self, node: &NodeView, within: Duration) -> Result<PowerState> {
        let _ = within;
        self.power_state(node).await
    }
    /// Brings the machine to `target` and waits until the BMC reports it, at most `within`.
    async fn set_power(&self, node: &NodeView, target: PowerTarget, within: Duration) -> Result<PowerState>;
}
