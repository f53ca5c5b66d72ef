//! Inspect interface `agent`: in-band, by the ramdisk.

use async_trait::async_trait;
use ferric_machine::{Activity, BootDevice, BootMode, PowerState, PowerTarget};
use serde_json::Value;

use super::INSPECT;
use super::hooks::{self, Hook};
use super::rules::{self, Rule};
use super::settings::InspectSettings;
use super::subject::Subject;
use crate::error::DriverError;
use crate::interface::{
    Found, Json, NodeView, Progress, Progressed, RamdiskPurpose, Result, Resume, Step, StepContext,
    StepOutcome, Steps,
};

/// The step that is planned when `POST /v1/continue_inspection` came.
pub const PROCESS: &str = "process";

/// What `inspect_hardware` leaves in the journal once the machine was started.
const STARTED: &str = "started";

/// `inspect_hardware` starts the ramdisk and waits; nothing but the arrival of the ramdisk's report ends it. Whoever
/// receives the report plans [`PROCESS`] with the arguments that [`process`] reads.
pub struct AgentInspect {
    settings: InspectSettings,
    hooks: Vec<Hook>,
}

impl AgentInspect {
    /// Errors: `Invalid` for hooks that do not exist or do not fit together.
    pub fn new(settings: InspectSettings) -> Result<AgentInspect> {
        let hooks = settings.hooks()?;
        Ok(AgentInspect { settings, hooks })
    }

    async fn start(&self, context: &StepContext) -> Result<StepOutcome> {
        let managed = match context.bound.boot.validate(&context.node) {
            Ok(()) => true,
            Err(DriverError::Missing { .. } | DriverError::MissingParameter { .. })
                if !self.settings.require_managed_boot =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        if context.asks.power_state().await? != PowerState::Off {
            context.asks.set_power(PowerTarget::Off).await?;
        }
        if managed {
            context.asks.boot_ramdisk(RamdiskPurpose::Inspect).await?;
        } else {
            self.start_unmanaged(context).await?;
        }
        Ok(waiting())
    }

    /// Whatever the network has for a machine that nobody knows yet is booted: the operator's inspection ramdisk.
    async fn start_unmanaged(&self, context: &StepContext) -> Result<()> {
        let mode = context.node.boot_mode(BootMode::Uefi);
        let management = &context.bound.management;
        management.set_boot_device(&context.node, BootDevice::Pxe, false, mode).await?;
        context.asks.set_power(PowerTarget::On).await.map(|_| ())
    }

    async fn process(&self, context: &StepContext) -> Result<StepOutcome> {
        let found = process(&self.settings, &self.hooks, &context.node, &context.step.args)?;
        if self.settings.power_off {
            context.asks.set_power(PowerTarget::Off).await?;
        }
        context.asks.clean_up_ramdisk().await?;
        Ok(StepOutcome::Found(Box::new(found)))
    }
}

/// Runs hooks and rules over what the ramdisk sent. Touches neither machine nor database.
///
/// `args`: `inventory` and `plugin_data` (objects; the rest of the body, `error` with it), `rules` (a list, as they are
/// stored), and what the node view lacks: `node` with `extra`, `traits`, `resource_class`, `description`, `raid_config`
/// as far as they are known, `ports` with `uuid`, `extra`, `local_link_connection`, `physical_network` of each, and
/// `previous_inventory`, the inventory of the inspection before.
///
/// Errors: `Inspection` in Ironic's words.
pub fn process(settings: &InspectSettings, hooks: &[Hook], node: &NodeView, args: &Json) -> Result<Found> {
    let mut subject = Subject::new(node, args);
    let before = subject.ports.clone();
    hooks::run(hooks, settings, &mut subject)?;
    let given = args.get("rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut all: Vec<Rule> = given.iter().map(Rule::from_value).collect::<Result<_>>()?;
    all.extend(settings.built_in_rules.iter().cloned());
    rules::apply(&all, settings.mask_secrets, &mut subject)?;
    subject.into_found(&before)
}

fn waiting() -> StepOutcome {
    StepOutcome::Wait(Progressed {
        progress: Progress { doing: "waiting for the ramdisk's report".into(), ..Progress::default() },
        checkpoint: Some(STARTED.into()),
    })
}

#[async_trait]
impl Steps for AgentInspect {
    fn requires_boot(&self) -> bool {
        self.settings.require_managed_boot
    }

    fn validate_for(&self, node: &NodeView, activity: Activity) -> Result<()> {
        let boots = node.ports.iter().any(|port| port.pxe_enabled);
        if activity == Activity::Inspect && self.settings.require_managed_boot && !boots {
            return Err(DriverError::Missing {
                section: "ports",
                key: "pxe_enabled".into(),
                remedy:
                    "in-band inspection boots a ramdisk over the network: create a port with pxe_enabled true"
                        .into(),
            });
        }
        Ok(())
    }

    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::Inspect => vec![Step {
                abortable: true,
                requires_ramdisk: false,
                resume: Resume::Reattach,
                ..Step::new("inspect", INSPECT, 0)
            }],
            Activity::Deploy
            | Activity::TearDown
            | Activity::Adopt
            | Activity::Verify
            | Activity::Clean
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            INSPECT => self.start(context).await,
            PROCESS => self.process(context).await,
            other => Err(DriverError::Unsupported {
                interface: "agent".into(),
                what: format!("inspection step {other}"),
            }),
        }
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        match (context.step.step.as_str(), context.checkpoint.as_deref()) {
            (INSPECT, Some(STARTED)) => Ok(waiting()),
            // it never came to its end, so the machine may not have been started
            (_, _) => self.execute(context).await,
        }
    }
}
