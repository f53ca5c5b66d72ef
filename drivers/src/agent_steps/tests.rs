use ferric_machine::Activity;
use serde_json::json;

use super::*;
use crate::testing::{World, json as object};

fn step(name: &str, abortable: bool) -> Step {
    Step { source: StepSource::Agent, abortable, resume: Resume::Reattach, ..Step::new("deploy", name, 10) }
}

async fn world() -> World {
    let mut world = World::new().await;
    world.node.driver_internal_info.insert(VERSION.into(), json!({"M": "1"}));
    world.agent.with(|inside| {
        inside.offers = json!({"M": [{"interface": "deploy", "step": "erase_devices", "priority": 10}]});
    });
    world
}

fn runner() -> AgentStepRunner {
    AgentStepRunner::new(crate::testing::client(), EraseSettings::default())
}

fn checkpoint(outcome: Result<StepOutcome>) -> Option<String> {
    match outcome {
        Ok(StepOutcome::Wait(progressed)) => progressed.checkpoint,
        other => panic!("expected to wait, got {other:?}"),
    }
}

#[tokio::test]
async fn a_step_whose_answer_was_lost_does_not_run_twice() {
    let world = world().await;
    world.agent.with(|inside| inside.lose = 1);
    let mut context = world.context(Activity::Clean, &step("erase_devices", false));
    let lost = runner().execute(&context).await.unwrap_err();
    assert!(lost.is_transient(), "{lost}");
    context.resumed = true;
    assert_eq!(runner().execute(&context).await, Ok(StepOutcome::Done));
    assert_eq!(world.agent.steps_started(), ["deploy.erase_devices"]);
}

#[tokio::test]
async fn a_running_step_is_found_again_by_what_the_journal_remembers() {
    let world = world().await;
    world.agent.with(|inside| inside.quick = false);
    let mut context = world.context(Activity::Clean, &step("erase_devices", false));
    context.checkpoint = checkpoint(runner().execute(&context).await);
    assert_eq!(context.checkpoint.as_deref(), Some("id1"));
    context.resumed = true;
    assert_eq!(checkpoint(runner().poll(&context).await).as_deref(), Some("id1"));
    world.agent.with(|inside| inside.quick = true);
    assert_eq!(runner().poll(&context).await, Ok(StepOutcome::Done));
    assert_eq!(world.agent.steps_started().len(), 1);
}

#[tokio::test]
async fn a_step_before_this_one_is_not_taken_for_it() {
    let world = world().await;
    let first = world.context(Activity::Clean, &step("erase_devices_metadata", false));
    checkpoint(runner().execute(&first).await);
    assert_eq!(runner().poll(&first).await, Ok(StepOutcome::Done));
    let mut second = world.context(Activity::Clean, &step("erase_devices", false));
    second.resumed = true;
    checkpoint(runner().poll(&second).await);
    assert_eq!(world.agent.steps_started(), ["deploy.erase_devices_metadata", "deploy.erase_devices"]);
}

#[tokio::test]
async fn bytes_of_a_running_step_are_shown() {
    let world = world().await;
    let mut context = world.context(Activity::Clean, &step("erase_devices", false));
    world.agent.with(|inside| inside.quick = false);
    context.checkpoint = checkpoint(runner().execute(&context).await);
    world.agent.with(|inside| {
        let progress = json!({"phase": "erasing", "bytes_done": 5, "bytes_total": 9});
        inside.commands[0]["command_result"] = json!({"progress": progress});
    });
    let Ok(StepOutcome::Wait(progressed)) = runner().poll(&context).await else { panic!("it waits") };
    assert_eq!(progressed.progress.doing, "erasing");
    assert_eq!((progressed.progress.bytes_done, progressed.progress.bytes_total), (Some(5), Some(9)));
}

#[tokio::test]
async fn other_hardware_managers_are_asked_again_and_remembered() {
    let world = world().await;
    world.agent.with(|inside| inside.version = json!({"M": "2"}));
    let mut context = world.context(Activity::Clean, &step("erase_devices", false));
    context.checkpoint = checkpoint(runner().execute(&context).await);
    let Ok(StepOutcome::Found(found)) = runner().poll(&context).await else { panic!("it is done") };
    assert_eq!(found.keep[VERSION], json!({"M": "2"}));
    assert_eq!(world.agent.steps_started().len(), 2, "refused once, run once");
}

#[tokio::test]
async fn a_step_that_the_new_hardware_managers_lack_fails() {
    let world = world().await;
    world.agent.with(|inside| inside.version = json!({"M": "2"}));
    let context = world.context(Activity::Clean, &step("gone", false));
    let error = runner().execute(&context).await.unwrap_err().to_string();
    assert!(error.contains("not among theirs"), "{error}");
}

#[tokio::test]
async fn an_agent_that_was_started_anew_erases_again_and_nothing_else() {
    for (name, abortable, again) in
        [("erase_devices", false, true), ("update_nic", true, true), ("update_nic", false, false)]
    {
        let world = world().await;
        world.agent.with(|inside| inside.quick = false);
        let mut context = world.context(Activity::Clean, &step(name, abortable));
        context.checkpoint = checkpoint(runner().execute(&context).await);
        world.agent.with(|inside| inside.commands.clear());
        let looked = runner().poll(&context).await;
        assert_eq!(looked.is_ok(), again, "{name}: {looked:?}");
        assert_eq!(world.agent.steps_started().len(), if again { 2 } else { 1 }, "{name}");
    }
}

#[tokio::test]
async fn a_failed_step_fails_with_the_agents_words() {
    let world = world().await;
    world.agent.with(|inside| inside.fail = Some("disk is frozen".to_owned()));
    let mut context = world.context(Activity::Clean, &step("erase_devices", false));
    context.checkpoint = checkpoint(runner().execute(&context).await);
    let error = runner().poll(&context).await.unwrap_err();
    assert_eq!(error.to_string(), "agent command deploy.erase_devices failed: disk is frozen");
}

#[tokio::test]
async fn without_an_agent_the_step_waits_for_one() {
    let world = world().await;
    let mut context = world.context(Activity::Clean, &step("erase_devices", false));
    context.agent = None;
    assert_eq!(checkpoint(runner().execute(&context).await), None);
    assert_eq!(checkpoint(runner().poll(&context).await), None);
    context.agent = Some(world.agent.handle());
    checkpoint(runner().poll(&context).await);
    assert_eq!(world.agent.steps_started().len(), 1);
}

#[tokio::test]
async fn agents_see_how_to_erase_and_no_secret() {
    let mut world = world().await;
    world.node.driver_info = object(json!({"ipmi_password": "hush", "agent_burnin_cpu_timeout": 3}));
    world.node.instance_info =
        object(json!({"rescue_password": "hush", "configdrive": "hush", "hashed_rescue_password": "hush"}));
    world.node.driver_internal_info.insert("agent_secret_token".into(), json!("hush"));
    world.node.target_raid_config = object(json!({"logical_disks": []}));
    checkpoint(runner().execute(&world.context(Activity::Clean, &step("erase_devices", false))).await);
    let params = world.agent.with(|inside| inside.started[0].1.clone());
    assert!(!params.to_string().contains("hush"), "{params}");
    let node = &params["node"];
    assert_eq!(node["driver_internal_info"]["agent_erase_devices_iterations"], 1);
    assert_eq!(node["driver_internal_info"]["disk_erasure_concurrency"], 4);
    assert_eq!(node["driver_info"], json!({"agent_burnin_cpu_timeout": 3}));
    assert_eq!(node["target_raid_config"], json!({"logical_disks": []}));
    assert_eq!(params["clean_version"], json!({"M": "1"}));
}

#[tokio::test]
async fn raid_that_was_built_goes_into_the_node() {
    let world = world().await;
    world.agent.with(|inside| inside.result = json!({"logical_disks": [{"size_gb": 10}]}));
    let raid = Step { interface: "raid".into(), ..step("create_configuration", true) };
    let mut context = world.context(Activity::Clean, &raid);
    context.checkpoint = checkpoint(runner().execute(&context).await);
    let Ok(StepOutcome::Found(found)) = runner().poll(&context).await else { panic!("it is done") };
    let [NodeChange::RaidConfig(config)] = found.node.as_slice() else { panic!("{found:?}") };
    assert_eq!(config["logical_disks"][0]["size_gb"], 10);
}

#[test]
fn of_two_managers_the_higher_priority_counts() {
    let listed = serde_json::from_value(json!({
        "A": [{"interface": "deploy", "step": "x", "priority": 10, "reboot_requested": true}],
        "B": [{"interface": "deploy", "step": "x", "priority": 20}],
        "C": [{"interface": "raid", "step": "x", "priority": 1, "reboot_requested": true}],
    }))
    .unwrap();
    let offer = merged(listed, Json::new());
    let seen: Vec<_> = offer.steps.iter().map(|step| (step.interface.as_str(), step.priority)).collect();
    assert_eq!(seen, [("deploy", 20), ("raid", 1)]);
    assert_eq!(offer.reboot_after, [("raid".to_owned(), "x".to_owned())]);
}
