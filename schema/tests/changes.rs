//! What the counters of changes promise to whoever keeps an answer (SQLite).
#![allow(clippy::unwrap_used)] // a test may panic at the first surprise

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _};
use ferric_machine::Timestamp;
use ferric_schema::changes::{Changes, LOOK_EVERY, Stamp};
use ferric_schema::{
    Conn, Node, Store, StoreError, StoreOptions,
    allocations::{self, Allocation},
    nodes,
};
use uuid::Uuid;

const T0: Timestamp = Timestamp(0);

fn options(dir: &tempfile::TempDir) -> StoreOptions {
    StoreOptions::new(dir.path().join("ferric.db").to_str().unwrap())
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(&dir)).unwrap();
    (dir, store)
}

fn changes(s: &Store) -> Arc<Changes> {
    Arc::clone(s.changes().unwrap())
}

fn put(s: &Store) -> Uuid {
    let node = Node::new(Uuid::new_v4(), "fake-hardware", T0);
    s.write_blocking(move |c| nodes::insert(c, &node)).unwrap().uuid
}

fn stamp(s: &Store, node: Uuid) -> Stamp {
    changes(s).stamp(node).expect("no write is under way")
}

fn sql(s: &Store, text: String) {
    s.write_blocking(move |c| {
        let Conn::Sqlite(c) = c else { panic!("this is SQLite") };
        Ok(c.batch_execute(&text)?)
    })
    .unwrap();
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn each_write_of_a_row_that_an_answer_shows_moves_the_counter_of_its_node_alone() {
    let (_dir, s) = store();
    let (one, other) = (put(&s), put(&s));
    let calm = stamp(&s, other);
    let mut last = stamp(&s, one);
    let mut moved = |what: &str| {
        let now = stamp(&s, one);
        assert_ne!(now, last, "{what}");
        assert!(!changes(&s).holds(one, last), "{what}");
        last = now;
    };
    let node = s.read_blocking(|c| nodes::get(c, one)).unwrap().unwrap();
    s.write_blocking(move |c| nodes::advance(c, &node, T0)).unwrap();
    moved("the row is written");
    sql(&s, format!("UPDATE nodes SET extra = '{{}}' WHERE uuid = '{one}'"));
    moved("a statement of its own");
    s.write_blocking(move |c| nodes::set_traits(c, one, &["A".into(), "B".into()])).unwrap();
    moved("traits are set");
    s.write_blocking(move |c| nodes::add_trait(c, one, "CUSTOM_C")).unwrap();
    moved("one is added");
    s.write_blocking(move |c| nodes::remove_trait(c, one, "CUSTOM_C")).unwrap();
    moved("one is taken away");
    let allocation = Allocation::new(Uuid::new_v4(), T0);
    let id = allocation.uuid;
    s.write_blocking(move |c| allocations::insert(c, &allocation)).unwrap();
    let between = stamp(&s, one);
    sql(&s, format!("UPDATE allocations SET node_uuid = '{one}' WHERE uuid = '{id}'"));
    assert_ne!(stamp(&s, one), between);
    moved("it is allocated");
    sql(&s, format!("UPDATE allocations SET node_uuid = NULL WHERE uuid = '{id}'"));
    moved("it is not any more");
    sql(
        &s,
        format!("UPDATE allocations SET node_uuid = '{one}' WHERE uuid = '{id}'; DELETE FROM allocations"),
    );
    moved("all allocations go at once");
    let fresh = Uuid::new_v4();
    sql(&s, format!("UPDATE nodes SET uuid = '{fresh}' WHERE uuid = '{other}' AND 0"));
    assert_eq!(stamp(&s, other), calm, "no row, no change");
    s.write_blocking(move |c| nodes::delete(c, one)).unwrap();
    moved("it is deleted");
    assert_eq!(stamp(&s, other), calm, "nobody touched the other");
    sql(&s, format!("UPDATE nodes SET uuid = '{fresh}' WHERE uuid = '{other}'"));
    assert_ne!(stamp(&s, other), calm, "it has left its name");
}

#[test]
fn what_goes_with_something_else_is_counted_too() {
    let (_dir, s) = store();
    let one = put(&s);
    s.write_blocking(move |c| nodes::set_traits(c, one, &["A".into()])).unwrap();
    let before = stamp(&s, one);
    // a statement that pushes the old row out
    sql(&s, format!("INSERT OR REPLACE INTO node_traits (node_uuid, name) VALUES ('{one}', 'A')"));
    assert!(!changes(&s).holds(one, before));
    let before = stamp(&s, one);
    sql(&s, "DELETE FROM nodes".into());
    assert!(!changes(&s).holds(one, before));
}

#[test]
fn nothing_kept_is_true_between_the_touch_and_the_end_of_the_transaction() {
    let (_dir, s) = store();
    let one = put(&s);
    let before = stamp(&s, one);
    let counters = changes(&s);
    let seen = s
        .write_blocking(move |c| {
            let node = nodes::get(c, one)?.unwrap();
            nodes::advance(c, &node, T0)?;
            Ok((counters.stamp(one), counters.holds(one, before)))
        })
        .unwrap();
    assert_eq!(seen, (None, false));
    assert_ne!(stamp(&s, one), before);
}

#[test]
fn a_job_that_fails_leaves_no_counter_open_and_none_back() {
    let (_dir, s) = store();
    let (one, other) = (put(&s), put(&s));
    let before = stamp(&s, one);
    for panics in [false, true] {
        let e = s
            .write_blocking(move |c| {
                nodes::set_traits(c, one, &["A".into()])?;
                assert!(!panics, "as asked");
                Err::<(), _>(StoreError::Busy)
            })
            .unwrap_err();
        assert!(matches!(e, StoreError::Busy | StoreError::Panicked), "{e:?}");
        assert!(changes(&s).stamp(one).is_some(), "it rests, with another count or the same");
    }
    // a whole transaction that is lost, and the connection with it
    let e = s
        .write_blocking(move |c| {
            nodes::set_traits(c, one, &["A".into()])?;
            let Conn::Sqlite(c) = c else { panic!("this is SQLite") };
            c.batch_execute("ROLLBACK")?;
            Ok(())
        })
        .unwrap_err();
    assert!(matches!(e, StoreError::Other(_)), "{e:?}");
    assert!(changes(&s).stamp(one).is_some());
    // the next connection counts as the first did
    let held = stamp(&s, other);
    s.write_blocking(move |c| nodes::set_traits(c, other, &["A".into()])).unwrap();
    assert!(!changes(&s).holds(other, held));
    let _ = before;
}

#[test]
fn what_another_process_writes_is_noticed_at_the_next_write() {
    let (dir, s) = store();
    let (one, other) = (put(&s), put(&s));
    let before = stamp(&s, one);
    let path = dir.path().join("ferric.db");
    let mut outside = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    diesel::sql_query("UPDATE nodes SET description = 'by hand'").execute(&mut outside).unwrap();
    s.write_blocking(move |c| nodes::set_traits(c, other, &["A".into()])).unwrap();
    assert!(!changes(&s).holds(one, before));
    // and once only
    let before = stamp(&s, one);
    s.write_blocking(move |c| nodes::set_traits(c, other, &["B".into()])).unwrap();
    assert!(changes(&s).holds(one, before));
}

#[tokio::test]
async fn what_another_process_writes_is_noticed_by_looking() {
    let (dir, s) = store();
    let one = Uuid::new_v4();
    s.write(move |c| nodes::insert(c, &Node::new(one, "fake-hardware", T0))).await.unwrap();
    let before = stamp(&s, one);
    let path = dir.path().join("ferric.db");
    let mut outside = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    diesel::sql_query("UPDATE nodes SET description = 'by hand'").execute(&mut outside).unwrap();
    until("a look", || {
        let _ = s.look();
        !changes(&s).holds(one, before)
    });
}

#[tokio::test]
async fn nobody_is_told_to_trust_the_counters_before_the_look_that_was_due_has_ended() {
    let (dir, s) = store();
    let one = Uuid::new_v4();
    s.write(move |c| nodes::insert(c, &Node::new(one, "fake-hardware", T0))).await.unwrap();
    let path = dir.path().join("ferric.db");
    let mut outside = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    for round in 0..3 {
        until("a look that has ended", || s.look());
        let (before, since) = (stamp(&s, one), Instant::now());
        // what is written a second time is no write to SQLite
        let write = format!("UPDATE nodes SET description = 'by hand {round}'");
        diesel::sql_query(write).execute(&mut outside).unwrap();
        until("a look is due", || since.elapsed() > LOOK_EVERY);
        // whoever trusts from here on was told so after the file was looked at
        until("it may be trusted", || s.look());
        assert!(!changes(&s).holds(one, before));
    }
}

/// Says it when it is dropped, so that nobody waits for whoever panicked.
struct Says<'a>(&'a AtomicBool);

impl Drop for Says<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// What a cache would do, by many at a time: nobody finds less than what had been acknowledged before they asked.
#[test]
fn what_is_kept_by_its_stamp_is_never_older_than_what_was_acknowledged() {
    let (_dir, s) = store();
    let one = put(&s);
    let (done, acknowledged) = (AtomicBool::new(false), AtomicI64::new(0));
    let kept = std::sync::Mutex::new(None::<(Stamp, i64)>);
    let counters = changes(&s);
    let (mut found, mut missed) = (0_u64, 0_u64);
    std::thread::scope(|scope| {
        let over = Says(&done);
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let generation = s
                            .write_blocking(move |c| {
                                let node = nodes::get(c, one)?.unwrap();
                                Ok(nodes::advance(c, &node, T0)?.generation)
                            })
                            .unwrap();
                        acknowledged.fetch_max(generation, SeqCst);
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut found, mut missed) = (0_u64, 0_u64);
                    while !done.load(SeqCst) {
                        let least = acknowledged.load(SeqCst);
                        let hit = kept.lock().unwrap().filter(|(at, _)| counters.holds(one, *at));
                        let generation = if let Some((_, generation)) = hit {
                            found += 1;
                            generation
                        } else {
                            missed += 1;
                            let at = counters.stamp(one);
                            let node = s.read_blocking(|c| nodes::get(c, one)).unwrap().unwrap();
                            if let Some(at) = at {
                                *kept.lock().unwrap() = Some((at, node.generation));
                            }
                            node.generation
                        };
                        assert!(generation >= least, "{generation} < {least}");
                        std::thread::yield_now();
                    }
                    (found, missed)
                })
            })
            .collect();
        until("all have written", || writers.iter().all(|writer| writer.is_finished()));
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(acknowledged.load(SeqCst), 800);
        drop(over);
        for reader in readers {
            let (f, m) = reader.join().unwrap();
            (found, missed) = (found + f, missed + m);
        }
    });
    assert!(found > 0 && missed > 0, "both ways were gone: {found} found, {missed} read");
}
