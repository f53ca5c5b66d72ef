//! What an event or a client's verb does to a node (states.md §1 to §5, §10).

use crate::table::{Row, Work, row};
use crate::{Activity, Event, Fault, Refusal, State, Verb};

/// What the decisions here depend on. Start from [`Facts::new`] and set what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its provision state.
    pub state: State,
    /// Its `target_provision_state`.
    pub target: Option<State>,
    /// It is in maintenance.
    pub maintenance: bool,
    /// Its instance may not be taken away.
    pub protected: bool,
    /// It is not to become available again.
    pub retired: bool,
    /// `[conductor] allow_provisioning_in_maintenance`.
    pub allow_provisioning_in_maintenance: bool,
    /// Whether the running step may be interrupted; `None` when no step runs.
    pub step_abortable: Option<bool>,
    /// Whether its inspect interface can stop an inspection.
    pub inspection_abortable: bool,
}

impl Facts {
    /// A node in `state`, heading where that state heads by default, with nothing special about it.
    #[must_use]
    pub const fn new(state: State) -> Facts {
        Facts {
            state,
            target: state.default_target(),
            maintenance: false,
            protected: false,
            retired: false,
            allow_provisioning_in_maintenance: true,
            step_abortable: None,
            inspection_abortable: true,
        }
    }

    /// Whether [`request`] would grant the verb now.
    #[must_use]
    pub fn allows(&self, verb: Verb) -> bool {
        request(self, verb).is_ok()
    }
}

/// What happens to the inspection's time stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectionMark {
    /// `inspection_started_at` := now, `inspection_finished_at` := null.
    Started,
    /// `inspection_finished_at` := now, `inspection_started_at` := null.
    Finished,
    /// `inspection_started_at` := null.
    Stopped,
}

/// What is to be written in one commit, and what to start after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The state before.
    pub from: State,
    /// What happened.
    pub event: Event,
    /// The state to store; `from` again where only `marks_abort_after` is to be stored.
    pub to: State,
    /// The `target_provision_state` to store; `None` exactly when `to` is stable.
    pub target: Option<State>,
    /// What to start after the commit.
    pub work: Work,
    /// `last_error` := null, unless the caller has a new text.
    pub clears_last_error: bool,
    /// Only `abort_after` of the running step is to be set: the abort happens when the step ends, by
    /// [`abort_after_step`].
    pub marks_abort_after: bool,
    /// The agent's address and secrets are to be forgotten.
    pub wipes_agent: bool,
    /// The running step and the step list are over and to be forgotten.
    pub clears_steps: bool,
    /// What belonged to the instance is to be forgotten (states.md §4).
    pub clears_instance: bool,
    /// `power_state` := null: nobody knows it any more.
    pub clears_power: bool,
    /// Maintenance := true with this fault; `maintenance_reason` := the error, if it was empty.
    pub fault: Option<Fault>,
    /// What happens to the inspection's time stamps.
    pub inspection: Option<InspectionMark>,
}

impl Outcome {
    /// Whether the provision state changes: `provision_updated_at` is refreshed and the change told.
    #[must_use]
    pub fn changes_state(&self) -> bool {
        !self.marks_abort_after
    }
}

/// What `event` does to the node: the row of the table and the target that follows from it.
/// Errors: [`Refusal::NotAllowed`].
pub fn transition(facts: &Facts, event: Event) -> Result<Outcome, Refusal> {
    transition_to(facts, event, None)
}

/// As [`transition`], with a target other than the one that follows by itself. A stable state has no target,
/// whatever is asked.
pub fn transition_to(facts: &Facts, event: Event, target: Option<State>) -> Result<Outcome, Refusal> {
    match row(facts.state, event) {
        Some(row) => Ok(outcome(facts, row, target)),
        None => Err(Refusal::NotAllowed { event, verb: None, state: facts.state }),
    }
}

fn outcome(facts: &Facts, row: &Row, wanted: Option<State>) -> Outcome {
    let to = row.to;
    let ends = to.is_stable() || to.is_failed();
    Outcome {
        from: row.from,
        event: row.on,
        to,
        target: if to.is_stable() { None } else { wanted.or_else(|| target(facts, row)) },
        work: row.work,
        clears_last_error: row.work.begins(),
        marks_abort_after: false,
        wipes_agent: wipes_agent(row),
        clears_steps: ends || row.work.begins(),
        clears_instance: row.from == State::Deleting,
        clears_power: to == State::AdoptFailed,
        fault: fault(facts, row),
        inspection: inspection(row),
    }
}

fn inspection(row: &Row) -> Option<InspectionMark> {
    if row.work == Work::Inspect {
        Some(InspectionMark::Started)
    } else if row.on == Event::Done && row.from.activity() == Some(Activity::Inspect) {
        Some(InspectionMark::Finished)
    } else if row.to == State::InspectFailed && row.from.activity() == Some(Activity::Inspect) {
        Some(InspectionMark::Stopped)
    } else {
        None
    }
}

/// Where the ramdisk's part is over. The abort of a service still needs the agent's address, to learn whether the
/// node has to be powered off; that power-off then forgets it.
fn wipes_agent(row: &Row) -> bool {
    let gives_up = matches!(row.on, Event::Fail | Event::Abort) && row.work != Work::AbortService;
    row.on == Event::Delete || gives_up
}

/// A cleaning keeps its target from beginning to end: `manageable` when the operator asked for it, `available`
/// when it follows a tear-down or `provide`. Every other kind of work has one target.
fn target(facts: &Facts, row: &Row) -> Option<State> {
    if row.from == State::Manageable && row.on == Event::Clean {
        return Some(State::Manageable);
    }
    let cleaning = Some(Activity::Clean);
    if row.from.activity() == cleaning && row.to.activity() == cleaning {
        return facts.target.or_else(|| row.to.default_target());
    }
    row.to.default_target()
}

/// A step that fails in a cleaning or a service leaves the hardware in doubt. Failing before the first step
/// began, or being aborted, does not.
fn fault(facts: &Facts, row: &Row) -> Option<Fault> {
    if row.on != Event::Fail || facts.step_abortable.is_none() {
        return None;
    }
    match row.from.activity()? {
        Activity::Clean => Some(Fault::CleanFailure),
        Activity::Service => Some(Fault::ServiceFailure),
        Activity::Verify | Activity::Deploy | Activity::TearDown | Activity::Inspect => None,
        Activity::Adopt | Activity::Rescue | Activity::Unrescue => None,
    }
}

/// What a client's verb does to the node: the policy, then the transition. The microversion gates
/// ([`Verb::gate_before`], [`Verb::gate_after`]) and whatever needs the request's body are the caller's.
/// Errors: the first [`Refusal`] in Ironic's own order.
pub fn request(facts: &Facts, verb: Verb) -> Result<Outcome, Refusal> {
    use Verb as V;
    // Before the state is looked at (states.md §2, "Extra checks").
    if facts.maintenance && matches!(verb, V::Active | V::Deploy | V::Rebuild) {
        return Err(Refusal::InMaintenance { verb });
    }
    let event = verb.event();
    let Some(found) = verb.row_in(facts.state) else {
        return Err(Refusal::NotAllowed { event, verb: Some(verb), state: facts.state });
    };
    match verb {
        V::Active | V::Deploy | V::Manage | V::Inspect | V::Adopt | V::Unhold => {}
        V::Rebuild | V::Deleted | V::Undeploy if facts.protected => return Err(Refusal::Protected { verb }),
        V::Rebuild | V::Deleted | V::Undeploy => {}
        V::Provide if facts.retired => return Err(Refusal::Retired),
        V::Provide if facts.maintenance && !facts.allow_provisioning_in_maintenance => {
            return Err(Refusal::InMaintenance { verb });
        }
        V::Provide => {}
        V::Clean | V::Rescue | V::Unrescue | V::Service if facts.maintenance => {
            return Err(Refusal::InMaintenance { verb });
        }
        V::Clean | V::Rescue | V::Unrescue | V::Service => {}
        V::Abort => return abort(facts, found),
    }
    Ok(outcome(facts, found, None))
}

/// The abort rules of states.md §3.
fn abort(facts: &Facts, found: &Row) -> Result<Outcome, Refusal> {
    if facts.state == State::InspectWait && !facts.inspection_abortable {
        return Err(Refusal::InspectionNotAbortable);
    }
    if facts.state == State::ServiceFailed && facts.maintenance {
        return Err(Refusal::AbortInMaintenance);
    }
    // `deploy hold` and `rescue wait` abort at once, and a failed service has no step any more.
    let asks_the_step = matches!(
        facts.state,
        State::CleanWait | State::CleanHold | State::DeployWait | State::ServiceWait | State::ServiceHold
    );
    if asks_the_step && facts.step_abortable == Some(false) {
        return Ok(after_this_step(facts));
    }
    Ok(abort_now(facts, found))
}

/// The abort that was asked for while a step ran that must not be interrupted, and that has ended now.
/// Errors: [`Refusal::NotAllowed`] where the state knows no abort.
pub fn abort_after_step(facts: &Facts) -> Result<Outcome, Refusal> {
    match row(facts.state, Event::Abort) {
        Some(found) => Ok(abort_now(facts, found)),
        None => Err(Refusal::NotAllowed { event: Event::Abort, verb: None, state: facts.state }),
    }
}

/// A service that is aborted passes through `service failed` and ends in `active`, in one commit; every other
/// abort is one row. `from` and `event` stay what they were, so that the commit and its history show one abort.
fn abort_now(facts: &Facts, found: &Row) -> Outcome {
    let first = outcome(facts, found, None);
    if first.to != State::ServiceFailed {
        return first;
    }
    let failed = Facts { state: first.to, target: first.target, ..*facts };
    let second = row(failed.state, Event::Abort).expect("TABLE has service failed, abort");
    Outcome { from: facts.state, ..outcome(&failed, second, None) }
}

fn after_this_step(facts: &Facts) -> Outcome {
    Outcome {
        from: facts.state,
        event: Event::Abort,
        to: facts.state,
        target: facts.target,
        work: Work::None,
        clears_last_error: false,
        marks_abort_after: true,
        wipes_agent: false,
        clears_steps: false,
        clears_instance: false,
        clears_power: false,
        fault: None,
        inspection: None,
    }
}

/// The verbs that [`request`] would grant now, aliases left out.
#[must_use]
pub fn allowed_verbs(facts: &Facts) -> Vec<Verb> {
    let canonical = Verb::ALL.iter().copied().filter(|verb| verb.canonical() == *verb);
    canonical.filter(|verb| facts.allows(*verb)).collect()
}

/// The event that ends a cleaning whose steps are all done (states.md §4): back to `manageable` when the operator
/// asked for the cleaning or the node is retired, on to `available` otherwise.
#[must_use]
pub fn end_of_cleaning(facts: &Facts) -> Event {
    if facts.retired || facts.target == Some(State::Manageable) { Event::Manage } else { Event::Done }
}
