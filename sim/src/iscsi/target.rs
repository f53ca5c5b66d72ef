//! The target as a whole: its portal, its connections, its account of them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::login::{Agreed, Login, take};
use super::session::Session;
use super::settings::{TargetFaults, TargetOptions, TargetStats};
use super::store::Store;

/// The most violations that are remembered.
const REMEMBERED: usize = 100;

/// A session's initiator and its own id.
type Key = (String, [u8; 6]);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) options: TargetOptions,
    pub(crate) store: Arc<Store>,
    faults: Mutex<TargetFaults>,
    stats: watch::Sender<TargetStats>,
    /// Normal sessions by initiator and its session id, and how to end them.
    sessions: Mutex<HashMap<Key, Arc<Notify>>>,
    tsih: AtomicU16,
    /// Bytes to be written that came in.
    pub(crate) received: AtomicU64,
    /// Commands that came in.
    pub(crate) commands: AtomicU64,
    /// How often power failed. Held while a command is carried out.
    pub(crate) crashes: Mutex<u64>,
}

impl Shared {
    pub(crate) fn faults(&self) -> MutexGuard<'_, TargetFaults> {
        self.faults.lock().expect("no code panics while it holds a target's faults")
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut TargetStats)) {
        self.stats.send_modify(change);
    }

    pub(crate) fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        tracing::debug!(what, "an iSCSI initiator breaks the standard");
        self.count(|stats| {
            if stats.violations.len() < REMEMBERED {
                stats.violations.push(what);
            }
        });
    }

    pub(crate) fn next_tsih(&self) -> u16 {
        self.tsih.fetch_add(1, Ordering::Relaxed).max(1)
    }

    /// A normal session begins: one of the same initiator and id ends.
    fn enter<'a>(&'a self, agreed: &Agreed) -> Entered<'a> {
        let key = (agreed.initiator.clone(), agreed.isid);
        let end = Arc::new(Notify::new());
        let mut sessions = self.sessions.lock().expect("no code panics while it holds the sessions");
        let old = sessions.insert(key.clone(), end.clone());
        self.count(|stats| {
            stats.logins += 1;
            stats.logged_in += 1;
            stats.most_logged_in = stats.most_logged_in.max(stats.logged_in - u64::from(old.is_some()));
            stats.reinstated += u64::from(old.is_some());
        });
        if let Some(old) = old {
            old.notify_one();
        }
        Entered { shared: self, key, end }
    }
}

/// A session that is logged in, for as long as it is.
struct Entered<'a> {
    shared: &'a Shared,
    key: Key,
    end: Arc<Notify>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut sessions = self.shared.sessions.lock().expect("no code panics while it holds the sessions");
        if sessions.get(&self.key).is_some_and(|end| Arc::ptr_eq(end, &self.end)) {
            sessions.remove(&self.key);
        }
        self.shared.count(|stats| stats.logged_in -= 1);
    }
}

/// A connection that is open, for as long as it is.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.count(|stats| stats.open -= 1);
    }
}

/// A running target. It ends, and all its connections with it, when it is dropped.
pub struct Target {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Target {
    /// Listens on `address` (port 0 takes a free one) and serves `store` as its disk. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// The system's, when the socket cannot be had.
    pub async fn start(address: SocketAddr, options: TargetOptions, store: Arc<Store>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            options,
            store,
            faults: Mutex::default(),
            stats: watch::Sender::new(TargetStats::default()),
            sessions: Mutex::default(),
            tsih: AtomicU16::new(1),
            received: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            crashes: Mutex::new(0),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { shared, address, task })
    }

    /// Its portal.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name.
    #[must_use]
    pub fn iqn(&self) -> &str {
        &self.shared.options.iqn
    }

    /// Its disk.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    /// From now on, this goes wrong.
    pub fn set_faults(&self, faults: TargetFaults) {
        *self.shared.faults() = faults;
    }

    /// What still has to go wrong.
    #[must_use]
    pub fn faults(&self) -> TargetFaults {
        self.shared.faults().clone()
    }

    /// What it has seen until now.
    #[must_use]
    pub fn stats(&self) -> TargetStats {
        self.shared.stats.borrow().clone()
    }

    /// Waits until it has seen this.
    pub async fn until(&self, seen: impl FnMut(&TargetStats) -> bool) {
        let mut changes = self.shared.stats.subscribe();
        // the sender lives as long as this target
        let _ = changes.wait_for(seen).await;
    }

    /// Breaks all connections, without a word, and goes on listening.
    pub fn break_connections(&self) {
        let sessions = self.shared.sessions.lock().expect("no code panics while it holds the sessions");
        sessions.values().for_each(|end| end.notify_one());
    }

    /// Power fails, and is back at once: connections break, and what the disk's cache held is lost
    /// ([`Store::cache_writes`]).
    pub fn crash(&self) {
        let mut crashes = self.shared.crashes.lock().expect("no code panics while it holds the count");
        *crashes += 1;
        self.store().lose();
        self.break_connections();
    }

    /// Closes portal and connections.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => match taken {
                Ok((stream, peer)) => {
                    let shared = shared.clone();
                    connections.spawn(async move {
                        if let Err(error) = serve(stream, &shared).await {
                            tracing::debug!(%peer, %error, "an iSCSI connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a simulated iSCSI target cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    shared.count(|stats| {
        stats.connections += 1;
        stats.open += 1;
    });
    let _open = Open(shared);
    stream.set_nodelay(true)?;
    let portal = stream.local_addr()?.to_string();
    let login = Login::new(shared).run(&mut stream).await;
    let Some(agreed) = noted(shared, login)? else { return Ok(()) };
    if agreed.discovery {
        shared.count(|stats| stats.discoveries += 1);
        return noted(shared, Session::new(shared, agreed, portal).run(stream).await);
    }
    let entered = shared.enter(&agreed);
    if take(&mut shared.faults().close_after_login) {
        return Ok(());
    }
    let end = entered.end.clone();
    tokio::select! {
        ended = Session::new(shared, agreed, portal).run(stream) => noted(shared, ended),
        () = end.notified() => Ok(()),
    }
}

/// What an initiator did wrong goes into the account.
fn noted<T>(shared: &Shared, result: io::Result<T>) -> io::Result<T> {
    if let Err(error) = &result
        && error.kind() == io::ErrorKind::InvalidData
    {
        shared.violation(error.to_string());
    }
    result
}
