//! Making a range read as zeroes, by the cheapest way that the unit offers: SBC-3 §4.7.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::error::IscsiError;
use super::scsi::Command;
use super::session::Session;

/// How long a WRITE SAME may be, in bytes, whatever the unit says: so that it ends in time.
const LONGEST: u64 = 64 * 1024 * 1024;
/// Shorter holes are written.
const SHORTEST: u64 = 64 * 1024;

/// WRITE SAME was refused (0: nothing was refused so far).
const WITHOUT_WRITE_SAME: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The unit guarantees that the blocks read like the one that was sent, dropped or not.
    WriteSame {
        unmap: bool,
    },
    Write,
}

impl Session {
    /// Makes `length` bytes at `offset` read as zeroes; unmaps them where the target can.
    /// Errors: as [`Session::write_at`].
    pub async fn zero_at(&self, offset: u64, length: u64) -> Result<(), IscsiError> {
        self.check_range(offset, length)?;
        let block = u64::from(self.capacity().block_bytes);
        let end = offset + length;
        let (first, last) = (offset.next_multiple_of(block), end - end % block);
        let zeroes = |length: u64| zeroes(usize::try_from(length).expect("less than two blocks"));
        if first >= last {
            return self.write_at(offset, zeroes(length)).await;
        }
        if first > offset {
            self.write_at(offset, zeroes(first - offset)).await?;
        }
        self.zero_blocks(first, last).await?;
        if end > last {
            self.write_at(last, zeroes(end - last)).await?;
        }
        Ok(())
    }

    fn way(&self, length: u64) -> Way {
        let disk = self.disk();
        let refused = self.inner().zeroing.load(Ordering::Relaxed);
        if length < SHORTEST || refused >= WITHOUT_WRITE_SAME {
            return Way::Write;
        }
        if disk.capacity.thin && disk.limits.write_same_unmap {
            return Way::WriteSame { unmap: true };
        }
        // units that do not say how much WRITE SAME takes often do it block by block
        if disk.limits.max_write_same > 0 {
            return Way::WriteSame { unmap: false };
        }
        // never UNMAP alone: a unit may leave any part of it undone, and say that it went well
        Way::Write
    }

    async fn zero_blocks(&self, mut from: u64, to: u64) -> Result<(), IscsiError> {
        while from < to {
            let until = to.min(from.saturating_add(LONGEST));
            from = match self.way(until - from) {
                Way::Write => {
                    self.write_zeroes(from, until).await?;
                    until
                }
                Way::WriteSame { unmap } => self.write_same(from, until, unmap).await?,
            };
        }
        Ok(())
    }

    async fn write_zeroes(&self, from: u64, to: u64) -> Result<(), IscsiError> {
        // every piece is a slice of the same zeroes
        stream::iter(self.pieces(from, to))
            .map(|(at, length)| self.write_blocks(at, zeroes(length as usize)))
            .buffer_unordered(4)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await
    }

    /// The offset up to which it was done.
    async fn write_same(&self, from: u64, to: u64, unmap: bool) -> Result<u64, IscsiError> {
        let block = self.capacity().block_bytes;
        let most = match self.disk().limits.max_write_same {
            0 => u64::MAX,
            blocks => blocks,
        };
        let blocks = ((to - from) / u64::from(block)).min(most);
        let count = u32::try_from(blocks).expect("at most 64 MiB");
        let one = zeroes(block as usize);
        let command = Command::write_same_16(from / u64::from(block), count, unmap, one);
        match self.execute(command, self.inner().settings.flush_timeout).await {
            Ok(_) => Ok(from + blocks * u64::from(block)),
            Err(IscsiError::Illegal { .. }) => {
                self.inner().zeroing.fetch_max(WITHOUT_WRITE_SAME, Ordering::Relaxed);
                Ok(from)
            }
            Err(error) => Err(error),
        }
    }
}

/// `length` zeroes, out of one piece of memory as long as they fit.
fn zeroes(length: usize) -> Bytes {
    const SHARED: usize = 1024 * 1024;
    static ZEROES: OnceLock<Bytes> = OnceLock::new();
    let shared = ZEROES.get_or_init(|| Bytes::from(vec![0; SHARED]));
    if length <= SHARED { shared.slice(..length) } else { Bytes::from(vec![0; length]) }
}
