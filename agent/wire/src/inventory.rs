//! What an agent finds out about its machine, and what it posts to `/v1/continue_inspection`: deploy.md §D.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::null_default;

/// `bmc_address` of a machine whose BMC could not be asked.
pub const NO_BMC_ADDRESS: &str = "0.0.0.0";

/// `bmc_v6address` of a machine whose BMC could not be asked.
pub const NO_BMC_V6ADDRESS: &str = "::/0";

/// One TLV of an LLDP frame: type and value in hex; on the wire a list of two.
pub type LldpTlv = (u8, String);

/// A machine's hardware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// Network cards.
    #[serde(deserialize_with = "null_default")]
    pub interfaces: Vec<InventoryInterface>,
    /// Processors.
    #[serde(deserialize_with = "null_default")]
    pub cpu: InventoryCpu,
    /// Disks.
    #[serde(deserialize_with = "null_default")]
    pub disks: Vec<InventoryDisk>,
    /// Memory.
    #[serde(deserialize_with = "null_default")]
    pub memory: InventoryMemory,
    /// The BMC's IPv4 address; [`NO_BMC_ADDRESS`] when unknown.
    pub bmc_address: Option<String>,
    /// The BMC's IPv6 address; [`NO_BMC_V6ADDRESS`] when unknown.
    pub bmc_v6address: Option<String>,
    /// The BMC's MAC; left out when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc_mac: Option<String>,
    /// Maker and firmware.
    #[serde(deserialize_with = "null_default")]
    pub system_vendor: InventorySystem,
    /// How the ramdisk was booted.
    #[serde(deserialize_with = "null_default")]
    pub boot: InventoryBoot,
    /// The ramdisk's host name.
    pub hostname: Option<String>,
}

/// One network card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InventoryInterface {
    /// The kernel's name, `eth0`.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// `52:54:00:aa:bb:01`.
    #[serde(deserialize_with = "null_default")]
    pub mac_address: String,
    /// Its address, if it has one.
    pub ipv4_address: Option<String>,
    /// Its global address, else its link-local one.
    pub ipv6_address: Option<String>,
    /// Whether a cable with a live other end is plugged in.
    #[serde(deserialize_with = "null_default")]
    pub has_carrier: bool,
    /// What its switch said; null when nobody listened.
    pub lldp: Option<Vec<LldpTlv>>,
    /// PCI vendor, `0x8086`.
    pub vendor: Option<String>,
    /// PCI device, `0x1533`.
    pub product: Option<String>,
    /// DHCP client identifier, InfiniBand only.
    pub client_id: Option<String>,
    /// What biosdevname calls it.
    pub biosdevname: Option<String>,
    /// Megabits per second.
    pub speed_mbps: Option<u64>,
    /// `0000:00:1f.6`.
    pub pci_address: Option<String>,
    /// Its driver, `igb`.
    pub driver: Option<String>,
}

/// The processors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InventoryCpu {
    /// As the processor names itself.
    pub model_name: Option<String>,
    /// MHz as text, `3200.0000`.
    pub frequency: Option<String>,
    /// Logical processors.
    #[serde(deserialize_with = "null_default")]
    pub count: u64,
    /// `x86_64`, `aarch64`.
    pub architecture: Option<String>,
    /// What the processor can do.
    #[serde(deserialize_with = "null_default")]
    pub flags: Vec<String>,
    /// Packages.
    pub socket_count: Option<u64>,
}

/// One disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InventoryDisk {
    /// `/dev/sda`.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// Model.
    pub model: Option<String>,
    /// Bytes.
    #[serde(deserialize_with = "null_default")]
    pub size: u64,
    /// Whether it spins.
    #[serde(deserialize_with = "null_default")]
    pub rotational: bool,
    /// World-wide name.
    pub wwn: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Vendor.
    pub vendor: Option<String>,
    /// World-wide name and its extension.
    pub wwn_with_extension: Option<String>,
    /// The extension alone.
    pub wwn_vendor_extension: Option<String>,
    /// Host:channel:target:lun.
    pub hctl: Option<String>,
    /// `/dev/disk/by-path/…`.
    pub by_path: Option<String>,
    /// Bytes of a logical sector.
    pub logical_sectors: Option<u64>,
    /// Bytes of a physical sector.
    pub physical_sectors: Option<u64>,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InventoryMemory {
    /// Bytes that the kernel may use.
    pub total: Option<u64>,
    /// MiB that are plugged in.
    pub physical_mb: Option<u64>,
}

/// Maker and firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InventorySystem {
    /// Product.
    pub product_name: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Maker.
    pub manufacturer: Option<String>,
    /// BIOS or UEFI.
    #[serde(deserialize_with = "null_default")]
    pub firmware: InventoryFirmware,
}

/// BIOS or UEFI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InventoryFirmware {
    /// Who made it.
    pub vendor: Option<String>,
    /// Which.
    pub version: Option<String>,
    /// When, as the firmware writes it.
    pub build_date: Option<String>,
}

/// How the ramdisk was booted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InventoryBoot {
    /// `uefi` or `bios`.
    pub current_boot_mode: Option<String>,
    /// MAC of the card booted from.
    pub pxe_interface: Option<String>,
}

/// One PCI device; numbers as hex without prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PciDevice {
    /// `8086`.
    #[serde(deserialize_with = "null_default")]
    pub vendor_id: String,
    /// `1533`.
    #[serde(deserialize_with = "null_default")]
    pub product_id: String,
    /// `020000`.
    pub class: Option<String>,
    /// `03`.
    pub revision: Option<String>,
    /// `0000:00:1f.6`.
    #[serde(deserialize_with = "null_default")]
    pub bus: String,
    /// As text; `-1` = none.
    pub numa_node_id: Option<String>,
}

/// Who collected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectionConfiguration {
    /// Collectors as they were asked for.
    #[serde(deserialize_with = "null_default")]
    pub collectors: Vec<String>,
    /// Hardware managers: name and version each.
    #[serde(deserialize_with = "null_default")]
    pub managers: Vec<ManagerVersion>,
}

/// One hardware manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManagerVersion {
    /// Its name.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// Its version.
    #[serde(deserialize_with = "null_default")]
    pub version: String,
}

/// The body of `POST /v1/continue_inspection`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectionData {
    /// The hardware; absent when it could not be collected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// The disk that a deployment without hints would take; absent when none fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_disk: Option<InventoryDisk>,
    /// MAC of the card booted from.
    pub boot_interface: Option<String>,
    /// Who collected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<InspectionConfiguration>,
    /// What went wrong, for people; null when nothing did.
    pub error: Option<String>,
    /// base64 of a tar.gz (collector `logs`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
    /// Collector `pci-devices`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci_devices: Option<Vec<PciDevice>>,
    /// TLVs by card (collector `lldp`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lldp_raw: Option<BTreeMap<String, Vec<LldpTlv>>>,
    /// What other agents add.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The answer of `POST /v1/continue_inspection`: the uuid alone (1.1), or as a lookup's (1.84).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectionAnswer {
    /// The node's uuid (1.1).
    pub uuid: Option<String>,
    /// The node (1.84).
    pub node: Option<crate::LookupNode>,
}

impl InspectionAnswer {
    /// The node's uuid, whichever form it came in.
    pub fn node_uuid(&self) -> Option<&str> {
        self.uuid.as_deref().or(self.node.as_ref().map(|node| node.uuid.as_str())).filter(|u| !u.is_empty())
    }
}
