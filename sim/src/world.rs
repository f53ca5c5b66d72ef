//! A machine: chassis, boot device, disk, and what runs on it. Whatever switches it (its BMC, its agent) calls in here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use ferric_agent_wire::WriteProgress;
use ferric_drivers::protocol::ipmi::command::BootFlags;
use ferric_machine::{BootDevice, BootMode};
use tokio::task::AbortHandle;

use crate::agent::Agent;
use crate::disk::Disk;
use crate::faults::{Chance, MachineFaults};

/// What all machines of a fleet share.
pub(crate) struct World {
    /// The API that ramdisks look up, without `/v1`.
    pub(crate) api_url: OnceLock<String>,
    /// One client for all agents.
    pub(crate) http: reqwest::Client,
    /// Base of every agent's callback URL.
    pub(crate) callback_base: OnceLock<String>,
    /// Power on to ramdisk or operating system.
    pub(crate) boot_delay: (Duration, Duration),
    /// What a disk takes; `None` is as fast as it gets.
    pub(crate) disk_bytes_per_second: Option<u64>,
}

/// What a machine does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing.
    Off,
    /// Power-on self test, boot loader, kernel.
    Booting,
    /// The deploy ramdisk with its agent.
    Ramdisk,
    /// The operating system on its disk.
    Instance,
    /// It is on and does nothing; why.
    Stuck(&'static str),
}

/// A look at a machine.
#[derive(Clone, Debug)]
pub struct MachineView {
    /// What it does.
    pub phase: Phase,
    /// Whether it has power.
    pub power_on: bool,
    /// Times it was switched on.
    pub boots: u64,
    /// The image write under way.
    pub write: Option<WriteProgress>,
    /// Its disk.
    pub disk: Disk,
}

/// A simulated machine.
pub struct Machine {
    /// Its name, `sim-0001`.
    pub name: String,
    /// The MAC address of its only port, lower case with colons.
    pub mac: String,
    pub(crate) bmc: OnceLock<SocketAddr>,
    pub(crate) faults: MachineFaults,
    pub(crate) world: Arc<World>,
    body: Mutex<Body>,
}

struct Body {
    power_on: bool,
    flags: BootFlags,
    phase: Phase,
    boots: u64,
    /// The task that plays the running machine.
    running: Option<AbortHandle>,
    agent: Option<Arc<Agent>>,
    disk: Disk,
    chance: Chance,
    writes_to_die: u32,
    downloads_to_break: u32,
}

impl Machine {
    pub(crate) fn new(
        world: Arc<World>,
        name: String,
        mac: String,
        faults: MachineFaults,
        chance: Chance,
        disk_bytes: u64,
    ) -> Arc<Self> {
        let body = Body {
            power_on: false,
            flags: BootFlags::default(),
            phase: Phase::Off,
            boots: 0,
            running: None,
            agent: None,
            disk: Disk::new(disk_bytes),
            chance,
            writes_to_die: faults.dies_mid_write,
            downloads_to_break: faults.download_errors,
        };
        Arc::new(Self { name, mac, bmc: OnceLock::new(), faults, world, body: Mutex::new(body) })
    }

    fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().expect("no code panics while it holds a machine's body")
    }

    /// A look at it.
    pub fn view(&self) -> MachineView {
        let body = self.body();
        MachineView {
            phase: body.phase.clone(),
            power_on: body.power_on,
            boots: body.boots,
            write: body.agent.as_ref().and_then(|agent| agent.write_progress()),
            disk: body.disk.clone(),
        }
    }

    /// Whether it has power.
    pub fn is_on(&self) -> bool {
        self.body().power_on
    }

    /// Where its BMC listens.
    pub fn bmc_address(&self) -> SocketAddr {
        *self.bmc.get().expect("Fleet::start gives every machine its BMC before it hands it out")
    }

    pub(crate) fn boot_flags(&self) -> BootFlags {
        self.body().flags
    }

    pub(crate) fn set_boot_flags(&self, flags: BootFlags) {
        self.body().flags = flags;
    }

    /// Sets the boot device for the next boot, or for every one, as a BMC would.
    pub fn set_boot_device(&self, device: BootDevice, persistent: bool) {
        self.set_boot_flags(BootFlags::new(device, persistent, BootMode::Uefi));
    }

    /// Switches it on; nothing happens when it is on. Must run inside a tokio runtime.
    pub fn power_on(self: &Arc<Self>) {
        let mut body = self.body();
        if body.power_on {
            return;
        }
        body.power_on = true;
        body.boots += 1;
        body.phase = Phase::Booting;
        let (least, most) = self.world.boot_delay;
        let delay = body.chance.between(least, most) * self.faults.slower.max(1);
        let (machine, boot) = (self.clone(), body.boots);
        body.running = Some(tokio::spawn(async move { machine.run(boot, delay).await }).abort_handle());
    }

    /// Takes its power away: whatever runs on it is gone at once.
    pub fn power_off(&self) {
        let mut body = self.body();
        body.power_on = false;
        body.phase = Phase::Off;
        if let Some(agent) = body.agent.take() {
            agent.kill();
        }
        if let Some(running) = body.running.take() {
            running.abort();
        }
    }

    /// Asks what runs on it to shut down: an operating system or a ramdisk does, firmware does not.
    pub fn shut_down_softly(self: &Arc<Self>) {
        let (heard, boot, delay) = {
            let mut body = self.body();
            let heard = matches!(body.phase, Phase::Instance | Phase::Ramdisk);
            let delay = body.chance.between(Duration::from_millis(50), Duration::from_millis(300));
            (heard, body.boots, delay)
        };
        if heard {
            self.power_off_after(boot, delay);
        }
    }

    /// Switches it off after a while, unless it was switched off and on meanwhile.
    pub(crate) fn power_off_after(self: &Arc<Self>, boot: u64, delay: Duration) {
        let machine = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            if machine.boots() == boot {
                machine.power_off();
            }
        });
    }

    /// Off and on again.
    pub fn power_cycle(self: &Arc<Self>) {
        self.power_off();
        self.power_on();
    }

    pub(crate) fn boots(&self) -> u64 {
        self.body().boots
    }

    pub(crate) fn agent(&self) -> Option<Arc<Agent>> {
        self.body().agent.clone()
    }

    pub(crate) fn chance<T>(&self, draw: impl FnOnce(&mut Chance) -> T) -> T {
        draw(&mut self.body().chance)
    }

    pub(crate) fn disk<T>(&self, change: impl FnOnce(&mut Disk) -> T) -> T {
        change(&mut self.body().disk)
    }

    /// True as often as the agent has to die while it writes.
    pub(crate) fn dies_in_this_write(&self) -> bool {
        let mut body = self.body();
        let dies = body.writes_to_die > 0;
        body.writes_to_die = body.writes_to_die.saturating_sub(1);
        dies
    }

    /// True as often as a download has to break.
    pub(crate) fn breaks_this_download(&self) -> bool {
        let mut body = self.body();
        let breaks = body.downloads_to_break > 0;
        body.downloads_to_break = body.downloads_to_break.saturating_sub(1);
        breaks
    }

    /// The agent is gone, the machine stays on.
    pub(crate) fn agent_died(&self, boot: u64) {
        let mut body = self.body();
        if body.boots != boot || !body.power_on {
            return;
        }
        body.phase = Phase::Stuck("its agent died");
        if let Some(agent) = body.agent.take() {
            agent.kill();
        }
        if let Some(running) = body.running.take() {
            running.abort();
        }
    }

    async fn run(self: Arc<Self>, boot: u64, delay: Duration) {
        tokio::time::sleep(delay).await;
        let agent = {
            let mut body = self.body();
            if body.boots != boot || !body.power_on {
                return;
            }
            let device = body.flags.boot_device().unwrap_or(BootDevice::Disk);
            if !body.flags.persistent {
                // heeded once; from now on the machine's own order, which is its disk
                body.flags = BootFlags::default();
            }
            match device {
                BootDevice::Pxe => {
                    let agent = Arc::new(Agent::new(boot));
                    body.phase = Phase::Ramdisk;
                    body.agent = Some(agent.clone());
                    agent
                }
                BootDevice::Disk | BootDevice::Safe => {
                    body.phase = match body.disk.written {
                        Some(_) => Phase::Instance,
                        None => Phase::Stuck("nothing on its disk"),
                    };
                    return;
                }
                BootDevice::Cdrom => {
                    body.phase = Phase::Stuck("no CD in its drive");
                    return;
                }
                BootDevice::Bios => {
                    body.phase = Phase::Stuck("in its firmware set-up");
                    return;
                }
            }
        };
        agent.run(&self).await;
    }
}
