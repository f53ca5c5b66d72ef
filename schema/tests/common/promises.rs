//! The promises that both databases keep. Each function gets an empty store of its own.

use std::collections::HashSet;

use ferric_machine::{BootMode, Fault, PowerState, State, Timestamp};
use ferric_schema::{
    Also, Columns, Commit, JournalChange, JsonText, Node, NodeColumn, NodeQuery, NodeSort, Port, SortDir,
    Store, StoreError, commit, conductors, each_node,
    events::{self, NewEvent, Retention},
    history::{self, HistoryQuery, HistorySort, NewHistory, Severity},
    inventory::{self, NewInventory},
    journal::{self, NewStep, StepKey, StepState},
    nodes,
    ports::{self, PortQuery, PortSort},
    retain,
};
use serde_json::json;
use uuid::Uuid;

pub use super::allocations::{
    a_node_and_its_allocation_change_together, an_allocation_is_kept_listed_and_paged,
    an_allocation_that_is_gone_or_does_not_fit_reserves_nothing, open_allocations_are_found_by_who_does_them,
    the_free_nodes_are_those_that_fit, vifs_go_with_the_instance_and_allocations_with_the_node,
};
pub use super::belongings::{
    a_chassis_stays_while_nodes_stand_in_it, port_groups_are_guarded_and_filtered,
    volumes_are_unique_and_go_with_their_node,
};
pub use super::hardware::{
    bios_settings_are_replaced_and_what_is_the_same_keeps_its_time,
    firmware_remembers_its_first_and_last_version,
};
pub use super::operators::{
    a_runbook_has_its_set_of_traits, a_template_is_kept_changed_and_removed,
    rules_run_by_priority_and_go_together, runbooks_are_seen_by_their_project,
    templates_are_found_by_traits_and_paged,
};
use super::{T0, at, duplicate, fetch, node, put};

/// Runs a macro over the list of promises, so that it is written once.
#[macro_export]
macro_rules! promises {
    ($with:ident) => {
        $with! {
            every_field_comes_back_as_it_was_written
            a_full_update_can_clear_every_optional_field
            what_is_taken_is_told_by_field
            a_stale_generation_writes_nothing
            of_many_writers_of_one_generation_one_wins
            deleting_a_node_takes_its_rows_and_leaves_its_events
            filters_choose_in_sql
            descriptions_are_searched_literally
            every_sort_key_pages_without_gap_or_repetition
            a_list_is_of_one_moment
            ports_are_found_by_what_identifies_them
            ports_are_guarded_and_filtered
            a_chassis_stays_while_nodes_stand_in_it
            port_groups_are_guarded_and_filtered
            volumes_are_unique_and_go_with_their_node
            conductors_register_live_and_leave
            events_are_numbered_in_order_and_never_again
            a_reader_of_the_log_misses_nothing
            what_is_too_much_is_thrown_away_in_pieces
            the_journal_tells_where_an_operation_was
            a_better_plan_replaces_what_is_pending
            what_steps_took_is_known_by_step
            a_change_writes_what_differs_and_nothing_else
            a_commit_is_all_or_nothing
            a_commit_carries_ports_history_and_inventory
            a_history_pages_and_forgets
            an_inventory_is_replaced_and_goes_with_its_node
            bios_settings_are_replaced_and_what_is_the_same_keeps_its_time
            firmware_remembers_its_first_and_last_version
            a_failing_or_panicking_write_rolls_back_alone
            traits_are_a_set
            a_template_is_kept_changed_and_removed
            templates_are_found_by_traits_and_paged
            runbooks_are_seen_by_their_project
            a_runbook_has_its_set_of_traits
            rules_run_by_priority_and_go_together
            an_allocation_is_kept_listed_and_paged
            a_node_and_its_allocation_change_together
            an_allocation_that_is_gone_or_does_not_fit_reserves_nothing
            the_free_nodes_are_those_that_fit
            open_allocations_are_found_by_who_does_them
            vifs_go_with_the_instance_and_allocations_with_the_node
        }
    };
}

fn object(value: serde_json::Value) -> JsonText {
    JsonText::from(value.as_object().unwrap())
}

fn full(name: &str) -> Node {
    let text = |s: &str| Some(s.to_owned());
    let o = |s: &str| object(json!({ s: [1, "zwei", { "drei": null }] }));
    Node {
        name: text(name),
        driver_info: o("driver_info"),
        driver_internal_info: o("driver_internal_info"),
        properties: o("properties"),
        extra: o("extra"),
        instance_info: o("instance_info"),
        instance_uuid: Some(Uuid::new_v4()),
        instance_name: text("instance"),
        chassis_uuid: Some(Uuid::new_v4()),
        provision_state: State::DeployWait,
        target_provision_state: Some(State::Active),
        provision_updated_at: Some(at(1)),
        power_state: Some(PowerState::On),
        target_power_state: Some(PowerState::Off),
        last_error: text("it's \"broken\"\nbadly — ü"),
        reservation: text("host"),
        maintenance: true,
        maintenance_reason: text("why"),
        fault: Some(Fault::PowerFailure),
        console_enabled: true,
        raid_config: o("raid"),
        target_raid_config: o("target"),
        inspection_started_at: Some(at(2)),
        inspection_finished_at: Some(at(3)),
        clean_step: o("clean"),
        deploy_step: o("deploy"),
        service_step: o("service"),
        boot_interface: text("b"),
        console_interface: text("c"),
        deploy_interface: text("d"),
        inspect_interface: text("i"),
        management_interface: text("m"),
        power_interface: text("p"),
        raid_interface: text("r"),
        vendor_interface: text("v"),
        network_interface: text("n"),
        storage_interface: text("s"),
        rescue_interface: text("re"),
        bios_interface: text("bi"),
        firmware_interface: text("f"),
        resource_class: text("class"),
        conductor_group: "group".into(),
        automated_clean: Some(false),
        protected: true,
        protected_reason: text("pr"),
        retired: true,
        retired_reason: text("rr"),
        owner: text("owner"),
        lessee: text("lessee"),
        description: text("description"),
        network_data: o("network"),
        shard: text("shard"),
        parent_node: Some(Uuid::new_v4()),
        disable_power_off: true,
        boot_mode: Some(BootMode::Uefi),
        secure_boot: Some(true),
        health: text("OK"),
        ..Node::new(Uuid::new_v4(), "redfish", T0)
    }
}

pub fn every_field_comes_back_as_it_was_written(s: Store) {
    let bare = put(&s, Node::new(Uuid::new_v4(), "ipmi", T0));
    assert_eq!(fetch(&s, bare.uuid), Some(bare.clone()));
    assert_eq!((bare.provision_state, bare.generation, bare.updated_at), (State::Enroll, 0, None));

    let whole = put(&s, full("n1"));
    assert!(whole.id > bare.id, "ids rise with creation");
    assert_eq!(fetch(&s, whole.uuid), Some(whole.clone()));
    assert_eq!(s.read_blocking(|c| nodes::find(c, "n1")).unwrap(), Some(whole.clone()));
    let by_uuid = whole.uuid.to_string();
    assert_eq!(s.read_blocking(|c| nodes::find(c, &by_uuid)).unwrap(), Some(whole.clone()));
    assert_eq!(s.read_blocking(|c| nodes::find(c, "N1")).unwrap(), None, "names are told apart by case");

    let json = serde_json::to_value(&whole).unwrap();
    assert_eq!(json["driver_info"]["driver_info"][1], "zwei");
    assert_eq!(json["provision_state"], "wait call-back");
    assert!(!format!("{whole:?}").contains("zwei"), "Debug shows no object's content");
}

pub fn a_full_update_can_clear_every_optional_field(s: Store) {
    let old = put(&s, full("n1"));
    let bare = Node { id: old.id, ..Node::new(old.uuid, "ipmi", T0) };
    let new = s.write_blocking(move |c| nodes::advance(c, &bare, at(9))).unwrap();
    assert_eq!((new.generation, new.updated_at, new.name.as_ref()), (1, Some(at(9)), None));
    assert_eq!(fetch(&s, old.uuid), Some(new.clone()));
    let chassis_uuid = put(&s, Node { parent_node: None, ..full("n3") }).chassis_uuid;
    let again = Node { id: old.id, generation: 1, ..Node { uuid: old.uuid, chassis_uuid, ..full("n2") } };
    let new = s.write_blocking(move |c| nodes::advance(c, &again, at(10))).unwrap();
    assert_eq!(fetch(&s, old.uuid), Some(new));
}

pub fn what_is_taken_is_told_by_field(s: Store) {
    let first = put(&s, full("taken"));
    let insert = |n: Node| duplicate(s.write_blocking(move |c| nodes::insert(c, &n)).unwrap_err());
    assert_eq!(insert(Node { uuid: first.uuid, ..node("a") }), ("uuid", first.uuid.to_string()));
    assert_eq!(insert(node("taken")), ("name", "taken".to_owned()));
    let instance = first.instance_uuid;
    assert_eq!(
        insert(Node { instance_uuid: instance, ..node("b") }),
        ("instance_uuid", instance.unwrap().to_string())
    );
    let second = put(&s, node("second"));
    let rename = Node { name: Some("taken".into()), ..second.clone() };
    let e = s.write_blocking(move |c| nodes::advance(c, &rename, at(1))).unwrap_err();
    assert_eq!(duplicate(e).0, "name");

    put_port(
        &s,
        Port { name: Some("p".into()), ..Port::new(Uuid::new_v4(), first.uuid, "52:54:00:00:00:01", T0) },
    );
    let port = |p: Port| duplicate(s.write_blocking(move |c| ports::insert(c, &p)).unwrap_err());
    assert_eq!(port(Port::new(Uuid::new_v4(), second.uuid, "52:54:00:00:00:01", T0)).0, "address");
    let named =
        Port { name: Some("p".into()), ..Port::new(Uuid::new_v4(), second.uuid, "52:54:00:00:00:02", T0) };
    assert_eq!(port(named), ("name", "p".to_owned()));
}

pub fn a_stale_generation_writes_nothing(s: Store) {
    let seen = put(&s, node("n"));
    let (a, b) =
        (Node { owner: Some("a".into()), ..seen.clone() }, Node { owner: Some("b".into()), ..seen.clone() });
    s.write_blocking(move |c| nodes::advance(c, &a, at(1))).unwrap();
    match s.write_blocking(move |c| nodes::advance(c, &b, at(2))).unwrap_err() {
        StoreError::Stale { id, seen: 0, .. } => assert_eq!(id, seen.uuid),
        other => panic!("expected Stale, not {other:?}"),
    }
    assert_eq!(fetch(&s, seen.uuid).unwrap().owner.as_deref(), Some("a"));
    let id = seen.uuid;
    s.write_blocking(move |c| nodes::delete(c, id)).unwrap();
    let gone = s.write_blocking(move |c| nodes::advance(c, &seen, at(3))).unwrap_err();
    assert!(matches!(gone, StoreError::NotFound { .. }), "{gone:?}");
    let twice = s.write_blocking(move |c| nodes::delete(c, id)).unwrap_err();
    assert!(matches!(twice, StoreError::NotFound { .. }), "{twice:?}");
}

pub fn of_many_writers_of_one_generation_one_wins(s: Store) {
    let seen = put(&s, node("n"));
    let results: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|i| {
                let (s, mine) = (s.clone(), Node { owner: Some(i.to_string()), ..seen.clone() });
                scope.spawn(move || s.write_blocking(move |c| nodes::advance(c, &mine, at(i))))
            })
            .collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let won: Vec<_> = results.iter().filter_map(|r| r.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(fetch(&s, seen.uuid).as_ref(), Some(won[0]));
    let lost = results.iter().filter(|r| matches!(r, Err(StoreError::Stale { .. }))).count();
    assert_eq!(lost, 7);
}

pub fn deleting_a_node_takes_its_rows_and_leaves_its_events(s: Store) {
    let n = put(&s, node("n"));
    let id = n.uuid;
    s.write_blocking(move |c| {
        ports::insert(c, &Port::new(Uuid::new_v4(), id, "52:54:00:00:00:01", T0))?;
        nodes::set_traits(c, id, &["CUSTOM_A".into()])?;
        journal::plan(c, &[step(id, Uuid::new_v4(), 0)])?;
        events::append(c, &event(Some(id), "x"))?;
        nodes::delete(c, id)
    })
    .unwrap();
    assert_eq!(s.read_blocking(|c| ports::of_node(c, id)).unwrap(), vec![]);
    assert!(s.read_blocking(|c| nodes::traits(c, id)).unwrap().is_empty());
    assert_eq!(s.read_blocking(|c| journal::open_of_node(c, id)).unwrap(), vec![]);
    assert_eq!(s.read_blocking(|c| events::of_node(c, id, 0, 10)).unwrap().len(), 1);
    let orphan = Port::new(Uuid::new_v4(), id, "52:54:00:00:00:02", T0);
    let e = s.write_blocking(move |c| ports::insert(c, &orphan)).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}

fn names(s: &Store, q: &NodeQuery) -> Vec<String> {
    s.read_blocking(|c| nodes::list(c, q)).unwrap().into_iter().map(|n| n.name.unwrap()).collect()
}

pub fn filters_choose_in_sql(s: Store) {
    let whole = put(&s, Node { parent_node: None, ..full("full") });
    put(&s, node("bare"));
    let child = Node { parent_node: Some(whole.uuid), ..node("child") };
    put(&s, child);
    put(&s, Node { lessee: Some("owner".into()), shard: Some("s2".into()), ..node("leased") });
    let t = |s: &str| Some(s.to_owned());
    let id = whole.uuid;
    s.write_blocking(move |c| nodes::set_traits(c, id, &["CUSTOM_A".into(), "CUSTOM_B".into()])).unwrap();
    let d = NodeQuery::default;
    let cases: Vec<(&str, NodeQuery, &[&str])> = vec![
        ("default", d(), &["full", "bare", "leased"]),
        ("children", NodeQuery { include_children: true, ..d() }, &["full", "bare", "child", "leased"]),
        ("parent", NodeQuery { parent_node: Some(id), ..d() }, &["child"]),
        ("instance", NodeQuery { instance_uuid: whole.instance_uuid, ..d() }, &["full"]),
        ("associated", NodeQuery { associated: Some(true), ..d() }, &["full"]),
        ("free", NodeQuery { associated: Some(false), ..d() }, &["bare", "leased"]),
        ("maintenance", NodeQuery { maintenance: Some(true), ..d() }, &["full"]),
        ("no maintenance", NodeQuery { maintenance: Some(false), ..d() }, &["bare", "leased"]),
        ("retired", NodeQuery { retired: Some(true), ..d() }, &["full"]),
        ("not retired", NodeQuery { retired: Some(false), ..d() }, &["bare", "leased"]),
        ("state", NodeQuery { provision_state: Some(vec![State::DeployWait]), ..d() }, &["full"]),
        (
            "states",
            NodeQuery { provision_state: Some(vec![State::DeployWait, State::Enroll]), ..d() },
            &["full", "bare", "leased"],
        ),
        ("no state", NodeQuery { provision_state: Some(vec![]), ..d() }, &[]),
        ("driver", NodeQuery { driver: t("redfish"), ..d() }, &["full"]),
        ("class", NodeQuery { resource_class: t("class"), ..d() }, &["full"]),
        ("fault", NodeQuery { fault: Some(Fault::PowerFailure), ..d() }, &["full"]),
        ("other fault", NodeQuery { fault: Some(Fault::CleanFailure), ..d() }, &[]),
        ("group", NodeQuery { conductor_group: t("group"), ..d() }, &["full"]),
        ("default group", NodeQuery { conductor_group: t(""), ..d() }, &["bare", "leased"]),
        ("owner", NodeQuery { owner: t("owner"), ..d() }, &["full"]),
        ("lessee", NodeQuery { lessee: t("lessee"), ..d() }, &["full"]),
        ("project", NodeQuery { project: t("owner"), ..d() }, &["full", "leased"]),
        (
            "project and class",
            NodeQuery { project: t("owner"), resource_class: t("class"), ..d() },
            &["full"],
        ),
        ("shards", NodeQuery { shard: Some(vec!["shard".into(), "s2".into()]), ..d() }, &["full", "leased"]),
        ("sharded", NodeQuery { sharded: Some(true), ..d() }, &["full", "leased"]),
        ("unsharded", NodeQuery { sharded: Some(false), ..d() }, &["bare"]),
        ("instance name", NodeQuery { instance_name: t("instance"), ..d() }, &["full"]),
        ("chassis", NodeQuery { chassis_uuid: whole.chassis_uuid, ..d() }, &["full"]),
        ("traits", NodeQuery { traits: vec!["CUSTOM_A".into(), "CUSTOM_B".into()], ..d() }, &["full"]),
        ("other traits", NodeQuery { traits: vec!["CUSTOM_A".into(), "CUSTOM_C".into()], ..d() }, &[]),
        ("limit", NodeQuery { limit: Some(2), ..d() }, &["full", "bare"]),
        ("marker", NodeQuery { marker: Some(id), ..d() }, &["bare", "leased"]),
        (
            "backwards",
            NodeQuery { sort_key: NodeSort::Name, sort_dir: SortDir::Desc, ..d() },
            &["leased", "full", "bare"],
        ),
    ];
    for (what, query, expected) in cases {
        assert_eq!(names(&s, &query), expected, "{what}");
    }
    let e =
        s.read_blocking(|c| nodes::list(c, &NodeQuery { marker: Some(Uuid::new_v4()), ..d() })).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");

    let mut shards = s.read_blocking(nodes::count_by_shard).unwrap();
    shards.sort();
    assert_eq!(shards, [(None, 2), (Some("s2".into()), 1), (Some("shard".into()), 1)]);
    let first = s.read_blocking(|c| nodes::all(c, 0, 3)).unwrap();
    let rest = s.read_blocking(|c| nodes::all(c, first[2].id, 3)).unwrap();
    assert_eq!((first.len(), rest.len()), (3, 1));
}

pub fn descriptions_are_searched_literally(s: Store) {
    for (name, text) in
        [("a", "50% of Rack_7"), ("b", "500 of RackX7"), ("c", "back\\slash"), ("d", "GRÖßE 7")]
    {
        put(&s, Node { description: Some(text.into()), ..node(name) });
    }
    let found = |part: &str| {
        names(&s, &NodeQuery { description_contains: Some(part.into()), ..NodeQuery::default() })
    };
    assert_eq!(found("50%"), ["a"]);
    assert_eq!(found("rack_"), ["a"]);
    assert_eq!(found("RACK"), ["a", "b"]);
    assert_eq!(found("k\\s"), ["c"]);
    assert_eq!(found("grÖße"), ["d"]);
    assert_eq!(found("'; DROP TABLE nodes; --"), Vec::<String>::new());
}

pub fn every_sort_key_pages_without_gap_or_repetition(s: Store) {
    // values, absences and equal values in every column
    for i in 0..12 {
        let mut n = if i % 3 == 0 { node(&format!("n{i}")) } else { full(&format!("n{}", 12 - i)) };
        if i % 4 == 1 {
            n.resource_class = Some(format!("z{i}"));
            n.power_state = Some(PowerState::Off);
            n.provision_updated_at = Some(at(100 - i));
            n.maintenance = false;
            n.secure_boot = Some(false);
        }
        put(&s, n);
    }
    let keys = serde_json::to_value(full("x")).unwrap();
    let (objects, plain): (Vec<_>, Vec<_>) = keys
        .as_object()
        .unwrap()
        .iter()
        .filter(|(k, _)| *k != "generation")
        .partition(|(_, v)| v.is_object());
    for (key, _) in objects {
        assert_eq!(NodeSort::from_name(key), None, "{key} is an object");
    }
    for (key, _) in plain {
        let sort_key = NodeSort::from_name(key).unwrap_or_else(|| panic!("cannot sort by {key}"));
        assert_eq!(sort_key.as_str(), key);
        let mut orders = Vec::new();
        for sort_dir in [SortDir::Asc, SortDir::Desc] {
            let q = NodeQuery { sort_key, sort_dir, include_children: true, ..NodeQuery::default() };
            let whole: Vec<Uuid> =
                s.read_blocking(|c| nodes::list(c, &q)).unwrap().iter().map(|n| n.uuid).collect();
            assert_eq!(whole.iter().collect::<HashSet<_>>().len(), 12, "{key}");
            let (mut paged, mut marker) = (Vec::new(), None);
            loop {
                let page = NodeQuery { limit: Some(5), marker, ..q.clone() };
                let page = s.read_blocking(|c| nodes::list(c, &page)).unwrap();
                let Some(last) = page.last() else { break };
                marker = Some(last.uuid);
                paged.extend(page.iter().map(|n| n.uuid));
            }
            assert_eq!(paged, whole, "{key} {sort_dir:?}");
            orders.push(whole);
        }
        let back: Vec<Uuid> = orders[1].iter().rev().copied().collect();
        assert_eq!(orders[0], back, "{key}: descending is the reverse");
    }
}

pub fn a_list_is_of_one_moment(s: Store) {
    // by owner: some have one and some have none, and each way one changes sides while the list is being read
    for (dir, has, gets) in
        [(SortDir::Asc, true, Some("z")), (SortDir::Desc, false, Some("z")), (SortDir::Desc, false, None)]
    {
        let owned = |name: &str| put(&s, Node { owner: Some("a".into()), ..node(name) });
        let all = [owned("one"), owned("two"), put(&s, node("three")), put(&s, node("four"))];
        let turns = if gets.is_some() { all[3].clone() } else { all[1].clone() };
        let (mut seen, mut changed) = (Vec::new(), false);
        let query = NodeQuery { sort_key: NodeSort::Owner, sort_dir: dir, ..NodeQuery::default() };
        let columns = ["uuid", "owner"].map(|name| NodeColumn::named(name).unwrap());
        s.read_blocking(|c| {
            each_node(c, &query, &columns, false, |row| {
                seen.push(row.text(0, |id| Ok(id.unwrap().to_owned()))?);
                // one of the first part was read: the second is still to come
                if !std::mem::replace(&mut changed, true) {
                    assert_eq!(row.text(1, |owner| Ok(owner.is_some()))?, has);
                    let mut turns = turns.clone();
                    turns.owner = gets.map(str::to_owned);
                    s.write_blocking(move |c| nodes::advance(c, &turns, at(1))).unwrap();
                }
                Ok(())
            })
        })
        .unwrap();
        let mut expected: Vec<_> = all.iter().map(|node| node.uuid.to_string()).collect();
        expected.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, expected, "{dir:?}, owner becomes {gets:?}");
        for node in all {
            s.write_blocking(move |c| nodes::delete(c, node.uuid)).unwrap();
        }
    }
}

fn put_port(s: &Store, port: Port) -> Port {
    s.write_blocking(move |c| ports::insert(c, &port)).unwrap()
}

pub fn ports_are_found_by_what_identifies_them(s: Store) {
    let n = put(&s, node("n"));
    let whole = put_port(
        &s,
        Port {
            extra: object(json!({"a": 1})),
            internal_info: object(json!({"tenant_vif_port_id": "x"})),
            local_link_connection: object(json!({"port_id": "Gi1"})),
            pxe_enabled: false,
            portgroup_uuid: Some(Uuid::new_v4()),
            physical_network: Some("net".into()),
            is_smartnic: true,
            name: Some("eth0".into()),
            description: Some("d".into()),
            vendor: Some("v".into()),
            category: Some("c".into()),
            available_for_dynamic_portgroup: false,
            ..Port::new(Uuid::new_v4(), n.uuid, "52:54:00:00:00:01", T0)
        },
    );
    let bare = put_port(&s, Port::new(Uuid::new_v4(), n.uuid, "52:54:00:00:00:02", T0));
    assert_eq!(s.read_blocking(|c| ports::get(c, whole.uuid)).unwrap(), Some(whole.clone()));
    assert_eq!(s.read_blocking(|c| ports::find(c, "eth0")).unwrap(), Some(whole.clone()));
    let macs = ["52:54:00:00:00:02".to_owned(), "52:54:00:00:00:99".to_owned()];
    assert_eq!(s.read_blocking(|c| ports::by_address(c, &macs)).unwrap(), vec![bare.clone()]);
    assert_eq!(s.read_blocking(|c| ports::of_node(c, n.uuid)).unwrap(), vec![whole.clone(), bare.clone()]);
    s.write_blocking(move |c| ports::delete(c, whole.uuid)).unwrap();
    let e = s.write_blocking(move |c| ports::delete(c, whole.uuid)).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}

pub fn ports_are_guarded_and_filtered(s: Store) {
    let a = put(&s, Node { shard: Some("s1".into()), ..node("a") });
    let b = put(&s, Node { conductor_group: "g".into(), ..node("b") });
    let p = put_port(
        &s,
        Port { description: Some("UP".into()), ..Port::new(Uuid::new_v4(), a.uuid, "52:54:00:00:00:09", T0) },
    );
    let q = put_port(&s, Port::new(Uuid::new_v4(), b.uuid, "52:54:00:00:00:03", T0));
    let found = |query: PortQuery| -> Vec<Uuid> {
        s.read_blocking(|c| ports::list(c, &query)).unwrap().iter().map(|p| p.uuid).collect()
    };
    let d = PortQuery::default;
    assert_eq!(found(d()), [p.uuid, q.uuid]);
    assert_eq!(found(PortQuery { node: Some(a.uuid), ..d() }), [p.uuid]);
    assert_eq!(found(PortQuery { addresses: Some(vec![q.address.clone()]), ..d() }), [q.uuid]);
    assert_eq!(found(PortQuery { shard: Some(vec!["s1".into()]), ..d() }), [p.uuid]);
    assert_eq!(found(PortQuery { conductor_groups: Some(vec!["g".into()]), ..d() }), [q.uuid]);
    assert_eq!(found(PortQuery { portgroup: Some(a.uuid), ..d() }), Vec::<Uuid>::new());
    assert_eq!(found(PortQuery { description_contains: Some("up".into()), ..d() }), [p.uuid]);
    for key in [
        "id",
        "uuid",
        "created_at",
        "updated_at",
        "node_uuid",
        "address",
        "pxe_enabled",
        "portgroup_uuid",
        "physical_network",
        "is_smartnic",
        "name",
        "description",
        "vendor",
        "category",
    ] {
        let sort_key = PortSort::from_name(key).unwrap();
        let whole = found(PortQuery { sort_key, ..d() });
        let page = found(PortQuery { sort_key, limit: Some(1), marker: Some(whole[0]), ..d() });
        assert_eq!(page, whole[1..], "{key}");
        assert_eq!(found(PortQuery { sort_key, marker: Some(whole[1]), ..d() }), Vec::<Uuid>::new(), "{key}");
    }
    assert_eq!(PortSort::from_name("extra"), None);
    assert_eq!(found(PortQuery { sort_key: PortSort::Address, ..d() }), [q.uuid, p.uuid]);

    let changed = Port { pxe_enabled: false, ..p.clone() };
    let written = s.write_blocking(move |c| ports::update(c, &changed, at(1))).unwrap();
    assert_eq!((written.generation, written.updated_at), (1, Some(at(1))));
    let late = s.write_blocking(move |c| ports::update(c, &p, at(2))).unwrap_err();
    assert!(matches!(late, StoreError::Stale { what: "port", .. }), "{late:?}");
}

pub fn conductors_register_live_and_leave(s: Store) {
    let drivers = ["ipmi".to_owned(), "redfish".to_owned()];
    let c1 = s.write_blocking(move |c| conductors::register(c, "c1", "", &drivers, at(0))).unwrap();
    assert_eq!((c1.drivers.len(), c1.online, c1.updated_at), (2, true, at(0)));
    s.write_blocking(|c| conductors::register(c, "c2", "g", &[], at(1))).unwrap();
    s.write_blocking(|c| conductors::touch(c, "c1", at(5))).unwrap();
    s.write_blocking(|c| conductors::offline(c, "c2", at(6))).unwrap();
    let all = s.read_blocking(conductors::list).unwrap();
    let seen: Vec<_> = all.iter().map(|c| (c.hostname.as_str(), c.online, c.updated_at)).collect();
    assert_eq!(seen, [("c1", true, at(5)), ("c2", false, at(6))]);
    let back = s.write_blocking(|c| conductors::register(c, "c2", "h", &["ipmi".into()], at(7))).unwrap();
    assert_eq!((back.id, back.created_at, back.online), (all[1].id, at(1), true));
    assert_eq!((back.conductor_group.as_str(), back.drivers.as_slice()), ("h", &["ipmi".to_owned()][..]));
    let e = s.write_blocking(|c| conductors::touch(c, "c3", at(8))).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}

fn event(node: Option<Uuid>, kind: &str) -> NewEvent {
    NewEvent {
        node,
        at: T0,
        kind: kind.into(),
        severity: "INFO".into(),
        text: format!("{kind} happened"),
        data: object(json!({"kind": kind})),
    }
}

pub fn events_are_numbered_in_order_and_never_again(s: Store) {
    let n = Uuid::new_v4();
    let seqs = s
        .write_blocking(move |c| {
            events::append_all(c, &[event(Some(n), "a"), event(None, "b"), event(Some(n), "c")])
        })
        .unwrap();
    assert_eq!(seqs, [1, 2, 3]);
    let rest = s.read_blocking(|c| events::after(c, 1, 10)).unwrap();
    assert_eq!(
        rest.iter().map(|e| (e.seq, e.kind.as_str(), e.node)).collect::<Vec<_>>(),
        [(2, "b", None), (3, "c", Some(n))]
    );
    assert_eq!(serde_json::to_value(&rest[0]).unwrap()["data"]["kind"], "b");
    let of_node = s.read_blocking(|c| events::of_node(c, n, 0, 10)).unwrap();
    assert_eq!(of_node.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 3]);
    let last = s.read_blocking(|c| events::latest_of_node(c, n, Some(3), 10)).unwrap();
    assert_eq!(last.iter().map(|e| e.seq).collect::<Vec<_>>(), [1]);
    let gone = s.write_blocking(|c| events::purge(c, Retention { keep: Some(1), before: None })).unwrap();
    assert_eq!(gone, 2);
    let gone = s.write_blocking(|c| events::purge(c, Retention { keep: None, before: Some(at(1)) })).unwrap();
    assert_eq!(gone, 1);
    assert_eq!(s.write_blocking(|c| events::append(c, &event(None, "d"))).unwrap(), 4);
}

pub fn what_is_too_much_is_thrown_away_in_pieces(s: Store) {
    let n = put(&s, node("n"));
    let kept = |since, events, steps| retain::Kept { since: at(since), events, steps };
    for _ in 0..3 {
        let many = vec![event(Some(n.uuid), "a"); 1_500];
        s.write_blocking(move |c| events::append_all(c, &many)).unwrap();
    }
    let purge = |rules| s.write_blocking(move |c| retain::purge_piece(c, rules)).unwrap();
    let rules = kept(0, 100, 10);
    assert_eq!((purge(rules), purge(rules), purge(rules), purge(rules)), (2_000, 2_000, 400, 0));
    let left = s.read_blocking(|c| events::after(c, 0, 1_000)).unwrap();
    assert_eq!((left.len(), left[0].seq), (100, 4_401), "the last ones stay");
}

pub fn a_reader_of_the_log_misses_nothing(s: Store) {
    const WRITERS: i64 = 4;
    const EACH: i64 = 25;
    std::thread::scope(|scope| {
        for w in 0..WRITERS {
            let s = s.clone();
            scope.spawn(move || {
                for i in 0..EACH {
                    s.write_blocking(move |c| events::append(c, &event(None, &format!("{w}-{i}")))).unwrap();
                }
            });
        }
        // reads on while they write, as the live stream does: the next batch must always go on where the last ended
        let (mut seen, end) = (0, std::time::Instant::now() + std::time::Duration::from_secs(60));
        while seen < WRITERS * EACH {
            assert!(std::time::Instant::now() < end, "stuck at {seen}");
            for e in s.read_blocking(|c| events::after(c, seen, 7)).unwrap() {
                assert_eq!(e.seq, seen + 1, "a number was skipped");
                seen = e.seq;
            }
        }
    });
}

fn step(node: Uuid, op: Uuid, idx: i32) -> NewStep {
    NewStep {
        node_uuid: node,
        op,
        kind: "deploy".into(),
        idx,
        interface: "deploy".into(),
        step: format!("step{idx}"),
        priority: 100 - idx,
        abortable: idx == 1,
        args: object(json!({"i": idx})),
        resume: "rerun".into(),
        source: "agent".into(),
        argsinfo: object(json!({"i": {"required": true}})),
        requires_ramdisk: idx == 0,
    }
}

pub fn the_journal_tells_where_an_operation_was(s: Store) {
    let node = put(&s, node("n")).uuid;
    let (op, other) = (Uuid::new_v4(), put(&s, super::node("o")).uuid);
    let rows = s
        .write_blocking(move |c| {
            let rows = journal::plan(c, &[step(node, op, 0), step(node, op, 1), step(node, op, 2)])?;
            journal::start(c, rows[0].id, at(1))?;
            journal::end(c, rows[0].id, StepState::Done, at(2), None)?;
            journal::start(c, StepKey::At { op, idx: 1 }, at(3))?;
            journal::checkpoint(c, rows[1].id, "4096")?;
            Ok(rows)
        })
        .unwrap();
    let open = s.read_blocking(|c| journal::open_of_node(c, node)).unwrap();
    assert_eq!(
        open.iter().map(|r| r.state).collect::<Vec<_>>(),
        [StepState::Done, StepState::Running, StepState::Pending]
    );
    assert_eq!(open[1].checkpoint.as_deref(), Some("4096"));
    assert_eq!((open[0].started_at, open[0].ended_at), (Some(at(1)), Some(at(2))));
    assert_eq!(open[1].args.get("i"), Some(json!(1)));
    assert!(s.read_blocking(|c| journal::open_of_node(c, other)).unwrap().is_empty());
    assert_eq!(s.read_blocking(journal::open_nodes).unwrap(), [node]);

    let id = rows[1].id;
    s.write_blocking(move |c| journal::end(c, id, StepState::Failed, at(4), Some("no disk"))).unwrap();
    assert_eq!(
        s.write_blocking(move |c| journal::close_operation(c, op, StepState::Aborted, at(5))).unwrap(),
        1
    );
    assert!(s.read_blocking(|c| journal::open_of_node(c, node)).unwrap().is_empty());
    let all = s.read_blocking(|c| journal::of_operation(c, op)).unwrap();
    assert_eq!(
        all.iter().map(|r| r.state).collect::<Vec<_>>(),
        [StepState::Done, StepState::Failed, StepState::Aborted]
    );
    assert_eq!(all[1].error.as_deref(), Some("no disk"));
    let next = Uuid::new_v4();
    s.write_blocking(move |c| journal::plan(c, &[step(node, next, 0)])).unwrap();
    let latest = |n| s.read_blocking(move |c| journal::latest_of_node(c, node, n)).unwrap();
    assert_eq!(latest(1).iter().map(|r| (r.op, r.idx)).collect::<Vec<_>>(), [(next, 0)]);
    let both: Vec<_> = latest(9).iter().map(|r| (r.op, r.idx)).collect();
    assert_eq!(
        both,
        [(next, 0), (op, 0), (op, 1), (op, 2)],
        "the latest operation first, its steps in order"
    );
    let e = s.write_blocking(|c| journal::start(c, 999, at(1))).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
    assert_eq!(s.write_blocking(|c| journal::purge(c, at(5))).unwrap(), 2, "the one that ended at 5 s stays");
}

pub fn a_better_plan_replaces_what_is_pending(s: Store) {
    let n = put(&s, node("n"));
    let (id, op) = (n.uuid, Uuid::new_v4());
    let first = Commit {
        journal: vec![
            JournalChange::Plan((0..4).map(|idx| step(id, op, idx)).collect()),
            JournalChange::Start(StepKey::At { op, idx: 1 }),
        ],
        events: vec![],
        also: vec![],
        node: n,
        columns: Columns::All,
        now: at(1),
    };
    let done = s.write_blocking(move |c| commit(c, &first)).unwrap();
    let steps = s.read_blocking(|c| journal::of_operation(c, op)).unwrap();
    assert_eq!(steps[0].source, "agent");
    assert_eq!(steps[0].argsinfo.as_str(), r#"{"i":{"required":true}}"#);
    assert!(steps[0].requires_ramdisk && !steps[1].requires_ramdisk);
    let better = |idx| NewStep { step: format!("better{idx}"), ..step(id, op, idx) };
    let second = Commit {
        journal: vec![
            JournalChange::Drop { op, from: 1 },
            JournalChange::Plan(vec![better(2), better(3), better(4)]),
        ],
        events: vec![],
        also: vec![],
        node: done.node,
        columns: Columns::All,
        now: at(2),
    };
    s.write_blocking(move |c| commit(c, &second)).unwrap();
    let rows = s.read_blocking(|c| journal::of_operation(c, op)).unwrap();
    let names: Vec<_> = rows.iter().map(|r| r.step.as_str()).collect();
    assert_eq!(names, ["step0", "step1", "better2", "better3", "better4"], "what runs stays");
}

pub fn what_steps_took_is_known_by_step(s: Store) {
    let id = put(&s, node("n")).uuid;
    for (took, state) in [(10, StepState::Done), (20, StepState::Done), (500, StepState::Failed)] {
        let op = Uuid::new_v4();
        s.write_blocking(move |c| {
            journal::plan(c, &[step(id, op, 0), step(id, op, 1)])?;
            journal::start(c, StepKey::At { op, idx: 0 }, at(0))?;
            journal::end(c, StepKey::At { op, idx: 0 }, state, at(took), None)
        })
        .unwrap();
    }
    let all = s.read_blocking(journal::durations).unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    let one = &all[0];
    assert_eq!((one.kind.as_str(), one.interface.as_str(), one.step.as_str()), ("deploy", "deploy", "step0"));
    assert_eq!((one.mean, one.count), (std::time::Duration::from_secs(15), 2));
}

fn line(node: Uuid, event: &str, now: Timestamp) -> NewHistory {
    NewHistory::new(node, "host", "provision", Severity::Info, event, now)
}

pub fn a_commit_carries_ports_history_and_inventory(s: Store) {
    let (n, other) = (put(&s, node("n")), put(&s, node("o")).uuid);
    let id = n.uuid;
    let port = |node, mac: &str| Port::new(Uuid::new_v4(), node, mac, T0);
    let kept = s.write_blocking(move |c| ports::insert(c, &port(id, "52:54:00:00:00:01"))).unwrap();
    s.write_blocking(move |c| ports::insert(c, &port(other, "52:54:00:00:00:09"))).unwrap();
    let found = NewInventory {
        node: id,
        inventory_data: object(json!({"cpu": {"count": 4}})),
        plugin_data: object(json!({"x": 1})),
    };
    let with = |node: Node, also| Commit {
        node,
        columns: Columns::All,
        events: vec![],
        journal: vec![],
        also,
        now: at(5),
    };
    let (new, changed) = (port(id, "52:54:00:00:00:02"), Port { pxe_enabled: false, ..kept.clone() });
    let again = Port::new(Uuid::new_v4(), id, "52:54:00:00:00:01", T0);
    let change = with(
        n,
        vec![
            Also::Inventory(found),
            Also::Port(again),
            Also::Port(new.clone()),
            Also::ChangePort(changed),
            Also::History(NewHistory { user: Some("me".into()), ..line(id, "inspected", at(5)) }),
        ],
    );
    let done = s.write_blocking(move |c| commit(c, &change)).unwrap();
    let seen: Vec<_> = done.ports.iter().map(|p| (p.uuid, p.generation, p.pxe_enabled)).collect();
    assert_eq!(
        seen,
        [(new.uuid, 0, true), (kept.uuid, 1, false)],
        "the one that was there is not made again"
    );
    assert_eq!(s.read_blocking(|c| ports::of_node(c, id)).unwrap().len(), 2);
    let stored = s.read_blocking(|c| inventory::get(c, id)).unwrap().unwrap();
    assert_eq!((stored.created_at, stored.plugin_data.get("x")), (at(5), Some(json!(1))));
    let lines = s.read_blocking(|c| history::of_node(c, id, &HistoryQuery::default())).unwrap();
    assert_eq!((lines[0].event.as_str(), lines[0].user.as_deref()), ("inspected", Some("me")));

    let traits = Also::Traits(id, vec!["CUSTOM_B".into(), "CUSTOM_A".into()]);
    let fewer = with(done.node, vec![Also::PortGone(new.uuid), traits]);
    let done = s.write_blocking(move |c| commit(c, &fewer)).unwrap();
    assert_eq!((done.ports.len(), done.ports_gone.as_slice()), (0, &[new.uuid][..]));
    assert_eq!(s.read_blocking(|c| ports::of_node(c, id)).unwrap().len(), 1);
    assert_eq!(s.read_blocking(|c| nodes::traits(c, id)).unwrap(), ["CUSTOM_A", "CUSTOM_B"]);

    let theirs = with(
        done.node.clone(),
        vec![Also::History(line(id, "kept", at(6))), Also::Port(port(id, "52:54:00:00:00:09"))],
    );
    let done = s.write_blocking(move |c| commit(c, &theirs)).unwrap();
    assert_eq!(done.ports_taken[0].0, "52:54:00:00:00:09", "another node's card stays where it is");
    assert!(done.ports.is_empty());
    assert_eq!(s.read_blocking(|c| history::of_node(c, id, &HistoryQuery::default())).unwrap().len(), 2);

    // what the database refuses takes everything with it
    let gone =
        with(done.node.clone(), vec![Also::History(line(id, "lost", at(7))), Also::PortGone(new.uuid)]);
    s.write_blocking(move |c| commit(c, &gone)).unwrap_err();
    assert_eq!(fetch(&s, id), Some(done.node), "nothing of it stays");
    assert_eq!(s.read_blocking(|c| history::of_node(c, id, &HistoryQuery::default())).unwrap().len(), 2);
}

pub fn a_history_pages_and_forgets(s: Store) {
    let (a, b) = (put(&s, node("a")).uuid, put(&s, node("b")).uuid);
    s.write_blocking(move |c| {
        for i in 0..6 {
            let severity = if i % 2 == 0 { Severity::Error } else { Severity::Info };
            let conductor = (i != 3).then(|| format!("host{}", i % 2));
            history::insert(c, &NewHistory { severity, conductor, ..line(a, &format!("a{i}"), at(i)) })?;
            history::insert(c, &line(b, &format!("b{i}"), at(i)))?;
        }
        Ok(())
    })
    .unwrap();
    let page = |q: HistoryQuery| s.read_blocking(move |c| history::of_node(c, a, &q)).unwrap();
    for sort_key in HistorySort::ALL {
        for sort_dir in [SortDir::Asc, SortDir::Desc] {
            let all = page(HistoryQuery { sort_key, sort_dir, ..HistoryQuery::default() });
            let (mut seen, mut marker) = (Vec::new(), None);
            loop {
                let part = page(HistoryQuery { sort_key, sort_dir, limit: Some(2), marker });
                let Some(last) = part.last() else { break };
                marker = Some(last.uuid);
                seen.extend(part);
            }
            assert_eq!(seen, all, "{sort_key:?} {sort_dir:?}");
            assert_eq!(HistorySort::from_name(sort_key.as_str()), Some(sort_key));
        }
    }
    let theirs = s.read_blocking(move |c| history::of_node(c, b, &HistoryQuery::default())).unwrap()[0].uuid;
    assert!(s.read_blocking(move |c| history::get(c, a, theirs)).unwrap().is_none(), "another node's");
    let q = HistoryQuery { marker: Some(theirs), ..HistoryQuery::default() };
    let e = s.read_blocking(move |c| history::of_node(c, a, &q)).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
    let gone = s.write_blocking(|c| history::purge(c, 2, at(3))).unwrap();
    assert_eq!(gone, 6, "0, 1, 2 of each: 3 is too young to go");
    assert_eq!(s.write_blocking(|c| history::purge(c, 2, at(100))).unwrap(), 2);
    let left: Vec<_> = page(HistoryQuery::default()).into_iter().map(|h| h.event).collect();
    assert_eq!(left, ["a4", "a5"]);
    s.write_blocking(move |c| nodes::delete(c, a)).unwrap();
    assert!(page(HistoryQuery::default()).is_empty());
    let e = s.write_blocking(move |c| history::insert(c, &line(a, "late", at(1)))).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}

pub fn an_inventory_is_replaced_and_goes_with_its_node(s: Store) {
    let id = put(&s, node("n")).uuid;
    let found = move |n: i32| NewInventory {
        node: id,
        inventory_data: object(json!({ "n": n })),
        plugin_data: JsonText::default(),
    };
    assert!(s.read_blocking(|c| inventory::get(c, id)).unwrap().is_none());
    s.write_blocking(move |c| inventory::put(c, &found(1), at(1))).unwrap();
    s.write_blocking(move |c| inventory::put(c, &found(2), at(2))).unwrap();
    let stored = s.read_blocking(|c| inventory::get(c, id)).unwrap().unwrap();
    assert_eq!(
        (stored.inventory_data.get("n"), stored.created_at, stored.updated_at),
        (Some(json!(2)), at(1), Some(at(2)))
    );
    assert!(s.write_blocking(move |c| inventory::delete(c, id)).unwrap());
    assert!(!s.write_blocking(move |c| inventory::delete(c, id)).unwrap());
    s.write_blocking(move |c| inventory::put(c, &found(3), at(3))).unwrap();
    s.write_blocking(move |c| nodes::delete(c, id)).unwrap();
    assert!(s.read_blocking(|c| inventory::get(c, id)).unwrap().is_none());
    let e = s.write_blocking(move |c| inventory::put(c, &found(4), at(4))).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}

pub fn a_commit_is_all_or_nothing(s: Store) {
    let n = put(&s, node("n"));
    let op = Uuid::new_v4();
    let change = |node: Node, now: Timestamp| Commit {
        events: vec![event(Some(node.uuid), "state"), event(Some(node.uuid), "plan")],
        journal: vec![
            JournalChange::Plan(vec![step(node.uuid, op, 0)]),
            JournalChange::Start(StepKey::At { op, idx: 0 }),
            JournalChange::Checkpoint(StepKey::At { op, idx: 0 }, "half".into()),
        ],
        also: vec![Also::History(line(node.uuid, "begun", now))],
        node,
        columns: Columns::All,
        now,
    };
    let first = change(Node { provision_state: State::Deploying, ..n.clone() }, at(1));
    let done = s.write_blocking(move |c| commit(c, &first)).unwrap();
    assert_eq!((done.node.generation, done.event_seqs.as_slice()), (1, &[1, 2][..]));
    assert_eq!(s.read_blocking(|c| journal::of_operation(c, op)).unwrap().len(), 1);
    let late = change(n.clone(), at(2));
    let e = s.write_blocking(move |c| commit(c, &late)).unwrap_err();
    assert!(matches!(e, StoreError::Stale { .. }), "{e:?}");
    // the row passes, the journal does not: nothing may stay
    let twice = change(done.node.clone(), at(3));
    s.write_blocking(move |c| commit(c, &twice)).unwrap_err();
    assert_eq!(fetch(&s, n.uuid), Some(done.node.clone()));
    assert_eq!(s.read_blocking(events::last_seq).unwrap(), 2);
    let id = n.uuid;
    assert_eq!(s.read_blocking(move |c| history::of_node(c, id, &HistoryQuery::default())).unwrap().len(), 1);
    let end = Commit {
        journal: vec![
            JournalChange::End { key: StepKey::At { op, idx: 0 }, state: StepState::Done, error: None },
            JournalChange::Close { op, state: StepState::Aborted },
        ],
        events: vec![],
        also: vec![],
        node: done.node,
        columns: Columns::All,
        now: at(4),
    };
    s.write_blocking(move |c| commit(c, &end)).unwrap();
    let rows = s.read_blocking(|c| journal::of_operation(c, op)).unwrap();
    assert_eq!((rows[0].state, rows[0].checkpoint.as_deref()), (StepState::Done, Some("half")));
}

pub fn a_failing_or_panicking_write_rolls_back_alone(s: Store) {
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..24)
            .map(|i| {
                let s = s.clone();
                scope.spawn(move || {
                    s.write_blocking(move |c| {
                        nodes::insert(c, &node(&format!("n{i}")))?;
                        match i % 3 {
                            0 => Ok(()),
                            1 => Err(StoreError::NotFound { what: "on purpose".into() }),
                            _ => diesel::Connection::transaction(c, |_| -> Result<(), StoreError> {
                                std::panic::resume_unwind(Box::new("on purpose"))
                            }),
                        }
                    })
                })
            })
            .collect();
        all.into_iter().map(|t| t.join().unwrap_or(Err(StoreError::Panicked))).collect()
    });
    for (i, outcome) in outcomes.iter().enumerate() {
        match (i % 3, outcome) {
            (0, Ok(())) | (1, Err(StoreError::NotFound { .. })) | (2, Err(StoreError::Panicked)) => {}
            other => panic!("{other:?}"),
        }
    }
    let mut kept: Vec<usize> =
        names(&s, &NodeQuery::default()).iter().map(|n| n[1..].parse().unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept, [0, 3, 6, 9, 12, 15, 18, 21]);
    put(&s, node("after"));
}

pub fn traits_are_a_set(s: Store) {
    let (a, b) = (put(&s, node("a")).uuid, put(&s, node("b")).uuid);
    let set = |id: Uuid, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        s.write_blocking(move |c| nodes::set_traits(c, id, &names))
    };
    set(a, &["CUSTOM_B", "CUSTOM_A", "CUSTOM_B"]).unwrap();
    set(b, &["CUSTOM_C"]).unwrap();
    assert_eq!(s.read_blocking(|c| nodes::traits(c, a)).unwrap(), ["CUSTOM_A", "CUSTOM_B"]);
    assert_eq!(s.read_blocking(|c| nodes::traits(c, b)).unwrap(), ["CUSTOM_C"]);
    let add = |name: &'static str| s.write_blocking(move |c| nodes::add_trait(c, a, name)).unwrap();
    let remove = |name: &'static str| s.write_blocking(move |c| nodes::remove_trait(c, a, name)).unwrap();
    assert_eq!(
        (add("CUSTOM_0"), add("CUSTOM_0"), remove("CUSTOM_B"), remove("CUSTOM_B")),
        (true, false, true, false)
    );
    assert_eq!(s.read_blocking(|c| nodes::traits(c, a)).unwrap(), ["CUSTOM_0", "CUSTOM_A"]);
    set(a, &[]).unwrap();
    assert!(s.read_blocking(|c| nodes::traits(c, a)).unwrap().is_empty());
    let e = set(Uuid::new_v4(), &["CUSTOM_A"]).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}

pub fn a_change_writes_what_differs_and_nothing_else(s: Store) {
    let n = put(&s, node("n"));
    let worked = Node {
        driver_internal_info: JsonText::from_text(r#"{"agent_url":"u"}"#).unwrap(),
        deploy_step: JsonText::from_text(r#"{"step":"deploy"}"#).unwrap(),
        clean_step: JsonText::from_text(r#"{"step":"clean"}"#).unwrap(),
        service_step: JsonText::from_text(r#"{"step":"service"}"#).unwrap(),
        power_state: Some(PowerState::On),
        target_power_state: Some(PowerState::Off),
        last_error: Some("e".into()),
        reservation: Some("host".into()),
        inspection_started_at: Some(at(3)),
        inspection_finished_at: Some(at(4)),
        boot_mode: Some(BootMode::Uefi),
        secure_boot: Some(true),
        ..n.clone()
    };
    let moved = Node {
        provision_state: State::Deploying,
        target_provision_state: Some(State::Active),
        provision_updated_at: Some(at(5)),
        last_error: None,
        ..worked.clone()
    };
    let named = Node { extra: JsonText::from_text(r#"{"a":1}"#).unwrap(), ..moved.clone() };
    let mut stored = n;
    for (wanted, columns) in [(worked, Columns::Work), (moved, Columns::Moved), (named, Columns::All)] {
        let next = Node { generation: stored.generation, ..wanted };
        assert_eq!(Columns::between(&stored, &next), columns);
        let written = next.clone();
        stored = s.write_blocking(move |c| nodes::advance_columns(c, &written, columns, at(9))).unwrap();
        assert_eq!(stored, Node { generation: next.generation + 1, updated_at: Some(at(9)), ..next });
        assert_eq!(fetch(&s, stored.uuid), Some(stored.clone()), "{columns:?}");
    }
    let late = Node { generation: 0, ..stored.clone() };
    for columns in [Columns::Work, Columns::Moved, Columns::All] {
        let late = late.clone();
        let e = s.write_blocking(move |c| nodes::advance_columns(c, &late, columns, at(9))).unwrap_err();
        assert!(matches!(e, StoreError::Stale { .. }), "{e:?}");
    }
}
