//! iSCSI (RFC 7143): a codec and session logic without I/O, and an initiator on tokio that needs neither root nor
//! kernel modules.
//!
//! The layers, from the wire up: [`pdu`] (framing, digests, every PDU of both sides).

pub mod pdu;
