//! The promises of what is remembered of a machine's firmware. Kept by both databases.

use ferric_schema::{
    Also, Columns, Commit, JsonList, Store, StoreError,
    bios::{self, Attribute, NewSetting},
    commit,
    firmware::{self, NewComponent},
    nodes,
};
use serde_json::json;

use super::{at, node, put};

fn setting(name: &str, value: &str) -> NewSetting {
    NewSetting { name: name.into(), value: Some(value.into()), attribute: Attribute::default() }
}

pub fn bios_settings_are_replaced_and_what_is_the_same_keeps_its_time(s: Store) {
    let n = put(&s, node("n"));
    let id = n.uuid;
    let values = JsonList::from([json!("on"), json!("off")].as_slice());
    let rich = NewSetting {
        attribute: Attribute {
            attribute_type: Some("Enumeration".into()),
            allowable_values: Some(values),
            lower_bound: Some(-1),
            max_length: Some(9),
            min_length: Some(1),
            read_only: Some(false),
            reset_required: Some(true),
            unique: None,
            upper_bound: Some(i64::MAX),
        },
        ..setting("virt", "on")
    };
    let seen = vec![rich.clone(), setting("numa", "1"), setting("gone", "x")];
    let first = Commit {
        node: n,
        columns: Columns::All,
        events: vec![],
        journal: vec![],
        also: vec![Also::Bios(seen)],
        now: at(1),
    };
    s.write_blocking(move |c| commit(c, &first)).unwrap();
    let all = s.read_blocking(|c| bios::of_node(c, id)).unwrap();
    assert_eq!(all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["gone", "numa", "virt"]);
    assert_eq!((&all[2].attribute, all[2].created_at, all[2].updated_at), (&rich.attribute, at(1), None));
    let seen = [rich, setting("numa", "0"), setting("new", "y")];
    s.write_blocking(move |c| bios::replace(c, id, &seen, at(2))).unwrap();
    let told: Vec<_> = s
        .read_blocking(|c| bios::of_node(c, id))
        .unwrap()
        .into_iter()
        .map(|one| (one.name, one.value.unwrap(), one.created_at, one.updated_at))
        .collect();
    let row =
        |name: &str, value: &str, created, updated| (name.to_owned(), value.to_owned(), created, updated);
    assert_eq!(
        told,
        [row("new", "y", at(2), None), row("numa", "0", at(1), Some(at(2))), row("virt", "on", at(1), None)]
    );
    let one = s.read_blocking(|c| bios::get(c, id, "numa")).unwrap().unwrap();
    assert_eq!(one.value.as_deref(), Some("0"));
    assert!(s.read_blocking(|c| bios::get(c, id, "gone")).unwrap().is_none());
    s.write_blocking(move |c| nodes::delete(c, id)).unwrap();
    assert!(s.read_blocking(|c| bios::of_node(c, id)).unwrap().is_empty());
    let e = s.write_blocking(move |c| bios::replace(c, id, &[setting("a", "b")], at(3))).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}

pub fn firmware_remembers_its_first_and_last_version(s: Store) {
    let id = put(&s, node("n")).uuid;
    let seen = |component: &str, version: &str, vendor: Option<&str>| NewComponent {
        component: component.into(),
        current_version: Some(version.into()),
        vendor: vendor.map(str::to_owned),
        ..NewComponent::default()
    };
    let first = [seen("bmc", "1", None), seen("bios", "a", None)];
    s.write_blocking(move |c| firmware::merge(c, id, &first, at(1))).unwrap();
    let second = [seen("bmc", "2", None), seen("nic:1", "9", Some("acme"))];
    s.write_blocking(move |c| firmware::merge(c, id, &second, at(2))).unwrap();
    let same = [seen("bmc", "2", None), seen("nic:1", "9", Some("acme"))];
    s.write_blocking(move |c| firmware::merge(c, id, &same, at(3))).unwrap();
    let all = s.read_blocking(|c| firmware::of_node(c, id)).unwrap();
    let names: Vec<_> = all.iter().map(|one| one.component.as_str()).collect();
    assert_eq!(names, ["bios", "bmc", "nic:1"], "what was not seen again stays");
    let bmc = &all[1];
    assert_eq!(
        (
            bmc.initial_version.as_str(),
            bmc.current_version.as_deref(),
            bmc.last_version_flashed.as_deref(),
            bmc.created_at,
            bmc.updated_at
        ),
        ("1", Some("2"), Some("2"), at(1), Some(at(2)))
    );
    assert_eq!((all[0].last_version_flashed.as_deref(), all[0].updated_at), (None, None));
    // another device of the same version: only its identity is written
    let other = [seen("nic:1", "9", Some("other"))];
    s.write_blocking(move |c| firmware::merge(c, id, &other, at(4))).unwrap();
    let nic = s.read_blocking(|c| firmware::of_node(c, id)).unwrap().remove(2);
    assert_eq!((nic.vendor.as_deref(), nic.last_version_flashed), (Some("other"), None));
    s.write_blocking(move |c| nodes::delete(c, id)).unwrap();
    assert!(s.read_blocking(|c| firmware::of_node(c, id)).unwrap().is_empty());
    let e = s.write_blocking(move |c| firmware::merge(c, id, &[seen("a", "b", None)], at(3))).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}
