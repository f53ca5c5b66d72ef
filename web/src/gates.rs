//! What each microversion adds, as tables to be held beside microversions.md: fields, query arguments, verbs, body
//! keys, endpoints. Handlers look things up here and compare no version numbers themselves. The gates of provision
//! verbs and power targets stand beside those words (`ferric_machine::Verb::gate_before`, `PowerTarget::minor`).

use ferric_machine::Verb;

/// Who may write a field, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Server only.
    Never,
    /// In POST.
    Create,
    /// By PATCH.
    Patch,
    /// Both.
    Both,
}

impl Write {
    /// Whether POST takes it.
    #[must_use]
    pub fn at_create(self) -> bool {
        matches!(self, Write::Create | Write::Both)
    }

    /// Whether PATCH takes it.
    #[must_use]
    pub fn by_patch(self) -> bool {
        matches!(self, Write::Patch | Write::Both)
    }
}

/// What values a field takes. All but `Required*` also take null, which means the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text of at most so many characters.
    Text(usize),
    /// Text that is not empty.
    Word(usize),
    /// Text that must be there.
    RequiredText(usize),
    /// A logical name of a node or port.
    Name,
    /// A UUID.
    Uuid,
    /// A UUID that must be there.
    RequiredUuid,
    /// A JSON object; null is the empty one.
    Object,
    /// true or false; null is the field's default.
    Bool,
    /// true, false, or null for "as configured".
    MaybeBool,
    /// A conductor group: `A-Z a-z 0-9 _ - .`, stored in lower case.
    Group,
    /// A MAC address, stored in lower case.
    Mac,
    /// A MAC address or null.
    MaybeMac,
    /// The name of a trait.
    Trait,
    /// The name of a runbook: any unreserved characters since [`RELAXED_RUNBOOKS`], a trait before.
    RunbookName,
    /// A JSON array, whose items the resource checks.
    List,
    /// A whole number from 0 to this; null is 0.
    Count(i32),
    /// A whole number that must be there.
    Integer,
    /// Never written by a client.
    Derived,
}

/// A field of a resource.
#[derive(Debug)]
pub struct Spec {
    /// Its key.
    pub name: &'static str,
    /// The minor version that brought it. Older: absent from answers, 406 when sent.
    pub since: u16,
    /// Who may write it.
    pub write: Write,
    /// Its values.
    pub kind: Kind,
}

/// The fields of one resource, an enumeration beside its table.
pub trait Field: Copy + Eq + std::fmt::Debug + Send + 'static {
    /// The resource, for people.
    const WHAT: &'static str;
    /// All, in the order of the answer.
    const ALL: &'static [Self];
    /// What a list shows unless asked otherwise.
    const LISTED: &'static [Self];
    /// Added to any explicit selection.
    const LINKS: Self;
    /// Its row.
    fn spec(self) -> &'static Spec;
    /// The field with that key.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.spec().name == name)
    }
}

macro_rules! fields {
    ($(#[$meta:meta])* $name:ident, $what:literal, listed [$($listed:ident),+];
     $($variant:ident $key:literal $since:literal $write:ident $kind:expr;)+) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // the names are Ironic's own
        pub enum $name { $($variant,)+ }

        impl Field for $name {
            const WHAT: &'static str = $what;
            const ALL: &'static [Self] = &[$($name::$variant,)+];
            const LISTED: &'static [Self] = &[$($name::$listed,)+];
            const LINKS: Self = $name::Links;
            fn spec(self) -> &'static Spec {
                match self { $($name::$variant => {
                    static SPEC: Spec = Spec { name: $key, since: $since, write: Write::$write, kind: $kind };
                    &SPEC
                })+ }
            }
        }
    };
}

use Kind::{
    Bool, Count, Derived, Group, Integer, List, Mac, MaybeBool, MaybeMac, Name, Object, RequiredText,
    RequiredUuid, RunbookName, Text, Trait, Uuid, Word,
};

#[rustfmt::skip]
fields! {
    /// The 69 fields of a node (api.md §3.2, microversions.md "Gated node fields").
    NodeField, "Node", listed [Uuid, Name, InstanceUuid, Maintenance, PowerState, ProvisionState, Links];
    // variant            key                       since write  kind
    AllocationUuid        "allocation_uuid"            52 Never  Derived;
    AutomatedClean        "automated_clean"            47 Both   MaybeBool;
    BiosInterface         "bios_interface"             40 Both   Text(255);
    BootInterface         "boot_interface"             31 Both   Text(255);
    BootMode              "boot_mode"                  75 Create Text(16);
    ChassisUuid           "chassis_uuid"                1 Both   Uuid;
    CleanStep             "clean_step"                  7 Never  Derived;
    Conductor             "conductor"                  49 Never  Derived;
    ConductorGroup        "conductor_group"            46 Both   Group;
    ConsoleEnabled        "console_enabled"             1 Create Bool;
    ConsoleInterface      "console_interface"          31 Both   Text(255);
    CreatedAt             "created_at"                  1 Never  Derived;
    DeployInterface       "deploy_interface"           31 Both   Text(255);
    DeployStep            "deploy_step"                44 Never  Derived;
    Description           "description"                51 Both   Text(4096);
    DisablePowerOff       "disable_power_off"          95 Both   Bool;
    Driver                "driver"                      1 Both   RequiredText(255);
    DriverInfo            "driver_info"                 1 Both   Object;
    DriverInternalInfo    "driver_internal_info"        3 Never  Derived;
    Extra                 "extra"                       1 Both   Object;
    Fault                 "fault"                      42 Never  Derived;
    FirmwareInterface     "firmware_interface"         86 Both   Text(255);
    Health                "health"                    109 Never  Derived;
    InspectInterface      "inspect_interface"          31 Both   Text(255);
    InspectionFinishedAt  "inspection_finished_at"      6 Never  Derived;
    InspectionStartedAt   "inspection_started_at"       6 Never  Derived;
    InstanceInfo          "instance_info"               1 Both   Object;
    InstanceName          "instance_name"             104 Both   Word(255);
    InstanceUuid          "instance_uuid"               1 Both   Uuid;
    LastError             "last_error"                  1 Never  Derived;
    Lessee                "lessee"                     65 Both   Text(255);
    Maintenance           "maintenance"                 1 Both   Bool;
    MaintenanceReason     "maintenance_reason"          1 Never  Derived;
    ManagementInterface   "management_interface"       31 Both   Text(255);
    Name                  "name"                        5 Both   Name;
    NetworkData           "network_data"               66 Both   Object;
    NetworkInterface      "network_interface"          20 Both   Text(255);
    Owner                 "owner"                      50 Both   Text(255);
    ParentNode            "parent_node"                83 Both   Uuid;
    PowerInterface        "power_interface"            31 Both   Text(255);
    PowerState            "power_state"                 1 Never  Derived;
    Properties            "properties"                  1 Both   Object;
    Protected             "protected"                  48 Patch  Bool;
    ProtectedReason       "protected_reason"           48 Patch  Text(255);
    ProvisionState        "provision_state"             1 Never  Derived;
    ProvisionUpdatedAt    "provision_updated_at"        1 Never  Derived;
    RaidConfig            "raid_config"                12 Never  Derived;
    RaidInterface         "raid_interface"             31 Both   Text(255);
    RescueInterface       "rescue_interface"           38 Both   Text(255);
    Reservation           "reservation"                 1 Never  Derived;
    ResourceClass         "resource_class"             21 Both   Text(80);
    Retired               "retired"                    61 Both   Bool;
    RetiredReason         "retired_reason"             61 Both   Text(255);
    SecureBoot            "secure_boot"                75 Create MaybeBool;
    ServiceStep           "service_step"               87 Never  Derived;
    Shard                 "shard"                      82 Both   Text(255);
    StorageInterface      "storage_interface"          33 Both   Text(255);
    TargetPowerState      "target_power_state"          1 Never  Derived;
    TargetProvisionState  "target_provision_state"      1 Never  Derived;
    TargetRaidConfig      "target_raid_config"         12 Never  Derived;
    Traits                "traits"                     37 Never  Derived;
    UpdatedAt             "updated_at"                  1 Never  Derived;
    Uuid                  "uuid"                        1 Create Uuid;
    VendorInterface       "vendor_interface"           31 Both   Text(255);
    Links                 "links"                       1 Never  Derived;
    Ports                 "ports"                       1 Never  Derived;
    States                "states"                     14 Never  Derived;
    Portgroups            "portgroups"                 24 Never  Derived;
    Volume                "volume"                     32 Never  Derived;
}

#[rustfmt::skip]
fields! {
    /// The fields of a port (api.md §4).
    PortField, "Port", listed [Uuid, Address, Links];
    // variant                        key                                since write  kind
    Address                           "address"                              1 Both   Mac;
    AvailableForDynamicPortgroup      "available_for_dynamic_portgroup"    111 Both   Bool;
    Category                          "category"                           101 Both   Text(80);
    CreatedAt                         "created_at"                           1 Never  Derived;
    Description                       "description"                         97 Both   Text(255);
    Extra                             "extra"                                1 Both   Object;
    InternalInfo                      "internal_info"                       18 Never  Derived;
    IsSmartnic                        "is_smartnic"                         53 Both   Bool;
    LocalLinkConnection               "local_link_connection"               19 Both   Object;
    Name                              "name"                                88 Both   Text(255);
    NodeUuid                          "node_uuid"                            1 Both   RequiredUuid;
    PhysicalNetwork                   "physical_network"                    34 Both   Text(64);
    PortgroupUuid                     "portgroup_uuid"                      24 Both   Uuid;
    PxeEnabled                        "pxe_enabled"                         19 Both   Bool;
    UpdatedAt                         "updated_at"                           1 Never  Derived;
    Uuid                              "uuid"                                 1 Create Uuid;
    Vendor                            "vendor"                             100 Both   Text(32);
    Links                             "links"                                1 Never  Derived;
}

#[rustfmt::skip]
fields! {
    /// The fields of a chassis (api.md §4).
    ChassisField, "Chassis", listed [Uuid, Description, Links];
    CreatedAt    "created_at"   1 Never  Derived;
    Description  "description"  1 Both   Text(255);
    Extra        "extra"        1 Both   Object;
    UpdatedAt    "updated_at"   1 Never  Derived;
    Uuid         "uuid"         1 Create Uuid;
    Links        "links"        1 Never  Derived;
    Nodes        "nodes"        1 Never  Derived;
}

#[rustfmt::skip]
fields! {
    /// The fields of a port group (api.md §4). What came with 1.102 and 1.103 is hidden from older clients, and taken from
    /// them all the same ([`PORTGROUP_GATED`]).
    PortgroupField, "Portgroup", listed [Uuid, Address, Name, Links];
    // variant                  key                          since write  kind
    Address                     "address"                       23 Both   MaybeMac;
    Category                    "category"                     103 Both   Text(80);
    CreatedAt                   "created_at"                    23 Never  Derived;
    DynamicPortgroup            "dynamic_portgroup"            111 Never  Derived;
    Extra                       "extra"                         23 Both   Object;
    InternalInfo                "internal_info"                 23 Never  Derived;
    Mode                        "mode"                          26 Both   Text(255);
    Name                        "name"                          23 Both   Text(255);
    NodeUuid                    "node_uuid"                     23 Both   RequiredUuid;
    PhysicalNetwork             "physical_network"             102 Both   Text(64);
    Properties                  "properties"                    26 Both   Object;
    StandalonePortsSupported    "standalone_ports_supported"    23 Both   Bool;
    UpdatedAt                   "updated_at"                    23 Never  Derived;
    Uuid                        "uuid"                          23 Create Uuid;
    Links                       "links"                         23 Never  Derived;
    Ports                       "ports"                         23 Never  Derived;
}

/// Fields that an older client may ask for by name, and does not get: by resource. Others are refused (406).
pub const LEFT_OUT: &[(&str, &str)] = &[("Port", "internal_info")];

/// What Ironic says can be changed, where that is not in the order of the alphabet: by resource.
pub const CHANGEABLE: &[(&str, &str)] = &[
    ("Chassis", "uuid, extra, description"),
    (
        "Port",
        "address, extra, is_smartnic, local_link_connection, node_ident, node_uuid, physical_network, portgroup_uuid, \
         pxe_enabled, name, description, vendor, category, available_for_dynamic_portgroup",
    ),
    (
        "Portgroup",
        "address, extra, mode, name, node_uuid, properties, standalone_ports_supported, physical_network, category",
    ),
];

/// The fields of a port group that older clients may neither ask for nor sort by (406).
pub const PORTGROUP_GATED: &[PortgroupField] =
    &[PortgroupField::Mode, PortgroupField::Properties, PortgroupField::DynamicPortgroup];

#[rustfmt::skip]
fields! {
    /// The fields of a volume connector (api.md §8).
    ConnectorField, "Volume connector", listed [Uuid, NodeUuid, Type, ConnectorId, Links];
    ConnectorId  "connector_id"  32 Both   RequiredText(255);
    CreatedAt    "created_at"    32 Never  Derived;
    Extra        "extra"         32 Both   Object;
    NodeUuid     "node_uuid"     32 Both   RequiredUuid;
    Type         "type"          32 Both   RequiredText(255);
    UpdatedAt    "updated_at"    32 Never  Derived;
    Uuid         "uuid"          32 Create Uuid;
    Links        "links"         32 Never  Derived;
}

#[rustfmt::skip]
fields! {
    /// The fields of a volume target (api.md §8).
    TargetField, "Volume target", listed [Uuid, NodeUuid, VolumeType, BootIndex, VolumeId, Links];
    BootIndex    "boot_index"    32 Both   Integer;
    CreatedAt    "created_at"    32 Never  Derived;
    Extra        "extra"         32 Both   Object;
    NodeUuid     "node_uuid"     32 Both   RequiredUuid;
    Properties   "properties"    32 Both   Object;
    UpdatedAt    "updated_at"    32 Never  Derived;
    Uuid         "uuid"          32 Create Uuid;
    VolumeId     "volume_id"     32 Both   RequiredText(255);
    VolumeType   "volume_type"   32 Both   RequiredText(255);
    Links        "links"         32 Never  Derived;
}

#[rustfmt::skip]
fields! {
    /// The fields of a conductor (api.md §5).
    ConductorField, "Conductor", listed [Hostname, ConductorGroup, Alive, Links];
    Alive           "alive"            49 Never Derived;
    ConductorGroup  "conductor_group"  49 Never Derived;
    CreatedAt       "created_at"       49 Never Derived;
    Drivers         "drivers"          49 Never Derived;
    Hostname        "hostname"         49 Never Derived;
    UpdatedAt       "updated_at"       49 Never Derived;
    Links           "links"            49 Never Derived;
}

#[rustfmt::skip]
fields! {
    /// The fields of an allocation (api.md §6).
    AllocationField, "Allocation", listed [
        CandidateNodes, CreatedAt, Extra, LastError, Name, NodeUuid, Owner, ResourceClass, State, Traits, UpdatedAt,
        Uuid, Links
    ];
    CandidateNodes  "candidate_nodes"  52 Create List;
    CreatedAt       "created_at"       52 Never  Derived;
    Extra           "extra"            52 Both   Object;
    LastError       "last_error"       52 Never  Derived;
    Name            "name"             52 Both   Text(255);
    NodeUuid        "node_uuid"        52 Never  Derived;
    Owner           "owner"            60 Create Text(255);
    ResourceClass   "resource_class"   52 Create Text(80);
    State           "state"            52 Never  Derived;
    Traits          "traits"           52 Create List;
    UpdatedAt       "updated_at"       52 Never  Derived;
    Uuid            "uuid"             52 Create Uuid;
    Links           "links"            52 Never  Derived;
}

#[rustfmt::skip]
fields! {
    /// The fields of a deploy template (api.md §7).
    TemplateField, "Deploy template", listed [Uuid, Name, Links];
    CreatedAt   "created_at"  55 Never  Derived;
    Extra       "extra"       55 Both   Object;
    Name        "name"        55 Both   Trait;
    Steps       "steps"       55 Both   List;
    UpdatedAt   "updated_at"  55 Never  Derived;
    Uuid        "uuid"        55 Create Uuid;
    Links       "links"       55 Never  Derived;
}

#[rustfmt::skip]
fields! {
    /// The fields of a runbook (api.md §7).
    RunbookField, "Runbook", listed [Uuid, Name, Links];
    CreatedAt       "created_at"       92 Never  Derived;
    Description     "description"     112 Both   Text(255);
    DisableRamdisk  "disable_ramdisk"  92 Both   Bool;
    Extra           "extra"            92 Both   Object;
    Name            "name"             92 Both   RunbookName;
    Owner           "owner"            92 Both   Text(255);
    Public          "public"           92 Both   Bool;
    Steps           "steps"            92 Both   List;
    Traits          "traits"          112 Never  Derived;
    UpdatedAt       "updated_at"       92 Never  Derived;
    Uuid            "uuid"             92 Create Uuid;
    Links           "links"            92 Never  Derived;
}

#[rustfmt::skip]
fields! {
    /// The fields of an inspection rule (api.md §7).
    RuleField, "Rule", listed [Uuid, Description, Priority, Phase, Links];
    Actions      "actions"      96 Both   List;
    Conditions   "conditions"   96 Both   List;
    CreatedAt    "created_at"   96 Never  Derived;
    Description  "description"  96 Both   Text(255);
    Phase        "phase"        96 Both   Text(16);
    Priority     "priority"     96 Both   Count(9999);
    Sensitive    "sensitive"    96 Both   Bool;
    UpdatedAt    "updated_at"   96 Never  Derived;
    Uuid         "uuid"         96 Create Uuid;
    Links        "links"        96 Never  Derived;
}

/// What a client sees that uses something newer than its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// 406.
    NotAcceptable,
    /// 400.
    BadRequest,
    /// 404, as for a path that nobody has.
    NotFound,
    /// 404, said by the resource itself.
    Unsupported,
    /// 405.
    MethodNotAllowed,
}

/// A query argument or body key.
#[derive(Debug)]
pub struct Arg {
    /// Its name.
    pub name: &'static str,
    /// The minor version that brought it; 1 for what was never gated.
    pub since: u16,
    /// What older clients get for it.
    pub below: Below,
}

const fn arg(name: &'static str, since: u16) -> Arg {
    Arg { name, since, below: Below::NotAcceptable }
}

const fn arg400(name: &'static str, since: u16) -> Arg {
    Arg { name, since, below: Below::BadRequest }
}

const LIMIT: Arg = arg("limit", 1);
const MARKER: Arg = arg("marker", 1);
const SORT_KEY: Arg = arg("sort_key", 1);
const SORT_DIR: Arg = arg("sort_dir", 1);
const FIELDS: Arg = arg("fields", 8);
const DETAIL: Arg = arg400("detail", 43);

/// `GET /nodes`. The first 20 are filters ([`NODE_FILTERS`]); `/nodes/detail` takes all but `fields` and `detail`.
#[rustfmt::skip]
pub const NODES_ARGS: &[Arg] = &[
    arg("chassis_uuid", 1),  arg("instance_uuid", 1), arg("associated", 1),       arg("maintenance", 1),
    arg("retired", 1),       arg("project", 1),       arg("description_contains", 1),
    arg("provision_state", 9), arg("driver", 16),     arg("resource_class", 21),  arg("fault", 42),
    arg("conductor_group", 46), arg("conductor", 49), arg("owner", 50),           arg("lessee", 65),
    arg("shard", 82),        arg("sharded", 82),      arg("include_children", 83), arg("parent_node", 83),
    arg("instance_name", 104),
    LIMIT, MARKER, SORT_KEY, SORT_DIR, FIELDS, DETAIL,
];
/// `GET /nodes/detail`.
pub const NODES_DETAIL_ARGS: &[Arg] = NODES_ARGS.split_at(NODES_ARGS.len() - 2).0;
/// Those of [`NODES_ARGS`] that filter.
pub const NODE_FILTERS: &[Arg] = NODES_ARGS.split_at(20).0;

/// `GET /ports`; the first 7 are filters ([`PORT_FILTERS`]).
#[rustfmt::skip]
pub const PORTS_ARGS: &[Arg] = &[
    arg("node", 1), arg("node_uuid", 1), arg("address", 1), arg("portgroup", 24), arg("shard", 82),
    arg("description_contains", 1), arg("conductor_groups", 1),
    LIMIT, MARKER, SORT_KEY, SORT_DIR, FIELDS, DETAIL,
];
/// `GET /ports/detail`.
pub const PORTS_DETAIL_ARGS: &[Arg] = PORTS_ARGS.split_at(PORTS_ARGS.len() - 2).0;
/// Those of [`PORTS_ARGS`] that filter.
pub const PORT_FILTERS: &[Arg] = PORTS_ARGS.split_at(7).0;

/// Lists without filters.
pub const PLAIN_ARGS: &[Arg] = &[LIMIT, MARKER, SORT_KEY, SORT_DIR, FIELDS, DETAIL];
/// `…/detail` below another resource.
pub const SUB_DETAIL_ARGS: &[Arg] = PLAIN_ARGS.split_at(PLAIN_ARGS.len() - 2).0;
/// `GET /v1/ferric/nodes/{ident}/console`.
pub const TERMINAL_ARGS: &[Arg] = &[arg("write", 1)];
/// `GET /v1/ferric/events`.
pub const EVENTS_ARGS: &[Arg] = &[arg("after", 1), arg("node", 1), arg("kind", 1)];
/// `GET /v1/ferric/nodes/{ident}/steps`.
pub const STEPS_ARGS: &[Arg] = &[arg("operations", 1)];
/// `GET /v1/ferric/nodes/{ident}/sensors`.
pub const SENSORS_ARGS: &[Arg] = &[arg("max_age", 1)];
/// `GET /v1/ferric/nodes/{ident}/sel`.
pub const EVENT_LOG_ARGS: &[Arg] = &[arg("limit", 1)];
/// `PUT /v1/ferric/nodes/{ident}/identify`.
pub const IDENTIFY_ARGS: &[Arg] = &[arg("on", 1), arg("seconds", 1)];
/// `GET /chassis`.
pub const CHASSIS_ARGS: &[Arg] = PLAIN_ARGS;
/// `GET /chassis/{uuid}/nodes`: the chassis is named by the path.
pub const CHASSIS_NODES_ARGS: &[Arg] = NODES_ARGS.split_at(1).1;
/// `GET /chassis/{uuid}/nodes/detail`.
pub const CHASSIS_NODES_DETAIL_ARGS: &[Arg] = CHASSIS_NODES_ARGS.split_at(CHASSIS_NODES_ARGS.len() - 2).0;
/// `GET /portgroups`; the first 4 are filters ([`PORTGROUP_FILTERS`]).
#[rustfmt::skip]
pub const PORTGROUPS_ARGS: &[Arg] = &[
    arg("node", 1), arg("address", 1), arg("shard", 106), arg("conductor_groups", 1),
    LIMIT, MARKER, SORT_KEY, SORT_DIR, FIELDS, DETAIL,
];
/// Those of [`PORTGROUPS_ARGS`] that filter.
pub const PORTGROUP_FILTERS: &[Arg] = PORTGROUPS_ARGS.split_at(4).0;
/// `GET /portgroups/detail`.
pub const PORTGROUPS_DETAIL_ARGS: &[Arg] = PORTGROUPS_ARGS.split_at(PORTGROUPS_ARGS.len() - 2).0;
/// `GET /nodes/{uuid}/portgroups`.
pub const NODE_PORTGROUPS_ARGS: &[Arg] = PLAIN_ARGS;
/// `GET /volume/connectors`, `/volume/targets`; the first is a filter.
pub const VOLUMES_ARGS: &[Arg] =
    &[arg("node", 1), LIMIT, MARKER, SORT_KEY, SORT_DIR, FIELDS, arg("detail", 1)];
/// Those of [`VOLUMES_ARGS`] that filter.
pub const VOLUME_FILTERS: &[Arg] = VOLUMES_ARGS.split_at(1).0;
/// `GET /nodes/{uuid}/volume/connectors`, `…/targets`.
pub const NODE_VOLUMES_ARGS: &[Arg] = VOLUMES_ARGS.split_at(1).1;
/// `GET /conductors`.
pub const CONDUCTORS_ARGS: &[Arg] = &[LIMIT, MARKER, SORT_KEY, SORT_DIR, FIELDS, DETAIL];
/// `GET /allocations`; the first 4 are filters ([`ALLOCATION_FILTERS`]).
pub const ALLOCATIONS_ARGS: &[Arg] = &[
    arg("node", 52),
    arg("resource_class", 52),
    arg("state", 52),
    arg("owner", 60),
    LIMIT,
    MARKER,
    SORT_KEY,
    SORT_DIR,
    FIELDS,
];
/// Those of [`ALLOCATIONS_ARGS`] that filter.
pub const ALLOCATION_FILTERS: &[Arg] = ALLOCATIONS_ARGS.split_at(4).0;
/// `node` in POST /allocations since (400 below).
pub const ALLOCATION_BACKFILL: u16 = 58;
/// `port_uuid` and `portgroup_uuid` of a VIF mean something since; before, any key was taken and forgotten.
pub const VIF_PORT: u16 = 67;
/// `GET /deploy_templates`.
pub const TEMPLATES_ARGS: &[Arg] = &[LIMIT, MARKER, SORT_KEY, SORT_DIR, FIELDS, DETAIL];
/// `GET /runbooks`; the first is a filter.
pub const RUNBOOKS_ARGS: &[Arg] = &[arg("project", 1), LIMIT, MARKER, SORT_KEY, SORT_DIR, FIELDS, DETAIL];
/// Those of [`RUNBOOKS_ARGS`] that filter.
pub const RUNBOOK_FILTERS: &[Arg] = RUNBOOKS_ARGS.split_at(1).0;
/// `GET /inspection_rules`; the first is a filter.
pub const RULES_ARGS: &[Arg] = &[arg("phase", 1), LIMIT, MARKER, SORT_KEY, SORT_DIR, FIELDS, DETAIL];
/// Those of [`RULES_ARGS`] that filter.
pub const RULE_FILTERS: &[Arg] = RULES_ARGS.split_at(1).0;
/// `GET /nodes/{ident}/history`.
pub const HISTORY_ARGS: &[Arg] = &[LIMIT, MARKER, SORT_KEY, SORT_DIR, arg("detail", 1)];
/// `GET /drivers`.
pub const DRIVERS_ARGS: &[Arg] = &[arg("type", 30), arg("detail", 30), arg("fields", 77)];
/// What may be chosen of a hardware type. Ironic takes these words at every version that takes any, and says afterwards
/// which of them the answer does not have.
pub const DRIVER_FIELDS: &[&str] = &[
    "hosts",
    "links",
    "name",
    "default_boot_interface",
    "enabled_boot_interfaces",
    "default_console_interface",
    "enabled_console_interfaces",
    "default_deploy_interface",
    "enabled_deploy_interfaces",
    "default_inspect_interface",
    "enabled_inspect_interfaces",
    "default_management_interface",
    "enabled_management_interfaces",
    "default_network_interface",
    "enabled_network_interfaces",
    "default_power_interface",
    "enabled_power_interfaces",
    "default_raid_interface",
    "enabled_raid_interfaces",
    "default_vendor_interface",
    "enabled_vendor_interfaces",
    "default_storage_interface",
    "enabled_storage_interfaces",
    "default_rescue_interface",
    "enabled_rescue_interfaces",
    "default_bios_interface",
    "enabled_bios_interfaces",
    "default_firmware_interface",
    "enabled_firmware_interfaces",
    "properties",
    "type",
];
/// `GET /drivers/{name}`.
pub const DRIVER_ARGS: &[Arg] = &[arg("fields", 77)];
/// `GET /nodes/{ident}`, `/ports/{ident}`, `/conductors/{name}`.
pub const ITEM_ARGS: &[Arg] = &[FIELDS];
/// `PATCH /nodes/{ident}`.
pub const PATCH_NODE_ARGS: &[Arg] = &[arg("reset_interfaces", 45)];
/// `GET /openapi.json`.
pub const OPENAPI_ARGS: &[Arg] = &[arg("microversion", 1)];
/// Where no argument is taken.
pub const NO_ARGS: &[Arg] = &[];
/// `GET /nodes/validate`.
pub const VALIDATE_ARGS: &[Arg] = &[arg("node", 1), arg("node_uuid", 1)];
/// `GET /drivers/properties`.
pub const DRIVER_PROPERTIES_ARGS: &[Arg] = &[arg("driver_name", 1)];
/// `GET /lookup`.
pub const LOOKUP_ARGS: &[Arg] = &[arg("addresses", 1), arg("node_uuid", 1)];
/// Query of `POST /continue_inspection`.
pub const CONTINUE_INSPECTION_ARGS: &[Arg] = &[arg400("node_uuid", CONTINUE_INSPECTION)];
/// Body or query of `POST /heartbeat/{ident}`.
#[rustfmt::skip]
pub const HEARTBEAT_ARGS: &[Arg] = &[
    arg("callback_url", 1), arg("agent_token", 1), arg400("agent_version", 36), arg400("agent_verify_ca", 68),
    arg400("agent_status", 72), arg400("agent_status_message", 72),
];
/// Body or query of `PUT …/states/power`.
pub const POWER_ARGS: &[Arg] = &[arg("target", 1), arg("timeout", 27)];
/// Body or query of `PUT …/states/console`.
pub const CONSOLE_ARGS: &[Arg] = &[arg("enabled", 1)];
/// Body or query of `PUT …/states/boot_mode` and `…/secure_boot`.
pub const TARGET_ARGS: &[Arg] = &[arg("target", 1)];
/// Body or query of `PUT …/management/indicators/{indicator}`.
pub const INDICATOR_ARGS: &[Arg] = &[arg("state", 1)];
/// `GET /nodes/{ident}/bios`.
pub const BIOS_ARGS: &[Arg] = &[arg400("detail", 74), arg400("fields", 74)];
/// What is told of a BIOS setting with `detail`, and of one alone since the version of [`BIOS_ARGS`].
pub const BIOS_REGISTRY: &[&str] = &[
    "name",
    "value",
    "attribute_type",
    "allowable_values",
    "lower_bound",
    "max_length",
    "min_length",
    "read_only",
    "reset_required",
    "unique",
    "upper_bound",
];
/// What may be chosen of a BIOS setting, in Ironic's order; it forgot `upper_bound`, which may be chosen all the same.
pub const BIOS_FIELDS: &[&str] = &[
    "allowable_values",
    "attribute_type",
    "created_at",
    "lower_bound",
    "links",
    "max_length",
    "min_length",
    "name",
    "node_uuid",
    "read_only",
    "reset_required",
    "unique",
    "updated_at",
    "value",
];
/// `GET /nodes/{ident}/firmware`.
pub const FIRMWARE_ARGS: &[Arg] = &[arg("detail", 86), arg("fields", 86)];
/// What is told of a firmware component, and since when.
pub const FIRMWARE_FIELDS: &[(&str, u16)] = &[
    ("created_at", 86),
    ("updated_at", 86),
    ("component", 86),
    ("initial_version", 86),
    ("current_version", 86),
    ("last_version_flashed", 86),
    ("vendor", 114),
    ("model", 114),
    ("serial_number", 114),
];
/// `DELETE /nodes/{ident}/vmedia`.
pub const VMEDIA_DETACH_ARGS: &[Arg] = &[arg("device_types", 89)];
/// Any method of `…/vendor_passthru`.
pub const VENDOR_ARGS: &[Arg] = &[arg("method", 1)];
/// Body or query of `PUT …/maintenance`.
pub const MAINTENANCE_ARGS: &[Arg] = &[arg("reason", 1)];
/// Body or query of `PUT …/management/boot_device`.
pub const BOOT_DEVICE_ARGS: &[Arg] = &[arg("boot_device", 1), arg("persistent", 1)];
/// Body or query of `PUT …/states/provision`; which verb takes which is `routes::provision`'s business.
#[rustfmt::skip]
pub const PROVISION_ARGS: &[Arg] = &[
    arg("target", 1), arg("configdrive", 1), arg("clean_steps", 1), arg("rescue_password", 1),
    arg("deploy_steps", 1), arg("disable_ramdisk", 1), arg("service_steps", 1), arg("runbook", 1),
];
/// Body key `deploy_steps` (406 below; looked at after the state).
pub const DEPLOY_STEPS: u16 = 69;
/// Body key `service_steps` (406 below; looked at after the state).
pub const SERVICE_STEPS: u16 = 87;
/// `execute_on_child_nodes` and `limit_child_node_execution` of a step, which came with the nodes' `parent_node`.
pub const CHILD_STEPS: u16 = 83;
/// Body key `runbook` (406 below; looked at after the state).
pub const RUNBOOK: u16 = 92;
/// The word `delete` as a verb: 406 below, not understood since.
pub const RAW_DELETE: u16 = 73;

/// The minor version since which `disable_ramdisk` goes with a verb.
pub const DISABLE_RAMDISK: &[(Verb, u16)] = &[(Verb::Clean, 70), (Verb::Service, 108)];
/// The minor version since which `configdrive` goes with a verb (400 below).
pub const CONFIGDRIVE: &[(Verb, u16)] = &[(Verb::Active, 1), (Verb::Rebuild, 35)];
/// `configdrive` as an object (400 below).
pub const CONFIGDRIVE_OBJECT: u16 = 56;
/// Its key `vendor_data` (400 below).
pub const CONFIGDRIVE_VENDOR_DATA: u16 = 59;

/// Values that older clients see under another name.
#[rustfmt::skip]
pub const AVAILABLE_NAMED: u16 = 2; // null before
/// `inspect wait` is rendered `inspecting` before.
pub const INSPECT_WAIT_NAMED: u16 = 39;
/// A node has its name in its path since.
pub const NODE_NAME_IN_PATH: u16 = 5;
/// Names need not be host names since.
pub const RELAXED_NAMES: u16 = 10;
/// New nodes start in `enroll` since, in `available` before.
pub const STARTS_IN_ENROLL: u16 = 11;
/// `chassis_uuid` may be unset since (406 below, if it was set).
pub const UNSET_CHASSIS: u16 = 25;
/// Fields of a port that older clients may not take away either (406).
pub const PORT_REMOVAL_GATED: &[PortField] = &[
    PortField::PxeEnabled,
    PortField::LocalLinkConnection,
    PortField::PortgroupUuid,
    PortField::PhysicalNetwork,
    PortField::IsSmartnic,
];
/// Fields of a port that older clients may not sort by (406).
pub const PORT_SORT_GATED: &[&str] = &[
    "pxe_enabled",
    "local_link_connection",
    "portgroup_uuid",
    "physical_network",
    "is_smartnic",
    "name",
    "description",
    "vendor",
    "category",
    "available_for_dynamic_portgroup",
];
/// Port groups since.
pub const PORTGROUPS: u16 = 23;
/// `node_ident` in POST /ports since.
pub const PORT_NODE_IDENT: u16 = 94;
/// PATCH of an `inspecting` node is 409 since.
pub const INSPECTING_LOCKED: u16 = 39;
/// A trailing `.json` is part of the name since.
pub const JSON_SUFFIX_LITERAL: u16 = 91;
/// `network_type` in a port's `local_link_connection` (406 below).
pub const LOCAL_LINK_NETWORK_TYPE: u16 = 64;
/// Keys of `local_link_connection` that name an OVN VTEP switch...
pub const VTEP_KEYS: &[&str] = &["vtep-logical-switch", "vtep-physical-switch"];
/// ... came with this version,
pub const VTEP_SINCE: u16 = 90;
/// ... and went with this one (406 outside, and shown as an empty object).
pub const VTEP_UNTIL: u16 = 105;
/// The physical network of a port in a port group is the group's since.
pub const PORT_PHYSICAL_NETWORK_OF_GROUP: u16 = 102;
/// `POST /v1/continue_inspection` takes `node_uuid` and answers as a lookup does since; below there is no such path, but
/// for exactly 1.1, where ironic-python-agent calls it without a version and is answered `{"uuid": …}`.
pub const CONTINUE_INSPECTION: u16 = 84;
/// The one version below [`CONTINUE_INSPECTION`] that may call it.
pub const CONTINUE_INSPECTION_OLD: u16 = 1;
/// Lookup shows the agent token since.
pub const LOOKUP_TOKEN: u16 = 62;
/// `GET …/states` shows boot mode and secure boot since.
pub const STATES_BOOT_MODE: u16 = 75;
/// `GET …/states` shows raid_config and target_raid_config since.
pub const STATES_RAID: u16 = 12;
/// Runbooks have traits, a description, and names that are no traits since (400 below).
pub const RELAXED_RUNBOOKS: u16 = 112;
/// A line of a node's history shows its project in detail since.
pub const HISTORY_PROJECT: u16 = 113;
/// A line of a node's history shows states and duration in detail since.
pub const HISTORY_STATES: u16 = 115;
/// Drivers show their type and interfaces since.
pub const DRIVER_TYPE: u16 = 30;
/// Drivers link their properties since.
pub const DRIVER_PROPERTIES_LINK: u16 = 14;

/// Driver interfaces that `GET /drivers` shows later than [`DRIVER_TYPE`].
pub const DRIVER_INTERFACES: &[(&str, u16)] =
    &[("bios", 40), ("firmware", 86), ("rescue", 38), ("storage", 33)];

/// Resources in the `/v1` document, with the version that shows them.
#[rustfmt::skip]
pub const RESOURCES: &[(&str, u16)] = &[
    ("chassis", 1), ("nodes", 1), ("ports", 1), ("drivers", 1), ("lookup", 22), ("heartbeat", 22), ("portgroups", 23),
    ("volume", 32), ("conductors", 49), ("allocations", 52), ("events", 54), ("deploy_templates", 55), ("shards", 82),
    ("continue_inspection", 84), ("runbooks", 92), ("inspection_rules", 96),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn visible<F: Field>(minor: u16) -> usize {
        F::ALL.iter().filter(|field| field.spec().since <= minor).count()
    }

    #[test]
    fn the_tables_have_the_counts_of_the_reference() {
        assert_eq!(visible::<NodeField>(1), 22);
        assert_eq!(visible::<NodeField>(115), 69);
        assert_eq!(NodeField::ALL.iter().filter(|field| field.spec().write.at_create()).count(), 39);
        assert_eq!(NodeField::ALL.iter().filter(|field| field.spec().write.by_patch()).count(), 37);
        assert_eq!(PortField::ALL.len(), 18);
    }
}
