//! DHCP worked on paper: packets in, packets out, no socket.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder};
use ferric_machine::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const START: Timestamp = Timestamp(1_000_000_000_000);
const SECOND: i64 = 1_000_000;

fn settings() -> DhcpSettings {
    DhcpSettings {
        mode: DhcpMode::Full,
        address: SERVER,
        range_start: Ipv4Addr::new(10, 9, 0, 100),
        range_end: Ipv4Addr::new(10, 9, 0, 102),
        router: Some(SERVER),
        dns: vec![Ipv4Addr::new(10, 9, 0, 2)],
        http_url: "http://10.9.0.1:8080".to_owned(),
        ..DhcpSettings::default()
    }
}

fn mac(last: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, last])
}

fn fleet(boot: Option<BootVia>) -> PortIndex {
    let ports = PortIndex::default();
    for last in 1..=9 {
        ports.insert(mac(last), PortEntry { node: Uuid::from_u128(u128::from(last)), pxe_enabled: true });
        ports.set_boot(mac(last), boot);
    }
    ports
}

/// A packet as a client builds it.
struct Packet {
    kind: u8,
    mac: Mac,
    ciaddr: Ipv4Addr,
    giaddr: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
}

fn packet(kind: u8, last: u8) -> Packet {
    Packet { kind, mac: mac(last), ciaddr: NONE, giaddr: NONE, options: Vec::new() }
}

impl Packet {
    fn with(mut self, code: u8, value: &[u8]) -> Packet {
        self.options.push((code, value.to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 240];
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
        bytes[12..16].copy_from_slice(&self.ciaddr.octets());
        bytes[24..28].copy_from_slice(&self.giaddr.octets());
        bytes[28..34].copy_from_slice(&self.mac.0);
        bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
        bytes.extend([53, 1, self.kind]);
        for (code, value) in &self.options {
            bytes.extend([*code, u8::try_from(value.len()).unwrap()]);
            bytes.extend(value);
        }
        bytes.push(255);
        bytes
    }
}

struct Bench {
    settings: DhcpSettings,
    ports: PortIndex,
    leases: Leases,
    now: Timestamp,
}

fn bench(boot: Option<BootVia>) -> Bench {
    Bench { settings: settings(), ports: fleet(boot), leases: Leases::default(), now: START }
}

impl Bench {
    fn ask(&mut self, packet: &Packet) -> Result<Answered, Silence> {
        let request = Request::parse(&packet.bytes()).unwrap();
        let reply = answer(&request, &self.settings, &self.ports, &mut self.leases, self.now)?;
        Ok(Answered::new(&reply))
    }

    /// DISCOVER and REQUEST; the address.
    fn lease(&mut self, last: u8) -> Ipv4Addr {
        let offer = self.ask(&packet(1, last)).unwrap();
        let ack = self.ask(&select(last, offer.message.yiaddr())).unwrap();
        assert_eq!(ack.kind(), MessageType::Ack);
        assert_eq!(ack.message.yiaddr(), offer.message.yiaddr());
        ack.message.yiaddr()
    }
}

fn select(last: u8, address: Ipv4Addr) -> Packet {
    packet(3, last).with(50, &address.octets()).with(54, &SERVER.octets())
}

/// An answer after a trip over the wire.
struct Answered {
    message: Message,
    to: SocketAddrV4,
}

impl Answered {
    fn new(reply: &Reply) -> Answered {
        let bytes = reply.encode().unwrap();
        assert!(bytes.len() >= 300);
        Answered { message: Message::decode(&mut Decoder::new(&bytes)).unwrap(), to: reply.to }
    }

    fn kind(&self) -> MessageType {
        self.message.opts().msg_type().unwrap()
    }

    fn option(&self, code: u8) -> Option<&DhcpOption> {
        self.message.opts().get(OptionCode::from(code))
    }

    fn bytes(&self, code: u8) -> Option<Vec<u8>> {
        use dhcproto::Encodable;
        // code, length, value
        self.option(code).map(|option| option.to_vec().unwrap()[2..].to_vec())
    }

    fn file(&self) -> Option<String> {
        self.bytes(67).map(|name| String::from_utf8(name).unwrap())
    }
}

fn rom(kind: u8, last: u8, arch: u16) -> Packet {
    packet(kind, last).with(60, b"PXEClient:Arch:00000:UNDI:002001").with(93, &arch.to_be_bytes())
}

#[test]
fn a_known_port_gets_an_address_with_everything_that_belongs_to_it() {
    let mut bench = bench(None);
    let guid = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    let offer = bench.ask(&rom(1, 1, 0).with(97, &guid).with(61, b"\x01id")).unwrap();
    assert_eq!(offer.kind(), MessageType::Offer);
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 9, 0, 100));
    assert_eq!(offer.message.siaddr(), SERVER);
    assert_eq!(offer.message.xid(), 0x0102_0304);
    assert_eq!(offer.to, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
    for (code, value) in [
        (1, vec![255, 255, 255, 0]),
        (3, SERVER.octets().to_vec()),
        (6, vec![10, 9, 0, 2]),
        (28, vec![10, 9, 0, 255]),
        (51, 600u32.to_be_bytes().to_vec()),
        (54, SERVER.octets().to_vec()),
        (58, 300u32.to_be_bytes().to_vec()),
        (59, 525u32.to_be_bytes().to_vec()),
        (61, b"\x01id".to_vec()),
        (97, guid.to_vec()),
    ] {
        assert_eq!(offer.bytes(code), Some(value), "option {code}");
    }
    // nothing is laid out for it, so its disk boots
    assert_eq!((offer.file(), offer.bytes(66), offer.bytes(60)), (None, None, None));
    assert_eq!(offer.message.fname(), None);
}

#[test]
fn an_unknown_address_gets_no_answer_unless_allowed_and_never_a_boot_file() {
    let mut bench = bench(Some(BootVia::Ipxe));
    for kind in [1, 3, 8] {
        assert_eq!(bench.ask(&rom(kind, 77, 0)).err(), Some(Silence::UnknownMac(mac(77))));
    }
    bench.settings.known_only = false;
    let offer = bench.ask(&rom(1, 77, 0)).unwrap();
    assert!(!offer.message.yiaddr().is_unspecified());
    assert_eq!(offer.file(), None);
}

#[test]
fn the_boot_file_follows_interface_stage_and_architecture() {
    let url = "http://10.9.0.1:8080";
    let script = format!("{url}/boot.ipxe");
    let http = format!("{url}/snponly.efi");
    for (via, arch, ipxe, expected) in [
        (BootVia::Ipxe, 0, false, Some("undionly.kpxe")),
        (BootVia::Ipxe, 7, false, Some("snponly.efi")),
        (BootVia::Ipxe, 9, false, Some("snponly.efi")),
        (BootVia::Ipxe, 0, true, Some(script.as_str())),
        (BootVia::Ipxe, 7, true, Some(script.as_str())),
        (BootVia::Ipxe, 11, false, None),
        (BootVia::Pxe, 0, false, Some("pxelinux.0")),
        (BootVia::Pxe, 0, true, Some("pxelinux.0")),
        (BootVia::Pxe, 7, false, Some("bootx64.efi")),
    ] {
        let mut bench = bench(Some(via));
        let ask = rom(1, 1, arch);
        let ask = if ipxe { ask.with(175, &[1, 1, 1]) } else { ask };
        let offer = bench.ask(&ask).unwrap();
        assert_eq!(offer.file().as_deref(), expected, "{via:?} {arch} {ipxe}");
        let Some(expected) = expected else { continue };
        let field = |bytes: Option<&[u8]>| {
            String::from_utf8(bytes.unwrap().to_vec()).unwrap().trim_end_matches('\0').to_owned()
        };
        assert_eq!(field(offer.message.fname()), expected);
        assert_eq!(field(offer.message.sname()), "10.9.0.1");
        assert_eq!(offer.bytes(66), Some(b"10.9.0.1".to_vec()));
        assert_eq!(offer.bytes(60), Some(b"PXEClient".to_vec()));
        assert_eq!(offer.bytes(175).is_some(), ipxe);
    }
    let mut bench = bench(Some(BootVia::Ipxe));
    let by_class = bench.ask(&rom(1, 1, 0).with(77, b"iPXE")).unwrap();
    assert_eq!(by_class.file().as_deref(), Some(script.as_str()));
    let client = packet(1, 1).with(60, b"HTTPClient:Arch:00016").with(93, &[0, 16]);
    let offer = bench.ask(&client).unwrap();
    assert_eq!(offer.file(), Some(http));
    assert_eq!(offer.bytes(60), Some(b"HTTPClient".to_vec()));
    assert_eq!(offer.bytes(66), None);
}

#[test]
fn a_port_that_may_not_boot_gets_an_address_and_no_file() {
    let mut bench = bench(Some(BootVia::Ipxe));
    bench.ports.insert(mac(1), PortEntry { node: Uuid::nil(), pxe_enabled: false });
    let offer = bench.ask(&rom(1, 1, 0)).unwrap();
    assert_eq!(offer.file(), None);
}

#[test]
fn an_address_stays_with_its_port_over_stages_renewals_expiry_and_restarts() {
    let mut bench = bench(None);
    let address = bench.lease(1);
    assert_eq!(bench.lease(1), address);
    assert_ne!(bench.lease(2), address);
    let mut renew = packet(3, 1);
    renew.ciaddr = address;
    let ack = bench.ask(&renew).unwrap();
    assert_eq!((ack.kind(), ack.to), (MessageType::Ack, SocketAddrV4::new(address, 68)));
    let mut release = packet(7, 1).with(54, &SERVER.octets());
    release.ciaddr = address;
    assert_eq!(bench.ask(&release).err(), Some(Silence::NoneDue));
    assert!(bench.leases.get(mac(1)).unwrap().expires <= bench.now);
    bench.leases = Leases::from_text(&bench.leases.take_changes());
    bench.now = Timestamp(START.0 + 100_000 * SECOND);
    assert_eq!(bench.lease(1), address);
}

#[test]
fn a_wrong_address_is_refused_and_another_servers_choice_left_alone() {
    let mut bench = bench(None);
    let (one, two) = (bench.lease(1), bench.lease(2));
    for wrong in [Ipv4Addr::new(10, 9, 0, 50), Ipv4Addr::new(192, 168, 1, 7), SERVER, NONE] {
        let foreign = packet(3, 1).with(50, &wrong.octets());
        assert_eq!(bench.ask(&foreign).err(), Some(Silence::OtherServer), "{wrong}: not ours to refuse");
    }
    for wrong in [two, Ipv4Addr::new(10, 9, 0, 50), Ipv4Addr::new(192, 168, 1, 7), SERVER, NONE] {
        // asked of us by name, or one of ours that another machine has
        let mut asked = packet(3, 1).with(50, &wrong.octets());
        if wrong != two {
            asked = asked.with(54, &SERVER.octets());
        }
        let nak = bench.ask(&asked).unwrap();
        assert_eq!(nak.kind(), MessageType::Nak, "{wrong}");
        assert_eq!(nak.to, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
        assert_eq!(nak.message.yiaddr(), NONE);
    }
    assert_eq!(bench.lease(1), one);
    bench.ask(&packet(1, 3)).unwrap();
    let elsewhere = packet(3, 3).with(50, &[10, 9, 0, 7]).with(54, &[10, 9, 0, 9]);
    assert_eq!(bench.ask(&elsewhere).err(), Some(Silence::OtherServer));
    assert_eq!(bench.leases.get(mac(3)), None, "the offer is void");
}

#[test]
fn a_client_that_we_forgot_keeps_its_address_if_it_is_free() {
    let mut bench = bench(None);
    let ack = bench.ask(&packet(3, 1).with(50, &[10, 9, 0, 101])).unwrap();
    assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, Ipv4Addr::new(10, 9, 0, 101)));
    assert_eq!(bench.lease(2), Ipv4Addr::new(10, 9, 0, 100));
}

#[test]
fn a_full_pool_gives_the_longest_ended_lease_and_never_a_running_one() {
    let mut bench = bench(None);
    let first = bench.lease(1);
    bench.now = Timestamp(START.0 + 30 * SECOND);
    bench.lease(2);
    bench.lease(3);
    assert_eq!(bench.ask(&packet(1, 4)).err(), Some(Silence::PoolExhausted(mac(4))));
    bench.now = Timestamp(START.0 + 610 * SECOND);
    assert_eq!(bench.lease(4), first);
    assert_eq!(bench.ask(&packet(1, 1)).err(), Some(Silence::PoolExhausted(mac(1))));
    let survived = Leases::from_text(&bench.leases.take_changes());
    assert_eq!(survived.get(mac(1)), None);
    assert_eq!(survived.get(mac(4)).map(|lease| lease.address), Some(first));
}

#[test]
fn a_declined_address_rests_for_an_hour() {
    let mut bench = bench(None);
    let address = bench.lease(1);
    let decline = packet(4, 1).with(50, &address.octets()).with(54, &SERVER.octets());
    assert_eq!(bench.ask(&decline).err(), Some(Silence::NoneDue));
    assert_ne!(bench.lease(1), address);
    assert_ne!(bench.lease(2), address);
    assert_eq!(bench.ask(&packet(1, 3)).err(), Some(Silence::PoolExhausted(mac(3))));
    bench.now = Timestamp(START.0 + 3601 * SECOND);
    assert_eq!(bench.lease(3), address);
}

#[test]
fn inform_tells_the_rest_without_a_lease() {
    let mut bench = bench(None);
    let mut inform = packet(8, 1);
    inform.ciaddr = Ipv4Addr::new(10, 9, 0, 33);
    let ack = bench.ask(&inform).unwrap();
    assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, NONE));
    assert_eq!(ack.to, SocketAddrV4::new(inform.ciaddr, 68));
    assert!(ack.option(51).is_none() && ack.option(1).is_some());
    assert!(bench.leases.is_empty());
}

#[test]
fn a_relay_of_our_network_is_answered_with_its_information_another_is_not() {
    let mut bench = bench(None);
    let info = [1, 3, 7, 7, 7];
    let mut relayed = packet(1, 1).with(82, &info);
    relayed.giaddr = Ipv4Addr::new(10, 9, 0, 254);
    let offer = bench.ask(&relayed).unwrap();
    assert_eq!(offer.to, SocketAddrV4::new(relayed.giaddr, 67));
    assert_eq!(offer.message.giaddr(), relayed.giaddr);
    assert_eq!(offer.bytes(82), Some(info.to_vec()));
    let mut wrong = packet(3, 1).with(50, &[10, 9, 0, 7]).with(54, &SERVER.octets());
    wrong.giaddr = relayed.giaddr;
    let nak = bench.ask(&wrong).unwrap();
    assert!(nak.message.flags().broadcast());
    relayed.giaddr = Ipv4Addr::new(10, 8, 0, 254);
    assert_eq!(bench.ask(&relayed).err(), Some(Silence::OtherNetwork(relayed.giaddr)));
}

#[test]
fn as_proxy_it_gives_boot_files_and_no_addresses() {
    let mut bench = bench(Some(BootVia::Ipxe));
    bench.settings.mode = DhcpMode::Proxy;
    let offer = bench.ask(&rom(1, 1, 7)).unwrap();
    assert_eq!(offer.message.yiaddr(), NONE);
    assert_eq!(offer.file().as_deref(), Some("snponly.efi"));
    assert_eq!(offer.bytes(60), Some(b"PXEClient".to_vec()));
    assert_eq!(offer.bytes(43), Some(vec![6, 1, 8, 255]));
    assert!(offer.option(51).is_none() && offer.option(1).is_none());
    assert_eq!(bench.ask(&packet(1, 1)).err(), Some(Silence::NothingToBoot), "an operating system");
    assert_eq!(bench.ask(&rom(3, 1, 7)).err(), Some(Silence::OtherServer));
    assert_eq!(bench.ask(&rom(1, 77, 7)).err(), Some(Silence::UnknownMac(mac(77))));
    let from = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 44), 4011);
    let request = Request::parse(&rom(3, 1, 7).bytes()).unwrap();
    let ack = answer_boot_server(&request, from, &bench.settings, &bench.ports).unwrap();
    assert_eq!(ack.to, from);
    assert_eq!(Answered::new(&ack).kind(), MessageType::Ack);
    bench.ports.set_boot(mac(1), None);
    assert_eq!(bench.ask(&rom(1, 1, 7)).err(), Some(Silence::NothingToBoot));
}

#[test]
fn settings_that_cannot_work_are_named() {
    let key = |settings: DhcpSettings| settings.check().unwrap_err().key;
    settings().check().unwrap();
    DhcpSettings::default().check().unwrap();
    assert_eq!(key(DhcpSettings { address: NONE, ..settings() }), "address");
    assert_eq!(key(DhcpSettings { netmask: Ipv4Addr::new(255, 0, 255, 0), ..settings() }), "netmask");
    assert_eq!(key(DhcpSettings { range_start: Ipv4Addr::new(10, 9, 0, 200), ..settings() }), "range_start");
    assert_eq!(key(DhcpSettings { range_end: Ipv4Addr::new(10, 9, 1, 5), ..settings() }), "range_end");
}

#[test]
fn a_torn_last_line_of_the_lease_file_costs_only_itself() {
    let whole = "52:54:00:00:00:01 10.9.0.100 5\nrubbish\n52:54:00:00:00:02 10.9.0.101 7\n";
    for cut in 0..=whole.len() {
        let leases = Leases::from_text(&whole[..cut]);
        assert!(leases.len() <= 2);
        for last in 1..=2 {
            let address = leases.get(mac(last)).map(|lease| lease.address);
            assert!(address.is_none_or(|got| got == Ipv4Addr::new(10, 9, 0, 99 + last)), "cut at {cut}");
        }
    }
    assert_eq!(Leases::from_text(whole).len(), 2);
}

#[tokio::test]
async fn the_lease_file_survives_being_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/leases");
    let mut bench = bench(None);
    let (_, mut file) = LeaseFile::open(&path).await.unwrap();
    for last in 1..=3 {
        bench.lease(last);
        file.save(&bench.leases.take_changes(), &bench.leases).await.unwrap();
    }
    let (again, _) = LeaseFile::open(&path).await.unwrap();
    assert_eq!(again.to_text(), bench.leases.to_text());
    assert_eq!(again.len(), 3);
}

proptest! {
    #[test]
    fn no_packet_ends_the_server(head in prop::collection::vec(any::<u8>(), 0..300), tail: Vec<u8>, arch: u16) {
        let mut bench = bench(Some(BootVia::Ipxe));
        bench.settings.known_only = false;
        let mut forged = rom(1, 1, arch).bytes();
        forged.pop();
        forged.extend(&tail);
        for bytes in [head, forged.clone(), forged[..forged.len().min(tail.len())].to_vec()] {
            if let Ok(request) = Request::parse(&bytes)
                && let Ok(reply) = answer(&request, &bench.settings, &bench.ports, &mut bench.leases, START)
            {
                prop_assert!(reply.encode().unwrap().len() >= 300);
            }
        }
    }

    /// Whatever clients do, in whatever order, an address has one holder at a time and survives a restart.
    #[test]
    fn no_address_is_given_twice(steps in prop::collection::vec((1u8..9, 0u8..6, 98u8..104, 0i64..400), 1..60)) {
        let mut bench = bench(None);
        let mut held: std::collections::HashMap<Ipv4Addr, (Mac, Timestamp)> = Default::default();
        let mut journal = String::new();
        for (last, what, host, wait) in steps {
            bench.now = Timestamp(bench.now.0 + wait * SECOND);
            let wish = Ipv4Addr::new(10, 9, 0, host);
            let own = bench.leases.get(mac(last)).map_or(wish, |lease| lease.address);
            let ask = match what {
                0 => packet(1, last).with(50, &wish.octets()),
                1 => select(last, own),
                2 => packet(3, last).with(50, &wish.octets()),
                3 => Packet { ciaddr: own, ..packet(7, last) },
                4 => packet(4, last).with(50, &own.octets()),
                _ => Packet { ciaddr: own, ..packet(3, last) },
            };
            let reply = bench.ask(&ask);
            journal.push_str(&bench.leases.take_changes());
            held.retain(|_, (holder, until)| *until > bench.now && !(*holder == mac(last) && (what == 3 || what == 4)));
            let Ok(reply) = reply else { continue };
            if reply.kind() == MessageType::Ack {
                let address = reply.message.yiaddr();
                prop_assert!((100..=102).contains(&address.octets()[3]));
                if let Some((holder, _)) = held.get(&address) {
                    prop_assert_eq!(*holder, mac(last), "{} given twice", address);
                }
                held.insert(address, (mac(last), Timestamp(bench.now.0 + 600 * SECOND)));
            }
        }
        // an offer prolongs a lease in memory alone, so the ends may differ, the owners not
        let owners = |text: String| -> Vec<String> {
            text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(owner, _)| owner.to_owned()).collect()
        };
        prop_assert_eq!(owners(Leases::from_text(&journal).to_text()), owners(bench.leases.to_text()));
    }
}
