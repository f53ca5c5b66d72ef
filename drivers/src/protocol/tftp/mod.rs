//! The TFTP server for boot loaders: read only, jailed, with limits (RFC 1350, 2347, 2348, 2349, 7440).
//!
//! [`packet`] and [`transfer`] are data; [`server`] is the sockets around them: one for requests, one for each
//! transfer, all on threads of the server's own.

mod packet;
mod server;
mod sessions;
mod socket;
mod transfer;

pub use packet::{Agreed, ErrorCode, Packet, Request, parse};
pub use server::{TftpHandle, TftpSettings, start};
pub use sessions::DESCRIPTORS;
pub use transfer::{Step, Transfer};
