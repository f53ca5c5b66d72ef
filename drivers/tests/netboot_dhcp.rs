//! DHCP against clients that people have, in network namespaces: busybox udhcpc, ISC dhclient, dnsmasq beside.

#![allow(clippy::unwrap_used)] // tests fail by panicking

mod netboot_rig;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferric_drivers::protocol::dhcp::{self, BootVia, DhcpMode, DhcpSettings, Mac, PortEntry, PortIndex};
use netboot_rig::{Net, SERVER, command, run, until};

const MAC: &str = "52:54:00:aa:00:01";

fn settings(dir: &Path) -> DhcpSettings {
    DhcpSettings {
        mode: DhcpMode::Full,
        address: SERVER,
        range_start: Ipv4Addr::new(10, 99, 0, 100),
        range_end: Ipv4Addr::new(10, 99, 0, 150),
        router: Some(SERVER),
        dns: vec![SERVER],
        http_url: "http://10.99.0.1:8080".to_owned(),
        lease_file: Some(dir.join("leases")),
        ..DhcpSettings::default()
    }
}

fn ports(boot: Option<BootVia>) -> Arc<PortIndex> {
    let ports = PortIndex::default();
    let mac: Mac = MAC.parse().unwrap();
    ports.insert(mac, PortEntry { node: uuid::Uuid::nil(), pxe_enabled: true });
    ports.set_boot(mac, boot);
    Arc::new(ports)
}

fn script(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Asks as a PXE ROM would; what udhcpc tells its script when it has a lease.
async fn udhcpc(space: &str, dir: &Path) -> Option<String> {
    asks(space, dir, "10").await
}

/// The same, so many times.
async fn asks(space: &str, dir: &Path, times: &str) -> Option<String> {
    let seen = dir.join("udhcpc.env");
    let text = format!("#!/bin/sh\n[ \"$1\" = bound ] && env > {} || true\n", seen.display());
    let script = script(dir, "udhcpc.sh", &text);
    let _ = fs::remove_file(&seen);
    let rom = ["-V", "PXEClient:Arch:00000", "-x", "0x5d:0000", "-O", "tftp", "-O", "bootfile"];
    let args = ["udhcpc", "-f", "-n", "-q", "-t", times, "-T", "2", "-i", "c0", "-s", &script];
    let (ok, said) = run(space, "busybox", &[&args[..], &rom[..]].concat()).await;
    if !ok {
        return None;
    }
    Some(fs::read_to_string(seen).unwrap_or_else(|error| panic!("{error}: {said}")))
}

fn value(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("{key} in:\n{text}")).to_owned()
}

#[test]
fn udhcpc_and_dhclient_get_their_address_and_boot_file_also_after_a_restart() {
    let mut net = Net::new();
    let client = net.host(MAC, None);
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_owned();
    net.run(|| async move {
        let server = dhcp::start(settings(&at), ports(Some(BootVia::Ipxe)), None).await.unwrap();
        let seen = udhcpc(&client, &at).await.expect("a lease");
        let address = value(&seen, "ip");
        for (key, expected) in [
            ("ip", "10.99.0.100"),
            ("subnet", "255.255.255.0"),
            ("router", "10.99.0.1"),
            ("dns", "10.99.0.1"),
            ("serverid", "10.99.0.1"),
            ("siaddr", "10.99.0.1"),
            ("lease", "600"),
            ("boot_file", "undionly.kpxe"),
            ("sname", "10.99.0.1"),
            ("tftp", "10.99.0.1"),
            ("bootfile", "undionly.kpxe"),
        ] {
            assert_eq!(value(&seen, key), expected, "{key}");
        }
        server.stop().await;

        let server = dhcp::start(settings(&at), ports(None), None).await.unwrap();
        let seen = udhcpc(&client, &at).await.expect("a lease after the restart");
        assert_eq!(value(&seen, "ip"), address);
        assert!(!seen.contains("undionly"), "nothing is laid out any more:\n{seen}");
        server.stop().await;

        let server = dhcp::start(settings(&at), ports(Some(BootVia::Pxe)), None).await.unwrap();
        let lease = dhclient(&client, &at).await;
        assert!(lease.contains(&format!("fixed-address {address};")), "{lease}");
        for expected in [
            "filename \"pxelinux.0\"",
            "server-name \"10.99.0.1\"",
            "option tftp-server-name \"10.99.0.1\"",
            "option bootfile-name \"pxelinux.0\"",
            "option dhcp-server-identifier 10.99.0.1",
            "option broadcast-address 10.99.0.255",
        ] {
            assert!(lease.contains(expected), "{expected} in {lease}");
        }
        server.stop().await;
    });
}

async fn dhclient(space: &str, dir: &Path) -> String {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    fs::write(
        dir.join("dhclient.conf"),
        "send vendor-class-identifier \"PXEClient\";\nrequest subnet-mask, broadcast-address, routers, \
         tftp-server-name, bootfile-name;\ntimeout 10;\n",
    )
    .unwrap();
    let quiet = script(dir, "dhclient.sh", "#!/bin/sh\nexit 0\n");
    let (conf, leases, pid) = (path("dhclient.conf"), path("dhclient.leases"), path("dhclient.pid"));
    let args = ["-1", "-v", "-sf", &quiet, "-cf", &conf, "-lf", &leases, "-pf", &pid, "c0"];
    let (ok, said) = run(space, "dhclient", &args).await;
    assert!(ok, "{said}");
    // it went into the background: RELEASE and end
    let text = fs::read_to_string(&leases).unwrap_or_else(|error| panic!("{error}: {said}"));
    let (ok, said) =
        run(space, "dhclient", &["-r", "-sf", &quiet, "-cf", &conf, "-lf", &leases, "-pf", &pid, "c0"]).await;
    assert!(ok, "{said}");
    text
}

#[test]
fn a_stranger_gets_nothing_and_is_reported() {
    let mut net = Net::new();
    let client = net.host("52:54:00:aa:00:99", None);
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_owned();
    net.run(|| async move {
        let strangers = Arc::new(Mutex::new(Vec::new()));
        let seen = strangers.clone();
        let report: dhcp::OnUnknown = Arc::new(move |mac| seen.lock().unwrap().push(mac));
        let server = dhcp::start(settings(&at), ports(None), Some(report)).await.unwrap();
        assert!(asks(&client, &at, "2").await.is_none());
        let strangers = strangers.lock().unwrap().clone();
        assert!(!strangers.is_empty());
        assert!(strangers.iter().all(|mac| mac.to_string() == "52:54:00:aa:00:99"));
        assert_eq!(server.stats().unknown.load(Ordering::Relaxed), strangers.len() as u64);
        server.stop().await;
    });
}

#[test]
fn a_second_server_on_the_same_network_is_refused() {
    let net = Net::new();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_owned();
    net.run(|| async move {
        let server = dhcp::start(settings(&at), ports(None), None).await.unwrap();
        let error = dhcp::start(settings(&at), ports(None), None).await.unwrap_err();
        assert!(error.to_string().contains("another DHCP server"), "{error}");
        let nowhere = DhcpSettings { address: Ipv4Addr::new(10, 98, 0, 1), ..settings(&at) };
        let error = dhcp::start(nowhere, ports(None), None).await.unwrap_err();
        assert!(error.to_string().contains("no network interface of this host has 10.98.0.1"), "{error}");
        server.stop().await;
    });
}

#[test]
fn beside_dnsmasq_the_address_is_its_and_the_boot_file_ours() {
    static XID: AtomicU32 = AtomicU32::new(0x5eed_0001);
    let mut net = Net::new();
    let other = net.host("52:54:00:aa:00:02", Some("10.99.0.2/24"));
    let client = net.host(MAC, Some("10.99.0.77/24"));
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_owned();
    net.run(|| async move {
        let conf = at.join("dnsmasq.conf");
        let lines = format!(
            "port=0\ninterface=c0\nbind-interfaces\ndhcp-range=10.99.0.200,10.99.0.210,255.255.255.0,10m\n\
             dhcp-authoritative\nno-ping\nuser=root\nlog-dhcp\nlog-facility=-\ndhcp-leasefile={0}/dnsmasq.leases\n\
             pid-file={0}/dnsmasq.pid\n",
            at.display()
        );
        fs::write(&conf, lines).unwrap();
        let mut dnsmasq = command(&other, "dnsmasq")
            .args(["--keep-in-foreground", &format!("--conf-file={}", conf.display())])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let proxy = DhcpSettings { mode: DhcpMode::Proxy, ..settings(&at) };
        let server = dhcp::start(proxy, ports(Some(BootVia::Ipxe)), None).await.unwrap();
        assert_eq!(server.addresses().iter().map(SocketAddr::port).collect::<Vec<_>>(), [67, 4011]);

        // a ROM collects the offers of both; so do we, from the client's namespace
        let offers = std::thread::spawn(move || collect(&client, XID.fetch_add(1, Ordering::Relaxed)));
        until("both offers", Duration::from_secs(20), || offers.is_finished()).await;
        let offers = offers.join().unwrap();
        let ours = offers.iter().find(|offer| offer.contains("54=0a630001")).expect("our offer");
        let theirs = offers.iter().find(|offer| offer.contains("54=0a630002")).expect("dnsmasq's offer");
        assert!(ours.contains("yiaddr=0.0.0.0") && ours.contains(&hex(b"snponly.efi")), "{ours}");
        assert!(ours.contains(&format!("60={}", hex(b"PXEClient"))) && ours.contains("43=060108ff"), "{ours}");
        assert!(theirs.contains("yiaddr=10.99.0.2") && !theirs.contains("67="), "{theirs}");
        server.stop().await;
        dnsmasq.kill().await.unwrap();
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends DISCOVERs as an x86-64 UEFI ROM until two servers have offered.
fn collect(space: &str, xid: u32) -> Vec<String> {
    let file = fs::File::open(format!("/run/netns/{space}")).unwrap();
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let socket = std::net::UdpSocket::bind("0.0.0.0:68").unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mac: Mac = MAC.parse().unwrap();
    let mut packet = vec![0; 240];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[4..8].copy_from_slice(&xid.to_be_bytes());
    packet[10] = 0x80;
    packet[28..34].copy_from_slice(&mac.0);
    packet[236..].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend([53, 1, 1, 93, 2, 0, 7, 60, 9]);
    packet.extend(b"PXEClient");
    packet.push(255);
    // the socket is bound to no interface: the limited broadcast needs a route
    let device = socket2::SockRef::from(&socket);
    device.bind_device(Some(b"c0")).unwrap();
    let mut offers: Vec<String> = Vec::new();
    for _ in 0..20 {
        socket.send_to(&packet, "255.255.255.255:67").unwrap();
        let mut buffer = [0; 1500];
        while let Ok((len, _)) = socket.recv_from(&mut buffer) {
            let offer = describe(&buffer[..len]);
            if !offers.contains(&offer) {
                offers.push(offer);
            }
        }
        if offers.len() >= 2 {
            break;
        }
    }
    offers
}

fn describe(packet: &[u8]) -> String {
    let mut text = format!("yiaddr={}.{}.{}.{}", packet[16], packet[17], packet[18], packet[19]);
    let mut rest = &packet[240..];
    while let [code, len, after @ ..] = rest {
        if *code == 255 {
            break;
        }
        text.push_str(&format!(" {code}={}", hex(&after[..usize::from(*len)])));
        rest = &after[usize::from(*len)..];
    }
    text
}

/// Some ten thousand DISCOVERs a second from as many addresses, until it is told to end.
fn storm(space: &str, over: &AtomicBool) {
    let space = fs::File::open(format!("/run/netns/{space}")).unwrap();
    nix::sched::setns(space, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.bind_device(Some(b"c0")).unwrap();
    let to = SocketAddr::from((Ipv4Addr::BROADCAST, 67)).into();
    let mut packet = vec![0; 300];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[236..244].copy_from_slice(&[99, 130, 83, 99, 53, 1, 1, 255]);
    for number in 0_u32.. {
        packet[4..8].copy_from_slice(&number.to_be_bytes());
        packet[28..34].copy_from_slice(&[[2, 9].as_slice(), &number.to_be_bytes()].concat());
        // a full queue of the interface drops it, as a switch would
        let _ = socket.send_to(&packet, &to);
        if number % 100 == 99 {
            if over.load(Ordering::Relaxed) {
                return;
            }
            // the pace of the storm
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn resident_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_storm_of_strangers_keeps_no_known_machine_waiting_and_takes_no_memory() {
    in_a_storm(|server, client, at| async move {
        let server = dhcp::start(server, ports(Some(BootVia::Ipxe)), None).await.unwrap();
        let stats = server.stats().clone();
        let strangers = || stats.unknown.load(Ordering::Relaxed);
        until("the storm has begun", Duration::from_secs(90), || strangers() > 5_000).await;
        let before = resident_kib();
        let seen = udhcpc(&client, &at).await.expect("a lease in the middle of a storm");
        assert_eq!(value(&seen, "ip"), "10.99.0.100");
        let so_far = strangers();
        until("it goes on", Duration::from_secs(90), || strangers() > so_far + 60_000).await;
        // remembering each of them would take 3 MiB
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 1024, "{grown} KiB for {} strangers", strangers());
        server.stop().await;
    });
}

#[test]
fn where_strangers_are_served_a_storm_of_them_fills_the_pool_and_nothing_else() {
    in_a_storm(|server, client, at| async move {
        // its address is its own from before
        fs::write(at.join("leases"), format!("{MAC} 10.99.0.120 4102444800000000\n")).unwrap();
        let server = DhcpSettings { known_only: false, ..server };
        let server = dhcp::start(server, ports(Some(BootVia::Ipxe)), None).await.unwrap();
        let stats = server.stats().clone();
        let without = || stats.exhausted.load(Ordering::Relaxed) + stats.dropped.load(Ordering::Relaxed);
        let seen = udhcpc(&client, &at).await.expect("a lease in the middle of a storm");
        assert_eq!(value(&seen, "ip"), "10.99.0.120");
        until("the pool is empty", Duration::from_secs(90), || without() > 5_000).await;
        let before = resident_kib();
        let so_far = without();
        until("it goes on", Duration::from_secs(90), || without() > so_far + 40_000).await;
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 1024, "{grown} KiB for {} strangers", without());
        // 51 addresses, one of them the machine's, each offered again only when it was not taken for a minute
        let offered = stats.answered.load(Ordering::Relaxed);
        assert!(offered < 1_000, "{offered} answers");
        let seen = udhcpc(&client, &at).await.expect("its lease again, with the pool empty");
        assert_eq!(value(&seen, "ip"), "10.99.0.120");
        server.stop().await;
    });
}

/// Runs `body` with a server's settings, a client's namespace and a folder, while strangers storm.
fn in_a_storm<F: Future<Output = ()>>(
    body: impl FnOnce(DhcpSettings, String, std::path::PathBuf) -> F + Send,
) {
    let mut net = Net::new();
    let client = net.host(MAC, None);
    let stranger = net.host("52:54:00:aa:00:99", None);
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_owned();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| storm(&stranger, &over));
        let test = std::panic::AssertUnwindSafe(|| {
            net.run(|| body(settings(&at), client.clone(), at.clone()));
        });
        let ended = std::panic::catch_unwind(test);
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
}
