//! Inspect interfaces (deploy.md §D): a ramdisk of ours looks at the machine, hooks and rules make fields and ports of
//! what it saw.

mod agent;
mod hints;
mod hooks;
mod lldp;
pub mod rules;
mod settings;
mod subject;

pub use agent::{AgentInspect, PROCESS, process};
pub use hooks::Hook;
pub use settings::{Accelerator, AddPorts, InspectSettings, KeepPorts, MaskSecrets, PciAlias, SubnetOf};

/// The step that begins an inspection.
const INSPECT: &str = "inspect_hardware";

#[cfg(test)]
mod tests;
