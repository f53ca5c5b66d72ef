//! What Ferric tells of itself while it runs: to stderr, as text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, LogFormat};

/// Refuses a filter that cannot be understood.
pub(crate) fn check_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{error}; give a level, as in info, or levels by room, as in info,ferric_actors=debug"
        )),
    }
}

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
        | Command::Config(_)
        | Command::Swarm(_) => "warn",
    };
    let filter = EnvFilter::new(cli.log.log.as_deref().unwrap_or(quiet));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match cli.log.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}
