//! Power: states, targets, and what to do when the stored and the real state differ (states.md §6).

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
