//! The order of steps, and the steps that need no driver (states.md §4).

use std::cmp::Reverse;

use crate::Activity;
use crate::wire::wire_enum;

/// A step as an interface or a ramdisk offers it. Its arguments stay with the driver.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// The interface that runs it, e.g. `deploy`.
    pub interface: String,
    /// Its name, e.g. `write_image`.
    pub step: String,
    /// Higher runs first; 0 or less is left out of automated runs.
    #[serde(default)]
    pub priority: i32,
    /// Whether an abort may interrupt it.
    #[serde(default)]
    pub abortable: bool,
}

/// What [`sort`] and [`plan`] need to know of a step.
pub trait Ranked {
    /// The interface that runs it.
    fn interface(&self) -> &str;
    /// Its priority.
    fn priority(&self) -> i32;
}

impl Ranked for Step {
    fn interface(&self) -> &str {
        &self.interface
    }
    fn priority(&self) -> i32 {
        self.priority
    }
}

/// For what kind of run the steps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Cleaning by itself, after a tear-down or `provide`.
    Clean,
    /// Cleaning with the operator's list: its order stands.
    ManualClean,
    /// Deploying.
    Deploy,
    /// Verifying.
    Verify,
    /// Servicing with the operator's list: its order stands.
    Service,
}

impl StepKind {
    /// Whether the list's own order stands and every step in it runs, whatever its priority.
    #[must_use]
    pub const fn keeps_order(self) -> bool {
        matches!(self, StepKind::ManualClean | StepKind::Service)
    }

    /// How an interface ranks against the others at equal priority; higher runs first, 0 for an unknown one.
    #[must_use]
    pub fn rank(self, interface: &str) -> u8 {
        const WORK: &[&str] =
            &["raid", "bios", "deploy", "firmware", "management", "power", "vendor", "network"];
        const VERIFY: &[&str] = &[
            "rescue",
            "storage",
            "console",
            "network",
            "vendor",
            "raid",
            "bios",
            "boot",
            "deploy",
            "inspect",
            "firmware",
            "management",
            "power",
        ];
        let order = match self {
            StepKind::Clean | StepKind::ManualClean | StepKind::Deploy => &WORK[..7],
            StepKind::Service => WORK,
            StepKind::Verify => VERIFY,
        };
        let at = order.iter().position(|name| *name == interface);
        at.map_or(0, |at| u8::try_from(at + 1).expect("there are fewer than 256 interfaces"))
    }
}

/// Puts the steps into the order they run in: by priority, then by the interface's rank, both descending; what
/// is equal in both stays as it came. Lists of the operator stay as they are.
pub fn sort<S: Ranked>(steps: &mut [S], kind: StepKind) {
    if !kind.keeps_order() {
        steps.sort_by_key(|step| Reverse((step.priority(), kind.rank(step.interface()))));
    }
}

/// The steps that run, in order: automated runs leave out what is disabled by priority 0.
#[must_use]
pub fn plan<S: Ranked>(mut steps: Vec<S>, kind: StepKind) -> Vec<S> {
    if !kind.keeps_order() {
        steps.retain(|step| step.priority() > 0);
    }
    sort(&mut steps, kind);
    steps
}

wire_enum! {
    /// The names that may stand in any list of steps without an interface: the conductor itself runs them.
    Reserved, "reserved step" {
        /// Wait for the operator's `unhold`.
        Hold = "hold",
        /// Wait `args.seconds`, or for the next heartbeat.
        Wait = "wait",
        /// Switch the node on.
        PowerOn = "power_on",
        /// Switch the node off.
        PowerOff = "power_off",
        /// Off and on again.
        Reboot = "reboot",
    }
}

/// The `last_error` after an operator's abort; clients look for the word "aborted". `step` is the id of the step
/// that ran, if one did.
#[must_use]
pub fn aborted_message(what: Activity, step: Option<&str>) -> String {
    match what {
        Activity::Inspect => "Inspection was aborted by request.".to_owned(),
        Activity::Verify
        | Activity::Deploy
        | Activity::TearDown
        | Activity::Clean
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue
        | Activity::Service => {
            let during = |id| format!(" during or after the completion of step \"{id}\"");
            format!("By request, the {what} operation was aborted{}", step.map(during).unwrap_or_default())
        }
    }
}
