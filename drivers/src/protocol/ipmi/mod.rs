//! IPMI over the network, 2.0 (RMCP+) and 1.5: a codec and session logic without I/O for both sides, and a client
//! that speaks to a whole fleet over one UDP socket.
//!
//! The layers, from the wire up: [`packet`] (datagrams and frames), [`crypto`] (the two cipher suites), [`rakp`]
//! (the messages that open a session, and its keys), [`session`] (an open session), [`handshake`] (the console's
//! way to one), [`command`], [`sdr`], [`states`], [`sel`], [`fru`] (what `ipmi-rs-core` lacks), [`client`] (sockets,
//! retransmission, re-use). Beside them: [`v15`] (sessions of IPMI 1.5), [`bridge`] (controllers behind a BMC),
//! [`quirks`] (who behaves how).
//! The simulator builds its BMCs from all but the last.

pub mod bridge;
pub mod client;
pub mod command;
pub mod crypto;
mod error;
pub mod fru;
pub mod handshake;
mod lane;
mod mux;
mod opening;
pub mod packet;
pub mod quirks;
pub mod rakp;
pub mod sdr;
pub mod sel;
pub mod session;
mod settings;
pub mod sol;
pub mod sol_link;
pub mod states;
mod survey;
mod typed_text;
pub mod v15;
mod words;

pub use client::IpmiClient;
pub use crypto::CipherSuite;
pub use error::IpmiError;
pub use quirks::Quirks;
pub(crate) use settings::flag;
pub use settings::{IpmiSettings, Privilege, Target, Version};
pub use survey::Surveyor;
pub(crate) use words::check_console;
