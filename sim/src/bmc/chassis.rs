//! What is behind a BMC: the machine.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ferric_drivers::protocol::ipmi::command::{BootFlags, ChassisControl};

/// A machine as its BMC sees it. Calls come from the BMC's task and must not block.
pub trait Chassis: Send + Sync {
    /// Whether it has power.
    fn power(&self) -> bool;
    /// Somebody used Chassis Control. May take effect later.
    fn control(&self, control: ChassisControl);
    /// The boot flags set last.
    fn boot_flags(&self) -> BootFlags;
    /// Somebody set the boot flags.
    fn set_boot_flags(&self, flags: BootFlags);
    /// What its software does, for its serial console; `None` while there is nothing to say.
    fn doing(&self) -> Option<String> {
        None
    }
}

#[derive(Default)]
struct Simple {
    power: bool,
    flags: BootFlags,
    history: Vec<ChassisControl>,
}

/// A machine that does at once what it is told, and nothing else. It remembers what it was told.
#[derive(Default)]
pub struct SimpleChassis(Mutex<Simple>);

impl SimpleChassis {
    fn lock(&self) -> MutexGuard<'_, Simple> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that Chassis Control was used for, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<ChassisControl> {
        self.lock().history.clone()
    }
}

impl Chassis for SimpleChassis {
    fn power(&self) -> bool {
        self.lock().power
    }

    fn control(&self, control: ChassisControl) {
        let mut simple = self.lock();
        simple.history.push(control);
        match control {
            ChassisControl::Off | ChassisControl::Soft => simple.power = false,
            ChassisControl::On | ChassisControl::Cycle => simple.power = true,
            ChassisControl::Reset | ChassisControl::Diag => {}
        }
    }

    fn boot_flags(&self) -> BootFlags {
        self.lock().flags
    }

    fn set_boot_flags(&self, flags: BootFlags) {
        self.lock().flags = flags;
    }
}
