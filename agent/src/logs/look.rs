//! What `ps`, `lsblk`, `ip addr` and `df` would tell, read from /proc and /sys: a ramdisk need not have the tools.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::inventory;

fn text(path: impl AsRef<Path>) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

/// Number, parent, state, resident KiB, command line of every process.
pub(super) fn processes(proc: &Path) -> String {
    let mut numbers: Vec<u32> = names(proc).iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    let mut list = "PID PPID S RSS COMMAND\n".to_owned();
    for number in numbers {
        let folder = proc.join(number.to_string());
        let stat = text(folder.join("stat"));
        // the name stands in parentheses and may hold anything, parentheses too
        let Some((front, back)) = stat.rsplit_once(')') else { continue };
        let mut fields = back.split_whitespace();
        let (state, parent) = (fields.next().unwrap_or("?"), fields.next().unwrap_or("?"));
        let status = text(folder.join("status"));
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        let resident = resident.split_whitespace().next().unwrap_or("0");
        let mut command = text(folder.join("cmdline")).replace('\0', " ");
        if command.trim().is_empty() {
            command = format!("[{}]", front.split_once('(').map_or("?", |(_, name)| name));
        }
        line(&mut list, format_args!("{number} {parent} {state} {resident} {}", command.trim_end()));
    }
    list
}

/// Disks and, below them, their partitions, with their bytes and models.
pub(super) fn block_devices(sys: &Path) -> String {
    let mut list = "NAME SIZE RO ROTA MODEL SERIAL\n".to_owned();
    let block = sys.join("block");
    for disk in names(&block) {
        let folder = block.join(&disk);
        let size = |folder: &Path| text(folder.join("size")).parse::<u64>().unwrap_or_default() * 512;
        let field = |name: &str| Some(text(folder.join(name))).filter(|t| !t.is_empty());
        let unknown = || "-".to_owned();
        let (read_only, rotates) = (field("ro"), field("queue/rotational"));
        let (model, serial) = (field("device/model"), field("serial").or_else(|| field("device/serial")));
        let rest = [read_only, rotates, model, serial].map(|field| field.unwrap_or_else(unknown));
        line(&mut list, format_args!("{disk} {} {}", size(&folder), rest.join(" ")));
        for part in names(&folder).iter().filter(|part| folder.join(part).join("partition").exists()) {
            line(&mut list, format_args!("  {part} {}", size(&folder.join(part))));
        }
    }
    list
}

/// Every card with its hardware address, state and addresses.
pub(super) fn cards(sys: &Path) -> String {
    let addresses = inventory::addresses();
    let mut list = String::new();
    let folder = sys.join("class/net");
    for card in names(&folder) {
        let of = |name: &str| text(folder.join(&card).join(name));
        line(&mut list, format_args!("{card} {} {} mtu {}", of("address"), of("operstate"), of("mtu")));
        for (_, ip) in addresses.iter().filter(|(name, _)| *name == card) {
            line(&mut list, format_args!("    {ip}"));
        }
    }
    list
}

/// Bytes, and bytes left, of every file system with a size.
pub(super) fn file_systems(proc: &Path) -> String {
    let mut list = "BYTES AVAILABLE MOUNTED\n".to_owned();
    for mount in text(proc.join("mounts")).lines().filter_map(|line| line.split_whitespace().nth(1)) {
        let Ok(numbers) = nix::sys::statvfs::statvfs(mount) else { continue };
        let size = numbers.fragment_size();
        if numbers.blocks() > 0 {
            let (all, left) = (numbers.blocks() * size, numbers.blocks_available() * size);
            line(&mut list, format_args!("{all} {left} {mount}"));
        }
    }
    list
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn line(list: &mut String, words: std::fmt::Arguments<'_>) {
    // writing to a String does not fail
    let _ = writeln!(list, "{words}");
}
