//! RAID interface `agent`: software RAID, built and taken apart by the agent in the ramdisk (deploy.md §E).

use std::sync::Arc;

use async_trait::async_trait;
use ferric_machine::Activity;
use serde_json::{Value, json};

use crate::error::DriverError;
use crate::interface::{
    AgentSteps, Interface, Json, NodeView, RaidInterface, Result, Resume, Step, StepContext, StepOutcome,
    Steps,
};

/// Hands its steps to the agent, with the part of target_raid_config that was asked for. What came of it goes into
/// the node's raid_config.
pub struct AgentRaid;

/// The volumes that the arguments leave of what is wanted.
fn wanted(context: &StepContext) -> Result<Json> {
    let flag = |key: &str| context.step.args.get(key).and_then(Value::as_bool).unwrap_or(true);
    let (root, others) = (flag("create_root_volume"), flag("create_nonroot_volumes"));
    let mut config = context.node.target_raid_config.clone();
    let disks = config.get("logical_disks").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_root = |disk: &Value| disk.get("is_root_volume").and_then(Value::as_bool).unwrap_or(false);
    let left: Vec<Value> =
        disks.into_iter().filter(|disk| if is_root(disk) { root } else { others }).collect();
    if left.is_empty() {
        return Err(DriverError::Missing {
            section: "the node",
            key: "target_raid_config".into(),
            remedy: "set it to the logical disks that are wanted".into(),
        });
    }
    config.insert("logical_disks".into(), Value::Array(left));
    Ok(config)
}

/// The step as the agent gets it: arguments of ours are dealt with.
fn handed(context: &StepContext) -> Result<(Arc<dyn AgentSteps>, StepContext)> {
    let agent = context.bound.agent_steps.clone().ok_or_else(|| DriverError::Unsupported {
        interface: "agent".into(),
        what: format!("step {}", context.step.step),
    })?;
    let mut handed = context.clone();
    if context.step.step == "create_configuration" {
        let target_raid_config = wanted(context)?;
        handed.node = Arc::new(NodeView { target_raid_config, ..(*context.node).clone() });
        handed.step = Arc::new(Step { args: Json::new(), ..(*context.step).clone() });
    }
    Ok((agent, handed))
}

impl Interface for AgentRaid {
    fn validate(&self, node: &NodeView) -> Result<()> {
        self.validate_target(node)
    }
}

impl RaidInterface for AgentRaid {}

#[async_trait]
impl Steps for AgentRaid {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        let row = |name: &str, argsinfo: Value| {
            let Value::Object(argsinfo) = argsinfo else { unreachable!("argsinfo is written as an object") };
            Step { argsinfo, abortable: true, resume: Resume::Reattach, ..Step::new("raid", name, 0) }
        };
        let flag = |what: &str| json!({"description": what, "required": false});
        match activity {
            Activity::Clean | Activity::Service => vec![
                row(
                    "create_configuration",
                    json!({
                        "create_root_volume": flag("Whether the root volume is created; true if not given."),
                        "create_nonroot_volumes":
                            flag("Whether the other volumes are created; true if not given."),
                    }),
                ),
                row("delete_configuration", json!({})),
            ],
            Activity::Deploy => vec![row(
                "apply_configuration",
                json!({
                    "raid_config": {"description": "The RAID configuration to create.", "required": true},
                    "delete_existing": flag("Whether what is there is deleted first; true if not given."),
                }),
            )],
            Activity::Verify
            | Activity::TearDown
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        let (agent, context) = handed(context)?;
        agent.execute(&context).await
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        let (agent, context) = handed(context)?;
        agent.poll(&context).await
    }
}
