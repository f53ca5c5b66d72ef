//! How rows look on the wire: borrowed views that serialise field by field, in the selection that the gates left.
//! JSON columns go out as the text they are stored as; only those that may hold secrets are parsed and masked.

use std::borrow::Cow;
use std::io::Write as _;

use ferric_machine::{State, Timestamp};
use ferric_schema::{JsonText, Node, Port};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::context::Context;
use crate::gates::{
    AVAILABLE_NAMED, Field, INSPECT_WAIT_NAMED, NodeField, PortField, VTEP_KEYS, VTEP_SINCE, VTEP_UNTIL,
};
use crate::mask;
use crate::policy::{Part, Target};
use crate::version::Version;

/// A moment as ISO 8601 with offset; microseconds when there are any.
pub(crate) struct Iso(pub(crate) Timestamp);

/// Room for [`iso`].
pub(crate) type IsoText = [u8; 32];

/// The moment's text, put together in `room`; `None` for what no calendar has.
pub(crate) fn iso(moment: Timestamp, room: &mut IsoText) -> Option<&str> {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(moment.0) * 1000).ok()?;
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second, micros) = moment.to_hms_micro();
    let mut rest = &mut room[..];
    match micros {
        0 => {
            write!(rest, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00", u8::from(month))
        }
        _ => write!(
            rest,
            "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}+00:00",
            u8::from(month)
        ),
    }
    .ok()?;
    let left = rest.len();
    std::str::from_utf8(&room[..room.len() - left]).ok()
}

impl Serialize for Iso {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut room = IsoText::default();
        s.serialize_str(iso(self.0, &mut room).ok_or_else(|| S::Error::custom("no such moment"))?)
    }
}

/// A JSON column with its secrets masked.
struct Masked<'a>(&'a JsonText);

impl Serialize for Masked<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match mask::mask_text(self.0.as_str()) {
            Cow::Borrowed(text) if text.len() == self.0.as_str().len() => self.0.serialize(s),
            text @ (Cow::Borrowed(_) | Cow::Owned(_)) => {
                RawValue::from_string(text.into_owned()).map_err(S::Error::custom)?.serialize(s)
            }
        }
    }
}

/// What stands in place of values that the caller may not see.
pub(crate) const HIDDEN_DRIVER_INFO: &str =
    "** Redacted - requires baremetal:node:get:driver_info permission. **";
pub(crate) const HIDDEN_INTERNAL_INFO: &str =
    "** Redacted - Requires baremetal:node:get:driver_internal_info permission. **";
pub(crate) const HIDDEN_LAST_ERROR: &str =
    "** Value Redacted - Requires baremetal:node:get:last_error permission. **";
pub(crate) const HIDDEN_RESERVATION: &str =
    "** Redacted - requires baremetal:node:get:reservation permission. **";

/// What stands in place of an object that the caller may not see.
#[derive(Serialize)]
struct Redacted {
    content: &'static str,
}

/// The link pair of a resource: `self` below `/v1`, `bookmark` without it.
pub(crate) struct Links<'a> {
    /// `http://host:port`.
    pub(crate) base: &'a str,
    /// Path without leading slash, such as `nodes/1be2…`.
    pub(crate) path: &'a str,
    /// What follows the path, such as `/ports`.
    pub(crate) tail: &'a str,
}

struct Link<'a> {
    links: &'a Links<'a>,
    /// What comes between the server's address and the path.
    root: &'static str,
    rel: &'static str,
}

impl Serialize for Link<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Links { base, path, tail } = self.links;
        let mut map = s.serialize_map(Some(2))?;
        map.serialize_entry("href", &Joined(format_args!("{base}{}{path}{tail}", self.root)))?;
        map.serialize_entry("rel", self.rel)?;
        map.end()
    }
}

/// A text that is put together where it goes.
struct Joined<'a>(std::fmt::Arguments<'a>);

impl Serialize for Joined<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl Serialize for Links<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut pair = s.serialize_seq(Some(2))?;
        pair.serialize_element(&Link { links: self, root: "/v1/", rel: "self" })?;
        pair.serialize_element(&Link { links: self, root: "/", rel: "bookmark" })?;
        pair.end()
    }
}

/// A provision state as `version` knows it: `available` had no name at first, `inspect wait` came late.
pub(crate) fn state_name(state: Option<State>, version: Version) -> Option<&'static str> {
    match state {
        Some(State::Available) if !version.has(AVAILABLE_NAMED) => None,
        Some(State::InspectWait) if !version.has(INSPECT_WAIT_NAMED) => Some(State::Inspecting.as_str()),
        Some(state) => Some(state.as_str()),
        None => None,
    }
}

/// A node on the wire.
pub(crate) struct NodeView<'a> {
    /// The row.
    pub(crate) node: &'a Node,
    /// What is shown of it.
    pub(crate) fields: &'a [NodeField],
    /// For whom.
    pub(crate) context: &'a Context,
    /// Its traits, when they are shown.
    pub(crate) traits: &'a [String],
    /// The conductor that owns it now.
    pub(crate) conductor: Option<&'a str>,
    /// Its allocation.
    pub(crate) allocation: Option<uuid::Uuid>,
}

impl Serialize for NodeView<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.fields.len()))?;
        for field in self.fields {
            map.serialize_key(field.spec().name)?;
            self.value(*field, &mut map)?;
        }
        map.end()
    }
}

impl NodeView<'_> {
    /// Whether a part is not for this caller. What else depends on the caller must be a part too: answers are kept.
    fn hides(&self, part: Part) -> bool {
        !self.context.sees(part, Target::node(self.node))
    }

    fn value<M: SerializeMap>(&self, field: NodeField, m: &mut M) -> Result<(), M::Error> {
        use NodeField as F;
        let n = self.node;
        let version = self.context.version;
        let links = |tail, m: &mut M| {
            let path = format!("nodes/{}", n.uuid);
            m.serialize_value(&Links { base: &self.context.base, path: &path, tail })
        };
        match field {
            F::AllocationUuid => m.serialize_value(&self.allocation),
            F::AutomatedClean => m.serialize_value(&n.automated_clean),
            F::BiosInterface => m.serialize_value(&n.bios_interface),
            F::BootInterface => m.serialize_value(&n.boot_interface),
            F::BootMode => m.serialize_value(&n.boot_mode),
            F::ChassisUuid => m.serialize_value(&n.chassis_uuid),
            F::CleanStep => m.serialize_value(&n.clean_step),
            F::Conductor => m.serialize_value(&self.conductor),
            F::ConductorGroup => m.serialize_value(&n.conductor_group),
            F::ConsoleEnabled => m.serialize_value(&n.console_enabled),
            F::ConsoleInterface => m.serialize_value(&n.console_interface),
            F::CreatedAt => m.serialize_value(&Iso(n.created_at)),
            F::DeployInterface => m.serialize_value(&n.deploy_interface),
            F::DeployStep => m.serialize_value(&n.deploy_step),
            F::Description => m.serialize_value(&n.description),
            F::DisablePowerOff => m.serialize_value(&n.disable_power_off),
            F::Driver => m.serialize_value(&n.driver),
            F::DriverInfo if self.hides(Part::DriverInfo) => m.serialize_value(&Redacted {
                content: "** Redacted - requires baremetal:node:get:driver_info permission. **",
            }),
            F::DriverInfo if !self.hides(Part::Passwords) => m.serialize_value(&n.driver_info),
            F::DriverInfo => m.serialize_value(&Masked(&n.driver_info)),
            F::DriverInternalInfo if self.hides(Part::DriverInternalInfo) => {
                m.serialize_value(&Redacted { content: HIDDEN_INTERNAL_INFO })
            }
            F::DriverInternalInfo if !self.hides(Part::Passwords) => {
                m.serialize_value(&n.driver_internal_info)
            }
            F::DriverInternalInfo => m.serialize_value(&Masked(&n.driver_internal_info)),
            F::Extra => m.serialize_value(&n.extra),
            F::Fault => m.serialize_value(&n.fault),
            F::FirmwareInterface => m.serialize_value(&n.firmware_interface),
            F::Health => m.serialize_value(&n.health),
            F::InspectInterface => m.serialize_value(&n.inspect_interface),
            F::InspectionFinishedAt => m.serialize_value(&n.inspection_finished_at.map(Iso)),
            F::InspectionStartedAt => m.serialize_value(&n.inspection_started_at.map(Iso)),
            F::InstanceInfo if !self.hides(Part::InstanceSecrets) => m.serialize_value(&n.instance_info),
            F::InstanceInfo => m.serialize_value(&Masked(&n.instance_info)),
            F::InstanceName => m.serialize_value(&n.instance_name),
            F::InstanceUuid => m.serialize_value(&n.instance_uuid),
            F::LastError if self.hides(Part::LastError) => m.serialize_value(HIDDEN_LAST_ERROR),
            F::LastError => m.serialize_value(&n.last_error),
            F::Lessee => m.serialize_value(&n.lessee),
            F::Maintenance => m.serialize_value(&n.maintenance),
            F::MaintenanceReason => m.serialize_value(&n.maintenance_reason),
            F::ManagementInterface => m.serialize_value(&n.management_interface),
            F::Name => m.serialize_value(&n.name),
            F::NetworkData => m.serialize_value(&n.network_data),
            F::NetworkInterface => m.serialize_value(&n.network_interface),
            F::Owner => m.serialize_value(&n.owner),
            F::ParentNode => m.serialize_value(&n.parent_node),
            F::PowerInterface => m.serialize_value(&n.power_interface),
            F::PowerState => m.serialize_value(&n.power_state),
            F::Properties => m.serialize_value(&n.properties),
            F::Protected => m.serialize_value(&n.protected),
            F::ProtectedReason => m.serialize_value(&n.protected_reason),
            F::ProvisionState => m.serialize_value(&state_name(Some(n.provision_state), version)),
            F::ProvisionUpdatedAt => m.serialize_value(&n.provision_updated_at.map(Iso)),
            F::RaidConfig => m.serialize_value(&n.raid_config),
            F::RaidInterface => m.serialize_value(&n.raid_interface),
            F::RescueInterface => m.serialize_value(&n.rescue_interface),
            F::Reservation if self.hides(Part::Reservation) => m.serialize_value(HIDDEN_RESERVATION),
            F::Reservation => m.serialize_value(&n.reservation),
            F::ResourceClass => m.serialize_value(&n.resource_class),
            F::Retired => m.serialize_value(&n.retired),
            F::RetiredReason => m.serialize_value(&n.retired_reason),
            F::SecureBoot => m.serialize_value(&n.secure_boot),
            F::ServiceStep => m.serialize_value(&n.service_step),
            F::Shard => m.serialize_value(&n.shard),
            F::StorageInterface => m.serialize_value(&n.storage_interface),
            F::TargetPowerState => m.serialize_value(&n.target_power_state),
            F::TargetProvisionState => m.serialize_value(&state_name(n.target_provision_state, version)),
            F::TargetRaidConfig => m.serialize_value(&n.target_raid_config),
            F::Traits => m.serialize_value(&self.traits),
            F::UpdatedAt => m.serialize_value(&n.updated_at.map(Iso)),
            F::Uuid => m.serialize_value(&n.uuid),
            F::VendorInterface => m.serialize_value(&n.vendor_interface),
            F::Links => links("", m),
            F::Ports => links("/ports", m),
            F::States => links("/states", m),
            F::Portgroups => links("/portgroups", m),
            F::Volume => links("/volume", m),
        }
    }
}

/// A port on the wire.
pub(crate) struct PortView<'a> {
    /// The row.
    pub(crate) port: &'a Port,
    /// What is shown of it.
    pub(crate) fields: &'a [PortField],
    /// For whom.
    pub(crate) context: &'a Context,
}

impl Serialize for PortView<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.fields.len()))?;
        for field in self.fields {
            map.serialize_key(field.spec().name)?;
            self.value(*field, &mut map)?;
        }
        map.end()
    }
}

impl PortView<'_> {
    fn value<M: SerializeMap>(&self, field: PortField, m: &mut M) -> Result<(), M::Error> {
        use PortField as F;
        let p = self.port;
        match field {
            F::Address => m.serialize_value(&p.address),
            F::AvailableForDynamicPortgroup => m.serialize_value(&p.available_for_dynamic_portgroup),
            F::Category => m.serialize_value(&p.category),
            F::CreatedAt => m.serialize_value(&Iso(p.created_at)),
            F::Description => m.serialize_value(&p.description),
            F::Extra => m.serialize_value(&p.extra),
            F::InternalInfo => m.serialize_value(&p.internal_info),
            F::IsSmartnic => m.serialize_value(&p.is_smartnic),
            F::LocalLinkConnection => {
                let version = self.context.version;
                let vtep = VTEP_KEYS.iter().any(|key| p.local_link_connection.as_str().contains(key));
                if vtep && (!version.has(VTEP_SINCE) || version.has(VTEP_UNTIL)) {
                    return m.serialize_value(&serde_json::Map::new());
                }
                m.serialize_value(&p.local_link_connection)
            }
            F::Name => m.serialize_value(&p.name),
            F::NodeUuid => m.serialize_value(&p.node_uuid),
            F::PhysicalNetwork => m.serialize_value(&p.physical_network),
            F::PortgroupUuid => m.serialize_value(&p.portgroup_uuid),
            F::PxeEnabled => m.serialize_value(&p.pxe_enabled),
            F::UpdatedAt => m.serialize_value(&p.updated_at.map(Iso)),
            F::Uuid => m.serialize_value(&p.uuid),
            F::Vendor => m.serialize_value(&p.vendor),
            F::Links => {
                let path = format!("ports/{}", p.uuid);
                m.serialize_value(&Links { base: &self.context.base, path: &path, tail: "" })
            }
        }
    }
}

/// A collection under its name, with the address of the next page.
pub(crate) struct Collection<'a, T> {
    /// The collection's key.
    pub(crate) name: &'static str,
    /// Its items.
    pub(crate) items: &'a [T],
    /// Where it goes on; `None` on the last page.
    pub(crate) next: Option<String>,
}

impl<T: Serialize> Serialize for Collection<'_, T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry(self.name, self.items)?;
        if let Some(next) = &self.next {
            map.serialize_entry("next", next)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_an_offset_and_microseconds_only_when_needed() {
        let text = |micros| serde_json::to_string(&Iso(Timestamp(micros))).expect("a moment");
        assert_eq!(text(0), "\"1970-01-01T00:00:00+00:00\"");
        assert_eq!(text(1_763_822_499_462_182), "\"2025-11-22T14:41:39.462182+00:00\"");
        assert_eq!(text(1_763_822_499_000_009), "\"2025-11-22T14:41:39.000009+00:00\"");
    }

    #[test]
    fn old_clients_see_old_names() {
        assert_eq!(state_name(Some(State::Available), Version(1)), None);
        assert_eq!(state_name(Some(State::Available), Version(2)), Some("available"));
        assert_eq!(state_name(Some(State::InspectWait), Version(38)), Some("inspecting"));
        assert_eq!(state_name(Some(State::InspectWait), Version(39)), Some("inspect wait"));
    }
}
