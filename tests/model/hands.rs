//! The interfaces of the pretended hardware: what the actors reach the machines with. Every effect is checked against
//! the database first: what happens must have been written down before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ferric_drivers::DriverError;
use ferric_drivers::interface::{
    AgentOffer, AgentSteps, BootInterface, DeployInterface, Found, Json, ManagementInterface, NodeView,
    PowerInterface, Progress, Progressed, Property, RamdiskParams, RamdiskPurpose, Result, Resume, Step,
    StepContext, StepOutcome, StepSource, Steps,
};
use ferric_machine::{Activity, BootDevice, BootMode, PowerState, PowerTarget};
use ferric_schema::journal::{self, StepState};
use ferric_schema::nodes;
use uuid::Uuid;

use crate::hardware::{Fate, Machine, Yard, now};

/// A step that ended so recently, in microseconds, may not have heard of it yet.
const JUST_NOW: i64 = 500_000;

/// Who lets something happen.
#[derive(Clone, Copy)]
enum By<'a> {
    /// Nothing happens, somebody looks.
    Look,
    /// A step of the journal.
    Step(&'a StepContext),
    /// A step of the journal, or a wish for power.
    Power(PowerTarget),
    /// A step of the journal, whichever.
    Any,
}

/// What one life of the process reaches the machines with.
pub(crate) struct Hands {
    pub(crate) yard: Arc<Yard>,
    /// The process was killed: nothing it still has in hand takes effect.
    pub(crate) dead: AtomicBool,
    /// Which life this is.
    pub(crate) life: u64,
}

fn unreachable(what: &str) -> DriverError {
    DriverError::Unreachable {
        what: what.to_owned(),
        after: Duration::ZERO,
        remedy: "the model lets calls get lost".into(),
    }
}

fn wait(doing: &str, checkpoint: Option<String>) -> StepOutcome {
    let progress = Progress { doing: doing.to_owned(), ..Progress::default() };
    StepOutcome::Wait(Progressed { progress, checkpoint })
}

/// One step at a time runs for a node.
struct Busy<'a>(&'a Hands, Uuid);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut machine = self.0.yard.machine(self.1);
        if machine.hands.0 == self.0.life {
            machine.hands.1 -= 1;
        }
    }
}

impl Hands {
    fn busy(&self, context: &StepContext) -> Busy<'_> {
        let id = context.node.uuid;
        let mut machine = self.yard.machine(id);
        if machine.hands.0 != self.life {
            machine.hands = (self.life, 0);
        }
        machine.hands.1 += 1;
        let two = machine.hands.1 > 1;
        let how = if context.resumed { " (resumed)" } else { "" };
        machine.tell(format!("{} {}.{}{how}", context.activity, context.step.interface, context.step.step));
        drop(machine);
        if two {
            self.yard.broke(id, "two hands on one machine: two steps of a node run at once");
        }
        Busy(self, id)
    }

    /// A dead process does nothing, for ever.
    async fn alive(&self) {
        if self.dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    async fn call<T>(
        &self,
        id: Uuid,
        what: &str,
        by: By<'_>,
        effect: impl FnOnce(&mut Machine) -> Result<T> + Send,
    ) -> Result<T> {
        let (fate, before, after) = self.yard.draw(id);
        tokio::time::sleep(before).await;
        self.alive().await;
        match fate {
            Fate::LostBefore => return Err(unreachable(what)),
            Fate::Refused => {
                let reason = "the model has it refused".to_owned();
                return Err(DriverError::Refused { what: what.into(), command: what.into(), reason });
            }
            Fate::Good | Fate::LostAfter => {}
        }
        match by {
            By::Look => {}
            By::Step(context) => self.expects_step(context).await,
            By::Power(target) => self.expects_power(id, Some(target)).await,
            By::Any => self.expects_power(id, None).await,
        }
        let trap = if matches!(by, By::Look) { 0 } else { self.yard.trap.swap(0, Ordering::SeqCst) };
        if trap == 1 {
            self.springs(id).await;
        }
        let result = effect(&mut self.yard.machine(id));
        if trap == 2 {
            self.springs(id).await;
        }
        tokio::time::sleep(after).await;
        self.alive().await;
        if fate == Fate::LostAfter { Err(unreachable(what)) } else { result }
    }

    /// The process is killed here and now.
    async fn springs(&self, id: Uuid) {
        self.yard.machine(id).tell("=== killed at this moment");
        self.dead.store(true, Ordering::SeqCst);
        self.yard.sprung.store(true, Ordering::SeqCst);
        self.alive().await;
    }

    /// A call to the agent that the context speaks of.
    async fn agent_call<T>(
        &self,
        context: &StepContext,
        by: By<'_>,
        effect: impl FnOnce(&mut Machine) -> T + Send,
    ) -> Result<T> {
        let Some(handle) = context.agent.clone() else { return Err(unreachable("the agent")) };
        self.call(context.node.uuid, "the agent", by, move |machine| {
            let Some(agent) = machine.agent_up() else { return Err(unreachable("the agent")) };
            if agent.token.as_deref() != Some(handle.token.as_str()) {
                let reason = "401: invalid agent token".to_owned();
                return Err(DriverError::AgentCommand { command: "any".into(), reason });
            }
            Ok(effect(machine))
        })
        .await
    }

    /// The step must have been written down as running before it is carried out.
    async fn expects_step(&self, context: &StepContext) {
        let id = context.node.uuid;
        let (interface, step) = (context.step.interface.clone(), context.step.step.clone());
        let rows = self.yard.observer.read(move |conn| journal::latest_of_node(conn, id, 2)).await;
        self.alive().await;
        let rows = rows.expect("the observer reads");
        let written = rows.iter().any(|row| {
            row.interface == interface
                && row.step == step
                && (row.state == StepState::Running || row.ended_at.is_some_and(|at| at.0 > now() - JUST_NOW))
        });
        if !written {
            let text =
                format!("commit precedes effect: {interface}.{step} runs and the journal has no such step");
            self.yard.broke(id, text);
        }
    }

    /// Power changes for a step that is written down as running, or for a wish that is written down.
    async fn expects_power(&self, id: Uuid, target: Option<PowerTarget>) {
        let read = self
            .yard
            .observer
            .read(move |conn| Ok((nodes::get(conn, id)?, journal::latest_of_node(conn, id, 2)?)));
        let (node, rows) = read.await.expect("the observer reads");
        self.alive().await;
        let Some(node) = node else { return };
        let wish = node.target_power_state.is_some();
        let step = rows.iter().any(|row| {
            row.state == StepState::Running || row.ended_at.is_some_and(|at| at.0 > now() - JUST_NOW)
        });
        let asked_for = step || (wish && target.is_some());
        if !asked_for {
            let what = target.map_or("its boot device".to_owned(), |target| format!("power to {target}"));
            let text =
                format!("commit precedes effect: {what} changes and nothing in the database asks for it");
            self.yard.broke(id, text);
        }
    }

    fn command_of(&self, machine: &mut Machine, context: &StepContext) -> Option<crate::hardware::Command> {
        let echo = echo(&context.step);
        let agent = machine.agent_up()?;
        agent.commands.iter().rev().find(|command| command.echo == echo).cloned()
    }

    /// Begins a command in the ramdisk, unless it is there already.
    async fn run_in_agent(&self, context: &StepContext, look: bool) -> Result<StepOutcome> {
        if context.agent.is_none() {
            return Ok(wait("waiting for the ramdisk", context.checkpoint.clone()));
        }
        let known = if look {
            self.agent_call(context, By::Look, |machine| self.command_of(machine, context)).await?
        } else {
            None
        };
        let command = match known {
            Some(command) => command,
            None => {
                let calm = self.yard.is_calm();
                let (command, two) = self
                    .agent_call(context, By::Step(context), |machine| {
                        let (_, two) = machine.begin(&context.step.step, echo(&context.step), calm);
                        (self.command_of(machine, context).expect("just begun"), two)
                    })
                    .await?;
                if let Some(two) = two {
                    self.yard.broke(context.node.uuid, two);
                }
                command
            }
        };
        match command.ended {
            None => Ok(wait("the agent works", Some(command.id))),
            Some(Ok(())) => Ok(StepOutcome::Done),
            Some(Err(())) => Err(DriverError::AgentCommand {
                command: context.step.step.clone(),
                reason: "the model has it failed".into(),
            }),
        }
    }
}

fn echo(step: &Step) -> String {
    format!("{} {}", step.step, step.priority)
}

#[async_trait]
impl PowerInterface for Hands {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<()> {
        Ok(())
    }

    fn supported(&self) -> &'static [PowerTarget] {
        PowerTarget::ALL
    }

    fn bmc(&self, node: &NodeView) -> Option<String> {
        Some(format!("model:{}", node.uuid))
    }

    async fn power_state(&self, node: &NodeView) -> Result<PowerState> {
        self.call(node.uuid, "the BMC", By::Look, |machine| Ok(machine.power())).await
    }

    async fn set_power(&self, node: &NodeView, target: PowerTarget, _: Duration) -> Result<PowerState> {
        let by = By::Power(target);
        self.call(node.uuid, "the BMC", by, |machine| Ok(machine.set_power(target))).await
    }
}

#[async_trait]
impl ManagementInterface for Hands {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<()> {
        Ok(())
    }

    fn supported_boot_devices(&self) -> &'static [BootDevice] {
        &[BootDevice::Pxe, BootDevice::Disk]
    }

    async fn boot_device(&self, _: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)> {
        Ok((None, None))
    }

    async fn set_boot_device(
        &self,
        node: &NodeView,
        device: BootDevice,
        always: bool,
        _: BootMode,
    ) -> Result<()> {
        self.call(node.uuid, "the BMC", By::Any, |machine| {
            machine.set_device(device, always);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl BootInterface for Hands {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<()> {
        Ok(())
    }

    fn ramdisk_device(&self) -> BootDevice {
        BootDevice::Pxe
    }

    async fn prepare_ramdisk(&self, node: &NodeView, params: &RamdiskParams) -> Result<()> {
        self.alive().await;
        self.yard.machine(node.uuid).laid_out = Some(params.purpose);
        Ok(())
    }

    async fn clean_up_ramdisk(&self, node: &NodeView) -> Result<()> {
        self.alive().await;
        self.yard.machine(node.uuid).laid_out = None;
        Ok(())
    }
}

/// The deploy interface: the steps of `direct`, over the pretended agent.
pub(crate) struct Deploy(pub(crate) Arc<Hands>);

#[async_trait]
impl Steps for Deploy {
    fn steps(&self, _: &NodeView, activity: Activity) -> Vec<Step> {
        let row = |step: &str, priority, abortable, resume| Step {
            abortable,
            resume,
            ..Step::new("deploy", step, priority)
        };
        match activity {
            Activity::Deploy => vec![
                row("deploy", 100, true, Resume::Rerun),
                row("write_image", 80, true, Resume::Reattach),
                row("prepare_instance_boot", 60, false, Resume::Rerun),
                row("tear_down_agent", 40, false, Resume::Rerun),
                row("boot_instance", 20, false, Resume::Rerun),
            ],
            Activity::TearDown => vec![row("tear_down", 0, false, Resume::Rerun)],
            Activity::Adopt => vec![row("take_over", 0, false, Resume::Rerun)],
            Activity::Verify
            | Activity::Clean
            | Activity::Inspect
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        let _busy = self.0.busy(context);
        self.0.expects_step(context).await;
        match context.step.step.as_str() {
            "deploy" => {
                context.asks.boot_ramdisk(RamdiskPurpose::Deploy).await?;
                return Ok(wait("waiting for the ramdisk", None));
            }
            "write_image" => return self.0.run_in_agent(context, context.resumed).await,
            "prepare_instance_boot" => context.asks.boot_from_disk().await?,
            "tear_down_agent" => drop(context.asks.set_power(PowerTarget::Off).await?),
            "boot_instance" => drop(context.asks.set_power(PowerTarget::On).await?),
            "tear_down" => {
                context.asks.set_power(PowerTarget::Off).await?;
                context.asks.clean_up_ramdisk().await?;
            }
            "take_over" => {
                self.0.call(context.node.uuid, "the machine", By::Step(context), |_| Ok(())).await?
            }
            other => panic!("the model has no step {other}"),
        }
        Ok(StepOutcome::Done)
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        let _busy = self.0.busy(context);
        match context.step.step.as_str() {
            "deploy" if context.agent.is_some() => Ok(StepOutcome::Done),
            "deploy" => Ok(wait("waiting for the ramdisk", None)),
            "write_image" => self.0.run_in_agent(context, true).await,
            other => panic!("the model does not wait in {other}"),
        }
    }
}

#[async_trait]
impl DeployInterface for Deploy {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<()> {
        Ok(())
    }

    async fn prepare(&self, node: &NodeView) -> Result<Json> {
        self.0.call(node.uuid, "the image server", By::Look, |_| Ok(Json::new())).await
    }

    async fn clean_up(&self, context: &StepContext) -> Result<()> {
        context.asks.set_power(PowerTarget::Off).await?;
        context.asks.clean_up_ramdisk().await
    }
}

/// Inspecting in-band.
pub(crate) struct Inspect(pub(crate) Arc<Hands>);

#[async_trait]
impl Steps for Inspect {
    fn steps(&self, _: &NodeView, activity: Activity) -> Vec<Step> {
        if activity != Activity::Inspect {
            return Vec::new();
        }
        let step = Step::new("inspect", "inspect_hardware", 0);
        vec![Step { abortable: true, requires_ramdisk: false, resume: Resume::Reattach, ..step }]
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        let _busy = self.0.busy(context);
        self.0.expects_step(context).await;
        if context.step.step == "process" {
            context.asks.set_power(PowerTarget::Off).await?;
            context.asks.clean_up_ramdisk().await?;
            let inventory = Some((Json::new(), Json::new()));
            return Ok(StepOutcome::Found(Box::new(Found { inventory, ..Found::default() })));
        }
        context.asks.boot_ramdisk(RamdiskPurpose::Inspect).await?;
        Ok(wait("waiting for the report", Some("started".into())))
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        if context.step.step == "inspect_hardware" && context.checkpoint.is_some() {
            let _busy = self.0.busy(context);
            return Ok(wait("waiting for the report", Some("started".into())));
        }
        self.execute(context).await
    }
}

/// Rescuing in-band.
pub(crate) struct Rescue(pub(crate) Arc<Hands>);

impl Rescue {
    async fn finalize(&self, context: &StepContext) -> Result<StepOutcome> {
        // the agent leaves once it has the password
        match self.0.agent_call(context, By::Step(context), |machine| machine.agent = None).await {
            Ok(()) => {
                context.asks.boot_from_disk().await?;
                Ok(StepOutcome::Done)
            }
            Err(error) if error.is_transient() => Ok(wait("calling the agent again", None)),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Steps for Rescue {
    fn steps(&self, _: &NodeView, activity: Activity) -> Vec<Step> {
        let row = |step: &str| Step { abortable: true, ..Step::new("rescue", step, 0) };
        match activity {
            Activity::Rescue => vec![row("rescue"), row("finalize")],
            Activity::Unrescue => vec![Step { requires_ramdisk: false, abortable: false, ..row("unrescue") }],
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
        let _busy = self.0.busy(context);
        self.0.expects_step(context).await;
        match context.step.step.as_str() {
            "rescue" => {
                context.asks.boot_ramdisk(RamdiskPurpose::Rescue).await?;
                Ok(wait("waiting for the rescue ramdisk", None))
            }
            "finalize" => self.finalize(context).await,
            "unrescue" => {
                context.asks.set_power(PowerTarget::Off).await?;
                context.asks.boot_from_disk().await?;
                context.asks.set_power(PowerTarget::On).await?;
                Ok(StepOutcome::Done)
            }
            other => panic!("the model has no step {other}"),
        }
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        let _busy = self.0.busy(context);
        match context.step.step.as_str() {
            "rescue" if context.agent.is_some() => Ok(StepOutcome::Done),
            "rescue" => Ok(wait("waiting for the rescue ramdisk", None)),
            "finalize" => self.finalize(context).await,
            other => panic!("the model does not wait in {other}"),
        }
    }
}

/// The steps that the agent offers.
pub(crate) struct InAgent(pub(crate) Arc<Hands>);

#[async_trait]
impl Steps for InAgent {
    fn steps(&self, _: &NodeView, _: Activity) -> Vec<Step> {
        Vec::new()
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        let _busy = self.0.busy(context);
        self.0.expects_step(context).await;
        self.0.run_in_agent(context, context.resumed || context.checkpoint.is_some()).await
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        let _busy = self.0.busy(context);
        self.0.run_in_agent(context, true).await
    }
}

#[async_trait]
impl AgentSteps for InAgent {
    async fn offer(&self, context: &StepContext) -> Result<AgentOffer> {
        let row = |step: &str, priority, abortable| Step {
            abortable,
            resume: Resume::Reattach,
            source: StepSource::Agent,
            ..Step::new("deploy", step, priority)
        };
        let steps = match context.activity {
            Activity::Clean => vec![
                row("erase_devices", 10, true),
                row("erase_devices_metadata", 99, true),
                row("update_firmware", 0, false),
            ],
            Activity::Service => vec![row("burnin_cpu", 0, true), row("update_firmware", 0, false)],
            Activity::Verify
            | Activity::Deploy
            | Activity::TearDown
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue => Vec::new(),
        };
        self.0.agent_call(context, By::Look, |_| ()).await?;
        Ok(AgentOffer { steps, ..AgentOffer::default() })
    }
}
