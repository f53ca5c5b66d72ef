//! In-band steps: what the simulated agent offers and how it carries them out (deploy.md §B.12).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ferric_agent_wire::{
    CleanStepResult, CleanSteps, CommandError, CommandRequest, DeployStepResult, DeploySteps,
    ServiceStepResult, ServiceSteps, Step, StepParams, WritePhase, WriteProgress, error_type,
};
use serde_json::{Map, Value, json};

use super::{MANAGER, Trouble, Work, failure, read, value, write};
use crate::agent::{Agent, Refusal, refusal};
use crate::world::Machine;

/// What a full erasure takes as long as writing: disks that erase themselves do not write every byte.
const ERASE_BYTES: u64 = 2 << 20;
/// What an erasure of the metadata takes as long as writing.
const METADATA_BYTES: u64 = 128 << 10;
/// What any other step takes as long as writing.
const OTHER_BYTES: u64 = 512 << 10;
/// Between two reports of an erasure.
const REPORT: Duration = Duration::from_millis(50);

/// Whose steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Deploy,
    Clean,
    Service,
}

/// A step that was understood.
pub(crate) struct StepWork {
    kind: Kind,
    step: Step,
    /// As it was asked for, for the echo.
    echo: Value,
    /// The version of the step list that the conductor knows.
    version: Value,
    node: Map<String, Value>,
}

/// (interface, step, priority, abortable, argument that must be given)
type Row = (&'static str, &'static str, i64, bool, Option<&'static str>);

#[rustfmt::skip]
const DEPLOY: &[Row] = &[
    ("deploy", "write_image",            0,  false, Some("image_info")),
    ("deploy", "inject_files",           0,  false, None),
    ("deploy", "erase_devices_metadata", 0,  false, None),
    ("raid",   "apply_configuration",    0,  false, Some("raid_config")),
];

#[rustfmt::skip]
const CLEAN: &[Row] = &[
    ("deploy", "erase_devices",          10, true,  None),
    ("deploy", "erase_devices_metadata", 99, true,  None),
    ("deploy", "erase_devices_express",  0,  true,  None),
    ("deploy", "erase_pstore",           0,  true,  None),
    ("deploy", "clean_uefi_nvram",       0,  true,  None),
    ("deploy", "burnin_cpu",             0,  true,  None),
    ("deploy", "burnin_disk",            0,  true,  None),
    ("deploy", "burnin_memory",          0,  true,  None),
    ("raid",   "create_configuration",   0,  true,  None),
    ("raid",   "delete_configuration",   0,  true,  None),
];

#[rustfmt::skip]
const SERVICE: &[Row] = &[
    ("deploy", "burnin_cpu",             0,  true,  None),
    ("deploy", "burnin_memory",          0,  true,  None),
    ("deploy", "inject_files",           0,  false, None),
    ("deploy", "clean_uefi_nvram",       0,  true,  None),
];

impl Kind {
    fn rows(self) -> &'static [Row] {
        match self {
            Kind::Deploy => DEPLOY,
            Kind::Clean => CLEAN,
            Kind::Service => SERVICE,
        }
    }

    /// The answer to `get_*_steps`.
    pub(super) fn list(self, machine: &Machine) -> Result<Value, Trouble> {
        let steps = self.rows().iter().map(|(interface, step, priority, abortable, argument)| Step {
            interface: (*interface).to_owned(),
            step: (*step).to_owned(),
            priority: *priority,
            abortable: Some(*abortable),
            reboot_requested: Some(false),
            argsinfo: argument.map(|name| {
                [(name.to_owned(), json!({"description": name, "required": true}))].into_iter().collect()
            }),
            requires_ramdisk: Some(true),
            ..Step::default()
        });
        let all = BTreeMap::from([(MANAGER.to_owned(), steps.collect::<Vec<_>>())]);
        let hardware_manager_version = version(machine);
        match self {
            Kind::Deploy => value(DeploySteps { deploy_steps: all, hardware_manager_version }),
            Kind::Clean => value(CleanSteps { clean_steps: all, hardware_manager_version }),
            Kind::Service => value(ServiceSteps { service_steps: all, hardware_manager_version }),
        }
    }

    fn result(self, result: Value, step: Value) -> Result<Value, Trouble> {
        match self {
            Kind::Deploy => value(DeployStepResult { deploy_result: result, deploy_step: step }),
            Kind::Clean => value(CleanStepResult { clean_result: result, clean_step: step }),
            Kind::Service => value(ServiceStepResult { service_result: result, service_step: step }),
        }
    }
}

fn version(machine: &Machine) -> BTreeMap<String, String> {
    [(MANAGER.to_owned(), machine.manager_version().to_string())].into()
}

/// Understands a request for a step, or says why not.
pub(super) fn plan(kind: Kind, request: &CommandRequest) -> Result<Work, Refusal> {
    let given: StepParams = super::params(request)?;
    let step: Step = read(given.step.clone())?;
    let Some((.., argument)) = kind.rows().iter().find(|(_, name, ..)| *name == step.step) else {
        return Err(refusal(404, error_type::INVALID_COMMAND, format!("no {kind:?} step {}", step.step)));
    };
    if let Some(missing) = argument.filter(|name| !step.args.contains_key(*name)) {
        let text = format!("the step {} needs the argument {missing}", step.step);
        return Err(refusal(400, error_type::INVALID_PARAMETERS, text));
    }
    let version = match kind {
        Kind::Deploy => given.deploy_version,
        Kind::Clean => given.clean_version,
        Kind::Service => given.service_version,
    };
    Ok(Work::Step(Box::new(StepWork { kind, step, echo: given.step, version, node: given.node })))
}

impl StepWork {
    pub(super) fn writes(&self) -> bool {
        matches!(
            self.step.step.as_str(),
            "write_image"
                | "erase_devices"
                | "erase_devices_metadata"
                | "erase_devices_express"
                | "burnin_disk"
                | "create_configuration"
                | "delete_configuration"
                | "apply_configuration"
        )
    }

    pub(super) async fn run(self, agent: &Agent, machine: &Arc<Machine>, id: &str) -> Result<Value, Trouble> {
        self.check_version(machine)?;
        if self.step.step != "write_image" {
            self.trouble(agent, machine).await?;
        }
        let result = match self.step.step.as_str() {
            "write_image" => {
                let args = serde_json::from_value(Value::Object(self.step.args.clone()))
                    .map_err(|error| failure(error_type::INVALID_PARAMETERS, error.to_string()))?;
                write::write_image(agent, machine, id, &args).await?.into()
            }
            "erase_devices_metadata" | "erase_devices_express" => {
                erase(agent, machine, id, METADATA_BYTES).await;
                machine.on_disk(agent.boot, |disk| {
                    disk.erase_metadata();
                    disk.metadata_erased += 1;
                });
                Value::Null
            }
            "erase_devices" => {
                erase(agent, machine, id, ERASE_BYTES).await;
                machine.on_disk(agent.boot, |disk| {
                    disk.erase();
                    disk.erased += 1;
                });
                Value::Null
            }
            "create_configuration" | "apply_configuration" => {
                tokio::time::sleep(machine.world.disk_time(OTHER_BYTES, machine.faults.slower)).await;
                let wanted = self.step.args.get("raid_config").or(self.node.get("target_raid_config"));
                wanted.cloned().unwrap_or_else(|| json!({}))
            }
            "delete_configuration" => json!({}),
            _ => {
                tokio::time::sleep(machine.world.disk_time(OTHER_BYTES, machine.faults.slower)).await;
                Value::Null
            }
        };
        self.kind.result(result, self.echo)
    }

    /// Whether the conductor knows the list of steps as it is. One that never read a list is trusted.
    fn check_version(&self, machine: &Machine) -> Result<(), Trouble> {
        if machine.goes_wrong(|left| &mut left.version_mismatch) {
            machine.change_manager_version();
        }
        let own = json!(version(machine));
        let unread = self.version.is_null() || self.version.as_object().is_some_and(Map::is_empty);
        if unread || self.version == own {
            return Ok(());
        }
        let text = format!("hardware manager versions are {own}, the conductor knows {}", self.version);
        let name = "VersionMismatch".to_owned();
        Err(Trouble::VersionMismatch(CommandError {
            kind: name.clone(),
            code: 500,
            message: name,
            details: text,
        }))
    }

    async fn trouble(&self, agent: &Agent, machine: &Arc<Machine>) -> Result<(), Trouble> {
        if machine.goes_wrong(|left| &mut left.agent_dies_in_step) {
            machine.agent_died(agent.boot);
            std::future::pending::<()>().await;
        }
        if machine.goes_wrong(|left| &mut left.step_hangs) {
            std::future::pending::<()>().await;
        }
        if self.writes() && machine.weather().disk_fails {
            let text = "/dev/sda: input/output error";
            return Err(failure(error_type::ERASE, text).into());
        }
        let fails = match self.kind {
            Kind::Deploy => false,
            Kind::Clean => machine.goes_wrong(|left| &mut left.clean_step_error),
            Kind::Service => machine.goes_wrong(|left| &mut left.service_step_error),
        };
        if fails {
            let text = format!("a simulated failure of {}", self.step.step);
            return Err(failure(error_type::STEP, text).into());
        }
        Ok(())
    }
}

/// Takes as long as the disk would for `cost` bytes, and tells how far it is in bytes of the whole disk.
async fn erase(agent: &Agent, machine: &Arc<Machine>, id: &str, cost: u64) {
    let size = machine.on_disk(agent.boot, |disk| disk.size).unwrap_or(0);
    let takes = machine.world.disk_time(cost, machine.faults.slower);
    let began = tokio::time::Instant::now();
    loop {
        let share = if takes.is_zero() { 1.0 } else { began.elapsed().as_secs_f64() / takes.as_secs_f64() };
        let progress = WriteProgress {
            phase: WritePhase::Erasing,
            bytes_done: (size as f64 * share.min(1.0)) as u64,
            bytes_total: Some(size),
        };
        agent.set_write_progress(id, progress);
        if share >= 1.0 {
            return;
        }
        tokio::time::sleep(REPORT.min(takes)).await;
    }
}
