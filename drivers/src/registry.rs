//! Which hardware types and interfaces exist, which are enabled, and what a node's fields bind to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use crate::absent::{Absent, Plain};
pub use crate::bound::{Bound, Parts};
use crate::hardware;
use crate::interface::{
    Chosen, ConsoleInterface, Interface, Kind, Level, Property, RaidInterface, VendorInterface, VendorMethod,
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

/// Why names cannot be bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The hardware type does not exist or is not enabled.
    #[error("hardware type '{0}' is not enabled; enabled are: {1}")]
    UnknownType(String, String),
    /// No such interface is enabled.
    #[error(
        "Could not find the following interface in the 'ironic.hardware.interfaces.{kind}' entrypoint: {name}. \
         Valid interfaces are {valid}."
    )]
    NotEnabled {
        /// Kind, e.g. `power`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What is enabled.
        valid: String,
    },
    /// The interface is enabled, and not one of the hardware type's.
    #[error(
        "{kind} interface implementation '{name}' is not supported by hardware type {driver}. Valid interfaces \
         are {valid}."
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
    /// A classic driver, which brings its interfaces along.
    #[error("with driver {driver}, these node fields must be set to None: {fields}.")]
    MustBeNone {
        /// The classic driver.
        driver: String,
        /// The fields of a node that were set, e.g. `deploy_interface`, with commas between.
        fields: String,
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
const CHOSEN_ONLY: &[(Kind, &str)] =
    &[(Kind::Inspect, "agent"), (Kind::Console, "ipmitool-socat"), (Kind::Power, "agent")];

/// The hardware type that can be combined with whatever is enabled.
const ANYTHING_GOES: &str = "fake-hardware";

/// Combinations remembered by [`Registry::bound`] at most; a fleet has a handful.
const MOST_REMEMBERED: usize = 256;

/// Everything that nodes can be bound to.
pub struct Registry {
    settings: RegistrySettings,
    parts: Parts,
    /// What was bound so far, by hardware type and names chosen: nothing above ever changes.
    remembered: RwLock<HashMap<String, HashMap<Chosen, Arc<Bound>>>>,
}

impl Registry {
    /// Checks the settings against what is built: every enabled type must exist and have one enabled interface of
    /// every kind, so that a mistake shows at start and not at the first node.
    pub fn new(settings: RegistrySettings, parts: Parts) -> Result<Registry, BindError> {
        let registry = Registry { settings, parts, remembered: RwLock::default() };
        for name in &registry.settings.hardware_types {
            registry.names(name, &Chosen::new())?;
        }
        Ok(registry)
    }

    /// The enabled hardware types and classic drivers, sorted.
    #[must_use]
    pub fn types(&self) -> Vec<&'static hardware::HardwareType> {
        let mut all: Vec<_> = hardware::all()
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
            Kind::Console => nothing_to_it(name) || self.parts.console.contains_key(name),
            Kind::Vendor => nothing_to_it(name) || self.parts.vendor.contains_key(name),
            Kind::Bios
            | Kind::Firmware
            | Kind::Inspect
            | Kind::Network
            | Kind::Raid
            | Kind::Rescue
            | Kind::Storage => {
                nothing_to_it(name)
                    || self.parts.raid.contains_key(name) && kind == Kind::Raid
                    || self.parts.interfaces.keys().any(|(of, known)| *of == kind && *known == name)
                    || self.parts.steps.keys().any(|(of, known)| *of == kind && *known == name)
            }
        }
    }

    /// Whether the operator has enabled it; without a list everything is that Ironic has.
    fn listed(&self, kind: Kind, name: &str) -> bool {
        match self.settings.enabled.get(&kind) {
            Some(list) => list.iter().any(|one| one == name),
            None => !hardware::enabled_by_name(kind, name),
        }
    }

    /// Every interface of `kind` that is enabled for any hardware type, sorted.
    #[must_use]
    pub fn all_enabled(&self, kind: Kind) -> Vec<&'static str> {
        let mut all: Vec<_> = hardware::all().flat_map(|row| row.supported(kind)).copied().collect();
        all.retain(|name| self.listed(kind, name) && self.built(kind, name));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Why `name` cannot be the interface of `kind` of a node of `driver`, if it cannot.
    fn check(&self, driver: &str, kind: Kind, name: &str) -> Result<(), BindError> {
        let all = self.all_enabled(kind);
        if !all.contains(&name) {
            let (kind, name, valid) = (kind.as_str(), name.to_owned(), crate::python::list(&all));
            return Err(BindError::NotEnabled { kind, name, valid });
        }
        let valid = self.enabled(driver, kind)?;
        if driver == ANYTHING_GOES || valid.contains(&name) {
            return Ok(());
        }
        Err(BindError::Incompatible {
            kind: kind.as_str(),
            driver: driver.to_owned(),
            name: name.to_owned(),
            valid: crate::python::list(&valid),
        })
    }

    /// The enabled interfaces of `kind` that `driver` supports, best first. What a classic driver brings along – the last
    /// of those it has – needs no operator to enable it.
    pub fn enabled(&self, driver: &str, kind: Kind) -> Result<Vec<&'static str>, BindError> {
        let row = self.hardware_type(driver)?;
        let all = row.supported(kind);
        let brought = all.last().filter(|_| row.fixes(kind));
        let open = |name: &&str| brought == Some(name) || self.listed(kind, name);
        Ok(all.iter().copied().filter(|name| open(name) && self.built(kind, name)).collect())
    }

    /// The interface a node of `driver` gets when it names none (deploy.md §B.6).
    pub fn default_interface(&self, driver: &str, kind: Kind) -> Result<&'static str, BindError> {
        let all = self.enabled(driver, kind)?;
        let fixed = self.hardware_type(driver)?.fixes(kind);
        let wanted = self.settings.defaults.get(&kind).map(String::as_str).filter(|_| !fixed);
        // Ironic's default of the option, the one kind that has one
        let wanted = wanted.or((kind == Kind::Storage).then_some("noop"));
        let wanted = wanted.and_then(|name| all.iter().find(|one| **one == name));
        // without a list of the operator's, what Ironic does not enable by itself has to be chosen by name
        let listed = self.settings.enabled.contains_key(&kind);
        let usual = all.iter().find(|name| listed || !CHOSEN_ONLY.contains(&(kind, **name)));
        wanted.or(usual).or(all.first()).copied().ok_or_else(|| BindError::NoneEnabled {
            kind: kind.as_str(),
            driver: driver.to_owned(),
            supported: hardware::all()
                .find(|row| row.name == driver)
                .map(|row| row.supported(kind).join(", "))
                .unwrap_or_default(),
        })
    }

    /// What a node's fields are to say: what was chosen, checked, and defaults for the rest. Kinds that a classic driver
    /// fixes are absent.
    pub fn resolve(&self, driver: &str, chosen: &Chosen) -> Result<Chosen, BindError> {
        let row = self.hardware_type(driver)?;
        let chosen_in_vain =
            |kind: &Kind| row.fixes(*kind) && chosen.get(kind).is_some_and(|name| !name.is_empty());
        let fields: Vec<String> = Kind::ALL
            .into_iter()
            .filter(chosen_in_vain)
            .map(|kind| format!("{}_interface", kind.as_str()))
            .collect();
        if !fields.is_empty() {
            return Err(BindError::MustBeNone { driver: driver.to_owned(), fields: fields.join(",") });
        }
        let mut names = self.names(driver, chosen)?;
        names.retain(|kind, _| !row.fixes(*kind));
        Ok(names)
    }

    /// All thirteen names.
    fn names(&self, driver: &str, chosen: &Chosen) -> Result<Chosen, BindError> {
        let row = self.hardware_type(driver)?;
        let mut all = Chosen::new();
        for kind in Kind::ALL {
            let name = match chosen.get(&kind).filter(|name| !name.is_empty() && !row.fixes(kind)) {
                Some(name) => {
                    self.check(driver, kind, name)?;
                    name.clone()
                }
                None => self.default_interface(driver, kind)?.to_owned(),
            };
            all.insert(kind, name);
        }
        Ok(all)
    }

    /// As [`Registry::bind`], shared by all nodes that are alike.
    pub fn bound(&self, driver: &str, chosen: &Chosen) -> Result<Arc<Bound>, BindError> {
        let known = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(bound) = known.get(driver).and_then(|alike| alike.get(chosen)) {
            return Ok(bound.clone());
        }
        drop(known);
        let bound = Arc::new(self.bind(driver, chosen)?);
        let mut known = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if known.values().map(HashMap::len).sum::<usize>() >= MOST_REMEMBERED {
            known.clear();
        }
        known.entry(driver.to_owned()).or_default().insert(chosen.clone(), bound.clone());
        Ok(bound)
    }

    /// The implementations behind `chosen`.
    pub fn bind(&self, driver: &str, chosen: &Chosen) -> Result<Bound, BindError> {
        let names = self.names(driver, chosen)?;
        let part = |kind: Kind| names.get(&kind).expect("resolve fills every kind").as_str();
        let built = "enabled() filters by what is built";
        Ok(Bound {
            power: self.parts.power.get(part(Kind::Power)).expect(built).clone(),
            management: self.parts.management.get(part(Kind::Management)).expect(built).clone(),
            boot: self.parts.boot.get(part(Kind::Boot)).expect(built).clone(),
            deploy: self.parts.deploy.get(part(Kind::Deploy)).expect(built).clone(),
            console: self.console(part(Kind::Console)),
            vendor: self.vendor(part(Kind::Vendor)),
            raid: self.raid(part(Kind::Raid)),
            interfaces: PLAIN_KINDS.iter().map(|kind| (*kind, self.interface(*kind, part(*kind)))).collect(),
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

    fn console(&self, name: &str) -> Arc<dyn ConsoleInterface> {
        match self.parts.console.get(name) {
            Some(console) => console.clone(),
            None if name.starts_with("no-") => Arc::new(Absent(Kind::Console)),
            None => Arc::new(Plain),
        }
    }

    fn vendor(&self, name: &str) -> Arc<dyn VendorInterface> {
        self.parts.vendor.get(name).cloned().unwrap_or_else(|| Arc::new(Absent(Kind::Vendor)))
    }

    fn raid(&self, name: &str) -> Arc<dyn RaidInterface> {
        match self.parts.raid.get(name) {
            Some(raid) => raid.clone(),
            None if name.starts_with("no-") => Arc::new(Absent(Kind::Raid)),
            None => Arc::new(Plain),
        }
    }

    fn interface(&self, kind: Kind, name: &str) -> Arc<dyn Interface> {
        let found = self.parts.interfaces.iter().find(|((of, known), _)| *of == kind && *known == name);
        match found {
            Some((_, interface)) => interface.clone(),
            None if name.starts_with("no-") => Arc::new(Absent(kind)),
            None => Arc::new(Plain),
        }
    }

    fn properties_of(&self, kind: Kind, name: &str) -> &'static [Property] {
        match kind {
            Kind::Power => self.parts.power[name].properties(),
            Kind::Management => self.parts.management[name].properties(),
            Kind::Boot => self.parts.boot[name].properties(),
            Kind::Deploy => self.parts.deploy[name].properties(),
            Kind::Console => self.console(name).properties(),
            Kind::Vendor => self.vendor(name).properties(),
            Kind::Raid => self.raid(name).properties(),
            Kind::Bios | Kind::Firmware | Kind::Inspect | Kind::Network | Kind::Rescue | Kind::Storage => {
                self.interface(kind, name).properties()
            }
        }
    }

    /// The driver_info keys that the default interfaces of a hardware type read, sorted, each once.
    pub fn properties(&self, driver: &str) -> Result<Vec<Property>, BindError> {
        let mut all: BTreeMap<&'static str, &'static str> = BTreeMap::new();
        for kind in Kind::ALL {
            all.extend(self.properties_of(kind, self.default_interface(driver, kind)?).iter().copied());
        }
        if self.hardware_type(driver)?.classic && all.contains_key("deploy_kernel") {
            all.extend(hardware::OLD_NAMES.iter().copied());
        }
        Ok(all.into_iter().collect())
    }

    /// The default vendor interface of a hardware type, which has the methods of the type itself.
    pub fn vendor_of(&self, driver: &str) -> Result<Arc<dyn VendorInterface>, BindError> {
        Ok(self.vendor(self.default_interface(driver, Kind::Vendor)?))
    }

    /// The vendor methods of a hardware type (not of its nodes).
    pub fn vendor_methods(&self, driver: &str) -> Result<Vec<&'static VendorMethod>, BindError> {
        let vendor = self.vendor_of(driver)?;
        Ok(vendor.methods().iter().filter(|method| method.level == Level::Driver).collect())
    }

    /// What can be said of a logical disk of a hardware type.
    pub fn raid_properties(&self, driver: &str) -> Result<&'static [Property], BindError> {
        Ok(self.raid(self.default_interface(driver, Kind::Raid)?).logical_disk_properties())
    }
}

/// The kinds whose interfaces have properties and validation, and for the rest steps.
const PLAIN_KINDS: [Kind; 6] =
    [Kind::Bios, Kind::Firmware, Kind::Inspect, Kind::Network, Kind::Rescue, Kind::Storage];

/// Names that need no implementation.
fn nothing_to_it(name: &str) -> bool {
    name.starts_with("no-") || matches!(name, "noop" | "flat" | "fake")
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

    #[test]
    fn nodes_that_are_alike_share_what_they_are_bound_to_and_others_do_not() {
        let settings = RegistrySettings {
            hardware_types: vec!["manual-management".to_owned()],
            ..RegistrySettings::default()
        };
        let registry = Registry::new(settings, parts()).unwrap();
        let bound = |chosen: &Chosen| registry.bound("manual-management", chosen);
        let with = |name: &str| Chosen::from([(Kind::Inspect, name.to_owned())]);
        let (one, same) = (bound(&Chosen::new()).unwrap(), bound(&Chosen::new()).unwrap());
        assert!(Arc::ptr_eq(&one, &same));
        assert_eq!(bound(&with("agent")).unwrap().names[&Kind::Inspect], "agent");
        assert_eq!(one.names[&Kind::Inspect], "no-inspect");
        assert!(bound(&with("no-such")).is_err() && bound(&with("no-such")).is_err());
        for combination in 0..=MOST_REMEMBERED {
            // an empty name is the default's, and yet another key
            let chosen = Kind::ALL.into_iter().enumerate().filter(|(bit, _)| combination >> bit & 1 == 1);
            bound(&chosen.map(|(_, kind)| (kind, String::new())).collect()).unwrap();
        }
        let known = registry.remembered.read().unwrap();
        assert!(known.values().map(HashMap::len).sum::<usize>() <= MOST_REMEMBERED);
    }
}
