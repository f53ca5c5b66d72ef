//! Runbooks: named lists of steps for cleaning and service (api.md §7).

use std::collections::HashMap;

use diesel::{prelude::*, result::DatabaseErrorKind, sql_types::Text};
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    conn::Conn,
    crud::{crud, find_by_name},
    error::{StoreError, duplicate_or},
    page::{SortDir, by, by_id},
    tables::{runbook_traits, runbooks, runbooks::dsl},
    types::{BigCol, JsonList, JsonText, TextCol},
};

/// One runbook as it is stored; its traits are a table of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = runbooks, treat_none_as_default_value = false, treat_none_as_null = true)]
pub struct Runbook {
    /// The row's number, in order of creation. 0 before the insert.
    #[diesel(skip_insertion, skip_update)]
    pub id: i64,
    /// Its public id.
    #[diesel(serialize_as = TextCol)]
    pub uuid: Uuid,
    /// Counts the writes of this row.
    pub generation: i64,
    /// When it was created.
    #[diesel(serialize_as = BigCol)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[diesel(serialize_as = BigCol)]
    pub updated_at: Option<Timestamp>,
    /// Its name; unique. Before 1.112 it was the trait that a node had to have.
    pub name: String,
    /// Objects of `interface`, `step`, `args` and `order`, in the operator's order.
    pub steps: JsonList,
    /// The operator's own data.
    pub extra: JsonText,
    /// Run it without booting a ramdisk.
    pub disable_ramdisk: bool,
    /// Every project may use it; it has no owner then.
    pub public: bool,
    /// The project that may use it.
    pub owner: Option<String>,
    /// Free text.
    pub description: Option<String>,
}

impl Runbook {
    /// A runbook that has nothing but its name yet.
    #[must_use]
    pub fn new(uuid: Uuid, name: impl Into<String>, now: Timestamp) -> Runbook {
        Runbook {
            id: 0,
            uuid,
            generation: 0,
            created_at: now,
            updated_at: None,
            name: name.into(),
            steps: JsonList::default(),
            extra: JsonText::default(),
            disable_ramdisk: false,
            public: false,
            owner: None,
            description: None,
        }
    }
}

fn taken(row: &Runbook) -> [(&'static str, String); 2] {
    [("uuid", row.uuid.to_string()), ("name", row.name.clone())]
}

crud! {
    Runbook in runbooks, "runbook", taken taken,
    /// Which page of the runbooks. The default is all, in order of creation.
    query RunbookQuery {
        /// Those that this project may see: its own and the public ones.
        project: Option<String>,
    }
    narrow |query: Boxed, q: &RunbookQuery| match q.project.clone() {
        Some(project) => query.filter(dsl::public.nullable().eq(true).or(dsl::owner.eq(project))),
        None => query,
    },
    sort RunbookSort {
        Uuid = "uuid": uuid, |r: &Runbook| Some(r.uuid.to_string());
        CreatedAt = "created_at": created_at, |r: &Runbook| Some(r.created_at.0);
        UpdatedAt = "updated_at": updated_at, |r: &Runbook| r.updated_at.map(|at| at.0);
        Name = "name": name, |r: &Runbook| Some(r.name.clone());
        DisableRamdisk = "disable_ramdisk": disable_ramdisk, |r: &Runbook| Some(r.disable_ramdisk);
        Public = "public": public, |r: &Runbook| Some(r.public);
        Owner = "owner": owner, |r: &Runbook| r.owner.clone();
        Description = "description": description, |r: &Runbook| r.description.clone();
    }
}

find_by_name!(Runbook in runbooks);

/// A runbook's traits, sorted.
///
/// # Errors
/// The database's.
pub fn traits(c: &mut Conn, runbook: Uuid) -> Result<Vec<String>, StoreError> {
    Ok(runbook_traits::table
        .filter(runbook_traits::runbook_uuid.eq(TextCol::from(runbook)))
        .order_by(runbook_traits::name)
        .select(runbook_traits::name)
        .load(c)?)
}

/// The traits of many runbooks; one without any is left out.
///
/// # Errors
/// The database's.
pub fn traits_of(c: &mut Conn, runbooks: &[Uuid]) -> Result<HashMap<Uuid, Vec<String>>, StoreError> {
    let mut found: HashMap<Uuid, Vec<String>> = HashMap::new();
    // SQLite allows 32 766 parameters in one statement
    for part in runbooks.chunks(10_000) {
        let ids: Vec<String> = part.iter().map(Uuid::to_string).collect();
        let rows: Vec<(Uuid, String)> = runbook_traits::table
            .filter(runbook_traits::runbook_uuid.eq_any(ids))
            .order_by(runbook_traits::name)
            .select((runbook_traits::runbook_uuid, runbook_traits::name))
            .load(c)?;
        for (runbook, name) in rows {
            found.entry(runbook).or_default().push(name);
        }
    }
    Ok(found)
}

/// Gives a runbook exactly these traits.
///
/// # Errors
/// `NotFound` when there is no such runbook.
pub fn set_traits(c: &mut Conn, runbook: Uuid, names: &[String]) -> Result<(), StoreError> {
    let old = runbook_traits::table.filter(runbook_traits::runbook_uuid.eq(TextCol::from(runbook)));
    diesel::delete(old).execute(c)?;
    names.iter().try_for_each(|name| add_trait(c, runbook, name).map(|_| ()))
}

/// Gives a runbook one more trait; says whether it was new.
///
/// # Errors
/// `NotFound` when there is no such runbook.
pub fn add_trait(c: &mut Conn, runbook: Uuid, name: &str) -> Result<bool, StoreError> {
    // both databases know this spelling; two who add the same trait at once are both right
    let text = "INSERT INTO runbook_traits (runbook_uuid, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let insert = diesel::sql_query(text).bind::<Text, _>(runbook.to_string()).bind::<Text, _>(name);
    #[allow(clippy::wildcard_enum_match_arm)]
    // diesel's enums grow; what is not listed has no reaction of its own
    let written = insert.execute(c).map_err(|e| match e {
        diesel::result::Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => {
            StoreError::not_found("runbook", runbook)
        }
        e => e.into(),
    })?;
    Ok(written > 0)
}

/// Takes one trait from a runbook; says whether it had it.
///
/// # Errors
/// The database's.
pub fn remove_trait(c: &mut Conn, runbook: Uuid, name: &str) -> Result<bool, StoreError> {
    let same = runbook_traits::table
        .filter(runbook_traits::runbook_uuid.eq(TextCol::from(runbook)))
        .filter(runbook_traits::name.eq(name));
    Ok(diesel::delete(same).execute(c)? > 0)
}
