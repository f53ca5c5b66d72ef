//! The console: every BMC of the fleet over one socket, one session each, one command at a time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn, NotEnoughData};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until, timeout, timeout_at};

use super::error::IpmiError;
use super::lane::{Lane, Way};
use super::mux::{Mux, plain};
use super::quirks::{Identity, Quirks};
use super::settings::{IpmiSettings, Target};
use crate::metrics::{METRICS, Outcome};

/// Longest wait for the sessions of the whole fleet to close, see [`IpmiClient::shutdown`].
const SHUTDOWN: Duration = Duration::from_secs(3);

type SharedLane = Arc<tokio::sync::Mutex<Lane>>;

/// Speaks IPMI to any number of BMCs. Clones share sockets and sessions; make one per process.
///
/// Commands to one BMC wait for each other in order of arrival. Each runs in a task of its own: a caller that goes
/// away leaves no session half open.
#[derive(Clone)]
pub struct IpmiClient {
    inner: Arc<Inner>,
}

struct Inner {
    settings: IpmiSettings,
    runtime: Handle,
    mux: Mux,
    lanes: Mutex<HashMap<SocketAddr, SharedLane>>,
    stopped: AtomicBool,
}

impl IpmiClient {
    /// A client whose sockets, timers and tasks live on `runtime`, which must outlast its use. Opens nothing yet.
    #[must_use]
    pub fn new(settings: IpmiSettings, runtime: Handle) -> Self {
        let inner = Arc::new(Inner {
            mux: Mux::new(runtime.clone()),
            lanes: Mutex::default(),
            stopped: AtomicBool::new(false),
            settings,
            runtime,
        });
        inner.runtime.spawn(close_idle(Arc::downgrade(&inner), inner.settings.session_idle));
        Self { inner }
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &IpmiSettings {
        &self.inner.settings
    }

    /// Runs a command within [`IpmiSettings::command_timeout`], opening a session where there is none.
    /// Errors: every [`IpmiError`].
    pub async fn run<C>(&self, target: &Target, command: C) -> Result<C::Output, IpmiError>
    where
        C: IpmiCommand<Error = NotEnoughData>,
    {
        self.run_within(target, command, self.inner.settings.command_timeout).await
    }

    /// Runs a command within `within`, waiting for its turn included.
    pub async fn run_within<C>(
        &self,
        target: &Target,
        command: C,
        within: Duration,
    ) -> Result<C::Output, IpmiError>
    where
        C: IpmiCommand<Error = NotEnoughData>,
    {
        let (inner, target, message) = (Arc::clone(&self.inner), target.clone(), command.into());
        let task = self.inner.runtime.spawn(async move {
            let begun = Instant::now();
            let answer = inner.run(&target, message, within).await;
            METRICS.ipmi_ended(outcome(&answer), begun.elapsed());
            answer
        });
        let data = task.await.map_err(|_| IpmiError::Stopped)??;
        C::parse_success_response(&data).map_err(|NotEnoughData| IpmiError::Short)
    }

    /// How to treat this BMC: what the table says of it and what the node says. Asks it who it is, once for each
    /// session; a BMC that does not tell has the quirks of every BMC. Errors: as [`IpmiClient::run`].
    pub async fn quirks(&self, target: &Target) -> Result<Quirks, IpmiError> {
        self.quirks_within(target, self.inner.settings.command_timeout).await
    }

    /// As [`IpmiClient::quirks`], within `within`.
    pub async fn quirks_within(&self, target: &Target, within: Duration) -> Result<Quirks, IpmiError> {
        let (inner, target) = (Arc::clone(&self.inner), target.clone());
        let task = self.inner.runtime.spawn(async move { inner.quirks(&target, within).await });
        task.await.map_err(|_| IpmiError::Stopped)?
    }

    /// Closes every session and refuses further commands. Takes at most three seconds.
    pub async fn shutdown(&self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        let inner = Arc::clone(&self.inner);
        let task = self.inner.runtime.spawn(async move {
            let _ = timeout(SHUTDOWN, inner.close_all(Duration::ZERO, true)).await;
        });
        if task.await.is_err() {
            tracing::debug!("the runtime ended before the IPMI sessions were closed");
        }
    }
}

impl Inner {
    async fn run(&self, target: &Target, message: Message, within: Duration) -> Result<Vec<u8>, IpmiError> {
        let begun = Instant::now();
        let deadline = begun + within;
        let silent = |_| IpmiError::Silent(begun.elapsed());
        let peer = timeout_at(deadline, self.resolve(target)).await.map_err(silent)??;
        let lane = self.lane(peer);
        let mut lane = loop {
            let held = timeout_at(deadline, lane.lock()).await.map_err(silent)?;
            let Some(until) = held.not_before(target, &message) else { break held };
            // others may use the lane meanwhile
            drop(held);
            if until >= deadline {
                return Err(IpmiError::Unsettled(until - Instant::now()));
            }
            sleep_until(until).await;
        };
        if self.stopped.load(Ordering::SeqCst) {
            return Err(IpmiError::Stopped);
        }
        let way = Way { mux: &self.mux, settings: &self.settings, target };
        let answer = lane.run(&way, message, deadline).await;
        if let Err(IpmiError::Silent(_)) = answer {
            return Err(IpmiError::Silent(begun.elapsed()));
        }
        answer
    }

    async fn quirks(&self, target: &Target, within: Duration) -> Result<Quirks, IpmiError> {
        let begun = Instant::now();
        let deadline = begun + within;
        let silent = |_| IpmiError::Silent(begun.elapsed());
        let peer = timeout_at(deadline, self.resolve(target)).await.map_err(silent)??;
        let lane = self.lane(peer);
        let known = timeout_at(deadline, lane.lock()).await.map_err(silent)?.knows(target);
        if !known {
            let left = deadline.saturating_duration_since(Instant::now());
            let who = match self.run(target, device_id(), left).await {
                Ok(data) => Identity::read(&data),
                Err(IpmiError::Completion(code)) => {
                    tracing::debug!(bmc = %target.name(), code, "it does not say who it is");
                    None
                }
                Err(error) => return Err(error),
            };
            lane.lock().await.met(target, who);
        }
        let lane = lane.lock().await;
        Ok(lane.quirks(target))
    }

    fn lane(&self, peer: SocketAddr) -> SharedLane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(peer);
        Arc::clone(lane.or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Lane::new(peer, &self.mux)))))
    }

    /// The BMC's address; of several that one with which we already spoke, else the first.
    async fn resolve(&self, target: &Target) -> Result<SocketAddr, IpmiError> {
        if let Ok(address) = target.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(plain(SocketAddr::new(address, target.port)));
        }
        let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
        let all: Vec<_> = found.map_err(|error| IpmiError::Resolve(error.to_string()))?.map(plain).collect();
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().find(|address| lanes.contains_key(address));
        known.or(all.first()).copied().ok_or_else(|| IpmiError::Resolve("no address".to_owned()))
    }

    /// Closes the sessions unused for `idle`; with `wait` also those in use, once they are not.
    async fn close_all(self: Arc<Self>, idle: Duration, wait: bool) {
        let lanes: Vec<_> =
            self.lanes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut closing = JoinSet::new();
        for lane in lanes {
            let inner = Arc::clone(&self);
            if !wait && !lane.try_lock().is_ok_and(|lane| lane.is_idle(idle)) {
                continue;
            }
            closing.spawn(async move {
                let mut lane = lane.lock().await;
                match lane.is_idle(idle) {
                    true if !wait && lane.is_expected(&inner.settings) => {
                        lane.keep(&inner.mux, &inner.settings).await;
                    }
                    true => lane.close(&inner.mux, &inner.settings).await,
                    false => {}
                }
            });
        }
        while closing.join_next().await.is_some() {}
    }
}

fn device_id() -> Message {
    Message::new_request(NetFn::App, 0x01, Vec::new())
}

/// What became of a command, for those who count.
fn outcome(answer: &Result<Vec<u8>, IpmiError>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Done,
        Err(IpmiError::Completion(_) | IpmiError::Bridge(_)) => Outcome::Refused,
        Err(IpmiError::Silent(_) | IpmiError::SilentToUser(_) | IpmiError::OnlyOld(_)) => Outcome::Silent,
        Err(IpmiError::Credentials(_)) => Outcome::Credentials,
        Err(IpmiError::NoSuite(_) | IpmiError::NoSession(_) | IpmiError::NoFreeSession(_)) => {
            Outcome::NoSession
        }
        Err(
            IpmiError::Resolve(_)
            | IpmiError::Socket(_)
            | IpmiError::Unsettled(_)
            | IpmiError::TooLong
            | IpmiError::Short
            | IpmiError::Stopped,
        ) => Outcome::Other,
    }
}

async fn close_idle(client: Weak<Inner>, idle: Duration) {
    // in small steps: what is to be done for a fleet is not to be done all at once
    let mut tick = interval((idle / 32).max(Duration::from_millis(50)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(inner) = client.upgrade() else { return };
        inner.close_all(idle, false).await;
    }
}
