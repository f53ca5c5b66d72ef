//! What nodes are to each other, and what is left of them: parents and children, ports that move, deletion.

mod common;

use std::time::Duration;

use common::{Interfaces, World, settings};
use ferric_actors::NodeError;
use ferric_actors::message::{CreatePort, DeleteNode, DeletePort, Describe, Update, UpdatePort};
use ferric_machine::Timestamp;
use ferric_schema::{Node, Port};
use uuid::Uuid;

async fn hangs(world: &World, child: Uuid, parent: Option<Uuid>) -> Result<Node, NodeError> {
    let apply = Box::new(move |node: &mut Node| {
        node.parent_node = parent;
        Ok(())
    });
    world.directory.ask(child, Update { apply, reset_interfaces: false }).await
}

#[actix::test]
async fn a_node_is_not_its_own_ancestor() {
    let world = World::new(Interfaces::default(), settings()).await;
    let (a, b, c) = (world.enrol().await, world.enrol().await, world.enrol().await);
    hangs(&world, b, Some(a)).await.expect("written");
    hangs(&world, c, Some(b)).await.expect("written");
    for (child, parent) in [(a, c), (a, b), (a, a)] {
        let error = hangs(&world, child, Some(parent)).await.expect_err("a circle");
        assert!(matches!(error, NodeError::Invalid(_)), "{error}");
        assert!(error.to_string().contains("apply the requested parent_node"), "{error}");
    }
    hangs(&world, c, Some(a)).await.expect("elsewhere");
    // two that want each other: one gets what it wants
    let (d, e) = (world.enrol().await, world.enrol().await);
    let (first, second) = tokio::join!(hangs(&world, d, Some(e)), hangs(&world, e, Some(d)));
    assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1, "{first:?} {second:?}");
}

#[actix::test]
async fn a_node_with_children_is_deleted_after_them() {
    let world = World::new(Interfaces::default(), settings()).await;
    let (parent, child) = (world.enrol().await, world.enrol().await);
    hangs(&world, child, Some(parent)).await.expect("written");
    let error = world.directory.ask(parent, DeleteNode).await.expect_err("it has a child");
    assert!(matches!(error, NodeError::Conflict(_)), "{error}");
    assert!(error.to_string().contains(&child.to_string()), "{error}");
    world.directory.ask(parent, Describe).await.expect("it is still there");
    world.directory.ask(child, DeleteNode).await.expect("deleted");
    world.directory.ask(parent, DeleteNode).await.expect("deleted");
    let error = world.directory.ask(parent, Describe).await.expect_err("gone");
    assert!(matches!(error, NodeError::NotFound { .. }), "{error}");
}

#[actix::test]
async fn a_moved_port_is_known_to_its_new_node_even_if_nobody_waits_for_the_answer() {
    let world = World::new(Interfaces::default(), settings()).await;
    let (from, to) = (world.enrol().await, world.enrol().await);
    let mac = "52:54:00:00:00:09";
    let port = Port::new(Uuid::new_v4(), from, mac, Timestamp(1));
    let id = port.uuid;
    world.directory.ask(from, CreatePort { port, asked_to_boot: false }).await.expect("made");
    let apply = Box::new(move |port: &mut Port, _: &Node| {
        port.node_uuid = to;
        Ok(())
    });
    let moved = world.directory.update_port(from, UpdatePort { port: id, apply });
    // the client hangs up at once
    assert!(tokio::time::timeout(Duration::ZERO, moved).await.is_err());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while world.directory.node_of_port_address(&[mac.to_owned()]) != [to] {
        assert!(std::time::Instant::now() < deadline, "nobody told the new node");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.directory.ask(to, DeletePort(id)).await.expect("its new node knows it");
}
