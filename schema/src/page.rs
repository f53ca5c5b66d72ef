//! Order, pages and text search, as every list has them.

/// Which way a list runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortDir {
    /// Smallest first; absent values last.
    #[default]
    Asc,
    /// The exact reverse.
    Desc,
}

#[diesel::declare_sql_function]
extern "SQL" {
    /// Lower case of ASCII letters.
    fn lower(
        text: diesel::sql_types::Nullable<diesel::sql_types::Text>,
    ) -> diesel::sql_types::Nullable<diesel::sql_types::Text>;
}

/// A LIKE pattern for "has this in it", with the wildcards of the text itself escaped by a backslash.
pub(crate) fn contains(part: &str) -> String {
    let mut pattern = String::from("%");
    for ch in part.chars() {
        if matches!(ch, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        // only ASCII, as `lower` in both databases (PostgreSQL by the columns' collation "C")
        pattern.push(ch.to_ascii_lowercase());
    }
    pattern.push('%');
    pattern
}

/// Orders by a column and then by id, and starts after the marker. Both databases must agree on where NULL goes, so
/// "is it NULL" is a sort key of its own; the page's condition is the same order written as a comparison.
macro_rules! by {
    ($query:expr, $dir:expr, $marker:expr, $column:expr, $value:expr) => {{
        let column = $column.nullable();
        let query = match $dir {
            SortDir::Asc => $query.order_by((column.is_null().asc(), column.asc(), dsl::id.asc())),
            SortDir::Desc => $query.order_by((column.is_null().desc(), column.desc(), dsl::id.desc())),
        };
        match $marker {
            None => query,
            Some(row) => {
                let id = row.id;
                #[allow(clippy::redundant_closure_call)] // the closure is how a macro takes a field's reading
                let after: Condition = match (($value)(row), $dir) {
                    (Some(v), SortDir::Asc) => Box::new(
                        column.gt(v.clone()).or(column.eq(v).and(dsl::id.gt(id))).or(column.is_null()),
                    ),
                    (Some(v), SortDir::Desc) => {
                        Box::new(column.lt(v.clone()).or(column.eq(v).and(dsl::id.lt(id))))
                    }
                    (None, SortDir::Asc) => Box::new(column.is_null().and(dsl::id.gt(id)).nullable()),
                    (None, SortDir::Desc) => Box::new(column.is_not_null().or(dsl::id.lt(id)).nullable()),
                };
                query.filter(after)
            }
        }
    }};
}

/// Orders by id alone.
macro_rules! by_id {
    ($query:expr, $dir:expr, $marker:expr) => {{
        let query = match $dir {
            SortDir::Asc => $query.order_by(dsl::id.asc()),
            SortDir::Desc => $query.order_by(dsl::id.desc()),
        };
        match ($marker, $dir) {
            (None, _) => query,
            (Some(row), SortDir::Asc) => query.filter(dsl::id.gt(row.id)),
            (Some(row), SortDir::Desc) => query.filter(dsl::id.lt(row.id)),
        }
    }};
}

pub(crate) use {by, by_id};
