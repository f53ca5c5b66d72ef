//! Quirks as data: which BMC behaves how, and what we do about it.
//!
//! [`TABLE`] is read from top to bottom; every row that fits changes [`Quirks`], so later rows outdo earlier ones.
//! `driver_info` has the last word: Ironic's own `ipmi_force_boot_device` and `ipmi_disable_boot_timeout`, and
//! `ipmi_quirk_<name>` for each name of [`NAMES`]. A row is named by its test against a simulated BMC that
//! misbehaves without it.

use std::borrow::Cow;
use std::time::Duration;

use ferric_machine::{BootDevice, BootMode};
use serde_json::Value;

use super::Target;
use super::command::{BootFlags, ChassisControl};
use crate::error::DriverError;
use crate::interface::{NodeView, Result};

/// Prefix of the keys in driver_info that override the table.
const PREFIX: &str = "ipmi_quirk_";
/// The longest pause that may be asked for.
const LONGEST: Duration = Duration::from_secs(600);

/// Completion codes that pass by themselves (IPMI 2.0 table 5-2; the ones that Ironic retries).
const PASSING: &[u8] = &[
    0xC0, // node busy
    0xC3, // time-out while processing the command
    0xC4, // out of space
    0xD2, // initialisation in progress
];

/// How to treat one BMC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// Least time from the end of one command to the next. The client heeds it by itself.
    pub command_interval: Duration,
    /// Parameter 3 is sent with the boot flags, so that they outlive the 60 s after which a BMC may clear them;
    /// whether it is taken does not matter.
    pub keep_boot_flags: bool,
    /// The boot device is set anew before every start: the BMC forgets it when the power changes. The client heeds
    /// it by itself, with the persistent boot flags that it set last in this process.
    pub force_boot_device: bool,
    /// Device number (0 to 15) of the hard disk in the boot flags under UEFI.
    pub uefi_disk: u8,
    /// The EFI flag stays in persistent boot flags.
    pub efi_with_persistent: bool,
    /// Power commands may be refused when there is nothing to do, see [`Quirks::nothing_to_do`].
    pub already_off_is_success: bool,
    /// What it says about power is not trusted for so long after a reset or cycle. The client heeds it by itself:
    /// Get Chassis Status waits.
    pub settle_after_reset: Duration,
    /// The same after power on, off and soft off.
    pub settle_after_power: Duration,
    /// A serial-over-LAN payload that is active elsewhere may be a leftover: it is deactivated before ours begins.
    pub deactivate_stale_sol: bool,
    /// Completion codes after which a command is sent again, with growing pauses, until its time is over. The
    /// client heeds them by itself.
    pub retryable: Cow<'static, [u8]>,
}

impl Default for Quirks {
    /// What the rows for every BMC say.
    fn default() -> Self {
        Self::find(None, None, &[])
    }
}

impl Quirks {
    /// A BMC as the specification has it, before any row.
    const fn plain() -> Self {
        Self {
            command_interval: Duration::ZERO,
            keep_boot_flags: false,
            force_boot_device: false,
            uefi_disk: 2,
            efi_with_persistent: false,
            already_off_is_success: false,
            settle_after_reset: Duration::ZERO,
            settle_after_power: Duration::ZERO,
            deactivate_stale_sol: false,
            retryable: Cow::Borrowed(&[]),
        }
    }

    /// What holds while it has not said who it is: the rows for its vendor, and what the node says.
    #[must_use]
    pub fn unasked(target: &Target) -> Self {
        Self::find(None, target.vendor.as_deref(), &target.quirks)
    }

    /// What the table and the node say about a BMC. `vendor` is the node's `properties.vendor`.
    pub(super) fn find(identity: Option<&Identity>, vendor: Option<&str>, overrides: &[Change]) -> Self {
        let mut quirks = Self::plain();
        for row in TABLE.iter().filter(|row| row.fits(identity, vendor)) {
            row.changes.iter().for_each(|change| change.apply(&mut quirks));
        }
        overrides.iter().for_each(|change| change.apply(&mut quirks));
        quirks
    }

    /// Whether a completion code of Chassis Control only says that the machine was there already. The state, read
    /// afterwards, has the last word.
    #[must_use]
    pub fn nothing_to_do(&self, control: ChassisControl, code: u8) -> bool {
        const INVALID_DATA: u8 = 0xCC;
        const NOT_SUPPORTED_NOW: u8 = 0xD5;
        const UNSPECIFIED: u8 = 0xFF;
        match control {
            ChassisControl::On | ChassisControl::Off | ChassisControl::Soft => {
                self.already_off_is_success && matches!(code, INVALID_DATA | NOT_SUPPORTED_NOW | UNSPECIFIED)
            }
            ChassisControl::Cycle | ChassisControl::Reset | ChassisControl::Diag => false,
        }
    }

    /// Boot flags that make this machine boot from `device`.
    #[must_use]
    pub fn boot_flags(&self, device: BootDevice, persistent: bool, mode: BootMode) -> BootFlags {
        let mut flags = BootFlags::new(device, persistent, mode);
        if device == BootDevice::Disk && flags.uefi {
            flags.device = self.uefi_disk;
        }
        flags.uefi &= self.efi_with_persistent || !persistent;
        flags
    }

    /// The device that boot flags mean on this machine; `None` when there is none or it has no name in Ironic.
    #[must_use]
    pub fn boot_device(&self, flags: BootFlags) -> Option<BootDevice> {
        if flags.device == self.uefi_disk { Some(BootDevice::Disk) } else { flags.boot_device() }
    }

    /// How long the state is not trusted after this command.
    #[must_use]
    pub fn settle(&self, control: ChassisControl) -> Duration {
        match control {
            ChassisControl::Cycle | ChassisControl::Reset => self.settle_after_reset,
            ChassisControl::On | ChassisControl::Off | ChassisControl::Soft => self.settle_after_power,
            ChassisControl::Diag => Duration::ZERO,
        }
    }
}

/// One change to [`Quirks`]; each variant sets the field of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// [`Quirks::command_interval`].
    CommandInterval(Duration),
    /// [`Quirks::keep_boot_flags`].
    KeepBootFlags(bool),
    /// [`Quirks::force_boot_device`].
    ForceBootDevice(bool),
    /// [`Quirks::uefi_disk`].
    UefiDisk(u8),
    /// [`Quirks::efi_with_persistent`].
    EfiWithPersistent(bool),
    /// [`Quirks::already_off_is_success`].
    AlreadyOffIsSuccess(bool),
    /// [`Quirks::settle_after_reset`].
    SettleAfterReset(Duration),
    /// [`Quirks::settle_after_power`].
    SettleAfterPower(Duration),
    /// [`Quirks::deactivate_stale_sol`].
    DeactivateStaleSol(bool),
    /// [`Quirks::retryable`].
    Retryable(Cow<'static, [u8]>),
}

impl Change {
    fn apply(&self, to: &mut Quirks) {
        match self {
            Change::CommandInterval(pause) => to.command_interval = *pause,
            Change::KeepBootFlags(keep) => to.keep_boot_flags = *keep,
            Change::ForceBootDevice(force) => to.force_boot_device = *force,
            Change::UefiDisk(device) => to.uefi_disk = *device,
            Change::EfiWithPersistent(keep) => to.efi_with_persistent = *keep,
            Change::AlreadyOffIsSuccess(success) => to.already_off_is_success = *success,
            Change::SettleAfterReset(pause) => to.settle_after_reset = *pause,
            Change::SettleAfterPower(pause) => to.settle_after_power = *pause,
            Change::DeactivateStaleSol(first) => to.deactivate_stale_sol = *first,
            Change::Retryable(codes) => to.retryable = codes.clone(),
        }
    }
}

/// Who a BMC says it is (Get Device ID, IPMI 2.0 §20.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Private enterprise number of the maker.
    pub manufacturer: u32,
    /// The maker's number of the product.
    pub product: u16,
    /// Firmware, major and minor.
    pub firmware: (u8, u8),
    /// IPMI version that it speaks, major and minor.
    pub ipmi: (u8, u8),
}

impl Identity {
    /// Reads the answer to Get Device ID, without its completion code; `None` when it is too short.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<Self> {
        let bcd = |byte: u8| (byte >> 4).min(9) * 10 + (byte & 0x0F).min(9);
        let &[_, _, major, minor, ipmi, _, a, b, c, p, q, ..] = data else { return None };
        Some(Self {
            manufacturer: u32::from_le_bytes([a, b, c & 0x0F, 0]),
            product: u16::from_le_bytes([p, q]),
            firmware: (major & 0x7F, bcd(minor)),
            // the nibbles are swapped: 0x51 is 1.5
            ipmi: (ipmi & 0x0F, ipmi >> 4),
        })
    }
}

/// One row: whom it concerns, and what changes for them. What is left out fits everybody.
#[derive(Debug)]
pub struct Row {
    /// Its name, for logs and tests.
    pub name: &'static str,
    /// Enterprise numbers of the makers; empty for all.
    pub manufacturers: &'static [u32],
    /// Parts of `properties.vendor`, lower case, by which the row fits too, whatever the BMC calls itself.
    pub vendors: &'static [&'static str],
    /// The maker's product numbers, from and to.
    pub products: (u16, u16),
    /// Firmware from and to, both included.
    pub firmware: ((u8, u8), (u8, u8)),
    /// The highest IPMI version that it fits.
    pub ipmi_up_to: (u8, u8),
    /// What it changes.
    pub changes: &'static [Change],
}

const EVERY: Row = Row {
    name: "",
    manufacturers: &[],
    vendors: &[],
    products: (0, u16::MAX),
    firmware: ((0, 0), (u8::MAX, u8::MAX)),
    ipmi_up_to: (u8::MAX, u8::MAX),
    changes: &[],
};

impl Row {
    fn fits(&self, identity: Option<&Identity>, vendor: Option<&str>) -> bool {
        let everybody = self.manufacturers.is_empty() && self.vendors.is_empty();
        if everybody && self.products == EVERY.products && self.ipmi_up_to == EVERY.ipmi_up_to {
            return true;
        }
        let vendor = vendor.map(str::to_lowercase).unwrap_or_default();
        if self.vendors.iter().any(|part| vendor.contains(part)) {
            return true;
        }
        identity.is_some_and(|who| {
            (everybody || self.manufacturers.contains(&who.manufacturer))
                && (self.products.0..=self.products.1).contains(&who.product)
                && (self.firmware.0..=self.firmware.1).contains(&who.firmware)
                && who.ipmi <= self.ipmi_up_to
        })
    }
}

/// The table. Enterprise numbers are IANA's.
#[rustfmt::skip]
pub static TABLE: &[Row] = &[
    // the specification lets a BMC forget the boot flags 60 s after they were set (§28.13, parameter 3)
    Row { name: "boot flags expire",       changes: &[Change::KeepBootFlags(true)],                       ..EVERY },
    // firmware that reads persistent flags without the EFI bit starts the legacy loader
    Row { name: "persistent boot and EFI", changes: &[Change::EfiWithPersistent(true)],                   ..EVERY },
    // "not in the present state" for power off of what is off
    Row { name: "already off",             changes: &[Change::AlreadyOffIsSuccess(true)],                 ..EVERY },
    // Ironic waits as long after `power reset` before it asks
    Row { name: "state after reset",       changes: &[Change::SettleAfterReset(Duration::from_secs(15))], ..EVERY },
    // a console that died leaves its payload active
    Row { name: "stale SOL",               changes: &[Change::DeactivateStaleSol(true)],                  ..EVERY },
    Row { name: "passing codes",           changes: &[Change::Retryable(Cow::Borrowed(PASSING))],         ..EVERY },
    // selector 0x24 is the hard disk of their UEFI firmware; 0x08 is its legacy disk
    Row { name: "Supermicro UEFI disk",    changes: &[Change::UefiDisk(9)],
          manufacturers: &[10876, 47488], vendors: &["supermicro"], ..EVERY },
    // small controllers of the time before IPMI 2.0 lose what comes in quick succession
    Row { name: "spacing before IPMI 2.0", changes: &[Change::CommandInterval(Duration::from_millis(100))],
          ipmi_up_to: (1, 5), ..EVERY },
];

/// Names that may follow `ipmi_quirk_` in driver_info.
pub const NAMES: &[&str] = &[
    "command_interval",
    "uefi_disk",
    "efi_with_persistent",
    "already_off_is_success",
    "settle_after_reset",
    "settle_after_power",
    "deactivate_stale_sol",
    "retryable",
];

fn invalid(key: &str, reason: impl Into<String>) -> DriverError {
    DriverError::Invalid { section: "driver_info", key: key.to_owned(), reason: reason.into() }
}

fn number(word: &str) -> Option<u8> {
    let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    hex.map_or_else(|| word.parse().ok(), |hex| u8::from_str_radix(hex, 16).ok())
}

fn seconds(key: &str, word: &str) -> Result<Duration> {
    let pause = word.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    pause.filter(|pause| *pause <= LONGEST).ok_or_else(|| {
        invalid(key, format!("'{word}' is not a number of seconds from 0 to {}", LONGEST.as_secs()))
    })
}

fn codes(key: &str, value: &Value) -> Result<Vec<u8>> {
    let words: Vec<String> = match value {
        Value::Array(all) => all.iter().map(crate::python::str).collect(),
        Value::String(text) => text.split([',', ' ']).map(str::to_owned).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec![crate::python::str(value)],
    };
    let read = |word: &String| {
        number(word).filter(|code| *code != 0).ok_or_else(|| {
            invalid(key, format!("'{word}' is not a completion code: list them as 0xc0, 0xc3"))
        })
    };
    words.iter().filter(|word| !word.is_empty()).map(read).collect()
}

/// What a node's driver_info changes. `keep_boot_flags` is `[ipmi] disable_boot_timeout`.
pub(super) fn overrides(node: &NodeView, keep_boot_flags: bool) -> Result<Vec<Change>> {
    let mut changes = vec![
        Change::KeepBootFlags(super::flag(node, "ipmi_disable_boot_timeout", keep_boot_flags)?),
        Change::ForceBootDevice(super::flag(node, "ipmi_force_boot_device", false)?),
    ];
    for (key, value) in &node.driver_info {
        let Some(name) = key.strip_prefix(PREFIX).filter(|_| !value.is_null()) else { continue };
        let word = crate::python::str(value);
        let flag = |default| super::flag(node, key, default);
        changes.push(match name {
            "command_interval" => Change::CommandInterval(seconds(key, word.trim())?),
            "uefi_disk" => {
                // as ipmitool and Ironic write it: the second byte of the flags, whose low two bits are not the device's
                let byte = number(word.trim()).filter(|byte| byte & 0xC3 == 0 && *byte != 0);
                let byte = byte.ok_or_else(|| {
                    invalid(key, format!("'{word}' is not a boot device selector: use 0x08 or 0x24"))
                })?;
                Change::UefiDisk(byte >> 2)
            }
            "efi_with_persistent" => Change::EfiWithPersistent(flag(true)?),
            "already_off_is_success" => Change::AlreadyOffIsSuccess(flag(true)?),
            "settle_after_reset" => Change::SettleAfterReset(seconds(key, word.trim())?),
            "settle_after_power" => Change::SettleAfterPower(seconds(key, word.trim())?),
            "deactivate_stale_sol" => Change::DeactivateStaleSol(flag(true)?),
            "retryable" => Change::Retryable(Cow::Owned(codes(key, value)?)),
            _ => {
                let reason = format!("there is no such quirk: use one of {PREFIX}{{{}}}", NAMES.join(", "));
                return Err(invalid(key, reason));
            }
        });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPERMICRO: Identity =
        Identity { manufacturer: 10876, product: 0x0907, firmware: (3, 77), ipmi: (2, 0) };

    #[test]
    fn an_identity_is_read_as_it_stands_in_the_specification() {
        let data = [0x20, 1, 0x83, 0x77, 0x02, 0xBF, 0x7C, 0x2A, 0xF0, 0x07, 0x09, 0, 0, 0, 0];
        assert_eq!(Identity::read(&data), Some(SUPERMICRO));
        assert_eq!(Identity::read(&data[..11]), Some(SUPERMICRO));
        assert_eq!(Identity::read(&data[..10]), None);
        let old = [0x20, 1, 0, 0, 0x51, 0, 0, 0, 0, 0, 0];
        assert_eq!(Identity::read(&old).map(|who| who.ipmi), Some((1, 5)));
    }

    #[test]
    fn rows_fit_by_maker_by_vendor_and_by_version_and_no_others() {
        let plain = Identity { manufacturer: 1, ..SUPERMICRO };
        let disk = |who: Option<&Identity>, vendor| Quirks::find(who, vendor, &[]).uefi_disk;
        assert_eq!(disk(Some(&SUPERMICRO), None), 9);
        assert_eq!(disk(Some(&plain), None), 2);
        assert_eq!(disk(None, Some("Supermicro")), 9);
        assert_eq!(disk(Some(&plain), Some("Dell Inc.")), 2);
        assert_eq!(Quirks::find(Some(&plain), None, &[]), Quirks::default());
        let old = Identity { ipmi: (1, 5), ..plain };
        assert!(!Quirks::find(Some(&old), None, &[]).command_interval.is_zero());
        let row = Row { firmware: ((1, 0), (3, 76)), manufacturers: &[10876], ..EVERY };
        assert!(!row.fits(Some(&SUPERMICRO), None));
        assert!(row.fits(Some(&Identity { firmware: (3, 76), ..SUPERMICRO }), None));
        let row = Row { products: (0, 0x0906), manufacturers: &[10876], ..EVERY };
        assert!(!row.fits(Some(&SUPERMICRO), None));
    }

    #[test]
    fn what_the_node_says_outdoes_the_table() {
        let quirks = Quirks::find(Some(&SUPERMICRO), None, &[Change::UefiDisk(2)]);
        assert_eq!(quirks.uefi_disk, 2);
    }

    #[test]
    fn a_silent_bmc_is_treated_as_its_node_says() {
        let target = Target {
            host: "127.0.0.1".to_owned(),
            port: 623,
            login: crate::protocol::ipmi::handshake::Login {
                user: Vec::new(),
                password: crate::Secret::new(Vec::new()),
                kg: None,
                privilege: crate::protocol::ipmi::Privilege::Administrator,
            },
            version: crate::protocol::ipmi::Version::Two,
            suites: Vec::new(),
            bridge: None,
            vendor: Some("Supermicro".to_owned()),
            quirks: vec![Change::DeactivateStaleSol(!Quirks::default().deactivate_stale_sol)],
        };
        let quirks = Quirks::unasked(&target);
        assert_ne!(quirks.deactivate_stale_sol, Quirks::default().deactivate_stale_sol);
        assert_eq!(quirks.uefi_disk, 9, "and as its vendor's");
    }
}
