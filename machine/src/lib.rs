//! The node as pure data and functions: provision states, verbs, events, power, steps.
//!
//! No clock, no I/O, no async: whatever decides, decides here, and can be worked on paper.
//!
//! [`TABLE`] is the state machine. [`transition`] is what an event does to a node, [`request`] what a client's
//! verb does, [`heartbeat`] what a sign of life from its ramdisk does, [`deadline`] what guards a wait,
//! [`power::reconcile`] what a power reading means. All give data; acting on it is the actors' business.

mod boot;
mod deadline;
mod event;
pub mod export;
mod heartbeat;
pub mod power;
mod refusal;
mod state;
pub mod steps;
mod table;
mod time;
mod transition;
mod verb;
mod wire;

pub use boot::{BootDevice, BootMode, Fault};
pub use deadline::{Clock, DEFAULT_WAIT, Deadline, DeadlineOption, deadline};
pub use event::Event;
pub use heartbeat::{Heartbeat, heartbeat, stopped_message};
pub use power::{PowerState, PowerTarget};
pub use refusal::Refusal;
pub use state::{Activity, State};
pub use steps::{Step, StepKind};
pub use table::{Row, TABLE, Work, row};
pub use time::Timestamp;
pub use transition::{
    Facts, InspectionMark, Outcome, abort_after_step, allowed_verbs, end_of_cleaning, request, transition,
    transition_to,
};
pub use verb::{Gate, Verb};
pub use wire::UnknownWord;
