//! Writing an image: chunks in ascending order, many of them in flight, and a mark that says how far it is safe.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::error::IscsiError;
use super::session::Session;

/// Shorter chunks are put together before they are sent, in bytes.
const SHORT: usize = 256 * 1024;
/// The longest part of a hole that is one step of progress, in bytes.
const HOLE: u64 = 64 * 1024 * 1024;
/// What a hole counts in the window, in bytes: some commands without data of their own.
const HOLE_WEIGHT: u32 = 1024 * 1024;
/// The window is counted in units of so many bytes.
const UNIT: u32 = 1024;

/// What is done about holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// They have to read as zeroes.
    Zero,
    /// The disk is known to be zero there, or nobody cares.
    Skip,
}

/// How a [`Writer`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// The first offset; all below counts as written.
    pub start: u64,
    /// What is done about holes.
    pub holes: Holes,
}

/// A piece of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes.
    Data(Bytes),
    /// So many bytes that read as zeroes.
    Hole(u64),
}

/// What is in flight, by its number; shared with the tasks.
struct Tracker {
    /// First offsets of what is not acknowledged, with how often.
    open: BTreeMap<u64, u32>,
    /// The end of what was begun.
    end: u64,
    error: Option<IscsiError>,
    progress: watch::Sender<u64>,
}

impl Tracker {
    fn begin(&mut self, offset: u64, length: u64) {
        *self.open.entry(offset).or_insert(0) += 1;
        self.end = self.end.max(offset + length);
    }

    fn done(&mut self, offset: u64, result: Result<(), IscsiError>) {
        if let Err(error) = result {
            // stays open: the mark never passes what was not written
            self.error.get_or_insert(error);
            return;
        }
        if let Some(count) = self.open.get_mut(&offset) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&offset);
            }
        }
        self.tell();
    }

    fn acknowledged(&self) -> u64 {
        self.open.keys().next().copied().unwrap_or(self.end)
    }

    fn tell(&self) {
        let acknowledged = self.acknowledged();
        self.progress.send_if_modified(|mark| {
            let before = std::mem::replace(mark, acknowledged);
            before != acknowledged
        });
    }
}

/// Writes a stream of chunks; see the module's example. Dropping it gives up what is in flight.
pub struct Writer {
    session: Session,
    holes: Holes,
    window: Arc<Semaphore>,
    window_units: u32,
    tasks: JoinSet<()>,
    tracker: Arc<Mutex<Tracker>>,
    /// The end of what was given.
    end: u64,
    /// Bytes that are not yet worth a command, and where they belong.
    pending: BytesMut,
    pending_at: u64,
}

impl Writer {
    pub(super) fn new(session: Session, options: WriteOptions) -> Self {
        let settings = &session.inner().settings;
        let window_units = settings.in_flight_bytes.max(session.transfer()).div_ceil(UNIT);
        let (progress, _) = watch::channel(options.start);
        let tracker = Tracker { open: BTreeMap::new(), end: options.start, error: None, progress };
        Self {
            window: Arc::new(Semaphore::new(window_units as usize)),
            window_units,
            holes: options.holes,
            tasks: JoinSet::new(),
            tracker: Arc::new(Mutex::new(tracker)),
            pending: BytesMut::new(),
            pending_at: options.start,
            end: options.start,
            session,
        }
    }

    /// The offset up to which everything is acknowledged (not yet durable), as it moves.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.tracker().progress.subscribe()
    }

    /// The same now.
    pub fn acknowledged(&self) -> u64 {
        self.tracker().acknowledged()
    }

    fn tracker(&self) -> std::sync::MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes bytes at `offset`, which is not below the end of what was given before; what is between stays as it is.
    /// Waits while the window is full.
    /// Errors: of this or any earlier chunk; the writer is of no further use then.
    pub async fn write(&mut self, offset: u64, mut data: Bytes) -> Result<(), IscsiError> {
        self.accept(offset, data.len() as u64).await?;
        let block = u64::from(self.session.capacity().block_bytes);
        let transfer = u64::from(self.session.transfer());
        let mut at = offset;
        while !data.is_empty() {
            // up to the next multiple of the transfer size, so that commands are aligned whatever the chunks are
            let room = usize::try_from(transfer - at % transfer).expect("at most a transfer");
            let direct = data.len().min(room);
            let direct = direct - usize::try_from((at + direct as u64) % block).expect("a block").min(direct);
            if self.pending.is_empty() && at.is_multiple_of(block) && direct >= SHORT.min(room) {
                self.submit(at, data.split_to(direct)).await?;
                at += direct as u64;
                continue;
            }
            if self.pending.is_empty() {
                self.pending.reserve(room);
                self.pending_at = at;
            }
            let part = data.split_to(data.len().min(room));
            self.pending.extend_from_slice(&part);
            at += part.len() as u64;
            if at.is_multiple_of(transfer) {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Takes a hole of `length` bytes at `offset`.
    /// Errors: as [`Writer::write`].
    pub async fn hole(&mut self, offset: u64, length: u64) -> Result<(), IscsiError> {
        self.accept(offset, length).await?;
        self.flush().await?;
        if self.holes == Holes::Skip {
            let mut tracker = self.tracker();
            tracker.end = offset + length;
            tracker.tell();
            return Ok(());
        }
        let block = u64::from(self.session.capacity().block_bytes);
        if !offset.is_multiple_of(block) || !(offset + length).is_multiple_of(block) {
            // its edges share blocks with their neighbours
            self.drain().await?;
        }
        let mut at = offset;
        while at < offset + length {
            let part = (at - at % HOLE + HOLE).min(offset + length) - at;
            let session = self.session.clone();
            self.spawn(at, part, HOLE_WEIGHT, async move { session.zero_at(at, part).await }).await?;
            at += part;
        }
        if !(offset + length).is_multiple_of(block) {
            self.drain().await?;
        }
        Ok(())
    }

    /// Writes a whole stream of chunks from the end of what was given before (or `start`) on.
    /// Errors: as [`Writer::write`]; the source's as [`IscsiError::Source`].
    pub async fn write_all<S, E>(&mut self, chunks: S) -> Result<(), IscsiError>
    where
        S: Stream<Item = Result<Chunk, E>>,
        E: std::fmt::Display,
    {
        let mut chunks = std::pin::pin!(chunks);
        let mut at = self.end;
        while let Some(chunk) = chunks.next().await {
            match chunk.map_err(|error| IscsiError::Source(error.to_string()))? {
                Chunk::Data(data) => {
                    let length = data.len() as u64;
                    self.write(at, data).await?;
                    at += length;
                }
                Chunk::Hole(length) => {
                    self.hole(at, length).await?;
                    at += length;
                }
            }
        }
        Ok(())
    }

    /// Makes durable what is acknowledged, and says up to which offset that is. Writes in flight go on meanwhile.
    /// Errors: as [`Writer::write`].
    pub async fn checkpoint(&mut self) -> Result<u64, IscsiError> {
        self.failed()?;
        let acknowledged = self.acknowledged();
        self.session.sync().await?;
        self.failed()?;
        Ok(acknowledged)
    }

    /// Writes what is left, waits for all and makes it durable. The end of it.
    /// Errors: as [`Writer::write`].
    pub async fn finish(mut self) -> Result<u64, IscsiError> {
        self.flush().await?;
        self.drain().await?;
        self.session.sync().await?;
        Ok(self.acknowledged())
    }

    async fn accept(&mut self, offset: u64, length: u64) -> Result<(), IscsiError> {
        self.failed()?;
        self.session.check_range(offset, length)?;
        let end = self.end;
        if offset < end {
            return Err(IscsiError::Source(format!("the image goes back from {end} to {offset}")));
        }
        if offset > end {
            self.flush().await?;
        }
        self.end = offset + length;
        Ok(())
    }

    /// Sends what is pending.
    async fn flush(&mut self) -> Result<(), IscsiError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let data = self.pending.split().freeze();
        let at = self.pending_at;
        let block = u64::from(self.session.capacity().block_bytes);
        if at.is_multiple_of(block) && (data.len() as u64).is_multiple_of(block) {
            return self.submit(at, data).await;
        }
        // parts of blocks are read and written: nothing else may be under way there
        self.drain().await?;
        self.submit(at, data).await?;
        self.drain().await
    }

    async fn submit(&mut self, at: u64, data: Bytes) -> Result<(), IscsiError> {
        let data_length = data.len() as u64;
        let weight = u32::try_from(data_length).unwrap_or(u32::MAX);
        let session = self.session.clone();
        self.spawn(at, data_length, weight, async move { session.write_at(at, data).await }).await
    }

    async fn spawn(
        &mut self,
        at: u64,
        length: u64,
        weight: u32,
        work: impl Future<Output = Result<(), IscsiError>> + Send + 'static,
    ) -> Result<(), IscsiError> {
        let units = weight.div_ceil(UNIT).min(self.window_units);
        // counts as open from here: the mark must not pass what waits for the window
        self.tracker().begin(at, length);
        let permit = Arc::clone(&self.window).acquire_many_owned(units).await;
        let permit = permit.expect("the window is never closed");
        self.failed()?;
        while self.tasks.try_join_next().is_some() {}
        let tracker = Arc::clone(&self.tracker);
        self.tasks.spawn(async move {
            let result = work.await;
            tracker.lock().unwrap_or_else(std::sync::PoisonError::into_inner).done(at, result);
            drop(permit);
        });
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), IscsiError> {
        while let Some(joined) = self.tasks.join_next().await {
            if let Err(error) = joined {
                return Err(IscsiError::Source(format!("a task of the writer died: {error}")));
            }
        }
        self.failed()
    }

    fn failed(&self) -> Result<(), IscsiError> {
        match &self.tracker().error {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}
