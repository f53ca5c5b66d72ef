//! Conditions and actions of inspection rules: which operators there are, what each must be told, and the form in which
//! they are stored (api.md §7).

use ferric_schema::JsonList;
use serde_json::{Map, Value};

/// The most conditions, or actions, of one rule.
const MOST: usize = 1000;

/// An operator: its name, the arguments it needs, those it takes besides.
struct Op {
    name: &'static str,
    needs: &'static [&'static str],
    takes: &'static [&'static str],
}

const fn op(name: &'static str, needs: &'static [&'static str]) -> Op {
    Op { name, needs, takes: &[] }
}

#[rustfmt::skip]
const CONDITIONS: &[Op] = &[
    Op { name: "eq", needs: &["values"], takes: &["force_strings"] },
    Op { name: "lt", needs: &["values"], takes: &["force_strings"] },
    Op { name: "gt", needs: &["values"], takes: &["force_strings"] },
    op("is-empty", &["value"]),
    op("in-net",   &["address", "subnet"]),
    op("matches",  &["value", "regex"]),
    op("contains", &["value", "regex"]),
    Op { name: "one-of", needs: &["value"], takes: &["values"] },
    op("is-none",  &["value"]),
    op("is-true",  &["value"]),
    op("is-false", &["value"]),
];

/// `plugin_data` is what Ironic itself writes into the arguments of its three operators; it says nothing.
const PLUGIN_DATA: &str = "plugin_data";

#[rustfmt::skip]
const ACTIONS: &[Op] = &[
    op("fail", &["msg"]),
    Op { name: "log", needs: &["msg"], takes: &["level"] },
    op("set-attribute", &["path", "value"]),
    Op { name: "extend-attribute", needs: &["path", "value"], takes: &["unique"] },
    op("del-attribute", &["path"]),
    op("set-port-attribute", &["port_id", "path", "value"]),
    Op { name: "extend-port-attribute", needs: &["port_id", "path", "value"], takes: &["unique"] },
    op("del-port-attribute", &["port_id", "path"]),
    op("set-capability", &["name", "value"]),
    op("unset-capability", &["name"]),
    op("add-trait", &["name"]),
    op("remove-trait", &["name"]),
    Op { name: "set-plugin-data", needs: &["path", "value"], takes: &[PLUGIN_DATA] },
    Op { name: "extend-plugin-data", needs: &["path", "value"], takes: &["unique", PLUGIN_DATA] },
    Op { name: "unset-plugin-data", needs: &["path"], takes: &[PLUGIN_DATA] },
    Op { name: "api-call", needs: &["url"], takes: &["headers", "proxies", "timeout", "retries", "backoff_factor"] },
];

/// How the outcomes of a loop count.
const MULTIPLE: &[&str] = &["any", "all", "first", "last"];

/// Checks conditions: objects of `op`, `args`, and with a `loop` also `multiple`.
pub(super) fn conditions(given: &Value) -> Result<JsonList, String> {
    list("conditions", given, CONDITIONS, true)
}

/// Checks actions: objects of `op`, `args` and perhaps `loop`; there must be one.
pub(super) fn actions(given: &Value) -> Result<JsonList, String> {
    let kept = list("actions", given, ACTIONS, false)?;
    if let Some(at) = kept.parse().iter().position(|one| one.get("op").is_some_and(|op| op == "api-call")) {
        return Err(format!(
            "actions[{at}]: Ferric makes no requests of its own for a rule (api-call); follow /v1/ferric/events and make \
             it from there"
        ));
    }
    if kept.parse().is_empty() {
        return Err("'actions' needs at least one action.".to_owned());
    }
    Ok(kept)
}

fn list(key: &str, given: &Value, ops: &[Op], conditions: bool) -> Result<JsonList, String> {
    let items = given.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.len() > MOST {
        return Err(format!("'{key}' has {} items; at most {MOST} are taken.", items.len()));
    }
    let mut kept = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        kept.push(one(item, ops, conditions).map_err(|why| format!("{key}[{at}]: {why}."))?);
    }
    Ok(JsonList::from(kept.as_slice()))
}

fn one(item: &Value, ops: &[Op], conditions: bool) -> Result<Value, String> {
    let item = item.as_object().ok_or("expected an object of op and args")?;
    let name = item.get("op").and_then(Value::as_str).ok_or("'op', the name of an operator, is required")?;
    let plain = name.strip_prefix('!').filter(|_| conditions).unwrap_or(name);
    let Some(op) = ops.iter().find(|op| op.name == plain) else {
        let all: Vec<&str> = ops.iter().map(|op| op.name).collect();
        let inverted = if conditions { ", each also with a '!' before it" } else { "" };
        let shown: String = name.chars().take(64).collect();
        return Err(format!("there is no operator '{shown}'; use one of {}{inverted}", all.join(", ")));
    };
    let mut kept = Map::new();
    kept.insert("op".to_owned(), Value::from(name));
    kept.insert("args".to_owned(), arguments(op, item.get("args"))?);
    let loops = match item.get("loop") {
        None | Some(Value::Null) => None,
        Some(Value::Array(items)) if items.is_empty() => None,
        Some(Value::Object(map)) if map.is_empty() => None,
        Some(given @ (Value::Array(_) | Value::Object(_))) => Some(given.clone()),
        Some(_) => return Err("expected a list or an object in 'loop'".to_owned()),
    };
    let multiple = match item.get("multiple").filter(|_| conditions) {
        None => "any",
        Some(given) => {
            let word = given.as_str().filter(|word| MULTIPLE.contains(word));
            word.ok_or_else(|| format!("'multiple' must be one of {}", MULTIPLE.join(", ")))?
        }
    };
    if let Some(loops) = loops {
        kept.insert("loop".to_owned(), loops);
        if conditions {
            kept.insert("multiple".to_owned(), Value::from(multiple));
        }
    }
    Ok(Value::Object(kept))
}

/// By name, or in order as a list.
fn arguments(op: &Op, args: Option<&Value>) -> Result<Value, String> {
    let name = op.name;
    match args {
        None => Err(format!("'args' of {name} is required")),
        Some(Value::Array(given)) => match op.needs.get(given.len()..) {
            Some(missing @ [_, ..]) => Err(format!("{name} lacks the argument(s) {}", missing.join(", "))),
            Some([]) | None => Ok(Value::Array(given.clone())),
        },
        Some(Value::Object(given)) => {
            let missing: Vec<&str> =
                op.needs.iter().copied().filter(|key| !given.contains_key(*key)).collect();
            if !missing.is_empty() {
                return Err(format!("{name} lacks the argument(s) {}", missing.join(", ")));
            }
            let known = |key: &str| op.needs.contains(&key) || op.takes.contains(&key);
            if let Some(key) = given.keys().find(|key| !known(key)) {
                let takes: Vec<&str> =
                    op.needs.iter().chain(op.takes).copied().filter(|key| *key != PLUGIN_DATA).collect();
                return Err(format!("{name} has no argument '{key}'; it takes {}", takes.join(", ")));
            }
            let mut kept = given.clone();
            kept.remove(PLUGIN_DATA);
            Ok(Value::Object(kept))
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            Err(format!("expected a list or an object in the 'args' of {name}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_kept_in_their_form() {
        let given = json!([
            {"op": "!eq", "args": {"values": ["{item}", 1]}, "loop": [1, 2], "note": "x"},
            {"op": "is-true", "args": [1], "loop": [], "multiple": "all"},
        ]);
        assert_eq!(
            json!(conditions(&given).expect("two").parse()),
            json!([
                {"op": "!eq", "args": {"values": ["{item}", 1]}, "loop": [1, 2], "multiple": "any"},
                {"op": "is-true", "args": [1]},
            ])
        );
        assert!(conditions(&json!([])).is_ok());
        let given = json!([{"op": "set-plugin-data", "args": {"path": "a", "value": 1, "plugin_data": {}}}]);
        let kept = actions(&given).expect("one").parse();
        assert_eq!(kept, [json!({"op": "set-plugin-data", "args": {"path": "a", "value": 1}})]);
        for op in CONDITIONS.iter().chain(ACTIONS) {
            let args: Map<String, Value> =
                op.needs.iter().chain(op.takes).map(|key| ((*key).to_owned(), json!(1))).collect();
            assert!(arguments(op, Some(&Value::Object(args))).is_ok(), "{}", op.name);
        }
    }

    #[test]
    fn what_no_inspection_could_run_is_refused_by_its_place() {
        for (given, word) in [
            (json!(["x"]), "conditions[0]: expected an object"),
            (json!([{"op": "is-true", "args": [1]}, {"args": {}}]), "conditions[1]: 'op'"),
            (json!([{"op": "nope", "args": {}}]), "no operator 'nope'"),
            (json!([{"op": "! eq", "args": {}}]), "no operator '! eq'"),
            (json!([{"op": "is-true"}]), "'args' of is-true is required"),
            (json!([{"op": "is-true", "args": "x"}]), "a list or an object in the 'args'"),
            (json!([{"op": "in-net", "args": ["a"]}]), "lacks the argument(s) subnet"),
            (json!([{"op": "in-net", "args": {"subnet": "a"}}]), "lacks the argument(s) address"),
            (json!([{"op": "is-true", "args": {"value": 1, "x": 1}}]), "no argument 'x'; it takes value"),
            (json!([{"op": "is-true", "args": [1], "loop": 1}]), "'loop'"),
            (
                json!([{"op": "is-true", "args": [1], "loop": [1], "multiple": "x"}]),
                "'multiple' must be one of any",
            ),
        ] {
            let told = conditions(&given).expect_err("refused");
            assert!(told.contains(word), "{given}: {told}");
        }
        for (given, word) in [
            (json!([]), "at least one action"),
            (json!([{"op": "!fail", "args": ["m"]}]), "no operator '!fail'"),
            (json!([{"op": "api-call", "args": {"url": "http://x"}}]), "no requests of its own"),
            (json!([{"op": "fail", "args": {}}]), "actions[0]: fail lacks the argument(s) msg"),
        ] {
            let told = actions(&given).expect_err("refused");
            assert!(told.contains(word), "{given}: {told}");
        }
    }
}
