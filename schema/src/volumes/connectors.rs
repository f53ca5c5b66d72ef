//! Volume connectors.

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    conn::Conn,
    crud::crud,
    error::{StoreError, duplicate_or},
    page::{SortDir, by, by_id},
    tables::{nodes, volume_connectors, volume_connectors::dsl},
    types::{BigCol, JsonText, TextCol},
};

/// A volume connector as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = volume_connectors, treat_none_as_default_value = false, treat_none_as_null = true)]
pub struct Connector {
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
    /// The node that is known by it.
    #[diesel(serialize_as = TextCol)]
    pub node_uuid: Uuid,
    /// `type`: iqn, ip, mac, wwnn, wwpn, …
    pub kind: String,
    /// What it is known by; unique among those of its type.
    pub connector_id: String,
    /// The operator's own data.
    pub extra: JsonText,
}

impl Connector {
    /// A connector without type and id, to be filled in.
    #[must_use]
    pub fn new(uuid: Uuid, node: Uuid, now: Timestamp) -> Connector {
        Connector {
            id: 0,
            uuid,
            generation: 0,
            created_at: now,
            updated_at: None,
            node_uuid: node,
            kind: String::new(),
            connector_id: String::new(),
            extra: JsonText::default(),
        }
    }
}

fn taken(row: &Connector) -> [(&'static str, String); 2] {
    [("uuid", row.uuid.to_string()), ("connector_id", row.connector_id.clone())]
}

crud! {
    Connector in volume_connectors, "volume connector", taken taken, node |row: &Connector| row.node_uuid,
    /// Which connectors, in which order, which page. The default is all, in order of creation.
    query ConnectorQuery {
        /// Of this node.
        node: Option<Uuid>,
        /// Of a node that this project owns or leases.
        project: Option<String>,
    }
    narrow narrow,
    sort ConnectorSort {
        Uuid = "uuid": uuid, |v: &Connector| Some(v.uuid.to_string());
        CreatedAt = "created_at": created_at, |v: &Connector| Some(v.created_at.0);
        UpdatedAt = "updated_at": updated_at, |v: &Connector| v.updated_at.map(|at| at.0);
        NodeUuid = "node_uuid": node_uuid, |v: &Connector| Some(v.node_uuid.to_string());
        Kind = "type": kind, |v: &Connector| Some(v.kind.clone());
        ConnectorId = "connector_id": connector_id, |v: &Connector| Some(v.connector_id.clone());
    }
}

fn narrow(mut query: Boxed, q: &ConnectorQuery) -> Boxed {
    if let Some(node) = q.node {
        query = query.filter(dsl::node_uuid.eq(TextCol::from(node)));
    }
    if let Some(project) = q.project.clone() {
        let theirs = nodes::owner.eq(project.clone()).or(nodes::lessee.eq(project));
        query = query.filter(dsl::node_uuid.eq_any(nodes::table.filter(theirs).select(nodes::uuid)));
    }
    query
}
