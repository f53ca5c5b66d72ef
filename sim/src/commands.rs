//! What the simulated agent can be told to do.

use std::sync::Arc;
use std::time::Duration;

use ferric_agent_wire::{
    CleanStepResult, CleanSteps, CommandError, CommandRequest, DeployStepResult, DeploySteps, PartitionUuids,
    Step, StepParams, SystemLogs, WriteImageArgs, WritePhase, WriteProgress, error_type, names,
};
use serde_json::Value;

use crate::agent::{Agent, Refusal, chain, refusal};
use crate::disk::{Digests, Written};
use crate::world::Machine;

/// A gzipped tar archive without members, base64.
const EMPTY_LOGS: &str = "H4sIAAAAAAAC/2NgGAWjYBSMVAAALq+17wAEAAA=";

/// A command that was understood.
pub(crate) enum Work {
    DeploySteps,
    CleanSteps,
    WriteImage { args: Box<WriteImageArgs>, echo: Option<Value> },
    EraseDisk { echo: Value },
    PartitionUuids,
    InstallBootloader,
    Sync,
    PowerOff,
    CollectLogs,
}

/// Understands a request, or says why not.
pub(crate) fn plan(request: &CommandRequest) -> Result<Work, Refusal> {
    match request.name.as_str() {
        names::GET_DEPLOY_STEPS => Ok(Work::DeploySteps),
        names::GET_CLEAN_STEPS => Ok(Work::CleanSteps),
        names::EXECUTE_DEPLOY_STEP => {
            let (step, echo) = step_of(request)?;
            match step.step.as_str() {
                "write_image" => Ok(Work::WriteImage {
                    args: Box::new(params(Value::Object(step.args))?),
                    echo: Some(echo),
                }),
                other => Err(refusal(404, error_type::INVALID_COMMAND, format!("no deploy step {other}"))),
            }
        }
        names::EXECUTE_CLEAN_STEP => {
            let (step, echo) = step_of(request)?;
            match step.step.as_str() {
                "erase_devices" | "erase_devices_metadata" => Ok(Work::EraseDisk { echo }),
                other => Err(refusal(404, error_type::INVALID_COMMAND, format!("no clean step {other}"))),
            }
        }
        names::PREPARE_IMAGE => Ok(Work::WriteImage {
            args: Box::new(params(Value::Object(request.params.clone()))?),
            echo: None,
        }),
        names::GET_PARTITION_UUIDS => Ok(Work::PartitionUuids),
        names::INSTALL_BOOTLOADER => Ok(Work::InstallBootloader),
        names::SYNC => Ok(Work::Sync),
        names::POWER_OFF => Ok(Work::PowerOff),
        names::COLLECT_SYSTEM_LOGS => Ok(Work::CollectLogs),
        other => Err(refusal(404, error_type::INVALID_COMMAND, format!("no command {other}"))),
    }
}

fn params<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value)
        .map_err(|error| refusal(400, error_type::INVALID_PARAMETERS, error.to_string()))
}

fn step_of(request: &CommandRequest) -> Result<(Step, Value), Refusal> {
    let given: StepParams = params(Value::Object(request.params.clone()))?;
    Ok((params(given.step.clone())?, given.step))
}

fn failure(kind: &str, details: impl Into<String>) -> CommandError {
    CommandError { kind: kind.to_owned(), code: 500, message: kind.to_owned(), details: details.into() }
}

fn value(of: impl serde::Serialize) -> Result<Value, CommandError> {
    serde_json::to_value(of).map_err(|error| failure(error_type::EXECUTION, error.to_string()))
}

impl Work {
    /// Whether it goes on after the request for it was answered.
    pub(crate) fn is_async(&self) -> bool {
        match self {
            Work::WriteImage { .. } | Work::EraseDisk { .. } | Work::InstallBootloader | Work::PowerOff => {
                true
            }
            Work::DeploySteps | Work::CleanSteps | Work::PartitionUuids | Work::Sync | Work::CollectLogs => {
                false
            }
        }
    }

    pub(crate) async fn run(
        self,
        agent: &Agent,
        machine: &Arc<Machine>,
        id: &str,
    ) -> Result<Value, CommandError> {
        match self {
            Work::DeploySteps => value(DeploySteps {
                deploy_steps: [(MANAGER.to_owned(), vec![step("deploy", "write_image", 0)])].into(),
                hardware_manager_version: version(),
            }),
            Work::CleanSteps => value(CleanSteps {
                clean_steps: [(
                    MANAGER.to_owned(),
                    vec![step("deploy", "erase_devices", 10), step("deploy", "erase_devices_metadata", 99)],
                )]
                .into(),
                hardware_manager_version: version(),
            }),
            Work::WriteImage { args, echo } => {
                let text = write_image(agent, machine, id, &args).await?;
                match echo {
                    Some(deploy_step) => value(DeployStepResult { deploy_result: text.into(), deploy_step }),
                    None => Ok(text.into()),
                }
            }
            Work::EraseDisk { echo } => {
                machine.disk(|disk| disk.written = None);
                value(CleanStepResult { clean_result: Value::Null, clean_step: echo })
            }
            Work::PartitionUuids => value(PartitionUuids::default()),
            Work::InstallBootloader | Work::Sync => Ok(Value::Null),
            Work::PowerOff => {
                let delay = machine
                    .chance(|chance| chance.between(Duration::from_millis(50), Duration::from_millis(400)));
                machine.power_off_after(agent.boot, delay);
                Ok(Value::Null)
            }
            Work::CollectLogs => value(SystemLogs { system_logs: EMPTY_LOGS.to_owned() }),
        }
    }
}

const MANAGER: &str = "SimulatedHardwareManager";

fn version() -> std::collections::BTreeMap<String, String> {
    [(MANAGER.to_owned(), "1".to_owned())].into()
}

fn step(interface: &str, name: &str, priority: i64) -> Step {
    Step { interface: interface.to_owned(), step: name.to_owned(), priority, ..Step::default() }
}

/// Downloads the image, hashes it at the disk's pace, and remembers it as written.
async fn write_image(
    agent: &Agent,
    machine: &Arc<Machine>,
    id: &str,
    args: &WriteImageArgs,
) -> Result<String, CommandError> {
    let image = &args.image_info;
    let url = image.urls.first().ok_or_else(|| failure(error_type::DOWNLOAD, "image_info holds no URL"))?;
    let mut progress = WriteProgress::default();
    agent.set_write_progress(id, progress);
    let dies = machine.dies_in_this_write();
    let breaks = !dies && machine.breaks_this_download();
    // from the first byte on, whatever the disk held is gone
    machine.disk(|disk| disk.written = None);

    let download = |error: reqwest::Error| failure(error_type::DOWNLOAD, format!("{url}: {}", chain(&error)));
    let mut answer = machine.world.http.get(url).send().await.map_err(download)?;
    if !answer.status().is_success() {
        return Err(failure(error_type::DOWNLOAD, format!("{url}: the server answers {}", answer.status())));
    }
    progress.bytes_total = answer.content_length();
    let size = machine.disk(|disk| disk.size);
    let too_large = |bytes: u64| {
        failure(
            error_type::WRITE,
            format!("the image has {bytes} bytes or more, the disk /dev/sda only {size}"),
        )
    };
    if let Some(total) = progress.bytes_total.filter(|total| *total > size) {
        return Err(too_large(total));
    }

    progress.phase = WritePhase::Writing;
    let halfway = progress.bytes_total.unwrap_or(0) / 2;
    let rate = machine.world.disk_bytes_per_second.map(|rate| rate / u64::from(machine.faults.slower.max(1)));
    let started = tokio::time::Instant::now();
    let mut digests = Digests::new(image.declared_hash());
    while let Some(chunk) = answer.chunk().await.map_err(download)? {
        digests.update(&chunk);
        progress.bytes_done += chunk.len() as u64;
        agent.set_write_progress(id, progress);
        if progress.bytes_done > size {
            return Err(too_large(progress.bytes_done));
        }
        if progress.bytes_done >= halfway {
            if dies {
                machine.agent_died(agent.boot);
                std::future::pending::<()>().await;
            }
            if breaks {
                let text = format!("{url}: connection lost after {} bytes", progress.bytes_done);
                return Err(failure(error_type::DOWNLOAD, text));
            }
        }
        if let Some(rate) = rate.filter(|rate| *rate > 0) {
            let due = Duration::from_secs_f64(progress.bytes_done as f64 / rate as f64);
            tokio::time::sleep_until(started + due).await;
        }
    }
    progress.phase = WritePhase::Verifying;
    agent.set_write_progress(id, progress);
    let sha256 = digests.finish().map_err(|(kind, details)| failure(kind, details))?;
    let configdrive = args.configdrive.as_ref().is_some_and(|drive| !drive.reveal().is_empty());
    machine.disk(|disk| {
        disk.written = Some(Written { url: url.clone(), bytes: progress.bytes_done, sha256, configdrive });
        disk.writes += 1;
    });
    Ok(format!("image {} written to /dev/sda", image.id))
}
