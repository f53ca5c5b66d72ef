//! Allocations and VIFs through the actors: whoever asks for a node gets one that nobody else gets.

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use common::{Interfaces, World, settings};
use ferric_actors::NodeError;
use ferric_actors::message::{
    AttachVif, ChangePower, ChangeTraits, CreatePort, DetachVif, Release, Update, VifAsk,
};
use ferric_machine::{PowerTarget, State, Timestamp, Verb};
use ferric_schema::allocations::{self, Allocation, AllocationState};
use ferric_schema::{JsonList, Node, Port, Store, StoreError, StoreOptions};
use serde_json::json;
use uuid::Uuid;

/// An available node of class `bm` whose power state is known.
async fn free(world: &World, name: &str) -> Uuid {
    let id = world.available().await;
    let name = name.to_owned();
    let apply = Box::new(move |node: &mut Node| {
        node.resource_class = Some("bm".into());
        node.network_interface = Some("flat".into());
        node.name = Some(name);
        Ok(())
    });
    world.directory.ask(id, Update { apply, reset_interfaces: false }).await.expect("changed");
    let off = ChangePower { target: PowerTarget::Off, timeout: None };
    world.directory.ask(id, off).await.expect("accepted");
    world.until(id, "of known power", |node| node.power_state.is_some() && node.reservation.is_none()).await;
    id
}

fn asks() -> Allocation {
    Allocation { resource_class: Some("bm".into()), ..Allocation::new(Uuid::new_v4(), Timestamp(1)) }
}

async fn settled(world: &World, id: Uuid) -> Allocation {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let row = world.directory.store().read(move |conn| allocations::get(conn, id)).await.expect("read");
        let row = row.expect("there");
        if row.state != AllocationState::Allocating {
            return row;
        }
        assert!(Instant::now() < deadline, "still allocating");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn error_of(world: &World, asked: Allocation) -> String {
    let made = world.directory.create_allocation(asked, None).await.expect("written");
    assert_eq!(made.state, AllocationState::Allocating, "the answer comes before the work");
    let row = settled(world, made.uuid).await;
    assert_eq!(row.state, AllocationState::Error);
    let text = row.last_error.expect("a reason");
    let start = format!("Failed to process allocation {}: ", row.uuid);
    text.strip_prefix(&start).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[actix::test]
async fn of_many_allocations_each_gets_a_node_of_its_own_or_a_reason() {
    let world = World::new(Interfaces::default(), settings()).await;
    let mut nodes = HashSet::new();
    for i in 0..6 {
        nodes.insert(free(&world, &format!("n{i}")).await);
    }
    let makes = (0..10).map(|_| world.directory.create_allocation(asks(), None));
    let made = futures_util::future::join_all(makes).await;
    let mut got = HashSet::new();
    let mut lost = 0;
    for one in made {
        let row = settled(&world, one.expect("written").uuid).await;
        match row.node_uuid {
            Some(node) => {
                assert_eq!(row.state, AllocationState::Active);
                assert_eq!(world.node(node).await.instance_uuid, Some(row.uuid));
                assert!(got.insert(node), "{node} was given away twice");
            }
            None => {
                lost += 1;
                assert!(row.last_error.is_some());
            }
        }
    }
    assert_eq!((got, lost), (nodes, 4));
}

#[actix::test]
async fn what_a_killed_process_left_allocating_gets_its_node() {
    let world = World::new(Interfaces::default(), settings()).await;
    let node = free(&world, "n").await;
    // the row is all that a POST leaves behind that was answered a moment before the end
    let asked = Allocation { conductor: "test-host".into(), ..asks() };
    let id = asked.uuid;
    world.directory.stop().await;
    let path = world.folder.path().join("ferric.sqlite");
    let store = Store::open(&StoreOptions::new(path.to_str().expect("UTF-8"))).expect("a database");
    store.write(move |conn| allocations::insert(conn, &asked)).await.expect("written");
    drop(store);
    let world = world.restarts(Interfaces::default(), settings()).await;
    let row = settled(&world, id).await;
    assert_eq!((row.state, row.node_uuid), (AllocationState::Active, Some(node)));
    assert_eq!(world.node(node).await.instance_uuid, Some(id));
}

#[actix::test]
async fn the_reason_says_what_is_missing() {
    let world = World::new(Interfaces::default(), settings()).await;
    let class = error_of(&world, asks()).await;
    assert_eq!(class, "no available nodes match the resource class bm.");
    let node = free(&world, "n").await;
    let traits = JsonList::from(&[json!("CUSTOM_A"), json!("CUSTOM_B")][..]);
    let missing = error_of(&world, Allocation { traits: traits.clone(), ..asks() }).await;
    assert_eq!(missing, "no suitable nodes have the requested traits CUSTOM_A, CUSTOM_B.");
    let among = JsonList::from(&[json!(Uuid::new_v4())][..]);
    let nobody = error_of(&world, Allocation { candidate_nodes: among, ..asks() }).await;
    assert_eq!(nobody, "none of the requested nodes are available and match the resource class bm.");
    let owned = error_of(&world, Allocation { owner: Some("p".into()), ..asks() }).await;
    assert_eq!(owned, "no available nodes match the resource class bm.");

    let names = vec!["CUSTOM_A".to_owned(), "CUSTOM_B".to_owned()];
    world.directory.ask(node, ChangeTraits::Set(names)).await.expect("set");
    let made =
        world.directory.create_allocation(Allocation { traits, ..asks() }, None).await.expect("written");
    assert_eq!(settled(&world, made.uuid).await.node_uuid, Some(node));
    let info = world.node(node).await.instance_info.parse();
    assert_eq!(info["traits"], json!(["CUSTOM_A", "CUSTOM_B"]), "what deploy templates go by");
}

#[actix::test]
async fn a_node_of_the_same_name_comes_first() {
    let world = World::new(Interfaces::default(), settings()).await;
    for name in ["a", "b", "c", "d"] {
        free(&world, name).await;
    }
    for name in ["c", "a"] {
        let asked = Allocation { name: Some(name.into()), ..asks() };
        let made = world.directory.create_allocation(asked, None).await.expect("written");
        let node = settled(&world, made.uuid).await.node_uuid.expect("a node");
        assert_eq!(world.node(node).await.name.as_deref(), Some(name));
    }
}

#[actix::test]
async fn an_allocation_and_its_vifs_live_as_long_as_the_instance() {
    let world = World::new(Interfaces::default(), settings()).await;
    let node = free(&world, "n").await;
    let port = Port::new(Uuid::new_v4(), node, "52:54:00:00:00:01", Timestamp(1));
    let id = port.uuid;
    let port = world.directory.ask(node, CreatePort { port, asked_to_boot: true }).await.expect("made");
    let made = world.directory.create_allocation(asks(), None).await.expect("written");
    let row = settled(&world, made.uuid).await;
    assert_eq!(row.node_uuid, Some(node));
    let vif = |id: &str| VifAsk { id: id.into(), ..VifAsk::default() };
    world.directory.ask(node, AttachVif(vif("v"))).await.expect("plugged in");
    let twice = world.directory.ask(node, AttachVif(vif("v"))).await.expect_err("already there");
    assert!(matches!(&twice, NodeError::Conflict(text) if text.contains("already attached")), "{twice}");
    let full = world.directory.ask(node, AttachVif(vif("w"))).await.expect_err("one port only");
    assert!(matches!(&full, NodeError::Invalid(text) if text.contains("not enough free")), "{full}");
    let absent = world.directory.ask(node, DetachVif("w".into())).await.expect_err("not there");
    assert!(
        matches!(&absent, NodeError::Invalid(text) if text.contains("is not attached to it")),
        "{absent}"
    );
    let now = world.node(node).await;
    let vifs = |node: Node| world.directory.store().read(move |conn| ferric_actors::vifs_of(conn, &node));
    assert_eq!(vifs(now).await.expect("read"), ["v"]);

    world.verb(node, Verb::Active).await.expect("accepted");
    world.reaches(node, State::Active).await;
    let kept = world.directory.destroy_allocation(row.uuid).await.expect_err("in use");
    assert!(
        matches!(&kept, NodeError::Conflict(text) if text.contains("because the node is active")),
        "{kept}"
    );
    let apply = || {
        Box::new(|node: &mut Node| {
            node.instance_uuid = None;
            Ok(())
        })
    };
    let kept = world.directory.ask(node, Update { apply: apply(), reset_interfaces: false }).await;
    let kept = kept.expect_err("in use").to_string();
    assert!(kept.contains("with an allocation can not have instance_uuid removed"), "{kept}");

    world.verb(node, Verb::Deleted).await.expect("accepted");
    let gone = world.reaches(node, State::Available).await;
    assert_eq!(gone.instance_uuid, None);
    let uuid = row.uuid;
    let left = world.directory.store().read(move |conn| allocations::get(conn, uuid)).await.expect("read");
    assert_eq!(left, None, "it goes with the instance");
    assert!(vifs(gone).await.expect("read").is_empty());
    let stored = world.directory.store().read(move |conn| ferric_schema::ports::get(conn, id)).await;
    assert_eq!(stored.expect("read").expect("there").internal_info, port.internal_info);
}

#[actix::test]
async fn a_node_whose_instance_is_taken_away_is_free_again() {
    let world = World::new(Interfaces::default(), settings()).await;
    let node = free(&world, "n").await;
    for by_patch in [true, false] {
        let made = world.directory.create_allocation(asks(), None).await.expect("written");
        assert_eq!(settled(&world, made.uuid).await.node_uuid, Some(node));
        if by_patch {
            let apply = Box::new(|node: &mut Node| {
                node.instance_uuid = None;
                Ok(())
            });
            world.directory.ask(node, Update { apply, reset_interfaces: false }).await.expect("changed");
        } else {
            world.directory.destroy_allocation(made.uuid).await.expect("removed");
        }
        assert_eq!(world.node(node).await.instance_uuid, None);
        let id = made.uuid;
        let left = world.directory.store().read(move |conn| allocations::get(conn, id)).await.expect("read");
        assert_eq!(left, None);
    }
}

#[actix::test]
async fn an_allocation_can_be_made_afterwards_for_what_runs() {
    let world = World::new(Interfaces::default(), settings()).await;
    let node = free(&world, "n").await;
    let early = world.directory.create_allocation(asks(), Some(node)).await.expect_err("not active");
    assert!(early.to_string().contains("Node must be in the \"active\" state"), "{early}");
    assert!(matches!(early, NodeError::AllocationFailed(_)));
    world.verb(node, Verb::Active).await.expect("accepted");
    world.reaches(node, State::Active).await;
    let made = world.directory.create_allocation(asks(), Some(node)).await.expect("fits");
    assert_eq!((made.state, made.node_uuid), (AllocationState::Active, Some(node)));
    assert_eq!(world.node(node).await.instance_uuid, Some(made.uuid));
    let other = world.directory.create_allocation(asks(), Some(node)).await.expect_err("taken");
    assert!(
        matches!(&other, NodeError::Conflict(text) if text.contains("is associated with instance")),
        "{other}"
    );
}

#[actix::test]
async fn what_a_stopping_process_does_not_finish_is_not_failed() {
    let world = World::new(Interfaces::default(), settings()).await;
    let node = free(&world, "n").await;
    world.directory.stop().await;
    // its nodes' actors are gone: asked now, none would answer
    let made = world.directory.create_allocation(asks(), None).await.expect("written");
    let world = world.restarts(Interfaces::default(), settings()).await;
    let row = settled(&world, made.uuid).await;
    assert_eq!((row.state, row.node_uuid), (AllocationState::Active, Some(node)));
}

#[actix::test]
async fn an_allocation_that_is_deleted_twice_takes_no_other_one_along() {
    let world = World::new(Interfaces::default(), settings()).await;
    let node = free(&world, "n").await;
    let first = world.directory.create_allocation(asks(), None).await.expect("written").uuid;
    assert_eq!(settled(&world, first).await.node_uuid, Some(node));
    world.directory.destroy_allocation(first).await.expect("removed");
    let second = world.directory.create_allocation(asks(), None).await.expect("written").uuid;
    assert_eq!(settled(&world, second).await.node_uuid, Some(node));
    // the other client had read the first one's node before it was removed
    let late = world.directory.ask(node, Release(first)).await.expect_err("not the node's any more");
    assert!(matches!(late, NodeError::Store(StoreError::NotFound { .. })), "{late}");
    let late = world.directory.destroy_allocation(first).await.expect_err("gone");
    assert!(matches!(late, NodeError::NotFound { what: "Allocation", .. }), "{late}");
    assert_eq!(settled(&world, second).await.node_uuid, Some(node));
    assert_eq!(world.node(node).await.instance_uuid, Some(second));

    // both clients at once: one of them removes it
    let (one, other) =
        tokio::join!(world.directory.destroy_allocation(second), world.directory.destroy_allocation(second));
    let lost = [one, other].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(lost[..], [NodeError::NotFound { what: "Allocation", .. }]), "{lost:?}");
    assert_eq!(world.node(node).await.instance_uuid, None);
}

#[actix::test]
async fn a_backfill_that_does_not_fit_is_never_given_another_node() {
    let world = World::new(Interfaces::default(), settings()).await;
    // the one does not fit, the other would if it were looked for
    let (node, other) = (free(&world, "n").await, free(&world, "o").await);
    let asked = Allocation { name: Some("a".into()), conductor: "test-host".into(), ..asks() };
    let id = asked.uuid;
    let store = world.directory.store().clone();
    let seen = tokio::spawn(async move {
        loop {
            let row = store.read(move |conn| allocations::get(conn, id)).await.expect("read");
            if let Some(row) = row {
                return row.state;
            }
            tokio::task::yield_now().await;
        }
    });
    let refused = world.directory.create_allocation(asked.clone(), Some(node)).await.expect_err("not active");
    assert_eq!(seen.await.expect("seen"), AllocationState::Error, "it is never seen as one that looks");
    let row = settled(&world, id).await;
    assert_eq!((row.last_error, row.node_uuid), (Some(refused.to_string()), None));
    let taken = Allocation { uuid: Uuid::new_v4(), ..asked };
    let taken = world.directory.create_allocation(taken, Some(node)).await.expect_err("the name is taken");
    assert!(matches!(&taken, NodeError::Conflict(text) if text.contains("with name a already")), "{taken}");
    for node in [node, other] {
        assert_eq!(world.node(node).await.instance_uuid, None);
    }
}

#[actix::test]
async fn what_asks_for_more_than_a_statement_can_name_is_decided_all_the_same() {
    let world = World::new(Interfaces::default(), settings()).await;
    let node = free(&world, "n").await;
    let many: Vec<_> = (0..2000).map(|n| json!(format!("CUSTOM_{n}"))).collect();
    let why = error_of(&world, Allocation { traits: JsonList::from(&many[..]), ..asks() }).await;
    assert!(why.starts_with("no suitable nodes have the requested traits CUSTOM_0, CUSTOM_1,"), "{why}");
    let mut many: Vec<_> = (0..40_000).map(|_| json!(Uuid::new_v4())).collect();
    many.push(json!(node));
    let asked = Allocation { candidate_nodes: JsonList::from(&many[..]), ..asks() };
    let made = world.directory.create_allocation(asked, None).await.expect("written");
    assert_eq!(settled(&world, made.uuid).await.node_uuid, Some(node));
}
