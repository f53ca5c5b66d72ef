//! The promises of allocations and VIFs. Kept by both databases.

use ferric_machine::{PowerState, State};
use ferric_schema::{
    Also, Columns, Commit, JsonList, JsonText, Node, Port, SortDir, Store, StoreError,
    allocations::{self, Allocation, AllocationQuery, AllocationSort, AllocationState, Wanted},
    commit, conductors, nodes, ports, vifs,
};
use serde_json::json;
use uuid::Uuid;

use super::{T0, at, duplicate, fetch, put};

const KEY: &str = "tenant_vif_port_id";

fn asked(name: &str) -> Allocation {
    let traits = JsonList::from(&[json!("CUSTOM_A")][..]);
    Allocation {
        name: Some(name.into()),
        resource_class: Some("bm".into()),
        conductor: "here".into(),
        traits,
        ..Allocation::new(Uuid::new_v4(), T0)
    }
}

fn add(s: &Store, row: Allocation) -> Allocation {
    s.write_blocking(move |c| allocations::insert(c, &row)).unwrap()
}

fn read(s: &Store, id: Uuid) -> Option<Allocation> {
    s.read_blocking(|c| allocations::get(c, id)).unwrap()
}

fn free(s: &Store, name: &str, traits: &[&str]) -> Node {
    let row = Node {
        provision_state: State::Available,
        power_state: Some(PowerState::Off),
        resource_class: Some("bm".into()),
        ..super::node(name)
    };
    let row = put(s, row);
    let (id, names) = (row.uuid, traits.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    s.write_blocking(move |c| nodes::set_traits(c, id, &names)).unwrap();
    row
}

fn change(node: &Node, also: Vec<Also>) -> Commit {
    Commit {
        node: node.clone(),
        columns: Columns::All,
        events: Vec::new(),
        journal: Vec::new(),
        also,
        now: at(5),
    }
}

pub fn an_allocation_is_kept_listed_and_paged(s: Store) {
    let all: Vec<Allocation> = ["a", "b", "c"].map(|name| add(&s, asked(name))).into();
    let twin = asked("a");
    let e = s.write_blocking(move |c| allocations::insert(c, &twin)).unwrap_err();
    assert_eq!(duplicate(e), ("name", "a".into()));
    let twin = Allocation { uuid: all[0].uuid, name: None, ..asked("") };
    let e = s.write_blocking(move |c| allocations::insert(c, &twin)).unwrap_err();
    assert_eq!(duplicate(e).0, "uuid");

    let owned = Allocation { owner: Some("p".into()), resource_class: Some("x".into()), ..all[1].clone() };
    s.write_blocking(move |c| allocations::update(c, &owned, at(1))).unwrap();
    assert!(
        s.write_blocking({
            let id = all[2].uuid;
            move |c| allocations::fail(c, id, "no", at(2))
        })
        .unwrap()
    );
    let names = |q: AllocationQuery| -> Vec<String> {
        s.read_blocking(|c| allocations::list(c, &q)).unwrap().into_iter().filter_map(|a| a.name).collect()
    };
    let any = AllocationQuery::default;
    assert_eq!(names(any()), ["a", "b", "c"]);
    assert_eq!(names(AllocationQuery { owner: Some("p".into()), ..any() }), ["b"]);
    assert_eq!(names(AllocationQuery { resource_class: Some("bm".into()), ..any() }), ["a", "c"]);
    assert_eq!(names(AllocationQuery { state: Some("error".into()), ..any() }), ["c"]);
    assert!(names(AllocationQuery { state: Some("nonsense".into()), ..any() }).is_empty());
    for key in AllocationSort::ALL {
        for sort_dir in [SortDir::Asc, SortDir::Desc] {
            let (mut marker, mut seen) = (None, Vec::new());
            loop {
                let q = AllocationQuery { sort_key: *key, sort_dir, limit: Some(1), marker, ..any() };
                let page = s.read_blocking(|c| allocations::list(c, &q)).unwrap();
                let Some(last) = page.last() else { break };
                marker = Some(last.uuid);
                seen.push(last.uuid);
            }
            let whole = AllocationQuery { sort_key: *key, sort_dir, ..any() };
            let whole: Vec<Uuid> =
                s.read_blocking(|c| allocations::list(c, &whole)).unwrap().iter().map(|a| a.uuid).collect();
            assert_eq!((seen.len(), &seen), (3, &whole), "{}", key.as_str());
        }
    }
    assert_eq!(s.read_blocking(|c| allocations::find(c, "b")).unwrap().map(|a| a.uuid), Some(all[1].uuid));
}

pub fn a_node_and_its_allocation_change_together(s: Store) {
    let one = free(&s, "one", &["CUSTOM_A"]);
    let (first, second) = (add(&s, asked("first")), add(&s, asked("second")));
    let taken = Node { instance_uuid: Some(first.uuid), ..one.clone() };
    let reserve = change(&taken, vec![Also::Allocate(first.uuid)]);
    s.write_blocking(move |c| commit(c, &reserve)).unwrap();
    let got = read(&s, first.uuid).unwrap();
    assert_eq!((got.state, got.node_uuid, got.generation), (AllocationState::Active, Some(one.uuid), 1));
    assert_eq!(s.read_blocking(|c| allocations::of_node(c, one.uuid)).unwrap(), Some(got));
    let many = [one.uuid, Uuid::new_v4()];
    assert_eq!(
        s.read_blocking(|c| allocations::of_nodes(c, &many)).unwrap(),
        [(one.uuid, first.uuid)].into()
    );

    // who comes second, with what it read before, changes neither the node nor its allocation
    let late = change(&Node { instance_uuid: Some(second.uuid), ..one }, vec![Also::Allocate(second.uuid)]);
    let e = s.write_blocking(move |c| commit(c, &late)).unwrap_err();
    assert!(matches!(e, StoreError::Stale { what: "node", .. }), "{e:?}");
    let now = fetch(&s, taken.uuid).unwrap();
    let again = change(&now, vec![Also::Allocate(second.uuid)]);
    assert_eq!(duplicate(s.write_blocking(move |c| commit(c, &again)).unwrap_err()).0, "node_uuid");
    assert_eq!(read(&s, second.uuid).unwrap().state, AllocationState::Allocating);

    // an allocation that the node does not have is not taken from it, whichever it has
    let wrong = change(&Node { instance_uuid: None, ..now.clone() }, vec![Also::Release(second.uuid)]);
    let e = s.write_blocking(move |c| commit(c, &wrong)).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
    assert_eq!(fetch(&s, taken.uuid).unwrap().instance_uuid, Some(first.uuid));

    let gone = change(&Node { instance_uuid: None, ..now }, vec![Also::Release(first.uuid)]);
    let free = s.write_blocking(move |c| commit(c, &gone)).unwrap().node;
    assert_eq!((read(&s, first.uuid), fetch(&s, taken.uuid).unwrap().instance_uuid), (None, None));

    let new = asked("new");
    let has = Node { instance_uuid: Some(new.uuid), ..free };
    let backfill = change(&has, vec![Also::AllocateNew(Box::new(new.clone()))]);
    let has = s.write_blocking(move |c| commit(c, &backfill)).unwrap().node;
    let got = read(&s, new.uuid).unwrap();
    assert_eq!((got.state, got.node_uuid), (AllocationState::Active, Some(has.uuid)));
    let gone = change(&Node { instance_uuid: None, ..has }, vec![Also::Deallocate]);
    s.write_blocking(move |c| commit(c, &gone)).unwrap();
    assert_eq!(read(&s, new.uuid), None);
}

pub fn an_allocation_that_is_gone_or_does_not_fit_reserves_nothing(s: Store) {
    let bare = free(&s, "bare", &[]);
    let wants = add(&s, asked("wants"));
    for (id, what) in [(wants.uuid, "trait"), (Uuid::new_v4(), "allocation")] {
        let reserve = change(&Node { instance_uuid: Some(id), ..bare.clone() }, vec![Also::Allocate(id)]);
        match s.write_blocking(move |c| commit(c, &reserve)).unwrap_err() {
            StoreError::NotFound { what: told } => assert!(told.starts_with(what), "{told}"),
            other => panic!("expected NotFound, not {other:?}"),
        }
    }
    assert_eq!(fetch(&s, bare.uuid), Some(bare));
    let id = wants.uuid;
    assert!(s.write_blocking(move |c| allocations::withdraw(c, id)).unwrap());
    assert!(!s.write_blocking(move |c| allocations::withdraw(c, id)).unwrap());
    assert!(!s.write_blocking(move |c| allocations::fail(c, id, "late", at(1))).unwrap());
}

pub fn the_free_nodes_are_those_that_fit(s: Store) {
    let put_one = |name: &str, edit: &dyn Fn(&mut Node)| {
        let mut row = Node {
            provision_state: State::Available,
            power_state: Some(PowerState::On),
            resource_class: Some("bm".into()),
            ..super::node(name)
        };
        edit(&mut row);
        put(&s, row).uuid
    };
    let a = put_one("a", &|_| {});
    let b = put_one("b", &|n| n.owner = Some("p".into()));
    let c = put_one("c", &|n| n.lessee = Some("p".into()));
    put_one("busy", &|n| n.instance_uuid = Some(Uuid::new_v4()));
    put_one("resting", &|n| n.maintenance = true);
    put_one("enrolled", &|n| n.provision_state = State::Enroll);
    put_one("dark", &|n| n.power_state = None);
    put_one("other", &|n| n.resource_class = Some("x".into()));
    s.write_blocking(move |conn| nodes::set_traits(conn, b, &["CUSTOM_A".into(), "CUSTOM_B".into()]))
        .unwrap();
    let find = |w: &Wanted, from, limit| {
        s.read_blocking(|conn| allocations::free_nodes(conn, w, from, limit)).unwrap()
    };
    let mut all = vec![a, b, c];
    all.sort();
    let bm = Wanted { resource_class: Some("bm".into()), ..Wanted::default() };
    assert_eq!(find(&bm, None, 10), all);
    assert_eq!(find(&bm, None, 2), all[..2]);
    assert_eq!(find(&bm, Some(all[1]), 10), all[2..]);
    let mut theirs = vec![b, c];
    theirs.sort();
    assert_eq!(find(&Wanted { project: Some("p".into()), ..bm.clone() }, None, 10), theirs);
    let both = ["CUSTOM_A".to_owned(), "CUSTOM_B".to_owned()].into();
    assert_eq!(find(&Wanted { traits: both, ..bm.clone() }, None, 10), [b]);
    let more = ["CUSTOM_A".to_owned(), "CUSTOM_C".to_owned()].into();
    assert!(find(&Wanted { traits: more, ..bm.clone() }, None, 10).is_empty());
    assert_eq!(find(&Wanted { among: [c, Uuid::new_v4()].into(), ..bm.clone() }, None, 10), [c]);
    // more than one statement can name, as pages
    let strangers = (0..40_000).map(|_| Uuid::new_v4());
    let crowd = Wanted { among: strangers.chain([a, b, c]).collect(), ..bm.clone() };
    assert_eq!(find(&crowd, None, 10), all);
    assert_eq!(
        (find(&crowd, None, 2), find(&crowd, Some(all[1]), 2)),
        (all[..2].to_vec(), all[2..].to_vec())
    );
    let found = s.read_blocking(|conn| allocations::free_node_named(conn, &crowd, "b")).unwrap();
    assert_eq!(found, Some(b));
    let traits = (0..2_000).map(|n| format!("CUSTOM_{n}")).collect();
    assert!(find(&Wanted { traits, ..bm.clone() }, None, 10).is_empty());
    let elsewhere = Wanted { among: [c].into(), ..bm.clone() };
    let found = s.read_blocking(|conn| allocations::free_node_named(conn, &elsewhere, "b")).unwrap();
    assert_eq!(found, None);
    let named = |name: &str| s.read_blocking(|conn| allocations::free_node_named(conn, &bm, name)).unwrap();
    assert_eq!((named("b"), named("busy"), named("other")), (Some(b), None, None));
    let meant = s
        .read_blocking(|conn| allocations::nodes_meant(conn, &["a".into(), c.to_string(), "nobody".into()]))
        .unwrap();
    let mut meant: Vec<Uuid> = meant.into_iter().map(|(id, ..)| id).collect();
    meant.sort();
    let mut both = vec![a, c];
    both.sort();
    assert_eq!(meant, both);
}

pub fn open_allocations_are_found_by_who_does_them(s: Store) {
    for host in ["here", "there"] {
        s.write_blocking(move |c| conductors::register(c, host, "", &[], T0)).unwrap();
    }
    let mine = add(&s, asked("mine"));
    let theirs = add(&s, Allocation { conductor: "there".into(), ..asked("theirs") });
    let failed = add(&s, asked("failed")).uuid;
    s.write_blocking(move |c| allocations::fail(c, failed, "no", at(1))).unwrap();
    let open = |s: &Store| s.read_blocking(|c| allocations::open(c, "here", 10)).unwrap();
    assert_eq!(open(&s), [mine.uuid]);
    s.write_blocking(|c| conductors::offline(c, "there", at(1))).unwrap();
    assert_eq!(open(&s), [mine.uuid, theirs.uuid], "what a conductor that left had begun is anybody's");
}

pub fn vifs_go_with_the_instance_and_allocations_with_the_node(s: Store) {
    let n = free(&s, "n", &["CUSTOM_A"]);
    let extra = JsonText::from(json!({"vif_port_id": "old", "mine": 1}).as_object().unwrap());
    let port = Port { extra, ..Port::new(Uuid::new_v4(), n.uuid, "00:00:00:00:00:01", T0) };
    let (id, node) = (port.uuid, n.uuid);
    let port = s.write_blocking(move |c| ports::insert(c, &port)).unwrap();
    s.write_blocking(move |c| vifs::put_in_port(c, &port, KEY, Some("v"), at(1))).unwrap();
    let info = || s.read_blocking(|c| ports::get(c, id)).unwrap().unwrap();
    assert_eq!(info().internal_info.get(KEY), Some(json!("v")));
    let forget = change(&n, vec![Also::ForgetVifs(KEY)]);
    let done = s.write_blocking(move |c| commit(c, &forget)).unwrap();
    assert_eq!(done.ports, [info()], "whoever keeps ports in memory is told");
    assert_eq!((info().internal_info.as_str(), info().extra.as_str()), ("{}", r#"{"mine":1}"#));

    let held = add(&s, asked("held")).uuid;
    let reserve = change(&done.node, vec![Also::Allocate(held)]);
    s.write_blocking(move |c| commit(c, &reserve)).unwrap();
    s.write_blocking(move |c| nodes::delete(c, node)).unwrap();
    assert_eq!(read(&s, held), None);
}
