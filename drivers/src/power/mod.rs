//! Power interfaces.

mod fake;

pub use fake::FakePower;
