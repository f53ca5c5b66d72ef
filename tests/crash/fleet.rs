//! The simulated fleet and what it has to show in the end, and its nodes as the API tells them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferric_sim::{BootSource, Chance, Fleet, FleetOptions, Machine, node_body, sha256_hex};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::server::Server;

/// A wave in which nothing changes for so long has come to a stop.
const SILENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
/// Requests at the same time.
const AT_ONCE: usize = 16;
const IMAGE_BYTES: usize = 1 << 20;

/// A node as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) uuid: String,
    pub(crate) state: String,
    maintenance: bool,
    fault: Option<String>,
    error: Option<String>,
}

pub(crate) struct Stage {
    pub(crate) server: Arc<Server>,
    pub(crate) fleet: Fleet,
    image: Vec<(&'static str, Value)>,
    sha256: String,
}

/// Why a wave did not end well: the node's name, and what is wrong with it.
pub(crate) struct Wrong {
    pub(crate) node: Option<String>,
    pub(crate) what: String,
}

fn wrong(what: impl Into<String>) -> Wrong {
    Wrong { node: None, what: what.into() }
}

impl Stage {
    pub(crate) async fn set(nodes: usize, seed: u64) -> Self {
        let server = Arc::new(Server::new());
        let fleet = Fleet::start(FleetOptions {
            nodes,
            seed,
            bmc_port: 0,
            // each killed process leaves its sessions behind for a minute; with the usual four slots, most of the time
            // would pass in waiting for them (which is a promise of its own, in sim/tests/bmc_client.rs)
            bmc_sessions: 64,
            boot_delay: (Duration::from_millis(200), Duration::from_millis(900)),
            // a second for an image, two for an erasure: long enough to be killed in
            disk_bytes_per_second: Some(IMAGE_BYTES as u64),
            ..FleetOptions::default()
        })
        .await
        .expect("a fleet");
        let data = server.data();
        // as a boot server of its own would: the files outlive the conductor's process
        fleet.set_boot_source(BootSource::Folders(vec![data.join("httpboot"), data.join("tftpboot")]));
        fleet.set_api_url(&server.url());
        let mut chance = Chance::new(seed, 1);
        let content: Vec<u8> = (0..IMAGE_BYTES / 8).flat_map(|_| chance.bits().to_le_bytes()).collect();
        let sha256 = sha256_hex(&content);
        let url = fleet.publish_image("crash.img", Bytes::from(content));
        let image = vec![
            ("image_source", json!(url)),
            ("image_os_hash_algo", json!("sha256")),
            ("image_os_hash_value", json!(sha256)),
            ("image_disk_format", json!("raw")),
        ];
        Self { server, fleet, image, sha256 }
    }

    /// Enrols every machine and makes it manageable.
    pub(crate) async fn enrol(&self) -> Result<(), Wrong> {
        for machine in self.fleet.machines() {
            let (status, node) =
                self.server.ask(Method::POST, "/v1/nodes", Some(&node_body(machine))).await.map_err(wrong)?;
            let port = json!({"node_uuid": node["uuid"], "address": machine.mac, "pxe_enabled": true});
            let (ported, answer) =
                self.server.ask(Method::POST, "/v1/ports", Some(&port)).await.map_err(wrong)?;
            if (status, ported) != (201, 201) {
                return Err(wrong(format!("enrolling {}: {status} {node}, {ported} {answer}", machine.name)));
            }
        }
        self.wave("manageable", &[("enroll", "manage")]).await
    }

    /// Every node, by name. Errors: one that no crash may lead to.
    pub(crate) async fn nodes(&self) -> Result<BTreeMap<String, Node>, Wrong> {
        let path = "/v1/nodes?fields=uuid,name,provision_state,maintenance,fault,last_error&limit=1000";
        let (status, page) = self.server.ask(Method::GET, path, None).await.map_err(wrong)?;
        let Some(list) = page["nodes"].as_array().filter(|_| status == 200) else {
            return Err(wrong(format!("the list of nodes: {status} {page}")));
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut nodes = BTreeMap::new();
        for node in list {
            let name = text(&node["name"]).unwrap_or_default();
            let node = Node {
                uuid: text(&node["uuid"]).unwrap_or_default(),
                state: text(&node["provision_state"]).unwrap_or_default(),
                maintenance: node["maintenance"] == true,
                fault: text(&node["fault"]),
                error: text(&node["last_error"]),
            };
            let failed = node.state.ends_with("failed") || node.state == "error";
            if failed || node.maintenance || node.fault.is_some() {
                return Err(Wrong {
                    what: format!("{name} must not be like this: {node:?}"),
                    node: Some(name),
                });
            }
            nodes.insert(name, node);
        }
        Ok(nodes)
    }

    /// Asks every node that is in a state of `ways` for its verb, until all are in state `to`.
    pub(crate) async fn wave(&self, to: &str, ways: &[(&str, &'static str)]) -> Result<(), Wrong> {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let (mut before, mut changed) = (BTreeMap::new(), Instant::now());
        loop {
            let nodes = self.nodes().await?;
            if nodes.values().all(|node| node.state == to) {
                return Ok(());
            }
            if nodes != before {
                changed = Instant::now();
            }
            if changed.elapsed() > SILENCE {
                let (name, node) =
                    nodes.iter().find(|(_, node)| node.state != to).expect("not all are there");
                let what = format!("nothing changes; {name} does not reach {to}: {node:?}");
                return Err(Wrong { node: Some(name.clone()), what });
            }
            let mut asks = tokio::task::JoinSet::new();
            for node in nodes.values() {
                let Some((_, verb)) = ways.iter().find(|(from, _)| *from == node.state) else { continue };
                let ask = ask_for(self.server.clone(), node.uuid.clone(), verb, self.image.clone());
                let permits = permits.clone();
                asks.spawn(async move {
                    let _permit = permits.acquire().await;
                    ask.await
                });
            }
            while let Some(done) = asks.join_next().await {
                done.expect("a request does not panic").map_err(wrong)?;
            }
            before = nodes;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the machine of that name does.
    pub(crate) fn machine(&self, name: &str) -> String {
        let machine = self.fleet.machines().iter().find(|machine| machine.name == name);
        machine.map(|machine| format!("{:?}\n", machine.view())).unwrap_or_default()
    }

    /// What the disks have to say after so many deployments, the last of them undone or not.
    pub(crate) fn check_disks(&self, deployments: u64, cleaned: bool) -> Result<(), Wrong> {
        for machine in self.fleet.machines() {
            if let Some(what) = self.check_disk(machine, deployments, cleaned) {
                return Err(Wrong { node: Some(machine.name.clone()), what });
            }
        }
        Ok(())
    }

    fn check_disk(&self, machine: &Machine, deployments: u64, cleaned: bool) -> Option<String> {
        let disk = machine.view().disk;
        let says = |what: &str| Some(format!("{}: {what}: {disk:?}", machine.name));
        if disk.violations > 0 {
            return says("two wrote at once");
        }
        if disk.writes != deployments || disk.writes_from_zero() as u64 != deployments {
            return says(&format!("{deployments} deployments, other writes from zero or to the end"));
        }
        if cleaned && (disk.written.is_some() || disk.partition_table) {
            return says("available after use without cleaning");
        }
        let holds = disk.written.as_ref().map(|written| written.sha256.as_str());
        if !cleaned && holds != Some(self.sha256.as_str()) {
            return says("active without its image");
        }
        None
    }
}

/// Asks for a verb. That somebody was faster (a request whose answer the kill swallowed) is no error: the next look tells.
async fn ask_for(
    server: Arc<Server>,
    node: String,
    verb: &'static str,
    image: Vec<(&'static str, Value)>,
) -> Result<(), String> {
    if verb == "active" {
        let patch: Vec<Value> = image
            .into_iter()
            .map(|(key, value)| json!({"op": "add", "path": format!("/instance_info/{key}"), "value": value}))
            .collect();
        let path = format!("/v1/nodes/{node}");
        let (status, answer) = server.ask(Method::PATCH, &path, Some(&Value::Array(patch))).await?;
        if !matches!(status, 200 | 409) {
            return Err(format!("PATCH of {node}: {status} {answer}"));
        }
    }
    let path = format!("/v1/nodes/{node}/states/provision");
    let (status, answer) = server.ask(Method::PUT, &path, Some(&json!({ "target": verb }))).await?;
    match status {
        202 | 400 | 409 => Ok(()),
        _ => Err(format!("{verb} of {node}: {status} {answer}")),
    }
}
