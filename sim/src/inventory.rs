//! What a simulated machine knows of itself, with the keys of ironic-python-agent (deploy.md §D).

use ferric_agent_wire::{
    InspectionConfiguration, InspectionData, Inventory, InventoryBoot, InventoryCpu, InventoryDisk,
    InventoryFirmware, InventoryInterface, InventoryMemory, InventorySystem, ManagerVersion,
    NO_BMC_V6ADDRESS,
};

use crate::commands::MANAGER;
use crate::faults::Chance;
use crate::world::Machine;

/// Bytes of memory of every simulated machine.
const MEMORY: u64 = 64 << 30;
/// Processors of every simulated machine.
const CPUS: u64 = 16;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The machine's hardware.
pub(crate) fn inventory(machine: &Machine) -> Inventory {
    Inventory {
        interfaces: vec![InventoryInterface {
            name: "eth0".to_owned(),
            mac_address: machine.mac.clone(),
            ipv4_address: Some(address(&machine.mac)),
            has_carrier: true,
            lldp: Some(Vec::new()),
            vendor: some("0x8086"),
            product: some("0x1572"),
            speed_mbps: Some(10_000),
            pci_address: some("0000:01:00.0"),
            driver: some("i40e"),
            ..InventoryInterface::default()
        }],
        cpu: InventoryCpu {
            model_name: some("Simulated CPU"),
            frequency: some("2000.0000"),
            count: CPUS,
            architecture: some("x86_64"),
            flags: ["lm", "vmx", "aes"].map(str::to_owned).to_vec(),
            socket_count: Some(1),
        },
        disks: vec![root_disk(machine)],
        memory: InventoryMemory { total: Some(MEMORY), physical_mb: Some(MEMORY >> 20) },
        bmc_address: Some(machine.bmc_address().ip().to_string()),
        bmc_v6address: some(NO_BMC_V6ADDRESS),
        bmc_mac: Some(bmc_mac(&machine.mac)),
        system_vendor: InventorySystem {
            product_name: some("Simulated Machine"),
            serial_number: Some(machine.name.clone()),
            manufacturer: some("Ferric"),
            firmware: InventoryFirmware {
                vendor: some("Ferric"),
                version: some(env!("CARGO_PKG_VERSION")),
                build_date: some("11/22/2026"),
            },
        },
        boot: InventoryBoot { current_boot_mode: some("uefi"), pxe_interface: Some(machine.mac.clone()) },
        hostname: Some(machine.name.clone()),
    }
}

/// What the ramdisk sends to the inspection's callback.
pub(crate) fn inspection_data(machine: &Machine, error: Option<&str>) -> InspectionData {
    let manager = ManagerVersion { name: MANAGER.to_owned(), version: machine.manager_version().to_string() };
    InspectionData {
        inventory: Some(inventory(machine)),
        root_disk: Some(root_disk(machine)),
        boot_interface: Some(machine.mac.clone()),
        configuration: Some(InspectionConfiguration {
            collectors: vec!["default".to_owned()],
            managers: vec![manager],
        }),
        error: error.map(str::to_owned),
        ..InspectionData::default()
    }
}

fn root_disk(machine: &Machine) -> InventoryDisk {
    // the same machine has the same serial number in every boot
    let serial: String = machine.mac.chars().filter(char::is_ascii_hexdigit).collect();
    let mut chance = Chance::new(u64::from_str_radix(&serial, 16).unwrap_or(0), 1);
    let wwn = format!("0x5{:015x}", chance.bits() >> 4);
    InventoryDisk {
        name: "/dev/sda".to_owned(),
        model: some("Simulated Disk"),
        size: machine.view().disk.size,
        rotational: false,
        wwn: Some(wwn.clone()),
        serial: Some(serial),
        vendor: some("Ferric"),
        wwn_with_extension: Some(wwn),
        hctl: some("0:0:0:0"),
        by_path: some("/dev/disk/by-path/pci-0000:00:1f.2-ata-1"),
        logical_sectors: Some(512),
        physical_sectors: Some(4096),
        ..InventoryDisk::default()
    }
}

/// An address of the network for benchmarks (RFC 2544). The agent is reached on the loopback interface in truth, which no
/// network card has.
fn address(mac: &str) -> String {
    let mut bytes = mac.rsplit(':').map(|byte| u8::from_str_radix(byte, 16).unwrap_or(0));
    let (last, before) = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
    format!("198.18.{before}.{last}")
}

/// The BMC's own MAC: the machine's with another bit of its first byte.
fn bmc_mac(mac: &str) -> String {
    format!("06{}", mac.get(2..).unwrap_or_default())
}
