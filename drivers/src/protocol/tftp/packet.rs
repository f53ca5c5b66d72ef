//! Packets of TFTP (RFC 1350) and its options (RFC 2347, 2348, 2349, 7440), read without trust.

use std::time::Duration;

/// What fits into an Ethernet frame with IPv4 and UDP.
pub(super) const BLOCK_SIZE: u16 = 1468;
/// What a client that names no size gets.
const PLAIN_BLOCK: u16 = 512;
/// Blocks on the way at once; a client that has room for fewer asks for fewer.
pub(super) const WINDOW: u16 = 64;

/// A client that is silent this long six times over would keep a place for minutes: longer ones are not agreed on,
/// which RFC 2349 leaves to the server. Seconds.
const LONGEST_TIMEOUT: u8 = 8;

/// Codes of ERROR packets (RFC 1350, appendix; 8 from RFC 2347).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorCode {
    /// See the text.
    Undefined = 0,
    /// No such file.
    NotFound = 1,
    /// It may not be read, or not be written.
    Access = 2,
    /// No request of TFTP.
    Illegal = 4,
}

/// A packet from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ.
    Read(Request<'a>),
    /// WRQ.
    Write,
    /// All blocks up to this one (modulo 65,536) have come.
    Ack(u16),
    /// The client wants no more.
    Error {
        /// Its reason as a number.
        code: u16,
    },
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The name of the file.
    pub file: &'a str,
    /// Mode `octet`: bytes as they are.
    pub octet: bool,
    /// Option `blksize`.
    pub blksize: Option<u16>,
    /// Option `windowsize`.
    pub windowsize: Option<u16>,
    /// Option `timeout`, seconds.
    pub timeout: Option<u8>,
    /// Option `tsize` is there.
    pub tsize: bool,
}

/// Reads a packet; `None` is nothing that a client of a server that only reads out says.
#[must_use]
pub fn parse(packet: &[u8]) -> Option<Packet<'_>> {
    let (code, rest) = packet.split_first_chunk::<2>()?;
    match u16::from_be_bytes(*code) {
        1 => Request::parse(rest).map(Packet::Read),
        2 => Some(Packet::Write),
        4 => Some(Packet::Ack(u16::from_be_bytes(*rest.first_chunk()?))),
        5 => Some(Packet::Error { code: u16::from_be_bytes(*rest.first_chunk()?) }),
        _ => None,
    }
}

impl Request<'_> {
    /// Words that end with NUL: name, mode, then options and their values. Options that are unknown or out of
    /// bounds are passed over, as RFC 2347 wants it.
    fn parse(text: &[u8]) -> Option<Request<'_>> {
        // some ROMs leave out the last NUL, some send more of them
        let mut words = text.split(|byte| *byte == 0).map(std::str::from_utf8);
        let file = words.next()?.ok().filter(|name| !name.is_empty())?;
        let octet = words.next()?.ok()?.eq_ignore_ascii_case("octet");
        let mut request =
            Request { file, octet, blksize: None, windowsize: None, timeout: None, tsize: false };
        while let (Some(Ok(name)), Some(Ok(value))) = (words.next(), words.next()) {
            let number = value.parse::<u64>().ok();
            let within = |least: u64, most: u64| number.filter(|n| (least..=most).contains(n));
            let short = |n: u64| u16::try_from(n).expect("the bound is below 65,536");
            if name.eq_ignore_ascii_case("blksize") {
                request.blksize = within(8, 65464).map(short);
            } else if name.eq_ignore_ascii_case("windowsize") {
                request.windowsize = within(1, 65535).map(short);
            } else if name.eq_ignore_ascii_case("timeout") {
                request.timeout = within(1, 255).and_then(|n| u8::try_from(n).ok());
            } else if name.eq_ignore_ascii_case("tsize") {
                request.tsize = number.is_some();
            }
        }
        Some(request)
    }

    /// What is agreed on for a file of `size` bytes, and the OACK that says so, if there is anything to say.
    #[must_use]
    pub fn agree(&self, size: u64) -> (Agreed, Option<Vec<u8>>) {
        let mut oack = vec![0, 6];
        let mut option = |name: &str, value: u64| {
            oack.extend_from_slice(name.as_bytes());
            oack.push(0);
            oack.extend_from_slice(value.to_string().as_bytes());
            oack.push(0);
        };
        if self.tsize {
            option("tsize", size);
        }
        let blksize = self.blksize.map(|asked| asked.min(BLOCK_SIZE));
        if let Some(blksize) = blksize {
            option("blksize", blksize.into());
        }
        let timeout = self.timeout.filter(|seconds| *seconds <= LONGEST_TIMEOUT);
        if let Some(seconds) = timeout {
            option("timeout", seconds.into());
        }
        let window = self.windowsize.map(|asked| asked.min(WINDOW));
        if let Some(window) = window {
            option("windowsize", window.into());
        }
        let agreed = Agreed {
            blksize: blksize.unwrap_or(PLAIN_BLOCK),
            window: window.unwrap_or(1),
            timeout: timeout.map(|seconds| Duration::from_secs(seconds.into())),
        };
        (agreed, (oack.len() > 2).then_some(oack))
    }
}

/// How a transfer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Bytes in each block but the last.
    pub blksize: u16,
    /// Blocks that go out without waiting for an answer.
    pub window: u16,
    /// After so much silence a packet is sent again, if the client said.
    pub timeout: Option<Duration>,
}

/// An ERROR packet.
pub(super) fn error(code: ErrorCode, text: &str) -> Vec<u8> {
    [&[0, 5, 0, code as u8], text.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_are_agreed_on_within_bounds_and_the_rest_is_passed_over() {
        let read = |text: &'static [u8]| match parse(text) {
            Some(Packet::Read(request)) => request,
            other => panic!("{other:?}"),
        };
        let edk2 = read(b"\0\x01grub.efi\0OCTET\0tsize\x000\0BLKSIZE\x001468\0windowsize\x004\0");
        let (agreed, oack) = edk2.agree(77);
        assert_eq!(agreed, Agreed { blksize: 1468, window: 4, timeout: None });
        assert_eq!(oack.unwrap(), b"\0\x06tsize\x0077\0blksize\x001468\0windowsize\x004\0");
        let greedy = read(b"\0\x01a\0octet\0blksize\x0065464\0windowsize\x0065535\0timeout\x003\0");
        let (agreed, oack) = greedy.agree(0);
        assert_eq!(agreed, Agreed { blksize: 1468, window: 64, timeout: Some(Duration::from_secs(3)) });
        assert_eq!(oack.unwrap(), b"\0\x06blksize\x001468\0timeout\x003\0windowsize\x0064\0");
        let patient = read(b"\0\x01a\0octet\0timeout\x00255\0windowsize\x002\0");
        let (agreed, oack) = patient.agree(0);
        assert_eq!(agreed, Agreed { blksize: 512, window: 2, timeout: None });
        assert_eq!(oack.unwrap(), b"\0\x06windowsize\x002\0");
        let odd = read(b"\0\x01a\0octet\0blksize\x007\0windowsize\x000\0timeout\x00256\0multicast\0\0");
        let (agreed, oack) = odd.agree(0);
        assert_eq!((agreed, oack), (Agreed { blksize: 512, window: 1, timeout: None }, None));
        assert!(!read(b"\0\x01a\0netascii\0").octet);
        assert_eq!(read(b"\0\x01a\0octet").file, "a");
        for bad in [
            &b""[..],
            b"\0",
            b"\0\x01",
            b"\0\x01\0octet\0",
            b"\0\x01a",
            b"\0\x04\0",
            b"\0\x09aa",
            b"\x01\0a\0octet\0",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(parse(b"\0\x02a\0octet\0"), Some(Packet::Write));
        assert_eq!(parse(b"\0\x04\x01\x02"), Some(Packet::Ack(258)));
        assert_eq!(parse(b"\0\x05\0\x08gone\0"), Some(Packet::Error { code: 8 }));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_and_agreed_within_bounds(bytes: Vec<u8>, value in "[0-9]{0,22}") {
            let _ = parse(&bytes);
            let options = format!("\0\x01f\0octet\0blksize\0{value}\0windowsize\0{value}\0timeout\0{value}\0tsize\0{value}\0");
            let Some(Packet::Read(request)) = parse(options.as_bytes()) else { panic!("{options:?}") };
            let (agreed, _) = request.agree(u64::MAX);
            prop_assert!(agreed.timeout <= Some(Duration::from_secs(LONGEST_TIMEOUT.into())));
            prop_assert!((8..=BLOCK_SIZE).contains(&agreed.blksize) && (1..=WINDOW).contains(&agreed.window));
        }
    }
}
