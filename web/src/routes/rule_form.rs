//! Conditions and actions of inspection rules: which operators there are, what each must be told, and the form in which
//! they are stored (api.md §7).

use ferric_schema::JsonList;
use serde_json::{Map, Value};

use crate::check::shown;

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

/// The operators of conditions, or of actions: their names, the arguments they need, those they take besides.
pub(crate) fn operators(
    of_actions: bool,
) -> impl Iterator<Item = (&'static str, &'static [&'static str], &'static [&'static str])> {
    let all = if of_actions { ACTIONS } else { CONDITIONS };
    all.iter().map(|op| (op.name, op.needs, op.takes))
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
        return Err("Schema error for rule: [] should be non-empty: 'actions' needs one".to_owned());
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
        kept.push(one(item, ops, conditions).map_err(|why| match why {
            Fault::Form(why) => format!("Schema error for rule: {why} (in {key}[{at}])"),
            Fault::Other(why) => format!("{key}[{at}]: {why}."),
        })?);
    }
    Ok(JsonList::from(kept.as_slice()))
}

/// Why an item is refused: for its form, or for what it says.
enum Fault {
    Form(String),
    Other(String),
}

impl From<String> for Fault {
    fn from(why: String) -> Fault {
        Fault::Other(why)
    }
}

fn one(item: &Value, ops: &[Op], conditions: bool) -> Result<Value, Fault> {
    let form = |why: &str| Fault::Form(why.to_owned());
    let item =
        item.as_object().ok_or_else(|| Fault::Form(format!("{} is not of type 'object'", shown(item))))?;
    let name = item.get("op").and_then(Value::as_str).ok_or_else(|| form("'op' is a required property"))?;
    let plain = name.strip_prefix('!').filter(|_| conditions).unwrap_or(name);
    let Some(op) = ops.iter().find(|op| op.name == plain) else {
        let all: Vec<&str> = ops.iter().map(|op| op.name).collect();
        let inverted = if conditions { ", each also with a '!' before it" } else { "" };
        let name: String = name.chars().take(64).collect();
        return Err(Fault::Form(format!("'{name}' is not one of [{}]{inverted}", all.join(", "))));
    };
    let mut kept = Map::new();
    kept.insert("op".to_owned(), Value::from(name));
    kept.insert("args".to_owned(), arguments(op, item.get("args"))?);
    let loops = match item.get("loop") {
        None | Some(Value::Null) => None,
        Some(Value::Array(items)) if items.is_empty() => None,
        Some(Value::Object(map)) if map.is_empty() => None,
        Some(given @ (Value::Array(_) | Value::Object(_))) => Some(given.clone()),
        Some(other) => return Err(Fault::Form(format!("{} is not of type 'array': 'loop'", shown(other)))),
    };
    let multiple = match item.get("multiple").filter(|_| conditions) {
        None => "any",
        Some(given) => {
            let word = given.as_str().filter(|word| MULTIPLE.contains(word));
            word.ok_or_else(|| {
                let all: Vec<String> = MULTIPLE.iter().map(|one| format!("'{one}'")).collect();
                Fault::Form(format!("{} is not one of [{}]: 'multiple'", shown(given), all.join(", ")))
            })?
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
fn arguments(op: &Op, args: Option<&Value>) -> Result<Value, Fault> {
    let name = op.name;
    match args {
        None => Err(Fault::Form(format!("'args' is a required property of {name}"))),
        Some(Value::Array(given)) => match op.needs.get(given.len()..) {
            Some(missing @ [_, ..]) => {
                Err(Fault::Other(format!("{name} lacks the argument(s) {}", missing.join(", "))))
            }
            Some([]) | None => Ok(Value::Array(given.clone())),
        },
        Some(Value::Object(given)) => {
            let missing: Vec<&str> =
                op.needs.iter().copied().filter(|key| !given.contains_key(*key)).collect();
            if !missing.is_empty() {
                return Err(Fault::Other(format!("{name} lacks the argument(s) {}", missing.join(", "))));
            }
            let known = |key: &str| op.needs.contains(&key) || op.takes.contains(&key);
            if let Some(key) = given.keys().find(|key| !known(key)) {
                let takes: Vec<&str> =
                    op.needs.iter().chain(op.takes).copied().filter(|key| *key != PLUGIN_DATA).collect();
                return Err(Fault::Other(format!(
                    "{name} has no argument '{key}'; it takes {}",
                    takes.join(", ")
                )));
            }
            let mut kept = given.clone();
            kept.remove(PLUGIN_DATA);
            Ok(Value::Object(kept))
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            Err(Fault::Form(format!("'args' of {name} is not of type 'array', 'object'")))
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
            (json!(["x"]), "is not of type 'object' (in conditions[0])"),
            (
                json!([{"op": "is-true", "args": [1]}, {"args": {}}]),
                "'op' is a required property (in conditions[1])",
            ),
            (json!([{"op": "nope", "args": {}}]), "'nope' is not one of"),
            (json!([{"op": "! eq", "args": {}}]), "'! eq' is not one of"),
            (json!([{"op": "is-true"}]), "'args' is a required property of is-true"),
            (json!([{"op": "is-true", "args": "x"}]), "'args' of is-true is not of type"),
            (json!([{"op": "in-net", "args": ["a"]}]), "lacks the argument(s) subnet"),
            (json!([{"op": "in-net", "args": {"subnet": "a"}}]), "lacks the argument(s) address"),
            (json!([{"op": "is-true", "args": {"value": 1, "x": 1}}]), "no argument 'x'; it takes value"),
            (json!([{"op": "is-true", "args": [1], "loop": 1}]), "'loop'"),
            (json!([{"op": "is-true", "args": [1], "loop": [1], "multiple": "x"}]), "is not one of ['any'"),
        ] {
            let told = conditions(&given).expect_err("refused");
            assert!(told.contains(word), "{given}: {told}");
        }
        for (given, word) in [
            (json!([]), "should be non-empty"),
            (json!([{"op": "!fail", "args": ["m"]}]), "'!fail' is not one of"),
            (json!([{"op": "api-call", "args": {"url": "http://x"}}]), "no requests of its own"),
            (json!([{"op": "fail", "args": {}}]), "actions[0]: fail lacks the argument(s) msg"),
        ] {
            let told = actions(&given).expect_err("refused");
            assert!(told.contains(word), "{given}: {told}");
        }
    }
}
