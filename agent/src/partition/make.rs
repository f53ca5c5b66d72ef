//! Making file systems and swap in the new partitions.

use std::fs::File;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::tool;
use crate::disk::Disk;
use crate::error::Failure;
use crate::table::{self, Bounded, Span};

/// Bytes of a page of the machines that run this agent.
const PAGE: u64 = 4096;

/// Bytes copied at once.
const BLOCK: usize = 1 << 20;

/// How long a file system may take to make.
const MAKE_LIMIT: Duration = Duration::from_secs(1800);

/// Swap space of version 1 with a label: what Linux's `swap_header` in its first page says.
pub(super) fn swap(disk: &Disk, span: Span, label: &str) -> Result<(), Failure> {
    let mut page = vec![0; PAGE as usize];
    let last = u32::try_from(span.len / PAGE - 1).unwrap_or(u32::MAX);
    page[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&last.to_le_bytes());
    page[1036..1052].copy_from_slice(&uuid()?);
    page[1052..1052 + label.len()].copy_from_slice(label.as_bytes());
    let end = page.len();
    page[end - 10..].copy_from_slice(b"SWAPSPACE2");
    let file = table::open(disk)?;
    // nothing of an older file system may show behind the first page
    let old = vec![0; (1 << 17).min(span.len - PAGE) as usize];
    file.write_all_at(&page, span.at)
        .and_then(|()| file.write_all_at(&old, span.at + PAGE))
        .and_then(|()| file.sync_all())
        .map_err(Failure::io(format!("making swap on {}", disk.name())))
}

/// A FAT file system, FAT32 where the partition is large enough for one: firmware need not read others on a disk.
pub(super) fn vfat(disk: &Disk, span: Span, label: &str) -> Result<(), Failure> {
    let failed = || Failure::io(format!("making a FAT file system on {}", disk.name()));
    let mut file = table::open(disk)?;
    file.write_all_at(&vec![0; (1 << 20).min(span.len) as usize], span.at).map_err(failed())?;
    let mut name = [b' '; 11];
    for (place, byte) in name.iter_mut().zip(label.bytes()) {
        *place = byte;
    }
    let serial: [u8; 16] = super::random()?;
    let sector = u16::try_from(disk.block).unwrap_or(512);
    let mut options = fatfs::FormatVolumeOptions::new()
        .bytes_per_sector(sector)
        .volume_id(u32::from_le_bytes([serial[0], serial[1], serial[2], serial[3]]))
        .volume_label(name);
    // FAT32 begins at 65 525 clusters; sectors as clusters up to 256 MiB, then what the library takes
    if span.len <= 256 << 20 && span.len / disk.block > 70_000 {
        options = options.fat_type(fatfs::FatType::Fat32).bytes_per_cluster(u32::from(sector));
    }
    let mut slice =
        Slice { inner: Bounded { file: &mut file, size: span.at + span.len, at: span.at }, from: span.at };
    fatfs::format_volume(&mut slice, options).map_err(failed())?;
    file.sync_all().map_err(failed())
}

/// Refuses a file system that cannot be made here. To be asked before anything is written.
pub(super) fn check_kind(kind: &str) -> Result<(), Failure> {
    match kind {
        "vfat" | "fat" => Ok(()),
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" => {
            let name = format!("mkfs.{kind}");
            tool::find(&name).map(|_| ()).ok_or_else(|| {
                Failure::Unsupported(format!("ephemeral_format {kind}: this ramdisk has no {name}"))
            })
        }
        _ => Err(Failure::Parameters(format!(
            "ephemeral_format {kind}: known are ext4, ext3, ext2, xfs, btrfs, vfat"
        ))),
    }
}

/// A file system by the ramdisk's `mkfs.<kind>`: on the partition's device, `device`; where the disk is a plain file,
/// in a sparse file of the partition's size, copied into its place afterwards.
pub(super) fn file_system(
    disk: &Disk,
    span: Span,
    device: &Path,
    kind: &str,
    label: &str,
) -> Result<(), Failure> {
    check_kind(kind)?;
    if kind == "vfat" || kind == "fat" {
        return vfat(disk, span, label);
    }
    let is_device = std::fs::metadata(&disk.path).is_ok_and(|meta| meta.file_type().is_block_device());
    let copy = if is_device { None } else { Some(Sparse::new(disk, span)?) };
    let target = copy.as_ref().map_or(device, |copy| &copy.path);
    let name = format!("mkfs.{kind}");
    let program =
        tool::find(&name).ok_or_else(|| Failure::Unsupported(format!("this ramdisk has no {name}")))?;
    let mut command = Command::from(program);
    match kind {
        "xfs" | "btrfs" => command.args(["-q", "-f", "-L", label]),
        _ => command.args(["-q", "-F", "-L", label]),
    };
    command.arg(target);
    tool::run(command, &name, MAKE_LIMIT)?;
    match copy {
        Some(copy) => copy.put(disk, span),
        None => Ok(()),
    }
}

/// A temporary file as large as a partition.
struct Sparse {
    path: PathBuf,
}

impl Sparse {
    fn new(disk: &Disk, span: Span) -> Result<Self, Failure> {
        let name = format!("{}.part{}", disk.path.display(), span.at);
        let file = File::create(&name).and_then(|file| file.set_len(span.len));
        let copy = Self { path: name.into() };
        file.map_err(Failure::io("making a temporary file"))?;
        Ok(copy)
    }

    fn put(&self, disk: &Disk, span: Span) -> Result<(), Failure> {
        let failed = || Failure::io(format!("writing to {}", disk.name()));
        let (from, to) = (File::open(&self.path).map_err(failed())?, table::open(disk)?);
        let mut block = vec![0; BLOCK];
        let mut at = 0;
        while at < span.len {
            let len = (span.len - at).min(BLOCK as u64) as usize;
            from.read_exact_at(&mut block[..len], at).map_err(failed())?;
            to.write_all_at(&block[..len], span.at + at).map_err(failed())?;
            at += len as u64;
        }
        to.sync_all().map_err(failed())
    }
}

impl Drop for Sparse {
    fn drop(&mut self) {
        // a leftover is in nobody's way
        let _ = std::fs::remove_file(&self.path);
    }
}

fn uuid() -> Result<[u8; 16], Failure> {
    let mut raw: [u8; 16] = super::random()?;
    raw[6] = raw[6] & 0x0f | 0x40;
    raw[8] = raw[8] & 0x3f | 0x80;
    Ok(raw)
}

/// A part of the disk that begins at 0.
struct Slice<'a> {
    inner: Bounded<'a>,
    from: u64,
}

impl std::io::Read for Slice<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(bytes)
    }
}

impl std::io::Write for Slice<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = self.inner.size.saturating_sub(self.inner.at).min(bytes.len() as u64) as usize;
        self.inner.write(&bytes[..room])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl std::io::Seek for Slice<'_> {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        use std::io::SeekFrom;
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(self.from + at),
            SeekFrom::End(by) => SeekFrom::End(by),
            SeekFrom::Current(by) => SeekFrom::Current(by),
        };
        self.inner.seek(to).map(|at| at - self.from)
    }
}
