//! Power interfaces.

mod fake;
mod ipmitool;

pub use fake::FakePower;
pub use ipmitool::IpmitoolPower;
