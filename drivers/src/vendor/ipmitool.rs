//! Raw commands and resets of BMCs by IPMI. It bears Ironic's name `ipmitool`; no such program runs.

use std::sync::Arc;

use async_trait::async_trait;
use ferric_machine::Activity;
use serde_json::{Value, json};

use crate::error::DriverError;
use crate::interface::{
    Interface, Json, NodeView, Property, Result, Step, StepContext, StepOutcome, Steps, VendorInterface,
    VendorMethod,
};
use crate::properties;
use crate::protocol::ipmi::command::RawCommand;
use crate::protocol::ipmi::{IpmiClient, IpmiSettings, Target};
use crate::python;

const SEND_RAW: &str = "send_raw";
const RAW_BYTES: &str = "raw_bytes";

static METHODS: &[VendorMethod] = &[
    VendorMethod::post(
        "bmc_reset",
        "Reset the BMC. Required argument: 'warm' (Boolean) - for warm (True) or cold (False) reset.",
    ),
    VendorMethod::post(
        SEND_RAW,
        "Send raw bytes to the BMC. Required argument: 'raw_bytes' - a string of raw bytes (e.g. '0x00 0x01').",
    ),
];

/// The vendor interface `ipmitool`.
pub struct IpmitoolVendor {
    client: Arc<IpmiClient>,
    settings: IpmiSettings,
}

/// Whether the argument `warm` says so; as Ironic's, what is not a yes is a no.
fn is_warm(args: &Json) -> bool {
    let word = args.get("warm").map_or_else(|| "true".to_owned(), python::str);
    matches!(word.trim().to_ascii_lowercase().as_str(), "true" | "t" | "yes" | "y" | "on" | "1")
}

fn raw_bytes(args: &Json) -> Result<Option<RawCommand>> {
    let Some(text) = args.get(RAW_BYTES).and_then(Value::as_str).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let invalid = |reason| DriverError::InvalidParameter { reason: format!("Invalid raw_bytes: {reason}") };
    text.parse().map(Some).map_err(invalid)
}

impl IpmitoolVendor {
    /// Uses `client` for every node.
    #[must_use]
    pub fn new(client: Arc<IpmiClient>, settings: IpmiSettings) -> Self {
        Self { client, settings }
    }

    async fn send(&self, node: &NodeView, command: RawCommand, what: &str) -> Result<()> {
        let target = Target::from_node(node, &self.settings)?;
        let sent = self.client.run(&target, command).await;
        sent.map(drop).map_err(|error| error.of(&target, what))
    }

    async fn send_raw(&self, node: &NodeView, args: &Json) -> Result<()> {
        let command = raw_bytes(args)?.ok_or_else(|| DriverError::MissingParameter {
            reason: "Argument raw_bytes is missing.".into(),
        })?;
        self.send(node, command, "the raw command").await
    }
}

impl Interface for IpmitoolVendor {
    fn properties(&self) -> &'static [Property] {
        properties::IPMI
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        Target::validate(node, &self.settings)
    }
}

#[async_trait]
impl VendorInterface for IpmitoolVendor {
    fn methods(&self) -> &'static [VendorMethod] {
        METHODS
    }

    fn validate_call(&self, node: &NodeView, method: &VendorMethod, args: &Json) -> Result<()> {
        if method.name == SEND_RAW && raw_bytes(args)?.is_none() {
            return Err(DriverError::MissingParameter {
                reason: "Parameter raw_bytes (string of bytes) was not specified.".into(),
            });
        }
        self.validate(node)
    }

    async fn call(&self, node: &NodeView, method: &VendorMethod, _http: &str, args: &Json) -> Result<Value> {
        if method.name == SEND_RAW {
            self.send_raw(node, args).await?;
        } else {
            self.send(node, RawCommand::reset(is_warm(args)), "the reset").await?;
        }
        Ok(Value::Null)
    }
}

#[async_trait]
impl Steps for IpmitoolVendor {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        let argsinfo = json!({RAW_BYTES: {
            "description": "A string of raw bytes to convey the request to transmit to the remote BMC.",
            "required": true,
        }});
        let Value::Object(argsinfo) = argsinfo else { unreachable!("argsinfo is written as an object") };
        let step = Step { argsinfo, requires_ramdisk: false, ..Step::new("vendor", SEND_RAW, 0) };
        match activity {
            Activity::Clean | Activity::Deploy | Activity::Service => vec![step],
            Activity::Verify
            | Activity::TearDown
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            SEND_RAW => self.send_raw(&context.node, &context.step.args).await.map(|()| StepOutcome::Done),
            other => {
                let (interface, what) = ("ipmitool".into(), format!("step {other}"));
                Err(DriverError::Unsupported { interface, what })
            }
        }
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}
