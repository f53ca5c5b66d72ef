//! Making sure that UEFI firmware can start the written disk.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::console::say;
use crate::disk::Disk;
use crate::error::Failure;
use crate::table::{self, Span};

/// The UEFI variables' vendor for boot entries.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Non-volatile, boot service and runtime access.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];

/// The name of our boot entry.
const ENTRY_NAME: &str = "Ferric deployed disk";

/// Loaders that firmware looks for by itself, below `EFI/BOOT`.
#[cfg(target_arch = "x86_64")]
const FALLBACKS: [&str; 2] = ["BOOTX64.EFI", "BOOTIA32.EFI"];
#[cfg(not(target_arch = "x86_64"))]
const FALLBACKS: [&str; 2] = ["BOOTAA64.EFI", "BOOTARM.EFI"];

/// Checks that the disk has an EFI system partition with a fallback loader and, where the firmware lets us, puts an
/// entry for it in front of its boot order. Says what was done. Blocks.
/// Errors: `Boot` when UEFI firmware would find nothing to start.
pub fn install(disk: &Disk, sys: &Path) -> Result<String, Failure> {
    let (number, guid, span) = table::find_esp(disk)?.ok_or_else(|| {
        Failure::Boot(format!("{} has no EFI system partition: UEFI firmware cannot boot it", disk.name()))
    })?;
    let loader = find_loader(disk, span)?;
    let variables = sys.join("firmware/efi/efivars");
    let entry = load_option(disk, number, guid, span, &format!("\\EFI\\BOOT\\{loader}"));
    let text = match add_entry(&variables, &entry) {
        Ok(id) => format!("boot entry Boot{id:04X} points to EFI/BOOT/{loader} on {}", disk.name()),
        Err(error) => {
            tracing::info!(%error, "no boot entry could be made");
            format!(
                "the firmware's fallback path is used (EFI/BOOT/{loader} on {}): no boot entry, because {error}",
                disk.name()
            )
        }
    };
    say(format!("bootloader {text}"));
    Ok(text)
}

fn find_loader(disk: &Disk, span: Span) -> Result<&'static str, Failure> {
    let file = File::open(&disk.path).map_err(Failure::io(format!("cannot open {}", disk.path.display())))?;
    let broken =
        |error: io::Error| Failure::Boot(format!("the EFI system partition of {}: {error}", disk.name()));
    let fat =
        fatfs::FileSystem::new(Stretch { file, span, at: 0 }, fatfs::FsOptions::new()).map_err(broken)?;
    let folder = fat.root_dir().open_dir("EFI/BOOT").map_err(|error| {
        Failure::Boot(format!("the EFI system partition of {} has no folder EFI/BOOT: {error}", disk.name()))
    })?;
    let names: Vec<String> = folder.iter().flatten().map(|entry| entry.file_name().to_uppercase()).collect();
    FALLBACKS.into_iter().find(|loader| names.iter().any(|name| name == loader)).ok_or_else(|| {
        let wanted = FALLBACKS.join(" or ");
        Failure::Boot(format!("EFI/BOOT on {} has no {wanted}: UEFI firmware cannot boot it", disk.name()))
    })
}

/// An EFI_LOAD_OPTION (UEFI 2.10 §3.1.3): hard disk node, file path node, end node.
fn load_option(disk: &Disk, number: u32, guid: [u8; 16], span: Span, path: &str) -> Vec<u8> {
    let mut nodes = vec![4, 1, 42, 0];
    nodes.extend(number.to_le_bytes());
    nodes.extend((span.at / disk.block).to_le_bytes());
    nodes.extend((span.len / disk.block).to_le_bytes());
    nodes.extend(guid);
    nodes.extend([2, 2]);
    let path = utf16(path);
    nodes.extend([4, 4]);
    nodes.extend(((path.len() + 4) as u16).to_le_bytes());
    nodes.extend(path);
    nodes.extend([0x7f, 0xff, 4, 0]);
    let mut option = vec![1, 0, 0, 0];
    option.extend((nodes.len() as u16).to_le_bytes());
    option.extend(utf16(ENTRY_NAME));
    option.extend(nodes);
    option
}

/// Little-endian with a final zero.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// Writes the entry under the number of an earlier one of ours, or a free one, and puts it first. Its number.
fn add_entry(variables: &Path, option: &[u8]) -> io::Result<u16> {
    let name = utf16(ENTRY_NAME);
    let mut taken = Vec::new();
    let mut ours = None;
    for file in fs::read_dir(variables)?.flatten() {
        let file_name = file.file_name().to_string_lossy().into_owned();
        let number = file_name
            .strip_prefix("Boot")
            .and_then(|rest| rest.strip_suffix(GLOBAL))
            .and_then(|rest| u16::from_str_radix(rest.trim_end_matches('-'), 16).ok());
        let Some(number) = number else { continue };
        taken.push(number);
        // attributes of the file, of the option, length of the nodes: then the name
        if fs::read(file.path())
            .is_ok_and(|bytes| bytes.get(10..).is_some_and(|rest| rest.starts_with(&name)))
        {
            ours = Some(number);
        }
    }
    let number = ours
        .or_else(|| (0..=u16::MAX).find(|number| !taken.contains(number)))
        .ok_or_else(|| io::Error::other("all boot entries are in use"))?;
    set(variables, &format!("Boot{number:04X}"), option)?;
    let order_path = variables.join(format!("BootOrder-{GLOBAL}"));
    let order = fs::read(order_path).unwrap_or_default();
    let mut numbers: Vec<u16> = order
        .get(4..)
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|b| u16::from_le_bytes([b[0], b[1]]))
        .collect();
    numbers.retain(|other| *other != number);
    numbers.insert(0, number);
    let order: Vec<u8> = numbers.into_iter().flat_map(u16::to_le_bytes).collect();
    set(variables, "BootOrder", &order)?;
    Ok(number)
}

/// A variable is one write: attributes and value together.
fn set(variables: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(variables.join(format!("{name}-{GLOBAL}")))?;
    let bytes = [&ATTRIBUTES[..], value].concat();
    if file.write(&bytes)? != bytes.len() {
        return Err(io::Error::other("the firmware took only a part of the variable"));
    }
    Ok(())
}

/// A part of the disk as a file of its own, for reading.
struct Stretch {
    file: File,
    span: Span,
    at: u64,
}

impl Read for Stretch {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = self.span.len.saturating_sub(self.at).min(bytes.len() as u64) as usize;
        let n = self.file.read_at(&mut bytes[..len], self.span.at + self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Write for Stretch {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Stretch {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.span.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_boot_entry_comes_first_and_is_made_once() {
        let folder = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| folder.path().join(format!("{name}-{GLOBAL}"));
        fs::write(at("BootOrder"), [7, 0, 0, 0, 0, 0, 1, 0]).expect("order");
        fs::write(at("Boot0000"), [7, 0, 0, 0, 1, 0, 0, 0, 4, 0, b'x', 0, 0, 0]).expect("entry");
        let span = Span { at: 1 << 20, len: 1 << 20 };
        let disk = Disk { block: 512, ..Disk::default() };
        let option = load_option(&disk, 1, [9; 16], span, "\\EFI\\BOOT\\BOOTX64.EFI");
        for _ in 0..2 {
            assert_eq!(add_entry(folder.path(), &option).expect("added"), 1);
            assert_eq!(fs::read(at("BootOrder")).expect("order"), [7, 0, 0, 0, 1, 0, 0, 0]);
        }
        assert_eq!(&fs::read(at("Boot0001")).expect("entry")[4..], option);
        assert!(add_entry(&folder.path().join("none"), &option).is_err());
    }
}
