//! Management interfaces.

mod ipmitool;
mod noop;

pub use ipmitool::IpmitoolManagement;
pub use noop::{FakeManagement, NoopManagement};
