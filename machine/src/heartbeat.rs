//! What a sign of life from the ramdisk means (states.md §5).

use crate::{Activity, Facts};

/// What to do about a heartbeat. The ramdisk is answered 202 whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// Nothing is expected from a ramdisk here: store nothing.
    Ignore,
    /// Store its address, version and time.
    Record,
    /// Store them and go on with the work.
    Drive,
    /// The node came into maintenance, where the configuration forbids to go on: fail the work, with
    /// [`stopped_message`].
    Stop(Activity),
}

/// The `last_error` of work that [`Heartbeat::Stop`] ended.
#[must_use]
pub fn stopped_message(activity: Activity) -> String {
    match activity {
        Activity::Clean => "Cleaning aborted as node is in maintenance mode".to_owned(),
        Activity::Deploy
        | Activity::Rescue
        | Activity::Service
        | Activity::Verify
        | Activity::TearDown
        | Activity::Inspect
        | Activity::Adopt
        | Activity::Unrescue => {
            format!("The {activity} operation was aborted as the node is in maintenance mode")
        }
    }
}

/// What to do about a heartbeat from the node's own ramdisk.
#[must_use]
pub fn heartbeat(facts: &Facts) -> Heartbeat {
    let state = facts.state;
    let stop = facts.maintenance && !facts.allow_provisioning_in_maintenance;
    match state.activity() {
        Some(activity) if stop && state.heartbeat_drives() => return Heartbeat::Stop(activity),
        Some(_) | None => {}
    }
    match (state.heartbeat_drives(), state.heartbeat_recorded()) {
        (true, _) if !facts.maintenance => Heartbeat::Drive,
        (_, true) => Heartbeat::Record,
        (_, false) => Heartbeat::Ignore,
    }
}
