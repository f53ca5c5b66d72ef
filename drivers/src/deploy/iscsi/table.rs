//! Partition tables on the remote disk: the layout's own, and a place for the config drive in that of a whole-disk image.

use gptman::{GPT, GPTPartitionEntry};

use super::canvas::Canvas;
use super::device::BlockDevice;
use super::layout::{CONFIG_MIB, Label, Layout, MIB, Role, Span};
use super::seed::Seed;
use crate::error::DriverError;
use crate::interface::Result;

/// EFI system partition, as stored on disk (UEFI 2.10 §5.3.3).
pub(super) const ESP_TYPE: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];

/// Basic data, what a FAT or ISO file system lives in.
const DATA_TYPE: [u8; 16] =
    [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7];

/// Linux file system data.
const LINUX_TYPE: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];

/// Linux swap.
const SWAP_TYPE: [u8; 16] =
    [0x6d, 0xfd, 0x57, 0x06, 0xab, 0xa4, 0xc4, 0x43, 0x84, 0xe5, 0x09, 0x33, 0xc8, 0x4b, 0x4f, 0x4f];

/// BIOS boot partition.
const BIOS_BOOT_TYPE: [u8; 16] =
    [0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49];

/// How much of each end of the disk is read: partition tables lie within.
const END: u64 = MIB;

/// The most entries that a GPT may have here; 128 are usual.
const GPT_ENTRIES: u32 = 1024;

/// Bytes of a GPT's entry, the only size there is in practice.
const GPT_ENTRY_BYTES: u32 = 128;

/// A partition that is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) span: Span,
    /// Its own GUID; `None` in an MBR.
    pub(super) guid: Option<[u8; 16]>,
    /// Whether it is an EFI system partition of a GPT.
    pub(super) is_esp: bool,
}

fn refused(reason: impl Into<String>) -> DriverError {
    DriverError::Refused {
        what: "the machine's disk".into(),
        command: "the partition table".into(),
        reason: reason.into(),
    }
}

/// What the disk has; primary partitions only in an MBR.
pub(super) async fn read(device: &dyn BlockDevice) -> Result<Vec<Entry>> {
    let mut canvas = Canvas::ends(device, END).await?;
    Ok(entries(&mut canvas, device.capacity(), device.block()))
}

fn entries(canvas: &mut Canvas, size: u64, block: u64) -> Vec<Entry> {
    if let Some(gpt) = read_gpt(canvas, size, block) {
        let used = gpt.iter().filter(|(_, entry)| entry.is_used());
        return used
            .filter_map(|(_, entry)| {
                let span = span_of(entry, block)?;
                let is_esp = entry.partition_type_guid == ESP_TYPE;
                Some(Entry { span, guid: Some(entry.unique_partition_guid), is_esp })
            })
            .collect();
    }
    let Some(mbr) = read_mbr(canvas).filter(|mbr| !is_protective(mbr)) else { return Vec::new() };
    let all = mbr_entries(&mbr, block).into_iter().flatten();
    all.map(|span| Entry { span, guid: None, is_esp: false }).collect()
}

/// Writes the layout's table. Whatever table there was is gone first, both copies of it, unless an ephemeral partition
/// is to be kept: then it has to be there, at its place, and its GUID stays as well.
pub(super) async fn write(
    device: &dyn BlockDevice,
    layout: &Layout,
    preserve_ephemeral: bool,
    seed: &Seed,
) -> Result<()> {
    let (size, block) = (device.capacity(), device.block());
    let mut canvas = Canvas::ends(device, END).await?;
    let keep = match layout.find(Role::Ephemeral).filter(|_| preserve_ephemeral) {
        None => None,
        Some(part) => {
            let there = entries(&mut canvas, size, block);
            let kept = there.into_iter().find(|entry| entry.span == part.span);
            Some(kept.ok_or_else(|| {
                refused(
                    "there is no ephemeral partition of this size at this place that could be preserved; nothing \
                     was written. Deploy with preserve_ephemeral false, or put back the disk of the last deployment",
                )
            })?)
        }
    };
    if keep.is_none() {
        // the ends hold the signatures of everything that was there as a whole: tables, RAID, LVM, file systems
        let head = END.min(size);
        let tail = size.saturating_sub(END).max(head) / block * block;
        device.zero(0, head).await?;
        if size > tail {
            device.zero(tail, size - tail).await?;
        }
        canvas = Canvas::ends(device, END).await?;
    }
    let failed = |error: std::io::Error| refused(error.to_string());
    match layout.label {
        Label::Gpt => write_gpt(&mut canvas, block, layout, keep, seed)?,
        Label::Msdos => canvas.set(0, &mbr_of(layout, block, seed)).map_err(failed)?,
    }
    canvas.flush_to(device, 0).await
}

fn write_gpt(
    canvas: &mut Canvas,
    block: u64,
    layout: &Layout,
    keep: Option<Entry>,
    seed: &Seed,
) -> Result<()> {
    let broken = |error: gptman::Error| refused(format!("no GPT can be made on it: {error}"));
    let mut gpt = GPT::new_from(&mut *canvas, block, seed.guid(0)).map_err(broken)?;
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
            unique_partition_guid: kept.unwrap_or_else(|| seed.guid(part.number)),
            starting_lba: part.span.at / block,
            ending_lba: (part.span.at + part.span.len) / block - 1,
            attribute_bits: 0,
            partition_name: part.role.name().into(),
        };
    }
    GPT::write_protective_mbr_into(&mut *canvas, block).map_err(broken)?;
    gpt.write_into(&mut *canvas).map_err(broken)?;
    Ok(())
}

fn mbr_of(layout: &Layout, block: u64, seed: &Seed) -> [u8; 512] {
    let mut mbr = [0; 512];
    mbr[440..444].copy_from_slice(&seed.number(0).to_le_bytes());
    for part in &layout.parts {
        let active = layout.active_root && part.role == Role::Root;
        let kind = match part.role {
            Role::Esp => 0xef,
            Role::BiosBoot | Role::Ephemeral | Role::Root => 0x83,
            Role::Swap => 0x82,
            Role::ConfigDrive => 0x0c,
        };
        set_mbr_entry(&mut mbr, part.number as usize - 1, active, kind, part.span, block);
    }
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

fn set_mbr_entry(mbr: &mut [u8; 512], n: usize, active: bool, kind: u8, span: Span, block: u64) {
    let entry = &mut mbr[446 + n * 16..446 + (n + 1) * 16];
    entry[0] = if active { 0x80 } else { 0 };
    entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[4] = kind;
    entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    let blocks =
        |bytes: u64| u32::try_from(bytes / block).expect("an MBR's partitions end at 32 bits of blocks");
    entry[8..12].copy_from_slice(&blocks(span.at).to_le_bytes());
    entry[12..16].copy_from_slice(&blocks(span.len).to_le_bytes());
}

/// Completes the table of a whole-disk image: a GPT's second copy goes to the end of the disk, and with `config_drive`
/// there is a partition for one, which is returned: one of that label, or else a new one at the end.
pub(super) async fn complete(
    device: &dyn BlockDevice,
    config_drive: bool,
    seed: &Seed,
) -> Result<Option<Span>> {
    let (size, block) = (device.capacity(), device.block());
    let mut canvas = Canvas::ends(device, END).await?;
    let span = match read_gpt(&mut canvas, size, block) {
        Some(gpt) => complete_gpt(device, &mut canvas, gpt, config_drive, seed).await?,
        None if config_drive => Some(complete_mbr(device, &mut canvas).await?),
        None => None,
    };
    canvas.flush_to(device, 0).await?;
    Ok(span)
}

async fn complete_gpt(
    device: &dyn BlockDevice,
    canvas: &mut Canvas,
    mut gpt: GPT,
    config_drive: bool,
    seed: &Seed,
) -> Result<Option<Span>> {
    let (size, block) = (device.capacity(), device.block());
    let broken = |error: gptman::Error| refused(format!("the image's GPT cannot be completed: {error}"));
    let unsound = || refused("the image's GPT contradicts itself");
    if gpt.header.partition_entry_lba != 2 || gpt.header.primary_lba != 1 {
        let at = gpt.header.partition_entry_lba;
        return Err(refused(format!(
            "the image's GPT has its entries at block {at}, not 2, and cannot be moved"
        )));
    }
    let first_usable = gpt.header.first_usable_lba;
    guarded(|| gpt.header.update_from(&mut *canvas, block)).ok_or_else(unsound)?.map_err(broken)?;
    gpt.header.first_usable_lba = first_usable;
    let mut span = None;
    if config_drive {
        span = labelled(device, &gpt, block).await?;
        if span.is_none() {
            let blocks = CONFIG_MIB * MIB / block;
            gpt.align = MIB / block;
            let start = guarded(|| gpt.find_last_place(blocks)).ok_or_else(unsound)?.ok_or_else(no_room)?;
            let free = gpt.iter().find(|(_, entry)| entry.is_unused()).map(|(number, _)| number);
            let number = free.ok_or_else(|| refused("all entries of the image's GPT are in use"))?;
            gpt[number] = GPTPartitionEntry {
                partition_type_guid: DATA_TYPE,
                unique_partition_guid: seed.guid(number),
                starting_lba: start,
                ending_lba: start + blocks - 1,
                attribute_bits: 0,
                partition_name: Role::ConfigDrive.name().into(),
            };
            span = Some(Span { at: start * block, len: CONFIG_MIB * MIB });
        }
    }
    guarded(|| gpt.write_into(&mut *canvas)).ok_or_else(unsound)?.map_err(broken)?;
    let Some(mut mbr) = read_mbr(canvas) else { return Ok(span) };
    let lone = mbr[446 + 4] == 0xee && mbr[446 + 16..510].iter().all(|byte| *byte == 0);
    if lone {
        let blocks = u32::try_from(size / block - 1).unwrap_or(u32::MAX);
        mbr[446 + 12..446 + 16].copy_from_slice(&blocks.to_le_bytes());
        canvas.set(0, &mbr).map_err(|error| refused(error.to_string()))?;
    }
    Ok(span)
}

async fn labelled(device: &dyn BlockDevice, gpt: &GPT, block: u64) -> Result<Option<Span>> {
    for (_, entry) in gpt.iter().filter(|(_, entry)| entry.is_used()) {
        let Some(span) = span_of(entry, block).filter(|span| span.at + span.len <= device.capacity()) else {
            continue;
        };
        let named = entry.partition_name.as_str().eq_ignore_ascii_case(Role::ConfigDrive.name());
        if named || has_config_label(device, span).await? {
            return Ok(Some(span));
        }
    }
    Ok(None)
}

async fn complete_mbr(device: &dyn BlockDevice, canvas: &mut Canvas) -> Result<Span> {
    let mbr = read_mbr(canvas);
    let mut mbr = mbr.ok_or_else(|| {
        refused("the image has no partition table to which one for the config drive could be added")
    })?;
    if is_protective(&mbr) {
        return Err(refused("protective MBR but no readable GPT: the image is made for another block size"));
    }
    if device.block() != 512 {
        let block = device.block();
        return Err(refused(format!(
            "the image has an MBR, the disk has blocks of {block} bytes: a config drive is only added with blocks of 512"
        )));
    }
    let there = mbr_entries(&mbr, 512);
    for span in there.iter().flatten() {
        let fits = span.at.checked_add(span.len).is_some_and(|end| end <= device.capacity());
        if fits && has_config_label(device, *span).await? {
            return Ok(*span);
        }
    }
    let end = device.capacity().min(u64::from(u32::MAX) * 512);
    let at = end.checked_sub(CONFIG_MIB * MIB).ok_or_else(no_room)? / MIB * MIB;
    let span = Span { at, len: CONFIG_MIB * MIB };
    // of an earlier attempt whose file system was lost
    if there.contains(&Some(span)) {
        return Ok(span);
    }
    let free = there.iter().position(Option::is_none);
    let free = free.ok_or_else(|| refused("all four primary partitions of the image's MBR are in use"))?;
    let used = there.iter().flatten().map(|span| span.at.saturating_add(span.len)).max().unwrap_or(MIB);
    if at < used.max(MIB) {
        return Err(no_room());
    }
    set_mbr_entry(&mut mbr, free, false, 0x0c, span, 512);
    canvas.set(0, &mbr).map_err(|error| refused(error.to_string()))?;
    Ok(span)
}

fn no_room() -> DriverError {
    refused("no 64 MiB are free at its end for the config drive; use a smaller image or a larger disk")
}

/// The GPT, or `None` when there is none with this block size, or one that no tool would have written: what is in an
/// image may have been made to do harm.
fn read_gpt(canvas: &mut Canvas, size: u64, block: u64) -> Option<GPT> {
    let header = canvas.get(block, 92)?;
    if header[..8] != *b"EFI PART" {
        return None;
    }
    let at32 = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let entries_lba = u64::from_le_bytes(header[72..80].try_into().expect("eight bytes"));
    let (count, bytes) = (at32(80), at32(84));
    if bytes != GPT_ENTRY_BYTES || !(1..=GPT_ENTRIES).contains(&count) {
        return None;
    }
    let (blocks, array) = (size / block, u64::from(count * bytes).div_ceil(block));
    // two arrays, two headers and the protective MBR have to fit, and this array is to end on the disk
    if blocks < 2 * array + 3 || entries_lba == 0 || entries_lba.checked_add(array)? > blocks {
        return None;
    }
    let gpt = guarded(|| GPT::read_from(&mut *canvas, block).ok())??;
    let sound = |entry: &GPTPartitionEntry| entry.starting_lba > 0 && span_of(entry, block).is_some();
    let all_sound = gpt.iter().all(|(_, entry)| entry.is_unused() || sound(entry));
    all_sound.then_some(gpt)
}

/// What gptman does with numbers that it did not expect is to panic: that is the end of this table only.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

fn span_of(entry: &GPTPartitionEntry, block: u64) -> Option<Span> {
    let blocks = entry.ending_lba.checked_sub(entry.starting_lba)?.checked_add(1)?;
    let (at, len) = (entry.starting_lba.checked_mul(block)?, blocks.checked_mul(block)?);
    at.checked_add(len)?;
    Some(Span { at, len })
}

/// The first block, if it ends as an MBR does.
fn read_mbr(canvas: &mut Canvas) -> Option<[u8; 512]> {
    let mbr: [u8; 512] = canvas.get(0, 512)?.try_into().ok()?;
    (mbr[510..] == [0x55, 0xaa]).then_some(mbr)
}

fn is_protective(mbr: &[u8; 512]) -> bool {
    (0..4).any(|n| mbr[446 + n * 16 + 4] == 0xee)
}

fn mbr_entries(mbr: &[u8; 512], block: u64) -> [Option<Span>; 4] {
    std::array::from_fn(|n| {
        let entry = &mbr[446 + n * 16..446 + (n + 1) * 16];
        let at32 =
            |at: usize| u64::from(u32::from_le_bytes(entry[at..at + 4].try_into().expect("four bytes")));
        (entry[4] != 0).then(|| Span { at: at32(8) * block, len: at32(12) * block })
    })
}

/// Whether an ISO 9660 or FAT file system of that label starts here.
async fn has_config_label(device: &dyn BlockDevice, span: Span) -> Result<bool> {
    const LOOK: usize = 36864;
    if span.len < LOOK as u64 {
        return Ok(false);
    }
    let bytes = device.read_at(span.at, LOOK).await?;
    let label = |at: usize, len: usize| String::from_utf8_lossy(&bytes[at..at + len]).trim_end().to_owned();
    let is = |text: String| text.eq_ignore_ascii_case(Role::ConfigDrive.name());
    let fat = label(54, 3) == "FAT" && is(label(43, 11));
    let fat32 = label(82, 5) == "FAT32" && is(label(71, 11));
    let iso = label(32769, 5) == "CD001" && is(label(32808, 32));
    Ok(fat || fat32 || iso)
}
