//! Hardware types, their interfaces, and the protocols behind them.
//!
//! An interface is stateless towards the node: it gets a [`interface::NodeView`] and answers. What must survive a
//! crash is written by the node's actor, never here.

mod error;
pub mod interface;

pub use error::DriverError;
