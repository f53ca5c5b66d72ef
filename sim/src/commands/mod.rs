//! What the simulated agent can be told to do.

mod iscsi;
mod steps;
mod write;

use std::sync::Arc;
use std::time::Duration;

use ferric_agent_wire::{
    CommandError, CommandRequest, FinalizeRescueParams, PartitionUuids, Secret, StartIscsiTargetParams,
    SystemLogs, WriteImageArgs, error_type, names,
};
use serde_json::Value;

use self::steps::{Kind, StepWork};
use crate::agent::{Agent, Refusal, refusal};
use crate::world::Machine;

/// The simulated agent's only hardware manager.
pub(crate) const MANAGER: &str = "SimulatedHardwareManager";

/// A gzipped tar archive without members, base64.
const EMPTY_LOGS: &str = "H4sIAAAAAAAC/2NgGAWjYBSMVAAALq+17wAEAAA=";

/// How long an agent goes on after it let somebody in: long enough for its answer to get away.
const FAREWELL: Duration = Duration::from_millis(100);

/// A command that was understood.
pub(crate) enum Work {
    ListSteps(Kind),
    Step(Box<StepWork>),
    WriteImage(Box<WriteImageArgs>),
    PartitionUuids,
    InstallBootloader,
    RunImage,
    Sync,
    PowerOff,
    Lockdown,
    CollectLogs,
    FinalizeRescue(Secret),
    StartIscsiTarget(StartIscsiTargetParams),
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It failed.
    Failed(CommandError),
    /// The step list is another by now.
    VersionMismatch(CommandError),
}

impl From<CommandError> for Trouble {
    fn from(error: CommandError) -> Self {
        Self::Failed(error)
    }
}

/// Understands a request, or says why not.
pub(crate) fn plan(request: &CommandRequest) -> Result<Work, Refusal> {
    match request.name.as_str() {
        names::GET_DEPLOY_STEPS => Ok(Work::ListSteps(Kind::Deploy)),
        names::GET_CLEAN_STEPS => Ok(Work::ListSteps(Kind::Clean)),
        names::GET_SERVICE_STEPS => Ok(Work::ListSteps(Kind::Service)),
        names::EXECUTE_DEPLOY_STEP => steps::plan(Kind::Deploy, request),
        names::EXECUTE_CLEAN_STEP => steps::plan(Kind::Clean, request),
        names::EXECUTE_SERVICE_STEP => steps::plan(Kind::Service, request),
        names::PREPARE_IMAGE => params(request).map(|args| Work::WriteImage(Box::new(args))),
        names::GET_PARTITION_UUIDS => Ok(Work::PartitionUuids),
        names::INSTALL_BOOTLOADER => Ok(Work::InstallBootloader),
        "standby.run_image" => Ok(Work::RunImage),
        names::SYNC => Ok(Work::Sync),
        names::POWER_OFF => Ok(Work::PowerOff),
        names::LOCKDOWN => Ok(Work::Lockdown),
        names::COLLECT_SYSTEM_LOGS => Ok(Work::CollectLogs),
        names::FINALIZE_RESCUE => {
            let given: FinalizeRescueParams = params(request)?;
            if given.rescue_password.reveal().is_empty() {
                return Err(refusal(400, error_type::INVALID_PARAMETERS, "rescue_password is missing"));
            }
            Ok(Work::FinalizeRescue(given.rescue_password))
        }
        names::START_ISCSI_TARGET => params(request).map(Work::StartIscsiTarget),
        other => Err(refusal(404, error_type::INVALID_COMMAND, format!("no command {other}"))),
    }
}

/// The parameters as what they have to be.
fn params<T: serde::de::DeserializeOwned>(request: &CommandRequest) -> Result<T, Refusal> {
    read(Value::Object(request.params.clone()))
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value)
        .map_err(|error| refusal(400, error_type::INVALID_PARAMETERS, error.to_string()))
}

fn failure(kind: &str, details: impl Into<String>) -> CommandError {
    CommandError { kind: kind.to_owned(), code: 500, message: kind.to_owned(), details: details.into() }
}

fn value(of: impl serde::Serialize) -> Result<Value, Trouble> {
    serde_json::to_value(of).map_err(|error| failure(error_type::EXECUTION, error.to_string()).into())
}

impl Work {
    /// Whether it goes on after the request for it was answered.
    pub(crate) fn is_async(&self) -> bool {
        match self {
            Work::Step(_)
            | Work::WriteImage(_)
            | Work::InstallBootloader
            | Work::RunImage
            | Work::PowerOff => true,
            Work::ListSteps(_)
            | Work::PartitionUuids
            | Work::Sync
            | Work::Lockdown
            | Work::CollectLogs
            | Work::FinalizeRescue(_)
            | Work::StartIscsiTarget(_) => false,
        }
    }

    /// Whether it changes the disk.
    pub(crate) fn writes(&self) -> bool {
        match self {
            Work::Step(work) => work.writes(),
            Work::WriteImage(_) | Work::InstallBootloader => true,
            Work::ListSteps(_)
            | Work::PartitionUuids
            | Work::RunImage
            | Work::Sync
            | Work::PowerOff
            | Work::Lockdown
            | Work::CollectLogs
            | Work::FinalizeRescue(_)
            | Work::StartIscsiTarget(_) => false,
        }
    }

    pub(crate) async fn run(self, agent: &Agent, machine: &Arc<Machine>, id: &str) -> Result<Value, Trouble> {
        // whoever writes is known as such until it ends, fails, or the machine loses its power
        let _writer = self.writes().then(|| Writer::begin(agent, machine));
        match self {
            Work::ListSteps(kind) => kind.list(machine),
            Work::Step(work) => work.run(agent, machine, id).await,
            Work::WriteImage(args) => Ok(write::write_image(agent, machine, id, &args).await?.into()),
            Work::PartitionUuids => {
                let made = machine.view().disk.written.and_then(|written| written.partitions);
                value(made.map_or_else(PartitionUuids::default, |made| PartitionUuids {
                    root: Some(made.root),
                    efi_system_partition: made.efi_system,
                    prep_boot_partition: None,
                }))
            }
            Work::StartIscsiTarget(given) => value(iscsi::start(agent, machine, given).await?),
            Work::InstallBootloader => install_bootloader(agent, machine).await,
            Work::Sync | Work::Lockdown => Ok(Value::Null),
            Work::RunImage => {
                let machine = machine.clone();
                // a task of its own: this one ends with the machine's power
                tokio::spawn(async move {
                    tokio::time::sleep(FAREWELL).await;
                    machine.power_cycle();
                });
                Ok(Value::Null)
            }
            Work::PowerOff => {
                let delay = machine
                    .chance(|chance| chance.between(Duration::from_millis(50), Duration::from_millis(400)));
                machine.power_off_after(agent.boot, delay);
                Ok(Value::Null)
            }
            Work::CollectLogs => value(SystemLogs { system_logs: EMPTY_LOGS.to_owned() }),
            Work::FinalizeRescue(password) => {
                let (machine, boot) = (machine.clone(), agent.boot);
                tokio::spawn(async move {
                    tokio::time::sleep(FAREWELL).await;
                    machine.enter_rescue(boot, password);
                });
                Ok(Value::Null)
            }
        }
    }
}

async fn install_bootloader(agent: &Agent, machine: &Arc<Machine>) -> Result<Value, Trouble> {
    if machine.goes_wrong(|left| &mut left.bootloader_error) {
        return Err(failure(error_type::STEP, "a simulated failure of the boot loader").into());
    }
    machine.on_disk(agent.boot, |disk| {
        if let Some(made) = disk.written.as_mut().and_then(|written| written.partitions.as_mut()) {
            made.boot_loader = true;
        }
    });
    Ok(Value::Null)
}

/// Somebody who writes to a machine's disk, for as long as it lives.
struct Writer {
    machine: Arc<Machine>,
    boot: u64,
    who: Option<u64>,
}

impl Writer {
    fn begin(agent: &Agent, machine: &Arc<Machine>) -> Self {
        let who = machine.on_disk(agent.boot, crate::disk::Disk::writer_begins);
        Self { machine: machine.clone(), boot: agent.boot, who }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(who) = self.who {
            self.machine.on_disk(self.boot, |disk| disk.writer_ends(who));
        }
    }
}
