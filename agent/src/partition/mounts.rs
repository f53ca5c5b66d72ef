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
    /// A device with its file system, programs of which may be run.
    Device(PathBuf, &'static str),
    /// A device with its file system, nothing of which is run.
    Data(PathBuf, &'static str),
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
                // the devices that the image's programs may use are the ramdisk's, bound over these
                mount(Some(device), at, Some(*kind), HARMLESS, none)?;
            }
            What::Data(device, kind) => {
                load_driver(kind);
                mount(Some(device), at, Some(*kind), HARMLESS | MsFlags::MS_NOEXEC, none)?;
            }
            What::Bind(folder) => {
                mount(Some(folder), at, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
                // what is unmounted below it must stay mounted in the ramdisk
                mount(none, at, none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
            }
            What::Memory => mount(Some("tmpfs"), at, Some("tmpfs"), HARMLESS, Some("mode=0755"))?,
        }
        Ok(())
    }

    fn unmount(&mut self, at: &Path) -> io::Result<()> {
        nix::unistd::sync();
        // what came along with a folder, and whatever the image's programs have mounted
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
        for point in below(&table, at).iter().rev() {
            unmount(point)?;
        }
        unmount(at)
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

/// What an image brings as devices and set-user-id programs is of no use here.
const HARMLESS: MsFlags = MsFlags::MS_NODEV.union(MsFlags::MS_NOSUID);

/// The mount points below a folder, in the order of their mounting: proc_pid_mountinfo(5), fifth field.
fn below(table: &str, folder: &Path) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(folder) && point != folder).collect()
}

/// Unmounts one. What stays busy is detached, which is an error all the same: something still works on the disk.
fn unmount(at: &Path) -> io::Result<()> {
    for _ in 0..BUSY_TRIES {
        match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
            Err(nix::errno::Errno::EBUSY) => std::thread::sleep(BUSY_PAUSE),
            done => return Ok(done?),
        }
    }
    umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    Err(io::Error::other("still busy, only detached"))
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

    /// Mounts in an image's tree. Links in the way are not followed: they may lead out of the image.
    pub(crate) fn add_inside(&mut self, what: What, tree: &Path, name: &str) -> Result<(), Failure> {
        let mut at = tree.to_owned();
        for part in Path::new(name) {
            at.push(part);
            match at.symlink_metadata() {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => {
                    return Err(Failure::Boot(format!("the image's /{name} is no folder to mount at")));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    std::fs::create_dir(&at).map_err(Failure::io(format!("making {}", at.display())))?;
                }
                Err(error) => return Err(Failure::io(format!("looking at {}", at.display()))(error)),
            }
        }
        self.add(what, &at)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_folder_are_found_and_no_others() {
        let table = "1 0 0:1 / / rw - rootfs none rw\n\
                     2 1 0:2 / /run/root rw - ext4 vda1 rw\n\
                     3 2 0:3 / /run/root/dev rw - devtmpfs dev rw\n\
                     4 3 0:4 / /run/root/dev/pts rw - devpts devpts rw\n\
                     5 1 0:5 / /run/root2 rw - tmpfs none rw\n";
        assert_eq!(below(table, Path::new("/run/root/dev")), [Path::new("/run/root/dev/pts")]);
        assert_eq!(below(table, Path::new("/run/root")).len(), 2);
    }

    #[test]
    fn a_bound_folder_goes_with_all_below_it_and_stays_where_it_came_from() {
        use nix::sched::{CloneFlags, unshare};
        // mounts of this thread only; without the right to that there is nothing to see here
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            return;
        }
        // first cut off from the machine's own, then as in a ramdisk that shares
        for kind in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
            mount(None::<&str>, "/", None::<&str>, kind | MsFlags::MS_REC, None::<&str>).expect("ours");
        }
        let base = tempfile::tempdir().expect("temp dir");
        let (tree, dev) = (base.path().join("tree"), base.path().join("dev"));
        let (mut outer, mut inner) = (Machine, Machine);
        let mut ours = Mounts::new(&mut outer);
        ours.add(What::Memory, &dev).expect("mounted");
        ours.add(What::Memory, &dev.join("pts")).expect("mounted");
        let mut mounts = Mounts::new(&mut inner);
        mounts.add(What::Memory, &tree).expect("mounted");
        mounts.add_inside(What::Bind(dev.clone()), &tree, "dev").expect("mounted");
        let seen = |folder: &Path| {
            below(&std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts"), folder).len()
        };
        assert_eq!((seen(&tree), seen(&dev)), (2, 1));
        let held = std::fs::File::create(tree.join("held")).expect("a file in use");
        let busy = mounts.close().expect_err("somebody works on it").to_string();
        assert!(busy.contains("tree"), "{busy}");
        drop(held);
        assert_eq!((seen(base.path()), seen(&dev)), (2, 1), "the ramdisk keeps its own");
        ours.close().expect("unmounted");
        assert_eq!(seen(base.path()), 0);
    }
}
