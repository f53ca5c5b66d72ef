//! An image file on this host as a row of pieces, in order: data, and holes that need not be sent.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use nix::unistd::{Whence, lseek};
use tokio::sync::mpsc;

use super::qcow2;
use crate::boot::folder::{blocking, io_error};
use crate::error::DriverError;
use crate::interface::Result;

/// Bytes that are read, sent and held at once.
pub(crate) const CHUNK: u64 = 1 << 20;

/// Pieces read ahead of the writing.
const AHEAD: usize = 2;

/// Holes of a file begin and end at multiples of this on every file system in use.
const PAGE: u64 = 4096;

/// A stretch of the disk inside an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// At most [`CHUNK`] bytes.
    Data {
        /// Where it goes.
        at: u64,
        /// What.
        bytes: Bytes,
    },
    /// Zeros.
    Hole {
        /// Where they go.
        at: u64,
        /// How many.
        len: u64,
    },
}

/// How the file is to be read.
#[derive(Clone, Debug)]
enum Format {
    Raw,
    Qcow2(qcow2::Header),
}

/// An opened image.
#[derive(Debug)]
pub(crate) struct ImageFile {
    file: File,
    path: PathBuf,
    format: Format,
    /// Bytes of the disk inside.
    pub(crate) size: u64,
    /// What tells this very file, unchanged, from every other.
    pub(crate) identity: String,
}

/// Magic numbers of images that would make no disk if they were written as they are.
const FOREIGN: &[(usize, &[u8], &str)] = &[
    (0, b"KDMV", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0x40, &[0x7f, 0x10, 0xda, 0xbe], "VDI"),
    (0, &[0x1f, 0x8b, 0x08], "gzip"),
    (0, &[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (0, &[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "xz"),
    (0, b"BZh", "bzip2"),
];

impl ImageFile {
    /// Opens it and reads its header. `declared` is `instance_info.image_disk_format`. Blocks.
    /// Errors: `Image` for a file that is no raw or qcow2 image, or is another than declared; `Io`.
    pub(crate) fn open(path: &Path, declared: Option<&str>) -> Result<ImageFile> {
        let file = File::open(path).map_err(|error| io_error(path, &error))?;
        let about = file.metadata().map_err(|error| io_error(path, &error))?;
        let mut begin = vec![0; qcow2::HEADER_BYTES.min(usize::try_from(about.len()).unwrap_or(usize::MAX))];
        file.read_exact_at(&mut begin, 0).map_err(|error| io_error(path, &error))?;
        let wrong = |reason: String| DriverError::Image { image: path.display().to_string(), reason };
        let format = if begin.starts_with(qcow2::MAGIC) {
            Format::Qcow2(qcow2::Header::parse(&begin, about.len()).map_err(wrong)?)
        } else {
            let foreign = FOREIGN.iter().find(|(at, magic, _)| {
                begin.get(*at..*at + magic.len()).is_some_and(|bytes| bytes == *magic)
            });
            if let Some((_, _, name)) = foreign {
                return Err(wrong(format!("is a {name} file; convert it to raw or qcow2")));
            }
            Format::Raw
        };
        let found = match format {
            Format::Raw => "raw",
            Format::Qcow2(_) => "qcow2",
        };
        if let Some(declared) = declared.filter(|declared| *declared != found) {
            return Err(wrong(format!(
                "instance_info/image_disk_format says {declared}, but it is {found}; correct one of them"
            )));
        }
        let size = match &format {
            Format::Raw => about.len(),
            Format::Qcow2(header) => header.size,
        };
        if size == 0 {
            return Err(wrong("is empty".to_owned()));
        }
        let identity =
            format!("{:x}-{:x}-{}-{}.{}", about.dev(), about.ino(), size, about.mtime(), about.mtime_nsec());
        Ok(ImageFile { file, path: path.to_owned(), format, size, identity })
    }

    /// The same where it may not block.
    pub(crate) async fn open_aside(path: PathBuf, declared: Option<String>) -> Result<ImageFile> {
        blocking(move || ImageFile::open(&path, declared.as_deref())).await
    }

    /// Reads on a thread of its own, from `from` (a multiple of [`CHUNK`] or the image's size) to the end. The pieces
    /// come in order without gaps; the thread ends when they are not wanted any more.
    pub(crate) fn pieces(self: &Arc<Self>, from: u64) -> mpsc::Receiver<Result<Piece>> {
        self.send(move |image, send| match &image.format {
            Format::Raw => read_raw(&image.file, image.size, from, send),
            Format::Qcow2(header) => qcow2::read(header, &image.file, from, send),
        })
    }

    /// Of a raw file: what was ever written to it, also if it was zeros.
    pub(super) fn written(self: &Arc<Self>) -> mpsc::Receiver<Result<Piece>> {
        self.send(|image, send| read_written(&image.file, image.size, send))
    }

    fn send(
        self: &Arc<Self>,
        read: impl FnOnce(&ImageFile, &mut dyn FnMut(Piece) -> bool) -> std::io::Result<()> + Send + 'static,
    ) -> mpsc::Receiver<Result<Piece>> {
        let (pieces, wanted) = mpsc::channel(AHEAD);
        let image = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut send = |piece: Piece| pieces.blocking_send(Ok(piece)).is_ok();
            let read = read(&image, &mut send);
            if let Err(error) = read {
                let reason = format!("reading the image: {error}");
                let error = DriverError::Image { image: image.path.display().to_string(), reason };
                // nobody listens any more: then nobody needs to know
                let _ = pieces.blocking_send(Err(error));
            }
        });
        wanted
    }
}

/// Like `read_raw`, and passes over what was never written.
fn read_written(file: &File, size: u64, send: &mut dyn FnMut(Piece) -> bool) -> std::io::Result<()> {
    let mut at = 0;
    while let Some(data) = seek(file, at, Whence::SeekData)?.filter(|data| *data < size) {
        at = data / PAGE * PAGE;
        let end = seek(file, data, Whence::SeekHole)?.map_or(size, |found| found.min(size));
        let end = end.next_multiple_of(PAGE).min(size);
        while at < end {
            let len = (end - at).min(CHUNK - at % CHUNK);
            let mut bytes = vec![0; usize::try_from(len).expect("a chunk fits memory")];
            file.read_exact_at(&mut bytes, at)?;
            if !send(piece(at, bytes)) {
                return Ok(());
            }
            at += len;
        }
    }
    Ok(())
}

/// Whether all of it is zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<16>();
    chunks.iter().all(|chunk| u128::from_ne_bytes(*chunk) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// Data as a piece, a hole when it is nothing but zeros.
pub(super) fn piece(at: u64, bytes: Vec<u8>) -> Piece {
    if is_zero(&bytes) {
        Piece::Hole { at, len: bytes.len() as u64 }
    } else {
        Piece::Data { at, bytes: bytes.into() }
    }
}

fn read_raw(file: &File, size: u64, from: u64, send: &mut dyn FnMut(Piece) -> bool) -> std::io::Result<()> {
    let mut at = from;
    while at < size {
        let data = seek(file, at, Whence::SeekData)?.map_or(size, |found| found.min(size));
        // a file system may count in smaller units than the disk
        let data = if data < size { (data / PAGE * PAGE).max(at) } else { data };
        if data > at {
            if !send(Piece::Hole { at, len: data - at }) {
                return Ok(());
            }
            at = data;
            continue;
        }
        let end = seek(file, at, Whence::SeekHole)?.map_or(size, |found| found.min(size));
        let end = end.next_multiple_of(PAGE).max(at + PAGE).min(size);
        while at < end {
            let len = (end - at).min(CHUNK - at % CHUNK);
            let mut bytes = vec![0; usize::try_from(len).expect("a chunk fits memory")];
            file.read_exact_at(&mut bytes, at)?;
            if !send(piece(at, bytes)) {
                return Ok(());
            }
            at += len;
        }
    }
    Ok(())
}

/// `None` when there is nothing of the kind until the end.
fn seek(file: &File, at: u64, whence: Whence) -> std::io::Result<Option<u64>> {
    let at = i64::try_from(at).map_err(|_| std::io::ErrorKind::FileTooLarge)?;
    match lseek(file, at, whence) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(nix::errno::Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
