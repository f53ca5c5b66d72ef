//! Deploy interfaces.

mod anaconda;
mod configdrive;
mod custom_agent;
mod direct;
mod fake;
mod image;
mod iscsi;
mod kickstart;
mod noop;
mod partition;
mod ramdisk;
mod served;

pub use anaconda::{AnacondaDeploy, AnacondaSettings};
pub use configdrive::build as build_configdrive;
pub use custom_agent::CustomAgentDeploy;
pub use direct::{DirectDeploy, DirectSettings};
pub use fake::FakeDeploy;
pub use iscsi::{CacheSettings, IscsiDeploy, IscsiDeploySettings};
pub use noop::NoopDeploy;
pub use ramdisk::RamdiskDeploy;
pub use served::ServedFiles;

#[cfg(test)]
mod tests;
