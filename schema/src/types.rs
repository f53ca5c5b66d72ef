//! How Rust values stand in portable columns: uuids, words and JSON as TEXT, moments as BIGINT microseconds.

use std::{borrow::Cow, fmt};

use diesel::{
    backend::Backend as DieselBackend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::{BigInt, Text},
};
use ferric_machine::{BootMode, Fault, PowerState, State, Timestamp};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue};
use uuid::Uuid;

use crate::conn::MultiBackend;

/// A JSON object, kept as its text: ten thousand parsed documents weigh nineteen times as much (crates.md §6).
/// `Debug` tells its size only, since it may hold secrets.
#[derive(Clone, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// The object's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether it is `{}`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_str() == "{}" || self.parse().is_empty()
    }

    /// The object, parsed.
    ///
    /// # Panics
    /// When the text is not a JSON object, which no constructor lets in.
    #[must_use]
    pub fn parse(&self) -> Map<String, Value> {
        serde_json::from_str(self.as_str()).expect("JsonText holds a JSON object")
    }

    /// Takes a text after checking that it is a JSON object.
    ///
    /// # Errors
    /// The parser's complaint.
    pub fn from_text(text: impl Into<Box<str>>) -> Result<JsonText, serde_json::Error> {
        // one scan without building anything: a list of a thousand nodes reads ten thousand of these
        let value = RawValue::from_string(String::from(text.into()))?;
        if value.get().starts_with('{') {
            Ok(JsonText(value))
        } else {
            Err(serde::de::Error::custom("a JSON object is needed here"))
        }
    }

    /// The value of one key, parsed; null and absent are the same here.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        self.parse().remove(key).filter(|v| !v.is_null())
    }
}

impl PartialEq for JsonText {
    /// By text: two spellings of one object differ.
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JsonText {}

impl Default for JsonText {
    fn default() -> Self {
        JsonText::from(Map::new())
    }
}

impl From<Map<String, Value>> for JsonText {
    fn from(map: Map<String, Value>) -> Self {
        JsonText::from(&map)
    }
}

impl From<&Map<String, Value>> for JsonText {
    fn from(map: &Map<String, Value>) -> Self {
        JsonText(serde_json::value::to_raw_value(map).expect("a map of values always serialises"))
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonText({} bytes)", self.as_str().len())
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl ToSql<Text, MultiBackend> for JsonText {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, MultiBackend>) -> serialize::Result {
        out.set_value((Text, self.as_str()));
        Ok(IsNull::No)
    }
}

impl FromSql<Text, MultiBackend> for JsonText {
    fn from_sql(bytes: <MultiBackend as DieselBackend>::RawValue<'_>) -> deserialize::Result<Self> {
        // checked here once, so that `parse` cannot fail later on a row that someone edited by hand
        JsonText::from_text(<String as FromSql<Text, MultiBackend>>::from_sql(bytes)?)
            .map_err(|e| format!("a JSON column holds no object: {e}").into())
    }
}

/// A JSON array, kept as its text, as [`JsonText`] keeps an object. `Debug` tells its size only.
#[derive(Clone, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub struct JsonList(Box<RawValue>);

impl JsonList {
    /// The array's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The array, parsed.
    ///
    /// # Panics
    /// When the text is not a JSON array, which no constructor lets in.
    #[must_use]
    pub fn parse(&self) -> Vec<Value> {
        serde_json::from_str(self.as_str()).expect("JsonList holds a JSON array")
    }

    /// Takes a text after checking that it is a JSON array.
    ///
    /// # Errors
    /// The parser's complaint.
    pub fn from_text(text: impl Into<Box<str>>) -> Result<JsonList, serde_json::Error> {
        let value = RawValue::from_string(String::from(text.into()))?;
        if value.get().starts_with('[') {
            Ok(JsonList(value))
        } else {
            Err(serde::de::Error::custom("a JSON array is needed here"))
        }
    }
}

impl PartialEq for JsonList {
    /// By text, as [`JsonText`].
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JsonList {}

impl Default for JsonList {
    fn default() -> Self {
        JsonList::from(&[][..])
    }
}

impl From<&[Value]> for JsonList {
    fn from(items: &[Value]) -> Self {
        JsonList(serde_json::value::to_raw_value(items).expect("values always serialise"))
    }
}

impl fmt::Debug for JsonList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonList({} bytes)", self.as_str().len())
    }
}

impl Serialize for JsonList {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl ToSql<Text, MultiBackend> for JsonList {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, MultiBackend>) -> serialize::Result {
        out.set_value((Text, self.as_str()));
        Ok(IsNull::No)
    }
}

impl FromSql<Text, MultiBackend> for JsonList {
    fn from_sql(bytes: <MultiBackend as DieselBackend>::RawValue<'_>) -> deserialize::Result<Self> {
        JsonList::from_text(<String as FromSql<Text, MultiBackend>>::from_sql(bytes)?)
            .map_err(|e| format!("a JSON column holds no array: {e}").into())
    }
}

/// A value on its way into a TEXT column.
#[derive(Debug, AsExpression)]
#[diesel(sql_type = Text)]
#[allow(unreachable_pub)] // the derived impls of public rows name it; nobody outside can
pub struct TextCol(Option<Cow<'static, str>>);

impl ToSql<Text, MultiBackend> for TextCol {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, MultiBackend>) -> serialize::Result {
        match &self.0 {
            Some(text) => {
                out.set_value((Text, text.as_ref()));
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }
}

impl From<Uuid> for TextCol {
    fn from(id: Uuid) -> Self {
        TextCol(Some(id.to_string().into()))
    }
}

impl From<Option<Uuid>> for TextCol {
    fn from(id: Option<Uuid>) -> Self {
        TextCol(id.map(|id| id.to_string().into()))
    }
}

/// A moment on its way into a BIGINT column.
#[derive(Debug, AsExpression)]
#[diesel(sql_type = BigInt)]
#[allow(unreachable_pub)] // the derived impls of public rows name it; nobody outside can
pub struct BigCol(Option<i64>);

impl ToSql<BigInt, MultiBackend> for BigCol {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, MultiBackend>) -> serialize::Result {
        match &self.0 {
            Some(n) => {
                out.set_value((BigInt, n));
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }
}

impl From<Timestamp> for BigCol {
    fn from(t: Timestamp) -> Self {
        BigCol(Some(t.0))
    }
}

impl From<Option<Timestamp>> for BigCol {
    fn from(t: Option<Timestamp>) -> Self {
        BigCol(t.map(|t| t.0))
    }
}

impl FromSql<BigInt, MultiBackend> for Timestamp {
    fn from_sql(bytes: <MultiBackend as DieselBackend>::RawValue<'_>) -> deserialize::Result<Self> {
        <i64 as FromSql<BigInt, MultiBackend>>::from_sql(bytes).map(Timestamp)
    }
}

impl diesel::Queryable<BigInt, MultiBackend> for Timestamp {
    type Row = Self;
    fn build(row: Self) -> deserialize::Result<Self> {
        Ok(row)
    }
}

/// Types of other crates that are words in a TEXT column.
macro_rules! words {
    ($($name:ty),+) => {$(
        impl From<$name> for TextCol {
            fn from(word: $name) -> Self {
                TextCol(Some(word.as_str().into()))
            }
        }

        impl From<Option<$name>> for TextCol {
            fn from(word: Option<$name>) -> Self {
                TextCol(word.map(|w| w.as_str().into()))
            }
        }

        read_text!($name);
    )+};
}

macro_rules! read_text {
    ($name:ty) => {
        impl FromSql<Text, MultiBackend> for $name {
            fn from_sql(bytes: <MultiBackend as DieselBackend>::RawValue<'_>) -> deserialize::Result<Self> {
                Ok(<String as FromSql<Text, MultiBackend>>::from_sql(bytes)?.parse()?)
            }
        }

        impl diesel::Queryable<Text, MultiBackend> for $name {
            type Row = Self;
            fn build(row: Self) -> deserialize::Result<Self> {
                Ok(row)
            }
        }
    };
}

words!(
    State,
    PowerState,
    Fault,
    BootMode,
    crate::journal::StepState,
    crate::history::Severity,
    crate::allocations::AllocationState
);
read_text!(Uuid);
