//! Looks at the power of the whole fleet: what is asked, what is told, and that nothing is written without a reason.

mod common;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::{Interfaces, World, settings};
use ferric_actors::message::{SetMaintenance, Update};
use ferric_actors::{Settings, Sweeping};
use ferric_drivers::DriverError;
use ferric_drivers::interface::{NodeView, PowerInterface, Property};
use ferric_machine::{PowerState, PowerTarget, State, Verb};
use uuid::Uuid;

/// A BMC for each node; some are dead, one may be a bug.
#[derive(Default)]
struct Bmcs {
    dead: Mutex<HashSet<Uuid>>,
    buggy: Mutex<Option<Uuid>>,
    on: Mutex<HashSet<Uuid>>,
    asked: Mutex<HashMap<Uuid, usize>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Bmcs {
    fn asked(&self, node: Uuid) -> usize {
        self.asked.lock().expect("not poisoned").get(&node).copied().unwrap_or(0)
    }
}

#[async_trait]
impl PowerInterface for Bmcs {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<(), DriverError> {
        Ok(())
    }

    fn supported(&self) -> &'static [PowerTarget] {
        PowerTarget::ALL
    }

    fn bmc(&self, node: &NodeView) -> Option<String> {
        Some(format!("ipmi:{}", node.uuid))
    }

    async fn power_state(&self, node: &NodeView) -> Result<PowerState, DriverError> {
        *self.asked.lock().expect("not poisoned").entry(node.uuid).or_default() += 1;
        if *self.buggy.lock().expect("not poisoned") == Some(node.uuid) {
            panic!("a bug in the driver");
        }
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        if self.dead.lock().expect("not poisoned").contains(&node.uuid) {
            return Err(DriverError::Unreachable {
                what: "its BMC".into(),
                after: Duration::from_secs(10),
                remedy: "check its cable".into(),
            });
        }
        let on = self.on.lock().expect("not poisoned").contains(&node.uuid);
        Ok(if on { PowerState::On } else { PowerState::Off })
    }

    async fn set_power(
        &self,
        node: &NodeView,
        to: PowerTarget,
        _: Duration,
    ) -> Result<PowerState, DriverError> {
        let mut on = self.on.lock().expect("not poisoned");
        match to.end() {
            PowerState::On => drop(on.insert(node.uuid)),
            PowerState::Off | PowerState::Error => drop(on.remove(&node.uuid)),
        }
        Ok(to.end())
    }
}

async fn fleet(bmcs: &Arc<Bmcs>, nodes: usize, settings: Settings) -> (World, Vec<Uuid>) {
    let world = World::new(Interfaces { power: bmcs.clone(), ..Interfaces::default() }, settings).await;
    let mut all = Vec::new();
    for _ in 0..nodes {
        let id = world.enrol().await;
        world.verb(id, Verb::Manage).await.expect("accepted");
        all.push(id);
    }
    for id in &all {
        world.reaches(*id, State::Manageable).await;
    }
    (world, all)
}

async fn ended(world: &World, number: u64) -> Sweeping {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let told = world.directory.power_sync();
        match told.last_sweep {
            Some(last) if last.number >= number => return last,
            Some(_) | None => assert!(Instant::now() < deadline, "sweep {number} does not end: {told:?}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[actix::test]
async fn a_sweep_asks_every_bmc_once_a_few_at_a_time_and_writes_nothing() {
    let bmcs = Arc::new(Bmcs::default());
    let (world, all) = fleet(&bmcs, 20, Settings { power_sync_workers: 3, ..settings() }).await;
    let away = SetMaintenance { on: true, reason: None };
    world.directory.ask(all[0], away).await.expect("written");
    let mut before = HashMap::new();
    for id in &all {
        before.insert(*id, (world.node(*id).await.generation, bmcs.asked(*id)));
    }
    bmcs.most.store(0, Ordering::SeqCst);
    let number = world.directory.sweep_power();
    let last = ended(&world, number).await;
    assert_eq!((last.nodes, last.answered, last.silent, last.left_out), (20, 19, 0, 1));
    assert_eq!(last.readings.count, 19);
    assert!(last.readings.p50 >= Duration::from_millis(1) && last.ended >= Some(last.began), "{last:?}");
    assert!(bmcs.most.load(Ordering::SeqCst) <= 3, "{:?}", bmcs.most);
    for id in &all {
        let (generation, asked) = before[id];
        assert_eq!(world.node(*id).await.generation, generation, "nothing has changed, nothing is written");
        assert_eq!(bmcs.asked(*id), asked + usize::from(*id != all[0]));
    }
    let told = world.directory.power_sync();
    assert_eq!((told.nodes, told.silent, told.under_way), (19, 0, 0));
    assert!(told.lag < Duration::from_secs(20) && told.sweep.is_none());
}

#[actix::test]
async fn dead_bmcs_are_soon_not_asked_by_the_periodic_look_but_by_every_sweep() {
    let bmcs = Arc::new(Bmcs::default());
    let patient = Settings {
        bmc_backoff: Duration::from_secs(600),
        bmc_backoff_most: Duration::from_secs(600),
        power_sync_interval: Duration::from_millis(100),
        ..settings()
    };
    let (world, all) = fleet(&bmcs, 10, patient).await;
    let dead = [all[2], all[7]];
    bmcs.dead.lock().expect("not poisoned").extend(dead);
    let deadline = Instant::now() + Duration::from_secs(60);
    let told = |what: &'static str, is: fn(&ferric_actors::PowerSync) -> bool| {
        let world = &world;
        async move {
            while !is(&world.directory.power_sync()) {
                assert!(Instant::now() < deadline, "not {what}: {:?}", world.directory.power_sync());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    told("spared", |told| (told.nodes, told.silent, told.not_asked) == (10, 0, 2)).await;
    let before = dead.map(|id| bmcs.asked(id));
    // who asks often is answered truly each time, and does not make a BMC fail often
    for round in 1..=5 {
        let last = ended(&world, world.directory.sweep_power()).await;
        assert_eq!((last.answered, last.silent, last.left_out), (8, 2, 0));
        assert_eq!(dead.map(|id| bmcs.asked(id)), before.map(|asked| asked + round), "nobody else asks them");
    }
    assert!(!world.node(dead[0]).await.maintenance && !world.node(dead[1]).await.maintenance);
    told("spared again", |told| told.not_asked == 2).await;
    bmcs.dead.lock().expect("not poisoned").clear();
    let last = ended(&world, world.directory.sweep_power()).await;
    assert_eq!(
        (last.answered, last.silent, last.left_out),
        (10, 0, 0),
        "they answer again, and it is seen at once"
    );
    told("all well", |told| (told.nodes, told.silent, told.not_asked) == (10, 0, 0)).await;
}

#[actix::test]
async fn what_a_sweep_finds_changed_is_seen_to() {
    let bmcs = Arc::new(Bmcs::default());
    let (world, all) = fleet(&bmcs, 3, settings()).await;
    // somebody pressed the button: the stored state wins
    bmcs.on.lock().expect("not poisoned").insert(all[1]);
    ended(&world, world.directory.sweep_power()).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while bmcs.on.lock().expect("not poisoned").contains(&all[1]) {
        assert!(Instant::now() < deadline, "it is still on");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // the row knew no state: what is read is stored
    let unknown = Update {
        apply: Box::new(|node| {
            node.power_state = None;
            Ok(())
        }),
        reset_interfaces: false,
    };
    world.directory.ask(all[2], unknown).await.expect("written");
    ended(&world, world.directory.sweep_power()).await;
    world.until(all[2], "off", |node| node.power_state == Some(PowerState::Off)).await;
}

#[actix::test]
async fn a_bug_in_a_driver_does_not_keep_a_sweep_from_ending() {
    let bmcs = Arc::new(Bmcs::default());
    let (world, all) = fleet(&bmcs, 5, settings()).await;
    *bmcs.buggy.lock().expect("not poisoned") = Some(all[3]);
    let last = ended(&world, world.directory.sweep_power()).await;
    assert_eq!((last.answered, last.silent, last.left_out), (4, 0, 1));
}

#[actix::test]
async fn the_periodic_look_keeps_the_lag_below_its_interval_and_counts_who_leaves() {
    let bmcs = Arc::new(Bmcs::default());
    let often = Settings { power_sync_interval: Duration::from_millis(200), ..settings() };
    let (world, all) = fleet(&bmcs, 8, often).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let looked = |told: &ferric_actors::PowerSync| told.nodes == 8 && told.readings.count >= 8;
    while !looked(&world.directory.power_sync()) {
        assert!(Instant::now() < deadline, "{:?}", world.directory.power_sync());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let counts: Vec<usize> = all.iter().map(|id| bmcs.asked(*id)).collect();
    for (id, before) in all.iter().zip(counts) {
        while bmcs.asked(*id) <= before {
            assert!(Instant::now() < deadline, "{id} is not looked at any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    world.directory.ask(all[0], ferric_actors::message::DeleteNode).await.expect("deleted");
    while world.directory.power_sync().nodes != 7 {
        assert!(Instant::now() < deadline, "{:?}", world.directory.power_sync());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
