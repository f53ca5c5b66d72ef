//! Tables of conditions and actions.

use serde_json::json;

use super::*;
use crate::inspect::subject::Subject;

fn subject() -> Subject {
    let mut node = crate::boot::tests::node();
    node.name = Some("rack1-7".into());
    node.driver_info.insert("ipmi_address".into(), json!("10.0.0.7"));
    node.properties.insert("capabilities".into(), json!("boot_mode:uefi,x:1"));
    let args = json!({
        "inventory": {
            "cpu": {"count": 8, "architecture": "x86_64"},
            "memory": {"physical_mb": 65536},
            "bmc_address": "10.1.2.3",
            "system_vendor": {"manufacturer": "Dell Inc.", "serial_number": "AB{node.uuid}12"},
            "disks": [{"name": "/dev/sda", "size": 500}, {"name": "/dev/sdb", "size": 1000}],
            "secret": {"bmc_password": "geheim", "password": "geheim"}
        },
        "plugin_data": {"macs": [], "nothing": null},
        "node": {"extra": {"rack": "1"}, "traits": ["CUSTOM_OLD"], "resource_class": null},
        "ports": []
    });
    let Value::Object(args) = args else { panic!("an object") };
    Subject::new(&node, &args)
}

fn condition(op: &str, args: Value) -> std::result::Result<bool, String> {
    Operation::parse(&json!({"op": op, "args": args}), true)?.holds(&subject(), true)
}

#[test]
fn every_condition_decides() {
    for (op, args, expected) in [
        ("eq", json!({"values": ["{inventory[cpu][count]}", 8]}), true),
        ("eq", json!({"values": ["{inventory[cpu][count]}", "8"]}), true),
        ("eq", json!({"values": ["{inventory[cpu][count]}", 9]}), false),
        ("eq", json!({"values": [1, 1.0, 1]}), true),
        ("eq", json!(["{inventory[cpu][architecture]}", "x86_64"]), true),
        ("eq", json!([["a", "a"], true]), true),
        ("eq", json!({"values": [true, "True"]}), true),
        ("eq", json!({"values": ["1.0", "1"]}), false),
        ("!eq", json!({"values": [1, 2]}), true),
        (" ! eq ", json!({"values": [1, 1]}), false),
        ("ne", json!({"values": [1, 2]}), true),
        ("lt", json!({"values": ["{inventory[memory][physical_mb]}", 70000]}), true),
        ("lt", json!({"values": ["9", "10"]}), true),
        ("lt", json!({"values": ["9", "10"], "force_strings": true}), false),
        ("gt", json!({"values": [3, 2, 1]}), true),
        ("gt", json!({"values": [3, 2, 2]}), false),
        ("le", json!({"values": [1, 1, 2]}), true),
        ("ge", json!({"values": [1, 2]}), false),
        ("lt", json!({"values": ["apple", "pear"]}), true),
        ("is-empty", json!({"value": "{inventory[nowhere]}"}), true),
        ("is-empty", json!({"value": "{plugin_data[macs]}"}), true),
        ("is-empty", json!({"value": "{plugin_data[nothing]}"}), true),
        ("is-empty", json!({"value": "{inventory[cpu]}"}), false),
        ("is-none", json!({"value": "{plugin_data[nothing]}"}), true),
        ("is-none", json!({"value": "{inventory[cpu][count]}"}), false),
        ("is-true", json!({"value": "Yes"}), true),
        ("is-true", json!({"value": 1}), true),
        ("is-true", json!({"value": "1"}), false),
        ("is-false", json!({"value": "no"}), true),
        ("is-false", json!({"value": null}), true),
        ("is-false", json!({"value": 2}), false),
        ("in-net", json!({"address": "{inventory[bmc_address]}", "subnet": "10.1.0.0/16"}), true),
        ("in-net", json!(["{inventory[bmc_address]}", "10.2.0.0/16"]), false),
        ("in-net", json!({"address": "fd00::1", "subnet": "fd00::/64"}), true),
        ("in-net", json!({"address": "10.1.2.3", "subnet": "10.1.2.3"}), true),
        ("in-net", json!({"address": "{plugin_data[nothing]}", "subnet": "10.0.0.0/8"}), false),
        ("matches", json!({"value": "{inventory[system_vendor][manufacturer]}", "regex": "Dell.*"}), true),
        ("matches", json!({"value": "Dell Inc.", "regex": "Dell"}), false),
        ("matches", json!({"value": "x", "regex": "a|x"}), true),
        ("contains", json!({"value": "{inventory[system_vendor][manufacturer]}", "regex": "(?i)dell"}), true),
        ("contains", json!({"value": 65536, "regex": "^6\\d{3}"}), true),
        ("one-of", json!({"value": "{inventory[cpu][count]}", "values": [4, 8]}), true),
        ("one-of", json!({"value": "a", "values": ["b"]}), false),
        ("one-of", json!({"value": "a"}), false),
        ("eq", json!({"values": ["{node.name}", "rack1-7"]}), true),
        ("eq", json!({"values": ["{node.driver_info[ipmi_address]}", "10.0.0.7"]}), true),
        ("eq", json!({"values": ["{{literal}}", "{literal}"]}), true),
        (
            "eq",
            json!({"values": ["{inventory[disks][1][name]}:{inventory[cpu][count]}", "/dev/sdb:8"]}),
            true,
        ),
    ] {
        assert_eq!(condition(op, args.clone()), Ok(expected), "{op} {args}");
    }
    for (op, args) in [
        ("lt", json!({"values": ["a", 1]})),
        ("lt", json!({"values": "abc"})),
        ("in-net", json!({"address": "10.0.0.1", "subnet": "everywhere"})),
    ] {
        condition(op, args.clone()).expect_err(&format!("{op} {args}"));
    }
}

#[test]
fn loops_count_any_all_first_or_last() {
    for (multiple, sizes, expected) in [
        ("any", json!([1, 500]), true),
        ("any", json!([1, 2]), false),
        ("all", json!([500, 500]), true),
        ("all", json!([500, 1]), false),
        ("first", json!([1, 500]), true),
        ("first", json!([1, 2]), false),
        ("last", json!([1, 500]), true),
        ("last", json!([500, 1]), false),
    ] {
        let operation = json!({"op": "eq", "multiple": multiple, "loop": sizes,
            "args": {"values": ["{item}", "{inventory[disks][0][size]}"]}});
        let holds = Operation::parse(&operation, true).unwrap().holds(&subject(), true);
        assert_eq!(holds, Ok(expected), "{multiple} {sizes}");
    }
    let object =
        json!({"op": "eq", "loop": {"a": "{inventory[cpu][count]}"}, "args": {"values": ["{item[a]}", 8]}});
    assert_eq!(Operation::parse(&object, true).unwrap().holds(&subject(), true), Ok(true));
}

fn rule(actions: Value) -> Value {
    json!({"uuid": "r1", "conditions": [], "actions": actions})
}

fn run(rule: &Value, subject: &mut Subject) -> Result<()> {
    apply(&[Rule::from_value(rule).unwrap()], MaskSecrets::Always, subject)
}

#[test]
fn every_action_changes_what_it_names() {
    let mut subject = subject();
    let port = "52:54:00:e2:e0:01";
    run(
        &rule(json!([
            {"op": "set-attribute", "args": {"path": "/properties/memory_mb", "value": "{inventory[memory][physical_mb]}"}},
            {"op": "set-attribute", "args": ["extra/deep/er", {"list": ["{inventory[cpu][count]}"]}]},
            {"op": "set-attribute", "args": {"path": "resource_class", "value": "big"}},
            {"op": "extend-attribute", "args": {"path": "extra.seen", "value": "a", "unique": true}},
            {"op": "extend-attribute", "args": {"path": "extra.seen", "value": "a", "unique": true}},
            {"op": "extend-attribute", "args": {"path": "extra.seen", "value": "a"}},
            {"op": "del-attribute", "args": {"path": "extra/rack"}},
            {"op": "set-capability", "args": {"name": "x", "value": "{inventory[cpu][count]}"}},
            {"op": "unset-capability", "args": {"name": "boot_mode"}},
            {"op": "add-trait", "args": {"name": "CUSTOM_NEW"}},
            {"op": "add-trait", "args": ["CUSTOM_NEW"]},
            {"op": "remove-trait", "args": {"name": "CUSTOM_OLD"}},
            {"op": "set-plugin-data", "args": {"path": "a.b", "value": 1}},
            {"op": "extend-plugin-data", "args": {"path": "a.list", "value": 2}},
            {"op": "unset-plugin-data", "args": {"path": "nothing"}},
            {"op": "unset-plugin-data", "args": {"path": "not.there"}},
            {"op": "set-port-attribute", "args": {"port_id": port, "path": "extra/x", "value": "y"}},
            {"op": "set-port-attribute", "args": {"port_id": port, "path": "pxe_enabled", "value": "False"}},
            {"op": "set-port-attribute", "args": {"port_id": port, "path": "physical_network", "value": "net"}},
            {"op": "extend-port-attribute", "args": {"port_id": port, "path": "extra/l", "value": 1}},
            {"op": "del-port-attribute", "args": {"port_id": port, "path": "extra/x"}},
            {"op": "log", "args": {"msg": "{node.name}", "level": "Debug"}},
            {"op": "set-attribute", "args": {"path": "extra/{item[k]}", "value": "{item[v]}"},
             "loop": [{"k": "bmc", "v": "{inventory[bmc_address]}"}, {"k": "arch", "v": "{inventory[cpu][architecture]}"}]}
        ])),
        &mut subject,
    )
    .unwrap();
    assert_eq!(subject.node["properties"]["memory_mb"], "65536");
    assert_eq!(subject.node["properties"]["capabilities"], "x:8");
    assert_eq!(
        subject.node["extra"],
        json!({"deep": {"er": {"list": ["8"]}}, "seen": ["a", "a"], "bmc": "10.1.2.3", "arch": "x86_64"})
    );
    assert_eq!(subject.node["resource_class"], "big");
    assert_eq!(subject.node["traits"], json!(["CUSTOM_NEW"]));
    assert_eq!(subject.plugin_data, *json!({"macs": [], "a": {"b": 1, "list": [2]}}).as_object().unwrap());
    let port = &subject.ports[0];
    assert_eq!((port.pxe_enabled, port.physical_network.as_deref()), (false, Some("net")));
    assert_eq!(Value::Object(port.extra.clone()), json!({"l": [1]}));
}

#[test]
fn what_a_machine_sent_is_never_a_template() {
    let mut subject = subject();
    let serial = "{inventory[system_vendor][serial_number]}";
    run(
        &rule(json!([
            {"op": "set-attribute", "args": {"path": "extra/one", "value": serial}},
            {"op": "set-attribute", "args": {"path": "extra/two", "value": "{item}"}, "loop": [serial]}
        ])),
        &mut subject,
    )
    .unwrap();
    for key in ["one", "two"] {
        assert_eq!(subject.node["extra"][key], "AB{node.uuid}12", "{key}");
    }
}

#[test]
fn a_failing_rule_says_so_and_a_sensitive_one_keeps_its_secrets() {
    for (action, words) in [
        (
            json!({"op": "fail", "args": {"msg": "no {inventory[cpu][count]} cores"}}),
            "Failed to inspect hardware. Reason: no 8 cores",
        ),
        (json!({"op": "set-attribute", "args": {"path": "driver", "value": "x"}}), "driver"),
        (json!({"op": "set-attribute", "args": {"path": "description", "value": "x"}}), "was not given"),
        (json!({"op": "extend-attribute", "args": {"path": "extra/rack", "value": "x"}}), "no list"),
        (json!({"op": "del-attribute", "args": {"path": "extra/nowhere"}}), "not there"),
        (
            json!({"op": "set-port-attribute", "args": {"port_id": "p", "path": "extra", "value": {}}}),
            "Port p could not be found.",
        ),
        (
            json!({"op": "set-port-attribute", "args": {"port_id": "52:54:00:E2:E0:01", "path": "address", "value": "x"}}),
            "address",
        ),
    ] {
        let mut rule = rule(json!([action]));
        let error = run(&rule, &mut subject()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        rule["sensitive"] = json!(true);
        let error = run(&rule, &mut subject()).unwrap_err().to_string();
        assert_eq!(error, "Failed to inspect hardware. Reason: sensitive inspection rule r1 failed");
    }
}

#[test]
fn secrets_are_masked_unless_the_operator_lets_rules_see_them() {
    for (mask, sensitive, expected) in [
        (MaskSecrets::Always, true, "***"),
        (MaskSecrets::Sensitive, false, "***"),
        (MaskSecrets::Sensitive, true, "geheim"),
        (MaskSecrets::Never, false, "geheim"),
    ] {
        let mut subject = subject();
        let mut rule = rule(json!([
            {"op": "set-attribute", "args": {"path": "extra/p", "value": "{inventory[secret][bmc_password]}"}},
            {"op": "set-attribute", "args": {"path": "extra/q", "value": "{inventory[secret]}"}}
        ]));
        rule["sensitive"] = json!(sensitive);
        apply(&[Rule::from_value(&rule).unwrap()], mask, &mut subject).unwrap();
        assert_eq!(subject.node["extra"]["p"], expected, "{mask:?}");
        assert_eq!(subject.node["extra"]["q"]["password"], expected, "{mask:?}");
    }
}

#[test]
fn higher_priorities_go_first_and_conditions_must_all_hold() {
    let set = |uuid: &str, priority: i64, count: i64| {
        let rule = json!({"uuid": uuid, "priority": priority,
            "conditions": [
                {"op": "eq", "args": {"values": ["{inventory[cpu][count]}", 8]}},
                {"op": "eq", "args": {"values": [count, 1]}}
            ],
            "actions": [{"op": "extend-attribute", "args": {"path": "extra/order", "value": uuid}}]});
        Rule::from_value(&rule).unwrap()
    };
    let mut subject = subject();
    let rules = [set("low", 1, 1), set("high", 100, 1), set("never", 50, 2), set("low-too", 1, 1)];
    apply(&rules, MaskSecrets::Always, &mut subject).unwrap();
    assert_eq!(subject.node["extra"]["order"], json!(["high", "low", "low-too"]));
}

#[test]
fn a_rule_that_could_not_run_is_refused_when_it_comes() {
    let fine = json!({"actions": [{"op": "fail", "args": {"msg": "x"}}]});
    validate_rule(&fine).unwrap();
    let with = |key: &str, value: Value| {
        let mut rule = fine.clone();
        rule[key] = value;
        rule
    };
    let condition = |value: Value| with("conditions", json!([value]));
    let action = |value: Value| with("actions", json!([value]));
    for (rule, word) in [
        (json!([]), "object"),
        (with("actions", json!([])), "actions"),
        (with("priority", json!(-1)), "negative"),
        (with("priority", json!(10_000)), "9999"),
        (with("priority", json!("high")), "priority"),
        (with("phase", json!("early")), "phase"),
        (with("sensitive", json!("yes")), "sensitive"),
        (condition(json!({"op": "like", "args": {}})), "like"),
        (condition(json!({"op": "!!eq", "args": {"values": []}})), "exclamation"),
        (condition(json!({"op": "eq", "args": {}})), "values"),
        (condition(json!({"op": "eq", "args": {"values": [], "colour": 1}})), "colour"),
        (condition(json!({"op": "eq", "args": 7})), "list or dictionary"),
        (condition(json!({"op": "matches", "args": {"value": "x", "regex": "("}})), "regular expression"),
        (condition(json!({"op": "eq", "args": {"values": []}, "multiple": "some"})), "multiple"),
        (condition(json!({"op": "eq", "args": {"values": []}, "loop": 3})), "loop"),
        (action(json!({"op": "explode", "args": {}})), "explode"),
        (action(json!({"op": "!fail", "args": {"msg": "x"}})), "fail"),
        (action(json!({"op": "fail", "args": ["a", "b"]})), "too many"),
        (action(json!({"op": "log", "args": {"msg": "x", "level": "loud"}})), "loud"),
        (action(json!({"op": "api-call", "args": {"url": "http://x"}})), "not made"),
        (action(json!({"op": "fail", "args": {"msg": "x"}, "multiple": "any"})), "multiple"),
    ] {
        let error = validate_rule(&rule).expect_err(&rule.to_string()).to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn a_file_of_built_in_rules_is_read_as_yaml_and_as_json() {
    let yaml = "
- description: big ones
  priority: 20000
  conditions:
    - op: gt
      args: {values: [\"{inventory[cpu][count]}\", 4]}
  actions:
    - op: set-attribute
      args:
        path: extra/big
        value: true
- uuid: own
  actions: [{op: fail, args: {msg: x}}]
";
    let rules = parse_built_in(yaml).unwrap();
    assert_eq!(rules[0].uuid, "00000000-0000-0000-0000-000000000000");
    assert_eq!((rules[0].priority, rules[1].uuid.as_str()), (20_000, "own"));
    let mut subject = subject();
    apply(&rules[..1], MaskSecrets::Always, &mut subject).unwrap();
    assert_eq!(subject.node["extra"]["big"], true);
    assert_eq!(parse_built_in(r#"[{"actions": [{"op": "fail", "args": {"msg": "x"}}]}]"#).unwrap().len(), 1);
    for (text, word) in [("a: 1", "list"), ("- {actions: []}", "rule 1"), ("[", "")] {
        let error = parse_built_in(text).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}
