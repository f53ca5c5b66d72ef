//! Answers about single nodes that are kept while they are true, so that asking again costs no query.
//!
//! What an answer's bytes depend on is the node, the microversion, the query, the base of the links, and what the
//! caller [sees](Sight) of the node. An answer is true as long as the store's counter of the node says so
//! ([`ferric_schema::changes`]); without one (PostgreSQL) nothing is kept. Nothing of a caller is kept: who asks is
//! found out for each request, and so is what it may see, of the node as the kept answer has it.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::sync::Arc;

use actix_web::web::Bytes;
use ferric_schema::changes::{Changes, Stamp};
use ferric_schema::{Node, Store};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use uuid::Uuid;

use crate::context::Context;
use crate::policy::{Sight, Target};

/// Longer ones are asked by nobody who asks often.
const LONGEST_KEY: usize = 1024;

/// What a request asks for, as a key: everything that the answer depends on but the node and the caller's sight of it.
#[derive(Debug)]
pub(crate) struct Asked(String);

impl Asked {
    /// For `GET /nodes/{ident}?{query}`, `ident` decoded. `None` when the answer is not to be kept.
    pub(crate) fn new(context: &Context, ident: &str, query: &str) -> Option<Asked> {
        let length = context.base.len() + ident.len() + query.len();
        if length > LONGEST_KEY {
            return None;
        }
        let mut key = String::with_capacity(length + 8);
        // neither a header's value nor a query has a line feed in it; the ident comes last, and may have what it likes
        let _ = write!(key, "{}", context.version.0);
        for part in [&context.base, query, ident] {
            key.push('\n');
            key.push_str(part);
        }
        Some(Asked(key))
    }
}

/// The answers about one node to one question, by what callers see of it.
struct Kept {
    node: Uuid,
    stamp: Stamp,
    owner: Option<Box<str>>,
    lessee: Option<Box<str>>,
    bodies: Vec<(Sight, Bytes)>,
}

impl Kept {
    fn target(&self) -> Target<'_> {
        Target { owner: self.owner.as_deref(), lessee: self.lessee.as_deref() }
    }

    fn body(&self, sight: Sight) -> Option<&Bytes> {
        self.bodies.iter().find(|(own, _)| *own == sight).map(|(_, body)| body)
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Box<str>, Arc<Kept>> for ByBytes {
    fn weight(&self, key: &Box<str>, kept: &Arc<Kept>) -> u64 {
        // what the allocator and the map take besides, roughly
        const BESIDES: usize = 256;
        let bodies: usize = kept.bodies.iter().map(|(_, body)| body.len() + 48).sum();
        (key.len() + bodies + BESIDES) as u64
    }
}

/// The kept answers, bounded in bytes; those that nobody asks for go first.
pub(crate) struct Answers {
    kept: Option<Cache<Box<str>, Arc<Kept>, ByBytes, RandomState>>,
    #[cfg(test)]
    found: std::sync::atomic::AtomicU64,
}

impl Answers {
    /// Keeps `most` bytes at most; nothing at 0.
    pub(crate) fn new(most: usize) -> Answers {
        /// Of a document with its key: only a guess, to begin with.
        const USUAL: usize = 4096;
        let cache = (most > 0).then(|| {
            let options = OptionsBuilder::new()
                .weight_capacity(most as u64)
                .estimated_items_capacity(most / USUAL)
                .shards(8)
                .build()
                .expect("both capacities are given");
            Cache::with_options(options, ByBytes, RandomState::new(), DefaultLifecycle::default())
        });
        Answers {
            kept: cache,
            #[cfg(test)]
            found: 0.into(),
        }
    }

    /// The counters, where answers are kept at all.
    pub(crate) fn counters(&self, store: &Store) -> Option<Arc<Changes>> {
        self.kept.as_ref().and(store.changes()).cloned()
    }

    /// The answer, if one is kept that is still true as far as was looked lately, and the caller may see the node.
    pub(crate) fn find(&self, store: &Store, context: &Context, asked: &Asked) -> Option<Bytes> {
        let changes = store.changes()?;
        let kept = self.kept.as_ref()?.get(asked.0.as_str())?;
        // `look` first: what it notices moves the counters
        if !store.look() || !changes.holds(kept.node, kept.stamp) {
            return None;
        }
        let body = kept.body(context.sight(kept.target())?).cloned()?;
        #[cfg(test)]
        self.found.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Some(body)
    }

    /// Keeps `body`, the answer about `node` to a caller of that sight. `stamp` was taken before the node was read.
    pub(crate) fn keep(&self, asked: Asked, node: &Node, stamp: Stamp, sight: Sight, body: Bytes) {
        let Some(cache) = &self.kept else { return };
        let before =
            cache.peek(asked.0.as_str()).filter(|kept| kept.stamp == stamp && kept.node == node.uuid);
        let others = before.iter().flat_map(|kept| &kept.bodies).filter(|(own, _)| *own != sight).cloned();
        let bodies = others.chain([(sight, body)]).collect();
        let short = |text: &Option<String>| text.as_deref().map(Box::from);
        let kept =
            Kept { node: node.uuid, stamp, owner: short(&node.owner), lessee: short(&node.lessee), bodies };
        cache.insert(asked.0.into_boxed_str(), Arc::new(kept));
    }

    /// What is held, in bytes.
    #[cfg(test)]
    pub(crate) fn weight(&self) -> u64 {
        self.kept.as_ref().map_or(0, Cache::weight)
    }

    /// How often a kept answer was the one.
    #[cfg(test)]
    pub(crate) fn found(&self) -> u64 {
        self.found.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}
