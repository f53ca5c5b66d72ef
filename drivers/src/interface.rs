//! The traits behind a node's `*_interface` fields, and the data that they share.
//!
//! Implementations are stateless towards the node: they get a [`NodeView`] and answer; what must survive is
//! written by the node's actor. They never block: I/O is async, files and databases go to `spawn_blocking`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ferric_machine::{Activity, BootDevice, BootMode, PowerState, PowerTarget, State};
use serde_json::{Map, Value};
use uuid::Uuid;

pub use crate::error::DriverError;
use crate::registry::Bound;

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
    /// Deploying.
    Deploy,
    /// Cleaning.
    Clean,
    /// Inspecting: the kernel line tells the agent where to send what it found.
    Inspect,
    /// Rescuing: `rescue_kernel` and `rescue_ramdisk`.
    Rescue,
    /// Servicing.
    Service,
}

impl RamdiskPurpose {
    /// Whether `rescue_kernel` and `rescue_ramdisk` are booted instead of `deploy_kernel` and `deploy_ramdisk`.
    #[must_use]
    pub const fn is_rescue(self) -> bool {
        matches!(self, RamdiskPurpose::Rescue)
    }
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
    /// The same for a ramdisk of this purpose: the rescue ramdisk has kernel and image of its own.
    fn validate_ramdisk(&self, node: &NodeView, _purpose: RamdiskPurpose) -> Result<()> {
        self.validate(node)
    }
    /// The boot device that leads to what `prepare_ramdisk` laid out.
    fn ramdisk_device(&self) -> BootDevice;
    /// Lays out everything that the machine will fetch. Idempotent: running it again gives the same files.
    async fn prepare_ramdisk(&self, node: &NodeView, params: &RamdiskParams) -> Result<()>;
    /// Takes away what `prepare_ramdisk` or `prepare_instance` laid out. Idempotent.
    async fn clean_up_ramdisk(&self, node: &NodeView) -> Result<()>;
    /// Lays out what an instance that boots over the network will fetch. Idempotent.
    async fn prepare_instance(&self, _node: &NodeView, boot: &InstanceBoot, _mode: BootMode) -> Result<()> {
        Err(DriverError::Unsupported {
            interface: "boot".into(),
            what: format!("booting an instance as {boot:?}"),
        })
    }
}

/// How an instance boots that does not boot from its disk (deploy interfaces `ramdisk` and `anaconda`). Kept in
/// driver_internal_info as `instance_boot`, so that it can be laid out again after a restart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InstanceBoot {
    /// Path or URL of the kernel.
    pub kernel: String,
    /// Path or URL of the initial ramdisk.
    pub ramdisk: String,
    /// Kernel arguments, in order.
    pub kernel_args: Vec<String>,
}

/// What a step may ask of the node's other actors: asks fall deploy → boot → power.
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
    /// Lays out an instance that boots over the network and makes that its boot device, persistently.
    async fn boot_from_network(&self, boot: InstanceBoot) -> Result<()>;
    /// Whether the machine must never be switched off (`disable_power_off`): then `set_power(Off)` leaves it on, and
    /// the `set_power(On)` that follows restarts it.
    fn keeps_power(&self) -> bool {
        false
    }
    /// The node's children (`parent_node`).
    async fn children(&self) -> Result<Vec<Child>>;
    /// Brings a child to `target`, under the child's own lock.
    async fn set_child_power(&self, child: Uuid, target: PowerTarget) -> Result<()>;
}

/// A node whose `parent_node` is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its id.
    pub uuid: Uuid,
    /// Its name.
    pub name: Option<String>,
    /// `driver_info.has_dedicated_power_supply`: it does not lose power with its parent.
    pub own_power: bool,
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
    /// The interfaces that the node works with.
    pub bound: Arc<Bound>,
    /// Which work the step is part of.
    pub activity: Activity,
    /// The step itself.
    pub step: Arc<Step>,
    /// The node's agent, if one called.
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
#[derive(Clone, Debug, PartialEq)]
pub enum StepOutcome {
    /// It is complete; the next one may begin.
    Done,
    /// It is complete and found something that is to be stored with its end, in one commit.
    Found(Box<Found>),
    /// It goes on in the ramdisk; the next heartbeat asks again through [`Steps::poll`].
    Wait(Progressed),
    /// Nothing goes on until the operator says `unhold`; then the next step begins.
    Hold,
}

/// What a step leaves behind when it is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Merged into driver_internal_info; null takes a key away.
    pub keep: Json,
    /// The steps that follow this one, in order, instead of those planned so far.
    pub next: Option<Vec<Step>>,
    /// New values of the node's fields.
    pub node: Vec<NodeChange>,
    /// Ports to create. An address that the node has already is left alone.
    pub ports: Vec<FoundPort>,
    /// Ports of the node to change.
    pub ports_changed: Vec<PortChange>,
    /// Ports of the node to take away, by their id.
    pub ports_gone: Vec<Uuid>,
    /// What an inspection found, for `GET …/inventory`: `inventory` and `plugin_data`.
    pub inventory: Option<(Json, Json)>,
}

/// A field of the node with its new, whole value.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeChange {
    /// `properties`.
    Properties(Json),
    /// `extra`.
    Extra(Json),
    /// `driver_info`, unmasked.
    DriverInfo(Json),
    /// `instance_info`, unmasked.
    InstanceInfo(Json),
    /// `raid_config`.
    RaidConfig(Json),
    /// `resource_class`.
    ResourceClass(Option<String>),
    /// `description`.
    Description(Option<String>),
    /// `name`.
    Name(Option<String>),
    /// Traits, all of them.
    Traits(Vec<String>),
    /// `power_state`, as read from the BMC.
    Power(PowerState),
}

/// A port that an inspection found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundPort {
    /// MAC address, lower case, with colons.
    pub address: String,
    /// Whether the machine may network-boot from it.
    pub pxe_enabled: bool,
    /// `extra`.
    pub extra: Json,
    /// `local_link_connection`.
    pub local_link_connection: Json,
    /// `physical_network`.
    pub physical_network: Option<String>,
}

/// New, whole values of a port's fields; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortChange {
    /// The port's id.
    pub uuid: Uuid,
    /// Whether the machine may network-boot from it.
    pub pxe_enabled: Option<bool>,
    /// `extra`.
    pub extra: Option<Json>,
    /// `local_link_connection`.
    pub local_link_connection: Option<Json>,
    /// `physical_network`; the inner `None` takes it away.
    pub physical_network: Option<Option<String>>,
}

/// A step that is under way in the ramdisk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progressed {
    /// How far it is.
    pub progress: Progress,
    /// What the step wants to find again after a restart, e.g. the agent's command id.
    pub checkpoint: Option<String>,
}

/// Who carries a step out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepSource {
    /// One of the node's interfaces, from the conductor.
    Interface,
    /// The agent in the ramdisk.
    Agent,
    /// The conductor itself: reserved steps, and the parts of the work around the steps, which clients do not see.
    Conductor,
}

impl StepSource {
    /// Its word in the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StepSource::Interface => "interface",
            StepSource::Agent => "agent",
            StepSource::Conductor => "conductor",
        }
    }
}

impl std::str::FromStr for StepSource {
    type Err = ferric_machine::UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, Self::Err> {
        match word {
            "interface" => Ok(StepSource::Interface),
            "agent" => Ok(StepSource::Agent),
            "conductor" => Ok(StepSource::Conductor),
            _ => Err(ferric_machine::UnknownWord { what: "step source", word: word.to_owned() }),
        }
    }
}

/// A step as it is declared, and as it is planned.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Interface that runs it, e.g. `deploy`.
    pub interface: String,
    /// Its name, e.g. `write_image`.
    pub step: String,
    /// Higher runs first (states.md §4); 0 runs only when asked for.
    pub priority: i32,
    /// Whether an abort may interrupt it.
    pub abortable: bool,
    /// How it is taken up again after a crash.
    pub resume: Resume,
    /// Who carries it out.
    pub source: StepSource,
    /// What it is run with.
    pub args: Json,
    /// What it may be run with: name → `{description, required}`.
    pub argsinfo: Json,
    /// Whether it needs a running ramdisk.
    pub requires_ramdisk: bool,
}

impl Step {
    /// A step of an interface that may be run again after a crash and takes no arguments.
    #[must_use]
    pub fn new(interface: impl Into<String>, step: impl Into<String>, priority: i32) -> Step {
        Step {
            interface: interface.into(),
            step: step.into(),
            priority,
            abortable: false,
            resume: Resume::Rerun,
            source: StepSource::Interface,
            args: Json::new(),
            argsinfo: Json::new(),
            requires_ramdisk: true,
        }
    }

    /// A part of the work that the conductor does itself.
    #[must_use]
    pub fn conductor(step: impl Into<String>) -> Step {
        Step { source: StepSource::Conductor, requires_ramdisk: false, ..Step::new("conductor", step, 0) }
    }

    /// Its arguments are what an inspection sent, with rules that may be sensitive: not kept once it is over.
    #[must_use]
    pub fn is_bulky(&self) -> bool {
        self.interface == "inspect" && self.step == crate::inspect::PROCESS
    }

    /// The reserved step `wait`: without `seconds` only a call of the agent ends it.
    #[must_use]
    pub fn is_bare_wait(&self) -> bool {
        self.source == StepSource::Conductor && self.step == "wait"
    }

    /// Whether clients see it as the running step: the conductor's own parts are not steps of Ironic's.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.source != StepSource::Conductor || self.step.parse::<ferric_machine::steps::Reserved>().is_ok()
    }
}

impl ferric_machine::steps::Ranked for Step {
    fn interface(&self) -> &str {
        &self.interface
    }

    fn priority(&self) -> i32 {
        self.priority
    }
}

/// How a step that was under way is taken up after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Running it again does no harm.
    Rerun,
    /// The ramdisk went on meanwhile: look at it with `poll`.
    Reattach,
}

/// Whatever carries out steps: an interface, the agent.
#[async_trait]
pub trait Steps: Send + Sync {
    /// Checks the node's fields for this work without touching the network.
    fn validate_for(&self, _node: &NodeView, _activity: Activity) -> Result<()> {
        Ok(())
    }
    /// The steps it has for this work, in any order.
    fn steps(&self, node: &NodeView, activity: Activity) -> Vec<Step>;
    /// Runs `context.step`.
    async fn execute(&self, context: &StepContext) -> Result<StepOutcome>;
    /// Looks at a step that answered [`StepOutcome::Wait`], or that was under way with [`Resume::Reattach`].
    async fn poll(&self, context: &StepContext) -> Result<StepOutcome>;
    /// Whether work of this kind can be stopped while it waits (inspection only).
    fn can_abort(&self) -> bool {
        true
    }
}

/// What an agent offers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentOffer {
    /// Its steps for the work asked about; [`StepSource::Agent`].
    pub steps: Vec<Step>,
    /// `hardware_manager_version`.
    pub version: Json,
    /// Interface and name of those steps after which the machine must boot the ramdisk anew (`reboot_requested`).
    pub reboot_after: Vec<(String, String)>,
}

/// The steps that agents carry out.
#[async_trait]
pub trait AgentSteps: Steps {
    /// Asks the agent of `context` what it can do for `context.activity`.
    async fn offer(&self, context: &StepContext) -> Result<AgentOffer>;
    /// The ramdisk's logs as a tar.gz; `None` where there are none to be had.
    async fn logs(&self, _context: &StepContext) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

/// Puts an image onto a machine. Its steps for [`Activity::Deploy`] are those of deploy.md §B.1; for
/// [`Activity::TearDown`] and [`Activity::Adopt`] it has `tear_down` and `take_over`.
#[async_trait]
pub trait DeployInterface: Steps {
    /// The driver_info keys it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks instance_info without touching the network.
    fn validate(&self, node: &NodeView) -> Result<()>;
    /// Whether an agent in a ramdisk takes part in this work. Deploying: when there is something for it to do
    /// (an image to write, or itself to be switched off at the end).
    fn uses_agent(&self, node: &NodeView, activity: Activity) -> bool {
        activity != Activity::Deploy
            || self
                .steps(node, Activity::Deploy)
                .iter()
                .any(|step| matches!(step.step.as_str(), "write_image" | "tear_down_agent"))
    }
    /// Checks what only the network can tell (does the image exist?) before the machine is touched, and gives
    /// the keys to remember in driver_internal_info for the steps to come.
    async fn prepare(&self, node: &NodeView) -> Result<Json>;
    /// Takes away what it serves or keeps for this deployment, and leaves the machine alone.
    async fn forget(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }
    /// After a failure or an abort: leaves the machine as the configuration wants it (off by default).
    async fn clean_up(&self, context: &StepContext) -> Result<()>;
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

impl std::str::FromStr for Kind {
    type Err = ferric_machine::UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, Self::Err> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| ferric_machine::UnknownWord { what: "interface", word: word.to_owned() })
    }
}

/// Interface names by kind, as chosen by the client or resolved.
pub type Chosen = BTreeMap<Kind, String>;
