//! The traits behind a node's `*_interface` fields, and the data that they share.
//!
//! Implementations are stateless towards the node: they get a [`NodeView`] and answer; what must survive is
//! written by the node's actor. They never block: I/O is async, files and databases go to `spawn_blocking`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ferric_machine::{BootDevice, BootMode, PowerState, PowerTarget, State};
use serde_json::{Map, Value};
use uuid::Uuid;

pub use crate::error::DriverError;

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

/// Switches a machine on and off.
#[async_trait]
pub trait PowerInterface: Send + Sync {
    /// The driver_info keys it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks driver_info without touching the network.
    fn validate(&self, node: &NodeView) -> Result<()>;
    /// The power targets it can reach.
    fn supported(&self) -> &'static [PowerTarget];
    /// What the governor serialises on, e.g. `ipmi:10.0.0.7:623`; `None` when there is no BMC.
    fn bmc(&self, node: &NodeView) -> Option<String>;
    /// Asks for the power state.
    async fn power_state(&self, node: &NodeView) -> Result<PowerState>;
    /// Brings the machine to `target` and waits until the BMC reports it, at most `within`.
    async fn set_power(&self, node: &NodeView, target: PowerTarget, within: Duration) -> Result<PowerState>;
}

/// Tells a machine where to boot from.
#[async_trait]
pub trait ManagementInterface: Send + Sync {
    /// The driver_info keys it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks driver_info without touching the network.
    fn validate(&self, node: &NodeView) -> Result<()>;
    /// The devices that can be set; empty when it cannot set any (`noop`).
    fn supported_boot_devices(&self) -> &'static [BootDevice];
    /// The device set now and whether it is persistent; `None` for what the BMC does not tell.
    async fn boot_device(&self, node: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)>;
    /// Sets the device for the next boot, or for every boot with `persistent`.
    async fn set_boot_device(
        &self,
        node: &NodeView,
        device: BootDevice,
        persistent: bool,
        mode: BootMode,
    ) -> Result<()>;
}

/// Which ramdisk work a machine is booted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RamdiskPurpose {
    /// Deploying, cleaning, inspecting, servicing: `deploy_kernel` and `deploy_ramdisk`.
    Deploy,
    /// Rescuing: `rescue_kernel` and `rescue_ramdisk`.
    Rescue,
}

/// What the ramdisk is started with.
#[derive(Clone, Debug)]
pub struct RamdiskParams {
    /// For which work.
    pub purpose: RamdiskPurpose,
    /// Firmware interface of this boot.
    pub boot_mode: BootMode,
    /// Base URL of the API as the ramdisk reaches it (`ipa-api-url`), without `/v1`.
    pub api_url: String,
    /// Further kernel arguments, in order (`key=value` or a bare word).
    pub kernel_args: Vec<String>,
}

/// Makes a machine boot a ramdisk, or its own disk again.
#[async_trait]
pub trait BootInterface: Send + Sync {
    /// The driver_info keys it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks driver_info, ports and files without touching the machine.
    fn validate(&self, node: &NodeView) -> Result<()>;
    /// The boot device that leads to what `prepare_ramdisk` laid out.
    fn ramdisk_device(&self) -> BootDevice;
    /// Lays out everything that the machine will fetch. Idempotent: running it again gives the same files.
    async fn prepare_ramdisk(&self, node: &NodeView, params: &RamdiskParams) -> Result<()>;
    /// Takes away what `prepare_ramdisk` laid out. Idempotent.
    async fn clean_up_ramdisk(&self, node: &NodeView) -> Result<()>;
}

/// What the steps of a deploy may ask of the node's other actors: asks fall deploy → boot → power.
#[async_trait]
pub trait Asks: Send + Sync {
    /// The node's power state, from the BMC.
    async fn power_state(&self) -> Result<PowerState>;
    /// Brings the node to `target`.
    async fn set_power(&self, target: PowerTarget) -> Result<PowerState>;
    /// Lays out the ramdisk, sets the boot device and restarts the node into it.
    async fn boot_ramdisk(&self, purpose: RamdiskPurpose) -> Result<()>;
    /// Takes away the ramdisk's files and sets the boot device to the disk, persistently.
    async fn boot_from_disk(&self) -> Result<()>;
    /// Takes away the ramdisk's files.
    async fn clean_up_ramdisk(&self) -> Result<()>;
}

/// Where the node's agent is and how to talk to it; from the last heartbeat.
#[derive(Clone)]
pub struct AgentHandle {
    /// `callback_url` of the heartbeat.
    pub url: String,
    /// The node's agent token.
    pub token: String,
    /// PEM certificate that the agent gave (`agent_verify_ca`).
    pub verify_ca: Option<String>,
}

impl std::fmt::Debug for AgentHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentHandle").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a step gets to work with.
#[derive(Clone)]
pub struct StepContext {
    /// The node when the step began.
    pub node: Arc<NodeView>,
    /// Its agent, if one called.
    pub agent: Option<AgentHandle>,
    /// The way to its other actors.
    pub asks: Arc<dyn Asks>,
    /// True when the step was under way before a restart of the process or a lost answer.
    pub resumed: bool,
    /// What the step itself left in the journal before (see [`Progressed::checkpoint`]).
    pub checkpoint: Option<String>,
}

/// How far a step is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// What it is doing, for people: "writing image".
    pub doing: String,
    /// Bytes done, where the work is counted in bytes.
    pub bytes_done: Option<u64>,
    /// Bytes in all, where known.
    pub bytes_total: Option<u64>,
}

/// What became of a step, or of a look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// It is complete; the next one may begin.
    Done,
    /// It goes on in the ramdisk; the next heartbeat asks again through [`DeployInterface::poll`].
    Wait(Progressed),
}

/// A step that is under way in the ramdisk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progressed {
    /// How far it is.
    pub progress: Progress,
    /// What the step wants to find again after a restart, e.g. the agent's command id.
    pub checkpoint: Option<String>,
}

/// A step as a deploy interface declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeployStep {
    /// Interface that runs it, e.g. `deploy`.
    pub interface: &'static str,
    /// Its name, e.g. `write_image`.
    pub step: &'static str,
    /// Higher runs first (states.md §4).
    pub priority: i32,
    /// Whether an abort may interrupt it.
    pub abortable: bool,
    /// How it is taken up again after a crash.
    pub resume: Resume,
}

/// How a step that was under way is taken up after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Running it again does no harm.
    Rerun,
    /// The ramdisk went on meanwhile: look at it with `poll`.
    Reattach,
}

/// Puts an image onto a machine.
#[async_trait]
pub trait DeployInterface: Send + Sync {
    /// The driver_info keys it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks instance_info without touching the network.
    fn validate(&self, node: &NodeView) -> Result<()>;
    /// Checks what only the network can tell (does the image exist?) before the machine is touched, and gives
    /// the keys to remember in driver_internal_info for the steps to come.
    async fn prepare(&self, node: &NodeView) -> Result<Json>;
    /// The steps of a deployment, in any order.
    fn steps(&self, node: &NodeView) -> Vec<DeployStep>;
    /// Runs one step.
    async fn execute(&self, step: &str, context: &StepContext) -> Result<StepOutcome>;
    /// Looks at a step that answered [`StepOutcome::Wait`].
    async fn poll(&self, step: &str, context: &StepContext) -> Result<StepOutcome>;
    /// After a failure or an abort: leaves the machine as the configuration wants it (off by default).
    async fn clean_up(&self, context: &StepContext) -> Result<()>;
    /// Takes the instance away from the machine: power off, boot files removed.
    async fn tear_down(&self, context: &StepContext) -> Result<()>;
}

/// The kinds of interface a node has a field for, in the order of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the names are Ironic's own
pub enum Kind {
    Bios,
    Boot,
    Console,
    Deploy,
    Firmware,
    Inspect,
    Management,
    Network,
    Power,
    Raid,
    Rescue,
    Storage,
    Vendor,
}

impl Kind {
    /// All thirteen.
    pub const ALL: [Kind; 13] = [
        Kind::Bios,
        Kind::Boot,
        Kind::Console,
        Kind::Deploy,
        Kind::Firmware,
        Kind::Inspect,
        Kind::Management,
        Kind::Network,
        Kind::Power,
        Kind::Raid,
        Kind::Rescue,
        Kind::Storage,
        Kind::Vendor,
    ];

    /// The word before `_interface`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Bios => "bios",
            Kind::Boot => "boot",
            Kind::Console => "console",
            Kind::Deploy => "deploy",
            Kind::Firmware => "firmware",
            Kind::Inspect => "inspect",
            Kind::Management => "management",
            Kind::Network => "network",
            Kind::Power => "power",
            Kind::Raid => "raid",
            Kind::Rescue => "rescue",
            Kind::Storage => "storage",
            Kind::Vendor => "vendor",
        }
    }
}

/// Interface names by kind, as chosen by the client or resolved.
pub type Chosen = BTreeMap<Kind, String>;
