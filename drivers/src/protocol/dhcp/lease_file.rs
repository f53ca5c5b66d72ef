//! Leases on disk: a line appended and synced per change, rewritten whole (temporary file, then rename) when
//! it is opened and when it has grown.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::Leases;

/// Lines appended before the file is rewritten, beyond those that the table itself needs.
const SLACK: usize = 4096;

/// The file that leases survive in.
#[derive(Debug)]
pub struct LeaseFile {
    path: PathBuf,
    file: File,
    appended: usize,
}

impl LeaseFile {
    /// Reads the leases of before, if any, and opens the file for more. Creates the folder.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn open(path: &Path) -> io::Result<(Leases, LeaseFile)> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).await?;
        }
        let text = match fs::read(path).await {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let leases = Leases::from_text(&text);
        let file = rewrite(path, &leases).await?;
        Ok((leases, LeaseFile { path: path.to_owned(), file, appended: 0 }))
    }

    /// Writes what changed and waits until it is on the disk.
    ///
    /// # Errors
    /// What the file system says, e.g. that it is full.
    pub async fn save(&mut self, changes: &str, leases: &Leases) -> io::Result<()> {
        self.appended += changes.lines().count();
        if self.appended > SLACK + leases.len() {
            self.file = rewrite(&self.path, leases).await?;
            self.appended = 0;
            return Ok(());
        }
        let written = self.append(changes).await;
        if written.is_err() {
            // half a line may stand there now: the next save writes the file anew
            self.appended = SLACK + leases.len();
        }
        written
    }

    async fn append(&mut self, changes: &str) -> io::Result<()> {
        self.file.write_all(changes.as_bytes()).await?;
        self.file.flush().await?;
        self.file.sync_data().await
    }
}

async fn rewrite(path: &Path, leases: &Leases) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let mut file = File::create(&temporary).await?;
    file.write_all(leases.to_text().as_bytes()).await?;
    file.sync_all().await?;
    fs::rename(&temporary, path).await?;
    OpenOptions::new().append(true).open(path).await
}
