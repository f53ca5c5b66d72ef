//! Which steps a piece of work consists of, and the parts of it that the conductor does itself (states.md §2–§4,
//! deploy.md §B, §D).
//!
//! Every operation (deploy, tear down, clean, inspect, rescue, unrescue, adopt, service, verify, and the cleaning-up
//! after a failure) is one list of steps. The node's actor writes the list into its journal and runs it, one step
//! after the other; it knows nothing of what the steps do. [`Flow::plan`] makes the list, [`Flow::execute`] and
//! [`Flow::poll`] carry a step out: by the conductor itself, by an interface of the node, or by its agent.

mod collect;
mod conductor;
mod logs;
mod plan;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use ferric_machine::Activity;
use serde::{Deserialize, Serialize};

use crate::error::DriverError;
use crate::interface::{
    Json, Kind, NodeView, Progress, Progressed, Result, Step, StepContext, StepOutcome, StepSource, Steps,
};
use crate::registry::Bound;

pub(crate) use conductor::prepare_instance;

/// `[conductor]`, `[deploy]` and `[agent]` options that decide what work consists of.
#[derive(Clone, Debug)]
pub struct FlowSettings {
    /// `[conductor] clean_step_priority_override` and `[deploy] erase_devices_priority`,
    /// `erase_devices_metadata_priority`: `interface.step` → priority.
    pub clean_priorities: BTreeMap<String, i32>,
    /// `[conductor] verify_step_priority_override`.
    pub verify_priorities: BTreeMap<String, i32>,
    /// `[conductor] poweroff_in_cleanfail`.
    pub power_off_after_clean_failure: bool,
    /// `[conductor] poweroff_in_servicefail`.
    pub power_off_after_service_failure: bool,
    /// `[agent] deploy_logs_collect` and where the logs go; `None` is never.
    pub logs: Option<LogCollection>,
    /// Between two looks at something that is awaited.
    pub poll_interval: Duration,
}

/// When the ramdisk's logs are collected, and where to.
#[derive(Clone, Debug)]
pub struct LogCollection {
    /// Also after success (`always`), not only `on_failure`.
    pub always: bool,
    /// `[agent] deploy_logs_local_path`.
    pub folder: std::path::PathBuf,
}

impl Default for FlowSettings {
    fn default() -> Self {
        FlowSettings {
            clean_priorities: BTreeMap::new(),
            verify_priorities: BTreeMap::new(),
            power_off_after_clean_failure: false,
            power_off_after_service_failure: false,
            logs: None,
            poll_interval: Duration::from_millis(500),
        }
    }
}

/// A step as a client, a runbook or a deploy template asks for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// Its interface; empty for the reserved steps.
    pub interface: String,
    /// Its name.
    pub step: String,
    /// Its arguments; may hold secrets.
    pub args: Json,
    /// Its priority, for deploy templates and deploy_steps.
    pub priority: Option<i32>,
    /// Run on the node's children instead of the node itself.
    pub execute_on_child_nodes: bool,
    /// Only on these children (ids or names); empty is all.
    pub limit_child_node_execution: Vec<String>,
}

/// What is to be done with a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The kind of work.
    pub activity: Activity,
    /// The steps asked for: manual cleaning and service (in this order), deploy_steps and templates (by priority).
    #[serde(default)]
    pub steps: Vec<Asked>,
    /// Cleaning by itself, with every enabled step.
    #[serde(default)]
    pub automated: bool,
    /// Steps that need no ramdisk only, and none is booted.
    #[serde(default)]
    pub disable_ramdisk: bool,
}

impl Order {
    /// Work of this kind with nothing particular about it.
    #[must_use]
    pub fn new(activity: Activity) -> Order {
        Order { activity, steps: Vec::new(), automated: activity == Activity::Clean, disable_ramdisk: false }
    }
}

/// How the work ended that is to be cleaned up after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// By itself, badly; time-outs too.
    Failed,
    /// By an operator's abort.
    Aborted,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    settings: FlowSettings,
}

impl Flow {
    /// The one flow of this process.
    #[must_use]
    pub fn new(settings: FlowSettings) -> Flow {
        Flow { settings }
    }

    /// Checks the node's fields and the steps asked for, as far as they are known without its agent, without touching
    /// the network. The text of the error goes to the client (400).
    pub fn validate(&self, node: &NodeView, bound: &Bound, order: &Order) -> Result<()> {
        plan::validate(node, bound, order)
    }

    /// The steps of the work, in order. What only the agent can tell is planned later, by a step of its own.
    #[must_use]
    pub fn plan(&self, node: &NodeView, bound: &Bound, order: &Order) -> Vec<Step> {
        plan::plan(&self.settings, node, bound, order)
    }

    /// What is to be done after work that did not come to its end.
    #[must_use]
    pub fn clean_up(&self, activity: Activity, ending: Ending) -> Vec<Step> {
        let mut step = Step::conductor("clean_up");
        step.args.insert("of".into(), serde_json::json!(activity));
        step.args.insert("ending".into(), serde_json::json!(ending));
        vec![step]
    }

    /// Runs the step of `context`.
    pub async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        if context.step.step == "tear_down_agent" {
            // after this step there is nobody left to ask
            logs::collect_always(&self.settings, context).await;
        }
        let outcome = match context.step.source {
            StepSource::Conductor => conductor::execute(&self.settings, context).await,
            StepSource::Interface => carrier(context)?.execute(context).await,
            StepSource::Agent => agent(context)?.execute(context).await,
        };
        logs::collect_on_failure(&self.settings, context, &outcome).await;
        outcome
    }

    /// Looks at the step of `context`, which waits or was under way.
    pub async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        let outcome = match context.step.source {
            StepSource::Conductor => conductor::poll(&self.settings, context).await,
            StepSource::Interface => carrier(context)?.poll(context).await,
            StepSource::Agent => agent(context)?.poll(context).await,
        };
        logs::collect_on_failure(&self.settings, context, &outcome).await;
        outcome
    }
}

fn carrier(context: &StepContext) -> Result<std::sync::Arc<dyn Steps>> {
    let kind: Option<Kind> = context.step.interface.parse().ok();
    kind.and_then(|kind| context.bound.steps_of(kind)).ok_or_else(|| DriverError::Unsupported {
        interface: context.step.interface.clone(),
        what: format!("step {}", context.step.step),
    })
}

fn agent(context: &StepContext) -> Result<std::sync::Arc<dyn crate::interface::AgentSteps>> {
    context.bound.agent_steps.clone().ok_or_else(|| DriverError::Unsupported {
        interface: "agent".into(),
        what: format!("step {}", context.step.step),
    })
}

/// The hidden step that boots the ramdisk and waits for its agent.
fn boot_ramdisk() -> Step {
    Step { requires_ramdisk: true, abortable: true, ..Step::conductor("boot_ramdisk") }
}

fn waiting(doing: &str) -> StepOutcome {
    let progress = Progress { doing: doing.to_owned(), ..Progress::default() };
    StepOutcome::Wait(Progressed { progress, checkpoint: None })
}

/// The time as Ironic writes it into driver_internal_info: `2026-11-22 20:30:00.000000`, UTC.
pub(crate) fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    written(since)
}

/// `since` the beginning of 1970, as date and time.
fn written(since: Duration) -> String {
    let (days, rest) = (since.as_secs() / 86400, since.as_secs() % 86400);
    // years that begin in March, in eras of 400: the day of the leap year comes last
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")
}
