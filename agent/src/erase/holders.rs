//! Arrays and mappings on top of disks: md arrays are stopped before their members are erased, others are named.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::targets::entries;
use crate::console::say;

/// Arrays on arrays deeper than this are not meant seriously.
const DEEPEST: usize = 8;

/// Stops every md array that stands on disks in `erased` only, top ones first. An array that cannot be stopped stays in
/// its disks' way, where [`above`] finds it.
pub(super) fn stop_arrays(sys: &Path, erased: &BTreeSet<String>) {
    for _ in 0..DEEPEST {
        let mut stopped = false;
        for array in arrays(sys) {
            let folder = sys.join("block").join(&array);
            let on_top = !entries(&folder.join("holders")).is_empty();
            let disks = disks_of(sys, &array, DEEPEST);
            if on_top || disks.is_empty() || !disks.is_subset(erased) {
                continue;
            }
            // "clear" is the kernel's word for stopping an array and forgetting it
            match fs::write(folder.join("md/array_state"), "clear") {
                Ok(()) => {
                    stopped = true;
                    say(format!("stopped array {array}"));
                }
                Err(error) => tracing::warn!(array, %error, "the array could not be stopped"),
            }
        }
        if !stopped || arrays(sys).is_empty() {
            break;
        }
    }
}

/// Arrays that are assembled.
fn arrays(sys: &Path) -> Vec<String> {
    let names = entries(&sys.join("block"));
    let assembled = |name: &String| {
        let state = fs::read_to_string(sys.join("block").join(name).join("md/array_state"));
        name.starts_with("md") && state.is_ok_and(|state| state.trim() != "clear")
    };
    names.into_iter().filter(assembled).collect()
}

/// The disks below an array.
fn disks_of(sys: &Path, name: &str, depth: usize) -> BTreeSet<String> {
    let blocks = sys.join("block");
    let slaves = entries(&blocks.join(name).join("slaves"));
    if !slaves.is_empty() && depth > 0 {
        return slaves.iter().flat_map(|slave| disks_of(sys, slave, depth - 1)).collect();
    }
    if name.starts_with("md") {
        return BTreeSet::new();
    }
    if blocks.join(name).is_dir() {
        return BTreeSet::from([name.to_owned()]);
    }
    entries(&blocks).into_iter().filter(|disk| blocks.join(disk).join(name).is_dir()).collect()
}

/// What still stands on a disk or one of its partitions, by name.
pub(super) fn above(sys: &Path, disk: &str) -> Vec<String> {
    let folder = sys.join("block").join(disk);
    let mut found: BTreeSet<String> = entries(&folder.join("holders")).into_iter().collect();
    for part in entries(&folder).into_iter().filter(|part| part.starts_with(disk)) {
        found.extend(entries(&folder.join(part).join("holders")));
    }
    let stopped = |name: &String| {
        let state = fs::read_to_string(sys.join("block").join(name).join("md/array_state"));
        state.is_ok_and(|state| state.trim() == "clear")
    };
    found.into_iter().filter(|name| !stopped(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_stopped_only_if_all_its_disks_are_to_be_erased() {
        let folder = tempfile::tempdir().expect("temp dir");
        let sys = folder.path();
        let block = sys.join("block");
        for (array, members) in [("md0", ["sda1", "sdb1"]), ("md1", ["sda2", "sdc2"])] {
            fs::create_dir_all(block.join(array).join("md")).expect("dirs");
            fs::write(block.join(array).join("md/array_state"), "active\n").expect("file");
            for member in members {
                fs::create_dir_all(block.join(array).join("slaves").join(member)).expect("dirs");
                fs::create_dir_all(block.join(&member[..3]).join(member).join("holders").join(array))
                    .expect("dirs");
            }
        }
        let erased = BTreeSet::from(["sda".to_owned(), "sdb".to_owned()]);
        stop_arrays(sys, &erased);
        let state =
            |array: &str| fs::read_to_string(block.join(array).join("md/array_state")).expect("state");
        assert_eq!((state("md0").as_str(), state("md1").as_str()), ("clear", "active\n"));
        assert_eq!(above(sys, "sda"), ["md1"]);
        assert_eq!(above(sys, "sdb"), Vec::<String>::new());
        fs::create_dir_all(block.join("sdb/holders/dm-0")).expect("dirs");
        assert_eq!(above(sys, "sdb"), ["dm-0"]);
    }
}
