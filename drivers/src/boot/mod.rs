//! Boot interfaces.

mod fake;

pub use fake::FakeBoot;
