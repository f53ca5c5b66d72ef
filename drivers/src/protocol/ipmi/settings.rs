//! What the configuration and a node's driver_info say about IPMI.

use std::time::Duration;

use serde_json::Value;

use super::bridge::{Bridge, Hop};
use super::crypto::CipherSuite;
use super::handshake::Login;
use super::quirks::{self, Change};
use super::rakp::MAX_USER;
use super::{v15, words};
use crate::error::DriverError;
use crate::interface::{NodeView, Result};
use crate::secret::Secret;

/// Longest password and longest BMC key, bytes.
const MAX_KEY: usize = 20;
const DRIVER_INFO: &str = "driver_info";

/// How the client behaves; the same for the whole fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpmiSettings {
    /// Suites to try, in this order; no other is ever used (`cipher_suite_versions`). Not empty.
    pub cipher_suites: Vec<CipherSuite>,
    /// The longest that one command may take, waiting for its turn included (`command_retry_timeout`).
    pub command_timeout: Duration,
    /// Wait before the first retransmission; it doubles with each.
    pub retransmit_first: Duration,
    /// Longest wait between retransmissions.
    pub retransmit_max: Duration,
    /// Least time between two commands to one BMC (`min_command_interval`).
    pub min_command_interval: Duration,
    /// A session that was unused for so long is closed. BMCs drop theirs after about 60 s.
    pub session_idle: Duration,
    /// For so long after its last command a session is kept open instead, by a question that does nothing: whoever asks a
    /// fleet something each minute saves six of seven exchanges. Zero keeps none. Controllers that cannot bear commands in
    /// quick succession are spared ([`Quirks::command_interval`](super::Quirks::command_interval)).
    pub session_kept: Duration,
    /// Time between two looks at the power state while waiting for a change.
    pub poll_interval: Duration,
    /// Whether boot flags are kept beyond 60 s where the node does not say (`disable_boot_timeout`).
    pub disable_boot_timeout: bool,
    /// Further errors after which a command is sent again: completion codes as `0xc1`, or a part of their text
    /// (`additional_retryable_ipmi_errors`).
    pub additional_retryable: Vec<String>,
}

impl Default for IpmiSettings {
    fn default() -> Self {
        Self {
            cipher_suites: CipherSuite::ALL.to_vec(),
            command_timeout: Duration::from_secs(60),
            retransmit_first: Duration::from_secs(1),
            retransmit_max: Duration::from_secs(4),
            min_command_interval: Duration::ZERO,
            session_idle: Duration::from_secs(45),
            session_kept: Duration::ZERO,
            poll_interval: Duration::from_millis(500),
            disable_boot_timeout: true,
            additional_retryable: Vec::new(),
        }
    }
}

/// The level at which a session works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Privilege {
    /// May do little more than close its session.
    Callback,
    /// May read.
    User,
    /// May also switch power and set boot devices.
    Operator,
    /// May do everything.
    #[default]
    Administrator,
}

impl Privilege {
    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Privilege::Callback => 1,
            Privilege::User => 2,
            Privilege::Operator => 3,
            Privilege::Administrator => 4,
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        match word.to_ascii_uppercase().as_str() {
            "CALLBACK" => Some(Privilege::Callback),
            "USER" => Some(Privilege::User),
            "OPERATOR" => Some(Privilege::Operator),
            "ADMINISTRATOR" => Some(Privilege::Administrator),
            _ => None,
        }
    }
}

/// The IPMI version of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// IPMI 1.5.
    OneAndAHalf,
    /// IPMI 2.0 (RMCP+).
    #[default]
    Two,
}

/// A node's BMC: where it is and how to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// IP address or host name.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// User, password, level.
    pub login: Login,
    /// The kind of session.
    pub version: Version,
    /// Suites to try, in this order; IPMI 1.5 has none.
    pub suites: Vec<CipherSuite>,
    /// The way to a controller behind the BMC, where that is meant.
    pub bridge: Option<Bridge>,
    /// The node's `properties.vendor`.
    pub vendor: Option<String>,
    /// What the node changes of the table of quirks.
    pub quirks: Vec<Change>,
}

fn invalid(key: &str, reason: impl Into<String>) -> DriverError {
    DriverError::Invalid { section: DRIVER_INFO, key: key.to_owned(), reason: reason.into() }
}

/// A scalar of driver_info as text; `None` when absent, null or empty.
fn text(node: &NodeView, key: &str) -> Result<Option<String>> {
    match node.driver_info.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(Value::Bool(flag)) => Ok(Some(flag.to_string())),
        Some(Value::Array(_) | Value::Object(_)) => Err(invalid(key, "it must be a string")),
    }
}

/// A user name or password as it was typed: blanks at its ends belong to it.
fn verbatim(node: &NodeView, key: &str, longest: usize) -> Result<Vec<u8>> {
    let value = match node.driver_info.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(invalid(key, "it must be a string"));
        }
    };
    if value.len() > longest {
        return Err(invalid(key, format!("IPMI allows {longest} bytes at most, it has {}", value.len())));
    }
    Ok(value.into_bytes())
}

/// A yes or no in the words that OpenStack takes.
pub(crate) fn flag(node: &NodeView, key: &str, default: bool) -> Result<bool> {
    match text(node, key)?.map(|word| word.to_ascii_lowercase()).as_deref() {
        None => Ok(default),
        Some("true" | "t" | "yes" | "y" | "on" | "1") => Ok(true),
        Some("false" | "f" | "no" | "n" | "off" | "0") => Ok(false),
        Some(word) => Err(invalid(key, format!("'{word}' is neither true nor false"))),
    }
}

fn suites(node: &NodeView, settings: &IpmiSettings) -> Result<Vec<CipherSuite>> {
    const KEY: &str = "ipmi_cipher_suite";
    let Some(word) = text(node, KEY)? else { return Ok(settings.cipher_suites.clone()) };
    let suite = word.parse().ok().and_then(CipherSuite::from_id).ok_or_else(|| {
        invalid(KEY, format!("'{word}' is not a cipher suite that is supported: use 17 or, for old BMCs, 3"))
    })?;
    if !settings.cipher_suites.contains(&suite) {
        let reason = format!("[ipmi] cipher_suite_versions of the configuration does not allow suite {word}");
        return Err(invalid(KEY, reason));
    }
    Ok(vec![suite])
}

fn kg(node: &NodeView) -> Result<Option<Secret<Vec<u8>>>> {
    const KEY: &str = "ipmi_hex_kg_key";
    let Some(hex) = text(node, KEY)? else { return Ok(None) };
    let bytes: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            let digits = std::str::from_utf8(pair).ok().filter(|pair| !pair.contains('+'))?;
            (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
        })
        .collect();
    match bytes {
        Some(bytes) if bytes.len() <= MAX_KEY => Ok(Some(Secret::new(bytes))),
        Some(_) | None => Err(invalid(KEY, "it must be an even number of hexadecimal digits, 40 at most")),
    }
}

fn version(node: &NodeView) -> Result<Version> {
    Ok(match text(node, "ipmi_protocol_version")?.as_deref() {
        Some("1.5") => Version::OneAndAHalf,
        // words::check refuses others
        Some(_) | None => Version::Two,
    })
}

/// A byte as `ipmitool` reads it: decimal, or hexadecimal behind `0x`.
fn byte(node: &NodeView, key: &str, highest: u8) -> Result<Option<u8>> {
    let Some(word) = text(node, key)? else { return Ok(None) };
    let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let number = hex.map_or_else(|| word.parse().ok(), |hex| u8::from_str_radix(hex, 16).ok());
    match number.filter(|number| *number <= highest) {
        Some(number) => Ok(Some(number)),
        None => Err(invalid(key, format!("'{word}' is not a number from 0 to {highest:#04x}"))),
    }
}

fn hop(node: &NodeView, channel: &str, address: &str) -> Result<Hop> {
    let absent = |key: &str| invalid(key, "bridging needs it");
    let (at, to) = (byte(node, channel, 0x0F)?, byte(node, address, 0xFF)?);
    Ok(Hop { channel: at.ok_or_else(|| absent(channel))?, address: to.ok_or_else(|| absent(address))? })
}

fn bridge(node: &NodeView) -> Result<Option<Bridge>> {
    let kind = text(node, "ipmi_bridging")?;
    let transit = match kind.as_deref() {
        Some("single") => None,
        Some("dual") => Some(hop(node, "ipmi_transit_channel", "ipmi_transit_address")?),
        // words::check refuses others
        Some(_) | None => return Ok(None),
    };
    let target = hop(node, "ipmi_target_channel", "ipmi_target_address")?;
    let local = byte(node, "ipmi_local_address", 0xFF)?.unwrap_or(Bridge::LOCAL);
    Ok(Some(Bridge { local, transit, target }))
}

impl Target {
    /// Reads and checks driver_info.
    pub fn from_node(node: &NodeView, settings: &IpmiSettings) -> Result<Self> {
        let target = Self::read(node, settings)?;
        words::check_address(node)?;
        Ok(target)
    }

    /// Checks driver_info as Ironic does for all interfaces but power: the form of the address is only power's concern.
    pub(crate) fn validate(node: &NodeView, settings: &IpmiSettings) -> Result<()> {
        Self::read(node, settings).map(drop)
    }

    fn read(node: &NodeView, settings: &IpmiSettings) -> Result<Self> {
        words::check(node)?;
        let host = node.driver_info.get("ipmi_address").map(crate::python::str).unwrap_or_default();
        let host = host.trim().to_owned();
        let port = match text(node, "ipmi_port")? {
            None => 623,
            Some(word) => word.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                invalid("ipmi_port", format!("'{word}' is not a port: use a number from 1 to 65535"))
            })?,
        };
        let privilege = match text(node, "ipmi_priv_level")? {
            None => Privilege::default(),
            Some(word) => Privilege::from_word(&word).ok_or_else(|| {
                let reason = format!("'{word}' is unknown: use ADMINISTRATOR, OPERATOR, USER or CALLBACK");
                invalid("ipmi_priv_level", reason)
            })?,
        };
        let version = version(node)?;
        let longest = match version {
            Version::OneAndAHalf => v15::MAX_PASSWORD,
            Version::Two => MAX_KEY,
        };
        let login = Login {
            user: verbatim(node, "ipmi_username", MAX_USER)?,
            password: Secret::new(verbatim(node, "ipmi_password", longest)?),
            kg: kg(node)?,
            privilege,
        };
        let vendor = node.properties.get("vendor").and_then(Value::as_str).map(str::to_owned);
        let quirks = quirks::overrides(node, settings.disable_boot_timeout)?;
        let (suites, bridge) = (suites(node, settings)?, bridge(node)?);
        Ok(Self { host, port, login, version, suites, bridge, vendor, quirks })
    }

    /// What the governor serialises on.
    #[must_use]
    pub fn key(&self) -> String {
        format!("ipmi:{}:{}", self.host, self.port)
    }

    /// For texts: the BMC with its address.
    #[must_use]
    pub fn name(&self) -> String {
        if self.host.contains(':') {
            return format!("BMC [{}]:{}", self.host, self.port);
        }
        format!("BMC {}:{}", self.host, self.port)
    }
}
