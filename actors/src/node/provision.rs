//! Verbs, time-outs, and what a restart makes of the state it finds.

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler};
use ferric_drivers::flow::Order;
use ferric_drivers::interface::Step;
use ferric_machine::steps::aborted_message;
use ferric_machine::{Activity, Deadline, Event, PowerState, Refusal, State, Verb, Work, transition};
use ferric_schema::{JournalChange, Node, Port, journal::StepState};
use serde_json::{Value, json};

use super::operation::{Operation, Purpose};
use super::work::Next;
use super::{Change, NodeActor};
use crate::boot::LayOutInstance;
use crate::error::NodeError;
use crate::job::answered;
use crate::message::{ContinueInspection, Provision};
use crate::view;

impl Handler<Provision> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: Provision, _: &mut Context<Self>) -> Self::Result {
        match self.plan(&ask) {
            Ok(Plan { change, next, abort_after }) => {
                let asked = ask.verb;
                self.commit(change, move |act, ctx| {
                    act.by = ask.wanted.by;
                    if let Some(running) = &mut act.operation {
                        running.abort_after |= abort_after;
                    }
                    tracing::info!(node = %act.uuid(), verb = %asked, "accepted");
                    act.go_on(next, ctx);
                })
            }
            Err(error) => self.refuse(error),
        }
    }
}

/// What a verb leads to.
struct Plan {
    /// To commit.
    change: Change,
    /// To begin afterwards.
    next: Next,
    /// The running step is to be the last one.
    abort_after: bool,
}

impl NodeActor {
    fn plan(&self, ask: &Provision) -> Result<Plan, NodeError> {
        let outcome = ferric_machine::request(&self.facts(), ask.verb).map_err(|refusal| {
            let busy = matches!(refusal, Refusal::NotAllowed { .. }) && self.node.reservation.is_some();
            if busy { self.locked() } else { NodeError::Refused(refusal) }
        })?;
        if self.node.target_power_state.is_some() || self.is_ordered() {
            return Err(self.locked());
        }
        if outcome.work == Work::None && self.tidies_up() {
            return Err(self.locked());
        }
        let mut change = self.change();
        let mut error = None;
        let mut steps = None;
        match outcome.work {
            Work::None | Work::Continue | Work::CleanUp => {}
            Work::AbortDeploy
            | Work::AbortClean
            | Work::AbortInspect
            | Work::AbortRescue
            | Work::AbortService => {
                let step = self.operation.as_ref().and_then(Operation::shown_name);
                error = self.state().activity().map(|activity| aborted_text(activity, step.as_deref()));
            }
            Work::TearDown => self.job().and_then(|job| Ok(job.bound.power.validate(&job.view)?))?,
            // accepted whatever the node's fields are: what is wrong with them shows as the work's failure (states.md §2)
            Work::Verify | Work::Adopt => {}
            Work::Clean if ask.verb == Verb::Provide => view::wipe_agent(&mut change.node),
            Work::Deploy | Work::Clean | Work::Inspect | Work::Rescue | Work::Unrescue | Work::Service => {
                let Some(activity) = outcome.to.activity() else {
                    unreachable!("TABLE begins work in states of that work only")
                };
                self.write_wanted(ask, activity, &mut change)?;
                let order = Order {
                    activity,
                    steps: ask.wanted.steps.clone(),
                    automated: activity == Activity::Clean && ask.verb != Verb::Clean,
                    disable_ramdisk: ask.wanted.disable_ramdisk,
                };
                steps = Some(self.check_and_plan(&change.node, &order)?);
            }
        }
        if outcome.marks_abort_after {
            let node = &mut change.node;
            for field in [&mut node.deploy_step, &mut node.clean_step, &mut node.service_step] {
                if field.get("step").is_some() {
                    view::edit(field, |step| drop(step.insert("abort_after".into(), Value::Bool(true))));
                }
            }
            return Ok(Plan { change, next: Next::default(), abort_after: true });
        }
        let next = self.enter(&mut change, &outcome, error, steps);
        Ok(Plan { change, next, abort_after: false })
    }

    /// What the request brings for the work itself, into the row.
    fn write_wanted(
        &self,
        ask: &Provision,
        activity: Activity,
        change: &mut Change,
    ) -> Result<(), NodeError> {
        let node = &mut change.node;
        match activity {
            Activity::Deploy => {
                let drive = match &ask.configdrive {
                    None | Some(Value::Null) => None,
                    Some(Value::String(text)) => Some(text.clone()),
                    Some(Value::Object(parts)) => {
                        let info = node.instance_info.parse();
                        let shown = info.get("display_name").and_then(Value::as_str);
                        let name = shown.or(node.name.as_deref());
                        Some(ferric_drivers::deploy::build_configdrive(node.uuid, name, parts)?)
                    }
                    Some(Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
                        return Err(NodeError::Invalid("configdrive must be a string or an object".into()));
                    }
                };
                if let Some(drive) = drive {
                    view::edit(&mut node.instance_info, |info| {
                        info.insert("configdrive".into(), Value::String(drive));
                    });
                }
                // what an earlier deployment left must not steer this one
                view::wipe_agent(node);
            }
            Activity::Rescue => {
                if let Some(hash) = &ask.wanted.rescue_password {
                    view::edit(&mut node.instance_info, |info| {
                        info.insert(view::keys::RESCUE_PASSWORD.into(), json!(hash.expose()));
                    });
                }
                view::wipe_agent(node);
            }
            Activity::Inspect | Activity::Clean | Activity::Service | Activity::Unrescue => {
                view::wipe_agent(node);
            }
            Activity::Verify | Activity::TearDown | Activity::Adopt => {}
        }
        Ok(())
    }

    fn check_and_plan(&self, node: &Node, order: &Order) -> Result<Vec<Step>, NodeError> {
        let job = self.job_of(node)?;
        self.world.flow.validate(&job.view, &job.bound, order)?;
        let steps = self.world.flow.plan(&job.view, &job.bound, order);
        if steps.is_empty() {
            return Err(NodeError::Driver(ferric_drivers::DriverError::Unsupported {
                interface: job.bound.names.values().cloned().collect::<Vec<_>>().join(", "),
                what: order.activity.to_string(),
            }));
        }
        Ok(steps)
    }

    /// Whether a node is cleaned on its way to `available` (states.md §4).
    fn cleans_by_itself(&self, node: &Node) -> bool {
        node.automated_clean.unwrap_or(self.world.settings.automated_clean)
    }

    /// The steps of work that begins by itself, none where there is nothing to do; or why it cannot begin.
    pub(super) fn plan_by_itself(&self, node: &Node, activity: Activity) -> Result<Vec<Step>, String> {
        if activity == Activity::Clean && !self.cleans_by_itself(node) {
            return Ok(Vec::new());
        }
        self.check_and_plan(node, &Order::new(activity)).map_err(|error| error.to_string())
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

    /// The ramdisk did not call in time.
    pub(super) fn overdue(&mut self, guard: Deadline, ctx: &mut Context<Self>) {
        self.deadline = None;
        if self.node.maintenance {
            // looked at again when maintenance ends or the agent calls
            self.arm(ctx);
            return;
        }
        let step = self.operation.as_ref().and_then(Operation::shown_name);
        let mut text = guard.message(&self.uuid().to_string(), step.as_deref());
        if let Some(step) = step.filter(|step| !text.contains(step.as_str())) {
            text = format!("{text} (step {step})");
        }
        text.truncate(text.trim_end_matches('.').len());
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
        match self.job() {
            Err(error) if self.state().stuck_as_fail() || self.state().is_wait() => {
                self.fire(ctx, Event::Fail, Some(error.to_string()));
            }
            Ok(_) | Err(_) => {
                if !self.take_up_operation(ctx) {
                    self.take_up_bare_state(ctx);
                }
            }
        }
        if self.state() == State::Active {
            self.lay_out_instance(ctx);
        }
        self.take_up_power(ctx);
        self.take_up_order(ctx);
        self.take_up_console(ctx);
    }

    /// A clean-up after work that did not come to its end is under way.
    pub(super) fn tidies_up(&self) -> bool {
        self.operation.as_ref().is_some_and(|operation| matches!(operation.purpose, Purpose::CleanUp(_)))
    }

    /// An instance that boots over the network needs its files at every boot.
    pub(super) fn lay_out_instance(&mut self, ctx: &mut Context<Self>) {
        let boot = self.node.driver_internal_info.get(view::keys::INSTANCE_BOOT);
        let boot = boot.and_then(|boot| serde_json::from_value(boot).ok());
        let (Some(boot), Ok(job)) = (boot, self.job()) else { return };
        let ask = self.siblings().boot.send(LayOutInstance { job, boot });
        ctx.spawn(ask.into_actor(self).map(|result, act, _| {
            if let Err(error) = answered("laying out the instance", result) {
                tracing::error!(node = %act.uuid(), %error, "the instance's boot is not laid out again");
            }
        }));
    }

    /// The journal has nothing of the work that the state speaks of: a cleaning that was passed through, a database of
    /// an earlier release. What can be begun anew without harm is; the rest ends in its failed state.
    fn take_up_bare_state(&mut self, ctx: &mut Context<Self>) {
        let Some(activity) = self.state().activity() else { return };
        if !self.state().stuck_as_fail() && !self.state().is_wait() {
            return;
        }
        let again = self.state().stuck_as_fail()
            && match activity {
                Activity::Clean => self.node.target_provision_state == Some(State::Available),
                Activity::Verify | Activity::TearDown => true,
                Activity::Deploy
                | Activity::Inspect
                | Activity::Adopt
                | Activity::Rescue
                | Activity::Unrescue
                | Activity::Service => false,
            };
        if !again {
            let text = format!("the step journal has nothing of this work ({activity}); start it again");
            return self.fire(ctx, Event::Fail, Some(text));
        }
        let mut change = self.change();
        let next = self.enter_again(&mut change, activity);
        self.save(ctx, change, move |act, ctx| act.go_on(next, ctx));
    }
}

/// `last_error` after an abort.
fn aborted_text(activity: Activity, step: Option<&str>) -> String {
    match activity {
        Activity::Inspect => "Inspection was aborted by request.".to_owned(),
        Activity::Verify
        | Activity::Deploy
        | Activity::TearDown
        | Activity::Clean
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue
        | Activity::Service => aborted_message(activity, step),
    }
}

impl NodeActor {
    /// What the hooks and rules of an inspection may read and set besides what drivers see of a node.
    fn row_for_rules(&self, traits: Vec<String>) -> Value {
        json!({
            "extra": self.node.extra.parse(),
            "traits": traits,
            "resource_class": self.node.resource_class,
            "description": self.node.description,
            "raid_config": self.node.raid_config.parse(),
        })
    }

    /// The same of its ports.
    fn ports_for_rules(&self) -> Value {
        let port = |port: &Port| {
            json!({
                "uuid": port.uuid,
                "extra": port.extra.parse(),
                "local_link_connection": port.local_link_connection.parse(),
                "physical_network": port.physical_network,
            })
        };
        self.ports.iter().map(port).collect()
    }
}

impl Handler<ContinueInspection> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    /// The data becomes the arguments of the step that makes something of it, so that it is in the journal before the
    /// ramdisk hears that it may forget it.
    fn handle(&mut self, told: ContinueInspection, _: &mut Context<Self>) -> Self::Result {
        let waits = self.state() == State::InspectWait;
        if self.state() == State::Inspecting {
            return self.refuse(self.locked()); // it tries again
        }
        let Some(plan) = self.operation.as_ref().filter(|_| waits).and_then(Operation::waiting_step) else {
            return self.refuse(NodeError::NotFound { what: "Node", id: self.uuid().to_string() });
        };
        let mut process = Step::new("inspect", "process", 0);
        process.args.insert("inventory".into(), Value::Object(told.inventory));
        process.args.insert("plugin_data".into(), Value::Object(told.plugin_data));
        process.args.insert("rules".into(), Value::Array(told.rules));
        process.args.insert("node".into(), self.row_for_rules(told.traits));
        process.args.insert("ports".into(), self.ports_for_rules());
        if let Some(previous) = told.previous_inventory {
            process.args.insert("previous_inventory".into(), Value::Object(previous));
        }
        let mut change = self.change();
        let outcome = transition(&self.facts(), Event::Resume).expect("TABLE has inspect wait, resume");
        self.apply(&mut change, &outcome, None);
        change.journal.push(JournalChange::End { key: plan.ended, state: StepState::Done, error: None });
        change.journal.push(JournalChange::Drop { op: plan.operation, from: plan.next });
        let (rows, key) =
            self.operation.as_ref().expect("it waits, as was just seen").rows_with(process.clone());
        change.journal.push(JournalChange::Plan(rows));
        change.journal.push(JournalChange::Start(key));
        self.commit(change, move |act, ctx| act.goes_on_with(process, ctx))
    }
}
