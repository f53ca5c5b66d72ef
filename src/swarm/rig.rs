//! A server and a fleet of the load's own: two processes on a temporary folder, ended by their ids.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ferric_swarm::Watched;
use tokio::process::{Child, Command};

use crate::Failure;
use crate::cli::SwarmArgs;

/// Until the server answers and the fleet stands.
const START: Duration = Duration::from_secs(120);
/// Until a process that was asked to end has ended.
const END: Duration = Duration::from_secs(30);
/// Lines of a log that are told when something went wrong.
const TOLD: usize = 12;
/// Machines when nobody says how many.
const FEW: u32 = 100;
/// So many BMCs can have sockets of their own, on ports that are free for certain; more share one.
const OWN_SOCKETS: u32 = 64;
/// Names the process with which its child is to end.
const PARENT: &str = "FERRIC_ENDS_WITH";

/// Ends this process (by SIGTERM) with the one that started it as a part of its rig, however that ends; does nothing in
/// processes that nobody started as such. To be called first in `main`: the kernel keeps it for the calling thread.
pub(crate) fn end_with_parent() -> Result<(), Failure> {
    let Some(parent) = std::env::var(PARENT).ok().and_then(|pid| pid.parse::<u32>().ok()) else {
        return Ok(());
    };
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    // it may have ended before the kernel was told
    if std::os::unix::process::parent_id() == parent {
        return Ok(());
    }
    Err(Failure("the load that this process belongs to has ended".to_owned()))
}

/// The running processes; dropped, they are killed and the folder is removed, unless it is to be kept.
pub(super) struct Rig {
    pub(super) endpoint: String,
    server: Child,
    fleet: Option<Child>,
    // after the processes that work in it
    folder: Folder,
}

/// Removed when dropped, unless somebody wants to look into it.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // nothing to be done about a failure, and nothing lost
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl Rig {
    /// Starts `ferric serve`, and `ferric sim` when machines are simulated; both are ready when this returns.
    pub(super) async fn start(args: &SwarmArgs, simulated: bool) -> Result<Self, Failure> {
        let name = format!("ferric-swarm-{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let folder = Folder { path: std::env::temp_dir().join(name), kept: false };
        std::fs::create_dir_all(&folder.path)?;
        let data = folder.path.join("data");
        let address = free_address()?;
        let endpoint = format!("http://{address}");

        let kernel = folder.path.join("kernel");
        // simulated machines read no boot files: the server wants to lay them out all the same
        std::fs::write(&kernel, b"a simulated machine reads no boot files\n")?;
        let kernel = kernel.display();
        let mut serve = ferric(&folder.path, "serve")?;
        serve.arg("--data-dir").arg(&data);
        for setting in [
            format!("api.host_ip={}", address.ip()),
            format!("api.port={}", address.port()),
            "agent.require_tls=false".to_owned(),
            "conductor.automated_clean=false".to_owned(),
            // what the simulated machines' ramdisks can do
            format!("hardware.default_inspect_interface={}", if simulated { "agent" } else { "fake" }),
            "conductor.graceful_shutdown_timeout=1".to_owned(),
            format!("conductor.deploy_kernel={kernel}"),
            format!("conductor.deploy_ramdisk={kernel}"),
        ]
        .iter()
        .chain(&args.set)
        {
            serve.args(["--set", setting]);
        }
        let server = serve.spawn()?;
        let mut rig = Self { endpoint, server, fleet: None, folder };
        if simulated {
            let nodes = args.nodes.unwrap_or(FEW);
            let mut sim = ferric(&rig.folder.path, "sim")?;
            sim.args(["--nodes", &nodes.to_string()]);
            sim.args(["--seed", &args.seed.to_string(), "--api-url", &rig.endpoint]);
            sim.args(["--set", &format!("sim.bmc_port={}", bmc_port(nodes)?)]);
            // their firmware reads the files where boot servers would
            for folder in ["httpboot", "tftpboot"] {
                sim.arg("--boot-from").arg(data.join(folder));
            }
            sim.arg("--enroll-file").arg(rig.enrol_file());
            if let Some(faults) = &args.faults {
                sim.arg("--faults").arg(faults);
            }
            for setting in &args.set {
                sim.args(["--set", setting]);
            }
            rig.fleet = Some(sim.spawn()?);
        }
        match rig.ready(address).await {
            Ok(()) => Ok(rig),
            Err(Failure(text)) => Err(Failure(format!("{text}{}", rig.keep()))),
        }
    }

    /// Keeps the folder with the logs and the database; a line that names it.
    pub(super) fn keep(&mut self) -> String {
        self.folder.kept = true;
        format!("  logs    {} (kept; remove it when you have read them)\n", self.folder.path.display())
    }

    /// Waits until the server takes connections and the fleet has written its file.
    async fn ready(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let until = Instant::now() + START;
        loop {
            if let Some(status) = self.server.try_wait()? {
                return Err(self.ended_early("serve", status));
            }
            if let Some(fleet) = &mut self.fleet
                && let Some(status) = fleet.try_wait()?
            {
                return Err(self.ended_early("sim", status));
            }
            // the fleet says so in a line once its file is whole
            let enrolled = self.fleet.is_none() || told(&self.folder.path, "sim", "enrol them with");
            if enrolled && tokio::net::TcpStream::connect(address).await.is_ok() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Failure(format!(
                    "the server or the fleet was not ready within {} s:\n{}{}",
                    START.as_secs(),
                    self.log("serve"),
                    self.log("sim")
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn ended_early(&self, name: &str, status: ExitStatus) -> Failure {
        Failure(format!("ferric {name} ended with {status}:\n{}", self.log(name)))
    }

    /// The last lines of a process's log.
    fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(log_of(&self.folder.path, name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TOLD)..].iter().map(|line| format!("  {line}\n")).collect()
    }

    /// The file with the fleet's machines.
    pub(super) fn enrol_file(&self) -> PathBuf {
        self.folder.path.join("fleet.json")
    }

    /// The processes, for the report.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let all = [("serve", Some(&self.server)), ("sim", self.fleet.as_ref())];
        all.into_iter()
            .filter_map(|(name, child)| Some(Watched { name: name.to_owned(), pid: child?.id()? }))
            .collect()
    }

    /// Ends both, the server first: it says goodbye to BMCs that still answer.
    /// Errors: one of them had ended before, had to be killed, or ended with anything but 0.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        let mut early = None;
        if let Some(status) = self.server.try_wait()? {
            early = Some(self.ended_early("serve", status));
        }
        let fleet_status = match &mut self.fleet {
            Some(fleet) => fleet.try_wait()?,
            None => None,
        };
        if let Some(status) = fleet_status {
            early = early.or_else(|| Some(self.ended_early("sim", status)));
        }
        let server = end(&mut self.server).await?;
        let fleet = match &mut self.fleet {
            Some(fleet) => end(fleet).await?,
            None => Some(ExitStatus::default()),
        };
        if let Some(early) = early {
            return Err(early);
        }
        for (name, status) in [("serve", server), ("sim", fleet)] {
            match status {
                Some(status) if status.success() => {}
                Some(status) => return Err(self.ended_early(name, status)),
                None => {
                    let seconds = END.as_secs();
                    let log = self.log(name);
                    return Err(Failure(format!(
                        "ferric {name} did not end within {seconds} s and was killed:\n{log}"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Asks a process to end; how it did, `None` when it had to be killed.
async fn end(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    if let Some(pid) = child.id() {
        // this child is not reaped yet, so the id is its own
        let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
        if asked.is_ok_and(|status| status.success())
            && let Ok(status) = tokio::time::timeout(END, child.wait()).await
        {
            return status.map(Some);
        }
        child.kill().await?;
        return Ok(None);
    }
    // it had ended before
    child.wait().await.map(Some)
}

/// This program with another command; its words go to a log in the folder.
fn ferric(folder: &Path, command: &str) -> std::io::Result<Command> {
    let log = std::fs::File::create(log_of(folder, command))?;
    let mut child = Command::new(std::env::current_exe()?);
    child.arg(command).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    // Ctrl-C on the terminal is for the load alone: it ends these when it has read the last figures
    child.process_group(0);
    child.env(PARENT, std::process::id().to_string());
    Ok(child)
}

fn log_of(folder: &Path, command: &str) -> PathBuf {
    folder.join(format!("{command}.log"))
}

fn told(folder: &Path, command: &str, words: &str) -> bool {
    std::fs::read_to_string(log_of(folder, command)).is_ok_and(|text| text.contains(words))
}

/// A port for the BMCs that nobody else has: 0 lets each take its own, many share one on all of their addresses.
fn bmc_port(nodes: u32) -> std::io::Result<u16> {
    if nodes <= OWN_SOCKETS {
        return Ok(0);
    }
    Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

/// A free port on a loopback address that is this process's own, so that nobody takes it meanwhile.
fn free_address() -> Result<SocketAddr, Failure> {
    let [.., high, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, 201, high, low.max(1));
    for host in [own, Ipv4Addr::LOCALHOST] {
        if let Ok(listener) = TcpListener::bind((host, 0)) {
            return Ok(listener.local_addr()?);
        }
    }
    Err(Failure("no port on 127.0.0.1 is free".to_owned()))
}
