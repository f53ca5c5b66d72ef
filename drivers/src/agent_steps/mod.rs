//! The steps that agents carry out (deploy.md §B.3, §B.12): asked for, started, watched, and found again after a
//! restart of either side without running twice.

mod shown;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine;
use ferric_agent_wire::{Command, CommandStatus, Step as WireStep, SystemLogs, WritePhase, names};
use ferric_machine::Activity;
use serde_json::{Value, json};

pub use shown::EraseSettings;
pub(crate) use shown::{node as shown_node, ports as shown_ports};

use crate::error::DriverError;
use crate::interface::{
    AgentHandle, AgentOffer, AgentSteps, Found, Json, NodeChange, NodeView, Progress, Progressed, Result,
    Resume, Step, StepContext, StepOutcome, StepSource, Steps,
};
use crate::protocol::agent::{AgentClient, worded};

/// Key of driver_internal_info: the versions of the agent's hardware managers when it was last asked.
pub(crate) const VERSION: &str = "hardware_manager_version";

/// See the module.
pub struct AgentStepRunner {
    agents: AgentClient,
    erase: EraseSettings,
}

/// How the commands of one kind of work are called.
struct Words {
    /// Begins the error texts: `clean`.
    kind: &'static str,
    get: &'static str,
    execute: &'static str,
}

impl Words {
    fn of(activity: Activity) -> Result<Words> {
        let (kind, get, execute) = match activity {
            Activity::Clean => ("clean", names::GET_CLEAN_STEPS, names::EXECUTE_CLEAN_STEP),
            Activity::Deploy => ("deploy", names::GET_DEPLOY_STEPS, names::EXECUTE_DEPLOY_STEP),
            Activity::Service => ("service", names::GET_SERVICE_STEPS, names::EXECUTE_SERVICE_STEP),
            Activity::Verify
            | Activity::TearDown
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue => {
                return Err(DriverError::Unsupported {
                    interface: "agent".into(),
                    what: format!("steps for the work '{activity}'"),
                });
            }
        };
        Ok(Words { kind, get, execute })
    }

    /// `execute` as it stands in the agent's list.
    fn short(&self) -> &'static str {
        self.execute.rsplit('.').next().unwrap_or_default()
    }
}

/// What the agent's list tells of a step.
enum Look {
    /// This is it.
    Ours(Command),
    /// One runs, and it does not say yet which step it is.
    Unsure(Command),
    /// It was never started, as far as this agent knows.
    NotStarted,
    /// It was started, and the agent does not know it any more: it was started anew itself.
    Forgotten,
}

/// What is left in the journal: the command's id, and the versions of hardware managers that differ from those known
/// when the steps were collected.
#[derive(Clone, Debug, Default, PartialEq)]
struct Mark {
    id: String,
    version: Option<Json>,
}

impl Mark {
    fn read(text: Option<&str>) -> Option<Mark> {
        let (id, version) = text?.split_once(' ').unwrap_or((text?, ""));
        Some(Mark { id: id.to_owned(), version: serde_json::from_str(version).ok() })
    }

    fn write(&self) -> String {
        match &self.version {
            Some(version) => format!("{} {}", self.id, Value::Object(version.clone())),
            None => self.id.clone(),
        }
    }
}

impl AgentStepRunner {
    /// `agents` is shared with whoever else talks to agents.
    #[must_use]
    pub fn new(agents: AgentClient, erase: EraseSettings) -> AgentStepRunner {
        AgentStepRunner { agents, erase }
    }

    fn params(&self, context: &StepContext) -> Json {
        let mut params = Json::new();
        params.insert("node".into(), Value::Object(shown_node(&context.node, &self.erase)));
        params.insert("ports".into(), shown_ports(&context.node));
        params
    }

    /// Starts the step. An agent whose hardware managers changed since is asked once what it can do now.
    async fn start(
        &self,
        agent: &AgentHandle,
        context: &StepContext,
        version: Option<Json>,
    ) -> Result<StepOutcome> {
        let words = Words::of(context.activity)?;
        let known = context.node.driver_internal_info.get(VERSION).cloned().unwrap_or_else(|| json!({}));
        let mut params = self.params(context);
        params.insert("step".into(), wire_step(&context.step));
        let sent = version.clone().map_or(known, Value::Object);
        params.insert(format!("{}_version", words.kind), sent);
        let command = self.agents.start(agent, words.execute, params, false).await?;
        self.judge(agent, context, &command, version).await
    }

    /// Asks again what the agent can do, and starts the step with what it is now.
    async fn start_anew(&self, agent: &AgentHandle, context: &StepContext) -> Result<StepOutcome> {
        let offer = self.offer(context).await?;
        let wanted = |step: &Step| step.interface == context.step.interface && step.step == context.step.step;
        if !offer.steps.iter().any(wanted) {
            return Err(DriverError::AgentCommand {
                command: format!("{}.{}", context.step.interface, context.step.step),
                reason: "the agent's hardware managers changed, and this step is not among theirs any more"
                    .into(),
            });
        }
        Box::pin(self.start(agent, context, Some(offer.version))).await
    }

    async fn look(&self, agent: &AgentHandle, context: &StepContext) -> Result<Look> {
        let words = Words::of(context.activity)?;
        let mut all = self.agents.list(agent).await?;
        if let Some(mark) = Mark::read(context.checkpoint.as_deref()) {
            let Some(at) = all.iter().position(|command| command.id == mark.id) else {
                return Ok(Look::Forgotten);
            };
            let again = |command: &Command| command.command_name == words.short();
            let refused = all[at].command_status == CommandStatus::CleanVersionMismatch;
            if !refused || !all[at + 1..].iter().any(again) {
                return Ok(Look::Ours(all.swap_remove(at)));
            }
            // it was started again, and that answer got lost
            all.drain(..=at);
        }
        let last = all.into_iter().rev().find(|command| command.command_name == words.short());
        let Some(last) = last else { return Ok(Look::NotStarted) };
        let echo = last.command_result.as_ref().and_then(|result| result.get(format!("{}_step", words.kind)));
        Ok(match (echo, last.command_status) {
            (Some(echo), _) if is_echo_of(echo, &context.step) => Look::Ours(last),
            (Some(_), _) => Look::NotStarted,
            (None, CommandStatus::Running) => Look::Unsure(last),
            // work ends with its first failure: one that does not say whose it is can only be this step's
            (None, CommandStatus::Failed | CommandStatus::CleanVersionMismatch) => Look::Ours(last),
            (None, CommandStatus::Succeeded) => Look::NotStarted,
        })
    }

    async fn go_on(&self, agent: &AgentHandle, context: &StepContext) -> Result<StepOutcome> {
        let version = Mark::read(context.checkpoint.as_deref()).and_then(|mark| mark.version);
        match self.look(agent, context).await? {
            Look::Ours(command) => self.judge(agent, context, &command, version).await,
            Look::Unsure(command) => {
                Ok(StepOutcome::Wait(Progressed { progress: progress(context, &command), checkpoint: None }))
            }
            Look::NotStarted => self.start(agent, context, version).await,
            Look::Forgotten if may_run_again(&context.step) => {
                tracing::warn!(node = %context.node.uuid, step = %context.step.step,
                    "the agent was started anew and has forgotten the step; it is begun again");
                self.start(agent, context, version).await
            }
            Look::Forgotten => Err(DriverError::AgentCommand {
                command: format!("{}.{}", context.step.interface, context.step.step),
                reason: "the machine was restarted during it, and running it twice may do harm; look at the \
                         machine, then begin again"
                    .into(),
            }),
        }
    }

    async fn judge(
        &self,
        agent: &AgentHandle,
        context: &StepContext,
        command: &Command,
        version: Option<Json>,
    ) -> Result<StepOutcome> {
        let name = || format!("{}.{}", context.step.interface, context.step.step);
        match command.command_status {
            CommandStatus::Succeeded => Ok(done(context, command, version)),
            CommandStatus::Running => Ok(StepOutcome::Wait(Progressed {
                progress: progress(context, command),
                checkpoint: Some(Mark { id: command.id.clone(), version }.write()),
            })),
            CommandStatus::Failed => {
                let reason =
                    command.command_error.as_ref().map_or_else(|| "no reason given".to_owned(), worded);
                Err(DriverError::AgentCommand { command: name(), reason })
            }
            CommandStatus::CleanVersionMismatch if version.is_none() => self.start_anew(agent, context).await,
            CommandStatus::CleanVersionMismatch => Err(DriverError::AgentCommand {
                command: name(),
                reason: "the agent's hardware managers keep changing; look at the ramdisk's log".into(),
            }),
        }
    }
}

/// The step as the agent is told it, and tells it back.
fn wire_step(step: &Step) -> Value {
    let mut wire = json!({
        "interface": step.interface,
        "step": step.step,
        "priority": step.priority,
        "abortable": step.abortable,
        "requires_ramdisk": step.requires_ramdisk,
    });
    if !step.args.is_empty() {
        wire["args"] = Value::Object(step.args.clone());
    }
    wire
}

fn is_echo_of(echo: &Value, step: &Step) -> bool {
    let Ok(echo) = serde_json::from_value::<WireStep>(echo.clone()) else { return false };
    echo.interface == step.interface
        && echo.step == step.step
        && echo.priority == i64::from(step.priority)
        && echo.args == step.args
}

/// Whether a step that was cut short by a restart of the machine may simply be begun again.
fn may_run_again(step: &Step) -> bool {
    // half a RAID is not begun anew without a look
    if step.interface == "raid" {
        return false;
    }
    step.abortable || step.step.starts_with("erase_") || step.step.starts_with("burnin_")
}

fn progress(context: &StepContext, command: &Command) -> Progress {
    let written = command.progress();
    let doing = match written.map(|progress| progress.phase) {
        Some(WritePhase::Preparing) => "preparing".to_owned(),
        Some(WritePhase::Erasing) => "erasing".to_owned(),
        Some(WritePhase::Writing) => "writing".to_owned(),
        Some(WritePhase::Verifying) => "verifying".to_owned(),
        Some(WritePhase::Finishing) => "finishing".to_owned(),
        Some(WritePhase::Done) | None => format!("agent runs {}", context.step.step),
    };
    Progress {
        doing,
        bytes_done: written.map(|progress| progress.bytes_done),
        bytes_total: written.and_then(|progress| progress.bytes_total),
    }
}

fn waiting_for_agent(context: &StepContext) -> StepOutcome {
    let progress = Progress { doing: "waiting for the ramdisk".into(), ..Progress::default() };
    StepOutcome::Wait(Progressed { progress, checkpoint: context.checkpoint.clone() })
}

fn done(context: &StepContext, command: &Command, version: Option<Json>) -> StepOutcome {
    let mut found = Found::default();
    if let Some(version) = version {
        found.keep.insert(VERSION.into(), Value::Object(version));
    }
    let result = command.command_result.as_ref().and_then(|result| {
        ["clean_result", "deploy_result", "service_result"].iter().find_map(|key| result.get(key))
    });
    match (context.step.interface.as_str(), context.step.step.as_str(), result) {
        ("raid", "delete_configuration", _) => found.node.push(NodeChange::RaidConfig(Json::new())),
        ("raid", "create_configuration" | "apply_configuration", Some(Value::Object(made))) => {
            let mut made = made.clone();
            made.entry("last_updated").or_insert_with(|| Value::String(crate::flow::now()));
            found.node.push(NodeChange::RaidConfig(made));
        }
        (_, _, _) => {}
    }
    if found == Found::default() { StepOutcome::Done } else { StepOutcome::Found(Box::new(found)) }
}

#[async_trait]
impl Steps for AgentStepRunner {
    fn steps(&self, _node: &NodeView, _activity: Activity) -> Vec<Step> {
        Vec::new()
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        let Some(agent) = &context.agent else { return Ok(waiting_for_agent(context)) };
        if context.resumed || context.checkpoint.is_some() {
            return self.go_on(agent, context).await;
        }
        self.start(agent, context, None).await
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        let Some(agent) = &context.agent else { return Ok(waiting_for_agent(context)) };
        self.go_on(agent, context).await
    }
}

#[async_trait]
impl AgentSteps for AgentStepRunner {
    async fn offer(&self, context: &StepContext) -> Result<AgentOffer> {
        let words = Words::of(context.activity)?;
        let agent = context.agent.as_ref().ok_or_else(|| DriverError::Unreachable {
            what: "the agent".into(),
            after: std::time::Duration::ZERO,
            remedy: "no heartbeat has come since the ramdisk was booted; look at the machine's console"
                .into(),
        })?;
        let command = self.agents.start(agent, words.get, self.params(context), true).await?;
        let result = command.command_result.unwrap_or_default();
        let unreadable = |error: serde_json::Error| DriverError::AgentCommand {
            command: words.get.to_owned(),
            reason: format!("its list of steps cannot be read: {error}"),
        };
        let listed = result.get(format!("{}_steps", words.kind)).cloned().unwrap_or_else(|| json!({}));
        let listed: BTreeMap<String, Vec<WireStep>> = serde_json::from_value(listed).map_err(unreadable)?;
        let version = result.get(VERSION).and_then(Value::as_object).cloned().unwrap_or_default();
        Ok(merged(listed, version))
    }

    async fn logs(&self, context: &StepContext) -> Result<Option<Vec<u8>>> {
        let Some(agent) = &context.agent else { return Ok(None) };
        let command = self.agents.start(agent, names::COLLECT_SYSTEM_LOGS, Json::new(), true).await?;
        let logs: Option<SystemLogs> =
            command.command_result.and_then(|result| serde_json::from_value(result).ok());
        let logs = logs.map(|logs| base64::engine::general_purpose::STANDARD.decode(logs.system_logs));
        Ok(logs.and_then(std::result::Result::ok).filter(|bytes| !bytes.is_empty()))
    }
}

/// The steps of all hardware managers. An agent of today names each step once; where an older one does not, the
/// higher priority counts, then the manager whose name comes first.
fn merged(listed: BTreeMap<String, Vec<WireStep>>, version: Json) -> AgentOffer {
    let mut offer = AgentOffer { version, ..AgentOffer::default() };
    for wire in listed.into_values().flatten() {
        let step = Step {
            abortable: wire.abortable.unwrap_or(false),
            resume: Resume::Reattach,
            source: StepSource::Agent,
            argsinfo: wire.argsinfo.unwrap_or_default(),
            requires_ramdisk: wire.requires_ramdisk.unwrap_or(true),
            ..Step::new(wire.interface, wire.step, i32::try_from(wire.priority).unwrap_or(i32::MAX))
        };
        let same = |one: &&mut Step| one.interface == step.interface && one.step == step.step;
        let name = (step.interface.clone(), step.step.clone());
        let taken = match offer.steps.iter_mut().find(same) {
            Some(known) if known.priority >= step.priority => false,
            Some(known) => {
                *known = step;
                true
            }
            None => {
                offer.steps.push(step);
                true
            }
        };
        if taken {
            offer.reboot_after.retain(|one| *one != name);
            if wire.reboot_requested == Some(true) {
                offer.reboot_after.push(name);
            }
        }
    }
    offer
}
