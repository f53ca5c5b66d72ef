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

/// True when every hint fits the disk.
pub fn fits(hints: &Hints, disk: &Disk) -> bool {
    hints.iter().all(|(key, wanted)| {
        let wanted = wanted.as_str().map_or_else(|| wanted.to_string(), |text| text.trim().to_owned());
        match key.as_str() {
            "size" => matches(&(disk.size >> 30).to_string(), &wanted, true),
            "rotational" => truth(&wanted) == Some(disk.rotational),
            "name" => matches(&disk.name(), &wanted, false),
            "by_path" => {
                !disk.by_path.is_empty()
                    && matches(&format!("/dev/disk/by-path/{}", disk.by_path), &wanted, false)
            }
            "model" => matches(&disk.model, &wanted, false),
            "vendor" => matches(&disk.vendor, &wanted, false),
            "serial" => matches(&disk.serial, &wanted, false),
            "wwn" => matches(&disk.wwn, &wanted, false),
            "wwn_with_extension" => matches(&disk.wwn_full, &wanted, false),
            "wwn_vendor_extension" => {
                let short = disk.wwn.len();
                let extension =
                    disk.wwn_full.get(short..).filter(|e| !e.is_empty()).map(|e| format!("0x{e}"));
                matches(&extension.unwrap_or_default(), &wanted, false)
            }
            "hctl" => matches(&disk.hctl, &wanted, false),
            _ => false,
        }
    })
}

/// Compares a disk's value with what a hint wants. Text compares without regard to case; without an operator numbers
/// (`numeric`) compare as numbers and text as a whole. What is unknown (empty) fits nothing, not even "other than".
fn matches(seen: &str, wanted: &str, numeric: bool) -> bool {
    let seen = seen.trim().to_lowercase();
    if seen.is_empty() {
        return false;
    }
    let wanted = wanted.trim().to_lowercase();
    let (operator, rest) = match wanted.split_once(char::is_whitespace) {
        Some((word, rest)) if is_operator(word) => (word, rest.trim()),
        Some(_) | None => glued(&wanted),
    };
    let numbers = || Some((seen.parse::<f64>().ok()?, rest.parse::<f64>().ok()?));
    let number = |test: fn(f64, f64) -> bool| numbers().is_some_and(|(a, b)| test(a, b));
    match operator {
        "=" | ">=" => number(|a, b| a >= b),
        "==" => number(|a, b| a == b),
        "!=" => number(|a, b| a != b),
        "<=" => number(|a, b| a <= b),
        ">" => number(|a, b| a > b),
        "<" => number(|a, b| a < b),
        "s==" => seen == rest,
        "s!=" => seen != rest,
        "s>=" => seen.as_str() >= rest,
        "s>" => seen.as_str() > rest,
        "s<=" => seen.as_str() <= rest,
        "s<" => seen.as_str() < rest,
        "<in>" => seen.contains(rest),
        "<all-in>" => rest.split_whitespace().filter(|w| *w != "<all-in>").all(|word| seen.contains(word)),
        "<or>" => rest.split("<or>").map(str::trim).any(|choice| choice == seen),
        "<range-in>" => in_range(&seen, rest),
        _ if numeric => number(|a, b| a == b),
        _ => seen == rest,
    }
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
fn in_range(seen: &str, range: &str) -> bool {
    let spaced: String = range
        .chars()
        .flat_map(|c| if matches!(c, '[' | ']' | '(' | ')') { vec![' ', c, ' '] } else { vec![c] })
        .collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let [open @ ("[" | "("), low, high, close @ ("]" | ")")] = words.as_slice() else { return false };
    let (Ok(seen), Ok(low), Ok(high)) = (seen.parse::<f64>(), low.parse::<f64>(), high.parse::<f64>()) else {
        return false;
    };
    (if *open == "[" { seen >= low } else { seen > low })
        && (if *close == "]" { seen <= high } else { seen < high })
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
