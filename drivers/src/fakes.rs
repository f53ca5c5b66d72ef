//! Interfaces of machines that do not exist: every verb and every step succeeds at once (hardware type
//! `fake-hardware`). The steps bear the names of Ironic's.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use ferric_machine::Activity;
use serde_json::{Value, json};

use crate::error::DriverError;
use crate::interface::{
    Found, Json, Kind, NodeChange, NodeView, Result, Step, StepContext, StepOutcome, Steps,
};
use crate::rescue::{has_password, without_password};

fn unknown(context: &StepContext) -> DriverError {
    DriverError::Unsupported { interface: "fake".into(), what: format!("step {}", context.step.step) }
}

/// A step that needs nothing and is run by hand.
fn step(interface: &str, name: &str, argsinfo: Value) -> Step {
    let Value::Object(argsinfo) = argsinfo else { unreachable!("argsinfo is written as an object") };
    Step { argsinfo, ..Step::new(interface, name, 0) }
}

/// Inspecting: nothing is found.
pub struct FakeInspect;

#[async_trait]
impl Steps for FakeInspect {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::Inspect => {
                vec![Step { requires_ramdisk: false, ..Step::new("inspect", "inspect_hardware", 0) }]
            }
            Activity::Verify
            | Activity::Deploy
            | Activity::TearDown
            | Activity::Clean
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            "inspect_hardware" => Ok(StepOutcome::Done),
            _ => Err(unknown(context)),
        }
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}

/// Rescuing: there is no ramdisk to set a password in.
pub struct FakeRescue;

#[async_trait]
impl Steps for FakeRescue {
    fn validate_for(&self, node: &NodeView, activity: Activity) -> Result<()> {
        if activity == Activity::Rescue { has_password(node) } else { Ok(()) }
    }

    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        let row = |name| Step { requires_ramdisk: false, ..Step::new("rescue", name, 0) };
        match activity {
            Activity::Rescue => vec![row("rescue")],
            Activity::Unrescue => vec![row("unrescue")],
            Activity::Verify
            | Activity::Deploy
            | Activity::TearDown
            | Activity::Clean
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            "rescue" | "unrescue" => Ok(without_password(context)),
            _ => Err(unknown(context)),
        }
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        Ok(without_password(context))
    }
}

/// RAID: what is wanted is there.
pub struct FakeRaid;

#[async_trait]
impl Steps for FakeRaid {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        let flag = |what: &str| json!({"description": what, "required": false});
        let volumes = json!({
            "create_root_volume": flag("Whether the root volume is created; true if not given."),
            "create_nonroot_volumes": flag("Whether the other volumes are created; true if not given."),
        });
        match activity {
            Activity::Clean | Activity::Service => vec![
                step("raid", "create_configuration", volumes),
                step("raid", "delete_configuration", json!({})),
            ],
            Activity::Deploy => vec![step(
                "raid",
                "apply_configuration",
                json!({
                    "raid_config": {"description": "The RAID configuration to create.", "required": true},
                    "delete_existing": flag("Whether what is there is deleted first; true if not given."),
                }),
            )],
            Activity::Verify
            | Activity::TearDown
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        let made: Json = match context.step.step.as_str() {
            "create_configuration" => context.node.target_raid_config.clone(),
            "apply_configuration" => {
                context.step.args.get("raid_config").and_then(Value::as_object).cloned().unwrap_or_default()
            }
            "delete_configuration" => Json::new(),
            _ => return Err(unknown(context)),
        };
        let node = vec![NodeChange::RaidConfig(made)];
        Ok(StepOutcome::Found(Box::new(Found { node, ..Found::default() })))
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}

/// Steps of one interface that take a list of settings and do nothing with it.
fn settings(context: &StepContext, known: &[&str]) -> Result<StepOutcome> {
    if !known.contains(&context.step.step.as_str()) {
        return Err(unknown(context));
    }
    match context.step.args.get("settings") {
        None | Some(Value::Array(_)) => Ok(StepOutcome::Done),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            Err(DriverError::Invalid {
                section: "steps",
                key: format!("{}.{}", context.step.interface, context.step.step),
                reason: "settings must be a list".into(),
            })
        }
    }
}

fn settings_info(what: &str) -> Value {
    json!({"settings": {"description": what, "required": true}})
}

/// BIOS settings: accepted.
pub struct FakeBios;

#[async_trait]
impl Steps for FakeBios {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::Clean | Activity::Deploy | Activity::Service => vec![
                step("bios", "apply_configuration", settings_info("A list of {name, value}.")),
                step("bios", "factory_reset", json!({})),
            ],
            Activity::Verify
            | Activity::TearDown
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        settings(context, &["apply_configuration", "factory_reset"])
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}

/// Firmware: every update is accepted.
pub struct FakeFirmware;

#[async_trait]
impl Steps for FakeFirmware {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::Clean | Activity::Service => {
                vec![step("firmware", "update", settings_info("A list of {component, url}."))]
            }
            Activity::Deploy
            | Activity::Verify
            | Activity::TearDown
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        settings(context, &["update"])
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}

/// All of them, to be put into [`crate::Parts::steps`].
#[must_use]
pub fn all() -> BTreeMap<(Kind, &'static str), Arc<dyn Steps>> {
    let all: [(_, Arc<dyn Steps>); 5] = [
        ((Kind::Inspect, "fake"), Arc::new(FakeInspect)),
        ((Kind::Rescue, "fake"), Arc::new(FakeRescue)),
        ((Kind::Raid, "fake"), Arc::new(FakeRaid)),
        ((Kind::Bios, "fake"), Arc::new(FakeBios)),
        ((Kind::Firmware, "fake"), Arc::new(FakeFirmware)),
    ];
    all.into()
}
