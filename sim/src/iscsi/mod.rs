//! An iSCSI target for the disks of simulated machines (RFC 7143, SPC-4, SBC-3): one disk, many initiators, CHAP and
//! mutual CHAP, digests, discovery, and everything that may go wrong with a target on demand. It also keeps account of
//! what initiators do that the standard forbids.

mod login;
mod scsi;
mod session;
mod settings;
mod store;
mod target;
mod wire;

pub use settings::{Chap, Lie, Limits, Redirect, TargetFaults, TargetOptions, TargetStats};
pub use store::{Pool, Store};
pub use target::Target;
