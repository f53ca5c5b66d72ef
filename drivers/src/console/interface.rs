//! Consoles by IPMI serial over LAN. It bears Ironic's name `ipmitool-socat`; neither program runs.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Attachment, Consoles, url};
use crate::error::DriverError;
use crate::interface::{ConsoleInterface, Interface, Json, NodeView, Property, Result};
use crate::properties;
use crate::protocol::ipmi::{IpmiSettings, Target, check_console};

/// The key of driver_internal_info that holds the port of `[console] port_range`, as in Ironic.
pub const ALLOCATED_PORT: &str = "allocated_ipmi_terminal_port";

/// The console interface `ipmitool-socat`, of nodes whose BMC speaks IPMI whatever else manages them.
pub struct IpmitoolSocat {
    consoles: Consoles,
    settings: IpmiSettings,
}

impl IpmitoolSocat {
    /// Uses `consoles` for every node.
    #[must_use]
    pub fn new(consoles: Consoles, settings: IpmiSettings) -> Self {
        Self { consoles, settings }
    }

    /// The port that driver_info asks for.
    fn fixed_port(node: &NodeView) -> Result<Option<u16>> {
        const KEY: &str = "ipmi_terminal_port";
        let word = match node.driver_info.get(KEY) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => crate::python::str(value),
        };
        match word.trim() {
            "" | "0" => Ok(None),
            word => word.parse().map(Some).map_err(|_| DriverError::Invalid {
                section: "driver_info",
                key: KEY.to_owned(),
                reason: format!("'{word}' is not a port: use a number from 1 to 65535"),
            }),
        }
    }

    fn closed() -> DriverError {
        DriverError::Refused {
            what: "Ferric itself".into(),
            command: "the serial console".into(),
            reason: "it is not open just now: PUT {\"enabled\": true} to the node's states/console opens it, also when it is \
                     enabled already (an undeploy closes it). If last_error says that it could not be opened, it is tried again"
                .into(),
        }
    }
}

impl Interface for IpmitoolSocat {
    fn properties(&self) -> &'static [Property] {
        properties::IPMI_CONSOLE
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        Target::validate(node, &self.settings)?;
        check_console(node, !self.consoles.settings().port_ranges.is_empty())
    }
}

#[async_trait]
impl ConsoleInterface for IpmitoolSocat {
    async fn start(&self, node: &NodeView) -> Result<Json> {
        let target = Target::from_node(node, &self.settings)?;
        let fixed = Self::fixed_port(node)?;
        let before = node.driver_internal_info.get(ALLOCATED_PORT).and_then(Value::as_u64);
        let before = before.and_then(|port| u16::try_from(port).ok());
        let port = self.consoles.open(node.uuid, target, fixed, before).await?;
        let mut remember = Json::new();
        remember.insert(ALLOCATED_PORT.into(), if fixed.is_some() { Value::Null } else { json!(port) });
        Ok(remember)
    }

    async fn stop(&self, node: &NodeView) -> Result<Json> {
        self.consoles.close(node.uuid, "the console is switched off").await;
        let mut remember = Json::new();
        remember.insert(ALLOCATED_PORT.into(), Value::Null);
        Ok(remember)
    }

    async fn dismiss(&self, node: &NodeView, why: &'static str) -> Result<()> {
        self.consoles.close(node.uuid, why).await;
        Ok(())
    }

    async fn console(&self, node: &NodeView) -> Result<Json> {
        let address = self.consoles.settings().address;
        // where nobody listens is no address
        let port = self.consoles.port(node.uuid).await;
        let mut info = Json::new();
        info.insert("type".into(), json!("socat"));
        info.insert("url".into(), json!(port.map(|port| url(address, port))));
        Ok(info)
    }

    fn is_open(&self, node: &NodeView) -> bool {
        self.consoles.is_open(node.uuid)
    }

    async fn attach(&self, node: &NodeView, wants: bool) -> Result<Attachment> {
        match self.consoles.attach(node.uuid, wants).await {
            None => Err(Self::closed()),
            Some(attached) => attached.map_err(|crowded| DriverError::Refused {
                what: "Ferric itself".into(),
                command: "the serial console".into(),
                reason: crowded.to_string(),
            }),
        }
    }
}
