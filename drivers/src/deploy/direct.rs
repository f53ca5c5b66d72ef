//! Deploy interface `direct`: the agent pulls the image and streams it to the disk (deploy.md §B).

use std::time::Duration;

use async_trait::async_trait;
use ferric_agent_wire::{
    Command, CommandStatus, DeployStepResult, ImageInfo, InstallBootloaderParams, PartitionUuids,
    Step as WireStep, WriteImageArgs, names,
};
use ferric_machine::{Activity, BootMode, PowerState, PowerTarget};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::image;
use super::partition::{self, Layout};
use super::served::{Served, ServedFiles};
use crate::agent_steps::{EraseSettings, shown_node, shown_ports};
use crate::capabilities;
use crate::error::DriverError;
use crate::interface::{
    AgentHandle, DeployInterface, Found, Json, NodeView, Progress, Progressed, Property, RamdiskPurpose,
    Result, Resume, Step, StepContext, StepOutcome, Steps,
};
use crate::protocol::agent::{AgentClient, worded};

/// Key of driver_internal_info under which the image to write is remembered.
const IMAGE: &str = "image_info";

/// Key of driver_internal_info under which the root file system's UUID is remembered.
const ROOT: &str = "root_uuid_or_disk_id";

/// `[deploy]` and `[agent]` options that the steps need.
#[derive(Clone, Debug)]
pub struct DirectSettings {
    /// `[deploy] default_boot_mode`.
    pub default_boot_mode: BootMode,
    /// `[deploy] power_off_after_deploy_failure`.
    pub power_off_after_failure: bool,
    /// `[agent] post_deploy_get_power_state_retries` × `_interval`: how long the agent may take to power off.
    pub power_off_within: Duration,
    /// Between two looks at the power state or at a command that is awaited.
    pub poll_interval: Duration,
    /// `[agent] command_wait_attempts` × `_interval`: how long an awaited command may run.
    pub command_within: Duration,
    /// How `file://` images reach the agents; `None` refuses them.
    pub files: Option<ServedFiles>,
}

impl Default for DirectSettings {
    fn default() -> Self {
        DirectSettings {
            default_boot_mode: BootMode::Uefi,
            power_off_after_failure: true,
            power_off_within: Duration::from_secs(30),
            poll_interval: Duration::from_millis(500),
            command_within: Duration::from_secs(600),
            files: None,
        }
    }
}

/// See the module.
pub struct DirectDeploy {
    settings: DirectSettings,
    agents: AgentClient,
    http: reqwest::Client,
    served: Option<Served>,
}

impl DirectDeploy {
    /// `agents` is shared with whoever else talks to agents.
    pub fn new(settings: DirectSettings, agents: AgentClient) -> Result<DirectDeploy> {
        let http =
            reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).build().map_err(|error| {
                DriverError::Refused {
                    what: "this host".into(),
                    command: "HTTP client".into(),
                    reason: error.to_string(),
                }
            })?;
        let served = settings.files.clone().map(Served::new);
        Ok(DirectDeploy { settings, agents, http, served })
    }

    /// How the machine boots, when nothing of the node says otherwise.
    pub(super) fn boot_mode(&self, node: &NodeView) -> BootMode {
        node.boot_mode(self.settings.default_boot_mode)
    }

    /// What talks to agents.
    pub(super) fn agents(&self) -> &AgentClient {
        &self.agents
    }

    /// Takes away what was laid out for the agent to fetch.
    async fn forget_image(&self, node: &NodeView) -> Result<()> {
        match &self.served {
            Some(served) => served.forget(node.uuid).await,
            None => Ok(()),
        }
    }

    /// Which partitions the agent made; all absent for a whole-disk image.
    async fn partitions(&self, agent: &AgentHandle, node: &NodeView) -> Result<Option<PartitionUuids>> {
        if image_of(node)?.is_whole_disk() {
            return Ok(None);
        }
        let told = self.agents.start(agent, names::GET_PARTITION_UUIDS, Json::new(), true).await?;
        let uuids: PartitionUuids =
            told.command_result.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
        match uuids.root {
            Some(_) => Ok(Some(uuids)),
            None => Err(DriverError::AgentCommand {
                command: names::GET_PARTITION_UUIDS.into(),
                reason: "no root partition is known to the agent; was the machine restarted after the image was written?"
                    .into(),
            }),
        }
    }

    fn agent<'a>(&self, context: &'a StepContext) -> Result<&'a AgentHandle> {
        context.agent.as_ref().ok_or_else(|| DriverError::Unreachable {
            what: "the agent".into(),
            after: Duration::ZERO,
            remedy: "no heartbeat has come since the ramdisk was booted; look at the machine's console"
                .into(),
        })
    }

    async fn write_image(&self, context: &StepContext) -> Result<StepOutcome> {
        let agent = self.agent(context)?;
        if let Some(found) = self.find_write(agent, context).await? {
            return self.judge_write(&found);
        }
        let mut params = Json::new();
        params.insert("node".into(), Value::Object(shown_node(&context.node, &EraseSettings::default())));
        params.insert("ports".into(), shown_ports(&context.node));
        let listed = self.agents.start(agent, names::GET_DEPLOY_STEPS, params.clone(), true).await?;
        let version =
            listed.command_result.as_ref().and_then(|result| result.get("hardware_manager_version"));
        let mut image = image_of(&context.node)?;
        let configdrive = context.node.instance_str("configdrive").map(ferric_agent_wire::Secret::new);
        if !image.is_whole_disk() {
            image.configdrive = configdrive.clone();
        }
        let args = WriteImageArgs { image_info: image, configdrive };
        let args = serde_json::to_value(args).expect("write_image's arguments are plain data");
        let step = json!({"interface": "deploy", "step": "write_image", "priority": 80, "args": args});
        params.insert("step".into(), step);
        params.insert("deploy_version".into(), version.cloned().unwrap_or_else(|| json!({})));
        let started = self.agents.start(agent, names::EXECUTE_DEPLOY_STEP, params, false).await?;
        self.judge_write(&started)
    }

    /// The command that writes the image, if this agent ever got one. An agent that was rebooted has forgotten it.
    async fn find_write(&self, agent: &AgentHandle, context: &StepContext) -> Result<Option<Command>> {
        if !context.resumed && context.checkpoint.is_none() {
            return Ok(None);
        }
        let all = self.agents.list(agent).await?;
        let known = context.checkpoint.as_deref();
        let short = names::EXECUTE_DEPLOY_STEP.rsplit('.').next().unwrap_or_default();
        Ok(all.into_iter().rev().find(|command| match known {
            Some(id) => command.id == id,
            None => {
                command.command_name == short
                    && command.command_result.as_ref().is_none_or(|result| {
                        serde_json::from_value::<DeployStepResult>(result.clone())
                            .ok()
                            .and_then(|result| serde_json::from_value::<WireStep>(result.deploy_step).ok())
                            .is_none_or(|step| step.step.is_empty() || step.step == "write_image")
                    })
            }
        }))
    }

    fn judge_write(&self, command: &Command) -> Result<StepOutcome> {
        match command.command_status {
            CommandStatus::Succeeded => Ok(StepOutcome::Done),
            CommandStatus::Running => {
                let written = command.progress();
                Ok(StepOutcome::Wait(Progressed {
                    progress: Progress {
                        doing: "writing image".into(),
                        bytes_done: written.map(|progress| progress.bytes_done),
                        bytes_total: written.and_then(|progress| progress.bytes_total),
                    },
                    checkpoint: Some(command.id.clone()),
                }))
            }
            CommandStatus::Failed => Err(failed("deploy.write_image", command)),
            CommandStatus::CleanVersionMismatch => Err(DriverError::AgentCommand {
                command: "deploy.write_image".into(),
                reason: "the agent's hardware managers changed during the deployment; deploy again".into(),
            }),
        }
    }

    async fn prepare_instance_boot(&self, context: &StepContext) -> Result<StepOutcome> {
        let mode = self.boot_mode(&context.node);
        let partitions = match image_of(&context.node)?.is_whole_disk() {
            true => None,
            false => self.partitions(self.agent(context)?, &context.node).await?,
        };
        if mode == BootMode::Uefi || partitions.is_some() {
            let agent = self.agent(context)?;
            let known = partitions.clone().unwrap_or_default();
            let params = InstallBootloaderParams {
                root_uuid: Some(known.root.unwrap_or_else(|| "0x00000000".into())),
                efi_system_part_uuid: known.efi_system_partition,
                prep_boot_part_uuid: known.prep_boot_partition,
                target_boot_mode: Some(mode.as_str().into()),
            };
            self.install_bootloader(context, agent, params).await?;
        }
        context.asks.boot_from_disk().await?;
        let Some(root) = partitions.and_then(|uuids| uuids.root) else { return Ok(StepOutcome::Done) };
        let mut keep = Json::new();
        keep.insert(ROOT.into(), Value::String(root));
        keep.insert(partition::LAST.into(), Value::Object(Layout::of(&context.node)?.remember()));
        Ok(StepOutcome::Found(Box::new(Found { keep, ..Found::default() })))
    }

    /// Has the agent install a boot loader and waits for it.
    pub(super) async fn install_bootloader(
        &self,
        context: &StepContext,
        agent: &AgentHandle,
        params: InstallBootloaderParams,
    ) -> Result<()> {
        let params = serde_json::to_value(params).expect("plain data");
        let Value::Object(params) = params else { unreachable!("a struct serialises to an object") };
        let deadline = Instant::now() + self.settings.command_within;
        let mut command = self.begin_bootloader(agent, context, params, deadline).await?;
        while command.command_status == CommandStatus::Running {
            if Instant::now() > deadline {
                return Err(DriverError::AgentCommand {
                    command: names::INSTALL_BOOTLOADER.into(),
                    reason: format!("still running after {} s", self.settings.command_within.as_secs()),
                });
            }
            sleep(self.settings.poll_interval).await;
            let all = match self.agents.list(agent).await {
                Ok(all) => all,
                // one lost answer is no failure; the deadline decides
                Err(error) if error.is_transient() => continue,
                Err(error) => return Err(error),
            };
            command = all.into_iter().find(|one| one.id == command.id).ok_or_else(|| {
                DriverError::AgentCommand {
                    command: names::INSTALL_BOOTLOADER.into(),
                    reason: "the agent has forgotten the command; was the machine restarted?".into(),
                }
            })?;
        }
        if command.command_status != CommandStatus::Succeeded {
            return Err(failed(names::INSTALL_BOOTLOADER, &command));
        }
        Ok(())
    }

    /// Starts the command, or finds the one that was started before a restart of this process. An agent that is busy
    /// with it, or does not answer, is asked again until `deadline`.
    async fn begin_bootloader(
        &self,
        agent: &AgentHandle,
        context: &StepContext,
        params: Json,
        deadline: Instant,
    ) -> Result<Command> {
        let mut look = context.resumed;
        loop {
            let tried = match look {
                true => self.agents.list(agent).await.map(|all| {
                    let short = names::INSTALL_BOOTLOADER.rsplit('.').next().unwrap_or_default();
                    all.into_iter().rev().find(|command| command.command_name == short)
                }),
                false => Ok(None),
            };
            let tried = match tried {
                Ok(Some(command)) => return Ok(command),
                Ok(None) => self.agents.start(agent, names::INSTALL_BOOTLOADER, params.clone(), false).await,
                Err(error) => Err(error),
            };
            match tried {
                // busy, or an answer got lost: it may have been started after all
                Err(error) if error.is_transient() && Instant::now() < deadline => look = true,
                other => return other,
            }
            sleep(self.settings.poll_interval).await;
        }
    }

    /// Switches the machine off, by its agent if that does it. Of one that must not be switched off, everything is put
    /// onto its disk.
    pub(super) async fn tear_down_agent(&self, context: &StepContext) -> Result<StepOutcome> {
        if context.asks.keeps_power() {
            // this machine is restarted into its image: what the ramdisk wrote has to be on the disk by then
            if let Some(agent) = &context.agent {
                self.agents.start(agent, names::SYNC, Json::new(), true).await?;
            }
            return Ok(StepOutcome::Done);
        }
        if let Some(agent) = &context.agent {
            // an agent that is gone already, or goes while it answers, is what we want
            if let Err(error) = self.agents.start(agent, names::POWER_OFF, Json::new(), false).await {
                tracing::info!(node = %context.node.uuid, %error, "agent did not confirm its power off");
            }
            let deadline = Instant::now() + self.settings.power_off_within;
            while Instant::now() < deadline {
                match context.asks.power_state().await {
                    Ok(PowerState::Off) => return Ok(StepOutcome::Done),
                    Ok(PowerState::On | PowerState::Error) => {}
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(error),
                }
                sleep(self.settings.poll_interval).await;
            }
        }
        context.asks.set_power(PowerTarget::Off).await?;
        Ok(StepOutcome::Done)
    }
}

/// The image that `prepare` looked up.
fn image_of(node: &NodeView) -> Result<ImageInfo> {
    let known = node.driver_internal_info.get(IMAGE);
    known.and_then(|value| serde_json::from_value(value.clone()).ok()).ok_or_else(|| DriverError::Missing {
        section: "driver_internal_info",
        key: IMAGE.into(),
        remedy: "deploy again; the image is looked up when a deployment begins".into(),
    })
}

fn failed(name: &str, command: &Command) -> DriverError {
    let reason = command.command_error.as_ref().map_or_else(|| "no reason given".to_owned(), worded);
    DriverError::AgentCommand { command: name.to_owned(), reason }
}

#[async_trait]
impl Steps for DirectDeploy {
    #[rustfmt::skip]
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        let row = |step: &str, priority, abortable, resume| {
            Step { abortable, resume, ..Step::new("deploy", step, priority) }
        };
        match activity {
            Activity::Deploy => vec![
                row("deploy",                   100, true,  Resume::Rerun),
                row("write_image",               80, true,  Resume::Reattach),
                row("prepare_instance_boot",     60, false, Resume::Rerun),
                row("tear_down_agent",           40, false, Resume::Rerun),
                row("switch_to_tenant_network",  30, false, Resume::Rerun),
                row("boot_instance",             20, false, Resume::Rerun),
            ],
            Activity::TearDown => vec![row("tear_down", 0, false, Resume::Rerun)],
            Activity::Adopt => vec![row("take_over", 0, false, Resume::Rerun)],
            Activity::Verify | Activity::Clean | Activity::Inspect | Activity::Rescue | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            "deploy" => {
                context.asks.boot_ramdisk(RamdiskPurpose::Deploy).await?;
                let progress = Progress { doing: "waiting for the ramdisk".into(), ..Progress::default() };
                Ok(StepOutcome::Wait(Progressed { progress, checkpoint: None }))
            }
            "write_image" => self.write_image(context).await,
            "prepare_instance_boot" => self.prepare_instance_boot(context).await,
            "tear_down_agent" => {
                self.forget_image(&context.node).await?;
                self.tear_down_agent(context).await
            }
            // the network interfaces built so far (noop, flat without Neutron) have nothing to switch
            "switch_to_tenant_network" => Ok(StepOutcome::Done),
            "boot_instance" => {
                context.asks.set_power(PowerTarget::On).await?;
                Ok(StepOutcome::Done)
            }
            "tear_down" => {
                context.asks.set_power(PowerTarget::Off).await?;
                context.asks.clean_up_ramdisk().await?;
                self.forget_image(&context.node).await?;
                Ok(StepOutcome::Done)
            }
            // an instance on its own disk needs nothing from us to boot
            "take_over" => Ok(StepOutcome::Done),
            other => {
                Err(DriverError::Unsupported { interface: "direct".into(), what: format!("step {other}") })
            }
        }
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            // the heartbeat that led here is the proof that the ramdisk is up
            "deploy" => self.agent(context).map(|_| StepOutcome::Done),
            "write_image" => {
                let agent = self.agent(context)?;
                match self.find_write(agent, &StepContext { resumed: true, ..context.clone() }).await? {
                    Some(command) => self.judge_write(&command),
                    // the machine was restarted under us: its agent knows nothing, so the write begins anew
                    None => {
                        self.write_image(&StepContext { checkpoint: None, resumed: false, ..context.clone() })
                            .await
                    }
                }
            }
            other => Err(DriverError::Unsupported {
                interface: "direct".into(),
                what: format!("waiting in {other}"),
            }),
        }
    }
}

#[async_trait]
impl DeployInterface for DirectDeploy {
    fn properties(&self) -> &'static [Property] {
        crate::properties::AGENT
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        capabilities::validate(node)?;
        image::check_place(&image::source(node)?, self.served.as_ref())?;
        image::checksum(node)?;
        capabilities::validate_proxies(node)?;
        if partition::is_partition(node)? {
            Layout::of(node)?;
        }
        match node.instance_str("image_disk_format") {
            None | Some("raw" | "qcow2") => Ok(()),
            Some(other) => Err(DriverError::Invalid {
                section: "instance_info",
                key: "image_disk_format".into(),
                reason: format!(
                    "'{other}' is not supported; use raw or qcow2 (raw may be gzip or zstd compressed)"
                ),
            }),
        }
    }

    async fn prepare(&self, node: &NodeView) -> Result<Json> {
        let mode = self.boot_mode(node);
        let mut image = image::resolve(&self.http, self.served.as_ref(), node, mode.as_str()).await?;
        let mut keep = Json::new();
        let is_partition = partition::is_partition(node)?;
        if is_partition {
            Layout::of(node)?.apply(&mut image, mode);
        }
        keep.insert(IMAGE.into(), serde_json::to_value(image).expect("image_info is plain data"));
        keep.insert("is_whole_disk_image".into(), Value::Bool(!is_partition));
        keep.insert(ROOT.into(), Value::Null);
        keep.insert("deploy_boot_mode".into(), json!(mode));
        Ok(keep)
    }

    async fn forget(&self, node: &NodeView) -> Result<()> {
        self.forget_image(node).await
    }

    async fn clean_up(&self, context: &StepContext) -> Result<()> {
        if self.settings.power_off_after_failure {
            context.asks.set_power(PowerTarget::Off).await?;
        }
        self.forget_image(&context.node).await?;
        context.asks.clean_up_ramdisk().await
    }
}
