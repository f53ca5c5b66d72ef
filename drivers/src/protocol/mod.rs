//! The protocols that hardware, ramdisks and boot ROMs speak.

pub mod agent;
