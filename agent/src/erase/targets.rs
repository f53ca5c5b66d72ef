//! Which disks are to be erased, which are passed over, and which are refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::plan::Policy;
use crate::disk::{self, Disk};
use crate::error::Failure;
use crate::hints::{self, Fit, Hints};

/// What is to happen to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Erase it.
    Erase,
    /// Leave it, for this reason, and be content.
    Skip(String),
    /// It should be erased and cannot be, for this reason.
    Refuse(String),
}

/// A disk and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub disk: Disk,
    /// Its fate.
    pub verdict: Verdict,
}

/// Where the machine is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// `/sys`.
    pub sys: &'a Path,
    /// `/dev`.
    pub dev: &'a Path,
    /// The text of `/proc/self/mounts`.
    pub mounts: &'a str,
}

/// Mount points of a system that runs from a medium of its own.
const OWN_PLACES: [&str; 5] = ["/", "/run/initramfs", "/run/live", "/lib/live", "/cdrom"];

/// Words in the names of the pretended drives of BMCs.
const PRETENDED: [&str; 7] = ["virtual", "gadget", "idrac", "ilo ", "remote media", "remote cd", "lcdrive"];

/// Every fixed disk of the machine with its fate. Errors: `Parameters` for an unreadable `skip_block_devices`.
pub fn find(machine: Machine<'_>, properties: &Value, policy: &Policy) -> Result<Vec<Target>, Failure> {
    let kept = skip_hints(properties)?;
    let mounted = mounted(machine);
    let verdict = |disk: &Disk| {
        if let Some(places) = mounted.get(&disk.kernel_name) {
            let own = |place: &&String| {
                OWN_PLACES.iter().any(|own| {
                    place == own || *own != "/" && place.strip_prefix(own).is_some_and(|r| r.starts_with('/'))
                })
            };
            if places.iter().any(|place| own(&place)) {
                return Verdict::Skip("the agent runs from it".to_owned());
            }
            return Verdict::Refuse(format!("it is mounted at {}", places.join(", ")));
        }
        if is_pretended(machine.sys, disk) {
            return Verdict::Skip("virtual media".to_owned());
        }
        match hints::kept(&kept, disk) {
            Fit::Yes => Verdict::Skip("named in properties.skip_block_devices".to_owned()),
            Fit::No => Verdict::Erase,
            Fit::Unknown(hints) => Verdict::Refuse(format!(
                "it may be one to keep: properties.skip_block_devices asks for {hints}, which cannot be judged of it"
            )),
        }
    };
    let mut targets: Vec<Target> = disk::list(machine.sys, machine.dev)
        .into_iter()
        .map(|disk| Target { verdict: verdict(&disk), disk })
        .collect();
    targets.extend(disk::read_only(machine.sys, machine.dev).into_iter().map(|disk| {
        let verdict = match verdict(&disk) {
            Verdict::Erase | Verdict::Refuse(_) if policy.skip_read_only => {
                Verdict::Skip("it is read-only".to_owned())
            }
            Verdict::Erase | Verdict::Refuse(_) => Verdict::Refuse(
                "it is read-only; to pass over such disks, set agent_erase_skip_read_only".to_owned(),
            ),
            skip @ Verdict::Skip(_) => skip,
        };
        Target { disk, verdict }
    }));
    Ok(targets)
}

/// The hints of `properties.skip_block_devices`, each of which names disks to keep. Errors: `Parameters`, also for
/// RAID volumes (by `volume_name`), whose disks would not be kept.
pub fn skip_hints(properties: &Value) -> Result<Vec<Hints>, Failure> {
    let wrong = || Failure::Parameters("properties.skip_block_devices must be a list of hints".to_owned());
    let given = match properties.get("skip_block_devices") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| wrong())?,
        Some(value) => value.clone(),
    };
    let Value::Array(list) = given else { return Err(wrong()) };
    list.into_iter()
        .map(|hints| {
            if hints.get("volume_name").is_some() {
                return Err(Failure::Parameters(
                    "properties.skip_block_devices names a volume_name, but software RAID is not handled: its disks \
                     would not be kept; name the disks instead"
                        .to_owned(),
                ));
            }
            if hints.as_object().is_none_or(|hints| hints.is_empty()) {
                return Err(wrong());
            }
            hints::gather(None, Some(&json!({ "root_device": hints })))
        })
        .collect()
}

/// Mount points by the disk they are on.
fn mounted(machine: Machine<'_>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in machine.mounts.lines() {
        let mut words = line.split_whitespace();
        let (Some(device), Some(place)) = (words.next(), words.next()) else { continue };
        let Some(name) = device.strip_prefix("/dev/") else { continue };
        for disk in disks_below(machine.sys, name) {
            found.entry(disk).or_default().push(place.to_owned());
        }
    }
    found
}

/// The disks that a block device is on: itself, the disk of a partition, those under an array.
fn disks_below(sys: &Path, name: &str) -> Vec<String> {
    let blocks = sys.join("block");
    let folder = blocks.join(name);
    let slaves: Vec<String> = entries(&folder.join("slaves"));
    if !slaves.is_empty() {
        return slaves.iter().flat_map(|slave| disks_below(sys, slave)).collect();
    }
    if folder.is_dir() {
        return vec![name.to_owned()];
    }
    entries(&blocks).into_iter().filter(|disk| blocks.join(disk).join(name).is_dir()).collect()
}

/// The names in a folder, sorted; none if there is no such folder.
pub(crate) fn entries(folder: &Path) -> Vec<String> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A drive on USB whose name says that a BMC made it up. Removable ones are not even in the list.
fn is_pretended(sys: &Path, disk: &Disk) -> bool {
    let device = fs::canonicalize(sys.join("block").join(&disk.kernel_name).join("device"));
    let usb = device.is_ok_and(|path| path.iter().any(|part| part.to_string_lossy().starts_with("usb")));
    let name = format!("{} {}", disk.vendor, disk.model).to_lowercase();
    usb && PRETENDED.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    struct World(tempfile::TempDir);

    impl World {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("temp dir"))
        }

        fn sys(&self) -> PathBuf {
            self.0.path().join("sys")
        }

        fn disk(&self, name: &str, bus: &str, model: &str, flag: &str) -> &Self {
            let device = self.0.path().join("devices").join(bus).join(name);
            fs::create_dir_all(&device).expect("dirs");
            fs::write(device.join("model"), model).expect("file");
            let block = self.sys().join("block").join(name);
            fs::create_dir_all(block.join("queue")).expect("dirs");
            fs::write(block.join("size"), "2048\n").expect("file");
            symlink(&device, block.join("device")).expect("link");
            if !flag.is_empty() {
                fs::write(block.join(flag), "1\n").expect("file");
            }
            fs::create_dir_all(block.join(format!("{name}1"))).expect("partition");
            self
        }

        fn fate(&self, mounts: &str, properties: Value, skip_read_only: bool) -> Vec<(String, Verdict)> {
            let (sys, dev) = (self.sys(), PathBuf::from("/dev"));
            let machine = Machine { sys: &sys, dev: &dev, mounts };
            let policy = Policy { skip_read_only, ..Policy::default() };
            let targets = find(machine, &properties, &policy).expect("found");
            targets.into_iter().map(|t| (t.disk.kernel_name, t.verdict)).collect()
        }
    }

    #[test]
    fn what_must_not_be_touched_is_passed_over_with_its_reason() {
        let world = World::new();
        world
            .disk("sda", "pci/ata1", "ST100", "")
            .disk("sdb", "pci/usb1/1-1", "Virtual HDisk0", "")
            .disk("sdc", "pci/ata2", "ST200", "")
            .disk("sdd", "pci/usb1/1-2", "Virtual CD", "removable")
            .disk("sde", "pci/ata3", "Virtual disk", "")
            .disk("sdf", "pci/ata4", "ST300", "");
        let properties = json!({"skip_block_devices": [{"model": "ST300"}]});
        let fate = world.fate("/dev/sdc1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n", properties, false);
        let skip = |why: &str| Verdict::Skip(why.to_owned());
        let expected = [
            ("sda", Verdict::Erase),
            ("sdb", skip("virtual media")),
            ("sdc", skip("the agent runs from it")),
            ("sde", Verdict::Erase),
            ("sdf", skip("named in properties.skip_block_devices")),
        ];
        assert_eq!(fate, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    }

    #[test]
    fn a_mounted_disk_is_refused_also_below_an_array() {
        let world = World::new();
        world.disk("sda", "pci/ata1", "A", "").disk("sdb", "pci/ata2", "B", "");
        fs::create_dir_all(world.sys().join("block/md0/slaves/sdb1")).expect("array");
        let fate = world.fate(
            "/dev/md0 /mnt ext4 rw 0 0\n/dev/sda /run/live/medium iso9660 ro 0 0",
            json!({}),
            false,
        );
        assert_eq!(fate[0].1, Verdict::Skip("the agent runs from it".to_owned()));
        assert_eq!(fate[1].1, Verdict::Refuse("it is mounted at /mnt".to_owned()));
    }

    #[test]
    fn a_read_only_disk_fails_unless_the_operator_passes_over_it() {
        let world = World::new();
        world.disk("sda", "pci/ata1", "A", "ro");
        let [(_, refused)] = &world.fate("", json!({}), false)[..] else { panic!("one disk") };
        assert!(matches!(refused, Verdict::Refuse(why) if why.contains("agent_erase_skip_read_only")));
        assert_eq!(world.fate("", json!({}), true)[0].1, Verdict::Skip("it is read-only".to_owned()));
        let kept = json!({"skip_block_devices": "[{\"name\": \"/dev/sda\"}]"});
        assert!(matches!(world.fate("", kept, false)[0].1, Verdict::Skip(_)));
    }

    #[test]
    fn a_disk_that_may_be_one_to_keep_is_refused_not_erased() {
        let world = World::new();
        world.disk("sda", "pci/ata1", "A", "");
        for hints in [json!({"wwn": "0x5"}), json!({"name": "/dev/disk/by-id/no-such-link"})] {
            let [(_, verdict)] = &world.fate("", json!({"skip_block_devices": [hints]}), false)[..] else {
                panic!("one disk")
            };
            assert!(
                matches!(verdict, Verdict::Refuse(why) if why.contains("may be one to keep")),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn an_unreadable_list_of_disks_to_keep_stops_everything() {
        for bad in
            [json!("x"), json!({"serial": "1"}), json!([{}]), json!([{"colour": "red"}]), json!(["sda"])]
        {
            assert!(skip_hints(&json!({ "skip_block_devices": bad })).is_err(), "{bad}");
        }
        let raid = skip_hints(&json!({"skip_block_devices": [{"volume_name": "x"}]})).expect_err("RAID");
        assert!(raid.to_string().contains("software RAID is not handled"), "{raid}");
        assert!(skip_hints(&json!({"skip_block_devices": null})).expect("none").is_empty());
    }
}
