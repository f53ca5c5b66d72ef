//! Mounting and running commands inside the image, through a trait so that tests need no root and no devices.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::tool;
use crate::error::Failure;

/// How long a command inside the image may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(600);

/// How often a busy mount point is tried before it is detached.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A device with its file system.
    Device(PathBuf, &'static str),
    /// A folder of the ramdisk, with everything mounted below it.
    Bind(PathBuf),
    /// A new, empty file system in memory.
    Memory,
}

/// What mounting and running is done with.
pub(crate) trait Host {
    /// Mounts. Errors: I/O of the kernel's mount.
    fn mount(&mut self, what: &What, at: &Path) -> io::Result<()>;
    /// Unmounts.
    fn unmount(&mut self, at: &Path) -> io::Result<()>;
    /// Runs a command with `root` as its root folder; its output. Errors: `Boot` with the end of its output.
    fn run(&mut self, root: &Path, command: &[&str]) -> Result<String, Failure>;
}

/// The machine itself.
pub(crate) struct Machine;

impl Host for Machine {
    fn mount(&mut self, what: &What, at: &Path) -> io::Result<()> {
        let none = None::<&str>;
        match what {
            What::Device(device, kind) => {
                load_driver(kind);
                mount(Some(device), at, Some(*kind), MsFlags::empty(), none)?;
            }
            What::Bind(folder) => {
                mount(Some(folder), at, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
                // what is unmounted below it must stay mounted in the ramdisk
                mount(none, at, none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
            }
            What::Memory => mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), none)?,
        }
        Ok(())
    }

    fn unmount(&mut self, at: &Path) -> io::Result<()> {
        nix::unistd::sync();
        for _ in 0..BUSY_TRIES {
            match umount2(at, MntFlags::empty()) {
                Err(nix::errno::Errno::EBUSY) => std::thread::sleep(BUSY_PAUSE),
                done => return Ok(done?),
            }
        }
        tracing::warn!(at = %at.display(), "still busy: detached");
        Ok(umount2(at, MntFlags::MNT_DETACH)?)
    }

    fn run(&mut self, root: &Path, command: &[&str]) -> Result<String, Failure> {
        let chroot = tool::find_applet("chroot")
            .ok_or_else(|| Failure::Unsupported("this ramdisk has no chroot".to_owned()))?;
        let mut process = Command::from(chroot);
        process
            .arg(root)
            .args(command)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            // other systems on other disks are none of this image's business
            .env("GRUB_DISABLE_OS_PROBER", "true")
            .env("GRUB_SAVEDEFAULT", "true");
        tool::run(process, &command.join(" "), COMMAND_LIMIT)
    }
}

/// Loads a file system's driver; one that is built in needs none, one that is missing shows when mounting.
fn load_driver(kind: &str) {
    let Some(modprobe) = tool::find_applet("modprobe") else { return };
    let mut command = Command::from(modprobe);
    command.args(["-a", "-b", "-q", kind]);
    if kind == "vfat" {
        command.args(["nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8"]);
    }
    // modprobe also fails for what is built in
    let _ = tool::run(command, "modprobe", Duration::from_secs(60));
}

/// Everything that is mounted, unmounted in reverse order when this goes.
pub(crate) struct Mounts<'a> {
    host: &'a mut dyn Host,
    points: Vec<PathBuf>,
}

impl<'a> Mounts<'a> {
    pub(crate) fn new(host: &'a mut dyn Host) -> Self {
        Self { host, points: Vec::new() }
    }

    /// Mounts; the folder is made if it is missing.
    pub(crate) fn add(&mut self, what: What, at: &Path) -> Result<(), Failure> {
        let place = || format!("mounting {what:?} at {}", at.display());
        std::fs::create_dir_all(at).map_err(Failure::io(place()))?;
        self.host.mount(&what, at).map_err(Failure::io(place()))?;
        self.points.push(at.to_owned());
        Ok(())
    }

    pub(crate) fn run(&mut self, root: &Path, command: &[&str]) -> Result<String, Failure> {
        self.host.run(root, command)
    }

    /// Unmounts everything. Errors: the first that failed; the others are tried all the same.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        self.unmount_all()
    }

    fn unmount_all(&mut self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        while let Some(point) = self.points.pop() {
            if let Err(error) = self.host.unmount(&point) {
                tracing::warn!(at = %point.display(), %error, "unmounting");
                let failure = Failure::io(format!("unmounting {}", point.display()))(error);
                outcome = outcome.and(Err(failure));
            }
        }
        outcome
    }
}

impl Drop for Mounts<'_> {
    fn drop(&mut self) {
        // another failure is on its way to the conductor; this one is in the log
        let _ = self.unmount_all();
    }
}
