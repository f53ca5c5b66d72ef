//! Deploy templates: steps that a trait of a node adds to its deployment (api.md §7).

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    conn::Conn,
    crud::{crud, find_by_name},
    error::{StoreError, duplicate_or},
    page::{SortDir, by, by_id},
    tables::{deploy_templates, deploy_templates::dsl},
    types::{BigCol, JsonList, JsonText, TextCol},
};

/// One deploy template as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = deploy_templates, treat_none_as_default_value = false, treat_none_as_null = true)]
pub struct Template {
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
    /// The trait that it goes with; unique.
    pub name: String,
    /// Objects of `interface`, `step`, `args` and `priority`, in the operator's order.
    pub steps: JsonList,
    /// The operator's own data.
    pub extra: JsonText,
}

impl Template {
    /// A template that has nothing but its name yet.
    #[must_use]
    pub fn new(uuid: Uuid, name: impl Into<String>, now: Timestamp) -> Template {
        Template {
            id: 0,
            uuid,
            generation: 0,
            created_at: now,
            updated_at: None,
            name: name.into(),
            steps: JsonList::default(),
            extra: JsonText::default(),
        }
    }
}

fn taken(row: &Template) -> [(&'static str, String); 2] {
    [("uuid", row.uuid.to_string()), ("name", row.name.clone())]
}

crud! {
    Template in deploy_templates, "deploy template", taken taken,
    /// Which page of the deploy templates. The default is all, in order of creation.
    query TemplateQuery {}
    narrow |query: Boxed, _: &TemplateQuery| query,
    sort TemplateSort {
        Uuid = "uuid": uuid, |t: &Template| Some(t.uuid.to_string());
        CreatedAt = "created_at": created_at, |t: &Template| Some(t.created_at.0);
        UpdatedAt = "updated_at": updated_at, |t: &Template| t.updated_at.map(|at| at.0);
        Name = "name": name, |t: &Template| Some(t.name.clone());
    }
}

find_by_name!(Template in deploy_templates);

/// The templates that are named as one of these traits, by name.
///
/// # Errors
/// The database's.
pub fn templates_for_traits(c: &mut Conn, traits: &[String]) -> Result<Vec<Template>, StoreError> {
    Ok(dsl::deploy_templates
        .filter(dsl::name.eq_any(traits.to_vec()))
        .order_by(dsl::name)
        .select(Template::as_select())
        .load(c)?)
}
