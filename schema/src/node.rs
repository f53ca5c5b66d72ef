//! The node's row: every persisted field of the API under its API name (api.md §3.2).

use diesel::prelude::*;
use ferric_machine::{BootMode, Fault, PowerState, State, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    tables::nodes,
    types::{BigCol, JsonText, TextCol},
};

/// One node as it is stored. Its `Debug` tells the size of the JSON fields, never their content.
#[derive(Clone, Debug, PartialEq, Serialize, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = nodes, treat_none_as_default_value = false, treat_none_as_null = true)]
pub struct Node {
    /// The row's number, in order of creation; what paging sorts by. 0 before the insert.
    #[diesel(skip_insertion, skip_update)]
    pub id: i64,
    /// The node's public id. Never changes: naming it in an update would make SQLite look for who refers to it.
    #[diesel(serialize_as = TextCol, skip_update)]
    pub uuid: Uuid,
    /// Counts the writes of this row; [`crate::nodes::advance`] refuses a row that was read before the last one.
    pub generation: i64,
    /// When the node was enrolled.
    #[diesel(serialize_as = BigCol)]
    pub created_at: Timestamp,
    /// When the row was last written; null until the first write after the insert.
    #[diesel(serialize_as = BigCol)]
    pub updated_at: Option<Timestamp>,
    /// A unique name for people.
    pub name: Option<String>,
    /// The hardware type.
    pub driver: String,
    /// How to reach the hardware; holds secrets.
    pub driver_info: JsonText,
    /// What the conductor keeps about the node between steps; holds the agent's secrets.
    pub driver_internal_info: JsonText,
    /// What the machine is: CPUs, memory, capabilities, root device hints.
    pub properties: JsonText,
    /// The operator's own data.
    pub extra: JsonText,
    /// What to deploy; holds secrets.
    pub instance_info: JsonText,
    /// The instance on the node; unique.
    #[diesel(serialize_as = TextCol)]
    pub instance_uuid: Option<Uuid>,
    /// The instance's name.
    pub instance_name: Option<String>,
    /// The chassis that the node is in.
    #[diesel(serialize_as = TextCol)]
    pub chassis_uuid: Option<Uuid>,
    /// Where the node is in its life (states.md §1).
    #[diesel(serialize_as = TextCol)]
    pub provision_state: State,
    /// Where it is going, while it moves.
    #[diesel(serialize_as = TextCol)]
    pub target_provision_state: Option<State>,
    /// When the provision state last changed.
    #[diesel(serialize_as = BigCol)]
    pub provision_updated_at: Option<Timestamp>,
    /// The last power state read or set; null: unknown.
    #[diesel(serialize_as = TextCol)]
    pub power_state: Option<PowerState>,
    /// The power state being set, while it is.
    #[diesel(serialize_as = TextCol)]
    pub target_power_state: Option<PowerState>,
    /// What went wrong last, and what to do.
    pub last_error: Option<String>,
    /// The conductor that holds the node.
    pub reservation: Option<String>,
    /// Whether Ferric leaves the node alone.
    pub maintenance: bool,
    /// Why it is in maintenance.
    pub maintenance_reason: Option<String>,
    /// The fault for which Ferric itself set the maintenance.
    #[diesel(serialize_as = TextCol)]
    pub fault: Option<Fault>,
    /// Whether its serial console is open.
    pub console_enabled: bool,
    /// The RAID configuration found.
    pub raid_config: JsonText,
    /// The RAID configuration wanted.
    pub target_raid_config: JsonText,
    /// When the last inspection began.
    #[diesel(serialize_as = BigCol)]
    pub inspection_started_at: Option<Timestamp>,
    /// When the last inspection ended.
    #[diesel(serialize_as = BigCol)]
    pub inspection_finished_at: Option<Timestamp>,
    /// The clean step in progress; `{}`: none.
    pub clean_step: JsonText,
    /// The deploy step in progress; `{}`: none.
    pub deploy_step: JsonText,
    /// The service step in progress; `{}`: none.
    pub service_step: JsonText,
    /// The boot implementation in use.
    pub boot_interface: Option<String>,
    /// The console implementation in use.
    pub console_interface: Option<String>,
    /// The deploy implementation in use.
    pub deploy_interface: Option<String>,
    /// The inspect implementation in use.
    pub inspect_interface: Option<String>,
    /// The management implementation in use.
    pub management_interface: Option<String>,
    /// The power implementation in use.
    pub power_interface: Option<String>,
    /// The raid implementation in use.
    pub raid_interface: Option<String>,
    /// The vendor implementation in use.
    pub vendor_interface: Option<String>,
    /// The network implementation in use.
    pub network_interface: Option<String>,
    /// The storage implementation in use.
    pub storage_interface: Option<String>,
    /// The rescue implementation in use.
    pub rescue_interface: Option<String>,
    /// The bios implementation in use.
    pub bios_interface: Option<String>,
    /// The firmware implementation in use.
    pub firmware_interface: Option<String>,
    /// The class that schedulers see.
    pub resource_class: Option<String>,
    /// The group of conductors that may manage it; empty: the default one.
    pub conductor_group: String,
    /// Overrides the configuration's automated cleaning.
    pub automated_clean: Option<bool>,
    /// Whether undeploy and rebuild are refused.
    pub protected: bool,
    /// Why it is protected.
    pub protected_reason: Option<String>,
    /// Whether it must not become available again.
    pub retired: bool,
    /// Why it is retired.
    pub retired_reason: Option<String>,
    /// The project that owns it.
    pub owner: Option<String>,
    /// The project that leases it.
    pub lessee: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Static network configuration for the ramdisk.
    pub network_data: JsonText,
    /// The shard that it belongs to.
    pub shard: Option<String>,
    /// The node that it is a child of (a DPU in a server).
    #[diesel(serialize_as = TextCol)]
    pub parent_node: Option<Uuid>,
    /// Whether power off is refused.
    pub disable_power_off: bool,
    /// The firmware's boot mode as last read.
    #[diesel(serialize_as = TextCol)]
    pub boot_mode: Option<BootMode>,
    /// Whether secure boot was on when last read.
    pub secure_boot: Option<bool>,
    /// OK, Warning or Critical, as the BMC says.
    pub health: Option<String>,
}

impl Node {
    /// A node as `POST /v1/nodes` makes it when only the driver is given (api.md §3.2, §3.3).
    #[must_use]
    pub fn new(uuid: Uuid, driver: impl Into<String>, now: Timestamp) -> Node {
        Node {
            id: 0,
            uuid,
            generation: 0,
            created_at: now,
            updated_at: None,
            name: None,
            driver: driver.into(),
            driver_info: JsonText::default(),
            driver_internal_info: JsonText::default(),
            properties: JsonText::default(),
            extra: JsonText::default(),
            instance_info: JsonText::default(),
            instance_uuid: None,
            instance_name: None,
            chassis_uuid: None,
            provision_state: State::Enroll,
            target_provision_state: None,
            provision_updated_at: None,
            power_state: None,
            target_power_state: None,
            last_error: None,
            reservation: None,
            maintenance: false,
            maintenance_reason: None,
            fault: None,
            console_enabled: false,
            raid_config: JsonText::default(),
            target_raid_config: JsonText::default(),
            inspection_started_at: None,
            inspection_finished_at: None,
            clean_step: JsonText::default(),
            deploy_step: JsonText::default(),
            service_step: JsonText::default(),
            boot_interface: None,
            console_interface: None,
            deploy_interface: None,
            inspect_interface: None,
            management_interface: None,
            power_interface: None,
            raid_interface: None,
            vendor_interface: None,
            network_interface: None,
            storage_interface: None,
            rescue_interface: None,
            bios_interface: None,
            firmware_interface: None,
            resource_class: None,
            conductor_group: String::new(),
            automated_clean: None,
            protected: false,
            protected_reason: None,
            retired: false,
            retired_reason: None,
            owner: None,
            lessee: None,
            description: None,
            network_data: JsonText::default(),
            shard: None,
            parent_node: None,
            disable_power_off: false,
            boot_mode: None,
            secure_boot: None,
            health: None,
        }
    }
}
