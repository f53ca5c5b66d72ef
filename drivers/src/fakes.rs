//! Interfaces of machines that do not exist: every verb and every step succeeds, at once or after a delay (hardware
//! type `fake-hardware`). The steps bear the names of Ironic's.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use ferric_machine::Activity;
use serde_json::{Value, json};

use crate::boot::FakeBoot;
use crate::delayed::{Delay, Delayed};
use crate::deploy::FakeDeploy;
use crate::error::DriverError;
use crate::interface::{
    BiosSetting, Found, Interface, Json, Kind, NodeChange, NodeView, Property, RaidInterface, Result, Step,
    StepContext, StepOutcome, Steps, VendorInterface, VendorMethod,
};
use crate::management::FakeManagement;
use crate::power::FakePower;
use crate::registry::Parts;
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

impl Interface for FakeRaid {
    fn validate(&self, node: &NodeView) -> Result<()> {
        self.validate_target(node)
    }
}

impl RaidInterface for FakeRaid {}

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

fn invalid(context: &StepContext, reason: &str) -> DriverError {
    DriverError::Invalid {
        section: "steps",
        key: format!("{}.{}", context.step.interface, context.step.step),
        reason: reason.into(),
    }
}

/// The argument `settings`; none where it is absent.
fn settings(context: &StepContext) -> Result<&[Value]> {
    match context.step.args.get("settings") {
        None => Ok(&[]),
        Some(Value::Array(all)) => Ok(all),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            Err(invalid(context, "settings must be a list"))
        }
    }
}

fn settings_info(what: &str) -> Value {
    json!({"settings": {"description": what, "required": true}})
}

/// A step for cleaning that Ironic's fakes have, in cleaning only.
fn clean_steps(activity: Activity, steps: Vec<Step>) -> Vec<Step> {
    match activity {
        Activity::Clean => steps,
        Activity::Deploy
        | Activity::Service
        | Activity::Verify
        | Activity::TearDown
        | Activity::Inspect
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue => Vec::new(),
    }
}

/// BIOS settings: those that were applied last are the machine's.
pub struct FakeBios;

#[async_trait]
impl Steps for FakeBios {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        const SETTINGS: &str =
            "List of BIOS settings, each item needs to contain a dictionary with name/value pairs";
        clean_steps(
            activity,
            vec![
                step("bios", "apply_configuration", settings_info(SETTINGS)),
                step("bios", "cache_bios_settings", json!({})),
                step("bios", "factory_reset", json!({})),
            ],
        )
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        let bios = match context.step.step.as_str() {
            "apply_configuration" => {
                let one = |setting: &Value| {
                    let name = setting.get("name").and_then(Value::as_str)?.to_owned();
                    let value = setting.get("value").filter(|value| !value.is_null()).map(crate::python::str);
                    Some(BiosSetting { name, value, ..BiosSetting::default() })
                };
                let all: Option<Vec<_>> = settings(context)?.iter().map(one).collect();
                all.ok_or_else(|| invalid(context, "each of settings must have a name and a value"))?
            }
            "factory_reset" => Vec::new(),
            "cache_bios_settings" => return Ok(StepOutcome::Done),
            _ => return Err(unknown(context)),
        };
        Ok(StepOutcome::Found(Box::new(Found { bios: Some(bios), ..Found::default() })))
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
        const SETTINGS: &str =
            "List of Firmware components, each item needs to contain a dictionary with name/value pairs";
        clean_steps(activity, vec![step("firmware", "update", settings_info(SETTINGS))])
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            "update" => settings(context).map(|_| StepOutcome::Done),
            _ => Err(unknown(context)),
        }
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}

/// Vendor methods that say whether their argument is the word they wait for.
pub struct FakeVendor;

const BAR: &str = "bar";
const LOG: &str = "log_passthrough";

static METHODS: &[VendorMethod] = &[
    VendorMethod {
        require_exclusive_lock: false,
        ..VendorMethod::post("fourth_method_shared_lock", "Test if the value of bar is woof")
    },
    VendorMethod::post(LOG, "Test pass-through to wait."),
    VendorMethod::post("second_method", "Test if the value of bar is kazoo"),
    VendorMethod {
        is_async: false,
        ..VendorMethod::post("third_method_sync", "Test if the value of bar is meow")
    },
];

impl Interface for FakeVendor {
    fn properties(&self) -> &'static [Property] {
        &[("B1", "B1 description. Required."), ("B2", "B2 description. Required.")]
    }
}

#[async_trait]
impl VendorInterface for FakeVendor {
    fn methods(&self) -> &'static [VendorMethod] {
        METHODS
    }

    fn validate_call(&self, _node: &NodeView, method: &VendorMethod, args: &Json) -> Result<()> {
        let given = args.get(BAR).is_some_and(|bar| !matches!(bar, Value::Null) && *bar != json!(""));
        if method.name == LOG || given {
            return Ok(());
        }
        let reason = format!("Parameter 'bar' not passed to method '{}'.", method.name);
        Err(DriverError::MissingParameter { reason })
    }

    async fn call(&self, _node: &NodeView, method: &VendorMethod, _http: &str, args: &Json) -> Result<Value> {
        let word = match method.name {
            "second_method" => "kazoo",
            "third_method_sync" => "meow",
            "fourth_method_shared_lock" => "woof",
            _ => return Ok(Value::Null),
        };
        Ok(Value::Bool(args.get(BAR).and_then(Value::as_str) == Some(word)))
    }
}

#[async_trait]
impl Steps for FakeVendor {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        let log = |priority| Step { priority, requires_ramdisk: false, ..step("vendor", LOG, json!({})) };
        match activity {
            Activity::Clean => vec![log(1)],
            Activity::Service => vec![log(0)],
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
        match context.step.step.as_str() {
            LOG => Ok(StepOutcome::Done),
            _ => Err(unknown(context)),
        }
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}

/// `[fake] <kind>_delay`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // a delay for each kind
pub struct FakeDelays {
    pub bios: Delay,
    pub boot: Delay,
    pub deploy: Delay,
    pub firmware: Delay,
    pub inspect: Delay,
    pub management: Delay,
    pub power: Delay,
    pub raid: Delay,
    pub rescue: Delay,
    pub vendor: Delay,
}

/// Puts the interfaces `fake` of every kind into `parts`.
pub fn install(parts: &mut Parts, delays: &FakeDelays) {
    parts.power.insert("fake", Arc::new(Delayed::new(FakePower, delays.power)));
    parts.management.insert("fake", Arc::new(Delayed::new(FakeManagement, delays.management)));
    parts.boot.insert("fake", Arc::new(Delayed::new(FakeBoot, delays.boot)));
    parts.deploy.insert("fake", Arc::new(Delayed::new(FakeDeploy, delays.deploy)));
    parts.raid.insert("fake", Arc::new(FakeRaid));
    parts.vendor.insert("fake", Arc::new(Delayed::new(FakeVendor, delays.vendor)));
    let steps: [(Kind, Arc<dyn Steps>); 6] = [
        (Kind::Bios, Arc::new(Delayed::new(FakeBios, delays.bios))),
        (Kind::Firmware, Arc::new(Delayed::new(FakeFirmware, delays.firmware))),
        (Kind::Inspect, Arc::new(Delayed::new(FakeInspect, delays.inspect))),
        (Kind::Raid, Arc::new(Delayed::new(FakeRaid, delays.raid))),
        (Kind::Rescue, Arc::new(Delayed::new(FakeRescue, delays.rescue))),
        (Kind::Vendor, Arc::new(Delayed::new(FakeVendor, delays.vendor))),
    ];
    parts.steps.extend(steps.map(|(kind, steps)| ((kind, "fake"), steps)));
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
