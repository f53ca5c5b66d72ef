//! Serial consoles: one serial line over LAN per node, one who types and many who watch, over plain TCP and over
//! [`Attachment`]s (which the API's WebSocket is made of).

mod hub;
mod interface;
mod line;
mod tcp;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::hub::{Attachment, Crowded, Told, Unheard};
pub use self::interface::{ALLOCATED_PORT, IpmitoolSocat};

use self::hub::Hub;
use self::line::Keeper;
use crate::error::DriverError;
use crate::interface::Result;
use crate::protocol::ipmi::{IpmiClient, IpmiSettings, Target};

/// Longest wait for a console to close, and for all of them at the end of the process.
const CLOSING: Duration = Duration::from_secs(3);

/// `[console]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// `socat_address`: where the TCP ports are; also in `console_info`.
    pub address: IpAddr,
    /// `port_range`: ports for nodes without `ipmi_terminal_port`; the ends are not used, as in Ironic. Empty: none.
    pub port_ranges: Vec<Range<u16>>,
    /// `terminal_timeout`: TCP clients are let go when nothing is said for so long; `None`: never.
    pub terminal_timeout: Option<Duration>,
    /// `subprocess_timeout`: the longest that opening the serial line may take.
    pub open_timeout: Duration,
    /// Wait before a line that broke is opened again; it doubles with each failure.
    pub reconnect_first: Duration,
    /// Longest wait between two tries.
    pub reconnect_max: Duration,
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            port_ranges: Vec::new(),
            terminal_timeout: Some(Duration::from_secs(600)),
            open_timeout: Duration::from_secs(10),
            reconnect_first: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(60),
        }
    }
}

/// An open console.
struct Console {
    hub: Arc<Hub>,
    port: u16,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Console {
    /// Ends it: clients are told why, the BMC is told, the port is free when this is over.
    async fn close(self, why: &str) {
        self.hub.close(why);
        self.stop.cancel();
        let all = async {
            for task in self.tasks {
                let _ = task.await;
            }
        };
        if timeout(CLOSING, all).await.is_err() {
            tracing::warn!(port = self.port, "a serial console did not close in time");
        }
    }
}

/// Why a port cannot be had.
fn port_busy(address: IpAddr, port: u16, reason: &str) -> DriverError {
    DriverError::Io {
        path: format!("TCP port {port} of {address}"),
        reason: format!(
            "{reason}; free it, or give the node another ipmi_terminal_port (or none, and a [console] port_range)"
        ),
    }
}

struct Inner {
    settings: ConsoleSettings,
    ipmi: IpmiSettings,
    client: Arc<IpmiClient>,
    runtime: Handle,
    /// Opening and closing of one node's console exclude each other.
    consoles: Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<Option<Console>>>>>,
    /// Whose ports are taken by consoles of ours.
    ports: Mutex<HashMap<u16, Uuid>>,
}

/// Every console of this process. Clones are the same.
#[derive(Clone)]
pub struct Consoles {
    inner: Arc<Inner>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Consoles {
    /// No console is open yet. Sockets and tasks live on `runtime`, which must outlast their use.
    #[must_use]
    pub fn new(settings: ConsoleSettings, client: Arc<IpmiClient>, runtime: Handle) -> Self {
        let ipmi = client.settings().clone();
        let (consoles, ports) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { settings, ipmi, client, runtime, consoles, ports }) }
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &ConsoleSettings {
        &self.inner.settings
    }

    fn slot(&self, node: Uuid) -> Arc<tokio::sync::Mutex<Option<Console>>> {
        locked(&self.inner.consoles).entry(node).or_default().clone()
    }

    /// Opens a node's console: its TCP port, then its serial line. An open one is closed first. `port`: the one to use;
    /// `preferred`: one of the ranges that it had before. Gives the port.
    ///
    /// # Errors
    /// The port is taken, no port of the ranges is free, or the serial line cannot be opened in time. Nothing is left
    /// open.
    pub async fn open(
        &self,
        node: Uuid,
        target: Target,
        port: Option<u16>,
        preferred: Option<u16>,
    ) -> Result<u16> {
        let this = self.clone();
        let task =
            self.inner.runtime.spawn(async move { this.open_here(node, target, port, preferred).await });
        task.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn open_here(
        &self,
        node: Uuid,
        target: Target,
        port: Option<u16>,
        preferred: Option<u16>,
    ) -> Result<u16> {
        let slot = self.slot(node);
        let mut slot = slot.lock().await;
        if let Some(old) = slot.take() {
            self.give_back(old.port, node);
            old.close("the console is opened anew").await;
        }
        let listener = match port {
            Some(port) => self.take(node, port).await?,
            None => self.allocate(node, preferred).await?,
        };
        let port = listener
            .local_addr()
            .map_err(|error| port_busy(self.inner.settings.address, 0, &error.to_string()))?;
        let port = port.port();
        let (hub, input) = Hub::new();
        let stop = CancellationToken::new();
        let (first, outcome) = oneshot::channel();
        let settings = self.inner.settings.clone();
        let idle = settings.terminal_timeout;
        let longest = settings.open_timeout * 2;
        let keeper = Keeper {
            hub: hub.clone(),
            target: target.clone(),
            client: self.inner.client.clone(),
            ipmi: self.inner.ipmi.clone(),
            settings,
            stop: stop.clone(),
        };
        let tasks = vec![
            self.inner.runtime.spawn(keeper.run(input, first)),
            self.inner.runtime.spawn(tcp::serve(listener, hub.clone(), idle, stop.clone())),
        ];
        // whoever ordered it may give up waiting: nothing must stay behind then
        let mut guard = Closing(Some((self.clone(), node, Console { hub, port, stop, tasks })));
        let outcome = timeout(longest, outcome).await;
        let Some((_, _, console)) = guard.0.take() else { return Err(gone()) };
        let failure = match outcome {
            Ok(Ok(Ok(()))) => {
                *slot = Some(console);
                return Ok(port);
            }
            Ok(Ok(Err(error))) => error,
            Ok(Err(_)) => gone(),
            Err(_) => DriverError::Unreachable {
                what: target.name(),
                after: longest,
                remedy:
                    "its serial line could not be opened in time; allow more by [console] subprocess_timeout"
                        .into(),
            },
        };
        self.give_back(port, node);
        console.close("the serial line cannot be opened").await;
        Err(failure)
    }

    /// Closes a node's console; that there is none is no error. The port is free afterwards.
    pub async fn close(&self, node: Uuid, why: &'static str) {
        let this = self.clone();
        let task = self.inner.runtime.spawn(async move { this.close_here(node, why).await });
        if task.await.is_err() {
            tracing::debug!("the runtime ended before a console was closed");
        }
    }

    async fn close_here(&self, node: Uuid, why: &str) {
        let Some(slot) = locked(&self.inner.consoles).get(&node).cloned() else { return };
        let mut console = slot.lock().await;
        if let Some(console) = console.take() {
            let port = console.port;
            console.close(why).await;
            self.give_back(port, node);
        }
        drop(console);
        // nobody waits for it: the map does not grow with nodes that are gone
        let mut consoles = locked(&self.inner.consoles);
        if Arc::strong_count(&slot) == 2 {
            consoles.remove(&node);
        }
    }

    /// Closes all, at the end of the process. Takes three seconds at the most.
    pub async fn shutdown(&self) {
        let nodes: Vec<Uuid> = locked(&self.inner.consoles).keys().copied().collect();
        let closing: Vec<_> = nodes
            .into_iter()
            .map(|node| {
                let this = self.clone();
                self.inner
                    .runtime
                    .spawn(async move { this.close_here(node, "Ferric is shutting down").await })
            })
            .collect();
        let all = async {
            for task in closing {
                let _ = task.await;
            }
        };
        let _ = timeout(CLOSING + Duration::from_millis(500), all).await;
    }

    /// The port of a node's console; `None` while none is open.
    pub async fn port(&self, node: Uuid) -> Option<u16> {
        let slot = locked(&self.inner.consoles).get(&node).cloned()?;
        let console = slot.lock().await;
        console.as_ref().map(|console| console.port)
    }

    /// Whether a node's console is open, or is being opened or closed just now.
    #[must_use]
    pub fn is_open(&self, node: Uuid) -> bool {
        let slot = locked(&self.inner.consoles).get(&node).cloned();
        slot.is_some_and(|slot| slot.try_lock().map_or(true, |console| console.is_some()))
    }

    /// How the line of a node's console is, in words; `None` while none is open or one is being opened.
    #[must_use]
    pub fn state(&self, node: Uuid) -> Option<Arc<str>> {
        let slot = locked(&self.inner.consoles).get(&node).cloned()?;
        let console = slot.try_lock().ok()?;
        console.as_ref().map(|console| console.hub.state())
    }

    /// Attaches to a node's console. `wants`: to type as soon as nobody else does. `None` while none is open.
    ///
    /// # Errors
    /// Too many are attached.
    pub async fn attach(&self, node: Uuid, wants: bool) -> Option<std::result::Result<Attachment, Crowded>> {
        let slot = locked(&self.inner.consoles).get(&node).cloned()?;
        let console = slot.lock().await;
        console.as_ref().map(|console| console.hub.attach(wants))
    }

    async fn bind(&self, port: u16) -> std::io::Result<TcpListener> {
        TcpListener::bind(SocketAddr::new(self.inner.settings.address, port)).await
    }

    fn give_back(&self, port: u16, node: Uuid) {
        let mut ports = locked(&self.inner.ports);
        if ports.get(&port) == Some(&node) {
            ports.remove(&port);
        }
    }

    /// The port that a node asks for.
    async fn take(&self, node: Uuid, port: u16) -> Result<TcpListener> {
        let busy = |reason: &str| port_busy(self.inner.settings.address, port, reason);
        let holder = *locked(&self.inner.ports).entry(port).or_insert(node);
        if holder != node {
            return Err(busy(&format!("the console of node {holder} has it")));
        }
        self.bind(port).await.map_err(|error| {
            self.give_back(port, node);
            busy(&error.to_string())
        })
    }

    /// A free port of the ranges: `preferred` if it can be had, else the first.
    async fn allocate(&self, node: Uuid, preferred: Option<u16>) -> Result<TcpListener> {
        let ranges = &self.inner.settings.port_ranges;
        let preferred = preferred.filter(|port| ranges.iter().any(|range| range.contains(port)));
        for port in preferred.into_iter().chain(ranges.iter().cloned().flatten()) {
            {
                let mut ports = locked(&self.inner.ports);
                if ports.contains_key(&port) {
                    continue;
                }
                ports.insert(port, node);
            }
            match self.bind(port).await {
                Ok(listener) => return Ok(listener),
                Err(_) => self.give_back(port, node),
            }
        }
        Err(DriverError::Io {
            path: format!("a TCP port of {}", self.inner.settings.address),
            reason: "no port of [console] port_range is free: make it wider, or close consoles".into(),
        })
    }
}

/// Closes a console that nobody waits for any more.
struct Closing(Option<(Consoles, Uuid, Console)>);

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some((consoles, node, console)) = self.0.take() {
            consoles.give_back(console.port, node);
            console.hub.close("opening it was given up");
            console.stop.cancel();
        }
    }
}

fn gone() -> DriverError {
    DriverError::Io {
        path: "the serial console".into(),
        reason: "its task ended while it was opened; see the log, and enable the console again".into(),
    }
}

/// The address of a console, as `console_info` has it.
fn url(address: IpAddr, port: u16) -> String {
    format!("tcp://{}", SocketAddr::new(address, port))
}
