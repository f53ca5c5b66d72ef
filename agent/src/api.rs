//! The conductor's API as an agent uses it: discovery, lookup, heartbeat. clients.md §4.

use std::time::Duration;

use ferric_agent_wire::{HEARTBEAT_VERSION, Heartbeat, LOOKUP_VERSION, LookupResponse};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use thiserror::Error;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// The most that is read of an answer.
const ANSWER_BYTES: usize = 1 << 20;

/// A microversion, (major, minor).
pub type Version = (u16, u16);

/// Why the API did not do it.
#[derive(Debug, Error)]
pub enum ApiError {
    /// Nobody answered.
    #[error("the API at {url} cannot be reached")]
    Unreachable {
        /// Its address.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No node has one of our MACs, or it does not wait for a ramdisk.
    #[error("the API knows no node for this machine (404)")]
    Unknown,
    /// The node is locked; later.
    #[error("the node is locked (409)")]
    Locked,
    /// The API refused, most likely because of the token.
    #[error("the API refused ({status}): {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        text: String,
    },
    /// The API is in trouble; later.
    #[error("the API failed ({status})")]
    Failed {
        /// HTTP status.
        status: u16,
    },
    /// The answer is not what it should be.
    #[error("the API's answer makes no sense: {0}")]
    Nonsense(String),
}

/// One API.
#[derive(Clone)]
pub struct Api {
    client: Client,
    url: String,
    server: Version,
}

impl Api {
    /// Asks the API for its highest microversion. Errors: [`ApiError::Unreachable`], [`ApiError::Failed`].
    pub async fn discover(client: Client, url: &str) -> Result<Self, ApiError> {
        let api = Self { client, url: url.trim_end_matches('/').to_owned(), server: LOOKUP_VERSION };
        let body = api.text(api.client.get(format!("{}/", api.url))).await?;
        let root: Value = serde_json::from_str(&body).unwrap_or_default();
        let found = root["default_version"]["version"]
            .as_str()
            .or_else(|| root["version"]["version"].as_str())
            .or_else(|| root["versions"].as_array()?.first()?["version"].as_str());
        let server = found.and_then(parse).unwrap_or((1, 22));
        Ok(Self { server, ..api })
    }

    /// The API's highest microversion.
    pub fn server_version(&self) -> Version {
        self.server
    }

    /// The API's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Which node is this? Errors: every [`ApiError`].
    pub async fn lookup(&self, macs: &[String], node: Option<&str>) -> Result<LookupResponse, ApiError> {
        let mut query = vec![("addresses", macs.join(","))];
        if let Some(uuid) = node {
            query.push(("node_uuid", uuid.to_owned()));
        }
        let request = self.client.get(format!("{}/v1/lookup", self.url)).query(&query);
        let body = self.text(self.versioned(request, LOOKUP_VERSION)).await?;
        let found: LookupResponse =
            serde_json::from_str(&body).map_err(|error| ApiError::Nonsense(error.to_string()))?;
        if found.node.uuid.is_empty() {
            return Err(ApiError::Nonsense("a lookup without a node".to_owned()));
        }
        Ok(found)
    }

    /// I am alive. What the negotiated version does not know is left out. Errors: every [`ApiError`].
    pub async fn heartbeat(&self, node: &str, beat: &Heartbeat) -> Result<(), ApiError> {
        let version = self.server.min(HEARTBEAT_VERSION);
        let mut beat = beat.clone();
        if version < (1, 68) {
            beat.agent_verify_ca = None;
        }
        if version < (1, 62) {
            beat.agent_token = None;
        }
        if version < (1, 36) {
            beat.agent_version = None;
        }
        let request = self.client.post(format!("{}/v1/heartbeat/{node}", self.url)).json(&beat);
        self.text(self.versioned(request, HEARTBEAT_VERSION)).await.map(drop)
    }

    fn versioned(&self, request: RequestBuilder, highest: Version) -> RequestBuilder {
        let (major, minor) = self.server.min(highest);
        request
            .header("X-OpenStack-Ironic-API-Version", format!("{major}.{minor}"))
            .header("OpenStack-API-Version", format!("baremetal {major}.{minor}"))
    }

    async fn text(&self, request: RequestBuilder) -> Result<String, ApiError> {
        let unreachable = |source| ApiError::Unreachable { url: self.url.clone(), source };
        let answer = request
            .header("Accept", "application/json")
            .timeout(REQUEST)
            .send()
            .await
            .map_err(unreachable)?;
        let status = answer.status();
        let text = text_of(answer).await.map_err(unreachable)?;
        match status {
            _ if status.is_success() => Ok(text),
            StatusCode::NOT_FOUND => Err(ApiError::Unknown),
            StatusCode::CONFLICT => Err(ApiError::Locked),
            _ if status.is_client_error() => {
                Err(ApiError::Refused { status: status.as_u16(), text: text.chars().take(500).collect() })
            }
            _ => Err(ApiError::Failed { status: status.as_u16() }),
        }
    }
}

/// The text of an answer, of which [`ANSWER_BYTES`] are read at most: a longer one makes no sense anyway.
pub(crate) async fn text_of(mut answer: Response) -> Result<String, reqwest::Error> {
    let mut text = Vec::new();
    while let Some(bytes) = answer.chunk().await? {
        text.extend_from_slice(&bytes[..bytes.len().min(ANSWER_BYTES - text.len())]);
        if text.len() == ANSWER_BYTES {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn parse(version: &str) -> Option<Version> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
