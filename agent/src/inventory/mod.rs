//! What this machine is made of, with the keys of ironic-python-agent's inventory: deploy.md §D.
//!
//! Everything is read below [`Roots`], so that a folder can stand for a machine. Nothing in here fails: what cannot be
//! read is null.

mod bmc;
mod dmi;
mod net;
mod pci;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ferric_agent_wire::{
    Inventory, InventoryBoot, InventoryCpu, InventoryDisk, InventoryFirmware, InventoryMemory,
    InventorySystem, NO_BMC_ADDRESS, NO_BMC_V6ADDRESS,
};

use crate::disk::Disk;

pub use bmc::{Bmc, ask as ask_bmc};
pub use net::{addresses, cards};
pub use pci::devices as pci_devices;

/// Where the kernel shows the machine.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
}

/// What is not found below [`Roots`].
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The disks, once they have settled.
    pub disks: Vec<Disk>,
    /// Addresses by card.
    pub addresses: Vec<(String, IpAddr)>,
    /// MAC of the card booted from.
    pub boot_mac: Option<String>,
    /// What the BMC said, if there is one.
    pub bmc: Bmc,
}

/// Collects it all but LLDP. Blocks.
pub fn collect(roots: &Roots, known: &Known) -> Inventory {
    let dmi = dmi::read(&roots.sys);
    Inventory {
        interfaces: net::interfaces(&roots.sys, &known.addresses),
        cpu: cpu(roots, &dmi),
        disks: known.disks.iter().map(|disk| describe_disk(&roots.sys, disk)).collect(),
        memory: memory(roots, &dmi),
        bmc_address: Some(known.bmc.v4.clone().unwrap_or_else(|| NO_BMC_ADDRESS.to_owned())),
        bmc_v6address: Some(known.bmc.v6.clone().unwrap_or_else(|| NO_BMC_V6ADDRESS.to_owned())),
        bmc_mac: known.bmc.mac.clone(),
        system_vendor: system(&roots.sys, &dmi),
        boot: InventoryBoot {
            current_boot_mode: Some(boot_mode(&roots.sys).to_owned()),
            pxe_interface: known.boot_mac.clone(),
        },
        hostname: text(&roots.proc.join("sys/kernel/hostname")),
    }
}

/// `uefi` or `bios`.
pub fn boot_mode(sys: &Path) -> &'static str {
    if sys.join("firmware/efi").is_dir() { "uefi" } else { "bios" }
}

/// A disk as the inventory describes it.
pub fn describe_disk(sys: &Path, disk: &Disk) -> InventoryDisk {
    let queue = sys.join("block").join(&disk.kernel_name).join("queue");
    let extension = disk.wwn_full.get(disk.wwn.len()..).filter(|e| !e.is_empty());
    InventoryDisk {
        name: disk.name(),
        model: some(&disk.model),
        size: disk.size,
        rotational: disk.rotational,
        wwn: some(&disk.wwn),
        serial: some(&disk.serial),
        vendor: some(&disk.vendor),
        wwn_with_extension: some(&disk.wwn_full),
        wwn_vendor_extension: extension.map(|e| format!("0x{e}")),
        hctl: some(&disk.hctl),
        by_path: some(&disk.by_path).map(|path| format!("/dev/disk/by-path/{path}")),
        logical_sectors: Some(disk.block),
        physical_sectors: number(&queue.join("physical_block_size")),
    }
}

/// From `/proc/cpuinfo`, whose words differ between architectures.
fn cpu(roots: &Roots, dmi: &dmi::Tables) -> InventoryCpu {
    let info = fs::read_to_string(roots.proc.join("cpuinfo")).unwrap_or_default();
    let values = |key: &str| -> Vec<&str> {
        let pairs = info.lines().filter_map(|line| line.split_once(':'));
        pairs.filter(|(word, _)| word.trim().eq_ignore_ascii_case(key)).map(|(_, v)| v.trim()).collect()
    };
    let first = |key: &str| values(key).first().map(|value| (*value).to_owned());
    let flags = first("flags").or_else(|| first("Features")).unwrap_or_default();
    let mut packages = values("physical id");
    packages.sort_unstable();
    packages.dedup();
    let sockets = if packages.is_empty() { dmi.sockets } else { Some(packages.len() as u64) };
    let highest = number(&roots.sys.join("devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"));
    InventoryCpu {
        model_name: first("model name").or_else(|| first("Model")),
        frequency: highest
            .map(|kilohertz| format!("{:.4}", kilohertz as f64 / 1000.0))
            .or_else(|| first("cpu MHz")),
        count: values("processor").len() as u64,
        architecture: Some(std::env::consts::ARCH.to_owned()),
        flags: flags.split_whitespace().map(str::to_owned).collect(),
        socket_count: sockets,
    }
}

/// What is plugged in is in the DMI tables; without them, the kernel's own blocks of memory come near it.
fn memory(roots: &Roots, dmi: &dmi::Tables) -> InventoryMemory {
    let info = fs::read_to_string(roots.proc.join("meminfo")).unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    InventoryMemory {
        total: kib.and_then(|kib| kib.checked_mul(1024)),
        physical_mb: dmi.memory_mib.or_else(|| memory_blocks(&roots.sys)),
    }
}

fn memory_blocks(sys: &Path) -> Option<u64> {
    let folder = sys.join("devices/system/memory");
    let size = u64::from_str_radix(&text(&folder.join("block_size_bytes"))?, 16).ok()?;
    let online = fs::read_dir(&folder).ok()?.flatten().filter(|entry| {
        entry.file_name().to_string_lossy().starts_with("memory")
            && text(&entry.path().join("online")).as_deref() == Some("1")
    });
    Some((online.count() as u64).checked_mul(size)? >> 20).filter(|&mib| mib > 0)
}

/// The kernel's copies of the DMI strings, else the tables themselves.
fn system(sys: &Path, dmi: &dmi::Tables) -> InventorySystem {
    let id = |name: &str| text(&sys.join("class/dmi/id").join(name));
    InventorySystem {
        product_name: id("product_name").or_else(|| dmi.product.clone()),
        serial_number: id("product_serial").or_else(|| dmi.serial.clone()),
        manufacturer: id("sys_vendor").or_else(|| dmi.manufacturer.clone()),
        firmware: InventoryFirmware {
            vendor: id("bios_vendor").or_else(|| dmi.bios_vendor.clone()),
            version: id("bios_version").or_else(|| dmi.bios_version.clone()),
            build_date: id("bios_date").or_else(|| dmi.bios_date.clone()),
        },
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// A small file's text without surrounding space and NULs; None when it is empty or unreadable.
fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0'))
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

#[cfg(test)]
mod tests;
