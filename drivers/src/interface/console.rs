//! Consoles.

use async_trait::async_trait;

use super::{Interface, Json, NodeView, Result};

/// The way to a machine's screen or serial line.
#[async_trait]
pub trait ConsoleInterface: Interface {
    /// Opens it. That it is open already is no error.
    async fn start(&self, node: &NodeView) -> Result<()>;
    /// Closes it.
    async fn stop(&self, node: &NodeView) -> Result<()>;
    /// Where it is, as `console_info` shows it: `type` and `url`, or empty.
    async fn console(&self, node: &NodeView) -> Result<Json>;
}
