//! `iscsi.start_iscsi_target`: the root disk as a LUN that the conductor writes over the network, as agents of the
//! releases from Ocata to Wallaby did it (deploy.md §A.1, §B.3).
//!
//! The kernel's own target (LIO) is set up through configfs, see [`lio`]; where the kernel lacks it, `tgtd` serves the
//! disk, see [`tgt`]. The state that counts is theirs: an agent restarted in the middle finds the target as it is.
//! Every command that works on disks itself first takes the disk back ([`take_back`]): nobody else writes to it then,
//! and the kernel reads the partition table that the conductor wrote.

mod lio;
mod tgt;

use std::fs::OpenOptions;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ferric_agent_wire::{ISCSI_PORT, StartIscsiTargetParams, StartIscsiTargetResult};
use nix::libc::{EBUSY, O_EXCL};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::agent::Agent;
use crate::console::say;
use crate::disk::{self, Disk};
use crate::error::Failure;
use crate::extension::{blocking, known_node, root_disk, to_value};
use crate::options::Options;
use crate::{erase, table};

/// The longest name of a target, bytes: RFC 7143 §4.2.7.1.
const NAME_BYTES: usize = 223;

/// How long the kernel may hold on to the disk after the target is gone.
const RELEASE: Duration = Duration::from_secs(10);

/// Between two looks at something that is about to change.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What this agent exports, and what it has exported.
#[derive(Default)]
pub struct Iscsi {
    /// Held while a target is started or taken back.
    live: Mutex<Option<Live>>,
    /// The disk exported last, for as long as nothing else was done to it.
    last: std::sync::Mutex<Option<Disk>>,
}

impl Iscsi {
    /// The disk that was exported last: what is on it is the conductor's work.
    pub fn last(&self) -> Option<Disk> {
        self.lock().clone()
    }

    /// The disk holds something else now.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Disk>> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A target that is up.
struct Live {
    export: Export,
    disk: Disk,
    by: By,
}

/// Who serves it.
enum By {
    Lio,
    Tgt(tgt::Tgtd),
}

/// A target as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Export {
    /// Its name.
    iqn: String,
    /// Where it listens; unspecified for all addresses.
    ip: IpAddr,
    /// TCP port of the portal.
    port: u16,
    /// What is exported.
    device: PathBuf,
}

/// Exports the root disk; the target's name. Called again with the same name and port, it answers the same and leaves
/// sessions alone. Another target of this agent is taken back first.
/// Errors: `Parameters`, `NoDisk`, `Iscsi` (in use, no target to be had, port taken).
pub(crate) async fn start(agent: &Agent, params: StartIscsiTargetParams) -> Result<Value, Failure> {
    let iqn = match params.iqn.filter(|iqn| !iqn.is_empty()) {
        Some(iqn) => checked(iqn)?,
        None => format!("iqn.2008-10.org.openstack:{}", uuid::Uuid::new_v4()),
    };
    let (instance_info, properties) = known_node(agent);
    let disk = root_disk(agent, Some(&instance_info), Some(&properties)).await?;
    let options = agent.options.clone();
    let export = Export {
        iqn: iqn.clone(),
        ip: options.listen.ip(),
        port: params.portal_port.unwrap_or(ISCSI_PORT),
        device: disk.path.clone(),
    };
    let mut live = agent.iscsi.live.lock().await;
    if live.as_mut().is_some_and(|live| live.export == export && live.disk == disk && live.is_up(&options)) {
        return answer(iqn);
    }
    agent.set_written(None);
    *agent.iscsi.lock() = Some(disk.clone());
    let old = live.take();
    *live = Some(
        blocking(move || {
            let up = old.is_none().then(|| found(&export, &options)).flatten();
            if let Some(by) = up {
                say(format!("iscsi target {} is still up", export.iqn));
                return Ok(Live { export, disk, by });
            }
            stop(old, &options)?;
            free(&disk, &options)?;
            if params.wipe_disk_metadata {
                erase::wipe_metadata(&disk, &options.sys)
                    .map_err(|error| Failure::Iscsi(format!("wiping {}: {error}", disk.name())))?;
            }
            let by = up_with(&export, &options)?;
            say(format!("iscsi target {} port={} disk={}", export.iqn, export.port, disk.name()));
            Ok(Live { export, disk, by })
        })
        .await?,
    );
    answer(iqn)
}

fn answer(iscsi_target_iqn: String) -> Result<Value, Failure> {
    to_value(StartIscsiTargetResult { iscsi_target_iqn })
}

/// Ends the target, if there is one, and reads what was written: the partition table first of all.
/// Errors: `Iscsi` when something does not let go of the disk.
pub(crate) async fn take_back(agent: &Agent) -> Result<(), Failure> {
    let mut live = agent.iscsi.live.lock().await;
    let options = agent.options.clone();
    let old = live.take();
    let disk = blocking(move || {
        let mut disk = old.as_ref().map(|live| live.disk.clone());
        if disk.is_none()
            && let Some(device) = lio::device(&options)
        {
            // exported by the agent before this one
            disk = disk::list(&options.sys, &options.dev).into_iter().find(|disk| disk.path == device);
        }
        let stopped = stop(old, &options)?;
        if let Some(disk) = disk.as_ref().filter(|_| stopped) {
            settle(disk)?;
            say(format!("iscsi target taken back, disk={}", disk.name()));
        }
        Ok(disk)
    })
    .await?;
    if disk.is_some() {
        *agent.iscsi.lock() = disk;
    }
    Ok(())
}

impl Live {
    fn is_up(&mut self, options: &Options) -> bool {
        match &mut self.by {
            By::Lio => lio::serves(&self.export, options),
            By::Tgt(tgtd) => tgtd.serves(&self.export),
        }
    }
}

/// The target that an agent before this one left.
fn found(export: &Export, options: &Options) -> Option<By> {
    if lio::serves(export, options) {
        return Some(By::Lio);
    }
    let mut tgtd = tgt::Tgtd::left_over(export)?;
    tgtd.serves(export).then_some(By::Tgt(tgtd))
}

fn up_with(export: &Export, options: &Options) -> Result<By, Failure> {
    match lio::prepare(options) {
        Ok(()) => lio::start(export, options).map(|()| By::Lio),
        Err(reason) => tgt::Tgtd::start(export, &reason).map(By::Tgt),
    }
}

/// True if there was something to stop.
fn stop(old: Option<Live>, options: &Options) -> Result<bool, Failure> {
    let mut stopped = lio::stop(options)?;
    match old.map(|old| old.by) {
        Some(By::Tgt(tgtd)) => {
            tgtd.stop()?;
            stopped = true;
        }
        Some(By::Lio) | None => {}
    }
    Ok(stopped)
}

/// Letters, digits and what RFC 3722 lets stand between them: the name becomes a folder's and a tool's argument.
fn checked(iqn: String) -> Result<String, Failure> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    if iqn.len() > NAME_BYTES || !iqn.starts_with(char::is_alphanumeric) || !iqn.chars().all(allowed) {
        let text =
            "iqn must be a target's name: letters, digits, and . - : _ between them, at most 223 bytes";
        return Err(Failure::Parameters(text.to_owned()));
    }
    Ok(iqn)
}

/// Makes sure that nothing else has the disk: neither a file system nor an array. Errors: `Iscsi`.
fn free(disk: &Disk, options: &Options) -> Result<(), Failure> {
    let is_device = std::fs::metadata(&disk.path).is_ok_and(|meta| meta.file_type().is_block_device());
    let mut open = OpenOptions::new();
    open.read(true).write(true);
    if is_device {
        // on a block device, without O_CREAT, it means: fail if it is in use
        open.custom_flags(O_EXCL);
    }
    let opened = open.open(&disk.path).and_then(|file| {
        disk::same_device(&file, disk)?;
        disk::unchanged(disk, &options.sys)
    });
    opened.map_err(|error| {
        let why = if error.raw_os_error() == Some(EBUSY) {
            "it is in use: something is mounted from it or built on it".to_owned()
        } else {
            error.to_string()
        };
        Failure::Iscsi(format!("{} cannot be exported: {why}", disk.name()))
    })
}

/// Lets the kernel see what others have written behind its back. Errors: `Iscsi`.
fn settle(disk: &Disk) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Iscsi(format!("reading {} again: {error}", disk.name()));
    let began = Instant::now();
    loop {
        let mut file = table::open(disk)?;
        file.sync_all().map_err(failed)?;
        if !file.metadata().is_ok_and(|meta| meta.file_type().is_block_device()) {
            return Ok(());
        }
        erase::flush_buffers(&file).map_err(failed)?;
        match gptman::linux::reread_partition_table(&mut file) {
            Ok(()) => return Ok(()),
            // whoever looks at new disks may have it open for a moment
            Err(error) if began.elapsed() >= RELEASE => {
                return Err(Failure::Iscsi(format!(
                    "reading the partition table of {}: {error}",
                    disk.name()
                )));
            }
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_paths_or_flags_are_refused() {
        for good in ["iqn.2008-10.org.openstack:1be26c0b", "iqn-1be26c0b-03f2", "eui.02004567A425678D"] {
            assert_eq!(checked(good.to_owned()).expect("good"), good);
        }
        let long = "i".repeat(NAME_BYTES + 1);
        for bad in ["", "..", "../x", "-x", "a/b", "a b", "a\nb", "a,t,0x0001", &long] {
            assert!(matches!(checked(bad.to_owned()), Err(Failure::Parameters(_))), "{bad:?}");
        }
    }
}
