//! The parts of the work that the conductor does itself.

use ferric_machine::{Activity, PowerState};

use super::{Ending, FlowSettings};
use crate::error::DriverError;
use crate::interface::{Found, NodeChange, Result, StepContext, StepOutcome};

pub(super) async fn execute(_settings: &FlowSettings, context: &StepContext) -> Result<StepOutcome> {
    match context.step.step.as_str() {
        "prepare" => {
            let keep = context.bound.deploy.prepare(&context.node).await?;
            Ok(StepOutcome::Found(Box::new(Found { keep, ..Found::default() })))
        }
        "verify_power" => verify_power(context).await,
        "clean_up" => clean_up(context).await,
        other => Err(unknown(other)),
    }
}

pub(super) async fn poll(_settings: &FlowSettings, context: &StepContext) -> Result<StepOutcome> {
    Err(unknown(&context.step.step))
}

fn unknown(step: &str) -> DriverError {
    DriverError::Unsupported { interface: "conductor".into(), what: format!("step {step}") }
}

async fn verify_power(context: &StepContext) -> Result<StepOutcome> {
    let failed = |why: String| DriverError::Refused {
        what: "the BMC".into(),
        command: "reading the power state".into(),
        reason: why,
    };
    match context.asks.power_state().await? {
        PowerState::Error => Err(failed("it reports a fault of the chassis".into())),
        seen @ (PowerState::On | PowerState::Off) => {
            let node = vec![NodeChange::Power(seen)];
            Ok(StepOutcome::Found(Box::new(Found { node, ..Found::default() })))
        }
    }
}

async fn clean_up(context: &StepContext) -> Result<StepOutcome> {
    let args = &context.step.args;
    let of = args.get("of").and_then(|of| serde_json::from_value::<Activity>(of.clone()).ok());
    let ending = args.get("ending").and_then(|how| serde_json::from_value::<Ending>(how.clone()).ok());
    match (of, ending) {
        (Some(Activity::Deploy), Some(Ending::Aborted)) => context.asks.clean_up_ramdisk().await?,
        (Some(Activity::Deploy), _) => context.bound.deploy.clean_up(context).await?,
        (_, _) => {}
    }
    Ok(StepOutcome::Done)
}
