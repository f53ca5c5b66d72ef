//! The traits behind a node's `*_interface` fields, and the data that they share.
//!
//! Implementations are stateless towards the node: they get a [`NodeView`] and answer; what must survive is
//! written by the node's actor. They never block: I/O is async, files and databases go to `spawn_blocking`.

mod boot;
mod console;
mod found;
mod health;
mod kind;
mod management;
mod power;
mod raid;
mod steps;
mod vendor;

use ferric_machine::{BootMode, PowerState, State};
use serde_json::{Map, Value};
use uuid::Uuid;

pub use self::boot::{BootInterface, InstanceBoot, RamdiskParams, RamdiskPurpose};
pub use self::console::ConsoleInterface;
pub use self::found::{BiosSetting, FirmwareComponent, Found, FoundPort, NodeChange, PortChange};
pub use self::health::{
    EventLog, Fru, FruArea, Health, Identify, LogEntry, Sensor, SensorState, Sensors, Thresholds,
};
pub use self::kind::{Chosen, Kind};
pub use self::management::{Attached, Indicator, IndicatorState, Indicators, ManagementInterface, VmediaAsk};
pub use self::power::PowerInterface;
pub use self::raid::{LOGICAL_DISK_PROPERTIES, RaidInterface};
pub use self::steps::{
    AgentHandle, AgentOffer, AgentSteps, Asks, Child, DeployInterface, Progress, Progressed, Resume, Step,
    StepContext, StepOutcome, StepSource, Steps,
};
pub use self::vendor::{Level, VendorInterface, VendorMethod, find_method};
pub use crate::error::DriverError;

/// Key of driver_internal_info: what a ramdisk without an agent said of itself when it called (deploy.md §A.1). Forgotten
/// where the agent's address is forgotten.
pub const RAMDISK_CALLED: &str = "ramdisk_called";

/// What a ramdisk hears that shows another key than its node's; in the same words who cannot be told more is refused.
pub const WRONG_DEPLOY_KEY: &str = "Deploy key does not match";

/// A JSON object.
pub type Json = Map<String, Value>;

/// Result of every driver call.
pub type Result<T> = std::result::Result<T, DriverError>;

/// What an interface may know of a node: a snapshot taken when the work was given out.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The node's id.
    pub uuid: Uuid,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its hardware type.
    pub driver: String,
    /// Unmasked; never log it.
    pub driver_info: Json,
    /// What Ferric itself remembers of the node.
    pub driver_internal_info: Json,
    /// cpu_arch, capabilities, root_device, …
    pub properties: Json,
    /// The instance wanted or running; unmasked.
    pub instance_info: Json,
    /// The RAID configuration that is wanted; empty when none is.
    pub target_raid_config: Json,
    /// Its ports.
    pub ports: Vec<PortView>,
    /// Its provision state at the time.
    pub state: State,
    /// The stored power state; `None` is unknown.
    pub power: Option<PowerState>,
}

/// A network port of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// The port's id.
    pub uuid: Uuid,
    /// MAC address, lower case, with colons.
    pub address: String,
    /// Whether the machine may network-boot from it.
    pub pxe_enabled: bool,
}

impl NodeView {
    /// A string of driver_info, `None` when absent, null or empty.
    #[must_use]
    pub fn driver_str(&self, key: &str) -> Option<&str> {
        self.driver_info.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// A string of instance_info, `None` when absent, null or empty.
    #[must_use]
    pub fn instance_str(&self, key: &str) -> Option<&str> {
        self.instance_info.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// A capability: instance_info wins over properties (deploy.md §B.10). `properties.capabilities` is
    /// `key:value,key:value`; `instance_info.capabilities` is an object or a JSON string of one.
    #[must_use]
    pub fn capability(&self, key: &str) -> Option<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned).or_else(|| Some(value.to_string()));
        let of_instance = match self.instance_info.get("capabilities") {
            Some(Value::Object(map)) => map.get(key).and_then(text),
            Some(Value::String(json)) => {
                serde_json::from_str::<Json>(json).ok().and_then(|map| map.get(key).and_then(text))
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => None,
        };
        of_instance.or_else(|| {
            let all = self.properties.get("capabilities")?.as_str()?;
            all.split(',').find_map(|pair| {
                let (name, value) = pair.split_once(':')?;
                (name.trim() == key).then(|| value.trim().to_owned())
            })
        })
    }

    /// BIOS or UEFI, in the order of deploy.md §B.10, `default` when nothing says.
    #[must_use]
    pub fn boot_mode(&self, default: BootMode) -> BootMode {
        if self.capability("secure_boot").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return BootMode::Uefi;
        }
        self.capability("boot_mode")
            .or_else(|| self.instance_str("deploy_boot_mode").map(str::to_owned))
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    }
}

/// A driver_info key with its description, as `GET /v1/drivers/{name}/properties` shows it.
pub type Property = (&'static str, &'static str);

/// What an interface of any kind has. Kinds that do nothing on request have nothing else (bios, firmware, inspect,
/// network, rescue, storage); what they do, they do in [`Steps`].
pub trait Interface: Send + Sync {
    /// The driver_info keys it reads.
    fn properties(&self) -> &'static [Property] {
        &[]
    }
    /// Checks the node's fields without touching the network.
    fn validate(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }
}

/// That the node's hardware type cannot do this, as Ironic words it.
#[must_use]
pub fn unsupported(node: &NodeView, what: &str) -> DriverError {
    DriverError::Unsupported { interface: node.driver.clone(), what: what.to_owned() }
}
