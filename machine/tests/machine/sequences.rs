use ferric_machine::{
    Event, Facts, Heartbeat, State, Verb, allowed_verbs, heartbeat, request, row, transition,
};
use proptest::prelude::*;

/// What may come to a node from outside and from its own work.
#[derive(Clone, Copy, Debug)]
enum Input {
    Event(Event),
    Verb(Verb),
    Maintenance(bool),
    Retired(bool),
    Step(Option<bool>),
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        6 => prop::sample::select(Event::ALL).prop_map(Input::Event),
        6 => prop::sample::select(Verb::ALL).prop_map(Input::Verb),
        1 => any::<bool>().prop_map(Input::Maintenance),
        1 => any::<bool>().prop_map(Input::Retired),
        1 => any::<Option<bool>>().prop_map(Input::Step),
    ]
}

/// The invariants hold before and after every input; answers the facts that follow.
fn step(facts: Facts, input: Input) -> Facts {
    let answer = match input {
        Input::Event(event) => transition(&facts, event),
        Input::Verb(verb) => request(&facts, verb),
        Input::Maintenance(maintenance) => return Facts { maintenance, ..facts },
        Input::Retired(retired) => return Facts { retired, ..facts },
        Input::Step(step_abortable) => return Facts { step_abortable, ..facts },
    };
    let Ok(out) = answer else { return facts };
    let step_abortable = if out.clears_steps { None } else { facts.step_abortable };
    let maintenance = facts.maintenance || out.fault.is_some();
    Facts { state: out.to, target: out.target, step_abortable, maintenance, ..facts }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_node_has_a_target_exactly_when_it_does_not_rest(inputs in prop::collection::vec(input(), 1..200)) {
        let mut facts = Facts::new(State::Enroll);
        for input in inputs {
            let before = facts;
            facts = step(facts, input);
            prop_assert_eq!(facts.target.is_none(), facts.state.is_stable(), "{:?} on {:?}", input, before);
            prop_assert!(facts.target.is_none_or(State::is_stable), "{:?} on {:?}", input, before);
            prop_assert!(State::ALL.contains(&facts.state));
        }
    }

    /// The target says where the work ends: a node that only succeeds gets to the target it shows.
    #[test]
    fn work_that_succeeds_ends_at_the_target_it_showed(inputs in prop::collection::vec(input(), 1..100)) {
        let mut facts = inputs.into_iter().fold(Facts::new(State::Enroll), step);
        if !(facts.state.stuck_as_fail() || facts.state.is_wait() || facts.state.is_hold()) {
            return Ok(());
        }
        let promised = facts.target;
        while !facts.state.is_stable() {
            let cleaned = ferric_machine::end_of_cleaning(&facts);
            let next = [Event::Unhold, Event::Resume, cleaned, Event::Clean].into_iter();
            let event = next.into_iter().chain([Event::Done]).find(|event| row(facts.state, *event).is_some());
            facts = step(facts, Input::Event(event.unwrap()));
        }
        if facts.retired && promised == Some(State::Available) {
            prop_assert_eq!(facts.state, State::Manageable);
        } else {
            prop_assert_eq!(Some(facts.state), promised);
        }
    }

    #[test]
    fn a_verb_is_offered_exactly_when_it_would_be_granted(inputs in prop::collection::vec(input(), 1..100)) {
        let facts = inputs.into_iter().fold(Facts::new(State::Enroll), step);
        let offered = allowed_verbs(&facts);
        for verb in Verb::ALL {
            prop_assert_eq!(offered.contains(&verb.canonical()), request(&facts, *verb).is_ok());
        }
    }

    #[test]
    fn a_heartbeat_never_drives_a_node_in_maintenance(inputs in prop::collection::vec(input(), 1..100)) {
        let facts = inputs.into_iter().fold(Facts::new(State::Enroll), step);
        prop_assert!(!facts.maintenance || heartbeat(&facts) != Heartbeat::Drive);
    }
}
