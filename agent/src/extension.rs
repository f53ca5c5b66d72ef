//! What each command does.

use std::sync::Arc;
use std::time::Duration;

use ferric_agent_wire::{
    FinalizeRescueParams, ImageInfo, InstallBootloaderParams, PartitionUuids, StartIscsiTargetParams, Step,
    StepParams, SystemLogs, WriteImageArgs, WritePhase, names,
};
use serde_json::{Map, Value};
use sha2::Digest;

use crate::agent::{Agent, Written};
use crate::command::{Busy, Entry};
use crate::console::say;
use crate::disk::Disk;
use crate::erase::targets;
use crate::error::Failure;
use crate::image::fetch::Source;
use crate::image::hash::Expected;
use crate::image::{self, Job, Place, ProgressCell};
use crate::partition::layout::Wanted;
use crate::partition::loader::{self, Install};
use crate::partition::{self, Plan};
use crate::steps::{self, Activity};
use crate::{boot, configdrive, hints, inject, inspect, iscsi, logs, rescue, table};

/// The longest text of a checksum file, bytes.
const CHECKSUM_FILE_BYTES: u64 = 1 << 20;

/// Time for the answer to leave before the power goes.
const BEFORE_POWER_OFF: Duration = Duration::from_millis(500);

/// Why a command was not even started.
#[derive(Debug)]
pub enum Rejected {
    /// No such command.
    Unknown,
    /// Another one is running.
    Busy(Busy),
    /// Its parameters are wrong.
    Invalid(Failure),
}

/// Starts a command, or carries it out if it is quick.
pub async fn dispatch(
    agent: &Arc<Agent>,
    name: &str,
    params: Map<String, Value>,
) -> Result<Arc<Entry>, Rejected> {
    let commands = &agent.commands;
    match name {
        names::GET_CLEAN_STEPS => Ok(commands.record(name, steps::list(Activity::Clean))),
        names::GET_DEPLOY_STEPS => Ok(commands.record(name, steps::list(Activity::Deploy))),
        names::GET_SERVICE_STEPS => Ok(commands.record(name, steps::list(Activity::Service))),
        names::EXECUTE_CLEAN_STEP => run_step(agent, name, Activity::Clean, params),
        names::EXECUTE_DEPLOY_STEP => run_step(agent, name, Activity::Deploy, params),
        names::EXECUTE_SERVICE_STEP => run_step(agent, name, Activity::Service, params),
        names::PREPARE_IMAGE => {
            let args: WriteImageArgs = read(params)?;
            start(agent, name, move |agent, progress| async move {
                let (instance_info, properties) = known_node(&agent);
                write_image(&agent, &progress, args, Some(&instance_info), Some(&properties)).await
            })
        }
        names::INSTALL_BOOTLOADER => {
            let params: InstallBootloaderParams = read(params)?;
            start(agent, name, move |agent, _| async move { install_bootloader(&agent, params).await })
        }
        names::GET_PARTITION_UUIDS => Ok(commands.record(name, partition_uuids(agent).await)),
        names::SYNC => Ok(commands.record(name, sync(agent).await)),
        names::START_ISCSI_TARGET => {
            let params: StartIscsiTargetParams = read(params)?;
            // sync, but never beside one that works on the disk
            let exporting = agent.clone();
            let work = || async move { iscsi::start(&exporting, params).await };
            let entry = commands.start(name, None, work).map_err(Rejected::Busy)?;
            entry.finished().await;
            Ok(entry)
        }
        names::FINALIZE_RESCUE => {
            let outcome = finalize_rescue(agent, read(params)?).await;
            let rescued = outcome.is_ok();
            let entry = commands.record(name, outcome);
            if rescued {
                agent.leave();
            }
            Ok(entry)
        }
        names::LOCKDOWN if agent.options.machine && partition::tool::find_applet("ip").is_none() => {
            let text = "this ramdisk has no tool to take the network down: not locked".to_owned();
            Ok(commands.record(name, Err(Failure::Unsupported(text))))
        }
        names::LOCKDOWN => {
            let entry = commands.record(name, sync(agent).await);
            agent.lock_down();
            Ok(entry)
        }
        names::COLLECT_SYSTEM_LOGS => {
            let roots = agent.options.machine.then(|| inspect::roots(agent));
            let collected = blocking(move || {
                let system_logs = logs::collect(roots.as_ref()).map_err(Failure::io("collecting logs"))?;
                to_value(SystemLogs { system_logs })
            });
            Ok(commands.record(name, collected.await))
        }
        names::POWER_OFF => start_beside(agent, name, move |agent, _| async move {
            if let Err(failure) = iscsi::take_back(&agent).await {
                tracing::warn!(%failure, "the power goes all the same");
            }
            tokio::time::sleep(BEFORE_POWER_OFF).await;
            say("power off");
            let power_off = agent.options.power_off.clone();
            blocking(move || {
                nix::unistd::sync();
                power_off();
                Ok(Value::Null)
            })
            .await
        }),
        _ => Err(Rejected::Unknown),
    }
}

fn run_step(
    agent: &Arc<Agent>,
    name: &str,
    activity: Activity,
    params: Map<String, Value>,
) -> Result<Arc<Entry>, Rejected> {
    let params: StepParams = read(params)?;
    let step: Step = read(params.step.clone())?;
    start(agent, name, move |agent, progress| async move {
        steps::execute(&agent, &progress, activity, params, step).await
    })
}

/// Starts a command that works on the disks: what is exported is taken back first.
fn start<F>(
    agent: &Arc<Agent>,
    name: &str,
    work: impl FnOnce(Arc<Agent>, Arc<ProgressCell>) -> F + Send + 'static,
) -> Result<Arc<Entry>, Rejected>
where
    F: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    start_beside(agent, name, |agent, progress| async move {
        iscsi::take_back(&agent).await?;
        work(agent, progress).await
    })
}

/// Starts a command that goes on beside an exported disk, or sees to it itself.
fn start_beside<F>(
    agent: &Arc<Agent>,
    name: &str,
    work: impl FnOnce(Arc<Agent>, Arc<ProgressCell>) -> F,
) -> Result<Arc<Entry>, Rejected>
where
    F: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    let progress = Arc::new(ProgressCell::default());
    let shown = (name == names::PREPARE_IMAGE || name.ends_with("_step")).then(|| progress.clone());
    agent.commands.start(name, shown, || work(agent.clone(), progress)).map_err(Rejected::Busy)
}

fn read<T: serde::de::DeserializeOwned>(params: impl Into<Value>) -> Result<T, Rejected> {
    // the text of a JSON error may quote a value, and values may be secrets: only say where
    serde_json::from_value(params.into()).map_err(|error| {
        let text = error.to_string();
        let text = text.split(',').next().unwrap_or_default();
        let text = if text.contains('"') { "a value has the wrong type" } else { text };
        Rejected::Invalid(Failure::Parameters(text.to_owned()))
    })
}

/// The arguments of a step. Errors: `Parameters`.
pub(crate) fn read_args<T: serde::de::DeserializeOwned>(args: Map<String, Value>) -> Result<T, Failure> {
    read(args).map_err(|rejected| match rejected {
        Rejected::Invalid(failure) => failure,
        Rejected::Unknown | Rejected::Busy(_) => Failure::Parameters("unreadable".to_owned()),
    })
}

pub(crate) fn to_value(result: impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(result).map_err(|error| Failure::Unsupported(error.to_string()))
}

/// Runs what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| Failure::io("a worker died")(std::io::Error::other(error)))?
}

/// Finds the disk, writes the image and the config drive, completes the partition table.
pub(crate) async fn write_image(
    agent: &Agent,
    progress: &ProgressCell,
    args: WriteImageArgs,
    instance_info: Option<&Value>,
    properties: Option<&Value>,
) -> Result<Value, Failure> {
    let info = &args.image_info;
    let config = agent.session().map(|session| session.config).unwrap_or_default();
    let limits = &agent.options.limits;
    let url = info.urls.first().ok_or_else(|| Failure::Parameters("image_info has no urls".to_owned()))?;
    let source = Source::new(agent.client.clone(), url, limits.clone())?
        .with_login(info.image_server_user.clone(), info.image_server_password.clone());
    let expected = expected_hash(agent, info, &source, config.agent_md5_checksum_enable).await?;
    let disk = root_disk(agent, instance_info, properties).await?;
    say(format!("disk {} bytes={} serial={}", disk.name(), disk.size, disk.serial));
    let given = args.configdrive.as_ref().or(info.configdrive.as_ref()).filter(|c| !c.reveal().is_empty());
    let drive = match given {
        Some(given) => Some(configdrive::load(&agent.client, given.reveal(), limits).await?),
        None => None,
    };
    let plan =
        if info.is_whole_disk() { None } else { Some(plan(agent, info, &disk, drive.is_some()).await?) };
    let layout = plan.as_ref().map(|plan| plan.layout.clone());
    let hash = drive.as_deref().map(|drive| sha2::Sha256::digest(drive).into());
    let done =
        Written { expected: expected.clone(), disk: disk.clone(), layout, drive: hash, touched: false };
    if agent.written().as_ref() == Some(&done) {
        say(format!("image {} is already on {}", source.shown(), disk.name()));
    } else {
        agent.set_written(None);
        let permitted = &config.permitted_image_formats;
        let place = plan.as_ref().map_or(Place::Disk, |plan| Place::Within {
            span: plan.root(),
            keep_table: plan.keeps_something(),
        });
        let job = Job { source: source.clone(), info, expected, permitted, disk: &disk, place, progress };
        let bytes = image::write(job).await?;
        say(format!("write done disk={} image_bytes={bytes}", disk.name()));
        agent.set_written(Some(done));
    }
    progress.update(|p| p.phase = WritePhase::Finishing);
    let (target, sys, dev) = (disk.clone(), agent.options.sys.clone(), agent.options.dev.clone());
    blocking(move || match plan {
        None => finish_disk(&target, drive.as_deref()),
        Some(plan) => partition::finish(&target, &plan, drive.as_deref(), &sys, &dev),
    })
    .await?;
    progress.update(|p| p.phase = WritePhase::Done);
    Ok(Value::from(format!("prepare_image: image ({}) written to device {}", info.id, disk.name())))
}

/// Where the parts of a partition image go, decided before anything is written.
async fn plan(agent: &Agent, info: &ImageInfo, disk: &Disk, config_drive: bool) -> Result<Plan, Failure> {
    let uefi = agent.options.sys.join("firmware/efi").exists();
    let wanted = Wanted::read(info, uefi, config_drive)?;
    let disk = disk.clone();
    blocking(move || Plan::new(&disk, wanted)).await
}

/// Completes the partition table and adds the config drive. Without one a GPT that cannot be completed is no reason to
/// refuse an image whose bytes are right.
fn finish_disk(disk: &Disk, drive: Option<&[u8]>) -> Result<(), Failure> {
    match (table::relocate_backup(disk), drive) {
        (Ok(_), _) => {}
        (Err(failure), None) => tracing::warn!(%failure, "the partition table stays as the image brought it"),
        (Err(failure), Some(_)) => return Err(failure),
    }
    if let Some(content) = drive {
        configdrive::write(disk, content)?;
    }
    table::tell_kernel(disk)
}

/// All is on the disk afterwards, also what came by iSCSI; that is over then.
async fn sync(agent: &Agent) -> Result<Value, Failure> {
    iscsi::take_back(agent).await?;
    blocking(|| {
        nix::unistd::sync();
        Ok(Value::Null)
    })
    .await
}

async fn finalize_rescue(agent: &Agent, params: FinalizeRescueParams) -> Result<Value, Failure> {
    let Some(etc) = agent.options.rescue_etc.clone() else {
        return Err(Failure::Unsupported("there is nobody to rescue outside a ramdisk".to_owned()));
    };
    let state = agent.options.state.clone();
    blocking(move || rescue::finalize(&etc, &state, &params)).await?;
    Ok(Value::Null)
}

async fn expected_hash(
    agent: &Agent,
    info: &ImageInfo,
    image: &Source,
    md5: bool,
) -> Result<Expected, Failure> {
    let checksum = info.checksum.as_deref().unwrap_or_default();
    if info.declared_hash().is_some() || !checksum.contains("://") {
        return Expected::of(info, md5);
    }
    let file = Source::new(agent.client.clone(), checksum, agent.options.limits.clone())?;
    let text = file.read_small(CHECKSUM_FILE_BYTES).await?;
    let shown = image.shown();
    let name = shown.rsplit('/').next().unwrap_or_default();
    Expected::in_checksum_file(&String::from_utf8_lossy(&text), name, md5)
}

async fn install_bootloader(agent: &Agent, params: InstallBootloaderParams) -> Result<Value, Failure> {
    let uefi = params.target_boot_mode.as_deref() == Some("uefi");
    // a whole disk is named by its 32-bit identifier, a file system by its UUID
    let file_system = params.root_uuid.clone().filter(|uuid| !uuid.is_empty() && !uuid.starts_with("0x"));
    if let Some(root_uuid) = file_system {
        if params.prep_boot_part_uuid.as_ref().is_some_and(|uuid| !uuid.is_empty()) {
            return Err(Failure::Unsupported("PReP partitions (POWER) are not supported".to_owned()));
        }
        let disk = match written_disk(agent) {
            Ok(disk) => disk,
            // a rebuild may come to a ramdisk that has written nothing itself
            Err(_) => {
                let (instance_info, properties) = known_node(agent);
                named_disk(agent, Some(&instance_info), Some(&properties)).await?
            }
        };
        let options = agent.options.clone();
        agent.touch_written();
        return blocking(move || {
            let esp_uuid = params.efi_system_part_uuid.as_deref();
            let (sys, dev, scratch) = (&options.sys, &options.dev, &options.state);
            let disk = &disk;
            loader::install(&Install { disk, root_uuid: &root_uuid, esp_uuid, uefi, sys, dev, scratch })
        })
        .await
        .map(Value::from);
    }
    if !uefi {
        return Ok(Value::from("nothing to install: a whole-disk image brings its own BIOS boot loader"));
    }
    let disk = written_disk(agent)?;
    let sys = agent.options.sys.clone();
    blocking(move || boot::install(&disk, &sys)).await.map(Value::from)
}

/// Fetches what is to be fetched, then puts the files into the file systems of the disk just written, or else of the
/// disk that root device hints name.
pub(crate) async fn inject_files(
    agent: &Agent,
    instance_info: Option<&Value>,
    properties: Option<&Value>,
    files: Option<&Value>,
) -> Result<Value, Failure> {
    let mut tasks = Vec::new();
    for wanted in inject::gather(properties, files)? {
        let fetched = match wanted.url() {
            Some(url) => {
                let source = Source::new(agent.client.clone(), url, agent.options.limits.clone())?;
                Some(source.read_small(inject::FILE_BYTES).await?)
            }
            None => None,
        };
        tasks.push(wanted.check(fetched)?);
    }
    let disk = match filled_disk(agent) {
        Some(disk) => disk,
        None => named_disk(agent, instance_info, properties).await?,
    };
    let options = agent.options.clone();
    agent.touch_written();
    blocking(move || {
        let place =
            inject::Place { disk: &disk, sys: &options.sys, dev: &options.dev, scratch: &options.state };
        inject::inject(&place, &tasks, &mut partition::mounts::Machine)
    })
    .await
}

/// `instance_info` and `properties` of the node as the lookup told them.
pub(crate) fn known_node(agent: &Agent) -> (Value, Value) {
    let node = agent.session().map(|session| session.node).unwrap_or_default();
    (node.instance_info.into(), node.properties.into())
}

/// The disk that root device hints choose, or the rule without hints; never one to keep: what cleaning must not erase,
/// nothing else may write. Errors: `Parameters`, `NoDisk`.
pub(crate) async fn root_disk(
    agent: &Agent,
    instance_info: Option<&Value>,
    properties: Option<&Value>,
) -> Result<Disk, Failure> {
    let hints = hints::gather(instance_info, properties)?;
    let kept = targets::skip_hints(properties.unwrap_or(&Value::Null))?;
    agent.disks.choose_except(&hints, &kept).await
}

/// The same where this agent has written nothing: only hints can say which disk holds the system, a guess could hit a
/// disk with somebody's data. Errors: `Boot` without hints.
async fn named_disk(
    agent: &Agent,
    instance_info: Option<&Value>,
    properties: Option<&Value>,
) -> Result<Disk, Failure> {
    if hints::gather(instance_info, properties)?.is_empty() {
        return Err(Failure::Boot(
            "no image has been written since this ramdisk started, and no root device hints say which disk is meant"
                .to_owned(),
        ));
    }
    root_disk(agent, instance_info, properties).await
}

/// The disk that this agent wrote, or that the conductor wrote by iSCSI.
fn filled_disk(agent: &Agent) -> Option<Disk> {
    agent.written().map(|written| written.disk).or_else(|| agent.iscsi.last())
}

fn written_disk(agent: &Agent) -> Result<Disk, Failure> {
    let nothing = || Failure::Boot("no image has been written since this ramdisk started".to_owned());
    filled_disk(agent).ok_or_else(nothing)
}

async fn partition_uuids(agent: &Agent) -> Result<Value, Failure> {
    let Some(written) = agent.written() else { return to_value(PartitionUuids::default()) };
    if let Some(layout) = written.layout {
        return blocking(move || partition::uuids(&written.disk, &layout)).await;
    }
    let root = blocking(move || table::identifier(&written.disk)).await?;
    to_value(PartitionUuids { root: Some(root), ..PartitionUuids::default() })
}
