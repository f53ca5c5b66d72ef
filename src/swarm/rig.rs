//! A server and a fleet of the load's own: two processes on a temporary folder, ended by their ids.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
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

/// The running processes; dropped, they are killed and the folder is removed.
pub(super) struct Rig {
    pub(super) endpoint: String,
    server: Child,
    fleet: Option<Child>,
    // after the processes that work in it
    folder: Folder,
}

/// Removed when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // nothing to be done about a failure, and nothing lost
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Rig {
    /// Starts `ferric serve`, and `ferric sim` when machines are simulated; both are ready when this returns.
    pub(super) async fn start(args: &SwarmArgs, simulated: bool) -> Result<Self, Failure> {
        let name = format!("ferric-swarm-{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0)?;
        let data = folder.0.join("data");
        let address = free_address()?;
        let endpoint = format!("http://{address}");

        let kernel = folder.0.join("kernel");
        // simulated machines read no boot files: the server wants to lay them out all the same
        std::fs::write(&kernel, b"a simulated machine reads no boot files\n")?;
        let kernel = kernel.display();
        let mut serve = ferric(&folder.0, "serve")?;
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
            let mut sim = ferric(&rig.folder.0, "sim")?;
            sim.args(["--nodes", &args.nodes.unwrap_or(FEW).to_string()]);
            sim.args(["--seed", &args.seed.to_string(), "--api-url", &rig.endpoint]);
            sim.args(["--set", "sim.bmc_port=0"]);
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
        rig.ready(address).await?;
        Ok(rig)
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
            let enrolled = self.fleet.is_none() || told(&self.folder.0, "sim", "enrol them with");
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

    fn ended_early(&self, name: &str, status: std::process::ExitStatus) -> Failure {
        Failure(format!("ferric {name} ended with {status}:\n{}", self.log(name)))
    }

    /// The last lines of a process's log.
    fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(log_of(&self.folder.0, name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TOLD)..].iter().map(|line| format!("  {line}\n")).collect()
    }

    /// The file with the fleet's machines.
    pub(super) fn enrol_file(&self) -> PathBuf {
        self.folder.0.join("fleet.json")
    }

    /// The processes, for the report.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let all = [("serve", Some(&self.server)), ("sim", self.fleet.as_ref())];
        all.into_iter()
            .filter_map(|(name, child)| Some(Watched { name: name.to_owned(), pid: child?.id()? }))
            .collect()
    }

    /// Ends both, the server first: it says goodbye to BMCs that still answer.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        if let Some(status) = self.server.try_wait()? {
            return Err(self.ended_early("serve", status));
        }
        end(&mut self.server).await?;
        if let Some(mut fleet) = self.fleet.take() {
            end(&mut fleet).await?;
        }
        Ok(())
    }
}

/// Asks a process to end, and ends it when it does not.
async fn end(child: &mut Child) -> std::io::Result<()> {
    if let Some(pid) = child.id() {
        // this child is not reaped yet, so the id is its own
        let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
        if asked.is_ok_and(|status| status.success()) && tokio::time::timeout(END, child.wait()).await.is_ok()
        {
            return Ok(());
        }
    }
    child.kill().await
}

/// This program with another command; its words go to a log in the folder.
fn ferric(folder: &Path, command: &str) -> std::io::Result<Command> {
    let log = std::fs::File::create(log_of(folder, command))?;
    let mut child = Command::new(std::env::current_exe()?);
    child.arg(command).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    // Ctrl-C on the terminal is for the load alone: it ends these when it has read the last figures
    child.process_group(0);
    Ok(child)
}

fn log_of(folder: &Path, command: &str) -> PathBuf {
    folder.join(format!("{command}.log"))
}

fn told(folder: &Path, command: &str, words: &str) -> bool {
    std::fs::read_to_string(log_of(folder, command)).is_ok_and(|text| text.contains(words))
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
