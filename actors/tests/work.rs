//! Every kind of work through the node's actors: steps, aborts, holds, restarts.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::agent::Agent;
use common::{Interfaces, World, settings};
use ferric_actors::message::{ContinueInspection, Update, Wanted};
use ferric_actors::{NodeError, Settings};
use ferric_drivers::flow::Asked;
use ferric_drivers::interface::Json;
use ferric_machine::{Fault, PowerState, State, Verb};
use ferric_schema::{history, inventory};
use uuid::Uuid;

fn cleaning() -> Settings {
    Settings { automated_clean: true, ..settings() }
}

/// fake-hardware cleans without a ramdisk; with a deploy interface that boots one, the agent is asked.
fn over(agent: &Arc<Agent>) -> Interfaces {
    Interfaces { agent: agent.clone(), deploy: Arc::new(common::agent::WithRamdisk), ..Interfaces::default() }
}

async fn manageable(world: &World) -> Uuid {
    let id = world.enrol().await;
    world.verb(id, Verb::Manage).await.expect("manage");
    world.reaches(id, State::Manageable).await;
    id
}

fn asked(step: &str) -> Asked {
    Asked { interface: "deploy".into(), step: step.into(), ..Asked::default() }
}

fn steps(all: &[&str]) -> Wanted {
    let reserved = |step: &str| matches!(step, "hold" | "wait" | "power_on" | "power_off" | "reboot");
    let one = |step: &&str| {
        if reserved(step) { Asked { step: (*step).into(), ..Asked::default() } } else { asked(step) }
    };
    Wanted { steps: all.iter().map(one).collect(), ..Wanted::default() }
}

#[actix::test]
async fn provide_cleans_and_ends_in_available_with_the_power_off() {
    let agent = Arc::new(Agent::default());
    let world = World::new(over(&agent), cleaning()).await;
    let id = manageable(&world).await;
    world.verb(id, Verb::Provide).await.expect("accepted");
    let node = world.calls_until(id, State::Available).await;
    assert_eq!(agent.begun.load(Ordering::SeqCst), 2, "both steps ran");
    assert_eq!(node.power_state, Some(PowerState::Off));
    assert!(node.clean_step.is_empty() && node.driver_internal_info.get("agent_url").is_none());
}

#[actix::test]
async fn cleaning_switched_off_for_a_node_or_for_all_is_passed_through() {
    let agent = Arc::new(Agent::default());
    let world = World::new(over(&agent), cleaning()).await;
    let id = manageable(&world).await;
    let never = Update {
        apply: Box::new(|node| {
            node.automated_clean = Some(false);
            Ok(())
        }),
        reset_interfaces: false,
    };
    world.directory.ask(id, never).await.expect("written");
    world.verb(id, Verb::Provide).await.expect("accepted");
    world.reaches(id, State::Available).await;
    assert_eq!(agent.begun.load(Ordering::SeqCst), 0);
}

#[actix::test]
async fn a_restart_in_the_middle_of_a_cleaning_goes_on_with_the_running_step() {
    let agent = Arc::new(Agent::default());
    agent.slow.store(true, Ordering::SeqCst);
    let world = World::new(over(&agent), cleaning()).await;
    let id = manageable(&world).await;
    world.verb(id, Verb::Provide).await.expect("accepted");
    let step = |node: &ferric_schema::Node| {
        node.provision_state == State::CleanWait
            && node.clean_step.get("step").is_some_and(|step| step == "erase_devices_metadata")
    };
    while !step(&world.node(id).await) {
        world.calls_until(id, State::CleanWait).await;
        world.beats(id).await;
    }
    let world = world.restarts(over(&agent), cleaning()).await;
    agent.slow.store(false, Ordering::SeqCst);
    world.beats(id).await;
    let node = world.calls_until(id, State::Available).await;
    assert!(!node.maintenance && node.last_error.is_none(), "{:?}", node.last_error);
    assert_eq!(agent.begun.load(Ordering::SeqCst), 2, "no step ran twice");
}

#[actix::test]
async fn a_clean_step_that_fails_brings_maintenance_a_fault_and_a_line_of_history() {
    let agent = Arc::new(Agent { fail: Some("disk is frozen"), ..Agent::default() });
    let world = World::new(over(&agent), cleaning()).await;
    let id = manageable(&world).await;
    world.asks(id, Verb::Clean, steps(&["erase_devices"])).await.expect("accepted");
    let node = world.calls_until(id, State::CleanFailed).await;
    assert_eq!(node.target_provision_state, Some(State::Manageable), "manual cleaning keeps its target");
    assert!(node.maintenance && node.fault == Some(Fault::CleanFailure));
    assert!(node.last_error.expect("an error").contains("disk is frozen"));
    let query = history::HistoryQuery::default();
    let lines = world.directory.store().read(move |conn| history::of_node(conn, id, &query)).await;
    assert!(lines.expect("read").iter().any(|line| line.event.contains("disk is frozen")));
}

#[actix::test]
async fn a_failure_before_the_first_step_leaves_the_node_out_of_maintenance() {
    let short = Settings { clean_callback_timeout: std::time::Duration::from_millis(100), ..cleaning() };
    let world = World::new(over(&Arc::default()), short).await;
    let id = manageable(&world).await;
    world.verb(id, Verb::Provide).await.expect("accepted");
    let node = world.reaches(id, State::CleanFailed).await;
    assert!(!node.maintenance && node.fault.is_none());
    assert!(node.last_error.expect("an error").contains("Timeout reached while cleaning the node"));
    world.until(id, "tidied up", |_| world.directory.doing(id).is_none()).await;
    world.verb(id, Verb::Manage).await.expect("the way out");
    world.reaches(id, State::Manageable).await;
}

#[actix::test]
async fn a_step_that_may_not_be_interrupted_is_finished_before_the_abort() {
    let agent = Arc::new(Agent { stubborn: true, ..Agent::default() });
    agent.slow.store(true, Ordering::SeqCst);
    let world = World::new(over(&agent), cleaning()).await;
    let id = manageable(&world).await;
    let wanted = steps(&["erase_devices_metadata", "erase_devices"]);
    world.asks(id, Verb::Clean, wanted).await.expect("accepted");
    while world.node(id).await.clean_step.is_empty() {
        world.beats(id).await;
    }
    world.reaches(id, State::CleanWait).await;
    world.verb(id, Verb::Abort).await.expect("accepted");
    let node = world.node(id).await;
    assert_eq!(node.provision_state, State::CleanWait);
    assert_eq!(node.clean_step.get("abort_after"), Some(serde_json::Value::Bool(true)));
    agent.slow.store(false, Ordering::SeqCst);
    world.beats(id).await;
    let node = world.reaches(id, State::CleanFailed).await;
    let error = node.last_error.expect("an error");
    assert!(error.contains("aborted") && error.contains("erase_devices_metadata"), "{error}");
    assert!(!node.maintenance, "an abort is not a fault");
    assert_eq!(agent.begun.load(Ordering::SeqCst), 1, "the second step never ran");
}

#[actix::test]
async fn a_hold_waits_for_unhold_across_a_restart() {
    let agent = Arc::new(Agent::default());
    let world = World::new(over(&agent), cleaning()).await;
    let id = manageable(&world).await;
    world.asks(id, Verb::Clean, steps(&["hold", "erase_devices"])).await.expect("accepted");
    world.calls_until(id, State::CleanHold).await;
    let world = world.restarts(over(&agent), cleaning()).await;
    assert_eq!(world.node(id).await.provision_state, State::CleanHold);
    let waits_for = world.directory.doing(id).and_then(|doing| doing.waiting_for);
    assert!(waits_for.is_some_and(|what| what.contains("unhold")), "whoever looks is told what it waits for");
    assert_eq!(agent.begun.load(Ordering::SeqCst), 0);
    world.verb(id, Verb::Unhold).await.expect("accepted");
    world.calls_until(id, State::Manageable).await;
    assert_eq!(agent.begun.load(Ordering::SeqCst), 1);
}

#[actix::test]
async fn a_step_that_nobody_has_is_refused_before_anything_happens() {
    let world = World::new(Interfaces::default(), cleaning()).await;
    let id = manageable(&world).await;
    let error = world.asks(id, Verb::Clean, steps(&[])).await.expect_err("refused");
    assert!(matches!(error, NodeError::Driver(_) | NodeError::Invalid(_)), "{error}");
    assert_eq!(world.node(id).await.provision_state, State::Manageable);
}

#[actix::test]
async fn an_inspection_takes_what_the_ramdisk_found_even_when_the_process_dies_over_it() {
    let world = World::new(Interfaces::default(), settings()).await;
    let id = manageable(&world).await;
    world.verb(id, Verb::Inspect).await.expect("accepted");
    world.reaches(id, State::InspectWait).await;
    let mut found = Json::new();
    found.insert("hostname".into(), "found".into());
    let told = ContinueInspection { inventory: found.clone(), ..ContinueInspection::default() };
    world.directory.ask(id, told).await.expect("accepted");
    let world = world.restarts(Interfaces::default(), settings()).await;
    let node = world.reaches(id, State::Manageable).await;
    assert!(node.inspection_finished_at.is_some() && node.last_error.is_none());
    let stored = world.directory.store().read(move |conn| inventory::get(conn, id)).await;
    assert_eq!(stored.expect("read").expect("there").inventory_data.parse(), found);
    let again = ContinueInspection { inventory: found, ..ContinueInspection::default() };
    let error = world.directory.ask(id, again).await.expect_err("nobody waits for it");
    assert!(matches!(error, NodeError::NotFound { .. }));
}

#[actix::test]
async fn an_inspection_can_be_aborted_and_tried_again() {
    let world = World::new(Interfaces::default(), settings()).await;
    let id = manageable(&world).await;
    world.verb(id, Verb::Inspect).await.expect("accepted");
    world.reaches(id, State::InspectWait).await;
    world.verb(id, Verb::Abort).await.expect("accepted");
    let node = world.reaches(id, State::InspectFailed).await;
    assert_eq!(node.last_error.as_deref(), Some("Inspection was aborted by request."));
    world.verb(id, Verb::Inspect).await.expect("again");
    world.reaches(id, State::InspectWait).await;
}

#[actix::test]
async fn rescue_service_and_adoption_end_where_they_should() {
    let agent = Arc::new(Agent::default());
    let world = World::new(over(&agent), settings()).await;
    let id = manageable(&world).await;
    world.verb(id, Verb::Adopt).await.expect("accepted");
    world.reaches(id, State::Active).await;
    let hash = ferric_drivers::Secret::new("$5$salt$hash".to_owned());
    let wanted = Wanted { rescue_password: Some(hash), ..Wanted::default() };
    world.asks(id, Verb::Rescue, wanted).await.expect("accepted");
    world.calls_until(id, State::Rescue).await;
    world.verb(id, Verb::Unrescue).await.expect("accepted");
    world.reaches(id, State::Active).await;
    world.asks(id, Verb::Service, steps(&["erase_devices_metadata"])).await.expect("accepted");
    let node = world.calls_until(id, State::Active).await;
    assert_eq!(agent.begun.load(Ordering::SeqCst), 1);
    assert!(node.service_step.is_empty() && node.last_error.is_none());
}

#[actix::test]
async fn an_aborted_service_brings_the_instance_back() {
    let agent = Arc::new(Agent::default());
    agent.slow.store(true, Ordering::SeqCst);
    let world = World::new(over(&agent), settings()).await;
    let id = manageable(&world).await;
    world.verb(id, Verb::Adopt).await.expect("accepted");
    world.reaches(id, State::Active).await;
    world.asks(id, Verb::Service, steps(&["erase_devices_metadata"])).await.expect("accepted");
    while world.node(id).await.service_step.is_empty() {
        world.beats(id).await;
    }
    world.reaches(id, State::ServiceWait).await;
    world.verb(id, Verb::Abort).await.expect("accepted");
    let node = world.reaches(id, State::Active).await;
    assert!(node.last_error.expect("an error").contains("aborted"));
    world.until(id, "on again", |node| node.power_state == Some(PowerState::On)).await;
}

#[actix::test]
async fn an_installer_that_is_no_agent_ends_its_deployment_by_its_status() {
    let installer = Interfaces { deploy: Arc::new(common::agent::Installer), ..Interfaces::default() };
    let world = World::new(installer, settings()).await;
    let id = world.available().await;
    world.verb(id, Verb::Active).await.expect("accepted");
    world.reaches(id, State::DeployWait).await;
    for status in ["start", "end"] {
        let beat = ferric_actors::message::Heartbeat {
            callback_url: String::new(),
            agent_token: Some("given before".into()),
            agent_version: None,
            agent_verify_ca: None,
            agent_status: Some(status.into()),
            agent_status_message: None,
        };
        world.directory.ask(id, beat).await.expect("accepted");
    }
    let node = world.reaches(id, State::Active).await;
    assert!(node.driver_internal_info.get("agent_secret_token").is_none());
}

#[actix::test]
async fn a_hold_is_nobody_elses_turn() {
    let one = Settings { max_concurrent_cleans: 1, ..cleaning() };
    let world = World::new(over(&Arc::default()), one).await;
    let (held, other) = (manageable(&world).await, manageable(&world).await);
    world.asks(held, Verb::Clean, steps(&["hold", "erase_devices"])).await.expect("accepted");
    world.calls_until(held, State::CleanHold).await;
    world.verb(other, Verb::Provide).await.expect("accepted");
    world.calls_until(other, State::Available).await;
    // nor after a restart, which finds the held one in the journal
    let one = Settings { max_concurrent_cleans: 1, ..cleaning() };
    let world = world.restarts(over(&Arc::default()), one).await;
    world.verb(other, Verb::Manage).await.expect("accepted");
    world.calls_until(other, State::Manageable).await;
    world.verb(other, Verb::Provide).await.expect("accepted");
    world.calls_until(other, State::Available).await;
    world.verb(held, Verb::Unhold).await.expect("accepted");
    world.calls_until(held, State::Manageable).await;
}

#[actix::test]
async fn a_node_waits_for_its_place_and_says_which_it_has() {
    let one = Settings { max_concurrent_cleans: 1, ..cleaning() };
    let agent = Arc::new(Agent::default());
    agent.slow.store(true, Ordering::SeqCst);
    let world = World::new(over(&agent), one).await;
    let (first, second) = (manageable(&world).await, manageable(&world).await);
    world.verb(first, Verb::Provide).await.expect("accepted");
    world.calls_until(first, State::CleanWait).await;
    world.verb(second, Verb::Provide).await.expect("accepted");
    world.until(second, "in line", |_| !world.directory.queue()["clean"].is_empty()).await;
    let waits = world.directory.doing(second).expect("it does something").waiting_for;
    assert_eq!(waits.as_deref(), Some("place 1 of 1 in the clean queue"));
    agent.slow.store(false, Ordering::SeqCst);
    world.calls_until(first, State::Available).await;
    world.calls_until(second, State::Available).await;
}

#[actix::test]
async fn an_aborted_service_without_a_ramdisk_leaves_the_instance_alone() {
    let world = World::new(over(&Arc::default()), settings()).await;
    let id = manageable(&world).await;
    world.verb(id, Verb::Adopt).await.expect("accepted");
    world.reaches(id, State::Active).await;
    let change =
        ferric_actors::message::ChangePower { target: ferric_machine::PowerTarget::On, timeout: None };
    world.directory.ask(id, change).await.expect("accepted");
    let on = |node: &ferric_schema::Node| {
        node.power_state == Some(PowerState::On) && node.target_power_state.is_none()
    };
    world.until(id, "on", on).await;
    let mut long = steps(&["wait"]);
    long.steps[0].args.insert("seconds".into(), 600.into());
    long.disable_ramdisk = true;
    world.asks(id, Verb::Service, long).await.expect("accepted");
    world.reaches(id, State::ServiceWait).await;
    world.verb(id, Verb::Abort).await.expect("accepted");
    world.reaches(id, State::Active).await;
    world.until(id, "tidied up", |_| world.directory.doing(id).is_none()).await;
    let told =
        world.directory.store().read(move |conn| ferric_schema::events::of_node(conn, id, 0, 200)).await;
    let offs = told.expect("read").into_iter().filter(|event| event.text == "power is power off").count();
    assert_eq!(offs, 0, "the tenant's machine was switched off");
}

#[actix::test]
async fn a_card_that_two_machines_claim_stays_with_the_first_and_ends_nobodys_inspection() {
    let world = World::new(Interfaces::default(), settings()).await;
    let (first, second) = (manageable(&world).await, manageable(&world).await);
    for id in [first, second] {
        world.verb(id, Verb::Inspect).await.expect("accepted");
        world.reaches(id, State::InspectWait).await;
        // both report the same card, see common::agent::Ramdisks
        world.directory.ask(id, ContinueInspection::default()).await.expect("accepted");
        let node = world.reaches(id, State::Manageable).await;
        assert!(node.last_error.is_none() && !node.maintenance, "{:?}", node.last_error);
    }
    let owners = world.directory.node_of_port_address(&["52:54:00:00:00:01".to_owned()]);
    assert_eq!(owners, [first]);
    let rows = world
        .directory
        .store()
        .read(move |conn| ferric_schema::journal::latest_of_node(conn, first, 1))
        .await;
    let rows = rows.expect("read");
    assert!(rows.iter().flat_map(|row| row.args.parse()).next().is_none(), "what was sent is not kept");
}

#[actix::test]
async fn a_name_that_is_taken_fails_the_step_that_found_it_and_not_the_actor() {
    let world = World::new(Interfaces::default(), settings()).await;
    let (first, second) = (manageable(&world).await, manageable(&world).await);
    for (id, state) in [(first, State::Manageable), (second, State::InspectFailed)] {
        world.verb(id, Verb::Inspect).await.expect("accepted");
        world.reaches(id, State::InspectWait).await;
        let mut inventory = Json::new();
        inventory.insert("name".into(), "the-same".into());
        let told = ContinueInspection { inventory, ..ContinueInspection::default() };
        world.directory.ask(id, told).await.expect("accepted");
        world.reaches(id, state).await;
    }
    let node = world.node(second).await;
    assert!(!node.maintenance && node.last_error.expect("an error").contains("the database"), "said once");
}

#[actix::test]
async fn a_node_that_lacks_its_bmcs_address_says_so_after_manage() {
    let world =
        World::new(Interfaces { power: Arc::new(NoAddress), ..Interfaces::default() }, settings()).await;
    let id = world.enrol().await;
    world.verb(id, Verb::Manage).await.expect("accepted, as Ironic does");
    let node = world.until(id, "back in enroll", |node| node.last_error.is_some()).await;
    assert_eq!(node.provision_state, State::Enroll);
    let error = node.last_error.expect("an error");
    assert!(error.contains("Failed to get power state") && error.contains("ipmi_address"), "{error}");
}

/// A power interface whose node is not told where its BMC is.
struct NoAddress;

#[async_trait::async_trait]
impl ferric_drivers::interface::PowerInterface for NoAddress {
    fn properties(&self) -> &'static [ferric_drivers::interface::Property] {
        &[]
    }

    fn validate(&self, _: &ferric_drivers::interface::NodeView) -> Result<(), ferric_drivers::DriverError> {
        Err(ferric_drivers::DriverError::Missing {
            section: "driver_info",
            key: "ipmi_address".into(),
            remedy: "set it".into(),
        })
    }

    fn supported(&self) -> &'static [ferric_machine::PowerTarget] {
        ferric_machine::PowerTarget::ALL
    }

    fn bmc(&self, _: &ferric_drivers::interface::NodeView) -> Option<String> {
        None
    }

    async fn power_state(
        &self,
        _: &ferric_drivers::interface::NodeView,
    ) -> Result<PowerState, ferric_drivers::DriverError> {
        Ok(PowerState::Off)
    }

    async fn set_power(
        &self,
        _: &ferric_drivers::interface::NodeView,
        target: ferric_machine::PowerTarget,
        _: std::time::Duration,
    ) -> Result<PowerState, ferric_drivers::DriverError> {
        Ok(target.end())
    }
}
