//! What a request is answered: a head, and which part of which file follows it (RFC 9110).

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use super::head::{Asked, Head, decode};
use super::range::{Wanted, wanted};
use crate::protocol::jail::Jail;

/// A part of a file that is sent after a head.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: File,
    /// Offset of its first byte.
    pub(super) first: u64,
    /// Offset behind its last byte.
    pub(super) end: u64,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Status line and headers, with the empty line.
    pub(super) head: String,
    pub(super) part: Option<Part>,
}

/// Answers with one of the refusals, which have no body and end the connection when `keep` is false.
pub(super) fn plain(status: u16, keep: bool, old: bool) -> Answer {
    let mut head = begin(status, keep, old);
    if status == 405 {
        head.push_str("allow: GET, HEAD\r\n");
    }
    head.push_str("content-length: 0\r\n\r\n");
    Answer { status, head, part: None }
}

/// Opens what is asked for and decides. Reads names from the disk: for threads that may wait.
#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
pub(super) fn answer(asked: &Head<'_>, jail: &Jail) -> Answer {
    let refuse = |status| plain(status, asked.keep, asked.old);
    if asked.asked == Asked::Else {
        return refuse(405);
    }
    let Some(name) = decode(asked.path) else { return refuse(400) };
    match jail.open(&name) {
        Ok((file, about)) => send(asked, file, &about),
        Err(error) => refuse(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => 404,
            io::ErrorKind::PermissionDenied => 403,
            _ => {
                tracing::warn!(%error, path = asked.path, "HTTP boot: cannot open");
                500
            }
        }),
    }
}

fn send(asked: &Head<'_>, file: File, about: &Metadata) -> Answer {
    let len = about.len();
    let stamp = about.mtime().wrapping_mul(1_000_000_000).wrapping_add(about.mtime_nsec());
    let etag = format!("\"{:x}-{stamp:x}-{len:x}\"", about.ino());
    let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let modified_text = httpdate::fmt_http_date(modified);
    let with_head = |status: u16, rest: std::fmt::Arguments<'_>| {
        let mut head = begin(status, asked.keep, asked.old);
        let written = write!(
            head,
            "accept-ranges: bytes\r\ncontent-type: application/octet-stream\r\netag: {etag}\r\n\
             last-modified: {modified_text}\r\n{rest}\r\n"
        );
        written.expect("a String takes what is written to it");
        Answer { status, head, part: None }
    };
    if unchanged(asked.if_none_match, asked.if_modified_since, &etag, modified) {
        return with_head(304, format_args!(""));
    }
    // a part of another version of the file would be worse than the whole of this one
    let same = asked.if_range.is_none_or(|seen| seen == etag || seen == modified_text);
    let (mut answer, first, end) = match wanted(asked.range.filter(|_| same), len) {
        Wanted::All => (with_head(200, format_args!("content-length: {len}\r\n")), 0, len),
        Wanted::Part { first, last } => {
            let count = last - first + 1;
            let rest =
                format_args!("content-range: bytes {first}-{last}/{len}\r\ncontent-length: {count}\r\n");
            (with_head(206, rest), first, last + 1)
        }
        Wanted::Nothing => {
            return with_head(416, format_args!("content-range: bytes */{len}\r\ncontent-length: 0\r\n"));
        }
    };
    if asked.asked == Asked::Get {
        answer.part = Some(Part { file, first, end });
    }
    answer
}

fn begin(status: u16, keep: bool, old: bool) -> String {
    let reason = match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let connection = match (keep, old) {
        (true, false) => "",
        (true, true) => "connection: keep-alive\r\n",
        (false, _) => "connection: close\r\n",
    };
    let date = httpdate::HttpDate::from(SystemTime::now());
    let mut head = String::with_capacity(384);
    let written = write!(head, "HTTP/1.1 {status} {reason}\r\ndate: {date}\r\n{connection}");
    written.expect("a String takes what is written to it");
    head
}

/// `If-None-Match` decides when it is there, else `If-Modified-Since` (RFC 9110 §13.2.2).
fn unchanged(none_match: Option<&str>, since: Option<&str>, etag: &str, modified: SystemTime) -> bool {
    if let Some(seen) = none_match {
        return seen.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag);
    }
    let whole_seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map(|d| d.as_secs()).ok();
    let since = since.and_then(|text| httpdate::parse_http_date(text).ok());
    since.is_some_and(|since| whole_seconds(modified) <= whole_seconds(since))
}
