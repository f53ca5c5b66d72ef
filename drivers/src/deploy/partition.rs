//! What a partition image needs to know of the disk it goes to (deploy.md §B.5, §B.6).

use ferric_agent_wire::ImageInfo;
use ferric_machine::BootMode;
use serde_json::{Value, json};

use crate::error::DriverError;
use crate::interface::{Json, NodeView, Result};

/// Key of driver_internal_info under which the sizes of the last deployment are remembered.
pub(super) const LAST: &str = "instance";

/// Whether `instance_info` names a partition image: by `image_type`, else by kernel and ramdisk of its own.
/// Errors: `Invalid` for an unknown type.
pub(super) fn is_partition(node: &NodeView) -> Result<bool> {
    match node.instance_str("image_type") {
        Some("partition") => Ok(true),
        Some("whole-disk" | "whole-disk-image") => Ok(false),
        Some(other) => {
            Err(invalid("image_type", format!("'{other}' is unknown; use whole-disk or partition")))
        }
        None => Ok(node.instance_str("kernel").is_some() && node.instance_str("ramdisk").is_some()),
    }
}

/// Sizes and label of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) root_gb: u64,
    pub(super) swap_mb: u64,
    pub(super) ephemeral_gb: u64,
    pub(super) ephemeral_format: Option<String>,
    pub(super) preserve_ephemeral: bool,
    pub(super) label: Option<&'static str>,
}

impl Layout {
    /// Reads `instance_info`. Errors: `Missing` without `root_gb`; `Invalid` for what is no number, no truth value or
    /// no label, and when the ephemeral partition is to be kept with sizes other than those of the last deployment.
    pub(super) fn of(node: &NodeView) -> Result<Layout> {
        let root_gb = number(node, "root_gb")?.ok_or_else(|| DriverError::Missing {
            section: "instance_info",
            key: "root_gb".into(),
            remedy: "set it to the size of the root partition in GiB; partition images need it".into(),
        })?;
        if root_gb == 0 {
            return Err(invalid("root_gb", "a root partition has at least 1 GiB".into()));
        }
        let layout = Layout {
            root_gb,
            swap_mb: number(node, "swap_mb")?.unwrap_or(0),
            ephemeral_gb: number(node, "ephemeral_gb")?.unwrap_or(0),
            ephemeral_format: node.instance_str("ephemeral_format").map(str::to_owned),
            preserve_ephemeral: truth(node, "preserve_ephemeral")?,
            label: label(node)?,
        };
        layout.same_as_last(node)?;
        Ok(layout)
    }

    fn same_as_last(&self, node: &NodeView) -> Result<()> {
        let Some(Value::Object(last)) = node.driver_internal_info.get(LAST) else { return Ok(()) };
        if !self.preserve_ephemeral {
            return Ok(());
        }
        let now = [("root_gb", self.root_gb), ("swap_mb", self.swap_mb), ("ephemeral_gb", self.ephemeral_gb)];
        for (key, wanted) in now {
            if let Some(had) = last.get(key).and_then(Value::as_u64).filter(|had| *had != wanted) {
                return Err(invalid(
                    key,
                    format!(
                        "was {had} at the last deployment; the ephemeral partition can be preserved with the same sizes only"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// What the next deployment compares with.
    pub(super) fn remember(&self) -> Json {
        let mut last = Json::new();
        last.insert("root_gb".into(), json!(self.root_gb));
        last.insert("swap_mb".into(), json!(self.swap_mb));
        last.insert("ephemeral_gb".into(), json!(self.ephemeral_gb));
        last
    }

    /// Fills in the keys of partition images.
    pub(super) fn apply(&self, image: &mut ImageInfo, mode: BootMode) {
        image.image_type = Some("partition".into());
        image.root_mb = Some(self.root_gb * 1024);
        image.swap_mb = Some(self.swap_mb);
        image.ephemeral_mb = Some(self.ephemeral_gb * 1024);
        let format = self.ephemeral_format.clone().unwrap_or_else(|| "ext4".to_owned());
        image.ephemeral_format = (self.ephemeral_gb > 0).then_some(format);
        image.preserve_ephemeral = Some(self.preserve_ephemeral);
        let default = match mode {
            BootMode::Uefi => "gpt",
            BootMode::Bios => "msdos",
        };
        image.disk_label = Some(self.label.unwrap_or(default).to_owned());
    }
}

/// The capability `disk_label`. Errors: `Invalid` for anything but gpt and msdos.
fn label(node: &NodeView) -> Result<Option<&'static str>> {
    match node.capability("disk_label").as_deref().map(str::to_lowercase).as_deref() {
        None => Ok(None),
        Some("gpt") => Ok(Some("gpt")),
        Some("msdos") => Ok(Some("msdos")),
        Some(other) => Err(invalid("capabilities", format!("disk_label '{other}' is neither gpt nor msdos"))),
    }
}

/// A size of `instance_info`.
pub(super) fn number(node: &NodeView, key: &str) -> Result<Option<u64>> {
    let read = match node.instance_info.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    // more than this would not fit a disk, and would overflow in MiB
    match read.filter(|number| *number < 1 << 40) {
        Some(number) => Ok(Some(number)),
        None => Err(invalid(key, "not a whole number of 0 or more".into())),
    }
}

fn truth(node: &NodeView, key: &str) -> Result<bool> {
    let text = match node.instance_info.get(key) {
        None | Some(Value::Null) => return Ok(false),
        Some(Value::Bool(value)) => return Ok(*value),
        Some(Value::String(text)) => text.trim().to_lowercase(),
        Some(other @ (Value::Number(_) | Value::Array(_) | Value::Object(_))) => other.to_string(),
    };
    match text.as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
        other => Err(invalid(key, format!("'{other}' is neither true nor false"))),
    }
}

fn invalid(key: &str, reason: String) -> DriverError {
    DriverError::Invalid { section: "instance_info", key: key.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(info: Value) -> NodeView {
        let Value::Object(info) = info else { panic!("an object") };
        NodeView { instance_info: info, ..crate::boot::tests::node() }
    }

    #[test]
    fn kernel_and_ramdisk_or_the_type_decide() {
        for (info, expected) in [
            (json!({}), false),
            (json!({"kernel": "k"}), false),
            (json!({"kernel": "k", "ramdisk": "r"}), true),
            (json!({"kernel": "k", "ramdisk": "r", "image_type": "whole-disk"}), false),
            (json!({"image_type": "partition"}), true),
        ] {
            assert_eq!(is_partition(&node(info.clone())).unwrap(), expected, "{info}");
        }
        assert!(is_partition(&node(json!({"image_type": "floppy"}))).is_err());
    }

    #[test]
    fn sizes_reach_the_agent_in_mib_with_a_label_for_the_boot_mode() {
        let layout = Layout::of(&node(json!({
            "root_gb": "10", "swap_mb": 512, "ephemeral_gb": 2, "preserve_ephemeral": "yes"
        })))
        .unwrap();
        let mut image = ImageInfo::default();
        layout.apply(&mut image, BootMode::Bios);
        assert_eq!((image.root_mb, image.swap_mb, image.ephemeral_mb), (Some(10240), Some(512), Some(2048)));
        assert_eq!(image.ephemeral_format.as_deref(), Some("ext4"));
        assert_eq!((image.preserve_ephemeral, image.disk_label.as_deref()), (Some(true), Some("msdos")));
        layout.apply(&mut image, BootMode::Uefi);
        assert_eq!(image.disk_label.as_deref(), Some("gpt"));
        let own = json!({"root_gb": 1, "capabilities": {"disk_label": "GPT"}});
        Layout::of(&node(own)).unwrap().apply(&mut image, BootMode::Bios);
        assert_eq!((image.disk_label.as_deref(), image.ephemeral_format.as_deref()), (Some("gpt"), None));
        assert!(!image.is_whole_disk());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (info, word) in [
            (json!({}), "root_gb"),
            (json!({"root_gb": 0}), "root_gb"),
            (json!({"root_gb": -1}), "root_gb"),
            (json!({"root_gb": 1, "swap_mb": "much"}), "swap_mb"),
            (json!({"root_gb": 1, "preserve_ephemeral": "perhaps"}), "preserve_ephemeral"),
            (json!({"root_gb": 1, "capabilities": {"disk_label": "bsd"}}), "disk_label"),
        ] {
            let error = Layout::of(&node(info)).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn an_ephemeral_partition_is_preserved_with_the_same_sizes_only() {
        let mut node = node(json!({"root_gb": 10, "ephemeral_gb": 2, "preserve_ephemeral": true}));
        let last = Layout::of(&node).unwrap().remember();
        node.driver_internal_info.insert(LAST.into(), Value::Object(last));
        Layout::of(&node).unwrap();
        node.instance_info.insert("ephemeral_gb".into(), json!(3));
        let error = Layout::of(&node).unwrap_err();
        assert!(error.to_string().contains("ephemeral_gb"), "{error}");
        node.instance_info.insert("preserve_ephemeral".into(), json!(false));
        Layout::of(&node).unwrap();
    }
}
