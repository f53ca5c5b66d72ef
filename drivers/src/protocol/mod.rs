//! The protocols that hardware, ramdisks and boot ROMs speak.

pub mod agent;
pub mod dhcp;
pub mod http;
pub mod ipmi;
pub mod iscsi;
mod jail;
pub mod tftp;
mod threads;
