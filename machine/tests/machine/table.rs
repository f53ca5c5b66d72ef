use std::collections::BTreeSet;

use ferric_machine::{Event, Facts, Refusal, Row, State, TABLE, Work, deadline, row, transition};

use crate::every_fact;

/// The rows of the table in states.md §1, as they stand there.
const SECTION_1: &str = include_str!("states.txt");

/// (state, stable, default target, [(event, next state)])
type Line = (State, bool, Option<State>, Vec<(Event, State)>);

fn section_1() -> Vec<Line> {
    SECTION_1.lines().map(line).collect()
}

fn line(line: &str) -> Line {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let target = (cells[2] != "–").then(|| cells[2].parse().unwrap());
    let rows = cells[3].split(" · ").map(|pair| {
        let (event, to) = pair.split_once('→').unwrap();
        (event.trim().parse().unwrap(), to.trim().parse().unwrap())
    });
    (cells[0].trim_matches('`').parse().unwrap(), cells[1] == "yes", target, rows.collect())
}

#[test]
fn thirty_states_eighteen_events_ninety_three_transitions() {
    assert_eq!((State::ALL.len(), Event::ALL.len(), TABLE.len()), (30, 18, 93));
}

#[test]
fn the_table_is_the_one_of_section_1_row_by_row_in_its_order() {
    let written = section_1()
        .into_iter()
        .flat_map(|(from, _, _, rows)| rows.into_iter().map(move |(on, to)| (from, on, to)));
    let ours = TABLE.iter().map(|row| (row.from, row.on, row.to));
    assert_eq!(ours.collect::<Vec<_>>(), written.collect::<Vec<_>>());
}

#[test]
fn stability_and_targets_are_those_of_section_1() {
    let lines = section_1();
    assert_eq!(lines.len(), State::ALL.len());
    for (state, stable, target, _) in lines {
        assert_eq!((state.is_stable(), state.default_target()), (stable, target), "{state}");
    }
}

#[test]
fn no_two_rows_share_a_key() {
    let keys: BTreeSet<_> = TABLE.iter().map(|row| (row.from, row.on)).collect();
    assert_eq!(keys.len(), TABLE.len());
}

#[test]
fn every_row_is_found_by_its_key_and_nothing_else_is() {
    for state in State::ALL {
        for event in Event::ALL {
            let scanned = TABLE.iter().find(|row: &&Row| row.from == *state && row.on == *event);
            assert_eq!(row(*state, *event), scanned, "{state}, {event}");
        }
    }
}

#[test]
fn every_event_in_every_state_is_a_row_or_a_refusal_whatever_the_facts() {
    for facts in every_fact() {
        for event in Event::ALL {
            match (transition(&facts, *event), row(facts.state, *event)) {
                (Ok(out), Some(row)) => {
                    assert_eq!((out.from, out.event, out.to, out.work), (row.from, row.on, row.to, row.work));
                    assert_eq!(out.target.is_none(), out.to.is_stable(), "{facts:?}, {event}");
                    assert!(out.changes_state());
                }
                (Err(refusal), None) => {
                    assert_eq!(
                        refusal,
                        Refusal::NotAllowed { event: *event, verb: None, state: facts.state }
                    );
                }
                (out, row) => panic!("{facts:?}, {event}: {out:?} against {row:?}"),
            }
        }
    }
}

#[test]
fn every_state_is_reachable_from_enroll() {
    let mut seen = BTreeSet::from([State::Enroll]);
    loop {
        let next: BTreeSet<_> =
            TABLE.iter().filter(|row| seen.contains(&row.from)).map(|row| row.to).collect();
        let before = seen.len();
        seen.extend(next);
        if seen.len() == before {
            break;
        }
    }
    assert_eq!(seen.len(), State::ALL.len());
}

/// From `state`, some chain of events ends in a stable state: nobody is trapped.
#[test]
fn every_state_has_a_way_to_rest() {
    let mut rests: BTreeSet<_> = State::ALL.iter().copied().filter(|state| state.is_stable()).collect();
    for _ in State::ALL {
        rests.extend(
            TABLE.iter().filter(|row| rests.contains(&row.to)).map(|row| row.from).collect::<Vec<_>>(),
        );
    }
    assert_eq!(rests.len(), State::ALL.len());
}

#[test]
fn every_transient_state_leaves_on_failure() {
    for state in State::ALL.iter().filter(|state| !state.is_stable() && !state.is_failed()) {
        // A hold waits for a person; for two of the three the way out is the person's abort alone.
        let way_out =
            if matches!(state, State::DeployHold | State::CleanHold) { Event::Abort } else { Event::Fail };
        let to = row(*state, way_out).unwrap_or_else(|| panic!("{state} has no {way_out}")).to;
        assert!(to.is_failed() || matches!(to, State::Enroll | State::Error), "{state} fails to {to}");
    }
}

#[test]
fn every_failed_state_offers_the_operator_a_way_on() {
    for state in State::ALL.iter().filter(|state| state.is_failed()) {
        let ways =
            TABLE.iter().filter(|row| row.from == *state && !matches!(row.on, Event::Wait | Event::Hold));
        assert!(ways.count() > 0, "{state}");
    }
}

#[test]
fn exactly_the_wait_states_have_a_deadline_and_leave_on_it() {
    for state in State::ALL {
        assert_eq!(deadline(*state).is_some(), state.is_wait(), "{state}");
        if state.is_wait() {
            let out = transition(&Facts::new(*state), Event::Fail).unwrap();
            assert!(out.to.is_failed() && out.work == Work::CleanUp, "{state}: {out:?}");
            assert!(row(*state, Event::Resume).is_some(), "{state}");
        }
    }
}

#[test]
fn a_working_state_is_entered_with_work_and_left_by_it() {
    for row in TABLE {
        if row.to.stuck_as_fail() {
            assert!(row.work.begins() || row.work == Work::Continue, "{row:?}");
        } else {
            assert!(!row.work.begins(), "{row:?}");
        }
    }
}

#[test]
fn what_is_over_is_forgotten_and_what_goes_on_is_not() {
    use Event as E;
    for row in TABLE {
        let out = transition(&Facts::new(row.from), row.on).unwrap();
        assert_eq!(
            out.clears_steps,
            !matches!(row.on, E::Wait | E::Hold | E::Resume | E::Unhold),
            "steps: {row:?}"
        );
        // The abort of a failed service looks the agent up before its power-off forgets it.
        let keeps = (row.from, row.on) == (State::ServiceFailed, E::Abort);
        assert_eq!(
            out.wipes_agent,
            matches!(row.on, E::Delete | E::Fail | E::Abort) && !keeps,
            "agent: {row:?}"
        );
        assert_eq!(out.clears_instance, row.from == State::Deleting, "instance: {row:?}");
        assert_eq!(out.clears_power, (row.from, row.on) == (State::Adopting, E::Fail), "power: {row:?}");
    }
}
