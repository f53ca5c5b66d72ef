//! Deploying machines that do not exist: one step that takes no time.

use async_trait::async_trait;
use ferric_machine::PowerTarget;

use crate::error::DriverError;
use crate::interface::{
    DeployInterface, DeployStep, Json, NodeView, Property, Result, Resume, StepContext, StepOutcome,
};

/// Every deployment succeeds; the node ends powered on, as Ironic's fake driver leaves it.
pub struct FakeDeploy;

#[async_trait]
impl DeployInterface for FakeDeploy {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }

    async fn prepare(&self, _node: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }

    fn steps(&self, _node: &NodeView) -> Vec<DeployStep> {
        vec![DeployStep {
            interface: "deploy",
            step: "deploy",
            priority: 100,
            abortable: false,
            resume: Resume::Rerun,
        }]
    }

    async fn execute(&self, step: &str, context: &StepContext) -> Result<StepOutcome> {
        if step != "deploy" {
            return Err(DriverError::Unsupported { interface: "fake".into(), what: format!("step {step}") });
        }
        context.asks.set_power(PowerTarget::On).await?;
        Ok(StepOutcome::Done)
    }

    async fn poll(&self, _step: &str, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }

    async fn clean_up(&self, _context: &StepContext) -> Result<()> {
        Ok(())
    }

    async fn tear_down(&self, context: &StepContext) -> Result<()> {
        context.asks.set_power(PowerTarget::Off).await.map(|_| ())
    }
}
