//! How long a node may wait for its ramdisk (states.md §8).

use std::time::Duration;

use crate::wire::wire_enum;
use crate::{Facts, State, Timestamp};

wire_enum! {
    /// The option that says how long. 0 seconds means for ever.
    DeadlineOption, "deadline option" {
        /// `[conductor] deploy_callback_timeout`
        Deploy = "deploy_callback_timeout",
        /// `[conductor] clean_callback_timeout`
        Clean = "clean_callback_timeout",
        /// `[conductor] inspect_wait_timeout`
        Inspect = "inspect_wait_timeout",
        /// `[conductor] rescue_callback_timeout`
        Rescue = "rescue_callback_timeout",
        /// `[conductor] service_callback_timeout`
        Service = "service_callback_timeout",
    }
}

/// The moment from which the wait is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `provision_updated_at`: the last change of state or heartbeat.
    ProvisionUpdated,
    /// `inspection_started_at`
    InspectionStarted,
}

/// What guards a wait state. When it passes, the node gets `Event::Fail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// How long, by configuration.
    pub option: DeadlineOption,
    /// Since when.
    pub clock: Clock,
}

/// The option's default, the same for all.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(1800);

/// What guards `state`; `None` where nothing is waited for. Hold states wait for a person, without limit.
#[must_use]
pub const fn deadline(state: State) -> Option<Deadline> {
    let (option, clock) = match state {
        State::DeployWait => (DeadlineOption::Deploy, Clock::ProvisionUpdated),
        State::CleanWait => (DeadlineOption::Clean, Clock::ProvisionUpdated),
        State::InspectWait => (DeadlineOption::Inspect, Clock::InspectionStarted),
        State::RescueWait => (DeadlineOption::Rescue, Clock::ProvisionUpdated),
        State::ServiceWait => (DeadlineOption::Service, Clock::ProvisionUpdated),
        State::Enroll | State::Manageable | State::Available | State::Active | State::Error => return None,
        State::Rescue | State::Verifying | State::Deploying | State::DeployFailed => return None,
        State::DeployHold | State::Cleaning | State::CleanFailed | State::CleanHold => return None,
        State::Deleting | State::Inspecting | State::InspectFailed | State::Adopting => return None,
        State::AdoptFailed | State::Rescuing | State::RescueFailed | State::Unrescuing => return None,
        State::UnrescueFailed | State::Servicing | State::ServiceFailed | State::ServiceHold => return None,
    };
    Some(Deadline { option, clock })
}

impl Deadline {
    /// The moment at which the wait that began at `since` is over; `None` when `limit` is zero (no limit).
    #[must_use]
    pub fn at(&self, since: Timestamp, limit: Duration) -> Option<Timestamp> {
        (!limit.is_zero()).then(|| since + limit)
    }

    /// Whether the wait that began at `since` is over. In maintenance nobody counts.
    #[must_use]
    pub fn overdue(&self, facts: &Facts, since: Timestamp, limit: Duration, now: Timestamp) -> bool {
        !facts.maintenance && self.at(since, limit).is_some_and(|at| now >= at)
    }

    /// The `last_error` of a node whose time ran out. `step` describes the running step, if there is one.
    #[must_use]
    pub fn message(&self, node: &str, step: Option<&str>) -> String {
        let ramdisk = |doing: &str, what: &str| {
            let failed = step.map(|step| format!(" Failed on step {step}.")).unwrap_or_default();
            format!(
                "Timeout reached while {doing} the node. Please check if the ramdisk responsible for the {what} \
                 is running on the node.{failed}"
            )
        };
        match self.option {
            DeadlineOption::Deploy => format!("Timeout reached while waiting for callback for node {node}"),
            DeadlineOption::Clean => ramdisk("cleaning", "cleaning"),
            DeadlineOption::Inspect => ramdisk("inspecting", "inspection"),
            DeadlineOption::Rescue => {
                format!("Timeout reached while waiting for rescue ramdisk callback for node {node}")
            }
            DeadlineOption::Service => ramdisk("servicing", "servicing"),
        }
    }
}
