//! Port groups: ports of a node that are bonded (api.md §4).

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    conn::Conn,
    crud::{crud, find_by_name},
    error::{StoreError, duplicate_or},
    page::{SortDir, by, by_id},
    tables::{nodes, portgroups, portgroups::dsl},
    types::{BigCol, JsonText, TextCol},
};

/// A port group as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = portgroups, treat_none_as_default_value = false, treat_none_as_null = true)]
pub struct Portgroup {
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
    /// The node whose ports it bonds.
    #[diesel(serialize_as = TextCol)]
    pub node_uuid: Uuid,
    /// A unique name for people.
    pub name: Option<String>,
    /// The bond's MAC, lower-case; unique.
    pub address: Option<String>,
    /// The operator's own data.
    pub extra: JsonText,
    /// What the network interface keeps: attached VIFs.
    pub internal_info: JsonText,
    /// Whether its ports may be used alone too, to boot from for one.
    pub standalone_ports_supported: bool,
    /// The bonding mode, in Linux's words or by its number; `None` where an operator said null.
    pub mode: Option<String>,
    /// Settings of the bond, such as `miimon`.
    pub properties: JsonText,
    /// The physical network that its ports are on.
    pub physical_network: Option<String>,
    /// The operator's category.
    pub category: Option<String>,
    /// Whether it was made on the fly, when a VIF needed one.
    pub dynamic_portgroup: bool,
}

impl Portgroup {
    /// A port group as `POST /v1/portgroups` makes it when only the node is given.
    #[must_use]
    pub fn new(uuid: Uuid, node: Uuid, mode: impl Into<String>, now: Timestamp) -> Portgroup {
        Portgroup {
            id: 0,
            uuid,
            generation: 0,
            created_at: now,
            updated_at: None,
            node_uuid: node,
            name: None,
            address: None,
            extra: JsonText::default(),
            internal_info: JsonText::default(),
            standalone_ports_supported: true,
            mode: Some(mode.into()),
            properties: JsonText::default(),
            physical_network: None,
            category: None,
            dynamic_portgroup: false,
        }
    }
}

fn taken(row: &Portgroup) -> [(&'static str, String); 3] {
    [
        ("uuid", row.uuid.to_string()),
        ("name", row.name.clone().unwrap_or_default()),
        ("address", row.address.clone().unwrap_or_default()),
    ]
}

crud! {
    Portgroup in portgroups, "portgroup", taken taken, node |row: &Portgroup| row.node_uuid,
    /// Which port groups, in which order, which page. The default is all, in order of creation.
    query PortgroupQuery {
        /// Of this node.
        node: Option<Uuid>,
        /// With this MAC (lower-case).
        address: Option<String>,
        /// Of a node of one of these shards.
        shard: Option<Vec<String>>,
        /// Of a node of one of these conductor groups.
        conductor_groups: Option<Vec<String>>,
        /// Of a node that this project owns or leases.
        project: Option<String>,
    }
    narrow narrow,
    sort PortgroupSort {
        Uuid = "uuid": uuid, |p: &Portgroup| Some(p.uuid.to_string());
        CreatedAt = "created_at": created_at, |p: &Portgroup| Some(p.created_at.0);
        UpdatedAt = "updated_at": updated_at, |p: &Portgroup| p.updated_at.map(|at| at.0);
        NodeUuid = "node_uuid": node_uuid, |p: &Portgroup| Some(p.node_uuid.to_string());
        Name = "name": name, |p: &Portgroup| p.name.clone();
        Address = "address": address, |p: &Portgroup| p.address.clone();
        StandalonePortsSupported = "standalone_ports_supported": standalone_ports_supported,
            |p: &Portgroup| Some(p.standalone_ports_supported);
        Mode = "mode": mode, |p: &Portgroup| p.mode.clone();
        PhysicalNetwork = "physical_network": physical_network, |p: &Portgroup| p.physical_network.clone();
        Category = "category": category, |p: &Portgroup| p.category.clone();
        DynamicPortgroup = "dynamic_portgroup": dynamic_portgroup, |p: &Portgroup| Some(p.dynamic_portgroup);
    }
}

find_by_name!(Portgroup in portgroups);

fn narrow(mut query: Boxed, q: &PortgroupQuery) -> Boxed {
    if let Some(node) = q.node {
        query = query.filter(dsl::node_uuid.eq(TextCol::from(node)));
    }
    if let Some(address) = q.address.clone() {
        query = query.filter(dsl::address.eq(address));
    }
    if let Some(shards) = q.shard.clone() {
        let on = nodes::table.filter(nodes::shard.eq_any(shards)).select(nodes::uuid);
        query = query.filter(dsl::node_uuid.eq_any(on));
    }
    if let Some(groups) = q.conductor_groups.clone() {
        let on = nodes::table.filter(nodes::conductor_group.eq_any(groups)).select(nodes::uuid);
        query = query.filter(dsl::node_uuid.eq_any(on));
    }
    if let Some(project) = q.project.clone() {
        let theirs = nodes::owner.eq(project.clone()).or(nodes::lessee.eq(project));
        query = query.filter(dsl::node_uuid.eq_any(nodes::table.filter(theirs).select(nodes::uuid)));
    }
    query
}
