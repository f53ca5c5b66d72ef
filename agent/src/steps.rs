//! The steps of cleaning, deploying and servicing: one table, from which they are listed, checked and started.
//! Names, interfaces and priorities are those of ironic-python-agent (deploy.md §B.12).

use std::collections::BTreeMap;
use std::sync::Arc;

use ferric_agent_wire::{
    CleanStepResult, CleanSteps, DeployStepResult, DeploySteps, ServiceStepResult, ServiceSteps, Step,
    StepParams,
};
use serde_json::{Map, Value, json};

use crate::agent::Agent;
use crate::console::say;
use crate::erase::targets::Machine;
use crate::erase::{self, Extent};
use crate::error::Failure;
use crate::extension::{self, blocking, read_args, to_value};
use crate::image::ProgressCell;
use crate::{burnin, firmware};

/// Our name among the hardware managers.
const MANAGER: &str = "FerricHardwareManager";

/// The version of our step list; a conductor that knows another one reads it again.
const MANAGER_VERSION: &str = "2";

/// What steps are run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// `clean.*`
    Clean,
    /// `deploy.*`
    Deploy,
    /// `service.*`
    Service,
}

impl Activity {
    fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Deploy => "deploy",
            Self::Service => "service",
        }
    }
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Erase(Extent),
    ErasePstore,
    CleanNvram,
    BurninCpu,
    BurninMemory,
    WriteImage,
    InjectFiles,
}

/// An argument: name, description, whether it must be there.
type Argument = (&'static str, &'static str, bool);

/// One step. Its priorities by activity; None: not offered there.
struct Row {
    interface: &'static str,
    step: &'static str,
    clean: Option<i64>,
    deploy: Option<i64>,
    service: Option<i64>,
    args: &'static [Argument],
    work: Work,
}

const PATTERNS: &[Argument] =
    &[("match_patterns", "Regular expressions; boot entries whose path matches one are deleted.", false)];
const FILES: &[Argument] = &[(
    "files",
    "Files to inject: objects with path, partition, content (base64 or URL), deleted, mode, dirmode, owner, group. Added \
     to those of the node's properties.inject_files.",
    false,
)];
const IMAGE: &[Argument] = &[
    ("image_info", "Which image to write and its hash.", true),
    ("configdrive", "base64 of a gzipped file system, or its URL.", false),
];

#[rustfmt::skip]
static TABLE: &[Row] = &[
    Row { interface: "deploy", step: "erase_devices",          clean: Some(10), deploy: None,    service: None,    args: &[],     work: Work::Erase(Extent::Everything) },
    Row { interface: "deploy", step: "erase_devices_metadata", clean: Some(99), deploy: Some(0), service: None,    args: &[],     work: Work::Erase(Extent::Metadata) },
    Row { interface: "deploy", step: "erase_devices_express",  clean: Some(0),  deploy: None,    service: None,    args: &[],     work: Work::Erase(Extent::Express) },
    Row { interface: "deploy", step: "erase_pstore",           clean: Some(0),  deploy: None,    service: None,    args: &[],     work: Work::ErasePstore },
    Row { interface: "deploy", step: "clean_uefi_nvram",       clean: Some(0),  deploy: Some(0), service: Some(0), args: PATTERNS, work: Work::CleanNvram },
    Row { interface: "deploy", step: "burnin_cpu",             clean: Some(0),  deploy: None,    service: Some(0), args: &[],     work: Work::BurninCpu },
    Row { interface: "deploy", step: "burnin_memory",          clean: Some(0),  deploy: None,    service: Some(0), args: &[],     work: Work::BurninMemory },
    Row { interface: "deploy", step: "write_image",            clean: None,     deploy: Some(0), service: None,    args: IMAGE,   work: Work::WriteImage },
    Row { interface: "deploy", step: "inject_files",           clean: None,     deploy: Some(0), service: None,    args: FILES,   work: Work::InjectFiles },
];

impl Row {
    fn priority(&self, activity: Activity) -> Option<i64> {
        match activity {
            Activity::Clean => self.clean,
            Activity::Deploy => self.deploy,
            Activity::Service => self.service,
        }
    }

    fn offer(&self, activity: Activity) -> Option<Step> {
        let argument = |&(name, text, required): &Argument| {
            (name.to_owned(), json!({"description": text, "required": required}))
        };
        let argsinfo = self.args.iter().map(argument).collect::<Map<_, _>>();
        Some(Step {
            interface: self.interface.to_owned(),
            step: self.step.to_owned(),
            priority: self.priority(activity)?,
            argsinfo: Some(argsinfo).filter(|info| !info.is_empty()),
            abortable: (activity != Activity::Deploy).then_some(true),
            reboot_requested: Some(false),
            ..Step::default()
        })
    }

    /// Errors: `Parameters` for an argument that is missing, or that the step does not know.
    fn check(&self, args: &Map<String, Value>) -> Result<(), Failure> {
        let step = format!("{}.{}", self.interface, self.step);
        if let Some((name, ..)) = self.args.iter().find(|(name, _, must)| *must && !args.contains_key(*name))
        {
            return Err(Failure::Parameters(format!("step {step} needs the argument {name}")));
        }
        let known: Vec<&str> = self.args.iter().map(|(name, ..)| *name).collect();
        match args.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) if known.is_empty() => {
                Err(Failure::Parameters(format!("step {step} takes no arguments, but {key} is given")))
            }
            Some(key) => {
                let known = known.join(", ");
                Err(Failure::Parameters(format!("step {step} has no argument {key}; it takes {known}")))
            }
        }
    }
}

fn versions() -> BTreeMap<String, String> {
    BTreeMap::from([(MANAGER.to_owned(), MANAGER_VERSION.to_owned())])
}

/// The steps on offer, as `get_*_steps` answers.
pub fn list(activity: Activity) -> Result<Value, Failure> {
    let steps: Vec<Step> = TABLE.iter().filter_map(|row| row.offer(activity)).collect();
    let steps = BTreeMap::from([(MANAGER.to_owned(), steps)]);
    let hardware_manager_version = versions();
    match activity {
        Activity::Clean => to_value(CleanSteps { clean_steps: steps, hardware_manager_version }),
        Activity::Deploy => to_value(DeploySteps { deploy_steps: steps, hardware_manager_version }),
        Activity::Service => to_value(ServiceSteps { service_steps: steps, hardware_manager_version }),
    }
}

/// Runs a step to its end. The result echoes the step as it was given.
/// Errors: `VersionMismatch`, `Unsupported` for a step that is not on offer, `Parameters`, and the step's own.
pub async fn execute(
    agent: &Arc<Agent>,
    progress: &Arc<ProgressCell>,
    activity: Activity,
    params: StepParams,
    step: Step,
) -> Result<Value, Failure> {
    let known = match activity {
        Activity::Clean => &params.clean_version,
        Activity::Deploy => &params.deploy_version,
        Activity::Service => &params.service_version,
    };
    if known.as_object().is_some_and(|version| !version.is_empty()) && *known != json!(versions()) {
        return Err(Failure::VersionMismatch { ours: MANAGER_VERSION.to_owned() });
    }
    let asked = (step.interface.as_str(), step.step.as_str());
    let row = TABLE
        .iter()
        .find(|row| (row.interface, row.step) == asked && row.priority(activity).is_some())
        .ok_or_else(|| {
            let (interface, step) = asked;
            Failure::Unsupported(format!("this agent has no {} step {interface}.{step}", activity.word()))
        })?;
    row.check(&step.args)?;
    say(format!("{} step {}.{} begins", activity.word(), row.interface, row.step));
    let echo = params.step.clone();
    let result = perform(agent, progress, row.work, params, step.args).await?;
    match activity {
        Activity::Clean => to_value(CleanStepResult { clean_result: result, clean_step: echo }),
        Activity::Deploy => to_value(DeployStepResult { deploy_result: result, deploy_step: echo }),
        Activity::Service => to_value(ServiceStepResult { service_result: result, service_step: echo }),
    }
}

async fn perform(
    agent: &Arc<Agent>,
    progress: &Arc<ProgressCell>,
    work: Work,
    params: StepParams,
    args: Map<String, Value>,
) -> Result<Value, Failure> {
    let node = Value::Object(params.node.clone());
    let options = agent.options.clone();
    match work {
        Work::WriteImage => {
            let from_lookup = agent.session().map(|session| Value::from(session.node.properties));
            let properties = node.get("properties").cloned().or(from_lookup);
            let (args, instance_info) = (read_args(args)?, node.get("instance_info"));
            extension::write_image(agent, progress, args, instance_info, properties.as_ref()).await
        }
        Work::InjectFiles => {
            let (instance_info, properties) = (node.get("instance_info"), node.get("properties"));
            extension::inject_files(agent, instance_info, properties, args.get("files")).await
        }
        Work::Erase(extent) => {
            // whatever image was there is not there any more
            agent.set_written(None);
            agent.disks.settled().await?;
            let progress = progress.clone();
            blocking(move || {
                let mounts = mounts(options.machine)?;
                let machine = Machine { sys: &options.sys, dev: &options.dev, mounts: &mounts };
                erase::run(machine, &node, extent, &progress)
            })
            .await
        }
        Work::ErasePstore => blocking(move || firmware::erase_pstore(&options.sys, options.machine)).await,
        Work::CleanNvram => {
            blocking(move || firmware::clean_nvram(&options.sys, args.get("match_patterns"))).await
        }
        Work::BurninCpu => blocking(move || burnin::cpu(&node)).await,
        Work::BurninMemory => {
            blocking(move || burnin::memory(&node, std::path::Path::new("/proc/meminfo"))).await
        }
    }
}

/// What is mounted; outside a ramdisk other systems' mounts are no business of a fake machine.
fn mounts(machine: bool) -> Result<String, Failure> {
    if !machine {
        return Ok(String::new());
    }
    std::fs::read_to_string("/proc/self/mounts").map_err(Failure::io("asking what is mounted"))
}
