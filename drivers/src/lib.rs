//! Hardware types, their interfaces, and the protocols behind them.
//!
//! An interface is stateless towards the node: it gets a [`interface::NodeView`] and answers. What must survive a
//! crash is written by the node's actor, never here.

pub mod absent;
pub mod agent_steps;
pub mod boot;
mod bound;
mod capabilities;
pub mod console;
pub mod delayed;
pub mod deploy;
mod error;
pub mod fakes;
pub mod flow;
pub mod hardware;
pub mod inspect;
pub mod interface;
pub mod management;
pub mod metrics;
pub mod network;
pub mod power;
mod properties;
pub mod protocol;
pub mod python;
pub mod raid;
mod raid_config;
pub mod redfish;
pub mod registry;
pub mod rescue;
mod secret;
pub mod spread;
#[cfg(test)]
mod testing;
pub mod vendor;

pub use error::DriverError;
pub use registry::{BindError, Bound, Parts, Registry, RegistrySettings};
pub use secret::Secret;
