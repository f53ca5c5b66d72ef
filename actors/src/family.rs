//! Parents and children: a node whose `parent_node` is another one shares its chassis, and often its power.

use std::collections::HashSet;

use ferric_drivers::DriverError;
use ferric_drivers::interface::{Child, Result};
use ferric_machine::{PowerState, PowerTarget};
use ferric_schema::{Node, nodes};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::error::NodeError;
use crate::message::ChangePower;
use crate::world::World;

fn failed(command: &str, reason: String) -> DriverError {
    DriverError::Refused {
        what: "a related node (parent or child)".into(),
        command: command.to_owned(),
        reason,
    }
}

/// Held while a node gets a parent: of two that take each other for one, the second sees what the first has become.
static ADOPTION: Mutex<()> = Mutex::const_new(());

/// Whether `node` may become a child of `parent`: not when it is among that one's ancestors. What it answers is kept until
/// the change is committed.
///
/// Errors: `Invalid`, the store's.
pub(crate) async fn may_adopt(
    world: &World,
    node: Uuid,
    parent: Uuid,
) -> std::result::Result<MutexGuard<'static, ()>, NodeError> {
    let adoption = ADOPTION.lock().await;
    let circle = world.store.read(move |conn| {
        let (mut seen, mut above) = (HashSet::new(), Some(parent));
        while let Some(one) = above.filter(|one| seen.insert(*one)) {
            if one == node {
                return Ok(true);
            }
            above = nodes::get(conn, one)?.and_then(|row| row.parent_node);
        }
        Ok(false)
    });
    if circle.await? {
        return Err(NodeError::Invalid(format!(
            "Unable to apply the requested parent_node '{parent}'. Requested value was invalid. It is a descendant of \
             node {node}, or that node itself."
        )));
    }
    Ok(adoption)
}

/// The refusal to delete a node that `child` hangs from.
pub(crate) fn has_children(node: Uuid, child: Uuid) -> String {
    format!(
        "Node {node} cannot be deleted: it is the parent_node of node {child}. Delete its children first, or take their \
         parent_node away."
    )
}

/// The children of a node.
pub(crate) async fn children(world: &World, parent: Uuid) -> Result<Vec<Child>> {
    let rows = world.store.read(move |conn| nodes::children(conn, parent)).await;
    let rows = rows.map_err(|error| failed("finding the children", error.to_string()))?;
    Ok(rows
        .into_iter()
        .map(|row| Child { uuid: row.uuid, own_power: own_power(&row), name: row.name })
        .collect())
}

/// `driver_info.has_dedicated_power_supply` (states.md §6).
pub(crate) fn own_power(node: &Node) -> bool {
    match node.driver_info.parse().get("has_dedicated_power_supply") {
        Some(Value::Bool(own)) => *own,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        Some(Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => false,
    }
}

/// Before a node goes off: its children without a power supply of their own go first (states.md §6).
pub(crate) async fn children_off(world: &World, parent: Uuid) -> Result<()> {
    let rows = world.store.read(move |conn| nodes::children(conn, parent)).await;
    let rows = rows.map_err(|error| failed("finding the children", error.to_string()))?;
    for child in rows.into_iter().filter(|child| !own_power(child)) {
        if child.power_state != Some(PowerState::Off) {
            set_power(world, child.uuid, PowerTarget::Off).await?;
        }
    }
    Ok(())
}

/// Before a node goes on: the parent that feeds it.
pub(crate) async fn parent_on(world: &World, parent: Option<Uuid>) -> Result<()> {
    let Some(parent) = parent else { return Ok(()) };
    let row = world.store.read(move |conn| nodes::get(conn, parent)).await;
    match row.map_err(|error| failed("finding the parent", error.to_string()))? {
        Some(row) if row.power_state != Some(PowerState::On) => {
            set_power(world, parent, PowerTarget::On).await
        }
        Some(_) | None => Ok(()),
    }
}

/// Brings a related node to `target` and waits until it is there.
pub(crate) async fn set_power(world: &World, node: Uuid, target: PowerTarget) -> Result<()> {
    let directory = world.directory().ok_or_else(|| failed("changing power", "Ferric is stopping".into()))?;
    let mut done = world.power_done.subscribe();
    let ask = ChangePower { target, timeout: None };
    directory.ask(node, ask).await.map_err(|error| failed("changing power", error.to_string()))?;
    loop {
        match done.recv().await {
            Ok((who, outcome)) if who == node => {
                return outcome.map_err(|why| failed("changing power", why));
            }
            Ok(_) => {}
            // the news was missed in a flood of others: its row tells as well
            Err(_) => {
                let row = world.store.read(move |conn| nodes::get(conn, node)).await;
                let row = row.map_err(|error| failed("changing power", error.to_string()))?;
                let Some(row) = row else { return Err(failed("changing power", "it was deleted".into())) };
                if row.target_power_state.is_none() {
                    return match row.power_state {
                        Some(state) if state == target.end() => Ok(()),
                        _ => Err(failed("changing power", row.last_error.unwrap_or_default())),
                    };
                }
                done = world.power_done.subscribe();
            }
        }
    }
}
