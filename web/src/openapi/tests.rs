use std::collections::HashSet;

use super::*;
use crate::gates::Field;

fn of(minor: u16) -> Value {
    let about =
        About { base: "http://h:6385", version: Version(minor), max: Version::MAX, scheme: Scheme::Nothing };
    document(&about)
}

#[test]
fn every_operation_is_described_and_has_a_name_of_its_own() {
    let document = of(Version::MAX.0);
    let mut ids = HashSet::new();
    for row in OPERATIONS {
        for method in methods(row.method) {
            let operation = &document["paths"][public_path(row.path)][method];
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {}", row.path));
            assert!(ids.insert(id.to_owned()), "{id} twice");
            assert!(operation["responses"].as_object().is_some_and(|all| all.len() > 2), "{id}");
        }
    }
}

#[test]
fn a_full_disk_and_a_protocol_that_is_not_there_stand_where_they_can_arise() {
    let document = of(Version::MAX.0);
    let has = |method: &str, path: &str, status: &str| {
        document["paths"][path][method]["responses"].get(status).is_some()
    };
    assert!(has("post", "/v1/nodes", "507"));
    assert!(!has("get", "/v1/nodes", "507"));
    assert!(has("put", "/v1/nodes/{ident}/management/boot_device", "501"));
    assert!(!has("patch", "/v1/nodes/{ident}", "501"));
    assert!(!has("delete", "/v1/ports/{ident}", "501"));
}

#[test]
fn every_named_shape_is_written_out() {
    let named = |shape| if let Shape::Named(name) = shape { Some(name) } else { None };
    let names = OPERATIONS.iter().flat_map(|row| [row.takes, row.gives]).filter_map(named);
    let missing: HashSet<_> = names.filter(|name| shapes::named(name, Version::MAX).is_none()).collect();
    assert!(missing.is_empty(), "web/src/openapi/{{shapes,hardware}}.rs lack {missing:?}");
}

#[test]
fn every_field_has_values() {
    assert_eq!(fields::undescribed(), []);
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, document: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
                }
                map.values().for_each(|inner| walk(inner, document));
            }
            Value::Array(items) => items.iter().for_each(|inner| walk(inner, document)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for minor in [1, 31, 61, 92, Version::MAX.0] {
        let document = of(minor);
        walk(&document, &document);
    }
}

#[test]
fn a_version_is_told_only_what_it_knows() {
    let old = of(1);
    assert!(old["paths"]["/v1/runbooks"].is_null() && old["components"]["schemas"]["Runbook"].is_null());
    let fields = old["components"]["schemas"]["Node"]["properties"].as_object().expect("fields");
    assert_eq!(fields.len(), 22);
    let new = of(Version::MAX.0);
    let fields = new["components"]["schemas"]["Node"]["properties"].as_object().expect("fields");
    assert_eq!(fields.len(), crate::gates::NodeField::ALL.len());
    assert_eq!(fields["shard"]["x-microversion"], "1.82");
    assert_eq!(new["components"]["schemas"]["NewNode"]["required"], json!(["driver"]));
}

#[test]
fn callers_are_told_how_to_say_who_they_are() {
    let mut about =
        About { base: "http://h", version: Version::MAX, max: Version::MAX, scheme: Scheme::Token };
    let token = document(&about);
    assert_eq!(token["components"]["securitySchemes"]["token"]["name"], "X-Auth-Token");
    assert_eq!(token["paths"]["/v1/lookup"]["get"]["security"], json!([]));
    assert!(token["paths"]["/v1/nodes"]["get"]["responses"]["401"].is_object());
    about.scheme = Scheme::Basic;
    assert_eq!(document(&about)["security"], json!([{"basic": []}]));
}
