//! `[inspector]` and `[inspection_rules]` options.

use std::net::IpAddr;

use crate::error::DriverError;
use crate::interface::Result;

/// Which cards of a machine become ports (`[inspector] add_ports`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddPorts {
    /// The one that the ramdisk was booted from; every card with an address when that is unknown.
    #[default]
    Pxe,
    /// Those with an address.
    Active,
    /// All.
    All,
    /// None.
    Disabled,
}

/// Which ports that a node has already are kept (`[inspector] keep_ports`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepPorts {
    /// All.
    #[default]
    All,
    /// Those whose card was seen.
    Present,
    /// Those whose card was added, or would have been.
    Added,
}

macro_rules! words {
    ($name:ident, $what:literal, $($word:literal => $variant:ident),+) => {
        impl std::str::FromStr for $name {
            type Err = ferric_machine::UnknownWord;

            fn from_str(word: &str) -> std::result::Result<Self, Self::Err> {
                match word {
                    $($word => Ok($name::$variant),)+
                    _ => Err(ferric_machine::UnknownWord { what: $what, word: word.to_owned() }),
                }
            }
        }

        impl $name {
            /// Its word in the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }
    };
}

words!(AddPorts, "add_ports", "pxe" => Pxe, "active" => Active, "all" => All, "disabled" => Disabled);
words!(KeepPorts, "keep_ports", "all" => All, "present" => Present, "added" => Added);
words!(MaskSecrets, "mask_secrets", "always" => Always, "never" => Never, "sensitive" => Sensitive);

/// Whether rules see passwords in what the ramdisk sent (`[inspection_rules] mask_secrets`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskSecrets {
    /// Never.
    #[default]
    Always,
    /// Always.
    Never,
    /// Only rules that are marked as sensitive see them.
    Sensitive,
}

/// A subnet whose cards belong to a physical network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetOf {
    /// The subnet.
    pub subnet: ipnet::IpNet,
    /// The physical network.
    pub network: String,
}

impl std::str::FromStr for SubnetOf {
    type Err = DriverError;

    /// `10.10.10.0/24:physnet_a`, `2001:db8::/64:physnet_b`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: String| DriverError::Invalid {
            section: "[inspector]",
            key: "physical_network_cidr_map".into(),
            reason,
        };
        let (subnet, network) =
            text.rsplit_once(':').ok_or_else(|| wrong(format!("'{text}' is not subnet:network")))?;
        let subnet = subnet.trim().parse().map_err(|_| wrong(format!("'{subnet}' is no subnet")))?;
        Ok(SubnetOf { subnet, network: network.trim().to_owned() })
    }
}

/// A PCI device by its numbers, in hex without prefix.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciAlias {
    /// `8086`.
    pub vendor_id: String,
    /// `1533`.
    pub product_id: String,
    /// The capability that counts such devices.
    pub name: String,
}

/// A PCI device that computes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Accelerator {
    /// `10de`.
    pub vendor_id: String,
    /// `1eb8`.
    pub device_id: String,
    /// `GPU`, `FPGA`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name, for people.
    pub device_info: String,
}

/// Everything that the operator decides about inspection. `Default` is Ironic's.
#[derive(Clone, Debug)]
pub struct InspectSettings {
    /// `[inspector] default_hooks`.
    pub default_hooks: Vec<String>,
    /// `[inspector] hooks`; `$default_hooks` stands for those.
    pub hooks: Vec<String>,
    /// `[inspector] add_ports`.
    pub add_ports: AddPorts,
    /// `[inspector] keep_ports`.
    pub keep_ports: KeepPorts,
    /// `[inspector] update_pxe_enabled`.
    pub update_pxe_enabled: bool,
    /// `[inspector] power_off`.
    pub power_off: bool,
    /// `[inspector] require_managed_boot`.
    pub require_managed_boot: bool,
    /// `[inspector] cpu_capabilities`: flag of the processor → capability.
    pub cpu_capabilities: Vec<(String, String)>,
    /// `[inspector] known_accelerators`, the list itself.
    pub known_accelerators: Vec<Accelerator>,
    /// `[inspector] pci_device_alias`.
    pub pci_device_alias: Vec<PciAlias>,
    /// `[inspector] physical_network_cidr_map`.
    pub physical_networks: Vec<SubnetOf>,
    /// `[inspector] disk_partitioning_spacing`: leave 1 GiB of the root disk out of local_gb.
    pub disk_partitioning_spacing: bool,
    /// `[inspector] extra_hardware_strict`.
    pub extra_hardware_strict: bool,
    /// `[inspection_rules] mask_secrets`.
    pub mask_secrets: MaskSecrets,
    /// `[inspection_rules] built_in_rules`, read by [`super::rules::read_built_in`].
    pub built_in_rules: Vec<super::rules::Rule>,
}

impl Default for InspectSettings {
    fn default() -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let gpu = |device_id: &str, device_info: &str| Accelerator {
            vendor_id: "10de".into(),
            device_id: device_id.into(),
            kind: "GPU".into(),
            device_info: format!("NVIDIA Corporation {device_info}"),
        };
        InspectSettings {
            default_hooks: owned(&["ramdisk-error", "validate-interfaces", "ports", "architecture"]),
            hooks: owned(&["$default_hooks"]),
            add_ports: AddPorts::default(),
            keep_ports: KeepPorts::default(),
            update_pxe_enabled: true,
            power_off: true,
            require_managed_boot: true,
            cpu_capabilities: [
                ("vmx", "cpu_vt"),
                ("svm", "cpu_vt"),
                ("aes", "cpu_aes"),
                ("pse", "cpu_hugepages"),
                ("pdpe1gb", "cpu_hugepages_1g"),
                ("smx", "cpu_txt"),
            ]
            .map(|(flag, name)| (flag.to_owned(), name.to_owned()))
            .to_vec(),
            known_accelerators: vec![
                gpu("1eb8", "Tesla T4"),
                gpu("1df6", "GV100GL"),
                gpu("2236", "A10"),
                gpu("2235", "A40"),
                gpu("26b9", "L40S"),
                gpu("26ba", "L20"),
            ],
            pci_device_alias: Vec::new(),
            physical_networks: Vec::new(),
            disk_partitioning_spacing: true,
            extra_hardware_strict: false,
            mask_secrets: MaskSecrets::default(),
            built_in_rules: Vec::new(),
        }
    }
}

impl InspectSettings {
    /// The hooks to run, in order. Errors: `Invalid` for a name that is no hook, and for a hook that comes without, or
    /// before, the one whose result it needs.
    pub fn hooks(&self) -> Result<Vec<super::hooks::Hook>> {
        let mut all = Vec::new();
        for name in &self.hooks {
            match name.trim() {
                "$default_hooks" => all.extend(self.default_hooks.iter().map(|name| name.trim())),
                other => all.push(other),
            }
        }
        let wrong =
            |reason: String| DriverError::Invalid { section: "[inspector]", key: "hooks".into(), reason };
        let mut hooks: Vec<super::hooks::Hook> = Vec::new();
        for name in all.into_iter().filter(|name| !name.is_empty()) {
            let hook: super::hooks::Hook =
                name.parse().map_err(|error: ferric_machine::UnknownWord| wrong(error.to_string()))?;
            if let Some(first) = hook.needs().filter(|first| !hooks.contains(first)) {
                return Err(wrong(format!("{name} needs {} before it", first.as_str())));
            }
            hooks.push(hook);
        }
        Ok(hooks)
    }

    /// The physical network of an address.
    pub(super) fn network_of(&self, address: IpAddr) -> Option<&str> {
        let found = self.physical_networks.iter().find(|entry| entry.subnet.contains(&address));
        found.map(|entry| entry.network.as_str())
    }
}
