//! What is counted in this process, for `/metrics`. One set of numbers per process: whoever has something to count
//! does so here, without knowing who reads it.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What became of a command to a BMC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the words are the values of the label
pub enum Outcome {
    Done,
    Refused,
    Silent,
    Credentials,
    NoSession,
    Other,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Refused => "refused",
            Outcome::Silent => "silent",
            Outcome::Credentials => "credentials",
            Outcome::NoSession => "no_session",
            Outcome::Other => "other",
        }
    }
}

/// Whose outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    /// What became of it.
    pub outcome: &'static str,
}

/// How boot files are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names of the protocols
pub enum BootProtocol {
    Tftp,
    Http,
    Dhcp,
}

impl BootProtocol {
    const fn as_str(self) -> &'static str {
        match self {
            BootProtocol::Tftp => "tftp",
            BootProtocol::Http => "http",
            BootProtocol::Dhcp => "dhcp",
        }
    }
}

/// Why a boot server did not serve somebody, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootRefusal {
    /// All places are taken.
    Places,
    /// The client has as many as one may have.
    Client,
    /// More came at once than can wait.
    Queue,
    /// It never answered, and somebody else needed the place.
    Silent,
    /// It asked for nothing, and somebody else needed the place.
    Idle,
    /// It took too little for too long.
    Slow,
    /// No node has this address.
    Unknown,
    /// No address is left to give.
    Exhausted,
    /// It did not speak the protocol.
    Malformed,
}

impl BootRefusal {
    const fn as_str(self) -> &'static str {
        match self {
            BootRefusal::Places => "places",
            BootRefusal::Client => "client",
            BootRefusal::Queue => "queue",
            BootRefusal::Silent => "silent",
            BootRefusal::Idle => "idle",
            BootRefusal::Slow => "slow",
            BootRefusal::Unknown => "unknown",
            BootRefusal::Exhausted => "exhausted",
            BootRefusal::Malformed => "malformed",
        }
    }
}

/// Whom a boot server did not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BootRefused {
    /// Of which server.
    pub protocol: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// Whose files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BootServer {
    /// How they are fetched.
    pub protocol: &'static str,
}

/// A step of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabels {
    /// `deploy`, `clean`, …
    pub operation: String,
    /// `deploy.write_image`, …
    pub step: String,
}

/// A request to the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `GET`, …
    pub method: &'static str,
    /// The path as documented, with its placeholders.
    pub route: &'static str,
}

/// A request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AnswerLabels {
    /// `GET`, …
    pub method: &'static str,
    /// The path as documented, with its placeholders.
    pub route: &'static str,
    /// The status.
    pub status: u16,
}

/// Seconds, from milliseconds to a minute.
const SHORT: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 20.0, 60.0];
/// Seconds, up to a day.
const LONG: [f64; 11] = [0.1, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 14_400.0, 86_400.0];

fn short() -> Histogram {
    Histogram::new(SHORT)
}

fn long() -> Histogram {
    Histogram::new(LONG)
}

type Requests = Family<RequestLabels, Histogram, fn() -> Histogram>;
type Steps = Family<StepLabels, Histogram, fn() -> Histogram>;

/// All of it. Clones of the fields count together.
pub struct Metrics {
    /// Commands to BMCs by IPMI, retries and opening a session included.
    pub ipmi_commands: Family<Ended, Counter>,
    /// How long these took.
    pub ipmi_seconds: Histogram,
    /// Datagrams sent again because no answer came.
    pub ipmi_retransmissions: Counter,
    /// Sessions opened.
    pub ipmi_sessions_opened: Counter,
    /// Sessions open now.
    pub ipmi_sessions: Gauge,
    /// BMCs that did not answer last.
    pub bmcs_silent: Gauge,
    /// Bytes of boot files and images that machines fetched.
    pub boot_bytes: Family<BootServer, Counter>,
    /// Files that they fetched.
    pub boot_files: Family<BootServer, Counter>,
    /// Requests and connections that a boot server passed over, refused or ended.
    pub boot_refused: Family<BootRefused, Counter>,
    /// Transfers and connections of boot servers now.
    pub boot_sessions: Family<BootServer, Gauge>,
    /// Bytes written to machines over iSCSI.
    pub iscsi_bytes: Counter,
    /// How long steps took.
    pub step_seconds: Steps,
    /// Requests to the API.
    pub http_requests: Family<AnswerLabels, Counter>,
    /// How long their answers took.
    pub http_seconds: Requests,
    registry: Registry,
}

/// The numbers of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Metrics {
        let mut all = Metrics {
            ipmi_commands: Family::default(),
            ipmi_seconds: short(),
            ipmi_retransmissions: Counter::default(),
            ipmi_sessions_opened: Counter::default(),
            ipmi_sessions: Gauge::default(),
            bmcs_silent: Gauge::default(),
            boot_bytes: Family::default(),
            boot_files: Family::default(),
            boot_refused: Family::default(),
            boot_sessions: Family::default(),
            iscsi_bytes: Counter::default(),
            step_seconds: Family::new_with_constructor(long as fn() -> Histogram),
            http_requests: Family::default(),
            http_seconds: Family::new_with_constructor(short as fn() -> Histogram),
            registry: Registry::default(),
        };
        let to = &mut all.registry;
        to.register("ferric_ipmi_commands", "Commands to BMCs by IPMI", all.ipmi_commands.clone());
        to.register_with_unit(
            "ferric_ipmi_command_duration",
            "How long commands to BMCs took, with retransmissions and the opening of sessions",
            Unit::Seconds,
            all.ipmi_seconds.clone(),
        );
        to.register(
            "ferric_ipmi_retransmissions",
            "Datagrams sent again because no answer came",
            all.ipmi_retransmissions.clone(),
        );
        to.register("ferric_ipmi_sessions_opened", "IPMI sessions opened", all.ipmi_sessions_opened.clone());
        to.register("ferric_ipmi_sessions", "IPMI sessions open now", all.ipmi_sessions.clone());
        to.register("ferric_bmcs_silent", "BMCs that did not answer last", all.bmcs_silent.clone());
        to.register("ferric_boot_bytes", "Bytes that machines fetched to boot", all.boot_bytes.clone());
        to.register("ferric_boot_files", "Files that machines fetched to boot", all.boot_files.clone());
        to.register(
            "ferric_boot_refused",
            "Requests and connections that a boot server passed over, refused or ended",
            all.boot_refused.clone(),
        );
        to.register(
            "ferric_boot_sessions",
            "Transfers and connections of boot servers now",
            all.boot_sessions.clone(),
        );
        to.register(
            "ferric_iscsi_written_bytes",
            "Bytes written to machines over iSCSI",
            all.iscsi_bytes.clone(),
        );
        to.register_with_unit(
            "ferric_step_duration",
            "How long steps of operations took",
            Unit::Seconds,
            all.step_seconds.clone(),
        );
        to.register("ferric_http_requests", "Requests to the API", all.http_requests.clone());
        to.register_with_unit(
            "ferric_http_request_duration",
            "How long the API took to answer",
            Unit::Seconds,
            all.http_seconds.clone(),
        );
        all
    }

    /// A command to a BMC ended.
    pub fn ipmi_ended(&self, outcome: Outcome, took: Duration) {
        self.ipmi_commands.get_or_create(&Ended { outcome: outcome.as_str() }).inc();
        self.ipmi_seconds.observe(took.as_secs_f64());
    }

    /// A step of an operation ended.
    pub fn step_ended(&self, operation: String, step: String, took: Duration) {
        self.step_seconds.get_or_create(&StepLabels { operation, step }).observe(took.as_secs_f64());
    }

    /// A request was answered.
    pub fn answered(&self, method: &'static str, route: &'static str, status: u16, took: Duration) {
        self.http_requests.get_or_create(&AnswerLabels { method, route, status }).inc();
        self.http_seconds.get_or_create(&RequestLabels { method, route }).observe(took.as_secs_f64());
    }

    /// A machine began to fetch a file.
    pub fn boot_file(&self, protocol: BootProtocol) {
        self.boot_files.get_or_create(&BootServer { protocol: protocol.as_str() }).inc();
    }

    /// A boot server did not serve somebody, or no longer.
    pub fn boot_refused(&self, protocol: BootProtocol, reason: BootRefusal) {
        let labels = BootRefused { protocol: protocol.as_str(), reason: reason.as_str() };
        self.boot_refused.get_or_create(&labels).inc();
    }

    /// A machine fetched so many bytes of one.
    pub fn boot_read(&self, protocol: BootProtocol, bytes: u64) {
        self.boot_bytes.get_or_create(&BootServer { protocol: protocol.as_str() }).inc_by(bytes);
    }
}

/// A transfer or connection of a boot server, for as long as this lives.
#[derive(Debug)]
pub struct BootSession(BootServer);

impl BootSession {
    /// One more.
    #[must_use]
    pub fn new(protocol: BootProtocol) -> BootSession {
        let server = BootServer { protocol: protocol.as_str() };
        METRICS.boot_sessions.get_or_create(&server).inc();
        BootSession(server)
    }
}

impl Drop for BootSession {
    fn drop(&mut self) {
        METRICS.boot_sessions.get_or_create(&self.0).dec();
    }
}

/// An IPMI session that is open for as long as this lives.
#[derive(Debug)]
pub struct OpenSession(());

impl Default for OpenSession {
    fn default() -> Self {
        METRICS.ipmi_sessions_opened.inc();
        METRICS.ipmi_sessions.inc();
        OpenSession(())
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        METRICS.ipmi_sessions.dec();
    }
}

/// The registry ends sentences itself.
fn sentence(help: &str) -> &str {
    help.trim_end_matches('.')
}

/// Numbers that are read at the moment of asking, to stand beside those that are counted.
#[derive(Default)]
pub struct Snapshot(Registry);

impl Snapshot {
    /// Gauges of one name; each with its labels.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>,
    ) {
        let family = Family::<Vec<(&'static str, String)>, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, sentence(help), family);
    }

    /// Counters of one name that somebody else keeps, each with its labels; `name` without `_total`.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>,
    ) {
        let family = Family::<Vec<(&'static str, String)>, Counter<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, sentence(help), family);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        self.0.register(name, sentence(help), gauge);
    }

    /// A counter that somebody else keeps; `name` without `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        let counter = Counter::<f64, AtomicU64>::default();
        counter.inc_by(value);
        self.0.register(name, sentence(help), counter);
    }

    /// The text of everything: what is counted, and this.
    ///
    /// # Errors
    /// None that is known; writing to a string does not fail.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        use prometheus_client::encoding::text::{encode_eof, encode_registry};
        let mut text = String::with_capacity(16 * 1024);
        encode_registry(&mut text, &METRICS.registry)?;
        encode_registry(&mut text, &self.0)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// The type of [`Snapshot::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_and_what_is_read_stand_in_one_text() {
        METRICS.answered("GET", "/v1/nodes/{ident}", 200, Duration::from_millis(3));
        METRICS.ipmi_ended(Outcome::NoSession, Duration::from_millis(30));
        METRICS.boot_read(BootProtocol::Tftp, 1024);
        METRICS.boot_refused(BootProtocol::Dhcp, BootRefusal::Exhausted);
        let transfer = BootSession::new(BootProtocol::Dhcp);
        let session = OpenSession::default();
        let mut now = Snapshot::default();
        let node = |state: &str| vec![("provision_state", state.to_owned())];
        now.gauges("ferric_nodes", "Nodes.", [(node("active"), 3.0), (node("deploy \"x\""), 1.0)]);
        now.counter("ferric_database_commits", "Commits.", 7.0);
        now.gauge("ferric_database_up", "Up.", 1.0);
        let text = now.text().expect("text");
        for line in [
            "ferric_http_requests_total{method=\"GET\",route=\"/v1/nodes/{ident}\",status=\"200\"} 1",
            "ferric_ipmi_commands_total{outcome=\"no_session\"} 1",
            "ferric_boot_bytes_total{protocol=\"tftp\"} 1024",
            "ferric_boot_refused_total{protocol=\"dhcp\",reason=\"exhausted\"} 1",
            "ferric_boot_sessions{protocol=\"dhcp\"} 1",
            "ferric_ipmi_sessions 1",
            "ferric_nodes{provision_state=\"active\"} 3.0",
            "ferric_nodes{provision_state=\"deploy \\\"x\\\"\"} 1.0",
            "ferric_database_commits_total 7.0",
            "ferric_database_up 1.0",
            "# HELP ferric_nodes Nodes.",
        ] {
            assert!(text.lines().any(|one| one == line), "no '{line}' in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        drop((session, transfer));
        assert_eq!(METRICS.ipmi_sessions.get(), 0);
    }
}
