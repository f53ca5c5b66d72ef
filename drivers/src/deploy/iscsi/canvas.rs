//! A disk, or a part of one, in memory as far as it is touched: for code that wants to read, write and seek, such as
//! that of partition tables and FAT.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Result as IoResult, Seek, SeekFrom, Write};

use bytes::{Bytes, BytesMut};

use super::device::BlockDevice;
use crate::interface::Result;

/// Bytes that are held and written together.
const PAGE: u64 = 4096;

/// Bytes that are written at once.
const MOST: usize = 1 << 20;

struct Page {
    bytes: Box<[u8]>,
    dirty: bool,
}

/// See the module.
pub(super) struct Canvas {
    size: u64,
    at: u64,
    pages: BTreeMap<u64, Page>,
    /// What was not loaded reads as zeros; otherwise touching it is an error.
    blank: bool,
}

impl Canvas {
    /// Nothing but zeros.
    pub(super) fn blank(size: u64) -> Canvas {
        Canvas { size, at: 0, pages: BTreeMap::new(), blank: true }
    }

    /// The first and the last `each` bytes of the disk.
    pub(super) async fn ends(device: &dyn BlockDevice, each: u64) -> Result<Canvas> {
        let size = device.capacity();
        let mut canvas = Canvas { size, at: 0, pages: BTreeMap::new(), blank: false };
        let head = each.min(size);
        let tail = (size.saturating_sub(each) / PAGE * PAGE).max(head);
        for (at, end) in [(0, head), (tail, size)] {
            if end > at {
                let bytes =
                    device.read_at(at, usize::try_from(end - at).expect("an end fits memory")).await?;
                canvas.put(at, &bytes);
            }
        }
        Ok(canvas)
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        for (n, chunk) in bytes.chunks(PAGE as usize).enumerate() {
            let mut page = vec![0; PAGE as usize].into_boxed_slice();
            page[..chunk.len()].copy_from_slice(chunk);
            self.pages.insert(at / PAGE + n as u64, Page { bytes: page, dirty: false });
        }
    }

    /// The stretch, if it is held.
    pub(super) fn get(&mut self, at: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.at = at;
        self.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Overwrites a stretch. Errors: it is not held.
    pub(super) fn set(&mut self, at: u64, bytes: &[u8]) -> IoResult<()> {
        self.at = at;
        self.write_all(bytes)
    }

    /// Writes what was changed to the device, where the canvas begins at `base`.
    pub(super) async fn flush_to(&mut self, device: &dyn BlockDevice, base: u64) -> Result<()> {
        let mut run: Option<(u64, BytesMut)> = None;
        for (number, page) in &mut self.pages {
            if !std::mem::take(&mut page.dirty) {
                continue;
            }
            let at = number * PAGE;
            let len = usize::try_from(PAGE.min(self.size - at)).expect("a page");
            if let Some((start, bytes)) = &mut run
                && *start + bytes.len() as u64 == at
                && bytes.len() + len <= MOST
            {
                bytes.extend_from_slice(&page.bytes[..len]);
                continue;
            }
            if let Some((start, bytes)) = run.take() {
                device.write_at(base + start, bytes.freeze()).await?;
            }
            run = Some((at, BytesMut::from(&page.bytes[..len])));
        }
        if let Some((start, bytes)) = run {
            device.write_at(base + start, Bytes::from(bytes)).await?;
        }
        Ok(())
    }

    fn page(&mut self) -> IoResult<(&mut Page, usize)> {
        let number = self.at / PAGE;
        if self.blank {
            let fresh = || Page { bytes: vec![0; PAGE as usize].into_boxed_slice(), dirty: false };
            self.pages.entry(number).or_insert_with(fresh);
        }
        let offset = usize::try_from(self.at % PAGE).expect("within a page");
        let page = self.pages.get_mut(&number).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "the partition table lies far from the ends of the disk")
        })?;
        Ok((page, offset))
    }
}

impl Read for Canvas {
    fn read(&mut self, bytes: &mut [u8]) -> IoResult<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        if left == 0 || bytes.is_empty() {
            return Ok(0);
        }
        let blank = self.blank && !self.pages.contains_key(&(self.at / PAGE));
        let n = bytes.len().min(left).min((PAGE - self.at % PAGE) as usize);
        if blank {
            bytes[..n].fill(0);
        } else {
            let (page, offset) = self.page()?;
            bytes[..n].copy_from_slice(&page.bytes[offset..offset + n]);
        }
        self.at += n as u64;
        Ok(n)
    }
}

impl Write for Canvas {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        if left == 0 || bytes.is_empty() {
            return Ok(0);
        }
        let n = bytes.len().min(left).min((PAGE - self.at % PAGE) as usize);
        let (page, offset) = self.page()?;
        page.bytes[offset..offset + n].copy_from_slice(&bytes[..n]);
        page.dirty = true;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> IoResult<()> {
        Ok(())
    }
}

impl Seek for Canvas {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
