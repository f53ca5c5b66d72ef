//! Lists of steps in the body of `PUT …/states/provision`, in a runbook and in a deploy template: their form, the names
//! that need no interface, and what the configuration forbids (api.md §3.6 "Step object").

use ferric_actors::Asked;
use ferric_machine::Verb;
use ferric_machine::steps::Reserved;
use serde_json::{Map, Value};

use crate::check::shown;
use crate::error::{ApiError, Result};
use crate::gates::{CHILD_STEPS, DEPLOY_STEPS, SERVICE_STEPS};
use crate::server::WebSettings;
use crate::version::Version;

/// Interfaces that have steps; servicing also knows those of the network interface.
const INTERFACES: &[&str] = &["vendor", "power", "management", "firmware", "deploy", "bios", "raid"];

/// The most steps of one list.
const MOST: usize = 1000;

/// A body key that holds steps, and what goes with it.
pub(super) struct StepList {
    /// The body key.
    pub(super) key: &'static str,
    /// The verbs that take it.
    verbs: &'static [Verb],
    /// Its microversion.
    since: u16,
    /// Deploy steps have a priority and must name their interface and arguments; the others have an order.
    deploys: bool,
}

/// All of them, in the order in which they are checked.
pub(super) const LISTS: &[StepList] = &[
    StepList { key: "clean_steps", verbs: &[Verb::Clean], since: 1, deploys: false },
    StepList {
        key: "deploy_steps",
        verbs: &[Verb::Active, Verb::Deploy, Verb::Rebuild],
        since: DEPLOY_STEPS,
        deploys: true,
    },
    StepList { key: "service_steps", verbs: &[Verb::Service], since: SERVICE_STEPS, deploys: false },
];

/// The steps that the body asks for; empty where `verb` takes none.
pub(super) fn of_body(
    body: &Map<String, Value>,
    verb: Verb,
    version: Version,
    settings: &WebSettings,
) -> Result<Vec<Asked>> {
    let mut asked = Vec::new();
    for list in LISTS {
        let goes = list.verbs.contains(&verb);
        let Some(steps) = body.get(list.key) else {
            if goes && !list.deploys && !body.contains_key("runbook") {
                return Err(required(list.key, verb));
            }
            continue;
        };
        if !goes {
            let others = list.verbs.iter().filter(|verb| **verb != Verb::Deploy);
            let verbs: Vec<&str> = others.map(|verb| verb.as_str()).collect();
            if steps.as_array().is_some_and(Vec::is_empty) {
                continue;
            }
            return Err(ApiError::bad_request(format!(
                "\"{}\" is only valid when setting target provision state to {}",
                list.key,
                verbs.join(" or ")
            )));
        }
        if !version.has(list.since) {
            return Err(ApiError::too_new(&format!("'{}'", list.key), list.since, version));
        }
        asked = list.read(steps, version)?;
        if asked.is_empty() && !list.deploys && !body.contains_key("runbook") {
            return Err(required(list.key, verb));
        }
        allowed(&asked, list.key, verb, settings)?;
    }
    Ok(asked)
}

fn required(key: &str, verb: Verb) -> ApiError {
    ApiError::bad_request(format!(
        "\"{key}\" is required when setting target provision state to {verb}: a list of steps, or the name of a runbook in \
         'runbook'."
    ))
}

/// Refuses steps that `[api] disallow_clean_steps`, `disallow_deploy_steps` and `disallow_service_steps` name.
/// `place` is where they stand, for the client.
pub(super) fn allowed(steps: &[Asked], place: &str, verb: Verb, settings: &WebSettings) -> Result<()> {
    let (option, forbidden) = match verb {
        Verb::Clean => ("disallow_clean_steps", &settings.disallow_clean_steps),
        Verb::Service => ("disallow_service_steps", &settings.disallow_service_steps),
        Verb::Active | Verb::Deploy | Verb::Rebuild => {
            ("disallow_deploy_steps", &settings.disallow_deploy_steps)
        }
        Verb::Manage
        | Verb::Provide
        | Verb::Inspect
        | Verb::Deleted
        | Verb::Undeploy
        | Verb::Adopt
        | Verb::Rescue
        | Verb::Unrescue
        | Verb::Abort
        | Verb::Unhold => return Ok(()),
    };
    let named = |step: &&Asked| {
        forbidden.iter().any(|name| {
            name.split_once('.') == Some((step.interface.as_str(), step.step.as_str())) || *name == step.step
        })
    };
    match steps.iter().find(named) {
        Some(step) => {
            let kind = option.trim_start_matches("disallow_").trim_end_matches("_steps");
            Err(ApiError::bad_request(format!(
                "{kind} step '{}.{}' is not allowed. Disallowed by operator configuration [api]{option}. It stands in \
                 {place}.",
                step.interface, step.step
            )))
        }
        None => Ok(()),
    }
}

/// Steps as they stand in a runbook or a deploy template, which were checked when they were stored; those of a runbook
/// in their `order`.
pub(super) fn of_store(steps: &[Value]) -> Result<Vec<Asked>> {
    let mut sorted: Vec<&Value> = steps.iter().collect();
    sorted.sort_by_key(|step| step.get("order").and_then(Value::as_i64).unwrap_or(0));
    let read = |step: &Value| {
        serde_json::from_value(step.clone())
            .map(own)
            .map_err(|_| ApiError::internal("a stored step is not of the form of a step"))
    };
    sorted.into_iter().map(read).collect()
}

/// A step that the conductor itself runs has no interface, whatever the client wrote.
fn own(mut step: Asked) -> Asked {
    if step.step.parse::<Reserved>().is_ok() {
        step.interface.clear();
    }
    step
}

impl StepList {
    fn read(&self, steps: &Value, version: Version) -> Result<Vec<Asked>> {
        let Some(steps) = steps.as_array() else {
            let given = steps.as_str().map_or_else(|| shown(steps), |text| text.chars().take(64).collect());
            return Err(ApiError::bad_request(format!(
                "Expected types <class 'NoneType'>, <class 'list'> for {}: {given}. A list of steps is such as \
                 [{{\"interface\": \"deploy\", \"step\": \"erase_devices\"}}].",
                self.key
            )));
        };
        if steps.len() > MOST {
            return Err(ApiError::bad_request(format!(
                "'{}' has {} steps; at most {MOST} are taken.",
                self.key,
                steps.len()
            )));
        }
        let read = |(at, step)| {
            self.step(step, version).map_err(|fault| match fault {
                Fault::Form(why) => {
                    ApiError::bad_request(format!("Invalid {}: {why} (in {}[{at}])", self.key, self.key))
                }
                Fault::TooNew(key) => {
                    ApiError::too_new(&format!("'{key}' in {}[{at}]", self.key), CHILD_STEPS, version)
                }
            })
        };
        let asked: Vec<Asked> = steps.iter().enumerate().map(read).collect::<Result<_>>()?;
        let orders: Vec<u64> =
            steps.iter().filter_map(|step| step.get("order").and_then(Value::as_u64)).collect();
        if !orders.is_sorted() {
            return Err(ApiError::bad_request(format!(
                "The steps of '{}' run in the order in which they stand, and their 'order' says otherwise: sort them \
                 by it, or leave it out.",
                self.key
            )));
        }
        Ok(asked)
    }

    fn keys(&self) -> &'static [&'static str] {
        if self.deploys {
            &["interface", "step", "args", "priority", "execute_on_child_nodes", "limit_child_node_execution"]
        } else {
            &["interface", "step", "args", "order", "execute_on_child_nodes", "limit_child_node_execution"]
        }
    }

    fn step(&self, step: &Value, version: Version) -> std::result::Result<Asked, Fault> {
        let step = step.as_object().ok_or_else(|| Fault::form("expected an object"))?;
        if let Some(strange) = step.keys().find(|name| !self.keys().contains(&name.as_str())) {
            return Err(Fault::Form(format!(
                "Additional properties are not allowed ('{strange}' was unexpected); a step has {}",
                self.keys().join(", ")
            )));
        }
        let late = ["execute_on_child_nodes", "limit_child_node_execution"];
        if let Some(key) = late.into_iter().find(|key| step.contains_key(*key))
            && !version.has(CHILD_STEPS)
        {
            return Err(Fault::TooNew(key));
        }
        let name = match step.get("step") {
            Some(Value::String(name)) if !name.is_empty() => name.clone(),
            Some(_) => return Err(Fault::form("expected the name of the step in 'step'")),
            None => return Err(Fault::form("'step' is a required property: the name of the step")),
        };
        let args = match step.get("args") {
            Some(Value::Object(args)) => args.clone(),
            Some(other) => {
                return Err(Fault::Form(format!(
                    "{} is not of type 'object': the 'args' of {name}",
                    shown(other)
                )));
            }
            None if self.deploys => {
                return Err(Fault::Form(format!(
                    "'args' is a required property of {name}; {{}} is for none"
                )));
            }
            None => Map::new(),
        };
        let asked = Asked {
            interface: self.interface(step, &name)?,
            priority: self.priority(step, &name)?,
            execute_on_child_nodes: flag(step, "execute_on_child_nodes")?,
            limit_child_node_execution: children(step)?,
            step: name,
            args,
        };
        if !asked.execute_on_child_nodes && !asked.limit_child_node_execution.is_empty() {
            return Err(Fault::form(
                "'limit_child_node_execution' chooses among the child nodes; set 'execute_on_child_nodes' to true, \
                 without it the step runs on the node itself",
            ));
        }
        whole(step, "order")?;
        reserved(&asked)?;
        Ok(own(asked))
    }

    fn interface(&self, step: &Map<String, Value>, name: &str) -> std::result::Result<String, Fault> {
        let serves = self.key == "service_steps";
        let choices = || {
            let mut all = INTERFACES.to_vec();
            all.extend(serves.then_some("network"));
            all.join(", ")
        };
        match step.get("interface") {
            Some(Value::String(interface))
                if INTERFACES.contains(&interface.as_str()) || serves && interface == "network" =>
            {
                Ok(interface.clone())
            }
            Some(Value::String(interface)) => {
                let shown: String = interface.chars().take(64).collect();
                let all: Vec<String> = choices().split(", ").map(|one| format!("'{one}'")).collect();
                Err(Fault::Form(format!("'{shown}' is not one of [{}]", all.join(", "))))
            }
            Some(_) => Err(Fault::Form(format!("expected a string in the 'interface' of {name}"))),
            None if !self.deploys && name.parse::<Reserved>().is_ok() => Ok(String::new()),
            None => {
                let own: Vec<&str> = Reserved::ALL.iter().map(|step| step.as_str()).collect();
                let except = if self.deploys {
                    String::new()
                } else {
                    format!(" (only {} need none)", own.join(", "))
                };
                Err(Fault::Form(format!(
                    "'interface' is a required property of {name}: one of {}{except}",
                    choices()
                )))
            }
        }
    }

    fn priority(&self, step: &Map<String, Value>, name: &str) -> std::result::Result<Option<i32>, Fault> {
        let priority = whole(step, "priority")?;
        if self.deploys && priority.is_none() {
            return Err(Fault::Form(format!(
                "'priority' is a required property of {name}: a whole number, higher runs first, 0 leaves the step out"
            )));
        }
        Ok(priority)
    }
}

/// Why a step is refused.
enum Fault {
    /// In these words.
    Form(String),
    /// This key is newer than the version.
    TooNew(&'static str),
}

impl Fault {
    fn form(why: &str) -> Fault {
        Fault::Form(why.to_owned())
    }
}

fn whole(step: &Map<String, Value>, key: &str) -> std::result::Result<Option<i32>, Fault> {
    let Some(value) = step.get(key) else { return Ok(None) };
    let number = value.as_u64().and_then(|number| i32::try_from(number).ok());
    number
        .map(Some)
        .ok_or_else(|| Fault::Form(format!("expected a whole number from 0 to {} in '{key}'", i32::MAX)))
}

fn flag(step: &Map<String, Value>, key: &str) -> std::result::Result<bool, Fault> {
    match step.get(key) {
        None => Ok(false),
        Some(Value::Bool(is)) => Ok(*is),
        Some(_) => Err(Fault::Form(format!("expected true or false in '{key}'"))),
    }
}

fn children(step: &Map<String, Value>) -> std::result::Result<Vec<String>, Fault> {
    let wrong = || Fault::form("expected a list of node UUIDs in 'limit_child_node_execution'");
    match step.get("limit_child_node_execution") {
        None => Ok(Vec::new()),
        Some(Value::Array(all)) => {
            let text = |one: &Value| one.as_str().map(str::to_owned).filter(|id| !id.is_empty());
            all.iter().map(|one| text(one).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// What the conductor's own steps take: only `wait` has an argument.
fn reserved(step: &Asked) -> std::result::Result<(), Fault> {
    let Ok(own) = step.step.parse::<Reserved>() else { return Ok(()) };
    let takes: &[&str] = match own {
        Reserved::Wait => &["seconds"],
        Reserved::Hold | Reserved::PowerOn | Reserved::PowerOff | Reserved::Reboot => &[],
    };
    if let Some(strange) = step.args.keys().find(|key| !takes.contains(&key.as_str())) {
        let takes =
            if takes.is_empty() { "none".to_owned() } else { format!("'{}' only", takes.join("', '")) };
        return Err(Fault::Form(format!("the step {own} has no argument '{strange}'; it takes {takes}")));
    }
    match step.args.get("seconds") {
        None => Ok(()),
        Some(seconds) if seconds.as_u64().is_some_and(|seconds| seconds <= 86_400) => Ok(()),
        Some(_) => Err(Fault::form(
            "'seconds' of the step wait must be a whole number from 0 to 86400 (a day); without it the step waits for \
             the next heartbeat",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value, verb: Verb, minor: u16) -> std::result::Result<Vec<Asked>, String> {
        let body = body.as_object().cloned().expect("an object");
        of_body(&body, verb, Version(minor), &WebSettings::default()).map_err(|error| error.to_string())
    }

    fn clean(step: Value) -> std::result::Result<Asked, String> {
        read(json!({"clean_steps": [step]}), Verb::Clean, 115).map(|mut all| all.remove(0))
    }

    fn deploy(step: Value) -> std::result::Result<Asked, String> {
        read(json!({"deploy_steps": [step]}), Verb::Active, 115).map(|mut all| all.remove(0))
    }

    #[test]
    fn steps_are_read_with_all_that_they_say() {
        let asked = deploy(json!({
            "interface": "bios", "step": "apply_configuration", "args": {"settings": []}, "priority": 150,
        }))
        .expect("a step");
        assert_eq!((asked.interface.as_str(), asked.priority), ("bios", Some(150)));
        let asked = clean(json!({
            "interface": "power", "step": "power_off", "execute_on_child_nodes": true,
            "limit_child_node_execution": ["f96c8601-0a62-4e99-97d6-1e0d8daf6dce"],
        }))
        .expect("a step");
        assert_eq!(asked.interface, "", "the conductor's own steps have no interface");
        assert_eq!(asked.limit_child_node_execution.len(), 1);
    }

    #[test]
    fn a_refused_step_is_told_by_its_place_its_field_and_the_remedy() {
        for (step, words) in [
            (json!("x"), &["clean_steps[0]", "object"][..]),
            (
                json!({"step": "erase_devices"}),
                &["'interface' is a required property of erase_devices", "hold, wait, power_on"],
            ),
            (json!({"interface": "boot", "step": "x"}), &["'boot' is not one of", "'vendor', 'power'"]),
            (json!({"interface": 3, "step": "x"}), &["string", "'interface'"]),
            (json!({"interface": "raid"}), &["'step' is a required property"]),
            (json!({"interface": "raid", "step": ""}), &["'step'"]),
            (json!({"interface": "raid", "step": "x", "args": []}), &["'args' of x"]),
            (
                json!({"interface": "raid", "step": "x", "priority": 3}),
                &["('priority' was unexpected)", "order"],
            ),
            (json!({"interface": "raid", "step": "x", "order": -1}), &["'order'", "whole number"]),
            (json!({"interface": "network", "step": "x"}), &["'network'"]),
            (
                json!({"interface": "vendor", "step": "send_raw"}),
                &["vendor.send_raw", "disallow_clean_steps"],
            ),
            (json!({"interface": "raid", "step": "x", "execute_on_child_nodes": "y"}), &["true or false"]),
            (json!({"interface": "raid", "step": "x", "limit_child_node_execution": "y"}), &["list of node"]),
            (json!({"step": "reboot", "limit_child_node_execution": ["c"]}), &["'execute_on_child_nodes'"]),
            (json!({"step": "wait", "args": {"seconds": "3"}}), &["'seconds'", "86400"]),
            (json!({"step": "hold", "args": {"for": 3}}), &["hold", "'for'", "none"]),
        ] {
            let told = clean(step.clone()).expect_err("refused");
            for word in words {
                assert!(told.contains(word), "{step}: {told}");
            }
        }
    }

    #[test]
    fn deploy_steps_need_everything() {
        let whole = json!({"interface": "deploy", "step": "x", "args": {}, "priority": 0});
        deploy(whole.clone()).expect("a step");
        for key in ["interface", "step", "args", "priority"] {
            let mut lacks = whole.clone();
            lacks.as_object_mut().expect("an object").remove(key);
            assert!(deploy(lacks).is_err_and(|told| told.contains(&format!("'{key}'"))), "{key}");
        }
        for bad in [json!(-1), json!(1.5), json!(true), json!("1"), json!(4_000_000_000_u64)] {
            let mut step = whole.clone();
            step["priority"] = bad;
            assert!(deploy(step).is_err_and(|told| told.contains("'priority'")));
        }
    }

    #[test]
    fn lists_go_with_their_verbs_and_versions() {
        assert!(
            read(json!({}), Verb::Clean, 115).is_err_and(|told| told.contains("\"clean_steps\" is required"))
        );
        assert_eq!(read(json!({"runbook": "r"}), Verb::Clean, 115), Ok(vec![]));
        assert_eq!(read(json!({}), Verb::Active, 115), Ok(vec![]));
        assert!(
            read(json!({"clean_steps": [{}]}), Verb::Active, 115)
                .is_err_and(|told| told.ends_with("to clean"))
        );
        assert!(
            read(json!({"deploy_steps": []}), Verb::Rebuild, 68).is_err_and(|told| told.contains("1.69"))
        );
        assert!(
            read(json!({"service_steps": []}), Verb::Service, 86).is_err_and(|told| told.contains("1.87"))
        );
        let network = json!({"service_steps": [{"interface": "network", "step": "x"}]});
        assert!(read(network, Verb::Service, 87).is_ok());
        let child = json!({"clean_steps": [{"step": "reboot", "execute_on_child_nodes": true}]});
        assert!(read(child.clone(), Verb::Clean, 82).is_err_and(|told| told.contains("1.83")));
        assert!(read(child, Verb::Clean, 83).is_ok());
        let ordered = |first: u8, second: u8| json!({"clean_steps": [{"step": "reboot", "order": first}, {"step": "hold", "order": second}]});
        assert!(read(ordered(1, 1), Verb::Clean, 115).is_ok());
        assert!(read(ordered(2, 1), Verb::Clean, 115).is_err_and(|told| told.contains("'order'")));
        let many = vec![json!({"step": "reboot"}); MOST + 1];
        assert!(
            read(json!({"clean_steps": many}), Verb::Clean, 115).is_err_and(|told| told.contains("1001"))
        );
    }

    #[test]
    fn stored_steps_come_in_their_order() {
        let stored = [
            json!({"interface": "raid", "step": "create", "args": {"a": 1}, "order": 2}),
            json!({"interface": "power", "step": "reboot", "args": {}, "order": 1}),
        ];
        let steps = of_store(&stored).expect("steps");
        assert_eq!(steps.iter().map(|s| s.step.as_str()).collect::<Vec<_>>(), ["reboot", "create"]);
        assert_eq!((steps[0].interface.as_str(), steps[1].args["a"].as_i64()), ("", Some(1)));
    }
}
