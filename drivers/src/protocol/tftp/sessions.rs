//! Who is being served, with limits: what a stranger sends must not use up sockets and memory.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::metrics::{BootProtocol, BootRefusal, BootSession, METRICS};
use crate::protocol::clients::{Bounds, Shares};
use crate::protocol::descriptors;

/// Transfers at the same time, where there are descriptors for them. More requests are passed over: clients ask again
/// after a second.
const MOST: usize = 2048;
/// Descriptors that these take: a socket each, and the file, whose length is told before the first answer and which a
/// client without options gets at once.
pub const DESCRIPTORS: usize = MOST * descriptors::OF_A_PLACE;
/// Of which one address (a router that translates addresses, or a forger) has at most this many.
const MOST_OF_ONE: usize = 512;
/// Who has not answered after this may have to go. Machines answer within milliseconds; forged senders never do.
const SILENT: Duration = Duration::from_secs(1);

/// All transfers under way.
#[derive(Debug)]
pub(super) struct Sessions {
    table: Mutex<Table>,
    bounds: Bounds,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions::new(descriptors::places(MOST))
    }
}

#[derive(Debug, Default)]
struct Table {
    by_client: HashMap<SocketAddr, Session>,
    shares: Shares,
    /// Those that never answered, in the order in which they asked.
    silent: BTreeMap<u64, (SocketAddr, Instant)>,
    last: u64,
}

#[derive(Debug)]
struct Session {
    number: u64,
    request: Box<[u8]>,
    answered: Arc<AtomicBool>,
    /// Dropping it ends the transfer.
    _keep: oneshot::Sender<()>,
}

/// The place of one transfer, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    sessions: Arc<Sessions>,
    client: SocketAddr,
    number: u64,
    answered: Arc<AtomicBool>,
    /// Resolves when the client has begun another transfer from the same port.
    pub(super) replaced: oneshot::Receiver<()>,
    _counted: BootSession,
}

impl Sessions {
    fn new(all: usize) -> Sessions {
        let bounds = Bounds { all, of_one: MOST_OF_ONE.min(all.div_ceil(4)) };
        Sessions { table: Mutex::default(), bounds }
    }

    /// Takes a place for a request. `None` when there is none, and when the client has only asked again before
    /// the first answer reached it. A client that asks for something else, or after it has answered, has
    /// forgotten its former transfer: some ROMs use one port for all. When there is no place, the oldest transfer goes
    /// whose client never answered.
    pub(super) fn begin(
        self: &Arc<Sessions>,
        client: SocketAddr,
        request: &[u8],
        now: Instant,
    ) -> Option<Place> {
        let mut table = self.lock();
        match table.by_client.get(&client) {
            Some(session) if *session.request == *request && !session.answered.load(Ordering::Relaxed) => {
                return None;
            }
            Some(_) => table.end(client),
            None => {}
        }
        loop {
            let full = table.shares.full(client.ip(), self.bounds);
            if full.is_none() && table.by_client.len() < self.bounds.all {
                break;
            }
            let silent = table.silent.values();
            let mut silent = silent.take_while(|(_, since)| now.duration_since(*since) >= SILENT);
            match silent.find(|(of, _)| full.is_none_or(|full| full.has(of.ip()))).copied() {
                Some((of, _)) => {
                    METRICS.boot_refused(BootProtocol::Tftp, BootRefusal::Silent);
                    table.end(of);
                }
                None => {
                    let reason = full.map_or(BootRefusal::Places, |_| BootRefusal::Client);
                    METRICS.boot_refused(BootProtocol::Tftp, reason);
                    tracing::debug!(%client, "TFTP: too many transfers; this client has to ask again");
                    return None;
                }
            }
        }
        table.last += 1;
        let (number, answered, (keep, replaced)) = (table.last, Arc::default(), oneshot::channel());
        let session =
            Session { number, request: request.into(), answered: Arc::clone(&answered), _keep: keep };
        table.by_client.insert(client, session);
        table.silent.insert(number, (client, now));
        table.shares.add(client.ip());
        let counted = BootSession::new(BootProtocol::Tftp);
        Some(Place { sessions: self.clone(), client, number, answered, replaced, _counted: counted })
    }

    // the table is valid after every single operation
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn end(&mut self, client: SocketAddr) {
        if let Some(session) = self.by_client.remove(&client) {
            self.silent.remove(&session.number);
            self.shares.remove(client.ip());
        }
    }
}

impl Place {
    /// The client has answered: from now on its request is a new one.
    pub(super) fn answered(&self) {
        // the lock only once, and not for each of a million blocks
        if !self.answered.swap(true, Ordering::Relaxed) {
            self.sessions.lock().silent.remove(&self.number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.sessions.lock();
        if table.by_client.get(&self.client).is_some_and(|session| session.number == self.number) {
            table.end(self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: u8, port: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, address], u16::try_from(port).unwrap()))
    }

    fn replaced(place: &mut Place) -> bool {
        place.replaced.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_repeated_request_begins_nothing_and_another_one_replaces() {
        let (sessions, now) = (Arc::new(Sessions::default()), Instant::now());
        let mut first = sessions.begin(client(1, 1), b"a", now).unwrap();
        assert!(sessions.begin(client(1, 1), b"a", now).is_none(), "asked again");
        assert!(!replaced(&mut first));
        let mut second = sessions.begin(client(1, 1), b"b", now).unwrap();
        assert!(replaced(&mut first));
        drop(first);
        assert!(sessions.begin(client(1, 1), b"b", now).is_none(), "the place is the second's");
        second.answered();
        let third = sessions.begin(client(1, 1), b"b", now).unwrap();
        assert!(replaced(&mut second));
        drop((second, third));
        let table = sessions.lock();
        assert!(table.by_client.is_empty() && table.shares.is_empty() && table.silent.is_empty());
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let (sessions, now) = (Arc::new(Sessions::new(MOST)), Instant::now());
        let begin = |address, port| sessions.begin(client(address, port), b"a", now);
        let mut all: Vec<_> = (0..MOST_OF_ONE).map(|n| begin(1, n).unwrap()).collect();
        assert!(begin(1, MOST_OF_ONE).is_none());
        for address in 2.. {
            match (0..MOST_OF_ONE).map_while(|n| begin(address, n)).collect::<Vec<_>>() {
                more if more.is_empty() => break,
                more => all.extend(more),
            }
        }
        assert_eq!(all.len(), MOST);
        all.pop();
        assert!(begin(200, 1).is_some());
    }

    #[test]
    fn when_all_places_are_taken_the_oldest_goes_that_never_answered() {
        let (sessions, start) = (Arc::new(Sessions::new(8)), Instant::now());
        let mut all: Vec<Place> =
            (0..8).map(|n| sessions.begin(client(n, 1), b"a", start).unwrap()).collect();
        all[0].answered();
        let fresh = start + SILENT / 2;
        assert!(sessions.begin(client(9, 1), b"a", fresh).is_none(), "an answer may still be on its way");
        let late = start + SILENT;
        let next = sessions.begin(client(9, 1), b"a", late).unwrap();
        let gone: Vec<bool> = all.iter_mut().map(replaced).collect();
        assert_eq!(gone, [false, true, false, false, false, false, false, false]);
        drop(all);
        assert_eq!(sessions.lock().by_client.len(), 1, "only the last one has its place");
        drop(next);
    }

    #[test]
    fn an_address_that_has_its_share_loses_its_own_oldest() {
        let (sessions, start) = (Arc::new(Sessions::new(8)), Instant::now());
        let mut other = sessions.begin(client(2, 1), b"a", start).unwrap();
        let mut own: Vec<Place> =
            (0..2).map(|n| sessions.begin(client(1, n), b"a", start).unwrap()).collect();
        let _next = sessions.begin(client(1, 2), b"a", start + SILENT).unwrap();
        assert!(replaced(&mut own[0]) && !replaced(&mut own[1]) && !replaced(&mut other));
        own[1].answered();
        assert!(sessions.begin(client(1, 3), b"a", start + SILENT).is_none(), "the last is too young");
    }
}
