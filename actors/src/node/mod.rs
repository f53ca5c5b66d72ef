//! The node's actor: it owns the provision state. Whatever changes the node passes through here, is committed, and
//! only then takes effect.
//!
//! The mailbox is the node's lock. It is held (`ctx.wait`) for the length of a commit and for nothing else; hardware
//! work runs in the sibling actors and comes back as a message, and so does whatever was spawned (`turn`).

mod agent;
pub mod belongings;
mod consoles;
mod fields;
mod found;
mod hardware;
mod milestones;
mod operation;
mod orders;
mod ports;
mod power;
mod provision;
mod reserve;
mod sensors;
mod turn;
mod work;

use std::cell::OnceCell;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, AtomicResponse, Context, Handler, Message,
    ResponseActFuture, SpawnHandle, WeakAddr,
};
use ferric_drivers::DriverError;
use ferric_drivers::interface::Kind;
use ferric_machine::{Activity, Facts, Outcome, State, Timestamp, Work};
use ferric_schema::events::NewEvent;
use ferric_schema::history::{NewHistory, Severity};
use ferric_schema::{
    Also, Columns, Commit, Committed, JournalChange, JsonText, Node, Port, StoreError, journal::StepRow,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::boot::BootActor;
use crate::deploy::DeployActor;
use crate::error::NodeError;
use crate::family;
use crate::job::Job;
use crate::looks::Joined;
use crate::message::By;
use crate::power::{PowerActor, Stop};
use crate::supervisor::NodeDown;
use crate::view;
use crate::world::World;

pub(crate) use fields::Turn;
pub(crate) use ports::ReloadPorts;
pub use reserve::vifs_of;

pub(crate) use power::{AgentGoes, AgentGone, LookAtPower, PowerObserved};
pub(crate) use work::{StepEnded, StepReports};

use operation::Operation;

/// See the module.
pub struct NodeActor {
    world: Arc<World>,
    /// As last committed.
    node: Node,
    ports: Vec<Port>,
    /// Made when they are first needed: a node at rest does without.
    siblings: OnceCell<Siblings>,
    /// The way to itself, for those.
    address: Option<WeakAddr<NodeActor>>,
    /// Looks at the step that waits in the ramdisk, while there is one.
    progress: Option<SpawnHandle>,
    /// The work under way, or taken up again after a restart.
    operation: Option<Operation>,
    /// Bad power readings in a row.
    power_failures: u32,
    /// A look at the power is under way, or what it found is still to be seen to.
    looking: bool,
    /// Who asked for a look meanwhile.
    joined: Vec<Joined>,
    /// Guards the present wait state.
    deadline: Option<SpawnHandle>,
    /// When it does.
    gives_up_at: Option<Timestamp>,
    /// The last change could not be stored for what it held.
    unstorable: bool,
    /// What to begin with, in an actor made after a restart or a crash.
    open_steps: Vec<StepRow>,
    /// Whether the actor ends on purpose.
    leaving: bool,
    /// The actors died too often: nothing is taken up until an operator clears the maintenance.
    resting: bool,
    /// Ends what still runs for the present work, when the node goes on to something else.
    cancel: CancellationToken,
    /// Ends orders, which are no part of the work, together with this actor.
    life: CancellationToken,
    /// Why a look at the agent failed last, while its deadline still runs.
    silent: Option<DriverError>,
    /// The agent's token was made by an earlier life of this actor, and no agent has ever shown it: the answer that
    /// carried it may have died with that life.
    token_untold: bool,
    /// An order is under way that takes the machine's power away, if only for a moment.
    agent_goes: bool,
    /// The number of the order that holds the node, or held it last, in this life of the actor.
    order: u64,
    /// Tells who waits for its turn that an order (`orders.rs`) is over.
    orders_done: tokio::sync::watch::Sender<()>,
    /// Who asked for the work under way; nobody knows after a restart.
    by: By,
}

#[derive(Clone)]
struct Siblings {
    power: Addr<PowerActor>,
    boot: Addr<BootActor>,
    deploy: Addr<DeployActor>,
}

/// A sibling actor ended. Unless the node is leaving, that was a panic, and everything of this node starts anew.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ChildStopped;

/// Ends the node's actors: it was deleted, or the process stops.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Leave;

/// What is to be committed.
pub(crate) struct Change {
    node: Node,
    events: Vec<NewEvent>,
    journal: Vec<JournalChange>,
    also: Vec<Also>,
    /// A ramdisk waits for it, or an operation for the ramdisk: the database does not refuse it when much else waits.
    first: bool,
}

impl Change {
    fn of(node: &Node) -> Change {
        Change { node: node.clone(), events: Vec::new(), journal: Vec::new(), also: Vec::new(), first: false }
    }

    fn tell(&mut self, world: &World, severity: &str, kind: &str, text: String, data: Value) {
        let Value::Object(data) = data else { unreachable!("event data is written as an object") };
        self.events.push(NewEvent {
            node: Some(self.node.uuid),
            at: world.now(),
            kind: kind.to_owned(),
            severity: severity.to_owned(),
            text,
            data: JsonText::from(data),
        });
    }
}

impl NodeActor {
    /// `open_steps` is the unfinished operation of the journal, if there is one. A `resting` node takes nothing up.
    pub(crate) fn new(
        world: Arc<World>,
        node: Node,
        ports: Vec<Port>,
        open_steps: Vec<StepRow>,
        resting: bool,
    ) -> NodeActor {
        let info = node.driver_internal_info.parse();
        let token_untold = info.contains_key(view::keys::TOKEN) && !info.contains_key(view::keys::URL);
        NodeActor {
            world,
            node,
            ports,
            siblings: OnceCell::new(),
            address: None,
            progress: None,
            operation: None,
            power_failures: 0,
            looking: false,
            joined: Vec::new(),
            deadline: None,
            gives_up_at: None,
            unstorable: false,
            open_steps,
            leaving: false,
            resting,
            cancel: CancellationToken::new(),
            life: CancellationToken::new(),
            silent: None,
            token_untold,
            agent_goes: false,
            order: 0,
            orders_done: tokio::sync::watch::Sender::default(),
            by: By::default(),
        }
    }

    fn siblings(&self) -> &Siblings {
        self.siblings.get_or_init(|| {
            let node = self.address.as_ref().and_then(WeakAddr::upgrade);
            let node = node.expect("whoever asks is the actor itself, after started()");
            let (id, world) = (self.node.uuid, self.world.clone());
            let power = PowerActor { id, node: node.clone(), world: world.clone() }.start();
            let turn = Arc::default();
            let boot = BootActor { id, node: node.clone(), power: power.clone(), world: world.clone(), turn }
                .start();
            let deploy =
                DeployActor { id, node, boot: boot.clone(), power: power.clone(), world, running: None }
                    .start();
            Siblings { power, boot, deploy }
        })
    }

    fn facts(&self) -> Facts {
        self.facts_of(&self.node)
    }

    /// As [`NodeActor::facts`], for a row that is about to be committed.
    fn facts_of(&self, node: &Node) -> Facts {
        Facts {
            state: node.provision_state,
            target: node.target_provision_state,
            maintenance: node.maintenance,
            protected: node.protected,
            retired: node.retired,
            allow_provisioning_in_maintenance: self.world.settings.allow_provisioning_in_maintenance,
            step_abortable: self.operation.as_ref().and_then(Operation::abortable),
            inspection_abortable: self.can_stop_inspection(),
        }
    }

    fn can_stop_inspection(&self) -> bool {
        if self.node.provision_state != State::InspectWait {
            return true;
        }
        let steps = self.job().ok().and_then(|job| job.bound.steps_of(Kind::Inspect));
        steps.is_none_or(|steps| steps.can_abort())
    }

    /// The node as a driver gets it now.
    fn job(&self) -> Result<Job, NodeError> {
        self.job_of(&self.node)
    }

    /// As [`NodeActor::job`], for a row that is about to be committed.
    fn job_of(&self, node: &Node) -> Result<Job, NodeError> {
        let bound = self
            .world
            .registry
            .bound(&node.driver, &view::chosen(node))
            .map_err(|error| NodeError::Invalid(error.to_string()))?;
        let view = Arc::new(view::node_view(node, &self.ports));
        let keeps_power = node.disable_power_off;
        let powered_by = node.parent_node.filter(|_| !family::own_power(node));
        Ok(Job { view, bound, cancel: self.cancel.clone(), keeps_power, powered_by })
    }

    fn change(&self) -> Change {
        Change::of(&self.node)
    }

    /// An error in the node's history: what it says outlives `last_error`.
    fn record(&self, change: &mut Change, about: &str, text: &str) {
        self.note(change, Severity::Error, about, text);
    }

    /// A line of the node's history.
    fn note(&self, change: &mut Change, severity: Severity, about: &str, text: &str) {
        if !self.world.settings.node_history {
            return;
        }
        let (node, host) = (change.node.uuid, &self.world.settings.host);
        let mut line = NewHistory::new(node, host, about, severity, text, self.world.now());
        line.user.clone_from(&self.by.user);
        line.project.clone_from(&self.by.project);
        line.state = Some(self.node.provision_state.to_string());
        line.target_provision_state = self.node.target_provision_state.map(|target| target.to_string());
        line.duration =
            self.node.provision_updated_at.map(|since| self.world.now().0.saturating_sub(since.0).max(0));
        change.also.push(Also::History(line));
    }

    /// Writes what the state machine decided into the row.
    fn apply(&self, change: &mut Change, outcome: &Outcome, error: Option<String>) {
        let now = self.world.now();
        let error = error.map(|text| view::printable(&text));
        let node = &mut change.node;
        node.provision_state = outcome.to;
        node.target_provision_state = outcome.target;
        if outcome.changes_state() {
            node.provision_updated_at = Some(now);
        }
        if outcome.clears_last_error {
            node.last_error = None;
        }
        if let Some(text) = &error {
            node.last_error = Some(text.clone());
        }
        if outcome.wipes_agent {
            view::wipe_agent(node);
        }
        if outcome.clears_steps {
            node.deploy_step = JsonText::default();
            node.clean_step = JsonText::default();
            node.service_step = JsonText::default();
        }
        // a clean-up still asks what was planned, and forgets it itself
        if outcome.work.begins() || (outcome.to.is_stable() && outcome.work == Work::None) {
            view::wipe_plan(node);
        }
        if outcome.clears_instance {
            view::wipe_instance(node);
            change.also.push(Also::Deallocate);
            change.also.push(Also::ForgetVifs(ferric_drivers::network::VIF_KEY));
        }
        if outcome.clears_power {
            node.power_state = None;
        }
        if let Some(fault) = outcome.fault {
            node.maintenance = true;
            node.fault = Some(fault);
            if node.maintenance_reason.is_none() {
                node.maintenance_reason.clone_from(&error);
            }
        }
        match outcome.inspection {
            Some(ferric_machine::InspectionMark::Started) => {
                node.inspection_started_at = Some(now);
                node.inspection_finished_at = None;
            }
            // as in Ironic: who has finished has not started
            Some(ferric_machine::InspectionMark::Finished) => {
                node.inspection_finished_at = Some(now);
                node.inspection_started_at = None;
            }
            Some(ferric_machine::InspectionMark::Stopped) => node.inspection_started_at = None,
            None => {}
        }
        node.reservation = self.holder_of(node);
        if outcome.changes_state() {
            let text = match &error {
                Some(error) => format!("{} → {}: {error}", outcome.from, outcome.to),
                None => format!("{} → {}", outcome.from, outcome.to),
            };
            let data = json!({
                "from": outcome.from, "to": outcome.to, "event": outcome.event, "target": outcome.target,
            });
            let severity = if error.is_some() { "ERROR" } else { "INFO" };
            change.tell(&self.world, severity, "provision_set", text, data);
        }
        if let Some(error) = &error {
            self.record(change, outcome.from.activity().map_or("provision", Activity::as_str), error);
        }
    }

    /// Commits what has already happened, holding the mailbox, however long the database takes; then goes on.
    fn save(
        &mut self,
        ctx: &mut Context<Self>,
        change: Change,
        then: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) {
        let world = self.world.clone();
        let commit = self.commit_of(change);
        let write = async move { world.commit_until_done(commit).await };
        ctx.wait(write.into_actor(self).map(move |result, act, ctx| match result {
            Ok(done) => {
                act.committed(done, ctx);
                then(act, ctx);
            }
            // not the row's fault but of what a step found (a name that is taken, a text that the database refuses):
            // said once, as the step's failure; doing the step again would end here again
            Err(error)
                if act.operation.is_some()
                    && !std::mem::replace(&mut act.unstorable, true)
                    && !matches!(error, StoreError::Stale { .. } | StoreError::NotFound { .. }) =>
            {
                act.step_cannot_be_stored(ctx, &error);
            }
            Err(error) => act.lost(&error, ctx),
        }));
    }

    /// Commits what a client asked for, holding the mailbox; answers once it is committed.
    fn commit<T: 'static>(
        &mut self,
        change: Change,
        then: impl FnOnce(&mut Self, &mut Context<Self>) -> T + 'static,
    ) -> AtomicResponse<Self, Result<T, NodeError>> {
        AtomicResponse::new(self.committing(change, then))
    }

    /// [`NodeActor::commit`] as the last part of something longer.
    fn committing<T: 'static>(
        &mut self,
        change: Change,
        then: impl FnOnce(&mut Self, &mut Context<Self>) -> T + 'static,
    ) -> ResponseActFuture<Self, Result<T, NodeError>> {
        let (world, first) = (self.world.clone(), change.first);
        let commit = self.commit_of(change);
        let write = async move { world.commit(commit, first).await };
        Box::pin(write.into_actor(self).map(|result, act: &mut Self, ctx| match result {
            Ok(done) => {
                act.committed(done, ctx);
                Ok(then(act, ctx))
            }
            Err(StoreError::Stale { id, .. }) => {
                act.lost(&"the row was changed behind its back", ctx);
                Err(NodeError::Rebuilding(id))
            }
            Err(error) => Err(NodeError::Store(error)),
        }))
    }

    /// Answers without a commit.
    fn refuse<T: 'static>(&self, error: impl Into<NodeError>) -> AtomicResponse<Self, Result<T, NodeError>> {
        AtomicResponse::new(Box::pin(ready(Err(error.into())).into_actor(self)))
    }

    fn commit_of(&self, change: Change) -> Commit {
        Commit {
            columns: Columns::between(&self.node, &change.node),
            node: change.node,
            events: change.events,
            journal: change.journal,
            also: change.also,
            now: self.world.now(),
        }
    }

    fn committed(&mut self, done: Committed, ctx: &mut Context<Self>) {
        let before = self.node.provision_state;
        self.node = done.node;
        if !done.ports.is_empty() || !done.ports_gone.is_empty() {
            self.ports.retain(|known| !done.ports_gone.contains(&known.uuid));
            for port in done.ports {
                self.ports.retain(|known| known.uuid != port.uuid);
                self.ports.push(port);
            }
            self.world.ports.set(self.node.uuid, &self.ports);
        }
        for (address, other) in done.ports_taken {
            tracing::warn!(node = %self.node.uuid, %address, %other, "no port made: another node has this address");
        }
        self.unstorable = false;
        if before != self.state() {
            let error = if self.state().is_failed() { self.node.last_error.as_deref() } else { None };
            tracing::info!(node = %self.uuid(), error, "{before} → {}", self.state());
            self.silent = None;
            self.arm(ctx);
            self.follow_progress(ctx);
            let looked =
                matches!(before.activity(), Some(Activity::Verify | Activity::Clean | Activity::Service));
            // the work may have changed how it boots, and a machine just enrolled was never asked
            if looked && self.state().is_stable() {
                self.refresh_boot(ctx);
            }
        }
    }

    /// While the node waits for its ramdisk, the step there is looked at every now and then.
    fn follow_progress(&mut self, ctx: &mut Context<Self>) {
        if self.progress.is_some() || !self.state().is_wait() {
            return;
        }
        let every = self.world.settings.progress_interval.max(Duration::from_millis(50));
        self.progress = Some(ctx.run_interval(every, |act, ctx| {
            if act.state().is_wait() {
                Self::in_turn(ctx, |act, ctx| act.look_at_step(ctx, false));
            } else if let Some(over) = act.progress.take() {
                ctx.cancel_future(over);
            }
        }));
    }

    /// Sets the clock that guards the present state, from now on.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        self.arm_with(ctx, Duration::ZERO);
    }

    /// After a restart: the clock goes on where it was, with time enough for an agent to be heard.
    fn arm_again(&mut self, ctx: &mut Context<Self>) {
        let since = match ferric_machine::deadline(self.node.provision_state).map(|guard| guard.clock) {
            Some(ferric_machine::Clock::InspectionStarted) => self.node.inspection_started_at,
            Some(ferric_machine::Clock::ProvisionUpdated) | None => self.node.provision_updated_at,
        };
        let gone = since.map_or(0, |since| self.world.now().0.saturating_sub(since.0));
        self.arm_with(ctx, Duration::from_micros(u64::try_from(gone).unwrap_or(0)));
    }

    fn arm_with(&mut self, ctx: &mut Context<Self>, gone: Duration) {
        if let Some(old) = self.deadline.take() {
            ctx.cancel_future(old);
        }
        self.gives_up_at = None;
        let Some(guard) = ferric_machine::deadline(self.node.provision_state) else { return };
        let limit = self.world.settings.wait_limit(guard.option);
        // what an agent does between two calls is not known to the process that comes back
        let least = limit.min(self.world.settings.heartbeat_timeout.max(Duration::from_secs(60)));
        if !limit.is_zero() {
            let limit = limit.saturating_sub(gone).max(least);
            self.gives_up_at = Some(self.world.now() + limit);
            if let Some(mut doing) = self.world.doing.get_mut(&self.node.uuid) {
                doing.gives_up_at = self.gives_up_at;
            }
            let at = self.gives_up_at;
            self.deadline = Some(Self::later(ctx, limit, move |act, ctx| {
                // another clock may have been set before its turn came
                if act.gives_up_at == at {
                    act.overdue(guard, ctx);
                }
            }));
        }
    }

    /// What this actor knows is not what is stored: everything starts anew from the database.
    fn lost(&mut self, why: &dyn std::fmt::Display, ctx: &mut Context<Self>) {
        tracing::error!(node = %self.node.uuid, %why, "node actor and database disagree; rebuilding");
        ctx.stop();
    }

    fn locked(&self) -> NodeError {
        let host = self.node.reservation.clone().unwrap_or_else(|| self.world.settings.host.clone());
        NodeError::Locked { node: self.node.uuid, host, doing: self.world.sentence_of(self.node.uuid) }
    }

    fn uuid(&self) -> Uuid {
        self.node.uuid
    }

    fn state(&self) -> State {
        self.node.provision_state
    }
}

impl Actor for NodeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.address = Some(ctx.address().downgrade());
        self.schedule_power_sync(ctx, true);
        self.schedule_sensors(ctx, true);
        self.follow_progress(ctx);
        self.arm_again(ctx);
        self.take_up(ctx);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.world.doing.remove(&self.node.uuid);
        // whoever takes this node up again does the work anew
        self.cancel.cancel();
        self.life.cancel();
        if let Some(siblings) = self.siblings.take() {
            siblings.power.do_send(Stop);
            siblings.boot.do_send(Stop);
            siblings.deploy.do_send(Stop);
        }
        if !self.leaving {
            let panicked = std::thread::panicking();
            self.world.supervisor.do_send(NodeDown { id: self.node.uuid, panicked });
        }
    }
}

impl Handler<ChildStopped> for NodeActor {
    type Result = ();

    fn handle(&mut self, _: ChildStopped, ctx: &mut Context<Self>) {
        if !self.leaving {
            tracing::error!(node = %self.node.uuid, "a driver actor of this node died; rebuilding");
            ctx.stop();
        }
    }
}

impl Handler<Leave> for NodeActor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Context<Self>) {
        self.leaving = true;
        ctx.stop();
    }
}
