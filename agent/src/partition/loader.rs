//! `image.install_bootloader` for partition images: the image's own GRUB, run inside the image.
//! ironic-python-agent's order: what EFI loaders the image brings come first, `grub-install` otherwise.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::mounts::{Host, Machine, Mounts, What};
use super::probe::Kind;
use super::{device, kernel_name, locate};
use crate::boot;
use crate::console::say;
use crate::disk::Disk;
use crate::error::Failure;

/// Where a UEFI system keeps its EFI system partition.
const ESP: &str = "boot/efi";

/// GRUB's names: upstream and Debian, Fedora and SUSE.
const NAMES: [&str; 2] = ["grub", "grub2"];

/// Folders of programs in an image.
const FOLDERS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// Platform folders of GRUB for UEFI, and what firmware starts by itself: folder, fallback loader, suffix.
#[cfg(target_arch = "x86_64")]
const EFI: (&str, &str, &str) = ("x86_64-efi", "BOOTX64.EFI", "x64.efi");
#[cfg(not(target_arch = "x86_64"))]
const EFI: (&str, &str, &str) = ("arm64-efi", "BOOTAA64.EFI", "aa64.efi");

/// Which partitions, and how the machine boots.
#[derive(Clone, Debug)]
pub struct Install<'a> {
    /// The disk.
    pub disk: &'a Disk,
    /// The root file system's UUID.
    pub root_uuid: &'a str,
    /// The EFI system partition's, needed for UEFI.
    pub esp_uuid: Option<&'a str>,
    /// Whether UEFI firmware boots it.
    pub uefi: bool,
    /// As in [`crate::options::Options`].
    pub sys: &'a Path,
    /// As in [`crate::options::Options`].
    pub dev: &'a Path,
    /// An empty folder may be made here.
    pub scratch: &'a Path,
}

/// Installs a boot loader; says what was done. Whatever the outcome, nothing stays mounted. Blocks for up to minutes.
/// Errors: `Boot` naming what the image lacks, or with the output of the command that failed.
pub fn install(wanted: &Install<'_>) -> Result<String, Failure> {
    let text = install_on(wanted, &mut Machine)?;
    if !wanted.uefi {
        say(format!("bootloader {text}"));
        return Ok(text);
    }
    let entry = boot::install(wanted.disk, wanted.sys)?;
    Ok(format!("{text}; {entry}"))
}

fn install_on(wanted: &Install<'_>, host: &mut dyn Host) -> Result<String, Failure> {
    let root = place(wanted, wanted.root_uuid)?;
    if matches!(root.1, Kind::Swap | Kind::Vfat) {
        return Err(Failure::Boot(format!("{} is no root file system", root.0.display())));
    }
    let esp = match (wanted.uefi, wanted.esp_uuid.filter(|uuid| !uuid.is_empty())) {
        (false, _) => None,
        (true, Some(uuid)) => Some((place(wanted, uuid)?, uuid)),
        (true, None) => {
            return Err(Failure::Boot("UEFI needs an EFI system partition, but none was named".to_owned()));
        }
    };
    let tree = wanted.scratch.join("ferric-root");
    let mut mounts = Mounts::new(host);
    mounts.add(What::Device(root.0, root.1.name()), &tree)?;
    let done = match esp {
        None => bios(wanted, &mut mounts, &tree),
        Some(((device, kind), uuid)) => uefi(&mut mounts, &tree, What::Device(device, kind.name()), uuid),
    };
    match (done, mounts.close()) {
        (Ok(text), Ok(())) => Ok(text),
        (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
    }
}

/// The device of a file system, with names for it below `/dev/disk` as udev would give them: GRUB puts the UUID into
/// its configuration only where it finds that name.
fn place(wanted: &Install<'_>, uuid: &str) -> Result<(PathBuf, Kind), Failure> {
    let located = locate(wanted.disk, uuid)?;
    let device = device(wanted.disk, located.entry.number, located.entry.span, wanted.sys, wanted.dev)?;
    let folder = wanted.dev.join("disk/by-uuid");
    let link = folder.join(&located.found.uuid);
    let target = Path::new("../..").join(kernel_name(wanted.disk, located.entry.number));
    let linked = fs::create_dir_all(&folder).and_then(|()| match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => std::os::unix::fs::symlink(target, &link),
    });
    linked.map_err(Failure::io(format!("naming {}", link.display())))?;
    Ok((device, located.found.kind))
}

fn program(tree: &Path, suffix: &str) -> Option<(&'static str, String)> {
    NAMES.into_iter().find_map(|name| {
        let file = format!("{name}-{suffix}");
        FOLDERS
            .iter()
            .any(|folder| tree.join(folder).join(&file).symlink_metadata().is_ok())
            .then_some((name, file))
    })
}

fn has_platform(tree: &Path, platform: &str) -> bool {
    ["usr/lib/grub", "usr/lib/grub2", "usr/share/grub2", "boot/grub", "boot/grub2"]
        .iter()
        .any(|folder| tree.join(folder).join(platform).join("modinfo.sh").symlink_metadata().is_ok())
}

fn lacks(what: &str, debian: &str, fedora: &str) -> Failure {
    Failure::Boot(format!(
        "the image lacks {what}: install {debian} (Debian) or {fedora} (Fedora) into it, or use a whole-disk image"
    ))
}

/// The ramdisk's view of the machine inside the image.
fn bind_all(mounts: &mut Mounts<'_>, tree: &Path) -> Result<(), Failure> {
    for name in ["dev", "proc", "sys"] {
        mounts.add(What::Bind(Path::new("/").join(name)), &tree.join(name))?;
    }
    mounts.add(What::Memory, &tree.join("run"))
}

fn bios(wanted: &Install<'_>, mounts: &mut Mounts<'_>, tree: &Path) -> Result<String, Failure> {
    let (name, install) =
        program(tree, "install").ok_or_else(|| lacks("grub-install", "grub-pc", "grub2-pc"))?;
    if !has_platform(tree, "i386-pc") {
        return Err(lacks("GRUB's files for BIOS (i386-pc)", "grub-pc-bin", "grub2-pc-modules"));
    }
    bind_all(mounts, tree)?;
    let disk = wanted.disk.name();
    mounts.run(tree, &[&install, "--target=i386-pc", &disk])?;
    configure(mounts, tree, name)?;
    Ok(format!("{install} for BIOS on {disk}"))
}

fn uefi(mounts: &mut Mounts<'_>, tree: &Path, esp: What, esp_uuid: &str) -> Result<String, Failure> {
    let brought = tree.join(ESP).join("EFI");
    let brings_loader = contains_loader(&brought).map_err(Failure::io("reading the image's boot/efi"))?;
    let found = program(tree, "install");
    if !brings_loader && found.is_none() {
        return Err(lacks(
            "an EFI loader below /boot/efi/EFI and grub-install",
            "grub-efi-amd64",
            "grub2-efi-x64",
        ));
    }
    if !brings_loader && !has_platform(tree, EFI.0) {
        let what = format!("an EFI loader below /boot/efi/EFI and GRUB's files for UEFI ({})", EFI.0);
        return Err(lacks(&what, "grub-efi-amd64-bin", "grub2-efi-x64-modules"));
    }
    note_in_fstab(tree, esp_uuid)?;
    let text = if brings_loader {
        // beside its place first: mounting hides what the image has there
        let beside = tree.join("run");
        mounts.add(esp.clone(), &beside)?;
        copy_tree(&brought, &beside.join("EFI"))
            .and_then(|()| ensure_fallback(&beside.join("EFI")))
            .map_err(Failure::io("copying the image's EFI loader"))??;
        "the image's own EFI loader".to_owned()
    } else {
        String::new()
    };
    bind_all(mounts, tree)?;
    mounts.add(esp, &tree.join(ESP))?;
    let text = match (&found, text.is_empty()) {
        (_, false) | (None, _) => text,
        (Some((_, install)), true) => {
            let target = format!("--target={}", EFI.0);
            let common = [install.as_str(), &target, "--efi-directory=/boot/efi", "--no-nvram"];
            mounts.run(tree, &common)?;
            mounts.run(tree, &[&common[..], &["--removable"]].concat())?;
            format!("{install} for UEFI")
        }
    };
    if let Some((name, _)) = found {
        configure(mounts, tree, name)?;
    }
    Ok(text)
}

/// GRUB's configuration, made by the image's own `grub-mkconfig`; an image without one must bring it ready.
fn configure(mounts: &mut Mounts<'_>, tree: &Path, name: &str) -> Result<(), Failure> {
    let file = format!("/boot/{name}/grub.cfg");
    match program(tree, "mkconfig") {
        Some((_, mkconfig)) => mounts.run(tree, &[&mkconfig, "-o", &file]).map(|_| ()),
        None if tree.join(&file[1..]).exists() => Ok(()),
        None => Err(lacks(&format!("both grub-mkconfig and {file}"), "grub2-common", "grub2-tools")),
    }
}

fn contains_loader(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if (kind.is_file() && name.ends_with(".efi")) || (kind.is_dir() && contains_loader(&entry.path())?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_file() {
            // not fs::copy: FAT knows no permissions
            io::copy(&mut fs::File::open(entry.path())?, &mut fs::File::create(&target)?)?;
        }
    }
    Ok(())
}

/// Makes sure of `EFI/BOOT/BOOT….EFI`: firmware that forgets its entries starts only that. A vendor's shim is taken
/// with everything beside it, or else a vendor's GRUB.
fn ensure_fallback(efi: &Path) -> io::Result<Result<(), Failure>> {
    let named = |folder: &Path, wanted: &str| -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().eq_ignore_ascii_case(wanted) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    };
    let boot = named(efi, "BOOT")?.unwrap_or_else(|| efi.join("BOOT"));
    if boot.is_dir() && named(&boot, EFI.1)?.is_some() {
        return Ok(Ok(()));
    }
    for loader in ["shim", "grub"].map(|name| format!("{name}{}", EFI.2)) {
        for vendor in fs::read_dir(efi)? {
            let vendor = vendor?.path();
            if vendor == boot || !vendor.is_dir() {
                continue;
            }
            if let Some(file) = named(&vendor, &loader)? {
                copy_tree(&vendor, &boot)?;
                fs::write(boot.join(EFI.1), fs::read(file)?)?;
                return Ok(Ok(()));
            }
        }
    }
    Ok(Err(Failure::Boot(format!(
        "the image's /boot/efi/EFI has neither BOOT/{} nor a vendor's shim{} or grub{}",
        EFI.1, EFI.2, EFI.2
    ))))
}

/// The image is to mount its EFI system partition, unless it says itself how.
fn note_in_fstab(tree: &Path, uuid: &str) -> Result<(), Failure> {
    let path = tree.join("etc/fstab");
    if path.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
        // it may lead out of the image
        return Ok(());
    }
    let old = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::io("reading the image's fstab")(error)),
    };
    let mounted = old.lines().filter(|line| !line.trim_start().starts_with('#'));
    if mounted.filter_map(|line| line.split_whitespace().nth(1)).any(|at| at == "/boot/efi")
        || !tree.join("etc").is_dir()
    {
        return Ok(());
    }
    let newline = if old.is_empty() || old.ends_with('\n') { "" } else { "\n" };
    fs::write(path, format!("{old}{newline}UUID={uuid}\t/boot/efi\tvfat\tumask=0077\t0\t1\n"))
        .map_err(Failure::io("writing the image's fstab"))
}
