//! Who watches a console and who types: one writer, any number of watchers, a bounded memory of what was shown.
//!
//! Nobody waits for anybody here. What a watcher does not fetch in time is thrown away for him alone, and he is told how
//! much.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// What was shown that is kept for who comes later, bytes.
pub(super) const SCROLLBACK: usize = 256 * 1024;
/// What waits for one watcher at the most, bytes; more than the scrollback, which he is given at once.
pub(super) const BACKLOG: usize = SCROLLBACK + 256 * 1024;
/// Who may be attached to one console at a time.
pub(super) const MAX_CLIENTS: usize = 64;
/// Bytes of a piece of what is typed; a line that takes one has room for it.
const PIECE: usize = 1024;
/// Pieces that are typed and not yet taken by the line.
const TYPED: usize = 16;

/// What is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Bytes(Bytes),
    Break,
}

/// What someone who is attached is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Whether he types, and how many others are attached.
    Role {
        /// What he sends goes to the machine.
        writer: bool,
        /// How many others are attached.
        watchers: usize,
    },
    /// How the line is, in words.
    State(Arc<str>),
    /// What the machine sent.
    Bytes(Bytes),
    /// He was too slow: so many bytes were thrown away here.
    Missed(usize),
    /// It is over; nothing comes any more.
    Closed(Arc<str>),
}

/// Why something typed goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// Somebody else types.
    #[error("someone else is typing: take the console over to type")]
    Watching,
    /// There is no connection to the BMC now.
    #[error("the console is not connected: what was typed is lost")]
    Offline,
    /// The console was closed.
    #[error("the console is closed")]
    Closed,
}

/// Nobody else can be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_CLIENTS} clients are attached to this console already: close one of them")]
pub struct Crowded;

#[derive(Default)]
struct Mail {
    role: Option<(bool, usize)>,
    state: Option<Arc<str>>,
    missed: usize,
    bytes: VecDeque<Bytes>,
    len: usize,
    closed: Option<Arc<str>>,
}

impl Mail {
    fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        self.bytes.push_back(piece);
        while self.len > BACKLOG {
            let Some(oldest) = self.bytes.pop_front() else { break };
            self.len -= oldest.len();
            self.missed += oldest.len();
        }
    }

    fn take(&mut self) -> Option<Told> {
        if let Some((writer, watchers)) = self.role.take() {
            return Some(Told::Role { writer, watchers });
        }
        if self.missed > 0 {
            return Some(Told::Missed(std::mem::take(&mut self.missed)));
        }
        if let Some(piece) = self.bytes.pop_front() {
            self.len -= piece.len();
            return Some(Told::Bytes(piece));
        }
        // after what was shown before it
        self.state.take().map(Told::State).or_else(|| self.closed.clone().map(Told::Closed))
    }
}

#[derive(Default)]
struct Mailbox {
    mail: Mutex<Mail>,
    news: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    fn put(&self, with: impl FnOnce(&mut Mail)) {
        with(&mut locked(&self.mail));
        self.news.notify_one();
    }
}

struct Client {
    mailbox: Arc<Mailbox>,
    /// He types when nobody else does.
    wants: bool,
}

struct Inner {
    scrollback: VecDeque<Bytes>,
    kept: usize,
    clients: BTreeMap<u64, Client>,
    next: u64,
    writer: Option<u64>,
    state: Arc<str>,
    online: bool,
    closed: Option<Arc<str>>,
}

impl Inner {
    fn all(&self, with: impl Fn(&mut Mail)) {
        self.clients.values().for_each(|client| client.mailbox.put(&with));
    }

    /// The one who waits longest types when nobody does; everybody is told.
    fn settle(&mut self) {
        if self.writer.is_none() {
            self.writer = self.clients.iter().find(|(_, client)| client.wants).map(|(id, _)| *id);
        }
        let watchers = self.clients.len().saturating_sub(1);
        for (id, client) in &self.clients {
            let role = (self.writer == Some(*id), watchers);
            client.mailbox.put(|mail| mail.role = Some(role));
        }
    }
}

/// A console's clients.
pub(super) struct Hub {
    inner: Mutex<Inner>,
    typed: mpsc::Sender<Input>,
}

impl Hub {
    /// A console without clients, and where what they type comes out.
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<Input>) {
        let (typed, input) = mpsc::channel(TYPED);
        let inner = Inner {
            scrollback: VecDeque::new(),
            kept: 0,
            clients: BTreeMap::new(),
            next: 0,
            writer: None,
            state: "not connected yet".into(),
            online: false,
            closed: None,
        };
        (Arc::new(Self { inner: Mutex::new(inner), typed }), input)
    }

    /// The machine sent this.
    pub(super) fn show(&self, data: Vec<u8>) {
        if data.is_empty() {
            return;
        }
        let piece = Bytes::from(data);
        let mut inner = locked(&self.inner);
        inner.kept += piece.len();
        inner.scrollback.push_back(piece.clone());
        // many small pieces cost more than they hold
        if inner.scrollback.len() > 1024 {
            let whole: Vec<u8> = inner.scrollback.iter().flatten().copied().collect();
            inner.scrollback = VecDeque::from([Bytes::from(whole)]);
        }
        while inner.kept > SCROLLBACK {
            let surplus = inner.kept - SCROLLBACK;
            let Some(mut oldest) = inner.scrollback.pop_front() else { break };
            let gone = surplus.min(oldest.len());
            inner.kept -= gone;
            if gone < oldest.len() {
                inner.scrollback.push_front(oldest.split_off(gone));
            }
        }
        inner.all(|mail| mail.push(piece.clone()));
    }

    /// The line is like this now.
    pub(super) fn tell(&self, online: bool, state: impl Into<Arc<str>>) {
        let state = state.into();
        let mut inner = locked(&self.inner);
        inner.online = online;
        inner.state = state.clone();
        inner.all(|mail| mail.state = Some(state.clone()));
    }

    /// How the line is, in words.
    pub(super) fn state(&self) -> Arc<str> {
        locked(&self.inner).state.clone()
    }

    /// It is over.
    pub(super) fn close(&self, why: impl Into<Arc<str>>) {
        let why = why.into();
        let mut inner = locked(&self.inner);
        inner.closed = Some(why.clone());
        inner.all(|mail| mail.closed = Some(why.clone()));
    }

    /// Adds a client; who `wants` types as soon as nobody else does. He is given what was shown before first.
    pub(super) fn attach(self: &Arc<Self>, wants: bool) -> Result<Attachment, Crowded> {
        let mailbox = Arc::new(Mailbox::default());
        let mut inner = locked(&self.inner);
        if inner.clients.len() >= MAX_CLIENTS {
            return Err(Crowded);
        }
        mailbox.put(|mail| {
            inner.scrollback.iter().for_each(|piece| mail.push(piece.clone()));
            mail.state = Some(inner.state.clone());
            mail.closed = inner.closed.clone();
        });
        let id = inner.next;
        inner.next += 1;
        inner.clients.insert(id, Client { mailbox: mailbox.clone(), wants });
        inner.settle();
        drop(inner);
        Ok(Attachment { hub: self.clone(), id, mailbox })
    }
}

/// Someone who is attached to a console; he leaves when it is dropped.
pub struct Attachment {
    hub: Arc<Hub>,
    id: u64,
    mailbox: Arc<Mailbox>,
}

impl Attachment {
    /// What he is told next. Does not lose anything when it is dropped while it waits. [`Told::Closed`] comes again and
    /// again.
    pub async fn next(&self) -> Told {
        loop {
            let news = self.mailbox.news.notified();
            if let Some(told) = locked(&self.mailbox.mail).take() {
                return told;
            }
            news.await;
        }
    }

    fn may_type(&self) -> Result<(), Unheard> {
        let inner = locked(&self.hub.inner);
        if inner.closed.is_some() {
            return Err(Unheard::Closed);
        }
        if inner.writer != Some(self.id) {
            return Err(Unheard::Watching);
        }
        if inner.online { Ok(()) } else { Err(Unheard::Offline) }
    }

    async fn send(&self, input: Input) -> Result<(), Unheard> {
        self.may_type()?;
        self.hub.typed.send(input).await.map_err(|_| Unheard::Closed)
    }

    /// Types. Waits as long as the machine's line is full.
    pub async fn write(&self, mut data: Bytes) -> Result<(), Unheard> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE));
            self.send(Input::Bytes(piece)).await?;
        }
        Ok(())
    }

    /// Sends a break.
    pub async fn send_break(&self) -> Result<(), Unheard> {
        self.send(Input::Break).await
    }

    /// Types from now on; whoever did before watches.
    pub fn take(&self) {
        let mut inner = locked(&self.hub.inner);
        if let Some(client) = inner.clients.get_mut(&self.id) {
            client.wants = true;
            inner.writer = Some(self.id);
            inner.settle();
        }
    }

    /// Types no more; whoever waits longest for it does.
    pub fn release(&self) {
        let mut inner = locked(&self.hub.inner);
        if let Some(client) = inner.clients.get_mut(&self.id) {
            client.wants = false;
        }
        if inner.writer == Some(self.id) {
            inner.writer = None;
        }
        inner.settle();
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut inner = locked(&self.hub.inner);
        inner.clients.remove(&self.id);
        if inner.writer == Some(self.id) {
            inner.writer = None;
        }
        inner.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until_quiet(who: &Attachment) -> Vec<Told> {
        let mut all = Vec::new();
        while let Some(told) = locked(&who.mailbox.mail).take() {
            all.push(told);
        }
        all
    }

    fn role(writer: bool, watchers: usize) -> Told {
        Told::Role { writer, watchers }
    }

    #[tokio::test]
    async fn one_types_the_others_watch_and_whoever_waits_longest_follows() {
        let (hub, mut input) = Hub::new();
        hub.tell(true, "connected");
        let first = hub.attach(true).expect("room");
        let watcher = hub.attach(false).expect("room");
        let second = hub.attach(true).expect("room");
        assert_eq!(until_quiet(&first).await[0], role(true, 2));
        assert_eq!(until_quiet(&second).await[0], role(false, 2));
        first.write(Bytes::from_static(b"a")).await.expect("the writer");
        assert_eq!(second.write(Bytes::from_static(b"b")).await, Err(Unheard::Watching));
        assert_eq!(input.try_recv(), Ok(Input::Bytes(Bytes::from_static(b"a"))));
        assert!(input.try_recv().is_err());

        watcher.take();
        assert_eq!(until_quiet(&first).await, [role(false, 2)]);
        assert_eq!(first.write(Bytes::from_static(b"c")).await, Err(Unheard::Watching));
        watcher.send_break().await.expect("took over");
        assert_eq!(input.try_recv(), Ok(Input::Break));

        watcher.release();
        assert_eq!(until_quiet(&first).await, [role(true, 2)]);
        drop(first);
        assert_eq!(until_quiet(&second).await, [role(true, 1)]);
    }

    #[tokio::test]
    async fn who_comes_later_sees_what_was_shown_and_who_is_slow_is_told_what_he_missed() {
        let (hub, _input) = Hub::new();
        let slow = hub.attach(false).expect("room");
        for at in 0..=255_u8 {
            hub.show(vec![at; 4096]);
        }
        let late = hub.attach(false).expect("room");
        let seen = |all: Vec<Told>| {
            let mut bytes = 0;
            let mut missed = 0;
            let mut last = None;
            for told in all {
                match told {
                    Told::Bytes(piece) => {
                        bytes += piece.len();
                        last = piece.last().copied();
                    }
                    Told::Missed(count) => missed += count,
                    Told::Role { .. } | Told::State(_) | Told::Closed(_) => {}
                }
            }
            (bytes, missed, last)
        };
        assert_eq!(seen(until_quiet(&late).await), (SCROLLBACK, 0, Some(255)));
        assert_eq!(seen(until_quiet(&slow).await), (BACKLOG, 256 * 4096 - BACKLOG, Some(255)));
    }

    #[tokio::test]
    async fn nothing_is_typed_into_a_line_that_is_down() {
        let (hub, mut input) = Hub::new();
        let who = hub.attach(true).expect("room");
        assert_eq!(who.write(Bytes::from_static(b"rm")).await, Err(Unheard::Offline));
        hub.close("switched off");
        assert_eq!(who.write(Bytes::from_static(b"rm")).await, Err(Unheard::Closed));
        assert!(input.try_recv().is_err());
        assert_eq!(until_quiet_closed(&who).await, Told::Closed("switched off".into()));
    }

    async fn until_quiet_closed(who: &Attachment) -> Told {
        loop {
            let told = who.next().await;
            if matches!(told, Told::Closed(_)) {
                return told;
            }
        }
    }

    #[test]
    fn a_console_is_never_crowded_beyond_its_bound() {
        let (hub, _input) = Hub::new();
        let all: Vec<_> = (0..MAX_CLIENTS).map(|_| hub.attach(false).expect("room")).collect();
        assert!(hub.attach(false).is_err());
        drop(all);
        assert!(hub.attach(true).is_ok());
    }
}
