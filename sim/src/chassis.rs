//! A machine as its BMC sees it.

use std::sync::Arc;

use ferric_drivers::protocol::ipmi::command::{BootFlags, ChassisControl};

use crate::bmc::Chassis;
use crate::world::Machine;

/// What stands behind a BMC of the fleet.
pub(crate) struct Behind(pub(crate) Arc<Machine>);

impl Chassis for Behind {
    fn power(&self) -> bool {
        self.0.is_on()
    }

    fn control(&self, control: ChassisControl) {
        match control {
            ChassisControl::Off => self.0.power_off(),
            ChassisControl::On => self.0.power_on(),
            ChassisControl::Cycle => self.0.power_cycle(),
            ChassisControl::Reset if self.0.is_on() => self.0.power_cycle(),
            ChassisControl::Reset | ChassisControl::Diag => {}
            ChassisControl::Soft => self.0.shut_down_softly(),
        }
    }

    fn boot_flags(&self) -> BootFlags {
        self.0.boot_flags()
    }

    fn set_boot_flags(&self, flags: BootFlags) {
        self.0.set_boot_flags(flags);
    }

    fn doing(&self) -> Option<String> {
        self.0.doing()
    }
}
