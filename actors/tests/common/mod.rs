//! A Ferric without its web: SQLite in a temporary folder, fake hardware, real actors.

// each test file uses its part
#![allow(dead_code)]

pub(crate) mod agent;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferric_actors::message::{Describe, Heartbeat, Lookup, Provision, Wanted};
use ferric_actors::{Directory, NodeError, Settings};
use ferric_drivers::boot::FakeBoot;
use ferric_drivers::deploy::FakeDeploy;
use ferric_drivers::interface::{
    BootInterface, DeployInterface, Kind, ManagementInterface, PowerInterface, Steps,
};
use ferric_drivers::management::{FakeManagement, NoopManagement};
use ferric_drivers::power::FakePower;
use ferric_drivers::protocol::dhcp::PortIndex;
use ferric_drivers::{Parts, Registry, RegistrySettings};
use ferric_machine::{State, Timestamp, Verb};
use ferric_schema::{Node, Store, StoreOptions};
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) directory: Directory,
    pub(crate) folder: tempfile::TempDir,
    /// What the nodes' agents were told at their look-up.
    pub(crate) tokens: std::sync::Mutex<std::collections::HashMap<Uuid, String>>,
}

pub(crate) struct Interfaces {
    pub(crate) power: Arc<dyn PowerInterface>,
    pub(crate) deploy: Arc<dyn DeployInterface>,
    pub(crate) agent: Arc<agent::Agent>,
}

impl Default for Interfaces {
    fn default() -> Self {
        Interfaces { power: Arc::new(FakePower), deploy: Arc::new(FakeDeploy), agent: Arc::default() }
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        host: "test-host".into(),
        power_sync_interval: Duration::ZERO,
        automated_clean: false,
        progress_interval: Duration::from_millis(50),
        request_within: Duration::from_secs(20),
        ..Settings::default()
    }
}

impl World {
    pub(crate) async fn new(interfaces: Interfaces, settings: Settings) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        World::over(folder, interfaces, settings).await
    }

    /// A process over what another one left behind.
    pub(crate) async fn over(folder: tempfile::TempDir, interfaces: Interfaces, settings: Settings) -> World {
        let path = folder.path().join("ferric.sqlite");
        let store = Store::open(&StoreOptions::new(path.to_str().expect("UTF-8"))).expect("a database");
        let parts = Parts {
            power: BTreeMap::from([("fake", interfaces.power)]),
            management: BTreeMap::from([
                ("fake", Arc::new(FakeManagement) as Arc<dyn ManagementInterface>),
                ("noop", Arc::new(NoopManagement)),
            ]),
            boot: BTreeMap::from([("fake", Arc::new(FakeBoot) as Arc<dyn BootInterface>)]),
            deploy: BTreeMap::from([("fake", interfaces.deploy)]),
            steps: BTreeMap::from([
                ((Kind::Inspect, "fake"), Arc::new(agent::Ramdisks) as Arc<dyn Steps>),
                ((Kind::Rescue, "fake"), Arc::new(agent::Ramdisks)),
            ]),
            agent_steps: Some(interfaces.agent),
            ..Parts::default()
        };
        let names =
            RegistrySettings { hardware_types: vec!["fake-hardware".into()], ..RegistrySettings::default() };
        let registry = Arc::new(Registry::new(names, parts).expect("a registry"));
        let index = Arc::new(PortIndex::default());
        let directory = Directory::start(settings, store, registry, index).await.expect("a directory");
        World { directory, folder, tokens: Default::default() }
    }

    pub(crate) async fn enrol(&self) -> Uuid {
        let node = Node::new(Uuid::new_v4(), "fake-hardware", Timestamp(0));
        self.directory.create(node).await.expect("enrolled").uuid
    }

    pub(crate) async fn node(&self, id: Uuid) -> Node {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.directory.ask(id, Describe).await {
                Ok(node) => return node,
                Err(NodeError::Rebuilding(_)) if Instant::now() < deadline => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) async fn verb(&self, id: Uuid, verb: Verb) -> Result<(), NodeError> {
        self.directory.ask(id, Provision { verb, configdrive: None, wanted: Wanted::default() }).await
    }

    pub(crate) async fn asks(&self, id: Uuid, verb: Verb, wanted: Wanted) -> Result<(), NodeError> {
        self.directory.ask(id, Provision { verb, configdrive: None, wanted }).await
    }

    /// The agent of the node calls once, if the node lets it.
    pub(crate) async fn beats(&self, id: Uuid) {
        if let Ok(found) = self.directory.ask(id, Lookup { wants_token: true }).await
            && let Some(token) = found.agent_token.filter(|text| text != "******")
        {
            self.tokens.lock().expect("not poisoned").insert(id, token);
        }
        let token = self.tokens.lock().expect("not poisoned").get(&id).cloned();
        let beat = Heartbeat {
            callback_url: "http://127.0.0.1:9999".into(),
            agent_token: token,
            agent_version: Some("1".into()),
            agent_verify_ca: None,
            agent_status: None,
            agent_status_message: None,
        };
        // refused while the node has no token, as any agent's would be
        let _ = self.directory.ask(id, beat).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    /// The agent of the node calls until the node is in `state`.
    pub(crate) async fn calls_until(&self, id: Uuid, state: State) -> Node {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let node = self.node(id).await;
            if node.provision_state == state {
                return node;
            }
            let error = node.last_error;
            assert!(Instant::now() < deadline, "not {state} but {}, {error:?}", node.provision_state);
            self.beats(id).await;
        }
    }

    /// The process ends without a word to its nodes, and another one goes on.
    pub(crate) async fn restarts(self, interfaces: Interfaces, settings: Settings) -> World {
        let World { directory, folder, tokens } = self;
        directory.stop().await;
        drop(directory);
        World { tokens, ..World::over(folder, interfaces, settings).await }
    }

    pub(crate) async fn reaches(&self, id: Uuid, state: State) -> Node {
        self.until(id, &format!("state {state}"), |node| node.provision_state == state).await
    }

    pub(crate) async fn until(&self, id: Uuid, what: &str, holds: impl Fn(&Node) -> bool) -> Node {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let node = self.node(id).await;
            if holds(&node) {
                return node;
            }
            let state = node.provision_state;
            assert!(Instant::now() < deadline, "not {what} but {state}, last error {:?}", node.last_error);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn available(&self) -> Uuid {
        let id = self.enrol().await;
        self.verb(id, Verb::Manage).await.expect("manage");
        self.reaches(id, State::Manageable).await;
        self.verb(id, Verb::Provide).await.expect("provide");
        self.reaches(id, State::Available).await;
        id
    }
}
