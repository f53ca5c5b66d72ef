//! The agent's life: find the node, serve commands, keep beating.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ferric_agent_wire::{Heartbeat, LookupConfig, LookupNode, Secret};
use reqwest::{Client, Url};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::api::{Api, ApiError};
use crate::command::Commands;
use crate::console::say;
use crate::disk::{self, Disk};
use crate::image::hash::Expected;
use crate::iscsi::Iscsi;
use crate::options::Options;
use crate::partition::layout::Layout;
use crate::partition::tool;
use crate::server::{self, Identity};
use crate::settle::{Patience, Watch};
use crate::{VERSION, error, inspect};

/// Bounds of the pause between lookups.
const LOOKUP_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Bounds of the pause after a heartbeat that failed.
const BEAT_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Time for the last answer to leave before the agent does.
const BEFORE_LEAVING: Duration = Duration::from_secs(1);

/// The file in the state folder that holds the token.
const TOKEN: &str = "ferric-agent.token";

/// Refused heartbeats in a row after which the node is looked up again.
const REFUSALS: u32 = 3;

/// What the lookup told.
#[derive(Clone, Debug)]
pub struct Session {
    /// Our node.
    pub node: LookupNode,
    /// How to behave.
    pub config: LookupConfig,
    /// The token both sides show.
    pub token: Option<Secret>,
}

/// A completely written image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What it hashed to.
    pub expected: Expected,
    /// Where it is.
    pub disk: Disk,
    /// The partitions around it; None for a whole-disk image.
    pub layout: Option<Layout>,
    /// SHA-256 of the config drive, if there is one.
    pub drive: Option<[u8; 32]>,
    /// Whether something was changed in it since.
    pub touched: bool,
}

/// Why the agent gave up.
#[derive(Debug, Error)]
pub enum AgentError {
    /// No command port.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No certificate.
    #[error("cannot make a certificate")]
    Certificate {
        /// Why.
        #[from]
        source: server::IdentityError,
    },
    /// No HTTP client.
    #[error("cannot set up the HTTP client")]
    Client {
        /// Why.
        source: reqwest::Error,
    },
    /// The node was not found in time.
    #[error("this machine's node was not found within {} s", .waited.as_secs())]
    NotFound {
        /// How long was tried.
        waited: Duration,
        /// The last answer.
        source: ApiError,
    },
}

/// What all parts of the agent share.
pub struct Agent {
    /// What it was told.
    pub options: Options,
    /// The commands of this boot.
    pub commands: Arc<Commands>,
    /// For images and the API.
    pub client: Client,
    /// The disks of the machine.
    pub disks: Arc<Watch>,
    /// What it exports.
    pub iscsi: Iscsi,
    /// Seconds since the epoch.
    pub started_at: f64,
    session: RwLock<Option<Session>>,
    written: Mutex<Option<Written>>,
    inspected: OnceLock<String>,
    leaving: Notify,
    locked_down: AtomicBool,
}

impl Agent {
    /// The node and the token, once known.
    pub fn session(&self) -> Option<Session> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The image that is completely on a disk.
    pub fn written(&self) -> Option<Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the agent, API and heartbeats, once the answer to the present command is out.
    pub fn leave(&self) {
        self.leaving.notify_one();
    }

    /// The same, and for good: the machine leaves the network and waits for its reset.
    pub fn lock_down(&self) {
        self.locked_down.store(true, Ordering::SeqCst);
        self.leave();
    }

    /// The image on the disk is about to be changed: it is not what was written any more.
    pub fn touch_written(&self) {
        if let Some(written) = &mut *self.written.lock().unwrap_or_else(PoisonError::into_inner) {
            written.touched = true;
        }
    }

    /// Remembers or forgets it, and forgets what came by iSCSI.
    pub fn set_written(&self, written: Option<Written>) {
        self.iscsi.forget();
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = written;
    }
}

/// Runs until the process ends. Errors: what cannot be overcome by waiting.
pub async fn run(options: Options) -> Result<(), AgentError> {
    // a second call in one process (tests) finds the provider already there
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = client(options.insecure).map_err(|source| AgentError::Client { source })?;
    let address = options.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| AgentError::Listen { address, source })?;
    let port = listener.local_addr().map_err(|source| AgentError::Listen { address, source })?.port();
    let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    // folders of files have no disks that come late
    let patience = if options.machine { Patience::MACHINE } else { Patience::default() };
    let disks = Arc::new(Watch::new(options.sys.clone(), options.dev.clone(), patience));
    tokio::spawn(disks.clone().keep_looking());
    let agent = Arc::new(Agent {
        options,
        disks,
        commands: Arc::new(Commands::default()),
        client,
        iscsi: Iscsi::default(),
        started_at,
        session: RwLock::new(None),
        written: Mutex::new(None),
        inspected: OnceLock::new(),
        leaving: Notify::new(),
        locked_down: AtomicBool::new(false),
    });
    if let Some(uuid) = inspect::run(&agent).await {
        agent.inspected.get_or_init(|| uuid);
    }
    if !agent.options.has_api() {
        say("inspection is all that was asked for: waiting to be switched off");
        return std::future::pending().await;
    }
    let api = find_node(&agent).await?;
    let ip = agent.options.advertise.unwrap_or_else(|| local_ip(api.url()));
    let identity = if agent.options.tls { Some(Identity::new(ip)?) } else { None };
    let scheme = if identity.is_some() { "https" } else { "http" };
    let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    let beat = Heartbeat {
        callback_url: format!("{scheme}://{host}:{port}"),
        agent_version: Some(VERSION.to_owned()),
        agent_verify_ca: identity.as_ref().map(|identity| identity.pem.clone()),
        ..Heartbeat::default()
    };
    say(format!("serving {}", beat.callback_url));
    let serving = agent.clone();
    tokio::select! {
        () = server::serve(listener, identity, serving) => Ok(()),
        outcome = keep_beating(&agent, api, beat) => outcome,
        () = agent.leaving.notified() => {
            // the port is closed by now; answers on their way out have this long
            tokio::time::sleep(BEFORE_LEAVING).await;
            let _ = std::fs::remove_file(agent.options.state.join(TOKEN));
            if agent.locked_down.load(Ordering::SeqCst) {
                say("locked down: nothing more is done before the machine is reset");
                if agent.options.machine {
                    network_down(&agent.options.sys).await;
                }
                // who starts ended agents again must not start this one
                return std::future::pending().await;
            }
            say("the agent leaves");
            Ok(())
        }
    }
}

/// Switches every network card off, with the ramdisk's own tool.
async fn network_down(sys: &std::path::Path) {
    for card in std::fs::read_dir(sys.join("class/net")).into_iter().flatten().flatten() {
        let Some(ip) = tool::find_applet("ip") else { return tracing::warn!("no tool: all cards stay up") };
        let mut ip = tokio::process::Command::from(std::process::Command::from(ip));
        match ip.args(["link", "set"]).arg(card.file_name()).arg("down").status().await {
            Ok(status) if status.success() => {}
            outcome => tracing::warn!(card = ?card.file_name(), ?outcome, "the card stays up"),
        }
    }
}

fn client(insecure: bool) -> Result<Client, reqwest::Error> {
    let builder = || {
        Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .tcp_keepalive(Duration::from_secs(15))
            .pool_idle_timeout(Duration::from_secs(20))
            .user_agent(VERSION)
            .tls_danger_accept_invalid_certs(insecure)
    };
    // a ramdisk without any certificate authority can still speak plain HTTP
    builder().build().or_else(|error| {
        tracing::warn!(error = %error::chain(&error), "no certificate authorities: only http works");
        builder().tls_certs_only([]).build()
    })
}

/// The address of ours that routes towards the API.
fn local_ip(api: &str) -> IpAddr {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let target = Url::parse(api).ok().and_then(|url| {
        let port = url.port_or_known_default().unwrap_or(80);
        url.socket_addrs(|| Some(port)).ok()?.into_iter().next()
    });
    let Some(target) = target else { return loopback };
    let any: SocketAddr = if target.is_ipv6() { ([0; 16], 0).into() } else { ([0; 4], 0).into() };
    UdpSocket::bind(any)
        .and_then(|socket| {
            socket.connect(target)?;
            socket.local_addr()
        })
        .map_or(loopback, |address| address.ip())
}

/// Looks the node up until it is found. A masked token means that this boot already had one: ours, if we kept it.
async fn find_node(agent: &Agent) -> Result<Api, AgentError> {
    let options = &agent.options;
    let began = Instant::now();
    let mut pause = LOOKUP_PAUSE.0.min(options.limits.back_off * 2);
    for round in 0_usize.. {
        let url = &options.api_urls[round % options.api_urls.len()];
        let error = match look_up(agent, url).await {
            Ok((api, session)) => {
                let version = api.server_version();
                say(format!("lookup node={} api={}.{}", session.node.uuid, version.0, version.1));
                *agent.session.write().unwrap_or_else(PoisonError::into_inner) = Some(session);
                return Ok(api);
            }
            Err(error) => error,
        };
        let waited = began.elapsed();
        if options.limits.lookup.is_some_and(|limit| waited >= limit) {
            return Err(AgentError::NotFound { waited, source: error });
        }
        say(format!("lookup failed: {}", error::chain(&error)));
        tokio::time::sleep(jitter(pause)).await;
        pause = (pause * 2).min(LOOKUP_PAUSE.1);
    }
    unreachable!("the rounds do not end")
}

async fn look_up(agent: &Agent, url: &str) -> Result<(Api, Session), ApiError> {
    let options = &agent.options;
    let macs = disk::macs(&options.sys, options.boot_mac.as_deref());
    let api = Api::discover(agent.client.clone(), url).await?;
    let node = agent.inspected.get().or(options.node_uuid.as_ref());
    let found = api.lookup(&macs, node.map(String::as_str)).await?;
    let kept = options.state.join(TOKEN);
    let token = match found.config.agent_token.clone().filter(|token| !token.reveal().is_empty()) {
        Some(token) if !token.is_masked() => {
            keep_secret(&kept, token.reveal());
            Some(token)
        }
        Some(_) => {
            let old = std::fs::read_to_string(&kept).ok().map(Secret::new).or_else(|| options.token.clone());
            if old.is_none() {
                say("the API has already given the token of this boot to someone else: waiting for a reset");
                return Err(ApiError::Refused { status: 403, text: "the token is masked".to_owned() });
            }
            old
        }
        None if found.config.agent_token_required && options.token.is_none() => {
            let text = "the API wants a token shown and has given none".to_owned();
            return Err(ApiError::Refused { status: 403, text });
        }
        None => options.token.clone(),
    };
    Ok((api, Session { node: found.node, config: found.config, token }))
}

/// Keeps the token for an agent restarted within this boot; without it only a reset of the machine would help.
fn keep_secret(path: &std::path::Path, secret: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let kept = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    if let Err(error) = kept.and_then(|mut file| file.write_all(secret.as_bytes())) {
        tracing::warn!(%error, "the token could not be kept for a restart of the agent");
    }
}

async fn keep_beating(agent: &Agent, mut api: Api, beat: Heartbeat) -> Result<(), AgentError> {
    let mut failures = 0;
    let mut refusals = 0;
    let mut first = true;
    loop {
        let session = agent.session().expect("find_node() has set the session");
        let now = Heartbeat { agent_token: session.token.clone(), ..beat.clone() };
        let wait = match api.heartbeat(&session.node.uuid, &now).await {
            Ok(()) => {
                if first {
                    say("heartbeat accepted");
                }
                (first, failures, refusals) = (false, 0, 0);
                interval(agent, session.config.heartbeat_timeout)
            }
            Err(error) => {
                failures += 1;
                refusals = if matches!(error, ApiError::Refused { .. }) { refusals + 1 } else { 0 };
                say(format!("heartbeat failed: {}", error::chain(&error)));
                if refusals >= REFUSALS {
                    refusals = 0;
                    api = find_node(agent).await?;
                }
                (BEAT_PAUSE.0 * (1 << failures.min(5))).min(BEAT_PAUSE.1)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(jitter(wait)) => {}
            () = agent.commands.next_finished() => {}
        }
    }
}

/// 0.45 of the server's timeout; with the jitter between 0.3 and 0.6 of it.
fn interval(agent: &Agent, timeout_seconds: u64) -> Duration {
    let set = agent.options.limits.heartbeat;
    set.unwrap_or_else(|| Duration::from_secs_f64(timeout_seconds.clamp(2, 86_400) as f64 * 0.45))
}

/// Two thirds to four thirds of a duration.
fn jitter(of: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    of.mul_f64(2.0 / 3.0 + f64::from(random) / f64::from(u32::MAX) * 2.0 / 3.0)
}
