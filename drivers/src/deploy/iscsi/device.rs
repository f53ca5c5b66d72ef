//! The disk of a machine as the conductor writes it: what lies between the writing and the wire.

use async_trait::async_trait;
use bytes::Bytes;

use crate::interface::Result;

/// How a [`BlockDevice::sync`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    /// Everything that was written before is on stable storage.
    Kept,
    /// What was written since the last one that kept everything may be gone: it has to be written again.
    Lost,
}

/// A disk that is read and written by offset. Offsets and lengths are multiples of [`BlockDevice::block`]. Calls may
/// overlap; a write is on stable storage only after the [`BlockDevice::sync`] that follows its end.
#[async_trait]
pub(crate) trait BlockDevice: Send + Sync {
    /// Bytes of the disk.
    fn capacity(&self) -> u64;
    /// Bytes of a block.
    fn block(&self) -> u64;
    /// Whether zeros need not be sent over the wire.
    fn zeroes_cheaply(&self) -> bool;
    /// Reads `len` bytes.
    async fn read_at(&self, at: u64, len: usize) -> Result<Bytes>;
    /// Writes all of `data`.
    async fn write_at(&self, at: u64, data: Bytes) -> Result<()>;
    /// Makes a stretch read as zeros.
    async fn zero(&self, at: u64, len: u64) -> Result<()>;
    /// What tells this disk from others, as far as it says; it does not change while the machine is up.
    fn identity(&self) -> String;
    /// Makes everything that was written before stable, or tells that some of it may be gone.
    async fn sync(&self) -> Result<Synced>;
    /// Logs out. Nothing is written any more.
    async fn close(&self) -> Result<()>;
}

/// A disk in a file.
#[cfg(test)]
pub(crate) mod file {
    use std::collections::VecDeque;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    use super::*;
    use crate::DriverError;

    pub(crate) struct FileDisk {
        file: File,
        size: u64,
        pub(crate) block: u64,
        /// Bytes of `write_at` so far.
        pub(crate) written: AtomicU64,
        /// Writes end with an error once so many bytes were written.
        pub(crate) breaks_at: Option<u64>,
        /// Every stretch that was written or zeroed.
        pub(crate) log: Mutex<Vec<(u64, u64)>>,
        pub(crate) closed: AtomicBool,
        pub(crate) cheap: bool,
        pub(crate) name: String,
        /// What unsynced stretches held before, the oldest first.
        cache: Mutex<Vec<(u64, Vec<u8>)>>,
        lost: AtomicBool,
        /// Power fails, and comes back at once, when so many bytes were written; each once.
        pub(crate) crashes: Mutex<VecDeque<u64>>,
    }

    impl FileDisk {
        /// A new disk full of rubbish, or one that is there already.
        pub(crate) fn open(path: &Path, size: u64) -> FileDisk {
            let fresh = !path.exists();
            let file =
                File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
            if fresh {
                let rubbish = vec![0xa5; 1 << 20];
                for at in (0..size).step_by(1 << 20) {
                    let len = (size - at).min(1 << 20) as usize;
                    file.write_all_at(&rubbish[..len], at).unwrap();
                }
            }
            FileDisk {
                file,
                size,
                block: 512,
                written: AtomicU64::new(0),
                breaks_at: None,
                log: Mutex::default(),
                closed: AtomicBool::new(false),
                cheap: false,
                name: String::new(),
                cache: Mutex::default(),
                lost: AtomicBool::new(false),
                crashes: Mutex::default(),
            }
        }

        /// Remembers what was there, as long as it is in a cache only.
        fn note(&self, at: u64, len: u64) {
            let mut old = vec![0; len as usize];
            self.file.read_exact_at(&mut old, at).unwrap();
            self.cache.lock().unwrap().push((at, old));
        }

        /// Loses what was not synced, if it is time to.
        fn crash_if_due(&self) {
            let so_far = self.written.load(SeqCst);
            let mut crashes = self.crashes.lock().unwrap();
            if crashes.front().is_none_or(|at| so_far < *at) {
                return;
            }
            crashes.pop_front();
            let mut cache = self.cache.lock().unwrap();
            for (at, old) in cache.drain(..).rev() {
                self.file.write_all_at(&old, at).unwrap();
            }
            self.lost.store(true, SeqCst);
        }

        fn check(&self, at: u64, len: u64) {
            assert!(
                at.is_multiple_of(self.block) && len.is_multiple_of(self.block),
                "{at}+{len} is not aligned"
            );
            assert!(at + len <= self.size, "{at}+{len} is beyond the end");
        }
    }

    fn broken(error: impl ToString) -> DriverError {
        DriverError::Io { path: "disk".into(), reason: error.to_string() }
    }

    #[async_trait]
    impl BlockDevice for FileDisk {
        fn capacity(&self) -> u64 {
            self.size
        }

        fn block(&self) -> u64 {
            self.block
        }

        fn zeroes_cheaply(&self) -> bool {
            self.cheap
        }

        async fn read_at(&self, at: u64, len: usize) -> Result<Bytes> {
            self.check(at, len as u64);
            let mut bytes = vec![0; len];
            self.file.read_exact_at(&mut bytes, at).map_err(broken)?;
            Ok(bytes.into())
        }

        async fn write_at(&self, at: u64, data: Bytes) -> Result<()> {
            self.check(at, data.len() as u64);
            tokio::task::yield_now().await;
            let before = self.written.fetch_add(data.len() as u64, SeqCst);
            if self.breaks_at.is_some_and(|end| before + data.len() as u64 > end) {
                return Err(broken("the target has gone"));
            }
            self.log.lock().unwrap().push((at, data.len() as u64));
            self.note(at, data.len() as u64);
            self.file.write_all_at(&data, at).map_err(broken)?;
            self.crash_if_due();
            Ok(())
        }

        async fn zero(&self, at: u64, len: u64) -> Result<()> {
            self.check(at, len);
            self.log.lock().unwrap().push((at, len));
            self.note(at, len);
            let zeros = vec![0; 1 << 20];
            let mut done = 0;
            while done < len {
                let part = (len - done).min(1 << 20);
                self.file.write_all_at(&zeros[..part as usize], at + done).map_err(broken)?;
                done += part;
            }
            Ok(())
        }

        fn identity(&self) -> String {
            self.name.clone()
        }

        async fn sync(&self) -> Result<Synced> {
            tokio::task::yield_now().await;
            let mut cache = self.cache.lock().unwrap();
            let lost = self.lost.swap(false, SeqCst);
            cache.clear();
            Ok(if lost { Synced::Lost } else { Synced::Kept })
        }

        async fn close(&self) -> Result<()> {
            self.closed.store(true, SeqCst);
            Ok(())
        }
    }
}
