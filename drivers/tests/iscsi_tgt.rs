//! Our initiator against Debian's tgt: what is written is read back from the file behind it.

#![allow(clippy::unwrap_used)] // a test may

mod iscsi_rig;

use bytes::Bytes;
use ferric_drivers::Secret;
use ferric_drivers::protocol::iscsi::{
    Chap, Chunk, DigestChoice, Holes, IscsiError, IscsiSettings, MutualChap, Session, WriteOptions, discover,
};
use iscsi_rig::{IQN, Tgt, pattern, settings};

const MIB: u64 = 1024 * 1024;
const SIZE: u64 = 64 * MIB;

/// Writes here and there, whole blocks and parts, reads it back by the session and from the file, and says good-bye.
async fn write_and_compare(tgt: &Tgt, chap: Option<Chap>, settings: &IscsiSettings) {
    let session = Session::open(&tgt.target(chap), settings).await.unwrap();
    assert_eq!(session.capacity().bytes(), SIZE);
    let parts = [(0, 512), (512, 3 * MIB as usize), (8 * MIB + 4096, 70_000 * 512), (SIZE - 1000, 1000)];
    let odd = [(5 * MIB + 100, 300), (5 * MIB + 500, 5000), (6 * MIB + 3, 1)];
    for (offset, length) in parts.into_iter().chain(odd) {
        session.write_at(offset, pattern(offset, length).into()).await.unwrap();
    }
    session.sync().await.unwrap();
    for (offset, length) in parts.into_iter().chain(odd) {
        assert!(tgt.on_disk(offset, length) == pattern(offset, length), "{length} bytes at {offset}");
        let read = session.read_at(offset, length).await.unwrap();
        assert!(read == pattern(offset, length), "{length} bytes at {offset} read back");
    }
    assert_eq!(tgt.on_disk(5 * MIB, 100), [0; 100], "what is beside parts of blocks stays");
    assert!(matches!(session.read_at(SIZE - 1, 2).await, Err(IscsiError::OutOfRange { .. })));
    session.logout().await;
    tgt.wait_for_nobody().await;
}

fn chap(secret: &str, mutual: Option<&str>) -> Option<Chap> {
    let mutual =
        mutual.map(|secret| MutualChap { user: Some("disk".into()), secret: Secret::new(secret.into()) });
    Some(Chap { user: "conductor".into(), secret: Secret::new(secret.into()), mutual })
}

#[tokio::test]
async fn a_disk_is_written_and_read_back() {
    write_and_compare(&Tgt::start(SIZE), None, &settings()).await;
}

#[tokio::test]
async fn it_is_the_same_whatever_the_target_allows() {
    for (keys, digests) in [
        (&[("InitialR2T", "No"), ("ImmediateData", "Yes")][..], DigestChoice::IfAsked),
        (&[("InitialR2T", "No"), ("ImmediateData", "No")], DigestChoice::IfAsked),
        (&[("InitialR2T", "Yes"), ("ImmediateData", "No")], DigestChoice::IfAsked),
        (&[("MaxRecvDataSegmentLength", "512"), ("MaxBurstLength", "8192")], DigestChoice::IfAsked),
        (&[("MaxRecvDataSegmentLength", "262144"), ("FirstBurstLength", "512")], DigestChoice::Never),
        (&[("MaxOutstandingR2T", "4"), ("InitialR2T", "No")], DigestChoice::Prefer),
        (&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")], DigestChoice::Prefer),
        (&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")], DigestChoice::Require),
        (&[("HeaderDigest", "CRC32C"), ("InitialR2T", "No")], DigestChoice::Prefer),
        (&[("DataDigest", "CRC32C"), ("MaxRecvDataSegmentLength", "1024")], DigestChoice::Prefer),
    ] {
        let tgt = Tgt::start(SIZE);
        for (key, value) in keys {
            tgt.set(key, value);
        }
        let mut settings = settings();
        settings.offer.header_digest = digests;
        settings.offer.data_digest = digests;
        write_and_compare(&tgt, None, &settings).await;
    }
}

#[tokio::test]
async fn digests_are_used_where_both_sides_want_them() {
    let tgt = Tgt::start(SIZE);
    tgt.set("HeaderDigest", "CRC32C");
    tgt.set("DataDigest", "CRC32C");
    let mut settings = settings();
    settings.offer.header_digest = DigestChoice::Require;
    settings.offer.data_digest = DigestChoice::Require;
    let session = Session::open(&tgt.target(None), &settings).await.unwrap();
    let digests = session.limits().await.unwrap().digests;
    assert!(digests.header && digests.data);
}

#[tokio::test]
async fn chap_opens_the_disk() {
    let tgt = Tgt::start(SIZE);
    tgt.account("conductor", "correct-horse", false);
    write_and_compare(&tgt, chap("correct-horse", None), &settings()).await;
    let text = refused(&tgt, chap("wrong-secret", None)).await;
    assert!(text.contains("CHAP user or secret") && text.contains("give the user"), "{text}");
    let text = refused(&tgt, None).await;
    assert!(text.contains("CHAP"), "{text}");
    assert!(!text.contains("correct-horse"));
}

async fn refused(tgt: &Tgt, chap: Option<Chap>) -> String {
    let error = Session::open(&tgt.target(chap), &settings()).await.unwrap_err();
    assert!(matches!(error, IscsiError::Credentials(_)), "{error:?}");
    assert!(!error.is_transient());
    assert_eq!(tgt.sessions(), 0);
    error.to_string()
}

#[tokio::test]
async fn mutual_chap_shows_whose_disk_it_is() {
    let tgt = Tgt::start(SIZE);
    tgt.account("conductor", "correct-horse", false);
    tgt.account("disk", "battery-staple", true);
    write_and_compare(&tgt, chap("correct-horse", Some("battery-staple")), &settings()).await;
    let text = refused(&tgt, chap("correct-horse", Some("another-staple"))).await;
    assert!(text.contains("proof is wrong"), "{text}");
}

#[tokio::test]
async fn a_target_that_cannot_prove_itself_is_not_trusted() {
    let tgt = Tgt::start(SIZE);
    tgt.account("conductor", "correct-horse", false);
    let text = refused(&tgt, chap("correct-horse", Some("battery-staple"))).await;
    assert!(text.contains("prove itself") || text.contains("login refused"), "{text}");
}

#[tokio::test]
async fn a_missing_unit_or_target_is_told_with_what_there_is() {
    let tgt = Tgt::start(SIZE);
    for lun in [0, 7, 300] {
        let mut target = tgt.target(None);
        target.lun = lun;
        let error = Session::open(&target, &settings()).await.unwrap_err();
        assert_eq!(error, IscsiError::NoUnit { lun, there: vec![0, 1] });
        assert!(error.to_string().contains("LUN 0, LUN 1: correct the LUN"), "{error}");
    }
    let mut target = tgt.target(None);
    target.iqn = "iqn.2026-11.test:nothing".to_owned();
    let error = Session::open(&target, &settings()).await.unwrap_err();
    assert!(error.to_string().contains("there is no such target"), "{error}");
    tgt.wait_for_nobody().await;
}

#[tokio::test]
async fn nobody_at_the_port_is_told_when_the_time_is_over() {
    let mut tgt = Tgt::start(SIZE);
    tgt.kill();
    let short = IscsiSettings { open_within: std::time::Duration::from_millis(300), ..settings() };
    let error = Session::open(&tgt.target(None), &short).await.unwrap_err();
    assert!(matches!(error, IscsiError::Connect { .. }) && error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("see that the ramdisk is up"), "{error}");
}

#[tokio::test]
async fn the_targets_of_a_portal_are_listed() {
    let tgt = Tgt::start(SIZE);
    let found = discover(&tgt.address.ip().to_string(), tgt.address.port(), None, &settings()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].iqn, IQN);
    assert_eq!(found[0].portals, [(tgt.address.ip().to_string(), tgt.address.port())]);
}

#[tokio::test]
async fn an_image_with_holes_is_written_in_order_and_the_mark_follows() {
    for (thin, holes) in [(true, Holes::Zero), (false, Holes::Zero), (false, Holes::Skip)] {
        let tgt = Tgt::start(SIZE);
        if thin {
            tgt.thin();
        }
        let session = Session::open(&tgt.target(None), &settings()).await.unwrap();
        // dirt where the holes are
        session.write_at(0, vec![0xEE; 32 * MIB as usize].into()).await.unwrap();
        let mut writer = session.writer(WriteOptions { start: 0, holes });
        let mut progress = writer.progress();
        assert_eq!(*progress.borrow(), 0);
        let mut expected = Vec::new();
        let mut chunks = Vec::new();
        for (nth, length) in [100_000, 5, 3 * 1024 * 1024 + 17, 512, 700_000, 65_536].into_iter().enumerate()
        {
            chunks.push(Chunk::Data(pattern(nth as u64, length).into()));
            expected.extend(pattern(nth as u64, length));
            let hole = [300, 4096, 2 * 1024 * 1024 + 11, 1, 1024 * 1024, 64 * 1024][nth];
            chunks.push(Chunk::Hole(hole as u64));
            expected.extend(vec![if holes == Holes::Zero { 0 } else { 0xEE }; hole]);
        }
        let chunks = futures_util::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        writer.write_all(chunks).await.unwrap();
        let end = expected.len() as u64;
        assert!(writer.checkpoint().await.unwrap() <= end);
        assert_eq!(writer.finish().await.unwrap(), end);
        assert_eq!(*progress.borrow_and_update(), end);
        assert!(tgt.on_disk(0, expected.len()) == expected, "thin {thin}, {holes:?}");
        assert_eq!(tgt.on_disk(end, 1000), [0xEE; 1000], "what is behind stays");
    }
}

#[tokio::test]
async fn holes_give_their_space_back_on_a_thin_disk() {
    let tgt = Tgt::start(SIZE);
    tgt.thin();
    let session = Session::open(&tgt.target(None), &settings()).await.unwrap();
    assert!(session.capacity().thin, "{:?}", session.disk());
    session.write_at(0, vec![0xEE; 32 * MIB as usize].into()).await.unwrap();
    session.sync().await.unwrap();
    let full = tgt.allocated();
    session.zero_at(4 * MIB - 100, 16 * MIB).await.unwrap();
    session.sync().await.unwrap();
    assert!(tgt.allocated() + 15 * MIB < full, "{} of {full} bytes are left", tgt.allocated());
    assert_eq!(tgt.on_disk(4 * MIB - 101, 1), [0xEE]);
    assert!(tgt.on_disk(4 * MIB - 100, 16 * MIB as usize).iter().all(|byte| *byte == 0));
    assert_eq!(tgt.on_disk(20 * MIB - 100, 1), [0xEE]);
}

#[tokio::test]
async fn a_writer_goes_on_where_another_ended() {
    let tgt = Tgt::start(SIZE);
    let session = Session::open(&tgt.target(None), &settings()).await.unwrap();
    let image = pattern(1, 8 * MIB as usize);
    let mut first = session.writer(WriteOptions { start: 0, holes: Holes::Zero });
    first.write(0, Bytes::from(image.clone()).slice(..5_000_000)).await.unwrap();
    let mut progress = first.progress();
    progress.wait_for(|mark| *mark >= 4 * MIB).await.unwrap();
    let from = first.checkpoint().await.unwrap();
    drop(first);
    let mut second = session.writer(WriteOptions { start: from, holes: Holes::Zero });
    assert!(matches!(second.write(from - 1, Bytes::from_static(b"x")).await, Err(IscsiError::Source(_))));
    second.write(from, Bytes::from(image.clone()).slice(from as usize..)).await.unwrap();
    assert_eq!(second.finish().await.unwrap(), image.len() as u64);
    assert!(tgt.on_disk(0, image.len()) == image);
}

#[tokio::test]
async fn a_target_that_dies_in_mid_write_gets_the_rest_when_it_is_back() {
    let mut tgt = Tgt::start(SIZE);
    let session = Session::open(&tgt.target(None), &settings()).await.unwrap();
    let image = Bytes::from(pattern(9, SIZE as usize));
    let mut writer = session.writer(WriteOptions { start: 0, holes: Holes::Zero });
    let mut progress = writer.progress();
    let source = image.clone();
    let writing = tokio::spawn(async move {
        for at in (0..SIZE).step_by(MIB as usize) {
            writer.write(at, source.slice(at as usize..(at + MIB) as usize)).await?;
        }
        writer.finish().await
    });
    for part in [SIZE / 4, SIZE / 2] {
        progress.wait_for(|mark| *mark >= part).await.unwrap();
        tgt.kill();
        assert!(!writing.is_finished());
        tgt.again();
    }
    // all of it came, but what the target had not yet flushed when it died may be gone: that is told
    assert_eq!(writing.await.unwrap(), Err(IscsiError::Forgotten));
    assert!(tgt.on_disk(0, image.len()) == image);
}

#[tokio::test]
async fn a_target_that_stays_away_ends_the_write() {
    let mut tgt = Tgt::start(SIZE);
    let patience = std::time::Duration::from_millis(500);
    let session = Session::open(&tgt.target(None), &IscsiSettings { patience, ..settings() }).await.unwrap();
    tgt.kill();
    let error = session.write_at(0, pattern(1, 4096).into()).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("see that the ramdisk"), "{error}");
}

#[tokio::test]
async fn all_commands_in_flight_fail_together_when_patience_is_over() {
    let mut tgt = Tgt::start(SIZE);
    let patience = std::time::Duration::from_secs(2);
    let session = Session::open(&tgt.target(None), &IscsiSettings { patience, ..settings() }).await.unwrap();
    tgt.kill();
    let reads = (0..16).map(|n| {
        let session = session.clone();
        async move { session.read_at(n * 4096, 4096).await.unwrap_err() }
    });
    // one after the other they would each have an error of their own
    let ends = futures_util::future::join_all(reads).await;
    assert!(ends.iter().all(|error| *error == ends[0]), "{ends:?}");
    // who comes later tries anew
    tgt.again();
    assert_eq!(session.read_at(0, 4096).await.unwrap().len(), 4096);
}

#[tokio::test]
async fn a_future_that_is_dropped_leaves_nobody_logged_in() {
    let tgt = Tgt::start(SIZE);
    let session = Session::open(&tgt.target(None), &settings()).await.unwrap();
    let mut writer = session.writer(WriteOptions { start: 0, holes: Holes::Zero });
    let mut progress = writer.progress();
    let writing = tokio::spawn(async move {
        let mut at = 0;
        loop {
            writer.write(at % (SIZE / 2), pattern(1, MIB as usize).into()).await?;
            at += MIB;
            if at == SIZE / 2 {
                writer = session.writer(WriteOptions { start: 0, holes: Holes::Zero });
                at = 0;
            }
        }
        #[allow(unreachable_code)] // the type of the loop's errors
        Ok::<(), IscsiError>(())
    });
    progress.wait_for(|mark| *mark >= MIB).await.unwrap();
    assert_eq!(tgt.sessions(), 1);
    writing.abort();
    tgt.wait_for_nobody().await;
}

#[tokio::test]
async fn a_smaller_disk_is_told_before_anything_is_written_beyond() {
    let tgt = Tgt::start(MIB);
    let session = Session::open(&tgt.target(None), &settings()).await.unwrap();
    let mut writer = session.writer(WriteOptions { start: 0, holes: Holes::Zero });
    writer.write(0, vec![1; MIB as usize].into()).await.unwrap();
    let error = writer.write(MIB, vec![1; 512].into()).await.unwrap_err();
    assert_eq!(error, IscsiError::OutOfRange { offset: MIB, length: 512, capacity: MIB });
    assert!(error.to_string().contains("use a larger disk"), "{error}");
}
