//! In-band inspection: the inventory is collected and posted to the address that the kernel line names, before the node
//! is looked up. deploy.md §D.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ferric_agent_wire::{InspectionAnswer, InspectionConfiguration, InspectionData, LldpTlv, ManagerVersion};
use reqwest::StatusCode;

use crate::agent::Agent;
use crate::api::ApiError;
use crate::console::say;
use crate::disk::{self, Disk};
use crate::error::{self, Failure};
use crate::hints::Hints;
use crate::inventory::{self, Known, Roots};
use crate::{VERSION, lldp, logs};

/// Collectors when the kernel line names none.
const DEFAULT_COLLECTORS: [&str; 2] = ["default", "logs"];

/// How often the same body is posted before it is given up.
const ATTEMPTS: u32 = 5;

/// The longest pause between two attempts, and the pause between two rounds when nothing else is left to do.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long one request may take; logs make large bodies.
const REQUEST: Duration = Duration::from_secs(120);

/// How long cards that have just been switched on may take to find their other end.
const CARRIER: Duration = Duration::from_secs(5);

/// The file in the state folder that holds the answer's uuid: an agent started again need not inspect again.
const DONE: &str = "ferric-inspected";

/// What the kernel line says about inspection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to post, tried in turn (`ipa-inspection-callback-url`).
    pub callback: Vec<String>,
    /// Collectors by name (`ipa-inspection-collectors`); None: `default,logs`.
    pub collectors: Option<Vec<String>>,
    /// Whether the inventory's cards carry what their switches say (`ipa-collect-lldp`).
    pub lldp: bool,
    /// How long to listen to the switches (`ipa-lldp-timeout`).
    pub lldp_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { callback: Vec::new(), collectors: None, lldp: false, lldp_timeout: Duration::from_secs(30) }
    }
}

impl Settings {
    /// Where to post; empty when no inspection is asked for. Collectors without an address mean the API's own.
    pub fn targets(&self, api_urls: &[String]) -> Vec<String> {
        if !self.callback.is_empty() || self.collectors.is_none() {
            return self.callback.clone();
        }
        let apis = api_urls.iter().filter(|url| !url.is_empty());
        apis.map(|url| format!("{}/v1/continue_inspection", url.trim_end_matches('/'))).collect()
    }

    fn collectors(&self) -> Vec<String> {
        self.collectors.clone().unwrap_or_else(|| DEFAULT_COLLECTORS.map(str::to_owned).to_vec())
    }
}

/// Inspects if that is asked for. Gives the node's uuid if the answer holds one. Trouble is told on the console: the
/// lookup may succeed all the same. Without an API to look up at, it goes on until it has been heard.
pub async fn run(agent: &Agent) -> Option<String> {
    let options = &agent.options;
    let targets = options.inspection.targets(&options.api_urls);
    if targets.is_empty() {
        return None;
    }
    let done = options.state.join(DONE);
    if let Ok(uuid) = std::fs::read_to_string(&done) {
        return Some(uuid).filter(|uuid| !uuid.is_empty());
    }
    let data = gather(agent).await;
    let body = match serde_json::to_vec(&data) {
        Ok(body) => bytes::Bytes::from(body),
        Err(error) => {
            say(format!("inspection failed: {error}"));
            return None;
        }
    };
    loop {
        match deliver(agent, &targets, &body).await {
            Ok(uuid) => {
                say(format!(
                    "inspection accepted node={} bytes={}",
                    uuid.as_deref().unwrap_or("?"),
                    body.len()
                ));
                if let Err(error) = std::fs::write(&done, uuid.as_deref().unwrap_or_default()) {
                    tracing::warn!(%error, "a restart of the agent will inspect again");
                }
                return uuid;
            }
            Err(error) => {
                say(format!("inspection failed: {}", error::chain(&error)));
                if options.has_api() || !worth_another_try(&error) {
                    return None;
                }
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
        }
    }
}

/// Runs the collectors in the order they are named. What fails stands in `error`; the rest is there all the same.
pub async fn gather(agent: &Agent) -> InspectionData {
    let options = &agent.options;
    let names = options.inspection.collectors();
    say(format!("inspection collectors={}", names.join(",")));
    let mut data = InspectionData::default();
    let mut failures = Vec::new();
    let mut switches = Switches { told: None };
    if options.machine {
        raise_cards(&options.sys).await;
    }
    for name in &names {
        let outcome = match name.as_str() {
            "default" => collect_default(agent, &mut data, &names, &mut switches).await,
            "logs" => collect_logs(agent, &mut data).await,
            "pci-devices" => inventory::pci_devices(&options.sys)
                .map(|devices| data.pci_devices = Some(devices))
                .map_err(Failure::io("listing PCI devices")),
            "lldp" => switches.listen(agent).await.map(|heard| data.lldp_raw = Some(heard)),
            unknown => {
                say(format!("inspection: this agent has no collector {unknown}"));
                Ok(())
            }
        };
        if let Err(failure) = outcome {
            say(format!("inspection: collector {name} failed: {failure}"));
            failures.push(format!("collector {name} failed: {failure}"));
        }
    }
    data.error = Some(failures.join("\n")).filter(|text| !text.is_empty());
    data
}

/// Listens once, whoever asks.
struct Switches {
    told: Option<BTreeMap<String, Vec<LldpTlv>>>,
}

impl Switches {
    async fn listen(&mut self, agent: &Agent) -> Result<BTreeMap<String, Vec<LldpTlv>>, Failure> {
        if let Some(told) = &self.told {
            return Ok(told.clone());
        }
        let cards = inventory::cards(&agent.options.sys);
        // a folder of files has no cards to listen on
        let cards = if agent.options.machine { cards } else { Vec::new() };
        let within = agent.options.inspection.lldp_timeout;
        say(format!("listening for LLDP on {} cards for at most {} s", cards.len(), within.as_secs()));
        let heard = blocking(move || lldp::listen(&cards, within)).await?;
        let heard = heard.map_err(Failure::io("listening for LLDP"))?;
        self.told = Some(heard.clone());
        Ok(heard)
    }
}

async fn collect_default(
    agent: &Agent,
    data: &mut InspectionData,
    names: &[String],
    switches: &mut Switches,
) -> Result<(), Failure> {
    let options = &agent.options;
    data.boot_interface = options.boot_mac.clone();
    data.configuration = Some(InspectionConfiguration {
        collectors: names.to_vec(),
        managers: vec![ManagerVersion {
            name: "FerricHardwareManager".to_owned(),
            version: VERSION.to_owned(),
        }],
    });
    let disks = agent.disks.settled().await?;
    let roots = roots(agent);
    let (machine, dev) = (options.machine, options.dev.clone());
    let boot_mac = options.boot_mac.clone();
    let known_disks = disks.clone();
    let mut found = blocking(move || {
        let addresses = if machine { inventory::addresses() } else { Vec::new() };
        let bmc = inventory::ask_bmc(&dev);
        inventory::collect(&roots, &Known { disks: known_disks, addresses, boot_mac, bmc })
    })
    .await?;
    data.root_disk = root_disk(&options.sys, &disks);
    let mut outcome = Ok(());
    if options.inspection.lldp {
        match switches.listen(agent).await {
            Ok(heard) => {
                for card in &mut found.interfaces {
                    card.lldp = Some(heard.get(&card.name).cloned().unwrap_or_default());
                }
            }
            Err(failure) => outcome = Err(failure),
        }
    }
    say(format!(
        "inventory cards={} disks={} cpus={} memory_mib={}",
        found.interfaces.len(),
        found.disks.len(),
        found.cpu.count,
        found.memory.physical_mb.unwrap_or_default()
    ));
    data.inventory = Some(found);
    outcome
}

/// The disk that a deployment without hints would take.
fn root_disk(sys: &Path, disks: &[Disk]) -> Option<ferric_agent_wire::InventoryDisk> {
    match disk::choose(disks, &Hints::new()) {
        Ok(disk) => Some(inventory::describe_disk(sys, &disk)),
        Err(failure) => {
            say(format!("inspection: {failure}"));
            None
        }
    }
}

async fn collect_logs(agent: &Agent, data: &mut InspectionData) -> Result<(), Failure> {
    let roots = agent.options.machine.then(|| roots(agent));
    let logs = blocking(move || logs::collect(roots.as_ref())).await?;
    data.logs = Some(logs.map_err(Failure::io("collecting logs"))?);
    Ok(())
}

/// Where the agent sees its machine.
pub fn roots(agent: &Agent) -> Roots {
    Roots { sys: agent.options.sys.clone(), proc: agent.options.proc.clone() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| Failure::io("a worker died")(io::Error::other(error)))
}

/// Switches on every card, that it may find its other end and hear its switch; only the one booted from is on already.
async fn raise_cards(sys: &Path) {
    let cards = inventory::cards(sys);
    for card in &cards {
        let mut ip = Command::new("/bin/busybox");
        ip.args(["ip", "link", "set", card, "up"]).stderr(Stdio::null());
        match tokio::task::spawn_blocking(move || ip.status()).await {
            Ok(Ok(status)) if status.success() => {}
            _ => tracing::warn!(card, "cannot be switched on"),
        }
    }
    let began = Instant::now();
    let has_carrier = |card: &String| {
        let path = sys.join("class/net").join(card).join("carrier");
        std::fs::read_to_string(path).is_ok_and(|carrier| carrier.trim() == "1")
    };
    while began.elapsed() < CARRIER && !cards.iter().all(has_carrier) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn worth_another_try(error: &ApiError) -> bool {
    match error {
        ApiError::Unreachable { .. } | ApiError::Locked | ApiError::Failed { .. } => true,
        ApiError::Unknown | ApiError::Refused { .. } | ApiError::Nonsense(_) => false,
    }
}

/// Posts until it is heard, refused, or tried often enough.
async fn deliver(agent: &Agent, targets: &[String], body: &bytes::Bytes) -> Result<Option<String>, ApiError> {
    let mut pause = agent.options.limits.back_off * 10;
    let mut attempt = 0;
    loop {
        let mut last = None;
        for url in targets {
            match post(agent, url, body.clone()).await {
                Ok(uuid) => return Ok(uuid),
                Err(error) if worth_another_try(&error) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        attempt += 1;
        let error = last.expect("there is at least one target");
        if attempt >= ATTEMPTS {
            return Err(error);
        }
        say(format!("inspection attempt {attempt} of {ATTEMPTS}: {}", error::chain(&error)));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn post(agent: &Agent, url: &str, body: bytes::Bytes) -> Result<Option<String>, ApiError> {
    let unreachable = |source| ApiError::Unreachable { url: url.to_owned(), source };
    let request = agent.client.post(url).header("Content-Type", "application/json").body(body);
    let answer = request.header("Accept", "application/json").timeout(REQUEST).send();
    let answer = answer.await.map_err(unreachable)?;
    let status = answer.status();
    let text = crate::api::text_of(answer).await.map_err(unreachable)?;
    match status {
        _ if status.is_success() => {
            // an answer that says nothing is an answer all the same
            let answer: InspectionAnswer = serde_json::from_str(&text).unwrap_or_default();
            Ok(answer.node_uuid().map(str::to_owned))
        }
        StatusCode::CONFLICT => Err(ApiError::Locked),
        _ if status.is_server_error() => Err(ApiError::Failed { status: status.as_u16() }),
        _ => Err(ApiError::Refused { status: status.as_u16(), text: text.chars().take(500).collect() }),
    }
}
