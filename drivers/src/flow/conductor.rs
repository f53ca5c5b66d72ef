//! The parts of the work that the conductor does itself.

use std::time::{SystemTime, UNIX_EPOCH};

use ferric_machine::steps::Reserved;
use ferric_machine::{Activity, PowerState, PowerTarget};
use serde_json::Value;

use super::resolve::{ON_CHILDREN, ONLY_CHILDREN};
use super::{Ending, FlowSettings, collect, waiting};
use crate::error::DriverError;
use crate::interface::{
    Child, Found, InstanceBoot, Kind, NodeChange, Progress, Progressed, RamdiskPurpose, Result, StepContext,
    StepOutcome,
};

pub(super) async fn execute(settings: &FlowSettings, context: &StepContext) -> Result<StepOutcome> {
    if let Ok(what) = context.step.step.parse::<Reserved>() {
        return reserved(what, context).await;
    }
    match context.step.step.as_str() {
        "prepare" => {
            let keep = context.bound.deploy.prepare(&context.node).await?;
            Ok(StepOutcome::Found(Box::new(Found { keep, ..Found::default() })))
        }
        "verify_power" => verify_power(context).await,
        "validate_boot" => validate_boot(context),
        "boot_ramdisk" => {
            context.asks.boot_ramdisk(purpose(context.activity)).await?;
            Ok(waiting("waiting for the ramdisk"))
        }
        "collect" => collect::run(settings, context).await,
        "finish_cleaning" => {
            context.asks.set_power(PowerTarget::Off).await?;
            context.asks.clean_up_ramdisk().await?;
            Ok(forget(&["clean_steps"]))
        }
        "finish_service" => {
            boot_instance(context).await?;
            Ok(forget(&["service_steps"]))
        }
        "clean_up" => clean_up(settings, context).await,
        other => Err(unknown(other)),
    }
}

pub(super) async fn poll(settings: &FlowSettings, context: &StepContext) -> Result<StepOutcome> {
    match context.step.step.as_str() {
        // the agent's call that led here is the proof that the ramdisk is up
        "boot_ramdisk" if context.agent.is_some() => Ok(StepOutcome::Done),
        "boot_ramdisk" => Ok(waiting("waiting for the ramdisk")),
        "collect" => collect::run(settings, context).await,
        "wait" => Ok(look_at_wait(context)),
        // unhold put the node back to waiting; this look is the one that goes on
        "hold" => Ok(StepOutcome::Done),
        other => Err(unknown(other)),
    }
}

fn unknown(step: &str) -> DriverError {
    DriverError::Unsupported { interface: "conductor".into(), what: format!("step {step}") }
}

/// Done, and these keys of driver_internal_info are not needed any more.
fn forget(keys: &[&str]) -> StepOutcome {
    let keep = keys.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
    StepOutcome::Found(Box::new(Found { keep, ..Found::default() }))
}

const fn purpose(activity: Activity) -> RamdiskPurpose {
    match activity {
        Activity::Clean => RamdiskPurpose::Clean,
        Activity::Service => RamdiskPurpose::Service,
        Activity::Inspect => RamdiskPurpose::Inspect,
        Activity::Rescue | Activity::Unrescue => RamdiskPurpose::Rescue,
        Activity::Deploy | Activity::Verify | Activity::TearDown | Activity::Adopt => RamdiskPurpose::Deploy,
    }
}

/// Key of driver_internal_info: the work goes on without a ramdisk.
pub(super) const fn disable_key(activity: Activity) -> &'static str {
    match activity {
        Activity::Service => "service_disable_ramdisk",
        Activity::Clean
        | Activity::Deploy
        | Activity::Verify
        | Activity::TearDown
        | Activity::Inspect
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue => "cleaning_disable_ramdisk",
    }
}

async fn verify_power(context: &StepContext) -> Result<StepOutcome> {
    let failed = |why: String| DriverError::Refused {
        what: "the BMC".into(),
        command: "reading the power state".into(),
        reason: why,
    };
    if context.bound.power.is_imaginary() {
        return Ok(StepOutcome::Done);
    }
    match context.asks.power_state().await? {
        PowerState::Error => Err(failed("it reports a fault of the chassis".into())),
        seen @ (PowerState::On | PowerState::Off) => {
            let node = vec![NodeChange::Power(seen)];
            Ok(StepOutcome::Found(Box::new(Found { node, ..Found::default() })))
        }
    }
}

/// Taking over an instance that boots over the network needs what it boots from; one on its own disk needs nothing.
fn validate_boot(context: &StepContext) -> Result<StepOutcome> {
    let deploy = context.bound.names.get(&Kind::Deploy).map(String::as_str);
    let option = context.node.capability("boot_option");
    if matches!(deploy, Some("ramdisk")) || matches!(option.as_deref(), Some("netboot" | "ramdisk")) {
        context.bound.boot.validate(&context.node)?;
    }
    Ok(StepOutcome::Done)
}

/// Off, the instance's boot laid out again, on.
async fn boot_instance(context: &StepContext) -> Result<()> {
    context.asks.set_power(PowerTarget::Off).await?;
    prepare_instance(context).await?;
    context.asks.set_power(PowerTarget::On).await.map(|_| ())
}

/// Makes the machine boot its instance the next time: from its disk, or over the network where it was deployed so.
pub(crate) async fn prepare_instance(context: &StepContext) -> Result<()> {
    let info = context.node.driver_internal_info.get("instance_boot");
    match info.and_then(|boot| serde_json::from_value::<InstanceBoot>(boot.clone()).ok()) {
        Some(boot) => context.asks.boot_from_network(boot).await,
        None => context.asks.boot_from_disk().await,
    }
}

async fn reserved(what: Reserved, context: &StepContext) -> Result<StepOutcome> {
    let target = match what {
        Reserved::Hold => return Ok(StepOutcome::Hold),
        Reserved::Wait => return Ok(begin_wait(context)),
        Reserved::PowerOn => PowerTarget::On,
        Reserved::PowerOff => PowerTarget::Off,
        Reserved::Reboot => PowerTarget::Reboot,
    };
    if context.step.args.get(ON_CHILDREN).and_then(Value::as_bool) != Some(true) {
        context.asks.set_power(target).await?;
        return Ok(StepOutcome::Done);
    }
    for child in chosen(context, context.asks.children().await?)? {
        context.asks.set_child_power(child.uuid, target).await?;
    }
    Ok(StepOutcome::Done)
}

/// The children that the step is for. A name that is no child's is a mistake and not passed over.
fn chosen(context: &StepContext, children: Vec<Child>) -> Result<Vec<Child>> {
    let Some(Value::Array(only)) = context.step.args.get(ONLY_CHILDREN) else { return Ok(children) };
    let only: Vec<&str> = only.iter().filter_map(Value::as_str).collect();
    let is = |child: &Child, word: &str| {
        child.uuid.to_string() == word || child.name.as_deref().is_some_and(|name| name == word)
    };
    if let Some(word) = only.iter().find(|word| !children.iter().any(|child| is(child, word))) {
        return Err(DriverError::Invalid {
            section: "steps",
            key: ONLY_CHILDREN.into(),
            reason: format!("'{word}' is not a child of this node"),
        });
    }
    Ok(children.into_iter().filter(|child| only.iter().any(|word| is(child, word))).collect())
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The checkpoint is the second of the unix time at which the wait is over; without one the next look ends it.
fn begin_wait(context: &StepContext) -> StepOutcome {
    if context.checkpoint.is_some() {
        return look_at_wait(context);
    }
    let seconds = context.step.args.get("seconds").and_then(Value::as_u64);
    match seconds {
        Some(0) => StepOutcome::Done,
        Some(seconds) => wait_until(unix_now().saturating_add(seconds)),
        None => waiting("waiting for the agent's next call"),
    }
}

fn wait_until(until: u64) -> StepOutcome {
    let left = until.saturating_sub(unix_now());
    let progress = Progress { doing: format!("waiting, {left} s left"), ..Progress::default() };
    StepOutcome::Wait(Progressed { progress, checkpoint: Some(until.to_string()) })
}

fn look_at_wait(context: &StepContext) -> StepOutcome {
    let until: Option<u64> = context.checkpoint.as_deref().and_then(|text| text.parse().ok());
    match until {
        Some(until) if unix_now() < until => wait_until(until),
        Some(_) | None => StepOutcome::Done,
    }
}

async fn clean_up(settings: &FlowSettings, context: &StepContext) -> Result<StepOutcome> {
    let args = &context.step.args;
    let of = args.get("of").and_then(|of| serde_json::from_value::<Activity>(of.clone()).ok());
    let ending = args.get("ending").and_then(|how| serde_json::from_value::<Ending>(how.clone()).ok());
    let of = of.expect("Flow::clean_up writes the work into every step it makes");
    let ending = ending.expect("Flow::clean_up writes the ending into every step it makes");
    let info = &context.node.driver_internal_info;
    let deploys_with_agent = context.bound.deploy.uses_agent(&context.node, of);
    let alone = !deploys_with_agent || info.get(disable_key(of)) == Some(&Value::Bool(true));
    match (of, ending) {
        (Activity::Deploy, Ending::Aborted) => {
            context.bound.deploy.forget(&context.node).await?;
            context.asks.clean_up_ramdisk().await?;
            Ok(forget(&["deploy_steps", "deploy_key"]))
        }
        (Activity::Deploy, Ending::Failed) => {
            context.bound.deploy.clean_up(context).await?;
            Ok(forget(&["deploy_steps", "deploy_key"]))
        }
        (Activity::Clean, ending) => {
            // what an abort interrupts is known to the operator; what failed is left running to be looked at
            let off = ending == Ending::Aborted || settings.power_off_after_clean_failure;
            if off && !alone {
                context.asks.set_power(PowerTarget::Off).await?;
            }
            if !alone {
                context.asks.clean_up_ramdisk().await?;
            }
            Ok(forget(&["clean_steps", disable_key(Activity::Clean)]))
        }
        (Activity::Service, Ending::Failed) => {
            if settings.power_off_after_service_failure {
                context.asks.set_power(PowerTarget::Off).await?;
            }
            Ok(StepOutcome::Done)
        }
        (Activity::Service, Ending::Aborted) => {
            if !alone {
                boot_instance(context).await?;
            }
            Ok(forget(&["service_steps", disable_key(Activity::Service)]))
        }
        (Activity::Rescue, Ending::Failed | Ending::Aborted) => {
            context.asks.clean_up_ramdisk().await?;
            Ok(crate::rescue::without_password(context))
        }
        (Activity::Inspect, Ending::Failed | Ending::Aborted) => {
            if context.bound.names.get(&Kind::Inspect).is_some_and(|name| name == "agent") {
                context.asks.set_power(PowerTarget::Off).await?;
                context.asks.clean_up_ramdisk().await?;
            }
            Ok(StepOutcome::Done)
        }
        (
            Activity::Verify | Activity::TearDown | Activity::Adopt | Activity::Unrescue,
            Ending::Failed | Ending::Aborted,
        ) => Ok(StepOutcome::Done),
    }
}
