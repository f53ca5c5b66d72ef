//! What Ferric tells of itself while it runs: to stderr, as text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, LogFormat};

/// Starts logging as the command line wants it.
pub(crate) fn start(cli: &Cli) {
    let quiet = match cli.command {
        // its screen tells; a log line would tear it
        Command::Demo(_) => "error",
        Command::Serve(_) => "info,actix_server=warn",
        Command::Sim(_)
        | Command::Ramdisk(_)
        | Command::States { .. }
        | Command::Db(_)
        | Command::Doctor(_)
        | Command::Config(_) => "warn",
    };
    let (filter, wrong) = match cli.log.log.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(quiet), Some(error)),
        None => (EnvFilter::new(quiet), None),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match cli.log.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    if let Some(error) = wrong {
        tracing::warn!(%error, "--log cannot be understood; logging as if it were not given");
    }
}
