//! The database as the commands meet it: where it is, whether it can be used, and what to do when it cannot.

use std::error::Error as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use ferric_schema::{StoreError, StoreOptions};

use crate::wire::WireError;

/// Room that a start needs at the least.
const PROBE_BYTES: usize = 1 << 20;

const SPACE: &str = "free space where it lies, or move it and set database.connection";
const RIGHTS: &str = "give this user the right to write the file and its folder, or name another database with \
                      database.connection or --data-dir";

/// The file of an SQLite database; none for PostgreSQL.
pub(crate) fn sqlite_file(options: &StoreOptions) -> Option<PathBuf> {
    let url = options.url.trim();
    let path = url.strip_prefix("sqlite://").unwrap_or(url);
    (!path.contains("://")).then(|| PathBuf::from(path))
}

/// A failure of the database at the start, with its file and what to do.
pub(crate) fn explain(error: StoreError, options: &StoreOptions) -> WireError {
    let Some(file) = sqlite_file(options) else { return WireError::Store(error) };
    let mut cause = error.to_string();
    let mut inner = error.source();
    while let Some(deeper) = inner {
        cause = deeper.to_string();
        inner = deeper.source();
    }
    let says = |parts: &[&str]| {
        let cause = cause.to_ascii_lowercase();
        parts.iter().any(|part| cause.contains(part))
    };
    let full = matches!(error, StoreError::Full) || says(&["disk is full", "no space left"]);
    let remedy = match &error {
        _ if full => SPACE,
        // a failed migration says only so; its cause stands in its text
        _ if says(&["not a database", "malformed"]) => {
            "put a backup in its place, or move the file away and a new database is made; \
             database.connection names another"
        }
        _ if says(&["readonly", "read-only", "unable to open"]) => RIGHTS,
        StoreError::Busy => {
            "another program holds it: end that one, or name another with database.connection"
        }
        StoreError::Unreachable(_) => RIGHTS,
        StoreError::Other(_) => {
            "see whether its disk is full or failing (df, journalctl -k), or name another database with \
             database.connection"
        }
        // their texts say what to do
        StoreError::Migration(_)
        | StoreError::Options(_)
        | StoreError::Full
        | StoreError::Stale { .. }
        | StoreError::NotFound { .. }
        | StoreError::Duplicate { .. }
        | StoreError::Panicked
        | StoreError::Closed => return WireError::Store(error),
    };
    let cause = if full { "the disk is full".to_owned() } else { cause };
    WireError::Database { file, cause, remedy }
}

/// Whether an SQLite database can be written: the file itself, and new ones beside it, as its journal is. One that is
/// not there: whether it can be made.
///
/// # Errors
/// `Database` with the remedy.
pub(crate) fn writable(file: &Path) -> Result<(), WireError> {
    let tried = file.try_exists().and_then(|exists| {
        if exists {
            OpenOptions::new().write(true).open(file)?;
        }
        write_beside(file)
    });
    tried.map_err(|error| {
        let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        let remedy = if full { SPACE } else { RIGHTS };
        WireError::Database { file: file.to_owned(), cause: error.to_string(), remedy }
    })
}

/// Writes a file into the folder of `file`, or into the nearest that is there already, and removes it.
fn write_beside(file: &Path) -> std::io::Result<()> {
    let file = std::path::absolute(file)?;
    let folder = file.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let probe = folder.join(format!(".ferric-probe-{}", std::process::id()));
    let mut to = OpenOptions::new().write(true).create_new(true).open(&probe)?;
    let written = to.write_all(&vec![0; PROBE_BYTES]).and_then(|()| to.sync_all());
    std::fs::remove_file(&probe)?;
    written
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

/// How many nodes there are of each hardware type.
pub(crate) fn nodes_by_driver(options: &StoreOptions) -> Result<Vec<(String, i64)>, WireError> {
    ferric_schema::migrate::connect(options)
        .and_then(|mut connection| ferric_schema::nodes::count_by_driver(&mut connection))
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
