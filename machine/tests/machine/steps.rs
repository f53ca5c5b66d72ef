use ferric_machine::steps::{Reserved, aborted_message, plan, sort};
use ferric_machine::{Activity, Step, StepKind};
use proptest::prelude::*;

fn step(interface: &str, name: &str, priority: i32) -> Step {
    Step { interface: interface.into(), step: name.into(), priority, abortable: false }
}

fn names(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.step.as_str()).collect()
}

fn mixed() -> Vec<Step> {
    vec![
        step("raid", "r50", 50),
        step("deploy", "d0", 0),
        step("bios", "b50", 50),
        step("deploy", "d99", 99),
        step("deploy", "d50", 50),
        step("deploy", "d50 again", 50),
        step("firmware", "f50", 50),
        step("management", "m50", 50),
        step("power", "p50", 50),
        step("vendor", "v50", 50),
    ]
}

#[test]
fn automated_runs_go_by_priority_then_interface_and_leave_out_what_is_disabled() {
    let expected = ["d99", "v50", "p50", "m50", "f50", "d50", "d50 again", "b50", "r50"];
    for kind in [StepKind::Clean, StepKind::Deploy] {
        assert_eq!(names(&plan(mixed(), kind)), expected);
    }
    let mut sorted = mixed();
    sort(&mut sorted, StepKind::Deploy);
    assert_eq!(names(&sorted)[9], "d0", "sorting alone leaves nothing out");
}

#[test]
fn the_operators_own_list_runs_as_it_was_given() {
    for kind in [StepKind::ManualClean, StepKind::Service] {
        assert_eq!(plan(mixed(), kind), mixed());
    }
}

#[test]
fn verifying_ranks_interfaces_its_own_way() {
    let by_rank = [
        ("power", 13),
        ("management", 12),
        ("firmware", 11),
        ("inspect", 10),
        ("deploy", 9),
        ("boot", 8),
        ("bios", 7),
        ("raid", 6),
        ("vendor", 5),
        ("network", 4),
    ];
    for (interface, rank) in by_rank {
        assert_eq!(StepKind::Verify.rank(interface), rank, "{interface}");
    }
    assert_eq!(StepKind::Service.rank("network"), 8);
    assert_eq!(StepKind::Deploy.rank("network"), 0);
}

#[test]
fn reserved_names_are_the_conductors_own() {
    let words: Vec<_> = Reserved::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(words, ["hold", "wait", "power_on", "power_off", "reboot"]);
    assert!("erase_devices".parse::<Reserved>().is_err());
}

#[test]
fn an_aborted_work_says_aborted() {
    assert_eq!(aborted_message(Activity::Clean, None), "By request, the clean operation was aborted");
    let text = "By request, the deploy operation was aborted during or after the completion of step \"deploy.write\"";
    assert_eq!(aborted_message(Activity::Deploy, Some("deploy.write")), text);
    for activity in Activity::ALL {
        assert!(aborted_message(*activity, None).contains("aborted"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_ordered_stable_and_complete(
        keys in prop::collection::vec((prop::sample::select(vec!["power", "deploy", "raid", "?"]), -1..3i32), 0..30),
    ) {
        let steps: Vec<_> = keys.iter().enumerate().map(|(at, (on, prio))| step(on, &at.to_string(), *prio)).collect();
        let planned = plan(steps.clone(), StepKind::Clean);
        prop_assert_eq!(planned.len(), steps.iter().filter(|step| step.priority > 0).count());
        for pair in planned.windows(2) {
            let key = |step: &Step| (step.priority, StepKind::Clean.rank(&step.interface));
            prop_assert!(key(&pair[0]) >= key(&pair[1]));
            if key(&pair[0]) == key(&pair[1]) {
                let at = |step: &Step| step.step.parse::<usize>().unwrap();
                prop_assert!(at(&pair[0]) < at(&pair[1]));
            }
        }
    }
}
