//! Durable writes: alone, and when 64 callers wait at once and share commits. State the ratio of the two.
#![allow(missing_docs)] // criterion's macros write public functions

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferric_machine::Timestamp;
use ferric_schema::{Node, Store, StoreOptions, nodes};
use uuid::Uuid;

const CALLERS: u64 = 64;

async fn touch(store: &Store, id: Uuid) {
    let wrote = store.write(move |conn| {
        let node = nodes::get(conn, id)?.expect("it was inserted");
        nodes::advance(conn, &node, Timestamp(2))
    });
    wrote.await.expect("written");
}

fn commits(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bench.sqlite");
    let store = Store::open(&StoreOptions::new(path.to_str().expect("UTF-8"))).expect("a database");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let ids: Vec<Uuid> = (0..CALLERS).map(|_| Uuid::new_v4()).collect();
    for id in &ids {
        let node = Node::new(*id, "fake-hardware", Timestamp(1));
        store.write_blocking(move |conn| nodes::insert(conn, &node)).expect("inserted");
    }
    let mut group = c.benchmark_group("durable write");
    group.measurement_time(Duration::from_secs(8)).sample_size(20);
    group.throughput(Throughput::Elements(1));
    group.bench_function("one caller", |b| b.iter(|| runtime.block_on(touch(&store, ids[0]))));
    group.throughput(Throughput::Elements(CALLERS));
    group.bench_function("64 callers", |b| {
        b.iter_custom(|rounds| {
            let began = Instant::now();
            for _ in 0..rounds {
                let all = ids.iter().map(|id| {
                    let (store, id) = (store.clone(), *id);
                    runtime.spawn(async move { touch(&store, id).await })
                });
                let all: Vec<_> = all.collect();
                for one in all {
                    runtime.block_on(one).expect("no panic");
                }
            }
            began.elapsed()
        });
    });
    group.finish();
}

criterion_group!(benches, commits);
criterion_main!(benches);
