//! Inspect interfaces (deploy.md §D): a ramdisk of ours looks at the machine, hooks and rules make fields and ports of
//! what it saw.

mod agent;
mod fake;
mod hints;
mod hooks;
mod lldp;
pub mod rules;
mod settings;
mod subject;

pub use agent::{AgentInspect, PROCESS, process};
pub use fake::FakeInspect;
pub use hooks::Hook;
pub use settings::{Accelerator, AddPorts, InspectSettings, KeepPorts, MaskSecrets, PciAlias, SubnetOf};

use ferric_machine::Activity;

use crate::interface::Step;

/// The step that begins an inspection.
const INSPECT: &str = "inspect_hardware";

fn steps(activity: Activity) -> Vec<Step> {
    match activity {
        Activity::Inspect => {
            vec![Step { abortable: true, requires_ramdisk: false, ..Step::new("inspect", INSPECT, 0) }]
        }
        Activity::Deploy
        | Activity::TearDown
        | Activity::Adopt
        | Activity::Verify
        | Activity::Clean
        | Activity::Rescue
        | Activity::Unrescue
        | Activity::Service => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
