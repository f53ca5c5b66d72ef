//! Lets happen what a fault file says: when the time comes, to whom the seed chooses, and until it is over.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::bmc::{BmcFleet, Traffic};
use crate::faults::Chance;
use crate::happening::{Happening, Kind, PowerPolicy};
use crate::storm;
use crate::world::{Machine, Weather};

/// Beginnings and ends that are remembered; the oldest give way.
const REMEMBERED: usize = 10_000;

/// Something began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When, from the start of the fleet.
    pub at: Duration,
    /// What.
    pub kind: Kind,
    /// It began; else it ended.
    pub begins: bool,
    /// To how many machines.
    pub machines: usize,
    /// The first of them, by its place in the fleet.
    pub first: Option<usize>,
}

/// What holds for one machine: entries of the fault file by their place, and how often each holds.
type Holding = BTreeMap<usize, u32>;

/// All that happens to a fleet.
pub(crate) struct Sky {
    machines: Vec<Arc<Machine>>,
    bmcs: Arc<BmcFleet>,
    rack_size: usize,
    happenings: Vec<Happening>,
    holding: Mutex<HashMap<usize, Holding>>,
    chronicle: Mutex<VecDeque<Happened>>,
    began: Instant,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sky {
    pub(crate) fn new(
        machines: Vec<Arc<Machine>>,
        bmcs: Arc<BmcFleet>,
        rack_size: usize,
        happenings: Vec<Happening>,
    ) -> Self {
        Self {
            machines,
            bmcs,
            rack_size,
            happenings,
            holding: Mutex::default(),
            chronicle: Mutex::default(),
            began: Instant::now(),
        }
    }

    /// What happened so far.
    pub(crate) fn chronicle(&self) -> Vec<Happened> {
        lock(&self.chronicle).iter().cloned().collect()
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> usize {
        self.happenings.len()
    }

    /// Plays one entry of the fault file until nothing of it is left; `seed` is the fleet's.
    pub(crate) async fn play(self: Arc<Self>, which: usize, seed: u64) {
        let happening = &self.happenings[which];
        // a stream of its own, so that one entry does not change what is drawn for the others
        let mut chance = Chance::new(seed ^ 0x5ca1_ab1e, which as u64);
        let mut next = happening.next(None, &mut chance);
        // all of one entry last equally long: they end in the order in which they began
        let mut ends: VecDeque<(Duration, Vec<usize>)> = VecDeque::new();
        loop {
            let end = ends.front().map(|(end, _)| *end);
            let (due, ending) = match (next, end) {
                (None, None) => return,
                (Some(begin), Some(end)) if end <= begin => (end, true),
                (Some(begin), _) => (begin, false),
                (None, Some(end)) => (end, true),
            };
            sleep_until(self.began + due).await;
            if ending {
                let (_, whom) = ends.pop_front().expect("there was a first one");
                self.end(which, due, &whom);
                continue;
            }
            let whom = self.choose(which, &mut chance);
            self.begin(which, due, &whom, &mut chance);
            if let Some(lasts) = happening.lasts {
                ends.push_back((due + lasts, whom));
            }
            next = happening.next(Some(due), &mut chance);
        }
    }

    fn choose(&self, which: usize, chance: &mut Chance) -> Vec<usize> {
        let happening = &self.happenings[which];
        let candidates: Vec<(usize, &str)> = self
            .machines
            .iter()
            .enumerate()
            .filter(|(_, machine)| happening.kind != Kind::AgentDies || machine.agent().is_some())
            .map(|(index, machine)| (index, machine.name.as_str()))
            .collect();
        let racks = self.machines.len().div_ceil(self.rack_size.max(1));
        happening.chosen(&candidates, self.rack_size, racks, chance)
    }

    fn begin(&self, which: usize, at: Duration, whom: &[usize], chance: &mut Chance) {
        let happening = &self.happenings[which];
        self.note(happening, at, true, whom);
        for index in whom {
            *lock(&self.holding).entry(*index).or_default().entry(which).or_default() += 1;
            self.apply(*index);
        }
        match (happening.kind, happening.server) {
            (Kind::AgentDies, _) => {
                for index in whom {
                    self.machines[*index].agent_dies();
                    self.forget(which, *index);
                }
            }
            (Kind::DhcpStorm, Some(server)) => {
                let machines: Vec<_> = whom.iter().map(|index| self.machines[*index].clone()).collect();
                machines.iter().for_each(Machine::power_cycle);
                let until = self.began + at + happening.lasts.unwrap_or_default();
                let chance = Chance::new(chance.bits(), 0xd4c9);
                tokio::spawn(storm::blow(machines, server, happening.every, until, chance));
            }
            (
                Kind::SilentBmc
                | Kind::SlowBmc
                | Kind::WrongPowerState
                | Kind::Packets
                | Kind::DiskError
                | Kind::ChecksumError
                | Kind::DhcpStorm
                | Kind::RackPower,
                _,
            ) => {}
        }
    }

    fn end(&self, which: usize, at: Duration, whom: &[usize]) {
        let happening = &self.happenings[which];
        self.note(happening, at, false, whom);
        for index in whom {
            self.forget(which, *index);
            let machine = &self.machines[*index];
            let was_dark = machine.weather().dark;
            self.apply(*index);
            if was_dark && !machine.weather().dark {
                match happening.policy {
                    PowerPolicy::Previous if machine.was_on() => machine.power_on(),
                    PowerPolicy::AlwaysOn => machine.power_on(),
                    PowerPolicy::Previous | PowerPolicy::AlwaysOff => {}
                }
            }
        }
    }

    fn note(&self, happening: &Happening, at: Duration, begins: bool, whom: &[usize]) {
        let (fault, machines) = (happening.kind.name(), whom.len());
        if begins {
            tracing::info!(fault, machines, "a simulated fault begins");
        } else {
            tracing::info!(fault, machines, "a simulated fault ends");
        }
        let mut chronicle = lock(&self.chronicle);
        if chronicle.len() == REMEMBERED {
            chronicle.pop_front();
        }
        let first = whom.first().copied();
        chronicle.push_back(Happened { at, kind: happening.kind, begins, machines, first });
    }

    fn forget(&self, which: usize, index: usize) {
        let mut holding = lock(&self.holding);
        let Some(of) = holding.get_mut(&index) else { return };
        if let Some(times) = of.get_mut(&which) {
            *times -= 1;
            if *times == 0 {
                of.remove(&which);
            }
        }
        if of.is_empty() {
            holding.remove(&index);
        }
    }

    /// Makes a machine and its BMC feel what holds for them.
    fn apply(&self, index: usize) {
        let holding: Vec<usize> =
            lock(&self.holding).get(&index).map(|of| of.keys().copied().collect()).unwrap_or_default();
        let (machine, bmc) = (&self.machines[index], &self.bmcs.bmcs()[index]);
        let mut weather = Weather::default();
        let mut silent = machine.faults.silent_bmc;
        let (mut wrong_power, mut latency, mut traffic) = (false, None, [Traffic::default(); 2]);
        for one in holding.into_iter().map(|which| &self.happenings[which]) {
            match one.kind {
                Kind::SilentBmc => silent = true,
                Kind::SlowBmc => latency = one.latency.or(latency),
                Kind::WrongPowerState => wrong_power = true,
                Kind::Packets => traffic = [0, 1].map(|way| both(traffic[way], one.traffic[way])),
                Kind::DiskError => weather.disk_fails = true,
                Kind::ChecksumError => weather.damages_images = true,
                Kind::RackPower => (weather.dark, silent) = (true, true),
                Kind::AgentDies | Kind::DhcpStorm => {}
            }
        }
        weather.silent = silent;
        if machine.set_weather(weather) {
            bmc.forget_sessions();
        }
        let [to_bmc, from_bmc] = traffic;
        bmc.change_faults(|faults| {
            faults.silent = silent;
            faults.wrong_power = wrong_power;
            faults.latency = latency;
            faults.to_bmc = to_bmc;
            faults.from_bmc = from_bmc;
        });
    }
}

/// Two ways one behind the other.
fn both(one: Traffic, other: Traffic) -> Traffic {
    let either = |a: f64, b: f64| 1.0 - (1.0 - a) * (1.0 - b);
    Traffic {
        lost: either(one.lost, other.lost),
        duplicated: either(one.duplicated, other.duplicated),
        reordered: either(one.reordered, other.reordered),
    }
}
