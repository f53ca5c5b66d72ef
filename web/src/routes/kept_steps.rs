//! The steps of deploy templates and runbooks, as they are taken and stored (api.md §7).

use std::collections::HashSet;

use ferric_schema::JsonList;
use serde_json::{Map, Value, json};

use crate::check::shown as of;
use crate::mask;

/// Interfaces that have steps.
const INTERFACES: &[&str] = &["vendor", "power", "management", "firmware", "deploy", "bios", "raid"];

/// The most steps of one template or runbook.
const MOST: usize = 1000;

/// Checks `steps` and brings them into their stored form: `interface`, `step`, `args`, and the number under `number`
/// (`priority` or `order`). `args_needed`: they may not be left out. The error is a sentence for the client.
pub(super) fn check(steps: &Value, number: &str, args_needed: bool) -> Result<JsonList, String> {
    let noun = if number == "priority" { "deploy_template" } else { "runbook" };
    let wrong = |why: &str| Err(format!("Schema error for {noun}: {why}"));
    if steps.is_null() {
        return wrong("'steps' is a required property");
    }
    let steps = steps.as_array().map(Vec::as_slice).unwrap_or_default();
    if steps.is_empty() {
        return wrong("[] should be non-empty: 'steps' needs at least one step");
    }
    if steps.len() > MOST {
        return wrong(&format!("'steps' has {} steps; at most {MOST} are taken.", steps.len()));
    }
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        let step = one(step, number, args_needed)
            .map_err(|why| format!("Schema error for {noun}: {why} (in steps[{at}])"))?;
        let name = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let (interface, step_name) = (name("interface"), name("step"));
        if !seen.insert((interface.clone(), step_name.clone())) {
            return Err(format!(
                "Deploy template invalid: Duplicate deploy steps. A template cannot have multiple deploy steps with the same \
                 interface and step. Duplicates: interface: {interface}, step: {step_name}."
            ));
        }
        kept.push(step);
    }
    Ok(JsonList::from(kept.as_slice()))
}

fn one(step: &Value, number: &str, args_needed: bool) -> Result<Value, String> {
    let step = step.as_object().ok_or_else(|| format!("{} is not of type 'object'", of(step)))?;
    if let Some(key) = step.keys().find(|key| !["interface", "step", "args", number].contains(&key.as_str()))
    {
        return Err(format!(
            "Additional properties are not allowed ('{key}' was unexpected); a step has interface, step, args and {number}"
        ));
    }
    let text = |key: &str| match step.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::String(_)) => Err(format!("'' should be non-empty: '{key}'")),
        Some(other) => Err(format!("{} is not of type 'string': '{key}'", of(other))),
        None => Err(format!("'{key}' is a required property")),
    };
    let interface = text("interface")?;
    if !INTERFACES.contains(&interface.as_str()) {
        let all: Vec<String> = INTERFACES.iter().map(|one| format!("'{one}'")).collect();
        return Err(format!("{} is not one of [{}]", of(&Value::from(interface)), all.join(", ")));
    }
    let args = match step.get("args") {
        Some(Value::Object(args)) => args.clone(),
        Some(other) => return Err(format!("{} is not of type 'object': 'args'", of(other))),
        None if args_needed => return Err("'args' is a required property; {} is for none".to_owned()),
        None => Map::new(),
    };
    let given = step.get(number).ok_or_else(|| format!("'{number}' is a required property"))?;
    // digits in a string are taken too, and kept as a number
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let place = given.as_u64().or_else(|| given.as_str().and_then(digits));
    let place = place.and_then(|place| i32::try_from(place).ok());
    let place = place.ok_or_else(|| match given {
        Value::Number(_) if given.as_i64().is_some_and(|place| place < 0) => {
            format!("{given} is less than the minimum of 0: '{number}'")
        }
        Value::String(_) => format!("{} does not match '^[0-9]+$': '{number}'", of(given)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            format!("{} is not of type 'integer': '{number}' takes a whole number of 32 bits", of(given))
        }
    })?;
    Ok(json!({"interface": interface, "step": text("step")?, "args": args, number: place}))
}

/// Steps as a client sees them: without the secrets among their arguments.
pub(super) fn shown(steps: &JsonList) -> Value {
    let mut steps = Value::Array(steps.parse());
    mask::mask(&mut steps);
    steps
}

/// What stands between two forms of a row in an edit.
pub(super) fn read(list: &JsonList) -> Value {
    Value::Array(list.parse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_brought_into_their_form() {
        let given = json!([{"interface": "bios", "step": "a", "order": "10"}, {"interface": "raid", "step": "a", "order": 0}]);
        let kept = check(&given, "order", false).expect("two steps").parse();
        assert_eq!(kept[0], json!({"interface": "bios", "step": "a", "args": {}, "order": 10}));
        let given =
            json!([{"interface": "bios", "step": "a", "priority": 1, "args": {"password": "x", "k": 1}}]);
        let kept = check(&given, "priority", true).expect("a step");
        assert_eq!(shown(&kept)[0]["args"], json!({"password": "******", "k": 1}));
        assert_eq!(kept.parse()[0]["args"]["password"], "x");
    }

    #[test]
    fn what_is_no_list_of_steps_is_refused_by_its_place() {
        let good = json!({"interface": "deploy", "step": "a", "priority": 1, "args": {}});
        let with = |key: &str, value: Value| {
            let mut step = good.clone();
            step[key] = value;
            json!([good, step])
        };
        for (steps, word) in [
            (json!([]), "at least one"),
            (json!([1]), "in steps[0]"),
            (json!([good, good]), "Duplicate"),
            (with("interface", json!("network")), "'network' is not one of"),
            (with("interface", json!(null)), "steps[1]"),
            (with("step", json!("")), "'step' (in steps[1])"),
            (with("args", json!([])), "'args'"),
            (with("priority", json!(-1)), "'priority'"),
            (with("priority", json!(1.5)), "'priority'"),
            (with("priority", json!("")), "'priority'"),
            (with("priority", json!("1x")), "'priority'"),
            (with("order", json!(1)), "('order' was unexpected)"),
            (json!([{"interface": "deploy", "step": "a", "priority": 1}]), "'args' is a required"),
            (json!([{"interface": "deploy", "args": {}, "priority": 1}]), "'step' is a required"),
            (json!([{"interface": "deploy", "step": "a", "args": {}}]), "'priority' is a required"),
        ] {
            let told = check(&steps, "priority", true).expect_err("refused");
            assert!(told.contains(word), "{steps}: {told}");
        }
    }
}
