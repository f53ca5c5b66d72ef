//! Statements that are kept prepared. Diesel prepares every `UPDATE` and every piece of literal SQL anew each time, since
//! it cannot know whether there is an end to how many there are; of ours there is.

use diesel::{
    query_builder::{AsChangeset, AstPass, QueryFragment, QueryId},
    query_dsl::RunQueryDsl,
    result::QueryResult,
};

use crate::conn::{Conn, MultiBackend};

/// Changes the rows of which `which` is true, and `and`, which is SQL: empty, or begins with `AND`.
pub(crate) struct Update<S, W> {
    table: &'static str,
    set: S,
    which: W,
    and: &'static str,
}

/// Deletes such rows.
pub(crate) struct Delete<W> {
    table: &'static str,
    which: W,
    and: &'static str,
}

/// True of every row.
pub(crate) struct Every;

/// An `UPDATE` whose text is one of few, whatever its values are.
pub(crate) fn update<S: AsChangeset, W>(
    table: &'static str,
    set: S,
    which: W,
    and: &'static str,
) -> Update<S::Changeset, W> {
    Update { table, set: set.as_changeset(), which, and }
}

/// A `DELETE` whose text is one of few.
pub(crate) fn delete<W>(table: &'static str, which: W, and: &'static str) -> Delete<W> {
    Delete { table, which, and }
}

impl QueryFragment<MultiBackend> for Every {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        out.push_sql("1 = 1");
        Ok(())
    }
}

impl<S, W> QueryFragment<MultiBackend> for Update<S, W>
where
    S: QueryFragment<MultiBackend>,
    W: QueryFragment<MultiBackend>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        out.push_sql("UPDATE ");
        out.push_sql(self.table);
        out.push_sql(" SET ");
        self.set.walk_ast(out.reborrow())?;
        out.push_sql(" WHERE ");
        self.which.walk_ast(out.reborrow())?;
        out.push_sql(self.and);
        Ok(())
    }
}

impl<W: QueryFragment<MultiBackend>> QueryFragment<MultiBackend> for Delete<W> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        out.push_sql("DELETE FROM ");
        out.push_sql(self.table);
        out.push_sql(" WHERE ");
        self.which.walk_ast(out.reborrow())?;
        out.push_sql(self.and);
        Ok(())
    }
}

// both are known by their texts
impl<S, W> QueryId for Update<S, W> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<W> QueryId for Delete<W> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<S, W> RunQueryDsl<Conn> for Update<S, W> {}

impl<W> RunQueryDsl<Conn> for Delete<W> {}
