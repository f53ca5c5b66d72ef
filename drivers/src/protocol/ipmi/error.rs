//! What a command to a BMC can end in.

use std::time::Duration;

use ipmi_rs_core::connection::CompletionErrorCode;

use super::settings::Target;
use crate::error::DriverError;

/// A failed command, without saying to whom; [`IpmiError::of`] adds that.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum IpmiError {
    /// The host name has no address.
    #[error("host name without address: {0}")]
    Resolve(String),
    /// This host cannot send.
    #[error("no socket: {0}")]
    Socket(String),
    /// Nothing was heard.
    #[error("silent for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The BMC agreed to open a session and fell silent once it knew the user's name.
    #[error("silent for {} s after the user name", .0.as_secs_f32())]
    SilentToUser(Duration),
    /// The BMC says that it has no IPMI 2.0, and answers nothing of it.
    #[error("silent for {} s to IPMI 2.0", .0.as_secs_f32())]
    OnlyOld(Duration),
    /// User, password, level or key are not accepted.
    #[error("credentials rejected: {0}")]
    Credentials(String),
    /// None of the suites that may be used is offered.
    #[error("no common cipher suite: {0}")]
    NoSuite(String),
    /// No session is to be had.
    #[error("no session: {0}")]
    NoSession(String),
    /// As many sessions as the BMC can hold are open, and none became free in time.
    #[error("no free session: {0}")]
    NoFreeSession(String),
    /// The command was answered with an error.
    #[error("completion code {0:#04x}")]
    Completion(u8),
    /// The BMC, or a controller on the way, could not pass the command on.
    #[error("not passed on: completion code {0:#04x}")]
    Bridge(u8),
    /// The machine was just reset, and the BMC is not believed about its power for a while.
    #[error("state not trusted for another {} s", .0.as_secs_f32())]
    Unsettled(Duration),
    /// The command is longer than IPMI 1.5 can carry.
    #[error("command too long")]
    TooLong,
    /// The command was answered with too little.
    #[error("answer too short")]
    Short,
    /// The client is shutting down, or the task of this command died.
    #[error("stopped")]
    Stopped,
}

fn completion_text(code: u8) -> &'static str {
    match CompletionErrorCode::try_from(code) {
        Ok(CompletionErrorCode::NodeBusy) => "it is busy",
        Ok(CompletionErrorCode::InvalidCommand | CompletionErrorCode::InvalidCommandForLun) => {
            "it does not know the command"
        }
        Ok(CompletionErrorCode::ProcessingTimeout) => "it took too long by its own measure",
        Ok(CompletionErrorCode::OutOfSpace) => "it is out of space",
        Ok(CompletionErrorCode::ParameterOutOfRange) => "parameter out of range",
        Ok(CompletionErrorCode::InvalidDataFieldInRequest) => "invalid data in the request",
        Ok(CompletionErrorCode::InsufficientPrivilege) => "the privilege level is too low (ipmi_priv_level)",
        Ok(CompletionErrorCode::CannotExecuteCommandInCurrentState) => "not possible in its present state",
        Ok(_) | Err(()) => "see table 5-2 of the IPMI specification",
    }
}

/// Whether an operator's words for an error mean this completion code: its number, or a part of its name as
/// `ipmitool` prints it.
pub(super) fn names(words: &str, code: u8) -> bool {
    let words = words.trim().to_ascii_lowercase();
    if let Some(hex) = words.strip_prefix("0x") {
        return u8::from_str_radix(hex, 16) == Ok(code);
    }
    !words.is_empty() && tool_name(code).to_ascii_lowercase().contains(&words)
}

/// The name of a completion code in `ipmitool` (IPMI 2.0 table 5-2).
const fn tool_name(code: u8) -> &'static str {
    match code {
        0xC0 => "Node busy",
        0xC1 => "Invalid command",
        0xC2 => "Invalid command on LUN",
        0xC3 => "Timeout",
        0xC4 => "Out of space",
        0xC5 => "Reservation cancelled or invalid",
        0xC6 => "Request data truncated",
        0xC7 => "Request data length invalid",
        0xC8 => "Request data field length limit exceeded",
        0xC9 => "Parameter out of range",
        0xCA => "Cannot return number of requested data bytes",
        0xCB => "Requested sensor, data, or record not found",
        0xCC => "Invalid data field in request",
        0xCD => "Command illegal for specified sensor or record type",
        0xCE => "Command response could not be provided",
        0xCF => "Cannot execute duplicated request",
        0xD0 => "SDR Repository in update mode",
        0xD1 => "Device firmeware in update mode",
        0xD2 => "BMC initialization in progress",
        0xD3 => "Destination unavailable",
        0xD4 => "Insufficient privilege level",
        0xD5 => "Command not supported in present state",
        0xD6 => "Cannot execute command, command disabled",
        0xFF => "Unspecified error",
        _ => "",
    }
}

impl IpmiError {
    /// The error of a driver: with the BMC's address, the command in words and a remedy.
    #[must_use]
    pub fn of(self, target: &Target, command: &str) -> DriverError {
        let what = target.name();
        let refused =
            |reason: String| DriverError::Refused { what: target.name(), command: command.into(), reason };
        match self {
            IpmiError::Resolve(reason) => DriverError::Invalid {
                section: "driver_info",
                key: "ipmi_address".to_owned(),
                reason: format!(
                    "{} cannot be resolved ({reason}): use an IP address or mend the name service",
                    target.host
                ),
            },
            IpmiError::Socket(reason) => DriverError::Io { path: format!("UDP socket to {what}"), reason },
            IpmiError::Silent(after) => DriverError::Unreachable {
                what,
                after,
                remedy:
                    "check ipmi_address, ipmi_port, the network, and that IPMI over LAN is enabled on the BMC"
                        .into(),
            },
            IpmiError::SilentToUser(after) => DriverError::Unreachable {
                what,
                after,
                remedy: "it answers until it hears the user name: check ipmi_username and, with IPMI 1.5, \
                         ipmi_password, which some BMCs ignore when they are wrong, and the network"
                    .into(),
            },
            IpmiError::OnlyOld(after) => DriverError::Unreachable {
                what,
                after,
                remedy:
                    "it says that it speaks no IPMI 2.0: set ipmi_protocol_version to 1.5 in driver_info, or \
                         enable RMCP+ on the BMC"
                        .into(),
            },
            IpmiError::Credentials(reason) => DriverError::RejectedCredentials {
                what,
                remedy: format!(
                    "{reason}; check ipmi_username, ipmi_password, ipmi_priv_level and ipmi_hex_kg_key"
                ),
            },
            IpmiError::NoSuite(reason) => refused(format!(
                "{reason}; enable suite 17 on the BMC, or allow suite 3 by ipmi_cipher_suite and [ipmi] cipher_suite_versions"
            )),
            IpmiError::NoSession(reason) | IpmiError::NoFreeSession(reason) => refused(format!(
                "it opens no session ({reason}); close other IPMI sessions, wait a minute for lost ones to expire, or restart the BMC"
            )),
            IpmiError::Completion(code) => {
                refused(format!("completion code {code:#04x}, {}", completion_text(code)))
            }
            IpmiError::Bridge(code) => refused(format!(
                "it cannot pass the command on (completion code {code:#04x}, {}); check ipmi_bridging, \
                 ipmi_target_channel, ipmi_target_address, ipmi_transit_channel and ipmi_transit_address",
                match code {
                    0x81 => "the bus was busy",
                    0x82 => "an error on the bus",
                    0x83 | 0xD3 => "nobody answers there",
                    _ => completion_text(code),
                }
            )),
            IpmiError::Unsettled(left) => DriverError::Unreachable {
                what,
                after: left,
                remedy:
                    "what it says about the power is not trusted so soon after a reset: ask again, or lower \
                         ipmi_quirk_settle_after_reset in driver_info"
                        .into(),
            },
            IpmiError::TooLong => refused("IPMI 1.5 cannot carry it: use ipmi_protocol_version 2.0".into()),
            IpmiError::Short => refused("its answer is too short; update the firmware of the BMC".into()),
            IpmiError::Stopped => refused("Ferric is shutting down".into()),
        }
    }
}
