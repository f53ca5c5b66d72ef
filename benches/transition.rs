//! What every request and every tick costs in the state machine itself.
#![allow(missing_docs)] // criterion's macros write public functions

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ferric_machine::power::{SyncPolicy, reconcile};
use ferric_machine::{Event, Facts, PowerState, State, Verb, allowed_verbs, request, transition};

fn transitions(c: &mut Criterion) {
    let deploying = Facts::new(State::Deploying);
    let available = Facts::new(State::Available);
    c.bench_function("transition: deploying, wait", |b| {
        b.iter(|| transition(black_box(&deploying), Event::Wait))
    });
    c.bench_function("request: available, active", |b| {
        b.iter(|| request(black_box(&available), Verb::Active))
    });
    c.bench_function("allowed_verbs: available", |b| b.iter(|| allowed_verbs(black_box(&available))));
    let policy = SyncPolicy::default();
    c.bench_function("power: reconcile, same", |b| {
        b.iter(|| reconcile(black_box(Some(PowerState::On)), Ok(PowerState::On), 0, &policy));
    });
}

criterion_group!(benches, transitions);
criterion_main!(benches);
