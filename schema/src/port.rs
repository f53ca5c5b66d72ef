//! The port's row (api.md §4).

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    tables::ports,
    types::{BigCol, JsonText, TextCol},
};

/// One port as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = ports, treat_none_as_default_value = false, treat_none_as_null = true)]
pub struct Port {
    /// The row's number, in order of creation; what paging sorts by. 0 before the insert.
    #[diesel(skip_insertion, skip_update)]
    pub id: i64,
    /// The port's public id.
    #[diesel(serialize_as = TextCol)]
    pub uuid: Uuid,
    /// Counts the writes of this row, as a node's does.
    pub generation: i64,
    /// When the port was created.
    #[diesel(serialize_as = BigCol)]
    pub created_at: Timestamp,
    /// When the row was last written.
    #[diesel(serialize_as = BigCol)]
    pub updated_at: Option<Timestamp>,
    /// The node that it is on.
    #[diesel(serialize_as = TextCol)]
    pub node_uuid: Uuid,
    /// Its MAC, lower-case; unique.
    pub address: String,
    /// The operator's own data.
    pub extra: JsonText,
    /// What the network interface keeps: attached VIFs.
    pub internal_info: JsonText,
    /// The switch and port at the other end.
    pub local_link_connection: JsonText,
    /// Whether the node may boot from it.
    pub pxe_enabled: bool,
    /// The port group that it belongs to.
    #[diesel(serialize_as = TextCol)]
    pub portgroup_uuid: Option<Uuid>,
    /// The physical network that it is on.
    pub physical_network: Option<String>,
    /// Whether it is a port of a smart NIC.
    pub is_smartnic: bool,
    /// A unique name for people.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Who made it.
    pub vendor: Option<String>,
    /// The operator's category.
    pub category: Option<String>,
    /// Whether dynamic port groups may take it.
    pub available_for_dynamic_portgroup: bool,
}

impl Port {
    /// A port as `POST /v1/ports` makes it when only node and address are given; `address` must be lower-case.
    #[must_use]
    pub fn new(uuid: Uuid, node: Uuid, address: impl Into<String>, now: Timestamp) -> Port {
        Port {
            id: 0,
            uuid,
            generation: 0,
            created_at: now,
            updated_at: None,
            node_uuid: node,
            address: address.into(),
            extra: JsonText::default(),
            internal_info: JsonText::default(),
            local_link_connection: JsonText::default(),
            pxe_enabled: true,
            portgroup_uuid: None,
            physical_network: None,
            is_smartnic: false,
            name: None,
            description: None,
            vendor: None,
            category: None,
            available_for_dynamic_portgroup: true,
        }
    }
}
