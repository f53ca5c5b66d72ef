//! SIGINT and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves, once a stop is wanted, with the name of the signal. A second one ends the process at once.
pub(crate) fn stop_wanted() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let first = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        actix::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            eprintln!("ferric: stopped at once by a second signal");
            std::process::exit(130);
        });
        first
    })
}
