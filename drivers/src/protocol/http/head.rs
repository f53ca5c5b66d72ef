//! The head of a request, read without trust (RFC 9112).

use std::borrow::Cow;

/// The longest head that is read.
pub(super) const LONGEST: usize = 16 * 1024;
const HEADERS: usize = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Get,
    Head,
    /// Any other method, which is refused.
    Else,
}

/// The parts of a request that this server looks at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) asked: Asked,
    /// The path as it came, with `%xx` and without the query.
    pub(super) path: &'a str,
    /// The connection may be used again after the answer.
    pub(super) keep: bool,
    /// A body follows, which nobody reads.
    pub(super) body: bool,
    /// A client of HTTP/1.0 has to be told that the connection is kept.
    pub(super) old: bool,
    pub(super) range: Option<&'a str>,
    pub(super) if_range: Option<&'a str>,
    pub(super) if_none_match: Option<&'a str>,
    pub(super) if_modified_since: Option<&'a str>,
}

/// What has come so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// A whole head of so many bytes.
    Whole(Head<'a>, usize),
    /// More has to come.
    Partly,
    /// 400: this is no HTTP.
    Bad,
    /// 431: more than is read.
    Long,
}

/// Reads a head from what has come.
pub(super) fn parse(received: &[u8]) -> Parsed<'_> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(received) {
        Ok(httparse::Status::Complete(len)) if len <= LONGEST => len,
        Ok(httparse::Status::Partial) if received.len() < LONGEST => return Parsed::Partly,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Parsed::Long,
        Err(_) => return Parsed::Bad,
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Parsed::Bad;
    };
    let Some(path) = path(target) else { return Parsed::Bad };
    let asked = match method {
        "GET" => Asked::Get,
        "HEAD" => Asked::Head,
        _ => Asked::Else,
    };
    let old = version == 0;
    let mut head = Head {
        asked,
        path,
        keep: !old,
        body: false,
        old,
        range: None,
        if_range: None,
        if_none_match: None,
        if_modified_since: None,
    };
    for header in request.headers.iter() {
        let name = header.name;
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let text = std::str::from_utf8(header.value).ok().map(str::trim);
        let first = |field: &mut Option<&'_ str>| field.is_none();
        if is("connection") {
            let mut words = text.unwrap_or_default().split(',').map(str::trim);
            if words.clone().any(|word| word.eq_ignore_ascii_case("close")) {
                head.keep = false;
            } else if old && words.any(|word| word.eq_ignore_ascii_case("keep-alive")) {
                head.keep = true;
            }
        } else if is("content-length") {
            head.body |= text != Some("0");
        } else if is("transfer-encoding") {
            head.body = true;
        } else if is("range") && first(&mut head.range) {
            head.range = text;
        } else if is("if-range") && first(&mut head.if_range) {
            head.if_range = text;
        } else if is("if-none-match") && first(&mut head.if_none_match) {
            head.if_none_match = text;
        } else if is("if-modified-since") && first(&mut head.if_modified_since) {
            head.if_modified_since = text;
        }
    }
    // what follows such a head is no request: nothing here has a use for a body, and nobody sends one to be kept
    head.keep &= !head.body;
    Parsed::Whole(head, len)
}

/// The path of a request target, in origin form or in absolute form (RFC 9112 §3.2).
fn path(target: &str) -> Option<&str> {
    let target = match target.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("http://") => {
            let rest = &target[7..];
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        Some(_) | None => target,
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    path.starts_with('/').then_some(path)
}

/// The path with `%xx` resolved; `None` when that is no UTF-8.
pub(super) fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> Head<'_> {
        let parsed = parse(text.as_bytes());
        let Parsed::Whole(head, len) = parsed else { panic!("{parsed:?}: {text}") };
        assert_eq!(len, text.len());
        head
    }

    #[test]
    fn a_head_says_what_is_asked_and_whether_the_connection_lasts() {
        let head =
            whole("GET /a%20b?x=1 HTTP/1.1\r\nhost: h\r\nRANGE:  bytes=0-1 \r\nIf-Range: \"e\"\r\n\r\n");
        assert_eq!((head.asked, head.path, head.keep), (Asked::Get, "/a%20b", true));
        assert_eq!((head.range, head.if_range), (Some("bytes=0-1"), Some("\"e\"")));
        assert_eq!(whole("HEAD http://h:80/a HTTP/1.1\r\n\r\n").path, "/a");
        assert_eq!(whole("GET HTTP://h HTTP/1.1\r\n\r\n").path, "/");
        for (text, keep) in [
            ("GET / HTTP/1.1\r\nConnection: Keep-Alive, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", true),
            ("PUT / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ] {
            assert_eq!(whole(text).keep, keep, "{text}");
        }
        assert_eq!(whole("DELETE /a HTTP/1.1\r\n\r\n").asked, Asked::Else);
    }

    #[test]
    fn half_a_head_is_waited_for_and_nonsense_is_not() {
        let text = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
        for len in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..len]), Parsed::Partly, "{len}");
        }
        for bad in [
            "\x16\x03\x01\x02\0",
            "GET nothing HTTP/1.1\r\n\r\n",
            "GET / HTTP/7.1\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), Parsed::Bad, "{bad}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(LONGEST));
        assert_eq!(parse(long.as_bytes()), Parsed::Long);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        assert_eq!(parse(many.as_bytes()), Parsed::Long);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic(bytes: Vec<u8>, path in "[%a-f0-9/+é]{0,20}") {
            let _ = parse(&bytes);
            let _ = parse(&[b"GET /", &bytes[..], b" HTTP/1.1\r\nrange: ", &bytes[..], b"\r\n\r\n"].concat());
            let _ = decode(&path);
        }
    }
}
