//! The disk behind the target: SCSI commands as SPC-4 and SBC-3 tell them, on a [`Store`].

use super::store::Store;

/// The most blocks that one command may move, as VPD page B0 tells, for blocks of 512 bytes.
pub(crate) const LARGEST_TRANSFER: u64 = 16 << 20;
/// The most blocks that one UNMAP or WRITE SAME may concern.
const LARGEST_UNMAP: u32 = 1 << 20;

/// Bytes that WRITE SAME writes at a time.
const PIECE: usize = 1 << 20;

/// What a command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// GOOD, with what is to be read.
    Good(Vec<u8>),
    /// CHECK CONDITION.
    Check(Sense),
    /// Another status: BUSY, TASK SET FULL.
    Status(u8),
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sense {
    key: u8,
    code: [u8; 2],
    /// The block that is meant.
    block: Option<u64>,
}

impl Sense {
    pub(crate) const UNIT_ATTENTION: Self = Self::new(6, [0x29, 0]);
    pub(crate) const CAPACITY_CHANGED: Self = Self::new(6, [0x2A, 0x09]);
    const NO_COMMAND: Self = Self::new(5, [0x20, 0]);
    const OUT_OF_RANGE: Self = Self::new(5, [0x21, 0]);
    const FIELD: Self = Self::new(5, [0x24, 0]);
    const NO_LUN: Self = Self::new(5, [0x25, 0]);
    const PARAMETERS: Self = Self::new(5, [0x26, 0]);
    const PROTECTED: Self = Self::new(7, [0x27, 0]);

    const fn new(key: u8, code: [u8; 2]) -> Self {
        Self { key, code, block: None }
    }

    fn medium(write: bool, block: u64) -> Self {
        Self { key: 3, code: if write { [0x0C, 0] } else { [0x11, 0] }, block: Some(block) }
    }

    /// Fixed format; the descriptor format where the block does not fit into it (SPC-4 §4.5).
    pub(crate) fn encode(self) -> Vec<u8> {
        let [code, qualifier] = self.code;
        match self.block.map(u32::try_from) {
            Some(Err(_)) => {
                let mut out = vec![0x72, self.key, code, qualifier, 0, 0, 0, 12, 0, 10, 0x80, 0];
                out.extend(self.block.unwrap_or(0).to_be_bytes());
                out
            }
            block @ (None | Some(Ok(_))) => {
                let block = block.and_then(Result::ok);
                let mut out = vec![if block.is_some() { 0xF0 } else { 0x70 }, 0, self.key];
                out.extend(block.unwrap_or(0).to_be_bytes());
                out.extend([10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0]);
                out
            }
        }
    }
}

/// The disk.
pub(crate) struct Unit<'a> {
    pub(crate) store: &'a Store,
    /// Bytes of a block.
    pub(crate) block: u32,
    /// Whether UNMAP and WRITE SAME with UNMAP are there, and unmapped blocks read as zeros.
    pub(crate) thin: bool,
    /// Whether writes are refused.
    pub(crate) read_only: bool,
    pub(crate) serial: &'a str,
    pub(crate) lun: u16,
    /// Blocks that cannot be read or written.
    pub(crate) broken: &'a [u64],
    /// Whether UNMAP does no more than it must, and WRITE SAME is not known.
    pub(crate) lazy: bool,
}

/// What was done to the medium.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) written: u64,
    pub(crate) zeroed: u64,
    pub(crate) flushed: bool,
    /// Bytes that the command itself says it writes, whatever came with it.
    pub(crate) wanted: Option<u64>,
}

fn u16_at(cdb: &[u8], at: usize) -> u64 {
    u64::from(u16::from_be_bytes([cdb[at], cdb[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 4].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn cut(mut data: Vec<u8>, to: u64) -> Reply {
    data.truncate(usize::try_from(to).unwrap_or(usize::MAX));
    Reply::Good(data)
}

impl Unit<'_> {
    fn blocks(&self) -> u64 {
        self.store.size() / u64::from(self.block)
    }

    /// Carries out a command. `cdb` has 16 bytes, `data` is what came with it.
    pub(crate) fn execute(&self, lun: u16, cdb: &[u8; 16], data: &[u8], done: &mut Done) -> Reply {
        match cdb[0] {
            0x12 => return self.inquiry(lun, cdb),
            0xA0 => return cut(self.luns(), u32_at(cdb, 6)),
            0x03 => {
                let none = if lun == self.lun || lun == 0 { Sense::new(0, [0, 0]) } else { Sense::NO_LUN };
                return cut(none.encode(), u64::from(cdb[4]));
            }
            _ if lun != self.lun => return Reply::Check(Sense::NO_LUN),
            _ => {}
        }
        match cdb[0] {
            0x00 => Reply::Good(Vec::new()),
            0x1A => cut(self.mode(4), u64::from(cdb[4])),
            0x5A => cut(self.mode(8), u16_at(cdb, 7)),
            0x25 => {
                let last = u32::try_from(self.blocks() - 1).unwrap_or(u32::MAX);
                Reply::Good([last.to_be_bytes(), self.block.to_be_bytes()].concat())
            }
            0x9E if cdb[1] & 0x1F == 0x10 => {
                let mut out = (self.blocks() - 1).to_be_bytes().to_vec();
                out.extend(self.block.to_be_bytes());
                out.extend([0, 0, if self.thin { 0xC0 } else { 0 }, 0]);
                out.resize(32, 0);
                cut(out, u32_at(cdb, 10))
            }
            // protection information, which the disk has not
            0x28 | 0x88 | 0x2A | 0x8A | 0x41 | 0x93 if cdb[1] & 0xE0 != 0 => Reply::Check(Sense::FIELD),
            // anchored blocks, which it has not either
            0x41 | 0x93 if cdb[1] & 0x10 != 0 => Reply::Check(Sense::FIELD),
            0x28 => self.read(u32_at(cdb, 2), u16_at(cdb, 7)),
            0x88 => self.read(u64_at(cdb, 2), u32_at(cdb, 10)),
            0x2A => self.write(u32_at(cdb, 2), u16_at(cdb, 7), data, done),
            0x8A => self.write(u64_at(cdb, 2), u32_at(cdb, 10), data, done),
            0x41 | 0x93 if self.lazy => Reply::Check(Sense::NO_COMMAND),
            0x41 => self.same(cdb[1], u32_at(cdb, 2), u16_at(cdb, 7), data, done),
            0x93 => self.same(cdb[1], u64_at(cdb, 2), u32_at(cdb, 10), data, done),
            0x42 => self.unmap(data, done),
            0x35 | 0x91 => {
                done.flushed = true;
                self.store.sync();
                Reply::Good(Vec::new())
            }
            _ => Reply::Check(Sense::NO_COMMAND),
        }
    }

    fn luns(&self) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 16, 0, 0, 0, 0];
        for lun in [0, self.lun] {
            let [high, low] = lun.to_be_bytes();
            out.extend([high, low, 0, 0, 0, 0, 0, 0]);
        }
        out
    }

    fn inquiry(&self, lun: u16, cdb: &[u8; 16]) -> Reply {
        let length = u16_at(cdb, 3);
        // a disk; the target's own controller; nothing
        let device = if lun == self.lun {
            0
        } else if lun == 0 {
            0x0C
        } else {
            0x7F
        };
        if cdb[1] & 1 == 0 {
            if cdb[2] != 0 {
                return Reply::Check(Sense::FIELD);
            }
            let mut out = vec![device, 0, 5, 0x12, 91, 0, 0, 2];
            out.extend(b"FERRIC  SIMULATED DISK  0001");
            out.resize(58, 0);
            // iSCSI, SPC-4, SBC-3
            out.extend([0x09, 0x60, 0x04, 0x60, 0x04, 0xC0]);
            out.resize(96, 0);
            return cut(out, length);
        }
        let page: Vec<u8> = match cdb[2] {
            0x00 => vec![0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2],
            0x80 => self.serial.as_bytes().to_vec(),
            0x83 => {
                // T10 vendor identification, ASCII
                let name = format!("FERRIC  {}", self.serial);
                let mut out = vec![2, 1, 0, u8::try_from(name.len()).unwrap_or(u8::MAX)];
                out.extend(name.bytes().take(usize::from(u8::MAX)));
                out
            }
            0xB0 => {
                let mut out = vec![0; 60];
                let most = LARGEST_TRANSFER / u64::from(self.block);
                out[4..8].copy_from_slice(&u32::try_from(most).unwrap_or(u32::MAX).to_be_bytes());
                if self.thin {
                    out[16..20].copy_from_slice(&LARGEST_UNMAP.to_be_bytes());
                    out[20..24].copy_from_slice(&16_u32.to_be_bytes());
                    out[24..28].copy_from_slice(&8_u32.to_be_bytes());
                }
                out[32..40].copy_from_slice(&u64::from(LARGEST_UNMAP).to_be_bytes());
                out
            }
            0xB1 => {
                // does not rotate
                let mut out = vec![0, 1];
                out.resize(60, 0);
                out
            }
            // LBPU, LBPWS, LBPWS10, LBPRZ; thin
            0xB2 => vec![0, if self.thin { 0xE4 } else { 0 }, if self.thin { 2 } else { 0 }, 0],
            _ => return Reply::Check(Sense::FIELD),
        };
        let [high, low] = u16::try_from(page.len()).unwrap_or(u16::MAX).to_be_bytes();
        let mut out = vec![device, cdb[2], high, low];
        out.extend(page);
        cut(out, length)
    }

    /// The header of mode sense, of 4 or 8 bytes: no descriptors, no pages.
    fn mode(&self, header: u8) -> Vec<u8> {
        // write protection; DPO and FUA are understood
        let flags = if self.read_only { 0x90 } else { 0x10 };
        if header == 4 { vec![3, 0, flags, 0] } else { vec![0, 6, 0, flags, 0, 0, 0, 0] }
    }

    /// Where the range begins, in bytes, and how long it is.
    fn range(&self, at: u64, count: u64, write: bool) -> Result<(u64, u64), Reply> {
        let end = at.checked_add(count).filter(|end| *end <= self.blocks());
        let end = end.ok_or(Reply::Check(Sense::OUT_OF_RANGE))?;
        match self.broken.iter().find(|block| (at..end).contains(block)) {
            Some(block) => Err(Reply::Check(Sense::medium(write, *block))),
            None => Ok((at * u64::from(self.block), count * u64::from(self.block))),
        }
    }

    fn read(&self, at: u64, count: u64) -> Reply {
        if count * u64::from(self.block) > LARGEST_TRANSFER {
            return Reply::Check(Sense::FIELD);
        }
        match self.range(at, count, false) {
            Ok((offset, length)) => {
                let mut out = vec![0; length as usize];
                self.store.read(offset, &mut out);
                Reply::Good(out)
            }
            Err(reply) => reply,
        }
    }

    fn write(&self, at: u64, count: u64, data: &[u8], done: &mut Done) -> Reply {
        if self.read_only {
            return Reply::Check(Sense::PROTECTED);
        }
        if count * u64::from(self.block) > LARGEST_TRANSFER {
            return Reply::Check(Sense::FIELD);
        }
        match self.range(at, count, true) {
            Ok((offset, length)) => {
                done.wanted = Some(length);
                // what did not come is not written, nor what is too much; the residual count tells
                let whole = (data.len() as u64).min(length) / u64::from(self.block) * u64::from(self.block);
                self.store.write(offset, &data[..whole as usize]);
                done.written += whole;
                Reply::Good(Vec::new())
            }
            Err(reply) => reply,
        }
    }

    fn same(&self, flags: u8, at: u64, count: u64, data: &[u8], done: &mut Done) -> Reply {
        let (unmap, without_data) = (flags & 8 != 0, flags & 1 != 0);
        let zeros = without_data || data.iter().all(|byte| *byte == 0);
        if self.read_only {
            return Reply::Check(Sense::PROTECTED);
        }
        if (unmap && !self.thin) || count > u64::from(LARGEST_UNMAP) {
            return Reply::Check(Sense::FIELD);
        }
        if !without_data && data.len() != self.block as usize {
            return Reply::Check(Sense::FIELD);
        }
        // none means up to the end
        let count = if count == 0 { self.blocks().saturating_sub(at) } else { count };
        match self.range(at, count, true) {
            Ok((offset, length)) if zeros => {
                self.store.zero(offset, length);
                done.zeroed += length;
                Reply::Good(Vec::new())
            }
            Ok((offset, length)) => {
                let piece = data.repeat(PIECE / data.len());
                for at in (offset..offset + length).step_by(piece.len()) {
                    let left = usize::try_from(offset + length - at).unwrap_or(usize::MAX);
                    self.store.write(at, &piece[..piece.len().min(left)]);
                }
                done.written += length;
                Reply::Good(Vec::new())
            }
            Err(reply) => reply,
        }
    }

    fn unmap(&self, data: &[u8], done: &mut Done) -> Reply {
        if !self.thin {
            return Reply::Check(Sense::NO_COMMAND);
        }
        let Some(list) = data.get(8..) else { return Reply::Check(Sense::PARAMETERS) };
        let length = u16_at(data, 2) as usize;
        let Some(list) = list.get(..length) else { return Reply::Check(Sense::PARAMETERS) };
        for one in list.chunks_exact(16) {
            let (at, count) = (u64_at(one, 0), u32_at(one, 8));
            if count > u64::from(LARGEST_UNMAP) {
                return Reply::Check(Sense::PARAMETERS);
            }
            match self.range(at, count, true) {
                Ok((offset, length)) => {
                    if self.lazy {
                        let block = u64::from(self.block).min(length);
                        self.store.zero(offset, block);
                        self.store.zero(offset + length - block, block);
                    } else {
                        self.store.zero(offset, length);
                    }
                    done.zeroed += length;
                }
                Err(reply) => return reply,
            }
        }
        Reply::Good(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::{Done, Reply, Sense, Store, Unit};

    fn unit(store: &Store) -> Unit<'_> {
        Unit {
            store,
            block: 512,
            thin: true,
            read_only: false,
            serial: "s",
            lun: 1,
            broken: &[],
            lazy: false,
        }
    }

    #[test]
    fn any_command_with_any_data_is_answered() {
        let store = Store::new(1 << 20);
        let mut chance = crate::Chance::new(3, 3);
        for _ in 0..20_000 {
            let mut cdb = [0; 16];
            cdb.fill_with(|| if chance.happens(0.5) { 0 } else { chance.bits() as u8 });
            if chance.happens(0.7) {
                let known = [0x12, 0xA0, 3, 0x25, 0x9E, 0x28, 0x88, 0x2A, 0x8A, 0x41, 0x93, 0x42, 0x1A, 0x5A];
                cdb[0] = known[chance.below(known.len())];
            }
            let data: Vec<u8> = (0..chance.below(80)).map(|_| chance.bits() as u8).collect();
            let lun = chance.below(3) as u16;
            drop(unit(&store).execute(lun, &cdb, &data, &mut Done::default()));
        }
    }

    #[test]
    fn a_block_beyond_32_bits_is_named_in_the_descriptor_format() {
        let broken = [5_u64 << 32];
        let store = Store::new(1 << 50);
        let unit = Unit { broken: &broken, ..unit(&store) };
        let Reply::Check(sense) = unit.read(broken[0] - 1, 2) else { panic!("a broken block was read") };
        assert_eq!(sense, Sense::medium(false, broken[0]));
        let bytes = sense.encode();
        assert_eq!((bytes[0], bytes[1], &bytes[2..4]), (0x72, 3, &[0x11_u8, 0][..]));
        assert_eq!(super::u64_at(&bytes, 12), broken[0]);
    }
}
