use std::sync::Arc;
use std::time::Duration;

use ferric_machine::Activity;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::deploy::FakeDeploy;
use crate::fakes;
use crate::interface::Child;
use crate::rescue::AgentRescue;
use crate::testing::{End, Listed, Record, World, json as object};

fn asked(interface: &str, step: &str) -> Asked {
    Asked { interface: interface.to_owned(), step: step.to_owned(), ..Asked::default() }
}

fn manual(activity: Activity, steps: Vec<Asked>) -> Order {
    Order { steps, automated: false, ..Order::new(activity) }
}

/// An agent with the usual steps; `deploy.reset` asks for a reboot.
async fn world() -> World {
    let world = World::new().await;
    world.agent.with(|inside| {
        inside.offers = json!({"M": [
            {"interface": "deploy", "step": "erase_devices", "priority": 10},
            {"interface": "deploy", "step": "erase_devices_metadata", "priority": 99},
            {"interface": "deploy", "step": "burnin_cpu", "priority": 0,
             "argsinfo": {"seconds": {"description": "how long", "required": true}}},
            {"interface": "deploy", "step": "reset", "priority": 0, "reboot_requested": true},
            {"interface": "deploy", "step": "write_image", "priority": 0},
        ]});
    });
    world
}

#[tokio::test]
async fn automated_cleaning_runs_the_agents_steps_by_priority_and_switches_off() {
    let mut world = world().await;
    world.run(&Order::new(Activity::Clean)).await.unwrap();
    assert_eq!(world.agent.steps_started(), ["deploy.erase_devices_metadata", "deploy.erase_devices"]);
    assert_eq!(world.asked(), ["ramdisk Clean", "power power off", "files"]);
    let info = &world.node.driver_internal_info;
    assert_eq!(info["hardware_manager_version"], json!({"M": "1"}));
    assert_eq!(info["agent_cached_clean_steps"]["deploy"].as_array().unwrap().len(), 5);
    assert!(info["agent_cached_clean_steps_refreshed"].is_string());
    assert!(!info.contains_key("clean_steps"), "the list is gone when the work is");
}

#[tokio::test]
async fn configured_priorities_change_the_order_and_leave_steps_out() {
    let mut world = world().await;
    world.flow = Flow::new(FlowSettings {
        clean_priorities: [("deploy.erase_devices", 0), ("deploy.reset", 100)]
            .map(|(name, priority)| (name.to_owned(), priority))
            .into(),
        ..FlowSettings::default()
    });
    world.run(&Order::new(Activity::Clean)).await.unwrap();
    assert_eq!(world.agent.steps_started(), ["deploy.reset", "deploy.erase_devices_metadata"]);
    let boots = world.asked().iter().filter(|what| *what == "ramdisk Clean").count();
    assert_eq!(boots, 2, "the step asked for a reboot");
}

#[tokio::test]
async fn steps_of_interfaces_clean_beside_the_agents() {
    let mut world = world().await;
    let bios = Listed { steps: vec![(Activity::Clean, Step::new("bios", "reset", 50))] };
    world.put(Kind::Bios, "x", bios);
    world.run(&Order::new(Activity::Clean)).await.unwrap();
    let order: Vec<_> = world.ran.iter().filter(|step| !step.starts_with("conductor")).collect();
    assert_eq!(order, ["deploy.erase_devices_metadata", "bios.reset", "deploy.erase_devices"]);
}

#[tokio::test]
async fn manual_cleaning_keeps_the_order_and_runs_equal_steps_as_often_as_asked() {
    let mut world = world().await;
    let steps = ["erase_devices", "erase_devices_metadata", "erase_devices"];
    let order = manual(Activity::Clean, steps.map(|name| asked("deploy", name)).into());
    world.run(&order).await.unwrap();
    let started = world.agent.steps_started();
    assert_eq!(started, ["deploy.erase_devices", "deploy.erase_devices_metadata", "deploy.erase_devices"]);
}

#[tokio::test]
async fn arguments_are_checked_against_what_the_step_declares() {
    for (args, wrong) in [
        (json!({}), "'seconds' is required"),
        (json!({"seconds": 1, "colour": 2}), "unknown argument 'colour'; it takes: seconds"),
    ] {
        let mut world = world().await;
        let step = Asked { args: object(args), ..asked("deploy", "burnin_cpu") };
        let error = world.run(&manual(Activity::Clean, vec![step])).await.unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
        assert!(error.starts_with("clean_steps/deploy.burnin_cpu"), "{error}");
        assert_eq!(world.agent.steps_started(), Vec::<String>::new());
    }
    let mut world = world().await;
    let step = Asked { args: object(json!({"seconds": 1})), ..asked("deploy", "burnin_cpu") };
    world.run(&manual(Activity::Clean, vec![step])).await.unwrap();
    let params = world.agent.with(|inside| inside.started.last().unwrap().1.clone());
    assert_eq!(params["step"]["args"], json!({"seconds": 1}));
}

#[tokio::test]
async fn a_step_that_nobody_has_is_refused_with_those_there_are() {
    let mut world = world().await;
    let order = manual(Activity::Clean, vec![asked("deploy", "polish")]);
    let error = world.run(&order).await.unwrap_err().to_string();
    assert!(error.contains("no such step") && error.contains("deploy.erase_devices"), "{error}");
    let nonsense = manual(Activity::Clean, vec![asked("dishes", "polish")]);
    let error = world.flow.validate(&world.node, &world.bound, &nonsense).unwrap_err().to_string();
    assert!(error.contains("'dishes' is not an interface"), "{error}");
    assert!(world.flow.validate(&world.node, &world.bound, &manual(Activity::Service, vec![])).is_err());
}

#[tokio::test]
async fn without_a_ramdisk_only_steps_that_need_none_run() {
    let mut world = world().await;
    let light = Step { requires_ramdisk: false, ..Step::new("management", "reset_bmc", 0) };
    let heavy = Step::new("management", "scrub", 0);
    world.put(
        Kind::Management,
        "x",
        Listed { steps: vec![(Activity::Clean, light), (Activity::Clean, heavy)] },
    );
    let alone = |name: &str| Order {
        disable_ramdisk: true,
        ..manual(Activity::Clean, vec![asked("management", name)])
    };
    let error = world.flow.validate(&world.node, &world.bound, &alone("scrub")).unwrap_err().to_string();
    assert!(error.contains("needs a ramdisk"), "{error}");
    world.run(&alone("reset_bmc")).await.unwrap();
    assert_eq!(world.asked(), Vec::<String>::new(), "the machine is left alone");
    assert_eq!(world.node.driver_internal_info["cleaning_disable_ramdisk"], true);
    // a list that needs none boots none, also where nobody said so
    world.run(&manual(Activity::Clean, vec![asked("management", "reset_bmc")])).await.unwrap();
    assert_eq!(world.asked(), Vec::<String>::new());
    // an abort of such work does not touch the machine either
    world.node.driver_internal_info.insert("cleaning_disable_ramdisk".into(), json!(true));
    world.clean_up(Activity::Clean, Ending::Aborted).await.unwrap();
    assert_eq!(world.asked(), Vec::<String>::new());
    assert!(!world.node.driver_internal_info.contains_key("cleaning_disable_ramdisk"));
}

#[tokio::test]
async fn hold_holds_wherever_it_stands() {
    let mut world = world().await;
    let end = world.run(&manual(Activity::Clean, vec![asked("", "hold")])).await.unwrap();
    let End::Held(left) = end else { panic!("it holds") };
    assert_eq!(left.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["finish_cleaning"]);
    assert_eq!(world.asked(), ["ramdisk Clean"]);
    let hold = world.context(Activity::Clean, &Step::conductor("hold"));
    assert_eq!(world.flow.poll(&hold).await, Ok(StepOutcome::Done), "unheld");
    let alone = Order { disable_ramdisk: true, ..manual(Activity::Clean, vec![asked("", "hold")]) };
    assert_eq!(world.run(&alone).await.unwrap(), End::Held(vec![]));
}

#[tokio::test]
async fn wait_remembers_its_end_across_a_restart() {
    let world = world().await;
    let step = Step { args: object(json!({"seconds": 1000})), ..Step::conductor("wait") };
    let mut context = world.context(Activity::Clean, &step);
    let Ok(StepOutcome::Wait(first)) = world.flow.execute(&context).await else { panic!("it waits") };
    let until: u64 = first.checkpoint.as_deref().unwrap().parse().unwrap();
    context.resumed = true;
    context.checkpoint = Some((until - 5).to_string());
    let Ok(StepOutcome::Wait(again)) = world.flow.execute(&context).await else { panic!("it waits") };
    assert_eq!(again.checkpoint, context.checkpoint, "the wait does not begin anew");
    context.checkpoint = Some("1000".to_owned());
    assert_eq!(world.flow.poll(&context).await, Ok(StepOutcome::Done));
    let zero = Step { args: object(json!({"seconds": 0})), ..Step::conductor("wait") };
    let context = world.context(Activity::Clean, &zero);
    assert_eq!(world.flow.execute(&context).await, Ok(StepOutcome::Done));
}

#[tokio::test]
async fn reserved_steps_take_no_nonsense() {
    let world = world().await;
    let refused = |step: Asked| {
        let order = Order { disable_ramdisk: true, ..manual(Activity::Clean, vec![step]) };
        world.flow.validate(&world.node, &world.bound, &order).unwrap_err().to_string()
    };
    let with = |name: &str, args: Value| Asked { args: object(args), ..asked("", name) };
    assert!(refused(with("wait", json!({"seconds": "soon"}))).contains("seconds must be a number"));
    assert!(refused(with("wait", json!({}))).contains("needs args.seconds"));
    assert!(refused(with("reboot", json!({"hard": 1}))).contains("unknown argument 'hard'"));
    let children = Asked { execute_on_child_nodes: true, ..asked("", "hold") };
    assert!(refused(children).contains("only power_on, power_off and reboot"));
}

#[tokio::test]
async fn power_steps_reach_the_children_that_are_named() {
    let mut world = world().await;
    let child = |number, name: &str| Child {
        uuid: Uuid::from_u128(number),
        name: Some(name.to_owned()),
        own_power: false,
    };
    world.asks = Arc::new(Record { children: vec![child(1, "a"), child(2, "b")], ..Record::default() });
    let on = |only: &[&str]| Asked {
        execute_on_child_nodes: true,
        limit_child_node_execution: only.iter().map(|name| (*name).to_owned()).collect(),
        ..asked("", "power_on")
    };
    world.run(&manual(Activity::Service, vec![on(&["b"]), on(&[])])).await.unwrap();
    assert_eq!(world.asked(), ["child 2 power on", "child 1 power on", "child 2 power on"]);
    let error = world.run(&manual(Activity::Service, vec![on(&["c"])])).await.unwrap_err().to_string();
    assert!(error.contains("'c' is not a child"), "{error}");
}

#[tokio::test]
async fn a_ramdisk_that_was_switched_off_is_booted_for_the_next_step_that_needs_it() {
    let mut world = world().await;
    let steps = vec![asked("", "power_off"), asked("", "power_on"), asked("deploy", "erase_devices")];
    world.run(&manual(Activity::Clean, steps)).await.unwrap();
    let all = world.asked();
    assert_eq!(all[..4], ["ramdisk Clean", "power power off", "power power on", "ramdisk Clean"]);
    assert_eq!(world.agent.steps_started(), ["deploy.erase_devices"]);
}

#[tokio::test]
async fn service_ends_with_the_instance_booted() {
    let mut world = world().await;
    let order = manual(Activity::Service, vec![asked("deploy", "erase_devices")]);
    world.run(&order).await.unwrap();
    assert_eq!(world.asked(), ["ramdisk Service", "power power off", "disk", "power power on"]);
    let booted = json!({"kernel": "k", "ramdisk": "r", "kernel_args": []});
    world.node.driver_internal_info.insert("instance_boot".into(), booted);
    world.run(&order).await.unwrap();
    assert_eq!(world.asked()[4..], ["ramdisk Service", "power power off", "network", "power power on"]);
}

#[tokio::test]
async fn deploy_steps_of_agent_templates_and_interface_merge_by_priority() {
    let mut world = world().await;
    let erase = Asked { priority: Some(95), ..asked("deploy", "erase_devices_metadata") };
    let burn =
        Asked { priority: Some(50), args: object(json!({"seconds": 7})), ..asked("deploy", "burnin_cpu") };
    let off = Asked { priority: Some(0), ..asked("deploy", "erase_devices") };
    let wait = Asked { priority: Some(30), args: object(json!({"seconds": 0})), ..asked("", "wait") };
    let order = Order { steps: vec![erase, burn, off, wait], ..Order::new(Activity::Deploy) };
    world.run(&order).await.unwrap();
    assert_eq!(
        world.ran,
        [
            "conductor.prepare",
            "deploy.deploy",
            "conductor.collect",
            "deploy.erase_devices_metadata",
            "deploy.write_image",
            "deploy.burnin_cpu",
            "deploy.tear_down_agent",
            ".wait",
            "deploy.boot_instance",
        ]
    );
    assert_eq!(
        world.agent.steps_started(),
        ["deploy.erase_devices_metadata", "deploy.burnin_cpu"],
        "write_image is the interface's own"
    );
    let nobody = Asked { priority: Some(50), ..asked("deploy", "polish") };
    let order = Order { steps: vec![nobody], ..Order::new(Activity::Deploy) };
    let error = world.run(&order).await.unwrap_err().to_string();
    assert!(error.starts_with("deploy_steps/deploy.polish"), "{error}");
}

#[tokio::test]
async fn a_deployment_without_agent_still_takes_steps_of_interfaces() {
    let mut world = world().await;
    world.bound.deploy = Arc::new(FakeDeploy);
    world.put(Kind::Raid, "fake", fakes::FakeRaid);
    let raid = Asked {
        priority: Some(150),
        args: object(json!({"raid_config": {}})),
        ..asked("raid", "apply_configuration")
    };
    let order = Order { steps: vec![raid], ..Order::new(Activity::Deploy) };
    world.run(&order).await.unwrap();
    assert_eq!(world.ran, ["conductor.prepare", "raid.apply_configuration", "deploy.deploy"]);
    let in_band = Asked { priority: Some(50), ..asked("deploy", "erase_devices") };
    let order = Order { steps: vec![in_band], ..Order::new(Activity::Deploy) };
    assert!(world.flow.validate(&world.node, &world.bound, &order).is_err());
}

#[tokio::test]
async fn verifying_runs_the_steps_that_are_enabled() {
    let mut world = world().await;
    let step = |name: &str, priority| (Activity::Verify, Step::new("management", name, priority));
    world.put(Kind::Management, "x", Listed { steps: vec![step("a", 0), step("b", 5), step("c", 7)] });
    world.flow = Flow::new(FlowSettings {
        verify_priorities: [("management.a".to_owned(), 9), ("management.b".to_owned(), 0)].into(),
        ..FlowSettings::default()
    });
    world.run(&Order::new(Activity::Verify)).await.unwrap();
    assert_eq!(world.ran, ["conductor.verify_power", "management.a", "management.c"]);
}

#[tokio::test]
async fn adopting_takes_over() {
    let mut world = world().await;
    world.run(&Order::new(Activity::Adopt)).await.unwrap();
    assert_eq!(world.ran, ["conductor.validate_boot", "deploy.take_over"]);
}

fn with_password(world: &mut World) {
    world.node.instance_info =
        object(json!({"rescue_password": "plain", "hashed_rescue_password": "$5$x", "image_source": "i"}));
}

#[tokio::test]
async fn rescuing_sets_the_hash_and_forgets_the_password() {
    let mut world = world().await;
    world.put(Kind::Rescue, "agent", AgentRescue::new(crate::testing::client()));
    let error = world.run(&Order::new(Activity::Rescue)).await.unwrap_err().to_string();
    assert!(error.contains("rescue_password"), "{error}");
    with_password(&mut world);
    world.run(&Order::new(Activity::Rescue)).await.unwrap();
    let (name, params) = world.agent.with(|inside| inside.started[0].clone());
    assert_eq!(name, "rescue.finalize_rescue");
    assert_eq!(params, json!({"rescue_password": "$5$x", "hashed": true}));
    assert_eq!(Value::Object(world.node.instance_info.clone()), json!({"image_source": "i"}));
    assert_eq!(world.asked(), ["ramdisk Rescue", "disk"]);
    world.run(&Order::new(Activity::Unrescue)).await.unwrap();
    assert_eq!(world.asked()[2..], ["power power off", "disk", "power power on"]);
}

#[tokio::test]
async fn without_a_rescue_interface_rescuing_is_refused() {
    let world = world().await;
    let order = Order::new(Activity::Rescue);
    let error = world.flow.validate(&world.node, &world.bound, &order).unwrap_err();
    assert!(matches!(error, DriverError::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn what_failed_or_was_aborted_is_cleaned_up_as_its_kind_wants_it() {
    let clean_fail_off = FlowSettings { power_off_after_clean_failure: true, ..FlowSettings::default() };
    let service_fail_off = FlowSettings { power_off_after_service_failure: true, ..FlowSettings::default() };
    let usual = FlowSettings::default;
    let off = "power power off";
    let cases: Vec<(Activity, Ending, FlowSettings, Vec<&str>)> = vec![
        (Activity::Clean, Ending::Failed, usual(), vec!["files"]),
        (Activity::Clean, Ending::Failed, clean_fail_off, vec![off, "files"]),
        (Activity::Clean, Ending::Aborted, usual(), vec![off, "files"]),
        (Activity::Deploy, Ending::Failed, usual(), vec![off, "files"]),
        (Activity::Deploy, Ending::Aborted, usual(), vec!["files"]),
        (Activity::Rescue, Ending::Failed, usual(), vec!["files"]),
        (Activity::Rescue, Ending::Aborted, usual(), vec!["files"]),
        (Activity::Service, Ending::Failed, usual(), vec![]),
        (Activity::Service, Ending::Failed, service_fail_off, vec![off]),
        (Activity::Service, Ending::Aborted, usual(), vec![off, "disk", "power power on"]),
        (Activity::Inspect, Ending::Failed, usual(), vec![off, "files"]),
        (Activity::Adopt, Ending::Failed, usual(), vec![]),
    ];
    for (activity, ending, settings, expected) in cases {
        let mut world = world().await;
        world.flow = Flow::new(settings);
        world.bound.names.insert(Kind::Inspect, "agent".to_owned());
        with_password(&mut world);
        world.clean_up(activity, ending).await.unwrap();
        assert_eq!(world.asked(), expected, "{activity} {ending:?}");
        let kept = world.node.instance_info.contains_key("rescue_password");
        assert_eq!(kept, activity != Activity::Rescue, "{activity}");
    }
}

#[tokio::test]
async fn logs_are_kept_when_a_step_fails_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world().await;
    let logs = LogCollection { always: false, folder: folder.path().join("logs") };
    world.flow = Flow::new(FlowSettings { logs: Some(logs), ..FlowSettings::default() });
    world.run(&Order::new(Activity::Clean)).await.unwrap();
    assert!(!folder.path().join("logs").exists(), "nothing failed");
    world.agent.with(|inside| inside.fail = Some("frozen".to_owned()));
    world.run(&Order::new(Activity::Clean)).await.unwrap_err();
    let files: Vec<_> =
        std::fs::read_dir(folder.path().join("logs")).unwrap().map(|file| file.unwrap()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let name = file.file_name().into_string().unwrap();
    assert!(name.starts_with(&format!("{}_cleaning_20", world.node.uuid)), "{name}");
    assert!(name.ends_with(".tar.gz"), "{name}");
    assert_eq!(std::fs::read(file.path()).unwrap(), b"logs");
}

#[tokio::test]
async fn a_fake_node_passes_every_verb() {
    let mut world = World::new().await;
    world.bound.deploy = Arc::new(FakeDeploy);
    for ((kind, name), steps) in fakes::all() {
        world.bound.names.insert(kind, name.to_owned());
        world.bound.steps.insert(kind, steps);
    }
    with_password(&mut world);
    for activity in [
        Activity::Verify,
        Activity::Inspect,
        Activity::Clean,
        Activity::Deploy,
        Activity::Adopt,
        Activity::Rescue,
        Activity::TearDown,
    ] {
        world.run(&Order::new(activity)).await.unwrap();
    }
    assert!(!world.node.instance_info.contains_key("rescue_password"));
    world.run(&Order::new(Activity::Unrescue)).await.unwrap();
    for activity in [Activity::Clean, Activity::Service] {
        let settings =
            |interface, name| Asked { args: object(json!({"settings": []})), ..asked(interface, name) };
        let mut steps = vec![asked("raid", "delete_configuration"), asked("raid", "create_configuration")];
        if activity == Activity::Clean {
            steps.extend([settings("bios", "apply_configuration"), settings("firmware", "update")]);
        }
        steps.push(asked("", "power_off"));
        world.run(&manual(activity, steps)).await.unwrap();
    }
    assert_eq!(world.agent.steps_started(), Vec::<String>::new(), "nobody was there to be asked");
    assert!(!world.asked().iter().any(|what| what.starts_with("ramdisk")));
}

#[test]
fn the_date_is_right_on_odd_days() {
    let at = |seconds| written(Duration::from_secs(seconds));
    assert_eq!(at(0), "1970-01-01 00:00:00.000000");
    assert_eq!(at(951_782_399), "2000-02-28 23:59:59.000000");
    assert_eq!(at(951_782_400), "2000-02-29 00:00:00.000000");
    assert_eq!(at(4_107_542_399), "2100-02-28 23:59:59.000000");
    assert_eq!(at(4_107_542_400), "2100-03-01 00:00:00.000000");
    assert_eq!(at(1_795_379_400), "2026-11-22 20:30:00.000000");
}

#[tokio::test]
async fn an_agent_that_does_not_answer_at_once_is_asked_for_its_steps_again() {
    let mut world = world().await;
    world.agent.with(|inside| inside.lose = 1);
    world.run(&Order::new(Activity::Clean)).await.unwrap();
    assert_eq!(world.agent.steps_started(), ["deploy.erase_devices_metadata", "deploy.erase_devices"]);
}

#[tokio::test]
async fn an_agent_that_left_during_a_restart_has_the_rescue_password() {
    let mut world = world().await;
    world.put(Kind::Rescue, "agent", AgentRescue::new(crate::testing::client()));
    with_password(&mut world);
    let steps = world.bound.steps_of(Kind::Rescue).unwrap().steps(&world.node, Activity::Rescue);
    let finalize = steps.last().unwrap();
    let mut context = world.context(Activity::Rescue, finalize);
    // an address at which nobody listens any more
    context.agent = Some(crate::testing::agent::TestAgent::start().await.handle());
    context.resumed = true;
    let mut outcome = world.flow.execute(&context).await;
    context.resumed = false;
    let mut looks = 0;
    while let Ok(StepOutcome::Wait(progressed)) = outcome {
        context.checkpoint = progressed.checkpoint;
        outcome = world.flow.poll(&context).await;
        looks += 1;
    }
    assert_eq!(looks, 3);
    assert!(matches!(outcome, Ok(StepOutcome::Found(_))), "{outcome:?}");
    // without a restart it is called again, as long as the deadline allows
    context.checkpoint = None;
    let waits = world.flow.execute(&context).await;
    assert!(matches!(waits, Ok(StepOutcome::Wait(_))), "{waits:?}");
    assert!(world.flow.poll(&context).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn raid_is_built_of_the_volumes_that_were_asked_for() {
    let mut world = world().await;
    world.put(Kind::Raid, "agent", crate::raid::AgentRaid);
    let create = |root: bool| Asked {
        args: object(json!({"create_root_volume": root})),
        ..asked("raid", "create_configuration")
    };
    let error = world.run(&manual(Activity::Clean, vec![create(true)])).await.unwrap_err().to_string();
    assert!(error.contains("target_raid_config"), "{error}");
    world.node.target_raid_config =
        object(json!({"logical_disks": [{"size_gb": 1, "is_root_volume": true}, {"size_gb": 2}]}));
    world.run(&manual(Activity::Clean, vec![create(false)])).await.unwrap();
    let params = world.agent.with(|inside| inside.started.last().unwrap().1.clone());
    assert_eq!(params["node"]["target_raid_config"], json!({"logical_disks": [{"size_gb": 2}]}));
    assert_eq!(params["step"].get("args"), None);
}
