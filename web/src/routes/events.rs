//! `GET /v1/ferric/events`: everything that happens, as server-sent events, without an end.
//!
//! What was committed comes from the events table and has its number as `id`: a client that was cut off says the last
//! one in `Last-Event-ID` (or `?after=`) and misses nothing that is still kept. Progress is not stored: it comes without
//! an id, and only to who listens. A client that is too slow is told `event: lag` and caught up from the table, so
//! nothing piles up for it here. What is new is read and written down once for all of them ([`line`]).

mod line;
mod text;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use actix_web::web::{Bytes, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_schema::events;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use uuid::Uuid;

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::{Rule, Target};
use crate::routes::at::exactly;
use crate::routes::found::find;
use crate::routes::read;
use crate::server::WebState;

pub(crate) use self::line::Hub;
use self::line::{Line, Piece};
use self::text::lag;

/// Events read at a time.
const PAGE: i64 = 200;
/// Bytes put together before they are sent.
const CHUNK: usize = 64 * 1024;
/// How often a silent stream shows that it lives.
const BEAT: Duration = Duration::from_secs(15);

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(exactly("/v1/ferric/events").get(follow));
}

async fn follow(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let resumed = request.headers().get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let resumed =
        resumed.filter(|text| !text.is_empty()).map(|text| number("Last-Event-ID", text)).transpose()?;
    let after = args.text("after").map(|text| number("after", text)).transpose()?;
    context.authorize(Rule::FerricEventsGet, Target::NONE)?;
    let node = match args.text("node") {
        Some(ident) => Some(find(&state, &context.clone().ungated(), ident).await?.uuid),
        None => None,
    };
    let Ok(place) = state.streams.clone().try_acquire_owned() else {
        return Err(ApiError::busy(
            "As many clients as may follow the events do so already; come again later.",
        ));
    };
    // first listen, then look: what is committed in between is seen twice and told once
    let (line, live) = state.hub.follow(&state.directory);
    let last = read(&state, events::last_seq).await?;
    // a number from the future is one of another database
    let seen = resumed.or(after).unwrap_or(last).min(last);
    let mut beat = tokio::time::interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let door = Door {
        path: request.path().to_owned(),
        headers: request.headers().clone(),
        peer: request.peer_addr().map(|addr| addr.ip()),
        asked: Instant::now(),
    };
    let feed = Feed {
        door,
        context,
        stop: state.stop.clone(),
        state,
        _line: line,
        live,
        beat,
        filter: Filter { node, kinds: args.list("kind").unwrap_or_default() },
        seen,
        behind: seen < last,
        greeted: false,
        _place: place,
    };
    let stream = futures_util::stream::unfold(feed, |mut feed| async move {
        let bytes = feed.next().await?;
        Some((Ok::<_, ApiError>(bytes), feed))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-store"))
        // a proxy must not wait for more
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(stream)))
}

fn number(name: &str, text: &str) -> Result<i64> {
    text.trim().parse().ok().filter(|number| *number >= 0).ok_or_else(|| {
        ApiError::bad_request(format!("Expected the number of an event, 0 or more, in '{name}'."))
    })
}

/// What a client wants to hear of.
struct Filter {
    node: Option<Uuid>,
    /// Empty is all.
    kinds: Vec<String>,
}

impl Filter {
    fn all(&self) -> bool {
        self.node.is_none() && self.kinds.is_empty()
    }

    fn takes(&self, node: Option<Uuid>, kind: &str) -> bool {
        (self.node.is_none() || self.node == node)
            && (self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind))
    }
}

/// What a client said of who it is, and when that was last looked at.
struct Door {
    path: String,
    headers: HeaderMap,
    peer: Option<IpAddr>,
    asked: Instant,
}

/// One client's stream.
struct Feed {
    door: Door,
    context: Context,
    state: Data<WebState>,
    stop: watch::Receiver<()>,
    live: broadcast::Receiver<Arc<Piece>>,
    _line: Arc<Line>,
    beat: Interval,
    filter: Filter,
    /// Everything up to this number was told or is none of the client's business.
    seen: i64,
    /// There is more in the table than was seen.
    behind: bool,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    /// The next bytes; `None` at the end of the process or when the database is gone: the client comes again.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.greeted {
            self.greeted = true;
            return Some(Bytes::from(format!("retry: 2000\nid: {}\n\n", self.seen)));
        }
        loop {
            if self.stop.has_changed().unwrap_or(true) {
                return None;
            }
            if Instant::now() >= self.again() {
                self.admit_again().await?;
            }
            let out = if self.behind { self.catch_up().await? } else { self.wait().await? };
            if !out.is_empty() {
                return Some(out);
            }
        }
    }

    fn again(&self) -> Instant {
        self.door.asked + self.state.settings.event_admission
    }

    /// `None` when the client would not be let in any more: its token has ended, its user is gone, a policy has changed.
    async fn admit_again(&mut self) -> Option<()> {
        let Door { path, headers, peer, .. } = &self.door;
        match self.state.settings.auth.admit(path, "", headers, *peer).await {
            Ok(caller) => self.context.caller = caller,
            Err(denial) => {
                tracing::info!(%denial, "a stream of events ends: who follows it is not let in any more");
                return None;
            }
        }
        self.door.asked = Instant::now();
        self.context.may(Rule::FerricEventsGet, Target::NONE).then_some(())
    }

    /// One page from the table.
    async fn catch_up(&mut self) -> Option<Bytes> {
        let mut out = String::new();
        let (seen, node) = (self.seen, self.filter.node);
        let page = read(&self.state, move |c| {
            // the end first: whatever is numbered up to it is visible
            let end = events::last_seq(c)?;
            let rows = match node {
                Some(node) => events::of_node(c, node, seen, PAGE)?,
                None => events::after(c, seen, PAGE)?,
            };
            Ok((end, rows))
        });
        let (end, rows) = match page.await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "a stream of events ends: the events cannot be read");
                return None;
            }
        };
        if let (None, Some(first)) = (node, rows.first())
            && first.seq > seen + 1
        {
            lag(&mut out, u64::try_from(first.seq - seen - 1).unwrap_or(0), "no longer kept");
        }
        let complete = rows.len() < usize::try_from(PAGE).expect("a small number");
        self.seen = rows.last().map_or(seen, |row| row.seq).max(seen);
        if complete {
            self.seen = self.seen.max(end);
            self.behind = false;
        }
        for row in rows.into_iter().filter(|row| self.filter.takes(row.node, &row.kind)) {
            text::event(&mut out, &row);
        }
        Some(Bytes::from(out))
    }

    /// Waits for something to happen, and takes what else is there already.
    async fn wait(&mut self) -> Option<Bytes> {
        let again = self.again();
        let piece = tokio::select! {
            biased;
            _ = self.stop.changed() => return None,
            () = tokio::time::sleep_until(again) => return Some(Bytes::new()),
            piece = self.live.recv() => piece,
            _ = self.beat.tick() => return Some(Bytes::from_static(b": alive\n\n")),
        };
        let mut out = self.take(piece)?;
        while !self.behind && out.len() < CHUNK {
            let piece = match self.live.try_recv() {
                Ok(piece) => Ok(piece),
                Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
            let more = self.take(piece)?;
            out = match (out.is_empty(), more.is_empty()) {
                (true, _) => more,
                (false, true) => out,
                (false, false) => [out, more].concat().into(),
            };
        }
        Some(out)
    }

    /// What of a piece is new to the client, and what it wanted.
    fn take(&mut self, piece: std::result::Result<Arc<Piece>, RecvError>) -> Option<Bytes> {
        let piece = match piece {
            Ok(piece) => piece,
            Err(RecvError::Lagged(missed)) => {
                let mut out = String::new();
                // of these are pieces, and what is stored of them follows
                lag(&mut out, missed, "this client reads too slowly; what is stored follows");
                self.behind = true;
                return Some(Bytes::from(out));
            }
            Err(RecvError::Closed) => return None,
        };
        if piece.before > self.seen {
            // something was committed before the line began: the table has it
            self.behind = true;
            return Some(Bytes::new());
        }
        let seen = self.seen;
        self.seen = seen.max(piece.last);
        if self.filter.all() && piece.before == seen {
            return Some(piece.bytes.clone());
        }
        let (mut out, mut begin) = (Vec::new(), 0);
        for part in &piece.parts {
            if part.seq.is_none_or(|seq| seq > seen) && self.filter.takes(part.node, &part.kind) {
                out.extend_from_slice(&piece.bytes[begin..part.end]);
            }
            begin = part.end;
        }
        Some(Bytes::from(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_hear_of_what_they_asked_for() {
        let node = Uuid::from_u128(1);
        let filter = Filter { node: Some(node), kinds: vec!["power_set".into(), "provision_set".into()] };
        assert!(filter.takes(Some(node), "power_set"));
        assert!(!filter.takes(None, "power_set") && !filter.takes(Some(node), "progress"));
        let all = Filter { node: None, kinds: Vec::new() };
        assert!(all.takes(None, "x") && all.takes(Some(node), "y"));
    }

    #[test]
    fn numbers_are_numbers() {
        assert!(number("after", "12").is_ok_and(|number| number == 12));
        assert!(number("after", "-1").is_err() && number("Last-Event-ID", "a").is_err());
    }
}
