//! BMCs that speak IPMI 2.0 on the wire, one address each.
//!
//! [`Bmc`] is one of them: a socket, a task and a few hundred bytes, no thread. What its power button does is
//! the business of a [`Chassis`], so that a simulated machine can come to life behind it. [`Faults`] make it
//! misbehave in ways that a seed repeats. Ours is judged by `ipmitool`, not by our own client alone.

mod bridging;
mod chassis;
mod core;
mod faults;
mod fleet;
mod fru;
mod health;
mod personality;
mod sdr;
mod sel;
mod sol;
mod v15;

use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ferric_drivers::protocol::ipmi::packet::MAX_DATAGRAM;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

pub use self::bridging::{Behind, Manner};
pub use self::chassis::{Chassis, SimpleChassis};
use self::core::BmcCore;
pub use self::core::{BmcConfig, BmcStats};
use self::faults::Fate;
pub use self::faults::Faults;
pub use self::fleet::BmcFleet;
pub(crate) use self::fleet::raise_file_limit;
pub use self::health::Storage;
pub use self::personality::Personality;
pub use self::sol::{Serial, SerialIn, SerialOut, ToyMachine, UnixSerial};

/// Datagrams answered before other tasks get a turn.
const BATCH: usize = 32;

struct State {
    core: BmcCore,
    faults: Faults,
}

/// A running simulated BMC; it falls silent when dropped.
pub struct Bmc {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
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
        let socket = Arc::new(socket);
        let mut core = BmcCore::new(config, chassis);
        core.sol.set_port(address.port());
        let state = Arc::new(Mutex::new(State { core, faults: Faults::default() }));
        let task = tokio::spawn(serve(socket, Arc::clone(&state))).abort_handle();
        Ok(Self { address, state, task })
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
        self.task.abort();
    }
}

async fn serve(socket: Arc<UdpSocket>, state: Arc<Mutex<State>>) {
    let wake = lock(&state).core.sol.wake();
    loop {
        tokio::select! {
            readable = socket.readable() => if let Err(error) = readable {
                tracing::warn!(%error, "a simulated BMC lost its socket");
                return;
            },
            () = wake.notified() => {}
        }
        answer_batch(&socket, &state);
        tokio::task::yield_now().await;
    }
}

/// Sends what the serial line has to say. The lock is the caller's.
fn send_unasked(socket: &Arc<UdpSocket>, state: &mut State) {
    for (to, datagram) in state.core.unasked(Instant::now()) {
        if state.faults.fate() == Fate::Passes {
            let wait = state.faults.wait();
            send(socket, to, &datagram, wait);
        }
    }
}

/// Answers what waits at the socket. Not async, so that the buffer lies on the stack and not in each BMC's task.
fn answer_batch(socket: &Arc<UdpSocket>, state: &Mutex<State>) {
    let mut buffer = [0; MAX_DATAGRAM];
    send_unasked(socket, &mut lock(state));
    for _ in 0..BATCH {
        let Ok((len, from)) = socket.try_recv_from(&mut buffer) else { return };
        let mut state = lock(state);
        if state.faults.fate() == Fate::Lost {
            continue;
        }
        let wrong_password = state.faults.wrong_password;
        state.core.from = from;
        for reply in state.core.receive(Instant::now(), &buffer[..len], wrong_password) {
            for (fate, wait) in
                [(state.faults.fate(), state.faults.wait()), (state.faults.second(), state.faults.wait())]
            {
                if fate == Fate::Passes {
                    send(socket, from, &reply, wait);
                }
            }
        }
    }
}

fn send(socket: &Arc<UdpSocket>, to: SocketAddr, reply: &[u8], wait: Duration) {
    if wait.is_zero() {
        // a full send buffer loses the datagram, as a network would
        let _ = socket.try_send_to(reply, to);
        return;
    }
    let (socket, reply) = (Arc::clone(socket), reply.to_vec());
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        let _ = socket.send_to(&reply, to).await;
    });
}
