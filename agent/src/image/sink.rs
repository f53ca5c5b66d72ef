//! The disk as a place to write an image to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::O_EXCL;

use crate::disk::{self, Disk};
use crate::error::Failure;
use crate::table::Span;

/// The first and last bytes that decide whether a disk boots, and what is wiped of a bad image.
pub(crate) const END_BYTES: u64 = 1 << 20;

/// The part of an MBR before the disk's identifier.
const BOOT_CODE_BYTES: usize = 440;

const BLOCK: usize = 1 << 20;
const GRAIN: usize = 64 << 10;
const ALIGN: u64 = 4096;

/// A disk open for writing. Its first MiB is kept back until [`Sink::complete`]: until then the disk cannot boot,
/// whatever happens to the agent or the machine.
pub(crate) struct Sink {
    file: File,
    disk: String,
    /// Where the image begins on the disk, bytes.
    base: u64,
    size: u64,
    head: Vec<u8>,
}

/// Where on a disk an image goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// From its first byte on.
    #[default]
    Disk,
    /// Into a stretch of it.
    Within {
        /// Which.
        span: Span,
        /// The disk's partition table must survive: something else on the disk is to be kept. Otherwise it goes, so
        /// that nothing can boot while the image is incomplete.
        keep_table: bool,
    },
}

impl Place {
    /// Bytes there are for an image.
    pub(crate) fn room(self, disk: &Disk) -> u64 {
        match self {
            Self::Disk => disk.size,
            Self::Within { span, .. } => span.len,
        }
    }

    /// What an operator would call it.
    pub(crate) fn name(self, disk: &Disk) -> String {
        match self {
            Self::Disk => disk.name(),
            Self::Within { .. } => format!("{}'s root partition", disk.name()),
        }
    }
}

/// Opens it for this process alone. Errors: `EBUSY` when it is mounted or part of an array; another device.
fn open_alone(disk: &Disk) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if std::fs::metadata(&disk.path)?.file_type().is_block_device() {
        // on a block device, without O_CREAT, it means: fail if it is in use
        options.custom_flags(O_EXCL);
    }
    let file = options.open(&disk.path)?;
    disk::same_device(&file, disk)?;
    Ok(file)
}

impl Sink {
    /// Opens the disk and makes it unbootable: the first and last MiB of it and of the image's place are zeroed; where
    /// the partition table must stay, only the boot code before it.
    pub(crate) fn open(disk: &Disk, place: Place) -> Result<Self, Failure> {
        let file = open_alone(disk).map_err(Failure::io(format!("cannot open {}", disk.path.display())))?;
        let size = place.room(disk);
        let head = vec![0; END_BYTES.min(size) as usize];
        let whole = Self { file, disk: place.name(disk), base: 0, size: disk.size, head };
        let Place::Within { span, keep_table } = place else {
            whole.wipe_ends()?;
            return Ok(whole);
        };
        if keep_table {
            let boot_code = whole.file.write_all_at(&[0; BOOT_CODE_BYTES], 0);
            boot_code.map_err(Failure::io(format!("wiping {}", disk.name())))?;
        } else {
            whole.wipe_ends()?;
        }
        let sink = Self { base: span.at, size, ..whole };
        sink.wipe_ends()?;
        Ok(sink)
    }

    pub(crate) fn too_large(&self, image: u64, exact: bool) -> Failure {
        Failure::TooLarge { image, exact, disk: self.disk.clone(), size: self.size }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Writes bytes at a place. Errors: `TooLarge`, I/O.
    pub(crate) fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = at + bytes.len() as u64;
        if end > self.size {
            return Err(self.too_large(end, false).into_io());
        }
        let kept = (self.head.len() as u64).saturating_sub(at).min(bytes.len() as u64) as usize;
        if kept > 0 {
            self.head[at as usize..at as usize + kept].copy_from_slice(&bytes[..kept]);
        }
        if kept < bytes.len() {
            self.file.write_all_at(&bytes[kept..], self.base + at + kept as u64)?;
        }
        Ok(())
    }

    /// Makes a stretch read as zeros, by the device's own means where it has any.
    pub(crate) fn zero_at(&mut self, at: u64, len: u64) -> io::Result<()> {
        let end = at + len;
        if end > self.size {
            return Err(self.too_large(end, false).into_io());
        }
        let kept = (self.head.len() as u64).saturating_sub(at).min(len);
        if kept > 0 {
            self.head[at as usize..(at + kept) as usize].fill(0);
        }
        zero_range(&self.file, self.base + at + kept, len - kept)
    }

    /// Writes the kept-back first MiB and flushes everything down to the medium.
    pub(crate) fn complete(self) -> Result<(), Failure> {
        let name = &self.disk;
        self.file.sync_data().map_err(Failure::io(format!("flushing {name}")))?;
        self.file.write_all_at(&self.head, self.base).map_err(Failure::io(format!("writing {name}")))?;
        self.file.sync_all().map_err(Failure::io(format!("flushing {name}")))
    }

    /// Zeros over the first and last MiB, flushed.
    pub(crate) fn wipe_ends(&self) -> Result<(), Failure> {
        let end = END_BYTES.min(self.size);
        let zeros = vec![0; end as usize];
        self.file
            .write_all_at(&zeros, self.base)
            .and_then(|()| self.file.write_all_at(&zeros, self.base + self.size - end))
            .and_then(|()| self.file.sync_all())
            .map_err(Failure::io(format!("wiping {}", self.disk)))
    }
}

/// Zeros over a stretch of a file or block device. The kernel turns `fallocate` on a block device into the device's
/// own write-zeroes, or into plain writes; a file system that knows neither gets plain writes from here.
fn zero_range(file: &File, at: u64, len: u64) -> io::Result<()> {
    let end = at + len;
    let (low, high) = (at.next_multiple_of(ALIGN).min(end), (end / ALIGN * ALIGN).max(at));
    if low >= high {
        return write_zeros(file, at, end);
    }
    write_zeros(file, at, low)?;
    write_zeros(file, high.max(low), end)?;
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let (offset, length) = (low as i64, (high - low) as i64);
    let done = fallocate(file, FallocateFlags::FALLOC_FL_ZERO_RANGE | keep, offset, length).is_ok()
        || (!file.metadata()?.file_type().is_block_device()
            && fallocate(file, FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep, offset, length).is_ok());
    if done { Ok(()) } else { write_zeros(file, low, high) }
}

fn write_zeros(file: &File, mut at: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; (end.saturating_sub(at)).min(BLOCK as u64) as usize];
    while at < end {
        let len = (end - at).min(BLOCK as u64);
        file.write_all_at(&zeros[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

/// Writes from the front to the back; stretches of zeros become zero ranges.
pub(crate) struct Linear {
    sink: Sink,
    block: Vec<u8>,
    at: u64,
    zeros: u64,
    sniffed: bool,
}

impl Linear {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, block: Vec::with_capacity(BLOCK), at: 0, zeros: 0, sniffed: false }
    }

    /// Writes what is still held. The image's size and the sink.
    pub(crate) fn finish(mut self) -> io::Result<(u64, Sink)> {
        self.drain()?;
        self.settle()?;
        Ok((self.at, self.sink))
    }

    /// Gives the block to the disk; `at` is the place behind it, of which `zeros` bytes are still owed.
    fn drain(&mut self) -> io::Result<()> {
        if !self.sniffed {
            self.sniffed = true;
            if self.block.starts_with(super::qcow2::MAGIC) {
                let refused = "a compressed qcow2 image: compress raw images, or use qcow2's own compression";
                return Err(Failure::Format(refused.to_owned()).into_io());
            }
        }
        let block = std::mem::take(&mut self.block);
        for grain in block.chunks(GRAIN) {
            if is_zero(grain) {
                self.zeros += grain.len() as u64;
                self.at += grain.len() as u64;
                if self.at > self.sink.size() {
                    return Err(self.sink.too_large(self.at, false).into_io());
                }
            } else {
                self.settle()?;
                self.sink.write_at(self.at, grain)?;
                self.at += grain.len() as u64;
            }
        }
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        if self.zeros > 0 {
            self.sink.zero_at(self.at - self.zeros, self.zeros)?;
            self.zeros = 0;
        }
        Ok(())
    }
}

impl Write for Linear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.drain()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let words = bytes.chunks_exact(16);
    words.remainder().iter().all(|&byte| byte == 0) && words.into_iter().all(|word| word == [0; 16])
}
