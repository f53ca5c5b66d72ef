//! The life of a node through its actors, on fake hardware.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::{Interfaces, World, settings};
use ferric_actors::message::{
    ChangePower, Heartbeat, Lookup, SetBootMode, SetMaintenance, SetSecureBoot, Update,
};
use ferric_actors::{NodeError, Settings};
use ferric_drivers::DriverError;
use ferric_drivers::interface::{
    DeployInterface, Json, NodeView, PowerInterface, Progressed, Property, RamdiskPurpose, Resume, Step,
    StepContext, StepOutcome, Steps,
};
use ferric_machine::{Activity, BootMode, Fault, PowerState, PowerTarget, State, Verb};
use ferric_schema::journal::StepState;
use ferric_schema::{events, history, journal};
use tokio::sync::Notify;

#[actix::test]
async fn from_enroll_to_active_and_back_to_available() {
    let world = World::new(Interfaces::default(), settings()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    let node = world.reaches(id, State::Active).await;
    assert_eq!(node.power_state, None, "nobody ever set it, and there is no machine to ask");
    assert_eq!(node.target_provision_state, None);
    assert!(node.deploy_step.is_empty() && node.reservation.is_none());
    world.verb(id, Verb::Deleted).await.expect("accepted");
    let node = world.reaches(id, State::Available).await;
    assert!(node.instance_info.is_empty());

    let told =
        world.directory.store().read(move |conn| events::of_node(conn, id, 0, 100)).await.expect("events");
    let moves = told.iter().filter(|event| event.kind == "provision_set").count();
    // verifying, manageable, cleaning, available, deploying, active, deleting, cleaning, available
    assert_eq!(moves, 9, "{told:#?}");

    let page = history::HistoryQuery::default();
    let lines = world.directory.store().read(move |conn| history::of_node(conn, id, &page)).await;
    let lines = lines.expect("history");
    let told: Vec<&str> = lines.iter().map(|line| line.event_type.as_str()).collect();
    assert_eq!(told, ["deployment_start", "deployment_end"]);
    assert!(lines.iter().all(|line| line.severity == history::Severity::Info), "{lines:#?}");
    assert!(lines[0].event.starts_with("Starting deployment with steps=[{'"), "{}", lines[0].event);
}

#[actix::test]
async fn a_verb_that_the_state_does_not_know_is_refused_and_nothing_is_written() {
    let world = World::new(Interfaces::default(), settings()).await;
    let id = world.enrol().await;
    let before = world.node(id).await;
    let error = world.verb(id, Verb::Active).await.expect_err("refused");
    assert!(matches!(error, NodeError::Refused(_)), "{error}");
    assert_eq!(world.node(id).await, before);
}

#[actix::test]
async fn a_panic_in_a_handler_rebuilds_that_node_and_leaves_the_others_alone() {
    let world = World::new(Interfaces::default(), settings()).await;
    let (hurt, other) = (world.available().await, world.available().await);
    let asked = Update { apply: Box::new(|_| panic!("injected")), reset_interfaces: false };
    let error = world.directory.ask(hurt, asked).await.expect_err("died");
    assert!(matches!(error, NodeError::Rebuilding(_)), "{error}");
    // the other one never noticed, and the hurt one goes on from what is stored
    world.verb(other, Verb::Active).await.expect("accepted");
    world.reaches(other, State::Active).await;
    assert_eq!(world.node(hurt).await.provision_state, State::Available);
    world.verb(hurt, Verb::Active).await.expect("accepted");
    world.reaches(hurt, State::Active).await;
}

#[actix::test]
async fn a_node_whose_actors_die_too_often_is_left_in_maintenance_with_a_reason() {
    let world = World::new(Interfaces::default(), Settings { restarts_most: 2, ..settings() }).await;
    let id = world.enrol().await;
    for _ in 0..3 {
        world.node(id).await;
        let asked = Update { apply: Box::new(|_| panic!("injected")), reset_interfaces: false };
        world.directory.ask(id, asked).await.expect_err("died");
    }
    let node = world.until(id, "in maintenance", |node| node.maintenance).await;
    assert!(node.maintenance_reason.expect("a reason").contains("died 3 times"));
}

/// Two steps; the second waits in a pretended ramdisk until told otherwise.
#[derive(Default)]
struct Ramdisk {
    executed: AtomicU32,
    finished: Notify,
    fail: Option<&'static str>,
    crash: bool,
    unreachable: bool,
    /// Clean-up hangs until the process ends.
    stuck: bool,
    /// The image's look-up hangs until told otherwise.
    slow_look: Option<Notify>,
    cleaned: AtomicU32,
}

#[async_trait]
impl Steps for Ramdisk {
    fn steps(&self, _: &NodeView, activity: Activity) -> Vec<Step> {
        let row = |step: &str, priority, resume| Step {
            abortable: true,
            resume,
            ..Step::new("deploy", step, priority)
        };
        match activity {
            Activity::Deploy => {
                vec![row("write_image", 80, Resume::Reattach), row("deploy", 100, Resume::Rerun)]
            }
            Activity::TearDown => vec![row("tear_down", 0, Resume::Rerun)],
            Activity::Verify
            | Activity::Clean
            | Activity::Inspect
            | Activity::Adopt
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome, DriverError> {
        let step = context.step.step.as_str();
        if step == "tear_down" {
            return Ok(StepOutcome::Done);
        }
        assert!(!self.crash, "injected");
        if step == "deploy" {
            context.asks.boot_ramdisk(RamdiskPurpose::Deploy).await?;
            return Ok(StepOutcome::Wait(Progressed::default()));
        }
        if context.checkpoint.is_none() {
            self.executed.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(reason) = self.fail {
            return Err(DriverError::AgentCommand { command: step.into(), reason: reason.into() });
        }
        Ok(StepOutcome::Wait(Progressed { checkpoint: Some("command-1".into()), ..Progressed::default() }))
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome, DriverError> {
        let step = context.step.step.as_str();
        if self.unreachable {
            return Err(DriverError::Unreachable {
                what: "agent at http://192.0.2.7:9999".into(),
                after: Duration::from_secs(5),
                remedy: "check the network".into(),
            });
        }
        if step == "deploy" {
            return Ok(StepOutcome::Done);
        }
        assert_eq!(context.checkpoint.as_deref(), Some("command-1"));
        let finished = tokio::time::timeout(Duration::from_millis(20), self.finished.notified()).await;
        Ok(finished.map_or_else(
            |_| {
                StepOutcome::Wait(Progressed {
                    checkpoint: context.checkpoint.clone(),
                    ..Progressed::default()
                })
            },
            |()| StepOutcome::Done,
        ))
    }
}

#[async_trait]
impl DeployInterface for Ramdisk {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<(), DriverError> {
        Ok(())
    }

    async fn prepare(&self, _: &NodeView) -> Result<Json, DriverError> {
        if let Some(look) = &self.slow_look {
            look.notified().await;
        }
        Ok(Json::new())
    }

    async fn clean_up(&self, context: &StepContext) -> Result<(), DriverError> {
        self.cleaned.fetch_add(1, Ordering::SeqCst);
        if self.stuck {
            std::future::pending::<()>().await;
        }
        context.asks.set_power(PowerTarget::Off).await.map(|_| ())
    }
}

fn over(deploy: &Arc<Ramdisk>) -> Interfaces {
    Interfaces { deploy: deploy.clone(), ..Interfaces::default() }
}

async fn beat(world: &World, id: uuid::Uuid) -> String {
    let found = world.directory.ask(id, Lookup { wants_token: true }).await.expect("found");
    let token = found.agent_token.expect("a token");
    heartbeat(world, id, &token).await.expect("accepted");
    token
}

async fn heartbeat(world: &World, id: uuid::Uuid, token: &str) -> Result<(), NodeError> {
    let beat = Heartbeat {
        callback_url: "http://127.0.0.1:9999".into(),
        agent_token: Some(token.into()),
        agent_version: Some("1".into()),
        agent_verify_ca: None,
        agent_status: None,
        agent_status_message: None,
    };
    world.directory.ask(id, beat).await
}

fn writing(node: &ferric_schema::Node) -> bool {
    node.provision_state == State::DeployWait && node.deploy_step.get("step") == Some("write_image".into())
}

#[actix::test]
async fn a_restart_while_the_image_is_written_goes_on_with_the_same_operation() {
    let deploy = Arc::new(Ramdisk::default());
    let world = World::new(over(&deploy), settings()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::DeployWait).await;
    beat(&world, id).await;
    world.until(id, "writing", writing).await;
    let before =
        world.directory.store().read(move |conn| journal::open_of_node(conn, id)).await.expect("journal");

    let World { directory, folder, .. } = world;
    directory.stop().await;
    drop(directory);
    let world = World::over(folder, over(&deploy), settings()).await;
    let node = world.node(id).await;
    assert!(writing(&node), "{}", node.provision_state);
    deploy.finished.notify_one();
    world.reaches(id, State::Active).await;
    assert_eq!(deploy.executed.load(Ordering::SeqCst), 1, "the image was written twice");
    let op = before[0].op;
    let after =
        world.directory.store().read(move |conn| journal::of_operation(conn, op)).await.expect("journal");
    assert!(after.iter().all(|step| step.state == StepState::Done), "{after:#?}");
}

#[actix::test]
async fn a_token_whose_answer_may_have_died_with_the_process_is_told_once_more() {
    let deploy = Arc::new(Ramdisk::default());
    let world = World::new(over(&deploy), settings()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::DeployWait).await;
    let look_up = async |world: &World| {
        world
            .directory
            .ask(id, Lookup { wants_token: true })
            .await
            .expect("found")
            .agent_token
            .expect("a token")
    };
    let told = look_up(&world).await;
    assert_eq!(look_up(&world).await, "******");
    let restarted = async |world: World| {
        let World { directory, folder, .. } = world;
        directory.stop().await;
        drop(directory);
        World::over(folder, over(&deploy), settings()).await
    };
    let world = restarted(world).await;
    assert_eq!(look_up(&world).await, told, "nobody has shown it yet");
    assert_eq!(look_up(&world).await, "******", "once");
    heartbeat(&world, id, &told).await.expect("the token is the node's");
    let world = restarted(world).await;
    assert_eq!(look_up(&world).await, "******", "an agent has it");
}

#[actix::test]
async fn a_failed_step_ends_in_deploy_failed_with_the_reason_and_the_power_off() {
    let deploy = Arc::new(Ramdisk { fail: Some("checksum differs"), ..Ramdisk::default() });
    let world = World::new(over(&deploy), settings()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::DeployWait).await;
    beat(&world, id).await;
    let node = world.reaches(id, State::DeployFailed).await;
    let error = node.last_error.expect("an error");
    assert!(error.contains("deploy.write_image") && error.contains("checksum differs"), "{error}");
    world.until(id, "switched off", |node| node.power_state == Some(PowerState::Off)).await;
    let open =
        world.directory.store().read(move |conn| journal::open_of_node(conn, id)).await.expect("journal");
    assert!(open.is_empty(), "{open:#?}");
}

#[actix::test]
async fn a_panic_in_a_step_fails_the_deployment_and_nothing_else() {
    let deploy = Arc::new(Ramdisk { crash: true, ..Ramdisk::default() });
    let world = World::new(over(&deploy), settings()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    let node = world.reaches(id, State::DeployFailed).await;
    assert!(node.last_error.expect("an error").contains("this is a bug"));
}

#[actix::test]
async fn an_agent_that_stops_calling_fails_the_deployment_when_its_time_is_over() {
    let deploy = Arc::new(Ramdisk::default());
    let short = Settings { deploy_callback_timeout: Duration::from_millis(300), ..settings() };
    let world = World::new(over(&deploy), short).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::DeployWait).await;
    beat(&world, id).await;
    let node = world.reaches(id, State::DeployFailed).await;
    let error = node.last_error.expect("an error");
    assert!(error.starts_with("Timeout reached while waiting for callback for node"), "{error}");
}

#[actix::test]
async fn an_abort_while_waiting_ends_the_deployment() {
    let deploy = Arc::new(Ramdisk::default());
    let world = World::new(over(&deploy), settings()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::DeployWait).await;
    world.verb(id, Verb::Abort).await.expect("accepted");
    let node = world.reaches(id, State::DeployFailed).await;
    assert!(node.last_error.expect("an error").contains("aborted"));
    world.verb(id, Verb::Deleted).await.expect("accepted");
    world.reaches(id, State::Available).await;
}

#[actix::test]
async fn the_token_is_told_once_and_a_wrong_one_is_refused() {
    let deploy = Arc::new(Ramdisk::default());
    let world = World::new(over(&deploy), settings()).await;
    let id = world.available().await;
    let early = world.directory.ask(id, Lookup { wants_token: true }).await.expect_err("not while available");
    assert!(matches!(early, NodeError::NotFound { .. }), "{early}");
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::DeployWait).await;
    let token = beat(&world, id).await;
    let again = world.directory.ask(id, Lookup { wants_token: true }).await.expect("found");
    assert_eq!(again.agent_token.as_deref(), Some("******"));
    assert_eq!(again.driver_internal_info["agent_secret_token"], "******");
    let wrong = heartbeat(&world, id, &token.to_uppercase()).await.expect_err("refused");
    assert!(matches!(wrong, NodeError::Invalid(_)) && !wrong.to_string().contains(&token), "{wrong}");
}

/// A BMC that never answers.
struct Silent;

#[async_trait]
impl PowerInterface for Silent {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<(), DriverError> {
        Ok(())
    }

    fn supported(&self) -> &'static [PowerTarget] {
        PowerTarget::ALL
    }

    fn bmc(&self, _: &NodeView) -> Option<String> {
        Some("ipmi:192.0.2.1:623".into())
    }

    async fn power_state(&self, _: &NodeView) -> Result<PowerState, DriverError> {
        Err(DriverError::Unreachable {
            what: "BMC 192.0.2.1:623".into(),
            after: Duration::from_secs(5),
            remedy: "check its address and cable".into(),
        })
    }

    async fn set_power(&self, _: &NodeView, _: PowerTarget, _: Duration) -> Result<PowerState, DriverError> {
        panic!("nobody switches what cannot be read")
    }
}

#[actix::test]
async fn a_silent_bmc_fails_the_verification_with_a_remedy() {
    let silent = Interfaces { power: Arc::new(Silent), ..Interfaces::default() };
    let world = World::new(silent, settings()).await;
    let id = world.enrol().await;
    world.verb(id, Verb::Manage).await.expect("accepted");
    let failed = |node: &ferric_schema::Node| node.last_error.is_some();
    let node = world.until(id, "failed", failed).await;
    assert_eq!((node.provision_state, node.target_provision_state), (State::Enroll, None));
    let error = node.last_error.expect("an error");
    assert!(error.contains("192.0.2.1:623") && error.contains("check its address"), "{error}");
}

#[actix::test]
async fn a_bmc_that_stays_silent_puts_its_node_into_maintenance_with_a_fault() {
    let quick = Settings {
        power_sync_interval: Duration::from_millis(20),
        bmc_backoff: Duration::ZERO,
        ..settings()
    };
    let silent = Interfaces { power: Arc::new(Silent), ..Interfaces::default() };
    let world = World::new(silent, quick).await;
    let id = world.enrol().await;
    let manageable = |node: &mut ferric_schema::Node| {
        node.provision_state = State::Manageable;
        node.power_state = Some(PowerState::On);
        Ok(())
    };
    let asked = Update { apply: Box::new(manageable), reset_interfaces: false };
    world.directory.ask(id, asked).await.expect("written");
    let node = world.until(id, "in maintenance", |node| node.maintenance).await;
    assert_eq!((node.fault, node.power_state), (Some(Fault::PowerFailure), None));
    let off = SetMaintenance { on: false, reason: None };
    world.directory.ask(id, off).await.expect("cleared");
    assert_eq!(world.node(id).await.fault, None);
}

#[actix::test]
async fn a_power_change_is_written_before_and_after() {
    let world = World::new(Interfaces::default(), settings()).await;
    let id = world.available().await;
    let on = ChangePower { target: PowerTarget::On, timeout: None };
    world.directory.ask(id, on).await.expect("accepted");
    let on = |node: &ferric_schema::Node| {
        node.power_state == Some(PowerState::On) && node.target_power_state.is_none()
    };
    world.until(id, "on", on).await;
}

#[actix::test]
async fn an_agent_that_calls_but_cannot_be_reached_does_not_hold_the_node_for_ever() {
    let deploy = Arc::new(Ramdisk { unreachable: true, ..Ramdisk::default() });
    let short = Settings { deploy_callback_timeout: Duration::from_millis(500), ..settings() };
    let world = World::new(over(&deploy), short).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::DeployWait).await;
    let token = beat(&world, id).await;
    let node = loop {
        // it goes on calling, refused once the token is forgotten
        let _ = heartbeat(&world, id, &token).await;
        let node = world.node(id).await;
        if node.provision_state == State::DeployFailed {
            break node;
        }
        assert_eq!(node.provision_state, State::DeployWait);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let error = node.last_error.expect("an error");
    assert!(error.contains("Timeout") && error.contains("192.0.2.7"), "{error}");
}

#[actix::test]
async fn a_clean_up_that_a_crash_cut_off_is_done_by_the_next_process() {
    let stuck = Arc::new(Ramdisk { fail: Some("no disk"), stuck: true, ..Ramdisk::default() });
    let world = World::new(over(&stuck), settings()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::DeployWait).await;
    beat(&world, id).await;
    world.reaches(id, State::DeployFailed).await;
    // what tidies the machine up is not to be crossed
    let change = ChangePower { target: PowerTarget::On, timeout: None };
    let error = world.directory.ask(id, change).await.expect_err("refused");
    assert!(matches!(error, NodeError::Locked { .. }), "{error}");
    let World { directory, folder, .. } = world;
    directory.stop().await;
    drop(directory);
    let next = Arc::new(Ramdisk::default());
    let world = World::over(folder, over(&next), settings()).await;
    let off = |node: &ferric_schema::Node| node.power_state == Some(PowerState::Off);
    let node = world.until(id, "switched off", off).await;
    assert!(node.last_error.expect("kept").contains("no disk"));
    world.until(id, "clean", |node| node.driver_internal_info.get("clean_up").is_none()).await;
    assert_eq!(next.cleaned.load(Ordering::SeqCst), 1);
}

#[actix::test]
async fn a_deployment_taken_up_before_its_image_was_looked_up_takes_one_place_in_the_queue() {
    let one = || Settings { max_concurrent_deploys: 1, ..settings() };
    let slow = Arc::new(Ramdisk { slow_look: Some(Notify::new()), ..Ramdisk::default() });
    let world = World::new(over(&slow), one()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::Deploying).await;
    let World { directory, folder, .. } = world;
    directory.stop().await;
    drop(directory);
    let world = World::over(folder, over(&Arc::new(Ramdisk::default())), one()).await;
    world.reaches(id, State::DeployWait).await;
}

/// A BMC that switches only when it is let, and remembers what it was asked for.
#[derive(Default)]
struct Recorder {
    asked: std::sync::Mutex<Vec<PowerTarget>>,
    hangs: bool,
}

#[async_trait]
impl PowerInterface for Recorder {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, _: &NodeView) -> Result<(), DriverError> {
        Ok(())
    }

    fn supported(&self) -> &'static [PowerTarget] {
        PowerTarget::ALL
    }

    fn bmc(&self, _: &NodeView) -> Option<String> {
        None
    }

    async fn power_state(&self, node: &NodeView) -> Result<PowerState, DriverError> {
        Ok(node.power.unwrap_or(PowerState::On))
    }

    async fn set_power(&self, _: &NodeView, to: PowerTarget, _: Duration) -> Result<PowerState, DriverError> {
        self.asked.lock().expect("a lock").push(to);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(to.end())
    }
}

#[actix::test]
async fn a_soft_power_off_and_a_reboot_are_what_they_were_after_a_restart() {
    for target in [PowerTarget::SoftOff, PowerTarget::Reboot] {
        let recorder = |hangs| Arc::new(Recorder { hangs, ..Recorder::default() });
        let hanging = recorder(true);
        let power = |power: &Arc<Recorder>| Interfaces { power: power.clone(), ..Interfaces::default() };
        let world = World::new(power(&hanging), settings()).await;
        let id = world.available().await;
        world.directory.ask(id, ChangePower { target, timeout: None }).await.expect("accepted");
        while hanging.asked.lock().expect("a lock").is_empty() {
            tokio::task::yield_now().await;
        }
        // a second one, and a verb, find the node locked meanwhile
        let second = world.directory.ask(id, ChangePower { target: PowerTarget::On, timeout: None }).await;
        assert!(matches!(second, Err(NodeError::Locked { .. })));
        assert!(matches!(world.verb(id, Verb::Manage).await, Err(NodeError::Locked { .. })));
        let World { directory, folder, .. } = world;
        directory.stop().await;
        drop(directory);
        let next = recorder(false);
        let world = World::over(folder, power(&next), settings()).await;
        let node = world.until(id, "at rest", |node| node.target_power_state.is_none()).await;
        assert_eq!(node.power_state, Some(target.end()));
        assert!(node.reservation.is_none() && node.driver_internal_info.get("power_wish").is_none());
        assert_eq!(*next.asked.lock().expect("a lock"), [target]);
    }
}

#[actix::test]
async fn a_power_change_with_an_absurd_time_limit_is_a_power_change() {
    let world = World::new(Interfaces::default(), settings()).await;
    let id = world.available().await;
    let on = ChangePower { target: PowerTarget::On, timeout: Some(Duration::from_secs(u64::MAX)) };
    world.directory.ask(id, on).await.expect("accepted");
    world.until(id, "on", |node| node.power_state == Some(PowerState::On)).await;
}

#[actix::test]
async fn what_ferric_put_into_maintenance_it_takes_out_again_when_the_bmc_answers() {
    let quick = Settings { power_sync_interval: Duration::from_millis(20), ..settings() };
    let world = World::new(Interfaces::default(), quick).await;
    let id = world.available().await;
    let faulty = |node: &mut ferric_schema::Node| {
        node.maintenance = true;
        node.fault = Some(Fault::PowerFailure);
        node.maintenance_reason = Some("silent".into());
        Ok(())
    };
    let asked = Update { apply: Box::new(faulty), reset_interfaces: false };
    world.directory.ask(id, asked).await.expect("written");
    let node = world.until(id, "healed", |node| !node.maintenance).await;
    assert_eq!((node.fault, node.maintenance_reason), (None, None));
}

#[actix::test]
async fn a_reboot_by_request_in_the_middle_of_a_write_fails_the_deployment_at_once() {
    let deploy = Arc::new(Ramdisk::default());
    let world = World::new(over(&deploy), settings()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::DeployWait).await;
    beat(&world, id).await;
    world.until(id, "writing", writing).await;
    let reboot = ChangePower { target: PowerTarget::Reboot, timeout: None };
    world.directory.ask(id, reboot).await.expect("accepted");
    let error = world.reaches(id, State::DeployFailed).await.last_error.expect("an error");
    assert!(error.contains("deploy.write_image") && error.contains("rebooting"), "{error}");
}

#[actix::test]
async fn a_parent_takes_its_children_down_and_a_child_takes_its_parent_up() {
    let world = World::new(Interfaces::default(), settings()).await;
    let parent = world.available().await;
    let child = world.available().await;
    let own = world.available().await;
    for (id, supply) in [(child, false), (own, true)] {
        let under = Update {
            apply: Box::new(move |node| {
                node.parent_node = Some(parent);
                let info = serde_json::json!({"has_dedicated_power_supply": supply});
                node.driver_info =
                    ferric_schema::JsonText::from(info.as_object().cloned().unwrap_or_default());
                Ok(())
            }),
            reset_interfaces: false,
        };
        world.directory.ask(id, under).await.expect("written");
    }
    let change = |target| ChangePower { target, timeout: None };
    let is = |state: PowerState| {
        move |node: &ferric_schema::Node| node.power_state == Some(state) && node.target_power_state.is_none()
    };
    world.directory.ask(own, change(PowerTarget::On)).await.expect("accepted");
    world.until(own, "on", is(PowerState::On)).await;
    world.directory.ask(child, change(PowerTarget::On)).await.expect("accepted");
    world.until(child, "on", is(PowerState::On)).await;
    world.until(parent, "on, for its child's sake", is(PowerState::On)).await;
    world.directory.ask(parent, change(PowerTarget::Off)).await.expect("accepted");
    world.until(parent, "off", is(PowerState::Off)).await;
    assert_eq!(world.node(child).await.power_state, Some(PowerState::Off));
    assert_eq!(world.node(own).await.power_state, Some(PowerState::On), "it has a supply of its own");
}

#[actix::test]
async fn a_machine_that_must_not_be_switched_off_is_restarted_instead() {
    let asked = Arc::new(Recorder::default());
    let power: Arc<dyn PowerInterface> = asked.clone();
    let world = World::new(Interfaces { power, ..Interfaces::default() }, settings()).await;
    let id = world.available().await;
    let keep = Update {
        apply: Box::new(|node| {
            node.disable_power_off = true;
            Ok(())
        }),
        reset_interfaces: false,
    };
    world.directory.ask(id, keep).await.expect("written");
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::Active).await;
    world.verb(id, Verb::Deleted).await.expect("accepted");
    world.reaches(id, State::Available).await;
    let asked = asked.asked.lock().expect("not poisoned");
    assert!(asked.iter().all(|target| !target.forbidden_by_disable_power_off()), "{asked:?}");
}

#[actix::test]
async fn how_a_machine_boots_is_not_changed_in_the_middle_of_work() {
    let world = World::new(Interfaces::default(), settings()).await;
    let id = world.enrol().await;
    world.verb(id, Verb::Manage).await.expect("manage");
    world.reaches(id, State::Manageable).await;
    world.verb(id, Verb::Inspect).await.expect("inspect");
    world.reaches(id, State::InspectWait).await;
    let mode = world.directory.ask(id, SetBootMode(BootMode::Bios)).await;
    let secure = world.directory.ask(id, SetSecureBoot(true)).await;
    for refused in [mode, secure] {
        let refused = refused.expect_err("its ramdisk boots");
        assert!(
            matches!(&refused, NodeError::Conflict(text) if text.starts_with("Node is in inspect wait state.")),
            "{refused}"
        );
    }
}
