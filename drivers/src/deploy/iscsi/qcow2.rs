//! qcow2 read from a file, cluster by cluster in the order of the disk inside. Backing files, external data files and
//! encryption are refused: nothing but this one file is ever opened. Source: QEMU docs/interop/qcow2.txt.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::source::{CHUNK, Piece, piece};

/// The first four bytes of every qcow2 file.
pub(super) const MAGIC: &[u8] = b"QFI\xfb";

/// Bytes of the file's begin that [`Header::parse`] wants to see.
pub(super) const HEADER_BYTES: usize = 112;

/// A larger first table than for any disk there is: enough for 512 TiB in clusters of the usual 64 KiB. It is in memory
/// twice while it is read.
const MAX_L1_BYTES: u64 = 8 << 20;

const OFFSET_BITS: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const READS_ZERO: u64 = 1;

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    cluster_bits: u32,
    /// Bytes of the disk inside.
    pub(super) size: u64,
    l1_entries: u64,
    l1_offset: u64,
    zstd: bool,
    file_len: u64,
}

impl Header {
    /// Errors: why this file cannot be read safely and completely by itself.
    pub(super) fn parse(begin: &[u8], file_len: u64) -> Result<Header, String> {
        if begin.len() < 72 {
            return Err("qcow2: the file ends within its header".to_owned());
        }
        let at32 = |at: usize| u32::from_be_bytes(begin[at..at + 4].try_into().expect("four bytes"));
        let at64 = |at: usize| u64::from_be_bytes(begin[at..at + 8].try_into().expect("eight bytes"));
        let version = at32(4);
        let cluster_bits = at32(20);
        let refuse = |reason: String| Err(format!("qcow2: {reason}"));
        if !matches!(version, 2 | 3) {
            return refuse(format!("version {version} is unknown"));
        }
        if at64(8) != 0 {
            return refuse(
                "it needs a backing file, which is not part of the image; flatten it first".to_owned(),
            );
        }
        if !(9..=21).contains(&cluster_bits) {
            return refuse(format!("cluster size 2^{cluster_bits} is out of range"));
        }
        if at32(32) != 0 {
            return refuse("it is encrypted".to_owned());
        }
        let mut zstd = false;
        if version == 3 {
            if begin.len() < 104 {
                return refuse("the file ends within its header".to_owned());
            }
            let features = at64(72);
            // bit 0, dirty, concerns reference counts only, which nobody reads here
            for (bit, reason) in [
                (1, "it is marked corrupt"),
                (2, "its data is in an external file"),
                (4, "it has extended L2 entries (subclusters), which are not supported"),
            ] {
                if features & (1 << bit) != 0 {
                    return refuse(reason.to_owned());
                }
            }
            if features & !0b1_1111 != 0 {
                return refuse(format!("it has unknown incompatible features {:#x}", features & !0b1_1111));
            }
            if features & (1 << 3) != 0 {
                let kind = if at32(100) > 104 { begin.get(104).copied().unwrap_or(0) } else { 0 };
                zstd = match kind {
                    0 => false,
                    1 => true,
                    other => return refuse(format!("compression type {other} is unknown")),
                };
            }
        }
        let cluster = 1_u64 << cluster_bits;
        let size = at64(24);
        let needed = size.div_ceil(cluster * (cluster / 8));
        let l1_entries = u64::from(at32(36));
        if size == 0 || l1_entries < needed || needed * 8 > MAX_L1_BYTES {
            return refuse(format!("its L1 table of {l1_entries} entries does not suit {size} bytes"));
        }
        Ok(Header { cluster_bits, size, l1_entries: needed, l1_offset: at64(40), zstd, file_len })
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Place and length in the file of what a compressed entry points to.
    fn packed(&self, entry: u64) -> (u64, u64) {
        let split = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << split) - 1);
        let sectors = ((entry & !(3 << 62)) >> split) + 1;
        (offset, sectors * 512 - offset % 512)
    }
}

/// What neighbouring clusters have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Hole,
    /// Plain data at this place of the file.
    Plain(u64),
}

/// Sends everything from `from` on; ends early when `send` does not want any more.
pub(super) fn read(
    header: &Header,
    file: &File,
    from: u64,
    send: &mut dyn FnMut(Piece) -> bool,
) -> io::Result<()> {
    let cluster = header.cluster();
    let per_table = cluster / 8;
    let l1 = table(file, header.l1_offset, header.l1_entries * 8)?;
    let mut out = Out { header, file, from, run: None, send };
    for (index, l1_entry) in l1.iter().enumerate() {
        let first = index as u64 * per_table * cluster;
        let len = (per_table * cluster).min(header.size - first);
        if first + len <= from {
            continue;
        }
        let place = l1_entry & OFFSET_BITS;
        if place == 0 {
            if !out.add(Run::Hole, first, len)? {
                return Ok(());
            }
            continue;
        }
        for (n, entry) in table(file, place, cluster)?.into_iter().enumerate() {
            let at = first + n as u64 * cluster;
            if at >= header.size {
                break;
            }
            let len = cluster.min(header.size - at);
            if at + len <= from {
                continue;
            }
            let more = if entry & COMPRESSED != 0 {
                out.flush()? && out.packed(entry, at, len)?
            } else if entry & READS_ZERO != 0 || entry & OFFSET_BITS == 0 {
                out.add(Run::Hole, at, len)?
            } else {
                out.add(Run::Plain(entry & OFFSET_BITS), at, len)?
            };
            if !more {
                return Ok(());
            }
        }
    }
    out.flush().map(|_| ())
}

fn table(file: &File, at: u64, len: u64) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData)?];
    file.read_exact_at(&mut bytes, at)?;
    let (entries, _) = bytes.as_chunks::<8>();
    Ok(entries.iter().map(|entry| u64::from_be_bytes(*entry)).collect())
}

/// Gathers clusters to larger pieces.
struct Out<'a> {
    header: &'a Header,
    file: &'a File,
    from: u64,
    run: Option<(Run, u64, u64)>,
    send: &'a mut dyn FnMut(Piece) -> bool,
}

impl Out<'_> {
    fn add(&mut self, what: Run, at: u64, len: u64) -> io::Result<bool> {
        if let Some((run, start, so_far)) = &mut self.run {
            let fits = match (*run, what) {
                (Run::Hole, Run::Hole) => true,
                (Run::Plain(begin), Run::Plain(next)) => begin + *so_far == next,
                (Run::Hole, Run::Plain(_)) | (Run::Plain(_), Run::Hole) => false,
            };
            if fits && *start + *so_far == at {
                *so_far += len;
                return Ok(true);
            }
        }
        let more = self.flush()?;
        self.run = Some((what, at, len));
        Ok(more)
    }

    /// Sends the run in pieces that end at multiples of [`CHUNK`].
    fn flush(&mut self) -> io::Result<bool> {
        let Some((run, start, len)) = self.run.take() else { return Ok(true) };
        let (mut at, end) = (start.max(self.from), start + len);
        match run {
            Run::Hole => Ok(end <= at || (self.send)(Piece::Hole { at, len: end - at })),
            Run::Plain(place) => {
                while at < end {
                    let len = (end - at).min(CHUNK - at % CHUNK);
                    let bytes = self.data(place + (at - start), len)?;
                    if !(self.send)(piece(at, bytes)) {
                        return Ok(false);
                    }
                    at += len;
                }
                Ok(true)
            }
        }
    }

    /// The last cluster of a file may lack its end, which reads as zeros.
    fn data(&self, place: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).expect("a chunk fits memory")];
        if place >= self.header.file_len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "qcow2: a cluster lies beyond the end"));
        }
        let there = usize::try_from(len.min(self.header.file_len - place)).expect("a chunk fits memory");
        self.file.read_exact_at(&mut bytes[..there], place)?;
        Ok(bytes)
    }

    fn packed(&mut self, entry: u64, at: u64, len: u64) -> io::Result<bool> {
        let (place, packed_len) = self.header.packed(entry);
        let there = self.header.file_len.saturating_sub(place).min(packed_len);
        let mut packed = vec![0; usize::try_from(there).expect("less than two clusters")];
        self.file.read_exact_at(&mut packed, place)?;
        // the cluster is always whole in there, also where the disk ends within it
        let mut bytes = vec![0; usize::try_from(self.header.cluster()).expect("a cluster is at most 2 MiB")];
        if self.header.zstd {
            zstd::stream::read::Decoder::new(&packed[..])?.read_exact(&mut bytes)?;
        } else {
            flate2::read::DeflateDecoder::new(&packed[..]).read_exact(&mut bytes)?;
        }
        bytes.truncate(usize::try_from(len).expect("less than a cluster"));
        let mut at = at;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let len = (rest.len() as u64).min(CHUNK - at % CHUNK);
            let (part, left) = rest.split_at(usize::try_from(len).expect("a chunk fits memory"));
            if at + len > self.from && !(self.send)(piece(at, part.to_vec())) {
                return Ok(false);
            }
            at += len;
            rest = left;
        }
        Ok(true)
    }
}
