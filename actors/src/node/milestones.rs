//! What a node's history has of work that goes well: that its list of steps begins, and that it is through
//! (`[conductor] record_step_flows_in_history`).

use ferric_drivers::interface::{Step, StepSource};
use ferric_drivers::python::repr;
use ferric_machine::{Activity, State};
use ferric_schema::history::Severity;
use serde_json::{Value, json};

use super::operation::Operation;
use super::{Change, NodeActor};

/// Ironic's name of a list of steps; the other kinds of work have no line.
fn name(activity: Activity, target: Option<State>) -> Option<&'static str> {
    match activity {
        Activity::Deploy => Some("deployment"),
        Activity::Clean if target == Some(State::Manageable) => Some("manual_cleaning"),
        Activity::Clean => Some("automated_cleaning"),
        Activity::Service => Some("servicing"),
        Activity::Verify
        | Activity::TearDown
        | Activity::Inspect
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue => None,
    }
}

/// The steps as Ironic writes them, without their arguments, among which may be secrets.
fn written(steps: &[Step]) -> String {
    let shown = steps.iter().filter(|step| step.is_shown()).map(|step| {
        let argsinfo = if step.argsinfo.is_empty() { Value::Null } else { json!(step.argsinfo) };
        json!({
            "interface": step.interface, "step": step.step, "priority": step.priority,
            "abortable": step.abortable, "argsinfo": argsinfo, "requires_ramdisk": step.requires_ramdisk,
        })
    });
    repr(&shown.collect())
}

/// Whether the list is known now that this step is done.
fn is_listed(activity: Activity, step: &Step) -> bool {
    let last = if activity == Activity::Deploy { "prepare" } else { "collect" };
    step.source == StepSource::Conductor && step.step == last
}

impl NodeActor {
    /// The list of steps begins, if `done` was what made it.
    pub(super) fn record_begin(
        &self,
        change: &mut Change,
        activity: Activity,
        done: &Step,
        operation: &Operation,
    ) {
        let Some(name) = name(activity, self.node.target_provision_state) else { return };
        if self.world.settings.record_step_flows && is_listed(activity, done) {
            let text =
                format!("Starting {} with steps={}", name.replace('_', " "), written(&operation.steps));
            self.note(change, Severity::Info, &format!("{name}_start"), &text);
        }
    }

    /// The list of steps is through.
    pub(super) fn record_end(&self, change: &mut Change, activity: Activity, operation: &Operation) {
        let Some(name) = name(activity, self.node.target_provision_state) else { return };
        if self.world.settings.record_step_flows {
            let words = name.split('_').map(|word| {
                let (first, rest) = word.split_at(1);
                first.to_uppercase() + rest
            });
            let title = words.collect::<Vec<_>>().join(" ");
            let text = format!("{title} completed successfully with steps={}", written(&operation.steps));
            self.note(change, Severity::Info, &format!("{name}_end"), &text);
        }
    }
}
