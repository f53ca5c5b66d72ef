//! What a disk holds, byte by byte: sparse, and with equal pieces kept once for all disks that share a pool, so that
//! a thousand machines with the same image need the memory of one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use sha2::Digest as _;

/// Bytes that are kept together.
const CHUNK: usize = 64 << 10;

/// Pieces that several disks hold.
#[derive(Debug, Default)]
pub struct Pool(Mutex<HashMap<[u8; 32], Weak<[u8]>>>);

impl Pool {
    fn keep(&self, bytes: &[u8]) -> Arc<[u8]> {
        let hash = sha2::Sha256::digest(bytes).into();
        let mut known = self.0.lock().expect("no code panics while it holds the pool");
        if let Some(same) = known.get(&hash).and_then(Weak::upgrade) {
            return same;
        }
        if known.len() == known.capacity() {
            known.retain(|_, piece| piece.strong_count() > 0);
        }
        let fresh: Arc<[u8]> = bytes.into();
        known.insert(hash, Arc::downgrade(&fresh));
        fresh
    }
}

/// The bytes of a disk. Those never written are zero.
pub struct Store {
    size: u64,
    pool: Arc<Pool>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: BTreeMap<u64, Arc<[u8]>>,
    /// Ranges that were written, zeros too: begin to end. They do not touch each other.
    written: BTreeMap<u64, u64>,
    /// What the pieces were that are written and not yet synced, where the disk has a cache.
    cache: Option<BTreeMap<u64, Option<Arc<[u8]>>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.inner();
        let (pieces, written) = (inner.chunks.len(), &inner.written);
        f.debug_struct("Store")
            .field("size", &self.size)
            .field("pieces", &pieces)
            .field("written", written)
            .finish()
    }
}

impl Store {
    /// An empty disk of so many bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self::sharing(size, Arc::default())
    }

    /// The same, sharing equal pieces with the other disks of `pool`.
    #[must_use]
    pub fn sharing(size: u64, pool: Arc<Pool>) -> Self {
        Self { size, pool, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds a store")
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `offset` on. Behind the end there are zeros.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        let inner = self.inner();
        into.fill(0);
        for (index, from, range) in pieces(offset, into.len()) {
            if let Some(chunk) = inner.chunks.get(&index) {
                let length = range.len();
                into[range].copy_from_slice(&chunk[from..from + length]);
            }
        }
    }

    /// Writes; false, and nothing is changed, when that would go beyond its end.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(end) = self.end(offset, bytes.len() as u64) else { return false };
        let mut inner = self.inner();
        for (index, from, range) in pieces(offset, bytes.len()) {
            let piece = &bytes[range];
            let whole = if piece.len() == CHUNK {
                piece.to_vec()
            } else {
                let mut whole = inner.chunks.get(&index).map_or_else(|| vec![0; CHUNK], |old| old.to_vec());
                whole[from..from + piece.len()].copy_from_slice(piece);
                whole
            };
            inner.remember(index);
            if whole.iter().all(|byte| *byte == 0) {
                inner.chunks.remove(&index);
            } else {
                inner.chunks.insert(index, self.pool.keep(&whole));
            }
        }
        inner.note(offset, end);
        true
    }

    /// Makes a range zero; false, and nothing is changed, when that would go beyond its end.
    pub fn zero(&self, offset: u64, length: u64) -> bool {
        let Some(end) = self.end(offset, length) else { return false };
        let (first, last) = (offset.div_ceil(CHUNK as u64), end / CHUNK as u64);
        if first >= last {
            return self.write(offset, &vec![0; length as usize]);
        }
        let (whole, rest) = (first * CHUNK as u64, last * CHUNK as u64);
        self.write(offset, &vec![0; (whole - offset) as usize]);
        self.write(rest, &vec![0; (end - rest) as usize]);
        let mut inner = self.inner();
        let held: Vec<u64> = inner.chunks.range(first..last).map(|(index, _)| *index).collect();
        held.into_iter().for_each(|index| inner.remember(index));
        let mut behind = inner.chunks.split_off(&first);
        inner.chunks.append(&mut behind.split_off(&last));
        inner.note(offset, end);
        true
    }

    /// From now on, what is written is kept only once it is synced.
    pub fn cache_writes(&self) {
        self.inner().cache = Some(BTreeMap::new());
    }

    /// Keeps what was written.
    pub fn sync(&self) {
        if let Some(cache) = &mut self.inner().cache {
            cache.clear();
        }
    }

    /// Loses what was written and not synced, if there is a cache.
    pub fn lose(&self) {
        let mut inner = self.inner();
        for (index, old) in inner.cache.as_mut().map(std::mem::take).unwrap_or_default() {
            match old {
                Some(old) => inner.chunks.insert(index, old),
                None => inner.chunks.remove(&index),
            };
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.inner() = Inner::default();
    }

    /// Bytes from the first on that were written without a gap: an image, unless more was put right behind it.
    #[must_use]
    pub fn written_from_zero(&self) -> u64 {
        self.inner().written.get(&0).copied().unwrap_or(0)
    }

    /// Whether nothing but zeros is on it.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.inner().chunks.is_empty()
    }

    /// sha256 of a range, hex.
    #[must_use]
    pub fn sha256(&self, offset: u64, length: u64) -> String {
        let mut hash = sha2::Sha256::new();
        let (mut at, mut buffer) = (offset, vec![0; CHUNK]);
        while at < offset + length {
            let piece = usize::try_from(offset + length - at).unwrap_or(CHUNK).min(CHUNK);
            self.read(at, &mut buffer[..piece]);
            hash.update(&buffer[..piece]);
            at += piece as u64;
        }
        crate::disk::hex(&hash.finalize())
    }

    fn end(&self, offset: u64, length: u64) -> Option<u64> {
        offset.checked_add(length).filter(|end| *end <= self.size)
    }
}

impl Inner {
    /// A piece is about to change.
    fn remember(&mut self, index: u64) {
        if let Some(cache) = &mut self.cache {
            cache.entry(index).or_insert_with(|| self.chunks.get(&index).cloned());
        }
    }

    fn note(&mut self, mut begin: u64, mut end: u64) {
        if begin == end {
            return;
        }
        while let Some((before, until)) = self.written.range(..=end).next_back() {
            if *until < begin {
                break;
            }
            (begin, end) = (begin.min(*before), end.max(*until));
            let before = *before;
            self.written.remove(&before);
        }
        self.written.insert(begin, end);
    }
}

/// The pieces of a range: chunk, where in it, which part of the range.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let at = offset + done as u64;
        let from = (at % CHUNK as u64) as usize;
        let range = done..length.min(done + CHUNK - from);
        done = range.end;
        Some((at / CHUNK as u64, from, range))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{CHUNK, Pool, Store};
    use crate::Chance;

    #[test]
    fn a_sparse_disk_holds_what_a_plain_one_would() {
        const SIZE: usize = 5 * CHUNK + 512;
        let mut chance = Chance::new(7, 7);
        let (store, mut plain, mut touched) = (Store::new(SIZE as u64), vec![0; SIZE], vec![false; SIZE]);
        for _ in 0..300 {
            let from = chance.below(SIZE);
            let length = chance.below(SIZE - from + 1).min(3 * CHUNK);
            touched[from..from + length].fill(true);
            if chance.happens(0.3) {
                assert!(store.zero(from as u64, length as u64));
                plain[from..from + length].fill(0);
            } else {
                let bytes: Vec<u8> = (0..length).map(|_| chance.bits() as u8).collect();
                assert!(store.write(from as u64, &bytes));
                plain[from..from + length].copy_from_slice(&bytes);
            }
            let mut all = vec![1; SIZE];
            store.read(0, &mut all);
            assert!(all == plain);
            let run = touched.iter().position(|touched| !touched).unwrap_or(SIZE);
            assert_eq!(store.written_from_zero(), run as u64);
        }
        assert_eq!(store.sha256(0, SIZE as u64), crate::sha256_hex(&plain));
        assert!(!store.write(SIZE as u64 - 1, &[1, 2]) && !store.zero(u64::MAX, 2));
        store.zero(0, SIZE as u64);
        assert!(store.is_blank());
    }

    #[test]
    fn equal_pieces_are_kept_once_and_forgotten_with_their_disks() {
        let pool = Arc::new(Pool::default());
        let content: Vec<u8> = (0..4 * CHUNK).map(|at| (at / CHUNK) as u8 + 1).collect();
        let disks: Vec<Store> = (0..10).map(|_| Store::sharing(1 << 40, pool.clone())).collect();
        for disk in &disks {
            disk.write(1 << 39, &content);
        }
        let live =
            || pool.0.lock().expect("not poisoned").values().filter(|piece| piece.strong_count() > 0).count();
        assert_eq!(live(), 4);
        drop(disks);
        assert_eq!(live(), 0);
    }
}
