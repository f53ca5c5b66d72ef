//! What is asked of a machine's hardware: under the node's lock, answered before it is done, told in the node's fields.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ferric_actors::message::{
    CallVendor, CreatePort, DeleteNode, DeletePort, Describe, GetConsole, GetIndicators, GetSensors,
    GetVendorMethods, Heartbeat, InjectNmi, Lookup, Provision, SetBootMode, SetConsole, SetMaintenance,
    SetSecureBoot, SetTargetRaidConfig, Update, UpdatePort, Validate, VendorAnswer, Wanted,
};
use ferric_actors::{Asked, Directory, Kind, NodeError, Settings};
use ferric_drivers::fakes::{self, FakeDelays};
use ferric_drivers::interface::{
    AgentOffer, AgentSteps, ConsoleInterface, DriverError, Found, Interface, Json, ManagementInterface,
    NodeChange, NodeView, Property, Result, Sensors, Step, StepContext, StepOutcome, Steps,
};
use ferric_drivers::protocol::dhcp::PortIndex;
use ferric_drivers::raid::AgentRaid;
use ferric_drivers::{Parts, Registry, RegistrySettings};
use ferric_machine::{Activity, BootDevice, BootMode, State, Timestamp, Verb};
use ferric_schema::{JsonText, Node, Port, Store, StoreOptions, bios, history};
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

/// A BMC that can change its boot mode, answers nothing before it is let go, and knows no secure boot.
#[derive(Default)]
struct Bmc {
    let_go: Notify,
    mode: std::sync::Mutex<Option<BootMode>>,
    set: AtomicU32,
}

#[async_trait]
impl ManagementInterface for Bmc {
    fn properties(&self) -> &'static [Property] {
        &[]
    }
    fn validate(&self, _: &NodeView) -> Result<()> {
        Ok(())
    }
    fn supported_boot_devices(&self) -> &'static [BootDevice] {
        &[]
    }
    async fn boot_device(&self, _: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)> {
        Ok((None, None))
    }
    async fn set_boot_device(&self, _: &NodeView, _: BootDevice, _: bool, _: BootMode) -> Result<()> {
        Ok(())
    }
    async fn boot_mode(&self, _: &NodeView) -> Result<Option<BootMode>> {
        Ok(*self.mode.lock().expect("not poisoned"))
    }
    async fn set_boot_mode(&self, _: &NodeView, mode: BootMode) -> Result<()> {
        self.let_go.notified().await;
        self.set.fetch_add(1, Ordering::SeqCst);
        *self.mode.lock().expect("not poisoned") = Some(mode);
        Ok(())
    }
    async fn sensors(&self, _: &NodeView) -> Result<Sensors> {
        Ok(Sensors::new(Timestamp(0), Vec::new()))
    }
    async fn inject_nmi(&self, _: &NodeView) -> Result<()> {
        panic!("a bug in the driver")
    }
}

/// An agent that builds what it is told to.
struct Builder;

#[async_trait]
impl Steps for Builder {
    fn steps(&self, _: &NodeView, _: Activity) -> Vec<Step> {
        Vec::new()
    }
    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        let built = NodeChange::RaidConfig(context.node.target_raid_config.clone());
        Ok(StepOutcome::Found(Box::new(Found { node: vec![built], ..Found::default() })))
    }
    async fn poll(&self, _: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}

#[async_trait]
impl AgentSteps for Builder {
    async fn offer(&self, _: &StepContext) -> Result<AgentOffer> {
        Ok(AgentOffer::default())
    }
}

/// A console that opens unless the node says why not.
struct Console;

impl Interface for Console {}

#[async_trait]
impl ConsoleInterface for Console {
    async fn start(&self, node: &NodeView) -> Result<Json> {
        match node.driver_str("stuck") {
            None => Ok(Json::new()),
            Some(why) => Err(DriverError::InvalidParameter { reason: why.to_owned() }),
        }
    }
    async fn stop(&self, _: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }
    async fn console(&self, _: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }
}

struct World {
    directory: Directory,
    bmc: Arc<Bmc>,
    folder: tempfile::TempDir,
}

fn settings() -> Settings {
    Settings {
        host: "test-host".into(),
        power_sync_interval: Duration::ZERO,
        automated_clean: false,
        progress_interval: Duration::from_millis(50),
        request_within: Duration::from_secs(20),
        inspect_wait_timeout: Duration::from_secs(1),
        ..Settings::default()
    }
}

impl World {
    async fn new() -> World {
        World::over(tempfile::tempdir().expect("a temporary folder")).await
    }

    async fn over(folder: tempfile::TempDir) -> World {
        World::with(folder, |_| ()).await
    }

    async fn with(folder: tempfile::TempDir, change: impl FnOnce(&mut Parts)) -> World {
        let path = folder.path().join("ferric.sqlite");
        let store = Store::open(&StoreOptions::new(path.to_str().expect("UTF-8"))).expect("a database");
        let bmc = Arc::new(Bmc::default());
        let mut parts = Parts::default();
        fakes::install(&mut parts, &FakeDelays::default());
        // names of other hardware, which fake-hardware takes too
        parts.management.insert("ipmitool", bmc.clone());
        parts.console.insert("fake", Arc::new(Console));
        change(&mut parts);
        let names = RegistrySettings {
            hardware_types: vec!["fake-hardware".into()],
            enabled: [(Kind::Management, vec!["fake".to_owned(), "ipmitool".to_owned()])].into(),
            ..RegistrySettings::default()
        };
        let registry = Arc::new(Registry::new(names, parts).expect("a registry"));
        let directory = Directory::start(settings(), store, registry, Arc::new(PortIndex::default()))
            .await
            .expect("starts");
        World { directory, bmc, folder }
    }

    async fn node(&self, change: impl FnOnce(&mut Node)) -> Uuid {
        let mut node = Node::new(Uuid::new_v4(), "fake-hardware", Timestamp(0));
        change(&mut node);
        self.directory.create(node).await.expect("enrolled").uuid
    }

    async fn slow(&self) -> Uuid {
        self.node(|node| node.management_interface = Some("ipmitool".into())).await
    }

    async fn until(&self, id: Uuid, what: &str, holds: impl Fn(&Node) -> bool) -> Node {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let node = self.directory.ask(id, Describe).await.expect("described");
            if holds(&node) {
                return node;
            }
            let error = &node.last_error;
            assert!(Instant::now() < deadline, "not {what}, in {}: {error:?}", node.provision_state);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn verb(&self, id: Uuid, verb: Verb, wanted: Wanted) -> std::result::Result<(), NodeError> {
        self.directory.ask(id, Provision { verb, configdrive: None, wanted }).await
    }

    async fn manageable(&self, id: Uuid) {
        self.verb(id, Verb::Manage, Wanted::default()).await.expect("manage");
        self.until(id, "manageable", |node| node.provision_state == State::Manageable).await;
    }

    async fn cleans(&self, id: Uuid, interface: &str, step: &str, args: Value) -> Node {
        let asked = Asked {
            interface: interface.into(),
            step: step.into(),
            args: args.as_object().cloned().unwrap_or_default(),
            ..Asked::default()
        };
        self.verb(id, Verb::Clean, Wanted { steps: vec![asked], ..Wanted::default() }).await.expect("clean");
        self.until(id, "manageable again", |node| node.provision_state == State::Manageable).await
    }
}

fn object(value: Value) -> Json {
    value.as_object().cloned().expect("an object")
}

fn call(method: &str, http: &str, args: Value) -> CallVendor {
    CallVendor::new(method, http, object(args))
}

#[actix::test]
async fn what_the_sensors_of_a_node_said_goes_with_it() {
    let world = World::new().await;
    let (stays, goes) = (world.slow().await, world.slow().await);
    for id in [stays, goes] {
        world.directory.ask(id, GetSensors { max_age: Duration::ZERO }).await.expect("read");
    }
    assert_eq!(world.directory.readings().len(), 2);
    world.directory.ask(goes, DeleteNode).await.expect("deleted");
    let left: Vec<Uuid> = world.directory.readings().into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, [stays]);
}

#[actix::test]
async fn a_console_is_switched_after_the_answer() {
    let world = World::new().await;
    let id = world.node(|_| ()).await;
    assert!(world.directory.ask(id, GetConsole).await.expect("asked").is_none());
    world.directory.ask(id, SetConsole(true)).await.expect("accepted");
    let node = world.until(id, "free", |node| node.reservation.is_none()).await;
    assert!(node.console_enabled && node.driver_internal_info.is_empty());
    assert_eq!(world.directory.ask(id, GetConsole).await.expect("asked"), Some(Json::new()));
    // what is so already begins nothing
    world.directory.ask(id, SetConsole(true)).await.expect("accepted");
    assert_eq!(world.directory.ask(id, Describe).await.expect("described").generation, node.generation);
}

#[actix::test]
async fn a_console_that_does_not_open_says_so_in_last_error_and_history() {
    let world = World::new().await;
    let id = world
        .node(|node| node.driver_info = JsonText::from(object(json!({"stuck": "no terminal port is free"}))))
        .await;
    world.directory.ask(id, SetConsole(true)).await.expect("accepted");
    let node = world.until(id, "failed", |node| node.last_error.is_some()).await;
    let text = format!("Error enabling the console on node {id}. Reason: no terminal port is free");
    assert_eq!(node.last_error.as_deref(), Some(text.as_str()));
    assert!(!node.console_enabled && node.reservation.is_none());
    let page = history::HistoryQuery::default();
    let lines = world.directory.store().read(move |c| history::of_node(c, id, &page)).await.expect("read");
    assert_eq!(lines.iter().map(|line| line.event.as_str()).collect::<Vec<_>>(), [text]);
}

#[actix::test]
async fn a_bmc_that_does_not_answer_holds_its_node_and_nothing_else() {
    let world = World::new().await;
    let (id, other) = (world.slow().await, world.node(|_| ()).await);
    world.directory.ask(id, SetBootMode(BootMode::Uefi)).await.expect("accepted");
    let node = world.directory.ask(id, Describe).await.expect("its mailbox goes on");
    assert_eq!(node.reservation.as_deref(), Some("test-host"));
    let (first, second, third, fourth, ()) = tokio::join!(
        world.directory.ask(id, SetSecureBoot(true)),
        world.directory.ask(id, InjectNmi),
        world.directory.ask(id, SetTargetRaidConfig(Json::new())),
        world.verb(id, Verb::Manage, Wanted::default()),
        world.manageable(other),
    );
    for refused in [first, second, third, fourth] {
        assert!(matches!(refused, Err(NodeError::Locked { .. })), "{refused:?}");
    }
    world.bmc.let_go.notify_one();
    let node = world.until(id, "free", |node| node.reservation.is_none()).await;
    assert_eq!((node.boot_mode, node.last_error), (Some(BootMode::Uefi), None));
    // it boots so already: nothing is written to the machine
    world.directory.ask(id, SetBootMode(BootMode::Uefi)).await.expect("accepted");
    world.until(id, "free", |node| node.reservation.is_none()).await;
    assert_eq!(world.bmc.set.load(Ordering::SeqCst), 1);
}

#[actix::test]
async fn what_follows_an_order_that_is_soon_done_waits_for_it() {
    let world = World::new().await;
    let id = world.node(|_| ()).await;
    for on in [true, false, true, false] {
        world.directory.ask(id, SetConsole(on)).await.expect("accepted");
        world.directory.ask(id, SetSecureBoot(on)).await.expect("accepted");
        world.directory.ask(id, call("second_method", "POST", json!({"bar": "x"}))).await.expect("accepted");
        world.directory.ask(id, SetTargetRaidConfig(Json::new())).await.expect("stored");
    }
    world.verb(id, Verb::Manage, Wanted::default()).await.expect("manage");
}

#[actix::test]
async fn what_the_hardware_cannot_do_is_told_in_ironics_words() {
    let world = World::new().await;
    let id = world.node(|_| ()).await;
    world.directory.ask(id, SetSecureBoot(true)).await.expect("accepted");
    let node = world.until(id, "free", |node| node.reservation.is_none()).await;
    assert_eq!(
        node.last_error.as_deref(),
        Some(
            "Failed to change secure_boot state to 'True': Driver fake-hardware does not support \
             set_secure_boot_state (disabled or not implemented)."
        )
    );
    assert_eq!((node.secure_boot, node.boot_mode), (None, None));
}

#[actix::test]
async fn a_bug_in_a_driver_is_the_error_of_that_one_request() {
    let world = World::new().await;
    let id = world.slow().await;
    let error = world.directory.ask(id, InjectNmi).await.expect_err("panicked");
    assert!(matches!(error, NodeError::Driver(DriverError::Refused { .. })), "{error}");
    world.directory.ask(id, Describe).await.expect("its actors live on");
}

#[actix::test]
async fn an_order_that_the_process_died_over_is_told_and_holds_the_node_no_longer() {
    let world = World::new().await;
    let id = world.slow().await;
    world.directory.ask(id, SetBootMode(BootMode::Uefi)).await.expect("accepted");
    let World { directory, folder, .. } = world;
    directory.stop().await;
    drop(directory);
    let world = World::over(folder).await;
    // who asks before that is told does not wait for what nobody does any more
    world.directory.ask(id, Describe).await.expect("described");
    let node = world.until(id, "free", |node| node.reservation.is_none()).await;
    let text = node.last_error.expect("said");
    assert!(text.contains("while changing the boot mode"), "{text}");
    assert!(node.driver_internal_info.is_empty());
}

#[actix::test]
async fn how_a_machine_boots_is_read_when_it_is_enrolled() {
    let world = World::new().await;
    let id = world.slow().await;
    *world.bmc.mode.lock().expect("not poisoned") = Some(BootMode::Bios);
    world.manageable(id).await;
    world.until(id, "read", |node| node.boot_mode == Some(BootMode::Bios)).await;
}

#[actix::test]
async fn a_raid_configuration_is_checked_stored_and_built_by_a_manual_clean() {
    let world = World::new().await;
    let id = world.node(|_| ()).await;
    world.manageable(id).await;
    let bad = object(json!({"logical_disks": [{"size_gb": 10, "raid_level": "7"}]}));
    let error = world.directory.ask(id, SetTargetRaidConfig(bad)).await.expect_err("refused");
    assert!(error.to_string().starts_with("RAID config validation error"), "{error}");
    let good = object(json!({"logical_disks": [{"size_gb": 10, "raid_level": "1"}]}));
    world.directory.ask(id, SetTargetRaidConfig(good.clone())).await.expect("stored");
    let node = world.cleans(id, "raid", "create_configuration", json!({})).await;
    assert_eq!((node.raid_config.parse(), node.last_error), (good, None));
}

#[actix::test]
async fn an_agent_builds_the_part_of_the_raid_configuration_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let world = World::with(folder, |parts| {
        parts.deploy.insert("fake", Arc::new(common::agent::WithRamdisk));
        parts.raid.insert("agent", Arc::new(AgentRaid));
        parts.steps.insert((Kind::Raid, "agent"), Arc::new(AgentRaid));
        parts.agent_steps = Some(Arc::new(Builder));
    })
    .await;
    let id = world.node(|node| node.raid_interface = Some("agent".into())).await;
    world.manageable(id).await;
    let disk = |root: bool| json!({"size_gb": 10, "raid_level": "1", "is_root_volume": root});
    let wanted = object(json!({"logical_disks": [disk(true), disk(false)]}));
    world.directory.ask(id, SetTargetRaidConfig(wanted)).await.expect("stored");
    let asked = Asked {
        interface: "raid".into(),
        step: "create_configuration".into(),
        args: object(json!({"create_nonroot_volumes": false})),
        ..Asked::default()
    };
    let wanted = Wanted { steps: vec![asked], ..Wanted::default() };
    world.verb(id, Verb::Clean, wanted).await.expect("clean");
    let (mut token, deadline) = (None, Instant::now() + Duration::from_secs(20));
    let node = loop {
        let node = world.directory.ask(id, Describe).await.expect("described");
        if node.provision_state == State::Manageable {
            break node;
        }
        assert!(Instant::now() < deadline, "{}: {:?}", node.provision_state, node.last_error);
        // its agent looks itself up, and calls
        if let Ok(found) = world.directory.ask(id, Lookup { wants_token: true }).await {
            token = found.agent_token.filter(|token| token != "******").or(token);
        }
        let beat = Heartbeat {
            callback_url: "http://127.0.0.1:9999".into(),
            agent_token: token.clone(),
            agent_version: Some("1".into()),
            agent_verify_ca: None,
            agent_status: None,
            agent_status_message: None,
        };
        let _ = world.directory.ask(id, beat).await; // refused while there is no token yet
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(
        (node.raid_config.parse(), node.last_error),
        (object(json!({"logical_disks": [disk(true)]})), None)
    );
}

#[actix::test]
async fn bios_settings_that_a_clean_step_applies_are_remembered() {
    let world = World::new().await;
    let id = world.node(|_| ()).await;
    world.manageable(id).await;
    let wanted = json!({"settings": [{"name": "virt", "value": "on"}, {"name": "numa", "value": "off"}]});
    let node = world.cleans(id, "bios", "apply_configuration", wanted).await;
    assert_eq!(node.last_error, None);
    let all = world.directory.store().read(move |c| bios::of_node(c, id)).await.expect("read");
    let told: Vec<_> = all.iter().map(|one| (one.name.as_str(), one.value.as_deref())).collect();
    assert_eq!(told, [("numa", Some("off")), ("virt", Some("on"))]);
}

#[actix::test]
async fn vendor_methods_answer_with_their_value_or_go_on_after_the_answer() {
    let world = World::new().await;
    let id = world.node(|_| ()).await;
    let methods = world.directory.ask(id, GetVendorMethods).await.expect("listed");
    let names: Vec<_> = methods.iter().map(|method| method.name).collect();
    assert_eq!(names, ["fourth_method_shared_lock", "log_passthrough", "second_method", "third_method_sync"]);
    let value = world.directory.ask(id, call("third_method_sync", "POST", json!({"bar": "meow"}))).await;
    assert_eq!(value.expect("called"), VendorAnswer::Value(json!(true)));
    for method in ["second_method", "fourth_method_shared_lock"] {
        let value = world.directory.ask(id, call(method, "POST", json!({"bar": "x"}))).await;
        assert_eq!(value.expect("called"), VendorAnswer::Accepted);
        world.until(id, "free", |node| node.reservation.is_none()).await;
    }
    for (method, http, args, text) in [
        ("quatsch", "POST", json!({}), "No handler for method quatsch"),
        ("second_method", "GET", json!({"bar": 1}), "The method second_method does not support HTTP GET"),
        ("second_method", "POST", json!({}), "Parameter 'bar' not passed to method 'second_method'."),
    ] {
        let error = world.directory.ask(id, call(method, http, args)).await.expect_err("refused");
        assert_eq!(error.to_string(), text);
    }
}

#[actix::test]
async fn indicators_and_validation_are_those_of_the_interfaces() {
    let world = World::new().await;
    let id = world.node(|node| node.raid_interface = Some("no-raid".into())).await;
    let lights = world.directory.ask(id, GetIndicators).await.expect("listed");
    assert_eq!(lights.keys().collect::<Vec<_>>(), ["chassis", "system"]);
    let verdicts = world.directory.ask(id, Validate).await.expect("validated");
    assert_eq!(verdicts.len(), 12);
    let raid = verdicts.get(&Kind::Raid).expect("there");
    assert_eq!(
        (raid.result, raid.reason.as_deref()),
        (Some(false), Some("Driver fake-hardware does not support raid (disabled or not implemented)."))
    );
    assert_eq!(verdicts.values().filter(|verdict| verdict.result == Some(true)).count(), 11);
}

#[actix::test]
async fn an_order_keeps_nobody_waiting_who_only_asks_and_lets_a_port_come() {
    let world = World::new().await;
    let (id, other) = (world.slow().await, world.node(|_| ()).await);
    let port = Port::new(Uuid::new_v4(), other, "52:54:00:00:00:0a", Timestamp(1));
    let moved = port.uuid;
    world.directory.ask(other, CreatePort { port, asked_to_boot: false }).await.expect("made");
    world.directory.ask(id, SetBootMode(BootMode::Uefi)).await.expect("accepted");
    // whoever waits for the node in vain gets an error
    for _ in 0..4 {
        world.directory.ask(id, Validate).await.expect("validated");
        world.directory.ask(id, GetConsole).await.expect("answered");
        world.directory.ask(id, SetMaintenance { on: false, reason: None }).await.expect("stored");
    }
    let apply = Box::new(move |port: &mut Port, _: &Node| {
        port.node_uuid = id;
        Ok(())
    });
    let port = world.directory.update_port(other, UpdatePort { port: moved, apply }).await.expect("moved");
    assert_eq!(port.node_uuid, id);
    assert_eq!(world.directory.node_of_port_address(&[port.address]), [id]);
    // what wants the node for itself hears of it from the node, after the time that Ironic would take
    let error = world.directory.ask(id, DeletePort(moved)).await.expect_err("held");
    assert!(matches!(error, NodeError::Locked { .. }), "{error}");
    world.bmc.let_go.notify_one();
    world.until(id, "free", |node| node.reservation.is_none()).await;
    world.directory.ask(id, DeletePort(moved)).await.expect("its new node knows it");
}

/// A console that does not open before it is let go.
#[derive(Default)]
struct Heavy(Notify);

impl Interface for Heavy {}

#[async_trait]
impl ConsoleInterface for Heavy {
    async fn start(&self, _: &NodeView) -> Result<Json> {
        self.0.notified().await;
        Ok(Json::new())
    }
    async fn stop(&self, _: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }
    async fn console(&self, _: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }
}

/// A console that tells whether it is open, and why it was closed.
#[derive(Default)]
struct Line {
    open: std::sync::Mutex<bool>,
    told: std::sync::Mutex<Vec<&'static str>>,
}

impl Line {
    fn set(&self, open: bool) {
        *self.open.lock().expect("whole") = open;
    }
    fn is_open_now(&self) -> bool {
        *self.open.lock().expect("whole")
    }
    fn told(&self) -> Vec<&'static str> {
        self.told.lock().expect("whole").clone()
    }
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < deadline, "not {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Interface for Line {}

#[async_trait]
impl ConsoleInterface for Line {
    async fn start(&self, _: &NodeView) -> Result<Json> {
        self.set(true);
        Ok(Json::new())
    }
    async fn stop(&self, _: &NodeView) -> Result<Json> {
        self.set(false);
        Ok(Json::new())
    }
    async fn dismiss(&self, _: &NodeView, why: &'static str) -> Result<()> {
        self.set(false);
        self.told.lock().expect("whole").push(why);
        Ok(())
    }
    async fn console(&self, _: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }
    fn is_open(&self, _: &NodeView) -> bool {
        self.is_open_now()
    }
}

#[actix::test]
async fn a_console_that_an_undeploy_closed_is_opened_by_enabling_it_again() {
    let (folder, line) = (tempfile::tempdir().expect("a temporary folder"), Arc::new(Line::default()));
    let world = World::with(folder, |parts| drop(parts.console.insert("fake", line.clone()))).await;
    let id = world.node(|_| ()).await;
    world.manageable(id).await;
    world.verb(id, Verb::Provide, Wanted::default()).await.expect("provide");
    world.until(id, "available", |node| node.provision_state == State::Available).await;
    world.directory.ask(id, SetConsole(true)).await.expect("accepted");
    world.until(id, "enabled", |node| node.console_enabled && node.reservation.is_none()).await;
    world.verb(id, Verb::Active, Wanted::default()).await.expect("active");
    world.until(id, "active", |node| node.provision_state == State::Active).await;
    world.verb(id, Verb::Deleted, Wanted::default()).await.expect("deleted");
    let node = world.until(id, "available", |node| node.provision_state == State::Available).await;
    line.until("closed", |line| !line.told().is_empty()).await;
    assert_eq!(line.told(), ["the instance is gone; enable the console again to watch"]);
    assert!(node.console_enabled && node.last_error.is_none());

    world.directory.ask(id, SetConsole(true)).await.expect("accepted");
    line.until("open again", |line| line.is_open_now()).await;
    let node = world.until(id, "free", |node| node.reservation.is_none()).await;
    assert!(node.console_enabled && node.last_error.is_none());

    // what one interface opened is closed when the node is given another
    let apply = Box::new(|node: &mut Node| {
        node.console_interface = Some("no-console".into());
        Ok(())
    });
    world.directory.ask(id, Update { apply, reset_interfaces: false }).await.expect("changed");
    line.until("closed", |line| line.told().len() == 2 && !line.is_open_now()).await;
    assert_eq!(line.told()[1], "the node has another console interface now");
}

#[actix::test]
async fn an_order_holds_its_node_whatever_becomes_of_the_work() {
    let (folder, console) = (tempfile::tempdir().expect("a temporary folder"), Arc::new(Heavy::default()));
    let world = World::with(folder, |parts| {
        parts.console.insert("fake", console.clone());
        parts.steps.insert((Kind::Inspect, "fake"), Arc::new(common::agent::Ramdisks));
    })
    .await;
    let id = world.node(|_| ()).await;
    world.manageable(id).await;
    world.verb(id, Verb::Inspect, Wanted::default()).await.expect("inspect");
    world.until(id, "waiting", |node| node.provision_state == State::InspectWait).await;
    world.directory.ask(id, SetConsole(true)).await.expect("accepted");
    // no agent calls: the inspection is given up under the order
    let node = world.until(id, "given up", |node| node.provision_state == State::InspectFailed).await;
    assert_eq!(node.reservation.as_deref(), Some("test-host"), "the order still holds it");
    let second = world.directory.ask(id, SetTargetRaidConfig(Json::new())).await;
    assert!(matches!(second, Err(NodeError::Locked { .. })), "{second:?}");
    console.0.notify_one();
    let node = world.until(id, "free", |node| node.reservation.is_none()).await;
    assert!(node.console_enabled && node.driver_internal_info.get("hardware_order").is_none());
}
