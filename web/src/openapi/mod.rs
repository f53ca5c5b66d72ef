//! The OpenAPI 3.1 document, made from the tables that run: operations ([`crate::operations`]), fields and arguments
//! ([`crate::gates`]). What the tables cannot say, the shapes of a few bodies, stands in `shapes`.
//!
//! It describes one microversion, the newest unless asked otherwise: what came later is absent from it, so that answers
//! can be held against it strictly.

mod answers;
mod fields;
mod hardware;
mod health;
mod shapes;
mod values;
mod words;

use serde_json::{Map, Value, json};

use crate::gates::Arg;
use crate::operations::{Method, Noun, OPERATIONS, Operation, Shape};
use crate::version::{self, Version};

/// How callers say who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Nobody is asked.
    Nothing,
    /// A name and a password.
    Basic,
    /// A token of Keystone's.
    Token,
}

/// What the document is made for.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// `http://host:port`.
    pub base: &'a str,
    /// The microversion that is described.
    pub version: Version,
    /// The newest one served.
    pub max: Version,
    /// How callers say who they are.
    pub scheme: Scheme,
}

/// The whole document.
#[must_use]
pub fn document(about: &About<'_>) -> Value {
    let version = about.version;
    let mut paths = Map::new();
    for row in OPERATIONS.iter().filter(|row| version.has(row.since)) {
        let item = paths.entry(public_path(row.path)).or_insert_with(|| json!({}));
        for method in methods(row.method) {
            item[*method] = operation(row, method, about);
        }
    }
    let mut components = json!({
        "schemas": schemas(version),
        "parameters": {"Microversion": microversion()},
        "headers": answers::headers(),
        "responses": answers::responses(version),
    });
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ferric",
            "summary": "Provisions bare metal machines; speaks the API of OpenStack Ironic.",
            "description": INTRODUCTION.trim(),
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "x-microversion": version.to_string(),
            "x-microversion-range": [Version::MIN.to_string(), about.max.to_string()],
        },
        "servers": [{"url": about.base}],
        "tags": tags(version),
        "paths": paths,
    });
    if let Some((name, scheme)) = security(about.scheme) {
        components["securitySchemes"] = json!({name: scheme});
        document["security"] = json!([{name: []}]);
    }
    document["components"] = components;
    document
}

const INTRODUCTION: &str = "
Everything below `/v1` also answers without it. The header `X-OpenStack-Ironic-API-Version` asks for a microversion; \
without it, a request gets 1.1, which knows little. This document describes one microversion: \
`/openapi.json?microversion=1.31` describes another. `x-microversion` says what brought an operation, a field or an \
argument.

Errors carry JSON in a string, as Ironic's do: `error_message` holds an object with `faultstring`, or with `title` and \
`description` where no operation was reached. Their text says what to do next.
";

/// A path as clients should write it.
fn public_path(path: &str) -> String {
    let ours = path == "/"
        || path.starts_with("/v1")
        || !crate::gates::RESOURCES.iter().any(|(name, _)| within(path, name));
    if ours { path.to_owned() } else { format!("/v1{path}") }
}

/// Whether the path is of that resource.
fn within(path: &str, resource: &str) -> bool {
    path.trim_start_matches('/').split('/').next() == Some(resource)
}

fn methods(method: Method) -> &'static [&'static str] {
    match method {
        Method::GET => &["get"],
        Method::POST => &["post"],
        Method::PUT => &["put"],
        Method::PATCH => &["patch"],
        Method::DELETE => &["delete"],
        Method::ANY => &["get", "post", "put", "patch", "delete"],
    }
}

/// The first word of a path: the group in which an operation is shown.
fn tag(path: &str) -> &str {
    let path = path.strip_prefix("/v1/").unwrap_or(path).trim_start_matches('/');
    match path.split('/').next() {
        None | Some("" | "v1" | "healthz" | "readyz" | "metrics" | "openapi.json" | "docs") => "about",
        Some(first) => first,
    }
}

fn tags(version: Version) -> Vec<Value> {
    let mut names: Vec<&str> = Vec::new();
    for row in OPERATIONS.iter().filter(|row| version.has(row.since)) {
        if !names.contains(&tag(row.path)) {
            names.push(tag(row.path));
        }
    }
    names.iter().map(|name| json!({"name": name})).collect()
}

/// A name for programs, such as `put_nodes_ident_states_power`.
fn operation_id(row: &Operation, method: &str) -> String {
    let words: Vec<&str> = row
        .path
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .collect();
    format!("{method}_{}", if words.is_empty() { "root".to_owned() } else { words.join("_") })
}

fn operation(row: &Operation, method: &str, about: &About<'_>) -> Value {
    let version = about.version;
    let mut parameters: Vec<Value> = path_parameters(row.path).collect();
    let query = row.query.iter().filter(|arg| version.has(arg.since));
    parameters.extend(query.map(query_parameter));
    parameters.push(json!({"$ref": "#/components/parameters/Microversion"}));
    let mut operation = json!({
        "operationId": operation_id(row, method),
        "summary": row.what,
        "tags": [tag(row.path)],
        "parameters": parameters,
        "responses": answers::of(row, method, about),
    });
    if row.since > 1 {
        operation["description"] = json!(format!("Since 1.{}.", row.since));
        operation["x-microversion"] = json!(format!("1.{}", row.since));
    }
    if let Some(schema) = shape(row.takes, version, true)
        && method != "get"
    {
        let needed = matches!(row.takes, Shape::New(_) | Shape::Patch(_));
        operation["requestBody"] = json!({"required": needed || shapes::needed(row.takes), "content": {"application/json": {"schema": schema}}});
    }
    if about.scheme != Scheme::Nothing && public(row.path) {
        operation["security"] = json!([]);
    }
    operation
}

/// What nobody needs to say who they are for.
fn public(path: &str) -> bool {
    let open = [
        "/",
        "/v1",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/lookup",
        "/continue_inspection",
    ];
    open.contains(&path) || path.starts_with("/heartbeat/")
}

fn path_parameters(path: &str) -> impl Iterator<Item = Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| {
        // a pattern such as {tail:.*} is actix's own
        let name = name.split(':').next().unwrap_or(name);
        json!({
            "name": name, "in": "path", "required": true, "description": words::of_path(path, name),
            "schema": {"type": "string", "minLength": 1},
        })
    })
}

fn query_parameter(arg: &Arg) -> Value {
    let mut parameter = json!({
        "name": arg.name, "in": "query", "required": false, "schema": values::of_argument(arg.name),
    });
    let words = words::of_argument(arg.name);
    let since = if arg.since > 1 { format!("Since 1.{}.", arg.since) } else { String::new() };
    let text =
        [words, since.as_str()].iter().filter(|text| !text.is_empty()).copied().collect::<Vec<_>>().join(" ");
    if !text.is_empty() {
        parameter["description"] = json!(text);
    }
    if arg.since > 1 {
        parameter["x-microversion"] = json!(format!("1.{}", arg.since));
    }
    parameter
}

fn microversion() -> Value {
    json!({
        "name": "X-OpenStack-Ironic-API-Version",
        "in": "header",
        "required": false,
        "description": format!(
            "The microversion that the request is made with: {} to {}, or `latest`; 1.1 when there is none. \
             `{}: baremetal 1.N` says the same and is looked at first.",
            Version::MIN, Version::MAX, version::OPENSTACK_HEADER
        ),
        "schema": {"type": "string", "pattern": "^(latest|1\\.[1-9][0-9]{0,2})$", "examples": ["latest", "1.31"]},
    })
}

fn security(scheme: Scheme) -> Option<(&'static str, Value)> {
    match scheme {
        Scheme::Nothing => None,
        Scheme::Basic => Some(("basic", json!({"type": "http", "scheme": "basic"}))),
        Scheme::Token => Some((
            "token",
            json!({"type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "A token of Keystone's."}),
        )),
    }
}

/// The schema of a body; `None` when there is none. `taken`: the client sends it.
fn shape(shape: Shape, version: Version, taken: bool) -> Option<Value> {
    let named = |name: &str| Some(json!({"$ref": format!("#/components/schemas/{name}")}));
    match shape {
        Shape::Nothing => None,
        Shape::Item(noun) => named(noun_name(noun)),
        Shape::New(noun) => named(&format!("New{}", noun_name(noun))),
        Shape::Patch(_) => named("Patch"),
        Shape::List(noun) => named(&format!("{}List", noun_name(noun))),
        Shape::Named(name) => named(name),
        Shape::Free if taken => Some(json!({"type": "object"})),
        Shape::Free => Some(json!({"description": format!("As the method says; {version}.")})),
    }
}

/// The name of a noun's schema.
fn noun_name(noun: Noun) -> &'static str {
    match noun {
        Noun::Node => "Node",
        Noun::Port => "Port",
        Noun::Chassis => "Chassis",
        Noun::Portgroup => "Portgroup",
        Noun::Connector => "VolumeConnector",
        Noun::Target => "VolumeTarget",
        Noun::Allocation => "Allocation",
        Noun::Template => "DeployTemplate",
        Noun::Runbook => "Runbook",
        Noun::Rule => "InspectionRule",
    }
}

/// Every schema that an operation of the version speaks of.
fn schemas(version: Version) -> Value {
    let mut all = Map::new();
    for row in OPERATIONS.iter().filter(|row| version.has(row.since)) {
        for shape in [row.takes, row.gives] {
            match shape {
                Shape::Nothing | Shape::Free => {}
                Shape::Item(noun) => put_item(&mut all, noun, version),
                Shape::New(noun) => {
                    all.insert(format!("New{}", noun_name(noun)), fields::new(noun, version));
                }
                Shape::List(noun) => {
                    put_item(&mut all, noun, version);
                    all.insert(format!("{}List", noun_name(noun)), fields::list(noun));
                }
                Shape::Patch(_) => {
                    all.insert("Patch".to_owned(), shapes::patch());
                }
                Shape::Named(name) => {
                    all.insert(name.to_owned(), shapes::named(name, version).unwrap_or_else(|| json!({})));
                }
            }
        }
    }
    for (name, schema) in shapes::shared(version) {
        all.insert(name.to_owned(), schema);
    }
    Value::Object(all)
}

fn put_item(all: &mut Map<String, Value>, noun: Noun, version: Version) {
    all.entry(noun_name(noun)).or_insert_with(|| fields::item(noun, version));
}

#[cfg(test)]
mod tests;
