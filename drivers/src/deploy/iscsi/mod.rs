//! Deploy interface `iscsi`: the ramdisk exports the machine's disk, and the conductor writes the image onto it over
//! the network (deploy.md §A). Two kinds of ramdisk will do: those of the Kilo era, which call two vendor methods and
//! wait for a word on TCP port 10000, and agents that know `iscsi.start_iscsi_target`.

mod cache;
mod calls;
mod canvas;
mod device;
mod drive;
mod format;
mod go_ahead;
mod layout;
mod probe;
mod pump;
mod qcow2;
mod seed;
mod source;
mod steps;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod write;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ferric_machine::{BootMode, PowerTarget};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub use self::cache::CacheSettings;
use self::cache::{Cache, Sum};
use self::layout::{Label, Wanted};
use self::target::{Connect, Initiator};
use super::direct::DirectDeploy;
use super::image::{self, Checksum};
use super::partition::{self, Layout};
use super::ramdisk::INSTANCE_BOOT;
use crate::capabilities;
use crate::error::DriverError;
use crate::interface::{
    DeployInterface, Json, NodeView, Property, RamdiskParams, RamdiskPurpose, Result, StepContext,
    VendorMethod,
};
use crate::protocol::iscsi::IscsiSettings;

/// Key of driver_internal_info for the checksum that the image has to have.
const IMAGE: &str = "image_info";

/// Key of driver_internal_info under which the instance's root file system, or its disk, is found.
const ROOT: &str = "root_uuid_or_disk_id";

/// Key of driver_internal_info under which the EFI system partition is found.
const ESP: &str = "efi_system_partition_uuid";

/// Letters of a deploy key.
const KEY_LETTERS: usize = 32;

/// Options of the steps.
#[derive(Clone, Debug)]
pub struct IscsiDeploySettings {
    /// `[deploy] default_boot_mode`.
    pub default_boot_mode: BootMode,
    /// `[deploy] default_boot_option`: whether instances that do not say boot from their disk (`local`).
    pub boots_locally: bool,
    /// `[deploy] power_off_after_deploy_failure`.
    pub power_off_after_failure: bool,
    /// `[pxe] disk_devices`: what a ramdisk without root device hints looks for, by kernel names.
    pub disk_devices: String,
    /// `[iscsi] portal_port`: where agents are to export their disk.
    pub portal_port: u16,
    /// `[iscsi] ramdisk_address_from_call`: what a bash ramdisk says its address is counts, wherever it calls from.
    pub address_from_call: bool,
    /// How long a ramdisk may take to listen for the go-ahead.
    pub go_ahead_within: Duration,
    /// The port it listens on.
    pub go_ahead_port: u16,
    /// How long a BMC that is away is waited for, once the image is written.
    pub bmc_within: Duration,
    /// How many machines are written to at the same time; the others wait for their turn.
    pub most_writes: usize,
    /// Images on this host.
    pub cache: CacheSettings,
    /// The initiator's.
    pub iscsi: IscsiSettings,
}

impl IscsiDeploySettings {
    /// Ironic's defaults.
    #[must_use]
    pub fn new(cache: CacheSettings) -> IscsiDeploySettings {
        IscsiDeploySettings {
            default_boot_mode: BootMode::Uefi,
            boots_locally: true,
            power_off_after_failure: true,
            disk_devices: "cciss/c0d0,sda,hda,vda".to_owned(),
            portal_port: ferric_agent_wire::ISCSI_PORT,
            address_from_call: false,
            go_ahead_within: Duration::from_secs(60),
            go_ahead_port: go_ahead::PORT,
            bmc_within: Duration::from_secs(300),
            most_writes: 16,
            cache,
            // a ramdisk has its disk itself: whoever it names elsewhere is not to get the image
            iscsi: IscsiSettings { redirects_elsewhere: false, ..IscsiSettings::default() },
        }
    }
}

/// See the module.
pub struct IscsiDeploy {
    settings: IscsiDeploySettings,
    direct: Arc<DirectDeploy>,
    http: reqwest::Client,
    cache: Cache,
    connect: Arc<dyn Connect>,
    places: Arc<Semaphore>,
}

impl IscsiDeploy {
    /// What is done through an agent is done as `direct` does it.
    pub fn new(settings: IscsiDeploySettings, direct: Arc<DirectDeploy>) -> Result<IscsiDeploy> {
        let connect = Arc::new(Initiator(settings.iscsi.clone()));
        IscsiDeploy::with(settings, direct, connect)
    }

    fn with(
        settings: IscsiDeploySettings,
        direct: Arc<DirectDeploy>,
        connect: Arc<dyn Connect>,
    ) -> Result<IscsiDeploy> {
        // Err means that the process has chosen a provider already, which serves as well
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http =
            reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).build().map_err(|error| {
                DriverError::Refused {
                    what: "this host".into(),
                    command: "HTTP client".into(),
                    reason: error.to_string(),
                }
            })?;
        let cache = Cache::new(settings.cache.clone(), http.clone());
        let places = Arc::new(Semaphore::new(settings.most_writes.max(1)));
        Ok(IscsiDeploy { settings, direct, http, cache, connect, places })
    }

    fn boot_mode(&self, node: &NodeView) -> BootMode {
        node.boot_mode(self.settings.default_boot_mode)
    }

    /// Whether the instance boots from its disk; otherwise it is led to it over the network each time.
    fn boots_locally(&self, node: &NodeView) -> Result<bool> {
        match node.capability("boot_option").as_deref() {
            None => Ok(self.settings.boots_locally),
            Some("local") => Ok(true),
            Some("netboot") => Ok(false),
            Some(other) => Err(DriverError::Invalid {
                section: "instance_info",
                key: "capabilities".into(),
                reason: format!(
                    "boot_option '{other}' cannot be had from deploy interface iscsi; use local or netboot"
                ),
            }),
        }
    }

    /// Whether a boot loader has to be installed onto what was written.
    fn installs_bootloader(&self, node: &NodeView) -> Result<bool> {
        Ok(partition::is_partition(node)? && self.boots_locally(node)?)
    }

    /// The partitions that are to be; `None` for a whole-disk image.
    fn wanted(&self, node: &NodeView) -> Result<Option<Wanted>> {
        if !partition::is_partition(node)? {
            return Ok(None);
        }
        let of = Layout::of(node)?;
        let mode = self.boot_mode(node);
        let label = match (of.label, mode) {
            (Some("gpt"), _) | (None, BootMode::Uefi) => Label::Gpt,
            (Some(_), BootMode::Uefi) if self.boots_locally(node)? => {
                return Err(DriverError::Invalid {
                    section: "instance_info",
                    key: "capabilities".into(),
                    reason:
                        "disk_label msdos with boot mode uefi: UEFI boots from disks with disk_label gpt only"
                            .into(),
                });
            }
            (Some(_), _) | (None, BootMode::Bios) => Label::Msdos,
        };
        if of.preserve_ephemeral && of.ephemeral_gb == 0 {
            return Err(DriverError::Invalid {
                section: "instance_info",
                key: "preserve_ephemeral".into(),
                reason: "there is nothing to preserve without ephemeral_gb".into(),
            });
        }
        let wanted = Wanted {
            root_mib: of.root_gb * 1024,
            swap_mib: of.swap_mb,
            ephemeral_mib: of.ephemeral_gb * 1024,
            ephemeral_format: of.ephemeral_format.unwrap_or_else(|| "ext4".to_owned()),
            preserve_ephemeral: of.preserve_ephemeral,
            mode,
            local_boot: self.boots_locally(node)?,
            label,
            config_drive: node.instance_str("configdrive").is_some(),
        };
        if wanted.ephemeral_mib > 0 && !wanted.preserve_ephemeral {
            format::check_kind(&wanted.ephemeral_format)?;
        }
        Ok(Some(wanted))
    }

    /// The most that the image may have inside, where `root_gb` says.
    fn most_bytes(node: &NodeView) -> Result<Option<u64>> {
        Ok(partition::number(node, "root_gb")?.filter(|gib| *gib > 0).map(|gib| gib << 30))
    }

    /// The checksum that the image has to have, fetched if it is in a file of its own.
    async fn sum(&self, node: &NodeView, url: &Url) -> Result<Sum> {
        let (algorithm, value) = match image::checksum(node)? {
            Checksum::Value(algorithm, value) => (algorithm, value),
            Checksum::File(file) => image::fetch(&self.http, &file, url).await?,
        };
        Ok(Sum { algorithm, value })
    }
}

/// Letters and digits that nobody guesses.
fn new_key() -> Result<String> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut key = String::new();
    while key.len() < KEY_LETTERS {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes)
            .map_err(|error| DriverError::Io { path: "random numbers".into(), reason: error.to_string() })?;
        // the largest multiple of 62 below 256: every letter is as likely as any other
        let letters = bytes.iter().filter(|byte| **byte < 248).map(|byte| LETTERS[usize::from(byte % 62)]);
        key.extend(letters.map(char::from).take(KEY_LETTERS - key.len()));
    }
    Ok(key)
}

#[async_trait]
impl DeployInterface for IscsiDeploy {
    fn properties(&self) -> &'static [Property] {
        crate::properties::AGENT
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        capabilities::validate(node)?;
        self.cache.check(&image::source(node)?)?;
        image::checksum(node)?;
        self.wanted(node)?;
        Self::most_bytes(node)?;
        if !self.boots_locally(node)? && partition::is_partition(node)? {
            let missing: Vec<&str> =
                ["kernel", "ramdisk"].into_iter().filter(|key| node.instance_str(key).is_none()).collect();
            if !missing.is_empty() {
                let list = crate::python::list(&missing);
                return Err(DriverError::MissingParameter {
                    reason: format!(
                        "Cannot validate PXE bootloader. Some parameters were missing in node's instance_info. Missing \
                         are: {list}; an instance with boot_option netboot needs both"
                    ),
                });
            }
        }
        match node.instance_str("image_disk_format") {
            None | Some("raw" | "qcow2") => Ok(()),
            Some(other) => Err(DriverError::Invalid {
                section: "instance_info",
                key: "image_disk_format".into(),
                reason: format!("'{other}' is not supported; use raw or qcow2"),
            }),
        }
    }

    async fn prepare(&self, node: &NodeView) -> Result<Json> {
        let url = image::source(node)?;
        self.cache.check(&url)?;
        if url.scheme() != "file" {
            image::probe(&self.http, &url).await?;
        }
        let sum = self.sum(node, &url).await?;
        let mut keep = Json::new();
        keep.insert(IMAGE.into(), serde_json::to_value(sum).expect("plain data"));
        keep.insert("is_whole_disk_image".into(), Value::Bool(!partition::is_partition(node)?));
        keep.insert("deploy_boot_mode".into(), json!(self.boot_mode(node)));
        keep.insert(calls::KEY.into(), Value::String(new_key()?));
        for key in [ROOT, ESP, INSTANCE_BOOT] {
            keep.insert(key.into(), Value::Null);
        }
        Ok(keep)
    }

    async fn forget(&self, node: &NodeView) -> Result<()> {
        self.cache.forget(node.uuid).await
    }

    async fn clean_up(&self, context: &StepContext) -> Result<()> {
        if self.settings.power_off_after_failure {
            context.asks.set_power(PowerTarget::Off).await?;
        }
        self.cache.forget(context.node.uuid).await?;
        context.asks.clean_up_ramdisk().await
    }

    fn kernel_params(&self, node: &NodeView, boot: &RamdiskParams) -> Vec<String> {
        if boot.purpose != RamdiskPurpose::Deploy {
            return Vec::new();
        }
        let key = node.driver_internal_info.get(calls::KEY).and_then(Value::as_str).unwrap_or_default();
        // a ramdisk without an agent installs a boot loader wherever it reads `local`
        let local = self.installs_bootloader(node).unwrap_or(false);
        let mut all = vec![
            format!("disk={}", self.settings.disk_devices),
            format!("iscsi_target_iqn={}", steps::bash_iqn(node)),
            format!("deployment_id={}", node.uuid),
            format!("deployment_key={key}"),
            format!("ironic_api_url={}", boot.api_url.trim_end_matches('/')),
            format!("boot_option={}", if local { "local" } else { "netboot" }),
        ];
        all.extend(root_device(node));
        all.push(format!("ipa-driver-name={}", node.driver));
        all.push(format!("boot_mode={}", boot.boot_mode.as_str()));
        all.push("coreos.configdrive=0".to_owned());
        all
    }

    fn vendor_methods(&self) -> &'static [VendorMethod] {
        calls::METHODS
    }

    fn ramdisk_calls(
        &self,
        node: &NodeView,
        method: &VendorMethod,
        args: &Json,
        peer: Option<IpAddr>,
    ) -> Result<Json> {
        let peer = calls::Peer { address: peer, decides: !self.settings.address_from_call };
        calls::judge(node, method.name, args, peer)
    }
}

/// `root_device=` with the hints that fit one word of a kernel line.
fn root_device(node: &NodeView) -> Option<String> {
    let hints = [&node.instance_info, &node.properties].into_iter().find_map(|info| info.get("root_device"));
    let Some(Value::Object(hints)) = hints else { return None };
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    };
    let pairs: Vec<String> = hints.iter().map(|(key, value)| format!("{key}={}", word(value))).collect();
    let fits =
        |pair: &String| !pair.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"' || c == ',');
    let pairs: Vec<String> = pairs.into_iter().filter(fits).collect();
    (!pairs.is_empty()).then(|| format!("root_device={}", pairs.join(",")))
}
