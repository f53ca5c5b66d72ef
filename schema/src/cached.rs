//! Statements that are kept prepared. Diesel prepares every `UPDATE` and every piece of literal SQL anew each time, since
//! it cannot know whether there is an end to how many there are; of ours there is.

use diesel::{
    query_builder::{AstPass, QueryFragment, QueryId},
    query_dsl::RunQueryDsl,
    result::QueryResult,
};

use crate::conn::{Conn, MultiBackend};

/// A statement whose text is one of few, whatever its values are.
pub(crate) struct Cached<Q>(pub(crate) Q);

impl<Q> QueryId for Cached<Q> {
    type QueryId = ();
    // known by its text
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: QueryFragment<MultiBackend>> QueryFragment<MultiBackend> for Cached<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _: &MultiBackend) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<Q> RunQueryDsl<Conn> for Cached<Q> {}
