//! Files that are read again when they change, while what was read before goes on being used.

use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// What was read from files, always the last that could be read.
pub(crate) struct Reloading<T> {
    current: RwLock<Arc<T>>,
}

/// What tells one state of a file from another.
type Stamp = Vec<Option<(i64, i64, i64, i64, u64, u64)>>;

fn stamp(paths: &[PathBuf]) -> Stamp {
    let of = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        // the ctime changes with the rights to read it, too
        Some((meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), meta.len(), meta.ino()))
    };
    paths.iter().map(of).collect()
}

impl<T: Send + Sync + 'static> Reloading<T> {
    /// Reads it, and from then on looks for changes of `paths` in a thread of its own, which ends with this. A change
    /// that cannot be read is a warning about `what`.
    ///
    /// # Errors
    /// Those of the first read.
    pub(crate) fn start<E: Display>(
        what: &'static str,
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, E> + Send + 'static,
    ) -> Result<Arc<Self>, E> {
        // before it is read: what changes meanwhile is a change
        let mut seen = stamp(&paths);
        let reloading = Arc::new(Reloading { current: RwLock::new(Arc::new(load()?)) });
        let weak: Weak<Self> = Arc::downgrade(&reloading);
        let watch = move || {
            while weak.strong_count() > 0 {
                std::thread::park_timeout(INTERVAL);
                let now = stamp(&paths);
                if now == seen {
                    continue;
                }
                seen = now;
                let Some(reloading) = weak.upgrade() else { return };
                match load() {
                    Ok(new) => {
                        *reloading.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                        tracing::info!("{what} changed and was read again");
                    }
                    Err(error) => {
                        tracing::warn!(
                            "{what} changed and cannot be read; the one before stays in use: {error}"
                        );
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("ferric-reload".to_owned()).spawn(watch);
        if let Err(error) = thread {
            tracing::warn!(%error, "no thread to look for changes; {what} is not read again until a restart");
        }
        Ok(reloading)
    }

    /// What was read last.
    pub(crate) fn get(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
