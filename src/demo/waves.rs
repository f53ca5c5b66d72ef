//! What the demo does: enrol, make available, deploy in waves, tear some down, begin again.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferric_sim::{Chance, Fleet, Phase, WriteProgress, node_body};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

use super::api::{Api, ApiError, Heard, Node};
use super::screen::Screen;
use crate::Failure;

/// Between two looks at what is told of the nodes.
const LOOK: Duration = Duration::from_millis(300);
/// So many nodes are listed at each look. More are listed less often: what happens to them is heard.
const LISTED_EACH_LOOK: usize = 200;
/// Requests at the same time.
const AT_ONCE: usize = 16;
/// A node that was asked for something and neither moves nor says why.
const STUCK: Duration = Duration::from_secs(60);
/// So long nothing happens at all: then a single wave has failed.
const SILENCE: Duration = Duration::from_secs(300);
/// The longest a machine may take from "active" to its running image.
const HAND_OVER: Duration = Duration::from_secs(60);
/// Between the end of one wave and the next.
const REST: Duration = Duration::from_secs(3);

/// The image that is deployed.
#[derive(Clone)]
pub(super) struct Image {
    url: String,
    sha256: String,
    bytes: usize,
}

impl Image {
    /// Makes an image of chance and publishes it where the fleet's agents can fetch it.
    pub(super) fn new(fleet: &Fleet, seed: u64, bytes: usize) -> Self {
        let mut chance = Chance::new(seed, 0x1a6e);
        let mut content = Vec::with_capacity(bytes);
        while content.len() < bytes {
            content.extend_from_slice(&chance.bits().to_le_bytes());
        }
        let sha256 = ferric_sim::sha256_hex(&content);
        let url = fleet.publish_image("demo.img", Bytes::from(content));
        Self { url, sha256, bytes }
    }
}

/// Where a machine is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Available,
    Active,
}

impl Goal {
    fn state(self) -> &'static str {
        match self {
            Goal::Available => "available",
            Goal::Active => "active",
        }
    }
}

/// What was asked of a node last.
struct Asked {
    in_state: String,
    at: Instant,
    answered: bool,
}

/// A machine with its node.
pub(super) struct Machine {
    pub(super) name: String,
    mac: String,
    body: Value,
    pub(super) node: Node,
    goal: Goal,
    asked: Option<Asked>,
    /// Why it does not go on.
    pub(super) failed: Option<String>,
}

/// A machine for the screen.
pub(super) struct Row<'a> {
    pub(super) machine: &'a Machine,
    pub(super) phase: Phase,
    pub(super) write: Option<WriteProgress>,
}

/// The demo.
pub(super) struct Demo {
    api: Api,
    fleet: Arc<Fleet>,
    image: Image,
    chance: Chance,
    began: Instant,
    machines: Vec<Machine>,
    permits: Arc<Semaphore>,
    /// Machines by the id of their node.
    by_id: HashMap<String, usize>,
    /// What is heard of nodes; `None` where all are listed each time.
    heard: Option<mpsc::UnboundedReceiver<Heard>>,
    listed: Option<Instant>,
    answers: (mpsc::UnboundedSender<Answer>, mpsc::UnboundedReceiver<Answer>),
    last_change: Instant,
}

/// The answer to what was asked of machine `0`.
type Answer = (usize, Result<(), ApiError>);

impl Demo {
    pub(super) fn new(api: Api, fleet: Arc<Fleet>, image: Image, chance: Chance, began: Instant) -> Self {
        let machines = fleet.machines().iter().map(|machine| Machine {
            name: machine.name.clone(),
            mac: machine.mac.clone(),
            body: node_body(machine),
            node: Node::default(),
            goal: Goal::Available,
            asked: None,
            failed: None,
        });
        Self {
            api,
            image,
            chance,
            began,
            machines: machines.collect(),
            fleet,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            by_id: HashMap::new(),
            heard: None,
            listed: None,
            answers: mpsc::unbounded_channel(),
            last_change: began,
        }
    }

    /// One wave with `once`, else for ever.
    pub(super) async fn run(mut self, once: bool, mut screen: Screen) -> Result<ExitCode, Failure> {
        self.enrol(&mut screen).await?;
        let enrolled = Instant::now();
        self.reach(&mut screen, once).await?;
        let available = Instant::now();
        self.aim(Goal::Active, |_| true);
        self.reach(&mut screen, once).await?;
        let active = Instant::now();
        if once {
            self.hand_over(&mut screen).await?;
            return Ok(self.report(screen, [enrolled, available, active, Instant::now()]));
        }
        screen
            .event(&format!("all that can be are active after {:.1} s", self.began.elapsed().as_secs_f32()));
        let mut wave = 1;
        loop {
            self.rest(&mut screen).await?;
            wave += 1;
            let third: Vec<bool> = self.machines.iter().map(|_| self.chance.happens(1.0 / 3.0)).collect();
            screen.event(&format!("wave {wave}: tearing some down"));
            self.aim(Goal::Available, |index| third[index]);
            self.reach(&mut screen, once).await?;
            self.rest(&mut screen).await?;
            screen.event(&format!("wave {wave}: deploying"));
            self.aim(Goal::Active, |_| true);
            self.reach(&mut screen, once).await?;
        }
    }

    fn aim(&mut self, goal: Goal, choose: impl Fn(usize) -> bool) {
        for (index, machine) in self.machines.iter_mut().enumerate() {
            if choose(index) {
                machine.goal = goal;
            }
        }
    }

    async fn enrol(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let mut tasks = tokio::task::JoinSet::new();
        for (index, machine) in self.machines.iter().enumerate() {
            let (api, permits) = (self.api.clone(), self.permits.clone());
            let (name, mac, body) = (machine.name.clone(), machine.mac.clone(), machine.body.clone());
            tasks.spawn(async move {
                let _permit = permits.acquire().await;
                let id = match api.create_node(&body).await {
                    // of an earlier demo in the same data directory
                    Err(error) if error.is_conflict() => {
                        return api.node(&name).await.map(|node| (index, node.uuid));
                    }
                    other => other?,
                };
                api.create_port(&id, &mac).await?;
                Ok((index, id))
            });
        }
        while let Some(done) = tasks.join_next().await {
            let (index, id) = done??;
            self.by_id.insert(id.clone(), index);
            self.machines[index].node.uuid = id;
        }
        if self.machines.len() > LISTED_EACH_LOOK {
            self.heard = Some(self.api.follow());
        }
        screen.event(&format!("{} nodes enrolled", self.machines.len()));
        Ok(())
    }

    /// Works until every machine is where it is to go, or cannot go there.
    async fn reach(&mut self, screen: &mut Screen, once: bool) -> Result<(), Failure> {
        self.last_change = Instant::now();
        loop {
            self.look(screen).await?;
            let mut settled = true;
            for index in 0..self.machines.len() {
                settled &= self.drive(index, once, screen);
            }
            self.draw(screen);
            if settled {
                return Ok(());
            }
            if once && self.last_change.elapsed() > SILENCE {
                for machine in self.machines.iter_mut().filter(|one| one.node.state() != one.goal.state()) {
                    let text = format!("nothing has happened for {} s", SILENCE.as_secs());
                    machine.failed.get_or_insert(text);
                }
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the machines that are active run what was written to them: the API says "active" when the machine
    /// is switched on, and its operating system takes a while.
    async fn hand_over(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let until = Instant::now() + HAND_OVER;
        loop {
            let mut waiting = 0;
            for (machine, simulated) in self.machines.iter_mut().zip(self.fleet.machines()) {
                if machine.node.state() != "active" || machine.failed.is_some() {
                    continue;
                }
                let phase = simulated.phase();
                if phase == Phase::Instance && simulated.holds(&self.image.sha256) {
                    continue;
                }
                waiting += 1;
                if Instant::now() > until {
                    machine.failed = Some(format!("is active and does not run the image: {phase:?}"));
                }
            }
            if waiting == 0 || Instant::now() > until {
                return Ok(());
            }
            self.look(screen).await?;
            self.draw(screen);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Keeps the screen alive for a while.
    async fn rest(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let until = Instant::now() + REST;
        while Instant::now() < until {
            self.look(screen).await?;
            self.draw(screen);
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Takes in the answers, then the nodes as they are now.
    async fn look(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        while let Ok((index, answer)) = self.answers.1.try_recv() {
            let machine = &mut self.machines[index];
            match answer {
                Ok(()) => {
                    if let Some(asked) = &mut machine.asked {
                        asked.answered = true;
                    }
                }
                Err(error) => {
                    let text = Failure::from(error).0;
                    screen.event(&format!("{}: {text}", machine.name));
                    machine.failed = Some(text);
                }
            }
        }
        // what was heard before the list is older than the list
        self.listen(screen);
        let every = LOOK * u32::try_from(self.machines.len() / LISTED_EACH_LOOK).unwrap_or(u32::MAX);
        if self.heard.is_some() && self.listed.is_some_and(|listed| listed.elapsed() < every) {
            return Ok(());
        }
        for node in self.api.nodes().await? {
            let Some(index) = self.by_id.get(&node.uuid) else { continue };
            let machine = &mut self.machines[*index];
            if node.state() != machine.node.state() {
                self.last_change = Instant::now();
                if machine.node.name.is_some() {
                    screen.event(&format!("{}: {} -> {}", machine.name, machine.node.state(), node.state()));
                }
            }
            machine.node = node;
        }
        self.listed = Some(Instant::now());
        self.listen(screen);
        Ok(())
    }

    /// Takes in what was heard of nodes.
    fn listen(&mut self, screen: &mut Screen) {
        let Some(heard) = &mut self.heard else { return };
        while let Ok(one) = heard.try_recv() {
            match one {
                Heard::State { node, to } => {
                    let Some(index) = self.by_id.get(&node) else { continue };
                    let machine = &mut self.machines[*index];
                    if machine.node.state() == to || self.listed.is_none() {
                        continue;
                    }
                    self.last_change = Instant::now();
                    screen.event(&format!("{}: {} -> {to}", machine.name, machine.node.state()));
                    machine.node.moved(to);
                }
                Heard::Lost => self.listed = None,
            }
        }
    }

    /// Asks the next thing of one machine, if there is one to ask. True when it is where it is to go, or failed.
    fn drive(&mut self, index: usize, once: bool, screen: &mut Screen) -> bool {
        let machine = &mut self.machines[index];
        if machine.node.state() == machine.goal.state() {
            machine.failed = None;
            machine.asked = None;
            return true;
        }
        let state = machine.node.state().to_owned();
        if machine.failed.is_some() && (once || !state.ends_with("failed")) {
            return true;
        }
        if let Some(asked) = &machine.asked
            && asked.in_state == state
        {
            let error = machine.node.last_error.clone();
            if asked.answered && (error.is_some() || asked.at.elapsed() > STUCK) {
                let text = error.unwrap_or_else(|| format!("stays in {state}"));
                screen.event(&format!("{}: {text}", machine.name));
                machine.failed = Some(text);
                machine.asked = None;
            }
            return false;
        }
        let verb = match (state.as_str(), machine.goal) {
            ("enroll", _) => "manage",
            ("manageable", _) => "provide",
            ("available", Goal::Active) => "active",
            ("active", Goal::Available) => "deleted",
            ("deploy failed" | "error" | "clean failed", _) => {
                let text = machine.node.last_error.clone().unwrap_or_else(|| state.clone());
                machine.failed = Some(text);
                if once {
                    return true;
                }
                if state == "clean failed" { "manage" } else { "deleted" }
            }
            (_, _) => return false,
        };
        let cleaned_badly = state == "clean failed";
        machine.asked = Some(Asked { in_state: state, at: Instant::now(), answered: false });
        self.ask(index, verb, cleaned_badly);
        false
    }

    fn ask(&self, index: usize, verb: &'static str, in_maintenance: bool) {
        let (api, permits, answers) = (self.api.clone(), self.permits.clone(), self.answers.0.clone());
        let (id, image) = (self.machines[index].node.uuid.clone(), self.image.clone());
        tokio::spawn(async move {
            let _permit = permits.acquire().await;
            let answer = async {
                if verb == "active" {
                    let fields = [
                        ("image_source", Value::from(image.url)),
                        ("image_os_hash_algo", Value::from("sha256")),
                        ("image_os_hash_value", Value::from(image.sha256)),
                        ("image_disk_format", Value::from("raw")),
                    ];
                    api.set_instance(&id, &fields).await?;
                }
                if in_maintenance {
                    api.end_maintenance(&id).await?;
                }
                api.provision(&id, verb).await
            };
            // nobody listens when the demo is over
            let _ = answers.send((index, answer.await));
        });
    }

    fn draw(&self, screen: &mut Screen) {
        let rows: Vec<Row<'_>> = self
            .machines
            .iter()
            .zip(self.fleet.machines())
            .map(|(machine, simulated)| {
                let (phase, write) = simulated.glance();
                Row { machine, phase, write }
            })
            .collect();
        screen.draw(&rows);
    }

    fn report(&self, screen: Screen, [enrolled, available, active, running]: [Instant; 4]) -> ExitCode {
        screen.close();
        let failed: Vec<_> = self
            .machines
            .iter()
            .filter(|machine| machine.node.state() != "active" || machine.failed.is_some())
            .map(|machine| {
                let reason = machine.failed.as_deref().or(machine.node.last_error.as_deref());
                format!(
                    "{} is {}: {}",
                    machine.name,
                    machine.node.state(),
                    reason.unwrap_or("no reason given")
                )
            })
            .collect();
        let count = self.machines.len();
        let seconds = |from: Instant, to: Instant| to.duration_since(from).as_secs_f32();
        println!(
            "{} of {count} machines active in {:.1} s",
            count - failed.len(),
            seconds(self.began, active)
        );
        println!("  enrolled   {:>6.1} s  nodes and ports through the API", seconds(self.began, enrolled));
        let cleaned = self.fleet.machines().iter().any(|machine| machine.metadata_erased() > 0);
        let what = if cleaned { ", each disk cleaned in band" } else { "" };
        println!("  available  {:>6.1} s  each BMC verified over IPMI{what}", seconds(enrolled, available));
        println!(
            "  active     {:>6.1} s  ramdisk booted, {:.1} MB image written and its sha256 checked on each{}",
            seconds(available, active),
            self.image.bytes as f64 / 1e6,
            if self.fleet.counts_images() { " (its bytes counted, not moved: sim.images)" } else { "" }
        );
        println!("  running    {:>6.1} s  each machine booted from its disk", seconds(active, running));
        let rate = (count - failed.len()) as f32 / seconds(available, active).max(0.001);
        println!("  {rate:.1} deployments/s{}", memory());
        for line in &failed {
            eprintln!("ferric: {line}");
        }
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// What this process holds in memory, Ferric and the machines, where the system tells.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let megabytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kibibytes * 1024.0 / 1e6)
    };
    match (megabytes("VmRSS:"), megabytes("VmHWM:")) {
        (Some(now), Some(most)) => format!("; {now:.0} MB of memory, {most:.0} MB at the most"),
        (_, _) => String::new(),
    }
}
