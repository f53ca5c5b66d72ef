//! Listing nodes: filters, order and pages, all in SQL (api.md §3.1).

use diesel::{connection::SimpleConnection as _, dsl::exists, prelude::*};
use ferric_machine::{Fault, State};
use uuid::Uuid;

use crate::{
    conn::{Conn, MultiBackend},
    error::StoreError,
    node::Node,
    nodes,
    page::{SortDir, by_id, contains, lower},
    pool,
    tables::nodes::dsl,
    types::TextCol,
};

/// Which nodes, in which order, which page. The default is every node that has no parent, in order of creation.
#[derive(Clone, Debug, Default)]
pub struct NodeQuery {
    /// The node that carries this instance.
    pub instance_uuid: Option<Uuid>,
    /// Whether it carries an instance at all.
    pub associated: Option<bool>,
    /// In maintenance or not.
    pub maintenance: Option<bool>,
    /// Retired or not.
    pub retired: Option<bool>,
    /// In one of these states; `None`: any.
    pub provision_state: Option<Vec<State>>,
    /// Of this hardware type.
    pub driver: Option<String>,
    /// Of this class.
    pub resource_class: Option<String>,
    /// With this fault.
    pub fault: Option<Fault>,
    /// In this conductor group (lower-case; empty: the default one).
    pub conductor_group: Option<String>,
    /// Owned by this project.
    pub owner: Option<String>,
    /// Leased by this project.
    pub lessee: Option<String>,
    /// Owned or leased by this project.
    pub project: Option<String>,
    /// With this text in the description; ASCII letters match in either case.
    pub description_contains: Option<String>,
    /// In one of these shards.
    pub shard: Option<Vec<String>>,
    /// In any shard at all, or in none.
    pub sharded: Option<bool>,
    /// Also nodes that have a parent. Without this or `parent_node` they are left out.
    pub include_children: bool,
    /// The children of this node.
    pub parent_node: Option<Uuid>,
    /// With this instance name.
    pub instance_name: Option<String>,
    /// In this chassis.
    pub chassis_uuid: Option<Uuid>,
    /// With all of these traits.
    pub traits: Vec<String>,
    /// What to sort by; equal ones by order of creation.
    pub sort_key: NodeSort,
    /// Which way.
    pub sort_dir: SortDir,
    /// How many at most; `None`: all.
    pub limit: Option<i64>,
    /// Start after this node.
    pub marker: Option<Uuid>,
}

impl NodeQuery {
    /// Whether many lists are like this one: in order of creation, with one filter at the most. The statements of
    /// others are not kept prepared, since clients put them together as they like and there is no end of them.
    pub(crate) fn is_usual(&self) -> bool {
        let filters = [
            self.instance_uuid.is_some(),
            self.associated.is_some(),
            self.maintenance.is_some(),
            self.retired.is_some(),
            self.provision_state.is_some(),
            self.driver.is_some(),
            self.resource_class.is_some(),
            self.fault.is_some(),
            self.conductor_group.is_some(),
            self.owner.is_some(),
            self.lessee.is_some(),
            self.project.is_some(),
            self.description_contains.is_some(),
            self.shard.is_some(),
            self.sharded.is_some(),
            self.parent_node.is_some(),
            self.instance_name.is_some(),
            self.chassis_uuid.is_some(),
        ];
        self.sort_key == NodeSort::Id
            && self.traits.is_empty()
            && filters.into_iter().filter(|given| *given).count() <= 1
    }
}

/// What a list of nodes can be sorted by: every field but the objects (a `sort_key` that is not here is a 400).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeSort {
    /// Order of creation.
    #[default]
    Id,
    /// By `uuid`.
    Uuid,
    /// By `created_at`.
    CreatedAt,
    /// By `updated_at`.
    UpdatedAt,
    /// By `name`.
    Name,
    /// By `driver`.
    Driver,
    /// By `instance_uuid`.
    InstanceUuid,
    /// By `instance_name`.
    InstanceName,
    /// By `chassis_uuid`.
    ChassisUuid,
    /// By `provision_state`.
    ProvisionState,
    /// By `target_provision_state`.
    TargetProvisionState,
    /// By `provision_updated_at`.
    ProvisionUpdatedAt,
    /// By `power_state`.
    PowerState,
    /// By `target_power_state`.
    TargetPowerState,
    /// By `last_error`.
    LastError,
    /// By `reservation`.
    Reservation,
    /// By `maintenance`.
    Maintenance,
    /// By `maintenance_reason`.
    MaintenanceReason,
    /// By `fault`.
    Fault,
    /// By `console_enabled`.
    ConsoleEnabled,
    /// By `inspection_started_at`.
    InspectionStartedAt,
    /// By `inspection_finished_at`.
    InspectionFinishedAt,
    /// By `boot_interface`.
    BootInterface,
    /// By `console_interface`.
    ConsoleInterface,
    /// By `deploy_interface`.
    DeployInterface,
    /// By `inspect_interface`.
    InspectInterface,
    /// By `management_interface`.
    ManagementInterface,
    /// By `power_interface`.
    PowerInterface,
    /// By `raid_interface`.
    RaidInterface,
    /// By `vendor_interface`.
    VendorInterface,
    /// By `network_interface`.
    NetworkInterface,
    /// By `storage_interface`.
    StorageInterface,
    /// By `rescue_interface`.
    RescueInterface,
    /// By `bios_interface`.
    BiosInterface,
    /// By `firmware_interface`.
    FirmwareInterface,
    /// By `resource_class`.
    ResourceClass,
    /// By `conductor_group`.
    ConductorGroup,
    /// By `automated_clean`.
    AutomatedClean,
    /// By `protected`.
    Protected,
    /// By `protected_reason`.
    ProtectedReason,
    /// By `retired`.
    Retired,
    /// By `retired_reason`.
    RetiredReason,
    /// By `owner`.
    Owner,
    /// By `lessee`.
    Lessee,
    /// By `description`.
    Description,
    /// By `shard`.
    Shard,
    /// By `parent_node`.
    ParentNode,
    /// By `disable_power_off`.
    DisablePowerOff,
    /// By `boot_mode`.
    BootMode,
    /// By `secure_boot`.
    SecureBoot,
    /// By `health`.
    Health,
}

impl NodeSort {
    /// Whether nodes can be without it.
    const fn is_nullable(self) -> bool {
        !matches!(
            self,
            NodeSort::Id
                | NodeSort::Uuid
                | NodeSort::CreatedAt
                | NodeSort::Driver
                | NodeSort::ProvisionState
                | NodeSort::Maintenance
                | NodeSort::ConsoleEnabled
                | NodeSort::ConductorGroup
                | NodeSort::Protected
                | NodeSort::Retired
                | NodeSort::DisablePowerOff
        )
    }

    /// The key that bears this API name, if lists can be sorted by it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<NodeSort> {
        Some(match name {
            "id" => NodeSort::Id,
            "uuid" => NodeSort::Uuid,
            "created_at" => NodeSort::CreatedAt,
            "updated_at" => NodeSort::UpdatedAt,
            "name" => NodeSort::Name,
            "driver" => NodeSort::Driver,
            "instance_uuid" => NodeSort::InstanceUuid,
            "instance_name" => NodeSort::InstanceName,
            "chassis_uuid" => NodeSort::ChassisUuid,
            "provision_state" => NodeSort::ProvisionState,
            "target_provision_state" => NodeSort::TargetProvisionState,
            "provision_updated_at" => NodeSort::ProvisionUpdatedAt,
            "power_state" => NodeSort::PowerState,
            "target_power_state" => NodeSort::TargetPowerState,
            "last_error" => NodeSort::LastError,
            "reservation" => NodeSort::Reservation,
            "maintenance" => NodeSort::Maintenance,
            "maintenance_reason" => NodeSort::MaintenanceReason,
            "fault" => NodeSort::Fault,
            "console_enabled" => NodeSort::ConsoleEnabled,
            "inspection_started_at" => NodeSort::InspectionStartedAt,
            "inspection_finished_at" => NodeSort::InspectionFinishedAt,
            "boot_interface" => NodeSort::BootInterface,
            "console_interface" => NodeSort::ConsoleInterface,
            "deploy_interface" => NodeSort::DeployInterface,
            "inspect_interface" => NodeSort::InspectInterface,
            "management_interface" => NodeSort::ManagementInterface,
            "power_interface" => NodeSort::PowerInterface,
            "raid_interface" => NodeSort::RaidInterface,
            "vendor_interface" => NodeSort::VendorInterface,
            "network_interface" => NodeSort::NetworkInterface,
            "storage_interface" => NodeSort::StorageInterface,
            "rescue_interface" => NodeSort::RescueInterface,
            "bios_interface" => NodeSort::BiosInterface,
            "firmware_interface" => NodeSort::FirmwareInterface,
            "resource_class" => NodeSort::ResourceClass,
            "conductor_group" => NodeSort::ConductorGroup,
            "automated_clean" => NodeSort::AutomatedClean,
            "protected" => NodeSort::Protected,
            "protected_reason" => NodeSort::ProtectedReason,
            "retired" => NodeSort::Retired,
            "retired_reason" => NodeSort::RetiredReason,
            "owner" => NodeSort::Owner,
            "lessee" => NodeSort::Lessee,
            "description" => NodeSort::Description,
            "shard" => NodeSort::Shard,
            "parent_node" => NodeSort::ParentNode,
            "disable_power_off" => NodeSort::DisablePowerOff,
            "boot_mode" => NodeSort::BootMode,
            "secure_boot" => NodeSort::SecureBoot,
            "health" => NodeSort::Health,
            _ => return None,
        })
    }

    /// Its API name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            NodeSort::Id => "id",
            NodeSort::Uuid => "uuid",
            NodeSort::CreatedAt => "created_at",
            NodeSort::UpdatedAt => "updated_at",
            NodeSort::Name => "name",
            NodeSort::Driver => "driver",
            NodeSort::InstanceUuid => "instance_uuid",
            NodeSort::InstanceName => "instance_name",
            NodeSort::ChassisUuid => "chassis_uuid",
            NodeSort::ProvisionState => "provision_state",
            NodeSort::TargetProvisionState => "target_provision_state",
            NodeSort::ProvisionUpdatedAt => "provision_updated_at",
            NodeSort::PowerState => "power_state",
            NodeSort::TargetPowerState => "target_power_state",
            NodeSort::LastError => "last_error",
            NodeSort::Reservation => "reservation",
            NodeSort::Maintenance => "maintenance",
            NodeSort::MaintenanceReason => "maintenance_reason",
            NodeSort::Fault => "fault",
            NodeSort::ConsoleEnabled => "console_enabled",
            NodeSort::InspectionStartedAt => "inspection_started_at",
            NodeSort::InspectionFinishedAt => "inspection_finished_at",
            NodeSort::BootInterface => "boot_interface",
            NodeSort::ConsoleInterface => "console_interface",
            NodeSort::DeployInterface => "deploy_interface",
            NodeSort::InspectInterface => "inspect_interface",
            NodeSort::ManagementInterface => "management_interface",
            NodeSort::PowerInterface => "power_interface",
            NodeSort::RaidInterface => "raid_interface",
            NodeSort::VendorInterface => "vendor_interface",
            NodeSort::NetworkInterface => "network_interface",
            NodeSort::StorageInterface => "storage_interface",
            NodeSort::RescueInterface => "rescue_interface",
            NodeSort::BiosInterface => "bios_interface",
            NodeSort::FirmwareInterface => "firmware_interface",
            NodeSort::ResourceClass => "resource_class",
            NodeSort::ConductorGroup => "conductor_group",
            NodeSort::AutomatedClean => "automated_clean",
            NodeSort::Protected => "protected",
            NodeSort::ProtectedReason => "protected_reason",
            NodeSort::Retired => "retired",
            NodeSort::RetiredReason => "retired_reason",
            NodeSort::Owner => "owner",
            NodeSort::Lessee => "lessee",
            NodeSort::Description => "description",
            NodeSort::Shard => "shard",
            NodeSort::ParentNode => "parent_node",
            NodeSort::DisablePowerOff => "disable_power_off",
            NodeSort::BootMode => "boot_mode",
            NodeSort::SecureBoot => "secure_boot",
            NodeSort::Health => "health",
        }
    }
}

type Boxed<S> = diesel::internal::table_macro::BoxedSelectStatement<
    'static,
    S,
    diesel::internal::table_macro::FromClause<dsl::nodes>,
    MultiBackend,
>;

/// The page after `marker`: its filters, order and limit.
pub(crate) fn list(c: &mut Conn, q: &NodeQuery) -> Result<Vec<Node>, StoreError> {
    at_one_moment(c, q, |c| parts(c, q))
}

/// Runs `read`, which reads the parts of the list `q`, so that it sees the database as it is at one moment: a node that
/// gets a value to sort by between the parts, or loses its own, would otherwise be in neither or in both.
pub(crate) fn at_one_moment<T>(
    c: &mut Conn,
    q: &NodeQuery,
    read: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // one part is one statement; within a transaction it is the transaction that says what is seen
    if !q.sort_key.is_nullable() || pool::depth(c) != Some(0) {
        return read(c);
    }
    Conn::transaction(c, |c| {
        // SQLite's transactions see one moment of themselves
        if let Conn::Pg(c) = c {
            c.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
        }
        read(c)
    })
}

fn parts(c: &mut Conn, q: &NodeQuery) -> Result<Vec<Node>, StoreError> {
    let marker = marker_of(c, q)?;
    let mut page = Vec::new();
    for part in Part::of(q.sort_dir) {
        let limit = q.limit.map(|limit| limit - i64::try_from(page.len()).unwrap_or(i64::MAX));
        if limit.is_some_and(|left| left <= 0) {
            break;
        }
        let query = dsl::nodes.select(Node::as_select()).into_boxed();
        if let Some(query) = part_of(query, q, part, limit, marker.as_ref()) {
            page.extend(query.load::<Node>(c)?);
        }
    }
    Ok(page)
}

/// The node that the page starts after.
pub(crate) fn marker_of(c: &mut Conn, q: &NodeQuery) -> Result<Option<Node>, StoreError> {
    match q.marker {
        Some(id) => Ok(Some(nodes::get(c, id)?.ok_or_else(|| StoreError::not_found("node", id))?)),
        None => Ok(None),
    }
}

/// A list in order has two parts, each of which an index runs through from any place in it, while no index runs through
/// both: the nodes that have a value to sort by, and those that have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Those that have a value.
    Present,
    /// Those that have none: last upwards, first downwards.
    Absent,
}

impl Part {
    /// In their order.
    pub(crate) const fn of(dir: SortDir) -> [Part; 2] {
        match dir {
            SortDir::Asc => [Part::Present, Part::Absent],
            SortDir::Desc => [Part::Absent, Part::Present],
        }
    }
}

/// `query` with the filters and the order of `q`, of one part of the list, `limit` nodes at the most; `None` when nothing
/// of that part comes after the marker.
pub(crate) fn part_of<S>(
    query: Boxed<S>,
    q: &NodeQuery,
    part: Part,
    limit: Option<i64>,
    marker: Option<&Node>,
) -> Option<Boxed<S>> {
    if part == Part::Absent && !q.sort_key.is_nullable() {
        return None;
    }
    let query = ordered(filtered(query, q), q.sort_key, q.sort_dir, part, marker)?;
    Some(match limit {
        Some(limit) => query.limit(limit),
        None => query,
    })
}

fn filtered<S>(mut query: Boxed<S>, q: &NodeQuery) -> Boxed<S> {
    if let Some(id) = q.instance_uuid {
        query = query.filter(dsl::instance_uuid.eq(TextCol::from(id)));
    }
    match q.associated {
        Some(true) => query = query.filter(dsl::instance_uuid.is_not_null()),
        Some(false) => query = query.filter(dsl::instance_uuid.is_null()),
        None => {}
    }
    if let Some(on) = q.maintenance {
        query = if on {
            query.filter(dsl::maintenance)
        } else {
            query.filter(diesel::dsl::not(dsl::maintenance))
        };
    }
    if let Some(on) = q.retired {
        query = if on { query.filter(dsl::retired) } else { query.filter(diesel::dsl::not(dsl::retired)) };
    }
    if let Some(states) = &q.provision_state {
        query = query.filter(dsl::provision_state.eq_any(words(states.iter().map(|s| s.as_str()))));
    }
    if let Some(driver) = q.driver.clone() {
        query = query.filter(dsl::driver.eq(driver));
    }
    if let Some(class) = q.resource_class.clone() {
        query = query.filter(dsl::resource_class.eq(class));
    }
    if let Some(fault) = q.fault {
        query = query.filter(dsl::fault.eq(fault.as_str()));
    }
    if let Some(group) = q.conductor_group.clone() {
        query = query.filter(dsl::conductor_group.eq(group));
    }
    if let Some(owner) = q.owner.clone() {
        query = query.filter(dsl::owner.eq(owner));
    }
    if let Some(lessee) = q.lessee.clone() {
        query = query.filter(dsl::lessee.eq(lessee));
    }
    if let Some(project) = q.project.clone() {
        query = query.filter(dsl::owner.eq(project.clone()).or(dsl::lessee.eq(project)));
    }
    if let Some(part) = &q.description_contains {
        query = query.filter(lower(dsl::description).like(contains(part)).escape('\\'));
    }
    if let Some(shards) = &q.shard {
        query = query.filter(dsl::shard.eq_any(words(shards.iter().map(String::as_str))));
    }
    match q.sharded {
        Some(true) => query = query.filter(dsl::shard.is_not_null()),
        Some(false) => query = query.filter(dsl::shard.is_null()),
        None => {}
    }
    if let Some(parent) = q.parent_node {
        query = query.filter(dsl::parent_node.eq(TextCol::from(parent)));
    } else if !q.include_children {
        query = query.filter(dsl::parent_node.is_null());
    }
    if let Some(name) = q.instance_name.clone() {
        query = query.filter(dsl::instance_name.eq(name));
    }
    if let Some(id) = q.chassis_uuid {
        query = query.filter(dsl::chassis_uuid.eq(TextCol::from(id)));
    }
    for name in &q.traits {
        use crate::tables::node_traits;
        query = query.filter(exists(
            node_traits::table
                .filter(node_traits::node_uuid.eq(dsl::uuid))
                .filter(node_traits::name.eq(name.clone())),
        ));
    }
    query
}

fn words<'a>(list: impl Iterator<Item = &'a str>) -> Vec<String> {
    list.map(str::to_owned).collect()
}

/// One part of the list in order, after the marker.
macro_rules! by {
    ($query:expr, $dir:expr, $part:expr, $marker:expr, $column:expr, $value:expr) => {{
        let column = $column.nullable();
        #[allow(clippy::redundant_closure_call)] // the closure is how a macro takes a field's reading
        let after = $marker.map(|row: &Node| (($value)(row), row.id));
        match ($part, $dir) {
            (Part::Present, SortDir::Asc) => {
                let query = $query.order_by((column.asc(), dsl::id.asc()));
                match after {
                    None => Some(query.filter(column.is_not_null())),
                    Some((Some(v), id)) => Some(
                        query.filter(column.ge(v.clone())).filter(column.gt(v).or(dsl::id.gt(id).nullable())),
                    ),
                    Some((None, _)) => None,
                }
            }
            (Part::Present, SortDir::Desc) => {
                let query = $query.order_by((column.desc(), dsl::id.desc()));
                match after {
                    None | Some((None, _)) => Some(query.filter(column.is_not_null())),
                    Some((Some(v), id)) => Some(
                        query.filter(column.le(v.clone())).filter(column.lt(v).or(dsl::id.lt(id).nullable())),
                    ),
                }
            }
            (Part::Absent, SortDir::Asc) => {
                let query = $query.filter(column.is_null()).order_by(dsl::id.asc());
                match after {
                    Some((None, id)) => Some(query.filter(dsl::id.gt(id))),
                    None | Some((Some(_), _)) => Some(query),
                }
            }
            (Part::Absent, SortDir::Desc) => {
                let query = $query.filter(column.is_null()).order_by(dsl::id.desc());
                match after {
                    None => Some(query),
                    Some((None, id)) => Some(query.filter(dsl::id.lt(id))),
                    Some((Some(_), _)) => None,
                }
            }
        }
    }};
}

fn ordered<S>(
    query: Boxed<S>,
    key: NodeSort,
    dir: SortDir,
    part: Part,
    marker: Option<&Node>,
) -> Option<Boxed<S>> {
    match key {
        NodeSort::Id => match part {
            Part::Present => Some(by_id!(query, dir, marker)),
            Part::Absent => None,
        },
        NodeSort::Uuid => by!(query, dir, part, marker, dsl::uuid, |n: &Node| Some(n.uuid.to_string())),
        NodeSort::CreatedAt => {
            by!(query, dir, part, marker, dsl::created_at, |n: &Node| Some(n.created_at.0))
        }
        NodeSort::UpdatedAt => {
            by!(query, dir, part, marker, dsl::updated_at, |n: &Node| n.updated_at.map(|t| t.0))
        }
        NodeSort::Name => by!(query, dir, part, marker, dsl::name, |n: &Node| n.name.clone()),
        NodeSort::Driver => by!(query, dir, part, marker, dsl::driver, |n: &Node| Some(n.driver.clone())),
        NodeSort::InstanceUuid => {
            by!(query, dir, part, marker, dsl::instance_uuid, |n: &Node| n
                .instance_uuid
                .map(|v| v.to_string()))
        }
        NodeSort::InstanceName => {
            by!(query, dir, part, marker, dsl::instance_name, |n: &Node| n.instance_name.clone())
        }
        NodeSort::ChassisUuid => {
            by!(query, dir, part, marker, dsl::chassis_uuid, |n: &Node| n.chassis_uuid.map(|v| v.to_string()))
        }
        NodeSort::ProvisionState => {
            by!(query, dir, part, marker, dsl::provision_state, |n: &Node| Some(n.provision_state.as_str()))
        }
        NodeSort::TargetProvisionState => {
            by!(query, dir, part, marker, dsl::target_provision_state, |n: &Node| n
                .target_provision_state
                .map(|v| v.as_str()))
        }
        NodeSort::ProvisionUpdatedAt => {
            by!(query, dir, part, marker, dsl::provision_updated_at, |n: &Node| n
                .provision_updated_at
                .map(|t| t.0))
        }
        NodeSort::PowerState => {
            by!(query, dir, part, marker, dsl::power_state, |n: &Node| n.power_state.map(|v| v.as_str()))
        }
        NodeSort::TargetPowerState => by!(query, dir, part, marker, dsl::target_power_state, |n: &Node| n
            .target_power_state
            .map(|v| v.as_str())),
        NodeSort::LastError => {
            by!(query, dir, part, marker, dsl::last_error, |n: &Node| n.last_error.clone())
        }
        NodeSort::Reservation => {
            by!(query, dir, part, marker, dsl::reservation, |n: &Node| n.reservation.clone())
        }
        NodeSort::Maintenance => {
            by!(query, dir, part, marker, dsl::maintenance, |n: &Node| Some(n.maintenance))
        }
        NodeSort::MaintenanceReason => {
            by!(query, dir, part, marker, dsl::maintenance_reason, |n: &Node| n.maintenance_reason.clone())
        }
        NodeSort::Fault => by!(query, dir, part, marker, dsl::fault, |n: &Node| n.fault.map(|v| v.as_str())),
        NodeSort::ConsoleEnabled => {
            by!(query, dir, part, marker, dsl::console_enabled, |n: &Node| Some(n.console_enabled))
        }
        NodeSort::InspectionStartedAt => {
            by!(query, dir, part, marker, dsl::inspection_started_at, |n: &Node| n
                .inspection_started_at
                .map(|t| t.0))
        }
        NodeSort::InspectionFinishedAt => {
            by!(query, dir, part, marker, dsl::inspection_finished_at, |n: &Node| n
                .inspection_finished_at
                .map(|t| t.0))
        }
        NodeSort::BootInterface => {
            by!(query, dir, part, marker, dsl::boot_interface, |n: &Node| n.boot_interface.clone())
        }
        NodeSort::ConsoleInterface => {
            by!(query, dir, part, marker, dsl::console_interface, |n: &Node| n.console_interface.clone())
        }
        NodeSort::DeployInterface => {
            by!(query, dir, part, marker, dsl::deploy_interface, |n: &Node| n.deploy_interface.clone())
        }
        NodeSort::InspectInterface => {
            by!(query, dir, part, marker, dsl::inspect_interface, |n: &Node| n.inspect_interface.clone())
        }
        NodeSort::ManagementInterface => {
            by!(query, dir, part, marker, dsl::management_interface, |n: &Node| n
                .management_interface
                .clone())
        }
        NodeSort::PowerInterface => {
            by!(query, dir, part, marker, dsl::power_interface, |n: &Node| n.power_interface.clone())
        }
        NodeSort::RaidInterface => {
            by!(query, dir, part, marker, dsl::raid_interface, |n: &Node| n.raid_interface.clone())
        }
        NodeSort::VendorInterface => {
            by!(query, dir, part, marker, dsl::vendor_interface, |n: &Node| n.vendor_interface.clone())
        }
        NodeSort::NetworkInterface => {
            by!(query, dir, part, marker, dsl::network_interface, |n: &Node| n.network_interface.clone())
        }
        NodeSort::StorageInterface => {
            by!(query, dir, part, marker, dsl::storage_interface, |n: &Node| n.storage_interface.clone())
        }
        NodeSort::RescueInterface => {
            by!(query, dir, part, marker, dsl::rescue_interface, |n: &Node| n.rescue_interface.clone())
        }
        NodeSort::BiosInterface => {
            by!(query, dir, part, marker, dsl::bios_interface, |n: &Node| n.bios_interface.clone())
        }
        NodeSort::FirmwareInterface => {
            by!(query, dir, part, marker, dsl::firmware_interface, |n: &Node| n.firmware_interface.clone())
        }
        NodeSort::ResourceClass => {
            by!(query, dir, part, marker, dsl::resource_class, |n: &Node| n.resource_class.clone())
        }
        NodeSort::ConductorGroup => {
            by!(query, dir, part, marker, dsl::conductor_group, |n: &Node| Some(n.conductor_group.clone()))
        }
        NodeSort::AutomatedClean => {
            by!(query, dir, part, marker, dsl::automated_clean, |n: &Node| n.automated_clean)
        }
        NodeSort::Protected => by!(query, dir, part, marker, dsl::protected, |n: &Node| Some(n.protected)),
        NodeSort::ProtectedReason => {
            by!(query, dir, part, marker, dsl::protected_reason, |n: &Node| n.protected_reason.clone())
        }
        NodeSort::Retired => by!(query, dir, part, marker, dsl::retired, |n: &Node| Some(n.retired)),
        NodeSort::RetiredReason => {
            by!(query, dir, part, marker, dsl::retired_reason, |n: &Node| n.retired_reason.clone())
        }
        NodeSort::Owner => by!(query, dir, part, marker, dsl::owner, |n: &Node| n.owner.clone()),
        NodeSort::Lessee => by!(query, dir, part, marker, dsl::lessee, |n: &Node| n.lessee.clone()),
        NodeSort::Description => {
            by!(query, dir, part, marker, dsl::description, |n: &Node| n.description.clone())
        }
        NodeSort::Shard => by!(query, dir, part, marker, dsl::shard, |n: &Node| n.shard.clone()),
        NodeSort::ParentNode => {
            by!(query, dir, part, marker, dsl::parent_node, |n: &Node| n.parent_node.map(|v| v.to_string()))
        }
        NodeSort::DisablePowerOff => {
            by!(query, dir, part, marker, dsl::disable_power_off, |n: &Node| Some(n.disable_power_off))
        }
        NodeSort::BootMode => {
            by!(query, dir, part, marker, dsl::boot_mode, |n: &Node| n.boot_mode.map(|v| v.as_str()))
        }
        NodeSort::SecureBoot => by!(query, dir, part, marker, dsl::secure_boot, |n: &Node| n.secure_boot),
        NodeSort::Health => by!(query, dir, part, marker, dsl::health, |n: &Node| n.health.clone()),
    }
}
