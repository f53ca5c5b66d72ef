//! Rescue interface `agent`: the rescue ramdisk is booted, its agent sets the password and leaves (deploy.md §E).

use async_trait::async_trait;
use ferric_agent_wire::{FinalizeRescueParams, Secret, names};
use ferric_machine::{Activity, PowerTarget};
use serde_json::Value;

use crate::error::DriverError;
use crate::flow::prepare_instance;
use crate::interface::{
    AgentHandle, Found, Interface, Json, NodeChange, NodeView, Progress, Progressed, RamdiskPurpose, Result,
    Resume, Step, StepContext, StepOutcome, Steps,
};
use crate::protocol::agent::AgentClient;

const PASSWORD: &str = "rescue_password";
const HASHED: &str = "hashed_rescue_password";

/// After a restart of the process, so many calls to an agent that is gone mean that it got the password before.
const GONE_AFTER: u32 = 3;

/// See the module.
pub struct AgentRescue {
    agents: AgentClient,
}

impl AgentRescue {
    /// `agents` is shared with whoever else talks to agents.
    #[must_use]
    pub fn new(agents: AgentClient) -> AgentRescue {
        AgentRescue { agents }
    }

    async fn finalize(&self, context: &StepContext) -> Result<StepOutcome> {
        let Some(agent) = &context.agent else { return Ok(wait("waiting for the ramdisk", context)) };
        match self.set_password(agent, &context.node).await {
            Ok(()) => {}
            Err(error @ DriverError::Unreachable { .. }) => {
                // the agent leaves once it has the password: one that was told before the restart is gone by now
                let tries: u32 = context.checkpoint.as_deref().and_then(|n| n.parse().ok()).unwrap_or(0);
                if !context.resumed && context.checkpoint.is_none() {
                    return Err(error);
                }
                if tries < GONE_AFTER {
                    let progress =
                        Progress { doing: "calling the agent again".into(), ..Progress::default() };
                    let checkpoint = Some((tries + 1).to_string());
                    return Ok(StepOutcome::Wait(Progressed { progress, checkpoint }));
                }
                tracing::warn!(node = %context.node.uuid,
                    "the agent has gone while this process was restarted; it is taken to have set the password");
            }
            Err(error) => return Err(error),
        }
        prepare_instance(context).await?;
        Ok(without_password(context))
    }

    async fn set_password(&self, agent: &AgentHandle, node: &NodeView) -> Result<()> {
        let hash = node.instance_str(HASHED);
        let secret = hash.or(node.instance_str(PASSWORD)).ok_or_else(|| missing(node))?;
        let params = FinalizeRescueParams { rescue_password: Secret::new(secret), hashed: hash.is_some() };
        let Ok(Value::Object(params)) = serde_json::to_value(params) else {
            unreachable!("a struct of strings serialises to an object")
        };
        self.agents.start(agent, names::FINALIZE_RESCUE, params, true).await.map(|_| ())
    }
}

fn missing(node: &NodeView) -> DriverError {
    DriverError::MissingParameter {
        reason: format!(
            "Node {} is missing 'instance_info/rescue_password'. It is required for rescuing node.",
            node.uuid
        ),
    }
}

fn wait(doing: &str, context: &StepContext) -> StepOutcome {
    let progress = Progress { doing: doing.to_owned(), ..Progress::default() };
    StepOutcome::Wait(Progressed { progress, checkpoint: context.checkpoint.clone() })
}

/// Done, and the rescue password leaves the node.
pub(crate) fn without_password(context: &StepContext) -> StepOutcome {
    let instance: &Json = &context.node.instance_info;
    if !instance.contains_key(PASSWORD) && !instance.contains_key(HASHED) {
        return StepOutcome::Done;
    }
    let mut instance = instance.clone();
    instance.remove(PASSWORD);
    instance.remove(HASHED);
    let node = vec![NodeChange::InstanceInfo(instance)];
    StepOutcome::Found(Box::new(Found { node, ..Found::default() }))
}

/// A password was given with the request.
pub(crate) fn has_password(node: &NodeView) -> Result<()> {
    node.instance_str(HASHED).or(node.instance_str(PASSWORD)).map(|_| ()).ok_or_else(|| missing(node))
}

impl Interface for AgentRescue {
    fn validate(&self, node: &NodeView) -> Result<()> {
        has_password(node)
    }
}

#[async_trait]
impl Steps for AgentRescue {
    fn validate_for(&self, node: &NodeView, activity: Activity) -> Result<()> {
        if activity == Activity::Rescue { has_password(node) } else { Ok(()) }
    }

    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        let row = |step: &str, abortable, resume| Step { abortable, resume, ..Step::new("rescue", step, 0) };
        match activity {
            Activity::Rescue => {
                vec![row("rescue", true, Resume::Rerun), row("finalize", true, Resume::Rerun)]
            }
            Activity::Unrescue => {
                vec![Step { requires_ramdisk: false, ..row("unrescue", false, Resume::Rerun) }]
            }
            Activity::Verify
            | Activity::Deploy
            | Activity::TearDown
            | Activity::Clean
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            "rescue" => {
                context.asks.boot_ramdisk(RamdiskPurpose::Rescue).await?;
                Ok(wait("waiting for the rescue ramdisk", context))
            }
            "finalize" => match self.finalize(context).await {
                Err(error) if error.is_transient() => Ok(wait("calling the agent again", context)),
                other => other,
            },
            "unrescue" => {
                context.asks.set_power(PowerTarget::Off).await?;
                prepare_instance(context).await?;
                context.asks.set_power(PowerTarget::On).await?;
                Ok(without_password(context))
            }
            other => {
                Err(DriverError::Unsupported { interface: "agent".into(), what: format!("step {other}") })
            }
        }
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            "rescue" if context.agent.is_some() => Ok(StepOutcome::Done),
            "rescue" => Ok(wait("waiting for the rescue ramdisk", context)),
            "finalize" => self.finalize(context).await,
            other => Err(DriverError::Unsupported {
                interface: "agent".into(),
                what: format!("waiting in {other}"),
            }),
        }
    }
}
