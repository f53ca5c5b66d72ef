//! N machines, their BMCs, and the one listener of their agents.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ferric_drivers::Secret;
use http_body_util::{BodyExt as _, Full};
use hyper::http;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bmc::{self, Air, BmcConfig, BmcFleet};
use crate::chassis::Behind;
use crate::faults::{Chance, Faults};
use crate::firmware::BootSource;
use crate::images::{Images, Transfer};
use crate::network::{Http, Network};
use crate::redfish;
use crate::server::{self, Routes};
use crate::storm;
use crate::weather::{Happened, Sky};
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
    /// How images come to the machines.
    pub images: Transfer,
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
            images: Transfer::Auto,
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
    /// A DHCP storm would leave this machine.
    #[error(
        "the DHCP storm against {server} would leave this machine: name a server on 127.0.0.0/8, or run in a network \
         namespace (ip netns exec)"
    )]
    Storm {
        /// The server.
        server: std::net::SocketAddrV4,
    },
    /// The HTTP client cannot be built.
    #[error("cannot set up the agents' HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Linux: too many open files.
const EMFILE: i32 = 24;
/// Files that all machines together hold open at most for calls that are under way, and those of the rest of the process.
const SPARE_FILES: u64 = 2048;
/// Files that a machine holds open while it fetches an image from this very process, with both ends.
const FILES_PER_DOWNLOAD: u64 = 2;

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
    sky: Option<Arc<Sky>>,
    bmcs: Option<Arc<BmcFleet>>,
}

/// Base of the agents' URLs where they have no listener.
const NOWHERE: &str = "http://agents.sim";

impl Fleet {
    /// Starts BMCs and the agents' listener. Machines are off.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub async fn start(options: FleetOptions) -> Result<Self, FleetError> {
        if let Some(server) =
            options.faults.happens.iter().filter_map(|one| one.server).find(|server| !storm::may_ask(*server))
        {
            return Err(FleetError::Storm { server });
        }
        // the process may have chosen its provider already; then that one serves
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Http::client().map_err(FleetError::Client)?;
        let network = Arc::new(Http::new(http.clone()));
        let (world, machines) = populate(&options, network, Some(http));
        let shared = BmcFleet::shares(options.nodes, options.bmc_address, options.bmc_port);
        let downloads = if options.images.counts(options.nodes) { 0 } else { FILES_PER_DOWNLOAD };
        let per_machine = u64::from(!shared) + u64::from(options.own_addresses) * 2 + downloads;
        let files = options.nodes as u64 * per_machine + SPARE_FILES;
        bmc::raise_file_limit(files);
        let first = SocketAddr::from((options.bmc_address, options.bmc_port));
        let config = bmc_config(&options);
        let bmcs = BmcFleet::start(options.nodes, options.bmc_address, options.bmc_port, &config, |index| {
            Arc::new(Behind(machines[index].clone()))
        })
        .map_err(|source| bind_error(&options, files, first, "the simulated BMCs, from here on", source))?;
        let bind = |source| bind_error(&options, files, options.listen, "the simulated agents", source);
        let listener = server::bind(options.listen).await.map_err(bind)?;
        let base = format!("http://{}", listener.local_addr().map_err(bind)?);
        let mut fleet = Self::assemble(&options, world, machines, bmcs, base);
        fleet.servers.push(tokio::spawn(server::serve(listener, fleet.routes.clone())));
        for machine in fleet.machines.iter().filter(|_| options.own_addresses) {
            let address = SocketAddr::from((machine.bmc_address().ip(), 0));
            let bind = |source| bind_error(&options, files, address, "a simulated agent", source);
            let listener = server::bind(address).await.map_err(bind)?;
            let base = format!("http://{}", listener.local_addr().map_err(bind)?);
            machine.own_base.set(base).expect("a new machine has no callback base");
            fleet.servers.push(tokio::spawn(server::serve(listener, fleet.routes.clone())));
        }
        if let Some(port) = options.redfish_port {
            let address = SocketAddr::from((options.bmc_address, port));
            let bind =
                |source| bind_error(&options, files, address, "the simulated Redfish services", source);
            let listener = redfish::bind(port).map_err(bind)?;
            let port = listener.local_addr().map_err(bind)?.port();
            for machine in &fleet.machines {
                machine.redfish_port.set(port).expect("a new machine has no Redfish service");
            }
            let service = Arc::new(redfish::Service::new(&fleet.machines));
            fleet.servers.push(tokio::spawn(redfish::serve(listener, service)));
        }
        Ok(fleet)
    }

    /// The same world without sockets, for tests on tokio's paused clock: machines call `network`, BMCs send by `air`
    /// and are reached by [`Fleet::datagram`], agents by [`Fleet::ask_agent`], and images are counted. Must be called
    /// within a tokio runtime.
    pub fn in_process(mut options: FleetOptions, network: Arc<dyn Network>, air: &Air) -> Self {
        options.images = Transfer::Counted;
        let (world, machines) = populate(&options, network, None);
        let config = bmc_config(&options);
        let bmcs = BmcFleet::in_process(
            options.nodes,
            options.bmc_address,
            options.bmc_port,
            &config,
            |index| Arc::new(Behind(machines[index].clone())),
            air,
        );
        Self::assemble(&options, world, machines, bmcs, NOWHERE.to_owned())
    }

    fn assemble(
        options: &FleetOptions,
        world: Arc<World>,
        machines: Vec<Arc<Machine>>,
        bmcs: BmcFleet,
        base: String,
    ) -> Self {
        for (index, (machine, bmc)) in machines.iter().zip(bmcs.bmcs()).enumerate() {
            let seed = Chance::new(options.seed, index as u64 ^ 0xb3c0_0000).state();
            bmc.set_faults(bmc::Faults { silent: machine.faults.silent_bmc, seed, ..bmc::Faults::default() });
            if machine.faults.bmc_make != Default::default() {
                bmc.set_personality(machine.faults.bmc_make.personality());
            }
            machine.bmc.set(bmc.address()).expect("a new machine has no BMC");
        }
        world.callback_base.set(base.clone()).expect("a new world has no callback base");
        let routes = Arc::new(Routes::new(&machines, world.images.clone()));
        let bmcs = Arc::new(bmcs);
        let happens = options.faults.happens.clone();
        let sky = (!happens.is_empty())
            .then(|| Arc::new(Sky::new(machines.clone(), bmcs.clone(), options.faults.rack(), happens)));
        let entries = sky.as_ref().map_or(0, |sky| sky.entries());
        let servers = (0..entries)
            .filter_map(|which| Some(tokio::spawn(sky.clone()?.play(which, options.seed))))
            .collect();
        Self { world, machines, routes, base, servers, sky, bmcs: Some(bmcs) }
    }

    /// A datagram for the BMC of the machine at this place in the fleet.
    pub fn datagram(&self, index: usize, from: SocketAddr, datagram: &[u8]) {
        if let Some(bmc) = self.bmcs.as_ref().and_then(|bmcs| bmcs.bmcs().get(index)) {
            bmc.hear(from, datagram);
        }
    }

    /// A request to an agent by its callback URL and a path, as the agents' listener would take it: status and body of
    /// the answer. `None`: no agent runs there.
    pub async fn ask_agent(&self, request: http::Request<Bytes>) -> Option<(u16, Bytes)> {
        let answer = server::answer(self.routes.clone(), request.map(Full::new)).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, body))
    }

    /// What happened so far of what the faults say happens at a moment or a rate.
    pub fn chronicle(&self) -> Vec<Happened> {
        self.sky.as_ref().map(|sky| sky.chronicle()).unwrap_or_default()
    }

    /// Whether machines count the bytes of images instead of fetching them.
    pub fn counts_images(&self) -> bool {
        self.world.images.counted
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
        self.world.images.publish(name, content);
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
        self.sky = None;
        self.bmcs = None;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
        for machine in &self.machines {
            machine.power_off();
        }
        self.sky = None;
        self.bmcs = None;
    }
}

/// The machines, and what they share.
fn populate(
    options: &FleetOptions,
    network: Arc<dyn Network>,
    http: Option<reqwest::Client>,
) -> (Arc<World>, Vec<Arc<Machine>>) {
    let world = Arc::new(World {
        api_url: watch::Sender::new(None),
        boot_source: OnceLock::new(),
        network,
        http,
        images: Arc::new(Images::new(options.images.counts(options.nodes))),
        callback_base: OnceLock::new(),
        pool: Arc::default(),
        boot_delay: options.boot_delay,
        disk_bytes_per_second: options.disk_bytes_per_second,
    });
    let machine = |index: usize| {
        let mut chance = Chance::new(options.seed, index as u64);
        let name = format!("sim-{:04}", index + 1);
        let faults = options.faults.of(&name, &mut chance);
        let mac = mac_of(options.seed, index);
        let machine = Machine::new(world.clone(), name, mac, faults, chance, options.disk_bytes);
        machine.set_ramdisk(options.ramdisk);
        machine
    };
    let machines = (0..options.nodes).map(machine).collect();
    (world, machines)
}

fn bmc_config(options: &FleetOptions) -> BmcConfig {
    BmcConfig {
        user: BMC_USER.to_owned(),
        password: Secret::new(BMC_PASSWORD.to_owned()),
        max_sessions: options.bmc_sessions,
        ..BmcConfig::default()
    }
}

fn bind_error(
    options: &FleetOptions,
    wanted: u64,
    address: SocketAddr,
    what: &'static str,
    source: std::io::Error,
) -> FleetError {
    match source.raw_os_error() {
        Some(EMFILE) => FleetError::Files { nodes: options.nodes, wanted },
        Some(_) | None => FleetError::Bind { address, what, source },
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
