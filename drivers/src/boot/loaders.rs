//! First-stage loaders: copied from Debian's packages or a configured folder into the roots.

use std::fs;
use std::path::{Path, PathBuf};

use super::PxeSettings;
use super::artefacts::{boot_ipxe, master_grub};
use super::folder::{blocking, io_error, remove, temporary, write};
use crate::DriverError;

/// What `install_loaders` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoaderReport {
    /// Names that are in place now.
    pub installed: Vec<String>,
    /// Names that are nowhere to be found, each with the remedy.
    pub missing: Vec<(String, String)>,
}

/// Names in Debian's packages where they differ, and the package.
fn origin(name: &str) -> (&'static [&'static str], &'static str) {
    match name {
        "bootx64.efi" => (&["shimx64.efi.signed", "shimx64.efi"], "shim-signed"),
        "grubx64.efi" => (&["grubnetx64.efi.signed"], "grub-efi-amd64-signed"),
        "pxelinux.0" | "lpxelinux.0" => (&[], "pxelinux"),
        "ldlinux.c32" | "chain.c32" | "libcom32.c32" | "libutil.c32" => (&[], "syslinux-common"),
        "undionly.kpxe" | "undionly.kkpxe" | "snponly.efi" | "ipxe.efi" => (&[], "ipxe"),
        _ => (&[], ""),
    }
}

/// Creates both roots and puts into them what does not depend on a node: loaders, `boot.ipxe`, `grub/grub.cfg`.
/// A missing loader is reported, not an error: it matters only to machines of its kind.
///
/// # Errors
/// `Io` when a root cannot be written.
pub async fn install_loaders(settings: &PxeSettings) -> Result<LoaderReport, DriverError> {
    let settings = settings.clone();
    blocking(move || install(&settings)).await
}

fn install(settings: &PxeSettings) -> Result<LoaderReport, DriverError> {
    let (tftp, http) = (&settings.tftp_root, &settings.http_root);
    for folder in [tftp.join("pxelinux.cfg"), tftp.join("grub"), http.join("pxelinux.cfg")] {
        fs::create_dir_all(&folder).map_err(|error| io_error(&folder, &error))?;
    }
    let text = |path: PathBuf, text: &str| {
        let same = fs::read(&path).is_ok_and(|now| now == text.as_bytes());
        if same { Ok(()) } else { write(&path, text.as_bytes()).map_err(|error| io_error(&path, &error)) }
    };
    text(http.join("boot.ipxe"), &boot_ipxe())?;
    text(tftp.join("grub/grub.cfg"), master_grub())?;
    let names = &settings.boot_files;
    let wanted = [
        (tftp, names.pxe_bootfile_name.as_str()),
        (tftp, "ldlinux.c32"),
        (tftp, &names.uefi_pxe_bootfile_name),
        (tftp, "grubx64.efi"),
        (tftp, &names.ipxe_bootfile_name),
        (tftp, &names.uefi_ipxe_bootfile_name),
        (http, &names.uefi_ipxe_bootfile_name),
    ];
    // only instances that PXELINUX leads to their disk each time need these: nobody is told where they lack
    for name in ["chain.c32", "libcom32.c32", "libutil.c32"] {
        let target = tftp.join(name);
        if let Some(source) = find(settings, name) {
            copy(&source, &target).map_err(|error| io_error(&target, &error))?;
        }
    }
    let mut report = LoaderReport::default();
    for (root, name) in wanted {
        let target = root.join(name);
        if let Some(source) = find(settings, name) {
            copy(&source, &target).map_err(|error| io_error(&target, &error))?;
        }
        if target.is_file() {
            report.installed.push(target.display().to_string());
        } else if !report.missing.iter().any(|(known, _)| known == name) {
            report.missing.push((name.to_owned(), remedy(settings, name)));
        }
    }
    Ok(report)
}

fn find(settings: &PxeSettings, name: &str) -> Option<PathBuf> {
    let file = Path::new(name).file_name()?.to_str()?;
    let (aliases, _) = origin(file);
    let names = std::iter::once(file).chain(aliases.iter().copied());
    let places = names.flat_map(|name| settings.loaders_dirs.iter().map(move |dir| dir.join(name)));
    places.into_iter().find(|path| path.is_file())
}

fn remedy(settings: &PxeSettings, name: &str) -> String {
    match origin(name) {
        (_, "") => format!("put it into {} or a folder of [pxe] loader_paths", settings.tftp_root.display()),
        (_, package) => format!("apt-get install {package}, or put it into {}", settings.tftp_root.display()),
    }
}

/// Copies unless size and content are the same already; a machine that is just fetching it keeps the old file.
fn copy(source: &Path, target: &Path) -> std::io::Result<()> {
    let content = fs::read(source)?;
    if fs::read(target).is_ok_and(|now| now == content) {
        return Ok(());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let temporary = temporary(target);
    fs::write(&temporary, content)?;
    fs::rename(&temporary, target).inspect_err(|_| {
        // the first error is the one to tell
        let _ = remove(&temporary);
    })
}
