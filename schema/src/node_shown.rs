//! Lists of nodes that read what they show and nothing else: the columns are chosen for each list, and handed out row by
//! row as they come from the database, so that a page of a thousand nodes is never a thousand nodes in memory.

use diesel::{
    connection::{DefaultLoadingMode, LoadConnection},
    expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate::No},
    prelude::*,
    query_builder::{AstPass, QueryFragment, QueryId},
    row::{Field as _, Row as _},
    sql_types::{BigInt, Bool, Untyped},
};

use crate::{
    conn::{Conn, MultiBackend, MultiRawValue, MultiRow},
    error::StoreError,
    node_query::{self, NodeQuery, Part},
    tables::nodes::dsl,
};

/// The columns of `nodes` that a list can show, by their names, which are the API's.
const NAMES: &[&str] = &[
    "id",
    "uuid",
    "generation",
    "created_at",
    "updated_at",
    "name",
    "driver",
    "driver_info",
    "driver_internal_info",
    "properties",
    "extra",
    "instance_info",
    "instance_uuid",
    "instance_name",
    "chassis_uuid",
    "provision_state",
    "target_provision_state",
    "provision_updated_at",
    "power_state",
    "target_power_state",
    "last_error",
    "reservation",
    "maintenance",
    "maintenance_reason",
    "fault",
    "console_enabled",
    "raid_config",
    "target_raid_config",
    "inspection_started_at",
    "inspection_finished_at",
    "clean_step",
    "deploy_step",
    "service_step",
    "boot_interface",
    "console_interface",
    "deploy_interface",
    "inspect_interface",
    "management_interface",
    "power_interface",
    "raid_interface",
    "vendor_interface",
    "network_interface",
    "storage_interface",
    "rescue_interface",
    "bios_interface",
    "firmware_interface",
    "resource_class",
    "conductor_group",
    "automated_clean",
    "protected",
    "protected_reason",
    "retired",
    "retired_reason",
    "owner",
    "lessee",
    "description",
    "network_data",
    "shard",
    "parent_node",
    "disable_power_off",
    "boot_mode",
    "secure_boot",
    "health",
];

/// Something that a list can show of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeColumn(Of);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Row(&'static str),
    Allocation,
    Traits,
}

impl NodeColumn {
    /// The uuid of the node's allocation; text or null.
    pub const ALLOCATION: NodeColumn = NodeColumn(Of::Allocation);
    /// The names of the node's traits, with commas between them, in no order; text or null.
    pub const TRAITS: NodeColumn = NodeColumn(Of::Traits);

    /// The column of that name, if the table has it.
    #[must_use]
    pub fn named(name: &str) -> Option<NodeColumn> {
        NAMES.iter().copied().find(|known| *known == name).map(|name| NodeColumn(Of::Row(name)))
    }
}

/// A selection of columns as SQL.
#[derive(Debug)]
struct Selection {
    columns: Vec<NodeColumn>,
    /// Whether many lists are like this one. What clients put together freely is not kept: there is no end of it.
    usual: bool,
}

impl Expression for Selection {
    // decoded by hand
    type SqlType = Untyped;
}

impl ValidGrouping<()> for Selection {
    type IsAggregate = No;
}

impl QueryId for Selection {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl SelectableExpression<dsl::nodes> for Selection {}
impl AppearsOnTable<dsl::nodes> for Selection {}

impl QueryFragment<MultiBackend> for Selection {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        if !self.usual {
            out.unsafe_to_cache_prepared();
        }
        for (at, column) in self.columns.iter().enumerate() {
            if at > 0 {
                out.push_sql(", ");
            }
            match column.0 {
                Of::Row(name) => {
                    out.push_identifier("nodes")?;
                    out.push_sql(".");
                    out.push_identifier(name)?;
                }
                Of::Allocation => out.push_sql(
                    "(SELECT allocations.uuid FROM allocations WHERE allocations.node_uuid = nodes.uuid)",
                ),
                Of::Traits => out.push_sql(
                    "(SELECT string_agg(node_traits.name, ',') FROM node_traits WHERE node_traits.node_uuid = nodes.uuid)",
                ),
            }
        }
        Ok(())
    }
}

/// One row of a list: the columns that were asked for, by their places.
pub struct NodeRow<'r, 'conn, 'query>(&'r MultiRow<'conn, 'query>);

impl NodeRow<'_, '_, '_> {
    fn value<T>(
        &self,
        at: usize,
        read: impl FnOnce(Option<MultiRawValue<'_>>) -> diesel::deserialize::Result<T>,
    ) -> Result<T, StoreError> {
        let field = self.0.get(at).expect("a row has the columns that were selected");
        let value = read(field.value());
        value.map_err(|e| diesel::result::Error::DeserializationError(e).into())
    }

    /// What `read` makes of a text; `None` is null.
    ///
    /// # Errors
    /// The text is not UTF-8, or what `read` finds wrong with it.
    pub fn text<T>(
        &self,
        at: usize,
        read: impl FnOnce(Option<&str>) -> Result<T, BadColumn>,
    ) -> Result<T, StoreError> {
        self.value(at, |value| {
            let read = match value {
                None => read(None),
                Some(MultiRawValue::Sqlite(mut value)) => read(Some(value.read_text())),
                Some(MultiRawValue::Pg(value)) => read(Some(std::str::from_utf8(value.as_bytes())?)),
            };
            Ok(read?)
        })
    }

    /// A number, such as a moment.
    ///
    /// # Errors
    /// The database's.
    pub fn number(&self, at: usize) -> Result<Option<i64>, StoreError> {
        self.value(at, |value| value.map(|value| value.from_sql::<i64, BigInt>()).transpose())
    }

    /// Yes or no.
    ///
    /// # Errors
    /// The database's.
    pub fn flag(&self, at: usize) -> Result<Option<bool>, StoreError> {
        self.value(at, |value| value.map(|value| value.from_sql::<bool, Bool>()).transpose())
    }
}

/// A column holds what it cannot: somebody edited it by hand.
#[derive(Debug, thiserror::Error)]
#[error("the column {column} of a node holds no {what}")]
pub struct BadColumn {
    /// Which.
    pub column: &'static str,
    /// What it should hold.
    pub what: &'static str,
}

/// One page of a list as it is at one moment: `each` is given its rows in order, with `columns` at their places.
///
/// # Errors
/// `NotFound` when the marker is unknown; what `each` returns.
pub fn each_node(
    c: &mut Conn,
    q: &NodeQuery,
    columns: &[NodeColumn],
    usual: bool,
    each: impl FnMut(&NodeRow<'_, '_, '_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    node_query::at_one_moment(c, q, |c| each_of_parts(c, q, columns, usual, each))
}

fn each_of_parts(
    c: &mut Conn,
    q: &NodeQuery,
    columns: &[NodeColumn],
    usual: bool,
    mut each: impl FnMut(&NodeRow<'_, '_, '_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let marker = node_query::marker_of(c, q)?;
    let mut limit = q.limit;
    for part in Part::of(q.sort_dir) {
        if limit.is_some_and(|left| left <= 0) {
            break;
        }
        let selection = Selection { columns: columns.to_vec(), usual: usual && q.is_usual() };
        let query = dsl::nodes.select(selection).into_boxed();
        let Some(query) = node_query::part_of(query, q, part, limit, marker.as_ref()) else { continue };
        for row in LoadConnection::<DefaultLoadingMode>::load(c, query)? {
            each(&NodeRow(&row?))?;
            limit = limit.map(|left| left - 1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Node;

    #[test]
    fn every_column_of_a_node_can_be_shown() {
        let node = Node::new(uuid::Uuid::nil(), "", ferric_machine::Timestamp(0));
        let row = serde_json::to_value(node).expect("a node is JSON");
        let mut known: Vec<&str> = row.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut named = NAMES.to_vec();
        known.sort_unstable();
        named.sort_unstable();
        assert_eq!(named, known);
    }
}
