//! What every table of the operator's own things has: insert, find, page, guarded update, delete.

/// Makes the sort keys, the query and the functions for a row type. `taken` is how a row's unique values are told;
/// the module brings `dsl`, and writes its own filters into `$narrow`. `node`: whose the row is, where it has one.
macro_rules! crud {
    (
        $row:ident in $table:ident, $what:literal, taken $taken:expr, $(node $node:expr,)?
        $(#[$query_doc:meta])* query $query:ident { $($(#[$filter_doc:meta])* $filter:ident: $kind:ty,)* }
        narrow $narrow:expr,
        sort $sort:ident { $($variant:ident = $name:literal: $column:ident, $read:expr;)+ }
    ) => {
        /// What a list can be sorted by.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $sort {
            /// Order of creation.
            #[default]
            Id,
            $(#[doc = concat!("By `", $name, "`.")] $variant,)+
        }

        impl $sort {
            /// All keys.
            pub const ALL: &'static [$sort] = &[$sort::Id, $($sort::$variant,)+];

            /// The key that bears this API name, if lists can be sorted by it.
            #[must_use]
            pub fn from_name(name: &str) -> Option<$sort> {
                Self::ALL.iter().copied().find(|key| key.as_str() == name)
            }

            /// Its API name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $sort::Id => "id",
                    $($sort::$variant => $name,)+
                }
            }
        }

        $(#[$query_doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $query {
            $($(#[$filter_doc])* pub $filter: $kind,)*
            /// What to sort by; equal ones by order of creation.
            pub sort_key: $sort,
            /// Which way.
            pub sort_dir: SortDir,
            /// How many at most; `None`: all.
            pub limit: Option<i64>,
            /// Start after this one.
            pub marker: Option<Uuid>,
        }

        type Boxed = diesel::helper_types::IntoBoxed<
            'static,
            diesel::helper_types::Select<
                dsl::$table,
                diesel::helper_types::AsSelect<$row, crate::conn::MultiBackend>,
            >,
            crate::conn::MultiBackend,
        >;
        type Condition = Box<
            dyn BoxableExpression<
                    dsl::$table,
                    crate::conn::MultiBackend,
                    SqlType = diesel::sql_types::Nullable<diesel::sql_types::Bool>,
                >,
        >;

        /// What the database refuses of a row, by what the caller can do about it.
        #[allow(clippy::redundant_closure_call)] // the closures are how a macro takes a row's reading
        fn told(e: diesel::result::Error, row: &$row) -> StoreError {
            let told = |e| duplicate_or(e, stringify!($table), &($taken)(row));
            $(let told = |e| crate::error::parent_or(e, ($node)(row), told);)?
            told(e)
        }

        /// Stores a new one; returns it with its `id`.
        ///
        /// # Errors
        /// `Duplicate` for what must be unique; `NotFound` for the node of what has one.
        pub fn insert(c: &mut Conn, row: &$row) -> Result<$row, StoreError> {
            diesel::insert_into(dsl::$table)
                .values(row.clone())
                .execute(c)
                .map_err(|e| told(e, row))?;
            let id = dsl::$table.filter(dsl::uuid.eq(TextCol::from(row.uuid))).select(dsl::id).first(c)?;
            Ok($row { id, ..row.clone() })
        }

        /// The one of that uuid.
        ///
        /// # Errors
        /// The database's.
        pub fn get(c: &mut Conn, uuid: Uuid) -> Result<Option<$row>, StoreError> {
            Ok(dsl::$table
                .filter(dsl::uuid.eq(TextCol::from(uuid)))
                .select($row::as_select())
                .first(c)
                .optional()?)
        }

        /// One page of a list.
        ///
        /// # Errors
        /// `NotFound` when the marker is unknown.
        pub fn list(c: &mut Conn, q: &$query) -> Result<Vec<$row>, StoreError> {
            let query: Boxed = dsl::$table.select($row::as_select()).into_boxed();
            #[allow(clippy::redundant_closure_call)] // the closure is how a macro takes the filters
            let query: Boxed = ($narrow)(query, q);
            let marker = match q.marker {
                Some(id) => Some(get(c, id)?.ok_or_else(|| StoreError::not_found($what, id))?),
                None => None,
            };
            let (dir, marker) = (q.sort_dir, marker.as_ref());
            let mut query = match q.sort_key {
                $sort::Id => by_id!(query, dir, marker),
                $($sort::$variant => by!(query, dir, marker, dsl::$column, $read),)+
            };
            if let Some(limit) = q.limit {
                query = query.limit(limit);
            }
            Ok(query.load(c)?)
        }

        /// Writes the whole row, if it is still of the generation that it was read at; returns it with the next
        /// generation and `updated_at = now`.
        ///
        /// # Errors
        /// `Stale`, `NotFound`, `Duplicate`.
        pub fn update(c: &mut Conn, row: &$row, now: Timestamp) -> Result<$row, StoreError> {
            let next = $row { generation: row.generation + 1, updated_at: Some(now), ..row.clone() };
            let uuid = || TextCol::from(row.uuid);
            let same = dsl::$table.filter(dsl::uuid.eq(uuid())).filter(dsl::generation.eq(row.generation));
            let written = diesel::update(same)
                .set(next.clone())
                .execute(c)
                .map_err(|e| told(e, row))?;
            if written == 1 {
                return Ok(next);
            }
            if get(c, row.uuid)?.is_none() {
                return Err(StoreError::not_found($what, row.uuid));
            }
            Err(StoreError::Stale { what: $what, id: row.uuid, seen: row.generation })
        }

        /// Removes it.
        ///
        /// # Errors
        /// `NotFound`.
        pub fn delete(c: &mut Conn, uuid: Uuid) -> Result<(), StoreError> {
            match diesel::delete(dsl::$table.filter(dsl::uuid.eq(TextCol::from(uuid)))).execute(c)? {
                0 => Err(StoreError::not_found($what, uuid)),
                _ => Ok(()),
            }
        }
    };
}

/// The one of that uuid or, if it is none, of that name.
macro_rules! find_by_name {
    ($row:ident in $table:ident) => {
        /// The one of that uuid or, if it is none, of that name.
        ///
        /// # Errors
        /// The database's.
        pub fn find(c: &mut Conn, ident: &str) -> Result<Option<$row>, StoreError> {
            match Uuid::try_parse(ident) {
                Ok(uuid) => get(c, uuid),
                Err(_) => Ok(dsl::$table
                    .filter(dsl::name.eq(ident))
                    .select($row::as_select())
                    .first(c)
                    .optional()?),
            }
        }
    };
}

pub(crate) use {crud, find_by_name};
