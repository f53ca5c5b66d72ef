//! RAID: what a configuration may say, and who builds it (the steps are in [`super::Steps`]).

use super::{Interface, Json, NodeView, Property, Result};
use crate::raid_config;

/// What can be said of a logical disk, with its description.
#[rustfmt::skip]
pub static LOGICAL_DISK_PROPERTIES: &[Property] = &[
    ("controller", "Controller to use for this logical disk. If not specified, the driver will choose a suitable RAID controller on the bare metal node. Optional."),
    ("disk_type", "The type of disk preferred. Valid values are 'hdd' and 'ssd'. If this is not specified, disk type will not be a selection criterion for choosing backing physical disks. Optional."),
    ("interface_type", "The interface type of disk. Valid values are 'sata', 'scsi' and 'sas'. If this is not specified, interface type will not be a selection criterion for choosing backing physical disks. Optional."),
    ("is_root_volume", "Specifies whether this disk is a root volume. By default, this is False. Optional."),
    ("number_of_physical_disks", "Number of physical disks to use for this logical disk. By default, the driver uses the minimum number of disks required for that RAID level. Optional."),
    ("physical_disks", "The physical disks to use for this logical disk. If not specified, the driver will choose suitable physical disks to use. Optional."),
    ("raid_level", "RAID level for the logical disk. Valid values are 'JBOD', '0', '1', '2', '5', '6', '1+0', '5+0' and '6+0'. Required."),
    ("share_physical_disks", "Specifies whether other logical disks can share physical disks with this logical disk. By default, this is False. Optional."),
    ("size_gb", "Size in GiB (Integer) for the logical disk. Use 'MAX' as size_gb if this logical disk is supposed to use the rest of the space available. Required."),
    ("volume_name", "Name of the volume to be created. If this is not specified, it will be auto-generated. Optional."),
];

/// Builds logical disks.
pub trait RaidInterface: Interface {
    /// What can be said of a logical disk.
    fn logical_disk_properties(&self) -> &'static [Property] {
        LOGICAL_DISK_PROPERTIES
    }

    /// Checks a configuration that is wanted, before it is stored.
    fn validate_raid_config(&self, _node: &NodeView, config: &Json) -> Result<()> {
        raid_config::validate(config)
    }

    /// [`Interface::validate`] of most: the stored configuration, if there is one, is valid.
    fn validate_target(&self, node: &NodeView) -> Result<()> {
        if node.target_raid_config.is_empty() {
            Ok(())
        } else {
            self.validate_raid_config(node, &node.target_raid_config)
        }
    }
}
