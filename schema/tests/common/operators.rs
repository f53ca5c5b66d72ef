//! The promises of the operator's own things: deploy templates, runbooks, inspection rules. Kept by both databases.

use ferric_machine::Timestamp;
use ferric_schema::{
    JsonList, JsonText, SortDir, Store, StoreError,
    rules::{self, Rule, RuleQuery, RuleSort},
    runbooks::{self, Runbook, RunbookQuery, RunbookSort},
    templates::{self, Template, TemplateQuery, TemplateSort},
};
use serde_json::json;
use uuid::Uuid;

use super::{T0, at, duplicate};

fn steps(names: &[&str]) -> JsonList {
    let all: Vec<_> = names
        .iter()
        .map(|name| json!({"interface": "deploy", "step": name, "args": {"a": [1, null]}, "priority": 10}))
        .collect();
    JsonList::from(all.as_slice())
}

fn template(name: &str, created: Timestamp) -> Template {
    Template { steps: steps(&["write", "boot"]), ..Template::new(Uuid::new_v4(), name, created) }
}

fn runbook(name: &str, owner: Option<&str>, public: bool) -> Runbook {
    Runbook {
        steps: steps(&["erase"]),
        owner: owner.map(str::to_owned),
        public,
        description: owner.map(|o| format!("of {o}")),
        ..Runbook::new(Uuid::new_v4(), name, T0)
    }
}

fn rule(priority: i32, phase: &str) -> Rule {
    Rule {
        priority,
        phase: phase.into(),
        conditions: JsonList::from(&[json!({"op": "eq", "args": {"values": [1, 1]}})][..]),
        actions: JsonList::from(&[json!({"op": "fail", "args": {"msg": "no"}})][..]),
        ..Rule::new(Uuid::new_v4(), T0)
    }
}

pub fn a_template_is_kept_changed_and_removed(s: Store) {
    let t = template("CUSTOM_A", T0);
    let id = t.uuid;
    let given = t.clone();
    let t = s.write_blocking(move |c| templates::insert(c, &given)).unwrap();
    assert!(t.id > 0);
    assert_eq!(s.read_blocking(|c| templates::get(c, id)).unwrap(), Some(t.clone()));
    assert_eq!(s.read_blocking(|c| templates::find(c, "CUSTOM_A")).unwrap().map(|t| t.uuid), Some(id));
    assert_eq!(s.read_blocking(|c| templates::find(c, &id.to_string())).unwrap().map(|t| t.uuid), Some(id));
    assert_eq!(t.steps.parse()[1]["step"], "boot");

    let twin = template("CUSTOM_A", T0);
    let e = s.write_blocking(move |c| templates::insert(c, &twin)).unwrap_err();
    assert_eq!(duplicate(e), ("name", "CUSTOM_A".into()));
    let other = template("CUSTOM_B", T0);
    let other = s.write_blocking(move |c| templates::insert(c, &other)).unwrap();
    let named = Template { name: "CUSTOM_A".into(), ..other };
    let e = s.write_blocking(move |c| templates::update(c, &named, at(1))).unwrap_err();
    assert_eq!(duplicate(e), ("name", "CUSTOM_A".into()));

    let extra = JsonText::from(json!({"k": 1}).as_object().unwrap());
    let next = Template { name: "CUSTOM_C".into(), steps: steps(&["one"]), extra, ..t.clone() };
    let done = s.write_blocking(move |c| templates::update(c, &next, at(1))).unwrap();
    assert_eq!((done.generation, done.updated_at), (1, Some(at(1))));
    assert_eq!(s.read_blocking(|c| templates::get(c, id)).unwrap(), Some(done));
    let e = s.write_blocking(move |c| templates::update(c, &t, at(2))).unwrap_err();
    assert!(matches!(e, StoreError::Stale { what: "deploy template", .. }), "{e:?}");
    s.write_blocking(move |c| templates::delete(c, id)).unwrap();
    let e = s.write_blocking(move |c| templates::delete(c, id)).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}

pub fn templates_are_found_by_traits_and_paged(s: Store) {
    for (i, name) in ["CUSTOM_C", "CUSTOM_A", "CUSTOM_B", "HW_X"].into_iter().enumerate() {
        let t = template(name, at(i64::try_from(i).unwrap()));
        s.write_blocking(move |c| templates::insert(c, &t)).unwrap();
    }
    let wanted = ["CUSTOM_C", "CUSTOM_Z", "CUSTOM_A"].map(str::to_owned);
    let found = s.read_blocking(move |c| templates::templates_for_traits(c, &wanted)).unwrap();
    assert_eq!(found.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["CUSTOM_A", "CUSTOM_C"]);
    assert!(s.read_blocking(|c| templates::templates_for_traits(c, &[])).unwrap().is_empty());
    for &sort_key in TemplateSort::ALL {
        for sort_dir in [SortDir::Asc, SortDir::Desc] {
            let page = |q: TemplateQuery| s.read_blocking(move |c| templates::list(c, &q)).unwrap();
            let all = page(TemplateQuery { sort_key, sort_dir, ..TemplateQuery::default() });
            let (mut seen, mut marker) = (Vec::new(), None);
            loop {
                let part = page(TemplateQuery { sort_key, sort_dir, limit: Some(3), marker });
                let Some(last) = part.last() else { break };
                marker = Some(last.uuid);
                seen.extend(part);
            }
            assert_eq!((seen.len(), &seen), (4, &all), "{sort_key:?} {sort_dir:?}");
            assert_eq!(TemplateSort::from_name(sort_key.as_str()), Some(sort_key));
        }
    }
    let q = TemplateQuery { marker: Some(Uuid::new_v4()), ..TemplateQuery::default() };
    let e = s.read_blocking(move |c| templates::list(c, &q)).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}

pub fn runbooks_are_seen_by_their_project(s: Store) {
    let all = [runbook("r1", Some("p"), false), runbook("r2", None, true), runbook("r3", Some("q"), false)];
    for r in all.clone() {
        s.write_blocking(move |c| runbooks::insert(c, &r)).unwrap();
    }
    let names = |q: RunbookQuery| -> Vec<String> {
        s.read_blocking(move |c| runbooks::list(c, &q)).unwrap().into_iter().map(|r| r.name).collect()
    };
    assert_eq!(names(RunbookQuery::default()), ["r1", "r2", "r3"]);
    assert_eq!(names(RunbookQuery { project: Some("p".into()), ..RunbookQuery::default() }), ["r1", "r2"]);
    for &sort_key in RunbookSort::ALL {
        let whole = names(RunbookQuery { sort_key, ..RunbookQuery::default() });
        let (mut seen, mut marker) = (Vec::new(), None);
        while seen.len() < 3 {
            let q = RunbookQuery { sort_key, limit: Some(1), marker, ..RunbookQuery::default() };
            let part = s.read_blocking(move |c| runbooks::list(c, &q)).unwrap();
            assert!(!part.is_empty(), "{sort_key:?} stops after {seen:?}");
            marker = Some(part[0].uuid);
            seen.push(part[0].name.clone());
        }
        assert_eq!(seen, whole, "{sort_key:?}");
    }
    let twin = runbook("r1", None, false);
    let e = s.write_blocking(move |c| runbooks::insert(c, &twin)).unwrap_err();
    assert_eq!(duplicate(e), ("name", "r1".into()));
    let r = s.read_blocking(|c| runbooks::find(c, "r3")).unwrap().unwrap();
    let next = Runbook { owner: None, public: true, disable_ramdisk: true, description: None, ..r };
    let done = s.write_blocking(move |c| runbooks::update(c, &next, at(1))).unwrap();
    assert_eq!(s.read_blocking(|c| runbooks::find(c, "r3")).unwrap(), Some(done));
}

pub fn a_runbook_has_its_set_of_traits(s: Store) {
    let (a, b) = (runbook("a", None, false), runbook("b", None, false));
    let (a_id, b_id) = (a.uuid, b.uuid);
    s.write_blocking(move |c| runbooks::insert(c, &a).and_then(|_| runbooks::insert(c, &b))).unwrap();
    let names = ["CUSTOM_B", "CUSTOM_A", "CUSTOM_B"].map(str::to_owned);
    s.write_blocking(move |c| runbooks::set_traits(c, a_id, &names)).unwrap();
    s.write_blocking(move |c| runbooks::add_trait(c, b_id, "CUSTOM_X")).unwrap();
    let add = |name: &'static str| s.write_blocking(move |c| runbooks::add_trait(c, a_id, name)).unwrap();
    let remove =
        |name: &'static str| s.write_blocking(move |c| runbooks::remove_trait(c, a_id, name)).unwrap();
    assert_eq!((add("CUSTOM_C"), add("CUSTOM_C")), (true, false));
    assert_eq!((remove("CUSTOM_B"), remove("CUSTOM_B")), (true, false));
    assert_eq!(s.read_blocking(|c| runbooks::traits(c, a_id)).unwrap(), ["CUSTOM_A", "CUSTOM_C"]);
    let many = s.read_blocking(|c| runbooks::traits_of(c, &[a_id, b_id])).unwrap();
    assert_eq!((many[&a_id].len(), many[&b_id].as_slice()), (2, &["CUSTOM_X".to_owned()][..]));
    s.write_blocking(move |c| runbooks::delete(c, a_id)).unwrap();
    assert!(s.read_blocking(|c| runbooks::traits(c, a_id)).unwrap().is_empty());
    let e = s.write_blocking(move |c| runbooks::add_trait(c, a_id, "CUSTOM_A")).unwrap_err();
    assert!(matches!(e, StoreError::NotFound { .. }), "{e:?}");
}

pub fn rules_run_by_priority_and_go_together(s: Store) {
    let all = [rule(0, "main"), rule(9999, "main"), rule(5, "late"), rule(9999, "main")];
    let ids = all.clone().map(|r| r.uuid);
    for r in all {
        s.write_blocking(move |c| rules::insert(c, &r)).unwrap();
    }
    let order = s.read_blocking(|c| rules::in_order(c, "main")).unwrap();
    assert_eq!(order.iter().map(|r| r.uuid).collect::<Vec<_>>(), [ids[1], ids[3], ids[0]]);
    let q = RuleQuery { phase: Some("late".into()), ..RuleQuery::default() };
    assert_eq!(s.read_blocking(move |c| rules::list(c, &q)).unwrap()[0].uuid, ids[2]);
    for &sort_key in RuleSort::ALL {
        for sort_dir in [SortDir::Asc, SortDir::Desc] {
            let page = |q: RuleQuery| s.read_blocking(move |c| rules::list(c, &q)).unwrap();
            let whole = page(RuleQuery { sort_key, sort_dir, ..RuleQuery::default() });
            let marker = Some(whole[1].uuid);
            let rest = page(RuleQuery { sort_key, sort_dir, marker, ..RuleQuery::default() });
            assert_eq!(rest, whole[2..], "{sort_key:?} {sort_dir:?}");
        }
    }
    let mut r = order[2].clone();
    (r.sensitive, r.description, r.actions) = (true, Some("d".into()), JsonList::default());
    let done = s.write_blocking(move |c| rules::update(c, &r, at(1))).unwrap();
    assert_eq!(s.read_blocking(|c| rules::get(c, ids[0])).unwrap(), Some(done));
    let twin = Rule { uuid: ids[0], ..rule(1, "main") };
    let e = s.write_blocking(move |c| rules::insert(c, &twin)).unwrap_err();
    assert_eq!(duplicate(e).0, "uuid");
    s.write_blocking(move |c| rules::delete(c, ids[0])).unwrap();
    assert_eq!(s.write_blocking(rules::delete_all).unwrap(), 3);
    assert!(s.read_blocking(|c| rules::in_order(c, "main")).unwrap().is_empty());
}
