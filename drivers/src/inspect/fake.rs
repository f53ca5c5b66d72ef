//! Inspecting machines that do not exist.

use async_trait::async_trait;
use ferric_machine::Activity;

use crate::interface::{NodeView, Result, Step, StepContext, StepOutcome, Steps};

/// Finds nothing and is done.
pub struct FakeInspect;

#[async_trait]
impl Steps for FakeInspect {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        super::steps(activity)
    }

    async fn execute(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}
