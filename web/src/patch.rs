//! JSON-patch as Ironic takes it (api.md §1 "JSON-patch"): a subset of RFC 6902 whose roots are fields of a resource.

use serde_json::{Map, Value};

use crate::check::shown;
use crate::error::{ApiError, Result};
use crate::gates::{CHANGEABLE, Field, Kind};
use crate::nearest::{did_you_mean, ended};
use crate::version::Version;

/// What is done at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Sets, whether it is there or not.
    Add,
    /// Sets what is there.
    Replace,
    /// Takes away; a root goes back to its default.
    Remove,
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) struct Change<F> {
    /// What is done.
    pub(crate) op: Op,
    /// The field that is changed.
    pub(crate) root: F,
    /// The keys below it.
    below: Vec<String>,
    /// The new value.
    value: Value,
    /// The whole, as it stands in texts.
    told: String,
}

/// Changes in the order to be made.
#[derive(Clone, Debug)]
pub(crate) struct Patch<F>(pub(crate) Vec<Change<F>>);

impl<F: Field> Patch<F> {
    /// Reads a patch; its paths are known, patchable, and (unless removed) known to `version`.
    pub(crate) fn parse(body: Option<Value>, version: Version) -> Result<Patch<F>> {
        let items = match body {
            Some(Value::Array(items)) => items,
            other => {
                let given = other.map_or_else(|| "{}".to_owned(), |value| shown(&value));
                return Err(wrong(&format!(
                    "{given} is not of type 'array'. A patch is a list of changes, such as [{{\"op\": \"replace\", \"path\": \
                     \"/name\", \"value\": \"x\"}}]."
                )));
            }
        };
        items.into_iter().map(|item| Self::change(item, version)).collect::<Result<_>>().map(Patch)
    }

    fn change(item: Value, version: Version) -> Result<Change<F>> {
        let Value::Object(mut item) = item else {
            return Err(wrong(&format!(
                "{} is not of type 'object'. A change is an object with op, path and value.",
                shown(&item)
            )));
        };
        if let Some(key) = item.keys().find(|key| !["op", "path", "value"].contains(&key.as_str())) {
            return Err(wrong(&format!("Additional properties are not allowed ('{key}' was unexpected)")));
        }
        let op = match item.get("op") {
            None => return Err(wrong("'op' is a required property")),
            Some(Value::String(op)) if op == "add" => Op::Add,
            Some(Value::String(op)) if op == "replace" => Op::Replace,
            Some(Value::String(op)) if op == "remove" => Op::Remove,
            Some(other) => {
                return Err(wrong(&format!("{} is not one of ['add', 'replace', 'remove']", shown(other))));
            }
        };
        let path = match item.get("path") {
            None => return Err(wrong("'path' is a required property")),
            Some(Value::String(path)) => path.clone(),
            Some(other) => return Err(wrong(&format!("{} is not of type 'string'", shown(other)))),
        };
        let told = shown(&Value::Object(item.clone()));
        let mut keys = keys_of(&path)?.into_iter();
        let root_name = keys.next().unwrap_or_default();
        let below: Vec<String> = keys.collect();
        // what is taken away has no value, whatever came with it
        let value = item.remove("value").filter(|_| op != Op::Remove);
        if value.is_none() && op != Op::Remove {
            return Err(ApiError::bad_request(format!(
                "Couldn't apply patch '{told}'. Reason: The operation does not contain a 'value' member"
            )));
        }
        let root = match F::named(&root_name) {
            Some(root) if root.spec().write.by_patch() => root,
            Some(_) | None => {
                let mut names: Vec<&str> =
                    F::ALL.iter().filter(|f| f.spec().write.by_patch()).map(|f| f.spec().name).collect();
                names.sort_unstable();
                let told = CHANGEABLE.iter().find(|(what, _)| *what == F::WHAT);
                return Err(ApiError::bad_request(format!(
                    "Cannot patch {path}. Only the following can be updated: {}{}",
                    told.map_or_else(|| names.join(", "), |(_, all)| (*all).to_owned()),
                    ended(did_you_mean(&root_name, names.iter().copied()))
                )));
            }
        };
        if op != Op::Remove && !version.has(root.spec().since) {
            return Err(ApiError::too_new(&format!("attribute '{root_name}'"), root.spec().since, version));
        }
        Ok(Change { op, root, below, value: value.unwrap_or(Value::Null), told })
    }

    /// The fields that are changed, each once.
    pub(crate) fn roots(&self) -> Vec<F> {
        let mut roots = Vec::new();
        for change in &self.0 {
            if !roots.contains(&change.root) {
                roots.push(change.root);
            }
        }
        roots
    }

    /// The values that `field` as a whole is set to.
    pub(crate) fn values_mut(&mut self, field: F) -> impl Iterator<Item = &mut Value> {
        let whole = move |change: &&mut Change<F>| change.root == field && change.below.is_empty();
        self.0.iter_mut().filter(whole).map(|change| &mut change.value)
    }

    /// Whether a change replaces `field` as a whole by null, which is not the same as taking it away.
    pub(crate) fn replaces_by_null(&self, field: F) -> bool {
        let nulls = |change: &Change<F>| change.op != Op::Remove && change.value.is_null();
        self.0.iter().any(|change| change.root == field && change.below.is_empty() && nulls(change))
    }

    /// Whether `field` as a whole is taken away or set to null.
    pub(crate) fn clears(&self, field: F) -> bool {
        self.0.iter().any(|change| change.root == field && change.below.is_empty() && change.value.is_null())
    }

    /// Whether it sets the whole field to that value.
    pub(crate) fn sets(&self, field: F, value: &Value) -> bool {
        self.0.iter().any(|change| change.root == field && change.below.is_empty() && change.value == *value)
    }

    /// Makes the changes on `document`, which has a key for every patchable field. The error is a sentence for the
    /// client.
    pub(crate) fn apply(&self, document: &mut Map<String, Value>) -> std::result::Result<(), String> {
        self.0.iter().try_for_each(|change| change.apply(document))
    }
}

/// The keys of `/a/b/c`; each of letters, digits, `_` and `-`.
fn keys_of(path: &str) -> Result<Vec<String>> {
    let fits =
        |key: &str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(fits) => Ok(rest.split('/').map(str::to_owned).collect()),
        Some(_) | None => Err(wrong(&format!(
            "{} does not match '^(/[\\\\w-]+)+$'. A path has keys of letters, digits, '_' and '-', each after a '/'.",
            shown(&Value::String(path.to_owned()))
        ))),
    }
}

/// A patch that is not of the form of patches.
fn wrong(why: &str) -> ApiError {
    ApiError::bad_request(format!("Schema error for patch: {why}"))
}

/// How deep a field may be nested, as a request body may.
const DEEPEST: usize = 24;

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

impl<F: Field> Change<F> {
    fn apply(&self, document: &mut Map<String, Value>) -> std::result::Result<(), String> {
        let name = self.root.spec().name;
        // changes add up: without this, several that are shallow make a document that no reader takes
        if self.below.len() + depth(&self.value) > DEEPEST {
            return Err(format!("'{name}' would be nested deeper than {DEEPEST} levels."));
        }
        let Some((last, parents)) = self.below.split_last() else {
            let keeps = self.op == Op::Remove && self.root.spec().kind == Kind::RequiredUuid;
            if !keeps {
                document.insert(name.to_owned(), self.value.clone());
            }
            return Ok(());
        };
        let mut at = document.get_mut(name).ok_or_else(|| self.nothing_at(name))?;
        let mut walked = format!("/{name}");
        for key in parents {
            // what is stored there may hold secrets: its path is told, never what it is
            let reason = || self.cannot(&format!("member '{key}' not found in {walked}"));
            at = child(at, key).ok_or_else(reason)?;
            walked = format!("{walked}/{key}");
        }
        match (at, self.op) {
            (Value::Object(map), Op::Add) => {
                map.insert(last.clone(), self.value.clone());
                Ok(())
            }
            (Value::Object(map), Op::Replace) => {
                let reason = || self.cannot(&format!("can't replace a non-existent object '{last}'"));
                let slot = map.get_mut(last).ok_or_else(reason)?;
                *slot = self.value.clone();
                Ok(())
            }
            (Value::Object(map), Op::Remove) => {
                let reason = || self.cannot(&format!("can't remove a non-existent object '{last}'"));
                map.remove(last).map(drop).ok_or_else(reason)
            }
            (Value::Array(items), Op::Add) => {
                let index = if last == "-" { Some(items.len()) } else { last.parse().ok() };
                let index = index
                    .filter(|index| *index <= items.len())
                    .ok_or_else(|| self.cannot("can't insert outside of list"))?;
                items.insert(index, self.value.clone());
                Ok(())
            }
            (Value::Array(items), op @ (Op::Replace | Op::Remove)) => {
                let index: Option<usize> = last.parse().ok();
                let outside = if op == Op::Replace {
                    "can't replace outside of list".to_owned()
                } else {
                    format!("can't remove a non-existent object '{last}'")
                };
                let index =
                    index.filter(|index| *index < items.len()).ok_or_else(|| self.cannot(&outside))?;
                if op == Op::Replace {
                    items[index] = self.value.clone();
                } else {
                    items.remove(index);
                }
                Ok(())
            }
            (
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_),
                Op::Add | Op::Replace | Op::Remove,
            ) => Err(self.nothing_at(last)),
        }
    }

    fn nothing_at(&self, key: &str) -> String {
        self.cannot(&format!("there is no '{key}' to work on"))
    }

    fn cannot(&self, reason: &str) -> String {
        format!("Couldn't apply patch '{}'. Reason: {reason}", self.told)
    }
}

fn child<'a>(at: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match at {
        Value::Object(map) => map.get_mut(key),
        Value::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gates::NodeField;

    fn patched(patch: Value, minor: u16) -> std::result::Result<Value, String> {
        let patch =
            Patch::<NodeField>::parse(Some(patch), Version(minor)).map_err(|error| error.to_string())?;
        let document = json!({
            "driver": "ipmi", "name": null, "chassis_uuid": null,
            "extra": {"a": {"b": 1}, "list": [1, 2]}, "driver_info": {},
        });
        let Value::Object(mut map) = document else { unreachable!() };
        patch.apply(&mut map)?;
        Ok(Value::Object(map))
    }

    #[test]
    fn changes_do_what_the_reference_says() {
        for (patch, pointer, expected) in [
            (json!([]), "/driver", json!("ipmi")),
            (json!([{"op": "add", "path": "/name", "value": "n"}]), "/name", json!("n")),
            (json!([{"op": "replace", "path": "/name", "value": "n"}]), "/name", json!("n")),
            (json!([{"op": "remove", "path": "/extra"}]), "/extra", json!(null)),
            (json!([{"op": "add", "path": "/extra/c", "value": {"d": 1}}]), "/extra/c/d", json!(1)),
            (json!([{"op": "replace", "path": "/extra/a/b", "value": 2}]), "/extra/a/b", json!(2)),
            (json!([{"op": "remove", "path": "/extra/a/b"}]), "/extra/a", json!({})),
            (json!([{"op": "add", "path": "/extra/list/-", "value": 3}]), "/extra/list", json!([1, 2, 3])),
            (json!([{"op": "add", "path": "/extra/list/0", "value": 0}]), "/extra/list", json!([0, 1, 2])),
            (json!([{"op": "remove", "path": "/extra/list/1"}]), "/extra/list", json!([1])),
            (
                json!([{"op": "add", "path": "/extra/x", "value": {}}, {"op": "add", "path": "/extra/x/y", "value": 1}]),
                "/extra/x/y",
                json!(1),
            ),
        ] {
            let result = patched(patch.clone(), 115).unwrap_or_else(|error| panic!("{patch}: {error}"));
            assert_eq!(result.pointer(pointer), Some(&expected), "{patch}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for patch in [
            json!({"op": "add"}),
            json!([{"op": "test", "path": "/name", "value": 1}]),
            json!([{"op": "move", "path": "/name", "from": "/extra"}]),
            json!([{"op": "add", "path": "/name"}]),
            json!([{"op": "add", "path": "name", "value": 1}]),
            json!([{"op": "add", "path": "/extra/a.b", "value": 1}]),
            json!([{"op": "add", "path": "/extra/a~1b", "value": 1}]),
            json!([{"op": "add", "path": "/extra//b", "value": 1}]),
            json!([{"op": "add", "path": "/nothing", "value": 1}]),
            json!([{"op": "replace", "path": "/uuid", "value": "x"}]),
            json!([{"op": "replace", "path": "/id", "value": 1}]),
            json!([{"op": "replace", "path": "/power_state", "value": "power on"}]),
            json!([{"op": "remove", "path": "/created_at"}]),
            json!([{"op": "add", "path": "/extra/x/y", "value": 1}]),
            json!([{"op": "replace", "path": "/extra/x", "value": 1}]),
            json!([{"op": "remove", "path": "/extra/x"}]),
            json!([{"op": "add", "path": "/driver/x", "value": 1}]),
            json!([{"op": "add", "path": "/extra/list/9", "value": 1}]),
        ] {
            assert!(patched(patch.clone(), 115).is_err(), "{patch}");
        }
    }

    #[test]
    fn what_is_stored_is_not_told() {
        for (path, at) in
            [("/extra/nope/x", "/extra"), ("/extra/a/nope/x", "/extra/a"), ("/extra/list/7/x", "/extra/list")]
        {
            let told = patched(json!([{"op": "add", "path": path, "value": 7}]), 115).expect_err("refused");
            assert!(told.ends_with(&format!("not found in {at}")) && told.contains("member '"), "{told}");
        }
    }

    #[test]
    fn gated_attributes_are_not_set_but_may_be_removed() {
        let set = json!([{"op": "add", "path": "/name", "value": "n"}]);
        assert!(patched(set.clone(), 4).is_err_and(|error| error.contains("1.5")));
        assert!(patched(set, 5).is_ok());
        assert!(patched(json!([{"op": "remove", "path": "/name"}]), 4).is_ok());
    }
}
