//! Power interfaces.

mod agent;
mod fake;
mod ipmitool;

pub use agent::AgentPower;
pub use fake::FakePower;
pub use ipmitool::IpmitoolPower;
