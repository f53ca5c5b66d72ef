//! Our initiator against everything that may go wrong with a target: each ends in the right error, or goes well.

use std::collections::VecDeque;
use std::time::Duration;

use ferric_drivers::Secret;
use ferric_drivers::protocol::iscsi::{
    Chap as Login, DigestChoice, IscsiError, IscsiSettings, MutualChap, Offer, Session, discover,
};
use ferric_sim::iscsi::{Chap, Lie, Limits, Redirect, TargetFaults, TargetOptions};

use crate::stage::{DISK, deploy, deserted, hasty, of, options, settings, start, write, write_once, written};

#[tokio::test]
async fn whatever_a_target_agrees_to_the_image_is_written_as_it_is() {
    let small = Limits {
        max_recv_data_segment_length: 4096,
        max_burst_length: 8192,
        first_burst_length: 4096,
        window: 2,
        ..Limits::default()
    };
    let crc = Limits { header_digests: vec!["CRC32C"], data_digests: vec!["CRC32C"], ..Limits::default() };
    let limited = |limits: Limits| TargetOptions { limits, ..options() };
    let ping_every = Some(Duration::from_millis(20));
    for (case, options) in [
        ("as offered", options()),
        ("small", limited(small.clone())),
        ("small, by R2T only", limited(Limits { initial_r2t: true, immediate_data: false, ..small.clone() })),
        ("unsolicited, not immediate", limited(Limits { immediate_data: false, ..Limits::default() })),
        ("immediate, then R2Ts", limited(Limits { initial_r2t: true, max_outstanding_r2t: 4, ..small })),
        ("one command at a time", limited(Limits { window: 1, ..Limits::default() })),
        ("check sums", limited(crc)),
        ("status apart from data", limited(Limits { status_with_data: false, ..Limits::default() })),
        ("blocks of 4096", TargetOptions { block_size: 4096, ..options() }),
        ("not thin", TargetOptions { thin: false, ..options() }),
        ("asks for signs of life", TargetOptions { ping_every, ..options() }),
    ] {
        let target = start(options, TargetFaults::default()).await;
        deploy(&of(&target), &settings()).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        written(&target, case).await;
        let stats = target.stats();
        assert_eq!((stats.logins, stats.logouts), (1, 1), "{case}");
    }
}

#[tokio::test]
async fn digests_that_are_required_are_used_or_there_is_no_session() {
    let offer = Offer {
        header_digest: DigestChoice::Require,
        data_digest: DigestChoice::Require,
        ..Offer::default()
    };
    let strict = IscsiSettings { offer, ..settings() };
    let target = start(options(), TargetFaults::default()).await;
    deploy(&of(&target), &strict).await.unwrap();
    written(&target, "required").await;
    let none = Limits { header_digests: vec!["None"], data_digests: vec!["None"], ..Limits::default() };
    let target = start(TargetOptions { limits: none, ..options() }, TargetFaults::default()).await;
    let error = deploy(&of(&target), &strict).await.unwrap_err();
    assert!(matches!(error, IscsiError::Protocol(_)), "{error:?}");
    deserted(&target, "none").await;
}

#[tokio::test]
async fn a_connection_that_breaks_in_mid_write_is_made_anew_and_little_is_written_twice() {
    for times in [1, 5] {
        let drops: VecDeque<u64> = (1..=times).map(|number| number * 700_001).collect();
        let target = start(options(), TargetFaults { drops, ..TargetFaults::default() }).await;
        deploy(&of(&target), &settings()).await.unwrap();
        written(&target, "drops").await;
        let stats = target.stats();
        assert_eq!(stats.logins, times + 1);
        // once more after the flush has told that a session was lost, and what was in flight
        assert!(stats.written <= 2 * (4 << 20) + times * (2 << 20), "{} bytes written", stats.written);
    }
}

#[tokio::test]
async fn small_troubles_pass_and_the_image_is_written() {
    let good = TargetFaults::default;
    let shy = Some(Redirect { to: String::new(), permanent: false, times: 0 });
    for (case, faults) in [
        ("busy", TargetFaults { busy: 5, ..good() }),
        ("task set full", TargetFaults { task_set_full: 5, ..good() }),
        ("reset", TargetFaults { unit_attentions: 3, ..good() }),
        ("not available yet", TargetFaults { login_refusals: [0x0301, 0x0302].into(), ..good() }),
        ("closes after login", TargetFaults { close_after_login: 3, ..good() }),
        ("closes within an answer", TargetFaults { cut_answers: 3, ..good() }),
        ("one command unanswered", TargetFaults { silent_commands: 1, silent_after: 9, ..good() }),
        ("some commands unanswered", TargetFaults { silent_commands: 4, silent_after: 8, ..good() }),
        ("silent at login", TargetFaults { silent_logins: 1, ..good() }),
        ("slow", TargetFaults { slow: Duration::from_millis(20), ..good() }),
        ("wants to be left", TargetFaults { ask_for_logout: Some((10, 1)), redirect: shy, ..good() }),
    ] {
        println!("{case}");
        let patience =
            if case.contains("unanswered") || case.contains("silent") { hasty() } else { settings() };
        let target = start(options(), faults).await;
        deploy(&of(&target), &patience).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        written(&target, case).await;
    }
}

#[tokio::test]
async fn a_target_that_wants_to_be_left_is_logged_out_of_and_into_again() {
    let faults = TargetFaults { ask_for_logout: Some((12, 3)), ..TargetFaults::default() };
    let target = start(options(), faults).await;
    deploy(&of(&target), &settings()).await.unwrap();
    written(&target, "asked").await;
    let stats = target.stats();
    assert_eq!((stats.logins, stats.logouts), (2, 2));
}

#[tokio::test]
async fn a_refused_login_says_why_and_is_tried_again_only_where_that_may_help() {
    for status in [0x0200, 0x0202, 0x0203, 0x0204, 0x0205, 0x0206, 0x0207, 0x0208, 0x0209, 0x020B] {
        let faults = TargetFaults { always_refused: Some(status), ..TargetFaults::default() };
        let target = start(options(), faults).await;
        let error = deploy(&of(&target), &settings()).await.unwrap_err();
        assert_eq!(error, IscsiError::Refused { status }, "{error}");
        deserted(&target, "refused").await;
        assert_eq!(target.stats().connections, 1, "{status:#06x} was tried again");
    }
    // what may pass is tried again, until it passes, something else is said, or time is over
    let (login_refusals, always_refused) = ([0x0302, 0x0301, 0x0302].into(), Some(0x0203));
    let target =
        start(options(), TargetFaults { login_refusals, always_refused, ..TargetFaults::default() }).await;
    let error = deploy(&of(&target), &settings()).await.unwrap_err();
    assert_eq!(error, IscsiError::Refused { status: 0x0203 });
    assert_eq!(target.stats().connections, 4);
    let faults = TargetFaults { always_refused: Some(0x0302), ..TargetFaults::default() };
    let target = start(options(), faults).await;
    let patience = IscsiSettings { open_within: Duration::from_secs(5), ..settings() };
    let error = deploy(&of(&target), &patience).await.unwrap_err();
    assert_eq!(error, IscsiError::Unavailable { status: 0x0302 });
}

#[tokio::test]
async fn another_portal_is_gone_to_and_a_ring_of_portals_is_left() {
    let real = start(options(), TargetFaults::default()).await;
    for permanent in [false, true] {
        let to = format!("{},1", real.address());
        let redirect = Some(Redirect { to, permanent, times: 1 });
        let first = start(options(), TargetFaults { redirect, ..TargetFaults::default() }).await;
        deploy(&of(&first), &settings()).await.unwrap();
        written(&real, "redirected").await;
        deserted(&first, "redirected").await;
    }
    let ring = start(options(), TargetFaults::default()).await;
    let redirect = Some(Redirect { to: format!("{},1", ring.address()), permanent: false, times: 1000 });
    ring.set_faults(TargetFaults { redirect, ..TargetFaults::default() });
    let error = deploy(&of(&ring), &settings()).await.unwrap_err();
    assert!(matches!(error, IscsiError::Redirected(_)), "{error:?}");
    deserted(&ring, "ring").await;
    let redirect = Some(Redirect { to: "nowhere at all".to_owned(), permanent: false, times: 1000 });
    ring.set_faults(TargetFaults { redirect, ..TargetFaults::default() });
    assert!(deploy(&of(&ring), &settings()).await.is_err());
}

#[tokio::test]
async fn both_sides_prove_who_they_are_or_there_is_no_session() {
    let secret = |text: &str| Secret::new(text.to_owned());
    let own = Some(("it".to_owned(), secret("and its own secret")));
    let chap = Chap { user: "me".to_owned(), secret: secret("my own long secret"), own };
    let me = |mine: &str, its: Option<&str>| {
        let mutual = its.map(|its| MutualChap { user: Some("it".to_owned()), secret: secret(its) });
        Some(Login { user: "me".to_owned(), secret: secret(mine), mutual })
    };
    let (right, its) = ("my own long secret", Some("and its own secret"));
    let good = TargetFaults::default;
    for (case, login, faults, lets_in) in [
        ("one side", me(right, None), good(), true),
        ("both sides", me(right, its), good(), true),
        ("wrong secret", me("another secret", None), good(), false),
        ("no secret", None, good(), false),
        ("another secret of the target", me(right, Some("something else")), good(), false),
        ("a wrong proof", me(right, its), TargetFaults { wrong_proof: true, ..good() }, false),
        ("a mirror", me(right, its), TargetFaults { reflected_challenge: true, ..good() }, false),
    ] {
        let target = start(TargetOptions { chap: Some(chap.clone()), ..options() }, faults).await;
        let mut to = of(&target);
        to.chap = login;
        match deploy(&to, &settings()).await {
            Ok(()) if lets_in => written(&target, case).await,
            Err(IscsiError::Credentials(_)) if !lets_in => {
                deserted(&target, case).await;
                assert_eq!(target.stats().connections, 1, "{case}: tried again");
            }
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_broken_block_is_named_whether_it_is_written_or_read() {
    let faults = TargetFaults { broken_blocks: vec![3333], ..TargetFaults::default() };
    let target = start(options(), faults).await;
    let session = Session::open(&of(&target), &settings()).await.unwrap();
    let error = write(&session).await.unwrap_err();
    assert!(matches!(error, IscsiError::Medium { lba: Some(3333), .. }), "{error:?}");
    let error = session.read_at(3332 * 512, 4096).await.unwrap_err();
    assert!(matches!(error, IscsiError::Medium { lba: Some(3333), .. }), "{error:?}");
    drop(session);
    target.until(|stats| stats.logouts == 1).await;
    deserted(&target, "dropped").await;
}

#[tokio::test]
async fn what_lasts_too_long_ends_in_an_error_that_says_what() {
    let long = u32::MAX;
    let good = TargetFaults::default;
    type Fits = fn(&IscsiError) -> bool;
    let check: [(&str, TargetFaults, Fits); 6] = [
        ("busy", TargetFaults { busy: long, ..good() }, |error| matches!(error, IscsiError::Busy(_))),
        ("full", TargetFaults { task_set_full: long, ..good() }, |error| {
            matches!(error, IscsiError::Busy(_))
        }),
        ("silent", TargetFaults { silent_commands: long, silent_after: 12, ..good() }, |error| {
            matches!(error, IscsiError::Silent { .. } | IscsiError::Lost(_))
        }),
        ("silent at login", TargetFaults { silent_logins: long, ..good() }, |error| {
            matches!(error, IscsiError::Silent { .. } | IscsiError::Lost(_) | IscsiError::Connect { .. })
        }),
        ("closes after login", TargetFaults { close_after_login: long, ..good() }, |error| {
            matches!(error, IscsiError::Lost(_) | IscsiError::Connect { .. })
        }),
        ("closes within answers", TargetFaults { cut_answers: long, ..good() }, |error| {
            matches!(error, IscsiError::Lost(_) | IscsiError::Connect { .. })
        }),
    ];
    // all at once: each waits until patience is over
    let all = check.map(async |(case, faults, fits)| {
        let target = start(options(), faults).await;
        let error = deploy(&of(&target), &hasty()).await.unwrap_err();
        assert!(fits(&error), "{case}: {error:?}");
        assert!(error.is_transient(), "{case}");
        deserted(&target, case).await;
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_disk_that_is_too_small_or_none_or_write_protected_is_told() {
    let target = start(options(), TargetFaults::default()).await;
    let session = Session::open(&of(&target), &settings()).await.unwrap();
    assert_eq!(session.capacity().bytes(), DISK);
    let beyond = session.write_at(DISK - 512, vec![1; 1024].into()).await.unwrap_err();
    assert!(matches!(beyond, IscsiError::OutOfRange { capacity: DISK, .. }), "{beyond:?}");
    session.logout().await;
    let mut other = of(&target);
    other.lun = 7;
    let error = deploy(&other, &settings()).await.unwrap_err();
    assert!(matches!(&error, IscsiError::NoUnit { lun: 7, there } if there.contains(&1)), "{error:?}");
    deserted(&target, "LUN").await;
    let target = start(TargetOptions { read_only: true, ..options() }, TargetFaults::default()).await;
    let error = deploy(&of(&target), &settings()).await.unwrap_err();
    assert_eq!(error, IscsiError::ReadOnly);
    deserted(&target, "protected").await;
}

/// A target that lies is found out, or does no harm: never is something else on the disk when all is said to be well.
#[tokio::test]
async fn a_target_that_lies_is_found_out_or_does_no_harm() {
    let r2t =
        Limits { initial_r2t: true, immediate_data: false, max_burst_length: 64 << 10, ..Limits::default() };
    for lie in [
        Lie::R2tBeyondCommand,
        Lie::R2tBeyondBurst,
        Lie::R2tOfNothing,
        Lie::R2tOfNobody,
        Lie::WindowBack,
        Lie::DataBeyondRead,
        Lie::DataWithGap,
        Lie::DataShort,
        Lie::AnswerOfNobody,
        Lie::SegmentTooLong,
        Lie::StatusJump,
        Lie::Garbage,
        Lie::Reject,
        Lie::TargetFailure,
        Lie::Underflow,
    ] {
        for times in [1, 1000] {
            let lies = std::iter::repeat_n(lie, times).collect();
            let target =
                start(TargetOptions { limits: r2t.clone(), ..options() }, TargetFaults::default()).await;
            let case = format!("{lie:?} {times} times");
            let session = Session::open(&of(&target), &hasty()).await.unwrap();
            target.set_faults(TargetFaults { lies, ..TargetFaults::default() });
            let read = session.read_at(0, 64 << 10).await;
            assert!(
                read.is_err() || read.unwrap().iter().all(|byte| *byte == 0xA5),
                "{case}: read something else"
            );
            let ended = write(&session).await;
            session.logout().await;
            println!("{case}: {ended:?}, {} left", target.faults().lies.len());
            target.set_faults(TargetFaults::default());
            match ended {
                Ok(()) => written(&target, &case).await,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    target.until(|stats| stats.open == 0).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn discovery_names_every_target_and_leaves_no_session() {
    let also_known: Vec<String> = (0..3000).map(|n| format!("iqn.2026-01.example:another-{n:04}")).collect();
    let target = start(TargetOptions { also_known, ..options() }, TargetFaults::default()).await;
    let to = of(&target);
    let found = discover(&to.address, to.port, None, &settings()).await.unwrap();
    assert_eq!((found.len(), found[0].iqn.as_str()), (3001, to.iqn.as_str()));
    assert_eq!(found[3000].portals, [(to.address, to.port)]);
    deserted(&target, "discovery").await;
    assert_eq!((target.stats().discoveries, target.stats().logouts), (1, 1));
}

#[tokio::test]
async fn a_session_that_is_dropped_in_mid_write_is_logged_out() {
    let target =
        start(options(), TargetFaults { slow: Duration::from_millis(30), ..TargetFaults::default() }).await;
    let session = Session::open(&of(&target), &settings()).await.unwrap();
    let writing = tokio::spawn(async move { write(&session).await });
    target.until(|stats| stats.written > 1 << 20).await;
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    deserted(&target, "dropped").await;
}

#[tokio::test]
async fn what_a_cache_lost_is_never_said_to_be_durable() {
    let target = start(options(), TargetFaults::default()).await;
    target.store().cache_writes();
    let session = Session::open(&of(&target), &settings()).await.unwrap();
    session.write_at(0, vec![1; 4096].into()).await.unwrap();
    session.sync().await.unwrap();
    session.write_at(4096, vec![2; 4096].into()).await.unwrap();
    target.crash();
    session.write_at(8192, vec![3; 4096].into()).await.unwrap();
    assert_eq!(session.sync().await, Err(IscsiError::Forgotten));
    assert_eq!(session.read_at(0, 12288).await.unwrap()[4096], 0xA5, "it is gone");
    session.write_at(4096, vec![2; 4096].into()).await.unwrap();
    session.sync().await.unwrap();
    target.crash();
    let kept = session.read_at(0, 12288).await.unwrap();
    assert!([0, 4096, 8192].map(|at| kept[at]) == [1, 2, 3]);
    // and a session that broke with nothing unsynced is nothing to tell of
    session.sync().await.unwrap();
    let writing = async { write_once(&session).await };
    let failing = async {
        target.until(|stats| stats.written > 3 << 20).await;
        target.crash();
    };
    let (ended, ()) = tokio::join!(writing, failing);
    assert_eq!(ended, Err(IscsiError::Forgotten));
    write(&session).await.unwrap();
    session.logout().await;
    target.crash();
    written(&target, "crashed").await;
}

#[tokio::test]
async fn holes_are_zero_though_a_unit_does_nothing_on_unmap() {
    let target = start(options(), TargetFaults { lazy_unmap: true, ..TargetFaults::default() }).await;
    deploy(&of(&target), &settings()).await.unwrap();
    written(&target, "lazy").await;
}

#[tokio::test]
async fn a_new_session_ends_the_one_that_was_left_behind() {
    let target = start(options(), TargetFaults::default()).await;
    let old = Session::open(&of(&target), &settings()).await.unwrap();
    let new = Session::open(&of(&target), &settings()).await.unwrap();
    assert_eq!(target.stats().reinstated, 1);
    drop(old);
    write(&new).await.unwrap();
    new.logout().await;
    written(&target, "the new one").await;
}
