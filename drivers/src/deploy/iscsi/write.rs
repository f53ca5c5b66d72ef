//! Everything that the conductor writes onto the disk of one machine, from the partition table to the config drive, in
//! an order that can be taken up again after a crash.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::device::{BlockDevice, Synced};
use super::drive::ConfigDrive;
use super::format;
use super::layout::{Layout, MIB, Role, Span, Wanted};
use super::probe;
use super::pump::{Place, Pumped, pump};
use super::seed::Seed;
use super::source::{ImageFile, Piece};
use super::table;
use crate::error::DriverError;
use crate::interface::{Asks, Progress, Progressed, Result};

/// So often in a row may a target lose what it had not yet kept.
const LOSSES: u32 = 8;

/// Places of the image that are compared with the disk before a write goes on.
const LOOKS: u64 = 16;

/// Bytes that are compared of a hole.
const HOLE_LOOK: u64 = 64 << 10;

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
    let state = match known(checkpoint, job, layout.as_ref(), device) {
        // disks of one make may all give the same serial number, or none
        Some(state) if holds(device, job, root.at, state.at).await? => Some(state),
        Some(_) => {
            tracing::warn!("the disk does not hold what was written to it: the write begins anew");
            None
        }
        None => None,
    };
    let mut state = match state {
        Some(state) => state,
        None => Checkpoint {
            image: job.image.identity.clone(),
            layout: digest(layout.as_ref(), device),
            seed: Seed::random()?,
            at: None,
        },
    };
    let total = job.image.size;
    let mut losses = Losses::default();
    if state.at.is_none() {
        // the seed is kept before it is used: what is made twice is made the same
        tell(asks, "partitioning", 0, total, &state).await?;
        loop {
            let done = match (&layout, &job.wanted) {
                (Some(layout), Some(wanted)) => prepare(device, job, layout, wanted, &state.seed).await?,
                (Some(_), None) | (None, Some(_) | None) => clear_end(device, total).await?,
            };
            if done == Synced::Kept && device.sync().await? == Synced::Kept {
                break;
            }
            losses.bear()?;
        }
        state.at = Some(0);
        tell(asks, "writing image", 0, total, &state).await?;
    }
    let durable = |at: u64| {
        let state = Checkpoint { at: Some(at), ..state.clone() };
        async move { tell(asks, "writing image", at, total, &state).await }
    };
    let mut from = state.at.unwrap_or(0).min(total);
    let end = loop {
        let place = Place { base: root.at, room: root.len, from };
        match pump(device, job.image.pieces(from), place, durable).await? {
            Pumped::All(end) => break end,
            Pumped::Lost(safe) => {
                if safe > from {
                    losses = Losses::default();
                }
                losses.bear()?;
                from = safe;
            }
        }
    };
    if end != total {
        return Err(DriverError::Image {
            image: "of the instance".into(),
            reason: format!("ended after {end} of {total} bytes"),
        });
    }
    state.at = Some(total);
    tell(asks, "finishing", total, total, &state).await?;
    loop {
        let written = complete(device, job, layout.as_ref(), root, &state.seed).await?;
        if let Some(written) = written
            && device.sync().await? == Synced::Kept
        {
            return Ok(written);
        }
        losses.bear()?;
    }
}

/// How often in a row the target lost what it had not yet kept.
#[derive(Default)]
struct Losses(u32);

impl Losses {
    /// One more. What is done again then comes to the same, however often it is done.
    fn bear(&mut self) -> Result<()> {
        tracing::warn!("the target was away and may have lost data: it is written again");
        self.0 += 1;
        if self.0 < LOSSES {
            return Ok(());
        }
        Err(DriverError::Refused {
            what: "the machine's disk".into(),
            command: "keeping what was written".into(),
            reason: format!(
                "the target was lost {LOSSES} times before it had kept anything: see that the ramdisk and the network \
                 are well, and deploy again"
            ),
        })
    }
}

/// What comes after the image, and a look at what came of it; `None` if it was lost.
async fn complete(
    device: &dyn BlockDevice,
    job: &Job,
    layout: Option<&Layout>,
    root: Span,
    seed: &Seed,
) -> Result<Option<Written>> {
    let mut written = Written::default();
    if let Some(layout) = layout {
        written.root_uuid = probe::file_system_uuid(device, root).await?;
        if let Some(esp) = layout.find(Role::Esp) {
            written.esp_uuid = probe::file_system_uuid(device, esp.span).await?;
        }
        return Ok(Some(written));
    }
    let span = table::complete(device, job.drive.is_some(), seed).await?;
    if let (Some(span), Some(drive)) = (span, &job.drive)
        && put_drive(device, span, drive).await? == Synced::Lost
    {
        return Ok(None);
    }
    written.disk_id = Some(probe::disk_identifier(device).await?);
    written.esp_uuid = probe::esp_uuid(device).await?;
    Ok(Some(written))
}

/// Whether the disk holds what the image has below the place `at`: looked at in some places, the last data among them.
async fn holds(device: &dyn BlockDevice, job: &Job, base: u64, at: Option<u64>) -> Result<bool> {
    let until = at.unwrap_or(0).min(job.image.size);
    let step = (until / LOOKS).next_multiple_of(MIB).max(MIB);
    let mut looks: Vec<u64> = (0..until).step_by(usize::try_from(step).unwrap_or(usize::MAX)).collect();
    looks.push((until.saturating_sub(1)) / MIB * MIB);
    // of a whole disk, what comes last writes the begin again
    looks.retain(|look| *look > 0 || job.wanted.is_some() || until < job.image.size);
    let block = device.block();
    for look in looks {
        let mut pieces = job.image.pieces(look);
        while let Some(piece) = pieces.recv().await {
            let (from, expected) = match piece? {
                Piece::Data { at, bytes } => (at, bytes),
                // some of it, and on to the data behind it
                Piece::Hole { at, len } => {
                    (at, Bytes::from(vec![0; usize::try_from(len.min(HOLE_LOOK)).expect("64 KiB")]))
                }
            };
            let len = (expected.len() as u64).min(until.saturating_sub(from)) / block * block;
            let len = usize::try_from(len).expect("at most a MiB");
            if len == 0 {
                break;
            }
            if device.read_at(base + from, len).await? != expected[..len] {
                return Ok(false);
            }
            if expected.iter().any(|byte| *byte != 0) {
                break;
            }
        }
    }
    Ok(true)
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
    let text = format!("{layout}\n{}\n{}\n{}", device.capacity(), device.block(), device.identity());
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
) -> Result<Synced> {
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
                if let Some(drive) = &job.drive
                    && put_drive(device, part.span, drive).await? == Synced::Lost
                {
                    return Ok(Synced::Lost);
                }
            }
            Role::Root => {}
        }
    }
    Ok(Synced::Kept)
}

/// The second copy of an older GPT, or the metadata of an older RAID, would outlive a smaller image at the disk's end.
async fn clear_end(device: &dyn BlockDevice, image: u64) -> Result<Synced> {
    let block = device.block();
    let image = image.next_multiple_of(block);
    let from = (device.capacity().saturating_sub(MIB) / block * block).max(image);
    if from < device.capacity() {
        device.zero(from, device.capacity() - from).await?;
    }
    Ok(Synced::Kept)
}

/// `Lost`: so may be what was written before it.
async fn put_drive(device: &dyn BlockDevice, span: Span, drive: &ConfigDrive) -> Result<Synced> {
    let pieces: mpsc::Receiver<_> = drive.pieces();
    let place = Place { base: span.at, room: span.len, from: 0 };
    let put = pump(device, pieces, place, |_| async { Ok(()) }).await;
    let reason = match put {
        Ok(Pumped::All(_)) => return Ok(Synced::Kept),
        Ok(Pumped::Lost(_)) => return Ok(Synced::Lost),
        Err(DriverError::Image { reason, .. }) => reason,
        Err(other) => return Err(other),
    };
    Err(DriverError::Invalid {
        section: "instance_info",
        key: "configdrive".into(),
        reason: format!("it is no gzipped image in base64 that fits {} MiB: {reason}", span.len / MIB),
    })
}
