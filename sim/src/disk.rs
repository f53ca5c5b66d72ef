//! A disk that remembers what was written to it instead of keeping it.

use std::sync::Arc;

use ferric_agent_wire::error_type;
use sha2::Digest as _;

use crate::images::Known;
use crate::iscsi::{Pool, Store, TargetStats};

/// What a disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where it came from: its URL, or `iscsi:` and the name of the target through which it was written.
    pub url: String,
    /// Bytes of the image file; those written from the first on without a gap, where it came over iSCSI.
    pub bytes: u64,
    /// sha256 of these, hex.
    pub sha256: String,
    /// Whether a config drive went along.
    pub configdrive: bool,
    /// What was made around a partition image; `None` for whole-disk images, which bring their own.
    pub partitions: Option<Partitions>,
}

/// The partitions around a partition image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions {
    /// The root file system's UUID.
    pub root: String,
    /// The EFI system partition's UUID, on UEFI machines.
    pub efi_system: Option<String>,
    /// Whether there is a swap partition.
    pub swap: bool,
    /// What the ephemeral partition holds, by its UUID; a new one with every write that does not preserve it.
    pub ephemeral: Option<String>,
    /// Whether a boot loader was installed: without one the machine does not boot from it.
    pub boot_loader: bool,
}

/// Beginnings of writes that a disk remembers.
const MOST_STARTS: usize = 256;

/// What erasing the metadata overwrites at both ends, bytes.
const EDGE: u64 = 1 << 20;

/// The beginning of an image write: the first, or one that went on after a broken download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteStart {
    /// Which image.
    pub url: String,
    /// The byte of the image that it began with: 0 for a write from the start.
    pub offset: u64,
    /// The boot of the machine during which it began.
    pub boot: u64,
}

/// The disk of a simulated machine.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its size in bytes.
    pub size: u64,
    /// What a complete write left; `None` when it is empty or a write broke off.
    pub written: Option<Written>,
    /// Whether it has a partition table: a mark that an erased disk has lost.
    pub partition_table: bool,
    /// Whether anything but zeros lies behind the partition table: erasing metadata leaves it.
    pub content: bool,
    /// Complete writes in its life.
    pub writes: u64,
    /// The beginnings of writes in its life, the latest of them when there were very many.
    pub starts: Vec<WriteStart>,
    /// Complete erasures of its metadata in its life.
    pub metadata_erased: u64,
    /// Complete erasures of all of it in its life.
    pub erased: u64,
    /// Times that somebody began to write while somebody else did. Always 0 unless a conductor errs.
    pub violations: u64,
    /// Times that an agent had to refuse a second write because one was under way.
    pub refused_writers: u64,
    /// What was written over iSCSI, byte by byte; an agent's write leaves nothing there.
    pub contents: Arc<Store>,
    /// Sessions that were logged in still when a ramdisk took its target back, or lost its power after it was written.
    pub abandoned_sessions: u64,
    writers: Vec<u64>,
    next_writer: u64,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self::sharing(size, Arc::default())
    }

    /// The same, keeping once what other disks of `pool` hold too.
    #[must_use]
    pub fn sharing(size: u64, pool: Arc<Pool>) -> Self {
        Self {
            size,
            written: None,
            partition_table: false,
            content: false,
            writes: 0,
            starts: Vec::new(),
            metadata_erased: 0,
            erased: 0,
            violations: 0,
            refused_writers: 0,
            contents: Arc::new(Store::sharing(size, pool)),
            abandoned_sessions: 0,
            writers: Vec::new(),
            next_writer: 0,
        }
    }

    /// Whether a machine boots from it.
    #[must_use]
    pub fn is_bootable(&self) -> bool {
        self.written
            .as_ref()
            .is_some_and(|written| written.partitions.as_ref().is_none_or(|made| made.boot_loader))
    }

    /// Writes that began with the image's first byte.
    #[must_use]
    pub fn writes_from_zero(&self) -> usize {
        self.starts.iter().filter(|start| start.offset == 0).count()
    }

    /// A write begins.
    pub(crate) fn begins(&mut self, start: WriteStart) {
        if self.starts.len() >= MOST_STARTS {
            self.starts.drain(..MOST_STARTS / 2);
        }
        self.starts.push(start);
    }

    /// Somebody begins to write; answers who, for [`Disk::writer_ends`].
    pub(crate) fn writer_begins(&mut self) -> u64 {
        if !self.writers.is_empty() {
            self.violations += 1;
        }
        self.next_writer += 1;
        self.writers.push(self.next_writer);
        self.next_writer
    }

    pub(crate) fn writer_ends(&mut self, who: u64) {
        self.writers.retain(|writer| *writer != who);
    }

    /// The power is gone: nobody writes any more.
    pub(crate) fn power_lost(&mut self) {
        self.writers.clear();
    }

    /// The partition table is overwritten: nothing boots from it, most of the content lies there still.
    pub(crate) fn erase_metadata(&mut self) {
        self.written = None;
        self.partition_table = false;
        let ends = EDGE.min(self.size);
        self.contents.zero(0, ends);
        self.contents.zero(self.size - ends, ends);
    }

    /// A ramdisk's target for this disk is gone. What was written through it counts when it was all flushed and the
    /// last session was left in order.
    pub(crate) fn target_ended(&mut self, iqn: &str, boot: u64, seen: &TargetStats, in_order: bool) {
        if seen.most_logged_in > 1 {
            self.violations += 1;
        }
        if in_order || seen.logouts > 0 {
            self.abandoned_sessions += seen.logged_in;
        }
        if seen.written + seen.zeroed == 0 {
            return;
        }
        let url = format!("iscsi:{iqn}");
        (self.written, self.partition_table, self.content) = (None, true, true);
        self.begins(WriteStart { url: url.clone(), offset: 0, boot });
        if seen.unflushed || seen.logged_in > 0 {
            return;
        }
        let bytes = self.contents.written_from_zero();
        let sha256 = self.contents.sha256(0, bytes);
        self.written = Some(Written { url, bytes, sha256, configdrive: false, partitions: None });
        self.writes += 1;
    }

    /// Everything is overwritten.
    pub(crate) fn erase(&mut self) {
        self.erase_metadata();
        self.contents.clear();
        self.content = false;
    }
}

/// Hashes an image while it comes in: always sha256, and what the image declares when that is something else.
pub(crate) struct Digests {
    sha256: sha2::Sha256,
    sha512: Option<sha2::Sha512>,
    md5: Option<md5::Md5>,
    declared: Option<(String, String)>,
}

impl Digests {
    pub(crate) fn new(declared: Option<(String, String)>) -> Self {
        let is = |name: &str| declared.as_ref().is_some_and(|(algorithm, _)| algorithm == name);
        Self {
            sha256: sha2::Sha256::new(),
            sha512: is("sha512").then(sha2::Sha512::new),
            md5: is("md5").then(md5::Md5::new),
            declared,
        }
    }

    /// What is to be known of an image whose bytes are here.
    pub(crate) fn all_of(content: &[u8]) -> Known {
        let digests = [
            ("sha256", sha256_hex(content)),
            ("sha512", hex(&sha2::Sha512::digest(content))),
            ("md5", hex(&md5::Md5::digest(content))),
        ];
        let digests = digests.into_iter().map(|(name, digest)| (name.to_owned(), digest)).collect();
        Known { bytes: content.len() as u64, tag: None, digests }
    }

    /// Nothing was hashed: the image is one that is known, or was when it had been `damaged` on its way.
    pub(crate) fn counted(declared: Option<(String, String)>, known: &Known, damaged: bool) -> Checked {
        let of = |name: &str| {
            let digest = known.digests.get(name)?;
            Some(if damaged { sha256_hex(digest.as_bytes()) } else { digest.clone() })
        };
        let sha256 = of("sha256").unwrap_or_default();
        let Some((algorithm, expected)) = declared else { return Ok((sha256, None)) };
        check(sha256, &algorithm, of(&algorithm), &expected)
    }

    pub(crate) fn update(&mut self, chunk: &[u8]) {
        self.sha256.update(chunk);
        if let Some(hash) = &mut self.sha512 {
            hash.update(chunk);
        }
        if let Some(hash) = &mut self.md5 {
            hash.update(chunk);
        }
    }

    /// The sha256, and the declared hash; or the kind of error and its words when it is another.
    pub(crate) fn finish(self) -> Checked {
        let sha256 = hex(&self.sha256.finalize());
        let Some((algorithm, expected)) = self.declared else { return Ok((sha256, None)) };
        let actual = match (algorithm.as_str(), self.sha512, self.md5) {
            ("sha256", _, _) => Some(sha256.clone()),
            (_, Some(hash), _) => Some(hex(&hash.finalize())),
            (_, _, Some(hash)) => Some(hex(&hash.finalize())),
            (_, None, None) => None,
        };
        check(sha256, &algorithm, actual, &expected)
    }
}

/// The sha256 and, where one was declared, algorithm and hash; or the kind of error and its words.
type Checked = Result<(String, Option<(String, String)>), (&'static str, String)>;

fn check(sha256: String, algorithm: &str, actual: Option<String>, expected: &str) -> Checked {
    match actual {
        None => Err((error_type::CHECKSUM, format!("checksum algorithm {algorithm} is not known here"))),
        Some(actual) if actual.eq_ignore_ascii_case(expected) => {
            Ok((sha256, Some((algorithm.to_owned(), actual))))
        }
        Some(actual) => Err((
            error_type::CHECKSUM,
            format!("{algorithm} of the image is {actual}, declared was {expected}"),
        )),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sha256 of `content`, hex, as an image's checksum is written.
pub fn sha256_hex(content: &[u8]) -> String {
    hex(&sha2::Sha256::digest(content))
}
