//! Management: boot device and mode, secure boot, indicators, NMI, virtual media.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ferric_machine::{BootDevice, BootMode};
use serde_json::Value;

use super::{DriverError, EventLog, Fru, Identify, NodeView, Property, Result, Sensors, unsupported};

/// What a light of a machine shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names are Ironic's own
pub enum IndicatorState {
    Off,
    On,
    Blinking,
    Unknown,
}

impl IndicatorState {
    /// All four.
    pub const ALL: [IndicatorState; 4] =
        [IndicatorState::Off, IndicatorState::On, IndicatorState::Blinking, IndicatorState::Unknown];

    /// Its word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            IndicatorState::Off => "off",
            IndicatorState::On => "on",
            IndicatorState::Blinking => "blinking",
            IndicatorState::Unknown => "unknown",
        }
    }
}

impl std::str::FromStr for IndicatorState {
    type Err = ferric_machine::UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, Self::Err> {
        IndicatorState::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| ferric_machine::UnknownWord { what: "indicator state", word: word.to_owned() })
    }
}

/// A light of a machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Indicator {
    /// It can be read and not be set.
    pub readonly: bool,
    /// What it can show.
    pub states: Vec<IndicatorState>,
}

/// Component (`chassis`, `system`, `disk`, `power`, `nic`) → id of the light → the light.
pub type Indicators = BTreeMap<String, BTreeMap<String, Indicator>>;

/// An image to be put into a virtual drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmediaAsk {
    /// `cdrom`, `floppy`, `disk` (`usb`) …
    pub device_type: String,
    /// Where the BMC fetches it; may hold credentials.
    pub image_url: String,
}

/// A virtual drive as `GET …/vmedia` shows it.
pub type Attached = Value;

/// Tells a machine how to boot, and whatever else its BMC can be told. What an interface does not implement answers
/// [`DriverError::Unsupported`] in Ironic's words.
#[async_trait]
pub trait ManagementInterface: Send + Sync {
    /// The driver_info keys it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks driver_info without touching the network.
    fn validate(&self, node: &NodeView) -> Result<()>;
    /// The devices that can be set; empty when it cannot set any (`noop`).
    fn supported_boot_devices(&self) -> &'static [BootDevice];
    /// The device set now and whether it is persistent; `None` for what the BMC does not tell.
    async fn boot_device(&self, node: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)>;
    /// Sets the device for the next boot, or for every boot with `persistent`.
    async fn set_boot_device(
        &self,
        node: &NodeView,
        device: BootDevice,
        persistent: bool,
        mode: BootMode,
    ) -> Result<()>;
    /// The error for a device that is not among [`ManagementInterface::supported_boot_devices`].
    fn refused_boot_device(&self, device: &str) -> DriverError {
        DriverError::InvalidParameter { reason: format!("Invalid boot device {device} specified.") }
    }
    /// The boot modes that can be set.
    async fn supported_boot_modes(&self, node: &NodeView) -> Result<Vec<BootMode>> {
        Err(unsupported(node, "get_supported_boot_modes"))
    }
    /// The mode the machine boots in; `None` when the BMC does not tell.
    async fn boot_mode(&self, node: &NodeView) -> Result<Option<BootMode>> {
        Err(unsupported(node, "get_boot_mode"))
    }
    /// Sets the mode of the boots to come.
    async fn set_boot_mode(&self, node: &NodeView, _mode: BootMode) -> Result<()> {
        Err(unsupported(node, "set_boot_mode"))
    }
    /// Whether secure boot is on.
    async fn secure_boot(&self, node: &NodeView) -> Result<bool> {
        Err(unsupported(node, "get_secure_boot_state"))
    }
    /// Switches secure boot.
    async fn set_secure_boot(&self, node: &NodeView, _on: bool) -> Result<()> {
        Err(unsupported(node, "set_secure_boot_state"))
    }
    /// A non-maskable interrupt, now.
    async fn inject_nmi(&self, node: &NodeView) -> Result<()> {
        Err(unsupported(node, "inject_nmi"))
    }
    /// The lights of the machine, or of one of its components.
    async fn indicators(&self, node: &NodeView, _component: Option<&str>) -> Result<Indicators> {
        Err(unsupported(node, "get_supported_indicators"))
    }
    /// What a light shows.
    async fn indicator(&self, node: &NodeView, _component: &str, _indicator: &str) -> Result<IndicatorState> {
        Err(unsupported(node, "get_indicator_state"))
    }
    /// Makes a light show `state`.
    async fn set_indicator(
        &self,
        node: &NodeView,
        _component: &str,
        _indicator: &str,
        _state: IndicatorState,
    ) -> Result<()> {
        Err(unsupported(node, "set_indicator_state"))
    }
    /// The sensors, read now.
    async fn sensors(&self, node: &NodeView) -> Result<Sensors> {
        Err(unsupported(node, "get_sensors_data"))
    }
    /// The newest `most` entries of the event log, the newest first.
    async fn event_log(&self, node: &NodeView, _most: usize) -> Result<EventLog> {
        Err(unsupported(node, "get_event_log"))
    }
    /// Clears the event log.
    async fn clear_event_log(&self, node: &NodeView) -> Result<()> {
        Err(unsupported(node, "clear_event_log"))
    }
    /// The inventories of the machine and its parts.
    async fn fru(&self, node: &NodeView) -> Result<Vec<Fru>> {
        Err(unsupported(node, "get_fru"))
    }
    /// Switches the light by which the machine is found.
    async fn identify(&self, node: &NodeView, _light: Identify) -> Result<()> {
        Err(unsupported(node, "set_identify"))
    }
    /// The virtual drives with what is in them.
    async fn vmedia(&self, node: &NodeView) -> Result<Vec<Attached>> {
        Err(unsupported(node, "get_virtual_media"))
    }
    /// Puts an image into a virtual drive.
    async fn attach_vmedia(&self, node: &NodeView, _ask: &VmediaAsk) -> Result<()> {
        Err(unsupported(node, "attach_virtual_media"))
    }
    /// Empties the virtual drives of these types, or all.
    async fn detach_vmedia(&self, node: &NodeView, _device_types: Option<&[String]>) -> Result<()> {
        Err(unsupported(node, "detach_virtual_media"))
    }
}
