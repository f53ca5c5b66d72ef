//! Power by IPMI. It bears Ironic's name `ipmitool`; no such program runs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ferric_machine::{PowerState, PowerTarget};
use tokio::time::{Instant, sleep};

use crate::error::DriverError;
use crate::interface::{NodeView, PowerInterface, Property, Result};
use crate::properties;
use crate::protocol::ipmi::command::{ChassisControl, GetChassisStatus};
use crate::protocol::ipmi::{IpmiClient, IpmiError, IpmiSettings, Quirks, Target};

/// The power interface `ipmitool`.
pub struct IpmitoolPower {
    client: Arc<IpmiClient>,
    settings: IpmiSettings,
}

impl IpmitoolPower {
    /// Uses `client` for every node.
    #[must_use]
    pub fn new(client: Arc<IpmiClient>, settings: IpmiSettings) -> Self {
        Self { client, settings }
    }

    async fn status(&self, target: &Target, within: Duration) -> Result<PowerState> {
        let status = self.client.run_within(target, GetChassisStatus, within).await;
        let status = status.map_err(|error| error.of(target, "the power status"))?;
        Ok(if status.power { PowerState::On } else { PowerState::Off })
    }

    fn left(&self, deadline: Instant) -> Duration {
        self.settings.command_timeout.min(deadline.saturating_duration_since(Instant::now()))
    }

    /// Asks for a change and waits until the BMC reports it. A BMC may fall silent meanwhile: that alone ends
    /// nothing before the deadline.
    async fn change(
        &self,
        target: &Target,
        control: ChassisControl,
        wanted: PowerState,
        deadline: Instant,
    ) -> Result<PowerState> {
        let begun = Instant::now();
        let sent = self.client.run_within(target, control, self.left(deadline)).await;
        match sent {
            Ok(()) => {}
            // it got there by itself meanwhile, or never will; the look below tells
            Err(IpmiError::Completion(code)) => {
                let quirks = self.client.quirks_within(target, self.left(deadline)).await;
                let quirks = quirks.unwrap_or_else(|_| Quirks::unasked(target));
                if !quirks.nothing_to_do(control, code) {
                    return Err(IpmiError::Completion(code).of(target, control.as_str()));
                }
            }
            Err(error) => return Err(error.of(target, control.as_str())),
        }
        loop {
            let left = self.left(deadline);
            let last = match self.status(target, left.max(self.settings.poll_interval)).await {
                Ok(state) if state == wanted => return Ok(state),
                Ok(state) => Ok(state),
                Err(error) if error.is_transient() => Err(error),
                Err(error) => return Err(error),
            };
            if deadline.saturating_duration_since(Instant::now()) <= self.settings.poll_interval {
                return Err(last
                    .err()
                    .unwrap_or_else(|| not_reached(target, control, wanted, begun.elapsed())));
            }
            sleep(self.settings.poll_interval).await;
        }
    }

    async fn restart(&self, target: &Target, first: ChassisControl, deadline: Instant) -> Result<PowerState> {
        if self.status(target, self.left(deadline)).await? != PowerState::Off {
            self.change(target, first, PowerState::Off, deadline).await?;
        }
        self.change(target, ChassisControl::On, PowerState::On, deadline).await
    }
}

fn not_reached(target: &Target, control: ChassisControl, wanted: PowerState, after: Duration) -> DriverError {
    let hint = match control {
        ChassisControl::Soft => "the operating system did not stop: use a hard power off",
        ChassisControl::Off
        | ChassisControl::On
        | ChassisControl::Cycle
        | ChassisControl::Reset
        | ChassisControl::Diag => "look at the event log of the BMC, or allow more time",
    };
    DriverError::Refused {
        what: target.name(),
        command: control.as_str().to_owned(),
        reason: format!("it does not report '{wanted}' after {} s; {hint}", after.as_secs_f32()),
    }
}

#[async_trait]
impl PowerInterface for IpmitoolPower {
    fn properties(&self) -> &'static [Property] {
        properties::IPMI
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        Target::from_node(node, &self.settings).map(drop)
    }

    fn supported(&self) -> &'static [PowerTarget] {
        PowerTarget::ALL
    }

    fn bmc(&self, node: &NodeView) -> Option<String> {
        Target::from_node(node, &self.settings).ok().map(|target| target.key())
    }

    async fn power_state(&self, node: &NodeView) -> Result<PowerState> {
        let target = Target::from_node(node, &self.settings)?;
        self.status(&target, self.settings.command_timeout).await
    }

    async fn glance(&self, node: &NodeView, within: Duration) -> Result<PowerState> {
        let target = Target::from_node(node, &self.settings)?;
        self.status(&target, self.settings.command_timeout.min(within)).await
    }

    /// A restart is off and on again, each waited for: what `cycle` did cannot be seen from outside.
    async fn set_power(&self, node: &NodeView, to: PowerTarget, within: Duration) -> Result<PowerState> {
        let target = Target::from_node(node, &self.settings)?;
        let deadline = Instant::now() + within;
        match to {
            PowerTarget::On => self.change(&target, ChassisControl::On, PowerState::On, deadline).await,
            PowerTarget::Off => self.change(&target, ChassisControl::Off, PowerState::Off, deadline).await,
            PowerTarget::SoftOff => {
                // BMCs refuse the button of a machine that is off
                if self.status(&target, self.left(deadline)).await? == PowerState::Off {
                    return Ok(PowerState::Off);
                }
                self.change(&target, ChassisControl::Soft, PowerState::Off, deadline).await
            }
            PowerTarget::Reboot => self.restart(&target, ChassisControl::Off, deadline).await,
            PowerTarget::SoftReboot => self.restart(&target, ChassisControl::Soft, deadline).await,
        }
    }
}
