//! IPMI: datagrams, the messages that open a session, sessions, what a BMC has stored, its serial line.

use std::time::{Duration, Instant};

use ferric_drivers::Secret;
use ferric_drivers::protocol::ipmi::command::sensor::Reading;
use ferric_drivers::protocol::ipmi::handshake::{Handshake, Login, Progress};
use ferric_drivers::protocol::ipmi::packet::{self, Datagram, Frame, PayloadType};
use ferric_drivers::protocol::ipmi::rakp::{
    BmcProof, Exchange, OpenRequest, OpenResponse, Proof, Rakp1, Rakp2,
};
use ferric_drivers::protocol::ipmi::sdr::Sdr;
use ferric_drivers::protocol::ipmi::session::Session;
use ferric_drivers::protocol::ipmi::sol::{Line, MAX_QUEUED, Retries, SolPacket};
use ferric_drivers::protocol::ipmi::{CipherSuite, Privilege, fru, sel, states};

use super::{join, pieces, way};

const CONSOLE: u32 = 0x1122_3344;
const BMC: u32 = 0x5566_7788;
const IV: [u8; 16] = [9; 16];

/// Any bytes.
pub fn run(bytes: &[u8]) {
    let Some((number, bytes)) = bytes.split_first() else { return };
    match number % 6 {
        0 => datagram(bytes),
        1 => messages(bytes),
        2 => handshake(bytes),
        3 => session(bytes),
        4 => stored(bytes),
        _ => line(bytes),
    }
}

fn datagram(bytes: &[u8]) {
    match Datagram::decode(bytes) {
        Ok(Datagram::Plus(plus)) => {
            assert!(plus.payload.len() <= bytes.len());
            let (mut console, _) = ends_by(CipherSuite::Three, b"another");
            assert!(console.open(&plus).is_err(), "nobody who lacks the keys is let in");
            drop(Frame::decode(plus.payload));
        }
        Ok(Datagram::Sessionless(frame)) => drop(Frame::decode(frame)),
        Ok(Datagram::Ping(_) | Datagram::Pong(_)) | Err(_) => {}
    }
    if let Ok(frame) = Frame::decode(bytes) {
        let again = frame.encode();
        let read = Frame::decode(&again).expect("what we write can be read");
        // two bits of address that no frame of ours sets are not kept
        assert_eq!((read.sequence, read.message.cmd()), (frame.sequence, frame.message.cmd()));
        assert_eq!(read.message.data(), frame.message.data());
        let _ = frame.answers(&read);
        if let Some(datagram) = packet::sessionless(&again) {
            assert_eq!(Datagram::decode(&datagram), Ok(Datagram::Sessionless(&again)));
        }
    }
}

fn messages(bytes: &[u8]) {
    if let Ok(message) = OpenRequest::decode(bytes) {
        assert_eq!(OpenRequest::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = OpenResponse::decode(bytes) {
        assert_eq!(OpenResponse::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = Rakp1::decode(bytes) {
        assert_eq!(Rakp1::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = Rakp2::decode(bytes) {
        assert_eq!(Rakp2::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = Proof::decode(bytes) {
        assert_eq!(Proof::decode(&message.encode()), Ok(message));
    }
}

/// A console that opens a session while the peer says the pieces, one after the other.
fn handshake(bytes: &[u8]) {
    let suite = if bytes.len().is_multiple_of(2) { CipherSuite::Three } else { CipherSuite::Seventeen };
    let login = Login {
        user: b"admin".to_vec(),
        password: Secret::new(b"password".to_vec()),
        kg: None,
        privilege: Privilege::Administrator,
    };
    let (mut handshake, first) = Handshake::start(&login, suite, CONSOLE, [7; 16]);
    let _ = Datagram::decode(&first);
    for piece in pieces(bytes) {
        match handshake.receive(piece) {
            Ok(Progress::Open(_)) => panic!("a session without the password"),
            Ok(Progress::Send(next)) => assert!(Datagram::decode(&next).is_ok()),
            Ok(Progress::Ignored) => {}
            Err(_) => break,
        }
    }
    if let Some(farewell) = handshake.abandon(IV) {
        assert!(Datagram::decode(&farewell).is_ok());
    }
}

/// Both ends of an open session.
fn ends(suite: CipherSuite) -> (Session, Session) {
    ends_by(suite, b"password")
}

fn ends_by(suite: CipherSuite, password: &[u8]) -> (Session, Session) {
    let exchange = Exchange {
        suite,
        console_id: CONSOLE,
        bmc_id: BMC,
        console_random: [1; 16],
        bmc_random: [2; 16],
        guid: [3; 16],
        role: 0x14,
        user: b"admin".to_vec(),
    };
    let keys = exchange.keys(password);
    (Session::new(keys.clone(), CONSOLE, BMC), Session::new(keys, BMC, CONSOLE))
}

/// Authentic packets with any content, and what is left of them when one byte is another.
fn session(bytes: &[u8]) {
    let Some(([at, change], content)) = bytes.split_first_chunk::<2>() else { return };
    let suite = if content.len().is_multiple_of(2) { CipherSuite::Three } else { CipherSuite::Seventeen };
    let (mut console, mut bmc) = ends(suite);
    // the length field has two bytes
    let content = &content[..content.len().min(4096)];
    let mut sealed = bmc.seal(content, IV);
    let Ok(Datagram::Plus(plus)) = Datagram::decode(&sealed) else { panic!("what we seal can be read") };
    assert_eq!(console.open(&plus).as_deref(), Ok(content));
    assert!(console.open(&plus).is_err(), "a second time it is a replay");
    drop(Frame::decode(content));
    let length = sealed.len();
    // RMCP's own header is not signed
    let at = 4 + usize::from(*at) % (length - 4);
    sealed[at] ^= change;
    if *change != 0
        && let Ok(Datagram::Plus(plus)) = Datagram::decode(&sealed)
    {
        let (mut fresh, _) = ends(suite);
        assert!(fresh.open(&plus).is_err(), "byte {at} was changed and nobody noticed");
    }
}

/// A record of a sensor, an entry of the event log and an inventory: three pieces.
fn stored(bytes: &[u8]) {
    let mut pieces = pieces(bytes).into_iter();
    let mut next = || pieces.next().unwrap_or_default();
    let (record, entry, inventory) = (next(), next(), next());
    let mut sensors = Vec::new();
    match Sdr::parse(record) {
        Ok(Sdr::Sensors(found)) => sensors = found,
        Ok(Sdr::Fru(place)) => assert!(place.name.len() <= 4 * record.len()),
        Ok(Sdr::Other(_)) | Err(_) => {}
    }
    assert!(sensors.len() < 16, "the count of those that share a record has four bits");
    for sensor in &sensors {
        let bits = entry.first().copied();
        for raw in 0..=u8::MAX {
            if let Some(value) = sensor.factors.and_then(|factors| factors.value(raw)) {
                assert!(value.is_finite());
            }
        }
        let raw = bits.unwrap_or(0);
        let reading = Reading { raw, scanning: true, unavailable: false, low: bits, high: bits };
        let _ = states::sensor(sensor, None, sensor.factors);
        let told = states::sensor(sensor, Some(reading), sensor.factors);
        assert!(told.states.len() <= 15, "there are no more states");
    }
    if let Some(entry) = entry.first_chunk() {
        let _ = sel::decode(entry, &sensors);
    }
    let _ = fru::parse(String::new(), 0, inventory);
    if let Some((header, rest)) = inventory.split_first_chunk::<8>() {
        // most mutations break the sum: the areas behind it are to be reached
        let mut whole = *header;
        whole[0] = 1;
        whole[7] = whole[..7].iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
        let whole = [&whole[..], rest].concat();
        assert!(fru::parse(String::new(), 0, &whole).is_ok());
    }
    for area in [fru::chassis(inventory), fru::board(inventory), fru::product(inventory)] {
        assert!(area.extra.len() <= inventory.len());
    }
}

/// A serial line that has something to say while the peer says the pieces.
fn line(bytes: &[u8]) {
    let Some(([chunk, a, b], content)) = bytes.split_first_chunk::<3>() else { return };
    let mut now = Instant::now();
    let mut line = Line::new(usize::from(*chunk), Retries::of_parameter(&[*a, *b]));
    line.write(content);
    for piece in pieces(content) {
        if let Some(payload) = line.poll(now) {
            assert!(SolPacket::decode(&payload).is_ok());
        }
        let before = line.queued();
        assert!(before <= MAX_QUEUED);
        if let Ok(packet) = SolPacket::decode(piece) {
            assert_eq!(SolPacket::decode(&packet.encode()), Ok(packet));
        }
        if let Ok(heard) = line.receive(now, piece) {
            assert!(heard.data.len() <= piece.len() && line.queued() <= before);
            assert!(heard.reply.is_none_or(|reply| SolPacket::decode(&reply).is_ok()));
        }
        now += Duration::from_millis(u64::from(*b));
    }
    for _ in 0..=u8::MAX {
        now += Duration::from_secs(1);
        let _ = line.poll(now);
    }
    assert!(line.is_lost() || line.queued() == 0 || line.due().is_some(), "what waits is sent or given up");
}

/// A record of a temperature, an entry about it, an inventory with a chassis and a board.
fn stored_seeds() -> Vec<Vec<u8>> {
    let mut full = vec![1, 0, 0x51, 0x01, 46, 0x20, 0, 7, 3, 1, 0x7F, 0x68, 1, 1];
    full.extend([0x80, 0x0A, 0x80, 0x7A, 0x38, 0x38, 0x00, 1, 0]);
    full.extend([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0, 95, 90, 80, 0, 0, 0, 2, 2, 0, 0, 0]);
    full.push(0xC8);
    full.extend(b"CPU Temp");
    let mut compact = vec![2, 0, 0x51, 0x02, 34, 0x20, 0, 8, 10, 1, 0x67, 0x40, 4, 0x6F];
    compact.extend([0; 6]);
    compact.extend([0xC0, 0, 0, 0x03, 0x41, 0, 0, 0, 0, 0, 0, 0, 0xC3]);
    compact.extend(b"Fan");
    let mut locator = vec![3, 0, 0x51, 0x11, 17, 0x20, 0, 0x80, 0, 0, 0x10, 0, 7, 1, 0, 0xC6];
    locator.extend(b"System");
    let threshold = [1, 0, 2, 0, 0, 0, 0x60, 0x20, 0, 4, 1, 7, 1, 0x59, 96, 95];
    let maker = [2, 0, 0xE0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
    let mut inventory = vec![1, 0, 1, 3, 5, 0, 0, 0xF6];
    inventory.extend([1, 2, 0x17, 0x83, 0x29, 0xDC, 0xA6, 0x42, 0x12, 0x34, 0xC1, 0, 0, 0, 0, 0]);
    inventory.extend([1, 2, 25, 0x20, 0x1A, 0x20, 0xC2, b'F', b'e', 0xC1, b'B', 0xC0, 0xC1, 0, 0, 0]);
    inventory.extend([1, 2, 1, 0xC4, b'w', 0, b'i', 0, 0x01, 9, 0xC1, 0, 0, 0, 0, 0]);
    [(&full, &threshold), (&compact, &threshold), (&locator, &maker), (&full, &maker)]
        .map(|(record, entry)| way(4, join(&[&record[..], &entry[..], &inventory[..]])))
        .into()
}

/// Characters, an acknowledgement in part, a refusal, a repetition, a condition.
fn line_seed() -> Vec<u8> {
    let said: [&[u8]; 5] =
        [&[1, 0, 0, 0, b'o', b'k'], &[0, 1, 4, 0], &[0, 2, 0, 0x60], &[1, 0, 0, 0], &[2, 0, 0, 0x14]];
    let mut all = vec![16, 7, 10];
    all.extend(join(&said));
    way(5, all)
}

/// What a conversation is made of.
pub fn seeds() -> Vec<Vec<u8>> {
    let algorithms = CipherSuite::Three.algorithms();
    let request = OpenRequest { tag: 0, console_id: CONSOLE, algorithms }.encode();
    let response = OpenResponse { tag: 0, console_id: CONSOLE, outcome: Ok((BMC, algorithms)) }.encode();
    let refused = OpenResponse { tag: 0, console_id: 0, outcome: Err(0x11) }.encode();
    let user = b"admin".to_vec();
    let one = Rakp1 { tag: 1, bmc_id: BMC, console_random: [7; 16], role: 0x14, user }.encode();
    let proof = BmcProof { random: [2; 16], guid: [3; 16], code: vec![4; 20] };
    let two = Rakp2 { tag: 1, console_id: CONSOLE, outcome: Ok(proof) }.encode();
    let three = Proof { tag: 2, status: 0, receiver_id: BMC, code: vec![5; 20] }.encode();
    let frame = [0x81, 0x1C, 0x63, 0x20, 0x04, 0x38, 0x00, 0x01, 0x82, 0x1A, 0x00, 0x00, 0x00, 0x00];
    let mut all = vec![
        way(0, packet::ping(7)),
        way(0, packet::pong(7)),
        way(0, frame),
        way(0, packet::sessionless(&frame).expect("it is short")),
        way(0, packet::plain(PayloadType::OpenSessionRequest, &request)),
        way(0, ends(CipherSuite::Three).1.seal(&frame, IV)),
        way(0, ends(CipherSuite::Seventeen).1.seal(&frame, IV)),
        way(2, join(&[packet::plain(PayloadType::OpenSessionResponse, &refused)])),
        way(
            2,
            join(&[
                packet::plain(PayloadType::OpenSessionResponse, &response),
                packet::plain(PayloadType::Rakp2, &two),
                packet::plain(PayloadType::Rakp4, &three),
            ]),
        ),
        way(3, [8, 1, 0x20, 0x18, 0xC8, 0x81, 0x04, 0x01, 0x7A]),
        way(3, [200, 0x80, 0, 0, 0]),
    ];
    all.extend([request, response, refused, one, two, three].map(|message| way(1, message)));
    all.extend(stored_seeds());
    all.push(line_seed());
    all
}
