//! N machines, their BMCs, and the one listener of their agents.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ferric_drivers::Secret;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bmc::{self, BmcConfig, BmcFleet};
use crate::chassis::Behind;
use crate::faults::{Chance, Faults};
use crate::firmware::BootSource;
use crate::redfish;
use crate::server::{self, Routes};
use crate::world::{Machine, Ramdisk, World};

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// How many machines.
    pub nodes: usize,
    /// The same seed gives the same delays and faults.
    pub seed: u64,
    /// The first BMC's address; the others follow. All of 127.0.0.0/8 can be used on Linux.
    pub bmc_address: Ipv4Addr,
    /// UDP port of every BMC; 0 takes a free one for each.
    pub bmc_port: u16,
    /// Sessions that a BMC holds at once; it drops those that nobody used for 60 s.
    pub bmc_sessions: usize,
    /// Where the agents' shared listener listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// From power on to ramdisk or operating system: least and most.
    pub boot_delay: (Duration, Duration),
    /// What a disk takes; `None` is as fast as it gets.
    pub disk_bytes_per_second: Option<u64>,
    /// Size of each disk in bytes.
    pub disk_bytes: u64,
    /// Whether each machine has a network address of its own, that of its BMC: its agent listens there, on a port of its
    /// own. Needed where disks are written over iSCSI.
    pub own_addresses: bool,
    /// What all of them run when they boot from the network.
    pub ramdisk: Ramdisk,
    /// The BMCs speak Redfish too, on this TCP port of their addresses, and the fleet is enrolled with it; 0 takes a free
    /// port.
    pub redfish_port: Option<u16>,
    /// What goes wrong.
    pub faults: Faults,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            nodes: 24,
            seed: 1,
            bmc_address: Ipv4Addr::new(127, 16, 0, 1),
            bmc_port: 6230,
            bmc_sessions: BmcConfig::default().max_sessions,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            boot_delay: (Duration::from_secs(2), Duration::from_secs(6)),
            disk_bytes_per_second: Some(4 << 20),
            disk_bytes: 64 << 30,
            own_addresses: false,
            ramdisk: Ramdisk::Agent,
            redfish_port: None,
            faults: Faults::default(),
        }
    }
}

/// Why a fleet cannot start.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A socket cannot be had.
    #[error("cannot listen on {address} for {what}; choose another address or port, or stop what uses it")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Whose socket.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The process may not open enough files.
    #[error(
        "this process may not open enough files for {nodes} machines; raise the limit: ulimit -n {wanted}"
    )]
    Files {
        /// Machines wanted.
        nodes: usize,
        /// Files that they need.
        wanted: u64,
    },
    /// The HTTP client cannot be built.
    #[error("cannot set up the agents' HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Linux: too many open files.
const EMFILE: i32 = 24;
/// Files that a busy machine of the fleet holds open.
const FILES_PER_MACHINE: u64 = 8;
/// Files that the rest of the process holds open.
const SPARE_FILES: u64 = 512;

/// User name of every simulated BMC.
pub const BMC_USER: &str = "admin";
/// Password of every simulated BMC; it guards nothing.
pub const BMC_PASSWORD: &str = "password";

/// A running fleet. It ends when it is dropped.
pub struct Fleet {
    world: Arc<World>,
    machines: Vec<Arc<Machine>>,
    routes: Arc<Routes>,
    base: String,
    servers: Vec<JoinHandle<()>>,
    bmcs: Option<BmcFleet>,
}

impl Fleet {
    /// Starts BMCs and the agents' listener. Machines are off.
    pub async fn start(options: FleetOptions) -> Result<Self, FleetError> {
        // the process may have chosen its provider already; then that one serves
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .no_proxy()
            .build()
            .map_err(FleetError::Client)?;
        let world = Arc::new(World {
            api_url: watch::Sender::new(None),
            boot_source: OnceLock::new(),
            http,
            callback_base: OnceLock::new(),
            pool: Arc::default(),
            boot_delay: options.boot_delay,
            disk_bytes_per_second: options.disk_bytes_per_second,
        });
        let mut machines = Vec::with_capacity(options.nodes);
        for index in 0..options.nodes {
            let mut chance = Chance::new(options.seed, index as u64);
            let name = format!("sim-{:04}", index + 1);
            let faults = options.faults.of(&name, &mut chance);
            let mac = mac_of(options.seed, index);
            let machine = Machine::new(world.clone(), name, mac, faults, chance, options.disk_bytes);
            machine.set_ramdisk(options.ramdisk);
            machines.push(machine);
        }
        // a BMC's socket, and both ends of an agent's connections to the API, to the image, from the conductor
        let files = options.nodes as u64 * FILES_PER_MACHINE + SPARE_FILES;
        bmc::raise_file_limit(files);
        let config = BmcConfig {
            user: BMC_USER.to_owned(),
            password: Secret::new(BMC_PASSWORD.to_owned()),
            max_sessions: options.bmc_sessions,
            ..BmcConfig::default()
        };
        let first = SocketAddr::from((options.bmc_address, options.bmc_port));
        let bmcs = BmcFleet::start(options.nodes, options.bmc_address, options.bmc_port, &config, |index| {
            Arc::new(Behind(machines[index].clone()))
        })
        .map_err(|source| match source.raw_os_error() {
            Some(EMFILE) => FleetError::Files { nodes: options.nodes, wanted: files },
            Some(_) | None => {
                FleetError::Bind { address: first, what: "the simulated BMCs, from here on", source }
            }
        })?;
        for (machine, bmc) in machines.iter().zip(bmcs.bmcs()) {
            bmc.set_faults(bmc::Faults { silent: machine.faults.silent_bmc, ..bmc::Faults::default() });
            bmc.set_personality(machine.faults.bmc_make.personality());
            machine.bmc.set(bmc.address()).expect("a new machine has no BMC");
        }
        let bind =
            |source| FleetError::Bind { address: options.listen, what: "the simulated agents", source };
        let listener = server::bind(options.listen).await.map_err(bind)?;
        let base = format!("http://{}", listener.local_addr().map_err(bind)?);
        world.callback_base.set(base.clone()).expect("a new world has no callback base");
        let routes = Arc::new(Routes::new(&machines));
        let mut servers = vec![tokio::spawn(server::serve(listener, routes.clone()))];
        for machine in machines.iter().filter(|_| options.own_addresses) {
            let address = SocketAddr::from((machine.bmc_address().ip(), 0));
            let bind = |source| FleetError::Bind { address, what: "a simulated agent", source };
            let listener = server::bind(address).await.map_err(bind)?;
            let base = format!("http://{}", listener.local_addr().map_err(bind)?);
            machine.own_base.set(base).expect("a new machine has no callback base");
            servers.push(tokio::spawn(server::serve(listener, routes.clone())));
        }
        if let Some(port) = options.redfish_port {
            let address = SocketAddr::from((options.bmc_address, port));
            let bind = |source| FleetError::Bind { address, what: "the simulated Redfish services", source };
            let listener = redfish::bind(port).map_err(bind)?;
            let port = listener.local_addr().map_err(bind)?.port();
            for machine in &machines {
                machine.redfish_port.set(port).expect("a new machine has no Redfish service");
            }
            servers.push(tokio::spawn(redfish::serve(listener, Arc::new(redfish::Service::new(&machines)))));
        }
        Ok(Self { world, machines, routes, base, servers, bmcs: Some(bmcs) })
    }

    /// Tells the ramdisks where the API is (without `/v1`), where no kernel line tells them. Only the first call counts;
    /// until then they wait.
    pub fn set_api_url(&self, url: &str) {
        self.world.api_url.send_if_modified(|known| {
            let fresh = known.is_none();
            known.get_or_insert_with(|| url.trim_end_matches('/').to_owned());
            fresh
        });
    }

    /// From now on, machines boot from the network what is laid out there for their MAC address, with its kernel line,
    /// and from their disk when nothing is. Without, every machine that boots from the network finds a ramdisk without
    /// kernel arguments, which serves for all but inspection. Only the first call counts.
    pub fn set_boot_source(&self, source: BootSource) {
        let _ = self.world.boot_source.set(source);
    }

    /// The machines, in the order of their names.
    pub fn machines(&self) -> &[Arc<Machine>] {
        &self.machines
    }

    /// Serves `content` as an image; answers its URL.
    pub fn publish_image(&self, name: &str, content: Bytes) -> String {
        self.routes.publish(name, content);
        format!("{}/images/{name}", self.base)
    }

    /// The fleet as `baremetal create` takes it.
    pub fn enrolment(&self) -> Value {
        let nodes: Vec<Value> = self
            .machines
            .iter()
            .map(|machine| {
                let mut node = node_body(machine);
                node["ports"] = json!([{"address": machine.mac, "pxe_enabled": true}]);
                node
            })
            .collect();
        json!({ "nodes": nodes })
    }

    /// Ends it: machines lose their power, BMCs and agents fall silent.
    pub async fn stop(mut self) {
        for machine in &self.machines {
            machine.power_off();
        }
        for server in &mut self.servers {
            server.abort();
            let _ = server.await;
        }
        self.bmcs = None;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
        for machine in &self.machines {
            machine.power_off();
        }
        self.bmcs = None;
    }
}

/// The body of `POST /v1/nodes` for a machine.
pub fn node_body(machine: &Machine) -> Value {
    let (driver, info) = match machine.redfish_address() {
        None => (
            "ipmi",
            json!({
                "ipmi_address": machine.bmc_address().ip().to_string(),
                "ipmi_port": machine.bmc_address().port(),
                "ipmi_username": BMC_USER,
                "ipmi_password": BMC_PASSWORD,
            }),
        ),
        Some(address) => (
            "redfish",
            json!({
                "redfish_address": format!("http://{address}"),
                "redfish_system_id": "/redfish/v1/Systems/1",
                "redfish_username": BMC_USER,
                "redfish_password": BMC_PASSWORD,
            }),
        ),
    };
    json!({
        "name": machine.name,
        "driver": driver,
        "driver_info": info,
        "properties": { "cpu_arch": "x86_64", "cpus": 16, "memory_mb": 65536, "local_gb": 64 },
        "resource_class": "simulated",
    })
}

/// A locally administered MAC address; fleets with different seeds do not collide.
fn mac_of(seed: u64, index: usize) -> String {
    let tag = Chance::new(seed, u64::MAX).bits() as u16;
    let [_, a, b, c] = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
    let [x, y] = tag.to_be_bytes();
    format!("02:{x:02x}:{y:02x}:{a:02x}:{b:02x}:{c:02x}")
}

#[cfg(test)]
mod tests {
    use super::mac_of;

    #[test]
    fn every_machine_has_its_own_mac() {
        let all: std::collections::BTreeSet<_> = (0..5000).map(|index| mac_of(7, index)).collect();
        assert_eq!(all.len(), 5000);
    }
}
