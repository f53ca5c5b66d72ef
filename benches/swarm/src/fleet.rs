//! The nodes: what they are enrolled as, and how far each has come.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::image::splitmix;
use crate::options::{Options, Phase};
use crate::states::States;

/// Nodes that are generated when neither a number nor a file says how many.
const FEW: usize = 100;

/// Why there are no nodes.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The file cannot be read.
    #[error("{path}: {source}; name a file that `ferric sim --enroll-file` has written")]
    File {
        /// Which.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{path}: {source}; name a file that `ferric sim --enroll-file` has written")]
    Form {
        /// Which.
        path: String,
        /// What was met.
        source: serde_json::Error,
    },
    /// The file holds fewer nodes than wanted, or one without a name.
    #[error("{path}: {reason}")]
    Nodes {
        /// Which.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// A node as it is enrolled.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) body: Value,
    pub(crate) ports: Vec<Value>,
    /// Whether its deployment names an image.
    pub(crate) wants_image: bool,
}

/// What was asked of a node and is not there yet.
#[derive(Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) phase: Phase,
    pub(crate) asked: Instant,
    /// When the API had accepted it; what was read before says nothing about it.
    pub(crate) accepted: Option<Instant>,
}

/// How far a node has come.
#[derive(Clone, Default)]
pub(crate) struct Life {
    pub(crate) id: Option<Uuid>,
    pub(crate) state: Option<usize>,
    pub(crate) goal: Option<Goal>,
    /// The phase that it failed in, and why.
    pub(crate) failed: Option<(Phase, String)>,
}

/// The tally of a phase.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) reached: usize,
    pub(crate) failed: usize,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) lives: Vec<Life>,
    pub(crate) by_id: HashMap<Uuid, usize>,
    pub(crate) tally: Tally,
}

/// All nodes.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Node>,
    /// The resource class that all share, to ask for them alone.
    pub(crate) class: Option<String>,
    inner: Mutex<Inner>,
}

#[derive(Deserialize)]
struct File {
    nodes: Vec<Value>,
}

impl Fleet {
    pub(crate) fn new(options: &Options) -> Result<Self, FleetError> {
        let mut nodes = match &options.enrol_file {
            Some(path) => from_file(&path.display().to_string(), options.nodes)?,
            None => (0..options.nodes.unwrap_or(FEW)).map(|index| generated(options, index)).collect(),
        };
        for node in &mut nodes {
            for (key, value) in &options.fields {
                node.body[key] = value.clone();
            }
        }
        let class = nodes.first().and_then(|node| node.body["resource_class"].as_str()).map(str::to_owned);
        let class =
            class.filter(|class| nodes.iter().all(|node| node.body["resource_class"] == class.as_str()));
        let inner = Inner { lives: vec![Life::default(); nodes.len()], ..Inner::default() };
        Ok(Self { nodes, class, inner: Mutex::new(inner) })
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds the lives")
    }

    /// Nodes that exist and have not failed; in `Delete`, all that exist; in `Enrol`, all that do not.
    pub(crate) fn participants(&self, phase: Phase) -> Vec<usize> {
        let inner = self.inner();
        let fit = |life: &Life| match phase {
            Phase::Enrol => life.id.is_none() && life.failed.is_none(),
            Phase::Delete => life.id.is_some(),
            Phase::Manage
            | Phase::Inspect
            | Phase::Provide
            | Phase::Deploy
            | Phase::Power
            | Phase::Patch
            | Phase::List
            | Phase::Undeploy => life.id.is_some() && life.failed.is_none(),
        };
        inner.lives.iter().enumerate().filter(|(_, life)| fit(life)).map(|(index, _)| index).collect()
    }

    pub(crate) fn id(&self, index: usize) -> Option<Uuid> {
        self.inner().lives[index].id
    }

    /// The node exists.
    pub(crate) fn exists(&self, index: usize, id: Uuid, state: &str, states: &States) {
        let mut inner = self.inner();
        inner.by_id.insert(id, index);
        let life = &mut inner.lives[index];
        life.id = Some(id);
        life.state = states.moved(life.state, Some(state));
    }

    /// The node is gone.
    pub(crate) fn gone(&self, index: usize, states: &States) {
        let mut inner = self.inner();
        let life = &mut inner.lives[index];
        life.state = states.moved(life.state, None);
        if let Some(id) = life.id.take() {
            inner.by_id.remove(&id);
        }
    }

    /// The node was asked for something.
    pub(crate) fn asked(&self, index: usize, phase: Phase, asked: Instant) {
        self.inner().lives[index].goal = Some(Goal { phase, asked, accepted: None });
    }

    /// It was to be asked earlier than it could be.
    pub(crate) fn asked_at(&self, index: usize, planned: Instant) {
        if let Some(goal) = &mut self.inner().lives[index].goal {
            goal.asked = planned;
        }
    }

    /// The API took it up.
    pub(crate) fn accepted(&self, index: usize) {
        if let Some(goal) = &mut self.inner().lives[index].goal {
            goal.accepted = Some(Instant::now());
        }
    }
}

impl Inner {
    /// The node has come to the end of this phase.
    pub(crate) fn settle(&mut self, index: usize, phase: Phase, result: Result<(), String>) {
        let life = &mut self.lives[index];
        life.goal = None;
        match result {
            // what was found wrong on the way counts
            Ok(()) if life.failed.as_ref().is_some_and(|(within, _)| *within == phase) => {
                self.tally.failed += 1;
            }
            Ok(()) => self.tally.reached += 1,
            Err(reason) => {
                self.tally.failed += 1;
                life.failed.get_or_insert((phase, reason));
            }
        }
    }
}

fn from_file(path: &str, wanted: Option<usize>) -> Result<Vec<Node>, FleetError> {
    let text = std::fs::read(path).map_err(|source| FleetError::File { path: path.to_owned(), source })?;
    let file: File =
        serde_json::from_slice(&text).map_err(|source| FleetError::Form { path: path.to_owned(), source })?;
    let of_nodes = |reason| FleetError::Nodes { path: path.to_owned(), reason };
    let wanted = wanted.unwrap_or(file.nodes.len());
    if wanted > file.nodes.len() {
        return Err(of_nodes(format!("holds {} nodes; lower --nodes to that", file.nodes.len())));
    }
    let mut nodes = Vec::with_capacity(wanted);
    for (index, mut body) in file.nodes.into_iter().take(wanted).enumerate() {
        let Some(fields) = body.as_object_mut() else {
            return Err(of_nodes(format!("node {index} is no object")));
        };
        let ports = fields.remove("ports").and_then(|ports| ports.as_array().cloned()).unwrap_or_default();
        let Some(name) = fields.get("name").and_then(Value::as_str).map(str::to_owned) else {
            return Err(of_nodes(format!("node {index} has no name; give it one")));
        };
        let wants_image = fields.get("driver").and_then(Value::as_str) != Some("fake-hardware");
        nodes.push(Node { name, body, ports, wants_image });
    }
    Ok(nodes)
}

fn generated(options: &Options, index: usize) -> Node {
    let name = format!("swarm-{}-{:05}", options.seed, index + 1);
    let body = json!({
        "name": name,
        "driver": options.driver,
        "resource_class": format!("swarm-{}", options.seed),
        "properties": {"cpus": 8, "memory_mb": 32768, "local_gb": 100, "cpu_arch": "x86_64"},
        "driver_info": {
            "deploy_kernel": "http://127.0.0.1/swarm-kernel",
            "deploy_ramdisk": "http://127.0.0.1/swarm-ramdisk",
        },
        "extra": {"rack": format!("r{}", index / 40), "index": index},
    });
    let mut state = options.seed;
    let [a, b, ..] = splitmix(&mut state).to_le_bytes();
    let [_, c, d, e] = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
    let mac = format!("06:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}");
    Node {
        name,
        body,
        ports: vec![json!({"address": mac, "pxe_enabled": true})],
        wants_image: options.driver != "fake-hardware",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_nodes_differ_and_the_same_seed_makes_the_same() {
        let options = Options { nodes: Some(300), seed: 5, ..Options::default() };
        let of = |options: &Options| {
            let fleet = Fleet::new(options).unwrap();
            fleet.nodes.iter().map(|node| node.ports[0]["address"].to_string()).collect::<Vec<_>>()
        };
        let macs = of(&options);
        assert_eq!(macs, of(&options));
        assert_eq!(macs.iter().collect::<std::collections::BTreeSet<_>>().len(), 300);
        assert_ne!(macs, of(&Options { seed: 6, ..options }));
    }

    #[test]
    fn a_file_gives_nodes_with_ports_and_says_when_there_are_too_few() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.json");
        std::fs::write(&path, r#"{"nodes":[{"name":"a","driver":"ipmi","ports":[{"address":"x"}]}]}"#)
            .unwrap();
        let options = Options { enrol_file: Some(path), nodes: None, ..Options::default() };
        let fleet = Fleet::new(&options).unwrap();
        assert_eq!((fleet.nodes[0].name.as_str(), fleet.nodes[0].ports.len()), ("a", 1));
        assert!(fleet.nodes[0].wants_image && fleet.nodes[0].body.get("ports").is_none());
        let error = Fleet::new(&Options { nodes: Some(2), ..options }).err().unwrap().to_string();
        assert!(error.contains("holds 1 nodes"), "{error}");
    }
}
