//! Starting the HTTP server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{App, HttpServer};
use ferric_actors::Directory;
use tokio::sync::{Semaphore, watch};

use crate::answers::Answers;
use crate::auth::Auth;
use crate::overload::{Guard, Limits, Overload};
use crate::rescue::PasswordHash;
use crate::routes::{self, Hub, Told};
use crate::tls::Tls;
use crate::version::Version;

/// `[api]` and what else decides how the API answers.
#[derive(Clone, Debug)]
pub struct WebSettings {
    /// `[api] host_ip` and `port`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `[auth]`: how callers prove who they are.
    pub auth: Auth,
    /// `[api] enable_ssl_api`: the certificate to answer with; plain HTTP when absent.
    pub tls: Option<Tls>,
    /// `[api] project_admin_can_manage_own_nodes`: administrators of projects may enrol and delete nodes of theirs.
    pub own_nodes: bool,
    /// `[api] public_endpoint`: base of the links; the request's own Host when absent.
    pub public_endpoint: Option<String>,
    /// `[oslo_middleware] enable_proxy_headers_parsing`: believe `X-Forwarded-*`.
    pub enable_proxy_headers: bool,
    /// `[api] max_limit`: rows on one page at most.
    pub max_limit: u32,
    /// The newest microversion served, see [`crate::version::of_release`]; all of them when absent.
    pub pin: Option<Version>,
    /// `[agent] require_tls`: refuse agents whose callback URL is not https.
    pub require_agent_tls: bool,
    /// `[agent] allow_md5_checksum`: an agent may trust an MD5 image checksum.
    pub allow_md5_checksum: bool,
    /// `[conductor] permitted_image_formats`: what an agent may write.
    pub permitted_image_formats: Vec<String>,
    /// `[api] default_portgroup_mode`: of a port group that is made without one.
    pub default_portgroup_mode: String,
    /// `[api] disallow_clean_steps`, `interface.step` each: refused with the target clean.
    pub disallow_clean_steps: Vec<String>,
    /// `[api] disallow_deploy_steps`: refused with the targets active and rebuild.
    pub disallow_deploy_steps: Vec<String>,
    /// `[api] disallow_service_steps`: refused with the target service.
    pub disallow_service_steps: Vec<String>,
    /// `[conductor] rescue_password_hash_algorithm`.
    pub rescue_password_hash: PasswordHash,
    /// How many clients may follow the events at a time.
    pub event_streams: usize,
    /// How often who follows the events is asked again who it is: so long after its token ends, or its password, the
    /// stream does too.
    pub event_admission: Duration,
    /// `[metrics] enabled`: there is `/metrics`.
    pub metrics: bool,
    /// A browser that asks for `/` is sent to the dashboard at `/ui/`.
    pub dashboard: bool,
    /// After how long without a sign of life a conductor counts as dead (`[conductor] heartbeat_timeout`).
    pub conductor_timeout: Duration,
    /// Threads that serve requests.
    pub workers: usize,
    /// Bytes of answers about single nodes that are kept while they are true; 0 keeps none.
    pub kept_answers: usize,
    /// How many requests are worked on at once.
    pub limits: Limits,
    /// How long requests under way may take once the server is asked to stop; whole seconds count.
    pub shutdown: Duration,
}

impl Default for WebSettings {
    fn default() -> Self {
        WebSettings {
            listen: SocketAddr::from(([127, 0, 0, 1], 6385)),
            auth: Auth::noauth(),
            tls: None,
            own_nodes: true,
            public_endpoint: None,
            enable_proxy_headers: false,
            max_limit: 1000,
            pin: None,
            require_agent_tls: true,
            allow_md5_checksum: true,
            permitted_image_formats: ["raw", "gpt", "qcow2", "iso"].map(str::to_owned).to_vec(),
            default_portgroup_mode: "active-backup".to_owned(),
            disallow_clean_steps: vec!["vendor.send_raw".to_owned()],
            disallow_deploy_steps: vec!["vendor.send_raw".to_owned()],
            disallow_service_steps: vec!["vendor.send_raw".to_owned()],
            rescue_password_hash: PasswordHash::default(),
            event_streams: 256,
            event_admission: Duration::from_secs(15),
            metrics: true,
            dashboard: false,
            conductor_timeout: Duration::from_secs(60),
            workers: 2,
            kept_answers: 32 << 20,
            limits: Limits::default(),
            shutdown: Duration::from_secs(5),
        }
    }
}

impl WebSettings {
    /// The newest version served.
    #[must_use]
    pub fn max_version(&self) -> Version {
        self.pin.unwrap_or(Version::MAX).min(Version::MAX)
    }
}

/// What every handler works with; app data of whoever uses [`routes::configure`] without [`serve`].
pub struct WebState {
    /// The way to nodes and to the store.
    pub directory: Directory,
    /// How the API answers.
    pub settings: WebSettings,
    /// Places for those who follow the events.
    pub(crate) streams: Arc<Semaphore>,
    /// Changes or closes when streams without an end are to end.
    pub(crate) stop: watch::Receiver<()>,
    /// Answers that need not be made again.
    pub(crate) answers: Answers,
    /// How much is under way, and whether there is room for more.
    pub(crate) overload: Arc<Overload>,
    /// The way to what happens, for those who follow it.
    pub(crate) hub: Hub,
    /// The metrics that were told last.
    pub(crate) told: Told,
}

impl WebState {
    /// The state, and what ends its endless streams when it is dropped.
    #[must_use]
    pub fn new(directory: Directory, settings: WebSettings) -> (WebState, Streams) {
        let (end, stop) = watch::channel(());
        let streams = Arc::new(Semaphore::new(settings.event_streams));
        let overload = Overload::new(settings.limits);
        let answers = Answers::new(settings.kept_answers);
        (
            WebState {
                directory,
                settings,
                streams,
                stop,
                answers,
                overload,
                hub: Hub::default(),
                told: Told::default(),
            },
            Streams { _end: end },
        )
    }
}

/// The streams of events that clients follow. They end when this is dropped: drop it before the server is asked to
/// stop, or it waits for them as long as it may.
#[derive(Debug)]
pub struct Streams {
    _end: watch::Sender<()>,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken.
    #[error(
        "port {port} on {ip} is already in use: stop what listens there (`ss -ltnp 'sport = :{port}'` shows it), or \
         choose another port with --set api.port=N",
        port = .0.port(), ip = .0.ip()
    )]
    PortInUse(SocketAddr),
    /// The port needs more rights.
    #[error(
        "not allowed to listen on {0}: ports below 1024 need CAP_NET_BIND_SERVICE; choose another with --set api.port=N"
    )]
    NotAllowed(SocketAddr),
    /// The address is not one of this machine's, or the system refuses otherwise.
    #[error("cannot listen on {at}: check [api] host_ip")]
    Bind {
        /// Where.
        at: SocketAddr,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
}

/// A server that listens already. Await `server` to run it; `server.handle()` stops it.
pub struct Serving {
    /// The server.
    pub server: Server,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its endless answers.
    pub streams: Streams,
}

/// Binds and starts the API, with whatever `extra` adds beside it (the dashboard, metrics).
///
/// # Errors
/// The address cannot be listened on; the text says what to do.
#[allow(clippy::wildcard_enum_match_arm)] // of io::ErrorKind, which is the system's
pub async fn serve<F>(settings: WebSettings, directory: Directory, extra: F) -> Result<Serving, ServeError>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let at = settings.listen;
    let workers = settings.workers.max(1);
    let grace = settings.shutdown.as_secs().max(1);
    let tls = settings.tls.as_ref().map(Tls::server_config);
    let (state, streams) = WebState::new(directory, settings);
    let guard = Guard::new(Arc::clone(&state.overload), state.settings.max_version());
    let state = Data::new(state);
    let server = HttpServer::new(move || {
        App::new()
            .wrap(guard.clone())
            .app_data(state.clone())
            .configure(extra.clone())
            .configure(routes::configure)
    });
    // a client that has left is not worked for, and keeps no place: whoever wants an answer leaves its side open
    let server = server.h1_allow_half_closed(false);
    let server = server.workers(workers).disable_signals().shutdown_timeout(grace);
    let bound = match tls {
        Some(tls) => server.bind_rustls_0_23(at, tls),
        None => server.bind(at),
    };
    let server = bound.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => ServeError::PortInUse(at),
        std::io::ErrorKind::PermissionDenied => ServeError::NotAllowed(at),
        // there is nothing to do about the others but to read what the system says
        _ => ServeError::Bind { at, source },
    })?;
    let addr = server.addrs().first().copied().unwrap_or(at);
    Ok(Serving { server: server.run(), addr, streams })
}
