//! The hidden step that asks the agent what it can do and makes the list of the steps that follow.

use ferric_machine::{Activity, StepKind, steps};
use serde_json::{Value, json};

use super::resolve::{
    by_priority, in_order, joined, out_of_band, override_priorities, unknown, with_reboots,
};
use super::{Asked, FlowSettings, now, plan, waiting};
use crate::agent_steps::VERSION;
use crate::interface::{AgentOffer, Found, Json, RAMDISK_CALLED, Result, Step, StepContext, StepOutcome};

pub(super) async fn run(settings: &FlowSettings, context: &StepContext) -> Result<StepOutcome> {
    let flag = |key: &str| context.step.args.get(key).and_then(Value::as_bool).unwrap_or(false);
    let ramdisk = flag("ramdisk");
    // a ramdisk that has no agent offers nothing
    let mute = context.agent.is_none() && context.node.driver_internal_info.contains_key(RAMDISK_CALLED);
    let speaker = context.bound.agent_steps.as_ref().filter(|_| ramdisk && !mute);
    let offer = if let Some(speaker) = speaker {
        if context.agent.is_none() {
            return Ok(waiting("waiting for the ramdisk"));
        }
        match speaker.offer(context).await {
            Ok(offer) => offer,
            // asked again at the next look, until the deadline
            Err(error) if error.is_transient() => return Ok(waiting("asking the agent for its steps")),
            Err(error) => return Err(error),
        }
    } else {
        AgentOffer::default()
    };
    let mut found = Found { keep: cached(context.activity, &offer, ramdisk), ..Found::default() };
    let next = list(settings, context, offer, flag("automated"))?;
    if let Some(key) = plan_key(context.activity) {
        let shown = next.iter().filter(|step| step.is_shown()).map(described).collect();
        found.keep.insert(key.into(), Value::Array(shown));
    }
    // a clean-up asks it: where none was booted, none is to be taken down
    if flag("disable_ramdisk") || (!ramdisk && context.activity != Activity::Deploy) {
        found.keep.insert(super::conductor::disable_key(context.activity).into(), Value::Bool(true));
    }
    found.next = Some(next);
    Ok(StepOutcome::Found(Box::new(found)))
}

fn list(
    settings: &FlowSettings,
    context: &StepContext,
    offer: AgentOffer,
    automated: bool,
) -> Result<Vec<Step>> {
    let args = &context.step.args;
    let read = |key: &str| args.get(key).cloned().unwrap_or_else(|| json!([]));
    let asked: Vec<Asked> =
        serde_json::from_value(read("asked")).expect("the plan wrote this list from the same type");
    let ramdisk = args.get("ramdisk").and_then(Value::as_bool).unwrap_or(false);
    let known = out_of_band(&context.node, &context.bound, context.activity);
    let mut all = joined(known, offer.steps);
    if context.activity == Activity::Deploy {
        let (planned, missing) = by_priority(&asked, all.clone(), context.activity)?;
        if let Some(one) = missing.first() {
            return Err(unknown(one, &all, context.activity));
        }
        let mut done: Vec<(String, String)> = serde_json::from_value(read("done")).unwrap_or_default();
        let ran = |step: &Step| {
            let at =
                done.iter().position(|(interface, name)| *interface == step.interface && *name == step.step);
            at.map(|at| done.swap_remove(at)).is_some()
        };
        let mut ran = ran;
        let mut rest: Vec<Step> = planned.into_iter().filter(|step| !ran(step)).collect();
        // what comes after the agent's end needs no ramdisk any more
        let end = rest.iter().position(|step| step.step == "tear_down_agent").unwrap_or(rest.len());
        let after = rest.split_off(end);
        let mut next = if ramdisk { with_reboots(rest, &offer.reboot_after) } else { rest };
        next.extend(after);
        return Ok(next);
    }
    let mut next = if automated {
        override_priorities(&mut all, &settings.clean_priorities);
        steps::plan(all, StepKind::Clean)
    } else {
        in_order(&asked, &all, context.activity)?
    };
    if ramdisk {
        next = with_reboots(next, &offer.reboot_after);
        next.push(plan::finish(context.activity));
    }
    Ok(next)
}

/// What the agent said, under the names that clients of Ironic know.
fn cached(activity: Activity, offer: &AgentOffer, ramdisk: bool) -> Json {
    let mut keep = Json::new();
    if !ramdisk {
        return keep;
    }
    let mut by_interface = Json::new();
    for step in &offer.steps {
        let list = by_interface.entry(step.interface.clone()).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(described(step));
        }
    }
    keep.insert(format!("agent_cached_{activity}_steps"), Value::Object(by_interface));
    keep.insert(format!("agent_cached_{activity}_steps_refreshed"), Value::String(now()));
    keep.insert(VERSION.into(), Value::Object(offer.version.clone()));
    keep
}

/// Where clients find the list of what is being done.
const fn plan_key(activity: Activity) -> Option<&'static str> {
    match activity {
        Activity::Clean => Some("clean_steps"),
        Activity::Deploy => Some("deploy_steps"),
        Activity::Service => Some("service_steps"),
        Activity::Verify
        | Activity::TearDown
        | Activity::Inspect
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue => None,
    }
}

fn described(step: &Step) -> Value {
    let mut shown = json!({
        "interface": step.interface,
        "step": step.step,
        "priority": step.priority,
        "abortable": step.abortable,
        "argsinfo": if step.argsinfo.is_empty() { Value::Null } else { Value::Object(step.argsinfo.clone()) },
        "requires_ramdisk": step.requires_ramdisk,
    });
    if !step.args.is_empty() {
        shown["args"] = Value::Object(step.args.clone());
    }
    shown
}
