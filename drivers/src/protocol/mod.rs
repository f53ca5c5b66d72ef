//! The protocols that hardware, ramdisks and boot ROMs speak.

pub mod agent;
mod clients;
pub mod descriptors;
pub mod dhcp;
pub mod http;
pub mod ipmi;
pub mod iscsi;
mod jail;
pub mod tftp;
mod threads;
