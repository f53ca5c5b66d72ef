//! Booting one node into a ramdisk or from its disk: files first, then the boot device, then power.

use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message, ResponseFuture};
use ferric_drivers::DriverError;
use ferric_drivers::interface::{InstanceBoot, RamdiskParams, RamdiskPurpose};
use ferric_machine::{BootDevice, PowerState, PowerTarget};
use uuid::Uuid;

use crate::job::{Job, answered, isolated};
use crate::node::{ChildStopped, NodeActor};
use crate::power::{PowerActor, ReadPower, SetDevice, SetPower, Stop};
use crate::world::World;

/// See the module.
pub(crate) struct BootActor {
    pub(crate) id: Uuid,
    pub(crate) node: Addr<NodeActor>,
    pub(crate) power: Addr<PowerActor>,
    pub(crate) world: Arc<World>,
    /// What lays files out and what takes them away never overlap.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Actor for BootActor {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.node.do_send(ChildStopped);
    }
}

/// Lays out the ramdisk, sets the boot device, restarts the machine into it.
#[derive(Message)]
#[rtype(result = "Result<(), DriverError>")]
pub(crate) struct BootRamdisk {
    pub(crate) job: Job,
    pub(crate) purpose: RamdiskPurpose,
}

/// Lays out the ramdisk again without touching the machine: after a restart of the process.
#[derive(Message)]
#[rtype(result = "Result<(), DriverError>")]
pub(crate) struct LayOut {
    pub(crate) job: Job,
    pub(crate) purpose: RamdiskPurpose,
}

/// Lays out an instance that boots over the network again, without touching the machine: after a restart.
#[derive(Message)]
#[rtype(result = "Result<(), DriverError>")]
pub(crate) struct LayOutInstance {
    pub(crate) job: Job,
    pub(crate) boot: InstanceBoot,
}

/// Takes the ramdisk's files away and makes the disk the boot device, for good.
#[derive(Message)]
#[rtype(result = "Result<(), DriverError>")]
pub(crate) struct BootFromDisk(pub(crate) Job);

/// Lays out an instance that boots over the network and makes that its boot device, for good.
#[derive(Message)]
#[rtype(result = "Result<(), DriverError>")]
pub(crate) struct BootInstance {
    pub(crate) job: Job,
    pub(crate) boot: InstanceBoot,
}

/// Takes the ramdisk's files away.
#[derive(Message)]
#[rtype(result = "Result<(), DriverError>")]
pub(crate) struct CleanUpRamdisk(pub(crate) Job);

impl BootActor {
    fn params(&self, job: &Job, purpose: RamdiskPurpose) -> RamdiskParams {
        let settings = &self.world.settings;
        let mut params = RamdiskParams {
            purpose,
            boot_mode: job.view.boot_mode(settings.default_boot_mode),
            api_url: settings.api_url.clone(),
            kernel_args: Vec::new(),
        };
        params.kernel_args = match purpose {
            RamdiskPurpose::Inspect => {
                let api = settings.api_url.trim_end_matches('/');
                let mut all = vec![format!("ipa-inspection-callback-url={api}/v1/continue_inspection")];
                all.extend(settings.inspect_kernel_args.iter().cloned());
                all
            }
            RamdiskPurpose::Deploy => job.bound.deploy.kernel_params(&job.view, &params),
            RamdiskPurpose::Clean | RamdiskPurpose::Rescue | RamdiskPurpose::Service => Vec::new(),
        };
        params
    }
}

/// A machine whose BMC cannot be told its boot device has to have the right order in its firmware.
fn or_firmware_decides(id: Uuid, result: Result<(), DriverError>) -> Result<(), DriverError> {
    match result {
        Err(DriverError::Unsupported { .. }) => {
            tracing::info!(node = %id, "boot device left to the firmware's own order");
            Ok(())
        }
        other => other,
    }
}

impl Handler<BootRamdisk> for BootActor {
    type Result = ResponseFuture<Result<(), DriverError>>;

    fn handle(&mut self, ask: BootRamdisk, _: &mut Context<Self>) -> Self::Result {
        let params = self.params(&ask.job, ask.purpose);
        let (power, id, within) = (self.power.clone(), self.id, self.world.settings.power_change_timeout);
        let turn = self.turn.clone();
        Box::pin(isolated("booting the ramdisk", ask.job.cancel.clone(), async move {
            let _turn = turn.lock().await;
            let job = ask.job;
            job.bound.boot.prepare_ramdisk(&job.view, &params).await?;
            let read = ReadPower { job: job.clone(), patient: true };
            let to = match answered("reading the power state", power.send(read).await)? {
                PowerState::On if job.keeps_power => PowerTarget::Reboot,
                PowerState::On => {
                    // a machine that is just starting (after a restart of ours, by an earlier order of ours) would
                    // spend the boot device on that start, and boot from its disk the next time
                    let off = SetPower { job: job.clone(), to: PowerTarget::Off, within };
                    answered("switching off", power.send(off).await)?;
                    PowerTarget::On
                }
                PowerState::Off | PowerState::Error => PowerTarget::On,
            };
            let set = SetDevice {
                job: job.clone(),
                device: job.bound.boot.ramdisk_device(),
                persistent: false,
                mode: params.boot_mode,
            };
            or_firmware_decides(id, answered("setting the boot device", power.send(set).await))?;
            answered("switching on", power.send(SetPower { job, to, within }).await).map(|_| ())
        }))
    }
}

impl Handler<LayOut> for BootActor {
    type Result = ResponseFuture<Result<(), DriverError>>;

    fn handle(&mut self, ask: LayOut, _: &mut Context<Self>) -> Self::Result {
        let params = self.params(&ask.job, ask.purpose);
        let turn = self.turn.clone();
        Box::pin(isolated("laying out the ramdisk", ask.job.cancel.clone(), async move {
            let _turn = turn.lock().await;
            ask.job.bound.boot.prepare_ramdisk(&ask.job.view, &params).await
        }))
    }
}

impl Handler<LayOutInstance> for BootActor {
    type Result = ResponseFuture<Result<(), DriverError>>;

    fn handle(&mut self, ask: LayOutInstance, _: &mut Context<Self>) -> Self::Result {
        let mode = ask.job.view.boot_mode(self.world.settings.default_boot_mode);
        let turn = self.turn.clone();
        Box::pin(isolated("laying out the instance", ask.job.cancel.clone(), async move {
            let _turn = turn.lock().await;
            ask.job.bound.boot.prepare_instance(&ask.job.view, &ask.boot, mode).await
        }))
    }
}

impl Handler<BootFromDisk> for BootActor {
    type Result = ResponseFuture<Result<(), DriverError>>;

    fn handle(&mut self, ask: BootFromDisk, _: &mut Context<Self>) -> Self::Result {
        let (power, id) = (self.power.clone(), self.id);
        let mode = ask.0.view.boot_mode(self.world.settings.default_boot_mode);
        let turn = self.turn.clone();
        Box::pin(isolated("booting from disk", ask.0.cancel.clone(), async move {
            let _turn = turn.lock().await;
            let job = ask.0;
            job.bound.boot.clean_up_ramdisk(&job.view).await?;
            let set = SetDevice { job, device: BootDevice::Disk, persistent: true, mode };
            or_firmware_decides(id, answered("setting the boot device", power.send(set).await))
        }))
    }
}

impl Handler<BootInstance> for BootActor {
    type Result = ResponseFuture<Result<(), DriverError>>;

    fn handle(&mut self, ask: BootInstance, _: &mut Context<Self>) -> Self::Result {
        let (power, id) = (self.power.clone(), self.id);
        let mode = ask.job.view.boot_mode(self.world.settings.default_boot_mode);
        let turn = self.turn.clone();
        Box::pin(isolated("laying out the instance", ask.job.cancel.clone(), async move {
            let _turn = turn.lock().await;
            let job = ask.job;
            job.bound.boot.prepare_instance(&job.view, &ask.boot, mode).await?;
            let device = job.bound.boot.ramdisk_device();
            let set = SetDevice { job, device, persistent: true, mode };
            or_firmware_decides(id, answered("setting the boot device", power.send(set).await))
        }))
    }
}

impl Handler<CleanUpRamdisk> for BootActor {
    type Result = ResponseFuture<Result<(), DriverError>>;

    fn handle(&mut self, ask: CleanUpRamdisk, _: &mut Context<Self>) -> Self::Result {
        let turn = self.turn.clone();
        Box::pin(isolated("cleaning up the ramdisk", ask.0.cancel.clone(), async move {
            let _turn = turn.lock().await;
            ask.0.bound.boot.clean_up_ramdisk(&ask.0.view).await
        }))
    }
}

impl Handler<Stop> for BootActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
