//! Whatever comes from the network, nothing panics, and nothing that was not sent is believed.

#![allow(clippy::unwrap_used)] // a test may

use ferric_drivers::Secret;
use ferric_drivers::protocol::ipmi::bridge::Pending;
use ferric_drivers::protocol::ipmi::handshake::{Handshake, HandshakeError, Login, Progress};
use ferric_drivers::protocol::ipmi::packet::{Datagram, Frame, PayloadType, plain};
use ferric_drivers::protocol::ipmi::quirks::Identity;
use ferric_drivers::protocol::ipmi::rakp::{
    BmcProof, Exchange, OpenRequest, OpenResponse, Proof, Rakp1, Rakp2, status,
};
use ferric_drivers::protocol::ipmi::session::Session;
use ferric_drivers::protocol::ipmi::{CipherSuite, Privilege, v15};
use ipmi_rs_core::connection::{Message, NetFn};
use proptest::prelude::*;

fn login() -> Login {
    Login {
        user: b"admin".to_vec(),
        password: Secret::new(b"secret".to_vec()),
        kg: None,
        privilege: Privilege::Administrator,
    }
}

const PASSWORD: &[u8] = b"secret";
const BMC_ID: u32 = 0xB0;

/// Plays the BMC's part in opening a session, without looking closely: what our client sends is right.
fn answer(
    suite: CipherSuite,
    exchange: &mut Option<Exchange>,
    console: &mut u32,
    datagram: &[u8],
) -> Vec<u8> {
    let Ok(Datagram::Plus(plus)) = Datagram::decode(datagram) else { panic!("we send RMCP+") };
    match plus.payload_type {
        PayloadType::OpenSessionRequest => {
            let request = OpenRequest::decode(plus.payload).unwrap();
            *console = request.console_id;
            let outcome = Ok((BMC_ID, request.algorithms));
            let response = OpenResponse { tag: request.tag, console_id: request.console_id, outcome };
            plain(PayloadType::OpenSessionResponse, &response.encode())
        }
        PayloadType::Rakp1 => {
            let message = Rakp1::decode(plus.payload).unwrap();
            let one = Exchange {
                suite,
                console_id: *console,
                bmc_id: BMC_ID,
                console_random: message.console_random,
                bmc_random: [3; 16],
                guid: [4; 16],
                role: message.role,
                user: message.user,
            };
            let code = one.rakp2_code(PASSWORD).to_vec();
            let proof = BmcProof { random: one.bmc_random, guid: one.guid, code };
            *exchange = Some(one);
            let response = Rakp2 { tag: message.tag, console_id: *console, outcome: Ok(proof) };
            plain(PayloadType::Rakp2, &response.encode())
        }
        PayloadType::Rakp3 => {
            let message = Proof::decode(plus.payload).unwrap();
            let one = exchange.as_ref().unwrap();
            assert!(one.rakp3_matches(PASSWORD, &message.code));
            let code = one.rakp4_code(&one.keys(PASSWORD));
            let proof = Proof { tag: message.tag, status: status::OK, receiver_id: *console, code };
            plain(PayloadType::Rakp4, &proof.encode())
        }
        PayloadType::Ipmi
        | PayloadType::Sol
        | PayloadType::OpenSessionResponse
        | PayloadType::Rakp2
        | PayloadType::Rakp4 => {
            panic!("not what a console sends: {:?}", plus.payload_type)
        }
    }
}

/// An open session as both sides hold it.
fn pair(suite: CipherSuite) -> (Session, Session) {
    let login = login();
    let (mut handshake, mut datagram) = Handshake::start(&login, suite, 0xC0, [1; 16]);
    let (mut exchange, mut console) = (None, 0);
    loop {
        let reply = answer(suite, &mut exchange, &mut console, &datagram);
        match handshake.receive(&reply).unwrap() {
            Progress::Send(next) => datagram = next,
            Progress::Ignored => panic!("it was the answer"),
            Progress::Open(session) => {
                let keys = exchange.unwrap().keys(PASSWORD);
                return (*session, Session::new(keys, BMC_ID, console));
            }
        }
    }
}

fn open(session: &mut Session, bytes: &[u8]) -> Option<Vec<u8>> {
    match Datagram::decode(bytes) {
        Ok(Datagram::Plus(plus)) => session.open(&plus).ok(),
        Ok(Datagram::Ping(_) | Datagram::Pong(_) | Datagram::Sessionless(_)) | Err(_) => None,
    }
}

#[test]
fn a_session_opens_and_carries_frames_of_every_length_once() {
    for suite in CipherSuite::ALL {
        let (mut console, mut bmc) = pair(suite);
        for len in 0..64 {
            let frame = Frame::request(9, Message::new_request(NetFn::App, 1, vec![0x5A; len])).encode();
            let packet = console.seal(&frame, [7; 16]);
            assert_eq!(open(&mut bmc, &packet).as_deref(), Some(&frame[..]));
            assert_eq!(open(&mut bmc, &packet), None, "a replay");
        }
    }
}

#[test]
fn no_flipped_bit_is_believed_in_a_session() {
    for suite in CipherSuite::ALL {
        let (mut console, mut bmc) = pair(suite);
        let packet = console
            .seal(&Frame::request(1, Message::new_request(NetFn::Chassis, 1, vec![])).encode(), [7; 16]);
        // from the RMCP+ header on: the four bytes before are not covered by the check code
        for bit in 32..packet.len() * 8 {
            let mut bent = packet.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&mut bmc, &bent), None, "suite {}, bit {bit}", suite.id());
        }
        assert!(open(&mut bmc, &packet).is_some());
    }
}

#[test]
fn another_suite_than_the_one_asked_for_is_refused() {
    let login = login();
    for algorithms in [CipherSuite::Three.algorithms(), [0, 0, 0], [3, 4, 0], [3, 0, 1]] {
        let (mut handshake, _) = Handshake::start(&login, CipherSuite::Seventeen, 0xC0, [1; 16]);
        let response = OpenResponse { tag: 0, console_id: 0xC0, outcome: Ok((BMC_ID, algorithms)) };
        let heard = handshake.receive(&plain(PayloadType::OpenSessionResponse, &response.encode()));
        assert!(matches!(heard, Err(HandshakeError::Suite { .. })), "{algorithms:?}");
    }
}

#[test]
fn answers_to_others_are_ignored() {
    let login = login();
    let (mut handshake, _) = Handshake::start(&login, CipherSuite::Three, 0xC0, [1; 16]);
    let algorithms = CipherSuite::Three.algorithms();
    for (tag, console_id) in [(1, 0xC0), (0, 0xC1), (0, 0)] {
        let response = OpenResponse { tag, console_id, outcome: Ok((BMC_ID, algorithms)) };
        let heard = handshake.receive(&plain(PayloadType::OpenSessionResponse, &response.encode()));
        assert!(matches!(heard, Ok(Progress::Ignored)));
    }
}

fn decode_all(bytes: &[u8]) {
    let _ = Datagram::decode(bytes);
    let _ = Frame::decode(bytes);
    let _ = OpenRequest::decode(bytes);
    let _ = OpenResponse::decode(bytes);
    let _ = Rakp1::decode(bytes);
    let _ = Rakp2::decode(bytes);
    let _ = Proof::decode(bytes);
    let _ = Identity::read(bytes);
    let pending = Pending::new(5, &Message::new_request(NetFn::Chassis, 1, vec![]));
    let _ = pending.fetched(bytes);
    if let Ok(frame) = Frame::decode(bytes) {
        let _ = pending.hear(&frame);
    }
    if let Ok(packet) = v15::Packet::decode(bytes) {
        assert!(!packet.is_of(PASSWORD) || packet.authentication == v15::Authentication::None);
    }
    let login = login();
    let mut old = v15::Handshake::start(&login, 7).0;
    assert!(matches!(old.receive(bytes), Ok(v15::Progress::Ignored | v15::Progress::Send(_)) | Err(_)));
}

/// The datagrams of a whole session, both directions.
fn conversation(suite: CipherSuite) -> Vec<Vec<u8>> {
    let login = login();
    let (mut handshake, mut datagram) = Handshake::start(&login, suite, 0xC0, [1; 16]);
    let (mut exchange, mut console, mut all) = (None, 0, Vec::new());
    loop {
        let reply = answer(suite, &mut exchange, &mut console, &datagram);
        let progress = handshake.receive(&reply).unwrap();
        all.extend([datagram, reply]);
        match progress {
            Progress::Send(next) => datagram = next,
            Progress::Ignored => panic!("it was the answer"),
            Progress::Open(mut session) => {
                let status = Frame::request(1, Message::new_request(NetFn::Chassis, 1, vec![]));
                all.push(session.seal(&status.encode(), [9; 16]));
                return all;
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_panic_nowhere(bytes in proptest::collection::vec(any::<u8>(), 0..200), head in 0usize..4) {
        // with a head that leads past the first checks
        let heads: [&[u8]; 4] = [&[], &[6, 0, 255, 7], &[6, 0, 255, 7, 6], &[6, 0, 255, 7, 6, 0xC0]];
        let bytes = [heads[head], &bytes].concat();
        decode_all(&bytes);
        let (mut console, mut bmc) = pair(CipherSuite::Seventeen);
        prop_assert_eq!(open(&mut console, &bytes), None);
        prop_assert_eq!(open(&mut bmc, &bytes), None);
    }

    #[test]
    fn bent_conversations_panic_nowhere_and_open_no_session(
        suite in prop_oneof![Just(CipherSuite::Three), Just(CipherSuite::Seventeen)],
        cut in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        order in proptest::collection::vec(0usize..7, 0..10),
    ) {
        let login = login();
        let (mut handshake, _) = Handshake::start(&login, suite, 0xC0, [1; 16]);
        let all = conversation(suite);
        for index in order {
            let mut bytes = all[index].clone();
            for (at, value) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            decode_all(&bytes);
            // nobody who bent, cut or reordered anything gets further than the genuine answers would
            if handshake.receive(&bytes).is_err() {
                break;
            }
        }
    }

    #[test]
    fn decrypting_anything_panics_nowhere(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = ferric_drivers::protocol::ipmi::crypto::decrypt(&[1; 16], &bytes);
    }
}
