//! `image_info`, the argument of `write_image`: deploy.md §B.5.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Secret, null_default};

/// Which image to write and how to trust it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageInfo {
    /// A name for it: base name or Glance id.
    #[serde(deserialize_with = "null_default")]
    pub id: String,
    /// Where to get it; the first one counts.
    #[serde(deserialize_with = "null_default")]
    pub urls: Vec<String>,
    /// `raw`, `qcow2`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_format: Option<String>,
    /// `bare` for everything that matters here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_format: Option<String>,
    /// Whether raw images go straight to disk; our agent always does that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_raw_images: Option<bool>,
    /// `sha256`, `sha512`, `md5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_hash_algo: Option<String>,
    /// Hex, over the file as downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_hash_value: Option<String>,
    /// Older form: hex (kind told by its length), `algo:hex`, or the URL of a checksum file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// The node it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_uuid: Option<String>,
    /// `whole-disk`, `whole-disk-image` or `partition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_type: Option<String>,
    /// Proxy by scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<Map<String, Value>>,
    /// Hosts reached without proxy, comma-separated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
    /// Basic auth towards the image server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_server_user: Option<String>,
    /// Basic auth towards the image server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_server_password: Option<Secret>,
    /// `uefi` or `bios`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy_boot_mode: Option<String>,
    /// `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_option: Option<String>,
    /// `gpt` or `msdos`, of partition images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_label: Option<String>,
    /// Partition images: MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_mb: Option<u64>,
    /// Partition images: MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_mb: Option<u64>,
    /// Partition images: MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_mb: Option<u64>,
    /// Partition images: file system name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_format: Option<String>,
    /// Partition images: leave the ephemeral partition alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preserve_ephemeral: Option<bool>,
    /// Partition images: MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub efi_system_partition_mb: Option<u64>,
    /// Partition images carry the config drive here as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configdrive: Option<Secret>,
}

impl ImageInfo {
    /// The declared hash as (algorithm, lower-case hex), from `os_hash_*` or else from `checksum` by its prefix or
    /// length. None when nothing usable is declared, also when `checksum` is the URL of a checksum file.
    pub fn declared_hash(&self) -> Option<(String, String)> {
        let filled =
            |s: &Option<String>| s.as_deref().map(str::trim).filter(|s| !s.is_empty()).map(str::to_lowercase);
        if let (Some(algorithm), Some(value)) = (filled(&self.os_hash_algo), filled(&self.os_hash_value)) {
            return Some((algorithm, value));
        }
        let checksum = filled(&self.checksum)?;
        if checksum.contains("://") {
            return None;
        }
        if let Some((algorithm, value)) = checksum.split_once(':') {
            return Some((algorithm.to_owned(), value.to_owned()));
        }
        let algorithm = match checksum.len() {
            32 => "md5",
            64 => "sha256",
            128 => "sha512",
            _ => return None,
        };
        Some((algorithm.to_owned(), checksum))
    }

    /// True for images that carry their own partition table (the default when nothing is said).
    pub fn is_whole_disk(&self) -> bool {
        self.image_type.as_deref() != Some("partition")
    }
}
