//! Who is being served, with limits: what a stranger sends must not use up sockets and memory.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Transfers at the same time. More requests are passed over: clients ask again after a second.
const MOST: usize = 2048;
/// Of which one address (a router that translates addresses, or a forger) has at most this many.
const MOST_OF_ONE: usize = 512;

/// All transfers under way.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_client: HashMap<SocketAddr, Session>,
    by_address: HashMap<IpAddr, usize>,
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
}

impl Sessions {
    /// Takes a place for a request. `None` when there is none, and when the client has only asked again before
    /// the first answer reached it. A client that asks for something else, or after it has answered, has
    /// forgotten its former transfer: some ROMs use one port for all.
    pub(super) fn begin(self: &Arc<Sessions>, client: SocketAddr, request: &[u8]) -> Option<Place> {
        let mut table = self.lock();
        match table.by_client.get(&client) {
            Some(session) if *session.request == *request && !session.answered.load(Ordering::Relaxed) => {
                return None;
            }
            Some(_) => table.end(client),
            None => {}
        }
        let of_one = table.by_address.get(&client.ip()).copied().unwrap_or(0);
        if table.by_client.len() >= MOST || of_one >= MOST_OF_ONE {
            tracing::debug!(%client, "TFTP: too many transfers; this client has to ask again");
            return None;
        }
        table.last += 1;
        let (number, answered, (keep, replaced)) = (table.last, Arc::default(), oneshot::channel());
        let session =
            Session { number, request: request.into(), answered: Arc::clone(&answered), _keep: keep };
        table.by_client.insert(client, session);
        *table.by_address.entry(client.ip()).or_default() += 1;
        Some(Place { sessions: self.clone(), client, number, answered, replaced })
    }

    // the table is valid after every single operation
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn end(&mut self, client: SocketAddr) {
        if self.by_client.remove(&client).is_none() {
            return;
        }
        if let Some(count) = self.by_address.get_mut(&client.ip()) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&client.ip());
            }
        }
    }
}

impl Place {
    /// The client has answered: from now on its request is a new one.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
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

    #[test]
    fn a_repeated_request_begins_nothing_and_another_one_replaces() {
        let sessions = Arc::new(Sessions::default());
        let mut first = sessions.begin(client(1, 1), b"a").unwrap();
        assert!(sessions.begin(client(1, 1), b"a").is_none(), "asked again");
        assert!(first.replaced.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        let mut second = sessions.begin(client(1, 1), b"b").unwrap();
        assert!(first.replaced.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        drop(first);
        assert!(sessions.begin(client(1, 1), b"b").is_none(), "the place is the second's");
        second.answered();
        let third = sessions.begin(client(1, 1), b"b").unwrap();
        assert!(second.replaced.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        drop((second, third));
        assert!(sessions.lock().by_client.is_empty() && sessions.lock().by_address.is_empty());
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let sessions = Arc::new(Sessions::default());
        let mut all: Vec<_> = (0..MOST_OF_ONE).map(|n| sessions.begin(client(1, n), b"a").unwrap()).collect();
        assert!(sessions.begin(client(1, MOST_OF_ONE), b"a").is_none());
        for address in 2.. {
            match (0..MOST_OF_ONE).map_while(|n| sessions.begin(client(address, n), b"a")).collect::<Vec<_>>()
            {
                more if more.is_empty() => break,
                more => all.extend(more),
            }
        }
        assert_eq!(all.len(), MOST);
        all.pop();
        assert!(sessions.begin(client(200, 1), b"a").is_some());
    }
}
