//! Which part of a file a `Range` header asks for (RFC 9110 §14).

/// The part to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The whole file, 200.
    All,
    /// Bytes `first..=last`, 206.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// Nothing that exists, 416.
    Nothing,
}

/// Reads a `Range` header for a file of `len` bytes. What we do not understand, and several ranges at once, are
/// answered with the whole file, as the RFC allows.
#[must_use]
pub fn wanted(header: Option<&str>, len: u64) -> Wanted {
    let Some(range) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Wanted::All;
    };
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::All };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // a number beyond u64 is beyond every file
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (first, last) = (first.trim(), last.trim());
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.min(len.saturating_sub(1))),
        (Some(first), None) if last.is_empty() => (first, len.saturating_sub(1)),
        (None, Some(0)) if first.is_empty() => return Wanted::Nothing,
        (None, Some(count)) if first.is_empty() => (len.saturating_sub(count), len.saturating_sub(1)),
        _ => return Wanted::All,
    };
    if first < len { Wanted::Part { first, last } } else { Wanted::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let part = |first, last| Wanted::Part { first, last };
        for (header, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-5", part(2, 5)),
            ("bytes=2-", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-30", part(0, 9)),
            ("bytes=5-99999999999999999999999", part(5, 9)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-2", Wanted::All),
            ("bytes=0-1,4-5", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=-", Wanted::All),
            ("lines=1-2", Wanted::All),
        ] {
            assert_eq!(wanted(Some(header), 10), expected, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
    }

    proptest! {
        #[test]
        fn a_part_always_lies_in_the_file(header in ".{0,40}", a: u64, b: u64, len: u64) {
            for header in [header, format!("bytes={a}-{b}"), format!("bytes={a}-"), format!("bytes=-{b}")] {
                if let Wanted::Part { first, last } = wanted(Some(&header), len) {
                    prop_assert!(first <= last && last < len);
                }
            }
        }
    }
}
