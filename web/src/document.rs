//! Between the writable fields of a row and their JSON form: what POST fills in and PATCH works on.

use ferric_machine::BootMode;
use ferric_schema::{JsonText, Node, Port};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::check::check;
use crate::gates::{Field, NodeField, PortField};
use crate::version::Version;

/// Where a field lives in its row.
enum Slot<'a> {
    Text(&'a mut Option<String>),
    /// Text without null: null is the empty one.
    Word(&'a mut String),
    Flag(&'a mut bool),
    /// A flag that is true by default.
    FlagOn(&'a mut bool),
    MaybeFlag(&'a mut Option<bool>),
    Object(&'a mut JsonText),
    MaybeId(&'a mut Option<Uuid>),
    Id(&'a mut Uuid),
    Mode(&'a mut Option<BootMode>),
    /// Not for clients.
    Closed,
}

impl Slot<'_> {
    fn read(self) -> Value {
        let text = |text: Option<String>| text.map_or(Value::Null, Value::String);
        match self {
            Slot::Text(slot) => text(slot.clone()),
            Slot::Word(slot) => Value::String(slot.clone()),
            Slot::Flag(slot) | Slot::FlagOn(slot) => Value::Bool(*slot),
            Slot::MaybeFlag(slot) => slot.map_or(Value::Null, Value::Bool),
            Slot::Object(slot) => Value::Object(slot.parse()),
            Slot::MaybeId(slot) => text(slot.map(|id| id.to_string())),
            Slot::Id(slot) => text(Some(slot.to_string())),
            Slot::Mode(slot) => text(slot.map(|mode| mode.to_string())),
            Slot::Closed => Value::Null,
        }
    }

    /// Stores a value that [`check`] has passed.
    fn write(self, name: &str, value: Value) -> Result<(), String> {
        let text = value.as_str().map(str::to_owned);
        let id = text.as_deref().and_then(|text| Uuid::try_parse(text).ok());
        match self {
            Slot::Text(slot) => *slot = text,
            Slot::Word(slot) => *slot = text.unwrap_or_default(),
            Slot::Flag(slot) => *slot = value.as_bool().unwrap_or(false),
            Slot::FlagOn(slot) => *slot = value.as_bool().unwrap_or(true),
            Slot::MaybeFlag(slot) => *slot = value.as_bool(),
            Slot::Object(slot) => *slot = value.as_object().map(JsonText::from).unwrap_or_default(),
            Slot::MaybeId(slot) => *slot = id,
            // null: the one that the row was made with
            Slot::Id(slot) => *slot = id.unwrap_or(*slot),
            Slot::Mode(slot) => {
                *slot = text
                    .map(|word| word.parse())
                    .transpose()
                    .map_err(|_| format!("'{name}' must be bios or uefi."))?;
            }
            Slot::Closed => return Err(format!("'{name}' is not for clients to set.")),
        }
        Ok(())
    }
}

fn node_slot(n: &mut Node, field: NodeField) -> Slot<'_> {
    use NodeField as F;
    match field {
        F::AutomatedClean => Slot::MaybeFlag(&mut n.automated_clean),
        F::BiosInterface => Slot::Text(&mut n.bios_interface),
        F::BootInterface => Slot::Text(&mut n.boot_interface),
        F::BootMode => Slot::Mode(&mut n.boot_mode),
        F::ChassisUuid => Slot::MaybeId(&mut n.chassis_uuid),
        F::ConductorGroup => Slot::Word(&mut n.conductor_group),
        F::ConsoleEnabled => Slot::Flag(&mut n.console_enabled),
        F::ConsoleInterface => Slot::Text(&mut n.console_interface),
        F::DeployInterface => Slot::Text(&mut n.deploy_interface),
        F::Description => Slot::Text(&mut n.description),
        F::DisablePowerOff => Slot::Flag(&mut n.disable_power_off),
        F::Driver => Slot::Word(&mut n.driver),
        F::DriverInfo => Slot::Object(&mut n.driver_info),
        F::Extra => Slot::Object(&mut n.extra),
        F::FirmwareInterface => Slot::Text(&mut n.firmware_interface),
        F::InspectInterface => Slot::Text(&mut n.inspect_interface),
        F::InstanceInfo => Slot::Object(&mut n.instance_info),
        F::InstanceName => Slot::Text(&mut n.instance_name),
        F::InstanceUuid => Slot::MaybeId(&mut n.instance_uuid),
        F::Lessee => Slot::Text(&mut n.lessee),
        F::Maintenance => Slot::Flag(&mut n.maintenance),
        F::ManagementInterface => Slot::Text(&mut n.management_interface),
        F::Name => Slot::Text(&mut n.name),
        F::NetworkData => Slot::Object(&mut n.network_data),
        F::NetworkInterface => Slot::Text(&mut n.network_interface),
        F::Owner => Slot::Text(&mut n.owner),
        F::ParentNode => Slot::MaybeId(&mut n.parent_node),
        F::PowerInterface => Slot::Text(&mut n.power_interface),
        F::Properties => Slot::Object(&mut n.properties),
        F::Protected => Slot::Flag(&mut n.protected),
        F::ProtectedReason => Slot::Text(&mut n.protected_reason),
        F::RaidInterface => Slot::Text(&mut n.raid_interface),
        F::RescueInterface => Slot::Text(&mut n.rescue_interface),
        F::ResourceClass => Slot::Text(&mut n.resource_class),
        F::Retired => Slot::Flag(&mut n.retired),
        F::RetiredReason => Slot::Text(&mut n.retired_reason),
        F::SecureBoot => Slot::MaybeFlag(&mut n.secure_boot),
        F::Shard => Slot::Text(&mut n.shard),
        F::StorageInterface => Slot::Text(&mut n.storage_interface),
        F::Uuid => Slot::Id(&mut n.uuid),
        F::VendorInterface => Slot::Text(&mut n.vendor_interface),
        F::AllocationUuid | F::CleanStep | F::Conductor | F::CreatedAt | F::DeployStep => Slot::Closed,
        F::DriverInternalInfo | F::Fault | F::Health | F::InspectionFinishedAt => Slot::Closed,
        F::InspectionStartedAt | F::LastError | F::MaintenanceReason | F::PowerState => Slot::Closed,
        F::ProvisionState | F::ProvisionUpdatedAt | F::RaidConfig | F::Reservation => Slot::Closed,
        F::ServiceStep | F::TargetPowerState | F::TargetProvisionState => Slot::Closed,
        F::TargetRaidConfig | F::Traits | F::UpdatedAt => Slot::Closed,
        F::Links | F::Ports | F::States | F::Portgroups | F::Volume => Slot::Closed,
    }
}

fn port_slot(p: &mut Port, field: PortField) -> Slot<'_> {
    use PortField as F;
    match field {
        F::Address => Slot::Word(&mut p.address),
        F::AvailableForDynamicPortgroup => Slot::FlagOn(&mut p.available_for_dynamic_portgroup),
        F::Category => Slot::Text(&mut p.category),
        F::Description => Slot::Text(&mut p.description),
        F::Extra => Slot::Object(&mut p.extra),
        F::IsSmartnic => Slot::Flag(&mut p.is_smartnic),
        F::LocalLinkConnection => Slot::Object(&mut p.local_link_connection),
        F::Name => Slot::Text(&mut p.name),
        F::NodeUuid => Slot::Id(&mut p.node_uuid),
        F::PhysicalNetwork => Slot::Text(&mut p.physical_network),
        F::PortgroupUuid => Slot::MaybeId(&mut p.portgroup_uuid),
        F::PxeEnabled => Slot::FlagOn(&mut p.pxe_enabled),
        F::Uuid => Slot::Id(&mut p.uuid),
        F::Vendor => Slot::Text(&mut p.vendor),
        F::CreatedAt | F::InternalInfo | F::UpdatedAt | F::Links => Slot::Closed,
    }
}

/// A row whose writable fields can be read and written as JSON.
pub(crate) trait Document: Clone {
    /// Its fields.
    type Field: Field;

    /// The value of a writable field.
    fn read(&self, field: Self::Field) -> Value;

    /// Checks a value and stores it. The error is a sentence for the client.
    fn write(&mut self, field: Self::Field, value: Value, version: Version) -> Result<(), String>;

    /// The fields that PATCH may touch, as JSON.
    fn patchable(&self) -> Map<String, Value> {
        let fields = Self::Field::ALL.iter().filter(|field| field.spec().write.by_patch());
        fields.map(|field| (field.spec().name.to_owned(), self.read(*field))).collect()
    }
}

impl Document for Node {
    type Field = NodeField;

    fn read(&self, field: NodeField) -> Value {
        node_slot(&mut self.clone(), field).read()
    }

    fn write(&mut self, field: NodeField, value: Value, version: Version) -> Result<(), String> {
        let value = check(field, value, version)?;
        if field == NodeField::NetworkData {
            crate::check::network_data(&value)?;
        }
        node_slot(self, field).write(field.spec().name, value)
    }

    fn patchable(&self) -> Map<String, Value> {
        let mut copy = self.clone();
        let fields = NodeField::ALL.iter().filter(|field| field.spec().write.by_patch());
        fields.map(|field| (field.spec().name.to_owned(), node_slot(&mut copy, *field).read())).collect()
    }
}

impl Document for Port {
    type Field = PortField;

    fn read(&self, field: PortField) -> Value {
        port_slot(&mut self.clone(), field).read()
    }

    fn write(&mut self, field: PortField, value: Value, version: Version) -> Result<(), String> {
        let value = check(field, value, version)?;
        port_slot(self, field).write(field.spec().name, value)
    }
}

#[cfg(test)]
mod tests {
    use ferric_machine::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    #[allow(clippy::wildcard_enum_match_arm)] // of JSON values
    fn every_writable_field_reads_back_what_was_written() {
        for field in
            NodeField::ALL.iter().copied().filter(|f| f.spec().write.at_create() || f.spec().write.by_patch())
        {
            let mut node = Node::new(Uuid::new_v4(), "fake-hardware", Timestamp(0));
            let value = match node.read(field) {
                Value::Bool(flag) => json!(!flag),
                Value::Object(_) if field == NodeField::NetworkData => {
                    json!({"links": [], "networks": [], "services": []})
                }
                Value::Object(_) => json!({"a": 1}),
                _ if field.spec().kind == crate::gates::Kind::Uuid => json!(Uuid::new_v4().to_string()),
                _ if field == NodeField::BootMode => json!("uefi"),
                _ if field.spec().kind == crate::gates::Kind::MaybeBool => json!(false),
                _ => json!("word"),
            };
            node.write(field, value.clone(), Version::MAX)
                .unwrap_or_else(|error| panic!("{field:?}: {error}"));
            assert_eq!(node.read(field), value, "{field:?}");
        }
    }
}
