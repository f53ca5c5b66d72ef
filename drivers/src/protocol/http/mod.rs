//! The HTTP server that boot ROMs and ramdisks read files from: GET and HEAD, ranges, validators (RFC 9110).

mod answer;
mod head;
mod places;
mod range;
mod server;

pub use range::{Wanted, wanted};
pub use server::{DESCRIPTORS, HttpHandle, HttpSettings, start};
