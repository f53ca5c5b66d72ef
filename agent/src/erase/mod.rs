//! Erasing disks: all of them, each by the strongest means it has (`erase_devices`), or only what makes them look used
//! (`erase_devices_metadata`). Every disk is tried; what failed is told per disk.

mod ata;
mod holders;
mod ioctl;
mod medium;
mod metadata;
mod nvme;
pub mod plan;
pub mod targets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ferric_agent_wire::WritePhase;
use serde_json::{Value, json};

use crate::console::say;
use crate::disk::{self, Disk};
use crate::error::Failure;
use crate::image::ProgressCell;
use medium::Medium;
use plan::{Capabilities, Discard, Method, Plan, Policy};
use targets::{Machine, Target, Verdict};

/// What of the disks is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every byte.
    Everything,
    /// Partition tables and signatures.
    Metadata,
    /// Every byte where an NVMe disk does it by itself, which is quick; of other disks the metadata.
    Express,
}

/// Wipes one disk's partition tables and signatures. Errors: I/O; `EBUSY` when it is in use.
pub(crate) fn wipe_metadata(disk: &Disk, sys: &Path) -> io::Result<()> {
    metadata::wipe(disk, sys)
}

/// Forgets what the kernel has read of a block device.
pub(crate) fn flush_buffers(device: &fs::File) -> io::Result<()> {
    ioctl::flush_buffers(device)
}

/// Erases the machine's disks. `node` is the node as the conductor sends it. Returns what was done, by disk. Blocks,
/// for hours if it must.
/// Errors: `Parameters` before anything is touched; `Erase` naming every disk that is not erased, with the reason.
pub fn run(
    machine: Machine<'_>,
    node: &Value,
    extent: Extent,
    progress: &ProgressCell,
) -> Result<Value, Failure> {
    let part = |key: &str| node.get(key).unwrap_or(&Value::Null);
    let policy = Policy::read(part("driver_internal_info"))?;
    let targets = targets::find(machine, part("properties"), &policy)?;
    let erased: BTreeSet<String> = targets
        .iter()
        .filter(|target| target.verdict == Verdict::Erase)
        .map(|target| target.disk.kernel_name.clone())
        .collect();
    holders::stop_arrays(machine.sys, &erased);
    let job = Job {
        machine,
        policy: &policy,
        extent,
        meter: Meter { progress },
        protected: targets
            .iter()
            .filter(|target| target.verdict != Verdict::Erase)
            .map(|target| controller(&target.disk.kernel_name))
            .collect(),
    };
    let mut outcomes: BTreeMap<String, Result<String, String>> = BTreeMap::new();
    let mut work: BTreeMap<String, Vec<Prepared>> = BTreeMap::new();
    for Target { disk, verdict } in targets {
        let name = disk.name();
        match verdict {
            Verdict::Skip(reason) => {
                say(format!("erase {name} is left alone: {reason}"));
                outcomes.insert(name, Ok(format!("left alone: {reason}")));
            }
            Verdict::Refuse(reason) => {
                outcomes.insert(name, Err(reason));
            }
            Verdict::Erase => match job.prepare(disk) {
                Ok(prepared) => {
                    work.entry(controller(&prepared.disk.kernel_name)).or_default().push(prepared);
                }
                Err(reason) => {
                    outcomes.insert(name, Err(reason));
                }
            },
        }
    }
    for (name, reason) in disk::left_out(machine.sys) {
        outcomes.entry(name).or_insert_with(|| Ok(format!("left alone: {reason}")));
    }
    progress.update(|p| p.phase = WritePhase::Erasing);
    outcomes.extend(job.work_off(work));
    conclude(outcomes)
}

/// All well, or every failure by disk.
fn conclude(outcomes: BTreeMap<String, Result<String, String>>) -> Result<Value, Failure> {
    let failures: Vec<String> = outcomes
        .iter()
        .filter_map(|(disk, outcome)| Some(format!("{disk}: {}", outcome.as_ref().err()?)))
        .collect();
    if !failures.is_empty() {
        return Err(Failure::Erase(failures.join("; ")));
    }
    Ok(outcomes.into_iter().map(|(disk, outcome)| (disk, json!(outcome.unwrap_or_default()))).collect())
}

/// What shares one controller is erased one after the other: `nvme0` of `nvme0n1`, else the disk itself.
fn controller(kernel_name: &str) -> String {
    let digits = kernel_name.strip_prefix("nvme").map(|rest| rest.chars().take_while(char::is_ascii_digit));
    digits.map_or_else(|| kernel_name.to_owned(), |digits| format!("nvme{}", digits.collect::<String>()))
}

/// A disk with what is going to be done to it.
struct Prepared {
    disk: Disk,
    /// None: only the metadata.
    plan: Option<Plan>,
    /// Without a plan: why the disk does not erase itself though it could.
    notes: Vec<String>,
}

/// Only the quick method of a plan; without one in it the metadata goes, and the notes say why no more.
fn express(plan: Plan) -> (Option<Plan>, Vec<String>) {
    match plan.methods[..] {
        [first @ Method::NvmeFormat { .. }, ..] => (Some(Plan { methods: vec![first], ..plan }), Vec::new()),
        _ => (None, plan.notes),
    }
}

/// Why a method did not erase a disk.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// It failed; another one may do.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The disk is left with our password: whatever else is done to it, it is not ready for use.
    #[error("{0}")]
    Secured(String),
}

/// What was done, and what was tried before.
fn told(how: impl std::fmt::Display, troubles: &[String]) -> String {
    if troubles.is_empty() { how.to_string() } else { format!("{how} ({})", troubles.join("; ")) }
}

struct Job<'a> {
    machine: Machine<'a>,
    policy: &'a Policy,
    extent: Extent,
    meter: Meter<'a>,
    /// Controllers of disks that must be kept.
    protected: BTreeSet<String>,
}

impl Job<'_> {
    /// Looks at the disk and counts its work in.
    fn prepare(&self, disk: Disk) -> Result<Prepared, String> {
        let users = holders::above(self.machine.sys, &disk.kernel_name);
        if !users.is_empty() {
            return Err(format!("it is in use by {}", users.join(", ")));
        }
        let medium = Medium::of_target(&disk, self.machine.sys).map_err(|error| explain(&error))?;
        ata::release(medium.file())?;
        let decide = |seen: &Capabilities| plan::decide(seen, self.policy);
        let (plan, notes) = match self.extent {
            Extent::Metadata => (None, Vec::new()),
            Extent::Everything => (Some(decide(&self.capabilities(&disk, medium.file()))?), Vec::new()),
            Extent::Express => {
                let seen = self.capabilities(&disk, medium.file());
                if seen.nvme.is_some_and(|nvme| nvme.format) {
                    express(decide(&seen)?)
                } else {
                    (None, Vec::new())
                }
            }
        };
        if let Some(plan) = &plan {
            self.meter.expect(plan.methods[0].work(disk.size));
            for note in &plan.notes {
                say(format!("erase {}: {note}", disk.name()));
            }
        }
        Ok(Prepared { disk, plan, notes })
    }

    fn capabilities(&self, disk: &Disk, file: &fs::File) -> Capabilities {
        let queue = self.machine.sys.join("block").join(&disk.kernel_name).join("queue");
        let number = |name: &str| -> u64 {
            fs::read_to_string(queue.join(name)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        let supported = number("discard_max_bytes") > 0;
        let mut nvme = nvme::probe(file);
        if let Some(nvme) = &mut nvme {
            nvme.shares_with_protected = self.protected.contains(&controller(&disk.kernel_name));
        }
        let seen = Capabilities {
            rotational: disk.rotational,
            ata: if nvme.is_none() { ata::probe(file) } else { None },
            nvme,
            discard: Discard {
                supported,
                secure: supported && disk.kernel_name.starts_with("mmcblk"),
                reads_zeros: number("discard_zeroes_data") == 1,
            },
        };
        tracing::info!(disk = disk.name(), ?seen, "what the disk can do");
        seen
    }

    /// Lets so many workers as the policy permits take the controllers' disks in turn.
    fn work_off(&self, work: BTreeMap<String, Vec<Prepared>>) -> BTreeMap<String, Result<String, String>> {
        let workers = self.policy.concurrency.min(work.len());
        let queue = Mutex::new(work.into_values().collect::<VecDeque<_>>());
        let outcomes = Mutex::new(BTreeMap::new());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(disks) = next() {
                        for prepared in disks {
                            let name = prepared.disk.name();
                            // one disk's trouble, whatever it is, is not the others'
                            let tried = std::panic::AssertUnwindSafe(|| self.erase(&prepared));
                            let outcome = std::panic::catch_unwind(tried).unwrap_or_else(|_| {
                                Err("the agent itself stumbled over this disk".to_owned())
                            });
                            match &outcome {
                                Ok(how) => say(format!("erase {name} done: {how}")),
                                Err(why) => say(format!("erase {name} failed: {why}")),
                            }
                            outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(name, outcome);
                        }
                    }
                });
            }
        });
        outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn erase(&self, prepared: &Prepared) -> Result<String, String> {
        let disk = &prepared.disk;
        let metadata = || metadata::wipe(disk, self.machine.sys).map_err(|error| explain(&error));
        let Some(plan) = &prepared.plan else {
            return metadata().map(|()| told("metadata wiped", &prepared.notes));
        };
        let mut troubles = plan.notes.clone();
        for (n, method) in plan.methods.iter().enumerate() {
            if n > 0 {
                self.meter.expect(method.work(disk.size));
            }
            say(format!("erase {} begins: {method}", disk.name()));
            let share = Share { meter: &self.meter, expected: method.work(disk.size), done: 0 };
            match apply(disk, self.machine.sys, *method, share) {
                // the disk may have done what it said and left its old table readable all the same
                Ok(true) if method.leaves_zeros() => {
                    return table_gone(disk).map(|()| told(method, &troubles));
                }
                Ok(true) => return metadata().map(|()| told(method, &troubles)),
                Ok(false) => troubles.push(format!("{method}: the disk does not know it")),
                Err(Trouble::Secured(why)) => {
                    troubles.push(format!("{method} failed: {why}"));
                    break;
                }
                Err(Trouble::Io(error)) => {
                    let trouble = format!("{method} failed: {}", explain(&error));
                    say(format!("erase {} {trouble}", disk.name()));
                    troubles.push(trouble);
                }
            }
        }
        Err(troubles.join("; "))
    }
}

fn table_gone(disk: &Disk) -> Result<(), String> {
    crate::table::tell_kernel(disk).map_err(|failure| failure.to_string())
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(nix::libc::EBUSY) => "it is in use (mounted, or part of an array)".to_owned(),
        _ => error.to_string(),
    }
}

/// Erases one disk one way, and looks whether what was there is gone. False when the disk does not know how.
fn apply(disk: &Disk, sys: &Path, method: Method, mut share: Share<'_>) -> Result<bool, Trouble> {
    let medium = Medium::of_target(disk, sys)?;
    let before = medium.sample();
    let known = match method {
        Method::NvmeFormat { crypto } => nvme::format(medium.file(), crypto).map(|()| true)?,
        Method::AtaErase { enhanced } => ata::erase(medium.file(), enhanced).map(|()| true)?,
        Method::SecureDiscard => medium.discard(true, |n| share.add(n))?,
        Method::Discard { zero } => {
            let known = medium.discard(false, |n| share.add(n))?;
            if known && zero {
                medium.zero(|n| share.add(n))?;
            }
            known
        }
        Method::Overwrite { random, zero } => {
            for _ in 0..random {
                medium.scramble(|n| share.add(n))?;
            }
            if zero {
                medium.write_zeros(|n| share.add(n))?;
            }
            true
        }
    };
    if known {
        medium.compare(&before, method.leaves_zeros())?;
        share.complete();
    }
    Ok(known)
}

/// Counts the bytes of all disks together.
struct Meter<'a> {
    progress: &'a ProgressCell,
}

impl Meter<'_> {
    fn expect(&self, bytes: u64) {
        self.progress.update(|p| p.bytes_total = Some(p.bytes_total.unwrap_or(0) + bytes));
    }
}

/// One method's part in it. Dropped early, it takes back what will not come.
struct Share<'a> {
    meter: &'a Meter<'a>,
    expected: u64,
    done: u64,
}

impl Share<'_> {
    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        self.meter.progress.update(|p| p.bytes_done += bytes);
    }

    /// Counts what the disk did without saying how far it was.
    fn complete(&mut self) {
        self.add(self.expected.saturating_sub(self.done));
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let lost = self.expected.saturating_sub(self.done);
        self.meter.progress.update(|p| p.bytes_total = p.bytes_total.map(|total| total.saturating_sub(lost)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_one_controller_belong_together() {
        assert_eq!(controller("nvme0n1"), controller("nvme0n2"));
        assert_ne!(controller("nvme1n1"), controller("nvme10n1"));
        assert_eq!(controller("sda"), "sda");
    }

    #[test]
    fn every_failure_is_told_with_its_disk() {
        let outcome = |text: &str| text.to_owned();
        let all = BTreeMap::from([
            ("/dev/sda".to_owned(), Ok(outcome("done"))),
            ("/dev/sdb".to_owned(), Err(outcome("frozen"))),
            ("/dev/sdc".to_owned(), Err(outcome("read-only"))),
        ]);
        let text = conclude(all).expect_err("two failed").to_string();
        assert_eq!(text, "/dev/sdb: frozen; /dev/sdc: read-only");
    }

    #[test]
    fn a_method_that_gives_up_takes_its_expected_bytes_back() {
        let progress = ProgressCell::default();
        let meter = Meter { progress: &progress };
        meter.expect(100);
        let mut share = Share { meter: &meter, expected: 100, done: 0 };
        share.add(30);
        drop(share);
        assert_eq!((progress.get().bytes_done, progress.get().bytes_total), (30, Some(30)));
        meter.expect(50);
        let mut share = Share { meter: &meter, expected: 50, done: 0 };
        share.complete();
        drop(share);
        assert_eq!((progress.get().bytes_done, progress.get().bytes_total), (80, Some(80)));
    }

    #[test]
    fn an_express_plan_is_the_format_alone_and_without_it_the_reason_is_told() {
        let format = Method::NvmeFormat { crypto: false };
        let shred = Method::Overwrite { random: 1, zero: true };
        let (plan, notes) = express(Plan { methods: vec![format, shred], notes: vec![] });
        assert_eq!((plan.expect("a plan").methods, notes), (vec![format], vec![]));
        let (plan, notes) = express(Plan { methods: vec![shred], notes: vec!["switched off".to_owned()] });
        assert_eq!(plan, None);
        assert_eq!(told("metadata wiped", &notes), "metadata wiped (switched off)");
        assert_eq!(told(shred, &[]), "1 random pass and zeros");
    }
}
