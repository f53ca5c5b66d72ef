//! The steps of deploy templates and runbooks, as they are taken and stored (api.md §7).

use std::collections::HashSet;

use ferric_schema::JsonList;
use serde_json::{Map, Value, json};

use crate::mask;

/// Interfaces that have steps.
const INTERFACES: &[&str] = &["vendor", "power", "management", "firmware", "deploy", "bios", "raid"];

/// The most steps of one template or runbook.
const MOST: usize = 1000;

/// Checks `steps` and brings them into their stored form: `interface`, `step`, `args`, and the number under `number`
/// (`priority` or `order`). `args_needed`: they may not be left out. The error is a sentence for the client.
pub(super) fn check(steps: &Value, number: &str, args_needed: bool) -> Result<JsonList, String> {
    let steps = steps.as_array().map(Vec::as_slice).unwrap_or_default();
    if steps.is_empty() {
        return Err("'steps' needs at least one step.".to_owned());
    }
    if steps.len() > MOST {
        return Err(format!("'steps' has {} steps; at most {MOST} are taken.", steps.len()));
    }
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        let step = one(step, number, args_needed).map_err(|why| format!("steps[{at}]: {why}."))?;
        let name = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let (interface, step_name) = (name("interface"), name("step"));
        if !seen.insert((interface.clone(), step_name.clone())) {
            return Err(format!(
                "Duplicate steps: each step of an interface may stand there once. Duplicates: interface: \
                 {interface}, step: {step_name}."
            ));
        }
        kept.push(step);
    }
    Ok(JsonList::from(kept.as_slice()))
}

fn one(step: &Value, number: &str, args_needed: bool) -> Result<Value, String> {
    let step = step.as_object().ok_or("expected an object")?;
    if let Some(key) = step.keys().find(|key| !["interface", "step", "args", number].contains(&key.as_str()))
    {
        return Err(format!("unknown key '{key}'; a step has interface, step, args and {number}"));
    }
    let text = |key: &str| match step.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(format!("expected a string that is not empty in '{key}'")),
        None => Err(format!("'{key}' is required")),
    };
    let interface = text("interface")?;
    if !INTERFACES.contains(&interface.as_str()) {
        return Err(format!("'interface' must be one of {}", INTERFACES.join(", ")));
    }
    let args = match step.get("args") {
        Some(Value::Object(args)) => args.clone(),
        Some(_) => return Err("expected an object in 'args'".to_owned()),
        None if args_needed => return Err("'args' is required; {} is for none".to_owned()),
        None => Map::new(),
    };
    let given = step.get(number).ok_or_else(|| format!("'{number}' is required"))?;
    // digits in a string are taken too, and kept as a number
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let place = given.as_u64().or_else(|| given.as_str().and_then(digits));
    let place = place.and_then(|place| i32::try_from(place).ok());
    let place = place.ok_or_else(|| format!("expected a whole number from 0 on in '{number}'"))?;
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
            (json!([1]), "steps[0]"),
            (json!([good, good]), "Duplicate"),
            (with("interface", json!("network")), "steps[1]: 'interface' must be one of"),
            (with("interface", json!(null)), "steps[1]"),
            (with("step", json!("")), "'step'"),
            (with("args", json!([])), "'args'"),
            (with("priority", json!(-1)), "'priority'"),
            (with("priority", json!(1.5)), "'priority'"),
            (with("priority", json!("")), "'priority'"),
            (with("priority", json!("1x")), "'priority'"),
            (with("order", json!(1)), "unknown key 'order'"),
            (json!([{"interface": "deploy", "step": "a", "priority": 1}]), "'args' is required"),
            (json!([{"interface": "deploy", "args": {}, "priority": 1}]), "'step' is required"),
            (json!([{"interface": "deploy", "step": "a", "args": {}}]), "'priority' is required"),
        ] {
            let told = check(&steps, "priority", true).expect_err("refused");
            assert!(told.contains(word), "{steps}: {told}");
        }
    }
}
