//! Everything with a mailbox, a timer or a lifetime.
//!
//! Per node: `Node` owns the provision state; `Power`, `Boot` and `Deploy` do its hardware work. Asks fall
//! (deploy → boot → power), tells rise to the node: no cycle, no deadlock. A transition is committed before it takes
//! effect, so a process that dies at any moment is taken up where the database says it was.

mod allocations;
mod boot;
mod deploy;
mod directory;
mod doing;
mod error;
mod family;
mod governor;
mod job;
mod looks;
pub mod message;
mod node;
mod places;
mod ports;
mod power;
mod settings;
mod supervisor;
mod usual;
mod view;
mod world;

pub use directory::Directory;
pub use doing::Doing;
pub use error::NodeError;
pub use ferric_drivers::console::{Attachment, Told, Unheard};
pub use ferric_drivers::flow::Asked;
pub use ferric_drivers::inspect::rules::validate_rule as validate_inspection_rule;
pub use ferric_drivers::interface::{
    EventLog, Fru, FruArea, Health, Identify, IndicatorState, Kind, LogEntry, Sensors, VendorMethod,
    VmediaAsk, WRONG_DEPLOY_KEY,
};
pub use ferric_drivers::metrics;
pub use ferric_drivers::spread::Percentiles;
pub use ferric_drivers::{DriverError, Secret, python};
pub use looks::{PowerSync, Sweeping};
pub use message::DriverInfo;
pub use node::{NodeActor, belongings, vifs_of};
pub use settings::{SensorSettings, Settings};
