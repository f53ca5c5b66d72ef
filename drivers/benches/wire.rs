//! What a packet costs before and after it is decided on: IPMI, DHCP, TFTP and the head of an HTTP answer. All of it
//! is data, no socket is measured.
#![allow(missing_docs)] // criterion's macros write public functions

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ferric_drivers::Secret;
use ferric_drivers::protocol::dhcp::{
    BootVia, DhcpMode, DhcpSettings, Leases, Mac, PortEntry, PortIndex, Request, answer,
};
use ferric_drivers::protocol::ipmi::handshake::{Handshake, Login, Progress};
use ferric_drivers::protocol::ipmi::packet::{Datagram, Frame, PayloadType, plain};
use ferric_drivers::protocol::ipmi::rakp::{BmcProof, Exchange, OpenResponse, Proof, Rakp2};
use ferric_drivers::protocol::ipmi::session::Session;
use ferric_drivers::protocol::ipmi::{CipherSuite, Privilege};
use ferric_drivers::protocol::tftp;
use ferric_machine::Timestamp;
use ipmi_rs_core::connection::{Message, NetFn};
use uuid::Uuid;

const CONSOLE: u32 = 0x1122_3344;
const BMC: u32 = 0x5566_7788;
const PASSWORD: &[u8] = b"password";

/// What both ends know once RAKP 2 is there.
fn exchange(suite: CipherSuite) -> Exchange {
    Exchange {
        suite,
        console_id: CONSOLE,
        bmc_id: BMC,
        console_random: [1; 16],
        bmc_random: [2; 16],
        guid: [3; 16],
        role: 0x14,
        user: b"admin".to_vec(),
    }
}

/// The BMC's three answers to a console whose random number is known.
fn answers(suite: CipherSuite) -> [Vec<u8>; 3] {
    let exchange = exchange(suite);
    let keys = exchange.keys(PASSWORD);
    let opened = OpenResponse { tag: 0, console_id: CONSOLE, outcome: Ok((BMC, suite.algorithms())) };
    let proof = BmcProof { random: [2; 16], guid: [3; 16], code: exchange.rakp2_code(PASSWORD).to_vec() };
    let second = Rakp2 { tag: 1, console_id: CONSOLE, outcome: Ok(proof) };
    let fourth = Proof { tag: 2, status: 0, receiver_id: CONSOLE, code: exchange.rakp4_code(&keys) };
    [
        plain(PayloadType::OpenSessionResponse, &opened.encode()),
        plain(PayloadType::Rakp2, &second.encode()),
        plain(PayloadType::Rakp4, &fourth.encode()),
    ]
}

fn ipmi(c: &mut Criterion) {
    let login = Login {
        user: b"admin".to_vec(),
        password: Secret::new(PASSWORD.to_vec()),
        kg: None,
        privilege: Privilege::Administrator,
    };
    let mut group = c.benchmark_group("ipmi");
    for (name, suite) in [("suite 3", CipherSuite::Three), ("suite 17", CipherSuite::Seventeen)] {
        let answers = answers(suite);
        group.bench_function(format!("a session is opened, {name}"), |b| {
            b.iter(|| {
                let (mut handshake, first) = Handshake::start(&login, suite, CONSOLE, [1; 16]);
                black_box(first);
                for (number, answer) in answers.iter().enumerate() {
                    match handshake.receive(black_box(answer)).expect("the BMC knows the password") {
                        Progress::Open(session) => return session,
                        Progress::Send(next) => drop(black_box(next)),
                        Progress::Ignored => panic!("answer {number} is none"),
                    }
                }
                panic!("three answers open a session")
            });
        });
        let keys = exchange(suite).keys(PASSWORD);
        let request = Frame::request(1, ipmi_message()).encode();
        let mut console = Session::new(keys.clone(), CONSOLE, BMC);
        group.bench_function(format!("a request is encoded and sealed, {name}"), |b| {
            b.iter(|| console.seal(&Frame::request(1, ipmi_message()).encode(), black_box([9; 16])));
        });
        let mut bmc = Session::new(keys.clone(), BMC, CONSOLE);
        group.bench_function(format!("an answer is opened and decoded, {name}"), |b| {
            b.iter_batched(
                || (Session::new(keys.clone(), CONSOLE, BMC), bmc.seal(&request, [9; 16])),
                |(mut console, sealed)| {
                    let Ok(Datagram::Plus(plus)) = Datagram::decode(black_box(&sealed)) else {
                        panic!("it is RMCP+")
                    };
                    let frame = console.open(&plus).expect("it is the peer's");
                    Frame::decode(&frame).expect("it is a frame")
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Get Chassis Status: what a power sweep asks.
fn ipmi_message() -> Message {
    Message::new_request(NetFn::Chassis, 1, Vec::new())
}

fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([0x52, 0x54, a, b, c, d])
}

/// A DISCOVER as OVMF sends it.
fn discover(number: u32) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(&number.to_be_bytes());
    packet[10] = 0x80;
    packet[28..34].copy_from_slice(&mac(number).0);
    packet[236..].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend_from_slice(&[53, 1, 1, 57, 2, 5, 192, 93, 2, 0, 7, 94, 3, 1, 3, 16, 97, 17, 0]);
    packet.extend_from_slice(&[7; 16]);
    packet.extend_from_slice(&[55, 12, 1, 2, 3, 6, 12, 15, 43, 54, 60, 66, 67, 97, 60, 32]);
    packet.extend_from_slice(b"PXEClient:Arch:00007:UNDI:003016");
    packet.push(255);
    packet
}

fn dhcp(c: &mut Criterion) {
    let settings = DhcpSettings {
        mode: DhcpMode::Full,
        address: Ipv4Addr::new(10, 0, 0, 1),
        netmask: Ipv4Addr::new(255, 255, 0, 0),
        range_start: Ipv4Addr::new(10, 0, 1, 0),
        range_end: Ipv4Addr::new(10, 0, 200, 255),
        ..DhcpSettings::default()
    };
    let ports = PortIndex::default();
    for number in 0..10_000 {
        ports.insert(mac(number), PortEntry { node: Uuid::from_u128(number.into()), pxe_enabled: true });
        ports.set_boot(mac(number), Some(BootVia::Ipxe));
    }
    let mut group = c.benchmark_group("dhcp");
    let packet = discover(7);
    group.bench_function("a DISCOVER is parsed", |b| b.iter(|| Request::parse(black_box(&packet))));
    let mut leases = Leases::default();
    let known = Request::parse(&packet).expect("a request");
    group.bench_function("a known machine is answered", |b| {
        b.iter(|| {
            let reply =
                answer(black_box(&known), &settings, &ports, &mut leases, Timestamp(1)).expect("known");
            reply.encode().expect("it fits")
        });
    });
    let stranger = Request::parse(&discover(1_000_000)).expect("a request");
    group.bench_function("a stranger is passed over", |b| {
        b.iter(|| answer(black_box(&stranger), &settings, &ports, &mut leases, Timestamp(1)).is_err());
    });
    // a storm of forged addresses where strangers are served: the pool is full, and offers run out as others come
    let open = DhcpSettings { known_only: false, ..settings.clone() };
    let mut leases = Leases::default();
    let mut number = 20_000_u32;
    group.bench_function("a storm's next stranger, 51,200 addresses given", |b| {
        b.iter(|| {
            number += 1;
            let request = Request { mac: mac(number), ..stranger.clone() };
            let now = Timestamp(i64::from(number) * 100);
            answer(&request, &open, &ports, &mut leases, now).is_ok()
        });
    });
    group.finish();
}

fn boot_files(c: &mut Criterion) {
    let mut group = c.benchmark_group("tftp");
    let request = b"\0\x01ipxe/snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";
    group.bench_function("a request is parsed and agreed on", |b| {
        b.iter(|| match tftp::parse(black_box(request)) {
            Some(tftp::Packet::Read(request)) => request.agree(1_000_000),
            other => panic!("{other:?}"),
        });
    });
    group.bench_function("an ACK is parsed, and the next block found", |b| {
        let agreed = tftp::Agreed { blksize: 1468, window: 1, timeout: None };
        let mut transfer = tftp::Transfer::new(u64::MAX / 2, agreed, false);
        transfer.begin();
        let mut number = 0_u16;
        b.iter(|| {
            number = number.wrapping_add(1);
            let [high, low] = number.to_be_bytes();
            let Some(tftp::Packet::Ack(number)) = tftp::parse(black_box(&[0, 4, high, low])) else {
                panic!("it is an ACK")
            };
            transfer.ack(number)
        });
    });
    group.finish();
}

criterion_group!(benches, ipmi, dhcp, boot_files);
criterion_main!(benches);
