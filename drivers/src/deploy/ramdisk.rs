//! Deploy interface `ramdisk`: the instance lives in memory, booted over the network each time (deploy.md §E).

use async_trait::async_trait;
use ferric_machine::{Activity, PowerTarget};
use serde_json::{Value, json};

use crate::error::DriverError;
use crate::interface::{
    DeployInterface, Found, InstanceBoot, Json, NodeView, Property, Result, Step, StepContext, StepOutcome,
    Steps,
};

/// Key of driver_internal_info under which an instance that boots over the network is remembered.
pub(super) const INSTANCE_BOOT: &str = "instance_boot";

/// Boots kernel and ramdisk of `instance_info`; no agent, nothing is written to a disk.
pub struct RamdiskDeploy;

/// What the node boots. Errors: `Missing`, and `Unsupported` for an ISO image.
fn instance(node: &NodeView) -> Result<InstanceBoot> {
    if node.instance_str("boot_iso").is_some() {
        return Err(DriverError::Unsupported {
            interface: "ramdisk".into(),
            what: "instance_info/boot_iso without virtual media; set kernel and ramdisk instead".into(),
        });
    }
    let named = |key: &str| {
        node.instance_str(key).map(str::to_owned).ok_or_else(|| DriverError::Missing {
            section: "instance_info",
            key: key.into(),
            remedy: "set kernel and ramdisk of the instance to paths, file:// or http(s):// URLs".into(),
        })
    };
    let mut kernel_args = vec!["root=/dev/ram0".to_owned()];
    let own = node.instance_str("ramdisk_kernel_arguments").unwrap_or_default();
    kernel_args.extend(own.split_whitespace().map(str::to_owned));
    Ok(InstanceBoot { kernel: named("kernel")?, ramdisk: named("ramdisk")?, kernel_args, disk: None })
}

/// Makes the instance the node's boot and remembers it.
pub(super) async fn boot_from_network(context: &StepContext, boot: InstanceBoot) -> Result<StepOutcome> {
    let mut keep = Json::new();
    keep.insert(INSTANCE_BOOT.into(), serde_json::to_value(&boot).expect("plain data"));
    context.asks.boot_from_network(boot).await?;
    Ok(StepOutcome::Found(Box::new(Found { keep, ..Found::default() })))
}

/// Switches the machine off, takes its boot files away and forgets the instance.
pub(super) async fn tear_down(context: &StepContext) -> Result<StepOutcome> {
    context.asks.set_power(PowerTarget::Off).await?;
    context.asks.clean_up_ramdisk().await?;
    let mut keep = Json::new();
    keep.insert(INSTANCE_BOOT.into(), Value::Null);
    Ok(StepOutcome::Found(Box::new(Found { keep, ..Found::default() })))
}

#[async_trait]
impl Steps for RamdiskDeploy {
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
            "deploy" => {
                if context.node.instance_str("configdrive").is_some() {
                    tracing::warn!(node = %context.node.uuid,
                        "the config drive is ignored: an instance in memory has no disk for it");
                }
                context.asks.set_power(PowerTarget::Off).await?;
                let outcome = boot_from_network(context, instance(&context.node)?).await?;
                context.asks.set_power(PowerTarget::On).await?;
                Ok(outcome)
            }
            "tear_down" => tear_down(context).await,
            // the machine runs already and stays as it is; its next boot needs the files
            "take_over" => boot_from_network(context, instance(&context.node)?).await,
            other => {
                Err(DriverError::Unsupported { interface: "ramdisk".into(), what: format!("step {other}") })
            }
        }
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        Err(DriverError::Unsupported {
            interface: "ramdisk".into(),
            what: format!("waiting in {}", context.step.step),
        })
    }
}

#[async_trait]
impl DeployInterface for RamdiskDeploy {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        instance(node).map(|_| ())
    }

    async fn prepare(&self, _node: &NodeView) -> Result<Json> {
        let mut keep = Json::new();
        keep.insert("is_whole_disk_image".into(), json!(false));
        Ok(keep)
    }

    async fn clean_up(&self, context: &StepContext) -> Result<()> {
        tear_down(context).await.map(|_| ())
    }
}
