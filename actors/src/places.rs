//! Fleet-wide limits as fair queues: whoever asks first is served first, and everybody can see their place.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// How many may work at once, and who waits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    line: Arc<Mutex<Line>>,
}

/// So many numbers in a row are counted together: whoever asks for a place in a line of ten thousand adds up some
/// hundred counts and numbers, not ten thousand.
const BLOCK: u64 = 128;

#[derive(Default)]
struct Line {
    waiting: BTreeMap<u64, Uuid>,
    numbers: HashMap<Uuid, u64>,
    /// How many wait in each block of numbers; none is empty.
    blocks: BTreeMap<u64, usize>,
    next: u64,
}

impl Line {
    fn join(&mut self, node: Uuid) -> u64 {
        self.next += 1;
        let number = self.next;
        self.waiting.insert(number, node);
        self.numbers.insert(node, number);
        *self.blocks.entry(number / BLOCK).or_default() += 1;
        number
    }

    fn leave(&mut self, number: u64) {
        let Some(node) = self.waiting.remove(&number) else { return };
        // one that was torn down and came again stands further behind by now
        if self.numbers.get(&node) == Some(&number) {
            self.numbers.remove(&node);
        }
        let block = number / BLOCK;
        if let Some(count) = self.blocks.get_mut(&block) {
            *count -= 1;
            if *count == 0 {
                self.blocks.remove(&block);
            }
        }
    }

    /// Counted from 1.
    fn place(&self, node: Uuid) -> Option<usize> {
        let number = *self.numbers.get(&node)?;
        let block = number / BLOCK;
        let before: usize = self.blocks.range(..block).map(|(_, count)| count).sum();
        Some(before + self.waiting.range(block * BLOCK..=number).count())
    }
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
        self.line.lock().expect("nothing panics while it holds this lock").leave(self.number);
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
        let number = self.line.lock().expect("nothing panics while it holds this lock").join(node);
        let _in_line = InLine { line: self.line.clone(), number };
        self.free.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// A node's place in the line, counted from 1, and how many wait; `None` when it does not.
    pub(crate) fn place_of(&self, node: Uuid) -> Option<(usize, usize)> {
        let line = self.line.lock().expect("nothing panics while it holds this lock");
        line.place(node).map(|place| (place, line.waiting.len()))
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

    #[test]
    fn a_place_is_right_whoever_leaves_and_comes_again() {
        let mut line = Line::default();
        let node = |n: u64| Uuid::from_u128(u128::from(n));
        let numbers: Vec<u64> = (0..1000).map(|n| line.join(node(n))).collect();
        // some give up in the middle, and the first ones have their turn
        for at in (100..900).step_by(3).chain(0..50) {
            line.leave(numbers[at]);
        }
        // one comes again before its earlier wait is cleared away
        let again = line.join(node(60));
        line.leave(numbers[60]);
        let order: Vec<Uuid> = line.waiting.values().copied().collect();
        assert_eq!(order.last(), Some(&node(60)));
        for (at, one) in order.iter().enumerate() {
            assert_eq!(line.place(*one), Some(at + 1));
        }
        assert_eq!((line.place(node(0)), line.place(node(103))), (None, None));
        line.leave(again);
        for number in numbers {
            line.leave(number);
        }
        assert!(line.waiting.is_empty() && line.numbers.is_empty() && line.blocks.is_empty());
    }
}
