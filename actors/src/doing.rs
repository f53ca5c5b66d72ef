//! What a node is doing at this moment: for people who ask why it takes so long. Lives in memory only.

use ferric_drivers::interface::Progress;
use ferric_machine::Timestamp;

/// A step under way.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Doing {
    /// The work that it is part of: `deploy`, `clean`, `clean up after deploy`, …
    pub operation: String,
    /// `interface.step`, e.g. `deploy.write_image`.
    pub step: String,
    /// Its number, counted from 1.
    pub number: usize,
    /// How many steps the operation has.
    pub of: usize,
    /// When it began.
    pub since: Timestamp,
    /// How long this step has taken on this fleet so far, on the average; `None` when it never ran to its end.
    pub usual_seconds: Option<f64>,
    /// How far it is.
    pub progress: Progress,
    /// Why nothing moves, if nothing does: "the agent did not answer …".
    pub waiting_for: Option<String>,
}
