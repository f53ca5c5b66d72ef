//! Whether a RAID configuration says what can be said, with the words Ironic has for what cannot.
//!
//! Ironic checks a JSON schema and reports the one error that its validator holds to be the most telling: the
//! shallowest, among equals the one at the greatest path; of alternatives that all fail, the deepest.

use serde_json::Value;

use crate::error::DriverError;
use crate::interface::{Json, LOGICAL_DISK_PROPERTIES, Result};
use crate::python;

const LEVELS: &[&str] = &["JBOD", "0", "1", "2", "5", "6", "1+0", "5+0", "6+0"];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Index(usize),
    Key(&'static str),
}

/// One thing that is wrong.
struct Fault {
    path: Vec<Part>,
    message: String,
    /// Its value is of the type that the rule is for.
    typed: bool,
    /// Why each alternative fails, with paths from here.
    alternatives: Vec<Fault>,
}

impl Fault {
    fn new(path: &[Part], typed: bool, message: String) -> Fault {
        Fault { path: path.to_vec(), message, typed, alternatives: Vec::new() }
    }

    fn rank(&self) -> (std::cmp::Reverse<usize>, &[Part], bool, bool) {
        (std::cmp::Reverse(self.path.len()), &self.path, self.alternatives.is_empty(), !self.typed)
    }
}

/// The most telling of `faults`.
fn best(faults: Vec<Fault>) -> Option<Fault> {
    // of equals the first
    let mut best =
        faults.into_iter().reduce(|best, one| if one.rank() > best.rank() { one } else { best })?;
    loop {
        let mut order: Vec<usize> = (0..best.alternatives.len()).collect();
        order.sort_by(|a, b| best.alternatives[*a].rank().cmp(&best.alternatives[*b].rank()));
        match order[..] {
            [] => return Some(best),
            [first, second, ..] if best.alternatives[first].rank() == best.alternatives[second].rank() => {
                return Some(best);
            }
            [first, ..] => best = best.alternatives.swap_remove(first),
        }
    }
}

fn not_of_type(path: &[Part], value: &Value, wanted: &str) -> Fault {
    Fault::new(path, false, format!("{} is not of type '{wanted}'", python::repr(value)))
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn word(faults: &mut Vec<Fault>, path: &[Part], value: &Value, words: &[&str]) {
    if !value.is_string() {
        faults.push(not_of_type(path, value, "string"));
    }
    if !words.is_empty() && !value.as_str().is_some_and(|text| words.contains(&text)) {
        let message = format!("{} is not one of {}", python::repr(value), python::list(words));
        faults.push(Fault::new(path, value.is_string(), message));
    }
}

fn integer(faults: &mut Vec<Fault>, path: &[Part], value: &Value, above: i64, words: &str) {
    if !is_integer(value) {
        faults.push(not_of_type(path, value, "integer"));
    }
    if value.as_f64().is_some_and(|number| number < above as f64) {
        faults.push(Fault::new(path, is_integer(value), format!("{} is {words} of 0", python::repr(value))));
    }
}

fn any_of(faults: &mut Vec<Fault>, path: &[Part], value: &Value, alternatives: [Vec<Fault>; 2]) {
    if alternatives.iter().any(Vec::is_empty) {
        return;
    }
    let message = format!("{} is not valid under any of the given schemas", python::repr(value));
    let alternatives = alternatives.into_iter().flatten().collect();
    faults.push(Fault { alternatives, ..Fault::new(path, false, message) });
}

/// A list whose members are all of one type.
fn members(value: &Value, of: &str, right: fn(&Value) -> bool, at_least: usize) -> Vec<Fault> {
    let Some(all) = value.as_array() else { return vec![not_of_type(&[], value, "array")] };
    let mut faults: Vec<Fault> = all
        .iter()
        .enumerate()
        .filter(|(_, one)| !right(one))
        .map(|(index, one)| not_of_type(&[Part::Index(index)], one, of))
        .collect();
    if all.len() < at_least {
        faults.push(Fault::new(&[], true, format!("{} is too short", python::repr(value))));
    }
    faults
}

fn property(faults: &mut Vec<Fault>, path: &[Part], name: &str, value: &Value) {
    match name {
        "raid_level" => word(faults, path, value, LEVELS),
        "disk_type" => word(faults, path, value, &["hdd", "ssd"]),
        "interface_type" => word(faults, path, value, &["sata", "scsi", "sas"]),
        "size_gb" => {
            let mut sizes = [Vec::new(), Vec::new()];
            integer(&mut sizes[0], &[], value, 0, "less than the minimum");
            word(&mut sizes[1], &[], value, &["MAX"]);
            any_of(faults, path, value, sizes);
        }
        "is_root_volume" | "share_physical_disks" => {
            if !value.is_boolean() {
                faults.push(not_of_type(path, value, "boolean"));
            }
        }
        "number_of_physical_disks" => integer(faults, path, value, 1, "less than or equal to the minimum"),
        "physical_disks" => {
            let names = members(value, "string", Value::is_string, 0);
            let hints = members(value, "object", Value::is_object, 2);
            any_of(faults, path, value, [names, hints]);
        }
        // controller, volume_name
        _ => word(faults, path, value, &[]),
    }
}

fn disk(faults: &mut Vec<Fault>, index: usize, value: &Value) {
    let path = [Part::Key("logical_disks"), Part::Index(index)];
    let Some(disk) = value.as_object() else {
        faults.push(not_of_type(&path, value, "object"));
        return;
    };
    for (name, _) in LOGICAL_DISK_PROPERTIES {
        if let Some(value) = disk.get(*name) {
            property(faults, &[path[0].clone(), path[1].clone(), Part::Key(name)], name, value);
        }
    }
    for name in ["raid_level", "size_gb"] {
        if !disk.contains_key(name) {
            faults.push(Fault::new(&path, true, format!("'{name}' is a required property")));
        }
    }
    let known = |name: &str| LOGICAL_DISK_PROPERTIES.iter().any(|(known, _)| *known == name);
    additional(faults, &path, disk, known);
    if disk.contains_key("physical_disks") && !disk.contains_key("controller") {
        let message = "'controller' is a dependency of 'physical_disks'".to_owned();
        faults.push(Fault::new(&path, true, message));
    }
}

fn additional(faults: &mut Vec<Fault>, path: &[Part], object: &Json, known: impl Fn(&str) -> bool) {
    let mut more: Vec<&str> = object.keys().map(String::as_str).filter(|name| !known(name)).collect();
    more.sort_unstable();
    if more.is_empty() {
        return;
    }
    let were = if more.len() == 1 { "was" } else { "were" };
    let more: Vec<String> = more.into_iter().map(python::text).collect();
    let message = format!("Additional properties are not allowed ({} {were} unexpected)", more.join(", "));
    faults.push(Fault::new(path, true, message));
}

/// Checks `config`; the error is the one that Ironic would give.
pub(crate) fn validate(config: &Json) -> Result<()> {
    let mut faults = Vec::new();
    let disks = config.get("logical_disks");
    match disks {
        None => faults.push(Fault::new(&[], true, "'logical_disks' is a required property".into())),
        Some(Value::Array(all)) => {
            for (index, one) in all.iter().enumerate() {
                disk(&mut faults, index, one);
            }
            if all.is_empty() {
                faults.push(Fault::new(&[Part::Key("logical_disks")], true, "[] should be non-empty".into()));
            }
        }
        Some(other) => faults.push(not_of_type(&[Part::Key("logical_disks")], other, "array")),
    }
    additional(&mut faults, &[], config, |name| name == "logical_disks");
    if let Some(fault) = best(faults) {
        let reason = format!("RAID config validation error: {}", fault.message);
        return Err(DriverError::InvalidParameter { reason });
    }
    let all = disks.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_root = |disk: &&Value| disk.get("is_root_volume").and_then(Value::as_bool).unwrap_or(false);
    match all.iter().filter(is_root).count() {
        0 | 1 => Ok(()),
        roots => Err(DriverError::InvalidParameter {
            reason: format!(
                "Raid config cannot have more than one root volume. {roots} root volumes were specified"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::validate;

    /// What jsonschema 4.26 says of each.
    #[test]
    fn every_mistake_gets_the_words_ironic_has_for_it() {
        let disk = |more: Value| {
            let mut disk = json!({"raid_level": "1", "size_gb": 10});
            for (key, value) in more.as_object().unwrap() {
                disk[key] = value.clone();
            }
            json!({"logical_disks": [disk]})
        };
        let under_any = |what: &str| format!("{what} is not valid under any of the given schemas");
        let cases: Vec<(Value, String)> = vec![
            (json!({}), "'logical_disks' is a required property".into()),
            (json!({"logical_disks": []}), "[] should be non-empty".into()),
            (json!({"logical_disks": {}}), "{} is not of type 'array'".into()),
            (json!({"logical_disks": [1]}), "1 is not of type 'object'".into()),
            (json!({"a": 1, "b": 2}), "'logical_disks' is a required property".into()),
            (
                json!({"logical_disks": [], "z": 1}),
                "Additional properties are not allowed ('z' was unexpected)".into(),
            ),
            (
                disk(json!({"raid_level": "9"})),
                "'9' is not one of ['JBOD', '0', '1', '2', '5', '6', '1+0', '5+0', '6+0']".into(),
            ),
            (disk(json!({"raid_level": 1})), "1 is not of type 'string'".into()),
            (json!({"logical_disks": [{"raid_level": "1"}]}), "'size_gb' is a required property".into()),
            (json!({"logical_disks": [{}]}), "'raid_level' is a required property".into()),
            (disk(json!({"size_gb": "x"})), "'x' is not one of ['MAX']".into()),
            (disk(json!({"size_gb": -1})), "-1 is less than the minimum of 0".into()),
            (disk(json!({"size_gb": 1.5})), under_any("1.5")),
            (disk(json!({"size_gb": null})), under_any("None")),
            (disk(json!({"size_gb": true})), under_any("True")),
            (
                disk(json!({"physical_disks": ["a"]})),
                "'controller' is a dependency of 'physical_disks'".into(),
            ),
            (
                disk(json!({"controller": "c", "physical_disks": ["a", 1]})),
                "'a' is not of type 'object'".into(),
            ),
            (disk(json!({"controller": "c", "physical_disks": [{}]})), "{} is not of type 'string'".into()),
            (disk(json!({"controller": "c", "physical_disks": "s"})), under_any("'s'")),
            (
                disk(json!({"number_of_physical_disks": 0})),
                "0 is less than or equal to the minimum of 0".into(),
            ),
            (
                disk(json!({"foo": 1, "bar": 2})),
                "Additional properties are not allowed ('bar', 'foo' were unexpected)".into(),
            ),
            (disk(json!({"is_root_volume": "yes", "volume_name": 1})), "1 is not of type 'string'".into()),
            (disk(json!({"number_of_physical_disks": "x"})), "'x' is not of type 'integer'".into()),
        ];
        for (config, words) in cases {
            let error = validate(config.as_object().unwrap()).expect_err(&config.to_string());
            assert_eq!(error.to_string(), format!("RAID config validation error: {words}"), "{config}");
        }
        let fine = disk(json!({"controller": "c", "physical_disks": [], "size_gb": "MAX"}));
        assert_eq!(validate(fine.as_object().unwrap()), Ok(()));
        let root = json!({"raid_level": "1", "size_gb": 1, "is_root_volume": true});
        let two = json!({"logical_disks": [root, root]});
        let error = validate(two.as_object().unwrap()).unwrap_err();
        assert!(error.to_string().ends_with("2 root volumes were specified"), "{error}");
    }
}
