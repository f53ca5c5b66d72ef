//! Which kernel modules go into the ramdisk, in an order in which each finds what it depends on.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{KernelFlavour, RamdiskError, at};

/// What a virtual machine needs, and much real hardware.
const CLOUD: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "virtio_rng",
    "sd_mod",
    "ahci",
    "ata_piix",
    "nvme",
    "e1000",
    "e1000e",
    "vmxnet3",
    "vmw_pvscsi",
    "ena",
    "gve",
    "hv_netvsc",
    "hv_storvsc",
    "xen-netfront",
    "xen-blkfront",
    "ixgbevf",
    "efivarfs",
    "efi-pstore",
];

/// Network and storage cards of real servers, on top of [`CLOUD`].
const GENERIC: &[&str] = &[
    "igb",
    "igc",
    "ixgbe",
    "i40e",
    "ice",
    "tg3",
    "bnx2",
    "bnx2x",
    "bnxt_en",
    "mlx4_en",
    "mlx5_core",
    "r8169",
    "be2net",
    "cxgb4",
    "qede",
    "sfc",
    "enic",
    "ionic",
    "atlantic",
    "usbnet",
    "cdc_ether",
    "rndis_host",
    "megaraid_sas",
    "mpt3sas",
    "mpi3mr",
    "smartpqi",
    "hpsa",
    "aacraid",
    "arcmsr",
    "isci",
    "mvsas",
    "lpfc",
    "qla2xxx",
    "xhci_pci",
    "ehci_pci",
    "usb-storage",
    "uas",
    "mmc_block",
    "sdhci_pci",
    "vmd",
    "ipmi_si",
    "ipmi_devintf",
];

/// File systems of images and of what tenants bring, software RAID, and what these need besides.
const FILE_SYSTEMS: &[&str] = &[
    "ext4",
    "vfat",
    "xfs",
    "btrfs",
    "isofs",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    "nls_utf8",
    "crc32c_generic",
    "loop",
    "md_mod",
    "raid0",
    "raid1",
    "raid10",
    "raid456",
    "dm_mod",
    "af_packet",
];

/// The kernel's own iSCSI target (LIO), by which the agent exports a disk; `configfs` is how it is set up.
const TARGET: &[&str] =
    &["configfs", "target_core_mod", "target_core_iblock", "iscsi_target_mod", "crc32c_intel"];

/// One module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// File name without `.ko` and compression.
    pub(super) name: String,
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Modules that must be there before it.
    pub(super) needs: Vec<String>,
    /// Patterns of the devices that it drives, as devices name themselves in sysfs.
    pub(super) aliases: Vec<String>,
}

impl Module {
    /// Its bytes, unpacked: then the ramdisk's own insmod need not know the compression.
    pub(super) fn read(&self) -> Result<Vec<u8>, RamdiskError> {
        let bytes = fs::read(&self.path).map_err(at(&self.path))?;
        match self.path.extension().and_then(|e| e.to_str()) {
            Some("gz") => {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(bytes.as_slice())
                    .read_to_end(&mut plain)
                    .map_err(at(&self.path))?;
                Ok(plain)
            }
            Some("xz") => tool("xz", "xz-utils", &self.path),
            Some("zst") => tool("zstd", "zstd", &self.path),
            _ => Ok(bytes),
        }
    }
}

fn tool(name: &'static str, package: &'static str, path: &Path) -> Result<Vec<u8>, RamdiskError> {
    let output = std::process::Command::new(name).arg("-dcq").arg(path).output();
    let output = output.map_err(|_| RamdiskError::Tool { tool: name, package })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RamdiskError::Failed { command: format!("{name} -dcq {}", path.display()), output: text })
}

/// The modules of a flavour below `lib/modules/RELEASE`, each behind what it depends on. Modules that this kernel does
/// not have (built in, or of another flavour) are left out.
pub(super) fn select(folder: &Path, flavour: KernelFlavour) -> Result<Vec<Module>, RamdiskError> {
    let wanted = wanted(flavour);
    let mut found = HashMap::new();
    collect(&folder.join("kernel"), &mut found).map_err(at(folder))?;
    let mut order = Order { found: &found, seen: HashSet::new(), modules: Vec::new() };
    for name in wanted {
        order.add(&normal(name))?;
    }
    Ok(order.modules)
}

fn wanted(flavour: KernelFlavour) -> Vec<&'static str> {
    match flavour {
        KernelFlavour::Cloud => [CLOUD, FILE_SYSTEMS, TARGET].concat(),
        KernelFlavour::Generic => [CLOUD, GENERIC, FILE_SYSTEMS, TARGET].concat(),
    }
}

/// What is wanted and neither among `modules` nor built into this kernel.
pub(super) fn left_out(folder: &Path, flavour: KernelFlavour, modules: &[Module]) -> Vec<&'static str> {
    let list = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
    let stems = list.lines().filter_map(|line| line.rsplit('/').next()?.split_once(".ko"));
    let mut there: HashSet<String> = stems.map(|(name, _)| normal(name)).collect();
    there.extend(modules.iter().map(|module| module.name.clone()));
    wanted(flavour).into_iter().filter(|name| !there.contains(&normal(name))).collect()
}

struct Order<'a> {
    found: &'a HashMap<String, PathBuf>,
    seen: HashSet<String>,
    modules: Vec<Module>,
}

impl Order<'_> {
    fn add(&mut self, name: &str) -> Result<(), RamdiskError> {
        let Some(path) = self.found.get(name) else { return Ok(()) };
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let mut module =
            Module { name: name.to_owned(), path: path.clone(), needs: Vec::new(), aliases: Vec::new() };
        (module.needs, module.aliases) = describe(&module.read()?);
        module.needs.retain(|need| self.found.contains_key(need));
        for need in &module.needs {
            self.add(need)?;
        }
        self.modules.push(module);
        Ok(())
    }
}

/// `modules.dep` of these modules: a line each, with all that it needs, nearest first.
pub(super) fn dep_file(modules: &[Module]) -> String {
    let by_name: HashMap<&str, &Module> =
        modules.iter().map(|module| (module.name.as_str(), module)).collect();
    let mut text = String::new();
    for module in modules {
        let mut all = module.needs.clone();
        let mut next = 0;
        while let Some(need) = all.get(next) {
            let further = by_name.get(need.as_str()).map(|module| module.needs.clone()).unwrap_or_default();
            // the same one again, further back: it must be loaded earlier still
            all.extend(further);
            next += 1;
        }
        let mut seen = HashSet::new();
        let mut kept: Vec<&String> = all.iter().rev().filter(|name| seen.insert(name.as_str())).collect();
        kept.reverse();
        let needs: String = kept.iter().map(|name| format!(" {name}.ko")).collect();
        text.push_str(&format!("{}.ko:{needs}\n", module.name));
    }
    text
}

/// `modules.alias` of these modules.
pub(super) fn alias_file(modules: &[Module]) -> String {
    let lines =
        modules.iter().flat_map(|m| m.aliases.iter().map(move |alias| format!("alias {alias} {}\n", m.name)));
    lines.collect()
}

/// What a module says itself in its `.modinfo`: needs (`depends=a,b` and, softly, `softdep=pre: c`) and aliases.
/// Debian's packages carry no modules.dep; it is made when they are installed.
fn describe(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut needs, mut aliases) = (Vec::new(), Vec::new());
    for text in bytes.split(|&byte| byte == 0) {
        let Ok(text) = std::str::from_utf8(text) else { continue };
        if let Some(list) = text.strip_prefix("depends=") {
            needs.extend(list.split(',').filter(|name| !name.is_empty()).map(normal));
        } else if let Some(list) = text.strip_prefix("softdep=pre:") {
            let before = list.split("post:").next().unwrap_or_default();
            needs.extend(before.split_whitespace().map(normal));
        } else if let Some(alias) = text.strip_prefix("alias=") {
            aliases.push(alias.to_owned());
        }
    }
    (needs, aliases)
}

/// The kernel takes `-` and `_` for the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn collect(folder: &Path, found: &mut HashMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if let Some((name, _)) =
            path.file_name().and_then(|n| n.to_str()).and_then(|n| n.split_once(".ko"))
        {
            found.insert(normal(name), path.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_behind_what_it_needs() {
        let folder = tempfile::tempdir().expect("temp dir");
        let kernel = folder.path().join("kernel/drivers");
        fs::create_dir_all(&kernel).expect("dirs");
        for (name, info) in [
            ("virtio_net", "license=GPL\0depends=net-failover,virtio_ring\0"),
            ("net_failover", "depends=failover\0"),
            ("failover", "depends=\0"),
            ("sd_mod", "depends=\0alias=scsi:t-0x00*\0"),
            ("virtio_ring", "\0\0x\0"),
            ("unneeded", ""),
        ] {
            fs::write(kernel.join(format!("{name}.ko")), info).expect("written");
        }
        let modules = select(folder.path(), KernelFlavour::Cloud).expect("selected");
        let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio_ring", "virtio_net", "sd_mod"]);
        assert!(dep_file(&modules).contains("virtio_net.ko: net_failover.ko virtio_ring.ko failover.ko\n"));
        assert_eq!(alias_file(&modules), "alias scsi:t-0x00* sd_mod\n");
    }
}
