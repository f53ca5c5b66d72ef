//! A write that is broken off is taken up where its last checkpoint was.

use std::sync::atomic::Ordering::SeqCst;

use ferric_machine::BootMode;

use super::*;
use crate::deploy::iscsi::layout::tests::wanted;

#[tokio::test]
async fn a_write_goes_on_from_its_checkpoint_with_less_than_64_mib_twice() {
    const SIZE: u64 = 160 * MIB;
    const BREAK: u64 = 120 * MIB;
    let bench = Bench::new();
    let image = bench.noise("image", SIZE);
    let mut disk = bench.disk(SIZE + 8 * MIB);
    disk.breaks_at = Some(BREAK);
    let job = bench.job(&image, None, false);
    let journal = Journal::default();
    write::write(&disk, &job, None, &journal).await.unwrap_err();
    let checkpoint = journal.last().unwrap();

    let disk = bench.disk(SIZE + 8 * MIB);
    write::write(&disk, &job, Some(&checkpoint), &journal).await.unwrap();
    let again = disk.written.load(SeqCst);
    assert!(again < SIZE - BREAK + 64 * MIB, "{again} bytes were written after the break at {BREAK}");
    assert!(bench.read(0, SIZE) == std::fs::read(&image).unwrap(), "the disk is the image");
    let steps: Vec<u64> =
        journal.0.lock().unwrap().iter().filter_map(|told| told.progress.bytes_done).collect();
    assert!(steps.iter().filter(|done| **done > 0).count() > 4, "{steps:?}");
}

#[tokio::test]
async fn partitions_made_twice_are_the_same_partitions() {
    let bench = Bench::new();
    let image = bench.noise("image", 4 * MIB);
    let job = bench.job(
        &image,
        Some(Wanted { root_mib: 8, swap_mib: 4, ephemeral_mib: 8, ..wanted(BootMode::Uefi, false) }),
        true,
    );
    let disk = bench.disk(120 * MIB);
    let journal = Journal::default();
    write::write(&disk, &job, None, &journal).await.unwrap();
    let head = bench.read(0, MIB);
    // as if it had been killed before the first checkpoint of the image
    let first = journal.0.lock().unwrap()[0].checkpoint.clone().unwrap();
    write::write(&disk, &job, Some(&first), &Journal::default()).await.unwrap();
    assert!(bench.read(0, MIB) == head, "the same GUIDs");
    // and one that was told before the image was finished touches no partition
    let last = journal.last().unwrap();
    disk.log.lock().unwrap().clear();
    write::write(&disk, &job, Some(&last), &Journal::default()).await.unwrap();
    assert!(disk.log.lock().unwrap().is_empty(), "nothing was left to do");
}

#[tokio::test]
async fn a_checkpoint_of_another_image_or_disk_is_not_gone_on_from() {
    let bench = Bench::new();
    let (one, other) = (bench.noise("one", 8 * MIB), bench.noise("other", 9 * MIB));
    let journal = Journal::default();
    write::write(&bench.disk(16 * MIB), &bench.job(&one, None, false), None, &journal).await.unwrap();
    let checkpoint = journal.last().unwrap();
    for foreign in [checkpoint.as_str(), "{}", "rubbish", "null"] {
        let job = bench.job(&other, None, false);
        write::write(&bench.disk(16 * MIB), &job, Some(foreign), &Journal::default()).await.unwrap();
        assert!(bench.read(0, 9 * MIB) == std::fs::read(&other).unwrap(), "{foreign}");
    }
}

#[tokio::test]
async fn what_a_target_loses_before_it_is_synced_is_written_again() {
    const SIZE: u64 = 160 * MIB;
    let bench = Bench::new();
    let image = bench.noise("image", SIZE);
    let disk = bench.disk(SIZE + 8 * MIB);
    *disk.crashes.lock().unwrap() = [40 * MIB, 150 * MIB].into();
    bench.write(&disk, &bench.job(&image, None, false)).await;
    assert!(disk.crashes.lock().unwrap().is_empty(), "power has failed twice");
    assert!(bench.read(0, SIZE) == std::fs::read(&image).unwrap(), "the disk is the image");
    let written = disk.written.load(SeqCst);
    assert!(written < SIZE + 2 * 64 * MIB, "{written} bytes were written");
}

#[tokio::test]
async fn partitions_that_a_target_loses_are_made_again() {
    let bench = Bench::new();
    let image = bench.noise("image", 4 * MIB);
    // no ephemeral partition: mke2fs writes down when it ran
    let wanted = Wanted { root_mib: 8, swap_mib: 4, ephemeral_mib: 0, ..wanted(BootMode::Uefi, false) };
    let disk = bench.disk(120 * MIB);
    let journal = Journal::default();
    write::write(&disk, &bench.job(&image, Some(wanted.clone()), true), None, &journal).await.unwrap();
    let (all, seed) = (bench.read(0, 120 * MIB), journal.0.lock().unwrap()[0].checkpoint.clone().unwrap());
    for crash in [1, 100_000, 600_000, 2_000_000] {
        std::fs::remove_file(bench.path("disk")).unwrap();
        let disk = bench.disk(120 * MIB);
        *disk.crashes.lock().unwrap() = [crash].into();
        let job = bench.job(&image, Some(wanted.clone()), true);
        write::write(&disk, &job, Some(&seed), &Journal::default()).await.unwrap();
        assert!(disk.crashes.lock().unwrap().is_empty(), "power has failed");
        let again = bench.read(0, 120 * MIB);
        assert!(again == all, "lost after {crash} bytes: another disk");
    }
}

#[tokio::test]
async fn a_write_is_not_gone_on_with_on_another_disk() {
    const SIZE: u64 = 64 * MIB;
    let bench = Bench::new();
    let image = bench.noise("image", SIZE);
    for name in ["another", ""] {
        let mut disk = bench.disk(SIZE + 8 * MIB);
        disk.breaks_at = Some(50 * MIB);
        let journal = Journal::default();
        write::write(&disk, &bench.job(&image, None, false), None, &journal).await.unwrap_err();
        let told = journal.last().unwrap();
        // of the same size; it tells its name, or no disk has one
        std::fs::remove_file(bench.path("disk")).unwrap();
        let mut disk = bench.disk(SIZE + 8 * MIB);
        disk.name = name.to_owned();
        write::write(&disk, &bench.job(&image, None, false), Some(&told), &journal).await.unwrap();
        assert!(bench.read(0, SIZE) == std::fs::read(&image).unwrap(), "the disk is the image");
        std::fs::remove_file(bench.path("disk")).unwrap();
    }
}
