//! A cpio archive as the kernel unpacks it: "newc", documented in Linux' Documentation/driver-api/early-userspace.

use std::collections::BTreeMap;

/// Files and folders by path, without a leading slash.
#[derive(Default)]
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    mode: u32,
    content: Vec<u8>,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

impl Archive {
    /// Adds a folder that everybody may read.
    pub(super) fn folder(&mut self, path: &str) {
        self.entries.insert(path.to_owned(), Entry { mode: FOLDER | 0o755, content: Vec::new() });
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, permissions: u32, content: Vec<u8>) {
        self.entries.insert(path.to_owned(), Entry { mode: FILE | permissions, content });
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.entries.insert(path.to_owned(), Entry { mode: LINK | 0o777, content: target.into() });
    }

    /// Adds the folders above a path that are not there yet.
    pub(super) fn folders_above(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            if !self.entries.contains_key(&path[..at]) {
                self.folder(&path[..at]);
            }
        }
    }

    /// The archive: sorted by path (folders before what is in them), owned by root, dated 1970.
    pub(super) fn finish(self) -> Vec<u8> {
        let size: usize = self.entries.values().map(|entry| entry.content.len() + 256).sum();
        let mut bytes = Vec::with_capacity(size);
        for (number, (path, entry)) in self.entries.iter().enumerate() {
            write(&mut bytes, number as u32 + 1, path, entry.mode, &entry.content);
        }
        write(&mut bytes, 0, "TRAILER!!!", 0, &[]);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

fn write(bytes: &mut Vec<u8>, inode: u32, path: &str, mode: u32, content: &[u8]) {
    let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
    let length = u32::try_from(content.len()).expect("files of a ramdisk are far below 4 GiB");
    // inode, mode, uid, gid, links, time, length, device ×2, special device ×2, length of the name, checksum
    let fields = [inode, mode, 0, 0, links, 0, length, 0, 0, 0, 0, path.len() as u32 + 1, 0];
    bytes.extend_from_slice(b"070701");
    for field in fields {
        bytes.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    bytes.extend_from_slice(path.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
