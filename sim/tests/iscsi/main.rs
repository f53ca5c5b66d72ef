//! The iSCSI target of simulated machines: with initiators of others, and with ours against everything that may go
//! wrong with a target.
#![allow(clippy::unwrap_used)] // tests say what broke by panicking

mod faults;
mod foreign;
mod stage;

const IQN: &str = "iqn.2026-01.example:disk";
