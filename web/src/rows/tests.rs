//! What a list says is compared, byte by byte, with what the views of whole nodes say.

use std::sync::Arc;

use ferric_machine::{BootMode, Fault, PowerState};
use ferric_schema::allocations::{self, Allocation};
use ferric_schema::{JsonText, Node, NodeSort, SortDir, Store, StoreOptions, nodes};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::policy::{Identity, Policy};
use crate::query::all_fields;
use crate::version::Version;
use crate::views::{Collection, NodeView};

const SECRETS: &str = r#"{"a":{"b":[1,2.5,null,"x\ny"]},"ipmi_address":"10.0.0.1","ipmi_password":"hunter2","u":"http://a:b@h/","é":"ü\u0001"}"#;

/// A node of which no field is as it is by default.
fn full(at: i64) -> Node {
    let text = |name: &str| Some(format!("{name} \"{at}\" \\ \n\t\u{8}\u{c}\r\u{1f} é €"));
    let object =
        |name: &str| JsonText::from_text(SECRETS.replace("\"a\"", &format!("\"{name}\""))).expect("JSON");
    let id = |n: u128| Some(Uuid::from_u128((at as u128) << 64 | n));
    let moment = |n: i64| Some(Timestamp(1_700_000_000_000_000 + at * 1_000_000 + n));
    Node {
        updated_at: moment(1),
        name: Some(format!("node-{at}")),
        driver_info: object("driver_info"),
        driver_internal_info: object("driver_internal_info"),
        properties: object("properties"),
        extra: object("extra"),
        instance_info: object("instance_info"),
        instance_uuid: id(7),
        instance_name: text("instance_name"),
        provision_state: State::InspectWait,
        target_provision_state: Some(State::Available),
        provision_updated_at: moment(0),
        power_state: Some(PowerState::On),
        target_power_state: Some(PowerState::Off),
        last_error: text("last_error"),
        reservation: text("reservation"),
        maintenance: true,
        maintenance_reason: text("maintenance_reason"),
        fault: Fault::ALL.first().copied(),
        console_enabled: true,
        raid_config: object("raid_config"),
        target_raid_config: object("target_raid_config"),
        inspection_started_at: moment(999_999),
        inspection_finished_at: moment(-1),
        clean_step: object("clean_step"),
        deploy_step: object("deploy_step"),
        service_step: object("service_step"),
        boot_interface: text("boot"),
        console_interface: text("console"),
        deploy_interface: text("deploy"),
        inspect_interface: text("inspect"),
        management_interface: text("management"),
        power_interface: text("power"),
        raid_interface: text("raid"),
        vendor_interface: text("vendor"),
        network_interface: text("network"),
        storage_interface: text("storage"),
        rescue_interface: text("rescue"),
        bios_interface: text("bios"),
        firmware_interface: text("firmware"),
        resource_class: text("class"),
        conductor_group: "rack".to_owned(),
        automated_clean: Some(false),
        protected: true,
        protected_reason: text("protected"),
        retired: true,
        retired_reason: text("retired"),
        owner: Some(format!("project-{}", at % 3)),
        lessee: Some(format!("project-{}", at % 2)),
        description: text("description"),
        network_data: object("network_data"),
        shard: text("shard"),
        parent_node: id(9),
        disable_power_off: true,
        boot_mode: Some(BootMode::Uefi),
        secure_boot: Some(true),
        health: text("health"),
        ..Node::new(id(1).expect("an id"), "ipmi", Timestamp(1_600_000_000_000_000))
    }
}

struct World {
    _dir: tempfile::TempDir,
    store: Store,
    nodes: Vec<Node>,
}

fn traits_of(at: usize) -> Vec<String> {
    (0..at % 4).map(|n| format!("CUSTOM_{}", 9 - n)).collect()
}

/// More nodes than one piece of the answer holds: empty ones, full ones, and what is between.
fn world() -> World {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("ferric.db");
    let store = Store::open(&StoreOptions::new(path.to_str().expect("UTF-8"))).expect("a store");
    let nodes = (1..=40_i64).map(|at| {
        let empty = Node::new(Uuid::from_u128(at as u128), "fake-hardware", Timestamp(at));
        match at % 4 {
            0 => empty,
            1 => Node { owner: Some("project-1".to_owned()), provision_state: State::Available, ..empty },
            _ => full(at),
        }
    });
    let nodes: Vec<Node> = nodes.collect();
    let rows = nodes.clone();
    let stored = store.write_blocking(move |c| {
        let mut stored = Vec::new();
        for (at, node) in rows.iter().enumerate() {
            stored.push(nodes::insert(c, node)?);
            nodes::set_traits(c, node.uuid, &traits_of(at))?;
            if at % 5 == 0 {
                let mut new = Allocation::new(allocation_of(at), Timestamp(0));
                new.resource_class = Some("x".to_owned());
                new.node_uuid = Some(node.uuid);
                allocations::insert(c, &new)?;
            }
        }
        Ok(stored)
    });
    World { _dir: dir, store, nodes: stored.expect("stored") }
}

fn allocation_of(at: usize) -> Uuid {
    Uuid::from_u128(1 << 100 | at as u128)
}

fn conductor_of(driver: &str, group: &str) -> Option<String> {
    (driver == "ipmi").then(|| format!("host of {group}"))
}

fn whole(text: Pieces) -> String {
    let mut all = Vec::new();
    let size = text.bytes;
    let largest = text.done.iter().map(Bytes::len).max().unwrap_or(0);
    assert!(largest < 2 * PIECE, "{largest}");
    text.done.iter().for_each(|piece| all.extend_from_slice(piece));
    assert_eq!(size, all.len() as u64);
    String::from_utf8(all).expect("UTF-8")
}

fn callers() -> Vec<(&'static str, Caller)> {
    let policy = Arc::new(Policy::load(None, None).expect("the table"));
    let token = |system: bool, project: Option<&str>, role: &str| Caller::Token {
        identity: Arc::new(Identity {
            system_scope: system.then(|| "all".to_owned()),
            project_id: project.map(str::to_owned),
            roles: [role.to_owned()].into(),
            ..Identity::default()
        }),
        policy: policy.clone(),
    };
    vec![
        ("nobody asks", Caller::Admin),
        ("a password file", Caller::User("u".into())),
        ("system reader", token(true, None, "reader")),
        ("system admin", token(true, None, "admin")),
        ("a project's admin", token(false, Some("project-1"), "admin")),
        ("a project's member", token(false, Some("project-1"), "member")),
        ("a project's reader", token(false, Some("project-0"), "reader")),
        ("a project without nodes", token(false, Some("project-9"), "reader")),
    ]
}

#[test]
fn a_list_says_what_the_views_of_its_nodes_say() {
    let world = world();
    let query = || NodeQuery { include_children: true, limit: Some(1000), ..NodeQuery::default() };
    for (who, caller) in callers() {
        for minor in [1, 2, 38, 39, 52, 115] {
            let version = Version(minor);
            let base = "http://h:1/\"x\"".to_owned();
            let context = Context { version, base, caller: caller.clone(), operation: None };
            let all = all_fields::<NodeField>(version);
            let mut selections = vec![all.clone(), NodeField::LISTED.to_vec()];
            selections.extend(all.iter().map(|field| vec![*field, NodeField::Links]));
            for fields in selections {
                let read = world
                    .store
                    .read_blocking(|c| {
                        page(c, Some(&query()), &fields, true, &context, Box::new(conductor_of))
                    })
                    .expect("a page");
                assert_eq!(
                    (read.count, read.last.clone()),
                    (40, world.nodes.last().map(|n| n.uuid.to_string()))
                );
                let next = Some("http://h/?a=\"b\"".to_owned());
                let traits: Vec<Vec<String>> = (0..40)
                    .map(|at| {
                        let mut names = traits_of(at);
                        names.sort_unstable();
                        names
                    })
                    .collect();
                let conductors: Vec<Option<String>> = world
                    .nodes
                    .iter()
                    .map(|node| conductor_of(&node.driver, &node.conductor_group))
                    .collect();
                let items: Vec<NodeView<'_>> = world
                    .nodes
                    .iter()
                    .enumerate()
                    .map(|(at, node)| NodeView {
                        node,
                        fields: &fields,
                        context: &context,
                        traits: &traits[at],
                        conductor: conductors[at].as_deref(),
                        allocation: (at % 5 == 0).then(|| allocation_of(at)),
                    })
                    .collect();
                let expected =
                    serde_json::to_string(&Collection { name: "nodes", items: &items, next: next.clone() })
                        .expect("JSON");
                let told = whole(read.text.end(next.as_deref()));
                assert!(told == expected, "{who}, 1.{minor}, {fields:?}:\n{told}\n{expected}");
            }
        }
    }
}

#[test]
fn an_empty_page_and_no_page_are_empty_lists() {
    let world = world();
    let context =
        Context { version: Version::MAX, base: String::new(), caller: Caller::Admin, operation: None };
    let fields = all_fields::<NodeField>(Version::MAX);
    let nobody = NodeQuery { driver: Some("none".to_owned()), ..NodeQuery::default() };
    for query in [None, Some(&nobody)] {
        let read =
            world.store.read_blocking(|c| page(c, query, &fields, true, &context, Box::new(conductor_of)));
        let read = read.expect("a page");
        assert_eq!((read.count, read.last), (0, None));
        assert_eq!(whole(read.text.end(None)), json!({"nodes": []}).to_string());
    }
}

#[test]
fn pages_of_every_order_go_through_all_nodes_once() {
    let world = world();
    let context =
        Context { version: Version::MAX, base: String::new(), caller: Caller::Admin, operation: None };
    for key in [NodeSort::Id, NodeSort::Name, NodeSort::Owner, NodeSort::ProvisionState, NodeSort::CreatedAt]
    {
        for dir in [SortDir::Asc, SortDir::Desc] {
            let mut seen = Vec::new();
            let mut marker = None;
            loop {
                let query = NodeQuery {
                    include_children: true,
                    sort_key: key,
                    sort_dir: dir,
                    limit: Some(7),
                    marker,
                    ..NodeQuery::default()
                };
                let read = world.store.read_blocking(|c| {
                    page(c, Some(&query), &[NodeField::Uuid], false, &context, Box::new(conductor_of))
                });
                let read = read.expect("a page");
                let Some(last) = read.last.clone() else { break };
                let text: serde_json::Value =
                    serde_json::from_str(&whole(read.text.end(None))).expect("JSON");
                let ids = text["nodes"].as_array().expect("nodes").iter();
                seen.extend(ids.map(|node| node["uuid"].as_str().expect("a uuid").to_owned()));
                assert_eq!(seen.last(), Some(&last));
                marker = Uuid::try_parse(&last).ok();
            }
            let mut all = seen.clone();
            all.sort_unstable();
            all.dedup();
            assert_eq!((seen.len(), all.len()), (40, 40), "{key:?} {dir:?}");
        }
    }
}
