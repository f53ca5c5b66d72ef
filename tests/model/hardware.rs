//! The pretended machines: power, a disk, and a ramdisk's agent that lives while the power is on. They outlive the
//! process that works on them, and they keep a ledger of what was done to them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ferric_drivers::interface::RamdiskPurpose;
use ferric_machine::{BootDevice, PowerState, PowerTarget};
use ferric_schema::Store;
use uuid::Uuid;

use crate::chance::Chance;

/// Microseconds since 1970: the clock that Ferric's events carry.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the year 290000")
}

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Empty,
    /// An image that was begun and not finished.
    Partial,
    Image,
}

/// What happened to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Somebody's data came onto it.
    Dirtied,
    WriteBegun,
    Written,
    MetadataErased,
    Erased,
}

/// A command in a ramdisk.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) id: String,
    /// `step priority`: what an agent echoes.
    pub(crate) echo: String,
    step: String,
    ends: Instant,
    fails: bool,
    /// `None` while it runs.
    pub(crate) ended: Option<Result<(), ()>>,
}

/// The agent of a ramdisk.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    /// Which start of the machine it belongs to.
    pub(crate) boot: u64,
    up_from: Instant,
    pub(crate) token: Option<String>,
    pub(crate) purpose: RamdiskPurpose,
    /// Its inspection report was taken.
    pub(crate) reported: bool,
    pub(crate) commands: Vec<Command>,
}

/// One machine.
pub(crate) struct Machine {
    pub(crate) chance: Chance,
    pub(crate) on: bool,
    boots: u64,
    once: Option<BootDevice>,
    always: BootDevice,
    pub(crate) laid_out: Option<RamdiskPurpose>,
    pub(crate) agent: Option<Agent>,
    content: Content,
    pub(crate) ledger: Vec<(i64, Mark)>,
    /// Tokens that agents got, and the start they got them in.
    pub(crate) tokens: HashMap<String, u64>,
    /// Starts that Ferric itself ended by switching the machine off.
    pub(crate) switched_off: HashSet<u64>,
    /// Steps of this node that run in the conductor at this moment, and in which life of it.
    pub(crate) hands: (u64, u32),
    /// The last things that happened, for a report.
    pub(crate) story: Vec<String>,
}

impl Machine {
    fn new(seed: u64) -> Machine {
        Machine {
            chance: Chance::new(seed),
            on: false,
            boots: 0,
            once: None,
            always: BootDevice::Disk,
            laid_out: None,
            agent: None,
            content: Content::Empty,
            ledger: Vec::new(),
            tokens: HashMap::new(),
            switched_off: HashSet::new(),
            hands: (0, 0),
            story: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, what: impl Into<String>) {
        self.story.push(format!("{} {}", now() % 100_000_000, what.into()));
    }

    fn mark(&mut self, mark: Mark) {
        self.ledger.push((now(), mark));
    }

    /// Lets everything happen that was to happen until now.
    pub(crate) fn settle(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let mut marks = Vec::new();
        for command in agent.commands.iter_mut().filter(|command| command.ended.is_none()) {
            if command.ends > Instant::now() {
                continue;
            }
            command.ended = Some(if command.fails { Err(()) } else { Ok(()) });
            match (command.step.as_str(), command.fails) {
                ("write_image", false) => {
                    self.content = Content::Image;
                    marks.push(Mark::Written);
                }
                ("erase_devices_metadata", false) => {
                    self.content = Content::Empty;
                    marks.push(Mark::MetadataErased);
                }
                ("erase_devices", false) => {
                    self.content = Content::Empty;
                    marks.push(Mark::Erased);
                }
                (_, _) => {}
            }
        }
        for mark in marks {
            self.tell(format!("disk: {mark:?}"));
            self.mark(mark);
        }
    }

    pub(crate) fn agent_up(&mut self) -> Option<&mut Agent> {
        self.settle();
        self.agent.as_mut().filter(|agent| agent.up_from <= Instant::now())
    }

    fn goes_off(&mut self) {
        self.settle();
        self.on = false;
        self.agent = None;
    }

    fn comes_up(&mut self) {
        self.on = true;
        self.boots += 1;
        let device = self.once.take().unwrap_or(self.always);
        if device == BootDevice::Pxe
            && let Some(purpose) = self.laid_out
        {
            let up_from = Instant::now() + self.chance.millis(25);
            let (boot, token, reported, commands) = (self.boots, None, false, Vec::new());
            self.agent = Some(Agent { boot, up_from, token, purpose, reported, commands });
            self.tell(format!("start {boot}: ramdisk for {purpose:?}"));
            return;
        }
        self.tell(format!("start {}: from disk, {:?}", self.boots, self.content));
        if self.content != Content::Empty {
            // an operating system, or half of one, writes as it likes
            self.mark(Mark::Dirtied);
        }
    }

    /// Ferric's own order.
    pub(crate) fn set_power(&mut self, target: PowerTarget) -> PowerState {
        self.tell(format!("power: {target}"));
        let ends_a_start = match target {
            PowerTarget::Off | PowerTarget::SoftOff => self.on,
            PowerTarget::Reboot | PowerTarget::SoftReboot => self.on,
            PowerTarget::On => false,
        };
        if ends_a_start {
            self.switched_off.insert(self.boots);
            self.goes_off();
        }
        if target.end() == PowerState::On && !self.on {
            self.comes_up();
        }
        self.power()
    }

    pub(crate) fn power(&self) -> PowerState {
        if self.on { PowerState::On } else { PowerState::Off }
    }

    /// Somebody stumbles over the cable.
    pub(crate) fn loses_power(&mut self) {
        self.tell("the plug is pulled");
        self.goes_off();
    }

    /// The machine restarts by itself; `ramdisk`: its firmware tries the network first.
    pub(crate) fn resets(&mut self, ramdisk: bool) {
        if self.on {
            self.tell("resets by itself");
            self.goes_off();
            if ramdisk {
                self.once = Some(BootDevice::Pxe);
            }
            self.comes_up();
        }
    }

    pub(crate) fn set_device(&mut self, device: BootDevice, persistent: bool) {
        if persistent {
            self.always = device;
            self.once = None;
        } else {
            self.once = Some(device);
        }
    }

    /// The agent begins a command. Answers what is wrong with that, too.
    pub(crate) fn begin(&mut self, step: &str, echo: String, calm: bool) -> (String, Option<String>) {
        let most = if step == "write_image" { 60 } else { 40 };
        let ends = Instant::now() + self.chance.millis(most);
        let fails = !calm && self.chance.percent(4);
        let writes = |step: &str| step == "write_image" || step.starts_with("erase_");
        let agent = self.agent.as_mut().expect("callers looked");
        let busy: Vec<String> = agent
            .commands
            .iter()
            .filter(|command| command.ended.is_none() && writes(&command.step))
            .map(|command| command.step.clone())
            .collect();
        let twice = agent.commands.iter().any(|command| command.echo == echo);
        let id = format!("{}-{}", agent.boot, agent.commands.len());
        agent.commands.push(Command { id: id.clone(), echo, step: step.into(), ends, fails, ended: None });
        self.tell(format!("agent begins {step} ({id})"));
        if step == "write_image" {
            self.content = Content::Partial;
            self.mark(Mark::WriteBegun);
            self.mark(Mark::Dirtied);
        }
        let two = (writes(step) && !busy.is_empty())
            .then(|| format!("two writers of one disk: {step} begins while {} runs", busy.join(", ")));
        let twice = twice.then(|| format!("nothing begins twice: {step} was begun by this agent before"));
        (id, two.or(twice))
    }

    /// Whether Ferric switched the machine off since the agent got this token.
    pub(crate) fn is_spent(&self, token: &str) -> bool {
        self.tokens.get(token).is_some_and(|boot| self.switched_off.contains(boot))
    }
}

/// All machines, and what was found wrong.
pub(crate) struct Yard {
    machines: HashMap<Uuid, Mutex<Machine>>,
    /// Nothing fails any more.
    pub(crate) calm: AtomicBool,
    /// The process is killed at the next effect: 1 before it, 2 after it.
    pub(crate) trap: AtomicU8,
    /// That happened.
    pub(crate) sprung: AtomicBool,
    /// Of a hundred calls, so many get lost on each way.
    lossy: u64,
    broken: Mutex<Vec<String>>,
    /// A way into the database that is not the conductor's.
    pub(crate) observer: Store,
}

impl Yard {
    pub(crate) fn new(ids: &[Uuid], seed: u64, observer: Store) -> Yard {
        let mut chance = Chance::new(seed ^ 0x5eed);
        Yard {
            machines: ids.iter().map(|id| (*id, Mutex::new(Machine::new(chance.next())))).collect(),
            calm: AtomicBool::new(false),
            trap: AtomicU8::new(0),
            sprung: AtomicBool::new(false),
            lossy: [0, 1, 4][usize::try_from(seed % 3).expect("below three")],
            broken: Mutex::default(),
            observer,
        }
    }

    pub(crate) fn machine(&self, id: Uuid) -> MutexGuard<'_, Machine> {
        self.machines[&id].lock().expect("nothing panics while it holds a machine")
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    /// An invariant does not hold.
    pub(crate) fn broke(&self, node: Uuid, what: impl Into<String>) {
        let what = what.into();
        self.machine(node).tell(format!("BROKEN: {what}"));
        self.broken.lock().expect("not poisoned").push(format!("node {node}: {what}"));
    }

    pub(crate) fn all_broken(&self) -> Vec<String> {
        self.broken.lock().expect("not poisoned").clone()
    }
}

/// How one call over the network fares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    /// It never arrives.
    LostBefore,
    /// It is carried out, and the answer gets lost.
    LostAfter,
    /// It arrives and is refused.
    Refused,
}

impl Yard {
    /// The fate of a call, and how long it takes before and after its effect.
    pub(crate) fn draw(&self, id: Uuid) -> (Fate, Duration, Duration) {
        let calm = self.is_calm();
        let chance = &mut self.machine(id).chance;
        let (mut before, after) = (chance.millis(4), chance.millis(3));
        if !calm && self.lossy > 0 && chance.below(150) == 0 {
            // longer than whoever has given this call up may take to withdraw it
            before = Duration::from_millis(800);
        }
        let fate = match chance.below(100) {
            _ if calm => Fate::Good,
            0 if self.lossy > 0 => Fate::Refused,
            n if n <= self.lossy => Fate::LostBefore,
            n if n <= 2 * self.lossy => Fate::LostAfter,
            _ => Fate::Good,
        };
        (fate, before, after)
    }
}
