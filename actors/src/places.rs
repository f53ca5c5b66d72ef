//! Fleet-wide limits as fair queues: whoever asks first is served first, and everybody can see their place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// How many may work at once, and who waits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    line: Arc<Mutex<Line>>,
}

#[derive(Default)]
struct Line {
    waiting: BTreeMap<u64, Uuid>,
    next: u64,
}

/// Held for as long as the work lasts.
pub(crate) type Place = OwnedSemaphorePermit;

/// Takes the node out of the line, however the waiting ends.
struct InLine {
    line: Arc<Mutex<Line>>,
    number: u64,
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.line.lock().expect("nothing panics while it holds this lock").waiting.remove(&self.number);
    }
}

impl Places {
    pub(crate) fn new(most: usize) -> Places {
        Places { free: Arc::new(Semaphore::new(most)), line: Arc::default() }
    }

    /// A place, if one is free and nobody waits for it.
    pub(crate) fn try_enter(&self) -> Option<Place> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// Waits for a place.
    pub(crate) async fn enter(&self, node: Uuid) -> Place {
        let number = {
            let mut line = self.line.lock().expect("nothing panics while it holds this lock");
            line.next += 1;
            let number = line.next;
            line.waiting.insert(number, node);
            number
        };
        let _in_line = InLine { line: self.line.clone(), number };
        self.free.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Who waits, the next one first.
    pub(crate) fn waiting(&self) -> Vec<Uuid> {
        self.line.lock().expect("nothing panics while it holds this lock").waiting.values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_first_is_served_first_and_sees_its_place() {
        let places = Places::new(1);
        let held = places.try_enter().unwrap();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut first = Box::pin(places.enter(a));
        let mut second = Box::pin(places.enter(b));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert_eq!(places.waiting(), [a, b]);
        drop(held);
        let held = first.await;
        assert_eq!(places.waiting(), [b]);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(second);
        assert!(places.waiting().is_empty());
        drop(held);
        assert!(places.try_enter().is_some());
    }
}
