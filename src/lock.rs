//! One process per data directory: two would both command the same BMCs and write the same boot files.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::wire::WireError;

/// The file in the data directory.
const NAME: &str = "ferric.lock";

/// Held for the life of the process; the system lets go of it whatever the end.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes `data_dir` for this process; makes it if it is not there.
    ///
    /// # Errors
    /// `DataDir` when nothing can be written there, `InUse` with the holder's pid.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, WireError> {
        let path = data_dir.join(NAME);
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| WireError::DataDir { path, source }
        };
        std::fs::create_dir_all(data_dir).map_err(unusable(data_dir))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(unusable(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&mut file, data_dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(unusable(&path)(source)),
        }
        let now = time::OffsetDateTime::now_utc();
        let since = now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        let told = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{} since {since}", std::process::id()));
        told.map_err(unusable(&path))?;
        Ok(Self { _file: file })
    }
}

/// The process that works with `data_dir` at this moment, as it says: its pid. Changes nothing there.
pub(crate) fn holder(data_dir: &Path) -> Option<String> {
    let mut file = File::open(data_dir.join(NAME)).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) | Err(TryLockError::Error(_)) => return None,
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(text.split_whitespace().next().unwrap_or("unknown").to_owned())
}

/// The lock is held: by whom, if they have said so yet.
fn in_use(file: &mut File, path: PathBuf) -> WireError {
    let mut text = String::new();
    let holder = file.read_to_string(&mut text).ok().map(|_| text.trim()).filter(|text| !text.is_empty());
    let pid = holder.and_then(|text| text.split(' ').next()).unwrap_or("<pid>").to_owned();
    let holder = holder.map_or_else(|| "another process".to_owned(), |text| format!("process {text}"));
    WireError::InUse { path, holder, pid }
}
