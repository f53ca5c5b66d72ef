//! What the last inspection of a node found (`GET /v1/nodes/{id}/inventory`).

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    conn::Conn,
    error::{StoreError, parent_or},
    tables::node_inventory::dsl,
    types::{JsonText, TextCol},
};

/// What an inspection found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInventory {
    /// The node.
    pub node: Uuid,
    /// The hardware, in the ramdisk's words.
    pub inventory_data: JsonText,
    /// What else the ramdisk sent and the hooks made of it.
    pub plugin_data: JsonText,
}

/// What the last inspection found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Queryable)]
pub struct Inventory {
    /// The node.
    pub node_uuid: Uuid,
    /// The hardware.
    pub inventory_data: JsonText,
    /// What else was found.
    pub plugin_data: JsonText,
    /// When the node was first inspected.
    pub created_at: Timestamp,
    /// When it was inspected again.
    pub updated_at: Option<Timestamp>,
}

/// Stores what was found, in place of what was there.
///
/// # Errors
/// `NotFound` for the node.
pub fn put(c: &mut Conn, found: &NewInventory, now: Timestamp) -> Result<(), StoreError> {
    let data = (dsl::inventory_data.eq(&found.inventory_data), dsl::plugin_data.eq(&found.plugin_data));
    let written = diesel::update(dsl::node_inventory.filter(dsl::node_uuid.eq(TextCol::from(found.node))))
        .set((data, dsl::updated_at.eq(Some(now.0))))
        .execute(c)?;
    if written == 0 {
        diesel::insert_into(dsl::node_inventory)
            .values((dsl::node_uuid.eq(TextCol::from(found.node)), data, dsl::created_at.eq(now.0)))
            .execute(c)
            .map_err(|e| parent_or(e, found.node, StoreError::from))?;
    }
    Ok(())
}

/// What the last inspection found, if there was one.
///
/// # Errors
/// The database's.
pub fn get(c: &mut Conn, node: Uuid) -> Result<Option<Inventory>, StoreError> {
    Ok(dsl::node_inventory.filter(dsl::node_uuid.eq(TextCol::from(node))).first(c).optional()?)
}

/// Forgets it; says whether there was something.
///
/// # Errors
/// The database's.
pub fn delete(c: &mut Conn, node: Uuid) -> Result<bool, StoreError> {
    Ok(diesel::delete(dsl::node_inventory.filter(dsl::node_uuid.eq(TextCol::from(node)))).execute(c)? > 0)
}
