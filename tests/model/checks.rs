//! What must hold, whatever happens. Each check names itself at the beginning of its message.

use std::collections::{HashMap, HashSet};

use ferric_actors::Directory;
use ferric_actors::message::Describe;
use ferric_machine::{Event, State, TABLE};
use ferric_schema::journal::{self, StepState};
use ferric_schema::{events, nodes};
use uuid::Uuid;

use crate::hardware::{Mark, Yard};

/// Reads what was committed, in the order in which it was.
#[derive(Default)]
pub(crate) struct Reader {
    seq: i64,
    states: HashMap<Uuid, State>,
    /// Every state that any node came to.
    pub(crate) seen: HashSet<State>,
    /// Nodes that are not cleaned by themselves.
    pub(crate) uncleaned: Vec<Uuid>,
}

impl Reader {
    pub(crate) async fn read(&mut self, yard: &Yard) {
        let after = self.seq;
        let rows = yard.observer.read(move |conn| events::after(conn, after, 10_000)).await;
        for row in rows.expect("the observer reads") {
            self.seq = row.seq;
            let Some(node) = row.node else { continue };
            if row.kind != "provision_set" {
                continue;
            }
            let state = |key: &str| row.data.get(key).and_then(|value| value.as_str()?.parse::<State>().ok());
            let event = row.data.get("event").and_then(|value| value.as_str()?.parse::<Event>().ok());
            let (Some(from), Some(to), Some(event)) = (state("from"), state("to"), event) else {
                yard.broke(node, format!("events: a change of state without its states: {}", row.text));
                continue;
            };
            yard.machine(node).tell(format!("state: {}", row.text));
            self.one(yard, node, row.at.0, (from, event, to), &row.text);
        }
    }

    fn one(&mut self, yard: &Yard, node: Uuid, at: i64, change: (State, Event, State), text: &str) {
        let (from, event, to) = change;
        self.seen.insert(to);
        let before = self.states.insert(node, to).unwrap_or(State::Enroll);
        if before != from {
            yard.broke(node, format!("one history: it left {from} and was in {before}"));
        }
        if !TABLE.iter().any(|row| row.from == from && row.on == event) {
            yard.broke(node, format!("the table: {from} knows no {event}"));
        }
        if to.is_failed() && !text.contains(": ") {
            yard.broke(node, format!("every failure says why: {text}"));
        }
        if to == State::Available && !self.uncleaned.contains(&node) {
            let last = |wanted: Mark| last(yard, node, at, wanted);
            let used = last(Mark::Dirtied).unwrap_or(i64::MIN);
            for needed in [Mark::MetadataErased, Mark::Erased] {
                if last(needed).is_none_or(|erased| erased < used) {
                    yard.broke(
                        node,
                        format!("available means clean: {needed:?} is missing after the last use"),
                    );
                }
            }
        }
        if from == State::Deploying && to == State::Active {
            let (begun, whole) =
                (last(yard, node, at, Mark::WriteBegun), last(yard, node, at, Mark::Written));
            if whole.is_none() || whole < begun {
                yard.broke(node, "active means deployed: its image is not whole");
            }
        }
    }
}

fn last(yard: &Yard, node: Uuid, at: i64, wanted: Mark) -> Option<i64> {
    let machine = yard.machine(node);
    machine.ledger.iter().rev().find(|(when, mark)| *mark == wanted && *when <= at).map(|(when, _)| *when)
}

/// Work that is under way says what it does, or what it waits for.
pub(crate) async fn is_named(directory: &Directory, yard: &Yard, node: Uuid) {
    let Ok(before) = directory.ask(node, Describe).await else { return };
    let state = before.provision_state;
    if !(state.stuck_as_fail() || state.is_wait() || state.is_hold()) {
        return;
    }
    let doing = directory.doing(node);
    let Ok(after) = directory.ask(node, Describe).await else { return };
    if before.generation != after.generation {
        return;
    }
    match doing {
        None => yard.broke(node, format!("work has a name: nothing is told of what goes on in {state}")),
        Some(doing) if state.is_hold() && doing.waiting_for.is_none() => {
            yard.broke(
                node,
                format!("a wait has a name: {state}, and it is not told that it waits for an unhold"),
            );
        }
        Some(_) => {}
    }
}

/// What every row obeys that was ever committed.
pub(crate) async fn rows(yard: &Yard, ids: &[Uuid]) {
    let wanted = ids.to_vec();
    let read = yard
        .observer
        .read(move |conn| wanted.iter().map(|id| nodes::get(conn, *id)).collect::<Result<Vec<_>, _>>());
    for node in read.await.expect("the observer reads").into_iter().flatten() {
        let (state, target) = (node.provision_state, node.target_provision_state);
        let id = node.uuid;
        if target.is_some() == state.is_stable() {
            yard.broke(id, format!("targets: {state} has the target {target:?}"));
        }
        if node.reservation.is_some() && !state.stuck_as_fail() && node.target_power_state.is_none() {
            yard.broke(id, format!("locks: it is reserved in {state}, and nothing works on it"));
        }
        if node.reservation.is_none() && state.stuck_as_fail() {
            yard.broke(id, format!("locks: it is in {state} and not reserved"));
        }
        if node.fault.is_some() && !node.maintenance {
            yard.broke(id, "faults: a fault without maintenance");
        }
        one_operation(yard, id).await;
        if state.is_stable() && !matches!(state, State::Enroll | State::Manageable | State::Available) {
            let steps = [&node.clean_step, &node.deploy_step, &node.service_step];
            if steps.iter().any(|step| !step.is_empty()) {
                yard.broke(id, format!("steps: one is shown in {state}"));
            }
        }
    }
}

/// The journal holds one unfinished operation at the most, and at most one step of it runs.
async fn one_operation(yard: &Yard, id: Uuid) {
    let rows = yard.observer.read(move |conn| journal::latest_of_node(conn, id, 4)).await;
    let mut open: Vec<_> = rows.expect("the observer reads");
    open.retain(|row| matches!(row.state, StepState::Running | StepState::Pending));
    let running = open.iter().filter(|row| row.state == StepState::Running).count();
    let first = open.first().map(|row| row.op);
    if running > 1 || open.iter().any(|row| Some(row.op) != first) {
        let all: Vec<_> =
            open.iter().map(|row| format!("{} {} {:?}", row.kind, row.step, row.state)).collect();
        yard.broke(id, format!("one operation at a time: {}", all.join(", ")));
    }
}

/// A node that rests has nothing left over: no open steps, no agent's token, nothing that it does. Answers what it has.
pub(crate) async fn left_over(directory: &Directory, yard: &Yard, id: Uuid) -> Option<String> {
    let read = yard.observer.read(move |conn| Ok((nodes::get(conn, id)?, journal::open_of_node(conn, id)?)));
    let (node, open) = read.await.expect("the observer reads");
    let node = node.expect("no node is deleted");
    let state = node.provision_state;
    if state.is_hold() {
        return None;
    }
    if let Some(row) = open.first() {
        return Some(format!("the journal's {} is not over in {state}", row.kind));
    }
    if node.driver_internal_info.get("agent_secret_token").is_some() {
        return Some(format!("an agent's token is kept in {state}"));
    }
    directory.doing(id).map(|doing| format!("it is said to do something in {state}: {doing:?}"))
}
