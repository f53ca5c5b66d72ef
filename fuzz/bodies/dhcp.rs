//! DHCP: requests from anybody on the wire, what they are answered, and the file of leases.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ferric_drivers::protocol::dhcp::{
    BootVia, DhcpMode, DhcpSettings, Leases, Mac, PortEntry, PortIndex, Request, answer, answer_boot_server,
};
use ferric_machine::Timestamp;
use uuid::Uuid;

use super::{join, pieces, way};

/// The ports that are known.
const KNOWN: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];

/// Any bytes: packets one after the other to one server, or a file of leases.
pub fn run(bytes: &[u8]) {
    let Some((number, bytes)) = bytes.split_first() else { return };
    match number % 3 {
        0 => server(bytes, DhcpMode::Full),
        1 => server(bytes, DhcpMode::Proxy),
        _ => lease_file(bytes),
    }
}

fn server(bytes: &[u8], mode: DhcpMode) {
    let settings = DhcpSettings {
        mode,
        address: Ipv4Addr::new(192, 0, 2, 1),
        range_start: Ipv4Addr::new(192, 0, 2, 10),
        range_end: Ipv4Addr::new(192, 0, 2, 12),
        router: Some(Ipv4Addr::new(192, 0, 2, 254)),
        dns: vec![Ipv4Addr::new(192, 0, 2, 53)],
        http_url: "http://192.0.2.1:8080".to_owned(),
        known_only: bytes.len().is_multiple_of(2),
        lease_time: Duration::from_secs(600),
        ..DhcpSettings::default()
    };
    let ports = PortIndex::default();
    for (mac, via) in KNOWN.into_iter().zip([BootVia::Ipxe, BootVia::Pxe]) {
        ports.insert(mac, PortEntry { node: Uuid::nil(), pxe_enabled: true });
        ports.set_boot(mac, Some(via));
    }
    let mut leases = Leases::default();
    let mut now = Timestamp(1_000_000_000);
    for piece in pieces(bytes) {
        now = now + Duration::from_secs(30);
        let Ok(request) = Request::parse(piece) else { continue };
        if let Ok(reply) = answer(&request, &settings, &ports, &mut leases, now)
            && let Ok(datagram) = reply.encode()
        {
            assert!(datagram.len() <= 4096, "{} bytes for {}", datagram.len(), piece.len());
        }
        let source = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 11), 4011);
        if let Ok(reply) = answer_boot_server(&request, source, &settings, &ports) {
            drop(reply.encode());
        }
        assert!(leases.len() <= 3, "more addresses given than the pool has");
        drop(leases.take_changes());
    }
    let text = leases.to_text();
    assert_eq!(Leases::from_text(&text).to_text(), text);
}

fn lease_file(bytes: &[u8]) {
    let leases = Leases::from_text(&String::from_utf8_lossy(bytes));
    let text = leases.to_text();
    assert_eq!(Leases::from_text(&text).to_text(), text, "a table reads what it writes");
}

fn packet(kind: u8, mac: Mac, options: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[28..34].copy_from_slice(&mac.0);
    packet[236..].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend([53, 1, kind]);
    packet.extend_from_slice(options);
    packet.push(255);
    packet
}

/// The ways of a PXE ROM, of iPXE, of an operating system, and a file.
pub fn seeds() -> Vec<Vec<u8>> {
    let [a, b] = KNOWN;
    let stranger = Mac([2, 9, 9, 9, 9, 9]);
    let pxe =
        b"\x3c\x20PXEClient:Arch:00000:UNDI:002001\x5d\x02\0\0\x61\x11\0abcdefghijklmnop\x37\x03\x01\x03\x06";
    let ipxe = b"\x4d\x04iPXE\xaf\x06\x01\x01\x08\x02\x01\x01\x3d\x07\x01\x02\0\0\0\0\x01";
    let http = b"\x3c\x0aHTTPClient\x5d\x02\0\x10";
    let wish = b"\x32\x04\xc0\0\x02\x0a\x36\x04\xc0\0\x02\x01";
    let relay = b"\x52\x06\x01\x04abcd\x34\x01\x03";
    let boot = [packet(1, a, pxe), packet(3, a, wish), packet(1, a, ipxe), packet(3, a, wish)];
    let rest = [packet(1, b, http), packet(8, b, relay), packet(4, a, wish), packet(7, b, wish)];
    let many = [packet(1, stranger, b""), packet(1, b, pxe), packet(1, a, wish), packet(3, stranger, wish)];
    let file =
        "02:00:00:00:00:01 192.0.2.10 1000\n02:00:00:00:00:02 192.0.2.11 2000\n02:00:00:00:00:01 -\ntorn";
    let mut all = vec![way(2, file)];
    for mode in [0, 1] {
        all.extend([join(&boot), join(&rest), join(&many)].map(|packets| way(mode, packets)));
    }
    all
}
