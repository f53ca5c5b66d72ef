//! Vendor interfaces.

mod ipmitool;

pub use ipmitool::IpmitoolVendor;
