//! Root device hints and their operators: deploy.md §B.9.

use serde_json::{Map, Value};

use crate::disk::Disk;
use crate::error::Failure;

/// Hints by key; all must fit.
pub type Hints = Map<String, Value>;

const KEYS: [&str; 11] = [
    "name",
    "model",
    "vendor",
    "serial",
    "size",
    "wwn",
    "wwn_with_extension",
    "wwn_vendor_extension",
    "rotational",
    "hctl",
    "by_path",
];

/// The hints that hold: those of `instance_info` win over those of `properties`.
/// Errors: `Parameters` for anything but an object of known keys.
pub fn gather(instance_info: Option<&Value>, properties: Option<&Value>) -> Result<Hints, Failure> {
    let found = [instance_info, properties]
        .into_iter()
        .flatten()
        .filter_map(|holder| holder.get("root_device"))
        .find(|hints| !hints.is_null());
    let hints = match found {
        None => return Ok(Hints::new()),
        Some(Value::Object(hints)) => hints.clone(),
        Some(other) => {
            return Err(Failure::Parameters(format!("root_device must be an object, not {other}")));
        }
    };
    match hints.keys().find(|key| !KEYS.contains(&key.as_str())) {
        None => Ok(hints),
        Some(key) => {
            Err(Failure::Parameters(format!("root device hint {key}: known are {}", KEYS.join(", "))))
        }
    }
}

/// How a disk compares with hints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// All of them fit.
    Yes,
    /// One of them certainly does not.
    No,
    /// None is certainly wrong, but these cannot be judged: what they ask of the disk is not known, or they are not
    /// understood.
    Unknown(String),
}

/// True when every hint certainly fits the disk.
pub fn fits(hints: &Hints, disk: &Disk) -> bool {
    compare(hints, disk) == Fit::Yes
}

/// Compares a disk with all hints together. Names of device files (`/dev/disk/by-id/…`) are followed next to the
/// disk's own.
pub fn compare(hints: &Hints, disk: &Disk) -> Fit {
    let mut unknown = Vec::new();
    for (key, wanted) in hints {
        match one(key, wanted, disk) {
            Some(true) => {}
            Some(false) => return Fit::No,
            None => unknown.push(format!("{key} {wanted}")),
        }
    }
    if unknown.is_empty() { Fit::Yes } else { Fit::Unknown(unknown.join(", ")) }
}

/// Compares a disk with hints each of which names disks to keep: one that fits is enough.
pub fn kept(kept: &[Hints], disk: &Disk) -> Fit {
    let mut unknown = Vec::new();
    for hints in kept {
        match compare(hints, disk) {
            Fit::Yes => return Fit::Yes,
            Fit::No => {}
            Fit::Unknown(why) => unknown.push(why),
        }
    }
    if unknown.is_empty() { Fit::No } else { Fit::Unknown(unknown.join("; ")) }
}

/// None: it cannot be told.
fn one(key: &str, wanted: &Value, disk: &Disk) -> Option<bool> {
    let wanted = match wanted {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(_) | Value::Bool(_) => wanted.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    match key {
        "size" => matches(&(disk.size >> 30).to_string(), &wanted, true),
        "rotational" => truth(&wanted).map(|wanted| wanted == disk.rotational),
        "name" => any_name(&wanted, disk, named),
        "by_path" => any_name(&wanted, disk, at_path),
        "model" => matches(&disk.model, &wanted, false),
        "vendor" => matches(&disk.vendor, &wanted, false),
        "serial" => matches(&disk.serial, &wanted, false),
        "wwn" => matches(&disk.wwn, &wanted, false),
        "wwn_with_extension" => matches(&disk.wwn_full, &wanted, false),
        "wwn_vendor_extension" => {
            let short = disk.wwn.len();
            let extension = disk.wwn_full.get(short..).filter(|e| !e.is_empty()).map(|e| format!("0x{e}"));
            matches(&extension.unwrap_or_default(), &wanted, false)
        }
        "hctl" => matches(&disk.hctl, &wanted, false),
        _ => None,
    }
}

/// One name, or one of several after `<or>`.
fn any_name(wanted: &str, disk: &Disk, test: fn(&str, &Disk) -> Option<bool>) -> Option<bool> {
    let Some(choices) = wanted.strip_prefix("<or>") else {
        return test(wanted.strip_prefix("s==").unwrap_or(wanted).trim(), disk);
    };
    let outcomes: Vec<Option<bool>> = choices.split("<or>").map(|choice| test(choice.trim(), disk)).collect();
    if outcomes.contains(&Some(true)) {
        Some(true)
    } else if outcomes.contains(&None) {
        None
    } else {
        Some(false)
    }
}

/// By the name of a device file, which may be a link.
fn named(wanted: &str, disk: &Disk) -> Option<bool> {
    if wanted.is_empty() {
        return None;
    }
    if wanted == disk.kernel_name {
        return Some(true);
    }
    let operator = wanted.starts_with('<') || wanted.starts_with("s!=") || wanted.starts_with("!=");
    let Some(below) = wanted.strip_prefix("/dev/").filter(|_| !operator) else {
        // the other names of the disk are not known
        return if wanted.contains("/dev/disk/") || wanted.contains("/dev/mapper/") {
            None
        } else {
            matches(&disk.name(), wanted, false)
        };
    };
    match disk.path.parent().and_then(|dev| dev.join(below).canonicalize().ok()) {
        Some(target) => is_of(&target.file_name()?.to_string_lossy(), disk),
        None if wanted.starts_with(BY_PATH) => at_path(wanted, disk),
        None if below.contains('/') => None,
        None => is_of(below, disk),
    }
}

/// Whether a kernel name is the disk's. A partition of it, or what may be built on it, is not a clear answer.
fn is_of(kernel_name: &str, disk: &Disk) -> Option<bool> {
    if kernel_name.eq_ignore_ascii_case(&disk.kernel_name) {
        return Some(true);
    }
    let rest = kernel_name.strip_prefix(disk.kernel_name.as_str());
    let part = if disk.kernel_name.ends_with(|c: char| c.is_ascii_digit()) {
        rest.and_then(|rest| rest.strip_prefix('p'))
    } else {
        rest
    };
    let is_part = part.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let is_built = ["dm-", "md", "loop"].iter().any(|kind| kernel_name.starts_with(kind));
    if is_part || is_built { None } else { Some(false) }
}

const BY_PATH: &str = "/dev/disk/by-path/";

/// By the bus path: as udev linked it, else as the disk's place in sysfs says. The latter is sure only where both are
/// put together the same way.
fn at_path(wanted: &str, disk: &Disk) -> Option<bool> {
    if let Some(below) = wanted.strip_prefix("/dev/")
        && let Some(target) = disk.path.parent().and_then(|dev| dev.join(below).canonicalize().ok())
    {
        return is_of(&target.file_name()?.to_string_lossy(), disk);
    }
    if disk.by_path.is_empty() {
        return None;
    }
    let fits = matches(&format!("{BY_PATH}{}", disk.by_path), wanted, false)?;
    let pci = disk.by_path.split('-').nth(1).unwrap_or_default();
    let wanted = wanted.to_lowercase();
    if fits || !wanted.contains(pci) {
        return Some(fits);
    }
    // of one controller: the port tells, if both say it the same way (`ata-3` is also `ata-3.0`)
    let port = |path: &str| path.rsplit_once("-ata-").map(|(_, port)| port.trim_end_matches(".0").to_owned());
    match (port(&disk.by_path), port(&wanted)) {
        (Some(ours), Some(theirs)) if theirs.bytes().all(|b| b.is_ascii_digit()) => Some(ours == theirs),
        _ => None,
    }
}

/// Compares a disk's value with what a hint wants. Text compares without regard to case; without an operator numbers
/// (`numeric`) compare as numbers and text as a whole. None when the value is unknown (empty) or what is wanted is not
/// understood: that fits nothing, not even "other than", and is no mismatch either.
fn matches(seen: &str, wanted: &str, numeric: bool) -> Option<bool> {
    let seen = seen.trim().to_lowercase();
    let wanted = wanted.trim().to_lowercase();
    if seen.is_empty() || wanted.is_empty() {
        return None;
    }
    let (operator, rest) = match wanted.split_once(char::is_whitespace) {
        Some((word, rest)) if is_operator(word) => (word, rest.trim()),
        Some(_) | None => glued(&wanted),
    };
    let numbers = || Some((seen.parse::<f64>().ok()?, rest.parse::<f64>().ok()?));
    let number = |test: fn(f64, f64) -> bool| numbers().map(|(a, b)| test(a, b));
    Some(match operator {
        "=" | ">=" => return number(|a, b| a >= b),
        "==" => return number(|a, b| a == b),
        "!=" => return number(|a, b| a != b),
        "<=" => return number(|a, b| a <= b),
        ">" => return number(|a, b| a > b),
        "<" => return number(|a, b| a < b),
        "s==" => seen == rest,
        "s!=" => seen != rest,
        "s>=" => seen.as_str() >= rest,
        "s>" => seen.as_str() > rest,
        "s<=" => seen.as_str() <= rest,
        "s<" => seen.as_str() < rest,
        "<in>" => seen.contains(rest),
        "<all-in>" => rest.split_whitespace().filter(|w| *w != "<all-in>").all(|word| seen.contains(word)),
        "<or>" => rest.split("<or>").map(str::trim).any(|choice| choice == seen),
        "<range-in>" => return in_range(&seen, rest),
        _ if numeric => return number(|a, b| a == b),
        _ => seen == rest,
    })
}

fn is_operator(word: &str) -> bool {
    OPERATORS.contains(&word)
}

const OPERATORS: [&str; 16] = [
    "<range-in>",
    "<all-in>",
    "<in>",
    "<or>",
    "s==",
    "s!=",
    "s>=",
    "s<=",
    "s>",
    "s<",
    "==",
    "!=",
    ">=",
    "<=",
    ">",
    "<",
];

/// Operators written without a space (`>=60`); longest first, `=` last.
fn glued(wanted: &str) -> (&str, &str) {
    OPERATORS
        .iter()
        .chain(std::iter::once(&"="))
        .find_map(|operator| wanted.strip_prefix(operator).map(|rest| (*operator, rest.trim())))
        .unwrap_or(("", wanted))
}

/// `[ 10 20 ]`, `( 10 20 ]`, …: square brackets include their end.
fn in_range(seen: &str, range: &str) -> Option<bool> {
    let spaced: String = range
        .chars()
        .flat_map(|c| if matches!(c, '[' | ']' | '(' | ')') { vec![' ', c, ' '] } else { vec![c] })
        .collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let [open @ ("[" | "("), low, high, close @ ("]" | ")")] = words.as_slice() else { return None };
    let number = |text: &str| text.parse::<f64>().ok();
    let (seen, low, high) = (number(seen)?, number(low)?, number(high)?);
    Some(
        (if *open == "[" { seen >= low } else { seen > low })
            && (if *close == "]" { seen <= high } else { seen < high }),
    )
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::choose;

    fn disk(name: &str, gib: u64, model: &str) -> Disk {
        Disk {
            kernel_name: name.into(),
            size: gib << 30,
            model: model.into(),
            vendor: "ATA".into(),
            serial: format!("S-{name}"),
            wwn: "0x5000c50012345678".into(),
            wwn_full: "0x5000c50012345678aabb".into(),
            hctl: "1:0:0:0".into(),
            rotational: name == "sdb",
            ..Disk::default()
        }
    }

    fn fit(key: &str, wanted: impl Into<Value>) -> bool {
        fits(&Hints::from_iter([(key.to_owned(), wanted.into())]), &disk("sdb", 100, "SEAGATE ST100 NM"))
    }

    #[test]
    fn every_operator_decides_as_documented() {
        for (key, wanted, expected) in [
            ("size", "100", true),
            ("size", "99", false),
            ("size", "= 60", true),
            ("size", "= 101", false),
            ("size", "== 100", true),
            ("size", "!= 100", false),
            ("size", ">= 100", true),
            ("size", ">=101", false),
            ("size", "<= 100", true),
            ("size", "> 99", true),
            ("size", "> 100", false),
            ("size", "< 101", true),
            ("size", "<range-in> [ 50 100 ]", true),
            ("size", "<range-in> [ 50 100 )", false),
            ("size", "<range-in> (99 100]", true),
            ("size", "<or> 10 <or> 100", true),
            ("model", "seagate st100 nm", true),
            ("model", "seagate", false),
            ("model", "s== SEAGATE ST100 NM", true),
            ("model", "s!= SEAGATE", true),
            ("model", "s>= seagate", true),
            ("model", "s> zzz", false),
            ("model", "s<= zzz", true),
            ("model", "s< aaa", false),
            ("model", "<in> st100", true),
            ("model", "<in> wd", false),
            ("model", "<all-in> st100 nm", true),
            ("model", "<all-in> st100 wd", false),
            ("model", "<or> x <or> seagate st100 nm", true),
            ("name", "/dev/sdb", true),
            ("name", "s== /dev/sda", false),
            ("vendor", "ata", true),
            ("serial", "S-sdb", true),
            ("wwn", "0x5000C50012345678", true),
            ("wwn_with_extension", "0x5000c50012345678aabb", true),
            ("wwn_vendor_extension", "0xaabb", true),
            ("hctl", "1:0:0:0", true),
            ("rotational", "true", true),
            ("rotational", "no", false),
            ("rotational", "perhaps", false),
            ("by_path", "/dev/disk/by-path/pci-0", false),
        ] {
            assert_eq!(fit(key, wanted), expected, "{key}: {wanted}");
        }
        assert!(fit("size", 100) && fit("rotational", true));
    }

    #[test]
    fn an_unknown_value_fits_no_hint_not_even_a_negative_one() {
        let unknown = Disk { kernel_name: "sda".into(), size: 8 << 30, ..Disk::default() };
        for key in ["model", "vendor", "serial", "wwn", "wwn_with_extension", "wwn_vendor_extension", "hctl"]
        {
            for wanted in ["s!= x", "!= 5", "s< x", "<= x", "<or> <or> x", ""] {
                let hints = Hints::from_iter([(key.to_owned(), wanted.into())]);
                assert!(!fits(&hints, &unknown), "{key}: {wanted}");
            }
        }
    }

    #[test]
    fn a_hint_that_cannot_be_judged_is_neither_a_fit_nor_a_mismatch() {
        let hints = |key: &str, wanted: &str| Hints::from_iter([(key.to_owned(), wanted.into())]);
        let bare = Disk { kernel_name: "sda".into(), size: 8 << 30, ..Disk::default() };
        for (key, wanted) in [
            ("serial", "x"),
            ("wwn", "0x5"),
            ("by_path", "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"),
            ("name", "/dev/disk/by-id/wwn-0x5"),
            ("name", "/dev/sda1"),
            ("name", "/dev/md0"),
            ("size", "8GB"),
            ("size", "<range-in> 1 2"),
            ("rotational", "perhaps"),
        ] {
            assert!(matches!(compare(&hints(key, wanted), &bare), Fit::Unknown(_)), "{key}: {wanted}");
        }
        // one certain mismatch decides
        let both = Hints::from_iter([("serial".into(), "x".into()), ("size".into(), "9".into())]);
        assert_eq!(compare(&both, &bare), Fit::No);
        for (wanted, fit) in [("/dev/sda", Fit::Yes), ("sda", Fit::Yes), ("/dev/sdaa", Fit::No)] {
            assert_eq!(compare(&hints("name", wanted), &bare), fit, "{wanted}");
        }
        let placed = Disk { by_path: "pci-0000:00:1f.2-ata-3".into(), ..bare.clone() };
        for (port, fit) in [("ata-3", Fit::Yes), ("ata-3.0", Fit::Yes), ("ata-4.0", Fit::No)] {
            let wanted = format!("/dev/disk/by-path/pci-0000:00:1f.2-{port}");
            assert_eq!(compare(&hints("by_path", &wanted), &placed), fit, "{port}");
        }
        let keep = [hints("serial", "x"), hints("size", "8")];
        assert_eq!(kept(&keep, &bare), Fit::Yes);
        assert!(matches!(kept(&keep[..1], &bare), Fit::Unknown(_)));
    }

    #[test]
    fn links_of_device_files_are_followed() {
        let dev = tempfile::tempdir().expect("temp dir");
        let by_id = dev.path().join("disk/by-id");
        std::fs::create_dir_all(&by_id).expect("dirs");
        std::fs::write(dev.path().join("sda"), "").expect("file");
        std::os::unix::fs::symlink("../../sda", by_id.join("wwn-0x5")).expect("link");
        let hints = Hints::from_iter([("name".to_owned(), "/dev/disk/by-id/wwn-0x5".into())]);
        for (name, fit) in [("sda", Fit::Yes), ("sdb", Fit::No)] {
            let disk = Disk { kernel_name: name.into(), path: dev.path().join(name), ..Disk::default() };
            assert_eq!(compare(&hints, &disk), fit, "{name}");
        }
    }

    #[test]
    fn the_smallest_big_enough_disk_is_taken_and_all_hints_must_fit() {
        let disks = [disk("sda", 500, "A"), disk("sdb", 8, "B"), disk("sdc", 8, "C"), disk("sdd", 3, "D")];
        assert_eq!(choose(&disks, &Hints::new()).expect("one").kernel_name, "sdb");
        let both = serde_json::json!({"root_device": {"size": ">= 8", "model": "s== C"}});
        let hints = gather(None, Some(&both)).expect("hints");
        assert_eq!(choose(&disks, &hints).expect("one").kernel_name, "sdc");
        let instance = serde_json::json!({"root_device": {"name": "/dev/sda"}});
        let hints = gather(Some(&instance), Some(&both)).expect("hints");
        assert_eq!(choose(&disks, &hints).expect("one").kernel_name, "sda");
    }

    #[test]
    fn a_disk_that_raid_or_multipath_is_built_on_is_never_taken() {
        let held = Disk { held_by: "dm-0".into(), ..disk("sda", 8, "A") };
        let disks = [held.clone(), disk("sdb", 9, "A"), disk("sdc", 9, "A")];
        assert_eq!(choose(&disks, &Hints::new()).expect("one").kernel_name, "sdb");
        let hints = Hints::from_iter([("name".to_owned(), "/dev/sda".into())]);
        let text = choose(&disks, &hints).expect_err("in use").to_string();
        assert!(text.contains("in use by dm-0"), "{text}");
        assert!(choose(&[held], &Hints::new()).is_err());
    }

    #[test]
    fn no_fit_lists_what_was_seen_and_asked() {
        let wanted = serde_json::json!({"root_device": {"serial": "gone"}});
        let hints = gather(None, Some(&wanted)).expect("hints");
        let text = choose(&[disk("sda", 500, "A")], &hints).expect_err("none").to_string();
        assert!(
            text.contains("/dev/sda") && text.contains("gone") && text.contains("536870912000"),
            "{text}"
        );
        let text = choose(&[disk("sda", 3, "A")], &Hints::new()).expect_err("none").to_string();
        assert!(text.contains("4 GiB") && text.contains("/dev/sda"), "{text}");
        assert!(gather(None, Some(&serde_json::json!({"root_device": {"colour": "red"}}))).is_err());
        assert!(gather(None, Some(&serde_json::json!({"root_device": "sda"}))).is_err());
    }
}
