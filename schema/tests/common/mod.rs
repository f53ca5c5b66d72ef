//! What the tests of both databases share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::wildcard_enum_match_arm)] // each test binary uses its part of it

pub mod allocations;
pub mod belongings;
pub mod hardware;
pub mod operators;
pub mod postgres;
pub mod promises;

use ferric_machine::Timestamp;
use ferric_schema::{
    Conn, Node, Store, StoreError, StoreOptions,
    chassis::{self, Chassis},
    migrate, nodes,
};
use uuid::Uuid;

pub const T0: Timestamp = Timestamp(1_700_000_000_000_000);

/// A moment some seconds after the tests' zero.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp(T0.0 + seconds * 1_000_000)
}

pub fn node(name: &str) -> Node {
    Node { name: Some(name.into()), ..Node::new(Uuid::new_v4(), "ipmi", T0) }
}

/// With the chassis that it stands in, if there is none of that id yet.
pub fn put(s: &Store, node: Node) -> Node {
    let insert = move |c: &mut Conn| {
        if let Some(id) = node.chassis_uuid
            && chassis::get(c, id)?.is_none()
        {
            chassis::insert(c, &Chassis::new(id, T0))?;
        }
        nodes::insert(c, &node)
    };
    s.write_blocking(insert).unwrap()
}

pub fn fetch(s: &Store, id: Uuid) -> Option<Node> {
    s.read_blocking(|c| nodes::get(c, id)).unwrap()
}

/// The ids of all nodes, in order of creation.
pub fn all_ids(c: &mut Conn) -> Result<Vec<Uuid>, StoreError> {
    Ok(nodes::all(c, 0, i64::MAX)?.into_iter().map(|node| node.uuid).collect())
}

/// `Duplicate` in short, for comparing.
pub fn duplicate(e: StoreError) -> (&'static str, String) {
    match e {
        StoreError::Duplicate { what, value } => (what, value),
        other => panic!("expected Duplicate, not {other:?}"),
    }
}

/// The migrations run forwards, backwards and forwards again, and an unmigrated database is refused with a remedy.
pub fn up_down_up(opts: &StoreOptions) {
    let strict = StoreOptions { migrate: false, ..opts.clone() };
    match Store::open(&strict).unwrap_err() {
        StoreError::Migration(text) => assert!(text.contains("ferric db migrate"), "{text}"),
        other => panic!("expected Migration, not {other:?}"),
    }
    let mut c = migrate::connect(opts).unwrap();
    let all = migrate::run(&mut c).unwrap().len();
    assert!(all > 1, "{all}");
    assert!(migrate::pending(&mut c).unwrap().is_empty());
    put(&Store::open(&strict).unwrap(), node("n"));
    migrate::revert_all(&mut c).unwrap();
    assert_eq!(migrate::pending(&mut c).unwrap().len(), all);
    drop(c);
    let s = Store::open(opts).unwrap();
    assert!(s.read_blocking(all_ids).unwrap().is_empty());
    put(&s, node("n"));
}
