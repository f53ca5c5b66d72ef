//! What an agent says to the API: lookup, heartbeat, status.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::null_default;

/// A string that never prints: tokens and passwords. On the wire it is a plain string.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself; for comparing and for the wire only.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True for the stand-in (`******`) that the API shows instead of a secret it has already handed out.
    pub fn is_masked(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b == b'*')
    }

    /// Equality whose running time does not depend on where the two differ.
    pub fn same_as(&self, other: &str) -> bool {
        let (a, b) = (self.0.as_bytes(), other.as_bytes());
        let mut differing = u8::from(a.len() != b.len());
        for (i, x) in a.iter().enumerate() {
            differing |= x ^ b.get(i).copied().unwrap_or(!x);
        }
        differing == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(******)")
    }
}

/// The answer of `GET /v1/lookup`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LookupResponse {
    /// The node whose ramdisk is asking.
    #[serde(deserialize_with = "null_default")]
    pub node: LookupNode,
    /// How the agent has to behave.
    #[serde(deserialize_with = "null_default")]
    pub config: LookupConfig,
}

/// The part of a node that a lookup shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LookupNode {
    /// The node's UUID, as text.
    #[serde(deserialize_with = "null_default")]
    pub uuid: String,
    /// `root_device` hints live here.
    #[serde(deserialize_with = "null_default")]
    pub properties: Map<String, Value>,
    /// What is being deployed; secrets masked.
    #[serde(deserialize_with = "null_default")]
    pub instance_info: Map<String, Value>,
    /// The conductor's own notes; secrets masked.
    #[serde(deserialize_with = "null_default")]
    pub driver_internal_info: Map<String, Value>,
    /// Self and bookmark.
    #[serde(deserialize_with = "null_default")]
    pub links: Vec<Value>,
}

/// The `config` of a lookup: api.md §9.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LookupConfig {
    /// Metrics settings of the agent; opaque here.
    #[serde(deserialize_with = "null_default")]
    pub metrics: Map<String, Value>,
    /// Statsd settings of the agent; opaque here.
    #[serde(deserialize_with = "null_default")]
    pub metrics_statsd: Map<String, Value>,
    /// Seconds after which a silent agent counts as lost; it beats at 0.3 to 0.6 of it.
    pub heartbeat_timeout: u64,
    /// Container settings; opaque here.
    #[serde(deserialize_with = "null_default")]
    pub agent_containers: Map<String, Value>,
    /// The token that both sides show from now on; masked after the first lookup; absent below 1.62.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_token: Option<Secret>,
    /// Whether heartbeats without the token are refused.
    #[serde(deserialize_with = "null_default")]
    pub agent_token_required: bool,
    /// Whether an md5 checksum is good enough; true when not said, as in Ironic.
    pub agent_md5_checksum_enable: bool,
    /// Whether the agent may skip looking into the image.
    #[serde(deserialize_with = "null_default")]
    pub disable_deep_image_inspection: bool,
    /// Image formats the agent may write (`raw`, `qcow2`, …); empty = its own choice.
    #[serde(deserialize_with = "null_default")]
    pub permitted_image_formats: Vec<String>,
    /// Whether the agent leaves the BMC alone.
    #[serde(deserialize_with = "null_default")]
    pub agent_skip_bmc_detect: bool,
    /// Whether a BIOS boot loader may be installed.
    #[serde(deserialize_with = "null_default")]
    pub enable_bios_bootloader_install: bool,
}

impl Default for LookupConfig {
    fn default() -> Self {
        Self {
            metrics: Map::new(),
            metrics_statsd: Map::new(),
            heartbeat_timeout: 300,
            agent_containers: Map::new(),
            agent_token: None,
            agent_token_required: false,
            agent_md5_checksum_enable: true,
            disable_deep_image_inspection: false,
            permitted_image_formats: Vec::new(),
            agent_skip_bmc_detect: false,
            enable_bios_bootloader_install: false,
        }
    }
}

/// The body of `POST /v1/heartbeat/{node}`. Keys that are `None` are left out: an older API refuses keys it does not know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    /// Where the agent serves its commands, `https://ip:9999`.
    #[serde(deserialize_with = "null_default")]
    pub callback_url: String,
    /// The token of the lookup (1.62).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_token: Option<Secret>,
    /// The agent's version (1.36).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// The agent's own certificate, PEM (1.68).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_verify_ca: Option<String>,
    /// Of agents that report rather than serve, as anaconda (1.72).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_status: Option<AgentStatus>,
    /// Words to `agent_status` (1.72).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_status_message: Option<String>,
}

/// What a reporting agent says about itself (1.72).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// The installation has begun.
    Start,
    /// The installation is complete.
    End,
    /// The installation failed; the message says why.
    Error,
}

/// The answer of the agent's `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentStatusBody {
    /// When the agent started, seconds since the epoch.
    pub started_at: Value,
    /// The agent's version.
    #[serde(deserialize_with = "null_default")]
    pub version: String,
}
