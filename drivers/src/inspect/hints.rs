//! Which disk the root device hints mean (deploy.md §B.9), out of the disks of an inventory.

use serde_json::Value;

use crate::interface::Json;

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

const OPERATORS: [&str; 17] = [
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
    "=",
];

/// The first of `disks` that all `hints` fit. Errors: an unknown hint.
pub(super) fn find<'a>(hints: &Json, disks: &'a [Value]) -> Result<Option<&'a Value>, String> {
    if let Some(unknown) = hints.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("the hint {unknown} is unknown"));
    }
    Ok(disks.iter().find(|disk| fits(hints, disk)))
}

/// Whether every hint fits the disk.
pub(super) fn fits(hints: &Json, disk: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => text.trim().to_lowercase(),
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    };
    hints.iter().all(|(key, wanted)| {
        let wanted = text(wanted);
        let seen = disk.get(key).unwrap_or(&Value::Null);
        match key.as_str() {
            "size" => seen.as_u64().is_some_and(|bytes| matches(&(bytes >> 30).to_string(), &wanted, true)),
            "rotational" => {
                let wanted = matches!(wanted.as_str(), "true" | "1" | "yes" | "on" | "t" | "y");
                seen.as_bool() == Some(wanted)
            }
            _ => matches(&text(seen), &wanted, false),
        }
    })
}

fn matches(seen: &str, wanted: &str, numeric: bool) -> bool {
    // what is unknown fits nothing, not even "other than"
    if seen.is_empty() {
        return false;
    }
    let (operator, rest) = OPERATORS
        .iter()
        .find_map(|operator| wanted.strip_prefix(operator).map(|rest| (*operator, rest.trim())))
        .unwrap_or(("", wanted));
    let number = |test: fn(&f64, &f64) -> bool| match (seen.parse::<f64>(), rest.parse::<f64>()) {
        (Ok(seen), Ok(rest)) => test(&seen, &rest),
        (_, _) => false,
    };
    match operator {
        "=" | ">=" => number(f64::ge),
        "==" => number(f64::eq),
        "!=" => number(f64::ne),
        "<=" => number(f64::le),
        ">" => number(f64::gt),
        "<" => number(f64::lt),
        "s==" => seen == rest,
        "s!=" => seen != rest,
        "s>=" => seen >= rest,
        "s>" => seen > rest,
        "s<=" => seen <= rest,
        "s<" => seen < rest,
        "<in>" => seen.contains(rest),
        "<all-in>" => rest.split_whitespace().filter(|word| *word != "<all-in>").all(|w| seen.contains(w)),
        "<or>" => rest.split("<or>").map(str::trim).any(|choice| choice == seen),
        "<range-in>" => in_range(seen, rest),
        _ if numeric => number(f64::eq),
        _ => seen == rest,
    }
}

/// `[ 10 20 ]`, `(10 20]`: square brackets include their end.
fn in_range(seen: &str, range: &str) -> bool {
    let inner = range.trim_start_matches(['[', '(']).trim_end_matches([']', ')']);
    let mut ends = inner.split_whitespace().map(str::parse::<f64>);
    let (Ok(seen), Some(Ok(low)), Some(Ok(high)), None) =
        (seen.parse::<f64>(), ends.next(), ends.next(), ends.next())
    else {
        return false;
    };
    (if range.starts_with('[') { seen >= low } else { seen > low })
        && (if range.ends_with(']') { seen <= high } else { seen < high })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hints_choose_the_disk_that_ironic_would() {
        let disks = [
            json!({"name": "/dev/sda", "size": 500_u64 << 30, "rotational": true, "serial": "A1", "model": "SEAGATE ST100"}),
            json!({"name": "/dev/nvme0n1", "size": 100_u64 << 30, "rotational": false, "serial": "B2", "wwn": null}),
        ];
        for (hints, expected) in [
            (json!({"size": 100}), Some("/dev/nvme0n1")),
            (json!({"size": ">= 200"}), Some("/dev/sda")),
            (json!({"size": "<range-in> [ 50 100 ]"}), Some("/dev/nvme0n1")),
            (json!({"size": "<range-in> [ 50 100 )"}), None),
            (json!({"rotational": false}), Some("/dev/nvme0n1")),
            (json!({"serial": "<or> b2 <or> c3"}), Some("/dev/nvme0n1")),
            (json!({"model": "<in> seagate"}), Some("/dev/sda")),
            (json!({"model": "<all-in> seagate st100", "size": "= 60"}), Some("/dev/sda")),
            (json!({"wwn": "!= 5"}), None),
            (json!({"name": "s!= /dev/sda"}), Some("/dev/nvme0n1")),
        ] {
            let Value::Object(map) = hints.clone() else { panic!("an object") };
            let name = find(&map, &disks).unwrap().map(|disk| disk["name"].as_str().unwrap());
            assert_eq!(name, expected, "{hints}");
        }
        assert!(find(&Json::from_iter([("colour".to_owned(), json!("red"))]), &disks).is_err());
    }
}
