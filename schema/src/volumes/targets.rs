//! Volume targets.

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    conn::Conn,
    crud::crud,
    error::{StoreError, duplicate_or},
    page::{SortDir, by, by_id},
    tables::{nodes, volume_targets, volume_targets::dsl},
    types::{BigCol, JsonText, TextCol},
};

/// A volume target as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = volume_targets, treat_none_as_default_value = false, treat_none_as_null = true)]
pub struct Target {
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
    /// The node that it is attached to.
    #[diesel(serialize_as = TextCol)]
    pub node_uuid: Uuid,
    /// iscsi, fibre_channel, …
    pub volume_type: String,
    /// The storage's own id of the volume.
    pub volume_id: String,
    /// Its place among the node's volumes; 0 is the one to boot from. Unique on its node.
    pub boot_index: i64,
    /// How it is reached; may hold secrets.
    pub properties: JsonText,
    /// The operator's own data.
    pub extra: JsonText,
}

impl Target {
    /// A target without type, volume and index, to be filled in.
    #[must_use]
    pub fn new(uuid: Uuid, node: Uuid, now: Timestamp) -> Target {
        Target {
            id: 0,
            uuid,
            generation: 0,
            created_at: now,
            updated_at: None,
            node_uuid: node,
            volume_type: String::new(),
            volume_id: String::new(),
            boot_index: 0,
            properties: JsonText::default(),
            extra: JsonText::default(),
        }
    }
}

fn taken(row: &Target) -> [(&'static str, String); 2] {
    [("uuid", row.uuid.to_string()), ("boot_index", row.boot_index.to_string())]
}

crud! {
    Target in volume_targets, "volume target", taken taken, node |row: &Target| row.node_uuid,
    /// Which targets, in which order, which page. The default is all, in order of creation.
    query TargetQuery {
        /// Of this node.
        node: Option<Uuid>,
        /// Of a node that this project owns or leases.
        project: Option<String>,
    }
    narrow narrow,
    sort TargetSort {
        Uuid = "uuid": uuid, |v: &Target| Some(v.uuid.to_string());
        CreatedAt = "created_at": created_at, |v: &Target| Some(v.created_at.0);
        UpdatedAt = "updated_at": updated_at, |v: &Target| v.updated_at.map(|at| at.0);
        NodeUuid = "node_uuid": node_uuid, |v: &Target| Some(v.node_uuid.to_string());
        VolumeType = "volume_type": volume_type, |v: &Target| Some(v.volume_type.clone());
        VolumeId = "volume_id": volume_id, |v: &Target| Some(v.volume_id.clone());
        BootIndex = "boot_index": boot_index, |v: &Target| Some(v.boot_index);
    }
}

fn narrow(mut query: Boxed, q: &TargetQuery) -> Boxed {
    if let Some(node) = q.node {
        query = query.filter(dsl::node_uuid.eq(TextCol::from(node)));
    }
    if let Some(project) = q.project.clone() {
        let theirs = nodes::owner.eq(project.clone()).or(nodes::lessee.eq(project));
        query = query.filter(dsl::node_uuid.eq_any(nodes::table.filter(theirs).select(nodes::uuid)));
    }
    query
}
