//! A pretend world: machines with BMCs that speak IPMI on the wire, agents that speak the agent protocol over real
//! HTTP, disks that remember, and faults on demand. Chance comes from a seed, time from tokio.

mod agent;
mod bash;
pub mod bmc;
mod chassis;
mod commands;
mod disk;
mod faults;
mod firmware;
mod fleet;
mod happening;
mod images;
mod inventory;
pub mod iscsi;
mod network;
mod redfish;
mod server;
mod storm;
mod weather;
mod world;

pub use disk::{Disk, Partitions, WriteStart, Written, sha256_hex};
pub use faults::{Chance, Faults, MachineFaults};
pub use ferric_agent_wire::{WritePhase, WriteProgress};
pub use firmware::BootSource;
pub use fleet::{BMC_PASSWORD, BMC_USER, Fleet, FleetError, FleetOptions, node_body};
pub use happening::{Happening, Kind, PowerPolicy};
pub use images::Transfer;
pub use network::{Call, Network, Replied, Reply};
pub use weather::Happened;
pub use world::{Machine, MachineView, Phase, Ramdisk};
