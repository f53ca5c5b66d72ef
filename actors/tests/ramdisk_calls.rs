//! Ramdisks without an agent, which call by vendor passthru, and steps of the conductor that tell how far they are.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use common::{Interfaces, World, settings};
use ferric_actors::NodeError;
use ferric_actors::message::{CallVendor, GetVendorMethods, Heartbeat, Lookup, VendorAnswer};
use ferric_drivers::DriverError;
use ferric_drivers::interface::{
    DeployInterface, Json, NodeView, Progress, Progressed, Property, RAMDISK_CALLED, Step, StepContext,
    StepOutcome, Steps, VendorMethod,
};
use ferric_machine::{Activity, State, Verb};
use ferric_schema::{StoreError, StoreOptions};
use serde_json::{Value, json};
use uuid::Uuid;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

static METHODS: &[VendorMethod] = &[VendorMethod::post("pass_deploy_info", "A ramdisk is there.")];

/// Waits for its ramdisk, then writes in three parts and dies, unless it finds that all three are written.
struct Writes;

#[async_trait]
impl Steps for Writes {
    fn steps(&self, _: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::Deploy => {
                vec![Step::new("deploy", "deploy", 100), Step::new("deploy", "write_image", 80)]
            }
            Activity::TearDown
            | Activity::Adopt
            | Activity::Verify
            | Activity::Clean
            | Activity::Inspect
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome, DriverError> {
        if context.step.step == "deploy" {
            return Ok(StepOutcome::Wait(Progressed::default()));
        }
        if context.resumed && context.checkpoint.as_deref() == Some("part 3") {
            return Ok(StepOutcome::Done);
        }
        for part in 1..=3 {
            let progress = Progress { doing: "writing".into(), bytes_done: Some(part), bytes_total: Some(3) };
            let checkpoint = Some(format!("part {part}"));
            context.asks.report(Progressed { progress, checkpoint }).await?;
        }
        std::future::pending().await
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome, DriverError> {
        let called = context.node.driver_internal_info.contains_key(RAMDISK_CALLED);
        Ok(if called { StepOutcome::Done } else { StepOutcome::Wait(Progressed::default()) })
    }
}

#[async_trait]
impl DeployInterface for Writes {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<(), DriverError> {
        Ok(())
    }

    async fn prepare(&self, _: &NodeView) -> Result<Json, DriverError> {
        Ok(Json::new())
    }

    async fn clean_up(&self, _: &StepContext) -> Result<(), DriverError> {
        Ok(())
    }

    fn vendor_methods(&self) -> &'static [VendorMethod] {
        METHODS
    }

    fn ramdisk_calls(
        &self,
        _: &NodeView,
        _: &VendorMethod,
        args: &Json,
        peer: Option<IpAddr>,
    ) -> Result<Json, DriverError> {
        assert_eq!(peer, Some(PEER));
        let address = args.get("address").cloned().ok_or_else(|| DriverError::MissingParameter {
            reason: "Parameters ['address'] were not passed to ironic for deploy.".into(),
        })?;
        Ok(Json::from_iter([(RAMDISK_CALLED.to_owned(), address)]))
    }
}

fn writes() -> Interfaces {
    Interfaces { deploy: Arc::new(Writes), ..Interfaces::default() }
}

async fn calls(world: &World, id: Uuid, http: &str, args: Value) -> Result<VendorAnswer, NodeError> {
    let Value::Object(args) = args else { panic!("a body is an object") };
    let call = CallVendor { peer: Some(PEER), ..CallVendor::new("pass_deploy_info", http, args) };
    world.directory.ask(id, call).await
}

async fn waiting() -> (World, Uuid) {
    let world = World::new(writes(), settings()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("deploy");
    world.reaches(id, State::DeployWait).await;
    (world, id)
}

#[actix::test]
async fn a_ramdisks_call_is_checked_kept_and_goes_on_with_the_deployment() {
    let (world, id) = waiting().await;
    let methods = world.directory.ask(id, GetVendorMethods).await.expect("methods");
    assert!(methods.iter().any(|method| method.name == "pass_deploy_info"), "{methods:?}");
    let error =
        calls(&world, id, "PUT", json!({"address": "192.0.2.1"})).await.expect_err("wrong HTTP method");
    assert!(error.to_string().contains("does not support HTTP PUT"), "{error}");
    let error = calls(&world, id, "POST", json!({})).await.expect_err("no address");
    assert!(error.to_string().contains("['address'] were not passed"), "{error}");
    assert_eq!(world.node(id).await.provision_state, State::DeployWait);

    let answer = calls(&world, id, "POST", json!({"address": "192.0.2.1"})).await.expect("heard");
    assert_eq!(answer, VendorAnswer::Accepted);
    let node = world.reaches(id, State::Deploying).await;
    assert_eq!(node.driver_internal_info.get(RAMDISK_CALLED), Some(json!("192.0.2.1")));
}

/// How `asked` ends that begins while as many writes wait as may.
async fn in_the_crowd<T: 'static>(
    world: &World,
    asked: impl Future<Output = Result<T, NodeError>> + 'static,
) -> Result<T, NodeError> {
    let most = StoreOptions::new("").write_queue;
    let store = world.directory.store().clone();
    let waiting = || store.writer_stats().expect("SQLite").waiting;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(90);
    let reaches = async |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(std::time::Instant::now() < deadline, "never: {what}");
            tokio::task::yield_now().await;
        }
    };
    let (begun, begins) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let holder = store.clone();
    let held = actix::spawn(async move {
        let hold = move |_: &mut _| {
            begun.send(()).expect("the test waits");
            let _ = released.recv();
            Ok(())
        };
        holder.write_first(hold).await
    });
    reaches("the writer is held", &|| begins.try_recv().is_ok()).await;
    let crowd: Vec<_> = (0..most)
        .map(|_| {
            let store = store.clone();
            actix::spawn(async move { store.write(|_| Ok(())).await })
        })
        .collect();
    reaches("the queue is full", &|| waiting() >= most as u64).await;
    let refused = store.write(|_| Ok(())).await.expect_err("no room for anybody else");
    assert!(matches!(refused, StoreError::Busy), "{refused:?}");
    let full = waiting();
    let asked = actix::spawn(asked);
    reaches("it waits, or is refused", &|| asked.is_finished() || waiting() > full).await;
    drop(release);
    let done = asked.await.expect("it ends");
    held.await.expect("it ends").expect("it held");
    for one in crowd {
        one.await.expect("it ends").expect("it had a place");
    }
    done
}

#[actix::test]
async fn what_a_ramdisk_says_is_not_refused_because_others_write_much() {
    let (world, id) = waiting().await;
    let ask = world.directory.clone();
    let look_up = async move { ask.ask(id, Lookup { wants_token: true }).await };
    let token = in_the_crowd(&world, look_up).await.expect("it is found").agent_token;
    assert!(token.is_some());
    let beat = Heartbeat {
        callback_url: "http://127.0.0.1:9999".into(),
        agent_token: token,
        agent_version: Some("1".into()),
        agent_verify_ca: None,
        agent_status: None,
        agent_status_message: None,
    };
    let ask = world.directory.clone();
    in_the_crowd(&world, async move { ask.ask(id, beat).await }).await.expect("it is heard");
    let args = Json::from_iter([("address".to_owned(), json!("192.0.2.1"))]);
    let call = CallVendor { peer: Some(PEER), ..CallVendor::new("pass_deploy_info", "POST", args) };
    let ask = world.directory.clone();
    in_the_crowd(&world, async move { ask.ask(id, call).await }).await.expect("it is heard");
    world.reaches(id, State::Deploying).await;
}

#[actix::test]
async fn what_a_ramdisk_says_again_is_no_news() {
    let (world, id) = waiting().await;
    calls(&world, id, "POST", json!({"address": "192.0.2.1"})).await.expect("heard");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let told = async || {
        let read = move |conn: &mut _| ferric_schema::events::of_node(conn, id, 0, 1000);
        let all = world.directory.store().read(read).await.expect("events");
        all.iter().filter(|event| event.text.contains("the ramdisk called")).count()
    };
    while told().await == 0 {
        assert!(std::time::Instant::now() < deadline, "the call is not in the history");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for _ in 0..20 {
        let answer = calls(&world, id, "POST", json!({"address": "192.0.2.1"})).await.expect("heard again");
        assert_eq!(answer, VendorAnswer::Accepted);
    }
    assert_eq!(told().await, 1);
}

#[actix::test]
async fn a_caller_whom_nobody_knows_has_the_methods_of_ramdisks_alone() {
    let (world, id) = waiting().await;
    for (method, http) in [("first_method", "POST"), ("quatsch", "POST"), ("pass_deploy_info", "GET")] {
        let call = CallVendor { anonymous: true, ..CallVendor::new(method, http, Json::new()) };
        let error = world.directory.ask(id, call).await.expect_err("refused");
        assert_eq!(error.to_string(), ferric_actors::WRONG_DEPLOY_KEY, "{method} {http}");
    }
}

#[actix::test]
async fn what_a_step_reports_is_shown_and_its_checkpoint_outlives_the_process() {
    let (world, id) = waiting().await;
    calls(&world, id, "POST", json!({"address": "192.0.2.1"})).await.expect("heard");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let done = world.directory.doing(id).and_then(|doing| doing.progress.bytes_done);
        let open = move |conn: &mut _| ferric_schema::journal::open_of_node(conn, id);
        let stored = world.directory.store().read(open).await.expect("a journal");
        let checkpoint = stored.iter().find_map(|row| row.checkpoint.clone());
        if done == Some(3) && checkpoint.as_deref() == Some("part 3") {
            break;
        }
        let node = world.node(id).await;
        let error = (node.provision_state, node.last_error, stored.clone());
        assert!(std::time::Instant::now() < deadline, "{done:?} {checkpoint:?} {error:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let world = world.restarts(writes(), settings()).await;
    let node = world.reaches(id, State::Active).await;
    assert_eq!(node.driver_internal_info.get(RAMDISK_CALLED), None, "forgotten with the ramdisk");
}
