//! Opening files for strangers: never outside the root, whatever the name and whatever the links.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

/// With `..` in a link and a folder that is moved meanwhile, the kernel asks for another try.
const TRIES: usize = 8;

/// A folder whose files may be read by anybody on the network.
#[derive(Debug)]
pub(crate) struct Jail {
    root: File,
    /// Where the root really is, when the kernel will not keep clients inside.
    checked: Option<PathBuf>,
}

impl Jail {
    /// Opens the root folder.
    pub(crate) fn new(root: &Path) -> io::Result<Jail> {
        let root_file = File::open(root)?;
        if !root_file.metadata()?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder"));
        }
        // containers' filters of system calls know openat2 or refuse it: now is the time to find out, not when every
        // file is refused
        let checked = match beneath(&root_file, Path::new("."), OFlag::O_PATH) {
            Err(refused @ (Errno::ENOSYS | Errno::EPERM)) => {
                tracing::warn!(
                    root = %root.display(), error = %refused,
                    "this kernel or a filter of system calls (seccomp) refuses openat2: boot files are opened with a check of \
                     where they are; use Linux 5.6 or a container runtime that permits openat2"
                );
                Some(really(&root_file)?)
            }
            Ok(_) | Err(_) => None,
        };
        Ok(Jail { root: root_file, checked })
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
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let opened = match &self.checked {
            None => (1..TRIES).fold(beneath(&self.root, &relative, flags), |opened, _| match opened {
                Err(Errno::EAGAIN) => beneath(&self.root, &relative, flags),
                other => other,
            }),
            Some(root) => return self.open_checked(&relative, root),
        };
        regular(File::from(opened.map_err(refusal)?))
    }

    /// Without the kernel's help: a descriptor that only points at the file cannot be led elsewhere any more, so the
    /// kernel is asked where it is, and what is inside is opened through it.
    fn open_checked(&self, relative: &Path, root: &Path) -> io::Result<(File, Metadata)> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let found = File::from(openat(&self.root, relative, flags, Mode::empty()).map_err(refusal)?);
        if !really(&found)?.starts_with(root) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        regular(found).and_then(|(found, _)| regular(File::open(own(&found))?))
    }
}

fn beneath(root: &File, relative: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, relative, how)
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
fn refusal(error: Errno) -> io::Error {
    match error {
        Errno::EXDEV | Errno::ELOOP => io::ErrorKind::PermissionDenied.into(),
        other => other.into(),
    }
}

fn regular(file: File) -> io::Result<(File, Metadata)> {
    let about = file.metadata()?;
    if about.is_file() { Ok((file, about)) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// The name of an open file in /proc.
fn own(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Where an open file is.
fn really(file: &File) -> io::Result<PathBuf> {
    std::fs::read_link(own(file))
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
        let by_kernel = Jail::new(&root).unwrap();
        assert!(by_kernel.checked.is_none(), "this kernel has openat2");
        let checked = Some(root.canonicalize().unwrap());
        for jail in [by_kernel, Jail { root: File::open(&root).unwrap(), checked }] {
            keeps(&jail);
        }
    }

    fn keeps(jail: &Jail) {
        for good in ["sub/file", "/sub/file", "//sub/./file", "in", "sub/dir/up-but-in"] {
            let (file, about) = jail.open(good).unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!((io::read_to_string(file).unwrap().as_str(), about.len()), ("f", 1), "{good}");
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
