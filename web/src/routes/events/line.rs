//! One reader for all who follow the events: it reads what was committed once, writes it down once, and hands the same
//! bytes to everybody.
//!
//! It wakes at each commit of this process, and takes whatever was committed meanwhile together; after that it rests for
//! [`PACE`], so that a thousand changes a second are fifty pieces for each client and not a thousand. Pieces follow each
//! other without a gap ([`Piece::before`], [`Piece::last`]); a client for whom they do not (it comes later, or was too
//! slow) reads the table by itself until they do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix_web::web::Bytes;
use ferric_actors::Directory;
use ferric_actors::message::Told;
use ferric_machine::Timestamp;
use ferric_schema::events;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::text;

/// How long the reader rests after each piece.
const PACE: Duration = Duration::from_millis(20);
/// Events read at a time.
const PAGE: i64 = 500;
/// Bytes of a piece, and a little more.
const CHUNK: usize = 64 * 1024;
/// Pieces that a client may be behind before it reads the table by itself: at most some megabytes for all clients together.
const PIECES: usize = 64;
/// How often the table is looked at without a commit: what other processes committed waits no longer.
const LOOK: Duration = Duration::from_secs(2);
/// How long the reader waits when the database does not answer.
const AWAY: Duration = Duration::from_secs(1);

/// Some events, written down.
pub(super) struct Piece {
    /// Everything up to this number stands in pieces before.
    pub(super) before: i64,
    /// Everything up to this number stands in this piece or in pieces before.
    pub(super) last: i64,
    /// All of them, as they are sent.
    pub(super) bytes: Bytes,
    /// Each of them.
    pub(super) parts: Vec<Part>,
}

/// One event of a piece.
pub(super) struct Part {
    /// Its number; `None` for progress.
    pub(super) seq: Option<i64>,
    /// The node that it tells of.
    pub(super) node: Option<Uuid>,
    /// Its kind.
    pub(super) kind: String,
    /// Where its text ends in the bytes; it begins where the one before ends.
    pub(super) end: usize,
}

/// What all clients share. The reader ends when the last of them drops this; they end when the reader does.
pub(super) struct Line {
    pieces: broadcast::WeakSender<Arc<Piece>>,
    _ends: oneshot::Sender<()>,
}

/// The way to the line, if there is one.
#[derive(Default)]
pub(crate) struct Hub(Mutex<Weak<Line>>);

impl Hub {
    /// Follows: what is committed from now on, and what was committed since somebody else follows.
    pub(super) fn follow(&self, directory: &Directory) -> (Arc<Line>, broadcast::Receiver<Arc<Piece>>) {
        // nothing panics while it holds the lock
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = known.upgrade()
            && let Some(pieces) = line.pieces.upgrade()
        {
            return (line, pieces.subscribe());
        }
        let (pieces, mine) = broadcast::channel(PIECES);
        let (ends, ended) = oneshot::channel();
        let line = Arc::new(Line { pieces: pieces.downgrade(), _ends: ends });
        *known = Arc::downgrade(&line);
        let reader = Reader {
            directory: directory.clone(),
            pieces,
            before: 0,
            begun: false,
            latest: Latest::default(),
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = ended => {}
                () = reader.run() => {}
            }
        });
        (line, mine)
    }
}

struct Reader {
    directory: Directory,
    pieces: broadcast::Sender<Arc<Piece>>,
    /// Everything up to this number was handed out.
    before: i64,
    begun: bool,
    latest: Latest,
}

/// The events that were read last: progress that was told meanwhile may be of what they ended.
#[derive(Default)]
struct Latest(HashMap<Uuid, Timestamp>);

impl Latest {
    fn note(&mut self, event: &events::Event) {
        let Some(node) = event.node else { return };
        let at = self.0.entry(node).or_insert(event.at);
        *at = event.at.max(*at);
    }

    /// Whether something has happened to the node since.
    fn outdates(&self, told: &Told) -> bool {
        told.node.and_then(|node| self.0.get(&node)).is_some_and(|at| told.at < *at)
    }
}

impl Reader {
    /// Without an end: whoever started it drops it.
    async fn run(mut self) {
        let store = self.directory.store().clone();
        let mut committed = store.committed();
        let mut progress = self.directory.stream();
        // whoever has seen less than the reader begins with is told so by the first, empty piece
        while !self.begun {
            match store.read(events::last_seq).await {
                Ok(last) => {
                    self.before = last;
                    self.begun = true;
                    self.hand_out(Draft::default(), last);
                }
                Err(_) => tokio::time::sleep(AWAY).await,
            }
        }
        loop {
            let mut draft = Draft::default();
            tokio::select! {
                changed = committed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                told = progress.recv() => {
                    // what was missed of the progress is followed by newer progress
                    if let Ok(told) = told
                        && !self.latest.outdates(&told)
                    {
                        draft.tell(&told);
                    }
                }
                () = tokio::time::sleep(LOOK) => {}
            }
            let rested = Instant::now() + PACE;
            loop {
                match progress.try_recv() {
                    Ok(told) if draft.text.len() < CHUNK && !self.latest.outdates(&told) => draft.tell(&told),
                    Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            // all that was told before is drained; what comes from now on is held against what is read now
            self.latest.0.clear();
            committed.borrow_and_update();
            loop {
                let seen = self.before;
                let rows = match store.read(move |c| events::after(c, seen, PAGE)).await {
                    Ok(rows) => rows,
                    Err(error) => {
                        tracing::warn!(%error, "the events cannot be read for those who follow them; trying again");
                        tokio::time::sleep(AWAY).await;
                        continue;
                    }
                };
                let complete = rows.len() < usize::try_from(PAGE).expect("a small number");
                let mut last = seen;
                for row in rows {
                    last = row.seq;
                    self.latest.note(&row);
                    draft.add(&row);
                    if draft.text.len() >= CHUNK {
                        self.hand_out(std::mem::take(&mut draft), last);
                    }
                }
                if !draft.parts.is_empty() {
                    self.hand_out(std::mem::take(&mut draft), last);
                }
                if complete {
                    break;
                }
            }
            tokio::time::sleep_until(rested).await;
        }
    }

    fn hand_out(&mut self, draft: Draft, last: i64) {
        let piece = Piece { before: self.before, last, bytes: Bytes::from(draft.text), parts: draft.parts };
        self.before = last;
        // nobody may be listening any more: then this ends soon
        let _ = self.pieces.send(Arc::new(piece));
    }
}

/// A piece in the making.
#[derive(Default)]
struct Draft {
    text: String,
    parts: Vec<Part>,
}

impl Draft {
    fn add(&mut self, event: &events::Event) {
        text::event(&mut self.text, event);
        let (seq, node, kind) = (Some(event.seq), event.node, event.kind.clone());
        self.parts.push(Part { seq, node, kind, end: self.text.len() });
    }

    fn tell(&mut self, told: &Told) {
        text::progress(&mut self.text, told);
        self.parts.push(Part { seq: None, node: told.node, kind: told.kind.clone(), end: self.text.len() });
    }
}

#[cfg(test)]
mod tests {
    use ferric_schema::JsonText;

    use super::*;

    #[test]
    fn progress_of_what_an_event_has_ended_is_not_told_after_it() {
        let [node, other] = [1, 2].map(Uuid::from_u128);
        let mut latest = Latest::default();
        for (seq, node, at) in [(1, Some(node), 70), (2, Some(node), 50), (3, None, 90)] {
            latest.note(&events::Event {
                seq,
                node,
                at: Timestamp(at),
                kind: "provision_set".into(),
                severity: "INFO".into(),
                text: "deploying → active".into(),
                data: JsonText::default(),
            });
        }
        let told = |node, at| Told {
            node,
            at: Timestamp(at),
            kind: "progress".into(),
            severity: "INFO".into(),
            text: "writing the image".into(),
            data: serde_json::Map::new(),
        };
        assert!(latest.outdates(&told(Some(node), 69)), "writing 99 % after active");
        assert!(!latest.outdates(&told(Some(node), 70)) && !latest.outdates(&told(Some(node), 71)));
        assert!(!latest.outdates(&told(Some(other), 69)) && !latest.outdates(&told(None, 69)));
    }
}
