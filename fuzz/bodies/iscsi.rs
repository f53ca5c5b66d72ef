//! iSCSI: what a target may send to an initiator.

use bytes::{Bytes, BytesMut};
use ferric_drivers::Secret;
use ferric_drivers::protocol::iscsi::pdu::{Digests, Lun, Pdu};
use ferric_drivers::protocol::iscsi::{
    Chap, Core, Established, Limits, Login, LoginConfig, MutualChap, Negotiation, Offer, Outcome, Step, scsi,
    text,
};

use super::{join, pieces, way};

/// The longest data segment that is taken.
const LIMIT: usize = 1 << 16;

/// Any bytes.
pub fn run(bytes: &[u8]) {
    let Some(([number, flags], bytes)) = bytes.split_first_chunk::<2>() else { return };
    match number % 6 {
        0 => codec(bytes, Digests { header: flags & 1 != 0, data: flags & 2 != 0 }),
        1 => texts(bytes),
        2 => login(bytes, *flags),
        3 => session(bytes, *flags),
        4 => negotiation(bytes, flags & 1 != 0),
        _ => answers(bytes),
    }
}

fn codec(bytes: &[u8], digests: Digests) {
    let Ok(Some((pdu, length))) = Pdu::decode(bytes, digests, LIMIT) else { return };
    assert!(length <= bytes.len() && pdu.data.len() <= LIMIT);
    let mut out = BytesMut::new();
    pdu.encode(digests, &mut out).expect("what was read is short enough to be written");
    let (again, length) =
        Pdu::decode(&out, digests, LIMIT).expect("what we write can be read").expect("all of it");
    assert_eq!((&again, length), (&pdu, out.len()));
}

fn texts(bytes: &[u8]) {
    if let Ok(pairs) = text::parse(bytes) {
        assert_eq!(text::parse(&text::encode(&pairs)).as_ref(), Ok(&pairs));
        for (_, value) in &pairs {
            let _ = text::number(value);
            if let Some(binary) = text::binary(value) {
                assert!(binary.len() <= value.len());
            }
        }
    }
    let mut collector = text::Collector::default();
    let all = pieces(bytes);
    for (number, piece) in all.iter().enumerate() {
        if collector.add(piece, number + 1 < all.len()).is_err() {
            break;
        }
    }
}

fn config(flags: u8) -> LoginConfig {
    let secret = |text: &str| Secret::new(text.to_owned());
    let mutual =
        (flags & 2 != 0).then(|| MutualChap { user: Some("it".to_owned()), secret: secret("its secret") });
    let chap = Chap { user: "me".to_owned(), secret: secret("my secret"), mutual };
    LoginConfig {
        initiator: "iqn.2026-11.org.ferric:fuzz".to_owned(),
        target: (flags & 4 == 0).then(|| "iqn.2026-11.org.ferric:target".to_owned()),
        isid: [0x80, 1, 2, 3, 4, 5],
        chap: (flags & 1 != 0).then_some(chap),
        challenge: [7; 16],
        offer: Offer::default(),
    }
}

/// A login whose target says the pieces, each a PDU.
fn login(bytes: &[u8], flags: u8) {
    let mut login = Login::new(config(flags));
    let mut sent = login.start();
    for piece in pieces(bytes) {
        let mut out = BytesMut::new();
        sent.encode(Digests::default(), &mut out).expect("what we say fits into a PDU");
        let Ok(Some((pdu, _))) = Pdu::decode(piece, Digests::default(), LIMIT) else { continue };
        match login.receive(&pdu) {
            Ok(Step::Send(next)) => sent = next,
            Ok(Step::Done(established)) => {
                assert!(flags & 3 != 3, "in with nothing proved by a target that has to prove itself");
                let limits = established.limits;
                assert!(limits.first_burst <= limits.max_burst && limits.max_send_data >= 512);
                return;
            }
            Ok(Step::Moved(moved)) => return assert!(!moved.host.is_empty()),
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
}

/// A session with commands of each kind whose target says the pieces.
fn session(bytes: &[u8], flags: u8) {
    let limits = Limits { initial_r2t: flags & 1 != 0, immediate_data: flags & 2 != 0, ..Limits::default() };
    let mut core = Core::new(Established { limits, cmd_sn: 1, max_cmd_sn: 33, exp_stat_sn: 1 }, 4);
    let lun = Lun::new(1);
    let commands = [
        scsi::Command::write_16(0, 400, Bytes::from(vec![1; 400 * 512])),
        scsi::Command::read_16(0, 16, 512),
        scsi::Command::synchronize_cache_16(),
        scsi::Command::unmap(0, 8),
        scsi::Command::inquiry(None, 96),
    ];
    let lengths: Vec<u32> = commands.iter().map(|command| command.transfer.length()).collect();
    for (token, command) in (0..).zip(commands) {
        core.submit(token, lun, command);
    }
    if flags & 4 != 0 {
        core.ping();
    }
    let mut ended = 0;
    for piece in pieces(bytes) {
        drain(&mut core);
        let Ok(Some((pdu, _))) = Pdu::decode(piece, Digests::default(), limits.max_recv_data as usize) else {
            continue;
        };
        let went_on = core.receive(pdu).is_ok();
        while let Some((token, outcome)) = core.finished() {
            ended += 1;
            if let Outcome::Good(read) = outcome {
                assert!(read.len() <= lengths[token as usize] as usize, "more than was asked for");
            }
        }
        assert!(ended <= lengths.len(), "a command ended twice");
        if !went_on {
            return;
        }
        if flags & 8 != 0 {
            core.abort(1);
        }
    }
    core.log_out();
    drain(&mut core);
}

/// Sends all that is to be sent, which has to come to an end.
fn drain(core: &mut Core) {
    let mut bytes = 0;
    let mut count = 0;
    while let Some(pdu) = core.transmit() {
        bytes += pdu.data.len();
        count += 1;
        assert!(bytes <= 8 << 20 && count < 10_000, "a target makes it send without end");
    }
}

fn negotiation(bytes: &[u8], discovery: bool) {
    let mut negotiation = Negotiation::new(Offer::default(), discovery);
    let _ = negotiation.offers();
    for (key, value) in text::parse(bytes).unwrap_or_default() {
        if negotiation.hear(&key, &value).is_err() {
            return;
        }
    }
    let limits = negotiation.limits();
    assert!(limits.first_burst <= limits.max_burst && limits.max_send_data >= 512);
}

fn answers(bytes: &[u8]) {
    let _ = (scsi::Inquiry::parse(bytes), scsi::unit_serial(bytes), scsi::vpd_pages(bytes).len());
    let _ = (scsi::Capacity::parse_10(bytes), scsi::Capacity::parse_16(bytes).map(scsi::Capacity::bytes));
    assert!(scsi::units(bytes).len() <= bytes.len());
    let mut abilities = scsi::BlockLimits::default();
    abilities.read_b0(bytes);
    abilities.read_b2(bytes);
    if let Some(sense) = scsi::Sense::parse(bytes).or_else(|| scsi::Sense::of_segment(bytes)) {
        assert!(!sense.to_string().is_empty());
    }
}

/// A target's PDU: opcode, flags, words at offsets, data.
fn pdu(opcode: u8, flags: u8, words: &[(usize, u32)], data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 48];
    (out[0], out[1]) = (opcode, flags);
    out[5..8].copy_from_slice(&u32::try_from(data.len()).expect("seeds are short").to_be_bytes()[1..]);
    for (at, word) in words {
        out[*at..at + 4].copy_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Logins and sessions as a target leads them, and answers to commands.
pub fn seeds() -> Vec<Vec<u8>> {
    let none = pdu(0x23, 0x81, &[(24, 1), (28, 1), (32, 64)], b"TargetPortalGroupTag=1\0AuthMethod=None\0");
    let limits: &[u8] = b"HeaderDigest=None\0DataDigest=None\0InitialR2T=No\0ImmediateData=Yes\0MaxBurstLength=262144\0\
        FirstBurstLength=65536\0MaxOutstandingR2T=1\0MaxRecvDataSegmentLength=65536\0ErrorRecoveryLevel=0\0\
        DefaultTime2Wait=2\0DefaultTime2Retain=0\0MaxConnections=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0";
    let done = pdu(0x23, 0x87, &[(12, 1), (24, 2), (28, 1), (32, 64)], limits);
    let chap = pdu(0x23, 0x00, &[(24, 1), (28, 1), (32, 64)], b"AuthMethod=CHAP\0");
    let asks = b"CHAP_A=5\0CHAP_I=9\0CHAP_C=0x000102030405060708090a0b0c0d0e0f\0";
    let challenge = pdu(0x23, 0x00, &[(24, 2), (28, 1), (32, 64)], asks);
    let proof = pdu(
        0x23,
        0x81,
        &[(24, 3), (28, 1), (32, 64)],
        b"CHAP_N=it\0CHAP_R=0x00112233445566778899aabbccddeeff\0",
    );
    let moved = pdu(0x23, 0, &[(24, 1), (36, 0x0101_0000)], b"TargetAddress=[::1]:3260,1\0");
    let refused = pdu(0x23, 0, &[(24, 1), (36, 0x0203_0000)], b"");
    let window = |sn: u32| [(24, sn), (28, 5), (32, 40)];
    let with = |more: &[(usize, u32)], sn: u32| [window(sn).to_vec(), more.to_vec()].concat();
    let r2t = pdu(0x31, 0x80, &with(&[(16, 1), (20, 7), (36, 0), (40, 65_536), (44, 8192)], 1), b"");
    let good = pdu(0x21, 0x80, &with(&[(16, 3)], 1), b"");
    let sense = [0, 18, 0x70, 0, 3, 0, 0, 0, 9, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
    let mut check = pdu(0x21, 0x82, &with(&[(16, 4), (44, 24)], 1), &sense);
    check[3] = 2;
    let data = pdu(0x25, 0x81, &with(&[(16, 2), (20, u32::MAX), (36, 0), (40, 0)], 1), &[5; 8192]);
    let ping = pdu(0x20, 0x80, &with(&[(16, u32::MAX), (20, 9)], 1), b"");
    let leave = pdu(0x32, 0x80, &with(&[(16, u32::MAX), (36, 0x0100_0000), (40, 5)], 1), b"");
    let reject = pdu(0x3F, 0x80, &with(&[(16, u32::MAX)], 1), &[1; 48]);
    let b0 = [&[0, 0xB0, 0, 60][..], &[1; 60]].concat();
    let flagged = |number: u8, flags: u8, rest: Vec<u8>| way(number, way(flags, rest));
    let mut all = vec![
        flagged(1, 0, limits.to_vec()),
        flagged(1, 0, join(&[limits, b"a=0xabc\0", b"b=0bAAEC\0"])),
        flagged(2, 0, join(&[&none, &done])),
        flagged(2, 1, join(&[&chap, &challenge, &proof, &done])),
        flagged(2, 3, join(&[&chap, &challenge, &proof, &done])),
        flagged(2, 4, join(&[&none, &done])),
        flagged(2, 0, join(&[&moved])),
        flagged(2, 0, join(&[&none, &refused])),
        flagged(3, 0, join(&[&r2t, &good, &data, &check])),
        flagged(3, 1, join(&[&ping, &r2t, &leave, &good])),
        flagged(3, 14, join(&[&data, &reject, &check, &good])),
        flagged(4, 0, limits.to_vec()),
        flagged(5, 0, b0),
        flagged(5, 0, sense.to_vec()),
        flagged(5, 0, [&[0, 0, 0, 0, 0, 1, 0xFF, 0xFF, 0, 0, 2, 0][..], &[0; 20]].concat()),
    ];
    all.extend([none, done, r2t, good, check, data, ping, leave, reject].map(|one| flagged(0, 0, one)));
    all
}
