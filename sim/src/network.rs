//! What machines reach of the world outside: the API and boot servers, over HTTP or, in tests on a paused clock, by a
//! function call.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::agent::chain;

/// Calls of all machines that are under way at once; the others wait for a moment. Each holds two files of a process
/// that runs both ends.
const CALLS: usize = 256;
/// Connections that are kept for the next calls.
const IDLE: usize = 64;

/// A request of a machine's software. It may hold an agent's token.
#[derive(Clone)]
pub struct Call {
    /// Where to, with scheme and query.
    pub url: String,
    /// The API version that it speaks.
    pub version: Option<String>,
    /// `None`: a GET; else a POST of this.
    pub body: Option<Value>,
}

/// The answer to a [`Call`]. It may hold an agent's token.
#[derive(Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// Whether it is a 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The status in words.
    pub(crate) fn words(&self) -> String {
        hyper::StatusCode::from_u16(self.status).map_or_else(|_| self.status.to_string(), |it| it.to_string())
    }
}

/// The future of an answer; the error says in words why there is none.
pub type Replied<'a> = Pin<Box<dyn Future<Output = Result<Reply, String>> + Send + 'a>>;

/// Carries the calls of machines.
pub trait Network: Send + Sync {
    /// Carries one.
    fn call(&self, call: Call) -> Replied<'_>;
}

/// Over HTTP.
pub(crate) struct Http {
    client: reqwest::Client,
    calls: Semaphore,
}

impl Http {
    pub(crate) fn new(client: reqwest::Client) -> Self {
        Self { client, calls: Semaphore::new(CALLS) }
    }

    /// The client of all agents.
    pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
        reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .pool_max_idle_per_host(IDLE)
            .no_proxy()
            .build()
    }
}

impl Network for Http {
    fn call(&self, call: Call) -> Replied<'_> {
        Box::pin(async move {
            let _place = self.calls.acquire().await.map_err(|error| error.to_string())?;
            let Call { url, version, body } = call;
            let mut request = match &body {
                None => self.client.get(&url),
                Some(body) => self.client.post(&url).json(body),
            };
            if let Some(version) = version {
                request = request.header("X-OpenStack-Ironic-API-Version", version);
            }
            let answer = request.send().await.map_err(|error| chain(&error))?;
            let status = answer.status().as_u16();
            let body = answer.bytes().await.map_err(|error| chain(&error))?;
            Ok(Reply { status, body })
        })
    }
}
