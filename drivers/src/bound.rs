//! The implementations there are, and those that a node works with.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferric_machine::Activity;

use crate::interface::{
    AgentSteps, BootInterface, Chosen, ConsoleInterface, DeployInterface, Interface, Kind,
    ManagementInterface, NodeView, PowerInterface, RaidInterface, Steps, VendorInterface,
};

/// The implementations behind the names. What does nothing (`no-…`, `noop`, `fake`) needs no entry.
#[derive(Clone, Default)]
pub struct Parts {
    /// Power interfaces by name.
    pub power: BTreeMap<&'static str, Arc<dyn PowerInterface>>,
    /// Management interfaces by name.
    pub management: BTreeMap<&'static str, Arc<dyn ManagementInterface>>,
    /// Boot interfaces by name.
    pub boot: BTreeMap<&'static str, Arc<dyn BootInterface>>,
    /// Deploy interfaces by name.
    pub deploy: BTreeMap<&'static str, Arc<dyn DeployInterface>>,
    /// Console interfaces by name.
    pub console: BTreeMap<&'static str, Arc<dyn ConsoleInterface>>,
    /// Vendor interfaces by name.
    pub vendor: BTreeMap<&'static str, Arc<dyn VendorInterface>>,
    /// RAID interfaces by name.
    pub raid: BTreeMap<&'static str, Arc<dyn RaidInterface>>,
    /// Properties and validation of the kinds that have nothing else: bios, firmware, inspect, network, rescue,
    /// storage.
    pub interfaces: BTreeMap<(Kind, &'static str), Arc<dyn Interface>>,
    /// What interfaces of any kind but deploy do in steps.
    pub steps: BTreeMap<(Kind, &'static str), Arc<dyn Steps>>,
    /// The way to the steps of agents; absent where no agent is ever spoken to (tests).
    pub agent_steps: Option<Arc<dyn AgentSteps>>,
}

/// The interfaces a node works with.
#[derive(Clone)]
pub struct Bound {
    /// All thirteen names.
    pub names: Chosen,
    /// Power.
    pub power: Arc<dyn PowerInterface>,
    /// Management.
    pub management: Arc<dyn ManagementInterface>,
    /// Boot.
    pub boot: Arc<dyn BootInterface>,
    /// Deploy.
    pub deploy: Arc<dyn DeployInterface>,
    /// Console.
    pub console: Arc<dyn ConsoleInterface>,
    /// Vendor.
    pub vendor: Arc<dyn VendorInterface>,
    /// RAID.
    pub raid: Arc<dyn RaidInterface>,
    /// Bios, firmware, inspect, network, rescue, storage.
    pub interfaces: BTreeMap<Kind, Arc<dyn Interface>>,
    /// The interfaces of the other kinds that carry out steps.
    pub steps: BTreeMap<Kind, Arc<dyn Steps>>,
    /// The way to the steps of agents.
    pub agent_steps: Option<Arc<dyn AgentSteps>>,
}

impl Bound {
    /// Who carries out the steps of an interface; `None` for a kind that has none.
    #[must_use]
    pub fn steps_of(&self, kind: Kind) -> Option<Arc<dyn Steps>> {
        match kind {
            Kind::Deploy => Some(self.deploy.clone()),
            Kind::Bios
            | Kind::Boot
            | Kind::Console
            | Kind::Firmware
            | Kind::Inspect
            | Kind::Management
            | Kind::Network
            | Kind::Power
            | Kind::Raid
            | Kind::Rescue
            | Kind::Storage
            | Kind::Vendor => self.steps.get(&kind).cloned(),
        }
    }

    /// Checks the node's fields for the interface of one kind, as `GET /v1/nodes/{node}/validate` reports it. What
    /// there is none of (`no-…`) is [`crate::DriverError::Unsupported`].
    pub fn validate(&self, kind: Kind, node: &NodeView) -> crate::interface::Result<()> {
        match kind {
            Kind::Boot => self.boot.validate(node),
            Kind::Console => self.console.validate(node),
            Kind::Deploy => {
                if self.deploy.needs_boot() {
                    self.boot.validate(node)?;
                }
                self.deploy.validate(node)
            }
            Kind::Management => self.management.validate(node),
            Kind::Power => self.power.validate(node),
            Kind::Raid => self.raid.validate(node),
            Kind::Vendor => self.vendor.validate(node),
            Kind::Inspect => {
                self.interfaces.get(&kind).map_or(Ok(()), |interface| interface.validate(node))?;
                self.steps.get(&kind).map_or(Ok(()), |steps| steps.validate_for(node, Activity::Inspect))
            }
            Kind::Bios | Kind::Firmware | Kind::Network | Kind::Rescue | Kind::Storage => {
                self.interfaces.get(&kind).map_or(Ok(()), |interface| interface.validate(node))
            }
        }
    }
}
