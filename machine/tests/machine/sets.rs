use std::time::Duration;

use ferric_machine::{Clock, DeadlineOption, Facts, State, Timestamp, deadline};

/// Asserts that `has` holds for the listed states and no other.
fn members(listed: &str, has: impl Fn(State) -> bool) {
    let listed: Vec<State> = listed.split(", ").map(|name| name.parse().unwrap()).collect();
    for state in State::ALL {
        assert_eq!(has(*state), listed.contains(state), "{state}");
    }
}

const LOOKUP: &str = "deploying, wait call-back, cleaning, clean wait, inspecting, inspect wait, rescuing, rescue wait, \
                      service wait";

#[test]
fn the_named_sets_are_those_of_section_1() {
    members("enroll, manageable, available, active, error, rescue", State::is_stable);
    members(
        "deploying, wait call-back, cleaning, clean wait, verifying, deleting, inspecting, inspect wait, adopting, \
         rescuing, rescue wait, unrescuing, servicing, service wait",
        State::is_unstable,
    );
    members(
        "deploy failed, inspecting, inspect failed, inspect wait, clean failed, error, verifying, adopt failed, rescue \
         failed, unrescue failed, service hold, service failed",
        State::update_allowed,
    );
    members("manageable, enroll, adopt failed", |state| state.delete_allowed(false));
    members("manageable, enroll, adopt failed, available", |state| state.delete_allowed(true));
    members(
        "deploying, cleaning, verifying, inspecting, adopting, rescuing, unrescuing, deleting, servicing",
        State::stuck_as_fail,
    );
    members(LOOKUP, |state| state.lookup_allowed(false));
    let fast = format!("{LOOKUP}, enroll, manageable, available, servicing, service hold");
    members(&fast, |state| state.lookup_allowed(true));
    members(
        "deploy failed, clean failed, inspect failed, adopt failed, rescue failed, unrescue failed, service failed",
        State::is_failed,
    );
}

#[test]
fn heartbeats_count_where_section_5_says() {
    let drives = "wait call-back, clean wait, rescue wait, service wait";
    members(drives, State::heartbeat_drives);
    let recorded = "enroll, manageable, available, cleaning, deploying, rescuing, servicing, deploy hold, clean hold, \
                    service hold";
    members(&format!("{drives}, {recorded}"), State::heartbeat_recorded);
}

#[test]
fn deadlines_are_those_of_section_8() {
    use DeadlineOption as O;
    let cases = [
        (
            State::DeployWait,
            O::Deploy,
            Clock::ProvisionUpdated,
            "Timeout reached while waiting for callback for node n",
        ),
        (
            State::CleanWait,
            O::Clean,
            Clock::ProvisionUpdated,
            "Timeout reached while cleaning the node. Please check if the ramdisk responsible for the cleaning is \
             running on the node.",
        ),
        (
            State::InspectWait,
            O::Inspect,
            Clock::InspectionStarted,
            "Timeout reached while inspecting the node. Please check if the ramdisk responsible for the inspection is \
             running on the node.",
        ),
        (
            State::RescueWait,
            O::Rescue,
            Clock::ProvisionUpdated,
            "Timeout reached while waiting for rescue ramdisk callback for node n",
        ),
        (
            State::ServiceWait,
            O::Service,
            Clock::ProvisionUpdated,
            "Timeout reached while servicing the node. Please check if the ramdisk responsible for the servicing is \
             running on the node.",
        ),
    ];
    for (state, option, clock, message) in cases {
        let guard = deadline(state).unwrap();
        assert_eq!((guard.option, guard.clock, guard.message("n", None).as_str()), (option, clock, message));
    }
    let with_step = deadline(State::CleanWait).unwrap().message("n", Some("{'step': 'erase'}"));
    assert!(with_step.ends_with(" Failed on step {'step': 'erase'}."), "{with_step}");
}

#[test]
fn a_limit_of_zero_waits_for_ever() {
    let guard = deadline(State::DeployWait).unwrap();
    assert_eq!(guard.at(Timestamp(5), Duration::ZERO), None);
    assert_eq!(guard.at(Timestamp(5), Duration::from_secs(2)), Some(Timestamp(2_000_005)));
}

#[test]
fn a_wait_is_over_at_its_deadline_but_never_in_maintenance() {
    let guard = deadline(State::CleanWait).unwrap();
    let limit = Duration::from_secs(1);
    let overdue = |maintenance, now| {
        guard.overdue(
            &Facts { maintenance, ..Facts::new(State::CleanWait) },
            Timestamp(0),
            limit,
            Timestamp(now),
        )
    };
    assert!(!overdue(false, 999_999) && overdue(false, 1_000_000) && !overdue(true, 9_000_000));
}
