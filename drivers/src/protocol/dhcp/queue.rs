//! Requests that have come and are not answered yet: known machines first, and of strangers the newest.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::Request;

/// So many of each kind wait. A client whose request is dropped asks again, and by then the old one is stale.
const MOST: usize = 1024;

/// A request and, when it came to port 4011, its sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) boot_client: Option<SocketAddr>,
}

/// What waits for an answer. Bounded: a storm drops its own oldest requests and none of a known machine.
#[derive(Debug, Default)]
pub(super) struct Queue {
    known: VecDeque<Waiting>,
    strangers: VecDeque<Waiting>,
}

impl Queue {
    /// Puts a request in, and drops the oldest of its kind when there are too many. True when it had to.
    pub(super) fn push(&mut self, waiting: Waiting, known: bool) -> bool {
        let kind = if known { &mut self.known } else { &mut self.strangers };
        let full = kind.len() >= MOST;
        if full {
            kind.pop_front();
        }
        kind.push_back(waiting);
        full
    }

    /// The next to answer.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.known.pop_front().or_else(|| self.strangers.pop_front())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.strangers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(number: u32) -> Waiting {
        let mut packet = vec![0; 240];
        packet[..4].copy_from_slice(&[1, 1, 6, 0]);
        packet[4..8].copy_from_slice(&number.to_be_bytes());
        packet[236..].copy_from_slice(&[99, 130, 83, 99]);
        packet.extend_from_slice(&[53, 1, 1, 255]);
        Waiting { request: Request::parse(&packet).unwrap(), boot_client: None }
    }

    #[test]
    fn a_storm_drops_its_own_oldest_and_delays_no_known_machine() {
        let mut queue = Queue::default();
        let count = u32::try_from(MOST).unwrap();
        let dropped = (0..count + 7).filter(|number| queue.push(waiting(*number), false)).count();
        assert_eq!(dropped, 7);
        assert!(!queue.push(waiting(1_000_000), true));
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop()).map(|next| next.request.xid).collect();
        assert_eq!(order[..2], [1_000_000, 7]);
        assert_eq!(order.len(), MOST + 1);
        assert!(queue.is_empty());
    }
}
