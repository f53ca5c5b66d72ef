//! The steps, named and ordered as those of `direct` (deploy.md §B.1): clients see the same whoever writes.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ferric_agent_wire::{
    ISCSI_LUN, InstallBootloaderParams, StartIscsiTargetParams, StartIscsiTargetResult, names,
};
use ferric_machine::{Activity, PowerState, PowerTarget};
use reqwest::Url;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::calls::{self, Called};
use super::drive::ConfigDrive;
use super::source::ImageFile;
use super::target::Target;
use super::write::{self, Job, Written};
use super::{ESP, IMAGE, IscsiDeploy, ROOT};
use crate::deploy::image;
use crate::deploy::partition::{self, LAST, Layout};
use crate::deploy::ramdisk::INSTANCE_BOOT;
use crate::error::DriverError;
use crate::flow::prepare_instance;
use crate::interface::{
    AgentHandle, Found, InstanceBoot, Json, NodeView, Progress, Progressed, RamdiskPurpose, Result, Resume,
    Step, StepContext, StepOutcome, Steps,
};

/// Between two words of a step that waits.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Checkpoint: the ramdisk was told that its disk is written.
const TOLD: &str = "told";

/// The name that a ramdisk of the Kilo era is to give to its target.
pub(super) fn bash_iqn(node: &NodeView) -> String {
    format!("iqn-{}", node.uuid)
}

/// Which ramdisk the machine runs.
enum Ramdisk {
    /// One that called by itself.
    Bash(Called),
    /// One with an agent.
    Agent(AgentHandle),
}

fn ramdisk(context: &StepContext) -> Result<Ramdisk> {
    if let Some(called) = Called::of(&context.node) {
        return Ok(Ramdisk::Bash(called));
    }
    let agent = context.agent.clone().map(Ramdisk::Agent);
    agent.ok_or_else(|| DriverError::Refused {
        what: "the deploy ramdisk".into(),
        command: "the deployment".into(),
        reason: "it is not there any more: the machine was switched off or restarted; deploy again".into(),
    })
}

fn waiting(doing: &str, checkpoint: Option<&str>) -> StepOutcome {
    let progress = Progress { doing: doing.to_owned(), ..Progress::default() };
    StepOutcome::Wait(Progressed { progress, checkpoint: checkpoint.map(str::to_owned) })
}

fn found(keep: Json) -> StepOutcome {
    StepOutcome::Found(Box::new(Found { keep, ..Found::default() }))
}

fn forgotten() -> Json {
    [calls::KEY, IMAGE].into_iter().map(|key| (key.to_owned(), Value::Null)).collect()
}

/// What a ramdisk reports as its own failure.
fn reported(text: &str) -> DriverError {
    DriverError::InvalidParameter {
        reason: format!(
            "Error returned from deploy ramdisk: {text}; look at the machine's console and its disk"
        ),
    }
}

impl IscsiDeploy {
    /// Does it again while the BMC is away, up to the limit: the image is on the disk by now.
    async fn patiently<T, F: Future<Output = Result<T>>>(&self, work: impl Fn() -> F) -> Result<T> {
        let until = Instant::now() + self.settings.bmc_within;
        loop {
            match work().await {
                Err(error) if error.is_transient() && Instant::now() < until => {
                    tracing::info!(%error, "the BMC is asked again");
                    sleep(Duration::from_secs(2)).await;
                }
                other => return other,
            }
        }
    }

    async fn deploy(&self, context: &StepContext) -> Result<StepOutcome> {
        let node = &context.node;
        let url = image::source(node)?;
        let kept = node.driver_internal_info.get(IMAGE);
        let sum = match kept.and_then(|sum| serde_json::from_value(sum.clone()).ok()) {
            Some(sum) => sum,
            None => self.sum(node, &url).await?,
        };
        self.cache.provide(node, &url, &sum, &*context.asks).await?;
        // what cannot fit is told before the machine is touched
        self.open_image(node).await?;
        context.asks.boot_ramdisk(RamdiskPurpose::Deploy).await?;
        Ok(waiting("waiting for the ramdisk", None))
    }

    async fn open_image(&self, node: &NodeView) -> Result<ImageFile> {
        let declared = node.instance_str("image_disk_format").map(str::to_owned);
        let place = self.cache.place(node.uuid);
        if !tokio::fs::try_exists(&place).await.unwrap_or(false) {
            return Err(DriverError::Image {
                image: image::shown(&image::source(node)?),
                reason: format!("is not at {} any more; deploy again", place.display()),
            });
        }
        let file = ImageFile::open_aside(place, declared).await?;
        if let Some(most) = IscsiDeploy::most_bytes(node)?.filter(|most| file.size > *most) {
            return Err(DriverError::Image {
                image: image::shown(&image::source(node)?),
                reason: format!(
                    "Root partition is too small for requested image. Image virtual size: {} MB, Root size: {} MB; \
                     make root_gb larger",
                    file.size.div_ceil(1 << 20),
                    most >> 20
                ),
            });
        }
        Ok(file)
    }

    /// Makes the ramdisk export its disk, if it does not already.
    async fn target(&self, ramdisk: &Ramdisk, node: &NodeView) -> Result<Target> {
        let agent = match ramdisk {
            Ramdisk::Bash(called) => {
                let Called { address, port, iqn, lun, .. } = called.clone();
                return Ok(Target { address, port, iqn, lun });
            }
            Ramdisk::Agent(agent) => agent,
        };
        let port = self.settings.portal_port;
        let params = StartIscsiTargetParams {
            iqn: Some(format!("iqn.2008-10.org.openstack:{}", node.uuid)),
            portal_port: Some(port),
            wipe_disk_metadata: false,
        };
        let Ok(Value::Object(params)) = serde_json::to_value(&params) else {
            unreachable!("a struct of plain data serialises to an object")
        };
        let started = self.direct.agents().start(agent, names::START_ISCSI_TARGET, params, true).await?;
        let told = started.command_result.and_then(|value| serde_json::from_value(value).ok());
        let told: StartIscsiTargetResult = told.unwrap_or_default();
        let iqn = if told.iscsi_target_iqn.is_empty() {
            format!("iqn.2008-10.org.openstack:{}", node.uuid)
        } else {
            told.iscsi_target_iqn
        };
        Ok(Target { address: host(agent)?, port, iqn, lun: ISCSI_LUN })
    }

    async fn write_image(&self, context: &StepContext) -> Result<StepOutcome> {
        let node = &context.node;
        let image = Arc::new(self.open_image(node).await?);
        let job = Job {
            image,
            wanted: self.wanted(node)?,
            drive: ConfigDrive::of(node, &self.http).await?,
            scratch: self.cache.scratch(node.uuid),
        };
        // one place in the line, however often it is told that it waits
        let mut turn = std::pin::pin!(Arc::clone(&self.places).acquire_owned());
        let _place = loop {
            match timeout(TELL_EVERY, turn.as_mut()).await {
                Ok(place) => break place.expect("nobody closes the semaphore"),
                Err(_) => {
                    let doing = "waiting for its turn to be written".to_owned();
                    let progress = Progress { doing, ..Progress::default() };
                    context.asks.report(Progressed { progress, checkpoint: None }).await?;
                }
            }
        };
        let ramdisk = ramdisk(context)?;
        let target = self.target(&ramdisk, node).await.map_err(|error| gone(context, error))?;
        let device = self.connect.open(&target).await.map_err(|error| gone(context, error))?;
        let written = write::write(&*device, &job, context.checkpoint.as_deref(), &*context.asks).await;
        let closed = device.close().await;
        let written = written?;
        closed?;
        self.remember(node, written)
    }

    fn remember(&self, node: &NodeView, written: Written) -> Result<StepOutcome> {
        let is_partition = partition::is_partition(node)?;
        let root = if is_partition { written.root_uuid } else { written.disk_id };
        if is_partition && root.is_none() && !self.boots_locally(node)? {
            return Err(DriverError::Image {
                image: image::shown(&image::source(node)?),
                reason: "has no file system whose UUID could be read (ext2-4, xfs, btrfs, FAT): it cannot be the root \
                         of an instance that boots over the network"
                    .into(),
            });
        }
        let mut keep = Json::new();
        keep.insert(ROOT.into(), root.into());
        keep.insert(ESP.into(), written.esp_uuid.into());
        if is_partition {
            keep.insert(LAST.into(), Value::Object(Layout::of(node)?.remember()));
        }
        Ok(found(keep))
    }

    async fn prepare_instance_boot(&self, context: &StepContext) -> Result<StepOutcome> {
        let node = &context.node;
        match ramdisk(context)? {
            Ramdisk::Bash(called) if self.installs_bootloader(node)? => {
                let heard = context.checkpoint.as_deref() == Some(TOLD);
                if !heard && called.bootloader.is_none() {
                    let sent = self.go_ahead(called.address).await;
                    // told before a restart of ours: then it is at work and listens no more
                    if let Err(error) = sent
                        && !context.resumed
                    {
                        return Err(error);
                    }
                }
                self.after_bootloader(context).await
            }
            Ramdisk::Agent(agent) if self.installs_bootloader(node)? || self.is_uefi(node) => {
                let known =
                    |key: &str| node.driver_internal_info.get(key).and_then(Value::as_str).map(str::to_owned);
                let is_partition = partition::is_partition(node)?;
                if self.boots_locally(node)? {
                    let params = InstallBootloaderParams {
                        root_uuid: known(ROOT).filter(|_| is_partition).or(Some("0x00000000".into())),
                        efi_system_part_uuid: known(ESP).filter(|_| is_partition),
                        prep_boot_part_uuid: None,
                        target_boot_mode: Some(self.boot_mode(node).as_str().into()),
                    };
                    self.direct.install_bootloader(context, &agent, params).await?;
                }
                self.boot_instance_next(context).await
            }
            Ramdisk::Bash(_) | Ramdisk::Agent(_) => self.boot_instance_next(context).await,
        }
    }

    fn is_uefi(&self, node: &NodeView) -> bool {
        self.boot_mode(node) == ferric_machine::BootMode::Uefi
    }

    /// The ramdisk said that there is a boot loader, or is still at it.
    async fn after_bootloader(&self, context: &StepContext) -> Result<StepOutcome> {
        match ramdisk(context)? {
            Ramdisk::Bash(Called { bootloader: Some(error), .. }) if error.is_empty() => {
                self.boot_instance_next(context).await
            }
            Ramdisk::Bash(Called { bootloader: Some(error), .. }) => Err(DriverError::InvalidParameter {
                reason: format!(
                    "Failed to install bootloader. Error returned from deploy ramdisk: {error}; use an image with GRUB \
                     inside, or boot_option netboot"
                ),
            }),
            Ramdisk::Bash(_) | Ramdisk::Agent(_) => {
                Ok(waiting("the ramdisk installs the boot loader", Some(TOLD)))
            }
        }
    }

    /// Makes the disk, or the way to it over the network, what the machine boots from next.
    async fn boot_instance_next(&self, context: &StepContext) -> Result<StepOutcome> {
        let node = &context.node;
        if self.boots_locally(node)? {
            self.patiently(|| context.asks.boot_from_disk()).await?;
            return Ok(StepOutcome::Done);
        }
        let boot = self.instance_boot(node)?;
        let mut keep = Json::new();
        keep.insert(INSTANCE_BOOT.into(), serde_json::to_value(&boot).expect("plain data"));
        self.patiently(|| context.asks.boot_from_network(boot.clone())).await?;
        Ok(found(keep))
    }

    /// How a node boots that is led to its disk over the network (deploy.md §A.1 row 12a, §A.3).
    fn instance_boot(&self, node: &NodeView) -> Result<InstanceBoot> {
        let root = node.driver_internal_info.get(ROOT).and_then(Value::as_str);
        let root = root.ok_or_else(|| DriverError::Missing {
            section: "driver_internal_info",
            key: ROOT.into(),
            remedy: "the disk was not written by this conductor; deploy again".into(),
        })?;
        if !partition::is_partition(node)? {
            return Ok(InstanceBoot { disk: Some(root.to_owned()), ..InstanceBoot::default() });
        }
        let named = |key: &str| node.instance_str(key).unwrap_or_default().to_owned();
        Ok(InstanceBoot {
            kernel: named("kernel"),
            ramdisk: named("ramdisk"),
            kernel_args: vec![format!("root=UUID={root}"), "ro".to_owned()],
            disk: None,
        })
    }

    async fn go_ahead(&self, address: IpAddr) -> Result<()> {
        super::go_ahead::send(address, self.settings.go_ahead_port, self.settings.go_ahead_within).await
    }

    /// A restart of this process lays out the ramdisk again, whatever step it is at: this undoes it.
    async fn lay_out_again(&self, context: &StepContext) -> Result<()> {
        if context.resumed { self.boot_instance_next(context).await.map(|_| ()) } else { Ok(()) }
    }

    async fn tear_down_ramdisk(&self, context: &StepContext) -> Result<StepOutcome> {
        self.lay_out_again(context).await?;
        let called = match ramdisk(context) {
            Ok(Ramdisk::Bash(called)) => called,
            Ok(Ramdisk::Agent(_)) => {
                self.cache.forget(context.node.uuid).await?;
                return self.direct.tear_down_agent(context).await;
            }
            // switched off meanwhile: what was to become of it anyway
            Err(_) => {
                self.cache.forget(context.node.uuid).await?;
                self.patiently(|| context.asks.set_power(PowerTarget::Off)).await?;
                return Ok(StepOutcome::Done);
            }
        };
        if context.checkpoint.as_deref() != Some(TOLD) {
            match self.go_ahead(called.address).await {
                Ok(()) => {
                    let progress =
                        Progress { doing: "the ramdisk restarts the machine".into(), ..Progress::default() };
                    context.asks.report(Progressed { progress, checkpoint: Some(TOLD.into()) }).await?;
                }
                // it may have been told just before a restart of ours; nobody is sure, so it is the BMC's turn
                Err(error) if context.resumed => {
                    tracing::info!(node = %context.node.uuid, %error, "the machine is restarted by its BMC");
                    self.patiently(|| context.asks.set_power(PowerTarget::Reboot)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        self.cache.forget(context.node.uuid).await?;
        Ok(StepOutcome::Done)
    }

    async fn boot_instance(&self, context: &StepContext) -> Result<StepOutcome> {
        self.lay_out_again(context).await?;
        // a ramdisk without an agent has restarted the machine by itself
        let restarted = Called::of(&context.node).is_some();
        let runs = restarted
            && self.patiently(|| context.asks.power_state()).await.is_ok_and(|state| state == PowerState::On);
        if !runs {
            self.patiently(|| context.asks.set_power(PowerTarget::On)).await?;
        }
        Ok(found(forgotten()))
    }
}

/// After a restart of this process the ramdisk may be gone; then the write cannot be taken up.
fn gone(context: &StepContext, error: DriverError) -> DriverError {
    if !context.resumed {
        return error;
    }
    DriverError::Refused {
        what: "the deploy ramdisk".into(),
        command: "going on with the image after a restart of Ferric".into(),
        reason: format!("{error}. The machine was probably restarted meanwhile; deploy again"),
    }
}

/// The address that the agent is reached at.
fn host(agent: &AgentHandle) -> Result<IpAddr> {
    let url = Url::parse(&agent.url).ok();
    let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().map_err(|_| DriverError::Invalid {
        section: "driver_internal_info",
        key: "agent_url".into(),
        reason: format!("'{host}' is not an IP address, where the agent could export a disk"),
    })
}

#[async_trait]
impl Steps for IscsiDeploy {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        let row = |step: &str, priority, abortable| Step {
            abortable,
            resume: Resume::Rerun,
            ..Step::new("deploy", step, priority)
        };
        match activity {
            Activity::Deploy => vec![
                row("deploy", 100, true),
                row("write_image", 80, true),
                row("prepare_instance_boot", 60, false),
                row("tear_down_agent", 40, false),
                row("switch_to_tenant_network", 30, false),
                row("boot_instance", 20, false),
            ],
            Activity::TearDown => vec![row("tear_down", 0, false)],
            Activity::Adopt => vec![row("take_over", 0, false)],
            Activity::Verify
            | Activity::Clean
            | Activity::Inspect
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            "deploy" => self.deploy(context).await,
            "write_image" => self.write_image(context).await,
            "prepare_instance_boot" => self.prepare_instance_boot(context).await,
            "tear_down_agent" => self.tear_down_ramdisk(context).await,
            // the network interfaces built so far (noop, flat without Neutron) have nothing to switch
            "switch_to_tenant_network" => Ok(StepOutcome::Done),
            "boot_instance" => self.boot_instance(context).await,
            "tear_down" => {
                context.asks.set_power(PowerTarget::Off).await?;
                context.asks.clean_up_ramdisk().await?;
                self.cache.forget(context.node.uuid).await?;
                let mut keep = forgotten();
                for key in [INSTANCE_BOOT, ROOT, ESP] {
                    keep.insert(key.into(), Value::Null);
                }
                Ok(found(keep))
            }
            "take_over" => {
                if context.node.driver_internal_info.contains_key(INSTANCE_BOOT) {
                    prepare_instance(context).await?;
                } else if !self.boots_locally(&context.node)? {
                    // says what is missing, unless an earlier deployment left it
                    return self.boot_instance_next(context).await;
                }
                Ok(StepOutcome::Done)
            }
            other => {
                Err(DriverError::Unsupported { interface: "iscsi".into(), what: format!("step {other}") })
            }
        }
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        match context.step.step.as_str() {
            "deploy" => match (Called::of(&context.node), &context.agent) {
                (Some(Called { error: Some(error), .. }), _) => Err(reported(&error)),
                (Some(_), _) | (None, Some(_)) => Ok(StepOutcome::Done),
                (None, None) => Ok(waiting("waiting for the ramdisk", None)),
            },
            "prepare_instance_boot" => self.after_bootloader(context).await,
            other => Err(DriverError::Unsupported {
                interface: "iscsi".into(),
                what: format!("waiting in {other}"),
            }),
        }
    }
}
