//! The protocols that hardware, ramdisks and boot ROMs speak.

pub mod agent;
pub mod dhcp;
pub mod http;
pub mod ipmi;
mod jail;
pub mod tftp;
