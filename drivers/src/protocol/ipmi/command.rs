//! The commands that `ipmi-rs-core` lacks, in its own manner (IPMI 2.0 §22.18, §22.19, §28).

use ferric_machine::{BootDevice, BootMode};
use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn, NotEnoughData};

use super::settings::Privilege;
use crate::interface::Identify;

pub mod sensor;
pub mod storage;

/// Number of Get Chassis Status.
pub const GET_CHASSIS_STATUS: u8 = 0x01;
/// Number of Chassis Control.
pub const CHASSIS_CONTROL: u8 = 0x02;
/// Number of Chassis Identify.
pub const CHASSIS_IDENTIFY: u8 = 0x04;
/// Number of Set System Boot Options.
pub const SET_BOOT_OPTIONS: u8 = 0x08;
/// Number of Get System Boot Options.
pub const GET_BOOT_OPTIONS: u8 = 0x09;
/// Number of Set Session Privilege Level.
pub const SET_PRIVILEGE: u8 = 0x3B;
/// Number of Close Session.
pub const CLOSE_SESSION: u8 = 0x3C;

/// Set Session Privilege Level.
pub struct SetSessionPrivilege(pub Privilege);

impl From<SetSessionPrivilege> for Message {
    fn from(command: SetSessionPrivilege) -> Self {
        Message::new_request(NetFn::App, SET_PRIVILEGE, vec![command.0.number()])
    }
}

impl IpmiCommand for SetSessionPrivilege {
    /// The level that the session has now.
    type Output = u8;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<u8, NotEnoughData> {
        data.first().map(|level| level & 0x0F).ok_or(NotEnoughData)
    }
}

/// Close Session: the one with this id of the BMC's.
pub struct CloseSession(pub u32);

impl From<CloseSession> for Message {
    fn from(command: CloseSession) -> Self {
        Message::new_request(NetFn::App, CLOSE_SESSION, command.0.to_le_bytes().to_vec())
    }
}

impl IpmiCommand for CloseSession {
    type Output = ();
    type Error = NotEnoughData;
    fn parse_success_response(_: &[u8]) -> Result<(), NotEnoughData> {
        Ok(())
    }
}

/// Get Chassis Status.
pub struct GetChassisStatus;

impl From<GetChassisStatus> for Message {
    fn from(_: GetChassisStatus) -> Self {
        Message::new_request(NetFn::Chassis, GET_CHASSIS_STATUS, Vec::new())
    }
}

/// What Get Chassis Status says, as far as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChassisStatus {
    /// The machine has power.
    pub power: bool,
    /// The power supply or its control reports a fault.
    pub fault: bool,
    /// The power went away by an overload.
    pub overload: bool,
    /// The power is held off by an interlock, as of a panel.
    pub interlock: bool,
    /// The enclosure was opened.
    pub intrusion: bool,
    /// A drive is faulty.
    pub drive_fault: bool,
    /// A fan is faulty.
    pub cooling_fault: bool,
    /// What the identify light does; `None` when the BMC does not tell.
    pub identify: Option<IdentifyState>,
}

/// What an identify light does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentifyState {
    /// It is out.
    Off,
    /// It shines for a while.
    ForAWhile,
    /// It shines until it is told otherwise.
    On,
}

impl IpmiCommand for GetChassisStatus {
    type Output = ChassisStatus;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<ChassisStatus, NotEnoughData> {
        let state = *data.first().ok_or(NotEnoughData)?;
        let misc = data.get(2).copied().unwrap_or(0);
        let identify = match misc >> 4 & 0b111 {
            0b100 => Some(IdentifyState::Off),
            0b101 => Some(IdentifyState::ForAWhile),
            0b110 => Some(IdentifyState::On),
            _ => None,
        };
        Ok(ChassisStatus {
            power: state & 0x01 != 0,
            fault: state & 0x18 != 0,
            overload: state & 0x02 != 0,
            interlock: state & 0x04 != 0,
            intrusion: misc & 0x01 != 0,
            drive_fault: misc & 0x04 != 0,
            cooling_fault: misc & 0x08 != 0,
            identify,
        })
    }
}

/// Chassis Identify.
pub struct ChassisIdentify(pub Identify);

impl From<ChassisIdentify> for Message {
    fn from(command: ChassisIdentify) -> Self {
        let data = match command.0 {
            Identify::For(seconds) => vec![seconds],
            // "force" is younger than the command: what does not know it takes the time before it
            Identify::On => vec![u8::MAX, 1],
            Identify::Off => vec![0],
        };
        Message::new_request(NetFn::Chassis, CHASSIS_IDENTIFY, data)
    }
}

impl IpmiCommand for ChassisIdentify {
    type Output = ();
    type Error = NotEnoughData;
    fn parse_success_response(_: &[u8]) -> Result<(), NotEnoughData> {
        Ok(())
    }
}

/// Chassis Control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChassisControl {
    /// Off at once.
    Off,
    /// On.
    On,
    /// Off, a pause, on.
    Cycle,
    /// Hard reset without taking the power away.
    Reset,
    /// Diagnostic interrupt (NMI).
    Diag,
    /// Asks the operating system to stop, as the power button does.
    Soft,
}

impl ChassisControl {
    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            ChassisControl::Off => 0,
            ChassisControl::On => 1,
            ChassisControl::Cycle => 2,
            ChassisControl::Reset => 3,
            ChassisControl::Diag => 4,
            ChassisControl::Soft => 5,
        }
    }

    /// The one of this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => ChassisControl::Off,
            1 => ChassisControl::On,
            2 => ChassisControl::Cycle,
            3 => ChassisControl::Reset,
            4 => ChassisControl::Diag,
            5 => ChassisControl::Soft,
            _ => return None,
        })
    }

    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ChassisControl::Off => "power off",
            ChassisControl::On => "power on",
            ChassisControl::Cycle => "power cycle",
            ChassisControl::Reset => "power reset",
            ChassisControl::Diag => "diagnostic interrupt",
            ChassisControl::Soft => "soft power off",
        }
    }
}

impl From<ChassisControl> for Message {
    fn from(command: ChassisControl) -> Self {
        Message::new_request(NetFn::Chassis, CHASSIS_CONTROL, vec![command.number()])
    }
}

impl IpmiCommand for ChassisControl {
    type Output = ();
    type Error = NotEnoughData;
    fn parse_success_response(_: &[u8]) -> Result<(), NotEnoughData> {
        Ok(())
    }
}

/// A parameter of the system boot options (IPMI 2.0 table 28-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootOption {
    /// 0: begins (`true`) or ends a change.
    SetInProgress(bool),
    /// 3: with `true` the boot flags outlive the 60 s after which a BMC may clear them.
    KeepFlags(bool),
    /// 4: the boot flags are news to the firmware.
    Acknowledge,
    /// 5: the boot flags.
    Flags(BootFlags),
}

impl From<BootOption> for Message {
    fn from(option: BootOption) -> Self {
        let data = match option {
            BootOption::SetInProgress(begin) => vec![0, u8::from(begin)],
            BootOption::KeepFlags(keep) => vec![3, if keep { 0x08 } else { 0 }],
            BootOption::Acknowledge => vec![4, 1, 1],
            BootOption::Flags(flags) => {
                let [a, b, c, d, e] = flags.encode();
                vec![5, a, b, c, d, e]
            }
        };
        Message::new_request(NetFn::Chassis, SET_BOOT_OPTIONS, data)
    }
}

impl IpmiCommand for BootOption {
    type Output = ();
    type Error = NotEnoughData;
    fn parse_success_response(_: &[u8]) -> Result<(), NotEnoughData> {
        Ok(())
    }
}

/// Get System Boot Options, parameter 5.
pub struct GetBootFlags;

impl From<GetBootFlags> for Message {
    fn from(_: GetBootFlags) -> Self {
        Message::new_request(NetFn::Chassis, GET_BOOT_OPTIONS, vec![5, 0, 0])
    }
}

impl IpmiCommand for GetBootFlags {
    type Output = BootFlags;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<BootFlags, NotEnoughData> {
        let flags = data.get(2..).and_then(|rest| rest.first_chunk::<5>()).ok_or(NotEnoughData)?;
        Ok(BootFlags::decode(*flags))
    }
}

/// The boot flags, parameter 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootFlags {
    /// The firmware is to heed them.
    pub valid: bool,
    /// For every boot, not only the next one.
    pub persistent: bool,
    /// With UEFI, not with legacy BIOS.
    pub uefi: bool,
    /// The device's number, 0 to 15; 0 is "no override".
    pub device: u8,
}

impl BootFlags {
    /// Flags that make the machine boot from `device`.
    #[must_use]
    pub const fn new(device: BootDevice, persistent: bool, mode: BootMode) -> Self {
        let device = match device {
            BootDevice::Pxe => 1,
            BootDevice::Disk => 2,
            BootDevice::Safe => 3,
            BootDevice::Cdrom => 5,
            BootDevice::Bios => 6,
        };
        Self { valid: true, persistent, uefi: matches!(mode, BootMode::Uefi), device }
    }

    /// The device, `None` when there is no override or one that has no name in Ironic.
    #[must_use]
    pub const fn boot_device(self) -> Option<BootDevice> {
        match self.device {
            1 => Some(BootDevice::Pxe),
            2 => Some(BootDevice::Disk),
            3 => Some(BootDevice::Safe),
            5 => Some(BootDevice::Cdrom),
            6 => Some(BootDevice::Bios),
            _ => None,
        }
    }

    /// The five bytes of the parameter.
    #[must_use]
    pub const fn encode(self) -> [u8; 5] {
        let first = (self.valid as u8) << 7 | (self.persistent as u8) << 6 | (self.uefi as u8) << 5;
        [first, (self.device & 0x0F) << 2, 0, 0, 0]
    }

    /// Reads the five bytes of the parameter.
    #[must_use]
    pub const fn decode(bytes: [u8; 5]) -> Self {
        let [first, second, ..] = bytes;
        Self {
            valid: first & 0x80 != 0,
            persistent: first & 0x40 != 0,
            uefi: first & 0x20 != 0,
            device: (second >> 2) & 0x0F,
        }
    }
}

/// Any command, as bytes: network function, number, data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCommand {
    /// Network function of the request, even.
    pub net_fn: u8,
    /// Number of the command.
    pub command: u8,
    /// Its data.
    pub data: Vec<u8>,
}

impl RawCommand {
    /// Cold Reset (`false`) or Warm Reset (`true`) of the BMC (IPMI 2.0 §20.2, §20.3).
    #[must_use]
    pub const fn reset(warm: bool) -> RawCommand {
        RawCommand { net_fn: 0x06, command: if warm { 0x03 } else { 0x02 }, data: Vec::new() }
    }
}

/// Bytes as `ipmitool raw` takes them: `0x00 0x08 5`, hexadecimal with `0x`, otherwise decimal.
impl std::str::FromStr for RawCommand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let byte = |word: &str| {
            let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
            let byte = hex.map_or_else(|| word.parse().ok(), |hex| u8::from_str_radix(hex, 16).ok());
            byte.ok_or_else(|| format!("'{word}' is not a byte: write it as 0x00 to 0xff"))
        };
        let bytes = text.split_whitespace().map(byte).collect::<Result<Vec<u8>, String>>()?;
        match bytes[..] {
            [net_fn, _, ..] if net_fn > 0x3F || net_fn % 2 == 1 => {
                Err(format!("{net_fn:#04x} is not the network function of a request: even, at most 0x3e"))
            }
            [net_fn, command, ref data @ ..] => Ok(RawCommand { net_fn, command, data: data.to_vec() }),
            [] | [_] => Err("at least two bytes are needed: network function and command".into()),
        }
    }
}

impl From<RawCommand> for Message {
    fn from(raw: RawCommand) -> Self {
        Message::new_request(NetFn::from(raw.net_fn), raw.command, raw.data)
    }
}

impl IpmiCommand for RawCommand {
    type Output = Vec<u8>;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<Vec<u8>, NotEnoughData> {
        Ok(data.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_boot_device_is_read_back_as_it_was_set() {
        for device in BootDevice::ALL {
            for (persistent, mode) in [(true, BootMode::Uefi), (false, BootMode::Bios)] {
                let flags = BootFlags::new(*device, persistent, mode);
                assert_eq!(BootFlags::decode(flags.encode()), flags);
                assert_eq!(flags.boot_device(), Some(*device));
            }
        }
        let pxe = BootFlags::new(BootDevice::Pxe, true, BootMode::Uefi);
        assert_eq!(pxe.encode(), [0xE0, 0x04, 0, 0, 0]);
    }

    #[test]
    fn raw_bytes_are_read_as_ipmitool_reads_them() {
        let raw = |text: &str| text.parse::<RawCommand>();
        let expected = RawCommand { net_fn: 0, command: 8, data: vec![3, 0xFF] };
        assert_eq!(raw("0x00 0x08  3 0xfF"), Ok(expected));
        for wrong in ["", "0x00", "0x00 0x100", "0x01 0x02", "0x40 0x02", "0x00 eight"] {
            assert!(raw(wrong).is_err(), "{wrong}");
        }
    }
}
