//! The files of one node below a root, written so that a loader or a crash never meets half of one.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferric_machine::BootMode;
use uuid::Uuid;

use super::{BootVia, Mac, PortIndex, PxeSettings};
use crate::DriverError;

/// Which of a node's ports have links, a line each. Written first, removed last.
const MACS: &str = "macs";
const CONFIG: &str = "config";

/// A node's place below the TFTP or HTTP root.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) node: Uuid,
    pub(super) via: BootVia,
}

impl Folder {
    pub(super) fn path(&self) -> PathBuf {
        self.root.join(self.node.to_string())
    }

    /// Creates the folder.
    pub(super) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(self.path())
    }

    /// Writes the configuration and the links that lead to it from each port.
    pub(super) fn publish(&self, macs: &[Mac], mode: BootMode, config: &str) -> io::Result<()> {
        let before = self.macs()?;
        let gone: Vec<Mac> = before.into_iter().filter(|mac| !macs.contains(mac)).collect();
        self.unlink(&gone)?;
        let list: String = macs.iter().map(|mac| format!("{mac}\n")).collect();
        write(&self.path().join(MACS), list.as_bytes())?;
        write(&self.path().join(CONFIG), config.as_bytes())?;
        for mac in macs {
            for link in self.links(*mac) {
                if self.wanted(&link, mode) { self.link(&link)? } else { remove(&self.root.join(&link))? }
            }
        }
        Ok(())
    }

    /// The ports that have links.
    pub(super) fn macs(&self) -> io::Result<Vec<Mac>> {
        match fs::read_to_string(self.path().join(MACS)) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Takes everything away.
    pub(super) fn remove(&self, macs: &[Mac]) -> io::Result<()> {
        self.unlink(&self.macs()?)?;
        self.unlink(macs)?;
        match fs::remove_dir_all(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Names below the root by which loaders look for a port's configuration.
    fn links(&self, mac: Mac) -> Vec<String> {
        let dashed = mac.dashed();
        match self.via {
            BootVia::Ipxe => vec![format!("pxelinux.cfg/{dashed}")],
            BootVia::Pxe => vec![
                format!("pxelinux.cfg/01-{dashed}"),
                format!("grub.cfg-01-{dashed}"),
                format!("grub/grub.cfg-01-{dashed}"),
                format!("{mac}.conf"),
            ],
        }
    }

    fn wanted(&self, link: &str, mode: BootMode) -> bool {
        match (self.via, mode) {
            (BootVia::Ipxe, BootMode::Bios | BootMode::Uefi) => true,
            (BootVia::Pxe, BootMode::Bios) => link.starts_with("pxelinux.cfg/"),
            (BootVia::Pxe, BootMode::Uefi) => !link.starts_with("pxelinux.cfg/"),
        }
    }

    fn link(&self, name: &str) -> io::Result<()> {
        let at = self.root.join(name);
        let up = if name.contains('/') { "../" } else { "" };
        let target = PathBuf::from(format!("{up}{}/{CONFIG}", self.node));
        if fs::read_link(&at).is_ok_and(|now| now == target) {
            return Ok(());
        }
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent)?;
        }
        let temporary = temporary(&at);
        remove(&temporary)?;
        symlink(target, &temporary)?;
        fs::rename(&temporary, &at)
    }

    /// Removes the links of these ports, unless another node has them meanwhile.
    fn unlink(&self, macs: &[Mac]) -> io::Result<()> {
        let ours = format!("{}/{CONFIG}", self.node);
        for link in macs.iter().flat_map(|mac| self.links(*mac)) {
            let at = self.root.join(link);
            if fs::read_link(&at).is_ok_and(|target| target.to_string_lossy().ends_with(&ours)) {
                remove(&at)?;
            }
        }
        Ok(())
    }
}

/// Tells the index for which ports files are laid out: once at the start, before DHCP answers.
///
/// # Errors
/// `Io` when a root exists and cannot be read.
pub async fn rebuild_index(settings: &PxeSettings, ports: &Arc<PortIndex>) -> Result<(), DriverError> {
    let roots = [(settings.tftp_root.clone(), BootVia::Pxe), (settings.http_root.clone(), BootVia::Ipxe)];
    let ports = ports.clone();
    blocking(move || {
        for (root, via) in roots {
            read_root(&root, via, &ports).map_err(|error| io_error(&root, &error))?;
        }
        Ok(())
    })
    .await
}

fn read_root(root: &Path, via: BootVia, ports: &PortIndex) -> io::Result<()> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let Ok(node) = entry?.file_name().to_string_lossy().parse() else { continue };
        let folder = Folder { root: root.to_owned(), node, via };
        for mac in folder.macs()? {
            // `macs` is written before the links and outlives them
            let ready = folder.links(mac).iter().any(|link| fs::metadata(root.join(link)).is_ok());
            if ready {
                ports.set_boot(mac, Some(via));
            }
        }
    }
    Ok(())
}

/// Writes a whole file under a temporary name and moves it into place.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    fs::write(&temporary, content)?;
    fs::rename(&temporary, path)
}

/// A name beside `path` that no other task uses.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", Uuid::new_v4().simple()));
    PathBuf::from(name)
}

/// Removes a file that need not be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(crate) fn io_error(path: &Path, error: &io::Error) -> DriverError {
    DriverError::Io { path: path.display().to_string(), reason: error.to_string() }
}

/// Runs file work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> Result<T, DriverError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(DriverError::Io { path: "boot files".to_owned(), reason: error.to_string() }),
    }
}
