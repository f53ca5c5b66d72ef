//! Management interfaces.

mod noop;

pub use noop::{FakeManagement, NoopManagement};
