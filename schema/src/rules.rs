//! Inspection rules: what is made of what an inspection found (api.md §7).

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    conn::Conn,
    crud::crud,
    error::{StoreError, duplicate_or},
    page::{SortDir, by, by_id},
    tables::{inspection_rules, inspection_rules::dsl},
    types::{BigCol, JsonList, TextCol},
};

/// One inspection rule as it is stored. `Debug` and `Serialize` hide nothing of a sensitive one but its size:
/// only the API's views may show a rule to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = inspection_rules, treat_none_as_default_value = false, treat_none_as_null = true)]
pub struct Rule {
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
    /// Free text.
    pub description: Option<String>,
    /// Higher runs earlier; 0 to 9999.
    pub priority: i32,
    /// When in an inspection it runs: `main`.
    pub phase: String,
    /// What kind of node it is for; nobody sets it yet.
    pub scope: Option<String>,
    /// Its conditions and actions are never shown.
    pub sensitive: bool,
    /// Objects of `op`, `args`, perhaps `loop` and `multiple`; all must hold.
    pub conditions: JsonList,
    /// Objects of `op`, `args`, perhaps `loop`, in order.
    pub actions: JsonList,
}

impl Rule {
    /// A rule that does nothing yet.
    #[must_use]
    pub fn new(uuid: Uuid, now: Timestamp) -> Rule {
        Rule {
            id: 0,
            uuid,
            generation: 0,
            created_at: now,
            updated_at: None,
            description: None,
            priority: 0,
            phase: "main".into(),
            scope: None,
            sensitive: false,
            conditions: JsonList::default(),
            actions: JsonList::default(),
        }
    }
}

fn taken(row: &Rule) -> [(&'static str, String); 1] {
    [("uuid", row.uuid.to_string())]
}

crud! {
    Rule in inspection_rules, "inspection rule", taken taken,
    /// Which page of the inspection rules. The default is all, in order of creation.
    query RuleQuery {
        /// Those of this phase.
        phase: Option<String>,
    }
    narrow |query: Boxed, q: &RuleQuery| match q.phase.clone() {
        Some(phase) => query.filter(dsl::phase.eq(phase)),
        None => query,
    },
    sort RuleSort {
        Uuid = "uuid": uuid, |r: &Rule| Some(r.uuid.to_string());
        CreatedAt = "created_at": created_at, |r: &Rule| Some(r.created_at.0);
        UpdatedAt = "updated_at": updated_at, |r: &Rule| r.updated_at.map(|at| at.0);
        Description = "description": description, |r: &Rule| r.description.clone();
        Priority = "priority": priority, |r: &Rule| Some(r.priority);
        Phase = "phase": phase, |r: &Rule| Some(r.phase.clone());
        Sensitive = "sensitive": sensitive, |r: &Rule| Some(r.sensitive);
    }
}

/// The rules of a phase in the order in which they run: the highest priority first, equal ones by age.
///
/// # Errors
/// The database's.
pub fn in_order(c: &mut Conn, phase: &str) -> Result<Vec<Rule>, StoreError> {
    Ok(dsl::inspection_rules
        .filter(dsl::phase.eq(phase))
        .order_by((dsl::priority.desc(), dsl::id))
        .select(Rule::as_select())
        .load(c)?)
}

/// Removes every rule; returns how many there were.
///
/// # Errors
/// The database's.
pub fn delete_all(c: &mut Conn) -> Result<usize, StoreError> {
    Ok(diesel::delete(dsl::inspection_rules).execute(c)?)
}
