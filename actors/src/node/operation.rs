//! A piece of work and its steps: what is in the journal, in the words of the actor.
//!
//! Deploying, cleaning, tearing down, inspecting, rescuing, adopting, servicing, verifying and the cleaning-up after a
//! failure are all the same here: a list of steps. What the steps are and do is `drivers::flow`'s; how they are run is
//! beside, in `work`.

use ferric_drivers::interface::{RamdiskPurpose, Resume, Step};
use ferric_machine::{Activity, Event, Facts, Timestamp, end_of_cleaning};
use ferric_schema::journal::{NewStep, StepKey, StepRow, StepState};
use ferric_schema::{JsonText, Node};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Change;
use crate::places::Place;
use crate::view;

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The work of the state that the node is in; its end moves the node on.
    Work(Activity),
    /// Tidying up after work that did not come to its end; it moves nothing.
    CleanUp(Activity),
}

impl Purpose {
    pub(super) fn word(self) -> String {
        match self {
            Purpose::Work(activity) => activity.as_str().to_owned(),
            Purpose::CleanUp(activity) => format!("{AFTER}{activity}"),
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Purpose> {
        match word.strip_prefix(AFTER) {
            Some(of) => of.parse().ok().map(Purpose::CleanUp),
            None => word.parse().ok().map(Purpose::Work),
        }
    }

    /// The work that it is, or was.
    pub(crate) fn activity(self) -> Activity {
        match self {
            Purpose::Work(activity) | Purpose::CleanUp(activity) => activity,
        }
    }
}

const AFTER: &str = "clean up after ";
const RERUN: &str = "rerun";
const REATTACH: &str = "reattach";

/// Work under way. Its truth is the journal; this is the actor's copy.
pub(crate) struct Operation {
    pub(super) id: Uuid,
    pub(super) node: Uuid,
    pub(super) purpose: Purpose,
    pub(super) steps: Vec<Step>,
    /// The step that runs or waits; `None` until there is a place for the operation.
    pub(super) at: Option<usize>,
    pub(super) checkpoint: Option<String>,
    /// A task works on the step at this moment.
    pub(super) in_flight: bool,
    /// A heartbeat came while a look was under way.
    pub(super) look_again: bool,
    /// The operator asked for an abort during a step that may not be interrupted.
    pub(super) abort_after: bool,
    pub(super) since: Timestamp,
    pub(super) place: Option<Place>,
    /// The row as it was when the running step began: what it found is compared with that.
    pub(super) before: Option<Box<Node>>,
}

impl Operation {
    pub(super) fn new(node: Uuid, purpose: Purpose, steps: Vec<Step>) -> Operation {
        Operation {
            id: Uuid::new_v4(),
            node,
            purpose,
            steps,
            at: None,
            checkpoint: None,
            in_flight: false,
            look_again: false,
            abort_after: false,
            since: Timestamp::default(),
            place: None,
            before: None,
        }
    }

    /// From the journal, after a restart. `None` when it holds nothing open.
    pub(super) fn from_rows(rows: &[StepRow], node: Uuid) -> Option<Operation> {
        let open =
            rows.iter().position(|row| matches!(row.state, StepState::Running | StepState::Pending))?;
        let steps = rows
            .iter()
            .map(|row| Step {
                interface: row.interface.clone(),
                step: row.step.clone(),
                priority: row.priority,
                abortable: row.abortable,
                resume: if row.resume == REATTACH { Resume::Reattach } else { Resume::Rerun },
                source: row.source.parse().unwrap_or(ferric_drivers::interface::StepSource::Interface),
                args: row.args.parse(),
                argsinfo: row.argsinfo.parse(),
                requires_ramdisk: row.requires_ramdisk,
            })
            .collect();
        let mut operation = Operation::new(node, Purpose::from_word(&rows[open].kind)?, steps);
        operation.id = rows[open].op;
        if rows[open].state == StepState::Running {
            operation.at = Some(open);
            operation.checkpoint.clone_from(&rows[open].checkpoint);
            operation.since = rows[open].started_at.unwrap_or_default();
        }
        Some(operation)
    }

    pub(super) fn rows(&self, from: usize) -> Vec<NewStep> {
        (0..)
            .zip(&self.steps)
            .skip(from)
            .map(|(idx, step)| NewStep {
                node_uuid: self.node,
                op: self.id,
                kind: self.purpose.word(),
                idx,
                interface: step.interface.clone(),
                step: step.step.clone(),
                priority: step.priority,
                abortable: step.abortable,
                args: JsonText::from(step.args.clone()),
                resume: match step.resume {
                    Resume::Rerun => RERUN,
                    Resume::Reattach => REATTACH,
                }
                .into(),
                source: step.source.as_str().into(),
                argsinfo: JsonText::from(step.argsinfo.clone()),
                requires_ramdisk: step.requires_ramdisk,
            })
            .collect()
    }

    pub(super) fn current(&self) -> Option<&Step> {
        self.at.map(|at| &self.steps[at])
    }

    /// Whether the running step may be interrupted; `None` when no step runs that clients know of.
    pub(super) fn abortable(&self) -> Option<bool> {
        match self.purpose {
            Purpose::Work(_) => self.current().filter(|step| step.is_shown()).map(|step| step.abortable),
            Purpose::CleanUp(_) => None,
        }
    }

    /// `interface.step` of the running step, if clients know of it.
    pub(super) fn shown_name(&self) -> Option<String> {
        self.current().filter(|step| step.is_shown()).map(name)
    }

    /// `interface.step` of the running step.
    pub(super) fn name(&self) -> Option<String> {
        self.current().map(name)
    }

    /// The step that waits for something from outside, and the place after it.
    pub(super) fn waiting_step(&self) -> Option<Waiting> {
        // a look that is under way is overtaken; an order that is under way has not begun to wait
        let at = self.at.filter(|_| !self.in_flight || self.checkpoint.is_some())?;
        let next = i32::try_from(at + 1).expect("an operation has few steps");
        Some(Waiting { operation: self.id, ended: self.key(at), next })
    }

    /// The row of a step put in after the present one, instead of those that were planned there.
    pub(super) fn rows_with(&self, step: Step) -> (Vec<NewStep>, StepKey) {
        let from = self.at.map_or(0, |at| at + 1);
        let mut changed = Operation::new(self.node, self.purpose, self.steps[..from].to_vec());
        changed.id = self.id;
        changed.steps.push(step);
        (changed.rows(from), self.key(from))
    }

    pub(super) fn key(&self, at: usize) -> StepKey {
        StepKey::At { op: self.id, idx: i32::try_from(at).expect("an operation has few steps") }
    }
}

/// A step that waits.
pub(super) struct Waiting {
    pub(super) operation: Uuid,
    pub(super) ended: StepKey,
    /// The place after it.
    pub(super) next: i32,
}

pub(super) fn name(step: &Step) -> String {
    // the reserved steps have no interface
    if step.interface.is_empty() { step.step.clone() } else { format!("{}.{}", step.interface, step.step) }
}

/// The node's `*_step` field while `step` runs; empty between the steps and for other kinds of work.
pub(super) fn set_step_field(change: &mut Change, activity: Activity, step: Option<&Step>) {
    let shown = step.filter(|step| step.is_shown()).map(|step| {
        let Value::Object(mut map) = json!({
            "interface": step.interface, "step": step.step, "priority": step.priority,
            "abortable": step.abortable, "argsinfo": null, "requires_ramdisk": step.requires_ramdisk,
        }) else {
            unreachable!("written as an object")
        };
        if !step.argsinfo.is_empty() {
            map.insert("argsinfo".into(), Value::Object(step.argsinfo.clone()));
        }
        if !step.args.is_empty() {
            map.insert("args".into(), Value::Object(view::masked(step.args.clone())));
        }
        JsonText::from(map)
    });
    let node = &mut change.node;
    let field = match activity {
        Activity::Deploy => &mut node.deploy_step,
        Activity::Clean => &mut node.clean_step,
        Activity::Service => &mut node.service_step,
        Activity::Verify
        | Activity::TearDown
        | Activity::Inspect
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue => return,
    };
    *field = shown.unwrap_or_default();
}

/// For which work the ramdisk is up that the node waits for.
pub(super) fn ramdisk_of(activity: Activity) -> Option<RamdiskPurpose> {
    match activity {
        Activity::Deploy => Some(RamdiskPurpose::Deploy),
        Activity::Clean => Some(RamdiskPurpose::Clean),
        Activity::Inspect => Some(RamdiskPurpose::Inspect),
        Activity::Rescue => Some(RamdiskPurpose::Rescue),
        Activity::Service => Some(RamdiskPurpose::Service),
        Activity::Verify | Activity::TearDown | Activity::Adopt | Activity::Unrescue => None,
    }
}

/// The event that ends work whose steps are all done; a clean-up moves nothing.
pub(super) fn purpose_end(purpose: Purpose, facts: &Facts) -> Option<Event> {
    match purpose {
        Purpose::Work(Activity::Clean) => Some(end_of_cleaning(facts)),
        Purpose::Work(Activity::TearDown) => Some(Event::Clean),
        Purpose::Work(
            Activity::Verify
            | Activity::Deploy
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service,
        ) => Some(Event::Done),
        Purpose::CleanUp(_) => None,
    }
}

/// `last_error` of work that could not even begin.
pub(super) fn cannot_begin(purpose: Purpose, node: Uuid, why: String) -> String {
    match purpose.activity() {
        activity @ (Activity::Verify | Activity::TearDown | Activity::Adopt | Activity::Inspect) => {
            failed_text(activity, node, "", &why)
        }
        Activity::Deploy | Activity::Clean | Activity::Rescue | Activity::Unrescue | Activity::Service => why,
    }
}

/// `last_error` of work that failed in a step.
pub(super) fn failed_text(activity: Activity, node: Uuid, step: &str, why: &str) -> String {
    match activity {
        Activity::Verify => format!("Failed to get power state for node {node}. Error: {why}"),
        Activity::TearDown => format!("Failed to tear down: {why}"),
        // what the hooks and rules say begins so already
        Activity::Inspect if why.starts_with("Failed to inspect hardware") => why.to_owned(),
        Activity::Inspect => format!("Failed to inspect hardware. Reason: {why}"),
        Activity::Adopt => format!("Adoption of node {node} failed: {why}"),
        Activity::Deploy => format!("Failed to deploy. Step {step}: {why}"),
        Activity::Clean => format!("Failed to clean node {node}. Step {step}: {why}"),
        Activity::Rescue => format!("Failed to rescue: {why}"),
        Activity::Unrescue => format!("Failed to unrescue: {why}"),
        Activity::Service => format!("Failed to service node {node}. Step {step}: {why}"),
    }
}
