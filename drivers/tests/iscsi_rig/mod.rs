//! Debian's tgt in the foreground, on an address and a control socket of its own.

#![allow(dead_code, unreachable_pub)] // every test file uses its own part

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ferric_drivers::protocol::iscsi::{Chap, IscsiSettings, IscsiTarget};
use tempfile::TempDir;

pub const LIMIT: Duration = Duration::from_secs(90);
pub const IQN: &str = "iqn.2026-11.test:disk";
static STARTED: AtomicU32 = AtomicU32::new(0);

pub struct Tgt {
    process: Child,
    folder: TempDir,
    control: u32,
    pub address: SocketAddrV4,
}

/// An address that only this process uses: its number decides.
fn own_address() -> (Ipv4Addr, u32) {
    let nth = STARTED.fetch_add(1, Ordering::Relaxed);
    let number = (std::process::id() % 60_000) * 16 + nth % 16;
    let [_, a, b, c] = number.to_be_bytes();
    (Ipv4Addr::new(127, 64 + a, b, c.max(1)), number)
}

/// A number for the control socket (tgtd takes none above 32767) that nobody uses. Agents take theirs below: a port that
/// the kernel gave, less 32768.
fn free_control(seed: u32) -> u32 {
    let free = |number: &u32| !Path::new(&format!("/var/run/tgtd/socket.{number}")).exists();
    (0..4_400).map(|step| 28_300 + (seed + step * 7) % 4_400).find(free).unwrap()
}

impl Tgt {
    /// Starts tgtd with one target, whose LUN 1 is a file of `bytes`.
    pub fn start(bytes: u64) -> Self {
        Self::start_in(&std::env::temp_dir(), bytes)
    }

    /// The same with the file in a folder of `folder`.
    pub fn start_in(folder: &Path, bytes: u64) -> Self {
        let (ip, number) = own_address();
        // the address is ours alone, so is any port of it
        let port = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port();
        let folder = TempDir::new_in(folder).unwrap();
        std::fs::File::create(folder.path().join("disk")).unwrap().set_len(bytes).unwrap();
        let address = SocketAddrV4::new(ip, port);
        let control = free_control(number);
        let tgt = Self { process: spawn(address, control), folder, control, address };
        tgt.configure();
        tgt
    }

    pub fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Runs tgtadm; its output.
    pub fn admin(&self, arguments: &[&str]) -> String {
        let output = Command::new("tgtadm")
            .args(["-C", &self.control.to_string(), "--lld", "iscsi"])
            .args(arguments)
            .output()
            .expect("tgt is installed: scripts/apt.sh tgt");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "tgtadm {arguments:?}: {text}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn configure(&self) {
        let began = Instant::now();
        let control = self.control.to_string();
        while !Command::new("tgtadm")
            .args(["-C", &control, "--op", "show", "--mode", "system"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("tgt is installed: scripts/apt.sh tgt")
            .success()
        {
            assert!(began.elapsed() < LIMIT, "tgtd does not start");
            std::thread::yield_now();
        }
        self.admin(&["--op", "new", "--mode", "target", "--tid", "1", "-T", IQN]);
        let disk = self.disk();
        self.admin(&[
            "--op",
            "new",
            "--mode",
            "logicalunit",
            "--tid",
            "1",
            "--lun",
            "1",
            "-b",
            disk.to_str().unwrap(),
        ]);
        self.admin(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"]);
    }

    /// Sets what the target wants at login.
    pub fn set(&self, key: &str, value: &str) {
        self.admin(&["--op", "update", "--mode", "target", "--tid", "1", "-n", key, "-v", value]);
    }

    /// Wants CHAP; with `outgoing`, proves itself too.
    pub fn account(&self, user: &str, secret: &str, outgoing: bool) {
        self.admin(&["--op", "new", "--mode", "account", "--user", user, "--password", secret]);
        let mut bind = vec!["--op", "bind", "--mode", "account", "--tid", "1", "--user", user];
        if outgoing {
            bind.push("--outgoing");
        }
        self.admin(&bind);
    }

    /// Makes LUN 1 thin: it can be unmapped.
    pub fn thin(&self) {
        self.admin(&[
            "--op",
            "update",
            "--mode",
            "logicalunit",
            "--tid",
            "1",
            "--lun",
            "1",
            "--params",
            "thin_provisioning=1",
        ]);
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        let shown = self.admin(&["--op", "show", "--mode", "conn", "--tid", "1"]);
        shown.lines().filter(|line| line.starts_with("Session:")).count()
    }

    /// Waits until nobody is logged in.
    pub async fn wait_for_nobody(&self) {
        let began = Instant::now();
        while self.sessions() > 0 {
            assert!(began.elapsed() < LIMIT, "somebody is still logged in");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.forget();
    }

    /// tgtd leaves its control socket behind.
    fn forget(&self) {
        let _ = std::fs::remove_file(format!("/var/run/tgtd/socket.{}", self.control));
        let _ = std::fs::remove_file(format!("/var/run/tgtd/socket.{}.lock", self.control));
    }

    /// The same target again, at the same address.
    pub fn again(&mut self) {
        self.control = free_control(self.control + 1);
        self.process = spawn(self.address, self.control);
        self.configure();
    }

    pub fn target(&self, chap: Option<Chap>) -> IscsiTarget {
        IscsiTarget {
            address: self.address.ip().to_string(),
            port: self.address.port(),
            iqn: IQN.to_owned(),
            lun: 1,
            chap,
        }
    }

    /// What the disk's file takes on its file system, in bytes.
    pub fn allocated(&self) -> u64 {
        std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(self.disk()).unwrap()) * 512
    }

    /// What is on the disk.
    pub fn on_disk(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut found = vec![0; length];
        std::fs::File::open(self.disk()).unwrap().read_exact_at(&mut found, offset).unwrap();
        found
    }
}

fn spawn(address: SocketAddrV4, control: u32) -> Child {
    // a test that is killed by a time limit takes it along
    Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "tgtd",
            "-f",
            "-C",
            &control.to_string(),
            "--iscsi",
            &format!("portal={address}"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("tgt is installed: scripts/apt.sh tgt")
}

impl Drop for Tgt {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.forget();
    }
}

/// Settings that do not wait long.
pub fn settings() -> IscsiSettings {
    IscsiSettings {
        open_within: LIMIT,
        patience: LIMIT,
        back_off: (Duration::from_millis(10), Duration::from_millis(200)),
        ..IscsiSettings::default()
    }
}

/// Bytes that are different everywhere.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
