//! Runs the steps of one node, of every kind of work, one at a time, in a task of its own. It decides nothing and writes nothing: what it
//! is to do is in the journal before it hears of it, and what became of it goes back to the node.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message};
use async_trait::async_trait;
use ferric_drivers::DriverError;
use ferric_drivers::interface::{
    AgentHandle, Asks, Child, InstanceBoot, Progressed, RamdiskPurpose, Result, Step, StepContext,
    StepOutcome,
};
use ferric_machine::{Activity, PowerState, PowerTarget};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::boot::{BootActor, BootFromDisk, BootInstance, BootRamdisk, CleanUpRamdisk};
use crate::family;
use crate::job::{Job, answered, stopped};
use crate::node::{ChildStopped, NodeActor, StepEnded, StepReports};
use crate::power::{PowerActor, ReadPower, SetPower, Stop};
use crate::world::World;

/// See the module.
pub(crate) struct DeployActor {
    pub(crate) id: Uuid,
    pub(crate) node: Addr<NodeActor>,
    pub(crate) boot: Addr<BootActor>,
    pub(crate) power: Addr<PowerActor>,
    pub(crate) world: Arc<World>,
    pub(crate) running: Option<AbortHandle>,
}

impl Actor for DeployActor {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Context<Self>) {
        if let Some(task) = self.running.take() {
            task.abort();
        }
        self.node.do_send(ChildStopped);
    }
}

/// Runs a step. Answers with [`StepEnded`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Execute(pub(crate) Run);

/// Looks at a step that waits in the ramdisk. Answers with [`StepEnded`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Poll(pub(crate) Run);

/// Which step, and what it works with.
pub(crate) struct Run {
    pub(crate) job: Job,
    pub(crate) operation: Uuid,
    pub(crate) at: usize,
    pub(crate) activity: Activity,
    pub(crate) step: Arc<Step>,
    pub(crate) agent: Option<AgentHandle>,
    pub(crate) resumed: bool,
    pub(crate) checkpoint: Option<String>,
}

/// The node's other actors, as a step sees them.
struct Siblings {
    job: Job,
    node: Addr<NodeActor>,
    boot: Addr<BootActor>,
    power: Addr<PowerActor>,
    world: Arc<World>,
    /// Which step asks.
    operation: Uuid,
    at: usize,
    /// When it told last that it goes on.
    told: watch::Sender<Instant>,
    /// How long a power change may take.
    within: Duration,
    /// How long an ask may take with everything it waits for: turns, commits, hardware.
    ask_within: Duration,
}

#[async_trait]
impl Asks for Siblings {
    async fn power_state(&self) -> Result<PowerState> {
        let ask = ReadPower { job: self.job.clone(), patient: true };
        answered("reading the power state", self.power.send(ask).timeout(self.ask_within).await)
    }

    async fn set_power(&self, target: PowerTarget) -> Result<PowerState> {
        let mut to = target;
        if self.job.keeps_power {
            // this machine must not be switched off: where others go off and on again, it is restarted
            let seen = self.power_state().await?;
            match target {
                PowerTarget::Off | PowerTarget::SoftOff => return Ok(seen),
                PowerTarget::On if seen == PowerState::On => to = PowerTarget::Reboot,
                PowerTarget::On | PowerTarget::Reboot | PowerTarget::SoftReboot => {}
            }
        }
        let ask = SetPower { job: self.job.clone(), to, within: self.within };
        answered("changing the power state", self.power.send(ask).timeout(self.ask_within).await)
    }

    async fn boot_ramdisk(&self, purpose: RamdiskPurpose) -> Result<()> {
        let ask = BootRamdisk { job: self.job.clone(), purpose };
        answered("booting the ramdisk", self.boot.send(ask).timeout(self.ask_within).await)
    }

    async fn boot_from_disk(&self) -> Result<()> {
        let ask = BootFromDisk(self.job.clone());
        answered("booting from disk", self.boot.send(ask).timeout(self.ask_within).await)
    }

    async fn clean_up_ramdisk(&self) -> Result<()> {
        let ask = CleanUpRamdisk(self.job.clone());
        answered("cleaning up the ramdisk", self.boot.send(ask).timeout(self.ask_within).await)
    }

    async fn boot_from_network(&self, boot: InstanceBoot) -> Result<()> {
        let ask = BootInstance { job: self.job.clone(), boot };
        answered("laying out the instance", self.boot.send(ask).timeout(self.ask_within).await)
    }

    fn keeps_power(&self) -> bool {
        self.job.keeps_power
    }

    async fn report(&self, progressed: Progressed) -> Result<()> {
        self.told.send_replace(Instant::now());
        let report = StepReports { operation: self.operation, at: self.at, progressed };
        let stored = self.node.send(report).timeout(self.ask_within).await;
        let stored = stored.map(|stored| {
            stored.map_err(|error| DriverError::Refused {
                what: "Ferric itself".into(),
                command: "keeping how far the step is".into(),
                reason: error.to_string(),
            })
        });
        answered("keeping how far the step is", stored)
    }

    async fn children(&self) -> Result<Vec<Child>> {
        family::children(&self.world, self.job.view.uuid).await
    }

    async fn set_child_power(&self, child: Uuid, target: PowerTarget) -> Result<()> {
        family::set_power(&self.world, child, target).await
    }
}

impl DeployActor {
    fn context(&self, run: &Run) -> (StepContext, watch::Receiver<Instant>) {
        let (told, reported) = watch::channel(Instant::now());
        let context = StepContext {
            node: run.job.view.clone(),
            bound: run.job.bound.clone(),
            activity: run.activity,
            step: run.step.clone(),
            agent: run.agent.clone(),
            asks: Arc::new(Siblings {
                job: run.job.clone(),
                node: self.node.clone(),
                operation: run.operation,
                at: run.at,
                told,
                boot: self.boot.clone(),
                power: self.power.clone(),
                world: self.world.clone(),
                within: self.world.settings.power_change_timeout,
                ask_within: self.world.settings.step_within,
            }),
            resumed: run.resumed,
            checkpoint: run.checkpoint.clone(),
        };
        (context, reported)
    }

    /// Starts `work` as this node's one running task and tells the node what came of it. An earlier one that still
    /// runs is ended: the node has gone on without it. `work` limits its own time, see [`limited`].
    fn start<T, M>(
        &mut self,
        what: &'static str,
        work: impl Future<Output = Result<T>> + Send + 'static,
        tell: impl FnOnce(Result<T>) -> M + Send + 'static,
    ) where
        T: Send + 'static,
        M: Message<Result = ()> + Send + 'static,
        NodeActor: Handler<M>,
    {
        if let Some(earlier) = self.running.take() {
            earlier.abort();
        }
        let task = tokio::spawn(work);
        self.running = Some(task.abort_handle());
        let node = self.node.clone();
        tokio::spawn(async move {
            let result = match task.await {
                Ok(result) => result,
                Err(error) if error.is_cancelled() => return,
                Err(error) => Err(stopped(what, &error.to_string())),
            };
            // a node that is gone is being rebuilt and takes the work up again by itself
            let _ = node.send(tell(result)).await;
        });
    }
}

/// The longest a step may keep the conductor busy without a word of how far it is.
async fn limited<T>(
    limit: Duration,
    what: &'static str,
    mut told: watch::Receiver<Instant>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        let until = *told.borrow_and_update() + limit;
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = sleep_until(until) => {}
        }
        if *told.borrow() + limit <= Instant::now() {
            return Err(DriverError::Unreachable {
                what: what.to_owned(),
                after: limit,
                remedy: "the step was given up; look at the machine's console".into(),
            });
        }
    }
}

impl Handler<Execute> for DeployActor {
    type Result = ();

    fn handle(&mut self, ask: Execute, _: &mut Context<Self>) {
        let run = ask.0;
        let ((context, told), world) = (self.context(&run), self.world.clone());
        let (operation, at) = (run.operation, run.at);
        tracing::info!(node = %self.id, work = %run.activity, step = %run.step.step, resumed = run.resumed, "step begins");
        self.start(
            "running a step",
            async move {
                limited(world.settings.step_within, "the step", told, world.flow.execute(&context)).await
            },
            move |result: Result<StepOutcome>| StepEnded { operation, at, result, polled: false },
        );
    }
}

impl Handler<Poll> for DeployActor {
    type Result = ();

    fn handle(&mut self, ask: Poll, _: &mut Context<Self>) {
        let run = ask.0;
        let ((context, told), world) = (self.context(&run), self.world.clone());
        let (operation, at) = (run.operation, run.at);
        self.start(
            "looking at a step",
            async move {
                limited(world.settings.step_within, "the look at the step", told, world.flow.poll(&context))
                    .await
            },
            move |result: Result<StepOutcome>| StepEnded { operation, at, result, polled: true },
        );
    }
}

impl Handler<Stop> for DeployActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
