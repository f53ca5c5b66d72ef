//! Consoles.

use async_trait::async_trait;

use super::{Interface, Json, NodeView, Result, unsupported};
use crate::console::Attachment;

/// The way to a machine's screen or serial line.
#[async_trait]
pub trait ConsoleInterface: Interface {
    /// Opens it; opens it anew if it is open already. Gives what is to be remembered in driver_internal_info (null
    /// deletes).
    async fn start(&self, node: &NodeView) -> Result<Json>;
    /// Closes it. Gives what is to be remembered, as [`ConsoleInterface::start`].
    async fn stop(&self, node: &NodeView) -> Result<Json>;
    /// Closes it although it stays enabled; those who look at it are told `why`.
    async fn dismiss(&self, node: &NodeView, _why: &'static str) -> Result<()> {
        self.stop(node).await.map(drop)
    }
    /// Where it is, as `console_info` shows it: `type` and `url` (null while it is not open), or empty.
    async fn console(&self, node: &NodeView) -> Result<Json>;
    /// Whether it is open, or needs no opening after a restart of Ferric.
    fn is_open(&self, _node: &NodeView) -> bool {
        true
    }
    /// Attaches someone to it who watches, and types if he `wants` to and nobody else does.
    async fn attach(&self, node: &NodeView, _wants: bool) -> Result<Attachment> {
        Err(unsupported(node, "a console that can be shown here"))
    }
}
