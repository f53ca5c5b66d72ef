//! Partition tables: the GPT's second copy, a place for the config drive, the disk's identifier.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt};

use gptman::{GPT, GPTPartitionEntry};

use crate::disk::Disk;
use crate::error::Failure;

/// The label of a config drive: deploy.md §B.8.
pub const CONFIG_LABEL: &str = "config-2";

/// Bytes of a config drive partition.
pub const CONFIG_BYTES: u64 = 64 << 20;

/// EFI system partition, as stored on disk.
pub const ESP_TYPE: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];

/// Microsoft basic data, what a FAT or ISO file system lives in.
pub(crate) const DATA_TYPE: [u8; 16] =
    [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7];

const MIB: u64 = 1 << 20;

/// A stretch of the disk, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub at: u64,
    /// Bytes.
    pub len: u64,
}

/// Opens the disk for reading and writing.
pub fn open(disk: &Disk) -> Result<File, Failure> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(&disk.path)
        .map_err(Failure::io(format!("cannot open {}", disk.path.display())))
}

/// The most entries that a GPT may have here; 128 are usual.
const GPT_ENTRIES: u32 = 1024;

/// Bytes of a GPT's entry, the only size there is in practice.
const GPT_ENTRY_BYTES: u32 = 128;

/// The GPT of the disk, or None when there is none with this block size, or one that no tool would have written: what is
/// on the disk may have been made to do harm.
pub fn read_gpt(file: &mut File, disk: &Disk) -> Option<GPT> {
    let last = (disk.size / disk.block).checked_sub(1)?;
    if claims_nonsense(file, disk, 1) {
        return None;
    }
    // the second copy is only looked for at the end of the disk, and a disk of no size has none
    let size = if claims_nonsense(file, disk, last) { 0 } else { disk.size };
    let mut bounded = Bounded { file, size, at: 0 };
    let gpt = guarded(|| GPT::read_from(&mut bounded, disk.block).ok())??;
    let sound = |entry: &GPTPartitionEntry| entry.starting_lba > 0 && span_of(entry, disk.block).is_some();
    let all_sound = gpt.iter().all(|(_, entry)| entry.is_unused() || sound(entry));
    all_sound.then_some(gpt)
}

/// Whether there is a GPT header in this block with numbers that are out of any proportion (UEFI 2.10 §5.3.2).
fn claims_nonsense(file: &File, disk: &Disk, lba: u64) -> bool {
    let mut header = [0; 92];
    let read = lba.checked_mul(disk.block).map(|at| file.read_exact_at(&mut header, at));
    if !matches!(read, Some(Ok(()))) || header[..8] != *b"EFI PART" {
        return false;
    }
    let at32 = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let entries_lba = u64::from_le_bytes(header[72..80].try_into().expect("eight bytes"));
    let (count, bytes) = (at32(80), at32(84));
    if bytes != GPT_ENTRY_BYTES || !(1..=GPT_ENTRIES).contains(&count) {
        return true;
    }
    let (blocks, array) = (disk.size / disk.block, u64::from(count * bytes).div_ceil(disk.block));
    // two arrays, two headers and the protective MBR have to fit, and this array is to end on the disk
    blocks < 2 * array + 3
        || entries_lba == 0
        || entries_lba.checked_add(array).is_none_or(|end| end > blocks)
}

/// What gptman does with numbers that it did not expect is to panic: that is the end of this table only.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

/// Where an entry lies; None when it ends before it starts, or beyond all numbers.
pub(crate) fn span_of(entry: &GPTPartitionEntry, block: u64) -> Option<Span> {
    let blocks = entry.ending_lba.checked_sub(entry.starting_lba)?.checked_add(1)?;
    let (at, len) = (entry.starting_lba.checked_mul(block)?, blocks.checked_mul(block)?);
    at.checked_add(len)?;
    Some(Span { at, len })
}

/// Moves the GPT's second copy to the end of the disk and lets the usable part reach up to there. True when there is
/// a GPT. Errors: `Boot` for a GPT that cannot be moved, I/O.
pub fn relocate_backup(disk: &Disk) -> Result<bool, Failure> {
    let mut file = open(disk)?;
    let Some(mut gpt) = read_gpt(&mut file, disk) else { return Ok(false) };
    write_gpt(&mut file, disk, &mut gpt)?;
    Ok(true)
}

fn write_gpt(file: &mut File, disk: &Disk, gpt: &mut GPT) -> Result<(), Failure> {
    if gpt.header.partition_entry_lba != 2 || gpt.header.primary_lba != 1 {
        let entries = gpt.header.partition_entry_lba;
        return Err(Failure::Boot(format!(
            "the GPT's partition entries start at block {entries}, not 2: not moved"
        )));
    }
    let first_usable = gpt.header.first_usable_lba;
    let mut bounded = Bounded { file, size: disk.size, at: 0 };
    let broken =
        |error: gptman::Error| Failure::Boot(format!("the image's GPT cannot be completed: {error}"));
    let written = guarded(|| {
        gpt.header.update_from(&mut bounded, disk.block)?;
        gpt.header.first_usable_lba = first_usable;
        gpt.write_into(&mut bounded)
    });
    written.ok_or_else(unsound)?.map_err(broken)?;
    widen_protective_mbr(file, disk)?;
    file.sync_all().map_err(Failure::io("flushing the partition table"))
}

fn unsound() -> Failure {
    Failure::Boot("the image's GPT contradicts itself".to_owned())
}

/// A lone protective entry is to span the whole disk.
fn widen_protective_mbr(file: &File, disk: &Disk) -> Result<(), Failure> {
    let mut mbr = read_mbr(file)?;
    let lone = mbr[446 + 4] == 0xee && mbr[446 + 16..510].iter().all(|&byte| byte == 0);
    if is_mbr(&mbr) && lone {
        let blocks = u32::try_from(disk.size / disk.block - 1).unwrap_or(u32::MAX);
        mbr[446 + 12..446 + 16].copy_from_slice(&blocks.to_le_bytes());
        file.write_all_at(&mbr, 0).map_err(Failure::io("writing the protective MBR"))?;
    }
    Ok(())
}

/// The place for a config drive: a partition of that label, or else a new one at the end of the disk.
/// Errors: `ConfigDrive` when there is no room or no table.
pub fn config_span(disk: &Disk) -> Result<Span, Failure> {
    let mut file = open(disk)?;
    if let Some(mut gpt) = read_gpt(&mut file, disk) {
        if let Some(span) = labelled_gpt(&file, &gpt, disk) {
            return Ok(span);
        }
        return add_gpt(&mut file, disk, &mut gpt);
    }
    let mut mbr = read_mbr(&file)?;
    if !is_mbr(&mbr) {
        return Err(Failure::ConfigDrive(
            "the image has no partition table to add a partition to".to_owned(),
        ));
    }
    if is_protective(&mbr) {
        return Err(Failure::ConfigDrive(
            "protective MBR but no readable GPT: the image is made for another block size".to_owned(),
        ));
    }
    if disk.block != 512 {
        let block = disk.block;
        return Err(Failure::ConfigDrive(format!(
            "the image has an MBR, the disk has blocks of {block} bytes: a partition is only added with blocks of 512"
        )));
    }
    let entries = mbr_entries(&mbr, disk.block);
    if let Some(span) = entries.iter().flatten().find(|span| has_config_label(&file, **span)) {
        return Ok(*span);
    }
    add_mbr(&file, disk, &mut mbr, &entries)
}

fn labelled_gpt(file: &File, gpt: &GPT, disk: &Disk) -> Option<Span> {
    gpt.iter().filter(|(_, entry)| entry.is_used()).find_map(|(_, entry)| {
        let span = span_of(entry, disk.block)?;
        let named = entry.partition_name.as_str().eq_ignore_ascii_case(CONFIG_LABEL);
        (named || has_config_label(file, span)).then_some(span)
    })
}

fn add_gpt(file: &mut File, disk: &Disk, gpt: &mut GPT) -> Result<Span, Failure> {
    let blocks = CONFIG_BYTES / disk.block;
    gpt.align = MIB / disk.block;
    let mut bounded = Bounded { file, size: disk.size, at: 0 };
    let first_usable = gpt.header.first_usable_lba;
    gpt.header
        .update_from(&mut bounded, disk.block)
        .map_err(|e| Failure::ConfigDrive(format!("the GPT cannot be read: {e}")))?;
    gpt.header.first_usable_lba = first_usable;
    let start = guarded(|| gpt.find_last_place(blocks)).ok_or_else(unsound)?.ok_or_else(no_room)?;
    let (number, _) = gpt
        .iter()
        .find(|(_, entry)| entry.is_unused())
        .ok_or_else(|| Failure::ConfigDrive("all entries of the GPT are in use".to_owned()))?;
    let mut guid = [0; 16];
    getrandom::fill(&mut guid).map_err(|e| Failure::ConfigDrive(format!("no random numbers: {e}")))?;
    gpt[number] = GPTPartitionEntry {
        partition_type_guid: DATA_TYPE,
        unique_partition_guid: guid,
        starting_lba: start,
        ending_lba: start + blocks - 1,
        attribute_bits: 0,
        partition_name: CONFIG_LABEL.into(),
    };
    write_gpt(file, disk, gpt)?;
    Ok(Span { at: start * disk.block, len: CONFIG_BYTES })
}

fn no_room() -> Failure {
    Failure::ConfigDrive("no 64 MiB are free at the end of the disk".to_owned())
}

fn add_mbr(
    file: &File,
    disk: &Disk,
    mbr: &mut [u8; 512],
    entries: &[Option<Span>; 4],
) -> Result<Span, Failure> {
    let free = entries.iter().position(Option::is_none).ok_or_else(|| {
        Failure::ConfigDrive("all four primary partitions of the MBR are in use".to_owned())
    })?;
    // an MBR counts 512-byte blocks in 32 bits
    let end = disk.size.min(u64::from(u32::MAX) * 512);
    let at = end.checked_sub(CONFIG_BYTES).ok_or_else(no_room)? / MIB * MIB;
    let used = entries.iter().flatten().map(|span| span.at + span.len).max().unwrap_or(MIB);
    if at < used.max(MIB) {
        return Err(no_room());
    }
    let entry = &mut mbr[446 + free * 16..446 + (free + 1) * 16];
    entry.fill(0);
    let (first, last) = ([0xfe, 0xff, 0xff], [0xfe, 0xff, 0xff]);
    entry[1..4].copy_from_slice(&first);
    entry[4] = 0x0c;
    entry[5..8].copy_from_slice(&last);
    entry[8..12].copy_from_slice(&((at / 512) as u32).to_le_bytes());
    entry[12..16].copy_from_slice(&((CONFIG_BYTES / 512) as u32).to_le_bytes());
    file.write_all_at(mbr, 0)
        .and_then(|()| file.sync_all())
        .map_err(Failure::io("writing the partition table"))?;
    Ok(Span { at, len: CONFIG_BYTES })
}

/// The EFI system partition: its number, GUID and span. None without GPT or ESP.
pub fn find_esp(disk: &Disk) -> Result<Option<(u32, [u8; 16], Span)>, Failure> {
    let mut file = open(disk)?;
    let Some(gpt) = read_gpt(&mut file, disk) else { return Ok(None) };
    let esp = gpt.iter().find(|(_, entry)| entry.partition_type_guid == ESP_TYPE);
    Ok(esp.and_then(|(number, entry)| {
        let span = span_of(entry, disk.block)?;
        Some((number, entry.unique_partition_guid, span))
    }))
}

/// The 32-bit identifier at byte 440 as `0x%08x`.
pub fn identifier(disk: &Disk) -> Result<String, Failure> {
    let mbr = read_mbr(&open(disk)?)?;
    Ok(format!("0x{:08x}", u32::from_le_bytes(mbr[440..444].try_into().expect("four bytes"))))
}

/// Zeros over a small stretch, flushed.
pub(crate) fn zero(disk: &Disk, span: Span) -> Result<(), Failure> {
    let file = open(disk)?;
    let zeros = vec![0; MIB as usize];
    let mut at = span.at;
    while at < span.at + span.len {
        let len = (span.at + span.len - at).min(MIB);
        file.write_all_at(&zeros[..len as usize], at)
            .map_err(Failure::io(format!("zeroing {}", disk.name())))?;
        at += len;
    }
    file.sync_all().map_err(Failure::io(format!("zeroing {}", disk.name())))
}

/// Lets the kernel read the table again. A file is no block device, a busy disk is read at the next boot anyway.
pub fn tell_kernel(disk: &Disk) -> Result<(), Failure> {
    let mut file = open(disk)?;
    let is_device = file.metadata().is_ok_and(|meta| meta.file_type().is_block_device());
    if is_device && let Err(error) = gptman::linux::reread_partition_table(&mut file) {
        tracing::warn!(%error, disk = disk.name(), "the kernel keeps its old partition table");
    }
    Ok(())
}

pub(crate) fn read_mbr(file: &File) -> Result<[u8; 512], Failure> {
    let mut mbr = [0; 512];
    file.read_exact_at(&mut mbr, 0).map_err(Failure::io("reading the partition table"))?;
    Ok(mbr)
}

pub(crate) fn is_mbr(mbr: &[u8; 512]) -> bool {
    mbr[510..] == [0x55, 0xaa]
}

/// Whether the MBR only says that there is a GPT.
pub(crate) fn is_protective(mbr: &[u8; 512]) -> bool {
    (0..4).any(|n| mbr[446 + n * 16 + 4] == 0xee)
}

/// The primary partitions; `block` is the unit the table counts in, bytes.
pub(crate) fn mbr_entries(mbr: &[u8; 512], block: u64) -> [Option<Span>; 4] {
    std::array::from_fn(|n| {
        let entry = &mbr[446 + n * 16..446 + (n + 1) * 16];
        let at32 =
            |at: usize| u64::from(u32::from_le_bytes(entry[at..at + 4].try_into().expect("four bytes")));
        (entry[4] != 0).then(|| Span { at: at32(8) * block, len: at32(12) * block })
    })
}

/// Whether an ISO 9660 or FAT file system of that label starts here.
fn has_config_label(file: &File, span: Span) -> bool {
    let label = |at: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, span.at.checked_add(at)?).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    let is = |text: Option<String>| text.is_some_and(|text| text.eq_ignore_ascii_case(CONFIG_LABEL));
    let fat = label(54, 3).as_deref() == Some("FAT") && is(label(43, 11));
    let fat32 = label(82, 5).as_deref() == Some("FAT32") && is(label(71, 11));
    let iso = label(32769, 5).as_deref() == Some("CD001") && is(label(32808, 32));
    fat || fat32 || iso
}

/// A disk whose end is where sysfs says it is, also where the device file is longer.
pub(crate) struct Bounded<'a> {
    pub(crate) file: &'a mut File,
    pub(crate) size: u64,
    pub(crate) at: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read_at(bytes, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write_at(bytes, self.at)?;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Bounded<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with a good table of one partition.
    fn bed() -> (tempfile::TempDir, Disk) {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("vda");
        File::create(&path).and_then(|file| file.set_len(64 << 20)).expect("disk");
        let made = std::process::Command::new("sgdisk").args(["-n", "1:2048:+8M"]).arg(&path).output();
        assert!(made.expect("sgdisk").status.success());
        (folder, Disk { kernel_name: "vda".into(), path, size: 64 << 20, block: 512, ..Disk::default() })
    }

    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |sum, byte| {
            (0..8)
                .fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
        })
    }

    /// Changes the header and the first entry in both copies and makes every sum right again.
    fn forge(disk: &Disk, change: impl Fn(&mut [u8], &mut [u8])) {
        let file = open(disk).expect("disk");
        for lba in [1, disk.size / 512 - 1] {
            let (mut header, mut entries) = ([0; 92], vec![0; 128 * 128]);
            file.read_exact_at(&mut header, lba * 512).expect("header");
            let at = u64::from_le_bytes(header[72..80].try_into().expect("eight")) * 512;
            file.read_exact_at(&mut entries, at).expect("entries");
            change(&mut header, &mut entries);
            header[88..92].copy_from_slice(&crc(&entries).to_le_bytes());
            header[16..20].fill(0);
            let sum = crc(&header);
            header[16..20].copy_from_slice(&sum.to_le_bytes());
            file.write_all_at(&header, lba * 512).expect("written");
            file.write_all_at(&entries, at).expect("written");
        }
    }

    #[test]
    fn a_gpt_made_to_do_harm_is_no_gpt_and_nothing_panics() {
        type Change = fn(&mut [u8], &mut [u8]);
        let changes: [(&str, Change); 8] = [
            ("endless entries", |header, _| header[80..84].fill(0xff)),
            ("no entries", |header, _| header[80..84].fill(0)),
            ("odd entries", |header, _| header[84..88].copy_from_slice(&256_u32.to_le_bytes())),
            ("entries beyond the disk", |header, _| header[72..80].fill(0xff)),
            ("starts at 0", |_, entries| entries[32..40].fill(0)),
            ("ends before it starts", |_, entries| entries[40..48].copy_from_slice(&1_u64.to_le_bytes())),
            ("ends beyond all numbers", |_, entries| entries[40..48].fill(0xff)),
            ("starts and ends there", |_, entries| entries[32..48].fill(0xff)),
        ];
        let (_folder, disk) = bed();
        forge(&disk, |_, _| {});
        assert!(read_gpt(&mut open(&disk).expect("disk"), &disk).is_some(), "the forger can do it right");
        assert!(relocate_backup(&disk).expect("moved"));
        for (what, change) in changes {
            let (_folder, disk) = bed();
            forge(&disk, change);
            assert!(read_gpt(&mut open(&disk).expect("disk"), &disk).is_none(), "{what}");
            assert!(!relocate_backup(&disk).expect("nothing to move"), "{what}");
            assert!(config_span(&disk).is_err(), "{what}");
            assert!(crate::partition::label::read(&disk).expect("read").is_empty(), "{what}");
        }
    }

    #[test]
    fn a_usable_part_that_contradicts_itself_is_an_error_and_no_panic() {
        let (_folder, disk) = bed();
        forge(&disk, |header, _| header[40..48].fill(0xff));
        assert!(config_span(&disk).is_err());
    }
}
