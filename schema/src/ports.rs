//! Queries on ports (api.md §4).

use std::collections::HashMap;

use diesel::prelude::*;
use ferric_machine::Timestamp;
use uuid::Uuid;

use crate::{
    conn::{Conn, MultiBackend},
    error::{StoreError, duplicate_or, parent_or},
    page::{SortDir, by, by_id, contains, lower},
    port::Port,
    tables::{nodes, ports::dsl},
    types::TextCol,
};

/// Which ports, in which order, which page. The default is every port in order of creation.
#[derive(Clone, Debug, Default)]
pub struct PortQuery {
    /// On this node.
    pub node: Option<Uuid>,
    /// With one of these MACs (lower-case).
    pub addresses: Option<Vec<String>>,
    /// In this port group.
    pub portgroup: Option<Uuid>,
    /// On a node of one of these shards.
    pub shard: Option<Vec<String>>,
    /// On a node of one of these conductor groups.
    pub conductor_groups: Option<Vec<String>>,
    /// On a node that this project owns or leases.
    pub project: Option<String>,
    /// With this text in the description; ASCII letters match in either case.
    pub description_contains: Option<String>,
    /// What to sort by; equal ones by order of creation.
    pub sort_key: PortSort,
    /// Which way.
    pub sort_dir: SortDir,
    /// How many at most; `None`: all.
    pub limit: Option<i64>,
    /// Start after this port.
    pub marker: Option<Uuid>,
}

macro_rules! port_sort {
    ($($variant:ident = $name:literal: $column:ident, $read:expr;)+) => {
        /// What a list of ports can be sorted by.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum PortSort {
            /// Order of creation.
            #[default]
            Id,
            $(#[doc = concat!("By `", $name, "`.")] $variant,)+
        }

        impl PortSort {
            /// The key that bears this API name, if lists can be sorted by it.
            #[must_use]
            pub fn from_name(name: &str) -> Option<PortSort> {
                match name {
                    "id" => Some(PortSort::Id),
                    $($name => Some(PortSort::$variant),)+
                    _ => None,
                }
            }

            /// Its API name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    PortSort::Id => "id",
                    $(PortSort::$variant => $name,)+
                }
            }
        }

        fn ordered(query: Boxed, key: PortSort, dir: SortDir, marker: Option<&Port>) -> Boxed {
            match key {
                PortSort::Id => by_id!(query, dir, marker),
                $(PortSort::$variant => by!(query, dir, marker, dsl::$column, $read),)+
            }
        }
    };
}

port_sort! {
    Uuid = "uuid": uuid, |p: &Port| Some(p.uuid.to_string());
    CreatedAt = "created_at": created_at, |p: &Port| Some(p.created_at.0);
    UpdatedAt = "updated_at": updated_at, |p: &Port| p.updated_at.map(|t| t.0);
    NodeUuid = "node_uuid": node_uuid, |p: &Port| Some(p.node_uuid.to_string());
    Address = "address": address, |p: &Port| Some(p.address.clone());
    PxeEnabled = "pxe_enabled": pxe_enabled, |p: &Port| Some(p.pxe_enabled);
    PortgroupUuid = "portgroup_uuid": portgroup_uuid, |p: &Port| p.portgroup_uuid.map(|u| u.to_string());
    PhysicalNetwork = "physical_network": physical_network, |p: &Port| p.physical_network.clone();
    IsSmartnic = "is_smartnic": is_smartnic, |p: &Port| Some(p.is_smartnic);
    Name = "name": name, |p: &Port| p.name.clone();
    Description = "description": description, |p: &Port| p.description.clone();
    Vendor = "vendor": vendor, |p: &Port| p.vendor.clone();
    Category = "category": category, |p: &Port| p.category.clone();
}

type Boxed = diesel::helper_types::IntoBoxed<
    'static,
    diesel::helper_types::Select<dsl::ports, diesel::helper_types::AsSelect<Port, MultiBackend>>,
    MultiBackend,
>;
type Condition = Box<
    dyn BoxableExpression<
            dsl::ports,
            MultiBackend,
            SqlType = diesel::sql_types::Nullable<diesel::sql_types::Bool>,
        >,
>;

fn taken(port: &Port) -> [(&'static str, String); 3] {
    [
        ("uuid", port.uuid.to_string()),
        ("name", port.name.clone().unwrap_or_default()),
        ("address", port.address.clone()),
    ]
}

/// Stores a new port; returns it with its `id`.
///
/// # Errors
/// `NotFound` for the node; `Duplicate` for `uuid`, `name`, `address`.
pub fn insert(c: &mut Conn, port: &Port) -> Result<Port, StoreError> {
    diesel::insert_into(dsl::ports)
        .values(port.clone())
        .execute(c)
        .map_err(|e| parent_or(e, port.node_uuid, |e| duplicate_or(e, "ports", &taken(port))))?;
    let id = dsl::ports.filter(dsl::uuid.eq(TextCol::from(port.uuid))).select(dsl::id).first(c)?;
    Ok(Port { id, ..port.clone() })
}

/// The port of that uuid.
///
/// # Errors
/// The database's.
pub fn get(c: &mut Conn, uuid: Uuid) -> Result<Option<Port>, StoreError> {
    Ok(dsl::ports.filter(dsl::uuid.eq(TextCol::from(uuid))).select(Port::as_select()).first(c).optional()?)
}

/// The port of that uuid or, if it is none, of that name.
///
/// # Errors
/// The database's.
pub fn find(c: &mut Conn, ident: &str) -> Result<Option<Port>, StoreError> {
    match Uuid::try_parse(ident) {
        Ok(uuid) => get(c, uuid),
        Err(_) => Ok(dsl::ports.filter(dsl::name.eq(ident)).select(Port::as_select()).first(c).optional()?),
    }
}

/// The ports that have one of these MACs (lower-case).
///
/// # Errors
/// The database's.
pub fn by_address(c: &mut Conn, addresses: &[String]) -> Result<Vec<Port>, StoreError> {
    Ok(dsl::ports
        .filter(dsl::address.eq_any(addresses.to_vec()))
        .order_by(dsl::id)
        .select(Port::as_select())
        .load(c)?)
}

/// A node's ports, in order of creation.
///
/// # Errors
/// The database's.
pub fn of_node(c: &mut Conn, node: Uuid) -> Result<Vec<Port>, StoreError> {
    Ok(dsl::ports
        .filter(dsl::node_uuid.eq(TextCol::from(node)))
        .order_by(dsl::id)
        .select(Port::as_select())
        .load(c)?)
}

/// The ports of these nodes, each node's in order of creation; nodes without ports are left out.
///
/// # Errors
/// The database's.
pub fn of_nodes(c: &mut Conn, nodes: &[Uuid]) -> Result<HashMap<Uuid, Vec<Port>>, StoreError> {
    let ids: Vec<String> = nodes.iter().map(Uuid::to_string).collect();
    let all: Vec<Port> =
        dsl::ports.filter(dsl::node_uuid.eq_any(ids)).order_by(dsl::id).select(Port::as_select()).load(c)?;
    let mut found: HashMap<Uuid, Vec<Port>> = HashMap::new();
    for port in all {
        found.entry(port.node_uuid).or_default().push(port);
    }
    Ok(found)
}

/// The ports of a port group, in order of creation.
///
/// # Errors
/// The database's.
pub fn of_portgroup(c: &mut Conn, portgroup: Uuid) -> Result<Vec<Port>, StoreError> {
    Ok(dsl::ports
        .filter(dsl::portgroup_uuid.eq(Some(TextCol::from(portgroup))))
        .order_by(dsl::id)
        .select(Port::as_select())
        .load(c)?)
}

/// One page of a list.
///
/// # Errors
/// `NotFound` when the marker is unknown.
pub fn list(c: &mut Conn, q: &PortQuery) -> Result<Vec<Port>, StoreError> {
    let mut query: Boxed = dsl::ports.select(Port::as_select()).into_boxed();
    if let Some(node) = q.node {
        query = query.filter(dsl::node_uuid.eq(TextCol::from(node)));
    }
    if let Some(addresses) = q.addresses.clone() {
        query = query.filter(dsl::address.eq_any(addresses));
    }
    if let Some(group) = q.portgroup {
        query = query.filter(dsl::portgroup_uuid.eq(TextCol::from(group)));
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
    if let Some(part) = &q.description_contains {
        query = query.filter(lower(dsl::description).like(contains(part)).escape('\\'));
    }
    let marker = match q.marker {
        Some(id) => Some(get(c, id)?.ok_or_else(|| StoreError::not_found("port", id))?),
        None => None,
    };
    query = ordered(query, q.sort_key, q.sort_dir, marker.as_ref());
    if let Some(limit) = q.limit {
        query = query.limit(limit);
    }
    Ok(query.load(c)?)
}

/// Writes the whole row, if it is still of the generation that `port` was read at; returns it with the next
/// generation and `updated_at = now`.
///
/// # Errors
/// `Stale`, `NotFound` (the port, or its new node), `Duplicate`.
pub fn update(c: &mut Conn, port: &Port, now: Timestamp) -> Result<Port, StoreError> {
    let next = Port { generation: port.generation + 1, updated_at: Some(now), ..port.clone() };
    let uuid = || TextCol::from(port.uuid);
    let written =
        diesel::update(dsl::ports.filter(dsl::uuid.eq(uuid())).filter(dsl::generation.eq(port.generation)))
            .set(next.clone())
            .execute(c)
            .map_err(|e| parent_or(e, port.node_uuid, |e| duplicate_or(e, "ports", &taken(port))))?;
    if written == 1 {
        return Ok(next);
    }
    if get(c, port.uuid)?.is_none() {
        return Err(StoreError::not_found("port", port.uuid));
    }
    Err(StoreError::Stale { what: "port", id: port.uuid, seen: port.generation })
}

/// Removes the port.
///
/// # Errors
/// `NotFound`.
pub fn delete(c: &mut Conn, uuid: Uuid) -> Result<(), StoreError> {
    match diesel::delete(dsl::ports.filter(dsl::uuid.eq(TextCol::from(uuid)))).execute(c)? {
        0 => Err(StoreError::not_found("port", uuid)),
        _ => Ok(()),
    }
}
