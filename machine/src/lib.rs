//! The node as pure data and functions: provision states, verbs, events, power, steps.
//!
//! No clock, no I/O, no async: whatever decides, decides here, and can be worked on paper.

mod boot;
mod event;
pub mod power;
mod state;
mod time;
mod verb;
mod wire;

pub use boot::{BootDevice, BootMode, Fault};
pub use event::Event;
pub use power::{PowerState, PowerTarget};
pub use state::State;
pub use time::Timestamp;
pub use verb::Verb;
pub use wire::UnknownWord;
