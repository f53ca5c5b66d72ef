//! A target, our initiator with little patience, and an image to write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferric_drivers::protocol::iscsi::{Holes, IscsiError, IscsiSettings, IscsiTarget, Session, WriteOptions};
use ferric_sim::Chance;
use ferric_sim::iscsi::{Store, Target, TargetFaults, TargetOptions};

use crate::IQN;

/// Bytes of the disk.
pub(crate) const DISK: u64 = 64 << 20;
/// Bytes of the image.
pub(crate) const IMAGE: usize = 6 << 20;
/// Where the image has a hole of two mebibytes.
const HOLE: std::ops::Range<usize> = 2 << 20..4 << 20;

/// An initiator with all the time in the world: what ends early ends for another reason.
pub(crate) fn settings() -> IscsiSettings {
    IscsiSettings {
        transfer_bytes: 256 << 10,
        in_flight_bytes: 2 << 20,
        back_off: (Duration::from_millis(10), Duration::from_millis(200)),
        ..IscsiSettings::default()
    }
}

/// One that does not wait for long, where a target is silent.
pub(crate) fn hasty() -> IscsiSettings {
    IscsiSettings {
        login_timeout: Duration::from_secs(1),
        command_timeout: Duration::from_secs(1),
        flush_timeout: Duration::from_secs(1),
        keepalive: Duration::from_millis(500),
        answer_timeout: Duration::from_secs(1),
        open_within: Duration::from_secs(3),
        patience: Duration::from_secs(3),
        ..settings()
    }
}

pub(crate) fn options() -> TargetOptions {
    TargetOptions::new(IQN)
}

pub(crate) async fn start(options: TargetOptions, faults: TargetFaults) -> Target {
    let store = Arc::new(Store::new(DISK));
    // a disk that was used before
    store.write(0, &[0xA5; 8 << 20]);
    let target = Target::start("127.0.0.1:0".parse().unwrap(), options, store).await.unwrap();
    target.set_faults(faults);
    target
}

pub(crate) fn of(target: &Target) -> IscsiTarget {
    let address = target.address();
    IscsiTarget {
        address: address.ip().to_string(),
        port: address.port(),
        iqn: IQN.to_owned(),
        lun: 1,
        chap: None,
    }
}

/// What the image holds.
pub(crate) fn image() -> Vec<u8> {
    let mut chance = Chance::new(5, 5);
    let mut image: Vec<u8> = (0..IMAGE / 8).flat_map(|_| chance.bits().to_le_bytes()).collect();
    image[HOLE].fill(0);
    image
}

/// Opens a session, writes the image, flushes, logs out.
pub(crate) async fn deploy(target: &IscsiTarget, settings: &IscsiSettings) -> Result<(), IscsiError> {
    let session = Session::open(target, settings).await?;
    let written = write(&session).await;
    session.logout().await;
    written
}

/// Writes the image, again if the target may have lost some of it.
pub(crate) async fn write(session: &Session) -> Result<(), IscsiError> {
    for _ in 0..10 {
        match write_once(session).await {
            Err(IscsiError::Forgotten) => {}
            ended => return ended,
        }
    }
    Err(IscsiError::Forgotten)
}

pub(crate) async fn write_once(session: &Session) -> Result<(), IscsiError> {
    let image = Bytes::from(image());
    let mut writer = session.writer(WriteOptions { start: 0, holes: Holes::Zero });
    let mut at = 0;
    while at < IMAGE {
        if at == HOLE.start {
            writer.hole(at as u64, HOLE.len() as u64).await?;
            at = HOLE.end;
        }
        let end = IMAGE.min(at + (300 << 10));
        let end = if at < HOLE.start { end.min(HOLE.start) } else { end };
        writer.write(at as u64, image.slice(at..end)).await?;
        at = end;
    }
    assert_eq!(writer.finish().await?, IMAGE as u64);
    Ok(())
}

/// The image is on the disk, all of it flushed, what lies behind it untouched; nobody is logged in, and nothing was done
/// that the standard forbids.
pub(crate) async fn written(target: &Target, case: &str) {
    deserted(target, case).await;
    let mut found = vec![0; IMAGE + 4096];
    target.store().read(0, &mut found);
    assert!(found[..IMAGE] == image(), "{case}: the disk holds something else");
    assert!(found[IMAGE..].iter().all(|byte| *byte == 0xA5), "{case}: written beyond the image");
    assert!(!target.stats().unflushed, "{case}: not flushed");
}

/// Nobody is logged in or connected.
pub(crate) async fn deserted(target: &Target, case: &str) {
    target.until(|stats| stats.open == 0).await;
    let stats = target.stats();
    assert_eq!((stats.logged_in, stats.violations), (0, Vec::new()), "{case}");
}
