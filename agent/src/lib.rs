//! The deploy ramdisk's agent: finds its node, serves the conductor's commands, writes images to disk.
//!
//! It speaks ironic-python-agent's protocol (`ironic/deploy.md` §B), so that either agent serves either conductor.
//! Nothing in here touches a real disk or the machine's power unless [`options::Options::machine`] says that this is
//! a deploy ramdisk; tests run the whole agent on folders and files.

pub mod agent;
pub mod api;
pub mod boot;
pub mod burnin;
pub mod command;
pub mod configdrive;
pub mod console;
pub mod crypt;
pub mod disk;
pub mod erase;
pub mod error;
pub mod extension;
pub mod firmware;
pub mod hints;
pub mod image;
pub mod inject;
pub mod inspect;
pub mod inventory;
pub mod ipmi;
pub mod iscsi;
pub mod lldp;
pub mod logs;
pub mod options;
pub mod partition;
pub mod rescue;
pub mod server;
pub mod settle;
pub mod steps;
pub mod table;

/// The agent's version as heartbeats carry it.
pub const VERSION: &str = concat!("ferric-", env!("CARGO_PKG_VERSION"));
