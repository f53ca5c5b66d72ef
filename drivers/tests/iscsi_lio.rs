//! Our initiator against the kernel's own target (LIO), in a virtual machine that runs the bash ramdisk of
//! tests/bash-ramdisk: from its call by HTTP over login, writing and comparing to the word `done` and its end. The
//! machine's network is QEMU's user mode: everything stays on loopback. Once the machine runs Ferric's own agent, whose
//! `iscsi.start_iscsi_target` sets the same target up.

#![allow(clippy::unwrap_used)] // tests fail by panicking

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferric_drivers::Secret;
use ferric_drivers::protocol::iscsi::{
    Chap, DigestChoice, Holes, IscsiError, IscsiSettings, IscsiTarget, MutualChap, Session, WriteOptions,
    discover,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MIB: u64 = 1 << 20;
const DISK: u64 = 256 * MIB;
const NODE: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";
const IQN: &str = "iqn-1be26c0b-03f2-4d2e-ae87-c02d7f33c123";

/// From power on to the call, with an emulated processor beside other tests.
const BOOT: Duration = Duration::from_secs(180);

/// The agent's.
const TOKEN: &str = "a-token-of-32-characters-or-more-0001";

/// What was on the disk before.
const OLD: u8 = 0xaa;

/// The folder that a build script prints.
fn made(script: &str, argument: Option<&Path>) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests").join(script);
    let done = Command::new(&script).args(argument).stderr(Stdio::inherit()).output().unwrap();
    assert!(done.status.success(), "{} failed, see above", script.display());
    PathBuf::from(String::from_utf8(done.stdout).unwrap().lines().last().unwrap())
}

/// A machine with one disk.
struct Guest {
    qemu: Child,
    folder: tempfile::TempDir,
    /// Where its port 3260 is to be had.
    iscsi: u16,
    /// Where its port 10000, or the agent's 9999 is.
    other: u16,
    api: TcpListener,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // one that has ended cannot be killed, which is no trouble
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// QEMU with the disk `disk.img` of the folder; what it says goes to `serial.log` there.
fn qemu(folder: &Path) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=single,tb-size=256", "-cpu", "max", "-smp", "1", "-m", "768"])
        .args(["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-serial", "file:serial.log", "-device", "virtio-rng-pci"])
        .args(["-drive", "if=none,id=d0,format=raw,file=disk.img,cache=unsafe,discard=unmap"])
        .args(["-device", "virtio-blk-pci,drive=d0,serial=LIODISK"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    qemu
}

impl Guest {
    /// With the bash ramdisk and more words on its kernel line.
    async fn start(words: &str) -> Self {
        let parts = tokio::task::spawn_blocking(|| made("bash-ramdisk/build.sh", None)).await.unwrap();
        let line = format!(
            "disk=sda,vda iscsi_target_iqn={IQN} deployment_id={NODE} deployment_key=KEY boot_option=netboot \
             ironic_api_url=http://API {words}"
        );
        Self::boot(&parts.join("kernel"), &parts.join("ramdisk"), &line, DISK, 10_000).await
    }

    /// With Ferric's own ramdisk.
    async fn with_agent() -> Self {
        let build = || {
            let here = std::env::current_exe().unwrap();
            made("bash-ramdisk/agent.py", Some(&here.parent().unwrap().with_file_name("ferric")))
        };
        let parts = tokio::task::spawn_blocking(build).await.unwrap();
        let line = "ipa-api-url=http://API ferric-no-tls=1";
        Self::boot(&parts.join("kernel"), &parts.join("initramfs"), line, 5 << 30, 9999).await
    }

    async fn boot(kernel: &Path, ramdisk: &Path, line: &str, size: u64, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = File::create(folder.path().join("disk.img")).unwrap();
        disk.set_len(size).unwrap();
        disk.write_all_at(&vec![OLD; 64 * MIB as usize], 0).unwrap();
        let api = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        // held together until both are known, so that they are two
        let taken = [(); 2].map(|()| StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [iscsi, other] = taken.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(taken);
        let line = line.replace("API", &format!("10.0.2.2:{}", api.local_addr().unwrap().port()));
        let forward = |host: u16, guest: u16| format!("hostfwd=tcp:127.0.0.1:{host}-:{guest}");
        let qemu = qemu(folder.path())
            .args(["-append", &format!("console=ttyS0 panic=1 {line}")])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(ramdisk)
            .args(["-netdev", &format!("user,id=n0,{},{}", forward(iscsi, 3260), forward(other, port))])
            .args(["-device", "virtio-net-pci,netdev=n0,romfile="])
            .spawn()
            .expect("qemu-system-x86 is installed: tests/e2e/install.sh");
        Self { qemu, folder, iscsi, other, api }
    }

    fn serial(&self) -> String {
        let bytes = fs::read(self.folder.path().join("serial.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The next request: method and path, body. It is given `answer`.
    async fn request(&self, answer: impl Fn(&str) -> (u16, Value)) -> (String, String) {
        let accepted = tokio::time::timeout(BOOT, self.api.accept()).await;
        let (mut stream, _) = accepted.unwrap_or_else(|_| panic!("no call: {}", self.serial())).unwrap();
        let mut request = Vec::new();
        let (line, body) = loop {
            let mut block = [0; 4096];
            let read = stream.read(&mut block).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&request));
            request.extend_from_slice(&block[..read]);
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                let line = head.lines().next().unwrap().rsplit_once(' ').unwrap().0.to_owned();
                break (line, body.to_owned());
            }
        };
        let (status, body_out) = answer(&line);
        let body_out = body_out.to_string();
        let head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}", body_out.len());
        stream.write_all(format!("{head}\r\n\r\n{body_out}").as_bytes()).await.unwrap();
        (line, body)
    }

    /// The next call of the bash ramdisk: path and body. It is answered 202, as the conductor does.
    async fn call(&self) -> (String, Value) {
        let (line, body) = self.request(|_| (202, Value::Null)).await;
        (line.strip_prefix("POST ").unwrap().to_owned(), serde_json::from_str(&body).unwrap())
    }

    /// Is the agent's conductor until the first heartbeat.
    async fn heartbeat(&self) {
        loop {
            let answer = |line: &str| {
                let node =
                    json!({"uuid": NODE, "properties": {}, "instance_info": {}, "driver_internal_info": {}});
                let config =
                    json!({"heartbeat_timeout": 300, "agent_token": TOKEN, "agent_token_required": true});
                let version = json!({"id": "v1", "min_version": "1.1", "version": "1.115"});
                if line.starts_with("GET /v1/lookup") {
                    (200, json!({"node": node, "config": config}))
                } else if line.starts_with("GET /") {
                    (200, json!({"default_version": version}))
                } else {
                    (202, Value::Null)
                }
            };
            if self.request(answer).await.0.starts_with("POST /v1/heartbeat/") {
                return;
            }
        }
    }

    /// Has the agent carry out a command; its result.
    async fn command(&self, name: &str, params: Value) -> Value {
        let body = json!({"name": name, "params": params}).to_string();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.other)).await.unwrap();
        let head = format!("POST /v1/commands/?wait=true&agent_token={TOKEN} HTTP/1.1\r\nHost: agent");
        let request = format!("{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let command: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(command["command_status"], "SUCCEEDED", "{name}: {command} {}", self.serial());
        command["command_result"].clone()
    }

    fn target(&self, chap: Option<Chap>) -> IscsiTarget {
        IscsiTarget { address: "127.0.0.1".into(), port: self.iscsi, iqn: IQN.into(), lun: 1, chap }
    }

    /// Says `done` and waits for the machine's end.
    async fn go_ahead(&mut self) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.other)).await.unwrap();
        stream.write_all(b"done").await.unwrap();
        drop(stream);
        let began = Instant::now();
        while self.qemu.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < BOOT, "it does not end: {}", self.serial());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(self.serial().contains("rebooting"), "{}", self.serial());
    }

    fn disk(&self, at: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        File::open(self.folder.path().join("disk.img")).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }
}

/// Bytes that differ from place to place and do not repeat by any power of two.
fn pattern(at: u64, length: u64) -> Vec<u8> {
    (at..at + length).map(|n| (n % 251) as u8 ^ (n / 65_521) as u8).collect()
}

/// Writes 16 MiB, a hole of 8 MiB over old data, 16 MiB and an odd end; reads it back.
async fn write_and_compare(session: &Session) {
    assert_eq!(session.capacity().bytes(), DISK);
    let mut writer = session.writer(WriteOptions { start: 0, holes: Holes::Zero });
    for at in (0..16 * MIB).step_by(MIB as usize) {
        writer.write(at, Bytes::from(pattern(at, MIB))).await.unwrap();
    }
    writer.hole(16 * MIB, 8 * MIB).await.unwrap();
    let checkpoint = writer.checkpoint().await.unwrap();
    assert!(checkpoint <= 24 * MIB, "{checkpoint}");
    for at in (24 * MIB..40 * MIB).step_by(3 * MIB as usize) {
        let length = (3 * MIB).min(40 * MIB - at);
        writer.write(at, Bytes::from(pattern(at, length))).await.unwrap();
    }
    let odd = DISK - 1000;
    writer.write(odd, Bytes::from(pattern(odd, 999))).await.unwrap();
    assert_eq!(writer.finish().await.unwrap(), DISK - 1);
    for at in (0..40 * MIB).step_by(4 * MIB as usize) {
        let read = session.read_at(at, 4 * MIB as usize).await.unwrap();
        assert!(read == expected(at, 4 * MIB), "at {at}");
    }
    assert_eq!(session.read_at(odd, 1000).await.unwrap(), expected(odd, 1000));
}

/// What [`write_and_compare`] leaves within its first 40 MiB and at the end.
fn expected(at: u64, length: u64) -> Vec<u8> {
    let mut bytes = pattern(at, length);
    for (n, byte) in bytes.iter_mut().enumerate() {
        let place = at + n as u64;
        if (16 * MIB..24 * MIB).contains(&place) || place == DISK - 1 {
            *byte = 0;
        }
    }
    bytes
}

#[tokio::test]
async fn what_is_written_to_lio_is_on_the_disk_when_the_ramdisk_reboots() {
    let mut guest = Guest::start("").await;
    let (path, body) = guest.call().await;
    assert_eq!(path, format!("/v1/nodes/{NODE}/vendor_passthru/pass_deploy_info"));
    let info =
        json!({"address": "10.0.2.15", "key": "KEY", "iqn": IQN, "port": "3260", "lun": "1", "error": ""});
    assert_eq!(body, info);
    let settings = IscsiSettings::default();
    let found = discover("127.0.0.1", guest.iscsi, None, &settings).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].iqn.as_str(), &found[0].portals), (IQN, &vec![("10.0.2.15".to_owned(), 3260)]));
    let session = Session::open(&guest.target(None), &settings).await.unwrap();
    println!("{:?} {:?}", session.disk(), session.limits().await.unwrap());
    let limits = session.disk().limits;
    assert!(limits.unmap, "the ramdisk offers UNMAP: {limits:?}");
    write_and_compare(&session).await;
    session.logout().await;
    guest.go_ahead().await;
    assert!(guest.disk(0, 40 * MIB) == expected(0, 40 * MIB), "the file behind the disk");
    assert_eq!(guest.disk(40 * MIB, 4096), [OLD; 4096], "what was not written is untouched");
    assert_eq!(guest.disk(DISK - 1000, 1000), expected(DISK - 1000, 1000));
}

#[tokio::test]
async fn lio_wants_chap_shows_its_own_and_checks_every_byte() {
    let guest = Guest::start("iscsi_chap=alice:secret-of-alice:target:secret-of-target passthru=query").await;
    let (path, _) = guest.call().await;
    assert_eq!(path, format!("/v1/nodes/{NODE}/vendor_passthru?method=pass_deploy_info"));
    let chap = |ours: &str, theirs: &str| Chap {
        user: "alice".into(),
        secret: Secret::new(ours.to_owned()),
        mutual: Some(MutualChap { user: Some("target".into()), secret: Secret::new(theirs.to_owned()) }),
    };
    let mut settings = IscsiSettings::default();
    settings.offer.header_digest = DigestChoice::Require;
    settings.offer.data_digest = DigestChoice::Require;
    settings.open_within = Duration::from_secs(5);
    for wrong in [
        None,
        Some(chap("wrong-secret-of-alice", "secret-of-target")),
        Some(chap("secret-of-alice", "wrong")),
    ] {
        let without = wrong.is_none();
        let refused = Session::open(&guest.target(wrong), &settings).await.unwrap_err();
        // offered AuthMethod=None alone, LIO would close the connection without a word
        let expected = if without {
            matches!(&refused, IscsiError::Credentials(words) if words.contains("asks for CHAP"))
        } else {
            matches!(refused, IscsiError::Credentials(_) | IscsiError::Refused { .. })
        };
        assert!(expected && !format!("{refused:?}").contains("secret-of"), "{refused:?}");
    }
    let right = chap("secret-of-alice", "secret-of-target");
    let session = Session::open(&guest.target(Some(right)), &settings).await.unwrap();
    let limits = session.limits().await.unwrap();
    assert!(limits.digests.header && limits.digests.data, "{limits:?}");
    write_and_compare(&session).await;
    session.logout().await;
}

#[tokio::test]
async fn a_ramdisk_without_its_disk_reports_an_error() {
    let guest = Guest::start("root_device=serial=OTHER").await;
    let (_, body) = guest.call().await;
    let error = body["error"].as_str().unwrap();
    assert!(error.contains("serial=OTHER"), "{error}");
}

/// The whole disk as a conductor leaves it: one partition table and a root file system in its only partition.
struct Image {
    root: Vec<u8>,
    uuid: String,
}

impl Image {
    /// The partition image of tests/e2e, which brings GRUB but no boot loader.
    fn load() -> Self {
        let root = fs::read(made("e2e/image/partition.sh", None).join("partition.raw")).unwrap();
        // ext4's superblock at 1024, its UUID at 104 of that
        let uuid = uuid::Uuid::from_slice(&root[1128..1144]).unwrap().to_string();
        Self { root, uuid }
    }

    /// An MBR with that partition at 1 MiB, to boot from.
    fn mbr(&self) -> Vec<u8> {
        let mut mbr = vec![0; MIB as usize];
        let sectors = |bytes: u64| u32::try_from(bytes / 512).unwrap().to_le_bytes();
        mbr[446] = 0x80;
        mbr[450] = 0x83;
        mbr[454..458].copy_from_slice(&sectors(MIB));
        mbr[458..462].copy_from_slice(&sectors(self.root.len() as u64));
        mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
        mbr
    }
}

#[tokio::test]
async fn the_agent_exports_its_disk_and_boots_what_others_have_written_to_it() {
    let image = tokio::task::spawn_blocking(Image::load).await.unwrap();
    let mut guest = Guest::with_agent().await;
    guest.heartbeat().await;
    let params = json!({"iqn": IQN, "portal_port": 3260, "wipe_disk_metadata": true});
    let answer = json!({"iscsi_target_iqn": IQN});
    assert_eq!(guest.command("iscsi.start_iscsi_target", params.clone()).await, answer);
    let session = Session::open(&guest.target(None), &IscsiSettings::default()).await.unwrap();
    println!("{:?}", session.disk());
    assert_eq!(session.read_at(0, 4096).await.unwrap(), vec![0; 4096], "wiped");
    assert_eq!(guest.command("iscsi.start_iscsi_target", params).await, answer, "again");
    let mut writer = session.writer(WriteOptions { start: 0, holes: Holes::Zero });
    writer.write(0, Bytes::from(image.mbr())).await.unwrap();
    for (n, chunk) in image.root.chunks(MIB as usize).enumerate() {
        writer.write((n as u64 + 1) * MIB, Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    writer.finish().await.unwrap();
    // the session is not ended: the agent ends it, the machine needs its disk
    let params = json!({"root_uuid": image.uuid, "efi_system_part_uuid": null, "prep_boot_part_uuid": null,
                        "target_boot_mode": "bios"});
    let said = guest.command("image.install_bootloader", params).await;
    assert!(said.to_string().contains("/dev/vda"), "{said}");
    drop(session);
    guest.command("standby.sync", json!({})).await;
    guest.qemu.kill().unwrap();
    guest.qemu.wait().unwrap();
    fs::remove_file(guest.folder.path().join("serial.log")).unwrap();
    guest.qemu = qemu(guest.folder.path()).spawn().unwrap();
    let began = Instant::now();
    while !guest.serial().contains("E2E-DONE") {
        assert!(began.elapsed() < BOOT, "it does not boot: {}", guest.serial());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(guest.serial().contains(&format!("E2E-ROOT root=UUID={}", image.uuid)), "{}", guest.serial());
}
