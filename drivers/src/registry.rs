//! Which hardware types and interfaces exist, which are enabled, and what a node's fields bind to.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hardware;
use crate::interface::{
    AgentSteps, BootInterface, Chosen, DeployInterface, Kind, ManagementInterface, PowerInterface, Property,
    Steps,
};

/// What is enabled (`[hardware]`; names as Ironic's options).
#[derive(Clone, Debug, Default)]
pub struct RegistrySettings {
    /// `enabled_hardware_types`.
    pub hardware_types: Vec<String>,
    /// `enabled_<kind>_interfaces`; a kind that is absent enables everything built.
    pub enabled: BTreeMap<Kind, Vec<String>>,
    /// `default_<kind>_interface`.
    pub defaults: BTreeMap<Kind, String>,
}

/// The implementations behind the names. Kinds without behaviour yet (bios, console, …) have names only.
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
    /// Interfaces of the other kinds that carry out steps: inspect, rescue, raid, bios, …
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
}

/// Why names cannot be bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The hardware type does not exist or is not enabled.
    #[error("hardware type '{0}' is not enabled; enabled are: {1}")]
    UnknownType(String, String),
    /// The interface is not one of the hardware type's, or not enabled.
    #[error(
        "Could not find the following interface in the 'ironic.hardware.interfaces.{kind}' entrypoint or it is \
         not compatible with hardware type '{driver}': {name}. Valid interfaces are {valid}."
    )]
    Incompatible {
        /// Kind, e.g. `power`.
        kind: &'static str,
        /// The hardware type.
        driver: String,
        /// What was asked for.
        name: String,
        /// What would do.
        valid: String,
    },
    /// The hardware type has no enabled interface of this kind.
    #[error("hardware type '{driver}' has no enabled {kind} interface; enable one of: {supported}")]
    NoneEnabled {
        /// Kind, e.g. `power`.
        kind: &'static str,
        /// The hardware type.
        driver: String,
        /// What it supports.
        supported: String,
    },
}

/// Preferred by the hardware types, and yet not enabled in Ironic unless the operator does so (config.md).
const CHOSEN_ONLY: &[(Kind, &str)] = &[(Kind::Inspect, "agent")];

/// Everything that nodes can be bound to.
pub struct Registry {
    settings: RegistrySettings,
    parts: Parts,
}

impl Registry {
    /// Checks the settings against what is built: every enabled type must exist and have one enabled interface of
    /// every kind, so that a mistake shows at start and not at the first node.
    pub fn new(settings: RegistrySettings, parts: Parts) -> Result<Registry, BindError> {
        let registry = Registry { settings, parts };
        for name in &registry.settings.hardware_types {
            registry.resolve(name, &Chosen::new())?;
        }
        Ok(registry)
    }

    /// The enabled hardware types, sorted.
    #[must_use]
    pub fn types(&self) -> Vec<&'static hardware::HardwareType> {
        let mut all: Vec<_> = hardware::TYPES
            .iter()
            .filter(|row| self.settings.hardware_types.iter().any(|name| name == row.name))
            .collect();
        all.sort_by_key(|row| row.name);
        all
    }

    fn hardware_type(&self, driver: &str) -> Result<&'static hardware::HardwareType, BindError> {
        self.types().into_iter().find(|row| row.name == driver).ok_or_else(|| {
            let all: Vec<_> = self.types().iter().map(|row| row.name).collect();
            BindError::UnknownType(driver.to_owned(), all.join(", "))
        })
    }

    fn built(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Power => self.parts.power.contains_key(name),
            Kind::Management => self.parts.management.contains_key(name),
            Kind::Boot => self.parts.boot.contains_key(name),
            Kind::Deploy => self.parts.deploy.contains_key(name),
            // without behaviour: "none of that" by name, and the networks, which nothing switches yet
            Kind::Bios
            | Kind::Console
            | Kind::Firmware
            | Kind::Inspect
            | Kind::Network
            | Kind::Raid
            | Kind::Rescue
            | Kind::Storage
            | Kind::Vendor => {
                name.starts_with("no-")
                    || matches!(name, "noop" | "flat" | "fake")
                    || self.parts.steps.contains_key(&(kind, name))
            }
        }
    }

    /// The interfaces of `kind` that may be chosen for `driver`, best first.
    pub fn enabled(&self, driver: &str, kind: Kind) -> Result<Vec<&'static str>, BindError> {
        let row = self.hardware_type(driver)?;
        let enabled = self.settings.enabled.get(&kind);
        Ok(row
            .supported(kind)
            .iter()
            .copied()
            .filter(|name| enabled.is_none_or(|list| list.iter().any(|one| one == name)))
            .filter(|name| self.built(kind, name))
            .collect())
    }

    /// The interface a node of `driver` gets when it names none (deploy.md §B.6).
    pub fn default_interface(&self, driver: &str, kind: Kind) -> Result<&'static str, BindError> {
        let all = self.enabled(driver, kind)?;
        let wanted = self.settings.defaults.get(&kind).and_then(|name| all.iter().find(|one| *one == name));
        // without a list of the operator's, what Ironic does not enable by itself has to be chosen by name
        let listed = self.settings.enabled.contains_key(&kind);
        let usual = all.iter().find(|name| listed || !CHOSEN_ONLY.contains(&(kind, **name)));
        wanted.or(usual).or(all.first()).copied().ok_or_else(|| BindError::NoneEnabled {
            kind: kind.as_str(),
            driver: driver.to_owned(),
            supported: hardware::TYPES
                .iter()
                .find(|row| row.name == driver)
                .map(|row| row.supported(kind).join(", "))
                .unwrap_or_default(),
        })
    }

    /// All thirteen names: what was chosen, checked, and defaults for the rest.
    pub fn resolve(&self, driver: &str, chosen: &Chosen) -> Result<Chosen, BindError> {
        let mut all = Chosen::new();
        for kind in Kind::ALL {
            let name = match chosen.get(&kind).filter(|name| !name.is_empty()) {
                Some(name) => {
                    let valid = self.enabled(driver, kind)?;
                    if !valid.iter().any(|one| one == name) {
                        return Err(BindError::Incompatible {
                            kind: kind.as_str(),
                            driver: driver.to_owned(),
                            name: name.clone(),
                            valid: format!("{valid:?}"),
                        });
                    }
                    name.clone()
                }
                None => self.default_interface(driver, kind)?.to_owned(),
            };
            all.insert(kind, name);
        }
        Ok(all)
    }

    /// The implementations behind `chosen`.
    pub fn bind(&self, driver: &str, chosen: &Chosen) -> Result<Bound, BindError> {
        let names = self.resolve(driver, chosen)?;
        let part = |kind: Kind| names.get(&kind).expect("resolve fills every kind").as_str();
        let built = "enabled() filters by what is built";
        Ok(Bound {
            power: self.parts.power.get(part(Kind::Power)).expect(built).clone(),
            management: self.parts.management.get(part(Kind::Management)).expect(built).clone(),
            boot: self.parts.boot.get(part(Kind::Boot)).expect(built).clone(),
            deploy: self.parts.deploy.get(part(Kind::Deploy)).expect(built).clone(),
            steps: Kind::ALL
                .into_iter()
                .filter_map(|kind| {
                    let found =
                        self.parts.steps.iter().find(|((of, name), _)| *of == kind && *name == part(kind));
                    found.map(|(_, steps)| (kind, steps.clone()))
                })
                .collect(),
            agent_steps: self.parts.agent_steps.clone(),
            names,
        })
    }

    /// The driver_info keys of a hardware type's enabled interfaces, sorted, each once.
    pub fn properties(&self, driver: &str) -> Result<Vec<Property>, BindError> {
        let mut all: BTreeMap<&'static str, &'static str> = BTreeMap::new();
        for name in self.enabled(driver, Kind::Power)? {
            all.extend(self.parts.power[name].properties().iter().copied());
        }
        for name in self.enabled(driver, Kind::Management)? {
            all.extend(self.parts.management[name].properties().iter().copied());
        }
        for name in self.enabled(driver, Kind::Boot)? {
            all.extend(self.parts.boot[name].properties().iter().copied());
        }
        for name in self.enabled(driver, Kind::Deploy)? {
            all.extend(self.parts.deploy[name].properties().iter().copied());
        }
        Ok(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::FakeBoot;
    use crate::deploy::FakeDeploy;
    use crate::management::NoopManagement;
    use crate::power::FakePower;
    use crate::raid::AgentRaid;

    fn parts() -> Parts {
        let mut parts = Parts::default();
        parts.power.insert("fake", Arc::new(FakePower));
        parts.management.insert("noop", Arc::new(NoopManagement));
        parts.boot.insert("ipxe", Arc::new(FakeBoot));
        parts.deploy.insert("direct", Arc::new(FakeDeploy));
        // what they do is of no concern here
        for kind in [Kind::Inspect, Kind::Raid, Kind::Rescue] {
            parts.steps.insert((kind, "agent"), Arc::new(AgentRaid));
        }
        parts
    }

    fn names(enabled: &[(Kind, &[&str])], chosen: &[(Kind, &str)]) -> Chosen {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let settings = RegistrySettings {
            hardware_types: vec!["manual-management".to_owned()],
            enabled: enabled.iter().map(|(kind, names)| (*kind, list(names))).collect(),
            ..RegistrySettings::default()
        };
        let registry = Registry::new(settings, parts()).unwrap();
        let chosen = chosen.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect();
        registry.resolve("manual-management", &chosen).unwrap()
    }

    #[test]
    fn agent_interfaces_are_there_to_be_chosen_and_not_the_default() {
        let usual = names(&[], &[]);
        assert_eq!(usual[&Kind::Inspect], "no-inspect");
        assert_eq!(usual[&Kind::Raid], "no-raid");
        assert_eq!(usual[&Kind::Rescue], "no-rescue");
        let all = [(Kind::Inspect, "agent"), (Kind::Raid, "agent"), (Kind::Rescue, "agent")];
        let chosen = names(&[], &all);
        assert!(all.iter().all(|(kind, name)| chosen[kind] == *name));
        let enabled = names(&[(Kind::Inspect, &["no-inspect", "agent"])], &[]);
        assert_eq!(enabled[&Kind::Inspect], "agent", "the hardware type's preference among what is enabled");
    }
}
