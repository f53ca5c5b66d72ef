//! The API on the wire: a real server over a real store and real actors, with fake hardware.
#![allow(clippy::wildcard_enum_match_arm)] // of JSON values, in assertions

mod allocations;
mod auth;
mod belongings;
mod bodies;
mod chassis;
mod client;
mod documents;
mod events;
mod hardware;
mod health;
mod inspection;
mod kept;
mod lifecycle;
mod negotiation;
mod nodes;
mod overload;
mod patching;
mod portgroups;
mod ports;
mod verbs;
mod vifs;
mod volumes;
mod watched;
mod world;
