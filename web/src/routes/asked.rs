//! Arguments as Ironic takes them: each from the body or, failing that, from the query.

use actix_web::HttpRequest;
use serde_json::{Map, Value};

use crate::body::Body;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::query::{Args, strict_bool};

/// What a request brought of its arguments.
pub(super) struct Asked {
    body: Map<String, Value>,
    query: Args,
}

impl Asked {
    /// Refuses what the operation's row does not have (400) or is newer than the version.
    pub(super) fn read<const KIB: usize>(
        request: &HttpRequest,
        body: Body<KIB>,
        context: &Context,
    ) -> Result<Asked> {
        let query = context.args(request)?;
        Ok(Asked { body: body.arguments(context.allowed(), context.version)?, query })
    }

    /// All of them.
    pub(super) fn all(self) -> Map<String, Value> {
        let mut all = self.body;
        for (name, text) in self.query.into_pairs() {
            all.entry(name).or_insert(Value::String(text));
        }
        all
    }

    /// The argument; a body wins over the query. It may be null.
    fn given(&self, name: &str) -> Option<Value> {
        let found = self.body.get(name).cloned();
        found.or_else(|| self.query.text(name).map(|text| Value::String(text.to_owned())))
    }

    /// As [`Asked::given`]; 400 when neither has it.
    fn required(&self, name: &str) -> Result<Value> {
        self.given(name).ok_or_else(|| missing(name))
    }

    /// A text; null is `None`.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        match self.required(name)? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(ApiError::bad_request(format!("Expected string for {name}: {other}")))
            }
        }
    }

    /// A boolean in any of Ironic's words; null is `None`.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        flag(name, self.required(name)?)
    }

    /// As [`Asked::flag`]; what is not there is `None` too.
    pub(super) fn flag_if_given(&self, name: &str) -> Result<Option<bool>> {
        self.given(name).map_or(Ok(None), |value| flag(name, value))
    }
}

fn flag(name: &str, value: Value) -> Result<Option<bool>> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(flag)),
        Value::String(text) => strict_bool(name, &text).map(Some),
        other @ (Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            strict_bool(name, &other.to_string()).map(Some)
        }
    }
}

/// 400: an argument is not there.
pub(super) fn missing(name: &str) -> ApiError {
    ApiError::bad_request(format!("Missing mandatory parameter: {name}"))
}
