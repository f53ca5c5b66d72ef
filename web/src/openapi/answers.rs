//! What an operation may answer: statuses, headers, bodies (api.md §1).

use serde_json::{Map, Value, json};

use super::{About, Scheme, public, shape};
use crate::gates::Below;
use crate::operations::{Operation, Shape};
use crate::version::Version;

/// The headers that responses refer to.
pub(super) fn headers() -> Value {
    let text = |what: &str| json!({"description": what, "schema": {"type": "string"}});
    json!({
        "MinimumVersion": {"description": "The oldest microversion served.", "schema": {"type": "string", "pattern": "^1\\.[0-9]+$"}},
        "MaximumVersion": {"description": "The newest microversion served.", "schema": {"type": "string", "pattern": "^1\\.[0-9]+$"}},
        "Version": {"description": "The microversion that the request was answered with; absent where no operation was reached.",
                    "schema": {"type": "string", "pattern": "^1\\.[0-9]+$"}},
        "RequestId": {"description": "The id by which the log knows this request.", "schema": {"type": "string", "pattern": "^req-"}},
        "Location": text("Where the thing is, or where its progress can be seen."),
        "RetryAfter": {"description": "After how many seconds to come again.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
        "Allow": text("The methods that the path has."),
        "Authenticate": text("How to say who one is."),
    })
}

/// The headers of every response, and these.
fn with_headers(more: &[(&str, &str)]) -> Value {
    let reference = |name: &str| json!({"$ref": format!("#/components/headers/{name}")});
    let always = [
        ("X-OpenStack-Ironic-API-Minimum-Version", "MinimumVersion"),
        ("X-OpenStack-Ironic-API-Maximum-Version", "MaximumVersion"),
        ("X-OpenStack-Ironic-API-Version", "Version"),
        ("OpenStack-Request-Id", "RequestId"),
        ("X-OpenStack-Request-Id", "RequestId"),
    ];
    let all = always.iter().chain(more);
    Value::Object(all.map(|(header, name)| ((*header).to_owned(), reference(name))).collect())
}

/// The refusals, each under its status.
#[rustfmt::skip]
const REFUSALS: &[(u16, &str)] = &[
    (400, "The request is not understood, or not possible in the state that things are in."),
    (401, "Nobody said who they are, or not rightly."),
    (403, "The caller may not do that, or it is protected."),
    (404, "There is no such thing, or this microversion does not know it."),
    (405, "The path has no such method at this microversion."),
    (406, "Something needs a newer microversion, or the microversion asked for is not served."),
    (409, "Something else is under way, is in the way, or bears that name already."),
    (413, "The body is too large."),
    (500, "The hardware said no, or something is wrong here; the text says which."),
    (501, "This release of Ferric does not have that."),
    (503, "Not now: come again after the time that Retry-After says."),
    (507, "The disk or the database is full: nothing can be written."),
];

/// The refusals as responses that operations refer to.
pub(super) fn responses(_: Version) -> Value {
    let all: Map<String, Value> = REFUSALS
        .iter()
        .map(|(status, what)| {
            let more: &[(&str, &str)] = match status {
                401 => &[("WWW-Authenticate", "Authenticate")],
                405 => &[("Allow", "Allow")],
                503 => &[("Retry-After", "RetryAfter")],
                _ => &[],
            };
            let schema = match status {
                // authentication and limits speak in other forms
                400 => json!({"anyOf": [{"$ref": "#/components/schemas/Error"}, {"$ref": "#/components/schemas/Fault"},
                                        {"$ref": "#/components/schemas/AuthError"}]}),
                401 => json!({"anyOf": [{"$ref": "#/components/schemas/AuthError"}, {"$ref": "#/components/schemas/Error"}]}),
                413 => json!({"$ref": "#/components/schemas/Fault"}),
                _ => json!({"$ref": "#/components/schemas/Error"}),
            };
            let response = json!({
                "description": what, "headers": with_headers(more), "content": {"application/json": {"schema": schema}},
            });
            (format!("E{status}"), response)
        })
        .collect();
    Value::Object(all)
}

/// The refusals that an operation can come to.
fn refusals(row: &Operation, method: &str, about: &About<'_>) -> Vec<u16> {
    let reads = method == "get";
    let mut all = vec![400, 405, 406, 500, 503];
    if about.scheme != Scheme::Nothing && !public(row.path) {
        all.extend([401, 403]);
    }
    let below = match row.below {
        Below::NotFound | Below::Unsupported => 404,
        Below::MethodNotAllowed | Below::NotAcceptable | Below::BadRequest => 405,
    };
    if row.since > 1 {
        all.push(below);
    }
    // an identifier may be unknown; so may a marker, or what a filter names
    if row.path.contains('{') || !row.query.is_empty() || !reads {
        all.push(404);
    }
    if !reads || row.method == crate::operations::Method::ANY {
        all.extend([403, 409, 413, 507]);
    }
    // a filter may be of no use beside another one
    if !row.query.is_empty() {
        all.push(403);
    }
    if row.path.contains("{ident}") {
        all.extend([403, 409]);
    }
    // what reaches hardware may find that its protocol is not there yet
    let part = row.path.strip_prefix("/nodes/{ident}/").and_then(|part| part.split('/').next());
    let ours = row.path.strip_prefix("/v1/ferric/nodes/{ident}/");
    if matches!(part, Some("management" | "states" | "vmedia" | "vendor_passthru"))
        || matches!(ours, Some("sensors" | "sel" | "fru" | "identify"))
    {
        all.push(501);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The responses of an operation.
pub(super) fn of(row: &Operation, method: &str, about: &About<'_>) -> Value {
    let mut all = Map::new();
    for status in refusals(row, method, about) {
        all.insert(status.to_string(), json!({"$ref": format!("#/components/responses/E{status}")}));
    }
    if row.ok < 400 {
        all.insert(row.ok.to_string(), success(row, about));
        // a vendor's method is done at once, or goes on; what it gives may be a file
        if row.method == crate::operations::Method::ANY {
            let mut done = success(row, about);
            done["content"]["application/octet-stream"] = json!({});
            all.insert("200".to_owned(), done);
            let goes_on =
                json!({"description": "Accepted: it goes on by itself.", "headers": with_headers(&[])});
            all.insert("202".to_owned(), goes_on);
        }
    }
    if row.path == "/" {
        all.insert(
            "302".to_owned(),
            json!({"description": "A browser is sent to the dashboard.", "headers": with_headers(&[("Location", "Location")])}),
        );
    }
    Value::Object(all)
}

fn success(row: &Operation, about: &About<'_>) -> Value {
    let description = match row.ok {
        101 => {
            "The connection is a WebSocket from here on: binary frames are the console's bytes, text frames JSON."
        }
        201 => "Created.",
        202 => "Accepted: it goes on by itself.",
        204 => "Done.",
        _ => "As asked.",
    };
    let located =
        matches!(row.takes, Shape::New(_)) || row.path.starts_with("/nodes/{ident}/states/") && row.ok == 202;
    let more: &[(&str, &str)] = if located { &[("Location", "Location")] } else { &[] };
    let mut response = json!({"description": description, "headers": with_headers(more)});
    let media = match row.gives {
        Shape::Named("Metrics") => "application/openmetrics-text",
        Shape::Named("EventStream") => "text/event-stream",
        Shape::Named("Page") => "text/html",
        Shape::Nothing
        | Shape::Item(_)
        | Shape::List(_)
        | Shape::New(_)
        | Shape::Patch(_)
        | Shape::Named(_)
        | Shape::Free => "application/json",
    };
    if let Some(schema) = shape(row.gives, about.version, false) {
        response["content"] = json!({media: {"schema": schema}});
    }
    response
}
