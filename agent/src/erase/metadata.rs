//! Wiping what makes a disk look used: partition tables, and the signatures of file systems, volumes and arrays on the
//! disk and on every partition that any of its tables, or the kernel, knows of.
//!
//! Signatures lie near the front or the end of what they describe, so [`ENDS`] bytes of each are zeroed without asking;
//! the few further inside are looked for. Partitions come first and the disk's own ends last: an interrupted wipe finds
//! the partitions again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use super::medium::Medium;
use super::targets::entries;
use crate::disk::Disk;
use crate::table;

/// Bytes at the front and at the end of the disk and of each partition. Holds, among others: MBR, GPT, ZFS labels
/// (2 × 256 KiB each), VMFS (2 MiB), LUKS2's copies but the last, md of every version, DDF, LVM, swap of any page size.
const ENDS: u64 = 4 << 20;

/// Bytes zeroed of a signature further inside.
const INSIDE_BYTES: u64 = 4096;

/// Signatures further inside: block, place of the magic in it, magic.
const INSIDE: [(u64, usize, &[u8]); 3] = [
    // LUKS2, the secondary header's last possible place
    (4 << 20, 0, b"SKUL\xba\xbe"),
    // btrfs, second and third copy
    (64 << 20, 64, b"_BHRfS_M"),
    (256 << 30, 64, b"_BHRfS_M"),
];

/// Extended partitions in an MBR.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// Logical partitions followed before a chain counts as broken.
const LONGEST_CHAIN: usize = 256;

/// A stretch of the disk: first byte, bytes.
type Stretch = (u64, u64);

/// Wipes it all and looks whether it is gone. Blocks.
/// Errors: I/O; `EBUSY` when the disk is in use.
pub(super) fn wipe(disk: &Disk, sys: &Path) -> io::Result<()> {
    let medium = Medium::of_target(disk, sys)?;
    let mut parts = in_tables(&medium, disk);
    parts.extend(in_kernel(sys, disk));
    for &(at, len) in &parts {
        wipe_stretch(&medium, at, len)?;
    }
    medium.settle()?;
    wipe_stretch(&medium, 0, disk.size)?;
    medium.settle()?;
    for &(at, len) in parts.iter().chain([&(0, disk.size)]) {
        for (at, len) in ends(at, len) {
            let bytes = medium.read(at, len as usize)?;
            if let Some(n) = bytes.iter().position(|byte| *byte != 0) {
                let place = at + n as u64;
                return Err(io::Error::other(format!("byte {place} is not zero after it was wiped")));
            }
        }
    }
    drop(medium);
    table::tell_kernel(disk).map_err(io::Error::other)
}

/// The stretches zeroed in any case.
fn ends(at: u64, len: u64) -> Vec<Stretch> {
    if len <= 2 * ENDS { vec![(at, len)] } else { vec![(at, ENDS), (at + len - ENDS, ENDS)] }
}

fn wipe_stretch(medium: &Medium, at: u64, len: u64) -> io::Result<()> {
    for (block, place, magic) in INSIDE {
        if block + INSIDE_BYTES > len {
            continue;
        }
        let bytes = medium.read(at + block, INSIDE_BYTES as usize)?;
        if bytes[place..].starts_with(magic) {
            medium.zero_stretch(at + block, INSIDE_BYTES)?;
        }
    }
    for (at, len) in ends(at, len) {
        medium.zero_stretch(at, len)?;
    }
    Ok(())
}

/// The partitions of every table on the disk, clipped to its size. A GPT is looked for with both block sizes, since an
/// image made for the other one leaves its table as well.
fn in_tables(medium: &Medium, disk: &Disk) -> BTreeSet<Stretch> {
    let mut found = BTreeSet::new();
    let mut add = |at: u64, len: u64| {
        let len = len.min(disk.size.saturating_sub(at));
        if len > 0 {
            found.insert((at, len));
        }
    };
    for block in [512, 4096] {
        let assumed = Disk { block, ..disk.clone() };
        let Ok(mut file) = File::open(&disk.path) else { continue };
        let Some(gpt) = table::read_gpt(&mut file, &assumed) else { continue };
        for (_, entry) in gpt.iter().filter(|(_, entry)| entry.is_used()) {
            let blocks = entry.ending_lba.saturating_sub(entry.starting_lba).saturating_add(1);
            add(entry.starting_lba.saturating_mul(block), blocks.saturating_mul(block));
        }
    }
    for (at, len) in in_mbr(medium, disk.block) {
        add(at, len);
    }
    found
}

/// Primary and logical partitions, the sectors of the chain among them.
fn in_mbr(medium: &Medium, block: u64) -> Vec<Stretch> {
    let mut found = Vec::new();
    let Some(entries) = sector(medium, 0) else { return found };
    for (kind, start, blocks) in entries {
        if kind == 0xee {
            continue;
        }
        found.push((start * block, blocks * block));
        if !EXTENDED.contains(&kind) {
            continue;
        }
        let mut link = start;
        let mut seen = BTreeSet::new();
        while seen.len() < LONGEST_CHAIN && seen.insert(link) {
            let Some(logical) = sector(medium, link * block) else { break };
            found.push((link * block, block));
            let mut next = None;
            for (kind, at, blocks) in logical {
                if EXTENDED.contains(&kind) {
                    next = Some(start + at);
                } else {
                    found.push(((link + at) * block, blocks * block));
                }
            }
            match next {
                Some(at) => link = at,
                None => break,
            }
        }
    }
    found
}

/// The used entries (kind, first block, blocks) of a sector with a partition table.
fn sector(medium: &Medium, at: u64) -> Option<Vec<(u8, u64, u64)>> {
    let bytes = medium.read(at, 512).ok()?;
    if bytes[510..] != [0x55, 0xaa] {
        return None;
    }
    let number = |at: usize| u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")));
    let entries = (0..4).map(|n| 446 + n * 16);
    Some(
        entries
            .map(|at| (bytes[at + 4], number(at + 8), number(at + 12)))
            .filter(|entry| entry.0 != 0)
            .collect(),
    )
}

/// The partitions that the kernel knows; sysfs counts in 512 bytes whatever the disk's block is.
fn in_kernel(sys: &Path, disk: &Disk) -> Vec<Stretch> {
    let folder = sys.join("block").join(&disk.kernel_name);
    let number = |path: &Path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let of = |name: String| {
        let part = folder.join(name);
        let (at, len) = (number(&part.join("start"))?, number(&part.join("size"))?);
        let (at, len) = (at.checked_mul(512)?, len.checked_mul(512)?);
        Some((at, len.min(disk.size.checked_sub(at)?)))
    };
    entries(&folder).into_iter().filter_map(of).filter(|(_, len)| *len > 0).collect()
}
