//! Keys and values of login and text requests: RFC 7143 §6.1.

use bytes::Bytes;

/// The longest text that is put together from several PDUs, in bytes.
pub const MAX_TEXT: usize = 256 * 1024;
const MAX_KEY: usize = 63;
const MAX_PAIRS: usize = 16 * 1024;

/// Why a data segment is no list of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// More than [`MAX_TEXT`] bytes, or more pairs than anybody needs.
    #[error("too much text")]
    TooLong,
    /// Not UTF-8.
    #[error("text that is no UTF-8")]
    NotText,
    /// No `=`, an empty or a much too long key.
    #[error("text that is no key=value")]
    NoPair,
}

/// One key and its value.
pub type Pair = (String, String);

/// The pairs of a whole text, in their order (SendTargets repeats keys).
/// Errors: see [`TextError`].
pub fn parse(data: &[u8]) -> Result<Vec<Pair>, TextError> {
    if data.len() > MAX_TEXT {
        return Err(TextError::TooLong);
    }
    let mut pairs = Vec::new();
    for piece in data.split(|byte| *byte == 0).filter(|piece| !piece.is_empty()) {
        if pairs.len() == MAX_PAIRS {
            return Err(TextError::TooLong);
        }
        let piece = str::from_utf8(piece).map_err(|_| TextError::NotText)?;
        let (key, value) = piece.split_once('=').ok_or(TextError::NoPair)?;
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(TextError::NoPair);
        }
        pairs.push((key.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

/// The data segment that says `pairs`.
pub fn encode<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> Bytes {
    let mut out = Vec::new();
    for (key, value) in pairs {
        out.extend_from_slice(key.as_ref().as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_ref().as_bytes());
        out.push(0);
    }
    out.into()
}

/// Puts a text together that comes in several PDUs (the C bit).
#[derive(Debug, Default)]
pub struct Collector(Vec<u8>);

impl Collector {
    /// Takes one PDU's data segment; the pairs, when it was the last.
    /// Errors: see [`TextError`].
    pub fn add(&mut self, data: &[u8], more: bool) -> Result<Option<Vec<Pair>>, TextError> {
        if self.0.len() + data.len() > MAX_TEXT {
            return Err(TextError::TooLong);
        }
        self.0.extend_from_slice(data);
        if more {
            return Ok(None);
        }
        parse(&std::mem::take(&mut self.0)).map(Some)
    }
}

/// A number as text values have it: decimal or `0x…`.
pub fn number(value: &str) -> Option<u64> {
    match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}

/// Binary as text values have it: `0x…` or `0b…` (base64). None where it is neither, or empty.
pub fn binary(value: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let (mark, digits) = value.split_at_checked(2)?;
    match mark {
        "0x" | "0X" if digits.is_ascii() && !digits.is_empty() => {
            // an odd number of digits lacks a leading zero
            let even = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
            (0..even.len()).step_by(2).map(|at| u8::from_str_radix(&even[at..at + 2], 16).ok()).collect()
        }
        "0b" | "0B" => STANDARD.decode(digits).ok().filter(|bytes| !bytes.is_empty()),
        _ => None,
    }
}

/// Binary written as `0x…`.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::from("0x"), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pairs_survive_the_wire_in_any_number_of_pieces(
            pairs in prop::collection::vec(("[A-Za-z][A-Za-z0-9.]{0,30}", "[ -~]{0,80}"), 0..20),
            piece in 1_usize..50,
        ) {
            let wire = encode(&pairs);
            prop_assert_eq!(parse(&wire), Ok(pairs.clone()));
            let mut collector = Collector::default();
            let mut pieces = wire.chunks(piece).peekable();
            let mut found = None;
            while let Some(part) = pieces.next() {
                found = collector.add(part, pieces.peek().is_some()).unwrap();
            }
            prop_assert_eq!(found.unwrap_or_default(), pairs);
        }

        #[test]
        fn no_text_makes_the_parser_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(pairs) = parse(&data) {
                for (_, value) in pairs {
                    let _ = (number(&value), binary(&value));
                }
            }
        }

        #[test]
        fn no_value_makes_the_decoders_panic(value in "\\PC{0,40}") {
            let _ = (number(&value), binary(&value));
        }

        #[test]
        fn binary_survives(bytes in prop::collection::vec(any::<u8>(), 1..64)) {
            prop_assert_eq!(binary(&hex(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn text_without_end_is_refused() {
        let mut collector = Collector::default();
        let piece = vec![b'a'; 8192];
        let found = (0..100).map(|_| collector.add(&piece, true)).find(|found| found.is_err());
        assert_eq!(found, Some(Err(TextError::TooLong)));
    }

    #[test]
    fn both_spellings_of_binary_are_read() {
        assert_eq!(binary("0xfF01"), Some(vec![0xFF, 1]));
        assert_eq!(binary("0x101"), Some(vec![1, 1]));
        assert_eq!(binary("0b/wE="), Some(vec![0xFF, 1]));
        assert_eq!(binary("0x"), None);
        assert_eq!(binary("0xé1"), None);
        assert_eq!(number("0x10"), Some(16));
    }
}
