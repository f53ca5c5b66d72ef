//! The BIOS settings of a node as they were last read (`GET /v1/nodes/{id}/bios`).

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    conn::Conn,
    error::{StoreError, parent_or},
    tables::bios_settings::dsl,
    types::{JsonList, TextCol},
};

/// What is known of a setting besides its value, from the machine's attribute registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Queryable)]
pub struct Attribute {
    /// Enumeration, String, Integer, Boolean or Password.
    pub attribute_type: Option<String>,
    /// The values that an enumeration takes.
    pub allowable_values: Option<JsonList>,
    /// The least value of an integer.
    pub lower_bound: Option<i64>,
    /// The most characters of a string.
    pub max_length: Option<i64>,
    /// The least characters of a string.
    pub min_length: Option<i64>,
    /// It cannot be set.
    pub read_only: Option<bool>,
    /// A change takes effect with the next start only.
    pub reset_required: Option<bool>,
    /// The value is of this machine alone.
    pub unique: Option<bool>,
    /// The greatest value of an integer.
    pub upper_bound: Option<i64>,
}

/// A setting as it was read from a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSetting {
    /// Its name; one of that name per node.
    pub name: String,
    /// Its value, as text.
    pub value: Option<String>,
    /// What else is known of it.
    pub attribute: Attribute,
}

/// A setting as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, as text.
    pub value: Option<String>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When it was seen to have changed.
    pub updated_at: Option<Timestamp>,
    /// What else is known of it.
    pub attribute: Attribute,
}

type AttributeColumns = (
    dsl::attribute_type,
    dsl::allowable_values,
    dsl::lower_bound,
    dsl::max_length,
    dsl::min_length,
    dsl::read_only,
    dsl::reset_required,
    dsl::is_unique,
    dsl::upper_bound,
);
const ATTRIBUTE: AttributeColumns = (
    dsl::attribute_type,
    dsl::allowable_values,
    dsl::lower_bound,
    dsl::max_length,
    dsl::min_length,
    dsl::read_only,
    dsl::reset_required,
    dsl::is_unique,
    dsl::upper_bound,
);

/// The settings of a node, by name.
///
/// # Errors
/// The database's.
pub fn of_node(c: &mut Conn, node: Uuid) -> Result<Vec<Setting>, StoreError> {
    Ok(dsl::bios_settings
        .filter(dsl::node_uuid.eq(TextCol::from(node)))
        .order_by(dsl::name)
        .select((dsl::name, dsl::value, dsl::created_at, dsl::updated_at, ATTRIBUTE))
        .load(c)?)
}

/// One setting of a node.
///
/// # Errors
/// The database's.
pub fn get(c: &mut Conn, node: Uuid, name: &str) -> Result<Option<Setting>, StoreError> {
    Ok(dsl::bios_settings
        .filter(dsl::node_uuid.eq(TextCol::from(node)))
        .filter(dsl::name.eq(name))
        .select((dsl::name, dsl::value, dsl::created_at, dsl::updated_at, ATTRIBUTE))
        .first(c)
        .optional()?)
}

/// Makes the settings of a node exactly these: new ones are added, changed ones written, others taken away. What is
/// the same keeps its time.
///
/// # Errors
/// `NotFound` for the node.
pub fn replace(c: &mut Conn, node: Uuid, seen: &[NewSetting], now: Timestamp) -> Result<(), StoreError> {
    let known = of_node(c, node)?;
    for old in &known {
        if !seen.iter().any(|new| new.name == old.name) {
            let gone = dsl::bios_settings
                .filter(dsl::node_uuid.eq(TextCol::from(node)))
                .filter(dsl::name.eq(&old.name));
            diesel::delete(gone).execute(c)?;
        }
    }
    for new in seen {
        let a = &new.attribute;
        let data = (
            dsl::value.eq(&new.value),
            dsl::attribute_type.eq(&a.attribute_type),
            dsl::allowable_values.eq(&a.allowable_values),
            dsl::lower_bound.eq(a.lower_bound),
            dsl::max_length.eq(a.max_length),
            dsl::min_length.eq(a.min_length),
            dsl::read_only.eq(a.read_only),
            dsl::reset_required.eq(a.reset_required),
            dsl::is_unique.eq(a.unique),
            dsl::upper_bound.eq(a.upper_bound),
        );
        match known.iter().find(|old| old.name == new.name) {
            Some(old) if old.value == new.value && old.attribute == *a => {}
            Some(_) => {
                let same = dsl::bios_settings
                    .filter(dsl::node_uuid.eq(TextCol::from(node)))
                    .filter(dsl::name.eq(&new.name));
                diesel::update(same).set((data, dsl::updated_at.eq(Some(now.0)))).execute(c)?;
            }
            None => {
                diesel::insert_into(dsl::bios_settings)
                    .values((
                        dsl::node_uuid.eq(TextCol::from(node)),
                        dsl::name.eq(&new.name),
                        data,
                        dsl::created_at.eq(now.0),
                    ))
                    .execute(c)
                    .map_err(|e| parent_or(e, node, StoreError::from))?;
            }
        }
    }
    Ok(())
}

/// The text that a setting's value is stored as.
#[must_use]
pub fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Some(value.to_string()),
    }
}
