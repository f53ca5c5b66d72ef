//! The few things wanted from the SMBIOS tables: DMTF DSP0134 §6.1 (structure), §7.2, §7.5, §7.17, §7.18.

use std::path::Path;

/// What the tables say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    /// MiB of all populated memory devices (type 17), else the largest that the arrays of system memory may hold.
    pub(super) memory_mib: Option<u64>,
    /// Populated processor sockets (type 4).
    pub(super) sockets: Option<u64>,
    pub(super) manufacturer: Option<String>,
    pub(super) product: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) bios_vendor: Option<String>,
    pub(super) bios_version: Option<String>,
    pub(super) bios_date: Option<String>,
}

/// A table may not be larger than this, bytes.
const LARGEST: usize = 4 << 20;

/// Reads `firmware/dmi/tables/DMI`; nothing at all when there is none.
pub(super) fn read(sys: &Path) -> Tables {
    let bytes = std::fs::read(sys.join("firmware/dmi/tables/DMI")).unwrap_or_default();
    parse(bytes.get(..bytes.len().min(LARGEST)).unwrap_or_default())
}

/// One structure: its formatted part with the header, and its strings.
struct Structure<'a> {
    bytes: &'a [u8],
    strings: Vec<&'a [u8]>,
}

impl Structure<'_> {
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The string whose number is at `at`.
    fn string(&self, at: usize) -> Option<String> {
        let index = usize::from(*self.bytes.get(at)?).checked_sub(1)?;
        let text = String::from_utf8_lossy(self.strings.get(index)?).trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    }
}

/// Whatever the bytes are, this ends and does not panic: every structure is at least four bytes long.
pub(super) fn parse(mut bytes: &[u8]) -> Tables {
    let mut tables = Tables::default();
    let (mut devices, mut arrays, mut sockets) = (0_u64, 0_u64, 0_u64);
    while let Some((kind, structure, rest)) = next(bytes) {
        bytes = rest;
        match kind {
            0 => {
                tables.bios_vendor = structure.string(4);
                tables.bios_version = structure.string(5);
                tables.bios_date = structure.string(8);
            }
            1 => {
                tables.manufacturer = structure.string(4);
                tables.product = structure.string(5);
                tables.serial = structure.string(7);
            }
            // status, bit 6: socket populated
            4 => sockets += structure.number(24, 1).unwrap_or_default() >> 6 & 1,
            // use 3: system memory
            16 if structure.number(5, 1) == Some(3) => arrays = arrays.saturating_add(capacity(&structure)),
            17 => devices = devices.saturating_add(device_mib(&structure)),
            127 => break,
            _ => {}
        }
    }
    tables.memory_mib = [devices, arrays].into_iter().find(|&mib| mib > 0);
    tables.sockets = Some(sockets).filter(|&sockets| sockets > 0);
    tables
}

fn next(bytes: &[u8]) -> Option<(u8, Structure<'_>, &[u8])> {
    let (&kind, &length) = (bytes.first()?, bytes.get(1)?);
    let length = usize::from(length);
    if length < 4 {
        return None;
    }
    let formatted = bytes.get(..length)?;
    let area = bytes.get(length..)?;
    // strings end with a NUL each and one more; without any there are two
    let end = area.windows(2).position(|pair| pair == [0, 0])?;
    let strings = area[..end].split(|&byte| byte == 0).collect();
    Some((kind, Structure { bytes: formatted, strings }, &area[end + 2..]))
}

/// MiB of one memory device: 0 when the slot is empty or unknown.
fn device_mib(device: &Structure<'_>) -> u64 {
    match device.number(12, 2) {
        None | Some(0 | 0xffff) => 0,
        Some(0x7fff) => device.number(28, 4).unwrap_or_default() & 0x7fff_ffff,
        // bit 15: kilobytes instead of megabytes
        Some(size) if size & 0x8000 != 0 => (size & 0x7fff) >> 10,
        Some(size) => size,
    }
}

/// MiB that an array may hold at most.
fn capacity(array: &Structure<'_>) -> u64 {
    match array.number(7, 4) {
        Some(0x8000_0000) => array.number(15, 8).unwrap_or_default() >> 20,
        Some(kib) => kib >> 10,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(kind: u8, fields: &[(usize, &[u8])], length: u8, strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(length)];
        (bytes[0], bytes[1]) = (kind, length);
        for (at, field) in fields {
            bytes[*at..at + field.len()].copy_from_slice(field);
        }
        for text in strings {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        bytes.extend_from_slice(if strings.is_empty() { &[0, 0] } else { &[0] });
        bytes
    }

    #[test]
    fn memory_sockets_and_names_are_read_from_the_tables() {
        let mut bytes = structure(0, &[(4, &[1, 2]), (8, &[3])], 24, &["SeaBIOS ", "1.16", "04/01/2014"]);
        bytes.extend(structure(1, &[(4, &[1, 2, 0, 3])], 27, &["QEMU", "Standard PC", "SN1"]));
        bytes.extend(structure(4, &[(24, &[0x41])], 42, &["CPU 0"]));
        bytes.extend(structure(4, &[(24, &[0x00])], 42, &["CPU 1"]));
        bytes.extend(structure(16, &[(5, &[3]), (7, &[0, 0, 0, 0x80]), (15, &[0, 0, 0, 0, 1])], 23, &[]));
        bytes.extend(structure(17, &[(12, &[0x00, 0x40])], 40, &[]));
        bytes.extend(structure(17, &[(12, &[0xff, 0x7f]), (28, &[0x00, 0x80, 0, 0])], 40, &["DIMM 1"]));
        bytes.extend(structure(17, &[(12, &[0x00, 0x88])], 40, &[]));
        bytes.extend(structure(17, &[(12, &[0xff, 0xff])], 40, &[]));
        let tables = parse(&bytes);
        assert_eq!((tables.memory_mib, tables.sockets), (Some(16384 + 32768 + 2), Some(1)));
        assert_eq!(tables.product.as_deref(), Some("Standard PC"));
        assert_eq!(tables.serial.as_deref(), Some("SN1"));
        assert_eq!(tables.bios_vendor.as_deref(), Some("SeaBIOS"));
        assert_eq!(tables.bios_date.as_deref(), Some("04/01/2014"));
        let array_only = structure(16, &[(5, &[3]), (7, &[0, 0, 0x20, 0])], 23, &[]);
        assert_eq!(parse(&array_only).memory_mib, Some(2048));
        // cut anywhere, it says less and nothing else
        for cut in 0..bytes.len() {
            let less = parse(&bytes[..cut]);
            assert!(less.memory_mib.is_none_or(|mib| mib <= 1 << 20), "{cut}");
        }
    }

    #[test]
    fn noise_does_no_harm() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..2000 {
            let noise: Vec<u8> = (0..round % 300)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    // small numbers make structures that hang together
                    (state as u8) % if round % 2 == 0 { 32 } else { 255 }
                })
                .collect();
            parse(&noise);
        }
    }
}
