//! Where each partition goes: deploy.md §A.2 on paper, before anything is written.

use ferric_agent_wire::ImageInfo;

use crate::disk::Disk;
use crate::error::Failure;
use crate::table::{CONFIG_BYTES, Span};

const MIB: u64 = 1 << 20;

/// MiB of an EFI system partition when nothing is said.
const ESP_MIB: u64 = 200;

/// MiB for GRUB's core image on a GPT disk that BIOS boots.
const BIOS_BOOT_MIB: u64 = 1;

/// Which kind of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// GUID partition table.
    Gpt,
    /// An MBR with four primary partitions.
    Msdos,
}

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
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
    /// As the result of `get_partition_uuids` and GPT entries name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Esp => "efi system partition",
            Self::BiosBoot => "bios",
            Self::Ephemeral => "ephemeral",
            Self::Swap => "swap",
            Self::ConfigDrive => "config-2",
            Self::Root => "root",
        }
    }
}

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// What for.
    pub role: Role,
    /// Where.
    pub span: Span,
}

/// What a partition image asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// MiB of the root partition.
    pub root_mib: u64,
    /// MiB of swap, 0 = none.
    pub swap_mib: u64,
    /// MiB of the ephemeral partition, 0 = none.
    pub ephemeral_mib: u64,
    /// Its file system.
    pub ephemeral_format: String,
    /// Leave the ephemeral partition's content alone.
    pub preserve_ephemeral: bool,
    /// Whether UEFI firmware will boot the disk.
    pub uefi: bool,
    /// Whether the disk boots by itself, not over the network.
    pub local_boot: bool,
    /// The partition table.
    pub label: Label,
    /// MiB of the EFI system partition.
    pub esp_mib: u64,
    /// Whether there is a config drive.
    pub config_drive: bool,
}

impl Wanted {
    /// Reads the partition keys of `image_info`; `uefi` is how the ramdisk itself was booted, for those who do not say.
    /// Errors: `Parameters` for missing or contradicting values.
    pub fn read(info: &ImageInfo, uefi: bool, config_drive: bool) -> Result<Self, Failure> {
        let bad = |text: String| Err(Failure::Parameters(text));
        let root_mib = info.root_mb.unwrap_or_default();
        if root_mib == 0 {
            return bad(
                "a partition image needs root_mb, the size of its partition (instance_info root_gb)".into()
            );
        }
        let lower = |text: &Option<String>| text.as_deref().map(str::trim).unwrap_or_default().to_lowercase();
        let uefi = match lower(&info.deploy_boot_mode).as_str() {
            "" => uefi,
            "uefi" => true,
            "bios" => false,
            other => return bad(format!("deploy_boot_mode {other}: known are bios and uefi")),
        };
        let label = match (lower(&info.disk_label).as_str(), uefi) {
            ("" | "gpt", true) | ("gpt", false) => Label::Gpt,
            ("" | "msdos", false) => Label::Msdos,
            ("msdos", true) => {
                return bad("disk_label msdos with boot mode uefi: UEFI needs disk_label gpt".into());
            }
            (other, _) => return bad(format!("disk_label {other}: known are gpt and msdos")),
        };
        let local_boot = match lower(&info.boot_option).as_str() {
            "" | "local" => true,
            "netboot" => false,
            other => return bad(format!("boot_option {other}: known are local and netboot")),
        };
        let ephemeral_mib = info.ephemeral_mb.unwrap_or_default();
        let preserve_ephemeral = info.preserve_ephemeral.unwrap_or_default();
        if preserve_ephemeral && ephemeral_mib == 0 {
            return bad("preserve_ephemeral without ephemeral_mb: there is nothing to preserve".into());
        }
        let format = lower(&info.ephemeral_format);
        Ok(Self {
            root_mib,
            swap_mib: info.swap_mb.unwrap_or_default(),
            ephemeral_mib,
            ephemeral_format: if format.is_empty() { "ext4".to_owned() } else { format },
            preserve_ephemeral,
            uefi,
            local_boot,
            label,
            esp_mib: info.efi_system_partition_mb.filter(|&mib| mib > 0).unwrap_or(ESP_MIB),
            config_drive,
        })
    }
}

/// A disk's partitions, in the order of their places and numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The partition table.
    pub label: Label,
    /// Whether the root partition carries the boot flag (BIOS with an MBR).
    pub active_root: bool,
    /// The partitions.
    pub parts: Vec<Part>,
}

impl Layout {
    /// Places everything on the disk, each partition at a full MiB, the image last.
    /// Errors: `TooLarge` when the disk is too small.
    pub fn plan(disk: &Disk, wanted: &Wanted) -> Result<Self, Failure> {
        let gpt = wanted.label == Label::Gpt;
        let sizes = [
            (Role::Esp, if wanted.uefi && wanted.local_boot { wanted.esp_mib } else { 0 }),
            (Role::BiosBoot, if gpt && !wanted.uefi && wanted.local_boot { BIOS_BOOT_MIB } else { 0 }),
            (Role::Ephemeral, wanted.ephemeral_mib),
            (Role::Swap, wanted.swap_mib),
            (Role::ConfigDrive, if wanted.config_drive { CONFIG_BYTES / MIB } else { 0 }),
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
            Label::Gpt => disk.size.saturating_sub(gpt_tail(disk.block)),
            // an MBR counts blocks in 32 bits
            Label::Msdos => disk.size.min((u64::from(u32::MAX) + 1) * disk.block),
        };
        if at > usable {
            let list: Vec<String> = parts
                .iter()
                .map(|part| format!("{} {} MiB", part.role.name(), part.span.len / MIB))
                .collect();
            let limit = if wanted.label == Label::Msdos && disk.size > usable {
                "; an msdos label reaches no further, use disk_label gpt"
            } else {
                ""
            };
            let disk_name = format!("{} ({}{limit})", disk.name(), list.join(", "));
            let needed = at.saturating_add(disk.size - usable.min(disk.size));
            return Err(Failure::TooLarge { image: needed, exact: true, disk: disk_name, size: disk.size });
        }
        Ok(Self { label: wanted.label, active_root: !gpt && !wanted.uefi && wanted.local_boot, parts })
    }

    /// The partition for something.
    pub fn find(&self, role: Role) -> Option<&Part> {
        self.parts.iter().find(|part| part.role == role)
    }

    /// The image's partition.
    pub fn root(&self) -> &Part {
        self.find(Role::Root).expect("plan() places a root partition in every layout")
    }
}

/// Bytes of a GPT's second copy: 128 entries of 128 bytes and the header.
pub(crate) fn gpt_tail(block: u64) -> u64 {
    (16384_u64.div_ceil(block) + 1) * block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(mib: u64) -> Disk {
        Disk { kernel_name: "vda".into(), size: mib * MIB, block: 512, ..Disk::default() }
    }

    fn info() -> ImageInfo {
        ImageInfo { root_mb: Some(500), swap_mb: Some(64), ephemeral_mb: Some(100), ..ImageInfo::default() }
    }

    fn roles(layout: &Layout) -> Vec<(u32, Role, u64, u64)> {
        let parts = layout.parts.iter();
        parts.map(|p| (p.number, p.role, p.span.at / MIB, p.span.len / MIB)).collect()
    }

    #[test]
    fn partitions_come_in_the_documented_order_root_last() {
        let wanted = Wanted::read(&info(), false, true).expect("read");
        let bios = Layout::plan(&disk(4096), &wanted).expect("fits");
        assert_eq!((bios.label, bios.active_root), (Label::Msdos, true));
        use Role::*;
        assert_eq!(
            roles(&bios),
            [(1, Ephemeral, 1, 100), (2, Swap, 101, 64), (3, ConfigDrive, 165, 64), (4, Root, 229, 500)]
        );
        let wanted = Wanted::read(&info(), true, false).expect("read");
        let uefi = Layout::plan(&disk(4096), &wanted).expect("fits");
        assert_eq!((uefi.label, uefi.active_root), (Label::Gpt, false));
        assert_eq!(
            roles(&uefi),
            [(1, Esp, 1, 200), (2, Ephemeral, 201, 100), (3, Swap, 301, 64), (4, Root, 365, 500)]
        );
        let gpt = ImageInfo { disk_label: Some("gpt".into()), ..info() };
        let wanted = Wanted::read(&gpt, false, false).expect("read");
        let bios_gpt = Layout::plan(&disk(4096), &wanted).expect("fits");
        assert_eq!(roles(&bios_gpt)[..2], [(1, BiosBoot, 1, 1), (2, Ephemeral, 2, 100)]);
        let netboot =
            ImageInfo { boot_option: Some("netboot".into()), root_mb: Some(1), ..ImageInfo::default() };
        let wanted = Wanted::read(&netboot, true, false).expect("read");
        assert_eq!(roles(&Layout::plan(&disk(4096), &wanted).expect("fits")), [(1, Root, 1, 1)]);
    }

    #[test]
    fn a_disk_too_small_is_refused_with_what_was_to_fit() {
        let wanted = Wanted::read(&info(), false, false).expect("read");
        assert!(Layout::plan(&disk(665), &wanted).is_ok(), "an MBR needs nothing at the end");
        let text = Layout::plan(&disk(664), &wanted).expect_err("too small").to_string();
        assert!(text.contains("root 500 MiB") && text.contains("/dev/vda"), "{text}");
        let wanted = Wanted::read(&info(), true, false).expect("read");
        assert!(Layout::plan(&disk(865), &wanted).is_err(), "a GPT has a second copy");
        assert!(Layout::plan(&disk(866), &wanted).is_ok());
        let huge = ImageInfo { root_mb: Some(3 << 20), ..ImageInfo::default() };
        let wanted = Wanted::read(&huge, false, false).expect("read");
        let text = Layout::plan(&disk(4 << 20), &wanted).expect_err("beyond 2 TiB").to_string();
        assert!(text.contains("disk_label gpt"), "{text}");
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let read = |change: &dyn Fn(&mut ImageInfo)| {
            let mut info = info();
            change(&mut info);
            Wanted::read(&info, false, false).expect_err("refused").to_string()
        };
        assert!(read(&|i| i.root_mb = None).contains("root_mb"));
        assert!(read(&|i| i.disk_label = Some("bsd".into())).contains("disk_label"));
        assert!(read(&|i| i.deploy_boot_mode = Some("x".into())).contains("deploy_boot_mode"));
        assert!(read(&|i| i.boot_option = Some("x".into())).contains("boot_option"));
        let both = read(&|i| {
            i.deploy_boot_mode = Some("uefi".into());
            i.disk_label = Some("msdos".into());
        });
        assert!(both.contains("gpt"), "{both}");
        let none = read(&|i| {
            i.ephemeral_mb = None;
            i.preserve_ephemeral = Some(true);
        });
        assert!(none.contains("preserve_ephemeral"), "{none}");
    }
}
