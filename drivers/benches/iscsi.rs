//! 1 GiB to tgt over loopback: our writer against `qemu-img convert -W -m 8`, turn by turn in the same run, and the
//! memory that ours takes; and the step of a deployment that writes an image by iSCSI. Files are in memory (/dev/shm), so that no disk is measured.
//! Needs: scripts/apt.sh tgt qemu-utils qemu-block-extra.

#![allow(clippy::unwrap_used)] // a measurement may

#[path = "../tests/iscsi_rig/mod.rs"]
mod iscsi_rig;
mod iscsi_step;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferric_drivers::protocol::iscsi::{DigestChoice, Holes, IscsiSettings, Session, WriteOptions};
use iscsi_rig::{IQN, Tgt, pattern};
use iscsi_step::Deployment;
use sha2::{Digest as _, Sha256};

const SIZE: u64 = 1 << 30;
const CHUNK: u64 = 1 << 20;
const ROUNDS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let shm = Path::new("/dev/shm");
    let folder = tempfile::TempDir::new_in(shm).unwrap();
    let image = folder.path().join("image");
    let file = File::create(&image).unwrap();
    for at in (0..SIZE).step_by(CHUNK as usize) {
        file.write_all_at(&pattern(at, CHUNK as usize), at).unwrap();
    }
    let sum = checksum(&image);
    let tgt = Tgt::start_in(shm, SIZE);
    let deployment = Deployment::new(folder.path(), &image, &sum);
    let with_qemu = qemu_img(&image, &tgt).is_some();
    let (mut ours, mut theirs, mut digested, mut read) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut memory, mut steps) = (0, Vec::new());
    for _ in 0..ROUNDS {
        if with_qemu {
            clear(&tgt);
            theirs.extend(qemu_img(&image, &tgt));
            compare(&image, &tgt);
        }
        clear(&tgt);
        let (took, peak) = runtime.block_on(write(&image, &tgt, &IscsiSettings::default()));
        ours.push(took);
        memory = memory.max(peak);
        compare(&image, &tgt);
        read.push(runtime.block_on(verify(&image, &tgt)));
        clear(&tgt);
        steps.push(runtime.block_on(deployment.write(tgt.address)));
        compare(&image, &tgt);
    }
    // the first of them fetched the image into the cache
    steps.remove(0);
    tgt.set("HeaderDigest", "CRC32C");
    tgt.set("DataDigest", "CRC32C");
    let mut settings = IscsiSettings::default();
    settings.offer.header_digest = DigestChoice::Require;
    settings.offer.data_digest = DigestChoice::Require;
    for _ in 0..ROUNDS {
        digested.push(runtime.block_on(write(&image, &tgt, &settings)).0);
    }
    let seconds = |took: &[Duration]| {
        let mut took = took.to_vec();
        took.sort();
        took[took.len() / 2].as_secs_f64()
    };
    keep(&[
        ("iscsi/a GiB by Writer", seconds(&ours)),
        ("iscsi/a GiB by Writer, CRC32C", seconds(&digested)),
        ("iscsi/a GiB read and compared", seconds(&read)),
        ("iscsi/a GiB by the step write_image", seconds(&steps)),
    ]);
    let ours = rate("ours", ours);
    rate("ours, CRC32C both", digested);
    rate("ours, read and compare", read);
    rate("ours, the step write_image of a deployment", steps);
    if with_qemu {
        let theirs = rate("qemu-img -W -m 8", theirs);
        println!("ratio ours / qemu-img: {:.2}", ours / theirs);
    } else {
        println!("qemu-img cannot reach the target: scripts/apt.sh qemu-utils qemu-block-extra");
    }
    println!("memory of a write (peak above what was resident before): {:.1} MiB", memory as f64 / 1024.0);
}

/// Leaves figures for benches/compare.py.
fn keep(found: &[(&str, f64)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    let all: serde_json::Map<_, _> =
        found.iter().map(|(name, seconds)| ((*name).to_owned(), serde_json::json!(seconds))).collect();
    std::fs::write(folder.join("iscsi.json"), serde_json::Value::Object(all).to_string()).unwrap();
}

fn checksum(image: &Path) -> String {
    let mut sum = Sha256::new();
    std::io::copy(&mut File::open(image).unwrap(), &mut sum).unwrap();
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The median in MB/s.
fn rate(name: &str, mut took: Vec<Duration>) -> f64 {
    took.sort();
    let rate = |took: &Duration| SIZE as f64 / 1e6 / took.as_secs_f64();
    let median = rate(&took[took.len() / 2]);
    println!(
        "{name}: {median:.0} MB/s (best {:.0}, worst {:.0})",
        rate(&took[0]),
        rate(&took[took.len() - 1])
    );
    median
}

/// Forgets the last round, but keeps the pages: both write over existing ones.
fn clear(tgt: &Tgt) {
    let disk = File::options().write(true).open(tgt.disk()).unwrap();
    let zeroes = vec![0; CHUNK as usize];
    for at in (0..SIZE).step_by(CHUNK as usize) {
        disk.write_all_at(&zeroes, at).unwrap();
    }
}

fn compare(image: &Path, tgt: &Tgt) {
    let same = Command::new("cmp").arg(image).arg(tgt.disk()).status().unwrap().success();
    assert!(same, "the disk is not the image");
}

fn qemu_img(image: &Path, tgt: &Tgt) -> Option<Duration> {
    let url = format!("iscsi://{}/{IQN}/1", tgt.address);
    let began = Instant::now();
    let done = Command::new("qemu-img")
        .args(["convert", "-n", "-W", "-m", "8", "-f", "raw", "-O", "raw"])
        .arg(image)
        .arg(url)
        .output()
        .ok()?;
    let took = began.elapsed();
    if !done.status.success() {
        println!("qemu-img: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    done.status.success().then_some(took)
}

/// How long it took, and how much memory at most, in KiB.
async fn write(image: &Path, tgt: &Tgt, settings: &IscsiSettings) -> (Duration, u64) {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    let began = Instant::now();
    let session = Session::open(&tgt.target(None), settings).await.unwrap();
    let mut writer = session.writer(WriteOptions { start: 0, holes: Holes::Zero });
    let (sender, mut receiver) = tokio::sync::mpsc::channel(2);
    let file = File::open(image).unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        for at in (0..SIZE).step_by(CHUNK as usize) {
            let mut chunk = vec![0; CHUNK as usize];
            file.read_exact_at(&mut chunk, at).unwrap();
            sender.blocking_send((at, Bytes::from(chunk))).unwrap();
        }
    });
    while let Some((at, chunk)) = receiver.recv().await {
        writer.write(at, chunk).await.unwrap();
    }
    reading.await.unwrap();
    assert_eq!(writer.finish().await.unwrap(), SIZE);
    session.logout().await;
    let took = began.elapsed();
    (took, status("VmHWM:").saturating_sub(before))
}

async fn verify(image: &Path, tgt: &Tgt) -> Duration {
    const PART: u64 = 8 * CHUNK;
    let session = Session::open(&tgt.target(None), &IscsiSettings::default()).await.unwrap();
    let file = File::open(image).unwrap();
    let mut expected = vec![0; PART as usize];
    let began = Instant::now();
    for at in (0..SIZE).step_by(PART as usize) {
        let found = session.read_at(at, PART as usize).await.unwrap();
        file.read_exact_at(&mut expected, at).unwrap();
        assert!(found == expected);
    }
    let took = began.elapsed();
    session.logout().await;
    took
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
