//! Deploy interface `custom-agent`: `direct` without an image of ours. What is put onto the machine is decided by the
//! agent's own steps, asked for by deploy templates or `deploy_steps` (deploy.md §E).

use std::sync::Arc;

use async_trait::async_trait;
use ferric_machine::Activity;
use serde_json::json;

use super::DirectDeploy;
use crate::interface::{
    DeployInterface, Json, NodeView, Property, Result, Step, StepContext, StepOutcome, Steps,
};

/// See the module.
pub struct CustomAgentDeploy(Arc<DirectDeploy>);

impl CustomAgentDeploy {
    /// With the `direct` interface that carries out the steps both have.
    #[must_use]
    pub fn new(direct: Arc<DirectDeploy>) -> CustomAgentDeploy {
        CustomAgentDeploy(direct)
    }
}

#[async_trait]
impl Steps for CustomAgentDeploy {
    fn steps(&self, node: &NodeView, activity: Activity) -> Vec<Step> {
        let mut steps = self.0.steps(node, activity);
        steps.retain(|step| step.step != "write_image");
        steps
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            // which boot loader there is, the steps that wrote it know
            "prepare_instance_boot" => {
                context.asks.boot_from_disk().await?;
                Ok(StepOutcome::Done)
            }
            _ => self.0.execute(context).await,
        }
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        self.0.poll(context).await
    }
}

#[async_trait]
impl DeployInterface for CustomAgentDeploy {
    fn properties(&self) -> &'static [Property] {
        self.0.properties()
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        crate::capabilities::validate(node)
    }

    async fn prepare(&self, node: &NodeView) -> Result<Json> {
        let mut keep = Json::new();
        keep.insert("deploy_boot_mode".into(), json!(self.0.boot_mode(node)));
        Ok(keep)
    }

    async fn forget(&self, node: &NodeView) -> Result<()> {
        self.0.forget(node).await
    }

    async fn clean_up(&self, context: &StepContext) -> Result<()> {
        self.0.clean_up(context).await
    }
}
