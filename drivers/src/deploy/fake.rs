//! Deploying machines that do not exist: one step that takes no time.

use async_trait::async_trait;
use ferric_machine::Activity;

use crate::error::DriverError;
use crate::interface::{
    DeployInterface, Json, NodeView, Property, Result, Step, StepContext, StepOutcome, Steps,
};

/// Every deployment succeeds; the power is left as it is, as Ironic's fake driver leaves it.
pub struct FakeDeploy;

#[async_trait]
impl Steps for FakeDeploy {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::Deploy => vec![Step::new("deploy", "deploy", 100)],
            Activity::TearDown => vec![Step::new("deploy", "tear_down", 0)],
            Activity::Adopt => vec![Step::new("deploy", "take_over", 0)],
            Activity::Verify
            | Activity::Clean
            | Activity::Inspect
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            "deploy" | "tear_down" | "take_over" => Ok(StepOutcome::Done),
            other => {
                Err(DriverError::Unsupported { interface: "fake".into(), what: format!("step {other}") })
            }
        }
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}

#[async_trait]
impl DeployInterface for FakeDeploy {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }

    fn needs_boot(&self) -> bool {
        false
    }

    fn uses_agent(&self, _node: &NodeView, _activity: Activity) -> bool {
        false
    }

    async fn prepare(&self, _node: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }

    async fn clean_up(&self, _context: &StepContext) -> Result<()> {
        Ok(())
    }
}
