//! Work from its first step to its last: what runs, what is written before and after, what a restart finds.

use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, Message};
use ferric_drivers::DriverError;
use ferric_drivers::flow::Ending;
use ferric_drivers::interface::{Found, Progress, Progressed, Resume, Step, StepOutcome};
use ferric_machine::{Activity, Event, Fault, Outcome, State, Work, abort_after_step, steps, transition};
use ferric_schema::journal::StepState;
use ferric_schema::{JournalChange, StoreError};
use serde_json::json;
use uuid::Uuid;

use super::found;
use super::{Change, NodeActor};
use crate::boot::LayOut;
use crate::deploy::{Execute, Poll, Run};
use crate::doing::{self, Doing};
use crate::error::NodeError;
use crate::job::{Job, answered};
use crate::places::Places;
use crate::view;

use super::operation::{
    Operation, Purpose, cannot_begin, failed_text, name, purpose_end, ramdisk_of, set_step_field,
};

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

/// How far a step is that runs in the conductor. Answered once its checkpoint, if it has a new one, is in the journal.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub(crate) struct StepReports {
    pub(crate) operation: Uuid,
    pub(crate) at: usize,
    pub(crate) progressed: Progressed,
}

/// What is to be done once a decision is committed.
#[derive(Default)]
pub(super) struct Next {
    work: Option<Work>,
    /// The operation that was is over.
    ends: bool,
    /// The one that begins.
    operation: Option<Operation>,
    /// There is nothing to do for this work: its end, or why it cannot begin.
    at_once: Option<(Event, Option<String>)>,
}

impl NodeActor {
    /// Where the fleet's limit for such work is kept; `None` when it has none.
    fn places(&self, purpose: Purpose) -> Option<Places> {
        match purpose {
            Purpose::Work(Activity::Deploy) => Some(self.world.deploys.clone()),
            Purpose::Work(Activity::Clean) => Some(self.world.cleans.clone()),
            Purpose::Work(
                Activity::Verify
                | Activity::TearDown
                | Activity::Inspect
                | Activity::Adopt
                | Activity::Rescue
                | Activity::Unrescue
                | Activity::Service,
            )
            | Purpose::CleanUp(_) => None,
        }
    }

    /// Writes a new operation into the journal; it starts at once unless it has to wait for its place.
    fn write_plan(&self, change: &mut Change, mut operation: Operation) -> Operation {
        change.journal.push(JournalChange::Plan(operation.rows(0)));
        let places = self.places(operation.purpose);
        operation.place = places.as_ref().and_then(Places::try_enter);
        if places.is_none() || operation.place.is_some() {
            operation.at = Some(0);
            operation.since = self.world.now();
            change.journal.push(JournalChange::Start(operation.key(0)));
            if let Purpose::Work(activity) = operation.purpose {
                set_step_field(change, activity, Some(&operation.steps[0]));
            }
        }
        operation
    }

    /// Writes what `outcome` does into `change`, with the plan of the work that it begins and the end of the one
    /// that it ends. `planned` are the steps of work that a client asked for, checked already.
    pub(super) fn enter(
        &self,
        change: &mut Change,
        outcome: &Outcome,
        error: Option<String>,
        planned: Option<Vec<Step>>,
    ) -> Next {
        let ending = if outcome.event == Event::Fail {
            StepState::Failed
        } else if outcome.from.is_stable()
            || matches!(outcome.event, Event::Done | Event::Clean | Event::Manage)
        {
            StepState::Done
        } else {
            StepState::Aborted
        };
        self.apply(change, outcome, error);
        let mut next = Next { work: Some(outcome.work), ..Next::default() };
        let begins = match outcome.work {
            Work::None | Work::Continue => None,
            Work::Verify
            | Work::Deploy
            | Work::TearDown
            | Work::Clean
            | Work::Inspect
            | Work::Adopt
            | Work::Rescue
            | Work::Unrescue
            | Work::Service => outcome.to.activity().map(Purpose::Work),
            Work::CleanUp
            | Work::AbortDeploy
            | Work::AbortClean
            | Work::AbortInspect
            | Work::AbortRescue
            | Work::AbortService => outcome.from.activity().map(Purpose::CleanUp),
        };
        if outcome.clears_steps || begins.is_some() {
            self.end_operation(change, ending);
            next.ends = true;
        }
        let Some(purpose) = begins else { return next };
        let steps = match (purpose, planned) {
            (Purpose::Work(_), Some(steps)) => Ok(steps),
            (Purpose::Work(activity), None) => self.plan_by_itself(&change.node, activity),
            (Purpose::CleanUp(activity), _) => {
                // a deployment on hold is torn down whole (states.md §3), one that waits keeps its power
                let on_hold = outcome.from == State::DeployHold;
                let aborted = outcome.event == Event::Abort && !on_hold;
                let how = if aborted { Ending::Aborted } else { Ending::Failed };
                Ok(self.world.flow.clean_up(activity, how))
            }
        };
        match steps {
            Ok(steps) if steps.is_empty() => {
                let event = purpose_end(purpose, &self.facts_of(&change.node));
                next.at_once = event.map(|event| (event, None));
            }
            Ok(steps) => {
                next.operation = Some(self.write_plan(change, Operation::new(self.uuid(), purpose, steps)));
            }
            Err(why) => next.at_once = Some((Event::Fail, Some(cannot_begin(purpose, self.uuid(), why)))),
        }
        next
    }

    /// What [`NodeActor::enter`] prepared is committed.
    pub(super) fn go_on(&mut self, next: Next, ctx: &mut Context<Self>) {
        if next.ends {
            // whatever of the work before still runs must not undo what comes now
            std::mem::take(&mut self.cancel).cancel();
            self.agent_goes = false;
            self.operation = None;
            // a resting node that was given something else to do has nothing to go back to
            self.open_steps.clear();
            self.resting = false;
            self.world.doing.remove(&self.uuid());
        }
        match next.work {
            Some(Work::TearDown) => self.let_go_of_console(ctx),
            Some(Work::Deploy | Work::Adopt) => self.take_up_console(ctx),
            Some(_) | None => {}
        }
        if self.state().is_wait()
            && let Some(purpose) =
                self.operation.as_ref().filter(|it| it.place.is_none()).map(|it| it.purpose)
        {
            // back from a hold, over the limit if need be, as after a restart
            let place = self.places(purpose).as_ref().and_then(Places::try_enter);
            self.operation.as_mut().expect("it was there above").place = place;
        }
        if let Some(operation) = next.operation {
            self.operation = Some(operation);
            self.start_operation(ctx);
        } else if let Some((event, error)) = next.at_once {
            self.fire(ctx, event, error);
        } else if next.work == Some(Work::Continue) {
            self.look_at_step(ctx, true);
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
        let next = self.enter(&mut change, &outcome, error, None);
        self.save(ctx, change, move |act, ctx| act.go_on(next, ctx));
    }

    /// Plans the work of the present state anew.
    pub(super) fn enter_again(&self, change: &mut Change, activity: Activity) -> Next {
        let purpose = Purpose::Work(activity);
        let mut next = Next::default();
        self.end_operation(change, StepState::Aborted);
        match self.plan_by_itself(&change.node, activity) {
            Ok(steps) if steps.is_empty() => {
                next.at_once = purpose_end(purpose, &self.facts()).map(|event| (event, None));
            }
            Ok(steps) => {
                next.operation = Some(self.write_plan(change, Operation::new(self.uuid(), purpose, steps)));
            }
            Err(why) => next.at_once = Some((Event::Fail, Some(why))),
        }
        next
    }

    /// The waiting step got what it waited for: `step` comes next and is in the journal already.
    pub(super) fn goes_on_with(&mut self, step: Step, ctx: &mut Context<Self>) {
        let Some(operation) = &mut self.operation else { return };
        let next = operation.at.map_or(0, |at| at + 1);
        operation.steps.truncate(next);
        operation.steps.push(step);
        self.stands_at(next);
        self.run_step(ctx, next, false);
    }

    fn end_operation(&self, change: &mut Change, state: StepState) {
        let Some(operation) = &self.operation else {
            if let Some(row) = self.open_steps.first() {
                // a resting node never took its operation up
                change.journal.push(JournalChange::Close { op: row.op, state });
            }
            return;
        };
        if let (Some(at), StepState::Failed) = (operation.at, state) {
            let error = change.node.last_error.clone();
            change.journal.push(JournalChange::End { key: operation.key(at), state, error });
            if operation.steps[at].is_bulky() {
                change.journal.push(JournalChange::Forget(operation.key(at)));
            }
            change.journal.push(JournalChange::Close { op: operation.id, state: StepState::Aborted });
        } else {
            change.journal.push(JournalChange::Close { op: operation.id, state });
        }
    }

    pub(super) fn show(&self, progress: Progress, waiting_for: Option<String>) {
        let Some(operation) = &self.operation else { return };
        let kind = operation.purpose.word();
        let step = operation.current();
        // a hold lasts as long as the operator likes, a wait as long as it says
        let habitual = |step: &&Step| step.step.parse::<ferric_machine::steps::Reserved>().is_err();
        let usual = step
            .filter(habitual)
            .and_then(|step| self.world.usual.seconds(&kind, &step.interface, &step.step));
        let elapsed = self.world.now().0.saturating_sub(operation.since.0);
        let elapsed = Duration::from_micros(u64::try_from(elapsed).unwrap_or(0)).as_secs_f64();
        let doing = Doing {
            operation: kind.clone(),
            step: step.map_or_else(|| "conductor.wait_for_place".to_owned(), name),
            number: operation.at.map_or(0, |at| at + 1),
            of: operation.steps.len(),
            since: operation.since,
            usual_seconds: usual,
            eta_seconds: doing::eta(&progress, elapsed, usual),
            gives_up_at: self.gives_up_at,
            progress,
            waiting_for,
        };
        self.world.tell_progress(self.uuid(), &doing);
        self.world.doing.insert(self.uuid(), doing);
    }

    fn show_hold(&self) {
        let doing = Progress { doing: "on hold".into(), ..Progress::default() };
        self.show(doing, Some("the operator's unhold".into()));
    }

    /// What waits stands still in maintenance (states.md §5); whoever looks is told so, until it ends.
    pub(super) fn show_maintenance(&self) {
        const WHY: &str = "the end of maintenance";
        let known = self.world.doing.get(&self.uuid()).map(|doing| doing.clone());
        let told = known.as_ref().is_some_and(|doing| doing.waiting_for.as_deref() == Some(WHY));
        if told != self.node.maintenance {
            let progress = known.map(|doing| doing.progress).unwrap_or_default();
            self.show(progress, self.node.maintenance.then(|| WHY.into()));
        }
    }

    /// Runs the first step, once there is a place for the work.
    fn start_operation(&mut self, ctx: &mut Context<Self>) {
        let Some(operation) = &mut self.operation else { return };
        if let Some(at) = operation.at {
            return self.run_step(ctx, at, false);
        }
        operation.since = self.world.now();
        let (id, purpose) = (operation.id, operation.purpose);
        let places = self.places(purpose);
        let Some(places) = places else { return };
        self.show(Progress { doing: "waiting for its turn".into(), ..Progress::default() }, None);
        let node = self.uuid();
        let enter = async move { places.enter(node).await };
        self.afterwards(ctx, enter, move |place, act, ctx| {
            let Some(operation) = act.operation.as_mut().filter(|operation| operation.id == id) else {
                return; // aborted or torn down meanwhile; the place is free again
            };
            operation.place = Some(place);
            act.start_step(ctx, 0);
        });
    }

    /// Commits that step `at` begins, and runs it.
    fn start_step(&mut self, ctx: &mut Context<Self>, at: usize) {
        let Some(operation) = &self.operation else { return };
        let mut change = self.change();
        change.journal.push(JournalChange::Start(operation.key(at)));
        if let Purpose::Work(activity) = operation.purpose {
            set_step_field(&mut change, activity, Some(&operation.steps[at]));
        }
        self.save(ctx, change, move |act, ctx| {
            act.stands_at(at);
            act.run_step(ctx, at, false);
        });
    }

    fn stands_at(&mut self, at: usize) {
        let now = self.world.now();
        if let Some(operation) = &mut self.operation {
            operation.at = Some(at);
            operation.checkpoint = None;
            operation.look_again = false;
            operation.since = now;
        }
    }

    /// After a restart: goes on with what the journal holds. Returns whether it held anything.
    pub(super) fn take_up_operation(&mut self, ctx: &mut Context<Self>) -> bool {
        let rows = std::mem::take(&mut self.open_steps);
        let Some(mut operation) = Operation::from_rows(&rows, self.uuid()) else { return false };
        let fits = match operation.purpose {
            Purpose::Work(activity) => self.state().activity() == Some(activity) && !self.state().is_failed(),
            Purpose::CleanUp(_) => !self.state().stuck_as_fail() && !self.state().is_wait(),
        };
        if !fits {
            tracing::error!(node = %self.uuid(), state = %self.state(), "the journal's work is not that of the state");
            self.open_steps = rows;
            return false;
        }
        let steps = [&self.node.deploy_step, &self.node.clean_step, &self.node.service_step];
        operation.abort_after = steps.iter().any(|step| step.get("abort_after").is_some());
        let (at, purpose) = (operation.at, operation.purpose);
        if at.is_some() && !self.state().is_hold() {
            // it had its place; one that never began waits in line again, and one that holds gave its own back
            operation.place = self.places(purpose).as_ref().and_then(Places::try_enter);
        }
        tracing::info!(node = %self.uuid(), work = %purpose.word(), step = ?operation.name(), "taking work up again");
        self.operation = Some(operation);
        self.show(Progress { doing: "taken up after a restart".into(), ..Progress::default() }, None);
        match at {
            None => self.start_operation(ctx),
            Some(_) if self.state().is_hold() => self.show_hold(),
            Some(at) if self.state().is_wait() => {
                self.lay_out_again(ctx, purpose.activity(), at);
                self.look_at_step(ctx, false);
            }
            Some(at) => self.run_step(ctx, at, true),
        }
        true
    }

    /// What the machine may be about to fetch was known to the old process only.
    fn lay_out_again(&mut self, ctx: &mut Context<Self>, activity: Activity, at: usize) {
        let Some(purpose) = ramdisk_of(activity) else { return };
        let Some(operation) = &self.operation else { return };
        let boots = |step: &Step| match activity {
            Activity::Clean | Activity::Service => step.step == "boot_ramdisk",
            Activity::Deploy
            | Activity::Inspect
            | Activity::Rescue
            | Activity::Verify
            | Activity::TearDown
            | Activity::Adopt
            | Activity::Unrescue => true,
        };
        if !operation.steps[..=at].iter().any(boots) {
            return; // work without a ramdisk
        }
        self.with_job(ctx, |act, job, ctx| {
            if activity == Activity::Deploy && !job.bound.deploy.uses_agent(&job.view, activity) {
                return act.lay_out_instance(ctx);
            }
            let ask = act.siblings().boot.send(LayOut { job, purpose });
            ctx.spawn(ask.into_actor(act).map(|result, act, _| {
                if let Err(error) = answered("laying out the ramdisk", result) {
                    tracing::error!(node = %act.uuid(), %error, "the ramdisk is not laid out again");
                    act.silent = Some(error);
                }
            }));
        });
    }

    fn run_step(&mut self, ctx: &mut Context<Self>, at: usize, resumed: bool) {
        if let Some(operation) = &mut self.operation {
            operation.in_flight = true;
        }
        if !resumed {
            let doing = self.operation.as_ref().and_then(Operation::name).unwrap_or_default();
            self.show(Progress { doing, ..Progress::default() }, None);
        }
        let tidies = self.operation.as_ref().map(|operation| operation.purpose);
        match (self.job(), tidies) {
            (Ok(job), _) => {
                if let Some(operation) = &mut self.operation {
                    operation.before = Some(Box::new(self.node.clone()));
                }
                let run = self.run(job, at, resumed);
                self.siblings().deploy.do_send(Execute(run));
            }
            // a failed state knows no further failure, but the machine was not tidied up and the operator has to know
            (Err(error), Some(Purpose::CleanUp(of))) => self.clean_up_failed(ctx, of, &error),
            (Err(error), Some(Purpose::Work(_)) | None) => {
                self.fire(ctx, Event::Fail, Some(error.to_string()));
            }
        }
    }

    fn run(&self, job: Job, at: usize, resumed: bool) -> Run {
        let operation = self.operation.as_ref().expect("a step runs in an operation");
        Run {
            job,
            operation: operation.id,
            at,
            activity: operation.purpose.activity(),
            step: std::sync::Arc::new(operation.steps[at].clone()),
            agent: view::agent(&self.node),
            resumed,
            checkpoint: operation.checkpoint.clone(),
        }
    }

    /// Looks at the step that waits: after a heartbeat, and now and then in between.
    pub(super) fn look_at_step(&mut self, ctx: &mut Context<Self>, heartbeat: bool) {
        if !self.state().is_wait() {
            return;
        }
        if self.node.maintenance {
            return self.show_maintenance();
        }
        if self.node.target_power_state.is_some() {
            return; // the operator changes its power; what waits in it is judged when that has ended
        }
        let no_agent = view::agent(&self.node).is_none() && !view::ramdisk_called(&self.node);
        let Some(operation) = &mut self.operation else { return };
        let Some(at) = operation.at else { return };
        let step = &operation.steps[at];
        if no_agent && step.requires_ramdisk {
            return;
        }
        if !heartbeat && step.is_bare_wait() && operation.checkpoint.is_none() {
            return; // it waits for the agent's next call and for nothing else
        }
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

    /// Step `at` is over: what it found, what comes next and what becomes of the node, in one commit.
    pub(super) fn step_done(&mut self, ctx: &mut Context<Self>, found: Found) {
        let now = self.world.now();
        let Some(operation) = &mut self.operation else { return };
        let Some(at) = operation.at else { return };
        let step = operation.steps[at].clone();
        let (purpose, shown, name) = (operation.purpose, operation.shown_name(), name(&step));
        self.world.usual.learn(&purpose.word(), &step.interface, &step.step, operation.since, now);
        let mut change = Change::of(&self.node);
        change.journal.push(JournalChange::End {
            key: operation.key(at),
            state: StepState::Done,
            error: None,
        });
        if step.is_bulky() {
            change.journal.push(JournalChange::Forget(operation.key(at)));
        }
        if let Some(next) = &found.next {
            let from = at + 1;
            let first = i32::try_from(from).expect("an operation has few steps");
            change.journal.push(JournalChange::Drop { op: operation.id, from: first });
            operation.steps.truncate(from);
            operation.steps.extend(next.iter().cloned());
            change.journal.push(JournalChange::Plan(operation.rows(from)));
        }
        let data =
            json!({"step": name, "operation": purpose.word(), "number": at + 1, "of": operation.steps.len()});
        let (abort_after, more) = (operation.abort_after, at + 1 < operation.steps.len());
        let before = operation.before.take();
        found::apply(&mut change, found, before.as_deref(), &self.ports, now);
        if step.is_shown() {
            change.tell(&self.world, "INFO", "step_done", format!("step {name} done"), data);
        }
        let Purpose::Work(activity) = purpose else {
            return self.clean_up_goes_on(ctx, change, at, more);
        };
        if let Some(operation) = &self.operation {
            self.record_begin(&mut change, activity, &step, operation);
        }
        let mut facts = self.facts_of(&change.node);
        if abort_after && let Ok(outcome) = abort_after_step(&facts) {
            let text = steps::aborted_message(activity, shown.as_deref());
            let next = self.enter(&mut change, &outcome, Some(text), None);
            return self.save(ctx, change, move |act, ctx| act.go_on(next, ctx));
        }
        if self.state().is_wait() {
            let resumed = transition(&facts, Event::Resume).expect("TABLE lets every wait state resume");
            self.apply(&mut change, &resumed, None);
            facts = self.facts_of(&change.node);
        }
        if more {
            let operation = self.operation.as_ref().expect("it was there above");
            let next = at + 1;
            change.journal.push(JournalChange::Start(operation.key(next)));
            set_step_field(&mut change, activity, Some(&operation.steps[next]));
            return self.save(ctx, change, move |act, ctx| {
                act.stands_at(next);
                act.run_step(ctx, next, false);
            });
        }
        let Some(event) = purpose_end(purpose, &facts) else { return };
        if let Some(operation) = &self.operation {
            self.record_end(&mut change, activity, operation);
        }
        let outcome = transition(&facts, event).expect("TABLE ends every kind of work");
        let next = self.enter(&mut change, &outcome, None, None);
        if next.operation.is_none() {
            view::wipe_agent(&mut change.node);
        }
        self.save(ctx, change, move |act, ctx| act.go_on(next, ctx));
    }

    fn clean_up_goes_on(&mut self, ctx: &mut Context<Self>, mut change: Change, at: usize, more: bool) {
        if !more {
            return self.save(ctx, change, |act, _| act.clean_up_over());
        }
        let operation = self.operation.as_ref().expect("a step of it just ended");
        change.journal.push(JournalChange::Start(operation.key(at + 1)));
        self.save(ctx, change, move |act, ctx| {
            act.stands_at(at + 1);
            act.run_step(ctx, at + 1, false);
        });
    }

    fn clean_up_over(&mut self) {
        self.operation = None;
        self.world.doing.remove(&self.uuid());
    }

    /// The clean-up itself went wrong: that changes no state, but the operator has to know.
    fn clean_up_failed(&mut self, ctx: &mut Context<Self>, of: Activity, error: &dyn std::fmt::Display) {
        tracing::warn!(node = %self.uuid(), %error, "cleaning up after the {of} failed");
        let mut change = self.change();
        let before = change.node.last_error.take().unwrap_or_default();
        let text = view::printable(format!("{before} Also, cleaning up failed: {error}").trim());
        change.node.last_error = Some(text.clone());
        // an aborted service kept it until its power-off, which did not come
        view::wipe_agent(&mut change.node);
        if of == Activity::Rescue {
            // the password may still open the machine (states.md §3)
            change.node.maintenance = true;
            change.node.fault = Some(Fault::RescueAbortFailure);
            change.node.maintenance_reason.get_or_insert_with(|| text.clone());
        }
        self.record(&mut change, of.as_str(), &text);
        self.end_operation(&mut change, StepState::Failed);
        self.save(ctx, change, |act, _| act.clean_up_over());
    }

    fn step_waits(&mut self, ctx: &mut Context<Self>, progressed: Progressed, event: Event) {
        self.silent = None;
        self.show(progressed.progress, None);
        if self.node.maintenance && event == Event::Wait {
            self.show_maintenance();
        }
        let Some(operation) = &mut self.operation else { return };
        let again = std::mem::take(&mut operation.look_again);
        let Some(at) = operation.at else { return };
        let mut change = Change::of(&self.node);
        if progressed.checkpoint.is_some() && progressed.checkpoint != operation.checkpoint {
            operation.checkpoint.clone_from(&progressed.checkpoint);
            let text = progressed.checkpoint.unwrap_or_default();
            change.journal.push(JournalChange::Checkpoint(operation.key(at), text));
        }
        let mut moves = false;
        if self.state().stuck_as_fail() || event == Event::Hold {
            match transition(&self.facts(), event) {
                Ok(outcome) => {
                    self.apply(&mut change, &outcome, None);
                    moves = true;
                    if event == Event::Hold
                        && let Some(operation) = &mut self.operation
                    {
                        // it may hold for days, which is nobody else's turn
                        operation.place = None;
                    }
                }
                Err(refusal) => {
                    let text = format!("this kind of work cannot wait: {refusal}");
                    return self.fire(ctx, Event::Fail, Some(text));
                }
            }
        }
        if change.journal.is_empty() && !moves {
            if again {
                self.look_at_step(ctx, false);
            }
            return;
        }
        self.save(ctx, change, move |act, ctx| {
            if again {
                act.look_at_step(ctx, false);
            }
        });
    }

    /// The ramdisk is gone in which a step was running: nobody will ever answer for it.
    pub(super) fn ramdisk_lost(&mut self, ctx: &mut Context<Self>, why: &str) {
        let Some(operation) = &self.operation else { return };
        let inside = operation.current().is_some_and(|step| step.resume == Resume::Reattach);
        if inside && self.state().is_wait() {
            let name = operation.name().unwrap_or_default();
            let reason = format!("{why} while it ran in the ramdisk; start the work again");
            let text = failed_text(operation.purpose.activity(), self.uuid(), &name, &reason);
            self.fire(ctx, Event::Fail, Some(text));
        }
    }

    /// What the step found is refused by the database.
    pub(super) fn step_cannot_be_stored(&mut self, ctx: &mut Context<Self>, error: &StoreError) {
        tracing::error!(node = %self.uuid(), %error, "what a step found cannot be stored");
        let error = DriverError::Refused {
            what: "the database".into(),
            command: "what the step found".into(),
            reason: error.to_string(),
        };
        self.step_failed(ctx, &error);
    }

    fn step_failed(&mut self, ctx: &mut Context<Self>, error: &DriverError) {
        let Some(operation) = &self.operation else { return };
        let name = operation.name().unwrap_or_default();
        match operation.purpose {
            Purpose::Work(activity) => {
                let text = failed_text(activity, self.uuid(), &name, &error.to_string());
                self.fire(ctx, Event::Fail, Some(text));
            }
            Purpose::CleanUp(activity) => self.clean_up_failed(ctx, activity, error),
        }
    }
}

impl Handler<StepEnded> for NodeActor {
    type Result = ();

    fn handle(&mut self, told: StepEnded, ctx: &mut Context<Self>) {
        let state = self.state();
        let Some(operation) = &mut self.operation else { return };
        let at_work = match operation.purpose {
            Purpose::Work(activity) => {
                state.activity() == Some(activity) && (state.stuck_as_fail() || state.is_wait())
            }
            Purpose::CleanUp(_) => true,
        };
        if !at_work || operation.id != told.operation || operation.at != Some(told.at) {
            tracing::debug!(node = %self.node.uuid, "a step's answer comes too late");
            return;
        }
        operation.in_flight = false;
        let reattaches = operation.current().is_some_and(|step| step.resume == Resume::Reattach);
        match told.result {
            Ok(StepOutcome::Done) => self.step_done(ctx, Found::default()),
            Ok(StepOutcome::Found(found)) => self.step_done(ctx, *found),
            Ok(StepOutcome::Wait(progressed)) => self.step_waits(ctx, progressed, Event::Wait),
            Ok(StepOutcome::Hold) => {
                self.step_waits(ctx, Progressed::default(), Event::Hold);
                self.show_hold();
            }
            // the ramdisk may answer next time; its deadline decides how often we ask
            Err(error) if error.is_transient() && (told.polled || reattaches) => {
                let waiting = error.to_string();
                tracing::info!(node = %self.node.uuid, %error, "asking the ramdisk again later");
                let doing = Progress { doing: "waiting for the ramdisk".into(), ..Progress::default() };
                if state.stuck_as_fail() {
                    let progressed = Progressed { progress: doing.clone(), checkpoint: None };
                    self.step_waits(ctx, progressed, Event::Wait);
                }
                self.show(doing, Some(waiting));
                self.silent = Some(error);
            }
            Err(error) => self.step_failed(ctx, &error),
        }
    }
}

impl Handler<StepReports> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, told: StepReports, _: &mut Context<Self>) -> Self::Result {
        let runs =
            |operation: &&mut Operation| operation.id == told.operation && operation.at == Some(told.at);
        let Some(operation) = self.operation.as_mut().filter(runs) else {
            return self.refuse(NodeError::Conflict("the node has gone on to something else".into()));
        };
        let known = operation.checkpoint.clone();
        let key = operation.key(told.at);
        self.show(told.progressed.progress, None);
        let Some(checkpoint) = told.progressed.checkpoint.filter(|new| known.as_ref() != Some(new)) else {
            return self.already();
        };
        let mut change = self.change();
        change.journal.push(JournalChange::Checkpoint(key, checkpoint.clone()));
        self.commit(change, move |act, _| {
            let same = |operation: &&mut Operation| operation.id == told.operation;
            if let Some(operation) = act.operation.as_mut().filter(same) {
                operation.checkpoint = Some(checkpoint);
            }
        })
    }
}
