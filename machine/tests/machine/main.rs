//! The promises of the machine, each against a source other than the code: the tables of states.md as text.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod export;
mod power;
mod requests;
mod sequences;
mod sets;
mod steps;
mod table;

use ferric_machine::Facts;

/// Every combination of the facts that any decision looks at, for every state and every target.
fn every_fact() -> impl Iterator<Item = Facts> {
    use ferric_machine::State;
    let targets = || State::ALL.iter().copied().map(Some).chain([None]);
    let each =
        move |state| targets().flat_map(move |target| (0..96).map(move |bits| facts(state, target, bits)));
    State::ALL.iter().copied().flat_map(each)
}

fn facts(state: ferric_machine::State, target: Option<ferric_machine::State>, bits: u32) -> Facts {
    Facts {
        target,
        maintenance: bits & 1 != 0,
        protected: bits & 2 != 0,
        retired: bits & 4 != 0,
        allow_provisioning_in_maintenance: bits & 8 != 0,
        inspection_abortable: bits & 16 != 0,
        step_abortable: [None, Some(false), Some(true)][(bits / 32) as usize],
        ..Facts::new(state)
    }
}
