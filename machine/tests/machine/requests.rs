use ferric_machine::{
    Event, Facts, Fault, Heartbeat, InspectionMark, Outcome, Refusal, State, Verb, Work, abort_after_step,
    allowed_verbs, end_of_cleaning, heartbeat, request, row, transition, transition_to,
};

use crate::every_fact;

/// Where each verb is legal: states.md §2, column "legal from".
const LEGAL: &[(&str, &str)] = &[
    ("manage", "enroll, available, clean failed, inspect failed, adopt failed"),
    ("provide", "manageable"),
    ("inspect", "manageable, inspect failed"),
    ("clean", "manageable"),
    ("active", "available, deploy failed"),
    ("deploy", "available, deploy failed"),
    ("rebuild", "active, error, deploy failed"),
    ("deleted", DELETABLE),
    ("undeploy", DELETABLE),
    ("adopt", "manageable, adopt failed"),
    ("rescue", "active, rescue, rescue failed, unrescue failed, service failed"),
    ("unrescue", "rescue, rescue failed, unrescue failed"),
    (
        "abort",
        "clean wait, clean hold, inspect wait, rescue wait, wait call-back, deploy hold, service wait, service hold, \
         service failed",
    ),
    ("unhold", "clean hold, deploy hold, service hold"),
    ("service", "active, service failed, service hold"),
];
const DELETABLE: &str = "active, error, rescue, wait call-back, deploy failed, rescue wait, rescue failed, \
                         unrescue failed, service wait, service failed";

fn legal(verb: Verb) -> Vec<State> {
    let (_, states) = LEGAL.iter().find(|(name, _)| *name == verb.as_str()).unwrap();
    states.split(", ").map(|name| name.parse().unwrap()).collect()
}

fn ask(state: State, verb: Verb) -> Outcome {
    request(&Facts::new(state), verb).unwrap()
}

#[test]
fn verbs_are_legal_where_section_2_says() {
    for verb in Verb::ALL {
        for state in State::ALL {
            let granted = request(&Facts::new(*state), *verb).is_ok();
            assert_eq!(granted, legal(*verb).contains(state), "{verb} in {state}");
        }
    }
}

#[test]
fn every_request_is_a_transition_a_mark_or_a_refusal_whatever_the_facts() {
    for facts in every_fact() {
        for verb in Verb::ALL {
            match request(&facts, *verb) {
                Ok(out) if out.marks_abort_after => {
                    assert_eq!((*verb, facts.step_abortable), (Verb::Abort, Some(false)));
                    assert_eq!(
                        (out.from, out.to, out.target, out.work),
                        (facts.state, facts.state, facts.target, Work::None)
                    );
                    assert!(!out.changes_state() && !out.clears_last_error && !out.wipes_agent);
                }
                Ok(out) => {
                    assert_eq!(out.target.is_none(), out.to.is_stable(), "{facts:?}, {verb}");
                    assert_eq!((out.from, out.event, out.fault), (facts.state, verb.event(), None));
                    assert!(row(facts.state, verb.event()).is_some());
                }
                Err(Refusal::NotAllowed { event, verb: refused, state }) => {
                    assert_eq!((event, refused, state), (verb.event(), Some(*verb), facts.state));
                    assert!(!legal(*verb).contains(&state));
                }
                Err(Refusal::InMaintenance { verb: refused }) => {
                    assert!(refused == *verb && facts.maintenance)
                }
                Err(Refusal::AbortInMaintenance) => {
                    assert_eq!(
                        (*verb, facts.state, facts.maintenance),
                        (Verb::Abort, State::ServiceFailed, true)
                    );
                }
                Err(Refusal::Protected { verb: refused }) => assert!(refused == *verb && facts.protected),
                Err(Refusal::Retired) => assert!(*verb == Verb::Provide && facts.retired),
                Err(Refusal::InspectionNotAbortable) => {
                    assert_eq!((*verb, facts.state), (Verb::Abort, State::InspectWait));
                }
            }
        }
    }
}

#[test]
fn maintenance_forbids_new_work_on_the_disk_but_not_the_way_out() {
    for verb in Verb::ALL {
        let state = legal(*verb)[0];
        let facts = Facts { maintenance: true, ..Facts::new(state) };
        let forbidden = [
            Verb::Active,
            Verb::Deploy,
            Verb::Rebuild,
            Verb::Clean,
            Verb::Rescue,
            Verb::Unrescue,
            Verb::Service,
        ];
        let refused = request(&facts, *verb) == Err(Refusal::InMaintenance { verb: *verb });
        assert_eq!(refused, forbidden.contains(verb), "{verb}");
    }
    let facts = Facts {
        maintenance: true,
        allow_provisioning_in_maintenance: false,
        ..Facts::new(State::Manageable)
    };
    assert_eq!(request(&facts, Verb::Provide), Err(Refusal::InMaintenance { verb: Verb::Provide }));
}

#[test]
fn deploying_in_maintenance_is_refused_before_the_state_is_looked_at_and_cleaning_after() {
    let facts = Facts { maintenance: true, ..Facts::new(State::Enroll) };
    assert_eq!(request(&facts, Verb::Active), Err(Refusal::InMaintenance { verb: Verb::Active }));
    let not_allowed =
        Refusal::NotAllowed { event: Event::Clean, verb: Some(Verb::Clean), state: State::Enroll };
    assert_eq!(request(&facts, Verb::Clean), Err(not_allowed));
}

#[test]
fn a_protected_instance_is_neither_removed_nor_rebuilt() {
    let facts = Facts { protected: true, ..Facts::new(State::Active) };
    for verb in [Verb::Deleted, Verb::Undeploy, Verb::Rebuild] {
        assert_eq!(request(&facts, verb), Err(Refusal::Protected { verb }));
    }
    assert!(request(&facts, Verb::Rescue).is_ok());
}

#[test]
fn a_retired_node_never_becomes_available() {
    let facts = Facts { retired: true, ..Facts::new(State::Manageable) };
    assert_eq!(request(&facts, Verb::Provide), Err(Refusal::Retired));
    let cleaning = Facts { retired: true, ..Facts::new(State::Cleaning) };
    let out = transition(&cleaning, end_of_cleaning(&cleaning)).unwrap();
    assert_eq!(out.to, State::Manageable);
}

#[test]
fn the_refusal_names_the_node_as_clients_expect() {
    let refusal = request(&Facts::new(State::Active), Verb::Active).unwrap_err();
    let text = "The requested action \"active\" can not be performed on node \"n1\" while it is in state \"active\".";
    assert_eq!(refusal.for_node("n1"), text);
}

#[test]
fn a_cleaning_by_hand_heads_for_manageable_from_beginning_to_end() {
    use Event as E;
    let mut facts = Facts::new(State::Manageable);
    for event in
        [E::Clean, E::Wait, E::Hold, E::Unhold, E::Resume, E::Hold, E::Unhold, E::Resume, E::Wait, E::Fail]
    {
        let out = transition(&facts, event).unwrap();
        assert_eq!(out.target, Some(State::Manageable), "{event}");
        facts = Facts { state: out.to, target: out.target, ..facts };
    }
    assert_eq!(facts.state, State::CleanFailed);
    let cleaning = Facts { target: Some(State::Manageable), ..Facts::new(State::Cleaning) };
    assert_eq!(end_of_cleaning(&cleaning), Event::Manage);
}

#[test]
fn a_cleaning_by_itself_heads_for_available() {
    assert_eq!(ask(State::Manageable, Verb::Provide).target, Some(State::Available));
    let out = transition(&Facts::new(State::Deleting), Event::Clean).unwrap();
    assert_eq!((out.target, out.work, out.clears_instance), (Some(State::Available), Work::Clean, true));
    assert_eq!(end_of_cleaning(&Facts::new(State::Cleaning)), Event::Done);
}

#[test]
fn a_target_can_be_given_but_not_to_a_stable_state() {
    let facts = Facts::new(State::Cleaning);
    let out = transition_to(&facts, Event::Fail, Some(State::Manageable)).unwrap();
    assert_eq!(out.target, Some(State::Manageable));
    assert_eq!(transition_to(&facts, Event::Done, Some(State::Manageable)).unwrap().target, None);
}

#[test]
fn an_abort_waits_for_a_step_that_must_not_be_interrupted() {
    use State as S;
    for state in [S::CleanWait, S::CleanHold, S::DeployWait, S::ServiceWait, S::ServiceHold] {
        let facts = Facts { step_abortable: Some(false), ..Facts::new(state) };
        let out = request(&facts, Verb::Abort).unwrap();
        assert!(out.marks_abort_after && out.to == state, "{out:?}");
        let out = abort_after_step(&facts).unwrap();
        assert!(!out.marks_abort_after && out.to != state && out.fault.is_none(), "{out:?}");
        let facts = Facts { step_abortable: Some(true), ..facts };
        assert_eq!(request(&facts, Verb::Abort), Ok(out), "at once is the same as later");
    }
}

#[test]
fn an_abort_ends_where_section_3_says() {
    use State as S;
    let cases = [
        (S::CleanWait, S::CleanFailed, Work::AbortClean),
        (S::CleanHold, S::CleanFailed, Work::AbortClean),
        (S::DeployWait, S::DeployFailed, Work::AbortDeploy),
        (S::DeployHold, S::DeployFailed, Work::AbortDeploy),
        (S::InspectWait, S::InspectFailed, Work::AbortInspect),
        (S::RescueWait, S::RescueFailed, Work::AbortRescue),
        (S::ServiceWait, S::Active, Work::AbortService),
        (S::ServiceHold, S::Active, Work::AbortService),
        (S::ServiceFailed, S::Active, Work::AbortService),
    ];
    assert_eq!(cases.len(), legal(Verb::Abort).len());
    for (from, to, work) in cases {
        let out = ask(from, Verb::Abort);
        assert_eq!((out.from, out.to, out.work), (from, to, work));
    }
    let by_hand = Facts { target: Some(S::Manageable), ..Facts::new(S::CleanWait) };
    assert_eq!(request(&by_hand, Verb::Abort).unwrap().target, Some(S::Manageable));
    assert!(ask(S::DeployWait, Verb::Abort).wipes_agent);
    let failed = Facts { maintenance: true, ..Facts::new(S::ServiceFailed) };
    assert_eq!(request(&failed, Verb::Abort), Err(Refusal::AbortInMaintenance));
    let deaf = Facts { inspection_abortable: false, ..Facts::new(S::InspectWait) };
    assert_eq!(request(&deaf, Verb::Abort), Err(Refusal::InspectionNotAbortable));
}

#[test]
fn only_a_step_that_fails_brings_a_fault() {
    let fail = |state, step_abortable| {
        transition(&Facts { step_abortable, ..Facts::new(state) }, Event::Fail).unwrap().fault
    };
    for state in [State::Cleaning, State::CleanWait] {
        assert_eq!(fail(state, Some(true)), Some(Fault::CleanFailure));
        assert_eq!(fail(state, None), None);
    }
    for state in [State::Servicing, State::ServiceWait, State::ServiceHold] {
        assert_eq!(fail(state, Some(false)), Some(Fault::ServiceFailure));
        assert_eq!(fail(state, None), None);
    }
    assert_eq!(fail(State::DeployWait, Some(true)), None);
}

#[test]
fn new_work_clears_the_last_error_and_going_on_does_not() {
    assert!(ask(State::DeployFailed, Verb::Active).clears_last_error);
    assert!(ask(State::Enroll, Verb::Manage).clears_last_error);
    assert!(!ask(State::CleanFailed, Verb::Manage).clears_last_error);
    assert!(!transition(&Facts::new(State::DeployWait), Event::Resume).unwrap().clears_last_error);
    assert!(!transition(&Facts::new(State::DeployWait), Event::Fail).unwrap().clears_last_error);
}

#[test]
fn an_inspection_leaves_its_marks() {
    assert_eq!(ask(State::InspectFailed, Verb::Inspect).inspection, Some(InspectionMark::Started));
    let mark = |state, event| transition(&Facts::new(state), event).unwrap().inspection;
    assert_eq!(mark(State::Inspecting, Event::Done), Some(InspectionMark::Finished));
    assert_eq!(mark(State::InspectWait, Event::Done), Some(InspectionMark::Finished));
    assert_eq!(mark(State::InspectWait, Event::Fail), Some(InspectionMark::Stopped));
    assert_eq!(mark(State::Verifying, Event::Done), None);
}

#[test]
fn allowed_verbs_are_those_that_would_be_granted_without_aliases() {
    let verbs = allowed_verbs(&Facts::new(State::Active));
    assert_eq!(verbs, [Verb::Rebuild, Verb::Deleted, Verb::Rescue, Verb::Service]);
    let facts = Facts { protected: true, maintenance: true, ..Facts::new(State::Active) };
    assert_eq!(allowed_verbs(&facts), []);
    assert_eq!(allowed_verbs(&Facts::new(State::Deploying)), []);
}

#[test]
fn gates_are_those_of_the_microversion_table() {
    let before = |verb: Verb| verb.gate_before();
    let after = |verb: Verb, state| verb.gate_after(state);
    for (verb, minor) in [
        (Verb::Manage, 4),
        (Verb::Provide, 4),
        (Verb::Inspect, 6),
        (Verb::Abort, 13),
        (Verb::Clean, 15),
        (Verb::Adopt, 17),
        (Verb::Rescue, 38),
        (Verb::Unrescue, 38),
        (Verb::Deploy, 73),
        (Verb::Active, 1),
        (Verb::Rebuild, 1),
        (Verb::Deleted, 1),
        (Verb::Undeploy, 1),
    ] {
        assert_eq!((before(verb), verb.minor()), (Some(minor), minor), "{verb}");
    }
    assert_eq!((before(Verb::Unhold), after(Verb::Unhold, State::CleanHold)), (None, Some(85)));
    assert_eq!((before(Verb::Service), after(Verb::Service, State::Active)), (None, Some(87)));
    assert_eq!(after(Verb::Abort, State::InspectWait), Some(41));
    assert_eq!(after(Verb::Abort, State::DeployWait), Some(110));
    assert_eq!(after(Verb::Abort, State::CleanWait), None);
    assert_eq!(after(Verb::Manage, State::Enroll), None);
}

#[test]
fn a_heartbeat_drives_only_what_waits_and_is_not_in_maintenance() {
    use State as S;
    let beat = |state, maintenance, allow_provisioning_in_maintenance| {
        heartbeat(&Facts { maintenance, allow_provisioning_in_maintenance, ..Facts::new(state) })
    };
    for state in [S::DeployWait, S::CleanWait, S::RescueWait, S::ServiceWait] {
        assert_eq!(beat(state, false, false), Heartbeat::Drive);
        assert_eq!(beat(state, true, true), Heartbeat::Record);
        assert!(matches!(beat(state, true, false), Heartbeat::Stop(_)));
    }
    assert_eq!(beat(S::Deploying, false, true), Heartbeat::Record);
    assert_eq!(beat(S::CleanHold, true, false), Heartbeat::Record);
    for state in [S::Active, S::InspectWait, S::DeployFailed, S::Deleting] {
        assert_eq!(beat(state, false, true), Heartbeat::Ignore);
    }
}
