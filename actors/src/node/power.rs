//! Power of the node: what was asked for, what was seen, what to do when the two differ (states.md §6).

use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, Message};
use ferric_drivers::DriverError;
use ferric_machine::power::{self, SyncPolicy, Unreadable, Verdict};
use ferric_machine::{BootMode, Fault, PowerState, PowerTarget, State};
use serde_json::json;

use super::orders::boot_of;
use super::{Change, NodeActor};
use crate::error::NodeError;
use crate::job::{answered, isolated, stopped};
use crate::looks::Look;
use crate::message::ChangePower;
use crate::power::SetPower;
use crate::view::{self, keys};

/// No machine takes longer to change its power.
const LONGEST_CHANGE: Duration = Duration::from_secs(86_400);

/// How long a look waits for a BMC: three transmissions. Whoever does not answer then is looked at again by and by.
const GLANCE: Duration = Duration::from_secs(10);

/// Looks at the power now: part of a sweep.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LookAtPower(pub(crate) Look);

impl Handler<LookAtPower> for NodeActor {
    type Result = ();

    fn handle(&mut self, ask: LookAtPower, ctx: &mut Context<Self>) {
        self.look_at_power(ctx, ask.0);
    }
}

/// What a look found.
struct Seen {
    power: Result<PowerState, DriverError>,
    /// Boot mode and secure boot, where they could be read.
    boot: Option<(Option<BootMode>, Option<bool>)>,
}

/// The power actor has changed or read the power state.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PowerObserved(pub(crate) PowerState);

/// The machine is about to lose power: its agent is gone whatever comes of it. Answered once that is committed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AgentGoes {
    /// It may call once more before it is gone; from now on nobody listens.
    pub(crate) still_there: bool,
}

/// The machine has lost power, or the order came to nothing: who looks up from now on is there.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AgentGone;

impl Handler<AgentGone> for NodeActor {
    type Result = ();

    fn handle(&mut self, _: AgentGone, _: &mut Context<Self>) {
        self.agent_goes = false;
    }
}

impl Handler<ChangePower> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: ChangePower, _: &mut Context<Self>) -> Self::Result {
        if let Err(error) = self.may_change_power(&ask) {
            return self.refuse(error);
        }
        let (target, within) = (ask.target, ask.timeout);
        let mut change = self.change();
        self.wish_power(&mut change, target, within);
        change.node.last_error = None;
        change.tell(
            &self.world,
            "INFO",
            "power_asked",
            format!("asked to go to {target}"),
            json!({"target": target}),
        );
        self.commit(change, move |act, ctx| act.change_power(ctx, target, within))
    }
}

impl NodeActor {
    fn may_change_power(&self, ask: &ChangePower) -> Result<(), NodeError> {
        if matches!(self.state(), State::Cleaning | State::CleanWait) {
            let text = format!(
                "The requested action \"{}\" can not be performed on node \"{}\" while it is in state \"{}\". Wait \
                 for the end of the cleaning.",
                ask.target,
                self.uuid(),
                self.state()
            );
            return Err(NodeError::Invalid(text));
        }
        if self.node.disable_power_off && ask.target.forbidden_by_disable_power_off() {
            let text = format!(
                "Failed to set node power state to {}. The 'disable_power_off' of node {} is set: reboot it, or unset \
                 that first.",
                ask.target,
                self.uuid()
            );
            return Err(NodeError::Conflict(text));
        }
        self.free()?;
        let job = self.job()?;
        job.bound.power.validate(&job.view)?;
        if !job.bound.power.supported().contains(&ask.target) {
            let text =
                format!("The power interface of node {} does not support '{}'.", self.uuid(), ask.target);
            return Err(NodeError::Invalid(text));
        }
        Ok(())
    }

    /// Writes down what power is asked for, in words that a restart can act on.
    fn wish_power(&self, change: &mut Change, target: PowerTarget, within: Option<Duration>) {
        change.node.target_power_state = Some(target.end());
        change.node.reservation = Some(self.world.settings.host.clone());
        view::edit(&mut change.node.driver_internal_info, |info| {
            let within = within.map(|within| within.as_secs());
            info.insert(keys::POWER_WISH.into(), json!({"target": target, "within": within}));
        });
    }

    fn change_power(&mut self, ctx: &mut Context<Self>, to: PowerTarget, within: Option<Duration>) {
        let usual = match to {
            PowerTarget::SoftOff | PowerTarget::SoftReboot => self.world.settings.soft_power_off_timeout,
            PowerTarget::On | PowerTarget::Off | PowerTarget::Reboot => {
                self.world.settings.power_change_timeout
            }
        };
        let within = within.unwrap_or(usual).min(LONGEST_CHANGE);
        let asked = match self.job() {
            Ok(job) => {
                let ask = SetPower { job, to, within };
                self.siblings().power.send(ask).timeout(within + self.world.settings.step_within)
            }
            Err(error) => {
                return self.power_ended(ctx, to, Err(stopped("changing power", &error.to_string())));
            }
        };
        self.afterwards(ctx, asked, move |result, act, ctx| {
            act.power_ended(ctx, to, answered("changing the power state", result));
        });
    }

    fn power_ended(
        &mut self,
        ctx: &mut Context<Self>,
        to: PowerTarget,
        result: Result<PowerState, DriverError>,
    ) {
        let mut change = self.change();
        let node = &mut change.node;
        node.target_power_state = None;
        view::edit(&mut node.driver_internal_info, |info| drop(info.remove(keys::POWER_WISH)));
        node.reservation = self.holder_of(node);
        let (severity, text) = match result {
            Ok(reached) => {
                node.power_state = Some(reached);
                ("INFO", format!("power is {reached}"))
            }
            Err(error) => {
                let text = view::printable(&to.failed(&error.to_string()));
                node.last_error = Some(text.clone());
                ("ERROR", text)
            }
        };
        let power = node.power_state;
        change.tell(&self.world, severity, "power_set", text, json!({"target": to, "power_state": power}));
        let done = severity == "INFO";
        let news = if done { Ok(()) } else { Err(change.node.last_error.clone().unwrap_or_default()) };
        if let Err(text) = &news {
            self.record(&mut change, "power", text);
        }
        self.save(ctx, change, move |act, ctx| {
            // nobody may be waiting for it
            let _ = act.world.power_done.send((act.uuid(), news));
            if done && to.wipes_agent() {
                act.ramdisk_lost(ctx, &format!("the machine was asked to go to '{to}'"));
            }
        });
    }

    /// After a restart: a power change that was asked for is completed by looking at the machine.
    pub(super) fn take_up_power(&mut self, ctx: &mut Context<Self>) {
        let wish = self.node.driver_internal_info.get(keys::POWER_WISH);
        let target = wish.as_ref().and_then(|wish| serde_json::from_value(wish.get("target")?.clone()).ok());
        let within = wish.as_ref().and_then(|wish| wish.get("within")?.as_u64()).map(Duration::from_secs);
        match (self.node.target_power_state, target) {
            (None, _) => {}
            (Some(_), Some(target)) => self.change_power(ctx, target, within),
            (Some(PowerState::On | PowerState::Error), None) => self.change_power(ctx, PowerTarget::On, None),
            (Some(PowerState::Off), None) => self.change_power(ctx, PowerTarget::Off, None),
        }
    }

    /// The next periodic look. The first one is spread over the whole interval by the node's id, so that a fleet does
    /// not ask its BMCs all at once.
    pub(super) fn schedule_power_sync(&mut self, ctx: &mut Context<Self>, first: bool) {
        let interval = self.world.settings.power_sync_interval;
        if interval.is_zero() {
            return;
        }
        let part =
            u32::from_be_bytes(self.node.uuid.as_bytes()[..4].try_into().expect("a uuid has 16 bytes"));
        let jitter = interval.mul_f64(f64::from(part) / f64::from(u32::MAX));
        let after = self.world.looks.on_the_beat(if first { jitter } else { interval });
        if first && self.is_looked_at() {
            self.world.looks.watch(self.uuid());
        }
        Self::later(ctx, after, |act, ctx| {
            act.sync_power(ctx);
            act.schedule_power_sync(ctx, false);
        });
    }

    fn sync_power(&mut self, ctx: &mut Context<Self>) {
        let look = self.world.looks.look(self.uuid());
        self.look_at_power(ctx, look);
    }

    /// Whether Ferric itself took the node out of service because its BMC did not answer.
    fn is_out_for_power(&self) -> bool {
        let node = &self.node;
        node.maintenance && node.fault == Some(Fault::PowerFailure) && node.reservation.is_none()
    }

    /// Whether its power is looked at at all.
    fn is_looked_at(&self) -> bool {
        let node = &self.node;
        let skip = power::skip(
            node.provision_state,
            node.reservation.is_some(),
            node.maintenance,
            node.target_power_state,
        );
        !skip || self.is_out_for_power()
    }

    /// Reads the power beside the mailbox. A reading that changes nothing comes back to nobody: it costs the node no turn,
    /// and the database nothing.
    fn look_at_power(&mut self, ctx: &mut Context<Self>, mut look: Look) {
        if !self.is_looked_at() {
            return look.left_out();
        }
        let Ok(job) = self.job() else { return look.left_out() };
        let faulty = self.is_out_for_power();
        if job.bound.power.is_imaginary() && !faulty {
            return look.left_out();
        }
        if self.looking {
            // one at a time: what that one finds is news enough
            if look.is_of_a_sweep() {
                self.joined.push(look.join());
            }
            return;
        }
        self.world.looks.watch(self.uuid());
        let governor = self.world.governor.clone();
        let bmc = job.bound.power.bmc(&job.view);
        let spared = governor.is_closed(bmc.as_deref());
        if spared && !look.is_of_a_sweep() {
            // it was not asked, and so has not failed to answer once more
            return look.not_asked();
        }
        self.looking = true;
        let (before, stored) = (self.node.generation, self.node.power_state);
        let booted = (self.node.boot_mode, self.node.secure_boot);
        let read = isolated("reading the power state", job.cancel.clone(), async move {
            look.take_place().await;
            let ask = job.bound.power.glance(&job.view, GLANCE);
            let power = look.wait(governor.glance(bmc, GLANCE, ask)).await;
            let boot = match &power {
                Ok(_) => {
                    look.answered();
                    boot_of(&job, &governor).await
                }
                Err(_) => {
                    look.silent();
                    None
                }
            };
            Ok(Seen { power, boot })
        });
        ctx.spawn(read.into_actor(self).map(move |seen, act, ctx| {
            for joined in std::mem::take(&mut act.joined) {
                // a look that came to nothing has asked nobody for others either
                if let Ok(seen) = &seen {
                    joined.ended(seen.power.is_ok());
                }
            }
            let seen = seen.unwrap_or_else(|error| Seen { power: Err(error), boot: None });
            let as_known = seen.power.as_ref().is_ok_and(|power| Some(*power) == stored)
                && seen.boot.is_none_or(|boot| boot == booted);
            // and who was spared and asked all the same has not failed once more: he who asks often finds no more faults
            if as_known && act.power_failures == 0 && !faulty || spared && seen.power.is_err() {
                act.looking = false;
                return;
            }
            Self::in_turn(ctx, move |act, ctx| {
                act.looking = false;
                act.looked_at_power(ctx, seen, before, faulty);
            });
        }));
    }

    fn looked_at_power(&mut self, ctx: &mut Context<Self>, seen: Seen, before: i64, faulty: bool) {
        // something else happened to the node meanwhile: this reading may be older than that
        if self.node.generation != before {
            return;
        }
        match seen.power {
            Ok(power @ (PowerState::On | PowerState::Off)) if faulty => self.power_heals(ctx, power),
            Ok(_) | Err(_) if faulty => {}
            power => {
                if let Some((mode, secure)) = seen.boot
                    && (self.node.boot_mode, self.node.secure_boot) != (mode, secure)
                {
                    // as after an order, in a turn of its own
                    Self::in_turn(ctx, move |act, ctx| act.boots_so(ctx, mode, secure));
                }
                self.reconcile(ctx, power);
            }
        }
    }

    /// The BMC answers again: what Ferric itself took out of service it puts back (states.md §5).
    fn power_heals(&mut self, ctx: &mut Context<Self>, seen: PowerState) {
        let mut change = self.change();
        change.node.power_state = Some(seen);
        change.node.maintenance = false;
        change.node.maintenance_reason = None;
        change.node.fault = None;
        let text = format!("the BMC answers again: out of maintenance, {seen}");
        change.tell(&self.world, "INFO", "power_recovered", text, json!({"power_state": seen}));
        self.power_failures = 0;
        self.save(ctx, change, |_, _| {});
    }

    fn reconcile(&mut self, ctx: &mut Context<Self>, seen: Result<PowerState, DriverError>) {
        let policy =
            SyncPolicy { disable_power_off: self.node.disable_power_off, ..self.world.settings.power_sync };
        let why = seen.as_ref().err().map(ToString::to_string);
        let verdict = power::reconcile(
            self.node.power_state,
            seen.map_err(|_| Unreadable),
            self.power_failures,
            &policy,
        );
        self.power_failures = verdict.failures_after(self.power_failures);
        let mut change = self.change();
        match verdict {
            Verdict::Same => return,
            Verdict::CountUp => {
                tracing::info!(node = %self.uuid(), why, failures = self.power_failures, "power state unreadable");
                return;
            }
            Verdict::Record(seen) | Verdict::Adopt(seen) => change.node.power_state = Some(seen),
            Verdict::Restore(to) => {
                tracing::warn!(node = %self.uuid(), %to, "power differs from what is wanted; restoring");
                self.wish_power(&mut change, to, None);
                let text = format!("power differs from {}; restoring it", to.end());
                change.tell(&self.world, "WARNING", "power_restored", text, json!({"target": to}));
                self.save(ctx, change, move |act, ctx| act.change_power(ctx, to, None));
                return;
            }
            Verdict::Fault { stored } => {
                let mut text = power::fault_message(&self.uuid().to_string());
                if let Some(why) = why {
                    text = format!("{text}. Last try: {why}");
                }
                text.push_str(". Maintenance ends by itself once the BMC answers");
                let text = view::printable(&text);
                change.node.power_state = stored;
                change.node.maintenance = true;
                change.node.fault = Some(Fault::PowerFailure);
                change.node.maintenance_reason = Some(text.clone());
                change.node.last_error = Some(text.clone());
                self.record(&mut change, "power", &text);
                change.tell(&self.world, "ERROR", "power_fault", text, json!({}));
            }
        }
        let state = change.node.power_state;
        let text = state.map_or_else(|| "power is unknown".to_owned(), |state| format!("power is {state}"));
        change.tell(&self.world, "INFO", "power_set", text, json!({"power_state": state}));
        self.save(ctx, change, |_, _| {});
    }
}

impl Handler<PowerObserved> for NodeActor {
    type Result = ();

    fn handle(&mut self, told: PowerObserved, ctx: &mut Context<Self>) {
        if self.node.power_state == Some(told.0) {
            return;
        }
        let mut change = self.change();
        change.node.power_state = Some(told.0);
        let data = json!({"power_state": told.0});
        change.tell(&self.world, "INFO", "power_set", format!("power is {}", told.0), data);
        self.save(ctx, change, |_, _| {});
    }
}

impl Handler<AgentGoes> for NodeActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, told: AgentGoes, _: &mut Context<Self>) -> Self::Result {
        self.agent_goes = told.still_there;
        let mut change = self.change();
        if self.node.driver_internal_info.get(keys::PREGENERATED) != Some(serde_json::Value::Bool(true)) {
            view::wipe_agent(&mut change.node);
        }
        if change.node.driver_internal_info == self.node.driver_internal_info {
            return AtomicResponse::new(Box::pin(std::future::ready(()).into_actor(self)));
        }
        let (world, commit) = (self.world.clone(), self.commit_of(change));
        let write = async move { world.commit_until_done(commit).await };
        AtomicResponse::new(Box::pin(write.into_actor(self).map(|result, act, ctx| match result {
            Ok(done) => act.committed(done, ctx),
            Err(error) => act.lost(&error, ctx),
        })))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use async_trait::async_trait;
    use ferric_drivers::interface::{NodeView, PowerInterface, Property, Result};
    use ferric_machine::Verb;

    use super::super::turn::tests::Bench;
    use super::*;

    /// A BMC that counts who asks it.
    #[derive(Default)]
    struct Counts(AtomicUsize);

    #[async_trait]
    impl PowerInterface for Counts {
        fn properties(&self) -> &'static [Property] {
            &[]
        }
        fn validate(&self, _: &NodeView) -> Result<()> {
            Ok(())
        }
        fn supported(&self) -> &'static [PowerTarget] {
            PowerTarget::ALL
        }
        fn bmc(&self, _: &NodeView) -> Option<String> {
            Some("ipmi:10.0.0.1:623".into())
        }
        async fn power_state(&self, _: &NodeView) -> Result<PowerState> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(PowerState::Off)
        }
        async fn set_power(&self, _: &NodeView, target: PowerTarget, _: Duration) -> Result<PowerState> {
            Ok(target.end())
        }
    }

    #[actix::test]
    async fn a_sweep_joins_the_look_that_is_under_way() {
        let bmc = Arc::new(Counts::default());
        let power = bmc.clone();
        let bench = Bench::new(|parts, _| drop(parts.power.insert("fake", power))).await;
        bench.verb(Verb::Manage).await;
        bench.becomes(State::Manageable).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        for round in 1..=2 {
            let before = bmc.0.load(Ordering::SeqCst);
            bench
                .within(|act, ctx| {
                    let looks = act.world.looks.clone();
                    // no other node is there: its place is free
                    let sweep = looks.begin(1, act.world.now()).expect("none is under way");
                    let mut of_sweep = looks.look(act.uuid());
                    of_sweep.be_part_of(&sweep);
                    act.sync_power(ctx);
                    act.look_at_power(ctx, of_sweep);
                    act.sync_power(ctx);
                })
                .await;
            let last = loop {
                match bench.directory.power_sync().last_sweep {
                    Some(last) if last.number == round => break last,
                    Some(_) | None => assert!(Instant::now() < deadline, "the sweep does not end"),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            };
            assert_eq!((last.answered, last.silent, last.left_out), (1, 0, 0));
            assert_eq!(bmc.0.load(Ordering::SeqCst), before + 1, "three looks, one question");
            // what it found is seen to: then the next may come
            while bench.within(|act, _| act.looking).await {
                assert!(Instant::now() < deadline, "the look does not end");
            }
        }
        bench.directory.stop().await;
    }
}
