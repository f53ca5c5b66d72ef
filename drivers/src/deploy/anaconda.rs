//! Deploy interface `anaconda`: the installer of RPM distributions, steered by a kickstart file (deploy.md §E).
//!
//! The installer reports by heartbeats with `agent_status`; whoever receives them writes `agent_status` and
//! `agent_status_message` into driver_internal_info, where [`Steps::poll`] reads them.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use ferric_machine::{Activity, BootMode, PowerTarget};
use reqwest::Url;
use serde_json::{Value, json};

use super::kickstart::{self, KsOptions};
use super::ramdisk::INSTANCE_BOOT;
use crate::boot::folder::{blocking, io_error, write};
use crate::boot::images::{ImageCache, Source};
use crate::error::DriverError;
use crate::interface::{
    DeployInterface, Found, InstanceBoot, Json, NodeView, Progress, Progressed, Property, Result, Resume,
    Step, StepContext, StepOutcome, Steps,
};

const TOKEN: &str = "agent_secret_token";
const PREGENERATED: &str = "agent_secret_token_pregenerated";
const STATUS: &str = "agent_status";
const MESSAGE: &str = "agent_status_message";

/// What `deploy` leaves in the journal once the machine was started.
const STARTED: &str = "started";

/// A kickstart template is a page or two.
const LONGEST_TEMPLATE: usize = 1 << 20;

/// `[anaconda]` options, and those of others that it needs.
#[derive(Clone, Debug)]
pub struct AnacondaSettings {
    /// `[anaconda] default_ks_template`: path or URL; `None` is Ferric's own.
    pub default_ks_template: Option<String>,
    /// `[anaconda] insecure_heartbeat`.
    pub insecure_heartbeat: bool,
    /// Base URL of the API as machines reach it, without `/v1`.
    pub api_url: String,
    /// `[deploy] http_root`.
    pub http_root: PathBuf,
    /// `[deploy] http_url`.
    pub http_url: String,
    /// `[deploy] default_boot_mode`.
    pub default_boot_mode: BootMode,
    /// `[deploy] power_off_after_deploy_failure`.
    pub power_off_after_failure: bool,
    /// Fetching template or second stage may take this long.
    pub download_timeout: Duration,
    /// `[conductor] file_url_allowed_paths`: where instance_info may name files of this host.
    pub instance_paths: Vec<PathBuf>,
}

impl Default for AnacondaSettings {
    fn default() -> Self {
        AnacondaSettings {
            default_ks_template: None,
            instance_paths: vec![PathBuf::from("/var/lib/ironic")],
            insecure_heartbeat: false,
            api_url: String::new(),
            http_root: PathBuf::from("/httpboot"),
            http_url: String::new(),
            default_boot_mode: BootMode::Uefi,
            power_off_after_failure: true,
            download_timeout: Duration::from_secs(300),
        }
    }
}

/// See the module.
pub struct AnacondaDeploy {
    settings: AnacondaSettings,
    cache: ImageCache,
    http: reqwest::Client,
}

impl AnacondaDeploy {
    /// Errors: `Refused` when this host cannot make an HTTP client.
    pub fn new(settings: AnacondaSettings) -> Result<AnacondaDeploy> {
        let day = Duration::from_secs(24 * 3600);
        let cache = ImageCache::new(&settings.http_root, settings.download_timeout, day);
        // Err means that the process has chosen a provider already, which serves as well
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http =
            reqwest::Client::builder().timeout(settings.download_timeout).build().map_err(|error| {
                DriverError::Refused {
                    what: "this host".into(),
                    command: "HTTP client".into(),
                    reason: error.to_string(),
                }
            })?;
        Ok(AnacondaDeploy { settings, cache, http })
    }

    /// What the installer puts onto the machine.
    fn source(&self, node: &NodeView) -> Result<Url> {
        let (key, text) = ["liveimg", "image_url", "image_source"]
            .iter()
            .find_map(|key| node.instance_str(key).map(|text| (*key, text)))
            .ok_or_else(|| missing("image_source", "set it to the http(s) URL of the image to install"))?;
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
            Ok(_) | Err(_) => Err(invalid(key, "the installer fetches from http:// and https:// URLs only")),
        }
    }

    fn base(&self, node: &NodeView) -> String {
        format!("{}/{}", self.settings.http_url.trim_end_matches('/'), node.uuid)
    }

    fn folder(&self, node: &NodeView) -> PathBuf {
        self.settings.http_root.join(node.uuid.to_string())
    }

    /// The second stage: served from here, or the URL of a tree that has one.
    fn stage2(&self, node: &NodeView) -> Result<(String, Option<Source>)> {
        let text = node.instance_str("stage2").ok_or_else(|| {
            missing("stage2", "set it to the URL of the installer's squashfs.img, or of the tree that has it")
        })?;
        match Source::of_instance("stage2", text, &self.settings.instance_paths)? {
            Source::Web(url) if !url.path().ends_with(".img") => Ok((url.to_string(), None)),
            source @ (Source::Web(_) | Source::File(_)) => Ok((self.base(node), Some(source))),
        }
    }

    fn instance(&self, node: &NodeView) -> Result<InstanceBoot> {
        let named = |key: &str| {
            node.instance_str(key)
                .map(str::to_owned)
                .ok_or_else(|| missing(key, "set kernel, ramdisk and stage2 of the installer"))
        };
        let (stage2, _) = self.stage2(node)?;
        let kernel_args =
            vec![format!("inst.ks={}/ks.cfg", self.base(node)), format!("inst.stage2={stage2}")];
        Ok(InstanceBoot { kernel: named("kernel")?, ramdisk: named("ramdisk")?, kernel_args, disk: None })
    }

    /// The text of the template; `None` is the default one.
    async fn template(&self, node: &NodeView) -> Result<Option<String>> {
        let source = match (node.instance_str("ks_template"), self.settings.default_ks_template.as_deref()) {
            (Some(text), _) => Source::of_instance("ks_template", text, &self.settings.instance_paths)?,
            (None, Some(text)) => Source::parse_of("[anaconda]", "default_ks_template", text)?,
            (None, None) => return Ok(None),
        };
        let bytes = match source {
            Source::File(path) => tokio::fs::read(&path).await.map_err(|error| io_error(&path, &error))?,
            Source::Web(url) => {
                let shown =
                    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path());
                let bad = |reason: String| DriverError::Image { image: shown.clone(), reason };
                let answer = self.http.get(url).send().await.and_then(reqwest::Response::error_for_status);
                let mut answer = answer.map_err(|error| bad(error.without_url().to_string()))?;
                let mut bytes = Vec::new();
                while let Some(chunk) =
                    answer.chunk().await.map_err(|error| bad(error.without_url().to_string()))?
                {
                    bytes.extend_from_slice(&chunk);
                    if bytes.len() > LONGEST_TEMPLATE {
                        return Err(bad("is longer than 1 MiB and so no kickstart template".into()));
                    }
                }
                bytes
            }
        };
        let text = String::from_utf8(bytes).map_err(|_| invalid("ks_template", "it is not UTF-8 text"))?;
        Ok(Some(text))
    }

    async fn kickstart(&self, node: &NodeView, token: &str) -> Result<String> {
        let template = self.template(node).await?;
        let api = self.settings.api_url.trim_end_matches('/');
        kickstart::render(
            template.as_deref(),
            &KsOptions {
                source: &self.source(node)?,
                token,
                heartbeat: &format!("{api}/v1/heartbeat/{}", node.uuid),
                insecure: self.settings.insecure_heartbeat,
                config_drive: node.instance_str("configdrive"),
            },
        )
    }

    async fn start(&self, context: &StepContext) -> Result<StepOutcome> {
        let node = &context.node;
        let token = node.driver_internal_info.get(TOKEN).and_then(Value::as_str);
        let token = token.ok_or_else(|| DriverError::Missing {
            section: "driver_internal_info",
            key: TOKEN.into(),
            remedy: "deploy again; the installer's token is made when a deployment begins".into(),
        })?;
        let text = self.kickstart(node, token).await?;
        // what is laid out for booting may take the node's folder away first
        context.asks.boot_from_network(self.instance(node)?).await?;
        let folder = self.folder(node);
        tokio::fs::create_dir_all(&folder).await.map_err(|error| io_error(&folder, &error))?;
        if let (_, Some(source)) = self.stage2(node)? {
            let target = folder.join("LiveOS");
            tokio::fs::create_dir_all(&target).await.map_err(|error| io_error(&target, &error))?;
            self.cache.provide(&source, target.join("squashfs.img")).await?;
        }
        let file = folder.join("ks.cfg");
        blocking(move || write(&file, text.as_bytes()).map_err(|error| io_error(&file, &error))).await?;
        context.asks.set_power(PowerTarget::On).await?;
        Ok(waiting("waiting for the installer"))
    }

    /// A token for the installer, which never looks one up. Made when the machine is off: with its power a machine
    /// loses every token it had.
    async fn prepare_installer(&self, context: &StepContext) -> Result<StepOutcome> {
        context.asks.set_power(PowerTarget::Off).await?;
        let mut keep = Json::new();
        keep.insert(TOKEN.into(), json!(new_token()?));
        keep.insert(PREGENERATED.into(), json!(true));
        Ok(StepOutcome::Found(Box::new(Found { keep, ..Found::default() })))
    }

    /// Takes away kickstart file and second stage: they hold secrets, and nobody needs them any more.
    async fn forget_files(&self, node: &NodeView) -> Result<()> {
        let folder = self.folder(node);
        blocking(move || {
            for (path, is_file) in [(folder.join("ks.cfg"), true), (folder.join("LiveOS"), false)] {
                let gone = if is_file { std::fs::remove_file(&path) } else { std::fs::remove_dir_all(&path) };
                match gone {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(io_error(&path, &error));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            // what the boot interface has in it keeps it there
            let _ = std::fs::remove_dir(&folder);
            Ok(())
        })
        .await
    }

    async fn boot_instance(&self, context: &StepContext) -> Result<StepOutcome> {
        context.asks.set_power(PowerTarget::Off).await?;
        context.asks.boot_from_disk().await?;
        self.forget_files(&context.node).await?;
        context.asks.set_power(PowerTarget::On).await?;
        Ok(StepOutcome::Found(Box::new(Found { keep: forgotten(), ..Found::default() })))
    }
}

/// What driver_internal_info does not hold without an installation.
fn forgotten() -> Json {
    [INSTANCE_BOOT, TOKEN, PREGENERATED, STATUS, MESSAGE]
        .into_iter()
        .map(|key| (key.to_owned(), Value::Null))
        .collect()
}

fn waiting(doing: &str) -> StepOutcome {
    StepOutcome::Wait(Progressed {
        progress: Progress { doing: doing.to_owned(), ..Progress::default() },
        checkpoint: Some(STARTED.into()),
    })
}

fn missing(key: &str, remedy: &str) -> DriverError {
    DriverError::Missing { section: "instance_info", key: key.into(), remedy: remedy.into() }
}

fn invalid(key: &str, reason: &str) -> DriverError {
    DriverError::Invalid { section: "instance_info", key: key.into(), reason: reason.into() }
}

/// 32 random bytes, url-safe.
fn new_token() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| DriverError::Io {
        path: "the system's random numbers".into(),
        reason: error.to_string(),
    })?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

#[async_trait]
impl Steps for AnacondaDeploy {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::Deploy => vec![
                Step::new("deploy", "prepare_installer", 110),
                // the installer is no agent: what it says is looked at though nothing can be asked
                Step {
                    abortable: true,
                    resume: Resume::Reattach,
                    requires_ramdisk: false,
                    ..Step::new("deploy", "deploy", 100)
                },
                Step::new("deploy", "boot_instance", 20),
            ],
            Activity::TearDown => vec![Step::new("deploy", "tear_down", 0)],
            Activity::Adopt => vec![Step::new("deploy", "take_over", 0)],
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
            "prepare_installer" => self.prepare_installer(context).await,
            "deploy" => self.start(context).await,
            "boot_instance" => self.boot_instance(context).await,
            "tear_down" => {
                context.asks.set_power(PowerTarget::Off).await?;
                context.asks.clean_up_ramdisk().await?;
                self.forget_files(&context.node).await?;
                Ok(StepOutcome::Found(Box::new(Found { keep: forgotten(), ..Found::default() })))
            }
            "take_over" => Ok(StepOutcome::Done),
            other => {
                Err(DriverError::Unsupported { interface: "anaconda".into(), what: format!("step {other}") })
            }
        }
    }

    async fn poll(&self, context: &StepContext) -> Result<StepOutcome> {
        if context.step.step != "deploy" || context.checkpoint.is_none() {
            return self.execute(context).await;
        }
        let told = |key: &str| context.node.driver_internal_info.get(key).and_then(Value::as_str);
        match told(STATUS) {
            Some("end") => Ok(StepOutcome::Done),
            Some("error") => Err(DriverError::AgentCommand {
                command: "anaconda".into(),
                reason: told(MESSAGE).filter(|text| !text.is_empty()).unwrap_or("no reason given").to_owned(),
            }),
            Some(_) => Ok(waiting("the installer is at work")),
            None => Ok(waiting("waiting for the installer")),
        }
    }
}

#[async_trait]
impl DeployInterface for AnacondaDeploy {
    fn properties(&self) -> &'static [Property] {
        &[]
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        for (key, value) in [("http_url", &self.settings.http_url), ("api_url", &self.settings.api_url)] {
            if value.is_empty() {
                return Err(DriverError::Missing {
                    section: "[deploy]",
                    key: key.into(),
                    remedy: "set it to the URL as the machines reach it; the installer fetches from there"
                        .into(),
                });
            }
        }
        self.source(node)?;
        self.instance(node)?;
        if let Some(text) = node.instance_str("ks_template") {
            Source::of_instance("ks_template", text, &self.settings.instance_paths)?;
        }
        Ok(())
    }

    async fn prepare(&self, node: &NodeView) -> Result<Json> {
        // a template that cannot be had or filled in is told before the machine is touched
        self.kickstart(node, "not-yet-made").await?;
        let mut keep = forgotten();
        let boot = serde_json::to_value(self.instance(node)?).expect("plain data");
        keep.insert(INSTANCE_BOOT.into(), boot);
        keep.insert("is_whole_disk_image".into(), json!(false));
        keep.insert("deploy_boot_mode".into(), json!(node.boot_mode(self.settings.default_boot_mode)));
        Ok(keep)
    }

    async fn forget(&self, node: &NodeView) -> Result<()> {
        self.forget_files(node).await
    }

    async fn clean_up(&self, context: &StepContext) -> Result<()> {
        if self.settings.power_off_after_failure {
            context.asks.set_power(PowerTarget::Off).await?;
        }
        context.asks.clean_up_ramdisk().await?;
        self.forget_files(&context.node).await
    }
}
