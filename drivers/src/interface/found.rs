//! What steps leave behind.

use ferric_machine::PowerState;
use uuid::Uuid;

use super::{Json, Step};

/// What a step leaves behind when it is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Merged into driver_internal_info; null takes a key away.
    pub keep: Json,
    /// The steps that follow this one, in order, instead of those planned so far.
    pub next: Option<Vec<Step>>,
    /// New values of the node's fields.
    pub node: Vec<NodeChange>,
    /// Ports to create. An address that the node has already is left alone.
    pub ports: Vec<FoundPort>,
    /// Ports of the node to change.
    pub ports_changed: Vec<PortChange>,
    /// Ports of the node to take away, by their id.
    pub ports_gone: Vec<Uuid>,
    /// What an inspection found, for `GET …/inventory`: `inventory` and `plugin_data`.
    pub inventory: Option<(Json, Json)>,
    /// The BIOS settings of the machine, all of them: those that are stored and not among them go.
    pub bios: Option<Vec<BiosSetting>>,
    /// The firmware of the machine, all of it. The first version seen of a component stays its `initial_version`.
    pub firmware: Option<Vec<FirmwareComponent>>,
}

/// A field of the node with its new, whole value.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeChange {
    /// `properties`.
    Properties(Json),
    /// `extra`.
    Extra(Json),
    /// `driver_info`, unmasked.
    DriverInfo(Json),
    /// `instance_info`, unmasked.
    InstanceInfo(Json),
    /// `raid_config`.
    RaidConfig(Json),
    /// `resource_class`.
    ResourceClass(Option<String>),
    /// `description`.
    Description(Option<String>),
    /// `name`.
    Name(Option<String>),
    /// Traits, all of them.
    Traits(Vec<String>),
    /// `power_state`, as read from the BMC.
    Power(PowerState),
}

/// A port that an inspection found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundPort {
    /// MAC address, lower case, with colons.
    pub address: String,
    /// Whether the machine may network-boot from it.
    pub pxe_enabled: bool,
    /// `extra`.
    pub extra: Json,
    /// `local_link_connection`.
    pub local_link_connection: Json,
    /// `physical_network`.
    pub physical_network: Option<String>,
}

/// New, whole values of a port's fields; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortChange {
    /// The port's id.
    pub uuid: Uuid,
    /// Whether the machine may network-boot from it.
    pub pxe_enabled: Option<bool>,
    /// `extra`.
    pub extra: Option<Json>,
    /// `local_link_connection`.
    pub local_link_connection: Option<Json>,
    /// `physical_network`; the inner `None` takes it away.
    pub physical_network: Option<Option<String>>,
}

/// A BIOS setting of a machine; `None` where the machine does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BiosSetting {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// `Enumeration`, `Integer`, `String` …
    pub attribute_type: Option<String>,
    /// The values that an enumeration takes.
    pub allowable_values: Option<Vec<String>>,
    /// The least value of an integer.
    pub lower_bound: Option<i64>,
    /// The greatest value of an integer.
    pub upper_bound: Option<i64>,
    /// The least length of a string, in characters.
    pub min_length: Option<i64>,
    /// The greatest length of a string, in characters.
    pub max_length: Option<i64>,
    /// It can be read and not be set.
    pub read_only: Option<bool>,
    /// A change takes effect with the next boot.
    pub reset_required: Option<bool>,
    /// Its value is this machine's alone (serial number).
    pub unique: Option<bool>,
}

/// A part of a machine that has firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirmwareComponent {
    /// `bios`, `bmc`, `nic:…`.
    pub component: String,
    /// The version that runs.
    pub current_version: Option<String>,
    /// The version that was written last.
    pub last_version_flashed: Option<String>,
    /// Its maker.
    pub vendor: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial_number: Option<String>,
}
