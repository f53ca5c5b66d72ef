//! Power and boot device of one node. Every command passes the governor; the node is told what was seen.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Message, ResponseFuture};
use ferric_drivers::DriverError;
use ferric_machine::{BootDevice, BootMode, PowerState, PowerTarget};
use uuid::Uuid;

use crate::family;
use crate::job::{Job, isolated, stopped};
use crate::node::{AgentGoes, AgentGone, ChildStopped, NodeActor, PowerObserved};
use crate::world::World;

/// What a BMC may take to answer one question.
pub(crate) const QUESTION: Duration = Duration::from_secs(90);

/// See the module.
pub(crate) struct PowerActor {
    pub(crate) id: Uuid,
    pub(crate) node: Addr<NodeActor>,
    pub(crate) world: Arc<World>,
}

impl Actor for PowerActor {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.node.do_send(ChildStopped);
    }
}

/// Reads the power state. An impatient reading is turned away while the BMC's back-off lasts.
#[derive(Message)]
#[rtype(result = "Result<PowerState, DriverError>")]
pub(crate) struct ReadPower {
    pub(crate) job: Job,
    pub(crate) patient: bool,
}

/// Brings the machine to `to`, unless it is there already.
#[derive(Message)]
#[rtype(result = "Result<PowerState, DriverError>")]
pub(crate) struct SetPower {
    pub(crate) job: Job,
    pub(crate) to: PowerTarget,
    pub(crate) within: Duration,
}

/// Reads the boot device.
#[derive(Message)]
#[rtype(result = "Result<(Option<BootDevice>, Option<bool>), DriverError>")]
pub(crate) struct ReadBootDevice(pub(crate) Job);

/// Sets the boot device.
#[derive(Message)]
#[rtype(result = "Result<(), DriverError>")]
pub(crate) struct SetDevice {
    pub(crate) job: Job,
    pub(crate) device: BootDevice,
    pub(crate) persistent: bool,
    pub(crate) mode: BootMode,
}

/// Ends the actor; dropping its address would not.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Handler<ReadPower> for PowerActor {
    type Result = ResponseFuture<Result<PowerState, DriverError>>;

    fn handle(&mut self, ask: ReadPower, _: &mut Context<Self>) -> Self::Result {
        let governor = self.world.governor.clone();
        Box::pin(isolated("reading the power state", ask.job.cancel.clone(), async move {
            let Job { view, bound, .. } = ask.job;
            let read = bound.power.power_state(&view);
            governor.run(bound.power.bmc(&view), ask.patient, QUESTION, read).await
        }))
    }
}

/// Says that the old agent is gone, however the power change ends: done, failed, cancelled or by a panic.
struct Goodbye(Addr<NodeActor>);

impl Drop for Goodbye {
    fn drop(&mut self) {
        self.0.do_send(AgentGone);
    }
}

impl Handler<SetPower> for PowerActor {
    type Result = ResponseFuture<Result<PowerState, DriverError>>;

    fn handle(&mut self, ask: SetPower, _: &mut Context<Self>) -> Self::Result {
        let (governor, node, id) = (self.world.governor.clone(), self.node.clone(), self.id);
        let world = self.world.clone();
        Box::pin(isolated("changing the power state", ask.job.cancel.clone(), async move {
            let Job { view, bound, powered_by, .. } = ask.job;
            let bmc = || bound.power.bmc(&view);
            let seen = governor.run(bmc(), true, QUESTION, bound.power.power_state(&view)).await?;
            let mut reached = seen;
            if !ask.to.reached(seen) {
                tracing::info!(node = %id, to = %ask.to, "changing power");
                match ask.to {
                    PowerTarget::Off | PowerTarget::SoftOff => family::children_off(&world, id).await?,
                    PowerTarget::On | PowerTarget::Reboot | PowerTarget::SoftReboot => {
                        family::parent_on(&world, powered_by).await?;
                    }
                }
                // a machine without power has no agent: one that looked up in its last moment took its token along
                let still_there = ask.to.wipes_agent();
                let _gone = still_there.then(|| Goodbye(node.clone()));
                if still_there || seen == PowerState::Off {
                    // before, not after: the ramdisk that comes up next must not lose the token it was just given
                    let gone = node.send(AgentGoes { still_there }).await;
                    gone.map_err(|error| stopped("changing the power state", &error.to_string()))?;
                }
                let set = bound.power.set_power(&view, ask.to, ask.within);
                reached = governor.run(bmc(), true, ask.within.saturating_add(QUESTION), set).await?;
            }
            // outside the BMC's turn: a slow database is not the BMC's fault
            if let Err(error) = node.send(PowerObserved(reached)).await {
                tracing::warn!(node = %id, %error, "the node did not hear of its power change");
            }
            Ok(reached)
        }))
    }
}

impl Handler<ReadBootDevice> for PowerActor {
    type Result = ResponseFuture<Result<(Option<BootDevice>, Option<bool>), DriverError>>;

    fn handle(&mut self, ask: ReadBootDevice, _: &mut Context<Self>) -> Self::Result {
        let governor = self.world.governor.clone();
        Box::pin(isolated("reading the boot device", ask.0.cancel.clone(), async move {
            let Job { view, bound, .. } = ask.0;
            let read = bound.management.boot_device(&view);
            governor.run(bound.power.bmc(&view), true, QUESTION, read).await
        }))
    }
}

impl Handler<SetDevice> for PowerActor {
    type Result = ResponseFuture<Result<(), DriverError>>;

    fn handle(&mut self, ask: SetDevice, _: &mut Context<Self>) -> Self::Result {
        let governor = self.world.governor.clone();
        Box::pin(isolated("setting the boot device", ask.job.cancel.clone(), async move {
            let Job { view, bound, .. } = ask.job;
            let set = bound.management.set_boot_device(&view, ask.device, ask.persistent, ask.mode);
            governor.run(bound.power.bmc(&view), true, QUESTION, set).await
        }))
    }
}

impl Handler<Stop> for PowerActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        actix::ActorContext::stop(ctx);
    }
}
