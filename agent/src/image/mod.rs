//! Writing an image: download, hash, decode and write at once, never the whole image in memory or on a second medium.

pub mod fetch;
pub mod hash;
pub(crate) mod qcow2;
pub(crate) mod sink;

use std::io::{self, Write};
use std::sync::Mutex;

use bytes::Bytes;
use ferric_agent_wire::{ImageInfo, WritePhase, WriteProgress};
use tokio::sync::mpsc;

use crate::console::say;
use crate::disk::Disk;
use crate::error::Failure;
use fetch::{Download, Source};
use hash::{Expected, Hasher};
use qcow2::{Header, Map};
pub use sink::Place;
use sink::{Linear, Sink};

/// Chunks on their way from the network to the disk; bounds memory.
const QUEUED_CHUNKS: usize = 64;

/// How far a write is, for whoever asks.
#[derive(Default)]
pub struct ProgressCell(Mutex<WriteProgress>);

impl ProgressCell {
    /// How far it is now.
    pub fn get(&self) -> WriteProgress {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut WriteProgress)) {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

/// How an image file holds its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Byte for byte.
    Raw,
    /// Raw, gzip-compressed.
    Gzip,
    /// Raw, zstd-compressed.
    Zstd,
    /// qcow2.
    Qcow2,
}

impl Format {
    /// By the file's first bytes.
    pub fn detect(begin: &[u8]) -> Self {
        if begin.starts_with(qcow2::MAGIC) {
            Self::Qcow2
        } else if begin.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if begin.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::Raw
        }
    }

    /// Compares with what was declared and permitted. Errors: `Format`.
    pub fn agree(self, declared: Option<&str>, permitted: &[String]) -> Result<(), Failure> {
        let disk_format = match self {
            Self::Raw | Self::Gzip | Self::Zstd => "raw",
            Self::Qcow2 => "qcow2",
        };
        let declared = declared.map(str::to_lowercase);
        match declared.as_deref() {
            None | Some("") => {}
            Some(declared) if declared == disk_format => {}
            // Ironic's names for raw bytes that carry a partition table or a CD
            Some("gpt" | "iso" | "mbr") if self != Self::Qcow2 => {}
            Some(declared @ ("raw" | "qcow2" | "gpt" | "iso" | "mbr")) => {
                return Err(Failure::Format(format!(
                    "declared as {declared}, but the file is {disk_format}"
                )));
            }
            Some(declared) => {
                return Err(Failure::Format(format!(
                    "disk_format {declared} is not supported: use raw or qcow2"
                )));
            }
        }
        let names: &[&str] = if self == Self::Qcow2 { &["qcow2"] } else { &["raw", "gpt", "iso", "mbr"] };
        if !permitted.is_empty() && !permitted.iter().any(|p| names.contains(&p.as_str())) {
            let permitted = permitted.join(", ");
            return Err(Failure::Format(format!(
                "{disk_format} is not among the permitted formats: {permitted}"
            )));
        }
        Ok(())
    }
}

/// What is to be written where.
pub struct Job<'a> {
    /// Where the image is.
    pub source: Source,
    /// What it is said to be.
    pub info: &'a ImageInfo,
    /// What it must hash to.
    pub expected: Expected,
    /// Formats the conductor permits; empty = all that we know.
    pub permitted: &'a [String],
    /// The disk to write.
    pub disk: &'a Disk,
    /// Where on it.
    pub place: Place,
    /// Told how far it is.
    pub progress: &'a ProgressCell,
}

/// Writes the image and flushes it. Returns the bytes it takes on the disk.
/// Errors: `Download`, `Changed`, `Format`, `TooLarge`, `Checksum`, I/O. Unless the image was complete and right, the
/// disk is left unbootable.
pub async fn write(job: Job<'_>) -> Result<u64, Failure> {
    let mut download = Download::new(job.source.clone(), 0, None);
    let mut begin: Vec<u8> = Vec::new();
    while begin.len() < qcow2::HEADER_BYTES {
        match download.chunk().await? {
            Some(chunk) => begin.extend_from_slice(&chunk),
            None => break,
        }
    }
    if begin.is_empty() {
        return Err(Failure::Format("the image is empty".to_owned()));
    }
    let mut remote = download.remote().cloned().unwrap_or_default();
    let format = Format::detect(&begin);
    format.agree(job.info.disk_format.as_deref(), job.permitted)?;
    let known_size = match format {
        Format::Raw => remote.size,
        Format::Gzip => None,
        Format::Zstd => zstd::zstd_safe::get_frame_content_size(&begin).ok().flatten(),
        Format::Qcow2 => Some(Header::parse(&begin)?.virtual_size),
    };
    if let Some(image) = known_size
        && image > job.place.room(job.disk)
    {
        let (disk, size) = (job.place.name(job.disk), job.place.room(job.disk));
        return Err(Failure::TooLarge { image, exact: format != Format::Zstd, disk, size });
    }
    let map = match format {
        Format::Qcow2 => {
            let map = Map::read(Header::parse(&begin)?, &job.source, &mut remote).await?;
            say(format!("image qcow2 data_clusters={}", map.data_clusters()));
            Some(map)
        }
        Format::Raw | Format::Gzip | Format::Zstd => None,
    };
    say(format!("write begin disk={} format={format:?} bytes={:?}", job.disk.name(), remote.size));
    job.progress.update(|p| {
        *p = WriteProgress { phase: WritePhase::Writing, bytes_done: 0, bytes_total: remote.size }
    });
    let (chunks, queue) = mpsc::channel(QUEUED_CHUNKS);
    let (disk, place, expected) = (job.disk.clone(), job.place, job.expected.clone());
    let writer = tokio::task::spawn_blocking(move || drain(queue, format, map, (&disk, place), &expected));
    let outcome = feed(&mut download, begin, chunks, job.progress).await;
    let written = writer.await.map_err(|e| Failure::io("the writer died")(io::Error::other(e)))?;
    // the writer's own failure explains why it stopped taking chunks; otherwise the download's is the reason
    match (outcome, written) {
        (_, Ok(Some(bytes))) => Ok(bytes),
        (Err(failure), Ok(None)) => Err(failure),
        (_, Err(failure)) => Err(failure),
        (Ok(()), Ok(None)) => Err(Failure::io("writing the image")(io::ErrorKind::BrokenPipe.into())),
    }
}

enum Chunk {
    Bytes(Bytes),
    End,
}

/// Passes the download on; ends early when the writer has given up.
async fn feed(
    download: &mut Download,
    begin: Vec<u8>,
    chunks: mpsc::Sender<Chunk>,
    progress: &ProgressCell,
) -> Result<(), Failure> {
    let mut next = Some(Bytes::from(begin));
    while let Some(bytes) = next {
        let len = bytes.len() as u64;
        if chunks.send(Chunk::Bytes(bytes)).await.is_err() {
            return Ok(());
        }
        progress.update(|p| p.bytes_done += len);
        next = download.chunk().await?;
    }
    progress.update(|p| p.phase = WritePhase::Verifying);
    // a writer that is gone says itself why
    let _ = chunks.send(Chunk::End).await;
    Ok(())
}

enum Decoder {
    Raw(Linear),
    Gzip(Box<flate2::write::MultiGzDecoder<Linear>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Linear>>),
    Qcow2(Box<qcow2::Writer>),
}

impl Decoder {
    fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Raw(to) => to.write_all(bytes),
            Self::Gzip(to) => to.write_all(bytes),
            Self::Zstd(to) => to.write_all(bytes),
            Self::Qcow2(to) => to.feed(bytes),
        }
    }

    fn finish(self) -> io::Result<(u64, Sink)> {
        match self {
            Self::Raw(to) => to.finish(),
            Self::Gzip(to) => to.finish()?.finish(),
            Self::Zstd(to) => to.finish()?.finish(),
            Self::Qcow2(to) => to.finish(),
        }
    }
}

/// The writer's thread: hashes, decodes, writes. None when the download ended before the image did. Whatever is not a
/// complete and right image is left with its first and last MiB zero.
fn drain(
    mut queue: mpsc::Receiver<Chunk>,
    format: Format,
    map: Option<Map>,
    (disk, place): (&Disk, Place),
    expected: &Expected,
) -> Result<Option<u64>, Failure> {
    let sink = Sink::open(disk, place)?;
    let outcome = write_all(&mut queue, format, map, disk, expected, sink);
    if !matches!(outcome, Ok(Some(_))) {
        Sink::open(disk, place)?;
    }
    outcome
}

fn write_all(
    queue: &mut mpsc::Receiver<Chunk>,
    format: Format,
    map: Option<Map>,
    disk: &Disk,
    expected: &Expected,
    sink: Sink,
) -> Result<Option<u64>, Failure> {
    let mut decoder = match (format, map) {
        (Format::Gzip, _) => Decoder::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Linear::new(sink)))),
        (Format::Zstd, _) => {
            let decoder =
                zstd::stream::write::Decoder::new(Linear::new(sink)).map_err(Failure::io("zstd"))?;
            Decoder::Zstd(Box::new(decoder))
        }
        (Format::Qcow2, Some(map)) => Decoder::Qcow2(Box::new(qcow2::Writer::new(map, sink)?)),
        (Format::Raw | Format::Qcow2, _) => Decoder::Raw(Linear::new(sink)),
    };
    let mut hasher = Hasher::new(expected);
    let place = || format!("writing to {}", disk.name());
    loop {
        match queue.blocking_recv() {
            None => return Ok(None),
            Some(Chunk::End) => break,
            Some(Chunk::Bytes(bytes)) => {
                hasher.update(&bytes);
                decoder.feed(&bytes).map_err(|e| name_decoder(format, e)).map_err(Failure::io(place()))?;
            }
        }
    }
    let actual = hasher.hex();
    let finished = decoder.finish();
    if actual != expected.value {
        let (algorithm, expected) = (expected.algorithm.clone(), expected.value.clone());
        return Err(Failure::Checksum { algorithm, expected, actual });
    }
    let (bytes, sink) = finished.map_err(|e| name_decoder(format, e)).map_err(Failure::io(place()))?;
    sink.complete()?;
    Ok(Some(bytes))
}

/// Says which decoder it was that choked; our own failures and the disk's errors pass unchanged.
fn name_decoder(format: Format, error: io::Error) -> io::Error {
    let from_disk = error.raw_os_error().is_some() || error.get_ref().is_some_and(|e| e.is::<Failure>());
    match format {
        Format::Gzip | Format::Zstd if !from_disk => {
            Failure::Format(format!("the {format:?} stream is broken: {error}")).into_io()
        }
        Format::Raw | Format::Gzip | Format::Zstd | Format::Qcow2 => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_format_must_be_the_real_one() {
        let qcow2 = Format::detect(b"QFI\xfb\0\0\0\x03");
        let gzip = Format::detect(&[0x1f, 0x8b, 8]);
        assert_eq!((qcow2, gzip, Format::detect(b"\xeb\x63")), (Format::Qcow2, Format::Gzip, Format::Raw));
        assert!(qcow2.agree(Some("qcow2"), &[]).is_ok() && qcow2.agree(None, &[]).is_ok());
        assert!(qcow2.agree(Some("raw"), &[]).is_err(), "a qcow2 posing as raw could name other files");
        assert!(gzip.agree(Some("raw"), &[]).is_ok() && gzip.agree(Some("qcow2"), &[]).is_err());
        assert!(Format::Raw.agree(Some("vmdk"), &[]).is_err());
        assert!(Format::Raw.agree(Some("raw"), &["qcow2".into()]).is_err());
        assert!(qcow2.agree(Some("qcow2"), &["raw".into(), "qcow2".into()]).is_ok());
    }
}
