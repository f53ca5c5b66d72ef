//! Writing the partition table of a layout, and reading what a disk has.

use std::fs::File;
use std::os::unix::fs::FileExt;

use gptman::{GPT, GPTPartitionEntry};

use super::layout::{Label, Layout, Role, gpt_tail};
use crate::disk::Disk;
use crate::error::Failure;
use crate::table::{self, Bounded, DATA_TYPE, ESP_TYPE, Span};

const MIB: u64 = 1 << 20;

/// Linux file system data, as stored on disk (0FC63DAF-8483-4772-8E79-3D69D8477DE4).
const LINUX_TYPE: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];

/// Linux swap (0657FD6D-A4AB-43C4-84E5-0933C84B4F4F).
const SWAP_TYPE: [u8; 16] =
    [0x6d, 0xfd, 0x57, 0x06, 0xab, 0xa4, 0xc4, 0x43, 0x84, 0xe5, 0x09, 0x33, 0xc8, 0x4b, 0x4f, 0x4f];

/// BIOS boot partition (21686148-6449-6E6F-744E-656564454649).
const BIOS_BOOT_TYPE: [u8; 16] =
    [0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49];

/// One used entry of a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From 1.
    pub number: u32,
    /// Where.
    pub span: Span,
    /// Its own GUID; None in an MBR.
    pub guid: Option<[u8; 16]>,
}

/// The partitions that a disk has, by number; primary ones only in an MBR.
pub fn read(disk: &Disk) -> Result<Vec<Entry>, Failure> {
    let mut file = table::open(disk)?;
    if let Some(gpt) = table::read_gpt(&mut file, disk) {
        let used = gpt.iter().filter(|(_, entry)| entry.is_used());
        return Ok(used
            .filter_map(|(number, entry)| {
                let span = table::span_of(entry, disk.block)?;
                Some(Entry { number, span, guid: Some(entry.unique_partition_guid) })
            })
            .collect());
    }
    let mbr = table::read_mbr(&file)?;
    if !table::is_mbr(&mbr) || table::is_protective(&mbr) {
        return Ok(Vec::new());
    }
    let entries = table::mbr_entries(&mbr, disk.block).into_iter().enumerate();
    Ok(entries
        .filter_map(|(n, span)| span.map(|span| Entry { number: n as u32 + 1, span, guid: None }))
        .collect())
}

/// Writes the layout's table. Whatever table there was is gone first, both copies of it, unless `keep` names the
/// partition whose content is to stay (its GUID stays as well). Errors: `Boot`, I/O.
pub fn write(disk: &Disk, layout: &Layout, keep: Option<&Entry>) -> Result<(), Failure> {
    let mut file = table::open(disk)?;
    let had_gpt = table::read_gpt(&mut file, disk).is_some();
    // with something to keep the old table is overwritten in place: at no moment is there none
    let stays = keep.is_some() && had_gpt == (layout.label == Label::Gpt);
    if !stays {
        let tail = gpt_tail(disk.block).min(disk.size);
        file.write_all_at(&vec![0; MIB.min(disk.size) as usize], 0)
            .and_then(|()| file.write_all_at(&vec![0; tail as usize], disk.size - tail))
            .map_err(Failure::io(format!("wiping the partition table of {}", disk.name())))?;
    }
    match layout.label {
        Label::Gpt => write_gpt(&mut file, disk, layout, keep)?,
        Label::Msdos => write_mbr(&file, disk, layout)?,
    }
    file.sync_all().map_err(Failure::io("flushing the partition table"))
}

fn write_gpt(file: &mut File, disk: &Disk, layout: &Layout, keep: Option<&Entry>) -> Result<(), Failure> {
    let broken =
        |error: gptman::Error| Failure::Boot(format!("no GPT can be made on {}: {error}", disk.name()));
    let mut bounded = Bounded { file, size: disk.size, at: 0 };
    let mut gpt = GPT::new_from(&mut bounded, disk.block, super::random()?).map_err(broken)?;
    for part in &layout.parts {
        let kept = keep.filter(|entry| entry.span == part.span).and_then(|entry| entry.guid);
        gpt[part.number] = GPTPartitionEntry {
            partition_type_guid: match part.role {
                Role::Esp => ESP_TYPE,
                Role::BiosBoot => BIOS_BOOT_TYPE,
                Role::Ephemeral | Role::Root => LINUX_TYPE,
                Role::Swap => SWAP_TYPE,
                Role::ConfigDrive => DATA_TYPE,
            },
            unique_partition_guid: kept.map_or_else(super::random, Ok)?,
            starting_lba: part.span.at / disk.block,
            ending_lba: (part.span.at + part.span.len) / disk.block - 1,
            attribute_bits: 0,
            partition_name: part.role.name().into(),
        };
    }
    GPT::write_protective_mbr_into(&mut bounded, disk.block).map_err(broken)?;
    gpt.write_into(&mut bounded).map_err(broken)?;
    Ok(())
}

fn write_mbr(file: &File, disk: &Disk, layout: &Layout) -> Result<(), Failure> {
    let mut mbr = [0; 512];
    let identifier: [u8; 16] = super::random()?;
    mbr[440..444].copy_from_slice(&identifier[..4]);
    if layout.parts.len() > 4 {
        return Err(Failure::Boot("an msdos label has place for four partitions".to_owned()));
    }
    for part in &layout.parts {
        let place = 446 + (part.number as usize - 1) * 16;
        let entry = &mut mbr[place..place + 16];
        entry[0] = if layout.active_root && part.role == Role::Root { 0x80 } else { 0 };
        entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[4] = match part.role {
            Role::Esp => 0xef,
            Role::BiosBoot | Role::Ephemeral | Role::Root => 0x83,
            Role::Swap => 0x82,
            Role::ConfigDrive => 0x0c,
        };
        entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        let blocks = |bytes: u64| u32::try_from(bytes / disk.block).expect("plan() ends an MBR at 32 bits");
        entry[8..12].copy_from_slice(&blocks(part.span.at).to_le_bytes());
        entry[12..16].copy_from_slice(&blocks(part.span.len).to_le_bytes());
    }
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    file.write_all_at(&mbr, 0).map_err(Failure::io("writing the partition table"))
}
