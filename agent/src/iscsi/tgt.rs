//! Debian's `tgt`, for kernels without a target of their own: the daemon serves the disk, `tgtadm` sets it up.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferric_agent_wire::ISCSI_LUN;

use super::{Export, LOOK_EVERY};
use crate::error::Failure;
use crate::partition::tool;

/// Longest time until the daemon listens, and until it ends.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longest time for one `tgtadm`.
const COMMAND: Duration = Duration::from_secs(15);

/// A daemon that serves one target. Its control channel is numbered after the portal's port (tgt takes 15 bits), so that
/// several daemons of one machine do not meet.
pub(super) struct Tgtd {
    control: u16,
    /// None when an agent before this one started it.
    child: Option<Child>,
}

fn control(port: u16) -> u16 {
    port & 0x7fff
}

impl Tgtd {
    /// The daemon that an agent before this one left, if it answers.
    pub(super) fn left_over(export: &Export) -> Option<Self> {
        let tgtd = Self { control: control(export.port), child: None };
        let folder = export.device.parent()?;
        let mut stores = tgtd.stores().ok()?.into_iter();
        // a daemon that serves anything else is somebody else's
        stores.any(|store| store.parent() == Some(folder)).then_some(tgtd)
    }

    /// Starts it and gives it the disk. `without` says why the kernel's own target is not taken.
    /// Errors: `Iscsi`; nothing of it runs then.
    pub(super) fn start(export: &Export, without: &str) -> Result<Self, Failure> {
        let Some(program) = tool::find("tgtd") else {
            return Err(Failure::Iscsi(format!(
                "no iSCSI target to be had: {without}, and there is no tgtd. Build the ramdisk with a kernel that has \
                 target_core_mod and iscsi_target_mod, or put tgt into it"
            )));
        };
        if let Some(old) = Self::left_over(export) {
            old.stop()?;
        }
        let portal = SocketAddr::new(export.ip, export.port);
        // tgtd itself would go on without a portal, and not say so
        TcpListener::bind(portal)
            .map_err(|error| Failure::Iscsi(format!("the portal {portal} cannot be opened: {error}")))?;
        let child = Command::from(program)
            .args(["-f", "-C", &control(export.port).to_string(), "--iscsi", &format!("portal={portal}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::Iscsi(format!("tgtd cannot be started: {error}")))?;
        let mut tgtd = Self { control: control(export.port), child: Some(child) };
        match tgtd.set_up(export) {
            Ok(()) => Ok(tgtd),
            Err(failure) => {
                tgtd.end();
                Err(failure)
            }
        }
    }

    fn set_up(&mut self, export: &Export) -> Result<(), Failure> {
        let began = Instant::now();
        while let Err(reason) = self.show() {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return Err(Failure::Iscsi(format!("tgtd ended with {status}")));
            }
            if began.elapsed() >= PATIENCE {
                return Err(Failure::Iscsi(format!("tgtd does not answer: {reason}")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let lun = ISCSI_LUN.to_string();
        let device = export.device.to_string_lossy();
        self.admin(&["--mode", "target", "--op", "new", "--tid", "1", "--targetname", &export.iqn])?;
        let store =
            ["--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", &lun, "--backing-store", &device];
        self.admin(&store)?;
        self.admin(&["--mode", "target", "--op", "bind", "--tid", "1", "--initiator-address", "ALL"])
            .map(drop)
    }

    fn show(&self) -> Result<String, Failure> {
        self.admin(&["--mode", "target", "--op", "show"])
    }

    /// The files and devices that it serves.
    fn stores(&self) -> Result<Vec<PathBuf>, Failure> {
        let shown = self.show()?;
        let paths = shown.lines().filter_map(|line| line.trim().strip_prefix("Backing store path: "));
        Ok(paths.filter(|path| *path != "None").map(PathBuf::from).collect())
    }

    /// Whether it serves exactly this target.
    pub(super) fn serves(&mut self, export: &Export) -> bool {
        let Ok(shown) = self.show() else { return false };
        let name = format!("Target 1: {}", export.iqn);
        shown.lines().any(|line| line.trim() == name)
            && self.stores().is_ok_and(|stores| stores == [export.device.clone()])
    }

    /// Ends sessions, the target and the daemon, which closes the disk. Errors: `Iscsi`.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        let removed = self.admin(&["--mode", "target", "--op", "delete", "--force", "--tid", "1"]);
        if let Err(failure) = removed {
            // a daemon that ended by itself has let go as well
            tracing::info!(%failure, "the target is not removed by hand");
        }
        let asked = self.admin(&["--mode", "system", "--op", "delete"]);
        if self.child.is_none() {
            let began = Instant::now();
            while self.show().is_ok() {
                if began.elapsed() >= PATIENCE {
                    let reason = asked.err().map_or_else(String::new, |failure| format!(": {failure}"));
                    return Err(Failure::Iscsi(format!(
                        "tgtd of an agent before this one does not end{reason}"
                    )));
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        self.end();
        Ok(())
    }

    /// Waits for the end of the daemon started here; kills it when it takes too long.
    fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let began = Instant::now();
        while began.elapsed() < PATIENCE && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK_EVERY);
        }
        // an ended one cannot be killed, which is no trouble
        let _ = child.kill();
        if let Err(error) = child.wait() {
            tracing::warn!(%error, "tgtd's end");
        }
        // it leaves its control channel's files behind, and after a kill no daemon starts over some of them
        for file in ["", ".lock"] {
            let _ = std::fs::remove_file(format!("/var/run/tgtd/socket.{}{file}", self.control));
        }
    }

    fn admin(&self, arguments: &[&str]) -> Result<String, Failure> {
        let program = tool::find("tgtadm").ok_or_else(|| {
            Failure::Iscsi("there is a tgtd, but no tgtadm: put all of tgt into the ramdisk".to_owned())
        })?;
        let mut command = Command::from(program);
        command.args(["-C", &self.control.to_string(), "--lld", "iscsi"]).args(arguments);
        tool::run(command, "tgtadm", COMMAND).map_err(|failure| Failure::Iscsi(failure.to_string()))
    }
}

impl Drop for Tgtd {
    /// Outside a deploy ramdisk the agent ends before the machine does, and its daemon with it.
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
