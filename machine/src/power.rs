//! Power: states, targets, and what to do when the stored and the real state differ (states.md §6).

use crate::State;
use crate::wire::wire_enum;

wire_enum! {
    /// What a BMC says of the chassis. "Unknown" is the absence of a value.
    PowerState, "power state" {
        /// The chassis has power.
        On = "power on",
        /// The chassis is off.
        Off = "power off",
        /// The BMC answered, but with a fault.
        Error = "error",
    }
}

wire_enum! {
    /// What may be asked of `PUT …/states/power`.
    PowerTarget, "power target" {
        /// Switch on.
        On = "power on",
        /// Switch off at once.
        Off = "power off",
        /// Off and on again.
        Reboot = "rebooting",
        /// Ask the operating system to stop, then on again (1.27).
        SoftReboot = "soft rebooting",
        /// Ask the operating system to stop (1.27).
        SoftOff = "soft power off",
    }
}

impl PowerTarget {
    /// The power state that the node is in once the target is reached.
    #[must_use]
    pub const fn end(self) -> PowerState {
        match self {
            PowerTarget::On | PowerTarget::Reboot | PowerTarget::SoftReboot => PowerState::On,
            PowerTarget::Off | PowerTarget::SoftOff => PowerState::Off,
        }
    }
}

impl PowerTarget {
    /// The minor microversion that knows the target.
    #[must_use]
    pub const fn minor(self) -> u16 {
        match self {
            PowerTarget::On | PowerTarget::Off | PowerTarget::Reboot => 1,
            PowerTarget::SoftReboot | PowerTarget::SoftOff => 27,
        }
    }

    /// Whether the machine loses power on the way: its agent is gone then, even where nothing had to be done.
    #[must_use]
    pub const fn wipes_agent(self) -> bool {
        match self {
            PowerTarget::On => false,
            PowerTarget::Off | PowerTarget::Reboot | PowerTarget::SoftReboot | PowerTarget::SoftOff => true,
        }
    }

    /// Whether the hardware may be left alone because it is there already. A reboot is never "already done".
    #[must_use]
    pub fn reached(self, seen: PowerState) -> bool {
        match self {
            PowerTarget::On | PowerTarget::Off | PowerTarget::SoftOff => seen == self.end(),
            PowerTarget::Reboot | PowerTarget::SoftReboot => false,
        }
    }

    /// Whether `disable_power_off` forbids it. A reboot is allowed: it ends with the power on.
    #[must_use]
    pub const fn forbidden_by_disable_power_off(self) -> bool {
        match self {
            PowerTarget::Off | PowerTarget::SoftOff => true,
            PowerTarget::On | PowerTarget::Reboot | PowerTarget::SoftReboot => false,
        }
    }

    /// The `last_error` of an action that failed.
    #[must_use]
    pub fn failed(self, why: &str) -> String {
        format!("Failed to change power state to '{}' by '{self}': {why}", self.end())
    }
}

/// The BMC did not say what the power state is: unreachable, refused, or an answer without sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What the periodic comparison may do (states.md §6, Sync).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncPolicy {
    /// `[conductor] power_state_sync_max_retries`, default 3: how many bad readings in a row are borne.
    pub max_retries: u32,
    /// `[conductor] force_power_state_during_sync`, default true: the stored state wins.
    pub force: bool,
    /// The power interface can switch this node.
    pub supports_set: bool,
    /// The node must not be switched off.
    pub disable_power_off: bool,
}

impl Default for SyncPolicy {
    fn default() -> Self {
        SyncPolicy { max_retries: 3, force: true, supports_set: true, disable_power_off: false }
    }
}

/// What to do about a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As stored: nothing to write.
    Same,
    /// Nothing was known: store this.
    Record(PowerState),
    /// Bring the hardware back to what is stored.
    Restore(PowerTarget),
    /// The hardware wins: store this and tell those who listen.
    Adopt(PowerState),
    /// Unreadable, but not for long enough to act.
    CountUp,
    /// Too often: store `stored` (`None`: unknown), maintenance with `Fault::PowerFailure`.
    Fault {
        /// The power state to store.
        stored: Option<PowerState>,
    },
}

impl Verdict {
    /// The counter of bad readings in a row, after this one.
    #[must_use]
    pub const fn failures_after(self, failures: u32) -> u32 {
        match self {
            Verdict::Same | Verdict::Record(_) | Verdict::Adopt(_) | Verdict::Fault { .. } => 0,
            Verdict::Restore(_) | Verdict::CountUp => failures.saturating_add(1),
        }
    }
}

/// Compares a reading with what is stored. `failures`: the bad readings in a row before this one. A BMC that
/// reports `error` counts as unreadable: that state is never stored.
#[must_use]
pub fn reconcile(
    stored: Option<PowerState>,
    seen: Result<PowerState, Unreadable>,
    failures: u32,
    policy: &SyncPolicy,
) -> Verdict {
    let seen = match seen {
        Ok(PowerState::On) => PowerState::On,
        Ok(PowerState::Off) => PowerState::Off,
        Ok(PowerState::Error) | Err(Unreadable) if failures >= policy.max_retries => {
            return Verdict::Fault { stored: None };
        }
        Ok(PowerState::Error) | Err(Unreadable) => return Verdict::CountUp,
    };
    let back = match stored {
        None | Some(PowerState::Error) => return Verdict::Record(seen),
        Some(stored) if stored == seen => return Verdict::Same,
        Some(PowerState::On) => PowerTarget::On,
        Some(PowerState::Off) => PowerTarget::Off,
    };
    if !policy.force || !policy.supports_set || policy.disable_power_off {
        Verdict::Adopt(seen)
    } else if failures >= policy.max_retries {
        Verdict::Fault { stored: Some(seen) }
    } else {
        Verdict::Restore(back)
    }
}

/// Whether the periodic comparison leaves a node alone.
#[must_use]
pub const fn skip(state: State, reserved: bool, maintenance: bool, target: Option<PowerState>) -> bool {
    reserved || maintenance || target.is_some() || state.power_sync_skipped()
}

/// The `last_error` and `maintenance_reason` of [`Verdict::Fault`].
#[must_use]
pub fn fault_message(node: &str) -> String {
    format!("During sync_power_state, max retries exceeded for node {node}")
}
