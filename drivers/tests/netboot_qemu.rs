//! A real boot ROM in QEMU, from DHCP to a kernel that runs: every way that the boot servers know.

#![allow(clippy::unwrap_used)] // tests fail by panicking

mod netboot_rig;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferric_drivers::boot::{IpxeBoot, PxeBoot, PxeSettings, install_loaders};
use ferric_drivers::interface::{BootInterface, Json, NodeView, PortView, RamdiskParams, RamdiskPurpose};
use ferric_drivers::protocol::dhcp::{self, DhcpMode, DhcpSettings, Mac, PortEntry, PortIndex};
use ferric_drivers::protocol::{http, tftp};
use ferric_machine::{BootMode, State};
use netboot_rig::{Net, SERVER, command, until};
use uuid::Uuid;

const MAC: &str = "52:54:00:e2:e0:01";

/// A machine and how it is booted.
struct Case {
    mode: BootMode,
    /// Boot interface: `ipxe`, else `pxe`.
    ipxe: bool,
    /// QEMU's iPXE ROM; without it OVMF's own PXE.
    rom: bool,
    dhcp: DhcpMode,
    /// OVMF's PXE is switched off, so that it boots by HTTP.
    http_boot: bool,
    /// `[pxe] pxe_bootfile_name`.
    pxelinux: &'static str,
}

const BASE: Case = Case {
    mode: BootMode::Bios,
    ipxe: true,
    rom: true,
    dhcp: DhcpMode::Full,
    http_boot: false,
    pxelinux: "pxelinux.0",
};

#[test]
fn bios_by_the_roms_ipxe() {
    boot(BASE);
}

#[test]
fn bios_by_pxelinux() {
    boot(Case { ipxe: false, ..BASE });
}

#[test]
fn bios_by_lpxelinux() {
    boot(Case { ipxe: false, pxelinux: "lpxelinux.0", ..BASE });
}

#[test]
fn uefi_by_its_own_pxe_to_ipxe() {
    boot(Case { mode: BootMode::Uefi, rom: false, ..BASE });
}

#[test]
fn uefi_by_http_boot() {
    boot(Case { mode: BootMode::Uefi, rom: false, http_boot: true, ..BASE });
}

#[test]
fn uefi_by_shim_and_grub() {
    boot(Case { mode: BootMode::Uefi, rom: false, ipxe: false, ..BASE });
}

#[test]
fn uefi_by_proxy_beside_dnsmasq() {
    boot(Case { mode: BootMode::Uefi, rom: false, dhcp: DhcpMode::Proxy, ..BASE });
}

#[test]
fn bios_by_proxy_beside_dnsmasq() {
    boot(Case { dhcp: DhcpMode::Proxy, ..BASE });
}

/// Debian's cloud kernel, fetched once into the workspace's cache.
fn kernel() -> PathBuf {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/netboot");
    let kernel = cache.join("vmlinuz");
    if kernel.exists() {
        return kernel;
    }
    let work = cache.join(format!("work-{}", std::process::id()));
    fs::create_dir_all(&work).unwrap();
    let script = "set -e; p=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/{print $2; exit}'); \
        apt-get download -q \"$p\"; dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards './boot/vmlinuz-*'; \
        mv boot/vmlinuz-* ../vmlinuz";
    let done = Command::new("sh").args(["-c", script]).current_dir(&work).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::remove_dir_all(&work).unwrap();
    kernel
}

fn node() -> NodeView {
    let port = PortView { uuid: Uuid::from_u128(2), address: MAC.to_owned(), pxe_enabled: true };
    let mut driver_info = Json::new();
    driver_info.insert("kernel_append_params".to_owned(), "console=ttyS0 panic=-1 earlyprintk=ttyS0".into());
    NodeView {
        uuid: Uuid::from_u128(1),
        name: None,
        driver: "ipmi".to_owned(),
        driver_info,
        driver_internal_info: Json::new(),
        properties: Json::new(),
        instance_info: Json::new(),
        target_raid_config: Json::new(),
        ports: vec![port],
        state: State::Deploying,
        power: None,
    }
}

fn boot(case: Case) {
    let kernel = kernel();
    let mut net = Net::new();
    let tap = net.tap();
    let other = (case.dhcp == DhcpMode::Proxy).then(|| net.host("52:54:00:aa:00:02", Some("10.99.0.2/24")));
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_owned();
    let space = net.name().to_owned();
    net.run(|| async move { boots(&case, &kernel, &at, &space, tap, other.as_deref()).await });
}

async fn boots(case: &Case, kernel: &Path, at: &Path, space: &str, tap: &str, other: Option<&str>) {
    let ramdisk = at.join("ramdisk");
    fs::write(&ramdisk, vec![0; 3_000_000]).unwrap();
    let text = |path: &Path| Some(path.to_str().unwrap().to_owned());
    let (tftp_root, http_root) = (at.join("tftp"), at.join("http"));
    let mut settings = PxeSettings {
        tftp_root: tftp_root.clone(),
        http_root: http_root.clone(),
        http_url: format!("http://{SERVER}:8080"),
        deploy_kernel: text(kernel),
        deploy_ramdisk: text(&ramdisk),
        ..PxeSettings::default()
    };
    settings.boot_files.pxe_bootfile_name = case.pxelinux.to_owned();
    let report = install_loaders(&settings).await.unwrap();
    assert!(report.missing.is_empty(), "{report:?}");
    let ports = Arc::new(PortIndex::default());
    let mac: Mac = MAC.parse().unwrap();
    ports.insert(mac, PortEntry { node: Uuid::from_u128(1), pxe_enabled: true });
    let dhcp = DhcpSettings {
        mode: case.dhcp,
        address: SERVER,
        range_start: Ipv4Addr::new(10, 99, 0, 100),
        range_end: Ipv4Addr::new(10, 99, 0, 110),
        router: Some(SERVER),
        http_url: settings.http_url.clone(),
        boot_files: settings.boot_files.clone(),
        router_advertisements: std::env::var_os("FERRIC_TEST_NO_RA").is_none(),
        ..DhcpSettings::default()
    };
    let dhcp = dhcp::start(dhcp, ports.clone(), None).await.unwrap();
    let listen = |port| (SERVER, port).into();
    let tftp = tftp::start(&tftp::TftpSettings { listen: listen(69), root: tftp_root }).await.unwrap();
    let http = http::start(&http::HttpSettings { listen: listen(8080), root: http_root }).await.unwrap();
    let settings = Arc::new(settings);
    let interface: Box<dyn BootInterface> = match case.ipxe {
        true => Box::new(IpxeBoot::new(settings, ports)),
        false => Box::new(PxeBoot::new(settings, ports)),
    };
    let params = RamdiskParams {
        purpose: RamdiskPurpose::Deploy,
        boot_mode: case.mode,
        api_url: format!("http://{SERVER}:6385"),
        kernel_args: vec!["ferric-test=here".to_owned()],
    };
    interface.validate(&node()).unwrap();
    interface.prepare_ramdisk(&node(), &params).await.unwrap();
    let _dnsmasq = other.map(|space| dnsmasq(space, at));

    let serial = at.join("serial");
    let started = Instant::now();
    let mut machine = qemu(case, space, tap, &serial, at);
    let log = || String::from_utf8_lossy(&fs::read(&serial).unwrap_or_default()).into_owned();
    // the serial line comes letter by letter: half a line says nothing yet
    let whole = |log: &str, what: &str| log.find(what).is_some_and(|at| log[at..].contains('\n'));
    let told = std::panic::AssertUnwindSafe(until("the kernel runs", Duration::from_secs(120), || {
        let log = log();
        whole(&log, "Command line: ") && whole(&log, "Linux version")
    }));
    if let Err(panic) = futures_util::FutureExt::catch_unwind(told).await {
        eprintln!("serial console:\n{}", log());
        std::panic::resume_unwind(panic);
    }
    eprintln!("Linux runs after {:.1} s", started.elapsed().as_secs_f32());
    let log = log();
    let line = log.lines().find(|line| line.contains("Command line: ")).unwrap();
    for word in ["ipa-api-url=http://10.99.0.1:6385", "ferric-test=here", "selinux=0", "BOOTIF="] {
        assert!(line.contains(word), "{word} in {line}");
    }
    assert!(line.to_lowercase().replace('-', ":").contains(MAC), "{line}");
    machine.kill().await.unwrap();
    interface.clean_up_ramdisk(&node()).await.unwrap();
    dhcp.stop().await;
    tftp.stop().await;
    http.stop().await;
}

fn dnsmasq(space: &str, at: &Path) -> tokio::process::Child {
    let conf = at.join("dnsmasq.conf");
    let lines = format!(
        "port=0\ninterface=c0\nbind-interfaces\ndhcp-range=10.99.0.200,10.99.0.210,255.255.255.0,10m\n\
         dhcp-authoritative\nno-ping\nuser=root\nlog-facility=-\ndhcp-leasefile={0}/dnsmasq.leases\n\
         pid-file={0}/dnsmasq.pid\n",
        at.display()
    );
    fs::write(&conf, lines).unwrap();
    command(space, "dnsmasq")
        .args(["--keep-in-foreground", &format!("--conf-file={}", conf.display())])
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn qemu(case: &Case, space: &str, tap: &str, serial: &Path, at: &Path) -> tokio::process::Child {
    let mut machine = command(space, "qemu-system-x86_64");
    machine.args([
        "-accel",
        "tcg,thread=single,tb-size=256",
        "-cpu",
        "max",
        "-m",
        "1024",
        "-display",
        "none",
    ]);
    machine.args(["-nodefaults", "-no-user-config", "-no-reboot", "-device", "virtio-rng-pci"]);
    machine.arg("-serial").arg(format!("file:{}", serial.display()));
    match case.mode {
        BootMode::Bios => machine.args(["-machine", "pc,graphics=off"]),
        BootMode::Uefi => {
            let vars = at.join("vars.fd");
            fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars).unwrap();
            machine.args(["-machine", "q35"]);
            machine.args([
                "-drive",
                "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
            ]);
            machine.arg("-drive").arg(format!("if=pflash,format=raw,unit=1,file={}", vars.display()))
        }
    };
    if case.http_boot {
        for family in ["IPv4", "IPv6"] {
            machine.arg("-fw_cfg").arg(format!("name=opt/org.tianocore/{family}PXESupport,string=n"));
        }
    }
    machine.arg("-netdev").arg(format!("tap,id=n0,ifname={tap},script=no,downscript=no"));
    let rom = if case.rom { "" } else { ",romfile=" };
    machine.arg("-device").arg(format!("virtio-net-pci,netdev=n0,mac={MAC},bootindex=1{rom}"));
    machine.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}
