//! From what was asked for to the steps that run: looked up, arguments checked, priorities changed.

use ferric_machine::steps::Reserved;
use ferric_machine::{Activity, StepKind, steps};
use serde_json::{Value, json};

use super::{Asked, Order};
use crate::error::DriverError;
use crate::interface::{Json, Kind, NodeView, Result, Step, StepSource};
use crate::registry::Bound;

/// Argument of a reserved step: it is for the node's children.
pub(super) const ON_CHILDREN: &str = "execute_on_child_nodes";
/// Argument of a reserved step: only for these children.
pub(super) const ONLY_CHILDREN: &str = "limit_child_node_execution";

/// The node field or request body that the steps of this work come from, for error texts.
pub(super) const fn section(activity: Activity) -> &'static str {
    match activity {
        Activity::Clean => "clean_steps",
        Activity::Deploy => "deploy_steps",
        Activity::Service => "service_steps",
        Activity::Verify
        | Activity::TearDown
        | Activity::Inspect
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue => "steps",
    }
}

/// What the node's interfaces can do for this work by themselves.
pub(super) fn out_of_band(node: &NodeView, bound: &Bound, activity: Activity) -> Vec<Step> {
    let of = |kind| bound.steps_of(kind).map(|steps| steps.steps(node, activity)).unwrap_or_default();
    Kind::ALL.into_iter().flat_map(of).collect()
}

/// Whether the work boots a ramdisk: unless it is asked not to, there is nobody to boot, or nothing in the list
/// needs one.
pub(super) fn boots_ramdisk(node: &NodeView, bound: &Bound, order: &Order) -> bool {
    if order.disable_ramdisk || !bound.deploy.uses_agent(node, order.activity) {
        return false;
    }
    let known = out_of_band(node, bound, order.activity);
    order.automated || !order.steps.iter().all(|asked| goes_without(asked, &known))
}

fn goes_without(asked: &Asked, known: &[Step]) -> bool {
    match reserved(asked) {
        Some(Reserved::PowerOn | Reserved::PowerOff | Reserved::Reboot) => true,
        Some(Reserved::Wait) => asked.args.contains_key("seconds"),
        // who holds wants to look at something: the ramdisk is up by then
        Some(Reserved::Hold) => false,
        None => find(asked, known).is_some_and(|step| !step.requires_ramdisk),
    }
}

pub(super) fn reserved(asked: &Asked) -> Option<Reserved> {
    asked.step.parse().ok()
}

pub(super) fn find<'a>(asked: &Asked, known: &'a [Step]) -> Option<&'a Step> {
    known.iter().find(|step| step.interface == asked.interface && step.step == asked.step)
}

/// Checks a list as far as it is known without the agent.
pub(super) fn check(node: &NodeView, bound: &Bound, order: &Order) -> Result<()> {
    let known = out_of_band(node, bound, order.activity);
    let ramdisk = match order.activity {
        Activity::Deploy => bound.deploy.uses_agent(node, Activity::Deploy),
        Activity::Clean
        | Activity::Service
        | Activity::Verify
        | Activity::TearDown
        | Activity::Inspect
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue => boots_ramdisk(node, bound, order),
    };
    for asked in &order.steps {
        if reserved(asked).is_some() {
            let step = build_reserved(asked, order.activity)?;
            if step.requires_ramdisk && !ramdisk {
                return Err(refuse(order.activity, asked, "without a ramdisk it needs args.seconds".into()));
            }
            continue;
        }
        match find(asked, &known) {
            Some(step) => {
                build(asked, step, order.activity)?;
                if step.requires_ramdisk && order.disable_ramdisk {
                    let why = "it needs a ramdisk, and disable_ramdisk was asked for".to_owned();
                    return Err(refuse(order.activity, asked, why));
                }
                let kind: Option<Kind> = step.interface.parse().ok();
                if let Some(interface) = kind.and_then(|kind| bound.steps_of(kind)) {
                    interface.validate_for(node, order.activity)?;
                }
            }
            None if ramdisk => {
                if asked.interface.parse::<Kind>().is_err() {
                    let why = format!("'{}' is not an interface", asked.interface);
                    return Err(refuse(order.activity, asked, why));
                }
                no_children(asked, order.activity)?;
            }
            None => return Err(unknown(asked, &known, order.activity)),
        }
    }
    Ok(())
}

pub(super) fn refuse(activity: Activity, asked: &Asked, reason: String) -> DriverError {
    let key = match asked.interface.as_str() {
        "" => asked.step.clone(),
        interface => format!("{interface}.{}", asked.step),
    };
    DriverError::Invalid { section: section(activity), key, reason }
}

pub(super) fn unknown(asked: &Asked, known: &[Step], activity: Activity) -> DriverError {
    let mut names: Vec<String> =
        known.iter().map(|step| format!("{}.{}", step.interface, step.step)).collect();
    names.sort();
    names.dedup();
    let there = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
    refuse(activity, asked, format!("the node has no such step; its steps for this work: {there}"))
}

fn no_children(asked: &Asked, activity: Activity) -> Result<()> {
    if asked.execute_on_child_nodes {
        let why = "only power_on, power_off and reboot can be run on child nodes".to_owned();
        return Err(refuse(activity, asked, why));
    }
    Ok(())
}

/// A step of an interface or of the agent, with the arguments that were asked for.
pub(super) fn build(asked: &Asked, known: &Step, activity: Activity) -> Result<Step> {
    no_children(asked, activity)?;
    check_args(asked, &known.argsinfo, activity)?;
    let priority = asked.priority.unwrap_or(known.priority);
    Ok(Step { args: asked.args.clone(), priority, ..known.clone() })
}

/// Unknown arguments and missing required ones are refused; the values are the step's own business.
fn check_args(asked: &Asked, argsinfo: &Json, activity: Activity) -> Result<()> {
    for name in asked.args.keys() {
        if !argsinfo.contains_key(name) {
            let all: Vec<&str> = argsinfo.keys().map(String::as_str).collect();
            let takes = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            return Err(refuse(activity, asked, format!("unknown argument '{name}'; it takes: {takes}")));
        }
    }
    for (name, info) in argsinfo {
        let required = info.get("required").and_then(Value::as_bool).unwrap_or(false);
        if required && asked.args.get(name).is_none_or(Value::is_null) {
            return Err(refuse(activity, asked, format!("the argument '{name}' is required")));
        }
    }
    Ok(())
}

/// One of the steps that the conductor runs itself.
pub(super) fn build_reserved(asked: &Asked, activity: Activity) -> Result<Step> {
    let what = reserved(asked).expect("callers look whether the name is reserved");
    let takes = |seconds: bool| {
        let odd = asked.args.keys().find(|name| !(seconds && name.as_str() == "seconds"));
        odd.map_or(Ok(()), |name| Err(refuse(activity, asked, format!("unknown argument '{name}'"))))
    };
    let mut step = Step::conductor(asked.step.clone());
    step.interface.clone_from(&asked.interface);
    step.priority = asked.priority.unwrap_or(0);
    step.args = asked.args.clone();
    match what {
        Reserved::Hold => {
            takes(false)?;
            no_children(asked, activity)?;
            step.abortable = true;
        }
        Reserved::Wait => {
            takes(true)?;
            no_children(asked, activity)?;
            step.abortable = true;
            match asked.args.get("seconds") {
                // the next call of the agent ends it
                None => step.requires_ramdisk = true,
                Some(seconds) if seconds.as_u64().is_some() => {}
                Some(_) => {
                    return Err(refuse(activity, asked, "seconds must be a number, 0 or more".into()));
                }
            }
        }
        Reserved::PowerOn | Reserved::PowerOff | Reserved::Reboot => {
            takes(false)?;
            if asked.execute_on_child_nodes {
                step.args.insert(ON_CHILDREN.into(), Value::Bool(true));
                if !asked.limit_child_node_execution.is_empty() {
                    step.args.insert(ONLY_CHILDREN.into(), json!(asked.limit_child_node_execution));
                }
            }
        }
    }
    Ok(step)
}

/// The operator's list in its order (manual cleaning, service). Of equal steps the later ones get a priority of their
/// own, so that the agent's echo tells them apart.
pub(super) fn in_order(asked: &[Asked], known: &[Step], activity: Activity) -> Result<Vec<Step>> {
    let mut all: Vec<Step> = Vec::new();
    for one in asked {
        if reserved(one).is_some() {
            all.push(build_reserved(one, activity)?);
            continue;
        }
        let step = find(one, known).ok_or_else(|| unknown(one, known, activity))?;
        let mut step = build(one, step, activity)?;
        let same = |other: &&Step| {
            other.interface == step.interface && other.step == step.step && other.args == step.args
        };
        step.priority = i32::try_from(all.iter().filter(same).count()).unwrap_or(i32::MAX);
        all.push(step);
    }
    Ok(all)
}

/// Deploy steps: those of the interfaces and the agent, changed and added to by templates and deploy_steps (a later
/// one with the same interface and name counts), by priority. With it what could not be found.
pub(super) fn by_priority(
    asked: &[Asked],
    mut known: Vec<Step>,
    activity: Activity,
) -> Result<(Vec<Step>, Vec<Asked>)> {
    let mut missing = Vec::new();
    let mut reserved_ones = Vec::new();
    for one in asked {
        if reserved(one).is_some() {
            reserved_ones.push(build_reserved(one, activity)?);
            continue;
        }
        let same = |step: &&mut Step| step.interface == one.interface && step.step == one.step;
        match known.iter_mut().find(same) {
            Some(step) => *step = build(one, step, activity)?,
            None => missing.push(one.clone()),
        }
    }
    known.extend(reserved_ones);
    Ok((steps::plan(known, StepKind::Deploy), missing))
}

/// What the interfaces have, and what the agent has besides. Where both have a step, the interface's own counts: it
/// drives the agent itself.
pub(super) fn joined(mut known: Vec<Step>, offered: Vec<Step>) -> Vec<Step> {
    for step in offered {
        if !known.iter().any(|one| one.interface == step.interface && one.step == step.step) {
            known.push(step);
        }
    }
    known
}

/// Priorities as configured (`interface.step` → priority).
pub(super) fn override_priorities(steps: &mut [Step], priorities: &std::collections::BTreeMap<String, i32>) {
    for step in steps {
        if let Some(priority) = priorities.get(&format!("{}.{}", step.interface, step.step)) {
            step.priority = *priority;
        }
    }
}

/// A ramdisk that a step took away (power, a reboot that the agent asked for) is booted again before the next step
/// that needs it.
pub(super) fn with_reboots(steps: Vec<Step>, reboot_after: &[(String, String)]) -> Vec<Step> {
    let mut all = Vec::new();
    let mut gone = false;
    for step in steps {
        if gone && step.requires_ramdisk {
            all.push(super::boot_ramdisk());
            gone = false;
        }
        let power = step.source == StepSource::Conductor
            && !step.args.contains_key(ON_CHILDREN)
            && matches!(step.step.parse(), Ok(Reserved::PowerOn | Reserved::PowerOff | Reserved::Reboot));
        let asks = step.source == StepSource::Agent
            && reboot_after
                .iter()
                .any(|(interface, name)| *interface == step.interface && *name == step.step);
        gone = gone || power || asks;
        all.push(step);
    }
    all
}
