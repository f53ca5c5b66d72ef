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
use crate::view::{self, keys};

impl Handler<Provision> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: Provision, _: &mut Context<Self>) -> Self::Result {
        match self.plan(&ask) {
            Ok(Plan { change, work, operation, abort_after }) => {
                let asked = ask.verb;
                self.commit(change, move |act, ctx| {
                    if let Some(operation) = operation {
                        act.operation = Some(operation);
                    }
                    if let Some(running) = &mut act.operation {
                        running.abort_after |= abort_after;
                    }
                    tracing::info!(node = %act.uuid(), verb = %asked, "accepted");
                    act.begin(work, ctx);
                })
            }
            Err(error) => self.refuse(error),
        }
    }
}

/// What a verb leads to.
struct Plan {
    /// To commit.
    change: super::Change,
    /// To begin afterwards.
    work: Work,
    /// The steps to run.
    operation: Option<Operation>,
    /// The running step is to be the last one.
    abort_after: bool,
}

impl NodeActor {
    fn plan(&self, ask: &Provision) -> Result<Plan, NodeError> {
        let outcome = ferric_machine::request(&self.facts(), ask.verb).map_err(|refusal| {
            let busy = matches!(refusal, Refusal::NotAllowed { .. }) && self.node.reservation.is_some();
            if busy { self.locked() } else { NodeError::Refused(refusal) }
        })?;
        if self.node.target_power_state.is_some() {
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
        Ok(Plan { change, work: outcome.work, operation, abort_after: outcome.marks_abort_after })
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
        if matches!(work, Work::TearDown | Work::CleanUp | Work::AbortDeploy) {
            // whatever of the work before still runs must not undo what comes now
            std::mem::take(&mut self.cancel).cancel();
        }
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
        if self.node.automated_clean == Some(true) {
            let text = "this node is to be cleaned (automated_clean is true), and cleaning is not part of this release \
                        of Ferric; clean it by hand, set automated_clean to false, then manage and provide it";
            return self.fire(ctx, Event::Fail, Some(text.to_owned()));
        }
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
        text = match &self.silent {
            Some(silent) => format!("{text}. Last try: {silent}"),
            None => format!(
                "{text}. Look at the machine's console: did it boot the ramdisk, does it reach the API?"
            ),
        };
        if self.node.power_state == Some(PowerState::Off) {
            text.push_str(" The machine is powered off.");
        }
        self.fire(ctx, Event::Fail, Some(text));
    }

    /// After a restart: what the stored state was in the middle of.
    pub(super) fn take_up(&mut self, ctx: &mut Context<Self>) {
        if self.resting {
            return;
        }
        if let Err(error) = self.job()
            && self.state().activity().is_some()
        {
            return self.fire(ctx, Event::Fail, Some(error.to_string()));
        }
        match self.state() {
            State::Verifying => self.verify(ctx),
            State::Deploying | State::DeployWait => self.take_up_deploy(ctx),
            State::Deleting => self.begin(Work::TearDown, ctx),
            State::Cleaning => self.finish_cleaning(ctx),
            State::DeployFailed => match self.node.driver_internal_info.get(keys::CLEAN_UP) {
                None => {}
                Some(how) if how == "files" => self.begin(Work::AbortDeploy, ctx),
                Some(_) => self.begin(Work::CleanUp, ctx),
            },
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
