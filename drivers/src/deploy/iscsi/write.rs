//! Everything that the conductor writes onto the disk of one machine, from the partition table to the config drive, in
//! an order that can be taken up again after a crash.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::device::BlockDevice;
use super::drive::ConfigDrive;
use super::format;
use super::layout::{Layout, MIB, Role, Span, Wanted};
use super::probe;
use super::pump::{Place, pump};
use super::seed::Seed;
use super::source::ImageFile;
use super::table;
use crate::error::DriverError;
use crate::interface::{Asks, Progress, Progressed, Result};

/// What is to be on the disk in the end.
pub(super) struct Job {
    /// The image.
    pub(super) image: Arc<ImageFile>,
    /// The partitions of a partition image; `None` for a whole disk.
    pub(super) wanted: Option<Wanted>,
    /// The config drive, unpacked as it is written.
    pub(super) drive: Option<ConfigDrive>,
    /// A file that may be made and goes away again.
    pub(super) scratch: PathBuf,
}

/// By what the disk and its partitions are found afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// UUID of the root file system, of partition images of known kinds.
    pub(super) root_uuid: Option<String>,
    /// UUID of the file system of the EFI system partition.
    pub(super) esp_uuid: Option<String>,
    /// The identifier in the MBR, of whole-disk images.
    pub(super) disk_id: Option<String>,
}

/// How far the write is, as it is kept in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    /// [`ImageFile::identity`].
    image: String,
    /// A digest of the layout and of the disk's size.
    layout: String,
    seed: Seed,
    /// Bytes of the image that are on the disk; `None` until partitions and file systems are made.
    at: Option<u64>,
}

/// Writes it all. `checkpoint` is what an earlier run of the same step left: it is gone on from only if image, layout
/// and disk are the same; otherwise everything is written anew.
pub(super) async fn write(
    device: &dyn BlockDevice,
    job: &Job,
    checkpoint: Option<&str>,
    asks: &dyn Asks,
) -> Result<Written> {
    let capacity = device.capacity();
    let layout = match &job.wanted {
        Some(wanted) => {
            if wanted.ephemeral_mib > 0 && !wanted.preserve_ephemeral {
                format::check_kind(&wanted.ephemeral_format)?;
            }
            Some(Layout::plan(capacity, device.block(), wanted)?)
        }
        None => None,
    };
    let root = layout.as_ref().map_or(Span { at: 0, len: capacity }, Layout::root);
    if job.image.size > root.len {
        let what = if layout.is_some() { "root partition" } else { "disk" };
        return Err(DriverError::Image {
            image: "of the instance".into(),
            reason: format!(
                "has {} MiB inside, the machine's {what} has {} MiB; use a smaller image{}",
                job.image.size.div_ceil(MIB),
                root.len / MIB,
                if layout.is_some() { " or a larger root_gb" } else { " or another disk (root_device)" },
            ),
        });
    }
    let mut state = match known(checkpoint, job, layout.as_ref(), device) {
        Some(state) => state,
        None => Checkpoint {
            image: job.image.identity.clone(),
            layout: digest(layout.as_ref(), device),
            seed: Seed::random()?,
            at: None,
        },
    };
    let total = job.image.size;
    if state.at.is_none() {
        // the seed is kept before it is used: what is made twice is made the same
        tell(asks, "partitioning", 0, total, &state).await?;
        match (&layout, &job.wanted) {
            (Some(layout), Some(wanted)) => prepare(device, job, layout, wanted, &state.seed).await?,
            (Some(_), None) | (None, Some(_) | None) => clear_end(device, total).await?,
        }
        device.sync().await?;
        state.at = Some(0);
        tell(asks, "writing image", 0, total, &state).await?;
    }
    let from = state.at.unwrap_or(0).min(total);
    let place = Place { base: root.at, room: root.len, from };
    let durable = |at: u64| {
        let state = Checkpoint { at: Some(at), ..state.clone() };
        async move { tell(asks, "writing image", at, total, &state).await }
    };
    let end = pump(device, job.image.pieces(from), place, durable).await?;
    if end != total {
        return Err(DriverError::Image {
            image: "of the instance".into(),
            reason: format!("ended after {end} of {total} bytes"),
        });
    }
    state.at = Some(total);
    tell(asks, "finishing", total, total, &state).await?;
    let mut written = Written::default();
    match &layout {
        Some(layout) => {
            written.root_uuid = probe::file_system_uuid(device, root).await?;
            if let Some(esp) = layout.find(Role::Esp) {
                written.esp_uuid = probe::file_system_uuid(device, esp.span).await?;
            }
        }
        None => {
            let span = table::complete(device, job.drive.is_some(), &state.seed).await?;
            if let (Some(span), Some(drive)) = (span, &job.drive) {
                put_drive(device, span, drive).await?;
            }
            written.disk_id = Some(probe::disk_identifier(device).await?);
            written.esp_uuid = probe::esp_uuid(device).await?;
        }
    }
    device.sync().await?;
    Ok(written)
}

fn known(
    checkpoint: Option<&str>,
    job: &Job,
    layout: Option<&Layout>,
    device: &dyn BlockDevice,
) -> Option<Checkpoint> {
    let state: Checkpoint = serde_json::from_str(checkpoint?).ok()?;
    let same = state.image == job.image.identity && state.layout == digest(layout, device);
    if !same {
        tracing::warn!("the image or the disk has changed since the write began: it begins anew");
    }
    same.then_some(state)
}

fn digest(layout: Option<&Layout>, device: &dyn BlockDevice) -> String {
    let layout = serde_json::to_string(&layout).expect("plain data");
    let text = format!("{layout}\n{}\n{}", device.capacity(), device.block());
    Sha256::digest(text.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn tell(asks: &dyn Asks, doing: &str, done: u64, total: u64, state: &Checkpoint) -> Result<()> {
    let progress = Progress { doing: doing.to_owned(), bytes_done: Some(done), bytes_total: Some(total) };
    let checkpoint = Some(serde_json::to_string(state).expect("plain data"));
    asks.report(Progressed { progress, checkpoint }).await
}

/// The partition table, and everything in it but the image.
async fn prepare(
    device: &dyn BlockDevice,
    job: &Job,
    layout: &Layout,
    wanted: &Wanted,
    seed: &Seed,
) -> Result<()> {
    table::write(device, layout, wanted.preserve_ephemeral, seed).await?;
    for part in &layout.parts {
        match part.role {
            Role::Esp => format::vfat(device, part.span, "efi-part", seed).await?,
            Role::BiosBoot => device.zero(part.span.at, part.span.len).await?,
            Role::Ephemeral if wanted.preserve_ephemeral => {}
            Role::Ephemeral => {
                let kind = &wanted.ephemeral_format;
                let scratch = job.scratch.clone();
                format::file_system(device, part.span, kind, "ephemeral0", seed, scratch).await?;
            }
            Role::Swap => format::swap(device, part.span, "swap1", seed).await?,
            Role::ConfigDrive => {
                if let Some(drive) = &job.drive {
                    put_drive(device, part.span, drive).await?;
                }
            }
            Role::Root => {}
        }
    }
    Ok(())
}

/// The second copy of an older GPT, or the metadata of an older RAID, would outlive a smaller image at the disk's end.
async fn clear_end(device: &dyn BlockDevice, image: u64) -> Result<()> {
    let block = device.block();
    let image = image.next_multiple_of(block);
    let from = (device.capacity().saturating_sub(MIB) / block * block).max(image);
    if from < device.capacity() { device.zero(from, device.capacity() - from).await } else { Ok(()) }
}

async fn put_drive(device: &dyn BlockDevice, span: Span, drive: &ConfigDrive) -> Result<()> {
    let pieces: mpsc::Receiver<_> = drive.pieces();
    let place = Place { base: span.at, room: span.len, from: 0 };
    let put = pump(device, pieces, place, |_| async { Ok(()) }).await;
    let Err(DriverError::Image { reason, .. }) = put else { return put.map(|_| ()) };
    Err(DriverError::Invalid {
        section: "instance_info",
        key: "configdrive".into(),
        reason: format!("it is no gzipped image in base64 that fits {} MiB: {reason}", span.len / MIB),
    })
}
