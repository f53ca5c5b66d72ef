//! Cleaning what the firmware keeps: crash records (pstore) and boot entries (UEFI variables).

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use regex_lite::Regex;
use serde_json::{Value, json};

use crate::console::say;
use crate::error::Failure;
use crate::partition::tool;

/// The vendor of boot entries among the UEFI variables.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Non-volatile, boot service and runtime access.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];

/// Entries that installed systems leave behind: those that name a partition or a file.
const LEFT_BEHIND: [&str; 2] = [r"^HD\(", r"File\("];

/// Variables that hold crash records, as the kernel's efi-pstore names them.
const CRASH_VARIABLE: &str = "dump-type0-";

/// Deletes every crash record. `mount` is for a real machine, where the file system has to be mounted first. Blocks.
/// Errors: `Step` naming the records that stay.
pub fn erase_pstore(sys: &Path, mount: bool) -> Result<Value, Failure> {
    let folder = sys.join("fs/pstore");
    if mount {
        load_efi_pstore();
    }
    let records = || crate::erase::targets::entries(&folder);
    if mount && folder.is_dir() && records().is_empty() {
        let kind = Some("pstore");
        // mounted already, or not in this kernel: either way what counts is what can be seen
        if let Err(error) = nix::mount::mount(kind, &folder, kind, nix::mount::MsFlags::empty(), None::<&str>)
        {
            tracing::info!(%error, "mounting pstore");
        }
    }
    let found = if folder.is_dir() { records() } else { Vec::new() };
    let failures: Vec<String> = found
        .iter()
        .filter_map(|name| Some(format!("{name}: {}", fs::remove_file(folder.join(name)).err()?)))
        .chain(crash_variables(sys).into_iter().map(|name| format!("{name}: still in the UEFI variables")))
        .collect();
    if !failures.is_empty() {
        return Err(Failure::Step(format!("crash records could not be deleted: {}", failures.join("; "))));
    }
    if !folder.is_dir() {
        return Ok(json!("this machine keeps no crash records"));
    }
    Ok(json!(format!("{} crash records deleted", found.len())))
}

/// Without it the kernel does not show what is in the UEFI variables. What it says to being built in is no matter: what
/// is still there afterwards is seen.
fn load_efi_pstore() {
    let Some(modprobe) = tool::find_applet("modprobe") else { return };
    let mut command = std::process::Command::from(modprobe);
    command.args(["-q", "efi_pstore", "pstore_disable=0"]);
    if let Err(failure) = tool::run(command, "modprobe efi_pstore", Duration::from_secs(60)) {
        tracing::info!(%failure, "efi-pstore");
    }
}

/// The crash records among the UEFI variables. A variable deleted behind the file system's back is an empty file in it.
fn crash_variables(sys: &Path) -> Vec<String> {
    let folder = sys.join("firmware/efi/efivars");
    let names = fs::read_dir(&folder).into_iter().flatten().flatten().map(|file| file.file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with(CRASH_VARIABLE))
        .filter(|name| match fs::read(folder.join(name)) {
            Ok(bytes) => !bytes.is_empty(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        })
        .collect()
}

/// Deletes the boot entries whose device path matches one of the patterns, by default those that name a partition or a
/// file. The entry that the machine booted from just now stays. Blocks.
/// Errors: `Parameters` for what is no list of regular expressions, `Step` for entries that stay.
pub fn clean_nvram(sys: &Path, patterns: Option<&Value>) -> Result<Value, Failure> {
    let patterns = compile(patterns)?;
    let folder = sys.join("firmware/efi/efivars");
    if !folder.is_dir() {
        return Ok(json!("this machine was not booted by UEFI firmware: it has no boot entries"));
    }
    let broken = Failure::io("UEFI variables");
    let current = number_list(&folder, "BootCurrent").first().copied();
    let mut deleted = Vec::new();
    let mut failures = Vec::new();
    for file in fs::read_dir(&folder).map_err(broken)?.flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let Some(number) = entry_number(&name) else { continue };
        let bytes = fs::read(file.path()).unwrap_or_default();
        let Some((label, path)) = describe(&bytes) else { continue };
        if Some(number) == current || !patterns.iter().any(|pattern| pattern.is_match(&path)) {
            continue;
        }
        match fs::remove_file(file.path()) {
            Ok(()) => {
                say(format!("boot entry Boot{number:04X} ({label}) deleted"));
                deleted.push(number);
            }
            Err(error) => failures.push(format!("Boot{number:04X} ({label}): {error}")),
        }
    }
    if let Err(error) = forget(&folder, &deleted) {
        failures.push(format!("BootOrder: {error}"));
    }
    if !failures.is_empty() {
        return Err(Failure::Step(format!("boot entries could not be deleted: {}", failures.join("; "))));
    }
    Ok(json!(format!("{} boot entries deleted", deleted.len())))
}

fn compile(patterns: Option<&Value>) -> Result<Vec<Regex>, Failure> {
    let wrong = |why: String| Failure::Parameters(format!("match_patterns: {why}"));
    let texts: Vec<String> = match patterns {
        None | Some(Value::Null) => LEFT_BEHIND.iter().map(|text| (*text).to_owned()).collect(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| wrong("every pattern must be a string".to_owned()))?,
        Some(_) => return Err(wrong("must be a list of regular expressions".to_owned())),
    };
    texts.iter().map(|text| Regex::new(text).map_err(|error| wrong(format!("{text}: {error}")))).collect()
}

/// 0x12 of `Boot0012-…`.
fn entry_number(name: &str) -> Option<u16> {
    let digits = name.strip_prefix("Boot")?.strip_suffix(GLOBAL)?.strip_suffix('-')?;
    (digits.len() == 4).then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

fn number_list(folder: &Path, name: &str) -> Vec<u16> {
    let bytes = fs::read(folder.join(format!("{name}-{GLOBAL}"))).unwrap_or_default();
    let values = bytes.get(4..).unwrap_or_default();
    values.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
}

/// Takes deleted entries out of the boot order. An empty order is no order: the variable goes.
fn forget(folder: &Path, deleted: &[u16]) -> io::Result<()> {
    let before = number_list(folder, "BootOrder");
    let after: Vec<u16> = before.iter().copied().filter(|number| !deleted.contains(number)).collect();
    if after == before {
        return Ok(());
    }
    let path = folder.join(format!("BootOrder-{GLOBAL}"));
    if after.is_empty() {
        return fs::remove_file(path);
    }
    let bytes: Vec<u8> = ATTRIBUTES.into_iter().chain(after.into_iter().flat_map(u16::to_le_bytes)).collect();
    // in a UEFI variable one write is the whole value; a plain file would keep its longer end
    fs::write(path, bytes)
}

/// Label and device path of a boot entry's variable (UEFI 2.10 §3.1.3, §10.3), the path in the usual notation.
fn describe(variable: &[u8]) -> Option<(String, String)> {
    let option = variable.get(4..)?;
    let path_len = usize::from(u16::from_le_bytes(option.get(4..6)?.try_into().ok()?));
    let text = option.get(6..)?;
    let chars = text.chunks_exact(2).position(|pair| pair == [0, 0])?;
    let label = utf16(&text[..chars * 2]);
    let nodes = text.get(chars * 2 + 2..)?;
    let mut nodes = nodes.get(..path_len).unwrap_or(nodes);
    let mut parts = Vec::new();
    while let [kind, sub, low, high, ..] = *nodes {
        let len = usize::from(u16::from_le_bytes([low, high]));
        if kind == 0x7f || len < 4 {
            break;
        }
        let Some(body) = nodes.get(4..len) else { break };
        parts.push(node(kind, sub, body));
        nodes = &nodes[len..];
    }
    Some((label, parts.join("/")))
}

fn node(kind: u8, sub: u8, body: &[u8]) -> String {
    match (kind, sub, body) {
        (1, 1, [function, device]) => format!("Pci({device:#x},{function:#x})"),
        (2, 1, [_, _, _, _, a, b, c, d]) => format!("PciRoot({:#x})", u32::from_le_bytes([*a, *b, *c, *d])),
        (3, 5, [port, interface]) => format!("USB({port},{interface})"),
        (3, 11, [mac @ .., _]) if mac.len() >= 6 => format!("MAC({})", hex(&mac[..6])),
        (3, 12, _) => "IPv4".to_owned(),
        (3, 13, _) => "IPv6".to_owned(),
        (3, 18, _) => "Sata".to_owned(),
        (3, 23, _) => "NVMe".to_owned(),
        (3, 24, uri) => format!("Uri({})", String::from_utf8_lossy(uri)),
        (4, 1, body) if body.len() == 38 => {
            let number = u32::from_le_bytes([body[0], body[1], body[2], body[3]]);
            format!("HD({number},{})", hex(&body[20..36]))
        }
        (4, 4, name) => format!("File({})", utf16(name).trim_end_matches('\0')),
        _ => format!("Path({kind},{sub},{})", hex(body)),
    }
}

fn utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    String::from_utf16_lossy(&units)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn entry(label: &str, nodes: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
        let mut path = Vec::new();
        for (kind, sub, body) in nodes {
            path.extend([*kind, *sub]);
            path.extend(((body.len() + 4) as u16).to_le_bytes());
            path.extend(body);
        }
        path.extend([0x7f, 0xff, 4, 0]);
        let mut bytes = vec![7, 0, 0, 0, 1, 0, 0, 0];
        bytes.extend((path.len() as u16).to_le_bytes());
        bytes.extend(label.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        bytes.extend(path);
        bytes
    }

    fn name(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    struct Firmware(tempfile::TempDir);

    impl Firmware {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("temp dir");
            let firmware = Self(folder);
            fs::create_dir_all(firmware.at("x").parent().expect("folder")).expect("dirs");
            let file = vec![(4, 1, vec![0; 38]), (4, 4, name("\\EFI\\debian\\shimx64.efi"))];
            let network = vec![
                (2, 1, vec![0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0]),
                (1, 1, vec![0, 3]),
                (3, 11, [vec![0x52, 0x54, 0, 0xaa, 0xbb, 1], vec![0; 26], vec![1]].concat()),
            ];
            for (key, bytes) in [
                ("Boot0000", entry("debian", &file)),
                ("Boot0001", entry("PXE", &network)),
                ("Boot0002", entry("booted now", &file)),
                ("Boot000A", entry("ubuntu", &file)),
                ("BootOrder", vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 10, 0]),
                ("BootCurrent", vec![6, 0, 0, 0, 2, 0]),
                ("BootNext", vec![7, 0, 0, 0, 1, 0]),
            ] {
                fs::write(firmware.at(key), bytes).expect("variable");
            }
            firmware
        }

        fn at(&self, key: &str) -> PathBuf {
            self.0.path().join("firmware/efi/efivars").join(format!("{key}-{GLOBAL}"))
        }

        fn entries(&self) -> Vec<u16> {
            (0..16).filter(|n| self.at(&format!("Boot{n:04X}")).exists()).collect()
        }
    }

    #[test]
    fn entries_of_installed_systems_go_and_the_network_stays() {
        let firmware = Firmware::new();
        clean_nvram(firmware.0.path(), None).expect("cleaned");
        assert_eq!(firmware.entries(), [1, 2]);
        let order = fs::read(firmware.at("BootOrder")).expect("order");
        assert_eq!(order, [7, 0, 0, 0, 1, 0, 2, 0]);
        clean_nvram(firmware.0.path(), None).expect("again");
        let none = tempfile::tempdir().expect("temp dir");
        clean_nvram(none.path(), None).expect("nothing to do without UEFI");
    }

    #[test]
    fn patterns_choose_and_bad_ones_are_refused_before_anything_is_deleted() {
        let firmware = Firmware::new();
        for bad in [json!("x"), json!([1]), json!(["("])] {
            assert!(matches!(clean_nvram(firmware.0.path(), Some(&bad)), Err(Failure::Parameters(_))));
        }
        assert_eq!(firmware.entries(), [0, 1, 2, 10]);
        let mac = json!(["MAC\\(525400aabb01\\)"]);
        clean_nvram(firmware.0.path(), Some(&mac)).expect("cleaned");
        assert_eq!(firmware.entries(), [0, 2, 10]);
        let (label, path) = describe(&fs::read(firmware.at("Boot000A")).expect("entry")).expect("readable");
        assert_eq!(label, "ubuntu");
        assert!(path.starts_with("HD(0,") && path.ends_with("/File(\\EFI\\debian\\shimx64.efi)"), "{path}");
    }

    #[test]
    fn crash_records_are_deleted() {
        let folder = tempfile::tempdir().expect("temp dir");
        erase_pstore(folder.path(), false).expect("none is fine");
        let records = folder.path().join("fs/pstore");
        fs::create_dir_all(&records).expect("dirs");
        for n in 0..3 {
            fs::write(records.join(format!("dmesg-efi-{n}")), "panic").expect("record");
        }
        let told = erase_pstore(folder.path(), false).expect("deleted");
        assert_eq!(told, json!("3 crash records deleted"));
        assert_eq!(fs::read_dir(&records).expect("folder").count(), 0);
        fs::create_dir(records.join("stays")).expect("what cannot be unlinked");
        assert!(erase_pstore(folder.path(), false).expect_err("one stays").to_string().contains("stays"));
        fs::remove_dir_all(&records).expect("no pstore in this kernel");
        let variables = folder.path().join("firmware/efi/efivars");
        fs::create_dir_all(&variables).expect("dirs");
        let variable = variables.join("dump-type0-1-1-1700000000-C-cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0");
        fs::write(&variable, "panic").expect("variable");
        let text = erase_pstore(folder.path(), false).expect_err("it stays").to_string();
        assert!(text.contains("dump-type0-1-1"), "{text}");
        fs::write(&variable, "").expect("as efivarfs shows what is gone");
        erase_pstore(folder.path(), false).expect("nothing left");
    }
}
