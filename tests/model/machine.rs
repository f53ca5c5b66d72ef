//! The pure machine, exhaustively: every configuration that a node can come to, by whatever events, verbs and changes
//! of its flags, and what an operator can make of it. What each row and verb does by itself is `machine/tests`'
//! business.

use std::collections::{HashMap, HashSet, VecDeque};

use ferric_machine::{
    Activity, Event, Facts, Heartbeat, Outcome, State, TABLE, Verb, Work, abort_after_step, allowed_verbs,
    deadline, end_of_cleaning, heartbeat, request, transition,
};

/// What a configuration is made of; [`Facts`] cannot be hashed.
type Key = (State, Option<State>, [bool; 5], Option<bool>);

fn key(facts: &Facts) -> Key {
    let flags = [
        facts.maintenance,
        facts.protected,
        facts.retired,
        facts.allow_provisioning_in_maintenance,
        facts.inspection_abortable,
    ];
    (facts.state, facts.target, flags, facts.step_abortable)
}

fn after(facts: &Facts, outcome: &Outcome) -> Facts {
    Facts {
        state: outcome.to,
        target: outcome.target,
        maintenance: facts.maintenance || outcome.fault.is_some(),
        step_abortable: if outcome.clears_steps { None } else { facts.step_abortable },
        ..*facts
    }
}

/// What the conductor's own work, the ramdisk and the clock may bring about.
fn by_itself(facts: &Facts) -> Vec<(String, Facts)> {
    let state = facts.state;
    let mut all = Vec::new();
    let mut fire = |event: Event| {
        if let Ok(outcome) = transition(facts, event) {
            all.push((event.to_string(), after(facts, &outcome)));
        }
    };
    match state.activity() {
        Some(Activity::Clean) if state == State::Cleaning => fire(end_of_cleaning(facts)),
        Some(Activity::TearDown) => fire(Event::Clean),
        Some(_) if state.stuck_as_fail() => fire(Event::Done),
        Some(_) | None => {}
    }
    if state.stuck_as_fail() || state.is_wait() {
        for event in [Event::Fail, Event::Wait, Event::Hold, Event::Resume] {
            fire(event);
        }
        if let Ok(outcome) = abort_after_step(facts) {
            all.push(("abort after the step".into(), after(facts, &outcome)));
        }
        if !matches!(state, State::Verifying | State::Deleting | State::Adopting | State::Unrescuing) {
            for step in [None, Some(false), Some(true)] {
                all.push((format!("step {step:?}"), Facts { step_abortable: step, ..*facts }));
            }
        }
    }
    all
}

/// What an operator may do.
fn by_operator(facts: &Facts) -> Vec<(String, Facts)> {
    let mut all: Vec<(String, Facts)> = Verb::ALL
        .iter()
        .filter_map(|verb| Some((verb.to_string(), after(facts, &request(facts, *verb).ok()?))))
        .collect();
    for on in [false, true] {
        all.push((format!("maintenance {on}"), Facts { maintenance: on, ..*facts }));
        all.push((format!("retired {on}"), Facts { retired: on, ..*facts }));
        if matches!(facts.state, State::Active | State::Rescue) || !on {
            all.push((format!("protected {on}"), Facts { protected: on, ..*facts }));
        }
    }
    all
}

/// Every configuration that a node can come to from its enrolment, under every configuration of the service.
fn reachable() -> HashMap<Key, Facts> {
    let mut seen = HashMap::new();
    let mut next = VecDeque::new();
    for allow in [true, false] {
        for abortable in [true, false] {
            next.push_back(Facts {
                allow_provisioning_in_maintenance: allow,
                inspection_abortable: abortable,
                ..Facts::new(State::Enroll)
            });
        }
    }
    while let Some(facts) = next.pop_front() {
        if seen.insert(key(&facts), facts).is_none() {
            next.extend(by_itself(&facts).into_iter().chain(by_operator(&facts)).map(|(_, facts)| facts));
        }
    }
    seen
}

/// Those from which `goal` can be come to, over the steps that `moves` gives.
fn lead_to(
    all: &HashMap<Key, Facts>,
    goal: impl Fn(&Facts) -> bool,
    moves: impl Fn(&Facts) -> Vec<(String, Facts)>,
) -> HashSet<Key> {
    let mut before: HashMap<Key, Vec<Key>> = HashMap::new();
    for (from, facts) in all {
        for (_, to) in moves(facts) {
            before.entry(key(&to)).or_default().push(*from);
        }
    }
    let mut found: HashSet<Key> = all.iter().filter(|(_, facts)| goal(facts)).map(|(key, _)| *key).collect();
    let mut next: VecDeque<Key> = found.iter().copied().collect();
    while let Some(at) = next.pop_front() {
        for from in before.get(&at).into_iter().flatten() {
            if found.insert(*from) {
                next.push_back(*from);
            }
        }
    }
    found
}

#[test]
fn every_state_can_be_come_to_and_no_other_target_than_where_its_work_ends() {
    let all = reachable();
    let states: HashSet<State> = all.values().map(|facts| facts.state).collect();
    assert_eq!(states.len(), State::ALL.len());
    for facts in all.values() {
        let by_hand =
            facts.state.activity() == Some(Activity::Clean) && facts.target == Some(State::Manageable);
        assert!(by_hand || facts.target == facts.state.default_target(), "{facts:?}");
    }
}

/// Wherever a node is: where work goes well, an operator gets it to `manageable` and to `available`.
#[test]
fn an_operator_finds_a_way_out_of_everything() {
    let all = reachable();
    let moves = |facts: &Facts| {
        let mut moves = by_itself(facts);
        moves.retain(|(what, _)| what != "fail");
        moves.extend(by_operator(facts));
        moves
    };
    for goal in [State::Manageable, State::Available, State::Active] {
        let lead = lead_to(&all, |facts| facts.state == goal, moves);
        for (key, facts) in &all {
            assert!(lead.contains(key), "no way to {goal} from {facts:?}");
        }
    }
}

/// Where every piece of work fails and every wait times out, a node still comes to where an operator can ask.
#[test]
fn nothing_hangs_when_everything_fails() {
    let all = reachable();
    let failing = |facts: &Facts| match transition(facts, Event::Fail) {
        Ok(outcome) if facts.state.stuck_as_fail() || deadline(facts.state).is_some() => {
            vec![("fail".to_owned(), after(facts, &outcome))]
        }
        Ok(_) | Err(_) => Vec::new(),
    };
    for (at, facts) in &all {
        let mut facts = *facts;
        let mut left = 4;
        while let Some((_, next)) = failing(&facts).into_iter().next() {
            facts = next;
            left -= 1;
            assert!(left > 0, "{at:?} never comes to rest");
        }
        let out = Facts { maintenance: false, protected: false, retired: false, ..facts };
        assert!(!allowed_verbs(&out).is_empty(), "{at:?} ends in {facts:?}, where nothing can be asked");
    }
}

#[test]
fn who_waits_has_a_deadline_and_who_works_can_fail() {
    for state in State::ALL {
        let facts = Facts::new(*state);
        assert_eq!(deadline(*state).is_some(), state.is_wait(), "{state}");
        if state.stuck_as_fail() || state.is_wait() {
            let outcome = transition(&facts, Event::Fail).unwrap_or_else(|_| panic!("{state} cannot fail"));
            assert!(outcome.wipes_agent, "{state}: a failure forgets the agent");
        }
    }
}

#[test]
fn what_is_offered_is_granted_in_every_configuration() {
    for facts in reachable().values() {
        let offered = allowed_verbs(facts);
        for verb in Verb::ALL {
            let granted = request(facts, *verb).is_ok();
            assert_eq!(offered.contains(&verb.canonical()), granted, "{verb} in {facts:?}");
            assert_eq!(facts.allows(*verb), granted);
        }
    }
}

/// The only way into `available` is a cleaning that ended, so nobody comes there from use without one.
#[test]
fn available_is_entered_from_cleaning_alone() {
    let into: Vec<_> = TABLE.iter().filter(|row| row.to == State::Available).collect();
    assert!(into.iter().all(|row| row.from == State::Cleaning && row.on == Event::Done), "{into:?}");
    for facts in reachable().values().filter(|facts| facts.state == State::Cleaning) {
        let ends = transition(facts, end_of_cleaning(facts)).unwrap();
        let wanted = facts.target == Some(State::Available) && !facts.retired;
        assert_eq!(ends.to == State::Available, wanted, "{facts:?}");
    }
}

/// What begins work forgets or will power off the agent; what gives it up forgets it at once, or powers it off.
#[test]
fn no_ending_keeps_an_agent() {
    for facts in reachable().values() {
        let ends = Verb::ALL.iter().filter_map(|verb| request(facts, *verb).ok());
        let ends = ends.chain(transition(facts, Event::Fail)).chain(abort_after_step(facts));
        for outcome in
            ends.filter(|outcome| matches!(outcome.event, Event::Fail | Event::Abort | Event::Delete))
        {
            let forgets =
                outcome.wipes_agent || outcome.marks_abort_after || outcome.work == Work::AbortService;
            assert!(forgets, "{facts:?}: {outcome:?}");
        }
    }
}

#[test]
fn faults_come_with_a_failed_step_of_cleaning_or_service_and_with_nothing_else() {
    for facts in reachable().values() {
        for event in Event::ALL {
            let Ok(outcome) = transition(facts, *event) else { continue };
            let work = matches!(facts.state.activity(), Some(Activity::Clean | Activity::Service));
            let wanted = work && *event == Event::Fail && facts.step_abortable.is_some();
            assert_eq!(outcome.fault.is_some(), wanted, "{facts:?}, {event}");
        }
        for verb in Verb::ALL {
            assert!(!request(facts, *verb).is_ok_and(|outcome| outcome.fault.is_some()), "{facts:?}, {verb}");
        }
    }
}

#[test]
fn a_heartbeat_never_drives_in_maintenance_and_only_drives_what_can_resume() {
    for facts in reachable().values() {
        match heartbeat(facts) {
            Heartbeat::Drive => {
                assert!(!facts.maintenance, "{facts:?}");
                assert!(transition(facts, Event::Resume).is_ok(), "{facts:?}");
            }
            Heartbeat::Stop(_) => assert!(transition(facts, Event::Fail).is_ok(), "{facts:?}"),
            Heartbeat::Ignore | Heartbeat::Record => {}
        }
    }
}
