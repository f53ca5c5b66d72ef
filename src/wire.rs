//! Joins the rooms: the configuration becomes each room's settings, and the rooms are started and stopped in order.

mod settings;
mod signals;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferric_actors::Directory;
use ferric_drivers::agent_steps::AgentStepRunner;
use ferric_drivers::boot::{IpxeBoot, PxeBoot, install_loaders, rebuild_index};
use ferric_drivers::console::{Consoles, IpmitoolSocat};
use ferric_drivers::deploy::{
    AnacondaDeploy, CustomAgentDeploy, DirectDeploy, IscsiDeploy, NoopDeploy, RamdiskDeploy,
};
use ferric_drivers::inspect::AgentInspect;
use ferric_drivers::interface::Kind;
use ferric_drivers::management::{IpmitoolManagement, NoopManagement};
use ferric_drivers::power::{AgentPower, IpmitoolPower};
use ferric_drivers::protocol::agent::AgentClient;
use ferric_drivers::protocol::descriptors;
use ferric_drivers::protocol::dhcp::{self, DhcpHandle, PortIndex};
use ferric_drivers::protocol::http::{self, HttpHandle};
use ferric_drivers::protocol::ipmi::IpmiClient;
use ferric_drivers::protocol::tftp::{self, TftpHandle};
use ferric_drivers::raid::AgentRaid;
use ferric_drivers::rescue::AgentRescue;
use ferric_drivers::vendor::IpmitoolVendor;
use ferric_drivers::{BindError, DriverError, Parts, Registry, fakes, redfish};
use ferric_schema::{Store, StoreError};

use crate::Failure;
use crate::config::Config;
use crate::config::value::DhcpMode;
use crate::lock::DataLock;
pub(crate) use settings::{Places, certificate_end, door, policy_doubts, ramdisk_api_url, store_options};
pub(crate) use signals::stop_wanted;

/// Why Ferric does not start; each text says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The data directory cannot be used.
    #[error(
        "cannot make or write {path}; choose another folder with --data-dir, or give this user the right and the space \
         to write there"
    )]
    DataDir { path: PathBuf, source: std::io::Error },
    /// Another process works with the data directory.
    #[error(
        "the data directory {path} is in use by {holder}; end that one (kill {pid}), or choose another with --data-dir"
    )]
    InUse { path: PathBuf, holder: String, pid: String },
    /// The SQLite database cannot be used.
    #[error("the database {file} cannot be used: {cause}; {remedy}")]
    Database { file: PathBuf, cause: String, remedy: &'static str },
    /// The database, where the text says enough.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The hardware types and interfaces enabled do not go together.
    #[error("[hardware]: {0}")]
    Hardware(#[from] BindError),
    /// A boot server does not start.
    #[error("the {what} server does not start: {source}; its options are {options}")]
    BootServer { what: &'static str, options: &'static str, source: DriverError },
    /// Anything else of the drivers.
    #[error("{0}")]
    Driver(#[from] DriverError),
    /// The API does not start.
    #[error("{0}")]
    Web(#[from] ferric_web::ServeError),
    /// Callers cannot be asked who they are.
    #[error("{0}")]
    Auth(#[from] ferric_web::auth::AuthError),
    /// There is no certificate for the API.
    #[error("{0}")]
    Tls(#[from] ferric_web::TlsError),
    /// No port is free.
    #[error("no free port on {at} for the API; choose another address with api.host_ip")]
    NoPort { at: SocketAddr, source: std::io::Error },
}

/// A running Ferric.
pub(crate) struct Running {
    /// Where the API listens.
    pub(crate) api: SocketAddr,
    web: actix_web::dev::ServerHandle,
    streams: ferric_web::Streams,
    directory: Directory,
    ipmi: Arc<IpmiClient>,
    consoles: Consoles,
    dhcp: Option<DhcpHandle>,
    tftp: Option<TftpHandle>,
    http: Option<HttpHandle>,
    _lock: DataLock,
}

/// Descriptors of what is not a boot server: requests that are never refused (docs/decisions/0033), and the database, BMCs,
/// consoles, images.
const DESCRIPTORS: usize = 16_384 + 2_048;

/// What there is to say when the limit of open files is below the sum of what may be open at once.
fn enough_descriptors(config: &Config, limit: Option<u64>) -> Option<String> {
    let servers =
        [(config.http.enabled, http::DESCRIPTORS), (config.tftp.enabled, tftp::DESCRIPTORS)].into_iter();
    let wanted = DESCRIPTORS + servers.filter(|(enabled, _)| *enabled).map(|(_, most)| most).sum::<usize>();
    limit.filter(|limit| *limit < wanted as u64).map(|limit| {
        format!(
            "this process may open {limit} files, and the API and the boot servers that are on have bounds of {wanted} \
             together: the boot servers have fewer places, and a crowd of connections can leave none to the API; set \
             LimitNOFILE={wanted} in the systemd unit, or ulimit -Hn {wanted} before the start"
        )
    })
}

/// Starts everything in the data directory that `lock` is on. Call inside an actix system; I/O runs on `io`.
pub(crate) async fn start(
    config: &Config,
    data_dir: &Path,
    lock: DataLock,
    io: &tokio::runtime::Handle,
) -> Result<Running, WireError> {
    let mut config = config.clone();
    if config.api.port == 0 {
        config.api.port = free_port(&config)?;
    }
    let config = &config;
    if let Some(few) = enough_descriptors(config, descriptors::raise_limit()) {
        tracing::warn!("{few}");
    }
    let places = Places::new(config, data_dir);
    for folder in [&places.tftp_root, &places.http_root] {
        std::fs::create_dir_all(folder)
            .map_err(|source| WireError::DataDir { path: folder.to_owned(), source })?;
    }
    // before anything is begun: files that cannot be used are the most likely reason to end here
    let web = settings::web(config)?;
    let options = store_options(config, data_dir);
    let unusable = |error| crate::database::explain(error, &options);
    let store = Store::open(&options).map_err(unusable)?;
    let index = Arc::new(PortIndex::default());
    let pxe = Arc::new(settings::pxe(config, &places));
    let (parts, ipmi, consoles) = parts(config, &places, &pxe, &index, io)?;
    let registry = Arc::new(Registry::new(settings::registry(config), parts)?);

    let boots = config.tftp.enabled || config.http.enabled || config.dhcp.mode != DhcpMode::Off;
    if boots {
        for (name, remedy) in install_loaders(&pxe).await?.missing {
            tracing::warn!(
                loader = name,
                "a boot loader is missing; machines that need it will not boot: {remedy}"
            );
        }
    }
    for left in left_out(config, &store.read(ferric_schema::nodes::count_by_driver).await.map_err(unusable)?)
    {
        tracing::warn!("{left}");
    }
    let directory = Directory::start(settings::actors(config, &places), store, registry, index.clone())
        .await
        .map_err(unusable)?;
    rebuild_index(&pxe, &index).await?;

    let http = match config.http.enabled {
        true => {
            let settings = settings::http(config, &places);
            let started = io.spawn(async move { http::start(&settings).await }).await;
            Some(
                started
                    .map_err(|_| ended("HTTP"))?
                    .map_err(boot_server("HTTP", "http.port and http.host_ip"))?,
            )
        }
        false => None,
    };
    let tftp = match config.tftp.enabled {
        true => {
            let settings = settings::tftp(config, &places);
            Some(tftp::start(&settings).await.map_err(boot_server("TFTP", "tftp.port and tftp.host_ip"))?)
        }
        false => None,
    };
    let dhcp = match config.dhcp.mode {
        DhcpMode::Off => None,
        DhcpMode::Full | DhcpMode::Proxy => {
            let settings = settings::dhcp(config, &places);
            let started = io.spawn(dhcp::start(settings, index, None)).await;
            Some(
                started
                    .map_err(|_| ended("DHCP"))?
                    .map_err(boot_server("DHCP", "dhcp.interface, dhcp.server_ip and dhcp.mode"))?,
            )
        }
    };
    let serving = ferric_web::serve(web, directory.clone(), |_| {}).await?;
    let ferric_web::Serving { server, addr, streams } = serving;
    let web = server.handle();
    actix::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the API ended badly");
        }
    });
    Ok(Running { api: addr, web, streams, directory, ipmi, consoles, dhcp, tftp, http, _lock: lock })
}

impl Running {
    /// Ends it: no more requests, no more actors, boot servers closed, BMC sessions closed.
    pub(crate) async fn stop(self) {
        // those who follow the events would keep the server for all of its time
        drop(self.streams);
        // at most graceful_shutdown_timeout, which the server was given at its start
        self.web.stop(true).await;
        self.directory.stop().await;
        if let Some(dhcp) = self.dhcp {
            dhcp.stop().await;
        }
        if let Some(tftp) = self.tftp {
            tftp.stop().await;
        }
        if let Some(http) = self.http {
            http.stop().await;
        }
        self.consoles.shutdown().await;
        self.ipmi.shutdown().await;
    }
}

/// `ferric serve`: runs until SIGINT or SIGTERM.
pub(crate) async fn serve_until_signal(
    config: Config,
    data_dir: &Path,
    io: tokio::runtime::Handle,
) -> Result<(), Failure> {
    let began = std::time::Instant::now();
    let stop = stop_wanted()?;
    let lock = DataLock::take(data_dir)?;
    let running = start(&config, data_dir, lock, &io).await?;
    for concern in crate::doctor::concerns(&config) {
        tracing::warn!("{concern}");
    }
    let scheme = if config.api.enable_ssl_api { "https" } else { "http" };
    let auth = config.auth.strategy;
    tracing::info!(api = %format_args!("{scheme}://{}", running.api), %auth, data = %data_dir.display(), "ready after {} ms", began.elapsed().as_millis());
    let signal = stop.await;
    tracing::info!(signal, "stopping");
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

fn parts(
    config: &Config,
    places: &Places,
    pxe: &Arc<ferric_drivers::boot::PxeSettings>,
    index: &Arc<PortIndex>,
    io: &tokio::runtime::Handle,
) -> Result<(Parts, Arc<IpmiClient>, Consoles), DriverError> {
    let ipmi = settings::ipmi(config);
    let client = Arc::new(IpmiClient::new(ipmi.clone(), io.clone()));
    let agents = AgentClient::new(settings::agent(config))?;
    let mut parts = Parts::default();
    fakes::install(&mut parts, &settings::fakes(config));
    redfish::install(&mut parts, pxe.clone());
    let vendor = Arc::new(IpmitoolVendor::new(client.clone(), ipmi.clone()));
    parts.vendor.insert("ipmitool", vendor.clone());
    parts.steps.insert((Kind::Vendor, "ipmitool"), vendor);
    let consoles = Consoles::new(settings::console(config), client.clone(), io.clone());
    let socat = Arc::new(IpmitoolSocat::new(consoles.clone(), ipmi.clone()));
    parts.console.insert("ipmitool-socat", socat);
    parts.power.insert("agent", Arc::new(AgentPower));
    parts.power.insert("ipmitool", Arc::new(IpmitoolPower::new(client.clone(), ipmi.clone())));
    parts.management.insert("noop", Arc::new(NoopManagement));
    parts.management.insert("ipmitool", Arc::new(IpmitoolManagement::new(client.clone(), ipmi)));
    parts.boot.insert("pxe", Arc::new(PxeBoot::new(pxe.clone(), index.clone())));
    parts.boot.insert("ipxe", Arc::new(IpxeBoot::new(pxe.clone(), index.clone())));
    let direct = Arc::new(DirectDeploy::new(settings::direct(config, places), agents.clone())?);
    parts.deploy.insert("custom-agent", Arc::new(CustomAgentDeploy::new(direct.clone())));
    let iscsi = IscsiDeploy::new(settings::iscsi(config, places), direct.clone())?;
    parts.deploy.insert("iscsi", Arc::new(iscsi));
    parts.deploy.insert("direct", direct);
    parts.deploy.insert("anaconda", Arc::new(AnacondaDeploy::new(settings::anaconda(config, places))?));
    parts.deploy.insert("ramdisk", Arc::new(RamdiskDeploy));
    parts.deploy.insert("noop", Arc::new(NoopDeploy));
    parts.steps.insert((Kind::Inspect, "agent"), Arc::new(AgentInspect::new(settings::inspect(config)?)?));
    parts.raid.insert("agent", Arc::new(AgentRaid));
    parts.steps.insert((Kind::Raid, "agent"), Arc::new(AgentRaid));
    let rescue = Arc::new(AgentRescue::new(agents.clone()));
    parts.interfaces.insert((Kind::Rescue, "agent"), rescue.clone());
    parts.steps.insert((Kind::Rescue, "agent"), rescue);
    parts.agent_steps = Some(Arc::new(AgentStepRunner::new(agents, settings::erase(config))));
    Ok((parts, client, consoles))
}

/// What there is to say of nodes whose hardware type was taken out of the configuration.
pub(crate) fn left_out(config: &Config, nodes: &[(String, i64)]) -> Vec<String> {
    let enabled = &config.hardware.enabled_hardware_types;
    let left = nodes.iter().filter(|(driver, _)| !enabled.contains(driver));
    left.map(|(driver, count)| {
        format!(
            "{count} node(s) use {driver}, which is not enabled: nothing can be done with them until it stands in \
             hardware.enabled_hardware_types again"
        )
    })
    .collect()
}

fn boot_server(what: &'static str, options: &'static str) -> impl Fn(DriverError) -> WireError {
    move |source| WireError::BootServer { what, options, source }
}

fn ended(what: &'static str) -> DriverError {
    DriverError::Io { path: format!("{what} server"), reason: "its task ended while it started".to_owned() }
}

/// A port that is free at this moment: ramdisks are told the port before the API listens on it.
fn free_port(config: &Config) -> Result<u16, WireError> {
    let at = SocketAddr::new(settings::api_ip(config), 0);
    let port = std::net::TcpListener::bind(at).and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|source| WireError::NoPort { at, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_told_with_the_remedy() {
        let mut config = Config::default();
        assert_eq!(enough_descriptors(&config, Some(524_288)), None);
        assert_eq!(enough_descriptors(&config, Some(20_000)), None);
        config.http.enabled = true;
        let told = enough_descriptors(&config, Some(20_000)).unwrap();
        assert!(told.contains("LimitNOFILE=26624"), "{told}");
        assert_eq!(enough_descriptors(&config, Some(26_624)), None);
    }

    #[test]
    fn nodes_of_a_hardware_type_that_was_taken_out_are_told() {
        let mut config = Config::default();
        let nodes = [("ipmi".to_owned(), 2), ("fake-hardware".to_owned(), 3)];
        assert!(left_out(&config, &nodes).is_empty());
        config.hardware.enabled_hardware_types = vec!["ipmi".to_owned()];
        let told = left_out(&config, &nodes);
        assert!(told.len() == 1 && told[0].starts_with("3 node(s) use fake-hardware, which is not enabled"));
    }
}
