//! Downloads that survive broken connections and restarted servers: they go on at the byte where they stopped.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ferric_agent_wire::Secret;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Client, Response, StatusCode, Url};

use crate::error::Failure;
use crate::options::Limits;

/// Ranges closer than this are fetched in one request, bytes.
const MERGED_GAP: u64 = 256 << 10;

/// A file on an image server.
#[derive(Clone)]
pub struct Source {
    client: Client,
    url: Url,
    login: Option<(String, Option<Secret>)>,
    limits: Limits,
}

impl Source {
    /// Errors: `Parameters` for what is no http(s) URL.
    pub fn new(client: Client, url: &str, limits: Limits) -> Result<Self, Failure> {
        let url = Url::parse(url).map_err(|e| Failure::Parameters(format!("image url: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failure::Parameters(format!(
                "image url: scheme {} is not served, only http(s)",
                url.scheme()
            )));
        }
        Ok(Self { client, url, login: None, limits })
    }

    /// Adds basic authentication.
    pub fn with_login(mut self, user: Option<String>, password: Option<Secret>) -> Self {
        self.login = user.map(|user| (user, password));
        self
    }

    /// The address without user, password and query, which may be secrets.
    pub fn shown(&self) -> String {
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}{}", self.url.scheme(), self.url.host_str().unwrap_or(""), self.url.path())
    }

    /// The whole of a small file. Errors: as for downloads; `Download` when it is larger than `limit` bytes.
    pub async fn read_small(&self, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut download = Download::new(self.clone(), 0, None);
        let mut all = Vec::new();
        while let Some(chunk) = download.chunk().await? {
            all.extend_from_slice(&chunk);
            if all.len() as u64 > limit {
                return Err(self.failed(format!("it is larger than {limit} bytes")));
            }
        }
        Ok(all)
    }

    /// Reads byte ranges (start, length), in ascending order of start, and gives each to `take` with its index.
    /// From a server without ranges the file is read once, up to the last range. A file that ends within a range
    /// gives the shorter part.
    pub async fn read_ranges(
        &self,
        ranges: &[(u64, u64)],
        known: &mut Remote,
        mut take: impl FnMut(usize, Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut next = 0;
        while next < ranges.len() {
            let gap = if known.ranges { MERGED_GAP } else { u64::MAX };
            // a single range is worth a try: not every server that can says so beforehand
            let start = if known.ranges || ranges.len() == 1 { ranges[next].0 } else { 0 };
            let mut last = next;
            while last + 1 < ranges.len()
                && ranges[last + 1].0.saturating_sub(ranges[last].0 + ranges[last].1) <= gap
            {
                last += 1;
            }
            let end = ranges[next..=last].iter().map(|(at, len)| at + len).max().unwrap_or(start);
            let end = known.size.map_or(end, |size| end.min(size));
            let mut download = Download::new(self.clone(), start, Some(end));
            download.remote = Some(known.clone());
            let mut held: Vec<u8> = Vec::new();
            let mut held_at = start;
            for (index, &(at, len)) in ranges.iter().enumerate().take(last + 1).skip(next) {
                let until = (at + len).min(end);
                while held_at + (held.len() as u64) < until {
                    let Some(chunk) = download.chunk().await? else { break };
                    held.extend_from_slice(&chunk);
                    // what lies before this range is needed by none that follows
                    let useless = (at.saturating_sub(held_at) as usize).min(held.len());
                    held.drain(..useless);
                    held_at += useless as u64;
                }
                let from = (at.saturating_sub(held_at) as usize).min(held.len());
                let to = (until.saturating_sub(held_at) as usize).min(held.len()).max(from);
                take(index, held[from..to].to_vec())?;
            }
            known.ranges |= download.remote.is_some_and(|remote| remote.ranges);
            next = last + 1;
        }
        Ok(())
    }

    fn failed(&self, reason: String) -> Failure {
        Failure::Download { url: self.shown(), reason }
    }
}

/// What is known about the file after the first answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// Bytes of the whole file.
    pub size: Option<u64>,
    /// Whether the server can start in the middle.
    pub ranges: bool,
    /// ETag or Last-Modified: what must stay the same.
    pub validator: Option<String>,
}

/// One pass over a file or a part of it.
pub struct Download {
    source: Source,
    offset: u64,
    end: Option<u64>,
    remote: Option<Remote>,
    body: Option<Response>,
    skip: u64,
    /// How far a server that cannot resume has been read again without reaching a new byte.
    reread: u64,
    waits: u32,
    last_byte: Instant,
}

impl Download {
    /// From byte `start` up to `end` (exclusive; None = the end of the file).
    pub fn new(source: Source, start: u64, end: Option<u64>) -> Self {
        Self {
            source,
            offset: start,
            end,
            remote: None,
            body: None,
            skip: 0,
            reread: 0,
            waits: 0,
            last_byte: Instant::now(),
        }
    }

    /// What is known about the file; None before the first chunk.
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// The next bytes, or None at the end. Comes back to a broken connection or dead server by itself, with growing
    /// pauses; never repeats a byte. Errors: `Download` when the server refuses or stays silent too long, `Changed`
    /// when it now offers another file.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        // what the caller did since the last chunk (a slow disk takes hours) is not the server's silence
        self.last_byte = Instant::now();
        loop {
            if self.finished() {
                return Ok(None);
            }
            let trouble = match self.attempt().await {
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.waits = 0;
                    self.reread = 0;
                    return Ok(Some(bytes));
                }
                Ok(None) if self.at_end() => return Ok(None),
                Ok(None) => "connection closed before the end of the image".to_owned(),
                Err(Trouble::Passing(reason)) => reason,
                Err(Trouble::Final(failure)) => return Err(failure),
            };
            self.body = None;
            self.pause(trouble).await?;
        }
    }

    fn finished(&self) -> bool {
        self.end.is_some_and(|end| self.offset >= end)
    }

    /// Whether a body that ended here is complete: known size reached, or size never told.
    fn at_end(&self) -> bool {
        let size = self.remote.as_ref().and_then(|remote| remote.size);
        match (self.end, size) {
            (_, Some(size)) => self.offset >= self.end.map_or(size, |end| end.min(size)),
            (Some(end), None) => self.offset >= end,
            (None, None) => true,
        }
    }

    async fn pause(&mut self, reason: String) -> Result<(), Failure> {
        let limits = &self.source.limits;
        let limit = if self.remote.is_some() { limits.stalled } else { limits.first_contact };
        let quiet = self.last_byte.elapsed();
        if quiet >= limit {
            let reason =
                format!("{reason}; no byte for {} s at byte {}, giving up", quiet.as_secs(), self.offset);
            return Err(self.source.failed(reason));
        }
        let wait = limits.back_off * (1 << self.waits.min(5)).min(30);
        self.waits += 1;
        tracing::warn!(url = self.source.shown(), at = self.offset, %reason, ?wait, "download interrupted, will go on");
        tokio::time::sleep(wait.min(limit.saturating_sub(quiet)).max(Duration::from_millis(1))).await;
        Ok(())
    }

    async fn attempt(&mut self) -> Result<Option<Bytes>, Trouble> {
        if self.body.is_none() {
            self.connect().await?;
        }
        let read = self.source.limits.read;
        let body = self.body.as_mut().expect("connect() has set the body");
        loop {
            let chunk = match tokio::time::timeout(read, body.chunk()).await {
                Err(_) => return Err(Trouble::Passing(format!("no byte for {} s", read.as_secs()))),
                Ok(Err(error)) => return Err(Trouble::Passing(text_of(&error))),
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(chunk))) => chunk,
            };
            let skipped = self.skip.min(chunk.len() as u64);
            self.skip -= skipped;
            // reading again is progress, but only where no attempt has been before: else it could go on for ever
            let reached = self.offset - self.skip;
            if skipped > 0 && reached > self.reread {
                self.reread = reached;
                self.last_byte = Instant::now();
            }
            let mut rest = chunk.slice(skipped as usize..);
            if let Some(end) = self.end {
                rest.truncate((end - self.offset).min(rest.len() as u64) as usize);
            }
            if !rest.is_empty() {
                return Ok(Some(rest));
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Trouble> {
        let source = self.source.clone();
        let mut request = source.client.get(source.url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some((user, password)) = &source.login {
            request = request.basic_auth(user, password.as_ref().map(|p| p.reveal().to_owned()));
        }
        let partial = self.offset > 0 || self.end.is_some();
        if partial {
            let last = self.end.map(|end| (end - 1).to_string()).unwrap_or_default();
            request = request.header(RANGE, format!("bytes={}-{last}", self.offset));
            // a weak ETag must not be used in If-Range (RFC 9110 §13.1.5)
            let validator = self.remote.as_ref().and_then(|remote| remote.validator.as_deref());
            if let Some(strong) = validator.filter(|v| !v.starts_with("W/")) {
                request = request.header(IF_RANGE, strong);
            }
        }
        let answer = tokio::time::timeout(source.limits.read, request.send())
            .await
            .map_err(|_| Trouble::Passing("no answer from the image server".to_owned()))?
            .map_err(|error| Trouble::Passing(text_of(&error)))?;
        let status = answer.status();
        self.skip = 0;
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            _ => return Err(self.refused(status)),
        }
        let seen = read_headers(answer.headers(), status);
        self.compare(&seen.remote)?;
        match status {
            StatusCode::PARTIAL_CONTENT if seen.start != Some(self.offset) => {
                return Err(Trouble::Passing(format!(
                    "asked for byte {}, got {:?}",
                    self.offset, seen.start
                )));
            }
            StatusCode::OK if self.offset > 0 => {
                self.skip = self.offset;
                tracing::warn!(
                    url = source.shown(),
                    bytes = self.skip,
                    "image server cannot resume: reading again without writing again what is already there"
                );
            }
            _ => {}
        }
        match &mut self.remote {
            Some(remote) => remote.ranges |= seen.remote.ranges,
            None => self.remote = Some(seen.remote),
        }
        self.body = Some(answer);
        Ok(())
    }

    /// A refusal at first contact is the answer; later it may be a server that is still coming up.
    fn refused(&self, status: StatusCode) -> Trouble {
        let reason = format!("the image server answered {status}");
        let passing = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            || (self.remote.is_some() && status != StatusCode::RANGE_NOT_SATISFIABLE);
        if passing {
            Trouble::Passing(reason)
        } else if status == StatusCode::RANGE_NOT_SATISFIABLE {
            let reason = format!("byte {} is no longer there", self.offset);
            Trouble::Final(Failure::Changed { url: self.source.shown(), reason })
        } else {
            Trouble::Final(self.source.failed(reason))
        }
    }

    fn compare(&self, now: &Remote) -> Result<(), Trouble> {
        let Some(before) = &self.remote else { return Ok(()) };
        let changed = |reason| Trouble::Final(Failure::Changed { url: self.source.shown(), reason });
        if let (Some(a), Some(b)) = (before.size, now.size)
            && a != b
        {
            return Err(changed(format!("it had {a} bytes, now {b}")));
        }
        if let (Some(a), Some(b)) = (&before.validator, &now.validator)
            && a != b
        {
            return Err(changed(format!("it was {a}, now {b}")));
        }
        Ok(())
    }
}

enum Trouble {
    Passing(String),
    Final(Failure),
}

struct Seen {
    remote: Remote,
    start: Option<u64>,
}

fn read_headers(headers: &HeaderMap, status: StatusCode) -> Seen {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let validator = text(ETAG).or_else(|| text(LAST_MODIFIED)).map(str::to_owned);
    if status == StatusCode::PARTIAL_CONTENT {
        // bytes 5-9/10
        let range = text(CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
        let (span, size) = range.and_then(|range| range.split_once('/')).unwrap_or(("", ""));
        let start = span.split_once('-').and_then(|(start, _)| start.parse().ok());
        return Seen { remote: Remote { size: size.parse().ok(), ranges: true, validator }, start };
    }
    let size = text(CONTENT_LENGTH).and_then(|size| size.parse().ok());
    let ranges = text(reqwest::header::ACCEPT_RANGES).is_some_and(|units| units.contains("bytes"));
    Seen { remote: Remote { size, ranges, validator }, start: None }
}

/// The error and its causes, without the URL (it may carry a signature).
fn text_of(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() { "the connection failed".to_owned() } else { text }
}
