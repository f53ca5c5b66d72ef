//! Steps: how work is cut up, who carries it out, and the interfaces that are nothing but steps.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use ferric_machine::{Activity, PowerState, PowerTarget};
use uuid::Uuid;

use super::{
    DriverError, Found, InstanceBoot, Json, NodeView, Property, RamdiskParams, RamdiskPurpose, Result,
    VendorMethod,
};
use crate::registry::Bound;

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
    /// How far a step is that runs in the conductor: shown at once. A checkpoint that differs from the last is in the
    /// journal when this returns, and given to the step again after a restart. A step's time limit counts from its last
    /// report. An error says that the checkpoint is not kept, or that the node has gone on to something else.
    async fn report(&self, _progressed: Progressed) -> Result<()> {
        Ok(())
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
    /// Whether the boot interface has to be fit for use, too, before this work is accepted (inspection only).
    fn requires_boot(&self) -> bool {
        false
    }
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
    /// Whether the boot interface has to be fit for use, too, for a deployment to be possible.
    fn needs_boot(&self) -> bool {
        true
    }
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
    /// What it adds to the kernel line of the ramdisk that deploys, in order (`key=value` or a bare word).
    fn kernel_params(&self, _node: &NodeView, _boot: &RamdiskParams) -> Vec<String> {
        Vec::new()
    }
    /// The vendor methods that its ramdisks call; all of them POST and [`Level::Node`](super::Level::Node).
    fn vendor_methods(&self) -> &'static [VendorMethod] {
        &[]
    }
    /// A ramdisk calls one of [`DeployInterface::vendor_methods`]. Judged in the node's turn; what it gives is merged into
    /// driver_internal_info (null deletes) before the call is answered, then the step that waits is looked at. A ramdisk
    /// that has no agent is known by [`RAMDISK_CALLED`](super::RAMDISK_CALLED). `peer` is whose connection the call came
    /// over; `None` when it came over none. A wrong key is refused as
    /// [`WRONG_DEPLOY_KEY`](super::WRONG_DEPLOY_KEY).
    fn ramdisk_calls(
        &self,
        _node: &NodeView,
        method: &VendorMethod,
        _args: &Json,
        _peer: Option<IpAddr>,
    ) -> Result<Json> {
        Err(DriverError::InvalidParameter { reason: format!("No handler for method {}", method.name) })
    }
}
