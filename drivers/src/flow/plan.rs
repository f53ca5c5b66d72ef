//! Which steps, in which order.

use ferric_machine::{Activity, StepKind, steps};
use serde_json::json;

use super::resolve::{boots_ramdisk, by_priority, check, out_of_band, override_priorities};
use super::{FlowSettings, Order};
use crate::error::DriverError;
use crate::interface::{Kind, NodeView, RamdiskPurpose, Result, Step};
use crate::registry::Bound;

pub(super) fn validate(node: &NodeView, bound: &Bound, order: &Order) -> Result<()> {
    bound.power.validate(node)?;
    match order.activity {
        Activity::Deploy => {
            // without an agent no ramdisk is booted; what an instance boots from is the deploy interface's to check
            if bound.deploy.uses_agent(node, Activity::Deploy) {
                bound.boot.validate(node)?;
            }
            bound.deploy.validate(node)?;
            check(node, bound, order)
        }
        Activity::Clean if order.automated => Ok(()),
        Activity::Clean | Activity::Service => {
            if order.steps.is_empty() {
                return Err(DriverError::Missing {
                    section: "the request",
                    key: super::resolve::section(order.activity).into(),
                    remedy: "name at least one step".into(),
                });
            }
            check(node, bound, order)
        }
        Activity::Inspect => {
            offered(node, bound, Kind::Inspect, order.activity)?;
            if bound.steps_of(Kind::Inspect).is_some_and(|steps| steps.requires_boot()) {
                bound.boot.validate(node)?;
            }
            Ok(())
        }
        Activity::Rescue => {
            offered(node, bound, Kind::Rescue, order.activity)?;
            if bound.names.get(&Kind::Rescue).is_some_and(|name| name == "agent") {
                bound.boot.validate_ramdisk(node, RamdiskPurpose::Rescue)?;
            }
            Ok(())
        }
        Activity::Unrescue => offered(node, bound, Kind::Rescue, order.activity),
        Activity::Verify | Activity::TearDown | Activity::Adopt => Ok(()),
    }
}

/// The interface of this kind does this work, and has what it needs.
fn offered(node: &NodeView, bound: &Bound, kind: Kind, activity: Activity) -> Result<()> {
    let steps = bound.steps_of(kind).ok_or_else(|| DriverError::Unsupported {
        interface: bound.names.get(&kind).cloned().unwrap_or_else(|| kind.as_str().to_owned()),
        what: format!(
            "{activity} (disabled or not implemented); give the node another {}_interface, such as agent",
            kind.as_str()
        ),
    })?;
    steps.validate_for(node, activity)
}

pub(super) fn plan(settings: &FlowSettings, node: &NodeView, bound: &Bound, order: &Order) -> Vec<Step> {
    let of =
        |kind: Kind| bound.steps_of(kind).map(|steps| steps.steps(node, order.activity)).unwrap_or_default();
    match order.activity {
        Activity::Deploy => deploy(node, bound, order),
        Activity::Verify => {
            let mut own = out_of_band(node, bound, Activity::Verify);
            override_priorities(&mut own, &settings.verify_priorities);
            let mut all = vec![Step::conductor("verify_power")];
            all.extend(steps::plan(own, StepKind::Verify));
            all
        }
        Activity::TearDown => of(Kind::Deploy),
        Activity::Adopt => {
            let mut all = vec![Step::conductor("validate_boot")];
            all.extend(of(Kind::Deploy));
            all
        }
        Activity::Inspect => of(Kind::Inspect),
        Activity::Rescue | Activity::Unrescue => of(Kind::Rescue),
        Activity::Clean | Activity::Service => listed(node, bound, order),
    }
}

/// Cleaning and service: the list is made by `collect`, when the agent is there to be asked.
fn listed(node: &NodeView, bound: &Bound, order: &Order) -> Vec<Step> {
    let ramdisk = boots_ramdisk(node, bound, order);
    let mut collect = collect(ramdisk);
    collect.args.insert("asked".into(), json!(order.steps));
    collect.args.insert("automated".into(), json!(order.automated));
    collect.args.insert("disable_ramdisk".into(), json!(order.disable_ramdisk));
    if !ramdisk {
        return vec![collect];
    }
    vec![super::boot_ramdisk(), collect, finish(order.activity)]
}

/// The last part of work that booted a ramdisk.
pub(super) fn finish(activity: Activity) -> Step {
    Step::conductor(if activity == Activity::Service { "finish_service" } else { "finish_cleaning" })
}

/// The hidden step that asks the agent and makes the list of what follows.
fn collect(ramdisk: bool) -> Step {
    let mut step = Step { requires_ramdisk: ramdisk, abortable: true, ..Step::conductor("collect") };
    step.args.insert("ramdisk".into(), json!(ramdisk));
    step
}

fn deploy(node: &NodeView, bound: &Bound, order: &Order) -> Vec<Step> {
    let mut all = vec![Step::conductor("prepare")];
    let known = out_of_band(node, bound, Activity::Deploy);
    // what is wrong with an argument was refused by `validate`; should it be wrong by now, `collect` says so
    let (planned, missing) = by_priority(&order.steps, known.clone(), Activity::Deploy)
        .unwrap_or_else(|_| (steps::plan(known, StepKind::Deploy), order.steps.clone()));
    let agent = bound.deploy.uses_agent(node, Activity::Deploy);
    if !agent && missing.is_empty() {
        all.extend(planned);
        return all;
    }
    let boot = planned.iter().position(|step| step.interface == "deploy" && step.step == "deploy");
    let at = boot.map_or(0, |at| at + 1);
    let mut collect = collect(agent);
    let done: Vec<(&str, &str)> =
        planned[..at].iter().map(|step| (step.interface.as_str(), step.step.as_str())).collect();
    collect.args.insert("done".into(), json!(done));
    collect.args.insert("asked".into(), json!(order.steps));
    let (before, after) = planned.split_at(at);
    all.extend_from_slice(before);
    all.push(collect);
    all.extend_from_slice(after);
    all
}
