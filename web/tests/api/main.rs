//! The API on the wire: a real server over a real store and real actors, with fake hardware.
#![allow(clippy::wildcard_enum_match_arm)] // of JSON values, in assertions

mod bodies;
mod client;
mod lifecycle;
mod negotiation;
mod nodes;
mod patching;
mod ports;
mod world;
