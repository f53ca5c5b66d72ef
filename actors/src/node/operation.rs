//! A deployment from its first step to its last: what runs, what is written before and after, what a restart finds.

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message};
use ferric_drivers::DriverError;
use ferric_drivers::interface::{
    DeployStep, Json, Progress, Progressed, RamdiskPurpose, Resume, StepOutcome,
};
use ferric_machine::steps::{self, Ranked};
use ferric_machine::{Activity, Event, State, StepKind, Timestamp, abort_after_step, transition};
use ferric_schema::journal::{NewStep, StepKey, StepRow, StepState};
use ferric_schema::{JournalChange, JsonText};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{Change, NodeActor};
use crate::boot::LayOut;
use crate::deploy::{Execute, Poll, Prepare, Run};
use crate::doing::Doing;
use crate::job::{Job, answered};
use crate::view;

/// What the image's look-up found, with the place among the deployments.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Prepared {
    pub(crate) operation: Uuid,
    pub(crate) result: Result<(Json, OwnedSemaphorePermit), DriverError>,
}

/// A step ended, waits in the ramdisk, or failed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StepEnded {
    pub(crate) operation: Uuid,
    pub(crate) at: usize,
    pub(crate) result: Result<StepOutcome, DriverError>,
    /// From a look at a waiting step, not from running it.
    pub(crate) polled: bool,
}

/// The machine is as a failed deployment leaves it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CleanedUp(pub(crate) Result<(), DriverError>);

/// The instance is off the machine.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TornDown(pub(crate) Result<(), DriverError>);

struct Planned {
    interface: String,
    step: String,
    priority: i32,
    abortable: bool,
    resume: Resume,
}

impl Ranked for Planned {
    fn interface(&self) -> &str {
        &self.interface
    }

    fn priority(&self) -> i32 {
        self.priority
    }
}

impl From<DeployStep> for Planned {
    fn from(step: DeployStep) -> Planned {
        Planned {
            interface: step.interface.to_owned(),
            step: step.step.to_owned(),
            priority: step.priority,
            abortable: step.abortable,
            resume: step.resume,
        }
    }
}

/// A deployment under way. Its truth is the journal; this is the actor's copy.
pub(crate) struct Operation {
    id: Uuid,
    node: Uuid,
    steps: Vec<Planned>,
    /// The step that runs or waits; `None` until the image has been looked up.
    at: Option<usize>,
    checkpoint: Option<String>,
    /// A task works on the step at this moment.
    in_flight: bool,
    /// A heartbeat came while a look was under way.
    look_again: bool,
    /// The operator asked for an abort during a step that may not be interrupted.
    pub(super) abort_after: bool,
    since: Timestamp,
    _place: Option<OwnedSemaphorePermit>,
}

const RERUN: &str = "rerun";
const REATTACH: &str = "reattach";

impl Operation {
    pub(super) fn deploy(job: &Job, node: Uuid) -> Operation {
        let all: Vec<Planned> = job.bound.deploy.steps(&job.view).into_iter().map(Planned::from).collect();
        Operation::over(Uuid::new_v4(), node, steps::plan(all, StepKind::Deploy))
    }

    fn over(id: Uuid, node: Uuid, steps: Vec<Planned>) -> Operation {
        Operation {
            id,
            node,
            steps,
            at: None,
            checkpoint: None,
            in_flight: false,
            look_again: false,
            abort_after: false,
            since: Timestamp::default(),
            _place: None,
        }
    }

    /// From the journal, after a restart. `None` when it holds nothing open.
    fn from_rows(rows: &[StepRow], node: Uuid) -> Option<Operation> {
        let open =
            rows.iter().position(|row| matches!(row.state, StepState::Running | StepState::Pending))?;
        let begun = rows[open].state == StepState::Running;
        let steps = rows
            .iter()
            .map(|row| Planned {
                interface: row.interface.clone(),
                step: row.step.clone(),
                priority: row.priority,
                abortable: row.abortable,
                resume: if row.resume == REATTACH { Resume::Reattach } else { Resume::Rerun },
            })
            .collect();
        let mut operation = Operation::over(rows[open].op, node, steps);
        operation.at = begun.then_some(open);
        operation.checkpoint.clone_from(&rows[open].checkpoint);
        operation.since = rows[open].started_at.unwrap_or_default();
        Some(operation)
    }

    pub(super) fn as_new_steps(&self) -> Vec<NewStep> {
        self.steps
            .iter()
            .zip(0..)
            .map(|(step, idx)| NewStep {
                node_uuid: self.node,
                op: self.id,
                kind: "deploy".into(),
                idx,
                interface: step.interface.clone(),
                step: step.step.clone(),
                priority: step.priority,
                abortable: step.abortable,
                args: JsonText::default(),
                resume: match step.resume {
                    Resume::Rerun => RERUN,
                    Resume::Reattach => REATTACH,
                }
                .into(),
                source: "interface".into(),
                argsinfo: JsonText::default(),
                requires_ramdisk: true,
            })
            .collect()
    }

    fn current(&self) -> Option<&Planned> {
        self.at.map(|at| &self.steps[at])
    }

    /// Whether the running step may be interrupted; `None` when none runs.
    pub(super) fn abortable(&self) -> Option<bool> {
        self.current().map(|step| step.abortable)
    }

    /// `interface.step` of the running step.
    pub(super) fn name(&self) -> Option<String> {
        self.current().map(|step| format!("{}.{}", step.interface, step.step))
    }

    fn key(&self, at: usize) -> StepKey {
        StepKey::At { op: self.id, idx: i32::try_from(at).expect("an operation has few steps") }
    }

    /// The node's `deploy_step` field while step `at` runs.
    fn shown(&self, at: usize) -> JsonText {
        let step = &self.steps[at];
        let Value::Object(map) = json!({
            "interface": step.interface, "step": step.step, "priority": step.priority,
            "abortable": step.abortable, "argsinfo": null,
        }) else {
            unreachable!("written as an object")
        };
        JsonText::from(map)
    }
}

impl NodeActor {
    pub(super) fn end_operation(&self, change: &mut Change, state: StepState) {
        if self.operation.is_none()
            && let Some(row) = self.open_steps.first()
        {
            // a resting node never took its operation up
            change.journal.push(JournalChange::Close { op: row.op, state });
        }
        if let Some(operation) = &self.operation {
            if let (Some(at), StepState::Failed) = (operation.at, state) {
                let error = change.node.last_error.clone();
                change.journal.push(JournalChange::End { key: operation.key(at), state, error });
                change.journal.push(JournalChange::Close { op: operation.id, state: StepState::Aborted });
            } else {
                change.journal.push(JournalChange::Close { op: operation.id, state });
            }
        }
    }

    fn show(&self, progress: Progress, waiting_for: Option<String>) {
        let Some(operation) = &self.operation else { return };
        let doing = Doing {
            step: operation.name().unwrap_or_else(|| "deploy.prepare".to_owned()),
            number: operation.at.map_or(0, |at| at + 1),
            of: operation.steps.len(),
            since: operation.since,
            progress,
            waiting_for,
        };
        self.world.doing.insert(self.uuid(), doing);
    }

    /// The transition to `deploying` is committed: look the image up.
    pub(super) fn prepare_deploy(&mut self, ctx: &mut Context<Self>) {
        let now = self.world.now();
        let Some(operation) = &mut self.operation else { return };
        operation.since = now;
        operation.in_flight = true;
        let id = operation.id;
        let free = self.world.deploys.available_permits() > 0;
        self.show(
            Progress { doing: "looking the image up".into(), ..Progress::default() },
            (!free).then(|| "a place among the deployments ([conductor] max_concurrent_deploy)".to_owned()),
        );
        self.with_job(ctx, |act, job, _| act.siblings().deploy.do_send(Prepare { job, operation: id }));
    }

    /// After a restart, in `deploying` or `wait call-back`.
    pub(super) fn take_up_deploy(&mut self, ctx: &mut Context<Self>) {
        let rows = std::mem::take(&mut self.open_steps);
        let Some(mut operation) = Operation::from_rows(&rows, self.uuid()) else {
            let text = "the step journal has nothing of this deployment; deploy again".to_owned();
            self.fire(ctx, Event::Fail, Some(text));
            return;
        };
        if operation.at.is_some() {
            // one whose image is not looked up yet waits in line again, see prepare_deploy
            operation._place = self.world.deploys.clone().try_acquire_owned().ok();
        }
        operation.abort_after = self.node.deploy_step.get("abort_after").is_some();
        let at = operation.at;
        tracing::info!(node = %self.uuid(), step = ?operation.name(), "taking the deployment up again");
        self.operation = Some(operation);
        self.show(Progress { doing: "taken up after a restart".into(), ..Progress::default() }, None);
        match (self.state(), at) {
            (State::DeployWait, _) => {
                // what the machine may be about to fetch was known to the old process only
                self.with_job(ctx, |act, job, ctx| {
                    let ask = act.siblings().boot.send(LayOut { job, purpose: RamdiskPurpose::Deploy });
                    ctx.spawn(ask.into_actor(act).map(|result, act, _| {
                        if let Err(error) = answered("laying out the ramdisk", result) {
                            tracing::error!(node = %act.uuid(), %error, "the ramdisk is not laid out again");
                            act.silent = Some(error);
                        }
                    }));
                });
                self.look_at_ramdisk(ctx, true);
            }
            (_, Some(at)) => self.run_step(ctx, at, true),
            (_, None) => self.prepare_deploy(ctx),
        }
    }

    fn run_step(&mut self, ctx: &mut Context<Self>, at: usize, resumed: bool) {
        if let Some(operation) = &mut self.operation {
            operation.in_flight = true;
        }
        if !resumed {
            let doing = self.operation.as_ref().and_then(Operation::name).unwrap_or_default();
            self.show(Progress { doing, ..Progress::default() }, None);
        }
        self.with_job(ctx, |act, job, _| {
            let run = act.run(job, at, resumed);
            act.siblings().deploy.do_send(Execute(run));
        });
    }

    fn run(&self, job: Job, at: usize, resumed: bool) -> Run {
        let operation = self.operation.as_ref().expect("a step runs in an operation");
        Run {
            job,
            operation: operation.id,
            at,
            step: operation.steps[at].step.clone(),
            agent: view::agent(&self.node),
            resumed,
            checkpoint: operation.checkpoint.clone(),
        }
    }

    /// Looks at the step that waits in the ramdisk: after a heartbeat, and now and then in between.
    pub(super) fn look_at_ramdisk(&mut self, ctx: &mut Context<Self>, heartbeat: bool) {
        if self.state() != State::DeployWait || self.node.maintenance || view::agent(&self.node).is_none() {
            return;
        }
        let Some(operation) = &mut self.operation else { return };
        let Some(at) = operation.at else { return };
        if operation.in_flight {
            operation.look_again |= heartbeat;
            return;
        }
        operation.in_flight = true;
        self.with_job(ctx, |act, job, _| {
            let run = act.run(job, at, false);
            act.siblings().deploy.do_send(Poll(run));
        });
    }

    fn step_done(&mut self, ctx: &mut Context<Self>) {
        let now = self.world.now();
        let Some(operation) = &self.operation else { return };
        let Some(at) = operation.at else { return };
        let name = operation.name();
        let mut change = self.change();
        let end = JournalChange::End { key: operation.key(at), state: StepState::Done, error: None };
        change.journal.push(end);
        let mut facts = self.facts();
        if operation.abort_after
            && let Ok(outcome) = abort_after_step(&facts)
        {
            let text = steps::aborted_message(Activity::Deploy, name.as_deref());
            self.apply(&mut change, &outcome, Some(text));
            self.end_operation(&mut change, StepState::Aborted);
            self.save(ctx, change, move |act, ctx| act.begin(outcome.work, ctx));
            return;
        }
        if self.state() == State::DeployWait {
            let resumed = transition(&facts, Event::Resume).expect("TABLE has wait call-back, resume");
            self.apply(&mut change, &resumed, None);
            facts.state = resumed.to;
            facts.target = resumed.target;
        }
        let data = json!({"step": name, "number": at + 1, "of": operation.steps.len()});
        change.tell(
            &self.world,
            "INFO",
            "step_done",
            format!("step {} done", name.unwrap_or_default()),
            data,
        );
        let next = at + 1;
        if next < operation.steps.len() {
            change.journal.push(JournalChange::Start(operation.key(next)));
            change.node.deploy_step = operation.shown(next);
            self.save(ctx, change, move |act, ctx| {
                if let Some(operation) = &mut act.operation {
                    operation.at = Some(next);
                    operation.checkpoint = None;
                    operation.since = now;
                }
                act.run_step(ctx, next, false);
            });
            return;
        }
        let outcome = transition(&facts, Event::Done).expect("TABLE has deploying, done");
        self.apply(&mut change, &outcome, None);
        view::wipe_agent(&mut change.node);
        self.save(ctx, change, |act, _| {
            act.operation = None;
            act.world.doing.remove(&act.uuid());
        });
    }

    fn step_waits(&mut self, ctx: &mut Context<Self>, progressed: Progressed) {
        self.silent = None;
        self.show(progressed.progress, None);
        let Some(operation) = &mut self.operation else { return };
        let again = std::mem::take(&mut operation.look_again);
        let Some(at) = operation.at else { return };
        let mut change = Change { node: self.node.clone(), events: Vec::new(), journal: Vec::new() };
        if progressed.checkpoint.is_some() && progressed.checkpoint != operation.checkpoint {
            operation.checkpoint.clone_from(&progressed.checkpoint);
            let text = progressed.checkpoint.unwrap_or_default();
            change.journal.push(JournalChange::Checkpoint(operation.key(at), text));
        }
        if self.state() == State::Deploying {
            let outcome = transition(&self.facts(), Event::Wait).expect("TABLE has deploying, wait");
            self.apply(&mut change, &outcome, None);
        }
        if change.journal.is_empty() && self.state() == State::DeployWait {
            if again {
                self.look_at_ramdisk(ctx, false);
            }
            return;
        }
        self.save(ctx, change, move |act, ctx| {
            if again {
                act.look_at_ramdisk(ctx, false);
            }
        });
    }

    /// The ramdisk is gone in which a step was running: nobody will ever answer for it.
    pub(super) fn ramdisk_lost(&mut self, ctx: &mut Context<Self>, why: &str) {
        let inside = self
            .operation
            .as_ref()
            .and_then(Operation::current)
            .is_some_and(|step| step.resume == Resume::Reattach);
        if inside && self.state() == State::DeployWait {
            let name = self.operation.as_ref().and_then(Operation::name).unwrap_or_default();
            let text =
                format!("Failed to deploy. Step {name}: {why} while it ran in the ramdisk; deploy again");
            self.fire(ctx, Event::Fail, Some(text));
        }
    }

    fn step_failed(&mut self, ctx: &mut Context<Self>, error: &DriverError) {
        let name =
            self.operation.as_ref().and_then(Operation::name).unwrap_or_else(|| "deploy.prepare".into());
        self.fire(ctx, Event::Fail, Some(format!("Failed to deploy. Step {name}: {error}")));
    }
}

impl Handler<Prepared> for NodeActor {
    type Result = ();

    fn handle(&mut self, told: Prepared, ctx: &mut Context<Self>) {
        let now = self.world.now();
        let Some(operation) = self.operation.as_mut().filter(|operation| operation.id == told.operation)
        else {
            return;
        };
        operation.in_flight = false;
        let (keep, place) = match told.result {
            Ok(found) => found,
            Err(error) => return self.step_failed(ctx, &error),
        };
        operation._place = Some(place);
        operation.since = now;
        let (key, shown) = (operation.key(0), operation.shown(0));
        let mut change = self.change();
        view::edit(&mut change.node.driver_internal_info, |info| info.extend(keep));
        change.node.deploy_step = shown;
        change.journal.push(JournalChange::Start(key));
        self.save(ctx, change, |act, ctx| {
            if let Some(operation) = &mut act.operation {
                operation.at = Some(0);
            }
            act.run_step(ctx, 0, false);
        });
    }
}

impl Handler<StepEnded> for NodeActor {
    type Result = ();

    fn handle(&mut self, told: StepEnded, ctx: &mut Context<Self>) {
        let at_work = matches!(self.state(), State::Deploying | State::DeployWait);
        let Some(operation) = &mut self.operation else { return };
        if !at_work || operation.id != told.operation || operation.at != Some(told.at) {
            tracing::debug!(node = %self.node.uuid, "a step's answer comes too late");
            return;
        }
        operation.in_flight = false;
        let reattaches = operation.current().is_some_and(|step| step.resume == Resume::Reattach);
        match told.result {
            Ok(StepOutcome::Done) => self.step_done(ctx),
            Ok(StepOutcome::Wait(progressed)) => self.step_waits(ctx, progressed),
            // the ramdisk may answer next time; its deadline decides how often we ask
            Err(error) if error.is_transient() && (told.polled || reattaches) => {
                let waiting = error.to_string();
                tracing::info!(node = %self.node.uuid, %error, "asking the ramdisk again later");
                let doing = Progress { doing: "waiting for the ramdisk".into(), ..Progress::default() };
                if self.state() == State::Deploying {
                    self.step_waits(ctx, Progressed { progress: doing.clone(), checkpoint: None });
                }
                self.show(doing, Some(waiting));
                self.silent = Some(error);
            }
            Err(error) => self.step_failed(ctx, &error),
        }
    }
}

impl Handler<CleanedUp> for NodeActor {
    type Result = ();

    fn handle(&mut self, told: CleanedUp, ctx: &mut Context<Self>) {
        // the mark is gone when the node has begun something else meanwhile
        if self.node.driver_internal_info.get(view::keys::CLEAN_UP).is_none() {
            return;
        }
        let mut change = self.change();
        view::edit(&mut change.node.driver_internal_info, |info| drop(info.remove(view::keys::CLEAN_UP)));
        if let Err(error) = told.0 {
            tracing::warn!(node = %self.uuid(), %error, "clean-up after a failed deployment failed");
            let before = change.node.last_error.take().unwrap_or_default();
            let text = format!("{before} Also, cleaning up failed: {error}");
            change.node.last_error = Some(view::printable(text.trim()));
        }
        self.save(ctx, change, |_, _| {});
    }
}

impl Handler<TornDown> for NodeActor {
    type Result = ();

    fn handle(&mut self, told: TornDown, ctx: &mut Context<Self>) {
        if self.state() != State::Deleting {
            return;
        }
        match told.0 {
            Ok(()) => self.fire(ctx, Event::Clean, None),
            Err(error) => self.fire(ctx, Event::Fail, Some(format!("Failed to tear down: {error}"))),
        }
    }
}
