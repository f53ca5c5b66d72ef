//! Queries on nodes and their traits.

use diesel::{
    dsl::count_star,
    prelude::*,
    result::{DatabaseErrorKind, Error as Diesel},
    sql_types::Text,
};
use ferric_machine::{Fault, PowerState, State, Timestamp};
use uuid::Uuid;

use crate::{
    columns::{self, Columns},
    conn::Conn,
    error::{StoreError, duplicate_or, parent_or},
    node::Node,
    node_query::{self, NodeQuery},
    tables::{node_traits, nodes::dsl},
    types::TextCol,
};

/// How many traits a node may have (Ironic's limit).
pub const MOST_TRAITS: usize = 50;

fn taken(node: &Node) -> [(&'static str, String); 3] {
    [
        ("uuid", node.uuid.to_string()),
        ("name", node.name.clone().unwrap_or_default()),
        ("instance_uuid", node.instance_uuid.map(|id| id.to_string()).unwrap_or_default()),
    ]
}

/// The one row that a node refers to is its chassis.
#[allow(clippy::wildcard_enum_match_arm)] // diesel's enums grow; what is not listed has no reaction of its own
fn chassis_or(e: Diesel, node: &Node, next: impl FnOnce(Diesel) -> StoreError) -> StoreError {
    match (e, node.chassis_uuid) {
        (Diesel::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _), Some(chassis)) => {
            StoreError::not_found("chassis", chassis)
        }
        (e, _) => next(e),
    }
}

/// Stores a new node; returns it with its `id`.
///
/// # Errors
/// `Duplicate` for `uuid`, `name`, `instance_uuid`.
pub fn insert(c: &mut Conn, node: &Node) -> Result<Node, StoreError> {
    diesel::insert_into(dsl::nodes)
        .values(node.clone())
        .execute(c)
        .map_err(|e| chassis_or(e, node, |e| duplicate_or(e, "nodes", &taken(node))))?;
    let id = dsl::nodes.filter(dsl::uuid.eq(TextCol::from(node.uuid))).select(dsl::id).get_result(c)?;
    Ok(Node { id, ..node.clone() })
}

/// The node of that uuid.
///
/// # Errors
/// The database's.
pub fn get(c: &mut Conn, uuid: Uuid) -> Result<Option<Node>, StoreError> {
    // not `first`: with a limit that is bound SQLite plans anew each time
    let one = dsl::nodes.filter(dsl::uuid.eq(TextCol::from(uuid))).select(Node::as_select());
    Ok(one.get_result(c).optional()?)
}

/// The node of that uuid or, if it is none, of that name.
///
/// # Errors
/// The database's.
pub fn find(c: &mut Conn, ident: &str) -> Result<Option<Node>, StoreError> {
    match Uuid::try_parse(ident) {
        Ok(uuid) => get(c, uuid),
        Err(_) => {
            Ok(dsl::nodes.filter(dsl::name.eq(ident)).select(Node::as_select()).get_result(c).optional()?)
        }
    }
}

/// One page of a list.
///
/// # Errors
/// `NotFound` when the marker is unknown.
pub fn list(c: &mut Conn, query: &NodeQuery) -> Result<Vec<Node>, StoreError> {
    node_query::list(c, query)
}

/// Every node after the row number `after` (0: from the start), children too, in order of creation; for start-up.
/// The next page starts after the last one's `id`.
///
/// # Errors
/// The database's.
pub fn all(c: &mut Conn, after: i64, limit: i64) -> Result<Vec<Node>, StoreError> {
    Ok(dsl::nodes
        .filter(dsl::id.gt(after))
        .order_by(dsl::id)
        .limit(limit)
        .select(Node::as_select())
        .load(c)?)
}

/// The nodes whose parent is `parent`.
///
/// # Errors
/// The database's.
pub fn children(c: &mut Conn, parent: Uuid) -> Result<Vec<Node>, StoreError> {
    Ok(dsl::nodes
        .filter(dsl::parent_node.eq(Some(TextCol::from(parent))))
        .order_by(dsl::id)
        .select(Node::as_select())
        .load(c)?)
}

/// How many nodes there are of each hardware type.
///
/// # Errors
/// The database's.
pub fn count_by_driver(c: &mut Conn) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(dsl::nodes.group_by(dsl::driver).select((dsl::driver, count_star())).load(c)?)
}

/// How many nodes are alike in what an operator counts by.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct NodeCount {
    /// The provision state.
    pub provision_state: State,
    /// The power state; `None` is unknown.
    pub power_state: Option<PowerState>,
    /// Whether they are in maintenance.
    pub maintenance: bool,
    /// What Ferric found wrong with them.
    pub fault: Option<Fault>,
    /// How many.
    pub count: i64,
}

/// How many nodes there are in each state, counted by the database.
///
/// # Errors
/// The database's.
pub fn count_alike(c: &mut Conn) -> Result<Vec<NodeCount>, StoreError> {
    let by = (dsl::provision_state, dsl::power_state, dsl::maintenance, dsl::fault);
    let what = (dsl::provision_state, dsl::power_state, dsl::maintenance, dsl::fault, count_star());
    Ok(dsl::nodes.group_by(by).select(what).load(c)?)
}

/// How many nodes are in each shard, and in none (`GET /v1/shards`).
///
/// # Errors
/// The database's.
pub fn count_by_shard(c: &mut Conn) -> Result<Vec<(Option<String>, i64)>, StoreError> {
    Ok(dsl::nodes.group_by(dsl::shard).select((dsl::shard, count_star())).load(c)?)
}

/// Writes the whole row, if it is still of the generation that `node` was read at; returns it with the next
/// generation and `updated_at = now`.
///
/// # Errors
/// `Stale` when someone else wrote it since, `NotFound` when it is gone, `Duplicate`.
pub fn advance(c: &mut Conn, node: &Node, now: Timestamp) -> Result<Node, StoreError> {
    advance_columns(c, node, Columns::All, now)
}

/// As [`advance`], for a row of which only `columns` differ from what is stored.
///
/// # Errors
/// As [`advance`].
pub fn advance_columns(
    c: &mut Conn,
    node: &Node,
    columns: Columns,
    now: Timestamp,
) -> Result<Node, StoreError> {
    let next = Node { generation: node.generation + 1, updated_at: Some(now), ..node.clone() };
    let written = columns::write(c, columns, &next, node.generation)
        .map_err(|e| chassis_or(e, node, |e| duplicate_or(e, "nodes", &taken(node))))?;
    if written {
        return Ok(next);
    }
    let there: i64 =
        dsl::nodes.filter(dsl::uuid.eq(TextCol::from(node.uuid))).select(count_star()).first(c)?;
    if there == 0 {
        return Err(StoreError::not_found("node", node.uuid));
    }
    Err(StoreError::Stale { what: "node", id: node.uuid, seen: node.generation })
}

/// Removes the node with its ports, traits and steps. Its events stay.
///
/// # Errors
/// `NotFound`.
pub fn delete(c: &mut Conn, uuid: Uuid) -> Result<(), StoreError> {
    match diesel::delete(dsl::nodes.filter(dsl::uuid.eq(TextCol::from(uuid)))).execute(c)? {
        0 => Err(StoreError::not_found("node", uuid)),
        _ => Ok(()),
    }
}

/// A node's traits, sorted.
///
/// # Errors
/// The database's.
pub fn traits(c: &mut Conn, node: Uuid) -> Result<Vec<String>, StoreError> {
    Ok(node_traits::table
        .filter(node_traits::node_uuid.eq(TextCol::from(node)))
        .order_by(node_traits::name)
        .select(node_traits::name)
        .load(c)?)
}

/// Gives a node exactly these traits.
///
/// # Errors
/// `NotFound` when there is no such node.
pub fn set_traits(c: &mut Conn, node: Uuid, names: &[String]) -> Result<(), StoreError> {
    diesel::delete(node_traits::table.filter(node_traits::node_uuid.eq(TextCol::from(node)))).execute(c)?;
    let mut names: Vec<&String> = names.iter().collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        diesel::insert_into(node_traits::table)
            .values((node_traits::node_uuid.eq(TextCol::from(node)), node_traits::name.eq(name)))
            .execute(c)
            .map_err(|e| parent_or(e, node, StoreError::from))?;
    }
    Ok(())
}

/// Gives a node one more trait; says whether it was new.
///
/// # Errors
/// `NotFound` when there is no such node.
pub fn add_trait(c: &mut Conn, node: Uuid, name: &str) -> Result<bool, StoreError> {
    // both databases know this spelling; two who add the same trait at once are both right
    let text = "INSERT INTO node_traits (node_uuid, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let insert = diesel::sql_query(text).bind::<Text, _>(node.to_string()).bind::<Text, _>(name);
    Ok(insert.execute(c).map_err(|e| parent_or(e, node, StoreError::from))? > 0)
}

/// Takes one trait from a node; says whether it had it.
///
/// # Errors
/// The database's.
pub fn remove_trait(c: &mut Conn, node: Uuid, name: &str) -> Result<bool, StoreError> {
    let same = node_traits::table
        .filter(node_traits::node_uuid.eq(TextCol::from(node)))
        .filter(node_traits::name.eq(name));
    Ok(diesel::delete(same).execute(c)? > 0)
}
