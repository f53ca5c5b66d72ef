//! qcow2, written in one sequential pass over the file.
//!
//! The tables are read first, by ranges, and turned round: from "guest cluster → place in the file" to "place in the
//! file → guest cluster", sixteen bytes per cluster. Then the file streams by once; every cluster goes to its guest
//! place as it passes, and everything is hashed. The tables read beforehand are compared with those that pass, so that
//! the hash covers them too.
//! Source: QEMU docs/interop/qcow2.txt.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::fetch::{Remote, Source};
use super::sink::Sink;
use crate::error::Failure;

/// The first four bytes of every qcow2 file.
pub(crate) const MAGIC: &[u8] = b"QFI\xfb";

/// Bytes of the file's begin that [`Header::parse`] wants to see.
pub(crate) const HEADER_BYTES: usize = 112;

/// Clusters that an image may map at most: 16 bytes of memory each.
const MAX_CLUSTERS: usize = 32 << 20;
const MAX_L1_BYTES: u64 = 32 << 20;

const OFFSET_BITS: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ALL_ZERO: u64 = 1;

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    cluster_bits: u32,
    /// Bytes of the disk inside.
    pub(crate) virtual_size: u64,
    l1_entries: u64,
    l1_offset: u64,
    zstd: bool,
}

impl Header {
    /// Errors: `Format` for anything that cannot be written safely and completely from this one file.
    pub(crate) fn parse(begin: &[u8]) -> Result<Self, Failure> {
        let refuse = |reason: String| Err(Failure::Format(format!("qcow2: {reason}")));
        if begin.len() < 72 {
            return refuse("the file ends within its header".to_owned());
        }
        let at32 = |at: usize| u32::from_be_bytes(begin[at..at + 4].try_into().expect("four bytes"));
        let at64 = |at: usize| u64::from_be_bytes(begin[at..at + 8].try_into().expect("eight bytes"));
        let version = at32(4);
        if !matches!(version, 2 | 3) {
            return refuse(format!("version {version} is unknown"));
        }
        if at64(8) != 0 {
            return refuse(
                "it needs a backing file, which is not part of the image; flatten it first".to_owned(),
            );
        }
        let cluster_bits = at32(20);
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
        let header = Self {
            cluster_bits,
            virtual_size: at64(24),
            l1_entries: u64::from(at32(36)),
            l1_offset: at64(40),
            zstd,
        };
        let needed = header.virtual_size.div_ceil(header.cluster() * (header.cluster() / 8));
        if header.virtual_size == 0 || header.l1_entries < needed || needed * 8 > MAX_L1_BYTES {
            return refuse(format!(
                "its L1 table of {} entries does not suit {} bytes",
                header.l1_entries, header.virtual_size
            ));
        }
        Ok(Self { l1_entries: needed, ..header })
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn clusters(&self) -> u64 {
        self.virtual_size.div_ceil(self.cluster())
    }

    /// Place and length in the file of what an L2 entry points to.
    fn place(&self, entry: u64) -> (u64, u64) {
        if entry & COMPRESSED == 0 {
            return (entry & OFFSET_BITS, self.cluster());
        }
        let split = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << split) - 1);
        let sectors = ((entry & !(3 << 62)) >> split) + 1;
        (offset, sectors * 512 - offset % 512)
    }
}

/// One thing to look at while the file passes.
#[derive(Clone, Copy)]
struct Piece {
    /// An L2 entry, or the offset of a table.
    entry: u64,
    /// Guest cluster, or `u64::MAX - n` for table n.
    guest: u64,
}

/// A table read beforehand.
struct Table {
    at: u64,
    len: u64,
    digest: [u8; 32],
}

/// The image turned round.
pub(crate) struct Map {
    header: Header,
    pieces: Vec<Piece>,
    tables: Vec<Table>,
    /// Guest clusters that hold data, a bit each.
    filled: Vec<u64>,
}

impl Map {
    /// Reads the tables. Errors: `Format`, and those of downloads.
    pub(crate) async fn read(header: Header, source: &Source, remote: &mut Remote) -> Result<Self, Failure> {
        let bad = |reason: &str| Failure::Format(format!("qcow2: {reason}"));
        let clusters = header.clusters();
        let mut map = Self {
            filled: vec![0; (clusters as usize).div_ceil(64)],
            pieces: Vec::new(),
            tables: Vec::new(),
            header,
        };
        let l1_range = (map.header.l1_offset, map.header.l1_entries * 8);
        let mut l1 = Vec::new();
        source
            .read_ranges(&[l1_range], remote, |_, bytes| {
                l1 = bytes;
                Ok(())
            })
            .await?;
        if l1.len() as u64 != l1_range.1 {
            return Err(bad("the file ends within its L1 table"));
        }
        map.note_table(l1_range.0, &l1);
        let mut l2: Vec<(u64, u64)> = entries(&l1)
            .enumerate()
            .map(|(index, entry)| (entry & OFFSET_BITS, index as u64))
            .filter(|(at, _)| *at != 0)
            .collect();
        l2.sort_unstable();
        let ranges: Vec<(u64, u64)> = l2.iter().map(|(at, _)| (*at, map.header.cluster())).collect();
        source
            .read_ranges(&ranges, remote, |n, bytes| {
                if bytes.len() as u64 != map.header.cluster() {
                    return Err(bad("the file ends within an L2 table"));
                }
                map.note_table(ranges[n].0, &bytes);
                map.note_clusters(l2[n].1, &bytes)
            })
            .await?;
        let header = map.header.clone();
        map.pieces.sort_unstable_by_key(|piece| piece_place(&header, piece));
        Ok(map)
    }

    /// How many clusters hold data.
    pub(crate) fn data_clusters(&self) -> usize {
        self.pieces.len() - self.tables.len()
    }

    fn note_table(&mut self, at: u64, bytes: &[u8]) {
        self.pieces.push(Piece { entry: at, guest: u64::MAX - self.tables.len() as u64 });
        self.tables.push(Table { at, len: bytes.len() as u64, digest: Sha256::digest(bytes).into() });
    }

    fn note_clusters(&mut self, l1_index: u64, table: &[u8]) -> Result<(), Failure> {
        let per_table = self.header.cluster() / 8;
        let clusters = self.header.clusters();
        for (index, entry) in entries(table).enumerate() {
            let guest = l1_index * per_table + index as u64;
            let is_data = entry & COMPRESSED != 0 || (entry & OFFSET_BITS != 0 && entry & ALL_ZERO == 0);
            if guest >= clusters || !is_data {
                continue;
            }
            self.filled[guest as usize / 64] |= 1 << (guest % 64);
            self.pieces.push(Piece { entry, guest });
        }
        if self.pieces.len() > MAX_CLUSTERS {
            return Err(Failure::Format(format!(
                "qcow2: more than {MAX_CLUSTERS} clusters; use larger clusters"
            )));
        }
        Ok(())
    }
}

fn entries(table: &[u8]) -> impl Iterator<Item = u64> + '_ {
    table.chunks_exact(8).map(|bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
}

fn table_of(piece: &Piece) -> Option<usize> {
    // guest clusters are far below, tables far above
    (piece.guest > u64::MAX / 2).then(|| (u64::MAX - piece.guest) as usize)
}

fn piece_place(header: &Header, piece: &Piece) -> u64 {
    if table_of(piece).is_some() { piece.entry } else { header.place(piece.entry).0 }
}

/// The pass: takes the file's bytes in order and puts the clusters in their places.
pub(crate) struct Writer {
    map: Map,
    sink: Sink,
    next: usize,
    /// The bytes of the file from `window_at` on that some piece may still need.
    window: Vec<u8>,
    window_at: u64,
    cluster: Vec<u8>,
}

impl Writer {
    /// Zeros everything that holds no data.
    pub(crate) fn new(map: Map, mut sink: Sink) -> Result<Self, Failure> {
        let cluster = map.header.cluster();
        let size = map.header.virtual_size;
        let is_filled = |guest: u64| map.filled[guest as usize / 64] & (1 << (guest % 64)) != 0;
        let (mut guest, clusters) = (0, map.header.clusters());
        while guest < clusters {
            let start = guest;
            while guest < clusters && !is_filled(guest) {
                guest += 1;
            }
            if guest > start {
                let (from, to) = (start * cluster, (guest * cluster).min(size));
                sink.zero_at(from, to - from).map_err(Failure::io("zeroing the disk"))?;
            }
            guest += 1;
        }
        let cluster = vec![0; cluster as usize];
        Ok(Self { map, sink, next: 0, window: Vec::new(), window_at: 0, cluster })
    }

    /// Takes the next bytes of the file.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.window.extend_from_slice(bytes);
        self.work(false)?;
        // nothing before the next piece is needed any more
        let passed = self.window_at + self.window.len() as u64;
        let keep_from = self.map.pieces.get(self.next).map_or(passed, |p| piece_place(&self.map.header, p));
        let useless = (keep_from.saturating_sub(self.window_at) as usize).min(self.window.len());
        if useless == self.window.len() || useless >= 1 << 20 {
            self.window.drain(..useless);
            self.window_at += useless as u64;
        }
        Ok(())
    }

    /// The file has ended. The disk's bytes and the sink.
    pub(crate) fn finish(mut self) -> io::Result<(u64, Sink)> {
        self.work(true)?;
        Ok((self.map.header.virtual_size, self.sink))
    }

    fn work(&mut self, ended: bool) -> io::Result<()> {
        let passed = self.window_at + self.window.len() as u64;
        while let Some(&piece) = self.map.pieces.get(self.next) {
            let table = table_of(&piece);
            let (at, len) = match table {
                Some(n) => (self.map.tables[n].at, self.map.tables[n].len),
                None => self.map.header.place(piece.entry),
            };
            if at + len > passed && !ended {
                break;
            }
            let from = at.checked_sub(self.window_at).expect("pieces are sorted by place") as usize;
            let from = from.min(self.window.len());
            let to = (from + len as usize).min(self.window.len());
            let bytes = &self.window[from..to];
            match table {
                Some(n) if self.map.tables[n].digest != <[u8; 32]>::from(Sha256::digest(bytes)) => {
                    let reason = "qcow2: its tables changed while it was being read".to_owned();
                    return Err(Failure::Format(reason).into_io());
                }
                Some(_) => {}
                None => {
                    if bytes.is_empty() {
                        return Err(
                            Failure::Format("qcow2: the file ends before its data".to_owned()).into_io()
                        );
                    }
                    fill(&self.map.header, piece.entry, bytes, &mut self.cluster)?;
                    let place = piece.guest * self.map.header.cluster();
                    let rest = (self.map.header.virtual_size - place).min(self.cluster.len() as u64);
                    self.sink.write_at(place, &self.cluster[..rest as usize])?;
                }
            }
            self.next += 1;
        }
        Ok(())
    }
}

/// One guest cluster from its bytes in the file.
fn fill(header: &Header, entry: u64, bytes: &[u8], cluster: &mut [u8]) -> io::Result<()> {
    let broken = |error: io::Error| {
        Failure::Format(format!("qcow2: a compressed cluster is broken: {error}")).into_io()
    };
    if entry & COMPRESSED == 0 {
        // the last cluster of a file may be cut short: the rest reads as zeros
        cluster[..bytes.len()].copy_from_slice(bytes);
        cluster[bytes.len()..].fill(0);
        Ok(())
    } else if header.zstd {
        let mut decoder = zstd::stream::read::Decoder::new(bytes).map_err(broken)?.single_frame();
        decoder.read_exact(cluster).map_err(broken)
    } else {
        flate2::read::DeflateDecoder::new(bytes).read_exact(cluster).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(change: impl FnOnce(&mut Vec<u8>)) -> Result<Header, Failure> {
        let mut begin = vec![0; HEADER_BYTES];
        begin[..4].copy_from_slice(MAGIC);
        begin[7] = 3;
        begin[23] = 16;
        begin[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
        begin[39] = 2;
        begin[103] = 112;
        change(&mut begin);
        Header::parse(&begin)
    }

    #[test]
    fn a_header_is_read_and_every_unsafe_kind_refused_by_name() {
        let plain = header(|_| ()).expect("plain");
        assert_eq!((plain.virtual_size, plain.cluster(), plain.clusters()), (1 << 30, 65536, 16384));
        assert!(header(|h| h[79] = 0b1001).expect("dirty, zlib").clusters() > 0);
        for (at, value, word) in [
            (15, 1, "backing"),
            (35, 1, "encrypted"),
            (79, 2, "corrupt"),
            (79, 4, "external"),
            (79, 16, "subclusters"),
            (79, 32, "unknown incompatible"),
            (7, 4, "version 4"),
            (23, 30, "cluster size"),
            (39, 1, "L1"),
        ] {
            let text = header(|h| h[at] = value).expect_err(word).to_string();
            assert!(text.contains(word), "{text}");
        }
        assert!(Header::parse(&MAGIC.repeat(10)).is_err());
    }

    #[test]
    fn a_compressed_entry_names_place_and_length() {
        let plain = header(|_| ()).expect("plain");
        let split = 62 - 8;
        let entry = COMPRESSED | (3 << split) | 0x12345;
        assert_eq!(plain.place(entry), (0x12345, 4 * 512 - 0x12345 % 512));
        assert_eq!(plain.place(1 << 63 | 0x50000), (0x50000, 65536));
    }
}
