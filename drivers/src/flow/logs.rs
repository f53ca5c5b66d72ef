//! The ramdisk's logs, kept when something went wrong in it (deploy.md §B.2).

use std::path::{Path, PathBuf};

use ferric_machine::Activity;

use super::{FlowSettings, LogCollection};
use crate::interface::{Result, StepContext, StepOutcome, StepSource};

/// After a step that failed for good, while its agent can still be asked.
pub(super) async fn collect_on_failure(
    settings: &FlowSettings,
    context: &StepContext,
    outcome: &Result<StepOutcome>,
) {
    let failed = outcome.as_ref().is_err_and(|error| !error.is_transient());
    // the clean-up after a failure runs when the logs were taken already
    let of_ramdisk = context.step.source != StepSource::Conductor || context.step.step == "collect";
    if let Some(logs) = settings.logs.as_ref().filter(|_| failed && of_ramdisk) {
        collect(logs, context).await;
    }
}

/// At the end of a deployment that went well, where that is configured.
pub(super) async fn collect_always(settings: &FlowSettings, context: &StepContext) {
    if let Some(logs) = settings.logs.as_ref().filter(|logs| logs.always) {
        collect(logs, context).await;
    }
}

/// Logs that cannot be had are no failure of the work.
async fn collect(logs: &LogCollection, context: &StepContext) {
    let label = match context.activity {
        Activity::Deploy => None,
        Activity::Clean => Some("cleaning"),
        Activity::Service => Some("service"),
        Activity::Verify
        | Activity::TearDown
        | Activity::Inspect
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue => return,
    };
    let Some(agent) = context.bound.agent_steps.as_ref().filter(|_| context.agent.is_some()) else { return };
    let bytes = match agent.logs(context).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(node = %context.node.uuid, %error, "the ramdisk's logs could not be collected");
            return;
        }
    };
    // `2026-11-22 20:30:00.000000` → `2026-11-22-20-30-00`
    let time: String =
        super::now().chars().take(19).map(|c| if c.is_ascii_digit() { c } else { '-' }).collect();
    let name = match label {
        Some(label) => format!("{}_{label}_{time}.tar.gz", context.node.uuid),
        None => format!("{}_{time}.tar.gz", context.node.uuid),
    };
    let (folder, path) = (logs.folder.clone(), logs.folder.join(name));
    let written = path.clone();
    let wrote = tokio::task::spawn_blocking(move || write(&folder, written, &bytes)).await;
    match wrote.map_err(std::io::Error::other).and_then(|wrote| wrote) {
        Ok(()) => tracing::info!(node = %context.node.uuid, path = %path.display(), "ramdisk logs kept"),
        Err(error) => {
            tracing::warn!(node = %context.node.uuid, path = %path.display(), %error,
                "the ramdisk's logs could not be written");
        }
    }
}

fn write(folder: &Path, path: PathBuf, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

    // the logs of a tenant's machine are for the operator alone
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(bytes)
}
