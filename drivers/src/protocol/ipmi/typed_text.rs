//! Strings with a type, as inventories and sensor records have them (FRU specification §13, IPMI 2.0 §43.15).

/// What a byte of type and length announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeLength {
    kind: u8,
    /// Bytes that follow.
    pub(crate) len: usize,
}

/// Most bytes of one string.
const LEN_MASK: u8 = 0x3F;
/// In sensor records, where one bit is reserved.
const RECORD_LEN_MASK: u8 = 0x1F;
const BCD: &[u8; 16] = b"0123456789 -.:,_";

impl TypeLength {
    /// Of an inventory. `None` at the end of the fields.
    pub(crate) fn of_fru(byte: u8) -> Option<TypeLength> {
        (byte != 0xC1).then_some(TypeLength { kind: byte >> 6, len: usize::from(byte & LEN_MASK) })
    }

    /// Of a sensor record.
    pub(crate) fn of_record(byte: u8) -> TypeLength {
        TypeLength { kind: byte >> 6, len: usize::from(byte & RECORD_LEN_MASK) }
    }

    /// The text, without what is around it and without control characters. `wide`: the 8-bit kind is UCS-2, as for
    /// languages other than English.
    pub(crate) fn text(self, bytes: &[u8], wide: bool) -> String {
        let text: String = match self.kind {
            0 => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            1 => bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]).map(digit).collect(),
            2 => six_bit(bytes),
            _ if wide => {
                let units: Vec<u16> =
                    bytes.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
                String::from_utf16_lossy(&units)
            }
            _ => latin(bytes),
        };
        tidy(&text)
    }

    /// As [`TypeLength::text`] in a sensor record, where the first kind is Unicode and no binary data.
    pub(crate) fn record_text(self, bytes: &[u8]) -> String {
        match self.kind {
            0 => tidy(&String::from_utf8_lossy(bytes)),
            _ => self.text(bytes, false),
        }
    }
}

fn digit(nibble: u8) -> char {
    char::from(BCD[usize::from(nibble & 0x0F)])
}

/// Four characters in three bytes, the lowest bits first.
fn six_bit(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in bytes {
        bits |= u32::from(*byte) << held;
        held += 8;
        while held >= 6 {
            text.push(char::from(0x20 + u8::try_from(bits & 0x3F).unwrap_or(0)));
            bits >>= 6;
            held -= 6;
        }
    }
    text
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn tidy(text: &str) -> String {
    let text: String = text.chars().filter(|char| !char.is_control()).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fru(bytes: &[u8]) -> String {
        let kind = TypeLength::of_fru(bytes[0]).expect("not the end");
        kind.text(&bytes[1..=kind.len], false)
    }

    #[test]
    fn every_kind_of_string_is_read() {
        assert_eq!(fru(&[0xC5, b'H', b'e', b'l', b'l', 0xF6]), "Hellö");
        // the example of the FRU specification: "IPMI" is 29 DC A6
        assert_eq!(fru(&[0x83, 0x29, 0xDC, 0xA6]), "IPMI");
        assert_eq!(fru(&[0x43, 0x12, 0x3B, 0x4C]), "123-4.");
        assert_eq!(fru(&[0x02, 0xDE, 0xAD]), "dead");
        assert_eq!(fru(&[0xC4, b' ', b'a', 0, b' ']), "a");
        assert_eq!(TypeLength::of_fru(0xC1), None);
        let wide = TypeLength::of_fru(0xC4).expect("not the end");
        assert_eq!(wide.text(&[b'A', 0, 0xE9, 0x65], true), "A早");
    }
}
