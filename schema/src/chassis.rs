//! Chassis: what nodes stand in (api.md §4).

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    conn::Conn,
    crud::crud,
    error::{StoreError, duplicate_or},
    page::{SortDir, by, by_id},
    tables::{chassis, chassis::dsl, nodes},
    types::{BigCol, JsonText, TextCol},
};

/// A chassis as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = chassis, treat_none_as_default_value = false, treat_none_as_null = true)]
pub struct Chassis {
    /// The row's number, in order of creation; what paging sorts by. 0 before the insert.
    #[diesel(skip_insertion, skip_update)]
    pub id: i64,
    /// Its public id.
    #[diesel(serialize_as = TextCol)]
    pub uuid: Uuid,
    /// Counts the writes of this row, as a node's does.
    pub generation: i64,
    /// When it was created.
    #[diesel(serialize_as = BigCol)]
    pub created_at: Timestamp,
    /// When the row was last written.
    #[diesel(serialize_as = BigCol)]
    pub updated_at: Option<Timestamp>,
    /// Free text.
    pub description: Option<String>,
    /// The operator's own data.
    pub extra: JsonText,
}

impl Chassis {
    /// A chassis that nothing is known of yet.
    #[must_use]
    pub fn new(uuid: Uuid, now: Timestamp) -> Chassis {
        Chassis {
            id: 0,
            uuid,
            generation: 0,
            created_at: now,
            updated_at: None,
            description: None,
            extra: JsonText::default(),
        }
    }
}

fn taken(row: &Chassis) -> [(&'static str, String); 1] {
    [("uuid", row.uuid.to_string())]
}

crud! {
    Chassis in chassis, "chassis", taken taken,
    /// Which page of the chassis. The default is all, in order of creation.
    query ChassisQuery {}
    narrow |query: Boxed, _: &ChassisQuery| query,
    sort ChassisSort {
        Uuid = "uuid": uuid, |c: &Chassis| Some(c.uuid.to_string());
        CreatedAt = "created_at": created_at, |c: &Chassis| Some(c.created_at.0);
        UpdatedAt = "updated_at": updated_at, |c: &Chassis| c.updated_at.map(|at| at.0);
        Description = "description": description, |c: &Chassis| c.description.clone();
    }
}

/// Whether nodes stand in it: then it cannot go, and [`delete`] would be refused by the database.
///
/// # Errors
/// The database's.
pub fn has_nodes(c: &mut Conn, uuid: Uuid) -> Result<bool, StoreError> {
    let inside = nodes::table.filter(nodes::chassis_uuid.eq(Some(TextCol::from(uuid))));
    let one: Option<i64> = inside.select(nodes::id).first(c).optional()?;
    Ok(one.is_some())
}
