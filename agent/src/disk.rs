//! The machine's disks and network cards, from sysfs.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::hints::{self, Hints};

/// The smallest disk that is picked without hints, bytes.
pub const SMALLEST_BYTES: u64 = 4 << 30;

/// Kernel names of block devices that are never a root disk.
const NOT_DISKS: [&str; 11] =
    ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "mtdblock", "mmcblk0boot", "pmem0s"];

/// One disk as sysfs shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Kernel name, `vda`.
    pub kernel_name: String,
    /// The device file.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Bytes of a logical block.
    pub block: u64,
    /// Model, empty if unknown.
    pub model: String,
    /// Vendor, empty if unknown.
    pub vendor: String,
    /// Serial number, empty if unknown.
    pub serial: String,
    /// World-wide name `0x…` (first 8 bytes), empty if unknown.
    pub wwn: String,
    /// World-wide name with its extension, empty if unknown.
    pub wwn_full: String,
    /// Host:channel:target:lun, empty if not SCSI.
    pub hctl: String,
    /// Bus path below `/dev/disk/by-path/`, empty if unknown.
    pub by_path: String,
    /// Device number `major:minor`, empty if unknown.
    pub number: String,
    /// Whether it spins.
    pub rotational: bool,
    /// The device that is built on it or on a partition of it: `md127` (software RAID), `dm-0` (multipath, LVM). Empty
    /// if there is none. Writing past such a device would damage it, or be overwritten by it.
    pub held_by: String,
}

impl Disk {
    /// `/dev/vda` as operators and hints name it, wherever the device file really is.
    pub fn name(&self) -> String {
        format!("/dev/{}", self.kernel_name)
    }
}

/// All writable, fixed disks below `sys` and `dev`, by name.
pub fn list(sys: &Path, dev: &Path) -> Vec<Disk> {
    find(sys, dev, false)
}

/// All fixed disks that cannot be written, by name.
pub fn read_only(sys: &Path, dev: &Path) -> Vec<Disk> {
    find(sys, dev, true)
}

/// Disks that are in no list though something is there, by name, with the reason: removable with a medium in them, or
/// without a size.
pub fn left_out(sys: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(sys.join("block")).into_iter().flatten().flatten() {
        let (folder, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let number = |file: &str| {
            fs::read_to_string(folder.join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok())
        };
        if is_no_disk(&name) || number("hidden") == Some(1) || !folder.join("device").exists() {
            continue;
        }
        let reason = match (number("size").unwrap_or(0), number("removable") == Some(1)) {
            (0, true) | (1.., false) => continue,
            (0, false) => "it says that it has no size, as a broken or switched-off disk does",
            (1.., true) => "it is removable",
        };
        found.push((format!("/dev/{name}"), reason.to_owned()));
    }
    found.sort();
    found
}

/// Whether an opened device is the one that the disk was when it was chosen, by its number. A file is taken as it is.
pub(crate) fn same_device(file: &fs::File, disk: &Disk) -> io::Result<()> {
    let meta = file.metadata()?;
    if !meta.file_type().is_block_device() || disk.number.is_empty() {
        return Ok(());
    }
    let opened = format!("{}:{}", nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
    if opened == disk.number {
        return Ok(());
    }
    let (path, chosen) = (disk.path.display(), &disk.number);
    Err(io::Error::other(format!("{path} is device {opened}, but {chosen} was chosen")))
}

/// Whether sysfs still shows the disk that was chosen under its name. Errors: what is different.
pub(crate) fn unchanged(disk: &Disk, sys: &Path) -> io::Result<()> {
    let name = &disk.kernel_name;
    let dev = disk.path.parent().unwrap_or(Path::new(""));
    let Some(now) = read(&sys.join("block").join(name), dev, name) else {
        return Err(io::Error::other("it is not there any more"));
    };
    let of = |disk: &Disk| (disk.size, disk.serial.clone(), disk.wwn_full.clone(), disk.number.clone());
    if of(&now) == of(disk) {
        return Ok(());
    }
    let (was, is) = (describe(disk), describe(&now));
    Err(io::Error::other(format!("another disk has its name now: chosen was {was}, there is {is}")))
}

fn find(sys: &Path, dev: &Path, read_only: bool) -> Vec<Disk> {
    let is_read_only = |folder: &Path| fs::read(folder.join("ro")).is_ok_and(|text| text.starts_with(b"1"));
    let mut disks: Vec<Disk> = fs::read_dir(sys.join("block"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| is_read_only(&entry.path()) == read_only)
        .filter_map(|entry| read(&entry.path(), dev, &entry.file_name().to_string_lossy()))
        .collect();
    disks.sort_by(|a, b| a.kernel_name.cmp(&b.kernel_name));
    disks
}

/// The disk to write: the first that fits all hints, or without hints the smallest of at least 4 GiB, of several of
/// that size the first by name (so is the first path of a disk that is reached by several). Disks in use by software
/// RAID, multipath or LVM are left alone. Errors: `NoDisk`, listing what was seen and what was asked for.
pub fn choose(disks: &[Disk], hints: &Hints) -> Result<Disk, Failure> {
    let mut free = disks.iter().filter(|disk| disk.held_by.is_empty());
    let found = if hints.is_empty() {
        free.filter(|disk| disk.size >= SMALLEST_BYTES).min_by_key(|disk| disk.size)
    } else {
        free.find(|disk| hints::fits(hints, disk))
    };
    found.cloned().ok_or_else(|| {
        let asked = if hints.is_empty() {
            "no root device hints, so the smallest disk of at least 4 GiB is wanted".to_owned()
        } else {
            format!("root device hints {}", serde_json::Value::from(hints.clone()))
        };
        let seen: Vec<String> = disks.iter().map(describe).collect();
        let seen = if seen.is_empty() { "no disk at all".to_owned() } else { seen.join("; ") };
        Failure::NoDisk(format!("no suitable disk: {asked}; seen: {seen}"))
    })
}

fn describe(disk: &Disk) -> String {
    let mut text = format!("{} ({} bytes", disk.name(), disk.size);
    for (word, value) in [
        ("model", &disk.model),
        ("vendor", &disk.vendor),
        ("serial", &disk.serial),
        ("wwn", &disk.wwn),
        ("hctl", &disk.hctl),
        ("in use by", &disk.held_by),
    ] {
        if !value.is_empty() {
            text.push_str(&format!(", {word} {value}"));
        }
    }
    text.push_str(if disk.rotational { ", rotational)" } else { ", not rotational)" });
    text
}

/// MAC addresses of all cards but loopback, lower case, the one booted from first.
pub fn macs(sys: &Path, boot_mac: Option<&str>) -> Vec<String> {
    let mut macs: Vec<String> = fs::read_dir(sys.join("class/net"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("address")).ok())
        .map(|mac| mac.trim().to_ascii_lowercase())
        .filter(|mac| mac.len() == 17 && mac != "00:00:00:00:00:00")
        .collect();
    macs.sort();
    macs.dedup();
    if let Some(boot) = boot_mac {
        macs.retain(|mac| mac != boot);
        macs.insert(0, boot.to_owned());
    }
    macs
}

fn is_no_disk(name: &str) -> bool {
    // the boot and key areas of a memory card come as devices of their own
    let card_area = name.starts_with("mmcblk") && (name.contains("boot") || name.ends_with("rpmb"));
    card_area || NOT_DISKS.iter().any(|kind| name.starts_with(kind))
}

fn read(folder: &Path, dev: &Path, name: &str) -> Option<Disk> {
    if is_no_disk(name) {
        return None;
    }
    let text = |below: &str| {
        let bytes = fs::read(folder.join(below)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
    };
    let size = text("size").parse::<u64>().ok()?.checked_mul(512)?;
    if size == 0 || text("removable") == "1" || text("hidden") == "1" {
        return None;
    }
    let first =
        |places: &[&str]| places.iter().map(|place| text(place)).find(|t| !t.is_empty()).unwrap_or_default();
    let (wwn, wwn_full) = wwn(&first(&["wwid", "device/wwid"]));
    let link = |below: &str| fs::canonicalize(folder.join(below)).unwrap_or_default();
    let device = link("device");
    let last = device.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Some(Disk {
        kernel_name: name.to_owned(),
        path: dev.join(name),
        size,
        block: text("queue/logical_block_size").parse().unwrap_or(512),
        model: text("device/model"),
        vendor: text("device/vendor"),
        serial: Some(first(&["serial", "device/serial"]))
            .filter(|s| !s.is_empty())
            .unwrap_or_else(|| page80(folder)),
        wwn,
        wwn_full,
        hctl: if last.split(':').count() == 4 { last.clone() } else { String::new() },
        by_path: bus_path(&device),
        number: text("dev"),
        rotational: text("queue/rotational") == "1",
        held_by: holder(folder, name),
    })
}

/// The first device in the `holders` folder of the disk or of a partition of it.
fn holder(folder: &Path, name: &str) -> String {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let partitions = names(folder).into_iter().filter(|below| below.starts_with(name));
    std::iter::once(folder.to_owned())
        .chain(partitions.map(|partition| folder.join(partition)))
        .find_map(|place| names(&place.join("holders")).into_iter().next())
        .unwrap_or_default()
}

/// The unit serial number of a SCSI disk: VPD page 0x80, four bytes of header.
fn page80(folder: &Path) -> String {
    let page = fs::read(folder.join("device/vpd_pg80")).unwrap_or_default();
    String::from_utf8_lossy(page.get(4..).unwrap_or_default()).trim_matches(['\0', ' ']).to_owned()
}

/// (`0x` and the first 8 bytes, `0x` and all) of an NAA or EUI name; empty for other kinds.
fn wwn(wwid: &str) -> (String, String) {
    let Some(hex) = wwid.strip_prefix("naa.").or_else(|| wwid.strip_prefix("eui.")) else {
        return Default::default();
    };
    let short = hex.get(..16.min(hex.len())).unwrap_or(hex);
    let short = if wwid.starts_with("naa.") { format!("0x{short}") } else { wwid.to_owned() };
    let full = if wwid.starts_with("naa.") { format!("0x{hex}") } else { wwid.to_owned() };
    (short, full)
}

/// What udev would call the disk below `/dev/disk/by-path/`, for virtio, NVMe and ATA on PCI; empty otherwise.
fn bus_path(device: &Path) -> String {
    let parts: Vec<String> = device.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let is_pci = |part: &String| {
        part.len() == 12
            && part.as_bytes()[4] == b':'
            && part.as_bytes()[7] == b':'
            && part.as_bytes()[10] == b'.'
    };
    let Some(pci) = parts.iter().rposition(is_pci) else { return String::new() };
    let below = &parts[pci + 1..];
    let base = format!("pci-{}", parts[pci]);
    match below.first().map(String::as_str) {
        Some(first) if first.starts_with("virtio") && below.len() == 1 => base,
        Some("nvme") => format!("{base}-nvme-1"),
        Some(first) if first.starts_with("ata") => format!("{base}-ata-{}", &first[3..]),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fixed_writable_disks_are_listed_with_what_sysfs_tells() {
        let folder = tempfile::tempdir().expect("temp dir");
        let root = folder.path();
        let device = root.join("devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0");
        fs::create_dir_all(&device).expect("dirs");
        for (file, text) in
            [("model", "ST100 \n"), ("vendor", "ATA\n"), ("wwid", "naa.5000c50012345678aabb\n")]
        {
            fs::write(device.join(file), text).expect("file");
        }
        fs::write(device.join("vpd_pg80"), b"\0\x80\0\x08SERIAL01").expect("file");
        for (name, flag) in [
            ("sda", ""),
            ("sdb", "removable"),
            ("sdc", "ro"),
            ("loop0", ""),
            ("sr0", ""),
            ("zram0", ""),
            ("dm-0", ""),
        ] {
            let block = root.join("sys/block").join(name);
            fs::create_dir_all(block.join("queue")).expect("dirs");
            fs::write(block.join("size"), "2048\n").expect("file");
            fs::write(block.join("queue/rotational"), "1\n").expect("file");
            fs::write(block.join("queue/logical_block_size"), "4096\n").expect("file");
            std::os::unix::fs::symlink(&device, block.join("device")).expect("link");
            if !flag.is_empty() {
                fs::write(block.join(flag), "1\n").expect("file");
            }
        }
        let disks = list(&root.join("sys"), Path::new("/dev"));
        assert_eq!(disks.len(), 1, "{disks:?}");
        let expected = Disk {
            kernel_name: "sda".into(),
            path: "/dev/sda".into(),
            size: 1 << 20,
            block: 4096,
            model: "ST100".into(),
            vendor: "ATA".into(),
            serial: "SERIAL01".into(),
            wwn: "0x5000c50012345678".into(),
            wwn_full: "0x5000c50012345678aabb".into(),
            hctl: "2:0:0:0".into(),
            by_path: "pci-0000:00:1f.2-ata-3".into(),
            number: String::new(),
            rotational: true,
            held_by: String::new(),
        };
        assert_eq!(disks[0], expected);
        let removable = vec![("/dev/sdb".to_owned(), "it is removable".to_owned())];
        assert_eq!(left_out(&root.join("sys")), removable);
        unchanged(&disks[0], &root.join("sys")).expect("the same disk");
        let other = Disk { serial: "SERIAL02".into(), ..disks[0].clone() };
        let refused = unchanged(&other, &root.join("sys")).expect_err("another disk").to_string();
        assert!(refused.contains("SERIAL01") && refused.contains("SERIAL02"), "{refused}");
        // an array over a partition makes the whole disk one that is in use
        fs::create_dir_all(root.join("sys/block/sda/sda1/holders/md127")).expect("dirs");
        assert_eq!(list(&root.join("sys"), Path::new("/dev"))[0].held_by, "md127");
        fs::create_dir_all(root.join("sys/block/sda/holders/dm-0")).expect("dirs");
        assert_eq!(list(&root.join("sys"), Path::new("/dev"))[0].held_by, "dm-0");
        assert_eq!(bus_path(Path::new("/sys/devices/pci0000:00/0000:00:04.0/virtio1")), "pci-0000:00:04.0");
        assert_eq!(
            bus_path(Path::new("/sys/devices/pci0000:00/0000:00:05.0/nvme/nvme0")),
            "pci-0000:00:05.0-nvme-1"
        );
    }
}
