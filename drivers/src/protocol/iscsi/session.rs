//! A remote disk that outlives its connections.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::error::IscsiError;
use super::limits::Limits;
use super::link::Link;
use super::login::LoginConfig;
use super::pdu::Lun;
use super::reaction::{Reaction, reaction};
use super::scsi::{self, BlockLimits, Capacity, Command, Inquiry, Transfer};
use super::settings::{IscsiSettings, IscsiTarget};
use super::wire::{isid_of, random};
use super::writer::{WriteOptions, Writer};
use crate::metrics::METRICS;

/// Commands that one call has at the target at a time.
const PIPELINE: usize = 8;
/// A unit attention is told once for each event; a target that tells more is ill.
const MAX_ATTENTIONS: u32 = 16;

/// How the cache is flushed.
const SYNC_16: u8 = 0;
const SYNC_10: u8 = 1;
const SYNC_NONE: u8 = 2;

/// What is behind the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its size.
    pub capacity: Capacity,
    /// What it says about long commands and unmapping.
    pub limits: BlockLimits,
    /// Vendor, product, revision.
    pub name: String,
    /// Its serial number, if it has one.
    pub serial: Option<String>,
}

/// A session with a disk behind an iSCSI target. Clones share it; dropping the last one logs out.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

/// The present connection.
#[derive(Default)]
struct Slot {
    link: Option<Arc<Link>>,
    /// When and why the last attempt to have one was given up.
    given_up: Option<(Instant, IscsiError)>,
}

pub(super) struct Inner {
    target: IscsiTarget,
    pub(super) settings: IscsiSettings,
    config: LoginConfig,
    link: Mutex<Slot>,
    disk: OnceLock<Disk>,
    success: StdMutex<Instant>,
    sync: AtomicU8,
    /// Raised by each connection, and by each word of a reset: what a cache held before may be gone.
    epoch: AtomicU64,
    unsynced: StdMutex<Unsynced>,
    /// One flush at a time.
    flushing: Mutex<()>,
    pub(super) zeroing: AtomicU8,
}

/// The oldest epochs of what was written and is not yet on the medium.
#[derive(Default)]
struct Unsynced {
    /// Of what was there when the flush under way began.
    before: Option<u64>,
    /// Of what came since.
    since: Option<u64>,
}

/// The older of two epochs.
fn older(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().min()
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("target", &self.0.target)
            .field("disk", &self.0.disk)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Connects, logs in and looks at the disk; tries for `settings.open_within`.
    /// Errors: what the target is not reached by, or refuses.
    pub async fn open(target: &IscsiTarget, settings: &IscsiSettings) -> Result<Self, IscsiError> {
        let config = LoginConfig {
            initiator: settings.initiator.clone(),
            target: Some(target.iqn.clone()),
            isid: isid_of(&settings.initiator, target),
            chap: target.chap.clone(),
            challenge: random(),
            offer: settings.offer,
        };
        let session = Self(Arc::new(Inner {
            target: target.clone(),
            settings: settings.clone(),
            config,
            link: Mutex::new(Slot::default()),
            disk: OnceLock::new(),
            success: StdMutex::new(Instant::now()),
            sync: AtomicU8::new(SYNC_16),
            epoch: AtomicU64::new(0),
            unsynced: StdMutex::default(),
            flushing: Mutex::new(()),
            zeroing: AtomicU8::new(0),
        }));
        session.link(Instant::now()).await?;
        Ok(session)
    }

    /// The target.
    pub fn target(&self) -> &IscsiTarget {
        &self.0.target
    }

    /// The disk as it was found.
    pub fn disk(&self) -> &Disk {
        self.0.disk.get().expect("an open session has seen its disk")
    }

    /// Its size.
    pub fn capacity(&self) -> Capacity {
        self.disk().capacity
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// What was agreed upon with the target, on the present connection.
    /// Errors: as any command's.
    pub async fn limits(&self) -> Result<Limits, IscsiError> {
        Ok(*self.link(Instant::now()).await?.limits())
    }

    /// Reads `length` bytes at `offset`.
    /// Errors: beyond the end; the disk's; the connection's when patience is at its end.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, IscsiError> {
        self.check_range(offset, length as u64)?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let block = u64::from(self.capacity().block_bytes);
        let first = offset - offset % block;
        let end = (offset + length as u64).next_multiple_of(block);
        let mut pieces = stream::iter(self.pieces(first, end))
            .map(|(at, length)| self.read_blocks(at, length))
            .buffered(PIPELINE);
        let skip = usize::try_from(offset - first).expect("less than a block");
        let mut whole = BytesMut::new();
        while let Some(piece) = pieces.try_next().await? {
            if whole.is_empty() && piece.len() >= skip + length {
                return Ok(piece.slice(skip..skip + length));
            }
            if whole.is_empty() {
                whole.reserve(usize::try_from(end - first).unwrap_or(0));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze().slice(skip..skip + length))
    }

    /// Writes `data` at `offset`. Blocks that are covered only in part are read, merged and written.
    /// Errors: beyond the end; the disk's; the connection's when patience is at its end.
    pub async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), IscsiError> {
        self.check_range(offset, data.len() as u64)?;
        if data.is_empty() {
            return Ok(());
        }
        let block = u64::from(self.capacity().block_bytes);
        let end = offset + data.len() as u64;
        let (first, last) = (offset - offset % block, end - end % block);
        if first == offset && last == end {
            return self.write_blocks(offset, data).await;
        }
        let to = |at: u64| usize::try_from(at - offset).expect("within the data");
        // head, middle and tail; head and tail may be the same block
        let middle_start = if first == offset { offset } else { (first + block).min(end) };
        if middle_start > offset {
            self.merge(first, offset, &data[..to(middle_start)]).await?;
        }
        if last > middle_start {
            self.write_blocks(middle_start, data.slice(to(middle_start)..to(last))).await?;
        }
        if end > last && last >= middle_start {
            self.merge(last, last, &data[to(last)..]).await?;
        }
        Ok(())
    }

    /// Lays `part` over the block at `first`.
    async fn merge(&self, first: u64, offset: u64, part: &[u8]) -> Result<(), IscsiError> {
        let block = self.read_blocks(first, self.capacity().block_bytes).await?;
        let mut block = BytesMut::from(&block[..]);
        let at = usize::try_from(offset - first).expect("within a block");
        block[at..at + part.len()].copy_from_slice(part);
        self.write_blocks(first, block.freeze()).await
    }

    /// What returned before this was called is on the medium when it returns.
    /// Errors: [`IscsiError::Forgotten`] when the session was made anew, or the disk was reset, since the oldest write
    /// that no flush has covered: all of those may be gone, and are to be written again; the disk's; the connection's
    /// when patience is at its end.
    pub async fn sync(&self) -> Result<(), IscsiError> {
        let _turn = self.0.flushing.lock().await;
        {
            let mut unsynced = self.unsynced();
            unsynced.before = older(unsynced.before, unsynced.since.take());
        }
        self.flush().await?;
        // looked at after the flush: nothing that ended before it may have been lost before it
        let now = self.0.epoch.load(Ordering::SeqCst);
        match self.unsynced().before.take() {
            Some(oldest) if oldest < now => Err(IscsiError::Forgotten),
            Some(_) | None => Ok(()),
        }
    }

    fn unsynced(&self) -> std::sync::MutexGuard<'_, Unsynced> {
        self.0.unsynced.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn flush(&self) -> Result<(), IscsiError> {
        loop {
            let how = self.0.sync.load(Ordering::Relaxed);
            let command = match how {
                SYNC_16 => Command::synchronize_cache_16(),
                SYNC_10 => Command::synchronize_cache_10(),
                _ => return Ok(()),
            };
            match self.execute(command, self.0.settings.flush_timeout).await {
                Ok(_) => return Ok(()),
                // a unit that knows neither form has no cache
                Err(IscsiError::Illegal { .. }) => {
                    let next = if how == SYNC_16 { SYNC_10 } else { SYNC_NONE };
                    self.0.sync.store(next, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes a stream of chunks in ascending order, with many of them in flight.
    pub fn writer(&self, options: WriteOptions) -> Writer {
        Writer::new(self.clone(), options)
    }

    /// Ends the session; takes at most as long as `settings.goodbye`. Other clones open it again if they are used.
    pub async fn logout(self) {
        let link = self.0.link.lock().await.link.take();
        if let Some(link) = link.and_then(Arc::into_inner) {
            link.log_out().await;
        }
    }

    /// Errors: `OutOfRange`.
    pub(super) fn check_range(&self, offset: u64, length: u64) -> Result<(), IscsiError> {
        let capacity = self.capacity().bytes();
        match offset.checked_add(length) {
            Some(end) if end <= capacity => Ok(()),
            Some(_) | None => Err(IscsiError::OutOfRange { offset, length, capacity }),
        }
    }

    /// The longest READ or WRITE, in bytes: a multiple of the block.
    pub(super) fn transfer(&self) -> u32 {
        let disk = self.disk();
        let block = disk.capacity.block_bytes;
        let most = match disk.limits.max_transfer {
            0 => u32::MAX,
            blocks => blocks.saturating_mul(block),
        };
        let wanted = self.0.settings.transfer_bytes.min(most);
        (wanted - wanted % block).max(block)
    }

    /// A range of whole blocks in pieces of one command each, cut at multiples of the transfer size.
    pub(super) fn pieces(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u32)> + use<> {
        let transfer = u64::from(self.transfer());
        let mut at = from;
        std::iter::from_fn(move || {
            if at >= to {
                return None;
            }
            let end = (at - at % transfer + transfer).min(to);
            let piece = (at, u32::try_from(end - at).expect("at most a transfer"));
            at = end;
            Some(piece)
        })
    }

    async fn read_blocks(&self, offset: u64, length: u32) -> Result<Bytes, IscsiError> {
        let block = self.capacity().block_bytes;
        let command = Command::read_16(offset / u64::from(block), length / block, block);
        let data = self.execute(command, self.0.settings.command_timeout).await?;
        if data.len() != length as usize {
            return Err(IscsiError::Protocol(format!("a read of {length} bytes brought {}", data.len())));
        }
        Ok(data)
    }

    pub(super) async fn write_blocks(&self, offset: u64, data: Bytes) -> Result<(), IscsiError> {
        let block = u64::from(self.capacity().block_bytes);
        let end = offset + data.len() as u64;
        let within = self.0.settings.command_timeout;
        stream::iter(self.pieces(offset, end))
            .map(|(at, length)| {
                let from = usize::try_from(at - offset).expect("within the data");
                let data = data.slice(from..from + length as usize);
                let blocks = u32::try_from(u64::from(length) / block).expect("at most a transfer");
                self.execute(Command::write_16(at / block, blocks, data), within)
            })
            .buffer_unordered(PIPELINE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        METRICS.iscsi_bytes.inc_by(end - offset);
        Ok(())
    }

    /// Runs a command on whatever connection there is, again on the next if one breaks.
    pub(super) async fn execute(&self, command: Command, within: Duration) -> Result<Bytes, IscsiError> {
        let began = Instant::now();
        let mut pauses = Pauses::new(&self.0.settings);
        loop {
            let link = self.link(began).await?;
            let epoch = self.0.epoch.load(Ordering::SeqCst);
            let error = match self.on_link(&link, &command, within, began).await {
                Ok(data) => {
                    if matches!(command.transfer, Transfer::Write(_)) {
                        let mut unsynced = self.unsynced();
                        unsynced.since = older(unsynced.since, Some(epoch));
                    }
                    return Ok(data);
                }
                Err(error @ (IscsiError::Lost(_) | IscsiError::Silent { .. })) => error,
                Err(error) => return Err(error),
            };
            drop(link);
            self.bear(error, began)?;
            pauses.pause().await;
        }
    }

    /// Runs a command on `link`: attentions are passed over, BUSY is waited out.
    async fn on_link(
        &self,
        link: &Link,
        command: &Command,
        within: Duration,
        began: Instant,
    ) -> Result<Bytes, IscsiError> {
        let mut pauses = Pauses::new(&self.0.settings);
        let mut attentions = 0;
        loop {
            let outcome = link.run(Lun::new(self.0.target.lun), command.clone(), within).await?;
            if outcome.is_reset() {
                self.0.epoch.fetch_add(1, Ordering::SeqCst);
            }
            match reaction(command, outcome) {
                Reaction::Done(data) => {
                    *self.success() = Instant::now();
                    return Ok(data);
                }
                Reaction::Again(error) => {
                    attentions += 1;
                    if attentions > MAX_ATTENTIONS {
                        return Err(error);
                    }
                }
                Reaction::Later(error) => {
                    self.bear(error, began)?;
                    pauses.pause().await;
                }
                Reaction::Fail(error) => return Err(error),
            }
        }
    }

    /// Errors: `error`, if nothing has succeeded for too long.
    fn bear(&self, error: IscsiError, began: Instant) -> Result<(), IscsiError> {
        let since = began.max(*self.success());
        if since.elapsed() >= self.patience() { Err(error) } else { Ok(()) }
    }

    /// How long nothing may succeed.
    fn patience(&self) -> Duration {
        let settings = &self.0.settings;
        if self.0.disk.get().is_some() { settings.patience } else { settings.open_within }
    }

    fn success(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.0.success.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The connection, made anew if there is none. One command tries for all: what waits for the outcome, or comes
    /// back to it, fails with the one that gave up.
    async fn link(&self, began: Instant) -> Result<Arc<Link>, IscsiError> {
        let mut pauses = Pauses::new(&self.0.settings);
        let mut slot = self.0.link.lock().await;
        // one word when it is away, and one when it is back
        let (away, mut told) = (Instant::now(), false);
        loop {
            if let Some(link) = slot.link.as_ref().filter(|link| link.is_open()) {
                return Ok(Arc::clone(link));
            }
            slot.link = None;
            if let Some((_, error)) = slot.given_up.as_ref().filter(|(at, _)| *at >= began) {
                return Err(error.clone());
            }
            let error = match self.connect(began).await {
                Ok(link) => {
                    if told {
                        let away = away.elapsed().as_secs();
                        tracing::info!(target = %self.0.target, away, "the iSCSI target is back");
                    }
                    return Ok(Arc::clone(slot.link.insert(Arc::new(link))));
                }
                Err(error) => error,
            };
            let borne =
                if self.passes(&error) { self.bear(error.clone(), began) } else { Err(error.clone()) };
            if let Err(last) = borne {
                slot.given_up = Some((Instant::now(), last.clone()));
                return Err(last);
            }
            if !told {
                let patience = self.patience().as_secs();
                tracing::warn!(target = %self.0.target, %error, patience, "no iSCSI session: trying on, for so many seconds");
                told = true;
            }
            pauses.pause().await;
        }
    }

    /// Whether another try may help. A target that is being started again may not know its disks at once.
    fn passes(&self, error: &IscsiError) -> bool {
        let again = self.0.disk.get().is_some();
        let absent = matches!(error, IscsiError::Refused { status: 0x0203 } | IscsiError::NoUnit { .. });
        error.is_transient() || (again && absent)
    }

    async fn connect(&self, began: Instant) -> Result<Link, IscsiError> {
        let Inner { target, settings, config, .. } = &*self.0;
        let link = Link::open(&target.address, target.port, config, settings).await?;
        let found = self.look(&link, began).await?;
        let known = self.0.disk.get_or_init(|| found.clone());
        if known.capacity != found.capacity || known.serial != found.serial {
            let bytes = found.capacity.bytes();
            return Err(IscsiError::OtherDisk(format!("{}, {bytes} bytes", found.name)));
        }
        self.0.epoch.fetch_add(1, Ordering::SeqCst);
        Ok(link)
    }

    /// Looks at the disk.
    async fn look(&self, link: &Link, began: Instant) -> Result<Disk, IscsiError> {
        let within = self.0.settings.command_timeout;
        let run = async |command: Command| self.on_link(link, &command, within, began).await;
        let inquiry = match run(Command::inquiry(None, 96)).await {
            Ok(data) => Inquiry::parse(&data),
            Err(IscsiError::Illegal { sense, .. }) if sense.asc.0 == 0x25 => Inquiry::parse(&[]),
            Err(error) => return Err(error),
        };
        if inquiry.qualifier != 0 || inquiry.device_type != 0 {
            return Err(self.no_unit(link, within).await);
        }
        run(Command::test_unit_ready()).await?;
        let capacity = match run(Command::read_capacity_16()).await {
            Ok(data) => Capacity::parse_16(&data),
            Err(IscsiError::Illegal { .. }) => Capacity::parse_10(&run(Command::read_capacity_10()).await?),
            Err(error) => return Err(error),
        };
        let capacity = capacity.ok_or_else(|| IscsiError::Protocol("an impossible capacity".to_owned()))?;
        let mut disk = Disk { capacity, limits: BlockLimits::default(), name: inquiry.name, serial: None };
        // a unit without these pages is a plain disk
        let page = async |page| match run(Command::inquiry(Some(page), 252)).await {
            Ok(data) => Ok(data),
            Err(IscsiError::Illegal { .. }) => Ok(Bytes::new()),
            Err(error) => Err(error),
        };
        let pages = page(0).await?;
        for known in scsi::useful_pages(scsi::vpd_pages(&pages), capacity.thin) {
            match known {
                0x80 => disk.serial = scsi::unit_serial(&page(0x80).await?),
                0xB0 => disk.limits.read_b0(&page(0xB0).await?),
                0xB2 => disk.limits.read_b2(&page(0xB2).await?),
                _ => {}
            }
        }
        Ok(disk)
    }

    async fn no_unit(&self, link: &Link, within: Duration) -> IscsiError {
        let mut there = Vec::new();
        // LUN 0 answers for all; a first answer may be a unit attention
        for _ in 0..3 {
            if let Ok(super::engine::Outcome::Good(data)) =
                link.run(Lun::new(0), Command::report_luns(), within).await
            {
                there = scsi::units(&data);
                break;
            }
        }
        IscsiError::NoUnit { lun: self.0.target.lun, there }
    }
}

/// Pauses that double, with some chance in them so that many sessions do not come at once.
struct Pauses {
    next: Duration,
    most: Duration,
}

impl Pauses {
    const fn new(settings: &IscsiSettings) -> Self {
        Self { next: settings.back_off.0, most: settings.back_off.1 }
    }

    async fn pause(&mut self) {
        let [chance] = random();
        let pause = self.next.mul_f64(0.75 + f64::from(chance) / 512.0);
        self.next = (self.next * 2).min(self.most);
        sleep(pause).await;
    }
}
