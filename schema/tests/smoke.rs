//! placeholder while the suite is written
use ferric_machine::Timestamp;
use ferric_schema::*;
#[test]
fn a_node_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let opts = StoreOptions::new(dir.path().join("f.db").to_str().unwrap());
    let s = Store::open(&opts).unwrap();
    let id = uuid::Uuid::new_v4();
    let n = s.write_blocking(move |c| nodes::insert(c, &Node::new(id, "ipmi", Timestamp(5)))).unwrap();
    drop(s);
    let s = Store::open(&opts).unwrap();
    assert_eq!(s.read_blocking(|c| nodes::get(c, id)).unwrap().unwrap(), n);
    assert_eq!(s.read_blocking(|c| nodes::list(c, &NodeQuery::default())).unwrap(), vec![n]);
}
