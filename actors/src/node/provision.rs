//! Verbs, and the work that follows a committed transition.

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler};
use ferric_drivers::DriverError;
use ferric_machine::{Deadline, Event, PowerState, Refusal, State, Verb, Work, end_of_cleaning, transition};
use ferric_schema::{JournalChange, journal::StepState};
use serde_json::Value;

use super::NodeActor;
use super::operation::Operation;
use crate::deploy::{CleanUp, TearDown};
use crate::error::NodeError;
use crate::message::Provision;
use crate::power::{QUESTION, ReadPower};
use crate::view;

impl Handler<Provision> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: Provision, _: &mut Context<Self>) -> Self::Result {
        match self.plan(&ask) {
            Ok((change, work, operation)) => {
                let asked = ask.verb;
                self.commit(change, move |act, ctx| {
                    if let Some(operation) = operation {
                        act.operation = Some(operation);
                    }
                    tracing::info!(node = %act.uuid(), verb = %asked, "accepted");
                    act.begin(work, ctx);
                })
            }
            Err(error) => self.refuse(error),
        }
    }
}

impl NodeActor {
    /// What a verb leads to: the change to commit, the work to begin, the steps to run.
    fn plan(&mut self, ask: &Provision) -> Result<(super::Change, Work, Option<Operation>), NodeError> {
        let outcome = ferric_machine::request(&self.facts(), ask.verb).map_err(|refusal| {
            let busy = matches!(refusal, Refusal::NotAllowed { .. }) && self.node.reservation.is_some();
            if busy { self.locked() } else { NodeError::Refused(refusal) }
        })?;
        if self.node.target_power_state.is_some() && outcome.work != Work::None {
            return Err(self.locked());
        }
        let mut change = self.change();
        self.apply(&mut change, &outcome, None);
        let mut operation = None;
        match outcome.work {
            Work::None | Work::Verify | Work::CleanUp => {}
            // a deployment may be torn down while it waits
            Work::TearDown | Work::AbortDeploy => self.end_operation(&mut change, StepState::Aborted),
            Work::Clean => {
                if self.node.automated_clean == Some(true) || ask.verb == Verb::Clean {
                    return Err(NodeError::NotBuilt { what: "Cleaning".into() });
                }
            }
            Work::Deploy => {
                operation = Some(self.plan_deploy(ask, &mut change)?);
            }
            Work::Inspect => return Err(NodeError::NotBuilt { what: "Inspection".into() }),
            Work::Adopt => return Err(NodeError::NotBuilt { what: "Adoption".into() }),
            Work::Rescue | Work::Unrescue | Work::AbortRescue => {
                return Err(NodeError::NotBuilt { what: "Rescue".into() });
            }
            Work::Service | Work::AbortService => return Err(NodeError::NotBuilt { what: "Service".into() }),
            Work::Continue => return Err(NodeError::NotBuilt { what: "Holding".into() }),
            Work::AbortClean | Work::AbortInspect => {
                return Err(NodeError::NotBuilt { what: "Aborting this".into() });
            }
        }
        if outcome.marks_abort_after {
            if let Some(running) = &mut self.operation {
                running.abort_after = true;
            }
            view::edit(&mut change.node.deploy_step, |step| {
                step.insert("abort_after".into(), Value::Bool(true));
            });
        }
        if outcome.work == Work::AbortDeploy {
            let step = self.operation.as_ref().and_then(Operation::name);
            let text =
                ferric_machine::steps::aborted_message(ferric_machine::Activity::Deploy, step.as_deref());
            change.node.last_error = Some(text);
        }
        Ok((change, outcome.work, operation))
    }

    fn plan_deploy(&self, ask: &Provision, change: &mut super::Change) -> Result<Operation, NodeError> {
        let job = self.job()?;
        job.bound.power.validate(&job.view)?;
        job.bound.boot.validate(&job.view)?;
        job.bound.deploy.validate(&job.view)?;
        let drive = match &ask.configdrive {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Object(parts)) => {
                let name = job.view.instance_str("display_name").or(self.node.name.as_deref());
                Some(ferric_drivers::deploy::build_configdrive(self.uuid(), name, parts)?)
            }
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
                return Err(NodeError::Invalid("configdrive must be a string or an object".into()));
            }
        };
        if let Some(drive) = drive {
            view::edit(&mut change.node.instance_info, |info| {
                info.insert("configdrive".into(), Value::String(drive));
            });
        }
        // what an earlier deployment left must not steer this one
        view::wipe_agent(&mut change.node);
        let operation = Operation::deploy(&job, self.uuid());
        change.journal.push(JournalChange::Plan(operation.as_new_steps()));
        Ok(operation)
    }

    /// Starts the work of a committed transition.
    pub(super) fn begin(&mut self, work: Work, ctx: &mut Context<Self>) {
        match work {
            Work::None => {}
            Work::Verify => self.verify(ctx),
            Work::Deploy => self.prepare_deploy(ctx),
            Work::TearDown => {
                self.operation = None;
                self.world.doing.remove(&self.uuid());
                self.with_job(ctx, |act, job, _| act.siblings().deploy.do_send(TearDown(job)));
            }
            Work::Clean => self.finish_cleaning(ctx),
            Work::CleanUp | Work::AbortDeploy => {
                self.operation = None;
                self.world.doing.remove(&self.uuid());
                let files_only = work == Work::AbortDeploy;
                self.with_job(ctx, move |act, job, _| {
                    act.siblings().deploy.do_send(CleanUp { job, files_only })
                });
            }
            Work::Continue
            | Work::Inspect
            | Work::Adopt
            | Work::Rescue
            | Work::Unrescue
            | Work::Service
            | Work::AbortClean
            | Work::AbortInspect
            | Work::AbortRescue
            | Work::AbortService => {
                tracing::error!(node = %self.uuid(), %work, "plan() lets no such work through in this release");
            }
        }
    }

    /// Gives `then` the node as drivers need it; a node that cannot be bound any more fails its work.
    pub(super) fn with_job(
        &mut self,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, crate::job::Job, &mut Context<Self>),
    ) {
        match self.job() {
            Ok(job) => then(self, job, ctx),
            Err(error) => self.fire(ctx, Event::Fail, Some(error.to_string())),
        }
    }

    /// An event from inside: transition, commit, work. An event that the state does not know is a late answer and is
    /// dropped.
    pub(super) fn fire(&mut self, ctx: &mut Context<Self>, event: Event, error: Option<String>) {
        let outcome = match transition(&self.facts(), event) {
            Ok(outcome) => outcome,
            Err(refusal) => {
                tracing::warn!(node = %self.uuid(), %refusal, "event comes too late");
                return;
            }
        };
        let mut change = self.change();
        self.apply(&mut change, &outcome, error);
        if outcome.clears_steps {
            self.end_operation(
                &mut change,
                if event == Event::Done { StepState::Done } else { StepState::Failed },
            );
        }
        self.save(ctx, change, move |act, ctx| {
            if outcome.clears_steps {
                act.operation = None;
                act.world.doing.remove(&act.uuid());
            }
            act.begin(outcome.work, ctx);
        });
    }

    fn verify(&mut self, ctx: &mut Context<Self>) {
        self.with_job(ctx, |act, job, ctx| {
            let valid = job.bound.power.validate(&job.view);
            let ask = act.siblings().power.send(ReadPower { job, patient: true }).timeout(2 * QUESTION);
            let read = async move {
                valid?;
                crate::job::answered("reading the power state", ask.await)
            };
            let uuid = act.uuid();
            ctx.spawn(read.into_actor(act).map(move |seen: Result<PowerState, DriverError>, act, ctx| {
                let failed = |why: String| format!("Failed to get power state for node {uuid}. Error: {why}");
                match seen {
                    Ok(PowerState::Error) => {
                        act.fire(
                            ctx,
                            Event::Fail,
                            Some(failed("the BMC reports a fault of the chassis".into())),
                        );
                    }
                    Ok(seen) => act.verified(ctx, seen),
                    Err(error) => act.fire(ctx, Event::Fail, Some(failed(error.to_string()))),
                }
            }));
        });
    }

    fn verified(&mut self, ctx: &mut Context<Self>, seen: PowerState) {
        let Ok(outcome) = transition(&self.facts(), Event::Done) else { return };
        let mut change = self.change();
        self.apply(&mut change, &outcome, None);
        change.node.power_state = Some(seen);
        self.save(ctx, change, |_, _| {});
    }

    /// Automated cleaning is off in this release: the state is passed through, as Ironic does then.
    fn finish_cleaning(&mut self, ctx: &mut Context<Self>) {
        let event = end_of_cleaning(&self.facts());
        self.fire(ctx, event, None);
    }

    /// The ramdisk did not call in time.
    pub(super) fn overdue(&mut self, guard: Deadline, ctx: &mut Context<Self>) {
        self.deadline = None;
        if self.node.maintenance {
            // looked at again when maintenance ends or the agent calls
            self.arm(ctx);
            return;
        }
        let step = self.operation.as_ref().and_then(Operation::name);
        let mut text = guard.message(&self.uuid().to_string(), step.as_deref());
        if let Some(step) = step {
            text = format!("{text} (step {step})");
        }
        if let Some(silent) = &self.silent {
            text = format!("{text}. Last try: {silent}");
        }
        self.fire(ctx, Event::Fail, Some(text));
    }

    /// After a restart: what the stored state was in the middle of.
    pub(super) fn take_up(&mut self, ctx: &mut Context<Self>) {
        if self.resting {
            return;
        }
        match self.state() {
            State::Verifying => self.verify(ctx),
            State::Deploying | State::DeployWait => self.take_up_deploy(ctx),
            State::Deleting => self.begin(Work::TearDown, ctx),
            State::Cleaning => self.finish_cleaning(ctx),
            State::Inspecting | State::Adopting | State::Rescuing | State::Unrescuing | State::Servicing => {
                let text = format!("{} is not part of this release of Ferric and was ended", self.state());
                self.fire(ctx, Event::Fail, Some(text));
            }
            State::Enroll
            | State::Manageable
            | State::Available
            | State::Active
            | State::Error
            | State::Rescue
            | State::DeployFailed
            | State::DeployHold
            | State::CleanWait
            | State::CleanFailed
            | State::CleanHold
            | State::InspectFailed
            | State::InspectWait
            | State::AdoptFailed
            | State::RescueWait
            | State::RescueFailed
            | State::UnrescueFailed
            | State::ServiceWait
            | State::ServiceFailed
            | State::ServiceHold => {}
        }
        self.take_up_power(ctx);
    }
}
