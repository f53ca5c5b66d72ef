//! Which file system starts at a place, and its UUID, from superblocks alone.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::Failure;
use crate::table::Span;

/// Kinds that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// FAT12, FAT16 or FAT32.
    Vfat,
    /// Swap space.
    Swap,
}

impl Kind {
    /// The name that `mount` takes; ext4's driver reads all of its family.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Swap => "swap",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which kind.
    pub kind: Kind,
    /// Its UUID as `blkid` writes it: lower case with dashes, for FAT `ABCD-1234`.
    pub uuid: String,
    /// Its label, empty if none.
    pub label: String,
}

/// Page sizes of the machines on which swap may have been made.
const PAGES: [usize; 4] = [4096, 8192, 16384, 65536];

/// Btrfs's superblock.
const BTRFS_AT: usize = 0x1_0000;

/// What starts at the span; None when nothing known does. Errors: I/O.
pub fn probe(file: &File, span: Span) -> Result<Option<Found>, Failure> {
    let len = span.len.min(BTRFS_AT as u64 + 4096) as usize;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, span.at).map_err(Failure::io("looking for a file system"))?;
    Ok(recognise(&bytes))
}

fn recognise(bytes: &[u8]) -> Option<Found> {
    let at = |place: usize, len: usize| bytes.get(place..place + len);
    let is = |place: usize, magic: &[u8]| at(place, magic.len()) == Some(magic);
    let found = |kind: Kind, uuid: usize, label: usize, label_len: usize| {
        let raw: [u8; 16] = at(uuid, 16)?.try_into().ok()?;
        Some(Found {
            kind,
            uuid: uuid::Uuid::from_bytes(raw).to_string(),
            label: text(at(label, label_len)?),
        })
    };
    if is(1024 + 56, &[0x53, 0xef]) {
        return found(Kind::Ext, 1024 + 104, 1024 + 120, 16);
    }
    if is(0, b"XFSB") {
        return found(Kind::Xfs, 32, 108, 12);
    }
    if is(BTRFS_AT + 0x40, b"_BHRfS_M") {
        return found(Kind::Btrfs, BTRFS_AT + 0x20, BTRFS_AT + 0x12b, 256);
    }
    if PAGES.iter().any(|page| is(page - 10, b"SWAPSPACE2")) {
        return found(Kind::Swap, 1024 + 12, 1024 + 28, 16);
    }
    let fat = match (is(82, b"FAT32   "), is(54, b"FAT1")) {
        (true, _) => Some((67, 71)),
        (false, true) => Some((39, 43)),
        (false, false) => None,
    };
    let (serial, label) = fat.filter(|_| is(510, &[0x55, 0xaa]))?;
    let number = u32::from_le_bytes(at(serial, 4)?.try_into().ok()?);
    let label = text(at(label, 11)?);
    Some(Found {
        kind: Kind::Vfat,
        uuid: format!("{:04X}-{:04X}", number >> 16, number & 0xffff),
        label: if label == "NO NAME" { String::new() } else { label },
    })
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const UUID: &str = "0c1f3d5e-7a9b-4c2d-8e4f-123456789abc";

    /// Makes one at 1 MiB within a file; None when the tool is not installed.
    fn made(tool: &str, arguments: &[&str]) -> Option<Found> {
        let folder = tempfile::tempdir().expect("temp dir");
        let plain = folder.path().join("plain");
        let size = 320 << 20;
        File::create(&plain).and_then(|file| file.set_len(size)).expect("sparse");
        let path = format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default());
        let done = Command::new(tool).args(arguments).arg(&plain).env("PATH", path).output().ok()?;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let moved = File::options().create_new(true).read(true).write(true).open(folder.path().join("moved"));
        let moved = moved.expect("file");
        let mut head = vec![0; 1 << 20];
        File::open(&plain).expect("made").read_exact_at(&mut head, 0).expect("read");
        moved.write_all_at(&head, 1 << 20).expect("moved");
        moved.set_len(size + (1 << 20)).expect("sparse");
        assert_eq!(probe(&moved, Span { at: 0, len: 1 << 20 }).expect("read"), None, "nothing before it");
        probe(&moved, Span { at: 1 << 20, len: size }).expect("read")
    }

    #[test]
    fn what_the_usual_tools_make_is_recognised_with_its_uuid_and_label() {
        let found = |kind, uuid: &str| Some(Found { kind, uuid: uuid.into(), label: "lab".into() });
        for tool in ["mkfs.ext2", "mkfs.ext3", "mkfs.ext4"] {
            assert_eq!(made(tool, &["-q", "-F", "-L", "lab", "-U", UUID]), found(Kind::Ext, UUID), "{tool}");
        }
        assert_eq!(made("mkswap", &["-q", "-L", "lab", "-U", UUID]), found(Kind::Swap, UUID));
        for bits in ["16", "32"] {
            let fat = made("mkfs.vfat", &["-F", bits, "-n", "lab", "-i", "abcd1234"]);
            assert_eq!(fat, found(Kind::Vfat, "ABCD-1234"), "FAT{bits}");
        }
        // not on every machine; their superblocks are tested by hand below
        let xfs = made("mkfs.xfs", &["-q", "-f", "-L", "lab", "-m", &format!("uuid={UUID}")]);
        assert!(xfs.is_none() || xfs == found(Kind::Xfs, UUID), "{xfs:?}");
        let btrfs = made("mkfs.btrfs", &["-q", "-f", "-L", "lab", "-U", UUID]);
        assert!(btrfs.is_none() || btrfs == found(Kind::Btrfs, UUID), "{btrfs:?}");
    }

    #[test]
    fn xfs_and_btrfs_are_known_by_their_documented_fields_and_rubbish_is_not() {
        let raw = *uuid::Uuid::parse_str(UUID).expect("uuid").as_bytes();
        let mut xfs = vec![0; 4096];
        xfs[..4].copy_from_slice(b"XFSB");
        xfs[32..48].copy_from_slice(&raw);
        assert_eq!(recognise(&xfs).map(|f| (f.kind, f.uuid)), Some((Kind::Xfs, UUID.into())));
        let mut btrfs = vec![0; BTRFS_AT + 4096];
        btrfs[BTRFS_AT + 0x40..BTRFS_AT + 0x48].copy_from_slice(b"_BHRfS_M");
        btrfs[BTRFS_AT + 0x20..BTRFS_AT + 0x30].copy_from_slice(&raw);
        assert_eq!(recognise(&btrfs).map(|f| (f.kind, f.uuid)), Some((Kind::Btrfs, UUID.into())));
        for rubbish in [vec![], vec![0xff; 600], b"XFSB".to_vec(), vec![0x53; 70_000]] {
            assert_eq!(recognise(&rubbish), None);
        }
    }
}
