//! BMCs that speak IPMI 2.0 on the wire, one address each.
//!
//! [`Bmc`] is one of them: a few hundred bytes, no thread, and either a socket of its own or a place at one that many
//! share (see [`BmcFleet`]). What its power button does is
//! the business of a [`Chassis`], so that a simulated machine can come to life behind it. [`Faults`] make it
//! misbehave in ways that a seed repeats. Ours is judged by `ipmitool`, not by our own client alone.

mod bridging;
mod chassis;
mod core;
mod faults;
mod fleet;
mod fru;
mod health;
mod hub;
mod personality;
mod sdr;
mod sel;
mod sol;
mod v15;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ferric_drivers::protocol::ipmi::packet::MAX_DATAGRAM;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

pub use self::bridging::{Behind, Manner};
pub use self::chassis::{Chassis, SimpleChassis};
use self::core::BmcCore;
pub use self::core::{BmcConfig, BmcStats};
pub use self::faults::{Faults, Latency, Traffic};
pub(crate) use self::fleet::raise_file_limit;
pub use self::fleet::{BmcFleet, SHARED_FROM};
pub use self::health::Storage;
use self::hub::Hub;
pub use self::personality::Personality;
pub use self::sol::{Serial, SerialIn, SerialOut, ToyMachine, UnixSerial};

/// Datagrams answered before other tasks get a turn.
const BATCH: usize = 32;
/// How often a serial line that says nothing is looked at.
const SOL_LOOK: Duration = Duration::from_millis(250);

struct State {
    core: BmcCore,
    faults: Faults,
    /// A task sends what its serial line has to say.
    speaks: bool,
}

/// How answers leave.
#[derive(Clone)]
enum Way {
    /// By a socket of its own.
    Own(Arc<UdpSocket>),
    /// By the socket of many, from this address.
    Shared(Arc<UdpSocket>, Ipv4Addr),
    /// By no socket at all.
    Air(Air),
}

/// Takes what a BMC without a socket sends: from where, to where, and what.
pub type Air = Arc<dyn Fn(SocketAddr, SocketAddr, &[u8]) + Send + Sync>;

/// What ends with a BMC.
enum Line {
    Own(AbortHandle),
    Shared(Arc<Hub>),
    Air,
}

/// A running simulated BMC; it falls silent when dropped.
pub struct Bmc {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    way: Way,
    line: Line,
}

/// Now, on tokio's clock: tests may pause it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bmc {
    /// Binds `address` (port 0 takes a free one) and answers there. Must be called within a tokio runtime.
    /// Errors: the address is taken or may not be bound, or too many files are open.
    pub fn start(address: SocketAddr, config: BmcConfig, chassis: Arc<dyn Chassis>) -> std::io::Result<Self> {
        let socket = StdSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Self::serve_on(UdpSocket::from_std(socket)?, config, chassis)
    }

    /// Answers on a socket that is already bound. Errors: the socket has no address.
    pub fn serve_on(
        socket: UdpSocket,
        config: BmcConfig,
        chassis: Arc<dyn Chassis>,
    ) -> std::io::Result<Self> {
        let address = socket.local_addr()?;
        let way = Way::Own(Arc::new(socket));
        let state = State::new(address, config, chassis);
        let task = tokio::spawn(serve(way.clone(), Arc::clone(&state))).abort_handle();
        Ok(Self { address, state, way, line: Line::Own(task) })
    }

    /// Answers at `address` by the socket of many.
    fn join(hub: &Arc<Hub>, address: Ipv4Addr, config: BmcConfig, chassis: Arc<dyn Chassis>) -> Self {
        let at = SocketAddr::from((address, hub.port()));
        let state = State::new(at, config, chassis);
        hub.add(address, state.clone());
        Self { address: at, state, way: hub.way(address), line: Line::Shared(hub.clone()) }
    }

    /// One without a socket, for tests on a paused clock: [`Bmc::hear`] brings it datagrams, `air` takes its answers.
    pub fn in_process(address: SocketAddr, config: BmcConfig, chassis: Arc<dyn Chassis>, air: Air) -> Self {
        let state = State::new(address, config, chassis);
        Self { address, state, way: Way::Air(air), line: Line::Air }
    }

    /// A datagram comes from `from`. Must be called within a tokio runtime.
    pub fn hear(&self, from: SocketAddr, datagram: &[u8]) {
        hear(&self.way, &self.state, from, datagram);
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it misbehaves like this.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.state).faults = faults;
    }

    /// Changes how it misbehaves; what was drawn so far stays drawn.
    pub fn change_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.state).faults);
    }

    /// From now on its serial line leads there; at first it leads to a [`ToyMachine`].
    pub fn set_serial(&self, serial: Arc<dyn Serial>) {
        lock(&self.state).core.sol.set_serial(serial);
    }

    /// Its serial line counts as active, in a session that nobody knows any more.
    pub fn occupy_sol(&self) {
        lock(&self.state).core.sol.occupy();
    }

    /// Serial over LAN is enabled or not, as by Set SOL Configuration Parameters.
    pub fn enable_sol(&self, on: bool) {
        lock(&self.state).core.sol.enabled = on;
    }

    /// Ends the serial line and says so, as some BMCs do when the machine loses power.
    pub fn drop_sol(&self) {
        lock(&self.state).core.sol.drop_line();
    }

    /// Whether its serial line is active.
    #[must_use]
    pub fn sol_active(&self) -> bool {
        lock(&self.state).core.sol.is_active()
    }

    /// From now on it is of this make.
    pub fn set_personality(&self, personality: Personality) {
        lock(&self.state).core.config.personality = personality;
    }

    /// Loses every session, as a restart of the BMC does.
    pub fn forget_sessions(&self) {
        lock(&self.state).core.forget_sessions();
    }

    /// From now on the sensor with this number reads this, as it is measured (the first eight states, of sensors that
    /// have some); `None`: as usual again.
    pub fn force_sensor(&self, sensor: u8, raw: Option<u8>) {
        lock(&self.state).core.health.force(sensor, raw);
    }

    /// Network function and number of every command that it was sent and does not know.
    #[must_use]
    pub fn unknown_commands(&self) -> Vec<(u8, u8)> {
        lock(&self.state).core.health.unknown.iter().copied().collect()
    }

    /// From now on it gives what it stores like this.
    pub fn set_storage(&self, storage: Storage) {
        lock(&self.state).core.health.storage = storage;
    }

    /// What it has seen so far.
    #[must_use]
    pub fn stats(&self) -> BmcStats {
        lock(&self.state).core.stats()
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        match (&self.line, self.address) {
            (Line::Own(task), _) => task.abort(),
            (Line::Shared(hub), SocketAddr::V4(address)) => hub.remove(*address.ip()),
            (Line::Shared(_), SocketAddr::V6(_)) | (Line::Air, _) => {}
        }
    }
}

impl State {
    fn new(address: SocketAddr, config: BmcConfig, chassis: Arc<dyn Chassis>) -> Arc<Mutex<Self>> {
        let mut core = BmcCore::new(config, chassis);
        core.sol.set_port(address.port());
        core.at = address;
        Arc::new(Mutex::new(Self { core, faults: Faults::default(), speaks: false }))
    }
}

async fn serve(way: Way, state: Arc<Mutex<State>>) {
    let Way::Own(socket) = &way else { return };
    loop {
        if let Err(error) = socket.readable().await {
            tracing::warn!(%error, "a simulated BMC lost its socket");
            return;
        }
        answer_batch(&way, socket, &state);
        tokio::task::yield_now().await;
    }
}

/// Answers what waits at the socket. Not async, so that the buffer lies on the stack and not in each BMC's task.
fn answer_batch(way: &Way, socket: &UdpSocket, state: &Arc<Mutex<State>>) {
    let mut buffer = [0; MAX_DATAGRAM];
    for _ in 0..BATCH {
        let Ok((len, from)) = socket.try_recv_from(&mut buffer) else { return };
        hear(way, state, from, &buffer[..len]);
    }
}

/// A datagram is on its way to the BMC.
fn hear(way: &Way, state: &Arc<Mutex<State>>, from: SocketAddr, datagram: &[u8]) {
    let arrivals = lock(state).faults.inbound();
    for wait in arrivals.into_iter().flatten() {
        if wait.is_zero() {
            take(way, state, from, datagram);
            continue;
        }
        let (way, state, datagram) = (way.clone(), Arc::downgrade(state), datagram.to_vec());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(state) = state.upgrade() {
                take(&way, &state, from, &datagram);
            }
        });
    }
}

/// The BMC has it.
fn take(way: &Way, shared: &Arc<Mutex<State>>, from: SocketAddr, datagram: &[u8]) {
    let mut state = lock(shared);
    let wrong_password = state.faults.wrong_password;
    state.core.wrong_power = state.faults.wrong_power;
    state.core.from = from;
    for reply in state.core.receive(now(), datagram, wrong_password) {
        for wait in state.faults.outbound().into_iter().flatten() {
            send(way, (state.core.at, from), &reply, wait);
        }
    }
    if state.core.sol.may_speak() && !state.speaks {
        state.speaks = true;
        tokio::spawn(speak(way.clone(), Arc::downgrade(shared), state.core.sol.wake()));
    }
}

/// Sends what the serial line has to say for as long as somebody has it.
async fn speak(way: Way, state: Weak<Mutex<State>>, wake: Arc<tokio::sync::Notify>) {
    loop {
        // the BMC may be gone without a last word
        let _ = tokio::time::timeout(SOL_LOOK, wake.notified()).await;
        let Some(state) = state.upgrade() else { return };
        let mut state = lock(&state);
        for (to, datagram) in state.core.unasked(now()) {
            if let [Some(wait), _] = state.faults.outbound() {
                send(&way, (state.core.at, to), &datagram, wait);
            }
        }
        if !state.core.sol.may_speak() {
            state.speaks = false;
            return;
        }
    }
}

fn send(way: &Way, (from, to): (SocketAddr, SocketAddr), reply: &[u8], wait: Duration) {
    if wait.is_zero() {
        return send_now(way, (from, to), reply);
    }
    let (way, reply) = (way.clone(), reply.to_vec());
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        send_now(&way, (from, to), &reply);
    });
}

fn send_now(way: &Way, (from, to): (SocketAddr, SocketAddr), reply: &[u8]) {
    match way {
        Way::Own(socket) => {
            // a full send buffer loses the datagram, as a network would
            let _ = socket.try_send_to(reply, to);
        }
        Way::Shared(socket, address) => hub::send(socket, *address, to, reply),
        Way::Air(air) => air(from, to, reply),
    }
}
