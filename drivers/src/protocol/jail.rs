//! Opening files for strangers: never outside the root, whatever the name and whatever the links.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// A folder whose files may be read by anybody on the network.
#[derive(Debug)]
pub(crate) struct Jail {
    root: File,
}

impl Jail {
    /// Opens the root folder.
    pub(crate) fn new(root: &Path) -> io::Result<Jail> {
        let root_file = File::open(root)?;
        if !root_file.metadata()?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder"));
        }
        Ok(Jail { root: root_file })
    }

    /// Opens a regular file below the root, and tells what it is. Leading slashes mean the root. The kernel resolves the name
    /// (`RESOLVE_BENEATH`), so that neither `..` nor a symbolic link leaves, not even one that is being
    /// changed meanwhile.
    ///
    /// Errors: `NotFound`, also for folders and devices; `PermissionDenied` for an attempt to leave.
    #[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
    pub(crate) fn open(&self, name: &str) -> io::Result<(File, Metadata)> {
        let relative = relative(name).ok_or(io::ErrorKind::PermissionDenied)?;
        // O_NONBLOCK: opening a pipe must not wait for a writer
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let opened = openat2(&self.root, &relative, how).map_err(|error| match error {
            Errno::EXDEV | Errno::ELOOP => io::Error::from(io::ErrorKind::PermissionDenied),
            other => io::Error::from(other),
        })?;
        let file = File::from(opened);
        let about = file.metadata()?;
        if about.is_file() { Ok((file, about)) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// `name` without leading slashes; `None` when it holds `..` or a NUL.
fn relative(name: &str) -> Option<PathBuf> {
    let path = Path::new(name.trim_start_matches('/'));
    let tame = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    (tame && !name.is_empty() && !name.contains('\0')).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_outside_the_root_can_be_opened() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("sub/dir")).unwrap();
        std::fs::write(outer.path().join("secret"), "s").unwrap();
        std::fs::write(root.join("sub/file"), "f").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("..", root.join("folder-out")).unwrap();
        symlink("sub/file", root.join("in")).unwrap();
        symlink("../file", root.join("sub/dir/up-but-in")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let jail = Jail::new(&root).unwrap();
        for good in ["sub/file", "/sub/file", "//sub/./file", "in", "sub/dir/up-but-in"] {
            assert!(jail.open(good).is_ok(), "{good}");
        }
        for bad in ["../secret", "sub/../../secret", "out", "absolute", "folder-out/secret", "loop", "a\0b"] {
            let error = jail.open(bad).unwrap_err();
            assert_ne!(error.kind(), io::ErrorKind::Other, "{bad}: {error}");
        }
        for absent in ["", "sub", "/etc/passwd", "nothing"] {
            assert!(jail.open(absent).is_err(), "{absent}");
        }
    }
}
