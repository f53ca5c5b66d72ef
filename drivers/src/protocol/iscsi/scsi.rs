//! The few SCSI commands of a disk, their answers, and sense data: SPC-4, SBC-3, SAM-5.

use bytes::{BufMut, Bytes, BytesMut};

/// A command, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Its name, for messages.
    pub name: &'static str,
    /// The command descriptor block; shorter ones are filled up with zeroes.
    pub cdb: [u8; 16],
    /// What moves.
    pub transfer: Transfer,
}

/// The data of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Transfer {
    /// None.
    None,
    /// At most this many bytes to us.
    Read(u32),
    /// These bytes to the target.
    Write(Bytes),
}

impl Transfer {
    /// Bytes that are to move.
    pub fn length(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Read(length) => *length,
            Self::Write(data) => u32::try_from(data.len()).unwrap_or(u32::MAX),
        }
    }
}

fn cdb(opcode: u8, fill: impl FnOnce(&mut [u8; 16])) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    fill(&mut cdb);
    cdb
}

fn range(opcode: u8, lba: u64, blocks: u32) -> [u8; 16] {
    cdb(opcode, |cdb| {
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    })
}

impl Command {
    /// Is the unit ready?
    pub fn test_unit_ready() -> Self {
        Self { name: "TEST UNIT READY", cdb: [0; 16], transfer: Transfer::None }
    }

    /// Who are you; with `page`, the vital product data page.
    pub fn inquiry(page: Option<u8>, length: u16) -> Self {
        let cdb = cdb(0x12, |cdb| {
            cdb[1] = u8::from(page.is_some());
            cdb[2] = page.unwrap_or(0);
            cdb[3..5].copy_from_slice(&length.to_be_bytes());
        });
        Self { name: "INQUIRY", cdb, transfer: Transfer::Read(length.into()) }
    }

    /// How big, in 32 bits.
    pub fn read_capacity_10() -> Self {
        Self { name: "READ CAPACITY (10)", cdb: cdb(0x25, |_| ()), transfer: Transfer::Read(8) }
    }

    /// How big, and whether thin.
    pub fn read_capacity_16() -> Self {
        let cdb = cdb(0x9E, |cdb| {
            cdb[1] = 0x10;
            cdb[13] = 32;
        });
        Self { name: "READ CAPACITY (16)", cdb, transfer: Transfer::Read(32) }
    }

    /// Which units there are.
    pub fn report_luns() -> Self {
        let cdb = cdb(0xA0, |cdb| cdb[6..10].copy_from_slice(&4096_u32.to_be_bytes()));
        Self { name: "REPORT LUNS", cdb, transfer: Transfer::Read(4096) }
    }

    /// `blocks` of `block_bytes` from `lba`.
    pub fn read_16(lba: u64, blocks: u32, block_bytes: u32) -> Self {
        let length = blocks.saturating_mul(block_bytes);
        Self { name: "READ (16)", cdb: range(0x88, lba, blocks), transfer: Transfer::Read(length) }
    }

    /// `data` to `blocks` from `lba`.
    pub fn write_16(lba: u64, blocks: u32, data: Bytes) -> Self {
        Self { name: "WRITE (16)", cdb: range(0x8A, lba, blocks), transfer: Transfer::Write(data) }
    }

    /// What is in a cache goes to the medium: the whole unit.
    pub fn synchronize_cache_16() -> Self {
        Self { name: "SYNCHRONIZE CACHE (16)", cdb: range(0x91, 0, 0), transfer: Transfer::None }
    }

    /// The same, for units that know only the short form.
    pub fn synchronize_cache_10() -> Self {
        Self { name: "SYNCHRONIZE CACHE (10)", cdb: cdb(0x35, |_| ()), transfer: Transfer::None }
    }

    /// One block of data to all of a range; with `unmap` the unit may drop the blocks instead, if they read the same.
    pub fn write_same_16(lba: u64, blocks: u32, unmap: bool, block: Bytes) -> Self {
        let mut cdb = range(0x93, lba, blocks);
        cdb[1] = if unmap { 0x08 } else { 0 };
        Self { name: "WRITE SAME (16)", cdb, transfer: Transfer::Write(block) }
    }

    /// A range is not needed any more.
    pub fn unmap(lba: u64, blocks: u32) -> Self {
        let mut list = BytesMut::with_capacity(24);
        list.put_u16(22);
        list.put_u16(16);
        list.put_u32(0);
        list.put_u64(lba);
        list.put_u32(blocks);
        list.put_u32(0);
        let cdb = cdb(0x42, |cdb| cdb[8] = 24);
        Self { name: "UNMAP", cdb, transfer: Transfer::Write(list.freeze()) }
    }
}

/// The standard answer to INQUIRY.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inquiry {
    /// 0 there is a unit, 1 it is not connected, 3 there can be none.
    pub qualifier: u8,
    /// 0 disk, 0x0C storage array controller, 5 CD, 0x1F none.
    pub device_type: u8,
    /// Vendor, product and revision in one line.
    pub name: String,
}

impl Inquiry {
    /// Reads what came; missing bytes count as zero.
    pub fn parse(data: &[u8]) -> Self {
        let first = data.first().copied().unwrap_or(0x7F);
        let text = |from: usize, to: usize| {
            let bytes = data.get(from..to.min(data.len())).unwrap_or(&[]);
            String::from_utf8_lossy(bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
        };
        let name = [text(8, 16), text(16, 32), text(32, 36)].join(" ");
        Self { qualifier: first >> 5, device_type: first & 0x1F, name: printable(&name) }
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

/// The serial number out of VPD page 0x80.
pub fn unit_serial(page: &[u8]) -> Option<String> {
    let length = usize::from(*page.get(3)?);
    let text = page.get(4..)?.get(..length).unwrap_or(&page[4..]);
    let text = String::from_utf8_lossy(text);
    // LIO ends it with NUL
    let text = printable(text.trim_matches(|c: char| c.is_whitespace() || c == '\0'));
    (page.get(1) == Some(&0x80) && !text.is_empty()).then_some(text)
}

/// The pages that VPD page 0 lists.
pub fn vpd_pages(page: &[u8]) -> &[u8] {
    let length = page.get(2..4).map_or(0, |length| usize::from(u16::from_be_bytes([length[0], length[1]])));
    let list = page.get(4..).unwrap_or(&[]);
    if page.get(1) == Some(&0) { &list[..length.min(list.len())] } else { &[] }
}

/// Which of the VPD pages that are of use here a disk is asked for: those that it lists, and what a thin disk has to
/// say of unmapping even if it lists nothing.
pub fn useful_pages(list: &[u8], thin: bool) -> Vec<u8> {
    let wanted = |page: &u8| list.contains(page) || (thin && *page != 0x80);
    [0x80, 0xB0, 0xB2].into_iter().filter(wanted).collect()
}

/// Size and shape of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// How many blocks.
    pub blocks: u64,
    /// The size of one, in bytes: 512 to 64 KiB, a power of two.
    pub block_bytes: u32,
    /// Blocks can be unmapped (LBPME).
    pub thin: bool,
    /// Unmapped blocks read as zeroes (LBPRZ).
    pub unmapped_reads_zero: bool,
}

impl Capacity {
    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.blocks.saturating_mul(self.block_bytes as u64)
    }

    /// Reads the answer to READ CAPACITY (16). None where it makes no sense.
    pub fn parse_16(data: &[u8]) -> Option<Self> {
        let last = u64::from_be_bytes(*data.first_chunk()?);
        let block_bytes = u32::from_be_bytes(data.get(8..12)?.try_into().ok()?);
        let flags = data.get(14).copied().unwrap_or(0);
        Self::sound(last.checked_add(1)?, block_bytes, flags & 0x80 != 0, flags & 0x40 != 0)
    }

    /// Reads the answer to READ CAPACITY (10). None where it makes no sense.
    pub fn parse_10(data: &[u8]) -> Option<Self> {
        let last = u32::from_be_bytes(*data.first_chunk()?);
        let block_bytes = u32::from_be_bytes(data.get(4..8)?.try_into().ok()?);
        Self::sound(u64::from(last) + 1, block_bytes, false, false)
    }

    fn sound(blocks: u64, block_bytes: u32, thin: bool, unmapped_reads_zero: bool) -> Option<Self> {
        let possible = block_bytes.is_power_of_two() && (512..=65536).contains(&block_bytes);
        // offsets are added to: no disk comes near the end of the numbers
        let small = blocks.checked_mul(block_bytes.into())? <= 1 << 63;
        (possible && small).then_some(Self { blocks, block_bytes, thin, unmapped_reads_zero })
    }
}

/// What VPD pages 0xB0 (block limits) and 0xB2 (logical block provisioning) say; zero is "not said".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// Longest READ or WRITE, in blocks.
    pub max_transfer: u32,
    /// Longest UNMAP, in blocks.
    pub max_unmap: u32,
    /// Blocks per unit of unmapping.
    pub unmap_granularity: u32,
    /// Where the units of unmapping begin, in blocks.
    pub unmap_alignment: u32,
    /// Longest WRITE SAME, in blocks.
    pub max_write_same: u64,
    /// UNMAP works (LBPU).
    pub unmap: bool,
    /// WRITE SAME (16) can unmap (LBPWS).
    pub write_same_unmap: bool,
    /// Unmapped blocks read as zeroes (LBPRZ).
    pub unmapped_reads_zero: bool,
}

impl BlockLimits {
    /// Adds what page 0xB0 says.
    pub fn read_b0(&mut self, page: &[u8]) {
        if page.get(1) != Some(&0xB0) {
            return;
        }
        let u32_at = |at: usize| {
            page.get(at..at + 4)
                .map_or(0, |bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        self.max_transfer = u32_at(8);
        self.max_unmap = if u32_at(24) == 0 { 0 } else { u32_at(20) };
        self.unmap_granularity = u32_at(28);
        let alignment = u32_at(32);
        self.unmap_alignment = if alignment >> 31 == 1 { alignment & 0x7FFF_FFFF } else { 0 };
        self.max_write_same = u64::from(u32_at(36)) << 32 | u64::from(u32_at(40));
    }

    /// Adds what page 0xB2 says.
    pub fn read_b2(&mut self, page: &[u8]) {
        if page.get(1) != Some(&0xB2) {
            return;
        }
        let flags = page.get(5).copied().unwrap_or(0);
        self.unmap = flags & 0x80 != 0;
        self.write_same_unmap = flags & 0x40 != 0;
        self.unmapped_reads_zero = flags & 0x04 != 0;
    }
}

/// The units of REPORT LUNS that have plain numbers.
pub fn units(data: &[u8]) -> Vec<u16> {
    let Some(length) = data.first_chunk::<4>() else { return Vec::new() };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let list = data.get(8..).unwrap_or(&[]);
    list[..length.min(list.len())]
        .chunks_exact(8)
        .filter_map(|lun| super::pdu::Lun(u64::from_be_bytes(lun.try_into().ok()?)).number())
        .collect()
}

/// SCSI status codes, SAM-5 §5.3.1.
pub mod status {
    /// Done.
    pub const GOOD: u8 = 0x00;
    /// There is sense data.
    pub const CHECK_CONDITION: u8 = 0x02;
    /// Later.
    pub const BUSY: u8 = 0x08;
    /// Somebody else has reserved the unit.
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    /// Later, and fewer at a time.
    pub const TASK_SET_FULL: u8 = 0x28;
    /// Aborted, by somebody else.
    pub const TASK_ABORTED: u8 = 0x40;
}

/// Sense keys, SPC-4 §4.5.6.
pub mod key {
    /// Nothing to say.
    pub const NO_SENSE: u8 = 0x0;
    /// Done, after a repair.
    pub const RECOVERED: u8 = 0x1;
    /// Not (yet) ready.
    pub const NOT_READY: u8 = 0x2;
    /// The medium is broken.
    pub const MEDIUM_ERROR: u8 = 0x3;
    /// The device is broken.
    pub const HARDWARE_ERROR: u8 = 0x4;
    /// The command makes no sense to it.
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    /// Something happened since.
    pub const UNIT_ATTENTION: u8 = 0x6;
    /// Not to be written, or no space.
    pub const DATA_PROTECT: u8 = 0x7;
    /// The target gave the command up.
    pub const ABORTED_COMMAND: u8 = 0xB;
    /// More data than fits.
    pub const VOLUME_OVERFLOW: u8 = 0xD;
}

/// Sense data, of either format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// One of [`key`].
    pub key: u8,
    /// Additional sense code and its qualifier.
    pub asc: (u8, u8),
    /// The INFORMATION field: the first block that failed, for errors of the medium.
    pub lba: Option<u64>,
}

impl Sense {
    /// Reads sense data of the fixed (0x70, 0x71) or descriptor (0x72, 0x73) format. None for anything else.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let at = |index: usize| data.get(index).copied().unwrap_or(0);
        match data.first()? & 0x7F {
            0x70 | 0x71 if data.len() >= 3 => {
                let valid = data[0] & 0x80 != 0;
                let lba = data.get(3..7).filter(|_| valid);
                let lba = lba.map(|lba| u64::from(u32::from_be_bytes([lba[0], lba[1], lba[2], lba[3]])));
                Some(Self { key: data[2] & 0x0F, asc: (at(12), at(13)), lba })
            }
            0x72 | 0x73 if data.len() >= 4 => {
                let mut lba = None;
                let mut rest = data.get(8..).unwrap_or(&[]);
                while let [kind, length, ..] = rest {
                    let length = usize::from(*length) + 2;
                    let Some(descriptor) = rest.get(..length) else { break };
                    if *kind == 0 && length == 12 && descriptor[2] & 0x80 != 0 {
                        lba = descriptor.last_chunk().map(|info| u64::from_be_bytes(*info));
                    }
                    rest = &rest[length..];
                }
                Some(Self { key: data[1] & 0x0F, asc: (data[2], data[3]), lba })
            }
            _ => None,
        }
    }

    /// The sense data of a SCSI response's data segment (behind its length).
    pub fn of_segment(segment: &[u8]) -> Option<Self> {
        let length = usize::from(u16::from_be_bytes(*segment.first_chunk()?));
        let sense = &segment[2..];
        Self::parse(&sense[..length.min(sense.len())])
    }
}

impl std::fmt::Display for Sense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = match self.key {
            key::NO_SENSE => "no sense",
            key::RECOVERED => "recovered error",
            key::NOT_READY => "not ready",
            key::MEDIUM_ERROR => "medium error",
            key::HARDWARE_ERROR => "hardware error",
            key::ILLEGAL_REQUEST => "illegal request",
            key::UNIT_ATTENTION => "unit attention",
            key::DATA_PROTECT => "data protect",
            key::ABORTED_COMMAND => "aborted command",
            key::VOLUME_OVERFLOW => "volume overflow",
            _ => "sense key",
        };
        let words = match self.asc {
            (0x03, _) => ", write fault",
            (0x04, 0x01) => ", becoming ready",
            (0x04, _) => ", not ready",
            (0x0C, _) => ", write error",
            (0x11, _) => ", unrecovered read error",
            (0x20, _) => ", unknown command",
            (0x21, _) => ", block address out of range",
            (0x24, _) => ", invalid field in the command",
            (0x25, _) => ", no such logical unit",
            (0x27, 0x07) => ", no space left",
            (0x27, _) => ", write protected",
            (0x29, _) => ", power on or reset",
            (0x2A, 0x09) => ", capacity has changed",
            (0x3A, _) => ", no medium",
            (0x3F, 0x0E) => ", logical units have changed",
            (0x44, _) => ", internal failure of the target",
            (0x47, _) => ", parity or CRC error",
            _ => "",
        };
        write!(f, "{key} {:X}h/{:02X}h/{:02X}h{words}", self.key, self.asc.0, self.asc.1)?;
        match self.lba {
            Some(lba) => write!(f, " at block {lba}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sense_data_of_both_formats_names_the_block() {
        let mut fixed = vec![0xF0, 0, 3, 0, 0, 0x10, 1, 10, 0, 0, 0, 0, 0x0C, 2, 0, 0, 0, 0];
        let expected = Sense { key: key::MEDIUM_ERROR, asc: (0x0C, 2), lba: Some(0x1001) };
        assert_eq!(Sense::parse(&fixed), Some(expected));
        assert_eq!(expected.to_string(), "medium error 3h/0Ch/02h, write error at block 4097");
        fixed[0] = 0x70;
        assert_eq!(Sense::parse(&fixed).unwrap().lba, None, "the information is not valid");
        let described = [0x72, 3, 0x0C, 2, 0, 0, 0, 16, 2, 2, 0, 0, 0, 10, 0x80, 0, 0, 0, 0, 9, 0, 0, 0, 1];
        let expected = Sense { lba: Some(0x9_0000_0001), ..expected };
        assert_eq!(Sense::parse(&described), Some(expected));
        let mut segment = vec![0, 18];
        segment.extend_from_slice(&fixed);
        segment.extend_from_slice(&[1, 2, 3]);
        assert_eq!(Sense::of_segment(&segment).unwrap().key, key::MEDIUM_ERROR);
    }

    #[test]
    fn capacities_that_make_no_sense_are_refused() {
        let mut answer = [0; 32];
        answer[7] = 99;
        answer[10] = 2;
        answer[14] = 0xC0;
        let expected = Capacity { blocks: 100, block_bytes: 512, thin: true, unmapped_reads_zero: true };
        assert_eq!(Capacity::parse_16(&answer), Some(expected));
        assert_eq!(expected.bytes(), 51200);
        answer[11] = 1;
        assert_eq!(Capacity::parse_16(&answer), None, "513 bytes");
        answer[10..12].copy_from_slice(&[0, 0]);
        assert_eq!(Capacity::parse_16(&answer), None, "0 bytes");
        assert_eq!(Capacity::parse_16(&[0xFF; 32]), None, "too many blocks");
        assert_eq!(Capacity::parse_16(&answer[..11]), None, "cut");
        assert_eq!(Capacity::parse_10(&[0, 0, 0, 9, 0, 0, 16, 0]).unwrap().bytes(), 40960);
        // 2^63 bytes may be; a block more may not
        let sized = |last: u64| [&last.to_be_bytes()[..], &[0, 0, 2, 0, 0, 0, 0]].concat();
        assert!(Capacity::parse_16(&sized((1 << 54) - 1)).is_some());
        assert!(Capacity::parse_16(&sized(1 << 54)).is_none());
    }

    #[test]
    fn serial_numbers_come_without_what_fills_them_up() {
        let page = |text: &[u8]| [&[0, 0x80, 0, u8::try_from(text.len()).unwrap()], text].concat();
        assert_eq!(unit_serial(&page(b"1be26c0b-03f2\0")).as_deref(), Some("1be26c0b-03f2"));
        assert_eq!(unit_serial(&page(b"  LIODISK \0\0")).as_deref(), Some("LIODISK"));
        assert_eq!(unit_serial(&page(b"\0 \0")), None);
    }

    #[test]
    fn a_thin_disk_is_asked_about_unmapping_though_it_lists_no_pages() {
        assert_eq!(useful_pages(&[], true), [0xB0, 0xB2]);
        assert_eq!(useful_pages(&[0, 0x80, 0x83, 0xB0], true), [0x80, 0xB0, 0xB2]);
        assert_eq!(useful_pages(&[0, 0x80, 0x83, 0xB0], false), [0x80, 0xB0]);
        assert!(useful_pages(&[], false).is_empty());
    }

    #[test]
    fn units_are_listed() {
        let mut answer = vec![0, 0, 0, 24, 0, 0, 0, 0];
        for lun in [0_u16, 1, 300] {
            answer.extend_from_slice(&super::super::pdu::Lun::new(lun).0.to_be_bytes());
        }
        assert_eq!(units(&answer), [0, 1, 300]);
        assert_eq!(units(&answer[..20]), [0], "an answer that is cut gives what is there");
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parsers_panic(data in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = (Sense::parse(&data), Sense::of_segment(&data), Inquiry::parse(&data), unit_serial(&data));
            let _ = (Capacity::parse_16(&data), Capacity::parse_10(&data), units(&data), vpd_pages(&data));
            let mut limits = BlockLimits::default();
            let mut page = data.clone();
            if page.len() > 1 {
                page[1] = 0xB0;
                limits.read_b0(&page);
                page[1] = 0xB2;
                limits.read_b2(&page);
            }
        }
    }
}
