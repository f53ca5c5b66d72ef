//! A map that forgets what was not asked for the longest when it is full.

use std::collections::{BTreeMap, HashMap};

/// A digest: keys are never what they stand for.
pub(crate) type Key = [u8; 32];

pub(crate) struct Lru<V> {
    most: usize,
    tick: u64,
    values: HashMap<Key, (u64, V)>,
    order: BTreeMap<u64, Key>,
}

impl<V: Clone> Lru<V> {
    /// Keeps `most` values.
    pub(crate) fn new(most: usize) -> Self {
        Lru { most: most.max(1), tick: 0, values: HashMap::new(), order: BTreeMap::new() }
    }

    pub(crate) fn get(&mut self, key: &Key) -> Option<V> {
        self.tick += 1;
        let (used, value) = self.values.get_mut(key)?;
        self.order.remove(used);
        *used = self.tick;
        self.order.insert(self.tick, *key);
        Some(value.clone())
    }

    pub(crate) fn put(&mut self, key: Key, value: V) {
        self.remove(&key);
        while self.values.len() >= self.most {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.values.remove(&oldest);
        }
        self.tick += 1;
        self.order.insert(self.tick, key);
        self.values.insert(key, (self.tick, value));
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some((used, _)) = self.values.remove(key) {
            self.order.remove(&used);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.values.len(), self.order.len(), "both sides hold the same");
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first() {
        let mut lru = Lru::new(2);
        lru.put([1; 32], "a");
        lru.put([2; 32], "b");
        assert_eq!(lru.get(&[1; 32]), Some("a"));
        lru.put([3; 32], "c");
        assert_eq!(lru.get(&[2; 32]), None);
        assert_eq!((lru.get(&[1; 32]), lru.get(&[3; 32])), (Some("a"), Some("c")));
        lru.put([3; 32], "d");
        assert_eq!((lru.get(&[3; 32]), lru.len()), (Some("d"), 2));
        lru.remove(&[3; 32]);
        assert_eq!(lru.len(), 1);
    }
}
