//! The promises of what belongs to nodes: chassis around them, port groups and volumes on them. Kept by both databases.

use ferric_schema::{
    JsonText, Node, Port, SortDir, Store, StoreError,
    chassis::{self, Chassis, ChassisQuery, ChassisSort},
    nodes,
    portgroups::{self, Portgroup, PortgroupQuery, PortgroupSort},
    ports::{self, PortQuery},
    volumes::{
        connectors::{self, Connector, ConnectorQuery, ConnectorSort},
        targets::{self, Target, TargetQuery, TargetSort},
    },
};
use serde_json::json;
use uuid::Uuid;

use super::{T0, at, duplicate, node, put};

fn object(key: &str) -> JsonText {
    JsonText::from(json!({key: [1, null, "ü"]}).as_object().unwrap())
}

fn group(node: Uuid, name: &str) -> Portgroup {
    Portgroup { name: Some(name.into()), ..Portgroup::new(Uuid::new_v4(), node, "active-backup", T0) }
}

fn connector(node: Uuid, kind: &str, id: &str) -> Connector {
    Connector { kind: kind.into(), connector_id: id.into(), ..Connector::new(Uuid::new_v4(), node, T0) }
}

fn target(node: Uuid, index: i64) -> Target {
    Target {
        volume_type: "iscsi".into(),
        volume_id: "v".into(),
        boot_index: index,
        ..Target::new(Uuid::new_v4(), node, T0)
    }
}

fn missing<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::NotFound { .. })), "{result:?}");
}

/// Every page of two rows, one after the other, must make the whole list.
macro_rules! pages {
    ($s:ident, $module:ident, $query:ident, $sort:ident, $all:expr) => {
        for &sort_key in $sort::ALL {
            for sort_dir in [SortDir::Asc, SortDir::Desc] {
                let page = |q: $query| $s.read_blocking(move |c| $module::list(c, &q)).unwrap();
                let all = page($query { sort_key, sort_dir, ..$query::default() });
                let (mut seen, mut marker) = (Vec::new(), None);
                loop {
                    let whole = $query { sort_key, sort_dir, ..$query::default() };
                    let part = page($query { limit: Some(2), marker, ..whole });
                    let Some(last) = part.last() else { break };
                    marker = Some(last.uuid);
                    seen.extend(part);
                }
                assert_eq!((seen.len(), &seen), ($all, &all), "{sort_key:?} {sort_dir:?}");
                assert_eq!($sort::from_name(sort_key.as_str()), Some(sort_key));
            }
        }
        let q = $query { marker: Some(Uuid::new_v4()), ..$query::default() };
        missing($s.read_blocking(move |c| $module::list(c, &q)));
    };
}

pub fn a_chassis_stays_while_nodes_stand_in_it(s: Store) {
    for (i, text) in [Some("b"), None, Some("a")].into_iter().enumerate() {
        let created = at(i64::try_from(i).unwrap());
        let one = Chassis { description: text.map(str::to_owned), ..Chassis::new(Uuid::new_v4(), created) };
        s.write_blocking(move |c| chassis::insert(c, &one)).unwrap();
    }
    pages!(s, chassis, ChassisQuery, ChassisSort, 3);

    let one = Chassis { extra: object("e"), ..Chassis::new(Uuid::new_v4(), T0) };
    let id = one.uuid;
    let given = one.clone();
    let one = s.write_blocking(move |c| chassis::insert(c, &given)).unwrap();
    let twin = one.clone();
    let e = s.write_blocking(move |c| chassis::insert(c, &twin)).unwrap_err();
    assert_eq!(duplicate(e), ("uuid", id.to_string()));
    let lost = Node { chassis_uuid: Some(Uuid::new_v4()), ..node("lost") };
    missing(s.write_blocking(move |c| nodes::insert(c, &lost)));
    let inside = Node { chassis_uuid: Some(id), ..node("inside") };
    let inside = s.write_blocking(move |c| nodes::insert(c, &inside)).unwrap();
    let moved = Node { chassis_uuid: Some(Uuid::new_v4()), ..inside.clone() };
    missing(s.write_blocking(move |c| nodes::advance(c, &moved, at(1))));
    assert!(s.read_blocking(move |c| chassis::has_nodes(c, id)).unwrap());
    assert!(s.write_blocking(move |c| chassis::delete(c, id)).is_err(), "the database holds it too");

    let next = Chassis { description: Some("d".into()), extra: JsonText::default(), ..one.clone() };
    let done = s.write_blocking(move |c| chassis::update(c, &next, at(1))).unwrap();
    assert_eq!((done.generation, done.updated_at), (1, Some(at(1))));
    assert_eq!(s.read_blocking(move |c| chassis::get(c, id)).unwrap(), Some(done));
    let e = s.write_blocking(move |c| chassis::update(c, &one, at(2))).unwrap_err();
    assert!(matches!(e, StoreError::Stale { what: "chassis", .. }), "{e:?}");

    let out = Node { chassis_uuid: None, ..inside };
    s.write_blocking(move |c| nodes::advance(c, &out, at(3))).unwrap();
    assert!(!s.read_blocking(move |c| chassis::has_nodes(c, id)).unwrap());
    s.write_blocking(move |c| chassis::delete(c, id)).unwrap();
    missing(s.write_blocking(move |c| chassis::delete(c, id)));
}

pub fn port_groups_are_guarded_and_filtered(s: Store) {
    let a = put(&s, Node { shard: Some("s".into()), owner: Some("p".into()), ..node("a") }).uuid;
    let b = put(&s, Node { conductor_group: "g".into(), lessee: Some("p".into()), ..node("b") }).uuid;
    let c3 = put(&s, node("c")).uuid;
    let whole = Portgroup {
        address: Some("52:54:00:00:00:01".into()),
        extra: object("e"),
        internal_info: object("i"),
        standalone_ports_supported: false,
        properties: object("p"),
        physical_network: Some("n".into()),
        category: Some("c".into()),
        dynamic_portgroup: true,
        ..group(a, "g1")
    };
    let given = whole.clone();
    let whole = s.write_blocking(move |c| portgroups::insert(c, &given)).unwrap();
    let id = whole.uuid;
    assert_eq!(s.read_blocking(move |c| portgroups::get(c, id)).unwrap(), Some(whole.clone()));
    assert_eq!(s.read_blocking(|c| portgroups::find(c, "g1")).unwrap(), Some(whole.clone()));
    for (twin, what, value) in [
        (Portgroup { uuid: id, ..group(a, "x") }, "uuid", id.to_string()),
        (group(b, "g1"), "name", "g1".to_owned()),
        (
            Portgroup { address: whole.address.clone(), ..group(b, "x") },
            "address",
            "52:54:00:00:00:01".to_owned(),
        ),
    ] {
        let e = s.write_blocking(move |c| portgroups::insert(c, &twin)).unwrap_err();
        assert_eq!(duplicate(e), (what, value));
    }
    let lost = group(Uuid::new_v4(), "lost");
    missing(s.write_blocking(move |c| portgroups::insert(c, &lost)));
    for one in [group(a, "g2"), group(b, "g3"), group(c3, "g4")] {
        s.write_blocking(move |c| portgroups::insert(c, &one)).unwrap();
    }
    let d = PortgroupQuery::default;
    let cases: Vec<(&str, PortgroupQuery, &[&str])> = vec![
        ("all", d(), &["g1", "g2", "g3", "g4"]),
        ("node", PortgroupQuery { node: Some(a), ..d() }, &["g1", "g2"]),
        ("address", PortgroupQuery { address: whole.address.clone(), ..d() }, &["g1"]),
        ("shard", PortgroupQuery { shard: Some(vec!["s".into(), "t".into()]), ..d() }, &["g1", "g2"]),
        ("group", PortgroupQuery { conductor_groups: Some(vec!["g".into()]), ..d() }, &["g3"]),
        ("project", PortgroupQuery { project: Some("p".into()), ..d() }, &["g1", "g2", "g3"]),
    ];
    for (what, q, names) in cases {
        let found = s.read_blocking(move |c| portgroups::list(c, &q)).unwrap();
        assert_eq!(found.iter().filter_map(|g| g.name.as_deref()).collect::<Vec<_>>(), names, "{what}");
    }
    pages!(s, portgroups, PortgroupQuery, PortgroupSort, 4);

    let port = Port { portgroup_uuid: Some(id), ..Port::new(Uuid::new_v4(), a, "52:54:00:00:00:02", T0) };
    let port = s.write_blocking(move |c| ports::insert(c, &port)).unwrap();
    assert_eq!(s.read_blocking(move |c| ports::of_portgroup(c, id)).unwrap(), std::slice::from_ref(&port));
    let theirs = PortQuery { project: Some("p".into()), ..PortQuery::default() };
    assert_eq!(s.read_blocking(move |c| ports::list(c, &theirs)).unwrap(), [port]);

    let next = Portgroup { name: None, address: None, mode: None, physical_network: None, ..whole.clone() };
    s.write_blocking(move |c| portgroups::update(c, &next, at(1))).unwrap();
    let e = s.write_blocking(move |c| portgroups::update(c, &whole, at(2))).unwrap_err();
    assert!(matches!(e, StoreError::Stale { what: "portgroup", .. }), "{e:?}");
    s.write_blocking(move |c| nodes::delete(c, a)).unwrap();
    assert_eq!(s.read_blocking(move |c| portgroups::get(c, id)).unwrap(), None, "it goes with its node");
}

pub fn volumes_are_unique_and_go_with_their_node(s: Store) {
    let a = put(&s, Node { owner: Some("p".into()), ..node("a") }).uuid;
    let b = put(&s, node("b")).uuid;
    let whole = Connector { extra: object("e"), ..connector(a, "iqn", "iqn.1") };
    let given = whole.clone();
    let whole = s.write_blocking(move |c| connectors::insert(c, &given)).unwrap();
    let id = whole.uuid;
    assert_eq!(s.read_blocking(move |c| connectors::get(c, id)).unwrap(), Some(whole.clone()));
    let twin = connector(b, "iqn", "iqn.1");
    let e = s.write_blocking(move |c| connectors::insert(c, &twin)).unwrap_err();
    assert_eq!(duplicate(e), ("connector_id", "iqn.1".into()));
    for one in [connector(b, "ip", "iqn.1"), connector(b, "mac", "m")] {
        s.write_blocking(move |c| connectors::insert(c, &one)).unwrap();
    }
    pages!(s, connectors, ConnectorQuery, ConnectorSort, 3);
    let count = |q: ConnectorQuery| s.read_blocking(move |c| connectors::list(c, &q)).unwrap().len();
    assert_eq!(count(ConnectorQuery { node: Some(b), ..ConnectorQuery::default() }), 2);
    assert_eq!(count(ConnectorQuery { project: Some("p".into()), ..ConnectorQuery::default() }), 1);

    let disk = Target { properties: object("p"), extra: object("e"), ..target(a, 0) };
    let given = disk.clone();
    let disk = s.write_blocking(move |c| targets::insert(c, &given)).unwrap();
    let disk_id = disk.uuid;
    assert_eq!(s.read_blocking(move |c| targets::get(c, disk_id)).unwrap(), Some(disk.clone()));
    let twin = target(a, 0);
    let e = s.write_blocking(move |c| targets::insert(c, &twin)).unwrap_err();
    assert_eq!(duplicate(e), ("boot_index", "0".into()));
    for one in [target(a, 1), target(b, 0), target(b, -1)] {
        s.write_blocking(move |c| targets::insert(c, &one)).unwrap();
    }
    pages!(s, targets, TargetQuery, TargetSort, 4);
    let clash = Target { boot_index: 1, ..disk.clone() };
    let e = s.write_blocking(move |c| targets::update(c, &clash, at(1))).unwrap_err();
    assert_eq!(duplicate(e), ("boot_index", "1".into()));
    let lost = Target { node_uuid: Uuid::new_v4(), ..disk };
    missing(s.write_blocking(move |c| targets::update(c, &lost, at(1))));
    let count = |q: TargetQuery| s.read_blocking(move |c| targets::list(c, &q)).unwrap().len();
    assert_eq!(count(TargetQuery { node: Some(a), ..TargetQuery::default() }), 2);
    assert_eq!(count(TargetQuery { project: Some("p".into()), ..TargetQuery::default() }), 2);

    s.write_blocking(move |c| nodes::delete(c, a)).unwrap();
    assert_eq!((count(TargetQuery::default()), connector_count(&s)), (2, 2));
}

fn connector_count(s: &Store) -> usize {
    s.read_blocking(|c| connectors::list(c, &ConnectorQuery::default())).unwrap().len()
}
