//! Deploy interfaces.

mod configdrive;
mod direct;
mod fake;
mod image;

pub use configdrive::build as build_configdrive;
pub use direct::{DirectDeploy, DirectSettings};
pub use fake::FakeDeploy;
