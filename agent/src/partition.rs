//! Partition images: a table of our own making around an image that is only the root file system.
//! deploy.md §A.2 (layout), §B.5 (keys of `image_info`).

pub mod label;
pub mod layout;
pub mod loader;
mod make;
pub(crate) mod mounts;
pub mod probe;
pub(crate) mod tool;

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ferric_agent_wire::PartitionUuids;
use serde_json::{Value, json};

use crate::configdrive;
use crate::console::say;
use crate::disk::Disk;
use crate::error::Failure;
use crate::table::{self, Span};
use label::Entry;
use layout::{Layout, Part, Role, Wanted};
use probe::{Found, Kind};

/// Labels as deploy.md §A.2 has them.
const SWAP_LABEL: &str = "swap1";
const EPHEMERAL_LABEL: &str = "ephemeral0";
const ESP_LABEL: &str = "efi-part";

/// How long partition devices may take to appear, and the pause between two looks.
const DEVICES_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A partition image's plan for one disk, checked against what the disk holds.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What was asked for.
    pub wanted: Wanted,
    /// Where it goes.
    pub layout: Layout,
    /// The partition whose content stays.
    keep: Option<Entry>,
}

impl Plan {
    /// Decides everything that can be decided before the first write. Blocks.
    /// Errors: `TooLarge`, `Unsupported` for a file system that cannot be made, `Boot` for an ephemeral partition that
    /// is to be preserved and is not where it would have to be.
    pub fn new(disk: &Disk, wanted: Wanted) -> Result<Self, Failure> {
        let layout = Layout::plan(disk, &wanted)?;
        let ephemeral = layout.find(Role::Ephemeral);
        let keep = match ephemeral {
            Some(part) if wanted.preserve_ephemeral => Some(preserved(disk, part)?),
            Some(_) => {
                make::check_kind(&wanted.ephemeral_format)?;
                None
            }
            None => None,
        };
        Ok(Self { wanted, layout, keep })
    }

    /// Where the image goes.
    pub fn root(&self) -> Span {
        self.layout.root().span
    }

    /// Whether something on the disk must survive, the old partition table with it.
    pub fn keeps_something(&self) -> bool {
        self.keep.is_some()
    }
}

fn preserved(disk: &Disk, part: &Part) -> Result<Entry, Failure> {
    let entries = label::read(disk)?;
    entries.iter().find(|entry| entry.span == part.span).copied().ok_or_else(|| {
        let seen: Vec<String> =
            entries.iter().map(|e| format!("{}: {} bytes at {}", e.number, e.span.len, e.span.at)).collect();
        let seen = if seen.is_empty() { "no partition".to_owned() } else { seen.join(", ") };
        Failure::Boot(format!(
            "preserve_ephemeral: the ephemeral partition would be {} bytes at {}, but {} has {seen}; nothing was \
             written",
            part.span.len,
            part.span.at,
            disk.name()
        ))
    })
}

/// Writes the partition table and everything around the image, whose bytes are already in their place. `sys` and `dev`
/// as in [`crate::options::Options`]. Blocks.
/// Errors: `Boot` (no table, devices that do not appear, a tool that failed), `Format` for an image without a file
/// system, `ConfigDrive`, I/O.
pub fn finish(disk: &Disk, plan: &Plan, drive: Option<&[u8]>, sys: &Path, dev: &Path) -> Result<(), Failure> {
    let file = table::open(disk)?;
    let root = probe::probe(&file, plan.root())?.filter(|found| found.kind != Kind::Swap);
    drop(file);
    let root = root.ok_or_else(|| {
        Failure::Format(
            "the partition image holds no file system (ext2/3/4, xfs, btrfs, FAT are known); a whole-disk image needs \
             image_type whole-disk"
                .to_owned(),
        )
    })?;
    label::write(disk, &plan.layout, plan.keep.as_ref())?;
    table::tell_kernel(disk)?;
    for part in &plan.layout.parts {
        let device = device(disk, part.number, part.span, sys, dev)?;
        match part.role {
            Role::Esp => make::vfat(disk, part.span, ESP_LABEL)?,
            Role::BiosBoot => table::zero(disk, part.span)?,
            Role::Ephemeral if plan.keep.is_some() => {}
            Role::Ephemeral => {
                let kind = &plan.wanted.ephemeral_format;
                make::file_system(disk, part.span, &device, kind, EPHEMERAL_LABEL)?;
            }
            Role::Swap => make::swap(disk, part.span, SWAP_LABEL)?,
            Role::ConfigDrive => {
                let content = drive.ok_or_else(|| Failure::ConfigDrive("it got lost".to_owned()))?;
                configdrive::write_at(disk, part.span, content)?;
            }
            Role::Root => {}
        }
    }
    let roles: Vec<&str> = plan.layout.parts.iter().map(|part| part.role.name()).collect();
    say(format!("partitions {} root_uuid={}", roles.join(","), root.uuid));
    Ok(())
}

/// The result of `standby.get_partition_uuids`: ironic-python-agent's keys. Blocks.
pub fn uuids(disk: &Disk, layout: &Layout) -> Result<Value, Failure> {
    let file = table::open(disk)?;
    let uuid = |role| -> Result<Option<String>, Failure> {
        let Some(part) = layout.find(role) else { return Ok(None) };
        Ok(probe::probe(&file, part.span)?.map(|found| found.uuid))
    };
    let uuids = PartitionUuids {
        root: uuid(Role::Root)?,
        efi_system_partition: uuid(Role::Esp)?,
        prep_boot_partition: None,
    };
    let mut value = serde_json::to_value(uuids).map_err(|error| Failure::Unsupported(error.to_string()))?;
    let devices: BTreeMap<&str, String> = layout
        .parts
        .iter()
        .map(|part| (part.role.name(), format!("/dev/{}", kernel_name(disk, part.number))))
        .collect();
    value["partitions"] = json!(devices);
    Ok(value)
}

/// A partition with a file system on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Which partition.
    pub entry: Entry,
    /// What is on it.
    pub found: Found,
}

/// The partition that holds the file system of this UUID (letter case does not count). Errors: `Boot` listing what
/// there is, I/O.
pub fn locate(disk: &Disk, uuid: &str) -> Result<Located, Failure> {
    let file = table::open(disk)?;
    let mut seen = Vec::new();
    for entry in label::read(disk)? {
        let Some(found) = probe::probe(&file, entry.span)? else { continue };
        if found.uuid.eq_ignore_ascii_case(uuid.trim()) {
            return Ok(Located { entry, found });
        }
        seen.push(format!("{} {} {}", kernel_name(disk, entry.number), found.kind.name(), found.uuid));
    }
    let seen = if seen.is_empty() { "no file system at all".to_owned() } else { seen.join(", ") };
    Err(Failure::Boot(format!("{} has no file system with UUID {uuid}; seen: {seen}", disk.name())))
}

/// `vda1`, `nvme0n1p1`.
pub(crate) fn kernel_name(disk: &Disk, number: u32) -> String {
    let digit = disk.kernel_name.ends_with(|c: char| c.is_ascii_digit());
    format!("{}{}{number}", disk.kernel_name, if digit { "p" } else { "" })
}

/// The partition's device file, once the kernel shows it with its place and size. A disk that is a plain file has none:
/// its name alone is returned. Errors: `Boot` after half a minute.
pub(crate) fn device(
    disk: &Disk,
    number: u32,
    span: Span,
    sys: &Path,
    dev: &Path,
) -> Result<PathBuf, Failure> {
    let name = kernel_name(disk, number);
    let path = dev.join(&name);
    if !std::fs::metadata(&disk.path).is_ok_and(|meta| meta.file_type().is_block_device()) {
        return Ok(path);
    }
    let folder = sys.join("block").join(&disk.kernel_name).join(&name);
    // sysfs counts in 512 bytes whatever the disk's blocks are
    let number_in = |file: &str| -> Option<u64> {
        std::fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok()?.checked_mul(512)
    };
    let began = Instant::now();
    let mut told = Instant::now();
    loop {
        if number_in("start") == Some(span.at) && number_in("size") == Some(span.len) && path.exists() {
            return Ok(path);
        }
        if began.elapsed() > DEVICES_WITHIN {
            let (start, size) = (number_in("start"), number_in("size"));
            return Err(Failure::Boot(format!(
                "partition /dev/{name} ({} bytes at {}) did not appear within {} s; the kernel shows {start:?}, {size:?}",
                span.len,
                span.at,
                DEVICES_WITHIN.as_secs()
            )));
        }
        // the disk may have been busy when the kernel was told
        if told.elapsed() > DEVICES_WITHIN / 10 {
            table::tell_kernel(disk)?;
            told = Instant::now();
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn random() -> Result<[u8; 16], Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Boot(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_the_kernel_does() {
        let name = |disk: &str| kernel_name(&Disk { kernel_name: disk.into(), ..Disk::default() }, 3);
        assert_eq!(
            (name("sda"), name("nvme0n1"), name("mmcblk0")),
            ("sda3".into(), "nvme0n1p3".into(), "mmcblk0p3".into())
        );
    }
}
