//! Inspection rules: conditions on what the ramdisk sent, and what to do with the node where they hold (api.md §7).
//!
//! Two things are done otherwise than by Ironic 39. A condition's argument that is one replacement field and nothing
//! else keeps the type of its value, and texts that are numbers compare as numbers; there, everything becomes a text,
//! so that `is-none` is never true and a number fails `lt` with an error. And nothing of a rule is stored before all
//! rules and hooks are through; there, a rule that fails leaves the changes of its predecessors behind.

mod actions;
mod conditions;
mod template;

use std::path::Path;

use serde_json::Value;

use super::settings::MaskSecrets;
use super::subject::Subject;
use crate::error::DriverError;
use crate::interface::{Json, Result};
use template::Scope;

/// The highest priority of a rule that is not built in.
const HIGHEST: i64 = 9999;

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its id, for log lines and errors.
    pub uuid: String,
    /// Higher goes first.
    pub priority: i64,
    /// Whether its contents are kept from logs and errors.
    pub sensitive: bool,
    conditions: Vec<Operation>,
    actions: Vec<Operation>,
}

#[derive(Clone, Debug, PartialEq)]
struct Operation {
    op: String,
    inverted: bool,
    args: Json,
    /// Once for each of these; empty is once, without an item.
    items: Vec<Value>,
    multiple: Multiple,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Multiple {
    #[default]
    Any,
    All,
    First,
    Last,
}

/// Required and optional arguments of an operation, in the order in which a list gives them.
struct Signature {
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

/// Checks a rule as a client sends it. The text of the error goes to the client (400).
/// Errors: `Invalid` naming what is wrong.
pub fn validate_rule(rule: &Value) -> Result<()> {
    Rule::parse(rule, false).map(|_| ()).map_err(invalid)
}

fn invalid(reason: String) -> DriverError {
    DriverError::Invalid { section: "inspection_rules", key: "rule".into(), reason }
}

/// Reads the file of `[inspection_rules] built_in_rules`: a list of rules, in YAML or JSON. Blocks.
/// Errors: `Io` when it cannot be read; `Invalid` naming the rule that is wrong.
pub fn read_built_in(path: &Path) -> Result<Vec<Rule>> {
    let io = |reason: String| DriverError::Io { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| io(error.to_string()))?;
    parse_built_in(&text).map_err(|reason| io(format!("is no list of inspection rules: {reason}")))
}

fn parse_built_in(text: &str) -> std::result::Result<Vec<Rule>, String> {
    let list = yaml(text)?;
    let list = list.as_array().ok_or("it has to be a list")?;
    let mut nameless = 0_u64;
    list.iter()
        .enumerate()
        .map(|(index, rule)| {
            let mut parsed =
                Rule::parse(rule, true).map_err(|error| format!("rule {}: {error}", index + 1))?;
            if parsed.uuid.is_empty() {
                parsed.uuid = format!("00000000-0000-0000-0000-{nameless:012x}");
                nameless += 1;
            }
            Ok(parsed)
        })
        .collect()
}

fn yaml(text: &str) -> std::result::Result<Value, String> {
    let all = yaml_rust2::YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
    all.first().map_or(Ok(Value::Null), from_yaml)
}

fn from_yaml(yaml: &yaml_rust2::Yaml) -> std::result::Result<Value, String> {
    use yaml_rust2::Yaml;
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(value) => Value::Bool(*value),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Real(text) => text.parse::<f64>().map_or_else(|_| Value::String(text.clone()), Value::from),
        Yaml::String(text) => Value::String(text.clone()),
        Yaml::Array(list) => Value::Array(list.iter().map(from_yaml).collect::<std::result::Result<_, _>>()?),
        Yaml::Hash(map) => {
            let mut object = Json::new();
            for (key, value) in map {
                let key = match from_yaml(key)? {
                    Value::String(text) => text,
                    other @ (Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::Array(_)
                    | Value::Object(_)) => other.to_string(),
                };
                object.insert(key, from_yaml(value)?);
            }
            Value::Object(object)
        }
        Yaml::Alias(_) | Yaml::BadValue => return Err("aliases are not supported".into()),
    })
}

impl Rule {
    /// Reads a rule as it is stored.
    /// Errors: `Inspection`, for a rule that could not be stored today.
    pub fn from_value(rule: &Value) -> Result<Rule> {
        // one that was stored was checked then
        Rule::parse(rule, true).map_err(|reason| DriverError::Inspection {
            reason: format!("Inspection rule execution failed. Reason: {reason}"),
        })
    }

    fn parse(rule: &Value, built_in: bool) -> std::result::Result<Rule, String> {
        let rule = rule.as_object().ok_or("a rule has to be an object")?;
        let text = |key: &str| match rule.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("'{key}' has to be a text")),
        };
        text("description")?;
        match text("phase")?.as_str() {
            "" | "main" => {}
            other => return Err(format!("Invalid phase: {other}. Valid phases are: main")),
        }
        let priority = match rule.get("priority") {
            None | Some(Value::Null) => 0,
            Some(value) => value.as_i64().ok_or("'priority' has to be a whole number")?,
        };
        if !built_in && priority < 0 {
            return Err("Priority cannot be negative for user-defined rules.".into());
        }
        if !built_in && priority > HIGHEST {
            return Err("Priority must be between 0 and 9999 for user-defined rules.".into());
        }
        let sensitive = match rule.get("sensitive") {
            None | Some(Value::Null) => false,
            Some(value) => value.as_bool().ok_or("'sensitive' has to be true or false")?,
        };
        let list = |key: &str| match rule.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list.clone()),
            Some(_) => Err(format!("'{key}' has to be a list")),
        };
        let conditions: Vec<Operation> = list("conditions")?
            .iter()
            .map(|one| Operation::parse(one, true))
            .collect::<std::result::Result<_, _>>()?;
        let actions: Vec<Operation> = list("actions")?
            .iter()
            .map(|one| Operation::parse(one, false))
            .collect::<std::result::Result<_, _>>()?;
        if actions.is_empty() {
            return Err("'actions' needs one entry at least".into());
        }
        Ok(Rule { uuid: text("uuid")?, priority, sensitive, conditions, actions })
    }
}

impl Operation {
    fn parse(value: &Value, is_condition: bool) -> std::result::Result<Operation, String> {
        let what = if is_condition { "condition" } else { "action" };
        let map = value.as_object().ok_or_else(|| format!("a {what} has to be an object"))?;
        let known: &[&str] =
            if is_condition { &["op", "args", "loop", "multiple"] } else { &["op", "args", "loop"] };
        if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("a {what} has no '{key}'; it has {}", known.join(", ")));
        }
        let word = map.get("op").and_then(Value::as_str).map(str::trim).unwrap_or_default();
        if word.is_empty() {
            return Err(format!("a {what} needs an 'op'"));
        }
        let (inverted, op) = match word.strip_prefix('!') {
            Some(rest) if is_condition => (true, rest.trim()),
            Some(_) | None => (false, word),
        };
        if op.contains('!') {
            return Err(format!("'{word}': one exclamation mark, in front, turns a condition round"));
        }
        let signature = match is_condition {
            true => conditions::signature(op).ok_or_else(|| {
                format!("Unsupported condition operator: {op}; known are {}", conditions::NAMES.join(", "))
            })?,
            false => actions::signature(op).ok_or_else(|| {
                format!("Unsupported action operator: {op}; known are {}", actions::NAMES.join(", "))
            })?,
        };
        let args = signature.read(map.get("args")).map_err(|error| format!("{op}: {error}"))?;
        let items = match map.get("loop") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.clone(),
            Some(object @ Value::Object(_)) => vec![object.clone()],
            Some(_) => return Err(format!("{op}: 'loop' has to be a list or an object")),
        };
        let multiple = match map.get("multiple").map(|word| word.as_str()) {
            None | Some(Some("any")) => Multiple::Any,
            Some(Some("all")) => Multiple::All,
            Some(Some("first")) => Multiple::First,
            Some(Some("last")) => Multiple::Last,
            Some(_) => return Err(format!("{op}: 'multiple' is one of any, all, first, last")),
        };
        let operation = Operation { op: op.to_owned(), inverted, args, items, multiple };
        match is_condition {
            true => conditions::check_args(&operation.op, &operation.args),
            false => actions::check_args(&operation.op, &operation.args),
        }
        .map_err(|error| format!("{op}: {error}"))?;
        Ok(operation)
    }
}

impl Signature {
    /// The arguments by name: an object as it is, a list by position.
    fn read(&self, args: Option<&Value>) -> std::result::Result<Json, String> {
        let named = match args {
            None | Some(Value::Null) => Json::new(),
            Some(Value::Object(map)) => map.clone(),
            // `[a, b]` instead of `[[a, b]]` for an operation on a list
            Some(Value::Array(list))
                if self.required == ["values"] && !list.first().is_some_and(Value::is_array) =>
            {
                Json::from_iter([("values".to_owned(), Value::Array(list.clone()))])
            }
            Some(Value::Array(list)) => {
                let names = self.required.iter().chain(self.optional);
                if list.len() > self.required.len() + self.optional.len() {
                    return Err("too many arguments".into());
                }
                names.zip(list).map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
            }
            Some(_) => return Err("args must be either a list or dictionary".into()),
        };
        let missing: Vec<&str> =
            self.required.iter().copied().filter(|name| !named.contains_key(*name)).collect();
        if !missing.is_empty() {
            return Err(format!("missing required argument(s): {}", missing.join(", ")));
        }
        let known = |name: &str| self.required.contains(&name) || self.optional.contains(&name);
        let unexpected: Vec<&str> = named.keys().map(String::as_str).filter(|name| !known(name)).collect();
        if !unexpected.is_empty() {
            return Err(format!("unexpected argument(s): {}", unexpected.join(", ")));
        }
        Ok(named)
    }
}

/// Applies `rules`, the highest priority first, those of equal priority in their order.
/// Errors: `Inspection`: a rule fails the inspection, or cannot be carried out.
pub(super) fn apply(rules: &[Rule], mask: MaskSecrets, subject: &mut Subject) -> Result<()> {
    let mut all: Vec<&Rule> = rules.iter().collect();
    all.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
    for rule in all {
        let masked = match mask {
            MaskSecrets::Always => true,
            MaskSecrets::Never => false,
            MaskSecrets::Sensitive => !rule.sensitive,
        };
        apply_one(rule, masked, subject).map_err(|reason| DriverError::Inspection {
            reason: match rule.sensitive {
                // neither its arguments nor what it read may come to light
                true => format!(
                    "Failed to inspect hardware. Reason: sensitive inspection rule {} failed",
                    rule.uuid
                ),
                false => reason,
            },
        })?;
    }
    Ok(())
}

fn apply_one(rule: &Rule, masked: bool, subject: &mut Subject) -> std::result::Result<(), String> {
    for condition in &rule.conditions {
        let holds = condition.holds(subject, masked).map_err(|error| {
            format!("Inspection rule execution failed. Reason: rule {}: {}: {error}", rule.uuid, condition.op)
        })?;
        if !holds {
            tracing::debug!(node = %subject.uuid, rule = rule.uuid, op = condition.op, "rule does not apply");
            return Ok(());
        }
    }
    tracing::info!(node = %subject.uuid, rule = rule.uuid, "inspection rule applies");
    for action in &rule.actions {
        for item in each(&action.items) {
            let args = {
                let item = item.map(|item| template::fill(item, &Scope::new(subject, masked, None), false));
                let scope = Scope::new(subject, masked, item.as_ref());
                template::fill_args(&action.args, &scope, actions::filled(&action.op), false)
            };
            actions::run(&action.op, &args, rule, subject)?;
        }
    }
    Ok(())
}

/// One turn without an item, or a turn for each.
fn each(items: &[Value]) -> Vec<Option<&Value>> {
    if items.is_empty() { vec![None] } else { items.iter().map(Some).collect() }
}

impl Operation {
    fn holds(&self, subject: &Subject, masked: bool) -> std::result::Result<bool, String> {
        let mut results = Vec::new();
        for item in each(&self.items) {
            let item = item.map(|item| template::fill(item, &Scope::new(subject, masked, None), true));
            let mut scope = Scope::new(subject, masked, item.as_ref());
            scope.absent_is_null = self.op == "is-empty";
            let args = template::fill_args(&self.args, &scope, conditions::filled(&self.op), true);
            let result = conditions::holds(&self.op, &args)? != self.inverted;
            if self.multiple == Multiple::First && result {
                return Ok(true);
            }
            results.push(result);
        }
        Ok(match self.multiple {
            Multiple::Any | Multiple::First => results.contains(&true),
            Multiple::All => !results.contains(&false),
            Multiple::Last => results.last().copied().unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests;
