//! How an event looks to who follows: a number to resume from, and a line of JSON.

use std::fmt::Write as _;

use ferric_actors::message::Told;
use ferric_machine::Timestamp;
use ferric_schema::events::Event;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::mask;
use crate::views::Iso;

/// An event as the client reads it.
#[derive(Serialize)]
struct View<'a, T> {
    seq: Option<i64>,
    node_uuid: Option<Uuid>,
    at: Iso,
    kind: &'a str,
    severity: &'a str,
    text: &'a str,
    data: T,
}

/// What was committed.
pub(super) fn event(out: &mut String, event: &Event) {
    let data = mask::mask_text(event.data.as_str());
    // what is masked is an object still
    let Ok(data) = serde_json::from_str::<&RawValue>(&data) else { return };
    write(
        out,
        &View {
            seq: Some(event.seq),
            node_uuid: event.node,
            at: Iso(event.at),
            kind: &event.kind,
            severity: &event.severity,
            text: &event.text,
            data,
        },
    );
}

/// What is not stored; it looks as in `/v1/ferric/nodes/{ident}/doing`.
pub(super) fn progress(out: &mut String, told: &Told) {
    let mut data: Map<String, Value> = told.data.clone();
    if let Some(Value::Object(progress)) = data.remove("progress") {
        data.extend(progress);
    }
    for key in ["since", "gives_up_at"] {
        let Some(micros) = data.get(key).and_then(Value::as_i64) else { continue };
        data.insert(key.into(), json!(Iso(Timestamp(micros))));
    }
    let mut data = Value::Object(data);
    mask::mask(&mut data);
    write(
        out,
        &View {
            seq: None,
            node_uuid: told.node,
            at: Iso(told.at),
            kind: &told.kind,
            severity: &told.severity,
            text: &told.text,
            data,
        },
    );
}

/// JSON has no line breaks of its own, so it is one line of data.
fn write<T: Serialize>(out: &mut String, view: &View<'_, T>) {
    if let Some(seq) = view.seq {
        let _ = writeln!(out, "id: {seq}");
    }
    let text = serde_json::to_string(view).expect("an event is JSON");
    let _ = write!(out, "data: {text}\n\n");
}

/// A client was behind.
pub(super) fn lag(out: &mut String, missed: u64, why: &str) {
    let _ = write!(out, "event: lag\ndata: {}\n\n", json!({"missed": missed, "reason": why}));
}

#[cfg(test)]
mod tests {
    use ferric_schema::JsonText;

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn an_event_is_one_line_with_its_number_and_without_secrets() {
        let mut out = String::new();
        let data = JsonText::from(object(&json!({"ipmi_password": "calvin", "left": 1})));
        let (kind, severity, text) = ("step_done".into(), "INFO".into(), "two\nlines".into());
        event(&mut out, &Event { seq: 7, node: None, at: Timestamp(0), kind, severity, text, data });
        assert!(out.starts_with("id: 7\ndata: {\"seq\":7,") && out.ends_with("}\n\n"), "{out}");
        assert_eq!(out.lines().count(), 3);
        assert!(!out.contains("calvin") && out.contains("\"left\":1"), "{out}");
    }

    #[test]
    fn progress_looks_as_what_a_node_is_doing() {
        let data = json!({"since": 1_000_000, "progress": {"doing": "writing image", "bytes_done": 5}});
        let mut out = String::new();
        let told = Told {
            node: None,
            at: Timestamp(0),
            kind: "progress".into(),
            severity: "INFO".into(),
            text: "step".into(),
            data: object(&data),
        };
        progress(&mut out, &told);
        assert!(out.starts_with("data: "), "progress has no number to resume from: {out}");
        assert!(out.contains(r#""since":"1970-01-01T00:00:01+00:00""#), "{out}");
        assert!(out.contains(r#""doing":"writing image""#) && !out.contains(r#""progress":{"#), "{out}");
    }
}
