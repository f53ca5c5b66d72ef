//! The built-in DHCP server: addresses and boot files for enrolled machines, or boot files alone beside another
//! server (proxy DHCP). Sources: RFC 2131, 2132, 4578, 6842; PXE 2.1.
//!
//! [`answer`] decides on data; [`start`] is the sockets around it.

mod answer;
mod lease_file;
mod leases;
mod mac;
mod ports;
mod queue;
mod ra;
mod request;
mod server;
mod settings;
#[cfg(test)]
mod tests;

pub use answer::{BootFile, Reply, Silence, answer, answer_boot_server, boot_file};
pub use lease_file::LeaseFile;
pub use leases::{Lease, Leases};
pub use mac::{Mac, NotAMac};
pub use ports::{BootVia, Known, PortEntry, PortIndex};
pub use request::{Kind, Malformed, Request, Vendor};
pub use server::{DhcpHandle, DhcpStats, OnUnknown, start};
pub use settings::{BootFileNames, DhcpMode, DhcpSettings, UnusableSetting};
