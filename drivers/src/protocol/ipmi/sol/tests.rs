//! Both sides against each other, and against what BMCs are known to do.

use proptest::prelude::*;

use super::*;

const STEP: Duration = Duration::from_millis(100);

fn lines() -> (Line, Line) {
    let retries = Retries { count: 7, interval: STEP };
    (Line::new(16, retries), Line::new(5, retries))
}

/// Runs both until nothing is under way, with datagrams lost where `lost` says so; gives what each heard.
fn talk(a: &mut Line, b: &mut Line, mut lost: impl FnMut() -> bool) -> (Vec<u8>, Vec<u8>) {
    let (mut at, mut heard_a, mut heard_b) = (Instant::now(), Vec::new(), Vec::new());
    for _ in 0..5000 {
        exchange(a, b, &mut heard_b, at, &mut lost);
        exchange(b, a, &mut heard_a, at, &mut lost);
        if a.queued() + b.queued() == 0 {
            break;
        }
        at += STEP;
    }
    (heard_a, heard_b)
}

fn exchange(
    from: &mut Line,
    to: &mut Line,
    heard: &mut Vec<u8>,
    at: Instant,
    lost: &mut impl FnMut() -> bool,
) {
    let Some(payload) = from.poll(at) else { return };
    if lost() {
        return;
    }
    let news = to.receive(at, &payload).expect("ours");
    heard.extend(news.data);
    if let Some(reply) = news.reply.filter(|_| !lost()) {
        from.receive(at, &reply).expect("ours");
    }
}

#[test]
fn what_is_typed_arrives_once_and_in_order_on_a_network_that_loses_a_fifth() {
    let (mut console, mut bmc) = lines();
    let typed: Vec<u8> = (0..=255).collect();
    let shown: Vec<u8> = (0..=255).rev().collect();
    assert_eq!(console.write(&typed), typed.len());
    assert_eq!(bmc.write(&shown), shown.len());
    let mut seed = 42_u64;
    let (heard_console, heard_bmc) = talk(&mut console, &mut bmc, || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33).is_multiple_of(5)
    });
    assert_eq!(heard_bmc, typed);
    assert_eq!(heard_console, shown);
}

#[test]
fn a_line_that_nobody_answers_is_lost_and_takes_no_more_than_fits() {
    let (mut console, _) = lines();
    assert_eq!(console.write(&vec![b'x'; 3 * MAX_QUEUED]), MAX_QUEUED);
    let mut at = Instant::now();
    let mut sent = 0;
    while !console.is_lost() {
        sent += usize::from(console.poll(at).is_some());
        at += STEP;
    }
    assert_eq!(sent, 8, "the first transmission and seven more");
    assert_eq!(console.poll(at), None);
}

#[test]
fn a_bmc_that_takes_a_part_is_sent_the_rest_later() {
    let (mut console, _) = lines();
    console.write(b"reboot");
    let at = Instant::now();
    let first = SolPacket::decode(&console.poll(at).expect("something waits")).expect("ours");
    let refusal = SolPacket {
        sequence: 0,
        ack: first.sequence,
        accepted: 2,
        nack: true,
        flags: condition::UNAVAILABLE,
        data: vec![],
    };
    let heard = console.receive(at, &refusal.encode()).expect("well formed");
    assert_eq!((heard.reply, heard.flags), (None, condition::UNAVAILABLE));
    assert_eq!(console.poll(at), None, "it cannot take any just now");
    let second = SolPacket::decode(&console.poll(at + STEP).expect("the rest")).expect("ours");
    assert_eq!((second.data.as_slice(), second.sequence), (&b"boot"[..], first.sequence + 1));
}

#[test]
fn a_packet_that_comes_again_longer_gives_only_what_is_new() {
    let (mut console, _) = lines();
    let at = Instant::now();
    let packet = |data: &[u8]| {
        SolPacket { sequence: 3, ack: 0, accepted: 0, nack: false, flags: 0, data: data.to_vec() }.encode()
    };
    assert_eq!(console.receive(at, &packet(b"log")).expect("ok").data, b"log");
    let again = console.receive(at, &packet(b"login: ")).expect("ok");
    assert_eq!(again.data, b"in: ");
    assert_eq!(again.reply.expect("acknowledged")[..3], [0, 3, 7]);
    assert_eq!(console.receive(at, &packet(b"login: ")).expect("ok").data, b"");
}

#[test]
fn a_bmc_that_leaves_the_count_out_does_not_keep_the_line() {
    let (mut console, _) = lines();
    console.write(b"y");
    let mut at = Instant::now();
    let mut sent = 0;
    while let Some(payload) = console.poll(at) {
        let packet = SolPacket::decode(&payload).expect("ours");
        assert_eq!(packet.data, b"y");
        console.receive(at, &[0, packet.sequence, 0, 0]).expect("ok");
        sent += 1;
        at += STEP;
    }
    assert_eq!(sent, usize::from(EMPTY_ACKS));
}

#[test]
fn a_break_goes_before_what_waits_and_is_not_repeated_by_a_repetition() {
    let (mut console, mut bmc) = lines();
    console.write(b"b");
    console.signal(operation::BREAK);
    let at = Instant::now();
    let payload = console.poll(at).expect("something waits");
    assert_eq!(bmc.receive(at, &payload).expect("ok").flags, operation::BREAK);
    let again = bmc.receive(at, &payload).expect("ok");
    assert_eq!((again.flags, again.data), (0, vec![]));
}

#[test]
fn sizes_of_any_firmware_give_a_usable_chunk() {
    for (inbound, chunk) in
        [(0, 1), (4, 1), (5, 1), (64, 60), (259, 200), (1024, 1), (0x4000, 60), (u16::MAX, 1)]
    {
        assert_eq!(Activated { inbound, outbound: 64, port: 623 }.chunk(), chunk, "{inbound}");
    }
}

proptest! {
    #[test]
    fn no_datagrams_make_a_line_panic_or_grow(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..60)
    ) {
        let (mut line, _) = lines();
        line.write(&[b'z'; 100]);
        let mut at = Instant::now();
        for payload in payloads {
            let _ = line.poll(at);
            let _ = line.receive(at, &payload);
            prop_assert!(line.queued() <= 100);
            at += STEP;
        }
    }
}
