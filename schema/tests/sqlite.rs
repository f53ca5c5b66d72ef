//! The promises on SQLite, and those of its group-commit writer.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)] // a test may panic at the first surprise

mod common;

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};

use common::{all_ids, at, fetch, node, promises, put};
use diesel::{RunQueryDsl as _, connection::SimpleConnection as _, sql_query};
use ferric_schema::{Backend, Conn, JsonText, Node, Store, StoreError, StoreOptions, nodes};

fn options(dir: &tempfile::TempDir) -> StoreOptions {
    StoreOptions::new(format!("sqlite://{}", dir.path().join("sub/ferric.db").display()))
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(&dir)).unwrap();
    assert_eq!(store.backend(), Backend::Sqlite);
    (dir, store)
}

macro_rules! tests {
    ($($name:ident)+) => {$(
        #[test]
        fn $name() {
            let (_dir, store) = store();
            promises::$name(store);
        }
    )+};
}

promises!(tests);

#[test]
fn sqlite_tables_go_up_down_and_up() {
    let dir = tempfile::tempdir().unwrap();
    common::up_down_up(&options(&dir));
}

#[test]
fn what_was_acknowledged_is_there_after_reopening() {
    let (dir, s) = store();
    let n = put(&s, node("n"));
    // a copy of the files as they are now is what a killed process leaves
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("sub")).unwrap();
    for name in ["ferric.db", "ferric.db-wal"] {
        std::fs::copy(dir.path().join("sub").join(name), copy.path().join("sub").join(name)).unwrap();
    }
    assert_eq!(fetch(&Store::open(&options(&copy)).unwrap(), n.uuid), Some(n.clone()));
    drop(s);
    assert_eq!(fetch(&Store::open(&options(&dir)).unwrap(), n.uuid), Some(n));
}

#[test]
fn the_file_is_its_owners_alone() {
    let (dir, s) = store();
    put(&s, node("n"));
    for name in ["ferric.db", "ferric.db-wal"] {
        let mode = std::fs::metadata(dir.path().join("sub").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is {mode:o}");
    }
}

#[test]
fn readers_cannot_write() {
    let (_dir, s) = store();
    let e = s.read_blocking(|c| nodes::insert(c, &node("n"))).unwrap_err();
    assert!(matches!(e, StoreError::Other(_)), "{e:?}");
}

/// Holds the writer inside a job until the returned function is called.
fn hold(s: &Store) -> impl FnOnce() + use<> {
    let (inside, release) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (s, i, r) = (s.clone(), Arc::clone(&inside), Arc::clone(&release));
    let holder = std::thread::spawn(move || {
        s.write_blocking(move |_| {
            i.wait();
            r.wait();
            Ok(())
        })
    });
    inside.wait();
    move || {
        release.wait();
        holder.join().unwrap().unwrap();
    }
}

/// What has not happened by then does not happen.
const PATIENCE: Duration = Duration::from_secs(90);

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_waits_together_is_committed_together() {
    let (_dir, s) = store();
    let before = s.writer_stats().unwrap();
    let release = hold(&s);
    let all: Vec<_> = (0..100)
        .map(|i| {
            let s = s.clone();
            std::thread::spawn(move || put(&s, node(&format!("n{i}"))))
        })
        .collect();
    until("100 waiting", || s.writer_stats().unwrap().waiting == 100);
    release();
    for t in all {
        let n = t.join().unwrap();
        assert_eq!(fetch(&s, n.uuid), Some(n));
    }
    let after = s.writer_stats().unwrap();
    assert_eq!((after.jobs - before.jobs, after.commits - before.commits), (101, 2));
}

async fn waiting_are(s: &Store, wanted: u64) {
    let all = async {
        while s.writer_stats().unwrap().waiting < wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("so many wait");
}

#[tokio::test]
async fn a_full_queue_refuses_and_drains() {
    let dir = tempfile::tempdir().unwrap();
    let s = Store::open(&StoreOptions { write_queue: 3, ..options(&dir) }).unwrap();
    let release = hold(&s);
    let waiting: Vec<_> = (0..3)
        .map(|i| {
            let s = s.clone();
            tokio::spawn(async move { s.write(move |c| nodes::insert(c, &node(&format!("n{i}")))).await })
        })
        .collect();
    waiting_are(&s, 3).await;
    let e = s.write(|c| nodes::insert(c, &node("late"))).await.unwrap_err();
    assert!(matches!(e, StoreError::Busy), "{e:?}");
    // work that is under way has room of its own, which is bounded as well
    let works: Vec<_> = (0..3)
        .map(|i| {
            let s = s.clone();
            tokio::spawn(
                async move { s.write_first(move |c| nodes::insert(c, &node(&format!("w{i}")))).await },
            )
        })
        .collect();
    waiting_are(&s, 6).await;
    let e = s.write_first(|c| nodes::insert(c, &node("late"))).await.unwrap_err();
    assert!(matches!(e, StoreError::Busy), "{e:?}");
    tokio::task::spawn_blocking(release).await.unwrap();
    for w in waiting.into_iter().chain(works) {
        w.await.unwrap().unwrap();
    }
    assert_eq!(s.read(all_ids).await.unwrap().len(), 6);
    s.write(|c| nodes::insert(c, &node("late"))).await.unwrap();
}

#[tokio::test]
async fn a_burst_of_works_refuses_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let s = Store::open(&StoreOptions { write_queue: 3, ..options(&dir) }).unwrap();
    let release = hold(&s);
    let spawn = |works: bool, number: u64| {
        let s = s.clone();
        let insert = move |c: &mut Conn| nodes::insert(c, &node(&format!("{works}{number}")));
        tokio::spawn(async move { if works { s.write_first(insert).await } else { s.write(insert).await } })
    };
    let mut waiting = Vec::new();
    for (works, before) in [(true, 0), (false, 3)] {
        waiting.extend((0..3).map(|number| spawn(works, number)));
        while s.writer_stats().unwrap().waiting < before + 3 {
            assert!(waiting.iter().all(|task| !task.is_finished()), "one was refused");
            tokio::task::yield_now().await;
        }
        let e = spawn(works, 4).await.unwrap().unwrap_err();
        assert!(matches!(e, StoreError::Busy), "{e:?}");
    }
    tokio::task::spawn_blocking(release).await.unwrap();
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    // what was done is not counted any more
    let more = [spawn(true, 5), spawn(true, 6), spawn(true, 7)];
    for task in more {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn commits_wake_who_waits_for_them() {
    let (_dir, s) = store();
    let mut committed = s.committed();
    committed.borrow_and_update();
    s.write(|c| nodes::insert(c, &node("n"))).await.unwrap();
    tokio::time::timeout(PATIENCE, committed.changed()).await.expect("it is told").unwrap();
    assert_eq!(s.read(all_ids).await.unwrap().len(), 1, "what it tells of is there to be read");
}

#[test]
fn the_log_becomes_small_again_after_a_long_reader() {
    // more than the 1000 pages after which SQLite itself looks whether the log can begin anew
    const MOST: u64 = 6 << 20;
    let dir = tempfile::tempdir().unwrap();
    let s = Store::open(&StoreOptions { most_wal: MOST, ..options(&dir) }).unwrap();
    let wal = || std::fs::metadata(dir.path().join("sub/ferric.db-wal")).unwrap().len();
    let value = serde_json::Value::from("y".repeat(100_000));
    let map = [("x".to_owned(), value)].into_iter().collect();
    let huge = |i: i32| Node { extra: JsonText::from(&map), ..node(&format!("n{i}")) };
    let (begun, begin) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let readers = s.clone();
    let reader = std::thread::spawn(move || {
        readers.read_blocking(|c| {
            c.batch_execute("BEGIN")?;
            let seen = all_ids(c)?.len();
            begun.send(()).unwrap();
            let _ = ended.recv();
            assert_eq!(all_ids(c)?.len(), seen, "what it reads stands still");
            Ok(c.batch_execute("COMMIT")?)
        })
    });
    begin.recv().unwrap();
    for i in 0..80 {
        put(&s, huge(i));
    }
    assert!(wal() > MOST + (1 << 20), "a reader needs what is in the log: {}", wal());
    drop(end);
    reader.join().unwrap().unwrap();
    for i in 0..64 {
        put(&s, node(&format!("small{i}")));
    }
    assert!(wal() <= MOST, "{}", wal());
}

#[test]
fn a_commit_that_fails_is_told_to_every_job_in_it() {
    let (_dir, s) = store();
    let release = hold(&s);
    let (inner, good) = (s.clone(), s.clone());
    let bad = std::thread::spawn(move || {
        inner.write_blocking(|c| {
            // a promise to SQLite that only the commit checks
            c.batch_execute("PRAGMA defer_foreign_keys = ON")?;
            sql_query("INSERT INTO node_traits (node_uuid, name) VALUES ('none', 'CUSTOM_A')").execute(c)?;
            Ok(())
        })
    });
    until("one waiting", || s.writer_stats().unwrap().waiting == 1);
    let good = std::thread::spawn(move || good.write_blocking(|c| nodes::insert(c, &node("n"))));
    until("two waiting", || s.writer_stats().unwrap().waiting == 2);
    release();
    assert!(matches!(bad.join().unwrap(), Err(StoreError::Other(_))));
    assert!(matches!(good.join().unwrap(), Err(StoreError::Other(_))));
    assert_eq!(s.writer_stats().unwrap().lost, 1);
    assert!(s.read_blocking(all_ids).unwrap().is_empty());
    put(&s, node("after"));
}

fn big(name: &str) -> Node {
    let map = [("x".to_owned(), serde_json::Value::from("y".repeat(200_000)))].into_iter().collect();
    Node { extra: JsonText::from(&map), ..node(name) }
}

/// The test runs itself again in a mount namespace of its own, where a file system of 2 MiB is its folder.
#[test]
fn a_full_disk_is_said_and_got_over() {
    if std::env::var_os("FERRIC_TINY_DISK").is_some() {
        return on_a_tiny_disk();
    }
    let dir = tempfile::tempdir().unwrap();
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let inner = std::process::Command::new("unshare")
        .arg(if root { "-m" } else { "-rm" })
        .args(["sh", "-c", "mount -t tmpfs -o size=2m none \"$1\" && exec \"$0\" --exact \"$2\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(dir.path())
        .arg("a_full_disk_is_said_and_got_over")
        .env("FERRIC_TINY_DISK", dir.path())
        .output()
        .unwrap();
    assert!(inner.status.success(), "{}", String::from_utf8_lossy(&inner.stderr));
    assert!(String::from_utf8_lossy(&inner.stdout).contains("1 passed"));
}

fn on_a_tiny_disk() {
    let dir = std::path::PathBuf::from(std::env::var_os("FERRIC_TINY_DISK").unwrap());
    let s = Store::open(&StoreOptions::new(dir.join("ferric.db").to_str().unwrap())).unwrap();
    let kept = put(&s, node("kept"));
    let ballast = dir.join("ballast");
    let filled = std::fs::write(&ballast, vec![0; 4 << 20]).unwrap_err();
    assert_eq!(filled.kind(), std::io::ErrorKind::StorageFull);
    for _ in 0..3 {
        let e = s.write_blocking(|c| nodes::insert(c, &big("big"))).unwrap_err();
        assert!(matches!(e, StoreError::Full), "{e:?}");
        assert!(e.to_string().contains("free space"), "{e}");
        assert_eq!(fetch(&s, kept.uuid), Some(kept.clone()), "reading goes on");
    }
    std::fs::remove_file(&ballast).unwrap();
    let n = s.write_blocking(|c| nodes::insert(c, &big("big"))).unwrap();
    s.write_blocking(move |c| nodes::advance(c, &kept, at(1))).unwrap();
    drop(s);
    let s = Store::open(&StoreOptions::new(dir.join("ferric.db").to_str().unwrap())).unwrap();
    assert_eq!(fetch(&s, n.uuid), Some(n));
}

#[test]
fn a_job_that_fills_the_disk_leaves_exactly_what_was_acknowledged() {
    #[derive(diesel::QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        page_count: i64,
    }
    let (_dir, s) = store();
    s.write_blocking(|c| {
        let Conn::Sqlite(c) = c else { panic!("this is SQLite") };
        let now: Count = sql_query("PRAGMA page_count").get_result(c)?;
        Ok(c.batch_execute(&format!("PRAGMA max_page_count = {}", now.page_count + 20))?)
    })
    .unwrap();
    let release = hold(&s);
    let all: Vec<_> = (0..9)
        .map(|i| {
            let inner = s.clone();
            let n = if i == 4 { big("n4") } else { node(&format!("n{i}")) };
            let t = std::thread::spawn(move || inner.write_blocking(move |c| nodes::insert(c, &n)));
            until("queued", || s.writer_stats().unwrap().waiting == i + 1);
            t
        })
        .collect();
    release();
    let outcomes: Vec<_> = all.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(matches!(outcomes[4], Err(StoreError::Full)), "{:?}", outcomes[4]);
    for (i, outcome) in outcomes.iter().enumerate() {
        let name = format!("n{i}");
        let stored = s.read_blocking(|c| nodes::find(c, &name)).unwrap();
        match outcome {
            Ok(n) => assert_eq!(stored.as_ref(), Some(n)),
            Err(StoreError::Full) => assert_eq!(stored, None, "{name} was refused"),
            Err(e) => panic!("{e:?}"),
        }
    }
    assert!(outcomes[5..].iter().all(Result::is_ok), "what came after the big one is written");
    put(&s, node("after"));
}

#[test]
fn a_lock_held_by_another_process_is_busy_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let opts = StoreOptions { busy_timeout: Duration::from_millis(50), ..options(&dir) };
    let s = Store::open(&opts).unwrap();
    let mut other = ferric_schema::migrate::connect(&opts).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let e = s.write_blocking(|c| nodes::insert(c, &node("n"))).unwrap_err();
    assert!(matches!(e, StoreError::Busy), "{e:?}");
    other.batch_execute("ROLLBACK").unwrap();
    put(&s, node("n"));
}

#[test]
fn tables_of_a_newer_version_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let opts = options(&dir);
    drop(Store::open(&opts).unwrap());
    let mut c = ferric_schema::migrate::connect(&opts).unwrap();
    c.batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20990101000001')").unwrap();
    match Store::open(&opts).unwrap_err() {
        StoreError::Migration(text) => assert!(text.contains("newer"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn urls_that_name_no_database_are_refused() {
    for url in ["", "sqlite://", ":memory:", "mysql://x/y"] {
        assert!(matches!(Store::open(&StoreOptions::new(url)), Err(StoreError::Options(_))), "{url}");
    }
    let secret = format!("{:?}", StoreOptions::new("postgres://ferric:hunter2@db/ferric"));
    assert!(!secret.contains("hunter2"), "{secret}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let below = dir.path().join("file/ferric.db");
    assert!(matches!(
        Store::open(&StoreOptions::new(below.to_str().unwrap())),
        Err(StoreError::Unreachable(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_stands_still_while_the_database_works() {
    let (_dir, s) = store();
    let before = tokio::time::Instant::now();
    let timer = tokio::time::sleep(Duration::from_secs(3600));
    tokio::pin!(timer);
    for i in 0..20 {
        tokio::select! {
            () = &mut timer => panic!("an hour passed during a write"),
            r = s.write(move |c| nodes::insert(c, &node(&format!("n{i}")))) => { r.unwrap(); }
        }
        s.read(all_ids).await.unwrap();
    }
    assert_eq!(tokio::time::Instant::now(), before);
}

/// Not a promise but a figure: `cargo nextest run -p ferric-schema --run-ignored only --no-capture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn durable_writes_per_second() {
    for writers in [1, 64] {
        let dir =
            tempfile::tempdir_in(std::env::var("FERRIC_BENCH_DIR").unwrap_or_else(|_| ".".into())).unwrap();
        let s = Store::open(&options(&dir)).unwrap();
        let (start, mut all) = (Instant::now(), Vec::new());
        for i in 0..writers {
            let s = s.clone();
            all.push(tokio::spawn(async move {
                let mut n = s.write(move |c| nodes::insert(c, &node(&format!("n{i}")))).await.unwrap();
                for _ in 0..6400 / writers / if writers == 1 { 8 } else { 1 } {
                    n = s.write(move |c| nodes::advance(c, &n, at(1))).await.unwrap();
                }
            }));
        }
        for t in all {
            t.await.unwrap();
        }
        let (took, stats) = (start.elapsed().as_secs_f64(), s.writer_stats().unwrap());
        println!(
            "{writers} writers: {:.0} durable writes/s, {:.0} commits/s, {:.1} writes per commit",
            stats.jobs as f64 / took,
            stats.commits as f64 / took,
            stats.jobs as f64 / stats.commits as f64
        );
    }
}
