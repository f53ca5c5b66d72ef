//! Programs of this machine's Debian that the agent calls (file systems, software RAID) or that a rescued machine's
//! tenant is glad of, with the shared libraries that they load.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::RamdiskError;

/// (program, Debian's package).
const TOOLS: &[(&str, &str)] = &[
    ("mkfs.ext2", "e2fsprogs"),
    ("mkfs.ext3", "e2fsprogs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("resize2fs", "e2fsprogs"),
    ("tune2fs", "e2fsprogs"),
    ("mkfs.vfat", "dosfstools"),
    ("fsck.vfat", "dosfstools"),
    ("blkid", "util-linux"),
    ("lsblk", "util-linux"),
    ("sfdisk", "fdisk"),
    ("mkfs.xfs", "xfsprogs"),
    ("xfs_repair", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mdadm", "mdadm"),
    ("dropbear", "dropbear-bin"),
];

/// Settings that go with them.
const SETTINGS: &[&str] = &["/etc/mke2fs.conf"];

/// Where Debian keeps programs.
const FOLDERS: &[&str] = &["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tools {
    /// Programs by name.
    pub(super) programs: Vec<(&'static str, PathBuf)>,
    /// Libraries, the loader and settings, to lie where they lie here.
    pub(super) files: BTreeSet<PathBuf>,
    /// What is not installed: `mdadm (mdadm)`.
    pub(super) left_out: Vec<String>,
}

/// Looks for all of them. Errors: `ldd` is missing.
pub(super) fn find() -> Result<Tools, RamdiskError> {
    let mut tools = Tools::default();
    for (name, package) in TOOLS {
        let found = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
        // a broken installation is as good as none
        match found.map(|path| Ok((libraries(&path)?, path))).transpose()? {
            Some((Some(libraries), path)) => {
                tools.files.extend(libraries);
                tools.programs.push((name, path));
            }
            Some((None, _)) | None => tools.left_out.push(format!("{name} ({package})")),
        }
    }
    tools.files.extend(SETTINGS.iter().map(PathBuf::from).filter(|path| path.exists()));
    Ok(tools)
}

/// What the loader would load for a program; nothing for a static one, None when something is missing.
fn libraries(program: &Path) -> Result<Option<Vec<PathBuf>>, RamdiskError> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output();
    let output = output.map_err(|_| RamdiskError::Tool { tool: "ldd", package: "libc-bin" })?;
    let text = String::from_utf8_lossy(&output.stdout);
    // ldd says so, and fails, for a static program
    if !output.status.success() {
        return Ok(super::is_static(program).then(Vec::new));
    }
    Ok(loaded(&text))
}

/// The paths in what `ldd` says: `name => /path (address)`, or `/path (address)` for the loader.
fn loaded(text: &str) -> Option<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in text.lines() {
        let target = line.split_once("=>").map_or(line, |(_, target)| target).trim();
        if target.starts_with("not found") {
            return None;
        }
        let path = target.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            paths.push(PathBuf::from(path));
        }
    }
    Some(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_s_words_are_understood() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x2)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x3)\n\tstatically linked\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(loaded(text).expect("complete"), expected);
        assert_eq!(loaded("\tlibx.so => not found\n"), None);
    }

    #[test]
    fn programs_come_with_their_loader_and_missing_ones_are_named() {
        let tools = find().expect("ldd is there");
        assert_eq!(tools.programs.len() + tools.left_out.len(), TOOLS.len());
        let (_, path) = tools.programs.iter().find(|(name, _)| *name == "blkid").expect("util-linux");
        let needed = libraries(path).expect("ldd").expect("complete");
        assert!(needed.iter().any(|file| file.to_string_lossy().contains("ld-linux")), "{needed:?}");
        assert!(needed.iter().all(|file| tools.files.contains(file)));
        assert_eq!(libraries(Path::new("/bin/busybox")).expect("ldd"), Some(Vec::new()));
    }
}
