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
