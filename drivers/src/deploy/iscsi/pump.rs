//! Pieces of an image onto the disk: several writes at a time, and every so often a durable place to go on from.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::device::{BlockDevice, Synced};
use super::source::Piece;
use crate::error::DriverError;
use crate::interface::Result;

/// Writes under way at once, of a MiB each.
const DEPTH: usize = 8;

/// After so many bytes the disk is asked to keep what it has.
const SYNC_AFTER: u64 = 24 << 20;

/// After so long as well.
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// Most that may have to be written again after a crash.
const WINDOW: u64 = 48 << 20;

/// Largest stretch of zeros that is asked for at once where they are cheap, and where they are sent.
const CHEAP_ZEROS: u64 = 256 << 20;
const SENT_ZEROS: u64 = 4 << 20;

/// A question to the disk whether it keeps what it has: up to where and at which cost, unless something was lost.
type Syncing<'a> = BoxFuture<'a, Result<Option<(u64, u64)>>>;

/// Where the pieces go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The disk's byte of the image's byte 0.
    pub(super) base: u64,
    /// Bytes that the image may have there.
    pub(super) room: u64,
    /// The image's first byte that is still to be written; what comes before is on the disk.
    pub(super) from: u64,
}

/// How a [`pump`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// All is on stable storage up to this place, where the pieces ended.
    All(u64),
    /// The disk lost what it had not yet kept: it has to be written again from this place of the image on, and so has
    /// whatever else was written since the disk kept everything.
    Lost(u64),
}

/// Writes all pieces and tells `durable` every place of the image up to which everything is on stable storage, the last
/// of them its end. What `durable` says no to, or the disk, ends it.
pub(super) async fn pump<'a, F>(
    device: &'a dyn BlockDevice,
    mut pieces: mpsc::Receiver<Result<Piece>>,
    place: Place,
    durable: impl Fn(u64) -> F,
) -> Result<Pumped>
where
    F: Future<Output = Result<()>> + Send + 'a,
{
    let mut state = State { next: place.from, ..State::default() };
    let mut safe = place.from;
    let mut safe_cost = 0;
    let mut last = Instant::now();
    let mut writes: FuturesUnordered<BoxFuture<'a, (u64, Result<()>)>> = FuturesUnordered::new();
    let mut sync: Option<Syncing<'a>> = None;
    let mut rest: Option<Piece> = None;
    let mut ended = false;
    loop {
        let (mark, mark_cost) = state.mark();
        let done = ended && rest.is_none() && writes.is_empty();
        if done && sync.is_none() && safe == mark && state.synced {
            return Ok(Pumped::All(mark));
        }
        let due = mark_cost - safe_cost >= SYNC_AFTER || last.elapsed() >= SYNC_EVERY && mark > safe || done;
        if sync.is_none() && due {
            let told = durable(mark);
            sync = Some(Box::pin(async move {
                if device.sync().await? == Synced::Lost {
                    return Ok(None);
                }
                told.await?;
                Ok(Some((mark, mark_cost)))
            }));
        }
        let room = writes.len() < DEPTH && state.cost - safe_cost < WINDOW;
        tokio::select! {
            biased;
            Some((at, result)) = writes.next(), if !writes.is_empty() => {
                result?;
                state.pending.remove(&at);
            }
            result = async { sync.as_mut().expect("it is asked for only if it is there").await }, if sync.is_some() => {
                let Some(kept) = result? else {
                    // nothing of it may come after what is written again
                    while let Some((_, result)) = writes.next().await {
                        result?;
                    }
                    return Ok(Pumped::Lost(safe));
                };
                (safe, safe_cost) = kept;
                state.synced = true;
                (sync, last) = (None, Instant::now());
            }
            piece = async { match rest.take() { Some(piece) => Some(Ok(piece)), None => pieces.recv().await } },
                    if room && !(ended && rest.is_none()) => match piece {
                None => ended = true,
                Some(piece) => {
                    let (now, later) = cut(piece?, device.zeroes_cheaply());
                    rest = later;
                    writes.push(state.begin(device, now, place)?);
                }
            },
            () = tokio::time::sleep_until(last + SYNC_EVERY), if sync.is_none() && mark > safe => {}
        }
    }
}

/// The part of a piece that is sent at once, and what is left of it.
fn cut(piece: Piece, cheap: bool) -> (Piece, Option<Piece>) {
    let most = if cheap { CHEAP_ZEROS } else { SENT_ZEROS };
    match piece {
        Piece::Hole { at, len } if len > most => {
            (Piece::Hole { at, len: most }, Some(Piece::Hole { at: at + most, len: len - most }))
        }
        other @ (Piece::Hole { .. } | Piece::Data { .. }) => (other, None),
    }
}

#[derive(Default)]
struct State {
    /// The image's first byte that no write was begun for.
    next: u64,
    /// Bytes that were sent so far, more or less.
    cost: u64,
    /// Writes under way, and the cost before each.
    pending: BTreeMap<u64, u64>,
    /// The disk was asked at least once to keep everything.
    synced: bool,
}

impl State {
    /// Everything before it is written, if not yet kept; with what it cost.
    fn mark(&self) -> (u64, u64) {
        self.pending.first_key_value().map_or((self.next, self.cost), |(at, cost)| (*at, *cost))
    }

    fn begin<'a>(
        &mut self,
        device: &'a dyn BlockDevice,
        piece: Piece,
        place: Place,
    ) -> Result<BoxFuture<'a, (u64, Result<()>)>> {
        let (at, len) = match &piece {
            Piece::Data { at, bytes } => (*at, bytes.len() as u64),
            Piece::Hole { at, len } => (*at, *len),
        };
        let gap = at != self.next;
        let beyond = at.checked_add(len).is_none_or(|end| end > place.room);
        if gap || beyond {
            return Err(DriverError::Image {
                image: "the image".into(),
                reason: format!(
                    "{len} bytes at {at} do not follow {} or are beyond the {} bytes that there is room for",
                    self.next, place.room
                ),
            });
        }
        self.pending.insert(at, self.cost);
        self.next = at + len;
        let whole = len.next_multiple_of(device.block());
        let to = place.base + at;
        match piece {
            Piece::Data { bytes, .. } => {
                self.cost += len;
                let bytes = padded(bytes, whole);
                Ok(Box::pin(async move { (at, device.write_at(to, bytes).await) }))
            }
            Piece::Hole { .. } => {
                // a command per stretch is not nothing
                self.cost += if device.zeroes_cheaply() { (len / 256).max(512) } else { len };
                Ok(Box::pin(async move { (at, device.zero(to, whole).await) }))
            }
        }
    }
}

/// The end of an image that is no multiple of a block is followed by zeros.
fn padded(bytes: Bytes, whole: u64) -> Bytes {
    let whole = usize::try_from(whole).expect("a chunk fits memory");
    if bytes.len() == whole {
        return bytes;
    }
    let mut padded = BytesMut::from(&bytes[..]);
    padded.resize(whole, 0);
    padded.freeze()
}
