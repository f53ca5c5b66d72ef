//! The database as the commands meet it: where it is, whether it can be used, and what to do when it cannot.

use std::error::Error as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use ferric_schema::{StoreError, StoreOptions};

use crate::wire::WireError;

/// Room that a start needs at the least.
const PROBE_BYTES: usize = 1 << 20;

/// The file of an SQLite database; none for PostgreSQL.
pub(crate) fn sqlite_file(options: &StoreOptions) -> Option<PathBuf> {
    let url = options.url.trim();
    let path = url.strip_prefix("sqlite://").unwrap_or(url);
    (!path.contains("://")).then(|| PathBuf::from(path))
}

/// A failure while the database was opened, with its file and what to do.
pub(crate) fn explain(error: StoreError, options: &StoreOptions) -> WireError {
    let Some(file) = sqlite_file(options) else { return WireError::Store(error) };
    let mut cause = error.to_string();
    let mut inner = error.source();
    while let Some(deeper) = inner {
        cause = deeper.to_string();
        inner = deeper.source();
    }
    let says = |part: &str| cause.to_ascii_lowercase().contains(part);
    let rights = "give this user the right to write the file and its folder, or name another database with \
                  database.connection or --data-dir";
    let remedy = match &error {
        StoreError::Full => {
            cause = "the disk is full".to_owned();
            "free space where it lies, or move it and set database.connection"
        }
        StoreError::Busy => {
            "another program holds it: end that one, or name another with database.connection"
        }
        StoreError::Unreachable(_) | StoreError::Other(_) if says("not a database") || says("malformed") => {
            "put a backup in its place, or move the file away and a new database is made; \
             database.connection names another"
        }
        StoreError::Unreachable(_) => rights,
        StoreError::Other(_) if says("readonly") || says("read-only") || says("unable to open") => rights,
        StoreError::Other(_) => {
            "look after its disk (journalctl -k), or name another database with database.connection"
        }
        // their texts say what to do
        StoreError::Migration(_)
        | StoreError::Options(_)
        | StoreError::Stale { .. }
        | StoreError::NotFound { .. }
        | StoreError::Duplicate { .. }
        | StoreError::Panicked
        | StoreError::Closed => return WireError::Store(error),
    };
    WireError::Database { file, cause, remedy }
}

/// Whether an SQLite database can be written: the file itself, and new ones beside it, as its journal is.
///
/// # Errors
/// `Database` with the remedy.
pub(crate) fn writable(file: &Path) -> Result<(), WireError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let probe = folder.join(format!(".ferric-probe-{}", std::process::id()));
    let tried = OpenOptions::new().write(true).open(file).map(drop).and_then(|()| {
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&probe)
            .and_then(|mut to| to.write_all(&vec![0; PROBE_BYTES]).and_then(|()| to.sync_all()));
        // there is nothing to be done about a file that stays
        let _ = std::fs::remove_file(&probe);
        written
    });
    tried.map_err(|error| {
        let remedy = if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            "free space where it lies, or move it and set database.connection"
        } else {
            "give this user the right to write the file and its folder, or name another database with \
             database.connection or --data-dir"
        };
        WireError::Database { file: file.to_owned(), cause: error.to_string(), remedy }
    })
}

/// Brings the tables up to date; the steps that ran.
pub(crate) fn migrate(options: &StoreOptions) -> Result<Vec<String>, WireError> {
    ferric_schema::migrate::connect(options)
        .and_then(|mut connection| ferric_schema::migrate::run(&mut connection))
        .map_err(|error| explain(error, options))
}

/// The steps that have not been applied yet.
pub(crate) fn pending(options: &StoreOptions) -> Result<Vec<String>, WireError> {
    ferric_schema::migrate::connect(options)
        .and_then(|mut connection| ferric_schema::migrate::pending(&mut connection))
        .map_err(|error| explain(error, options))
}

/// Refuses a database that is not there, or whose tables are older or newer than this program. Makes no file.
pub(crate) fn check(options: &StoreOptions) -> Result<(), WireError> {
    if let Some(file) = sqlite_file(options)
        && !file.exists()
    {
        return Err(WireError::Database {
            file,
            cause: "there is no such file".to_owned(),
            remedy: "ferric db migrate makes it, ferric serve too; or name another with database.connection or \
                     --data-dir",
        });
    }
    ferric_schema::migrate::connect(options)
        .and_then(|mut connection| ferric_schema::migrate::check(&mut connection))
        .map_err(|error| explain(error, options))
}
