//! The little of Ironic's API that the demo uses, as any client would.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The microversion spoken.
const VERSION: &str = "1.90";
/// What is asked of a list of nodes.
const FIELDS: &str = "uuid,name,provision_state,last_error,deploy_step,clean_step";

/// A node as the demo sees it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Node {
    pub(super) uuid: String,
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) provision_state: Option<String>,
    #[serde(default)]
    pub(super) last_error: Option<String>,
    #[serde(default)]
    deploy_step: Option<Value>,
    #[serde(default)]
    clean_step: Option<Value>,
}

impl Node {
    /// Its provision state; microversions from 1.2 on always give one.
    pub(super) fn state(&self) -> &str {
        self.provision_state.as_deref().unwrap_or("available")
    }

    /// It is in another state now; what else is known of it was before.
    pub(super) fn moved(&mut self, to: String) {
        *self = Self {
            uuid: std::mem::take(&mut self.uuid),
            name: self.name.take(),
            provision_state: Some(to),
            ..Self::default()
        };
    }

    /// The name of the step under way.
    pub(super) fn step(&self) -> Option<String> {
        let name = |step: &'_ Option<Value>| step.as_ref()?.get("step")?.as_str().map(str::to_owned);
        name(&self.deploy_step).or_else(|| name(&self.clean_step))
    }
}

/// What is heard of nodes.
pub(super) enum Heard {
    /// A node changed its state.
    State { node: String, to: String },
    /// Something may have been missed.
    Lost,
}

/// An event of the stream, as far as it matters here.
#[derive(Deserialize)]
struct Event {
    node_uuid: Option<String>,
    data: EventData,
}

#[derive(Deserialize)]
struct EventData {
    to: Option<String>,
}

/// The longest line of the stream.
const LINE: usize = 1 << 20;

/// Reads a stream of events to its end; `last` becomes the number of the last one.
async fn listen(mut answer: reqwest::Response, heard: &mpsc::UnboundedSender<Heard>, last: &mut String) {
    let mut waiting = Vec::new();
    while let Ok(Some(bytes)) = answer.chunk().await {
        waiting.extend_from_slice(&bytes);
        let mut begin = 0;
        while let Some(len) = waiting[begin..].iter().position(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(&waiting[begin..begin + len]).unwrap_or_default();
            begin += len + 1;
            if let Some(id) = line.strip_prefix("id:") {
                id.trim().clone_into(last);
            }
            let event = line.strip_prefix("data:").and_then(|json| serde_json::from_str::<Event>(json).ok());
            let told = if let Some(Event { node_uuid: Some(node), data: EventData { to: Some(to) } }) = event
            {
                Heard::State { node, to }
            } else if line.starts_with("event: lag") {
                Heard::Lost
            } else {
                continue;
            };
            if heard.send(told).is_err() {
                return;
            }
        }
        waiting.drain(..begin);
        if waiting.len() > LINE {
            return;
        }
    }
}

#[derive(Deserialize)]
struct Page {
    nodes: Vec<Node>,
    next: Option<String>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// No answer.
    #[error("{what}: the API at {url} does not answer")]
    Silent { what: String, url: String, source: reqwest::Error },
    /// An answer that says no.
    #[error("{what}: {status}: {reason}")]
    Refused { what: String, status: StatusCode, reason: String },
    /// An answer that cannot be read.
    #[error("{what}: the answer cannot be read")]
    Unreadable { what: String, source: reqwest::Error },
}

impl ApiError {
    /// Whether the same request may go well a little later.
    fn is_transient(&self) -> bool {
        match self {
            ApiError::Silent { .. } => true,
            ApiError::Refused { status, .. } => {
                *status == StatusCode::SERVICE_UNAVAILABLE || *status == StatusCode::CONFLICT
            }
            ApiError::Unreadable { .. } => false,
        }
    }

    /// Whether the thing to be made is there already.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, ApiError::Refused { status: StatusCode::CONFLICT, .. })
    }
}

/// A client of Ferric's API. Cheap to clone.
#[derive(Clone)]
pub(super) struct Api {
    url: String,
    http: reqwest::Client,
}

impl Api {
    pub(super) fn new(url: &str) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).no_proxy().build()?;
        Ok(Self { url: url.to_owned(), http })
    }

    async fn once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<reqwest::Response, ApiError> {
        let what = || format!("{method} {}", path.split('?').next().unwrap_or(path));
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        let mut request =
            self.http.request(method.clone(), url).header("X-OpenStack-Ironic-API-Version", VERSION);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|source| ApiError::Silent {
            what: what(),
            url: self.url.clone(),
            source,
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        Err(ApiError::Refused { what: what(), status, reason: reason_of(&text) })
    }

    /// Tries again, as Ironic's clients do, while the node is busy or the API out of breath.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<reqwest::Response, ApiError> {
        let mut wait = Duration::from_millis(200);
        for _ in 0..5 {
            match self.once(&method, path, body.as_ref()).await {
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                other => return other,
            }
        }
        self.once(&method, path, body.as_ref()).await
    }

    /// Enrols a node; answers its id.
    pub(super) async fn create_node(&self, body: &Value) -> Result<String, ApiError> {
        let what = "POST /v1/nodes";
        let answer = self.once(&Method::POST, "/v1/nodes", Some(body)).await?;
        let node: Node =
            answer.json().await.map_err(|source| ApiError::Unreadable { what: what.to_owned(), source })?;
        Ok(node.uuid)
    }

    /// Gives a node a port.
    pub(super) async fn create_port(&self, node: &str, mac: &str) -> Result<(), ApiError> {
        let body = json!({"node_uuid": node, "address": mac, "pxe_enabled": true});
        self.once(&Method::POST, "/v1/ports", Some(&body)).await.map(drop)
    }

    /// `PUT …/states/provision`.
    pub(super) async fn provision(&self, node: &str, target: &str) -> Result<(), ApiError> {
        let path = format!("/v1/nodes/{node}/states/provision");
        self.ask(Method::PUT, &path, Some(json!({ "target": target }))).await.map(drop)
    }

    /// Takes the node out of maintenance: a failed cleaning puts it there.
    pub(super) async fn end_maintenance(&self, node: &str) -> Result<(), ApiError> {
        self.ask(Method::DELETE, &format!("/v1/nodes/{node}/maintenance"), None).await.map(drop)
    }

    /// Sets fields of instance_info.
    pub(super) async fn set_instance(&self, node: &str, fields: &[(&str, Value)]) -> Result<(), ApiError> {
        let patch: Vec<Value> = fields
            .iter()
            .map(|(key, value)| json!({"op": "add", "path": format!("/instance_info/{key}"), "value": value}))
            .collect();
        self.ask(Method::PATCH, &format!("/v1/nodes/{node}"), Some(Value::Array(patch))).await.map(drop)
    }

    /// Tells of every change of a node's state from now on, until nobody listens.
    pub(super) fn follow(&self) -> mpsc::UnboundedReceiver<Heard> {
        let (heard, receiver) = mpsc::unbounded_channel();
        let url = format!("{}/v1/ferric/events?kind=provision_set", self.url);
        tokio::spawn(async move {
            // one of its own: that of the others gives up after a while
            let Ok(client) = reqwest::Client::builder().no_proxy().build() else { return };
            let mut last = String::new();
            while !heard.is_closed() {
                let mut request = client.get(&url).header("X-OpenStack-Ironic-API-Version", VERSION);
                if !last.is_empty() {
                    request = request.header("Last-Event-ID", &last);
                }
                if let Ok(answer) = request.send().await.and_then(reqwest::Response::error_for_status) {
                    if last.is_empty() {
                        // what was before is in the list
                        let _ = heard.send(Heard::Lost);
                    }
                    listen(answer, &heard, &mut last).await;
                }
                // until then, the list
                let _ = heard.send(Heard::Lost);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        receiver
    }

    /// One node, by name or id.
    pub(super) async fn node(&self, ident: &str) -> Result<Node, ApiError> {
        let what = "GET /v1/nodes/…".to_owned();
        let answer = self.ask(Method::GET, &format!("/v1/nodes/{ident}"), None).await?;
        answer.json().await.map_err(|source| ApiError::Unreadable { what, source })
    }

    /// Every node.
    pub(super) async fn nodes(&self) -> Result<Vec<Node>, ApiError> {
        let mut path = format!("/v1/nodes?fields={FIELDS}&limit=1000");
        let mut all = Vec::new();
        loop {
            let answer = self.ask(Method::GET, &path, None).await?;
            let what = "GET /v1/nodes".to_owned();
            let page: Page = answer.json().await.map_err(|source| ApiError::Unreadable { what, source })?;
            all.extend(page.nodes);
            match page.next {
                Some(next) => path = next,
                None => return Ok(all),
            }
        }
    }
}

/// The words of an Ironic error body: `error_message` is a string that holds JSON.
fn reason_of(text: &str) -> String {
    let inner = serde_json::from_str::<Value>(text)
        .ok()
        .and_then(|body| body.get("error_message").cloned())
        .and_then(|message| match message {
            Value::String(inner) => serde_json::from_str::<Value>(&inner).ok(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Some(message)
            }
        });
    let words = inner.as_ref().and_then(|body| {
        ["faultstring", "description", "title"]
            .iter()
            .find_map(|key| body.get(key)?.as_str())
            .map(str::to_owned)
    });
    words.unwrap_or_else(|| text.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::reason_of;

    #[test]
    fn the_words_of_an_ironic_error_are_found_in_either_shape() {
        let a = r#"{"error_message": "{\"faultcode\": \"Client\", \"faultstring\": \"no\", \"debuginfo\": null}"}"#;
        assert_eq!(reason_of(a), "no");
        let b =
            r#"{"error_message": "{\"code\": 404, \"title\": \"Not Found\", \"description\": \"gone\"}"}"#;
        assert_eq!(reason_of(b), "gone");
        assert_eq!(reason_of("plain"), "plain");
    }
}
