//! What a sign of life from the ramdisk means (states.md §5).

use crate::{Facts, State};

/// What to do about a heartbeat. The ramdisk is answered 202 whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// Nothing is expected from a ramdisk here: store nothing.
    Ignore,
    /// Store its address, version and time.
    Record,
    /// Store them and go on with the work.
    Drive,
    /// The node came into maintenance, where the configuration forbids to go on: fail the work with this
    /// `last_error`.
    Stop(&'static str),
}

/// What to do about a heartbeat from the node's own ramdisk.
#[must_use]
pub fn heartbeat(facts: &Facts) -> Heartbeat {
    let state = facts.state;
    if facts.maintenance && state.heartbeat_drives() && !facts.allow_provisioning_in_maintenance {
        return Heartbeat::Stop(match state {
            State::CleanWait => "Cleaning aborted as node is in maintenance mode",
            State::RescueWait => "Rescue operation aborted as node is in maintenance mode",
            State::ServiceWait => "Service operation aborted as node is in maintenance mode",
            _ => "Deployment aborted as node is in maintenance mode",
        });
    }
    match (state.heartbeat_drives(), state.heartbeat_recorded()) {
        (true, _) if !facts.maintenance => Heartbeat::Drive,
        (_, true) => Heartbeat::Record,
        (_, false) => Heartbeat::Ignore,
    }
}
