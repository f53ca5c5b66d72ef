//! Runs the steps of one node, one at a time, in a task of its own. It decides nothing and writes nothing: what it
//! is to do is in the journal before it hears of it, and what became of it goes back to the node.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message};
use async_trait::async_trait;
use ferric_drivers::DriverError;
use ferric_drivers::interface::{AgentHandle, Asks, Json, RamdiskPurpose, Result, StepContext, StepOutcome};
use ferric_machine::{PowerState, PowerTarget};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::boot::{BootActor, BootFromDisk, BootRamdisk, CleanUpRamdisk};
use crate::job::{Job, answered, stopped};
use crate::node::{ChildStopped, CleanedUp, NodeActor, Prepared, StepEnded, TornDown};
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

/// Waits for a place among the deployments, then looks the image up. Answers with [`Prepared`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Prepare {
    pub(crate) job: Job,
    pub(crate) operation: Uuid,
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
    pub(crate) step: String,
    pub(crate) agent: Option<AgentHandle>,
    pub(crate) resumed: bool,
    pub(crate) checkpoint: Option<String>,
}

/// Leaves the machine as a failed or aborted deployment should. Answers with [`CleanedUp`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CleanUp {
    pub(crate) job: Job,
    /// Only the boot files: an abort does not switch the machine off.
    pub(crate) files_only: bool,
}

/// Takes the instance away. Answers with [`TornDown`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TearDown(pub(crate) Job);

/// The node's other actors, as a step sees them.
struct Siblings {
    job: Job,
    boot: Addr<BootActor>,
    power: Addr<PowerActor>,
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
        let ask = SetPower { job: self.job.clone(), to: target, within: self.within };
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
}

impl DeployActor {
    fn context(
        &self,
        job: &Job,
        agent: Option<AgentHandle>,
        resumed: bool,
        checkpoint: Option<String>,
    ) -> StepContext {
        StepContext {
            node: job.view.clone(),
            agent,
            asks: Arc::new(Siblings {
                job: job.clone(),
                boot: self.boot.clone(),
                power: self.power.clone(),
                within: self.world.settings.power_change_timeout,
                ask_within: self.world.settings.step_within,
            }),
            resumed,
            checkpoint,
        }
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

/// The longest a step may keep the conductor busy.
async fn limited<T>(limit: Duration, what: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(DriverError::Unreachable {
            what: what.to_owned(),
            after: limit,
            remedy: "the step was given up; look at the machine's console".into(),
        })
    })
}

impl Handler<Prepare> for DeployActor {
    type Result = ();

    fn handle(&mut self, ask: Prepare, _: &mut Context<Self>) {
        let (places, limit) = (self.world.deploys.clone(), self.world.settings.step_within);
        let operation = ask.operation;
        self.start(
            "preparing the deployment",
            async move {
                // a place in the queue may take as long as it takes; looking the image up may not
                let permit = places.acquire_owned().await.expect("the semaphore is never closed");
                let look = ask.job.bound.deploy.prepare(&ask.job.view);
                let keep = limited(limit, "looking the image up", look).await?;
                Ok((keep, permit))
            },
            move |result: Result<(Json, OwnedSemaphorePermit)>| Prepared { operation, result },
        );
    }
}

impl Handler<Execute> for DeployActor {
    type Result = ();

    fn handle(&mut self, ask: Execute, _: &mut Context<Self>) {
        let run = ask.0;
        let context = self.context(&run.job, run.agent, run.resumed, run.checkpoint);
        let (operation, at, deploy) = (run.operation, run.at, run.job.bound.deploy.clone());
        let limit = self.world.settings.step_within;
        tracing::info!(node = %self.id, step = %run.step, resumed = run.resumed, "step begins");
        self.start(
            "running a step",
            async move { limited(limit, "the step", deploy.execute(&run.step, &context)).await },
            move |result: Result<StepOutcome>| StepEnded { operation, at, result, polled: false },
        );
    }
}

impl Handler<Poll> for DeployActor {
    type Result = ();

    fn handle(&mut self, ask: Poll, _: &mut Context<Self>) {
        let run = ask.0;
        let context = self.context(&run.job, run.agent, run.resumed, run.checkpoint);
        let (operation, at, deploy) = (run.operation, run.at, run.job.bound.deploy.clone());
        let limit = self.world.settings.step_within;
        self.start(
            "looking at a step",
            async move { limited(limit, "the look at the step", deploy.poll(&run.step, &context)).await },
            move |result: Result<StepOutcome>| StepEnded { operation, at, result, polled: true },
        );
    }
}

impl Handler<CleanUp> for DeployActor {
    type Result = ();

    fn handle(&mut self, ask: CleanUp, _: &mut Context<Self>) {
        let context = self.context(&ask.job, None, false, None);
        let limit = self.world.settings.step_within;
        self.start(
            "cleaning up the deployment",
            async move {
                if ask.files_only {
                    return context.asks.clean_up_ramdisk().await;
                }
                limited(limit, "the clean-up", ask.job.bound.deploy.clean_up(&context)).await
            },
            |result: Result<()>| CleanedUp(result),
        );
    }
}

impl Handler<TearDown> for DeployActor {
    type Result = ();

    fn handle(&mut self, ask: TearDown, _: &mut Context<Self>) {
        let context = self.context(&ask.0, None, false, None);
        let limit = self.world.settings.step_within;
        self.start(
            "tearing the instance down",
            async move { limited(limit, "the tear-down", ask.0.bound.deploy.tear_down(&context)).await },
            |result: Result<()>| TornDown(result),
        );
    }
}

impl Handler<Stop> for DeployActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
