//! Those outside: an operator who asks for anything at any moment, agents that call, and accidents.

use std::time::{Duration, Instant};

use ferric_actors::message::{
    ChangePower, ContinueInspection, Describe, Heartbeat, Lookup, Provision, SetMaintenance, Update, Wanted,
};
use ferric_actors::{Directory, NodeError, Secret};
use ferric_drivers::flow::Asked;
use ferric_drivers::interface::{Json, RamdiskPurpose};
use ferric_machine::{Facts, PowerTarget, State, Verb, allowed_verbs};
use ferric_schema::{Node, nodes};
use uuid::Uuid;

use crate::chance::Chance;
use crate::hardware::Yard;

/// A request that is not answered by then never will be.
const ANSWERED: Duration = Duration::from_secs(20);

/// An answer in time, or a broken promise.
pub(crate) async fn answered<T>(
    yard: &Yard,
    node: Uuid,
    what: &str,
    ask: impl Future<Output = Result<T, NodeError>>,
) -> Result<T, NodeError> {
    match tokio::time::timeout(ANSWERED, ask).await {
        Ok(answer) => answer,
        Err(_) => {
            yard.broke(node, format!("every request is answered: {what} is not"));
            Err(NodeError::Busy)
        }
    }
}

pub(crate) async fn row(yard: &Yard, node: Uuid) -> Node {
    let read = yard.observer.read(move |conn| nodes::get(conn, node)).await;
    read.expect("the observer reads").expect("no node is deleted")
}

fn facts(node: &Node) -> Facts {
    Facts {
        target: node.target_provision_state,
        maintenance: node.maintenance,
        retired: node.retired,
        protected: node.protected,
        ..Facts::new(node.provision_state)
    }
}

/// What a verb is asked with.
fn wanted(chance: &mut Chance, verb: Verb) -> Wanted {
    let mut wanted = Wanted::default();
    let reserved = ["hold", "wait", "hold", "wait 0", "power_off", "power_on", "hold", "reboot"];
    let mut list = |all: &[&'static str], chance: &mut Chance| {
        for _ in 0..=chance.below(3) {
            let step = if chance.percent(35) { chance.pick(&reserved) } else { chance.pick(all) };
            let mut asked = Asked { step: step.into(), ..Asked::default() };
            if let Some(name) = step.strip_suffix(" 0") {
                asked.step = name.into();
                asked.args.insert("seconds".into(), 0.into());
            }
            if !reserved.contains(&step) {
                asked.interface = "deploy".into();
            }
            if verb.event() == ferric_machine::Event::Deploy {
                asked.priority = Some(i32::try_from(chance.below(90)).expect("small"));
            }
            wanted.steps.push(asked);
        }
    };
    match verb {
        Verb::Clean => list(&["erase_devices", "erase_devices_metadata", "update_firmware"], chance),
        Verb::Service => list(&["burnin_cpu", "update_firmware"], chance),
        Verb::Active | Verb::Deploy | Verb::Rebuild if chance.percent(25) => list(&["hold"], chance),
        Verb::Rescue => wanted.rescue_password = Some(Secret::new("hash".into())),
        Verb::Active | Verb::Deploy | Verb::Rebuild | Verb::Manage | Verb::Provide | Verb::Inspect => {}
        Verb::Deleted | Verb::Undeploy | Verb::Adopt | Verb::Unrescue | Verb::Abort | Verb::Unhold => {}
    }
    wanted.disable_ramdisk = matches!(verb, Verb::Clean | Verb::Service) && chance.percent(15);
    wanted
}

/// Any verb, rather one that is allowed.
pub(crate) async fn asks_something(directory: &Directory, yard: &Yard, node: Uuid, chance: &mut Chance) {
    let allowed = allowed_verbs(&facts(&row(yard, node).await));
    // abort and deletion come often enough by themselves, and hide what would have come of the work
    let going: Vec<Verb> =
        allowed.iter().copied().filter(|verb| !matches!(verb, Verb::Abort | Verb::Deleted)).collect();
    let verb = match chance.below(100) {
        0..70 if !going.is_empty() => chance.pick(&going),
        70..85 if !allowed.is_empty() => chance.pick(&allowed),
        85..93 => chance.pick(Verb::ALL),
        // let it be
        _ => return,
    };
    let wanted = wanted(chance, verb);
    let names: Vec<&str> = wanted.steps.iter().map(|step| step.step.as_str()).collect();
    yard.machine(node).tell(format!("asked: {verb} {names:?}"));
    let ask = directory.ask(node, Provision { verb, configdrive: None, wanted });
    if let Err(error) = answered(yard, node, verb.as_str(), ask).await {
        yard.machine(node).tell(format!("refused {verb}: {error}"));
    }
}

pub(crate) async fn asks(
    directory: &Directory,
    yard: &Yard,
    node: Uuid,
    verb: Verb,
) -> Result<(), NodeError> {
    yard.machine(node).tell(format!("asked: {verb}"));
    let ask = directory.ask(node, Provision { verb, configdrive: None, wanted: Wanted::default() });
    answered(yard, node, verb.as_str(), ask).await
}

pub(crate) async fn changes_power(directory: &Directory, yard: &Yard, node: Uuid, chance: &mut Chance) {
    let target = chance.pick(PowerTarget::ALL);
    let ask = directory.ask(node, ChangePower { target, timeout: None });
    if answered(yard, node, "a power change", ask).await.is_ok() {
        yard.machine(node).tell(format!("asked: {target}"));
    }
}

pub(crate) async fn maintains(directory: &Directory, yard: &Yard, node: Uuid, on: bool) {
    yard.machine(node).tell(format!("maintenance: {on}"));
    let ask = directory.ask(node, SetMaintenance { on, reason: None });
    let _ = answered(yard, node, "maintenance", ask).await;
}

/// A call of an agent that the model's network may deliver late.
#[derive(Clone)]
pub(crate) struct Call {
    node: Uuid,
    token: String,
}

impl Call {
    /// A token that Ferric's own power-off ended must not be taken.
    pub(crate) async fn arrives(self, directory: &Directory, yard: &Yard) {
        let spent = yard.machine(self.node).is_spent(&self.token);
        let beat = Heartbeat {
            callback_url: format!("http://{}", self.node),
            agent_token: Some(self.token),
            agent_version: Some("model".into()),
            agent_verify_ca: None,
            agent_status: None,
            agent_status_message: None,
        };
        let answer = answered(yard, self.node, "a heartbeat", directory.ask(self.node, beat)).await;
        if spent && answer.is_ok() {
            yard.broke(self.node, "a token never survives a power-off: a heartbeat with an old one is taken");
        }
    }
}

/// The agent of the node does what it does next: look up, report, call. Answers its call when that is to be late.
pub(crate) async fn agent_calls(
    directory: &Directory,
    yard: &Yard,
    node: Uuid,
    chance: &mut Chance,
) -> Option<Call> {
    let calm = yard.is_calm();
    let agent = yard.machine(node).agent_up().cloned()?;
    let Some(token) = agent.token.clone() else {
        looks_up(directory, yard, node, agent.boot, !calm && chance.percent(4)).await;
        return None;
    };
    if agent.purpose == RamdiskPurpose::Inspect && !agent.reported {
        let told = ContinueInspection { inventory: Json::new(), ..ContinueInspection::default() };
        let answer = answered(yard, node, "a report", directory.ask(node, told)).await;
        let lost = !calm && chance.percent(10);
        if answer.is_ok() && !lost {
            with_agent(yard, node, agent.boot, |agent| agent.reported = true);
        }
    }
    let call = Call { node, token };
    if !calm && chance.percent(15) {
        return Some(call);
    }
    call.arrives(directory, yard).await;
    None
}

fn with_agent(yard: &Yard, node: Uuid, boot: u64, change: impl FnOnce(&mut crate::hardware::Agent)) -> bool {
    let mut machine = yard.machine(node);
    let Some(agent) = machine.agent_up().filter(|agent| agent.boot == boot) else { return false };
    change(agent);
    true
}

async fn looks_up(directory: &Directory, yard: &Yard, node: Uuid, boot: u64, lost: bool) {
    let ask = directory.ask(node, Lookup { wants_token: true });
    let Ok(found) = answered(yard, node, "a look-up", ask).await else { return };
    match found.agent_token.as_deref() {
        None => yard.broke(node, "tokens: a look-up that wants one gets none"),
        Some("******") => {
            let stored = row(yard, node).await.driver_internal_info.get("agent_secret_token");
            let stored = stored.as_ref().and_then(|token| token.as_str()).unwrap_or_default();
            let spent = yard.machine(node).is_spent(stored);
            if spent && with_agent(yard, node, boot, |_| {}) {
                yard.broke(node, "a token never survives a power-off: a new agent is not given its own");
            }
        }
        Some(token) => {
            // an agent that went while it asked has heard nothing
            let there = with_agent(yard, node, boot, |agent| {
                if !lost {
                    agent.token = Some(token.to_owned());
                }
            });
            if there {
                yard.machine(node).tokens.insert(token.to_owned(), boot);
            }
            yard.machine(node).tell(format!("start {boot} looked up; heard: {}", there && !lost));
        }
    }
}

/// How a calm operator goes on in a state, on the way to `available`; `None` where there is nothing to do but wait.
pub(crate) fn way_home(state: State) -> Option<Verb> {
    match state {
        State::Enroll | State::CleanFailed | State::InspectFailed | State::AdoptFailed => Some(Verb::Manage),
        State::Manageable => Some(Verb::Provide),
        State::Active | State::Error | State::DeployFailed | State::Rescue => Some(Verb::Deleted),
        State::RescueFailed | State::UnrescueFailed | State::ServiceFailed => Some(Verb::Deleted),
        State::DeployHold | State::CleanHold | State::ServiceHold => Some(Verb::Unhold),
        State::Available | State::Verifying | State::Deploying | State::DeployWait | State::Cleaning => None,
        State::CleanWait | State::Deleting | State::Inspecting | State::InspectWait | State::Adopting => None,
        State::Rescuing | State::RescueWait | State::Unrescuing | State::Servicing => None,
        State::ServiceWait => None,
    }
}

/// Kills the node's actor: what it is asked to write panics.
pub(crate) async fn kills_actor(directory: &Directory, yard: &Yard, node: Uuid) {
    yard.machine(node).tell("=== the actor is killed");
    let apply = Box::new(|_: &mut Node| panic!("{KILLED}"));
    let ask = directory.ask(node, Update { apply, reset_interfaces: false });
    let _ = answered(yard, node, "an update that panics", ask).await;
}

/// What a killed actor says; not shown.
pub(crate) const KILLED: &str = "the model kills an actor";

/// Waits until the actors answer for every node.
pub(crate) async fn all_answer(directory: &Directory, yard: &Yard, ids: &[Uuid]) {
    let deadline = Instant::now() + ANSWERED;
    for id in ids {
        while let Err(error) = directory.ask(*id, Describe).await {
            if Instant::now() > deadline {
                return yard.broke(*id, format!("every node is there after a start: {error}"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
