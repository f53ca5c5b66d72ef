//! What the outside (web, sim, src) may ask of a node's actor. Inner messages stand beside their receivers.

mod hardware;

use std::collections::BTreeMap;
use std::time::Duration;

use actix::Message;
use ferric_drivers::Secret;
use ferric_drivers::flow::Asked;
use ferric_drivers::interface::{Json, Kind};
pub use ferric_drivers::network::VifAsk;
use ferric_machine::{BootDevice, PowerTarget, Verb};
use ferric_schema::allocations::Allocation;
use ferric_schema::{Node, Port};
use uuid::Uuid;

pub use self::hardware::*;
use crate::error::NodeError;

/// An edit of a node; what it refuses is not written.
pub type NodeEdit = Box<dyn FnOnce(&mut Node) -> Result<(), NodeError> + Send>;

/// An edit of a port, with its node at hand.
pub type PortEdit = Box<dyn FnOnce(&mut Port, &Node) -> Result<(), NodeError> + Send>;

/// The node as its actor sees it now.
#[derive(Message)]
#[rtype(result = "Result<Node, NodeError>")]
pub struct Describe;

/// `PUT …/states/provision`. Answers after the transition is committed; the work follows.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct Provision {
    /// What is asked.
    pub verb: Verb,
    /// Text (URL or base64 of a gzipped image) or an object to be built into one.
    pub configdrive: Option<serde_json::Value>,
    /// What is asked for in particular; `Wanted::default()` where the verb takes none of it.
    pub wanted: Wanted,
}

/// The particulars of a verb.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// clean_steps and service_steps (of the body or of a runbook), deploy_steps, and the steps of the deploy templates
    /// that the instance's traits name.
    pub steps: Vec<Asked>,
    /// Boot no ramdisk for them.
    pub disable_ramdisk: bool,
    /// Already hashed (`[conductor] rescue_password_hash_algorithm`).
    pub rescue_password: Option<Secret<String>>,
    /// Who asks: the lines of the node's history name them.
    pub by: By,
}

/// Who asked for something, as far as the API knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// Keystone's id of the user, or a name in a password file.
    pub user: Option<String>,
    /// The project that the user spoke for.
    pub project: Option<String>,
}

/// `POST /v1/continue_inspection`, after the web has found the node. Answers once it is in the journal.
#[derive(Default, Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct ContinueInspection {
    /// What the agent found: `inventory`.
    pub inventory: Json,
    /// The rest of its body (`root_disk`, `boot_interface`, `error`, …).
    pub plugin_data: Json,
    /// The inspection rules of the API, by priority, as stored: `{uuid, phase, conditions, actions, …}`.
    pub rules: Vec<serde_json::Value>,
    /// The node's traits, which stand in a table of their own.
    pub traits: Vec<String>,
    /// What the inspection before found: `inventory`.
    pub previous_inventory: Option<Json>,
}

/// How far something is, as `/v1/ferric/events` tells it besides what is in the events table: this is not stored.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Told {
    /// The node.
    pub node: Option<Uuid>,
    /// When.
    pub at: ferric_machine::Timestamp,
    /// `progress`.
    pub kind: String,
    /// INFO, WARNING or ERROR.
    pub severity: String,
    /// For people.
    pub text: String,
    /// For programs.
    pub data: Json,
}

/// `PUT …/states/power`. Answers after the request is committed; the BMC is asked afterwards.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct ChangePower {
    /// What is asked.
    pub target: PowerTarget,
    /// How long the machine may take; the configured time when absent.
    pub timeout: Option<Duration>,
}

/// Changes fields of the row: `apply` edits a copy under the node's lock; what it refuses is not written.
#[derive(Message)]
#[rtype(result = "Result<Node, NodeError>")]
pub struct Update {
    /// The edit. It must check its own rules and may not touch state, power, reservation or generation.
    pub apply: NodeEdit,
    /// Recompute interfaces that do not fit a changed driver instead of refusing.
    pub reset_interfaces: bool,
}

/// `PUT` or `DELETE …/maintenance`.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct SetMaintenance {
    /// In or out of maintenance.
    pub on: bool,
    /// For people.
    pub reason: Option<String>,
}

/// `GET …/validate`.
#[derive(Message)]
#[rtype(result = "Result<BTreeMap<Kind, Verdict>, NodeError>")]
pub struct Validate;

/// What an interface says of a node's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `None`: the interface has nothing to validate.
    pub result: Option<bool>,
    /// Why not, for `false` and `None`.
    pub reason: Option<String>,
}

/// `GET …/management/boot_device`.
#[derive(Message)]
#[rtype(result = "Result<(Option<BootDevice>, Option<bool>), NodeError>")]
pub struct GetBootDevice;

/// `GET …/management/boot_device/supported`.
#[derive(Message)]
#[rtype(result = "Result<Vec<BootDevice>, NodeError>")]
pub struct SupportedBootDevices;

/// `PUT …/management/boot_device`.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct SetBootDevice {
    /// Where to boot from, in the client's word: which there are is the interface's to say.
    pub device: String,
    /// For every boot instead of the next.
    pub persistent: bool,
}

/// `GET /v1/lookup`, after the web has found the node by id or MAC. Answers the token: the real one to the first
/// caller, `******` later (api.md §9). Refuses with `NotFound` outside LOOKUP_ALLOWED.
#[derive(Message)]
#[rtype(result = "Result<LookedUp, NodeError>")]
pub struct Lookup {
    /// Whether the caller's microversion knows tokens (≥ 1.62).
    pub wants_token: bool,
}

/// What a ramdisk learns of its node. Secrets are masked already.
#[derive(Debug, Clone)]
pub struct LookedUp {
    /// The node's id.
    pub uuid: Uuid,
    /// Its properties.
    pub properties: Json,
    /// Its instance_info, masked.
    pub instance_info: Json,
    /// Its driver_internal_info, masked.
    pub driver_internal_info: Json,
    /// The agent token or `******`; `None` below 1.62.
    pub agent_token: Option<String>,
    /// Seconds between heartbeats at the most (`[api] ramdisk_heartbeat_timeout`).
    pub heartbeat_timeout: Duration,
}

/// `POST /v1/heartbeat/{node}`.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct Heartbeat {
    /// Where the agent listens.
    pub callback_url: String,
    /// The token of the lookup.
    pub agent_token: Option<String>,
    /// The agent's version.
    pub agent_version: Option<String>,
    /// Its self-signed certificate, PEM.
    pub agent_verify_ca: Option<String>,
    /// start, end or error (1.72).
    pub agent_status: Option<String>,
    /// Goes with it.
    pub agent_status_message: Option<String>,
}

/// `DELETE /v1/nodes/{node}`.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct DeleteNode;

/// `PUT` or `DELETE …/traits`.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NodeError>")]
pub enum ChangeTraits {
    /// Exactly these.
    Set(Vec<String>),
    /// One more; it may be there already.
    Add(String),
    /// One less; it must be there.
    Remove(String),
}

/// Reserves the node for an allocation that looks for one: `instance_uuid` and the allocation change together.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct Reserve {
    /// For which.
    pub allocation: Box<Allocation>,
    /// It is not stored yet, and is for the instance that the node has already, instead of for a new one.
    pub backfill: bool,
    /// The node's traits, for a backfill.
    pub traits: Vec<String>,
}

/// Takes the allocation of that id from the node.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct Release(pub Uuid);

/// `POST …/vifs`.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct AttachVif(pub VifAsk);

/// `DELETE …/vifs/{id}`.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct DetachVif(pub String);

/// `POST /v1/ports`.
#[derive(Message)]
#[rtype(result = "Result<Port, NodeError>")]
pub struct CreatePort {
    /// The port.
    pub port: Port,
    /// Whether the client says that the node may boot from it; without a word it may, too, but that suits any port group.
    pub asked_to_boot: bool,
}

/// `PATCH /v1/ports/{port}`; `apply` as in [`Update`], it also sees the node.
#[derive(Message)]
#[rtype(result = "Result<Port, NodeError>")]
pub struct UpdatePort {
    /// Which.
    pub port: Uuid,
    /// The edit.
    pub apply: PortEdit,
}

/// `DELETE /v1/ports/{port}`.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct DeletePort(pub Uuid);

/// A hardware type with what is enabled for it, for `GET /v1/drivers`.
#[derive(Debug, Clone)]
pub struct DriverInfo {
    /// Its name.
    pub name: String,
    /// Whether it is a classic driver, whose interfaces nobody chooses.
    pub classic: bool,
    /// Conductor hosts that serve it.
    pub hosts: Vec<String>,
    /// Interface used when a node names none, by kind.
    pub defaults: BTreeMap<Kind, Option<String>>,
    /// Interfaces that may be chosen, by kind.
    pub enabled: BTreeMap<Kind, Vec<String>>,
    /// driver_info keys with their descriptions, sorted.
    pub properties: Vec<(String, String)>,
}
