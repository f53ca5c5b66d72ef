//! The interfaces `redfish`: they know what driver_info must say; the protocol itself is not part of this release, so
//! whatever would speak it answers [`DriverError::NotInRelease`].

mod boot;
mod vendor;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ferric_machine::{Activity, BootDevice, BootMode, PowerState, PowerTarget};
use reqwest::Url;
use serde_json::Value;

pub use self::boot::VirtualMedia;
pub use self::vendor::RedfishVendor;
use crate::boot::PxeSettings;
use crate::bound::Parts;
use crate::error::DriverError;
use crate::interface::{
    EventLog, Fru, Identify, IndicatorState, Indicators, Interface, Json, Kind, ManagementInterface,
    NodeView, PowerInterface, Property, RaidInterface, Result, Sensors, Step, StepContext, StepOutcome,
    Steps, VmediaAsk,
};
use crate::{properties, python, raid_config};

fn not_yet<T>() -> Result<T> {
    Err(DriverError::NotInRelease {
        what: "the Redfish protocol".into(),
        remedy: "use hardware type ipmi where the BMC speaks IPMI, or manual-management".into(),
    })
}

fn invalid(reason: String) -> DriverError {
    DriverError::InvalidParameter { reason }
}

/// Checks what driver_info says of the BMC, in Ironic's words.
fn validate(node: &NodeView) -> Result<()> {
    let uuid = node.uuid;
    let value = |key: &str| node.driver_info.get(key).filter(|value| !value.is_null());
    let empty = |value: &&Value| !matches!(value, Value::String(text) if text.is_empty());
    let Some(address) = value("redfish_address").filter(empty) else {
        return Err(DriverError::MissingParameter {
            reason: format!(
                "Missing the following Redfish properties in node {uuid} driver_info: ['redfish_address']"
            ),
        });
    };
    if !address.as_str().is_some_and(is_address) {
        return Err(invalid(format!(
            "Invalid Redfish address {} set in driver_info/redfish_address on node {uuid}",
            told(address)
        )));
    }
    if let Some(system) = value("redfish_system_id").filter(|value| !value.is_string()) {
        return Err(invalid(format!(
            "Invalid value \"{}\" set in driver_info/redfish_system_id on node {uuid}. The value should be a path \
             (string) to the resource that the driver will interact with. For example: /redfish/v1/Systems/1",
            python::str(system)
        )));
    }
    if let Some(verify) = value("redfish_verify_ca").filter(|value| !is_verify_ca(value)) {
        return Err(invalid(format!(
            "Invalid value type set in driver_info/redfish_verify_ca on node {uuid}. The value should be a Boolean \
             or the path to a file/directory, not \"{}\"",
            python::str(verify)
        )));
    }
    one_of(node, "redfish_auth_type", &["basic", "session", "auto"], "\"basic\", \"session\" or \"auto\"")?;
    one_of(node, "redfish_tls_minimum_version", &["1.1", "1.2", "1.3"], "\"1.1\", \"1.2\", or \"1.3\"")
}

fn one_of(node: &NodeView, key: &str, words: &[&str], shown: &str) -> Result<()> {
    let Some(value) = node.driver_info.get(key) else { return Ok(()) };
    if value.as_str().is_some_and(|word| words.contains(&word)) {
        return Ok(());
    }
    Err(invalid(format!(
        "Invalid value \"{}\" set in driver_info/{key} on node {}. The value should be one of {shown}.",
        python::str(value),
        node.uuid
    )))
}

/// An address as it may stand in a text: with stars for who logs in, and for what has a form of its own.
fn told(address: &Value) -> String {
    match address {
        Value::String(text) => {
            // it is no address: whatever is before an '@' may be a password, wherever that begins
            let Some((login, host)) = text.rsplit_once('@') else { return python::str(address) };
            let scheme = login.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
            format!("{scheme}***@{host}")
        }
        Value::Array(_) | Value::Object(_) => "******".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => python::str(address),
    }
}

/// A URL, or what becomes one with `https://` before it.
fn is_address(text: &str) -> bool {
    let strange = |one: char| one.is_whitespace() || one.is_control() || "<>\"{}|\\^`".contains(one);
    let has_host = |url: Url| url.host_str().is_some_and(|host| !host.is_empty());
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    bare_v6 || (!text.contains(strange) && Url::parse(&url).is_ok_and(has_host))
}

fn is_verify_ca(value: &Value) -> bool {
    const WORDS: &[&str] = &["1", "t", "true", "on", "y", "yes", "0", "f", "false", "off", "n", "no"];
    match value {
        Value::Bool(_) => true,
        Value::String(text) => {
            WORDS.contains(&text.trim().to_ascii_lowercase().as_str()) || std::path::Path::new(text).exists()
        }
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Every interface `redfish` but boot.
pub struct Redfish;

impl Interface for Redfish {
    fn properties(&self) -> &'static [Property] {
        properties::REDFISH
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        validate(node)
    }
}

#[async_trait]
impl PowerInterface for Redfish {
    fn properties(&self) -> &'static [Property] {
        properties::REDFISH
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        validate(node)
    }

    fn supported(&self) -> &'static [PowerTarget] {
        PowerTarget::ALL
    }

    fn bmc(&self, node: &NodeView) -> Option<String> {
        node.driver_str("redfish_address").map(|address| format!("redfish:{address}"))
    }

    async fn power_state(&self, node: &NodeView) -> Result<PowerState> {
        validate(node)?;
        not_yet()
    }

    async fn set_power(&self, node: &NodeView, _to: PowerTarget, _within: Duration) -> Result<PowerState> {
        validate(node)?;
        not_yet()
    }
}

#[async_trait]
impl ManagementInterface for Redfish {
    fn properties(&self) -> &'static [Property] {
        properties::REDFISH
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        validate(node)
    }

    fn supported_boot_devices(&self) -> &'static [BootDevice] {
        &[BootDevice::Pxe, BootDevice::Disk, BootDevice::Cdrom, BootDevice::Bios]
    }

    async fn boot_device(&self, _node: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)> {
        not_yet()
    }

    async fn set_boot_device(
        &self,
        _node: &NodeView,
        _device: BootDevice,
        _persistent: bool,
        _mode: BootMode,
    ) -> Result<()> {
        not_yet()
    }

    async fn sensors(&self, _node: &NodeView) -> Result<Sensors> {
        not_yet()
    }

    async fn event_log(&self, _node: &NodeView, _most: usize) -> Result<EventLog> {
        not_yet()
    }

    async fn clear_event_log(&self, _node: &NodeView) -> Result<()> {
        not_yet()
    }

    async fn fru(&self, _node: &NodeView) -> Result<Vec<Fru>> {
        not_yet()
    }

    async fn identify(&self, _node: &NodeView, _light: Identify) -> Result<()> {
        not_yet()
    }

    async fn supported_boot_modes(&self, _node: &NodeView) -> Result<Vec<BootMode>> {
        Ok(vec![BootMode::Bios, BootMode::Uefi])
    }

    async fn boot_mode(&self, _node: &NodeView) -> Result<Option<BootMode>> {
        not_yet()
    }

    async fn set_boot_mode(&self, _node: &NodeView, _mode: BootMode) -> Result<()> {
        not_yet()
    }

    async fn secure_boot(&self, _node: &NodeView) -> Result<bool> {
        not_yet()
    }

    async fn set_secure_boot(&self, _node: &NodeView, _on: bool) -> Result<()> {
        not_yet()
    }

    async fn inject_nmi(&self, _node: &NodeView) -> Result<()> {
        not_yet()
    }

    async fn indicators(&self, _node: &NodeView, _component: Option<&str>) -> Result<Indicators> {
        not_yet()
    }

    async fn indicator(&self, _node: &NodeView, _component: &str, _id: &str) -> Result<IndicatorState> {
        not_yet()
    }

    async fn set_indicator(
        &self,
        _node: &NodeView,
        _component: &str,
        _id: &str,
        _state: IndicatorState,
    ) -> Result<()> {
        not_yet()
    }

    async fn vmedia(&self, _node: &NodeView) -> Result<Vec<Value>> {
        not_yet()
    }

    async fn attach_vmedia(&self, _node: &NodeView, _ask: &VmediaAsk) -> Result<()> {
        not_yet()
    }

    async fn detach_vmedia(&self, _node: &NodeView, _types: Option<&[String]>) -> Result<()> {
        not_yet()
    }
}

/// The RAID interface `redfish`.
pub struct RedfishRaid;

impl Interface for RedfishRaid {
    fn properties(&self) -> &'static [Property] {
        properties::REDFISH
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        self.validate_target(node)
    }
}

impl RaidInterface for RedfishRaid {
    fn validate_raid_config(&self, _node: &NodeView, config: &Json) -> Result<()> {
        raid_config::validate(config)?;
        let disks =
            config.get("logical_disks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let scsi = |disk: &Value| disk.get("interface_type").and_then(Value::as_str) == Some("scsi");
        if disks.iter().any(scsi) {
            return Err(invalid("interface type `scsi` not supported by Redfish RAID".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Steps for Redfish {
    fn validate_for(&self, node: &NodeView, activity: Activity) -> Result<()> {
        if activity == Activity::Inspect { validate(node) } else { Ok(()) }
    }

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

    async fn execute(&self, _context: &StepContext) -> Result<StepOutcome> {
        not_yet()
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        not_yet()
    }
}

/// Puts the interfaces `redfish` of every kind into `parts`. `settings` names the deploy ramdisk of nodes that name
/// none.
pub fn install(parts: &mut Parts, settings: Arc<PxeSettings>) {
    parts.power.insert("redfish", Arc::new(Redfish));
    parts.management.insert("redfish", Arc::new(Redfish));
    parts.boot.insert("redfish-virtual-media", Arc::new(VirtualMedia { settings }));
    parts.raid.insert("redfish", Arc::new(RedfishRaid));
    parts.vendor.insert("redfish", Arc::new(RedfishVendor));
    for kind in [Kind::Bios, Kind::Firmware, Kind::Inspect] {
        parts.interfaces.insert((kind, "redfish"), Arc::new(Redfish));
    }
    parts.steps.insert((Kind::Inspect, "redfish"), Arc::new(Redfish));
}
