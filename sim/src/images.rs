//! Images: those that a fleet serves, and what is known of those that its machines have seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use crate::disk::Digests;

/// URLs whose images are remembered; with more, all are forgotten.
const REMEMBERED: usize = 64;
/// From so many machines on, [`Transfer::Auto`] counts.
const COUNTED_FROM: usize = 257;

/// How images come to the machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// Byte by byte for up to 256 machines, counted for more.
    #[default]
    Auto,
    /// Every machine fetches every byte and hashes it.
    Bytes,
    /// The first machine fetches an image and hashes it; the others ask for its length, take the time that it would take
    /// them, and check the hash that is known. Images of the fleet's own are not fetched at all.
    Counted,
}

impl Transfer {
    /// Whether a fleet of so many machines counts.
    #[must_use]
    pub fn counts(self, nodes: usize) -> bool {
        match self {
            Transfer::Auto => nodes >= COUNTED_FROM,
            Transfer::Bytes => false,
            Transfer::Counted => true,
        }
    }
}

/// An image that need not be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) bytes: u64,
    /// What the server says of its version.
    pub(crate) tag: Option<String>,
    /// By algorithm, hex; sha256 is always there.
    pub(crate) digests: BTreeMap<String, String>,
}

/// A place where one machine learns what others want to know.
pub(crate) type Lesson = Arc<tokio::sync::Mutex<Option<Known>>>;

/// All images of a fleet.
#[derive(Default)]
pub(crate) struct Images {
    /// Whether they are counted.
    pub(crate) counted: bool,
    own: RwLock<HashMap<String, (Bytes, Arc<Known>)>>,
    seen: Mutex<HashMap<String, Lesson>>,
}

impl Images {
    pub(crate) fn new(counted: bool) -> Self {
        Self { counted, ..Self::default() }
    }

    /// Serves `content` under `name`.
    pub(crate) fn publish(&self, name: &str, content: Bytes) {
        let known = Arc::new(if self.counted { Digests::all_of(&content) } else { Known::default() });
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        own.insert(name.to_owned(), (content, known));
    }

    /// The content of one.
    pub(crate) fn content(&self, name: &str) -> Option<Bytes> {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        own.get(name).map(|(content, _)| content.clone())
    }

    /// What is known of one of the fleet's own, when images are counted.
    pub(crate) fn own(&self, name: &str) -> Option<Arc<Known>> {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        own.get(name).filter(|_| self.counted).map(|(_, known)| known.clone())
    }

    /// Where the image at `url` is learnt.
    pub(crate) fn lesson(&self, url: &str) -> Lesson {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED && !seen.contains_key(url) {
            seen.clear();
        }
        seen.entry(url.to_owned()).or_default().clone()
    }
}
