//! Deployments over iSCSI against disks in files, looked at with the tools that machines would use.

mod calls;
mod images;
mod layouts;
mod resume;
mod steps;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ferric_machine::{PowerState, PowerTarget};
use uuid::Uuid;

use super::device::file::FileDisk;
use super::layout::Wanted;
use super::source::ImageFile;
use super::write::{self, Job, Written};
use crate::interface::{Asks, Child, InstanceBoot, Progressed, RamdiskPurpose, Result};

const MIB: u64 = 1 << 20;

/// Numbers that look random and are the same each time.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut all = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(bytes);
    all
}

/// Runs a program that has to succeed and gives its output.
fn run(program: &str, args: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(args).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}{said}");
    text
}

/// Keeps the checkpoints; nothing else is asked.
#[derive(Default)]
struct Journal(Mutex<Vec<Progressed>>);

impl Journal {
    fn last(&self) -> Option<String> {
        self.0.lock().unwrap().iter().rev().find_map(|told| told.checkpoint.clone())
    }
}

#[async_trait]
impl Asks for Journal {
    async fn report(&self, progressed: Progressed) -> Result<()> {
        self.0.lock().unwrap().push(progressed);
        Ok(())
    }

    async fn power_state(&self) -> Result<PowerState> {
        unreachable!("the writing knows no power")
    }

    async fn set_power(&self, _target: PowerTarget) -> Result<PowerState> {
        unreachable!("the writing knows no power")
    }

    async fn boot_ramdisk(&self, _purpose: RamdiskPurpose) -> Result<()> {
        unreachable!("the writing boots nothing")
    }

    async fn boot_from_disk(&self) -> Result<()> {
        unreachable!("the writing boots nothing")
    }

    async fn clean_up_ramdisk(&self) -> Result<()> {
        unreachable!("the writing boots nothing")
    }

    async fn boot_from_network(&self, _boot: InstanceBoot) -> Result<()> {
        unreachable!("the writing boots nothing")
    }

    async fn children(&self) -> Result<Vec<Child>> {
        unreachable!("the writing knows no other nodes")
    }

    async fn set_child_power(&self, _child: Uuid, _target: PowerTarget) -> Result<()> {
        unreachable!("the writing knows no other nodes")
    }
}

/// A folder with a disk and images.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn disk(&self, size: u64) -> FileDisk {
        FileDisk::open(&self.path("disk"), size)
    }

    /// An image of noise with a hole of a MiB in each third.
    fn noise(&self, name: &str, bytes: u64) -> PathBuf {
        let mut all = noise(bytes as usize, bytes);
        for third in 0..3 {
            let at = (bytes / 3 * third / 4096 * 4096) as usize;
            let end = (at + MIB as usize).min(all.len());
            all[at..end].fill(0);
        }
        std::fs::write(self.path(name), all).unwrap();
        self.path(name)
    }

    fn job(&self, image: &Path, wanted: Option<Wanted>, drive: bool) -> Job {
        Job {
            image: Arc::new(ImageFile::open(image, None).unwrap()),
            wanted,
            drive: drive.then(|| super::drive::ConfigDrive::new(&drive_text())),
            scratch: self.path("scratch"),
        }
    }

    async fn write(&self, disk: &FileDisk, job: &Job) -> Written {
        write::write(disk, job, None, &Journal::default()).await.unwrap()
    }

    fn read(&self, at: u64, len: u64) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; len as usize];
        let file = std::fs::File::open(self.path("disk")).unwrap();
        file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// A part of the disk as a file of its own.
    fn part(&self, at: u64, len: u64) -> PathBuf {
        let path = self.path(&format!("part-{at}"));
        std::fs::write(&path, self.read(at, len)).unwrap();
        path
    }

    /// What blkid sees in a part of the disk.
    fn blkid(&self, at: u64, len: u64, tag: &str) -> String {
        let part = self.part(at, len);
        run("blkid", &["-p", "-o", "value", "-s", tag, part.to_str().unwrap()]).trim().to_owned()
    }
}

fn drive_text() -> String {
    let parts = crate::testing::json(serde_json::json!({"user_data": "#cloud-config"}));
    super::super::build_configdrive(Uuid::from_u128(7), Some("n"), &parts).unwrap()
}
