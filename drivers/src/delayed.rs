//! Interfaces that take their time: `[fake] <kind>_delay` lets machines that do not exist be as slow as real ones.

use std::time::Duration;

use async_trait::async_trait;
use ferric_machine::{Activity, BootDevice, BootMode, PowerState, PowerTarget};
use serde_json::Value;

use crate::interface::{
    BootInterface, DeployInterface, DriverError, IndicatorState, Indicators, InstanceBoot, Interface, Json,
    ManagementInterface, NodeView, PowerInterface, Property, RamdiskParams, RamdiskPurpose, Result, Step,
    StepContext, StepOutcome, Steps, VendorInterface, VendorMethod,
};

/// How long something takes: always the same, or by chance between two times, rather near the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// At the least.
    pub from: Duration,
    /// At the most.
    pub to: Duration,
}

impl Delay {
    /// The time for `chance`, which is from 0 to 1. The distribution is a triangle that falls from `from` to `to`.
    #[must_use]
    pub fn at(self, chance: f64) -> Duration {
        let span = self.to.saturating_sub(self.from);
        self.from + span.mul_f64(1.0 - chance.clamp(0.0, 1.0).sqrt())
    }

    /// Lets the time pass.
    pub async fn pass(self) {
        let time = if self.from == self.to { self.from } else { self.at(chance()) };
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    // without a source of chance every delay is the middling one
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

/// What `inner` does, later.
pub struct Delayed<T> {
    inner: T,
    delay: Delay,
}

impl<T> Delayed<T> {
    /// `inner`, with `delay` before everything it does.
    pub const fn new(inner: T, delay: Delay) -> Delayed<T> {
        Delayed { inner, delay }
    }
}

#[async_trait]
impl<T: PowerInterface> PowerInterface for Delayed<T> {
    fn properties(&self) -> &'static [Property] {
        self.inner.properties()
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        self.inner.validate(node)
    }

    fn supported(&self) -> &'static [PowerTarget] {
        self.inner.supported()
    }

    fn is_imaginary(&self) -> bool {
        self.inner.is_imaginary()
    }

    fn bmc(&self, node: &NodeView) -> Option<String> {
        self.inner.bmc(node)
    }

    async fn power_state(&self, node: &NodeView) -> Result<PowerState> {
        self.delay.pass().await;
        self.inner.power_state(node).await
    }

    async fn set_power(&self, node: &NodeView, to: PowerTarget, within: Duration) -> Result<PowerState> {
        self.delay.pass().await;
        self.inner.set_power(node, to, within).await
    }
}

#[async_trait]
impl<T: BootInterface> BootInterface for Delayed<T> {
    fn properties(&self) -> &'static [Property] {
        self.inner.properties()
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        self.inner.validate(node)
    }

    fn validate_ramdisk(&self, node: &NodeView, purpose: RamdiskPurpose) -> Result<()> {
        self.inner.validate_ramdisk(node, purpose)
    }

    fn ramdisk_device(&self) -> BootDevice {
        self.inner.ramdisk_device()
    }

    async fn prepare_ramdisk(&self, node: &NodeView, params: &RamdiskParams) -> Result<()> {
        self.delay.pass().await;
        self.inner.prepare_ramdisk(node, params).await
    }

    async fn clean_up_ramdisk(&self, node: &NodeView) -> Result<()> {
        self.delay.pass().await;
        self.inner.clean_up_ramdisk(node).await
    }

    async fn prepare_instance(&self, node: &NodeView, boot: &InstanceBoot, mode: BootMode) -> Result<()> {
        self.delay.pass().await;
        self.inner.prepare_instance(node, boot, mode).await
    }
}

#[async_trait]
impl<T: Steps> Steps for Delayed<T> {
    fn validate_for(&self, node: &NodeView, activity: Activity) -> Result<()> {
        self.inner.validate_for(node, activity)
    }

    fn steps(&self, node: &NodeView, activity: Activity) -> Vec<Step> {
        self.inner.steps(node, activity)
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        self.delay.pass().await;
        self.inner.execute(context).await
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        self.inner.poll(context).await
    }

    fn can_abort(&self) -> bool {
        self.inner.can_abort()
    }
}

#[async_trait]
impl<T: DeployInterface> DeployInterface for Delayed<T> {
    fn properties(&self) -> &'static [Property] {
        self.inner.properties()
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        self.inner.validate(node)
    }

    fn needs_boot(&self) -> bool {
        self.inner.needs_boot()
    }

    fn uses_agent(&self, node: &NodeView, activity: Activity) -> bool {
        self.inner.uses_agent(node, activity)
    }

    async fn prepare(&self, node: &NodeView) -> Result<Json> {
        self.delay.pass().await;
        self.inner.prepare(node).await
    }

    async fn forget(&self, node: &NodeView) -> Result<()> {
        self.inner.forget(node).await
    }

    async fn clean_up(&self, context: &StepContext) -> Result<()> {
        self.delay.pass().await;
        self.inner.clean_up(context).await
    }
}

impl<T: Interface> Interface for Delayed<T> {
    fn properties(&self) -> &'static [Property] {
        self.inner.properties()
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        self.inner.validate(node)
    }
}

#[async_trait]
impl<T: VendorInterface> VendorInterface for Delayed<T> {
    fn methods(&self) -> &'static [VendorMethod] {
        self.inner.methods()
    }

    fn validate_call(&self, node: &NodeView, method: &VendorMethod, args: &Json) -> Result<()> {
        self.inner.validate_call(node, method, args)
    }

    async fn call(&self, node: &NodeView, method: &VendorMethod, http: &str, args: &Json) -> Result<Value> {
        self.delay.pass().await;
        self.inner.call(node, method, http, args).await
    }

    async fn driver_call(&self, method: &VendorMethod, http: &str, args: &Json) -> Result<Value> {
        self.delay.pass().await;
        self.inner.driver_call(method, http, args).await
    }
}

/// Of a management interface: boot devices and lights, which are what the fake one has.
#[async_trait]
impl<T: ManagementInterface> ManagementInterface for Delayed<T> {
    fn properties(&self) -> &'static [Property] {
        self.inner.properties()
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        self.inner.validate(node)
    }

    fn supported_boot_devices(&self) -> &'static [BootDevice] {
        self.inner.supported_boot_devices()
    }

    fn refused_boot_device(&self, device: &str) -> DriverError {
        self.inner.refused_boot_device(device)
    }

    async fn boot_device(&self, node: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)> {
        self.delay.pass().await;
        self.inner.boot_device(node).await
    }

    async fn set_boot_device(
        &self,
        node: &NodeView,
        device: BootDevice,
        persistent: bool,
        mode: BootMode,
    ) -> Result<()> {
        self.delay.pass().await;
        self.inner.set_boot_device(node, device, persistent, mode).await
    }

    async fn indicators(&self, node: &NodeView, component: Option<&str>) -> Result<Indicators> {
        self.delay.pass().await;
        self.inner.indicators(node, component).await
    }

    async fn indicator(&self, node: &NodeView, component: &str, indicator: &str) -> Result<IndicatorState> {
        self.delay.pass().await;
        self.inner.indicator(node, component, indicator).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Delay;

    #[test]
    fn a_delay_by_chance_is_within_its_range_and_more_often_short() {
        let delay = Delay { from: Duration::from_secs(2), to: Duration::from_secs(6) };
        assert_eq!(delay.at(1.0), Duration::from_secs(2));
        assert_eq!(delay.at(0.0), Duration::from_secs(6));
        let short =
            (0_u32..=100).filter(|n| delay.at(f64::from(*n) / 100.0) < Duration::from_secs(4)).count();
        assert!(short > 70, "{short} of 101");
    }
}
