//! File systems and swap on the remote disk, without any right on this host: FAT and swap are written directly, ext4 is
//! made by mke2fs in a sparse file of which only what it wrote is sent.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::canvas::Canvas;
use super::device::BlockDevice;
use super::layout::{MIB, Span};
use super::seed::Seed;
use super::source::{ImageFile, Piece};
use crate::boot::folder::io_error;
use crate::error::DriverError;
use crate::interface::Result;

/// Bytes of a page of the machines that are deployed.
const PAGE: u64 = 4096;

/// How long mke2fs may take.
const MAKE_LIMIT: Duration = Duration::from_secs(600);

/// Where Debian keeps programs for administrators, beside PATH.
const SBIN: &[&str] = &["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Swap space of version 1 with a label: what Linux's `swap_header` in its first page says.
pub(super) async fn swap(device: &dyn BlockDevice, span: Span, label: &str, seed: &Seed) -> Result<()> {
    let mut page = vec![0; PAGE as usize];
    let last = u32::try_from(span.len / PAGE - 1).unwrap_or(u32::MAX);
    page[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&last.to_le_bytes());
    page[1036..1052].copy_from_slice(seed.uuid(1).as_bytes());
    page[1052..1052 + label.len()].copy_from_slice(label.as_bytes());
    let end = page.len();
    page[end - 10..].copy_from_slice(b"SWAPSPACE2");
    // nothing of an older file system may show behind the first page
    device.zero(span.at + PAGE, (1 << 17).min(span.len - PAGE)).await?;
    device.write_at(span.at, Bytes::from(page)).await
}

/// A FAT file system, FAT32 where the partition is large enough for one: firmware need not read others on a disk.
pub(super) async fn vfat(device: &dyn BlockDevice, span: Span, label: &str, seed: &Seed) -> Result<()> {
    let mut name = [b' '; 11];
    for (place, byte) in name.iter_mut().zip(label.bytes()) {
        *place = byte;
    }
    let block = device.block();
    let sector = u16::try_from(block).unwrap_or(512);
    let mut options = fatfs::FormatVolumeOptions::new()
        .bytes_per_sector(sector)
        .volume_id(seed.number(1))
        .volume_label(name);
    // FAT32 begins at 65 525 clusters; sectors as clusters up to 256 MiB, then what the library takes
    if span.len <= 256 * MIB && span.len / block > 70_000 {
        options = options.fat_type(fatfs::FatType::Fat32).bytes_per_cluster(u32::from(sector));
    }
    let mut canvas = Canvas::blank(span.len);
    fatfs::format_volume(&mut canvas, options).map_err(|error| DriverError::Refused {
        what: "the machine's disk".into(),
        command: format!("a FAT file system of {} MiB", span.len / MIB),
        reason: error.to_string(),
    })?;
    device.zero(span.at, MIB.min(span.len)).await?;
    canvas.flush_to(device, span.at).await
}

/// Refuses a file system that cannot be made here. To be asked before anything is written.
pub(super) fn check_kind(kind: &str) -> Result<()> {
    let invalid = |reason: String| {
        Err(DriverError::Invalid { section: "instance_info", key: "ephemeral_format".into(), reason })
    };
    match kind {
        "vfat" | "fat" => Ok(()),
        "ext2" | "ext3" | "ext4" if mke2fs().is_some() => Ok(()),
        "ext2" | "ext3" | "ext4" => {
            invalid(format!("{kind} needs mke2fs on the conductor's host: apt-get install e2fsprogs"))
        }
        other => invalid(format!("'{other}' cannot be made over iSCSI; use ext4, ext3, ext2 or vfat")),
    }
}

fn mke2fs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SBIN.iter().map(PathBuf::from));
    folders.map(|folder| folder.join("mke2fs")).find(|program| program.is_file())
}

/// A file system of one of the kinds of [`check_kind`]. `scratch` is a file that may be made meanwhile.
pub(super) async fn file_system(
    device: &dyn BlockDevice,
    span: Span,
    kind: &str,
    label: &str,
    seed: &Seed,
    scratch: PathBuf,
) -> Result<()> {
    check_kind(kind)?;
    if matches!(kind, "vfat" | "fat") {
        return vfat(device, span, label, seed).await;
    }
    let scratch = Scratch(scratch);
    let made = std::fs::File::create(&scratch.0).and_then(|file| file.set_len(span.len));
    made.map_err(|error| io_error(&scratch.0, &error))?;
    run_mke2fs(&scratch, kind, label, seed).await?;
    // what it did not write may stay as it is: that is how mke2fs treats a disk, too
    let image = Arc::new(ImageFile::open_aside(scratch.0.clone(), Some("raw".into())).await?);
    let mut pieces = image.written();
    device.zero(span.at, MIB.min(span.len)).await?;
    while let Some(piece) = pieces.recv().await {
        match piece? {
            Piece::Data { at, bytes } => device.write_at(span.at + at, bytes).await?,
            Piece::Hole { at, len } => device.zero(span.at + at, len).await?,
        }
    }
    Ok(())
}

async fn run_mke2fs(scratch: &Scratch, kind: &str, label: &str, seed: &Seed) -> Result<()> {
    let failed = |reason: String| DriverError::Refused {
        what: "this host".into(),
        command: format!("mke2fs -t {kind}"),
        reason,
    };
    let program = mke2fs().ok_or_else(|| failed("it is not installed".into()))?;
    let child = tokio::process::Command::new(program)
        .args(["-q", "-F", "-t", kind, "-L", label, "-U", &seed.uuid(2).to_string()])
        // nothing is known to be zeros on the machine's disk, and nothing is to be left to a later discard
        .args(["-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=0"])
        .arg(&scratch.0)
        // zeros are written, so that they can be told from what was left alone
        .env("UNIX_IO_NOZEROOUT", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let ended = tokio::time::timeout(MAKE_LIMIT, child.wait_with_output()).await;
    let output = ended
        .map_err(|_| failed(format!("did not end within {} s", MAKE_LIMIT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.trim().chars().filter(|c| !c.is_control()).take(300).collect()))
}

/// A file that goes away with its user.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // a leftover is in nobody's way
        let _ = std::fs::remove_file(&self.0);
    }
}
