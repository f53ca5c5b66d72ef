//! The policies are asked what Ironic's own engine was asked (`tests/keystone/policy_oracle.py`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

fn text(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().map(str::to_owned)
}

fn identity(caller: &Value) -> Identity {
    Identity {
        project_id: text(caller, "project_id"),
        project_name: text(caller, "project_name"),
        project_domain_id: text(caller, "project_domain_id"),
        domain_id: text(caller, "domain_id"),
        system_scope: text(caller, "system_scope"),
        is_admin_project: caller["is_admin_project"].as_bool().unwrap_or(true),
        is_public_api: caller["is_public_api"].as_bool().unwrap_or(false),
        roles: caller["roles"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        ..Identity::default()
    }
}

#[test]
fn every_rule_answers_every_caller_as_ironic_does() {
    let oracle: Value = serde_json::from_str(include_str!("oracle.json")).expect("JSON");
    let object = |key: &str| oracle[key].as_object().expect("an object").clone();
    let (callers, targets, rows) = (object("callers"), object("targets"), object("rows"));
    let mut asked = 0;
    let mut wrong = Vec::new();
    for rule in Rule::ALL {
        let Some(answers) = rows.get(rule.as_str()) else {
            assert!(rule.as_str().starts_with("ferric:"), "{} is no rule of Ironic's", rule.as_str());
            continue;
        };
        let mut answers = answers.as_str().expect("text").bytes();
        for elevated in [None, Some("service".to_owned())] {
            let policy = Policy::load(None, elevated.clone()).expect("the table");
            for (name, caller) in &callers {
                let identity = identity(caller);
                for (what, target) in &targets {
                    let target =
                        Target { owner: target["owner"].as_str(), lessee: target["lessee"].as_str() };
                    let expected = answers.next().expect("an answer for each") == b'1';
                    asked += 1;
                    if policy.allows(*rule, &identity, target) != expected {
                        wrong.push(format!(
                            "{}: {name} with {what}, elevated {elevated:?}: {expected}",
                            rule.as_str()
                        ));
                    }
                }
            }
        }
        assert_eq!(answers.next(), None, "{}", rule.as_str());
    }
    assert!(wrong.is_empty(), "of {asked}: {wrong:#?}");
    assert!(asked > 20_000, "{asked}");
    let known: Vec<&str> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    let missing: Vec<&String> = rows.keys().filter(|name| !known.contains(&name.as_str())).collect();
    let personas: Vec<&str> = table::PERSONAS.iter().map(|(name, _)| *name).collect();
    assert!(missing.iter().all(|name| personas.contains(&name.as_str())), "{missing:?}");
}

#[test]
fn who_has_no_project_owns_nothing() {
    let policy = Policy::load(None, None).expect("the table");
    let nobody = Identity { roles: ["admin".to_owned()].into(), ..Identity::default() };
    for rule in [Rule::NodeGet, Rule::NodeDeleteSelfOwnedNode, Rule::PortCreate] {
        assert!(!policy.allows(rule, &nobody, Target::NONE), "{}", rule.as_str());
    }
}

#[test]
fn a_file_overrides_rows_of_the_table_and_personas_in_them() {
    let overrides = BTreeMap::from([
        ("baremetal:node:get".to_owned(), "rule:mine or 'p7':%(node.owner)s".to_owned()),
        ("mine".to_owned(), "role:auditor".to_owned()),
        ("service_role".to_owned(), "role:robot".to_owned()),
    ]);
    let policy = Policy::build(&overrides, None).expect("a policy");
    let with = |role: &str| Identity { roles: [role.to_owned()].into(), ..Identity::default() };
    assert!(policy.allows(Rule::NodeGet, &with("auditor"), Target::NONE));
    assert!(!policy.allows(Rule::NodeGet, &with("reader"), Target { owner: Some("p1"), lessee: None }));
    assert!(policy.allows(Rule::NodeGet, &with("reader"), Target { owner: Some("p7"), lessee: None }));
    assert!(policy.allows(Rule::ConductorGet, &with("robot"), Target::NONE));
    assert!(!policy.allows(Rule::ConductorGet, &with("auditor"), Target::NONE));
}
