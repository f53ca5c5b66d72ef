//! The conductor's side of the agent protocol (deploy.md §B.3): commands over HTTP or HTTPS, token as a query
//! argument, the certificate of the heartbeat as the only one that is trusted.

use std::sync::Arc;
use std::time::Duration;

use ferric_agent_wire::{Command, CommandList, CommandRequest, CommandStatus, ErrorBody};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::error::DriverError;
use crate::interface::{AgentHandle, Result};

/// `[agent]` options that concern talking to agents.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// `command_timeout`: for one request.
    pub command_timeout: Duration,
    /// `max_command_attempts`: on connection errors.
    pub max_command_attempts: u32,
}

impl Default for AgentSettings {
    fn default() -> Self {
        AgentSettings { command_timeout: Duration::from_secs(60), max_command_attempts: 3 }
    }
}

/// Logs of a ramdisk are the longest thing that an agent has to tell.
const LONGEST_ANSWER: usize = 64 << 20;

/// Talks to the agents of all nodes. Cheap to clone.
#[derive(Clone)]
pub struct AgentClient {
    settings: AgentSettings,
    plain: reqwest::Client,
}

impl AgentClient {
    /// Needs rustls' process-wide crypto provider to be installed for `https` agents.
    pub fn new(settings: AgentSettings) -> Result<AgentClient> {
        let plain = reqwest::Client::builder()
            // an agent that sends us elsewhere would get a config drive posted to wherever it likes
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| broken("HTTP client", &error))?;
        Ok(AgentClient { settings, plain })
    }

    /// Starts a command. With `wait` the agent answers when it ended.
    pub async fn start(
        &self,
        agent: &AgentHandle,
        name: &str,
        params: Map<String, Value>,
        wait: bool,
    ) -> Result<Command> {
        let url = format!("{}/v1/commands/", agent.url.trim_end_matches('/'));
        let body = CommandRequest { name: name.to_owned(), params };
        let client = self.client(agent)?;
        let query = [("wait", if wait { "true" } else { "false" }), ("agent_token", agent.token.as_str())];
        let request = || client.post(&url).query(&query).json(&body);
        let command: Command = self.send(agent, name, request).await?;
        // other hardware managers than expected are an answer, not a failure: the caller asks for the steps again
        let mismatch = command.command_status == CommandStatus::CleanVersionMismatch;
        if let Some(error) = command.command_error.as_ref().filter(|_| !mismatch) {
            return Err(DriverError::AgentCommand { command: name.to_owned(), reason: worded(error) });
        }
        Ok(command)
    }

    /// All commands since the agent started, in start order.
    pub async fn list(&self, agent: &AgentHandle) -> Result<Vec<Command>> {
        let url = format!("{}/v1/commands/", agent.url.trim_end_matches('/'));
        let client = self.client(agent)?;
        let query = [("agent_token", agent.token.as_str())];
        let list: CommandList = self.send(agent, "list commands", || client.get(&url).query(&query)).await?;
        Ok(list.commands)
    }

    async fn send<T: serde::de::DeserializeOwned>(
        &self,
        agent: &AgentHandle,
        what: &str,
        request: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<T> {
        let mut tries = 0;
        let began = Instant::now();
        let answer = loop {
            tries += 1;
            match request().timeout(self.settings.command_timeout).send().await {
                Ok(answer) => break answer,
                // a POST that reached the agent must not be sent twice; one that never connected may
                Err(error) if error.is_connect() && tries < self.settings.max_command_attempts => {
                    tokio::time::sleep(Duration::from_millis(500 << tries)).await;
                }
                Err(error) => return Err(silent(agent, &error, began)),
            }
        };
        let status = answer.status();
        let bytes = self.read(agent, what, answer, began).await?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| DriverError::Refused {
                what: format!("agent at {}", agent.url),
                command: what.to_owned(),
                reason: format!("its answer cannot be read: {error}"),
            });
        }
        let body: ErrorBody = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.as_u16() == 409 || body.message.to_lowercase().contains("agent is busy") {
            return Err(DriverError::AgentBusy);
        }
        if status.as_u16() == 401 {
            return Err(DriverError::RejectedCredentials {
                what: format!("agent at {}", agent.url),
                remedy: "its token differs from the node's; reboot the node so that it looks up again".into(),
            });
        }
        Err(DriverError::Refused {
            what: format!("agent at {}", agent.url),
            command: what.to_owned(),
            reason: format!("HTTP {status}: {} {}", body.message, body.details).trim().to_owned(),
        })
    }

    /// The body, if it is of bearable size: the agent may run on anybody's machine.
    async fn read(
        &self,
        agent: &AgentHandle,
        what: &str,
        mut answer: reqwest::Response,
        began: Instant,
    ) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| silent(agent, &error, began))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST_ANSWER {
                return Err(DriverError::Refused {
                    what: format!("agent at {}", agent.url),
                    command: what.to_owned(),
                    reason: format!("its answer is longer than {LONGEST_ANSWER} bytes"),
                });
            }
        }
        Ok(bytes)
    }

    fn client(&self, agent: &AgentHandle) -> Result<reqwest::Client> {
        let Some(pem) = agent.verify_ca.as_deref().filter(|_| agent.url.starts_with("https:")) else {
            return Ok(self.plain.clone());
        };
        let provider = CryptoProvider::get_default()
            .cloned()
            .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
        let verifier = Pinned::new(pem, &provider)?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| broken("TLS set-up", &error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .tls_backend_preconfigured(config)
            .build()
            .map_err(|error| broken("TLS set-up", &error))
    }
}

fn silent(agent: &AgentHandle, error: &reqwest::Error, began: Instant) -> DriverError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    DriverError::Unreachable {
        what: format!("agent at {} ({cause})", agent.url),
        after: began.elapsed(),
        remedy: "check that the ramdisk still runs and that this host reaches its network".into(),
    }
}

fn broken(what: &str, error: &dyn std::error::Error) -> DriverError {
    DriverError::Refused { what: "this host".into(), command: what.into(), reason: error.to_string() }
}

/// What the agent said, in one line.
#[must_use]
pub fn worded(error: &ferric_agent_wire::CommandError) -> String {
    let mut text = error.message.trim().trim_end_matches('.').to_owned();
    let details = error.details.trim();
    if !details.is_empty() && !text.contains(details) {
        text = if text.is_empty() { details.to_owned() } else { format!("{text}: {details}") };
    }
    if text.is_empty() { error.kind.clone() } else { text }
}

/// Trusts one certificate: the one that the agent gave in its heartbeat (or what that one, being a CA, signed). The
/// name is not compared, an agent is known by address and token.
#[derive(Debug)]
struct Pinned {
    pinned: CertificateDer<'static>,
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn new(pem: &str, provider: &Arc<CryptoProvider>) -> Result<Pinned> {
        let invalid = |reason: String| DriverError::Invalid {
            section: "heartbeat",
            key: "agent_verify_ca".into(),
            reason,
        };
        let pinned = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| invalid(format!("not a PEM certificate: {error}")))?;
        let mut roots = rustls::RootCertStore::empty();
        let chain = roots.add(pinned.clone()).ok().and_then(|()| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().ok()
        });
        Ok(Pinned { pinned, chain, provider: provider.clone() })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if end_entity.as_ref() == self.pinned.as_ref() {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.chain {
            Some(chain) => chain.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            None => Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
