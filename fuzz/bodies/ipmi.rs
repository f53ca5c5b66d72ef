//! IPMI: datagrams, the messages that open a session, sessions.

use ferric_drivers::Secret;
use ferric_drivers::protocol::ipmi::handshake::{Handshake, Login, Progress};
use ferric_drivers::protocol::ipmi::packet::{self, Datagram, Frame, PayloadType};
use ferric_drivers::protocol::ipmi::rakp::{
    BmcProof, Exchange, OpenRequest, OpenResponse, Proof, Rakp1, Rakp2,
};
use ferric_drivers::protocol::ipmi::session::Session;
use ferric_drivers::protocol::ipmi::{CipherSuite, Privilege};

use super::{join, pieces, way};

const CONSOLE: u32 = 0x1122_3344;
const BMC: u32 = 0x5566_7788;
const IV: [u8; 16] = [9; 16];

/// Any bytes.
pub fn run(bytes: &[u8]) {
    let Some((number, bytes)) = bytes.split_first() else { return };
    match number % 4 {
        0 => datagram(bytes),
        1 => messages(bytes),
        2 => handshake(bytes),
        _ => session(bytes),
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
    all
}
