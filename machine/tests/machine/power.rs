use ferric_machine::power::{SyncPolicy, Unreadable, Verdict, reconcile, skip};
use ferric_machine::{PowerState as P, PowerTarget as T, State};

const FORCE: SyncPolicy =
    SyncPolicy { max_retries: 3, force: true, supports_set: true, disable_power_off: false };

#[test]
fn readings_are_judged_as_section_6_says() {
    let follow = SyncPolicy { force: false, ..FORCE };
    let cannot = SyncPolicy { supports_set: false, ..FORCE };
    let never_off = SyncPolicy { disable_power_off: true, ..FORCE };
    let silent = Err(Unreadable);
    let (on, off) = (Some(P::On), Some(P::Off));
    let cases = [
        (None, Ok(P::On), 0, FORCE, Verdict::Record(P::On)),
        (None, Ok(P::Off), 9, FORCE, Verdict::Record(P::Off)),
        (Some(P::Error), Ok(P::Off), 0, FORCE, Verdict::Record(P::Off)),
        (on, Ok(P::On), 0, FORCE, Verdict::Same),
        (on, Ok(P::On), 9, FORCE, Verdict::Same),
        (on, Ok(P::Off), 0, FORCE, Verdict::Restore(T::On)),
        (off, Ok(P::On), 2, FORCE, Verdict::Restore(T::Off)),
        (off, Ok(P::On), 3, FORCE, Verdict::Fault { stored: on }),
        (on, Ok(P::Off), 0, follow, Verdict::Adopt(P::Off)),
        (on, Ok(P::Off), 9, follow, Verdict::Adopt(P::Off)),
        (off, Ok(P::On), 0, cannot, Verdict::Adopt(P::On)),
        (off, Ok(P::On), 0, never_off, Verdict::Adopt(P::On)),
        (on, silent, 0, FORCE, Verdict::CountUp),
        (on, silent, 2, follow, Verdict::CountUp),
        (on, silent, 3, FORCE, Verdict::Fault { stored: None }),
        (None, silent, 3, FORCE, Verdict::Fault { stored: None }),
        (on, Ok(P::Error), 0, FORCE, Verdict::CountUp),
        (Some(P::Error), Ok(P::Error), 3, FORCE, Verdict::Fault { stored: None }),
    ];
    for (stored, seen, failures, policy, verdict) in cases {
        assert_eq!(
            reconcile(stored, seen, failures, &policy),
            verdict,
            "{stored:?} {seen:?} {failures} {policy:?}"
        );
    }
}

#[test]
fn error_is_never_stored() {
    for stored in [None, Some(P::On), Some(P::Off), Some(P::Error)] {
        for seen in [Ok(P::On), Ok(P::Off), Ok(P::Error), Err(Unreadable)] {
            for failures in 0..6 {
                let to_store = match reconcile(stored, seen, failures, &FORCE) {
                    Verdict::Record(state) | Verdict::Adopt(state) => Some(state),
                    Verdict::Fault { stored } => stored,
                    Verdict::Same | Verdict::Restore(_) | Verdict::CountUp => None,
                };
                assert_ne!(to_store, Some(P::Error), "{stored:?} {seen:?} {failures}");
            }
        }
    }
}

#[test]
fn a_silent_bmc_becomes_a_fault_after_the_retries_and_one_answer_forgives_all() {
    let mut failures = 0;
    for _ in 0..FORCE.max_retries {
        let verdict = reconcile(Some(P::On), Err(Unreadable), failures, &FORCE);
        assert_eq!(verdict, Verdict::CountUp);
        failures = verdict.failures_after(failures);
    }
    let verdict = reconcile(Some(P::On), Err(Unreadable), failures, &FORCE);
    assert_eq!(verdict, Verdict::Fault { stored: None });
    assert_eq!(reconcile(Some(P::On), Ok(P::On), failures, &FORCE).failures_after(failures), 0);
}

#[test]
fn a_node_that_is_busy_held_or_unknown_is_left_alone() {
    for state in State::ALL {
        let skipped =
            matches!(state, State::Enroll | State::DeployWait | State::CleanWait | State::AdoptFailed);
        assert_eq!(skip(*state, false, false, None), skipped, "{state}");
    }
    assert!(skip(State::Active, true, false, None));
    assert!(skip(State::Active, false, true, None));
    assert!(skip(State::Active, false, false, Some(P::On)));
}

#[test]
fn targets_say_where_they_end_and_what_they_cost() {
    for (target, end, minor, wipes, reached_off, reached_on) in [
        (T::On, P::On, 1, false, false, true),
        (T::Off, P::Off, 1, true, true, false),
        (T::Reboot, P::On, 1, true, false, false),
        (T::SoftReboot, P::On, 27, true, false, false),
        (T::SoftOff, P::Off, 27, true, true, false),
    ] {
        assert_eq!((target.end(), target.minor(), target.wipes_agent()), (end, minor, wipes), "{target}");
        assert_eq!((target.reached(P::Off), target.reached(P::On)), (reached_off, reached_on), "{target}");
        assert_eq!(target.forbidden_by_disable_power_off(), end == P::Off, "{target}");
        assert!(!target.reached(P::Error));
    }
    let text = "Failed to change power state to 'power on' by 'rebooting': no answer";
    assert_eq!(T::Reboot.failed("no answer"), text);
}
