//! A machine: chassis, boot device, disk, and what runs on it. Whatever switches it (its BMC, its agent) calls in here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use ferric_agent_wire::{Secret, WriteProgress};
use ferric_drivers::protocol::ipmi::command::BootFlags;
use ferric_machine::{BootDevice, BootMode};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::agent::Agent;
use crate::bash;
use crate::disk::Disk;
use crate::faults::{Chance, MachineFaults};
use crate::firmware::{self, BootSource, KernelLine, NetBoot};
use crate::images::Images;
use crate::iscsi::{Pool, Target, TargetStats};
use crate::network::Network;

/// What all machines of a fleet share.
pub(crate) struct World {
    /// The API that ramdisks look up when no kernel line tells them, without `/v1`.
    pub(crate) api_url: watch::Sender<Option<String>>,
    /// Where machines find what they boot from the network; unset, every machine finds a ramdisk.
    pub(crate) boot_source: OnceLock<BootSource>,
    /// What their software reaches of the world outside.
    pub(crate) network: Arc<dyn Network>,
    /// One client for all that fetch images; without one they know the fleet's own only.
    pub(crate) http: Option<reqwest::Client>,
    /// The images that they know.
    pub(crate) images: Arc<Images>,
    /// Base of every agent's callback URL, without the machine's part.
    pub(crate) callback_base: OnceLock<String>,
    /// Pieces of disks that several machines hold.
    pub(crate) pool: Arc<Pool>,
    /// Power on to ramdisk or operating system.
    pub(crate) boot_delay: (Duration, Duration),
    /// What a disk takes; `None` is as fast as it gets.
    pub(crate) disk_bytes_per_second: Option<u64>,
}

/// What happens to a machine from outside, see [`crate::Happening`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Whatever is written to its disk fails.
    pub(crate) disk_fails: bool,
    /// Images reach it damaged.
    pub(crate) damages_images: bool,
    /// Its BMC hears nothing.
    pub(crate) silent: bool,
    /// There is no power in its rack.
    pub(crate) dark: bool,
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
    /// The ramdisk after `rescue.finalize_rescue`: somebody can log in, no agent runs.
    Rescue,
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
    /// What keeps its ramdisk from its work, in this boot.
    pub complaint: Option<String>,
    /// The iSCSI target that its ramdisk runs for its disk.
    pub iscsi: Option<TargetStats>,
    /// The rescue password as the agent was given it, while the machine is in rescue.
    pub rescue_password: Option<Secret>,
}

impl World {
    /// How long a disk takes for `bytes`, on a machine that is `slower` times slower.
    pub(crate) fn disk_time(&self, bytes: u64, slower: u32) -> Duration {
        match self.disk_bytes_per_second {
            Some(rate) if rate > 0 => Duration::from_secs_f64(bytes as f64 / rate as f64) * slower.max(1),
            Some(_) | None => Duration::ZERO,
        }
    }
}

/// What runs in the ramdisk that a machine boots from the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ramdisk {
    /// An agent.
    #[default]
    Agent,
    /// A script of the time before agents: it exports the disk over iSCSI, calls the API once and waits for a word on
    /// TCP port 10000 (deploy.md §A.1).
    Bash,
}

/// A simulated machine.
pub struct Machine {
    /// Its name, `sim-0001`.
    pub name: String,
    /// The MAC address of its only port, lower case with colons.
    pub mac: String,
    pub(crate) bmc: OnceLock<SocketAddr>,
    /// TCP port of its BMC's Redfish service, when it has one.
    pub(crate) redfish_port: OnceLock<u16>,
    /// Base of its agent's callback URL, when it listens on an address of its own.
    pub(crate) own_base: OnceLock<String>,
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
    /// What still has to go wrong.
    left: MachineFaults,
    /// Version of its hardware managers.
    manager_version: u32,
    complaint: Option<String>,
    rescue_password: Option<Secret>,
    ramdisk: Ramdisk,
    target: Option<Target>,
    weather: Weather,
    /// It had power when its rack lost it.
    was_on: bool,
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
            disk: Disk::sharing(disk_bytes, world.pool.clone()),
            chance,
            left: faults.clone(),
            manager_version: 1,
            complaint: None,
            rescue_password: None,
            ramdisk: Ramdisk::Agent,
            target: None,
            weather: Weather::default(),
            was_on: false,
        };
        Arc::new(Self {
            name,
            mac,
            bmc: OnceLock::new(),
            redfish_port: OnceLock::new(),
            own_base: OnceLock::new(),
            faults,
            world,
            body: Mutex::new(body),
        })
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
            complaint: body.complaint.clone(),
            iscsi: body.target.as_ref().map(Target::stats),
            rescue_password: body.rescue_password.clone(),
        }
    }

    /// Something keeps its ramdisk from its work; `None`: nothing does any more.
    pub(crate) fn complain(&self, boot: u64, text: Option<&str>) {
        let mut body = self.body();
        if body.boots == boot {
            body.complaint = text.map(str::to_owned);
        }
    }

    /// What it does.
    pub fn phase(&self) -> Phase {
        self.body().phase.clone()
    }

    /// What it does, and how far the image write is that runs: less than [`Machine::view`] costs.
    pub fn glance(&self) -> (Phase, Option<WriteProgress>) {
        let body = self.body();
        (body.phase.clone(), body.agent.as_ref().and_then(|agent| agent.write_progress()))
    }

    /// Whether its disk holds, complete, what has this sha256 (hex).
    pub fn holds(&self, sha256: &str) -> bool {
        self.body().disk.written.as_ref().is_some_and(|written| written.sha256 == sha256)
    }

    /// Complete erasures of its disk's metadata in its life.
    pub fn metadata_erased(&self) -> u64 {
        self.body().disk.metadata_erased
    }

    pub(crate) fn weather(&self) -> Weather {
        self.body().weather
    }

    /// From now on this happens to it from outside; whether its rack lost its power just now.
    pub(crate) fn set_weather(&self, weather: Weather) -> bool {
        let mut body = self.body();
        let falls = weather.dark && !body.weather.dark;
        body.weather = weather;
        if falls {
            body.was_on = body.power_on;
            drop(body);
            self.power_off();
        }
        falls
    }

    /// Whether it had power when its rack lost it.
    pub(crate) fn was_on(&self) -> bool {
        self.body().was_on
    }

    /// Its agent dies, if one runs; whether one did.
    pub(crate) fn agent_dies(&self) -> bool {
        let (runs, boot) = {
            let body = self.body();
            (body.agent.is_some(), body.boots)
        };
        if runs {
            self.agent_died(boot);
        }
        runs
    }

    /// Whether it has power.
    pub fn is_on(&self) -> bool {
        self.body().power_on
    }

    /// Where its BMC listens.
    pub fn bmc_address(&self) -> SocketAddr {
        *self.bmc.get().expect("Fleet::start gives every machine its BMC before it hands it out")
    }

    /// Where its BMC speaks Redfish, if it does.
    pub fn redfish_address(&self) -> Option<SocketAddr> {
        self.redfish_port.get().map(|port| SocketAddr::new(self.bmc_address().ip(), *port))
    }

    /// Whether its BMC hears and never answers.
    pub(crate) fn bmc_is_silent(&self) -> bool {
        self.faults.silent_bmc || self.weather().silent
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
        if body.power_on || body.weather.dark {
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
        body.rescue_password = None;
        body.complaint = None;
        end_target(&mut body, false);
        body.disk.power_lost();
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
            let heard = matches!(body.phase, Phase::Instance | Phase::Ramdisk | Phase::Rescue);
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

    /// What its software does, for its serial console.
    pub(crate) fn doing(&self) -> Option<String> {
        let body = self.body();
        let text = match body.phase {
            Phase::Off => return None,
            Phase::Booting => "starting".to_owned(),
            Phase::Ramdisk => "the deploy ramdisk runs".to_owned(),
            Phase::Instance => "the system on the disk runs".to_owned(),
            Phase::Rescue => "the rescue system runs".to_owned(),
            Phase::Stuck(why) => format!("stuck: {why}"),
        };
        Some(body.complaint.as_ref().map_or(text.clone(), |complaint| format!("{text}: {complaint}")))
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

    /// Works on its disk during the boot `boot`; `None` when that is over: a dead machine writes nothing.
    pub(crate) fn on_disk<T>(&self, boot: u64, change: impl FnOnce(&mut Disk) -> T) -> Option<T> {
        let mut body = self.body();
        (body.power_on && body.boots == boot).then(|| change(&mut body.disk))
    }

    /// Its ramdisk exports its disk, until it takes the target back or the machine loses its power.
    pub(crate) fn set_target(&self, boot: u64, target: Target) {
        let mut body = self.body();
        if body.power_on && body.boots == boot {
            end_target(&mut body, true);
            body.target = Some(target);
        }
    }

    /// Its ramdisk takes the target back.
    pub(crate) fn take_target_back(&self, boot: u64) {
        let mut body = self.body();
        if body.power_on && body.boots == boot {
            end_target(&mut body, true);
        }
    }

    /// Whether its ramdisk exports its disk.
    pub(crate) fn has_target(&self) -> bool {
        self.body().target.is_some()
    }

    /// From its next boot on, this runs in the ramdisk that it boots from the network.
    pub fn set_ramdisk(&self, ramdisk: Ramdisk) {
        self.body().ramdisk = ramdisk;
    }

    /// True as often as the fault that `count` points to has to happen.
    pub(crate) fn goes_wrong(&self, count: impl FnOnce(&mut MachineFaults) -> &mut u32) -> bool {
        let mut body = self.body();
        let left = count(&mut body.left);
        let happens = *left > 0;
        *left = left.saturating_sub(1);
        happens
    }

    /// The version of its hardware managers.
    pub(crate) fn manager_version(&self) -> u32 {
        self.body().manager_version
    }

    /// Its hardware managers become others.
    pub(crate) fn change_manager_version(&self) {
        self.body().manager_version += 1;
    }

    /// The agent lets a person in and ends.
    pub(crate) fn enter_rescue(&self, boot: u64, password: Secret) {
        let mut body = self.body();
        if body.boots != boot || !body.power_on {
            return;
        }
        body.phase = Phase::Rescue;
        body.rescue_password = Some(password);
        if let Some(agent) = body.agent.take() {
            agent.kill();
        }
        if let Some(running) = body.running.take() {
            running.abort();
        }
    }

    /// The agent is gone, the machine stays on.
    pub(crate) fn agent_died(&self, boot: u64) {
        let mut body = self.body();
        if body.boots != boot || !body.power_on {
            return;
        }
        body.phase = Phase::Stuck("its agent died");
        end_target(&mut body, false);
        body.disk.power_lost();
        if let Some(agent) = body.agent.take() {
            agent.kill();
        }
        if let Some(running) = body.running.take() {
            running.abort();
        }
    }

    async fn run(self: Arc<Self>, boot: u64, delay: Duration) {
        tokio::time::sleep(delay).await;
        let Some(device) = self.boot_device(boot) else { return };
        let line = match device {
            BootDevice::Pxe => match self.world.boot_source.get() {
                // a network that gives every machine a ramdisk
                None => Some(KernelLine::default()),
                Some(source) => match firmware::net_boot(&self, source).await {
                    NetBoot::Ramdisk(line) => Some(line),
                    NetBoot::Instance => return self.now(boot, Phase::Instance),
                    // the next device in the order is the disk
                    NetBoot::Nothing => None,
                },
            },
            BootDevice::Disk | BootDevice::Safe => None,
            BootDevice::Cdrom => return self.now(boot, Phase::Stuck("no CD in its drive")),
            BootDevice::Bios => return self.now(boot, Phase::Stuck("in its firmware set-up")),
        };
        let Some(line) = line else {
            let bootable = self.body().disk.is_bootable();
            let stuck = match device {
                BootDevice::Pxe => "nothing for it on the network, nothing on its disk",
                BootDevice::Disk | BootDevice::Safe | BootDevice::Cdrom | BootDevice::Bios => {
                    "nothing on its disk"
                }
            };
            return self.now(boot, if bootable { Phase::Instance } else { Phase::Stuck(stuck) });
        };
        if self.goes_wrong(|left| &mut left.ramdisk_hangs) {
            return self.now(boot, Phase::Stuck("its ramdisk hangs"));
        }
        if self.body().ramdisk == Ramdisk::Bash {
            self.now(boot, Phase::Ramdisk);
            let end = bash::run(&self, boot, &line).await;
            return self.now(boot, Phase::Stuck(end));
        }
        let agent = Arc::new(Agent::new(boot));
        {
            let mut body = self.body();
            if body.boots != boot || !body.power_on {
                return;
            }
            body.phase = Phase::Ramdisk;
            body.agent = Some(agent.clone());
        }
        agent.run(&self, &line).await;
    }

    /// What this boot boots from; `None` when it is over already.
    fn boot_device(&self, boot: u64) -> Option<BootDevice> {
        let mut body = self.body();
        if body.boots != boot || !body.power_on {
            return None;
        }
        let device = body.flags.boot_device().unwrap_or(BootDevice::Disk);
        if !body.flags.persistent {
            // heeded once; from now on the machine's own order, which is its disk
            body.flags = BootFlags::default();
        }
        Some(device)
    }

    /// It does this now, if the boot is not over.
    fn now(&self, boot: u64, phase: Phase) {
        let mut body = self.body();
        if body.boots == boot && body.power_on {
            body.phase = phase;
        }
    }
}

/// The target of a machine's ramdisk is gone, and what was written through it is on its disk.
fn end_target(body: &mut Body, in_order: bool) {
    if let Some(target) = body.target.take() {
        let boot = body.boots;
        body.disk.target_ended(target.iqn(), boot, &target.stats(), in_order);
    }
}
