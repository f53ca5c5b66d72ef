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
use crate::inject::folder;

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
        (true, Some(uuid)) => {
            let esp = place(wanted, uuid)?;
            if esp.1 != Kind::Vfat {
                return Err(Failure::Boot(format!("{} is no EFI system partition", esp.0.display())));
            }
            Some((esp, uuid))
        }
        (true, None) => {
            return Err(Failure::Boot("UEFI needs an EFI system partition, but none was named".to_owned()));
        }
    };
    let tree = wanted.scratch.join("ferric-root");
    let mut mounts = Mounts::new(host);
    mounts.add(What::Device(root.0, root.1.name()), &tree)?;
    let done = match esp {
        None => bios(wanted, &mut mounts, &tree),
        Some(((device, kind), uuid)) => uefi(&mut mounts, &tree, What::Data(device, kind.name()), uuid),
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

/// Whether the image has a file of this name there, as its own system would find the folder.
fn has(tree: &Path, place: &Path, file: &str) -> bool {
    // what cannot be followed is not there
    let found = folder(tree, place, false, 0).ok().flatten();
    found.is_some_and(|found| found.join(file).symlink_metadata().is_ok())
}

fn program(tree: &Path, suffix: &str) -> Option<(&'static str, String)> {
    NAMES.into_iter().find_map(|name| {
        let file = format!("{name}-{suffix}");
        FOLDERS.iter().any(|folder| has(tree, Path::new(folder), &file)).then_some((name, file))
    })
}

fn has_platform(tree: &Path, platform: &str) -> bool {
    ["usr/lib/grub", "usr/lib/grub2", "usr/share/grub2", "boot/grub", "boot/grub2"]
        .iter()
        .any(|folder| has(tree, &Path::new(folder).join(platform), "modinfo.sh"))
}

fn lacks(what: &str, debian: &str, fedora: &str) -> Failure {
    Failure::Boot(format!(
        "the image lacks {what}: install {debian} (Debian) or {fedora} (Fedora) into it, or use a whole-disk image"
    ))
}

/// The ramdisk's view of the machine inside the image.
fn bind_all(mounts: &mut Mounts<'_>, tree: &Path) -> Result<(), Failure> {
    for name in ["dev", "proc", "sys"] {
        mounts.add_inside(What::Bind(Path::new("/").join(name)), tree, name)?;
    }
    mounts.add_inside(What::Memory, tree, "run")
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
    let reading = || Failure::io("reading the image's boot/efi");
    // what cannot be followed inside the image is not there
    let brought = folder(tree, &Path::new(ESP).join("EFI"), false, 0).ok().flatten();
    let brings_loader =
        brought.as_deref().map_or(Ok(false), |brought| contains_loader(brought, DEPTH)).map_err(reading())?;
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
    let text = if let Some(brought) = brought.filter(|_| brings_loader) {
        // beside its place first: mounting hides what the image has there
        let beside = tree.join("run");
        mounts.add_inside(esp.clone(), tree, "run")?;
        copy_tree(&brought, &beside.join("EFI"), DEPTH)
            .and_then(|()| ensure_fallback(&beside.join("EFI")))
            .map_err(Failure::io("copying the image's EFI loader"))??;
        "the image's own EFI loader".to_owned()
    } else {
        String::new()
    };
    bind_all(mounts, tree)?;
    mounts.add_inside(esp, tree, ESP)?;
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
    let (place, file) = (format!("boot/{name}"), format!("/boot/{name}/grub.cfg"));
    match program(tree, "mkconfig") {
        Some((_, mkconfig)) => mounts.run(tree, &[&mkconfig, "-o", &file]).map(|_| ()),
        None if has(tree, Path::new(&place), "grub.cfg") => Ok(()),
        None => Err(lacks(&format!("both grub-mkconfig and {file}"), "grub2-common", "grub2-tools")),
    }
}

/// Folders within folders of an EFI system partition; more is a damaged file system.
const DEPTH: u32 = 16;

fn deeper(depth: u32) -> io::Result<u32> {
    depth.checked_sub(1).ok_or_else(|| io::Error::other("too many folders within folders"))
}

fn contains_loader(folder: &Path, depth: u32) -> io::Result<bool> {
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
        if (kind.is_file() && name.ends_with(".efi"))
            || (kind.is_dir() && contains_loader(&entry.path(), deeper(depth)?)?)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies folders and plain files; links are left out.
fn copy_tree(from: &Path, to: &Path, depth: u32) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &target, deeper(depth)?)?;
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
                copy_tree(&vendor, &boot, DEPTH)?;
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

/// What follows the UUID in our line of an fstab.
const OUR_LINE: &str = "\t/boot/efi\tvfat\tumask=0077\t0\t1";

/// The longest fstab that is read, bytes.
const FSTAB_BYTES: u64 = 1 << 20;

/// The image is to mount its EFI system partition, unless it says itself how.
fn note_in_fstab(tree: &Path, uuid: &str) -> Result<(), Failure> {
    let (etc, path) = (tree.join("etc"), tree.join("etc/fstab"));
    if !etc.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return Ok(());
    }
    let reading = "reading the image's fstab";
    let old = match path.symlink_metadata() {
        // a link may lead out of the image, a pipe is never read to its end
        Ok(meta) if !meta.is_file() || meta.len() > FSTAB_BYTES => return Ok(()),
        Ok(_) => fs::read_to_string(&path).map_err(Failure::io(reading))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::io(reading)(error)),
    };
    // an installation before this one may have named another partition
    let ours = |line: &&str| line.starts_with("UUID=") && line.trim_end().ends_with(OUR_LINE);
    let mut text: String = old.split_inclusive('\n').filter(|line| !ours(line)).collect();
    let mounted = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    if mounted.filter_map(|line| line.split_whitespace().nth(1)).all(|at| at != "/boot/efi") {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("UUID={uuid}{OUR_LINE}\n"));
    }
    if text == old {
        return Ok(());
    }
    fs::write(path, text).map_err(Failure::io("writing the image's fstab"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::partition::label;
    use crate::partition::layout::{Label, Layout, Wanted};

    const ROOT: &str = "0c1f3d5e-7a9b-4c2d-8e4f-123456789abc";

    /// Mounts nothing: a tree stands in for the root file system, another folder for the ESP.
    #[derive(Default)]
    struct Fake {
        image: Vec<&'static str>,
        mounted: Vec<PathBuf>,
        ran: Vec<String>,
        /// The operation that fails, counted from 1; 0 = none.
        fails_at: usize,
        operations: usize,
    }

    impl Fake {
        fn count(&mut self) -> io::Result<()> {
            self.operations += 1;
            if self.operations == self.fails_at { Err(io::Error::other("broken on purpose")) } else { Ok(()) }
        }
    }

    impl Host for Fake {
        fn mount(&mut self, what: &What, at: &Path) -> io::Result<()> {
            self.count()?;
            self.mounted.push(at.to_owned());
            if matches!(what, What::Device(_, "ext4")) {
                for file in &self.image {
                    let file = at.join(file);
                    fs::create_dir_all(file.parent().expect("a folder"))?;
                    fs::write(file, "loader")?;
                }
            }
            Ok(())
        }

        fn unmount(&mut self, at: &Path) -> io::Result<()> {
            assert_eq!(self.mounted.pop().as_deref(), Some(at), "in reverse order");
            Ok(())
        }

        fn run(&mut self, _: &Path, command: &[&str]) -> Result<String, Failure> {
            self.count().map_err(Failure::io(command[0]))?;
            self.ran.push(command.join(" "));
            Ok(String::new())
        }
    }

    /// A disk with an ext4 superblock in its root partition and, for UEFI, a FAT one in its ESP.
    struct Bed {
        folder: tempfile::TempDir,
        disk: Disk,
        uefi: bool,
    }

    impl Bed {
        fn new(uefi: bool) -> Self {
            let folder = tempfile::tempdir().expect("temp dir");
            let path = folder.path().join("vda");
            let file = File::create(&path).expect("disk");
            file.set_len(1 << 30).expect("sparse");
            let disk = Disk { kernel_name: "vda".into(), path, size: 1 << 30, block: 512, ..Disk::default() };
            let wanted = Wanted {
                root_mib: 100,
                swap_mib: 0,
                ephemeral_mib: 0,
                ephemeral_format: String::new(),
                preserve_ephemeral: false,
                uefi,
                local_boot: true,
                label: if uefi { Label::Gpt } else { Label::Msdos },
                esp_mib: 100,
                config_drive: false,
            };
            let layout = Layout::plan(&disk, &wanted).expect("fits");
            label::write(&disk, &layout, None).expect("written");
            let root = layout.root().span.at;
            file.write_all_at(&[0x53, 0xef], root + 1024 + 56).expect("written");
            let uuid = uuid::Uuid::parse_str(ROOT).expect("uuid");
            file.write_all_at(uuid.as_bytes(), root + 1024 + 104).expect("written");
            if uefi {
                let esp = layout.parts[0].span.at;
                for (at, bytes) in
                    [(82, &b"FAT32   "[..]), (67, &[0x34, 0x12, 0xcd, 0xab]), (510, &[0x55, 0xaa])]
                {
                    file.write_all_at(bytes, esp + at).expect("written");
                }
            }
            Self { folder, disk, uefi }
        }

        fn install(&self, host: &mut Fake) -> Result<String, Failure> {
            let scratch = self.folder.path();
            let (sys, dev) = (scratch.join("sys"), scratch.join("dev"));
            let tree = scratch.join("ferric-root");
            if tree.exists() {
                fs::remove_dir_all(&tree).expect("removed");
            }
            let wanted = Install {
                disk: &self.disk,
                root_uuid: ROOT,
                esp_uuid: self.uefi.then_some("abcd-1234"),
                uefi: self.uefi,
                sys: &sys,
                dev: &dev,
                scratch,
            };
            let outcome = install_on(&wanted, host);
            assert!(host.mounted.is_empty(), "nothing stays mounted: {:?}", host.mounted);
            outcome
        }
    }

    const GRUB_BIOS: [&str; 3] =
        ["usr/sbin/grub-install", "usr/sbin/grub-mkconfig", "usr/lib/grub/i386-pc/modinfo.sh"];
    const GRUB_UEFI: [&str; 4] = [
        "usr/sbin/grub2-install",
        "usr/sbin/grub2-mkconfig",
        "usr/lib/grub/x86_64-efi/modinfo.sh",
        "etc/fstab",
    ];

    #[test]
    fn the_images_own_grub_is_run_for_bios_and_for_uefi() {
        let bed = Bed::new(false);
        let mut host = Fake { image: GRUB_BIOS.to_vec(), ..Fake::default() };
        bed.install(&mut host).expect("installed");
        assert_eq!(
            host.ran,
            ["grub-install --target=i386-pc /dev/vda", "grub-mkconfig -o /boot/grub/grub.cfg"]
        );
        let link = fs::read_link(bed.folder.path().join("dev/disk/by-uuid").join(ROOT)).expect("named");
        assert_eq!(link, Path::new("../../vda1"));
        let bed = Bed::new(true);
        let mut host = Fake { image: GRUB_UEFI.to_vec(), ..Fake::default() };
        bed.install(&mut host).expect("installed");
        let grub = "grub2-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram";
        let expected = [
            grub.to_owned(),
            format!("{grub} --removable"),
            "grub2-mkconfig -o /boot/grub2/grub.cfg".to_owned(),
        ];
        assert_eq!(host.ran, expected);
        let fstab = fs::read_to_string(bed.folder.path().join("ferric-root/etc/fstab")).expect("read");
        assert_eq!(fstab, "loader\nUUID=abcd-1234\t/boot/efi\tvfat\tumask=0077\t0\t1\n");
    }

    #[test]
    fn a_vendors_signed_loader_is_copied_and_becomes_the_fallback() {
        let bed = Bed::new(true);
        let image = vec!["boot/efi/EFI/fedora/shimx64.efi", "boot/efi/EFI/fedora/grubx64.efi"];
        let mut host = Fake { image, ..Fake::default() };
        bed.install(&mut host).expect("installed");
        assert!(host.ran.is_empty(), "{:?}", host.ran);
        let efi = bed.folder.path().join("ferric-root/run/EFI");
        for file in ["fedora/shimx64.efi", "BOOT/BOOTX64.EFI", "BOOT/grubx64.efi"] {
            assert!(efi.join(file).exists(), "{file}");
        }
        let mut host = Fake { image: vec!["boot/efi/EFI/odd/other.efi"], ..Fake::default() };
        let text = bed.install(&mut host).expect_err("no loader that firmware would find").to_string();
        assert!(text.contains("BOOTX64.EFI"), "{text}");
    }

    #[test]
    fn what_the_image_lacks_is_named() {
        let lacking = |uefi, image: &[&'static str]| {
            let mut host = Fake { image: image.to_vec(), ..Fake::default() };
            Bed::new(uefi).install(&mut host).expect_err("lacking").to_string()
        };
        assert!(lacking(false, &["etc/passwd"]).contains("lacks grub-install"));
        assert!(lacking(false, &GRUB_BIOS[..2]).contains("i386-pc"));
        assert!(lacking(false, &[GRUB_BIOS[0], GRUB_BIOS[2]]).contains("grub-mkconfig"));
        assert!(lacking(true, &["etc/passwd"]).contains("grub-efi-amd64"));
        assert!(lacking(true, &GRUB_BIOS).contains("x86_64-efi"));
    }

    #[test]
    fn whichever_operation_fails_everything_is_unmounted_and_the_reason_told() {
        for (uefi, image) in
            [(false, &GRUB_BIOS[..]), (true, &GRUB_UEFI[..]), (true, &["boot/efi/EFI/a/shimx64.efi"])]
        {
            let bed = Bed::new(uefi);
            let mut whole = Fake { image: image.to_vec(), ..Fake::default() };
            bed.install(&mut whole).expect("installed");
            for fails_at in 1..=whole.operations {
                let mut host = Fake { image: image.to_vec(), fails_at, ..Fake::default() };
                let text = bed.install(&mut host).expect_err("broken").to_string();
                assert!(text.contains("broken on purpose"), "{fails_at}: {text}");
            }
        }
    }

    #[test]
    fn an_images_links_and_pipes_are_neither_followed_nor_waited_for() {
        let base = tempfile::tempdir().expect("temp dir");
        let (tree, outside) = (base.path().join("tree"), base.path().join("outside"));
        fs::create_dir_all(tree.join("usr/bin")).expect("dirs");
        fs::create_dir_all(&outside).expect("dirs");
        fs::write(outside.join("grub-install"), "not the image's").expect("file");
        std::os::unix::fs::symlink(&outside, tree.join("usr/sbin")).expect("link");
        assert_eq!(program(&tree, "install"), None);
        std::os::unix::fs::symlink("/usr/bin", tree.join("bin")).expect("link");
        fs::write(tree.join("usr/bin/grub-install"), "its own").expect("file");
        assert!(program(&tree, "install").is_some());
        let mut host = Fake::default();
        let mut mounts = Mounts::new(&mut host);
        for name in ["run", "boot"] {
            std::os::unix::fs::symlink(&outside, tree.join(name)).expect("link");
        }
        for name in ["run", "boot/efi"] {
            assert!(mounts.add_inside(What::Memory, &tree, name).is_err(), "{name}");
        }
        mounts.close().expect("nothing was mounted");
        assert_eq!(host.operations, 0);
        assert!(!outside.join("efi").exists());
        fs::create_dir(tree.join("etc")).expect("dir");
        let fstab = tree.join("etc/fstab");
        nix::unistd::mkfifo(&fstab, nix::sys::stat::Mode::S_IRWXU).expect("pipe");
        note_in_fstab(&tree, "abcd-1234").expect("left alone");
        fs::remove_file(&fstab).expect("removed");
        note_in_fstab(&tree, "abcd-1234").expect("written");
        note_in_fstab(&tree, "ffff-1234").expect("written again");
        assert_eq!(fs::read_to_string(&fstab).expect("fstab"), format!("UUID=ffff-1234{OUR_LINE}\n"));
    }

    #[test]
    fn uefi_without_an_esp_is_refused() {
        let bed = Bed::new(true);
        let here = bed.folder.path();
        let wanted = Install {
            disk: &bed.disk,
            root_uuid: ROOT,
            esp_uuid: None,
            uefi: true,
            sys: here,
            dev: here,
            scratch: here,
        };
        let text = install_on(&wanted, &mut Fake::default()).expect_err("none named").to_string();
        assert!(text.contains("EFI system partition"), "{text}");
    }
}
