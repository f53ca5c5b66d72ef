//! A pretended agent: it offers two cleaning steps and carries them out when it is told that they are done.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use ferric_drivers::DriverError;
use ferric_drivers::interface::{
    AgentOffer, AgentSteps, DeployInterface, Json, NodeView, Progressed, Property, RamdiskPurpose, Resume,
    Step, StepContext, StepOutcome, StepSource, Steps,
};
use ferric_machine::Activity;

/// See the module.
#[derive(Default)]
pub(crate) struct Agent {
    /// Steps that were begun, not counting those that were only looked at again.
    pub(crate) begun: AtomicU32,
    /// Steps stay unfinished while this is set.
    pub(crate) slow: AtomicBool,
    /// The steps may not be interrupted.
    pub(crate) stubborn: bool,
    /// Steps fail with this.
    pub(crate) fail: Option<&'static str>,
}

impl Agent {
    fn step(&self, name: &str, priority: i32) -> Step {
        Step {
            abortable: !self.stubborn,
            resume: Resume::Reattach,
            source: StepSource::Agent,
            ..Step::new("deploy", name, priority)
        }
    }
}

#[async_trait]
impl Steps for Agent {
    fn steps(&self, _: &NodeView, _: Activity) -> Vec<Step> {
        Vec::new()
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome, DriverError> {
        if let Some(reason) = self.fail {
            let command = context.step.step.clone();
            return Err(DriverError::AgentCommand { command, reason: reason.into() });
        }
        if context.checkpoint.is_none() {
            self.begun.fetch_add(1, Ordering::SeqCst);
        }
        Ok(StepOutcome::Wait(Progressed { checkpoint: Some("command".into()), ..Progressed::default() }))
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome, DriverError> {
        if self.slow.load(Ordering::SeqCst) {
            let checkpoint = context.checkpoint.clone();
            return Ok(StepOutcome::Wait(Progressed { checkpoint, ..Progressed::default() }));
        }
        Ok(StepOutcome::Done)
    }
}

#[async_trait]
impl AgentSteps for Agent {
    async fn offer(&self, context: &StepContext) -> Result<AgentOffer, DriverError> {
        let steps = match context.activity {
            Activity::Clean | Activity::Service => {
                vec![self.step("erase_devices", 10), self.step("erase_devices_metadata", 99)]
            }
            Activity::Verify
            | Activity::Deploy
            | Activity::TearDown
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue => Vec::new(),
        };
        Ok(AgentOffer { steps, ..AgentOffer::default() })
    }
}

/// Rescuing and inspecting that need nothing but a ramdisk.
pub(crate) struct Ramdisks;

#[async_trait]
impl Steps for Ramdisks {
    fn steps(&self, _: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::Inspect => vec![Step::new("inspect", "inspect_hardware", 0)],
            Activity::Rescue => vec![Step::new("rescue", "rescue", 0)],
            Activity::Unrescue => vec![Step::new("rescue", "unrescue", 0)],
            Activity::Verify
            | Activity::Deploy
            | Activity::TearDown
            | Activity::Clean
            | Activity::Adopt
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome, DriverError> {
        match context.step.step.as_str() {
            "inspect_hardware" => context.asks.boot_ramdisk(RamdiskPurpose::Inspect).await?,
            "rescue" => context.asks.boot_ramdisk(RamdiskPurpose::Rescue).await?,
            "process" => {
                let inventory = context.step.args.get("inventory").and_then(|value| value.as_object());
                let name = inventory.and_then(|inventory| inventory.get("name")?.as_str().map(str::to_owned));
                let found = ferric_drivers::interface::Found {
                    node: name
                        .map(|name| ferric_drivers::interface::NodeChange::Name(Some(name)))
                        .into_iter()
                        .collect(),
                    inventory: Some((inventory.cloned().unwrap_or_default(), Default::default())),
                    ports: vec![ferric_drivers::interface::FoundPort {
                        address: "52:54:00:00:00:01".into(),
                        pxe_enabled: true,
                        ..Default::default()
                    }],
                    ..Default::default()
                };
                return Ok(StepOutcome::Found(Box::new(found)));
            }
            _ => return Ok(StepOutcome::Done),
        }
        Ok(StepOutcome::Wait(Progressed::default()))
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome, DriverError> {
        match context.step.step.as_str() {
            "inspect_hardware" => Ok(StepOutcome::Wait(Progressed::default())),
            _ => Ok(StepOutcome::Done),
        }
    }
}

/// A deploy interface of which only the ramdisk matters.
pub(crate) struct WithRamdisk;

#[async_trait]
impl Steps for WithRamdisk {
    fn steps(&self, _: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::TearDown => vec![Step::new("deploy", "tear_down", 0)],
            Activity::Adopt => vec![Step::new("deploy", "take_over", 0)],
            Activity::Deploy => vec![Step::new("deploy", "deploy", 100)],
            Activity::Verify
            | Activity::Clean
            | Activity::Inspect
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, _: &StepContext) -> Result<StepOutcome, DriverError> {
        Ok(StepOutcome::Done)
    }

    async fn poll(&self, _: &StepContext) -> Result<StepOutcome, DriverError> {
        Ok(StepOutcome::Done)
    }
}

#[async_trait]
impl DeployInterface for WithRamdisk {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<(), DriverError> {
        Ok(())
    }

    async fn prepare(&self, _: &NodeView) -> Result<Json, DriverError> {
        Ok(Json::new())
    }

    async fn clean_up(&self, _: &StepContext) -> Result<(), DriverError> {
        Ok(())
    }
}

/// A deploy interface whose second step is an installer's: its token is older than its boot, and it has no address.
pub(crate) struct Installer;

#[async_trait]
impl Steps for Installer {
    fn steps(&self, _: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::Deploy => vec![
                Step::new("deploy", "prepare_installer", 110),
                Step { requires_ramdisk: false, ..Step::new("deploy", "deploy", 100) },
            ],
            Activity::TearDown
            | Activity::Adopt
            | Activity::Verify
            | Activity::Clean
            | Activity::Inspect
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome, DriverError> {
        if context.step.step == "prepare_installer" {
            let mut keep = Json::new();
            keep.insert("agent_secret_token".into(), "given before".into());
            keep.insert("agent_secret_token_pregenerated".into(), true.into());
            let found = ferric_drivers::interface::Found { keep, ..Default::default() };
            return Ok(StepOutcome::Found(Box::new(found)));
        }
        context.asks.set_power(ferric_machine::PowerTarget::On).await?;
        Ok(StepOutcome::Wait(Progressed::default()))
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome, DriverError> {
        let status = context.node.driver_internal_info.get("agent_status").and_then(|status| status.as_str());
        Ok(if status == Some("end") { StepOutcome::Done } else { StepOutcome::Wait(Progressed::default()) })
    }
}

#[async_trait]
impl DeployInterface for Installer {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<(), DriverError> {
        Ok(())
    }

    async fn prepare(&self, _: &NodeView) -> Result<Json, DriverError> {
        Ok(Json::new())
    }

    async fn clean_up(&self, _: &StepContext) -> Result<(), DriverError> {
        Ok(())
    }
}
