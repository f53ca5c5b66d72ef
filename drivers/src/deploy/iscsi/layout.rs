//! Where each partition of a partition image's disk goes: deploy.md §A.2 on paper, before anything is written.

use ferric_machine::BootMode;
use serde::Serialize;

use crate::error::DriverError;
use crate::interface::Result;

pub(super) const MIB: u64 = 1 << 20;

/// MiB of an EFI system partition (`[disk_utils] efi_system_partition_size`).
const ESP_MIB: u64 = 200;

/// MiB for GRUB's core image on a GPT disk that BIOS boots.
const BIOS_BOOT_MIB: u64 = 1;

/// MiB of a config drive's partition.
pub(super) const CONFIG_MIB: u64 = 64;

/// Which kind of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Label {
    Gpt,
    Msdos,
}

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Role {
    /// EFI system partition.
    Esp,
    /// GRUB's core image.
    BiosBoot,
    /// The tenant's scratch space.
    Ephemeral,
    /// Swap.
    Swap,
    /// The config drive.
    ConfigDrive,
    /// The image.
    Root,
}

impl Role {
    /// Its name in a GPT and in texts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Esp => "efi system partition",
            Role::BiosBoot => "bios",
            Role::Ephemeral => "ephemeral",
            Role::Swap => "swap",
            Role::ConfigDrive => "config-2",
            Role::Root => "root",
        }
    }
}

/// A stretch of the disk, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Span {
    pub(super) at: u64,
    pub(super) len: u64,
}

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Part {
    /// From 1.
    pub(super) number: u32,
    pub(super) role: Role,
    pub(super) span: Span,
}

/// What a partition image asks for, sizes in MiB, 0 = none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Wanted {
    pub(super) root_mib: u64,
    pub(super) swap_mib: u64,
    pub(super) ephemeral_mib: u64,
    /// File system of the ephemeral partition.
    pub(super) ephemeral_format: String,
    /// Leave the ephemeral partition's content alone.
    pub(super) preserve_ephemeral: bool,
    pub(super) mode: BootMode,
    /// Whether the disk boots by itself, not over the network.
    pub(super) local_boot: bool,
    pub(super) label: Label,
    pub(super) config_drive: bool,
}

/// A disk's partitions, in the order of their places and numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Layout {
    pub(super) label: Label,
    /// Whether the root partition carries the boot flag (BIOS with an MBR).
    pub(super) active_root: bool,
    pub(super) parts: Vec<Part>,
}

impl Layout {
    /// Places everything on a disk, each partition at a full MiB, the image last.
    /// Errors: `Invalid` when the disk is too small, or the partitions contradict the label.
    pub(super) fn plan(capacity: u64, block: u64, wanted: &Wanted) -> Result<Layout> {
        let gpt = wanted.label == Label::Gpt;
        let uefi = wanted.mode == BootMode::Uefi;
        let sizes = [
            (Role::Esp, if uefi && wanted.local_boot { ESP_MIB } else { 0 }),
            (Role::BiosBoot, if gpt && !uefi && wanted.local_boot { BIOS_BOOT_MIB } else { 0 }),
            (Role::Ephemeral, wanted.ephemeral_mib),
            (Role::Swap, wanted.swap_mib),
            (Role::ConfigDrive, if wanted.config_drive { CONFIG_MIB } else { 0 }),
            (Role::Root, wanted.root_mib),
        ];
        let mut at = MIB;
        let mut parts = Vec::new();
        for (role, mib) in sizes.into_iter().filter(|(_, mib)| *mib > 0) {
            let len = mib.saturating_mul(MIB);
            parts.push(Part { number: parts.len() as u32 + 1, role, span: Span { at, len } });
            at = at.saturating_add(len);
        }
        let usable = match wanted.label {
            Label::Gpt => capacity.saturating_sub(gpt_tail(block)),
            // an MBR counts blocks in 32 bits
            Label::Msdos => capacity.min(u64::from(u32::MAX) * block),
        };
        if at > usable {
            let list: Vec<String> = parts
                .iter()
                .map(|part| format!("{} {} MiB", part.role.name(), part.span.len / MIB))
                .collect();
            let more = match wanted.label {
                Label::Msdos if capacity > usable => {
                    "; an msdos label reaches no further, set the capability disk_label to gpt"
                }
                Label::Msdos | Label::Gpt => "; make root_gb, swap_mb or ephemeral_gb smaller",
            };
            let reason = format!(
                "the partitions ({}) need {} MiB, the disk has {} MiB{more}",
                list.join(", "),
                at.div_ceil(MIB),
                capacity / MIB
            );
            return Err(DriverError::Invalid { section: "instance_info", key: "root_gb".into(), reason });
        }
        if !gpt && parts.len() > 4 {
            return Err(DriverError::Invalid {
                section: "instance_info",
                key: "capabilities".into(),
                reason: "disk_label msdos has room for four partitions only; set it to gpt".into(),
            });
        }
        Ok(Layout { label: wanted.label, active_root: !gpt && !uefi && wanted.local_boot, parts })
    }

    /// The partition for something.
    pub(super) fn find(&self, role: Role) -> Option<&Part> {
        self.parts.iter().find(|part| part.role == role)
    }

    /// The image's partition.
    pub(super) fn root(&self) -> Span {
        self.find(Role::Root).expect("every layout has a root partition: root_gb is at least 1").span
    }
}

/// Bytes of a GPT's second copy: 128 entries of 128 bytes and the header.
pub(super) fn gpt_tail(block: u64) -> u64 {
    (16384_u64.div_ceil(block) + 1) * block
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::deploy::iscsi) fn wanted(mode: BootMode, local_boot: bool) -> Wanted {
        Wanted {
            root_mib: 500,
            swap_mib: 64,
            ephemeral_mib: 100,
            ephemeral_format: "ext4".into(),
            preserve_ephemeral: false,
            mode,
            local_boot,
            label: if mode == BootMode::Uefi { Label::Gpt } else { Label::Msdos },
            config_drive: true,
        }
    }

    fn rows(layout: &Layout) -> Vec<(u32, Role, u64, u64)> {
        layout.parts.iter().map(|p| (p.number, p.role, p.span.at / MIB, p.span.len / MIB)).collect()
    }

    #[test]
    fn partitions_come_in_the_documented_order_root_last() {
        use Role::*;
        let bios = Layout::plan(4096 * MIB, 512, &wanted(BootMode::Bios, true)).unwrap();
        assert!(bios.active_root);
        assert_eq!(
            rows(&bios),
            [(1, Ephemeral, 1, 100), (2, Swap, 101, 64), (3, ConfigDrive, 165, 64), (4, Root, 229, 500)]
        );
        let uefi = Layout::plan(4096 * MIB, 512, &wanted(BootMode::Uefi, true)).unwrap();
        assert_eq!(rows(&uefi)[..2], [(1, Esp, 1, 200), (2, Ephemeral, 201, 100)]);
        let netboot = Layout::plan(4096 * MIB, 512, &wanted(BootMode::Uefi, false)).unwrap();
        assert_eq!(rows(&netboot)[0], (1, Ephemeral, 1, 100));
        let gpt = Wanted { label: Label::Gpt, ..wanted(BootMode::Bios, true) };
        assert_eq!(rows(&Layout::plan(4096 * MIB, 512, &gpt).unwrap())[0], (1, BiosBoot, 1, 1));
    }

    #[test]
    fn a_disk_too_small_is_refused_with_what_was_to_fit() {
        let text = Layout::plan(728 * MIB, 512, &wanted(BootMode::Bios, true)).unwrap_err().to_string();
        assert!(text.contains("root 500 MiB") && text.contains("728 MiB"), "{text}");
        Layout::plan(729 * MIB, 512, &wanted(BootMode::Bios, true)).unwrap();
        assert!(
            Layout::plan(929 * MIB, 512, &wanted(BootMode::Uefi, true)).is_err(),
            "a GPT has a second copy"
        );
        let huge = Wanted { root_mib: 3 << 20, ..wanted(BootMode::Bios, false) };
        let text = Layout::plan(4 << 40, 512, &huge).unwrap_err().to_string();
        assert!(text.contains("gpt"), "{text}");
    }
}
