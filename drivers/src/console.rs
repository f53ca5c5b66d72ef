//! Consoles by IPMI serial over LAN. It bears Ironic's name `ipmitool-socat`.

use async_trait::async_trait;

use crate::error::DriverError;
use crate::interface::{ConsoleInterface, Interface, Json, NodeView, Property, Result};
use crate::properties;
use crate::protocol::ipmi::{IpmiSettings, Target, check_console};

/// Validates; opening a console is not part of this release.
pub struct IpmitoolSocat {
    settings: IpmiSettings,
}

impl IpmitoolSocat {
    /// With what the operator set.
    #[must_use]
    pub fn new(settings: IpmiSettings) -> Self {
        Self { settings }
    }
}

fn not_yet<T>() -> Result<T> {
    Err(DriverError::NotInRelease {
        what: "the serial console over IPMI".into(),
        remedy: "use `ipmitool sol activate` against the BMC, or console_interface no-console".into(),
    })
}

impl Interface for IpmitoolSocat {
    fn properties(&self) -> &'static [Property] {
        properties::IPMI_CONSOLE
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        Target::validate(node, &self.settings)?;
        check_console(node)
    }
}

#[async_trait]
impl ConsoleInterface for IpmitoolSocat {
    async fn start(&self, _node: &NodeView) -> Result<()> {
        not_yet()
    }

    /// Nothing is open: nothing to close.
    async fn stop(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }

    async fn console(&self, _node: &NodeView) -> Result<Json> {
        not_yet()
    }
}
