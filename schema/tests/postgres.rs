//! The promises on a real PostgreSQL, and those that only a server can break.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)] // a test may panic at the first surprise

mod common;

use std::time::Duration;

use common::{at, fetch, node, postgres::Postgres, promises, put};
use ferric_schema::{Backend, Store, StoreError, StoreOptions, migrate, nodes};

type Promise = (&'static str, fn(Store));

macro_rules! named {
    ($($name:ident)+) => { &[$((stringify!($name), promises::$name as fn(Store))),+] };
}

/// One server for all of them, since making one takes a second; each has its own database.
#[test]
fn postgresql_keeps_the_same_promises() {
    let pg = Postgres::start();
    let all: &[Promise] = promises!(named);
    for (name, promise) in all {
        eprintln!("{name}");
        let store = Store::open(&StoreOptions::new(pg.database(name))).unwrap();
        assert_eq!(store.backend(), Backend::Postgres);
        promise(store);
    }
}

#[test]
fn postgresql_tables_go_up_down_and_up() {
    let pg = Postgres::start();
    common::up_down_up(&StoreOptions::new(pg.database("updown")));
    // two processes that start at once do not fall over each other
    let opts = StoreOptions::new(pg.database("twice"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| Store::open(&opts).unwrap());
        }
    });
    migrate::check(&mut migrate::connect(&opts).unwrap()).unwrap();
}

#[tokio::test]
async fn reads_leave_connections_to_the_work_that_is_under_way() {
    let pg = Postgres::start();
    for (pool_size, kept) in [(1, 0), (2, 1), (8, 2)] {
        let url = pg.database(&format!("reserve{pool_size}"));
        let s = Store::open(&StoreOptions { pool_size, ..StoreOptions::new(url) }).unwrap();
        let (begun, begins) = std::sync::mpsc::channel();
        let (reads, gates): (Vec<_>, Vec<_>) = (0..20)
            .map(|_| {
                let (s, begun) = (s.clone(), begun.clone());
                let (gate, opened) = std::sync::mpsc::channel::<()>();
                let read = move |_: &mut ferric_schema::Conn| {
                    begun.send(()).unwrap();
                    let _ = opened.recv();
                    Ok(())
                };
                (tokio::spawn(async move { s.read(read).await }), gate)
            })
            .unzip();
        let end = std::time::Instant::now() + Duration::from_secs(90);
        let mut working = 0;
        while working < pool_size - kept {
            assert!(std::time::Instant::now() < end, "{working} of {pool_size} read");
            working += u32::from(begins.try_recv().is_ok());
            tokio::task::yield_now().await;
        }
        if kept > 0 {
            let write = s.write_first(|c| nodes::insert(c, &node("n")));
            tokio::time::timeout(Duration::from_secs(90), write).await.unwrap().unwrap();
            assert!(begins.try_recv().is_err(), "no other read has begun");
        }
        drop(gates);
        for read in reads {
            read.await.unwrap().unwrap();
        }
    }
}

#[test]
fn a_server_that_is_away_is_unreachable_and_comes_back() {
    let mut pg = Postgres::start();
    let mut opts = StoreOptions::new(pg.database("away"));
    opts.busy_timeout = Duration::from_millis(500);
    let s = Store::open(&opts).unwrap();
    let n = put(&s, node("n"));
    pg.down();
    let e = s.read_blocking(|c| nodes::get(c, n.uuid)).unwrap_err();
    assert!(matches!(e, StoreError::Unreachable(_)), "{e:?}");
    let mine = n.clone();
    let e = s.write_blocking(move |c| nodes::advance(c, &mine, at(1))).unwrap_err();
    assert!(matches!(e, StoreError::Unreachable(_)), "{e:?}");
    assert!(matches!(Store::open(&opts).unwrap_err(), StoreError::Unreachable(_)));
    pg.up();
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while s.read_blocking(|c| nodes::get(c, n.uuid)).is_err() {
        assert!(std::time::Instant::now() < end, "the store did not come back");
    }
    assert_eq!(fetch(&s, n.uuid), Some(n));
}
