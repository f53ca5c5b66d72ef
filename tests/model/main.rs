//! The model: whatever happens in whatever order, some things must hold.
//!
//! Two parts. [`machine`] walks the pure machine exhaustively. The rest of this file lets the *real* actors, over a
//! real SQLite file, work on pretended machines ([`hardware`]) through pretended interfaces ([`hands`]), while a seed
//! decides what an operator asks for, what gets lost, refused or late, which plug is pulled, and when the process is
//! killed and started anew ([`operator`], [`life`]). Then the faults stop, and every node must come to rest and find
//! its way to `available`. What is checked stands in [`checks`], [`hands`] and [`operator`], each check with its name:
//!
//! * *two writers of one disk*, *two hands on one machine*
//! * *available means clean* (after use, with the configured cleaning), *active means deployed*
//! * *a token never survives a power-off*
//! * *every operation ends*, *work has a name*, *every request is answered*, *home*
//! * *commit precedes effect*: before a step is carried out or power changes, the database is asked
//! * *nothing begins twice*: no command is given to one agent a second time, whatever was lost or killed
//! * *one history*, *one operation at a time*, *the table*, *targets*, *locks*, *faults*, *steps*: of what was committed
//! * *rest is rest*: no open step, no token, no place in a queue is left over
//!
//! **Time** is real and scaled down: commands take up to 60 ms, ramdisks have 1.5 s to call. Virtual time does not go
//! here: tokio's clock can be paused in a runtime of one thread, and the actors live on arbiter threads with runtimes
//! of their own, commit through the store's writer thread, and stamp rows with the wall clock. So a seed decides what
//! is done and what goes wrong, in which order for the operator and for each machine, but not how the threads
//! interleave: a failing seed fails again mostly, not always, and `FERRIC_MODEL_TIMES=20` repeats it. What matters most
//! is not left to chance: many kills happen at the very moment of an effect, just before or just after it.
//!
//! `FERRIC_MODEL_SEED=7` runs this seed alone, `FERRIC_MODEL_SEEDS=150` runs so many instead of forty;
//! `FERRIC_MODEL_STORY=1` prints what happened in each.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod chance;
mod checks;
mod hands;
mod hardware;
mod life;
mod machine;
mod operator;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ferric_machine::{State, Timestamp, Verb};
use ferric_schema::Node;
use uuid::Uuid;

use chance::Chance;
use checks::Reader;
use hardware::Yard;
use life::{CALLBACK, Life};

/// The seeds that always run, besides one by chance.
const SEEDS: u64 = 40;
/// Seeds at a time; they mostly wait.
const AT_ONCE: usize = 8;
/// How many things an operator does before it becomes calm.
const DEEDS: u64 = 130;
/// How long calm work may take, with a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(40);

/// One seed's world.
struct Model {
    chance: Chance,
    yard: Arc<Yard>,
    ids: Vec<Uuid>,
    reader: Reader,
    folder: tempfile::TempDir,
    life: Option<Life>,
    lives: u64,
    late: Vec<operator::Call>,
}

impl Model {
    async fn new(seed: u64) -> Model {
        let folder = tempfile::tempdir().unwrap();
        let mut chance = Chance::new(seed);
        let ids: Vec<Uuid> = (0..3).map(|_| Uuid::from_u64_pair(chance.next(), chance.next())).collect();
        let observer = life::store(&folder.path().join("ferric.sqlite"));
        let yard = Arc::new(Yard::new(&ids, seed, observer));
        let life = Life::begin(&folder.path().join("ferric.sqlite"), &yard, 1);
        let mut reader = Reader::default();
        for (at, id) in ids.iter().enumerate() {
            let mut node = Node::new(*id, "fake-hardware", Timestamp(hardware::now()));
            node.inspect_interface = Some("agent".into());
            node.rescue_interface = Some("agent".into());
            if at == 2 {
                node.automated_clean = Some(false);
                reader.uncleaned.push(*id);
            }
            node.disable_power_off = at == 1 && chance.percent(30);
            if at == 2 && chance.percent(25) {
                // two machines in one chassis: the second gets its power from the first
                node.parent_node = Some(ids[0]);
            }
            life.directory.create(node).await.unwrap();
        }
        let late = Vec::new();
        Model { chance, yard, ids, reader, folder, life: Some(life), lives: 1, late }
    }

    fn directory(&self) -> ferric_actors::Directory {
        self.life.as_ref().expect("a process lives").directory.clone()
    }

    async fn crash(&mut self) {
        for id in &self.ids {
            self.yard.machine(*id).tell("=== the process is killed");
        }
        let life = self.life.take().expect("a process lives");
        // joins a thread; nobody else needs this one meanwhile
        life.dies();
        self.lives += 1;
        self.life = Some(Life::begin(&self.folder.path().join("ferric.sqlite"), &self.yard, self.lives));
        operator::all_answer(&self.directory(), &self.yard, &self.ids).await;
    }

    async fn deed(&mut self) {
        if self.yard.sprung.swap(false, Ordering::SeqCst) {
            self.crash().await;
        }
        let directory = self.directory();
        let (yard, chance) = (self.yard.clone(), &mut self.chance);
        let node = chance.pick(&self.ids);
        match chance.below(100) {
            0..38 => operator::asks_something(&directory, &yard, node, chance).await,
            38..43 => operator::changes_power(&directory, &yard, node, chance).await,
            43..46 => operator::maintains(&directory, &yard, node, true).await,
            46..51 => operator::maintains(&directory, &yard, node, false).await,
            51 => operator::kills_actor(&directory, &yard, node).await,
            52..54 => yard.machine(node).loses_power(),
            54..56 => {
                let ramdisk = chance.percent(50);
                yard.machine(node).resets(ramdisk);
            }
            56..58 => {
                if let Some(call) = self.late.pop() {
                    call.arrives(&directory, &yard).await;
                }
            }
            58..64 => {
                if chance.percent(60) {
                    let when = if chance.percent(50) { 1 } else { 2 };
                    yard.trap.store(when, Ordering::SeqCst);
                    return;
                }
                if chance.percent(25) {
                    // a stop that is asked for; the kill comes all the same
                    directory.stop().await;
                }
                drop(directory);
                self.crash().await;
            }
            64..68 => {
                // two clients at once
                let mut other = Chance::new(chance.next());
                tokio::join!(
                    operator::asks_something(&directory, &yard, node, chance),
                    operator::asks_something(&directory, &yard, node, &mut other),
                );
            }
            68..70 => {
                let mut other = Chance::new(chance.next());
                tokio::join!(
                    operator::asks_something(&directory, &yard, node, chance),
                    operator::changes_power(&directory, &yard, node, &mut other),
                );
            }
            _ => tokio::time::sleep(chance.millis(25)).await,
        }
    }

    async fn agents_call(&mut self, percent: u64) {
        let directory = self.directory();
        for id in self.ids.clone() {
            if self.chance.percent(percent)
                && let Some(late) = operator::agent_calls(&directory, &self.yard, id, &mut self.chance).await
            {
                self.late.push(late);
            }
        }
    }

    async fn looks(&mut self) {
        self.reader.read(&self.yard).await;
        checks::rows(&self.yard, &self.ids).await;
        let directory = self.directory();
        let node = self.chance.pick(&self.ids);
        checks::is_named(&directory, &self.yard, node).await;
    }

    /// No faults any more: whatever is under way ends, or says what it waits for.
    async fn comes_to_rest(&mut self) {
        self.yard.calm.store(true, Ordering::SeqCst);
        self.yard.trap.store(0, Ordering::SeqCst);
        // one that was just stepped into springs
        tokio::time::sleep(Duration::from_millis(5)).await;
        if self.yard.sprung.swap(false, Ordering::SeqCst) {
            self.crash().await;
        }
        let directory = self.directory();
        for id in &self.ids {
            // no wait is counted in maintenance
            operator::maintains(&directory, &self.yard, *id, false).await;
        }
        let deadline = Instant::now() + CALLBACK + LONG;
        loop {
            self.agents_call(100).await;
            self.looks().await;
            let mut busy = Vec::new();
            for id in &self.ids {
                let row = operator::row(&self.yard, *id).await;
                let state = row.provision_state;
                let works = state.stuck_as_fail() || state.is_wait() || row.target_power_state.is_some();
                if works || row.reservation.is_some() {
                    busy.push((*id, state));
                }
                if row.maintenance {
                    // an actor that is just being made anew may not have heard it
                    operator::maintains(&directory, &self.yard, *id, false).await;
                }
            }
            if busy.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                for (id, state) in busy {
                    let doing = directory.doing(id);
                    self.yard
                        .broke(id, format!("every operation ends: it is still in {state}; doing {doing:?}"));
                }
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// From wherever it rests, an operator brings a node to `available`.
    async fn goes_home(&mut self) {
        let directory = self.directory();
        let deadline = Instant::now() + LONG;
        loop {
            self.agents_call(100).await;
            self.looks().await;
            let mut away = Vec::new();
            for id in self.ids.clone() {
                let row = operator::row(&self.yard, id).await;
                if row.provision_state == State::Available {
                    continue;
                }
                away.push((id, row.provision_state, row.last_error));
                if row.maintenance {
                    operator::maintains(&directory, &self.yard, id, false).await;
                }
                if let Some(verb) = operator::way_home(row.provision_state)
                    && let Err(error) = operator::asks(&directory, &self.yard, id, verb).await
                {
                    self.yard.machine(id).tell(format!("refused {verb}: {error}"));
                }
            }
            if away.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                for (id, state, error) in away {
                    let doing = directory.doing(id);
                    let text =
                        format!("home: no way to available, it is in {state}: {error:?}; doing {doing:?}");
                    self.yard.broke(id, text);
                }
                return;
            }
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
    }

    /// Nothing is left over at rest, soon.
    async fn leaves_nothing(&mut self) {
        let directory = self.directory();
        let deadline = Instant::now() + LONG;
        for id in self.ids.clone() {
            while let Some(what) = checks::left_over(&directory, &self.yard, id).await {
                if Instant::now() > deadline {
                    self.yard.broke(id, format!("rest is rest: {what}"));
                    break;
                }
                self.agents_call(100).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if let Some((kind, line)) = directory.queue().into_iter().find(|(_, line)| !line.is_empty()) {
            self.yard.broke(line[0], format!("rest is rest: it still waits for a place to {kind}"));
        }
    }

    fn story(&self) -> String {
        let mut out = String::new();
        for id in &self.ids {
            out.push_str(&format!("--- {id}\n"));
            for line in &self.yard.machine(*id).story {
                out.push_str(&format!("{line}\n"));
            }
        }
        out
    }
}

/// One seed from its first deed to its last node home. Answers what was broken, the story, and the states seen.
async fn run(seed: u64) -> (Vec<String>, String, HashSet<State>) {
    let mut model = Model::new(seed).await;
    for id in model.ids.clone() {
        let _ = operator::asks(&model.directory(), &model.yard, id, Verb::Manage).await;
    }
    for _ in 0..DEEDS {
        model.deed().await;
        model.agents_call(60).await;
        model.looks().await;
        if !model.yard.all_broken().is_empty() {
            break;
        }
    }
    if model.yard.all_broken().is_empty() {
        model.comes_to_rest().await;
    }
    if model.yard.all_broken().is_empty() {
        model.leaves_nothing().await;
    }
    if model.yard.all_broken().is_empty() {
        model.goes_home().await;
    }
    if model.yard.all_broken().is_empty() {
        model.leaves_nothing().await;
    }
    model.looks().await;
    let outcome = (model.yard.all_broken(), model.story(), std::mem::take(&mut model.reader.seen));
    model.life.take().expect("a process lives").dies();
    outcome
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("FERRIC_MODEL_SEED") {
        let times = number("FERRIC_MODEL_TIMES").unwrap_or(1);
        return (0..times).map(|_| seed).collect();
    }
    let by_chance = Uuid::new_v4().as_u128() % 1_000_000_000;
    let by_chance = u64::try_from(by_chance).expect("below a thousand million");
    println!("by chance: seed {by_chance}");
    let many = number("FERRIC_MODEL_SEEDS").unwrap_or(SEEDS);
    (1..=many).chain([by_chance]).collect()
}

#[test]
fn whatever_happens_the_invariants_hold_and_every_node_finds_home() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some(operator::KILLED) {
            usual(info);
        }
    }));
    let (seeds, next) = (seeds(), AtomicUsize::new(0));
    let (broken, seen) = (Mutex::new(Vec::new()), Mutex::new(HashSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(seeds.len()) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let begun = Instant::now();
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    let (found, story, states) = runtime.unwrap().block_on(run(*seed));
                    println!("seed {seed}: {:.1} s, {} broken", begun.elapsed().as_secs_f32(), found.len());
                    seen.lock().unwrap().extend(states);
                    if std::env::var_os("FERRIC_MODEL_STORY").is_some() {
                        println!("{story}");
                    }
                    if !found.is_empty() {
                        broken.lock().unwrap().push((*seed, found, story));
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    let mut report = String::new();
    for (seed, found, _) in &broken {
        report.push_str(&format!("seed {seed}:\n  {}\n", found.join("\n  ")));
        report.push_str(&format!(
            "  again: FERRIC_MODEL_STORY=1 FERRIC_MODEL_TIMES=5 FERRIC_MODEL_SEED={seed} cargo nextest run -p ferric \
             --test model --no-capture whatever_happens\n"
        ));
    }
    if let Some((_, _, story)) = broken.first() {
        let lines: Vec<&str> = story.lines().collect();
        report.push_str(&format!(
            "the first of them:\n{}\n",
            lines[lines.len().saturating_sub(400)..].join("\n")
        ));
    }
    assert!(broken.is_empty(), "{report}");
    let seen = seen.into_inner().unwrap();
    let unseen: Vec<_> = State::ALL.iter().filter(|state| !seen.contains(state)).collect();
    println!("never seen: {unseen:?}");
    // the rarest states need some luck
    assert!(seeds.len() < 20 || unseen.len() <= 3, "the model is too tame: it never came to {unseen:?}");
}
