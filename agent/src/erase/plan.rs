//! How a disk is to be erased: decided on paper, from what the disk says it can do and what the operator permits.

use std::fmt;

use serde_json::Value;

use crate::error::Failure;

/// What a disk says it can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether it spins: then discarding is no substitute for overwriting.
    pub rotational: bool,
    /// Set for NVMe namespaces.
    pub nvme: Option<Nvme>,
    /// Set for disks that answer IDENTIFY DEVICE.
    pub ata: Option<Ata>,
    /// Whether and how it discards.
    pub discard: Discard,
}

/// What an NVMe controller says in Identify (NVM Express base 2.0 §5.17.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nvme {
    /// OACS bit 1: Format NVM is known.
    pub format: bool,
    /// FNA bit 2: it can throw the key away.
    pub crypto: bool,
    /// FNA bit 0 or 1: formatting one namespace reaches all of them.
    pub whole_controller: bool,
    /// Another namespace of this controller must not be erased.
    pub shares_with_protected: bool,
}

/// The security words of IDENTIFY DEVICE (ACS-4 word 128, times in words 89 and 90).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ata {
    /// Bit 0: the security commands are there.
    pub supported: bool,
    /// Bit 1: a password is set.
    pub enabled: bool,
    /// Bit 2: nothing can be read or written without the password.
    pub locked: bool,
    /// Bit 3: security commands are refused until the next power cycle.
    pub frozen: bool,
    /// Bit 4: too many wrong passwords; refused until the next power cycle.
    pub expired: bool,
    /// Bit 5: can also erase what was taken out of use.
    pub enhanced: bool,
    /// Minutes that a normal erasing takes, 0 if not told.
    pub minutes: u32,
    /// Minutes that an enhanced erasing takes, 0 if not told.
    pub enhanced_minutes: u32,
}

/// How a disk discards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discard {
    /// It discards at all.
    pub supported: bool,
    /// It may know a discard that leaves no copies (memory cards).
    pub secure: bool,
    /// It promises zeros afterwards.
    pub reads_zeros: bool,
}

/// What the operator permits: `driver_internal_info`, as the conductor fills it before cleaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `agent_erase_devices_iterations`: passes of random bytes.
    pub iterations: u32,
    /// `agent_erase_devices_zeroize`: a last pass of zeros.
    pub zeroize: bool,
    /// `agent_continue_if_secure_erase_failed`: whether overwriting may take the place of a failed secure erase.
    pub continue_if_failed: bool,
    /// `agent_enable_nvme_secure_erase`.
    pub nvme: bool,
    /// `agent_enable_ata_secure_erase`.
    pub ata: bool,
    /// `agent_erase_skip_read_only`: a read-only disk is passed over instead of failing the step.
    pub skip_read_only: bool,
    /// `disk_erasure_concurrency`: disks at the same time.
    pub concurrency: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            iterations: 1,
            zeroize: true,
            continue_if_failed: false,
            nvme: true,
            ata: true,
            skip_read_only: false,
            concurrency: 4,
        }
    }
}

/// More passes than this are a mistake.
const MOST_ITERATIONS: u64 = 100;

impl Policy {
    /// From `driver_internal_info`; what is absent or null takes its default.
    /// Errors: `Parameters` for a value of the wrong kind: an erasing on a misunderstanding is not begun.
    pub fn read(info: &Value) -> Result<Self, Failure> {
        let get = |key: &str| info.get(key).filter(|value| !value.is_null());
        let bad = |key: &str, wanted: &str| {
            Failure::Parameters(format!("driver_internal_info.{key} must be {wanted}"))
        };
        let flag = |key: &str, default: bool| match get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::String(text)) => match text.to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(bad(key, "true or false")),
            },
            Some(_) => Err(bad(key, "true or false")),
        };
        let number = |key: &str, default: u64, range: std::ops::RangeInclusive<u64>| match get(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .or_else(|| value.as_str()?.parse().ok())
                .filter(|value| range.contains(value))
                .ok_or_else(|| bad(key, &format!("a number from {} to {}", range.start(), range.end()))),
        };
        let default = Self::default();
        // the name it had before NVMe
        let before = flag("agent_continue_if_ata_erase_failed", default.continue_if_failed)?;
        Ok(Self {
            iterations: number(
                "agent_erase_devices_iterations",
                default.iterations.into(),
                0..=MOST_ITERATIONS,
            )? as u32,
            zeroize: flag("agent_erase_devices_zeroize", default.zeroize)?,
            continue_if_failed: flag("agent_continue_if_secure_erase_failed", before)?,
            nvme: flag("agent_enable_nvme_secure_erase", default.nvme)?,
            ata: flag("agent_enable_ata_secure_erase", default.ata)?,
            skip_read_only: flag("agent_erase_skip_read_only", default.skip_read_only)?,
            concurrency: number("disk_erasure_concurrency", default.concurrency as u64, 1..=1024)? as usize,
        })
    }
}

/// A way to erase a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// NVMe Format with secure erase.
    NvmeFormat {
        /// Throw the key away (SES 2) instead of erasing the data (SES 1).
        crypto: bool,
    },
    /// ATA SECURITY ERASE UNIT.
    AtaErase {
        /// Also what was taken out of use.
        enhanced: bool,
    },
    /// A discard that leaves no copies.
    SecureDiscard,
    /// A discard, and zeros over all unless the disk promises them.
    Discard {
        /// Whether zeros follow.
        zero: bool,
    },
    /// Passes over every byte.
    Overwrite {
        /// Passes of random bytes.
        random: u32,
        /// A last pass of zeros.
        zero: bool,
    },
}

impl Method {
    /// Bytes that it writes to a disk of `size` bytes, or the disk's size where the disk does it by itself.
    pub fn work(self, size: u64) -> u64 {
        match self {
            Self::NvmeFormat { .. } | Self::AtaErase { .. } | Self::SecureDiscard => size,
            Self::Discard { zero } => size * (1 + u64::from(zero)),
            Self::Overwrite { random, zero } => size * (u64::from(random) + u64::from(zero)),
        }
    }

    /// Whether the disk reads as zeros afterwards.
    pub fn leaves_zeros(self) -> bool {
        match self {
            Self::Discard { .. } => true,
            Self::Overwrite { zero, .. } => zero,
            Self::NvmeFormat { .. } | Self::AtaErase { .. } | Self::SecureDiscard => false,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NvmeFormat { crypto: true } => f.write_str("NVMe format with crypto erase"),
            Self::NvmeFormat { crypto: false } => f.write_str("NVMe format with user data erase"),
            Self::AtaErase { enhanced: true } => f.write_str("ATA enhanced secure erase"),
            Self::AtaErase { enhanced: false } => f.write_str("ATA secure erase"),
            Self::SecureDiscard => f.write_str("secure discard"),
            Self::Discard { zero: true } => f.write_str("discard and zeros"),
            Self::Discard { zero: false } => f.write_str("discard"),
            Self::Overwrite { random, zero } => {
                match random {
                    0 => return f.write_str("zeros"),
                    1 => f.write_str("1 random pass")?,
                    n => write!(f, "{n} random passes")?,
                }
                f.write_str(if *zero { " and zeros" } else { "" })
            }
        }
    }
}

/// What is to be done with a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In this order, until one succeeds. A method that the disk turns out not to know is passed over; a method that
    /// fails is followed by the next one only if there is one.
    pub methods: Vec<Method>,
    /// Why a secure erase that the disk has is not among them.
    pub notes: Vec<String>,
}

/// Chooses the methods. Errors: why nothing may be done, for an operator.
pub fn decide(disk: &Capabilities, policy: &Policy) -> Result<Plan, String> {
    let mut plan = Plan { methods: Vec::new(), notes: Vec::new() };
    if let Some(nvme) = disk.nvme.filter(|nvme| nvme.format) {
        if !policy.nvme {
            plan.notes.push("NVMe secure erase is switched off (agent_enable_nvme_secure_erase)".to_owned());
        } else if nvme.whole_controller && nvme.shares_with_protected {
            let note = "NVMe format would also erase other namespaces of this controller, which must be kept";
            plan.notes.push(note.to_owned());
        } else {
            plan.methods.push(Method::NvmeFormat { crypto: nvme.crypto });
        }
    }
    if let Some(ata) = disk.ata.filter(|ata| ata.supported) {
        if !policy.ata {
            plan.notes.push("ATA secure erase is switched off (agent_enable_ata_secure_erase)".to_owned());
        } else if let Some(obstacle) = obstacle(ata) {
            if !policy.continue_if_failed {
                return Err(format!(
                    "{obstacle}; to overwrite such disks instead, set agent_continue_if_secure_erase_failed"
                ));
            }
            if ata.locked {
                return Err(format!("{obstacle}, and a locked disk cannot be overwritten either"));
            }
            plan.notes.push(obstacle.to_owned());
        } else {
            plan.methods.push(Method::AtaErase { enhanced: ata.enhanced });
        }
    }
    if plan.methods.is_empty() || policy.continue_if_failed {
        add_overwriting(&mut plan.methods, disk, policy);
    }
    if plan.methods.is_empty() {
        let mut reasons = plan.notes;
        reasons.push(
            "overwriting is switched off (agent_erase_devices_iterations 0 without agent_erase_devices_zeroize)"
                .to_owned(),
        );
        return Err(reasons.join("; "));
    }
    Ok(plan)
}

/// Why a disk that knows the security commands will refuse them now.
fn obstacle(ata: Ata) -> Option<&'static str> {
    if ata.frozen {
        Some(
            "its ATA security is frozen, as firmware does at boot: it takes a power cycle of the disk, or a firmware setting, to erase it securely",
        )
    } else if ata.expired {
        Some("it has refused too many ATA passwords and takes none before the next power cycle")
    } else {
        None
    }
}

/// A discard takes the place of one pass on a disk that has no tracks; who asks for more passes gets passes.
fn add_overwriting(methods: &mut Vec<Method>, disk: &Capabilities, policy: &Policy) {
    if policy.iterations == 0 && !policy.zeroize {
        return;
    }
    if disk.discard.supported && !disk.rotational && policy.iterations <= 1 {
        if disk.discard.secure {
            methods.push(Method::SecureDiscard);
        }
        methods.push(Method::Discard { zero: !disk.discard.reads_zeros });
    }
    methods.push(Method::Overwrite { random: policy.iterations, zero: policy.zeroize });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SSD: Discard = Discard { supported: true, secure: false, reads_zeros: false };
    const ATA: Ata = Ata {
        supported: true,
        enabled: false,
        locked: false,
        frozen: false,
        expired: false,
        enhanced: false,
        minutes: 2,
        enhanced_minutes: 2,
    };
    const NVME: Nvme =
        Nvme { format: true, crypto: false, whole_controller: false, shares_with_protected: false };
    const SHRED: Method = Method::Overwrite { random: 1, zero: true };
    const TRIM: Method = Method::Discard { zero: true };

    fn with(nvme: Option<Nvme>, ata: Option<Ata>, discard: Discard, rotational: bool) -> Capabilities {
        Capabilities { rotational, nvme, ata, discard }
    }

    fn methods(disk: &Capabilities, policy: &Policy) -> Vec<Method> {
        decide(disk, policy).expect("a plan").methods
    }

    #[test]
    fn the_strongest_means_of_the_disk_is_taken_and_nothing_weaker_after_its_failure() {
        let none = Discard::default();
        let format = |crypto| Method::NvmeFormat { crypto };
        let erase = |enhanced| Method::AtaErase { enhanced };
        for (disk, expected) in [
            (with(None, None, none, true), vec![SHRED]),
            (with(None, None, none, false), vec![SHRED]),
            // a spinning disk that discards (shingled) is overwritten
            (with(None, None, SSD, true), vec![SHRED]),
            (with(None, None, SSD, false), vec![TRIM, SHRED]),
            (
                with(None, None, Discard { reads_zeros: true, ..SSD }, false),
                vec![Method::Discard { zero: false }, SHRED],
            ),
            (
                with(None, None, Discard { secure: true, ..SSD }, false),
                vec![Method::SecureDiscard, TRIM, SHRED],
            ),
            (with(Some(NVME), None, SSD, false), vec![format(false)]),
            (with(Some(Nvme { crypto: true, ..NVME }), None, SSD, false), vec![format(true)]),
            (with(Some(Nvme { whole_controller: true, ..NVME }), None, SSD, false), vec![format(false)]),
            (with(Some(Nvme { format: false, ..NVME }), None, SSD, false), vec![TRIM, SHRED]),
            (
                with(
                    Some(Nvme { whole_controller: true, shares_with_protected: true, ..NVME }),
                    None,
                    SSD,
                    false,
                ),
                vec![TRIM, SHRED],
            ),
            (with(Some(Nvme { shares_with_protected: true, ..NVME }), None, SSD, false), vec![format(false)]),
            (with(None, Some(ATA), none, true), vec![erase(false)]),
            (with(None, Some(Ata { enhanced: true, ..ATA }), SSD, false), vec![erase(true)]),
            (with(None, Some(Ata { enabled: true, locked: true, ..ATA }), none, true), vec![erase(false)]),
            (with(None, Some(Ata { supported: false, frozen: true, ..ATA }), none, true), vec![SHRED]),
        ] {
            assert_eq!(methods(&disk, &Policy::default()), expected, "{disk:?}");
        }
    }

    #[test]
    fn the_operator_may_forbid_secure_erase_permit_overwriting_and_ask_for_passes() {
        let nvme = with(Some(NVME), None, SSD, false);
        let ata = with(None, Some(ATA), Discard::default(), true);
        let off = Policy { nvme: false, ata: false, ..Policy::default() };
        assert_eq!(methods(&nvme, &off), [TRIM, SHRED]);
        assert_eq!(methods(&ata, &off), [SHRED]);
        let on = Policy { continue_if_failed: true, ..Policy::default() };
        assert_eq!(methods(&nvme, &on), [Method::NvmeFormat { crypto: false }, TRIM, SHRED]);
        assert_eq!(methods(&ata, &on), [Method::AtaErase { enhanced: false }, SHRED]);
        let passes = Policy { iterations: 3, zeroize: false, ..off.clone() };
        assert_eq!(methods(&nvme, &passes), [Method::Overwrite { random: 3, zero: false }]);
        let none = Policy { iterations: 0, zeroize: false, ..off };
        let refused = decide(&ata, &none).expect_err("nothing is permitted");
        assert!(
            refused.contains("agent_enable_ata_secure_erase")
                && refused.contains("agent_erase_devices_iterations"),
            "{refused}"
        );
    }

    #[test]
    fn a_frozen_disk_is_explained_and_overwritten_only_when_permitted() {
        let frozen = with(None, Some(Ata { frozen: true, ..ATA }), Discard::default(), true);
        let expired = with(None, Some(Ata { expired: true, ..ATA }), Discard::default(), true);
        for disk in [&frozen, &expired] {
            let refused = decide(disk, &Policy::default()).expect_err("refused");
            assert!(
                refused.contains("power cycle") && refused.contains("agent_continue_if_secure_erase_failed")
            );
            let permitted = Policy { continue_if_failed: true, ..Policy::default() };
            assert_eq!(methods(disk, &permitted), [SHRED]);
        }
        let locked = Ata { frozen: true, locked: true, enabled: true, ..ATA };
        let locked = with(None, Some(locked), Discard::default(), true);
        let permitted = Policy { continue_if_failed: true, ..Policy::default() };
        assert!(decide(&locked, &permitted).expect_err("refused").contains("locked"));
    }

    #[test]
    fn the_policy_is_read_from_what_a_conductor_sends_and_nonsense_is_refused() {
        assert_eq!(Policy::read(&Value::Null).expect("defaults"), Policy::default());
        let info = json!({"agent_erase_devices_iterations": 2, "agent_erase_devices_zeroize": false,
            "agent_continue_if_secure_erase_failed": "True", "agent_enable_nvme_secure_erase": false,
            "agent_enable_ata_secure_erase": null, "agent_erase_skip_read_only": true,
            "disk_erasure_concurrency": "8", "agent_url": "x"});
        let expected = Policy {
            iterations: 2,
            zeroize: false,
            continue_if_failed: true,
            nvme: false,
            ata: true,
            skip_read_only: true,
            concurrency: 8,
        };
        assert_eq!(Policy::read(&info).expect("read"), expected);
        for bad in [
            json!({"agent_erase_devices_iterations": -1}),
            json!({"agent_erase_devices_iterations": 1000}),
            json!({"agent_erase_devices_zeroize": "perhaps"}),
            json!({"disk_erasure_concurrency": 0}),
        ] {
            assert!(matches!(Policy::read(&bad), Err(Failure::Parameters(_))), "{bad}");
        }
    }

    #[test]
    fn work_counts_every_pass() {
        assert_eq!(SHRED.work(10), 20);
        assert_eq!(TRIM.work(10), 20);
        assert_eq!(Method::AtaErase { enhanced: true }.work(10), 10);
    }
}
