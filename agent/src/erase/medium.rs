//! A disk open for erasing: overwriting, discarding, and looking whether what was there is gone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::libc::O_EXCL;

use super::ioctl;
use crate::disk::{self, Disk};

/// Bytes of a write.
const BLOCK: u64 = 4 << 20;

/// Bytes of one discard, so that progress shows.
const STRETCH: u64 = 1 << 30;

/// Places looked at before and after.
const SAMPLES: u64 = 64;

/// Bytes looked at in each place.
const SAMPLE_BYTES: usize = 4096;

/// A disk that nothing else uses.
pub(super) struct Medium {
    file: File,
    size: u64,
    is_device: bool,
}

impl Medium {
    /// Opens it for this process alone. Errors: `EBUSY` when it is mounted or part of an array.
    pub(super) fn open(disk: &Disk) -> io::Result<Self> {
        let is_device = std::fs::metadata(&disk.path)?.file_type().is_block_device();
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if is_device {
            // on a block device, without O_CREAT, it means: fail if it is in use
            options.custom_flags(O_EXCL);
        }
        Ok(Self { file: options.open(&disk.path)?, size: disk.size, is_device })
    }

    /// The same for a disk chosen earlier: what was opened must still be it. Errors: also that it is another one now.
    pub(super) fn of_target(disk: &Disk, sys: &Path) -> io::Result<Self> {
        let medium = Self::open(disk)?;
        disk::same_device(&medium.file, disk)?;
        disk::unchanged(disk, sys)?;
        Ok(medium)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Tells the device that nothing on it is needed any more. True if it knows how to.
    pub(super) fn discard(&self, secure: bool, mut done: impl FnMut(u64)) -> io::Result<bool> {
        let mut at = 0;
        while at < self.size {
            let len = (self.size - at).min(STRETCH);
            let result = match (self.is_device, secure) {
                (true, true) => ioctl::secure_discard(&self.file, at, len),
                (true, false) => ioctl::discard(&self.file, at, len),
                (false, true) => return Ok(false),
                (false, false) => self.punch(at, len),
            };
            match result {
                Ok(()) => done(len),
                Err(error) if at == 0 && is_unknown(&error) => return Ok(false),
                Err(error) => return Err(at_byte(at, &error)),
            }
            at += len;
        }
        Ok(true)
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(&self.file, mode, at as i64, len as i64)?)
    }

    /// Zeros over all, by the device's own means where it has any.
    pub(super) fn zero(&self, mut done: impl FnMut(u64)) -> io::Result<()> {
        let mut at = 0;
        while at < self.size {
            let len = (self.size - at).min(STRETCH);
            if !(self.is_device && ioctl::zero_out(&self.file, at, len).is_ok()) {
                self.fill(at, at + len, |bytes| bytes.fill(0), &mut done)?;
            } else {
                done(len);
            }
            at += len;
        }
        self.settle()
    }

    /// One pass of random bytes over all.
    pub(super) fn scramble(&self, mut done: impl FnMut(u64)) -> io::Result<()> {
        let mut random = Random::new()?;
        self.fill(0, self.size, |bytes| random.fill(bytes), &mut done)?;
        self.settle()
    }

    /// One pass of zeros, written byte for byte.
    pub(super) fn write_zeros(&self, mut done: impl FnMut(u64)) -> io::Result<()> {
        let mut fresh = true;
        let zeros = |bytes: &mut [u8]| {
            if std::mem::take(&mut fresh) {
                bytes.fill(0);
            }
        };
        self.fill(0, self.size, zeros, &mut done)?;
        self.settle()
    }

    fn fill(
        &self,
        mut at: u64,
        end: u64,
        mut make: impl FnMut(&mut [u8]),
        done: &mut impl FnMut(u64),
    ) -> io::Result<()> {
        let mut block = vec![0; (end - at).min(BLOCK) as usize];
        while at < end {
            let len = (end - at).min(BLOCK);
            make(&mut block);
            self.file.write_all_at(&block[..len as usize], at).map_err(|error| at_byte(at, &error))?;
            done(len);
            at += len;
        }
        Ok(())
    }

    /// Writes a stretch of zeros.
    pub(super) fn zero_stretch(&self, at: u64, len: u64) -> io::Result<()> {
        self.fill(at, at + len, |bytes| bytes.fill(0), &mut |_| ())
    }

    /// All down to the medium, and nothing of it left in memory: what is read afterwards is read from the disk.
    pub(super) fn settle(&self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.is_device {
            // without it the next reading may come from memory; nothing worse
            let _ = ioctl::flush_buffers(&self.file);
        }
        posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(())
    }

    /// What is at a place.
    pub(super) fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// What is in places all over the disk. Unreadable places are left out.
    pub(super) fn sample(&self) -> Samples {
        let last = self.size.saturating_sub(SAMPLE_BYTES as u64);
        let places = (0..SAMPLES).map(|n| last / (SAMPLES - 1) * n / 4096 * 4096).chain([last]);
        Samples(places.filter_map(|at| Some((at, self.read(at, SAMPLE_BYTES).ok()?))).collect())
    }

    /// Errors: when something of the samples is still there, or not zero although all should be.
    pub(super) fn compare(&self, before: &Samples, zeros: bool) -> io::Result<()> {
        self.settle()?;
        for (at, old) in &before.0 {
            let now = self.read(*at, old.len())?;
            let uniform = old.iter().all(|byte| *byte == old[0]);
            if !uniform && now == *old {
                return Err(io::Error::other(format!("byte {at} still holds what it held before")));
            }
            if zeros && now.iter().any(|byte| *byte != 0) {
                return Err(io::Error::other(format!("byte {at} is not zero afterwards")));
            }
        }
        Ok(())
    }
}

/// What was in some places of a disk.
pub(super) struct Samples(Vec<(u64, Vec<u8>)>);

fn at_byte(at: u64, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("at byte {at}: {error}"))
}

/// Whether the device does not know the request at all.
fn is_unknown(error: &io::Error) -> bool {
    use nix::libc::{EINVAL, ENOSYS, ENOTTY, EOPNOTSUPP};
    matches!(error.raw_os_error(), Some(EOPNOTSUPP | ENOTTY | ENOSYS | EINVAL))
}

/// xoshiro256++, seeded by the kernel: no disk can shrink it, and it keeps up with any.
struct Random([u64; 4]);

impl Random {
    fn new() -> io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| io::Error::other(format!("no random numbers: {error}")))?;
        let word = |n: usize| u64::from_le_bytes(seed[n * 8..n * 8 + 8].try_into().expect("eight bytes"));
        // all zero is the one state that it would never leave
        Ok(Self([word(0) | 1, word(1), word(2), word(3)]))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            word.copy_from_slice(&random[..word.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(bytes: &[u8]) -> (tempfile::TempDir, Medium) {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("sda");
        std::fs::write(&path, bytes).expect("disk");
        let disk = Disk { path, size: bytes.len() as u64, block: 512, ..Disk::default() };
        (folder, Medium::open(&disk).expect("open"))
    }

    fn old() -> Vec<u8> {
        (0..(9_u32 << 20) + 512).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn every_byte_is_overwritten_and_counted() {
        let old = old();
        let (_folder, medium) = disk(&old);
        let mut done = 0;
        medium.scramble(|n| done += n).expect("random");
        assert_eq!(done, old.len() as u64);
        let now = medium.read(0, old.len()).expect("read");
        let same = now.iter().zip(&old).filter(|(a, b)| a == b).count();
        // one in 256 by chance
        assert!(same > old.len() / 300 && same < old.len() / 200, "{same}");
        medium.write_zeros(|n| done += n).expect("zeros");
        assert_eq!(done, 2 * old.len() as u64);
        assert!(medium.read(0, old.len()).expect("read").iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_disk_that_only_says_it_erased_is_caught() {
        let (_folder, medium) = disk(&old());
        let before = medium.sample();
        let lied = medium.compare(&before, false).expect_err("all is still there").to_string();
        assert!(lied.contains("still holds"), "{lied}");
        medium.scramble(|_| ()).expect("random");
        medium.compare(&before, false).expect("gone");
        assert!(medium.compare(&before, true).expect_err("not zero").to_string().contains("not zero"));
        assert!(medium.discard(false, |_| ()).expect("holes"));
        medium.compare(&before, true).expect("zeros");
        assert!(!medium.discard(true, |_| ()).expect("no error"), "a file knows no secure discard");
    }
}
