use std::path::PathBuf;

use ferric_machine::{Event, State, TABLE, Verb, export};
use serde_json::Value;

/// docs/generated/ holds what the table says now. After a change: `UPDATE_GOLDEN=1 cargo nextest run -p ferric-machine`.
fn same_as_committed(name: &str, now: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "docs", "generated", name].iter().collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == now,
        "{} is not what the table says; run the tests with UPDATE_GOLDEN=1",
        path.display()
    );
}

#[test]
fn the_committed_diagram_is_current() {
    same_as_committed("machine.dot", &export::dot());
}

#[test]
fn the_committed_json_is_current() {
    same_as_committed("machine.json", &export::json());
}

#[test]
fn the_committed_page_is_current() {
    same_as_committed("machine.md", &export::markdown());
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is no list"))
}

#[test]
fn the_json_parses_and_holds_the_whole_machine() {
    let json: Value = serde_json::from_str(&export::json()).unwrap();
    assert_eq!(list(&json, "states").len(), State::ALL.len());
    assert_eq!(list(&json, "events").len(), Event::ALL.len());
    assert_eq!(list(&json, "verbs").len(), Verb::ALL.len());
    for (told, row) in list(&json, "transitions").iter().zip(TABLE) {
        assert_eq!((&told["from"], &told["on"]), (&row.from.as_str().into(), &row.on.as_str().into()));
        assert_eq!((&told["to"], &told["work"]), (&row.to.as_str().into(), &row.work.as_str().into()));
    }
    assert_eq!(list(&json, "transitions").len(), TABLE.len());
    let abort = list(&json, "verbs").iter().find(|verb| verb["name"] == "abort").unwrap();
    let in_wait = list(abort, "from").iter().find(|from| from["state"] == "inspect wait").unwrap();
    assert_eq!((&abort["minor"], &in_wait["minor"]), (&13.into(), &41.into()));
    let waits = list(&json, "states").iter().filter(|state| !state["deadline"].is_null());
    assert_eq!(waits.count(), 5);
}

#[test]
fn the_diagram_has_an_edge_per_transition_and_closes_its_braces() {
    let dot = export::dot();
    assert_eq!(dot.matches(" -> ").count(), TABLE.len());
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    for state in State::ALL {
        assert!(dot.contains(&format!("\"{state}\"")));
    }
}
