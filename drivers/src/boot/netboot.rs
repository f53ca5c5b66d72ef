//! What `pxe` and `ipxe` have in common: everything but the language of the configuration.

use std::sync::Arc;

use ferric_machine::BootMode;

use super::artefacts::{
    INSTANCE_FILES, file_names, grub_config, grub_disk_config, instance_line, ipxe_config, ipxe_disk_config,
    kernel_line, pxelinux_config, pxelinux_disk_config,
};
use super::folder::{Folder, blocking, io_error};
use super::images::{ImageCache, Source};
use super::{BootVia, Mac, PortIndex, PxeSettings};
use crate::interface::{InstanceBoot, NodeView, RamdiskParams, RamdiskPurpose, Result};
use crate::{DriverError, capabilities, python};

/// Kernel and ramdisk, and their names in a node's folder.
type Images = ((Source, Source), (&'static str, &'static str));

#[derive(Debug)]
pub(super) struct Netboot {
    settings: Arc<PxeSettings>,
    ports: Arc<PortIndex>,
    images: ImageCache,
    via: BootVia,
}

impl Netboot {
    pub(super) fn new(settings: Arc<PxeSettings>, ports: Arc<PortIndex>, via: BootVia) -> Netboot {
        let root = match via {
            BootVia::Pxe => &settings.tftp_root,
            BootVia::Ipxe => &settings.http_root,
        };
        let images = ImageCache::new(root, settings.download_timeout, settings.image_cache_ttl);
        Netboot { settings, ports, images, via }
    }

    pub(super) fn validate(&self, node: &NodeView, purpose: RamdiskPurpose) -> Result<()> {
        macs(node)?;
        if self.via == BootVia::Ipxe && self.settings.http_url.is_empty() {
            let reason = "iPXE boot is enabled but no HTTP URL or HTTP root was specified: set [deploy] http_url to \
                          the URL of http_root as the machines reach it";
            return Err(DriverError::MissingParameter { reason: reason.to_owned() });
        }
        capabilities::validate(node)?;
        if node.instance_str("image_source").is_some() && node.instance_str("boot_iso").is_some() {
            let reason = "An 'image_source' and 'boot_iso' parameter may not be specified at the same time";
            return Err(DriverError::InvalidParameter { reason: reason.to_owned() });
        }
        let (kernel, ramdisk) = self.sources(node, purpose)?;
        kernel.check()?;
        ramdisk.check()
    }

    pub(super) async fn prepare(&self, node: &NodeView, params: &RamdiskParams) -> Result<()> {
        let (kernel, ramdisk) = self.sources(node, params.purpose)?;
        let line = kernel_line(node, params, &self.settings)?;
        let names = file_names(params.purpose);
        let config = self.config(node, names, params.boot_mode, &line);
        self.lay_out(node, Some(((kernel, ramdisk), names)), params.boot_mode, &config).await
    }

    /// Lays out kernel and ramdisk of an instance, at the same places as those of a ramdisk.
    pub(super) async fn prepare_instance(
        &self,
        node: &NodeView,
        boot: &InstanceBoot,
        mode: BootMode,
    ) -> Result<()> {
        if let Some(disk) = &boot.disk {
            let config = self.disk_config(disk, mode)?;
            return self.lay_out(node, None, mode, &config).await;
        }
        let source = |key, text| Source::of_instance(key, text, &self.settings.instance_paths);
        let images = (source("kernel", &boot.kernel)?, source("ramdisk", &boot.ramdisk)?);
        let line = instance_line(node, boot, &self.settings)?;
        let config = self.config(node, INSTANCE_FILES, mode, &line);
        self.lay_out(node, Some((images, INSTANCE_FILES)), mode, &config).await
    }

    async fn lay_out(
        &self,
        node: &NodeView,
        images: Option<Images>,
        mode: BootMode,
        config: &str,
    ) -> Result<()> {
        let macs = macs(node)?;
        let config = config.to_owned();
        let folder = self.folder(node);
        let work = folder.clone();
        blocking(move || work.create().map_err(|error| io_error(&work.path(), &error))).await?;
        if let Some(((kernel, ramdisk), names)) = images {
            self.images.provide(&kernel, folder.path().join(names.0)).await?;
            self.images.provide(&ramdisk, folder.path().join(names.1)).await?;
        }
        let list = macs.clone();
        let before = blocking(move || {
            let before = folder.macs().map_err(|error| io_error(&folder.path(), &error))?;
            folder.publish(&list, mode, &config).map_err(|error| io_error(&folder.path(), &error))?;
            Ok(before)
        })
        .await?;
        for gone in before.iter().filter(|mac| !macs.contains(mac) && self.is_of(node, **mac)) {
            self.ports.set_boot(*gone, None);
        }
        for mac in macs {
            self.ports.set_boot(mac, Some(self.via));
        }
        Ok(())
    }

    pub(super) async fn clean_up(&self, node: &NodeView) -> Result<()> {
        let folder = self.folder(node);
        let read = folder.clone();
        let laid_out = blocking(move || read.macs().map_err(|error| io_error(&read.path(), &error))).await?;
        // ports that have gone bad must not hinder the clean-up of the others
        let present = node.ports.iter().filter_map(|port| port.address.parse().ok());
        let all: Vec<Mac> = laid_out.into_iter().chain(present).collect();
        for mac in &all {
            if self.ports.boot(*mac) == Some(self.via) && self.is_of(node, *mac) {
                self.ports.set_boot(*mac, None);
            }
        }
        blocking(move || folder.remove(&all).map_err(|error| io_error(&folder.path(), &error))).await
    }

    /// Whether the port is this node's still, and not another's that it moved to.
    fn is_of(&self, node: &NodeView, mac: Mac) -> bool {
        self.ports.get(mac).is_none_or(|known| known.port.node == node.uuid)
    }

    fn folder(&self, node: &NodeView) -> Folder {
        let root = match self.via {
            BootVia::Pxe => self.settings.tftp_root.clone(),
            BootVia::Ipxe => self.settings.http_root.clone(),
        };
        Folder { root, node: node.uuid, via: self.via }
    }

    fn config(&self, node: &NodeView, (kernel, ramdisk): (&str, &str), mode: BootMode, line: &str) -> String {
        let folder = node.uuid.to_string();
        match (self.via, mode) {
            (BootVia::Ipxe, BootMode::Bios | BootMode::Uefi) => {
                let base = format!("{}/{folder}", self.settings.http_url.trim_end_matches('/'));
                ipxe_config(&base, kernel, ramdisk, line)
            }
            (BootVia::Pxe, BootMode::Bios) => pxelinux_config(&folder, kernel, ramdisk, line),
            (BootVia::Pxe, BootMode::Uefi) => grub_config(&folder, kernel, ramdisk, line),
        }
    }

    /// Leads to the disk with this identifier: its firmware does the rest (deploy.md §A.3 `boot_whole_disk`).
    fn disk_config(&self, disk: &str, mode: BootMode) -> Result<String> {
        let is_hex = |digits: &str| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !disk.strip_prefix("0x").is_some_and(is_hex) {
            return Err(DriverError::Invalid {
                section: "driver_internal_info",
                key: "instance_boot".to_owned(),
                reason: format!("'{disk}' is no identifier of a disk"),
            });
        }
        Ok(match (self.via, mode) {
            (BootVia::Ipxe, BootMode::Bios | BootMode::Uefi) => ipxe_disk_config(),
            (BootVia::Pxe, BootMode::Bios) => pxelinux_disk_config(disk),
            (BootVia::Pxe, BootMode::Uefi) => grub_disk_config(),
        })
    }

    /// Kernel and ramdisk: driver_info wins over the configuration.
    fn sources(&self, node: &NodeView, purpose: RamdiskPurpose) -> Result<(Source, Source)> {
        let settings = &self.settings;
        let (kernel, ramdisk) = file_names(purpose);
        let (default_kernel, default_ramdisk) = if purpose.is_rescue() {
            (&settings.rescue_kernel, &settings.rescue_ramdisk)
        } else {
            (&settings.deploy_kernel, &settings.deploy_ramdisk)
        };
        let all = [(kernel, default_kernel), (ramdisk, default_ramdisk)]
            .map(|(key, default)| (key, named(node, key).or(default.as_deref())));
        if let [(_, Some(one)), (_, Some(other))] = all {
            return Ok((Source::parse(kernel, one)?, Source::parse(ramdisk, other)?));
        }
        let missing: Vec<&str> = all.iter().filter(|(_, text)| text.is_none()).map(|(key, _)| *key).collect();
        let reason = format!(
            "Cannot validate PXE bootloader. Some parameters were missing in node's driver_info and configuration. \
             Missing are: {}",
            python::list(&missing)
        );
        Err(DriverError::MissingParameter { reason })
    }
}

/// What driver_info says; `pxe_deploy_…` are the names that `deploy_…` had until Juno.
fn named<'a>(node: &'a NodeView, key: &str) -> Option<&'a str> {
    let old = || key.starts_with("deploy_").then(|| node.driver_str(&format!("pxe_{key}"))).flatten();
    node.driver_str(key).or_else(old)
}

/// The addresses that the node may boot from; at least one.
fn macs(node: &NodeView) -> Result<Vec<Mac>> {
    if node.ports.is_empty() {
        let reason = format!("Node {} does not have any port associated with it", node.uuid);
        return Err(DriverError::MissingParameter { reason });
    }
    let mut macs = Vec::new();
    for port in node.ports.iter().filter(|port| port.pxe_enabled) {
        let mac = port.address.parse().map_err(|error: super::NotAMac| DriverError::Invalid {
            section: "ports",
            key: port.uuid.to_string(),
            reason: error.to_string(),
        })?;
        macs.push(mac);
    }
    if macs.is_empty() {
        return Err(DriverError::Missing {
            section: "ports",
            key: "pxe_enabled".to_owned(),
            remedy: "create a port with the address of the network card that boots, with pxe_enabled true"
                .to_owned(),
        });
    }
    Ok(macs)
}
