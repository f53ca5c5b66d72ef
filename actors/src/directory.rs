//! Node id → actor address: the only place that knows where a node lives.

use std::any::TypeId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Arbiter, ArbiterHandle, Handler, MailboxError, Message};
use dashmap::DashMap;
use ferric_drivers::flow::Flow;
use ferric_drivers::interface::{Json, Kind, Level, Property, VendorMethod};
use ferric_drivers::protocol::dhcp::PortIndex;
use ferric_drivers::{DriverError, Registry};
use ferric_machine::Timestamp;
use ferric_schema::events::NewEvent;
use ferric_schema::{
    Conn, JsonText, Node, Port, Store, StoreError, conductors, events, history, journal, nodes, ports, retain,
};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::doing::Doing;
use crate::error::NodeError;
use crate::governor::Governor;
use crate::job::stopped;
use crate::looks::{Looks, PowerSync};
use crate::message::{
    AttachConsole, CallVendor, Describe, DriverInfo, GetBootDevice, GetConsole, GetIndicator, GetIndicators,
    GetVendorMethods, GetVmedia, Heartbeat, Lookup, SetMaintenance, SupportedBootDevices, Told, UpdatePort,
    Validate, VendorAnswer,
};
use crate::node::{Leave, LookAtPower, NodeActor, ReloadPorts, Turn};
use crate::places::Places;
use crate::ports::PortBook;
use crate::power::QUESTION;
use crate::settings::Settings;
use crate::supervisor::{Serve, Supervisor};
use crate::usual::Usual;
use crate::view;
use crate::world::World;

/// Rows read at a time at start-up.
const PAGE: i64 = 500;

/// How long a request may take once it has its turn: the slowest asks a BMC two questions.
const ANSWER: Duration = Duration::from_secs(240);

/// How often what is too old is thrown away.
const PURGE: Duration = Duration::from_secs(60);

/// How many of these times the histories of the nodes are looked through as well, which takes longer.
const HISTORY_EVERY: u64 = 60;

/// Cheap to clone; shared by all web workers.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

/// The way back from an actor to the directory, which does not keep it alive.
pub(crate) struct WeakDirectory(Weak<Inner>);

impl WeakDirectory {
    pub(crate) fn upgrade(&self) -> Option<Directory> {
        self.0.upgrade().map(|inner| Directory { inner })
    }
}

/// How many happenings a slow listener may be behind.
const TOLD: usize = 4096;

struct Inner {
    world: Arc<World>,
    nodes: DashMap<Uuid, Addr<NodeActor>>,
    arbiters: Vec<ArbiterHandle>,
}

impl Directory {
    /// Makes the actors of every node in the database; they take up what they were in the middle of. Call inside an
    /// actix system. `index` is what the DHCP server looks ports up in.
    pub async fn start(
        settings: Settings,
        store: Store,
        registry: Arc<Registry>,
        index: Arc<PortIndex>,
    ) -> Result<Directory, StoreError> {
        let supervisor = Supervisor::default().start();
        let world = Arc::new(World {
            governor: Governor::new(settings.bmc_backoff, settings.bmc_backoff_most),
            looks: Looks::new(settings.power_sync_workers, settings.power_sync_interval),
            deploys: Places::new(settings.max_concurrent_deploys),
            cleans: Places::new(settings.max_concurrent_cleans),
            flow: Flow::new(settings.flow.clone()),
            usual: Usual::default(),
            told: broadcast::channel(TOLD).0,
            power_done: broadcast::channel(TOLD).0,
            directory: OnceLock::new(),
            allocator: OnceLock::new(),
            supervisor: supervisor.clone(),
            doing: DashMap::new(),
            readings: DashMap::new(),
            sensor_places: tokio::sync::Semaphore::new(settings.sensors.workers.max(1)),
            ports: PortBook::new(index),
            store,
            registry,
            settings,
        });
        let arbiters = (0..world.settings.arbiters.max(1)).map(|_| Arbiter::new().handle()).collect();
        let directory = Directory { inner: Arc::new(Inner { world, nodes: DashMap::new(), arbiters }) };
        supervisor.do_send(Serve(directory.clone()));
        let weak = WeakDirectory(Arc::downgrade(&directory.inner));
        assert!(directory.inner.world.directory.set(weak).is_ok(), "a world has one directory");
        let known = directory.store().read(journal::durations).await?;
        directory.inner.world.usual.fill(known);
        directory.register().await?;
        directory.load().await?;
        directory.start_allocator(&directory.inner.arbiters[0]);
        directory.keep_alive();
        Ok(directory)
    }

    async fn load(&self) -> Result<(), StoreError> {
        let open: Arc<HashSet<Uuid>> =
            Arc::new(self.store().read(journal::open_nodes).await?.into_iter().collect());
        let page_after = |after| {
            let (store, busy) = (self.store().clone(), open.clone());
            // in a task of its own: the next page is read while the actors of this one are made
            tokio::spawn(async move { store.read(move |conn| page(conn, after, &busy)).await })
        };
        let mut next = page_after(0);
        loop {
            let page = next.await.map_err(|error| StoreError::other(error.to_string()))??;
            let Some((last, ..)) = page.last() else { return Ok(()) };
            next = page_after(last.id);
            for (node, ports, open) in page {
                self.adopt(node, ports, open, false);
            }
        }
    }

    /// Starts a node's actors on the arbiter its id is pinned to.
    fn adopt(&self, node: Node, ports: Vec<Port>, open: Vec<journal::StepRow>, resting: bool) {
        let id = node.uuid;
        let world = self.inner.world.clone();
        world.ports.set(id, &ports);
        let at =
            id.as_bytes().iter().map(|byte| usize::from(*byte)).sum::<usize>() % self.inner.arbiters.len();
        let actor = NodeActor::new(world, node, ports, open, resting);
        let address = NodeActor::start_in_arbiter(&self.inner.arbiters[at], |_| actor);
        self.inner.nodes.insert(id, address);
    }

    async fn register(&self) -> Result<(), StoreError> {
        let world = &self.inner.world;
        let (host, group) = (world.settings.host.clone(), world.settings.conductor_group.clone());
        let drivers: Vec<String> = world.registry.types().iter().map(|row| row.name.to_owned()).collect();
        let now = world.now();
        self.store()
            .write_first(move |conn| conductors::register(conn, &host, &group, &drivers, now))
            .await
            .map(|_| ())
    }

    fn keep_alive(&self) {
        let directory = self.clone();
        let every = self.inner.world.settings.keep_alive.max(Duration::from_secs(1));
        actix::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                if let Err(error) = directory.register().await {
                    tracing::error!(%error, "cannot renew this conductor's row");
                }
            }
        });
        let directory = self.clone();
        actix::spawn(async move {
            for round in 0_u64.. {
                if let Err(error) = directory.purge(round % HISTORY_EVERY == 0).await {
                    tracing::error!(%error, "cannot throw old events away");
                }
                tokio::time::sleep(PURGE).await;
            }
        });
    }

    /// Throws away events and ended steps that are older than `history_for`, or more than `most_events` and `most_steps`;
    /// and, where `history` says so, lines of the nodes' histories.
    async fn purge(&self, history: bool) -> Result<(), StoreError> {
        let world = &self.inner.world;
        let age = i64::try_from(world.settings.history_for.as_micros()).unwrap_or(i64::MAX);
        let kept = retain::Kept {
            since: Timestamp(world.now().0.saturating_sub(age)),
            events: i64::try_from(world.settings.most_events).unwrap_or(i64::MAX),
            steps: i64::try_from(world.settings.most_steps).unwrap_or(i64::MAX),
        };
        // others write in between; and it is done all the more where much is written
        while world.store.write_first(move |conn| retain::purge_piece(conn, kept)).await? > 0 {}
        if !history {
            return Ok(());
        }
        let days = Duration::from_secs(u64::from(world.settings.node_history_days) * 24 * 3600);
        let days = i64::try_from(days.as_micros()).unwrap_or(i64::MAX);
        let lines_before = Timestamp(world.now().0.saturating_sub(days));
        let most = i64::try_from(world.settings.node_history_most).unwrap_or(i64::MAX);
        let purged = world.store.write_first(move |conn| history::purge(conn, most, lines_before));
        purged.await.map(|_| ())
    }

    /// Makes the actors of a node anew after they died. With `deaths` the node has died too often and is put into
    /// maintenance first.
    pub(crate) async fn rebuild(&self, id: Uuid, deaths: Option<u32>) {
        self.inner.nodes.remove(&id);
        let now = self.inner.world.now();
        let mut wait = Duration::from_millis(100);
        loop {
            let read = self.store().write_first(move |conn| {
                let Some(mut node) = nodes::get(conn, id)? else { return Ok(None) };
                if let Some(deaths) = deaths {
                    let text = format!(
                        "the actors of this node died {deaths} times in a row; it is left alone until maintenance is \
                         cleared. The traces are in Ferric's log; please report them"
                    );
                    node.maintenance = true;
                    node.maintenance_reason = Some(text.clone());
                    node.last_error = Some(text.clone());
                    node = nodes::advance(conn, &node, now)?;
                    events::append(conn, &event(id, now, "ERROR", "maintenance", text))?;
                }
                let ports = ports::of_node(conn, id)?;
                let open = journal::open_of_node(conn, id)?;
                Ok(Some((node, ports, open)))
            });
            match read.await {
                Ok(Some((node, ports, open))) => return self.adopt(node, ports, open, deaths.is_some()),
                Ok(None) => return self.forget(id),
                Err(error) => {
                    tracing::error!(node = %id, %error, "cannot rebuild the node yet; trying again in {wait:?}");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
            }
        }
    }

    fn forget(&self, id: Uuid) {
        self.inner.nodes.remove(&id);
        self.inner.world.ports.set(id, &[]);
        self.inner.world.doing.remove(&id);
        self.inner.world.readings.remove(&id);
        self.inner.world.looks.leave_out(id);
    }

    /// Enrols a node: resolves its interfaces, stores it, starts its actors. Interface fields that are unset get their
    /// defaults. Errors: `NoValidHost` for an unknown hardware type, `Invalid` for an unusable interface, the store's.
    pub async fn create(&self, mut node: Node) -> Result<Node, NodeError> {
        let world = &self.inner.world;
        if node.conductor_group != world.settings.conductor_group {
            return Err(NodeError::NoValidHost { driver: node.driver, group: node.conductor_group });
        }
        let chosen = view::chosen(&node);
        let names =
            world.registry.resolve(&node.driver, &chosen).map_err(|error| view::unusable(&node, error))?;
        view::set_chosen(&mut node, &names);
        let created =
            event(node.uuid, world.now(), "INFO", "created", format!("enrolled as {}", node.driver));
        let directory = self.clone();
        // in a task of its own: a client that hangs up must not leave a row without an actor
        let stored = tokio::spawn(async move {
            let write = directory.store().write(move |conn| {
                let node = nodes::insert(conn, &node)?;
                events::append(conn, &created)?;
                Ok(node)
            });
            let node = write.await?;
            directory.adopt(node.clone(), Vec::new(), Vec::new(), false);
            Ok::<_, StoreError>(node)
        });
        let stored = stored.await.map_err(|error| StoreError::other(error.to_string()))?;
        Ok(stored?)
    }

    /// The refusal of what cannot be done with `node` because of what is being done with it.
    #[must_use]
    pub fn locked(&self, node: &Node) -> NodeError {
        let host = node.reservation.clone().unwrap_or_else(|| self.host().to_owned());
        NodeError::Locked { node: node.uuid, host, doing: self.inner.world.sentence_of(node.uuid) }
    }

    /// Sends a message to a node and waits for its answer; for its turn at most `request_within`, and for an order that
    /// holds the node ([`Settings::lock_wait`]) only what needs the node for itself.
    ///
    /// Errors: `NotFound`; `Locked` when its turn does not come in time; `Rebuilding` when the actor died over it.
    pub async fn ask<M, T>(&self, node: Uuid, message: M) -> Result<T, NodeError>
    where
        M: Message<Result = Result<T, NodeError>> + Send + 'static,
        T: Send + 'static,
        NodeActor: Handler<M>,
        actix::Context<NodeActor>: ToEnvelope<NodeActor, M>,
    {
        let Some(address) = self.address(node) else {
            return Err(self.missing(node).await);
        };
        let settings = &self.inner.world.settings;
        let turn = Turn { locks: needs_lock::<M>() };
        // whoever waits for an order is told so by the node itself, not by the end of the patience here
        let within =
            if turn.locks { settings.request_within + settings.lock_wait() } else { settings.request_within };
        // the turn first: a request that was let in is never answered "locked, try again" while it is being done
        let answer = match in_turn(&address, turn, within).await {
            Ok(()) => address.send(message).timeout(ANSWER).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => answer,
            Err(MailboxError::Closed) => Err(self.missing(node).await),
            Err(MailboxError::Timeout) => {
                let doing = self.inner.world.sentence_of(node);
                Err(NodeError::Locked { node, host: self.host().to_owned(), doing })
            }
        }
    }

    /// Builds a config drive for `node` from its parts (`meta_data`, `user_data`, …), off the threads of the actors: a
    /// large one takes a second. Errors: `Driver` when the parts cannot be used.
    pub async fn pack_configdrive(&self, node: &Node, parts: Json) -> Result<String, NodeError> {
        let shown = node.instance_info.parse();
        let shown = shown.get("display_name").and_then(serde_json::Value::as_str).map(str::to_owned);
        let (uuid, name) = (node.uuid, shown.or_else(|| node.name.clone()));
        let pack = move || ferric_drivers::deploy::build_configdrive(uuid, name.as_deref(), &parts);
        let packed = tokio::task::spawn_blocking(pack).await;
        Ok(packed.map_err(|error| StoreError::other(error.to_string()))??)
    }

    pub(crate) fn address(&self, node: Uuid) -> Option<Addr<NodeActor>> {
        self.inner.nodes.get(&node).map(|entry| entry.value().clone())
    }

    /// Changes a port of `node`; with a new `node_uuid` it moves, and its new node learns of it too.
    /// Errors: as [`Directory::ask`]; what was moved is not answered with one.
    pub async fn update_port(&self, node: Uuid, change: UpdatePort) -> Result<Port, NodeError> {
        let directory = self.clone();
        // in a task of its own: a client that hangs up must not leave a port without a node that knows it
        let moved = tokio::spawn(async move {
            let port = directory.ask(node, change).await?;
            if port.node_uuid != node {
                let (to, within) = (port.node_uuid, directory.settings().request_within);
                let told = tokio::spawn(async move { directory.reload_ports(to).await });
                // it is told however long that takes; the answer says what is stored already
                if tokio::time::timeout(within, told).await.is_err() {
                    tracing::warn!(node = %to, port = %port.uuid, "the node does not know yet that it has this port");
                }
            }
            Ok::<_, NodeError>(port)
        });
        moved.await.map_err(|error| StoreError::other(error.to_string()))?
    }

    /// Has a node read its ports anew, whatever holds it, and however often its actor dies over it.
    async fn reload_ports(&self, node: Uuid) {
        let mut wait = Duration::from_millis(50);
        loop {
            match self.address(node) {
                Some(address) => match address.send(ReloadPorts).await {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => tracing::error!(%node, %error, "cannot read its ports anew yet"),
                    Err(MailboxError::Closed | MailboxError::Timeout) => {}
                },
                None if matches!(self.missing(node).await, NodeError::NotFound { .. }) => return,
                None => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }

    /// The node is deleted: the actor at `address` is not asked any more.
    pub(crate) fn left(&self, node: Uuid, address: &Addr<NodeActor>) {
        // another one may have been enrolled with its id meanwhile
        if self.inner.nodes.remove_if(&node, |_, known| known == address).is_some() {
            self.inner.world.looks.leave_out(node);
            self.inner.world.readings.remove(&node);
        }
    }

    /// Why a node has no actor: it does not exist, or it is being rebuilt.
    async fn missing(&self, node: Uuid) -> NodeError {
        match self.store().read(move |conn| nodes::get(conn, node)).await {
            Ok(Some(_)) => NodeError::Rebuilding(node),
            Ok(None) => {
                self.inner.nodes.remove_if(&node, |_, known| !known.connected());
                NodeError::NotFound { what: "Node", id: node.to_string() }
            }
            Err(error) => error.into(),
        }
    }

    /// The nodes that own ports with these addresses, each once.
    #[must_use]
    pub fn node_of_port_address(&self, macs: &[String]) -> Vec<Uuid> {
        self.inner.world.ports.owners(macs)
    }

    /// The enabled hardware types.
    #[must_use]
    pub fn drivers(&self) -> Vec<DriverInfo> {
        self.inner.world.registry.types().into_iter().filter_map(|row| self.driver(row.name)).collect()
    }

    /// One hardware type; `None` when it is not enabled.
    #[must_use]
    pub fn driver(&self, name: &str) -> Option<DriverInfo> {
        let registry = &self.inner.world.registry;
        let classic = registry.types().into_iter().find(|row| row.name == name)?.classic;
        let mut defaults = BTreeMap::new();
        let mut enabled = BTreeMap::new();
        for kind in Kind::ALL {
            let all = registry.enabled(name, kind).ok()?;
            defaults.insert(kind, registry.default_interface(name, kind).ok().map(str::to_owned));
            enabled.insert(kind, all.into_iter().map(str::to_owned).collect());
        }
        let properties = registry.properties(name).ok()?;
        Some(DriverInfo {
            name: name.to_owned(),
            classic,
            hosts: vec![self.host().to_owned()],
            defaults,
            enabled,
            properties: properties.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect(),
        })
    }

    /// What can be said of a logical disk of a hardware type: property → description. Errors: `NotFound`.
    pub fn raid_properties(&self, driver: &str) -> Result<&'static [Property], NodeError> {
        self.inner.world.registry.raid_properties(driver).map_err(|_| unknown_driver(driver))
    }

    /// The vendor methods of a hardware type, which need no node. Errors: `NotFound`.
    pub fn driver_vendor_methods(&self, driver: &str) -> Result<Vec<&'static VendorMethod>, NodeError> {
        self.inner.world.registry.vendor_methods(driver).map_err(|_| unknown_driver(driver))
    }

    /// Calls a vendor method of a hardware type; an asynchronous one goes on after the answer.
    /// Errors: `NotFound` for the hardware type, `Driver`.
    pub async fn call_driver_vendor(
        &self,
        driver: &str,
        call: CallVendor,
    ) -> Result<VendorAnswer, NodeError> {
        let vendor = self.inner.world.registry.vendor_of(driver).map_err(|_| unknown_driver(driver))?;
        let CallVendor { method, http, args, peer: _, anonymous: _ } = call;
        let method = vendor.method(Level::Driver, &method, &http)?;
        // in a task of its own: a panic is an error of this call, and a client that hangs up stops nothing
        let task = tokio::spawn(async move {
            let run = vendor.driver_call(method, &http, &args);
            tokio::time::timeout(QUESTION, run).await.unwrap_or_else(|_| {
                Err(DriverError::Unreachable {
                    what: format!("what the vendor method {} speaks to", method.name),
                    after: QUESTION,
                    remedy: "check that it is reachable from this host".into(),
                })
            })
        });
        if method.is_async {
            tokio::spawn(async move {
                if let Ok(Err(error)) = task.await {
                    tracing::warn!(%error, method = method.name, "a vendor method failed");
                }
            });
            return Ok(VendorAnswer::Accepted);
        }
        let value =
            task.await.unwrap_or_else(|error| Err(stopped("calling a vendor method", &error.to_string())))?;
        Ok(if method.attach { VendorAnswer::File(value) } else { VendorAnswer::Value(value) })
    }

    /// The conductor that serves the node now, `None` when none serves its hardware type and group.
    #[must_use]
    pub fn conductor_for(&self, node: &Node) -> Option<String> {
        self.conductor_of(&node.driver, &node.conductor_group)
    }

    /// As [`Directory::conductor_for`], of every node of that hardware type and group.
    #[must_use]
    pub fn conductor_of(&self, driver: &str, group: &str) -> Option<String> {
        let world = &self.inner.world;
        let serves = world.registry.types().iter().any(|row| row.name == driver)
            && group == world.settings.conductor_group;
        serves.then(|| world.settings.host.clone())
    }

    /// What a node is doing at this moment, if it is doing anything.
    #[must_use]
    pub fn doing(&self, node: Uuid) -> Option<Doing> {
        let doing = self.inner.world.doing.get(&node).map(|entry| entry.clone())?;
        let world = &self.inner.world;
        let place = || {
            let found = |kind, places: &Places| places.place_of(node).map(|place| place_text(kind, place));
            found("deploy", &world.deploys).or_else(|| found("clean", &world.cleans))
        };
        let waiting_for = if doing.number == 0 { place() } else { None };
        Some(Doing { waiting_for: waiting_for.or(doing.waiting_for), ..doing })
    }

    /// What all nodes are doing at this moment; those at rest are left out.
    #[must_use]
    pub fn all_doing(&self) -> Vec<(Uuid, Doing)> {
        let lines = self.queue();
        let places: HashMap<Uuid, String> =
            lines.iter().flat_map(|(kind, line)| places_of(kind, line)).collect();
        let all = self.inner.world.doing.iter();
        all.map(|entry| {
            let (node, mut doing) = (*entry.key(), entry.value().clone());
            if doing.number == 0 {
                doing.waiting_for = places.get(&node).cloned().or(doing.waiting_for);
            }
            (node, doing)
        })
        .collect()
    }

    /// The progress of everything from now on, which is stored nowhere; what happens is in the events table, and
    /// [`Store::committed`] tells when to look. A receiver that is too slow is told how much it missed.
    #[must_use]
    pub fn stream(&self) -> broadcast::Receiver<Arc<Told>> {
        self.inner.world.told.subscribe()
    }

    /// Who waits for a place, by kind of work (`deploy`, `clean`), the next one first.
    #[must_use]
    pub fn queue(&self) -> BTreeMap<&'static str, Vec<Uuid>> {
        let world = &self.inner.world;
        BTreeMap::from([("deploy", world.deploys.waiting()), ("clean", world.cleans.waiting())])
    }

    /// Looks at the power of every node now, whatever the interval; goes on after the answer, which is the number of the
    /// sweep: that of the one under way, if there is one. What became of it tells [`Directory::power_sync`].
    #[must_use]
    pub fn sweep_power(&self) -> u64 {
        let world = &self.inner.world;
        let sweep = match world.looks.begin(self.inner.nodes.len(), world.now()) {
            Ok(sweep) => sweep,
            Err(present) => return present,
        };
        let (directory, number) = (self.clone(), sweep.number());
        // on a thread of the actors: going through the fleet is no work for who answers requests
        self.inner.arbiters[0].spawn(async move {
            let all: Vec<Uuid> = directory.inner.nodes.iter().map(|entry| *entry.key()).collect();
            for node in all {
                // its place bounds how many are on their way at once
                let look = directory.inner.world.looks.look_for(node, &sweep).await;
                if let Some(address) = directory.address(node) {
                    // a node that is too busy to be asked is left out
                    let _ = address.try_send(LookAtPower(look));
                }
            }
        });
        number
    }

    /// How the looks at the power of the fleet go.
    #[must_use]
    pub fn power_sync(&self) -> PowerSync {
        self.inner.world.looks.told()
    }

    /// How many nodes there are here.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.inner.nodes.len()
    }

    /// What the sensors of nodes said last, of those whose sensors were read.
    #[must_use]
    pub fn readings(&self) -> Vec<(Uuid, Arc<ferric_drivers::interface::Sensors>)> {
        self.inner.world.readings.iter().map(|entry| (*entry.key(), Arc::clone(entry.value()))).collect()
    }

    /// What all actors share.
    pub(crate) fn world(&self) -> &Arc<World> {
        &self.inner.world
    }

    /// This conductor's name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.inner.world.settings.host
    }

    /// The wall clock of the actors, which stamps what they write.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.world.now()
    }

    /// What the actors were started with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.world.settings
    }

    /// The database, for reads.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.world.store
    }

    /// Ends all actors and says goodbye in the conductors table. What was under way is taken up by the next start.
    pub async fn stop(&self) {
        if let Some(slot) = self.inner.world.allocator.get() {
            slot.leave();
        }
        for entry in &self.inner.nodes {
            entry.value().do_send(Leave);
        }
        let (host, now) = (self.host().to_owned(), self.inner.world.now());
        if let Err(error) = self.store().write_first(move |conn| conductors::offline(conn, &host, now)).await
        {
            tracing::warn!(%error, "cannot mark this conductor as offline");
        }
    }
}

/// A node with its ports and what it was in the middle of.
type Stored = (Node, Vec<Port>, Vec<journal::StepRow>);

/// The nodes after that row, [`PAGE`] at the most.
fn page(conn: &mut Conn, after: i64, busy: &HashSet<Uuid>) -> Result<Vec<Stored>, StoreError> {
    let rows = nodes::all(conn, after, PAGE)?;
    let ids: Vec<Uuid> = rows.iter().map(|node| node.uuid).collect();
    let mut theirs = ports::of_nodes(conn, &ids)?;
    rows.into_iter()
        .map(|node| {
            let open = match busy.contains(&node.uuid) {
                true => journal::open_of_node(conn, node.uuid)?,
                false => Vec::new(),
            };
            let ports = theirs.remove(&node.uuid).unwrap_or_default();
            Ok((node, ports, open))
        })
        .collect()
}

fn event(node: Uuid, at: Timestamp, severity: &str, kind: &str, text: String) -> NewEvent {
    NewEvent {
        node: Some(node),
        at,
        kind: kind.into(),
        severity: severity.into(),
        text,
        data: JsonText::default(),
    }
}

/// Waits until the node's mailbox comes to this request.
async fn in_turn(address: &Addr<NodeActor>, turn: Turn, within: Duration) -> Result<(), MailboxError> {
    address.send(turn).timeout(within).await
}

/// Whether a message wants the node for itself, and so waits for an order that holds it. Questions and what agents say
/// do not.
fn needs_lock<M: 'static>() -> bool {
    let free = [
        TypeId::of::<Describe>(),
        TypeId::of::<SetMaintenance>(),
        TypeId::of::<Validate>(),
        TypeId::of::<GetBootDevice>(),
        TypeId::of::<SupportedBootDevices>(),
        TypeId::of::<GetConsole>(),
        TypeId::of::<AttachConsole>(),
        TypeId::of::<GetIndicators>(),
        TypeId::of::<GetIndicator>(),
        TypeId::of::<GetVmedia>(),
        TypeId::of::<GetVendorMethods>(),
        TypeId::of::<Lookup>(),
        TypeId::of::<Heartbeat>(),
    ];
    !free.contains(&TypeId::of::<M>())
}

fn unknown_driver(name: &str) -> NodeError {
    NodeError::NotFound { what: "Driver", id: name.to_owned() }
}

/// Everybody's place in a line, in words.
fn places_of(kind: &str, line: &[Uuid]) -> impl Iterator<Item = (Uuid, String)> {
    let of = line.len();
    line.iter().enumerate().map(move |(at, node)| (*node, place_text(kind, (at + 1, of))))
}

fn place_text(kind: &str, (place, of): (usize, usize)) -> String {
    format!("place {place} of {of} in the {kind} queue")
}
